//! Making the tunnel's sockets: which addresses and ports, and what to say when that fails.

use super::options;
use crate::model::status::Trouble;
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Sockets that are bound but not yet watched by a runtime.
#[derive(Debug, Default)]
pub struct Bound {
    pub(super) sockets: Vec<(Socket, UdpSocketState)>,
}

impl Bound {
    /// The port to be kept for the next evening: that of the first socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let (socket, _) = self.sockets.first()?;
        Some(socket.local_addr().ok()?.as_socket()?.port())
    }

    /// Where the IPv4 socket is bound, if there is one: what routers are asked to forward a port to.
    #[must_use]
    pub fn v4(&self) -> Option<SocketAddr> {
        let mut locals = self.sockets().filter_map(|s| s.local_addr().ok()?.as_socket());
        locals.find(SocketAddr::is_ipv4)
    }

    /// The sockets, to set further options.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().map(|(socket, _)| socket)
    }
}

/// How often another port is tried when the one that IPv4 got is taken on IPv6.
const PAIR_TRIES: usize = 8;

/// Binds the sockets: exactly those of `listen` when it names any; else one per family on `last_port` when it is
/// free, else on any port (the same for both families). A computer without IPv6 gets the IPv4 socket only.
///
/// # Errors
/// `port_in_use`, `listen_address` or `no_socket`.
pub fn bind(listen: &[SocketAddr], last_port: Option<u16>) -> Result<Bound, Trouble> {
    if !listen.is_empty() {
        let bound = listen.iter().map(|at| open(*at).map_err(|e| refused(*at, &e)));
        return Ok(Bound { sockets: bound.collect::<Result<_, _>>()? });
    }
    if let Some(sockets) = last_port.filter(|p| *p != 0).and_then(|port| pair(port).ok()) {
        return Ok(Bound { sockets });
    }
    let mut last = None;
    for _ in 0..PAIR_TRIES {
        match pair(0) {
            Ok(sockets) => return Ok(Bound { sockets }),
            Err(e) => last = Some(e),
        }
    }
    let (at, error) = last.expect("PAIR_TRIES is above zero, so the loop ran and did not return");
    Err(refused(at, &error))
}

type Pair = Vec<(Socket, UdpSocketState)>;

fn pair(port: u16) -> Result<Pair, (SocketAddr, io::Error)> {
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v4 = open(at).map_err(|e| (at, e))?;
    let port = v4.0.local_addr().ok().and_then(|a| a.as_socket()).map_or(port, |a| a.port());
    let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match open(at) {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err((at, e)),
        Err(error) => {
            tracing::debug!(%error, "no IPv6 socket; going on with IPv4 alone");
            Ok(vec![v4])
        }
    }
}

fn open(at: SocketAddr) -> io::Result<(Socket, UdpSocketState)> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    options::enlarge_buffers(&socket);
    socket.bind(&at.into())?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    options::permit_fragments(&socket, at.is_ipv4());
    Ok((socket, state))
}

fn refused(at: SocketAddr, error: &io::Error) -> Trouble {
    if error.kind() == io::ErrorKind::AddrInUse {
        let hint = "choose another with --listen IP:PORT (port 0 takes a free one), or stop the other program \
                    (on Linux `ss -ulpn` names it)";
        return Trouble::new("port_in_use", format!("UDP {at} is used by another program"), hint);
    }
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        let what = format!("this computer has no address {}", at.ip());
        return Trouble::new(
            "listen_address",
            what,
            "give --listen an address of one of its cards, or 0.0.0.0",
        );
    }
    let what = format!("no UDP socket on {at}: {error}");
    Trouble::new("no_socket", what, "try another address or port with --listen IP:PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let first = bind(&["127.0.0.1:0".parse().unwrap()], None).unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, first.port().unwrap()));
        let trouble = bind(&[at], None).unwrap_err();
        assert_eq!(trouble.code, "port_in_use");
        assert!(trouble.message.contains(&at.to_string()), "{}", trouble.message);
        assert!(trouble.hint.contains("--listen"));
    }

    #[test]
    fn an_address_of_nobody_here_is_named() {
        let trouble = bind(&["192.0.2.77:0".parse().unwrap()], None).unwrap_err();
        assert_eq!(trouble.code, "listen_address");
        assert!(trouble.message.contains("192.0.2.77"));
    }

    #[test]
    fn the_last_port_is_kept_when_free_and_left_when_taken() {
        let first = bind(&[], None).unwrap();
        let port = first.port().unwrap();
        let beside = bind(&[], Some(port)).unwrap();
        assert_ne!(beside.port(), Some(port), "the port is taken, so another is used without an error");
        drop((first, beside));
        assert_eq!(bind(&[], Some(port)).unwrap().port(), Some(port));
    }

    #[test]
    fn both_families_share_one_port() {
        let bound = bind(&[], None).unwrap();
        let ports: Vec<_> =
            bound.sockets.iter().map(|(s, _)| s.local_addr().unwrap().as_socket().unwrap().port()).collect();
        assert!(ports.iter().all(|p| Some(*p) == bound.port()));
    }
}
