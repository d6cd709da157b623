//! The layers: defaults, config file, environment, flags, in that order. All give texts; one parser per setting reads them, so a
//! mistake gets the same words wherever it was made, and is told with its origin.

use super::keys::{KEYS, Kind, OTHER_VARIABLES, find};
use crate::app::failure::Failure;
use crate::rules::diagnostic::Place;
use crate::rules::nearest::nearest;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest time that a setting may name.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Where a value was given.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// In the config file.
    File(Place),
    /// In a variable.
    Env(&'static str),
    /// As an option.
    Flag(&'static str),
}

impl Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(place) => place.fmt(f),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// One text, or several for lists.
    pub values: Vec<String>,
    /// Where.
    pub origin: Origin,
}

impl Raw {
    /// A mistake in this value. On the command line that is wrong usage.
    pub fn wrong(&self, message: impl Display, hint: &str) -> Failure {
        let message = format!("{}: {message}", self.origin);
        match self.origin {
            Origin::Flag(_) => Failure::usage("bad_option", message, hint),
            Origin::Env(_) => Failure::new("bad_variable", message, hint),
            Origin::File(_) => Failure::new("bad_config", message, hint),
        }
    }

    /// Whether it was asked for this time, and not once and for all in a file.
    #[must_use]
    pub const fn is_of_now(&self) -> bool {
        matches!(self.origin, Origin::Flag(_) | Origin::Env(_))
    }
}

/// `LANRAGE_*` variables.
pub type Variables = BTreeMap<String, String>;

/// The values that won.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, Raw>,
    /// What should be said but stops nothing.
    pub warnings: Vec<String>,
}

impl Layers {
    /// Folds the layers. Without `config` the usual file is read, if there is one; a named one must be there. Flags come as
    /// the setting's name and what was typed; nothing typed is no value.
    ///
    /// # Errors
    /// When the config file cannot be read.
    pub fn fold(
        config: Option<&Path>,
        variables: &Variables,
        flags: impl IntoIterator<Item = (&'static str, Vec<String>)>,
    ) -> Result<Self, Failure> {
        let mut layers = Self::default();
        let named =
            config.map(Path::to_path_buf).or_else(|| variables.get("LANRAGE_CONFIG").map(PathBuf::from));
        if let Some(path) = named.or_else(|| usual_file().filter(|p| p.is_file())) {
            for (key, raw) in super::file::read(&path)? {
                layers.values.insert(key.name, raw);
            }
        }
        layers.environment(variables);
        for (name, values) in flags {
            let Some(key) = find(name).filter(|_| !values.is_empty()) else { continue };
            layers.values.insert(key.name, Raw { values, origin: Origin::Flag(key.flag) });
        }
        Ok(layers)
    }

    fn environment(&mut self, variables: &Variables) {
        for (name, value) in variables.iter().filter(|(_, value)| !value.trim().is_empty()) {
            let Some(key) = KEYS.iter().find(|k| k.env == name) else {
                if !OTHER_VARIABLES.contains(&name.as_str()) {
                    let meant = nearest(name, KEYS.iter().map(|k| k.env));
                    let meant = meant.map_or(String::new(), |m| format!("; did you mean {m}?"));
                    self.warnings.push(format!("the variable {name} is no setting of lanrage{meant}"));
                }
                continue;
            };
            let values = match key.kind {
                Kind::List => {
                    value.split(',').map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
                }
                Kind::Text | Kind::Switch | Kind::Seconds => vec![value.trim().to_owned()],
            };
            self.values.insert(key.name, Raw { values, origin: Origin::Env(key.env) });
        }
    }

    /// A value as it was given.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&Raw> {
        debug_assert!(find(name).is_some(), "{name} is a setting");
        self.values.get(name)
    }

