//! Announcements that do not come: said again to the games on this computer at the game's own rhythm.
//!
//! A packet may get lost on the way, and a client that starts just then would see an empty list. So the newest
//! announcement of every live game is kept as it was handed over (after the rewriting), and handed over again when the
//! next one is late by half. What comes is never held back for it: a repeat is extra, at most one in a rhythm, and ends when
//! nothing came for twice the game's life, whatever its node says of it: then it is heard another way, or not at all. Bounded
//! by `ANNOUNCEMENTS` packets, `OF_ONE` of one peer.

use super::games::Sighting;
use crate::engine::sink::Delivery;
use crate::model::id::PeerId;
use crate::model::limits::ANNOUNCEMENTS;
use crate::model::time::{Deadline, Mono};
use crate::rules::ruleset::{ProfileIx, RuleIx, Transport};
use crate::wire::frame::Class;
use std::collections::BTreeMap;
use std::time::Duration;

/// Packets kept of one peer.
const OF_ONE: usize = 32;

/// Which packet: whose, by which rule, from and to which port, and how it was addressed. A game that announces itself to
/// several ports says several things.
pub type RepeatKey = (PeerId, RuleIx, u16, u16, Class);

/// The game that a packet announces: whose, of which profile, and where it is to be joined if the packet says.
pub type Subject = (PeerId, ProfileIx, Option<(Transport, u16)>);

/// A packet that may have to be said again.
#[derive(Debug)]
pub struct Kept {
    /// The game it announces.
    pub game: Subject,
    /// As it was handed over.
    pub packet: Vec<u8>,
    /// And how.
    pub how: Delivery,
    beat: Beat,
    next: Mono,
    until: Mono,
}

/// How often an announcement comes.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// Between two of them.
    pub rhythm: Duration,
    /// So long without one, and the game is over.
    pub life: Duration,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Repeats(BTreeMap<RepeatKey, Kept>);

impl Repeats {
    /// An announcement was handed over just now.
    pub fn came(
        &mut self,
        key: RepeatKey,
        game: Subject,
        (packet, how): (&[u8], Delivery),
        beat: Beat,
        now: Mono,
    ) {
        let (next, until) = (now + beat.rhythm * 3 / 2, now + beat.life * 2);
        if let Some(kept) = self.0.get_mut(&key) {
            (kept.game, kept.how, kept.beat, kept.next, kept.until) = (game, how, beat, next, until);
            if kept.packet != packet {
                kept.packet.clear();
                kept.packet.extend_from_slice(packet);
            }
            return;
        }
        let first = (key.0, RuleIx(0), 0, 0, Class::Unicast);
        let of_one = self.0.range(first..).take_while(|(k, _)| k.0 == key.0).take(OF_ONE).count();
        if self.0.len() < ANNOUNCEMENTS && of_one < OF_ONE {
            self.0.insert(key, Kept { game, packet: packet.to_vec(), how, beat, next, until });
        }
    }

    /// What this peer's packets by this rule, from this port, announce is known now; `None` is nothing.
    pub fn settle(&mut self, sighting: Sighting, game: Option<(Transport, u16)>) {
        let of = |key: &RepeatKey| (key.0, key.1, key.2) == sighting;
        match game {
            Some(at) => {
                self.0.iter_mut().filter(|(key, _)| of(key)).for_each(|(_, kept)| kept.game.2 = Some(at));
            }
            None => self.0.retain(|key, _| !of(key)),
        }
    }

    /// The next packet that is late; it is late again one rhythm from now.
    pub fn poll(&mut self, now: Mono) -> Option<(RepeatKey, &Kept)> {
        let late = |kept: &Kept| kept.next <= now;
        if self.0.values().any(|kept| late(kept) && kept.until <= now) {
            self.0.retain(|_, kept| kept.until > now);
        }
        let (key, kept) = self.0.iter_mut().find(|(_, kept)| late(kept))?;
        kept.next = now + kept.beat.rhythm;
        Some((*key, kept))
    }

    /// These games are not in the list any more, or their packets are not what they were.
    pub fn forget(&mut self, gone: impl Fn(&Subject) -> bool) {
        self.0.retain(|_, kept| !gone(&kept.game));
    }

    /// When the next packet is late.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.0.values().map(|kept| kept.next).min().map(|at| Deadline::new(at, "announcement late"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RHYTHM: Duration = Duration::from_millis(1500);
    const BEAT: Beat = Beat { rhythm: RHYTHM, life: Duration::from_secs(8) };

    fn at(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    fn game(peer: u8) -> Subject {
        (PeerId([peer; 10]), ProfileIx(0), Some((Transport::Tcp, 25565)))
    }

    fn key(peer: u8, port: u16) -> RepeatKey {
        (PeerId([peer; 10]), RuleIx(0), port, 4445, Class::Multicast)
    }

    fn came(r: &mut Repeats, key: RepeatKey, words: &[u8], now: Mono) {
        r.came(key, game(key.0.0[0]), (words, Delivery::Group), BEAT, now);
    }

    #[test]
    fn only_what_is_late_is_said_again_and_once_in_a_rhythm() {
        let mut r = Repeats::default();
        for n in 0..4 {
            came(&mut r, key(1, 5), b"world", at(n * 1500 + n * 100));
            assert!(r.poll(at(n * 1600 + 1599)).is_none(), "a little jitter is not late");
        }
        let late = at(3 * 1600 + 2250);
        assert_eq!(r.deadline().unwrap().at, late);
        assert_eq!(r.poll(late).unwrap().1.packet, b"world");
        assert!(r.poll(late).is_none());
        assert!(r.poll(late + RHYTHM - Duration::from_millis(1)).is_none());
        assert!(r.poll(late + RHYTHM).is_some());
        came(&mut r, key(1, 5), b"renamed", late + RHYTHM);
        assert!(r.poll(late + RHYTHM * 2).is_none());
        assert_eq!(r.poll(late + RHYTHM * 3).unwrap().1.packet, b"renamed");
        assert!(r.poll(late + RHYTHM + BEAT.life * 2).is_none(), "it is over, or heard another way");
        assert_eq!(r.deadline(), None);
    }

    #[test]
    fn a_game_that_closed_is_not_said_again_and_one_peer_does_not_fill_the_memory() {
        let mut r = Repeats::default();
        (0..5000).for_each(|port| came(&mut r, key(1, port), b"x", at(0)));
        came(&mut r, key(2, 5), b"x", at(0));
        assert_eq!(r.0.len(), OF_ONE + 1);
        r.forget(|k| *k == game(1));
        assert_eq!(r.0.len(), 1);
        r.settle((PeerId([2; 10]), RuleIx(0), 6), None);
        r.settle((PeerId([2; 10]), RuleIx(0), 5), Some((Transport::Udp, 7)));
        r.forget(|k| *k == game(2));
        assert_eq!(r.0.len(), 1, "it announces another game");
        r.settle((PeerId([2; 10]), RuleIx(0), 5), game(2).2);
        r.forget(|k| *k == game(2));
        assert_eq!(r.deadline(), None);
    }
}
