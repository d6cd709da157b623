//! Bytes as text that people can read aloud: Crockford's base 32 (no I, L, O, U), lower case, no padding.
//!
//! Used for ids, invites and every byte string inside JSON. Reading is forgiving (`O` is `0`, `I` and `L` are `1`,
//! case does not matter); writing is strict.

/// The alphabet, in the order of the values 0 to 31.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The value of one character, with Crockford's forgiving readings; `None` for anything else.
#[must_use]
pub const fn value_of(c: char) -> Option<u8> {
    Some(match c {
        '0' | 'o' | 'O' => 0,
        '1' | 'i' | 'I' | 'l' | 'L' => 1,
        '2'..='9' => c as u8 - b'0',
        'a'..='h' => c as u8 - b'a' + 10,
        'A'..='H' => c as u8 - b'A' + 10,
        'j' | 'k' => c as u8 - b'j' + 18,
        'J' | 'K' => c as u8 - b'J' + 18,
        'm' | 'n' => c as u8 - b'm' + 20,
        'M' | 'N' => c as u8 - b'M' + 20,
        'p'..='t' => c as u8 - b'p' + 22,
        'P'..='T' => c as u8 - b'P' + 22,
        'v'..='z' => c as u8 - b'v' + 27,
        'V'..='Z' => c as u8 - b'V' + 27,
        _ => return None,
    })
}

/// The character of a 5-bit value; higher bits are ignored.
#[must_use]
pub fn char_of(value: u8) -> char {
    ALPHABET.get(usize::from(value & 31)).copied().map_or('0', char::from)
}

/// Bytes to text, most significant bits first, the last character padded with zero bits.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the value is masked to five bits")]
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut acc, mut bits) = (0u16, 0u32);
    for &b in bytes {
        acc = (acc << 8) | u16::from(b);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char_of((acc >> bits) as u8 & 31));
            acc &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        out.push(char_of((acc << (5 - bits)) as u8 & 31));
    }
    out
}

/// Text to bytes.
///
/// # Errors
/// The position (in characters) of the first character that is not in the alphabet, or the text's length when the
/// padding bits are not zero (something was cut off).
#[expect(clippy::cast_possible_truncation, reason = "at most eight bits are left after the shift")]
pub fn decode(text: &str) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut acc, mut bits) = (0u16, 0u32);
    for (at, c) in text.chars().enumerate() {
        let v = value_of(c).ok_or(at)?;
        acc = (acc << 5) | u16::from(v);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((acc >> bits) as u8);
            acc &= (1 << bits) - 1;
        }
    }
    if bits >= 5 || acc != 0 { Err(text.chars().count()) } else { Ok(out) }
}

/// Makes a newtype over `[u8; N]` show itself, parse and serialise as base 32 (text formats) or raw bytes (postcard).
macro_rules! byte_text {
    ($name:ident, $len:expr) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::model::text::encode(&self.0))
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::model::text::NotBytes;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let bytes = $crate::model::text::decode(s).map_err(|_| $crate::model::text::NotBytes)?;
                <[u8; $len]>::try_from(bytes.as_slice()).map(Self).map_err(|_| $crate::model::text::NotBytes)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    let bytes = <&[u8]>::deserialize(d)?;
                    <[u8; $len]>::try_from(bytes).map(Self).map_err(serde::de::Error::custom)
                }
            }
        }
    };
}
pub(crate) use byte_text;

/// Text that is not the base 32 of the right number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a base 32 text of the expected length")]
pub struct NotBytes;

/// A byte string of any length that is base 32 in text formats.
#[derive(Debug, Clone, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Blob(pub Vec<u8>);

impl serde::Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&encode(&self.0)) } else { s.serialize_bytes(&self.0) }
    }
}

impl<'de> serde::Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
            decode(&text).map(Self).map_err(|_| serde::de::Error::custom(NotBytes))
        } else {
            Ok(Self(<&[u8]>::deserialize(d)?.to_vec()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_one_character_and_comes_back() {
        for v in 0..32u8 {
            assert_eq!(value_of(char_of(v)), Some(v));
            assert_eq!(value_of(char_of(v).to_ascii_uppercase()), Some(v));
        }
        assert_eq!(value_of('u'), None);
        assert_eq!(value_of('O'), Some(0));
        assert_eq!(value_of('l'), Some(1));
    }

    #[test]
    fn bytes_of_every_length_survive_the_round_trip() {
        for n in 0..40usize {
            let bytes: Vec<u8> = (0..n).map(|i| u8::try_from((i * 37 + 11) % 256).unwrap()).collect();
            assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }
    }

    #[test]
    fn a_strange_character_is_named_by_its_place() {
        assert_eq!(decode("00u0"), Err(2));
        assert_eq!(decode("zz"), Err(2), "left-over bits mean something was cut off");
    }
}
