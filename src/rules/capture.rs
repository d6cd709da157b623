//! Captures: the UDP packets of a pcap or pcapng file, and classic pcap written.
//!
//! What `tcpdump`, Wireshark and `lanrage games record` write, read as whole IP packets with their time. A file comes from
//! anybody, so every length is held against what is there; what is no UDP packet of IPv4 or IPv6 is counted and left out,
//! and a file that ends in the middle (a capture that was stopped hard) gives what came before.
//!
//! Formats: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-06.html> (classic pcap),
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-04.html> (pcapng),
//! <https://www.tcpdump.org/linktypes.html> (what precedes the IP packet).

use crate::wire::packet::{PacketView, proto};
use std::time::Duration;

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    /// Its UDP packets, in the order of the file.
    pub packets: Vec<Captured>,
    /// Its TCP segments that ask for a connection, in the order of the file; counted in `other` too.
    pub openings: Vec<Captured>,
    /// How many frames were something else: other protocols, fragments, cut short, of a kind of link that is not known.
    pub other: usize,
    /// The byte at which nothing more could be understood; `None` when the file was read to its end.
    pub damaged_at: Option<usize>,
}

/// A UDP packet of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Which frame of the file it is, counted from 1, as Wireshark does.
    pub number: usize,
    /// When, since the beginning of 1970.
    pub at: Duration,
    /// Whether the capturing computer sent it; `None` when the file does not say.
    pub sent: Option<bool>,
    /// The whole IP packet.
    pub packet: Vec<u8>,
}

/// Why a file is no capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Not the first bytes of any of the formats.
    #[error("not a capture (pcap or pcapng)")]
    Unknown,
    /// Packed with gzip.
    #[error("packed with gzip; unpack it first")]
    Packed,
    /// A kind of link whose frames cannot be read.
    #[error(
        "captured on a kind of link that is not known here (link type {0}); capture with `tcpdump -i any`"
    )]
    Link(u32),
}

/// Reads a file.
///
/// # Errors
/// When it is no capture at all.
pub fn read(file: &[u8]) -> Result<Capture, CaptureError> {
    match file {
        [0xd4, 0xc3, 0xb2, 0xa1, ..] => classic(file, End::Little, 1_000),
        [0x4d, 0x3c, 0xb2, 0xa1, ..] => classic(file, End::Little, 1),
        [0xa1, 0xb2, 0xc3, 0xd4, ..] => classic(file, End::Big, 1_000),
        [0xa1, 0xb2, 0x3c, 0x4d, ..] => classic(file, End::Big, 1),
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => Ok(Blocks::new(file).read()),
        [0x1f, 0x8b, ..] => Err(CaptureError::Packed),
        _ => Err(CaptureError::Unknown),
    }
}

/// How a file that `record` adds to begins: classic pcap, nanoseconds, raw IP.
pub const HEADER: [u8; 24] =
    [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 101, 0, 0, 0];

/// An IP packet as it is added to a file that begins with `HEADER`.
#[must_use]
pub fn record(at: Duration, packet: &[u8]) -> Vec<u8> {
    let kept = packet.len().min(usize::from(u16::MAX));
    let long = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    // The format has 32 bits for seconds: until 2106.
    let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(16 + kept);
    out.extend(seconds.to_le_bytes());
    out.extend(at.subsec_nanos().to_le_bytes());
    out.extend(long(kept));
    out.extend(long(packet.len()));
    out.extend(packet.get(..kept).unwrap_or_default());
    out
}

/// A whole file.
#[must_use]
pub fn write<'p>(packets: impl IntoIterator<Item = (Duration, &'p [u8])>) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    packets.into_iter().for_each(|(at, packet)| out.extend(record(at, packet)));
    out
}

/// Which byte of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Big,
    Little,
}

impl End {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let two = *bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self == Self::Big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = *bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self == Self::Big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    fn size(self, bytes: &[u8], at: usize) -> Option<usize> {
        usize::try_from(self.u32(bytes, at)?).ok()
    }
}

