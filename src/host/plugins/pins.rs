//! `plugins.lock`: which plugins were added, from where, what exactly, and what the player agreed to. TOML that people can read;
//! replaced as a whole. A file that cannot be understood is never overwritten.

use super::super::store::failed;
use super::tree::Tree;
use crate::model::script::Capabilities;
use crate::model::status::Trouble;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

/// The file's name in the data folder.
pub const PINS: &str = "plugins.lock";
/// The format.
const VERSION: u32 = 1;
/// Bytes that are read: a thousand plugins with two hundred files would have 20 MiB.
const LARGEST: u64 = 32 << 20;
const HEAD: &str =
    "# Written by `lanrage plugin add` and `remove`. What stands here was shown to you and agreed to.\n\n";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    version: u32,
    /// By plugin.
    #[serde(default)]
    pub plugin: BTreeMap<String, Pin>,
}

impl Default for Pins {
    fn default() -> Self {
        Self { version: VERSION, plugin: BTreeMap::new() }
    }
}

/// A plugin as it was agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Its version.
    pub version: String,
    /// Where it came from; of a git repository, with the commit.
    pub source: String,
    /// The hash of all its files.
    pub hash: String,
    /// What it may do.
    pub may: May,
    /// The hash of every file, to say which one was changed.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

impl Pin {
    /// Of what is about to be added.
    #[must_use]
    pub fn of(tree: &Tree, version: &str, source: &str, may: &Capabilities) -> Self {
        Self {
            version: version.to_owned(),
            source: source.to_owned(),
            hash: tree.hash(),
            may: May::of(may),
            files: tree.hashes(),
        }
    }

    /// What is different now, in words; `None` when nothing is.
    #[must_use]
    pub fn differs(&self, tree: &Tree) -> Option<String> {
        if tree.hash() == self.hash {
            return None;
        }
        let now = tree.hashes();
        let named = |names: Vec<&str>, what: &str| {
            let (shown, more) = (names.len().min(3), names.len().saturating_sub(3));
            let list = names.get(..shown).unwrap_or_default().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!names.is_empty()).then(|| format!("{list}{more} {what}"))
        };
        let changed = self.files.iter().filter(|(n, h)| now.get(*n).is_some_and(|is| is != *h));
        let missing = self.files.keys().filter(|n| !now.contains_key(*n));
        let added = now.keys().filter(|n| !self.files.contains_key(*n));
        let parts = [
            named(changed.map(|(n, _)| n.as_str()).collect(), "changed"),
            named(missing.map(String::as_str).collect(), "missing"),
            named(added.map(String::as_str).collect(), "new"),
        ];
        let told: Vec<String> = parts.into_iter().flatten().collect();
        // Somebody changed the lock file itself.
        Some(if told.is_empty() { format!("its hash in {PINS} changed") } else { told.join("; ") })
    }
}

/// Capabilities as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct May {
    /// `6112-6119`.
    udp: Vec<String>,
    tcp: Vec<String>,
    groups: Vec<IpAddr>,
    rewrite: bool,
    send: bool,
}

impl May {
    /// Writes them down.
    #[must_use]
    pub fn of(may: &Capabilities) -> Self {
        let texts = |ranges: &[RangeInclusive<u16>]| ranges.iter().map(range_text).collect();
        Self {
            udp: texts(&may.udp),
            tcp: texts(&may.tcp),
            groups: may.groups.clone(),
            rewrite: may.rewrite,
            send: may.send,
        }
    }

    /// Reads them; what makes no sense grants nothing.
    #[must_use]
    pub fn read(&self) -> Capabilities {
        let ranges = |texts: &[String]| texts.iter().filter_map(|t| range_of(t)).collect();
        Capabilities {
            udp: ranges(&self.udp),
            tcp: ranges(&self.tcp),
            groups: self.groups.clone(),
            rewrite: self.rewrite,
            send: self.send,
        }
    }
}

/// `6112` or `6112-6119`.
#[must_use]
pub fn range_text(range: &RangeInclusive<u16>) -> String {
    match (range.start(), range.end()) {
        (a, b) if a == b => a.to_string(),
        (a, b) => format!("{a}-{b}"),
    }
}

fn range_of(text: &str) -> Option<RangeInclusive<u16>> {
    let (a, b) = text.split_once('-').unwrap_or((text, text));
    Some(a.trim().parse().ok()?..=b.trim().parse().ok()?)
}

/// What of `wanted` was not agreed to: nothing when it is no more.
#[must_use]
pub fn beyond(agreed: &Capabilities, wanted: &Capabilities) -> Capabilities {
    let ports =
        |agreed: &[RangeInclusive<u16>], wanted: &[RangeInclusive<u16>]| -> Vec<RangeInclusive<u16>> {
            let covered = |port: &u16| agreed.iter().any(|range| range.contains(port));
            let mut out: Vec<RangeInclusive<u16>> = Vec::new();
            for port in wanted.iter().cloned().flatten().filter(|port| !covered(port)) {
                match out.last_mut() {
                    Some(last) if last.end().checked_add(1) == Some(port) => *last = *last.start()..=port,
                    Some(last) if last.contains(&port) => {}
                    _ => out.push(port..=port),
                }
            }
            out
        };
    Capabilities {
        udp: ports(&agreed.udp, &wanted.udp),
        tcp: ports(&agreed.tcp, &wanted.tcp),
        groups: wanted.groups.iter().filter(|g| !agreed.groups.contains(g)).copied().collect(),
        rewrite: wanted.rewrite && !agreed.rewrite,
        send: wanted.send && !agreed.send,
    }
}

