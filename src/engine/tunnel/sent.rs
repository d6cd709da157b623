//! What was sealed for a peer lately, so that it can be sent once more by another way when the first turns out to be broken.
//! The peer's replay window drops what it had already, so nothing arrives twice.
//!
//! Only small packets are kept: a game's. Large ones belong to streams, which repeat what is lost themselves.

use crate::model::limits::{SENT_BYTES, SENT_PACKETS};
use crate::model::time::Mono;

/// A ring of the newest small packets. Its memory is made when the first one comes.
#[derive(Default)]
pub struct SentRing {
    slots: Vec<Slot>,
    next: usize,
}

struct Slot {
    at: Mono,
    len: usize,
    bytes: [u8; SENT_BYTES],
}

impl std::fmt::Debug for SentRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SentRing({} packets)", self.slots.len())
    }
}

impl SentRing {
    /// Remembers a sealed packet, if it is small enough.
    pub fn push(&mut self, sealed: &[u8], now: Mono) {
        if sealed.len() > SENT_BYTES {
            return;
        }
        if self.slots.is_empty() {
            self.slots.reserve_exact(SENT_PACKETS);
        }
        if self.slots.len() < SENT_PACKETS {
            self.slots.push(Slot { at: now, len: 0, bytes: [0; SENT_BYTES] });
            self.next = self.slots.len() - 1;
        }
        let at = self.next;
        self.next = (at + 1) % SENT_PACKETS;
        if let Some(slot) = self.slots.get_mut(at)
            && let Some(room) = slot.bytes.get_mut(..sealed.len())
        {
            room.copy_from_slice(sealed);
            (slot.at, slot.len) = (now, sealed.len());
        }
    }

    /// Those sent at or after this moment, the oldest first.
    pub fn since(&self, since: Mono) -> impl Iterator<Item = &[u8]> {
        let (newer, older) = self.slots.split_at(self.next.min(self.slots.len()));
        let all = older.iter().chain(newer);
        all.filter(move |s| s.at >= since && s.len > 0).filter_map(|s| s.bytes.get(..s.len))
    }

    /// Forgets everything: another session begins.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|s| s.len = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_small_packets_come_back_in_order() {
        let mut ring = SentRing::default();
        for n in 0..(SENT_PACKETS as u64 + 50) {
            ring.push(&n.to_be_bytes(), Mono(Duration::from_millis(n)));
        }
        ring.push(&[0; SENT_BYTES + 1], Mono(Duration::from_secs(9)));
        let since = |ms| -> Vec<u64> {
            let all = ring.since(Mono(Duration::from_millis(ms)));
            all.map(|b| u64::from_be_bytes(b.try_into().unwrap())).collect()
        };
        let last = SENT_PACKETS as u64 + 50;
        assert_eq!(since(last - 3), [last - 3, last - 2, last - 1]);
        assert_eq!(since(0), (50..last).collect::<Vec<_>>());
        ring.clear();
        assert_eq!(ring.since(Mono::ZERO).count(), 0);
    }
}
