//! A control plane of the simulated world: holds sealed records, passes on what is new, and can go away.
//!
//! It speaks the same messages as the real ones and keeps a party the way they do: proofs are checked, older records and
//! older epochs refused, silent peers swept. A folder is read every second or so; a server tells at once.

use crate::model::id::{PartyId, PeerId};
use crate::model::key::MemberKey;
use crate::model::record::{Envelope, Rotation};
use crate::model::time::Mono;
use crate::wire::control::{Down, Hello, Nonce, Refusal, Up};
use std::collections::BTreeMap;
use std::time::Duration;

/// A connection: which computer, and which of its connections to this plane.
pub type Caller = (usize, u64);

/// One control plane.
#[derive(Debug)]
pub struct Plane {
    /// What the nodes call it.
    pub name: String,
    /// How long a message and the answer to it take, each.
    pub delay: Duration,
    /// How often a folder is looked at; zero for a server.
    pub poll: Duration,
    /// Whether it can be reached at all.
    pub up: bool,
    party: Option<Party>,
    callers: BTreeMap<Caller, Visit>,
    nonces: u64,
}

#[derive(Debug)]
struct Visit {
    nonce: [u8; 32],
    peer: Option<PeerId>,
}

#[derive(Debug)]
struct Party {
    id: PartyId,
    epoch: u32,
    member: MemberKey,
    rotation: Option<Rotation>,
    records: BTreeMap<PeerId, (Option<Envelope>, Mono)>,
}

/// A message for a caller.
pub type Outgoing = (Caller, Down);

impl Plane {
    /// A plane that knows no party.
    #[must_use]
    pub fn new(name: &str, delay: Duration, poll: Duration) -> Self {
        Self {
            name: name.to_owned(),
            delay,
            poll,
            up: true,
            party: None,
            callers: BTreeMap::new(),
            nonces: 0,
        }
    }

