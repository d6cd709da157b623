//! The control plane's machine: parties, who is in them, who may know what. Pure; `server` drives it with sockets.
//!
//! * `party`: one party's rules, shared with the folder's carrier
//! * `pace`: how often somebody may ask
//! * `knobs`: timeouts, caps, paces
//! * `tally`: what happened, as numbers
//! * `offers`: credentials for the relay beside this control plane
//!
//! In: `handle_open`, `handle`, `handle_close`, `handle_timeout`; out: `poll_effect` until `None`, then `deadline`.
//! A connection is a stranger until its hello is accepted; a stranger learns nothing. Members see their own party
//! only. The machine stores nothing: it says which party has to be stored, and is given them back by `restore`.

pub mod knobs;
pub mod offers;
pub mod pace;
pub mod party;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod table;
pub mod tally;
#[cfg(test)]
mod tests;

pub use knobs::Knobs;
pub use offers::Offers;

use crate::model::dice::{Dice, Seed};
use crate::model::id::{PartyId, PeerId};
use crate::model::key::PeerKey;
use crate::model::record::{Envelope, Rotation};
use crate::model::text::Blob;
use crate::model::time::{Deadline, Mono, Now};
use crate::wire::control::{Down, Hello, Nonce, Refusal, Up};
use crate::wire::credential::Bearer;
use pace::{Bucket, Buckets, Origin};
use party::{Admission, Denied, Party, Verified};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;
use tally::{Tallied, Tally};

/// Messages over the pace that a connection may send before it is hung up on.
const STRIKES: u32 = 50;
/// How stale a party's stored sign of life may be; it only decides about a month.
const ACTIVE_EVERY: Duration = Duration::from_secs(3600);

/// A connection. Later connections have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What the lobby wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a short-lived queue of a few entries")]
pub enum LobbyEffect {
    /// The same message for some connections.
    Send {
        /// To whom.
        to: Vec<ConnId>,
        /// What.
        down: Down,
    },
    /// Hang up, after what was sent.
    Close {
        /// On whom.
        conn: ConnId,
        /// For people.
        why: &'static str,
    },
    /// This party changed; keep it.
    Store(PartyId),
    /// This party is over.
    Forget(PartyId),
}

/// The parties of one control plane and who is connected.
#[derive(Debug)]
pub struct Lobby {
    knobs: Knobs,
    dice: Dice,
    parties: BTreeMap<PartyId, Held>,
    bytes: usize,
    conns: BTreeMap<ConnId, Conn>,
    strangers: BTreeMap<ConnId, Mono>,
    online: BTreeMap<(PartyId, PeerId), ConnId>,
    keys: Buckets<PeerId>,
    origins: Buckets<Origin>,
    founders: Buckets<Origin>,
    sweep_at: Mono,
    /// The relay beside this control plane, and when whose credentials are renewed.
    offers: Option<Offers>,
    renewals: BTreeSet<(Mono, ConnId)>,
    effects: VecDeque<LobbyEffect>,
    tally: Tally,
}

/// A party in memory.
#[derive(Debug)]
struct Held {
    party: Party,
    bytes: usize,
    stored_active: u64,
}

#[derive(Debug)]
struct Conn {
    origin: Origin,
    /// What a hello has to sign; taken by the first.
    challenge: Option<([u8; 32], String)>,
    member: Option<Member>,
    bucket: Bucket,
    strikes: u32,
    renewal: Option<Mono>,
}

/// Whose connection it is, once that is proved.
#[derive(Debug, Clone, Copy)]
struct Member {
    party: PartyId,
    key: PeerKey,
    peer: PeerId,
}

impl Lobby {
    /// An empty lobby.
    #[must_use]
    pub fn new(knobs: Knobs, seed: Seed, now: Now) -> Self {
        Self {
            dice: seed.dice("lobby"),
            parties: BTreeMap::new(),
            bytes: 0,
            conns: BTreeMap::new(),
            strangers: BTreeMap::new(),
            online: BTreeMap::new(),
            keys: Buckets::new(knobs.per_key),
            origins: Buckets::new(knobs.per_address),
            founders: Buckets::new(knobs.founding),
            sweep_at: now.mono + knobs.sweep,
            offers: None,
            renewals: BTreeSet::new(),
            effects: VecDeque::new(),
            tally: Tally::default(),
            knobs,
        }
    }

