//! Players for the tests of control planes: keys, hellos, records, and a carrier with somebody who answers it.

use lanrage::host::control::{CarrierSetup, ControlChoice, ToCarrier, Tuning, spawn_tuned};
use lanrage::model::addr::{Candidate, CandidateKind, Seat};
use lanrage::model::id::{LinkId, PartyId, PeerId};
use lanrage::model::key::{NodeKeys, NodeSecret, PartyKeys, PartySecret};
use lanrage::model::nat::NatFacts;
use lanrage::model::record::{Envelope, PeerRecord, Rotation};
use lanrage::wire::control::{Down, Founding, Hello, Nonce, Refusal, Up, VERSION};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The address that no control plane may see.
pub(crate) const ADDRESS: &str = "198.51.100.7:4000";
/// The name that no control plane may see.
pub(crate) const NAME: &str = "Zaphod";

#[derive(Clone)]
pub(crate) struct Player {
    pub(crate) keys: NodeKeys,
    pub(crate) owner: u8,
    pub(crate) slot: Option<u8>,
    pub(crate) epoch: u32,
    pub(crate) secret: PartySecret,
}

impl Player {
    /// The owner of party `n`.
    pub(crate) fn owner(n: u8) -> Self {
        Self { slot: Some(0), ..Self::friend(n, n) }
    }

    /// Player `n` with the secret of `owner`'s party.
    pub(crate) fn friend(n: u8, owner: u8) -> Self {
        let keys = NodeKeys::new(&NodeSecret([n; 32]));
        Self { keys, owner, slot: None, epoch: 0, secret: PartySecret([owner; 16]) }
    }

    /// The same player with the secret of another epoch.
    pub(crate) fn at(&self, epoch: u8) -> Self {
        let secret = PartySecret([self.owner.wrapping_add(100).wrapping_add(epoch); 16]);
        Self { epoch: epoch.into(), secret, ..self.clone() }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.keys.id()
    }

    pub(crate) fn party(&self) -> PartyId {
        PartyId::of(NodeKeys::new(&NodeSecret([self.owner; 32])).id(), 0)
    }

    pub(crate) fn party_keys(&self) -> PartyKeys {
        PartyKeys::new(self.party(), self.epoch, &self.secret)
    }

    pub(crate) fn hello(&self, nonce: &Nonce, audience: &str) -> Hello {
        let party = self.party_keys();
        let found = self.slot.map(|slot| Founding { slot, member: party.member_key() });
        let proof =
            Hello::proof(&nonce.0, audience, self.party(), &self.keys.key(), self.epoch, found.as_ref());
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

    pub(crate) fn record(&self) -> PeerRecord {
        PeerRecord {
            name: NAME.into(),
            tunnel: self.keys.tunnel_key(),
            seat: Seat(9),
            seat_since: 1,
            candidates: vec![Candidate { addr: ADDRESS.parse().unwrap(), kind: CandidateKind::Host }],
            nat: NatFacts::default(),
            games: vec![],
            incarnation: 1,
            friend: false,
        }
    }

    pub(crate) fn envelope(&self, seq: u64) -> Envelope {
        Envelope::seal(&self.record(), &self.keys, &self.party_keys(), seq, [3; 24])
    }

    pub(crate) fn rotate(&self, epoch: u8, stay: &[&Self]) -> Rotation {
        let stay: Vec<_> = stay.iter().map(|p| (p.id(), p.keys.tunnel_key())).collect();
        Rotation::seal(&self.keys, 0, epoch.into(), &self.at(epoch).secret, &stay, || [5; 24])
    }
}

/// A carrier and what it said.
pub(crate) struct Line {
    pub(crate) player: Player,
    pub(crate) tx: mpsc::Sender<ToCarrier>,
    pub(crate) rx: mpsc::Receiver<(LinkId, Down)>,
}

impl Line {
    pub(crate) fn new(player: &Player, choice: &ControlChoice, tuning: &Tuning) -> Self {
        let (out, rx) = mpsc::channel(256);
        let setup =
            CarrierSetup { link: LinkId(3), choice: choice.clone(), party: player.party(), me: player.id() };
        Self { player: player.clone(), tx: spawn_tuned(setup, tuning.clone(), out), rx }
    }

    /// A line that was let in.
    pub(crate) async fn join(player: &Player, choice: &ControlChoice, tuning: &Tuning) -> Self {
        let mut line = Self::new(player, choice, tuning);
        line.enter().await;
        line
    }

    /// Opens, says hello, and returns the records of the welcome.
    pub(crate) async fn enter(&mut self) -> Vec<Envelope> {
        match self.knock().await {
            Down::Welcome { peers, epoch, .. } => {
                assert_eq!(epoch, self.player.epoch);
                peers
            }
            other => panic!("not let in: {other:?}"),
        }
    }

    /// Opens, says hello, and returns the answer.
    pub(crate) async fn knock(&mut self) -> Down {
        self.tx.send(ToCarrier::Open).await.unwrap();
        loop {
            match self.next().await {
                Down::Opened { nonce, audience } => {
                    let hello = self.player.hello(&nonce, &audience);
                    self.send(Up::Hello(hello)).await;
                }
                Down::Notice { .. } | Down::Rotated { .. } | Down::Record { .. } | Down::Gone { .. } => {}
                answer => return answer,
            }
        }
    }

    pub(crate) async fn send(&self, up: Up) {
        self.tx.send(ToCarrier::Send(up)).await.unwrap();
    }

    pub(crate) async fn publish(&self, seq: u64) {
        self.send(Up::Publish { envelope: self.player.envelope(seq) }).await;
    }

    pub(crate) async fn next(&mut self) -> Down {
        let (link, down) = timeout(SOON, self.rx.recv()).await.expect("in time").expect("the carrier lives");
        assert_eq!(link, LinkId(3));
        down
    }

    /// Reads until something fits.
    pub(crate) async fn until<T>(&mut self, mut fits: impl FnMut(&Down) -> Option<T>) -> T {
        loop {
            let down = self.next().await;
            if let Some(found) = fits(&down) {
                return found;
            }
        }
    }

    pub(crate) async fn record_of(&mut self, peer: &Player, seq: u64) {
        let key = peer.keys.key();
        self.until(|d| match d {
            Down::Record { envelope } if envelope.key == key && envelope.seq == seq => Some(()),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn closed(&mut self) -> String {
        self.until(|d| match d {
            Down::Closed { why } => Some(why.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn refused(&mut self) -> Refusal {
        self.until(|d| match d {
            Down::Refused { code, .. } => Some(*code),
            _ => None,
        })
        .await
    }

    pub(crate) async fn gone(&mut self) -> (PeerId, bool) {
        self.until(|d| match d {
            Down::Gone { peer, left } => Some((*peer, *left)),
            _ => None,
        })
        .await
    }

    /// Everything that comes within this time.
    pub(crate) async fn everything_for(&mut self, time: Duration) -> Vec<Down> {
        let mut all = Vec::new();
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some((_, down))) = tokio::time::timeout_at(end, self.rx.recv()).await {
            all.push(down);
        }
        all
    }
}
