//! Messages between peers, goodbyes, and re-keying: how somebody is removed for good.

use super::Node;
use super::rekeying::{Late, Rekeying};
use super::roster::RosterMessage;
use crate::engine::counters::DropReason;
use crate::engine::effect::Effect;
use crate::engine::lan::pace::Bucket;
use crate::engine::sink::WanSink;
use crate::engine::tunnel::session::Session;
use crate::model::id::PeerId;
use crate::model::key::{PartyKeys, PartySecret, TunnelKey};
use crate::model::record::Rotation;
use crate::model::status::{Event, Trouble};
use crate::model::time::Now;
use crate::rules::ruleset::Pace;
use crate::wire::control::PeerMessage;

/// Messages of one peer that are looked at.
const MESSAGES: Pace = Pace { per_second: 10, burst: 40 };

impl<S: Session> Node<S> {
    pub(super) fn peer_message(&mut self, at: usize, message: PeerMessage, now: Now) {
        // Each may cost the check of a signature, whoever is behind it.
        let bucket = self.peers.list.get_mut(at).map(|p| &mut p.inbound.messages);
        if !bucket.is_some_and(|b| {
            b.get_or_insert_with(|| Bucket::new(MESSAGES, now.mono)).take(MESSAGES, now.mono)
        }) {
            return self.dropped(DropReason::Flood);
        }
        match message {
            PeerMessage::Record(envelope) => {
                self.roster_message(at, RosterMessage::Records(vec![envelope]), now)
            }
            PeerMessage::Rotation(rotation) => self.rotated(&rotation, now),
            PeerMessage::Bye => self.peer_is_gone(at, "said goodbye", true, now),
            PeerMessage::Games(list) => self.games_told(at, list, now),
            PeerMessage::GamesSeen(number) => {
                if let Some(peer) = self.peers.list.get_mut(at) {
                    peer.outbound.games.arrived(number);
                }
            }
            PeerMessage::Punch(signal) => self.punch_signal(at, signal, now),
            PeerMessage::Roster(list) => self.roster_message(at, RosterMessage::Records(list), now),
            PeerMessage::Known { held, ask } => self.roster_message(at, RosterMessage::Known(held, ask), now),
            PeerMessage::Sum(sum) => self.roster_message(at, RosterMessage::Sum(sum), now),
        }
    }

    pub(super) fn leave(&mut self, now: Now, wan: &mut impl WanSink) {
        for at in 0..self.peers.list.len() {
            self.send_message(at, &PeerMessage::Bye, now, wan);
        }
        for (link, _) in &mut self.links {
            link.leave();
        }
        self.drain_links(now);
        self.stop(None);
    }

    pub(super) fn stop(&mut self, trouble: Option<Trouble>) {
        if !std::mem::replace(&mut self.todo.stopped, true) {
            self.effects.push_back(Effect::Stop { trouble });
        }
    }

    pub(super) fn kick(&mut self, id: PeerId, now: Now, wan: &mut impl WanSink) {
        let Some(slot) = self.party.owned_slot else {
            return self.event(Event::Error(Trouble::new(
                "only_the_host",
                "only the party's host can remove a player",
                "ask the player who made the party",
            )));
        };
        if self.party.roster.get(id).is_none() {
            return self.event(Event::Error(Trouble::new(
                "no_such_peer",
                format!("there is no player {id} in the party"),
                "`lanrage status` lists the players",
            )));
        }
        let epoch = self.party.keys.epoch() + 1;
        let secret = PartySecret(self.dice.bytes());
        // The owner stays too: if this computer dies before the new secret is kept, a control plane still has it.
        let me = (self.me.id, self.me.keys.tunnel_key());
        let others = self.party.roster.iter().filter(|(p, _)| *p != id).map(|(p, m)| (p, m.record.tunnel));
        let stay: Vec<(PeerId, TunnelKey)> = std::iter::once(me).chain(others).collect();
        let dice = &mut self.dice;
        let rotation = Rotation::seal(&self.me.keys, slot, epoch, &secret, &stay, || dice.bytes());
        let message = PeerMessage::Rotation(rotation.clone());
        // Also to who is removed: without a grant in it, it learns that and no more.
        for at in 0..self.peers.list.len() {
            self.send_message(at, &message, now, wan);
        }
        for (link, _) in &mut self.links {
            link.rotate(&rotation);
        }
        self.drain_links(now);
        self.rekey(&rotation, secret, now);
        self.party.rotation = Some(rotation);
    }

    pub(super) fn rotated(&mut self, rotation: &Rotation, now: Now) {
        if rotation.epoch <= self.party.keys.epoch() {
            return;
        }
        if !rotation.is_of(self.party.id) {
            return self.dropped(DropReason::BadRecord);
        }
        match rotation.open(&self.me.keys) {
            Some(secret) => {
                self.rekey(rotation, secret, now);
                self.party.rotation = self.party.owned_slot.map(|_| rotation.clone());
            }
            None => self.stop(Some(Trouble::new(
                "removed",
                "the host removed you from the party",
                "ask the host for a new invite if this was a mistake",
            ))),
        }
    }

    /// Everything that hangs on the party's secret starts over: pre-shared keys, records, sign-ins.
    fn rekey(&mut self, rotation: &Rotation, secret: PartySecret, now: Now) {
        let keys = PartyKeys::new(self.party.id, rotation.epoch, &secret);
        let before = std::mem::replace(&mut self.party.keys, keys);
        self.meeting.rekeyed(before, rotation);
        let stays = |id: PeerId| rotation.owner.id() == id || rotation.grants.iter().any(|g| g.peer == id);
        let gone: Vec<PeerId> = self.party.roster.iter().map(|(id, _)| id).filter(|id| !stays(*id)).collect();
        for id in gone {
            if let Some(at) = self.peers.at(id) {
                self.peer_is_gone(at, "was removed from the party by the host", true, now);
            }
            self.forget_peer(id);
        }
        let mut late = Vec::new();
        for at in 0..self.peers.list.len() {
            let Some((key, tunnel)) = self.peers.list.get(at).map(|p| (p.key, p.tunnel)) else { continue };
            let setup = self.session_setup(&key, tunnel);
            if let Some(peer) = self.peers.list.get_mut(at) {
                let route = peer.agent.primary().filter(|_| peer.outbound.up);
                let session = peer.renew(setup, now);
                late.extend(route.map(|route| Late { id: peer.id, session, route }));
            }
        }
        self.rekeying = Rekeying::new(rotation.clone(), late, self.party.owned_slot.is_some(), now.mono);
        self.reindex();
        self.effects.push_back(Effect::Rekeyed { epoch: rotation.epoch, secret });
        self.todo.publish = true;
        for (link, _) in &mut self.links {
            link.reopen(now.mono);
        }
    }
}
