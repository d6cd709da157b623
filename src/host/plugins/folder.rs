//! The plugins of a data folder: `plugins/<id>/`, and `plugins.lock` beside it.
//!
//! A plugin is written into a folder of its own name with a dot before it, then renamed; the one that it replaces is kept until the
//! lock file says the new hash. Who is interrupted in between finds, at the next look, either the old one or the new one, whole:
//!
//! | on disk | what happened | what is done |
//! |---|---|---|
//! | `.new-ID` | writing was interrupted | it is removed |
//! | `.old-ID`, and the lock names what `ID` holds | only tidying up was | `.old-ID` is removed |
//! | `.old-ID`, and the lock names something else | the lock was not written | `.old-ID` becomes `ID` again |
//!
//! Everything happens under a lock of the system's own (it vanishes with the process), so two `plugin add` wait for one another.

use super::super::store::{failed, make_dir};
use super::pins::{Pin, Pins};
use super::tree::Tree;
use crate::model::id::PluginId;
use crate::model::status::Trouble;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder's name in the data folder.
const FOLDER: &str = "plugins";
const NEW: &str = ".new-";
const OLD: &str = ".old-";
const LOCK: &str = ".lock";
/// Another `plugin add` writes a few megabytes at most.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// Plugins that are looked at.
const MOST: usize = 1000;

/// A plugin of the data folder, as it lies there.
#[derive(Debug)]
pub struct Kept {
    /// Its files, or why they are none of a plugin.
    pub tree: Result<Tree, String>,
    /// What was agreed to; `None` when nothing was.
    pub pin: Option<Pin>,
    /// Where it lies.
    pub dir: PathBuf,
}

/// The plugins of a data folder.
#[derive(Debug, Clone)]
pub struct PluginFolder {
    data_dir: PathBuf,
    dir: PathBuf,
}

