//! The profiles that come with the program, and how a person's own profiles replace them.

use super::check::check_text;
use super::diagnostic::Diagnostic;
use super::nearest::nearest;
use super::profile::Profile;

/// Every file of `games/`, by name. `tests/machine/profiles.rs` keeps this list and the folder equal.
pub const FILES: &[(&str, &str)] = &[
    ("games/avp2.toml", include_str!("../../games/avp2.toml")),
    ("games/battlefield2.toml", include_str!("../../games/battlefield2.toml")),
    ("games/call-of-duty.toml", include_str!("../../games/call-of-duty.toml")),
    ("games/directplay.toml", include_str!("../../games/directplay.toml")),
    ("games/doom.toml", include_str!("../../games/doom.toml")),
    ("games/doom3.toml", include_str!("../../games/doom3.toml")),
    ("games/flatout2.toml", include_str!("../../games/flatout2.toml")),
    ("games/freeciv.toml", include_str!("../../games/freeciv.toml")),
    ("games/halo.toml", include_str!("../../games/halo.toml")),
    ("games/jedi-academy.toml", include_str!("../../games/jedi-academy.toml")),
    ("games/minecraft-bedrock.toml", include_str!("../../games/minecraft-bedrock.toml")),
    ("games/minecraft-java.toml", include_str!("../../games/minecraft-java.toml")),
    ("games/nexuiz.toml", include_str!("../../games/nexuiz.toml")),
    ("games/openarena.toml", include_str!("../../games/openarena.toml")),
    ("games/openttd.toml", include_str!("../../games/openttd.toml")),
    ("games/quake2.toml", include_str!("../../games/quake2.toml")),
    ("games/quake3.toml", include_str!("../../games/quake3.toml")),
    ("games/quake4.toml", include_str!("../../games/quake4.toml")),
    ("games/quakeworld.toml", include_str!("../../games/quakeworld.toml")),
    ("games/samp.toml", include_str!("../../games/samp.toml")),
    ("games/serious-sam.toml", include_str!("../../games/serious-sam.toml")),
    ("games/source-engine.toml", include_str!("../../games/source-engine.toml")),
    ("games/teeworlds.toml", include_str!("../../games/teeworlds.toml")),
    ("games/terraria.toml", include_str!("../../games/terraria.toml")),
    ("games/unreal2.toml", include_str!("../../games/unreal2.toml")),
    ("games/unreal3.toml", include_str!("../../games/unreal3.toml")),
    ("games/warcraft3.toml", include_str!("../../games/warcraft3.toml")),
    ("games/wolfenstein.toml", include_str!("../../games/wolfenstein.toml")),
    ("games/xonotic.toml", include_str!("../../games/xonotic.toml")),
];

/// A game that no profile is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no profile is called `{asked}`{}", hint(.nearest.as_deref()))]
pub struct UnknownGame {
    /// What was asked for.
    pub asked: String,
    /// The id or alias that was probably meant.
    pub nearest: Option<String>,
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `lanrage games list` shows all".to_owned(),
        |near| format!("; did you mean `{near}`?"),
    )
}

/// All shipped profiles, in the order of their ids.
#[must_use]
pub fn all() -> Vec<Profile> {
    Catalog::new(std::iter::empty::<(String, String)>()).profiles
}

/// The shipped profile with this id or alias.
///
/// # Errors
/// With the nearest known name, when there is none.
pub fn find(asked: &str) -> Result<Profile, UnknownGame> {
    Catalog::new(std::iter::empty::<(String, String)>()).find(asked).cloned()
}

/// The profiles that there are: shipped ones, and a person's own, which replace shipped ones with the same id.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// In the order of their ids.
    pub profiles: Vec<Profile>,
    /// What is wrong with files that could not be used; the shipped profile stays in use then.
    pub wrong: Vec<Diagnostic>,
}

impl Catalog {
    /// Takes the names and texts of a person's own profiles.
    pub fn new(own: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut catalog = Self::default();
        for (name, text) in FILES {
            catalog.add(name, text);
        }
        for (name, text) in own {
            catalog.add(&name, &text);
        }
        catalog
    }

    fn add(&mut self, name: &str, text: &str) {
        match check_text(name, text) {
            Err(mut wrong) => self.wrong.append(&mut wrong),
            Ok(profile) => match self.profiles.binary_search_by(|have| have.id.cmp(&profile.id)) {
                Ok(at) => {
                    if let Some(old) = self.profiles.get_mut(at) {
                        *old = profile;
                    }
                }
                Err(at) => self.profiles.insert(at, profile),
            },
        }
    }

    /// The profile with this id or, when no id is like that, this alias.
    ///
    /// # Errors
    /// With the nearest known name, when there is none.
    pub fn find(&self, asked: &str) -> Result<&Profile, UnknownGame> {
        let wanted = asked.trim().to_ascii_lowercase();
        let by_id = self.profiles.iter().find(|p| p.id.0 == wanted);
        let found = by_id.or_else(|| self.profiles.iter().find(|p| p.aliases.contains(&wanted)));
        found.ok_or_else(|| {
            let names = self.profiles.iter().flat_map(|p| std::iter::once(&p.id.0).chain(&p.aliases));
            let near = nearest(&wanted, names.map(String::as_str));
            UnknownGame { asked: asked.to_owned(), nearest: near.map(str::to_owned) }
        })
    }
}
