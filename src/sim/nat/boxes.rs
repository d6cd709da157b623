//! One box: packets out, packets in, ports on request, and what happens to it.

use super::ledger::Ledger;
use super::table::Table;
use super::{Dependence, Ports, Spec, V6};
use crate::model::dice::Dice;
use crate::model::time::Mono;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What is outside of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    /// The internet.
    Internet,
    /// The network inside of this other box (a carrier's).
    Behind(usize),
}

/// See the module's description.
#[derive(Debug)]
pub struct NatBox {
    /// How it behaves.
    pub spec: Spec,
    /// Where it hangs.
    pub outer: Outer,
    /// Its outside address; nobody's when it does not translate.
    pub public: Ipv4Addr,
    away: Mono,
    table: Table,
    /// Inside and remote end of what a firewall let out.
    wall: Ledger<(SocketAddr, SocketAddr)>,
}

impl NatBox {
    /// A box that was just switched on.
    #[must_use]
    pub const fn new(spec: Spec, outer: Outer, public: Ipv4Addr, dice: Dice) -> Self {
        let wall = Ledger::new(spec.life, spec.size);
        Self { spec, outer, public, away: Mono::ZERO, table: Table::new(&spec, dice), wall }
    }

    /// A datagram goes out: its source as seen outside, unless it stops here.
    pub fn outbound(&mut self, from: SocketAddr, to: SocketAddr, now: Mono) -> Option<SocketAddr> {
        if !self.spec.udp || now < self.away {
            return None;
        }
        if from.is_ipv4() && self.spec.translates {
            return Some(SocketAddr::new(self.public.into(), self.table.outbound(from, to, now)));
        }
        if self.lets_in(to.is_ipv6())? != Dependence::Independent {
            self.wall.touch((from, to), now);
            while self.wall.overdue(now).is_some() {}
        }
        Some(from)
    }

    /// A datagram comes from outside: the inside address it goes on to, if it is let in.
    pub fn inbound(&mut self, to: SocketAddr, from: SocketAddr, now: Mono) -> Option<SocketAddr> {
        if !self.spec.udp || now < self.away {
            return None;
        }
        if to.is_ipv4() && self.spec.translates {
            return self.table.inbound(to.port(), from, now).filter(|_| to.ip() == IpAddr::V4(self.public));
        }
        while self.wall.overdue(now).is_some() {}
        let known = match self.lets_in(to.is_ipv6())? {
            Dependence::Independent => return Some(to),
            Dependence::Address => {
                let of = |port| (to, SocketAddr::new(from.ip(), port));
                self.wall.has_any(of(0)..=of(u16::MAX))
            }
            Dependence::AddressAndPort => self.wall.has(&(to, from)),
        };
        if known && self.spec.inbound_refreshes {
            self.wall.touch((to, from), now);
        }
        known.then_some(to)
    }

    /// A computer asks for an open port; refused when the box speaks no protocol for that, or sits behind a carrier.
    pub fn lease(&mut self, inside: SocketAddr) -> Option<SocketAddr> {
        let speaks = self.spec.speaks.is_some() && self.spec.translates && self.outer == Outer::Internet;
        speaks.then(|| SocketAddr::new(self.public.into(), self.table.lease(inside, inside.port())))
    }

    /// Forgets all mappings and flows; leases stay.
    pub fn flush(&mut self) {
        self.table.forget(false);
        self.wall.clear();
    }

    /// Was switched off: forgets everything, is back at this moment, and may have another address then.
    pub fn reboot(&mut self, public: Option<Ipv4Addr>, back: Mono) {
        self.away = back;
        self.table.forget(true);
        self.wall.clear();
        self.public = public.unwrap_or(self.public);
    }

    /// How many flows it remembers.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.table.len() + self.wall.len()
    }

    /// What the permission to come in depends on, without translation; `None` where nothing of this family passes.
    const fn lets_in(&self, v6: bool) -> Option<Dependence> {
        match (v6, self.spec.v6) {
            (false, _) => Some(self.spec.filters),
            (true, V6::None) => None,
            (true, V6::Open) => Some(Dependence::Independent),
            (true, V6::Firewall) => Some(Dependence::AddressAndPort),
        }
    }
}

impl std::fmt::Display for NatBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Spec {
            translates,
            maps,
            filters,
            ports,
            life,
            inbound_refreshes,
            hairpin,
            size,
            udp,
            speaks,
            v6,
        } = self.spec;
        let outer = match self.outer {
            Outer::Internet => String::new(),
            Outer::Behind(other) => format!(" behind box {other}"),
        };
        if !udp {
            return write!(f, "udp-blocked{outer}");
        }
        let short = |d: Dependence| match d {
            Dependence::Independent => "EI",
            Dependence::Address => "AD",
            Dependence::AddressAndPort => "APD",
        };
        if translates {
            write!(f, "{} maps {} filters {} ", self.public, short(maps), short(filters))?;
            match ports {
                Ports::Preserve => write!(f, "keeps ports")?,
                Ports::Sequential(step) => write!(f, "counts ports by {step}")?,
                Ports::Random => write!(f, "random ports")?,
            }
        } else {
            write!(f, "firewall {}", short(filters))?;
        }
        write!(f, " {} s of {size} flows", life.as_secs())?;
        for (word, yes) in [(" both ways", inbound_refreshes), (" hairpin", hairpin)] {
            f.write_str(if yes { word } else { "" })?;
        }
        if let Some(protocol) = speaks {
            write!(f, " speaks {}", protocol.word())?;
        }
        match v6 {
            V6::None => {}
            V6::Open => f.write_str(" v6 open")?,
            V6::Firewall => f.write_str(" v6 behind a firewall")?,
        }
        f.write_str(&outer)
    }
}
