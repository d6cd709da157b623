//! One writer at a time in a shared folder.
//!
//! First choice: a system lock on `discovery.lock`, which ends with the process that holds it. Where the file system
//! has no locks (some network shares): a file that only one can create, `discovery.lock.held`, taken over when its
//! holder did not let go of it for ten seconds. A holder asks `is_still_ours` before it makes its change visible.
//!
//! `discovery.lock` stays in the folder: deleting a lock file while somebody opens it makes two locks out of one.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::store::FolderError;
use fs4::TryLockError;

/// How long somebody waits for a lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// A created lock file that stays unchanged for this long is an orphan. A holder keeps it for milliseconds.
    stale: Duration,
    /// The longest wait: longer than `stale`, so that an orphan does not fail the first who waits.
    most: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stale: Duration::from_secs(10), most: Duration::from_secs(14) }
    }
}

/// The most that is read of a created lock file.
const HOLDER_BYTES: u64 = 256;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(4);

/// Which of the two ways works here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// The system's lock.
    System,
    /// A file that only one can create.
    ByCreation,
}

/// The lock, held until dropped.
#[derive(Debug)]
pub(super) struct Guard {
    /// Kept open: closing it lets go of the system's lock.
    file: Option<File>,
    held: Option<(PathBuf, String)>,
    /// The folder's own clock at the moment of locking.
    now: SystemTime,
}

impl Guard {
    /// Waits for the lock.
    pub(super) fn take(dir: &Path, locking: &mut Locking, patience: Patience) -> Result<Self, FolderError> {
        let since = Instant::now();
        if *locking == Locking::System {
            match Self::by_system(dir, since, patience)? {
                Some(guard) => return Ok(guard),
                None => *locking = Locking::ByCreation,
            }
        }
        Self::by_creation(dir, since, patience)
    }

    /// What the folder's file system says the time is. PCs that share a folder do not share a clock.
    pub(super) const fn now(&self) -> SystemTime {
        self.now
    }

    /// Whether nobody took the lock over in the meantime.
    pub(super) fn is_still_ours(&self) -> bool {
        self.held.as_ref().is_none_or(|(path, token)| holder_of(path).is_ok_and(|holder| holder == *token))
    }

    /// `None` when this file system has no locks.
    fn by_system(dir: &Path, since: Instant, patience: Patience) -> Result<Option<Self>, FolderError> {
        let path = dir.join("discovery.lock");
        let mut file = open_itself(dir, &path)?;
        super::store::share_like_folder(dir, &file);
        loop {
            match fs4::FileExt::try_lock(&file) {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() < patience.most => std::thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => return Err(FolderError::Busy(dir.to_owned())),
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
        // Writing sets the file's time by the clock of whoever stores it.
        let touched = file.write_all(b"l").and_then(|()| file.metadata()).and_then(|m| m.modified());
        let now = touched.unwrap_or_else(|_| SystemTime::now());
        Ok(Some(Self { file: Some(file), held: None, now }))
    }

    fn by_creation(dir: &Path, since: Instant, patience: Patience) -> Result<Self, FolderError> {
        let path = dir.join("discovery.lock.held");
        let token = super::store::token();
        let mut watched: Option<(String, Instant)> = None;
        while since.elapsed() < patience.most {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let written = file.write_all(token.as_bytes()).and_then(|()| file.metadata());
                    let guard_now = written.map_err(|e| {
                        let _ = std::fs::remove_file(&path);
                        FolderError::of(dir, "writing discovery.lock.held", e)
                    })?;
                    let now = guard_now.modified().unwrap_or_else(|_| SystemTime::now());
                    return Ok(Self { file: None, held: Some((path, token)), now });
                }
                // Windows says "permission denied" about a file that is just being deleted.
                Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::PermissionDenied) => {
                    if e.kind() == ErrorKind::PermissionDenied && !path.exists() && !cfg!(windows) {
                        return Err(FolderError::of(dir, "making discovery.lock.held", e));
                    }
                    let holder = holder_of(&path).unwrap_or_default();
                    match &watched {
                        Some((known, at)) if *known == holder => {
                            if at.elapsed() >= patience.stale {
                                take_away(&path, &token);
                                watched = None;
                            }
                        }
                        Some(_) | None => watched = Some((holder, Instant::now())),
                    }
                    std::thread::sleep(LOOK);
                }
                Err(e) => return Err(FolderError::of(dir, "making discovery.lock.held", e)),
            }
        }
        Err(FolderError::Busy(dir.to_owned()))
    }
}

