//! The files of one plugin, in memory: the one form into which folders, archives and git repositories are read, so that the same
//! caps and the same hash hold for all of them, and what was checked is what is used.
//!
//! Names are hostile. A plugin must be the same on every system, so only names are taken that every system has: letters, digits
//! and a few signs, no two that differ only in their case, nothing absolute, nothing that leads outside, no device names of
//! Windows. What begins with a dot (`.git`, `.DS_Store`) is no part of a plugin and is passed over.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of all files together: sources are at most 256 KiB, the rest is samples.
pub const BYTES: usize = 4 << 20;
/// Files of a plugin.
pub const FILES: usize = 200;
/// Folders within folders.
pub const DEPTH: usize = 6;
/// Bytes of one name.
const NAME: usize = 100;
/// Entries that are looked at, those that are passed over included.
pub(super) const ENTRIES: usize = 4 * FILES;
/// Names that Windows keeps for devices, with any ending.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// Why some files cannot be a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Told to people as it is.
    #[error("`{}` {why}", .name.escape_debug())]
    Name {
        /// As the source names it.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two names that are one on many systems.
    #[error("`{}` and `{}` are the same file on some systems", .0.escape_debug(), .1.escape_debug())]
    Twins(String, String),
    /// Too many files.
    #[error("there are more than {FILES} files in it")]
    TooMany,
    /// Too many bytes.
    #[error("its files have more than {} MiB", BYTES >> 20)]
    TooLarge,
    /// The archive makes no sense.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The system said no.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

impl Refused {
    pub(super) fn name(name: &str, why: &'static str) -> Self {
        // A name of a megabyte helps nobody.
        Self::Name { name: name.chars().take(120).collect(), why }
    }
}

/// The files by name, with `/` between folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    files: BTreeMap<String, Vec<u8>>,
    /// Every file and folder, in small letters, as it was named first.
    taken: BTreeMap<String, (String, Kind)>,
    bytes: usize,
    entries: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

impl Tree {
    /// Of texts that are known to be good (the shipped ones, and tests).
    ///
    /// # Errors
    /// When they are not.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, Refused> {
        let mut tree = Self::default();
        for (name, bytes) in files {
            tree.add(name, bytes)?;
        }
        Ok(tree)
    }

    /// Reads a folder. Links are refused, not followed.
    ///
    /// # Errors
    /// When something in it cannot be part of a plugin, or cannot be read.
    pub fn of_folder(dir: &Path) -> Result<Self, Refused> {
        let mut tree = Self::default();
        tree.read_folder(dir, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, dir: &Path, prefix: &str) -> Result<(), Refused> {
        let failed = |path: &Path, e| Refused::Io(path.display().to_string(), e);
        for entry in fs::read_dir(dir).map_err(|e| failed(dir, e))? {
            let path = entry.map_err(|e| failed(dir, e))?.path();
            let last = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{last}");
            let about = fs::symlink_metadata(&path).map_err(|e| failed(&path, e))?.file_type();
            if about.is_dir() {
                if self.folder(&name)? {
                    self.read_folder(&path, &format!("{name}/"))?;
                }
            } else if about.is_file() {
                self.add_with(&name, || File::open(&path).map_err(|e| failed(&path, e)))?;
            } else if !last.starts_with('.') {
                return Err(Refused::name(&name, "is a link or a device; a plugin has only files"));
            }
        }
        Ok(())
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When its name or its size cannot be.
    pub fn add(&mut self, name: &str, content: impl Read) -> Result<(), Refused> {
        self.add_with(name, || Ok(content))
    }

    fn add_with<R: Read>(
        &mut self,
        name: &str,
        open: impl FnOnce() -> Result<R, Refused>,
    ) -> Result<(), Refused> {
        let Some(parts) = self.parts(name)? else { return Ok(()) };
        let name = parts.join("/");
        self.take(&parts, Kind::File)?;
        if self.files.len() >= FILES {
            return Err(Refused::TooMany);
        }
        let mut bytes = Vec::new();
        let left = BYTES - self.bytes;
        let read = open()?.take(left as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|e| Refused::Unreadable(format!("{name}: {e}")))?;
        if bytes.len() > left {
            return Err(Refused::TooLarge);
        }
        self.bytes += bytes.len();
        self.files.insert(name, bytes);
        Ok(())
    }

    /// Notes a folder; false when it is passed over.
    pub(super) fn folder(&mut self, name: &str) -> Result<bool, Refused> {
        let Some(parts) = self.parts(name.trim_end_matches('/'))? else { return Ok(false) };
        self.take(&parts, Kind::Folder)?;
        Ok(true)
    }

    /// The name in parts; `None` when it is passed over.
    fn parts<'n>(&mut self, name: &'n str) -> Result<Option<Vec<&'n str>>, Refused> {
        self.entries += 1;
        if self.entries > ENTRIES {
            return Err(Refused::TooMany);
        }
        let no = |why| Err(Refused::name(name, why));
        let drive = name.as_bytes().get(1) == Some(&b':');
        if name.starts_with(['/', '\\']) || drive {
            return no("is an absolute path");
        }
        let parts: Vec<&str> = name.split('/').filter(|part| *part != ".").collect();
        if parts.iter().any(|part| part.split('\\').any(|p| p == "..")) {
            return no("leads out of the plugin's folder");
        }
        if parts.is_empty() || parts.iter().any(|part| part.starts_with('.')) {
            return Ok(None);
        }
        if parts.len() > DEPTH {
            return no("lies too deep in folders");
        }
        if let Some(why) = parts.iter().find_map(|part| wrong(part)) {
            return no(why);
        }
        Ok(Some(parts))
    }

    /// Refuses what another name would overwrite on a system that does not tell small from capital letters.
    fn take(&mut self, parts: &[&str], kind: Kind) -> Result<(), Refused> {
        for n in 1..=parts.len() {
            let path = parts.get(..n).unwrap_or_default().join("/");
            let kind = if n == parts.len() { kind } else { Kind::Folder };
            let folded = path.to_ascii_lowercase();
            match self.taken.get(&folded) {
                Some((had, was)) if *had != path || *was != kind || kind == Kind::File => {
                    return Err(Refused::Twins(had.clone(), path));
                }
                Some(_) => {}
                None => drop(self.taken.insert(folded, (path, kind))),
            }
        }
        Ok(())
    }

    /// Archives like to hold one folder with everything in it: then that one is the plugin.
    #[must_use]
    pub fn without_top(self) -> Self {
        let top = self.files.keys().next().and_then(|name| Some(name.split_once('/')?.0.to_owned()));
        match top {
            Some(top) if !self.has("plugin.toml") => {
                self.clone().below(&top).filter(|below| below.files.len() == self.files.len()).unwrap_or(self)
            }
            _ => self,
        }
    }

    /// Only a folder of it; `None` when there is none.
    #[must_use]
    pub fn below(self, folder: &str) -> Option<Self> {
        let prefix = format!("{}/", folder.trim_matches('/'));
        let files =
            self.files.into_iter().filter_map(|(n, b)| Some((n.strip_prefix(&prefix)?.to_owned(), b)));
        let mut tree = Self::default();
        for (name, bytes) in files {
            tree.add(&name, bytes.as_slice()).ok()?;
        }
        (!tree.files.is_empty()).then_some(tree)
    }

    /// Whether it has this file.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The files by name.
    #[must_use]
    pub const fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// A file's text.
    ///
    /// # Errors
    /// `None` when there is no such file; the inner error when it is no text.
    pub fn text(&self, name: &str) -> Option<Result<&str, Refused>> {
        let bytes = self.files.get(name)?;
        Some(std::str::from_utf8(bytes).map_err(|_| Refused::name(name, "is no text (not UTF-8)")))
    }

    /// The hash of everything: names and contents, in the order of the names.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut all = Sha256::new().chain_update(b"lanrage plugin v1");
        for (name, bytes) in &self.files {
            let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
            all.update(len.to_be_bytes());
            all.update(name);
            all.update(Sha256::digest(bytes));
        }
        text_of(&all.finalize())
    }

    /// The hash of every file.
    #[must_use]
    pub fn hashes(&self) -> BTreeMap<String, String> {
        self.files.iter().map(|(name, bytes)| (name.clone(), text_of(&Sha256::digest(bytes)))).collect()
    }

    /// Writes everything into a folder that is made for it, down to the disk.
    ///
    /// # Errors
    /// When the system says no.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let mut folder = DirBuilder::new();
        folder.recursive(true);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        folder.create(dir)?;
        for (name, bytes) in &self.files {
            let path = dir.join(name);
            path.parent().map_or(Ok(()), |parent| folder.create(parent))?;
            let mut file = options.open(&path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        // Systems that cannot open a folder keep it on their own.
        let _ = File::open(dir).and_then(|d| d.sync_all());
        Ok(())
    }
}