impl PluginFolder {
    /// Of this data folder; nothing is made.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_path_buf(), dir: data_dir.join(FOLDER) }
    }

    /// Where plugins lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All plugins, those included that are only in the lock file.
    ///
    /// # Errors
    /// When the lock file makes no sense, or somebody else writes for very long.
    pub fn read(&self) -> Result<BTreeMap<PluginId, Kept>, Trouble> {
        if !self.dir.is_dir() && !self.data_dir.join(super::pins::PINS).exists() {
            return Ok(BTreeMap::new());
        }
        // Where nothing may be written nobody writes.
        let _busy = if self.dir.is_dir() { self.lock().or_else(passed_over)? } else { None };
        let pins = Pins::read(&self.data_dir)?;
        let mut out = BTreeMap::new();
        for id in self.ids().into_iter().chain(pins.plugin.keys().cloned()) {
            if out.len() < MOST && !out.contains_key(&PluginId(id.clone())) {
                out.insert(PluginId(id.clone()), self.kept(&id, &pins));
            }
        }
        Ok(out)
    }

    fn kept(&self, id: &str, pins: &Pins) -> Kept {
        let dir = self.dir.join(id);
        let tree = Tree::of_folder(&dir).map_err(|why| why.to_string());
        Kept { tree, pin: pins.plugin.get(id).cloned(), dir }
    }

    /// Folders that may be plugins, in order.
    fn ids(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter(|name| is_id(name)).collect();
        ids.sort();
        ids
    }

    /// Adds a plugin, or replaces the one of this id.
    ///
    /// # Errors
    /// When it cannot be written; then everything is as it was.
    pub fn put(&self, id: &PluginId, tree: &Tree, pin: Pin) -> Result<(), Trouble> {
        assert!(is_id(&id.0), "the manifest's check let only ids through");
        make_dir(&self.data_dir)?;
        make_dir(&self.dir)?;
        let _busy = self.lock()?;
        let mut pins = Pins::read(&self.data_dir)?;
        let [new, old] = [NEW, OLD].map(|mark| self.dir.join(format!("{mark}{id}")));
        let place = self.dir.join(&id.0);
        tree.write(&new).map_err(|e| {
            let _ = fs::remove_dir_all(&new);
            failed("write", &new, &e)
        })?;
        let there = fs::symlink_metadata(&place).is_ok();
        let moved = (|| {
            if there {
                fs::rename(&place, &old)?;
            }
            fs::rename(&new, &place)
        })();
        pins.plugin.insert(id.0.clone(), pin);
        let done = moved.map_err(|e| failed("write", &place, &e)).and_then(|()| pins.write(&self.data_dir));
        if done.is_err() {
            let _ = fs::remove_dir_all(&new);
            let _ = fs::remove_dir_all(&place);
            if there {
                let _ = fs::rename(&old, &place);
            }
            return done;
        }
        let _ = remove(&old);
        Ok(())
    }

    /// Removes a plugin. False when there is none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, id: &PluginId) -> Result<bool, Trouble> {
        if !is_id(&id.0) || !self.dir.is_dir() && !self.data_dir.join(super::pins::PINS).exists() {
            return Ok(false);
        }
        make_dir(&self.dir)?;
        let _busy = self.lock()?;
        let mut pins = Pins::read(&self.data_dir)?;
        let place = self.dir.join(&id.0);
        let known = pins.plugin.remove(&id.0).is_some();
        let there = fs::symlink_metadata(&place).is_ok();
        // The lock first: what lies there without it is never loaded.
        if known {
            pins.write(&self.data_dir)?;
        }
        if there {
            let new = self.dir.join(format!("{NEW}{id}"));
            fs::rename(&place, &new).and_then(|()| remove(&new)).map_err(|e| failed("remove", &place, &e))?;
        }
        Ok(known || there)
    }

    /// Waits for the others, then repairs what an interrupted one left.
    fn lock(&self) -> Result<Option<File>, Trouble> {
        let path = self.dir.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|e| failed("make", &path, &e))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waited < PATIENCE => {
                    std::thread::sleep(LOOK);
                    waited += LOOK;
                }
                Err(TryLockError::WouldBlock) => {
                    let what = format!("another lanrage is changing the plugins in {}", self.dir.display());
                    return Err(Trouble::new("plugins_busy", what, "wait for it, then try again"));
                }
                Err(TryLockError::Error(e)) => return Err(failed("lock", &path, &e)),
            }
        }
        self.repair();
        Ok(Some(file))
    }

    fn repair(&self) {
        let pins = Pins::read(&self.data_dir).ok();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(NEW) {
                let _ = remove(&entry.path());
            }
            let (Some(id), Some(pins)) = (name.strip_prefix(OLD), &pins) else { continue };
            let place = self.dir.join(id);
            let finished = Tree::of_folder(&place)
                .is_ok_and(|tree| pins.plugin.get(id).is_some_and(|pin| pin.hash == tree.hash()));
            if finished {
                let _ = remove(&entry.path());
            } else {
                let _ = remove(&place);
                let _ = fs::rename(entry.path(), &place);
            }
        }
    }
}

/// A data folder of somebody else, or on a disk that cannot be written, is only looked at.
fn passed_over(trouble: Trouble) -> Result<Option<File>, Trouble> {
    if trouble.code == "plugins_busy" { Err(trouble) } else { Ok(None) }
}

