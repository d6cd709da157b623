//! The roster inside the tunnels: who is told what about the others (`engine::gossip` reckons what is owed).

use super::Node;
use crate::engine::counters::{Count, DropReason};
use crate::engine::gossip::{Owed, sum};
use crate::engine::parts::{WHOLE, split};
use crate::engine::roster::News;
use crate::engine::sink::WanSink;
use crate::engine::tunnel::peer::{Peer, Presence};
use crate::engine::tunnel::session::Session;
use crate::model::id::PeerId;
use crate::model::limits;
use crate::model::record::Envelope;
use crate::model::time::Now;
use crate::wire::control::PeerMessage;
use crate::wire::frame::{Frame, FrameKind, HEADER};
use std::collections::BTreeMap;

impl<S: Session> Node<S> {
    /// A peer tells what it knows of the others.
    pub(super) fn roster_message(&mut self, at: usize, message: RosterMessage, now: Now) {
        let Some(from) = self.peers.list.get(at).map(|p| p.id) else { return };
        match message {
            RosterMessage::Records(envelopes) => {
                for envelope in envelopes {
                    let learned = self.learn(envelope, true, now);
                    self.spread(learned, from, now);
                }
                self.check_seat(now);
            }
            RosterMessage::Known(held, ask) => {
                let held: BTreeMap<PeerId, u64> = held.into_iter().take(limits::PEERS).collect();
                let mine = self.held();
                let lacks =
                    |(id, seq): &(&PeerId, &u64)| **id != from && held.get(id).is_none_or(|h| h < *seq);
                let missing: Vec<PeerId> = mine.iter().filter(lacks).map(|(id, _)| *id).collect();
                self.gossip.owe_records(from, missing, now.mono);
                let behind = |id: &PeerId| {
                    if *id == self.me.id {
                        Some(self.me.seq)
                    } else {
                        self.party.roster.get(*id).map(|m| m.envelope.seq)
                    }
                };
                if ask && held.iter().any(|(id, seq)| behind(id).is_none_or(|mine| mine < *seq)) {
                    self.gossip.owe_known(from, false, now.mono);
                }
            }
            RosterMessage::Sum(theirs) => {
                if theirs != sum(&self.held()) {
                    self.gossip.owe_known(from, true, now.mono);
                }
            }
        }
    }

    /// Something was learned from a peer (or by a knock): others may not hear it by themselves.
    pub(super) fn spread(&mut self, learned: Option<(PeerId, News)>, from: PeerId, now: Now) {
        let Some((id, News::Joined | News::Changed)) = learned else { return };
        self.gossip.news(now.mono);
        if !self.passes_on(id, now.mono) {
            return;
        }
        let others = self.peers.list.iter().filter(|p| p.outbound.up && p.id != from && p.id != id);
        let others: Vec<PeerId> = others.map(|p| p.id).collect();
        for other in others {
            self.gossip.owe_records(other, [id], now.mono);
        }
    }

