//! The relay's sockets: those that clients know, and one for each allocation.

use super::RelayOptions;
use crate::engine::relay::Family;
use crate::host::udp::options::{enlarge_buffers, permit_fragments};
use crate::model::dice::Dice;
use crate::server::gate;
use anyhow::Context;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::TcpListener;

/// The port of STUN and TURN (RFC 8489, RFC 8656). The one above it serves too, for behaviour discovery.
pub(super) const PORT: u16 = 3478;
/// Ports of allocations (RFC 8656, section 7.2), drawn at random so that nobody can guess the next one.
const DYNAMIC: std::ops::RangeInclusive<u32> = 49_152..=65_535;
/// Draws before the system is asked for any free port.
const DRAWS: usize = 32;
/// Tries to get neighbouring ports, free for TCP too, where the first may be any (tests).
const ANY_PORT_TRIES: usize = 64;
/// Buffers of an allocation's socket: a burst of some hundred packets. There may be thousands of them.
const PORT_BUFFER: usize = 256 * 1024;

/// A UDP socket with what `quinn-udp` knows of it.
#[derive(Debug)]
pub(super) struct Udp {
    pub(super) io: mio::net::UdpSocket,
    pub(super) state: UdpSocketState,
    pub(super) local: SocketAddr,
}

impl Udp {
    fn new(socket: Socket, may_be_cut: bool) -> io::Result<Self> {
        let local = socket.local_addr()?.as_socket().ok_or(ErrorKind::Unsupported)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        if may_be_cut {
            permit_fragments(&socket, local.is_ipv4());
        }
        socket.set_nonblocking(true)?;
        Ok(Self { io: mio::net::UdpSocket::from_std(socket.into()), state, local })
    }

    pub(super) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.io.try_io(|| self.state.recv(UdpSockRef::from(&self.io), buffers, metas))
    }

    pub(super) fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.state.try_send(UdpSockRef::from(&self.io), transmit)
    }
}

/// Where clients are served.
#[derive(Debug, Default)]
pub(super) struct Listening {
    pub(super) udp: Vec<Udp>,
    /// TCP at the first port of each, where clients of other make expect it.
    pub(super) tcp: Vec<TcpListener>,
    /// The two ports, where every address has both.
    pub(super) ports: Option<[u16; 2]>,
    pub(super) warnings: Vec<String>,
    /// Why some address has no TCP. It works without.
    no_tcp: Vec<String>,
}

/// Opens the sockets that clients know: each address with its port and the one above, and TCP at its port.
pub(super) fn listen(options: &RelayOptions) -> anyhow::Result<Listening> {
    let named = !options.listen.is_empty();
    let wanted = if named {
        options.listen.clone()
    } else {
        vec![(Ipv4Addr::UNSPECIFIED, PORT).into(), (Ipv6Addr::UNSPECIFIED, PORT).into()]
    };
    // Where any port will do, it is one whose neighbour and whose TCP are free as well.
    let tries = if wanted.iter().any(|at| at.port() == 0) { ANY_PORT_TRIES } else { 1 };
    let mut listening = open(&wanted, named);
    for _ in 1..tries {
        if listening.as_ref().is_ok_and(|l| l.warnings.is_empty() && l.no_tcp.is_empty()) {
            break;
        }
        listening = open(&wanted, named);
    }
    let mut listening = listening?;
    for why in &listening.no_tcp {
        tracing::info!("the relay serves UDP only there: {why}");
    }
    listening.ports = ports(&listening.udp);
    Ok(listening)
}

fn open(wanted: &[SocketAddr], named: bool) -> anyhow::Result<Listening> {
    let mut listening = Listening::default();
    let mut any_port = 0;
    for at in wanted {
        let at = with_port(*at, any_port);
        let first = match listener(at) {
            Ok(socket) => socket,
            // Nobody asked for IPv6, and some computers have none.
            Err(error) if !named && at.is_ipv6() => {
                tracing::debug!(%error, "no IPv6 relay");
                continue;
            }
            Err(e) => {
                let hint = hint(e.kind());
                return Err(anyhow::Error::new(e).context(format!("cannot relay at UDP {at}{hint}")));
            }
        };
        let (at, port) = (first.local, first.local.port());
        any_port = if any_port == 0 { port } else { any_port };
        let all: Vec<SocketAddr> = wanted.iter().map(|other| with_port(*other, any_port)).collect();
        match gate::bind(at, &all) {
            Ok(tcp) => listening.tcp.push(tcp),
            Err(error) => listening.no_tcp.push(format!("{error:#}")),
        }
        let above = port.checked_add(1).ok_or_else(|| ErrorKind::AddrInUse.into());
        match above.and_then(|above| listener(SocketAddr::new(at.ip(), above))) {
            Ok(second) => listening.udp.extend([first, second]),
            Err(e) => {
                listening.udp.push(first);
                listening.warnings.push(format!(
                    "the port above {at} is not free ({e}): clients learn less about their routers here"
                ));
            }
        }
    }
    Ok(listening)
}

