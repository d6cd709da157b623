//! What travels: datagrams of the tunnels, captured packets, and the messages of control planes.

use super::control::Caller;
use super::world::{Event, World};
use crate::buf::batch::{Datagrams, Source};
use crate::model::addr::Via;
use crate::model::id::LinkId;
use crate::model::limits;
use crate::wire::control::{Down, Up};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Datagrams of the wire that somebody may send again later.
const SEEN: usize = 64;

impl World {
    /// Puts a datagram on the wire.
    pub(super) fn send(&mut self, pc: usize, to: SocketAddr, mut bytes: Vec<u8>) {
        let (cards, port) = (&self.pcs[pc].cards, self.pcs[pc].port);
        if matches!(to.ip(), IpAddr::V4(a) if self.party.subnet.contains(a)) {
            self.oracle.violate(self.now, format!("pc{pc} sends the tunnel into the tunnel: to {to}"));
            return;
        }
        let route = self.net.route(pc, cards, port, to.ip());
        let text = || format!("{} bytes to {to}, {route:?}", bytes.len());
        self.trace.note(self.now, Some(pc), "send", &bytes, text);
        let Some(route) = route else { return };
        if self.chaos.tamper > 0 && self.dice.chance(self.chaos.tamper) {
            let at = self.dice.below(u32::try_from(bytes.len()).unwrap_or(1)) as usize;
            bytes[at] ^= 1 << self.dice.below(8);
        }
        if self.chaos.seen.len() >= SEEN {
            self.chaos.seen.pop_front();
        }
        self.chaos.seen.push_back((route.pc, to, route.from, bytes.clone()));
        for at in self.net.carry(route.out, route.into, self.now).into_iter().flatten() {
            self.at(at, Event::Datagram { pc: route.pc, to, from: route.from, bytes: bytes.clone() });
        }
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
        let here = computer.is_live() && computer.port == to.port();
        if !here || self.net.is_offline(pc) || computer.cards.iter().all(|c| c.addr() != to.ip()) {
            return;
        }
        self.trace
            .note(self.now, Some(pc), "datagram", &bytes, || format!("{} bytes from {from}", bytes.len()));
        self.drive(pc, |node, now, wan, lan| {
            node.handle_wan(Datagrams { via: Via::Main, from, bytes: &mut bytes, stride }, now, wan, lan);
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
            self.after(wait, Event::Down(caller, link, Box::new(message)));
        }
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
