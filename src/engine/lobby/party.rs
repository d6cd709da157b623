//! One party as a control plane sees it: a membership key, an epoch, and sealed records of its peers.
//!
//! Shared by the server's lobby and the shared folder, so that both refuse the same things for the same reasons. It
//! decides about one party only; who is connected, where it is stored and how often somebody may ask is elsewhere.
//! Nothing here can read a record: a control plane holds ciphertext, public keys and signatures.
//!
//! Two clocks: `seen` counts seconds of the clock that the holder keeps steady (a server's own time since its start,
//! a folder's file times); `active` is Unix seconds, because it is measured in days and outlives restarts.

use super::Knobs;
use crate::model::id::{PartyId, PeerId};
use crate::model::key::{MemberKey, PeerKey};
use crate::model::record::{Envelope, EnvelopeError, Rotation};
use crate::model::time::Now;
use crate::wire::control::{Founding, Hello, Refusal, VERSION};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Membership keys of earlier epochs that are remembered, so that somebody who was away is told about the re-keying
/// (or about having been removed) rather than treated as a stranger.
const OLD_KEYS: usize = 32;
/// A grant: a 16-byte secret, 24 of nonce, 16 of tag; and room to grow.
const GRANT_BYTES: usize = 128;
/// What an entry costs beside its sealed record: key, signature, numbers.
const ENTRY_BYTES: usize = 256;

/// A party, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    epoch: u32,
    member: MemberKey,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    old: Vec<OldKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation: Option<Rotation>,
    active: u64,
    #[serde(default)]
    peers: BTreeMap<PeerId, Peer>,
}

/// A membership key that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OldKey {
    epoch: u32,
    member: MemberKey,
}

/// A peer of a party, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its identity.
    pub key: PeerKey,
    /// Its newest record, once it published one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Envelope>,
    /// When it was last heard of, in seconds of the holder's steady clock.
    pub seen: u64,
}

/// A refusal, with what helps whoever is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The stable word.
    pub code: Refusal,
    /// For people.
    pub message: &'static str,
    /// To be sent first: the newest rotation, for those who may see it.
    pub rotation: Option<Box<Rotation>>,
}

impl Denied {
    /// A refusal without a rotation.
    #[must_use]
    pub const fn new(code: Refusal, message: &'static str) -> Self {
        Self { code, message, rotation: None }
    }
}

/// A hello whose version, signature and claim of ownership were checked. Membership is the party's own business.
#[derive(Debug)]
pub struct Verified<'a> {
    hello: &'a Hello,
    proof: Vec<u8>,
}

impl<'a> Verified<'a> {
    /// Checks everything that needs no knowledge of the party.
    ///
    /// # Errors
    /// `Version`, `BadSignature`, or `BadMessage` for founding somebody else's party.
    pub fn check(hello: &'a Hello, nonce: &[u8; 32], audience: &str) -> Result<Self, Denied> {
        if hello.version != VERSION {
            return Err(Denied::new(
                Refusal::Version,
                "this control plane speaks another version of the protocol; update the older of the two programs",
            ));
        }
        let found = hello.found.as_ref();
        let proof = Hello::proof(nonce, audience, hello.party, &hello.key, hello.epoch, found);
        if !hello.key.verifies(&proof, &hello.signature) {
            return Err(Denied::new(
                Refusal::BadSignature,
                "the peer's signature does not fit the challenge",
            ));
        }
        if found.is_some_and(|f| PartyId::of(hello.key.id(), f.slot) != hello.party) {
            return Err(Denied::new(Refusal::BadMessage, "only the owner of a party can found it"));
        }
        Ok(Self { hello, proof })
    }

    /// The peer that knocks.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.hello.key.id()
    }

    fn proves(&self, member: &MemberKey) -> bool {
        member.verifies(&self.proof, &self.hello.member)
    }

    /// What an owner founds; the claim of ownership is already checked.
    const fn founding(&self) -> Option<&Founding> {
        self.hello.found.as_ref()
    }
}

/// How somebody got in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As a member.
    Member,
    /// As the owner, with another membership key than the one held: everybody else has to knock again.
    Refounded,
}

/// What a rotation changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeying {
    /// False for a repeat of what is known.
    pub changed: bool,
    /// Those without a grant, already taken off the list.
    pub removed: Vec<PeerId>,
}

impl Party {
    /// A new party, made by its owner's hello.
    ///
    /// # Errors
    /// `UnknownParty` when the hello founds nothing, `NotAMember` when it does not prove the key it brings.
    pub fn found(hello: &Verified<'_>, now: Now) -> Result<Self, Denied> {
        let Some(founding) = hello.founding() else {
            return Err(Denied::new(
                Refusal::UnknownParty,
                "this party is not known here; its owner has to be here first (or the invite names another place)",
            ));
        };
        if !hello.proves(&founding.member) {
            return Err(not_a_member());
        }
        let mut party = Self {
            epoch: hello.hello.epoch,
            member: founding.member,
            old: Vec::new(),
            rotation: None,
            active: now.unix.as_secs(),
            peers: BTreeMap::new(),
        };
        party.seat(hello, now);
        Ok(party)
    }

