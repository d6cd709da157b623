//! Where in a payload a piece of text or a number lies: a start, steps over what comes first, and a way to find the end.
//!
//! Games write their packets in few ways, and a profile names them: NUL-terminated text, text with its length in front,
//! text between markers, `\key\value` lists, fields of a separated list, numbers at an offset. Everything here reads
//! hostile bytes: an answer is a range inside the payload or `None`.

use std::ops::Range;

/// A step over something of unknown content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// That many bytes.
    Bytes(u16),
    /// A NUL-terminated text with its NUL.
    Nul,
    /// A text with its length in front (see `Find::Counted`).
    Counted,
    /// A text with its length in four bytes in front.
    Counted32,
    /// A number of one to five bytes, each but the last with its highest bit set.
    Varint,
}

/// How the piece is told from what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// Up to a NUL or the end of the payload.
    Nul,
    /// A length (seven bits a byte, lowest first, highest bit set on all but the last) and that many bytes.
    Counted,
    /// A length of four bytes, low byte first, and that many bytes.
    Counted32,
    /// Two bytes a character, low byte first, up to two zero bytes or the end of the payload, as Windows writes text.
    Wide,
    /// Between two markers.
    Between(Box<[u8]>, Box<[u8]>),
    /// The value of a key in a list where keys and values take turns, with this separator. A backslash stands in front of
    /// every word (`\key\value\key\value`, up to the end of the line), any other separator behind it.
    Key(Box<[u8]>, u8),
    /// The field with this number, counted from 0, of a list with this separator.
    Field(u8, u8),
}

/// A place in a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locate {
    /// The offset to start at.
    pub at: u16,
    /// What to step over from there.
    pub skip: Box<[Step]>,
    /// How to find the piece.
    pub find: Find,
}

impl Locate {
    /// Where the piece starts to be looked for.
    #[must_use]
    pub fn start(&self, payload: &[u8]) -> Option<usize> {
        let mut at = usize::from(self.at);
        for step in &self.skip {
            let rest = payload.get(at..)?;
            at += match step {
                Step::Bytes(n) => usize::from(*n),
                Step::Nul => position(rest, 0)? + 1,
                Step::Counted => counted(rest)?.end,
                Step::Counted32 => counted32(rest)?.end,
                Step::Varint => varint(rest)?.1,
            };
        }
        (at <= payload.len()).then_some(at)
    }

    /// Where the piece lies.
    #[must_use]
    pub fn find(&self, payload: &[u8]) -> Option<Range<usize>> {
        let start = self.start(payload)?;
        let rest = payload.get(start..)?;
        let piece = match &self.find {
            Find::Nul => 0..position(rest, 0).unwrap_or(rest.len()),
            Find::Counted => counted(rest)?,
            Find::Counted32 => counted32(rest)?,
            Find::Wide => {
                let end = rest.chunks_exact(2).position(|two| two == [0, 0]).map(|n| 2 * n);
                0..end.unwrap_or(rest.len() & !1)
            }
            Find::Between(open, close) => {
                let from = search(rest, open)? + open.len();
                from..from + search(rest.get(from..)?, close)?
            }
            Find::Key(key, separator) => value_of(rest, key, *separator)?,
            Find::Field(number, separator) => field(rest, *number, *separator)?,
        };
        Some(start + piece.start..start + piece.end)
    }
}

fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|b| *b == wanted)
}

fn search(bytes: &[u8], marker: &[u8]) -> Option<usize> {
    bytes.windows(marker.len().max(1)).position(|w| w == marker)
}

/// A number of seven bits a byte, and its own length; at most five bytes.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, i + 1));
        }
    }
    None
}

fn counted(bytes: &[u8]) -> Option<Range<usize>> {
    let (len, start) = varint(bytes)?;
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some(start..end)
}

fn counted32(bytes: &[u8]) -> Option<Range<usize>> {
    let len = usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let end = len.checked_add(4)?;
    (end <= bytes.len()).then_some(4..end)
}

/// Keys and values take turns, so a value that looks like the key is not taken for it.
fn value_of(bytes: &[u8], wanted: &[u8], separator: u8) -> Option<Range<usize>> {
    let lines = separator == b'\\';
    let ends = |b: &u8| *b == separator || lines && matches!(*b, b'\n' | 0);
    let end_of = |from: usize| {
        let rest = bytes.get(from..)?;
        Some(from + rest.iter().position(ends).unwrap_or(rest.len()))
    };
    let mut at = if lines { position(bytes, separator)? + 1 } else { 0 };
    loop {
        let key_end = end_of(at)?;
        if bytes.get(key_end) != Some(&separator) {
            return None;
        }
        let value_end = end_of(key_end + 1)?;
        if bytes.get(at..key_end) == Some(wanted) {
            return Some(key_end + 1..value_end);
        }
        if bytes.get(value_end) != Some(&separator) {
            return None;
        }
        at = value_end + 1;
    }
}

