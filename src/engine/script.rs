//! Questions to plugins: which packets wait for an answer, for how long, and what holds without one.
//!
//! The node asks `judge` about every packet whose rule says `ask`, after all guards, pace and firewall. The answer is a
//! decision at once (an earlier answer still holds, or nobody can be asked: the rule's default), or the packet is held
//! here, a question goes out, and the decision comes by `handle_reply` or at the deadline, whichever is first. Packets
//! of one flow leave in the order in which they came; no packet waits for another flow's, nor longer than its rule allows.
//!
//! What a plugin answers is held against what it may do, here and nowhere else; what it may not is refused, counted, and
//! told to people once. A plugin that was put to sleep is asked nothing more.
//!
//! Size: one machine; what it decides alone is in `answer`, `errand` and `slot`, and the rest shares every table.
//!
//! Inputs: `judge`, `read`, `handle_reply`, `handle_timeout`, `set_plugins`, `tell_members`. Outputs: `poll_release` (packets
//! whose decision is there), `poll` (questions and news). Deadlines: answers, readings, errands, ticks.

mod answer;
mod errand;
mod slot;

pub use answer::{Answered, Subject, tidy};
pub use errand::Member;
pub use slot::{LONGEST_OPEN, Refusal, Right, most_payload};

use super::counters::{Count, Counters};
use super::lan::games::Sighting;
use super::lan::guard::Hasher;
use super::lan::taught::{Flow, FlowTable};
use crate::model::addr::Seat;
use crate::model::id::{CardId, PeerId, PluginId, ProfileId};
use crate::model::limits::{ANNOUNCEMENTS, QUESTIONS};
use crate::model::script::{
    Ask, CallId, Hook, PluginFacts, PluginIx, ScriptCall, ScriptPacket, ScriptSend, Verdict,
};
use crate::model::status::Trouble;
use crate::model::time::{Deadline, Mono};
use crate::rules::ruleset::{Described, RuleFacts, RuleIx, RuleKind, Side, Transport};
use crate::wire::frame::Class;
use crate::wire::packet::PacketView;
use errand::Errand;
use slot::Slot;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Packets of one address that may wait at once: nobody fills the waiting room alone.
const OF_ONE: usize = 16;
/// Answers that came too late and may still teach.
const LATE: usize = 64;
/// What a packet says of its game is waited for this long; nothing but the list waits.
const READING: Duration = Duration::from_millis(250);

/// How a packet goes on once it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A peer's discovery frame, to be injected.
    Frame {
        /// Whose.
        peer: PeerId,
        /// The seat it came from.
        seat: Seat,
        /// How it was addressed.
        class: Class,
    },
    /// A peer's packet to this computer.
    Packet {
        /// Whose.
        peer: PeerId,
        /// The seat it came from.
        seat: Seat,
    },
    /// The own game's discovery packet, to the party.
    Discovery {
        /// How it was addressed.
        class: Class,
        /// By which card it left.
        card: Option<CardId>,
    },
    /// The own game's packet to one peer.
    Unicast {
        /// To whom.
        peer: PeerId,
    },
}

impl Held {
    /// Which way it goes.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Frame { .. } | Self::Packet { .. } => Side::FromPeer,
            Self::Discovery { .. } | Self::Unicast { .. } => Side::FromGame,
        }
    }

    const fn peer(self) -> Option<PeerId> {
        match self {
            Self::Frame { peer, .. } | Self::Packet { peer, .. } => Some(peer),
            Self::Discovery { .. } | Self::Unicast { .. } => None,
        }
    }
}

/// A packet that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// How it goes on.
    pub held: Held,
    /// Which rule matched it.
    pub rule: RuleIx,
    /// The IP packet.
    pub packet: Vec<u8>,
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A plugin, just now or a while ago; or nobody had to.
    Plugin,
    /// The rule, because there was no answer.
    Default,
}

/// What is to be done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// That.
    pub verdict: Verdict,
    /// Only these peers get it; `None` is all.
    pub to: Option<Vec<PeerId>>,
    /// Who says so.
    pub by: By,
}

impl Decision {
    /// It goes on.
    pub const FORWARD: Self = Self { verdict: Verdict::Forward, to: None, by: By::Plugin };

    const fn default_of(drops: bool) -> Self {
        let verdict = if drops { Verdict::Drop } else { Verdict::Forward };
        Self { verdict, to: None, by: By::Default }
    }

    /// Whether it simply goes on, to everybody.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self.verdict, Verdict::Forward) && self.to.is_none()
    }

    /// Whether this peer is among those who get it.
    #[must_use]
    pub fn is_for(&self, peer: PeerId) -> bool {
        self.to.as_ref().is_none_or(|to| to.contains(&peer))
    }
}

