//! Who announced what: this computer's own games (to hand to peers that come late), and the peers' (to show to people).

use super::info::GameInfo;
use crate::model::id::{CardId, PeerId};
use crate::model::limits::ANNOUNCEMENTS;
use crate::model::time::{Deadline, Mono};
use crate::rules::ruleset::{ProfileIx, RuleIx, Transport};
use crate::wire::frame::Class;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Games that one peer may have in our list.
pub const GAMES_OF_ONE: usize = 32;
/// How often a change of nothing but the number of players is told.
const PLAYERS: Duration = Duration::from_secs(10);
/// How often a change of a title, map or version is told: a packet a millisecond with ever new titles is no news.
const WORDS: Duration = Duration::from_millis(500);
/// A game that its own computer vouches for (`listing`) outlives its last word this many times longer: announcements get
/// lost, and its end is told.
const VOUCHED: u32 = 2;

/// The newest announcement of a game on this computer, ready to be sent again.
#[derive(Debug, Clone)]
pub struct OwnGame {
    /// How it was addressed.
    pub class: Class,
    /// The whole packet, its source already the virtual address.
    pub packet: Vec<u8>,
    /// Whose rule matched it.
    pub profile: ProfileIx,
    /// By which card it left; `None` is the tunnel device.
    pub card: Option<CardId>,
    /// Its sequence number: sent again under the same number, it is new only to who has not had it.
    pub number: u64,
    /// Where the game is to be joined, as far as the announcement says.
    pub joined_at: Option<(Transport, u16)>,
    until: Mono,
}

/// A game of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardGame {
    /// What it says of itself.
    pub info: GameInfo,
    /// In the list since then.
    pub since: Mono,
    until: Mono,
    /// Its last own word.
    heard: Option<Mono>,
    /// Its computer vouched for it.
    listed: bool,
    /// What people were told, and when.
    told: (GameInfo, Mono),
}

/// What makes two sightings the same game.
pub type HeardKey = (PeerId, ProfileIx, Transport, u16);

/// Which packet it was: who sent it, by which rule, from which port. The same words need no second reading.
pub type Sighting = (PeerId, RuleIx, u16);

/// What a sighting means to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing that they do not know.
    Old,
    /// The game is another than they were told.
    Changed,
    /// The game is new.
    New,
}

/// Both lists.
#[derive(Debug, Default)]
pub struct Games {
    own: BTreeMap<(RuleIx, u16), OwnGame>,
    heard: BTreeMap<HeardKey, HeardGame>,
    sightings: BTreeMap<Sighting, (u64, HeardKey)>,
}

impl Games {
    /// An announcement left this computer; the port it left from tells two games of one kind apart.
    pub fn announced(&mut self, rule: RuleIx, from_port: u16, game: OwnGame) {
        let key = (rule, from_port);
        if self.own.len() < ANNOUNCEMENTS || self.own.contains_key(&key) {
            self.own.insert(key, game);
        }
    }

    /// The same announcement again, word for word: keeps it alive without reading it anew.
    pub fn announced_again(
        &mut self,
        rule: RuleIx,
        packet: (u16, &[u8], Option<CardId>, u64),
        now: Mono,
    ) -> Option<&OwnGame> {
        let (from_port, bytes, card, number) = packet;
        let known = self.own.get_mut(&(rule, from_port)).filter(|g| g.packet == bytes && g.until > now)?;
        known.card = card;
        known.number = number;
        Some(known)
    }

    /// So long it is remembered from now on.
    pub fn own_holds(&mut self, rule: RuleIx, from_port: u16, life: Duration, now: Mono) {
        if let Some(known) = self.own.get_mut(&(rule, from_port)) {
            known.until = now + life;
        }
    }

    /// A game on this computer closed: its announcements are nobody's any more. Without a port all of its profile.
    pub fn own_closed(&mut self, profile: ProfileIx, at: Option<(Transport, u16)>) {
        self.own.retain(|_, g| {
            g.profile != profile || at.is_some_and(|at| g.joined_at.is_some_and(|mine| mine != at))
        });
    }

    /// The live announcements of this computer's games.
    pub fn own(&self, now: Mono) -> impl Iterator<Item = &OwnGame> {
        self.own.values().filter(move |g| g.until > now)
    }

