//! What we ask of the kernel about links, addresses and routes, and what we change there: rtnetlink, no shelling out.
//!
//! Synchronous on purpose. rtnetlink answers while the request is being sent, so an answer is always there to be read;
//! a connection task as in `rtnetlink` itself would need an async `open` and a spawned task for a handful of requests
//! per evening. The message types and builders are that crate's. Sockets belong to the network namespace of the thread
//! that opened them. Called by the tunnel device, the steering of routes, the list of cards and the cleaning up.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's messages have dozens of kinds; the few that we read are named"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST,
};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteVia};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{AddressMessageBuilder, LinkUnspec, RouteMessageBuilder};

use crate::host::cards::Way;
use crate::model::addr::Net;

/// A network device, as far as we care.
#[derive(Debug, Clone)]
pub(in crate::host) struct Link {
    /// Interface index.
    pub(in crate::host) index: u32,
    /// Its name.
    pub(in crate::host) name: String,
    /// The note that people and programs can put on a device; ours says whose it is.
    pub(in crate::host) alias: String,
    /// Whether it is a TUN or TAP device.
    pub(in crate::host) tun: bool,
    /// Up, and with a carrier where the device knows.
    pub(in crate::host) running: bool,
    /// The loopback device.
    pub(in crate::host) loopback: bool,
    /// A part of a bridge, bond or the like; the addresses are on that one.
    pub(in crate::host) enslaved: bool,
    /// Whether frames have an Ethernet header.
    pub(in crate::host) ethernet: bool,
}

/// An address on a device.
#[derive(Debug, Clone)]
pub(in crate::host) struct LinkAddress {
    /// The device's interface index.
    pub(in crate::host) index: u32,
    /// The address with its prefix length.
    pub(in crate::host) net: Net,
}

/// A conversation with the kernel.
pub(in crate::host) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// The kernel's own dumps are at most 32 KiB a message; twice that leaves room for its successors.
const BUFFER: usize = 1 << 16;
/// A dump that the kernel marks as interrupted (something changed meanwhile) is asked for again this often.
const DUMP_ATTEMPTS: u32 = 4;

impl Netlink {
    /// Opens the conversation. Needs no rights; changing things does.
    pub(in crate::host) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // An answer that is not there at once will never come: an error is better than a data loop that hangs.
        socket.set_non_blocking(true)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Every device.
    pub(in crate::host) fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(answers
            .into_iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewLink(link) => Some(read_link(&link)),
                _ => None,
            })
            .collect())
    }

    /// The device of this name.
    pub(in crate::host) fn link_named(&mut self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.links()?.into_iter().find(|l| l.name == name))
    }

    /// Every address in use. Addresses that are still being checked or were found to be taken are left out.
    pub(in crate::host) fn addresses(&mut self) -> io::Result<Vec<LinkAddress>> {
        let answers = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(answers
            .into_iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewAddress(a) => read_address(&a),
                _ => None,
            })
            .collect())
    }

    /// By which device and router a packet to `to` would leave; `None` when there is no route.
    pub(in crate::host) fn way_to(&mut self, to: IpAddr) -> Option<Way> {
        let prefix = if to.is_ipv4() { 32 } else { 128 };
        let message = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to, prefix).ok()?.build();
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_ACK).ok()?;
        answers.into_iter().find_map(|m| match m {
            RouteNetlinkMessage::NewRoute(route) => read_way(&route),
            _ => None,
        })
    }

    /// Writes the note on a device and sets it up.
    pub(in crate::host) fn set_up(&mut self, index: u32, alias: &str) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(index).alias(alias).up().build();
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// Removes a device.
    pub(in crate::host) fn remove_link(&mut self, index: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(index).build();
        self.ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK).map(drop)
    }

    /// Gives a device an IPv4 address with the broadcast address of its network.
    pub(in crate::host) fn add_v4(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Gives a device an IPv6 address, without asking the network first whether somebody has it already.
    pub(in crate::host) fn add_v6(&mut self, index: u32, address: Ipv6Addr, prefix: u8) -> io::Result<()> {
        let mut message =
            AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(address, prefix).build();
        message.header.flags |= AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Takes an address from a device.
    pub(in crate::host) fn remove_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> io::Result<()> {
        let message = match address {
            IpAddr::V4(a) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(a, prefix).build(),
            IpAddr::V6(a) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(a, prefix).build(),
        };
        self.ask(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK).map(drop)
    }

    /// Sends what goes to this network out by a device.
    pub(in crate::host) fn add_route(&mut self, index: u32, to: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to, prefix)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Takes such a route back.
    pub(in crate::host) fn remove_route(&mut self, index: u32, to: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to, prefix)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        self.ask(RouteNetlinkMessage::DelRoute(message), NLM_F_ACK).map(drop)
    }

    fn dump(&mut self, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut last = io::Error::from(io::ErrorKind::Interrupted);
        for _ in 0..DUMP_ATTEMPTS {
            match self.ask(request.clone(), NLM_F_DUMP) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => last = e,
                done => return done,
            }
        }
        Err(last)
    }

    /// One request and all its answers, up to the final word.
    fn ask(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        let mut interrupted = false;
        loop {
            self.buffer.clear();
            let len = self.socket.recv(&mut self.buffer, 0)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for part in Parts(&self.buffer) {
                let answer = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(part) {
                    Ok(answer) => answer,
                    Err(e) => {
                        // A newer kernel says something this crate cannot read: the rest of the list is still good.
                        tracing::debug!(error = %e, "a netlink message could not be read");
                        continue;
                    }
                };
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Done(_) if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }
}

/// The messages of one read, one after another, each padded to four bytes.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(u32::from_ne_bytes(*self.0.first_chunk()?)).ok()?;
        let part = self.0.get(..len).filter(|p| p.len() >= 16)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(part)
    }
}

