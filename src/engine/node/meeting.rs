//! Meeting without a control plane: knocks asked and answered, and by which addresses an invite leads here.

use super::Node;
use crate::engine::counters::{Count, DropReason};
use crate::engine::direct::{DirectSetup, Standing, hub, invite_addresses};
use crate::engine::effect::Effect;
use crate::engine::knock::{Knocker, Named};
use crate::engine::path::route::Route;
use crate::engine::roster::News;
use crate::engine::sink::WanSink;
use crate::engine::tunnel::peer::Presence;
use crate::engine::tunnel::session::Session;
use crate::model::addr::{Candidate, Endpoint, Via};
use crate::model::dice::Dice;
use crate::model::id::PeerId;
use crate::model::key::PartyKeys;
use crate::model::record::{Envelope, Rotation};
use crate::model::status::{Event, LinkStatus, Trouble};
use crate::model::time::{Deadline, Mono, Now};
use crate::wire::knock::{ENVELOPE, Knock, KnockError, Rekeyed, What};
use std::net::SocketAddr;
use std::time::Duration;

/// Between looks at whether everybody is silent.
const LOOK: Duration = Duration::from_secs(10);
/// Addresses of one silent peer that are knocked at.
const OF_A_PEER: usize = 6;
/// How long the one through whom a newcomer came passes its news on: its candidates appear one by one.
const GUIDE: Duration = Duration::from_secs(120);
/// Candidates in a record that is cut to fit into a knock.
const LEAN: usize = 12;

/// What a node needs to meet others by itself.
#[derive(Debug)]
pub(super) struct Meeting {
    setup: DirectSetup,
    knocker: Knocker,
    look: Mono,
    /// What knocks carry: the record, or a shorter one where it is too long.
    envelope: Option<Envelope>,
    /// The keys of the epoch before this one, and what ended it: for members who missed that.
    before: Option<(PartyKeys, Rotation)>,
    /// What the invite names at the moment, and whether that may have changed.
    named: Vec<SocketAddr>,
    pub(super) stale: bool,
    told_outdated: bool,
}

impl Meeting {
    pub(super) fn new(setup: DirectSetup, mut dice: Dice, now: Mono) -> Self {
        let mut knocker = Knocker::new(dice.bytes(), now);
        knocker.aim(&setup.addresses, Named::Invite, now);
        Self {
            setup,
            knocker,
            look: now + LOOK,
            envelope: None,
            before: None,
            named: Vec::new(),
            stale: true,
            told_outdated: false,
        }
    }

    /// Whether the party meets through its members' tunnels.
    pub(super) const fn is_on(&self) -> bool {
        self.setup.on
    }

    /// The party was re-keyed from these keys on.
    pub(super) fn rekeyed(&mut self, before: PartyKeys, rotation: &Rotation) {
        self.before = Some((before, rotation.clone()));
    }

    /// Whether an invite named addresses.
    pub(super) const fn is_guest(&self) -> bool {
        !self.setup.addresses.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let look = self.setup.on.then(|| Deadline::new(self.look, "look"));
        Deadline::earlier(look, self.knocker.deadline())
    }
}

impl<S: Session> Node<S> {
    /// A knock came.
    pub(super) fn knocked(&mut self, from: Endpoint, wire: &[u8], now: Now, wan: &mut impl WanSink) {
        // Only the tunnel's own socket is a door to knock at.
        let Endpoint { via: Via::Main, to: from } = from else {
            return self.dropped(DropReason::BadKnock);
        };
        if self.todo.stopped || !self.meeting.knocker.admit_open(now.mono) {
            return self.dropped(DropReason::KnockFlood);
        }
        let knock = match Knock::open(wire, &self.party.keys) {
            Ok(knock) => knock,
            Err(KnockError::Form) if Rekeyed::is(wire) => return self.behind(wire, now),
            Err(KnockError::Seal) => return self.asked_of_old(from, wire, now, wan),
            Err(KnockError::Form | KnockError::Damaged) => return self.dropped(DropReason::BadKnock),
        };
        let id = knock.envelope.key.id();
        if id == self.me.id {
            return;
        }
        // A repeat of what is known needs no signature.
        let known = self.party.roster.get(id).is_some_and(|m| m.envelope == knock.envelope);
        if !known && !self.meeting.knocker.admit_signature(now.mono) {
            return self.dropped(DropReason::KnockFlood);
        }
        match knock.what {
            What::Question => self.asked(from, knock, known, now, wan),
            What::Answer if knock.token == self.meeting.knocker.token() => {
                self.answered(from, knock, now, wan);
            }
            What::Answer => self.dropped(DropReason::BadKnock),
        }
    }

