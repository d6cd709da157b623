//! The router's clock since it last forgot its mappings ("seconds since start of epoch"), by which its restarts show.
//! Pure.

use std::time::Duration;

/// An epoch as it was last heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    value: u32,
    heard: Duration,
}

/// Rounding on both sides (RFC 6886, section 3.6).
const SLACK: Duration = Duration::from_secs(2);

impl Epoch {
    /// An epoch heard at `now`, in any clock that only goes forward.
    pub(super) const fn new(value: u32, now: Duration) -> Self {
        Self { value, heard: now }
    }

    /// Whether the router forgot everything between this and `later`: its clock is at less than seven eighths of the
    /// time that passed (RFC 6886, section 3.6; cheap routers have bad clocks).
    pub(super) fn ended_before(&self, later: &Self) -> bool {
        let passed = later.heard.saturating_sub(self.heard);
        let expected = Duration::from_secs(self.value.into()) + passed * 7 / 8;
        Duration::from_secs(later.value.into()) + SLACK < expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_is_a_restart_and_a_slow_one_is_not() {
        let at = |value, seconds| Epoch::new(value, Duration::from_secs(seconds));
        assert!(!at(1000, 0).ended_before(&at(4600, 3600)));
        assert!(!at(1000, 0).ended_before(&at(4150, 3600)), "an eighth too slow");
        assert!(at(1000, 0).ended_before(&at(4100, 3600)));
        assert!(at(1000, 0).ended_before(&at(3, 10)));
        assert!(!at(5, 0).ended_before(&at(5, 1)), "rounding");
        assert!(!at(0, 9).ended_before(&at(0, 0)), "whatever order they come in");
        assert!(at(u32::MAX, 0).ended_before(&at(0, u64::from(u32::MAX))));
    }
}
