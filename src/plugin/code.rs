//! A plugin's sources as text. The host reads the files; here they are only looked at.

use super::manifest::Manifest;
use std::collections::BTreeMap;

/// A manifest and the sources that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// What `plugin.toml` says.
    pub manifest: Manifest,
    /// Sources by their path inside the plugin's folder, with `/`: `main.luau` (or `main.lua`) and what it requires.
    pub files: BTreeMap<String, String>,
}

/// Why sources cannot be a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// There is no first file.
    #[error("there is no main.luau; put the plugin's code into a file of that name")]
    NoMain,
    /// There are two.
    #[error("there are both main.luau and main.lua; keep one of them")]
    TwoMains,
    /// Too much.
    #[error("the sources have {0} bytes in all; a plugin has at most {SOURCE_BYTES}")]
    TooLong(usize),
    /// Too many.
    #[error("there are {0} source files; a plugin has at most {FILES}")]
    TooMany(usize),
    /// A name that `require` could not name, or that leads outside.
    #[error(
        "`{0}` is no name for a source file; use a-z, 0-9, `-`, `_` and `/`, and end it with .luau or .lua"
    )]
    BadName(String),
    /// Two files for one name of `require`.
    #[error("`{0}` is there as .luau and as .lua; keep one of them")]
    Twice(String),
}

impl Code {
    /// Looks at names and sizes.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<&str, CodeError> {
        if self.files.len() > FILES {
            return Err(CodeError::TooMany(self.files.len()));
        }
        let bytes: usize = self.files.values().map(String::len).sum();
        if bytes > SOURCE_BYTES {
            return Err(CodeError::TooLong(bytes));
        }
        for name in self.files.keys() {
            let Some(module) = module_name(name) else {
                return Err(CodeError::BadName(name.chars().take(60).flat_map(char::escape_debug).collect()));
            };
            if module != "main"
                && name.ends_with(".lua")
                && self.files.contains_key(&format!("{module}.luau"))
            {
                return Err(CodeError::Twice(module.to_owned()));
            }
        }
        match (self.files.contains_key("main.luau"), self.files.contains_key("main.lua")) {
            (true, true) => Err(CodeError::TwoMains),
            (true, false) => Ok("main.luau"),
            (false, true) => Ok("main.lua"),
            (false, false) => Err(CodeError::NoMain),
        }
    }
}

/// What `require` calls a file: its path without the ending; `None` for a name that no source file may have.
#[must_use]
pub fn module_name(file: &str) -> Option<&str> {
    let module = file.strip_suffix(".luau").or_else(|| file.strip_suffix(".lua"))?;
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (file.len() <= NAME_BYTES && module.split('/').all(part)).then_some(module)
}

/// All sources of a plugin together: compiling is outside the limits of a call, and this much takes 80 ms.
pub const SOURCE_BYTES: usize = 256 << 10;
/// Source files.
const FILES: usize = 64;
/// Bytes of a file's path inside the folder.
const NAME_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_no_modules() {
        for (file, module) in [
            ("main.luau", Some("main")),
            ("lib/text.lua", Some("lib/text")),
            ("../x.luau", None),
            ("/etc/x.luau", None),
            ("a//b.luau", None),
            ("a.b.luau", None),
            ("x.txt", None),
            (".luau", None),
            ("a\\b.luau", None),
        ] {
            assert_eq!(module_name(file), module, "{file}");
        }
    }
}
