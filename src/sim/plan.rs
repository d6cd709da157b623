//! Networks for worlds: homes with routers, carriers and guest networks, their addresses, and the relays.
//!
//! Addresses look public (11.x and 2a0f:…), because relays refuse what is not; they exist nowhere but here. Every home
//! behind a translating router has the same private network, as real homes do.

use super::nat::{Kind, NatBox, Outer, Spec, V6};
use super::net::{Net, Router, SegmentId, SimCard};
use super::route::place_of;
use crate::model::dice::Seed;
use crate::model::nat::PortMapping;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes that a home's way to the internet takes in one packet, if nobody says otherwise.
const MTU: usize = 1500;

/// What stands between one network and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// The kind of its boxes.
    pub kind: Kind,
    /// The protocol that the router speaks to open ports.
    pub speaks: Option<PortMapping>,
    /// Its IPv6.
    pub v6: V6,
    /// Whether its router, and its carrier's, lead back inside what goes to their outside addresses.
    pub hairpin: bool,
    /// Whether packets from outside keep mappings alive.
    pub inbound_refreshes: bool,
    /// How long flows are remembered (seconds).
    pub life: u64,
    /// How many flows are remembered.
    pub size: usize,
    /// Whose carrier it shares: that of the last site before it that has one.
    pub shared: bool,
    /// The largest packet on its way to the internet.
    pub mtu: usize,
}

impl Site {
    /// A site of this kind, as the lab has it.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            speaks: None,
            v6: V6::None,
            hairpin: false,
            inbound_refreshes: false,
            life: 120,
            size: 4096,
            shared: false,
            mtu: MTU,
        }
    }

    /// From four bytes: the kind, what it can do, how long and how much it remembers. All zeros is an open site.
    #[must_use]
    pub fn decode([kind, habits, life, more]: [u8; 4]) -> Self {
        // Symmetric and port-restricted ones are the interesting half, so they come more often.
        let weighted =
            [Kind::PortRestricted, Kind::Symmetric, Kind::PortRestricted, Kind::Cgnat, Kind::Symmetric];
        let at = usize::from(kind) % (Kind::ALL.len() + weighted.len());
        let kind = Kind::ALL.get(at).copied().unwrap_or_else(|| weighted[at - Kind::ALL.len()]);
        let protocols = [PortMapping::Pcp, PortMapping::NatPmp, PortMapping::Upnp];
        Self {
            kind,
            speaks: protocols.get(usize::from(habits & 15)).copied().filter(|_| habits != 0),
            hairpin: habits & 16 != 0,
            inbound_refreshes: habits & 32 != 0,
            v6: match habits >> 6 {
                3 => V6::Firewall,
                2 if life & 1 != 0 => V6::Open,
                _ => V6::None,
            },
            // RFC 4787 asks for two minutes; half a minute is what bad ones do.
            life: 35 + u64::from(life),
            size: if more & 15 == 1 { 300 } else { 4096 },
            shared: more & 16 != 0,
            mtu: if more & 224 == 32 { 1400 } else { MTU },
        }
    }

    fn of(&self, spec: Spec) -> Spec {
        Spec {
            hairpin: self.hairpin,
            inbound_refreshes: self.inbound_refreshes,
            life: std::time::Duration::from_secs(self.life),
            size: self.size,
            ..spec
        }
    }
}

/// Puts routers in front of the first segments of a network, one site each.
pub fn lay(net: &mut Net, sites: &[Site], seed: Seed) {
    let mut carrier = None;
    for (segment, site) in sites.iter().enumerate() {
        let mut outer = Outer::Internet;
        let number = |net: &Net| net.boxes.len();
        if let Some(spec) = site.kind.carrier() {
            let at = carrier.filter(|_| site.shared).unwrap_or_else(|| {
                let at = number(net);
                let spec = Spec { v6: V6::Open, size: site.size * 4, ..site.of(spec) };
                let public = Ipv4Addr::new(11, 0, 100, octet(segment, 2));
                net.boxes.push(NatBox::new(spec, outer, public, seed.dice(&format!("box {at}"))));
                at
            });
            carrier = Some(at);
            outer = Outer::Behind(at);
        }
        let router = match site.kind.home() {
            // An open site with IPv6 has it open, and nothing else to decide about.
            None => Router::Open,
            Some(spec) => {
                let at = number(net);
                let spec = Spec { v6: site.v6, speaks: site.speaks, ..site.of(spec) };
                let public = match outer {
                    Outer::Internet => Ipv4Addr::new(11, 0, octet(segment, 1), 2),
                    Outer::Behind(_) => Ipv4Addr::new(100, 64, 0, octet(segment, 2)),
                };
                net.boxes.push(NatBox::new(spec, outer, public, seed.dice(&format!("box {at}"))));
                Router::Box(at)
            }
        };
        net.routers[segment] = router;
        let place = net.row(segment).last().map_or(segment, place_of);
        let narrow = net.mtus.get(&place).copied().unwrap_or(MTU).min(site.mtu);
        net.mtus.insert(place, narrow);
    }
}

/// A card in a site, with an address that ends with this number.
#[must_use]
pub fn card(sites: &[Site], segment: SegmentId, number: usize) -> SimCard {
    let site = sites[segment];
    let translates = site.kind.home().is_some_and(|spec| spec.translates);
    let v4 = if translates {
        Ipv4Addr::new(192, 168, 1, octet(number, 0))
    } else {
        Ipv4Addr::new(11, 1, octet(segment, 0), octet(number, 0))
    };
    let card = SimCard::new(0, IpAddr::V4(v4), 24, segment);
    let v6 = site.v6 != V6::None;
    let prefix = u16::from(octet(segment, 0));
    let six = Ipv6Addr::new(0x2a0f, prefix, 0, 0, 0, 0, 0, u16::from(octet(number, 0)));
    if v6 { card.with_v6(six) } else { card }
}

/// A new outside address for a router that got another one.
#[must_use]
pub fn another_address(number: usize, times: u8) -> Ipv4Addr {
    // The first are the relays'.
    Ipv4Addr::new(11, 2, octet(number, 0), times.max(3))
}

fn octet(number: usize, first: usize) -> u8 {
    u8::try_from(first + number).expect("few networks and few computers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_an_open_site_and_every_kind_can_be_had() {
        assert_eq!(Site::decode([0; 4]).kind, Kind::Open);
        assert_eq!((Site::decode([0; 4]).speaks, Site::decode([0; 4]).v6), (None, V6::None));
        let kinds: std::collections::BTreeSet<_> =
            (0..=255).map(|b| Site::decode([b, 0, 0, 0]).kind).collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
    }

    #[test]
    fn homes_of_one_carrier_share_its_box_and_addresses_of_the_others_are_their_own() {
        let shared = Site { shared: true, ..Site::new(Kind::Cgnat) };
        let sites = [Site::new(Kind::Cgnat), shared, Site::new(Kind::Open), Site::new(Kind::FirewalledOpen)];
        let mut net =
            Net::new(vec![Router::None; 4], Default::default(), Default::default(), Seed::from_u64(1));
        lay(&mut net, &sites, Seed::from_u64(1));
        assert_eq!(net.row(0).last(), net.row(1).last());
        assert_eq!((net.row(0).count(), net.row(2).count(), net.row(3).count()), (2, 0, 1));
        assert_eq!(card(&sites, 0, 10).addr(), card(&sites, 1, 10).addr(), "all homes look the same inside");
        assert_ne!(card(&sites, 2, 10).addr(), card(&sites, 3, 10).addr());
    }
}
