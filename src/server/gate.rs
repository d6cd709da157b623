//! Who may connect. Counts connections per address before a byte is read, and gives nobody all day to say what they want;
//! `sniff` finds out what that is.

use super::pages::Visitor;
use super::sniff::{self, Caller, Stream, TurnDoor};
use crate::engine::lobby::pace::Origin;
use anyhow::Context;
use axum::{Extension, Router};
use dashmap::DashMap;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The whole head of a request has to be here by then.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// After this, a connection that did not become a WebSocket has had its answers.
const PAGES_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Opens a listening socket. An IPv6 one leaves IPv4 alone if that is listened to as well.
pub(super) fn bind(at: SocketAddr, all: &[SocketAddr]) -> anyhow::Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        // On Windows this option would let two programs share a port, each getting some of the connections.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        if at.is_ipv6() {
            socket.set_only_v6(all.iter().any(|other| other.is_ipv4() && other.port() == at.port()))?;
        }
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|e| {
        let kind = e.kind();
        let hint = if kind == ErrorKind::AddrInUse {
            "; another program (perhaps another lanrage server) uses that port: stop it, or choose another with --listen"
        } else if kind == ErrorKind::AddrNotAvailable {
            "; this computer does not have that address"
        } else if kind == ErrorKind::PermissionDenied {
            "; ports below 1024 need administrator rights"
        } else {
            ""
        };
        let text = format!("cannot listen on {at}: {e}{hint}");
        anyhow::Error::new(e).context(text)
    })
}

/// Counts connections.
#[derive(Debug)]
pub(super) struct Gate {
    per_origin: usize,
    total: usize,
    open: AtomicUsize,
    origins: DashMap<Origin, usize>,
}

impl Gate {
    pub(super) fn new(per_origin: usize, total: usize) -> Self {
        Self { per_origin, total, open: AtomicUsize::new(0), origins: DashMap::new() }
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Ticket> {
        let origin = Origin::of(address);
        if self.open.load(Ordering::Relaxed) >= self.total {
            return None;
        }
        let mut count = self.origins.entry(origin).or_insert(0);
        if *count >= self.per_origin {
            return None;
        }
        *count += 1;
        drop(count);
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { gate: Arc::clone(self), origin })
    }
}

/// A place inside, given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Arc<Gate>,
    origin: Origin,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(mut count) = self.gate.origins.get_mut(&self.origin) {
            *count = count.saturating_sub(1);
        }
        self.gate.origins.remove_if(&self.origin, |_, count| *count == 0);
    }
}

/// What awaits those who were let in.
#[derive(Clone)]
pub(super) struct Rooms {
    pub(super) router: Router,
    pub(super) tls: Option<TlsAcceptor>,
    /// `None`: there is no relay, and whoever wants one is hung up on.
    pub(super) turn: Option<TurnDoor>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// Accepts until told to stop.
pub(super) async fn listen(listener: TcpListener, gate: Arc<Gate>, rooms: Rooms) {
    loop {
        let accepted = tokio::select! {
            () = rooms.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                if let Some(ticket) = gate.enter(from.ip()) {
                    rooms.tasks.spawn(receive(stream, from, ticket, rooms.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors, most likely: others have to finish first.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn receive(stream: TcpStream, from: SocketAddr, ticket: Ticket, rooms: Rooms) {
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let caller = tokio::select! {
        caller = sniff::meet(stream, rooms.tls.as_ref()) => caller,
        () = rooms.stop.cancelled() => return,
    };
    match (caller, &rooms.turn) {
        (Ok(Caller::Http(stream)), _) => serve_pages(stream, from, ticket, &rooms).await,
        (Ok(Caller::Turn(stream)), Some(door)) => {
            // The ticket stays here: who relays is counted like everybody else.
            tokio::select! {
                () = door(stream, from, local) => {}
                () = rooms.stop.cancelled() => {}
            }
            drop(ticket);
        }
        (Ok(Caller::Turn(_)), None) => tracing::debug!("a caller wants a relay, and there is none"),
        (Err(why), _) => tracing::debug!("a caller {why}"),
    }
}

async fn serve_pages(stream: Box<dyn Stream>, from: SocketAddr, ticket: Ticket, rooms: &Rooms) {
    let visitor = Visitor::new(from.ip(), ticket, rooms.tasks.token());
    let router = rooms.router.clone().layer(Extension(visitor));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = pin!(connection);
    let end = tokio::select! {
        // A WebSocket leaves here as soon as it is one.
        result = connection.as_mut() => result.context("serving"),
        () = rooms.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await.context("stopping")
        }
        () = tokio::time::sleep(PAGES_WITHIN) => Ok(()),
    };
    if let Err(error) = end {
        tracing::debug!("a connection ended: {error:#}");
    }
}
