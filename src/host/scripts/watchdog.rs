//! One thread that looks at every plugin's present call, and raises the flag of those that take too long.
//!
//! It sleeps while nobody is asked anything. While somebody is, it looks every `STEP`; a call is stopped at most that much
//! later than its limit. What counts is the processor time that a call takes: on a PC whose game keeps all processors busy, a
//! plugin that waits for its turn has done nothing wrong.

use crate::host::clock::HostClock;
use crate::host::threads;
use crate::model::status::Trouble;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// Between two looks.
const STEP: Duration = Duration::from_millis(2);
/// A call that hardly gets any processor time is stopped so much later.
const PATIENCE: Duration = Duration::from_millis(240);
/// And where the system does not tell the processor time of a thread, so much later than by the clock.
const BLIND: Duration = Duration::from_millis(30);
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
    /// How long it may take.
    limit: AtomicU64,
    /// The call that the watchdog saw last, by its `until`; and the one whose processor time it noted, and that time.
    seen: AtomicU64,
    noted: AtomicU64,
    used_before: AtomicU64,
    /// The file in which the system tells the processor time of the plugin's thread.
    meter: Mutex<Option<PathBuf>>,
    pub(super) stats: Stats,
    pub(super) asleep: Mutex<Option<String>>,
}

fn nanos(clock: &HostClock) -> u64 {
    u64::try_from(clock.now().mono.0.as_nanos()).unwrap_or(u64::MAX)
}

impl Shared {
    /// The calling thread is the one that is watched.
    pub(super) fn is_here(&self) {
        let here = std::fs::read_link("/proc/thread-self").ok();
        let file = here.map(|thread| PathBuf::from("/proc").join(thread).join("schedstat"));
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Nanoseconds of processor time that the thread has had, as far as the system tells.
    fn used(&self) -> Option<u64> {
        let meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        std::fs::read_to_string(meter.as_ref()?).ok()?.split(' ').next()?.parse().ok()
    }

    /// A call begins; it may take this long.
    pub(super) fn begin(&self, clock: &HostClock, limit: Duration, bell: &Bell) -> u64 {
        let now = nanos(clock);
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let until = now.saturating_add(limit).max(1);
        self.limit.store(limit, Ordering::SeqCst);
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
        if until == 0 {
            return false;
        }
        // Only a call that outlives a look is worth asking the system about.
        if self.seen.swap(until, Ordering::SeqCst) == until {
            if self.noted.swap(until, Ordering::SeqCst) != until {
                self.used_before.store(self.used().unwrap_or(0), Ordering::SeqCst);
            }
            if until <= now && self.is_over(now - until) {
                self.stop.store(true, Ordering::SeqCst);
            }
        }
        true
    }

    /// Whether a call that is so many nanoseconds late by the clock had its time.
    fn is_over(&self, late: u64) -> bool {
        // What the call used before its time was noted.
        const UNNOTED: u64 = 2 * 2_000_000;
        let Some(used) = self.used() else { return u128::from(late) >= BLIND.as_nanos() };
        let used = used.saturating_sub(self.used_before.load(Ordering::SeqCst));
        used.saturating_add(UNNOTED) >= self.limit.load(Ordering::SeqCst)
            || u128::from(late) >= PATIENCE.as_nanos()
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