/// What `judge` makes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Judged {
    /// This, at once.
    Now(Decision),
    /// It waits here.
    Held,
}

/// A packet whose rule asks.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// Its rule.
    pub rule: RuleIx,
    /// What is known of it.
    pub facts: &'q RuleFacts,
    /// Whose rule it is.
    pub game: &'q ProfileId,
    /// The packet, in the party's terms.
    pub view: &'q PacketView<'q>,
    /// How it goes on.
    pub held: Held,
    /// This node's virtual address.
    pub me: Ipv4Addr,
}

impl Question<'_> {
    fn flow(&self) -> Flow {
        Flow { source: self.view.source(), side: self.held.side(), rule: self.rule }
    }

    fn packet(&self) -> ScriptPacket {
        ScriptPacket {
            game: self.game.clone(),
            peer: self.held.peer(),
            from: self.view.source(),
            to: self.view.destination(),
            me: self.me,
            payload: self.view.payload().to_vec(),
        }
    }
}

/// Which hook a rule's packets are for.
const fn hook_of(kind: RuleKind) -> Hook {
    match kind {
        RuleKind::Announcement | RuleKind::Closing => Hook::Announcement,
        RuleKind::Query => Hook::Query,
        RuleKind::Answer => Hook::Answer,
    }
}

/// A packet in the waiting room.
#[derive(Debug)]
struct Waiting {
    plugin: PluginIx,
    flow: Flow,
    words: u64,
    deadline: Mono,
    drops: bool,
    v4: bool,
    parcel: Parcel,
    decision: Option<Decision>,
}

/// Whose game a reading is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A peer's.
    Peer {
        /// Its packet.
        sighting: Sighting,
        /// The hash of its payload.
        words: u64,
    },
    /// This computer's: rule and source port.
    Own(RuleIx, u16),
}

/// A packet that a plugin reads for the list; nothing waits for it but the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Whose game.
    pub whose: Whose,
    /// The rule that matched.
    pub rule: RuleIx,
    /// What the profile reads in it.
    pub profile: Option<Described>,
}

/// The words of a game on this computer, and the port that a plugin read in them.
#[derive(Debug)]
struct OwnWords {
    words: u64,
    port: Option<(Transport, u16)>,
}

/// What comes out, beside packets.
#[derive(Debug)]
pub enum Out {
    /// Ask.
    Ask(Box<ScriptCall>),
    /// Tell people.
    Tell(Trouble),
}

/// A question whose deadline passed; its answer may still teach.
#[derive(Debug)]
struct Late {
    call: CallId,
    plugin: PluginIx,
    flow: Flow,
    words: u64,
    v4: bool,
}

/// See the module's description.
#[derive(Debug)]
pub struct Scripts {
    slots: Vec<Slot>,
    waiting: BTreeMap<CallId, Waiting>,
    readings: BTreeMap<CallId, (PluginIx, Mono, Reading)>,
    errands: BTreeMap<CallId, Errand>,
    late: VecDeque<Late>,
    taught: FlowTable,
    own: BTreeMap<(RuleIx, u16), OwnWords>,
    /// Words in which a plugin found no game.
    silent: BTreeMap<Sighting, u64>,
    /// Members are to be told then: a plugin was too busy to hear of them.
    retry: Option<Mono>,
    hash: Hasher,
    next: u64,
    out: VecDeque<Out>,
}

impl Scripts {
    /// The plugins that the rules ask; none of them is there yet.
    #[must_use]
    pub fn new(ids: &[PluginId], hash: Hasher, now: Mono) -> Self {
        Self {
            slots: ids.iter().map(|id| Slot::new(id.clone(), now)).collect(),
            waiting: BTreeMap::new(),
            readings: BTreeMap::new(),
            errands: BTreeMap::new(),
            late: VecDeque::new(),
            taught: FlowTable::default(),
            own: BTreeMap::new(),
            silent: BTreeMap::new(),
            retry: None,
            hash,
            next: 0,
            out: VecDeque::new(),
        }
    }

    /// Other rules: rules and plugins have other numbers now, so nothing that waits can go on. Plugins that are there stay.
    /// Says how many packets waited.
    pub fn set_rules(&mut self, ids: &[PluginId], now: Mono) -> usize {
        let lost = self.waiting.len();
        let mut old = std::mem::take(&mut self.slots);
        let slot = |id: &PluginId| match old.iter().position(|slot| slot.id == *id) {
            Some(at) => old.swap_remove(at),
            None => Slot::new(id.clone(), now),
        };
        self.slots = ids.iter().map(slot).collect();
        self.waiting.clear();
        self.readings.clear();
        self.errands.clear();
        self.late.clear();
        self.taught.clear();
        self.own.clear();
        self.silent.clear();
        // Members whose message was under way are told again.
        self.slots.iter_mut().for_each(|slot| slot.members.clear());
        self.retry = Some(now);
        lost
    }

