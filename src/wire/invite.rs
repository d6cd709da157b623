//! The invite: a text that lets a peer into a party, and that names the group in which it was mistyped.

use crate::model::addr::Subnet;
use crate::model::id::{PartyId, PeerId};
use crate::model::key::PartySecret;

/// Where to find a party's control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlHint {
    /// A `lanrage server`, as a URL.
    Server(String),
    /// A shared folder.
    Folder(String),
}

/// What an invite carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// The owner's short name, a fingerprint of its identity key.
    pub owner: PeerId,
    /// The owner's slot.
    pub slot: u8,
    /// The epoch of the secret.
    pub epoch: u32,
    /// The party's secret.
    pub secret: PartySecret,
    /// The party's network.
    pub subnet: Subnet,
    /// Where to find the control plane.
    pub control: Vec<ControlHint>,
}

impl Invite {
    /// The party.
    #[must_use]
    pub fn party(&self) -> PartyId {
        PartyId::of(self.owner, self.slot)
    }
}
