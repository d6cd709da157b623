//! The UDP half of the stand-ins: one socket for each peer's address and port that a game of this computer can meet, bound
//! to the loopback address that stands for the peer. What comes from the peer leaves by it, what the local game sends to it
//! goes to the peer, so ports survive both ways and a server can tell its players apart by address.
//!
//! A local game that holds the same port on every address (0.0.0.0), and does not share it, keeps the socket from the port;
//! then it gets a free one. Where the port itself matters the caller says so and goes without.
//!
//! Bounded in number, for one peer and in all; closed when idle. 127/8 cannot be reached from any wire.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::bells::Bells;
use super::counters::ProxyCounters;
use super::guard::only_this_computer;
use super::local::is_bound;
use super::{is_not_to_be_had, is_stand_in};
use crate::buf::batch::{Batch, Source};
use crate::model::addr::stand_in;
use crate::wire::packet::write_udp;

/// Sockets in all: 64 peers with a handful of ports each, and some to spare.
const MOST: usize = 512;
/// Sockets of one peer: no game uses so many, and no peer may use up what is there for all.
const OF_ONE: usize = 128;
/// An unused socket is closed after this; as long as the firewall remembers a flow.
const IDLE: Duration = Duration::from_secs(120);
/// A peer that has all its sockets gets a new one in exchange for one that was unused for this long.
const SPARE: Duration = Duration::from_secs(10);
/// A game has sent by the socket this lately: it plays, and nothing takes the socket from it.
const IN_USE: Duration = Duration::from_secs(10);
/// Datagrams read from one socket before the next one's turn.
pub(super) const SHARE: usize = 16;
/// Larger than any datagram that the tunnel carries, so that what is cut off is too long anyway.
pub(super) const DATAGRAM: usize = 2048;
/// Headers of IPv4 and UDP.
pub(super) const HEADERS: usize = 28;
/// Bursts of a game while another one holds the core; what the system grants is what it grants.
const BUFFER: usize = 1 << 20;

/// All UDP stand-ins.
pub(super) struct Stands {
    open: BTreeMap<u32, Stand>,
    numbers: BTreeMap<SocketAddrV4, u32>,
    next: u32,
    /// Peers' own ports are left to a game that starts.
    pub(super) elsewhere: bool,
    bells: Bells,
    datagram: Box<[u8; DATAGRAM]>,
}

/// One socket.
struct Stand {
    socket: tokio::net::UdpSocket,
    /// The peer's port that it stands for.
    of: SocketAddrV4,
    local: SocketAddrV4,
    bell: Waker,
    used: Instant,
    /// When the local game last sent by it.
    played: Option<Instant>,
}

/// Why there is no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoStand {
    /// There are enough.
    TooMany,
    /// The port is taken, and no other will do.
    PortTaken,
    /// The system refused.
    Refused,
}

/// What the party needs to know of itself to read the local games' datagrams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Us {
    pub(super) v4: Ipv4Addr,
    pub(super) mtu: u16,
}

/// What a turn of reading is for.
pub(super) struct Reading<'a> {
    pub(super) batch: &'a mut Batch,
    /// The batch is not to hold more after this kind of socket was read: the others want their share.
    pub(super) most: usize,
    pub(super) counters: &'a mut ProxyCounters,
    pub(super) now: Instant,
}

impl Reading<'_> {
    pub(super) fn is_done(&self) -> bool {
        self.batch.len() >= self.most || self.batch.is_full()
    }
}

impl std::fmt::Debug for Stands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stands").field("numbers", &self.numbers).finish_non_exhaustive()
    }
}

impl Default for Stands {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
            elsewhere: false,
            bells: Bells::default(),
            datagram: Box::new([0; DATAGRAM]),
        }
    }
}

