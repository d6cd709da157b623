//! Whether something in some folders changed, for `run --dev`.
//!
//! It looks twice a second instead of asking the system to tell (inotify and its kin): a few dozen files cost less than a tenth of a
//! millisecond, it works on network shares and in containers, it needs no care for editors that write beside a file and rename, and
//! folders may come and go. A change is told when two looks in a row see the same, so that half a save is not read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(500);
/// Files that are watched; nobody works on more.
const FILES: usize = 2000;
const DEPTH: usize = 8;

type Seen = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// What was seen of the folders.
#[derive(Debug)]
pub struct Watch {
    folders: Vec<PathBuf>,
    /// At the last change that was told.
    told: Seen,
    last: Seen,
}

impl Watch {
    /// Begins with what is there now.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        let now = look(&folders);
        Self { folders, told: now.clone(), last: now }
    }

    /// Looks; true when something changed since the last time this was true, and has come to rest.
    pub fn changed(&mut self) -> bool {
        let now = look(&self.folders);
        let rests = now == self.last;
        self.last = now;
        let changed = rests && self.last != self.told;
        if changed {
            self.told.clone_from(&self.last);
        }
        changed
    }
}

fn look(folders: &[PathBuf]) -> Seen {
    let mut seen = Seen::new();
    folders.iter().for_each(|dir| walk(dir, DEPTH, &mut seen));
    seen
}

fn walk(dir: &Path, depth: usize, seen: &mut Seen) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let Ok(about) = entry.metadata() else { continue };
        if hidden || seen.len() >= FILES {
        } else if about.is_dir() && depth > 0 {
            walk(&entry.path(), depth - 1, seen);
        } else if about.is_file() {
            seen.insert(entry.path(), (about.len(), about.modified().ok()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_when_it_has_come_to_rest() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("plugins/a");
        let mut watch = Watch::new(vec![dir.path().join("plugins"), dir.path().join("nowhere")]);
        assert!(!watch.changed());
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join("main.luau"), "x").unwrap();
        assert!(!watch.changed(), "it may be half written");
        assert!(watch.changed() && !watch.changed());
        fs::write(sub.join(".main.luau.swp"), "x").unwrap();
        assert!(!watch.changed() && !watch.changed());
        fs::rename(sub.join("main.luau"), sub.join("other.luau")).unwrap();
        assert!(!watch.changed() && watch.changed());
        fs::remove_dir_all(&sub).unwrap();
        assert!(!watch.changed() && watch.changed() && !watch.changed());
    }
}
