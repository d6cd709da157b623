//! The seam to WireGuard: one session with one peer, as the rest of the engine sees it.
//!
//! Whoever implements it keeps WireGuard's message types, lengths and timers (the protocol paper, sections 5 and 6),
//! so that `engine` and the simulator's links cannot tell implementations apart.

use crate::model::dice::Seed;
use crate::model::key::{NodeKeys, Psk, TunnelKey};
use crate::model::time::{Deadline, Now};
use std::net::SocketAddr;

/// Bytes that a sealed packet is longer than the plain one: header 16, tag 16.
pub const OVERHEAD: usize = 32;
/// The shortest room for any message: a handshake initiation.
pub const LEAST_ROOM: usize = 148;

/// What a session is made of.
#[derive(Debug)]
pub struct SessionSetup {
    /// This node.
    pub keys: NodeKeys,
    /// The peer.
    pub peer: TunnelKey,
    /// From the party's secret.
    pub psk: Psk,
    /// 24 bits; on the wire the receiver index is `index << 8` plus a counter, little endian.
    pub index: u32,
    /// For implementations that draw from it.
    pub seed: Seed,
}

/// What came out of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// A packet or frame of this length is in the room.
    Plain(usize),
    /// Send the first bytes of the room back to where the datagram came from.
    Reply(usize),
    /// Authentic, but nothing to do (a keepalive, a cookie).
    Nothing,
    /// Not authentic, replayed or out of place.
    Refused,
}

/// What a session's timers want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing now.
    Nothing,
    /// Send the first bytes of the room to the peer.
    Send(usize),
    /// The session gave up; initiate again when there is something to say.
    Expired,
}

/// One session with one peer.
pub trait Session: Sized + std::fmt::Debug {
    /// A session that has not begun.
    fn new(setup: SessionSetup, now: Now) -> Self;

    /// Which peer a handshake initiation comes from; needs this node's key. `None` when it is not for this node.
    fn initiator(keys: &NodeKeys, wire: &[u8]) -> Option<TunnelKey>;

    /// Writes a handshake initiation into `room` (at least `LEAST_ROOM` bytes); `None` while one is in flight, unless
    /// `force`.
    fn initiate(&mut self, room: &mut [u8], force: bool, now: Now) -> Option<usize>;

    /// Seals a packet into `room` (at least its length and `OVERHEAD`, and `LEAST_ROOM`); `None` without a session.
    fn seal(&mut self, plain: &[u8], room: &mut [u8], now: Now) -> Option<usize>;

    /// Opens a datagram meant for this session into `room` (at least as long as the datagram and `LEAST_ROOM`).
    fn open(&mut self, wire: &[u8], room: &mut [u8], from: SocketAddr, now: Now) -> Open;

    /// Runs the timers; call at `deadline`.
    fn tick(&mut self, room: &mut [u8], now: Now) -> Tick;

    /// When `tick` wants to be called.
    fn deadline(&self) -> Option<Deadline>;

    /// Whether `seal` works.
    fn established(&self) -> bool;
}

/// The receiver index of a message that has one (response, cookie, data), without its counter byte.
#[must_use]
pub fn receiver_index(wire: &[u8]) -> Option<u32> {
    let at = match wire.first()? {
        2 => 8,
        3 | 4 => 4,
        _ => return None,
    };
    let bytes: [u8; 4] = wire.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes) >> 8)
}
