//! The one place that reads clocks. `mono` counts the time a laptop sleeps where the system can tell (Linux:
//! `CLOCK_BOOTTIME`), so that after a sleep every session, lease and silence is as old as it really is; elsewhere it
//! is `std`'s monotonic clock, which stands still during sleep on some systems.

use crate::model::time::{Mono, Now};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Both clocks of this computer, counted from the clock's making.
#[derive(Debug, Clone, Copy)]
pub struct HostClock {
    origin: Raw,
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

impl HostClock {
    /// A clock whose origin is this moment.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: raw() }
    }

    /// This moment. A wall clock set before 1970 reads as 1970.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono: Mono(since(self.origin)), unix: unix() }
    }
}

/// Time since 1970 by the wall clock, zero when it is set before that.
#[must_use]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(target_os = "linux")]
type Raw = Duration;

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "std has no clock that counts sleep; clock_gettime writes one timespec")]
fn raw() -> Raw {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec, the only thing the call writes. CLOCK_BOOTTIME exists since 2.6.39.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut t) };
    assert!(done == 0, "CLOCK_BOOTTIME exists on every kernel that runs this program");
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

#[cfg(target_os = "linux")]
fn since(origin: Raw) -> Duration {
    raw().saturating_sub(origin)
}

#[cfg(not(target_os = "linux"))]
type Raw = std::time::Instant;

#[cfg(not(target_os = "linux"))]
fn raw() -> Raw {
    Raw::now()
}

#[cfg(not(target_os = "linux"))]
fn since(origin: Raw) -> Duration {
    origin.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_near_zero_and_moves_forward() {
        let clock = HostClock::new();
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(5));
        let second = clock.now();
        assert!(first.mono.0 < Duration::from_secs(5));
        assert!(second.mono.since(first.mono) >= Duration::from_millis(5));
        assert!(second.unix > Duration::from_secs(1_600_000_000), "the wall clock is on a date after 2020");
    }
}
