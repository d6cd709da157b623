//! Parties in a redb file, `lobby.redb`. What cannot be read is kept aside, never overwritten.

use crate::engine::lobby::party::Party;
use crate::model::id::PartyId;
use anyhow::{Context, bail};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const NAME: &str = "lobby.redb";
/// The format of what is stored. A higher number was written by a later program.
const FORMAT: u64 = 1;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// A party's name to the party as JSON.
const PARTIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("parties");

/// Parties to be written, or (`None`) forgotten.
pub(super) type Batch = Vec<(PartyId, Option<Party>)>;

/// The open file.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Arc<Database>,
}

/// The open file and what stood in it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) parties: Vec<(PartyId, Party)>,
    pub(super) warnings: Vec<String>,
}

/// What reading brought: parties, and how many rows could not be read.
type Loaded = (Vec<(PartyId, Party)>, usize);

impl Store {
    /// Opens the file, or makes it.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Opened> {
        let path = dir.join(NAME);
        make_private(dir, &path)?;
        let mut warnings = Vec::new();
        let (db, (parties, unreadable)) = match try_open(&path)? {
            Some(opened) => opened,
            None => {
                let aside = free_name(&path);
                std::fs::rename(&path, &aside)
                    .with_context(|| format!("cannot keep the damaged {} aside", path.display()))?;
                warnings.push(format!(
                    "{} was damaged; it is kept as {} and the server begins with an empty one: parties come back \
                     when their owners connect",
                    path.display(),
                    aside.display()
                ));
                try_open(&path)?.with_context(|| format!("cannot make {}", path.display()))?
            }
        };
        if unreadable > 0 {
            let aside = free_name(&path);
            std::fs::copy(&path, &aside)
                .with_context(|| format!("cannot keep a copy of {} aside", path.display()))?;
            warnings.push(format!(
                "{unreadable} parties in {} cannot be read; a copy is kept as {}",
                path.display(),
                aside.display()
            ));
        }
        Ok(Opened { store: Self { db: Arc::new(db) }, parties, warnings })
    }

    /// Writes a batch, whole or not at all.
    pub(super) fn write(&self, batch: &Batch) -> anyhow::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let write = self.db.begin_write()?;
        {
            let mut table = write.open_table(PARTIES)?;
            for (id, party) in batch {
                match party {
                    Some(party) => {
                        let json = serde_json::to_vec(party)?;
                        table.insert(id.0.as_slice(), json.as_slice())?;
                    }
                    None => {
                        table.remove(id.0.as_slice())?;
                    }
                }
            }
        }
        write.commit()?;
        Ok(())
    }
}

/// The folder and the file, for their owner only: who meets whom is nobody else's business. What exists keeps its permissions.
fn make_private(dir: &Path, path: &Path) -> anyhow::Result<()> {
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true);
    let mut file = std::fs::OpenOptions::new();
    file.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    }
    folder.create(dir).with_context(|| format!("cannot make the data folder {}", dir.display()))?;
    file.open(path).with_context(|| format!("cannot make or write {}", path.display()))?;
    Ok(())
}

/// `None` when the file is damaged.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "another crate's list, which grows; what is not named is damage"
)]
fn try_open(path: &Path) -> anyhow::Result<Option<(Database, Loaded)>> {
    // redb checks what it reads, and in builds with assertions some checks panic: a damaged file is no bug of ours.
    let opened = std::panic::catch_unwind(|| {
        let db = Database::create(path)?;
        let loaded = load(&db)?;
        Ok((db, loaded))
    });
    let error = match opened {
        Ok(Ok((db, Some(loaded)))) => return Ok(Some((db, loaded))),
        Ok(Ok((_, None))) => {
            bail!(
                "{} was written by a newer lanrage; update this one, or use another --data-dir",
                path.display()
            )
        }
        Ok(Err(error)) => error,
        Err(_) => return Ok(None),
    };
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => bail!(
            "{} is in use by another lanrage server; stop it, or give this one another --data-dir",
            path.display()
        ),
        redb::Error::UpgradeRequired(_) => {
            bail!(
                "{} is in a format that this version no longer reads; use another --data-dir",
                path.display()
            )
        }
        redb::Error::Io(e) if !matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            Err(e).with_context(|| format!("cannot open {}", path.display()))
        }
        _ => Ok(None),
    }
}

/// `None` when a newer program wrote the file.
fn load(db: &Database) -> Result<Option<Loaded>, redb::Error> {
    let write = db.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        let format = meta.get("format")?.map(|f| f.value());
        match format {
            Some(FORMAT) => {}
            Some(_) => return Ok(None),
            None => {
                meta.insert("format", FORMAT)?;
            }
        }
        write.open_table(PARTIES)?;
    }
    write.commit()?;
    let (mut parties, mut unreadable) = (Vec::new(), 0);
    let read = db.begin_read()?;
    for row in read.open_table(PARTIES)?.iter()? {
        let (id, json) = row?;
        let id = id.value().try_into().map(PartyId);
        let party = serde_json::from_slice::<Party>(json.value());
        if let (Ok(id), Ok(party)) = (id, party) {
            parties.push((id, party));
        } else {
            unreadable += 1;
        }
    }
    Ok(Some((parties, unreadable)))
}

fn free_name(path: &Path) -> PathBuf {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut name = path.with_extension(format!("redb.broken-{unix}"));
    let mut n = 1;
    while name.exists() {
        name = path.with_extension(format!("redb.broken-{unix}-{n}"));
        n += 1;
    }
    name
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_parties_are_nobody_elses_business() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("new/deep");
        Store::open(&at).unwrap().store.write(&vec![(PartyId([1; 10]), None)]).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&at), mode(&at.join(NAME))), (0o700, 0o600));
        // In a folder that others may look into, the file is closed all the same.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Store::open(dir.path()).unwrap();
        assert_eq!(mode(&dir.path().join(NAME)), 0o600);
    }
}
