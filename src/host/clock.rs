//! The one place that reads clocks. `mono` counts the time a laptop sleeps where the system can tell (Linux:
//! `CLOCK_BOOTTIME`), so that after a sleep every session, lease and silence is as old as it really is; elsewhere it
//! is `std`'s monotonic clock, which stands still during sleep on some systems.

use crate::model::time::{Mono, Now};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Both clocks of this computer, counted from the clock's making or a moment before.
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

    /// A clock whose beats are those of the wall clock, and so of every computer that has the time right: what nodes do on a
    /// beat they do together, and what they say then reaches an idle computer at one moment. It begins within three minutes.
    #[must_use]
    pub fn in_step() -> Self {
        let now = raw();
        // Right after the computer was switched on nothing lies so far back.
        Self { origin: now.checked_sub(since_beat(unix())).unwrap_or(now) }
    }

    /// The same moment by the system's clock that counts sleep (`CLOCK_BOOTTIME`).
    #[cfg(target_os = "linux")]
    pub(in crate::host) fn since_boot(&self, at: Mono) -> Duration {
        self.origin + at.0
    }

    /// This moment. A wall clock set before 1970 reads as 1970.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono: Mono(since(self.origin)), unix: unix() }
    }
}

/// Every beat that a node keeps to (10, 15 and 25 s) falls on a multiple of this.
const BEATS: Duration = Duration::from_secs(150);

/// How long ago the last moment was at which all beats fell together.
fn since_beat(unix: Duration) -> Duration {
    Duration::from_millis(u64::try_from(unix.as_millis() % BEATS.as_millis()).unwrap_or(0))
}

/// A jump of the clocks against each other that means more than somebody's setting of the time by a bit.
const JUMP: Duration = Duration::from_secs(2);

/// Notices that the computer slept: a clock that counts sleep has gone further than one that does not.
#[derive(Debug)]
pub struct SleepWatch {
    asleep: Duration,
}

impl Default for SleepWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl SleepWatch {
    /// Begins to watch now.
    #[must_use]
    pub fn new() -> Self {
        Self { asleep: asleep() }
    }

    /// Whether the computer slept for more than two seconds since this was last asked. Two readings of a clock.
    pub fn woke(&mut self) -> bool {
        self.saw(asleep())
    }

    const fn saw(&mut self, asleep: Duration) -> bool {
        let jump = self.asleep.abs_diff(asleep);
        self.asleep = asleep;
        jump.as_nanos() > JUMP.as_nanos()
    }
}

/// How long the computer has slept so far.
#[cfg(target_os = "linux")]
fn asleep() -> Duration {
    read(libc::CLOCK_BOOTTIME).saturating_sub(read(libc::CLOCK_MONOTONIC))
}

/// Elsewhere the wall clock stands in for the clock that counts sleep: setting it looks like sleep, which costs a few
/// probes. Slow steering of the wall clock adds up to nothing, because only the change since the last look counts.
#[cfg(not(target_os = "linux"))]
fn asleep() -> Duration {
    static ORIGIN: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    unix().saturating_sub(ORIGIN.elapsed())
}

/// Time since 1970 by the wall clock, zero when it is set before that.
#[must_use]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Processor time of this process so far, of all its threads; where the system is asked for it.
#[must_use]
pub fn cpu() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return Some(read(libc::CLOCK_PROCESS_CPUTIME_ID));
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
type Raw = Duration;

#[cfg(target_os = "linux")]
fn raw() -> Raw {
    read(libc::CLOCK_BOOTTIME)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "std has no clock that counts sleep; clock_gettime writes one timespec")]
fn read(clock: libc::clockid_t) -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec, the only thing the call writes. CLOCK_BOOTTIME exists since 2.6.39.
    let done = unsafe { libc::clock_gettime(clock, &raw mut t) };
    assert!(done == 0, "these clocks exist on every kernel that runs this program");
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
    fn sleep_is_told_once_and_small_jumps_never() {
        let mut watch = SleepWatch::new();
        assert!(!watch.woke(), "this test does not sleep");
        let start = watch.asleep;
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!watch.saw(after(1)) && !watch.saw(after(3)), "steps of two seconds and less");
        assert!(watch.saw(after(6)));
        assert!(!watch.saw(after(6)));
        assert!(watch.saw(after(0)), "a clock set back is a jump too");
    }

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

    #[test]
    fn a_clock_in_step_has_the_beats_of_the_wall_clock() {
        let unix = Duration::from_millis(1_795_799_740_123);
        let past = since_beat(unix);
        for beat in [10, 15, 25] {
            let beat = Duration::from_secs(beat).as_millis();
            assert_eq!(past.as_millis() % beat, unix.as_millis() % beat, "a beat of {beat} ms");
        }
        let now = HostClock::in_step().now();
        assert!(now.mono.0 < BEATS + Duration::from_secs(5));
    }
}
