//! A way to a peer, from this computer's end: which door it leaves by and what it is addressed to there.

use super::score::kind_of;
use crate::model::addr::{Candidate, CandidateKind, Card, Endpoint, Seat};
use crate::model::status::PathKind;
use std::net::{IpAddr, SocketAddr};

/// The number of one of this node's allocations on relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelaySlot(pub u8);

/// A way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// From a socket of this computer to an address of the peer (which may be the peer's address on a relay).
    Straight(Endpoint),
    /// Through an allocation of this node: the relay sends it on to this address.
    Relayed {
        /// Which allocation.
        relay: RelaySlot,
        /// The peer's address as the relay reaches it.
        to: SocketAddr,
    },
    /// Through another member of the party, inside the tunnel to it.
    Friend(Seat),
}

/// What this computer has, as path finders see it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ground<'a> {
    /// Its cards.
    pub cards: &'a [Card],
    /// Its allocations on relays that are up.
    pub relays: &'a [RelaySlot],
    /// The addresses of relays, to tell a peer's address there from a direct one.
    pub relay_ips: &'a [IpAddr],
    /// Members that pass packets on, and are reached directly.
    pub friends: &'a [Seat],
}

impl Route {
    /// From the tunnel's own socket to an address.
    #[must_use]
    pub const fn main(to: SocketAddr) -> Self {
        Self::Straight(Endpoint::main(to))
    }

    /// The address at the other end, where there is one.
    #[must_use]
    pub const fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Straight(Endpoint { to, .. }) | Self::Relayed { to, .. } => Some(*to),
            Self::Friend(_) => None,
        }
    }

    /// Its tier, given what the peer's record says about its addresses.
    #[must_use]
    pub fn kind(&self, candidates: &[Candidate], ground: Ground<'_>) -> PathKind {
        let Self::Straight(Endpoint { to, .. }) = self else { return PathKind::Relay };
        let named = candidates.iter().filter(|c| c.addr == *to);
        let on_relay = named.clone().any(|c| c.kind == CandidateKind::Relay);
        let own = named.clone().any(|c| c.kind != CandidateKind::Relay);
        if on_relay || !own && ground.relay_ips.contains(&to.ip()) {
            return PathKind::Relay;
        }
        kind_of(to.ip(), ground.cards)
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Straight(endpoint) => write!(f, "{}", endpoint.to),
            Self::Relayed { to, .. } => write!(f, "{to} by relay"),
            Self::Friend(seat) => write!(f, "player {}", seat.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(addr: &str, kind: CandidateKind) -> Candidate {
        Candidate { addr: addr.parse().unwrap(), kind }
    }

    #[test]
    fn an_address_on_a_relay_is_no_direct_way() {
        let relay: IpAddr = "11.0.1.2".parse().unwrap();
        let ground = Ground { relay_ips: &[relay], ..Ground::default() };
        let to = |a: &str| Route::main(a.parse().unwrap());
        let list = [
            named("11.0.1.2:50000", CandidateKind::Relay),
            named("11.0.1.2:4000", CandidateKind::Host),
            named("11.0.2.2:7", CandidateKind::Reflexive),
        ];
        assert_eq!(to("11.0.1.2:50000").kind(&list, ground), PathKind::Relay);
        assert_eq!(to("11.0.1.2:50001").kind(&list, ground), PathKind::Relay, "before its record came");
        assert_eq!(
            to("11.0.1.2:4000").kind(&list, ground),
            PathKind::Direct,
            "somebody plays on the relay's PC"
        );
        assert_eq!(to("11.0.2.2:7").kind(&list, ground), PathKind::Direct);
        assert_eq!(
            Route::Relayed { relay: RelaySlot(0), to: "11.0.2.2:7".parse().unwrap() }.kind(&list, ground),
            PathKind::Relay
        );
    }
}
