//! Three guards, three questions. None of them swallows a game's own repeat a second later.
//!
//! * `EchoGuard`: did *I* say this? A packet that we injected for a peer and now hear leaving a card. Source included, so
//!   that two players asking the same question in the same words are not taken for an echo.
//! * `TwinGuard`: did my *other card* say this? The same bytes from the same socket by another card within milliseconds. Source
//!   address left out, because every card has its own; the same card never makes a twin, because games send twice on purpose.
//! * `SeqWindow`: did another *path* bring this? Sequence numbers per origin and run.

use crate::model::id::CardId;
use crate::model::limits;
use crate::model::time::Mono;
use crate::wire::frame::Class;
use crate::wire::packet::PacketView;
use std::collections::VecDeque;
use std::time::Duration;

/// A fast keyed hash (FNV-style multiply and fold over words). Not for hostile input beyond "hard to aim by chance":
/// a peer that makes its own announcements collide only silences itself.
#[derive(Debug, Clone, Copy)]
pub struct Hasher(u64);

impl Hasher {
    /// A hash with this node's random key.
    #[must_use]
    pub const fn new(key: u64) -> Self {
        Self(key ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Adds a number.
    #[must_use]
    pub fn word(self, word: u64) -> Self {
        let product = u128::from(self.0 ^ word) * 0xd6e8_feb8_6659_fd93;
        let [low, high] =
            [product & u128::from(u64::MAX), product >> 64].map(|half| u64::try_from(half).unwrap_or(0));
        Self(low ^ high.rotate_left(29))
    }

    /// Adds bytes and their number.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut hash = self.word(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for w in words.by_ref() {
            hash = hash.word(u64::from_le_bytes(w.try_into().unwrap_or([0; 8])));
        }
        let mut last = [0; 8];
        last.iter_mut().zip(words.remainder()).for_each(|(to, from)| *to = *from);
        hash.word(u64::from_le_bytes(last))
    }

    /// The hash.
    #[must_use]
    pub const fn finish(self) -> u64 {
        self.0
    }
}

/// Recognises our own injections.
#[derive(Debug)]
pub struct EchoGuard {
    key: u64,
    ring: VecDeque<(u64, Mono)>,
    window: Duration,
}

impl EchoGuard {
    /// A guard that remembers for `window`.
    #[must_use]
    pub fn new(key: u64, window: Duration) -> Self {
        Self { key, ring: VecDeque::with_capacity(limits::ECHOES), window }
    }

    fn hash(&self, view: &PacketView<'_>) -> u64 {
        let hash = Hasher::new(self.key);
        let hash = match view.src {
            std::net::IpAddr::V4(a) => hash.bytes(&a.octets()),
            std::net::IpAddr::V6(a) => hash.bytes(&a.octets()),
        };
        hash.word(u64::from(view.src_port) << 16 | u64::from(view.dst_port)).bytes(view.payload()).finish()
    }

    /// Notes an injection.
    pub fn injected(&mut self, view: &PacketView<'_>, now: Mono) {
        if self.ring.len() == limits::ECHOES {
            self.ring.pop_front();
        }
        self.ring.push_back((self.hash(view), now));
    }

    /// Whether this packet is one that we injected a moment ago.
    pub fn is_echo(&mut self, view: &PacketView<'_>, now: Mono) -> bool {
        while self.ring.front().is_some_and(|(_, at)| now.since(*at) > self.window) {
            self.ring.pop_front();
        }
        let hash = self.hash(view);
        self.ring.iter().any(|(h, _)| *h == hash)
    }
}

/// Recognises the same announcement sent by another card.
#[derive(Debug)]
pub struct TwinGuard {
    key: u64,
    ring: VecDeque<(u64, Option<CardId>, Mono)>,
    window: Duration,
}

impl TwinGuard {
    /// A guard with this window.
    #[must_use]
    pub fn new(key: u64, window: Duration) -> Self {
        Self { key, ring: VecDeque::with_capacity(limits::TWINS), window }
    }

    /// Whether another card brought the same packet within the window; notes it if not. `None` is the tunnel device.
    pub fn is_twin(&mut self, view: &PacketView<'_>, class: Class, card: Option<CardId>, now: Mono) -> bool {
        while self.ring.front().is_some_and(|(_, _, at)| now.since(*at) > self.window) {
            self.ring.pop_front();
        }
        let family = u64::from(view.dst.is_ipv6());
        let hash = Hasher::new(self.key)
            .word(u64::from(view.src_port) << 32 | u64::from(view.dst_port) << 8 | family << 4 | class as u64)
            .bytes(view.payload())
            .finish();
        if self.ring.iter().any(|(h, c, _)| *h == hash && *c != card) {
            return true;
        }
        if self.ring.len() == limits::TWINS {
            self.ring.pop_front();
        }
        self.ring.push_back((hash, card, now));
        false
    }
}

