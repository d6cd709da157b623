//! The data directory: what a node keeps between evenings.
//!
//! | file | what |
//! |---|---|
//! | `node.json` | this node's secret |
//! | `party.json` | the own party, and the parties it joined (their newest secret) |
//! | `control_state.json` | seat, sequence number and known peers, per party |
//! | `port.json` | the tunnel's UDP port |
//! | `lock`, `lock.pid` | one node per directory, and which process that is |
//!
//! Every file is versioned, replaced as a whole (temporary file, fsync, rename), and readable by its owner only. A file
//! that cannot be understood is renamed to `<name>.broken-<unix time>`, never overwritten, and a warning says so. A
//! file of a later version stops the program instead: it is not broken, this program is too old.

mod file;
mod lock;

use crate::engine::effect::Memory;
use crate::model::addr::Subnet;
use crate::model::id::{PartyId, PeerId};
use crate::model::key::{NodeSecret, PartySecret};
use crate::model::status::Trouble;
use crate::model::text::Blob;
pub(super) use file::{failed, make_dir};
use file::{read, write};
use lock::Lock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Joined parties that are remembered; the oldest is forgotten.
const JOINED: usize = 256;
const NODE: &str = "node.json";
const PARTY: &str = "party.json";
const STATE: &str = "control_state.json";
const PORT: &str = "port.json";

/// The opened and locked data directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    warnings: Vec<Trouble>,
    _lock: Lock,
}

/// The parties that this node has made or joined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parties {
    /// The party that `run` without `--join` opens.
    pub own: Option<Kept>,
    /// By party, what `run --join` needs when its invite is older than the party's last re-keying.
    #[serde(default)]
    pub joined: BTreeMap<String, Kept>,
}

/// A party as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The owner.
    pub owner: PeerId,
    /// The owner's slot.
    pub slot: u8,
    /// The newest epoch that this node knows.
    pub epoch: u32,
    /// The secret of that epoch.
    pub secret: KeptSecret,
    /// The party's network.
    pub subnet: Subnet,
    /// The control planes of the last evening, as given on the command line.
    #[serde(default)]
    pub control: Vec<String>,
    /// When it was last opened (Unix seconds).
    #[serde(default)]
    pub used: u64,
}

impl Kept {
    /// The party's name.
    #[must_use]
    pub fn id(&self) -> PartyId {
        PartyId::of(self.owner, self.slot)
    }
}

/// A party's secret on its way to and from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSecret(pub PartySecret);

impl Serialize for KeptSecret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Blob(self.0.0.to_vec()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for KeptSecret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Blob::deserialize(from)?.0;
        let bytes =
            bytes.try_into().map_err(|_| serde::de::Error::custom("a party's secret has 16 bytes"))?;
        Ok(Self(PartySecret(bytes)))
    }
}

/// What `doctor` sees of a data directory: nothing is made, locked, or put aside.
#[must_use]
pub fn glance(dir: &Path) -> (Parties, Option<u16>) {
    let port = file::glance::<PortFile>(dir, PORT).map(|f| f.udp);
    (file::glance(dir, PARTY).unwrap_or_default(), port)
}

#[derive(Serialize, Deserialize)]
struct NodeFile {
    secret: Blob,
}

#[derive(Default, Serialize, Deserialize)]
struct StateFile {
    parties: BTreeMap<String, Memory>,
}

#[derive(Serialize, Deserialize)]
struct PortFile {
    udp: u16,
}