fn field(bytes: &[u8], number: u8, separator: u8) -> Option<Range<usize>> {
    let mut start = 0;
    for _ in 0..number {
        start += position(bytes.get(start..)?, separator)? + 1;
    }
    let rest = bytes.get(start..)?;
    Some(start..start + position(rest, separator).unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find<'p>(at: u16, skip: &[Step], how: Find, payload: &'p [u8]) -> Option<&'p [u8]> {
        let range = Locate { at, skip: skip.into(), find: how }.find(payload)?;
        Some(&payload[range])
    }

    fn key(name: &str) -> Find {
        Find::Key(name.as_bytes().into(), b'\\')
    }

    #[test]
    fn keys_are_found_in_lists_with_other_separators_too() {
        let list = |name: &str, separator| Find::Key(name.as_bytes().into(), separator);
        let p = b"...hostname\0mapname\0mapname\0beaver\0\0";
        assert_eq!(find(3, &[], list("hostname", 0), p), Some(&b"mapname"[..]));
        assert_eq!(find(3, &[], list("mapname", 0), p), Some(&b"beaver"[..]));
        assert_eq!(find(3, &[], list("beaver", 0), p), None);
        assert_eq!(find(0, &[], list("b", b'='), b"a=1=b=2"), Some(&b"2"[..]));
        assert_eq!(find(0, &[], list("a", 0), b"a"), None);
    }

    #[test]
    fn wide_text_ends_at_two_zero_bytes_of_one_character() {
        assert_eq!(find(1, &[], Find::Wide, b".a\0b\0\0\0c\0"), Some(&b"a\0b\0"[..]));
        assert_eq!(
            find(0, &[], Find::Wide, b"\x01a\0\x02\0\0"),
            Some(&b"\x01a\0\x02"[..]),
            "between characters"
        );
        assert_eq!(find(0, &[], Find::Wide, b"a\0b"), Some(&b"a\0"[..]));
        assert_eq!(find(0, &[], Find::Wide, b""), Some(&b""[..]));
    }

    #[test]
    fn texts_are_found_in_every_way_that_games_write_them() {
        let between = || Find::Between(b"<"[..].into(), b"/>"[..].into());
        for (got, want) in [
            (find(1, &[], Find::Nul, b"xab\0c"), Some(&b"ab"[..])),
            (find(1, &[], Find::Nul, b"xab"), Some(b"ab")),
            (find(1, &[], Find::Nul, b"x"), Some(b"")),
            (find(2, &[], Find::Nul, b"x"), None),
            (find(0, &[Step::Nul, Step::Bytes(2)], Find::Nul, b"v1\0..name\0"), Some(b"name")),
            (find(0, &[Step::Nul], Find::Nul, b"no end"), None),
            (find(0, &[Step::Varint], Find::Nul, b"\x80\x01hi\0"), Some(b"hi")),
            (find(0, &[Step::Varint], Find::Nul, b"\x80\x80\x80\x80\x80hi"), None),
            (find(0, &[Step::Counted], Find::Counted, b"\x01a\x02bc"), Some(b"bc")),
            (find(0, &[], Find::Counted, b"\x05ab"), None),
            (find(0, &[Step::Counted32], Find::Counted32, b"\x01\0\0\0a\x02\0\0\0bc"), Some(b"bc")),
            (find(0, &[], Find::Counted32, b"\xff\xff\xff\xffab"), None),
            (find(0, &[], between(), b"x<ab/>y"), Some(b"ab")),
            (find(0, &[], between(), b"x<ab"), None),
            (find(0, &[], Find::Field(2, b';'), b"a;b;c;d"), Some(b"c")),
            (find(0, &[], Find::Field(3, b';'), b"a;b;c;d"), Some(b"d")),
            (find(0, &[], Find::Field(4, b';'), b"a;b;c;d"), None),
        ] {
            assert_eq!(got, want);
        }
    }

    #[test]
    fn a_value_that_looks_like_a_key_is_not_taken_for_it() {
        let p = b"..\n\\map\\hostname\\hostname\\LANRIG\\last\\one\n\\hidden\\yes";
        assert_eq!(find(0, &[], key("hostname"), p), Some(&b"LANRIG"[..]));
        assert_eq!(find(0, &[], key("last"), p), Some(&b"one"[..]));
        assert_eq!(find(0, &[], key("hidden"), p), None, "the list ends with its line");
        assert_eq!(find(0, &[], key("x"), b"\\x"), None);
    }

    fn any_locate() -> impl Strategy<Value = Locate> {
        let step = prop_oneof![
            (0u16..40).prop_map(Step::Bytes),
            Just(Step::Nul),
            Just(Step::Counted),
            Just(Step::Counted32),
            Just(Step::Varint),
        ];
        let bytes = || proptest::collection::vec(0u8..4, 1..3).prop_map(Vec::into_boxed_slice);
        let how = prop_oneof![
            Just(Find::Nul),
            Just(Find::Counted),
            Just(Find::Counted32),
            (bytes(), bytes()).prop_map(|(a, b)| Find::Between(a, b)),
            Just(Find::Wide),
            (bytes(), prop_oneof![0u8..4, Just(b'\\')]).prop_map(|(key, s)| Find::Key(key, s)),
            (0u8..5, 0u8..4).prop_map(|(n, s)| Find::Field(n, s)),
        ];
        (0u16..30, proptest::collection::vec(step, 0..4), how).prop_map(|(at, skip, find)| Locate {
            at,
            skip: skip.into(),
            find,
        })
    }

    proptest! {
        #[test]
        fn what_is_found_lies_inside_the_payload(
            place in any_locate(),
            payload in proptest::collection::vec(prop_oneof![0u8..4, Just(b'\\'), any::<u8>()], 0..60),
        ) {
            if let Some(range) = place.find(&payload) {
                prop_assert!(payload.get(range).is_some());
            }
        }
    }
}
