//! What people see and type. Sees only `model`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this side of the seam does I/O")]

pub mod cli;
