//! Parties without a server: by which addresses an invite leads to this node, and who stands in for a host that left.
//!
//! Pure decisions; the node calls them with its candidates and its roster.

use crate::model::addr::{Candidate, CandidateKind, Seat};
use crate::model::id::PeerId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses that an invite names: each costs every newcomer a question, and the invite some characters.
pub const NAMED: usize = 6;
/// Of one sort (such as the addresses of cards at home) at most.
const OF_A_SORT: usize = 2;

/// What a node is told about meeting without a control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectSetup {
    /// Whether this party meets through its members' own tunnels: knocks are made and the invite names addresses. Knocks
    /// of others are answered in any case.
    pub on: bool,
    /// What the invite named, to be knocked at; empty at a host.
    pub addresses: Vec<SocketAddr>,
    /// Pass packets on for two others that find no direct way.
    pub friend_relay: bool,
}

/// The addresses that an invite through this node names: where the whole world reaches it first, then where its own
/// network does. What is left of the room is for `others`, the open addresses of another member, in case this one leaves.
#[must_use]
pub fn invite_addresses(own: &[Candidate], others: &[Candidate]) -> Vec<SocketAddr> {
    let mut named = Vec::new();
    let take = |named: &mut Vec<SocketAddr>, list: &[Candidate], sorts: &[Sort]| {
        for sort in sorts {
            let fits = list.iter().filter(|c| sort_of(c) == Some(*sort)).take(OF_A_SORT);
            for candidate in fits {
                if named.len() < NAMED && !named.contains(&candidate.addr) {
                    named.push(candidate.addr);
                }
            }
        }
    };
    take(&mut named, own, &[Sort::Opened, Sort::Public, Sort::Home]);
    // Nearly every home network with IPv6 has IPv4 too, which makes for a shorter invite.
    if named.is_empty() {
        take(&mut named, own, &[Sort::HomeV6]);
    }
    take(&mut named, others, &[Sort::Opened, Sort::Public]);
    named
}

/// How far an address is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// A router forwards it, or showed it to the world.
    Opened,
    /// A card has it, and the whole world can route to it.
    Public,
    /// Good in the same network.
    Home,
    /// The same for IPv6 (RFC 4193).
    HomeV6,
}

fn sort_of(candidate: &Candidate) -> Option<Sort> {
    match candidate.kind {
        CandidateKind::Mapped | CandidateKind::Reflexive => Some(Sort::Opened),
        CandidateKind::Host => match candidate.addr.ip() {
            IpAddr::V4(a) if is_public_v4(a) => Some(Sort::Public),
            IpAddr::V6(a) if is_public_v6(a) => Some(Sort::Public),
            IpAddr::V4(_) => Some(Sort::Home),
            IpAddr::V6(_) => Some(Sort::HomeV6),
        },
        // A relay's address is worth nothing without the relay, and a prediction is for one attempt.
        CandidateKind::Relay | CandidateKind::Predicted => None,
    }
}

/// Not private (RFC 1918), shared with a carrier's other customers (RFC 6598), link-local or loopback.
const fn is_public_v4(a: Ipv4Addr) -> bool {
    let [first, second, ..] = a.octets();
    let shared = first == 100 && second & 0xc0 == 64;
    !(a.is_private() || a.is_loopback() || a.is_link_local() || a.is_unspecified() || shared)
}

/// Global unicast (RFC 4291, 2000::/3).
const fn is_public_v6(a: Ipv6Addr) -> bool {
    a.segments()[0] & 0xe000 == 0x2000
}

/// A member that may stand in for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Who.
    pub peer: PeerId,
    /// Whether it made the party.
    pub owner: bool,
    /// Its place.
    pub seat: Seat,
    /// Since when it claims that place (Unix seconds).
    pub since: u64,
}

/// Who looks after newcomers: the owner while it is there, else whoever has been in the party longest (the lower
/// seat, then the lower name, of two who came at once). Everyone who sees the same members comes to the same result.
#[must_use]
pub fn hub(present: impl IntoIterator<Item = Standing>) -> Option<PeerId> {
    present.into_iter().min_by_key(|s| (!s.owner, s.since, s.seat, s.peer)).map(|s| s.peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(addr: &str, kind: CandidateKind) -> Candidate {
        Candidate { addr: addr.parse().unwrap(), kind }
    }

    #[test]
    fn an_invite_names_what_the_world_reaches_before_what_the_house_does() {
        let own = [
            c("192.168.1.5:4000", CandidateKind::Host),
            c("10.9.0.5:4000", CandidateKind::Host),
            c("172.16.0.5:4000", CandidateKind::Host),
            c("[fd00::5]:4000", CandidateKind::Host),
            c("[2001:db8::5]:4000", CandidateKind::Host),
            c("203.0.113.9:5555", CandidateKind::Mapped),
            c("203.0.113.9:7777", CandidateKind::Relay),
            c("203.0.113.9:7778", CandidateKind::Predicted),
        ];
        let others =
            [c("198.51.100.7:4000", CandidateKind::Host), c("192.168.7.7:4000", CandidateKind::Host)];
        let text: Vec<String> = invite_addresses(&own, &others).iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "203.0.113.9:5555",
                "[2001:db8::5]:4000",
                "192.168.1.5:4000",
                "10.9.0.5:4000",
                "198.51.100.7:4000"
            ]
        );
    }

    #[test]
    fn where_there_is_nothing_else_a_local_ipv6_address_will_do() {
        let only = [c("[fd00::5]:4000", CandidateKind::Host)];
        assert_eq!(invite_addresses(&only, &[]), ["[fd00::5]:4000".parse().unwrap()]);
        assert_eq!(invite_addresses(&[], &[]), []);
    }

    #[test]
    fn never_more_than_an_invite_holds_and_none_twice() {
        let many: Vec<Candidate> =
            (1..20).map(|n| c(&format!("203.0.113.{n}:1"), CandidateKind::Host)).collect();
        let mapped = [c("203.0.113.1:1", CandidateKind::Mapped), c("100.64.3.4:1", CandidateKind::Host)];
        let own = [&many[..], &mapped].concat();
        let named = invite_addresses(&own, &many[5..]);
        assert!(named.len() <= NAMED);
        let set: std::collections::BTreeSet<_> = named.iter().collect();
        assert_eq!(set.len(), named.len());
    }

    fn standing(n: u8, owner: bool, seat: u8, since: u64) -> Standing {
        Standing { peer: PeerId([n; 10]), owner, seat: Seat(seat), since }
    }

    #[test]
    fn the_host_then_the_oldest_member_looks_after_newcomers_whoever_reckons() {
        let all = [standing(1, false, 9, 50), standing(2, true, 7, 90), standing(3, false, 3, 50)];
        assert_eq!(hub(all), Some(PeerId([2; 10])), "the owner, though it came last");
        let mut left = [all[0], all[2]];
        assert_eq!(hub(left), Some(PeerId([3; 10])), "the lower seat of two who came at once");
        left.reverse();
        assert_eq!(hub(left), Some(PeerId([3; 10])), "in whatever order they are known");
        assert_eq!(hub([]), None);
    }
}
