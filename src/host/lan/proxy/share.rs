//! `--share-lan`: other computers and consoles of the player's own network see and join the games that were found. For
//! them this computer is the server: each peer's port has a socket at this computer's own address there, and each socket
//! of a neighbour has a port of our address in the party (`guests`).
//!
//! Only networks with private addresses are shared, only with computers that are in them, and only one way: what
//! neighbours search is carried to the party, what they announce is not. Off unless asked for, and then nothing here opens
//! anything.

pub(super) mod guests;
pub(super) mod hand;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use guests::{Guest, Guests};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::bells::Bells;
use super::is_not_to_be_had;
use super::local::Locals;
use super::stands::{DATAGRAM, HEADERS, Reading, SHARE, Us};
use crate::buf::batch::Source;
use crate::model::addr::{Card, Net};
use crate::model::id::CardId;
use crate::wire::packet::write_udp;

/// Networks at once.
const NETS: usize = 8;
/// Sockets in all.
const MOST: usize = 256;
/// Sockets for one peer in one network.
const OF_ONE: usize = 32;
/// An unused socket is closed after this; as long as the firewall remembers a flow.
const IDLE: Duration = Duration::from_secs(120);
/// Bursts while another program holds the core.
const BUFFER: usize = 1 << 20;

/// A network that is shared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) card: CardId,
    /// This computer's address there.
    pub(super) at: Ipv4Addr,
    net: Net,
}

impl Own {
    /// Whether this address is in the network, and may be somebody's.
    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        self.net.contains(IpAddr::V4(address)) && !address.is_unspecified()
    }
}

/// Peers' ports, at this computer's addresses in its own networks.
pub(super) struct Share {
    on: bool,
    nets: Vec<Own>,
    open: BTreeMap<u32, Shared>,
    /// By our address in the network and the peer's port.
    numbers: BTreeMap<(Ipv4Addr, SocketAddrV4), u32>,
    next: u32,
    bells: Bells,
    guests: Guests,
    datagram: Box<[u8; DATAGRAM]>,
}

struct Shared {
    socket: tokio::net::UdpSocket,
    own: Own,
    /// The peer's port that it stands for.
    of: SocketAddrV4,
    local: SocketAddrV4,
    bell: Waker,
    used: Instant,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share")
            .field("nets", &self.nets)
            .field("numbers", &self.numbers)
            .finish_non_exhaustive()
    }
}

