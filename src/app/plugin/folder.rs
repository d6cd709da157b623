//! A plugin's folder on disk, read for the workshop: everything that is wrong with it at once, not only the first thing.

use crate::app::config::{PROFILE_BYTES, read_text};
use crate::app::failure::Failure;
use crate::app::plugins::found::is_source;
use crate::model::id::ProfileId;
use crate::plugin::code::{Code, SOURCE_BYTES};
use crate::plugin::manifest::{Manifest, check_manifest};
use crate::plugin::testing::{CaptureFile, Folder, TextFile};
use crate::rules::check::check_text;
use crate::rules::compile::compile;
use crate::rules::diagnostic::{Diagnostic, Place, Source};
use crate::rules::nearest::nearest;
use crate::rules::profile::Profile;
use crate::rules::ruleset::Ruleset;
use crate::rules::shipped::Catalog;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The manifest's file.
pub(super) const MANIFEST: &str = "plugin.toml";
/// The plugin's own profile.
pub(super) const PROFILE: &str = "profile.toml";
/// Its test.
pub(super) const TEST: &str = "test.luau";
/// Where its packets are.
pub(super) const SAMPLES: &str = "samples";

/// Bytes of a file of samples, a manifest, a test.
const TEXT_BYTES: u64 = 1 << 20;
/// Bytes of a capture: some hundred thousand packets; a test wants fewer.
const CAPTURE_BYTES: u64 = 64 << 20;
/// Folders inside folders.
const DEPTH: usize = 8;
/// Entries of one folder.
const ENTRIES: usize = 500;

/// What was read, as far as it could be.
#[derive(Debug)]
pub(super) struct Found {
    /// The manifest's text, with its name.
    pub(super) manifest_source: Arc<Source>,
    /// The manifest, when it is right.
    pub(super) manifest: Option<Manifest>,
    /// Sources by their path inside the folder.
    pub(super) files: BTreeMap<String, String>,
    /// The profiles that the manifest names: the plugin's own and shipped ones.
    pub(super) profiles: Vec<Profile>,
    /// `test.luau`.
    pub(super) test: Option<TextFile>,
    /// `samples/*.samples`.
    pub(super) samples: Vec<TextFile>,
    /// `samples/*.pcap`.
    pub(super) captures: Vec<CaptureFile>,
    /// What is wrong so far.
    pub(super) wrong: Vec<Diagnostic>,
    dir: PathBuf,
}

/// Reads a folder.
///
/// # Errors
/// When it is no folder of a plugin, or a file in it cannot be read.
pub(super) fn read(dir: &Path) -> Result<Found, Failure> {
    let file = dir.join(MANIFEST);
    if !file.is_file() {
        let what = format!("there is no {MANIFEST} in {}, so it is no plugin", dir.display());
        let hint = "name the plugin's folder, or make one with `lanrage plugin new ID`";
        return Err(Failure::new("no_plugin", what, hint));
    }
    let text = text_of(&file, TEXT_BYTES)?;
    let name = shown(dir, MANIFEST);
    let mut wrong = Vec::new();
    let manifest = check_manifest(&name, &text).map_err(|mut told| wrong.append(&mut told)).ok();
    let mut found = Found {
        manifest_source: Arc::new(Source { name, text }),
        manifest,
        files: BTreeMap::new(),
        profiles: Vec::new(),
        test: None,
        samples: Vec::new(),
        captures: Vec::new(),
        wrong,
        dir: dir.to_path_buf(),
    };
    sources(dir, "", 0, &mut found.files)?;
    if dir.join(TEST).is_file() {
        found.test = Some(TextFile { name: shown(dir, TEST), text: text_of(&dir.join(TEST), TEXT_BYTES)? });
    }
    found.read_samples()?;
    found.read_profiles()?;
    Ok(found)
}

impl Found {
    /// A file's name as people are told it.
    #[must_use]
    pub(super) fn shown(&self, file: &str) -> String {
        shown(&self.dir, file)
    }

