//! What this node knows about its router, from servers (`engine::nat`), from what peers see, and from what the host got
//! opened; and what follows when a network shakes.

use super::Node;
use crate::engine::effect::{Effect, Lease};
use crate::engine::nat::{Probe, ProbeEvent};
use crate::engine::sink::WanSink;
use crate::engine::tunnel::session::Session;
use crate::model::addr::{Candidate, CandidateKind, Endpoint};
use crate::model::dice::Seed;
use crate::model::id::PeerId;
use crate::model::nat::{NatFacts, PortMapping};
use crate::model::status::{Event, NatStatus, PortMappingStatus, SeenStatus};
use crate::model::time::{Deadline, Mono, Now};
use crate::wire::stun::{Builder, Class, Message, Method, PADDED, Transaction};
use std::net::{IpAddr, SocketAddr};

/// Outside addresses that peers say they see are kept for so many peers.
const SEEN: usize = 4;
/// The longest STUN request of ours.
const REQUEST: usize = 256;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Nat {
    probe: Probe,
    servers: Vec<SocketAddr>,
    lease: Option<Lease>,
    lease_report: Vec<(PortMapping, String)>,
    /// Outside addresses by which peers see this node's socket, the newest last.
    seen: Vec<(PeerId, SocketAddr)>,
    said: Option<Event>,
}

impl Nat {
    pub(super) fn new(seed: &Seed, now: Now) -> Self {
        Self {
            probe: Probe::new(seed.dice("nat"), now.mono),
            servers: Vec::new(),
            lease: None,
            lease_report: Vec::new(),
            seen: Vec::new(),
            said: None,
        }
    }

    /// The facts of IPv4.
    pub(super) fn v4(&self) -> &NatFacts {
        self.probe.facts(false)
    }

    /// What is published about this node's router.
    pub(super) fn facts(&self) -> NatFacts {
        *self.v4()
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.servers.iter().copied()
    }

    pub(super) fn set_servers(&mut self, servers: &[SocketAddr], now: Mono) {
        self.servers = servers.to_vec();
        self.probe.set_servers(servers, now);
    }

    /// The tunnel's sockets: whether a router keeps their port can only be told by who knows it.
    pub(super) fn set_local_port(&mut self, sockets: &[SocketAddr]) {
        if let Some(port) = sockets.iter().map(SocketAddr::port).find(|p| *p != 0) {
            self.probe.set_local_port(port);
        }
    }

    pub(super) fn set_lease(&mut self, lease: Option<Lease>) -> bool {
        let changed = self.lease != lease;
        self.lease = lease;
        changed
    }

    pub(super) fn set_lease_report(&mut self, report: Vec<(PortMapping, String)>) {
        self.lease_report = report;
    }

    /// What asking the router came to, by protocol.
    pub(super) fn lease_report(&self) -> &[(PortMapping, String)] {
        &self.lease_report
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let public = [false, true].into_iter().filter_map(|v6| self.probe.facts(v6).public);
        let reflexive = public.chain(self.seen.iter().rev().map(|(_, addr)| *addr));
        let reflexive = reflexive.map(|addr| Candidate { addr, kind: CandidateKind::Reflexive });
        let mapped = self.lease.map(|l| Candidate { addr: l.external, kind: CandidateKind::Mapped });
        mapped.into_iter().chain(reflexive).collect()
    }

    pub(super) fn status(&self) -> NatStatus {
        let asked = |(by, said): &(PortMapping, String)| PortMappingStatus {
            by: by.word().to_owned(),
            said: said.clone(),
        };
        NatStatus {
            port_mapping: self.lease.map_or("none", |l| l.by.word()).to_owned(),
            mapped: self.lease.map(|l| l.external),
            asked: self.lease_report.iter().map(asked).collect(),
            seen: self.evidence(),
            ..NatStatus::of(self.v4(), self.probe.facts(true))
        }
    }

    fn evidence(&self) -> Vec<SeenStatus> {
        let seen = [false, true].into_iter().flat_map(|v6| self.probe.seen(v6));
        seen.map(|(server, address)| SeenStatus { server, address }).collect()
    }

    /// The first five fields of the status, as they are told when they change.
    fn event(&self) -> Event {
        let status = self.status();
        Event::Nat {
            r#type: status.r#type,
            mapping: status.mapping,
            filtering: status.filtering,
            public: status.public,
            port_mapping: status.port_mapping,
        }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.probe.deadline()
    }

    pub(super) fn handle_timeout(&mut self, now: Mono) {
        if self.probe.deadline().is_some_and(|d| d.at <= now) {
            self.probe.handle_timeout(now);
        }
    }

