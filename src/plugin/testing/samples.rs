//! `samples/*.samples`: single packets with what must become of them. The two nodes of a file live as long as the file:
//! a plugin that remembers an announcement sees the samples in their order.

use super::blocks::Blocks;
use super::journey::{Road, Says, Traveller, rule};
use super::outcome::Expected;
use super::{Case, Failure, Folder, Options, Report, TextFile, bench::fault_text};
use crate::rules::diagnostic::{Diagnostic, Place};
use crate::rules::ruleset::Side;
use crate::rules::sample::{self, Sample};
use std::collections::BTreeSet;

pub(super) fn read(file: &TextFile) -> Result<Vec<Sample>, Diagnostic> {
    sample::parse(&file.name, &file.text)
}

/// Runs a file; with `update`, what came out becomes what is expected.
pub(super) fn run(folder: &Folder, file: &TextFile, options: Options, report: &mut Report) {
    let samples = match read(file) {
        Ok(samples) => samples,
        Err(wrong) => {
            let (place, message) = (wrong.place.to_string(), wrong.message);
            let failures = vec![Failure::new(place, message)];
            return report.take(Case { what: file.name.clone(), failures }, None);
        }
    };
    let mut road = match Road::new(&folder.rules, &folder.code, options.watch, options.trace) {
        Ok(road) => road,
        Err(fault) => {
            let failures = vec![Failure::new(&file.name, fault_text(&fault))];
            return report.take(Case { what: file.name.clone(), failures }, None);
        }
    };
    let mut cases = Vec::new();
    let mut blocks = Blocks::read(&file.text);
    for sample in &samples {
        let failures = try_one(&mut road, sample, options.update.then_some(&mut blocks));
        cases.push(Case { what: format!("{}: [{}]", file.name, sample.name), failures });
    }
    let new = blocks.text();
    if options.update && new != file.text {
        report.updates.push(TextFile { name: file.name.clone(), text: new });
    }
    // The calls belong to the file, so they are counted with its last sample.
    let last = cases.pop();
    report.cases.extend(cases);
    if let Some(last) = last {
        report.take(last, [road.near, road.far]);
    }
}

fn try_one(road: &mut Road<'_>, sample: &Sample, update: Option<&mut Blocks>) -> Vec<Failure> {
    let packet = traveller(sample);
    let outcome = road.travel(&packet, sample.side);
    let place = sample.place.to_string();
    // A fault is never what somebody wants to have expected.
    let faults: Vec<Failure> = outcome.faults.iter().map(|fault| Failure::new(&place, fault)).collect();
    if !faults.is_empty() {
        return faults;
    }
    if let Some(blocks) = update {
        for (key, value) in Expected::of(&outcome, &sample.payload).entries() {
            write(blocks, sample, key, value.as_deref());
        }
        return Vec::new();
    }
    let expected = Expected {
        kind: sample.expect,
        says: Says {
            title: sample.title.clone(),
            map: sample.map.clone(),
            version: sample.version.clone(),
            players: sample.players,
        },
        join: sample.join,
        rewritten: sample.rewritten.clone(),
    };
    let mut told = expected.differences(&outcome, &sample.payload);
    let other = match sample.side {
        Some(Side::FromGame) => Some(Side::FromPeer),
        Some(Side::FromPeer) => Some(Side::FromGame),
        None => None,
    };
    if let Some(kind) = other.and_then(|other| road.kind(&packet, other)) {
        let word = super::outcome::kind_word(Some(kind));
        told.push(format!("expected on one side only, but the other side's rules see its {word} too"));
    }
    told.into_iter().map(|message| Failure::new(&place, message)).collect()
}

/// Changes only what is not what it should be: what is written otherwise but means the same stays as it is.
fn write(blocks: &mut Blocks, sample: &Sample, key: &str, value: Option<&str>) {
    let line = sample.place.line();
    let have = blocks.get(line, key);
    let same = |have: &String| match value {
        Some(value) if key == "rewritten" => have.replace(' ', "").eq_ignore_ascii_case(value),
        Some(value) => have == value,
        None => key == "join" && have == "none",
    };
    if have.as_ref().is_some_and(same) || (have.is_none() && value.is_none()) {
        return;
    }
    blocks.set(line, key, value);
}

fn traveller(sample: &Sample) -> Traveller<'_> {
    Traveller {
        name: &sample.name,
        class: sample.class,
        from: sample.from,
        to: sample.to,
        ttl: sample.ttl,
        payload: &sample.payload,
    }
}

/// Samples that no rule knows although something is expected of them, and rules that no sample meets.
#[must_use]
pub fn unused(folder: &Folder) -> (Vec<Sample>, Vec<Place>) {
    let samples = folder.all_samples();
    let rules: Vec<Place> = folder
        .profiles
        .iter()
        .flat_map(|profile| profile.rules.iter().map(|rule| rule.place.clone()))
        .collect();
    let (mut lost, mut met) = (Vec::new(), BTreeSet::new());
    for sample in samples {
        let packet = traveller(&sample);
        let found = [Side::FromGame, Side::FromPeer].map(|side| rule(&folder.rules, &packet, side));
        met.extend(found.into_iter().flatten().map(|rule| usize::from(rule.0)));
        if found == [None, None] && sample.expect.is_some() {
            lost.push(sample);
        }
    }
    let idle = rules.into_iter().enumerate().filter(|(i, _)| !met.contains(i)).map(|(_, place)| place);
    (lost, idle.collect())
}
