//! When to send handshake initiations while there is no session: quickly at first and whenever a way appears, then with
//! growing patience.

use crate::model::time::Mono;
use std::time::Duration;

/// How long the peer with the higher name waits before it tries a handshake itself.
const POLITE_WAIT: Duration = Duration::from_millis(700);
/// The first waits between handshakes, in milliseconds: a relay may be ready at one end before it is at the other.
const FIRST_TRIES: [u64; 5] = [120, 180, 300, 400, 700];
/// Handshakes are not sent more often than this, whatever appears.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// From this many tries on they come twice a minute.
const PATIENT: u32 = 31;
/// Between offers of a new session while an old one lives that no way carries.
const OFFER_EVERY: Duration = Duration::from_secs(5);

/// The tries of one peer.
#[derive(Debug)]
pub(super) struct Bootstrap {
    eager: bool,
    next: Option<Mono>,
    tries: u32,
    last: Option<Mono>,
}

impl Bootstrap {
    /// `eager` is true at one of the two ends.
    pub(super) fn new(eager: bool, now: Mono) -> Self {
        let next = if eager { now } else { now + POLITE_WAIT };
        Self { eager, next: Some(next), tries: 0, last: None }
    }

    /// When to try next.
    pub(super) const fn next(&self) -> Option<Mono> {
        self.next
    }

    /// There are ways that were not tried. Who waits politely tries no sooner than it would have.
    pub(super) fn new_ways(&mut self, now: Mono) {
        let Some(next) = self.next else { return };
        let soon = self.last.map_or(now, |last| now.max(last + LEAST_WAIT));
        let wish = if self.eager { soon } else { now + POLITE_WAIT };
        self.tries = self.tries.min(1);
        self.next = Some(next.min(wish));
    }

    /// Everything changed: try now, and quickly again.
    pub(super) const fn at_once(&mut self, now: Mono) {
        (self.tries, self.next) = (0, Some(now));
    }

    /// Try now, with the patience that there is.
    pub(super) const fn retry(&mut self, now: Mono) {
        self.next = Some(now);
    }

    /// There is a session.
    pub(super) const fn end(&mut self) {
        (self.tries, self.next) = (0, None);
    }

    /// The peer is gone. If it `left`, it is left alone; else it is tried now (it may be this computer that was asleep)
    /// and then twice a minute.
    pub(super) fn rest(&mut self, left: bool, now: Mono) {
        self.tries = if left { 0 } else { PATIENT };
        self.next = (!left).then_some(now);
    }

    /// The peer says that it is there.
    pub(super) fn call(&mut self, now: Mono) {
        let wish = if self.eager { now } else { now + POLITE_WAIT };
        self.tries = 0;
        self.next = Some(self.next.map_or(wish, |t| t.min(wish)));
    }

    /// Something waits for a session: now, if no try is under way.
    pub(super) const fn wanted(&mut self, now: Mono) {
        if self.tries == 0 || self.next.is_none() {
            self.next = Some(now);
        }
    }

    /// An initiation is being sent for another reason.
    pub(super) const fn sent(&mut self, now: Mono) {
        self.last = Some(now);
    }

    /// Whether to send one now.
    pub(super) fn poll(&mut self, now: Mono) -> bool {
        if self.next.is_none_or(|t| t > now) {
            return false;
        }
        let first = usize::try_from(self.tries).ok().and_then(|n| FIRST_TRIES.get(n));
        let wait = match (first, self.tries) {
            (Some(ms), _) => Duration::from_millis(*ms),
            (None, 0..=12) => Duration::from_secs(1),
            (None, 13..=20) => Duration::from_secs(3),
            (None, 21..PATIENT) => Duration::from_secs(10),
            (None, _) => Duration::from_secs(30),
        };
        self.tries += 1;
        self.next = Some(now + wait);
        self.last = Some(now);
        true
    }

    /// Whether to offer a new session beside one that no way carries.
    pub(super) fn offer(&mut self, now: Mono) -> bool {
        let due = self.next.is_none_or(|t| t <= now);
        if due {
            self.next = Some(now + OFFER_EVERY);
        }
        due
    }
}