/// Opens or makes the lock file, and nothing else: others write in the folder too, and a link that one of them put there
/// must not make this program, which often runs as root, touch another file.
fn open_itself(dir: &Path, path: &Path) -> Result<File, FolderError> {
    let open = |write: bool| {
        let mut options = OpenOptions::new();
        options.read(true).write(write).create(write).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
        options.open(path)
    };
    let strange = || FolderError::StrangeLock(dir.to_owned());
    let file = match open(true) {
        Ok(file) => file,
        Err(_) if path.symlink_metadata().is_ok_and(|m| !m.is_file()) => return Err(strange()),
        // Made by another user: a lock needs no more than to read it.
        Err(e) if e.kind() == ErrorKind::PermissionDenied && path.exists() => {
            open(false).map_err(|e| FolderError::of(dir, "opening discovery.lock", e))?
        }
        Err(e) => return Err(FolderError::of(dir, "making discovery.lock", e)),
    };
    let meta = file.metadata().map_err(|e| FolderError::of(dir, "looking at discovery.lock", e))?;
    #[cfg(unix)]
    let only_here = std::os::unix::fs::MetadataExt::nlink(&meta) <= 1;
    #[cfg(not(unix))]
    let only_here = true;
    if meta.is_file() && only_here { Ok(file) } else { Err(strange()) }
}

/// Who holds the created lock file. Ours are far shorter than what is read of it.
fn holder_of(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(HOLDER_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Renamed before it is deleted, so that of two who find the same orphan only one succeeds.
fn take_away(path: &Path, token: &str) {
    let aside = path.with_extension(format!("stale-{token}"));
    if std::fs::rename(path, &aside).is_ok() {
        let _ = std::fs::remove_file(aside);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            let _ = fs4::FileExt::unlock(&file);
        }
        if self.is_still_ours()
            && let Some((path, _)) = self.held.take()
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { stale: Duration::from_millis(300), most: Duration::from_millis(3000) };

    #[test]
    fn a_second_taker_waits_for_the_first_by_either_way() {
        for way in [Locking::System, Locking::ByCreation] {
            let dir = tempfile::tempdir().unwrap();
            let mut locking = way;
            let guard = Guard::take(dir.path(), &mut locking, PATIENCE).unwrap();
            assert_eq!(locking, way);
            let path = dir.path().to_owned();
            let second = std::thread::spawn(move || {
                let mut locking = way;
                let begun = Instant::now();
                let _guard = Guard::take(&path, &mut locking, PATIENCE).unwrap();
                begun.elapsed()
            });
            std::thread::sleep(Duration::from_millis(150));
            drop(guard);
            assert!(second.join().unwrap() >= Duration::from_millis(100));
        }
    }

    #[test]
    fn a_lock_that_is_never_let_go_fails_with_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut locking = Locking::System;
        let _guard = Guard::take(dir.path(), &mut locking, PATIENCE).unwrap();
        let error = Guard::take(dir.path(), &mut locking, PATIENCE).unwrap_err();
        assert!(matches!(error, FolderError::Busy(_)), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_lock_is_refused_and_what_it_names_stays_as_it_is() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        std::fs::write(&victim, "secret").unwrap();
        std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let lock = dir.path().join("discovery.lock");
        let links: [fn(&Path, &Path) -> std::io::Result<()>; 2] =
            [|to, at| symlink(to, at), |to, at| std::fs::hard_link(to, at)];
        for link in links {
            link(&victim, &lock).unwrap();
            let error = Guard::take(dir.path(), &mut { Locking::System }, PATIENCE).unwrap_err();
            assert!(matches!(error, FolderError::StrangeLock(_)), "{error}");
            assert!(error.to_string().contains("discovery.lock"), "{error}");
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "secret");
            assert_eq!(std::fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::remove_file(&lock).unwrap();
        }
        symlink(outside.path().join("absent"), &lock).unwrap();
        Guard::take(dir.path(), &mut { Locking::System }, PATIENCE).unwrap_err();
        assert!(!outside.path().join("absent").exists(), "nothing is made where a link points");
    }

    #[test]
    fn an_orphaned_lock_file_is_taken_away_and_its_late_owner_notices() {
        let dir = tempfile::tempdir().unwrap();
        let mut locking = Locking::ByCreation;
        let asleep = Guard::take(dir.path(), &mut locking, PATIENCE).unwrap();
        let begun = Instant::now();
        let awake = Guard::take(dir.path(), &mut locking, PATIENCE).unwrap();
        assert!(begun.elapsed() >= PATIENCE.stale);
        assert!(!asleep.is_still_ours() && awake.is_still_ours());
        drop(asleep);
        assert!(dir.path().join("discovery.lock.held").exists(), "only the holder removes the file");
        drop(awake);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
