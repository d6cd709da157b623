//! The party: records from wherever they come, seats, and this node's own record.

use super::Node;
use crate::engine::counters::DropReason;
use crate::engine::path::agent::Agent;
use crate::engine::path::punch::Punch;
use crate::engine::roster::{News, RosterError};
use crate::engine::tunnel::peer::{Peer, Presence};
use crate::engine::tunnel::session::{Session, SessionSetup};
use crate::model::addr::{Candidate, CandidateKind, Card, Seat};
use crate::model::id::{PartyId, PeerId};
use crate::model::key::{PeerKey, TunnelKey};
use crate::model::limits;
use crate::model::record::{Envelope, PeerRecord};
use crate::model::status::{Event, Trouble};
use crate::model::time::Now;
use std::net::{IpAddr, SocketAddr};

/// News of oneself wait this long before they go to the others: they mostly come several at a time.
pub(super) const GREET_AFTER: std::time::Duration = std::time::Duration::from_millis(2);

impl<S: Session> Node<S> {
    /// A record came; what it meant, if it was taken. `live` when a control plane or a peer says it now: then people are
    /// shown whose it is. Else (a knock, which may be a recording) a handshake has to prove it first.
    pub(super) fn learn(&mut self, envelope: Envelope, live: bool, now: Now) -> Option<(PeerId, News)> {
        self.catch_up(&envelope);
        let mut outcome = self.party.roster.learn(envelope.clone(), &self.party.keys);
        if outcome == Err(RosterError::Full) && self.forget_longest_gone() {
            outcome = self.party.roster.learn(envelope, &self.party.keys);
        }
        match outcome {
            Ok((id, news)) => {
                if news != News::Old {
                    self.meet(id, now);
                    self.todo.remember = true;
                }
                if live {
                    self.show(id, news, now);
                }
                Some((id, news))
            }
            // Our own record comes back from every control plane.
            Err(RosterError::Own) => None,
            Err(error) => {
                tracing::debug!(%error, "a record was not taken");
                self.dropped(DropReason::BadRecord);
                None
            }
        }
    }

    /// A record of our own with a higher number: our memory was lost and the clock is slow. Later ones must be newer, or
    /// no control plane takes them.
    fn catch_up(&mut self, envelope: &Envelope) {
        let ours = envelope.key == self.me.keys.key() && envelope.seq > self.me.seq;
        if ours && envelope.check(self.party.id).is_ok() {
            self.me.seq = envelope.seq;
            self.todo.publish = true;
        }
    }

    /// Makes room for somebody new: of those who are not here, the one whose record is oldest is remembered no more.
    fn forget_longest_gone(&mut self) -> bool {
        let gone = self.peers.list.iter().filter(|p| p.presence == Presence::Dormant);
        let seq = |id: &PeerId| self.party.roster.get(*id).map(|m| m.envelope.seq);
        let Some(id) = gone.map(|p| p.id).min_by_key(seq) else { return false };
        self.forget_peer(id);
        self.reindex();
        true
    }

    /// Forgets a peer; its place in the list is another's until `reindex`.
    pub(super) fn forget_peer(&mut self, id: PeerId) {
        if let Some(at) = self.peers.at(id) {
            let removed = self.peers.list.remove(at);
            // Whoever gets this seat next inherits nothing.
            removed.seat.into_iter().for_each(|seat| self.lan.firewall.forget(seat));
        }
        self.party.roster.remove(id);
    }

