//! One node per data directory. The lock is the system's own (it vanishes with the process, however that ends); the
//! process id stands in a file of its own, because some systems do not let others read a locked file.

use super::file::failed;
use crate::model::status::Trouble;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// The held lock.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
    pid: PathBuf,
}

impl Lock {
    /// Takes the lock of a directory, or says who has it.
    pub(super) fn take(dir: &Path) -> Result<Self, Trouble> {
        let path = dir.join("lock");
        let pid = dir.join("lock.pid");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|e| failed("make", &path, &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, &pid)),
            Err(TryLockError::Error(e)) => return Err(failed("lock", &path, &e)),
        }
        fs::write(&pid, std::process::id().to_string()).map_err(|e| failed("write", &pid, &e))?;
        Ok(Self { _file: file, pid })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.pid);
    }
}

fn in_use(dir: &Path, pid: &Path) -> Trouble {
    let who = fs::read_to_string(pid).ok().and_then(|t| t.trim().parse::<u32>().ok());
    let who = who.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Trouble::new(
        "data_dir_in_use",
        format!("{} is in use by a running lanrage ({who})", dir.display()),
        "stop that one (`lanrage leave`), or run a second node with its own --data-dir DIR",
    )
}
