//! From what a profile's file says to what it means: everything is checked here, so that nothing can be wrong later.
//!
//! The caps keep a hostile or mistaken file from opening a computer or eating its memory: see the constants at the end.

mod listing;
mod place;
mod rule;

use super::diagnostic::{Diagnostic, Source};
use super::file::{Findings, Item, Section, shown};
use super::ports::{LOWEST, PortRange};
use super::profile::{Evidence, GamePort, PlainPort, Play, Profile, Proxy, Rule};
use super::ruleset::Transport;
use crate::model::id::{PluginId, ProfileId};
use std::ops::Range;
use std::sync::Arc;
use toml::de::DeTable;

/// Reads and checks a profile.
///
/// # Errors
/// All that is wrong with it, in the order of the file.
pub fn check_text(file_name: &str, text: &str) -> Result<Profile, Vec<Diagnostic>> {
    let source = Arc::new(Source { name: file_name.to_owned(), text: text.to_owned() });
    let mut findings = Findings::new(Arc::clone(&source));
    if text.len() > FILE_BYTES {
        findings
            .add(&(0..0), format!("the file has {} bytes; a profile has at most {FILE_BYTES}", text.len()));
        return Err(findings.finish().unwrap_or_default());
    }
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        findings.add(&error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
    }
    // What the parser could recover would only add noise to the mistake that people have to mend first.
    let profile = if findings.is_empty() {
        let root = Section::new(document.get_ref(), 0..0, "the profile");
        read_profile(root, &source, &mut findings)
    } else {
        None
    };
    match (findings.finish(), profile) {
        (None, Some(profile)) => Ok(profile),
        (found, _) => Err(found.unwrap_or_default()),
    }
}

fn read_profile(mut root: Section<'_>, source: &Arc<Source>, findings: &mut Findings) -> Option<Profile> {
    let id_item = root.need("id", findings);
    let id = id_item.as_ref().and_then(|item| word(item, findings));
    let name = root.need("name", findings).and_then(|item| line(&item, findings));
    let aliases = list(root.take("aliases"), NAMES, findings, word);
    let processes = list(root.take("processes"), NAMES, findings, line);
    let family = root.take("family").and_then(|item| word(&item, findings));
    let evidence = root.need("evidence", findings).and_then(|item| item.choice(&EVIDENCE, findings));
    let tested_on = list(root.take("tested_on"), NAMES, findings, line);
    let note = root.take("note").and_then(|item| note(&item, findings));
    let plugin = root.take("plugin").and_then(|item| word(&item, findings));
    let play_item = root.take("play");
    let play = play_item.as_ref().and_then(|item| item.section("[play]", findings));
    let (play, join_given) = play.map_or_else(|| (NO_PLAY, false), |section| read_play(section, findings));
    let proxy = root.take("proxy").and_then(|item| read_proxy(&item, findings));
    let around = rule::Around { play: &play, plugin: plugin.is_some() };
    let rules = root.take("rule").map_or_else(Vec::new, |item| rule::read_rules(&item, &around, findings));
    let root_span = root.span.clone();
    root.finish(findings);

    let play_span = play_item.map_or(root_span, |item| item.span);
    check_play(&play_span, &play, join_given || plugin.is_some(), &rules, findings);
    Some(Profile {
        id: ProfileId(id?),
        name: name?,
        aliases,
        processes,
        family,
        evidence: evidence?,
        tested_on,
        note,
        plugin: plugin.map(PluginId),
        play,
        proxy,
        rules,
        source: Arc::clone(source),
        place: findings.place(&id_item?.span),
    })
}

