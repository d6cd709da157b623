//! What must happen, kept apart from how: every packet that a game says is numbered, and this file knows who is to
//! hear it, how often, and from which address.
//!
//! An emission is *firm* for a listener when the weather was fair and the way was proven when it was said, and stayed so
//! for a moment after: then exactly one copy must arrive. Everything else may be lost, but never arrives twice, never
//! with another's address, never where it was not meant to be.

use super::game::What;
use super::repeats::Repeats;
use crate::model::time::Mono;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A program on a computer.
pub type Place = (usize, usize);

/// How long after it was said a packet may still be spoilt by what happens to one of the two computers.
const IN_FLIGHT: Duration = Duration::from_secs(3);
/// Violations that are kept; the rest is counted.
const KEPT: usize = 20;

/// Something a program said.
#[derive(Debug, Clone)]
pub struct Emission {
    /// When.
    pub at: Mono,
    /// Who.
    pub by: Place,
    /// What it is.
    pub what: What,
    /// Its number; several emissions share one when a game always says the same.
    pub mark: u64,
    /// The port it left from.
    pub port: u16,
    /// The one computer that may get it, for what is said to one.
    pub to: Option<usize>,
    /// Whom it must reach, exactly once.
    pub due: Vec<Place>,
    /// Whether nobody may get it through the tunnel (a closed door).
    pub forbidden: bool,
}

/// Something a program heard.
#[derive(Debug, Clone)]
pub struct Copy {
    /// When.
    pub at: Mono,
    /// Who.
    pub place: Place,
    /// Through the tunnel, not by a wire of its own.
    pub tunnelled: bool,
    /// What the packet gave as its source.
    pub source: SocketAddr,
    /// The node here said it once more by itself (`repeats`): extra on purpose, nobody's due.
    pub again: bool,
}

/// A listener that must hear of a running game soon.
#[derive(Debug, Clone, Copy)]
struct Promise {
    at: Mono,
    game: Place,
    listener: Place,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Mono,
    /// Which rule, and what broke it.
    pub what: String,
}

/// All that was said and heard.
#[derive(Debug, Default)]
pub struct Oracle {
    emissions: Vec<Emission>,
    by_mark: BTreeMap<u64, Vec<usize>>,
    copies: BTreeMap<u64, Vec<Copy>>,
    promises: Vec<Promise>,
    next: u64,
    violations: Vec<Violation>,
    broken: usize,
    /// What nodes say again by themselves.
    pub repeats: Repeats,
}

