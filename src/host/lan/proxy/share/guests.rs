//! Games of neighbours, each with a port of our own address in the party: what peers answer there goes back to the neighbour.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Ports that Linux gives to no program by itself, so that hardly any game of this computer has one of them.
const PORTS: std::ops::RangeInclusive<u16> = 61_000..=65_535;
/// Neighbours' sockets in all.
const MOST: usize = 512;
/// Sockets of one neighbour: no computer may use up what is there for all.
const OF_ONE: usize = 64;
/// One that was unused for so long is forgotten; as long as the firewall remembers a flow.
const IDLE: Duration = Duration::from_secs(120);
/// One that was unused for so long gives way to a new one of the same neighbour.
const SPARE: Duration = Duration::from_secs(10);

/// A neighbour's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Guest {
    /// Where the neighbour sends from.
    pub(in super::super) at: SocketAddrV4,
    /// Our address in his network.
    pub(in super::super) own: Ipv4Addr,
    used: Instant,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Guests {
    by_port: BTreeMap<u16, Guest>,
    ports: BTreeMap<SocketAddrV4, u16>,
    next: u16,
}

impl Default for Guests {
    fn default() -> Self {
        Self { by_port: BTreeMap::new(), ports: BTreeMap::new(), next: *PORTS.start() }
    }
}

impl Guests {
    /// The port that stands for a neighbour's socket; `None` where there are too many. `taken`: a game of this computer has
    /// this port.
    pub(super) fn port(
        &mut self,
        at: SocketAddrV4,
        own: Ipv4Addr,
        now: Instant,
        taken: impl FnMut(u16) -> bool,
    ) -> Option<u16> {
        if let Some(port) = self.ports.get(&at).copied() {
            self.by_port.insert(port, Guest { at, own, used: now });
            return Some(port);
        }
        self.make_room(*at.ip(), now)?;
        let port = self.free(taken)?;
        self.next = if port == *PORTS.end() { *PORTS.start() } else { port + 1 };
        self.ports.insert(at, port);
        self.by_port.insert(port, Guest { at, own, used: now });
        Some(port)
    }

    fn free(&self, mut taken: impl FnMut(u16) -> bool) -> Option<u16> {
        let ports = (self.next..=*PORTS.end()).chain(*PORTS.start()..self.next);
        ports.filter(|port| !self.by_port.contains_key(port)).take(MOST).find(|port| !taken(*port))
    }

    fn make_room(&mut self, neighbour: Ipv4Addr, now: Instant) -> Option<()> {
        let (first, last) = (SocketAddrV4::new(neighbour, 0), SocketAddrV4::new(neighbour, u16::MAX));
        let own = || self.ports.range(first..=last).filter_map(|(_, port)| self.by_port.get(port));
        if own().count() < OF_ONE && self.by_port.len() < MOST {
            return Some(());
        }
        let oldest = own().min_by_key(|g| g.used).filter(|g| now.duration_since(g.used) >= SPARE)?.at;
        let port = self.ports.remove(&oldest)?;
        self.by_port.remove(&port).map(|_| ())
    }

    /// Whose port this is. He is used by it.
    pub(super) fn of(&mut self, port: u16, now: Instant) -> Option<Guest> {
        let guest = self.by_port.get_mut(&port)?;
        guest.used = now;
        Some(*guest)
    }

    /// Forgets those that are idle, and those in networks that we are no longer in.
    pub(super) fn sweep(&mut self, still: impl Fn(Ipv4Addr) -> bool, now: Instant) {
        self.by_port.retain(|_, guest| now.duration_since(guest.used) < IDLE && still(guest.own));
        let Self { by_port, ports, .. } = self;
        ports.retain(|_, port| by_port.contains_key(port));
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.by_port.clear();
        self.ports.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 5);

    fn neighbour(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, last), port)
    }

    #[test]
    fn a_neighbours_socket_keeps_its_port_until_it_is_idle() {
        let (mut guests, t0) = (Guests::default(), Instant::now());
        let at = |s| t0 + Duration::from_secs(s);
        let one = guests.port(neighbour(7, 5000), OWN, at(0), |port| port == 61_000).unwrap();
        assert_eq!(one, 61_001, "61000 is a game's");
        let two = guests.port(neighbour(8, 5000), OWN, at(0), |_| false).unwrap();
        assert_ne!(one, two);
        assert_eq!(guests.port(neighbour(7, 5000), OWN, at(100), |_| false), Some(one));
        assert_eq!(guests.of(one, at(100)).map(|g| g.at), Some(neighbour(7, 5000)));
        guests.sweep(|_| true, at(130));
        assert_eq!((guests.of(one, at(130)).is_some(), guests.of(two, at(130))), (true, None));
        guests.sweep(|own| own != OWN, at(131));
        assert_eq!(guests.of(one, at(131)), None, "that network is gone");
        assert!(guests.ports.is_empty());
    }

    #[test]
    fn one_neighbour_has_so_many_and_pushes_out_only_his_own() {
        let (mut guests, t0) = (Guests::default(), Instant::now());
        let other = guests.port(neighbour(9, 1), OWN, t0, |_| false).unwrap();
        let given = (1..=100).filter_map(|p| guests.port(neighbour(7, p), OWN, t0, |_| false)).count();
        assert_eq!(given, OF_ONE);
        let later = t0 + SPARE;
        assert!(guests.port(neighbour(7, 200), OWN, later, |_| false).is_some());
        assert_eq!((guests.by_port.len(), guests.ports.len()), (OF_ONE + 1, OF_ONE + 1));
        assert!(guests.of(other, later).is_some());
    }

    #[test]
    fn there_are_only_so_many_in_all_and_the_ports_go_round() {
        let (mut guests, t0) = (Guests::default(), Instant::now());
        let all = (0..=u8::MAX).flat_map(|n| (1..=4).map(move |p| neighbour(n, p)));
        assert_eq!(all.filter_map(|at| guests.port(at, OWN, t0, |_| false)).count(), MOST);
        guests.clear();
        guests.next = *PORTS.end();
        let two: Vec<_> = (1..=2).filter_map(|p| guests.port(neighbour(1, p), OWN, t0, |_| false)).collect();
        assert_eq!(two, [65_535, 61_000]);
        assert_eq!(guests.port(neighbour(2, 1), OWN, t0, |_| true), None, "games have them all");
    }
}
