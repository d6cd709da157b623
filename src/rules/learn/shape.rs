//! What packets of one kind have in common: which bytes never change, and which few of them tell the kind.
//!
//! One server heard once never changes anything, so "does not change" is not "must be so". What is likely content is left
//! out: texts that end (a title, a map, a version), addresses and ports, the bytes in front of a number that counts up. What
//! is likely the protocol's own is preferred: the first bytes, a word in capitals or letters, bytes that the question and the
//! answer share. Then bytes are added only until no other packet of the capture could be taken for this kind.

use super::traffic::Datagram;
use std::collections::BTreeSet;
use std::ops::Range;

/// Whether two payloads are of one kind: the same first byte, and more than half of the first ones equal.
pub(super) fn alike(a: &[u8], b: &[u8]) -> bool {
    let n = a.len().min(b.len()).min(LOOK);
    if n < 4 {
        return a == b;
    }
    let same = a.iter().zip(b).take(n).filter(|(x, y)| x == y).count();
    let (first, text) = (a.first() == b.first(), |p: &[u8]| p.iter().skip(1).take(8).all(|c| is_text(*c)));
    first && (same * 2 > n || (a.first().is_some_and(|c| !is_text(*c)) && text(a) && text(b)))
        || a.len() == b.len() && same * 4 >= n * 3
}

/// Bytes to look for at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: usize,
    /// `None` stands for any byte.
    pub(super) bytes: Vec<Option<u8>>,
}

impl Mark {
    fn fits(&self, payload: &[u8]) -> bool {
        payload.get(self.at..self.at + self.bytes.len()).is_some_and(|there| {
            there.iter().zip(&self.bytes).all(|(have, want)| want.is_none_or(|want| want == *have))
        })
    }

    /// The offset behind it.
    pub(super) const fn end(&self) -> usize {
        self.at + self.bytes.len()
    }

    /// The same in pieces: readable words are pieces of their own.
    pub(super) fn pieces(&self) -> Vec<(usize, Piece)> {
        let readable =
            |i: usize| self.bytes.get(i).copied().flatten().is_some_and(|c| is_text(c) || c == b'\n');
        let word = |from: usize| (from..self.bytes.len()).take_while(|i| readable(*i)).count();
        let is_word = |from: usize| word(from) > SHORTEST_WORD;
        let mut out = Vec::new();
        let mut at = 0;
        while at < self.bytes.len() {
            let len = if is_word(at) {
                word(at)
            } else {
                (at..self.bytes.len()).take_while(|i| !is_word(*i)).count()
            };
            let part = self.bytes.get(at..at + len.max(1)).unwrap_or(&[]);
            let piece = if is_word(at) {
                Piece::Text(part.iter().flatten().map(|c| char::from(*c)).collect())
            } else {
                Piece::Hex(part.to_vec())
            };
            out.push((self.at + at, piece));
            at += len.max(1);
        }
        out
    }
}

/// A part of a mark as profiles write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Hex(Vec<Option<u8>>),
    Text(String),
}

/// The payloads of one kind.
#[derive(Debug)]
pub(super) struct Shape<'t> {
    /// Different ones, in the order of time.
    pub(super) payloads: Vec<&'t [u8]>,
    /// Bytes that are equal in all.
    constant: Vec<Option<u8>>,
    pub(super) shortest: usize,
    pub(super) longest: usize,
}

impl<'t> Shape<'t> {
    pub(super) fn new(members: &[&'t Datagram]) -> Self {
        let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
        let payloads: Vec<&[u8]> = members
            .iter()
            .map(|d| d.payload.as_slice())
            .filter(|p| seen.len() < MOST_PAYLOADS && seen.insert(p))
            .collect();
        let shortest = members.iter().map(|d| d.payload.len()).min().unwrap_or(0);
        let longest = members.iter().map(|d| d.payload.len()).max().unwrap_or(0);
        let first = payloads.first().copied().unwrap_or(&[]);
        let same = |i: &usize| payloads.iter().all(|p| p.get(*i) == first.get(*i));
        let constant = (0..shortest.min(REACH)).map(|i| first.get(i).copied().filter(|_| same(&i))).collect();
        let mut it = Self { payloads, constant, shortest, longest };
        it.forget_counters();
        it
    }

    /// The first payload, which stands for all.
    pub(super) fn model(&self) -> &'t [u8] {
        self.payloads.first().copied().unwrap_or(&[])
    }

