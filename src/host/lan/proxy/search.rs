//! Notices that some program of this computer broadcasts, without holding any port: the kernel counts the broadcasts that
//! leave, and anybody may read that.
//!
//! Who holds the port that a game's searches go to keeps a server of that game from starting: nearly all games want their
//! port for themselves, at every address. So these ports are listened to only while somebody searches, and while there is
//! a game of somebody else to be found: then this player is a guest. The first search of a silent evening is missed;
//! games search again and again, or when the list is refreshed.

use std::time::{Duration, Instant};

/// How long is listened after the last broadcast: players refresh a list about this often, and some games do not search
/// again for ten seconds and more, however often they are asked to (OpenTTD).
const LISTENS: Duration = Duration::from_secs(20);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Searching {
    /// The kernel's count at the last look.
    counted: Option<u64>,
    /// How many of them were ours.
    ours: u64,
    until: Option<Instant>,
}

impl Searching {
    /// Looks; true when somebody else has broadcast since the last look. `ours`: how many we sent so far.
    pub(super) fn look(&mut self, ours: u64, now: Instant) -> bool {
        // Elsewhere nobody is kept from a port, and nothing is counted.
        let Some(count) = count() else { return false };
        self.heed(count, ours, now)
    }

    fn heed(&mut self, count: u64, ours: u64, now: Instant) -> bool {
        let before = self.counted.replace(count).unwrap_or(count);
        let own = ours.saturating_sub(std::mem::replace(&mut self.ours, ours));
        let others = count.saturating_sub(before) > own;
        if others {
            self.until = Some(now + LISTENS);
        }
        others
    }

    /// Whether somebody searched lately.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// Broadcasts that programs of this computer have sent.
fn count() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    parse(&std::fs::read_to_string("/proc/thread-self/net/netstat").ok()?)
}

/// Two lines of each kind: the names, then the numbers.
fn parse(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("IpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_ascii_whitespace().position(|name| name == "OutBcastPkts")?;
    numbers.split_ascii_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_read() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InX OutBcastPkts Y\nIpExt: 5 77 9\n";
        assert_eq!(parse(text), Some(77));
        assert_eq!((parse(""), parse("IpExt: OutBcastPkts\n")), (None, None));
        #[cfg(target_os = "linux")]
        assert!(count().is_some());
    }

    #[test]
    fn broadcasts_of_others_are_told_from_ours() {
        let (mut searching, t0) = (Searching::default(), Instant::now());
        assert!(!searching.heed(100, 0, t0), "what was before does not count");
        assert!(!searching.heed(103, 3, t0), "all ours");
        assert!(!searching.lasts(t0));
        assert!(searching.heed(105, 4, t0), "one is not");
        assert!(searching.lasts(t0 + Duration::from_secs(19)) && !searching.lasts(t0 + LISTENS));
        assert!(!searching.heed(105, 4, t0));
    }
}
