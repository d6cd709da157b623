//! Paths: how packets reach a peer. Relay first, direct soon, proof only promotes.
//!
//! `agent` is one peer's path finder, `route` is a way to a peer, `pair` one under test, `score` compares two
//! that work; `plan` says what a pair of NATs needs, `punch` does it for the hard ones; `advice` says why there is no better path.

pub mod action;
pub mod advice;
pub mod agent;
mod bootstrap;
pub mod mtu;
pub mod pair;
mod pairs;
pub mod plan;
pub mod punch;
pub mod route;
pub mod score;
