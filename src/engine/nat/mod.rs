//! What a computer can find out about the router in front of it, from servers that say what they see (`docs/nat.md`).
//!
//! `probe` asks, `judge` concludes. Neither is on the way of the first packet.

mod judge;
mod probe;

pub use probe::{Probe, ProbeEvent};
