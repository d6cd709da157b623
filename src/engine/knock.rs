//! Knocking: finding members without a control plane, by asking at addresses that an invite or a beacon named.
//!
//! *Asking.* Every target is asked at once and then after growing pauses (100 ms, 200, 400 … 10 s). An answer ends the
//! asking: of an invite's addresses all at once, because they are one computer's. Those of a beacon and of silent
//! peers are given up after some tries; whoever named them names them again.
//!
//! *Answering.* A flood costs one cheap cipher per datagram up to a cap, a signature only after that and up to a lower
//! cap, and answers only a few per source and second. What is refused is the caller's to count.
//!
//! Inputs: `aim`, `answered`, the three `admit_*`. Outputs: `poll`. Deadline: `deadline`.

use super::lan::pace::Bucket;
use crate::model::time::{Deadline, Mono};
use crate::rules::ruleset::Pace;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Addresses that are asked at the same time.
const TARGETS: usize = 32;
/// The first pause after a question.
const FIRST: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_secs(10);
/// Questions to an address that a beacon or an old record named: 100 ms to 6.4 s, about 13 s in all.
const TRIES: u32 = 8;
/// Knocks that are opened in a second: about 2 ms of one core.
const OPENS: Pace = Pace { per_second: 1000, burst: 500 };
/// Signatures of knocks that are checked in a second: another 5 ms.
const SIGNATURES: Pace = Pace { per_second: 50, burst: 100 };
/// Answers in a second: 60 KB.
const ANSWERS: Pace = Pace { per_second: 50, burst: 100 };
/// Between two answers to one address.
const SAME_SOURCE: Duration = Duration::from_millis(80);
/// Addresses that were answered last.
const SOURCES: usize = 64;

/// Who named a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The invite: asked until somebody answers.
    Invite,
    /// A beacon on this network.
    Beacon,
    /// The record of a peer that is silent while no control plane works.
    Record,
}

#[derive(Debug)]
struct Target {
    to: SocketAddr,
    by: Named,
    tries: u32,
    next: Mono,
}

/// See the module's description.
#[derive(Debug)]
pub struct Knocker {
    targets: Vec<Target>,
    opens: Bucket,
    signatures: Bucket,
    answers: Bucket,
    answered: VecDeque<(SocketAddr, Mono)>,
    token: [u8; 8],
}

impl Knocker {
    /// One that asks nobody yet. `token` is random per start of the program.
    #[must_use]
    pub fn new(token: [u8; 8], now: Mono) -> Self {
        Self {
            targets: Vec::new(),
            opens: Bucket::new(OPENS, now),
            signatures: Bucket::new(SIGNATURES, now),
            answers: Bucket::new(ANSWERS, now),
            answered: VecDeque::new(),
            token,
        }
    }

    /// What our questions carry and answers to them must bring back.
    #[must_use]
    pub const fn token(&self) -> [u8; 8] {
        self.token
    }

    /// Asks at these addresses too, at once. An address that is being asked already keeps its pace.
    pub fn aim(&mut self, at: &[SocketAddr], by: Named, now: Mono) {
        for to in at {
            if self.targets.len() < TARGETS && self.targets.iter().all(|t| t.to != *to) {
                self.targets.push(Target { to: *to, by, tries: 0, next: now });
            }
        }
    }

    /// An answer to a question of ours came from there.
    pub fn answered(&mut self, from: SocketAddr) {
        let by = self.targets.iter().find(|t| t.to == from).map(|t| t.by);
        self.targets.retain(|t| t.to != from && !(by == Some(Named::Invite) && t.by == Named::Invite));
    }

    /// Nobody need be asked any more of those that this one named.
    pub fn forget(&mut self, by: Named) {
        self.targets.retain(|t| t.by != by);
    }

    /// The addresses that an invite named and that have not answered yet.
    pub fn unanswered(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.targets.iter().filter(|t| t.by == Named::Invite && t.tries > 0).map(|t| t.to)
    }

