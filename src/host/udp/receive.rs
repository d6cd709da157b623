//! Reading the sockets: what comes is put into 32 buffers, each of which may hold up to 64 datagrams that the system merged (GRO),
//! and given out in the order in which it came. The buffers are one piece of memory, made once; pages that no traffic ever needed
//! stay unmapped.
//!
//! A socket's queue is first in, first out, so a packet of a game would wait behind half a megabyte of a world that is being downloaded. So
//! the queue is emptied into the buffers at each turn, as far as they go, and small datagrams that came alone or as the end of a run of
//! large ones (which is how a sender with both to send sends them) are offered first ([`Receiver::next_early`]). Whoever opens one may
//! find that it belongs to the transfer; its turn is told again ([`Arrival::Early`]) so that the order within a connection can be kept.

use super::Socket;
use crate::buf::batch::Datagrams;
use crate::model::addr::Via;
use crate::model::limits::{DATAGRAMS, EARLY, GRO_BYTES};
use quinn_udp::{RecvMeta, UdpSockRef};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};

/// A datagram buffer where the system does not merge: above any datagram of ours, and a larger one is no loss.
const PLAIN_BYTES: usize = 2048;
/// Buffers of a read when the system merges.
const MERGED: usize = 8;
/// Buffers of a read when datagrams come one at a time: the second one shows that there is no other.
const FEW: usize = 2;
/// Errors that say something about an earlier send, not about this read (Windows reports them here).
const STALE_ERRORS: usize = 16;
/// When so many datagrams wait, the socket is left alone: enough for a millisecond.
const WAITING: usize = 448;
/// Reads of one call: more than fill every buffer, and an end to datagrams that fill none.
const READS: usize = DATAGRAMS;
/// No datagram is early by more than this: those in front of it are opened later, and must still be within the window of
/// their session (boringtun's is 1,024 wide). The other half is for those that the way or a full queue lost, which are counted there
/// and not here, and for what the network puts into another order.
const WINDOW: usize = 508;
/// A datagram of a game, and not of a transfer, has at most so many bytes,
const SMALL: usize = 512;
/// and is early while at least so many wait. What one game sends in one breath stays in its order:
const BULK: usize = 16 * 1024;
/// a small end is only taken off a run of at least so many.
const RUN: usize = BULK / 2;

/// The piece of a buffer that is a small end of larger datagrams has this much more than the buffer's number.
const TAIL: u8 = 32;
const _: () = assert!(1_u64 << TAIL == 1 << DATAGRAMS);

/// A piece of a buffer with something in it.
#[derive(Debug, Clone, Copy)]
struct Filled {
    via: Via,
    from: SocketAddr,
    start: usize,
    len: usize,
    stride: usize,
    /// Nothing behind it is in the same buffer.
    last: bool,
    early: bool,
    /// It was given out early, and what comes of it may wait for its turn.
    waits: bool,
}

impl Filled {
    const NOTHING: Self = Self {
        via: Via::Main,
        from: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        start: 0,
        len: 0,
        stride: 0,
        last: true,
        early: false,
        waits: false,
    };

    const fn datagrams(&self) -> usize {
        self.len.div_ceil(if self.stride == 0 { 1 } else { self.stride })
    }

    fn show<'a>(&self, buffer: &'a mut [u8]) -> Datagrams<'a> {
        let bytes = buffer.get_mut(self.start..self.start + self.len).unwrap_or_default();
        Datagrams { via: self.via, from: self.from, bytes, stride: self.stride }
    }

    /// The length of a small datagram at the end of larger ones, or 0.
    const fn small_end(&self) -> usize {
        let rest = if self.stride == 0 { 0 } else { self.len % self.stride };
        if self.stride <= SMALL || self.len < self.stride || rest > SMALL { 0 } else { rest }
    }

    /// Its datagrams, and the last of them by itself if that is a small one behind so many that they are a transfer.
    const fn split(self) -> (Self, Option<Self>) {
        let rest = self.small_end();
        let start = self.len - rest;
        if rest == 0 || start < RUN {
            return (self, None);
        }
        (Self { len: start, last: false, ..self }, Some(Self { start, len: rest, stride: rest, ..self }))
    }

    fn is_of(&self, other: &Self) -> bool {
        (self.via, self.from) == (other.via, other.from)
    }
}

