//! Writes the samples: a few packets of each kind with what the profile makes of them, and some that are no discovery.
//!
//! What a packet *is* comes from how it was used, not from the profile; so a profile that takes it for something else fails.

use super::Wish;
use super::draft::preview;
use super::roles::{Group, Roles};
use super::traffic::Datagram;
use crate::model::addr::Seat;
use crate::rules::ruleset::{RewriteTo, RuleKind, Ruleset, Side, Transport};
use crate::wire::frame::Class;
use crate::wire::packet::{PacketView, write_udp};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The sender that `rewritten` lines are for (games/README.md).
pub(super) const SENDER: RewriteTo = RewriteTo {
    seat: Seat(9),
    v4: Ipv4Addr::new(10, 83, 7, 9),
    v6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9),
    port: None,
};

/// Writes them.
pub(super) fn write(roles: &Roles<'_>, rules: &Ruleset, wish: &Wish) -> String {
    let mut out = String::new();
    let file: String = wish.file.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(
        out,
        "# Packets of {file}. What each is comes from how it was used; change nothing, add your own.\n"
    );
    let has_v4 = roles.groups.iter().any(|g| g.members.iter().any(|d| d.from.is_ipv4()));
    let mut number = 0;
    for group in &roles.groups {
        for packet in chosen(group, has_v4) {
            number += 1;
            let expect = (!has_v4 || packet.from.is_ipv4()).then_some(group.kind);
            sample(&mut out, &format!("{number}: {}", preview(&packet.payload)), packet, expect, rules);
        }
    }
    let mut seen = BTreeSet::new();
    for packet in roles.play.iter().filter(|d| seen.insert((d.from, d.to))).take(MOST_PLAY) {
        number += 1;
        sample(&mut out, &format!("{number}: no discovery"), packet, None, rules);
    }
    out
}

/// The first packet to each port, the first with other bytes, and one over IPv6 to show that it stays out.
fn chosen<'t>(group: &Group<'t>, has_v4: bool) -> Vec<&'t Datagram> {
    let mut out: Vec<&Datagram> = Vec::new();
    let v4 = || group.members.iter().copied().filter(move |d| !has_v4 || d.from.is_ipv4());
    let mut ports = BTreeSet::new();
    out.extend(v4().filter(|d| d.class != Class::Unicast && ports.insert(d.to.port())).take(MOST_EACH));
    let mut payloads: BTreeSet<&[u8]> = out.iter().map(|d| d.payload.as_slice()).collect();
    out.extend(v4().filter(|d| payloads.insert(&d.payload)).take(2));
    out.extend(
        group
            .members
            .iter()
            .copied()
            .filter(|d| has_v4 && d.from.is_ipv6() && d.class != Class::Unicast)
            .take(1),
    );
    out
}

/// The packet as IP.
pub(super) fn packet_of(datagram: &Datagram) -> Option<Vec<u8>> {
    let mut room = vec![0; 48 + datagram.payload.len()];
    let len = write_udp(&mut room, datagram.from, datagram.to, datagram.ttl, &datagram.payload)?;
    room.truncate(len);
    Some(room)
}

fn sample(out: &mut String, name: &str, datagram: &Datagram, expect: Option<RuleKind>, rules: &Ruleset) {
    let Some(packet) = packet_of(datagram) else { return };
    let Ok(view) = PacketView::parse(&packet) else { return };
    let class = match datagram.class {
        Class::Unicast => "unicast",
        Class::Limited => "limited",
        Class::Directed => "directed",
        Class::Multicast => "multicast",
    };
    let kind = match expect {
        Some(kind) => kind.as_str(),
        None => "nothing",
    };
    let _ = write!(
        out,
        "[{name}]\norigin: captured\nclass: {class}\nfrom: {}\nto: {}\nttl: {}\nhex: {}\nexpect: {kind}\n",
        datagram.from,
        datagram.to,
        datagram.ttl,
        hex(&datagram.payload),
    );
    if let Some(rule) = expect.and_then(|_| rules.classify(&view, datagram.class, Side::FromPeer)) {
        if let Some(told) = rules.describe(rule, &view) {
            let texts = [("title", told.title), ("map", told.map), ("version", told.version)];
            for (key, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
                let _ = writeln!(out, "{key}: {text}");
            }
            let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
            match (number(told.players), number(told.most_players)) {
                (now, most) if now.is_empty() && most.is_empty() => {}
                (now, most) if most.is_empty() => out.extend(["players: ", &now, "\n"]),
                (now, most) => out.extend(["players: ", &now, "/", &most, "\n"]),
            }
            let transport = if told.transport == Transport::Tcp { "tcp" } else { "udp" };
            let _ = writeln!(out, "join: {transport} {}", told.port);
        }
        let mut room = [&packet[..], &[0; 64]].concat();
        let rewritten = rules.rewrite(rule, &mut room, packet.len(), &SENDER);
        let after =
            rewritten.and_then(|len| PacketView::parse(room.get(..len)?).ok().map(|v| v.payload().to_vec()));
        match after {
            None => out.push_str("rewritten: none\n"),
            Some(payload) if payload != datagram.payload => {
                let _ = writeln!(out, "rewritten: {}", hex(&payload));
            }
            Some(_) => {}
        }
    }
    out.push('\n');
}

/// Bytes in lines of sixteen; many zeros at the end are counted.
fn hex(payload: &[u8]) -> String {
    let zeros = payload.iter().rev().take_while(|b| **b == 0).count();
    let zeros = if zeros < 8 { 0 } else { zeros };
    let body = payload.get(..payload.len() - zeros).unwrap_or(payload);
    let mut lines: Vec<String> =
        body.chunks(16).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>()).collect();
    if zeros > 0 {
        lines.push(format!("00*{zeros}"));
    }
    lines.join("\n     ")
}

/// Samples of one kind to different ports.
const MOST_EACH: usize = 3;
/// Samples of the game itself.
const MOST_PLAY: usize = 3;
