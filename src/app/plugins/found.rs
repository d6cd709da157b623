//! Which plugins there are: those that come with the program, those that were added, and with `run --dev` those that somebody works
//! on; and which of them may be loaded.

use crate::app::failure::Failure;
use crate::host::plugins::folder::{Kept, PluginFolder};
use crate::host::plugins::pins::{Pin, beyond};
use crate::host::plugins::tree::Tree;
use crate::model::id::{PluginId, ProfileId};
use crate::model::script::Capabilities;
use crate::model::status::Trouble;
use crate::plugin::code::Code;
use crate::plugin::manifest::{Manifest, check_manifest};
use crate::plugin::shipped::PLUGINS;
use crate::rules::check::check_text;
use crate::rules::diagnostic::Diagnostic;
use crate::ui::cli::plugins::capabilities;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The manifest's file.
pub const MANIFEST: &str = "plugin.toml";
/// The profile that may come with a plugin.
pub const PROFILE: &str = "profile.toml";

/// Where a plugin comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It comes with the program.
    Shipped,
    /// It was added.
    Added,
    /// Somebody works on it (`run --dev`).
    Development,
}

impl Origin {
    /// The word in lists and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Shipped => "shipped",
            Self::Added => "added",
            Self::Development => "development",
        }
    }
}

/// A plugin that is there.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it comes from.
    pub origin: Origin,
    /// Its version, as far as it can be told.
    pub version: String,
    /// What its manifest says, as far as it can be read.
    pub manifest: Option<Manifest>,
    /// What is run, or why it is not.
    pub code: Result<Arc<Code>, Trouble>,
    /// The profile that it brings: name and text.
    pub profile: Option<(String, String)>,
    /// What was agreed to.
    pub pin: Option<Pin>,
}

/// All plugins that are there.
#[derive(Debug, Clone)]
pub struct Plugins {
    /// By id; of several with the same id, the one that is used.
    pub all: BTreeMap<PluginId, Found>,
    /// What people should know about them all.
    pub told: Vec<Trouble>,
}

impl Default for Plugins {
    /// Only those that come with the program.
    fn default() -> Self {
        let all = PLUGINS
            .iter()
            .map(|shipped| (PluginId(shipped.id.to_owned()), of_shipped(shipped.files, shipped.id)));
        Self { all: all.collect(), told: Vec::new() }
    }
}

impl Plugins {
    /// Looks; nothing is run. With `dev`, the plugins of these folders too, and whatever was edited in the data folder.
    #[must_use]
    pub fn find(data_dir: &Path, dev: Option<&[PathBuf]>) -> Self {
        let mut plugins = Self::default();
        match PluginFolder::of(data_dir).read() {
            Ok(kept) => {
                for (id, kept) in kept {
                    let found = of_kept(&id, kept, dev.is_some());
                    plugins.add(id, found);
                }
            }
            Err(trouble) => plugins.told.push(trouble),
        }
        for dir in dev.into_iter().flatten().flat_map(|dir| plugin_folders(dir)) {
            match of_folder(&dir) {
                Ok((id, found)) => plugins.add(id, found),
                Err(trouble) => plugins.told.push(trouble),
            }
        }
        plugins
    }

    fn add(&mut self, id: PluginId, found: Found) {
        let origin = found.origin;
        let version = found.version.clone();
        if let Some(before) = self.all.insert(id.clone(), found) {
            let what = format!(
                "the plugin `{id}` {version} ({}) is used instead of {} ({})",
                origin.word(),
                before.version,
                before.origin.word()
            );
            let hint = match origin {
                Origin::Added => format!("`lanrage plugin remove {id}` brings the other one back"),
                Origin::Shipped | Origin::Development => String::new(),
            };
            self.told.push(Trouble::new("plugin_replaced", what, hint));
        }
    }

    /// The profiles that come with plugins; of plugins that may not be loaded, none.
    #[must_use]
    pub fn profiles(&self, origin: impl Fn(Origin) -> bool) -> Vec<(String, String)> {
        let used = self.all.values().filter(|found| origin(found.origin) && found.code.is_ok());
        used.filter_map(|found| found.profile.clone()).collect()
    }
}

