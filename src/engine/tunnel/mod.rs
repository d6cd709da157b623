//! Tunnels: one WireGuard-like session pair per peer.

#[cfg(feature = "sim")]
pub mod plain;
pub mod session;
