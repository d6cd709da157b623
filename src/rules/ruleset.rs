//! The compiled rules of the games that this node runs, and the questions the engine asks of them.
//!
//! `classify` is asked for every UDP packet that a game or a peer sends: two look-ups by port give the few rules to try
//! (`tree`: usually one or none, however many there are), and each is tried cheapest question first: address class, length,
//! bytes. Nothing is interpreted and nothing is allocated. `describe` and `rewrite` are for packets that matched.

use super::describe::{describe, opens};
use super::pattern::Clause;
use super::ports::{PortMap, PortRange};
use super::profile::{Ask, Listing, Opens, Rewrite, To};
use super::rewrite;
use super::tree::{Forest, Roots};
use crate::model::addr::Seat;
use crate::model::id::{PluginId, ProfileId};
use crate::model::script::PluginIx;
use crate::wire::frame::Class;
use crate::wire::packet::{PacketView, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// A game on this computer sent it.
    FromGame,
    /// A peer sent it.
    FromPeer,
}

/// A profile among those compiled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileIx(pub u16);

/// A rule among those compiled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIx(pub u16);

/// What a discovery packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// A server says it is there.
    Announcement,
    /// A client asks.
    Query,
    /// A server answers.
    Answer,
    /// A server says that its game is over.
    Closing,
}

impl RuleKind {
    /// The word in profiles.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Announcement => "announcement",
            Self::Query => "query",
            Self::Answer => "answer",
            Self::Closing => "closing",
        }
    }

    /// A server speaks of a game that is there.
    #[must_use]
    pub const fn tells_of_a_game(self) -> bool {
        matches!(self, Self::Announcement | Self::Answer)
    }
}

/// A transport protocol that games use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    #[default]
    Udp,
}

/// How often a rule's packets may be forwarded: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Tokens per second.
    pub per_second: u32,
    /// The most tokens.
    pub burst: u32,
}

/// What the engine needs to know of a rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFacts {
    /// Whose rule it is.
    pub profile: ProfileIx,
    /// What the packet is.
    pub kind: RuleKind,
    /// How often.
    pub pace: Pace,
    /// How long a game stays in lists after its last sign of life.
    pub life: Duration,
    /// How the packet is to be addressed at the receiver: `None` means in the class it was sent in.
    pub deliver: Option<Class>,
    /// For queries: how long answers are let in.
    pub answers_within: Duration,
    /// For announcements: how often the game makes them, as far as is known.
    pub rhythm: Option<Duration>,
    /// The port it comes from is part of the protocol: nothing on the way may change it.
    pub keep_source_port: bool,
    /// For queries: TCP ports of the asking computer to which answers come by a new connection.
    pub answers_tcp: Arc<[PortRange]>,
    /// It names a port of its sender that is to be open for a while (`Ruleset::opens`).
    pub opens: bool,
    /// Whether `rewrite` has anything to do where ports stay as they are.
    pub rewrites: bool,
    /// Whether `rewrite` also changes ports when it is told one.
    pub rewrites_port: bool,
    /// The profile's plugin, if it has one.
    pub plugin: Option<PluginIx>,
    /// The plugin is asked about such packets.
    pub ask: Option<Ask>,
    /// It stands for a game in the list.
    pub lists: bool,
}

/// What an announcement or an answer says about a game.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Described {
    /// What the game calls itself; empty when the packet does not say.
    pub title: String,
    /// The map or scenario; empty when the packet does not say.
    pub map: String,
    /// The game's version; empty when the packet does not say.
    pub version: String,
    /// Who plays, when the packet says.
    pub players: Option<u32>,
    /// How many can, when the packet says.
    pub most_players: Option<u32>,
    /// Where it is to be joined.
    pub transport: Transport,
    /// The port to join, from the payload or the profile.
    pub port: u16,
}

/// What rewrite rules may put into a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteTo {
    /// The seat of the peer that sent the packet.
    pub seat: Seat,
    /// Its virtual IPv4 address.
    pub v4: Ipv4Addr,
    /// Its virtual IPv6 address.
    pub v6: Ipv6Addr,
    /// The port at which its game is reached, where that is not the port that the game itself uses; `None` leaves ports
    /// alone.
    pub port: Option<u16>,
}

/// The rules of all profiles that run on this node. Made by `compile::compile`; the default one knows no game.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    pub(super) ids: Vec<ProfileId>,
    pub(super) plugins: Vec<PluginId>,
    /// What each rule asks of a packet; apart from the actions, so that the packet path touches little memory.
    pub(super) tests: Vec<Test>,
    pub(super) actions: Vec<Action>,
    pub(super) forest: Forest,
    pub(super) by_port: Roots,
    pub(super) by_source: Roots,
    pub(super) tcp: PortMap,
    pub(super) udp: PortMap,
    /// The profiles whose members talk to each other, ascending.
    pub(super) peers: Vec<u16>,
    pub(super) capture: Vec<PortRange>,
    pub(super) groups: Vec<IpAddr>,
    pub(super) heard: Vec<(PortRange, To)>,
}

/// What a rule asks of a packet whose port it names.
#[derive(Debug, Clone)]
pub(super) struct Test {
    pub(super) side: Option<Side>,
    pub(super) unicast: bool,
    pub(super) limited: bool,
    pub(super) directed: bool,
    pub(super) groups: Box<[IpAddr]>,
    pub(super) length: RangeInclusive<u16>,
    /// Only for rules found by their destination port.
    pub(super) from_ports: Box<[PortRange]>,
    pub(super) clauses: Box<[Clause]>,
}

