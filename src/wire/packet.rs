//! IP packets: a view that allocates nothing, and changes that keep the checksums right.
//!
//! Covers what LAN games use: IPv4 (RFC 791) and IPv6 (RFC 8200, without extension headers) carrying UDP, TCP, ICMP or
//! IGMP. Fragments have no ports and are seen as such. Reading never panics: whatever comes in is hostile until parsed.

use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Transport protocols by their IANA numbers.
pub mod proto {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IGMP (RFC 3376).
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;

    /// The protocol that an IP packet names, without looking at anything else; behind IPv6's extension headers nobody looks.
    #[must_use]
    pub const fn of(packet: &[u8]) -> Option<u8> {
        match packet {
            [first, _, _, _, _, _, _, _, _, protocol, ..] if *first >> 4 == 4 => Some(*protocol),
            [first, _, _, _, _, _, protocol, ..] if *first >> 4 == 6 => Some(*protocol),
            _ => None,
        }
    }
}

/// Why bytes are not an IP packet we carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than its own header says.
    #[error("the packet is cut short")]
    Short,
    /// Neither version 4 nor 6.
    #[error("not an IP packet")]
    Version,
    /// Header lengths that contradict each other.
    #[error("the header contradicts itself")]
    Header,
}

/// What an IP packet says, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketView<'a> {
    /// The whole packet, cut to the length its header names.
    pub bytes: &'a [u8],
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Transport protocol (see `proto`).
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// True for every fragment but a whole packet; fragments have no ports.
    pub fragment: bool,
    /// Source port of UDP and TCP, else 0.
    pub src_port: u16,
    /// Destination port of UDP and TCP, else 0.
    pub dst_port: u16,
    transport: usize,
    payload: usize,
}

impl<'a> PacketView<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// When the bytes are not a whole IPv4 or IPv6 packet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        match bytes.first().ok_or(PacketError::Short)? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => Err(PacketError::Version),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let ip = Ipv4Packet::new(bytes).ok_or(PacketError::Short)?;
        let header = usize::from(ip.get_header_length()) * 4;
        let total = usize::from(ip.get_total_length());
        if header < 20 || total < header {
            return Err(PacketError::Header);
        }
        let bytes = bytes.get(..total).ok_or(PacketError::Short)?;
        let fragment = ip.get_fragment_offset() != 0 || ip.get_flags() & 1 != 0;
        let view = Self {
            bytes,
            src: ip.get_source().into(),
            dst: ip.get_destination().into(),
            proto: ip.get_next_level_protocol().0,
            ttl: ip.get_ttl(),
            fragment,
            src_port: 0,
            dst_port: 0,
            transport: header,
            payload: header,
        };
        view.with_ports()
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let ip = Ipv6Packet::new(bytes).ok_or(PacketError::Short)?;
        let total = 40 + usize::from(ip.get_payload_length());
        let bytes = bytes.get(..total).ok_or(PacketError::Short)?;
        let proto = ip.get_next_header().0;
        let view = Self {
            bytes,
            src: ip.get_source().into(),
            dst: ip.get_destination().into(),
            proto,
            ttl: ip.get_hop_limit(),
            fragment: proto == 44,
            src_port: 0,
            dst_port: 0,
            transport: 40,
            payload: 40,
        };
        view.with_ports()
    }

    fn with_ports(mut self) -> Result<Self, PacketError> {
        if self.fragment {
            return Ok(self);
        }
        let segment = self.bytes.get(self.transport..).ok_or(PacketError::Short)?;
        let header = match (self.proto, segment) {
            (proto::UDP, [_, _, _, _, l0, l1, _, _, ..]) => {
                let len = usize::from(u16::from_be_bytes([*l0, *l1]));
                if len < 8 || len > segment.len() {
                    return Err(PacketError::Header);
                }
                self.bytes = self.bytes.get(..self.transport + len).ok_or(PacketError::Short)?;
                8
            }
            (proto::TCP, [_, _, _, _, _, _, _, _, _, _, _, _, offset, ..]) if segment.len() >= 20 => {
                let header = usize::from(offset >> 4) * 4;
                if header < 20 || header > segment.len() {
                    return Err(PacketError::Header);
                }
                header
            }
            (proto::UDP | proto::TCP, _) => return Err(PacketError::Short),
            _ => 0,
        };
        if let (true, [s0, s1, d0, d1, ..]) = (header > 0, segment) {
            self.src_port = u16::from_be_bytes([*s0, *s1]);
            self.dst_port = u16::from_be_bytes([*d0, *d1]);
        }
        self.payload = self.transport + header;
        Ok(self)
    }

    /// What UDP or TCP carries; for other protocols everything behind the IP header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.payload..).unwrap_or(&[])
    }

    /// Where the transport header starts.
    #[must_use]
    pub const fn transport_offset(&self) -> usize {
        self.transport
    }

    /// Where the payload starts.
    #[must_use]
    pub const fn payload_offset(&self) -> usize {
        self.payload
    }

    /// Source address and port.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        SocketAddr::new(self.src, self.src_port)
    }

    /// Destination address and port.
    #[must_use]
    pub const fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.dst_port)
    }

    /// Whether this is a TCP segment that opens a connection (SYN without ACK).
    #[must_use]
    pub fn opens_tcp(&self) -> bool {
        self.proto == proto::TCP
            && !self.fragment
            && self.bytes.get(self.transport + 13).is_some_and(|flags| flags & 0x12 == 0x02)
    }

    /// Whether the destination is multicast.
    #[must_use]
    pub const fn to_multicast(&self) -> bool {
        self.dst.is_multicast()
    }
}

