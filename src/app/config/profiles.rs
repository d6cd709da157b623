//! A player's own profiles: read as texts here, understood by `rules`.

use super::file::read_text;
use super::layers::Layers;
use crate::app::failure::Failure;
use std::path::{Path, PathBuf};

/// Profiles of one folder; the shipped ones are a dozen.
const PROFILES: usize = 500;
/// Bytes of one profile.
pub const PROFILE_BYTES: u64 = 256 * 1024;

/// The player's own profiles: all `*.toml` of the named folders, or of `games` in the data folder.
///
/// # Errors
/// When a named folder or a profile cannot be read.
pub fn profiles(layers: &Layers, data_dir: &Path) -> Result<Vec<(String, String)>, Failure> {
    let Some(raw) = layers.raw("profiles") else {
        let usual = data_dir.join("games");
        return if usual.is_dir() { profiles_of(&usual) } else { Ok(Vec::new()) };
    };
    let mut all = Vec::new();
    for dir in &raw.values {
        all.extend(profiles_of(Path::new(dir))?);
    }
    Ok(all)
}

fn profiles_of(dir: &Path) -> Result<Vec<(String, String)>, Failure> {
    let failed = |path: &Path, why: String| {
        let what = format!("the profile {} cannot be read: {why}", path.display());
        Failure::new("profile_unreadable", what, "correct or remove it")
    };
    let entries = std::fs::read_dir(dir).map_err(|e| failed(dir, e.to_string()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    // The system's order differs from PC to PC; profiles are matched in order.
    paths.sort();
    if paths.len() > PROFILES {
        return Err(failed(dir, format!("more than {PROFILES} profiles in one folder")));
    }
    let read = |path: &PathBuf| {
        let text = read_text(path, PROFILE_BYTES).map_err(|why| failed(path, why))?;
        Ok((path.display().to_string(), text))
    };
    paths.iter().map(read).collect()
}