impl Pins {
    /// Reads the file of a data folder; no file is no plugins.
    ///
    /// # Errors
    /// `plugins_lock` when it cannot be read or understood, with line and column.
    pub fn read(data_dir: &Path) -> Result<Self, Trouble> {
        let path = data_dir.join(PINS);
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(LARGEST).read_to_string(&mut text).map_err(|e| failed("read", &path, &e))?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(failed("read", &path, &e)),
        };
        let name = path.display();
        let read: Self = toml::from_str(&text).map_err(|e: toml::de::Error| {
            let at = e.span().map_or(String::new(), |span| place(&text, span.start));
            let what = format!("{name}{at}: {}", e.message());
            let hint = "correct this file, or remove it and add the plugins again with `lanrage plugin add`";
            Trouble::new("plugins_lock", what, hint)
        })?;
        if read.version > VERSION {
            let what = format!("{name} was written by a later lanrage (format {})", read.version);
            return Err(Trouble::new("plugins_lock", what, "use that version, or another --data-dir DIR"));
        }
        Ok(read)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// `data_dir`.
    pub(super) fn write(&self, data_dir: &Path) -> Result<(), Trouble> {
        let path = data_dir.join(PINS);
        let temporary = data_dir.join(format!("{PINS}.tmp-{}", std::process::id()));
        let told = |e: &io::Error| failed("write", &path, e);
        let text = toml::to_string(self).map_err(|e| told(&io::Error::other(e)))?;
        let written = (|| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&temporary)?;
            file.write_all(HEAD.as_bytes())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        })();
        written.map_err(|e| {
            let _ = fs::remove_file(&temporary);
            told(&e)
        })?;
        let _ = File::open(data_dir).and_then(|d| d.sync_all());
        Ok(())
    }
}

/// `:line:column` of a byte.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    format!(":{}:{column}", before.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(udp: &[RangeInclusive<u16>], send: bool) -> Capabilities {
        Capabilities { udp: udp.to_vec(), send, rewrite: true, ..Capabilities::default() }
    }

    #[test]
    fn what_was_agreed_is_written_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Pins::read(dir.path()).unwrap(), Pins::default());
        let tree = Tree::of([("plugin.toml", &b"x"[..]), ("main.luau", b"y")]).unwrap();
        let mut asked = may(&[6112..=6119, 9..=9], true);
        asked.groups.push("239.1.2.3".parse().unwrap());
        let mut pins = Pins::default();
        pins.plugin.insert("a".into(), Pin::of(&tree, "1.0.0", "/x", &asked));
        pins.write(dir.path()).unwrap();
        let read = Pins::read(dir.path()).unwrap();
        assert_eq!(read, pins);
        assert_eq!(read.plugin["a"].may.read(), asked);
        assert_eq!(read.plugin["a"].differs(&tree), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn what_was_changed_is_named() {
        let tree = |files: &[(&str, &str)]| Tree::of(files.iter().map(|(n, b)| (*n, b.as_bytes()))).unwrap();
        let pin = Pin::of(&tree(&[("a", "1"), ("b", "2")]), "1", "x", &Capabilities::default());
        let told = pin.differs(&tree(&[("a", "9"), ("c", "3")])).unwrap();
        assert_eq!(told, "a changed; b missing; c new");
        let forged = Pin { hash: "sha256:00".into(), ..pin };
        assert!(forged.differs(&tree(&[("a", "1"), ("b", "2")])).unwrap().contains(PINS));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_told_with_its_place_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (text, part) in [
            ("version = 1\n[plugin.a]\nversoin = \"1\"\n", ":3:1:"),
            ("version = = 1", ":1:11"),
            ("version = 2\n", "later lanrage"),
        ] {
            fs::write(dir.path().join(PINS), text).unwrap();
            let told = Pins::read(dir.path()).unwrap_err();
            assert!(told.message.contains(part), "{told:?}");
            assert_eq!(fs::read_to_string(dir.path().join(PINS)).unwrap(), text);
        }
    }

    #[test]
    fn more_than_agreed_is_told_and_less_is_nothing() {
        let agreed = may(&[10..=20], false);
        assert_eq!(beyond(&agreed, &may(&[12..=13], false)), Capabilities::default());
        let more = beyond(&agreed, &may(&[5..=12, 19..=22], true));
        assert_eq!((more.udp, more.send, more.rewrite), (vec![5..=9, 21..=22], true, false));
        assert_eq!(beyond(&may(&[], true), &may(&[0..=65535], true)).udp, [0..=65535]);
    }
}
