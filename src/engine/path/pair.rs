//! One way to a peer under test: when to ping it, what came back, what it is worth.

use super::route::Route;
use crate::model::status::PathKind;
use crate::model::time::Mono;
use std::time::Duration;

/// Between the first pings of an untried way; doubles with every silence. Seven pings reach over the round trips that
/// two ends need to hear of each other's addresses.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Silent pings after which a way rests until something changes (or its turn comes, once a minute).
pub(super) const GIVE_UP: u32 = 7;
/// Between pings of a proven way that is not in use.
pub(super) const SPARE_WAIT: Duration = Duration::from_secs(20);
/// Pings whose answers are still good.
const REMEMBERED: usize = 4;
/// A moment that never comes.
const NEVER: Mono = Mono(Duration::MAX);

/// How a way to a peer is doing.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Which way.
    pub route: Route,
    /// Its tier.
    pub kind: PathKind,
    /// Whether it follows from the peer's record; others were heard from and may be forgotten.
    pub named: bool,
    /// When a ping was last answered.
    pub proven: Option<Mono>,
    /// When anything authentic last came by it.
    pub heard: Option<Mono>,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Pings in a row without an answer.
    pub silent: u32,
    /// Share of lost pings, smoothed, in thousandths.
    pub loss: u32,
    /// When to ping next.
    pub next: Mono,
    /// When it was asked last.
    asked: Option<Mono>,
    /// The next silence is no news: everything was in doubt.
    forgiven: bool,
    /// The newest pings without an answer, the newest last: an answer may take longer than the wait for the next ping.
    outstanding: [Option<(u64, Mono)>; REMEMBERED],
}

impl Pair {
    /// An untried way, to be pinged at once.
    #[must_use]
    pub const fn new(route: Route, kind: PathKind, named: bool, now: Mono) -> Self {
        Self {
            route,
            kind,
            named,
            proven: None,
            heard: None,
            rtt: Duration::ZERO,
            silent: 0,
            loss: 0,
            next: now,
            asked: None,
            forgiven: false,
            outstanding: [None; REMEMBERED],
        }
    }

    /// A ping goes out; the one before it counts as lost if it was not answered.
    pub fn pinged(&mut self, number: u64, now: Mono, wait: Option<Duration>) {
        let waited = self.waits() && !std::mem::take(&mut self.forgiven);
        self.asked = Some(now);
        self.outstanding.rotate_left(1);
        if let Some(newest) = self.outstanding.last_mut() {
            *newest = Some((number, now));
        }
        if waited {
            self.silent += 1;
            self.loss = (self.loss * 7 + 1000) / 8;
        }
        self.next = match wait {
            Some(wait) => now + wait,
            None if self.silent >= GIVE_UP => NEVER,
            None => now + FIRST_WAIT * (1 << self.silent.min(6)),
        };
    }

    /// A pong; true when it answers one of this pair's newest pings.
    pub fn ponged(&mut self, number: u64, now: Mono, wait: Duration) -> bool {
        let asked = self.outstanding.iter().flatten().find(|(n, _)| *n == number);
        let Some(&(_, sent)) = asked else { return false };
        // Those before it are lost or will only say the same; those after it are still waited for.
        for old in &mut self.outstanding {
            old.take_if(|(n, _)| *n <= number);
        }
        let rtt = now.since(sent);
        self.rtt = if self.proven.is_some() { (self.rtt * 3 + rtt) / 4 } else { rtt };
        self.proven = Some(now);
        self.heard = Some(now);
        self.silent = 0;
        self.loss = self.loss * 7 / 8;
        self.next = (now + wait).on_beat(wait);
        true
    }

    /// Starts over (something changed): asked at once, and patiently again. An answer that is under way still counts.
    pub const fn doubt(&mut self, now: Mono) {
        self.silent = 0;
        self.forgiven = true;
        self.next = now;
    }

    /// It shows signs of life: asked at once, or when the answer to the last question counts as missing. More often, and the answer
    /// of one that is far away would come after its question was forgotten.
    pub fn nudge(&mut self, now: Mono) -> bool {
        let at = self.asked.map_or(now, |asked| now.max(asked + self.patience()));
        let sooner = at < self.next;
        self.next = self.next.min(at);
        sooner
    }

    /// Not asked any more until something changes.
    pub fn rest(&mut self) {
        self.next = NEVER;
        self.outstanding = [None; REMEMBERED];
    }

    /// Whether it was ever asked.
    #[must_use]
    pub const fn asked_before(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether it was asked in vain and is not asked any more.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.next == NEVER
    }

    /// Whether it rests because it was asked in vain, not because it is not needed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.rests() && (self.proven.is_none() || self.silent > 0)
    }

    /// Whether a ping waits for its answer.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self.outstanding.last(), Some(Some(_)))
    }

    /// How long an answer may take before it counts as missing: half more than the usual time, and some for jitter.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let usual = if self.proven.is_some() { self.rtt } else { Duration::from_millis(200) };
        (usual * 3 / 2 + Duration::from_millis(40)).clamp(Duration::from_millis(100), Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn pair() -> Pair {
        Pair::new(Route::main("192.0.2.1:1".parse().unwrap()), PathKind::Direct, true, Mono::ZERO)
    }

    #[test]
    fn silence_ends_the_pings_within_some_seconds() {
        let mut p = pair();
        let (mut now, mut count) = (Mono::ZERO, 0);
        while !p.rests() {
            p.pinged(count, now, None);
            now = if p.rests() { now } else { p.next };
            count += 1;
        }
        assert_eq!(count, 8);
        assert!(now.0 > Duration::from_secs(5) && now.0 < Duration::from_secs(15), "{now:?}");
        p.doubt(now);
        assert!(!p.rests() && p.next == now);
    }

    #[test]
    fn a_far_peer_that_is_heard_all_the_time_is_proven() {
        for rtt in [1, 40, 300, 600, 1_100] {
            let (mut p, mut answers, mut asked) = (pair(), VecDeque::new(), 0);
            let proven = (0..10_000).find(|ms| {
                let now = Mono(Duration::from_millis(*ms));
                if p.rests() {
                    p.doubt(now);
                }
                p.nudge(now);
                if p.next <= now {
                    asked += 1;
                    p.pinged(asked, now, None);
                    answers.push_back((ms + rtt, asked));
                }
                let answer = answers.pop_front_if(|(at, _)| *at <= *ms);
                answer.is_some_and(|(_, number)| p.ponged(number, now, SPARE_WAIT))
            });
            assert!(
                proven.is_some_and(|ms| ms <= rtt + 100),
                "{rtt} ms away: {proven:?} after {asked} pings"
            );
        }
    }

    #[test]
    fn a_late_answer_counts_and_each_only_once() {
        let mut p = pair();
        for n in 1..=3 {
            p.pinged(n, Mono(FIRST_WAIT * u32::try_from(n).unwrap()), None);
        }
        assert!(!p.ponged(9, Mono(FIRST_WAIT * 3), SPARE_WAIT));
        assert!(p.ponged(2, Mono(FIRST_WAIT * 4), SPARE_WAIT));
        assert_eq!((p.rtt, p.silent), (FIRST_WAIT * 2, 0));
        assert!(!p.ponged(1, Mono(FIRST_WAIT * 5), SPARE_WAIT), "older than what was answered");
        assert!(p.waits() && p.ponged(3, Mono(FIRST_WAIT * 5), SPARE_WAIT));
        assert!(!p.ponged(3, Mono(FIRST_WAIT * 5), SPARE_WAIT) && !p.waits());
    }
}
