//! Multicasts of peers, handed to the local games that joined the group. They come from the peer's stand-in, so that a game
//! that goes by the source meets the peer there.
//!
//! Two ways, of which a packet takes one, so that no game sees it twice:
//!
//! * As a broadcast of the loopback network, where a game has the port on every address. This is the only way to games that
//!   take a group's packets by nothing but the card on which they joined (`IP_MULTICAST_ALL` off: everything in Java): no
//!   packet can come by a card from a loopback address, but no socket asks by which device a broadcast comes. What the game
//!   reads is the same.
//! * As a multicast by the loopback device, where no game has the port on every address: so sockets are that are bound to the
//!   group itself.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

#[cfg(target_os = "linux")]
use crate::host::lan::members::{LOOPBACK, Watch};

/// How a packet reaches the members of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As a broadcast of the loopback network.
    Broadcast,
    /// By the loopback device.
    Loopback,
}

/// Who joined what.
#[derive(Debug, Default)]
pub(super) struct Groups {
    #[cfg(target_os = "linux")]
    watch: Watch,
}

impl Groups {
    /// How a packet to this group is to go; `None` when no game joined it. `everywhere`: a game has its port on every
    /// address. `others` are memberships of ours.
    #[cfg(target_os = "linux")]
    pub(super) fn way(
        &mut self,
        group: Ipv4Addr,
        everywhere: bool,
        others: impl Iterator<Item = (IpAddr, u32)>,
        now: Instant,
    ) -> Option<Way> {
        let group = IpAddr::V4(group);
        self.watch.refresh(others, now);
        if !self.watch.any(group) {
            return None;
        }
        if everywhere {
            return Some(Way::Broadcast);
        }
        // Without any member there the packet would be dropped before it reaches those who joined elsewhere.
        let joined = self.watch.join(group, LOOPBACK);
        joined.inspect_err(|error| tracing::debug!(%error, "a group could not be joined")).ok()?;
        Some(Way::Loopback)
    }

    /// Where the system does not tell who joined what, the loopback device is the way that harms nobody.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn way(
        &mut self,
        group: Ipv4Addr,
        everywhere: bool,
        others: impl Iterator<Item = (IpAddr, u32)>,
        now: Instant,
    ) -> Option<Way> {
        let _ = (self, group, others, now);
        Some(if everywhere { Way::Broadcast } else { Way::Loopback })
    }
}
