//! What happened, one line per event, and a hash over all of it: the same story twice gives the same hash.
//!
//! The hash covers numbers and bytes, never the text, so it is the same whether lines are kept or not.

use crate::model::time::Mono;

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty record; `keep` also keeps the lines.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: keep.then(Vec::new) }
    }

    /// Something happened at `pc` (or nowhere in particular). `bytes` go into the hash, `text` into the line.
    pub fn note(
        &mut self,
        at: Mono,
        pc: Option<usize>,
        what: &'static str,
        bytes: &[u8],
        text: impl FnOnce() -> String,
    ) {
        self.events += 1;
        self.hash = hash(self.hash, what.as_bytes());
        self.hash = mix(self.hash, u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX));
        self.hash = mix(self.hash, pc.map_or(u64::MAX, |p| p as u64));
        self.hash = hash(self.hash, bytes);
        if let Some(lines) = &mut self.lines {
            let who = pc.map_or_else(|| "    ".to_owned(), |p| format!("pc{p} "));
            lines.push(format!("{:>11.6} {who} {what:<10} {}", at.0.as_secs_f64(), text()));
        }
    }

    /// The hash of everything so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The lines, if they were kept.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// Hashes bytes onto a state.
#[must_use]
pub fn hash(state: u64, bytes: &[u8]) -> u64 {
    let mut state = mix(state, bytes.len() as u64);
    let mut words = bytes.chunks_exact(8);
    for word in words.by_ref() {
        state = mix(state, u64::from_le_bytes(word.try_into().unwrap_or([0; 8])));
    }
    words.remainder().iter().fold(state, |s, b| mix(s, u64::from(*b)))
}

/// Hashes a number onto a state.
#[must_use]
pub const fn mix(state: u64, number: u64) -> u64 {
    let x = (state ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_order_time_place_and_bytes_but_not_the_text() {
        let of = |events: &[(u64, usize, &[u8])], keep| {
            let mut t = Trace::new(keep);
            for (at, pc, bytes) in events {
                t.note(Mono(std::time::Duration::from_millis(*at)), Some(*pc), "x", bytes, || "text".into());
            }
            t.hash()
        };
        let base = of(&[(1, 0, b"a"), (2, 1, b"b")], false);
        assert_eq!(base, of(&[(1, 0, b"a"), (2, 1, b"b")], true));
        for other in
            [[(2, 1, &b"b"[..]), (1, 0, b"a")], [(1, 0, b"a"), (3, 1, b"b")], [(1, 1, b"a"), (2, 1, b"b")]]
        {
            assert_ne!(base, of(&other, false));
        }
    }
}
