//! Routers that translate addresses, and firewalls, in the terms of RFC 4787: what a mapping is reused for, who may send to
//! it, how its port is chosen, how long it lives, whether two computers behind it meet by its outside address.
//!
//! `Spec` says how a box behaves, `Kind` names the eleven kinds that the lab measures, `boxes` is the box, `table` its
//! mappings, `ledger` what it remembers of each flow and when it forgets. A box decides about one packet at one moment;
//! which boxes a packet meets is `route`'s business. Only UDP has states here: a TCP stream passes every box, and
//! breaks when the box forgets or gets another address.
//!
//! The double NAT of a carrier is two boxes in a row. A port mapping protocol answers only at a box whose outside is the
//! internet: a router behind a carrier knows that its outside address is private, and refuses.

mod boxes;
mod ledger;
mod table;

pub use boxes::{NatBox, Outer};

use crate::model::nat::PortMapping;
use std::time::Duration;

/// What something depends on, beside the inside address and port (RFC 4787, sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// Nothing.
    Independent,
    /// The remote address.
    Address,
    /// The remote address and port.
    AddressAndPort,
}

/// How the outside port of a new mapping is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    /// The inside port, while it is free; else any.
    Preserve,
    /// This much further than the last.
    Sequential(u16),
    /// Any.
    Random,
}

/// What a box does with IPv6, which it never translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum V6 {
    /// It has none.
    None,
    /// Lets everything in.
    Open,
    /// Lets in only what somebody inside sent to.
    Firewall,
}

/// How a box behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Whether IPv4 is translated; if not, it is a firewall before public addresses.
    pub translates: bool,
    /// What a mapping depends on.
    pub maps: Dependence,
    /// What the permission to come in depends on.
    pub filters: Dependence,
    /// How ports are chosen.
    pub ports: Ports,
    /// How long a flow is remembered in silence.
    pub life: Duration,
    /// Whether packets from outside keep it alive too (RFC 4787, REQ-6; a box is safer without).
    pub inbound_refreshes: bool,
    /// Whether what goes from inside to the outside address comes back in.
    pub hairpin: bool,
    /// How many flows it remembers; the one that was used longest ago is forgotten for a new one.
    pub size: usize,
    /// Whether UDP passes at all.
    pub udp: bool,
    /// The protocol by which it opens ports on request.
    pub speaks: Option<PortMapping>,
    /// What it does with IPv6.
    pub v6: V6,
}

impl Spec {
    /// A box that translates, with the habits of most home routers: two minutes, kept by outbound packets only, no hairpin.
    #[must_use]
    pub const fn nat(maps: Dependence, filters: Dependence, ports: Ports) -> Self {
        Self {
            translates: true,
            maps,
            filters,
            ports,
            life: Duration::from_secs(120),
            inbound_refreshes: false,
            hairpin: false,
            size: 4096,
            udp: true,
            speaks: None,
            v6: V6::None,
        }
    }

    /// A firewall before public addresses: only who was sent to may send.
    #[must_use]
    pub const fn firewall() -> Self {
        use Dependence::{AddressAndPort, Independent};
        Self { translates: false, ..Self::nat(Independent, AddressAndPort, Ports::Preserve) }
    }
}

/// What stands between a home and the internet, as the lab names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing: public addresses.
    Open,
    /// A stateful firewall before public addresses.
    FirewalledOpen,
    /// One mapping, everybody may use it.
    FullCone,
    /// One mapping, addresses that were sent to may use it.
    RestrictedCone,
    /// One mapping, exactly what was sent to may use it.
    PortRestricted,
    /// That, and it keeps the port.
    Preserving,
    /// A mapping per destination, at a random port.
    Symmetric,
    /// A mapping per destination, at the next port.
    SymmetricSequential,
    /// A port-restricted router behind a port-restricted carrier.
    Cgnat,
    /// A port-restricted router behind a symmetric carrier.
    CgnatSymmetric,
    /// Only TCP passes.
    UdpBlocked,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Open,
        Self::FirewalledOpen,
        Self::FullCone,
        Self::RestrictedCone,
        Self::PortRestricted,
        Self::Preserving,
        Self::Symmetric,
        Self::SymmetricSequential,
        Self::Cgnat,
        Self::CgnatSymmetric,
        Self::UdpBlocked,
    ];

    /// The lab's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::FirewalledOpen => "firewalled-open",
            Self::FullCone => "full-cone",
            Self::RestrictedCone => "restricted-cone",
            Self::PortRestricted => "port-restricted",
            Self::Preserving => "preserving",
            Self::Symmetric => "symmetric",
            Self::SymmetricSequential => "symmetric-sequential",
            Self::Cgnat => "cgnat",
            Self::CgnatSymmetric => "cgnat-symmetric",
            Self::UdpBlocked => "udp-blocked",
        }
    }

    /// The box at home, if there is one.
    #[must_use]
    pub const fn home(self) -> Option<Spec> {
        use Dependence::{Address, AddressAndPort, Independent};
        Some(match self {
            Self::Open => return None,
            Self::FirewalledOpen => Spec::firewall(),
            Self::FullCone => Spec::nat(Independent, Independent, Ports::Random),
            Self::RestrictedCone => Spec::nat(Independent, Address, Ports::Random),
            Self::PortRestricted | Self::Cgnat | Self::CgnatSymmetric => {
                Spec::nat(Independent, AddressAndPort, Ports::Random)
            }
            Self::Preserving => Spec::nat(Independent, AddressAndPort, Ports::Preserve),
            Self::Symmetric => Spec::nat(AddressAndPort, AddressAndPort, Ports::Random),
            Self::SymmetricSequential => Spec::nat(AddressAndPort, AddressAndPort, Ports::Sequential(1)),
            Self::UdpBlocked => Spec { udp: false, ..Spec::nat(Independent, AddressAndPort, Ports::Random) },
        })
    }

    /// The carrier's box outside of it, if there is one.
    #[must_use]
    pub const fn carrier(self) -> Option<Spec> {
        use Dependence::{AddressAndPort, Independent};
        match self {
            Self::Cgnat => Some(Spec::nat(Independent, AddressAndPort, Ports::Random)),
            Self::CgnatSymmetric => Some(Spec::nat(AddressAndPort, AddressAndPort, Ports::Random)),
            Self::Open
            | Self::FirewalledOpen
            | Self::FullCone
            | Self::RestrictedCone
            | Self::PortRestricted
            | Self::Preserving
            | Self::Symmetric
            | Self::SymmetricSequential
            | Self::UdpBlocked => None,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
