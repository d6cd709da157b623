//! The relay's shell: sockets, streams and one thread around `engine::relay`.
//!
//! * `sockets`: which addresses are served, and the port of each allocation
//! * `worker`: the thread that owns the machine and all UDP sockets
//! * `outbox`: what is sent, in segmented batches
//! * `stream`: clients by TCP or TLS
//! * `secret`: the secret that credentials are made with
//!
//! Nothing here decides who may relay what.

mod outbox;
mod secret;
mod sockets;
mod stream;
mod worker;

use crate::engine::relay::{Client, Config, Limits, Relay, StreamId};
use crate::host::clock::HostClock;
use crate::host::threads;
use crate::model::dice::Seed;
use crate::model::relay::RelayWay;
use crate::wire::credential::RelaySecret;
use anyhow::Context;
use mio::{Poll, Waker};
use sockets::Addresses;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use worker::{WAKER, Worker};

/// Messages that wait for the relay's thread; streams wait when it is full.
const INBOX: usize = 1024;
/// How long a page waits for the relay's numbers.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

type Numbers = Vec<(&'static str, u64)>;

/// How a relay is run.
#[derive(Debug, Clone, Default)]
pub struct RelayOptions {
    /// UDP addresses; the port above each serves too. Empty: every address, port 3478.
    pub listen: Vec<SocketAddr>,
    /// The addresses under which this server is known, when they are others than those it has, or when two of them can be told
    /// apart for behaviour discovery.
    pub public: Vec<IpAddr>,
    /// The secret that credentials are made with (`use-auth-secret` of coturn). `None`: one of its own, kept with the parties.
    pub secret: Option<String>,
    /// Quotas.
    pub limits: Limits,
    /// For tests: peers may have private addresses, even this computer's own.
    pub allow_private_peers: bool,
}

/// For the relay's thread.
#[derive(Debug)]
enum ToRelay {
    Open { client: Client, outlet: stream::Outlet },
    Frame(StreamId, Vec<u8>),
    Close(StreamId),
    Ask(oneshot::Sender<Numbers>),
    Stop,
}

/// What all ends of the relay share.
#[derive(Debug)]
struct Shared {
    waker: Waker,
    /// Whether the thread was woken and did not look yet.
    woken: AtomicBool,
    streams: AtomicU64,
}

/// A running relay.
#[derive(Debug, Clone)]
pub struct RelayHandle {
    inbox: mpsc::Sender<ToRelay>,
    shared: Arc<Shared>,
    secret: RelaySecret,
    addresses: Arc<[SocketAddr]>,
    public: Arc<[IpAddr]>,
    warnings: Arc<[String]>,
}

/// A relay at its start.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) handle: RelayHandle,
    pub(super) thread: JoinHandle<anyhow::Result<()>>,
    /// TCP at the relay's own port. Whoever accepts there hands the connections back by `attend_stream`.
    pub(super) listeners: Vec<TcpListener>,
}

/// Opens the sockets and starts the thread.
///
/// # Errors
/// When an address cannot be used, or the secret cannot be kept.
pub(super) fn start(options: &RelayOptions, data_dir: &Path, seed: Seed) -> anyhow::Result<Started> {
    let secret = match &options.secret {
        Some(text) => RelaySecret::new(text.as_bytes()),
        None => secret::kept(data_dir, &mut seed.dice("relay secret"))?,
    };
    let listening = sockets::listen(options)?;
    let addresses = Addresses::new(&options.public, &listening.udp);
    let config = Config {
        own: addresses.own.clone(),
        families: addresses.families(&listening.udp),
        discovery: addresses.pairs(&listening.udp),
        discovery_ports: listening.ports,
        allow_private_peers: options.allow_private_peers,
        limits: options.limits.clone(),
        ..Config::new(secret.clone())
    };
    let poll = Poll::new().context("the relay cannot wait for sockets")?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let shared = Arc::new(Shared { waker, woken: AtomicBool::new(false), streams: AtomicU64::new(1) });
    let (inbox, receiver) = mpsc::channel(INBOX);
    let handle = RelayHandle {
        inbox,
        shared: Arc::clone(&shared),
        secret,
        addresses: listening.udp.iter().map(|s| s.local).collect(),
        public: options.public.clone().into(),
        warnings: listening.warnings.into(),
    };
    let clock = HostClock::new();
    let worker = Worker {
        poll,
        relay: Relay::new(config, seed, clock.now()),
        clock,
        outbox: outbox::Outbox::new(listening.udp),
        addresses,
        dice: seed.dice("relay ports"),
        inbox: receiver,
        shared,
        clients: BTreeMap::new(),
    };
    let thread = threads::named("relay", move || {
        let end = worker.run();
        if let Err(error) = &end {
            tracing::error!("the relay stopped: {error:#}");
        }
        end
    })
    .map_err(|trouble| anyhow::anyhow!("{}; {}", trouble.message, trouble.hint))?;
    Ok(Started { handle, thread, listeners: listening.tcp })
}

impl RelayHandle {
    /// The UDP addresses it serves, as bound.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was wrong at the start although it started.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The secret that its credentials are made with.
    #[must_use]
    pub const fn secret(&self) -> &RelaySecret {
        &self.secret
    }

    /// Serves a client that came by TCP or TLS, until it goes. The connection is counted and limited by whoever accepted it.
    pub async fn attend_stream(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: SocketAddr,
        local: SocketAddr,
    ) {
        stream::attend(self.clone(), stream, peer, local).await;
    }

    /// The ways to the relay by UDP: with public addresses where the operator named them. An unspecified address stands for the
    /// one at which the client reached this server.
    #[must_use]
    pub fn ways(&self) -> Vec<RelayWay> {
        self.addresses.iter().flat_map(|at| self.seen(*at)).map(|addr| RelayWay::Udp { addr }).collect()
    }

    /// How one of this server's addresses is seen from outside.
    #[must_use]
    pub fn seen(&self, at: SocketAddr) -> Vec<SocketAddr> {
        let known: Vec<SocketAddr> = self
            .public
            .iter()
            .filter(|ip| ip.is_ipv4() == at.is_ipv4())
            .map(|ip| SocketAddr::new(*ip, at.port()))
            .collect();
        if known.is_empty() || known.contains(&at) || at.ip().is_loopback() { vec![at] } else { known }
    }

    /// What happened and what there is; `None` when the thread does not answer.
    pub async fn numbers(&self) -> Option<Numbers> {
        let ask = async {
            let (tx, rx) = oneshot::channel();
            self.tell(ToRelay::Ask(tx)).await;
            rx.await.ok()
        };
        tokio::time::timeout(ANSWER_WITHIN, ask).await.ok().flatten()
    }

    /// Tells the thread to stop.
    pub(super) async fn stop(&self) {
        self.tell(ToRelay::Stop).await;
    }

    fn next_stream(&self) -> StreamId {
        StreamId(self.shared.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits for room; false when the relay has stopped.
    async fn tell(&self, message: ToRelay) -> bool {
        if self.inbox.send(message).await.is_err() {
            return false;
        }
        if !self.shared.woken.swap(true, Ordering::SeqCst) {
            let _ = self.shared.waker.wake();
        }
        true
    }
}
