//! Manifests, and profiles as far as they speak of plugins, that are wrong in one way each. The first line of each says
//! what must be said of it: `# LINE:COLUMN: MESSAGE`.

use lanrage::plugin::manifest::check_manifest;
use lanrage::rules::check::check_text;
use lanrage::rules::diagnostic::Diagnostic;
use std::path::PathBuf;

type Files = Vec<(String, String)>;

fn files(folder: &str) -> Files {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plugins").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// What does not fit its first line.
fn complaints(files: &Files, check: impl Fn(&str, &str) -> Result<(), Vec<Diagnostic>>) -> Vec<String> {
    let wrong = |(name, text): &(String, String)| {
        let want = text.lines().next().unwrap().strip_prefix("# ").unwrap();
        let Err(found) = check(name, text) else { return Some(format!("{name}: accepted; wanted {want}")) };
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        // Each must also be fit to be shown, whatever the file holds.
        let shown = found.iter().all(|d| !d.render().contains('\u{1b}') && !d.render().is_empty());
        let fits = said.iter().any(|s| s.starts_with(&format!("{name}:{want}")));
        (!fits || !shown).then(|| format!("{name}: wanted {want}\n    {}", said.join("\n    ")))
    };
    files.iter().filter_map(wrong).collect()
}

#[test]
fn every_malformed_manifest_is_told_with_its_place() {
    let files = files("manifests");
    assert!(files.len() >= 30, "the manifests were not found");
    let wrong = complaints(&files, |name, text| check_manifest(name, text).map(drop));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_malformed_profile_is_told_with_its_place() {
    let files = files("profiles");
    assert!(files.len() >= 5, "the profiles were not found");
    let wrong = complaints(&files, |name, text| check_text(name, text).map(drop));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
