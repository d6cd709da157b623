//! The command line, both directions.
//!
//! * `args`: what was typed, as a record that cannot fail later (`LowArgs`), `plugin_args` for `lanrage plugin`, `games_args` for `lanrage games`; `later` words for what
//!   is not there yet
//! * `pages`: shell completions and man pages, made from the same definition
//! * `json`, `plain`, `live`: the three faces of `run`: for scripts, for a file or pipe, for a person at a terminal
//! * `screen`: the terminal that `live` and the log share
//! * `status`: the tidy table of `lanrage status`
//! * `doctor`: what `lanrage doctor` found; `bench`: what `lanrage bench` measured
//! * `invite`, `qr`: the invite as text, link and code
//! * `words`: sentences for events, names for peers, plain words for counters

pub mod args;
pub mod bench;
pub mod doctor;
pub mod games_args;
pub mod invite;
pub mod json;
mod later;
pub mod live;
pub mod pages;
pub mod plain;
pub mod plugin_args;
pub mod plugins;
mod qr;
pub mod screen;
pub mod status;
mod words;
