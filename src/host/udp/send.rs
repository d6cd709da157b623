//! What the engine sends: 64 KiB of room per destination, in which datagrams of equal size lie end to end and leave in
//! one segmented send (GSO). Flushed at the end of each input: nothing ever waits for a batch to fill.
//!
//! A *run* is what one send can carry: datagrams of one size, of which only the last may be shorter. A longer
//! datagram, or any after a shorter one, sends the run and starts the next behind it, so the order per destination is
//! kept and nothing is copied. A datagram for each of several destinations leaves in one call (`many`). Where the system or a card refuses segmentation (`quinn-udp` lowers `max_segments` when
//! it sees that), the same bytes go out one by one. A full socket queue drops what is left of the input, counted.

use super::many::{MOST, Parcel};
use crate::engine::sink::WanSink;
use crate::model::addr::{Endpoint, Via};
use crate::model::limits::{PEERS, SEGMENTS};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;

/// Room per destination. The largest UDP payload over IPv4 is 65,507; one segmented send must stay below that too.
const ROOM: usize = 65_507;
/// Destinations of one input that have room of their own; more of them send early and start over.
const BATCHES: usize = PEERS + 1;
/// Failed destinations reported per input.
const FAILED: usize = 16;
/// Full queues remembered within an input.
const FULL: usize = 8;

/// A socket, or a test's idea of one.
pub trait RawSend {
    /// How many datagrams one call may carry towards `to`; 1 when segmentation is not to be used.
    fn max_segments(&self, to: Endpoint) -> usize;

    /// Sends `bytes` as datagrams of `segment` bytes (the last may be shorter), or as one when `segment` is `None`.
    ///
    /// # Errors
    /// `WouldBlock` when the queue is full, and whatever the system says.
    fn try_send(&mut self, to: Endpoint, bytes: &[u8], segment: Option<usize>) -> io::Result<()>;

    /// Sends one datagram that must not be cut into fragments on its way.
    ///
    /// # Errors
    /// As `try_send`; also when it is larger than the first link carries.
    fn try_send_whole(&mut self, to: Endpoint, bytes: &[u8]) -> io::Result<()>;

    /// Sends one datagram to each of these, which leave the same way as `first`, the first of them. How many were sent: at
    /// least one, in order.
    ///
    /// # Errors
    /// As `try_send`, for the first of them.
    fn try_send_each(&mut self, first: Endpoint, parcels: &[Parcel<'_>]) -> io::Result<usize> {
        let bytes = parcels.first().map_or(&[][..], |(_, bytes)| bytes);
        self.try_send(first, bytes, None).map(|()| 1)
    }
}

/// What happened to datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendCounts {
    /// Calls that sent something.
    pub calls: u64,
    /// Datagrams given to the system.
    pub sent: u64,
    /// Datagrams dropped because the socket's queue was full.
    pub full: u64,
    /// Datagrams larger than the line carries.
    pub too_big: u64,
    /// Datagrams that the system refused for another reason.
    pub failed: u64,
}

#[derive(Debug, Clone)]
struct Batch {
    to: Endpoint,
    /// The run that waits: where its bytes lie, the size of its datagrams, how many there are.
    run: Range<usize>,
    segment: usize,
    count: usize,
    /// A shorter datagram ended the run.
    ended: bool,
}

impl Batch {
    /// Its run is gone.
    const fn leave(&mut self) {
        self.run = self.run.end..self.run.end;
        (self.count, self.ended) = (0, false);
    }
}

/// The send side of the tunnel's sockets.
pub struct SendBatches<S> {
    socket: S,
    memory: Box<[u8]>,
    batches: Vec<Batch>,
    reserved: Option<(usize, usize)>,
    outcome: Outcome,
}

/// What happened in this input and so far.
#[derive(Debug)]
struct Outcome {
    /// Queues found full in this input: which way, and whether IPv6.
    full: Vec<(Via, bool)>,
    failed: Vec<SocketAddr>,
    counts: SendCounts,
}

impl<S: std::fmt::Debug> std::fmt::Debug for SendBatches<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendBatches").field("socket", &self.socket).field("outcome", &self.outcome).finish()
    }
}

