//! What arrived of one step: how many, how many twice, how many late, and how long it took.

use crate::model::time::Mono;
use std::time::Duration;

/// Numbers behind the newest whose arrival is remembered.
const WINDOW: u32 = 128;

/// Counts numbered packets in constant room.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) received: u32,
    pub(super) duplicates: u32,
    pub(super) reordered: u32,
    /// The newest number, and which of those behind it arrived (bit 0: itself).
    newest: Option<u32>,
    seen: u128,
    first: Mono,
    last: Mono,
}

impl Tally {
    /// A packet arrived; false when it had arrived before.
    pub(super) fn take(&mut self, number: u32, now: Mono) -> bool {
        let Some(newest) = self.newest else {
            (self.newest, self.seen, self.first) = (Some(number), 1, now);
            return self.count(now);
        };
        if number > newest {
            let ahead = number - newest;
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.newest = Some(number);
            return self.count(now);
        }
        let behind = newest - number;
        // What is older than the window is taken for late: the tunnel lets nothing through twice anyway.
        let bit = if behind < WINDOW { 1 << behind } else { 0 };
        if self.seen & bit != 0 {
            self.duplicates = self.duplicates.saturating_add(1);
            return false;
        }
        self.seen |= bit;
        self.reordered = self.reordered.saturating_add(1);
        self.count(now)
    }

    fn count(&mut self, now: Mono) -> bool {
        self.received = self.received.saturating_add(1);
        self.last = now;
        true
    }

    /// From the first to the last.
    pub(super) fn span(&self) -> Duration {
        self.last.since(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_or_late_is_told_apart() {
        let mut tally = Tally::default();
        let order = [10, 12, 11, 12, 10, 400, 13, 401, 400];
        let new = (0..).zip(order).filter(|(ms, n)| tally.take(*n, Mono(Duration::from_millis(*ms)))).count();
        assert_eq!((new, tally.received, tally.duplicates, tally.reordered), (6, 6, 3, 2));
        assert_eq!(tally.span(), Duration::from_millis(7));
    }
}
