//! Notices that a game starts, so that the ports that it may want for itself alone can be let go in time.
//!
//! Four times a second it is asked which process the system made last, and only when that is another one, /proc is looked
//! through: processes that were not there at the last look are read. One that is younger than two seconds is read again,
//! because a program first has the name of whoever started it. Elsewhere than on Linux nothing is noticed; there our sockets
//! do not keep a game from its port.
//!
//! A program that starts may as well be a client that searches at once. So groups, whose ports hardly any game wants alone,
//! are heard again after a second; and a broadcast of somebody while there is a socket that was not there before, or what is said
//! to a group by such a socket, says that the game has what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::local::udp_sockets;

/// For how long ports are let go. A game that is loaded from a slow disk takes its time.
const LET_GO: Duration = Duration::from_secs(5);
/// For how long those of groups are.
const GROUPS: Duration = Duration::from_secs(1);
/// A process may change its name when it is younger.
const YOUNG: Duration = Duration::from_secs(2);
/// How long it is believed that nothing has changed: a game that has ended is noticed by nothing else.
const BELIEVED: Duration = Duration::from_secs(2);
/// Processes remembered; beyond, new ones are not noticed.
const MOST: usize = 65_536;

/// Looks for games that start.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// In lower case.
    names: Vec<String>,
    seen: BTreeMap<u32, Seen>,
    /// When /proc was looked through, and which process was the last one then.
    looked: Option<(Instant, Option<u32>)>,
    until: Option<Instant>,
    groups_until: Option<Instant>,
    /// The sockets that were there before the game came.
    sockets: BTreeSet<SocketAddrV4>,
}

/// A process.
#[derive(Debug, Clone, Copy)]
struct Seen {
    since: Instant,
    /// It needs no more looks.
    done: bool,
    game: bool,
}

impl Room {
    /// For programs of these names.
    pub(super) fn new(names: &[String]) -> Self {
        Self { names: names.iter().map(|name| name.to_lowercase()).collect(), ..Self::default() }
    }

    /// Whether there is anything to look for.
    pub(super) fn watches(&self) -> bool {
        cfg!(target_os = "linux") && !self.names.is_empty()
    }

    /// Whether ports are let go now.
    pub(super) fn is_letting_go(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether the time is over, for once.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let over = self.until.is_some_and(|until| now >= until);
        if over {
            self.until = None;
        }
        over
    }

    /// Whether the time of the groups is over, for once.
    pub(super) fn are_groups_over(&mut self, now: Instant) -> bool {
        self.groups_until.take_if(|until| now >= *until).is_some()
    }

    /// Somebody broadcasts while ports are let go: true, and it is over, when that may be the game.
    pub(super) fn heed_search(&mut self, now: Instant) -> bool {
        let searches = self.is_letting_go(now) && udp_sockets().iter().any(|at| !self.sockets.contains(at));
        if searches {
            self.until = Some(now);
        }
        searches
    }

    /// Somebody speaks to everybody from this port: while ports are let go, it is over when that one was not there before.
    pub(super) fn heed_speaker(&mut self, port: u16, now: Instant) {
        if self.is_letting_go(now) && self.sockets.iter().all(|at| at.port() != port) {
            self.until = Some(now);
        }
    }

    /// Looks; true when a game has started and its ports are to be let go. A game that starts others all the time gets no
    /// second turn before the first is over.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        if !self.watches() {
            return false;
        }
        let last = last_process();
        if self.is_quiet(last, now) {
            return false;
        }
        let ours = network_of("thread-self");
        let started = self.started(processes(), |process| name_of(process, ours), now);
        self.looked = Some((now, last));
        if started && !self.is_letting_go(now) {
            self.until = Some(now + LET_GO);
            self.groups_until = Some(now + GROUPS);
            return true;
        }
        if !self.is_letting_go(now) {
            self.sockets = udp_sockets();
        }
        false
    }

    /// Whether a program that may search runs: one of the games, or, where no names are known, any.
    pub(super) fn runs(&self) -> bool {
        !self.watches() || self.seen.values().any(|seen| seen.game)
    }

    /// Nothing was started since the last look, and nobody is still to show what it becomes.
    fn is_quiet(&self, last: Option<u32>, now: Instant) -> bool {
        let same = |(at, before): (Instant, Option<u32>)| {
            last.is_some() && last == before && now.duration_since(at) < BELIEVED
        };
        self.looked.is_some_and(same) && self.seen.values().all(|seen| seen.done)
    }

    fn started(&mut self, there: Vec<u32>, names: impl Fn(u32) -> Vec<String>, now: Instant) -> bool {
        let mut started = false;
        let mut seen = BTreeMap::new();
        for process in there.into_iter().take(MOST) {
            let known = self.seen.get(&process).copied();
            let mut one = known.unwrap_or(Seen { since: now, done: false, game: false });
            one.done |= now.duration_since(one.since) > YOUNG;
            if !one.done && names(process).iter().any(|name| self.is_game(name)) {
                // What was there before us has its ports already.
                started |= self.looked.is_some();
                (one.done, one.game) = (true, true);
            }
            one.done |= self.looked.is_none();
            seen.insert(process, one);
        }
        self.seen = seen;
        self.looked = Some((now, None));
        started
    }

    fn is_game(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        // The kernel keeps fifteen bytes of a program's name.
        self.names.iter().any(|game| *game == name || (name.len() == 15 && game.starts_with(&name)))
    }
}

fn processes() -> Vec<u32> {
    let Ok(list) = std::fs::read_dir("/proc") else { return Vec::new() };
    list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The process that the system made last, of all that this one may see.
fn last_process() -> Option<u32> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().last()?.parse().ok()
}

