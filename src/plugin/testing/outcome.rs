//! What became of a packet against what was expected, in the words of a samples file.

use super::journey::{Arrives, Outcome, Says};
use super::shown;
use crate::rules::ruleset::{RuleKind, Transport};
use crate::rules::sample::Rewritten;

/// What a file says is to come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) kind: Option<RuleKind>,
    pub(super) says: Says,
    pub(super) join: Option<(Transport, u16)>,
    pub(super) rewritten: Rewritten,
}

impl Expected {
    /// What came out, as it would stand in a file.
    pub(super) fn of(outcome: &Outcome, payload: &[u8]) -> Self {
        let rewritten = match &outcome.arrives {
            Arrives::Bytes(bytes) if bytes == payload => Rewritten::Same,
            Arrives::Bytes(bytes) => Rewritten::To(bytes.clone()),
            Arrives::Nothing(_) if outcome.kind.is_none() => Rewritten::Same,
            Arrives::Nothing(_) => Rewritten::Refused,
        };
        Self { kind: outcome.kind, says: outcome.says.clone(), join: outcome.join, rewritten }
    }

    /// The lines of a file.
    pub(super) fn entries(&self) -> [(&'static str, Option<String>); 7] {
        let rewritten = match &self.rewritten {
            Rewritten::Same => None,
            Rewritten::Refused => Some("none".into()),
            Rewritten::To(bytes) => Some(shown::hex(bytes)),
        };
        [
            ("expect", Some(kind_word(self.kind).to_owned())),
            ("title", said(&self.says.title)),
            ("map", said(&self.says.map)),
            ("version", said(&self.says.version)),
            ("players", players_word(self.says.players)),
            ("join", self.join.map(|(transport, port)| format!("{} {port}", transport_word(transport)))),
            ("rewritten", rewritten),
        ]
    }

    /// Where the two differ, a sentence each.
    pub(super) fn differences(&self, outcome: &Outcome, payload: &[u8]) -> Vec<String> {
        let got = Self::of(outcome, payload);
        if got.kind != self.kind {
            return vec![match (self.kind, got.kind) {
                (Some(wanted), None) => format!("expected {}, but no rule knows the packet", article(wanted)),
                (Some(wanted), Some(got)) => format!("expected {}, got {}", article(wanted), article(got)),
                (None, Some(got)) => format!("expected nothing, got {}", article(got)),
                (None, None) => String::new(),
            }];
        }
        let mut out = Vec::new();
        let (wanted, says) = (&self.says, &got.says);
        for (what, wanted, got) in [
            ("title", &wanted.title, &says.title),
            ("map", &wanted.map, &says.map),
            ("version", &wanted.version, &says.version),
        ] {
            if wanted != got {
                out.push(format!("expected the {what} \"{wanted}\", got \"{got}\""));
            }
        }
        if wanted.players != says.players {
            let word = |players| players_word(players).unwrap_or_else(|| "none".into());
            let (wanted, got) = (word(wanted.players), word(says.players));
            out.push(format!("expected `players: {wanted}`, got `players: {got}`"));
        }
        if got.join != self.join {
            out.push(format!(
                "expected `join: {}`, got `join: {}`",
                join_word(self.join),
                join_word(got.join)
            ));
        }
        if got.rewritten != self.rewritten {
            out.push(self.bytes_differ(outcome, payload));
        }
        out
    }

    fn bytes_differ(&self, outcome: &Outcome, payload: &[u8]) -> String {
        let wanted = match &self.rewritten {
            Rewritten::Same => Some(payload),
            Rewritten::To(bytes) => Some(bytes.as_slice()),
            Rewritten::Refused => None,
        };
        match (wanted, &outcome.arrives) {
            (None, Arrives::Bytes(got)) => {
                format!("expected that nothing arrives; this does:\n{}", shown::dump(got))
            }
            (Some(_), Arrives::Nothing(why)) => format!("expected that it arrives, but {why}"),
            (Some(wanted), Arrives::Bytes(got)) => {
                format!(
                    "other bytes arrive than expected\n{}",
                    shown::difference("wanted", wanted, "got", got)
                )
            }
            (None, Arrives::Nothing(_)) => String::new(),
        }
    }
}

fn said(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// `3`, `3/16` or `/16`.
fn players_word((now, most): (Option<u32>, Option<u32>)) -> Option<String> {
    match (now, most) {
        (None, None) => None,
        (Some(now), None) => Some(now.to_string()),
        (now, Some(most)) => Some(format!("{}/{most}", now.map_or_else(String::new, |n| n.to_string()))),
    }
}

/// The word of a samples file.
pub(super) const fn kind_word(kind: Option<RuleKind>) -> &'static str {
    match kind {
        Some(RuleKind::Announcement) => "announcement",
        Some(RuleKind::Query) => "query",
        Some(RuleKind::Answer) => "answer",
        Some(RuleKind::Closing) => "closing",
        None => "nothing",
    }
}

const fn article(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Announcement => "an announcement",
        RuleKind::Query => "a query",
        RuleKind::Answer => "an answer",
        RuleKind::Closing => "a closing",
    }
}

const fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn join_word(join: Option<(Transport, u16)>) -> String {
    join.map_or_else(|| "none".into(), |(transport, port)| format!("{} {port}", transport_word(transport)))
}
