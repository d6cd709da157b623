//! How often somebody may ask: token buckets, kept as one moment each.
//!
//! A bucket is the moment at which it will be full again (the "generic cell rate algorithm"): a token moves that moment
//! ahead, and a bucket whose moment has passed is as good as new and can be forgotten.

use crate::model::time::Mono;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Buckets of one kind. More at once is an attack from everywhere; newcomers then wait for the next sweep.
const BUCKETS: usize = 65_536;

/// So many at once, then one in each `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    burst: u32,
    every: Duration,
}

impl Pace {
    /// So many at once, then one in each `every`.
    #[must_use]
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every }
    }
}

/// One bucket, full when made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Mono,
}

impl Bucket {
    /// Takes a token; false when there is none.
    pub fn take(&mut self, pace: Pace, now: Mono) -> bool {
        let next = self.full_at.max(now) + pace.every;
        if next.since(now) > pace.every.saturating_mul(pace.burst) {
            return false;
        }
        self.full_at = next;
        true
    }

    fn is_full(&self, now: Mono) -> bool {
        self.full_at <= now
    }
}

/// One bucket per key.
#[derive(Debug)]
pub struct Buckets<K> {
    pace: Pace,
    buckets: BTreeMap<K, Bucket>,
}

impl<K: Ord> Buckets<K> {
    /// All full.
    #[must_use]
    pub const fn new(pace: Pace) -> Self {
        Self { pace, buckets: BTreeMap::new() }
    }

    /// Takes a token of this key; false when there is none.
    pub fn take(&mut self, key: K, now: Mono) -> bool {
        if self.buckets.len() >= BUCKETS && !self.buckets.contains_key(&key) {
            return false;
        }
        self.buckets.entry(key).or_default().take(self.pace, now)
    }

    /// Forgets buckets that are full.
    pub fn sweep(&mut self, now: Mono) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

/// Where somebody comes from, as coarse as it is cheap to change: an IPv4 address, or an IPv6 /64, which one customer
/// has whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(u64);

impl Origin {
    /// The origin of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_bits() as u64),
            // Global IPv6 addresses begin with bits that no IPv4 address reaches here.
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64 | 1 << 63),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_one_for_each_interval() {
        let pace = Pace::new(3, Duration::from_secs(1));
        let mut bucket = Bucket::default();
        let start = Mono(Duration::from_secs(100));
        assert!((0..3).all(|_| bucket.take(pace, start)));
        assert!(!bucket.take(pace, start));
        assert!(!bucket.take(pace, start + Duration::from_millis(900)));
        assert!(bucket.take(pace, start + Duration::from_secs(1)));
        assert!(!bucket.take(pace, start + Duration::from_secs(1)));
        let later = start + Duration::from_secs(60);
        assert!((0..3).all(|_| bucket.take(pace, later)), "full again, and not fuller");
        assert!(!bucket.take(pace, later));
    }

    #[test]
    fn full_buckets_are_forgotten_and_empty_ones_are_not() {
        let mut buckets = Buckets::new(Pace::new(2, Duration::from_secs(10)));
        let start = Mono(Duration::from_secs(1));
        assert!(buckets.take(1, start));
        assert!(buckets.take(2, start) && buckets.take(2, start) && !buckets.take(2, start));
        buckets.sweep(start + Duration::from_secs(11));
        assert_eq!(buckets.len(), 1);
        buckets.sweep(start + Duration::from_secs(20));
        assert!(buckets.is_empty());
    }

    #[test]
    fn one_customer_is_one_origin() {
        let of = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("::"), of("0.0.0.0"));
    }
}