    /// From now on members are told of this relay, with credentials of their own.
    pub fn offer(&mut self, offers: Offers) {
        self.offers = Some(offers);
    }

    /// Takes back a stored party.
    pub fn restore(&mut self, id: PartyId, mut party: Party, now: Now) {
        party.wake(now);
        let bytes = party.bytes();
        self.bytes += bytes;
        let stored_active = party.active();
        if let Some(old) = self.parties.insert(id, Held { party, bytes, stored_active }) {
            self.bytes = self.bytes.saturating_sub(old.bytes);
        }
    }

    /// Somebody connected. `audience` is what they call this server.
    pub fn handle_open(&mut self, conn: ConnId, address: IpAddr, audience: &str, now: Now) {
        let origin = Origin::of(address);
        self.tally.add(Tallied::Opened);
        let nonce = self.dice.bytes();
        let challenge = Some((nonce, audience.to_owned()));
        let bucket = Bucket::default();
        self.conns.insert(conn, Conn { origin, challenge, member: None, bucket, strikes: 0, renewal: None });
        if !self.origins.take(origin, now.mono) {
            self.turn_away(conn, Denied::new(Refusal::TooFast, "too many connections from this address"));
            return;
        }
        self.strangers.insert(conn, now.mono + self.knobs.hello_within);
        self.send(vec![conn], Down::Opened { nonce: Nonce(nonce), audience: audience.to_owned() });
    }

    /// A connection is gone.
    pub fn handle_close(&mut self, conn: ConnId) {
        self.drop_conn(conn);
    }

    /// Somebody sent what is no message.
    pub fn handle_garbage(&mut self, conn: ConnId) {
        if self.conns.contains_key(&conn) {
            self.turn_away(conn, Denied::new(Refusal::BadMessage, "that is no message of this protocol"));
        }
    }

