//! Packets for the device, several of one flow in one write.
//!
//! What may be merged is what Linux's own receive offload merges (`tcp_gro_receive`, `udp_gro_receive`): neighbours of
//! one flow with equal headers, payloads of one length of which only the last may be shorter, right checksums. Order
//! is kept within a flow and nothing else waits: whatever cannot be merged is written at once.

use super::{ACK, Header, LARGEST, NEEDS_CSUM, PSH, TCP_V4, TCP_V6, UDP, VNET, u16_at, u32_at};
use crate::model::limits::{MERGED_FLOWS, SEGMENTS};
use crate::wire::packet::{PacketView, has_right_checksums, header_checksum, proto, pseudo_sum, put};

/// Flows being merged at once. Each has 64 KiB, of which pages that no flow needed stay untouched.
const FLOWS: usize = MERGED_FLOWS;
/// Packets of one write.
const MOST: usize = SEGMENTS;
const CHECKSUM_OF_TCP: usize = 16;
const CHECKSUM_OF_UDP: usize = 6;

/// Packets on their way to the device.
#[derive(Debug)]
pub struct Merge {
    /// Whether the device takes merged UDP (Linux 6.2 and later).
    udp: bool,
    flows: [Flow; FLOWS],
    /// The order in which the first of them were begun.
    order: [usize; FLOWS],
    open: usize,
}

/// One flow's packets: the header for the device, the first packet, then the others' payloads.
#[derive(Debug)]
struct Flow {
    bytes: Box<[u8]>,
    len: usize,
    shape: Shape,
    count: usize,
    /// The first packet's checksums were looked at.
    checked: bool,
    /// Nothing can come behind.
    ended: bool,
}

/// What packets of one flow have in common, and where the next begins.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    tcp: bool,
    v4: bool,
    transport: usize,
    headers: usize,
    segment: usize,
    next: u32,
}

impl Default for Flow {
    fn default() -> Self {
        let bytes = vec![0; VNET + LARGEST].into_boxed_slice();
        Self { bytes, len: 0, shape: Shape::default(), count: 0, checked: false, ended: false }
    }
}

impl Merge {
    /// Nothing yet; `udp` when the device takes merged UDP. All memory is made here.
    #[must_use]
    pub fn new(udp: bool) -> Self {
        let flows = std::array::from_fn(|_| Flow::default());
        Self { udp, flows, order: std::array::from_fn(|n| n), open: 0 }
    }

    /// Takes a packet that lies behind `VNET` free bytes. What is complete is written, each with its header in front.
    pub fn push(&mut self, framed: &mut [u8], write: &mut impl FnMut(&[u8])) {
        let Some(packet) = framed.get(VNET..) else { return };
        let Ok(view) = PacketView::parse(packet) else { return alone(framed, write) };
        let open = self.order.iter().take(self.open);
        let same = open.copied().position(|at| self.flows.get(at).is_some_and(|f| f.is_same(&view)));
        let shape = Shape::of(&view).filter(|s| s.tcp || self.udp);
        if let (Some(place), Some(shape)) = (same, shape)
            && let Some(flow) = self.order.get(place).and_then(|at| self.flows.get_mut(*at))
            && flow.take(&view, shape)
        {
            if flow.ended {
                self.write(place, write);
            }
            return;
        }
        if let Some(place) = same {
            self.write(place, write);
        }
        match shape {
            // It could only be the last of its kind.
            Some(shape) if !(shape.tcp && is_pushed(&view)) => {
                if self.open == FLOWS {
                    self.write(0, write);
                }
                if let Some(flow) = self.order.get(self.open).and_then(|at| self.flows.get_mut(*at)) {
                    flow.begin(&view, shape);
                    self.open += 1;
                }
            }
            Some(_) | None => alone(framed, write),
        }
    }

    /// Writes all that waits, the oldest first.
    pub fn flush(&mut self, write: &mut impl FnMut(&[u8])) {
        while self.open > 0 {
            self.write(0, write);
        }
    }

    /// Whether anything waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.open == 0
    }

    fn write(&mut self, place: usize, write: &mut impl FnMut(&[u8])) {
        let Some(flow) = self.order.get(place).and_then(|at| self.flows.get_mut(*at)) else { return };
        flow.finish();
        write(flow.bytes.get(..flow.len).unwrap_or_default());
        self.open -= 1;
        if let Some(later) = self.order.get_mut(place..=self.open) {
            later.rotate_left(1);
        }
    }
}

/// A packet by itself: the header says nothing.
fn alone(framed: &mut [u8], write: &mut impl FnMut(&[u8])) {
    put(framed, 0, &[0; VNET]);
    write(framed);
}

fn flags(view: &PacketView<'_>) -> u8 {
    view.bytes.get(view.transport_offset() + 13).copied().unwrap_or(0)
}

fn is_pushed(view: &PacketView<'_>) -> bool {
    flags(view) & PSH != 0
}