impl Stands {
    /// Where the stand-in of a peer's port is; made if it is not there yet. `exact`: at the same port or not at all.
    pub(super) fn open(
        &mut self,
        of: SocketAddrV4,
        exact: bool,
        now: Instant,
    ) -> Result<SocketAddrV4, NoStand> {
        if let Some(stand) = self.numbers.get(&of).and_then(|n| self.open.get_mut(n)) {
            stand.used = now;
            let moved = exact && stand.local.port() != of.port();
            return if moved { Err(NoStand::PortTaken) } else { Ok(stand.local) };
        }
        self.make_room(*of.ip(), now)?;
        let at = stand_in(*of.ip());
        let wanted = SocketAddrV4::new(at, of.port());
        let first = if self.elsewhere { Err(io::ErrorKind::AddrInUse.into()) } else { bind(wanted) };
        let socket = match first {
            Err(e) if is_not_to_be_had(&e) => {
                if exact {
                    return Err(NoStand::PortTaken);
                }
                bind(SocketAddrV4::new(at, 0))
            }
            other => other,
        };
        let watched = socket.and_then(|socket| {
            let local = socket.local_addr()?.as_socket_ipv4().ok_or(io::ErrorKind::Unsupported)?;
            Ok((tokio::net::UdpSocket::from_std(socket.into())?, local))
        });
        let (socket, local) = watched.map_err(|error| {
            tracing::debug!(%error, "no stand-in for a peer's port");
            NoStand::Refused
        })?;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let bell = self.bells.bell(number);
        let stand = Stand { socket, of, local, bell, used: now, played: None };
        self.bells.hang(number, &stand.socket, &stand.bell);
        self.open.insert(number, stand);
        self.numbers.insert(of, number);
        Ok(local)
    }

    /// Makes sure that one more socket for this peer may be opened.
    fn make_room(&mut self, peer: Ipv4Addr, now: Instant) -> Result<(), NoStand> {
        let (first, last) = (SocketAddrV4::new(peer, 0), SocketAddrV4::new(peer, u16::MAX));
        let own = || self.numbers.range(first..=last).filter_map(|(_, n)| self.open.get(n));
        if own().count() < OF_ONE && self.open.len() < MOST {
            return Ok(());
        }
        // Only a socket of its own may give way: no peer pushes out those of others.
        let oldest = own().min_by_key(|stand| stand.used).filter(|s| now.duration_since(s.used) >= SPARE);
        let oldest = oldest.map(|stand| stand.of).ok_or(NoStand::TooMany)?;
        self.close_where(|stand| stand.of == oldest);
        Ok(())
    }

    /// Sends what a peer sent, by the stand-in of its address and port, to an address of this computer.
    pub(super) fn send(
        &mut self,
        from: SocketAddrV4,
        to: SocketAddrV4,
        payload: &[u8],
        now: Instant,
    ) -> io::Result<()> {
        let stand = self.numbers.get(&from).and_then(|n| self.open.get_mut(n));
        let stand = stand.ok_or(io::ErrorKind::NotConnected)?;
        stand.used = now;
        // Not through the runtime's readiness: it knows of none before it first slept.
        SockRef::from(&stand.socket).send_to(payload, &SockAddr::from(to)).map(drop)
    }

    /// Where a peer's port is reached on this computer, if it is.
    pub(super) fn local(&self, of: SocketAddrV4) -> Option<SocketAddrV4> {
        self.numbers.get(&of).and_then(|n| self.open.get(n)).map(|stand| stand.local)
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.numbers.clear();
    }

    /// Closes those that nobody used for a while and nobody `keeps`.
    pub(super) fn sweep(&mut self, keeps: impl Fn(SocketAddrV4) -> bool, now: Instant) {
        self.close_where(|stand| now.duration_since(stand.used) >= IDLE && !keeps(stand.of));
    }

    /// Closes those that hold one of these ports, except where a game plays by it.
    pub(super) fn release(&mut self, ports: impl Fn(u16) -> bool, now: Instant) {
        let plays = |stand: &Stand| stand.played.is_some_and(|at| now.duration_since(at) < IN_USE);
        self.close_where(|stand| ports(stand.local.port()) && !plays(stand));
    }

