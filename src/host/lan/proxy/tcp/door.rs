//! Listeners on this computer that lead to a peer, and the sockets that stand for peers towards the local game.

use super::bell::Bell;
use crate::host::lan::proxy::guard::only_this_computer;
use crate::host::lan::proxy::is_not_to_be_had;
use crate::host::lan::proxy::share::Own;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::task::Waker;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be taken. As many as there may be at all: where this queue overflows, Linux lets a program
/// believe that it is connected and resets it later, or does not let it in. Of 300 at once 6 to 25 were reset with a queue of
/// 16; with 128 those beyond waited in vain while the loop was busy elsewhere. The limit of half-open connections harms
/// nobody: with 64 instead of 256 all 300 were served, two seconds later.
const BACKLOG: i32 = 1_024;

/// One listener.
#[derive(Debug)]
pub(super) struct Door {
    /// The peer's virtual address and port.
    pub(super) to: SocketAddrV4,
    /// The network whose computers it is for; `None` is this computer.
    pub(super) own: Option<Own>,
    pub(super) bound: SocketAddrV4,
    pub(super) listener: TcpListener,
    pub(super) bell: Arc<Bell>,
    pub(super) waker: Waker,
    pub(super) generation: u32,
}

impl Door {
    /// Whether whoever connects from there may.
    pub(super) fn is_for(&self, from: SocketAddr) -> bool {
        match (self.own, from) {
            (None, _) => true,
            (Some(own), SocketAddr::V4(from)) => own.has(*from.ip()),
            (Some(_), SocketAddr::V6(_)) => false,
        }
    }
}

/// Listens there or, when the port is not to be had, at any. `local`: nobody but this computer may reach it.
pub(super) fn listen(at: SocketAddrV4, local: bool) -> io::Result<(TcpListener, SocketAddrV4)> {
    let listener = match listen_at(at, local) {
        Err(e) if is_not_to_be_had(&e) => listen_at(SocketAddrV4::new(*at.ip(), 0), local)?,
        other => other?,
    };
    match listener.local_addr()? {
        SocketAddr::V4(bound) => Ok((listener, bound)),
        SocketAddr::V6(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn listen_at(at: SocketAddrV4, local: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if local {
        only_this_computer(&socket);
    }
    // On Unix, so that connections that are just over do not keep the port; on Windows it would let others take it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(at))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Connects to the local game from the address that stands for the peer, and says first who it is where the game wants that.
pub(super) async fn dial(
    from: Ipv4Addr,
    game: SocketAddrV4,
    first: Option<[u8; HEADER]>,
) -> io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddrV4::new(from, 0).into())?;
    let mut stream = socket.connect(game.into()).await?;
    if let Some(header) = first {
        stream.write_all(&header).await?;
    }
    Ok(stream)
}

/// Bytes of the header.
pub(super) const HEADER: usize = 28;

/// The PROXY protocol's header, version 2 (HAProxy's `proxy-protocol.txt`, section 2.2): a connection of TCP over IPv4 from
/// here to there.
pub(super) fn header(from: SocketAddrV4, to: SocketAddrV4) -> [u8; HEADER] {
    let mut header = *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c............";
    let addresses = [from.ip().octets(), to.ip().octets()].concat();
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    for (at, byte) in header.iter_mut().skip(16).zip(addresses.into_iter().chain(ports)) {
        *at = byte;
    }
    header
}

/// Ends a local connection the way the peer's was ended: with a reset.
pub(super) fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}