/// The Internet checksum (RFC 1071) over several pieces, each of even length but the last.
#[must_use]
pub(crate) fn checksum(pieces: &[&[u8]]) -> u16 {
    !folded(pieces.iter().map(|piece| sum_of(piece)).sum())
}

/// The sum of a piece's words in this computer's byte order: adding is the same in any (RFC 1071, section 2B), and four
/// bytes at a time are a loop that compilers make wide.
fn sum_of(piece: &[u8]) -> u64 {
    let (words, rest) = piece.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let (half, last) = rest.as_chunks::<2>();
    let half: u64 = half.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum();
    let last: u64 = last.iter().map(|byte| u64::from(u16::from_ne_bytes([*byte, 0]))).sum();
    sum + half + last
}

/// A sum of words folded to one, as it stands in a packet.
fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::from_be(u16::try_from(sum).unwrap_or(u16::MAX))
}

/// What a transport checksum counts beside the segment (RFC 9293, section 3.1; RFC 8200, section 8.1).
fn sum_of_pseudo_header(packet: &[u8], v4: bool, proto_number: u8, segment: usize) -> u64 {
    let addresses = if v4 { packet.get(12..20) } else { packet.get(8..40) };
    let [a, b, c, d] = u32::try_from(segment).unwrap_or(u32::MAX).to_be_bytes();
    sum_of(addresses.unwrap_or(&[])) + sum_of(&[a, b, c, d, 0, 0, 0, proto_number])
}

/// The pseudo header's sum as a system expects it where the transport checksum is still to be made.
#[must_use]
pub(crate) fn pseudo_sum(packet: &[u8], v4: bool, proto_number: u8, segment: usize) -> u16 {
    folded(sum_of_pseudo_header(packet, v4, proto_number, segment))
}

/// The header checksum that an IPv4 packet without options should have.
#[must_use]
pub(crate) fn header_checksum(packet: &[u8]) -> u16 {
    checksum(&[packet.get(..10).unwrap_or(&[]), packet.get(12..20).unwrap_or(&[])])
}

/// Whether the checksums of a packet of UDP or TCP are right, the IP header's and the transport's.
#[must_use]
pub(crate) fn has_right_checksums(view: &PacketView<'_>) -> bool {
    let (bytes, v4, transport) = (view.bytes, view.src.is_ipv4(), view.transport);
    let segment = bytes.get(transport..).unwrap_or(&[]);
    let pseudo = sum_of_pseudo_header(bytes, v4, view.proto, segment.len());
    let header = !v4 || checksum(&[bytes.get(..transport).unwrap_or(&[])]) == 0;
    header && folded(pseudo + sum_of(segment)) == 0xffff
}

/// Sets source, destination and TTL (hop limit) of a packet in place and makes all its checksums right again.
///
/// Pass `None` to keep a value. Addresses of the wrong family are ignored. Returns false when the bytes are no packet.
pub fn readdress(
    packet: &mut [u8],
    src: Option<SocketAddr>,
    dst: Option<SocketAddr>,
    ttl: Option<u8>,
) -> bool {
    let Ok(view) = PacketView::parse(packet) else {
        return false;
    };
    let (v4, transport, len) = (view.src.is_ipv4(), view.transport, view.bytes.len());
    let has_ports = !view.fragment && matches!(view.proto, proto::UDP | proto::TCP);
    let Some(packet) = packet.get_mut(..len) else {
        return false;
    };
    for (address, v4_at, v6_at, port_at) in [(src, 12, 8, transport), (dst, 16, 24, transport + 2)] {
        match address {
            Some(SocketAddr::V4(a)) if v4 => put(packet, v4_at, &a.ip().octets()),
            Some(SocketAddr::V6(a)) if !v4 => put(packet, v6_at, &a.ip().octets()),
            Some(_) | None => continue,
        }
        if let (Some(a), true) = (address, has_ports) {
            put(packet, port_at, &a.port().to_be_bytes());
        }
    }
    if let (Some(ttl), Some(at)) = (ttl, packet.get_mut(if v4 { 8 } else { 7 })) {
        *at = ttl;
    }
    fix_checksums(packet)
}

