//! What a node and a control plane say to each other, and what peers say to each other inside the tunnel.
//!
//! The same messages whether a shared folder or a server carries them; `engine::link` cannot tell. JSON on a
//! WebSocket, one message a text frame; postcard inside the tunnel. Unknown fields are ignored, unknown messages refused.

use crate::model::id::{PartyId, PeerId, ProfileId};
use crate::model::key::{MemberKey, PeerKey, Signature};
use crate::model::record::{Envelope, Rotation};
use crate::model::relay::RelayOffer;
use crate::model::text::Blob;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The protocol's number; a server refuses others with `version`.
pub const VERSION: u16 = 1;
/// A server's answer to a WebSocket request carries its `VERSION` here: that is how a client tells it from other programs.
pub const PROTOCOL_HEADER: &str = "lanrage-protocol";

/// From a node to a control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "up", rename_all = "snake_case")]
pub enum Up {
    /// The first message of a connection, answering the challenge.
    Hello(Hello),
    /// This node's newest record.
    Publish {
        /// Sealed and signed.
        envelope: Envelope,
    },
    /// Still here.
    Beat,
    /// Going for good: forget my record.
    Leave,
    /// The owner re-keys the party.
    Rotate {
        /// Signed by the owner.
        rotation: Rotation,
    },
    /// Something for one other peer, sealed; the control plane passes it on and keeps nothing.
    Signal {
        /// For whom.
        to: PeerId,
        /// Sealed by the sender for the receiver.
        sealed: Blob,
    },
}

/// Who knocks, and the proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// `VERSION`.
    pub version: u16,
    /// The party.
    pub party: PartyId,
    /// This node's identity.
    pub key: PeerKey,
    /// This node's signature over `proof`.
    pub signature: Signature,
    /// The same bytes signed with the party's membership key: proof of the secret without telling it.
    pub member: Signature,
    /// The epoch of that membership key.
    pub epoch: u32,
    /// Given by the owner only: makes the party if the control plane does not know it.
    pub found: Option<Founding>,
}

/// What a control plane needs to hold a party it has not seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The owner's slot: with the owner's name it makes the party's name, so nobody else can found it.
    pub slot: u8,
    /// The membership key of the epoch in `Hello`.
    pub member: MemberKey,
}

impl Hello {
    /// The bytes that both signatures cover: the control plane's fresh nonce, the party, the peer, the epoch and, for
    /// an owner, what is founded. Bound to `audience` (the server's address as the client dialled it, or the folder), so that
    /// a malicious server cannot use them elsewhere.
    #[must_use]
    pub fn proof(
        nonce: &[u8; 32],
        audience: &str,
        party: PartyId,
        key: &PeerKey,
        epoch: u32,
        found: Option<&Founding>,
    ) -> Vec<u8> {
        let mut bytes = b"lanrage hello v1".to_vec();
        bytes.extend_from_slice(nonce);
        bytes.extend_from_slice(&(audience.len() as u64).to_be_bytes());
        bytes.extend_from_slice(audience.as_bytes());
        bytes.extend_from_slice(&party.0);
        bytes.extend_from_slice(&key.0);
        bytes.extend_from_slice(&epoch.to_be_bytes());
        if let Some(found) = found {
            bytes.push(found.slot);
            bytes.extend_from_slice(&found.member.0);
        }
        bytes
    }
}

/// A fresh random number to be signed, in text formats base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 32]);
crate::model::text::byte_text!(Nonce, 32);

/// From a control plane to a node. `Closed` and `Notice` are made by the carrier on this computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "down", rename_all = "snake_case")]
pub enum Down {
    /// A connection is there; sign this. First message of a server; made up by the folder's carrier.
    Opened {
        /// To be signed.
        nonce: Nonce,
        /// To be signed too; see `Hello::proof`.
        audience: String,
    },
    /// The connection is gone (made by the carrier, never sent).
    Closed {
        /// What happened, for people.
        why: String,
    },
    /// Something people should know; the connection goes on (made by the carrier, never sent).
    Notice {
        /// A stable word, such as `discovery_broken`.
        code: String,
        /// For people.
        message: String,
    },
    /// The hello was not accepted.
    Refused {
        /// A stable word.
        code: Refusal,
        /// For people.
        message: String,
    },
    /// Accepted; here is everyone.
    Welcome {
        /// The party's epoch here.
        epoch: u32,
        /// The newest rotation, if there was one.
        rotation: Option<Rotation>,
        /// All records that have not expired, the caller's own included.
        peers: Vec<Envelope>,
    },
    /// A record is new or newer.
    Record {
        /// Sealed and signed.
        envelope: Envelope,
    },
    /// A peer said goodbye or fell silent.
    Gone {
        /// Who.
        peer: PeerId,
        /// True after a goodbye.
        left: bool,
    },
    /// The owner re-keyed the party.
    Rotated {
        /// Signed by the owner.
        rotation: Rotation,
    },
    /// The relays this control plane offers to members, with fresh credentials; after a welcome and before the old ones
    /// expire. An unspecified IP address in a way stands for the address at which the control plane was reached; the
    /// carrier puts it in.
    Relays {
        /// All of them; those not named any more are no longer offered.
        offers: Vec<RelayOffer>,
    },
    /// Something from one other peer.
    Signal {
        /// From whom, as the control plane says; the seal proves it.
        from: PeerId,
        /// Sealed for this node.
        sealed: Blob,
    },
}