impl Oracle {
    /// A number for something new.
    pub const fn mark(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A rule is broken.
    pub fn violate(&mut self, at: Mono, what: impl Into<String>) {
        self.broken += 1;
        if self.violations.len() < KEPT {
            self.violations.push(Violation { at, what: what.into() });
        }
    }

    /// The broken rules, and how many more there were.
    #[must_use]
    pub fn verdict(&self) -> (&[Violation], usize) {
        (&self.violations, self.broken - self.violations.len())
    }

    /// Something is said.
    pub fn said(&mut self, emission: Emission) {
        self.by_mark.entry(emission.mark).or_default().push(self.emissions.len());
        self.emissions.push(emission);
    }

    /// Everybody who said this, the latest first: an answer carries the number of its question, and several may answer.
    pub fn sayers(&self, mark: u64, what: What) -> impl Iterator<Item = &Emission> {
        let said = self.by_mark.get(&mark).into_iter().flatten().rev();
        said.filter_map(|i| self.emissions.get(*i)).filter(move |e| e.what == what)
    }

    /// How many packets a program heard, without those that its node said again.
    #[must_use]
    pub fn heard_by(&self, place: Place) -> usize {
        self.copies.values().flatten().filter(|c| c.place == place && !c.again).count()
    }

    /// How many its node said again.
    #[must_use]
    pub fn heard_again_by(&self, place: Place) -> usize {
        self.copies.values().flatten().filter(|c| c.place == place && c.again).count()
    }

    /// The packets that a program heard since a moment.
    pub fn copies_since(&self, place: Place, since: Duration) -> impl Iterator<Item = &Copy> {
        self.copies.values().flatten().filter(move |c| c.place == place && c.at.0 >= since)
    }

    /// How long what was said once, and only once, took to each program that heard it through the tunnel.
    pub fn delays(&self, what: What) -> impl Iterator<Item = (Place, Duration)> {
        let alone = self.by_mark.iter().filter_map(move |(mark, said)| {
            let said = said.iter().filter_map(|i| self.emissions.get(*i)).find(|e| e.what == what)?;
            Some((said.at, self.copies.get(&key(*mark, what))?))
        });
        alone.flat_map(|(said, copies)| {
            copies.iter().filter(|c| c.tunnelled).map(move |c| (c.place, c.at.since(said)))
        })
    }

    /// When a program last said something.
    #[must_use]
    pub fn last_said(&self, by: Place) -> Option<Mono> {
        self.emissions.iter().rev().find(|e| e.by == by).map(|e| e.at)
    }

    /// Something is heard: counts it, and checks that it does not come too often. `spare` is how many copies more than were
    /// said may come (an announcement remembered for those who come late).
    pub fn heard(&mut self, mark: u64, what: What, copy: Copy, spare: usize) {
        let said = self.by_mark.get(&mark).into_iter().flatten();
        let times = said.filter(|i| self.emissions[**i].what == what).count();
        let place = copy.place;
        let at = copy.at;
        let copies = self.copies.entry(key(mark, what)).or_default();
        let again = copy.again;
        copies.push(copy);
        let count = copies.iter().filter(|c| c.place == place && !c.again).count();
        if !again && count > times + spare {
            let text = format!("{what:?} {mark} was said {times} times and heard {count} times by {place:?}");
            self.violate(at, text);
        }
    }

    /// Something happened to a computer: what was under way from or to it may be lost now.
    pub fn unsettle(&mut self, pc: usize, now: Mono) {
        let recent = self.emissions.iter_mut().rev().take_while(|e| now.since(e.at) <= IN_FLIGHT);
        for emission in recent {
            if emission.by.0 == pc {
                emission.due.clear();
            } else {
                emission.due.retain(|place| place.0 != pc);
            }
        }
        self.promises.retain(|p| now.since(p.at) > IN_FLIGHT || (p.game.0 != pc && p.listener.0 != pc));
    }

    /// The weather turned bad, or the world ends here: what is under way may be lost.
    pub fn unsettle_all(&mut self, now: Mono) {
        let recent = self.emissions.iter_mut().rev().take_while(|e| now.since(e.at) <= IN_FLIGHT);
        recent.for_each(|e| e.due.clear());
        self.promises.retain(|p| now.since(p.at) > IN_FLIGHT);
    }

    /// From now on it is owed that `listener` hears of `game` within two seconds.
    pub fn promise(&mut self, game: Place, listener: Place, at: Mono) {
        self.promises.push(Promise { at, game, listener });
    }

    /// Whether a computer heard an announcement of this game through the tunnel since then.
    #[must_use]
    pub fn heard_lately(&self, game: Place, pc: usize, since: Mono) -> bool {
        let recent = self.emissions.iter().rev().take_while(|e| e.at >= since);
        let mut marks = recent.filter(|e| e.by == game && e.what == What::Announcement).map(|e| e.mark);
        marks.any(|mark| {
            let copies = self.copies.get(&key(mark, What::Announcement)).into_iter().flatten();
            copies.into_iter().any(|c| c.place.0 == pc && c.tunnelled && c.at >= since)
        })
    }

    /// How many times each copy count was owed: for the summary.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.emissions.iter().map(|e| e.due.len()).sum::<usize>() + self.promises.len()
    }

