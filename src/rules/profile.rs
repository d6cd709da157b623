//! What a profile means: the checked form of a file in `games/`, which cannot contradict itself.
//!
//! Made by `check`, read by `compile` and by whoever shows profiles to people. Every field is within the caps of
//! `check`; `docs/profiles.md` says what each is for.

use super::diagnostic::{Place, Source};
use super::locate::Locate;
use super::pattern::Clause;
use super::ports::PortRange;
use super::ruleset::{Pace, RuleKind, Side, Transport};
use crate::model::id::{PluginId, ProfileId};
use crate::wire::frame::Class;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// How sure a profile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// Its samples were captured on a LAN, from the programs that `tested_on` names.
    Captured,
    /// From the game's source or a public description.
    Documented,
    /// From memory; try it and tell.
    Unverified,
}

impl Evidence {
    /// The word in profiles.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Documented => "documented",
            Self::Unverified => "unverified",
        }
    }
}

/// A game, as far as a LAN bridge needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its id, such as `minecraft-java`.
    pub id: ProfileId,
    /// Its name for people.
    pub name: String,
    /// Other ids that it answers to.
    pub aliases: Vec<String>,
    /// Names of its programs.
    pub processes: Vec<String>,
    /// Profiles of one family may match the same packets; the first that runs gets them.
    pub family: Option<String>,
    /// How sure it is.
    pub evidence: Evidence,
    /// Versions of the game that it was tried with.
    pub tested_on: Vec<String>,
    /// What people should know.
    pub note: Option<String>,
    /// The plugin that its rules ask.
    pub plugin: Option<PluginId>,
    /// The ports to play on.
    pub play: Play,
    /// Whether the game can be played through a proxy, without a network of the party's own; `None` is not known.
    pub proxy: Option<Proxy>,
    /// How the game's LAN search looks, in order of precedence.
    pub rules: Vec<Rule>,
    /// The file.
    pub source: Arc<Source>,
    /// Where the file names its id.
    pub place: Place,
}

/// Ports that are open while the game runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Play {
    /// For TCP.
    pub tcp: Vec<PortRange>,
    /// For UDP.
    pub udp: Vec<PortRange>,
    /// How a game in the list is joined.
    pub join: Transport,
    /// No port is fixed: all are learned from announcements and answers.
    pub dynamic: bool,
    /// Members of one game talk to each other, not only to the one who opened it.
    pub peers: bool,
}

/// Whether a game can be played through a proxy: ports of this computer stand for the others' games.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// It can.
    pub works: bool,
    /// Why not, or what to mind.
    pub why: Option<String>,
}

/// One way a discovery packet may be addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// To one computer.
    Unicast,
    /// To 255.255.255.255.
    Limited,
    /// To a network's broadcast address.
    Directed,
    /// To a multicast group.
    Group(IpAddr),
}

impl To {
    /// The class of packets addressed so.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Unicast => Class::Unicast,
            Self::Limited => Class::Limited,
            Self::Directed => Class::Directed,
            Self::Group(_) => Class::Multicast,
        }
    }
}

/// One kind of discovery packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is.
    pub kind: RuleKind,
    /// Which way it may go; `None` is both.
    pub side: Option<Side>,
    /// Destination ports; empty is any.
    pub ports: Vec<PortRange>,
    /// Source ports; empty is any. Never empty together with `ports`.
    pub from_ports: Vec<PortRange>,
    /// How it may be addressed; never empty.
    pub to: Vec<To>,
    /// Bytes of payload.
    pub length: RangeInclusive<u16>,
    /// What the payload must have: all of these.
    pub clauses: Vec<Clause>,
    /// How often.
    pub pace: Pace,
    /// How long the game stays listed.
    pub life: Duration,
    /// For announcements: how often the game makes them.
    pub rhythm: Option<Duration>,
    /// For queries: how long answers are let in.
    pub answers_within: Duration,
    /// For queries: TCP ports of the asking computer to which answers come by a new connection.
    pub answers_tcp: Vec<PortRange>,
    /// The port it comes from is part of the protocol and must be the same at the receiver.
    pub keep_source_port: bool,
    /// A port of the sender that it names and that is open for a while, without a game in the list.
    pub opens: Option<Opens>,
    /// How the receiver's computer gets it; `None` is as it was sent.
    pub deliver: Option<Class>,
    /// Whether it stands for a game in the list, and how to read that.
    pub lists: Option<Listing>,
    /// Addresses in the payload.
    pub rewrites: Vec<Rewrite>,
    /// The profile's plugin is asked about such packets.
    pub ask: Option<Ask>,
    /// What people should know.
    pub note: Option<String>,
    /// Where the file says all this.
    pub place: Place,
}

