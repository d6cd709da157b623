//! This computer's own games as the party is told of them, and what each peer was told.
//!
//! Most games are silent until somebody asks. So a node says of its own games, as data, what they last said of
//! themselves: to everybody who plays the same when it changes, and to whoever comes. It is the whole list every time, with a
//! number: what is not in it any more has closed. `Told` sends until the number comes back or patience ends.
//!
//! A game has closed when it said so, or when it has been silent for too long: three times its rhythm where it has one.

use super::info::GameInfo;
use crate::model::time::{Deadline, Mono};
use crate::rules::ruleset::{ProfileIx, Transport};
use std::collections::BTreeMap;
use std::time::Duration;

/// Games of one computer that are told.
pub const OWN_GAMES: usize = 16;
/// Words and players change often in some games; they are told this often. Games that open or close are told at once.
const CALM: Duration = Duration::from_secs(1);
/// Waits after each time the list was sent to a peer without an answer.
const PATIENCE: [Duration; 7] = [
    Duration::from_millis(150),
    Duration::from_millis(150),
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Lists in a row that a peer said nothing to: it is of a version that does not know them.
const UNHEARD: u8 = 2;

/// What makes two packets the same game.
pub type OwnKey = (ProfileIx, Transport, u16);

/// How often a game says that it lives, and for how long one word holds.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    /// How long a game stays in lists after its last word.
    pub life: Duration,
    /// Between its announcements, as its profile says.
    pub rhythm: Option<Duration>,
}

/// A game of this computer.
#[derive(Debug)]
pub struct Mine {
    /// What it says of itself.
    pub info: GameInfo,
    last: Mono,
    /// The last wait between two words that was no burst.
    pause: Duration,
    until: Mono,
    told: Mono,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Listing {
    games: BTreeMap<OwnKey, Mine>,
    number: u64,
    told: Mono,
    due: Option<Mono>,
}

impl Listing {
    /// A game gave a sign of life; without words they are what they were. How long this one holds.
    pub fn lives(&mut self, key: OwnKey, info: Option<GameInfo>, pulse: Pulse, now: Mono) -> Duration {
        let full = self.games.len() >= OWN_GAMES;
        let Some(mine) = self.games.get_mut(&key) else {
            if !full {
                let mine = Mine {
                    info: info.unwrap_or_default(),
                    last: now,
                    pause: Duration::ZERO,
                    until: now + pulse.life,
                    told: now,
                };
                self.games.insert(key, mine);
                self.due = Some(now);
            }
            return pulse.life;
        };
        let changed = info.is_some_and(|info| mine.info.update(info));
        let wait = now.since(mine.last);
        mine.last = now;
        let holds = match pulse.rhythm {
            Some(rhythm) => {
                // A profile may be wrong about the rhythm, and a packet said twice is no rhythm.
                if wait >= rhythm / 2 {
                    mine.pause = wait;
                }
                if mine.pause.is_zero() { pulse.life } else { (3 * rhythm.max(mine.pause)).min(pulse.life) }
            }
            None => pulse.life,
        };
        mine.until = now + holds;
        // Peers hold on to a game for twice its life (`games`): in time they are told that it lives.
        if changed || now.since(mine.told) >= pulse.life {
            let calm = (self.told + CALM).max(now);
            self.due = Some(self.due.map_or(calm, |due| due.min(calm)));
        }
        holds
    }

    /// A game of this profile gave a sign of life that says no more than that.
    pub fn profile_lives(&mut self, profile: ProfileIx, pulse: Pulse, now: Mono) {
        for (_, mine) in self.games.iter_mut().filter(|((p, ..), _)| *p == profile) {
            mine.until = mine.until.max(now + pulse.life);
            if now.since(mine.told) >= pulse.life {
                self.due = Some(self.due.map_or(now, |due| due.min(now)));
            }
        }
    }

    /// A game said that it closes: the one at this port, or all of this profile.
    pub fn closes(&mut self, profile: ProfileIx, at: Option<(Transport, u16)>, now: Mono) {
        let before = self.games.len();
        self.games.retain(|(p, transport, port), _| {
            *p != profile || at.is_some_and(|at| at != (*transport, *port))
        });
        if self.games.len() != before {
            self.due = Some(now);
        }
    }

    /// Takes out what fell silent, and begins a new list when there is something to tell.
    pub fn turn(&mut self, now: Mono) {
        let before = self.games.len();
        self.games.retain(|_, mine| mine.until > now);
        if self.games.len() == before && self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        self.told = now;
        self.number += 1;
        self.games.values_mut().for_each(|mine| mine.told = now);
    }

    /// The number of the newest list; 0 when there never was a game.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The games.
    pub fn games(&self) -> impl Iterator<Item = (&OwnKey, &Mine)> {
        self.games.iter()
    }

    /// The rules are others now: profiles have moved, or are gone.
    pub fn renumber(&mut self, moved: impl Fn(ProfileIx) -> Option<ProfileIx>, now: Mono) {
        let before = std::mem::take(&mut self.games);
        let count = before.len();
        let kept = before.into_iter().filter_map(|((p, t, port), mine)| Some(((moved(p)?, t, port), mine)));
        self.games = kept.collect();
        if self.games.len() != count {
            self.due = Some(now);
        }
    }

