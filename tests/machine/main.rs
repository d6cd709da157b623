//! The machine ring: nodes, rules, plugins and commands that need no network. One program, because every program that
//! links the whole of lanrage costs seconds and a hundred megabytes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic, that is how they fail; and they are the outside world"
)]

#[path = "../support/corpus.rs"]
mod corpus;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/party.rs"]
mod support;

mod cli;
#[cfg(feature = "sim")]
mod hostile;
mod invite;
mod learn;
mod list;
mod party;
mod plugin_store;
mod plugins_bundled;
mod plugins_docs;
mod plugins_engine;
mod plugins_fuzz;
mod plugins_hostile;
mod plugins_malformed;
mod profile_schema;
mod profiles;
#[cfg(feature = "sim")]
mod session;
#[cfg(feature = "sim")]
mod sleep;
mod tutorial;
mod workshop;