    /// Somebody says something.
    pub fn handle(&mut self, conn: ConnId, up: Up, now: Now) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        if !state.bucket.take(self.knobs.per_connection, now.mono) {
            self.handle_flood(conn);
            return;
        }
        let result = match (state.member, up) {
            (None, Up::Hello(hello)) => {
                if let Err(denied) = self.greet(conn, &hello, now) {
                    self.turn_away(conn, denied);
                }
                return;
            }
            (None, _) => {
                self.turn_away(conn, Denied::new(Refusal::BadMessage, "the first message has to be a hello"));
                return;
            }
            (Some(_), Up::Hello(_)) => Err(Denied::new(Refusal::BadMessage, "one hello is enough")),
            (Some(member), Up::Publish { envelope }) => self.publish(conn, member, envelope, now),
            (Some(member), Up::Beat) => self.beat(member, now),
            (Some(member), Up::Leave) => {
                self.leave(conn, member);
                Ok(())
            }
            (Some(member), Up::Rotate { rotation }) => self.rotate(member, &rotation, now),
            (Some(member), Up::Signal { to, sealed }) => self.signal(member, to, sealed),
        };
        if let Err(denied) = result {
            self.refuse(conn, denied);
        }
    }

    /// The deadline has come.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((conn, _)) = self.strangers.first_key_value().filter(|(_, at)| **at <= now.mono) {
            let conn = *conn;
            self.hang_up(conn, "no hello came in time");
        }
        while let Some((at, conn)) = self.renewals.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.renewals.remove(&(at, conn));
            self.offer_to(conn, now);
        }
        if self.sweep_at <= now.mono {
            self.sweep_at = now.mono + self.knobs.sweep;
            self.sweep(now);
        }
    }

    /// When to call `handle_timeout`.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let hello = self.strangers.first_key_value().map(|(_, at)| Deadline::new(*at, "hello"));
        let renewal = self.renewals.first().map(|(at, _)| Deadline::new(*at, "credentials"));
        Deadline::earlier(Deadline::earlier(hello, renewal), Some(Deadline::new(self.sweep_at, "sweep")))
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<LobbyEffect> {
        self.effects.pop_front()
    }

    /// A party, to be stored.
    #[must_use]
    pub fn party(&self, id: PartyId) -> Option<&Party> {
        self.parties.get(&id).map(|held| &held.party)
    }

    /// What happened and what there is, by name.
    #[must_use]
    pub fn numbers(&self) -> Vec<(&'static str, u64)> {
        let size = |n: usize| n as u64;
        let mut numbers = vec![
            ("connections", size(self.conns.len())),
            ("members_online", size(self.online.len())),
            ("parties", size(self.parties.len())),
            ("peers", self.parties.values().map(|h| size(h.party.peers().len())).sum()),
            ("held_bytes", size(self.bytes)),
        ];
        numbers.extend(self.tally.by_name());
        numbers
    }

    fn greet(&mut self, conn: ConnId, hello: &Hello, now: Now) -> Result<(), Denied> {
        let Some(state) = self.conns.get_mut(&conn) else {
            return Ok(());
        };
        let origin = state.origin;
        let Some((nonce, audience)) = state.challenge.take() else {
            return Err(Denied::new(Refusal::BadMessage, "one hello is enough"));
        };
        if !self.origins.take(origin, now.mono) {
            return Err(Denied::new(Refusal::TooFast, "too many requests from this address; try later"));
        }
        let verified = Verified::check(hello, &nonce, &audience)?;
        let member = Member { party: hello.party, key: hello.key, peer: verified.peer() };
        if !self.keys.take(member.peer, now.mono) {
            return Err(Denied::new(Refusal::TooFast, "too many requests of this peer; try later"));
        }
        let admission = if let Some(held) = self.parties.get_mut(&hello.party) {
            held.party.admit(&verified, &self.knobs, now)?
        } else {
            let party = Party::found(&verified, now)?;
            self.make_room(origin, now)?;
            self.tally.add(Tallied::Founded);
            self.parties.insert(hello.party, Held { party, bytes: 0, stored_active: 0 });
            Admission::Member
        };
        self.store(hello.party);
        self.strangers.remove(&conn);
        if admission == Admission::Refounded {
            for other in self.others(member.party, member.peer) {
                self.hang_up(other, "the owner made the party anew");
            }
        }
        self.seat(conn, member);
        self.offer_to(conn, now);
        Ok(())
    }

    fn seat(&mut self, conn: ConnId, member: Member) {
        if let Some(older) = self.online.insert((member.party, member.peer), conn) {
            self.hang_up(older, "the same player connected anew");
            // Hanging up took the entry away.
            self.online.insert((member.party, member.peer), conn);
        }
        if let Some(state) = self.conns.get_mut(&conn) {
            state.member = Some(member);
        }
        self.tally.add(Tallied::Admitted);
        if let Some(Held { party, .. }) = self.parties.get(&member.party) {
            let (epoch, rotation) = (party.epoch(), party.rotation().cloned());
            let peers = party.records();
            self.send(vec![conn], Down::Welcome { epoch, rotation, peers });
        }
    }

    /// Tells a member of the relay, now and again before its credentials end.
    fn offer_to(&mut self, conn: ConnId, now: Now) {
        let member = self.conns.get(&conn).and_then(|state| state.member);
        let (Some(offers), Some(member)) = (&self.offers, member) else { return };
        let offers_now = offers.made_for(Bearer { party: member.party, peer: member.peer }, now);
        let again = now.mono + offers.renewed_after();
        self.send(vec![conn], Down::Relays { offers: offers_now });
        self.renewals.insert((again, conn));
        if let Some(state) = self.conns.get_mut(&conn) {
            state.renewal = Some(again);
        }
    }

    /// Room for one more party, if need be the room of one that nobody uses now.
    fn make_room(&mut self, origin: Origin, now: Now) -> Result<(), Denied> {
        if !self.founders.take(origin, now.mono) {
            return Err(Denied::new(Refusal::TooFast, "too many new parties from this address; try later"));
        }
        if self.parties.len() < self.knobs.parties && self.bytes < self.knobs.bytes {
            return Ok(());
        }
        let empty = self.parties.iter().filter(|(_, held)| held.party.peers().is_empty());
        let Some((oldest, _)) = empty.min_by_key(|(_, held)| held.party.active()) else {
            return Err(Denied::new(Refusal::TooFast, "this server is full; try later or use another one"));
        };
        let oldest = *oldest;
        self.forget(oldest);
        Ok(())
    }

    fn publish(&mut self, conn: ConnId, member: Member, envelope: Envelope, now: Now) -> Result<(), Denied> {
        self.pace_key(member, now)?;
        let room = self.knobs.bytes.saturating_sub(self.bytes);
        let Some(held) = self.parties.get_mut(&member.party) else {
            return Err(gone());
        };
        if envelope.sealed.0.len() > room {
            return Err(Denied::new(Refusal::TooFast, "this server is full; try later or use another one"));
        }
        if held.party.publish(member.party, &member.key, &envelope, now)? {
            self.tally.add(Tallied::Published);
            self.store(member.party);
            let others = self.others(member.party, member.peer);
            debug_assert!(!others.contains(&conn), "the publisher knows its own record");
            self.send(others, Down::Record { envelope });
        }
        Ok(())
    }

    fn beat(&mut self, member: Member, now: Now) -> Result<(), Denied> {
        let Some(held) = self.parties.get_mut(&member.party) else {
            return Err(gone());
        };
        if !held.party.beat(member.peer, now) {
            return Err(gone());
        }
        if held.party.active().saturating_sub(held.stored_active) >= ACTIVE_EVERY.as_secs() {
            self.store(member.party);
        }
        Ok(())
    }

    fn leave(&mut self, conn: ConnId, member: Member) {
        if self.parties.get_mut(&member.party).is_some_and(|held| held.party.leave(member.peer)) {
            self.store(member.party);
            let others = self.others(member.party, member.peer);
            self.send(others, Down::Gone { peer: member.peer, left: true });
        }
        self.hang_up(conn, "said goodbye");
    }

    fn rotate(&mut self, member: Member, rotation: &Rotation, now: Now) -> Result<(), Denied> {
        self.pace_key(member, now)?;
        let Some(held) = self.parties.get_mut(&member.party) else {
            return Err(gone());
        };
        let rekeying = held.party.rotate(member.party, rotation, now)?;
        if !rekeying.changed {
            return Ok(());
        }
        self.tally.add(Tallied::Rotated);
        self.store(member.party);
        let everyone = self.everyone(member.party);
        self.send(everyone, Down::Rotated { rotation: rotation.clone() });
        for peer in &rekeying.removed {
            if let Some(conn) = self.online.get(&(member.party, *peer)).copied() {
                self.hang_up(conn, "removed from the party by its owner");
            }
        }
        for peer in rekeying.removed {
            let rest = self.everyone(member.party);
            self.send(rest, Down::Gone { peer, left: true });
        }
        Ok(())
    }

    fn signal(&mut self, member: Member, to: PeerId, sealed: Blob) -> Result<(), Denied> {
        if sealed.0.len() > self.knobs.signal_bytes {
            return Err(Denied::new(Refusal::BadMessage, "the signal is larger than any honest one"));
        }
        let Some(conn) = self.online.get(&(member.party, to)).copied() else {
            self.tally.add(Tallied::SignalLost);
            return Ok(());
        };
        self.tally.add(Tallied::Signal);
        self.send(vec![conn], Down::Signal { from: member.peer, sealed });
        Ok(())
    }

    fn sweep(&mut self, now: Now) {
        let ids: Vec<PartyId> = self.parties.keys().copied().collect();
        for id in ids {
            let Some(held) = self.parties.get_mut(&id) else {
                continue;
            };
            let expired = held.party.expire(&self.knobs, now);
            if held.party.is_forgotten(&self.knobs, now) {
                self.forget(id);
                continue;
            }
            if expired.is_empty() {
                continue;
            }
            self.store(id);
            for peer in expired {
                self.tally.add(Tallied::Expired);
                if let Some(conn) = self.online.get(&(id, peer)).copied() {
                    self.hang_up(conn, "silent for too long");
                }
                let rest = self.everyone(id);
                self.send(rest, Down::Gone { peer, left: false });
            }
        }
        self.keys.sweep(now.mono);
        self.origins.sweep(now.mono);
        self.founders.sweep(now.mono);
    }

    fn handle_flood(&mut self, conn: ConnId) {
        self.tally.add(Tallied::Flooded);
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.strikes += 1;
        match state.strikes {
            // Said once: answering a flood with a flood helps nobody.
            1 => self.refuse(conn, Denied::new(Refusal::TooFast, "too many messages; slow down")),
            STRIKES.. => self.hang_up(conn, "too many messages"),
            _ => {}
        }
    }

    fn pace_key(&mut self, member: Member, now: Now) -> Result<(), Denied> {
        if self.keys.take(member.peer, now.mono) {
            return Ok(());
        }
        Err(Denied::new(Refusal::TooFast, "too many changes of this peer; slow down"))
    }

    fn others(&self, party: PartyId, but: PeerId) -> Vec<ConnId> {
        self.members(party).filter(|(peer, _)| *peer != but).map(|(_, conn)| conn).collect()
    }

    fn everyone(&self, party: PartyId) -> Vec<ConnId> {
        self.members(party).map(|(_, conn)| conn).collect()
    }

    fn members(&self, party: PartyId) -> impl Iterator<Item = (PeerId, ConnId)> {
        let all = (party, PeerId([0; 10]))..=(party, PeerId([0xff; 10]));
        self.online.range(all).map(|((_, peer), conn)| (*peer, *conn))
    }

    fn store(&mut self, id: PartyId) {
        if let Some(held) = self.parties.get_mut(&id) {
            let bytes = held.party.bytes();
            self.bytes = self.bytes.saturating_sub(held.bytes).saturating_add(bytes);
            held.bytes = bytes;
            held.stored_active = held.party.active();
            self.effects.push_back(LobbyEffect::Store(id));
        }
    }

    fn forget(&mut self, id: PartyId) {
        if let Some(held) = self.parties.remove(&id) {
            self.bytes = self.bytes.saturating_sub(held.bytes);
            self.effects.push_back(LobbyEffect::Forget(id));
        }
    }

    fn send(&mut self, to: Vec<ConnId>, down: Down) {
        if !to.is_empty() {
            self.effects.push_back(LobbyEffect::Send { to, down });
        }
    }

    fn refuse(&mut self, conn: ConnId, denied: Denied) {
        self.tally.refused(denied.code);
        if let Some(rotation) = denied.rotation {
            self.send(vec![conn], Down::Rotated { rotation: *rotation });
        }
        self.send(vec![conn], Down::Refused { code: denied.code, message: denied.message.to_owned() });
    }

    fn turn_away(&mut self, conn: ConnId, denied: Denied) {
        let why = denied.message;
        self.refuse(conn, denied);
        self.hang_up(conn, why);
    }

    fn hang_up(&mut self, conn: ConnId, why: &'static str) {
        if self.drop_conn(conn) {
            self.effects.push_back(LobbyEffect::Close { conn, why });
        }
    }

    fn drop_conn(&mut self, conn: ConnId) -> bool {
        self.strangers.remove(&conn);
        let Some(state) = self.conns.remove(&conn) else {
            return false;
        };
        if let Some(at) = state.renewal {
            self.renewals.remove(&(at, conn));
        }
        if let Some(member) = state.member {
            let seat = (member.party, member.peer);
            if self.online.get(&seat) == Some(&conn) {
                self.online.remove(&seat);
            }
        }
        true
    }
}

const fn gone() -> Denied {
    Denied::new(Refusal::UnknownParty, "this server does not list the peer any more; connect anew")
}
