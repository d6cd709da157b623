//! What the machine sends: datagrams to one destination lie end to end and leave in one segmented send (GSO), at the end of each
//! read. The same idea as `host::udp::send`, with many sockets to send from.

use super::sockets::Udp;
use super::stream::Outlet;
use crate::engine::relay::{Client, PortId, RelaySink, StreamId};
use quinn_udp::Transmit;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Room of a run: the most that one segmented send may carry (a UDP payload over IPv4).
const ROOM: usize = 65_507;
/// Runs of one read; more of them leave early. A read brings 32 buffers, most often of as many senders.
const RUNS: usize = 32;
/// Linux's UDP_MAX_SEGMENTS.
const SEGMENTS: usize = 64;

/// Which socket sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Listener(usize, Option<IpAddr>),
    Port(PortId),
}

#[derive(Debug)]
struct Run {
    from: From,
    to: SocketAddr,
    bytes: Range<usize>,
    segment: usize,
    count: usize,
    /// A shorter datagram ended it.
    ended: bool,
}

/// All sockets, and what waits to be sent by them.
pub(super) struct Outbox {
    pub(super) listeners: Vec<Udp>,
    pub(super) ports: Vec<Option<Udp>>,
    pub(super) streams: BTreeMap<StreamId, Outlet>,
    memory: Box<[u8]>,
    runs: Vec<Run>,
    counts: Counts,
}

/// What happened to datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) sent: u64,
    pub(super) full: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbox({} listeners, {} streams)", self.listeners.len(), self.streams.len())
    }
}

impl Outbox {
    pub(super) fn new(listeners: Vec<Udp>) -> Self {
        Self {
            listeners,
            ports: Vec::new(),
            streams: BTreeMap::new(),
            memory: vec![0; ROOM * RUNS].into_boxed_slice(),
            runs: Vec::with_capacity(RUNS),
            counts: Counts::default(),
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Sends everything that waits.
    pub(super) fn flush(&mut self) {
        for at in 0..self.runs.len() {
            self.send_run(at);
        }
        self.runs.clear();
    }

    fn add(&mut self, from: From, to: SocketAddr, bytes: &[u8]) {
        if bytes.is_empty() {
            // An empty datagram is a datagram, but no run of them.
            self.send(from, to, bytes, None);
            return;
        }
        let at = match self.runs.iter().rposition(|r| r.to == to && r.from == from) {
            Some(at) => at,
            None => {
                if self.runs.len() == RUNS {
                    self.flush();
                }
                self.runs.push(Run { from, to, bytes: 0..0, segment: 0, count: 0, ended: false });
                self.runs.len() - 1
            }
        };
        let Some(run) = self.runs.get(at) else { return };
        let fits = run.bytes.end + bytes.len() <= ROOM && run.count < SEGMENTS;
        if run.count > 0 && (run.ended || bytes.len() > run.segment || !fits) {
            self.send_run(at);
        }
        let Some(run) = self.runs.get_mut(at) else { return };
        let start = at * ROOM + run.bytes.end;
        let Some(room) = self.memory.get_mut(start..start + bytes.len()) else { return };
        room.copy_from_slice(bytes);
        run.bytes.end += bytes.len();
        if run.count == 0 {
            run.segment = bytes.len();
        }
        run.ended = bytes.len() < run.segment;
        run.count += 1;
    }

    fn send_run(&mut self, at: usize) {
        let Some(run) = self.runs.get_mut(at) else { return };
        let (from, to, segment, count) = (run.from, run.to, run.segment, run.count);
        let bytes = at * ROOM..at * ROOM + run.bytes.end;
        (run.bytes, run.count, run.ended) = (0..0, 0, false);
        if count == 0 {
            return;
        }
        // Out of `self` while its sockets send; nothing is copied.
        let memory = std::mem::take(&mut self.memory);
        let whole = memory.get(bytes).unwrap_or_default();
        if count == 1 || !self.send(from, to, whole, Some(segment)) {
            // One by one where segmentation is not possible (a card, or a segment above the line's MTU).
            for datagram in whole.chunks(segment) {
                self.send(from, to, datagram, None);
            }
        }
        self.memory = memory;
    }

    /// False when a segmented send has to be done otherwise.
    fn send(&mut self, from: From, to: SocketAddr, bytes: &[u8], segment_size: Option<usize>) -> bool {
        let (socket, src_ip) = match from {
            From::Listener(at, src_ip) => (self.listeners.get(at), src_ip),
            From::Port(port) => (self.ports.get(port.0 as usize).and_then(Option::as_ref), None),
        };
        let Some(socket) = socket else { return true };
        let datagrams = segment_size.map_or(1, |segment| bytes.len().div_ceil(segment.max(1)));
        if datagrams > socket.state.max_gso_segments() {
            return false;
        }
        match socket.send(&Transmit { destination: to, ecn: None, contents: bytes, segment_size, src_ip }) {
            Ok(()) => {
                self.counts.calls += 1;
                self.counts.sent += datagrams as u64;
                true
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.counts.full += datagrams as u64;
                true
            }
            Err(_) if segment_size.is_some() => false,
            Err(error) => {
                self.counts.failed += 1;
                tracing::trace!(%to, %error, "send failed");
                true
            }
        }
    }

    /// The socket that a client knows under this address.
    fn listener(&self, server: SocketAddr) -> Option<From> {
        let exact = self.listeners.iter().position(|s| s.local == server);
        if let Some(at) = exact {
            return Some(From::Listener(at, None));
        }
        let serves = |local: SocketAddr| {
            local.port() == server.port()
                && local.ip().is_unspecified()
                && local.is_ipv4() == server.is_ipv4()
        };
        let at = self.listeners.iter().position(|s| serves(s.local))?;
        Some(From::Listener(at, Some(server.ip())))
    }
}

impl RelaySink for Outbox {
    fn to_client(&mut self, client: &Client, bytes: &[u8]) {
        match client.stream {
            None => {
                if let Some(from) = self.listener(client.server) {
                    self.add(from, client.addr, bytes);
                }
            }
            Some(stream) => {
                if let Some(outlet) = self.streams.get(&stream)
                    && !outlet.post(bytes)
                {
                    self.counts.slow += 1;
                }
            }
        }
    }

    fn to_peer(&mut self, port: PortId, peer: SocketAddr, bytes: &[u8]) {
        self.add(From::Port(port), peer, bytes);
    }
}