impl Capture {
    fn take(&mut self, number: usize, at: Duration, link: u32, frame: &[u8]) {
        let found = within(link, frame).and_then(|(sent, ip)| {
            let view = PacketView::parse(ip).ok()?;
            let whole = view.proto == proto::UDP && !view.fragment;
            // A datagram that is shorter than its IP packet says is no game's, and what is kept of it would be no packet.
            let kept = (whole || view.opens_tcp()) && PacketView::parse(view.bytes).is_ok();
            kept.then(|| (whole, Captured { number, at, sent, packet: view.bytes.to_vec() }))
        });
        match found {
            Some((true, packet)) => return self.packets.push(packet),
            Some((false, opening)) => self.openings.push(opening),
            None => {}
        }
        self.other += 1;
    }
}

/// Kinds of link whose frames `within` can open.
const fn known(link: u32) -> bool {
    matches!(link, 0 | 1 | 12 | 14 | 101 | 108 | 113 | 228 | 229 | 276)
}

/// The IP packet within a frame, and whether this computer sent it.
fn within(link: u32, frame: &[u8]) -> Option<(Option<bool>, &[u8])> {
    const OUTGOING: u8 = 4;
    Some(match link {
        // BSD loopback: four bytes of address family, which the IP version repeats
        0 | 108 => (None, frame.get(4..)?),
        1 => (None, behind_tags(frame, 12)?),
        12 | 14 | 101 | 228 | 229 => (None, frame),
        // Linux "any", both versions
        113 => (Some(*frame.get(1)? == OUTGOING), behind_tags(frame, 14)?),
        276 => {
            let ip = frame.get(20..).filter(|_| End::Big.u16(frame, 0).is_some_and(is_ip))?;
            (Some(*frame.get(10)? == OUTGOING), ip)
        }
        _ => return None,
    })
}

const fn is_ip(kind: u16) -> bool {
    matches!(kind, 0x0800 | 0x86dd)
}

const fn is_tag(kind: u16) -> bool {
    matches!(kind, 0x8100 | 0x88a8 | 0x9100)
}

/// What follows an Ethernet type at `at`, VLAN tags skipped (two are the most that are met).
fn behind_tags(frame: &[u8], mut at: usize) -> Option<&[u8]> {
    for _ in 0..=2 {
        let kind = End::Big.u16(frame, at)?;
        if is_ip(kind) {
            return frame.get(at + 2..);
        }
        if !is_tag(kind) {
            return None;
        }
        at += 4;
    }
    None
}

fn classic(file: &[u8], end: End, nanos: u32) -> Result<Capture, CaptureError> {
    let link = end.u32(file, 20).ok_or(CaptureError::Unknown)? & 0xffff;
    if !known(link) {
        return Err(CaptureError::Link(link));
    }
    let mut capture = Capture::default();
    let (mut at, mut number) = (24, 0);
    while at < file.len() {
        number += 1;
        let one = || {
            let seconds = u64::from(end.u32(file, at)?);
            let part = end.u32(file, at + 4)?.saturating_mul(nanos);
            // Whether a frame was cut is not asked: it may have lost its padding only, and the IP header tells.
            let kept = end.size(file, at + 8)?;
            let frame = file.get(at + 16..(at + 16).checked_add(kept)?)?;
            Some((Duration::from_secs(seconds) + Duration::from_nanos(part.into()), frame))
        };
        let Some((time, frame)) = one() else {
            capture.damaged_at = Some(at);
            break;
        };
        capture.take(number, time, link, frame);
        at += 16 + frame.len();
    }
    Ok(capture)
}

/// A pcapng file: blocks, each with its length at both ends.
struct Blocks<'f> {
    file: &'f [u8],
    end: End,
    cards: Vec<Card>,
    number: usize,
    capture: Capture,
}

/// An interface of a section.
#[derive(Clone, Copy)]
struct Card {
    link: u32,
    /// Parts of a second that its times count.
    per_second: u64,
    /// Seconds to add.
    offset: u64,
}

impl<'f> Blocks<'f> {
    fn new(file: &'f [u8]) -> Self {
        Self { file, end: End::Little, cards: Vec::new(), number: 0, capture: Capture::default() }
    }

