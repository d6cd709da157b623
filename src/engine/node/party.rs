//! The party: records from wherever they come, seats, control planes, goodbyes, and re-keying.

use super::Node;
use crate::engine::counters::DropReason;
use crate::engine::effect::{Effect, Memory};
use crate::engine::lan::pace::Bucket;
use crate::engine::link::{Identity, LinkAction};
use crate::engine::path::agent::Agent;
use crate::engine::roster::{News, RosterError};
use crate::engine::sink::WanSink;
use crate::engine::tunnel::peer::{Peer, Presence};
use crate::engine::tunnel::session::{Session, SessionSetup};
use crate::model::addr::{Candidate, CandidateKind, Card, Seat};
use crate::model::id::{LinkId, PeerId};
use crate::model::key::{PartyKeys, PartySecret, PeerKey, TunnelKey};
use crate::model::limits;
use crate::model::record::{Envelope, PeerRecord, Rotation};
use crate::model::status::{Event, Mode, Trouble};
use crate::model::time::Now;
use crate::rules::ruleset::Pace;
use crate::wire::control::{Down, PeerMessage};
use crate::wire::frame::FrameKind;
use std::net::{IpAddr, SocketAddr};

/// Messages of one peer that are looked at.
const MESSAGES: Pace = Pace { per_second: 10, burst: 40 };

impl<S: Session> Node<S> {
    // ---- records ---------------------------------------------------------------------------------------------