impl Share {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            nets: Vec::new(),
            open: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
            bells: Bells::default(),
            guests: Guests::default(),
            datagram: Box::new([0; DATAGRAM]),
        }
    }

    /// The networks that are shared with now. Sockets of others are closed; the addresses that went are given back.
    pub(super) fn set_cards(&mut self, cards: &[Card]) -> Vec<Ipv4Addr> {
        if !self.on {
            return Vec::new();
        }
        let own = |card: &Card| {
            let card_id = card.id;
            let nets = card.nets.clone().into_iter();
            nets.filter_map(move |net| match net.addr {
                IpAddr::V4(at) => Some(Own { card: card_id, at, net }),
                IpAddr::V6(_) => None,
            })
        };
        let all: Vec<Own> = cards.iter().flat_map(own).collect();
        let (private, public): (Vec<Own>, Vec<Own>) = all.into_iter().partition(|own| is_private(own.at));
        let before = std::mem::replace(&mut self.nets, private.into_iter().take(NETS).collect());
        for own in public.iter().filter(|_| before != self.nets) {
            tracing::warn!(address = %own.at, "not shared with this network: its addresses are not private ones");
        }
        let nets = &self.nets;
        let gone: Vec<Ipv4Addr> =
            before.iter().map(|own| own.at).filter(|at| !nets.iter().any(|n| n.at == *at)).collect();
        self.close_where(|shared| gone.contains(&shared.own.at));
        gone
    }

    /// The networks, ours in them first.
    pub(super) fn nets(&self) -> &[Own] {
        &self.nets
    }

    /// Whether anybody is shared with.
    pub(super) const fn is_on(&self) -> bool {
        !self.nets.is_empty()
    }

    /// The network in which this computer is a neighbour.
    pub(super) fn net_of(&self, neighbour: Ipv4Addr) -> Option<Own> {
        self.nets.iter().find(|own| own.has(neighbour)).copied()
    }

    /// Whether one of our own sockets sent from here.
    pub(super) fn is_ours(&self, from: SocketAddrV4) -> bool {
        self.open.values().any(|shared| shared.local == from)
    }

    /// The port in the party that stands for a neighbour's socket.
    pub(super) fn welcome(
        &mut self,
        from: SocketAddrV4,
        own: Own,
        locals: &mut Locals,
        now: Instant,
    ) -> Option<u16> {
        self.guests
            .port(from, own.at, now, |port| locals.home(port, now).is_some_and(|_| cfg!(target_os = "linux")))
    }

    /// The neighbour for whom this port of ours stands.
    pub(super) fn guest(&mut self, port: u16, now: Instant) -> Option<Guest> {
        if self.is_on() { self.guests.of(port, now) } else { None }
    }

    /// Where a peer's port is in this network; made if it is not there yet.
    pub(super) fn open(&mut self, own: Own, of: SocketAddrV4, now: Instant) -> io::Result<SocketAddrV4> {
        let key = (own.at, of);
        if let Some(shared) = self.numbers.get(&key).and_then(|n| self.open.get_mut(n)) {
            shared.used = now;
            return Ok(shared.local);
        }
        let first = (own.at, SocketAddrV4::new(*of.ip(), 0));
        let last = (own.at, SocketAddrV4::new(*of.ip(), u16::MAX));
        if self.open.len() >= MOST || self.numbers.range(first..=last).count() >= OF_ONE {
            return Err(io::Error::other("there are too many sockets already"));
        }
        let (socket, local) = bind(own.at, of.port())?;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let shared = Shared { socket, own, of, local, bell: self.bells.bell(number), used: now };
        self.bells.hang(number, &shared.socket, &shared.bell);
        self.open.insert(number, shared);
        self.numbers.insert(key, number);
        Ok(local)
    }

    /// Where that is, if it is.
    pub(super) fn local(&self, own: Own, of: SocketAddrV4) -> Option<SocketAddrV4> {
        self.numbers.get(&(own.at, of)).and_then(|n| self.open.get(n)).map(|shared| shared.local)
    }

    /// Sends what a peer sent, by the socket of its port in this network.
    pub(super) fn send(
        &mut self,
        own: Own,
        from: SocketAddrV4,
        to: SocketAddrV4,
        payload: &[u8],
        now: Instant,
    ) -> io::Result<()> {
        self.open(own, from, now)?;
        let shared = self.numbers.get(&(own.at, from)).and_then(|n| self.open.get(n));
        let shared = shared.ok_or(io::ErrorKind::NotConnected)?;
        // Not through the runtime's readiness: it knows of none before it first slept.
        SockRef::from(&shared.socket).send_to(payload, &SockAddr::from(to)).map(drop)
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.numbers.clear();
        self.guests.clear();
    }

    /// Closes those that nobody used for a while and nobody `keeps`.
    pub(super) fn sweep(&mut self, keeps: impl Fn(SocketAddrV4) -> bool, now: Instant) {
        self.close_where(|shared| now.duration_since(shared.used) >= IDLE && !keeps(shared.of));
        let nets = &self.nets;
        self.guests.sweep(|at| nets.iter().any(|own| own.at == at), now);
    }

    /// Closes those that hold one of these ports.
    pub(super) fn release(&mut self, ports: impl Fn(u16) -> bool) {
        self.close_where(|shared| ports(shared.local.port()));
    }

    fn close_where(&mut self, closes: impl Fn(&Shared) -> bool) {
        let Self { open, numbers, .. } = self;
        open.retain(|_, shared| !closes(shared));
        numbers.retain(|_, number| open.contains_key(number));
    }

    /// How many sockets there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Ready when one of them has something to read.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.bells.poll(cx)
    }

    /// Reads what neighbours sent to peers' ports, until nothing is left or the batch is full.
    pub(super) fn read(&mut self, us: Us, reading: &mut Reading<'_>, locals: &mut Locals) {
        // Each at most twice: a socket whose errors never end must not keep the loop.
        for _ in 0..2 * self.bells.rung() {
            if reading.is_done() {
                return;
            }
            let Some(number) = self.bells.take() else { return };
            if self.read_one(number, us, reading, locals) {
                self.bells.ring(number);
            } else if let Some(shared) = self.open.get(&number) {
                self.bells.hang(number, &shared.socket, &shared.bell);
            }
        }
    }

    /// Reads one socket's share; true when there may be more.
    fn read_one(&mut self, number: u32, us: Us, reading: &mut Reading<'_>, locals: &mut Locals) -> bool {
        for _ in 0..SHARE {
            if reading.is_done() {
                return true;
            }
            let Self { open, datagram, .. } = self;
            let Some(shared) = open.get_mut(&number) else { return false };
            let (own, of) = (shared.own, shared.of);
            match shared.socket.try_recv_from(&mut **datagram) {
                Ok((len, SocketAddr::V4(from))) if own.has(*from.ip()) => {
                    shared.used = reading.now;
                    self.take((own, from), of, len, us, reading, locals);
                }
                Ok(_) => reading.counters.strangers += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Systems that report by the next read that an earlier datagram found nobody.
                Err(_) => {}
            }
        }
        true
    }

    fn take(
        &mut self,
        (own, from): (Own, SocketAddrV4),
        of: SocketAddrV4,
        len: usize,
        us: Us,
        reading: &mut Reading<'_>,
        locals: &mut Locals,
    ) {
        if HEADERS + len > usize::from(us.mtu) {
            reading.counters.too_long += 1;
            return;
        }
        let Some(port) = self.welcome(from, own, locals, reading.now) else {
            reading.counters.no_stand += 1;
            return;
        };
        let Some(slot) = reading.batch.next(Source::Tun) else { return };
        let source = SocketAddrV4::new(us.v4, port);
        let payload = self.datagram.get(..len).unwrap_or(&[]);
        match write_udp(slot.room(), source.into(), of.into(), 64, payload) {
            Some(len) => {
                slot.set_len(len);
                reading.counters.shared_in += 1;
            }
            None => {
                reading.batch.give_back();
                reading.counters.too_long += 1;
            }
        }
    }
}

/// Addresses of homes and schools: RFC 1918, and those that computers give themselves (RFC 3927). Behind others strangers
/// may be neighbours.
const fn is_private(at: Ipv4Addr) -> bool {
    at.is_private() || at.is_link_local()
}

/// A socket at this computer's address in a network: at this port, or at a free one where that is taken.
fn bind(at: Ipv4Addr, port: u16) -> io::Result<(tokio::net::UdpSocket, SocketAddrV4)> {
    let bind = |port: u16| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_broadcast(true)?;
        // Games of this computer hear groups by the loopback already.
        socket.set_multicast_loop_v4(false)?;
        let _ = socket.set_recv_buffer_size(BUFFER);
        socket.bind(&SocketAddr::from((at, port)).into())?;
        Ok::<_, io::Error>(socket)
    };
    let socket = match bind(port) {
        Err(e) if is_not_to_be_had(&e) => bind(0)?,
        other => other?,
    };
    let local = socket.local_addr()?.as_socket_ipv4().ok_or(io::ErrorKind::Unsupported)?;
    Ok((tokio::net::UdpSocket::from_std(socket.into())?, local))
}
