//! Groups of five characters in which every slip is found and named.
//!
//! Characters are Crockford base 32 (`model::text`). A group is four characters of data and one check character: the sum
//! over GF(32) of the four, each times its own power of a generator, and of the group's number. The weights differ and
//! none is zero, so one wrong character or two swapped neighbours always change the sum (also where the check
//! character is one of them); the group's number in the sum betrays groups that changed places. The first group begins with
//! the version (3 bits) and the number of groups (7 bits), so that a cut text is told from a mistyped one. The last group
//! is 20 bits of SHA-256 over all data before it: it catches what slips past the sums (two mistakes in one group: 1 in 32).
//!
//! When something is wrong, `diagnose` looks for the explanation a friend on the phone would give: cut off, a group
//! forgotten, read twice, two groups swapped, a character forgotten, or mistyped. It is never asked about good texts.

use super::mistake::InviteError;
use crate::model::text::{char_of, value_of};
use sha2::{Digest, Sha256};

/// The format that this program writes and reads.
const VERSION: u8 = 1;
/// Characters of a group.
const GROUP: usize = 5;
/// The most groups that the first one can announce.
const MOST: usize = 127;
/// The shortest invite has fifteen groups; what has fewer than this is some other text.
const FEW: usize = 4;
/// The longest text that is looked at: all groups, generously separated.
const TEXT_BYTES: usize = 4096;

/// Bytes to groups.
pub(super) fn write(payload: &[u8]) -> String {
    let text = crate::model::text::encode(payload);
    let data_groups = (2 + text.len()).div_ceil(GROUP - 1);
    let count = data_groups + 1;
    debug_assert!(count <= MOST, "the caps on hints keep invites short");
    let header = u16::from(VERSION) << 7 | u16::try_from(count.min(MOST)).unwrap_or(0);
    let mut data = vec![((header >> 5) & 31) as u8, (header & 31) as u8];
    data.extend(text.chars().filter_map(value_of));
    data.resize(data_groups * (GROUP - 1), 0);
    data.extend(whole_sum(&data));
    let mut out = String::with_capacity(count * (GROUP + 1));
    for (index, four) in data.chunks(GROUP - 1).enumerate() {
        if index > 0 {
            out.push('-');
        }
        out.extend(four.iter().copied().map(char_of));
        out.push(char_of(group_sum(four, index)));
    }
    out
}

/// Groups to bytes (and up to two zero bytes of padding).
pub(super) fn read(text: &str) -> Result<Vec<u8>, InviteError> {
    let typed = Typed::split(text)?;
    let announced = typed.announced();
    match announced {
        Some((VERSION, _)) | None => {}
        Some((version, _)) => return Err(InviteError::Version(version)),
    }
    let data: Option<Vec<[u8; GROUP - 1]>> = (0..typed.groups()).map(|i| typed.good(i, i)).collect();
    let (Some((_, count)), Some(data)) = (announced, data) else {
        return Err(diagnose(&typed, announced.map(|(_, count)| count)));
    };
    let data = data.concat();
    match typed.groups().cmp(&count) {
        std::cmp::Ordering::Less => return Err(InviteError::Stops { after: typed.groups(), of: count }),
        std::cmp::Ordering::Equal if typed.rest() == 0 => {}
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => {
            let n = typed.chars.len().div_ceil(GROUP) - count;
            return Err(InviteError::Extra { at: count + 1, n, of: count });
        }
    }
    let (data, sum) =
        data.split_at_checked(data.len().saturating_sub(GROUP - 1)).ok_or(InviteError::Checksum)?;
    if sum != whole_sum(data) {
        return Err(InviteError::Checksum);
    }
    Ok(bytes_of(data.get(2..).unwrap_or_default()))
}

fn bytes_of(values: &[u8]) -> Vec<u8> {
    let (mut acc, mut bits, mut out) = (0u16, 0u32, Vec::with_capacity(values.len() * 5 / 8));
    for v in values {
        acc = (acc << 5) | u16::from(*v);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(((acc >> bits) & 0xff) as u8);
            acc &= (1 << bits) - 1;
        }
    }
    out
}

/// The check character of a group. Past 32 groups the weights move on, because the number alone would repeat.
fn group_sum(four: &[u8], index: usize) -> u8 {
    let number = u8::try_from(index % 32).unwrap_or(0);
    four.iter().zip(1 + index / 32..).fold(number, |sum, (v, power)| sum ^ times_power(*v, power))
}

/// `value` times the generator to the `power`, in GF(32) made by x^5 + x^2 + 1.
fn times_power(value: u8, power: usize) -> u8 {
    (0..power).fold(value, |v, _| {
        let doubled = v << 1;
        if doubled & 0x20 == 0 { doubled } else { doubled ^ 0x25 }
    })
}

fn whole_sum(data: &[u8]) -> [u8; GROUP - 1] {
    let hash = Sha256::new().chain_update(b"lanrage invite v1").chain_update(data).finalize();
    let bits = hash.iter().take(4).fold(0u32, |acc, b| acc << 8 | u32::from(*b)) >> 12;
    [15, 10, 5, 0].map(|shift| ((bits >> shift) & 31) as u8)
}

/// What was typed: the characters that count, and where separators stood between them.
struct Typed {
    chars: Vec<char>,
    /// Runs of characters between separators: where they begin, and how long they are.
    runs: Vec<(usize, usize)>,
}

