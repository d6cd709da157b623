//! What is still to be told to which peer about the others: the roster travels inside the tunnels, so that guests of a
//! host learn each other and a party outlives its control planes.
//!
//! *At once.* When a session comes up both ends say what they hold (`Known`) and answer with what the other lacks.
//! News of a newcomer, and all news at the hub, are passed on as they come.
//!
//! *Surely.* Datagrams get lost, so a sum over all that is held is compared soon after news and now and then: peers that
//! disagree say what they hold again. Two that agree exchange a hundred bytes in half a minute.
//!
//! What is owed is a set per peer, so repeats cost nothing and everything is bounded by the party's size; a pace bounds
//! what is sent. The node knows the records and does the sending.

use super::lan::pace::Bucket;
use crate::model::dice::Dice;
use crate::model::id::PeerId;
use crate::model::time::{Deadline, Mono};
use crate::rules::ruleset::Pace;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Frames in a second, to all peers together: a full party tells a newcomer everything in one burst.
const FRAMES: Pace = Pace { per_second: 100, burst: 200 };
/// When the pace holds something back it is tried again after this.
const HELD_BACK: Duration = Duration::from_millis(50);
/// Sums are compared this long after news …
const SOON: Duration = Duration::from_secs(2);
/// … and in quiet times this often.
const SELDOM: Duration = Duration::from_secs(30);

/// What one peer is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// The newest records of these.
    pub records: BTreeSet<PeerId>,
    /// What this node holds; `true`: and the peer is to say the same.
    pub known: Option<bool>,
    /// The sum of that.
    pub sum: bool,
}

/// See the module's description.
#[derive(Debug)]
pub struct Gossip {
    owed: BTreeMap<PeerId, Owed>,
    since: Mono,
    sums: Mono,
    frames: Bucket,
    /// Names messages that are sent in parts.
    numbers: u64,
    dice: Dice,
}

impl Gossip {
    /// Nothing to tell yet.
    #[must_use]
    pub fn new(mut dice: Dice, now: Mono) -> Self {
        let sums = now + dice.jitter(SELDOM, 20);
        let (owed, frames) = (BTreeMap::new(), Bucket::new(FRAMES, now));
        Self { owed, since: now, sums, frames, numbers: 0, dice }
    }

    /// A fresh number for a message in parts.
    pub const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A peer's session came up: compare everything.
    pub fn greet(&mut self, peer: PeerId, now: Mono) {
        self.owe(peer, now).known = Some(true);
    }

    /// A peer lacks these records.
    pub fn owe_records(&mut self, peer: PeerId, records: impl IntoIterator<Item = PeerId>, now: Mono) {
        let mut records = records.into_iter().peekable();
        if records.peek().is_some() {
            self.owe(peer, now).records.extend(records);
        }
    }

    /// A peer should be told what this node holds.
    pub fn owe_known(&mut self, peer: PeerId, ask: bool, now: Mono) {
        let owed = self.owe(peer, now);
        owed.known = Some(owed.known.unwrap_or(false) || ask);
    }

    fn owe(&mut self, peer: PeerId, now: Mono) -> &mut Owed {
        self.since = self.since.max(now);
        self.owed.entry(peer).or_default()
    }

    /// The roster changed: whoever was not told directly is to notice soon.
    pub fn news(&mut self, now: Mono) {
        self.sums = self.sums.min(now + self.dice.jitter(SOON, 25));
    }

    /// A peer's session is gone: what it lacks is found out when the next one comes up.
    pub fn forget(&mut self, peer: PeerId) {
        self.owed.remove(&peer);
    }

    /// Owes everybody who is up a sum, when it is time.
    pub fn tick(&mut self, up: impl IntoIterator<Item = PeerId>, now: Mono) {
        if self.sums > now {
            return;
        }
        self.sums = now + self.dice.jitter(SELDOM, 20);
        for peer in up {
            self.owe(peer, now).sum = true;
        }
    }