impl Store {
    /// Opens (and makes) a data directory and locks it for this process.
    ///
    /// # Errors
    /// `data_dir_in_use` when another node runs on it; `data_dir` when it cannot be made or written.
    pub fn open(dir: &Path) -> Result<Self, Trouble> {
        make_dir(dir)?;
        let lock = Lock::take(dir)?;
        file::sweep(dir);
        Ok(Self { dir: dir.to_path_buf(), warnings: Vec::new(), _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What people should be told about files that were put aside.
    pub fn take_warnings(&mut self) -> Vec<Trouble> {
        std::mem::take(&mut self.warnings)
    }

    /// This node's secret; makes and keeps one with `fresh` when there is none.
    ///
    /// # Errors
    /// `data_dir` when it cannot be read or kept: a node that is somebody else every evening helps nobody.
    pub fn node_secret(&mut self, fresh: impl FnOnce() -> [u8; 32]) -> Result<NodeSecret, Trouble> {
        let kept = read::<NodeFile>(&self.dir, NODE, &mut self.warnings, |f| f.secret.0.len() == 32)?;
        if let Some(bytes) = kept.and_then(|f| f.secret.0.try_into().ok()) {
            return Ok(NodeSecret(bytes));
        }
        let secret = NodeSecret(fresh());
        write(&self.dir, NODE, &NodeFile { secret: Blob(secret.0.to_vec()) })?;
        Ok(secret)
    }

    /// The parties.
    ///
    /// # Errors
    /// `data_dir` when the file cannot be read.
    pub fn parties(&mut self) -> Result<Parties, Trouble> {
        Ok(read(&self.dir, PARTY, &mut self.warnings, |_| true)?.unwrap_or_default())
    }

    /// Keeps the parties.
    ///
    /// # Errors
    /// `data_dir`.
    pub fn keep_parties(&self, parties: &Parties) -> Result<(), Trouble> {
        let mut parties = parties.clone();
        while parties.joined.len() > JOINED {
            let oldest = parties.joined.iter().min_by_key(|(_, k)| k.used).map(|(id, _)| id.clone());
            oldest.and_then(|id| parties.joined.remove(&id));
        }
        write(&self.dir, PARTY, &parties)
    }

    /// What the engine remembered of a party.
    ///
    /// # Errors
    /// `data_dir` when the file cannot be read.
    pub fn memory(&mut self, party: PartyId) -> Result<Memory, Trouble> {
        let state: Option<StateFile> = read(&self.dir, STATE, &mut self.warnings, |_| true)?;
        Ok(state.and_then(|mut s| s.parties.remove(&party.to_string())).unwrap_or_default())
    }

    /// Keeps what the engine remembers of a party.
    ///
    /// # Errors
    /// `data_dir`.
    pub fn keep_memory(&mut self, party: PartyId, memory: &Memory) -> Result<(), Trouble> {
        let mut state: StateFile = read(&self.dir, STATE, &mut self.warnings, |_| true)?.unwrap_or_default();
        state.parties.insert(party.to_string(), memory.clone());
        write(&self.dir, STATE, &state)
    }

    /// The UDP port of the last evening.
    ///
    /// # Errors
    /// `data_dir` when the file cannot be read.
    pub fn last_port(&mut self) -> Result<Option<u16>, Trouble> {
        Ok(read::<PortFile>(&self.dir, PORT, &mut self.warnings, |_| true)?.map(|f| f.udp))
    }

    /// Keeps the UDP port.
    ///
    /// # Errors
    /// `data_dir`.
    pub fn keep_port(&self, udp: u16) -> Result<(), Trouble> {
        write(&self.dir, PORT, &PortFile { udp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(n: u8) -> Kept {
        Kept {
            owner: PeerId([n; 10]),
            slot: 1,
            epoch: 2,
            secret: KeptSecret(PartySecret([n; 16])),
            subnet: Subnet([10, 1, n]),
            control: vec!["file:/srv".into()],
            used: u64::from(n),
        }
    }

    fn aside(dir: &Path, name: &str) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.starts_with(&format!("{name}.broken-"))).collect()
    }

    #[test]
    fn everything_comes_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let secret = store.node_secret(|| [7; 32]).unwrap();
        let parties = Parties {
            own: Some(kept(3)),
            joined: [(kept(4).id().to_string(), kept(4))].into_iter().collect(),
        };
        store.keep_parties(&parties).unwrap();
        let memory =
            Memory { seat: Some((crate::model::addr::Seat(9), 5)), seq: 77, peers: vec![], rotation: None };
        store.keep_memory(kept(3).id(), &memory).unwrap();
        store.keep_memory(kept(4).id(), &Memory::default()).unwrap();
        store.keep_port(4242).unwrap();
        assert_eq!(glance(dir.path()), (parties.clone(), Some(4242)), "also while a node runs");
        drop(store);
        let mut store = Store::open(dir.path()).unwrap();
        assert!(store.node_secret(|| panic!("the secret is kept")).unwrap() == secret);
        assert_eq!(store.parties().unwrap(), parties);
        assert_eq!(store.memory(kept(3).id()).unwrap(), memory);
        assert_eq!(store.memory(kept(9).id()).unwrap(), Memory::default());
        assert_eq!(store.last_port().unwrap(), Some(4242));
        assert!(store.take_warnings().is_empty());
    }

    #[test]
    fn a_glance_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(PARTY), "broken").unwrap();
        assert_eq!(glance(dir.path()), (Parties::default(), None));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(glance(&dir.path().join("nowhere")), (Parties::default(), None));
    }

    #[test]
    fn a_broken_file_is_kept_aside_with_a_warning_and_nothing_of_it_is_lost() {
        for broken in ["{\"version\":1,\"own\":", "", "[]", "{\"own\":null}", "{\"version\":\"x\"}"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(PARTY), broken).unwrap();
            let mut store = Store::open(dir.path()).unwrap();
            assert_eq!(store.parties().unwrap(), Parties::default());
            let warnings = store.take_warnings();
            assert_eq!(warnings.len(), 1, "{broken:?}");
            assert_eq!(warnings[0].code, "broken_file");
            let names = aside(dir.path(), PARTY);
            assert!(warnings[0].message.contains(&names[0]), "{}", warnings[0].message);
            assert_eq!(std::fs::read_to_string(dir.path().join(&names[0])).unwrap(), broken);
            // Broken again in the same second: the first one is not overwritten.
            std::fs::write(dir.path().join(PARTY), "again").unwrap();
            store.parties().unwrap();
            assert_eq!(aside(dir.path(), PARTY).len(), 2);
        }
    }

