//! What a peer sent, handed to the games of this computer: by the stand-in of the peer's address and port, to where the game
//! listens.
//!
//! Broadcasts go to the loopback network's own broadcast address, which reaches every socket that is bound to all addresses
//! and never leaves this computer; multicasts go as `groups` says. What nobody listens to makes no stand-ins.
//!
//! What a peer's game says of itself opens the stand-ins by which it is joined (`found`), and addresses in it are replaced
//! once more: the engine wrote the virtual address, here the game needs the stand-in's.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::found::Door;
use super::groups::Way;
use super::share::hand::Handed;
use super::stands::NoStand;
use super::{ProxyPort, v4};
use crate::model::addr::{Seat, stand_in};
use crate::rules::ruleset::{ProfileIx, RewriteTo, RuleFacts, RuleIx, RuleKind, Ruleset, Side, Transport};
use crate::wire::frame::Class;
use crate::wire::packet::{PacketView, proto};

/// The broadcast address of the loopback network.
const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);
/// How much longer than an announcement's life a game can be joined: who saw it last moment still gets in. The engine's
/// firewall lets it in for as long.
const JOIN_GRACE: Duration = Duration::from_secs(60);
/// A game of the party's list stays open for this long after it was last named: it is named every five seconds.
const LISTED: Duration = Duration::from_secs(15);
/// What only the list knows is closed by no packet of a game's.
const NO_PROFILE: ProfileIx = ProfileIx(u16::MAX);
/// Fixed play ports of one profile that are opened together with its game. Games with a port for queries or voice beside
/// the one to join have two or three; ranges are there for second and third servers.
const PLAY_PORTS: usize = 4;

/// A peer's datagram, by its addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mail {
    /// The peer's virtual address and port.
    pub(super) from: SocketAddrV4,
    pub(super) seat: Seat,
    pub(super) to: SocketAddrV4,
}

/// Where on this computer it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    One(Ipv4Addr),
    Everyone,
    Group(Way),
}

impl ProxyPort {
    /// Hands the packet in the room over.
    pub(super) fn deliver(&mut self) {
        let mut room = std::mem::take(&mut self.room);
        let len = room.packet().len();
        // The packet lies at the start of the room; behind it is space for addresses that are longer.
        self.hand_over(room.room(), len);
        self.room = room;
    }

    fn hand_over(&mut self, room: &mut [u8], len: usize) {
        let Some(Ok(view)) = room.get(..len).map(PacketView::parse) else {
            self.counters.malformed += 1;
            return;
        };
        match view.proto {
            proto::TCP if view.src.is_ipv4() && !view.fragment => self.tcp.take(view.bytes),
            proto::UDP if view.src.is_ipv4() && !view.fragment => {
                let len = view.bytes.len();
                self.hand_over_udp(room, len);
            }
            _ => self.counters.not_carried += 1,
        }
    }

    fn hand_over_udp(&mut self, room: &mut [u8], len: usize) {
        let Some(Ok(view)) = room.get(..len).map(PacketView::parse) else { return };
        let Some(mail) = self.addressed(&view) else {
            self.counters.malformed += 1;
            return;
        };
        let matched = self.matched(&view);
        if let Some((rule, facts)) = &matched
            && facts.kind == RuleKind::Closing
        {
            self.close_game(*rule, facts, &mail, &view);
        }
        if self.share.is_on() && self.share_out(&mail, view.bytes, matched.as_ref()) == Handed::Wholly {
            return;
        }
        let Some(target) = self.target(&mail) else {
            self.counters.nobody += 1;
            return;
        };
        let mut len = len;
        if let Some((rule, facts)) = matched {
            let door = self.note(rule, &facts, &mail, &view).map(|(_, local)| local);
            match self.rewritten(rule, &facts, room, len, &mail, door) {
                Some(new) => len = new,
                None => {
                    self.counters.rewrite += 1;
                    return;
                }
            }
            if facts.keep_source_port && !self.stand_for(mail.from, true) {
                return;
            }
        }
        let Some(Ok(view)) = room.get(..len).map(PacketView::parse) else { return };
        self.send(&mail, target, view.payload());
    }

    /// What of it is for neighbours.
    fn share_out(&mut self, mail: &Mail, packet: &[u8], matched: Option<&(RuleIx, RuleFacts)>) -> Handed {
        let to_us = *mail.to.ip() == self.config.v4;
        if let Some(guest) = self.share.guest(mail.to.port(), self.now).filter(|_| to_us) {
            self.hand_to_guest(guest, mail, packet, matched);
            return Handed::Wholly;
        }
        matched.map_or(Handed::Also, |matched| self.hand_to_neighbours(mail, packet, matched))
    }

