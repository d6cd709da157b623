//! A capture as the learner sees it: UDP datagrams with what they were addressed to, and connections that were opened.
//!
//! Hostile captures cost bounded memory: see the constants at the end. What other programs say on every LAN (names,
//! printers, media) is left out by its port and counted.

use crate::rules::capture::Capture;
use crate::wire::frame::Class;
use crate::wire::packet::{PacketView, proto};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One UDP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Datagram {
    pub(super) at: Duration,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) class: Class,
    pub(super) ttl: u8,
    pub(super) payload: Vec<u8>,
}

/// A TCP connection that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) at: Duration,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

/// What a capture holds.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// To everybody or to a group, in the order of time.
    pub(super) many: Vec<Datagram>,
    /// To one computer, in the order of time.
    pub(super) one: Vec<Datagram>,
    pub(super) openings: Vec<Opening>,
    /// Why packets were left out, and how many.
    pub(super) left_out: BTreeMap<&'static str, usize>,
    /// All frames, whatever they are.
    pub(super) frames: usize,
}

impl Traffic {
    /// Sorts packets by what they are. With `ports`, only those from or to one of them are looked at.
    pub(super) fn read(captures: &[Capture], ports: &[u16]) -> Self {
        let all = || captures.iter().flat_map(|c| c.packets.iter().chain(&c.openings));
        let frames = captures.iter().map(|c| c.packets.len() + c.other).sum();
        let mut it = Self { frames, ..Self::default() };
        let other = captures.iter().map(|c| c.other.saturating_sub(c.openings.len())).sum();
        it.leave_out("no UDP, or not whole", other);
        it.leave_out("beyond what is looked at", all().skip(MOST_PACKETS).count());
        let mut views: Vec<(Duration, PacketView<'_>)> = Vec::new();
        for one in all().take(MOST_PACKETS) {
            let Ok(view) = PacketView::parse(&one.packet) else { continue };
            views.push((one.at, view));
        }
        views.sort_by_key(|(at, _)| *at);
        let senders: BTreeSet<IpAddr> = views.iter().map(|(_, view)| view.src).collect();
        let mut flows: BTreeMap<(SocketAddr, SocketAddr), usize> = BTreeMap::new();
        for (at, view) in views {
            let wanted = ports.is_empty() || ports.contains(&view.src_port) || ports.contains(&view.dst_port);
            if !wanted {
                it.leave_out("on other ports than asked for", 1);
            } else if view.opens_tcp() && it.openings.len() < MOST_OPENINGS {
                it.openings.push(Opening { at, from: view.source(), to: view.destination() });
            } else if view.proto == proto::UDP {
                it.keep(at, &view, &senders, &mut flows);
            }
        }
        it
    }

    fn keep(
        &mut self,
        at: Duration,
        view: &PacketView<'_>,
        senders: &BTreeSet<IpAddr>,
        flows: &mut BTreeMap<(SocketAddr, SocketAddr), usize>,
    ) {
        let class = class_of(view.dst, senders);
        if let Some((_, whose)) =
            CHATTER.iter().find(|(port, _)| [view.src_port, view.dst_port].contains(port))
        {
            return self.leave_out(whose, 1);
        }
        let payload = view.payload();
        if payload.len() > MOST_BYTES {
            return self.leave_out("longer than any discovery packet", 1);
        }
        let (to_one, known) = (class == Class::Unicast, flows.len() < MOST_FLOWS);
        let key = (view.source(), view.destination());
        if to_one && (known || flows.contains_key(&key)) {
            let count = flows.entry(key).or_default();
            *count += 1;
            if *count > MOST_OF_FLOW {
                return self.leave_out("the rest of long conversations", 1);
            }
        } else if to_one || self.many.len() >= MOST_TO_MANY {
            return self.leave_out("beyond what is looked at", 1);
        }
        let one = Datagram {
            at,
            from: view.source(),
            to: view.destination(),
            class,
            ttl: view.ttl,
            payload: payload.to_vec(),
        };
        if to_one { self.one.push(one) } else { self.many.push(one) }
    }

    fn leave_out(&mut self, why: &'static str, times: usize) {
        if times > 0 {
            *self.left_out.entry(why).or_default() += times;
        }
    }
}

/// How a packet was addressed. A capture does not know the network's size, so an address that ends in 255 and that
/// nobody speaks from is taken for a network's broadcast address.
pub(super) fn class_of(to: IpAddr, senders: &BTreeSet<IpAddr>) -> Class {
    match to {
        to if to.is_multicast() => Class::Multicast,
        IpAddr::V4(v4) if v4.is_broadcast() => Class::Limited,
        IpAddr::V4(v4) if v4.octets()[3] == 255 && !senders.contains(&to) => Class::Directed,
        IpAddr::V4(_) | IpAddr::V6(_) => Class::Unicast,
    }
}

/// Whether a port is one that other programs use on every LAN.
pub(super) fn is_chatter(port: u16) -> bool {
    CHATTER.iter().any(|(known, _)| *known == port)
}

/// What is heard on every LAN and is no game.
const CHATTER: &[(u16, &str)] = &[
    (53, "names (DNS)"),
    (67, "addresses (DHCP)"),
    (68, "addresses (DHCP)"),
    (546, "addresses (DHCP)"),
    (547, "addresses (DHCP)"),
    (123, "the time (NTP)"),
    (137, "Windows names (NetBIOS)"),
    (138, "Windows names (NetBIOS)"),
    (1900, "devices (SSDP)"),
    (3702, "devices (WS-Discovery)"),
    (5353, "names (mDNS)"),
    (5355, "names (LLMNR)"),
    (17500, "Dropbox"),
    (27036, "Steam itself"),
    (57621, "Spotify"),
];

/// An hour of an announcer and an evening's play; more teaches nothing.
const MOST_PACKETS: usize = 200_000;
/// Of a whole capture.
const MOST_TO_MANY: usize = 2048;
/// Conversations, each of whose first packets are kept.
const MOST_FLOWS: usize = 512;
/// The start of a join is what matters.
const MOST_OF_FLOW: usize = 24;
const MOST_OPENINGS: usize = 1024;
/// What fits an Ethernet frame.
const MOST_BYTES: usize = 1500;
