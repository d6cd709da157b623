//! The other world: virtual time, links, LANs with game programs, faults, and an oracle. One thread, one seed.
//!
//! Real parts inside: `Node`, the compiled profiles, the sessions' state machine. Made up: operating systems, wires, clocks.
//! The same bytes give the same story, event for event: `trace` hashes all of them.
//!
//! | file | what |
//! |---|---|
//! | `world` | event heap and clock |
//! | `drive`, `wires` | the way into a node and out of it; what travels |
//! | `pc`, `sinks` | a computer, and what its node writes into |
//! | `net`, `link` | segments, routers, wires and their weather |
//! | `lan`, `game` | what operating systems and game programs do |
//! | `control` | control planes |
//! | `scripts` | plugins in the real virtual machine, and what goes wrong with them |
//! | `fault`, `rogue` | the steps of a story; a member who lies |
//! | `scenario` | bytes to a world and its story |
//! | `oracle`, `repeats` | what must happen, kept apart from how; what nodes say again by themselves |
//! | `trace` | what did happen, hashed |

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the simulator makes its own numbers; a wrong one is its own fault and should stop it"
)]

pub mod cli;
pub mod control;
mod drive;
pub mod fault;
pub mod game;
pub mod lan;
pub mod link;
pub mod nat;
pub mod net;
pub mod oracle;
pub mod pc;
pub mod permits;
pub mod plan;
pub mod repeats;
pub mod rogue;
pub mod route;
pub mod run;
pub mod scenario;
pub mod scripts;
pub mod server;
pub mod sinks;
pub mod streams;
pub mod trace;
pub mod ways;
mod wires;
pub mod world;

pub use cli::{cli, command};
pub use run::Outcome;

use crate::rules::ruleset::Ruleset;
use crate::rules::{compile::compile, shipped};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The compiled profiles of these games, as shipped. Compiled once: a thousand worlds play the same games.
#[must_use]
pub fn rules_for(titles: &[game::Title]) -> Arc<Ruleset> {
    static COMPILED: OnceLock<BTreeMap<Vec<game::Title>, Arc<Ruleset>>> = OnceLock::new();
    let all = [game::Title::Minecraft, game::Title::OpenArena];
    let make = || {
        let sets = [vec![], vec![all[0]], vec![all[1]], all.to_vec()];
        sets.into_iter().map(|titles| (titles.clone(), Arc::new(compiled(&titles)))).collect()
    };
    let compiled = COMPILED.get_or_init(make);
    compiled.get(titles).cloned().expect("titles are in their order, each once")
}

fn compiled(titles: &[game::Title]) -> Ruleset {
    let find =
        |title: &game::Title| shipped::find(title.profile()).expect("the simulator's games are shipped");
    compile(&titles.iter().map(find).collect::<Vec<_>>()).expect("shipped profiles compile")
}

/// Tells the story of a seed.
#[must_use]
pub fn run_seed(seed: u64) -> Outcome {
    run::tell(&scenario::Scenario::bytes_of(seed), false)
}

/// Tells the story of a seed in a world with NATs and relays.
#[must_use]
pub fn run_nat_seed(seed: u64) -> Outcome {
    run::tell(&scenario::Scenario::nat_bytes_of(seed), false)
}

/// Tells the story of a seed in a world where everybody has a plugin that looks at everything.
#[must_use]
pub fn run_plugin_seed(seed: u64) -> Outcome {
    run::tell_with(&scenario::Scenario::bytes_of(seed), false, |world| {
        let fair = world.chaos.fair;
        scripts::give_everywhere(world, fair);
    })
}

/// Tells the story of some bytes; `keep` keeps the trace's lines.
#[must_use]
pub fn run_bytes(bytes: &[u8], keep: bool) -> Outcome {
    run::tell(bytes, keep)
}
