//! Sending a capture's broadcasts and multicasts again, by one card, at the rhythm of the capture.
//!
//! Only to everybody or to groups: what a capture says to one computer is never sent to anybody. The source is this
//! computer's own address on the card; the source port is the capture's, when it is free.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

/// A packet to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// How long after the first one.
    pub after: Duration,
    /// From which port.
    pub source_port: u16,
    /// Where the capture says it went.
    pub to: SocketAddr,
    /// To the network's own broadcast address: the card's network has another.
    pub directed: bool,
    /// Its time to live.
    pub ttl: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// Sends by one card.
#[derive(Debug)]
pub struct Sender {
    sockets: BTreeMap<u16, Socket>,
    broadcast: Ipv4Addr,
    other_ports: BTreeSet<u16>,
}

impl Sender {
    /// Opens a socket for each source port of the packets.
    ///
    /// # Errors
    /// When there is no such card, it has no IPv4 address, or the system refuses.
    pub fn open(card: &str, packets: &[Again]) -> io::Result<Self> {
        let cards = super::cards::list("");
        let found = cards.iter().find(|c| c.name == card);
        let found = found
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such card, or it is down"))?;
        let net = found.nets.iter().find_map(|net| match net.addr {
            IpAddr::V4(v4) => Some((v4, net.broadcast())),
            IpAddr::V6(_) => None,
        });
        let (own, broadcast) = net.ok_or_else(|| io::Error::other("it has no IPv4 address"))?;
        let mut it = Self {
            sockets: BTreeMap::new(),
            broadcast: broadcast.unwrap_or(Ipv4Addr::BROADCAST),
            other_ports: BTreeSet::new(),
        };
        for packet in packets {
            if !it.sockets.contains_key(&packet.source_port) && it.sockets.len() < MOST_SOCKETS {
                let socket = it.socket(card, own, packet.source_port)?;
                it.sockets.insert(packet.source_port, socket);
            }
        }
        Ok(it)
    }

    fn socket(&mut self, card: &str, own: Ipv4Addr, port: u16) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_broadcast(true)?;
        socket.set_reuse_address(true)?;
        #[cfg(target_os = "linux")]
        socket.bind_device(Some(card.as_bytes()))?;
        #[cfg(not(target_os = "linux"))]
        let _ = card;
        socket.set_multicast_if_v4(&own)?;
        let at = |port| SockAddr::from(SocketAddrV4::new(own, port));
        if socket.bind(&at(port)).is_err() {
            self.other_ports.insert(port);
            socket.bind(&at(0))?;
        }
        Ok(socket)
    }

    /// Source ports that were not free.
    pub fn other_ports(&self) -> impl Iterator<Item = u16> {
        self.other_ports.iter().copied()
    }

    /// Sends all of them so often, at their rhythm, at most for this long; says how many were sent.
    ///
    /// # Errors
    /// When the system refuses, and for a packet to a single computer: nothing is sent then.
    pub fn send(
        &mut self,
        packets: &[Again],
        times: u32,
        limit: Duration,
        longest_pause: Duration,
    ) -> io::Result<usize> {
        if let Some(one) = packets.iter().find(|p| self.target(p).is_none()) {
            let what = format!("{} is a single computer; only broadcasts and multicasts are sent", one.to);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let (end, mut sent) = (Instant::now() + limit, 0);
        for _ in 0..times {
            let mut before = Duration::ZERO;
            let mut gap = USUAL_GAP;
            for packet in packets {
                let pause = packet.after.saturating_sub(before).min(longest_pause);
                gap = if pause > Duration::ZERO { pause } else { gap };
                before = packet.after;
                if Instant::now() + pause >= end || sent >= MOST_PACKETS {
                    return Ok(sent);
                }
                std::thread::sleep(pause);
                let (Some(to), Some(socket)) = (self.target(packet), self.sockets.get(&packet.source_port))
                else {
                    continue;
                };
                if to.ip().is_multicast() {
                    socket.set_multicast_ttl_v4(packet.ttl.max(1).into())?;
                }
                socket.send_to(&packet.payload, &to.into())?;
                sent += 1;
            }
            if Instant::now() + gap >= end {
                break;
            }
            if times > 1 {
                std::thread::sleep(gap);
            }
        }
        Ok(sent)
    }

    /// Where a packet goes here; `None` when that would be one computer.
    fn target(&self, packet: &Again) -> Option<SocketAddrV4> {
        let IpAddr::V4(to) = packet.to.ip() else { return None };
        let ip = if packet.directed { self.broadcast } else { to };
        let to_many = packet.directed || to.is_broadcast() || to.is_multicast();
        to_many.then(|| SocketAddrV4::new(ip, packet.to.port()))
    }
}

/// Between one sending of all and the next, when the capture has no gaps to go by.
const USUAL_GAP: Duration = Duration::from_secs(1);
/// Source ports of one side.
const MOST_SOCKETS: usize = 64;
const MOST_PACKETS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_to_a_single_computer() {
        let mut sender = Sender {
            sockets: BTreeMap::new(),
            broadcast: Ipv4Addr::new(10, 0, 0, 255),
            other_ports: BTreeSet::new(),
        };
        let packet = |to: &str, directed| Again {
            after: Duration::ZERO,
            source_port: 1,
            to: to.parse().unwrap(),
            directed,
            ttl: 1,
            payload: Vec::new(),
        };
        assert_eq!(sender.target(&packet("192.168.1.255:7", true)), Some("10.0.0.255:7".parse().unwrap()));
        let refused = sender.send(
            &[packet("255.255.255.255:7", false), packet("192.0.2.1:7", false)],
            1,
            USUAL_GAP,
            USUAL_GAP,
        );
        assert!(refused.unwrap_err().to_string().contains("192.0.2.1:7"));
    }
}