    /// How many copies arrived.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.copies.values().map(Vec::len).sum()
    }

    /// How many things were said.
    #[must_use]
    pub fn emissions(&self) -> usize {
        self.emissions.len()
    }

    /// At the end: everything owed must have arrived.
    pub fn settle(&mut self, late: Duration) {
        for (mark, what, listener, times, first) in self.debts() {
            let copies = self.copies.get(&key(mark, what)).into_iter().flatten();
            let got = copies.filter(|c| c.place == listener && c.at >= first && !c.again).count();
            if got < times {
                let by = self.sayers(mark, what).next().map(|e| e.by);
                let text = format!(
                    "{what:?} {mark} of {by:?} owed {times} times to {listener:?}, heard {got} times"
                );
                self.violate(first, text);
            }
        }
        for p in std::mem::take(&mut self.promises) {
            let (from, until) = (p.at - IN_FLIGHT, p.at + late);
            let marks = self.emissions.iter().filter(|e| e.by == p.game && e.what == What::Announcement);
            let kept = marks.filter_map(|e| self.copies.get(&key(e.mark, What::Announcement))).flatten();
            if !kept.clone().any(|c| c.place == p.listener && (from..=until).contains(&c.at)) {
                let text =
                    format!("the game of {:?} was not in the list of {:?} in time", p.game, p.listener);
                self.violate(p.at, text);
            }
        }
    }

    /// What is owed to whom: mark, kind, listener, how often, since when. Emissions of one mark are one debt.
    fn debts(&self) -> Vec<(u64, What, Place, usize, Mono)> {
        let mut debts: BTreeMap<(u64, What, Place), (usize, Mono)> = BTreeMap::new();
        for e in &self.emissions {
            for place in &e.due {
                debts.entry((e.mark, e.what, *place)).or_insert((0, e.at)).0 += 1;
            }
        }
        debts
            .into_iter()
            .map(|((mark, what, place), (times, first))| (mark, what, place, times, first))
            .collect()
    }
}

/// An answer carries the number of its question, so the kind is part of the key.
const fn key(mark: u64, what: What) -> u64 {
    mark << 3 | what as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    fn say(oracle: &mut Oracle, mark: u64, ms: u64, due: &[Place]) {
        oracle.said(Emission {
            at: at(ms),
            by: (0, 0),
            what: What::Announcement,
            mark,
            port: 5,
            to: None,
            due: due.to_vec(),
            forbidden: false,
        });
    }

    fn hear(oracle: &mut Oracle, mark: u64, ms: u64, place: Place) {
        let copy =
            Copy { at: at(ms), place, tunnelled: true, source: "10.1.2.3:5".parse().unwrap(), again: false };
        oracle.heard(mark, What::Announcement, copy, 0);
    }

    fn broken(oracle: &Oracle) -> usize {
        oracle.verdict().0.len() + oracle.verdict().1
    }

    #[test]
    fn one_copy_each_is_right_and_anything_else_is_not() {
        let mut o = Oracle::default();
        say(&mut o, 1, 0, &[(1, 0), (2, 0)]);
        hear(&mut o, 1, 20, (1, 0));
        hear(&mut o, 1, 20, (2, 0));
        o.settle(Duration::ZERO);
        assert_eq!(broken(&o), 0);
        hear(&mut o, 1, 30, (2, 0));
        assert_eq!(broken(&o), 1, "twice");
        say(&mut o, 2, 40, &[(1, 0)]);
        o.settle(Duration::ZERO);
        assert_eq!(broken(&o), 2, "never");
    }

    #[test]
    fn a_game_that_repeats_itself_is_owed_every_repeat() {
        let mut o = Oracle::default();
        for i in 0..4 {
            say(&mut o, 1, i * 1500, &[(1, 0)]);
            if i != 2 {
                hear(&mut o, 1, i * 1500 + 10, (1, 0));
            }
        }
        assert_eq!(broken(&o), 0);
        o.settle(Duration::ZERO);
        assert_eq!(broken(&o), 1, "one repeat was swallowed");
    }

    #[test]
    fn what_was_under_way_when_a_computer_died_is_not_owed() {
        let mut o = Oracle::default();
        say(&mut o, 1, 0, &[(1, 0)]);
        say(&mut o, 2, 4000, &[(1, 0), (2, 0)]);
        o.unsettle(1, at(5000));
        hear(&mut o, 2, 4010, (2, 0));
        o.settle(Duration::ZERO);
        assert_eq!(broken(&o), 1, "only the old one is still owed");
    }

    #[test]
    fn a_promise_is_kept_by_any_announcement_in_time() {
        let mut o = Oracle::default();
        say(&mut o, 1, 0, &[]);
        o.promise((0, 0), (1, 0), at(1000));
        hear(&mut o, 1, 2500, (1, 0));
        o.promise((0, 0), (2, 0), at(1000));
        o.settle(Duration::from_secs(2));
        assert_eq!(broken(&o), 1, "the second listener heard nothing");
    }
}
