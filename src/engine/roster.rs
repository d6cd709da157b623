//! Who is in the party and whose virtual address is whose. Everyone who sees the same records comes to the same result.
//!
//! A seat (the last byte of an address) is claimed in the peer's own record, with the time of the first claim. The seat
//! that a key prefers comes from a hash, so it is the same every evening; when two claim one seat the older claim
//! keeps it (the lower name if they are equally old) and the other takes the next free one in its own order.

use crate::model::addr::Seat;
use crate::model::id::{PartyId, PeerId};
use crate::model::key::{PartyKeys, PeerKey};
use crate::model::limits::PEERS;
use crate::model::record::{Envelope, EnvelopeError, PeerRecord};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A peer's newest record.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its identity.
    pub key: PeerKey,
    /// As it came, to be remembered and passed on.
    pub envelope: Envelope,
    /// What it says.
    pub record: PeerRecord,
}

/// What a new envelope meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing new.
    Old,
    /// A peer that was not known.
    Joined,
    /// A known peer says something new.
    Changed,
}

/// Why an envelope was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Not believed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The party holds no more peers.
    #[error("the party is full ({PEERS} peers)")]
    Full,
    /// It is this node's own.
    #[error("this is our own record")]
    Own,
}

/// The other peers of the party.
#[derive(Debug)]
pub struct Roster {
    me: PeerId,
    members: BTreeMap<PeerId, Member>,
}

impl Roster {
    /// An empty roster.
    #[must_use]
    pub const fn new(me: PeerId) -> Self {
        Self { me, members: BTreeMap::new() }
    }

    /// A record came, from wherever.
    ///
    /// # Errors
    /// When it is not believed, this node's own, or one too many.
    pub fn learn(&mut self, envelope: Envelope, keys: &PartyKeys) -> Result<(PeerId, News), RosterError> {
        let id = envelope.key.id();
        if id == self.me {
            return Err(RosterError::Own);
        }
        if let Some(known) = self.members.get(&id)
            && (known.envelope.epoch, known.envelope.seq) >= (envelope.epoch, envelope.seq)
        {
            return Ok((id, News::Old));
        }
        let record = envelope.open(keys)?;
        let news = if self.members.contains_key(&id) { News::Changed } else { News::Joined };
        if news == News::Joined && self.members.len() + 1 >= PEERS {
            return Err(RosterError::Full);
        }
        self.members.insert(id, Member { key: envelope.key, envelope, record });
        Ok((id, news))
    }

    /// A member.
    #[must_use]
    pub fn get(&self, id: PeerId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// All members, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Member)> {
        self.members.iter().map(|(id, m)| (*id, m))
    }

    /// Forgets a member.
    pub fn remove(&mut self, id: PeerId) -> Option<Member> {
        self.members.remove(&id)
    }

    /// The seats that others hold, as far as their claims win among themselves.
    #[must_use]
    pub fn seats(&self) -> BTreeMap<Seat, PeerId> {
        let mut seats: BTreeMap<Seat, (Claim, PeerId)> = BTreeMap::new();
        for (id, member) in &self.members {
            let claim = Claim { since: member.record.seat_since, peer: *id };
            let entry = seats.entry(member.record.seat).or_insert((claim, *id));
            if claim < entry.0 {
                *entry = (claim, *id);
            }
        }
        seats.into_iter().map(|(seat, (_, id))| (seat, id)).collect()
    }

    /// The seat this node should hold: the one it has, unless an older claim of another wins it; else the first in its own
    /// order that nobody holds. Keeps the present seat when the /24 is full.
    #[must_use]
    pub fn my_seat(&self, party: PartyId, mine: Option<(Seat, u64)>) -> Seat {
        let held = |seat: Seat| {
            self.members
                .values()
                .filter(move |m| m.record.seat == seat)
                .map(|m| Claim { since: m.record.seat_since, peer: m.key.id() })
        };
        if let Some((seat, since)) = mine {
            let claim = Claim { since, peer: self.me };
            if Seat::RANGE.contains(&seat.0) && held(seat).all(|other| claim < other) {
                return seat;
            }
        }
        seats_of(self.me, party)
            .find(|seat| held(*seat).next().is_none())
            .unwrap_or_else(|| mine.map_or(Seat(1), |(seat, _)| seat))
    }
}