/// Removes a folder, or the link that somebody put in its place.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Whether a text can be a plugin's id, and so a folder's name: small letters, digits and `-`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::script::Capabilities;

    fn tree(text: &str) -> Tree {
        Tree::of([("plugin.toml", text.as_bytes())]).unwrap()
    }

    fn pin(tree: &Tree) -> Pin {
        Pin::of(tree, "1", "test", &Capabilities::default())
    }

    fn held(folder: &PluginFolder) -> Option<String> {
        let kept = folder.read().unwrap().remove(&"a".into())?;
        let tree = kept.tree.ok()?;
        assert_eq!(kept.pin.map(|pin| pin.hash), Some(tree.hash()), "what lies there is what was agreed to");
        Some(tree.text("plugin.toml").unwrap().unwrap().to_owned())
    }

    #[test]
    fn looking_makes_nothing_and_put_replace_and_remove_do_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PluginFolder::of(&dir.path().join("data"));
        assert!(folder.read().unwrap().is_empty() && !folder.remove(&"a".into()).unwrap());
        assert!(!dir.path().join("data").exists());
        for text in ["one", "two"] {
            folder.put(&"a".into(), &tree(text), pin(&tree(text))).unwrap();
            assert_eq!(held(&folder).as_deref(), Some(text));
        }
        assert!(folder.remove(&"a".into()).unwrap());
        assert_eq!(held(&folder), None);
        let left: Vec<_> = fs::read_dir(folder.dir()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, [LOCK]);
    }

    #[test]
    fn whoever_is_interrupted_leaves_the_old_one_or_the_new_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PluginFolder::of(dir.path());
        let (one, two) = (tree("one"), tree("two"));
        let at = |name: &str| folder.dir().join(name);
        let fresh = || {
            let _ = fs::remove_dir_all(folder.dir());
            folder.put(&"a".into(), &one, pin(&one)).unwrap();
        };
        // While the new one is written.
        fresh();
        fs::create_dir(at(".new-a")).unwrap();
        fs::write(at(".new-a/plugin.toml"), "tw").unwrap();
        assert_eq!(held(&folder).as_deref(), Some("one"));
        // Between the two renames.
        fresh();
        two.write(&at(".new-a")).unwrap();
        fs::rename(at("a"), at(".old-a")).unwrap();
        assert_eq!(held(&folder).as_deref(), Some("one"));
        // Before the lock file was written.
        fresh();
        fs::rename(at("a"), at(".old-a")).unwrap();
        two.write(&at("a")).unwrap();
        assert_eq!(held(&folder).as_deref(), Some("one"));
        // Before the old one was removed.
        fresh();
        folder.put(&"a".into(), &two, pin(&two)).unwrap();
        one.write(&at(".old-a")).unwrap();
        assert_eq!(held(&folder).as_deref(), Some("two"));
        assert!(!at(".old-a").exists());
    }

    #[test]
    fn a_lock_file_that_makes_no_sense_stops_everything_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PluginFolder::of(dir.path());
        folder.put(&"a".into(), &tree("one"), pin(&tree("one"))).unwrap();
        let path = dir.path().join(super::super::pins::PINS);
        fs::write(&path, "nonsense").unwrap();
        for told in [
            folder.read().map(drop),
            folder.put(&"a".into(), &tree("two"), pin(&tree("two"))),
            folder.remove(&"a".into()).map(drop),
        ] {
            assert_eq!(told.unwrap_err().code, "plugins_lock");
        }
        assert_eq!(fs::read_to_string(folder.dir().join("a/plugin.toml")).unwrap(), "one");
        assert_eq!(fs::read_to_string(path).unwrap(), "nonsense");
    }

    #[test]
    fn many_at_once_wait_for_one_another() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PluginFolder::of(dir.path());
        let add = |n: u32| {
            let id = PluginId(format!("p{n}"));
            folder.put(&id, &tree("x"), pin(&tree("x"))).unwrap();
        };
        std::thread::scope(|scope| (0..8).for_each(|n| drop(scope.spawn(move || add(n)))));
        let all = folder.read().unwrap();
        assert!(
            all.len() == 8 && all.values().all(|kept| kept.pin.is_some() && kept.tree.is_ok()),
            "{all:?}"
        );
    }

    #[test]
    fn ids_are_plain() {
        for (text, good) in [
            ("warcraft3", true),
            ("a-b", true),
            ("", false),
            ("..", false),
            ("-x", false),
            ("A", false),
            ("a/b", false),
        ] {
            assert_eq!(is_id(text), good, "{text}");
        }
    }
}