    /// Maybe a member that missed the last re-keying: told, a few times a second, in the words that it can read.
    fn asked_of_old(&mut self, from: SocketAddr, wire: &[u8], now: Now, wan: &mut impl WanSink) {
        let old = self.meeting.before.as_ref();
        let asked = old.and_then(|(keys, rotation)| Some((keys, rotation, Knock::open(wire, keys).ok()?)));
        let Some((keys, rotation, knock)) = asked.filter(|(_, _, k)| k.what == What::Question) else {
            return self.dropped(DropReason::BadKnock);
        };
        let answer = Rekeyed { token: knock.token, rotation: Some(rotation.clone()) };
        let bytes = answer.seal(keys, self.dice.bytes());
        if !self.meeting.knocker.admit_answer(from, now.mono) {
            return self.dropped(DropReason::KnockFlood);
        }
        self.send_raw(Route::main(from), &bytes, now, wan);
    }

    /// The answer to our question says that the party was re-keyed meanwhile.
    fn behind(&mut self, wire: &[u8], now: Now) {
        let said = Rekeyed::open(wire, &self.party.keys).filter(|s| s.token == self.meeting.knocker.token());
        let Some(said) = said else { return self.dropped(DropReason::BadKnock) };
        match said.rotation {
            // Believed because its owner signed it, whoever brings it.
            Some(rotation) => self.rotated(&rotation, now),
            None if !std::mem::replace(&mut self.meeting.told_outdated, true) => {
                self.event(Event::Warning(Trouble::new(
                    "invite_outdated",
                    "the party's secret was changed since this invite was made",
                    "ask the host for a new invite",
                )));
            }
            None => {}
        }
    }

    /// Somebody who knows the secret asks who is here. The question may be a recording: it is no sign of life, so nobody is
    /// shown and nothing is sent but one answer, until a handshake proves more.
    fn asked(&mut self, from: SocketAddr, knock: Knock, known: bool, now: Now, wan: &mut impl WanSink) {
        let id = knock.envelope.key.id();
        // Also of a known peer: a record older than the known one is not checked on the way in.
        if !known && knock.envelope.check(self.party.id).is_err() {
            return self.dropped(DropReason::BadKnock);
        }
        if !self.meeting.knocker.admit_answer(from, now.mono) {
            return self.dropped(DropReason::KnockFlood);
        }
        let news = if known { None } else { self.learn(knock.envelope, false, now) };
        self.check_seat(now);
        if news.is_some_and(|(_, news)| news == News::Joined)
            && let Some(peer) = self.peers.get_mut(id)
        {
            peer.guided = Some(now.mono);
        }
        self.spread(news, id, now);
        if self.send_knock(from, What::Answer, knock.token, now, wan) {
            self.counters.add(Count::KnocksAnswered);
        }
    }

    /// A member answers our question, so it is there now.
    fn answered(&mut self, from: SocketAddr, knock: Knock, now: Now, wan: &mut impl WanSink) {
        let id = knock.envelope.key.id();
        if knock.envelope.check(self.party.id).is_err() {
            return self.dropped(DropReason::BadKnock);
        }
        self.meeting.knocker.answered(from);
        let news = self.learn(knock.envelope, true, now);
        self.spread(news, id, now);
        self.check_seat(now);
        let Some(at) = self.peers.at(id) else { return };
        if let Some(peer) = self.peers.list.get_mut(at) {
            peer.agent.found(from, self.world.ground(), now.mono);
            peer.agent.wanted(now.mono);
        }
        if self.links.is_empty() {
            self.say_ready();
        }
        self.run_agent(at, now, wan);
    }

    fn send_knock(
        &mut self,
        to: SocketAddr,
        what: What,
        token: [u8; 8],
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        let envelope = self.knock_envelope();
        let sealed = Knock { what, token, envelope }.seal(&self.party.keys, self.dice.bytes());
        // A record of this node's own making always fits when it is cut.
        let Some(bytes) = sealed else { return false };
        self.send_raw(Route::main(to), &bytes, now, wan)
    }

    /// The record, or one with fewer addresses and no games where that is too long. The shorter one has a number of its own just
    /// below, so that the whole one replaces it wherever both are seen.
    fn knock_envelope(&mut self) -> Envelope {
        let whole = self.own_envelope();
        if let Some(made) = self.meeting.envelope.as_ref() {
            let same = made.epoch == whole.epoch && (made.seq == whole.seq || made.seq + 1 == whole.seq);
            if same {
                return made.clone();
            }
        }
        let fits = postcard::to_allocvec(&whole).is_ok_and(|bytes| bytes.len() <= ENVELOPE);
        let made = if fits { whole } else { self.seal_lean(LEAN) };
        self.meeting.envelope = Some(made.clone());
        made
    }

