//! Reading and changing `discovery.json`: under a lock, through a temporary file that is renamed, and never over
//! something that cannot be read: that is kept aside as `discovery.json.broken-<unix>`.

use super::document::{Document, VERSION};
use super::lock::{Guard, Locking, Patience};
use crate::model::time::{Mono, Now};
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file's name.
const NAME: &str = "discovery.json";
/// More than 256 parties of ordinary size; what is larger was not written by us.
const MOST_BYTES: u64 = 16 << 20;
/// A temporary file of this age was left by a program that was killed.
const ORPHAN: Duration = Duration::from_secs(60);

/// What goes wrong with a shared folder, in sentences for players.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Not there.
    #[error("the folder {} does not exist; check the spelling, or create it", .0.display())]
    Missing(PathBuf),
    /// Something else is there.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// No rights.
    #[error("no permission for {doing} in {}; all players need to read and write there", .dir.display())]
    Denied {
        /// The folder.
        dir: PathBuf,
        /// What was tried.
        doing: &'static str,
    },
    /// Somebody holds the lock.
    #[error("another program keeps {} locked; is one of the players' PCs asleep or stuck?", .0.display())]
    Busy(PathBuf),
    /// Something else stands in the lock file's place.
    #[error("discovery.lock in {} is a link or no ordinary file, so somebody else put it there; delete it", .0.display())]
    StrangeLock(PathBuf),
    /// Written by a later lanrage.
    #[error("discovery.json in {} was written by a newer lanrage (format {version}); update this one", .dir.display())]
    Newer {
        /// The folder.
        dir: PathBuf,
        /// The file's format.
        version: u32,
    },
    /// Cannot be read as what it should be. Not shown to people: the next change keeps the file aside.
    #[error("discovery.json in {} is damaged", .0.display())]
    Damaged(PathBuf),
    /// Any other trouble.
    #[error("{doing} in {} failed: {source}", .dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

impl FolderError {
    pub(super) fn of(dir: &Path, doing: &'static str, source: std::io::Error) -> Self {
        match (dir.metadata(), source.kind()) {
            (Err(e), _) if e.kind() == ErrorKind::NotFound => Self::Missing(dir.to_owned()),
            (Ok(meta), _) if !meta.is_dir() => Self::NotAFolder(dir.to_owned()),
            (_, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                Self::Denied { dir: dir.to_owned(), doing }
            }
            (Ok(_) | Err(_), _) => Self::Io { dir: dir.to_owned(), doing, source },
        }
    }
}

/// Something to tell people although the work went on: a stable word and a sentence.
pub type Notice = (&'static str, String);

/// A change that was made.
#[derive(Debug)]
pub struct Changed<R> {
    /// What the change returned.
    pub value: R,
    /// The file as it is now.
    pub document: Document,
    /// What people should know.
    pub notices: Vec<Notice>,
}

/// How the file looked from outside; another look means new contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    modified: Option<SystemTime>,
    len: u64,
}

/// A shared folder.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    locking: Locking,
    swept: bool,
}

impl Folder {
    /// The folder, which has to be there.
    ///
    /// # Errors
    /// `Missing`, `NotAFolder`, `Denied` or `Io`.
    pub fn open(dir: &Path, locking: Locking) -> Result<Self, FolderError> {
        match dir.metadata() {
            Ok(meta) if meta.is_dir() => Ok(Self { dir: dir.to_owned(), locking, swept: false }),
            Ok(_) => Err(FolderError::NotAFolder(dir.to_owned())),
            Err(e) => Err(FolderError::of(dir, "looking", e)),
        }
    }

    /// A quick look, without reading.
    ///
    /// # Errors
    /// When the folder cannot be reached.
    pub fn look(&self) -> Result<Option<Look>, FolderError> {
        match std::fs::metadata(self.path()) {
            Ok(meta) => Ok(Some(Look { modified: meta.modified().ok(), len: meta.len() })),
            Err(e) if e.kind() == ErrorKind::NotFound && self.dir.is_dir() => Ok(None),
            Err(e) => Err(FolderError::of(&self.dir, "looking at discovery.json", e)),
        }
    }