    /// The plugins that are there now, in the order of the rules.
    pub fn set_plugins(&mut self, plugins: &[Option<PluginFacts>], counters: &mut Counters, now: Mono) {
        for (at, ix) in (0..self.slots.len()).zip(0u16..) {
            let Some(slot) = self.slots.get_mut(at) else { return };
            let facts = plugins.get(at).and_then(Option::as_ref).filter(|facts| facts.id == slot.id);
            if facts == slot.facts.as_ref() {
                continue;
            }
            match facts {
                Some(facts) => slot.fill(facts.clone(), now),
                None => slot.facts = None,
            }
            self.let_go(PluginIx(ix), counters);
            self.retry = Some(now);
        }
    }

    /// A plugin is gone: what waits for it gets the default, what it taught is forgotten.
    fn let_go(&mut self, plugin: PluginIx, counters: &mut Counters) {
        for waiting in self.waiting.values_mut().filter(|w| w.plugin == plugin && w.decision.is_none()) {
            waiting.decision = Some(Decision::default_of(waiting.drops));
            counters.add(Count::PluginDefaults);
        }
        for (_, due, _) in self.readings.values_mut().filter(|(of, ..)| *of == plugin) {
            *due = Mono::ZERO;
        }
        self.errands.retain(|_, errand| errand.plugin != plugin);
        self.late.retain(|late| late.plugin != plugin);
        self.taught.forget(plugin);
        self.own.clear();
        self.silent.clear();
    }

    fn slot(&self, plugin: PluginIx) -> Option<&Slot> {
        self.slots.get(usize::from(plugin.0))
    }

