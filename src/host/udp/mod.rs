//! The tunnel's UDP sockets: one for IPv4, one for IPv6 (or exactly those that `--listen` names), batches in, segmented
//! batches out, both through `quinn-udp` (GRO and GSO on Linux, plain calls elsewhere).
//!
//! `bind` makes the sockets and reports what people can act on; `Sockets::open` hands them to the data thread's
//! runtime. `Receiver` reads until a socket is empty; `send::SendBatches` collects what the engine writes and sends
//! it at the end of each input. Sending picks the first socket of the destination's family, or the one of
//! `Via::Extra` (`extra`).
//!
//! ICMP errors about one peer never disturb another: the sockets are not connected and do not ask for the error queue
//! (`IP_RECVERR`), so Linux reports none of them; where a system does (Windows, by the next read), they are skipped.

mod bind;
mod extra;
mod many;
pub mod options;
mod receive;
mod send;
mod watch;

pub use bind::{Bound, bind};
pub use many::Parcel;
pub use receive::{Arrival, Receiver};
pub use send::{RawSend, SendBatches, SendCounts};

use crate::model::addr::{Endpoint, Via};
use extra::Extras;
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use watch::Watched;

/// One open socket of the data thread.
#[derive(Debug)]
pub struct Socket {
    io: Watched,
    state: UdpSocketState,
    local: SocketAddr,
    via: Via,
}

impl Socket {
    fn transmit(&self, to: SocketAddr, bytes: &[u8], segment: Option<usize>) -> io::Result<()> {
        let transmit =
            Transmit { destination: to, ecn: None, contents: bytes, segment_size: segment, src_ip: None };
        // Not through the runtime's readiness: it knows of none before it first slept, and a full queue is asked only
        // once an input anyway.
        self.state.try_send(UdpSockRef::from(&self.io), &transmit)
    }

    fn transmit_whole(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let (socket, v4) = (SockRef::from(&self.io), self.local.is_ipv4());
        options::forbid_fragments(&socket, v4);
        let sent = self.transmit(to, bytes, None);
        options::permit_fragments(&socket, v4);
        sent
    }
}

/// All sockets of the tunnel; shared between the reader and the writer of the data thread.
#[derive(Debug)]
pub struct Sockets {
    all: Vec<Socket>,
    extra: RefCell<Extras>,
    /// Which of them is read first.
    first: Cell<usize>,
}

/// Extra sockets read in one turn.
const EXTRAS: usize = 32;

impl Sockets {
    /// Hands bound sockets to the runtime of the calling thread.
    ///
    /// # Errors
    /// When the runtime cannot watch a socket.
    pub fn open(bound: Bound) -> io::Result<Rc<Self>> {
        let mut all = Vec::new();
        for (socket, state) in bound.sockets {
            let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
            let io = Watched::new(socket.into())?;
            all.push(Socket { io, state, local, via: Via::Main });
        }
        Ok(Rc::new(Self { all, extra: RefCell::default(), first: Cell::new(0) }))
    }

    /// The addresses they are bound to.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|s| s.local).collect()
    }

    /// The main sockets.
    pub fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.all.iter()
    }

    /// Waits until one of them has something to be read (or an error to be fetched).
    pub async fn readable(&self) {
        std::future::poll_fn(|cx| {
            let main = self.all.iter().any(|s| s.io.poll_readable(cx).is_ready());
            if main { Poll::Ready(()) } else { self.extra.borrow().poll_readable(cx) }
        })
        .await;
    }

    /// Performs `Effect::OpenSockets`. How many of the wanted ones are open now, and why not all.
    pub fn open_extra(&self, first: u16, count: u16, v6: bool) -> (u16, Option<io::Error>) {
        match self.all.iter().find(|s| s.local.is_ipv6() == v6) {
            Some(main) => self.extra.borrow_mut().open(first, count, main.local.ip()),
            None => (0, Some(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Performs `Effect::CloseSockets`.
    pub fn close_extra(&self, first: u16, count: u16, keep: Option<u16>) {
        self.extra.borrow_mut().close(first, count, keep);
    }

    /// How many extra sockets are open.
    #[must_use]
    pub fn extra_len(&self) -> usize {
        self.extra.borrow().len()
    }

    /// Reads what there is into the receiver, as far as it has room; each time another one has the first choice, so that a flood at one
    /// address does not keep out what comes by the others. True when there may be more.
    pub fn read(&self, receiver: &mut Receiver) -> bool {
        let ways = self.all.len() + 1;
        let first = self.first.replace((self.first.get() + 1) % ways);
        let mut more = false;
        for at in (first..ways).chain(0..first) {
            more |= match self.all.get(at) {
                Some(socket) => receiver.read(socket),
                None => self.read_extra(receiver),
            };
        }
        more
    }

    fn read_extra(&self, receiver: &mut Receiver) -> bool {
        let mut more = false;
        for _ in 0..EXTRAS {
            let Some(socket) = self.next_ready() else { break };
            let again = receiver.read(&socket);
            self.served(&socket, again);
            more |= again;
        }
        more
    }

    /// An extra socket that has something to be read. Read it, then call `served`.
    #[must_use]
    pub fn next_ready(&self) -> Option<Rc<Socket>> {
        self.extra.borrow().next_ready()
    }

    /// An extra socket was read to its end, or there is `more` than its share of the turn.
    pub fn served(&self, socket: &Socket, more: bool) {
        self.extra.borrow().served(socket, more);
    }

    /// Does something with the socket by which this leaves, if there is one.
    fn by<T>(&self, to: Endpoint, act: impl FnOnce(&Socket) -> T) -> Option<T> {
        let fits = |s: &&Socket| s.local.is_ipv4() == to.to.is_ipv4();
        match to.via {
            Via::Main => self.all.iter().find(fits).map(act),
            Via::Extra(number) => self.extra.borrow().get(number).filter(fits).map(act),
            Via::Stream(_) => None,
        }
    }
}

/// What a send comes to that has no socket. Without one of its family, the same to the engine as a network that cannot
/// be reached; an extra socket that is closed by now is no news.
fn no_socket(to: Endpoint) -> io::Error {
    match to.via {
        Via::Main => io::ErrorKind::NetworkUnreachable.into(),
        Via::Extra(_) | Via::Stream(_) => io::ErrorKind::NotConnected.into(),
    }
}

impl RawSend for Rc<Sockets> {
    fn max_segments(&self, to: Endpoint) -> usize {
        self.by(to, |s| s.state.max_gso_segments()).unwrap_or(1)
    }

    fn try_send(&mut self, to: Endpoint, bytes: &[u8], segment: Option<usize>) -> io::Result<()> {
        self.by(to, |s| s.transmit(to.to, bytes, segment)).unwrap_or_else(|| Err(no_socket(to)))
    }

    fn try_send_whole(&mut self, to: Endpoint, bytes: &[u8]) -> io::Result<()> {
        self.by(to, |s| s.transmit_whole(to.to, bytes)).unwrap_or_else(|| Err(no_socket(to)))
    }

    #[cfg(target_os = "linux")]
    fn try_send_each(&mut self, first: Endpoint, parcels: &[Parcel<'_>]) -> io::Result<usize> {
        use std::os::fd::AsFd;
        let sent = self.by(first, |s| many::send_each(s.io.as_fd(), parcels));
        sent.unwrap_or_else(|| Err(no_socket(first)))
    }
}