    fn addressed(&self, view: &PacketView<'_>) -> Option<Mail> {
        let (peer, to) = (v4(view.src)?, v4(view.dst)?);
        let seat = self.config.subnet.seat_of(peer).filter(|_| peer != self.config.v4)?;
        let from = SocketAddrV4::new(peer, view.src_port);
        (view.src_port != 0).then_some(Mail { from, seat, to: SocketAddrV4::new(to, view.dst_port) })
    }

    pub(super) fn class_of(&self, to: Ipv4Addr) -> Class {
        match to {
            Ipv4Addr::BROADCAST => Class::Limited,
            to if to.is_multicast() => Class::Multicast,
            to if to == self.config.subnet.broadcast() => Class::Directed,
            _ => Class::Unicast,
        }
    }

    /// What the packet is. A rule may have it delivered in another class than it was sent in.
    fn matched(&self, view: &PacketView<'_>) -> Option<(RuleIx, RuleFacts)> {
        let class = self.class_of(v4(view.dst)?);
        let all = [Class::Limited, Class::Directed, Class::Multicast, Class::Unicast];
        let rules: &Ruleset = &self.rules;
        let fits = |sent: Class| {
            let rule = rules.classify(view, sent, Side::FromPeer)?;
            let facts = rules.facts(rule)?;
            (sent == class || facts.deliver == Some(class)).then(|| (rule, facts.clone()))
        };
        fits(class).or_else(|| all.into_iter().find_map(fits))
    }

    fn target(&mut self, mail: &Mail) -> Option<Target> {
        let (to, port) = (*mail.to.ip(), mail.to.port());
        match self.class_of(to) {
            Class::Multicast => {
                let everywhere = self.locals.is_everywhere(port, self.now);
                let others = self.hearing.memberships();
                self.groups.way(to, everywhere, others, self.now).map(Target::Group)
            }
            Class::Limited | Class::Directed => self.home(port).map(|_| Target::Everyone),
            Class::Unicast => self.home(port).map(Target::One),
        }
    }

    /// Where a game of this computer listens; what is open to neighbours is none.
    fn home(&mut self, port: u16) -> Option<Ipv4Addr> {
        let home = self.locals.home(port, self.now)?;
        (!self.share.is_ours(SocketAddrV4::new(home, port))).then_some(home)
    }

    fn send(&mut self, mail: &Mail, target: Target, payload: &[u8]) {
        let port = mail.to.port();
        let (to, counts) = match target {
            Target::Group(Way::Broadcast) => {
                self.counters.group_by_broadcast += 1;
                (LOOPBACK_BROADCAST, &mut self.counters.group_out)
            }
            Target::Group(Way::Loopback) => (*mail.to.ip(), &mut self.counters.group_out),
            Target::Everyone => (LOOPBACK_BROADCAST, &mut self.counters.broadcast_out),
            Target::One(home) => (home, &mut self.counters.udp_out),
        };
        *counts += 1;
        if !self.stand_for(mail.from, false) {
            return;
        }
        let sent = self.stands.send(mail.from, SocketAddrV4::new(to, port), payload, self.now);
        match sent {
            Ok(()) => self.broadcasts += u64::from(to == LOOPBACK_BROADCAST),
            Err(error) => {
                self.counters.refused += 1;
                tracing::trace!(%error, "the system did not take a packet");
            }
        }
    }

    /// Makes sure that something stands for a peer's port.
    fn stand_for(&mut self, of: SocketAddrV4, exact: bool) -> bool {
        self.stand_at(of, exact).is_some()
    }

    fn stand_at(&mut self, of: SocketAddrV4, exact: bool) -> Option<SocketAddrV4> {
        let known = self.stands.local(of).is_some();
        // A game starts, and may want this port for itself; a client that just started waits for answers already.
        self.stands.elsewhere = self.is_letting_go(of.port());
        match self.stands.open(of, exact, self.now) {
            Ok(local) => {
                self.counters.moved += u64::from(!known && local.port() != of.port());
                Some(local)
            }
            Err(NoStand::PortTaken) => {
                self.counters.port_taken += 1;
                None
            }
            Err(NoStand::TooMany | NoStand::Refused) => {
                self.counters.no_stand += 1;
                None
            }
        }
    }

