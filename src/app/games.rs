//! `lanrage games`: what profiles there are, what one says, and whether a file is one; `learn`, `record` and `replay` work with
//! captures.

pub mod learn;
pub mod record;
pub mod replay;

use super::config::{PROFILE_BYTES, read_text};
use super::failure::Failure;
use crate::rules::check::check_text;
use crate::rules::compile::{compile, ties};
use crate::rules::diagnostic::Diagnostic;
use crate::rules::profile::{Profile, Proxy};
use crate::rules::shipped::Catalog;
use serde_json::json;
use std::fmt::Write;
use std::path::Path;

/// Columns of the id; the longest shipped one is `minecraft-bedrock`.
const ID_COLUMNS: usize = 18;
/// Columns of name and aliases, so that a line has 80.
const NAME_COLUMNS: usize = 48;

/// All profiles, a person's own included.
#[must_use]
pub fn list(catalog: &Catalog) -> String {
    let mut out = format!("{:<ID_COLUMNS$} {:<12} NAME\n", "ID", "EVIDENCE");
    for profile in &catalog.profiles {
        let mut lines = wrapped(&profile.name);
        if !profile.aliases.is_empty() {
            lines.extend(wrapped(&format!("also: {}", profile.aliases.join(", "))));
        }
        if profile.proxy.as_ref().is_some_and(|proxy| !proxy.works) {
            lines.extend(wrapped("needs a network device: does not work in proxy mode"));
        }
        let (mut id, mut evidence) = (profile.id.0.as_str(), profile.evidence.as_str());
        for line in lines {
            let _ = writeln!(out, "{id:<ID_COLUMNS$} {evidence:<12} {line}");
            (id, evidence) = ("", "");
        }
    }
    out
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() || line.chars().count() + 1 + word.chars().count() <= NAME_COLUMNS {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The same for scripts.
#[must_use]
pub fn list_json(catalog: &Catalog) -> String {
    let one = |p: &Profile| {
        json!({
            "game": p.id, "name": p.name, "aliases": p.aliases, "evidence": p.evidence.as_str(),
            "file": p.place.file(), "note": p.note, "proxy": p.proxy.as_ref().map(|proxy| proxy.works),
            "proxy_why": p.proxy.as_ref().and_then(|proxy| proxy.why.as_ref()),
        })
    };
    let all: Vec<_> = catalog.profiles.iter().map(one).collect();
    format!("{}\n", json!(all))
}

/// One profile as it is written.
///
/// # Errors
/// When there is none of this name.
pub fn show(catalog: &Catalog, id: &str) -> Result<String, Failure> {
    let profile = find(catalog, id)?;
    let proxy = match &profile.proxy {
        None => "not known".to_owned(),
        Some(Proxy { works, why }) => {
            let word = if *works { "works" } else { "does not work" };
            why.as_ref().map_or_else(|| word.to_owned(), |why| format!("{word}: {}", why.replace('\n', " ")))
        }
    };
    let text = profile.source.text.trim_end();
    Ok(format!("# {}\n# in proxy mode: {proxy}\n{text}\n", profile.place.file()))
}

/// The profile of this id or alias.
///
/// # Errors
/// With the name that was probably meant.
pub fn find<'a>(catalog: &'a Catalog, id: &str) -> Result<&'a Profile, Failure> {
    let hint = "`lanrage games list` shows all games; docs/profiles.md tells how to write a profile";
    catalog.find(id).map_err(|e| Failure::new("unknown_game", e.to_string(), hint))
}

/// Reads a profile as `run` would, and tells with which other games it could not run.
///
/// # Errors
/// Everything that is wrong with it, with line and column.
pub fn check(catalog: &Catalog, file: &Path) -> Result<String, Failure> {
    let unreadable = |why: String| {
        let what = format!("{} cannot be read: {why}", file.display());
        Failure::new(
            "profile_unreadable",
            what,
            "name a TOML file; `lanrage games show minecraft` prints one",
        )
    };
    let text = read_text(file, PROFILE_BYTES).map_err(unreadable)?;
    let name = file.display().to_string();
    let profile = check_text(&name, &text).map_err(|wrong| report(&name, &wrong))?;
    compile(std::slice::from_ref(&profile)).map_err(|wrong| report(&name, &wrong))?;
    let rules = profile.rules.len();
    let rules = if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") };
    let mut out = format!(
        "{name} is fine: {} ({}), {rules}, evidence: {}\n",
        profile.id,
        profile.name,
        profile.evidence.as_str()
    );
    for tie in ties(&profile, &catalog.profiles) {
        let _ = writeln!(out, "it cannot run together with another game: {tie}");
    }
    Ok(out)
}

