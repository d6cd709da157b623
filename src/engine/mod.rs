//! The bridge: state machines only. Everything here takes `now`, a seed and inputs, and hands out packets, effects and
//! the next deadline. No socket, clock, dice of the system, thread, file, lock or future.
//!
//! **One rule for whoever drives a `Node`**: give it one input (`handle_*`), then take everything out (`poll_effect`
//! until `None`), then look at `deadline`, then the next input. Packets come out through the sinks during `handle_*`.

pub mod counters;
pub mod direct;
pub mod effect;
pub mod friend;
pub mod gossip;
pub mod knock;
pub mod lan;
pub mod link;
pub mod lobby;
pub mod measure;
pub mod nat;
pub mod node;
pub mod parts;
pub mod path;
pub mod relay;
pub mod roster;
pub mod script;
pub mod sink;
pub mod tunnel;
pub mod turn;
