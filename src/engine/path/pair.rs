//! One address of a peer under test: when to ping it, what came back, what it is worth.

use crate::model::status::PathKind;
use crate::model::time::Mono;
use std::net::SocketAddr;
use std::time::Duration;

/// Between the first pings of an untried address; doubles with every silence.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Silent pings after which an address is only tried now and then.
const GIVE_UP: u32 = 7;
/// Between pings of an address that gave no answer, and of a proven one that is not in use.
const SLOW: Duration = Duration::from_secs(30);
/// Between pings of a primary that is in doubt.
pub(super) const DOUBT_WAIT: Duration = Duration::from_millis(400);

/// How an address of a peer is doing.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Where.
    pub remote: SocketAddr,
    /// Its tier.
    pub kind: PathKind,
    /// Whether the peer names it in its record; others were heard from and may be forgotten.
    pub named: bool,
    /// When a ping was last answered.
    pub proven: Option<Mono>,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Pings in a row without an answer.
    pub silent: u32,
    /// Share of lost pings, smoothed, in thousandths.
    pub loss: u32,
    /// When to ping next.
    pub next: Mono,
    outstanding: Option<(u64, Mono)>,
}

impl Pair {
    /// An untried address, to be pinged at once.
    #[must_use]
    pub const fn new(remote: SocketAddr, kind: PathKind, named: bool, now: Mono) -> Self {
        Self {
            remote,
            kind,
            named,
            proven: None,
            rtt: Duration::ZERO,
            silent: 0,
            loss: 0,
            next: now,
            outstanding: None,
        }
    }

    /// A ping goes out; the one before it counts as lost if it was not answered.
    pub fn pinged(&mut self, number: u64, now: Mono, wait: Option<Duration>) {
        if self.outstanding.replace((number, now)).is_some() {
            self.silent += 1;
            self.loss = (self.loss * 7 + 1000) / 8;
        }
        let patient = if self.silent >= GIVE_UP { SLOW } else { FIRST_WAIT * (1 << self.silent.min(5)) };
        self.next = now + wait.unwrap_or(patient);
    }

    /// A pong; true when it answers this pair's newest ping.
    pub fn ponged(&mut self, number: u64, now: Mono, wait: Duration) -> bool {
        let Some((_, sent)) = self.outstanding.take_if(|(n, _)| *n == number) else { return false };
        let rtt = now.since(sent);
        self.rtt = if self.proven.is_some() { (self.rtt * 3 + rtt) / 4 } else { rtt };
        self.proven = Some(now);
        self.silent = 0;
        self.loss = self.loss * 7 / 8;
        self.next = now + wait;
        true
    }

    /// Starts over (the network changed): old proofs count no more.
    pub fn doubt(&mut self, now: Mono) {
        self.silent = 0;
        self.outstanding = None;
        self.next = now;
    }

    /// Whether a ping waits for its answer.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.outstanding.is_some()
    }
}

/// The wait of a proven pair that is not in use.
pub(super) const fn spare_wait() -> Duration {
    SLOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair::new("192.0.2.1:1".parse().unwrap(), PathKind::Direct, true, Mono::ZERO)
    }

    #[test]
    fn silence_slows_the_pings_down_to_twice_a_minute() {
        let mut p = pair();
        let mut now = Mono::ZERO;
        let mut count = 0;
        while now.0 < Duration::from_secs(60) {
            p.pinged(count, now, None);
            now = p.next;
            count += 1;
        }
        assert!((8..=12).contains(&count), "{count} pings in a minute");
        assert_eq!(p.next.since(now), Duration::ZERO);
    }

    #[test]
    fn only_the_newest_ping_can_be_answered_and_once() {
        let mut p = pair();
        p.pinged(1, Mono::ZERO, None);
        p.pinged(2, Mono(FIRST_WAIT), None);
        assert!(!p.ponged(1, Mono(FIRST_WAIT), SLOW));
        assert!(p.ponged(2, Mono(FIRST_WAIT * 2), SLOW));
        assert!(!p.ponged(2, Mono(FIRST_WAIT * 3), SLOW));
        assert_eq!((p.rtt, p.silent), (FIRST_WAIT, 0));
    }
}
