//! The workshop's bench: a plugin's tests, samples and captures, run through the same rules and the same virtual machine
//! as in a party, with a clock that only the test moves.
//!
//! ```text
//! Folder ─┬─ test.luau ── script ──► Bench (Vm, clock, party)
//!         ├─ *.samples ── samples ─┐
//!         ├─ *.pcap ───── captures ┴─ journey ──► classify, ask, rewrite
//!         └─ all payloads ── fuzz ──► every hook
//! ```
//!
//! Pure: files come in as text and bytes, new texts of files go out (`Report::updates`), and the only clock is a stopwatch
//! whose readings are shown and never looked at. `app::plugin` reads and writes the files.

pub mod bench;
mod blocks;
mod captures;
mod fuzz;
pub mod journey;
mod outcome;
mod samples;
mod script;
pub mod shown;
mod spec;

use super::code::Code;
use crate::model::script::{Hook, ScriptFault};
use crate::rules::diagnostic::Diagnostic;
use crate::rules::profile::Profile;
use crate::rules::ruleset::Ruleset;
use crate::rules::sample::Sample;
use bench::{Bench, Cost, Stopwatch};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use super::budget::TICKS;
pub use fuzz::{Found, Fuzzed};
pub use samples::unused;

/// A plugin's folder, read.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Manifest and sources.
    pub code: Arc<Code>,
    /// The profiles whose rules ask it: its own, and shipped ones that it names.
    pub profiles: Vec<Profile>,
    /// Their rules, compiled.
    pub rules: Ruleset,
    /// `test.luau`.
    pub test: Option<TextFile>,
    /// `samples/*.samples`.
    pub samples: Vec<TextFile>,
    /// `samples/*.pcap`.
    pub captures: Vec<CaptureFile>,
}

/// A file of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Its path as people are told it.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// A capture and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureFile {
    /// Its path as people are told it.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// The path of the file beside it that says what is expected: `x.expected` for `x.pcap`.
    pub expected_name: String,
    /// What that file says, if it is there.
    pub expected: Option<String>,
}

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Write what came out into `Report::updates`.
    pub update: bool,
    /// Write every call down.
    pub trace: bool,
    /// How long calls take.
    pub watch: Stopwatch,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The file and the name.
    pub what: String,
    /// Empty: green.
    pub failures: Vec<Failure>,
}

/// Why it is red.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `file:line`, or the file.
    pub place: String,
    /// What happened; may have several lines.
    pub message: String,
}

impl Failure {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they ran.
    pub cases: Vec<Case>,
    /// What calls cost, per hook.
    pub costs: BTreeMap<Hook, Cost>,
    /// Every call, when asked for.
    pub trace: Vec<String>,
    /// New texts of files, when asked for.
    pub updates: Vec<TextFile>,
    /// Whether some packet was changed.
    pub rewrites: bool,
}

impl Report {
    /// Cases that are green.
    #[must_use]
    pub fn green(&self) -> usize {
        self.cases.iter().filter(|case| case.failures.is_empty()).count()
    }

    /// Cases that are not.
    #[must_use]
    pub fn red(&self) -> usize {
        self.cases.len() - self.green()
    }

    fn take(&mut self, case: Case, benches: impl IntoIterator<Item = Bench>) {
        let mut told = vec![format!("== {}", case.what)];
        for bench in benches {
            for (hook, cost) in &bench.costs {
                self.costs.entry(*hook).or_default().add(cost);
            }
            self.rewrites |= bench.rewrites;
            told.extend(bench.trace.unwrap_or_default());
        }
        if told.len() > 1 {
            self.trace.extend(told);
        }
        self.cases.push(case);
    }
}

impl Folder {
    /// Runs everything but the fuzzing.
    #[must_use]
    pub fn test(&self, options: Options) -> Report {
        let mut report = Report::default();
        if let Err(fault) = Bench::new(&self.code, options.watch, false) {
            let failures = vec![Failure::new(self.main_name(), bench::fault_text(&fault))];
            report.cases.push(Case { what: "the plugin loads".into(), failures });
            return report;
        }
        if let Some(test) = &self.test {
            let samples = self.all_samples();
            let script = script::Script {
                shown_as: &test.name,
                text: &test.text,
                code: &self.code,
                samples: &samples,
                watch: options.watch,
                trace: options.trace,
            };
            script.run(&mut |case, bench| report.take(case, bench));
        }
        for file in &self.samples {
            samples::run(self, file, options, &mut report);
        }
        for file in &self.captures {
            captures::run(self, file, options, &mut report);
        }
        report
    }

    /// Throws broken packets at every hook, as long as `go_on` says so.
    ///
    /// # Errors
    /// When the plugin does not even load.
    pub fn fuzz(&self, watch: Stopwatch, go_on: &mut dyn FnMut() -> bool) -> Result<Fuzzed, ScriptFault> {
        fuzz::run(self, watch, go_on)
    }

    /// All samples of all files that can be read.
    #[must_use]
    pub fn all_samples(&self) -> Vec<Sample> {
        self.samples.iter().flat_map(|file| samples::read(file).unwrap_or_default()).collect()
    }

    /// What is wrong with the files of samples.
    #[must_use]
    pub fn wrong_samples(&self) -> Vec<Diagnostic> {
        self.samples.iter().filter_map(|file| samples::read(file).err()).collect()
    }

    fn main_name(&self) -> &str {
        self.code.files.keys().find(|name| name.starts_with("main.lua")).map_or("main.luau", String::as_str)
    }
}