/// Why a control plane says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Another protocol number.
    Version,
    /// The party is not known here (its owner has not been here).
    UnknownParty,
    /// The signature of the peer is wrong.
    BadSignature,
    /// The party was re-keyed; the newest rotation follows in a `Rotated`, for those who stay.
    OldEpoch,
    /// The membership key does not fit: another secret.
    NotAMember,
    /// More peers than a party holds.
    PartyFull,
    /// Too many requests.
    TooFast,
    /// A message that makes no sense here.
    BadMessage,
}

/// One end tells the other that it is ready to open a way through two NATs of which at least one uses other outside ports
/// for everybody: the signal on which both fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PunchSignal {
    /// The outside address of its router.
    pub public: IpAddr,
    /// The outside ports that it will use next; none: any.
    pub ports: Vec<u16>,
    /// It is the answer to a signal of the other end.
    pub answer: bool,
}

/// Between peers, inside the tunnel, in a `Message` frame (postcard).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// The sender's newest record: the roster travels inside the tunnel too, so that a party outlives its control plane.
    Record(Envelope),
    /// The owner re-keyed the party.
    Rotation(Rotation),
    /// Going for good.
    Bye,
    /// Ready to open a way through two hard NATs: fire now.
    Punch(PunchSignal),
    /// All games of the sender's that can be joined now: one that was named before and is not named here has closed.
    Games(GameList),
    /// The newest records of other members.
    Roster(Vec<Envelope>),
    /// Whose records the sender holds, and their numbers: what is missing or older is to be sent.
    Known {
        /// At most as many as a party has peers.
        held: Vec<(PeerId, u64)>,
        /// The receiver is to say the same, if it lacks something.
        ask: bool,
    },
    /// A sum over what the sender holds (`engine::gossip`): who comes to another one says what it holds.
    Sum(u64),
    /// The games with this number have arrived. Versions that do not know `Games` say nothing and are soon told no more.
    GamesSeen(u64),
}

/// What a computer says of its own games, as data; the receiver believes it of the sender's games only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameList {
    /// The sender's run: numbers start over with it.
    pub run: u32,
    /// Grows with every change.
    pub number: u64,
    /// The games whose profiles the receiver plays too.
    pub games: Vec<GameOffer>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameOffer {
    /// Its profile.
    pub game: ProfileId,
    /// Joined by TCP, else by UDP.
    pub tcp: bool,
    /// The port to join.
    pub port: u16,
    /// What it calls itself.
    pub title: String,
    /// Its map or scenario.
    pub map: String,
    /// Its version.
    pub version: String,
    /// Who plays.
    pub players: Option<u32>,
    /// How many can.
    pub most_players: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_readable_json() {
        assert_eq!(serde_json::to_string(&Up::Beat).unwrap(), r#"{"up":"beat"}"#);
        let gone = Down::Gone { peer: PeerId([0; 10]), left: true };
        assert_eq!(
            serde_json::to_string(&gone).unwrap(),
            r#"{"down":"gone","peer":"0000000000000000","left":true}"#
        );
        assert_eq!(
            serde_json::from_str::<Down>(r#"{"down":"gone","peer":"0000000000000000","left":true,"new":1}"#)
                .unwrap(),
            gone
        );
    }

    #[test]
    fn a_proof_is_bound_to_everything_it_names() {
        let key = PeerKey([1; 32]);
        let base = Hello::proof(&[0; 32], "a", PartyId([0; 10]), &key, 0, None);
        assert_ne!(base, Hello::proof(&[1; 32], "a", PartyId([0; 10]), &key, 0, None));
        assert_ne!(base, Hello::proof(&[0; 32], "b", PartyId([0; 10]), &key, 0, None));
        assert_ne!(base, Hello::proof(&[0; 32], "a", PartyId([1; 10]), &key, 0, None));
        assert_ne!(base, Hello::proof(&[0; 32], "a", PartyId([0; 10]), &key, 1, None));
        let found = Founding { slot: 0, member: MemberKey([0; 32]) };
        assert_ne!(base, Hello::proof(&[0; 32], "a", PartyId([0; 10]), &key, 0, Some(&found)));
    }
}
