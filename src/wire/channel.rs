//! TURN ChannelData (RFC 8656, section 12.4): a relay's cheap envelope, and the cutting of a stream into messages.
//!
//! ```text
//!  0 1        2 3      4 ...
//!  channel    length   data, on a stream padded to four bytes (section 12.5)
//! ```

use super::stun;
use std::ops::{Range, RangeInclusive};

/// Length of the header.
pub const HEADER: usize = 4;
/// The numbers a channel may have (section 12).
pub const CHANNELS: RangeInclusive<u16> = 0x4000..=0x4fff;
/// The numbers that are read: clients of RFC 5766, such as coturn's, choose from all of these, and a relay that refused the
/// upper ones would shut most of them out.
pub const READABLE: RangeInclusive<u16> = 0x4000..=0x7fff;

/// Bytes that follow `len` bytes to make a multiple of four.
#[must_use]
pub const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Writes the header before `len` bytes of data; false when the room is too small, the data too long or the number no
/// channel's.
#[must_use]
pub fn write_header(room: &mut [u8], channel: u16, len: usize) -> bool {
    let (Some(header), Ok(len)) = (room.first_chunk_mut::<HEADER>(), u16::try_from(len)) else {
        return false;
    };
    if !READABLE.contains(&channel) {
        return false;
    }
    let ([c0, c1], [l0, l1]) = (channel.to_be_bytes(), len.to_be_bytes());
    *header = [c0, c1, l0, l1];
    true
}

/// Reads a message: its channel and where its data lies. What follows the data is ignored in a datagram; on a stream it
/// is at most the padding, which may already be cut off.
#[must_use]
pub fn read(bytes: &[u8], stream: bool) -> Option<(u16, Range<usize>)> {
    let &[c0, c1, l0, l1] = bytes.first_chunk::<HEADER>()?;
    let (channel, len) = (u16::from_be_bytes([c0, c1]), usize::from(u16::from_be_bytes([l0, l1])));
    let rest = bytes.len().checked_sub(HEADER + len)?;
    (READABLE.contains(&channel) && (!stream || rest <= 3)).then_some((channel, HEADER..HEADER + len))
}

/// What the beginning of a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Too little to tell, or not all of the first message: at least so many bytes are needed in all.
    Need(usize),
    /// One message of so many bytes, padding included.
    Frame(usize),
    /// Neither STUN nor ChannelData: the stream is of no more use.
    Broken,
}

/// Finds the first message's end on a stream. No message is longer than 65,555 bytes.
#[must_use]
pub fn frame_len(bytes: &[u8]) -> Split {
    let Some(&[b0, b1, l0, l1]) = bytes.first_chunk::<4>() else {
        return match bytes.first() {
            Some(0x00..=0x7f) | None => Split::Need(4),
            Some(_) => Split::Broken,
        };
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let total = if READABLE.contains(&u16::from_be_bytes([b0, b1])) {
        (HEADER + length).next_multiple_of(4)
    } else if b0 & 0xc0 == 0 && length.is_multiple_of(4) {
        match bytes.get(4..8) {
            None => return Split::Need(stun::HEADER),
            Some(cookie) if cookie == stun::COOKIE => stun::HEADER + length,
            Some(_) => return Split::Broken,
        }
    } else {
        return Split::Broken;
    };
    if bytes.len() < total { Split::Need(total) } else { Split::Frame(total) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_of_a_channel_reads_back() {
        let mut bytes = [7u8; 4 + 5];
        assert!(write_header(&mut bytes, 0x4001, 5));
        assert_eq!(read(&bytes, false), Some((0x4001, 4..9)));
        assert_eq!(read(&bytes, true), Some((0x4001, 4..9)));
        let padded = [&bytes[..], &[0; 3]].concat();
        assert_eq!(read(&padded, true), Some((0x4001, 4..9)));
        assert_eq!(read(&[&padded[..], &[0]].concat(), true), None, "more than padding");
        assert_eq!(read(&bytes[..8], false), None, "data is missing");
    }

    #[test]
    fn numbers_of_no_channel_are_refused() {
        let mut room = [0u8; 8];
        assert!(!write_header(&mut room, 0x3fff, 0));
        assert!(!write_header(&mut room, 0x8000, 0));
        assert!(!write_header(&mut room, 0x4000, 65_536));
        assert!(!write_header(&mut room[..3], 0x4000, 0));
        assert_eq!(read(&[0x80, 0, 0, 0], false), None);
        assert_eq!(read(&[0x3f, 0xff, 0, 0], false), None);
    }

    #[test]
    fn a_stream_is_cut_where_its_messages_end() {
        let mut channel = [0u8; 8];
        assert!(write_header(&mut channel, 0x4fff, 3));
        let mut stun = [0u8; 28];
        stun[..8].copy_from_slice(&[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]);
        let stream = [&channel[..], &stun, &channel].concat();
        assert_eq!(frame_len(&stream), Split::Frame(8), "three bytes of data are padded to four");
        assert_eq!(frame_len(&stream[8..]), Split::Frame(28));
        for cut in 0..28 {
            let Split::Need(n) = frame_len(&stun[..cut]) else { panic!("cut at {cut}") };
            assert!(n > cut && n <= 28);
        }
        assert_eq!(frame_len(&channel[..7]), Split::Need(8));
        assert_eq!(frame_len(&[0x80]), Split::Broken);
        assert_eq!(frame_len(&[0, 1, 0, 7]), Split::Broken, "a length that is no multiple of four");
        assert_eq!(frame_len(&[0, 1, 0, 8, 1, 2, 3, 4]), Split::Broken, "no cookie");
        assert_eq!(frame_len(&[0x80, 0, 0, 0]), Split::Broken);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_and_are_never_cut_to_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some((_, range)) = read(&bytes, false) {
                prop_assert!(bytes.get(range).is_some());
            }
            match frame_len(&bytes) {
                Split::Need(n) => prop_assert!(n > bytes.len()),
                Split::Frame(n) => prop_assert!(n >= HEADER && n <= bytes.len()),
                Split::Broken => {}
            }
        }
    }
}
