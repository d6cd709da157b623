//! What a computer has open beside the tunnel's socket: more UDP sockets for hard NATs, streams to relays, a port that
//! its router opened.
//!
//! A stream is a TCP or TLS connection as a machine sees it: messages arrive whole, in order and once, or the stream is
//! gone; ChannelData is padded as on the wire (RFC 8656, section 12.5). A lost segment makes all that come after it wait. It passes every router, UDP or not, and breaks when a
//! router on its way forgets it.

use super::world::{Event, World};
use crate::engine::effect::{HostFact, Lease};
use crate::model::relay::RelayWay;
use crate::model::time::Mono;
use crate::wire::channel::{self, Split};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Ports that a system gives to sockets that ask for any.
const EPHEMERAL: RangeInclusive<u32> = 32_768..=60_999;
/// What a lost segment costs before it is sent again, beside the way there and back.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// A connection to nobody is given up after this.
const PATIENCE: Duration = Duration::from_secs(3);
/// A router takes this long to open a port, or to refuse.
const LEASE_WAIT: Duration = Duration::from_millis(400);
/// How often a host looks after its lease.
const LEASE_RENEWAL: Duration = Duration::from_secs(30);

/// See the module's description. Gone when the node's process is.
#[derive(Debug, Default)]
pub struct Openings {
    /// The ports of the sockets of `Via::Extra`, and whether they are IPv6 ones.
    pub extra: BTreeMap<u16, (u16, bool)>,
    /// The same, by port.
    pub by_port: BTreeMap<u16, u16>,
    /// Streams by their number.
    pub streams: BTreeMap<u8, Stream>,
    /// The outside address that the router forwards here.
    pub leased: Option<SocketAddr>,
}

/// A connection to a server.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Its own number, never used again.
    pub number: u64,
    /// To which server.
    pub server: usize,
    /// It can be used.
    pub up: bool,
    /// When the last message of each direction arrives: there, here.
    last: [Mono; 2],
}

impl World {
    pub(super) fn open_sockets(&mut self, pc: usize, first: u16, count: u16, v6: bool) {
        let main = self.pcs[pc].port;
        for number in (0..count).filter_map(|n| first.checked_add(n)) {
            let Some(run) = &mut self.pcs[pc].run else { return };
            if run.open.extra.contains_key(&number) {
                continue;
            }
            let port = loop {
                let port = self.dice.range(*EPHEMERAL.start(), *EPHEMERAL.end()) as u16;
                if !run.open.by_port.contains_key(&port) && port != main {
                    break port;
                }
            };
            run.open.extra.insert(number, (port, v6));
            run.open.by_port.insert(port, number);
        }
    }

    pub(super) fn close_sockets(&mut self, pc: usize, first: u16, count: u16, keep: Option<u16>) {
        let Some(run) = &mut self.pcs[pc].run else { return };
        let closed = (0..count).filter_map(|n| first.checked_add(n)).filter(|n| Some(*n) != keep);
        for number in closed {
            if let Some((port, _)) = run.open.extra.remove(&number) {
                run.open.by_port.remove(&port);
            }
        }
    }

    /// A node connects to a relay.
    pub(super) fn open_stream(&mut self, pc: usize, stream: u8, way: &RelayWay) {
        let to = way.addr();
        let rtt = self.net.wan.delay * 2;
        // TLS asks once more before it is open.
        let trips = match way {
            RelayWay::Udp { .. } | RelayWay::Tcp { .. } => 1,
            RelayWay::Tls { .. } => 2,
        };
        self.callers += 1;
        let number = self.callers;
        let seen = self.net.seen_as(&self.pcs[pc].cards, to.ip()).filter(|_| !self.net.is_offline(pc));
        let server = self.net.servers.get(&to.ip()).copied().filter(|_| seen.is_some());
        let Some(run) = &mut self.pcs[pc].run else { return };
        let known = Stream { number, server: server.unwrap_or(0), up: false, last: [self.now; 2] };
        run.open.streams.insert(stream, known);
        let listens = server.is_some_and(|s| self.servers[s].listens(to));
        let (wait, event) = match (server, listens) {
            (Some(_), true) => (rtt * trips, Event::StreamUp { pc, stream, number, to }),
            (Some(_), false) => (rtt, Event::StreamDown { pc, stream, number }),
            (None, _) => (PATIENCE, Event::StreamDown { pc, stream, number }),
        };
        self.after(wait, event);
    }