    /// The same words of a peer's game again: keeps it alive. Its key, if these words are known.
    pub fn heard_again(
        &mut self,
        sighting: Sighting,
        words: u64,
        life: Duration,
        now: Mono,
    ) -> Option<(HeardKey, News)> {
        let (_, key) = self.sightings.get(&sighting).filter(|(known, _)| *known == words)?;
        let known = self.heard.get_mut(key)?;
        known.lives(life, now);
        Some((*key, known.news(now)))
    }

    /// Notes which words a game was read from.
    pub fn sighted(&mut self, sighting: Sighting, words: u64, key: HeardKey) {
        if self.sightings.len() < ANNOUNCEMENTS || self.sightings.contains_key(&sighting) {
            self.sightings.insert(sighting, (words, key));
        }
    }

    /// A peer's game gave a sign of life.
    pub fn heard(&mut self, key: HeardKey, info: GameInfo, life: Duration, now: Mono) -> News {
        let Some(known) = self.heard.get_mut(&key) else {
            let game = HeardGame::new(info, life, now);
            return self.add(key, HeardGame { heard: Some(now), ..game });
        };
        known.info.update(info);
        known.lives(life, now);
        known.news(now)
    }

    /// A peer's game of this profile gave a sign of life that says no more than that.
    pub fn profile_lives(&mut self, peer: PeerId, profile: ProfileIx, life: Duration, now: Mono) {
        let first = (peer, profile, Transport::Tcp, 0);
        let last = (peer, profile, Transport::Udp, u16::MAX);
        self.heard.range_mut(first..=last).for_each(|(_, known)| known.lives(life, now));
    }

    /// A peer's computer says that its game lives. Its own word, where it was heard lately, says more.
    pub fn listed(&mut self, key: HeardKey, info: GameInfo, life: Duration, now: Mono) -> News {
        let vouched = life * VOUCHED;
        let Some(known) = self.heard.get_mut(&key) else {
            let game = HeardGame::new(info, vouched, now);
            return self.add(key, HeardGame { listed: true, ..game });
        };
        known.listed = true;
        known.until = known.until.max(now + vouched);
        if known.heard.is_none_or(|heard| now.since(heard) >= life) {
            known.info.update(info);
        }
        known.news(now)
    }

    fn add(&mut self, key: HeardKey, game: HeardGame) -> News {
        let of_peer = self.of(key.0).take(GAMES_OF_ONE).count();
        if self.heard.len() >= ANNOUNCEMENTS || of_peer >= GAMES_OF_ONE {
            return News::Old;
        }
        self.heard.insert(key, game);
        News::New
    }

    /// The games of a peer.
    pub fn of(&self, peer: PeerId) -> impl Iterator<Item = (&HeardKey, &HeardGame)> {
        self.heard.range((peer, ProfileIx(0), Transport::Tcp, 0)..).take_while(move |(k, _)| k.0 == peer)
    }

    /// A game of the list.
    #[must_use]
    pub fn get(&self, key: &HeardKey) -> Option<&HeardGame> {
        self.heard.get(key)
    }

    /// All games of the peers.
    pub fn all_heard(&self) -> impl Iterator<Item = (&HeardKey, &HeardGame)> {
        self.heard.iter()
    }

    /// Takes out the games that fell silent.
    pub fn expired(&mut self, now: Mono) -> Vec<(HeardKey, HeardGame)> {
        self.own.retain(|_, g| g.until > now);
        self.take(|_, g| g.until <= now)
    }

    /// Takes out the games of a peer that is gone.
    pub fn of_gone(&mut self, peer: PeerId) -> Vec<(HeardKey, HeardGame)> {
        self.take(|key, _| key.0 == peer)
    }

    /// A peer's game said that it closes: the one at this port, or all of its profile.
    pub fn closed(
        &mut self,
        peer: PeerId,
        profile: ProfileIx,
        at: Option<(Transport, u16)>,
    ) -> Vec<(HeardKey, HeardGame)> {
        self.take(|key, _| (key.0, key.1) == (peer, profile) && at.is_none_or(|at| at == (key.2, key.3)))
    }

    /// A peer's computer named its games, and these it named before.
    pub fn unlisted(&mut self, peer: PeerId, named: &BTreeSet<HeardKey>) -> Vec<(HeardKey, HeardGame)> {
        self.take(|key, g| key.0 == peer && g.listed && !named.contains(key))
    }

