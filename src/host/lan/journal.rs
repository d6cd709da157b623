//! The journal of what was made on this computer, so that the next start can remove what a crash left.
//!
//! The device is not persistent: the kernel removes it, its addresses, routes and settings with the last file descriptor,
//! however the process ends. The journal is for the rest: a descriptor that lives on in some other process, and the
//! journal itself. It names the device and the process; only a device that carries exactly that process's note is
//! removed, never one that merely has the name. Written before the device is made, by a rename, so that it is whole.

use std::io;
use std::path::{Path, PathBuf};

use super::marker::Process;
use super::netlink::Netlink;

/// The file's name in the data folder.
const FILE: &str = "leftovers.json";
/// No journal of ours is longer; a longer file is not ours.
const LONGEST: u64 = 4096;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u32,
    adapter: String,
    process: Process,
}

/// The journal of a running process.
#[derive(Debug)]
pub(super) struct Journal {
    file: PathBuf,
}

impl Journal {
    /// Writes down that this process is about to make a device. A journal that cannot be written is a warning: what is
    /// made vanishes with the process anyway.
    pub(super) fn begin(data_dir: &Path, adapter: &str, process: Process) -> Self {
        let file = data_dir.join(FILE);
        let entry = Entry { version: 1, adapter: adapter.to_owned(), process };
        if let Err(error) = write_whole(data_dir, &file, &entry) {
            tracing::warn!(%error, file = %file.display(), "cannot write down what to remove after a crash");
        }
        Self { file }
    }

    /// All has been removed.
    pub(super) fn end(&self) {
        if let Err(error) = std::fs::remove_file(&self.file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %self.file.display(), "cannot remove the journal");
        }
    }
}

fn write_whole(data_dir: &Path, file: &Path, entry: &Entry) -> io::Result<()> {
    std::fs::create_dir_all(data_dir)?;
    let fresh = fresh_of(file);
    std::fs::write(&fresh, serde_json::to_vec(entry)?)?;
    std::fs::rename(&fresh, file)
}

fn fresh_of(file: &Path) -> PathBuf {
    file.with_extension("json.new")
}

/// Removes what a crashed process left, as its journal in `data_dir` names it, and returns what was done in words.
/// Call before `LanPort::open`. A process that still runs is left alone.
#[must_use]
pub fn clean_leftovers(data_dir: &Path) -> Vec<String> {
    let file = data_dir.join(FILE);
    let mut done = Vec::new();
    // A torn write: the rename never came, so nothing had been made yet.
    let _ = std::fs::remove_file(fresh_of(&file));
    let entry = match read(&file) {
        Ok(None) => return done,
        Ok(Some(entry)) => entry,
        Err(error) => {
            let aside = file.with_extension("json.broken");
            let kept = std::fs::rename(&file, &aside).is_ok();
            let what = if kept { format!("kept as {}", aside.display()) } else { "left there".to_owned() };
            done.push(format!("{} cannot be read ({error}): {what}, nothing was removed", file.display()));
            return done;
        }
    };
    let Entry { adapter, process, .. } = entry;
    if process.lives() {
        done.push(format!(
            "lanrage (process {}) is still running with this data folder and the adapter `{adapter}`: nothing was \
             removed",
            process.pid
        ));
        return done;
    }
    match remove_device(&adapter, process) {
        Ok(true) => {
            done.push(format!("removed the adapter `{adapter}`, which a lanrage that crashed left behind"));
        }
        Ok(false) => {}
        Err(error) => {
            done.push(format!("the adapter `{adapter}`, left by a crash, could not be removed: {error}"));
            return done;
        }
    }
    match std::fs::remove_file(&file) {
        Ok(()) => done.push(format!("removed {}, left by a lanrage that crashed", file.display())),
        Err(error) => done.push(format!("{} could not be removed: {error}", file.display())),
    }
    done
}

fn read(file: &Path) -> io::Result<Option<Entry>> {
    match std::fs::metadata(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
        Ok(m) if m.len() > LONGEST => return Err(io::Error::other("it is far too long")),
        Ok(_) => {}
    }
    let entry: Entry = serde_json::from_slice(&std::fs::read(file)?)?;
    if entry.version == 1 { Ok(Some(entry)) } else { Err(io::Error::other("it is of a later version")) }
}

fn remove_device(adapter: &str, process: Process) -> io::Result<bool> {
    let mut netlink = Netlink::open()?;
    match netlink.link_named(adapter)? {
        Some(link) if link.tun && link.alias == process.note() => {
            netlink.remove_link(link.index)?;
            Ok(true)
        }
        Some(_) | None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_a_dead_process_is_removed_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let dead = Process { pid: u32::MAX, started: 1 };
        Journal::begin(dir.path(), "lo", dead);
        let words = clean_leftovers(dir.path());
        assert_eq!(words.len(), 1, "the loopback device does not carry our note, so it stays: {words:?}");
        assert!(words[0].contains("leftovers.json"), "{words:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(clean_leftovers(dir.path()).is_empty());
    }

    #[test]
    fn the_journal_of_a_living_process_stays() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::begin(dir.path(), "lanrage0", Process::this().unwrap());
        assert!(clean_leftovers(dir.path())[0].contains("still running"));
        assert!(dir.path().join(FILE).exists());
        journal.end();
        journal.end();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_broken_journal_is_kept_aside() {
        for broken in ["{", r#"{"version":9,"adapter":"x","process":{"pid":1,"started":1}}"#] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), broken).unwrap();
            let words = clean_leftovers(dir.path());
            assert!(words[0].contains("cannot be read"), "{words:?}");
            assert_eq!(std::fs::read(dir.path().join("leftovers.json.broken")).unwrap(), broken.as_bytes());
            assert!(clean_leftovers(dir.path()).is_empty(), "said once");
        }
    }
}
