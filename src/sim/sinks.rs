//! The sinks a simulated node writes into: vectors, with room that may run out.
//!
//! The room given out is full of old bytes on purpose: whoever reads before writing shows in the trace's hash.

use crate::engine::sink::{Delivery, LanSink, WanSink};
use crate::model::addr::Endpoint;

/// Packets per input that fit when nothing is wrong.
const CAPACITY: usize = 512;
const STALE: u8 = 0xa5;

/// Towards the network.
#[derive(Debug)]
pub struct SimWan {
    /// What was committed.
    pub out: Vec<(Endpoint, Vec<u8>)>,
    /// How many datagrams fit in one input.
    pub capacity: usize,
    to: Option<Endpoint>,
    room: Vec<u8>,
}

/// Towards the games.
#[derive(Debug)]
pub struct SimLan {
    /// What was committed.
    pub out: Vec<(Delivery, Vec<u8>)>,
    /// How many packets fit in one input.
    pub capacity: usize,
    reserved: bool,
    room: Vec<u8>,
}

impl Default for SimWan {
    fn default() -> Self {
        Self { out: Vec::new(), capacity: CAPACITY, to: None, room: Vec::new() }
    }
}

impl Default for SimLan {
    fn default() -> Self {
        Self { out: Vec::new(), capacity: CAPACITY, reserved: false, room: Vec::new() }
    }
}

fn stale(room: &mut Vec<u8>, len: usize) -> &mut [u8] {
    room.clear();
    room.resize(len, STALE);
    room
}

impl SimWan {
    /// Full or not, from the next input on.
    pub const fn set_full(&mut self, full: bool) {
        self.capacity = if full { 0 } else { CAPACITY };
    }
}

impl SimLan {
    /// Full or not, from the next input on.
    pub const fn set_full(&mut self, full: bool) {
        self.capacity = if full { 0 } else { CAPACITY };
    }
}

impl WanSink for SimWan {
    fn reserve(&mut self, to: Endpoint, len: usize) -> Option<&mut [u8]> {
        self.to = None;
        if self.out.len() >= self.capacity {
            return None;
        }
        self.to = Some(to);
        Some(stale(&mut self.room, len))
    }

    fn commit(&mut self, len: usize) {
        let to = self.to.take().expect("commit follows a reserve that gave room");
        self.out.push((to, self.room[..len].to_vec()));
    }
}

impl LanSink for SimLan {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = self.out.len() < self.capacity;
        self.reserved.then(|| stale(&mut self.room, len))
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        assert!(std::mem::take(&mut self.reserved), "commit follows a reserve that gave room");
        self.out.push((how, self.room[..len].to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_a_reservation_without_committing_yields_nothing() {
        let mut wan = SimWan::default();
        let to = Endpoint::main("192.0.2.1:5".parse().unwrap());
        assert_eq!(wan.reserve(to, 100).map(|r| r.len()), Some(100));
        wan.reserve(to, 10).unwrap()[..3].copy_from_slice(b"abc");
        wan.commit(3);
        assert_eq!(wan.out, [(to, b"abc".to_vec())]);
        wan.set_full(true);
        assert!(wan.reserve(to, 1).is_none());
    }
}