    fn take(&mut self, gone: impl Fn(&HeardKey, &HeardGame) -> bool) -> Vec<(HeardKey, HeardGame)> {
        let taken: Vec<_> = self.heard.extract_if(.., |key, g| gone(key, g)).collect();
        if !taken.is_empty() {
            let heard = &self.heard;
            self.sightings.retain(|_, (_, key)| heard.contains_key(key));
        }
        taken
    }

    /// The rules are others now: profiles have moved, or are gone with their games. What rules numbered is forgotten.
    pub fn renumber(&mut self, moved: impl Fn(ProfileIx) -> Option<ProfileIx>) -> Vec<(HeardKey, HeardGame)> {
        self.own.clear();
        self.sightings.clear();
        let gone = self.take(|key, _| moved(key.1).is_none());
        let kept = std::mem::take(&mut self.heard).into_iter();
        self.heard =
            kept.filter_map(|((peer, p, t, port), g)| Some(((peer, moved(p)?, t, port), g))).collect();
        gone
    }

    /// When the next game falls silent.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let heard = self.heard.values().map(|g| g.until);
        let own = self.own.values().map(|g| g.until);
        heard.chain(own).min().map(|at| Deadline::new(at, "game life"))
    }
}

impl OwnGame {
    /// An announcement as it was sent.
    #[must_use]
    pub const fn new(
        (class, card, number): (Class, Option<CardId>, u64),
        packet: Vec<u8>,
        profile: ProfileIx,
        joined_at: Option<(Transport, u16)>,
    ) -> Self {
        Self { class, packet, profile, card, number, joined_at, until: Mono::ZERO }
    }
}

impl HeardGame {
    fn new(info: GameInfo, life: Duration, now: Mono) -> Self {
        let told = (info.clone(), now);
        Self { info, since: now, until: now + life, heard: None, listed: false, told }
    }

    fn lives(&mut self, life: Duration, now: Mono) {
        self.heard = Some(now);
        let life = if self.listed { life * VOUCHED } else { life };
        self.until = self.until.max(now + life);
    }

