//! Hearing what the local games say to everybody, without capture rights: a program's broadcasts and multicasts come back
//! to the sockets of its own computer.
//!
//! Each socket is bound to the very destination that it is for (255.255.255.255, a card's broadcast address, a group) at a
//! port that the profiles name, so it can never swallow what is sent to the game itself, and what it reads needs no guessing
//! whom it was for. Only what this computer sent is taken: the physical network is not bridged, but for the searches of
//! neighbours where games are shared with them (`share`).
//!
//! A game that does not share its port cannot start while we hold it, at whatever address; so the ports of broadcasts are
//! held only while somebody searches or there is something to find (`search`), all are let go when a game starts (`room`),
//! and a port that the game then holds alone is tried again now and then. What is sent to such a port is not heard
//! meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::bells::Bells;
use super::local::Locals;
use super::room::Room;
use super::share::{Own, Share};
use super::stands::{DATAGRAM, HEADERS, Reading, SHARE, Us};
use super::{is_stand_in, v4};
use crate::buf::batch::Source;
use crate::model::addr::{Card, Net};
use crate::rules::profile::To;
use crate::rules::ruleset::{RuleKind, Ruleset, Side};
use crate::wire::frame::Class;
use crate::wire::packet::{PacketView, write_udp};

/// Sockets in all: sixteen games on four cards.
const MOST: usize = 512;
/// Longer ranges of ports are not listened to: no game searches by broadcasts to so many.
const RANGE: usize = 64;
/// The loopback device has the same number everywhere.
const LOOPBACK: u32 = 1;

/// What is asked about whoever is heard.
pub(super) struct Around<'a> {
    pub(super) share: &'a mut Share,
    pub(super) rules: &'a Ruleset,
    pub(super) locals: &'a mut Locals,
    pub(super) room: &'a mut Room,
}

/// The sockets that hear the local games.
#[derive(Default)]
pub(super) struct Hearing {
    wanted: BTreeSet<SocketAddrV4>,
    /// By number, which the bells know.
    ears: BTreeMap<u32, Ear>,
    cards: Vec<Card>,
    next: u32,
    bells: Bells,
    /// What is said of a port that somebody else holds alone is said once.
    told: BTreeSet<u16>,
}

struct Ear {
    socket: tokio::net::UdpSocket,
    to: SocketAddrV4,
    /// Where the group was joined, if it is for one.
    joined: Vec<u32>,
    bell: Waker,
}

