//! Being measured: counting what comes and sending back what is to come back, for one peer at a time.
//!
//! Nothing is sent but in answer to a packet, one for one and never longer, and only to whom this node agreed to. Bounds hold
//! in a second, in one measurement and in a minute of all of them together, whoever asks; a measurement that says nothing
//! for a few seconds, or lasts too long, is over. So a member who means harm gets no more out of this than it puts in, and
//! never for long.

use super::tally::Tally;
use crate::engine::lan::pace::Bucket;
use crate::model::id::PeerId;
use crate::model::time::Mono;
use crate::rules::ruleset::Pace;
use crate::wire::measure::{Counted, NOTE, Note, Refusal, VERSION, What};
use std::time::Duration;

/// Bytes sent back in a second: more than 500 Mbit/s, the most that is tried on the way back, at once for a tenth of a second.
const SECOND: Pace = Pace { per_second: 70_000_000, burst: 7_000_000 };
/// Bytes sent back in one measurement; the longest way back through all steps needs two thirds of it.
const ONE: u32 = 64_000_000;
/// Bytes sent back for all together: two whole measurements of a fast network, then 30 MB a minute.
const ALL: Pace = Pace { per_second: 500_000, burst: 2 * ONE };
/// Questions that are looked at: each may have to be asked several times.
const QUESTIONS: Pace = Pace { per_second: 4, burst: 16 };
/// What is around a packet's body: the frame's head, WireGuard, UDP and IP.
const AROUND: u32 = 80;
/// A measurement of which nothing was heard for this long is over …
const SILENCE: Duration = Duration::from_secs(3);
/// … and so is one that lasts longer than any does.
const LONGEST: Duration = Duration::from_secs(16);

/// What is to be said to a packet of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// This, at the length of the packet.
    Answer(Note),
    /// Nothing; it was counted.
    Nothing,
    /// Nothing; it is none of a measurement that was agreed to, or beyond its bounds.
    Refused,
}

/// The side that is measured.
#[derive(Debug)]
pub struct Answerer {
    guest: Option<Guest>,
    all: Bucket,
    questions: Bucket,
}

/// Whom this node agreed to, and what it has counted of the present step.
#[derive(Debug)]
struct Guest {
    peer: PeerId,
    id: u32,
    since: Mono,
    heard: Mono,
    second: Bucket,
    left: u32,
    step: u16,
    tally: Tally,
    answered: u32,
}

impl Answerer {
    /// Nobody measures.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { guest: None, all: Bucket::new(ALL, now), questions: Bucket::new(QUESTIONS, now) }
    }

    /// Whether somebody measures the way to this node now.
    #[must_use]
    pub fn is_busy(&self, now: Mono) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.is_there(now))
    }

    /// A packet of a peer, with a body of so many bytes; `busy`: this node measures itself.
    pub fn handle(&mut self, from: PeerId, note: Note, len: usize, busy: bool, now: Mono) -> Said {
        if let What::Ask(version) = note.what {
            return self.asked(from, note, version, busy, now);
        }
        let guest = self.guest.as_mut().filter(|g| g.peer == from && g.id == note.id && g.is_there(now));
        let Some(guest) = guest else { return Said::Refused };
        guest.heard = now;
        let answer = match note.what {
            What::Echo => What::Back,
            What::Load | What::Bounce => {
                guest.count(note, now);
                if note.what == What::Load || note.step != guest.step {
                    return Said::Nothing;
                }
                What::Back
            }
            What::Count => What::Counted(guest.counted(note.step)),
            What::Done => {
                self.guest = None;
                return Said::Nothing;
            }
            What::Ask(_) | What::Yes | What::No(_) | What::Back | What::Counted(_) => return Said::Refused,
        };
        if !guest.pays(len, &mut self.all, now) {
            return Said::Refused;
        }
        guest.answered = guest.answered.saturating_add(u32::from(note.what == What::Bounce));
        Said::Answer(Note { what: answer, ..note })
    }

    fn asked(&mut self, from: PeerId, note: Note, version: u8, busy: bool, now: Mono) -> Said {
        if !self.questions.take(QUESTIONS, now) {
            return Said::Refused;
        }
        let other = self.guest.as_ref().filter(|guest| guest.peer != from && guest.is_there(now));
        let again = self.guest.as_ref().is_some_and(|guest| guest.peer == from && guest.id == note.id);
        let what = if version != VERSION {
            What::No(Refusal::Version)
        } else if busy || other.is_some() {
            What::No(Refusal::Busy)
        } else if again {
            What::Yes
        } else if let Some(wait) = self.all.wait_for(ALL, ONE, now) {
            What::No(Refusal::Later(u16::try_from(wait.as_secs() + 1).unwrap_or(u16::MAX)))
        } else {
            // Also in place of one of the same peer, which has begun anew.
            self.guest = Some(Guest::new(from, note.id, now));
            What::Yes
        };
        Said::Answer(Note { what, ..note })
    }
}