    /// A place in the manifest: the line that sets this key, or the first.
    #[must_use]
    pub(super) fn manifest_place(&self, key: &str) -> Place {
        let text = &self.manifest_source.text;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let word = line.split(['=', ' ', '\t', ']']).next().unwrap_or_default().trim_start_matches('[');
            if word == key {
                return Place::new(&self.manifest_source, at..at + line.trim_end().len());
            }
            at += line.len();
        }
        Place::new(&self.manifest_source, 0..0)
    }

    /// What can be run, when nothing is wrong.
    #[must_use]
    pub(super) fn runnable(&self) -> Option<Folder> {
        let manifest = self.manifest.clone().filter(|_| self.wrong.is_empty())?;
        Some(Folder {
            code: Arc::new(Code { manifest, files: self.files.clone() }),
            rules: compile(&self.profiles).ok()?,
            profiles: self.profiles.clone(),
            test: self.test.clone(),
            samples: self.samples.clone(),
            captures: self.captures.clone(),
        })
    }

    fn read_samples(&mut self) -> Result<(), Failure> {
        let dir = self.dir.join(SAMPLES);
        if !dir.is_dir() {
            return Ok(());
        }
        for path in entries(&dir)? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let shown = shown(&self.dir, &format!("{SAMPLES}/{name}"));
            match path.extension().and_then(|e| e.to_str()) {
                Some("samples") => {
                    self.samples.push(TextFile { name: shown, text: text_of(&path, TEXT_BYTES)? });
                }
                Some("pcap" | "pcapng") => {
                    let beside = path.with_extension("expected");
                    let there = beside.is_file();
                    self.captures.push(CaptureFile {
                        bytes: bytes_of(&path, CAPTURE_BYTES)?,
                        expected_name: with_ending(&shown, "expected"),
                        expected: there.then(|| text_of(&beside, TEXT_BYTES)).transpose()?,
                        name: shown,
                    });
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// The plugin's own profile, then shipped ones that the manifest names; with all that is wrong with them.
    fn read_profiles(&mut self) -> Result<(), Failure> {
        let mut own = None;
        if self.dir.join(PROFILE).is_file() {
            let text = text_of(&self.dir.join(PROFILE), PROFILE_BYTES)?;
            match check_text(&shown(&self.dir, PROFILE), &text) {
                Ok(profile) => own = Some(profile),
                Err(mut told) => self.wrong.append(&mut told),
            }
        }
        let Some(manifest) = self.manifest.clone() else { return Ok(()) };
        let (id, has_own) = (&manifest.id, own.is_some());
        let asks = |profile: &Profile| profile.plugin.as_ref() == Some(id);
        if let Some(profile) = own.filter(|_| !self.wrong_profile()) {
            if !manifest.games.contains(&profile.id) {
                let message = format!(
                    "the profile is for `{}`, which `games` of the manifest does not name",
                    profile.id
                );
                let help = format!("add \"{}\" to `games` in {MANIFEST}", profile.id);
                self.wrong.push(complaint(profile.place.clone(), message, help));
            }
            if !asks(&profile) {
                let message = format!("the profile does not ask this plugin: it has no `plugin = \"{id}\"`");
                let help =
                    format!("add `plugin = \"{id}\"`, and `ask` to the rules whose packets it is to see");
                self.wrong.push(complaint(profile.place.clone(), message, help));
            }
            self.profiles.push(profile);
        }
        let catalog = Catalog::new(std::iter::empty());
        for game in &manifest.games {
            if self.profiles.iter().any(|profile| profile.id == *game) {
                continue;
            }
            match catalog.profiles.iter().find(|profile| profile.id == *game) {
                Some(profile) => self.profiles.push(profile.clone()),
                None if has_own || !self.wrong_profile() => self.no_profile(game, &catalog),
                None => {}
            }
        }
        if self.wrong.is_empty() && !self.profiles.iter().any(asks) {
            let place = self.manifest_place("games");
            let message = "no profile of `games` asks this plugin, so nothing would ever run it";
            let help = format!(
                "write a {PROFILE} beside the manifest with `plugin = \"{id}\"` and rules with `ask`"
            );
            self.wrong.push(complaint(place, message, help));
        }
        if let Err(mut told) = compile(&self.profiles).map(|_: Ruleset| ()) {
            self.wrong.append(&mut told);
        }
        Ok(())
    }

    /// Whether the plugin's own profile has mistakes: then others that it causes are not worth telling.
    fn wrong_profile(&self) -> bool {
        let name = shown(&self.dir, PROFILE);
        self.wrong.iter().any(|wrong| wrong.place.file() == name)
    }

    fn no_profile(&mut self, game: &ProfileId, catalog: &Catalog) {
        let near = nearest(&game.0, catalog.profiles.iter().map(|profile| profile.id.0.as_str()));
        let help = near.map_or_else(
            || {
                format!(
                    "write it into {PROFILE} beside the manifest; `lanrage games list` shows what there is"
                )
            },
            |near| format!("did you mean `{near}`?"),
        );
        let place = self.manifest_place("games");
        self.wrong.push(complaint(place, format!("there is no profile `{game}`"), help));
    }
}

/// A complaint about a place.
#[must_use]
pub(super) fn complaint(place: Place, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
    let help = Some(help.into()).filter(|help| !help.is_empty());
    Diagnostic { place, message: message.into(), help, also: None }
}

fn sources(
    dir: &Path,
    within: &str,
    depth: usize,
    files: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    for path in entries(dir)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{within}{name}");
        if name.starts_with('.') || name.contains("/.") {
            continue;
        }
        // Links may lead anywhere; what is not in the folder is not the plugin's.
        let kind = std::fs::symlink_metadata(&path).map_err(|e| unreadable(&path, e.to_string()))?;
        if kind.is_dir() && depth < DEPTH {
            sources(&path, &format!("{name}/"), depth + 1, files)?;
        } else if kind.is_file() && is_source(&name) {
            files.insert(name, text_of(&path, SOURCE_BYTES as u64)?);
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let all = std::fs::read_dir(dir).map_err(|e| unreadable(dir, e.to_string()))?;
    let mut paths: Vec<PathBuf> = all.filter_map(|entry| Some(entry.ok()?.path())).take(ENTRIES).collect();
    // The system's order differs from PC to PC.
    paths.sort();
    Ok(paths)
}

/// `dir/file` with `/` between, also on Windows, and without a leading `./`.
fn shown(dir: &Path, file: &str) -> String {
    let dir = dir.display().to_string().replace('\\', "/");
    let dir = dir.trim_end_matches('/').trim_start_matches("./");
    if dir.is_empty() || dir == "." { file.to_owned() } else { format!("{dir}/{file}") }
}

fn with_ending(name: &str, ending: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.{ending}")
}

fn text_of(path: &Path, most: u64) -> Result<String, Failure> {
    read_text(path, most).map_err(|why| unreadable(path, why))
}

fn bytes_of(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|e| unreadable(path, e.to_string()))?;
    if bytes.len() as u64 > most {
        let why = format!("it is larger than {} MiB; cut it: a test wants few packets", most >> 20);
        return Err(unreadable(path, why));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, why: String) -> Failure {
    let what = format!("{} cannot be read: {why}", path.display());
    Failure::new("plugin_unreadable", what, "correct or remove the file")
}
