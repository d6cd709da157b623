//! The lab: the built program in a little internet of network namespaces, with real games on both ends.
//!
//! Needs root, `/dev/net/tun` and what `scripts/lab-setup` installs; otherwise each story says why it is skipped
//! (`LANRAGE_LAB=must` makes that a failure). `docs/lab.md` has the map and the figures.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "the lab is the outside world: clocks, sockets, threads; and it may panic"
)]

#[path = "lab/support/mod.rs"]
mod support;

#[path = "lab/bench.rs"]
mod bench;
#[path = "lab/evening.rs"]
mod evening;
#[path = "lab/figures.rs"]
mod figures;
#[path = "lab/ground.rs"]
mod ground;
#[path = "lab/idle.rs"]
mod idle;
#[path = "lab/minecraft.rs"]
mod minecraft;
#[path = "lab/no_server.rs"]
mod no_server;
#[path = "lab/party.rs"]
mod party;
#[path = "lab/proxy.rs"]
mod proxy;
#[path = "lab/proxy_guests.rs"]
mod proxy_guests;
#[path = "lab/proxy_walls.rs"]
mod proxy_walls;
#[path = "lab/real_games.rs"]
mod real_games;
#[path = "lab/replay.rs"]
mod replay;
#[path = "lab/share_lan.rs"]
mod share_lan;
#[path = "lab/traces.rs"]
mod traces;
#[path = "lab/unknown_game.rs"]
mod unknown_game;
#[path = "lab/walls.rs"]
mod walls;