/// The address with a port, if it has none.
fn with_port(mut at: SocketAddr, port: u16) -> SocketAddr {
    if at.port() == 0 {
        at.set_port(port);
    }
    at
}

fn hint(kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::AddrInUse {
        "; another relay (or another lanrage server) uses that port: choose another with --relay, or --no-relay"
    } else if kind == ErrorKind::AddrNotAvailable {
        "; this computer does not have that address"
    } else if kind == ErrorKind::PermissionDenied {
        "; ports below 1024 need administrator rights"
    } else {
        ""
    }
}

/// The two ports, if every address serves on both of the same.
fn ports(udp: &[Udp]) -> Option<[u16; 2]> {
    let low = udp.iter().map(|s| s.local.port()).min()?;
    let high = low.checked_add(1)?;
    let both = |ip| {
        let serves = |port| udp.iter().any(|s| s.local.ip() == ip && s.local.port() == port);
        serves(low) && serves(high)
    };
    udp.iter().all(|s| both(s.local.ip())).then_some([low, high])
}

fn listener(at: SocketAddr) -> io::Result<Udp> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    enlarge_buffers(&socket);
    socket.bind(&at.into())?;
    Udp::new(socket, true)
}

/// Opens the port of an allocation at this address.
pub(super) fn open_port(at: IpAddr, even: bool, whole: bool, dice: &mut Dice) -> anyhow::Result<Udp> {
    let mut last = None;
    for draw in 0..=DRAWS {
        let drawn = dice.range(*DYNAMIC.start(), *DYNAMIC.end()) & if even { !1 } else { !0 };
        let port = match u16::try_from(drawn) {
            Ok(port) if draw < DRAWS || even => port,
            Ok(_) | Err(_) => 0,
        };
        match bind_port(SocketAddr::new(at, port), whole) {
            Ok(socket) => return Ok(socket),
            Err(e) if e.kind() == ErrorKind::AddrInUse => last = Some(e),
            Err(e) => return Err(e).with_context(|| format!("no port at {at}")),
        }
    }
    Err(anyhow::Error::new(last.unwrap_or_else(|| ErrorKind::AddrInUse.into())).context("no free port"))
}

fn bind_port(at: SocketAddr, whole: bool) -> io::Result<Udp> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let _ = socket.set_recv_buffer_size(PORT_BUFFER);
    let _ = socket.set_send_buffer_size(PORT_BUFFER);
    socket.bind(&at.into())?;
    Udp::new(socket, !whole)
}

/// Which addresses are ours, and how they look from outside.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    /// As the operator named them.
    public: Vec<IpAddr>,
    /// What the system has for each family, where it has a way out.
    ways_out: Vec<IpAddr>,
    /// All of ours.
    pub(super) own: Vec<IpAddr>,
}

impl Addresses {
    pub(super) fn new(public: &[IpAddr], udp: &[Udp]) -> Self {
        let listening = udp.iter().map(|s| s.local.ip()).filter(|ip| !ip.is_unspecified());
        let ways_out: Vec<IpAddr> = [Family::V4, Family::V6].into_iter().filter_map(way_out).collect();
        let mut own: Vec<IpAddr> =
            public.iter().copied().chain(listening).chain(ways_out.iter().copied()).collect();
        own.extend(of_cards());
        own.sort_unstable();
        own.dedup();
        Self { public: public.to_vec(), ways_out, own }
    }

