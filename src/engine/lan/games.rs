//! Who announced what: this computer's own games (to hand to peers that come late), and the peers' (to show to people).

use crate::model::id::{CardId, PeerId};
use crate::model::limits::ANNOUNCEMENTS;
use crate::model::time::{Deadline, Mono};
use crate::rules::ruleset::{Described, ProfileIx, RuleIx, Transport};
use crate::wire::frame::Class;
use std::collections::BTreeMap;
use std::time::Duration;

/// Games that one peer may have in our list.
const GAMES_OF_ONE: usize = 32;

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
    /// What it calls itself.
    pub title: String,
    until: Mono,
}

/// What makes two sightings the same game.
pub type HeardKey = (PeerId, ProfileIx, Transport, u16);

/// Which packet it was: who sent it, by which rule, from which port. The same words need no second reading.
pub type Sighting = (PeerId, RuleIx, u16);

/// Both lists.
#[derive(Debug, Default)]
pub struct Games {
    own: BTreeMap<(RuleIx, u16), OwnGame>,
    heard: BTreeMap<HeardKey, HeardGame>,
    sightings: BTreeMap<Sighting, (u64, HeardKey)>,
}

impl Games {
    /// An announcement left this computer; the port it left from tells two games of one kind apart.
    pub fn announced(&mut self, rule: RuleIx, from_port: u16, game: OwnGame, life: Duration, now: Mono) {
        let key = (rule, from_port);
        if self.own.len() >= ANNOUNCEMENTS && !self.own.contains_key(&key) {
            return;
        }
        self.own.insert(key, OwnGame { until: now + life, ..game });
    }

    /// The same announcement again, word for word: keeps it alive without reading it anew. Where its game is to be joined,
    /// if it was known.
    pub fn announced_again(
        &mut self,
        rule: RuleIx,
        packet: (u16, &[u8], Option<CardId>, u64),
        life: Duration,
        now: Mono,
    ) -> Option<&OwnGame> {
        let (from_port, bytes, card, number) = packet;
        let known = self.own.get_mut(&(rule, from_port)).filter(|g| g.packet == bytes)?;
        known.until = now + life;
        known.card = card;
        known.number = number;
        Some(known)
    }

    /// The same words of a peer's game again: keeps it alive. Its key, if these words are known.
    pub fn heard_again(
        &mut self,
        sighting: Sighting,
        words: u64,
        life: Duration,
        now: Mono,
    ) -> Option<HeardKey> {
        let (_, key) = self.sightings.get(&sighting).filter(|(known, _)| *known == words)?;
        self.heard.get_mut(key)?.until = now + life;
        Some(*key)
    }

    /// Notes which words a game was read from.
    pub fn sighted(&mut self, sighting: Sighting, words: u64, key: HeardKey) {
        if self.sightings.len() < ANNOUNCEMENTS || self.sightings.contains_key(&sighting) {
            self.sightings.insert(sighting, (words, key));
        }
    }

    /// The live announcements of this computer's games.
    pub fn own(&self, now: Mono) -> impl Iterator<Item = &OwnGame> {
        self.own.values().filter(move |g| g.until > now)
    }

    /// A peer's game gave a sign of life; true when it is new (or calls itself something else now).
    pub fn heard(
        &mut self,
        peer: PeerId,
        profile: ProfileIx,
        game: Described,
        life: Duration,
        now: Mono,
    ) -> bool {
        let key = (peer, profile, game.transport, game.port);
        let of_peer =
            self.heard.range((peer, ProfileIx(0), Transport::Tcp, 0)..).take_while(|(k, _)| k.0 == peer);
        let full = self.heard.len() >= ANNOUNCEMENTS || of_peer.count() >= GAMES_OF_ONE;
        match self.heard.get_mut(&key) {
            Some(known) => {
                known.until = now + life;
                let news = !game.title.is_empty() && known.title != game.title;
                if news {
                    known.title = game.title;
                }
                news
            }
            None if full => false,
            None => {
                self.heard.insert(key, HeardGame { title: game.title, until: now + life });
                true
            }
        }
    }

    /// All games of the peers.
    pub fn all_heard(&self) -> impl Iterator<Item = (&HeardKey, &HeardGame)> {
        self.heard.iter()
    }

    /// Takes out the games that fell silent.
    pub fn expired(&mut self, now: Mono) -> Vec<(HeardKey, HeardGame)> {
        self.own.retain(|_, g| g.until > now);
        let heard = &self.heard;
        self.sightings.retain(|_, (_, key)| heard.get(key).is_some_and(|g| g.until > now));
        self.heard.extract_if(.., |_, g| g.until <= now).collect()
    }

    /// Takes out the games of a peer that is gone.
    pub fn of_gone(&mut self, peer: PeerId) -> Vec<(HeardKey, HeardGame)> {
        self.heard.extract_if(.., |key, _| key.0 == peer).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Mono {
        Mono(Duration::from_secs(s))
    }

    fn described(title: &str) -> Described {
        Described { title: title.into(), transport: Transport::Tcp, port: 25565, ..Described::default() }
    }

    #[test]
    fn a_game_is_news_once_and_lost_when_silent() {
        let mut g = Games::default();
        let (peer, life) = (PeerId([1; 10]), Duration::from_secs(6));
        assert!(g.heard(peer, ProfileIx(0), described("world"), life, at(0)));
        assert!(!g.heard(peer, ProfileIx(0), described("world"), life, at(2)));
        assert!(g.heard(peer, ProfileIx(0), described("renamed"), life, at(3)));
        assert!(g.expired(at(8)).is_empty());
        let lost = g.expired(at(9));
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].1.title, "renamed");
        assert_eq!(g.deadline(), None);
    }

    #[test]
    fn own_games_are_remembered_for_their_life_only() {
        let mut g = Games::default();
        let own = OwnGame::new((Class::Multicast, None, 1), vec![1], ProfileIx(0), None);
        g.announced(RuleIx(0), 5, own, Duration::from_secs(6), at(0));
        assert!(g.announced_again(RuleIx(0), (5, &[1], None, 2), Duration::from_secs(6), at(1)).is_some());
        assert!(g.announced_again(RuleIx(0), (5, &[2], None, 3), Duration::from_secs(6), at(1)).is_none());
        assert_eq!(g.own(at(6)).count(), 1);
        assert_eq!(g.own(at(7)).count(), 0);
    }
}
