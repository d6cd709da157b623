//! Connections that are over but whose last acknowledgement may have been lost (TIME-WAIT). What is kept of them is
//! that one packet, not the connection with its buffers: hundreds of short connections leave nothing heavier behind.

use super::segment::{Key, Segment, flag};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// How long a lost acknowledgement may be asked for: as long as smoltcp's own TIME-WAIT.
const REST: Duration = Duration::from_secs(10);
/// How many are kept; the oldest makes room.
const GRAVES: usize = 1_024;

/// The last packets of connections that are over.
#[derive(Debug, Default)]
pub(super) struct Graves {
    last: HashMap<Key, (Instant, Box<[u8]>)>, // lookup only
    order: VecDeque<(Instant, Key)>,
}

impl Graves {
    /// Remembers a connection by its last packet.
    pub(super) fn bury(&mut self, key: Key, last: Box<[u8]>, now: Instant) {
        self.forget(now);
        if self.order.len() >= GRAVES
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.last.remove(&oldest);
        }
        let until = now + REST;
        self.last.insert(key, (until, last));
        self.order.push_back((until, key));
    }

    /// Whether this connection was over a moment ago.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.last.contains_key(key)
    }

    /// What is answered to a segment of a connection that is over; `None` when there was none, or it is to be forgotten
    /// because a new one begins.
    pub(super) fn answer(&mut self, segment: &Segment<'_>, now: Instant) -> Answer<'_> {
        let Some((until, _)) = self.last.get(&segment.key) else { return Answer::Unknown };
        if *until <= now || segment.opens() {
            self.last.remove(&segment.key);
            return Answer::Unknown;
        }
        match self.last.get(&segment.key) {
            Some((_, last)) if segment.has(flag::FIN) || segment.data > 0 => Answer::Again(last),
            _ => Answer::Nothing,
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((until, key)) = self.order.front().copied().filter(|(until, _)| *until <= now) {
            self.order.pop_front();
            // The same ports may have been used again since.
            if self.last.get(&key).is_some_and(|(at, _)| *at == until) {
                self.last.remove(&key);
            }
        }
    }
}

/// What to do with a segment that belongs to no connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// It never belonged to one.
    Unknown,
    /// The other side did not hear the end: this again.
    Again(&'a [u8]),
    /// Nothing.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(port: u16, flags: u8, data: usize) -> Segment<'static> {
        let key = Key { peer: "10.0.0.2:7".parse().unwrap(), port };
        Segment { bytes: &[], key, to: "10.0.0.1".parse().unwrap(), seq: 0, flags, data }
    }

    #[tokio::test]
    async fn the_end_is_told_again_until_a_new_connection_begins_or_it_is_old() {
        let (mut graves, now) = (Graves::default(), Instant::now());
        let fin = segment(1, flag::FIN | flag::ACK, 0);
        assert_eq!(graves.answer(&fin, now), Answer::Unknown);
        graves.bury(fin.key, vec![7].into(), now);
        assert_eq!(graves.answer(&fin, now), Answer::Again(&[7]));
        assert_eq!(
            graves.answer(&segment(1, flag::ACK, 0), now),
            Answer::Nothing,
            "no war of acknowledgements"
        );
        assert_eq!(graves.answer(&segment(1, flag::SYN, 0), now), Answer::Unknown);
        assert_eq!(graves.answer(&fin, now), Answer::Unknown, "forgotten by the new one");
        graves.bury(fin.key, vec![8].into(), now);
        assert_eq!(graves.answer(&fin, now + REST), Answer::Unknown);
    }

    #[tokio::test]
    async fn there_are_never_more_than_fit() {
        let (mut graves, now) = (Graves::default(), Instant::now());
        for port in 1..=3_000 {
            graves.bury(segment(port, 0, 0).key, Box::default(), now);
        }
        assert_eq!((graves.last.len(), graves.order.len()), (GRAVES, GRAVES));
        assert!(graves.holds(&segment(3_000, 0, 0).key) && !graves.holds(&segment(1, 0, 0).key));
        graves.bury(segment(1, 0, 0).key, Box::default(), now + REST);
        assert_eq!((graves.last.len(), graves.order.len()), (1, 1));
    }
}
