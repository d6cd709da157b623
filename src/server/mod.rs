//! The control server: sockets around `engine::lobby`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this side of the seam does I/O")]
