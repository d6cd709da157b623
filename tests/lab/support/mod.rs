//! What the stories of the lab are told with.
//!
//! * `net`: hosts in network namespaces, with no common LAN unless the story says so
//! * `process`: a running program whose lines are read with their times
//! * `node`: a running lanrage: its events, its status, its end
//! * `game`: what games do on a LAN: listen as Java does, announce, be a server on a port
//! * `far`: a long line between two hosts
//! * `traces`: everything a program can leave behind on a host

pub(crate) mod far;
pub(crate) mod game;
pub(crate) mod net;
pub(crate) mod node;
pub(crate) mod process;
pub(crate) mod traces;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whether this machine can run a story that needs these programs. If not, says why and returns false; with
/// `LANRAGE_LAB=must`, as in CI, that is a failure instead.
pub(crate) fn ready(tools: &[&str]) -> bool {
    let missing: Vec<&str> =
        ["ip", "python3"].iter().chain(tools).copied().filter(|t| find(t).is_none()).collect();
    let why = if std::fs::metadata("/proc/self").map_or(1, |m| m.uid()) != 0 {
        "network namespaces need root".to_owned()
    } else if !Path::new("/dev/net/tun").exists() {
        "there is no /dev/net/tun".to_owned()
    } else if !missing.is_empty() {
        format!("not installed: {} (scripts/lab-setup installs it)", missing.join(", "))
    } else {
        net::remove_orphans();
        return true;
    };
    assert!(std::env::var("LANRAGE_LAB").as_deref() != Ok("must"), "the lab cannot run here: {why}");
    say(&format!("skipped: {why}"));
    false
}

/// Says something that shows even when the test passes: `cargo test` hides what `println!` writes.
pub(crate) fn say(text: &str) {
    let name = std::thread::current().name().unwrap_or("lab").to_owned();
    let _ = std::io::stderr().write_all(format!("    {name}: {text}\n").as_bytes());
}

/// Where a program is, in the places Debian puts them.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/games"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

/// Asks again and again until there is an answer or the time is over.
pub(crate) fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
