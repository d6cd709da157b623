//! The seam to WireGuard: what the tunnel asks of a session, whoever does the cryptography.

use crate::model::dice::Seed;
use crate::model::key::{NodeKeys, Psk, TunnelKey};
use crate::model::time::{Deadline, Now};
use std::net::SocketAddr;

/// One WireGuard-like session pair with one peer.
pub trait Session: Sized + std::fmt::Debug {
    /// A session with this peer; nothing is sent yet.
    fn new(setup: SessionSetup, now: Now) -> Self;
    /// A first handshake message into `room` (>= 148 bytes); `None` while one is in flight (unless `force`).
    fn initiate(&mut self, room: &mut [u8], force: bool, now: Now) -> Option<usize>;
    /// Seals a packet; `None` when there is no session yet.
    fn seal(&mut self, plain: &[u8], room: &mut [u8], now: Now) -> Option<usize>;
    /// Opens a datagram meant for this session.
    fn open(&mut self, wire: &[u8], room: &mut [u8], from: SocketAddr, now: Now) -> Open;
    /// Timers; call at `deadline`. May produce a datagram (handshake retry, keepalive).
    fn tick(&mut self, room: &mut [u8], now: Now) -> Tick;
    /// When to call `tick`.
    fn deadline(&self) -> Option<Deadline>;
    /// Whether `seal` can work.
    fn established(&self) -> bool;
}

/// What a session is born with.
#[derive(Debug)]
pub struct SessionSetup {
    /// This node's keys.
    pub keys: NodeKeys,
    /// The peer's static key.
    pub peer: TunnelKey,
    /// From the party's secret.
    pub psk: Psk,
    /// 24 bits; the receiver index on the wire is `index << 8 | counter`, little endian as in WireGuard.
    pub index: u32,
    /// For whatever must be random.
    pub seed: Seed,
}

/// What a datagram was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// A packet or frame of this length is in the room.
    Plain(usize),
    /// The room holds a datagram of this length to be sent back to where this one came from.
    Reply(usize),
    /// Genuine, and nothing to do: a keepalive or a cookie.
    Nothing,
    /// Not genuine, replayed, or for no session there is.
    Refused,
}

/// What a timer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing to send.
    Nothing,
    /// The room holds a datagram of this length.
    Send(usize),
    /// Gave up: initiate again when there is something to send.
    Expired,
}

/// What a datagram says before any session is chosen.
pub trait SessionKind: Session {
    /// Which peer does a handshake initiation come from? Needs this node's static key.
    fn initiator(keys: &NodeKeys, wire: &[u8]) -> Option<TunnelKey>;
    /// The receiver index of any other message.
    fn receiver_index(wire: &[u8]) -> Option<u32>;
}
