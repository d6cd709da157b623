//! What a packet costs in instructions, counted by callgrind and held against `instructions.toml`.
//!
//! Time on a shared computer says little about a change of a tenth; the number of instructions is the same on each run. The
//! program is the one that `cargo test` builds anyway, so our own code is not optimised: the numbers are larger than those of a
//! release, and only their ratio to the table counts. A detour on a packet's way shows there too.
//!
//! Two numbers for each scenario, per packet: instructions of lanrage, its libraries and Rust's, and calls of the C library
//! (copies, comparisons, memory). What runs inside the cipher and inside the C library is left out: both choose other code on
//! another processor.
//!
//! Needs valgrind; without it the test says so and passes, or fails when `LANRAGE_LAB=must`. `LANRAGE_COUNTS=write` writes the
//! table anew.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics says where")]

#[path = "instructions/callgrind.rs"]
mod callgrind;
#[path = "support/party.rs"]
mod party;
#[path = "support/relay.rs"]
mod relay;
#[path = "instructions/scenarios.rs"]
mod scenarios;
#[path = "support/segments.rs"]
mod segments;
#[path = "instructions/table.rs"]
mod table;

use std::io::Write;
use std::process::Command;
use table::Table;

/// Set to `write`: the table is made of what was counted.
const REFRESH: &str = "LANRAGE_COUNTS";
/// Set in the run that is counted; without it there is nothing to do.
const COUNTED: &str = "LANRAGE_COUNTED";

#[test]
fn a_packet_costs_what_the_table_says() {
    let must = std::env::var("LANRAGE_LAB").as_deref() == Ok("must");
    if let Some(why) = impossible() {
        assert!(!must, "instructions must be counted, but {why}");
        writeln!(std::io::stderr(), "NOT RUN: {why}").unwrap();
        return;
    }
    let refresh = std::env::var(REFRESH).as_deref() == Ok("write");
    assert!(
        !refresh || !must && std::env::var_os("CI").is_none(),
        "{REFRESH}=write is for people, not for CI"
    );
    let counted = Table { rustc: compiler(), cost: callgrind::run("the_counted_run", COUNTED) };
    writeln!(std::io::stderr(), "{}", counted.text()).unwrap();
    if refresh {
        return counted.write();
    }
    let table = Table::read();
    let note = table.note(&counted).unwrap_or_default();
    writeln!(std::io::stderr(), "{note}").unwrap();
    let complaints = table.complaints(&counted);
    assert!(
        complaints.is_empty(),
        "\n{}\n\n{note}\nWhere the change is meant, write the table anew and say why in the commit:\n    \
         {REFRESH}=write cargo test --locked --features sim --test instructions\n",
        complaints.join("\n")
    );
}

/// Not a test of anything by itself: what callgrind runs.
#[test]
fn the_counted_run() {
    if std::env::var_os(COUNTED).is_some() {
        scenarios::run();
    }
}

fn impossible() -> Option<&'static str> {
    if !cfg!(debug_assertions) {
        Some("the table is of the profile `dev`, and this is another")
    } else if Command::new("valgrind").arg("--version").output().is_err() {
        Some("the program `valgrind` is missing (scripts/lab-setup)")
    } else {
        None
    }
}

/// The compiler, as it calls itself.
fn compiler() -> String {
    let said = Command::new("rustc").arg("-V").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    said.map_or_else(|_| "unknown".into(), |said| String::from_utf8_lossy(&said.stdout).trim().into())
}
