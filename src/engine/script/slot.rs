//! What is known of one plugin: whether it is there, what it may do, how much it did lately, what it was told.

use crate::engine::lan::pace::Bucket;
use crate::model::id::{PeerId, PluginId};
use crate::model::limits::{MTU, QUESTIONS};
use crate::model::script::{Capabilities, Hook, PluginFacts, ScriptOpen, ScriptSend, Verdict};
use crate::model::time::Mono;
use crate::rules::ruleset::Pace;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The longest that a plugin may open a port with one word.
pub const LONGEST_OPEN: Duration = Duration::from_secs(300);
/// Below are the ports of systems, not of games.
const LOWEST_PORT: u16 = 1024;
/// Ports that one plugin has open at once.
const OPEN_AT_ONCE: usize = 64;
/// People hear of failures of one plugin no oftener than this.
const FAILURE_NEWS: Duration = Duration::from_secs(60);
/// Between ticks.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// A burst of a plugin's own packets: at least one of full length.
const BURST_BYTES: u32 = 4 * MTU as u32;

/// What a plugin wanted without having it among its capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To see or use this UDP port.
    Udp,
    /// To open this TCP port.
    Tcp,
    /// To send to this group.
    Group,
    /// To change packets.
    Rewrite,
    /// To send packets.
    Send,
}

impl Right {
    /// Its key in the manifest.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Udp => "may.udp",
            Self::Tcp => "may.tcp",
            Self::Group => "may.groups",
            Self::Rewrite => "may.rewrite",
            Self::Send => "may.send",
        }
    }
}

/// Why something is not done for a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It may not.
    Lacks(Right),
    /// Nobody may: a system's port, too long, no such thing.
    Never,
    /// Too much of it.
    Pace,
}

/// A port that a plugin has open: whose, TCP or not, which.
type Open = (Option<PeerId>, bool, u16);

/// See the module's description.
#[derive(Debug)]
pub(super) struct Slot {
    /// Whose place it is.
    pub(super) id: PluginId,
    /// The plugin, while it is there and awake.
    pub(super) facts: Option<PluginFacts>,
    /// When its next tick is due.
    pub(super) tick_at: Mono,
    /// The members that it knows of.
    pub(super) members: BTreeMap<PeerId, Ipv4Addr>,
    calls: Bucket,
    bytes: Bucket,
    warned: BTreeSet<Right>,
    told: Option<Mono>,
    opens: BTreeMap<Open, Mono>,
}

impl Slot {
    /// An empty place.
    #[must_use]
    pub(super) fn new(id: PluginId, now: Mono) -> Self {
        let none = Pace { per_second: 0, burst: 0 };
        Self {
            id,
            facts: None,
            tick_at: now,
            members: BTreeMap::new(),
            calls: Bucket::new(none, now),
            bytes: Bucket::new(none, now),
            warned: BTreeSet::new(),
            told: None,
            opens: BTreeMap::new(),
        }
    }

    /// A plugin takes the place.
    pub(super) fn fill(&mut self, facts: PluginFacts, now: Mono) {
        let (calls, bytes) = (calls_pace(&facts), bytes_pace(&facts));
        *self = Self {
            calls: Bucket::new(calls, now),
            bytes: Bucket::new(bytes, now),
            tick_at: now + TICK,
            facts: Some(facts),
            ..Self::new(self.id.clone(), now)
        };
    }