    pub(super) fn recheck(&mut self, now: Mono) {
        self.probe.recheck(now);
    }

    pub(super) fn transmit(&mut self, wan: &mut impl WanSink) {
        let mut room = [0u8; REQUEST];
        while let Some((to, len)) = self.probe.poll_transmit(&mut room) {
            let Some(space) = wan.reserve(Endpoint::main(to), len).and_then(|s| s.get_mut(..len)) else {
                return;
            };
            space.copy_from_slice(room.get(..len).unwrap_or_default());
            wan.commit(len);
        }
    }
}

/// A plain STUN binding request (RFC 8489).
pub(super) fn unsigned_request(transaction: [u8; 12]) -> Vec<u8> {
    let mut room = [0u8; REQUEST];
    let request = Builder::new(&mut room, Method::Binding, Class::Request, Transaction(transaction));
    let len = request.software(PADDED).finish().unwrap_or(0);
    room.get(..len).unwrap_or_default().to_vec()
}

impl<S: Session> Node<S> {
    /// A STUN message that no relay's client knows.
    pub(super) fn stun_answer(&mut self, from: Endpoint, wire: &[u8], now: Now) {
        if let Ok(message) = Message::parse(wire)
            && self.outside_answer(from, &message, now)
        {
            return;
        }
        if from.via == crate::model::addr::Via::Main && self.nat.probe.handle(from.to, wire, now.mono) {
            return self.nat_settle();
        }
        self.dropped(crate::engine::counters::DropReason::UnknownDatagram);
    }

    /// A peer says from which address our ping came. Only what a router may have made of it is new.
    pub(super) fn seen_from_outside(&mut self, at: usize, seen: SocketAddr, to: SocketAddr) {
        let Some(by) = self.peers.list.get(at).map(|p| p.id) else { return };
        let own = self.world.cards.iter().flat_map(|c| &c.nets).any(|n| n.addr == seen.ip());
        let outside = match seen.ip() {
            IpAddr::V4(a) => !(a.is_private() || a.is_loopback() || a.is_link_local() || a.is_unspecified()),
            IpAddr::V6(_) => false,
        };
        let known = self.nat.probe.facts(false).public == Some(seen)
            || self.nat.seen.iter().any(|(_, addr)| *addr == seen);
        // What a relay sees is what its server sees.
        let by_relay = self.world.relay_ips.contains(&to.ip());
        if own || !outside || known || by_relay || self.nat.v4().is_independent() == Some(false) {
            return;
        }
        // One place for each witness: nobody fills all of them with what is not ours.
        self.nat.seen.retain(|(peer, _)| *peer != by);
        if self.nat.seen.len() >= SEEN {
            self.nat.seen.remove(0);
        }
        self.nat.seen.push((by, seen));
        self.todo.publish = true;
    }

    /// What follows from news about the router.
    pub(super) fn nat_settle(&mut self) {
        let mut news = false;
        while let Some(event) = self.nat.probe.poll_event() {
            match event {
                ProbeEvent::Reflexive { .. } | ProbeEvent::Facts => news = true,
                ProbeEvent::Moved { .. } => {
                    news = true;
                    self.nat.seen.clear();
                    for peer in &mut self.peers.list {
                        peer.punch.renew();
                    }
                }
            }
        }
        if news {
            self.todo.publish = true;
            self.say_nat();
        }
    }

    pub(super) fn say_nat(&mut self) {
        let event = self.nat.event();
        // What is not known at the start is no news.
        let status = self.nat.status();
        let nothing = status.r#type == "unknown" && status.port_mapping == "none";
        if self.nat.said.as_ref() != Some(&event) && !(self.nat.said.is_none() && nothing) {
            self.nat.said = Some(event.clone());
            self.event(event);
        }
    }

    /// This computer's network changed, or it slept: every proof is in doubt, here and at the relays.
    pub(super) fn world_shook(&mut self, now: Now) {
        let locals: Vec<IpAddr> = self.world.cards.iter().flat_map(|c| &c.nets).map(|n| n.addr).collect();
        self.nat.probe.set_locals(&locals);
        self.nat.recheck(now.mono);
        self.relays.shaken(now.mono);
        self.effects.push_back(Effect::RefreshLease);
        for peer in &mut self.peers.list {
            peer.punch.renew();
            peer.agent.network_changed(self.world.ground_for(peer.lent), now.mono);
        }
    }

    /// A path may have broken at this end: ask the router's mapping and the relays, at once.
    pub(super) fn distress(&mut self, now: Now) {
        self.nat.recheck(now.mono);
        self.relays.check(now.mono);
    }
}
