//! One allocation: whose it is, which peers may send to it (permissions, RFC 8656 section 9), and the short numbers that stand
//! for peers (channels, section 12).
//!
//! Nothing here has a timer: permissions and channels carry the moment at which they end, and whoever uses one looks at it.

use super::{Client, Family, Held};
use crate::model::time::Mono;
use crate::wire::credential::Bearer;
use crate::wire::stun::{Key, Transaction};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// RFC 8656, section 9: five minutes, not negotiable.
pub(super) const PERMISSION: Duration = Duration::from_secs(300);
/// RFC 8656, section 12: ten minutes.
pub(super) const CHANNEL: Duration = Duration::from_secs(600);

/// An allocation.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) client: Client,
    pub(super) bearer: Bearer,
    pub(super) family: Family,
    pub(super) stage: Stage,
    pub(super) transaction: Transaction,
    pub(super) expires: Mono,
    pub(super) held: Held,
    pub(super) permissions: Permissions,
    pub(super) channels: Channels,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// The shell opens its port; then this request is answered.
    Opening(Box<Waiting>),
    /// Peers reach it here.
    Open(SocketAddr),
}

/// What the answer to an Allocate needs.
pub(super) struct Waiting {
    pub(super) key: Key,
    pub(super) lifetime: Duration,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// Peers (addresses, whatever their port) that may send, sorted.
#[derive(Debug, Default)]
pub(super) struct Permissions(Vec<(IpAddr, Mono)>);

impl Permissions {
    /// Until when this peer may send; `None` when it may not.
    pub(super) fn until(&self, peer: IpAddr, now: Mono) -> Option<Mono> {
        let at = self.0.binary_search_by_key(&peer, |(ip, _)| *ip).ok()?;
        self.0.get(at).map(|(_, until)| *until).filter(|until| *until > now)
    }

    /// Whether these peers fit, beside those that still may.
    pub(super) fn has_room(&mut self, peers: &[IpAddr], most: usize, now: Mono) -> bool {
        let fresh = |all: &[(IpAddr, Mono)]| {
            peers.iter().filter(|peer| all.binary_search_by_key(*peer, |(ip, _)| *ip).is_err()).count()
        };
        if self.0.len() + fresh(&self.0) <= most {
            return true;
        }
        self.0.retain(|(_, until)| *until > now);
        self.0.len() + fresh(&self.0) <= most
    }

