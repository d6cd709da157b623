//! What was read, cut into packets.

use super::{CWR, ECN, FIN, Header, NEEDS_CSUM, ONE, PSH, TCP_V4, TCP_V6, UDP, VNET, u16_at, u32_at};
use crate::wire::packet::{PacketView, checksum, fix_checksums, proto, put};

/// One read of the device on its way into packets.
#[derive(Debug, Clone, Default)]
pub struct Split {
    tcp: bool,
    v4: bool,
    transport: usize,
    headers: usize,
    segment: usize,
    /// Where the next payload starts.
    at: usize,
    /// Packets made so far.
    made: u16,
}

impl Split {
    /// Looks at what was read: `None` when it is one packet, whose checksum is right afterwards.
    ///
    /// # Errors
    /// When the header and the packet contradict each other.
    pub fn begin(header: [u8; VNET], packet: &mut [u8]) -> Result<Option<Self>, Malformed> {
        let header = Header::read(header);
        let kind = header.kind & !ECN;
        if kind == ONE {
            if header.flags & NEEDS_CSUM != 0 {
                finish_checksum(packet, header.sum_from.into(), header.sum_at.into()).ok_or(Malformed)?;
            }
            return Ok(None);
        }
        let view = PacketView::parse(packet).map_err(|_| Malformed)?;
        let (v4, tcp) = (view.src.is_ipv4(), view.proto == proto::TCP);
        let fits = match kind {
            TCP_V4 => v4 && tcp,
            TCP_V6 => !v4 && tcp,
            UDP => view.proto == proto::UDP,
            _ => false,
        };
        let (transport, headers) = (view.transport_offset(), view.payload_offset());
        if !fits || view.fragment || header.segment == 0 || headers >= packet.len() {
            return Err(Malformed);
        }
        Ok(Some(Self { tcp, v4, transport, headers, segment: header.segment.into(), at: headers, made: 0 }))
    }

    /// Writes the next packet into `room`; its length, or `None` when all were written. One that does not fit is left out.
    pub fn next(&mut self, read: &[u8], room: &mut [u8]) -> Option<usize> {
        loop {
            let left = read.get(self.at..).filter(|left| !left.is_empty())?;
            let payload = left.get(..self.segment.min(left.len()))?;
            let (made, last) = (self.made, payload.len() == left.len());
            self.at += payload.len();
            self.made = made.wrapping_add(1);
            let len = self.headers + payload.len();
            let Some(packet) = room.get_mut(..len) else { continue };
            let (head, body) = packet.split_at_mut_checked(self.headers)?;
            head.copy_from_slice(read.get(..self.headers)?);
            body.copy_from_slice(payload);
            self.address(packet, made, last)?;
            fix_checksums(packet);
            return Some(len);
        }
    }

    /// Makes the headers say what this segment is. The checksums come after.
    fn address(&self, packet: &mut [u8], made: u16, last: bool) -> Option<()> {
        let Self { transport, segment, .. } = *self;
        let len = packet.len();
        if self.v4 {
            put(packet, 2, &u16::try_from(len).ok()?.to_be_bytes());
            let id = u16_at(packet, 4)?.wrapping_add(made);
            put(packet, 4, &id.to_be_bytes());
        } else {
            put(packet, 4, &u16::try_from(len - transport).ok()?.to_be_bytes());
        }
        if !self.tcp {
            put(packet, transport + 4, &u16::try_from(len - transport).ok()?.to_be_bytes());
            return Some(());
        }
        let before = u32::from(made) * u32::try_from(segment).ok()?;
        let sequence = u32_at(packet, transport + 4)?.wrapping_add(before);
        put(packet, transport + 4, &sequence.to_be_bytes());
        let flags = packet.get_mut(transport + 13)?;
        if !last {
            *flags &= !(FIN | PSH);
        }
        if made > 0 {
            *flags &= !CWR;
        }
        Some(())
    }
}

/// A read that is none of a tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the offload header contradicts the packet")]
pub struct Malformed;

/// The kernel has put the sum of the pseudo header where the checksum goes; the rest of the packet is ours to count.
fn finish_checksum(packet: &mut [u8], from: usize, at: usize) -> Option<()> {
    let place = from + at;
    let sum = checksum(&[packet.get(from..)?]);
    // RFC 768: a computed zero is sent as all ones. TCP's zero may be either.
    let sum = if sum == 0 { 0xffff } else { sum };
    packet.get_mut(place..place + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}