    /// The bytes in front of a counting number are its upper ones, equal only because the capture is short.
    fn forget_counters(&mut self) {
        for i in 1..self.constant.len() {
            let starts =
                self.constant.get(i) == Some(&None) && self.constant.get(i - 1).is_some_and(Option::is_some);
            let values: Vec<u8> = self.payloads.iter().filter_map(|p| p.get(i).copied()).collect();
            let grows = values.is_sorted() && values.len() >= 3;
            let slowly = values
                .last()
                .zip(values.first())
                .is_some_and(|(last, first)| last.saturating_sub(*first) < 64);
            if starts && grows && slowly {
                // Numbers have four or eight bytes; times in eight begin with zeros.
                let end = (i..self.constant.len()).find(|n| self.constant.get(*n) != Some(&None));
                let end = end.unwrap_or(self.constant.len());
                let long = end.checked_sub(8).filter(|from| self.constant.get(*from) == Some(&Some(0)));
                let from = long.unwrap_or_else(|| end.saturating_sub(4));
                self.constant.iter_mut().take(i).skip(from.max(1)).for_each(|byte| *byte = None);
            }
        }
    }

    /// The marks that tell this kind, and whether they do: what else was heard on the same way is told apart.
    ///
    /// `content` are the parts that say something of one game only, `drawn` those that a server drew, `partner` is the
    /// question (for an answer) or the answer, `others` are packets that must not be taken for this kind.
    pub(super) fn marks(
        &self,
        content: &[Range<usize>],
        drawn: &[Range<usize>],
        partner: Option<&[u8]>,
        others: &[&[u8]],
    ) -> Vec<Mark> {
        // Behind a text of any length nothing has a fixed place.
        let limit =
            content.iter().filter(|r| self.is_text_at(r)).map(|r| r.start).min().unwrap_or(usize::MAX);
        let free = |i: usize| i < limit && content.iter().chain(drawn).all(|r| !r.contains(&i));
        let byte = |i: usize| self.constant.get(i).copied().flatten().filter(|_| free(i));
        let whole = self.payloads.len() == 1
            && self.shortest <= WHOLE
            && (0..self.shortest).all(|i| byte(i).is_some());
        let prefix = if whole { (0..self.shortest).map_while(byte).collect() } else { self.prefix(&byte) };
        let mut marks = Vec::new();
        if !prefix.is_empty() {
            marks.push(Mark { at: 0, bytes: prefix.iter().copied().map(Some).collect() });
        }
        if !whole && score(&prefix) < ENOUGH {
            marks.extend(self.best_run(prefix.len(), &byte, partner));
        }
        self.tell_apart(&mut marks, &byte, others);
        marks
    }

    /// Whether this part of the first payload is text; only binary parts have a fixed length.
    fn is_text_at(&self, range: &Range<usize>) -> bool {
        range.len() > 4 || self.model().get(range.clone()).is_some_and(|t| t.iter().all(|c| is_text(*c)))
    }

    /// The first bytes: an opcode, or a word.
    fn prefix(&self, byte: &impl Fn(usize) -> Option<u8>) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        while let Some(next) = byte(out.len()).filter(|_| out.len() < LONGEST_MARK) {
            let text = self.model().iter().skip(out.len()).take_while(|c| is_text(**c)).count();
            if text < 3 {
                out.push(next);
                continue;
            }
            let word = self.word(out.len(), byte);
            if word.iter().filter(|c| c.is_ascii_alphanumeric()).count() < SHORTEST_WORD {
                // Printable by accident.
                out.push(next);
                continue;
            }
            if score(&out) < ENOUGH || out.iter().all(|b| matches!(b, 0 | 0xff)) {
                out.extend(word);
            }
            break;
        }
        out
    }

    /// A word of a text protocol with the mark that ends it, such as `getinfo`, `[MOTD]` or `infoResponse` and its line end.
    fn word(&self, at: usize, byte: &impl Fn(usize) -> Option<u8>) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        while let Some(c) = byte(at + out.len()).filter(|_| out.len() < LONGEST_MARK) {
            let letter = c.is_ascii_alphanumeric() || c == b'_';
            let begun = out.iter().any(u8::is_ascii_alphanumeric);
            if letter || !begun && is_text(c) {
                out.push(c);
                continue;
            }
            if ENDS_WORD.contains(&c) {
                out.push(c);
            }
            break;
        }
        out
    }

    /// The most telling run of bytes behind the prefix; bytes that the other side says too are worth more.
    fn best_run(
        &self,
        from: usize,
        byte: &impl Fn(usize) -> Option<u8>,
        partner: Option<&[u8]>,
    ) -> Option<Mark> {
        let mut best: Option<(u32, Mark)> = None;
        let mut offer = |worth: u32, at: usize, bytes: &[u8]| {
            let bytes: Vec<Option<u8>> = bytes.iter().take(LONGEST_MARK).copied().map(Some).collect();
            if best.as_ref().is_none_or(|(have, _)| worth > *have) {
                best = Some((worth, Mark { at, bytes }));
            }
        };
        let mut at = from;
        while at < self.constant.len() {
            let run: Vec<u8> = (at..self.constant.len()).map_while(byte).collect();
            let trimmed = run.len() - run.iter().rev().take_while(|b| **b == 0).count();
            let worth = score(run.get(..trimmed.min(LONGEST_MARK)).unwrap_or(&run));
            if worth >= TELLING {
                offer(worth, at, run.get(..trimmed).unwrap_or(&run));
            }
            if let Some(shared) =
                partner.and_then(|other| longest_shared(&run, other)).filter(|s| s.len() >= SHARED)
            {
                let piece = run.get(shared.clone()).unwrap_or(&[]);
                offer(score(piece) * 2, at + shared.start, piece);
            }
            at += run.len().max(1);
        }
        best.map(|(_, mark)| mark)
    }

    /// Adds single bytes until the others do not fit any more, or nothing helps.
    fn tell_apart(&self, marks: &mut Vec<Mark>, byte: &impl Fn(usize) -> Option<u8>, others: &[&[u8]]) {
        let mut left: Vec<&[u8]> =
            others.iter().copied().filter(|p| marks.iter().all(|m| m.fits(p))).collect();
        for _ in 0..MOST_EXTRA {
            if left.is_empty() {
                return;
            }
            let helps = |i: usize| {
                let want = byte(i)?;
                let gone = left.iter().filter(|p| p.get(i) != Some(&want)).count();
                (gone > 0).then_some((gone, std::cmp::Reverse(i), want))
            };
            let Some((_, std::cmp::Reverse(i), want)) = (0..self.constant.len()).filter_map(helps).max()
            else {
                return;
            };
            left.retain(|p| p.get(i) == Some(&want));
            let near = marks.iter_mut().find(|m| m.end() <= i && i - m.end() <= NEAR);
            match near {
                Some(mark) => {
                    mark.bytes.resize(i - mark.at, None);
                    mark.bytes.push(Some(want));
                }
                None => marks.push(Mark { at: i, bytes: vec![Some(want)] }),
            }
        }
    }
}

