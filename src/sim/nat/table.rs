//! The mappings of one outside address: which inside socket stands behind an outside port, towards whom.
//!
//! A mapping lives as long as any flow through it does, as in the connection tracking of real routers. A leased port
//! is open to everybody; what is answered from behind it leaves by the leased port, everything else by the box's
//! ordinary rules.

use super::ledger::Ledger;
use super::{Dependence, Ports, Spec};
use crate::model::dice::Dice;
use crate::model::time::Mono;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Ports below are not given out.
const FIRST_PORT: u16 = 1024;
/// Where counting boxes begin.
const FIRST_COUNTED: u16 = 20_000;
/// Random ports that are tried before the next free one is taken.
const TRIES: usize = 32;

/// What a mapping is reused for: the inside socket, and as much of the remote end as it depends on.
type Key = (SocketAddr, Option<SocketAddr>);

#[derive(Debug)]
struct Mapping {
    key: Key,
    flows: usize,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Table {
    maps: Dependence,
    filters: Dependence,
    rule: Ports,
    inbound_refreshes: bool,
    ports: BTreeMap<u16, Mapping>,
    keys: BTreeMap<Key, u16>,
    flows: Ledger<(u16, SocketAddr)>,
    leases: BTreeMap<u16, SocketAddr>,
    /// Flows that began outside, at a leased port: inside socket and remote end; and that port.
    answers: Ledger<(SocketAddr, SocketAddr)>,
    answered_by: BTreeMap<(SocketAddr, SocketAddr), u16>,
    next: u16,
    dice: Dice,
}

impl Table {
    /// An empty table that follows these rules.
    pub(super) const fn new(spec: &Spec, dice: Dice) -> Self {
        Self {
            maps: spec.maps,
            filters: spec.filters,
            rule: spec.ports,
            inbound_refreshes: spec.inbound_refreshes,
            ports: BTreeMap::new(),
            keys: BTreeMap::new(),
            flows: Ledger::new(spec.life, spec.size),
            leases: BTreeMap::new(),
            answers: Ledger::new(spec.life, spec.size),
            answered_by: BTreeMap::new(),
            next: FIRST_COUNTED,
            dice,
        }
    }

    /// A packet goes out: the port that it leaves by.
    pub(super) fn outbound(&mut self, inside: SocketAddr, to: SocketAddr, now: Mono) -> u16 {
        self.expire(now);
        if let Some(port) = self.answered_by.get(&(inside, to)).copied() {
            self.answers.touch((inside, to), now);
            return port;
        }
        let key = (inside, self.depends(to));
        let port = self.keys.get(&key).copied().unwrap_or_else(|| self.open(key));
        self.touch(port, to, now);
        port
    }

    /// A packet comes to a port: the inside socket that gets it, if it is let in.
    pub(super) fn inbound(&mut self, port: u16, from: SocketAddr, now: Mono) -> Option<SocketAddr> {
        self.expire(now);
        if let Some(inside) = self.leases.get(&port).copied() {
            // The newest way in is the way out.
            self.answered_by.insert((inside, from), port);
            self.answers.touch((inside, from), now);
            self.expire(now);
            return Some(inside);
        }
        let inside = self.ports.get(&port)?.key.0;
        let known = match self.filters {
            Dependence::Independent => true,
            Dependence::Address => {
                let of = |p| (port, SocketAddr::new(from.ip(), p));
                self.flows.has_any(of(0)..=of(u16::MAX))
            }
            Dependence::AddressAndPort => self.flows.has(&(port, from)),
        };
        if !known {
            return None;
        }
        if self.inbound_refreshes {
            self.touch(port, from, now);
        }
        Some(inside)
    }

    /// Opens a port to everybody, the one that is asked for if it is free.
    pub(super) fn lease(&mut self, inside: SocketAddr, wanted: u16) -> u16 {
        if let Some((port, _)) = self.leases.iter().find(|(_, i)| **i == inside) {
            return *port;
        }
        let port = if self.is_free(wanted) { wanted } else { self.any_port() };
        self.leases.insert(port, inside);
        port
    }

    /// Forgets all mappings; `leases` too.
    pub(super) fn forget(&mut self, leases: bool) {
        self.ports.clear();
        self.keys.clear();
        self.flows.clear();
        self.answers.clear();
        self.answered_by.clear();
        if leases {
            self.leases.clear();
        }
    }

    /// How many flows there are.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    fn depends(&self, to: SocketAddr) -> Option<SocketAddr> {
        match self.maps {
            Dependence::Independent => None,
            Dependence::Address => Some(SocketAddr::new(to.ip(), 0)),
            Dependence::AddressAndPort => Some(to),
        }
    }

    fn touch(&mut self, port: u16, remote: SocketAddr, now: Mono) {
        if self.flows.touch((port, remote), now) {
            if let Some(mapping) = self.ports.get_mut(&port) {
                mapping.flows += 1;
            }
            self.expire(now);
        }
    }

    fn expire(&mut self, now: Mono) {
        while let Some((port, _)) = self.flows.overdue(now) {
            let Some(mapping) = self.ports.get_mut(&port) else { continue };
            mapping.flows -= 1;
            if mapping.flows == 0 {
                let key = mapping.key;
                self.ports.remove(&port);
                self.keys.remove(&key);
            }
        }
        while let Some(flow) = self.answers.overdue(now) {
            self.answered_by.remove(&flow);
        }
    }

    fn open(&mut self, key: Key) -> u16 {
        let wanted = key.0.port();
        let port = match self.rule {
            Ports::Preserve if self.is_free(wanted) => wanted,
            Ports::Preserve | Ports::Random => self.any_port(),
            Ports::Sequential(step) => self.counted(step),
        };
        self.ports.insert(port, Mapping { key, flows: 0 });
        self.keys.insert(key, port);
        port
    }

    fn is_free(&self, port: u16) -> bool {
        port >= FIRST_PORT && !self.ports.contains_key(&port) && !self.leases.contains_key(&port)
    }

    fn any_port(&mut self) -> u16 {
        for _ in 0..TRIES {
            let port = self.dice.range(u32::from(FIRST_PORT), u32::from(u16::MAX)) as u16;
            if self.is_free(port) {
                return port;
            }
        }
        self.counted(1)
    }

    fn counted(&mut self, step: u16) -> u16 {
        let mut port = self.next;
        // A box remembers far fewer flows than there are ports.
        while !self.is_free(port) {
            port = port.wrapping_add(step.max(1)).max(FIRST_PORT);
        }
        self.next = port.wrapping_add(step).max(FIRST_PORT);
        port
    }
}
