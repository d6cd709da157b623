//! The real world: the only place for sockets, the clock, the system's dice, threads and files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this side of the seam does I/O")]

pub mod control;