    fn close_where(&mut self, closes: impl Fn(&Stand) -> bool) {
        let Self { open, numbers, .. } = self;
        open.retain(|_, stand| !closes(stand));
        numbers.retain(|_, number| open.contains_key(number));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Ready when one of them has something to read.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.bells.poll(cx)
    }

    /// Reads what the local games sent to peers, until nothing is left or the batch is full. `heard` is told where each
    /// game sends from.
    pub(super) fn read(&mut self, us: Us, reading: &mut Reading<'_>, mut heard: impl FnMut(SocketAddrV4)) {
        // Each at most twice: a socket whose errors never end must not keep the loop.
        for _ in 0..2 * self.bells.rung() {
            if reading.is_done() {
                return;
            }
            let Some(number) = self.bells.take() else { return };
            let Some(stand) = self.open.get_mut(&number) else { continue };
            let more = stand.read(us, &mut *self.datagram, reading, &mut heard);
            if more {
                self.bells.ring(number);
            } else if let Some(stand) = self.open.get(&number) {
                self.bells.hang(number, &stand.socket, &stand.bell);
            }
        }
    }
}

impl Stand {
    /// Reads its share; true when there may be more.
    fn read(
        &mut self,
        us: Us,
        room: &mut [u8],
        reading: &mut Reading<'_>,
        heard: &mut impl FnMut(SocketAddrV4),
    ) -> bool {
        for _ in 0..SHARE {
            if reading.is_done() {
                return true;
            }
            match self.socket.try_recv_from(room) {
                Ok((len, SocketAddr::V4(from))) => {
                    let payload = room.get(..len).unwrap_or(&[]);
                    self.take(us, from, payload, reading, heard);
                }
                Ok((_, SocketAddr::V6(_))) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Systems that report by the next read that an earlier datagram found nobody.
                Err(_) => {}
            }
        }
        true
    }

    fn take(
        &mut self,
        us: Us,
        from: SocketAddrV4,
        payload: &[u8],
        reading: &mut Reading<'_>,
        heard: &mut impl FnMut(SocketAddrV4),
    ) {
        let counters = &mut *reading.counters;
        if is_stand_in(*from.ip()) {
            // A peer's stand-in: peers do not talk to each other through this computer.
            counters.foreign += 1;
            return;
        }
        if HEADERS + payload.len() > usize::from(us.mtu) {
            counters.too_long += 1;
            return;
        }
        self.used = reading.now;
        self.played = Some(reading.now);
        heard(from);
        let Some(slot) = reading.batch.next(Source::Tun) else { return };
        let source = SocketAddrV4::new(us.v4, from.port());
        match write_udp(slot.room(), source.into(), self.of.into(), 64, payload) {
            Some(len) => {
                slot.set_len(len);
                counters.udp_in += 1;
            }
            None => {
                reading.batch.give_back();
                counters.too_long += 1;
            }
        }
    }
}

/// A socket at this address that only this computer can reach.
fn bind(at: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_broadcast(true)?;
    only_this_computer(&socket);
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST);
    let address = SocketAddr::from(at).into();
    match socket.bind(&address) {
        // A game that shares its port may have it on every address; nobody may have it at this one.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_bound(at) => {
            share(&socket);
            socket.bind(&address)?;
        }
        other => other?,
    }
    // Only now: whoever stands for the same peer in another process must not get the port as well.
    share(&socket);
    Ok(socket)
}

/// Lets a game that shares its port have it on every address, next to ours at one.
fn share(socket: &Socket) {
    // Elsewhere the option means more: on Windows, that anybody may take the address.
    if cfg!(target_os = "linux")
        && let Err(error) = socket.set_reuse_address(true)
    {
        tracing::debug!(%error, "a stand-in does not share its port");
    }
}