/// A window of 128 sequence numbers per origin, for the newest run and the one before it.
#[derive(Debug, Default, Clone)]
pub struct SeqWindow {
    runs: [Run; 2],
}

#[derive(Debug, Default, Clone, Copy)]
struct Run {
    run: u32,
    used: bool,
    top: u64,
    seen: u128,
}

impl SeqWindow {
    /// Whether this number of this run is new; notes it. Numbers older than the window are refused.
    pub fn accept(&mut self, run: u32, number: u64) -> bool {
        if let Some(known) = self.runs.iter_mut().find(|r| r.used && r.run == run) {
            return known.accept(number);
        }
        self.runs.swap(0, 1);
        let fresh = Run { run, used: true, top: number, seen: 1 };
        if let Some(first) = self.runs.first_mut() {
            *first = fresh;
        }
        true
    }
}

impl Run {
    fn accept(&mut self, number: u64) -> bool {
        if number > self.top {
            let ahead = number - self.top;
            self.seen = if ahead >= 128 { 0 } else { self.seen << ahead };
            self.seen |= 1;
            self.top = number;
            return true;
        }
        let behind = self.top - number;
        if behind >= 128 || self.seen >> behind & 1 == 1 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::write_udp;

    const WINDOW: Duration = Duration::from_millis(40);

    fn udp(src: &str, payload: &[u8]) -> Vec<u8> {
        let mut room = vec![0; 600];
        let n = write_udp(&mut room, src.parse().unwrap(), "224.0.2.60:4445".parse().unwrap(), 1, payload)
            .unwrap();
        room.truncate(n);
        room
    }

    fn at(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    #[test]
    fn an_injection_is_known_for_two_seconds_and_only_with_its_source() {
        let mut g = EchoGuard::new(1, Duration::from_secs(2));
        let p = udp("10.1.1.2:4000", b"query");
        let same_words = udp("192.168.0.2:4000", b"query");
        g.injected(&PacketView::parse(&p).unwrap(), at(0));
        assert!(g.is_echo(&PacketView::parse(&p).unwrap(), at(1999)));
        assert!(!g.is_echo(&PacketView::parse(&same_words).unwrap(), at(1999)));
        assert!(!g.is_echo(&PacketView::parse(&p).unwrap(), at(2001)));
    }

    #[test]
    fn announcement_seen_on_two_cards_is_sent_once() {
        let mut g = TwinGuard::new(1, WINDOW);
        let (a, b) = (udp("192.168.0.2:4000", b"world"), udp("10.0.0.2:4000", b"world"));
        let (a, b) = (PacketView::parse(&a).unwrap(), PacketView::parse(&b).unwrap());
        assert!(!g.is_twin(&a, Class::Multicast, Some(CardId(1)), at(0)));
        assert!(g.is_twin(&b, Class::Multicast, Some(CardId(2)), at(1)));
        assert!(g.is_twin(&b, Class::Multicast, Some(CardId(3)), at(2)));
        assert!(
            !g.is_twin(&a, Class::Multicast, Some(CardId(1)), at(1500)),
            "the game's own rhythm is not a twin"
        );
        assert!(g.is_twin(&b, Class::Multicast, Some(CardId(2)), at(1501)));
    }

    #[test]
    fn a_game_that_sends_twice_on_one_card_is_not_silenced() {
        let mut g = TwinGuard::new(1, WINDOW);
        let a = udp("192.168.0.2:27960", b"getinfo");
        let a = PacketView::parse(&a).unwrap();
        assert!(!g.is_twin(&a, Class::Limited, Some(CardId(1)), at(0)));
        assert!(!g.is_twin(&a, Class::Limited, Some(CardId(1)), at(1)));
    }

    #[test]
    fn each_number_passes_once_in_any_order_within_the_window() {
        let mut w = SeqWindow::default();
        for n in [5u64, 3, 4, 7, 6, 130, 10] {
            assert!(w.accept(1, n), "{n}");
            assert!(!w.accept(1, n), "{n} again");
        }
        assert!(!w.accept(1, 2), "older than the window");
    }

    #[test]
    fn a_restart_begins_anew_and_late_copies_of_the_old_run_stay_known() {
        let mut w = SeqWindow::default();
        assert!(w.accept(1, 1000));
        assert!(w.accept(2, 1));
        assert!(!w.accept(1, 1000));
        assert!(w.accept(2, 2));
        assert!(!w.accept(2, 1));
    }

    #[test]
    fn a_jump_ahead_forgets_what_is_out_of_reach() {
        let mut w = SeqWindow::default();
        assert!(w.accept(1, 1));
        assert!(w.accept(1, u64::MAX));
        assert!(!w.accept(1, 1));
        assert!(w.accept(1, u64::MAX - 127));
        assert!(!w.accept(1, u64::MAX - 128));
    }
}
