//! Tunnels: one WireGuard-like session per peer, behind a small seam.
//!
//! `session` is the seam, `noise` is boringtun behind it (the only file that names it), `plain` (feature `sim`) is the
//! reproducible stand-in of the simulator, `peer` keeps what belongs to one peer together.

pub mod noise;
pub mod peer;
#[cfg(feature = "sim")]
pub mod plain;
pub mod sent;
pub mod session;
