//! A profile drafted from a capture: somebody searches the LAN and joins, and the packets say most of what a profile says.
//!
//! Pure: captures in, texts out. Nothing here is believed later: the draft is a file that people read, with a reason beside
//! every line, and `prove` holds it against the packets it came from. `docs/learning.md` tells how each thing is decided.
//!
//! ```text
//! captures ── traffic ──► roles ──► shape, place, sense ──► draft ──► profile and samples ──► prove
//!             (what)      (who)     (which bytes, where)    (why)
//! ```
//!
//! `pick` and `redact` are for recording: which packets are the game's, and what of them is nobody's business.

mod draft;
mod pick;
mod place;
mod prove;
mod redact;
mod roles;
mod samples;
mod sense;
mod shape;
mod traffic;

use super::capture::Capture;
use super::check::check_text;
use super::compile::compile;
use crate::wire::packet::PacketView;
use std::fmt::Write as _;

pub use pick::{Picker, Timed};
pub use prove::{Proof, prove};
pub use redact::{Redacted, redact};

/// What the person says about the capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The profile's id.
    pub id: String,
    /// The game's name.
    pub name: String,
    /// The name of the capture's file, for the draft's first line.
    pub file: String,
    /// What the game's list called the server; its place is looked for then instead of guessed.
    pub title: Option<String>,
    /// Ports of the game: other packets are not looked at. Empty is all.
    pub ports: Vec<u16>,
}

/// A profile and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The profile's text.
    pub profile: String,
    /// Samples from the same packets.
    pub samples: String,
    /// What was seen.
    pub sure: Vec<String>,
    /// What deserves a look.
    pub guesses: Vec<String>,
    /// What was not looked at, and how many packets.
    pub left_out: Vec<String>,
    /// How the profile does on the packets that it came from.
    pub proof: Proof,
}

/// Why there is no draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NothingLearned {
    /// No packet to many.
    #[error(
        "no packet in the capture goes to everybody or to a group, so nothing shows how the game searches ({0})"
    )]
    NoDiscovery(String),
    /// The draft is no profile: a mistake of ours, told rather than hidden.
    #[error("the draft is no profile: {0}")]
    Broken(String),
}

/// Drafts a profile.
///
/// # Errors
/// When the captures hold no discovery.
pub fn learn(captures: &[Capture], wish: &Wish) -> Result<Draft, NothingLearned> {
    let traffic = traffic::Traffic::read(captures, &wish.ports);
    let left_out: Vec<String> = traffic.left_out.iter().map(|(why, n)| format!("{n}: {why}")).collect();
    if traffic.many.is_empty() {
        return Err(NothingLearned::NoDiscovery(format!(
            "{} frames; left out {}",
            traffic.frames,
            listed(&left_out)
        )));
    }
    let roles = roles::roles(&traffic);
    let written = draft::write(&traffic, &roles, wish);
    let broken = |wrong: Vec<super::diagnostic::Diagnostic>| {
        NothingLearned::Broken(wrong.first().map(ToString::to_string).unwrap_or_default())
    };
    let name = format!("{}.toml", wish.id);
    let profile = check_text(&name, &written.profile).map_err(broken)?;
    let rules = compile(std::slice::from_ref(&profile)).map_err(broken)?;
    let samples = samples::write(&roles, &rules, wish);
    let proof = prove::over(&roles, &rules);
    Ok(Draft {
        profile: written.profile,
        samples,
        sure: written.sure,
        guesses: written.guesses,
        left_out,
        proof,
    })
}

fn listed(all: &[String]) -> String {
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// How packets of a capture are addressed: captures do not say what a broadcast address is.
#[derive(Debug, Clone, Default)]
pub struct Addressing {
    senders: std::collections::BTreeSet<std::net::IpAddr>,
}

impl Addressing {
    /// Learns who speaks.
    #[must_use]
    pub fn of(capture: &Capture) -> Self {
        let all = capture.packets.iter().chain(&capture.openings);
        Self { senders: all.filter_map(|c| Some(PacketView::parse(&c.packet).ok()?.src)).collect() }
    }

    /// How a packet to this address was addressed.
    #[must_use]
    pub fn class(&self, to: std::net::IpAddr) -> crate::wire::frame::Class {
        traffic::class_of(to, &self.senders)
    }
}

/// `27960-27963, 28000` of sorted or unsorted ports, each quoted as TOML needs it.
fn ports_toml(ports: &std::collections::BTreeSet<u16>) -> String {
    let ranges = super::ports::merge(ports.iter().map(|p| *p..=*p).collect());
    let ranges = match (ranges.len() > MOST_RANGES, ranges.first(), ranges.last()) {
        (true, Some(first), Some(last)) => vec![*first.start()..=*last.end()],
        _ => ranges,
    };
    let mut each = ranges.iter().map(|r| {
        if r.start() == r.end() { r.start().to_string() } else { format!("\"{}-{}\"", r.start(), r.end()) }
    });
    let one = each.len() == 1;
    let mut out = String::new();
    let all = each.by_ref().collect::<Vec<_>>().join(", ");
    let _ = if one { write!(out, "{all}") } else { write!(out, "[{all}]") };
    out
}

/// Ranges of one key in a profile.
const MOST_RANGES: usize = 32;
