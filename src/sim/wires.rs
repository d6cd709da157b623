//! What travels: datagrams of the tunnels, captured packets, and the messages of control planes.

use super::control::Caller;
use super::route::{Departure, Flight, Landing};
use super::world::{Event, World};
use crate::buf::batch::{Datagrams, Source};
use crate::engine::counters::Count;
use crate::model::addr::{Endpoint, Via};
use crate::model::id::LinkId;
use crate::model::limits;
use crate::wire::control::{Down, Up};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Datagrams of the wire that somebody may send again later.
const SEEN: usize = 64;
/// Datagrams below this may be read before their turn,
const SMALL: usize = 512;
/// and so many may wait for it.
const HELD: usize = 16;

impl World {
    /// Puts a datagram on the wire.
    pub(super) fn send(&mut self, pc: usize, end: Endpoint, mut bytes: Vec<u8>) {
        let to = end.to;
        let port = match end.via {
            Via::Main => self.pcs[pc].port,
            Via::Stream(stream) => return self.send_stream(pc, stream, bytes),
            Via::Extra(number) => {
                let open = self.pcs[pc].run.as_ref().and_then(|r| r.open.extra.get(&number));
                let Some((port, _)) = open.filter(|(_, v6)| *v6 == to.is_ipv6()) else { return };
                *port
            }
        };
        if matches!(to.ip(), IpAddr::V4(a) if self.party.subnet.contains(a)) {
            self.oracle.violate(self.now, format!("pc{pc} sends the tunnel into the tunnel: to {to}"));
            return;
        }
        let way = self.net.depart(pc, &self.pcs[pc].cards, port, to, self.now);
        let text = || match &way {
            Some(Departure::Straight(route)) => format!("{} bytes to {to}, {route:?}", bytes.len()),
            Some(Departure::Flies(flight)) => format!("{} bytes to {to} as {}", bytes.len(), flight.from),
            None => format!("{} bytes to {to}, which leads nowhere", bytes.len()),
        };
        self.trace.note(self.now, Some(pc), "send", &bytes, text);
        self.count(pc, end, bytes.len());
        let Some(way) = way else { return };
        if self.chaos.tamper > 0 && self.dice.chance(self.chaos.tamper) {
            let at = self.dice.below(u32::try_from(bytes.len()).unwrap_or(1)) as usize;
            bytes[at] ^= 1 << self.dice.below(8);
        }
        let route = match way {
            Departure::Flies(flight) => return self.fly(&flight, bytes),
            Departure::Straight(route) => route,
        };
        if !self.net.fits(route.out, route.into, to.ip(), bytes.len()) {
            return;
        }
        self.overhear(route.pc, to, route.from, &bytes);
        for at in self.net.transport(route.out, route.into, bytes.len(), self.now).into_iter().flatten() {
            self.at(at, Event::Datagram { pc: route.pc, to, from: route.from, bytes: bytes.clone() });
        }
    }

    /// Somebody on the wire keeps a datagram, to send it again later.
    fn overhear(&mut self, pc: usize, to: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        if self.chaos.seen.len() >= SEEN {
            self.chaos.seen.pop_front();
        }
        self.chaos.seen.push_back((pc, to, from, bytes.to_vec()));
    }

    /// A datagram is under way, through routers or to and from a server.
    pub(super) fn fly(&mut self, flight: &Flight, bytes: Vec<u8>) {
        if !self.net.fits(flight.out, flight.into, flight.to.ip(), bytes.len()) {
            return;
        }
        let [first, twice] = self.net.transport(flight.out, flight.into, bytes.len(), self.now);
        if let Some(at) = twice {
            self.at(at, Event::Flight { flight: *flight, bytes: bytes.clone() });
        }
        if let Some(at) = first {
            self.at(at, Event::Flight { flight: *flight, bytes });
        }
    }

    /// A datagram comes down at the other end.
    pub(super) fn land(&mut self, flight: &Flight, bytes: Vec<u8>) {
        match self.net.land(flight, self.now) {
            Some(Landing::Server(server)) => self.server_hears(server, flight, &bytes),
            Some(Landing::Pc(pc, to)) => {
                self.overhear(pc, to, flight.from, &bytes);
                // Those that arrive together are handed over together.
                self.at(self.now, Event::Datagram { pc, to, from: flight.from, bytes });
            }
            None => {
                let text = || format!("{} bytes from {} to {}", bytes.len(), flight.from, flight.to);
                self.trace.note(self.now, None, "shut out", &bytes, text);
            }
        }
    }