    /// What stands there now, without a lock: renaming is atomic. Empty when there is no file.
    ///
    /// # Errors
    /// `Damaged`, `Newer`, or when the folder cannot be reached.
    pub fn read(&self) -> Result<Document, FolderError> {
        let file = match File::open(self.path()) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound && self.dir.is_dir() => return Ok(Document::default()),
            Err(e) => return Err(FolderError::of(&self.dir, "reading discovery.json", e)),
        };
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| FolderError::of(&self.dir, "reading discovery.json", e))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(FolderError::Damaged(self.dir.clone()));
        }
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        match serde_json::from_slice::<Header>(&bytes) {
            Ok(Header { version }) if version > VERSION => {
                Err(FolderError::Newer { dir: self.dir.clone(), version })
            }
            Ok(_) | Err(_) => {
                serde_json::from_slice(&bytes).map_err(|_| FolderError::Damaged(self.dir.clone()))
            }
        }
    }

    /// Changes the file: lock, read, change, write to a temporary file, rename. Nothing is written when nothing changed.
    ///
    /// # Errors
    /// Whatever keeps the change from being made; the file is then as it was.
    pub fn update<R>(
        &mut self,
        change: impl FnOnce(&mut Document, Now) -> R,
    ) -> Result<Changed<R>, FolderError> {
        let before = self.locking;
        let guard = Guard::take(&self.dir, &mut self.locking, Patience::default())?;
        let mut notices = Vec::new();
        if self.locking != before {
            let dir = self.dir.display();
            notices.push((
                "folder_without_locks",
                format!("{dir} cannot lock files; a lock file is used instead (slower, but it works)"),
            ));
        }
        let stamp = guard.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if !std::mem::replace(&mut self.swept, true) {
            self.remove_orphans(guard.now());
        }
        let mut document = match self.read() {
            Ok(document) => document,
            Err(FolderError::Damaged(_)) => {
                notices.push(self.set_aside(stamp.as_secs())?);
                Document::default()
            }
            Err(error) => return Err(error),
        };
        let old = document.clone();
        // The folder's clock is both: all its readers and writers share it, and it does not stop when they do.
        let value = change(&mut document, Now { mono: Mono(stamp), unix: stamp });
        if document != old {
            document.revision = old.revision.saturating_add(1);
            self.write(&document, &guard)?;
        }
        Ok(Changed { value, document, notices })
    }

    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    fn write(&self, document: &Document, guard: &Guard) -> Result<(), FolderError> {
        let temporary = self.dir.join(format!("{NAME}.{}.tmp", token()));
        let written = self.write_to(&temporary, document).and_then(|()| {
            if guard.is_still_ours() {
                rename(&temporary, &self.path())
            } else {
                Err(std::io::Error::other("the lock was taken over by somebody else; trying again helps"))
            }
        });
        written.map_err(|e| {
            let _ = std::fs::remove_file(&temporary);
            FolderError::of(&self.dir, "writing discovery.json", e)
        })
    }

    fn write_to(&self, path: &Path, document: &Document) -> std::io::Result<()> {
        let bytes = serde_json::to_vec_pretty(document).map_err(std::io::Error::other)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        share_like_folder(&self.dir, &file);
        file.write_all(&bytes)?;
        file.sync_data()
    }

    fn set_aside(&self, unix: u64) -> Result<Notice, FolderError> {
        let names = (0..100).map(|n| match n {
            0 => format!("{NAME}.broken-{unix}"),
            n => format!("{NAME}.broken-{unix}-{n}"),
        });
        for name in names {
            let to = self.dir.join(&name);
            if to.exists() {
                continue;
            }
            rename(&self.path(), &to)
                .map_err(|e| FolderError::of(&self.dir, "keeping the damaged discovery.json aside", e))?;
            let dir = self.dir.display();
            let text =
                format!("discovery.json in {dir} was damaged; it is kept as {name} and a new one is made");
            return Ok(("discovery_broken", text));
        }
        Err(FolderError::Damaged(self.dir.clone()))
    }

    /// Temporary files of programs that were killed while they wrote. Called under the lock, so nobody is writing
    /// now; the age is asked all the same, for folders where locks do not reach every PC.
    fn remove_orphans(&self, now: SystemTime) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(|n| {
                (n.starts_with("discovery.json.") && n.ends_with(".tmp"))
                    || n.starts_with("discovery.lock.stale-")
            });
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .map(|m| now.duration_since(m).unwrap_or_default());
            if ours && age.is_ok_and(|age| age >= ORPHAN) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// A file in a shared folder may be read and written by whoever may do that with the folder, whatever the umask of
/// the player who happened to come first.
pub(super) fn share_like_folder(dir: &Path, file: &File) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if let Ok(meta) = dir.metadata() {
            let mode = meta.permissions().mode() & 0o666 | 0o600;
            // Fails for a file of another user, who has done it already.
            let _ = file.set_permissions(std::fs::Permissions::from_mode(mode));
        }
    }
    #[cfg(not(unix))]
    let _ = (dir, file);
}

/// A name that no other process and no other call of this one uses.
pub(super) fn token() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{:x}-{nanos:x}-{:x}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed))
}

/// Windows refuses to rename over a file that somebody reads at this moment; a moment later it does not.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut tries = 0;
    loop {
        match std::fs::rename(from, to) {
            Err(e) if cfg!(windows) && e.kind() == ErrorKind::PermissionDenied && tries < 50 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}
