//! Plugins on this computer's disk: fetching, keeping, and telling when they were changed. What a plugin is made of and what it may do
//! is the business of `plugin`; nothing here runs one.
//!
//! * `tree`: the files of one plugin in memory, with caps and a hash; `archive` and `git` read into one
//! * `source`: what a player typed, and the index of names
//! * `folder`: `plugins/<id>/` in the data folder, changed as a whole; `pins`: `plugins.lock` beside it
//! * `watch`: whether something was edited, for `run --dev`

mod archive;
pub mod folder;
mod git;
pub mod pins;
pub mod source;
pub mod tree;
pub mod watch;

use crate::model::status::Trouble;
use tree::Refused;

/// Some files that cannot be a plugin.
pub(crate) fn refused(from: &str, why: &Refused) -> Trouble {
    let hint = match why {
        Refused::Io(..) => "check that the folder exists and may be read",
        Refused::Unreadable(_) => "download it again",
        Refused::Name { .. } | Refused::Twins(..) | Refused::TooMany | Refused::TooLarge => {
            "a plugin is a folder with plugin.toml, main.luau and little else; ask its author"
        }
    };
    Trouble::new("bad_plugin", format!("{from} is no plugin: {why}"), hint)
}