    /// Counts what a computer sends: by way of servers, or straight to others.
    fn count(&mut self, pc: usize, end: Endpoint, len: usize) {
        let server = matches!(end.via, Via::Stream(_)) || self.is_server(end.to.ip());
        let sent = &mut self.pcs[pc].sent;
        let tally = if server { &mut sent.servers } else { &mut sent.straight };
        tally.packets += 1;
        tally.bytes += len as u64;
    }

    /// A datagram arrives; with GRO, equal ones that arrive with it come along in one buffer.
    pub(super) fn datagram(&mut self, pc: usize, to: SocketAddr, from: SocketAddr, mut bytes: Vec<u8>) {
        let stride = bytes.len().max(1);
        while self.chaos.gro
            && bytes.len().is_multiple_of(stride)
            && bytes.len() + stride <= limits::GRO_BYTES
        {
            let more = self.take_next(|event| {
                matches!(event, Event::Datagram { pc: p, to: t, from: f, bytes: b }
                    if (*p, *t, *f) == (pc, to, from) && b.len() <= stride)
            });
            let Some(Event::Datagram { bytes: more, .. }) = more else { break };
            bytes.extend_from_slice(&more);
        }
        if self.pcs[pc].rogue.is_some() {
            bytes.chunks(stride).for_each(|wire| self.rogue_hears(pc, from, wire));
            return;
        }
        let computer = &self.pcs[pc];
        let Some(run) = computer.run.as_ref().filter(|_| computer.is_live()) else { return };
        let via = if computer.port == to.port() {
            Via::Main
        } else {
            let Some(number) = run.open.by_port.get(&to.port()) else { return };
            Via::Extra(*number)
        };
        if self.net.is_offline(pc) || computer.cards.iter().all(|c| !c.is_at(to.ip())) {
            return;
        }
        self.trace
            .note(self.now, Some(pc), "datagram", &bytes, || format!("{} bytes from {from}", bytes.len()));
        if self.chaos.early && bytes.len() < SMALL {
            self.read_early(pc, via, from, &mut bytes, stride);
            return;
        }
        self.turns(pc);
        self.drive(pc, |node, now, wan, lan| {
            node.handle_wan(Datagrams { via, from, bytes: &mut bytes, stride }, now, wan, lan);
        });
    }

    /// Small datagrams are read before others that wait, which here are yet to come; their turn is in a moment, or right before
    /// the next large one.
    fn read_early(&mut self, pc: usize, via: Via, from: SocketAddr, bytes: &mut [u8], stride: usize) {
        if self.pcs[pc].run.as_ref().is_some_and(|run| run.early.len() >= HELD) {
            self.turns(pc);
        }
        let start = self.pcs[pc].starts;
        let Some(run) = &mut self.pcs[pc].run else { return };
        let place = run.early.last().map_or(0, |last| (last + 1) % (2 * HELD) as u8);
        run.early.push(place);
        self.drive(pc, |node, now, wan, lan| {
            let forwarded = node.counters().count(Count::Forwarded);
            node.set_aside(Some(place));
            node.handle_wan(Datagrams { via, from, bytes, stride }, now, wan, lan);
            node.set_aside(None);
            assert_eq!(node.counters().count(Count::Forwarded), forwarded, "passed on before its turn");
        });
        self.after(Duration::from_millis(1), Event::Turns { pc, start });
    }

    /// It is the turn of everything that was read early.
    pub(super) fn turns(&mut self, pc: usize) {
        let Some(run) = &mut self.pcs[pc].run else { return };
        let early = std::mem::take(&mut run.early);
        if !early.is_empty() && self.pcs[pc].is_live() {
            self.drive(pc, |node, now, wan, _| {
                for place in early {
                    node.handle_turn(place, now, wan);
                }
            });
        }
    }

    /// A message of a stream arrives.
    pub(super) fn stream_heard(&mut self, pc: usize, stream: u8, number: u64, mut bytes: Vec<u8>) {
        let computer = &self.pcs[pc];
        let open = computer.run.as_ref().and_then(|r| r.open.streams.get(&stream));
        let live = computer.is_live() && !self.net.is_offline(pc);
        if !live || open.is_none_or(|s| s.number != number) {
            return;
        }
        let server = open.map_or(0, |s| s.server);
        let from = SocketAddr::new(self.servers[server].addresses[0], super::server::PORTS[0]);
        let text = || format!("{} bytes by stream {stream}", bytes.len());
        self.trace.note(self.now, Some(pc), "stream in", &bytes, text);
        let stride = bytes.len().max(1);
        self.drive(pc, |node, now, wan, lan| {
            let via = Via::Stream(stream);
            node.handle_wan(Datagrams { via, from, bytes: &mut bytes, stride }, now, wan, lan);
        });
    }