impl<S: RawSend> SendBatches<S> {
    /// Batches for this socket; all memory is made here.
    #[must_use]
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            memory: vec![0; ROOM * BATCHES].into_boxed_slice(),
            batches: Vec::with_capacity(BATCHES),
            reserved: None,
            outcome: Outcome {
                full: Vec::with_capacity(FULL),
                failed: Vec::with_capacity(FAILED),
                counts: SendCounts::default(),
            },
        }
    }

    /// Sends everything that waits. Called at the end of each input.
    pub fn flush(&mut self) {
        self.flush_waiting();
        self.outcome.full.clear();
    }

    /// A destination that could not be reached in the last input.
    pub fn pop_failed(&mut self) -> Option<SocketAddr> {
        self.outcome.failed.pop()
    }

    /// What happened so far.
    #[must_use]
    pub const fn counts(&self) -> SendCounts {
        self.outcome.counts
    }

    fn flush_waiting(&mut self) {
        self.reserved = None;
        self.flush_singles();
        for at in 0..self.batches.len() {
            self.flush_run(at);
        }
        self.batches.clear();
    }

    /// What is said to everybody: one datagram for each of several destinations, in one call for each way out.
    fn flush_singles(&mut self) {
        if self.batches.len() < 2 {
            return;
        }
        let mut from = 0;
        while let Some(first) = (from..self.batches.len()).find(|at| self.is_single(*at)) {
            let way = self.batches.get(first).map(|b| (b.to.via, b.to.to.is_ipv6()));
            let Self { socket, memory, batches, outcome, .. } = self;
            let Some(to) = batches.get(first).map(|b| b.to) else { return };
            let nowhere: Parcel<'_> = (to.to, &[]);
            let (mut parcels, mut places) = ([nowhere; MOST], [first; MOST]);
            let same = |b: &Batch| b.count == 1 && Some((b.to.via, b.to.to.is_ipv6())) == way;
            let all = batches.iter().enumerate().skip(first).filter(|(_, b)| same(b)).take(MOST);
            let mut many = 0;
            for (((at, batch), parcel), place) in all.zip(&mut parcels).zip(&mut places) {
                let bytes = memory.get(at * ROOM + batch.run.start..at * ROOM + batch.run.end);
                (*parcel, *place) = ((batch.to.to, bytes.unwrap_or_default()), at);
                many += 1;
            }
            if many < 2 {
                from = first + 1;
                continue;
            }
            let sent = socket.try_send_each(to, parcels.get(..many).unwrap_or_default());
            let done = outcome.note_each(sent, to, many);
            for at in places.iter().take(done) {
                batches.get_mut(*at).into_iter().for_each(Batch::leave);
            }
        }
    }

    fn is_single(&self, at: usize) -> bool {
        self.batches.get(at).is_some_and(|batch| batch.count == 1)
    }

    /// The batch of a destination; makes one, and room for one when all are taken.
    fn batch_of(&mut self, to: Endpoint) -> usize {
        // The last one first: an input mostly writes to one peer.
        if let Some(at) = self.batches.iter().rposition(|b| b.to == to) {
            return at;
        }
        if self.batches.len() == BATCHES {
            self.flush_waiting();
        }
        self.batches.push(Batch { to, run: 0..0, segment: 0, count: 0, ended: false });
        self.batches.len() - 1
    }

    fn flush_run(&mut self, at: usize) {
        let Some(batch) = self.batches.get_mut(at) else { return };
        let Batch { to, segment, .. } = *batch;
        let run = batch.run.clone();
        batch.leave();
        let mut rest = self.memory.get(at * ROOM + run.start..at * ROOM + run.end).unwrap_or_default();
        let mut most = SEGMENTS;
        while !rest.is_empty() {
            let many = self.socket.max_segments(to).clamp(1, most);
            let (now, later) = rest.split_at(rest.len().min(segment * many));
            let datagrams = now.len().div_ceil(segment.max(1));
            match self.socket.try_send(to, now, (datagrams > 1).then_some(segment)) {
                Ok(()) => {
                    self.outcome.counts.calls += 1;
                    self.outcome.counts.sent += datagrams as u64;
                }
                // Segmentation was just found not to work: the same bytes again, one by one.
                Err(_) if datagrams > 1 && self.socket.max_segments(to) < many => continue,
                // Datagrams that the line takes only in fragments cannot be segments: one by one they pass.
                Err(e) if datagrams > 1 && is_too_large(&e) => {
                    most = 1;
                    continue;
                }
                Err(e) => {
                    let left = if e.kind() == io::ErrorKind::WouldBlock { rest } else { now };
                    self.outcome.note(&e, to, left.len().div_ceil(segment.max(1)) as u64);
                    if e.kind() == io::ErrorKind::WouldBlock {
                        return;
                    }
                }
            }
            rest = later;
        }
    }
}