    /// A record came. `live` when a control plane or the peer itself says it now (not our memory).
    fn learn(&mut self, envelope: Envelope, live: bool, now: Now) {
        self.catch_up(&envelope);
        match self.party.roster.learn(envelope, &self.party.keys) {
            Ok((id, news)) => {
                if news != News::Old {
                    self.meet(id, now);
                    self.todo.remember = true;
                }
                if live {
                    self.show(id, news, now);
                }
            }
            // Our own record comes back from every control plane.
            Err(RosterError::Own) => {}
            Err(error) => {
                tracing::debug!(%error, "a record was not taken");
                self.dropped(DropReason::BadRecord);
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

    /// Makes or updates the peer of a new record.
    pub(super) fn meet(&mut self, id: PeerId, now: Now) {
        let Some(member) = self.party.roster.get(id).cloned() else { return };
        let candidates = self.usable(&member.record.candidates);
        let at = self.peers.list.iter().position(|p| p.id == id).unwrap_or_else(|| {
            let setup = self.session_setup(&member.key, member.record.tunnel);
            let agent = Agent::new(self.me.id < id, self.knobs.keepalive, self.dice.u64() >> 1, now.mono);
            self.peers.list.push(Peer::new(&member, setup, agent, now));
            self.peers.list.len() - 1
        });
        let moved = self.peers.list.get(at).is_some_and(|p| p.tunnel != member.record.tunnel);
        let setup = moved.then(|| self.session_setup(&member.key, member.record.tunnel));
        if let Some(peer) = self.peers.list.get_mut(at) {
            if let Some(setup) = setup {
                peer.renew(setup, now);
            }
            peer.agent.set_candidates(&candidates, &self.world.cards, now.mono);
        }
        self.reindex();
    }

    /// A control plane (or the peer itself) says that this peer is in the party now.
    fn show(&mut self, id: PeerId, news: News, now: Now) {
        let Some(peer) = self.peers.list.iter_mut().find(|p| p.id == id) else { return };
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
    fn usable(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let ok = |c: &Candidate| match c.addr.ip() {
            _ if c.addr.port() == 0 => false,
            IpAddr::V4(a) => {
                !(a.is_unspecified() || a.is_broadcast() || a.is_multicast() || self.party.subnet.contains(a))
            }
            IpAddr::V6(a) => {
                let seat = self.party.subnet.seat_of_v6(self.party.id, a);
                !(a.is_unspecified() || a.is_multicast() || a.is_unicast_link_local() || seat.is_some())
            }
        };
        candidates.iter().filter(|c| ok(c)).copied().collect()
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
                }
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
        self.reindex();
    }

    /// After records came: does this node still hold its seat?
    fn check_seat(&mut self, now: Now) {
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
        for peer in &mut self.peers.list {
            peer.agent.network_changed(&self.world.cards, now.mono);
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
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
        self.usable(&list)
    }

    fn publish(&mut self, now: Now) {
        self.todo.publish = false;
        self.todo.remember = true;
        self.me.seq = (self.me.seq + 1).max(now.unix_ms());
        let envelope = self.seal_record();
        for (link, _) in &mut self.links {
            link.publish(&envelope);
        }
        self.me.envelope = Some(envelope);
        for peer in self.peers.list.iter_mut().filter(|p| p.outbound.up) {
            peer.outbound.greeted = false;
            self.todo.greet = Some(now.mono);
        }
    }

    /// This node's newest record. Sealed once: two different envelopes with one number are a lie to a control plane.
    pub(super) fn own_envelope(&mut self) -> Envelope {
        self.me.unseen = false;
        self.me.envelope.clone().unwrap_or_else(|| self.seal_record())
    }

    fn seal_record(&mut self) -> Envelope {
        let record = PeerRecord {
            name: self.me.name.clone(),
            tunnel: self.me.keys.tunnel_key(),
            seat: self.me.seat,
            seat_since: self.me.seat_since,
            candidates: self.candidates(),
            games: self.lan.rules.profiles().iter().take(limits::GAMES).cloned().collect(),
            incarnation: self.me.incarnation,
        };
        Envelope::seal(&record, &self.me.keys, &self.party.keys, self.me.seq, self.dice.bytes())
    }

    // ---- control planes --------------------------------------------------------------------------------------

    pub(super) fn control(&mut self, link: LinkId, message: Down, now: Now) {
        let who =
            Identity { keys: &self.me.keys, party: &self.party.keys, owned_slot: self.party.owned_slot };
        let Some((machine, _)) = self.links.get_mut(usize::from(link.0)) else { return };
        machine.handle(&message, who, now.mono);
        match message {
            Down::Welcome { rotation, peers, .. } => {
                if let Some(rotation) = rotation {
                    self.rotated(&rotation, now);
                }
                for envelope in peers.into_iter().take(limits::PEERS * 2) {
                    self.learn(envelope, true, now);
                }
                self.check_seat(now);
            }
            Down::Record { envelope } => {
                self.learn(envelope, true, now);
                self.check_seat(now);
            }
            Down::Gone { peer, left } => self.said_gone(peer, left, now),
            Down::Rotated { rotation } => self.rotated(&rotation, now),
            Down::Notice { code, message } => {
                let hint = "lanrage went on by itself; look at the folder if it happens again";
                self.event(Event::Warning(Trouble::new(&code, message, hint)));
            }
            Down::Opened { .. } | Down::Closed { .. } | Down::Refused { .. } | Down::Signal { .. } => {}
        }
    }

    /// A control plane says that a peer left. The tunnel knows better while it is alive.
    fn said_gone(&mut self, id: PeerId, left: bool, now: Now) {
        let Some(at) = self.peers.list.iter().position(|p| p.id == id) else { return };
        let Some(peer) = self.peers.list.get_mut(at).filter(|_| left) else { return };
        let heard = peer.agent.last_heard();
        if heard.is_some_and(|heard| now.mono.since(heard) < self.knobs.keepalive * 2) {
            // It said nothing to us, maybe because the tunnel was not up yet. Ask it; without an answer it is true.
            peer.farewell = Some(now.mono);
            peer.agent.suspect(now.mono);
        } else {
            self.peer_is_gone(at, "left the party", true, now);
        }
    }

    /// Turns what the links want into effects.
    fn drain_links(&mut self, now: Now) {
        for at in 0..self.links.len() {
            while let Some(action) = self.links.get_mut(at).and_then(|(link, _)| link.poll()) {
                self.link_action(at, action, now);
            }
        }
    }

    fn link_action(&mut self, at: usize, action: LinkAction, now: Now) {
        let id = LinkId(u8::try_from(at).unwrap_or(u8::MAX));
        match action {
            LinkAction::Open => self.effects.push_back(Effect::OpenLink(id)),
            LinkAction::Close => self.effects.push_back(Effect::CloseLink(id)),
            LinkAction::Send(up) => self.effects.push_back(Effect::Control(id, up)),
            LinkAction::Online => {
                let envelope = self.own_envelope();
                if let Some((link, _)) = self.links.get_mut(at) {
                    // A control plane that was away when the party was re-keyed has no secrets for those who stay.
                    if let Some(rotation) = &self.party.rotation {
                        link.rotate(rotation);
                    }
                    link.publish(&envelope);
                }
                self.say_ready();
            }
            LinkAction::Trouble { code, why } => {
                self.say_ready();
                self.link_trouble(at, code, &why, now);
            }
        }
    }

    fn link_trouble(&mut self, at: usize, code: &str, why: &str, now: Now) {
        let _ = now;
        let control = self.links.get(at).map(|(_, c)| c.clone()).unwrap_or_default();
        let others = self.links.iter().enumerate().any(|(n, (link, _))| n != at && link.is_online());
        let goes_on = if others {
            "the other control planes still work"
        } else {
            "the party goes on with the players already known; new ones cannot find it until this works again"
        };
        let hint = match code {
            "not_a_member" => "ask the host for the invite again: this one is for another party",
            "invite_outdated" => "ask the host for a new invite",
            "party_unknown" => "ask the host to start lanrage first; it is tried again by itself",
            "control_version" => "both sides need the same version of lanrage",
            "party_full" => "somebody has to leave first",
            _ => {
                "check the address and that the server or folder can be reached; it is tried again by itself"
            }
        };
        let message = format!("{control}: {why}; {goes_on}");
        self.event(Event::Warning(Trouble::new(code, message, hint)));
    }

    pub(super) fn say_ready(&mut self) {
        if self.todo.ready_by.take().is_none() {
            return;
        }
        let (v4, _) = self.addresses();
        let control = self.links.iter().map(|(_, c)| c.as_str()).collect::<Vec<_>>().join(" ");
        let event = Event::Ready {
            party: self.party.id,
            invite: self.party.invite.clone(),
            peer: self.me.id,
            name: self.me.name.clone(),
            address: IpAddr::V4(v4),
            mode: Mode::Lan,
            control,
        };
        self.event(event);
        for held in std::mem::take(&mut self.todo.held) {
            self.event(held);
        }
    }

    /// The end of every input.
    pub(super) fn settle(&mut self, now: Now) {
        if self.todo.stopped {
            self.drain_links(now);
            return;
        }
        if self.todo.publish {
            self.publish(now);
        }
        self.drain_links(now);
        if self.todo.remember {
            self.todo.remember = false;
            let peers = self.party.roster.iter().map(|(_, m)| m.envelope.clone()).collect();
            let seat = Some((self.me.seat, self.me.seat_since));
            self.effects.push_back(Effect::Remember(Memory {
                seat,
                seq: self.me.seq,
                peers,
                rotation: self.party.rotation.clone(),
            }));
        }
    }

    // ---- messages between peers ------------------------------------------------------------------------------

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
                self.learn(envelope, true, now);
                self.check_seat(now);
            }
            PeerMessage::Rotation(rotation) => self.rotated(&rotation, now),
            PeerMessage::Bye => self.peer_is_gone(at, "said goodbye", true, now),
            PeerMessage::GameClosed { .. } => {}
        }
    }

    pub(super) fn send_message(
        &mut self,
        at: usize,
        message: &PeerMessage,
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        let Ok(body) = postcard::to_allocvec(message) else { return false };
        let frame = self.own_frame(FrameKind::Message, 0);
        self.send_frame(at, None, frame, &body, now, wan)
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

    fn stop(&mut self, trouble: Option<Trouble>) {
        if !std::mem::replace(&mut self.todo.stopped, true) {
            self.effects.push_back(Effect::Stop { trouble });
        }
    }

    // ---- re-keying -------------------------------------------------------------------------------------------

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
        let stay: Vec<(PeerId, TunnelKey)> =
            self.party.roster.iter().filter(|(p, _)| *p != id).map(|(p, m)| (p, m.record.tunnel)).collect();
        let dice = &mut self.dice;
        let rotation = Rotation::seal(&self.me.keys, slot, epoch, &secret, &stay, || dice.bytes());
        let message = PeerMessage::Rotation(rotation.clone());
        for at in 0..self.peers.list.len() {
            if self.peers.list.get(at).is_some_and(|p| p.id != id) {
                self.send_message(at, &message, now, wan);
            }
        }
        for (link, _) in &mut self.links {
            link.rotate(&rotation);
        }
        self.drain_links(now);
        self.rekey(&rotation, secret, now);
        self.party.rotation = Some(rotation);
    }

    fn rotated(&mut self, rotation: &Rotation, now: Now) {
        if rotation.epoch <= self.party.keys.epoch() {
            return;
        }
        if !rotation.is_of(self.party.id) {
            return self.dropped(DropReason::BadRecord);
        }
        match rotation.open(&self.me.keys) {
            Some(secret) => self.rekey(rotation, secret, now),
            None => self.stop(Some(Trouble::new(
                "removed",
                "the host removed you from the party",
                "ask the host for a new invite if this was a mistake",
            ))),
        }
    }

    /// Everything that hangs on the party's secret starts over: pre-shared keys, records, sign-ins.
    fn rekey(&mut self, rotation: &Rotation, secret: PartySecret, now: Now) {
        self.party.keys = PartyKeys::new(self.party.id, rotation.epoch, &secret);
        let stays = |id: PeerId| rotation.owner.id() == id || rotation.grants.iter().any(|g| g.peer == id);
        let gone: Vec<PeerId> = self.party.roster.iter().map(|(id, _)| id).filter(|id| !stays(*id)).collect();
        for id in gone {
            if let Some(at) = self.peers.list.iter().position(|p| p.id == id) {
                self.peer_is_gone(at, "was removed from the party by the host", true, now);
                self.peers.list.remove(at);
            }
            self.party.roster.remove(id);
        }
        for at in 0..self.peers.list.len() {
            let Some((key, tunnel)) = self.peers.list.get(at).map(|p| (p.key, p.tunnel)) else { continue };
            let setup = self.session_setup(&key, tunnel);
            if let Some(peer) = self.peers.list.get_mut(at) {
                peer.renew(setup, now);
            }
        }
        self.reindex();
        self.effects.push_back(Effect::Rekeyed { epoch: rotation.epoch, secret });
        self.todo.publish = true;
        for (link, _) in &mut self.links {
            link.reopen(now.mono);
        }
    }
}