/// What is wrong with a part of a name.
fn wrong(part: &str) -> Option<&'static str> {
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let device = DEVICES.iter().any(|device| {
        stem.strip_prefix(device).is_some_and(|n| match n {
            "" => device.len() == 3 && !["com", "lpt"].contains(device),
            n => {
                ["com", "lpt"].contains(device) && n.len() == 1 && n.as_bytes().iter().all(u8::is_ascii_digit)
            }
        })
    });
    let fine = |c: char| c.is_ascii_alphanumeric() || " ._-+()".contains(c);
    if part.is_empty() {
        Some("has a folder without a name in it")
    } else if part.len() > NAME {
        Some("has too long a name")
    } else if !part.chars().all(fine) {
        Some("has a name that not every system has: use letters, digits, and ._-+()")
    } else if part.ends_with(['.', ' ']) || part.starts_with(' ') {
        Some("has a name that begins or ends with a space or a dot, which not every system has")
    } else if device {
        Some("has the name of a device on Windows")
    } else {
        None
    }
}

fn text_of(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Result<Tree, Refused> {
        Tree::of([(name, &b"x"[..])])
    }

    #[test]
    fn names_that_lead_elsewhere_or_are_not_everywhere_are_refused() {
        for (name, part) in [
            ("/etc/passwd", "absolute"),
            ("\\\\server\\share", "absolute"),
            ("C:/x", "absolute"),
            ("../x", "leads out"),
            ("a/../../x", "leads out"),
            ("a\\..\\..\\x", "leads out"),
            ("a//b", "without a name"),
            ("a\\b", "not every system"),
            ("nul", "device"),
            ("a/COM1.txt", "device"),
            ("a.", "ends with"),
            ("\u{202e}txt.exe", "not every system"),
            ("a\0b", "not every system"),
            ("a/b/c/d/e/f/g", "too deep"),
        ] {
            let told = one(name).unwrap_err().to_string();
            assert!(told.contains(part), "{name}: {told}");
        }
        assert!(one(&"x".repeat(101)).unwrap_err().to_string().contains("too long"));
        for name in ["main.luau", "samples/a b (1).samples", "console.luau", "./x", "comx"] {
            assert_eq!(one(name).unwrap().files.len(), 1, "{name}");
        }
    }

    #[test]
    fn what_begins_with_a_dot_is_passed_over_but_not_endlessly() {
        assert!(one(".git/config").unwrap().files.is_empty());
        let many: Vec<String> = (0..=ENTRIES).map(|n| format!(".x/{n}")).collect();
        let told = Tree::of(many.iter().map(|n| (n.as_str(), &b""[..])));
        assert!(matches!(told, Err(Refused::TooMany)), "{told:?}");
    }

    #[test]
    fn two_names_for_one_file_are_refused() {
        for (a, b) in [("Main.luau", "main.luau"), ("a", "a/b"), ("a/b", "a"), ("A/x", "a/y"), ("x", "x")] {
            let told = Tree::of([(a, &b""[..]), (b, &b""[..])]).unwrap_err();
            assert!(matches!(told, Refused::Twins(..)), "{a} {b}: {told}");
        }
        assert!(Tree::of([("a/x", &b""[..]), ("a/y", &b""[..])]).is_ok());
    }

    #[test]
    fn caps_hold() {
        let names: Vec<String> = (0..=FILES).map(|n| format!("f{n}")).collect();
        let told = Tree::of(names.iter().map(|n| (n.as_str(), &b""[..])));
        assert!(matches!(told, Err(Refused::TooMany)));
        let mut tree = Tree::default();
        tree.add("a", io::repeat(1).take(BYTES as u64)).unwrap();
        assert!(matches!(tree.add("b", &b"1"[..]), Err(Refused::TooLarge)));
        assert!(matches!(Tree::default().add("endless", io::repeat(0)), Err(Refused::TooLarge)));
    }

    #[test]
    fn the_hash_is_of_names_and_contents_and_of_nothing_else() {
        let tree = |files: &[(&str, &str)]| Tree::of(files.iter().map(|(n, b)| (*n, b.as_bytes()))).unwrap();
        let hash = tree(&[("a", "1"), ("b", "2")]).hash();
        assert_eq!(hash, tree(&[("b", "2"), ("./a", "1"), (".git/x", "y")]).hash());
        for other in
            [&[("a", "1")][..], &[("a", "2"), ("b", "1")], &[("ab", "1"), ("b", "2")], &[("a", "1b2")]]
        {
            assert_ne!(hash, tree(other).hash());
        }
        let dir = tempfile::tempdir().unwrap();
        let whole = tree(&[("plugin.toml", "x"), ("samples/a.samples", "y")]);
        whole.write(&dir.path().join("p")).unwrap();
        assert_eq!(Tree::of_folder(&dir.path().join("p")).unwrap().hash(), whole.hash());
    }

    #[test]
    fn a_single_folder_around_everything_is_taken_off() {
        let tree = Tree::of([("p-1.0/plugin.toml", &b"x"[..]), ("p-1.0/main.luau", b"y")]).unwrap();
        assert!(tree.without_top().has("plugin.toml"));
        let two = Tree::of([("p/plugin.toml", &b"x"[..]), ("q/main.luau", b"y")]).unwrap();
        assert!(!two.clone().without_top().has("plugin.toml"));
        assert!(two.below("p").unwrap().has("plugin.toml"));
    }
}