    /// Whether it is there and has this hook.
    #[must_use]
    pub(super) fn has(&self, hook: Hook) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.hooks.has(hook))
    }

    /// When its next tick is due, if it wants any.
    #[must_use]
    pub(super) fn tick(&self) -> Option<Mono> {
        self.has(Hook::Tick).then_some(self.tick_at)
    }

    fn may(&self) -> Option<&Capabilities> {
        self.facts.as_ref().map(|facts| &facts.may)
    }

    /// Whether it may be shown a packet with these ports.
    #[must_use]
    pub(super) fn may_see(&self, source: u16, destination: u16) -> bool {
        self.may().is_some_and(|may| may.has_udp(source) || may.has_udp(destination))
    }

    /// Takes a question's token.
    pub(super) fn take_call(&mut self, now: Mono) -> bool {
        let Some(facts) = &self.facts else { return false };
        self.calls.take(calls_pace(facts), now)
    }

    /// Whether it may say this of a packet.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit_verdict(&self, verdict: &Verdict, v4: bool) -> Result<(), Refusal> {
        match verdict {
            Verdict::Forward | Verdict::Drop => Ok(()),
            Verdict::Replace(_) if !self.may().is_some_and(|may| may.rewrite) => {
                Err(Refusal::Lacks(Right::Rewrite))
            }
            Verdict::Replace(payload) if payload.len() > most_payload(v4) => Err(Refusal::Never),
            Verdict::Replace(_) => Ok(()),
        }
    }

    /// Whether it may open this port now; notes that it did.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit_open(&mut self, open: &ScriptOpen, now: Mono) -> Result<(), Refusal> {
        let may = self.may().ok_or(Refusal::Never)?;
        let (has, right) = if open.tcp {
            (may.has_tcp(open.port), Right::Tcp)
        } else {
            (may.has_udp(open.port), Right::Udp)
        };
        if !has {
            return Err(Refusal::Lacks(right));
        }
        if open.port < LOWEST_PORT {
            return Err(Refusal::Never);
        }
        let key = (open.peer, open.tcp, open.port);
        self.opens.retain(|_, until| *until > now);
        if self.opens.len() >= OPEN_AT_ONCE && !self.opens.contains_key(&key) {
            return Err(Refusal::Pace);
        }
        self.opens.insert(key, now + open.life.min(LONGEST_OPEN));
        Ok(())
    }

    /// Whether it may send this now; takes the bytes out of its bucket. `awaited`: the game on this computer asked from the
    /// destination port lately, so that answers to it are expected.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit_send(&mut self, send: &ScriptSend, awaited: bool, now: Mono) -> Result<(), Refusal> {
        let facts = self.facts.as_ref().ok_or(Refusal::Never)?;
        let may = &facts.may;
        if !may.send {
            return Err(Refusal::Lacks(Right::Send));
        }
        let (from, to) = (may.has_udp(send.from_port), may.has_udp(send.to_port));
        let is_low = |port: u16, own: bool| port < LOWEST_PORT && !own;
        if !(from || to) || send.as_peer.is_some() && !(to || awaited) {
            return Err(Refusal::Lacks(Right::Udp));
        }
        if is_low(send.from_port, from) || is_low(send.to_port, to) {
            return Err(Refusal::Lacks(Right::Udp));
        }
        match send.group {
            None | Some(IpAddr::V4(Ipv4Addr::BROADCAST)) => {}
            Some(group) if group.is_multicast() && may.groups.contains(&group) => {}
            Some(group) if group.is_multicast() => return Err(Refusal::Lacks(Right::Group)),
            Some(_) => return Err(Refusal::Never),
        }
        let v4 = send.group.is_none_or(|group| group.is_ipv4());
        if send.from_port == 0 || send.to_port == 0 || send.payload.len() > most_payload(v4) {
            return Err(Refusal::Never);
        }
        let price = u32::try_from(send.payload.len() + HEADERS_V4).unwrap_or(u32::MAX);
        if self.bytes.take_n(bytes_pace(facts), price, now) { Ok(()) } else { Err(Refusal::Pace) }
    }

    /// Whether people are to be told that it wanted this: once for each right.
    pub(super) fn warn(&mut self, right: Right) -> bool {
        self.warned.insert(right)
    }

    /// Whether people are to be told of a failure now.
    pub(super) fn tell_failure(&mut self, now: Mono) -> bool {
        let tell = self.told.is_none_or(|told| now.since(told) >= FAILURE_NEWS);
        if tell {
            self.told = Some(now);
        }
        tell
    }
}

/// Headers of IPv4 and UDP.
const HEADERS_V4: usize = 28;
/// Headers of IPv6 and UDP.
const HEADERS_V6: usize = 48;

/// The longest payload that fits the tunnel.
#[must_use]
pub const fn most_payload(v4: bool) -> usize {
    MTU as usize - if v4 { HEADERS_V4 } else { HEADERS_V6 }
}

fn calls_pace(facts: &PluginFacts) -> Pace {
    let burst = facts.calls_per_second.min(u32::try_from(QUESTIONS).unwrap_or(u32::MAX));
    Pace { per_second: facts.calls_per_second, burst }
}

fn bytes_pace(facts: &PluginFacts) -> Pace {
    let burst = if facts.bytes_per_second == 0 { 0 } else { facts.bytes_per_second.max(BURST_BYTES) };
    Pace { per_second: facts.bytes_per_second, burst }
}
