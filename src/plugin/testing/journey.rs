//! What becomes of a packet on its way from one player's game to another's: classified, shown to the plugin where the
//! rule asks it, rewritten: with the rules, the rewriting and the virtual machine that a node has, in a node's order.

use super::bench::{Bench, FIRST, Stopwatch, fault_text, shown_packet, v6};
use crate::model::addr::Seat;
use crate::model::id::PluginId;
use crate::model::script::{Hook, ScriptAnswer, ScriptFault, ScriptGame, ScriptPeer, Verdict};
use crate::plugin::code::Code;
use crate::rules::ruleset::{Described, RewriteTo, RuleFacts, RuleIx, RuleKind, Ruleset, Side, Transport};
use crate::wire::frame::Class;
use crate::wire::packet::{PacketView, write_udp};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that a packet may grow by on its way.
const ROOM: usize = 2_048;
/// Who sent every sample that comes from a peer.
pub const SENDER: &str = "Ann";
/// Samples are this far apart: no plugin's pace is to be met.
const APART: Duration = Duration::from_secs(2);

/// A packet to be sent on its way.
#[derive(Debug, Clone, Copy)]
pub struct Traveller<'p> {
    /// What people call it.
    pub name: &'p str,
    /// How it is addressed.
    pub class: Class,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// Its time to live.
    pub ttl: u8,
    /// What it carries.
    pub payload: &'p [u8],
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the rules saw in it; `None` is nothing: it goes nowhere.
    pub kind: Option<RuleKind>,
    /// What it says of its game.
    pub says: Says,
    /// Where it says to join.
    pub join: Option<(Transport, u16)>,
    /// What arrives, or why nothing does.
    pub arrives: Arrives,
    /// What the plugin did wrong.
    pub faults: Vec<String>,
}

/// What a packet says of its game: the profile's reading, and where the plugin says more, the plugin's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Says {
    /// What the game calls itself.
    pub title: String,
    /// The map or scenario.
    pub map: String,
    /// The game's version.
    pub version: String,
    /// Who plays, and how many can.
    pub players: (Option<u32>, Option<u32>),
}

/// What arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrives {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, on purpose.
    Nothing(&'static str),
}

/// Two nodes: the one whose game speaks and the one whose game hears.
#[derive(Debug)]
pub struct Road<'r> {
    rules: &'r Ruleset,
    plugin: PluginId,
    /// The speaker's plugin.
    pub near: Bench,
    /// The hearer's plugin.
    pub far: Bench,
}

impl<'r> Road<'r> {
    /// Loads the plugin on both sides and lets the sender join.
    ///
    /// # Errors
    /// Why it does not load, or fails when somebody joins.
    pub fn new(
        rules: &'r Ruleset,
        code: &Arc<Code>,
        watch: Stopwatch,
        trace: bool,
    ) -> Result<Self, ScriptFault> {
        let mut road = Self {
            rules,
            plugin: code.manifest.id.clone(),
            near: Bench::new(code, watch, trace)?,
            far: Bench::new(code, watch, trace)?,
        };
        for bench in [&mut road.near, &mut road.far] {
            bench.join(SENDER).transpose()?;
        }
        Ok(road)
    }

    /// The whole way (`None`), or only what the named side does.
    pub fn travel(&mut self, packet: &Traveller<'_>, side: Option<Side>) -> Outcome {
        let mut outcome = Outcome {
            kind: None,
            says: Says::default(),
            join: None,
            arrives: Arrives::Nothing("no rule knows it"),
            faults: Vec::new(),
        };
        let mut payload = packet.payload.to_vec();
        if side != Some(Side::FromPeer) {
            self.pass(packet, Side::FromGame, payload, &mut outcome);
            match &outcome.arrives {
                Arrives::Bytes(bytes) if side.is_none() => payload = bytes.clone(),
                Arrives::Bytes(_) | Arrives::Nothing(_) => return outcome,
            }
        }
        self.pass(packet, Side::FromPeer, payload, &mut outcome);
        outcome
    }

