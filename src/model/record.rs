//! What a peer publishes about itself: a record, sealed with the party's key and signed by its own.
//!
//! A control plane stores and passes on `Envelope`s. It can check the signature and the sequence number, but it can
//! neither read an address nor make a record of its own.

use super::addr::{Candidate, Seat};
use super::id::{PartyId, PeerId, ProfileId};
use super::key::{MemberKey, NodeKeys, PartyKeys, PartySecret, PeerKey, Signature, TunnelKey};
use super::limits;
use super::nat::NatFacts;
use super::text::Blob;
use serde::{Deserialize, Serialize};

/// A peer's word about itself. Versioned by `Envelope::version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// What people call it.
    pub name: String,
    /// Its WireGuard public key.
    pub tunnel: TunnelKey,
    /// The seat it claims in the party's /24.
    pub seat: Seat,
    /// When it first claimed that seat (Unix seconds): the older claim wins.
    pub seat_since: u64,
    /// Where it may be reached.
    pub candidates: Vec<Candidate>,
    /// What its router is like, as far as it knows.
    pub nat: NatFacts,
    /// The profiles it is running.
    pub games: Vec<ProfileId>,
    /// Grows with every start of the program, so that a restart is told from a repeat.
    pub incarnation: u64,
    /// Whether it passes packets on for two others that find no direct way.
    pub friend: bool,
}

/// The format of what an envelope seals. 2: with what is known about the peer's router, and whether it passes packets on.
pub const VERSION: u8 = 2;

/// A sealed and signed record, as control planes carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Format of what is sealed; `VERSION` today.
    pub version: u8,
    /// Whose record it is.
    pub key: PeerKey,
    /// The epoch of the party whose key seals it.
    pub epoch: u32,
    /// Newer replaces older.
    pub seq: u64,
    /// The sealed record.
    pub sealed: Blob,
    /// The peer's signature over everything above and the party.
    pub signature: Signature,
}

/// Why an envelope was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A format of a later program.
    #[error("the record is of a version this program does not know")]
    Version,
    /// Too long, or too many entries.
    #[error("the record is larger than any honest one")]
    TooLarge,
    /// The signature does not fit.
    #[error("the record is not signed by the peer it names")]
    Signature,
    /// Another epoch or another secret.
    #[error("the record is not sealed with this party's key")]
    Seal,
    /// Opened, but not readable.
    #[error("the record is damaged")]
    Damaged,
}

impl Envelope {
    /// Seals and signs a record.
    #[must_use]
    pub fn seal(record: &PeerRecord, keys: &NodeKeys, party: &PartyKeys, seq: u64, nonce: [u8; 24]) -> Self {
        let plain = postcard::to_allocvec(record).expect("a record always serialises");
        let key = keys.key();
        let sealed = Blob(party.seal_record(&key, nonce, &plain));
        let mut envelope =
            Self { version: VERSION, key, epoch: party.epoch(), seq, sealed, signature: Signature([0; 64]) };
        envelope.signature = keys.sign(&envelope.signed_bytes(party.party()));
        envelope
    }

    fn signed_bytes(&self, party: PartyId) -> Vec<u8> {
        [
            &b"lanrage record v1"[..],
            &party.0,
            &[self.version],
            &self.key.0,
            &self.epoch.to_be_bytes(),
            &self.seq.to_be_bytes(),
            &self.sealed.0,
        ]
        .concat()
    }

    /// Checks what anyone can check: size and signature. This is all a control plane can do.
    ///
    /// # Errors
    /// `Version`, `TooLarge` or `Signature`.
    pub fn check(&self, party: PartyId) -> Result<(), EnvelopeError> {
        if self.version != VERSION {
            return Err(EnvelopeError::Version);
        }
        if self.sealed.0.len() > limits::RECORD_BYTES {
            return Err(EnvelopeError::TooLarge);
        }
        if !self.key.verifies(&self.signed_bytes(party), &self.signature) {
            return Err(EnvelopeError::Signature);
        }
        Ok(())
    }

    /// Checks and opens.
    ///
    /// # Errors
    /// As `check`, and `Seal`, `Damaged` or `TooLarge` for what is inside.
    pub fn open(&self, party: &PartyKeys) -> Result<PeerRecord, EnvelopeError> {
        self.check(party.party())?;
        if self.epoch != party.epoch() {
            return Err(EnvelopeError::Seal);
        }
        let plain = party.open_record(&self.key, &self.sealed.0).ok_or(EnvelopeError::Seal)?;
        let mut record: PeerRecord = postcard::from_bytes(&plain).map_err(|_| EnvelopeError::Damaged)?;
        if record.candidates.len() > limits::CANDIDATES || record.games.len() > limits::GAMES {
            return Err(EnvelopeError::TooLarge);
        }
        // Another's tunnel key would draw that peer's handshakes to this one.
        if !Seat::RANGE.contains(&record.seat.0) || self.key.tunnel_key() != Some(record.tunnel) {
            return Err(EnvelopeError::Damaged);
        }
        record.name = tidy_name(&record.name);
        Ok(record)
    }
}

/// A name fit to be shown: no control characters, trimmed, at most 32 characters, never empty.
#[must_use]
pub fn tidy_name(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(limits::NAME_CHARS).collect();
    let clean = clean.trim();
    if clean.is_empty() { "nameless".to_owned() } else { clean.to_owned() }
}

/// A change of a party's secret, made by its owner when somebody is removed: the new membership key, and the new
/// secret sealed for each peer that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The owner's identity, whose short name made the party's name.
    pub owner: PeerKey,
    /// The owner's tunnel key, needed to open the grants.
    pub owner_tunnel: TunnelKey,
    /// The owner's slot, which with the owner's name makes the party's name.
    pub slot: u8,
    /// The new epoch.
    pub epoch: u32,
    /// The public half of the new membership key.
    pub member: MemberKey,
    /// Who stays, each with the new secret sealed for it.
    pub grants: Vec<Grant>,
    /// The owner's signature over everything above.
    pub signature: Signature,
}

