//! A token bucket in whole numbers.

use crate::model::time::Mono;
use crate::rules::ruleset::Pace;
use std::time::Duration;

/// Thousandths of a token, so that slow rates lose nothing to rounding.
const WHOLE: u64 = 1_000_000;

/// A token bucket; starts full.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    level: u64,
    at: Mono,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(pace: Pace, now: Mono) -> Self {
        Self { level: u64::from(pace.burst) * WHOLE, at: now }
    }

    /// Takes one token; false when there is none.
    pub fn take(&mut self, pace: Pace, now: Mono) -> bool {
        self.take_n(pace, 1, now)
    }

    /// Takes `n` tokens at once, or none; false when there are not so many.
    pub fn take_n(&mut self, pace: Pace, n: u32, now: Mono) -> bool {
        self.fill(pace, now);
        let price = u64::from(n) * WHOLE;
        let enough = self.level >= price;
        if enough {
            self.level -= price;
        }
        enough
    }

    /// How long until there are `n` tokens; `None` when there are.
    pub fn wait_for(&mut self, pace: Pace, n: u32, now: Mono) -> Option<Duration> {
        self.fill(pace, now);
        let missing = (u64::from(n) * WHOLE).checked_sub(self.level).filter(|missing| *missing > 0)?;
        Some(Duration::from_micros(missing / u64::from(pace.per_second.max(1))))
    }

    fn fill(&mut self, pace: Pace, now: Mono) {
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.at = self.at.max(now);
        let gain = micros.saturating_mul(u64::from(pace.per_second));
        self.level = self.level.saturating_add(gain).min(u64::from(pace.burst) * WHOLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_only_the_rate() {
        let pace = Pace { per_second: 5, burst: 16 };
        let mut b = Bucket::new(pace, Mono::ZERO);
        assert_eq!((0..100).filter(|_| b.take(pace, Mono::ZERO)).count(), 16);
        let passed = (1..=10_000u64).filter(|ms| b.take(pace, Mono(Duration::from_millis(*ms)))).count();
        assert_eq!(passed, 50);
    }

    #[test]
    fn time_going_backwards_gives_nothing() {
        let pace = Pace { per_second: 1, burst: 1 };
        let mut b = Bucket::new(pace, Mono(Duration::from_secs(10)));
        assert!(b.take(pace, Mono(Duration::from_secs(10))));
        assert!(!b.take(pace, Mono(Duration::from_secs(5))));
        assert!(!b.take(pace, Mono(Duration::from_secs(10))));
    }
}
