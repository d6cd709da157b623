//! The words everyone uses: ids, keys, addresses, time, dice, and what people are shown.
//!
//! Layer 0. Nothing here reads a clock, draws from the system or opens a socket; every other module may import
//! this one and it imports none of them.

pub mod addr;
pub mod checkup;
pub mod command;
pub mod dice;
pub mod id;
pub mod key;
pub mod limits;
pub mod measure;
pub mod nat;
pub mod pin;
pub mod reach;
pub mod record;
pub mod relay;
pub mod script;
pub mod status;
pub mod text;
pub mod time;
