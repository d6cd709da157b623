//! How much of one size the way carries, in one direction: rates held for a moment each, and judged by what became of them.
//!
//! A step sends at its rate, waits a little for packets that overtook each other, and asks what was counted. The question
//! goes the way of the packets and stands in the same queues behind them, so its own round trip tells how long these have
//! become: a rate at which they grow is too high, though nothing is lost yet. On the way back it is this node that counts.

use super::flow::Flow;
use super::ladder::{Ladder, Steps};
use super::tally::Tally;
use crate::model::measure::{Limit, Rate};
use crate::model::time::Mono;
use crate::wire::measure::{Counted, Note, What};
use std::time::Duration;

/// Packets of one step: a twelfth of a second at the highest rate of small ones.
const PACKETS: u32 = 20_000;
/// Packets that others overtook are waited for.
const GRACE: Duration = Duration::from_millis(20);
/// Queues that make a packet wait for this much longer grow too fast.
const SLOW: Duration = Duration::from_millis(30);
/// The count is asked for so often …
const TRIES: usize = 3;
/// … and waited for, beside its usual time, for this long and then twice as long.
const WAIT: Duration = Duration::from_millis(200);
/// While packets go one way only, one comes back this often: silence would put the path in doubt, which no game does.
const PULSE: Duration = Duration::from_millis(50);

/// In which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    There,
    Back,
}

/// What is to be found out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quest {
    pub(super) way: Way,
    /// Length of the packets, as a game's.
    pub(super) bytes: u16,
    pub(super) steps: Steps,
    /// How long a rate is held.
    pub(super) long: Duration,
    /// How long a lone packet takes, at the longest.
    pub(super) usual: Duration,
    /// The share that may be lost.
    pub(super) allowed: f64,
}

/// What was found out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// The highest rate that was carried, as it arrived.
    pub(super) rate: Option<Rate>,
    /// The same in packets a second, and no more than were sent.
    pub(super) pace: Option<u32>,
}

/// A climb.
#[derive(Debug)]
pub(super) struct Climb {
    quest: Quest,
    ladder: Ladder,
    step: Step,
    found: Found,
    /// This computer fell behind in the last step: it is taken for too slow only when it does so twice.
    late: bool,
}

/// One rate.
#[derive(Debug)]
struct Step {
    number: u16,
    flow: Flow,
    back: Tally,
    pulse: Mono,
    /// When the count was asked for.
    asked: Vec<Mono>,
    ask_at: Mono,
    /// What was counted, how long the answer took, when it came.
    counted: Option<(Counted, Duration, Mono)>,
}

impl Step {
    fn new(number: u16, rate: u32, long: Duration, now: Mono) -> Self {
        Self {
            number,
            flow: Flow::new(rate, long, PACKETS, now),
            back: Tally::default(),
            pulse: now,
            asked: Vec::with_capacity(TRIES),
            ask_at: now,
            counted: None,
        }
    }
}

impl Climb {
    /// Begins, with a step of this number.
    pub(super) fn new(quest: Quest, number: u16, now: Mono) -> Self {
        let ladder = Ladder::new(quest.steps);
        let step = Step::new(number, ladder.rate(), quest.long, now);
        Self { quest, ladder, step, found: Found { rate: None, pace: None }, late: false }
    }

    /// The next packet: its step, its number, what it says, its length as a game's packet or `None` for the shortest.
    pub(super) fn poll(&mut self, now: Mono) -> Option<(u16, u32, What, Option<u16>)> {
        let (way, step) = (self.quest.way, &mut self.step);
        if let Some(number) = step.flow.poll(now) {
            let what = if way == Way::There { What::Load } else { What::Bounce };
            step.ask_at = now + GRACE;
            return Some((step.number, number, what, Some(self.quest.bytes)));
        }
        if step.flow.due().is_some() {
            let due = way == Way::There && step.pulse <= now;
            step.pulse = if due { now + PULSE } else { step.pulse };
            return due.then_some((step.number, 0, What::Echo, None));
        }
        if step.counted.is_some() || step.asked.len() >= TRIES || step.ask_at > now {
            return None;
        }
        let number = step.asked.len();
        step.asked.push(now);
        step.ask_at = now + self.quest.usual + WAIT * (1 << number);
        Some((step.number, u32::try_from(number).unwrap_or(u32::MAX), What::Count, None))
    }

    /// Something came back.
    pub(super) fn handle(&mut self, note: Note, now: Mono) {
        let step = &mut self.step;
        if note.step != step.number {
            return;
        }
        if note.what == What::Back && self.quest.way == Way::Back && note.number < step.flow.sent {
            step.back.take(note.number, now);
        }
        if let (What::Counted(counted), None) = (note.what, step.counted) {
            let asked = usize::try_from(note.number).ok().and_then(|n| step.asked.get(n));
            step.counted = asked.map(|asked| (counted, now.since(*asked), now));
        }
    }

    /// When to be woken.
    pub(super) fn deadline(&self) -> Mono {
        let step = &self.step;
        match step.flow.deadline() {
            Some(at) if self.quest.way == Way::There => at.min(step.pulse),
            Some(at) => at,
            None => self.ends().unwrap_or(step.ask_at),
        }
    }

    /// When the step is over, once that is known.
    fn ends(&self) -> Option<Mono> {
        match self.step.counted {
            Some((_, _, at)) if self.quest.way == Way::Back => Some(at + GRACE),
            Some((_, _, at)) => Some(at),
            None => (self.step.asked.len() >= TRIES).then_some(self.step.ask_at),
        }
    }

