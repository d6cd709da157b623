//! What comes of datagrams that were opened before their turn, and has to wait for it.

use super::slot::Slot;
use crate::model::limits::{DATAGRAMS, EARLY};

/// Packets with what is known of each, by the place whose turn they wait for. Their rooms are used again.
#[derive(Debug)]
pub struct Aside<W> {
    /// The place of what is being opened early.
    place: Option<u8>,
    room: Slot,
    held: Vec<(u8, W, Slot)>,
    spare: Vec<Slot>,
}

impl<W> Default for Aside<W> {
    fn default() -> Self {
        Self { place: None, room: Slot::default(), held: Vec::new(), spare: Vec::new() }
    }
}

impl<W> Aside<W> {
    /// What comes from now on comes out of turn, at this place, or in turn again.
    pub const fn set(&mut self, place: Option<u8>) {
        self.place = place;
    }

    /// Whether what comes now comes out of turn.
    #[must_use]
    pub const fn is_early(&self) -> bool {
        self.place.is_some()
    }

    /// Room for a packet.
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.room.room().get_mut(..len)
    }

    /// The packet that was written into the room.
    pub fn written(&mut self, len: usize) -> &[u8] {
        self.room.set_len(len);
        self.room.packet()
    }

    /// Keeps what was written until the turn of its place. False when it comes in turn, or too many wait.
    pub fn keep(&mut self, with: W) -> bool {
        let Some(place) = self.place.filter(|_| self.held.len() < DATAGRAMS * EARLY) else { return false };
        let room = self.spare.pop().unwrap_or_default();
        self.held.push((place, with, std::mem::replace(&mut self.room, room)));
        true
    }

    /// As `keep`, for a packet that lies somewhere else.
    pub fn put(&mut self, with: W, packet: &[u8]) -> bool {
        self.is_early() && self.room.fill(packet) && self.keep(with)
    }

    /// The turn of this place has come: the next one of what waited for it, in its order. Its room is to be given back.
    pub fn pop(&mut self, place: u8) -> Option<(W, Slot)> {
        let at = self.held.iter().position(|(held, ..)| *held == place)?;
        let (_, with, slot) = self.held.remove(at);
        Some((with, slot))
    }

    /// A room that `pop` gave.
    pub fn give_back(&mut self, room: Slot) {
        self.spare.push(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_in_its_order_and_rooms_are_used_again() {
        let mut aside = Aside::default();
        assert!(!aside.put('a', &[1]), "it comes in turn");
        for (place, with) in [(4, 'a'), (7, 'b'), (4, 'c')] {
            aside.set(Some(place));
            assert!(aside.put(with, &[place, 1]));
        }
        aside.set(None);
        assert!(aside.pop(5).is_none());
        let mut came = Vec::new();
        while let Some((with, slot)) = aside.pop(4) {
            came.push((with, slot.packet().to_vec()));
            aside.give_back(slot);
        }
        assert_eq!((came, aside.spare.len()), (vec![('a', vec![4, 1]), ('c', vec![4, 1])], 2));
        aside.set(Some(7));
        for _ in 1..DATAGRAMS * EARLY {
            assert!(aside.put('d', &[7]));
        }
        assert!(!aside.put('e', &[7]), "no more than all that can be early");
        assert!(!aside.put('e', &[0; 4096]), "nor a larger one than there is");
    }
}