    #[test]
    fn a_secret_of_the_wrong_length_is_broken_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NODE), r#"{"version":1,"secret":"00"}"#).unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        assert!(store.node_secret(|| [1; 32]).unwrap() == NodeSecret([1; 32]));
        assert_eq!((store.take_warnings().len(), aside(dir.path(), NODE).len()), (1, 1));
    }

    #[test]
    fn a_file_of_a_later_version_stops_the_program_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let later = r#"{"version":2,"secret":"who knows"}"#;
        std::fs::write(dir.path().join(NODE), later).unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(store.node_secret(|| [1; 32]).unwrap_err().code, "later_version");
        assert_eq!(std::fs::read_to_string(dir.path().join(NODE)).unwrap(), later);
    }

    #[test]
    fn a_torn_write_leaves_the_old_file_and_is_swept_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.keep_port(1).unwrap();
        drop(store);
        // What a power cut between the write and the rename leaves.
        let torn = dir.path().join("port.json.tmp-999");
        std::fs::write(&torn, "{\"vers").unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(store.last_port().unwrap(), Some(1));
        assert!(!torn.exists());
        assert!(store.take_warnings().is_empty());
    }

    #[test]
    fn a_write_that_fails_says_where_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.keep_port(1).unwrap();
        // A directory in the place of the temporary file makes every write fail, for root too.
        std::fs::create_dir(dir.path().join(file::temporary(PORT))).unwrap();
        let trouble = store.keep_port(2).unwrap_err();
        assert_eq!(trouble.code, "data_dir");
        assert!(trouble.message.contains("port.json"), "{}", trouble.message);
        assert_eq!(store.last_port().unwrap(), Some(1));
    }

    #[test]
    fn the_second_node_on_a_directory_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap();
        let trouble = Store::open(dir.path()).unwrap_err();
        assert_eq!(trouble.code, "data_dir_in_use");
        assert!(trouble.message.contains(&std::process::id().to_string()), "{}", trouble.message);
        drop(first);
        assert!(Store::open(dir.path()).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_look() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("new/deep");
        let mut store = Store::open(&at).unwrap();
        store.node_secret(|| [1; 32]).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&at), 0o700);
        assert_eq!(mode(&at.join(NODE)), 0o600);
    }

    #[test]
    fn the_list_of_joined_parties_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let joined = (0..=JOINED as u64).map(|n| (format!("{n}"), Kept { used: n, ..kept(1) })).collect();
        store.keep_parties(&Parties { own: None, joined }).unwrap();
        let back = store.parties().unwrap().joined;
        assert!(back.len() == JOINED && !back.contains_key("0"), "the longest unused one went");
    }
}