    fn slot_mut(&mut self, plugin: PluginIx) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(plugin.0))
    }

    fn call(&mut self, plugin: PluginIx, ask: Ask, counters: &mut Counters, now: Mono) -> CallId {
        self.next += 1;
        let id = CallId(self.next);
        counters.add(Count::PluginCalls);
        self.out.push_back(Out::Ask(Box::new(ScriptCall { id, plugin, at: now.0, ask })));
        id
    }

    /// A packet whose rule asks, on the side where it asks.
    pub fn judge(&mut self, question: Question<'_>, counters: &mut Counters, now: Mono) -> Judged {
        let (Some(ask), Some(plugin)) = (question.facts.ask, question.facts.plugin) else {
            return Judged::Now(Decision::FORWARD);
        };
        let flow = question.flow();
        let words = self.hash.bytes(question.view.payload()).finish();
        let before = self.waiting.values().rev().find(|w| w.flow == flow).map(|w| w.deadline);
        if let Some(lesson) = self.taught.lesson(flow, words, now) {
            counters.add(Count::PluginTaught);
            let decision =
                Decision { verdict: lesson.verdict.clone(), to: lesson.to.clone(), by: By::Plugin };
            return self.in_turn(question, plugin, (flow, words), decision, before);
        }
        if !self.may_ask(plugin, &question, counters, now) {
            counters.add(Count::PluginDefaults);
            let decision = Decision::default_of(ask.else_drop);
            return self.in_turn(question, plugin, (flow, words), decision, before);
        }
        let asked = Ask::Packet(hook_of(question.facts.kind), Box::new(question.packet()));
        let id = self.call(plugin, asked, counters, now);
        self.waiting.insert(
            id,
            Waiting {
                plugin,
                flow,
                words,
                deadline: now + ask.within,
                drops: ask.else_drop,
                v4: question.view.src.is_ipv4(),
                parcel: parcel(&question),
                decision: None,
            },
        );
        Judged::Held
    }

    /// What is decided at once waits nevertheless while an earlier packet of its flow does, so that it does not overtake it.
    fn in_turn(
        &mut self,
        question: Question<'_>,
        plugin: PluginIx,
        (flow, words): (Flow, u64),
        decision: Decision,
        before: Option<Mono>,
    ) -> Judged {
        let Some(deadline) = before.filter(|_| self.has_room(flow.source.ip())) else {
            return Judged::Now(decision);
        };
        self.next += 1;
        let v4 = question.view.src.is_ipv4();
        let parcel = parcel(&question);
        let decision = Some(decision);
        let waiting = Waiting { plugin, flow, words, deadline, drops: false, v4, parcel, decision };
        self.waiting.insert(CallId(self.next), waiting);
        Judged::Held
    }

    /// Whether one more packet of this address may wait.
    fn has_room(&self, source: IpAddr) -> bool {
        let of_one = || self.waiting.values().filter(|w| w.flow.source.ip() == source).take(OF_ONE).count();
        self.waiting.len() < QUESTIONS && of_one() < OF_ONE
    }

    /// Whether this packet's plugin can be asked about it now.
    fn may_ask(
        &mut self,
        plugin: PluginIx,
        question: &Question<'_>,
        counters: &mut Counters,
        now: Mono,
    ) -> bool {
        let has_room = self.has_room(question.view.src);
        let Some(slot) = self.slot_mut(plugin).filter(|slot| slot.has(hook_of(question.facts.kind))) else {
            return false;
        };
        if !slot.may_see(question.view.src_port, question.view.dst_port) {
            self.refuse(plugin, Refusal::Lacks(Right::Udp), counters);
            return false;
        }
        if !has_room || !slot.take_call(now) {
            counters.add(Count::PluginBusy);
            return false;
        }
        true
    }

    /// A packet that stands for a game, in words that are new: true when the plugin reads it, and the list waits for that.
    pub fn read(
        &mut self,
        question: Question<'_>,
        reading: Reading,
        counters: &mut Counters,
        now: Mono,
    ) -> bool {
        let Some(plugin) = question.facts.plugin else { return false };
        if self.readings.values().any(|(_, _, known)| known.whose == reading.whose) {
            return true;
        }
        if let Whose::Peer { sighting, words } = reading.whose
            && self.silent.get(&sighting) == Some(&words)
        {
            return false;
        }
        let full = self.readings.len() >= QUESTIONS;
        let Some(slot) = self.slot_mut(plugin).filter(|slot| slot.has(Hook::Describe)) else { return false };
        if full || !slot.may_see(question.view.src_port, question.view.dst_port) || !slot.take_call(now) {
            return false;
        }
        let asked = Ask::Packet(Hook::Describe, Box::new(question.packet()));
        let id = self.call(plugin, asked, counters, now);
        self.readings.insert(id, (plugin, now + READING, reading));
        true
    }

    /// Whether a rule's plugin reads its packets for the list.
    #[must_use]
    pub fn reads(&self, facts: &RuleFacts) -> bool {
        facts.lists && facts.plugin.and_then(|ix| self.slot(ix)).is_some_and(|slot| slot.has(Hook::Describe))
    }

    /// The port that a plugin read in these words of a game on this computer; `None` when they are new, and noted.
    pub fn own_words(&mut self, rule: RuleIx, view: &PacketView<'_>) -> Option<Option<(Transport, u16)>> {
        let words = self.hash.bytes(view.payload()).finish();
        let key = (rule, view.src_port);
        match self.own.get(&key) {
            Some(known) if known.words == words => return Some(known.port),
            Some(_) | None => {}
        }
        if self.own.len() < ANNOUNCEMENTS || self.own.contains_key(&key) {
            self.own.insert(key, OwnWords { words, port: None });
        }
        None
    }

    /// The port that a plugin read in the newest words of a game on this computer.
    #[must_use]
    pub fn own_port(&self, rule: RuleIx, from_port: u16) -> Option<(Transport, u16)> {
        self.own.get(&(rule, from_port)).and_then(|own| own.port)
    }

    /// A plugin read this in the words of a game on this computer; `None`: it could not, and is to be asked again.
    pub fn note_own(&mut self, rule: RuleIx, from_port: u16, port: Option<Option<(Transport, u16)>>) {
        match (port, self.own.get_mut(&(rule, from_port))) {
            (Some(port), Some(own)) => own.port = port,
            (None, Some(_)) => {
                self.own.remove(&(rule, from_port));
            }
            (_, None) => {}
        }
    }

    /// A plugin found no game in these words.
    pub fn note_silent(&mut self, sighting: Sighting, words: u64) {
        if self.silent.len() >= ANNOUNCEMENTS {
            self.silent.clear();
        }
        self.silent.insert(sighting, words);
    }

    /// The next packet whose decision is there and that has no earlier one of its flow before it.
    pub fn poll_release(&mut self) -> Option<(Parcel, Decision)> {
        let is_first = |(id, this): &(&CallId, &Waiting)| {
            this.decision.is_some()
                && !self.waiting.range(..*id).any(|(_, earlier)| earlier.flow == this.flow)
        };
        let id = *self.waiting.iter().find(is_first)?.0;
        let waiting = self.waiting.remove(&id)?;
        Some((waiting.parcel, waiting.decision?))
    }

    /// The next question or news.
    pub fn poll(&mut self) -> Option<Out> {
        self.out.pop_front()
    }

    /// Deadlines: packets get their rule's default; readings that are over come out.
    pub fn handle_timeout(&mut self, counters: &mut Counters, now: Mono) -> Vec<Reading> {
        let due = |w: &Waiting| w.decision.is_none() && w.deadline <= now;
        for (call, waiting) in self.waiting.iter_mut().filter(|(_, w)| due(w)) {
            waiting.decision = Some(Decision::default_of(waiting.drops));
            counters.add(Count::PluginLate);
            counters.add(Count::PluginDefaults);
            if self.late.len() >= LATE {
                self.late.pop_front();
            }
            let Waiting { plugin, flow, words, v4, .. } = *waiting;
            self.late.push_back(Late { call: *call, plugin, flow, words, v4 });
        }
        self.run_errands(counters, now);
        let over = self.readings.extract_if(.., |_, (_, until, _)| *until <= now);
        over.map(|(_, (_, _, reading))| reading).collect()
    }

    /// When it is to be woken, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        if self.slots.is_empty() {
            return None;
        }
        // Those that are decided too: a plugin that is taken away decides without anywhere to send to.
        let answer = self.waiting.values().map(|w| w.deadline).min();
        let answer = answer.map(|at| Deadline::new(at, "plugin answer"));
        let reading = self.readings.values().map(|(_, until, _)| *until).min();
        let reading = reading.map(|at| Deadline::new(at, "plugin describe"));
        Deadline::earlier(Deadline::earlier(answer, reading), self.errand_deadline())
    }

    /// When the question that waits longest was due; for the simulator's oracle.
    #[must_use]
    pub fn overdue(&self, now: Mono) -> Option<Duration> {
        self.waiting.values().map(|w| now.since(w.deadline)).max().filter(|late| *late > Duration::ZERO)
    }

    // ---- what plugins may do ---------------------------------------------------------------------------------

    /// Whether a plugin may send this now; `awaited`: the own game asked from the destination port.
    pub fn admit_send(
        &mut self,
        plugin: PluginIx,
        send: &ScriptSend,
        awaited: bool,
        counters: &mut Counters,
        now: Mono,
    ) -> bool {
        let Some(slot) = self.slot_mut(plugin) else { return false };
        match slot.admit_send(send, awaited, now) {
            Ok(()) => true,
            Err(why) => {
                self.refuse(plugin, why, counters);
                false
            }
        }
    }

    /// Whether a plugin may name this port as its own.
    #[must_use]
    pub fn may_name(&self, plugin: PluginIx, transport: Transport, port: u16) -> bool {
        let may = self.slot(plugin).and_then(|slot| slot.facts.as_ref()).map(|facts| &facts.may);
        may.is_some_and(|may| match transport {
            Transport::Tcp => may.has_tcp(port),
            Transport::Udp => may.has_udp(port),
        })
    }

    /// Whether it may use this UDP port.
    #[must_use]
    pub fn may_use(&self, plugin: PluginIx, port: u16) -> bool {
        self.may_name(plugin, Transport::Udp, port)
    }

    /// Counts what is not done, and tells people once which right was missing.
    pub fn refuse(&mut self, plugin: PluginIx, why: Refusal, counters: &mut Counters) {
        let right = match why {
            Refusal::Pace => return counters.add(Count::PluginPace),
            Refusal::Never => return counters.add(Count::PluginRefused),
            Refusal::Lacks(right) => right,
        };
        counters.add(Count::PluginRefused);
        let Some(slot) = self.slot_mut(plugin).filter(|slot| slot.facts.is_some()) else { return };
        if slot.warn(right) {
            let (id, key) = (slot.id.clone(), right.key());
            self.out.push_back(Out::Tell(Trouble::new(
                "plugin_refused",
                format!("the plugin `{id}` wanted more than its manifest allows (`{key}`); it was refused"),
                format!("if it needs that, its author adds it to `{key}` in plugin.toml; else `lanrage plugin remove {id}`"),
            )));
        }
    }
}

fn parcel(question: &Question<'_>) -> Parcel {
    Parcel { held: question.held, rule: question.rule, packet: question.view.bytes.to_vec() }
}

/// Whether an address is one that a plugin's own packet may go to as a broadcast.
#[must_use]
pub fn is_limited(group: Option<IpAddr>) -> bool {
    matches!(group, None | Some(IpAddr::V4(Ipv4Addr::BROADCAST)))
}
