//! Messages between peers that are too long for one frame: cut into parts, and put together again.
//!
//! A part's body is its number, the number of parts, and its bytes; the frame's `number` names the message. One message of a
//! peer is gathered at a time, and a newer one replaces it: lost parts are not asked for, because whoever sends
//! something that matters sends it again. Bounded by `MOST` parts of what one frame can hold.

/// Bytes of a message that still go into one frame: with frame, tunnel, UDP and IPv6 below the least MTU of IPv6.
pub const WHOLE: usize = 1150;
/// Parts of one message: a re-keying of a full party takes four, the longest record four.
pub const MOST: usize = 12;
/// The part's number and the number of parts.
const HEAD: usize = 2;

/// Cuts a message into bodies of frames; none when it is too long.
#[must_use]
pub fn split(message: &[u8]) -> Vec<Vec<u8>> {
    let chunks = message.chunks(WHOLE - HEAD);
    let count = match u8::try_from(chunks.len()) {
        Ok(count) if usize::from(count) <= MOST => count,
        Ok(_) | Err(_) => return Vec::new(),
    };
    (0..count).zip(chunks).map(|(n, bytes)| [&[n, count][..], bytes].concat()).collect()
}

/// What came of one peer's message so far.
#[derive(Debug, Default)]
pub struct Gather {
    number: Option<u64>,
    parts: Vec<Option<Vec<u8>>>,
}

impl Gather {
    /// A part of the message with this number came; the message, when it is whole.
    pub fn take(&mut self, number: u64, body: &[u8]) -> Option<Vec<u8>> {
        let (&[n, count], bytes) = body.split_first_chunk::<HEAD>()?;
        let count = usize::from(count);
        if count > MOST || bytes.is_empty() || bytes.len() > WHOLE {
            return None;
        }
        if self.number != Some(number) || self.parts.len() != count {
            *self = Self { number: Some(number), parts: vec![None; count] };
        }
        *self.parts.get_mut(usize::from(n))? = Some(bytes.to_vec());
        if self.parts.iter().any(Option::is_none) {
            return None;
        }
        let whole = std::mem::take(self);
        Some(whole.parts.into_iter().flatten().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_put_together_in_any_order_and_a_newer_message_replaces_an_unfinished_one() {
        let long: Vec<u8> = (0..4000u32).map(|n| (n % 251) as u8).collect();
        let parts = split(&long);
        assert_eq!(parts.len(), 4);
        let mut gather = Gather::default();
        assert_eq!(gather.take(1, &parts[0]), None);
        for n in [3, 0, 2, 0] {
            assert_eq!(gather.take(2, &parts[n]), None);
        }
        assert_eq!(gather.take(2, &parts[1]), Some(long));
        assert!(gather.parts.is_empty(), "nothing is kept of a message that is whole");
        assert!(split(&vec![0; WHOLE * MOST]).is_empty(), "too long for all parts");
        assert_eq!(split(b"x"), [vec![0, 1, b'x']]);
    }

    proptest! {
        #[test]
        fn hostile_parts_never_panic_and_are_bounded(
            list in proptest::collection::vec((0u64..3, proptest::collection::vec(any::<u8>(), 0..1400)), 0..40)
        ) {
            let mut gather = Gather::default();
            for (number, body) in list {
                let _ = gather.take(number, &body);
                let held: usize = gather.parts.iter().flatten().map(Vec::len).sum();
                prop_assert!(held <= MOST * WHOLE);
            }
        }
    }
}
