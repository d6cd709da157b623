//! Which rate is tried next: doubled until it is too much, then halfway between, so that a line is filled for moments only.

use crate::model::measure::Limit;
use crate::model::time::Mono;

/// How a ladder is climbed. Rates are packets in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    /// The first rate.
    pub(super) first: u32,
    /// The highest.
    pub(super) most: u32,
    /// Below this nothing is tried.
    pub(super) least: u32,
    /// How much faster the next step is.
    pub(super) growth: u32,
    /// How often the middle between good and bad is tried.
    pub(super) fine: u8,
    /// A rate is believed to be too high only when it was so twice: one bad moment is not the line's.
    pub(super) twice: bool,
    /// No step is begun after this.
    pub(super) until: Mono,
}

/// The state of a climb.
#[derive(Debug)]
pub(super) struct Ladder {
    steps: Steps,
    rate: u32,
    best: Option<u32>,
    /// The lowest rate that was too high, and why.
    bad: Option<(u32, Limit)>,
    again: bool,
}

impl Ladder {
    pub(super) fn new(steps: Steps) -> Self {
        let rate = steps.first.clamp(steps.least, steps.most.max(steps.least));
        Self { rate, best: None, bad: None, again: false, steps }
    }

    /// The rate to try.
    pub(super) const fn rate(&self) -> u32 {
        self.rate
    }

    /// The rate was carried, or not and why. `Some` ends the climb, with the reason why it went no higher.
    pub(super) fn judge(&mut self, outcome: Result<(), Limit>, now: Mono) -> Option<Limit> {
        let late = now >= self.steps.until;
        match outcome {
            Ok(()) if self.rate >= self.steps.most => return Some(Limit::Most),
            Ok(()) => self.best = Some(self.rate),
            Err(_) if self.steps.twice && !self.again && !late => {
                self.again = true;
                return None;
            }
            Err(why) => self.bad = Some((self.rate, why)),
        }
        self.again = false;
        let Some(next) = self.next() else { return Some(self.bad.map_or(Limit::Time, |(_, why)| why)) };
        self.rate = next;
        late.then(|| self.bad.map_or(Limit::Time, |(_, why)| why))
    }

    /// The next rate; `None` when nothing is left to try.
    fn next(&mut self) -> Option<u32> {
        match (self.best, self.bad) {
            (Some(best), Some((bad, _))) => {
                self.steps.fine = self.steps.fine.checked_sub(1)?;
                Some(best + bad.saturating_sub(best) / 2).filter(|rate| *rate > best)
            }
            (Some(best), None) => Some(best.saturating_mul(self.steps.growth).min(self.steps.most)),
            (None, _) => {
                (self.rate > self.steps.least).then(|| (self.rate / self.steps.growth).max(self.steps.least))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn steps() -> Steps {
        let until = Mono(Duration::from_secs(100));
        Steps { first: 200, most: 100_000, least: 25, growth: 2, fine: 2, twice: true, until }
    }

    /// Climbs on a line that carries so much, with a bad moment at this step; the best rate, why no higher, and the steps.
    fn climb(steps: Steps, line: u32, bad_moment: usize) -> (Option<u32>, Limit, usize) {
        let mut ladder = Ladder::new(steps);
        let mut best = None;
        for step in 1..100 {
            let good = ladder.rate() <= line && step != bad_moment;
            if good {
                best = Some(ladder.rate());
            }
            let outcome = if good { Ok(()) } else { Err(Limit::Delay) };
            if let Some(limit) = ladder.judge(outcome, Mono(Duration::from_secs(step as u64))) {
                return (best, limit, step);
            }
        }
        panic!("a climb that never ends")
    }

    #[test]
    fn every_line_is_found_to_an_eighth_in_few_steps() {
        for line in [25, 26, 99, 200, 300, 1000, 12_345, 99_000] {
            for bad_moment in 0..6 {
                let (best, limit, taken) = climb(steps(), line, bad_moment);
                let best = best.unwrap();
                assert!(best <= line && best * 4 >= line * 3, "{best} of {line}, bad moment {bad_moment}");
                assert!(limit == Limit::Delay && taken <= 17, "{taken} steps for {line}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_ladder_are_told() {
        assert_eq!(climb(steps(), u32::MAX, 3), (Some(100_000), Limit::Most, 11));
        assert_eq!(climb(steps(), 24, 0), (None, Limit::Delay, 8));
        let hurried = Steps { until: Mono(Duration::from_secs(3)), ..steps() };
        assert_eq!(climb(hurried, u32::MAX, 0), (Some(800), Limit::Time, 3));
        let narrow = Steps { first: 50_000, most: 10, ..steps() };
        assert_eq!(climb(narrow, u32::MAX, 0).1, Limit::Most, "the least is tried even above the most");
        let greedy = Steps { growth: u32::MAX, ..steps() };
        assert_eq!(climb(greedy, u32::MAX, 0).0, Some(100_000));
    }
}
