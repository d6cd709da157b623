//! One small JSON file at a time: read strictly, replaced as a whole, put aside when it makes no sense.

use crate::host::clock;
use crate::model::status::Trouble;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// The format of all files.
const VERSION: u64 = 1;
/// The largest file that is read: 256 parties with 64 sealed records of 4 KiB each would be 100 MiB; real ones are far
/// below 1.
const LARGEST: u64 = 128 << 20;
/// Marks temporary files.
const TEMPORARY: &str = ".tmp-";

/// Reads a file. `None` when it does not exist, or when it made no sense and was put aside (with a warning).
pub(super) fn read<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    warnings: &mut Vec<Trouble>,
    sane: impl FnOnce(&T) -> bool,
) -> Result<Option<T>, Trouble> {
    let path = dir.join(name);
    let mut text = Vec::new();
    match File::open(&path) {
        Ok(file) => {
            file.take(LARGEST).read_to_end(&mut text).map_err(|e| failed("read", &path, &e))?;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", &path, &e)),
    }
    match parse::<T>(&text) {
        Ok(Parsed::Later(version)) => Err(Trouble::new(
            "later_version",
            format!("{} was written by a later lanrage (format {version})", path.display()),
            "use that version, or another directory with --data-dir DIR",
        )),
        Ok(Parsed::Known(value)) if sane(&value) => Ok(Some(value)),
        Ok(Parsed::Known(_)) => put_aside(dir, name, "it holds values that cannot be", warnings),
        Err(why) => put_aside(dir, name, &why.to_string(), warnings),
    }
}

/// Reads a file that somebody else may be using: one that cannot be read, for whatever reason, is left alone.
pub(super) fn glance<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    let mut text = Vec::new();
    File::open(dir.join(name)).ok()?.take(LARGEST).read_to_end(&mut text).ok()?;
    match parse(&text).ok()? {
        Parsed::Known(value) => Some(value),
        Parsed::Later(_) => None,
    }
}

enum Parsed<T> {
    Known(T),
    Later(u64),
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<Parsed<T>> {
    use serde::de::Error;
    let value: Value = serde_json::from_slice(text)?;
    match value.get("version").and_then(Value::as_u64) {
        Some(VERSION) => serde_json::from_value(value).map(Parsed::Known),
        Some(later) if later > VERSION => Ok(Parsed::Later(later)),
        _ => Err(Error::custom("it has no version number")),
    }
}

fn put_aside<T>(
    dir: &Path,
    name: &str,
    why: &str,
    warnings: &mut Vec<Trouble>,
) -> Result<Option<T>, Trouble> {
    let path = dir.join(name);
    let stamp = clock::unix().as_secs();
    let free = (0..).map(|n| stamp + n).map(|at| format!("{name}.broken-{at}"));
    let aside = free.into_iter().find(|n| !dir.join(n).exists()).expect("some second is free");
    fs::rename(&path, dir.join(&aside)).map_err(|e| failed("put aside", &path, &e))?;
    warnings.push(Trouble::new(
        "broken_file",
        format!(
            "{} cannot be understood ({why}); it was kept as {aside} and a new one begun",
            path.display()
        ),
        "repair that file and put it back while lanrage is not running, or ignore it",
    ));
    Ok(None)
}

/// Replaces a file as a whole.
pub(super) fn write(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), Trouble> {
    let path = dir.join(name);
    let temporary = dir.join(temporary(name));
    let text = to_text(value).map_err(|e| failed("write", &path, &e.into()))?;
    let written = write_all(&temporary, &text).and_then(|()| fs::rename(&temporary, &path));
    if let Err(e) = written {
        let _ = fs::remove_file(&temporary);
        return Err(failed("write", &path, &e));
    }
    // The rename itself is kept by syncing the directory; systems that cannot open one do it on their own.
    let _ = File::open(dir).and_then(|d| d.sync_all());
    Ok(())
}

fn to_text(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(value)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("version".into(), VERSION.into());
    }
    let mut text = serde_json::to_vec_pretty(&value)?;
    text.push(b'\n');
    Ok(text)
}

fn write_all(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// The name of the temporary file beside `name`.
pub(super) fn temporary(name: &str) -> String {
    format!("{name}{TEMPORARY}{}", std::process::id())
}

/// Makes the directory, for its owner only. One that exists keeps its permissions: they are somebody's choice.
pub(in crate::host) fn make_dir(dir: &Path) -> Result<(), Trouble> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|e| failed("make", dir, &e))
}

/// Removes temporary files that a killed process left. Only called with the lock held.
pub(super) fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|n| n.contains(".json") && n.contains(TEMPORARY)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What happened to a file, as a trouble.
pub(in crate::host) fn failed(what: &str, path: &Path, error: &io::Error) -> Trouble {
    Trouble::new(
        "data_dir",
        format!("cannot {what} {}: {error}", path.display()),
        "check that the directory exists, is yours and has room, or name another with --data-dir DIR",
    )
}