impl Guest {
    fn new(peer: PeerId, id: u32, now: Mono) -> Self {
        let (second, tally) = (Bucket::new(SECOND, now), Tally::default());
        Self { peer, id, since: now, heard: now, second, left: ONE, step: 0, tally, answered: 0 }
    }

    fn is_there(&self, now: Mono) -> bool {
        now.since(self.heard) < SILENCE && now.since(self.since) < LONGEST
    }

    /// A packet of a step; those of earlier ones are late and count as lost.
    fn count(&mut self, note: Note, now: Mono) {
        if note.step > self.step {
            (self.step, self.tally, self.answered) = (note.step, Tally::default(), 0);
        }
        if note.step == self.step {
            self.tally.take(note.number, now);
        }
    }

    fn counted(&self, step: u16) -> Counted {
        if step != self.step {
            return Counted::default();
        }
        Counted {
            received: self.tally.received,
            answered: self.answered,
            duplicates: self.tally.duplicates,
            reordered: self.tally.reordered,
            micros: u32::try_from(self.tally.span().as_micros()).unwrap_or(u32::MAX),
        }
    }

    /// Whether an answer of this length is within all bounds.
    fn pays(&mut self, len: usize, all: &mut Bucket, now: Mono) -> bool {
        let price = u32::try_from(len).unwrap_or(u32::MAX).saturating_add(AROUND);
        let Some(left) = self.left.checked_sub(price) else { return false };
        if !self.second.take_n(SECOND, price, now) || !all.take_n(ALL, price, now) {
            return false;
        }
        self.left = left;
        true
    }
}