    /// Goes on to the next step (`numbers` counts them) when one is over; what was found, when that was the last.
    pub(super) fn turn(&mut self, numbers: &mut u16, now: Mono) -> Option<Found> {
        if self.step.flow.due().is_some() || self.ends().is_none_or(|at| at > now) {
            return None;
        }
        let outcome = self.judge();
        let pace = |pace: u32| Some(pace.min(self.ladder.rate()));
        if let Ok((rate, of)) = outcome
            && pace(of) > self.found.pace
        {
            self.found = Found { rate: Some(rate), pace: pace(of) };
        }
        let late = outcome.is_ok() && self.step.flow.is_late();
        let limit = match (late, std::mem::replace(&mut self.late, late)) {
            (true, false) if now < self.quest.steps.until => None,
            (true, _) => Some(Limit::Sender),
            (false, _) => self.ladder.judge(outcome.map(drop), now),
        };
        let Some(limit) = limit else {
            *numbers = numbers.saturating_add(1);
            self.step = Step::new(*numbers, self.ladder.rate(), self.quest.long, now);
            return None;
        };
        Some(self.so_far(limit))
    }

    /// What was found until now, if it ends for this reason.
    pub(super) fn so_far(&self, limit: Limit) -> Found {
        Found { rate: self.found.rate.map(|rate| Rate { limit, ..rate }), ..self.found }
    }

    /// Whether the rate was carried, and how.
    fn judge(&self) -> Result<(Rate, u32), Limit> {
        let step = &self.step;
        let Some((counted, took, _)) = step.counted else { return Err(Limit::Loss) };
        let (of, arrived, span) = match self.quest.way {
            Way::There => (step.flow.sent, counted.received, Duration::from_micros(counted.micros.into())),
            Way::Back => (counted.answered, step.back.received, step.back.span()),
        };
        let (duplicates, reordered) = match self.quest.way {
            Way::There => (counted.duplicates, counted.reordered),
            Way::Back => (step.back.duplicates, step.back.reordered),
        };
        // Who counts may lie.
        let arrived = arrived.min(of);
        let loss = 1.0 - f64::from(arrived) / f64::from(of.max(1));
        if of == 0 || loss >= self.quest.allowed {
            return Err(Limit::Loss);
        }
        if took > self.quest.usual + SLOW {
            return Err(Limit::Delay);
        }
        let span = (span + step.flow.gap()).max(step.flow.span());
        let per_second = f64::from(arrived) / span.as_secs_f64();
        let mbit = per_second * f64::from(self.quest.bytes) * 8.0 / 1e6;
        let pace = u128::from(arrived) * 1_000_000_000 / span.as_nanos().max(1);
        let rate = Rate { per_second, mbit, loss, duplicates, reordered, limit: Limit::Time };
        Ok((rate, u32::try_from(pace).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEST: Quest = Quest {
        way: Way::There,
        bytes: 200,
        steps: Steps {
            first: 1_000,
            most: 16_000,
            least: 100,
            growth: 2,
            fine: 2,
            twice: true,
            until: Mono(Duration::from_secs(5)),
        },
        long: Duration::from_millis(100),
        usual: Duration::from_millis(2),
        allowed: 0.01,
    };

    /// A peer that gets every packet at once and counts it as `lie` says; this computer stands still in these steps.
    fn climb(quest: Quest, slow: &[u16], lie: impl Fn(u32) -> u32) -> Found {
        let (mut now, mut numbers, mut arrived) = (Mono::ZERO, 1, 0);
        let mut climb = Climb::new(quest, 1, now);
        for _ in 0..20_000 {
            while let Some((step, number, what, _)) = climb.poll(now) {
                arrived = if what == What::Load { number + 1 } else { arrived };
                let counted = Counted { received: lie(arrived), micros: 99_000, ..Counted::default() };
                let what = if what == What::Count { What::Counted(counted) } else { What::Back };
                climb.handle(Note { id: 1, step, number, what }, now);
                climb.handle(Note { id: 1, step: step + 1, number, what }, now);
            }
            if let Some(found) = climb.turn(&mut numbers, now) {
                return found;
            }
            let pause = u64::from(slow.contains(&numbers)) * 90;
            now = now.max(climb.deadline()) + Duration::from_millis(pause);
        }
        panic!("a climb that never ends")
    }

    #[test]
    fn one_moment_in_which_this_computer_stood_still_does_not_end_the_climb() {
        let limit = |slow: &[u16]| climb(QUEST, slow, |n| n).rate.unwrap();
        assert_eq!(limit(&[]).limit, Limit::Most);
        assert!((15_000.0..=16_000.0).contains(&limit(&[]).per_second));
        assert_eq!(limit(&[2]).limit, Limit::Most);
        let slow = limit(&[2, 3]);
        assert!(slow.limit == Limit::Sender && slow.per_second < 2_000.0, "{slow:?}");
    }

    #[test]
    fn who_counts_too_much_gains_nothing_and_who_counts_nothing_is_a_line_that_carries_nothing() {
        let most = climb(QUEST, &[], |_| u32::MAX).rate.unwrap();
        assert!(most.per_second <= 16_000.0 && most.loss == 0.0, "{most:?}");
        let none = climb(QUEST, &[], |_| 0);
        assert!(none.rate.is_none() && none.pace.is_none());
        let half = climb(QUEST, &[], |n| n - n.div_ceil(50));
        assert!(half.rate.is_none(), "a fiftieth is lost at every rate: {half:?}");
    }
}
