//! `lanrage sim`: many seeds, or the whole story of one.

use super::Outcome;
use super::run::tell;
use super::scenario::Scenario;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

/// Runs `count` seeds from `from` on; with `trace`, prints every event of each. Fails when any seed breaks a rule.
#[must_use]
pub fn cli(from: u64, count: u64, trace: bool) -> ExitCode {
    let mut out = io::stdout().lock();
    match run(from, count, trace, &mut out) {
        Ok(0) => ExitCode::SUCCESS,
        // A closed pipe ends the listing, not the program's good name.
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

/// How many seeds failed.
fn run(from: u64, count: u64, trace: bool, out: &mut impl Write) -> io::Result<u64> {
    let (mut failed, mut owed, mut copies, mut events) = (0, 0, 0, 0);
    let mut lasted = Duration::ZERO;
    for seed in from..from.saturating_add(count) {
        let bytes = Scenario::bytes_of(seed);
        // A panic in a node is a finding like any other; the seeds after it are still worth a look.
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| tell(&bytes, trace))) else {
            failed += 1;
            writeln!(out, "seed {seed}: PANIC")?;
            continue;
        };
        owed += outcome.owed;
        copies += outcome.copies;
        events += outcome.events;
        lasted += outcome.lasted;
        failed += u64::from(!outcome.holds());
        report(seed, &outcome, trace || count == 1, out)?;
    }
    writeln!(
        out,
        "{count} seeds, {failed} failed; {} hours of party, {events} events, {copies} copies heard, {owed} of them owed exactly once",
        lasted.as_secs() / 3600
    )?;
    Ok(failed)
}

fn report(seed: u64, outcome: &Outcome, full: bool, out: &mut impl Write) -> io::Result<()> {
    for line in &outcome.lines {
        writeln!(out, "{line}")?;
    }
    if outcome.holds() && !full {
        return Ok(());
    }
    let Outcome { mood, pcs, steps, hash, .. } = outcome;
    let verdict = if outcome.holds() { "holds" } else { "FAILS" };
    writeln!(out, "seed {seed}: {verdict}  {mood:?}, {pcs} computers, {steps} steps, hash {hash:016x}")?;
    for violation in &outcome.violations {
        writeln!(out, "  {:>10.3} s  {}", violation.at.0.as_secs_f64(), violation.what)?;
    }
    if outcome.more > 0 {
        writeln!(out, "  and {} more", outcome.more)?;
    }
    Ok(())
}