/// The folder itself, or the folders in it.
fn plugin_folders(dir: &Path) -> Vec<PathBuf> {
    if dir.join(MANIFEST).exists() {
        return vec![dir.to_path_buf()];
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut dirs: Vec<PathBuf> = entries.filter(|path| path.join(MANIFEST).is_file()).collect();
    dirs.sort();
    dirs
}

fn of_shipped(files: &[(&str, &str)], id: &str) -> Found {
    let tree = Tree::of(files.iter().map(|(name, text)| (*name, text.as_bytes()))).unwrap_or_default();
    // A test reads them all, so that none of them is wrong.
    of_tree(&format!("plugins/{id}"), &tree, Origin::Shipped, None).1
}

fn of_folder(dir: &Path) -> Result<(PluginId, Found), Trouble> {
    let name = dir.display().to_string();
    let tree = Tree::of_folder(dir).map_err(|why| crate::host::plugins::refused(&name, &why))?;
    let (id, found) = of_tree(&name, &tree, Origin::Development, None);
    match (id, found.code) {
        (Some(id), code) => Ok((id, Found { code, ..found })),
        (None, Err(trouble)) => Err(trouble),
        (None, Ok(_)) => Err(Trouble::new("plugin_broken", format!("{name} has no id"), "")),
    }
}

fn of_kept(id: &PluginId, kept: Kept, dev: bool) -> Found {
    let name = kept.dir.display().to_string();
    let pin = kept.pin;
    let version = pin.as_ref().map_or("?", |pin| &pin.version).to_owned();
    let refused = |code: &str, what: String, hint: String| Found {
        origin: Origin::Added,
        version: version.clone(),
        manifest: None,
        code: Err(Trouble::new(code, what, hint)),
        profile: None,
        pin: pin.clone(),
    };
    let again = pin.as_ref().map_or_else(|| name.clone(), |pin| pin.source.clone());
    let tree = match kept.tree {
        Ok(tree) => tree,
        Err(why) => {
            let what = format!("the plugin `{id}` in {name} is not as it was agreed to: {why}");
            let hint = format!(
                "`lanrage plugin add {again}` brings it back; `lanrage plugin remove {id}` forgets it"
            );
            return refused("plugin_tampered", what, hint);
        }
    };
    let origin = if dev && pin.as_ref().is_none_or(|pin| pin.differs(&tree).is_some()) {
        Origin::Development
    } else {
        Origin::Added
    };
    let (named, mut found) = of_tree(&name, &tree, origin, pin.clone());
    let Some(pin) = pin.as_ref().filter(|_| origin == Origin::Added) else {
        if origin == Origin::Added {
            let what = format!("the plugin `{id}` lies in {name}, but nobody agreed to what it may do");
            found.code = Err(Trouble::new(
                "plugin_not_agreed",
                what,
                format!("`lanrage plugin add {name}` shows it and asks"),
            ));
        }
        return found;
    };
    if let Some(differs) = pin.differs(&tree) {
        let what =
            format!("the plugin `{id}` is not loaded: it is not as it was agreed to ({differs}, in {name})");
        let hint = format!(
            "`lanrage plugin add {again}` brings it back; if you changed it yourself: `lanrage plugin add {name}`"
        );
        found.code = Err(Trouble::new("plugin_tampered", what, hint));
    } else if named.as_ref().is_some_and(|named| named != id) {
        let what = format!(
            "the plugin in {name} calls itself `{}`",
            named.map(|n| n.0).unwrap_or_default().escape_debug()
        );
        found.code = Err(Trouble::new("plugin_broken", what, "add it again under its own name"));
    } else if let Some(manifest) = &found.manifest {
        let more = beyond(&pin.may.read(), &manifest.may);
        if more != Capabilities::default() {
            let what = format!(
                "the plugin `{id}` wants more than was agreed to: it {}",
                capabilities(&more).join(", and ")
            );
            found.code = Err(Trouble::new(
                "plugin_not_agreed",
                what,
                format!("`lanrage plugin add {name}` shows it and asks"),
            ));
        }
    }
    found
}

/// Reads what a plugin is made of. The id is there whenever the manifest can be read.
pub fn of_tree(name: &str, tree: &Tree, origin: Origin, pin: Option<Pin>) -> (Option<PluginId>, Found) {
    let mut found = Found {
        origin,
        version: pin.as_ref().map_or("?", |pin| &pin.version).to_owned(),
        manifest: None,
        code: Err(Trouble::new("plugin_broken", "", "")),
        profile: None,
        pin,
    };
    let manifest = match manifest_of(name, tree) {
        Ok(manifest) => manifest,
        Err(trouble) => {
            found.code = Err(trouble);
            return (None, found);
        }
    };
    found.version.clone_from(&manifest.version);
    found.manifest = Some(manifest.clone());
    let id = manifest.id.clone();
    found.code = profile_of(name, tree, &manifest).and_then(|profile| {
        found.profile = profile;
        code_of(name, tree, manifest).map(Arc::new)
    });
    (Some(id), found)
}

fn manifest_of(name: &str, tree: &Tree) -> Result<Manifest, Trouble> {
    let file = format!("{name}/{MANIFEST}");
    let Some(text) = tree.text(MANIFEST) else {
        let what = format!("{name} is no plugin: it has no {MANIFEST}");
        return Err(Trouble::new("plugin_broken", what, "`lanrage plugin new` makes one to start from"));
    };
    let text =
        text.map_err(|why| Trouble::new("plugin_broken", format!("{name}: {why}"), "save it as UTF-8"))?;
    check_manifest(&file, text).map_err(|wrong| broken(&wrong))
}

/// The profile that comes with a plugin must be for a game of the plugin, and ask it.
fn profile_of(name: &str, tree: &Tree, manifest: &Manifest) -> Result<Option<(String, String)>, Trouble> {
    let file = format!("{name}/{PROFILE}");
    let Some(text) = tree.text(PROFILE) else { return Ok(None) };
    let text =
        text.map_err(|why| Trouble::new("plugin_broken", format!("{name}: {why}"), "save it as UTF-8"))?;
    let profile = check_text(&file, text).map_err(|wrong| broken(&wrong))?;
    if !manifest.games.contains(&profile.id) {
        let what = format!(
            "{}: the profile `{}` is for no game of the plugin `{}`",
            profile.place, profile.id, manifest.id
        );
        return Err(Trouble::new("plugin_broken", what, format!("write it into `games` of {MANIFEST}")));
    }
    if profile.plugin.as_ref().is_some_and(|asked| *asked != manifest.id) {
        let what = format!(
            "{}: the profile `{}` asks another plugin than the one it comes with",
            profile.place, profile.id
        );
        return Err(Trouble::new("plugin_broken", what, format!("write plugin = \"{}\"", manifest.id)));
    }
    Ok(Some((file, text.to_owned())))
}

/// Sources are what can be required; tests, stubs for editors and samples are not.
#[must_use]
pub fn is_source(name: &str) -> bool {
    let ending = name.ends_with(".luau") || name.ends_with(".lua");
    let top = name.split('/').next().unwrap_or(name);
    ending
        && !name.ends_with(".d.luau")
        && !["test.luau", "test.lua", "types", "stubs", "tests", "samples"].contains(&top)
}

fn code_of(name: &str, tree: &Tree, manifest: Manifest) -> Result<Code, Trouble> {
    let mut files = BTreeMap::new();
    for file in tree.files().keys().filter(|file| is_source(file)) {
        let Some(text) = tree.text(file) else { continue };
        let text =
            text.map_err(|why| Trouble::new("plugin_broken", format!("{name}: {why}"), "save it as UTF-8"))?;
        // Luau stops reading there, and people do not: what runs must be what is read.
        if text.contains('\0') {
            let what = format!("{name}/{file} has a zero byte in it, behind which nothing would run");
            return Err(Trouble::new("plugin_broken", what, "tell its author"));
        }
        files.insert(file.clone(), text.to_owned());
    }
    let code = Code { manifest, files };
    code.check().map_err(|why| {
        Trouble::new(
            "plugin_broken",
            format!("{name}: {why}"),
            "`lanrage plugin check` tells all that is wrong",
        )
    })?;
    Ok(code)
}

fn broken(wrong: &[Diagnostic]) -> Trouble {
    let told: Vec<String> = wrong.iter().take(3).map(ToString::to_string).collect();
    let more = if wrong.len() > 3 { format!("; and {} more", wrong.len() - 3) } else { String::new() };
    let hint = "correct the file; `lanrage plugin check` tells all that is wrong";
    Trouble::new("plugin_broken", format!("{}{more}", told.join("; ")), hint)
}

/// The player's profiles and plugins, read together: a plugin may bring a profile, and a profile of the player's own replaces it.
///
/// # Errors
/// When a folder with profiles cannot be read.
pub fn gather(
    data_dir: &Path,
    own: impl FnOnce() -> Result<Vec<(String, String)>, Failure>,
    dev: Option<&[PathBuf]>,
) -> Result<(Vec<(String, String)>, Plugins), Failure> {
    let plugins = Plugins::find(data_dir, dev);
    let mut profiles = plugins.profiles(|origin| origin == Origin::Shipped);
    profiles.extend(plugins.profiles(|origin| origin == Origin::Added));
    profiles.extend(own()?);
    // What somebody works on should be what they see.
    profiles.extend(plugins.profiles(|origin| origin == Origin::Development));
    Ok((profiles, plugins))
}

/// Whether this plugin's manifest lets this profile ask it.
#[must_use]
pub fn is_for(found: &Found, game: &ProfileId) -> bool {
    found.manifest.as_ref().is_some_and(|manifest| manifest.games.contains(game))
}
