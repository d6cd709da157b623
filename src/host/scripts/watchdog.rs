//! One thread that looks at every plugin's present call, and raises the flag of those that take too long.
//!
//! It sleeps while nobody is asked anything. While somebody is, it looks every `STEP`; a call is stopped at most that much
//! later than its limit, as far as the system lets the thread run.

use crate::host::clock::HostClock;
use crate::host::threads;
use crate::model::status::Trouble;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// Between two looks.
const STEP: Duration = Duration::from_millis(2);
/// Looks without anything to see before it sleeps: waking it costs a system call, which a plugin that is asked a thousand
/// times a second should not pay each time.
const IDLE_LOOKS: u32 = 5;

/// Numbers of a plugin.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) calls: AtomicU64,
    pub(super) faults: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) slow: AtomicU64,
    pub(super) worst: AtomicU64,
    pub(super) memory: AtomicU64,
}

/// What a plugin's thread, the watchdog and those who look share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Raised for good: the virtual machine stops at its next step.
    pub(super) stop: Arc<AtomicBool>,
    /// When the present call must be over, in nanoseconds of the clock; 0 is no call.
    until: AtomicU64,
    pub(super) stats: Stats,
    pub(super) asleep: Mutex<Option<String>>,
}

fn nanos(clock: &HostClock) -> u64 {
    u64::try_from(clock.now().mono.0.as_nanos()).unwrap_or(u64::MAX)
}

impl Shared {
    /// A call begins; it may take this long.
    pub(super) fn begin(&self, clock: &HostClock, limit: Duration, bell: &Bell) -> u64 {
        let now = nanos(clock);
        let until = now.saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)).max(1);
        self.until.store(until, Ordering::SeqCst);
        bell.ring();
        now
    }

    /// It is over; how long it took.
    pub(super) fn end(&self, clock: &HostClock, begun: u64) -> Duration {
        self.until.store(0, Ordering::SeqCst);
        Duration::from_nanos(nanos(clock).saturating_sub(begun))
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Raises the flag if it is time; whether there is a call at all.
    fn look(&self, now: u64) -> bool {
        let until = self.until.load(Ordering::SeqCst);
        if until != 0 && until <= now {
            self.stop.store(true, Ordering::SeqCst);
        }
        until != 0
    }
}

/// Wakes the watchdog.
#[derive(Debug, Clone)]
pub(super) struct Bell {
    awake: Arc<AtomicBool>,
    thread: Thread,
}

impl Bell {
    fn ring(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

type Watched = Arc<Mutex<Vec<Weak<Shared>>>>;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Watchdog {
    watched: Watched,
    bell: Bell,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    pub(super) fn start(clock: HostClock) -> Result<Self, Trouble> {
        let watched = Watched::default();
        let (awake, over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let dog = (Arc::clone(&watched), Arc::clone(&awake), Arc::clone(&over));
        let thread = threads::named("plugin-watch", move || watch(&clock, &dog.0, &dog.1, &dog.2))?;
        let bell = Bell { awake, thread: thread.thread().clone() };
        Ok(Self { watched, bell, over, thread: Some(thread) })
    }

    /// What is to be watched from now on, until the last other owner lets go of it.
    pub(super) fn watch(&self) -> Arc<Shared> {
        let shared = Arc::new(Shared::default());
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|w| w.strong_count() > 0);
        watched.push(Arc::downgrade(&shared));
        shared
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.bell.thread.unpark();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(clock: &HostClock, watched: &Watched, awake: &AtomicBool, over: &AtomicBool) {
    let mut idle = 0;
    while !over.load(Ordering::SeqCst) {
        let now = nanos(clock);
        let look = |watched: &Watched| {
            let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.iter().filter_map(Weak::upgrade).filter(|shared| shared.look(now)).count() > 0
        };
        idle = if look(watched) { 0 } else { idle + 1 };
        if idle < IDLE_LOOKS {
            std::thread::sleep(STEP);
            continue;
        }
        awake.store(false, Ordering::SeqCst);
        // A call that began just now may have found the bell still up.
        if look(watched) {
            awake.store(true, Ordering::SeqCst);
        } else {
            std::thread::park();
            awake.store(true, Ordering::SeqCst);
        }
        idle = 0;
    }
}