    /// Lets a peer in.
    ///
    /// # Errors
    /// `OldEpoch` (with the rotation), `UnknownParty` for an epoch that this place has not heard of, `NotAMember`,
    /// `PartyFull`.
    pub fn admit(&mut self, hello: &Verified<'_>, knobs: &Knobs, now: Now) -> Result<Admission, Denied> {
        let epoch = hello.hello.epoch;
        if epoch < self.epoch {
            return Err(self.behind(hello));
        }
        let founding = hello.founding();
        if epoch > self.epoch || founding.is_some_and(|f| f.member != self.member) {
            let Some(founding) = founding else {
                return Err(Denied::new(
                    Refusal::UnknownParty,
                    "the party was re-keyed and this place has not heard of it yet; it learns it from the owner",
                ));
            };
            if !hello.proves(&founding.member) {
                return Err(not_a_member());
            }
            self.replace_key(epoch, founding.member);
            self.rotation = None;
            self.peers.clear();
            self.seat(hello, now);
            return Ok(Admission::Refounded);
        }
        if !hello.proves(&self.member) {
            return Err(not_a_member());
        }
        if !self.peers.contains_key(&hello.peer()) && self.living(knobs, now) >= knobs.peers {
            return Err(Denied::new(Refusal::PartyFull, "the party is full"));
        }
        self.seat(hello, now);
        Ok(Admission::Member)
    }

    /// Takes a peer's newest record; true when it is news.
    ///
    /// # Errors
    /// `BadMessage`, `BadSignature`, or `OldEpoch` (with the rotation).
    pub fn publish(
        &mut self,
        party: PartyId,
        peer: &PeerKey,
        envelope: &Envelope,
        now: Now,
    ) -> Result<bool, Denied> {
        if envelope.key != *peer {
            return Err(Denied::new(Refusal::BadMessage, "a record can only be published by its own peer"));
        }
        if envelope.epoch < self.epoch {
            return Err(self.old_epoch());
        }
        if envelope.epoch > self.epoch {
            return Err(Denied::new(
                Refusal::BadMessage,
                "the record is of an epoch that this place has not heard of; send the rotation first",
            ));
        }
        envelope.check(party).map_err(|error| match error {
            EnvelopeError::Signature => {
                Denied::new(Refusal::BadSignature, "the record's signature does not fit")
            }
            EnvelopeError::Version => Denied::new(Refusal::Version, "the record is of an unknown version"),
            EnvelopeError::TooLarge | EnvelopeError::Seal | EnvelopeError::Damaged => {
                Denied::new(Refusal::BadMessage, "the record is larger than any honest one")
            }
        })?;
        let Some(entry) = self.peers.get_mut(&peer.id()) else {
            return Err(Denied::new(
                Refusal::BadMessage,
                "the peer is not on the party's list; say hello again",
            ));
        };
        entry.seen = steady(now);
        self.active = now.unix.as_secs();
        if let Some(known) = &entry.envelope {
            if known == envelope {
                return Ok(false);
            }
            if known.seq >= envelope.seq {
                return Err(Denied::new(Refusal::BadMessage, "a newer record of this peer is known already"));
            }
        }
        entry.envelope = Some(envelope.clone());
        Ok(true)
    }

    /// Re-keys the party. Whoever brings the rotation, the owner's signature counts, so that members can carry it to a
    /// control plane that the owner does not reach. Epochs may be skipped: this place may have missed some.
    ///
    /// # Errors
    /// `BadSignature`, `BadMessage`, or `OldEpoch` (with the rotation that is known).
    pub fn rotate(&mut self, party: PartyId, rotation: &Rotation, now: Now) -> Result<Rekeying, Denied> {
        if rotation.grants.iter().any(|g| g.sealed.0.len() > GRANT_BYTES) {
            return Err(Denied::new(Refusal::BadMessage, "a grant is larger than any honest one"));
        }
        if !rotation.is_of(party) {
            return Err(Denied::new(Refusal::BadSignature, "only the owner of the party can re-key it"));
        }
        if rotation.epoch < self.epoch {
            return Err(self.old_epoch());
        }
        if rotation.epoch == self.epoch {
            if self.rotation.as_ref() == Some(rotation) {
                return Ok(Rekeying { changed: false, removed: Vec::new() });
            }
            if self.rotation.is_some() || rotation.member != self.member {
                return Err(Denied::new(
                    Refusal::BadMessage,
                    "another re-keying of this epoch is known already",
                ));
            }
        } else {
            self.replace_key(rotation.epoch, rotation.member);
        }
        self.rotation = Some(rotation.clone());
        let removed: Vec<PeerId> = self.peers.keys().copied().filter(|p| !self.stays(*p)).collect();
        for peer in &removed {
            self.peers.remove(peer);
        }
        self.active = now.unix.as_secs();
        Ok(Rekeying { changed: true, removed })
    }

