//! Batches: what one read of the LAN side or of the WAN side brought.

use super::slot::Slot;
use crate::model::addr::Via;
use crate::model::id::CardId;
use crate::model::limits::BATCH_SLOTS;
use std::net::SocketAddr;

/// Where a packet of the LAN side came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The tunnel device: routed to the party's network by this computer.
    Tun,
    /// Seen leaving by a physical card: a broadcast or multicast of a game on this computer.
    Card(CardId),
}

/// Up to 64 IP packets from the LAN side, in slots that are used again and again.
#[derive(Debug)]
pub struct Batch {
    slots: Vec<(Source, Slot)>,
    used: usize,
}

impl Default for Batch {
    fn default() -> Self {
        let slots = (0..BATCH_SLOTS).map(|_| (Source::Tun, Slot::default())).collect();
        Self { slots, used: 0 }
    }
}

impl Batch {
    /// The next free slot, marked with where its packet comes from; `None` when full. An unfilled slot holds no packet.
    pub fn next(&mut self, source: Source) -> Option<&mut Slot> {
        let (s, slot) = self.slots.get_mut(self.used)?;
        self.used += 1;
        *s = source;
        slot.room();
        Some(slot)
    }

    /// Takes back the last slot given out by `next`.
    pub fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// The packets, to be read and changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Source, &mut Slot)> {
        self.slots.iter_mut().take(self.used).map(|(s, slot)| (*s, slot))
    }

    /// How many packets there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether no slot is free.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.used == self.slots.len()
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

/// One received buffer: `bytes` holds datagrams of `stride` bytes laid end to end, the last may be shorter.
#[derive(Debug)]
pub struct Datagrams<'a> {
    /// Which way it came in.
    pub via: Via,
    /// Who sent it.
    pub from: SocketAddr,
    /// The datagrams. May be changed (they are opened in place where possible).
    pub bytes: &'a mut [u8],
    /// The length of each but the last.
    pub stride: usize,
}

impl Datagrams<'_> {
    /// The datagrams one by one.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.stride.max(1))
    }
}
