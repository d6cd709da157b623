//! A datagram's way through routers: up from a computer to the internet (or only to a carrier's network), and down again to
//! whoever is there.
//!
//! Going up happens when it is sent, coming down when it arrives: a filter that its own side opened in the meantime lets
//! it in, which is what hole punching is. Where two boxes are in a row, each decides by itself.

use super::nat::{NatBox, Outer};
use super::net::{Net, Route, Router, SegmentId, SimCard};
use super::permits::{Between, Side};
use crate::model::time::Mono;
use std::net::{IpAddr, SocketAddr};

/// Boxes and servers have places beside the segments, for wires and their weather.
const FIRST_BOX: SegmentId = 1000;
const FIRST_SERVER: SegmentId = 2000;

/// The place of a box, as a key of `Net::mtus`.
#[must_use]
pub const fn place_of(number: usize) -> SegmentId {
    FIRST_BOX + number
}

/// A datagram under way, between two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    /// The computer that sent it, or none (a server did).
    pub by: Option<usize>,
    /// Its source, as seen where it flies.
    pub from: SocketAddr,
    /// Its destination.
    pub to: SocketAddr,
    /// Where it flies.
    pub realm: Outer,
    /// The place that it left.
    pub out: SegmentId,
    /// The place that it goes to.
    pub into: SegmentId,
}

/// What becomes of a datagram that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Straight to a computer, on one LAN or between open ones.
    Straight(Route),
    /// Through boxes, or to a server.
    Flies(Flight),
}

/// Where a datagram comes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// At a computer, at this address of it.
    Pc(usize, SocketAddr),
    /// At a server.
    Server(usize),
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Pc(usize, SegmentId),
    Box(usize),
    Server(usize),
}

impl Net {
    /// Sends a datagram of `pc` from `port` on its way; `None` when it goes nowhere.
    pub fn depart(
        &mut self,
        pc: usize,
        cards: &[SimCard],
        port: u16,
        to: SocketAddr,
        now: Mono,
    ) -> Option<Departure> {
        if let Some(route) = self.route(pc, cards, port, to.ip()) {
            return Some(Departure::Straight(route));
        }
        if cards.iter().any(|c| c.is_near(to.ip())) {
            return None;
        }
        let out = cards.iter().find(|c| c.card.default_route)?;
        let from = SocketAddr::new(out.addr_for(to.ip())?, port);
        let (from, realm) = self.climb(out.segment, from, to, now)?;
        let place = self.exit_of(out.segment);
        let into = self.find(realm, to.ip()).map(|target| self.gate_of(target))?;
        (!self.is_offline(pc)).then_some(Departure::Flies(Flight {
            by: Some(pc),
            from,
            to,
            realm,
            out: place,
            into,
        }))
    }

    /// What a server sends.
    #[must_use]
    pub fn serve(&self, server: usize, from: SocketAddr, to: SocketAddr) -> Option<Flight> {
        let realm = Outer::Internet;
        let into = self.find(realm, to.ip()).map(|target| self.gate_of(target))?;
        Some(Flight { by: None, from, to, realm, out: FIRST_SERVER + server, into })
    }

    /// Where a datagram comes down that arrives now, if the boxes there let it in.
    pub fn land(&mut self, flight: &Flight, now: Mono) -> Option<Landing> {
        let Flight { from, mut to, .. } = *flight;
        let mut target = self.find(flight.realm, to.ip())?;
        loop {
            match target {
                Target::Server(server) => return Some(Landing::Server(server)),
                Target::Pc(pc, segment) => {
                    // Public addresses behind a firewall; the boxes of a row from the outermost on.
                    let row: Vec<usize> = self.row(segment).collect();
                    for number in row.into_iter().rev() {
                        if to.is_ipv6() || !self.boxes[number].spec.translates {
                            self.boxes[number].inbound(to, from, now)?;
                        }
                    }
                    let open = flight.by.is_none_or(|by| self.passes(by, pc)) && !self.is_offline(pc);
                    return open.then_some(Landing::Pc(pc, to));
                }
                Target::Box(number) => {
                    to = self.boxes[number].inbound(to, from, now)?;
                    target = self.find_inside(number, to.ip())?;
                    if let Target::Pc(pc, _) = target {
                        let open = flight.by.is_none_or(|by| self.passes(by, pc)) && !self.is_offline(pc);
                        return open.then_some(Landing::Pc(pc, to));
                    }
                }
            }
        }
    }