impl std::fmt::Debug for Hearing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hearing").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Hearing {
    /// What the profiles want to be heard, on these cards. Opens nothing; closes what is not wanted any more.
    pub(super) fn want(&mut self, rules: &Ruleset, cards: &[Card]) {
        self.cards = cards.to_vec();
        let directed: Vec<Ipv4Addr> =
            cards.iter().flat_map(|card| &card.nets).filter_map(Net::broadcast).collect();
        let addresses = |to: &To| match to {
            To::Unicast => Vec::new(),
            To::Limited => vec![Ipv4Addr::BROADCAST],
            To::Directed => directed.clone(),
            To::Group(group) => v4(*group).into_iter().collect(),
        };
        let destinations =
            rules.heard().iter().filter(|(ports, _)| ports.len() <= RANGE).flat_map(|(ports, to)| {
                let addresses = addresses(to);
                ports.clone().flat_map(move |port| {
                    addresses.clone().into_iter().map(move |address| SocketAddrV4::new(address, port))
                })
            });
        self.wanted = destinations.take(MOST).collect();
        let devices = self.devices();
        let Self { ears, wanted, .. } = self;
        ears.retain(|_, ear| wanted.contains(&ear.to) && (ear.joined.is_empty() || ear.joined == devices));
    }

    /// Opens what is wanted and not open. Ports that somebody holds alone are left for the next time.
    ///
    /// `broadcasts`: also those for which a server of the game would have no room beside us.
    pub(super) fn open(&mut self, broadcasts: bool) {
        let open: BTreeSet<SocketAddrV4> = self.ears.values().map(|ear| ear.to).collect();
        let missing: Vec<SocketAddrV4> = self.wanted.difference(&open).copied().collect();
        for to in missing.into_iter().filter(|to| broadcasts || to.ip().is_multicast()) {
            match self.open_one(to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.tell(to.port()),
                Err(error) => tracing::debug!(%error, %to, "local games cannot be heard there"),
            }
        }
    }

    /// Not a warning: whoever plays host loses nothing by it, because his game answers by the stand-ins.
    fn tell(&mut self, port: u16) {
        if self.told.insert(port) {
            tracing::info!(
                port,
                "a program holds this port alone; what is broadcast to it is not heard meanwhile"
            );
        }
    }

    fn open_one(&mut self, to: SocketAddrV4) -> io::Result<()> {
        let socket = listener(to)?;
        let joined = if to.ip().is_multicast() { self.join(&socket, *to.ip()) } else { Vec::new() };
        let socket = tokio::net::UdpSocket::from_std(socket.into())?;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let ear = Ear { socket, to, joined, bell: self.bells.bell(number) };
        self.bells.hang(number, &ear.socket, &ear.bell);
        self.ears.insert(number, ear);
        Ok(())
    }

    /// The devices on which groups are joined.
    fn devices(&self) -> Vec<u32> {
        std::iter::once(LOOPBACK).chain(self.cards.iter().map(|card| card.id.0)).collect()
    }

    /// A card that cannot join counts as joined: it is not to be tried again with every news of cards.
    fn join(&self, socket: &Socket, group: Ipv4Addr) -> Vec<u32> {
        let devices = self.devices();
        for device in &devices {
            let joined = socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(*device));
            if let Err(error) = joined {
                tracing::debug!(%error, %group, device, "a group could not be joined");
            }
        }
        devices
    }

    /// Leaves the ports of broadcasts to whoever wants them.
    pub(super) fn leave_broadcasts(&mut self) {
        self.ears.retain(|_, ear| ear.to.ip().is_multicast());
    }

    /// A game that holds the first port of those it searches asks the others too, and only these are heard: what is heard
    /// at one stands for the one below where that is deaf.
    fn deaf_below(&self, to: SocketAddrV4) -> Option<SocketAddrV4> {
        let below = SocketAddrV4::new(*to.ip(), to.port().checked_sub(1)?);
        let hears = || self.ears.values().any(|ear| ear.to == below);
        (!to.ip().is_multicast() && self.wanted.contains(&below) && !hears()).then_some(below)
    }

    /// Whether games that search are heard by broadcasts at all.
    pub(super) fn wants_broadcasts(&self) -> bool {
        self.wanted.iter().any(|to| !to.ip().is_multicast())
    }

    /// Closes all; they can be opened again.
    pub(super) fn let_go(&mut self) {
        self.ears.clear();
    }

    /// How many are open, and how many more are wanted.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.ears.len(), self.wanted.len().saturating_sub(self.ears.len()))
    }

    /// The memberships that these sockets hold.
    pub(super) fn memberships(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        let group = |ear: &Ear| IpAddr::V4(*ear.to.ip());
        self.ears.values().flat_map(move |ear| ear.joined.iter().map(move |device| (group(ear), *device)))
    }

    /// Ready when one of them has something to read.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.bells.poll(cx)
    }

    /// Reads what local games said to everybody, and remembers where each sends from.
    pub(super) fn read(&mut self, us: Us, reading: &mut Reading<'_>, mut around: Around<'_>) {
        let mut room = [0; DATAGRAM];
        // Each at most twice: a socket whose errors never end must not keep the loop.
        for _ in 0..2 * self.bells.rung() {
            if reading.is_done() {
                return;
            }
            let Some(number) = self.bells.take() else { return };
            let Some(ear) = self.ears.get(&number) else { continue };
            let mut more = true;
            for _ in 0..SHARE {
                if reading.is_done() {
                    break;
                }
                match ear.socket.try_recv_from(&mut room) {
                    Ok((len, SocketAddr::V4(from))) => {
                        let payload = room.get(..len).unwrap_or(&[]);
                        let mut take = |to| take(us, &self.cards, (from, to), payload, reading, &mut around);
                        if take(ear.to)
                            && let Some(below) = self.deaf_below(ear.to)
                        {
                            take(below);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        more = false;
                        break;
                    }
                    Ok((_, SocketAddr::V6(_))) | Err(_) => {}
                }
            }
            if more {
                self.bells.ring(number);
            } else {
                self.bells.hang(number, &ear.socket, &ear.bell);
            }
        }
    }
}