/// Writes over a part of a packet, if the packet has that part.
pub(super) fn put(packet: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = packet.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

/// Makes the IPv4 header checksum and the UDP, TCP or ICMPv6 checksum right. False when the bytes are no packet.
pub fn fix_checksums(packet: &mut [u8]) -> bool {
    let Ok(view) = PacketView::parse(packet) else {
        return false;
    };
    let (v4, transport, proto_number, fragment, len) =
        (view.src.is_ipv4(), view.transport, view.proto, view.fragment, view.bytes.len());
    let Some(packet) = packet.get_mut(..len) else {
        return false;
    };
    if v4 {
        put(packet, 10, &[0, 0]);
        let sum = checksum(&[packet.get(..transport).unwrap_or(&[])]);
        put(packet, 10, &sum.to_be_bytes());
    }
    if fragment {
        return true;
    }
    let at = match proto_number {
        proto::UDP => transport + 6,
        proto::TCP => transport + 16,
        proto::ICMPV6 => transport + 2,
        _ => return true,
    };
    put(packet, at, &[0, 0]);
    let pseudo = sum_of_pseudo_header(packet, v4, proto_number, len - transport);
    let sum = !folded(pseudo + sum_of(packet.get(transport..).unwrap_or(&[])));
    // RFC 768: a computed zero is sent as all ones; zero would mean "no checksum".
    let sum = if sum == 0 && proto_number == proto::UDP { 0xffff } else { sum };
    put(packet, at, &sum.to_be_bytes());
    true
}

/// Sets the lengths in the IP and UDP headers after a UDP payload changed its size, then fixes the checksums.
/// `packet` must already have its new length. False when the bytes are no UDP packet.
pub fn resize_udp(packet: &mut [u8]) -> bool {
    let total = packet.len();
    let Some(&first) = packet.first() else {
        return false;
    };
    let transport = if first >> 4 == 4 { usize::from(first & 15) * 4 } else { 40 };
    let (Ok(ip_len), Some(Ok(udp_len))) =
        (u16::try_from(total), total.checked_sub(transport).map(u16::try_from))
    else {
        return false;
    };
    match first >> 4 {
        4 => put(packet, 2, &ip_len.to_be_bytes()),
        6 => put(packet, 4, &udp_len.to_be_bytes()),
        _ => return false,
    }
    put(packet, transport + 4, &udp_len.to_be_bytes());
    fix_checksums(packet)
}

/// Lowers the MSS option of a TCP SYN to what fits `mtu` (RFC 9293, section 3.7.1). Leaves all else alone.
pub fn clamp_mss(packet: &mut [u8], mtu: u16) {
    let Ok(view) = PacketView::parse(packet) else {
        return;
    };
    let is_syn = view.proto == proto::TCP
        && !view.fragment
        && view.bytes.get(view.transport + 13).is_some_and(|f| f & 2 != 0);
    if !is_syn {
        return;
    }
    let headers: u16 = if view.src.is_ipv4() { 40 } else { 60 };
    let most = mtu.saturating_sub(headers);
    let (mut at, end) = (view.transport + 20, view.payload);
    while at < end {
        match packet.get(at..end) {
            Some([1, ..]) => at += 1,
            Some([2, 4, hi, lo, ..]) => {
                if u16::from_be_bytes([*hi, *lo]) > most {
                    put(packet, at + 2, &most.to_be_bytes());
                    fix_checksums(packet);
                }
                return;
            }
            Some([kind, len, ..]) if *kind != 0 && *len >= 2 => at += usize::from(*len),
            _ => return,
        }
    }
}

/// Writes a UDP packet with these addresses into `room`; `None` when it does not fit or the families differ.
pub fn write_udp(
    room: &mut [u8],
    src: SocketAddr,
    dst: SocketAddr,
    ttl: u8,
    payload: &[u8],
) -> Option<usize> {
    let udp_len = u16::try_from(8 + payload.len()).ok()?;
    let header = match (src.ip(), dst.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let mut h = [0u8; 40];
            h[0] = 0x45;
            h[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
            h[6] = 0x40;
            h[8] = ttl;
            h[9] = proto::UDP;
            h[12..16].copy_from_slice(&Ipv4Addr::octets(&s));
            h[16..20].copy_from_slice(&Ipv4Addr::octets(&d));
            (h, 20)
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let mut h = [0u8; 40];
            h[0] = 0x60;
            h[4..6].copy_from_slice(&udp_len.to_be_bytes());
            h[6] = proto::UDP;
            h[7] = ttl;
            h[8..24].copy_from_slice(&Ipv6Addr::octets(&s));
            h[24..40].copy_from_slice(&Ipv6Addr::octets(&d));
            (h, 40)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let (ip, ip_len) = header;
    let total = ip_len + 8 + payload.len();
    let packet = room.get_mut(..total)?;
    put(packet, 0, ip.get(..ip_len)?);
    put(packet, ip_len, &src.port().to_be_bytes());
    put(packet, ip_len + 2, &dst.port().to_be_bytes());
    put(packet, ip_len + 4, &udp_len.to_be_bytes());
    put(packet, ip_len + 8, payload);
    fix_checksums(packet);
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn udp(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
        let mut room = vec![0; 2000];
        let n = write_udp(&mut room, src.parse().unwrap(), dst.parse().unwrap(), 7, payload).unwrap();
        room.truncate(n);
        room
    }

    fn sums_are_right(packet: &[u8]) -> bool {
        let mut copy = packet.to_vec();
        fix_checksums(&mut copy) && copy == packet
    }

    #[test]
    fn a_written_packet_reads_back() {
        for (s, d) in [("10.0.0.1:5", "255.255.255.255:6"), ("[fd00::1]:5", "[ff02::1]:6")] {
            let p = udp(s, d, b"hello");
            let v = PacketView::parse(&p).unwrap();
            assert_eq!(
                (v.source(), v.destination(), v.payload(), v.ttl),
                (s.parse().unwrap(), d.parse().unwrap(), &b"hello"[..], 7)
            );
            assert!(sums_are_right(&p));
        }
    }

    #[test]
    fn checksums_agree_with_the_pnet_crate() {
        let p = udp("10.0.0.1:5", "10.0.0.2:6", b"odd");
        let sum = pnet_packet::udp::ipv4_checksum(
            &pnet_packet::udp::UdpPacket::new(&p[20..]).unwrap(),
            &"10.0.0.1".parse().unwrap(),
            &"10.0.0.2".parse().unwrap(),
        );
        assert_eq!(p[26..28], sum.to_be_bytes());
        let ip = Ipv4Packet::new(&p).unwrap();
        assert_eq!(p[10..12], pnet_packet::ipv4::checksum(&ip).to_be_bytes());
    }

    #[test]
    fn readdressing_keeps_the_payload_and_the_checksums() {
        let mut p = udp("10.0.0.1:5", "224.0.2.60:4445", b"[MOTD]x[/MOTD]");
        assert!(readdress(&mut p, Some("10.9.9.9:5".parse().unwrap()), None, Some(1)));
        let v = PacketView::parse(&p).unwrap();
        assert_eq!(
            (v.source(), v.ttl, v.payload()),
            ("10.9.9.9:5".parse().unwrap(), 1, &b"[MOTD]x[/MOTD]"[..])
        );
        assert!(sums_are_right(&p));
    }

    #[test]
    fn a_payload_may_change_its_size() {
        let mut p = udp("10.0.0.1:5", "10.0.0.2:6", b"short");
        p.extend_from_slice(b" and longer");
        assert!(resize_udp(&mut p));
        assert_eq!(PacketView::parse(&p).unwrap().payload(), b"short and longer");
        assert!(sums_are_right(&p));
    }

    #[test]
    fn a_syn_offers_no_larger_segment_than_fits() {
        let mut p = vec![0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        p.extend_from_slice(&[
            0, 80, 0, 81, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 2, 0, 0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4,
        ]);
        fix_checksums(&mut p);
        clamp_mss(&mut p, 1400);
        assert_eq!(p[42..44], 1360u16.to_be_bytes());
        assert!(sums_are_right(&p));
        assert!(PacketView::parse(&p).unwrap().opens_tcp());
    }

    #[test]
    fn fragments_have_no_ports() {
        let mut p = udp("10.0.0.1:5", "10.0.0.2:6", b"x");
        p[6] = 0x20;
        let v = PacketView::parse(&p).unwrap();
        assert!(v.fragment && v.src_port == 0 && v.dst_port == 0);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), first in 0u8..255) {
            if let Some(b) = bytes.first_mut() { *b = first; }
            if let Ok(v) = PacketView::parse(&bytes) {
                let _ = (v.payload(), v.opens_tcp());
            }
            clamp_mss(&mut bytes, 1400);
            let _ = readdress(&mut bytes, Some("10.0.0.1:1".parse().unwrap()), Some("[::1]:1".parse().unwrap()), Some(1));
            let _ = resize_udp(&mut bytes);
        }
    }
}
