//! Bytes that a payload must have at an offset: one masked compare for each pattern.

/// Bytes, some of whose bits may not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    bytes: Box<[u8]>,
    /// The bits that matter; `None` means all.
    mask: Option<Box<[u8]>>,
}

/// Text that is not a pattern of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHex {
    /// A character that is no hexadecimal digit, at this position (in characters, from 1).
    #[error("character {0} is neither a hexadecimal digit nor part of `??`")]
    Digit(usize),
    /// A byte needs two digits.
    #[error("a byte is written with two digits")]
    Odd,
}

impl Pattern {
    /// Exactly these bytes.
    #[must_use]
    pub fn exact(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), mask: None }
    }

    /// Bytes as hexadecimal digits with any spacing; `??` stands for any byte.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn hex(text: &str) -> Result<Self, NotHex> {
        let mut nibbles = Vec::with_capacity(text.len());
        for (i, c) in text.chars().enumerate().filter(|(_, c)| !c.is_whitespace()) {
            match c.to_digit(16).and_then(|d| u8::try_from(d).ok()) {
                Some(digit) => nibbles.push(Some(digit)),
                None if c == '?' => nibbles.push(None),
                None => return Err(NotHex::Digit(i + 1)),
            }
        }
        let (mut bytes, mut mask) = (Vec::new(), Vec::new());
        for pair in nibbles.chunks(2) {
            let (byte, bits) = match pair {
                [Some(high), Some(low)] => (high << 4 | low, 0xff),
                [None, None] => (0, 0),
                _ => return Err(NotHex::Odd),
            };
            bytes.push(byte);
            mask.push(bits);
        }
        Ok(Self { bytes: bytes.into(), mask: None }.masked(&mask))
    }

    /// The same pattern, of which only the bits in `mask` matter; bytes behind the mask's end matter whole.
    #[must_use]
    pub fn masked(self, mask: &[u8]) -> Self {
        let mut all: Vec<u8> = self.mask.map_or_else(|| vec![0xff; self.bytes.len()], Vec::from);
        all.iter_mut().zip(mask).for_each(|(bits, more)| *bits &= more);
        let bytes = self.bytes.iter().zip(&all).map(|(byte, bits)| byte & bits).collect();
        Self { bytes, mask: all.iter().any(|bits| *bits != 0xff).then(|| all.into()) }
    }

    /// How many bytes it looks at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it looks at no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, when every bit of them matters.
    #[must_use]
    pub fn as_exact(&self) -> Option<&[u8]> {
        self.mask.is_none().then_some(&self.bytes)
    }

    /// How many bytes it knows, at least in part.
    #[must_use]
    pub fn known(&self) -> usize {
        self.mask.as_ref().map_or(self.bytes.len(), |mask| mask.iter().filter(|bits| **bits != 0).count())
    }

    /// Whether `bytes` start like this.
    #[must_use]
    pub fn fits(&self, bytes: &[u8]) -> bool {
        match (&self.mask, bytes.get(..self.bytes.len())) {
            (_, None) => false,
            (None, Some(bytes)) => *bytes == *self.bytes,
            (Some(mask), Some(bytes)) => {
                bytes.iter().zip(mask).zip(&self.bytes).all(|((byte, bits), want)| byte & bits == *want)
            }
        }
    }

    /// The byte wanted at `at` and the bits of it that matter.
    fn wants(&self, at: usize) -> (u8, u8) {
        match self.bytes.get(at) {
            Some(byte) => (*byte, self.mask.as_ref().and_then(|m| m.get(at)).copied().unwrap_or(0xff)),
            None => (0, 0),
        }
    }
}

/// One of several patterns at one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Where in the payload.
    pub at: u16,
    /// Any of these; never empty.
    pub any: Box<[Pattern]>,
}

impl Clause {
    /// Whether a payload has one of the patterns.
    #[must_use]
    pub fn fits(&self, payload: &[u8]) -> bool {
        payload.get(usize::from(self.at)..).is_some_and(|bytes| self.any.iter().any(|p| p.fits(bytes)))
    }

    /// Whether no payload at all can fit both.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        self.any.iter().all(|a| {
            other.any.iter().all(|b| contradict((a, usize::from(self.at)), (b, usize::from(other.at))))
        })
    }
}

fn contradict((a, a_at): (&Pattern, usize), (b, b_at): (&Pattern, usize)) -> bool {
    let from = a_at.max(b_at);
    let to = (a_at + a.len()).min(b_at + b.len());
    (from..to).any(|at| {
        let ((x, x_bits), (y, y_bits)) = (a.wants(at - a_at), b.wants(at - b_at));
        let both = x_bits & y_bits;
        x & both != y & both
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Pattern {
        Pattern::hex(text).unwrap()
    }

    #[test]
    fn hexadecimal_text_is_read_strictly() {
        assert_eq!(hex(" 03 00fF "), Pattern::exact(&[3, 0, 255]));
        assert_eq!(Pattern::hex("0 0 0"), Err(NotHex::Odd));
        assert_eq!(Pattern::hex("0g"), Err(NotHex::Digit(2)));
        assert_eq!(Pattern::hex("0?"), Err(NotHex::Odd));
        assert!(hex("").is_empty());
    }

    #[test]
    fn bits_that_do_not_matter_are_ignored() {
        let p = hex("04 ?? 01");
        assert!(p.fits(&[4, 77, 1, 9]));
        assert!(!p.fits(&[4, 77, 2]));
        assert!(!p.fits(&[4, 77]), "too short");
        let m = Pattern::exact(&[0b1111_0000]).masked(&[0b1100_0000]);
        assert!(m.fits(&[0b1101_0101]));
        assert!(!m.fits(&[0b0101_0101]));
        assert_eq!(m.as_exact(), None);
    }

    #[test]
    fn clauses_know_when_they_exclude_each_other() {
        let clause = |at, list: &[&str]| Clause { at, any: list.iter().map(|t| hex(t)).collect() };
        assert!(clause(0, &["01", "02"]).excludes(&clause(0, &["03"])));
        assert!(!clause(0, &["01", "02"]).excludes(&clause(0, &["03", "02"])));
        assert!(!clause(0, &["01"]).excludes(&clause(1, &["03"])), "other places");
        assert!(clause(0, &["01 02"]).excludes(&clause(1, &["03"])));
        assert!(!clause(0, &["01 ??"]).excludes(&clause(1, &["03"])));
    }
}