    /// When a game has been silent for too long, or a list is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let silent = self.games.values().map(|mine| mine.until);
        silent.chain(self.due).min().map(|at| Deadline::new(at, "own games"))
    }
}

/// What one peer was told, and what is to be told to it.
#[derive(Debug, Default)]
pub struct Told {
    number: u64,
    tries: usize,
    next: Mono,
    seen: Option<u64>,
    unheard: u8,
    /// It was told of a game, so it is told that there is none any more.
    pub ever: bool,
    /// Its own list with this number came: it is to be told so.
    pub owes: Option<u64>,
}

impl Told {
    /// When the list with this number is to be sent (again).
    #[must_use]
    pub fn due(&self, number: u64) -> Option<Mono> {
        if number == 0 || self.seen == Some(number) || self.unheard >= UNHEARD {
            None
        } else if self.number != number {
            Some(Mono::ZERO)
        } else {
            (self.tries < PATIENCE.len()).then_some(self.next)
        }
    }

    /// It was sent.
    pub fn sent(&mut self, number: u64, now: Mono) {
        if self.number != number {
            let gave_up = self.tries >= PATIENCE.len() && self.seen != Some(self.number);
            self.unheard = if gave_up { self.unheard + 1 } else { self.unheard };
            (self.number, self.tries) = (number, 0);
        }
        self.next = now + PATIENCE.get(self.tries).copied().unwrap_or_default();
        self.tries += 1;
    }

    /// It arrived (or there is nothing to tell). Words about older lists come late and change nothing.
    pub fn arrived(&mut self, number: u64) {
        if self.number <= number {
            self.seen = Some(number);
            self.unheard = 0;
        }
    }

    /// The peer may know nothing: it is told anew.
    pub fn renew(&mut self) {
        *self = Self { ever: self.ever, owes: self.owes, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: OwnKey = (ProfileIx(0), Transport::Tcp, 25565);
    const PULSE: Pulse = Pulse { life: Duration::from_secs(8), rhythm: Some(Duration::from_millis(1500)) };

    fn at(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    fn info(title: &str) -> Option<GameInfo> {
        Some(GameInfo { title: title.into(), ..GameInfo::default() })
    }

    fn turn(l: &mut Listing, ms: u64) -> u64 {
        l.turn(at(ms));
        l.number()
    }

    #[test]
    fn opening_and_closing_are_told_at_once_and_words_in_calm() {
        let mut l = Listing::default();
        assert_eq!(turn(&mut l, 0), 0, "there is nothing to tell");
        l.lives(KEY, info("a"), PULSE, at(0));
        assert_eq!(turn(&mut l, 0), 1);
        l.lives(KEY, info("b"), PULSE, at(200));
        assert_eq!(turn(&mut l, 200), 1);
        assert_eq!(l.deadline().unwrap().at, at(1000));
        assert_eq!(turn(&mut l, 1000), 2);
        l.closes(ProfileIx(0), Some((Transport::Tcp, 1)), at(1100));
        l.closes(ProfileIx(1), None, at(1100));
        assert_eq!(turn(&mut l, 1100), 2, "another game closed");
        l.closes(ProfileIx(0), None, at(1100));
        assert_eq!((turn(&mut l, 1100), l.games().count()), (3, 0));
    }

    #[test]
    fn silence_of_three_rhythms_closes_a_game_and_a_slower_game_is_given_its_time() {
        for (pause, silence) in [(1500, 4500), (2500, 3 * 2499), (5000, 8000)] {
            let mut l = Listing::default();
            for n in 0..10 {
                // Said twice each time.
                l.lives(KEY, info("a"), PULSE, at(n * pause));
                l.lives(KEY, None, PULSE, at(n * pause + 1));
                turn(&mut l, n * pause + 1);
            }
            let last = 9 * pause + 1;
            turn(&mut l, last + silence - 1);
            assert_eq!(l.games().count(), 1, "{pause}");
            let number = l.number();
            assert_eq!((turn(&mut l, last + silence), l.games().count()), (number + 1, 0), "{pause}");
        }
    }

    #[test]
    fn a_game_that_lives_on_is_told_again_once_in_a_life() {
        let mut l = Listing::default();
        for ms in (0..80_000).step_by(1500) {
            l.lives(KEY, info("a"), PULSE, at(ms));
            turn(&mut l, ms);
        }
        assert_eq!(l.number(), 9);
    }

    #[test]
    fn a_list_is_sent_until_it_arrives_and_who_never_answers_is_left_in_peace() {
        let mut t = Told::default();
        assert_eq!(t.due(0), None);
        let mut tries = 0;
        for number in 1..9 {
            while let Some(due) = t.due(number) {
                t.sent(number, due.max(at(1)));
                tries += 1;
            }
        }
        assert_eq!(tries, 3 * PATIENCE.len() - 6, "the third list is the last, and it is sent once");
        t.renew();
        t.sent(9, at(0));
        assert_eq!(t.due(9), Some(at(150)));
        t.arrived(9);
        assert_eq!((t.due(9), t.due(10)), (None, Some(Mono::ZERO)));
    }

    #[test]
    fn a_computer_has_no_more_games_than_can_be_told() {
        let mut l = Listing::default();
        (2000..9000).for_each(|port| {
            l.lives((ProfileIx(0), Transport::Udp, port), None, PULSE, at(0));
        });
        assert_eq!(l.games().count(), OWN_GAMES);
    }
}
