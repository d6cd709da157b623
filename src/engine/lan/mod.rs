//! The LAN side: what games on this computer say to the party, and what the party says to them.
//!
//! `guard` answers three questions (did I say this? did my other card say this? did another path bring this?), `pace`
//! stops storms, `firewall` lets in only the game, `taught` is what plugins said about packets like this one, `games` remembers
//! who announced what, `info` is what it said of itself, `listing` what the party is told of this computer's games, `repeat`
//! says again what was lost on the way.

pub mod firewall;
pub mod games;
pub mod guard;
pub mod info;
pub mod listing;
pub mod pace;
pub mod repeat;
pub mod taught;