    /// Whom to ask now; call until `None`.
    pub fn poll(&mut self, now: Mono) -> Option<SocketAddr> {
        self.targets.retain(|t| t.by == Named::Invite || t.tries < TRIES || t.next > now);
        let target = self.targets.iter_mut().find(|t| t.next <= now)?;
        target.next = now + (FIRST * (1 << target.tries.min(10))).min(LONGEST);
        target.tries = target.tries.saturating_add(1);
        Some(target.to)
    }

    /// When `poll` has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.targets.iter().map(|t| t.next).min().map(|at| Deadline::new(at, "knock"))
    }

    /// Whether a knock may be opened.
    pub fn admit_open(&mut self, now: Mono) -> bool {
        self.opens.take(OPENS, now)
    }

    /// Whether the signature in it may be checked.
    pub fn admit_signature(&mut self, now: Mono) -> bool {
        self.signatures.take(SIGNATURES, now)
    }

    /// Whether a question from there may be answered.
    pub fn admit_answer(&mut self, from: SocketAddr, now: Mono) -> bool {
        while self.answered.front().is_some_and(|(_, at)| now.since(*at) >= SAME_SOURCE) {
            self.answered.pop_front();
        }
        if self.answered.iter().any(|(to, _)| *to == from) || !self.answers.take(ANSWERS, now) {
            return false;
        }
        if self.answered.len() >= SOURCES {
            self.answered.pop_front();
        }
        self.answered.push_back((from, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 5], n))
    }

    fn asked(k: &mut Knocker, until: Duration) -> Vec<(SocketAddr, Duration)> {
        let mut asked = Vec::new();
        while let Some(d) = k.deadline().filter(|d| d.at.0 <= until) {
            while let Some(to) = k.poll(d.at) {
                asked.push((to, d.at.0));
            }
        }
        asked
    }

    #[test]
    fn an_invite_is_asked_with_growing_pauses_and_for_ever() {
        let mut k = Knocker::new([0; 8], Mono::ZERO);
        k.aim(&[at(1)], Named::Invite, Mono::ZERO);
        let times: Vec<u128> =
            asked(&mut k, Duration::from_secs(60)).iter().map(|(_, t)| t.as_millis()).collect();
        assert_eq!(times[..5], [0, 100, 300, 700, 1500]);
        assert_eq!(times.len(), 12, "7 questions in 13 s, then one in 10 s: {times:?}");
    }

    #[test]
    fn one_answer_ends_the_asking_of_an_invite_and_only_of_it() {
        let mut k = Knocker::new([0; 8], Mono::ZERO);
        k.aim(&[at(1), at(2)], Named::Invite, Mono::ZERO);
        k.aim(&[at(3), at(1)], Named::Beacon, Mono::ZERO);
        assert_eq!(asked(&mut k, Duration::ZERO).len(), 3);
        assert_eq!(k.unanswered().count(), 2);
        k.answered(at(2));
        assert_eq!(k.unanswered().count(), 0);
        let left = asked(&mut k, Duration::from_secs(100));
        assert!(left.iter().all(|(to, _)| *to == at(3)));
        assert_eq!(left.len() + 1, 8, "and a beacon's address is given up");
        assert_eq!(k.deadline(), None);
    }

    #[test]
    fn a_flood_of_knocks_is_answered_a_few_times_a_second() {
        let mut k = Knocker::new([0; 8], Mono::ZERO);
        let (mut opened, mut checked, mut one, mut many) = (0, 0, 0, 0);
        for ms in 0..10_000u32 {
            let now = Mono(Duration::from_millis(u64::from(ms)));
            for n in 0..4u16 {
                opened += u32::from(k.admit_open(now));
                checked += u32::from(k.admit_signature(now));
                let far = SocketAddr::from(([198, 51, (ms % 250) as u8, n.to_le_bytes()[0]], 4000));
                many += u32::from(k.admit_answer(far, now));
            }
            one += u32::from(ms < 1000 && k.admit_answer(at(1), now));
        }
        assert!(opened <= 10_500 && checked <= 600, "{opened} {checked}");
        assert!(many + one <= 600 && one <= 13, "{many} {one}");
        assert!(k.answered.len() <= SOURCES);
    }
}
