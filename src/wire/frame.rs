//! What travels inside a tunnel beside plain IP packets: a 20-byte header that no IP packet has, and a body.
//!
//! The first byte is 0x40: "IPv4 with a header of zero words", which no real packet says. Bytes 2 and 3 hold the total
//! length where IPv4 has it, because WireGuard implementations cut what they open to that length. So frames pass any
//! WireGuard code that checks for IP, and one compare tells them from packets.
//!
//! ```text
//!  0      1      2 3      4       5     6      7      8 ..... 15   16 .. 19
//!  0x40   kind   length   origin  hops  class  0      number        run
//! ```

/// Length of the header.
pub const HEADER: usize = 20;
/// First byte of every frame.
pub const MARK: u8 = 0x40;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A game's discovery packet: an IP packet follows.
    Lan,
    /// A question over one path; the body is padding.
    Ping,
    /// The answer, with the ping's number; the body is the address the ping came from.
    Pong,
    /// A message between peers (`control::PeerMessage`) follows.
    Message,
    /// A part of one that is too long for a frame; `number` names the message (`engine::parts`).
    Part,
    /// A datagram for another member, to be passed on (`forward`).
    Forward,
    /// The way is measured: a `measure::Note` follows.
    Measure,
}

/// How a discovery packet was addressed on the sender's side, so that the receiver can say the same in its own terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// To one peer.
    Unicast,
    /// To 255.255.255.255.
    Limited,
    /// To the broadcast address of one of the sender's networks.
    Directed,
    /// To a group.
    Multicast,
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// What follows.
    pub kind: FrameKind,
    /// The seat of the peer that made it.
    pub origin: u8,
    /// How often it may be passed on; 0 today.
    pub hops: u8,
    /// For `Lan` frames.
    pub class: Class,
    /// Sequence of `Lan` frames per origin and run; number of a ping.
    pub number: u64,
    /// A random number per start of the origin's program, so that a restart is not taken for a repeat.
    pub run: u32,
}

impl Frame {
    /// Whether these bytes start a frame (else an IP packet).
    #[must_use]
    pub fn is(bytes: &[u8]) -> bool {
        bytes.first() == Some(&MARK)
    }

    /// Writes the header of a frame with a body of `body` bytes; false when `room` is too small or the body too long.
    pub fn write(&self, room: &mut [u8], body: usize) -> bool {
        let (Some(header), Ok(total)) = (room.first_chunk_mut::<HEADER>(), u16::try_from(HEADER + body))
        else {
            return false;
        };
        *header = [0; HEADER];
        header[0] = MARK;
        header[1] = match self.kind {
            FrameKind::Lan => 1,
            FrameKind::Ping => 2,
            FrameKind::Pong => 3,
            FrameKind::Message => 4,
            FrameKind::Part => 5,
            FrameKind::Forward => 6,
            FrameKind::Measure => 7,
        };
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[4] = self.origin;
        header[5] = self.hops;
        header[6] = match self.class {
            Class::Unicast => 0,
            Class::Limited => 1,
            Class::Directed => 2,
            Class::Multicast => 3,
        };
        header[8..16].copy_from_slice(&self.number.to_be_bytes());
        header[16..20].copy_from_slice(&self.run.to_be_bytes());
        true
    }

    /// Reads a frame and its body; `None` for anything else, later kinds included.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let header = bytes.first_chunk::<HEADER>()?;
        if header[0] != MARK {
            return None;
        }
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let kind = match header[1] {
            1 => FrameKind::Lan,
            2 => FrameKind::Ping,
            3 => FrameKind::Pong,
            4 => FrameKind::Message,
            5 => FrameKind::Part,
            6 => FrameKind::Forward,
            7 => FrameKind::Measure,
            _ => return None,
        };
        let class = match header[6] {
            0 => Class::Unicast,
            1 => Class::Limited,
            2 => Class::Directed,
            3 => Class::Multicast,
            _ => return None,
        };
        let number = u64::from_be_bytes(header.get(8..16)?.try_into().ok()?);
        let run = u32::from_be_bytes(header.get(16..20)?.try_into().ok()?);
        Some((
            Self { kind, origin: header[4], hops: header[5], class, number, run },
            bytes.get(HEADER..total)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_of_every_kind_read_back() {
        use FrameKind::{Forward, Lan, Measure, Message, Part, Ping, Pong};
        for kind in [Lan, Ping, Pong, Message, Part, Forward, Measure] {
            for class in [Class::Unicast, Class::Limited, Class::Directed, Class::Multicast] {
                let f = Frame { kind, origin: 7, hops: 0, class, number: u64::MAX - 3, run: 77 };
                let mut bytes = [9u8; HEADER + 5];
                assert!(f.write(&mut bytes, 5));
                assert_eq!(Frame::read(&bytes), Some((f, &[9u8; 5][..])));
            }
        }
    }

    #[test]
    fn a_frame_is_never_an_ip_packet() {
        let mut bytes = [0u8; HEADER];
        Frame { kind: FrameKind::Ping, origin: 1, hops: 0, class: Class::Unicast, number: 1, run: 0 }
            .write(&mut bytes, 0);
        assert!(crate::wire::packet::PacketView::parse(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Frame::read(&bytes);
        }
    }
}
