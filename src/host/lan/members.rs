//! Multicast groups: who on this computer joined which on which device, and memberships of our own.
//!
//! The kernel's lists (`/proc/net/igmp`, `/proc/net/igmp6`) count the sockets per group and device. Our own memberships
//! are held by sockets that are bound to nothing and so never receive.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use crate::model::addr::Card;

/// How many sockets joined each group on each device.
#[derive(Debug, Default)]
pub(super) struct Joined(BTreeMap<(IpAddr, u32), u32>);

impl Joined {
    /// As it is now, in the calling thread's network namespace. Where a list cannot be read it counts as empty.
    pub(super) fn read() -> Self {
        let list =
            |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        Self::parse(&list("igmp"), &list("igmp6"))
    }

    fn parse(igmp: &str, igmp6: &str) -> Self {
        let mut users = BTreeMap::new();
        let mut device = None;
        for line in igmp.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            if line.starts_with(char::is_whitespace) {
                // Below its device: group in hexadecimal, as the kernel's memory has it, then the count.
                let group = words.next().and_then(|w| u32::from_str_radix(w, 16).ok());
                let count = words.next().and_then(|w| w.parse().ok());
                if let (Some(device), Some(group), Some(count)) = (device, group, count) {
                    users.insert((IpAddr::V4(Ipv4Addr::from(group.to_ne_bytes())), device), count);
                }
            } else {
                device = words.next().and_then(|w| w.parse::<u32>().ok());
            }
        }
        for line in igmp6.lines() {
            // Device number, device name, group, count.
            let mut words = line.split_ascii_whitespace();
            let device = words.next().and_then(|w| w.parse().ok());
            let group = words.nth(1).and_then(|w| u128::from_str_radix(w, 16).ok());
            let count = words.next().and_then(|w| w.parse().ok());
            if let (Some(device), Some(group), Some(count)) = (device, group, count) {
                users.insert((IpAddr::V6(Ipv6Addr::from(group)), device), count);
            }
        }
        Self(users)
    }

    /// Takes one membership off the count: our own.
    pub(super) fn discount(&mut self, group: IpAddr, device: u32) {
        if let Some(users) = self.0.get_mut(&(group, device)) {
            *users = users.saturating_sub(1);
        }
    }

    /// Whether any socket joined the group, on whichever device.
    pub(super) fn any(&self, group: IpAddr) -> bool {
        self.0.range((group, 0)..=(group, u32::MAX)).any(|(_, users)| *users > 0)
    }

    /// How many sockets joined the group on the device.
    pub(super) fn users(&self, group: IpAddr, device: u32) -> u32 {
        self.0.get(&(group, device)).copied().unwrap_or(0)
    }
}

/// A socket takes 20 IPv4 memberships by default (`igmp_max_memberships`); an administrator may have set fewer.
const PER_SOCKET: usize = 16;
/// Groups that we hold at once; profiles name a handful.
const MOST: usize = 256;

/// Memberships that we hold.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    sockets: Vec<(Socket, Domain, usize)>,
    held: BTreeMap<(IpAddr, u32), usize>,
}

impl Memberships {
    /// Whether we hold this one.
    pub(super) fn holds(&self, group: IpAddr, device: u32) -> bool {
        self.held.contains_key(&(group, device))
    }

    /// All that we hold.
    pub(super) fn all(&self) -> Vec<(IpAddr, u32)> {
        self.held.keys().copied().collect()
    }

    /// Joins, unless we have.
    pub(super) fn join(&mut self, group: IpAddr, device: u32) -> io::Result<()> {
        if self.holds(group, device) {
            return Ok(());
        }
        if self.held.len() >= MOST {
            return Err(io::Error::other("too many groups"));
        }
        let domain = if group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let free = |(_, d, used): &(Socket, Domain, usize)| *d == domain && *used < PER_SOCKET;
        let at = match self.sockets.iter().position(free) {
            Some(at) => at,
            None => {
                self.sockets.push((Socket::new(domain, Type::DGRAM, None)?, domain, 0));
                self.sockets.len() - 1
            }
        };
        let Some((socket, _, used)) = self.sockets.get_mut(at) else { return Ok(()) };
        match group {
            IpAddr::V4(g) => socket.join_multicast_v4_n(&g, &InterfaceIndexOrAddress::Index(device))?,
            IpAddr::V6(g) => socket.join_multicast_v6(&g, device)?,
        }
        *used += 1;
        self.held.insert((group, device), at);
        Ok(())
    }

