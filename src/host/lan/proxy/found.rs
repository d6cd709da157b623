//! The games of peers that can be joined here, each with a life: the stand-ins that they are joined by appear with the
//! game's announcement, live for as long as it is said again, and go with it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use crate::rules::ruleset::{ProfileIx, Transport};

/// Doors in all.
const MOST: usize = 1024;
/// Doors of one peer: no game has so many, and no peer may use up what is there for all.
const OF_ONE: usize = 64;

/// A port of a peer's game, which leads to it from the peer's stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Door {
    /// First, so that one peer's doors lie together.
    pub(super) of: SocketAddrV4,
    pub(super) transport: Transport,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    until: Instant,
    profile: ProfileIx,
    local: SocketAddrV4,
}

/// All doors.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<Door, Life>);

impl Found {
    /// Whether one more may be opened.
    pub(super) fn has_room(&self, door: &Door) -> bool {
        self.0.contains_key(door)
            || self.0.len() < MOST && self.of_peer(*door.of.ip()).take(OF_ONE).count() < OF_ONE
    }

    /// The game gave a sign of life.
    pub(super) fn renew(&mut self, door: Door, profile: ProfileIx, local: SocketAddrV4, until: Instant) {
        let life = self.0.entry(door).or_insert(Life { until, profile, local });
        *life = Life { until: life.until.max(until), profile, local };
    }

    /// Keeps what there is for a game until then, whatever opened it; false when there is nothing.
    pub(super) fn keep(&mut self, of: SocketAddrV4, transport: Transport, until: Instant) -> bool {
        let life = self.0.get_mut(&Door { of, transport });
        life.map(|life| life.until = life.until.max(until)).is_some()
    }

    /// The game said that it is over: at that port, or wherever it was.
    pub(super) fn over(
        &mut self,
        peer: Ipv4Addr,
        profile: ProfileIx,
        at: Option<(Transport, u16)>,
    ) -> Vec<Door> {
        let named = |door: &Door| at.is_none_or(|at| at == (door.transport, door.of.port()));
        let doors: Vec<Door> = self
            .of_peer(peer)
            .filter(|(door, life)| life.profile == profile && named(door))
            .map(|(door, _)| *door)
            .collect();
        self.remove(doors)
    }

    /// Those whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Door> {
        let doors = self.0.iter().filter(|(_, life)| life.until <= now).map(|(door, _)| *door).collect();
        self.remove(doors)
    }

    /// Those that hold one of these ports.
    pub(super) fn release(&mut self, ports: impl Fn(u16) -> bool) -> Vec<Door> {
        let doors =
            self.0.iter().filter(|(_, life)| ports(life.local.port())).map(|(door, _)| *door).collect();
        self.remove(doors)
    }

    fn remove(&mut self, doors: Vec<Door>) -> Vec<Door> {
        for door in &doors {
            self.0.remove(door);
        }
        doors
    }

    /// Whether a game of a peer is joined at this port.
    pub(super) fn holds(&self, of: SocketAddrV4, transport: Transport) -> bool {
        self.local(of, transport).is_some()
    }

    /// Where a game of a peer is joined.
    pub(super) fn local(&self, of: SocketAddrV4, transport: Transport) -> Option<SocketAddrV4> {
        self.0.get(&Door { of, transport }).map(|life| life.local)
    }

    fn of_peer(&self, peer: Ipv4Addr) -> impl Iterator<Item = (&Door, &Life)> {
        let at = |port, transport| Door { of: SocketAddrV4::new(peer, port), transport };
        self.0.range(at(0, Transport::Tcp)..=at(u16::MAX, Transport::Udp))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn door(peer: u8, port: u16) -> Door {
        let of = SocketAddrV4::new(Ipv4Addr::new(10, 83, 7, peer), port);
        Door { of, transport: Transport::Tcp }
    }

    fn stand_in(peer: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(127, 83, 7, peer), port)
    }

    #[test]
    fn a_door_lives_as_long_as_its_game_is_announced() {
        let (mut found, t0) = (Found::default(), Instant::now());
        let at = |s| t0 + Duration::from_secs(s);
        let (one, local) = (door(2, 5000), stand_in(2, 5000));
        found.renew(one, ProfileIx(0), local, at(8));
        found.renew(one, ProfileIx(0), local, at(10));
        assert_eq!((found.expired(at(9)), found.local(one.of, Transport::Tcp)), (vec![], Some(local)));
        assert!(!found.holds(one.of, Transport::Udp));
        assert_eq!(found.expired(at(10)), [one]);
        assert_eq!(found.local(one.of, Transport::Tcp), None);
    }

    #[test]
    fn what_the_list_keeps_lives_on_without_announcements() {
        let (mut found, t0) = (Found::default(), Instant::now());
        let at = |s| t0 + Duration::from_secs(s);
        let one = door(2, 5000);
        assert!(!found.keep(one.of, Transport::Tcp, at(5)), "there is nothing to keep");
        found.renew(one, ProfileIx(0), one.of, at(2));
        assert!(found.keep(one.of, Transport::Tcp, at(5)) && !found.keep(one.of, Transport::Udp, at(9)));
        assert_eq!((found.expired(at(4)), found.expired(at(5))), (vec![], vec![one]));
    }

    #[test]
    fn a_game_that_is_over_takes_its_own_doors_along() {
        let (mut found, t0) = (Found::default(), Instant::now());
        for (peer, port, profile) in [(2, 5000, 0), (2, 5001, 0), (2, 5002, 1), (3, 5000, 0)] {
            let door = door(peer, port);
            found.renew(door, ProfileIx(profile), stand_in(peer, port), t0);
        }
        let peer = *door(2, 0).of.ip();
        assert_eq!(found.over(peer, ProfileIx(0), Some((Transport::Tcp, 5001))), [door(2, 5001)]);
        assert_eq!(found.over(peer, ProfileIx(0), Some((Transport::Udp, 5000))), []);
        assert_eq!(found.over(peer, ProfileIx(0), None), [door(2, 5000)]);
        assert_eq!(found.release(|port| port == 5000), [door(3, 5000)]);
        assert!(found.holds(door(2, 5002).of, Transport::Tcp));
    }

    #[test]
    fn one_peer_has_so_many_doors_and_no_more() {
        let (mut found, t0) = (Found::default(), Instant::now());
        for port in 1..=200 {
            let door = door(2, port);
            if found.has_room(&door) {
                found.renew(door, ProfileIx(0), door.of, t0);
            }
        }
        assert_eq!(found.0.len(), OF_ONE);
        assert!(found.has_room(&door(2, 1)) && found.has_room(&door(3, 1)) && !found.has_room(&door(2, 500)));
    }
}