    /// When the news of one caller reach another: a folder is looked at now and then.
    #[must_use]
    pub fn news(&self, now: Mono) -> Mono {
        let at = now + self.delay;
        let Some(rounds) = at.0.as_nanos().checked_div(self.poll.as_nanos()) else { return at };
        let next = (rounds + 1) * self.poll.as_nanos();
        Mono(Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX)))
    }

    /// Somebody connects.
    pub fn connect(&mut self, caller: Caller) -> Down {
        self.nonces += 1;
        let mut nonce = [0x5a; 32];
        nonce[..8].copy_from_slice(&self.nonces.to_be_bytes());
        self.callers.insert(caller, Visit { nonce, peer: None });
        Down::Opened { nonce: Nonce(nonce), audience: self.name.clone() }
    }

    /// Somebody hung up, or its computer died.
    pub fn hang_up(&mut self, caller: Caller) {
        self.callers.remove(&caller);
    }

    /// Everybody is thrown out: it went away.
    pub fn go_down(&mut self) -> Vec<Outgoing> {
        self.up = false;
        let callers = std::mem::take(&mut self.callers);
        callers.into_keys().map(|c| (c, Down::Closed { why: "connection reset".to_owned() })).collect()
    }

    /// Somebody says something.
    pub fn handle(&mut self, caller: Caller, message: Up, now: Mono) -> Vec<Outgoing> {
        let Some(visit) = self.callers.get(&caller) else { return Vec::new() };
        let peer = match (&message, visit.peer) {
            (Up::Hello(hello), _) => return self.hello(caller, hello, now),
            (_, Some(peer)) => peer,
            (_, None) => return vec![(caller, refusal(Refusal::BadMessage))],
        };
        let Some(party) = &mut self.party else { return Vec::new() };
        if let Some((_, seen)) = party.records.get_mut(&peer) {
            *seen = now;
        }
        match message {
            Up::Hello(_) | Up::Beat => Vec::new(),
            Up::Publish { envelope } => self.publish(caller, peer, envelope, now),
            Up::Leave => {
                party.records.remove(&peer);
                self.to_others(caller, &Down::Gone { peer, left: true })
            }
            Up::Rotate { rotation } => self.rotate(caller, rotation),
            Up::Signal { to, sealed } => {
                let of = self.callers.iter().filter(|(_, v)| v.peer == Some(to)).map(|(c, _)| *c);
                of.map(|c| (c, Down::Signal { from: peer, sealed: sealed.clone() })).collect()
            }
        }
    }

    fn hello(&mut self, caller: Caller, hello: &Hello, now: Mono) -> Vec<Outgoing> {
        let Some(visit) = self.callers.get_mut(&caller) else { return Vec::new() };
        let found = hello.found.as_ref();
        let proof = Hello::proof(&visit.nonce, &self.name, hello.party, &hello.key, hello.epoch, found);
        if !hello.key.verifies(&proof, &hello.signature) {
            return vec![(caller, refusal(Refusal::BadSignature))];
        }
        let owner = found.is_some_and(|f| PartyId::of(hello.key.id(), f.slot) == hello.party);
        if let (None, Some(founding), true) = (&self.party, found, owner) {
            self.party = Some(Party {
                id: hello.party,
                epoch: hello.epoch,
                member: founding.member,
                rotation: None,
                records: BTreeMap::new(),
            });
        }
        let Some(party) = self.party.as_mut().filter(|p| p.id == hello.party) else {
            return vec![(caller, refusal(Refusal::UnknownParty))];
        };
        if let (true, true, Some(founding)) = (owner, hello.epoch > party.epoch, found) {
            // The owner re-keyed the party elsewhere: what is sealed with the old secret is of no use to anybody.
            party.epoch = hello.epoch;
            party.member = founding.member;
            party.rotation = None;
            party.records.clear();
        }
        if hello.epoch < party.epoch {
            let rotated = party.rotation.clone().map(|rotation| (caller, Down::Rotated { rotation }));
            return rotated.into_iter().chain([(caller, refusal(Refusal::OldEpoch))]).collect();
        }
        if hello.epoch > party.epoch {
            return vec![(caller, refusal(Refusal::UnknownParty))];
        }
        if !party.member.verifies(&proof, &hello.member) {
            return vec![(caller, refusal(Refusal::NotAMember))];
        }
        let peer = hello.key.id();
        visit.peer = Some(peer);
        party.records.entry(peer).or_insert((None, now)).1 = now;
        let peers = party.records.values().filter_map(|(envelope, _)| envelope.clone()).collect();
        vec![(caller, Down::Welcome { epoch: party.epoch, rotation: party.rotation.clone(), peers })]
    }

    fn publish(&mut self, caller: Caller, peer: PeerId, envelope: Envelope, now: Mono) -> Vec<Outgoing> {
        let Some(party) = &mut self.party else { return Vec::new() };
        let known = party.records.get(&peer).and_then(|(e, _)| e.as_ref());
        let newer = known.is_none_or(|k| k.seq < envelope.seq);
        let honest = envelope.check(party.id).is_ok() && envelope.key.id() == peer;
        if !(newer && honest && envelope.epoch == party.epoch) {
            return Vec::new();
        }
        party.records.insert(peer, (Some(envelope.clone()), now));
        self.to_others(caller, &Down::Record { envelope })
    }

    fn rotate(&mut self, caller: Caller, rotation: Rotation) -> Vec<Outgoing> {
        let Some(party) = &mut self.party else { return Vec::new() };
        if !rotation.is_of(party.id) || rotation.epoch <= party.epoch {
            return Vec::new();
        }
        party.epoch = rotation.epoch;
        party.member = rotation.member;
        party.rotation = Some(rotation.clone());
        party.records.clear();
        let told = self.to_others(caller, &Down::Rotated { rotation });
        // Everybody has to prove the new secret; the owner has it and may stay.
        self.callers.iter_mut().filter(|(c, _)| **c != caller).for_each(|(_, v)| v.peer = None);
        told
    }

    /// Takes off the list who was silent for too long, and tells the others.
    pub fn sweep(&mut self, gone_after: Duration, now: Mono) -> Vec<Outgoing> {
        let Some(party) = &mut self.party else { return Vec::new() };
        let gone: Vec<PeerId> = party
            .records
            .extract_if(.., |_, (_, seen)| now.since(*seen) > gone_after)
            .map(|(p, _)| p)
            .collect();
        let signed_in = |visit: &Visit, peer| visit.peer.is_some_and(|p| p != peer);
        let tell = |peer| {
            let others = self.callers.iter().filter(move |(_, v)| signed_in(v, peer));
            others.map(move |(c, _)| (*c, Down::Gone { peer, left: false }))
        };
        gone.into_iter().flat_map(tell).collect()
    }

    /// Everything it holds, as a peer that keeps old records might send it again.
    #[must_use]
    pub fn records(&self) -> Vec<Envelope> {
        let party = self.party.iter();
        party.flat_map(|p| p.records.values().filter_map(|(e, _)| e.clone())).collect()
    }

    /// Those who are signed in.
    #[must_use]
    pub fn signed_in(&self) -> Vec<Caller> {
        self.callers.iter().filter(|(_, v)| v.peer.is_some()).map(|(c, _)| *c).collect()
    }

    fn to_others(&self, caller: Caller, message: &Down) -> Vec<Outgoing> {
        let others = self.signed_in().into_iter().filter(|c| *c != caller);
        others.map(|c| (c, message.clone())).collect()
    }
}

fn refusal(code: Refusal) -> Down {
    Down::Refused { code, message: format!("{code:?}") }
}
