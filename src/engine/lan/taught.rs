//! What plugins taught: verdicts that hold for a while, so that the next packet of a flow needs no question.
//!
//! A lesson is for what one rule gets from one source on one side, or only for exactly these bytes of it. It is told apart
//! by a keyed hash of the payload; whoever makes two payloads collide fools only its own flow. No source fills the table
//! alone, and nothing outlives `MOST`.

use crate::model::id::PeerId;
use crate::model::limits::TAUGHT;
use crate::model::script::{PluginIx, Verdict};
use crate::model::time::Mono;
use crate::rules::ruleset::{RuleIx, Side};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The longest life of a lesson; a plugin that is put to sleep or replaced is not remembered for longer.
pub const MOST: Duration = Duration::from_secs(300);
/// Lessons about the packets of one address.
const OF_ONE: usize = 128;

/// Packets of one kind from one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Address (in the party's terms) and port. First, so that those of one address lie together.
    pub source: SocketAddr,
    /// Which way they go.
    pub side: Side,
    /// The rule that matched them.
    pub rule: RuleIx,
}

/// What a plugin said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// What is to be done.
    pub verdict: Verdict,
    /// Only these peers get it; `None` is all.
    pub to: Option<Vec<PeerId>>,
    plugin: PluginIx,
    until: Mono,
}

/// All lessons of a node.
#[derive(Debug, Default)]
pub struct FlowTable {
    lessons: BTreeMap<(Flow, Option<u64>), Lesson>,
}

impl FlowTable {
    /// Whether nothing was ever taught: no need to hash.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lessons.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lessons.len()
    }

    /// What holds for a packet with these words.
    #[must_use]
    pub fn lesson(&self, flow: Flow, words: u64, now: Mono) -> Option<&Lesson> {
        let holds = |words| self.lessons.get(&(flow, words)).filter(|lesson| lesson.until > now);
        holds(Some(words)).or_else(|| holds(None))
    }

    /// Learns from a plugin; false when there is no room. `words` are those it is for, `None` is all.
    pub fn teach(
        &mut self,
        plugin: PluginIx,
        (flow, words): (Flow, Option<u64>),
        (verdict, to): (Verdict, Option<Vec<PeerId>>),
        life: Duration,
        now: Mono,
    ) -> bool {
        let key = (flow, words);
        if !self.lessons.contains_key(&key) {
            if self.lessons.len() >= TAUGHT || self.of(flow.source.ip()) >= OF_ONE {
                self.sweep(now);
            }
            if self.lessons.len() >= TAUGHT || self.of(flow.source.ip()) >= OF_ONE {
                return false;
            }
        }
        self.lessons.insert(key, Lesson { verdict, to, plugin, until: now + life.min(MOST) });
        true
    }

    /// How many there are about an address; the first few are enough to know.
    fn of(&self, source: IpAddr) -> usize {
        let bound = |port, side, rule, words| {
            (Flow { source: SocketAddr::new(source, port), side, rule: RuleIx(rule) }, words)
        };
        let all =
            bound(0, Side::FromGame, 0, None)..=bound(u16::MAX, Side::FromPeer, u16::MAX, Some(u64::MAX));
        self.lessons.range(all).take(OF_ONE).count()
    }

    /// Forgets what has run out.
    pub fn sweep(&mut self, now: Mono) {
        self.lessons.retain(|_, lesson| lesson.until > now);
    }

    /// Forgets what a plugin taught (it is gone, asleep, or another one now).
    pub fn forget(&mut self, plugin: PluginIx) {
        self.lessons.retain(|_, lesson| lesson.plugin != plugin);
    }

    /// Forgets everything (the rules changed).
    pub fn clear(&mut self) {
        self.lessons.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Mono {
        Mono(Duration::from_secs(s))
    }

    fn flow(source: &str) -> Flow {
        Flow { source: source.parse().unwrap(), side: Side::FromPeer, rule: RuleIx(3) }
    }

    const P: PluginIx = PluginIx(0);

    fn life(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_lesson_for_these_bytes_comes_before_one_for_all_and_both_run_out() {
        let (mut t, f) = (FlowTable::default(), flow("10.1.2.3:4"));
        assert!(t.teach(P, (f, None), (Verdict::Drop, None), life(20), at(0)));
        assert!(t.teach(P, (f, Some(7)), (Verdict::Replace(vec![1]), None), life(10), at(0)));
        assert_eq!(t.lesson(f, 7, at(1)).map(|l| &l.verdict), Some(&Verdict::Replace(vec![1])));
        assert_eq!(t.lesson(f, 8, at(1)).map(|l| &l.verdict), Some(&Verdict::Drop));
        assert_eq!(t.lesson(f, 7, at(10)).map(|l| &l.verdict), Some(&Verdict::Drop));
        assert_eq!(t.lesson(f, 7, at(20)), None);
        assert_eq!(t.lesson(flow("10.1.2.3:5"), 8, at(1)), None, "another port is another source");
    }

    #[test]
    fn no_lesson_lives_longer_than_five_minutes() {
        let (mut t, f) = (FlowTable::default(), flow("10.1.2.3:4"));
        assert!(t.teach(P, (f, None), (Verdict::Drop, None), life(1_000_000), at(0)));
        assert!(t.lesson(f, 0, at(299)).is_some());
        assert!(t.lesson(f, 0, at(300)).is_none());
    }

    #[test]
    fn one_address_does_not_use_up_the_table() {
        let mut t = FlowTable::default();
        for n in 0..10_000u64 {
            let f = flow(&format!("10.1.2.3:{}", n % 60_000));
            t.teach(P, (f, Some(n)), (Verdict::Drop, None), life(60), at(0));
        }
        assert_eq!(t.len(), OF_ONE);
        assert!(t.teach(P, (flow("10.1.2.4:4"), None), (Verdict::Drop, None), life(60), at(1)));
        for n in 0..=u8::MAX {
            for words in 0..64 {
                t.teach(
                    P,
                    (flow(&format!("10.1.3.{n}:1")), Some(words)),
                    (Verdict::Drop, None),
                    life(60),
                    at(1),
                );
            }
        }
        assert_eq!(t.len(), TAUGHT);
        let late = t.teach(P, (flow("10.1.2.5:4"), None), (Verdict::Drop, None), life(60), at(100));
        assert!(late, "what ran out makes room");
    }
}
