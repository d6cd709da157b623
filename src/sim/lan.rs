//! What an operating system does with the packets of games: which card they leave by, who hears them, what the capture
//! of the node sees, and where the node's own injections end up.
//!
//! A game's multicast or broadcast leaves by the default card, with that card's address, whatever the party's network
//! is; others on that segment hear it by themselves. What the node injects reaches the programs of its own computer
//! only, and sometimes its own capture too. What is addressed to the party's network goes to the tunnel device.

use super::game::{ARENA, GROUP, How, Program, Saying, Title, What, tcp, udp};
use super::net::SimCard;
use super::oracle::{Copy, Emission, Place};
use super::trace::mix;
use super::world::{Event, World};
use crate::buf::batch::Source;
use crate::engine::sink::Delivery;
use crate::wire::packet::{PacketView, fix_checksums};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long after a change of its virtual address a peer's old one may still be seen as a source.
const OLD_ADDRESS: Duration = Duration::from_secs(3);
/// How long an announcement counts as the sign of a running game: a little less than the profile says.
const LIFE: Duration = Duration::from_millis(7500);
/// Between two announcements, as the profile says.
const RHYTHM: Duration = Duration::from_millis(1500);
/// So long after its last word a game may be said again on a fine day: its life, for a game that is slower than its profile
/// says, and the way of the word that it is over.
const OVER: Duration = Duration::from_millis(9500);
/// How long the node of an announcer hands out its last word to newcomers, and some more.
const REMEMBERED: Duration = Duration::from_secs(12);
/// A game that has been heard through the tunnel this lately can be joined.
const JOINABLE: Duration = Duration::from_secs(4);

impl World {
    /// A program does what it does regularly: announces its world.
    pub(super) fn act(&mut self, place: Place) {
        let (pc, index) = place;
        let Some((Program::Announcer { port, from, period, how, always }, on)) =
            self.pcs[pc].programs.get(index)
        else {
            return;
        };
        let (port, from, period, how, always, on) = (*port, *from, *period, *how, *always, *on);
        if !on {
            return;
        }
        if !self.pcs[pc].asleep {
            let mark = always.unwrap_or_else(|| self.oracle.mark());
            let saying = Saying { what: What::Announcement, mark };
            self.broadcast(place, saying, (from, port), GROUP, how);
        }
        self.after(period, Event::Program(place));
    }

    /// An OpenArena client looks for servers.
    pub fn ask(&mut self, place: Place) {
        let Some((Program::Client { from }, true)) = self.pcs[place.0].programs.get(place.1) else { return };
        let (from, mark) = (*from, self.oracle.mark());
        let everyone = SocketAddr::new(Ipv4Addr::BROADCAST.into(), ARENA);
        self.broadcast(place, Saying { what: What::Query, mark }, (from, 0), everyone, How::Default);
    }

    /// Says something to everyone. `ports`: the one it leaves from, the one it names.
    fn broadcast(&mut self, place: Place, saying: Saying, ports: (u16, u16), to: SocketAddr, how: How) {
        let pc = place.0;
        let due = self.audience(place, saying.what, how);
        self.say(place, saying, ports.0, None, due, false);
        let payload = saying.payload(ports.1);
        let cards: Vec<SimCard> = match how {
            How::Default => vec![self.pcs[pc].default_card().clone()],
            How::Every => self.pcs[pc].cards.clone(),
        };
        let mut captured = Vec::new();
        for card in cards {
            let packet = udp(SocketAddr::new(card.addr(), ports.0), to, 1, &payload);
            for hearer in self.net.hearers(pc, card.segment) {
                // A cable may lose a frame, but it does not double one.
                if let [Some(at), _] = self.net.carry(card.segment, card.segment, self.now) {
                    let frame = Event::Frame { pc: hearer, segment: card.segment, packet: packet.clone() };
                    self.at(at, frame);
                }
            }
            captured.push((Source::Card(card.card.id), packet));
        }
        if let (How::Every, Some(own)) = (how, self.pcs[pc].virtual_address()) {
            captured.push((Source::Tun, udp(SocketAddr::new(own.into(), ports.0), to, 1, &payload)));
        }
        self.capture(pc, &captured);
    }

