//! Handing a peer's multicast to the sockets that joined the group, on the card where they joined it.
//!
//! Games join on their default card, and some (everything in Java) refuse groups that come in by another. So the packet
//! must seem to come in by that card. It is sent out by a raw socket through the card with a TTL or hop limit of 0: the
//! kernel loops a copy back to the members on this computer, as received on that card, with the source that the packet
//! names, and drops the original, because a TTL of 0 must not reach the wire (`ip_mc_output`, `ip6_finish_output2`).
//!
//! The trap: the kernel takes that path only while somebody is a member on that card; else the packet would leave, TTL
//! or not. A game can leave the group at any moment, so we hold a membership of our own for as long as we inject there.
//! It is taken after a game's and given up after the last game's, so the network sees no group that no game wanted.
//!
//! Exactly one card is chosen, so that a game which joined on all its cards gets one copy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use std::time::Instant;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::members::Watch;
use crate::model::addr::Card;

/// IPPROTO_RAW: we write the IP header.
const OWN_HEADER: i32 = 255;

/// Injects into groups.
#[derive(Debug)]
pub(super) struct Injector {
    v4: Socket,
    /// `None` where IPv6 is off.
    v6: Option<Socket>,
    bound: Bound,
    members: Watch,
}

/// By which card each socket sends.
#[derive(Debug, Default)]
struct Bound {
    v4: u32,
    v6: u32,
}

impl Injector {
    /// Opens the raw sockets; needs the right to.
    pub(super) fn open() -> io::Result<Self> {
        let raw = |domain| -> io::Result<Socket> {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(OWN_HEADER)))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let v4 = raw(Domain::IPV4)?;
        v4.set_multicast_loop_v4(true)?;
        let v6 = raw(Domain::IPV6).and_then(|s| s.set_multicast_loop_v6(true).map(|()| s));
        let v6 = v6.inspect_err(|error| tracing::debug!(%error, "no raw IPv6 socket")).ok();
        Ok(Self { v4, v6, bound: Bound::default(), members: Watch::default() })
    }

    /// Hands the packet to the members of its group on one of the cards. False when no card has members: nothing was
    /// done then. Changes the packet's TTL.
    pub(super) fn deliver(&mut self, packet: &mut [u8], cards: &[Card]) -> io::Result<bool> {
        let Some(group) = destination(packet).filter(IpAddr::is_multicast) else { return Ok(false) };
        self.members.refresh(std::iter::empty(), Instant::now());
        let Some(card) = self.members.card_of(group, cards).map(|card| card.id.0) else { return Ok(false) };
        self.members.join(group, card)?;
        match group {
            IpAddr::V4(group) => self.send_v4(packet, group, card)?,
            IpAddr::V6(group) => self.send_v6(packet, group, card)?,
        }
        Ok(true)
    }

    /// Gives up memberships on cards that are gone.
    pub(super) fn keep_only(&mut self, cards: &[Card]) {
        self.members.keep_only(cards);
    }

    fn send_v4(&mut self, packet: &mut [u8], group: Ipv4Addr, card: u32) -> io::Result<()> {
        // The kernel computes the header's checksum anew.
        *packet.get_mut(8).ok_or(io::ErrorKind::InvalidInput)? = 0;
        if self.bound.v4 != card {
            self.v4.bind_device_by_index_v4(NonZeroU32::new(card))?;
            self.bound.v4 = card;
        }
        let to = SockAddr::from(SocketAddrV4::new(group, 0));
        self.v4.send_to(packet, &to).map(drop)
    }

    fn send_v6(&mut self, packet: &mut [u8], group: Ipv6Addr, card: u32) -> io::Result<()> {
        *packet.get_mut(7).ok_or(io::ErrorKind::InvalidInput)? = 0;
        let socket = self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        if self.bound.v6 != card {
            socket.set_multicast_if_v6(card)?;
            self.bound.v6 = card;
        }
        let to = SockAddr::from(SocketAddrV6::new(group, 0, 0, card));
        socket.send_to(packet, &to).map(drop)
    }
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(16..20)?.first_chunk::<4>()?)),
        6 => Some(IpAddr::from(*packet.get(24..40)?.first_chunk::<16>()?)),
        _ => None,
    }
}