    fn read(mut self) -> Capture {
        let mut at = 0;
        while at < self.file.len() {
            match self.block(at) {
                Some(len) => at += len,
                None => {
                    self.capture.damaged_at = Some(at);
                    break;
                }
            }
        }
        self.capture
    }

    /// Reads the block at `at` and says how long it is.
    fn block(&mut self, at: usize) -> Option<usize> {
        let rest = self.file.get(at..)?;
        if rest.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
            self.end = match rest.get(8..12)? {
                [0x1a, 0x2b, 0x3c, 0x4d] => End::Big,
                [0x4d, 0x3c, 0x2b, 0x1a] => End::Little,
                _ => return None,
            };
            self.cards.clear();
        }
        let len = self.end.size(rest, 4)?;
        let block = rest.get(..len).filter(|_| len >= 12 && len % 4 == 0)?;
        let body = block.get(8..len - 4)?;
        match self.end.u32(block, 0)? {
            1 => self.cards.push(self.card(body)?),
            2 => self.packet(body, usize::from(self.end.u16(body, 0)?))?,
            3 => self.simple(body)?,
            6 => self.packet(body, self.end.size(body, 0)?)?,
            // Section headers were seen to; names, statistics and what others made up carry no packets.
            _ => {}
        }
        Some(len)
    }

    fn card(&self, body: &[u8]) -> Option<Card> {
        let mut card = Card { link: self.end.u16(body, 0)?.into(), per_second: 1_000_000, offset: 0 };
        let mut options = body.get(8..)?;
        while let (Some(code), Some(len)) = (self.end.u16(options, 0), self.end.u16(options, 2)) {
            let Some(value) = options.get(4..4 + usize::from(len)) else { break };
            match (code, value) {
                (0, _) => break,
                (9, [power]) if power & 0x80 == 0 => {
                    card.per_second = 10_u64.checked_pow((*power).into())?;
                }
                (9, [power]) => card.per_second = 1_u64.checked_shl((power & 0x7f).into())?,
                (14, _) => {
                    let (a, b) = (self.end.u32(value, 0)?, self.end.u32(value, 4)?);
                    let (high, low) = if self.end == End::Big { (a, b) } else { (b, a) };
                    card.offset = u64::from(high) << 32 | u64::from(low);
                }
                _ => {}
            }
            options = options.get(4 + usize::from(len).next_multiple_of(4)..).unwrap_or_default();
        }
        Some(card)
    }

    /// An enhanced packet block, or the obsolete kind, which differs in the first four bytes only.
    fn packet(&mut self, body: &[u8], card: usize) -> Option<()> {
        let card = *self.cards.get(card)?;
        let (high, low) = (self.end.u32(body, 4)?, self.end.u32(body, 8)?);
        let kept = self.end.size(body, 12)?;
        let frame = body.get(20..20_usize.checked_add(kept)?)?;
        let ticks = u64::from(high) << 32 | u64::from(low);
        let part = u128::from(ticks % card.per_second) * 1_000_000_000 / u128::from(card.per_second);
        let seconds = (ticks / card.per_second).saturating_add(card.offset);
        let at = Duration::new(seconds, u32::try_from(part).unwrap_or(0));
        self.number += 1;
        self.capture.take(self.number, at, card.link, frame);
        Some(())
    }

    /// A packet without a time, of the section's first interface.
    fn simple(&mut self, body: &[u8]) -> Option<()> {
        let link = self.cards.first()?.link;
        let long = self.end.size(body, 0)?;
        let frame = body.get(4..)?;
        self.number += 1;
        self.capture.take(self.number, Duration::ZERO, link, frame.get(..long.min(frame.len()))?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::write_udp;
    use proptest::prelude::*;

    fn udp(text: &str) -> Vec<u8> {
        let mut room = [0; 256];
        let (from, to) = ("10.0.0.1:5".parse().unwrap(), "255.255.255.255:6".parse().unwrap());
        let len = write_udp(&mut room, from, to, 64, text.as_bytes()).unwrap();
        room[..len].to_vec()
    }

    fn udp6() -> Vec<u8> {
        let mut room = [0; 256];
        let (from, to) = ("[fe80::1]:5".parse().unwrap(), "[ff02::1]:6".parse().unwrap());
        let len = write_udp(&mut room, from, to, 1, b"six").unwrap();
        room[..len].to_vec()
    }

    fn ethernet(kind: &[u8], ip: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &[2; 6], kind, ip, &[0; 18]].concat()
    }

    fn long(end: End, n: usize) -> [u8; 4] {
        let n = u32::try_from(n).unwrap();
        if end == End::Big { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn classic_file(end: End, magic: usize, link: usize, frames: &[Vec<u8>]) -> Vec<u8> {
        let words = |words: &[usize]| words.iter().flat_map(|n| long(end, *n)).collect::<Vec<u8>>();
        let mut file = words(&[magic, 0, 0, 0, 65_535, link]);
        for frame in frames {
            file.extend(words(&[1_700_000_000, 500_000, frame.len(), frame.len()]));
            file.extend(frame);
        }
        file
    }

    fn block(end: End, kind: usize, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = long(end, 12 + body.len());
        [&long(end, kind)[..], &len, &body, &len].concat()
    }

    /// A section with one Ethernet card whose times count nanoseconds, and a packet.
    fn section(end: End, frame: &[u8]) -> Vec<u8> {
        let half = |n: u16| if end == End::Big { n.to_be_bytes() } else { n.to_le_bytes() };
        let head = [&long(end, 0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
        let resolution = [&half(9)[..], &half(1), &[9, 0, 0, 0], &half(0), &half(0)].concat();
        let card = [&half(1)[..], &half(0), &long(end, 0), &resolution].concat();
        let ticks = 1_700_000_000_500_000_000_u64;
        let (high, low) =
            (usize::try_from(ticks >> 32).unwrap(), usize::try_from(ticks & 0xffff_ffff).unwrap());
        let packet: Vec<u8> = [0, high, low, frame.len(), frame.len()]
            .iter()
            .flat_map(|n| long(end, *n))
            .chain(frame.to_vec())
            .collect();
        [block(end, 0x0a0d_0d0a, &head), block(end, 1, &card), block(end, 5, &[1; 8]), block(end, 6, &packet)]
            .concat()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let (one, two) = (udp("one"), udp6());
        let times = [Duration::new(1_700_000_000, 123_456_789), Duration::new(1_700_000_001, 0)];
        let file = write([(times[0], &one[..]), (times[1], &two[..])]);
        let capture = read(&file).unwrap();
        assert_eq!((capture.other, capture.damaged_at), (0, None));
        let read: Vec<_> = capture.packets.iter().map(|p| (p.number, p.at, &p.packet)).collect();
        assert_eq!(read, [(1, times[0], &one), (2, times[1], &two)]);
    }

    #[test]
    fn both_orders_of_bytes_and_both_sizes_of_ticks_are_read() {
        for end in [End::Big, End::Little] {
            for (magic, nanos) in [(0xa1b2_c3d4, 500_000_000), (0xa1b2_3c4d, 500_000)] {
                let file = classic_file(end, magic, 101, &[udp("x")]);
                let capture = read(&file).unwrap();
                assert_eq!(capture.packets[0].at, Duration::new(1_700_000_000, nanos), "{end:?} {magic:x}");
                assert_eq!(capture.packets[0].packet, udp("x"));
            }
        }
    }

    #[test]
    fn the_packet_is_found_behind_every_kind_of_link() {
        let (v4, v6) = (udp("x"), udp6());
        let sll = |kind: u8, rest: &[u8]| [&[0, kind, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0][..], rest].concat();
        let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 4, 6, 2, 2, 2, 2, 2, 2, 0, 0][..], &v4].concat();
        for (link, frame, sent, ip) in [
            (1, ethernet(&[8, 0], &v4), None, &v4),
            (1, ethernet(&[0x86, 0xdd], &v6), None, &v6),
            (1, ethernet(&[0x81, 0, 0, 7, 8, 0], &v4), None, &v4),
            (1, ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0], &v4), None, &v4),
            (113, sll(4, &[&[8, 0][..], &v4].concat()), Some(true), &v4),
            (113, sll(1, &[&[0x86, 0xdd][..], &v6].concat()), Some(false), &v6),
            (276, sll2, Some(true), &v4),
            (0, [&[2, 0, 0, 0][..], &v4].concat(), None, &v4),
            (101, v6.clone(), None, &v6),
            (228, v4.clone(), None, &v4),
        ] {
            let capture = read(&classic_file(End::Little, 0xa1b2_c3d4, link, &[frame])).unwrap();
            let [packet] = &capture.packets[..] else { panic!("link {link}: {capture:?}") };
            assert_eq!((packet.sent, &packet.packet), (sent, ip), "link {link}");
        }
    }

    #[test]
    fn pcapng_of_both_orders_is_read_and_sections_follow_each_other() {
        let frame = ethernet(&[8, 0], &udp("x"));
        let file = [section(End::Little, &frame), section(End::Big, &frame)].concat();
        let capture = read(&file).unwrap();
        assert_eq!((capture.packets.len(), capture.other, capture.damaged_at), (2, 0, None));
        for (packet, number) in capture.packets.iter().zip(1..) {
            assert_eq!((packet.at, packet.number), (Duration::new(1_700_000_000, 500_000_000), number));
            assert_eq!(packet.packet, udp("x"));
        }
    }

    #[test]
    fn what_is_no_udp_is_counted_and_left_out() {
        let tcp = {
            let mut packet = udp("xxxxxxxxxxxxxxxxxxxxxxxx");
            packet[9] = proto::TCP;
            packet
        };
        let shorter = {
            let mut packet = udp("xxxx");
            packet[25] -= 2;
            packet
        };
        let frames = [tcp, udp("x"), vec![], udp("long")[..20].to_vec(), vec![0x20; 60], shorter];
        let capture = read(&classic_file(End::Little, 0xa1b2_c3d4, 101, &frames)).unwrap();
        assert_eq!((capture.packets.len(), capture.other, capture.packets[0].number), (1, 5, 2));
    }

    #[test]
    fn a_file_that_ends_in_the_middle_gives_what_came_before() {
        let whole = classic_file(End::Little, 0xa1b2_c3d4, 101, &[udp("x"), udp("y")]);
        let capture = read(&whole[..whole.len() - 3]).unwrap();
        assert_eq!((capture.packets.len(), capture.damaged_at), (1, Some(24 + 16 + 29)));
        let frame = ethernet(&[8, 0], &udp("x"));
        let file = [section(End::Little, &frame), vec![6, 0, 0, 0, 0xff, 0xff]].concat();
        assert_eq!(read(&file).unwrap().packets.len(), 1);
    }

    #[test]
    fn other_files_are_refused_in_words() {
        for (file, told) in [
            (&b"id = 1"[..], "not a capture (pcap or pcapng)"),
            (b"", "not a capture (pcap or pcapng)"),
            (&[0x1f, 0x8b, 8, 0], "packed with gzip; unpack it first"),
            (
                &classic_file(End::Little, 0xa1b2_c3d4, 147, &[])[..],
                "captured on a kind of link that is not known here (link type 147); capture with `tcpdump -i any`",
            ),
        ] {
            assert_eq!(read(file).unwrap_err().to_string(), told);
        }
    }

    /// Files that are good up to a few bytes.
    fn files() -> [Vec<u8>; 4] {
        let frame = ethernet(&[0x81, 0, 0, 7, 8, 0], &udp("x"));
        [
            classic_file(End::Big, 0xa1b2_c3d4, 1, &[frame.clone(), frame.clone()]),
            classic_file(End::Little, 0xa1b2_3c4d, 113, std::slice::from_ref(&frame)),
            section(End::Little, &frame),
            section(End::Big, &frame),
        ]
    }

    proptest! {
        #[test]
        fn broken_files_do_no_harm(
            which in 0..4_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut file = files()[which].clone();
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            file.truncate(cut.index(file.len() * 2));
            if let Ok(capture) = read(&file) {
                for packet in &capture.packets {
                    prop_assert!(PacketView::parse(&packet.packet).is_ok_and(|v| v.proto == proto::UDP));
                }
            }
        }
    }
}