    /// What the rules see in a packet, without moving it.
    #[must_use]
    pub fn kind(&self, packet: &Traveller<'_>, side: Side) -> Option<RuleKind> {
        self.rules.facts(rule(self.rules, packet, side)?).map(|facts| facts.kind)
    }

    /// One node's part.
    fn pass(&mut self, packet: &Traveller<'_>, side: Side, payload: Vec<u8>, outcome: &mut Outcome) {
        let nothing = |outcome: &mut Outcome, why| outcome.arrives = Arrives::Nothing(why);
        let Some(whole) = ip(packet, &payload) else { return nothing(outcome, "too large for a packet") };
        let Ok(view) = PacketView::parse(&whole) else { return nothing(outcome, "no packet") };
        let Some(rule) = self.rules.classify(&view, packet.class, side) else {
            let why = if outcome.kind.is_some() {
                "the receiver's rules do not know what the plugin made of it"
            } else {
                "no rule knows it"
            };
            return nothing(outcome, why);
        };
        let Some(facts) = self.rules.facts(rule).cloned() else {
            return nothing(outcome, "no rule knows it");
        };
        outcome.kind = Some(facts.kind);
        let answer = self.ask(packet, side, &payload, &facts, outcome);
        self.describe(packet, side, &payload, (rule, &facts, &view), outcome);
        let payload = match answer.verdict {
            Verdict::Forward => payload,
            Verdict::Drop => return nothing(outcome, "the plugin drops it"),
            Verdict::Replace(bytes) => bytes,
        };
        outcome.arrives = match side {
            Side::FromGame => Arrives::Bytes(payload),
            Side::FromPeer => self.rewritten(packet, rule, &payload),
        };
    }

    fn ask(
        &mut self,
        packet: &Traveller<'_>,
        side: Side,
        payload: &[u8],
        facts: &RuleFacts,
        outcome: &mut Outcome,
    ) -> ScriptAnswer {
        let Some(ask) = facts.ask.filter(|ask| ask.side.is_none_or(|only| only == side)) else {
            return ScriptAnswer::default();
        };
        if !self.is_ours(facts) {
            return ScriptAnswer::default();
        }
        let Some(hook) = kind_hook(facts.kind) else { return ScriptAnswer::default() };
        match self.call(hook, packet, side, payload, facts) {
            Ok(answer) => answer,
            Err(fault) => {
                outcome.faults.push(fault);
                let verdict = if ask.else_drop { Verdict::Drop } else { Verdict::Forward };
                ScriptAnswer { verdict, ..ScriptAnswer::default() }
            }
        }
    }

