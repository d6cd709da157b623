//! Passing packets on for two other members: how much, and for whom.
//!
//! A member that allows it is a relay of the party's own: what it passes on is sealed between the two others, so it can
//! neither read nor change it. Only members send to it and only to members, each datagram is passed on once, and the
//! paces here keep a household's line usable: as a whole, and so that one guest cannot take it all.

use crate::model::addr::Seat;
use crate::model::time::Mono;
use std::collections::BTreeMap;

/// Bytes a second for everybody together: what a modest line sends (16 Mbit/s), and a few games need.
const ALL: Rate = Rate { per_second: 2_000_000, burst: 256_000 };
/// And for one sender.
const ONE: Rate = Rate { per_second: 1_000_000, burst: 128_000 };
/// The longest datagram: a WireGuard message around the largest packet of the tunnel.
pub const LONGEST: usize = 1_500;

/// How fast bytes may come.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u64,
    burst: u64,
}

/// A bucket of bytes; starts full.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    /// Millionths of a byte.
    level: u64,
    at: Mono,
}

impl Bytes {
    const fn new(rate: Rate, now: Mono) -> Self {
        Self { level: rate.burst * 1_000_000, at: now }
    }

    fn fill(&mut self, rate: Rate, now: Mono) {
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.at = self.at.max(now);
        let gain = micros.saturating_mul(rate.per_second);
        self.level = self.level.saturating_add(gain).min(rate.burst * 1_000_000);
    }

    const fn holds(&self, bytes: u64) -> bool {
        self.level >= bytes * 1_000_000
    }

    const fn take(&mut self, bytes: u64) {
        self.level -= bytes * 1_000_000;
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct Forwarder {
    on: bool,
    all: Bytes,
    each: BTreeMap<Seat, Bytes>,
}

/// Whether a datagram is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Pass,
    /// This node does not do that, or not such a datagram.
    Refused,
    /// Too much at the moment.
    Pace,
}

impl Forwarder {
    /// One that passes on, or (`on` is false) nothing.
    #[must_use]
    pub const fn new(on: bool, now: Mono) -> Self {
        Self { on, all: Bytes::new(ALL, now), each: BTreeMap::new() }
    }

    /// Whether it passes anything on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// A member wants this many bytes passed on to another.
    pub fn admit(&mut self, from: Seat, to: Seat, len: usize, now: Mono) -> Verdict {
        if !self.on || from == to || len > LONGEST {
            return Verdict::Refused;
        }
        let bytes = u64::try_from(len).unwrap_or(u64::MAX);
        // At most one for each seat.
        let one = self.each.entry(from).or_insert_with(|| Bytes::new(ONE, now));
        one.fill(ONE, now);
        self.all.fill(ALL, now);
        if !one.holds(bytes) || !self.all.holds(bytes) {
            return Verdict::Pace;
        }
        one.take(bytes);
        self.all.take(bytes);
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_is_passed_on_by_who_does_not_want_to_nor_back_to_its_sender() {
        let mut off = Forwarder::new(false, Mono::ZERO);
        assert_eq!(off.admit(Seat(1), Seat(2), 100, Mono::ZERO), Verdict::Refused);
        let mut on = Forwarder::new(true, Mono::ZERO);
        assert_eq!(on.admit(Seat(1), Seat(1), 100, Mono::ZERO), Verdict::Refused);
        assert_eq!(on.admit(Seat(1), Seat(2), LONGEST + 1, Mono::ZERO), Verdict::Refused);
        assert_eq!(on.admit(Seat(1), Seat(2), LONGEST, Mono::ZERO), Verdict::Pass);
    }

    #[test]
    fn one_sender_gets_half_and_all_together_the_whole_line() {
        let mut f = Forwarder::new(true, Mono::ZERO);
        let mut passed = BTreeMap::<u8, usize>::new();
        for ms in 0..10_000u64 {
            let now = Mono(Duration::from_millis(ms));
            for seat in 1..=3 {
                for _ in 0..4 {
                    let ok = f.admit(Seat(seat), Seat(9), 1000, now) == Verdict::Pass;
                    *passed.entry(seat).or_default() += usize::from(ok) * 1000;
                }
            }
        }
        let all: usize = passed.values().sum();
        assert!((19_000_000..=20_300_000).contains(&all), "{passed:?}");
        assert!(passed.values().all(|n| *n <= 10_200_000), "{passed:?}");
        let mut alone = Forwarder::new(true, Mono::ZERO);
        let end = Mono(Duration::from_secs(10));
        let sent = (0..100_000).filter(|_| alone.admit(Seat(1), Seat(2), 1000, end) == Verdict::Pass);
        assert_eq!(sent.count(), 128, "a burst is a burst");
    }
}