    pub(super) fn stream_up(&mut self, pc: usize, stream: u8, number: u64, to: SocketAddr) {
        let asleep = self.pcs[pc].asleep;
        let seen = self.net.seen_as(&self.pcs[pc].cards, to.ip());
        let run = self.pcs[pc].run.as_mut();
        let Some(known) = run.and_then(|r| r.open.streams.get_mut(&stream)).filter(|s| s.number == number)
        else {
            return;
        };
        let listens = self.servers[known.server].listens(to);
        let (Some(seen), true, false) = (seen, listens, asleep || self.net.is_offline(pc)) else {
            return self.stream_down(pc, stream, number);
        };
        known.up = true;
        let from = SocketAddr::new(seen, 20_000 + (number % 40_000) as u16);
        let server = known.server;
        self.servers[server].connected(number, (pc, stream), from, to);
        self.trace
            .note(self.now, Some(pc), "stream", &number.to_be_bytes(), || format!("{stream} to {to} is up"));
        self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::StreamUp(stream), now));
    }

    pub(super) fn stream_down(&mut self, pc: usize, stream: u8, number: u64) {
        let asleep = self.pcs[pc].asleep;
        let Some(run) = self.pcs[pc].run.as_mut() else { return };
        if run.open.streams.get(&stream).is_none_or(|s| s.number != number) {
            return;
        }
        if asleep {
            // It learns of it when it wakes.
            self.after(PATIENCE, Event::StreamDown { pc, stream, number });
            return;
        }
        run.open.streams.remove(&stream);
        self.trace.note(self.now, Some(pc), "stream", &number.to_be_bytes(), || format!("{stream} is gone"));
        let down = HostFact::StreamDown { stream, why: "the connection was reset".to_owned() };
        self.drive(pc, |node, now, _, _| node.handle_fact(down, now));
    }

    pub(super) fn close_stream(&mut self, pc: usize, stream: u8) {
        let known = self.pcs[pc].run.as_mut().and_then(|r| r.open.streams.remove(&stream));
        if let Some(known) = known {
            self.at(
                known.last[0].max(self.now),
                Event::StreamEnd { server: known.server, number: known.number },
            );
        }
    }

    /// All streams of a computer break; it notices after this, its servers at once.
    pub(super) fn break_streams(&mut self, pc: usize, wait: Duration) {
        let Some(run) = &self.pcs[pc].run else { return };
        let streams: Vec<(u8, Stream)> = run.open.streams.iter().map(|(n, s)| (*n, *s)).collect();
        for (stream, Stream { number, server, .. }) in streams {
            self.after(Duration::ZERO, Event::StreamEnd { server, number });
            self.after(wait, Event::StreamDown { pc, stream, number });
        }
    }

    /// A message of a node, by a stream.
    pub(super) fn send_stream(&mut self, pc: usize, stream: u8, mut bytes: Vec<u8>) {
        bytes.resize(bytes.len() + channel::padding(bytes.len()), 0);
        if channel::frame_len(&bytes) != Split::Frame(bytes.len()) {
            let text = format!("pc{pc} sends by a stream what is not one message: {:02x?}", bytes.get(..8));
            self.oracle.violate(self.now, text);
            return;
        }
        self.trace.note(self.now, Some(pc), "stream out", &bytes, || format!("{} bytes", bytes.len()));
        let offline = self.net.is_offline(pc);
        let Some(run) = &mut self.pcs[pc].run else { return };
        let Some(known) = run.open.streams.get_mut(&stream).filter(|s| s.up && !offline) else { return };
        let arrives = self.net.streamed((pc, known.server), true, self.now, RETRANSMIT);
        known.last[0] = known.last[0].max(arrives);
        let (at, server, number) = (known.last[0], known.server, known.number);
        self.at(at, Event::StreamData { server, number, bytes });
    }

    /// A message of a server, by a stream.
    pub(super) fn answer_stream(&mut self, (pc, stream): (usize, u8), number: u64, mut bytes: Vec<u8>) {
        bytes.resize(bytes.len() + channel::padding(bytes.len()), 0);
        let Some(run) = &mut self.pcs[pc].run else { return };
        let known = run.open.streams.get_mut(&stream).filter(|s| s.number == number);
        let Some(known) = known else { return };
        let arrives = self.net.streamed((pc, known.server), false, self.now, RETRANSMIT);
        known.last[1] = known.last[1].max(arrives);
        let at = known.last[1];
        self.at(at, Event::StreamHeard { pc, stream, number, bytes });
    }

    /// The host's lease machine asks the router for a port.
    pub(super) fn ask_lease(&mut self, pc: usize) {
        let start = self.pcs[pc].starts;
        if self.net.row(self.pcs[pc].default_card().segment).next().is_some() {
            self.after(LEASE_WAIT, Event::Lease { pc, start });
        }
    }

    pub(super) fn lease(&mut self, pc: usize, start: u64) {
        let computer = &self.pcs[pc];
        if computer.starts != start || computer.run.is_none() {
            return;
        }
        let (segment, port) = (computer.default_card().segment, computer.port);
        let address = computer.default_card().addr();
        let gate = self.net.row(segment).next();
        let speaks = gate.and_then(|b| self.net.boxes[b].spec.speaks);
        let live = computer.is_live() && !self.net.is_offline(pc);
        let inside = SocketAddr::new(address, port);
        let granted = gate.filter(|_| live).and_then(|b| self.net.boxes[b].lease(inside));
        let Some(run) = &mut self.pcs[pc].run else { return };
        let news = std::mem::replace(&mut run.open.leased, granted) != granted;
        if let (true, true, Some(by)) = (news, live, speaks) {
            let text = || format!("{granted:?}");
            self.trace.note(self.now, Some(pc), "lease", text().as_bytes(), text);
            let fact = HostFact::Leased(granted.map(|external| Lease { external, by }));
            self.drive(pc, |node, now, _, _| node.handle_fact(fact, now));
        }
        if speaks.is_some() {
            self.after(LEASE_RENEWAL, Event::Lease { pc, start });
        }
    }

    /// Whether an address is a server's.
    pub(super) fn is_server(&self, address: IpAddr) -> bool {
        self.net.servers.contains_key(&address)
    }
}
