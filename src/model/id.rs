//! Names of things: peers, parties, profiles, cards.

use super::key::PeerKey;
use super::text::byte_text;
use sha2::{Digest, Sha256};

/// A peer, named by the first 80 bits of a hash of its identity key. This is what people and JSON see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 10]);
byte_text!(PeerId, 10);

impl PeerId {
    /// The name that belongs to an identity key.
    #[must_use]
    pub fn of(key: &PeerKey) -> Self {
        let hash = Sha256::new().chain_update(b"lanrage peer v1").chain_update(key.0).finalize();
        let mut id = [0; 10];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

/// A party, named by a hash of its owner's name and a slot number, so that nobody else can claim the name at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyId(pub [u8; 10]);
byte_text!(PartyId, 10);

impl PartyId {
    /// The party number `slot` of this owner.
    #[must_use]
    pub fn of(owner: PeerId, slot: u8) -> Self {
        let hash = Sha256::new()
            .chain_update(b"lanrage party v1")
            .chain_update(owner.0)
            .chain_update([slot])
            .finalize();
        let mut id = [0; 10];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

/// A network card, by the number the system gives it (interface index).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct CardId(pub u32);

/// A game's id as in `games/<id>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ProfileId(pub String);

impl std::fmt::Display for ProfileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ProfileId {
    fn from(s: &str) -> Self {
        Self(s.to_owned())
    }
}

/// One control plane that a node uses (a party may be reached through several at once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u8);

/// A plugin's id as in `plugins/<id>/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct PluginId(pub String);

impl std::fmt::Display for PluginId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for PluginId {
    fn from(s: &str) -> Self {
        Self(s.to_owned())
    }
}