    /// A peer's game speaks of itself, or asks: opens what leads to it. What it is to be joined by, and where that is on this
    /// computer, if it says so.
    pub(super) fn note(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        mail: &Mail,
        view: &PacketView<'_>,
    ) -> Option<(Door, SocketAddrV4)> {
        let peer = *mail.from.ip();
        let door = |(transport, port)| Door { of: SocketAddrV4::new(peer, port), transport };
        match facts.kind {
            RuleKind::Closing => None,
            RuleKind::Query => {
                let ports = facts.answers_tcp.iter().cloned().flatten().take(PLAY_PORTS);
                for port in ports {
                    self.open_door(door((Transport::Tcp, port)), facts, facts.answers_within);
                }
                None
            }
            RuleKind::Announcement | RuleKind::Answer => {
                let life = facts.life + JOIN_GRACE;
                let named = self.rules.describe(rule, view).map(|game| (game.transport, game.port));
                let opens = self.rules.opens(rule, view).filter(|_| facts.opens);
                let mut open = |at, life| Some((door(at), self.open_door(door(at), facts, life)?));
                let named = named.and_then(|at| open(at, life));
                let opens = opens.and_then(|at| open(at, JOIN_GRACE));
                self.open_play_ports(facts, door, life);
                named.or(opens)
            }
        }
    }

    /// The fixed ports of a game that is there, where they are free.
    fn open_play_ports(
        &mut self,
        facts: &RuleFacts,
        door: impl Fn((Transport, u16)) -> Door,
        life: Duration,
    ) {
        let ports = |(transport, range): (Transport, crate::rules::ports::PortRange)| {
            range.map(move |port| (transport, port))
        };
        let fixed: Vec<_> =
            self.rules.play_ports(facts.profile).flat_map(ports).take(PLAY_PORTS + 1).collect();
        if fixed.len() <= PLAY_PORTS {
            for at in fixed {
                self.open_door(door(at), facts, life);
            }
        }
    }

    /// A game of the party's list: most are silent until somebody asks, and players may join by address before.
    pub(super) fn keep(&mut self, of: SocketAddrV4, transport: Transport) {
        let of_peer = *of.ip() != self.config.v4 && self.config.subnet.seat_of(*of.ip()).is_some();
        if !of_peer || self.found.keep(of, transport, self.now + LISTED) {
            return;
        }
        let door = Door { of, transport };
        if let Some(local) = self.open_at(door) {
            self.found.renew(door, NO_PROFILE, local, self.now + LISTED);
            self.share_door(door);
        }
    }

    fn open_door(&mut self, door: Door, facts: &RuleFacts, life: Duration) -> Option<SocketAddrV4> {
        let local = self.open_at(door)?;
        self.found.renew(door, facts.profile, local, self.now + life);
        self.share_door(door);
        Some(local)
    }

    fn open_at(&mut self, door: Door) -> Option<SocketAddrV4> {
        if !self.found.has_room(&door) {
            self.counters.no_stand += 1;
            return None;
        }
        match door.transport {
            Transport::Udp => self.stand_at(door.of, false),
            Transport::Tcp if self.is_letting_go(door.of.port()) => None,
            Transport::Tcp => {
                let opened = self.tcp.open(door.of);
                opened.inspect_err(|error| tracing::debug!(%error, "no listener for a peer's game")).ok()
            }
        }
    }

    fn close_game(&mut self, rule: RuleIx, facts: &RuleFacts, mail: &Mail, view: &PacketView<'_>) {
        let at = self.rules.describe(rule, view).map(|game| (game.transport, game.port));
        let doors = self.found.over(*mail.from.ip(), facts.profile, at);
        self.close_doors(&doors);
    }

    /// Doors that are in the table no more. UDP sockets stay for whoever plays by them, and close when idle.
    pub(super) fn close_doors(&mut self, doors: &[Door]) {
        for door in doors.iter().filter(|door| door.transport == Transport::Tcp) {
            self.tcp.close(door.of);
        }
    }

    /// Puts the stand-in's address where the payload names the peer's.
    fn rewritten(
        &self,
        rule: RuleIx,
        facts: &RuleFacts,
        room: &mut [u8],
        len: usize,
        mail: &Mail,
        door: Option<SocketAddrV4>,
    ) -> Option<usize> {
        if !facts.rewrites && !facts.rewrites_port {
            return Some(len);
        }
        let (at, port) = (stand_in(*mail.from.ip()), door.map(|door| door.port()));
        let to = RewriteTo { seat: mail.seat, v4: at, v6: at.to_ipv6_mapped(), port };
        self.rules.rewrite(rule, room, len, &to)
    }
}
