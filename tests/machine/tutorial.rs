//! `docs/plugins/tutorial.md` as its reader follows it: every `console` block is run, files are written as the page shows
//! them, and what the commands say must be what the page says. `…` stands for anything.
//!
//! Commands in `sh` blocks need a game, a party or rights; they must at least be commands.

use crate::program::{program, run};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A fenced block: what stands behind the fence, and the lines.
struct Block {
    line: usize,
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut out: Vec<Block> = Vec::new();
    let mut open = false;
    for (i, line) in page.lines().enumerate() {
        if let Some(info) = line.strip_prefix("```") {
            open = !open;
            if open {
                out.push(Block { line: i + 1, info: info.trim().to_owned(), text: String::new() });
            }
        } else if open {
            let block = out.last_mut().unwrap();
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    assert!(!open, "a fence without an end");
    out
}

fn page() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join("plugins").join("tutorial.md");
    std::fs::read_to_string(file).unwrap().replace("\r\n", "\n")
}

/// Words of a command line; quotes hold together.
fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    out.extend(Some(word).filter(|word| !word.is_empty()));
    out
}

/// Whether a text is as the page shows it.
fn fits(shown: &str, said: &str) -> bool {
    let mut pieces = shown.split('…');
    let Some(mut rest) = said.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    for (i, piece) in pieces.iter().enumerate() {
        if i + 1 == pieces.len() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[test]
fn what_the_tutorial_shows_is_what_happens() {
    let home = tempfile::tempdir().unwrap();
    // What `games record` would have written, which needs a game.
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/castle-rush.pcap");
    std::fs::copy(capture, home.path().join("castle-rush.pcap")).unwrap();
    let mut dir: PathBuf = home.path().to_path_buf();
    let (mut ran, mut wrote) = (0, 0);
    for block in blocks(&page()) {
        match block.info.split_once(' ') {
            Some((_, file)) => {
                let path = file.split('/').fold(dir.clone(), |path, part| path.join(part));
                assert!(path.is_file(), "line {}: {file} is not there to be changed", block.line);
                std::fs::write(path, &block.text).unwrap();
                wrote += 1;
            }
            None if block.info == "console" => {
                assert!(block.text.starts_with("$ "), "line {}", block.line);
                for step in block.text.split("$ ").skip(1) {
                    let (line, shown) = step.split_once('\n').unwrap();
                    let words = words(line);
                    if words[0] == "cd" {
                        dir.push(&words[1]);
                        continue;
                    }
                    assert_eq!(words[0], "lanrage", "line {}: {line}", block.line);
                    let output = run(program().args(&words[1..]).current_dir(&dir));
                    let said = [output.stdout, output.stderr].concat();
                    let said = String::from_utf8(said).unwrap();
                    // The page shows the paths of Linux.
                    let said = if cfg!(windows) { said.replace(".\\", "./") } else { said };
                    // An ellipsis that the program itself prints stands for itself as well.
                    assert!(
                        fits(shown, &said),
                        "line {}: {line}\nthe page shows\n{shown}\nbut it says\n{said}",
                        block.line
                    );
                    ran += 1;
                }
            }
            None => {}
        }
    }
    assert!(ran >= 9 && wrote >= 4, "{ran} commands, {wrote} files");
}

#[test]
fn what_the_tutorial_only_names_are_commands() {
    let mut seen = 0;
    for block in blocks(&page()).into_iter().filter(|block| block.info == "sh") {
        for line in block.text.lines() {
            let line = line.strip_prefix("$ ").unwrap_or_else(|| panic!("line {}: {line}", block.line));
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            seen += 1;
            if let Err(wrong) = lanrage::ui::cli::args::parse(words(line).into_iter().map(OsString::from)) {
                // What is still to come says so itself; anything else is a mistake of the page.
                assert!(wrong.to_string().contains("is not in this version of lanrage"), "{line}: {wrong}");
            }
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn ellipses_stand_for_anything() {
    assert!(fits("a\n…\nb\n", "a\nx\ny\nb\n") && fits("a … c\n", "a b c\n") && fits("a\n", "a\n"));
    assert!(!fits("a\n…\nb\n", "a\nx\nc\n") && !fits("a\n", "a\nb\n") && !fits("b…", "a"));
}
