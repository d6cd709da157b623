//! A capture as the learner sees it: UDP datagrams with what they were addressed to, and connections that were opened.
//!
//! Hostile captures cost bounded memory: see the constants at the end. What other programs say on every LAN (names,
//! printers, media) is left out by its port and counted.

use super::Heard;
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
    /// All packets, whatever they are.
    pub(super) packets: usize,
}

impl Traffic {
    /// Sorts packets by what they are. With `ports`, only those from or to one of them are looked at.
    pub(super) fn read(heard: &[Heard<'_>], ports: &[u16]) -> Self {
        let mut it = Self { packets: heard.len(), ..Self::default() };
        let mut views: Vec<(Duration, PacketView<'_>)> = Vec::new();
        for one in heard.iter().take(MOST_PACKETS) {
            match PacketView::parse(one.packet) {
                Ok(view) if view.fragment => it.leave_out("pieces of fragmented packets"),
                Ok(view) if matches!(view.proto, proto::UDP | proto::TCP) => views.push((one.at, view)),
                Ok(_) => it.leave_out("neither UDP nor TCP"),
                Err(_) => it.leave_out("no whole IP packets (ARP and the like)"),
            }
        }
        for _ in MOST_PACKETS..heard.len() {
            it.leave_out("beyond what is looked at");
        }
        views.sort_by_key(|(at, _)| *at);
        let senders: BTreeSet<IpAddr> = views.iter().map(|(_, view)| view.src).collect();
        let mut flows: BTreeMap<(SocketAddr, SocketAddr), usize> = BTreeMap::new();
        for (at, view) in views {
            let wanted = ports.is_empty() || ports.contains(&view.src_port) || ports.contains(&view.dst_port);
            if !wanted {
                it.leave_out("on other ports than asked for");
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
        if let Some((_, whose)) = CHATTER.iter().find(|(port, _)| [view.src_port, view.dst_port].contains(port)) {
            return self.leave_out(whose);
        }
        let payload = view.payload();
        if payload.len() > MOST_BYTES {
            return self.leave_out("longer than any discovery packet");
        }
        let (to_one, known) = (class == Class::Unicast, flows.len() < MOST_FLOWS);
        let key = (view.source(), view.destination());
        if to_one && (known || flows.contains_key(&key)) {
            let count = flows.entry(key).or_default();
            *count += 1;
            if *count > MOST_OF_FLOW {
                return self.leave_out("the rest of long conversations");
            }
        } else if to_one || self.many.len() >= MOST_TO_MANY {
            return self.leave_out("beyond what is looked at");
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

    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
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
