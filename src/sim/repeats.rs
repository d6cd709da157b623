//! What nodes say again by themselves: announcements that are late. Extra on purpose, and held to their own rules.
//!
//! The same bytes came over the tunnel before, from the same place and as the last ones; since the last copy at least one
//! rhythm has passed; and a game that is over is not kept alive for longer than its life.

use crate::model::time::Mono;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The longest that a game without a word is said again in any weather: twice its life of eight seconds, and a timer's delay.
const LONGEST: Duration = Duration::from_millis(16_100);

#[derive(Debug)]
struct Seen {
    packet: Vec<u8>,
    came: Mono,
    last: Mono,
}

/// The last announcement of each socket, on each computer.
#[derive(Debug, Default)]
pub struct Repeats {
    seen: BTreeMap<(usize, SocketAddr, SocketAddr), Seen>,
    count: usize,
}

impl Repeats {
    /// A node hands over a packet that came just now.
    pub fn came(&mut self, pc: usize, (from, to): (SocketAddr, SocketAddr), packet: &[u8], now: Mono) {
        self.seen.insert((pc, from, to), Seen { packet: packet.to_vec(), came: now, last: now });
    }

    /// A node says something again; what is wrong with that, if anything.
    pub fn again(
        &mut self,
        pc: usize,
        (from, to): (SocketAddr, SocketAddr),
        packet: &[u8],
        rhythm: Duration,
        now: Mono,
    ) -> Option<String> {
        self.count += 1;
        let Some(seen) = self.seen.get_mut(&(pc, from, to)) else {
            return Some("which never came".to_owned());
        };
        let (since, age) = (now.since(seen.last), now.since(seen.came));
        seen.last = now;
        if seen.packet != packet {
            Some("which is not what came last".to_owned())
        } else if since < rhythm {
            Some(format!("{since:?} after the last copy"))
        } else if age > LONGEST {
            Some(format!("{age:?} after it came"))
        } else {
            None
        }
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RHYTHM: Duration = Duration::from_millis(1500);

    #[test]
    fn a_repeat_is_the_last_word_of_its_socket_and_not_too_soon_or_too_late() {
        let at = |ms: u64| Mono(Duration::from_millis(ms));
        let sockets = ("10.83.7.2:5".parse().unwrap(), "224.0.2.60:4445".parse().unwrap());
        let mut r = Repeats::default();
        assert!(r.again(0, sockets, b"a", RHYTHM, at(0)).is_some(), "it never came");
        r.came(0, sockets, b"a", at(0));
        r.came(0, sockets, b"b", at(10));
        assert_eq!(r.again(0, sockets, b"b", RHYTHM, at(2260)), None);
        assert!(r.again(0, sockets, b"a", RHYTHM, at(9000)).is_some(), "not the last");
        assert!(r.again(0, sockets, b"b", RHYTHM, at(10_000)).is_some(), "too soon");
        assert!(r.again(1, sockets, b"b", RHYTHM, at(20_000)).is_some(), "another computer");
        assert_eq!(r.again(0, sockets, b"b", RHYTHM, at(16_000)), None);
        assert!(r.again(0, sockets, b"b", RHYTHM, at(17_600)).is_some(), "too late");
    }
}
