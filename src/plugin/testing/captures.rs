//! `samples/*.pcap`: what was really on the wire, with a file beside it that says what must become of each packet. Packets
//! that the file does not name are no discovery of the game: the rules must know none of them.

use super::blocks::{Blocks, entry};
use super::journey::{Road, Traveller, class_of};
use super::outcome::Expected;
use super::{CaptureFile, Case, Failure, Folder, Options, Report, TextFile, bench::fault_text};
use crate::rules::capture::{self, Captured};
use crate::wire::packet::PacketView;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What a block may say.
const KEYS: [&str; 7] = ["expect", "title", "map", "version", "players", "join", "rewritten"];

/// What a packet came to: its lines in the file, and what the plugin did wrong.
struct Came {
    number: usize,
    entries: Vec<(&'static str, String)>,
    faults: Vec<String>,
}

/// Runs a capture; with `update`, what came out becomes what is expected.
pub(super) fn run(folder: &Folder, file: &CaptureFile, options: Options, report: &mut Report) {
    let mut case = Case { what: file.name.clone(), failures: Vec::new() };
    let packets = match capture::read(&file.bytes) {
        Ok(capture) => capture.packets,
        Err(wrong) => {
            case.failures.push(Failure::new(&file.name, wrong.to_string()));
            return report.take(case, None);
        }
    };
    let mut road = match Road::new(&folder.rules, &folder.code, options.watch, options.trace) {
        Ok(road) => road,
        Err(fault) => {
            case.failures.push(Failure::new(&file.name, fault_text(&fault)));
            return report.take(case, None);
        }
    };
    let came: Vec<Came> = packets.iter().filter_map(|packet| travel(&mut road, packet)).collect();
    for came in &came {
        let place = format!("{}: packet {}", file.name, came.number);
        case.failures.extend(came.faults.iter().map(|fault| Failure::new(&place, fault)));
    }
    match &file.expected {
        _ if options.update => {
            let text = written(file, &came);
            if file.expected.as_ref() != Some(&text) && case.failures.is_empty() {
                report.updates.push(TextFile { name: file.expected_name.clone(), text });
            }
        }
        Some(text) => case.failures.extend(compare(file, text, &came)),
        None => {
            let message = "nothing says what is expected of it; `lanrage plugin test --update` writes \
                           what comes out, for you to read and keep";
            case.failures.push(Failure::new(&file.expected_name, message));
        }
    }
    let _ = write!(case.what, " ({} packets, {} known)", packets.len(), came.len());
    report.take(case, [road.near, road.far]);
}

/// `None`: nothing that the rules know.
fn travel(road: &mut Road<'_>, captured: &Captured) -> Option<Came> {
    let view = PacketView::parse(&captured.packet).ok()?;
    let name = format!("packet {}", captured.number);
    let packet = Traveller {
        name: &name,
        class: class_of(view.dst),
        from: view.source(),
        to: view.destination(),
        ttl: view.ttl,
        payload: view.payload(),
    };
    let outcome = road.travel(&packet, None);
    outcome.kind?;
    let entries = Expected::of(&outcome, view.payload()).entries();
    let entries = entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    Some(Came { number: captured.number, entries, faults: outcome.faults })
}

fn written(file: &CaptureFile, came: &[Came]) -> String {
    let name = file.name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut out = format!(
        "# What becomes of the packets of {name}, by their number in it. Those that are not named here must be nothing\n\
         # that the rules know. `lanrage plugin test --update` writes this file; read it before you keep it.\n"
    );
    for came in came {
        let _ = writeln!(out, "\n[{}]", came.number);
        let lines = came.entries.iter().flat_map(|(key, value)| entry(key, value));
        lines.for_each(|line| {
            let _ = writeln!(out, "{line}");
        });
    }
    out
}

fn compare(file: &CaptureFile, text: &str, came: &[Came]) -> Vec<Failure> {
    let blocks = Blocks::read(text);
    let mut out = Vec::new();
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    for block in blocks.blocks() {
        let place = format!("{}:{}:1", file.expected_name, block.line);
        match block.name.parse::<usize>() {
            Ok(number) if wanted.insert(number, block.line).is_none() => {}
            Ok(number) => out.push(Failure::new(place, format!("packet {number} is named twice"))),
            Err(_) => {
                let message = format!("`{}` is no packet's number", block.name.escape_debug());
                out.push(Failure::new(place, message));
            }
        }
        for (line, key) in blocks.keys(block.line) {
            if !KEYS.contains(&key.as_str()) {
                let place = format!("{}:{line}:1", file.expected_name);
                out.push(Failure::new(place, format!("unknown key `{}`", key.escape_debug())));
            }
        }
    }
    for came in came {
        let Some(line) = wanted.remove(&came.number) else {
            let told: Vec<String> =
                came.entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
            let message = format!("packet {} is not expected, but known:\n{}", came.number, told.join("\n"));
            out.push(Failure::new(&file.expected_name, message));
            continue;
        };
        out.extend(packet_differs(file, &blocks, line, came));
    }
    for (number, line) in wanted {
        let place = format!("{}:{line}:1", file.expected_name);
        if blocks.get(line, "expect").as_deref() != Some("nothing") {
            out.push(Failure::new(place, format!("no rule knows packet {number}, or the capture has none")));
        }
    }
    out
}

fn packet_differs(file: &CaptureFile, blocks: &Blocks, line: usize, came: &Came) -> Vec<Failure> {
    let mut out = Vec::new();
    for key in KEYS {
        let got = came.entries.iter().find(|(have, _)| *have == key).map(|(_, value)| value.as_str());
        let wanted = blocks.get(line, key);
        let same = match (wanted.as_deref(), got) {
            (Some(wanted), Some(got)) if key == "rewritten" => {
                wanted.replace(' ', "").eq_ignore_ascii_case(got)
            }
            (Some("none"), None) => key == "join",
            (wanted, got) => wanted == got,
        };
        if same {
            continue;
        }
        let wanted = wanted.as_deref().unwrap_or("nothing");
        let message = format!(
            "packet {}: expected `{key}: {wanted}`\ngot      `{key}: {}`",
            came.number,
            got.unwrap_or("nothing")
        );
        out.push(Failure::new(format!("{}:{line}:1", file.expected_name), message));
    }
    out
}