impl Shape {
    /// `None` for a packet that is never merged.
    fn of(view: &PacketView<'_>) -> Option<Self> {
        let (v4, tcp) = (view.src.is_ipv4(), view.proto == proto::TCP);
        let (transport, headers) = (view.transport_offset(), view.payload_offset());
        let payload = view.payload().len();
        if view.fragment || payload == 0 || !(tcp || view.proto == proto::UDP) {
            return None;
        }
        // Options of IPv4 are rare, and the kernel merges none either.
        if v4 && transport != 20 {
            return None;
        }
        let mut next = 0;
        if tcp {
            if flags(view) & !PSH != ACK {
                return None;
            }
            next = u32_at(view.bytes, transport + 4)?.wrapping_add(u32::try_from(payload).ok()?);
        } else if u16_at(view.bytes, transport + CHECKSUM_OF_UDP)? == 0 {
            return None;
        }
        Some(Self { tcp, v4, transport, headers, segment: payload, next })
    }
}

impl Flow {
    fn begin(&mut self, view: &PacketView<'_>, shape: Shape) {
        put(&mut self.bytes, VNET, view.bytes);
        self.len = VNET + view.bytes.len();
        (self.shape, self.count) = (shape, 1);
        (self.checked, self.ended) = (false, false);
    }

    fn first(&self) -> &[u8] {
        self.bytes.get(VNET..VNET + self.shape.headers + self.shape.segment).unwrap_or_default()
    }

    /// Whether the packet is of this flow: addresses, protocol, ports.
    fn is_same(&self, view: &PacketView<'_>) -> bool {
        let Shape { v4, tcp, transport, .. } = self.shape;
        let (mine, its) = (self.first(), view.bytes);
        let range = if v4 { 12..20 } else { 8..40 };
        let ports = |packet: &[u8], at: usize| u32_at(packet, at);
        v4 == view.src.is_ipv4()
            && view.proto == if tcp { proto::TCP } else { proto::UDP }
            && !view.fragment
            && mine.get(range.clone()) == its.get(range)
            && ports(mine, transport) == ports(its, view.transport_offset())
    }

    /// Puts the packet behind the others; false when it does not go there.
    fn take(&mut self, view: &PacketView<'_>, shape: Shape) -> bool {
        let fits = !self.ended
            && self.count < MOST
            && shape.segment <= self.shape.segment
            && (shape.transport, shape.headers) == (self.shape.transport, self.shape.headers)
            && self.len - VNET + shape.segment <= LARGEST
            && self.agrees(view);
        if !fits || !has_right_checksums(view) || !self.is_right() {
            return false;
        }
        put(&mut self.bytes, self.len, view.payload());
        self.len += shape.segment;
        self.count += 1;
        self.shape.next = shape.next;
        self.ended = shape.segment < self.shape.segment || self.count == MOST;
        if shape.tcp && is_pushed(view) {
            self.ended = true;
            if let Some(flags) = self.bytes.get_mut(VNET + shape.transport + 13) {
                *flags |= PSH;
            }
        }
        true
    }

    /// Whether the headers differ only in what must.
    fn agrees(&self, view: &PacketView<'_>) -> bool {
        let Shape { v4, tcp, transport, headers, .. } = self.shape;
        let (mine, its) = (self.first(), view.bytes);
        let ip = if v4 {
            // Type of service; flags; TTL and protocol.
            same(mine, its, 0..2) && same(mine, its, 6..10)
        } else {
            // Version, traffic class, flow label; next header, hop limit.
            same(mine, its, 0..4) && same(mine, its, 6..8)
        };
        if !tcp {
            return ip;
        }
        let sequence = u32_at(its, transport + 4);
        ip && sequence == Some(self.shape.next)
            // Acknowledgement and header length; window; urgent pointer and options.
            && same(mine, its, transport + 8..transport + 13)
            && same(mine, its, transport + 14..transport + 16)
            && same(mine, its, transport + 18..headers)
    }

    /// Whether the first packet's checksums are right; looked at when there is a second.
    fn is_right(&mut self) -> bool {
        if !self.checked {
            self.checked = PacketView::parse(self.first()).is_ok_and(|view| has_right_checksums(&view));
        }
        self.checked
    }

    /// Makes the headers say what all of it is.
    fn finish(&mut self) {
        let Shape { v4, tcp, transport, headers, segment, .. } = self.shape;
        let mut header = Header::default();
        if self.count > 1 {
            let at = if tcp { CHECKSUM_OF_TCP } else { CHECKSUM_OF_UDP };
            let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
            header = Header {
                flags: NEEDS_CSUM,
                kind: if !tcp {
                    UDP
                } else if v4 {
                    TCP_V4
                } else {
                    TCP_V6
                },
                headers: short(headers),
                segment: short(segment),
                sum_from: short(transport),
                sum_at: short(at),
            };
            let packet = self.bytes.get_mut(VNET..self.len).unwrap_or_default();
            let (all, rest) = (packet.len(), packet.len() - transport);
            if v4 {
                put(packet, 2, &short(all).to_be_bytes());
                let sum = header_checksum(packet);
                put(packet, 10, &sum.to_be_bytes());
            } else {
                put(packet, 4, &short(rest).to_be_bytes());
            }
            if !tcp {
                put(packet, transport + 4, &short(rest).to_be_bytes());
            }
            let sum = pseudo_sum(packet, v4, if tcp { proto::TCP } else { proto::UDP }, rest);
            put(packet, transport + at, &sum.to_be_bytes());
        }
        put(&mut self.bytes, 0, &header.write());
    }
}

fn same(a: &[u8], b: &[u8], range: std::ops::Range<usize>) -> bool {
    a.get(range.clone()) == b.get(range)
}
