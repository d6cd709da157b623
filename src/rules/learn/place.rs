//! Texts in a payload and every way to say where they lie, from the most to the least robust: between markers, as the value
//! of a key, as a field of a list, behind a count, behind texts that end with a NUL, at an offset.

use super::shape::is_text;
use crate::rules::locate::{Find, Locate, Step};
use std::fmt::Write as _;
use std::ops::Range;

/// A text and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) place: Locate,
    pub(super) range: Range<usize>,
    /// What the game calls it: a key or a marker's word.
    pub(super) label: String,
}

/// All texts of a payload, the most robust way of each first.
pub(super) fn candidates(payload: &[u8]) -> Vec<Candidate> {
    let mut all = Vec::new();
    markers(payload, &mut all);
    keys(payload, &mut all);
    assignments(payload, &mut all);
    fields(payload, &mut all);
    counted(payload, &mut all);
    terminated(payload, &mut all);
    all.retain(|c| c.place.find(payload).is_some_and(|found| found == c.range));
    all.truncate(MOST);
    all
}

/// Runs of printable characters of at least this length.
pub(super) fn runs(payload: &[u8], least: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0;
    for (i, c) in payload.iter().chain([&0]).enumerate() {
        let part_of_text = is_text(*c) || *c >= 0x80 && i > start;
        if !part_of_text {
            // A byte behind the text that is no letter, such as a sum, does not take the text away.
            let text = payload.get(start..i).unwrap_or_default();
            let good = std::str::from_utf8(text).map_or_else(|e| e.valid_up_to(), str::len);
            if good >= least && out.len() < MOST_RUNS {
                out.push(start..start + good);
            }
            start = i + 1;
        }
    }
    out
}

/// `[X]text[/X]` and `<x>text</x>`.
fn markers(payload: &[u8], all: &mut Vec<Candidate>) {
    for (open, close) in [(b'[', b']'), (b'<', b'>')] {
        let starts = payload.iter().enumerate().filter(|(_, c)| **c == open).map(|(i, _)| i);
        for start in starts.take(MOST_RUNS) {
            let rest = payload.get(start + 1..).unwrap_or(&[]);
            let Some(len) = rest.iter().take(24).position(|c| *c == close) else { continue };
            let Some(word) =
                rest.get(..len).filter(|w| !w.is_empty() && w.iter().all(u8::is_ascii_alphanumeric))
            else {
                continue;
            };
            let (first, last) =
                ([&[open], word, &[close]].concat(), [&[open, b'/'], word, &[close]].concat());
            let from = start + first.len();
            let after = payload.get(from..).unwrap_or(&[]);
            let Some(end) = after.windows(last.len()).position(|w| w == last) else { continue };
            all.push(Candidate {
                place: Locate { at: 0, skip: Box::default(), find: Find::Between(first.into(), last.into()) },
                range: from..from + end,
                label: lower(word),
            });
        }
    }
}

/// `\key\value`.
fn keys(payload: &[u8], all: &mut Vec<Candidate>) {
    let Some(start) = payload.iter().position(|c| *c == b'\\') else { return };
    let list = payload.get(start..).unwrap_or(&[]);
    let end = list.iter().position(|c| matches!(c, b'\n' | 0)).unwrap_or(list.len());
    let parts: Vec<&[u8]> = list.get(1..end).unwrap_or(&[]).split(|c| *c == b'\\').collect();
    if parts.len() < 4 {
        return;
    }
    let mut at = start + 1;
    for pair in parts.chunks(2).take(MOST_RUNS) {
        let [key, value] = pair else { break };
        let from = at + key.len() + 1;
        at = from + value.len() + 1;
        if key.is_empty() || !key.iter().all(|c| is_text(*c)) {
            continue;
        }
        all.push(Candidate {
            place: Locate { at: short(start), skip: Box::default(), find: Find::Key((*key).into(), b'\\') },
            range: from..from + value.len(),
            label: lower(key),
        });
    }
}

