//! What people are shown when they ask: how everything is, and why it is no better.

use super::Node;
use crate::engine::link::LinkState;
use crate::engine::path::action::Report;
use crate::engine::path::advice::{self, End, Pair, Router, Search};
use crate::engine::path::pair::Pair as WayUnderTest;
use crate::engine::path::route::Route;
use crate::engine::roster::Member;
use crate::engine::tunnel::peer::Peer;
use crate::engine::tunnel::session::Session;
use crate::model::addr::{Candidate, CandidateKind};
use crate::model::relay::RelayWay;
use crate::model::status::{
    LinkStatus, Mode, PathKind, PathStatus, PeerStatus, RelayStatus, Status, Trouble, WayStatus,
};
use crate::model::time::{Mono, Now};
use std::time::Duration;

/// Ways to one peer that are shown, the best first.
const WAYS: usize = 24;

/// What all peers' advice has in common.
struct Common {
    candidates: Vec<Candidate>,
    router: Router,
    relays: Vec<super::relays::RelayState>,
}

impl Common {
    fn relays(&self) -> advice::Relays<'_> {
        advice::Relays {
            known: self.relays.len(),
            up: self.relays.iter().filter(|r| r.relayed.is_some()).count(),
            why: self.relays.iter().find_map(|r| r.why.as_deref()),
        }
    }

    fn way_of(&self, slot: crate::engine::path::route::RelaySlot) -> Option<&RelayWay> {
        self.relays.iter().find(|r| r.slot == slot).map(|r| &r.way)
    }
}

impl<S: Session> Node<S> {
    pub(super) fn report(&self, now: Now) -> Status {
        let common = self.common();
        let mine = End { nat: self.nat.v4(), candidates: &common.candidates };
        Status {
            party: self.party.id,
            peer: self.me.id,
            name: self.me.name.clone(),
            address: self.addresses().0,
            mode: Mode::Lan,
            nat: self.nat.status(),
            playing: self.lan.rules.profiles().to_vec(),
            control: self
                .links
                .iter()
                .map(|(link, control)| link_status(link.state(), control))
                .chain(self.direct_status())
                .collect(),
            peers: self.peer_statuses(&common, now.mono),
            games: self.game_statuses(now.mono),
            relays: common.relays.iter().map(relay_status).collect(),
            // The host knows them.
            plugins: Vec::new(),
            warnings: advice::warn(mine, common.router, common.relays()),
            counters: self.counters.by_name(),
        }
    }

    fn common(&self) -> Common {
        Common {
            candidates: self.candidates(),
            router: Router::of(self.nat.lease_report()),
            relays: self.relays.states(),
        }
    }

    fn peer_statuses(&self, common: &Common, now: Mono) -> Vec<PeerStatus> {
        let shown = self.peers.list.iter().filter(|p| p.is_shown());
        shown
            .filter_map(|peer| {
                let member = self.party.roster.get(peer.id)?;
                let advice = self.advice(peer, member, common, now);
                let path = peer.agent.report().map(|r| PathStatus {
                    kind: r.kind,
                    remote: r.remote(),
                    rtt_ms: milliseconds(r.rtt),
                    loss: f64::from(r.loss) / 1000.0,
                    since: seconds(now.since(r.since)),
                    mtu: peer.mtu.inner(),
                    why: why(&r, &advice),
                });
                Some(PeerStatus {
                    peer: peer.id,
                    name: member.record.name.clone(),
                    address: self.party.subnet.v4(member.record.seat),
                    state: peer.presence.word().to_owned(),
                    playing: member.record.games.clone(),
                    path,
                    nat: peer.nat.word().to_owned(),
                    ways: self.ways(peer, member, common, now),
                    advice,
                })
            })
            .collect()
    }

    fn advice(&self, peer: &Peer<S>, member: &Member, common: &Common, now: Mono) -> Vec<Trouble> {
        let report = peer.agent.report();
        let since =
            report.as_ref().map_or_else(|| peer.agent.last_heard().unwrap_or(peer.since), |r| r.since);
        let (attempts, punching) = peer.punch.attempts();
        let straight = || peer.agent.pairs().filter(|p| p.kind != PathKind::Relay);
        let search = Search {
            path: report.as_ref().map(|r| r.kind),
            by_friend: matches!(report.as_ref().map(|r| r.route), Some(Route::Friend(_))),
            age: now.since(since),
            addresses: straight().count(),
            asking: straight().any(|p| p.proven.is_none() && !p.rests()),
            attempts,
            punching,
            probes: peer.punch.probes(),
            loss: report.map_or(0, |r| r.loss),
        };
        advice::advise(&Pair {
            name: &member.record.name,
            mine: End { nat: self.nat.v4(), candidates: &common.candidates },
            theirs: End { nat: &peer.nat, candidates: &member.record.candidates },
            router: common.router,
            relays: common.relays(),
            search,
        })
    }