    fn describe(
        &mut self,
        packet: &Traveller<'_>,
        side: Side,
        payload: &[u8],
        (rule, facts, view): (RuleIx, &RuleFacts, &PacketView<'_>),
        outcome: &mut Outcome,
    ) {
        if !facts.lists {
            return;
        }
        let by_rule = self.rules.describe(rule, view);
        let by_plugin = if self.is_ours(facts) && self.far.facts().hooks.has(Hook::Describe) {
            self.call(Hook::Describe, packet, side, payload, facts).unwrap_or_else(|fault| {
                outcome.faults.push(fault);
                ScriptAnswer::default()
            })
        } else {
            ScriptAnswer::default()
        };
        (outcome.says, outcome.join) = combined(by_rule, by_plugin.describes);
    }

    fn call(
        &mut self,
        hook: Hook,
        packet: &Traveller<'_>,
        side: Side,
        payload: &[u8],
        facts: &RuleFacts,
    ) -> Result<ScriptAnswer, String> {
        let Some(game) = self.rules.profiles().get(usize::from(facts.profile.0)) else {
            return Ok(ScriptAnswer::default());
        };
        let bench = if side == Side::FromGame { &mut self.near } else { &mut self.far };
        let peer: Option<ScriptPeer> =
            if side == Side::FromGame { None } else { bench.peer(SENDER).cloned() };
        let shown = shown_packet(game, peer.as_ref(), packet.from.port(), packet.to, payload.to_vec());
        bench.skip(APART);
        bench.packet(hook, shown, packet.name).map_err(|fault| {
            // The next packet gets a plugin that is awake again: each fault is told once, with its own packet.
            let again = if matches!(fault, ScriptFault::PutToSleep(_)) { bench.reload() } else { Ok(()) };
            let text = fault_text(&fault);
            again.err().map_or_else(|| text.clone(), |worse| format!("{text}; {}", fault_text(&worse)))
        })
    }

    fn is_ours(&self, facts: &RuleFacts) -> bool {
        let named = facts.plugin.and_then(|ix| self.rules.plugins().get(usize::from(ix.0)));
        named == Some(&self.plugin)
    }

    fn rewritten(&self, packet: &Traveller<'_>, rule: RuleIx, payload: &[u8]) -> Arrives {
        let Some(mut room) = ip(packet, payload) else { return Arrives::Nothing("too large for a packet") };
        let len = room.len();
        room.resize(len + ROOM, 0);
        let v4 = self.far.peer(SENDER).map_or(super::bench::ME, |peer| peer.address);
        let to = RewriteTo { seat: Seat(FIRST), v4, v6: v6(v4), port: None };
        let Some(len) = self.rules.rewrite(rule, &mut room, len, &to) else {
            return Arrives::Nothing("the profile's rewrite does not fit it");
        };
        let whole = room.get(..len).unwrap_or_default();
        PacketView::parse(whole)
            .map_or(Arrives::Nothing("no packet"), |view| Arrives::Bytes(view.payload().to_vec()))
    }
}

/// The rule that takes a packet, if any.
#[must_use]
pub fn rule(rules: &Ruleset, packet: &Traveller<'_>, side: Side) -> Option<RuleIx> {
    let whole = ip(packet, packet.payload)?;
    rules.classify(&PacketView::parse(&whole).ok()?, packet.class, side)
}

/// The profile's words, and where the plugin says more, the plugin's.
fn combined(by_rule: Option<Described>, by_plugin: Option<ScriptGame>) -> (Says, Option<(Transport, u16)>) {
    let (mut says, mut join) = (Says::default(), None);
    if let Some(told) = by_rule {
        join = Some((told.transport, told.port));
        let players = (told.players, told.most_players);
        says = Says { title: told.title, map: told.map, version: told.version, players };
    }
    let Some(game) = by_plugin else { return (says, join) };
    for (have, said) in
        [(&mut says.title, game.title), (&mut says.map, game.map), (&mut says.version, game.version)]
    {
        if !said.is_empty() {
            *have = said;
        }
    }
    says.players = (game.players.or(says.players.0), game.most_players.or(says.players.1));
    let transport = match game.tcp {
        Some(true) => Some(Transport::Tcp),
        Some(false) => Some(Transport::Udp),
        None => join.map(|(transport, _)| transport),
    };
    let port = game.port.or_else(|| join.map(|(_, port)| port));
    (says, if game.over { None } else { transport.zip(port).or(join) })
}

/// The hook of a kind of rule. That a game closes needs no asking.
#[must_use]
pub const fn kind_hook(kind: RuleKind) -> Option<Hook> {
    match kind {
        RuleKind::Announcement => Some(Hook::Announcement),
        RuleKind::Query => Some(Hook::Query),
        RuleKind::Answer => Some(Hook::Answer),
        RuleKind::Closing => None,
    }
}

/// How an address is addressed. A capture does not say how large its networks are; /24 is the usual one.
#[must_use]
pub fn class_of(to: IpAddr) -> Class {
    match to {
        to if to.is_multicast() => Class::Multicast,
        IpAddr::V4(v4) if v4.is_broadcast() => Class::Limited,
        IpAddr::V4(v4) if v4.octets().last() == Some(&255) => Class::Directed,
        IpAddr::V4(_) | IpAddr::V6(_) => Class::Unicast,
    }
}

fn ip(packet: &Traveller<'_>, payload: &[u8]) -> Option<Vec<u8>> {
    let mut room = vec![0; 48 + payload.len()];
    let len = write_udp(&mut room, packet.from, packet.to, packet.ttl, payload)?;
    room.truncate(len);
    Some(room)
}