    /// Lets a peer send from now on for five minutes.
    pub(super) fn grant(&mut self, peer: IpAddr, now: Mono) {
        let until = now + PERMISSION;
        match self.0.binary_search_by_key(&peer, |(ip, _)| *ip) {
            Ok(at) => {
                if let Some(known) = self.0.get_mut(at) {
                    known.1 = until;
                }
            }
            Err(at) => self.0.insert(at, (peer, until)),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Why a channel cannot be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BindError {
    /// The number stands for another peer, or the peer has another number (RFC 8656, section 12.2: 400).
    Taken,
    /// Too many channels (508).
    Full,
}

/// Numbers that stand for peers. A slot is a channel; two sorted lists find it by either end, because each direction of the
/// traffic knows the other one.
#[derive(Debug, Default)]
pub(super) struct Channels {
    slots: Vec<Channel>,
    by_number: Vec<(u16, usize)>,
    by_peer: Vec<(SocketAddr, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    until: Mono,
    /// The peer's permission, kept here too so that a packet needs one look only.
    permitted: Mono,
}

impl Channel {
    fn is_open(&self, now: Mono) -> bool {
        self.until > now && self.permitted > now
    }
}

impl Channels {
    /// The peer of an open channel.
    pub(super) fn peer(&self, number: u16, now: Mono) -> Option<SocketAddr> {
        let at = self.by_number.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        let channel = self.slots.get(self.by_number.get(at)?.1)?;
        channel.is_open(now).then_some(channel.peer)
    }

    /// The open channel of a peer.
    pub(super) fn number(&self, peer: SocketAddr, now: Mono) -> Option<u16> {
        let at = self.by_peer.binary_search_by_key(&peer, |(p, _)| *p).ok()?;
        let channel = self.slots.get(self.by_peer.get(at)?.1)?;
        channel.is_open(now).then_some(channel.number)
    }

    /// Whether it could be bound; forgets channels that have ended when there are too many.
    pub(super) fn may_bind(
        &mut self,
        number: u16,
        peer: SocketAddr,
        most: usize,
        now: Mono,
    ) -> Result<(), BindError> {
        let live = |c: &&Channel| c.until > now && (c.number == number) != (c.peer == peer);
        if self.slots.iter().any(|c| live(&c)) {
            return Err(BindError::Taken);
        }
        if self.slots.len() >= most {
            self.slots.retain(|c| c.until > now);
            self.index();
        }
        let known = self.slots.iter().any(|c| c.number == number || c.peer == peer);
        if known || self.slots.len() < most { Ok(()) } else { Err(BindError::Full) }
    }

    /// Binds, or binds anew, what `may_bind` allowed. The peer's permission is granted with it.
    pub(super) fn bind(&mut self, number: u16, peer: SocketAddr, now: Mono) {
        self.slots.retain(|c| c.number != number && c.peer != peer);
        self.slots.push(Channel { number, peer, until: now + CHANNEL, permitted: now + PERMISSION });
        self.index();
    }

    /// A peer's permission was granted anew.
    pub(super) fn permit(&mut self, peer: IpAddr, now: Mono) {
        for channel in self.slots.iter_mut().filter(|c| c.peer.ip() == peer) {
            channel.permitted = now + PERMISSION;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.slots.len()
    }

    fn index(&mut self) {
        self.by_number.clear();
        self.by_peer.clear();
        for (at, channel) in self.slots.iter().enumerate() {
            self.by_number.push((channel.number, at));
            self.by_peer.push((channel.peer, at));
        }
        self.by_number.sort_unstable();
        self.by_peer.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(Duration::from_secs(1000));

    fn peer(n: u8) -> SocketAddr {
        SocketAddr::from(([11, 0, 0, n], 4000))
    }

    #[test]
    fn a_permission_lasts_five_minutes_and_expired_ones_make_room() {
        let mut permissions = Permissions::default();
        permissions.grant(peer(1).ip(), NOW);
        permissions.grant(peer(2).ip(), NOW + Duration::from_secs(100));
        assert_eq!(permissions.until(peer(1).ip(), NOW + Duration::from_secs(299)), Some(NOW + PERMISSION));
        assert_eq!(permissions.until(peer(1).ip(), NOW + PERMISSION), None);
        assert_eq!(permissions.until(peer(3).ip(), NOW), None);
        assert!(permissions.has_room(&[peer(1).ip(), peer(2).ip()], 2, NOW), "known ones need no room");
        assert!(!permissions.has_room(&[peer(3).ip()], 2, NOW));
        assert!(permissions.has_room(&[peer(3).ip()], 2, NOW + PERMISSION));
        assert_eq!(permissions.len(), 1);
    }

    #[test]
    fn a_channel_is_one_number_for_one_peer() {
        let mut channels = Channels::default();
        for (number, to) in [(0x4001, 9), (0x4000, 3)] {
            assert_eq!(channels.may_bind(number, peer(to), 8, NOW), Ok(()));
            channels.bind(number, peer(to), NOW);
        }
        assert_eq!(
            (channels.peer(0x4001, NOW), channels.number(peer(3), NOW)),
            (Some(peer(9)), Some(0x4000))
        );
        assert_eq!(channels.may_bind(0x4001, peer(3), 8, NOW), Err(BindError::Taken));
        assert_eq!(channels.may_bind(0x4002, peer(9), 8, NOW), Err(BindError::Taken));
        assert_eq!(channels.may_bind(0x4001, peer(4), 8, NOW), Err(BindError::Taken));
        assert_eq!(channels.may_bind(0x4001, peer(9), 8, NOW), Ok(()), "binding anew");
        let over = NOW + CHANNEL;
        assert_eq!(channels.may_bind(0x4001, peer(4), 8, over), Ok(()), "after its end the number is free");
        channels.bind(0x4001, peer(4), over);
        assert_eq!(channels.peer(0x4001, over), Some(peer(4)));
        assert_eq!(channels.number(peer(9), over), None);
    }

    #[test]
    fn a_channel_without_permission_is_closed() {
        let mut channels = Channels::default();
        channels.bind(0x4000, peer(1), NOW);
        let later = NOW + PERMISSION;
        assert_eq!((channels.peer(0x4000, later), channels.number(peer(1), later)), (None, None));
        channels.permit(peer(1).ip(), later);
        assert_eq!(channels.peer(0x4000, later), Some(peer(1)));
        assert_eq!(channels.peer(0x4000, NOW + CHANNEL), None);
    }

    #[test]
    fn channels_are_counted_and_ended_ones_make_room() {
        let mut channels = Channels::default();
        for n in 0..4 {
            channels.bind(0x4000 + u16::from(n), peer(n), NOW);
        }
        assert_eq!(channels.may_bind(0x4010, peer(99), 4, NOW), Err(BindError::Full));
        assert_eq!(channels.may_bind(0x4010, peer(99), 4, NOW + CHANNEL), Ok(()));
        assert_eq!(channels.len(), 0);
    }
}
