//! What `lanrage doctor` found, for people: a line for each thing, with what to try below it.

use super::screen::{fold, width};
use super::words::clean;
use crate::model::checkup::{Checkup, Finding, Mark, Section};

/// Longer texts are cut: nothing honest is.
const TEXT: usize = 400;
/// Where texts begin: behind the mark.
const MARGIN: usize = 11;
/// Below this a terminal is too narrow to indent for.
const NARROW: usize = 50;

const SECTIONS: [(Section, &str); 5] = [
    (Section::Pc, "This PC"),
    (Section::Router, "Your router"),
    (Section::Servers, "Servers and relays"),
    (Section::Party, "Your party"),
    (Section::Peers, "The way to the others"),
];

/// Everything, folded at this width.
#[must_use]
pub fn text(checkup: &Checkup, columns: usize, colour: bool) -> String {
    let columns = columns.max(NARROW);
    let mut out = Vec::new();
    for (section, title) in SECTIONS {
        let here: Vec<&Finding> = checkup.findings.iter().filter(|f| f.section == section).collect();
        if here.is_empty() {
            continue;
        }
        out.extend([String::new(), title.to_owned()]);
        here.iter().for_each(|f| one(f, columns, colour, &mut out));
    }
    out.extend([String::new(), verdict(checkup)]);
    out.join("\n").trim_start().to_owned() + "\n"
}

fn one(finding: &Finding, columns: usize, colour: bool, out: &mut Vec<String>) {
    let (word, paint) = match finding.mark {
        Mark::Ok => ("ok", "32"),
        Mark::Note => ("note", "33"),
        Mark::Problem => ("problem", "31"),
    };
    let painted = if colour { format!("\u{1b}[{paint}m{word}\u{1b}[0m") } else { word.to_owned() };
    let gap = " ".repeat(MARGIN - 2 - width(word));
    let mut lines = lines(&finding.found, columns, MARGIN).into_iter();
    let first = lines.next().unwrap_or_default();
    out.push(format!("  {painted}{gap}{}", first.trim_start()));
    out.extend(lines);
    attempt(&finding.r#try, columns, out);
    for reason in &finding.advice {
        out.extend(self::lines(&reason.message, columns, MARGIN));
        attempt(&reason.hint, columns, out);
    }
}

fn attempt(what: &str, columns: usize, out: &mut Vec<String>) {
    if !what.is_empty() {
        let text = format!("try: {}", clean(what, TEXT));
        out.extend(lines(&text, columns, MARGIN + 2));
    }
}

/// A text on as many lines as it needs, all of them indented.
fn lines(text: &str, columns: usize, margin: usize) -> Vec<String> {
    let folded = fold(&clean(text, TEXT), columns.saturating_sub(margin + 1));
    let indent = " ".repeat(margin);
    folded.lines().map(|line| format!("{indent}{}", line.trim_start())).collect()
}

fn verdict(checkup: &Checkup) -> String {
    let count = |mark, what: &str| {
        let n = checkup.count(mark);
        (n > 0).then(|| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") })
    };
    let parts: Vec<String> =
        [count(Mark::Problem, "problem"), count(Mark::Note, "note")].into_iter().flatten().collect();
    let party = if checkup.party.is_none() {
        " No party runs here; with one, the way to each player is told too."
    } else {
        ""
    };
    match (checkup.ok, parts.is_empty()) {
        (true, true) => format!("Everything is fine.{party}"),
        (true, false) => format!("Nothing is wrong; {}.{party}", parts.join(", ")),
        (false, _) => format!("{}.{party}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::{NatStatus, Trouble};

    fn checkup(findings: Vec<Finding>) -> Checkup {
        let ok = findings.iter().all(|f| f.mark != Mark::Problem);
        Checkup { ok, version: "1".into(), party: None, took_ms: 1, nat: NatStatus::default(), findings }
    }

    #[test]
    fn every_finding_is_told_with_its_mark_and_its_cure() {
        let mut bob =
            Finding::new(Section::Peers, Mark::Note, "path_relay", "Bob: through a relay, 61 ms, for 3 min");
        bob.advice = vec![Trouble::new(
            "both_symmetric",
            "Bob's router uses another port for every destination, and so does yours",
            "switch on UPnP or NAT-PMP in either router (one is enough), or use IPv6 at both ends",
        )];
        let text = text(
            &checkup(vec![
                Finding::new(Section::Router, Mark::Ok, "udp_open", "UDP gets out"),
                Finding::new(Section::Pc, Mark::Problem, "no_tun", "this system has no tunnel devices")
                    .with_try("sudo modprobe tun"),
                bob,
            ]),
            80,
            false,
        );
        assert_eq!(
            text,
            "This PC\n  problem  this system has no tunnel devices\n             try: sudo modprobe tun\n\n\
             Your router\n  ok       UDP gets out\n\n\
             The way to the others\n  note     Bob: through a relay, 61 ms, for 3 min\n           \
             Bob's router uses another port for every destination, and so does\n           yours\n             \
             try: switch on UPnP or NAT-PMP in either router (one is enough),\n             or use IPv6 at both ends\n\n\
             1 problem, 1 note. No party runs here; with one, the way to each player is told too.\n"
        );
    }

    #[test]
    fn names_of_others_cannot_play_tricks_and_nothing_is_too_wide() {
        let evil = Finding::new(
            Section::Peers,
            Mark::Ok,
            "path_lan",
            format!("\u{1b}[2J{}: over\nyour network", "long ".repeat(90)),
        );
        let text = text(&checkup(vec![evil]), 60, false);
        assert!(!text.contains('\u{1b}'));
        assert!(text.lines().take(9).all(|l| width(l) <= 60), "{text}");
        assert!(text.contains("Everything is fine."));
    }
}
