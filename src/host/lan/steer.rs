//! Routes for broadcasts and multicasts on computers that have none.
//!
//! Without a default route a game's send to 255.255.255.255 or to a group fails at once ("network is unreachable"): two
//! laptops and no router. Then, and only then, these go to our device. They are given back when a default route
//! appears, because games would go on joining groups on our device while everything else happens on the card. The
//! kernel removes them with the device.

use std::net::{IpAddr, Ipv4Addr};

use super::netlink::Netlink;

/// An address that only the default route leads to (RFC 5737).
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

struct Way {
    to: Ipv4Addr,
    prefix: u8,
    /// An address by which to see whether there is such a route.
    example: Ipv4Addr,
}

const WAYS: [Way; 2] = [
    Way { to: Ipv4Addr::BROADCAST, prefix: 32, example: Ipv4Addr::BROADCAST },
    Way { to: Ipv4Addr::new(224, 0, 0, 0), prefix: 4, example: Ipv4Addr::new(224, 0, 2, 60) },
];

/// The routes that we made.
#[derive(Debug, Default)]
pub(super) struct Steer {
    ours: [bool; WAYS.len()],
}

impl Steer {
    /// Makes or gives back routes, as the rest of the routes are now.
    pub(super) fn adapt(&mut self, netlink: &mut Netlink, adapter: u32) {
        let has_default = netlink.way_to(FAR).is_some();
        for (way, ours) in WAYS.iter().zip(&mut self.ours) {
            let Way { to, prefix, example } = *way;
            if has_default && *ours {
                if let Err(error) = netlink.remove_route(adapter, to, prefix) {
                    tracing::debug!(%error, %to, "a route was gone already");
                }
                *ours = false;
            } else if !has_default && !*ours && netlink.way_to(example.into()).is_none() {
                match netlink.add_route(adapter, to, prefix) {
                    Ok(()) => *ours = true,
                    Err(error) => tracing::warn!(%error, %to, "a route for broadcasts could not be made"),
                }
            }
        }
    }

    /// The same when the device lost its routes: it is a new one, or had no address for a moment.
    pub(super) fn adapt_anew(&mut self, netlink: &mut Netlink, adapter: u32) {
        self.ours = [false; WAYS.len()];
        self.adapt(netlink, adapter);
    }
}
