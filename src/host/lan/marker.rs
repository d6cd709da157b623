//! The note that lanrage puts on its devices (the interface alias), which says which process made them.
//!
//! By it other lanrage processes know a device as a tunnel and not as a card, and the cleaning up after a crash knows a
//! device as the dead process's own, even if somebody else has taken the name since. A process is named by its id and
//! its start time, because ids are used again.

use std::io;

/// What every note starts with.
const MARK: &str = "lanrage";

/// A process, told apart from all others since the computer started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::host) struct Process {
    /// The process id.
    pub(in crate::host) pid: u32,
    /// When it started, in clock ticks since the computer did (field 22 of /proc/PID/stat).
    pub(in crate::host) started: u64,
}

impl Process {
    /// This process.
    pub(in crate::host) fn this() -> io::Result<Self> {
        let pid = std::process::id();
        let started = start_of(pid)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "/proc/self/stat has no start time"))?;
        Ok(Self { pid, started })
    }

    /// Whether it still runs.
    pub(in crate::host) fn lives(self) -> bool {
        start_of(self.pid) == Some(self.started)
    }

    /// The note for its devices.
    pub(in crate::host) fn note(self) -> String {
        format!("{MARK} {} {}", self.pid, self.started)
    }
}

/// Whether a note says that lanrage made the device.
pub(in crate::host) fn is_ours(note: &str) -> bool {
    note.split(' ').next() == Some(MARK)
}

fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything, brackets and spaces included.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    // Zombies have ended; their devices are gone with their file descriptors.
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_its_namesakes_do_not() {
        let me = Process::this().unwrap();
        assert!(me.lives());
        assert!(!Process { started: me.started + 1, ..me }.lives(), "the id was used again");
        assert!(!Process { pid: u32::MAX, ..me }.lives());
        assert!(is_ours(&me.note()));
        assert!(!is_ours("lanragelike") && !is_ours("uplink"));
    }
}