/// Whether ports and rules agree.
fn check_play(
    play_span: &Range<usize>,
    play: &Play,
    join_known: bool,
    rules: &[Rule],
    findings: &mut Findings,
) {
    if play.dynamic {
        let learns = |rule: &Rule| {
            rule.opens.is_some()
                || rule
                    .lists
                    .as_ref()
                    .is_some_and(|l| !matches!(l.port, GamePort::Plain(PlainPort::Fixed(_))))
        };
        if findings.is_empty() && !rules.iter().any(learns) {
            findings.add_with_help(
                play_span,
                "`dynamic` ports are learned from announcements and answers, and no rule reads one",
                "give a rule a `game_port` that is a place or \"source\", or name the ports",
            );
        }
    } else if play.tcp.is_empty() && play.udp.is_empty() && rules.is_empty() && findings.is_empty() {
        findings.add_with_help(
            play_span,
            "the profile opens nothing",
            "give it `[play]` ports or a `[[rule]]`",
        );
    }
    if !join_known && play.tcp.is_empty() == play.udp.is_empty() && rules.iter().any(|r| r.lists.is_some()) {
        let message =
            if play.tcp.is_empty() { "no play ports say" } else { "both TCP and UDP ports do not say" };
        findings.add_with_help(
            play_span,
            format!("{message} how a game in the list is joined"),
            "add `join = \"tcp\"` or `join = \"udp\"` to `[play]`",
        );
    }
}

/// `[proxy]`: the truth before anyone tries.
fn read_proxy(item: &Item<'_>, findings: &mut Findings) -> Option<Proxy> {
    let mut section = item.section("[proxy]", findings)?;
    let works = section.need("works", findings).and_then(|item| item.truth(findings));
    let why = section.take("why").map(|item| note(&item, findings));
    section.finish(findings);
    if works == Some(false) && why.is_none() {
        findings.add_with_help(
            &item.span,
            "missing key `why` in [proxy]",
            "say what keeps the game from being played through a proxy",
        );
    }
    Some(Proxy { works: works?, why: why.flatten() })
}

fn read_play(mut section: Section<'_>, findings: &mut Findings) -> (Play, bool) {
    let tcp = play_ports(section.take("tcp"), findings);
    let udp = play_ports(section.take("udp"), findings);
    let join = section.take("join").and_then(|item| item.choice(&TRANSPORTS, findings));
    let dynamic_item = section.take("dynamic");
    let dynamic = dynamic_item.as_ref().and_then(|item| item.truth(findings)).unwrap_or(false);
    let peers = section.take("peers").and_then(|item| item.truth(findings)).unwrap_or(false);
    section.finish(findings);
    if let (true, Some(item), false) = (dynamic, dynamic_item, tcp.is_empty() && udp.is_empty()) {
        findings.add_with_help(
            &item.span,
            "`dynamic` means that no port is fixed, and `[play]` names some",
            "remove one of them; ports that packets name are open beside the fixed ones anyway",
        );
    }
    let guess = if udp.is_empty() { Transport::Tcp } else { Transport::Udp };
    (Play { tcp, udp, join: join.unwrap_or(guess), dynamic, peers }, join.is_some())
}

/// Ports that will be open: none of the system's, and not so many that "only the game" loses its meaning.
fn play_ports(item: Option<Item<'_>>, findings: &mut Findings) -> Vec<PortRange> {
    let Some(item) = item else {
        return Vec::new();
    };
    let ranges = ports(&item, findings);
    let count: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    if count > PLAY_PORTS {
        findings
            .add(&item.span, format!("`{}` opens {count} ports; at most {PLAY_PORTS} are allowed", item.key));
    }
    for range in ranges.iter().filter(|range| *range.start() < LOWEST) {
        findings.add_with_help(
            &item.span,
            format!("`{}` opens port {}, one of the system's own", item.key, range.start()),
            format!("ports below {LOWEST} are never opened to a party"),
        );
    }
    ranges
}

/// A port, a range such as `"27960-27963"`, or a list of both.
fn ports(item: &Item<'_>, findings: &mut Findings) -> Vec<PortRange> {
    let items = item.each();
    if items.is_empty() || items.len() > PORT_RANGES {
        findings.add(&item.span, format!("`{}` needs 1 to {PORT_RANGES} ports or ranges", item.key));
        return Vec::new();
    }
    let range = |item: &Item<'_>| {
        span_of_numbers(item, 1, "a port such as 27960 or a range such as \"27960-27963\"", findings)
    };
    items.iter().filter_map(range).collect()
}

