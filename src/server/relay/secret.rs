//! The secret of a relay whose operator named none: drawn once and kept beside the parties, readable by its owner only, so that
//! credentials survive a restart.

use crate::model::dice::Dice;
use crate::model::text;
use crate::wire::credential::RelaySecret;
use anyhow::{Context, ensure};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

const NAME: &str = "relay-secret";
const BYTES: usize = 32;
/// A file of ours is 52 characters and a line's end.
const FILE_BYTES: u64 = 256;

/// The kept secret, or a fresh one.
pub(super) fn kept(dir: &Path, dice: &mut Dice) -> anyhow::Result<RelaySecret> {
    let path = dir.join(NAME);
    let text = match fs::metadata(&path) {
        Ok(meta) => {
            ensure!(meta.len() <= FILE_BYTES, "{} is no secret of lanrage: remove it", path.display());
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let fresh = text::encode(&dice.bytes::<BYTES>());
            write(&path, &fresh).with_context(|| format!("cannot keep {}", path.display()))?;
            fresh
        }
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let bytes = text::decode(text.trim()).ok().filter(|b| b.len() == BYTES);
    let bytes = bytes.with_context(|| format!("{} is no secret of lanrage: remove it", path.display()))?;
    Ok(RelaySecret::new(&bytes))
}

/// Whole or not at all: a secret that was cut by a full disk would be another one the next time.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_drawn_once_kept_privately_and_not_guessed_from_a_broken_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = crate::model::dice::Seed::from_u64(1).dice("x");
        let first = kept(dir.path(), &mut dice).unwrap().password("u");
        assert_eq!(kept(dir.path(), &mut dice).unwrap().password("u"), first);
        let path = dir.path().join(NAME);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(&path, "short").unwrap();
        assert!(kept(dir.path(), &mut dice).unwrap_err().to_string().contains("remove it"));
    }
}
