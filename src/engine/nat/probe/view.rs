//! How destinations see us, and what it means when one sees us elsewhere than before.

use super::{Phase, Probe, ProbeEvent, SEEN, What};
use crate::engine::nat::judge::Seen;
use crate::model::nat::{Filtering, Mapping, NatFacts};
use std::net::SocketAddr;

impl Probe {
    /// A destination saw us at an address.
    pub(super) fn note(&mut self, new: Seen) {
        let v6 = new.to.is_ipv6();
        let listed = |to: SocketAddr| self.servers.iter().any(|s| s.addr == to);
        // A destination that is asked now and then makes the better anchor.
        let better = listed(new.to) && !self.family(v6).anchor.is_some_and(listed);
        let family = self.family_mut(v6);
        let old = family.seen.iter().chain(&family.past).find(|s| s.to == new.to).map(|s| s.mapped);
        let anchored = family.anchor.is_some();
        // Whoever is asked sees the same behind such a router, so another address is a new one.
        let shared = matches!(family.facts.mapping, Mapping::None | Mapping::EndpointIndependent);
        let elsewhere = family.facts.public.is_some_and(|public| public != new.mapped);
        if old.is_some_and(|old| old != new.mapped) || !anchored && shared && elsewhere {
            return self.moved(new);
        }
        family.past.retain(|s| s.to != new.to);
        if let Some(known) = family.seen.iter_mut().find(|s| s.to == new.to) {
            known.when = new.when;
        } else if family.seen.len() < SEEN {
            family.seen.push(new);
        }
        if !anchored || better {
            self.anchor(new);
        }
    }

    /// From now on what this destination sees is our outside address.
    pub(super) fn anchor(&mut self, seen: Seen) {
        let family = self.family_mut(seen.to.is_ipv6());
        family.anchor = Some(seen.to);
        if family.facts.public.replace(seen.mapped) != Some(seen.mapped) {
            self.tell(ProbeEvent::Reflexive { public: seen.mapped });
        }
    }

    /// The same destination sees us elsewhere than before: everything that was seen is of the past. Behind another
    /// outside IP address it may be another router.
    pub(super) fn moved(&mut self, new: Seen) {
        let v6 = new.to.is_ipv6();
        let family = self.family_mut(v6);
        let again: Vec<SocketAddr> = family.seen.iter().map(|s| s.to).filter(|to| *to != new.to).collect();
        let other_router = family.facts.public.is_some_and(|public| public.ip() != new.mapped.ip());
        family.seen = vec![new];
        family.past.clear();
        // What was sent since the old mapping was last seen may have gone through the new one.
        let confirmed = family.confirmed;
        family.contacted.retain(|_, sent| *sent > confirmed);
        family.anchor = Some(new.to);
        if other_router {
            family.facts = NatFacts { udp: Some(true), ..NatFacts::default() };
        }
        if family.facts.filtering == Filtering::Unknown {
            family.trials.clear();
            family.missing.clear();
            family.tester = None;
        }
        family.facts.public = Some(new.mapped);
        self.asks.retain(|a| a.to.is_ipv6() != v6 || a.what == What::Plain);
        let mut servers = Vec::new();
        for server in self.servers.iter_mut().filter(|s| s.addr.is_ipv6() == v6) {
            servers.push(server.addr);
            if other_router || server.addr != new.to {
                server.phase = Phase::Asking;
            }
        }
        // A round begins for every server; behind another router the rest is asked again by those rounds.
        servers.retain(|to| *to != new.to);
        servers.extend(again.into_iter().filter(|_| !other_router));
        servers.into_iter().for_each(|to| self.ask(What::Plain, to));
        self.tell(ProbeEvent::Moved { public: new.mapped });
    }

    /// A destination's view is no evidence any more.
    pub(super) fn retire(&mut self, to: SocketAddr) {
        let family = self.family_mut(to.is_ipv6());
        if let Some(at) = family.seen.iter().position(|s| s.to == to) {
            let old = family.seen.remove(at);
            if family.past.len() < SEEN {
                family.past.push(old);
            }
        }
        if family.anchor == Some(to) {
            family.anchor = None;
            if let Some(heir) = family.seen.first().copied() {
                self.anchor(heir);
            }
        }
    }
}
