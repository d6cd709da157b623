//! `lanrage plugin check`: everything that is wrong with a plugin, and what is worth a thought, each with its place.

use super::folder::{self, Found, MANIFEST, complaint};
use super::told::{all, counted};
use crate::app::failure::Failure;
use crate::plugin::code::Code;
use crate::plugin::lint::{Lint, look, place_in_line};
use crate::plugin::testing::{Folder, Options, Report, TICKS, unused};
use crate::rules::diagnostic::{Diagnostic, Place, Source};
use crate::rules::profile::Rule;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// A hook that needs more than this part of its ticks for a sample is told.
const SLOW: u32 = TICKS / 10;

/// What to print, and whether nothing is wrong.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn run(dir: &Path) -> Result<(String, bool), Failure> {
    let mut found = folder::read(dir)?;
    let mut notes = Vec::new();
    sources(&mut found, &mut notes);
    ports(&mut found);
    let samples: Vec<Diagnostic> = found.runnable().map(|folder| folder.wrong_samples()).unwrap_or_default();
    found.wrong.extend(samples);
    if let Some(folder) = found.runnable() {
        running(&mut found, &folder, &mut notes);
    }
    let name = found.manifest.as_ref().map_or_else(|| found.shown(""), |m| format!("{} {}", m.id, m.version));
    let mut out = String::new();
    if found.wrong.is_empty() {
        let _ = writeln!(out, "{name} is fine");
    } else {
        let _ = write!(out, "{}\n{}", counted(found.wrong.len(), "mistake"), all(&found.wrong));
    }
    if !notes.is_empty() {
        let _ = writeln!(out, "\nworth a thought:");
        notes.iter().for_each(|note| {
            let _ = writeln!(out, "{note}");
        });
    }
    Ok((out, found.wrong.is_empty()))
}

/// The code as text: compiles, names only what is there, has what it may.
fn sources(found: &mut Found, notes: &mut Vec<Diagnostic>) {
    if let Some(manifest) = &found.manifest {
        let code = Code { manifest: manifest.clone(), files: found.files.clone() };
        if let Err(wrong) = code.check() {
            let place = found.manifest_place("id");
            found.wrong.push(complaint(place, wrong.to_string(), ""));
        }
    }
    let main = if found.files.contains_key("main.luau") { "main.luau" } else { "main.lua" };
    let may = found.manifest.as_ref().map(|manifest| &manifest.may);
    let Lint { mut wrong, notes: mut more, sends, broken } =
        look(&found.files, main, may, &|file| found.shown(file));
    found.wrong.append(&mut wrong);
    notes.append(&mut more);
    if may.is_some_and(|may| may.send) && !sends && !broken {
        let help = "leave `send` out: players are asked about everything that a plugin may do";
        notes.push(complaint(
            found.manifest_place("send"),
            "the plugin may send and never calls lanrage.send",
            help,
        ));
    }
}

/// The engine shows a plugin only packets from or to its own ports.
fn ports(found: &mut Found) {
    let Some(manifest) = &found.manifest else { return };
    let own = |ranges: &[RangeInclusive<u16>]| {
        !ranges.is_empty() && ranges.iter().all(|range| range.clone().all(|port| manifest.may.has_udp(port)))
    };
    let asks = found.profiles.iter().filter(|profile| profile.plugin.as_ref() == Some(&manifest.id));
    let outside: Vec<&Rule> = asks
        .flat_map(|profile| &profile.rules)
        .filter(|rule| rule.ask.is_some() && !own(&rule.ports) && !own(&rule.from_ports))
        .collect();
    let told: Vec<Diagnostic> = outside
        .iter()
        .map(|rule| {
            let named = rule.ports.iter().chain(&rule.from_ports).map(written).collect::<Vec<_>>().join(", ");
            let message =
                format!("the rule asks the plugin about port {named}, which is not among the plugin's own");
            complaint(rule.place.clone(), message, format!("add it to `udp` of [may] in {MANIFEST}"))
        })
        .collect();
    found.wrong.extend(told);
}