/// What is done with a packet that fits.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) facts: RuleFacts,
    pub(super) join: Transport,
    pub(super) lists: Option<Listing>,
    pub(super) opens: Option<Opens>,
    pub(super) rewrites: Box<[Rewrite]>,
    pub(super) group: Option<IpAddr>,
}

impl Test {
    /// All but the clauses.
    pub(super) fn fits(&self, view: &PacketView<'_>, class: Class, side: Side, payload: &[u8]) -> bool {
        let addressed = match class {
            Class::Unicast => self.unicast,
            Class::Limited => self.limited,
            Class::Directed => self.directed,
            Class::Multicast => self.groups.contains(&view.dst),
        };
        addressed
            && self.side.is_none_or(|only| only == side)
            && u16::try_from(payload.len()).is_ok_and(|len| self.length.contains(&len))
            && (self.from_ports.is_empty() || self.from_ports.iter().any(|r| r.contains(&view.src_port)))
    }
}

impl Ruleset {
    /// The profiles' ids, in the order of `ProfileIx`.
    #[must_use]
    pub fn profiles(&self) -> &[ProfileId] {
        &self.ids
    }

    /// The plugins that the profiles name, in the order of `PluginIx`.
    #[must_use]
    pub fn plugins(&self) -> &[PluginId] {
        &self.plugins
    }

    /// The first rule that fits a UDP packet, in the order of the profiles; `None` is "not a game's discovery": deny.
    #[must_use]
    pub fn classify(&self, view: &PacketView<'_>, class: Class, side: Side) -> Option<RuleIx> {
        if view.proto != proto::UDP || view.fragment {
            return None;
        }
        let asked = (view, class, side);
        let by_port = self.forest.find(&self.by_port, view.dst_port, &self.tests, asked);
        let by_source = self.forest.find(&self.by_source, view.src_port, &self.tests, asked);
        match (by_port, by_source) {
            (Some(a), Some(b)) => Some(RuleIx(a.min(b))),
            (Some(only), None) | (None, Some(only)) => Some(RuleIx(only)),
            (None, None) => None,
        }
    }

    fn action(&self, rule: RuleIx) -> Option<&Action> {
        self.actions.get(usize::from(rule.0))
    }

    /// The facts of a rule.
    #[must_use]
    pub fn facts(&self, rule: RuleIx) -> Option<&RuleFacts> {
        self.action(rule).map(|action| &action.facts)
    }

    /// How the games of a rule are joined, when nobody says otherwise.
    #[must_use]
    pub fn joined_by(&self, rule: RuleIx) -> Option<Transport> {
        self.action(rule).map(|action| action.join)
    }

    /// The group that a rule names first: where its packets go when `deliver` says multicast.
    #[must_use]
    pub fn group_of(&self, rule: RuleIx) -> Option<IpAddr> {
        self.action(rule)?.group
    }

    /// What an announcement or answer says about its game, or a closing packet about the one that is over; `None` when the
    /// rule cannot tell.
    #[must_use]
    pub fn describe(&self, rule: RuleIx, view: &PacketView<'_>) -> Option<Described> {
        let action = self.action(rule)?;
        describe(action.lists.as_ref()?, action.join, view)
    }

    /// The port of its sender that a packet wants open for a while.
    #[must_use]
    pub fn opens(&self, rule: RuleIx, view: &PacketView<'_>) -> Option<(Transport, u16)> {
        opens(self.action(rule)?.opens.as_ref()?, view)
    }

    /// Applies the rule's rewrites to a packet of `len` bytes that lies at the start of `room`, and fixes lengths and
    /// checksums. Returns the new length; `None` when the result does not fit or the payload is not what it should be.
    pub fn rewrite(&self, rule: RuleIx, room: &mut [u8], len: usize, to: &RewriteTo) -> Option<usize> {
        let rewrites = &self.action(rule)?.rewrites;
        if rewrites.is_empty() {
            return (len <= room.len()).then_some(len);
        }
        rewrite::apply(rewrites, room, len, to)
    }

    /// Whether the profiles' fixed play ports name this port: such packets are let in.
    #[must_use]
    pub fn plays_on(&self, transport: Transport, port: u16) -> Option<ProfileIx> {
        let map = match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
        };
        map.at(port).first().copied().map(ProfileIx)
    }

    /// The fixed ports on which a profile's games are played.
    pub fn play_ports(&self, profile: ProfileIx) -> impl Iterator<Item = (Transport, PortRange)> {
        let of = move |transport, map: &'_ PortMap| {
            let named = map.stretches().filter(|(_, profiles)| profiles.contains(&profile.0));
            named.map(|(range, _)| (transport, range)).collect::<Vec<_>>()
        };
        of(Transport::Tcp, &self.tcp).into_iter().chain(of(Transport::Udp, &self.udp))
    }

    /// Whether members who play this game talk to each other on ports that nobody announced.
    #[must_use]
    pub fn peers_talk(&self, profile: ProfileIx) -> bool {
        self.peers.binary_search(&profile.0).is_ok()
    }

    /// The UDP destination ports to be captured on cards.
    #[must_use]
    pub fn capture_ports(&self) -> &[RangeInclusive<u16>] {
        &self.capture
    }

    /// What the games of this computer say to many: to which ports, and how addressed.
    #[must_use]
    pub fn heard(&self) -> &[(PortRange, To)] {
        &self.heard
    }

    /// The multicast groups that the rules name.
    #[must_use]
    pub fn groups(&self) -> &[IpAddr] {
        &self.groups
    }
}