/// Parts of `payload` that `earlier` holds at another place, and `first` does not: something the other side drew and that is
/// sent back, not the protocol's own.
pub(super) fn echoes(payload: &[u8], earlier: &[u8], first: &[u8]) -> Vec<Range<usize>> {
    let holds = |whole: &[u8], piece: &[u8]| whole.windows(piece.len()).position(|w| w == piece);
    let four = |i: usize| {
        let piece = payload.get(i..i + 4)?;
        let varied = piece.iter().collect::<BTreeSet<_>>().len() >= 3;
        let drawn =
            varied && holds(earlier, piece).is_some_and(|at| at != i) && holds(first, piece).is_none();
        drawn.then_some(i..i + 4)
    };
    (0..payload.len().min(REACH)).filter_map(four).collect()
}

/// How much bytes tell, in halves: zeros and ones are everywhere.
fn score(bytes: &[u8]) -> u32 {
    bytes.iter().map(|b| if matches!(b, 0 | 0xff) { 1 } else { 2 }).sum()
}

/// The longest stretch of `run` that `other` has too.
fn longest_shared(run: &[u8], other: &[u8]) -> Option<Range<usize>> {
    let run = run.get(..run.len().min(REACH))?;
    let mut best = 0..0;
    for start in 0..run.len() {
        while best.len() < run.len() - start {
            let longer = start..start + best.len() + 1;
            let Some(piece) = run.get(longer.clone()) else { break };
            if !other.windows(piece.len()).any(|w| w == piece) {
                break;
            }
            best = longer;
        }
    }
    (!best.is_empty()).then_some(best)
}

/// Characters that people read.
pub(super) const fn is_text(c: u8) -> bool {
    matches!(c, 0x20..=0x7e)
}

/// Bytes that are compared to see whether packets are of one kind.
const LOOK: usize = 32;
/// Offsets that marks may look at.
const REACH: usize = 64;
/// Different payloads of a kind that are compared.
const MOST_PAYLOADS: usize = 256;
/// A packet this short is its own mark.
const WHOLE: usize = 4;
const LONGEST_MARK: usize = 16;
/// Half points: two bytes of which one is no filler tell enough.
const ENOUGH: u32 = 3;
/// Half points of a run that stands alone.
const TELLING: u32 = 6;
/// Bytes that question and answer must share to be the protocol's own, not an echo.
const SHARED: usize = 6;
/// Bytes added to tell other packets apart.
const MOST_EXTRA: usize = 4;
/// A byte this near goes into the same mark.
const NEAR: usize = 8;
/// Letters and digits of a word.
const SHORTEST_WORD: usize = 3;
const ENDS_WORD: &[u8] = b"]>;:=/\n\0";
