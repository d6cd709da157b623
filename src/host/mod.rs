//! The real world: the only place for sockets, clocks, dice, threads and files.
//!
//! * `clock`, `entropy`, `threads`: time, one seed, named threads
//! * `watch`: descriptors that are read when something is there, waited for with the runtime or without it
//! * `udp`: the tunnel's sockets: batches in, segmented batches out
//! * `lan`: the games' side: tunnel device, capture and injection on the cards; `cards` lists and watches them
//! * `stream`: TCP and TLS connections to relays
//! * `lease`: a port on the router, by UPnP, NAT-PMP and PCP
//! * `control`: carriers of the control planes
//! * `dial`, `tls`: TCP connections to the first address that answers, and TLS on them
//! * `scripts`: plugins: a thread each, and a watchdog over all
//! * `drive`: the data loop around one `engine::node::Node`
//! * `record`, `replay`: a game's packets heard on the cards, and a capture's sent again, for `lanrage games`
//! * `checkup`: looking at this computer once, for `lanrage doctor`
//! * `plugins`: folders, archives and repositories of plugins, and what was agreed to
//! * `store`: the data directory: keys, parties, what is remembered between evenings
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this side of the seam does I/O")]

pub mod cards;
pub mod checkup;
pub mod clock;
pub mod control;
pub mod dial;
pub mod drive;
pub mod entropy;
pub mod lan;
pub mod lease;
pub mod plugins;
pub mod record;
pub mod replay;
pub mod scripts;
pub mod store;
pub mod stream;
pub mod threads;
pub mod tls;
pub mod udp;
#[cfg(unix)]
mod watch;