fn read_link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        alias: String::new(),
        tun: false,
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        enslaved: false,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::Controller(index) => link.enslaved = *index != 0,
            LinkAttribute::LinkInfo(infos) => {
                link.tun = infos.iter().any(|i| matches!(i, LinkInfo::Kind(InfoKind::Tun)));
            }
            _ => {}
        }
    }
    link
}

fn read_way(message: &RouteMessage) -> Option<Way> {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    };
    let (mut card, mut router, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => card = Some(*index),
            RouteAttribute::Gateway(a) => router = ip(a),
            // An IPv4 network that is reached by an IPv6 router (RFC 5549).
            RouteAttribute::Via(RouteVia::Inet6(a)) => router = Some(IpAddr::V6(*a)),
            RouteAttribute::PrefSource(a) => source = ip(a),
            _ => {}
        }
    }
    Some(Way { card: card?, router, source })
}

fn read_address(message: &AddressMessage) -> Option<LinkAddress> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    if message.header.flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed) {
        return None;
    }
    // On a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL is ours; else they are the same, or only
    // IFA_ADDRESS is there (IPv6).
    let mut addr = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(a) => addr = Some(*a),
            AddressAttribute::Address(a) => addr = addr.or(Some(*a)),
            _ => {}
        }
    }
    let net = Net { addr: addr?, prefix: message.header.prefix_len };
    Some(LinkAddress { index: message.header.index, net })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_and_its_address_are_found() {
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link_named("lo").unwrap().expect("every namespace has a loopback device");
        assert!(lo.loopback && !lo.tun && !lo.ethernet);
        assert!(netlink.link_named("no-such-device").unwrap().is_none());
        if lo.running {
            let addresses = netlink.addresses().unwrap();
            assert!(addresses.iter().any(|a| a.index == lo.index && a.net.addr.is_loopback()));
            assert_eq!(netlink.way_to("127.0.0.1".parse().unwrap()).map(|w| w.card), Some(lo.index));
        }
    }

    #[test]
    fn messages_are_cut_apart_and_bad_lengths_end_the_list() {
        let mut bytes = 18u32.to_ne_bytes().to_vec();
        bytes.resize(20, 0);
        bytes.extend(16u32.to_ne_bytes());
        bytes.resize(36, 0);
        assert_eq!(Parts(&bytes).map(<[u8]>::len).collect::<Vec<_>>(), [18, 16]);
        assert_eq!(Parts(&3u32.to_ne_bytes()).count(), 0);
        assert_eq!(Parts(&u32::MAX.to_ne_bytes()).count(), 0);
        assert_eq!(Parts(&[1, 2]).count(), 0);
    }
}