    /// Hands captured packets to a node, if it runs.
    pub(super) fn capture(&mut self, pc: usize, packets: &[(Source, Vec<u8>)]) {
        if !self.pcs[pc].is_live() || packets.is_empty() {
            return;
        }
        let mut batch = self.batch.take().unwrap_or_default();
        batch.clear();
        for (source, packet) in packets {
            let slot = batch.next(*source).expect("a batch holds more than a game says at once");
            assert!(slot.fill(packet), "games' packets fit a slot");
        }
        self.drive(pc, |node, now, wan, lan| node.handle_lan(&mut batch, now, wan, lan));
        self.batch = Some(batch);
    }

    pub(super) fn open_link(&mut self, pc: usize, link: LinkId) {
        self.callers += 1;
        let caller = (pc, self.callers);
        if let Some(run) = &mut self.pcs[pc].run {
            run.links.insert(link, self.callers);
        }
        let Some(plane) = self.planes.get(usize::from(link.0)) else { return };
        self.after(plane.delay, Event::Connect(caller, link));
    }

    pub(super) fn connect(&mut self, caller: Caller, link: LinkId) {
        let now = self.honest_now();
        let plane = &mut self.planes[usize::from(link.0)];
        let answer = if plane.up && !self.net.is_offline(caller.0) {
            plane.connect(caller, now)
        } else {
            vec![(caller, Down::Closed { why: "connection refused".to_owned() })]
        };
        self.spread(usize::from(link.0), answer);
    }

    pub(super) fn up(&mut self, caller: Caller, link: LinkId, message: Up) {
        let index = usize::from(link.0);
        let text = format!("{message:?}");
        self.trace.note(self.now, Some(caller.0), "up", text.as_bytes(), || text.chars().take(120).collect());
        if self.planes[index].up && !self.net.is_offline(caller.0) {
            let now = self.honest_now();
            let out = self.planes[index].handle(caller, message, now);
            self.spread(index, out);
        }
    }

    /// Sends what a control plane has to say on its way.
    pub(super) fn spread(&mut self, plane: usize, out: Vec<(Caller, Down)>) {
        let link = LinkId(u8::try_from(plane).expect("a handful of control planes"));
        for (caller, message) in out {
            let wait = self.planes[plane].delay;
            let welcome = matches!(message, Down::Welcome { .. });
            self.after(wait, Event::Down(caller, link, Box::new(message)));
            // A server knows who is a member, and has relays for those.
            if welcome && !self.servers.is_empty() && self.planes[plane].is_server() {
                self.offer(caller, link);
            }
        }
    }

    /// Offers the relays to a member that is signed in, and again before the credentials run out.
    pub(super) fn offer(&mut self, caller: Caller, link: LinkId) {
        let run = self.pcs[caller.0].run.as_ref();
        let plane = &self.planes[usize::from(link.0)];
        if !plane.up || run.is_none_or(|r| r.links.get(&link) != Some(&caller.1)) {
            return;
        }
        let (wait, offers) = (plane.delay, self.offers(caller.0));
        self.after(wait, Event::Down(caller, link, Box::new(Down::Relays { offers })));
        self.after(self.relay_life * 3 / 4, Event::Offer(caller, link));
    }

    pub(super) fn down(&mut self, caller: Caller, link: LinkId, message: Down) {
        let (pc, number) = caller;
        // Who sleeps hears nothing; it learns that the connection is gone when it wakes.
        let computer = &mut self.pcs[pc];
        let run = computer.run.as_mut().filter(|_| !computer.asleep);
        let Some(run) = run.filter(|r| r.links.get(&link) == Some(&number)) else { return };
        if matches!(message, Down::Closed { .. }) {
            run.links.remove(&link);
        }
        let text = format!("{message:?}");
        self.trace.note(self.now, Some(pc), "down", text.as_bytes(), || text.chars().take(120).collect());
        self.drive(pc, |node, now, _, _| node.handle_control(link, message, now));
    }

    /// Tells a node that a connection of it is gone.
    pub(super) fn cut_links(&mut self, pc: usize, wait: Duration) {
        let links = self.pcs[pc].run.as_ref().map(|r| r.links.clone());
        for (link, number) in links.into_iter().flatten() {
            self.planes[usize::from(link.0)].hang_up((pc, number));
            let closed = Down::Closed { why: "connection lost".to_owned() };
            self.after(wait, Event::Down((pc, number), link, Box::new(closed)));
        }
    }
}
