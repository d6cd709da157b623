//! Plugins in the real world: one thread each, a bounded queue in front of it, and one watchdog over all.
//!
//! `Keeper::start` makes a plugin on its own thread and hands out a `Plugin`; `PluginNews::Loaded` brings it to the data
//! loop, which asks it with `ask` and never waits: a full queue is `Busy`. Answers come by the channel that was given at
//! the start. A call that takes longer than `HARD` is stopped by a flag that the virtual machine reads; a plugin that was
//! stopped, or says of itself that it must sleep, is dropped, and only a new start brings it back.
//!
//! Nothing here decides about packets: the engine has its own deadline, and does not hear how long a call takes.

mod watchdog;

use super::clock::HostClock;
use super::threads;
use crate::model::dice::Seed;
use crate::model::id::PluginId;
use crate::model::script::{PluginFacts, ScriptAnswer, ScriptCall, ScriptFault, ScriptReply};
use crate::model::status::Trouble;
use crate::plugin::vm::Vm;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use watchdog::{Shared, Watchdog};

/// Questions that may wait for one plugin.
pub const QUEUE: usize = 64;
/// Answers that may wait for the data loop.
pub const REPLIES: usize = 256;
/// A call longer than this is counted and shown.
pub const SOFT: Duration = Duration::from_millis(2);
/// And one that takes more processor time than this is stopped.
pub const HARD: Duration = Duration::from_millis(10);
/// Loading compiles the sources and runs the first file.
pub const LOADING: Duration = Duration::from_secs(1);
/// Beyond `LOADING`, in case that the thread hardly gets any time.
const GRACE: Duration = Duration::from_secs(2);

/// What answers questions: a virtual machine with a plugin in it.
pub trait Brain {
    /// Answers.
    ///
    /// # Errors
    /// Why not.
    fn ask(&mut self, call: &ScriptCall) -> Result<ScriptAnswer, ScriptFault>;
    /// Bytes that it holds.
    fn memory(&self) -> usize;
    /// What it logged since it was asked last, where no answer carries it.
    fn take_log(&mut self) -> Vec<String> {
        Vec::new()
    }
}

impl Brain for Vm {
    fn ask(&mut self, call: &ScriptCall) -> Result<ScriptAnswer, ScriptFault> {
        self.ask(call)
    }

    fn memory(&self) -> usize {
        self.memory()
    }

    fn take_log(&mut self) -> Vec<String> {
        self.take_log()
    }
}

/// What happened to a plugin.
#[derive(Debug)]
pub enum PluginNews {
    /// It is there; an older one of the same id is replaced.
    Loaded(Plugin),
    /// It was taken away.
    Gone(PluginId),
}

/// A plugin that runs. Dropping it ends its thread.
#[derive(Debug)]
pub struct Plugin {
    /// What the engine needs to know of it.
    pub facts: PluginFacts,
    door: SyncSender<ScriptCall>,
    shared: Arc<Shared>,
}

impl Plugin {
    /// Asks; the answer comes by the channel.
    ///
    /// # Errors
    /// `Busy` when too many questions wait, `Asleep` when nobody answers any more.
    pub fn ask(&self, call: ScriptCall) -> Result<(), ScriptFault> {
        self.door.try_send(call).map_err(|error| match error {
            TrySendError::Full(_) => {
                self.shared.stats.busy.fetch_add(1, Ordering::Relaxed);
                ScriptFault::Busy
            }
            TrySendError::Disconnected(_) => ScriptFault::Asleep,
        })
    }

    /// Whether it still answers.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.shared.asleep().is_none()
    }

    /// For whoever asks it beside the data loop.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker { door: self.door.clone() }
    }

    /// For whoever shows how plugins are.
    #[must_use]
    pub fn watch(&self) -> PluginWatch {
        PluginWatch { id: self.facts.id.clone(), shared: Arc::clone(&self.shared) }
    }
}

/// Asks a plugin from any thread. Its thread ends when the `Plugin` and every `Asker` are gone.
#[derive(Debug, Clone)]
pub struct Asker {
    door: SyncSender<ScriptCall>,
}

