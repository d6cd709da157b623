//! Shares: how many allocations and how many bytes a second one party, and one address, may have.
//!
//! A share lives as long as somebody has an allocation of it, and longer while its bucket is not full again: otherwise
//! deleting an allocation and making it anew would fill the bucket.

use crate::model::time::Mono;
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds for 1,024 bytes; 0: no limit.
    per_kib: u64,
    /// How far ahead a bucket may be used, in nanoseconds.
    burst: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { per_kib: 0, burst: 0 };

    /// So many bytes a second, and as many as that in `burst` at once.
    #[must_use]
    pub fn new(bytes_per_second: u64, burst: Duration) -> Self {
        let per_second = if bytes_per_second == 0 { 1 } else { bytes_per_second };
        Self { per_kib: 1_000_000_000 * 1024 / per_second, burst: nanos(Mono(burst)) }
    }
}

/// A bucket of bytes, as the moment (in nanoseconds) at which it is full again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meter(u64);

impl Meter {
    /// Takes bytes; false when the bucket has not so many.
    pub(super) fn take(&mut self, bytes: usize, rate: Rate, now: u64) -> bool {
        let next = self.0.max(now).saturating_add((bytes as u64).saturating_mul(rate.per_kib) >> 10);
        if rate.per_kib != 0 && next - now > rate.burst {
            return false;
        }
        self.0 = next;
        true
    }
}

/// Nanoseconds of a moment: 584 years of them fit.
pub(super) fn nanos(now: Mono) -> u64 {
    u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX)
}

/// The number of a share; stays the same as long as an allocation holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShareId(u32);

/// The shares of one kind.
#[derive(Debug)]
pub(super) struct Shares<K> {
    by_key: BTreeMap<K, ShareId>,
    all: Vec<Share>,
    free: Vec<ShareId>,
    /// Shares kept at most, in use or not yet full.
    most: usize,
}

#[derive(Debug, Default)]
struct Share {
    allocations: usize,
    meter: Meter,
}

impl<K: Ord + Copy> Shares<K> {
    pub(super) const fn new(most: usize) -> Self {
        Self { by_key: BTreeMap::new(), all: Vec::new(), free: Vec::new(), most }
    }

    /// How many allocations this key has.
    pub(super) fn allocations(&self, key: K) -> usize {
        self.by_key.get(&key).and_then(|id| self.get(*id)).map_or(0, |s| s.allocations)
    }

    /// One more allocation; `None` when there are too many shares.
    pub(super) fn join(&mut self, key: K) -> Option<ShareId> {
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None if self.by_key.len() >= self.most => return None,
            None => self.fresh(key)?,
        };
        self.get_mut(id)?.allocations += 1;
        Some(id)
    }

    /// One less.
    pub(super) fn leave(&mut self, id: ShareId) {
        if let Some(share) = self.get_mut(id) {
            share.allocations = share.allocations.saturating_sub(1);
        }
    }

    /// Takes bytes out of a share's bucket; false when there are not so many.
    pub(super) fn take(&mut self, id: ShareId, bytes: usize, rate: Rate, now: u64) -> bool {
        self.get_mut(id).is_some_and(|share| share.meter.take(bytes, rate, now))
    }

    /// Forgets those that nobody uses and whose bucket is full.
    pub(super) fn sweep(&mut self, now: u64) {
        let Self { by_key, all, free, .. } = self;
        by_key.retain(|_, id| {
            let used = all.get(id.0 as usize).is_some_and(|s| s.allocations > 0 || s.meter.0 > now);
            if !used {
                free.push(*id);
            }
            used
        });
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    fn fresh(&mut self, key: K) -> Option<ShareId> {
        let share = Share::default();
        let id = if let Some(id) = self.free.pop() {
            *self.get_mut(id)? = share;
            id
        } else {
            let id = ShareId(u32::try_from(self.all.len()).ok()?);
            self.all.push(share);
            id
        };
        self.by_key.insert(key, id);
        Some(id)
    }

    fn get(&self, id: ShareId) -> Option<&Share> {
        self.all.get(id.0 as usize)
    }

    fn get_mut(&mut self, id: ShareId) -> Option<&mut Share> {
        self.all.get_mut(id.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_meter_lets_its_rate_through_and_no_more() {
        let rate = Rate::new(100_000, Duration::from_millis(500));
        let mut meter = Meter::default();
        let mut passed = 0;
        for ms in 0..10_000_u64 {
            for _ in 0..2 {
                passed += if meter.take(1000, rate, SECOND + ms * 1_000_000) { 1000 } else { 0 };
            }
        }
        assert!((1_000_000..=1_060_000).contains(&passed), "{passed} bytes in ten seconds");
        assert!((0..1000).all(|_| meter.take(60_000, Rate::UNLIMITED, SECOND)));
    }

    #[test]
    fn a_share_outlives_its_allocations_until_its_bucket_is_full() {
        let rate = Rate::new(1000, Duration::from_secs(2));
        let mut shares = Shares::new(2);
        let one = shares.join('a').unwrap();
        assert!(shares.take(one, 2000, rate, SECOND) && !shares.take(one, 100, rate, SECOND));
        shares.leave(one);
        shares.sweep(SECOND + 1);
        let again = shares.join('a').unwrap();
        assert!(!shares.take(again, 100, rate, SECOND + 1), "deleting and making anew fills nothing");
        shares.leave(again);
        assert!(shares.join('b').is_some() && shares.join('c').is_none(), "no more than two");
        shares.sweep(9 * SECOND);
        assert_eq!(shares.len(), 1);
        assert!(shares.join('c').is_some());
        assert_eq!((shares.allocations('a'), shares.allocations('b'), shares.allocations('c')), (0, 1, 1));
    }
}