    /// A session is up and has a path: compare what both ends know.
    pub(super) fn compare(&mut self, at: usize, now: Now) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        if peer.outbound.up && !peer.outbound.compared && peer.agent.primary().is_some() {
            peer.outbound.compared = true;
            self.gossip.greet(peer.id, now.mono);
            self.gossip.news(now.mono);
        }
    }

    /// Whose records this node passes on, and their numbers: its own and those of whom it hears itself.
    fn held(&self) -> BTreeMap<PeerId, u64> {
        let here = |p: &&Peer<S>| matches!(p.presence, Presence::Here | Presence::Away);
        let others = self.peers.list.iter().filter(here);
        let others = others.filter_map(|p| Some((p.id, self.party.roster.get(p.id)?.envelope.seq)));
        others.chain([(self.me.id, self.me.seq)]).collect()
    }

    /// Tells what is owed.
    pub(super) fn run_gossip(&mut self, now: Now, wan: &mut impl WanSink) {
        if !self.gossip.is_due(now.mono) {
            return;
        }
        let up: Vec<PeerId> = self.peers.list.iter().filter(|p| p.outbound.up).map(|p| p.id).collect();
        self.gossip.tick(up, now.mono);
        let mut held_back = Vec::new();
        while let Some((to, owed)) = self.gossip.poll() {
            let Some(at) = self.peers.list.iter().position(|p| p.id == to && p.outbound.up) else { continue };
            let left = self.tell(at, owed, now, wan);
            if left != Owed::default() {
                held_back.push((to, left));
            }
        }
        for (to, left) in held_back {
            self.gossip.hold(to, left, now.mono);
        }
    }

    /// Tells one peer what it is owed; what the pace holds back is given back.
    fn tell(&mut self, at: usize, owed: Owed, now: Now, wan: &mut impl WanSink) -> Owed {
        let mut left = owed;
        if let Some(ask) = left.known {
            if !self.gossip.admit(now.mono) {
                return left;
            }
            let held = self.held().into_iter().collect();
            self.send_message(at, &PeerMessage::Known { held, ask }, now, wan);
            (left.known, left.sum) = (None, false);
        }
        if left.sum {
            if !self.gossip.admit(now.mono) {
                return left;
            }
            let message = PeerMessage::Sum(sum(&self.held()));
            self.mention(at, &message, now, wan);
            left.sum = false;
        }
        while !left.records.is_empty() {
            if !self.gossip.admit(now.mono) {
                return left;
            }
            let mut bytes = 0;
            let mut batch: Vec<Envelope> = Vec::new();
            while let Some(id) = left.records.first().copied() {
                let Some(envelope) = self.record_of(id) else {
                    left.records.remove(&id);
                    continue;
                };
                bytes += postcard::to_allocvec(&envelope).map_or(usize::MAX / 2, |b| b.len());
                // One that is too long by itself goes alone, in parts.
                if bytes > WHOLE - 8 && !batch.is_empty() {
                    break;
                }
                left.records.remove(&id);
                batch.push(envelope);
            }
            if !batch.is_empty() {
                self.counters.add_n(Count::RecordsPassed, batch.len() as u64);
                self.send_message(at, &PeerMessage::Roster(batch), now, wan);
            }
        }
        left
    }

    fn record_of(&mut self, id: PeerId) -> Option<Envelope> {
        if id == self.me.id {
            return Some(self.own_envelope());
        }
        self.party.roster.get(id).map(|m| m.envelope.clone())
    }

    /// Seals a message for a peer, in parts where it is too long for one frame.
    pub(super) fn send_message(
        &mut self,
        at: usize,
        message: &PeerMessage,
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        let frames = self.frames_of(message);
        !frames.is_empty() && frames.iter().all(|frame| self.seal_to(at, None, frame, now, wan))
    }

    /// Tells what is told again anyhow and mostly not answered: that nothing comes back says nothing about the path, and is no
    /// reason to ask it.
    fn mention(&mut self, at: usize, message: &PeerMessage, now: Now, wan: &mut impl WanSink) {
        let by = self.peers.list.get(at).and_then(|peer| peer.agent.primary());
        for frame in self.frames_of(message) {
            self.seal_to(at, by, &frame, now, wan);
        }
    }

    /// A message as one frame, or as several where it is too long; none where it is too long for all parts.
    pub(super) fn frames_of(&mut self, message: &PeerMessage) -> Vec<Vec<u8>> {
        let Ok(body) = postcard::to_allocvec(message) else { return Vec::new() };
        let (frame, bodies) = if body.len() <= WHOLE {
            (self.own_frame(FrameKind::Message, 0), vec![body])
        } else {
            let number = self.gossip.number();
            (self.own_frame(FrameKind::Part, number), split(&body))
        };
        if bodies.is_empty() {
            self.dropped(DropReason::TooBig);
        }
        let whole = |body: &Vec<u8>| {
            let mut room = vec![0; HEADER];
            frame.write(&mut room, body.len()).then(|| [&room[..], body].concat())
        };
        bodies.iter().filter_map(whole).collect()
    }

    /// A message of a peer, or a part of one, lies in the first bytes of `scratch`.
    pub(super) fn message_frame(&mut self, at: usize, len: usize, now: Now) {
        let Some((frame, body)) = self.scratch.get(..len).and_then(Frame::read) else { return };
        let whole = if frame.kind == FrameKind::Part {
            let Some(peer) = self.peers.list.get_mut(at) else { return };
            match peer.inbound.parts.take(frame.number, body) {
                Some(whole) => postcard::from_bytes::<PeerMessage>(&whole),
                None => return,
            }
        } else {
            postcard::from_bytes::<PeerMessage>(body)
        };
        match whole {
            Ok(message) => self.peer_message(at, message, now),
            Err(_) => self.dropped(DropReason::BadFrame),
        }
    }
}

/// What a peer says about the others.
#[derive(Debug)]
pub(super) enum RosterMessage {
    /// Newest records.
    Records(Vec<Envelope>),
    /// What it holds, and whether it wants to know the same.
    Known(Vec<(PeerId, u64)>, bool),
    /// The sum of that.
    Sum(u64),
}
