//! What a game looks like on the wire: profiles read from TOML, checked, and compiled to a matcher.
//!
//! Pure: text in, `Ruleset` out; packets in, verdicts out. Said twice on purpose: `file` is what the TOML says, with
//! positions; `profile` is what it means. `compile` makes the matcher, `rewrite` changes payloads.
//!
//! ```text
//! text ── file ──► check ──► Profile ──► compile ──► Ruleset: classify, describe, rewrite
//!                    │                      │
//!                    └── Diagnostic ◄───────┘
//! ```

pub mod capture;
pub mod check;
pub mod compile;
mod describe;
pub mod diagnostic;
pub(crate) mod file;
pub mod learn;
pub mod locate;
pub mod nearest;
pub mod pattern;
pub mod ports;
pub mod profile;
mod rewrite;
pub mod ruleset;
pub mod sample;
pub mod schema;
pub mod shipped;
mod tree;
