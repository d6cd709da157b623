//! What stands in `discovery.json`: parties with the same semantics as a server's, plus the proofs that let every
//! reader check what a server would have checked, because anybody with access to the folder can write there.
//!
//! A party counts only with its owner's signature (the founding hello or the newest rotation), a peer only with a hello
//! that proves membership or with a grant in the rotation, a record only with its peer's signature. Hellos in a folder
//! are bound to `NONCE` and `AUDIENCE`, so that none of them is worth anything at a server. What a writer can still
//! do is delete or bring back old things; peers keep what they know, and the members write themselves in again.

use crate::engine::lobby::Knobs;
use crate::engine::lobby::party::{Admission, Denied, Party, Verified};
use crate::model::id::{PartyId, PeerId};
use crate::model::key::Signature;
use crate::model::text::Blob;
use crate::model::time::Now;
use crate::wire::control::{Hello, Refusal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format of `discovery.json`. A higher number is left alone.
pub const VERSION: u32 = 1;
/// The challenge of a folder: it cannot make fresh ones.
pub const NONCE: [u8; 32] = [0; 32];
/// What hellos in a folder are bound to. No server is called so: a server's audience has a port.
pub const AUDIENCE: &str = "folder";
/// Parties in one folder.
const PARTIES: usize = 256;
/// Signals waiting in one party.
const MAIL: usize = 64;
/// How long a signal waits for its reader, who looks several times a second.
const MAIL_SECS: u64 = 30;
/// Bytes of one signal.
const SIGNAL_BYTES: usize = 4096;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// `VERSION`.
    pub version: u32,
    /// Grows by one with every write: no update was lost if it equals the number of writes.
    #[serde(default)]
    pub revision: u64,
    /// All parties that meet in this folder.
    #[serde(default)]
    pub parties: BTreeMap<PartyId, Shelf>,
}

impl Default for Document {
    fn default() -> Self {
        Self { version: VERSION, revision: 0, parties: BTreeMap::new() }
    }
}

/// One party with its proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// The party.
    pub party: Party,
    /// The owner's hello that founded it.
    charter: Hello,
    /// Each peer's hello.
    #[serde(default)]
    hellos: BTreeMap<PeerId, Hello>,
    /// Signals on their way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mail: Vec<Mail>,
}

/// A signal on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Grows with every signal of the party, so that a reader takes each once.
    pub number: u64,
    /// Who sends.
    pub from: PeerId,
    /// For whom.
    pub to: PeerId,
    /// Sealed for the receiver.
    pub sealed: Blob,
    /// When, in seconds of the folder's clock.
    pub at: u64,
}

impl Document {
    /// Lets a peer in, as a server would.
    ///
    /// # Errors
    /// What a server would refuse.
    pub fn knock(&mut self, hello: &Hello, knobs: &Knobs, now: Now) -> Result<(), Denied> {
        let verified = Verified::check(hello, &NONCE, AUDIENCE)?;
        let shelf = self.parties.get_mut(&hello.party).filter(|shelf| shelf.is_genuine(hello.party));
        if let Some(shelf) = shelf {
            shelf.drop_junk(hello.party);
            if shelf.party.admit(&verified, knobs, now)? == Admission::Refounded {
                shelf.charter = hello.clone();
            }
            shelf.hellos.insert(verified.peer(), hello.clone());
            return Ok(());
        }
        let party = Party::found(&verified, now)?;
        if self.parties.len() >= PARTIES && !self.parties.contains_key(&hello.party) {
            return Err(Denied::new(
                Refusal::TooFast,
                "the folder holds as many parties as it may; use another one",
            ));
        }
        let hellos = BTreeMap::from([(verified.peer(), hello.clone())]);
        self.parties.insert(hello.party, Shelf { party, charter: hello.clone(), hellos, mail: Vec::new() });
        Ok(())
    }

    /// The party, if its owner's signature says so.
    #[must_use]
    pub fn party(&self, party: PartyId) -> Option<&Shelf> {
        self.parties.get(&party).filter(|shelf| shelf.is_genuine(party))
    }

    /// The same, to change it.
    pub fn party_mut(&mut self, party: PartyId) -> Option<&mut Shelf> {
        self.parties.get_mut(&party).filter(|shelf| shelf.is_genuine(party))
    }

    /// Puts a lost party back, or one of an earlier epoch right.
    pub fn put_back(&mut self, party: PartyId, kept: &Shelf) {
        if self.party(party).is_none_or(|there| there.party.epoch() < kept.party.epoch()) {
            self.parties.insert(party, kept.clone());
        }
    }

    /// Forgets what is over: silent peers, old signals, parties without anybody for a month.
    pub fn sweep(&mut self, knobs: &Knobs, now: Now) {
        for shelf in self.parties.values_mut() {
            shelf.party.expire(knobs, now);
            shelf.mail.retain(|m| now.unix.as_secs().abs_diff(m.at) < MAIL_SECS);
            let peers = shelf.party.peers();
            shelf.hellos.retain(|peer, _| peers.contains_key(peer));
        }
        self.parties.retain(|_, shelf| !shelf.party.is_forgotten(knobs, now));
    }
}

impl Shelf {
    /// Puts a signal into the box.
    ///
    /// # Errors
    /// `BadMessage` when it is too large, `TooFast` when too many wait.
    pub fn post(&mut self, from: PeerId, to: PeerId, sealed: Blob, now: Now) -> Result<(), Denied> {
        if sealed.0.len() > SIGNAL_BYTES {
            return Err(Denied::new(Refusal::BadMessage, "the signal is larger than any honest one"));
        }
        if self.mail.len() >= MAIL {
            return Err(Denied::new(Refusal::TooFast, "too many signals are waiting for their readers"));
        }
        let number = self.mail.iter().map(|m| m.number).max().unwrap_or(0).max(now.unix_ms()) + 1;
        self.mail.push(Mail { number, from, to, sealed, at: now.unix.as_secs() });
        Ok(())
    }

    /// Whether a listed peer proved that it belongs here.
    #[must_use]
    pub fn believes(&self, party: PartyId, peer: PeerId) -> bool {
        let (Some(hello), Some(entry)) = (self.hellos.get(&peer), self.party.peers().get(&peer)) else {
            return false;
        };
        hello.party == party
            && hello.key == entry.key
            && hello.key.id() == peer
            && Verified::check(hello, &NONCE, AUDIENCE).is_ok_and(|v| self.party.vouches_for(&v))
    }

    /// The signature of a peer's hello, which stands for the whole of it.
    #[must_use]
    pub fn proof_of(&self, peer: PeerId) -> Option<Signature> {
        self.hellos.get(&peer).map(|hello| hello.signature)
    }

    fn is_genuine(&self, party: PartyId) -> bool {
        if let Some(rotation) = self.party.rotation() {
            return rotation.is_of(party)
                && rotation.epoch == self.party.epoch()
                && rotation.member == *self.party.member();
        }
        let charter = &self.charter;
        charter.party == party
            && charter.epoch == self.party.epoch()
            && charter.found.as_ref().is_some_and(|f| f.member == *self.party.member())
            && Verified::check(charter, &NONCE, AUDIENCE).is_ok()
    }

    /// Entries that somebody wrote without belonging here must not take the seats of those who do.
    fn drop_junk(&mut self, party: PartyId) {
        let junk: Vec<PeerId> =
            self.party.peers().keys().copied().filter(|peer| !self.believes(party, *peer)).collect();
        for peer in junk {
            self.party.leave(peer);
            self.hellos.remove(&peer);
        }
    }
}