    fn say(
        &mut self,
        place: Place,
        saying: Saying,
        port: u16,
        to: Option<usize>,
        due: Vec<Place>,
        forbidden: bool,
    ) {
        let what = saying.what;
        let bytes = [&(what as u64).to_be_bytes()[..], &saying.mark.to_be_bytes()].concat();
        let text = || format!("{what:?} {} by program {} due to {due:?}", saying.mark, place.1);
        self.trace.note(self.now, Some(place.0), "say", &bytes, text);
        let emission =
            Emission { at: self.now, by: place, what, mark: saying.mark, port, to, due, forbidden };
        self.oracle.said(emission);
    }

    /// Who must hear what a program says to everyone.
    fn audience(&self, place: Place, what: What, how: How) -> Vec<Place> {
        if !self.chaos.fair {
            return Vec::new();
        }
        let pc = place.0;
        let hears = |(other, program): (usize, usize)| {
            if other == pc || self.pcs[other].asleep {
                return false;
            }
            let (listener, on) = &self.pcs[other].programs[program];
            let fits = match what {
                What::Announcement => *listener == Program::Listener,
                What::Query => *listener == Program::Server,
                What::Answer | What::Syn | What::SynAck | What::Knock => false,
            };
            fits && *on && self.reaches(pc, other, what, how)
        };
        let all = (0..self.pcs.len()).flat_map(|p| (0..self.pcs[p].programs.len()).map(move |i| (p, i)));
        all.filter(|place| hears(*place)).collect()
    }

    /// Whether what `pc` says to everyone must come to the programs of `other`, by wire or by tunnel.
    fn reaches(&self, pc: usize, other: usize, what: What, how: How) -> bool {
        let sent: Vec<usize> = match how {
            How::Default => vec![self.pcs[pc].default_card().segment],
            How::Every => self.pcs[pc].cards.iter().map(|c| c.segment).collect(),
        };
        let theirs = &self.pcs[other].cards;
        let by_wire = theirs.iter().position(|c| sent.contains(&c.segment));
        match (by_wire, what) {
            // A group is joined on the default card only; by another card the game is deaf, and the nodes believe
            // that it hears.
            (Some(0), _) | (Some(_), What::Query) => true,
            (Some(_), _) => false,
            (None, _) => self.is_tunnelled(pc, other, title_of(what)),
        }
    }

    fn by_wire(&self, pc: usize, other: usize, how: How) -> bool {
        let cards = &self.pcs[pc].cards;
        let sent = match how {
            How::Default => cards.get(..1).unwrap_or_default(),
            How::Every => cards,
        };
        sent.iter().any(|c| self.pcs[other].cards.iter().any(|o| o.segment == c.segment))
    }

    fn is_tunnelled(&self, a: usize, b: usize, title: Option<Title>) -> bool {
        let plays = |pc: usize| title.is_some_and(|t| self.pcs[pc].plays(t));
        self.joined(a, b) && plays(a) && plays(b) && !self.pcs[a].out && !self.pcs[b].out
    }

    /// Running games of one computer are owed to the list of another.
    pub(super) fn promise(&mut self, from: usize, to: usize) {
        let announcers: Vec<usize> = self.pcs[from]
            .programs
            .iter()
            .enumerate()
            .filter(|(_, (p, on))| *on && matches!(p, Program::Announcer { .. }))
            .map(|(i, _)| i)
            .collect();
        let listeners = self.pcs[to].programs.iter().enumerate();
        let listeners: Vec<usize> =
            listeners.filter(|(_, (p, on))| *on && *p == Program::Listener).map(|(i, _)| i).collect();
        for announcer in announcers {
            let Some((Program::Announcer { how, .. }, _)) = self.pcs[from].programs.get(announcer) else {
                continue;
            };
            // Who hears it by wire hears it at the game's own rhythm.
            let reached =
                !self.by_wire(from, to, *how) && self.is_tunnelled(from, to, Some(Title::Minecraft));
            // What was said before the node ran, or too long ago, it cannot hand on.
            let born = self.pcs[from].born.last().copied().unwrap_or_default();
            let said = self
                .oracle
                .last_said((from, announcer))
                .is_some_and(|at| at > born && self.now.since(at) < LIFE);
            for listener in listeners.iter().filter(|_| reached && said) {
                self.oracle.promise((from, announcer), (to, *listener), self.now);
            }
        }
    }

