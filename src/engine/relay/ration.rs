//! What a server may send to addresses that nobody has proved.
//!
//! An answer as long as its request (or shorter) amplifies nothing and is always given. A longer one is paid for by the byte
//! out of the bucket of the sender's network, so that whoever forges a victim's address gets the victim a trickle at most.
//! Honest clients that do not pad their first requests live on that trickle; ours pads them and needs none.
//!
//! The buckets are a table of fixed size. Networks that meet in one place share its bucket: under a flood of forged senders
//! all buckets are empty, and only requests that pay for their answers are answered. Nothing grows.

use crate::model::time::Mono;
use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

/// Buckets. 4,096 moments are 64 KiB.
const PLACES: usize = 4096;
/// The bucket: some two hundred unpadded first requests in a burst (a LAN party of players behind one address) ...
pub(super) const BURST_BYTES: u32 = 8192;
/// ... and then a byte in each: 250 bytes a second, six or seven unpadded requests.
const BYTE_EVERY: Duration = Duration::from_millis(4);

/// All buckets.
#[derive(Debug)]
pub(super) struct Rations {
    key: [u8; 32],
    full_at: Box<[Mono]>,
}

impl Rations {
    /// All full. The key decides who meets whom, so that nobody can aim at a neighbour's bucket.
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key, full_at: vec![Mono::ZERO; PLACES].into_boxed_slice() }
    }

    /// Whether an answer of `reply` bytes to a request of `request` bytes may go to this address; takes what it costs.
    pub(super) fn allows(&mut self, to: IpAddr, request: usize, reply: usize, now: Mono) -> bool {
        let Ok(excess @ 1..) = u32::try_from(reply.saturating_sub(request)) else {
            return reply <= request;
        };
        let place = self.place(to);
        let Some(full_at) = self.full_at.get_mut(place) else { return false };
        let next = (*full_at).max(now) + BYTE_EVERY * excess;
        if next.since(now) > BYTE_EVERY * BURST_BYTES {
            return false;
        }
        *full_at = next;
        true
    }

    /// Bytes that the table takes; never changes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.full_at.len() * size_of::<Mono>()
    }

    fn place(&self, address: IpAddr) -> usize {
        // The standard library's SipHash, keyed by what is hashed first; a hash per packet of a flood has to be cheap.
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(&self.key);
        hasher.write_u64(network(address));
        usize::try_from(hasher.finish() % PLACES as u64).unwrap_or_default()
    }
}

/// The network of an address, as coarse as floods are aimed: /24, /48.
const fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => (v4.to_bits() >> 8) as u64,
        IpAddr::V6(v6) => (v6.to_bits() >> 80) as u64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(Duration::from_secs(1000));

    #[test]
    fn an_answer_that_amplifies_nothing_is_always_given() {
        let mut rations = Rations::new([1; 32]);
        assert!((0..10_000).all(|_| rations.allows([198, 51, 100, 1].into(), 60, 60, NOW)));
    }

    #[test]
    fn a_longer_answer_is_rationed_by_network_and_time() {
        let mut rations = Rations::new([1; 32]);
        let mut given = |host: u8, now| {
            (0..1000).filter(|_| rations.allows([198, 51, 100, host].into(), 20, 60, now)).count()
        };
        assert_eq!(given(1, NOW), 8192 / 40);
        assert_eq!(given(2, NOW), 0, "the same network");
        assert_eq!(given(1, NOW + Duration::from_secs(4)), 1000 / 40, "a byte every 4 ms");
    }

    #[test]
    fn a_flood_from_everywhere_changes_no_size() {
        let mut rations = Rations::new([1; 32]);
        let before = rations.bytes();
        let mut given = 0_usize;
        for n in 0..200_000_u32 {
            let from = IpAddr::from((n.wrapping_mul(2_654_435_761)).to_be_bytes());
            given += usize::from(rations.allows(from, 20, 60, NOW)) * 40;
        }
        assert_eq!(rations.bytes(), before);
        assert!(given <= PLACES * BURST_BYTES as usize, "{given} bytes more sent than received");
    }
}
