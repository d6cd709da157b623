//! One IP packet with head room, so that a header can be put in front without moving it.

use crate::model::limits::{SLOT_BYTES, SLOT_HEAD};

/// A fixed buffer that holds one packet. The packet starts at `SLOT_HEAD` when filled; `prepend` moves the start back.
pub struct Slot {
    bytes: Box<[u8; SLOT_BYTES]>,
    start: usize,
    len: usize,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({} bytes)", self.len)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self { bytes: Box::new([0; SLOT_BYTES]), start: SLOT_HEAD, len: 0 }
    }
}

impl Slot {
    /// The most a slot can hold.
    pub const CAPACITY: usize = SLOT_BYTES - SLOT_HEAD;

    /// The packet.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.len).unwrap_or(&[])
    }

    /// The packet, to be changed in place.
    pub fn packet_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + self.len).unwrap_or(&mut [])
    }

    /// Room for a packet to be read into; call `set_len` after.
    pub fn room(&mut self) -> &mut [u8] {
        self.start = SLOT_HEAD;
        self.len = 0;
        self.bytes.get_mut(SLOT_HEAD..).unwrap_or(&mut [])
    }

    /// How much of the room was filled; more than the capacity counts as the capacity.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(SLOT_BYTES - self.start);
    }

    /// Copies a packet in; false (and empty) when it does not fit.
    pub fn fill(&mut self, packet: &[u8]) -> bool {
        let Some(to) = self.room().get_mut(..packet.len()) else {
            return false;
        };
        to.copy_from_slice(packet);
        self.set_len(packet.len());
        true
    }

    /// Room for `n` bytes in front of the packet, which become part of it; `None` when the head room is used up.
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        let start = self.start.checked_sub(n)?;
        self.start = start;
        self.len += n;
        self.bytes.get_mut(start..start + n)
    }

    /// Takes `n` bytes off the front.
    pub fn strip(&mut self, n: usize) {
        let n = n.min(self.len);
        self.start += n;
        self.len -= n;
    }

    /// Makes the packet longer or shorter at its end (new bytes keep whatever they held); false when it does not fit.
    pub fn resize(&mut self, len: usize) -> bool {
        if self.start + len > SLOT_BYTES {
            return false;
        }
        self.len = len;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_go_in_front_without_moving_the_packet() {
        let mut s = Slot::default();
        assert!(s.fill(b"packet"));
        s.prepend(4).unwrap().copy_from_slice(b"head");
        assert_eq!(s.packet(), b"headpacket");
        s.strip(4);
        assert_eq!(s.packet(), b"packet");
        assert!(s.prepend(SLOT_HEAD + 1).is_none());
    }

    #[test]
    fn a_slot_refuses_what_does_not_fit() {
        let mut s = Slot::default();
        assert!(!s.fill(&vec![0; Slot::CAPACITY + 1]));
        assert!(s.packet().is_empty());
        assert!(s.fill(&vec![1; Slot::CAPACITY]));
        assert!(!s.resize(Slot::CAPACITY + 1));
        s.set_len(usize::MAX);
        assert_eq!(s.packet().len(), Slot::CAPACITY);
    }
}
