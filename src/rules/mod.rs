//! What a game looks like on the wire: profiles read from TOML, checked, and compiled to a matcher.
//!
//! Pure: text in, `Ruleset` out; packets in, verdicts out. Said twice on purpose: `file` is what the TOML says, with
//! positions; `profile` is what it means. `compile` makes the matcher, `rewrite` changes payloads.

pub mod ruleset;
