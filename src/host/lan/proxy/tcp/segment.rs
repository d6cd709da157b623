//! One TCP segment as the tables need it: whose it is and what it does to a connection.

use crate::wire::packet::{PacketView, proto};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

/// Flags of a TCP header.
pub(super) mod flag {
    pub(in super::super) const FIN: u8 = 0x01;
    pub(in super::super) const SYN: u8 = 0x02;
    pub(in super::super) const RST: u8 = 0x04;
    pub(in super::super) const ACK: u8 = 0x10;
}

/// A connection, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// The peer's virtual address and port.
    pub(super) peer: SocketAddrV4,
    /// Our port.
    pub(super) port: u16,
}

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    /// The packet without what follows its end.
    pub(super) bytes: &'a [u8],
    pub(super) key: Key,
    pub(super) to: Ipv4Addr,
    pub(super) seq: u32,
    pub(super) flags: u8,
    /// Bytes of payload.
    pub(super) data: usize,
}

impl<'a> Segment<'a> {
    /// Reads a whole IPv4/TCP packet; `None` for everything else and for what contradicts itself.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        let view = PacketView::parse(packet).ok()?;
        let (IpAddr::V4(from), IpAddr::V4(to)) = (view.src, view.dst) else { return None };
        let usable = |at: Ipv4Addr| {
            !(at.is_unspecified() || at.is_multicast() || at.is_broadcast() || at.is_loopback())
        };
        if view.fragment || view.proto != proto::TCP || !usable(from) || !usable(to) || from == to {
            return None;
        }
        if view.src_port == 0 || view.dst_port == 0 {
            return None;
        }
        let header = view.bytes.get(view.transport_offset()..)?;
        let seq = u32::from_be_bytes(header.get(4..8)?.try_into().ok()?);
        Some(Self {
            bytes: view.bytes,
            key: Key { peer: SocketAddrV4::new(from, view.src_port), port: view.dst_port },
            to,
            seq,
            flags: *header.get(13)?,
            data: view.payload().len(),
        })
    }

    pub(super) const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether it asks for a new connection.
    pub(super) const fn opens(&self) -> bool {
        self.flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN
    }
}

/// The TCP flags of a packet that was written here: its IP header has no options.
pub(super) fn flags_of(packet: &[u8]) -> u8 {
    packet.get(33).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A SYN from 10.9.8.7:5000 to 10.9.8.1:80, checksums left out.
    fn syn() -> Vec<u8> {
        let mut p = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 9, 8, 7, 10, 9, 8, 1];
        p.extend([0x13, 0x88, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, flag::SYN, 1, 0, 0, 0, 0, 0]);
        p
    }

    #[test]
    fn a_segment_is_read_with_its_connection() {
        let bytes = syn();
        let s = Segment::parse(&bytes).unwrap();
        assert_eq!(s.key, Key { peer: "10.9.8.7:5000".parse().unwrap(), port: 80 });
        assert_eq!((s.to, s.seq, s.data, s.opens()), ("10.9.8.1".parse().unwrap(), 9, 0, true));
        assert_eq!(flags_of(&bytes), flag::SYN);
    }

    #[test]
    fn packets_that_no_peer_can_have_sent_are_refused() {
        let broken = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = syn();
            change(&mut bytes);
            Segment::parse(&bytes).is_none()
        };
        assert!(broken(&|p| p.truncate(39)), "cut short");
        assert!(broken(&|p| p[9] = 17), "UDP");
        assert!(broken(&|p| p[6] = 0x20), "a fragment");
        assert!(broken(&|p| p[32] = 0xf0), "a header longer than the packet");
        assert!(broken(&|p| p[12..16].fill(0)), "from nowhere");
        assert!(broken(&|p| p[12..16].copy_from_slice(&[224, 0, 0, 1])), "from a group");
        assert!(broken(&|p| p[12] = 127), "from this computer");
        assert!(broken(&|p| p[15] = 1), "from the address it goes to");
        assert!(broken(&|p| p[20..22].fill(0)), "from port 0");
        assert!(!broken(&|p| p.push(0)), "padding behind the packet is no harm");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), like in any::<bool>()) {
            let mut bytes = bytes;
            if like && bytes.len() > 10 {
                (bytes[0], bytes[9]) = (0x45, 6);
            }
            let _ = Segment::parse(&bytes);
            let _ = flags_of(&bytes);
        }
    }
}