    /// Knocks wherever it is time to, and looks for what else could be knocked at.
    pub(super) fn run_meeting(&mut self, now: Now, wan: &mut impl WanSink) {
        if self.meeting.setup.on && self.meeting.look <= now.mono {
            self.meeting.look = now.mono.next_beat(LOOK);
            self.look_for_silent(now.mono);
        }
        while let Some(to) = self.meeting.knocker.poll(now.mono) {
            let token = self.meeting.knocker.token();
            if self.send_knock(to, What::Question, token, now, wan) {
                self.counters.add(Count::KnocksSent);
            }
        }
    }

    /// When no control plane works: known peers that are silent may have forgotten us, and when nobody is here at all the
    /// invite's addresses are the last hope.
    fn look_for_silent(&mut self, now: Mono) {
        if self.links.iter().any(|(link, _)| link.is_online()) {
            return;
        }
        let silent = |p: Presence| matches!(p, Presence::Connecting | Presence::Away);
        let ids: Vec<PeerId> = self.peers.list.iter().filter(|p| silent(p.presence)).map(|p| p.id).collect();
        for id in ids {
            let Some(member) = self.party.roster.get(id) else { continue };
            let all = self.usable(&member.record.candidates);
            let some: Vec<SocketAddr> = all.iter().map(|c| c.addr).take(OF_A_PEER).collect();
            self.meeting.knocker.aim(&some, Named::Record, now);
        }
        if self.peers.list.iter().all(|p| p.presence != Presence::Here) {
            let addresses = self.meeting.setup.addresses.clone();
            self.meeting.knocker.aim(&addresses, Named::Invite, now);
        }
    }

    /// Beacons of members were seen on this network. Whoever is reached there already need not be asked.
    pub(super) fn beacons(&mut self, addresses: &[SocketAddr], now: Mono) {
        let reached = |to: &SocketAddr| {
            self.peers.list.iter().any(|p| p.outbound.up && p.agent.routes().any(|a| a == Route::main(*to)))
        };
        let new: Vec<SocketAddr> =
            addresses.iter().filter(|to| self.may_be_tried(to) && !reached(to)).copied().collect();
        self.meeting.knocker.aim(&new, Named::Beacon, now);
    }

    /// After this node's candidates changed, or who is here and how: who passes packets on, and what should an invite through this node name?
    pub(super) fn update_meeting(&mut self, now: Now) {
        if !std::mem::take(&mut self.meeting.stale) {
            return;
        }
        self.update_friends(now);
        if !self.meeting.setup.on {
            return;
        }
        let other = self.hub_now().filter(|id| *id != self.me.id);
        let others: Vec<Candidate> = other
            .and_then(|id| self.party.roster.get(id))
            .map(|m| self.usable(&m.record.candidates))
            .unwrap_or_default();
        let named = invite_addresses(&self.candidates(), &others);
        if named != self.meeting.named {
            self.meeting.named.clone_from(&named);
            self.effects.push_back(Effect::Invite(named));
        }
    }

    /// Who looks after newcomers now: this node, or somebody it hears.
    pub(super) fn hub_now(&self) -> Option<PeerId> {
        let me = Standing {
            peer: self.me.id,
            owner: self.party.owned_slot.is_some(),
            seat: self.me.seat,
            since: self.me.seat_since,
        };
        let here = self.peers.list.iter().filter(|p| p.presence == Presence::Here);
        let others = here.filter_map(|p| {
            let record = &self.party.roster.get(p.id)?.record;
            Some(Standing { peer: p.id, owner: p.owner, seat: record.seat, since: record.seat_since })
        });
        hub(others.chain([me]))
    }

    /// Whether this node passes on at once what it hears from and about this peer.
    pub(super) fn passes_on(&self, id: PeerId, now: Mono) -> bool {
        let guided = self.peers.get(id).and_then(|p| p.guided);
        guided.is_some_and(|at| now.since(at) < GUIDE) || self.hub_now() == Some(self.me.id)
    }

    /// How meeting without a control plane goes, for people.
    pub(super) fn direct_status(&self) -> Option<LinkStatus> {
        if !self.meeting.setup.on {
            return None;
        }
        let waits: Vec<String> = self.meeting.knocker.unanswered().map(|a| a.to_string()).collect();
        let here = self.peers.list.iter().any(|p| p.presence == Presence::Here);
        let (state, why) = if waits.is_empty() || here {
            ("online", None)
        } else {
            let why = format!(
                "no answer yet from {}; is lanrage running there, and the invite still good?",
                waits.join(", ")
            );
            ("connecting", Some(why))
        };
        Some(LinkStatus { control: "direct".to_owned(), state: state.to_owned(), why })
    }
}