impl Asker {
    /// Asks; the data loop gets the answer too, and takes no notice of a number that it did not give.
    ///
    /// # Errors
    /// As `Plugin::ask`.
    pub fn ask(&self, call: ScriptCall) -> Result<(), ScriptFault> {
        self.door.try_send(call).map_err(|error| match error {
            TrySendError::Full(_) => ScriptFault::Busy,
            TrySendError::Disconnected(_) => ScriptFault::Asleep,
        })
    }
}

/// Reads how a plugin is, from any thread.
#[derive(Debug, Clone)]
pub struct PluginWatch {
    id: PluginId,
    shared: Arc<Shared>,
}

/// How a plugin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginStats {
    /// Which.
    pub id: PluginId,
    /// Questions answered or failed.
    pub calls: u64,
    /// Failed ones.
    pub faults: u64,
    /// Questions that found its queue full.
    pub busy: u64,
    /// Calls that took longer than `SOFT`.
    pub slow: u64,
    /// The longest call.
    pub worst: Duration,
    /// Bytes that it holds.
    pub memory: u64,
    /// Why it sleeps, if it does.
    pub asleep: Option<String>,
}

impl PluginWatch {
    /// How it is now.
    #[must_use]
    pub fn stats(&self) -> PluginStats {
        let stats = &self.shared.stats;
        PluginStats {
            id: self.id.clone(),
            calls: stats.calls.load(Ordering::Relaxed),
            faults: stats.faults.load(Ordering::Relaxed),
            busy: stats.busy.load(Ordering::Relaxed),
            slow: stats.slow.load(Ordering::Relaxed),
            worst: Duration::from_nanos(stats.worst.load(Ordering::Relaxed)),
            memory: stats.memory.load(Ordering::Relaxed),
            asleep: self.shared.asleep(),
        }
    }
}

/// Starts plugins and watches over them. Its watchdog ends with it.
#[derive(Debug)]
pub struct Keeper {
    clock: HostClock,
    watchdog: Watchdog,
    replies: mpsc::Sender<ScriptReply>,
}

impl Keeper {
    /// A keeper whose plugins answer by this channel.
    ///
    /// # Errors
    /// `no_thread`.
    pub fn new(clock: HostClock, replies: mpsc::Sender<ScriptReply>) -> Result<Self, Trouble> {
        Ok(Self { clock, watchdog: Watchdog::start(clock)?, replies })
    }

    /// Starts a plugin on a thread of its own. Waits until it is loaded, which may take `LOADING`: not for the data thread.
    /// `make` gets the flag that stops it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn start<B: Brain + 'static>(
        &self,
        id: &PluginId,
        make: impl FnOnce(Arc<AtomicBool>) -> Result<(PluginFacts, B), ScriptFault> + Send + 'static,
    ) -> Result<Plugin, ScriptFault> {
        let shared = self.watchdog.watch();
        let (door, queue) = sync_channel(QUEUE);
        let (tell, loaded) = sync_channel(1);
        let worker = Worker {
            id: id.clone(),
            clock: self.clock,
            shared: Arc::clone(&shared),
            bell: self.watchdog.bell(),
            replies: self.replies.clone(),
        };
        let name: String = format!("plugin {id}").chars().take(15).collect();
        let thread = threads::named(&name, move || {
            if let Some(brain) = worker.load(make, &tell) {
                worker.run(brain, &queue);
            }
        });
        thread.map_err(|trouble| ScriptFault::Failed(trouble.message))?;
        match loaded.recv_timeout(LOADING + GRACE) {
            Ok(facts) => Ok(Plugin { facts: facts?, door, shared }),
            Err(RecvTimeoutError::Timeout) => {
                shared.stop.store(true, Ordering::SeqCst);
                Err(ScriptFault::PutToSleep(format!("the plugin `{id}` did not finish loading")))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(ScriptFault::PutToSleep(format!("the thread of the plugin `{id}` ended while loading")))
            }
        }
    }
}