/// One line a mistake (`file:line:column: message; help`), then each with its place in the text.
fn report(name: &str, wrong: &[Diagnostic]) -> Failure {
    let count = if wrong.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", wrong.len()) };
    let mut message = format!("{count} in {name}\n");
    for one in wrong {
        let _ = writeln!(message, "{one}");
    }
    for one in wrong {
        let _ = write!(message, "\n{}\n", one.render());
    }
    Failure::new("bad_profile", message, "correct the file; docs/profiles.md lists all keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        Catalog::new([])
    }

    #[test]
    fn the_list_names_every_game_with_its_aliases() {
        let table = list(&catalog());
        assert!(table.contains("minecraft-java") && table.contains("also: minecraft, mc"), "{table}");
        assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
        let json: serde_json::Value = serde_json::from_str(&list_json(&catalog())).unwrap();
        assert_eq!(json.as_array().unwrap().len(), catalog().profiles.len());
    }

    #[test]
    fn what_is_shown_can_be_checked() {
        let dir = tempfile::tempdir().unwrap();
        for profile in &catalog().profiles {
            let file = dir.path().join(format!("{}.toml", profile.id));
            std::fs::write(&file, show(&catalog(), &profile.id.0).unwrap()).unwrap();
            assert!(check(&catalog(), &file).unwrap().contains("is fine"), "{}", profile.id);
        }
    }

    #[test]
    fn a_profile_that_overlaps_another_is_told_with_both_positions() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.toml");
        let head = "name = \"Mine\"\nevidence = \"unverified\"\n";
        let rule = "[play]\nudp = 2342\n[[rule]]\nkind = \"query\"\nport = 2342\n";
        std::fs::write(&file, format!("id = \"mine\"\n{head}{rule}")).unwrap();
        let told = check(&catalog(), &file).unwrap();
        assert!(told.contains("mine.toml:6:1: `doom` and `mine` could want the same packet"), "{told}");
        assert!(told.contains("(the rule of `doom`: games/doom.toml:"), "{told}");
        std::fs::write(&file, format!("id = \"doom\"\n{head}{rule}")).unwrap();
        let told = check(&catalog(), &file).unwrap();
        assert!(!told.contains("`doom` and"), "it replaces the shipped one: {told}");
    }

    #[test]
    fn what_is_shown_says_whether_a_proxy_can_stand_for_the_game() {
        let text = show(&catalog(), "directplay").unwrap();
        assert!(text.contains("# in proxy mode: does not work: Players tell each other"), "{text}");
        assert!(show(&catalog(), "terraria").unwrap().contains("# in proxy mode: works: From memory"));
        assert!(show(&catalog(), "quake2").unwrap().contains("# in proxy mode: works\n"));
    }

    #[test]
    fn every_shipped_profile_says_whether_a_proxy_can_stand_for_the_game_and_the_list_marks_those_that_need_a_device()
     {
        let silent: Vec<_> =
            catalog().profiles.iter().filter(|p| p.proxy.is_none()).map(|p| p.id.clone()).collect();
        assert!(silent.is_empty(), "{silent:?}");
        let needs = catalog().profiles.iter().filter(|p| p.proxy.as_ref().is_some_and(|p| !p.works)).count();
        let table = list(&catalog());
        assert_eq!(table.matches("needs a network device").count(), needs, "{table}");
        assert!(needs > 0);
    }

    #[test]
    fn what_nobody_said_of_a_proxy_is_not_made_up() {
        let head = "id = \"x\"\nname = \"X\"\nevidence = \"unverified\"\n[play]\nudp = 5000\n";
        let mine = check_text("x.toml", head).unwrap();
        let catalog = Catalog { profiles: vec![mine], ..catalog() };
        assert!(show(&catalog, "x").unwrap().contains("# in proxy mode: not known"));
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_the_nearest_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.toml");
        let text = show(&catalog(), "minecraft").unwrap().replace("\nname =", "\nnmae =");
        std::fs::write(&file, text).unwrap();
        let failure = check(&catalog(), &file).unwrap_err();
        assert!(failure.trouble.message.contains("mine.toml:"), "{failure:?}");
        assert!(failure.trouble.message.contains("`name`"), "{failure:?}");
        assert!(
            check(&catalog(), Path::new("/nowhere.toml"))
                .unwrap_err()
                .trouble
                .message
                .contains("/nowhere.toml")
        );
    }

    #[test]
    fn an_unknown_game_suggests_the_nearest() {
        let failure = find(&catalog(), "mincraft").unwrap_err();
        assert!(failure.trouble.message.contains("did you mean `minecraft`?"), "{failure:?}");
    }
}
