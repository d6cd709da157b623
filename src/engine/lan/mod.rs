//! The LAN side: what games on this computer say to the party, and what the party says to them.
//!
//! `guard` answers three questions (did I say this? did my other card say this? did another path bring this?), `pace`
//! stops storms, `firewall` lets in only the game, `games` remembers who announced what, `taught` what
//! plugins said about packets like this one.

pub mod firewall;
pub mod games;
pub mod guard;
pub mod pace;
pub mod taught;