    /// Players come and go: that alone is told now and then. What was not told for that reason is told later.
    fn news(&mut self, now: Mono) -> News {
        let (told, at) = &self.told;
        let wait = match (told.words() != self.info.words(), told.seats() != self.info.seats()) {
            (true, _) => WORDS,
            (false, true) => PLAYERS,
            (false, false) => return News::Old,
        };
        if now.since(*at) < wait {
            return News::Old;
        }
        self.told = (self.info.clone(), now);
        News::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HeardKey = (PeerId([1; 10]), ProfileIx(0), Transport::Tcp, 25565);
    const LIFE: Duration = Duration::from_secs(6);

    fn at(s: u64) -> Mono {
        Mono(Duration::from_secs(s))
    }

    fn info(title: &str, players: u32) -> GameInfo {
        GameInfo { title: title.into(), players: Some(players), ..GameInfo::default() }
    }

    #[test]
    fn a_game_is_news_once_and_lost_when_silent() {
        let mut g = Games::default();
        assert_eq!(g.heard(KEY, info("world", 1), LIFE, at(0)), News::New);
        assert_eq!(g.heard(KEY, info("world", 1), LIFE, at(2)), News::Old);
        assert_eq!(g.heard(KEY, info("renamed", 1), LIFE, at(3)), News::Changed);
        assert_eq!(g.heard(KEY, info("again", 1), LIFE, at(3)), News::Old, "not so fast");
        assert_eq!(g.heard(KEY, info("renamed", 1), LIFE, at(3)), News::Old);
        assert!(g.expired(at(8)).is_empty());
        let lost = g.expired(at(9));
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].1.info.title, "renamed");
        assert_eq!(g.deadline(), None);
    }

    #[test]
    fn players_who_come_and_go_are_told_every_ten_seconds_and_not_forgotten_in_between() {
        let mut g = Games::default();
        let sighting = (KEY.0, RuleIx(0), 5);
        g.heard(KEY, info("world", 1), LIFE, at(0));
        assert_eq!(g.heard(KEY, info("world", 2), LIFE, at(4)), News::Old);
        assert_eq!(g.get(&KEY).unwrap().info.players, Some(2), "the list itself is never late");
        g.sighted(sighting, 77, KEY);
        assert_eq!(g.heard_again(sighting, 77, LIFE, at(9)), Some((KEY, News::Old)));
        assert_eq!(g.heard_again(sighting, 77, LIFE, at(10)), Some((KEY, News::Changed)));
        assert_eq!(g.heard_again(sighting, 77, LIFE, at(20)), Some((KEY, News::Old)));
    }

    #[test]
    fn what_a_computer_vouches_for_outlives_lost_words_and_ends_when_it_says_so() {
        let mut g = Games::default();
        let other = (KEY.0, ProfileIx(0), Transport::Tcp, 4000);
        g.heard(other, info("only heard", 1), LIFE, at(0));
        assert_eq!(g.listed(KEY, info("world", 1), LIFE, at(0)), News::New);
        assert!(g.expired(at(5)).is_empty());
        assert_eq!(g.expired(at(6)).len(), 1, "the other one");
        assert_eq!(g.heard(KEY, info("its own word", 1), LIFE, at(7)), News::Changed);
        assert_eq!(g.listed(KEY, info("late", 1), LIFE, at(8)), News::Old);
        g.heard(other, info("only heard", 1), LIFE, at(9));
        let named = BTreeSet::from([KEY]);
        assert!(g.unlisted(KEY.0, &named).is_empty());
        assert!(g.unlisted(PeerId([2; 10]), &BTreeSet::new()).is_empty(), "another peer's word");
        let gone = g.unlisted(KEY.0, &BTreeSet::new());
        assert_eq!((gone.len(), gone[0].0), (1, KEY));
        assert!(g.get(&other).is_some(), "what was never vouched for only falls silent");
    }

    #[test]
    fn one_peer_does_not_fill_the_list() {
        let mut g = Games::default();
        for port in 1024..9000 {
            g.listed((KEY.0, KEY.1, Transport::Udp, port), info("x", 1), LIFE, at(0));
        }
        assert_eq!(g.of(KEY.0).count(), GAMES_OF_ONE);
        assert_eq!(g.heard((PeerId([0; 10]), KEY.1, KEY.2, 1), info("x", 1), LIFE, at(0)), News::New);
    }

    #[test]
    fn own_games_are_remembered_for_their_life_only() {
        let mut g = Games::default();
        let own = OwnGame::new((Class::Multicast, None, 1), vec![1], ProfileIx(0), Some((KEY.2, KEY.3)));
        g.announced(RuleIx(0), 5, own.clone());
        g.own_holds(RuleIx(0), 5, LIFE, at(0));
        assert!(g.announced_again(RuleIx(0), (5, &[1], None, 2), at(1)).is_some());
        g.own_holds(RuleIx(0), 5, LIFE, at(1));
        assert!(g.announced_again(RuleIx(0), (5, &[2], None, 3), at(1)).is_none());
        assert_eq!(g.own(at(6)).count(), 1);
        assert_eq!(g.own(at(7)).count(), 0);
        assert!(g.announced_again(RuleIx(0), (5, &[1], None, 3), at(7)).is_none(), "it is read anew");
        g.announced(RuleIx(0), 5, own);
        g.own_holds(RuleIx(0), 5, LIFE, at(7));
        g.own_closed(ProfileIx(0), Some((Transport::Udp, KEY.3)));
        assert_eq!(g.own(at(8)).count(), 1, "another one closed");
        g.own_closed(ProfileIx(0), None);
        assert_eq!(g.own(at(8)).count(), 0);
    }

    #[test]
    fn games_keep_their_place_when_rules_are_read_anew() {
        let mut g = Games::default();
        g.heard(KEY, info("world", 1), LIFE, at(0));
        g.heard((KEY.0, ProfileIx(1), KEY.2, KEY.3), info("other", 1), LIFE, at(0));
        let gone = g.renumber(|p| (p == ProfileIx(0)).then_some(ProfileIx(1)));
        assert_eq!((gone.len(), gone[0].1.info.title.as_str()), (1, "other"));
        let kept = g.get(&(KEY.0, ProfileIx(1), KEY.2, KEY.3)).unwrap();
        assert_eq!(kept.info.title, "world");
    }
}
