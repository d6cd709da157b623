//! The host ring: the side that does I/O, with real sockets, files, threads and processes, on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::result_large_err,
    reason = "tests may panic, that is how they fail; and they are the outside world"
)]

#[cfg(target_os = "linux")]
#[path = "../lab_support/netns.rs"]
mod netns;
mod peers;
mod players;

mod bridge;
mod control;
mod drive;
mod plugins;
#[cfg(target_os = "linux")]
mod proxy;
mod relay;
mod scripts;
mod server;
mod store;
mod stream;
mod tls;
mod turn;
mod turn_stream;