    /// A packet to one address, by the card or device that leads there.
    fn unicast(&mut self, place: Place, saying: Saying, from: u16, to: SocketAddr) {
        let pc = place.0;
        let build = |source: IpAddr| {
            let source = SocketAddr::new(source, from);
            match saying.what {
                What::Syn => tcp(source, to, saying.mark, false),
                What::SynAck => tcp(source, to, saying.mark, true),
                What::Announcement | What::Query | What::Answer | What::Knock => {
                    udp(source, to, 64, &saying.payload(0))
                }
            }
        };
        let lan = self.pcs[pc].run.as_ref().and_then(|r| r.lan);
        if let Some(lan) = lan.filter(|l| matches!(to.ip(), IpAddr::V4(a) if l.subnet.contains(a))) {
            self.capture(pc, &[(Source::Tun, build(lan.v4.into()))]);
            return;
        }
        let Some(route) = self.net.route(pc, &self.pcs[pc].cards, from, to.ip()) else { return };
        let packet = build(route.from.ip());
        if let [Some(at), _] = self.net.carry(route.out, route.into, self.now) {
            self.at(at, Event::Frame { pc: route.pc, segment: route.into, packet });
        }
    }

    /// A program answers somebody.
    pub(super) fn answer(&mut self, place: Place, to: SocketAddr, saying: Saying) {
        let (pc, program) = place;
        let Some((program, true)) = self.pcs[pc].programs.get(program) else { return };
        let from = match (program, saying.what) {
            (Program::Announcer { port, .. }, _) => *port,
            (Program::Server, _) => ARENA,
            (Program::Listener | Program::Client { .. } | Program::Doors, _) => return,
        };
        if self.pcs[pc].asleep {
            return;
        }
        let asked = match saying.what {
            What::Answer => What::Query,
            What::Announcement | What::Query | What::Syn | What::SynAck | What::Knock => What::Syn,
        };
        let asker = self.oracle.sayers(saying.mark, asked).next().map(|e| e.by);
        let by_tunnel = matches!(to.ip(), IpAddr::V4(a) if self.party.subnet.contains(a));
        let works = |asker: &Place| {
            let (other, program) = *asker;
            let way = !by_tunnel || self.is_tunnelled(pc, other, title_of(saying.what));
            // A connection's answer goes to the socket that opened it, which is no program of its own here.
            let hears = saying.what == What::Answer && self.pcs[other].programs[program].1;
            self.chaos.fair && way && hears && !self.pcs[other].asleep
        };
        let due = asker.filter(works).into_iter().collect();
        self.say(place, saying, from, asker.map(|a| a.0), due, false);
        self.unicast(place, saying, from, to);
    }

    /// A player on `from` joins the world of `place`, at its address in the party.
    pub fn join(&mut self, from: usize, place: Place) {
        let Some((Program::Announcer { port, .. }, on)) = self.pcs[place.0].programs.get(place.1) else {
            return;
        };
        let (port, on) = (*port, *on);
        let Some(address) = self.pcs[place.0].virtual_address() else { return };
        let heard = self.oracle.heard_lately(place, from, self.now - JOINABLE);
        let firm = self.chaos.fair && heard && on && self.is_tunnelled(from, place.0, Some(Title::Minecraft));
        let saying = Saying { what: What::Syn, mark: self.oracle.mark() };
        let due = if firm { vec![place] } else { Vec::new() };
        let by = (from, usize::MAX);
        let source = 50_000 + u16::try_from(saying.mark % 10_000).unwrap_or(0);
        self.say(by, saying, source, Some(place.0), due, false);
        self.unicast(by, saying, source, SocketAddr::new(address.into(), port));
    }

    /// Somebody tries a door of another computer through the tunnel.
    pub fn knock(&mut self, from: usize, to: usize, port: u16, what: What) {
        let Some(address) = self.pcs[to].virtual_address() else { return };
        let saying = Saying { what, mark: self.oracle.mark() };
        let by = (from, usize::MAX);
        self.say(by, saying, 50_000, Some(to), Vec::new(), true);
        self.unicast(by, saying, 50_000, SocketAddr::new(address.into(), port));
    }