/// Makes a packet of what was heard; false when it is none of our games'.
fn take(
    us: Us,
    cards: &[Card],
    (from, to): (SocketAddrV4, SocketAddrV4),
    payload: &[u8],
    reading: &mut Reading<'_>,
    around: &mut Around<'_>,
) -> bool {
    if is_stand_in(*from.ip()) || around.share.is_ours(from) {
        // What was handed to the local games for a peer. It is heard every time, so it is not counted.
        return false;
    }
    let has = |card: &&Card| card.nets.iter().any(|net| net.addr == IpAddr::V4(*from.ip()));
    let neighbour = around.share.net_of(*from.ip());
    let source = match (cards.iter().find(has), neighbour) {
        (Some(card), _) => Source::Card(card.id),
        (None, _) if from.ip().is_loopback() => Source::Tun,
        (None, Some(own)) => Source::Card(own.card),
        (None, None) => {
            reading.counters.not_ours += 1;
            return false;
        }
    };
    if HEADERS + payload.len() > usize::from(us.mtu) {
        reading.counters.too_long += 1;
        return false;
    }
    let is_neighbour = neighbour.filter(|own| own.at != *from.ip() && !from.ip().is_loopback());
    let port = match is_neighbour {
        None => Some(from.port()),
        Some(own) => around.port_of(from, own, to, payload, reading.now),
    };
    let Some(port) = port else {
        reading.counters.not_ours += 1;
        return false;
    };
    let Some(slot) = reading.batch.next(source) else { return false };
    let own = SocketAddrV4::new(us.v4, port);
    let Some(len) = write_udp(slot.room(), own.into(), to.into(), 1, payload) else {
        reading.batch.give_back();
        reading.counters.too_long += 1;
        return false;
    };
    slot.set_len(len);
    if is_neighbour.is_some() {
        reading.counters.shared_in += 1;
    } else {
        reading.counters.heard += 1;
        around.locals.note(from);
        around.room.heed_speaker(from.port(), reading.now);
    }
    true
}

impl Around<'_> {
    /// The port in the party for what a neighbour said to everybody, if that was a search.
    fn port_of(
        &mut self,
        from: SocketAddrV4,
        own: Own,
        to: SocketAddrV4,
        payload: &[u8],
        now: Instant,
    ) -> Option<u16> {
        let mut room = [0; DATAGRAM + HEADERS];
        let len = write_udp(&mut room, from.into(), to.into(), 1, payload)?;
        let view = PacketView::parse(room.get(..len)?).ok()?;
        let class = match *to.ip() {
            Ipv4Addr::BROADCAST => Class::Limited,
            to if to.is_multicast() => Class::Multicast,
            _ => Class::Directed,
        };
        let rule = self.rules.classify(&view, class, Side::FromGame)?;
        self.rules.facts(rule).filter(|facts| facts.kind == RuleKind::Query)?;
        self.share.welcome(from, own, self.locals, now)
    }
}

fn listener(to: SocketAddrV4) -> io::Result<Socket> {
    if !cfg!(target_os = "linux") {
        // Elsewhere a socket cannot be bound to a destination that is not an address of its own.
        return Err(io::ErrorKind::Unsupported.into());
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(to).into())?;
    Ok(socket)
}
