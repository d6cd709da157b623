//! The world ring: whole parties in the simulator, from seeds and told by hand.
#![cfg(feature = "sim")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests may panic, that is how they fail; and they are the outside world"
)]

mod support;

mod bench;
mod direct;
mod list;
mod nat;
mod plugins;
mod seeds;
mod stories;
