//! Holds a profile against packets: samples, one by one, and a whole capture, counted.

use super::roles::Roles;
use super::samples::{SENDER, packet_of};
use super::traffic::Datagram;
use crate::rules::ruleset::{RuleIx, RuleKind, Ruleset, Side};
use crate::rules::sample::{Rewritten, Sample};
use crate::wire::packet::PacketView;

/// How a profile does on the capture it was learned from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Discovery packets that it takes for what they are.
    pub right: usize,
    /// Discovery packets that it misses or takes for something else.
    pub wrong: usize,
    /// Packets of the game itself that it rightly leaves alone.
    pub left_alone: usize,
    /// Packets of the game itself that it takes for discovery.
    pub mistaken: usize,
}

/// Asks the rules about every packet that has a role. IPv6 is not asked about where the profile leaves it out.
pub(super) fn over(roles: &Roles<'_>, rules: &Ruleset) -> Proof {
    let mut proof = Proof::default();
    let has_v4 = roles.groups.iter().any(|g| g.members.iter().any(|d| d.from.is_ipv4()));
    let kind = |d: &Datagram| {
        let packet = packet_of(d)?;
        let view = PacketView::parse(&packet).ok()?;
        rules.facts(rules.classify(&view, d.class, Side::FromPeer)?).map(|facts| facts.kind)
    };
    for (wanted, packet) in roles.groups.iter().flat_map(|g| g.members.iter().map(move |d| (g.kind, *d))) {
        if has_v4 && packet.from.is_ipv6() {
            continue;
        }
        if kind(packet) == Some(wanted) {
            proof.right += 1;
        } else {
            proof.wrong += 1;
        }
    }
    for packet in &roles.play {
        if kind(packet).is_none() {
            proof.left_alone += 1;
        } else {
            proof.mistaken += 1;
        }
    }
    proof
}

/// Asks the rules about samples; what they do not make of them as the samples say, each in a line.
#[must_use]
pub fn prove(rules: &Ruleset, samples: &[Sample]) -> Vec<String> {
    samples.iter().flat_map(|sample| of_sample(rules, sample)).collect()
}

fn of_sample(rules: &Ruleset, sample: &Sample) -> Vec<String> {
    let place = format!("{} [{}]", sample.place, sample.name);
    let Some(packet) = sample.packet() else { return vec![format!("{place}: no packet")] };
    let Ok(view) = PacketView::parse(&packet) else { return vec![format!("{place}: no packet")] };
    let mut wrong = Vec::new();
    for side in [Side::FromGame, Side::FromPeer] {
        let wanted = sample.expect.filter(|_| sample.side.is_none_or(|only| only == side));
        let rule = rules.classify(&view, sample.class, side);
        let kind = rule.and_then(|rule| rules.facts(rule)).map(|facts| facts.kind);
        if kind != wanted {
            wrong.push(format!("{place}: is {}, not {}", named(wanted), named(kind)));
        } else if let Some(rule) = rule {
            wrong.extend(said(rules, rule, &view, sample).map(|what| format!("{place}: {what}")));
        }
    }
    wrong.dedup();
    wrong
}

fn said(rules: &Ruleset, rule: RuleIx, view: &PacketView<'_>, sample: &Sample) -> Option<String> {
    let told = rules.describe(rule, view);
    let join = told.as_ref().map(|t| (t.transport, t.port));
    if join != sample.join {
        return Some(format!("is joined at {:?}, not {join:?}", sample.join));
    }
    let told = told.unwrap_or_default();
    if told.title != sample.title {
        return Some(format!("is called `{}`, not `{}`", sample.title, told.title));
    }
    let (said, wanted) = ((told.players, told.most_players), sample.players);
    if (&told.map, &told.version, said) != (&sample.map, &sample.version, wanted) {
        return Some("map, version or players are not as the sample says".to_owned());
    }
    let mut room = [view.bytes, &[0; 64]].concat();
    let len = rules.rewrite(rule, &mut room, view.bytes.len(), &SENDER);
    let after = len.and_then(|len| PacketView::parse(room.get(..len)?).ok());
    let same = match (&sample.rewritten, after.map(|v| v.payload())) {
        (Rewritten::Refused, None) => true,
        (Rewritten::Same, Some(payload)) => payload == sample.payload,
        (Rewritten::To(wanted), Some(payload)) => payload == wanted,
        (Rewritten::Same | Rewritten::To(_), None) | (Rewritten::Refused, Some(_)) => false,
    };
    (!same).then(|| "is not rewritten as the sample says".to_owned())
}

const fn named(kind: Option<RuleKind>) -> &'static str {
    match kind {
        Some(RuleKind::Announcement) => "an announcement",
        Some(RuleKind::Query) => "a query",
        Some(RuleKind::Answer) => "an answer",
        Some(RuleKind::Closing) => "a closing",
        None => "nothing",
    }
}
