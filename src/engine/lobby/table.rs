//! What the lobby's tests play with: a lobby with a clock and ears, and players with keys.
#![allow(clippy::wildcard_enum_match_arm, reason = "tests look for one message among many")]

use super::*;
use crate::model::addr::{Candidate, CandidateKind, Seat};
use crate::model::key::{NodeKeys, NodeSecret, PartyKeys, PartySecret, TunnelKey};
use crate::model::nat::NatFacts;
use crate::model::record::PeerRecord;
use crate::wire::control::{Founding, VERSION};

/// What players call the server.
pub(super) const HERE: &str = "lan.example:8667";

/// One lobby, what it sent to whom, and a clock.
pub(super) struct World {
    pub(super) lobby: Lobby,
    pub(super) now: Now,
    pub(super) next: u64,
    pub(super) address: IpAddr,
    pub(super) heard: BTreeMap<ConnId, Vec<Down>>,
    pub(super) closed: Vec<ConnId>,
    pub(super) forgotten: Vec<PartyId>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Knobs::default())
    }

    pub(super) fn with(knobs: Knobs) -> Self {
        let now = Now { mono: Mono(Duration::from_secs(50)), unix: Duration::from_secs(1_800_000_000) };
        Self {
            lobby: Lobby::new(knobs, Seed::from_u64(1), now),
            now,
            next: 0,
            address: IpAddr::from([10, 0, 0, 1]),
            heard: BTreeMap::new(),
            closed: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    pub(super) fn drain(&mut self) {
        while let Some(effect) = self.lobby.poll_effect() {
            match effect {
                LobbyEffect::Send { to, down } => {
                    for conn in to {
                        assert!(!self.is_closed(conn), "nothing after the end");
                        self.heard.entry(conn).or_default().push(down.clone());
                    }
                }
                LobbyEffect::Close { conn, .. } => self.closed.push(conn),
                LobbyEffect::Store(id) => assert!(self.lobby.party(id).is_some()),
                LobbyEffect::Forget(id) => self.forgotten.push(id),
            }
        }
    }

    pub(super) fn open(&mut self) -> ConnId {
        self.next += 1;
        let conn = ConnId(self.next);
        self.lobby.handle_open(conn, self.address, HERE, self.now);
        self.drain();
        conn
    }

    pub(super) fn challenge(&mut self) -> (ConnId, [u8; 32]) {
        let conn = self.open();
        let Down::Opened { nonce, audience } = self.last(conn) else {
            panic!("{:?}", self.last(conn));
        };
        assert_eq!(audience, HERE);
        (conn, nonce.0)
    }

    pub(super) fn knock(&mut self, player: &Player) -> Result<ConnId, Refusal> {
        let (conn, nonce) = self.challenge();
        self.up(conn, Up::Hello(player.hello(&nonce, HERE)));
        match self.refused(conn) {
            Some(code) => {
                assert!(self.is_closed(conn), "who is refused is hung up on");
                Err(code)
            }
            None => Ok(conn),
        }
    }

    pub(super) fn join(&mut self, player: &Player) -> ConnId {
        self.knock(player).unwrap()
    }

    pub(super) fn publish(&mut self, conn: ConnId, player: &Player, seq: u64) {
        self.up(conn, Up::Publish { envelope: player.envelope(seq) });
    }

    pub(super) fn up(&mut self, conn: ConnId, up: Up) {
        self.lobby.handle(conn, up, self.now);
        self.drain();
    }

    /// Lets time pass, waking the lobby whenever it wants to be woken.
    pub(super) fn pass(&mut self, secs: u64) {
        let end = self.now.plus(Duration::from_secs(secs));
        while let Some(deadline) = self.lobby.deadline().filter(|d| d.at <= end.mono) {
            self.now = self.now.plus(deadline.at.since(self.now.mono));
            self.lobby.handle_timeout(self.now);
            self.drain();
            assert!(self.lobby.deadline().is_none_or(|d| d != deadline), "a busy loop: {deadline:?}");
        }
        self.now = end;
    }

    pub(super) fn last(&self, conn: ConnId) -> &Down {
        self.heard[&conn].last().unwrap()
    }

    pub(super) fn refused(&self, conn: ConnId) -> Option<Refusal> {
        match self.heard.get(&conn)?.last()? {
            Down::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(super) fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }
}

#[derive(Clone)]
pub(super) struct Player {
    pub(super) keys: NodeKeys,
    pub(super) owner: u8,
    pub(super) slot: Option<u8>,
    pub(super) epoch: u32,
    pub(super) secret: PartySecret,
}

impl Player {
    pub(super) fn of_party(n: u8, owner: u8) -> Self {
        let keys = NodeKeys::new(&NodeSecret([n; 32]));
        Self { keys, owner, slot: None, epoch: 0, secret: PartySecret([owner; 16]) }
    }

    pub(super) fn owner(n: u8) -> Self {
        Self { slot: Some(0), ..Self::of_party(n, n) }
    }

    pub(super) fn friend(n: u8) -> Self {
        Self::of_party(n, 1)
    }

    /// The same player with the secret of another epoch.
    pub(super) fn at(&self, epoch: u32) -> Self {
        let step = u8::try_from(epoch).unwrap();
        Self {
            epoch,
            secret: PartySecret([self.owner + 100 * u8::from(step > 0) + step; 16]),
            ..self.clone()
        }
    }

    pub(super) fn party(&self) -> PartyId {
        PartyId::of(NodeKeys::new(&NodeSecret([self.owner; 32])).id(), 0)
    }

    pub(super) fn party_keys(&self) -> PartyKeys {
        PartyKeys::new(self.party(), self.epoch, &self.secret)
    }

    pub(super) fn hello(&self, nonce: &[u8; 32], audience: &str) -> Hello {
        let party = self.party_keys();
        let found = self.slot.map(|slot| Founding { slot, member: party.member_key() });
        let proof = Hello::proof(nonce, audience, self.party(), &self.keys.key(), self.epoch, found.as_ref());
        Hello {
            version: VERSION,
            party: self.party(),
            key: self.keys.key(),
            signature: self.keys.sign(&proof),
            member: party.sign_as_member(&proof),
            epoch: self.epoch,
            found,
        }
    }

    pub(super) fn record(&self) -> PeerRecord {
        PeerRecord {
            name: "Player".into(),
            tunnel: self.keys.tunnel_key(),
            seat: Seat(9),
            seat_since: 1,
            candidates: vec![Candidate {
                addr: "198.51.100.7:4000".parse().unwrap(),
                kind: CandidateKind::Host,
            }],
            nat: NatFacts::default(),
            games: vec![],
            incarnation: 1,
            friend: false,
        }
    }

    pub(super) fn envelope(&self, seq: u64) -> Envelope {
        Envelope::seal(&self.record(), &self.keys, &self.party_keys(), seq, [3; 24])
    }

    pub(super) fn rotate(&self, epoch: u32, stay: &[&Self]) -> Rotation {
        let stay: Vec<(PeerId, TunnelKey)> =
            stay.iter().map(|p| (p.keys.id(), p.keys.tunnel_key())).collect();
        Rotation::seal(&self.keys, 0, epoch, &self.at(epoch).secret, &stay, || [5; 24])
    }
}
