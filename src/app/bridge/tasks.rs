//! The slow tasks around a node: keeping what it remembers, watching cards and signals, running the game.

use crate::host::cards::{self, CardWatch};
use crate::host::drive::ToKeep;
use crate::host::store::{KeptSecret, Parties, Store};
use crate::model::command::Command;
use crate::model::id::PartyId;
use crate::model::key::PartySecret;
use crate::model::status::{Event, Trouble};
use crate::{engine::effect::HostFact, engine::effect::Memory};
use std::ffi::OsString;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Between two writes: a party that gathers brings a record a second, and each write waits for the disk.
const WRITE_PACE: Duration = Duration::from_millis(250);
/// Goodbyes take at most this long, then the node is stopped as it is.
const GOODBYE: Duration = Duration::from_secs(3);
/// After the node stopped on a second signal: time for the screen to be tidied before the process ends.
const TIDY: Duration = Duration::from_millis(500);
/// What shells say for a program that an interrupt ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Writes what the node wants kept, newest first, until the node is gone and everything is written.
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) parties: Parties,
    pub(super) party: PartyId,
    pub(super) owned: bool,
    pub(super) events: mpsc::Sender<Event>,
}

impl Keeper {
    pub(super) async fn run(mut self, mut keep: watch::Receiver<ToKeep>) {
        let (mut memory, mut epoch) = (None::<Arc<Memory>>, None::<u32>);
        let mut failed = false;
        // An error says that the node is gone, but not before its last word was seen.
        while keep.changed().await.is_ok() {
            let ToKeep { memory: new_memory, rekeyed } = keep.borrow_and_update().clone();
            let new_memory =
                new_memory.filter(|new| memory.as_ref().is_none_or(|old| !Arc::ptr_eq(old, new)));
            let rekeyed = rekeyed.filter(|(new, _)| epoch != Some(*new));
            memory = new_memory.clone().or(memory);
            epoch = rekeyed.as_ref().map(|(new, _)| *new).or(epoch);
            let work = move || {
                let kept = self.keep(new_memory.as_deref(), rekeyed);
                (self, kept)
            };
            let Ok((this, kept)) = tokio::task::spawn_blocking(work).await else { return };
            self = this;
            match kept {
                Ok(()) => failed = false,
                Err(trouble) if !std::mem::replace(&mut failed, true) => {
                    let _ = self.events.try_send(Event::Warning(trouble));
                }
                Err(_) => {}
            }
            for warning in self.store.take_warnings() {
                let _ = self.events.try_send(Event::Warning(warning));
            }
            tokio::time::sleep(WRITE_PACE).await;
        }
    }

    fn keep(&mut self, memory: Option<&Memory>, rekeyed: Option<(u32, PartySecret)>) -> Result<(), Trouble> {
        // The secret first: without it the peers that are remembered cannot be read.
        if let Some((epoch, secret)) = rekeyed {
            let id = self.party.to_string();
            let kept = if self.owned { self.parties.own.as_mut() } else { self.parties.joined.get_mut(&id) };
            if let Some(kept) = kept {
                (kept.epoch, kept.secret) = (epoch, KeptSecret(secret));
            }
            self.store.keep_parties(&self.parties)?;
        }
        memory.map_or(Ok(()), |memory| self.store.keep_memory(self.party, memory))
    }
}

/// Tells the node about its cards whenever something about them changes.
pub(super) async fn watch_cards(adapter: String, facts: mpsc::Sender<HostFact>, events: mpsc::Sender<Event>) {
    let mut watch = match CardWatch::new() {
        Ok(watch) => watch,
        Err(e) => {
            let what = format!("changes of this computer's network cards are not noticed: {e}");
            let hint = "start lanrage again after a cable or a Wi-Fi network changed";
            let _ = events.try_send(Event::Warning(Trouble::new("cards_unwatched", what, hint)));
            return;
        }
    };
    loop {
        watch.changed().await;
        let adapter = adapter.clone();
        let Ok(cards) = tokio::task::spawn_blocking(move || cards::list(&adapter)).await else { return };
        if facts.send(HostFact::Cards(cards)).await.is_err() {
            return;
        }
    }
}

/// The first Ctrl-C (or request to end) leaves the party; the second stops at once, with the device removed.
pub(super) async fn watch_signals(commands: mpsc::Sender<Command>, abort: CancellationToken) {
    let Ok(mut signals) = Signals::new() else { return };
    signals.next().await;
    let _ = commands.try_send(Command::Leave);
    tokio::select! {
        () = signals.next() => {}
        // Nobody waits for ever for peers that do not answer. When the node ended in time, this changes nothing.
        () = tokio::time::sleep(GOODBYE) => {
            abort.cancel();
            signals.next().await;
        }
    }
    abort.cancel();
    tokio::select! {
        () = signals.next() => {}
        () = tokio::time::sleep(GOODBYE + TIDY) => {}
        () = commands.closed() => tokio::time::sleep(TIDY).await,
    }
    // Whoever shows the events should have ended the program by now.
    std::process::exit(INTERRUPTED);
}

#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let [a, b, c] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([a?, b?, c?]))
    }

    async fn next(&mut self) {
        let Self([a, b, c]) = self;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "the same shape as on Unix")]
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A game that was given on the command line.
pub(super) struct Game {
    pub(super) command: Vec<OsString>,
    /// Standard output carries our JSON: the game's goes to standard error.
    pub(super) json: bool,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) failure: Arc<OnceLock<Trouble>>,
}

impl Game {
    /// Starts the game when the party can be joined; leaves the party when the game ends.
    pub(super) async fn run(self, mut ready: watch::Receiver<bool>) {
        if ready.wait_for(|ready| *ready).await.is_err() {
            return;
        }
        if let Err(trouble) = self.play().await {
            let _ = self.failure.set(trouble);
        }
        let _ = self.commands.send(Command::Leave).await;
    }

    async fn play(&self) -> Result<(), Trouble> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        let name = program.to_string_lossy();
        let mut command = tokio::process::Command::new(program);
        command.args(arguments);
        if self.json {
            command.stdout(Stdio::from(std::io::stderr()));
        }
        let mut game = command.spawn().map_err(|e| {
            let hint =
                "check the name after `--`; a path such as ./game.sh is needed for a file in this folder";
            Trouble::new("command_failed", format!("`{name}` cannot be started: {e}"), hint)
        })?;
        match game.wait().await {
            Ok(how) => {
                tracing::info!(%how, "the game ended");
                Ok(())
            }
            Err(e) => {
                let what = format!("nobody can tell whether `{name}` still runs: {e}");
                Err(Trouble::new("command_lost", what, "start the game on its own, beside lanrage"))
            }
        }
    }
}
