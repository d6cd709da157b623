//! Time as an argument. Decisions use `mono`; `unix` is only for stamps that people or other peers see.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Time since this node's own origin. Never goes back; counts sleep where the platform's clock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub Duration);

impl Mono {
    /// The origin.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Time passed since `earlier`, zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The last beat up to this moment of those that all come `every` so long. What can wait keeps to beats, so that an idle
    /// node wakes up once for all of it.
    #[must_use]
    pub fn on_beat(self, every: Duration) -> Self {
        let beat = every.as_nanos().max(1);
        Self(Duration::from_nanos(u64::try_from(self.0.as_nanos() / beat * beat).unwrap_or(u64::MAX)))
    }

    /// The first beat after this moment.
    #[must_use]
    pub fn next_beat(self, every: Duration) -> Self {
        self.on_beat(every) + every
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(d))
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For decisions.
    pub mono: Mono,
    /// For stamps: time since 1970 by this computer's wall clock, which may be wrong.
    pub unix: Duration,
}

impl Now {
    /// This moment and a bit.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self { mono: self.mono + d, unix: self.unix.saturating_add(d) }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        u64::try_from(self.unix.as_millis()).unwrap_or(u64::MAX)
    }
}

/// When a machine wants to be woken, and why (for traces and for the "why is it busy" question).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The moment.
    pub at: Mono,
    /// A short reason, such as `"ping"`.
    pub why: &'static str,
}

impl Deadline {
    /// A deadline.
    #[must_use]
    pub const fn new(at: Mono, why: &'static str) -> Self {
        Self { at, why }
    }

    /// The earlier of two wishes.
    #[must_use]
    pub fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (one, None) | (None, one) => one,
        }
    }
}
