//! What a packet may cost: `instructions.toml`, read, written and held against what was counted.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/instructions.toml");

const HEAD: &str = "\
# Instructions and calls of the C library for each packet (tests/instructions.rs), counted in the profile `dev`.
# Made by `LANRAGE_COUNTS=write cargo test --locked --features sim --test instructions`.

";

/// How far a number may be from the table's, in hundredths. The same program counts the same each time, so this is only room
/// for small changes: a packet parsed once more, or copied into memory of its own, is above it.
const TOLERANCE: u64 = 2;
/// The same where another compiler built the program: enough to see a loop where there was none.
const TOLERANCE_OF_OTHERS: u64 = 25;

/// Costs by scenario, and the compiler that built what was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) rustc: String,
    pub(crate) cost: BTreeMap<String, Cost>,
}

/// For each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Without those inside the cipher and the C library.
    pub(crate) instructions: u64,
    /// Of the C library.
    pub(crate) calls: u64,
}

impl Table {
    /// The stored one.
    pub(crate) fn read() -> Self {
        toml::from_str(&std::fs::read_to_string(FILE).expect(FILE)).expect(FILE)
    }

    /// Makes this the stored one.
    pub(crate) fn write(&self) {
        std::fs::write(FILE, HEAD.to_owned() + &self.text()).expect(FILE);
    }

    /// As it is stored.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("rustc = {:?}\n\n[cost]\n", self.rustc);
        for (name, Cost { instructions, calls }) in &self.cost {
            writeln!(text, "{name:?} = {{ instructions = {instructions}, calls = {calls} }}")
                .expect("a String takes all");
        }
        text
    }

    /// What to know when another compiler built what was counted.
    pub(crate) fn note(&self, counted: &Self) -> Option<String> {
        (self.rustc != counted.rustc).then(|| {
            format!(
                "The table is of {}, and this is {}: it should be written anew, and until then {TOLERANCE_OF_OTHERS} % \
                 are allowed instead of {TOLERANCE} %.",
                self.rustc, counted.rustc
            )
        })
    }

    /// What is wrong with what was counted, in sentences.
    pub(crate) fn complaints(&self, counted: &Self) -> Vec<String> {
        let tolerance = if self.rustc == counted.rustc { TOLERANCE } else { TOLERANCE_OF_OTHERS };
        let names = self.cost.keys().chain(counted.cost.keys().filter(|n| !self.cost.contains_key(*n)));
        names
            .flat_map(|name| match (self.cost.get(name), counted.cost.get(name)) {
                (Some(was), Some(is)) => {
                    let instructions = differs("instructions", was.instructions, is.instructions, tolerance);
                    let calls = differs("calls of the C library", was.calls, is.calls, tolerance);
                    [instructions, calls]
                        .into_iter()
                        .flatten()
                        .map(|what| format!("{name}: {what}"))
                        .collect()
                }
                (Some(_), None) => vec![format!("{name}: in the table, and was not counted")],
                (None, _) => vec![format!("{name}: was counted, and is not in the table")],
            })
            .collect()
    }
}

/// A sentence when a number is too far off, either way.
fn differs(what: &str, was: u64, is: u64, tolerance: u64) -> Option<String> {
    if was.abs_diff(is) * 100 <= was * tolerance {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let percent = (is as f64 / was.max(1) as f64 - 1.0) * 100.0;
    let verdict = if is > was { "MORE" } else { "fewer: good, and the table should say so" };
    Some(format!("{is} {what} a packet, expected {was} ±{tolerance} %: {percent:+.1} %, {verdict}"))
}

#[test]
fn a_table_says_what_is_too_much_too_little_missing_and_new() {
    let table = |rustc: &str, rows: &[(&str, u64, u64)]| Table {
        rustc: rustc.into(),
        cost: rows
            .iter()
            .map(|(name, instructions, calls)| {
                ((*name).into(), Cost { instructions: *instructions, calls: *calls })
            })
            .collect(),
    };
    let stored = table("a", &[("same", 1000, 10), ("more", 1000, 10), ("less", 1000, 10), ("gone", 1, 1)]);
    let text = stored.text();
    assert_eq!(toml::from_str::<Table>(&text).unwrap(), stored);
    let rows = [("same", 1020, 10), ("more", 1031, 11), ("less", 979, 10), ("new", 1, 1)];
    let said = stored.complaints(&table("a", &rows));
    let expected = [
        "gone: in the table, and was not counted",
        "less: 979 instructions a packet, expected 1000 ±2 %: -2.1 %, fewer: good, and the table should say so",
        "more: 1031 instructions a packet, expected 1000 ±2 %: +3.1 %, MORE",
        "more: 11 calls of the C library a packet, expected 10 ±2 %: +10.0 %, MORE",
        "new: was counted, and is not in the table",
    ];
    assert_eq!(said, expected);
    assert_eq!(stored.note(&table("a", &rows)), None);
    let others = table("b", &rows);
    assert_eq!(
        stored.complaints(&others),
        [expected[0], expected[4]],
        "another compiler may count otherwise"
    );
    assert!(stored.note(&others).unwrap().contains("25 %"));
}
