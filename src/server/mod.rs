//! The control server: sockets around `engine::lobby`.
//!
//! * `gate`: who may connect: listening, connections per address, slow talkers
//! * `sniff`: what a caller speaks: HTTP, TURN, or TLS with either inside, on every port
//! * `tls`: the certificate
//! * `pages`: plain HTTP: what this is, `/v1/info`, `/healthz`, `/metrics`, and the way into the WebSocket
//! * `socket`: one WebSocket, one task
//! * `hall`: the one task that owns the lobby, and the outboxes of all connections
//! * `relay`: TURN and STUN beside it
//! * `store`: parties in a redb file, written in batches
//!
//! Nothing here decides about parties, and nothing here can read what peers say about themselves.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this side of the seam does I/O")]

mod gate;
mod hall;
mod pages;
pub mod relay;
mod sniff;
mod socket;
mod store;
mod tls;

use crate::engine::lobby::{Knobs, Lobby, Offers};
use crate::engine::relay::REALM;
use crate::host::clock::HostClock;
use crate::host::entropy;
use crate::host::threads;
use crate::model::dice::Seed;
use crate::model::pin::Pin;
use crate::model::relay::RelayWay;
use anyhow::Context;
use gate::Gate;
use hall::Hall;
use relay::{RelayHandle, RelayOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The port of a control server.
pub const PORT: u16 = 8667;
/// How long goodbyes may take when the server stops.
const GOODBYES: Duration = Duration::from_secs(5);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen; empty: every IPv4 address, port 8667.
    pub listen: Vec<SocketAddr>,
    /// Where the parties are kept.
    pub data_dir: PathBuf,
    /// Encryption of the connections.
    pub tls: Tls,
    /// The names (or `name:port`) under which players reach this server. Given: who asks for another is refused, and
    /// a hello made for another server counts nothing here. Empty: whatever name the player used.
    pub names: Vec<String>,
    /// Open connections of one address; behind a proxy all players have the proxy's.
    pub connections_per_address: usize,
    /// Open connections altogether.
    pub connections: usize,
    /// Who sends nothing for this long, not even a ping, is hung up on. Clients ping every 25 s.
    pub idle: Duration,
    /// Messages that wait for one slow connection before it is dropped.
    pub outbox: usize,
    /// Timeouts, caps and paces of the lobby.
    pub lobby: Knobs,
    /// The relay beside it; `None`: there is none.
    pub relay: Option<RelayOptions>,
}

impl ServerOptions {
    /// The defaults, with this folder for the parties.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: Vec::new(),
            data_dir: data_dir.into(),
            tls: Tls::None,
            names: Vec::new(),
            connections_per_address: 256,
            connections: 8192,
            idle: Duration::from_secs(75),
            outbox: 128,
            lobby: Knobs::default(),
            relay: None,
        }
    }
}

/// Encryption of the connections to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP, for tests or behind a proxy that encrypts.
    None,
    /// With a certificate and its key.
    Files {
        /// `--tls-cert`.
        cert: PathBuf,
        /// `--tls-key`.
        key: PathBuf,
    },
    /// With a certificate of its own making.
    SelfSigned,
}

/// A running server.
#[derive(Debug)]
pub struct ServerHandle {
    addresses: Vec<SocketAddr>,
    warnings: Vec<String>,
    pin: Option<Pin>,
    stop: CancellationToken,
    connections: TaskTracker,
    relay: Option<RelayHandle>,
    relay_thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
    hall: JoinHandle<anyhow::Result<()>>,
}

impl ServerHandle {
    /// Where it listens, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was wrong at the start although it started.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The fingerprint of its certificate, when it speaks TLS.
    #[must_use]
    pub const fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// The relay beside it.
    #[must_use]
    pub const fn relay(&self) -> Option<&RelayHandle> {
        self.relay.as_ref()
    }

    /// Says goodbye to everybody, stores everything and stops.
    ///
    /// # Errors
    /// When the parties could not be stored.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        self.stop.cancel();
        if let Some(relay) = &self.relay {
            relay.stop().await;
        }
        let stored = self.hall.await.context("the lobby failed")?;
        self.connections.close();
        let _ = tokio::time::timeout(GOODBYES, self.connections.wait()).await;
        if let Some(thread) = self.relay_thread {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
            ended
                .map_err(|panic| anyhow::anyhow!("the relay failed: {}", threads::panic_text(&*panic)))??;
        }
        stored
    }
}

/// Runs a server until Ctrl-C or a termination signal.
///
/// # Errors
/// When it cannot start (address in use, data folder or certificate not usable) or cannot store at the end.
pub async fn serve(options: ServerOptions) -> anyhow::Result<()> {
    let plain = options.tls == Tls::None;
    let handle = start(options).await?;
    for address in handle.addresses() {
        tracing::info!("listening on http://{address}");
    }
    if plain {
        tracing::warn!(
            "plain HTTP: what peers publish is sealed all the same, but who talks to whom is visible on the way; \
             put a proxy with TLS in front for the open internet"
        );
    }
    terminated().await?;
    tracing::info!("stopping");
    handle.shutdown().await
}