/// A question is as long as its answer.
const _: () = assert!(NOTE >= 32);

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: PeerId = PeerId([1; 10]);
    const BOB: PeerId = PeerId([2; 10]);

    fn ms(n: u64) -> Mono {
        Mono(Duration::from_millis(n))
    }

    fn note(step: u16, number: u32, what: What) -> Note {
        Note { id: 7, step, number, what }
    }

    fn agreed() -> Answerer {
        let mut answerer = Answerer::new(Mono::ZERO);
        let said = answerer.handle(ANA, note(0, 0, What::Ask(VERSION)), NOTE, false, Mono::ZERO);
        assert_eq!(said, Said::Answer(note(0, 0, What::Yes)));
        answerer
    }

    fn ask(answerer: &mut Answerer, from: PeerId, id: u32, busy: bool, now: Mono) -> What {
        let question = Note { id, ..note(0, 0, What::Ask(VERSION)) };
        let Said::Answer(answer) = answerer.handle(from, question, NOTE, busy, now) else {
            panic!("an answer")
        };
        answer.what
    }

    #[test]
    fn what_is_to_come_back_comes_back_and_the_rest_is_counted() {
        let mut answerer = agreed();
        assert_eq!(
            answerer.handle(ANA, note(1, 5, What::Echo), 60, false, ms(1)),
            Said::Answer(note(1, 5, What::Back))
        );
        for (n, at) in [(0, 10), (1, 12), (3, 14), (2, 16), (3, 16)] {
            assert_eq!(answerer.handle(ANA, note(2, n, What::Load), 1180, false, ms(at)), Said::Nothing);
        }
        let count = |answerer: &mut Answerer, step| {
            let said = answerer.handle(ANA, note(step, 9, What::Count), NOTE, false, ms(20));
            let Said::Answer(Note { what: What::Counted(counted), number: 9, .. }) = said else {
                panic!("{said:?}")
            };
            counted
        };
        let counted = Counted { received: 4, answered: 0, duplicates: 1, reordered: 1, micros: 6000 };
        assert_eq!(count(&mut answerer, 2), counted);
        let back = answerer.handle(ANA, note(3, 0, What::Bounce), 1180, false, ms(30));
        assert_eq!(back, Said::Answer(note(3, 0, What::Back)));
        assert_eq!(
            answerer.handle(ANA, note(2, 4, What::Bounce), 1180, false, ms(31)),
            Said::Nothing,
            "late"
        );
        let counted = count(&mut answerer, 3);
        assert_eq!((counted.received, counted.answered), (1, 1));
        assert_eq!(count(&mut answerer, 2), Counted::default(), "of a step that is over nothing is known");
        assert_eq!(answerer.handle(ANA, note(3, 0, What::Done), NOTE, false, ms(40)), Said::Nothing);
        assert!(!answerer.is_busy(ms(40)));
    }

    #[test]
    fn one_at_a_time_and_nothing_for_who_was_not_agreed_to() {
        let mut answerer = agreed();
        assert_eq!(ask(&mut answerer, BOB, 8, false, ms(1)), What::No(Refusal::Busy));
        for what in [What::Echo, What::Load, What::Bounce, What::Count, What::Done, What::Yes, What::Back] {
            for (from, id) in [(BOB, 7), (ANA, 8)] {
                let note = Note { id, ..note(1, 0, what) };
                assert_eq!(answerer.handle(from, note, 600, false, ms(2)), Said::Refused, "{what:?}");
            }
        }
        assert_eq!(ask(&mut answerer, ANA, 7, false, ms(3)), What::Yes, "the answer may have been lost");
        assert_eq!(ask(&mut answerer, ANA, 9, false, ms(4)), What::Yes, "it has begun anew");
        assert_eq!(ask(&mut answerer, BOB, 8, false, ms(4 + 2999)), What::No(Refusal::Busy));
        assert_eq!(ask(&mut answerer, BOB, 8, true, ms(4 + 3000)), What::No(Refusal::Busy), "it measures");
        assert_eq!(ask(&mut answerer, BOB, 8, false, ms(4 + 3000)), What::Yes, "silence ends it");
        let old = Note { id: 1, ..note(0, 0, What::Ask(0)) };
        let said = answerer.handle(ANA, old, NOTE, false, ms(5000));
        assert_eq!(said, Said::Answer(Note { what: What::No(Refusal::Version), ..old }));
    }

    #[test]
    fn a_measurement_ends_though_it_goes_on_and_on() {
        let mut answerer = agreed();
        let mut at = 0;
        while answerer.handle(ANA, note(1, 0, What::Echo), 60, false, ms(at)) != Said::Refused {
            at += 100;
        }
        assert_eq!(at, 16_000);
    }

    #[test]
    fn a_flood_gets_no_more_than_the_bounds_however_often_it_asks_anew() {
        let mut answerer = Answerer::new(Mono::ZERO);
        let (mut sent, mut second, mut most, mut asks) = (0u64, 0u64, 0u64, 0);
        // Two minutes of a member that sends 400 MB a second and asks anew whenever it is refused.
        let mut id = 0;
        for at in 0..120_000 {
            if at % 1000 == 0 {
                (most, second) = (most.max(second), 0);
            }
            for _ in 0..320 {
                let bounce = Note { id, ..note(1, 0, What::Bounce) };
                match answerer.handle(ANA, bounce, 1180, false, ms(at)) {
                    Said::Answer(_) => (sent, second) = (sent + 1260, second + 1260),
                    Said::Nothing => {}
                    Said::Refused => {
                        id += 1;
                        let question = Note { id, ..note(0, 0, What::Ask(VERSION)) };
                        asks +=
                            u32::from(answerer.handle(ANA, question, NOTE, false, ms(at)) != Said::Refused);
                        break;
                    }
                }
            }
        }
        assert!(most <= 77_000_000, "{most} bytes in a second");
        assert!(sent <= 2 * 64_000_000 + 120 * 500_000, "{sent} bytes in two minutes");
        assert!(asks <= 4 * 120 + 16, "{asks} answers to questions");
    }

    #[test]
    fn who_measured_much_is_told_when_to_come_back() {
        let mut answerer = agreed();
        let mut now = Mono::ZERO;
        for id in 1..=2 {
            assert_eq!(ask(&mut answerer, ANA, id, false, now), What::Yes);
            let bounce = Note { id, ..note(1, 0, What::Bounce) };
            for _ in 0..60_000 {
                now = now + Duration::from_micros(20);
                answerer.handle(ANA, bounce, 1180, false, now);
            }
        }
        let What::No(Refusal::Later(seconds)) = ask(&mut answerer, ANA, 3, false, now) else {
            panic!("later")
        };
        assert!((100..=130).contains(&seconds), "{seconds}");
        let then = now + Duration::from_secs(u64::from(seconds));
        assert_eq!(ask(&mut answerer, ANA, 3, false, then), What::Yes);
    }
}
