//! Whether two networks permit a direct UDP path, and how: one pure function over the terms of RFC 4787, never over
//! what the engine does. It knows what each side's boxes do taken together, not the names of kinds.
//!
//! Why each answer is right, with A and B for the sides. Both know what a server saw of the other (its *known* address),
//! both send to that at the same time, and a filter passes what its own side has sent to.
//!
//! * Both mappings independent: what each sends to is where the other's packets come from. Every filter passes. *Plain*.
//! * A's mapping depends on the destination, B's does not: A's packets come from another port than the known one. B
//!   passes them when its filter does not look at ports, and answers to where they came from: *plain*. If it does look at
//!   them, B must send to A's real port first. A box that counts is *predicted*; one that rolls dice is met by many sockets
//!   at A and many probes of B (*birthday*).
//! * Both depend: each must guess the other's port, and each guess changes the own one. Only when both count can both
//!   guess (*predict*).
//! * A router that opens a port on request lets everybody in there and answers from there, whatever its mapping is.
//! * IPv6 has no translation, so firewalls are passed as in the first case.
//! * Behind one box, outside addresses work only where it hairpins, and then by the rules above.
//!
//! What it leaves out is what no kind of the lab is: a mapping that depends with a filter that does not. Counted as if the
//! filter were strict, so nothing is promised that fails; a path may still be found.

use super::nat::{Dependence, Ports, Spec, V6};

/// What one side's boxes are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// What the outermost address of one socket depends on.
    pub maps: Dependence,
    /// What getting in depends on.
    pub filters: Dependence,
    /// How a new outermost port is chosen.
    pub ports: Ports,
    /// Whether UDP passes.
    pub udp: bool,
    /// Whether a port of it can be opened on request.
    pub leases: bool,
    /// Whether it has public IPv6 addresses.
    pub v6: bool,
}

impl Side {
    /// Public addresses and nothing in front of them.
    pub const OPEN: Self = Self {
        maps: Dependence::Independent,
        filters: Dependence::Independent,
        ports: Ports::Preserve,
        udp: true,
        leases: false,
        v6: false,
    };

    /// Boxes in a row, from the computer outwards.
    #[must_use]
    pub fn behind(boxes: &[Spec]) -> Self {
        let leases = matches!(boxes, [only] if only.translates && only.speaks.is_some());
        let v6 = !boxes.is_empty() && boxes.iter().all(|b| b.v6 != V6::None);
        boxes.iter().fold(Self { leases, v6, ..Self::OPEN }, |side, b| Self {
            // A firewall maps nothing.
            maps: if b.translates { side.maps.max(b.maps) } else { side.maps },
            filters: side.filters.max(b.filters),
            // A new mapping inside makes a new one outside, and the outermost rule that does not keep ports is seen.
            ports: if b.translates && b.ports != Ports::Preserve { b.ports } else { side.ports },
            udp: side.udp && b.udp,
            leases: side.leases,
            v6: side.v6,
        })
    }
}

/// Where two sides are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// On one LAN.
    SameLan,
    /// Behind one box, in different networks there.
    SameBox {
        /// Whether it hairpins.
        hairpin: bool,
    },
    /// With the internet in between.
    Internet,
}

/// By what a direct path comes to be, the easiest that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The LAN itself.
    Lan,
    /// Both send to what a server saw of the other.
    Plain,
    /// That, by the outside address of the box that both are behind.
    Hairpin,
    /// A router opened a port.
    PortMapping,
    /// IPv6.
    Ipv6,
    /// Guessing what a counting box will use next.
    Predict,
    /// Many sockets, many probes.
    Birthday,
}

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permit {
    /// There can be a direct path.
    Direct(By),
    /// There can be none; a relay is needed.
    None,
}

/// Whether two sides permit a direct path. Symmetric.
#[must_use]
pub fn permits(a: &Side, b: &Side, between: Between) -> Permit {
    if between == Between::SameLan {
        return Permit::Direct(By::Lan);
    }
    if !(a.udp && b.udp) {
        return Permit::None;
    }
    let v4 = match between {
        Between::SameBox { hairpin: false } => None,
        Between::SameBox { hairpin: true } => {
            punched(a, b).map(|by| if by == By::Plain { By::Hairpin } else { by })
        }
        Between::SameLan | Between::Internet => punched(a, b),
    };
    let leased = between == Between::Internet && (a.leases || b.leases);
    let ways = [v4, leased.then_some(By::PortMapping), (a.v6 && b.v6).then_some(By::Ipv6)];
    ways.into_iter().flatten().min().map_or(Permit::None, Permit::Direct)
}

/// By IPv4, both sending to what is known or guessed of the other.
fn punched(a: &Side, b: &Side) -> Option<By> {
    use Dependence::{AddressAndPort, Independent};
    let counts = |side: &Side| matches!(side.ports, Ports::Sequential(_));
    let (depends, steady) = match (a.maps, b.maps) {
        (Independent, Independent) => return Some(By::Plain),
        (Independent, _) => (b, a),
        (_, Independent) => (a, b),
        (_, _) => return (counts(a) && counts(b)).then_some(By::Predict),
    };
    Some(match steady.filters {
        AddressAndPort if counts(depends) => By::Predict,
        AddressAndPort => By::Birthday,
        Dependence::Address | Independent => By::Plain,
    })
}

#[cfg(test)]
#[path = "permits_tests.rs"]
mod tests;