/// `key=value` and `"key":value` up to a comma, semicolon, ampersand or line end.
fn assignments(payload: &[u8], all: &mut Vec<Candidate>) {
    let signs = payload.iter().enumerate().filter(|(_, c)| matches!(c, b'=' | b':')).map(|(i, _)| i);
    for sign in signs.take(MOST_RUNS) {
        let before = payload.get(..sign).unwrap_or(&[]);
        let quoted = before.last() == Some(&b'"');
        let word_end = sign - usize::from(quoted);
        let word = before.get(..word_end).unwrap_or(&[]);
        let len = word.iter().rev().take(24).take_while(|c| c.is_ascii_alphanumeric() || **c == b'_').count();
        let key = word.get(word_end - len..word_end).unwrap_or(&[]);
        if len < 2 || key.iter().all(u8::is_ascii_digit) {
            continue;
        }
        let after = payload.get(sign + 1..).unwrap_or(&[]);
        let text = after.first() == Some(&b'"');
        let open_end = sign + 1 + usize::from(text);
        let value = payload.get(open_end..).unwrap_or(&[]);
        let ends = |c: &u8| if text { *c == b'"' } else { matches!(c, b',' | b';' | b'&' | b'}' | b'\n') };
        let Some(end) = value.iter().position(ends) else { continue };
        let Some(close) = value.get(end..=end) else { continue };
        let key_start = word_end - len;
        let quote = key_start.checked_sub(1).filter(|i| quoted && payload.get(*i) == Some(&b'"'));
        let open = payload.get(quote.unwrap_or(key_start)..open_end).unwrap_or(&[]);
        all.push(Candidate {
            place: Locate { at: 0, skip: Box::default(), find: Find::Between(open.into(), close.into()) },
            range: open_end..open_end + end,
            label: lower(key),
        });
    }
}

/// Fields between semicolons, bars or blanks.
fn fields(payload: &[u8], all: &mut Vec<Candidate>) {
    for run in runs(payload, 5) {
        let run = behind_count(payload, run);
        let text = payload.get(run.clone()).unwrap_or(&[]);
        if text.contains(&b'\\') {
            continue;
        }
        for (separator, least) in [(b';', 3), (b'|', 2), (b',', 3), (b' ', 2)] {
            if text.iter().filter(|c| **c == separator).count() < least {
                continue;
            }
            let mut from = run.start;
            for (number, field) in (0u8..64).zip(text.split(|c| *c == separator)) {
                let place = Locate {
                    at: short(run.start),
                    skip: Box::default(),
                    find: Find::Field(number, separator),
                };
                all.push(Candidate { place, range: from..from + field.len(), label: String::new() });
                from += field.len() + 1;
            }
            break;
        }
    }
}

/// A printable byte in front of a text may be its length (of one or two bytes).
fn behind_count(payload: &[u8], run: Range<usize>) -> Range<usize> {
    let rest = payload.len() - run.start;
    let is_count = |at: usize, len: usize| payload.get(at).is_some_and(|c| usize::from(*c) == len);
    if is_count(run.start, rest.saturating_sub(1)) || is_count(run.start, run.len().saturating_sub(1)) {
        run.start + 1..run.end
    } else {
        run
    }
}

/// A text with its length in front.
fn counted(payload: &[u8], all: &mut Vec<Candidate>) {
    let mut steps: Vec<Step> = Vec::new();
    let mut base: Option<usize> = None;
    let mut at = 0;
    while at < payload.len() && steps.len() < MOST_STEPS {
        let len = payload.get(at).map_or(0, |c| usize::from(*c));
        let text = payload.get(at + 1..at + 1 + len).unwrap_or(&[]);
        let next_is_text = payload.get(at + 1 + len).is_some_and(|c| is_text(*c));
        let good =
            (2..0x80).contains(&len) && !text.is_empty() && text.iter().all(|c| is_text(*c)) && !next_is_text;
        if !good {
            at += 1;
            continue;
        }
        let start = *base.get_or_insert(at);
        let reached = steps.iter().try_fold(start, |at, step| step_over(payload, at, *step));
        if let Some(gap) = reached.and_then(|r| at.checked_sub(r)).filter(|gap| *gap > 0) {
            steps.push(Step::Bytes(short(gap)));
        }
        all.push(Candidate {
            place: Locate { at: short(start), skip: steps.clone().into(), find: Find::Counted },
            range: at + 1..at + 1 + len,
            label: String::new(),
        });
        steps.push(Step::Counted);
        at += 1 + len;
    }
}