/// A number or a range of numbers as text.
fn span_of_numbers(item: &Item<'_>, lowest: u16, wanted: &str, findings: &mut Findings) -> Option<PortRange> {
    if item.as_whole().is_some() {
        let number = item.whole(lowest..=u16::MAX, findings)?;
        return Some(number..=number);
    }
    let text = item.or_wrong(item.as_text(), wanted, findings)?;
    let range = text
        .split_once('-')
        .and_then(|(low, high)| Some(low.trim().parse::<u16>().ok()?..=high.trim().parse::<u16>().ok()?));
    let range = range.filter(|range| !range.is_empty() && *range.start() >= lowest);
    if range.is_none() {
        findings.add(&item.span, format!("`{}` must be {wanted}, not `{}`", item.key, shown(text)));
    }
    range
}

fn list(
    item: Option<Item<'_>>,
    most: usize,
    findings: &mut Findings,
    read: impl Fn(&Item<'_>, &mut Findings) -> Option<String>,
) -> Vec<String> {
    let Some(item) = item else {
        return Vec::new();
    };
    let items = item.each();
    if items.len() > most {
        findings.add(
            &item.span,
            format!("`{}` has {} entries; at most {most} are allowed", item.key, items.len()),
        );
        return Vec::new();
    }
    items.iter().filter_map(|item| read(item, findings)).collect()
}

/// A name that can be typed on a command line and be a file's name on every system.
fn word(item: &Item<'_>, findings: &mut Findings) -> Option<String> {
    let text = item.text(findings)?;
    let good = text.len() <= WORD_BYTES
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !good {
        findings.add_with_help(
            &item.span,
            format!("`{}` is no `{}`", shown(text), item.key),
            format!("use up to {WORD_BYTES} of the characters a-z, 0-9 and `-`"),
        );
    }
    good.then(|| text.to_owned())
}

/// A line of text for people.
fn line(item: &Item<'_>, findings: &mut Findings) -> Option<String> {
    let text = item.text(findings)?;
    let good = !text.trim().is_empty() && text.len() <= LINE_BYTES && !text.chars().any(char::is_control);
    if !good {
        findings.add(&item.span, format!("`{}` must be one line of 1 to {LINE_BYTES} bytes", item.key));
    }
    good.then(|| text.to_owned())
}

/// A paragraph for people.
fn note(item: &Item<'_>, findings: &mut Findings) -> Option<String> {
    let text = item.text(findings)?;
    let good = text.len() <= NOTE_BYTES && !text.chars().any(|c| c.is_control() && c != '\n');
    if !good {
        findings.add(&item.span, format!("`{}` must be text of at most {NOTE_BYTES} bytes", item.key));
    }
    good.then(|| text.trim().to_owned())
}

const NO_PLAY: Play =
    Play { tcp: Vec::new(), udp: Vec::new(), join: Transport::Tcp, dynamic: false, peers: false };
const EVIDENCE: [(&str, Evidence); 3] = [
    ("captured", Evidence::Captured),
    ("documented", Evidence::Documented),
    ("unverified", Evidence::Unverified),
];
const TRANSPORTS: [(&str, Transport); 2] = [("tcp", Transport::Tcp), ("udp", Transport::Udp)];

/// The largest shipped profile has 3 KiB.
const FILE_BYTES: usize = 64 << 10;
/// Aliases, processes, versions.
const NAMES: usize = 32;
/// Bytes of an id, an alias or a family.
const WORD_BYTES: usize = 40;
/// Bytes of a name.
const LINE_BYTES: usize = 100;
/// Bytes of a note.
const NOTE_BYTES: usize = 2000;
/// Ports and ranges of one key.
const PORT_RANGES: usize = 32;
/// Ports that one key may open: DirectPlay's 2300-2400 fits, "everything" does not.
const PLAY_PORTS: usize = 512;

#[cfg(test)]
mod tests;
