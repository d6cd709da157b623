//! Everything that belongs to one peer: its session, its path, what waits for it and what was told about it.

use super::sent::SentRing;
use super::session::{Session, SessionSetup};
use crate::engine::lan::guard::SeqWindow;
use crate::engine::lan::listing::Told;
use crate::engine::lan::pace::Bucket;
use crate::engine::parts::Gather;
use crate::engine::path::agent::Agent;
use crate::engine::path::mtu::PathMtu;
use crate::engine::path::punch::Punch;
use crate::engine::roster::Member;
use crate::model::addr::Seat;
use crate::model::id::PeerId;
use crate::model::key::{PeerKey, TunnelKey};
use crate::model::limits::WAITING;
use crate::model::nat::NatFacts;
use crate::model::time::{Deadline, Mono, Now};
use crate::rules::ruleset::RuleIx;
use std::collections::{BTreeMap, VecDeque};

/// How a peer looks from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Remembered or gone: not shown, answered if it comes.
    Dormant,
    /// Named by a control plane, no answer yet.
    Connecting,
    /// Heard from lately.
    Here,
    /// Silent for longer than `away_after`.
    Away,
}

impl Presence {
    /// The word that `status` shows.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dormant => "gone",
            Self::Connecting => "connecting",
            Self::Here => "here",
            Self::Away => "away",
        }
    }
}

/// One peer.
#[derive(Debug)]
pub struct Peer<S> {
    /// Who.
    pub id: PeerId,
    /// Its identity.
    pub key: PeerKey,
    /// Its tunnel key.
    pub tunnel: TunnelKey,
    /// Whether its path finder knows the members that pass packets on.
    pub lent: bool,
    /// Whether it made the party.
    pub owner: bool,
    /// It found the party through this node then: its news are passed on.
    pub guided: Option<Mono>,
    /// The seat that its packets must come from; `None` while another peer's older claim holds it.
    pub seat: Option<Seat>,
    /// The session.
    pub session: S,
    /// The path finder.
    pub agent: Agent,
    /// Opening the way when both routers are hard.
    pub punch: Punch,
    /// How large packets to it may be.
    pub mtu: PathMtu,
    /// What its router is like, as its record says.
    pub nat: NatFacts,
    /// Our receiver index of the session.
    pub index: u32,
    /// What was told about it.
    pub presence: Presence,
    /// Since when it is known, or was last heard of by a control plane.
    pub since: Mono,
    /// A control plane said then that it left, while we still heard it.
    pub farewell: Option<Mono>,
    /// It left, or was silent for too long: the record known of it is no sign of life.
    pub written_off: bool,
    /// Guards and rates of what comes from it.
    pub inbound: Inbound,
    /// What was sent to it in this session, and what waits.
    pub outbound: Outbound,
    /// Its next deadline, as it was last asked.
    pub due: Option<Deadline>,
}

/// Guards and rates of what comes from a peer.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Numbers of its discovery frames.
    pub window: SeqWindow,
    /// Pace of its messages.
    pub messages: Option<Bucket>,
    /// A long message of its, on the way.
    pub parts: Gather,
    /// Its run, and the number of its newest list of games that was read.
    pub games: Option<(u32, u64)>,
    /// Pace of new games of its in the list.
    pub new_games: Option<Bucket>,
    /// Pace per rule.
    pub buckets: BTreeMap<RuleIx, Bucket>,
}

/// What goes to a peer.
#[derive(Debug, Default)]
pub struct Outbound {
    /// What was sealed for it lately.
    pub sent: SentRing,
    /// Packets that wait for a session; the oldest leaves.
    pub waiting: VecDeque<Vec<u8>>,
    /// Whether this session saw our record yet.
    pub greeted: bool,
    /// Whether both ends of this session compared what they know of the others.
    pub compared: bool,
    /// Whether the path that is up had our running games yet.
    pub replayed: bool,
    /// What it was told of our games.
    pub games: Told,
    /// Whether the session was up when we last looked.
    pub up: bool,
}

impl<S: Session> Peer<S> {
    /// A peer that is known from its record.
    #[must_use]
    pub fn new(member: &Member, setup: SessionSetup, (agent, punch): (Agent, Punch), now: Now) -> Self {
        Self {
            id: member.key.id(),
            key: member.key,
            tunnel: member.record.tunnel,
            lent: false,
            owner: false,
            guided: None,
            seat: None,
            index: setup.index,
            session: S::new(setup, now),
            agent,
            punch,
            mtu: PathMtu::default(),
            nat: member.record.nat,
            presence: Presence::Dormant,
            since: now.mono,
            farewell: None,
            written_off: false,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            due: None,
        }
    }

    /// Starts over with a new session (the party was re-keyed, or the peer's tunnel key changed); the old one comes out.
    pub fn renew(&mut self, setup: SessionSetup, now: Now) -> S {
        self.index = setup.index;
        self.tunnel = setup.peer;
        let old = std::mem::replace(&mut self.session, S::new(setup, now));
        self.outbound.greeted = false;
        self.outbound.compared = false;
        self.outbound.replayed = false;
        self.outbound.games.renew();
        self.outbound.up = false;
        self.outbound.sent.clear();
        self.punch.stop();
        self.agent.session(false, now.mono);
        old
    }

    /// Puts a packet into the waiting room; true when the oldest had to leave.
    pub fn wait(&mut self, packet: &[u8]) -> bool {
        let full = self.outbound.waiting.len() >= WAITING;
        if full {
            self.outbound.waiting.pop_front();
        }
        self.outbound.waiting.push_back(packet.to_vec());
        full
    }

    /// Whether it is shown to people.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.presence > Presence::Dormant
    }
}
