//! Plugins in archives: `.tar.gz`, `.tar` and `.zip`, told apart by their first bytes. Nothing is ever unpacked to the disk: entries
//! are read one by one into a `Tree`, under its caps.

use super::tree::{BYTES, ENTRIES, Refused, Tree};
use flate2::read::MultiGzDecoder;
use std::io::{Cursor, Read};

/// Bytes of an archive file; what is in it is compressed, or has few files.
pub(super) const ARCHIVE: u64 = 2 * BYTES as u64;
/// Bytes of a tar stream: contents, and a head of 512 bytes and padding for each entry, some of them with long names.
const STREAM: u64 = (BYTES + ENTRIES * 2048) as u64;

/// Reads an archive.
///
/// # Errors
/// When it is none, is damaged, or holds what no plugin holds.
pub(super) fn read(bytes: &[u8]) -> Result<Tree, Refused> {
    let tree = match bytes {
        [0x1f, 0x8b, ..] => tar(MultiGzDecoder::new(bytes))?,
        [b'P', b'K', ..] => zip(bytes)?,
        _ if bytes.get(257..262) == Some(b"ustar") => tar(bytes)?,
        _ => return Err(Refused::Unreadable("it is neither .tar.gz nor .zip".to_owned())),
    };
    Ok(tree.without_top())
}

/// Counts what a stream has given, because a reader that ends early looks like a damaged archive.
struct Capped<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Err(std::io::Error::other("it is larger than any plugin"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(room.len());
        let n = self.inner.read(room.get_mut(..most).unwrap_or_default())?;
        self.left -= n as u64;
        Ok(n)
    }
}

fn tar(stream: impl Read) -> Result<Tree, Refused> {
    let broken = |e: std::io::Error| Refused::Unreadable(e.to_string());
    let mut tree = Tree::default();
    let mut archive = tar::Archive::new(Capped { inner: stream, left: STREAM });
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let raw = entry.path_bytes().into_owned();
        let name = text(&raw)?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            tree.folder(name)?;
        } else if kind.is_file() || kind.is_contiguous() {
            tree.add(name, entry)?;
        } else if kind.is_pax_global_extensions() {
            // `git archive` writes the commit into one.
        } else {
            return Err(Refused::name(name, "is a link or a device; a plugin has only files"));
        }
    }
    Ok(tree)
}

fn zip(bytes: &[u8]) -> Result<Tree, Refused> {
    let broken = |e: zip::result::ZipError| Refused::Unreadable(e.to_string());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > ENTRIES {
        return Err(Refused::TooMany);
    }
    let mut tree = Tree::default();
    for at in 0..archive.len() {
        let entry = archive.by_index(at).map_err(broken)?;
        let raw = entry.name_raw().to_vec();
        let name = text(&raw)?;
        if entry.is_symlink()
            || entry.unix_mode().is_some_and(|mode| !matches!(mode & 0o170_000, 0 | 0o100_000 | 0o040_000))
        {
            return Err(Refused::name(name, "is a link or a device; a plugin has only files"));
        } else if entry.is_dir() {
            tree.folder(name)?;
        } else {
            tree.add(name, entry)?;
        }
    }
    Ok(tree)
}

fn text(name: &[u8]) -> Result<&str, Refused> {
    let lossy = || String::from_utf8_lossy(name).into_owned();
    std::str::from_utf8(name).map_err(|_| Refused::name(&lossy(), "has a name that is no text (not UTF-8)"))
}