    /// Makes or updates the peer of a new record.
    pub(super) fn meet(&mut self, id: PeerId, now: Now) {
        let Some(member) = self.party.roster.get(id).cloned() else { return };
        let candidates = self.usable(&member.record.candidates);
        let at = self.peers.at(id).unwrap_or_else(|| {
            let setup = self.session_setup(&member.key, member.record.tunnel);
            let eager = self.me.id < id;
            let agent = Agent::new(eager, self.knobs.beat(), self.dice.u64() >> 1, now.mono);
            let punch = Punch::new(eager, self.seed.dice(&format!("punch {}", setup.index)));
            let mut peer = Peer::new(&member, setup, (agent, punch), now);
            // A party's name is its owner's and a slot's; only the owner knows the slot for sure.
            peer.owner = (0..=u8::MAX).any(|slot| PartyId::of(id, slot) == self.party.id);
            self.peers.list.push(peer);
            self.peers.list.len() - 1
        });
        let moved = self.peers.list.get(at).is_some_and(|p| p.tunnel != member.record.tunnel);
        let setup = moved.then(|| self.session_setup(&member.key, member.record.tunnel));
        if let Some(peer) = self.peers.list.get_mut(at) {
            if let Some(setup) = setup {
                peer.renew(setup, now);
            }
            peer.nat = member.record.nat;
            // It may play something else now.
            peer.outbound.games.renew();
            peer.agent.set_candidates(&candidates, self.world.ground_for(peer.lent), now.mono);
        }
        self.relays.permit(&candidates, now.mono);
        self.meeting.stale = true;
        self.reindex();
    }

