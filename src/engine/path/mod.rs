//! Paths: how packets reach a peer. Relay first, direct soon, proof only promotes (relay itself is a seam today).
//!
//! `agent` is one peer's path finder, `pair` is one address under test, `score` compares two that work.

pub mod agent;
pub mod pair;
pub mod score;