impl Outcome {
    fn is_full(&self, to: Endpoint) -> bool {
        self.full.contains(&(to.via, to.to.is_ipv6()))
    }

    /// What became of `many` datagrams that left together, the first of them to `to`: how many are done with.
    fn note_each(&mut self, sent: io::Result<usize>, to: Endpoint, many: usize) -> usize {
        match sent {
            Ok(sent) => {
                self.counts.calls += 1;
                self.counts.sent += sent as u64;
                sent.max(1)
            }
            Err(e) => {
                let all = if e.kind() == io::ErrorKind::WouldBlock { many } else { 1 };
                self.note(&e, to, all as u64);
                all
            }
        }
    }

    fn note(&mut self, error: &io::Error, to: Endpoint, datagrams: u64) {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.counts.full += datagrams;
            // Beyond that, each datagram finds out anew.
            if self.full.len() < FULL && !self.is_full(to) {
                self.full.push((to.via, to.to.is_ipv6()));
            }
            return;
        }
        if quinn_udp::is_msg_size_err(error) {
            self.counts.too_big += datagrams;
            return;
        }
        self.counts.failed += datagrams;
        tracing::trace!(to = %to.to, via = ?to.via, %error, "send failed");
        if is_unreachable(error) && self.failed.len() < FAILED && !self.failed.contains(&to.to) {
            self.failed.push(to.to);
        }
    }
}

impl<S: RawSend> WanSink for SendBatches<S> {
    fn reserve(&mut self, to: Endpoint, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        if len > ROOM || self.outcome.is_full(to) {
            return None;
        }
        let at = self.batch_of(to);
        let batch = self.batches.get(at)?;
        if batch.ended || batch.count >= SEGMENTS || batch.run.end + len > ROOM {
            self.flush_run(at);
        }
        if self.outcome.is_full(to) {
            return None;
        }
        let batch = self.batches.get_mut(at)?;
        if batch.run.end + len > ROOM {
            batch.run = 0..0;
        }
        let start = at * ROOM + batch.run.end;
        self.reserved = Some((at, len));
        self.memory.get_mut(start..start + len)
    }

    fn commit(&mut self, len: usize) {
        let Some((at, room)) = self.reserved.take() else { return };
        debug_assert!(len <= room, "more was written than was reserved");
        if len == 0 || len > room {
            return;
        }
        if self.batches.get(at).is_some_and(|b| b.count > 0 && len > b.segment) {
            self.flush_run(at);
        }
        let Some(batch) = self.batches.get_mut(at) else { return };
        if batch.count == 0 {
            batch.segment = len;
        }
        batch.run.end += len;
        batch.count += 1;
        batch.ended = len < batch.segment;
    }

    fn commit_whole(&mut self, len: usize) {
        let Some((at, room)) = self.reserved.take() else { return };
        debug_assert!(len <= room, "more was written than was reserved");
        if len == 0 || len > room {
            return;
        }
        // What waits for this destination first: the order is kept. It leaves the run empty, right before the room.
        self.flush_run(at);
        let Some(batch) = self.batches.get_mut(at) else { return };
        let (to, start) = (batch.to, at * ROOM + batch.run.end);
        batch.run = batch.run.end + len..batch.run.end + len;
        let datagram = self.memory.get(start..start + len).unwrap_or_default();
        match self.socket.try_send_whole(to, datagram) {
            Ok(()) => {
                self.outcome.counts.calls += 1;
                self.outcome.counts.sent += 1;
            }
            Err(e) => self.outcome.note(&e, to, 1),
        }
    }
}

/// Whether the system refused segments larger than the line carries (Linux says "invalid").
fn is_too_large(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput || quinn_udp::is_msg_size_err(error)
}

/// Whether the system says that there is no way to the destination now (as opposed to: no room, or refused).
fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::NetworkUnreachable
            | K::HostUnreachable
            | K::NetworkDown
            | K::AddrNotAvailable
            | K::PermissionDenied
    )
}

#[cfg(test)]
mod tests;