/// Starts a server on the current tokio runtime.
///
/// # Errors
/// When it cannot start.
pub async fn start(options: ServerOptions) -> anyhow::Result<ServerHandle> {
    let identity = tls::load(&options.tls, &options.data_dir)?;
    let wanted = match options.listen.as_slice() {
        [] => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))],
        some => some.to_vec(),
    };
    let listeners = wanted.iter().map(|at| gate::bind(*at, &wanted)).collect::<anyhow::Result<Vec<_>>>()?;
    let addresses =
        listeners.iter().map(tokio::net::TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;

    let dir = options.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || store::Store::open(&dir)).await??;
    for warning in &opened.warnings {
        tracing::error!("{warning}");
    }
    let seed = entropy::seed().map_err(|trouble| anyhow::anyhow!("{}; {}", trouble.message, trouble.hint))?;
    let clock = HostClock::new();
    let pin = identity.as_ref().map(|i| i.pin);
    let mut lobby = Lobby::new(options.lobby.clone(), seed, clock.now());
    let beside = Beside::start(&options, seed)?;
    if let Some(relay) = &beside.relay {
        lobby.offer(Offers::new(
            relay.secret().clone(),
            REALM,
            beside.ways(relay, &addresses, &options, pin),
        ));
    }
    for (id, party) in opened.parties {
        lobby.restore(id, party, clock.now());
    }

    let stop = CancellationToken::new();
    let connections = TaskTracker::new();
    let (hall, inbox) = Hall::new(options.outbox, options.idle);
    let hall_task = tokio::spawn(hall::run(
        hall::Keeper { lobby, clock, store: opened.store, hall: Arc::clone(&hall) },
        inbox,
        stop.clone(),
    ));
    let gate = Arc::new(Gate::new(options.connections_per_address, options.connections));
    let Beside { relay, thread: relay_thread, warning: no_relay, listeners: beside_listeners } = beside;
    let router = pages::router(pages::Desk::new(hall, relay.clone(), &options));
    let rooms = gate::Rooms {
        router,
        tls: identity.map(|i| i.acceptor),
        turn: relay.clone().map(turn_door),
        tasks: connections.clone(),
        stop: stop.clone(),
    };
    for listener in listeners.into_iter().chain(beside_listeners) {
        connections.spawn(gate::listen(listener, Arc::clone(&gate), rooms.clone()));
    }
    let mut warnings = opened.warnings;
    warnings.extend(no_relay);
    warnings.extend(relay.iter().flat_map(|relay| relay.warnings().to_vec()));
    Ok(ServerHandle { addresses, warnings, pin, stop, connections, relay, relay_thread, hall: hall_task })
}

/// The relay, if there is one.
struct Beside {
    relay: Option<RelayHandle>,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
    warning: Option<String>,
    /// TCP at the relay's own port, where clients of other make expect it.
    listeners: Vec<tokio::net::TcpListener>,
}

impl Beside {
    fn start(options: &ServerOptions, seed: Seed) -> anyhow::Result<Self> {
        let none = |warning| Ok(Self { relay: None, thread: None, warning, listeners: Vec::new() });
        let Some(wish) = &options.relay else { return none(None) };
        match relay::start(wish, &options.data_dir, seed) {
            Ok(relay::Started { handle, thread, listeners }) => {
                Ok(Self { relay: Some(handle), thread: Some(thread), warning: None, listeners })
            }
            // Nobody named an address, so it is no mistake of theirs that the usual one is taken.
            Err(error) if wish.listen.is_empty() => {
                let warning = format!("there is no relay here: {error:#}");
                tracing::warn!("{warning}");
                none(Some(warning))
            }
            Err(error) => Err(error),
        }
    }

    /// All ways to the relay, the best first. Every TCP listener of the server serves it too.
    fn ways(
        &self,
        relay: &RelayHandle,
        addresses: &[SocketAddr],
        options: &ServerOptions,
        pin: Option<Pin>,
    ) -> Vec<RelayWay> {
        let own = self.listeners.iter().filter_map(|l| l.local_addr().ok());
        let tcp: Vec<SocketAddr> =
            own.chain(addresses.iter().copied()).flat_map(|at| relay.seen(at)).collect();
        let mut ways = relay.ways();
        ways.extend(tcp.iter().map(|addr| RelayWay::Tcp { addr: *addr }));
        if let Some(pin) = pin {
            let own = (options.tls == Tls::SelfSigned).then_some(pin.0);
            // Without a name of its own: that by which the client reached this server.
            let name = options.names.first().map(|n| n.split(':').next().unwrap_or(n)).unwrap_or_default();
            ways.extend(tcp.iter().map(|addr| RelayWay::Tls {
                addr: *addr,
                name: name.to_owned(),
                pin: own,
            }));
        }
        ways
    }
}

/// What the gate calls with a connection that speaks TURN.
fn turn_door(relay: RelayHandle) -> sniff::TurnDoor {
    Arc::new(move |stream, peer, local| {
        let relay = relay.clone();
        Box::pin(async move { relay.attend_stream(stream, peer, local).await })
    })
}

async fn terminated() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        tokio::select! {
            done = tokio::signal::ctrl_c() => done?,
            _ = term.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok(())
}