/// What tells the network that a process lives in from others. The link that names it is for its owner alone, but the lists of
/// sockets are for everybody, and each network has its own.
fn network_of(process: &str) -> Option<u64> {
    std::fs::metadata(format!("/proc/{process}/net/udp")).ok().map(|list| inode(&list))
}

#[cfg(target_os = "linux")]
fn inode(of: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(of)
}

/// There are no such lists elsewhere.
#[cfg(not(target_os = "linux"))]
const fn inode(_: &std::fs::Metadata) -> u64 {
    0
}

/// What a process is called: by itself (Wine gives a Windows program its own name), and by its file. Not by the command
/// line that it was started with: reading that one waits for a process that is busy with its memory, and packets wait too.
/// Nothing when it lives in another network than `ours`, as those in most containers do: no port of ours is in its way.
fn name_of(process: u32, ours: Option<u64>) -> Vec<String> {
    if matches!((ours, network_of(&process.to_string())), (Some(ours), Some(its)) if ours != its) {
        return Vec::new();
    }
    let name = std::fs::read(format!("/proc/{process}/comm")).unwrap_or_default();
    let file = std::fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
    let file = file.file_name().map(|name| name.to_string_lossy().into_owned());
    std::iter::once(String::from_utf8_lossy(&name).trim_end().to_owned()).chain(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_os = "linux")]
    use std::net::SocketAddr;

    #[test]
    fn a_game_is_noticed_when_it_starts_and_not_because_it_runs() {
        let mut room = Room::new(&["Game.exe".to_owned(), "a-very-long-program-name".to_owned()]);
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let names = |name: &'static str| {
            move |process: u32| vec![if process == 1 { "init".to_owned() } else { name.to_owned() }]
        };
        assert!(!room.started(vec![1, 2], names("game.exe"), at(0)), "it was there before us");
        assert!(!room.started(vec![1, 2], names("game.exe"), at(250)));
        assert!(!room.started(vec![1, 2, 3], names("sh"), at(500)), "not yet what it becomes");
        assert!(room.started(vec![1, 2, 3], names("GAME.EXE"), at(750)));
        assert!(!room.started(vec![1, 2, 3], names("GAME.EXE"), at(1000)), "noticed once");
        assert!(room.started(vec![1, 9], names("a-very-long-pro"), at(1250)), "as the kernel cuts it");
        assert!(!room.started(vec![1, 8], names("a-very-long"), at(1500)));
        assert!(!room.started(vec![1, 8], names("game.exe"), at(5000)), "too old to change its name");
    }

    #[test]
    fn who_is_looked_at_tells_whether_a_game_runs_and_when_to_look_again() {
        let mut room = Room::new(&["game".to_owned()]);
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let names = |process: u32| vec![if process == 2 { "game" } else { "sh" }.to_owned()];
        assert!(!room.is_quiet(Some(2), at(0)), "nobody has looked yet");
        assert!(!room.started(vec![1, 2], names, at(0)));
        room.looked = Some((at(0), Some(2)));
        assert!(room.runs() || !room.watches(), "it was there before us, and runs all the same");
        assert!(room.is_quiet(Some(2), at(250)) && !room.is_quiet(Some(3), at(250)));
        assert!(!room.is_quiet(None, at(250)), "a system that does not say it");
        assert!(!room.is_quiet(Some(2), at(2_000)), "not for ever");
        room.started(vec![1, 3], names, at(2_250));
        room.looked = Some((at(2_250), Some(3)));
        assert!(!room.is_quiet(Some(3), at(2_500)), "a process that may still change its name");
        assert!(!room.runs() || !room.watches(), "the game has ended");
        room.started(vec![1, 3], names, at(5_000));
        room.looked = Some((at(5_000), Some(3)));
        assert!(room.is_quiet(Some(3), at(5_250)));
        assert!(Room::new(&[]).runs(), "any program may be a game whose name is not known");
    }

    #[cfg(target_os = "linux")]
    fn v4_of(at: SocketAddr) -> SocketAddrV4 {
        let SocketAddr::V4(at) = at else { panic!() };
        at
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_game_that_searches_has_its_ports() {
        let mut room = Room::new(&["game".to_owned()]);
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        room.until = Some(at(5_000));
        room.groups_until = Some(at(1_000));
        // All that there is was there before, but for one.
        let mine = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        room.sockets = udp_sockets();
        let mine = v4_of(mine.local_addr().unwrap());
        assert!(room.sockets.remove(&mine), "the system lists it");
        assert!(!room.are_groups_over(at(900)) && room.are_groups_over(at(1_000)));
        assert!(!room.are_groups_over(at(1_250)), "once");
        assert!(room.is_letting_go(at(1_250)) && room.heed_search(at(1_250)));
        assert!(!room.is_letting_go(at(1_250)) && room.is_over(at(1_500)) && !room.is_over(at(1_750)));
        assert!(!room.heed_search(at(1_750)), "nothing is let go any more");
        room.until = Some(at(9_000));
        let old = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        room.sockets.insert(v4_of(old));
        room.heed_speaker(old.port(), at(2_000));
        assert!(room.is_letting_go(at(2_000)), "that one spoke before, too");
        room.heed_speaker(mine.port(), at(2_000));
        assert!(!room.is_letting_go(at(2_000)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_names_this_very_process() {
        let me = std::process::id();
        assert!(processes().contains(&me));
        assert!(last_process().is_some_and(|last| last > 0));
        let program = std::env::current_exe().unwrap();
        let program = program.file_name().unwrap().to_str().unwrap();
        let names = name_of(me, network_of("thread-self"));
        assert!(names.iter().any(|name| name == program), "{names:?}");
        assert!(name_of(me, Some(0)).is_empty(), "to another network it is nobody");
    }
}