    /// A control plane (or the peer itself) says that this peer is in the party now.
    fn show(&mut self, id: PeerId, news: News, now: Now) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if news != News::Old {
            peer.since = now.mono;
        }
        if peer.presence == Presence::Dormant && !(news == News::Old && peer.written_off) {
            peer.presence = Presence::Connecting;
            peer.written_off = false;
            peer.since = now.mono;
            peer.agent.call(now.mono);
            self.say_joined(id);
        }
    }

    pub(super) fn say_joined(&mut self, id: PeerId) {
        let Some(member) = self.party.roster.get(id) else { return };
        let event = Event::PeerJoined {
            peer: id,
            name: member.record.name.clone(),
            address: IpAddr::V4(self.party.subnet.v4(member.record.seat)),
        };
        self.event(event);
    }

    /// Addresses of a record that may be tried: nothing inside the party's own network, nothing that is no host.
    pub(super) fn usable(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        candidates.iter().filter(|c| self.may_be_tried(&c.addr)).copied().collect()
    }

    /// Nothing inside the party's own network, nothing that is no host.
    pub(super) fn may_be_tried(&self, to: &SocketAddr) -> bool {
        match to.ip() {
            _ if to.port() == 0 => false,
            IpAddr::V4(a) => {
                !(a.is_unspecified() || a.is_broadcast() || a.is_multicast() || self.party.subnet.contains(a))
            }
            IpAddr::V6(a) => {
                let seat = self.party.subnet.seat_of_v6(self.party.id, a);
                !(a.is_unspecified() || a.is_multicast() || a.is_unicast_link_local() || seat.is_some())
            }
        }
    }

    pub(super) fn session_setup(&mut self, key: &PeerKey, tunnel: TunnelKey) -> SessionSetup {
        let psk = self.party.keys.psk(&self.me.keys.key(), key);
        let index = loop {
            let index = self.dice.u32() >> 8;
            if !self.peers.by_index.contains_key(&index) && self.peers.list.iter().all(|p| p.index != index) {
                break index;
            }
        };
        let seed = self.seed.fork(&format!("session {index}"));
        SessionSetup { keys: self.me.keys.clone(), peer: tunnel, psk, index, seed }
    }

    /// Who holds which seat changed, or who is in the list.
    pub(super) fn reindex(&mut self) {
        let seats = self.party.roster.seats();
        self.peers.by_seat = [None; 256];
        self.peers.by_index.clear();
        for (at, peer) in self.peers.list.iter_mut().enumerate() {
            self.peers.by_index.insert(peer.index, at);
            let seat = self.party.roster.get(peer.id).map(|m| m.record.seat);
            let holds = seat.filter(|s| seats.get(s) == Some(&peer.id) && *s != self.me.seat);
            if peer.seat != holds {
                if let Some(old) = peer.seat {
                    self.lan.firewall.forget(old);
                    // Its announcements come from another address now.
                    self.lan.repeats.forget(|game| game.0 == peer.id);
                }
                self.scripts.members_changed();
                peer.seat = holds;
            }
            if let (Some(seat), Ok(at)) = (holds, u8::try_from(at))
                && let Some(slot) = self.peers.by_seat.get_mut(usize::from(seat.0))
            {
                *slot = Some(at);
            }
        }
    }

    pub(super) fn choose_seat(&mut self, had: Option<(Seat, u64)>, now: Now) {
        let seat = self.party.roster.my_seat(self.party.id, had);
        self.me.seat_since = had.filter(|(s, _)| *s == seat).map_or(now.unix.as_secs(), |(_, since)| since);
        self.me.seat = seat;
        self.lan.repeats.forget(|_| true);
        self.reindex();
    }

    /// After records came: does this node still hold its seat?
    pub(super) fn check_seat(&mut self, now: Now) {
        // Nobody has seen our claim yet: whoever sits there already keeps the seat, whatever the clocks say.
        let since = if self.me.unseen { u64::MAX } else { self.me.seat_since };
        let had = (self.me.seat, since);
        if self.party.roster.my_seat(self.party.id, Some(had)) == had.0 {
            return;
        }
        self.choose_seat(Some(had), now);
        self.configure_lan();
        self.todo.publish = true;
        self.todo.remember = true;
        let (v4, _) = self.addresses();
        if self.todo.ready_by.is_none() {
            self.event(Event::Warning(Trouble::new(
                "address_changed",
                format!("another player had this address first; yours is {v4} now"),
                "open your world again if friends cannot join it",
            )));
        }
    }

    pub(super) fn cards_changed(&mut self, cards: Vec<Card>, now: Now) {
        if self.world.cards == cards {
            return;
        }
        self.world.cards = cards;
        self.todo.publish = true;
        self.world_shook(now);
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let mut list = Vec::new();
        let mut add = |addr: SocketAddr| {
            let candidate = Candidate { addr, kind: CandidateKind::Host };
            if list.len() < limits::CANDIDATES && !list.contains(&candidate) {
                list.push(candidate);
            }
        };
        for socket in &self.world.sockets {
            if !socket.ip().is_unspecified() {
                add(*socket);
                continue;
            }
            for net in self.world.cards.iter().flat_map(|c| &c.nets) {
                if net.addr.is_ipv4() == socket.is_ipv4() {
                    add(SocketAddr::new(net.addr, socket.port()));
                }
            }
        }
        let mut list = self.usable(&list);
        for candidate in self.nat.candidates().into_iter().chain(self.relays.candidates()) {
            if list.len() < limits::CANDIDATES && list.iter().all(|c| c.addr != candidate.addr) {
                list.push(candidate);
            }
        }
        list
    }

    pub(super) fn publish(&mut self, now: Now) {
        self.todo.publish = false;
        self.meeting.stale = true;
        self.todo.remember = true;
        // Two on: the number between is that of the shorter record in knocks.
        self.me.seq = (self.me.seq + 2).max(now.unix_ms());
        let envelope = self.seal_record();
        for (link, _) in &mut self.links {
            link.publish(&envelope);
        }
        self.me.envelope = Some(envelope);
        for peer in self.peers.list.iter_mut().filter(|p| p.outbound.up) {
            peer.outbound.greeted = false;
            self.todo.greet = Some(now.mono + GREET_AFTER);
        }
    }

    /// This node's newest record. Sealed once: two different envelopes with one number are a lie to a control plane.
    pub(super) fn own_envelope(&mut self) -> Envelope {
        self.me.unseen = false;
        self.me.envelope.clone().unwrap_or_else(|| self.seal_record())
    }

    fn seal_record(&mut self) -> Envelope {
        let record = self.record();
        Envelope::seal(&record, &self.me.keys, &self.party.keys, self.me.seq, self.dice.bytes())
    }

    /// A shorter record, for a knock, with the number below that of the whole one.
    pub(super) fn seal_lean(&mut self, candidates: usize) -> Envelope {
        let mut record = self.record();
        record.candidates.truncate(candidates);
        record.games.clear();
        Envelope::seal(&record, &self.me.keys, &self.party.keys, self.me.seq - 1, self.dice.bytes())
    }

    fn record(&self) -> PeerRecord {
        PeerRecord {
            name: self.me.name.clone(),
            tunnel: self.me.keys.tunnel_key(),
            seat: self.me.seat,
            seat_since: self.me.seat_since,
            candidates: self.candidates(),
            nat: self.nat.facts(),
            games: self.lan.rules.profiles().iter().take(limits::GAMES).cloned().collect(),
            incarnation: self.me.incarnation,
            friend: self.forwarder.is_on(),
        }
    }
}