fn step_over(payload: &[u8], at: usize, step: Step) -> Option<usize> {
    Locate { at: short(at), skip: [step].into(), find: Find::Nul }.start(payload)
}

/// Texts that end with a NUL, or with the packet.
fn terminated(payload: &[u8], all: &mut Vec<Candidate>) {
    let ends = |run: &Range<usize>| payload.get(run.end).is_none_or(|c| *c == 0);
    let Some(first) = runs(payload, 2).into_iter().find(ends) else { return };
    let (base, mut steps) = behind_varint(payload, first.start);
    let mut at = first.start;
    while at < payload.len() && steps.len() < MOST_STEPS {
        let rest = payload.get(at..).unwrap_or(&[]);
        let text = rest.iter().take_while(|c| is_text(**c) || **c >= 0x80).count();
        let closed = rest.get(text).is_none_or(|c| *c == 0);
        let readable = rest.get(..text).is_some_and(|t| std::str::from_utf8(t).is_ok());
        if text > 0 && closed && readable {
            all.push(Candidate {
                place: Locate { at: short(base), skip: steps.clone().into(), find: Find::Nul },
                range: at..at + text,
                label: String::new(),
            });
            steps.push(Step::Nul);
            at += text + 1;
            continue;
        }
        let more = runs(rest, 2).into_iter().find(|run| rest.get(run.end).is_none_or(|c| *c == 0));
        let Some(gap) = more.map(|run| run.start).filter(|gap| *gap > 0) else { break };
        steps.push(Step::Bytes(short(gap)));
        at += gap;
    }
}

/// Numbers of seven bits a byte in front of a text have no fixed length, so they are stepped over as such.
fn behind_varint(payload: &[u8], text: usize) -> (usize, Vec<Step>) {
    let before = payload.get(..text).unwrap_or(&[]);
    let high = before.iter().rev().skip(1).take(4).take_while(|c| **c >= 0x80).count();
    let ends = before.last().is_some_and(|c| *c < 0x80);
    if ends && high >= 3 { (text - high - 1, vec![Step::Varint]) } else { (text, Vec::new()) }
}

/// A place as a profile writes it inside braces.
pub(super) fn written(place: &Locate) -> String {
    keys_of(place).join(", ")
}

/// A place as a profile writes it in a table of its own, a key a line.
pub(super) fn written_below(place: &Locate) -> String {
    keys_of(place).join("\n")
}

fn keys_of(place: &Locate) -> Vec<String> {
    let mut out = Vec::new();
    let has_way = !matches!(place.find, Find::Nul | Find::Counted | Find::Counted32 | Find::Wide);
    if place.at > 0 || !has_way {
        out.push(format!("at = {}", place.at));
    }
    if !place.skip.is_empty() {
        let steps: Vec<String> = place
            .skip
            .iter()
            .map(|step| match step {
                Step::Bytes(n) => n.to_string(),
                Step::Nul => "\"nul\"".to_owned(),
                Step::Counted => "\"counted\"".to_owned(),
                Step::Counted32 => "\"counted32\"".to_owned(),
                Step::Varint => "\"varint\"".to_owned(),
            })
            .collect();
        out.push(format!("skip = [{}]", steps.join(", ")));
    }
    match &place.find {
        Find::Nul => {}
        Find::Wide => out.push("string = \"wide\"".to_owned()),
        Find::Counted => out.push("string = \"counted\"".to_owned()),
        Find::Counted32 => out.push("string = \"counted32\"".to_owned()),
        Find::Between(open, close) => {
            out.push(format!("between = [{}, {}]", quoted_bytes(open), quoted_bytes(close)));
        }
        Find::Key(key, _) => out.push(format!("key = {}", quoted_bytes(key))),
        Find::Field(number, separator) => {
            out.push(format!("field = {number}"));
            if *separator != b';' {
                out.push(format!("separator = {}", quoted_bytes(&[*separator])));
            }
        }
    }
    out
}

fn quoted_bytes(bytes: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(bytes))
}

/// Text as TOML writes it between double quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn lower(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_lowercase()
}

fn short(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// Candidates of one payload.
const MOST: usize = 256;
/// Texts, markers or signs of a payload that are looked at.
const MOST_RUNS: usize = 64;
/// Steps of one `skip` in a profile.
const MOST_STEPS: usize = 14;
