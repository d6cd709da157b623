//! The network between the computers: LAN segments, their routers, servers, and the internet.
//!
//! A segment is one Ethernet or WLAN: who has a card in it hears the broadcasts of the others. A segment with a router
//! reaches the internet; one without (the private network of a virtual machine, say) reaches nothing, and many computers
//! may have one with the same addresses. An open router changes nothing; a `nat::NatBox` translates or filters, and `route`
//! follows a datagram through such boxes.

use super::link::{Link, Uplink, Weather};
use super::nat::NatBox;
use crate::model::addr::{Card, Net as CardNet};
use crate::model::dice::Seed;
use crate::model::id::CardId;
use crate::model::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A LAN, by its number.
pub type SegmentId = usize;

/// A card of a simulated computer and the cable in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimCard {
    /// As the node sees it.
    pub card: Card,
    /// Where its cable leads.
    pub segment: SegmentId,
}

impl SimCard {
    /// A card with one address.
    #[must_use]
    pub fn new(number: u32, addr: IpAddr, prefix: u8, segment: SegmentId) -> Self {
        let (id, name) = (CardId(number), format!("eth{number}"));
        let card = Card { id, name, nets: vec![CardNet { addr, prefix }], default_route: number == 0 };
        Self { card, segment }
    }

    /// The same card with an IPv6 address too, in a /64.
    #[must_use]
    pub fn with_v6(mut self, addr: Ipv6Addr) -> Self {
        self.card.nets.push(CardNet { addr: addr.into(), prefix: 64 });
        self
    }

    /// Its first address.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.card.nets[0].addr
    }

    /// Its address of the family of another one.
    #[must_use]
    pub fn addr_for(&self, other: IpAddr) -> Option<IpAddr> {
        self.card.nets.iter().map(|n| n.addr).find(|a| a.is_ipv4() == other.is_ipv4())
    }

    /// Whether this is one of its addresses.
    #[must_use]
    pub fn is_at(&self, addr: IpAddr) -> bool {
        self.card.nets.iter().any(|n| n.addr == addr)
    }

    /// Whether another address is in its network.
    #[must_use]
    pub fn is_near(&self, addr: IpAddr) -> bool {
        self.card.nets.iter().any(|n| n.contains(addr))
    }
}

/// What stands between a segment and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// None: nothing leaves, nothing comes.
    None,
    /// Passes everything as it is.
    Open,
    /// This one of the net's boxes.
    Box(usize),
}

/// A packet's way through the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The source as the receiver sees it.
    pub from: SocketAddr,
    /// The sender's segment.
    pub out: SegmentId,
    /// The receiver's segment.
    pub into: SegmentId,
    /// The receiver.
    pub pc: usize,
}

/// All wires, and who is where.
#[derive(Debug)]
pub struct Net {
    /// What stands between each segment and the internet.
    pub routers: Vec<Router>,
    /// Routers that translate, and firewalls.
    pub boxes: Vec<NatBox>,
    /// The addresses of servers on the internet, and whose they are.
    pub servers: BTreeMap<IpAddr, usize>,
    /// Networks whose way to the internet takes no larger IP packet than this; others take every one. By the number of
    /// the segment, or of the box (`route::place_of`) where there is one.
    pub mtus: BTreeMap<SegmentId, usize>,
    /// Networks whose line to the internet is slow.
    pub uplinks: BTreeMap<SegmentId, Uplink>,
    links: BTreeMap<(SegmentId, SegmentId), Link>,
    pub(super) owners: BTreeMap<(SegmentId, IpAddr), usize>,
    cut: BTreeSet<(usize, usize)>,
    offline: BTreeSet<usize>,
    seed: Seed,
    /// How LANs behave.
    pub lan: Weather,
    /// How the internet behaves.
    pub wan: Weather,
}

impl Net {
    /// A network of these segments.
    #[must_use]
    pub fn new(routers: Vec<Router>, lan: Weather, wan: Weather, seed: Seed) -> Self {
        Self {
            routers,
            boxes: Vec::new(),
            servers: BTreeMap::new(),
            mtus: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            links: BTreeMap::new(),
            owners: BTreeMap::new(),
            cut: BTreeSet::new(),
            offline: BTreeSet::new(),
            seed,
            lan,
            wan,
        }
    }

