//! What the others call this player, when nobody says.

use super::layers::Layers;
use crate::app::failure::Failure;
use crate::model::limits::NAME_CHARS;

/// The given name, else the user's, else the computer's.
pub(super) fn name(layers: &Layers) -> Result<String, Failure> {
    let given = layers.one("name", "choose a shorter one without control characters", |text| {
        let name = text.trim();
        let fits = (1..=NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        let shown: String = name.chars().take(2 * NAME_CHARS).collect();
        if fits {
            Ok(name.to_owned())
        } else {
            Err(format!("`{}` is no name of 1 to {NAME_CHARS} characters", shown.escape_debug()))
        }
    })?;
    Ok(given.or_else(user).or_else(computer).unwrap_or_else(|| "player".to_owned()))
}

/// The person at the keyboard: with sudo that is who called it, not root.
fn user() -> Option<String> {
    let person =
        |variable: &str| std::env::var(variable).ok().filter(|name| name != "root").and_then(|n| usable(&n));
    ["SUDO_USER", "USER", "LOGNAME", "USERNAME"].into_iter().find_map(person)
}

fn computer() -> Option<String> {
    let told = ["COMPUTERNAME", "HOSTNAME"].into_iter().find_map(|v| usable(&std::env::var(v).ok()?));
    told.or_else(|| usable(&std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?))
        .or_else(|| usable(&std::fs::read_to_string("/etc/hostname").ok()?))
}

fn usable(name: &str) -> Option<String> {
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
    (!name.is_empty()).then_some(name)
}