    /// The boxes between a segment and the internet, from the computer outwards.
    pub fn row(&self, segment: SegmentId) -> impl Iterator<Item = usize> + '_ {
        let first = match self.routers.get(segment) {
            Some(Router::Box(number)) => Some(*number),
            Some(Router::None | Router::Open) | None => None,
        };
        std::iter::successors(first, |number| match self.boxes[*number].outer {
            Outer::Internet => None,
            Outer::Behind(outer) => Some(outer),
        })
    }

    /// What stands around a computer, and where two computers are to each other, as `permits` asks for it.
    #[must_use]
    pub fn side(&self, cards: &[SimCard]) -> Side {
        let segment = cards[0].segment;
        let boxes: Vec<_> = self.row(segment).map(|b| self.boxes[b].spec).collect();
        let six = cards[0].card.nets.iter().any(|n| n.addr.is_ipv6());
        let side = Side::behind(&boxes);
        Side { v6: six && (side.v6 || boxes.is_empty()), ..side }
    }

    /// See `side`.
    #[must_use]
    pub fn between(&self, a: &[SimCard], b: &[SimCard]) -> Between {
        if a.iter().any(|a| b.iter().any(|b| a.segment == b.segment)) {
            return Between::SameLan;
        }
        let is_theirs = |number: usize| self.row(b[0].segment).any(|n| n == number);
        let shared = self.row(a[0].segment).find(|n| is_theirs(*n) && self.boxes[*n].spec.translates);
        shared.map_or(Between::Internet, |n| Between::SameBox { hairpin: self.boxes[n].spec.hairpin })
    }

    /// The address under which a segment's TCP connections are seen on the internet.
    #[must_use]
    pub fn seen_as(&self, cards: &[SimCard], to: IpAddr) -> Option<IpAddr> {
        let card = cards.iter().find(|c| c.card.default_route)?;
        let own = card.addr_for(to)?;
        match self.routers.get(card.segment)? {
            Router::None => return None,
            Router::Open => return Some(own),
            Router::Box(_) => {}
        }
        let outermost = self.row(card.segment).map(|b| &self.boxes[b]).filter(|b| b.spec.translates).last();
        Some(outermost.filter(|_| to.is_ipv4()).map_or(own, |b| b.public.into()))
    }

    /// Up through the boxes: the source as seen there, and how far it goes.
    fn climb(
        &mut self,
        segment: SegmentId,
        mut from: SocketAddr,
        to: SocketAddr,
        now: Mono,
    ) -> Option<(SocketAddr, Outer)> {
        let mut next = match self.routers.get(segment)? {
            Router::None => return None,
            Router::Open => return Some((from, Outer::Internet)),
            Router::Box(number) => *number,
        };
        loop {
            let here = &mut self.boxes[next];
            let own = here.spec.translates && to.ip() == IpAddr::V4(here.public);
            if own && !here.spec.hairpin {
                return None;
            }
            from = here.outbound(from, to, now)?;
            let realm = here.outer;
            match realm {
                _ if own => return Some((from, realm)),
                Outer::Internet => return Some((from, realm)),
                Outer::Behind(_) if self.find(realm, to.ip()).is_some() => return Some((from, realm)),
                Outer::Behind(outer) => next = outer,
            }
        }
    }

    /// Who has an address in the internet, or in the network inside of a box.
    fn find(&self, realm: Outer, address: IpAddr) -> Option<Target> {
        let of_box = |b: &NatBox| b.outer == realm && b.spec.translates && IpAddr::V4(b.public) == address;
        if let Some(number) = self.boxes.iter().position(of_box) {
            return Some(Target::Box(number));
        }
        if realm != Outer::Internet {
            return None;
        }
        if let Some(server) = self.servers.get(&address) {
            return Some(Target::Server(*server));
        }
        let public = |segment: SegmentId| match self.routers.get(segment) {
            Some(Router::Open) => true,
            Some(Router::Box(number)) => address.is_ipv6() || !self.boxes[*number].spec.translates,
            Some(Router::None) | None => false,
        };
        let mut there = self.owners.iter().filter(|((s, a), _)| *a == address && public(*s));
        there.next().map(|((segment, _), pc)| Target::Pc(*pc, *segment))
    }

    /// Who has an address in a network inside of a box.
    fn find_inside(&self, number: usize, address: IpAddr) -> Option<Target> {
        let inside = |segment: SegmentId| self.routers.get(segment) == Some(&Router::Box(number));
        let mut there = self.owners.iter().filter(|((s, a), _)| *a == address && inside(*s));
        let pc = there.next().map(|((segment, _), pc)| Target::Pc(*pc, *segment));
        pc.or_else(|| self.find(Outer::Behind(number), address))
    }

    /// The place by which a segment's datagrams reach the internet.
    fn exit_of(&self, segment: SegmentId) -> SegmentId {
        self.row(segment).last().map_or(segment, |number| FIRST_BOX + number)
    }

    fn gate_of(&self, target: Target) -> SegmentId {
        match target {
            Target::Pc(_, segment) => self.exit_of(segment),
            Target::Box(number) => FIRST_BOX + number,
            Target::Server(server) => FIRST_SERVER + server,
        }
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
