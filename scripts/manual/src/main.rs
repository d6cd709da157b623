//! `manual ROOT OUT`: turns the repository's pages into HTML with working links, and fails when a page links to a page or
//! heading that is not there.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

const ALONE: [&str; 5] =
    ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "games/README.md", "plugins/README.md"];
const STYLE: &str = "body{max-width:60em;margin:2em auto;padding:0 1em;font:16px/1.5 sans-serif}pre{padding:1em;overflow-x:auto}\
    pre,code{background:#eee}table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.2em .6em;vertical-align:top}\
    @media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}a{color:#8bf}pre,code{background:#2a2a2a}}";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, out] = arguments.as_slice() else {
        eprintln!("usage: manual ROOT OUT");
        return ExitCode::from(2);
    };
    match build(Path::new(root), Path::new(out)) {
        Ok((pages, wrong)) if wrong.is_empty() => {
            println!("{pages} pages in {out}");
            ExitCode::SUCCESS
        }
        Ok((_, wrong)) => {
            eprintln!("{}", wrong.join("\n"));
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

/// A page: its HTML, its headings' ids, and the pages and headings that it links to.
struct Page {
    html: String,
    ids: BTreeSet<String>,
    links: Vec<(PathBuf, String)>,
}

fn build(root: &Path, out: &Path) -> std::io::Result<(usize, Vec<String>)> {
    let mut files: Vec<PathBuf> = ALONE.map(PathBuf::from).into();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let path = folder.join(entry?.file_name());
            if root.join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut pages = BTreeMap::new();
    for file in &files {
        let text = fs::read_to_string(root.join(file))?;
        pages.insert(file.clone(), page(file, &text, &files));
    }
    let mut wrong = Vec::new();
    for (file, page) in &pages {
        for (to, id) in &page.links {
            let there = pages.get(to).is_some_and(|page| id.is_empty() || page.ids.contains(id));
            if !there {
                wrong.push(format!("{}: there is no {}#{id}", file.display(), to.display()));
            }
        }
        let place = out.join(file).with_extension("html");
        fs::create_dir_all(place.parent().unwrap_or(out))?;
        fs::write(place, whole(file, &page.html))?;
    }
    Ok((pages.len(), wrong))
}

fn whole(file: &Path, body: &str) -> String {
    let up = "../".repeat(file.components().count() - 1);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{}</title><style>{STYLE}</style><p><a href=\"{up}README.html\">lanrage</a> · \
         <a href=\"{up}docs/architecture.html\">how it is built</a></p>\n{body}</html>\n",
        file.display()
    )
}

fn page(file: &Path, text: &str, files: &[PathBuf]) -> Page {
    let mut events: Vec<Event<'_>> = Parser::new_ext(text, Options::ENABLE_TABLES).collect();
    let mut page = Page { html: String::new(), ids: BTreeSet::new(), links: Vec::new() };
    for at in 0..events.len() {
        if let Some(Event::Start(Tag::Heading { .. })) = events.get(at) {
            let id = unused(&page.ids, &slug(&events[at..]));
            if let Event::Start(Tag::Heading { id: place, .. }) = &mut events[at] {
                *place = Some(CowStr::from(id.clone()));
            }
            page.ids.insert(id);
        }
        if let Event::Start(Tag::Link { dest_url, .. }) = &mut events[at] {
            *dest_url = CowStr::from(target(file, dest_url, files, &mut page.links));
        }
    }
    html::push_html(&mut page.html, events.into_iter());
    page
}

/// A heading's id as forges make it: lower case, no signs, `-` for spaces.
fn slug(events: &[Event<'_>]) -> String {
    let inside = events.iter().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
    let text: String = inside
        .filter_map(|event| match event {
            Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
            _ => None,
        })
        .collect();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn unused(ids: &BTreeSet<String>, slug: &str) -> String {
    let numbered = (1..).map(|n| format!("{slug}-{n}"));
    std::iter::once(slug.to_owned()).chain(numbered).find(|id| !ids.contains(id)).unwrap_or_default()
}

/// Links to pages lead to their HTML, links to other files into the repository, which is two folders above the manual.
fn target(file: &Path, link: &str, files: &[PathBuf], links: &mut Vec<(PathBuf, String)>) -> String {
    if link.contains("://") || link.starts_with("mailto:") {
        return link.to_owned();
    }
    let (path, id) = link.split_once('#').unwrap_or((link, ""));
    let to = if path.is_empty() { file.to_path_buf() } else { resolved(file, path) };
    if !files.contains(&to) {
        let up = "../".repeat(file.components().count() + 1);
        return format!("{up}{}", to.display());
    }
    links.push((to, id.to_owned()));
    let path = Path::new(path).with_extension("html");
    let path = if link.starts_with('#') { String::new() } else { path.display().to_string() };
    if id.is_empty() { path } else { format!("{path}#{id}") }
}

fn resolved(from: &Path, link: &str) -> PathBuf {
    let mut at: Vec<Component<'_>> =
        from.parent().map(|folder| folder.components().collect()).unwrap_or_default();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(at.pop()),
            Component::Normal(_) => at.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    at.iter().collect()
}
