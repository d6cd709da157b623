//! What is known about a router (NAT), in the terms of RFC 5780 and RFC 4787: facts, each with its "unknown". Nobody
//! waits for them; they only decide what is worth trying, and what people are told.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Whether the outside address of one socket depends on where it sends to (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Mapping {
    /// Not found out.
    #[default]
    Unknown,
    /// There is no NAT: the outside address is the socket's own.
    None,
    /// The same for every destination.
    EndpointIndependent,
    /// Another for each destination address.
    AddressDependent,
    /// Another for each destination address and port ("symmetric").
    AddressAndPortDependent,
    /// Differs between destinations; not known whether by address or also by port.
    Dependent,
}

/// Who may send to an outside address (RFC 4787, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Filtering {
    /// Not found out.
    #[default]
    Unknown,
    /// Anybody.
    EndpointIndependent,
    /// Every port of an address that was sent to.
    AddressDependent,
    /// Only exactly what was sent to.
    AddressAndPortDependent,
}

/// How outside ports are chosen (RFC 4787, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum PortRule {
    /// Not found out.
    #[default]
    Unknown,
    /// The inside port is kept.
    Preserved,
    /// Each new mapping takes a port a small step further; the step as seen.
    Sequential(i16),
    /// No rule was seen.
    Random,
}

/// What is known about the way between this computer and the internet, for one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NatFacts {
    /// Mapping behaviour.
    pub mapping: Mapping,
    /// Filtering behaviour.
    pub filtering: Filtering,
    /// How ports are chosen.
    pub ports: PortRule,
    /// Whether two computers behind it reach each other by their outside addresses.
    pub hairpin: Option<bool>,
    /// Whether any UDP answer ever came back from outside.
    pub udp: Option<bool>,
    /// The outside address of the tunnel's socket, as last seen.
    pub public: Option<SocketAddr>,
    /// How long a mapping is known to live in silence.
    pub lifetime: Option<Duration>,
}

/// A protocol by which a router opened a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PortMapping {
    /// UPnP Internet Gateway Device.
    Upnp,
    /// NAT-PMP (RFC 6886).
    NatPmp,
    /// PCP (RFC 6887).
    Pcp,
}

impl Mapping {
    /// RFC 5780's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::Dependent => "dependent",
        }
    }
}

impl Filtering {
    /// RFC 5780's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

impl PortRule {
    /// The word of `status`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Preserved => "preserved",
            Self::Sequential(_) => "sequential",
            Self::Random => "random",
        }
    }
}

impl PortMapping {
    /// The word of the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Upnp => "upnp",
            Self::NatPmp => "nat-pmp",
            Self::Pcp => "pcp",
        }
    }
}

impl NatFacts {
    /// The short word of the contract's `nat` event.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (self.udp, self.mapping, self.filtering) {
            (Some(false), _, _) => "udp-blocked",
            (_, Mapping::None, Filtering::EndpointIndependent | Filtering::Unknown) => "open",
            (_, Mapping::None, Filtering::AddressDependent | Filtering::AddressAndPortDependent) => {
                "port-restricted"
            }
            (_, Mapping::EndpointIndependent, Filtering::EndpointIndependent) => "full-cone",
            (_, Mapping::EndpointIndependent, Filtering::AddressDependent) => "restricted-cone",
            (_, Mapping::EndpointIndependent, Filtering::AddressAndPortDependent) => "port-restricted",
            (_, Mapping::EndpointIndependent, Filtering::Unknown) => "port-restricted",
            (_, Mapping::AddressDependent | Mapping::AddressAndPortDependent | Mapping::Dependent, _) => {
                "symmetric"
            }
            (_, Mapping::Unknown, _) => "unknown",
        }
    }

    /// Whether one outside address serves every destination.
    #[must_use]
    pub const fn is_independent(&self) -> Option<bool> {
        match self.mapping {
            Mapping::Unknown => None,
            Mapping::None | Mapping::EndpointIndependent => Some(true),
            Mapping::AddressDependent | Mapping::AddressAndPortDependent | Mapping::Dependent => Some(false),
        }
    }
}
