//! The documentation holds together: every relative link and anchor leads somewhere, and every page is reached from
//! README.md or docs/architecture.md.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// From where readers set out.
const STARTS: [&str; 2] = ["README.md", "docs/architecture.md"];

/// A page that was read.
#[derive(Default)]
struct Page {
    /// What links can name behind `#`.
    anchors: BTreeSet<String>,
    /// Line and target of every link.
    links: Vec<(usize, String)>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page by its path from the root.
fn pages() -> BTreeMap<PathBuf, Page> {
    let mut files: Vec<PathBuf> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "games/README.md", "plugins/README.md"]
            .map(Into::into)
            .into();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                files.push(path);
            }
        }
    }
    let read = |file: PathBuf| {
        let text =
            std::fs::read_to_string(root().join(&file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        (file, read_page(&text))
    };
    files.into_iter().map(read).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 15, "the documentation is there");
    let wrong: Vec<String> = pages
        .iter()
        .flat_map(|(file, page)| page.links.iter().map(move |(line, link)| (file, line, link)))
        .filter_map(|(file, line, link)| {
            let why = problem(&pages, file, link)?;
            Some(format!("{}:{line}: ({link}) {why}", file.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_page_is_reached() {
    let pages = pages();
    let mut reached: BTreeSet<PathBuf> = STARTS.map(PathBuf::from).into();
    let mut from: Vec<PathBuf> = reached.iter().cloned().collect();
    while let Some(file) = from.pop() {
        let Some(page) = pages.get(&file) else { continue };
        for (_, link) in &page.links {
            let path = link.split('#').next().unwrap_or_default();
            if let Some(to) = resolved(&file, path).filter(|to| pages.contains_key(to))
                && reached.insert(to.clone())
            {
                from.push(to);
            }
        }
    }
    let lost: Vec<String> = pages
        .keys()
        .filter(|file| file.starts_with("docs") && !reached.contains(*file))
        .map(|file| file.display().to_string())
        .collect();
    assert!(lost.is_empty(), "no way leads from {} to: {}", STARTS.join(" or "), lost.join(", "));
}

/// Why a link leads nowhere.
fn problem(pages: &BTreeMap<PathBuf, Page>, file: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let Some(to) = (if path.is_empty() { Some(file.to_path_buf()) } else { resolved(file, path) }) else {
        return Some("leads out of the repository".into());
    };
    if !root().join(&to).exists() {
        return Some(format!("there is no {}", to.display()));
    }
    let anchor = anchor?;
    let Some(page) = pages.get(&to) else {
        return Some(format!("{} is no page with anchors", to.display()));
    };
    (!page.anchors.contains(anchor)).then(|| format!("{} has no #{anchor}", to.display()))
}

/// A link's file, from the root; `None` when it leads out of it.
fn resolved(from: &Path, link: &str) -> Option<PathBuf> {
    let mut at: Vec<Component<'_>> = from.parent()?.components().collect();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(at.pop()?),
            Component::Normal(_) => at.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(at.iter().collect())
}

/// Headings and links of a page. Blocks of code and code inside a line have none.
fn read_page(text: &str) -> Page {
    let mut page = Page::default();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut fence: Option<&str> = None;
    for (number, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                if let Some(heading) = heading(line) {
                    let slug = slug(heading);
                    let count = seen.entry(slug.clone()).or_default();
                    page.anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
                    *count += 1;
                }
                let found = links(&without_code(line));
                page.links.extend(found.into_iter().map(|link| (number + 1, link)));
            }
        }
    }
    page
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    ((1..=6).contains(&level) && text.starts_with(' ')).then(|| text.trim())
}

/// What a heading is called behind `#`: lower case, without signs, spaces as `-`.
fn slug(heading: &str) -> String {
    let mut plain = String::new();
    let mut rest = heading;
    // Of a link only its text counts.
    while let Some((before, after)) = rest.split_once("](") {
        plain.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let kept = plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The line with code between backticks left out.
fn without_code(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let (before, from) = rest.split_at(at);
        let ticks = from.len() - from.trim_start_matches('`').len();
        let (open, code) = from.split_at(ticks);
        out.push_str(before);
        match code.find(open) {
            Some(end) => rest = code.get(end + ticks..).unwrap_or_default(),
            None => {
                rest = code;
                break;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Targets of `[text](target)` and `[name]: target`.
fn links(line: &str) -> Vec<String> {
    let first =
        |text: &str| text.split_whitespace().next().map(|target| target.trim_matches(['<', '>']).to_owned());
    let mut out: Vec<String> = line
        .match_indices("](")
        .filter_map(|(at, mark)| first(line.get(at + mark.len()..)?.split(')').next()?))
        .collect();
    if line.starts_with('[')
        && let Some((_, target)) = line.split_once("]: ")
    {
        out.extend(first(target));
    }
    out
}

#[test]
fn a_page_is_read_as_people_see_it() {
    let page = read_page(
        "# The `[play]` table, and more\n\n## Twice\n## Twice\ntext [a](b.md#c), `[no](x.md)` and [d](<e.md> \"title\")\n\
         ```\n# no heading\n[no](y.md)\n```\n[ref]: z.md\n### With [a link](w.md)\n",
    );
    let anchors: Vec<&str> = page.anchors.iter().map(String::as_str).collect();
    assert_eq!(anchors, ["the-play-table-and-more", "twice", "twice-1", "with-a-link"]);
    let links: Vec<(usize, &str)> = page.links.iter().map(|(line, link)| (*line, link.as_str())).collect();
    assert_eq!(links, [(5, "b.md#c"), (5, "e.md"), (10, "z.md"), (11, "w.md")]);
}

#[test]
fn wrong_links_are_found() {
    let pages = BTreeMap::from([
        ("docs/lan.md".into(), read_page("# Here\n")),
        ("README.md".into(), Page::default()),
    ]);
    let why = |link: &str| problem(&pages, Path::new("docs/lan.md"), link).unwrap_or_default();
    assert_eq!(why("#here"), "");
    assert_eq!(why("../README.md"), "");
    assert_eq!(why("../Cargo.toml"), "");
    assert_eq!(why("https://example.org/#x"), "");
    assert_eq!(why("#there"), "docs/lan.md has no #there");
    assert_eq!(why("nowhere.md"), "there is no docs/nowhere.md");
    assert_eq!(why("../../secret"), "leads out of the repository");
    assert_eq!(why("../Cargo.toml#x"), "Cargo.toml is no page with anchors");
}