    /// Plugs all cards of a computer in (after taking out those it had).
    pub fn plug(&mut self, pc: usize, cards: &[SimCard]) {
        self.owners.retain(|_, owner| *owner != pc);
        for card in cards {
            for net in &card.card.nets {
                self.owners.insert((card.segment, net.addr), pc);
            }
        }
    }

    /// From now on nothing passes between two computers, or (the same twice) between one and the rest.
    pub fn cut(&mut self, a: usize, b: usize) {
        if a == b {
            self.offline.insert(a);
        } else {
            self.cut.insert((a.min(b), a.max(b)));
        }
    }

    /// Undoes `cut`.
    pub fn mend(&mut self, a: usize, b: usize) {
        if a == b {
            self.offline.remove(&a);
        } else {
            self.cut.remove(&(a.min(b), a.max(b)));
        }
    }

    /// Undoes all cuts and gives all wires fine weather.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.offline.clear();
        self.lan = self.lan.fine();
        self.wan = self.wan.fine();
    }

    /// Whether a computer is cut off from everything.
    #[must_use]
    pub fn is_offline(&self, pc: usize) -> bool {
        self.offline.contains(&pc)
    }

    pub(super) fn passes(&self, a: usize, b: usize) -> bool {
        a == b || !(self.is_offline(a) || self.is_offline(b) || self.cut.contains(&(a.min(b), a.max(b))))
    }

    /// Where a packet of `pc` from `port` to `to` goes; `None` when nobody is there or something stands between.
    #[must_use]
    pub fn route(&self, pc: usize, cards: &[SimCard], port: u16, to: IpAddr) -> Option<Route> {
        let on_link = cards.iter().find(|c| c.is_near(to));
        let out = on_link.or_else(|| cards.iter().find(|c| c.card.default_route))?;
        let from = SocketAddr::new(out.addr_for(to)?, port);
        if let Some(here) = cards.iter().find(|c| c.is_at(to)) {
            return Some(Route { from, out: here.segment, into: here.segment, pc });
        }
        let (into, owner) = if on_link.is_some() {
            (out.segment, *self.owners.get(&(out.segment, to))?)
        } else {
            let routed = |s: SegmentId| self.routers.get(s) == Some(&Router::Open);
            let mut there = self.owners.iter().filter(|((s, addr), _)| *addr == to && routed(*s));
            let ((segment, _), owner) = there.next().filter(|_| routed(out.segment))?;
            (*segment, *owner)
        };
        self.passes(pc, owner).then_some(Route { from, out: out.segment, into, pc: owner })
    }

    /// The others that hear what `pc` broadcasts in a segment.
    #[must_use]
    pub fn hearers(&self, pc: usize, segment: SegmentId) -> Vec<usize> {
        // Once each, by their IPv4 address.
        let there = self.owners.iter().filter(|((s, a), o)| *s == segment && a.is_ipv4() && **o != pc);
        there.map(|(_, owner)| *owner).filter(|owner| self.passes(pc, *owner)).collect()
    }

    /// When a message of a stream between a computer and a server arrives: what is lost is sent again.
    pub(super) fn streamed(
        &mut self,
        (pc, server): (usize, usize),
        up: bool,
        now: Mono,
        again: Duration,
    ) -> Mono {
        // Places of their own, so that streams do not change what happens to datagrams.
        let (pc, server) = (3000 + pc, 4000 + server);
        let (out, into) = if up { (pc, server) } else { (server, pc) };
        let mut sent = now;
        for _ in 0..8 {
            if let [Some(at), _] = self.carry(out, into, sent) {
                return at;
            }
            sent = sent + self.wan.delay * 2 + again;
        }
        sent + self.wan.delay
    }

    /// Whether a datagram of this many bytes is small enough for a way.
    #[must_use]
    pub fn fits(&self, out: SegmentId, into: SegmentId, to: IpAddr, bytes: usize) -> bool {
        // The headers of IP and UDP.
        let packet = bytes + if to.is_ipv6() { 48 } else { 28 };
        self.mtus.is_empty() || [out, into].iter().all(|p| self.mtus.get(p).is_none_or(|mtu| packet <= *mtu))
    }

    /// When a datagram of this many bytes that is sent now arrives: never, once or twice.
    pub fn transport(
        &mut self,
        out: SegmentId,
        into: SegmentId,
        bytes: usize,
        now: Mono,
    ) -> [Option<Mono>; 2] {
        // The headers of IP and UDP, about.
        let line = self.uplinks.get_mut(&out).filter(|_| out != into);
        let left = line.map_or(Some(now), |line| line.send(bytes + 28, now));
        left.map_or([None; 2], |left| self.carry(out, into, left))
    }

    /// When a packet sent now from one segment to another arrives: never, once or twice.
    pub fn carry(&mut self, out: SegmentId, into: SegmentId, now: Mono) -> [Option<Mono>; 2] {
        let weather = if out == into { &self.lan } else { &self.wan };
        let seed = &self.seed;
        let link = self
            .links
            .entry((out, into))
            .or_insert_with(|| Link::new(seed.dice(&format!("link {out} {into}"))));
        link.carry(now, weather)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(number: u32, addr: &str, segment: SegmentId) -> SimCard {
        SimCard::new(number, addr.parse().unwrap(), 24, segment)
    }

    /// Two homes and a private network that both computers have with the same addresses.
    fn net() -> (Net, Vec<Vec<SimCard>>) {
        let routers = vec![Router::Open, Router::Open, Router::None, Router::None];
        let mut net = Net::new(routers, Weather::default(), Weather::default(), Seed::from_u64(1));
        let cards = vec![
            vec![card(0, "198.18.0.2", 0), card(1, "192.168.56.1", 2)],
            vec![card(0, "198.18.1.2", 1), card(1, "192.168.56.1", 3)],
            vec![card(0, "198.18.1.3", 1)],
        ];
        for (pc, cards) in cards.iter().enumerate() {
            net.plug(pc, cards);
        }
        (net, cards)
    }

    #[test]
    fn packets_go_on_link_or_through_the_routers() {
        let (net, cards) = net();
        let to = |a: &str| a.parse().unwrap();
        let far = net.route(0, &cards[0], 5, to("198.18.1.2")).unwrap();
        assert_eq!((far.pc, far.out, far.into, far.from), (1, 0, 1, "198.18.0.2:5".parse().unwrap()));
        let near = net.route(1, &cards[1], 5, to("198.18.1.3")).unwrap();
        assert_eq!((near.pc, near.out, near.into), (2, 1, 1));
        assert_eq!(net.route(0, &cards[0], 5, to("198.18.1.9")), None, "nobody there");
        assert_eq!(net.hearers(1, 1), [2]);
        assert!(net.hearers(0, 0).is_empty());
    }

    #[test]
    fn a_private_network_leads_nowhere_else_even_with_equal_addresses() {
        let (net, cards) = net();
        let own = net.route(0, &cards[0], 5, "192.168.56.1".parse().unwrap()).unwrap();
        assert_eq!(own.pc, 0, "one's own address is oneself");
        assert_eq!(net.route(2, &cards[2], 5, "192.168.56.1".parse().unwrap()), None);
    }

    #[test]
    fn cuts_stop_both_directions_and_heal() {
        let (mut net, cards) = net();
        let works = |net: &Net| {
            let to = |a: &str| a.parse().unwrap();
            [
                net.route(0, &cards[0], 5, to("198.18.1.2")).is_some(),
                net.route(1, &cards[1], 5, to("198.18.0.2")).is_some(),
                net.route(1, &cards[1], 5, to("198.18.1.3")).is_some(),
            ]
        };
        net.cut(1, 0);
        assert_eq!(works(&net), [false, false, true]);
        net.cut(2, 2);
        assert_eq!(works(&net), [false, false, false]);
        net.mend(0, 1);
        assert_eq!(works(&net), [true, true, false]);
        net.heal();
        assert_eq!(works(&net), [true, true, true]);
    }
}
