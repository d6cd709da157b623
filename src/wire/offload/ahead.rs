//! What was read from the tunnel device before its turn.
//!
//! A bulk transfer fills the device's queue with reads of up to 64 KiB; a packet of a game comes behind them. So all of
//! it is read at once: single packets of other flows go on, and the long reads wait here, cut up as there is room. A
//! packet whose flow waits waits behind it, so no flow is reordered. This is the "new flows first" of FQ-CoDel (RFC 8290,
//! section 4.1) with one queue for all that is bulk. Nothing is dropped here: when the memory is full the kernel's queue
//! fills, and drops. Pages of the memory that no transfer needed stay untouched.

use super::{LARGEST, Split};
use crate::model::limits::AHEAD_BYTES;
use crate::wire::packet::PacketView;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Reads that may wait, however short they are.
const MOST: usize = 256;

/// Reads that wait, in a ring of memory.
#[derive(Debug)]
pub struct Ahead {
    memory: Box<[u8]>,
    /// Where the next read goes.
    head: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    start: usize,
    len: usize,
    flow: Flow,
    /// `None` for a single packet behind others of its flow, and once that was taken.
    split: Option<Split>,
}

/// What tells flows apart: a hash of addresses, protocol and ports. Two that meet in it only wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow(u64);

impl Flow {
    /// The flow of a packet; whatever is none is one flow.
    #[must_use]
    pub fn of(packet: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        if let Ok(view) = PacketView::parse(packet) {
            (view.src, view.dst, view.proto, view.src_port, view.dst_port).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            memory: vec![0; AHEAD_BYTES].into_boxed_slice(),
            head: 0,
            waiting: VecDeque::with_capacity(MOST),
        }
    }
}

impl Ahead {
    /// Room for the longest read; `None` when there is none.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        if self.waiting.len() == MOST {
            return None;
        }
        let start = self.place()?;
        self.head = start;
        self.memory.get_mut(start..start + LARGEST)
    }

    fn place(&self) -> Option<usize> {
        let Some(first) = self.waiting.front() else { return Some(0) };
        if self.head < first.start {
            // Not to the last byte: both ends at one place would look empty.
            return (first.start - self.head > LARGEST).then_some(self.head);
        }
        if self.memory.len() - self.head >= LARGEST {
            return Some(self.head);
        }
        (first.start > LARGEST).then_some(0)
    }

    /// The first `len` bytes of the room are a read that waits.
    pub fn push(&mut self, len: usize, flow: Flow, split: Option<Split>) {
        let (start, len) = (self.head, len.min(LARGEST));
        self.head += len;
        self.waiting.push_back(Waiting { start, len, flow, split });
    }

    /// Whether something of this flow waits.
    #[must_use]
    pub fn holds(&self, flow: Flow) -> bool {
        self.waiting.iter().any(|w| w.flow == flow)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes the next packet into `room`; its length, or `None` when nothing waits.
    pub fn next(&mut self, room: &mut [u8]) -> Option<usize> {
        loop {
            let first = self.waiting.front_mut()?;
            let read = self.memory.get(first.start..first.start + first.len)?;
            let Some(split) = &mut first.split else {
                let packet = read.len();
                let to = room.get_mut(..packet);
                let fits = to.is_some();
                if let Some(to) = to {
                    to.copy_from_slice(read);
                }
                self.waiting.pop_front();
                if fits {
                    return Some(packet);
                }
                continue;
            };
            match split.next(read, room) {
                Some(len) => return Some(len),
                None => self.waiting.pop_front(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dice::Seed;
    use crate::wire::packet::write_udp;

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut room = vec![0; LARGEST];
        let (from, to) = (([10, 77, 0, 1], port).into(), ([10, 77, 0, 2], 9).into());
        let len = write_udp(&mut room, from, to, 64, payload).unwrap();
        room.truncate(len);
        room
    }

    fn put(ahead: &mut Ahead, packet: &[u8]) -> bool {
        let Some(room) = ahead.room() else { return false };
        room[..packet.len()].copy_from_slice(packet);
        ahead.push(packet.len(), Flow::of(packet), None);
        true
    }

    #[test]
    fn whatever_the_lengths_all_comes_out_in_order_until_the_memory_is_full() {
        let mut dice = Seed::from_u64(5).dice("ahead");
        let (mut ahead, mut expected, mut refused) = (Ahead::default(), VecDeque::new(), 0);
        let mut room = vec![0; LARGEST];
        for n in 0..4000u32 {
            let len = [60, 1400, 30_000, 65_000][dice.below(4) as usize];
            let packet = udp(7, &[&n.to_be_bytes()[..], &vec![1; len]].concat());
            if put(&mut ahead, &packet) {
                expected.push_back(packet);
            } else {
                refused += 1;
            }
            // Filled and emptied in turns.
            let many = if n / 200 % 2 == 0 { dice.below(2) } else { dice.below(4) };
            for _ in 0..many {
                let len = ahead.next(&mut room);
                assert_eq!(len.map(|len| room[..len].to_vec()), expected.pop_front());
            }
        }
        assert!(refused > 100, "it was full at times: {refused}");
        while let Some(packet) = expected.pop_front() {
            assert_eq!(ahead.next(&mut room), Some(packet.len()));
        }
        assert!(ahead.is_empty() && ahead.next(&mut room).is_none());
    }

    #[test]
    fn a_flow_that_waits_is_known_and_others_are_not() {
        let mut ahead = Ahead::default();
        assert!(put(&mut ahead, &udp(7, &[1; 500])));
        assert!(ahead.holds(Flow::of(&udp(7, b"later"))));
        assert!(!ahead.holds(Flow::of(&udp(8, b"another"))));
        ahead.next(&mut [0; 2048]);
        assert!(!ahead.holds(Flow::of(&udp(7, b"later"))));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut ahead = Ahead::default();
        assert!(put(&mut ahead, &udp(7, &[1; 5000])) && put(&mut ahead, &udp(7, &[1; 50])));
        assert_eq!(ahead.next(&mut [0; 2048]), Some(78));
    }
}