/// Whose small datagrams wait for their turn, because they came merged from many: later ones of the same sender, which may be
/// the same game's, do not pass them.
#[derive(Default)]
struct Behind {
    senders: [Option<(Via, SocketAddr)>; 4],
    /// There are more of them.
    everybody: bool,
}

impl Behind {
    fn contains(&self, filled: &Filled) -> bool {
        self.everybody || self.senders.contains(&Some((filled.via, filled.from)))
    }

    fn add(&mut self, filled: &Filled) {
        if self.contains(filled) {
            return;
        }
        match self.senders.iter_mut().find(|sender| sender.is_none()) {
            Some(free) => *free = Some((filled.via, filled.from)),
            None => self.everybody = true,
        }
    }
}

/// What came next.
#[derive(Debug)]
pub enum Arrival<'a> {
    /// Datagrams.
    Datagrams(Datagrams<'a>),
    /// It is the turn of the one that `next_early` gave out with this number.
    Early(u8),
}

/// What was read and not yet given out.
pub struct Receiver {
    memory: Box<[u8]>,
    each: usize,
    metas: [RecvMeta; DATAGRAMS],
    /// By buffer, then the tails by buffer.
    filled: [Filled; 2 * DATAGRAMS],
    /// The places of `filled` with something in them, in the order in which it came.
    order: VecDeque<u8>,
    /// The buffers with nothing in them, a bit each.
    free: u32,
    /// What was given out last: free once the next one is wanted.
    out: u32,
    /// Datagrams and bytes that wait.
    waiting: (usize, usize),
    /// How many buffers the next read is given, by what the last one brought.
    many: usize,
    errors: u64,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({} of {} buffers of {} bytes wait)", self.order.len(), DATAGRAMS, self.each)
    }
}

