//! Sample packets: what a game really sends, and what its profile must make of it.
//!
//! One `games/<id>.samples` lies beside each profile; `games/README.md` describes the format and how to make one from a
//! capture. Blocks of `name: value` lines under a `[title]`; a line that starts with a space goes on with the line above.

use super::diagnostic::{Diagnostic, Place, Source};
use super::pattern::Pattern;
use super::ruleset::{RuleKind, Side, Transport};
use crate::wire::frame::Class;
use crate::wire::packet::write_udp;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// A packet and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What people call it.
    pub name: String,
    /// Whether it was captured; else it was made by hand.
    pub captured: bool,
    /// Which way it goes; `None` is both.
    pub side: Option<Side>,
    /// How it is addressed.
    pub class: Class,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// Its time to live.
    pub ttl: u8,
    /// What it carries.
    pub payload: Vec<u8>,
    /// What it is; `None` is nothing that a profile knows.
    pub expect: Option<RuleKind>,
    /// The title it gives.
    pub title: String,
    /// The map it gives.
    pub map: String,
    /// The version it gives.
    pub version: String,
    /// Who plays and how many can, as it says.
    pub players: (Option<u32>, Option<u32>),
    /// Where it says to join.
    pub join: Option<(Transport, u16)>,
    /// What it carries after `rewrite`.
    pub rewritten: Rewritten,
    /// Where the file says so.
    pub place: Place,
}

/// What rewriting makes of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewritten {
    /// It stays as it is.
    Same,
    /// It becomes this.
    To(Vec<u8>),
    /// It must not be sent on.
    Refused,
}

impl Sample {
    /// The whole IP packet.
    #[must_use]
    pub fn packet(&self) -> Option<Vec<u8>> {
        let mut room = vec![0; 48 + self.payload.len()];
        let len = write_udp(&mut room, self.from, self.to, self.ttl, &self.payload)?;
        room.truncate(len);
        Some(room)
    }
}

/// Reads a file of samples.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(file_name: &str, text: &str) -> Result<Vec<Sample>, Diagnostic> {
    let source = Arc::new(Source { name: file_name.to_owned(), text: text.to_owned() });
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let span = at..at + line.trim_end().len();
        at += line.len();
        let wrong = |message: &str| diagnostic(&source, span.clone(), message.to_owned());
        let goes_on = line.starts_with(' ');
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            blocks.push(Block { name, span, entries: Vec::new() });
            continue;
        }
        let block = blocks.last_mut().ok_or_else(|| wrong("a sample starts with its [name]"))?;
        if goes_on {
            let entry = block.entries.last_mut().ok_or_else(|| wrong("nothing to go on with"))?;
            entry.value.push(' ');
            entry.value.push_str(line);
        } else {
            let (key, value) = line.split_once(':').ok_or_else(|| wrong("expected `name: value`"))?;
            block.entries.push(Entry { key: key.trim(), value: value.trim().to_owned(), span });
        }
    }
    blocks.into_iter().map(|block| block.read(&source)).collect()
}

/// The bytes of hexadecimal text, in which `00*12` stands for twelve zeros.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        let (word, times) = word.split_once('*').unwrap_or((word, "1"));
        let piece = Pattern::hex(word).ok()?;
        let (piece, times) = (piece.as_exact()?, times.parse::<usize>().ok()?);
        if out.len() + piece.len().checked_mul(times)? > usize::from(u16::MAX) {
            return None;
        }
        (0..times).for_each(|_| out.extend_from_slice(piece));
    }
    Some(out)
}

struct Entry<'t> {
    key: &'t str,
    value: String,
    span: Range<usize>,
}

struct Block<'t> {
    name: &'t str,
    span: Range<usize>,
    entries: Vec<Entry<'t>>,
}