    /// Why a path was taken, for the event.
    pub(super) fn why_this_path(&self, at: usize, report: &Report, now: Now) -> String {
        let peer = self.peers.list.get(at).filter(|_| report.kind == PathKind::Relay);
        let member = peer.and_then(|p| Some((p, self.party.roster.get(p.id)?)));
        let advice = member.map(|(peer, member)| self.advice(peer, member, &self.common(), now.mono));
        why(report, &advice.unwrap_or_default())
    }

    fn ways(&self, peer: &Peer<S>, member: &Member, common: &Common, now: Mono) -> Vec<WayStatus> {
        let primary = peer.agent.primary();
        let mut pairs: Vec<&WayUnderTest> = peer.agent.pairs().collect();
        pairs.sort_by_key(|p| {
            (Some(p.route) != primary, p.proven.is_none(), p.heard.is_none(), p.kind, p.rtt, p.route)
        });
        let way = |pair: &WayUnderTest| {
            let remote = pair.route.remote();
            let named = member.record.candidates.iter().find(|c| Some(c.addr) == remote);
            WayStatus {
                kind: pair.kind,
                remote,
                through: self.through(pair, named, common),
                source: source_word(named).to_owned(),
                state: state_word(pair, primary).to_owned(),
                rtt_ms: pair.proven.map(|_| milliseconds(pair.rtt)),
                loss: f64::from(pair.loss) / 1000.0,
                proven: pair.proven.map(|at| seconds(now.since(at))),
                heard: pair.heard.map(|at| seconds(now.since(at))),
            }
        };
        pairs.into_iter().take(WAYS).map(way).collect()
    }

    fn through(&self, pair: &WayUnderTest, named: Option<&Candidate>, common: &Common) -> Option<String> {
        match pair.route {
            Route::Relayed { relay, .. } => {
                let way = common.way_of(relay)?;
                Some(format!("{} {}", by_word(way), way.addr()))
            }
            Route::Friend(seat) => Some(format!("player {}", self.party.subnet.v4(seat))),
            Route::Straight(_) => {
                let relay = named.is_some_and(|c| c.kind == CandidateKind::Relay);
                relay.then(|| "the other's relay".to_owned())
            }
        }
    }
}

/// The agent's reason, and where a relay is in between, what keeps the two apart, as far as it is known already.
fn why(report: &Report, advice: &[Trouble]) -> String {
    let relayed = report.kind == PathKind::Relay;
    match advice.first().filter(|reason| relayed && !advice::is_under_way(&reason.code)) {
        Some(reason) => format!("{}: {}", report.why, reason.message),
        None => report.why.clone(),
    }
}

fn relay_status(state: &super::relays::RelayState) -> RelayStatus {
    RelayStatus {
        address: state.way.addr(),
        by: by_word(&state.way).to_owned(),
        relayed: state.relayed,
        rtt_ms: state.rtt.map(milliseconds),
        why: state.why.clone(),
    }
}

const fn by_word(way: &RelayWay) -> &'static str {
    match way {
        RelayWay::Udp { .. } => "udp",
        RelayWay::Tcp { .. } => "tcp",
        RelayWay::Tls { .. } => "tls",
    }
}

const fn source_word(named: Option<&Candidate>) -> &'static str {
    let Some(named) = named else { return "heard" };
    match named.kind {
        CandidateKind::Host => "card",
        CandidateKind::Reflexive => "router",
        CandidateKind::Mapped => "port mapping",
        CandidateKind::Relay => "relay",
        CandidateKind::Predicted => "reckoned",
    }
}

fn state_word(pair: &WayUnderTest, primary: Option<Route>) -> &'static str {
    if Some(pair.route) == primary {
        "in use"
    } else if pair.proven.is_some() {
        "works"
    } else if pair.rests() {
        "silent"
    } else {
        "asked"
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// To a tenth: more would be noise in a text.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

fn link_status(state: &LinkState, control: &str) -> LinkStatus {
    let (word, why) = match state {
        LinkState::Connecting => ("connecting", None),
        LinkState::Online => ("online", None),
        LinkState::Offline { why } => ("offline", Some(why.clone())),
    };
    LinkStatus { control: control.to_owned(), state: word.to_owned(), why }
}