impl Typed {
    fn split(text: &str) -> Result<Self, InviteError> {
        if text.len() > TEXT_BYTES {
            return Err(InviteError::TooLong);
        }
        let text = text.trim_matches(|c: char| c.is_whitespace() || "\"'`<>.,;".contains(c));
        let text = match text.get(..super::LINK.len()) {
            Some(head) if head.eq_ignore_ascii_case(super::LINK) => {
                text.get(head.len()..).unwrap_or_default().trim_end_matches('/')
            }
            _ => text,
        };
        let (mut chars, mut runs) = (Vec::new(), Vec::new());
        for run in text.split(is_separator).filter(|run| !run.is_empty()) {
            let start = chars.len();
            chars.extend(run.chars());
            runs.push((start, chars.len() - start));
        }
        match chars.len() {
            0 => Err(InviteError::Empty),
            n if n > (MOST + 1) * GROUP => Err(InviteError::TooLong),
            n if n < GROUP => Err(InviteError::NotAnInvite(show(&chars))),
            _ => Ok(Self { chars, runs }),
        }
    }

    /// Whole groups.
    fn groups(&self) -> usize {
        self.chars.len() / GROUP
    }

    /// Characters after the last whole group.
    fn rest(&self) -> usize {
        self.chars.len() % GROUP
    }

    fn group(&self, index: usize) -> &[char] {
        self.chars.get(index * GROUP..(index + 1) * GROUP).unwrap_or_default()
    }

    fn shown(&self, index: usize) -> String {
        show(self.group(index))
    }

    /// The four data values of a group, if they would be right as group number `number` (from 0).
    fn good(&self, index: usize, number: usize) -> Option<[u8; GROUP - 1]> {
        let mut values = self.group(index).iter().map(|c| value_of(*c));
        let mut four = [0; GROUP - 1];
        for v in &mut four {
            *v = values.next()??;
        }
        (values.next()?? == group_sum(&four, number)).then_some(four)
    }

    /// The version and the number of groups, if the first group is right.
    fn announced(&self) -> Option<(u8, usize)> {
        let [high, low, ..] = self.good(0, 0)?;
        let header = u16::from(high) << 5 | u16::from(low);
        Some((((header >> 7) & 7) as u8, usize::from(header & 0x7f)))
    }
}

/// Spaces, line breaks, and every dash and invisible character that messengers put in.
fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '-' | '_' | '\u{ad}' | '\u{2010}'
                ..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
        )
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Characters for an error message: nothing that could play tricks on a terminal.
fn show(chars: &[char]) -> String {
    chars.iter().take(2 * GROUP).flat_map(|c| c.escape_debug()).collect()
}

/// The most likely slip. `count` is what the first group announces, when that is right.
fn diagnose(typed: &Typed, count: Option<usize>) -> InviteError {
    let bad: Vec<usize> = (0..typed.groups()).filter(|i| typed.good(*i, *i).is_none()).collect();
    let Some(&first) = bad.first() else {
        return InviteError::Checksum; // cannot be: a text without bad groups is not brought here
    };
    let fives = typed.runs.iter().filter(|(_, len)| *len == GROUP).count();
    if let Some(error) = wrong_length(typed, first).filter(|_| fives * 2 > typed.runs.len()) {
        return error;
    }
    let mostly_bad = bad.len() * 2 > typed.groups() && (bad.len() > 1 || typed.groups() < FEW);
    if count.is_none() && mostly_bad {
        return InviteError::NotAnInvite(typed.shown(0));
    }
    if let Some(error) = shifted_groups(typed, first, count).or_else(|| swapped(typed, &bad)) {
        return error;
    }
    let strange = typed.group(first).iter().find(|c| value_of(**c).is_none());
    if let Some(c) = strange {
        let strange = if c.is_control() { '\u{fffd}' } else { *c };
        return InviteError::Strange { group: first + 1, shown: typed.shown(first), strange };
    }
    if typed.rest() > 0 && bad.len() > 1 && bad.len() == typed.groups() - first {
        return InviteError::Shifted { group: first + 1, shown: typed.shown(first) };
    }
    InviteError::Mistyped(bad.iter().take(4).map(|i| (i + 1, typed.shown(*i))).collect())
}

/// Whole groups that are missing or too many, when everything behind them is right under another number.
fn shifted_groups(typed: &Typed, first: usize, count: Option<usize>) -> Option<InviteError> {
    let (of, have) = (count?, typed.groups());
    if typed.rest() > 0 || first == 0 {
        return None;
    }
    let at = first + 1;
    if let Some(n @ 1..) = of.checked_sub(have) {
        let fits = (first..have).all(|i| typed.good(i, i + n).is_some());
        return fits.then_some(InviteError::Missing { at, n, of });
    }
    let n = have.checked_sub(of).filter(|n| *n > 0)?;
    let fits = (first + n..have).all(|i| typed.good(i, i - n).is_some());
    fits.then_some(InviteError::Extra { at, n, of })
}

fn swapped(typed: &Typed, bad: &[usize]) -> Option<InviteError> {
    let [a, b] = *bad else { return None };
    let fits = typed.good(a, b).is_some() && typed.good(b, a).is_some();
    fits.then_some(InviteError::Swapped { a: a + 1, b: b + 1 })
}

/// A run between separators that is not five characters long, where the groups begin to be wrong.
fn wrong_length(typed: &Typed, first: usize) -> Option<InviteError> {
    if typed.rest() == 0 {
        return None;
    }
    let near = |start: usize| start == first * GROUP || start + GROUP == first * GROUP;
    let odd = |(start, len): &&(usize, usize)| near(*start) && *len != GROUP && *len < 2 * GROUP;
    let &(start, len) = typed.runs.iter().find(odd)?;
    let shown = show(typed.chars.get(start..start + len)?);
    Some(InviteError::Length { group: start / GROUP + 1, shown, len })
}
