//! Addresses: the party's virtual network, and where a peer can be reached on the real one.

use super::id::{CardId, PartyId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A party's /24, for example `10.83.7.0/24`, with the /64 of IPv6 that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Subnet(pub [u8; 3]);

/// A peer's place in the party's /24: the last byte, 1 to 254.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Seat(pub u8);

impl Seat {
    /// The lowest and the highest seat.
    pub const RANGE: std::ops::RangeInclusive<u8> = 1..=254;
}

impl Subnet {
    /// The IPv4 address of a seat.
    #[must_use]
    pub const fn v4(self, seat: Seat) -> Ipv4Addr {
        Ipv4Addr::new(self.0[0], self.0[1], self.0[2], seat.0)
    }

    /// The network's broadcast address.
    #[must_use]
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0[0], self.0[1], self.0[2], 255)
    }

    /// The network's own address.
    #[must_use]
    pub const fn network(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0[0], self.0[1], self.0[2], 0)
    }

    /// The IPv6 address of a seat: a unique local address (RFC 4193) whose 40-bit global id is made from the party.
    #[must_use]
    pub fn v6(self, party: PartyId, seat: Seat) -> Ipv6Addr {
        let mut b = [0u8; 16];
        b[0] = 0xfd;
        b[1..6].copy_from_slice(&party.0[..5]);
        b[6..8].copy_from_slice(&party.0[5..7]);
        b[15] = seat.0;
        b.into()
    }

    /// The seat of an IPv4 address of this network; `None` for the network, broadcast and foreign addresses.
    #[must_use]
    pub fn seat_of(self, address: Ipv4Addr) -> Option<Seat> {
        let [a, b, c, d] = address.octets();
        ([a, b, c] == self.0 && Seat::RANGE.contains(&d)).then_some(Seat(d))
    }

    /// The seat of an IPv6 address of this party.
    #[must_use]
    pub fn seat_of_v6(self, party: PartyId, address: Ipv6Addr) -> Option<Seat> {
        let seat = Seat(address.octets()[15]);
        (Seat::RANGE.contains(&seat.0) && self.v6(party, seat) == address).then_some(seat)
    }

    /// Whether an address lies in the /24 (network and broadcast address included).
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let [a, b, c, _] = address.octets();
        [a, b, c] == self.0
    }
}

/// The loopback address that stands for a virtual address on a computer without a tunnel device: 10.b.c.z is 127.b.c.z.
/// Where b is 0 it is 127.1.c.z, because 127.0.0.x and 127.0.1.x belong to the system (the usual loopback address, name
/// servers, the computer's own name).
#[must_use]
pub const fn stand_in(address: Ipv4Addr) -> Ipv4Addr {
    let [_, b, c, z] = address.octets();
    Ipv4Addr::new(127, if b == 0 { 1 } else { b }, c, z)
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}.0/24", self.0[0], self.0[1], self.0[2])
    }
}

/// Text that is not `A.B.C.0/24`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network of the form A.B.C.0/24, such as 10.83.7.0/24")]
pub struct NotASubnet(pub String);

impl std::str::FromStr for Subnet {
    type Err = NotASubnet;
    fn from_str(s: &str) -> Result<Self, NotASubnet> {
        let bad = || NotASubnet(s.to_owned());
        let address: Ipv4Addr = s.strip_suffix("/24").unwrap_or(s).parse().map_err(|_| bad())?;
        let [a, b, c, d] = address.octets();
        if d == 0 && (1..224).contains(&a) && a != 127 { Ok(Self([a, b, c])) } else { Err(bad()) }
    }
}

/// Which way a datagram leaves this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// The tunnel's own socket of the destination's family.
    Main,
    /// One of the sockets that were opened for a peer behind a hard NAT (`Effect::OpenSockets`).
    Extra(u16),
    /// A TCP or TLS connection to a relay (`Effect::OpenStream`); the destination is the relay's address there. Every
    /// "datagram" is one STUN message or one ChannelData message; padding to four bytes (RFC 8656, section 12.5) is
    /// the stream's business.
    Stream(u8),
}

/// Where a datagram goes, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Which way out of this computer.
    pub via: Via,
    /// The address it is sent to.
    pub to: SocketAddr,
}

impl Endpoint {
    /// An address, by the tunnel's own socket.
    #[must_use]
    pub const fn main(to: SocketAddr) -> Self {
        Self { via: Via::Main, to }
    }
}

/// How a candidate address was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum CandidateKind {
    /// An address of one of the peer's cards.
    Host,
    /// Seen from outside (a ping's source, a server's answer).
    Reflexive,
    /// Opened on the peer's router on request.
    Mapped,
    /// A relay's address that forwards to the peer.
    Relay,
    /// What the peer's router will use next, reckoned from how it counted so far.
    Predicted,
}

/// One address at which a peer may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Candidate {
    /// Where.
    pub addr: SocketAddr,
    /// How it was learned.
    pub kind: CandidateKind,
}

/// An address with its prefix length, as set on a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    /// The card's own address.
    pub addr: IpAddr,
    /// The prefix length in bits.
    pub prefix: u8,
}