impl Block<'_> {
    fn read(mut self, source: &Arc<Source>) -> Result<Sample, Diagnostic> {
        let to = self.need(source, "to", |v| v.parse::<SocketAddr>().ok())?;
        let sample = Sample {
            captured: self.need(source, "origin", |v| word(v, &[("captured", true), ("made", false)]))?,
            side: self.maybe(source, "side", |v| word(v, &SIDES))?.flatten(),
            class: self.need(source, "class", |v| word(v, &CLASSES))?,
            from: self.need(source, "from", |v| {
                v.parse().ok().filter(|f: &SocketAddr| f.is_ipv4() == to.is_ipv4())
            })?,
            to,
            ttl: self.need(source, "ttl", |v| v.parse().ok())?,
            payload: self.need(source, "hex", bytes)?,
            expect: self.need(source, "expect", |v| word(v, &KINDS))?,
            title: self.maybe(source, "title", |v| Some(v.to_owned()))?.unwrap_or_default(),
            map: self.maybe(source, "map", |v| Some(v.to_owned()))?.unwrap_or_default(),
            version: self.maybe(source, "version", |v| Some(v.to_owned()))?.unwrap_or_default(),
            players: self.maybe(source, "players", players)?.unwrap_or_default(),
            join: self.maybe(source, "join", join)?.flatten(),
            rewritten: self.maybe(source, "rewritten", rewritten)?.unwrap_or(Rewritten::Same),
            name: self.name.to_owned(),
            place: Place::new(source, self.span.clone()),
        };
        match self.entries.first() {
            Some(entry) => Err(diagnostic(
                source,
                entry.span.clone(),
                format!("unknown or repeated key `{}`", entry.key),
            )),
            None => Ok(sample),
        }
    }

    fn need<T>(
        &mut self,
        source: &Arc<Source>,
        key: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Diagnostic> {
        let missing =
            || diagnostic(source, self.span.clone(), format!("missing key `{key}` in [{}]", self.name));
        let missing = missing();
        self.maybe(source, key, read)?.ok_or(missing)
    }

    fn maybe<T>(
        &mut self,
        source: &Arc<Source>,
        key: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Diagnostic> {
        let Some(at) = self.entries.iter().position(|entry| entry.key == key) else {
            return Ok(None);
        };
        let entry = self.entries.remove(at);
        match read(&entry.value) {
            Some(value) => Ok(Some(value)),
            None => Err(diagnostic(source, entry.span, format!("`{}` is no `{key}`", entry.value))),
        }
    }
}

fn diagnostic(source: &Arc<Source>, span: Range<usize>, message: String) -> Diagnostic {
    Diagnostic { place: Place::new(source, span), message, help: None, also: None }
}

fn word<T: Copy>(value: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning)
}

fn join(value: &str) -> Option<Option<(Transport, u16)>> {
    if value == "none" {
        return Some(None);
    }
    let (transport, port) = value.split_once(' ')?;
    Some(Some((word(transport, &[("tcp", Transport::Tcp), ("udp", Transport::Udp)])?, port.parse().ok()?)))
}

/// `3`, `3/16` or `/16`.
fn players(value: &str) -> Option<(Option<u32>, Option<u32>)> {
    let number = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    let (now, most) = value.split_once('/').unwrap_or((value, ""));
    Some((number(now)?, number(most)?))
}

fn rewritten(value: &str) -> Option<Rewritten> {
    if value == "none" { Some(Rewritten::Refused) } else { bytes(value).map(Rewritten::To) }
}

const SIDES: [(&str, Option<Side>); 3] =
    [("both", None), ("game", Some(Side::FromGame)), ("peer", Some(Side::FromPeer))];
const CLASSES: [(&str, Class); 4] = [
    ("unicast", Class::Unicast),
    ("limited", Class::Limited),
    ("directed", Class::Directed),
    ("multicast", Class::Multicast),
];
const KINDS: [(&str, Option<RuleKind>); 5] = [
    ("announcement", Some(RuleKind::Announcement)),
    ("query", Some(RuleKind::Query)),
    ("answer", Some(RuleKind::Answer)),
    ("closing", Some(RuleKind::Closing)),
    ("nothing", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# comment\n[one]\norigin: made\nclass: limited\nfrom: 10.0.0.1:5\nto: 255.255.255.255:6\n\
                        ttl: 1\nhex: 01 02\n     00*3\nexpect: query\n";

    #[test]
    fn a_sample_is_read_and_becomes_a_packet() {
        let samples = parse("x.samples", GOOD).unwrap();
        let [sample] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!((sample.payload.as_slice(), sample.expect), (&[1, 2, 0, 0, 0][..], Some(RuleKind::Query)));
        assert_eq!(sample.packet().unwrap().len(), 33);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (from, to, told) in [
            ("ttl: 1\n", "", "x.samples:2:1: missing key `ttl` in [one]"),
            ("ttl: 1", "ttl: 1000", "x.samples:7:1: `1000` is no `ttl`"),
            ("ttl: 1", "ttl: 1\nttl: 2", "x.samples:8:1: unknown or repeated key `ttl`"),
            ("ttl: 1", "til: 1\nttl: 1", "x.samples:7:1: unknown or repeated key `til`"),
            ("ttl: 1", "ttl", "x.samples:7:1: expected `name: value`"),
            ("[one]\n", "", "x.samples:2:1: a sample starts with its [name]"),
            ("00*3", "00*99999999999", "x.samples:8:1: `01 02 00*99999999999` is no `hex`"),
            ("ttl: 1", "ttl: 1\nplayers: 3/x", "x.samples:8:1: `3/x` is no `players`"),
            ("10.0.0.1:5", "[fe80::1]:5", "x.samples:5:1: `[fe80::1]:5` is no `from`"),
        ] {
            assert_eq!(parse("x.samples", &GOOD.replace(from, to)).unwrap_err().to_string(), told);
        }
    }
}
