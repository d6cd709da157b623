//! What a running node says of itself: its party, its relays, and the way to each of the others. Read forgivingly, because the
//! node may be of another version.

use crate::model::checkup::{Finding, Mark, Section};
use crate::model::status::{Mode, NatStatus, Trouble};
use serde::Deserialize;
use serde_json::Value;
use std::net::Ipv4Addr;

/// What is read of a status.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Running {
    pub(super) party: String,
    pub(super) address: Option<Ipv4Addr>,
    mode: String,
    pub(super) nat: NatStatus,
    control: Vec<Link>,
    relays: Vec<Relay>,
    warnings: Vec<Trouble>,
    peers: Vec<Peer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Link {
    control: String,
    state: String,
    why: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Relay {
    address: String,
    by: String,
    relayed: Option<String>,
    rtt_ms: Option<f64>,
    why: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Peer {
    peer: String,
    name: String,
    state: String,
    path: Option<Path>,
    advice: Vec<Trouble>,
    ways: Vec<Way>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Path {
    kind: String,
    remote: String,
    rtt_ms: f64,
    loss: f64,
    since: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Way {
    state: String,
    through: Option<String>,
}

impl Running {
    /// Reads the object that `status --json` prints.
    pub(super) fn read(status: &Value) -> Option<Self> {
        Self::deserialize(status).ok()
    }

    /// How its packets get in and out; an older node has a device.
    pub(super) fn mode(&self) -> Mode {
        if self.mode == "proxy" { Mode::Proxy } else { Mode::Lan }
    }

    pub(super) fn controls(&self) -> Vec<String> {
        self.control.iter().map(|l| l.control.clone()).collect()
    }

    /// Relays that this node uses now.
    pub(super) fn has_relay(&self) -> bool {
        self.relays.iter().any(|r| r.relayed.is_some())
    }

    /// The findings.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut out: Vec<Finding> = self.control.iter().map(link).collect();
        out.extend(self.relays.iter().filter(|r| r.relayed.is_some() || !self.has_relay()).map(relay));
        // What the router's own findings tell with more proof is not told twice.
        let elsewhere = ["udp_blocked_here", "router_symmetric", "second_router"];
        let told = self.warnings.iter().filter(|w| !elsewhere.contains(&w.code.as_str()));
        out.extend(
            told.map(|w| Finding::new(Section::Party, Mark::Note, &w.code, &w.message).with_try(&w.hint)),
        );
        if self.peers.is_empty() {
            out.push(
                Finding::new(Section::Peers, Mark::Ok, "alone", "nobody else is here yet")
                    .with_try("lanrage invite prints the invite for your friends"),
            );
        }
        out.extend(self.peers.iter().map(peer));
        out
    }
}

fn link(link: &Link) -> Finding {
    let control = &link.control;
    let say = |mark, code, found: String| Finding::new(Section::Party, mark, code, found);
    match link.state.as_str() {
        "online" => say(Mark::Ok, "control_online", format!("{control} is connected")),
        "connecting" => say(Mark::Note, "control_connecting", format!("{control} is being connected")),
        _ => {
            let why = link.why.as_deref().map_or(String::new(), |w| format!(": {w}"));
            say(Mark::Problem, "control_offline", format!("{control} is not connected{why}"))
                .with_try("the party goes on without it, but nobody new can join there; check the server and this PC's connection")
        }
    }
}

fn relay(relay: &Relay) -> Finding {
    let name = format!("{} by {}", relay.address, relay.by.to_uppercase());
    match (&relay.relayed, relay.rtt_ms) {
        (Some(_), Some(rtt)) => Finding::new(
            Section::Party,
            Mark::Ok,
            "relay_up",
            format!("the relay {name} is ready, {rtt:.0} ms away"),
        ),
        (Some(_), None) => {
            Finding::new(Section::Party, Mark::Ok, "relay_up", format!("the relay {name} is ready"))
        }
        (None, _) => {
            let why = relay.why.as_deref().unwrap_or("no answer yet");
            Finding::new(
                Section::Party,
                Mark::Note,
                "relay_not_up",
                format!("the relay {name} cannot be used: {why}"),
            )
        }
    }
}

fn peer(peer: &Peer) -> Finding {
    let name = &peer.name;
    let (mark, code, found) = match &peer.path {
        Some(path) => {
            let (mark, code, how) = match path.kind.as_str() {
                "lan" => (Mark::Ok, "path_lan", "over your own network".to_owned()),
                "direct" => (Mark::Ok, "path_direct", format!("directly ({})", path.remote)),
                _ => {
                    let through =
                        peer.ways.iter().find(|w| w.state == "in use").and_then(|w| w.through.as_deref());
                    let how = match through {
                        Some(player) if player.starts_with("player ") => format!("through {player}"),
                        Some(relay) if !relay.starts_with("the other") => {
                            format!("through the relay {}", named(relay))
                        }
                        Some(_) | None => format!("through a relay ({})", path.remote),
                    };
                    (Mark::Note, "path_relay", how)
                }
            };
            let lossy = peer.advice.iter().any(|a| a.code == "lossy");
            let mark = if lossy && path.loss >= 0.2 {
                Mark::Problem
            } else if lossy {
                Mark::Note
            } else {
                mark
            };
            let loss =
                if path.loss >= 0.005 { format!(", {:.0} % lost", path.loss * 100.0) } else { String::new() };
            (mark, code, format!("{name}: {how}, {:.0} ms{loss}, for {}", path.rtt_ms, ago(path.since)))
        }
        None if peer.state == "away" => (Mark::Note, "peer_away", format!("{name}: away; the place is kept")),
        None => {
            let arriving = peer.advice.iter().any(|a| a.code == "searching" || a.code == "punching");
            let mark = if arriving { Mark::Note } else { Mark::Problem };
            (mark, "no_path", format!("{name}: no way works yet"))
        }
    };
    let mut finding = Finding::new(Section::Peers, mark, code, found);
    finding.peer = Some(peer.peer.clone());
    finding.advice.clone_from(&peer.advice);
    finding
}

/// `udp 192.0.2.1:3478`, as people say it.
fn named(relay: &str) -> String {
    match relay.split_once(' ') {
        Some((by, address)) => format!("{address} by {}", by.to_uppercase()),
        None => relay.to_owned(),
    }
}

/// A time as people say it.
fn ago(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 5400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings(status: &Value) -> Vec<Finding> {
        Running::read(status).unwrap().findings()
    }

    fn codes(list: &[Finding]) -> Vec<(&str, Mark)> {
        list.iter().map(|f| (f.code.as_str(), f.mark)).collect()
    }

    #[test]
    fn each_pair_is_told_with_its_path_and_its_reasons() {
        let reason = json!({"code": "both_symmetric", "message": "m", "hint": "h"});
        let list = findings(&json!({
            "party": "p", "address": "10.1.2.3",
            "control": [{"control": "direct", "state": "online"}, {"control": "server:http://h", "state": "offline", "why": "refused"}],
            "relays": [{"address": "192.0.2.1:3478", "by": "udp", "relayed": "192.0.2.1:5", "rtt_ms": 20.0},
                       {"address": "192.0.2.1:443", "by": "tls"}],
            "warnings": [{"code": "router_symmetric", "message": "told by the router", "hint": ""}],
            "peers": [
                {"peer": "b", "name": "Bob", "state": "here", "advice": [reason],
                 "path": {"kind": "relay", "remote": "192.0.2.1:9", "rtt_ms": 61.4, "loss": 0.0, "since": 180.0},
                 "ways": [{"state": "in use", "through": "udp 192.0.2.1:3478"}]},
                {"peer": "c", "name": "Eve", "state": "here", "path": {"kind": "lan", "rtt_ms": 0.4, "since": 5.0}},
                {"peer": "d", "name": "Dan", "state": "connecting", "path": null, "advice": [{"code": "no_answer", "message": "m", "hint": "h"}]},
                {"peer": "e", "name": "Ann", "state": "connecting", "path": null, "advice": [{"code": "searching", "message": "m", "hint": "h"}]},
                {"peer": "f", "name": "Joe", "state": "away", "path": null},
            ]
        }));
        assert_eq!(
            codes(&list),
            [
                ("control_online", Mark::Ok),
                ("control_offline", Mark::Problem),
                ("relay_up", Mark::Ok),
                ("path_relay", Mark::Note),
                ("path_lan", Mark::Ok),
                ("no_path", Mark::Problem),
                ("no_path", Mark::Note),
                ("peer_away", Mark::Note),
            ]
        );
        assert_eq!(list[3].found, "Bob: through the relay 192.0.2.1:3478 by UDP, 61 ms, for 3 min");
        assert_eq!((list[3].peer.as_deref(), list[3].advice[0].code.as_str()), (Some("b"), "both_symmetric"));
    }

    #[test]
    fn a_status_of_another_version_is_read_as_far_as_it_goes() {
        assert_eq!(codes(&findings(&json!({}))), [("alone", Mark::Ok)]);
        assert_eq!(
            codes(&findings(&json!({"nat": {"type": "open"}, "peers": [{}], "new": 1})))[0].0,
            "no_path"
        );
        assert!(Running::read(&json!([1])).is_none());
    }
}