fn written(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

/// What only running shows: does it load, do samples reach it, is it slow, does it use what it may.
fn running(found: &mut Found, folder: &Folder, notes: &mut Vec<Diagnostic>) {
    let options = Options { update: false, trace: false, watch: super::test::since_start };
    let report = folder.test(options);
    faults(found, folder, &report);
    let (lost, idle) = unused(folder);
    for sample in lost {
        let message = format!("[{}]: no rule of the profile knows this packet", sample.name);
        let help = "mend the sample or the rule, or say `expect: nothing`";
        found.wrong.push(complaint(sample.place, message, help));
    }
    for place in idle.into_iter().filter(|place| is_own(place, found)) {
        notes.push(complaint(place, "no sample meets this rule", "add a packet to samples/"));
    }
    for (hook, cost) in report.costs.iter().filter(|(_, cost)| cost.worst > SLOW) {
        let message = format!(
            "{} needs {} of {TICKS} ticks for {}; a plugin that needs more is stopped",
            hook.name(),
            cost.worst,
            cost.worst_what
        );
        let place = hook_place(found, hook.name());
        notes.push(complaint(place, message, "look at fewer bytes, or keep what was found out"));
    }
    if folder.code.manifest.may.rewrite && !report.rewrites && report.red() == 0 {
        let help = "leave `rewrite` out, or add a sample that is changed";
        notes.push(complaint(
            found.manifest_place("rewrite"),
            "the plugin may change packets and changed none of the samples",
            help,
        ));
    }
    let red = report.red();
    if red > 0 && found.wrong.is_empty() {
        let message =
            format!("{} of its test and samples {}", red, if red == 1 { "is red" } else { "are red" });
        found.wrong.push(complaint(found.manifest_place("id"), message, "`lanrage plugin test` shows them"));
    }
}

/// Faults of the plugin itself, each once, at the line of the code where they happened.
fn faults(found: &mut Found, folder: &Folder, report: &Report) {
    let start = format!("plugin `{}`: ", folder.code.manifest.id);
    let mut told: Vec<Diagnostic> = Vec::new();
    for failure in report.cases.iter().flat_map(|case| &case.failures) {
        let Some((_, text)) = failure.message.split_once(&start) else { continue };
        let text = text.lines().next().unwrap_or_default();
        let Some((place, message)) = placed(found, text) else { continue };
        let place = place.unwrap_or_else(|| hook_place(found, "return"));
        let same = |one: &Diagnostic| one.place == place && one.message == message;
        if !told.iter().any(same) {
            told.push(complaint(place, message, ""));
        }
    }
    found.wrong.extend(told);
}

/// `main.luau:12: what` as a place and what.
fn placed(found: &Found, text: &str) -> Option<(Option<Place>, String)> {
    let (file, rest) = text.split_once(':')?;
    let Some(source) = source(found, file) else { return Some((None, text.to_owned())) };
    let (line, message) = rest.split_once(": ").unwrap_or(("1", rest));
    match line.trim().parse() {
        Ok(line) => Some((Some(place_in_line(&source, line, None)), message.trim().to_owned())),
        Err(_) => Some((Some(place_in_line(&source, 1, None)), rest.trim().to_owned())),
    }
}

fn source(found: &Found, file: &str) -> Option<Arc<Source>> {
    let text = found.files.get(file)?;
    Some(Arc::new(Source { name: found.shown(file), text: text.clone() }))
}

/// Where the main file names something first.
fn hook_place(found: &Found, word: &str) -> Place {
    let main = if found.files.contains_key("main.luau") { "main.luau" } else { "main.lua" };
    let Some(source) = source(found, main) else { return found.manifest_place("id") };
    let line = source.text.lines().position(|line| line.contains(word)).unwrap_or(0);
    place_in_line(&source, line + 1, Some(word))
}

/// Rules of shipped profiles have their samples elsewhere.
fn is_own(place: &Place, found: &Found) -> bool {
    place.file() == found.shown(folder::PROFILE)
}