/// A plugin's thread.
struct Worker {
    id: PluginId,
    clock: HostClock,
    shared: Arc<Shared>,
    bell: watchdog::Bell,
    replies: mpsc::Sender<ScriptReply>,
}

impl Worker {
    fn load<B: Brain>(
        &self,
        make: impl FnOnce(Arc<AtomicBool>) -> Result<(PluginFacts, B), ScriptFault>,
        tell: &SyncSender<Result<PluginFacts, ScriptFault>>,
    ) -> Option<B> {
        self.shared.is_here();
        let begun = self.shared.begin(&self.clock, LOADING, &self.bell);
        let made = catch_unwind(AssertUnwindSafe(|| make(Arc::clone(&self.shared.stop))));
        self.shared.end(&self.clock, begun);
        let made = made.unwrap_or_else(|panic| {
            Err(ScriptFault::PutToSleep(format!("it broke: {}", threads::panic_text(&*panic))))
        });
        match made {
            Ok(_) if self.shared.is_stopped() => {
                let why = format!("the plugin `{}` took longer than {LOADING:?} to load", self.id);
                let _ = tell.send(Err(ScriptFault::PutToSleep(why)));
                None
            }
            Ok((facts, brain)) => {
                self.shared.stats.memory.store(brain.memory() as u64, Ordering::Relaxed);
                tell.send(Ok(facts)).is_ok().then_some(brain)
            }
            Err(fault) => {
                let _ = tell.send(Err(fault));
                None
            }
        }
    }

    /// Until nobody asks any more, or it must sleep.
    fn run<B: Brain>(&self, mut brain: B, queue: &Receiver<ScriptCall>) {
        while let Ok(call) = queue.recv() {
            let answer = self.ask(&mut brain, &call);
            if let Err(fault) = &answer {
                self.shared.stats.faults.fetch_add(1, Ordering::Relaxed);
                if let ScriptFault::PutToSleep(why) = fault {
                    self.shared.fall_asleep(why);
                }
            }
            let over = matches!(answer, Err(ScriptFault::PutToSleep(_) | ScriptFault::Asleep));
            let reply = ScriptReply { id: call.id, plugin: call.plugin, answer };
            if self.replies.blocking_send(reply).is_err() || over {
                return;
            }
        }
    }

    fn ask<B: Brain>(&self, brain: &mut B, call: &ScriptCall) -> Result<ScriptAnswer, ScriptFault> {
        let begun = self.shared.begin(&self.clock, HARD, &self.bell);
        let answer = catch_unwind(AssertUnwindSafe(|| brain.ask(call)));
        let took = self.shared.end(&self.clock, begun);
        let stats = &self.shared.stats;
        stats.calls.fetch_add(1, Ordering::Relaxed);
        stats.worst.fetch_max(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if took > SOFT {
            stats.slow.fetch_add(1, Ordering::Relaxed);
        }
        let answer = match answer {
            Ok(answer) => answer,
            // Telling of it may have taken its time, too; this is what happened.
            Err(panic) => {
                let why = format!("it broke: {}", threads::panic_text(&*panic));
                return Err(ScriptFault::PutToSleep(why));
            }
        };
        if self.shared.is_stopped() {
            return Err(ScriptFault::PutToSleep(format!("one call took longer than {HARD:?}")));
        }
        stats.memory.store(brain.memory() as u64, Ordering::Relaxed);
        let lines = match &answer {
            Ok(answer) => answer.log.clone(),
            Err(_) => brain.take_log(),
        };
        for line in lines {
            tracing::info!(plugin = %self.id, "{}", line.escape_debug());
        }
        answer
    }
}

/// A seed for a plugin's dice, apart from the node's.
#[must_use]
pub fn seed_for(seed: &Seed, id: &PluginId) -> Seed {
    seed.fork(&format!("plugin {id}"))
}

impl Shared {
    fn asleep(&self) -> Option<String> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fall_asleep(&self, why: &str) {
        *self.asleep.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }
}