    /// The next peer that is to be told something; call until `None`.
    pub fn poll(&mut self) -> Option<(PeerId, Owed)> {
        self.owed.pop_first()
    }

    /// Room for one more frame now? If not, what is left is to be owed again.
    pub fn admit(&mut self, now: Mono) -> bool {
        self.frames.take(FRAMES, now)
    }

    /// What the pace held back; it is due a little later.
    pub fn hold(&mut self, peer: PeerId, left: Owed, now: Mono) {
        self.since = now + HELD_BACK;
        let owed = self.owed.entry(peer).or_default();
        owed.records.extend(left.records);
        owed.known = left.known.or(owed.known);
        owed.sum |= left.sum;
    }

    /// When there is something to send.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        let sums = Deadline::new(self.sums, "sums");
        let due = (!self.owed.is_empty()).then(|| Deadline::new(self.since, "gossip"));
        Deadline::earlier(due, Some(sums)).unwrap_or(sums)
    }

    /// Whether something is due.
    #[must_use]
    pub fn is_due(&self, now: Mono) -> bool {
        self.deadline().at <= now
    }
}

/// One number for all that is held, whoever reckons it.
#[must_use]
pub fn sum(held: &BTreeMap<PeerId, u64>) -> u64 {
    let mut hash = Sha256::new().chain_update(b"lanrage sum v1");
    for (id, seq) in held {
        hash.update(id.0);
        hash.update(seq.to_be_bytes());
    }
    hash.finalize().iter().take(8).fold(0, |acc, b| acc << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dice::Seed;

    fn peer(n: u8) -> PeerId {
        PeerId([n; 10])
    }

    fn gossip() -> Gossip {
        Gossip::new(Seed::from_u64(1).dice("gossip"), Mono::ZERO)
    }

    #[test]
    fn what_is_owed_twice_is_told_once() {
        let mut g = gossip();
        let now = Mono(Duration::from_secs(1));
        g.greet(peer(1), now);
        g.owe_known(peer(1), false, now);
        g.owe_records(peer(1), [peer(2), peer(3)], now);
        g.owe_records(peer(1), [peer(2)], now);
        assert_eq!(g.deadline(), Deadline::new(now, "gossip"));
        let (to, owed) = g.poll().unwrap();
        assert_eq!((to, owed.records.len(), owed.known), (peer(1), 2, Some(true)));
        assert_eq!(g.poll(), None);
    }

    #[test]
    fn sums_come_soon_after_news_and_seldom_without() {
        let mut g = gossip();
        assert!(g.deadline().at.0 >= Duration::from_secs(24));
        g.news(Mono::ZERO);
        let at = g.deadline().at;
        assert!(at.0 <= Duration::from_millis(2500));
        g.tick([peer(1), peer(2)], at);
        assert!(g.poll().is_some_and(|(_, owed)| owed.sum));
        assert_eq!(g.owed.len(), 1);
        g.poll();
        assert!(g.deadline().at.since(at) >= Duration::from_secs(24));
    }

    #[test]
    fn the_pace_holds_back_but_forgets_nothing() {
        let mut g = gossip();
        let sent = (0..1000).filter(|_| g.admit(Mono::ZERO)).count();
        assert_eq!(sent, 200);
        g.hold(peer(1), Owed { sum: true, ..Owed::default() }, Mono::ZERO);
        assert_eq!(g.deadline().at.0, HELD_BACK);
        assert!(g.admit(Mono(HELD_BACK)) && g.poll().is_some_and(|(_, o)| o.sum));
    }

    #[test]
    fn sums_agree_exactly_when_the_same_is_held() {
        let a = BTreeMap::from([(peer(1), 5), (peer(2), 6)]);
        let mut b = a.clone();
        assert_eq!(sum(&a), sum(&b));
        b.insert(peer(2), 7);
        assert_ne!(sum(&a), sum(&b));
    }
}
