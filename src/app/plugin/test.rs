//! `lanrage plugin test`: runs what the folder has and says what came of it.

use super::folder;
use super::told::{counted, wrong_folder};
use crate::app::failure::Failure;
use crate::model::script::Hook;
use crate::plugin::testing::bench::{Cost, fault_text};
use crate::plugin::testing::{Folder, Found, Fuzzed, Options, Report, TextFile, shown};
use crate::ui::cli::plugin_args::TestPluginArgs;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where fuzzing keeps what it found.
const BROKEN: &str = "samples/broken.samples";

/// What to print, and whether all is green.
///
/// # Errors
/// When the folder cannot be read or a file cannot be written.
pub(super) fn run(args: &TestPluginArgs) -> Result<(String, bool), Failure> {
    let found = folder::read(&args.dir)?;
    let Some(folder) = found.runnable() else { return Err(wrong_folder(&found.wrong)) };
    let options = Options { update: args.update, trace: args.trace, watch: since_start };
    let report = folder.test(options);
    let manifest = &folder.code.manifest;
    let mut out = format!("{} {}\n", manifest.id, manifest.version);
    for line in &report.trace {
        let _ = writeln!(out, "{line}");
    }
    cases(&report, &mut out);
    for file in &report.updates {
        write(&args.dir, &found.shown(""), file)?;
        let _ = writeln!(out, "  wrote {}", file.name);
    }
    costs(&report.costs, &mut out);
    let mut green = report.red() == 0;
    if report.cases.is_empty() {
        green = false;
        out.push_str("nothing to run: there is no test.luau and there are no samples\n");
    } else {
        let _ = writeln!(out, "{} green, {} red", report.green(), report.red());
    }
    if let Some(seconds) = args.fuzz {
        green &= fuzz(&folder, &args.dir, seconds, &mut out)?;
    }
    Ok((out, green))
}

fn cases(report: &Report, out: &mut String) {
    for case in &report.cases {
        let mark = if case.failures.is_empty() { "ok  " } else { "FAIL" };
        let _ = writeln!(out, "  {mark}  {}", case.what);
        for failure in &case.failures {
            let mut lines = failure.message.lines();
            let _ = writeln!(out, "        {}: {}", failure.place, lines.next().unwrap_or_default());
            lines.for_each(|line| {
                let _ = writeln!(out, "          {line}");
            });
        }
    }
}

fn costs(costs: &BTreeMap<Hook, Cost>, out: &mut String) {
    for (hook, cost) in costs {
        let calls = cost.calls.max(1);
        let each = cost.took.as_nanos() / u128::from(calls);
        let _ = writeln!(
            out,
            "  {:<16} {}, {} ticks and {each} ns each; worst: {} ticks ({}); memory {} KiB",
            hook.name(),
            counted(cost.calls, "call"),
            cost.ticks / calls,
            cost.worst,
            cost.worst_what,
            cost.memory.div_ceil(1024),
        );
    }
}

/// The stopwatch of the workshop.
pub(super) fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

fn fuzz(folder: &Folder, dir: &Path, seconds: u32, out: &mut String) -> Result<bool, Failure> {
    let end = since_start() + Duration::from_secs(seconds.into());
    let fuzzed = folder.fuzz(since_start, &mut || since_start() < end).map_err(|fault| {
        Failure::new("plugin_broken", fault_text(&fault), "mend the plugin, then fuzz it again")
    })?;
    let Fuzzed { costs: told, found } = fuzzed;
    let _ = writeln!(out, "{} of broken packets:", counted(seconds, "second"));
    if told.is_empty() {
        out.push_str("  no sample reaches a hook, so there was nothing to break\n");
        return Ok(false);
    }
    costs(&told, out);
    let kept = folder.samples.iter().find(|file| file.name.ends_with("broken.samples"));
    let mut text = kept.map_or_else(
        || "# Packets at which the plugin failed, found by `lanrage plugin test --fuzz`. Keep them: they show that it is mended.\n".to_owned(),
        |file| file.text.clone(),
    );
    for one in &found {
        let _ = writeln!(out, "  FAIL  {} with {}: {}", one.hook.name(), bytes(one), one.message);
        out.push_str(&shown::indented(&shown::dump(&one.payload), 8));
        text.push_str(&one.block);
    }
    if found.is_empty() {
        out.push_str("  no packet made it fail\n");
        return Ok(true);
    }
    write(dir, "", &TextFile { name: BROKEN.into(), text })?;
    let _ = writeln!(out, "  kept as samples in {BROKEN}");
    Ok(false)
}

fn bytes(found: &Found) -> String {
    counted(found.payload.len() as u64, "byte")
}

/// Writes beside, then renames: a full disk loses no samples.
fn write(dir: &Path, shown_dir: &str, file: &TextFile) -> Result<(), Failure> {
    let name = file.name.strip_prefix(shown_dir).unwrap_or(&file.name);
    let path = dir.join(name);
    let beside = path.with_extension("new");
    let failed = |e: std::io::Error| {
        let what = format!("{} cannot be written: {e}", path.display());
        Failure::new("plugin_unwritable", what, "make room, or make the folder writable")
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(&beside, &file.text).and_then(|()| std::fs::rename(&beside, &path)).map_err(failed)
}