    /// Whether this hello belongs to a member of today: it proves the present key, or the owner granted its peer one.
    #[must_use]
    pub fn vouches_for(&self, hello: &Verified<'_>) -> bool {
        (hello.hello.epoch == self.epoch && hello.proves(&self.member)) || self.stays(hello.peer())
    }

    /// Still here; false when the peer is not (or no longer) listed.
    pub fn beat(&mut self, peer: PeerId, now: Now) -> bool {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return false;
        };
        entry.seen = steady(now);
        self.active = now.unix.as_secs();
        true
    }

    /// Goodbye; false when the peer was not listed.
    pub fn leave(&mut self, peer: PeerId) -> bool {
        self.peers.remove(&peer).is_some()
    }

    /// Takes off the list whoever was silent for too long.
    pub fn expire(&mut self, knobs: &Knobs, now: Now) -> Vec<PeerId> {
        let expired: Vec<PeerId> =
            self.peers.iter().filter(|(_, p)| !p.is_alive(knobs, now)).map(|(id, _)| *id).collect();
        for peer in &expired {
            self.peers.remove(peer);
        }
        expired
    }

    /// Whether nobody has been here for so long that the party itself may be forgotten.
    #[must_use]
    pub fn is_forgotten(&self, knobs: &Knobs, now: Now) -> bool {
        self.peers.is_empty() && now.unix.as_secs().saturating_sub(self.active) >= knobs.keep_empty.as_secs()
    }

    /// All records that somebody who comes now can open.
    #[must_use]
    pub fn records(&self) -> Vec<Envelope> {
        self.peers
            .values()
            .filter_map(|p| p.envelope.as_ref())
            .filter(|e| e.epoch == self.epoch)
            .cloned()
            .collect()
    }

    /// The peers on the list.
    #[must_use]
    pub const fn peers(&self) -> &BTreeMap<PeerId, Peer> {
        &self.peers
    }

    /// How often the party was re-keyed.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The membership key of this epoch.
    #[must_use]
    pub const fn member(&self) -> &MemberKey {
        &self.member
    }

    /// The rotation that led to this epoch, where it is known.
    #[must_use]
    pub const fn rotation(&self) -> Option<&Rotation> {
        self.rotation.as_ref()
    }

    /// Unix seconds of the last sign of life.
    #[must_use]
    pub const fn active(&self) -> u64 {
        self.active
    }

    /// About how many bytes the party takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let records: usize = self
            .peers
            .values()
            .map(|p| ENTRY_BYTES + p.envelope.as_ref().map_or(0, |e| e.sealed.0.len()))
            .sum();
        let grants: usize = self.rotation.iter().flat_map(|r| &r.grants).map(|g| 64 + g.sealed.0.len()).sum();
        ENTRY_BYTES + records + grants + self.old.len() * 64
    }

    /// After a restart of the holder, whose steady clock began anew: nobody is punished for the time it was away.
    pub fn wake(&mut self, now: Now) {
        for peer in self.peers.values_mut() {
            peer.seen = steady(now);
        }
    }

    /// Somebody proved an epoch that is over. Only who belonged to it, who stays, or the owner learns more than a no.
    fn behind(&self, hello: &Verified<'_>) -> Denied {
        let was_member = self.old.iter().any(|o| o.epoch == hello.hello.epoch && hello.proves(&o.member));
        if was_member || self.stays(hello.peer()) || hello.founding().is_some() {
            self.old_epoch()
        } else {
            not_a_member()
        }
    }

    fn stays(&self, peer: PeerId) -> bool {
        self.rotation
            .as_ref()
            .is_some_and(|r| r.owner.id() == peer || r.grants.iter().any(|g| g.peer == peer))
    }

    fn old_epoch(&self) -> Denied {
        Denied {
            code: Refusal::OldEpoch,
            message: "the owner re-keyed the party; who stays finds the new key in the rotation",
            rotation: self.rotation.clone().map(Box::new),
        }
    }

    fn replace_key(&mut self, epoch: u32, member: MemberKey) {
        if epoch > self.epoch {
            self.old.push(OldKey { epoch: self.epoch, member: self.member });
            let over = self.old.len().saturating_sub(OLD_KEYS);
            self.old.drain(..over);
        }
        self.epoch = epoch;
        self.member = member;
    }

    fn seat(&mut self, hello: &Verified<'_>, now: Now) {
        let fresh = Peer { key: hello.hello.key, envelope: None, seen: 0 };
        self.peers.entry(hello.peer()).or_insert(fresh).seen = steady(now);
        self.active = now.unix.as_secs();
    }

    fn living(&self, knobs: &Knobs, now: Now) -> usize {
        self.peers.values().filter(|p| p.is_alive(knobs, now)).count()
    }
}

impl Peer {
    fn is_alive(&self, knobs: &Knobs, now: Now) -> bool {
        steady(now).saturating_sub(self.seen) < knobs.gone_after.as_secs()
    }
}

const fn not_a_member() -> Denied {
    Denied::new(Refusal::NotAMember, "the party's secret is another one; ask for a new invite")
}

fn steady(now: Now) -> u64 {
    now.mono.0.as_secs()
}