    /// A text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.raw(name)?.values.first().map(String::as_str)
    }

    /// Each text of a list, read.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn each<T, E: Display>(
        &self,
        name: &str,
        hint: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Failure> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        raw.values.iter().map(|text| read(text).map_err(|e| raw.wrong(e, hint))).collect()
    }

    /// A text, read.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn one<T, E: Display>(
        &self,
        name: &str,
        hint: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        Ok(self.each(name, hint, read)?.pop())
    }

    /// A switch; off when nobody said anything.
    ///
    /// # Errors
    /// When it is neither on nor off.
    pub fn switch(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.maybe_switch(name)?.unwrap_or(false))
    }

    /// A switch; `None` when nobody said anything.
    ///
    /// # Errors
    /// When it is neither on nor off.
    pub fn maybe_switch(&self, name: &str) -> Result<Option<bool>, Failure> {
        let read = |text: &str| match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            other => Err(format!("`{}` is neither true nor false", other.escape_debug())),
        };
        self.one(name, "write true or false", read)
    }

    /// A time.
    ///
    /// # Errors
    /// When it is no time between a millisecond and a day.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, Failure> {
        let read = |text: &str| {
            let number: Option<f64> = text.replace('_', "").parse().ok();
            let time = number.and_then(|n| Duration::try_from_secs_f64(n).ok());
            time.filter(|t| (Duration::from_millis(1)..=LONGEST).contains(t)).ok_or_else(|| {
                format!("`{}` is no time between 0.001 and 86400 seconds", text.escape_debug())
            })
        };
        self.one(name, "write a number of seconds, such as 30 or 0.5", read)
    }
}

/// Where the config file usually is.
#[must_use]
pub fn usual_file() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "lanrage")?;
    Some(dirs.config_dir().join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn a_later_layer_wins_as_a_whole() {
        let config = file("name = \"file\"\ngame = [\"a\", \"b\"]\nmode = \"lan\"\n");
        let env = vars(&[("LANRAGE_NAME", "env"), ("LANRAGE_GAME", "c, d"), ("LANRAGE_SUBNET", " ")]);
        let flags = [("name", vec!["flag".to_owned()]), ("mode", vec![])];
        let layers = Layers::fold(Some(config.path()), &env, flags).unwrap();
        assert_eq!(layers.text("name"), Some("flag"));
        assert_eq!(layers.raw("game").unwrap().values, ["c", "d"]);
        assert_eq!(layers.text("mode"), Some("lan"));
        assert_eq!(layers.raw("subnet"), None, "an empty variable says nothing");
    }

    #[test]
    fn mistakes_are_told_with_their_origin_and_the_right_exit_code() {
        let config = file("\n[timing]\nkeepalive = 0\n");
        let env = vars(&[("LANRAGE_OPEN", "perhaps"), ("LANRAGE_NAEM", "x")]);
        let flags = [("subnet", vec!["10.0.0.0/8".to_owned()])];
        let layers = Layers::fold(Some(config.path()), &env, flags).unwrap();
        assert_eq!(
            layers.warnings,
            ["the variable LANRAGE_NAEM is no setting of lanrage; did you mean LANRAGE_NAME?"]
        );
        let open = layers.switch("open").unwrap_err();
        assert_eq!(
            (open.exit, open.trouble.message.as_str()),
            (1, "LANRAGE_OPEN: `perhaps` is neither true nor false")
        );
        let keepalive = layers.seconds("timing.keepalive").unwrap_err();
        assert!(keepalive.trouble.message.contains(":3:13: `0` is no time"), "{keepalive:?}");
        let subnet = layers.one("subnet", "", str::parse::<crate::model::addr::Subnet>).unwrap_err();
        assert_eq!(subnet.exit, 2);
        assert!(subnet.trouble.message.starts_with("--subnet: `10.0.0.0/8` is not a network"), "{subnet:?}");
    }

    #[test]
    fn a_named_config_file_must_be_there() {
        let failure = Layers::fold(Some(Path::new("/nowhere/c.toml")), &Variables::new(), []).unwrap_err();
        assert_eq!(failure.trouble.code, "config_unreadable");
        let env = vars(&[("LANRAGE_CONFIG", "/nowhere/d.toml")]);
        assert!(Layers::fold(None, &env, []).unwrap_err().trouble.message.contains("/nowhere/d.toml"));
    }
}