impl Net {
    /// Whether `other` is in the same network.
    #[must_use]
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.addr, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same_bits(&a.octets(), &b.octets(), self.prefix),
            (IpAddr::V6(a), IpAddr::V6(b)) => same_bits(&a.octets(), &b.octets(), self.prefix),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The subnet-directed broadcast address (RFC 919), for IPv4 networks that have one.
    #[must_use]
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        let IpAddr::V4(a) = self.addr else {
            return None;
        };
        let host_bits = 32u32.checked_sub(u32::from(self.prefix)).filter(|n| (2..32).contains(n))?;
        Some(Ipv4Addr::from(u32::from(a) | ((1 << host_bits) - 1)))
    }

    /// Whether this network and a /24 share any address.
    #[must_use]
    pub fn clashes_with(&self, subnet: Subnet) -> bool {
        let prefix = self.prefix.min(24);
        Self { addr: self.addr, prefix }.contains(IpAddr::V4(subnet.network()))
    }
}

fn same_bits(a: &[u8], b: &[u8], bits: u8) -> bool {
    let (whole, rest) = (usize::from(bits / 8), bits % 8);
    if a.get(..whole) != b.get(..whole) {
        return false;
    }
    match (a.get(whole), b.get(whole)) {
        (Some(x), Some(y)) if rest > 0 => (x ^ y) >> (8 - rest) == 0,
        _ => true,
    }
}

/// One of this computer's network cards, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The system's number.
    pub id: CardId,
    /// The system's name, such as `eth0`.
    pub name: String,
    /// Its addresses.
    pub nets: Vec<Net>,
    /// Whether the default route leaves by it.
    pub default_route: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(s: &str, prefix: u8) -> Net {
        Net { addr: s.parse().unwrap(), prefix }
    }

    #[test]
    fn networks_know_their_members_and_their_broadcast() {
        let n = net("192.168.17.5", 20);
        assert!(n.contains("192.168.31.255".parse().unwrap()));
        assert!(!n.contains("192.168.32.0".parse().unwrap()));
        assert_eq!(n.broadcast(), Some("192.168.31.255".parse().unwrap()));
        assert_eq!(net("10.0.0.1", 32).broadcast(), None);
        assert_eq!(net("10.0.0.1", 31).broadcast(), None);
        assert!(net("fe80::1", 64).contains("fe80::2".parse().unwrap()));
        assert!(!net("fe80::1", 64).contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn clashes_are_seen_from_both_sizes() {
        let s: Subnet = "10.5.6.0/24".parse().unwrap();
        assert!(net("10.9.9.9", 8).clashes_with(s), "a larger network that holds the /24");
        assert!(net("10.5.6.200", 28).clashes_with(s), "a smaller network inside the /24");
        assert!(!net("10.5.7.1", 24).clashes_with(s));
        assert!(!net("192.168.0.1", 16).clashes_with(s));
    }

    #[test]
    fn seats_and_addresses_are_one_to_one() {
        let s = Subnet([10, 1, 2]);
        let p = PartyId([9; 10]);
        for n in Seat::RANGE {
            assert_eq!(s.seat_of(s.v4(Seat(n))), Some(Seat(n)));
            assert_eq!(s.seat_of_v6(p, s.v6(p, Seat(n))), Some(Seat(n)));
        }
        assert_eq!(s.seat_of(s.broadcast()), None);
        assert_eq!(s.seat_of(s.network()), None);
        assert_eq!(s.seat_of_v6(PartyId([8; 10]), s.v6(p, Seat(3))), None);
    }

    /// The virtual address that a loopback address stands for in a party of this network; `None` when it stands for no seat.
    fn behind(subnet: Subnet, loopback: Ipv4Addr) -> Option<Ipv4Addr> {
        let seat = Seat(loopback.octets()[3]);
        let address = subnet.v4(seat);
        (Seat::RANGE.contains(&seat.0) && stand_in(address) == loopback).then_some(address)
    }

    #[test]
    fn every_seat_has_one_stand_in_and_none_is_the_systems() {
        for subnet in [[10, 83, 7], [10, 0, 0], [10, 0, 1], [10, 255, 255], [192, 168, 1], [10, 1, 0]] {
            let subnet = Subnet(subnet);
            for n in Seat::RANGE {
                let address = stand_in(subnet.v4(Seat(n)));
                assert!(address.is_loopback() && address.octets()[1] != 0, "{address}");
                assert_eq!(behind(subnet, address), Some(subnet.v4(Seat(n))));
            }
            for foreign in [Ipv4Addr::LOCALHOST, stand_in(subnet.broadcast()), stand_in(subnet.network())] {
                assert_eq!(behind(subnet, foreign), None, "{foreign}");
            }
        }
        assert_eq!(stand_in(Ipv4Addr::new(10, 83, 7, 9)), Ipv4Addr::new(127, 83, 7, 9));
        assert_eq!(behind(Subnet([10, 83, 7]), Ipv4Addr::new(127, 83, 8, 9)), None, "another party's");
    }

    #[test]
    fn subnets_are_read_strictly() {
        assert_eq!("10.1.2.0/24".parse(), Ok(Subnet([10, 1, 2])));
        for bad in ["10.1.2.1/24", "10.1.2.0/16", "127.0.0.0/24", "x", "240.0.0.0/24", "0.1.2.0/24"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