    /// Leaves, if we had joined. A device that is gone has forgotten us already.
    pub(super) fn leave(&mut self, group: IpAddr, device: u32) {
        let Some(at) = self.held.remove(&(group, device)) else { return };
        let Some((socket, _, used)) = self.sockets.get_mut(at) else { return };
        *used = used.saturating_sub(1);
        let left = match group {
            IpAddr::V4(g) => socket.leave_multicast_v4_n(&g, &InterfaceIndexOrAddress::Index(device)),
            IpAddr::V6(g) => socket.leave_multicast_v6(&g, device),
        };
        if let Err(error) = left {
            tracing::debug!(%error, %group, device, "a group could not be left");
        }
    }

    /// Makes exactly these groups on this device ours, and none elsewhere.
    pub(super) fn become_exactly(&mut self, groups: &[IpAddr], device: u32) {
        for (group, at) in self.all() {
            if at != device || !groups.contains(&group) {
                self.leave(group, at);
            }
        }
        for group in groups.iter().filter(|g| g.is_multicast()) {
            if let Err(error) = self.join(*group, device) {
                tracing::debug!(%error, %group, device, "a group could not be joined");
            }
        }
    }
}

/// How long the kernel's list of memberships is believed. A game that has just joined waits at most this long.
const BELIEVED: Duration = Duration::from_millis(250);
/// The loopback device has the same number everywhere.
pub(super) const LOOPBACK: u32 = 1;

/// The memberships of this computer's games, and our own where we hand packets over.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Without ourselves.
    joined: Joined,
    read_at: Option<Instant>,
    ours: Memberships,
}

impl Watch {
    /// Looks at the kernel's list again, when it is time. `others` are memberships of ours that are held elsewhere.
    pub(super) fn refresh(&mut self, others: impl Iterator<Item = (IpAddr, u32)>, now: Instant) {
        if self.read_at.is_some_and(|at| now.duration_since(at) < BELIEVED) {
            return;
        }
        self.joined = Joined::read();
        self.read_at = Some(now);
        others.for_each(|(group, device)| self.joined.discount(group, device));
        for (group, device) in self.ours.all() {
            self.joined.discount(group, device);
            // On the loopback nobody is bothered by a membership.
            if device != LOOPBACK && self.joined.users(group, device) == 0 {
                self.ours.leave(group, device);
            }
        }
    }

    /// The card of the default route if a game joined the group there, else the first on which one did.
    pub(super) fn card_of<'a>(&self, group: IpAddr, cards: &'a [Card]) -> Option<&'a Card> {
        let has_members = |card: &&Card| self.joined.users(group, card.id.0) > 0;
        let default = cards.iter().filter(|c| c.default_route).find(has_members);
        default.or_else(|| cards.iter().find(has_members))
    }

    /// Whether a game joined the group anywhere.
    pub(super) fn any(&self, group: IpAddr) -> bool {
        self.joined.any(group)
    }

    /// Joins ourselves, for as long as a game is a member too.
    pub(super) fn join(&mut self, group: IpAddr, device: u32) -> io::Result<()> {
        self.ours.join(group, device)
    }

    /// Gives up memberships on cards that are gone.
    pub(super) fn keep_only(&mut self, cards: &[Card]) {
        for (group, device) in self.ours.all() {
            if device != LOOPBACK && cards.iter().all(|c| c.id.0 != device) {
                self.ours.leave(group, device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        // As printed on a little-endian machine.
        let minecraft: IpAddr = "224.0.2.60".parse().unwrap();
        let hex = format!("{:08X}", u32::from_ne_bytes([224, 0, 2, 60]));
        let igmp = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
             12\teth0      :     2      V3\n\t\t\t\t{hex}     3 0:00000000\t\t1\n\t\t\t\tgarbage\n"
        );
        let igmp6 = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n\
                     12   eth0            ff04000000000000696f7175616b6533     2 00000004 0\nx\n";
        let joined = Joined::parse(&igmp, igmp6);
        assert_eq!(joined.users(minecraft, 12), 3);
        assert_eq!(joined.users(minecraft, 1), 0);
        assert_eq!(joined.users("ff04::696f:7175:616b:6533".parse().unwrap(), 12), 2);
        assert_eq!(joined.users("ff02::1".parse().unwrap(), 1), 1);
        assert_eq!(joined.0.len(), 4);
        assert!(Joined::parse("", "").0.is_empty());
    }

    #[test]
    fn memberships_are_held_once_and_given_back() {
        let group: IpAddr = "239.83.7.1".parse().unwrap();
        let mut ours = Memberships::default();
        // Not every machine lets its loopback join; where it does, the count must be seen.
        if ours.join(group, 1).is_ok() {
            ours.join(group, 1).unwrap();
            assert_eq!(Joined::read().users(group, 1), 1);
            ours.leave(group, 1);
            assert_eq!(Joined::read().users(group, 1), 0);
        }
        assert!(ours.join(group, u32::MAX).is_err(), "no such device");
        assert!(!ours.holds(group, u32::MAX));
    }
}
