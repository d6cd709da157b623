//! The sockets that are opened for a peer behind a hard NAT (`Via::Extra`): hundreds at once, for seconds, of which at
//! most one stays. Each is on a free port of the family's main address.
//!
//! Most of them never hear anything, so they cost a turn of the data loop nothing: each has a bell of its own that the
//! runtime rings when its socket has something to read, and the bell writes the socket's number on a list. Only what is
//! on the list is read. A bell rings once; `served` hangs it up again. No allocation but when sockets are opened.

use super::watch::Watched;
use super::{Socket, options};
use crate::model::addr::Via;
use crate::model::limits::EXTRA_SOCKETS;
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Type};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// All extra sockets.
#[derive(Debug, Default)]
pub(super) struct Extras {
    open: BTreeMap<u16, Extra>,
    news: Arc<News>,
}

#[derive(Debug)]
struct Extra {
    socket: Rc<Socket>,
    bell: Waker,
}

/// Which sockets have something to read, and who waits for that.
#[derive(Debug, Default)]
struct News(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    ready: VecDeque<u16>,
    waiter: Option<Waker>,
}

struct Bell {
    number: u16,
    news: Arc<News>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiter = {
            let mut list = self.news.lock();
            list.ready.push_back(self.number);
            list.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl News {
    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extras {
    /// Opens sockets on free ports of `ip`, numbered from `first`; numbers that are open stay as they are. How many of
    /// the wanted ones are open now, and why not all.
    pub(super) fn open(&mut self, first: u16, count: u16, ip: IpAddr) -> (u16, Option<io::Error>) {
        for (done, number) in (0..count).zip(first..=u16::MAX) {
            if self.open.contains_key(&number) {
                continue;
            }
            let made = if self.open.len() < EXTRA_SOCKETS {
                open(ip, number)
            } else {
                Err(io::Error::other(format!("{EXTRA_SOCKETS} are open already")))
            };
            match made {
                Ok(socket) => self.watch(number, socket),
                Err(error) => return (done, Some(error)),
            }
        }
        (count, None)
    }

    fn watch(&mut self, number: u16, socket: Socket) {
        let bell = Waker::from(Arc::new(Bell { number, news: Arc::clone(&self.news) }));
        let extra = Extra { socket: Rc::new(socket), bell };
        {
            let mut list = self.news.lock();
            // Room for every bell to have rung, so that ringing never allocates; a bell of a closed socket may have too.
            let room = 2 * (self.open.len() + 1);
            let have = list.ready.len();
            list.ready.reserve(room.saturating_sub(have));
        }
        self.hang(number, &extra);
        self.open.insert(number, extra);
    }

    /// Hangs the bell of a socket up; rings it at once when there is something already.
    fn hang(&self, number: u16, extra: &Extra) {
        if extra.socket.io.poll_readable(&mut Context::from_waker(&extra.bell)).is_ready() {
            self.news.lock().ready.push_back(number);
        }
    }

    /// Closes these, except `keep`, which gets the buffers of a socket that carries a game.
    pub(super) fn close(&mut self, first: u16, count: u16, keep: Option<u16>) {
        let past = u32::from(first) + u32::from(count);
        self.open.retain(|n, _| *n < first || u32::from(*n) >= past || Some(*n) == keep);
        if let Some(kept) = keep.and_then(|n| self.open.get(&n)) {
            options::enlarge_buffers(&SockRef::from(&kept.socket.io));
        }
        if self.open.is_empty() {
            self.news.lock().ready.clear();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn get(&self, number: u16) -> Option<&Socket> {
        self.open.get(&number).map(|e| &*e.socket)
    }

    /// Whether some socket may have something to read; else the task of `cx` is woken when one has.
    pub(super) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.open.is_empty() {
            return Poll::Pending;
        }
        let mut list = self.news.lock();
        if !list.ready.is_empty() {
            return Poll::Ready(());
        }
        if !list.waiter.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            list.waiter = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The next socket whose bell rang. After reading it, `served`.
    pub(super) fn next_ready(&self) -> Option<Rc<Socket>> {
        if self.open.is_empty() {
            return None;
        }
        let mut list = self.news.lock();
        // Numbers of sockets that were closed since are passed over.
        std::iter::from_fn(|| list.ready.pop_front())
            .find_map(|n| self.open.get(&n).map(|extra| Rc::clone(&extra.socket)))
    }

    /// `socket` was read: to its end, or as far as its share goes (`more`).
    pub(super) fn served(&self, socket: &Socket, more: bool) {
        let Via::Extra(number) = socket.via else { return };
        // Closed by what it brought, perhaps.
        let Some(extra) = self.open.get(&number) else { return };
        if more {
            self.news.lock().ready.push_back(number);
        } else {
            self.hang(number, extra);
        }
    }
}

fn open(ip: IpAddr, number: u16) -> io::Result<Socket> {
    let at = SocketAddr::new(ip, 0);
    let socket = socket2::Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    options::shrink_buffers(&socket);
    socket.bind(&at.into())?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    options::permit_fragments(&socket, at.is_ipv4());
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    let io = Watched::new(socket.into())?;
    Ok(Socket { io, state, local, via: Via::Extra(number) })
}
