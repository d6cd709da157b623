//! Shell completions and man pages, made from the same definition that parses, so that they cannot drift from it.

use super::args::definition;
use clap_mangen::Man;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes completions for a shell.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut visible(definition()), "lanrage", out);
}

/// Writes the page of lanrage, or of one of its commands. False when there is no such command.
///
/// # Errors
/// When `out` cannot be written.
pub fn man(command: Option<&str>, out: &mut dyn Write) -> io::Result<bool> {
    let wanted =
        command.map_or_else(|| "lanrage".to_owned(), |name| format!("lanrage-{}", name.replace(' ', "-")));
    let Some((_, page)) = pages().into_iter().find(|(name, _)| *name == wanted) else { return Ok(false) };
    Man::new(page).render(out)?;
    Ok(true)
}

/// Writes all pages into a folder; returns the files.
///
/// # Errors
/// When the folder cannot be made or a file not be written.
pub fn man_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let mut files = Vec::new();
    for (name, page) in pages() {
        let file = dir.join(format!("{name}.1"));
        let mut text = Vec::new();
        Man::new(page).render(&mut text)?;
        std::fs::write(&file, text)?;
        files.push(file);
    }
    Ok(files)
}

/// The definition without its hidden commands: the generators for shells would list them.
fn visible(whole: clap::Command) -> clap::Command {
    let kept: Vec<_> = whole.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let args: Vec<_> = whole.get_arguments().cloned().collect();
    clap::Command::new("lanrage")
        .version(env!("CARGO_PKG_VERSION"))
        .args(args)
        .subcommands(kept)
        .about(whole.get_about().cloned().unwrap_or_default())
        .long_about(whole.get_long_about().cloned().unwrap_or_default())
        .after_help(whole.get_after_help().cloned().unwrap_or_default())
}

/// Every visible command as a page of its own, by its file name.
fn pages() -> Vec<(String, clap::Command)> {
    let mut root = visible(definition());
    // Also makes the full names (`lanrage games list`) that headings and usage lines show.
    root.build();
    let mut out = Vec::new();
    collect(&root, "lanrage".to_owned(), &mut out);
    out
}

fn collect(command: &clap::Command, name: String, out: &mut Vec<(String, clap::Command)>) {
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        collect(sub, format!("{name}-{}", sub.get_name()), out);
    }
    out.push((name, command.clone()));
}