impl Receiver {
    /// Buffers that fit every one of these sockets.
    #[must_use]
    pub fn new<'a>(sockets: impl IntoIterator<Item = &'a Socket>) -> Self {
        Self::with(sockets.into_iter().any(|s| s.state.gro_segments() > 1))
    }

    fn with(merges: bool) -> Self {
        let each = if merges { GRO_BYTES } else { PLAIN_BYTES };
        Self {
            memory: vec![0; each * DATAGRAMS].into_boxed_slice(),
            each,
            metas: [RecvMeta::default(); DATAGRAMS],
            filled: [Filled::NOTHING; 2 * DATAGRAMS],
            order: VecDeque::with_capacity(2 * DATAGRAMS),
            free: u32::MAX,
            out: 0,
            waiting: (0, 0),
            many: DATAGRAMS,
            errors: 0,
        }
    }

    /// Reads until the socket is empty or enough waits. True when there may be more.
    pub fn read(&mut self, socket: &Socket) -> bool {
        self.read_at_most(READS, socket)
    }

    fn read_at_most(&mut self, reads: usize, socket: &Socket) -> bool {
        self.free |= std::mem::take(&mut self.out);
        for _ in 0..reads {
            let free = self.free.count_ones() as usize;
            if free == 0 || self.waiting.0 >= WAITING {
                return true;
            }
            let read = socket.io.try_read(|| match self.many.min(free) {
                DATAGRAMS => self.receive::<DATAGRAMS>(socket),
                MERGED.. => self.receive::<MERGED>(socket),
                FEW.. => self.receive::<FEW>(socket),
                _ => self.receive::<1>(socket),
            });
            if read.is_err() {
                return false;
            }
        }
        true
    }

    fn receive<const MANY: usize>(&mut self, socket: &Socket) -> io::Result<()> {
        for _ in 0..STALE_ERRORS {
            let Self { memory, each, metas, free, .. } = self;
            let mut rest = memory.chunks_exact_mut(*each).zip(0u8..).filter(|(_, at)| *free >> at & 1 == 1);
            let mut places = [0u8; MANY];
            let mut place = places.iter_mut();
            let mut buffers: [IoSliceMut<'_>; MANY] = std::array::from_fn(|_| {
                let (buffer, at) = rest.next().unwrap_or_default();
                place.next().into_iter().for_each(|place| *place = at);
                IoSliceMut::new(buffer)
            });
            match socket.state.recv(UdpSockRef::from(&socket.io), &mut buffers, metas) {
                Ok(n) => {
                    self.note(places.get(..n).unwrap_or_default(), socket.via);
                    return if saw_the_end(n, MANY) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) };
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                Err(_) => self.errors += 1,
            }
        }
        // Nothing but errors: wait for the next wake-up rather than spin on them.
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// These buffers were filled, as `metas` says.
    fn note(&mut self, places: &[u8], via: Via) {
        let mut merged = false;
        for (at, meta) in places.iter().zip(&self.metas) {
            let stride = if meta.stride == 0 { meta.len } else { meta.stride };
            merged |= stride < meta.len;
            // An empty datagram says nothing.
            if meta.len == 0 {
                continue;
            }
            let filled = Filled { via, from: meta.addr, len: meta.len, stride, ..Filled::NOTHING };
            self.free &= !(1 << at);
            self.waiting.0 += filled.datagrams();
            self.waiting.1 += filled.len;
            let (filled, tail) = filled.split();
            for (at, filled) in std::iter::once((*at, filled)).chain(tail.map(|tail| (*at + TAIL, tail))) {
                if let Some(place) = self.filled.get_mut(usize::from(at)) {
                    *place = filled;
                    self.order.push_back(at);
                }
            }
        }
        self.many = match (merged, places.len()) {
            (true, _) => MERGED,
            (false, 0 | 1) => FEW,
            (false, _) => DATAGRAMS,
        };
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether so much waits that small datagrams are given out first.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.waiting.1 >= BULK
    }

    /// Small datagrams that came alone, nearly so, or as the end of a transfer's, while much waits. Each is given out once. Where others
    /// of the same sender are in front of them there is a number for their place; its turn is told by `next_arrival`. Between two ways
    /// to the same peer there is no order, as in the network.
    pub fn next_early(&mut self) -> Option<(Option<u8>, Datagrams<'_>)> {
        if !self.is_behind() {
            return None;
        }
        let (mut many, mut behind) = (0, Behind::default());
        let found = self.order.iter().copied().find(|at| {
            let Some(filled) = self.filled.get_mut(usize::from(*at)) else { return false };
            let in_front = many;
            many += filled.datagrams();
            if filled.early {
                return false;
            }
            if filled.stride > SMALL {
                // What ends it is not to be passed either.
                if filled.small_end() > 0 {
                    behind.add(filled);
                }
                return false;
            }
            // Those with little in front of them too, or the ones behind would pass them.
            filled.early = in_front <= WINDOW && filled.datagrams() <= EARLY && !behind.contains(filled);
            if !filled.early {
                behind.add(filled);
            }
            filled.early
        })?;
        let Self { filled, memory, each, order, .. } = self;
        let early = filled.get(usize::from(found))?;
        let mut in_front =
            order.iter().take_while(|at| **at != found).filter_map(|at| filled.get(usize::from(*at)));
        let waits = in_front.any(|other| other.is_of(early) && (!other.early || other.waits));
        let early = filled.get_mut(usize::from(found))?;
        early.waits = waits;
        let buffer = memory.chunks_exact_mut(*each).nth(usize::from(found % TAIL))?;
        Some((waits.then_some(found), early.show(buffer)))
    }

    /// What came next. The datagrams lie end to end and are never split up or copied.
    pub fn next_arrival(&mut self) -> Option<Arrival<'_>> {
        self.free |= std::mem::take(&mut self.out);
        let at = self.order.pop_front()?;
        let Self { filled, memory, each, waiting, .. } = self;
        let filled = filled.get(usize::from(at))?;
        self.out = u32::from(filled.last) << (at % TAIL);
        *waiting = (waiting.0.saturating_sub(filled.datagrams()), waiting.1.saturating_sub(filled.len));
        if filled.early {
            return Some(Arrival::Early(at));
        }
        let buffer = memory.chunks_exact_mut(*each).nth(usize::from(at % TAIL))?;
        Some(Arrival::Datagrams(filled.show(buffer)))
    }

    /// Reads that ended in an error.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        self.errors
    }
}

