//! The tunnel's UDP sockets: one for IPv4, one for IPv6 (or exactly those that `--listen` names), batches in, segmented
//! batches out, both through `quinn-udp` (GRO and GSO on Linux, plain calls elsewhere).
//!
//! `bind` makes the sockets and reports what people can act on; `Sockets::open` hands them to the data thread's
//! runtime. `Receiver` reads until a socket is empty; `send::SendBatches` collects what the engine writes and sends
//! it at the end of each input. Sending picks the first socket of the destination's family.

mod bind;
mod options;
mod receive;
mod send;

pub use bind::{Bound, bind};
pub use receive::Receiver;
pub use send::{RawSend, SendBatches, SendCounts};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// One open socket of the data thread.
#[derive(Debug)]
pub struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// All sockets of the tunnel; shared between the reader and the writer of the data thread.
#[derive(Debug)]
pub struct Sockets {
    all: Vec<Socket>,
}

impl Sockets {
    /// Hands bound sockets to the runtime of the calling thread.
    ///
    /// # Errors
    /// When the runtime cannot watch a socket.
    pub fn open(bound: Bound) -> io::Result<Rc<Self>> {
        let mut all = Vec::new();
        for (socket, state) in bound.sockets {
            let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
            all.push(Socket { io: tokio::net::UdpSocket::from_std(socket.into())?, state, local });
        }
        Ok(Rc::new(Self { all }))
    }

    /// The addresses they are bound to.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|s| s.local).collect()
    }

    /// The sockets.
    pub fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.all.iter()
    }

    /// Waits until one of them has something to be read (or an error to be fetched).
    pub async fn readable(&self) {
        std::future::poll_fn(|cx| {
            let ready = self.all.iter().any(|s| s.io.poll_recv_ready(cx).is_ready());
            if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    fn towards(&self, to: SocketAddr) -> Option<&Socket> {
        self.all.iter().find(|s| s.local.is_ipv4() == to.is_ipv4())
    }
}

impl RawSend for Rc<Sockets> {
    fn max_segments(&self, to: SocketAddr) -> usize {
        self.towards(to).map_or(1, |s| s.state.max_gso_segments())
    }

    fn try_send(&mut self, to: SocketAddr, bytes: &[u8], segment: Option<usize>) -> io::Result<()> {
        // No socket of this family: the same to the engine as a network that cannot be reached.
        let socket = self.towards(to).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let transmit =
            Transmit { destination: to, ecn: None, contents: bytes, segment_size: segment, src_ip: None };
        // Not through the runtime's readiness: it knows of none before it first slept, and a full queue is asked only
        // once an input anyway.
        socket.state.try_send(UdpSockRef::from(&socket.io), &transmit)
    }
}