    /// A packet comes in by a wire.
    pub(super) fn frame(&mut self, pc: usize, segment: usize, packet: &[u8]) {
        let computer = &self.pcs[pc];
        let card = computer.cards.iter().position(|c| c.segment == segment);
        let (Some(card), false) = (card, computer.asleep || self.net.is_offline(pc)) else { return };
        let Ok(view) = PacketView::parse(packet) else { return };
        let to_us = computer.cards.iter().any(|c| c.addr() == view.dst);
        if !(to_us || view.dst == Ipv4Addr::BROADCAST || view.to_multicast()) {
            return;
        }
        for index in 0..self.pcs[pc].programs.len() {
            let (program, on) = &self.pcs[pc].programs[index];
            let joined = !view.to_multicast() || (card == 0 && program.has_joined(view.dst));
            if *on && joined && program.is_bound(view.proto, view.dst_port) {
                self.hear((pc, index), &view, false);
            }
        }
    }

    /// The node puts a packet into this computer: one that came just now, or one that it says `again`.
    pub(super) fn inject(&mut self, pc: usize, how: Delivery, mut packet: Vec<u8>, again: bool) {
        let text = || {
            PacketView::parse(&packet)
                .map_or_else(|e| e.to_string(), |v| format!("{how:?} {} to {}", v.source(), v.destination()))
        };
        self.trace.note(self.now, Some(pc), if again { "repeat" } else { "inject" }, &packet, text);
        let before = packet.clone();
        if !fix_checksums(&mut packet) || packet != before {
            self.oracle
                .violate(self.now, format!("pc{pc} injects a packet with wrong checksums: {before:02x?}"));
        }
        let Ok(view) = PacketView::parse(&packet) else { return };
        let Some(lan) = self.pcs[pc].run.as_ref().and_then(|r| r.lan) else {
            self.oracle.violate(self.now, format!("pc{pc} injects a packet before it has an address"));
            return;
        };
        let to_all = view.dst == Ipv4Addr::BROADCAST || view.dst == lan.subnet.broadcast();
        let right = match how {
            Delivery::Tun => to_all || view.dst == lan.v4 || view.dst == lan.v6,
            Delivery::Group => view.to_multicast(),
        };
        if !right {
            self.oracle.violate(self.now, format!("pc{pc} injects a packet to {} by {how:?}", view.dst));
        }
        self.note_injection(pc, &view, again);
        for index in 0..self.pcs[pc].programs.len() {
            let (program, on) = &self.pcs[pc].programs[index];
            let joined = how == Delivery::Tun || program.has_joined(view.dst);
            if *on && joined && program.is_bound(view.proto, view.dst_port) {
                if again {
                    self.hear_again((pc, index), &view);
                } else {
                    self.hear((pc, index), &view, true);
                }
            }
        }
        let overheard = how == Delivery::Group || to_all;
        if overheard && self.chaos.echo > 0 && self.dice.chance(self.chaos.echo) {
            let wait = Duration::from_micros(u64::from(self.dice.below(5000)));
            self.after(wait, Event::Echo { pc, packet });
        }
    }

    /// What a node says again by itself must have come before, and its game must not be over for long.
    fn note_injection(&mut self, pc: usize, view: &PacketView<'_>, again: bool) {
        let sockets = (view.source(), view.destination());
        let saying = Saying::of(view).filter(|s| s.what == What::Announcement);
        let Some(saying) = saying else {
            if again {
                self.oracle.violate(self.now, format!("pc{pc} says again what is no announcement"));
            }
            return;
        };
        if !again {
            return self.oracle.repeats.came(pc, sockets, view.bytes, self.now);
        }
        let mut wrong = self.oracle.repeats.again(pc, sockets, view.bytes, RHYTHM, self.now);
        if self.chaos.fair && wrong.is_none() {
            let by = self.oracle.sayers(saying.mark, What::Announcement).next().map(|e| e.by);
            let last = by.and_then(|by| self.oracle.last_said(by));
            let over = last.is_none_or(|at| self.now.since(at) > OVER);
            wrong = over.then(|| "whose game is over".to_owned());
        }
        if let Some(wrong) = wrong {
            self.oracle.violate(self.now, format!("pc{pc} says {saying:?} again, {wrong}"));
        }
    }