    /// Families in which peers can be reached from ports near this server's addresses.
    pub(super) fn families(&self, udp: &[Udp]) -> Vec<Family> {
        let listens =
            |family| udp.iter().any(|s| Family::of(s.local.ip()) == family && !s.local.ip().is_unspecified());
        let has = |family: &Family| {
            let mut known = self.public.iter().chain(&self.ways_out);
            known.any(|ip| Family::of(*ip) == *family) || listens(*family)
        };
        // A server without any way out (a test in a namespace) still has loopback.
        [Family::V4, Family::V6].into_iter().filter(|f| *f == Family::V4 || has(f)).collect()
    }

    /// Where a port for a client that used `near` is opened, and how that address looks from outside.
    pub(super) fn place(&self, family: Family, near: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let of_family = |all: &[IpAddr]| all.iter().copied().find(|ip| Family::of(*ip) == family);
        let local = if Family::of(near) == family { Some(near) } else { None };
        let public = of_family(&self.public);
        match (local, public) {
            // Ours and public: nothing stands before it.
            (Some(local), _) if self.public.contains(&local) => Some((local, local)),
            // A NAT of one address to one stands before the server.
            (Some(local), Some(public)) => Some((local, public)),
            (Some(local), None) => Some((local, local)),
            (None, Some(public)) => {
                let local = if is_here(public) { public } else { of_family(&self.ways_out)? };
                Some((local, public))
            }
            (None, None) => of_family(&self.ways_out).map(|ip| (ip, ip)),
        }
    }

    /// Two addresses of one family at which this server can be asked, for RFC 5780.
    pub(super) fn pairs(&self, udp: &[Udp]) -> Vec<[IpAddr; 2]> {
        let everywhere =
            |family| udp.iter().any(|s| s.local.ip().is_unspecified() && Family::of(s.local.ip()) == family);
        [Family::V4, Family::V6]
            .into_iter()
            .filter_map(|family| {
                let mut found: Vec<IpAddr> = if everywhere(family) {
                    self.public
                        .iter()
                        .copied()
                        .filter(|ip| Family::of(*ip) == family && is_here(*ip))
                        .collect()
                } else {
                    udp.iter().map(|s| s.local.ip()).filter(|ip| Family::of(*ip) == family).collect()
                };
                found.dedup();
                match found.as_slice() {
                    [a, b, ..] => Some([*a, *b]),
                    _ => None,
                }
            })
            .collect()
    }
}

/// Whether this computer has that address.
fn is_here(address: IpAddr) -> bool {
    let bound =
        Socket::new(Domain::for_address(SocketAddr::new(address, 0)), Type::DGRAM, Some(Protocol::UDP))
            .and_then(|socket| socket.bind(&SocketAddr::new(address, 0).into()));
    bound.is_ok()
}

/// The address from which this computer would reach the internet. Connecting a UDP socket sends nothing.
fn way_out(family: Family) -> Option<IpAddr> {
    let (from, to): (SocketAddr, SocketAddr) = match family {
        Family::V4 => ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(198, 51, 100, 1), 9).into()),
        Family::V6 => {
            ((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into())
        }
    };
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM, Some(Protocol::UDP)).ok()?;
    socket.bind(&from.into()).ok()?;
    socket.connect(&to.into()).ok()?;
    let ip = socket.local_addr().ok()?.as_socket()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(target_os = "linux")]
fn of_cards() -> Vec<IpAddr> {
    pnet_datalink::interfaces().iter().flat_map(|card| &card.ips).map(|net| net.ip()).collect()
}

/// Elsewhere the addresses that are listened on and those towards the internet have to do; private ones are never peers
/// anyway.
#[cfg(not(target_os = "linux"))]
const fn of_cards() -> Vec<IpAddr> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports that UDP has free and TCP has not: with this many, one of a hundred draws meets one nearly always.
    const HELD: usize = 500;

    #[tokio::test]
    async fn where_any_port_will_do_it_is_free_for_tcp_and_has_a_neighbour() {
        let _held: Vec<_> =
            (0..HELD).map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        for _ in 0..200 {
            let options =
                RelayOptions { listen: vec![(Ipv4Addr::LOCALHOST, 0).into()], ..RelayOptions::default() };
            let listening = listen(&options).unwrap();
            let [low, high] = listening.ports.unwrap();
            assert_eq!(high, low + 1);
            assert_eq!(listening.warnings, Vec::<String>::new());
            let tcp: Vec<_> = listening.tcp.iter().map(|l| l.local_addr().unwrap().port()).collect();
            assert_eq!(tcp, [low]);
        }
    }
}
