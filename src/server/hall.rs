//! The one task that owns the lobby, and the outboxes of all connections.
//!
//! Sockets put what they hear into one bounded queue; the task lets the lobby decide and puts the answers into
//! outboxes without ever waiting: a full outbox belongs to somebody who does not read, and is taken away. Changed
//! parties are collected and stored half a second later by another thread, one batch at a time.

use super::store::{Batch, Store};
use crate::engine::lobby::{ConnId, Lobby, LobbyEffect};
use crate::host::clock::HostClock;
use crate::model::id::PartyId;
use crate::wire::control::{Down, Up};
use axum::extract::ws::Utf8Bytes;
use dashmap::DashMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Messages that wait for the lobby. Each connection adds one at most before it waits itself.
const INBOX: usize = 1024;
/// The lobby counts for pages this often at most; asking more often gives the same numbers.
const FRESH: Duration = Duration::from_millis(200);
/// How long a page waits for the lobby's numbers.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Changes are stored this long after the first of them.
const STORE_AFTER: Duration = Duration::from_millis(500);
/// After a failure (a full disk), the next try.
const STORE_AGAIN: Duration = Duration::from_secs(5);

/// Numbers by name.
pub(super) type Numbers = Vec<(&'static str, u64)>;

/// For the lobby.
#[derive(Debug)]
pub(super) enum ToLobby {
    Open { conn: ConnId, address: IpAddr, audience: String },
    Up(ConnId, Box<Up>),
    Garbage(ConnId),
    Close(ConnId),
    Ask(oneshot::Sender<Numbers>),
}

/// For one connection.
#[derive(Debug)]
pub(super) enum Post {
    Text(Utf8Bytes),
    Close(&'static str),
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Hall {
    inbox: mpsc::Sender<ToLobby>,
    outboxes: DashMap<ConnId, mpsc::Sender<Post>>,
    next: AtomicU64,
    slow: AtomicU64,
    numbers: Mutex<Option<(Instant, Numbers)>>,
    outbox: usize,
    idle: Duration,
}

impl Hall {
    pub(super) fn new(outbox: usize, idle: Duration) -> (Arc<Self>, mpsc::Receiver<ToLobby>) {
        let (inbox, receiver) = mpsc::channel(INBOX);
        let (next, slow) = (AtomicU64::new(1), AtomicU64::new(0));
        let numbers = Mutex::new(None);
        (Arc::new(Self { inbox, outboxes: DashMap::new(), next, slow, numbers, outbox, idle }), receiver)
    }

    pub(super) fn enter(&self) -> (ConnId, mpsc::Receiver<Post>) {
        let conn = ConnId(self.next.fetch_add(1, Ordering::Relaxed));
        let (tx, rx) = mpsc::channel(self.outbox);
        self.outboxes.insert(conn, tx);
        (conn, rx)
    }

    pub(super) fn leave(&self, conn: ConnId) {
        self.outboxes.remove(&conn);
    }

    pub(super) const fn idle(&self) -> Duration {
        self.idle
    }

    /// Waits for room in the lobby's queue; that is what slows down whoever sends too much.
    pub(super) async fn tell(&self, message: ToLobby) {
        // An error means that the server is stopping.
        let _ = self.inbox.send(message).await;
    }

    /// The lobby's numbers; `None` when it does not answer.
    pub(super) async fn numbers(&self) -> Option<Numbers> {
        let ask = async {
            // Held while asking: whoever asks meanwhile gets the same answer.
            let mut known = self.numbers.lock().await;
            if let Some((at, numbers)) = known.as_ref()
                && at.elapsed() < FRESH
            {
                return Some(numbers.clone());
            }
            let (tx, rx) = oneshot::channel();
            self.inbox.send(ToLobby::Ask(tx)).await.ok()?;
            let numbers = rx.await.ok()?;
            *known = Some((Instant::now(), numbers.clone()));
            Some(numbers)
        };
        timeout(ANSWER_WITHIN, ask).await.ok().flatten()
    }

    fn post(&self, conn: ConnId, post: Post) {
        let Some(outbox) = self.outboxes.get(&conn).map(|o| o.clone()) else {
            return;
        };
        if outbox.try_send(post).is_err() {
            self.slow.fetch_add(1, Ordering::Relaxed);
            self.outboxes.remove(&conn);
        }
    }
}

/// The owner of the lobby.
pub(super) struct Keeper {
    pub(super) lobby: Lobby,
    pub(super) clock: HostClock,
    pub(super) store: Store,
    pub(super) hall: Arc<Hall>,
}

/// What has to be stored, and when.
struct Pending {
    changed: BTreeSet<PartyId>,
    due: Instant,
    running: Option<JoinHandle<Result<(), (Batch, anyhow::Error)>>>,
    failures: u64,
}

pub(super) async fn run(
    mut keeper: Keeper,
    mut inbox: mpsc::Receiver<ToLobby>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut pending = Pending { changed: BTreeSet::new(), due: Instant::now(), running: None, failures: 0 };
    loop {
        let wait = keeper.lobby.deadline().map_or(Duration::MAX, |d| d.at.since(keeper.clock.now().mono));
        tokio::select! {
            () = stop.cancelled() => break,
            message = inbox.recv() => match message {
                Some(message) => keeper.handle(message, &pending),
                None => break,
            },
            () = sleep(wait) => keeper.lobby.handle_timeout(keeper.clock.now()),
            () = sleep_until(pending.due), if !pending.changed.is_empty() && pending.running.is_none() => {
                keeper.begin_storing(&mut pending);
            }
            done = finished(&mut pending.running), if pending.running.is_some() => pending.end_storing(done),
        }
        keeper.drain(&mut pending);
    }
    // What arrived before the stop counts.
    while let Ok(message) = inbox.try_recv() {
        keeper.handle(message, &pending);
        keeper.drain(&mut pending);
    }
    keeper.close(pending).await
}

async fn finished<T>(running: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match running {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}

impl Keeper {
    fn handle(&mut self, message: ToLobby, pending: &Pending) {
        let now = self.clock.now();
        match message {
            ToLobby::Open { conn, address, audience } => {
                self.lobby.handle_open(conn, address, &audience, now)
            }
            ToLobby::Up(conn, up) => self.lobby.handle(conn, *up, now),
            ToLobby::Garbage(conn) => self.lobby.handle_garbage(conn),
            ToLobby::Close(conn) => self.lobby.handle_close(conn),
            ToLobby::Ask(answer) => {
                let mut numbers = self.lobby.numbers();
                numbers.push(("dropped_slow_total", self.hall.slow.load(Ordering::Relaxed)));
                numbers.push(("store_failures_total", pending.failures));
                // Whoever asked may have given up.
                let _ = answer.send(numbers);
            }
        }
    }

    fn drain(&mut self, pending: &mut Pending) {
        while let Some(effect) = self.lobby.poll_effect() {
            match effect {
                LobbyEffect::Send { to, down } => self.send(&to, &down),
                LobbyEffect::Close { conn, why } => self.hall.post(conn, Post::Close(why)),
                LobbyEffect::Store(id) | LobbyEffect::Forget(id) => pending.add(id),
            }
        }
    }

    fn send(&self, to: &[ConnId], down: &Down) {
        match serde_json::to_string(down) {
            Ok(text) => {
                let text = Utf8Bytes::from(text);
                for conn in to {
                    self.hall.post(*conn, Post::Text(text.clone()));
                }
            }
            Err(error) => tracing::error!(%error, "a message could not be written"),
        }
    }

    fn batch(&self, pending: &mut Pending) -> Batch {
        let changed = std::mem::take(&mut pending.changed);
        changed.into_iter().map(|id| (id, self.lobby.party(id).cloned())).collect()
    }

    fn begin_storing(&self, pending: &mut Pending) {
        let batch = self.batch(pending);
        let store = self.store.clone();
        pending.running = Some(spawn_blocking(move || store.write(&batch).map_err(|error| (batch, error))));
    }

    async fn close(mut self, mut pending: Pending) -> anyhow::Result<()> {
        self.drain(&mut pending);
        let conns: Vec<ConnId> = self.hall.outboxes.iter().map(|entry| *entry.key()).collect();
        for conn in conns {
            self.hall.post(conn, Post::Close("the server is stopping"));
        }
        if pending.running.is_some() {
            let done = finished(&mut pending.running).await;
            pending.end_storing(done);
        }
        let batch = self.batch(&mut pending);
        let store = self.store.clone();
        spawn_blocking(move || store.write(&batch)).await?
    }
}

impl Pending {
    fn add(&mut self, id: PartyId) {
        if self.changed.is_empty() {
            self.due = self.due.max(Instant::now() + STORE_AFTER);
        }
        self.changed.insert(id);
    }

    fn end_storing(&mut self, done: Result<Result<(), (Batch, anyhow::Error)>, tokio::task::JoinError>) {
        self.running = None;
        match done {
            Ok(Ok(())) => {}
            Ok(Err((batch, error))) => {
                self.failures += 1;
                if self.failures == 1 {
                    tracing::error!("the parties cannot be stored; trying again until it works: {error:#}");
                }
                self.changed.extend(batch.into_iter().map(|(id, _)| id));
                self.due = Instant::now() + STORE_AGAIN;
            }
            Err(error) => {
                self.failures += 1;
                tracing::error!(%error, "storing failed");
            }
        }
    }
}