/// One peer's copy of a new party secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// For whom.
    pub peer: PeerId,
    /// The secret, sealed by the owner.
    pub sealed: Blob,
}

impl Rotation {
    /// Makes the rotation to `epoch` with a new secret, for these peers. `nonce` is called once per grant.
    #[must_use]
    pub fn seal(
        keys: &NodeKeys,
        slot: u8,
        epoch: u32,
        secret: &PartySecret,
        stay: &[(PeerId, TunnelKey)],
        mut nonce: impl FnMut() -> [u8; 24],
    ) -> Self {
        let party = PartyId::of(keys.id(), slot);
        let grants = stay
            .iter()
            .map(|(peer, tunnel)| Grant {
                peer: *peer,
                sealed: Blob(keys.seal_for(tunnel, nonce(), &secret.0)),
            })
            .collect();
        let mut rotation = Self {
            owner: keys.key(),
            owner_tunnel: keys.tunnel_key(),
            slot,
            epoch,
            member: PartyKeys::new(party, epoch, secret).member_key(),
            grants,
            signature: Signature([0; 64]),
        };
        rotation.signature = keys.sign(&rotation.signed_bytes());
        rotation
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = [
            &b"lanrage rotation v1"[..],
            &self.owner.0,
            &self.owner_tunnel.0,
            &[self.slot],
            &self.epoch.to_be_bytes(),
            &self.member.0,
        ]
        .concat();
        for grant in &self.grants {
            bytes.extend_from_slice(&grant.peer.0);
            bytes.extend_from_slice(&(grant.sealed.0.len() as u64).to_be_bytes());
            bytes.extend_from_slice(&grant.sealed.0);
        }
        bytes
    }

    /// Whether the owner of this party made it.
    #[must_use]
    pub fn is_of(&self, party: PartyId) -> bool {
        self.grants.len() <= limits::PEERS
            && PartyId::of(self.owner.id(), self.slot) == party
            && self.owner.verifies(&self.signed_bytes(), &self.signature)
    }

    /// The new secret, if this node stays.
    #[must_use]
    pub fn open(&self, keys: &NodeKeys) -> Option<PartySecret> {
        let grant = self.grants.iter().find(|g| g.peer == keys.id())?;
        let plain = keys.open_from(&self.owner_tunnel, &grant.sealed.0)?;
        let secret = PartySecret(plain.try_into().ok()?);
        let party = PartyId::of(self.owner.id(), self.slot);
        (PartyKeys::new(party, self.epoch, &secret).member_key() == self.member).then_some(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::NodeSecret;
    use super::*;

    fn keys(n: u8) -> NodeKeys {
        NodeKeys::new(&NodeSecret([n; 32]))
    }

    fn record(n: u8) -> PeerRecord {
        PeerRecord {
            name: "Ana".into(),
            tunnel: keys(n).tunnel_key(),
            seat: Seat(7),
            seat_since: 1,
            candidates: vec![],
            nat: NatFacts::default(),
            games: vec!["minecraft-java".into()],
            incarnation: 1,
            friend: false,
        }
    }

    #[test]
    fn an_envelope_is_believed_only_untouched() {
        let party = PartyKeys::new(PartyId::of(keys(1).id(), 0), 0, &PartySecret([1; 16]));
        let good = Envelope::seal(&record(2), &keys(2), &party, 5, [0; 24]);
        assert_eq!(good.open(&party), Ok(record(2)));
        let mut other_seq = good.clone();
        other_seq.seq = 6;
        assert_eq!(other_seq.open(&party), Err(EnvelopeError::Signature));
        let mut other_peer = good.clone();
        other_peer.key = keys(3).key();
        assert_eq!(other_peer.open(&party), Err(EnvelopeError::Signature));
        let elsewhere = PartyKeys::new(PartyId::of(keys(1).id(), 0), 0, &PartySecret([2; 16]));
        assert_eq!(good.open(&elsewhere), Err(EnvelopeError::Seal));
    }

    #[test]
    fn json_and_back_keeps_an_envelope() {
        let party = PartyKeys::new(PartyId::of(keys(1).id(), 0), 0, &PartySecret([1; 16]));
        let good = Envelope::seal(&record(2), &keys(2), &party, 5, [0; 24]);
        let json = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), good);
        let bytes = postcard::to_allocvec(&good).unwrap();
        assert_eq!(postcard::from_bytes::<Envelope>(&bytes).unwrap(), good);
    }

    #[test]
    fn a_rotation_reaches_those_who_stay_and_nobody_else() {
        let secret = PartySecret([8; 16]);
        let stay = [(keys(2).id(), keys(2).tunnel_key())];
        let rotation = Rotation::seal(&keys(1), 0, 1, &secret, &stay, || [1; 24]);
        assert!(rotation.is_of(PartyId::of(keys(1).id(), 0)));
        assert_eq!(rotation.open(&keys(2)), Some(secret));
        assert_eq!(rotation.open(&keys(3)), None);
        assert!(!rotation.is_of(PartyId::of(keys(2).id(), 0)));
        let mut forged = rotation;
        forged.epoch = 2;
        assert!(!forged.is_of(PartyId::of(keys(1).id(), 0)));
    }

    #[test]
    fn names_are_tidied() {
        assert_eq!(tidy_name("  a\u{7}b\n "), "ab");
        assert_eq!(tidy_name("\t"), "nameless");
        assert_eq!(tidy_name(&"x".repeat(99)).len(), 32);
    }
}
