//! When something was used last, for a bounded number of things that are forgotten after a silence.
//!
//! Every step is O(log n). The heap holds each thing once, under the moment it was pushed; a thing that was used since is
//! pushed again when it comes up, so a use costs no heap operation.

use crate::model::time::Mono;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::RangeInclusive;
use std::time::Duration;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Ledger<K> {
    used: BTreeMap<K, Mono>,
    ages: BinaryHeap<Reverse<(Mono, K)>>,
    life: Duration,
    size: usize,
}

impl<K: Ord + Copy> Ledger<K> {
    /// Nothing yet; things are forgotten after `life`, and the oldest when there are more than `size`.
    pub(super) const fn new(life: Duration, size: usize) -> Self {
        Self { used: BTreeMap::new(), ages: BinaryHeap::new(), life, size }
    }

    /// It is used now. True when it was not known; then `overdue` is to be asked.
    pub(super) fn touch(&mut self, key: K, now: Mono) -> bool {
        let new = self.used.insert(key, now).is_none();
        if new {
            self.ages.push(Reverse((now, key)));
        }
        new
    }

    /// Something that is to be forgotten now, and is: its time is over, or there are too many. Ask until there is none.
    pub(super) fn overdue(&mut self, now: Mono) -> Option<K> {
        loop {
            let Reverse((pushed, key)) = self.ages.peek().copied()?;
            if pushed + self.life > now && self.used.len() <= self.size {
                return None;
            }
            self.ages.pop();
            match self.used.get(&key) {
                Some(used) if *used > pushed => self.ages.push(Reverse((*used, key))),
                Some(_) => {
                    self.used.remove(&key);
                    return Some(key);
                }
                None => {}
            }
        }
    }

    /// Whether it is known.
    pub(super) fn has(&self, key: &K) -> bool {
        self.used.contains_key(key)
    }

    /// Whether anything of this range is known.
    pub(super) fn has_any(&self, range: RangeInclusive<K>) -> bool {
        self.used.range(range).next().is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.used.clear();
        self.ages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Mono {
        Mono(Duration::from_secs(s))
    }

    #[test]
    fn what_is_used_stays_and_what_is_silent_goes() {
        let mut l = Ledger::new(Duration::from_secs(10), 100);
        assert!(l.touch(1, at(0)) && l.touch(2, at(0)));
        assert!(!l.touch(1, at(9)));
        assert_eq!((l.overdue(at(9)), l.overdue(at(10)), l.overdue(at(10))), (None, Some(2), None));
        assert!(l.has(&1) && !l.has(&2));
        assert_eq!(l.overdue(at(19)), Some(1));
    }

    #[test]
    fn the_one_used_longest_ago_makes_room() {
        let mut l = Ledger::new(Duration::from_secs(100), 2);
        l.touch(1, at(0));
        l.touch(2, at(1));
        l.touch(1, at(2));
        l.touch(3, at(3));
        assert_eq!((l.overdue(at(3)), l.overdue(at(3))), (Some(2), None));
        assert_eq!(l.len(), 2);
        assert!(l.has_any(3..=9) && !l.has_any(2..=2));
    }

    #[test]
    fn the_heap_never_outgrows_what_is_known() {
        let mut l = Ledger::new(Duration::from_secs(5), 50);
        for i in 0..10_000u64 {
            l.touch(i % 70, at(i));
            while l.overdue(at(i)).is_some() {}
            assert!(l.ages.len() == l.used.len() && l.len() <= 50);
        }
    }
}
