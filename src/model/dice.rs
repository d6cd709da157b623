//! Dice from one seed, forked by purpose, so that a new draw in one module does not reshuffle all others.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The one seed a node is born with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// A seed from a number, for tests and the simulator.
    #[must_use]
    pub fn from_u64(n: u64) -> Self {
        Self(Sha256::new().chain_update(b"lanrage seed").chain_update(n.to_le_bytes()).finalize().into())
    }

    /// The seed of a child with this purpose.
    #[must_use]
    pub fn fork(&self, purpose: &str) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(purpose.as_bytes()).finalize().into())
    }

    /// The dice of this purpose.
    #[must_use]
    pub fn dice(&self, purpose: &str) -> Dice {
        Dice { rng: ChaCha12Rng::from_seed(self.fork(purpose).0) }
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// A reproducible, cryptographically strong stream of draws.
#[derive(Clone)]
pub struct Dice {
    rng: ChaCha12Rng,
}

impl std::fmt::Debug for Dice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dice(..)")
    }
}

impl Dice {
    /// Any number.
    pub fn u64(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Any number.
    pub fn u32(&mut self) -> u32 {
        self.rng.next_u32()
    }

    /// A number below `n` (0 when `n` is 0). The bias of the multiplication is below 2^-32 and does not matter here.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.rng.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True with `per_mille` chances in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut b = [0; N];
        self.rng.fill_bytes(&mut b);
        b
    }

    /// A duration within ±`percent` of `d`, for jitter.
    pub fn jitter(&mut self, d: Duration, percent: u32) -> Duration {
        let per_mille = self.range(1000 - percent.min(100) * 10, 1000 + percent.min(100) * 10);
        d * per_mille / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_purpose_does_not_disturb_another() {
        let seed = Seed::from_u64(7);
        let mut a = seed.dice("a");
        let first = seed.dice("b").u64();
        a.u64();
        assert_eq!(seed.dice("b").u64(), first);
        assert_ne!(seed.dice("a").u64(), first);
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut d = Seed::from_u64(1).dice("range");
        for _ in 0..1000 {
            assert!((5..=9).contains(&d.range(5, 9)));
            let j = d.jitter(Duration::from_secs(10), 20);
            assert!(j >= Duration::from_secs(8) && j <= Duration::from_secs(12));
        }
        assert_eq!(d.below(0), 0);
    }
}