    /// A program hears what its node said again.
    fn hear_again(&mut self, place: Place, view: &PacketView<'_>) {
        let Some(saying) = Saying::of(view) else { return };
        let copy = Copy { at: self.now, place, tunnelled: true, source: view.source(), again: true };
        self.oracle.heard(saying.mark, saying.what, copy, 0);
    }

    /// A program hears a packet.
    fn hear(&mut self, place: Place, view: &PacketView<'_>, tunnelled: bool) {
        let (pc, now) = (place.0, self.now);
        let Some(saying) = Saying::of(view) else {
            self.oracle.violate(now, format!("{place:?} heard something that no game says"));
            return;
        };
        let bytes =
            [mix(saying.mark, saying.what as u64).to_be_bytes(), (place.1 as u64).to_be_bytes()].concat();
        let text =
            || format!("{saying:?} from {} by program {}, tunnelled: {tunnelled}", view.source(), place.1);
        self.trace.note(now, Some(pc), "hear", &bytes, text);
        let wrongs: Vec<_> = self
            .oracle
            .sayers(saying.mark, saying.what)
            .map(|said| (said.by, self.misdelivery(place, view, said, tunnelled)))
            .collect();
        let Some((by, wrong)) = wrongs.first() else {
            self.oracle.violate(now, format!("{place:?} heard {saying:?}, which nobody said"));
            return;
        };
        let by = *by;
        if wrongs.iter().all(|(_, wrong)| wrong.is_some()) {
            let wrong = wrong.as_deref().unwrap_or_default();
            self.oracle.violate(now, format!("{place:?} heard {saying:?} of {by:?}: {wrong}"));
        }
        let copy = Copy { at: now, place, tunnelled, source: view.source(), again: false };
        let spare = self.spare_copies(by, pc);
        self.oracle.heard(saying.mark, saying.what, copy, spare);
        let think = Duration::from_micros(500 + u64::from(self.dice.below(3000)));
        let reply = match (&self.pcs[pc].programs[place.1].0, saying.what) {
            (Program::Server, What::Query) => What::Answer,
            (Program::Announcer { .. }, What::Syn) => What::SynAck,
            _ => return,
        };
        let saying = Saying { what: reply, mark: saying.mark };
        self.after(think, Event::Answer { place, to: view.source(), saying });
    }

    /// What is wrong with a copy that arrived, if anything.
    fn misdelivery(
        &self,
        place: Place,
        view: &PacketView<'_>,
        said: &Emission,
        tunnelled: bool,
    ) -> Option<String> {
        let (pc, by) = (place.0, said.by.0);
        if said.to.is_some_and(|to| to != pc) {
            return Some("it was said to another computer".to_owned());
        }
        if self.pcs[by].rogue.is_some() && !said.forbidden {
            return None;
        }
        if view.src_port != said.port && !said.forbidden {
            return Some(format!("it left from port {} and came from port {}", said.port, view.src_port));
        }
        if !tunnelled {
            return None;
        }
        if said.forbidden {
            return Some("nobody may come in by this door".to_owned());
        }
        if by == pc {
            return Some("it was its own".to_owned());
        }
        if !self.pcs[by].had_address(view.src, OLD_ADDRESS, self.now) {
            return Some(format!("it came from {}, which was never the speaker's", view.src));
        }
        let title = title_of(said.what)?;
        let silent = [by, pc].into_iter().find(|p| !self.pcs[*p].plays(title));
        silent.map(|p| format!("pc{p} does not play {}", title.profile()))
    }

    /// How many copies more than were said may come of what a program says: what was remembered is handed to each run
    /// of a node that comes late, whatever the programs there heard before.
    fn spare_copies(&self, by: Place, pc: usize) -> usize {
        match self.pcs[by.0].programs.get(by.1) {
            Some((Program::Announcer { always: Some(_), .. }, _)) => self.pcs[pc].born.len(),
            Some((Program::Announcer { .. }, _)) => {
                self.pcs[pc].born.iter().filter(|at| self.now.since(**at) < REMEMBERED).count()
            }
            _ => 0,
        }
    }
}

/// Whose game a saying belongs to.
const fn title_of(what: What) -> Option<Title> {
    match what {
        What::Announcement | What::Syn | What::SynAck => Some(Title::Minecraft),
        What::Query | What::Answer => Some(Title::OpenArena),
        What::Knock => None,
    }
}