/// How a plugin is asked about packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// What is done without an answer: the packet goes nowhere, else it goes on.
    pub else_drop: bool,
    /// Asked on this side only; `None` is both. The receiving one unless the profile says otherwise.
    pub side: Option<Side>,
    /// How long an answer is waited for.
    pub within: Duration,
}

/// How to read what a packet says of a game.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What the game calls itself.
    pub title: Option<TextAt>,
    /// The map or scenario.
    pub map: Option<TextAt>,
    /// The game's version.
    pub version: Option<TextAt>,
    /// Who plays.
    pub players: Option<NumberAt>,
    /// How many can.
    pub most_players: Option<NumberAt>,
    /// The port to join.
    pub port: GamePort,
}

/// Where a text for people is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextAt {
    /// Where.
    pub place: Locate,
    /// Written how; a number is shown with its digits.
    pub form: Form,
    /// The mark before a colour; it and the character behind it are left out.
    pub colour: Option<char>,
}

/// Where a number is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberAt {
    /// Where.
    pub place: Locate,
    /// Written how.
    pub form: Form,
}

/// Where a packet names a port of its sender that is to be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opens {
    /// Of which kind.
    pub transport: Transport,
    /// Where.
    pub port: GamePort,
}

/// A port that needs no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainPort {
    /// Always this one.
    Fixed(u16),
    /// The packet's source port.
    Source,
}

/// The port at which a game is joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GamePort {
    /// Known without reading.
    Plain(PlainPort),
    /// In the payload.
    Read {
        /// Where.
        place: Locate,
        /// Written how.
        form: Form,
        /// When it is not there.
        or: Option<PlainPort>,
    },
    /// Only the profile's plugin can tell.
    Plugin,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Digits (a port's possibly behind `host:`).
    Text,
    /// One byte.
    Byte,
    /// Two bytes, high byte first.
    Big,
    /// Two bytes, low byte first.
    Little,
    /// Four bytes, high byte first.
    Big32,
    /// Four bytes, low byte first.
    Little32,
}

/// An address or a port in a payload that must become the one at which the sender can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Where.
    pub place: Locate,
    /// Written how.
    pub form: AddressForm,
}

/// How an address or a port is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressForm {
    /// The whole text is a host name or an address.
    Host,
    /// `host:port`, of which the host is replaced; a bare port is left alone, a bare host replaced.
    HostPort,
    /// Four bytes, in network order.
    Ipv4,
    /// Four bytes, the other way round.
    Ipv4Little,
    /// Sixteen bytes, in network order.
    Ipv6,
    /// The whole text is a port.
    Port,
    /// A port: two bytes, high byte first.
    PortBig,
    /// A port: two bytes, low byte first.
    PortLittle,
}

impl AddressForm {
    /// It is a port alone: it stays as it is unless the sender is reached at another.
    #[must_use]
    pub const fn is_port(self) -> bool {
        matches!(self, Self::Port | Self::PortBig | Self::PortLittle)
    }

    /// So many bytes at a place that needs no end; `None` is text.
    #[must_use]
    pub const fn bytes(self) -> Option<usize> {
        match self {
            Self::Host | Self::HostPort | Self::Port => None,
            Self::Ipv4 | Self::Ipv4Little => Some(4),
            Self::Ipv6 => Some(16),
            Self::PortBig | Self::PortLittle => Some(2),
        }
    }
}
