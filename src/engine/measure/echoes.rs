//! Lone packets that come back: round trips and losses.

use super::tally::Tally;
use crate::model::measure::{Rtt, Trip};
use crate::model::time::Mono;
use std::time::Duration;

/// A packet is waited for at least this long, and three times as long as the slowest took.
const PATIENCE: Duration = Duration::from_millis(300);

/// A row of them.
#[derive(Debug)]
pub(super) struct Echoes {
    bytes: u16,
    per_second: u32,
    many: usize,
    start: Mono,
    last: Mono,
    /// When each was sent; `None` once it came back.
    out: Vec<Option<Mono>>,
    times: Vec<Duration>,
    tally: Tally,
}

impl Echoes {
    /// So many of this length and at this rate, from now on.
    pub(super) fn new(bytes: u16, per_second: u32, many: usize, now: Mono) -> Self {
        let (out, times) = (Vec::with_capacity(many), Vec::with_capacity(many));
        Self { bytes, per_second, many, start: now, last: now, out, times, tally: Tally::default() }
    }

    /// When the next one is to leave.
    pub(super) fn due(&self) -> Option<Mono> {
        let sent = u64::try_from(self.out.len()).unwrap_or(u64::MAX);
        let after = Duration::from_nanos(sent * 1_000_000_000 / u64::from(self.per_second.max(1)));
        (self.out.len() < self.many).then(|| self.start + after)
    }

    /// The number of the one that leaves now.
    pub(super) fn poll(&mut self, now: Mono) -> Option<u32> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let number = u32::try_from(self.out.len()).ok()?;
        self.out.push(Some(now));
        self.last = now;
        Some(number)
    }

    /// One came back. What was never sent counts for nothing.
    pub(super) fn back(&mut self, number: u32, now: Mono) {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(sent) = self.out.get_mut(at) else { return };
        self.tally.take(number, now);
        if let Some(sent) = sent.take() {
            self.times.push(now.since(sent));
        }
    }

    /// When it is over.
    pub(super) fn ends(&self) -> Option<Mono> {
        let slowest = self.times.iter().max().copied().unwrap_or_default();
        let all_back = self.times.len() == self.many;
        let patience = if all_back { Duration::ZERO } else { PATIENCE.max(slowest * 3) };
        self.due().is_none().then(|| self.last + patience)
    }

    /// The time within which 99 of 100 came back.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.sorted().map(|sorted| at_share(&sorted, 99))
    }

    fn sorted(&self) -> Option<Vec<Duration>> {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        (!sorted.is_empty()).then_some(sorted)
    }

    /// What became of those that were sent.
    pub(super) fn trip(&self) -> Trip {
        let packets = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
        let back = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let rtt_ms = self.sorted().map(|sorted| Rtt {
            min: ms(at_share(&sorted, 0)),
            p50: ms(at_share(&sorted, 50)),
            p99: ms(at_share(&sorted, 99)),
        });
        Trip {
            packets,
            bytes: self.bytes,
            per_second: self.per_second,
            rtt_ms,
            loss: 1.0 - f64::from(back) / f64::from(packets.max(1)),
            duplicates: self.tally.duplicates,
            reordered: self.tally.reordered,
        }
    }
}

/// The time within which this many of a hundred lie.
fn at_share(sorted: &[Duration], of_hundred: usize) -> Duration {
    let at = (sorted.len() * of_hundred).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_losses_and_repeats_are_told() {
        let mut row = Echoes::new(100, 100, 100, Mono::ZERO);
        let ms = |n: u32| Mono(Duration::from_millis(n.into()));
        for n in 0..100 {
            assert_eq!(row.due(), Some(ms(n * 10)));
            assert_eq!(row.poll(ms(n * 10)), Some(n));
            assert_eq!(row.poll(ms(n * 10)), None);
            // One in ten is lost, and the n-th takes n milliseconds.
            if n % 10 != 9 {
                row.back(n, ms(n * 10 + n));
            }
        }
        row.back(3, ms(2000));
        row.back(100, ms(2000));
        row.back(u32::MAX, ms(2000));
        let trip = row.trip();
        let rtt = trip.rtt_ms.unwrap();
        assert_eq!((rtt.min, rtt.p50, rtt.p99), (0.0, 48.0, 98.0));
        assert!((trip.loss - 0.1).abs() < 1e-9 && trip.packets == 100);
        assert_eq!(trip.duplicates + trip.reordered, 1, "the one that came twice");
        assert_eq!(row.ends(), Some(ms(990 + 300)));
        assert_eq!(row.usual(), Some(Duration::from_millis(98)));
    }

    #[test]
    fn who_gets_nothing_back_says_so() {
        let mut row = Echoes::new(100, 100, 2, Mono::ZERO);
        assert!(row.poll(Mono::ZERO).is_some() && row.ends().is_none());
        let trip = row.trip();
        assert_eq!((trip.rtt_ms, trip.loss, trip.packets), (None, 1.0, 1));
    }
}
