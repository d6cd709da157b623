//! Segmentation offload of a Linux tunnel device: one read may bring, and one write may take, many packets of one flow.
//!
//! With `IFF_VNET_HDR` each read and write starts with a `virtio_net_hdr` (virtio 1.2, section 5.1.6) in the computer's
//! byte order, which says how to cut what follows (TSO, USO) and which checksum is still to be made. `Split` cuts what
//! was read; `Ahead` keeps long reads while single packets pass; `Merge` builds what is written. All are pure: bytes in,
//! bytes out.

mod ahead;
mod merge;
mod split;

pub use ahead::{Ahead, Flow};
pub use merge::Merge;
pub use split::Split;

/// Bytes of the header in front of each packet.
pub const VNET: usize = 10;
/// The largest packet, merged or not: the length field of IPv4.
pub const LARGEST: usize = 65_535;

/// The transport checksum is not made yet (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
const NEEDS_CSUM: u8 = 1;
/// One packet (`VIRTIO_NET_HDR_GSO_NONE`).
const ONE: u8 = 0;
/// Segments of TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
const TCP_V4: u8 = 1;
/// Segments of TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
const TCP_V6: u8 = 4;
/// Datagrams of UDP over either (`VIRTIO_NET_HDR_GSO_UDP_L4`).
const UDP: u8 = 5;
/// The first segment has CWR set (`VIRTIO_NET_HDR_GSO_ECN`), a bit beside the kinds of TCP.
const ECN: u8 = 0x80;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// The header's fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Header {
    flags: u8,
    kind: u8,
    /// IP and transport headers together. Systems disagree about it, so it is written and never believed.
    headers: u16,
    /// Payload of each segment but the last.
    segment: u16,
    /// Where the checksum starts to count, and where it goes from there.
    sum_from: u16,
    sum_at: u16,
}

impl Header {
    const fn read(bytes: [u8; VNET]) -> Self {
        let [flags, kind, h0, h1, s0, s1, f0, f1, a0, a1] = bytes;
        Self {
            flags,
            kind,
            headers: u16::from_ne_bytes([h0, h1]),
            segment: u16::from_ne_bytes([s0, s1]),
            sum_from: u16::from_ne_bytes([f0, f1]),
            sum_at: u16::from_ne_bytes([a0, a1]),
        }
    }

    const fn write(self) -> [u8; VNET] {
        let [h0, h1] = self.headers.to_ne_bytes();
        let [s0, s1] = self.segment.to_ne_bytes();
        let [f0, f1] = self.sum_from.to_ne_bytes();
        let [a0, a1] = self.sum_at.to_ne_bytes();
        [self.flags, self.kind, h0, h1, s0, s1, f0, f1, a0, a1]
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests;
