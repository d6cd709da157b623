//! What comes of datagrams that were opened before their turn, and has to wait for it.

use crate::buf::slot::Slot;
use crate::model::limits::{DATAGRAMS, EARLY};

/// Packets with what is known of each, by the place whose turn they wait for. Their rooms are used again.
#[derive(Debug)]
pub(super) struct Aside<W> {
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
    pub(super) const fn set(&mut self, place: Option<u8>) {
        self.place = place;
    }

    /// Whether what comes now comes out of turn.
    pub(super) const fn is_early(&self) -> bool {
        self.place.is_some()
    }

    /// Room for a packet.
    pub(super) fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.room.room().get_mut(..len)
    }

    /// The packet that was written into the room.
    pub(super) fn written(&mut self, len: usize) -> &[u8] {
        self.room.set_len(len);
        self.room.packet()
    }

    /// Keeps what was written until the turn of its place. False when it comes in turn, or too many wait.
    pub(super) fn keep(&mut self, with: W) -> bool {
        let Some(place) = self.place.filter(|_| self.held.len() < DATAGRAMS * EARLY) else { return false };
        let room = self.spare.pop().unwrap_or_default();
        self.held.push((place, with, std::mem::replace(&mut self.room, room)));
        true
    }

    /// The turn of this place has come: what waited for it, in its order. True when something did.
    pub(super) fn release(&mut self, place: u8, mut to: impl FnMut(W, &[u8])) -> bool {
        let mut waited = false;
        while let Some(at) = self.held.iter().position(|(held, ..)| *held == place) {
            let (_, with, slot) = self.held.remove(at);
            to(with, slot.packet());
            self.spare.push(slot);
            waited = true;
        }
        waited
    }

    #[cfg(test)]
    pub(super) fn spares(&self) -> usize {
        self.spare.len()
    }
}