/// Linux reads a batch until the queue is empty, so a batch that is not full has seen the end. Telling the runtime so
/// saves the call that would only say "nothing there"; anything that arrives later raises a new edge. Other systems
/// read one buffer a call and learn nothing from that.
const fn saw_the_end(n: usize, many: usize) -> bool {
    cfg!(target_os = "linux") && n < many
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if a read had brought these: the length of the whole, and of each datagram.
    fn came(receiver: &mut Receiver, sizes: &[(usize, usize)]) {
        let free: Vec<u8> = (0..32).filter(|at| receiver.free >> at & 1 == 1).take(sizes.len()).collect();
        assert_eq!(free.len(), sizes.len(), "no room");
        for ((len, stride), meta) in sizes.iter().zip(&mut receiver.metas) {
            (meta.len, meta.stride) = (*len, *stride);
        }
        receiver.note(&free, Via::Main);
    }

    fn lengths(receiver: &mut Receiver) -> Vec<Result<usize, u8>> {
        std::iter::from_fn(|| {
            Some(match receiver.next_arrival()? {
                Arrival::Datagrams(d) => Ok(d.bytes.len()),
                Arrival::Early(place) => Err(place),
            })
        })
        .collect()
    }

    fn early(receiver: &mut Receiver) -> Vec<(Option<u8>, usize)> {
        std::iter::from_fn(|| receiver.next_early().map(|(at, d)| (at, d.bytes.len()))).collect()
    }

    #[test]
    fn small_ones_behind_a_transfer_come_first_and_their_turn_is_told() {
        let mut receiver = Receiver::with(true);
        came(
            &mut receiver,
            &[(100, 100), (14_000, 1_400), (90, 90), (14_000, 1_400), (80, 80), (1_400, 1_400)],
        );
        came(&mut receiver, &[(70, 70), (130, 65)]);
        // All small ones, in their order; nothing is in front of the first.
        let expected = [(None, 100), (Some(2), 90), (Some(4), 80), (Some(6), 70), (Some(7), 130)];
        assert_eq!(early(&mut receiver), expected);
        let all = lengths(&mut receiver);
        let expected = [Err(0), Ok(14_000), Err(2), Ok(14_000), Err(4), Ok(1_400), Err(6), Err(7)];
        assert_eq!(all, expected);
        assert!(receiver.is_empty() && !receiver.is_behind() && receiver.waiting == (0, 0));
    }

    #[test]
    fn none_is_so_early_that_those_in_front_of_it_would_be_too_old() {
        let mut receiver = Receiver::with(true);
        let mut sizes = [(64 * 1_000, 1_000); 14];
        // 448 and 513 are in front of them.
        (sizes[7], sizes[9]) = ((99, 99), (99, 99));
        came(&mut receiver, &sizes);
        assert_eq!(early(&mut receiver), [(Some(7), 99)]);
    }

    #[test]
    fn a_small_end_of_large_ones_is_a_small_one_and_is_not_passed_by_later_ones() {
        let mut receiver = Receiver::with(true);
        receiver.memory.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = at.to_le_bytes()[0]);
        // A small end, none, one that is not small, small ones with an end.
        came(
            &mut receiver,
            &[(20 * 1_400 + 60, 1_400), (20 * 1_400, 1_400), (20 * 1_400 + 600, 1_400), (10 * 100 + 50, 100)],
        );
        let (place, datagrams) = receiver.next_early().unwrap();
        let bytes = [&datagrams.bytes[..2], &datagrams.bytes[59..]].concat();
        assert_eq!((place, datagrams.bytes.len(), datagrams.stride), (Some(TAIL), 60, 60));
        let start = 20 * 1_400_u32;
        assert_eq!(bytes, [0, 1, 59].map(|at| (start + at).to_le_bytes()[0]));
        assert!(receiver.next_early().is_none());
        let front = receiver.next_arrival();
        assert!(
            matches!(front, Some(Arrival::Datagrams(d)) if d.bytes.len() == 20 * 1_400 && d.stride == 1_400)
        );
        assert_eq!(receiver.free.count_ones(), 28, "its buffer is not free while its end waits");
        let expected = [Err(TAIL), Ok(20 * 1_400), Ok(20 * 1_400 + 600), Ok(10 * 100 + 50)];
        assert_eq!(lengths(&mut receiver), expected);
        assert_eq!((receiver.free, receiver.waiting), (u32::MAX, (0, 0)));
        // In turn, it is what it was.
        came(&mut receiver, &[(7 * 1_400 + 60, 1_400), (60, 60)]);
        assert!(receiver.next_early().is_none());
        assert_eq!(lengths(&mut receiver), [Ok(7 * 1_400), Ok(60), Ok(60)]);
        assert_eq!(receiver.free, u32::MAX);
    }

    #[test]
    fn small_ones_do_not_pass_those_of_their_sender_that_wait_for_their_turn() {
        let mut receiver = Receiver::with(true);
        came(&mut receiver, &[(14_000, 1_400), (60, 60), (14_000, 1_400)]);
        assert_eq!(early(&mut receiver), [(Some(1), 60)]);
        assert!(matches!(receiver.next_arrival(), Some(Arrival::Datagrams(_))), "the turn ends with this");
        came(&mut receiver, &[(14_000, 1_400), (70, 70)]);
        receiver.metas[0].addr.set_port(2);
        came(&mut receiver, &[(80, 80)]);
        // Nothing but the first is in front of this one, and what came of that may be of a connection and wait still.
        receiver.order.retain(|at| receiver.filled[usize::from(*at)].stride <= SMALL);
        receiver.waiting.1 = BULK;
        assert_eq!(early(&mut receiver), [(Some(4), 70), (None, 80)]);
        assert_eq!(lengths(&mut receiver), [Err(1), Err(4), Err(5)]);
    }

    #[test]
    fn what_a_game_sends_in_one_breath_keeps_its_order_beside_the_transfer_of_another() {
        let mut receiver = Receiver::with(true);
        came(&mut receiver, &[(28_000, 1_400)]);
        receiver.metas[0].addr.set_port(2);
        came(&mut receiver, &[(2 * 1_200 + 60, 1_200)]);
        came(&mut receiver, &[(70, 70)]);
        receiver.metas[0].addr.set_port(3);
        came(&mut receiver, &[(80, 80)]);
        assert_eq!(early(&mut receiver), [(None, 80)]);
        assert_eq!(lengths(&mut receiver), [Ok(28_000), Ok(2_460), Ok(70), Err(3)]);
    }

    #[test]
    fn small_ones_do_not_pass_those_of_their_sender_that_came_merged() {
        let mut receiver = Receiver::with(true);
        let sizes = [(64_000, 1_000), (50, 50), (1_000, 100), (60, 60), (70, 70)];
        let ports = [1, 1, 1, 1, 2];
        for (size, port) in sizes.iter().zip(ports) {
            receiver.metas[0].addr.set_port(port);
            came(&mut receiver, &[*size]);
        }
        let expected = [(Some(1), 50), (None, 70)];
        assert_eq!(
            early(&mut receiver),
            expected,
            "the one in front, and another sender's, which waits for nobody"
        );
        let all = lengths(&mut receiver);
        assert_eq!(all, [Ok(64_000), Err(1), Ok(1_000), Ok(60), Err(4)]);
        // Of so many senders that not all are remembered, nobody passes anybody.
        for port in 1..=6 {
            receiver.metas[0].addr.set_port(port);
            came(&mut receiver, &[(8_000, 400)]);
        }
        receiver.metas[0].addr.set_port(6);
        came(&mut receiver, &[(60, 60)]);
        assert!(receiver.is_behind() && receiver.next_early().is_none());
    }

    #[tokio::test]
    async fn empty_datagrams_do_not_keep_a_read_going() {
        let bound = crate::host::udp::bind(&["127.0.0.1:0".parse().unwrap()], None).unwrap();
        let sockets = crate::host::udp::Sockets::open(bound).unwrap();
        let there = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = sockets.local_addrs()[0];
        for _ in 0..3 * DATAGRAMS {
            there.send_to(&[], to).unwrap();
        }
        sockets.readable().await;
        let socket = sockets.iter().next().unwrap();
        let mut receiver = Receiver::new(sockets.iter());
        assert!(receiver.read_at_most(1, socket), "the turn is over, and more is there");
        while receiver.read(socket) {}
        assert!(receiver.is_empty());
    }

    #[test]
    fn a_game_alone_keeps_its_order() {
        let mut receiver = Receiver::with(true);
        came(&mut receiver, &[(3_600, 1_200), (60, 60), (1_200, 1_200), (60, 60)]);
        assert!(receiver.next_early().is_none());
        assert_eq!(lengths(&mut receiver), [Ok(3_600), Ok(60), Ok(1_200), Ok(60)]);
    }

    #[test]
    fn buffers_are_used_again_once_the_next_one_is_wanted() {
        let mut receiver = Receiver::with(false);
        for round in 0..10 {
            came(&mut receiver, &[(1_000, 1_000); 20]);
            assert_eq!(receiver.free.count_ones(), 12, "round {round}");
            assert_eq!(lengths(&mut receiver).len(), 20);
            assert_eq!(receiver.free, u32::MAX);
        }
        came(&mut receiver, &[(0, 0)]);
        assert!(receiver.is_empty(), "nothing says nothing");
    }
}
