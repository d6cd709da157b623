//! The compiled rules of the games that this node runs, and the questions the engine asks of them.

use crate::model::addr::Seat;
use crate::model::id::ProfileId;
use crate::wire::frame::Class;
use crate::wire::packet::PacketView;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
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
}

/// A transport protocol that games use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
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
    /// Whether `rewrite` has anything to do.
    pub rewrites: bool,
}

/// What an announcement or an answer says about a game.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// What the game calls itself; empty when the packet does not say.
    pub title: String,
    /// Where it is to be joined.
    pub transport: Transport,
    /// The port to join, from the payload or the profile.
    pub port: u16,
}

/// The addresses that rewrite rules may put into a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteTo {
    /// The seat of the peer that sent the packet.
    pub seat: Seat,
    /// Its virtual IPv4 address.
    pub v4: Ipv4Addr,
    /// Its virtual IPv6 address.
    pub v6: Ipv6Addr,
}

/// The rules of all profiles that run on this node.
#[derive(Debug, Default)]
pub struct Ruleset {}

impl Ruleset {
    /// The profiles' ids, in the order of `ProfileIx`.
    #[must_use]
    pub fn profiles(&self) -> &[ProfileId] {
        &[]
    }

    /// The first rule that fits a UDP packet, in the order of the profiles; `None` is "not a game's discovery": deny.
    #[must_use]
    pub fn classify(&self, view: &PacketView<'_>, class: Class, side: Side) -> Option<RuleIx> {
        let _ = (view, class, side);
        None
    }

    /// The facts of a rule.
    #[must_use]
    pub fn facts(&self, rule: RuleIx) -> Option<&RuleFacts> {
        let _ = rule;
        None
    }

    /// What an announcement or answer says about its game; `None` when the rule cannot tell.
    #[must_use]
    pub fn describe(&self, rule: RuleIx, view: &PacketView<'_>) -> Option<Described> {
        let _ = (rule, view);
        None
    }

    /// Applies the rule's rewrites to a packet of `len` bytes that lies at the start of `room`, and fixes lengths and
    /// checksums. Returns the new length; `None` when the result does not fit or the payload is not what it should be.
    pub fn rewrite(&self, rule: RuleIx, room: &mut [u8], len: usize, to: &RewriteTo) -> Option<usize> {
        let _ = (rule, room, to);
        Some(len)
    }

    /// Whether the profiles' fixed play ports name this port: such packets are let in.
    #[must_use]
    pub fn plays_on(&self, transport: Transport, port: u16) -> Option<ProfileIx> {
        let _ = (transport, port);
        None
    }

    /// The UDP destination ports to be captured on cards.
    #[must_use]
    pub fn capture_ports(&self) -> &[RangeInclusive<u16>] {
        &[]
    }

    /// The multicast groups that the rules name.
    #[must_use]
    pub fn groups(&self) -> &[IpAddr] {
        &[]
    }
}
