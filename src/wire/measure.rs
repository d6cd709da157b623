//! What two nodes say to each other while one of them measures the way between them (`engine::measure`): the body of a
//! `Measure` frame.
//!
//! ```text
//!  0        1     2 .. 5       6 7   8 .. 11  12 ..
//!  version  kind  measurement  step  number   what the kind adds, then padding
//! ```
//!
//! No answer is longer than what it answers. A node that does not know the frame drops it, so who asks it hears nothing. A
//! question (`Ask`) and a refusal (`No`) are read whatever their version: they never change, and tell two versions apart.

/// The version that is spoken here.
pub const VERSION: u8 = 1;
/// What all kinds have.
pub const HEAD: usize = 12;
/// The length of everything that is not sent to be counted or sent back.
pub const NOTE: usize = 32;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// Which measurement: a random number of who began it.
    pub id: u32,
    /// Which part of it.
    pub step: u16,
    /// The number of a packet within its part.
    pub number: u32,
    /// What it says.
    pub what: What,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// May I measure the way to you? In this version.
    Ask(u8),
    /// Yes.
    Yes,
    /// No.
    No(Refusal),
    /// To be sent back, and nothing else.
    Echo,
    /// To be counted.
    Load,
    /// To be counted and sent back.
    Bounce,
    /// An `Echo` or `Bounce`, sent back.
    Back,
    /// How many of this step came?
    Count,
    /// So many.
    Counted(Counted),
    /// That was all.
    Done,
}

/// Why a measurement is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// One is under way.
    Busy,
    /// There were many lately: try again in so many seconds.
    Later(u16),
    /// It speaks another version.
    Version,
    /// For a reason that a later version knows.
    Other,
}

/// What became of a step's packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Arrived, each counted once.
    pub received: u32,
    /// Of those sent back.
    pub answered: u32,
    /// Arrived again.
    pub duplicates: u32,
    /// Arrived after a later one.
    pub reordered: u32,
    /// Microseconds between the first and the last.
    pub micros: u32,
}

impl Note {
    /// Reads a message; `None` for what is none of this version.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let head = body.first_chunk::<HEAD>()?;
        let [version, kind, ref id @ .., s0, s1, n0, n1, n2, n3] = *head;
        let whole = || body.first_chunk::<NOTE>();
        let what = match kind {
            1 => whole().map(|_| What::Ask(version))?,
            3 => whole().map(|note| What::No(Refusal::of(note)))?,
            _ if version != VERSION => return None,
            2 => What::Yes,
            4 => What::Echo,
            5 => What::Load,
            6 => What::Bounce,
            7 => What::Back,
            8 => whole().map(|_| What::Count)?,
            9 => whole().map(|note| What::Counted(Counted::of(note)))?,
            10 => What::Done,
            _ => return None,
        };
        let (step, number) = (u16::from_be_bytes([s0, s1]), u32::from_be_bytes([n0, n1, n2, n3]));
        Some(Self { id: u32::from_be_bytes(*id), step, number, what })
    }

    /// Writes it to the beginning of a body; false when that is shorter than `NOTE`, or than `HEAD` for what is only head.
    pub fn write(&self, body: &mut [u8]) -> bool {
        let Some(head) = body.first_chunk_mut::<HEAD>() else { return false };
        let kind = match self.what {
            What::Ask(_) => 1,
            What::Yes => 2,
            What::No(_) => 3,
            What::Echo => 4,
            What::Load => 5,
            What::Bounce => 6,
            What::Back => 7,
            What::Count => 8,
            What::Counted(_) => 9,
            What::Done => 10,
        };
        head[0] = if let What::Ask(version) = self.what { version } else { VERSION };
        head[1] = kind;
        head[2..6].copy_from_slice(&self.id.to_be_bytes());
        head[6..8].copy_from_slice(&self.step.to_be_bytes());
        head[8..12].copy_from_slice(&self.number.to_be_bytes());
        match self.what {
            What::No(refusal) => body.first_chunk_mut().is_some_and(|note| refusal.put(note)),
            What::Counted(counted) => body.first_chunk_mut().is_some_and(|note| counted.put(note)),
            What::Ask(_) | What::Count => body.len() >= NOTE,
            What::Yes | What::Echo | What::Load | What::Bounce | What::Back | What::Done => true,
        }
    }
}

impl Refusal {
    const fn of(note: &[u8; NOTE]) -> Self {
        match note[12] {
            1 => Self::Busy,
            2 => Self::Later(u16::from_be_bytes([note[13], note[14]])),
            3 => Self::Version,
            _ => Self::Other,
        }
    }

    fn put(self, note: &mut [u8; NOTE]) -> bool {
        let (code, seconds) = match self {
            Self::Busy => (1, 0),
            Self::Later(seconds) => (2, seconds),
            Self::Version => (3, 0),
            Self::Other => (0, 0),
        };
        note[12] = code;
        note[13..15].copy_from_slice(&seconds.to_be_bytes());
        true
    }
}

impl Counted {
    fn of(note: &[u8; NOTE]) -> Self {
        let word = |at: usize| {
            let bytes = note.get(at..at + 4).and_then(|b| b.first_chunk::<4>());
            bytes.copied().map_or(0, u32::from_be_bytes)
        };
        Self {
            received: word(12),
            answered: word(16),
            duplicates: word(20),
            reordered: word(24),
            micros: word(28),
        }
    }

    fn put(self, note: &mut [u8; NOTE]) -> bool {
        let words = [self.received, self.answered, self.duplicates, self.reordered, self.micros];
        for (to, word) in note[HEAD..].chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn note(what: What) -> Note {
        Note { id: 0xdead_beef, step: 300, number: 70_000, what }
    }

    #[test]
    fn every_message_reads_back() {
        let counted = Counted { received: 1, answered: 2, duplicates: 3, reordered: 4, micros: u32::MAX };
        for what in [
            What::Ask(VERSION),
            What::Ask(9),
            What::Yes,
            What::No(Refusal::Busy),
            What::No(Refusal::Later(515)),
            What::No(Refusal::Version),
            What::No(Refusal::Other),
            What::Echo,
            What::Load,
            What::Bounce,
            What::Back,
            What::Count,
            What::Counted(counted),
            What::Done,
        ] {
            let mut body = [0; NOTE + 5];
            assert!(note(what).write(&mut body));
            assert_eq!(Note::read(&body), Some(note(what)));
            assert!(!note(what).write(&mut [0; HEAD - 1]));
        }
    }

    #[test]
    fn of_another_version_only_questions_and_refusals_are_read() {
        for (what, read) in [
            (What::Ask(VERSION), Some(What::Ask(7))),
            (What::No(Refusal::Version), Some(What::No(Refusal::Version))),
            (What::Bounce, None),
            (What::Count, None),
        ] {
            let mut body = [0; NOTE];
            assert!(note(what).write(&mut body));
            body[0] = 7;
            assert_eq!(Note::read(&body).map(|n| n.what), read);
        }
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        for what in
            [What::Ask(VERSION), What::No(Refusal::Busy), What::Count, What::Counted(Counted::default())]
        {
            let mut body = [0; NOTE];
            assert!(note(what).write(&mut body));
            assert!((0..NOTE).all(|len| Note::read(&body[..len]).is_none()), "{what:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Note::read(&bytes);
        }
    }
}