/// A claim to a seat; the lesser one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    since: u64,
    peer: PeerId,
}

/// All seats, in the order in which this peer likes them: from a hash, then round the /24.
fn seats_of(peer: PeerId, party: PartyId) -> impl Iterator<Item = Seat> {
    let hash =
        Sha256::new().chain_update(b"lanrage seat v1").chain_update(party.0).chain_update(peer.0).finalize();
    let first = hash.iter().take(4).fold(0u32, |acc, b| acc << 8 | u32::from(*b)) % 254;
    (0..254u32).map(move |i| Seat(((first + i) % 254) as u8 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::{NodeKeys, NodeSecret, PartySecret};
    use crate::model::nat::NatFacts;

    fn keys(n: u8) -> NodeKeys {
        NodeKeys::new(&NodeSecret([n; 32]))
    }

    fn party() -> PartyKeys {
        PartyKeys::new(PartyId::of(keys(1).id(), 0), 0, &PartySecret([1; 16]))
    }

    fn envelope(n: u8, seat: u8, since: u64, seq: u64) -> Envelope {
        let record = PeerRecord {
            name: format!("p{n}"),
            tunnel: keys(n).tunnel_key(),
            seat: Seat(seat),
            seat_since: since,
            candidates: vec![],
            nat: NatFacts::default(),
            games: vec![],
            incarnation: 1,
            friend: false,
        };
        Envelope::seal(&record, &keys(n), &party(), seq, [n; 24])
    }

    #[test]
    fn newer_records_replace_older_ones_and_nothing_else() {
        let mut r = Roster::new(keys(1).id());
        assert_eq!(r.learn(envelope(2, 5, 1, 10), &party()), Ok((keys(2).id(), News::Joined)));
        assert_eq!(r.learn(envelope(2, 5, 1, 9), &party()), Ok((keys(2).id(), News::Old)));
        assert_eq!(r.learn(envelope(2, 6, 1, 11), &party()), Ok((keys(2).id(), News::Changed)));
        assert_eq!(r.learn(envelope(1, 6, 1, 11), &party()), Err(RosterError::Own));
        assert_eq!(r.seats(), BTreeMap::from([(Seat(6), keys(2).id())]));
    }

    #[test]
    fn a_seat_is_the_same_every_evening_and_its_loss_is_settled_the_same_way_by_both() {
        let (a, b) = (keys(2).id(), keys(3).id());
        let wish = Roster::new(a).my_seat(party().party(), None);
        assert_eq!(Roster::new(a).my_seat(party().party(), None), wish);
        let mut at_a = Roster::new(a);
        at_a.learn(envelope(3, wish.0, 50, 1), &party()).unwrap();
        let mut at_b = Roster::new(b);
        at_b.learn(envelope(2, wish.0, 40, 1), &party()).unwrap();
        assert_eq!(at_a.my_seat(party().party(), Some((wish, 40))), wish, "the older claim keeps the seat");
        assert_ne!(at_b.my_seat(party().party(), Some((wish, 50))), wish, "the younger one moves");
        let equal_a = at_a.my_seat(party().party(), Some((wish, 50))) == wish;
        at_b = Roster::new(b);
        at_b.learn(envelope(2, wish.0, 50, 1), &party()).unwrap();
        let equal_b = at_b.my_seat(party().party(), Some((wish, 50))) == wish;
        assert!(equal_a != equal_b, "exactly one of two equal claims keeps the seat");
    }

    #[test]
    fn every_peer_finds_a_seat_and_none_twice() {
        let order: std::collections::BTreeSet<_> = seats_of(keys(9).id(), party().party()).collect();
        assert_eq!(order.len(), 254);
        assert!(order.iter().all(|s| Seat::RANGE.contains(&s.0)));
    }
}
