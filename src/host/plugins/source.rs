//! Where a plugin comes from: what a player typed, and fetching it.
//!
//! | typed | what |
//! |---|---|
//! | `./folder`, `/somewhere/folder` | a folder |
//! | `plugin.tar.gz`, `plugin.zip` | an archive on this computer |
//! | `https://…`, `ssh://…`, `file://…`, `git@HOST:PATH`, with `//FOLDER` and `#REVISION` after it | a git repository |
//! | `warcraft3` | looked up in the index |
//!
//! An index is a file `index.toml` in a folder or at the top of a git repository. What it names must have the hash that it names.

use super::folder::is_id;
use super::tree::Tree;
use super::{archive, git, refused};
use crate::model::status::Trouble;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file's name.
const INDEX: &str = "index.toml";
/// Bytes of an index.
const INDEX_BYTES: u64 = 1 << 20;

/// What was typed, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder.
    Folder(PathBuf),
    /// A file.
    Archive(PathBuf),
    /// A repository.
    Git {
        /// Its address.
        url: String,
        /// A branch, a tag or a commit; `None` is what the repository shows first.
        rev: Option<String>,
        /// The plugin's folder in it.
        folder: Option<String>,
    },
    /// An id of an index.
    Name(String),
}

/// A plugin's files, and where exactly they come from.
#[derive(Debug)]
pub struct Fetched {
    /// The files.
    pub tree: Tree,
    /// For people and for the lock file; with the commit.
    pub from: String,
    /// What the index says it is.
    pub about: Option<String>,
}

impl Source {
    /// Understands what was typed.
    ///
    /// # Errors
    /// When it can be nothing.
    pub fn parse(typed: &str) -> Result<Self, Trouble> {
        let path = Path::new(typed);
        if let Some(source) = repository(typed)? {
            return Ok(source);
        }
        if path.is_dir() {
            return Ok(Self::Folder(path.to_path_buf()));
        }
        if path.is_file() {
            return Ok(Self::Archive(path.to_path_buf()));
        }
        if is_id(typed) {
            return Ok(Self::Name(typed.to_owned()));
        }
        let what = format!("there is no `{}` to add", typed.escape_debug());
        Err(Trouble::new(
            "no_such_plugin",
            what,
            "name a folder, a .tar.gz or .zip file, a git address (https://…), or an id of the index",
        ))
    }

    /// Fetches it. `indexes` are asked for names, in their order.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is not what the index says.
    pub fn fetch(&self, indexes: &[String]) -> Result<Fetched, Trouble> {
        match self {
            Self::Folder(path) => {
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let from = whole.display().to_string();
                let tree = Tree::of_folder(path).map_err(|why| refused(&from, &why))?;
                Ok(Fetched { tree, from, about: None })
            }
            Self::Archive(path) => {
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let from = whole.display().to_string();
                let bytes = read_archive(path)?;
                let tree = archive::read(&bytes).map_err(|why| refused(&from, &why))?;
                Ok(Fetched { tree, from, about: None })
            }
            Self::Git { url, rev, folder } => {
                let got = git::fetch(url, rev.as_deref(), folder.as_deref())?;
                Ok(Fetched {
                    tree: got.tree,
                    from: address(url, folder.as_deref(), &got.commit),
                    about: None,
                })
            }
            Self::Name(id) => by_name(id, indexes),
        }
    }
}

fn read_archive(path: &Path) -> Result<Vec<u8>, Trouble> {
    let told = |why: String| {
        let what = format!("{} cannot be read: {why}", path.display());
        Trouble::new("plugin_unreadable", what, "name another file")
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|f| f.take(archive::ARCHIVE + 1).read_to_end(&mut bytes));
    read.map_err(|e| told(e.to_string()))?;
    if bytes.len() as u64 > archive::ARCHIVE {
        return Err(told(format!("it is larger than {} MiB", archive::ARCHIVE >> 20)));
    }
    Ok(bytes)
}

/// A git address, if it is one.
fn repository(typed: &str) -> Result<Option<Source>, Trouble> {
    let no = |what: &str, hint: &str| {
        Err(Trouble::new("bad_source", format!("`{}`: {what}", typed.escape_debug()), hint))
    };
    let typed = typed.strip_prefix("git+").unwrap_or(typed);
    let (left, rev) = typed.split_once('#').map_or((typed, None), |(left, rev)| (left, Some(rev)));
    let (start, scp) = match (left.split_once("://"), left.split_once(':')) {
        (Some(("https" | "ssh" | "file", _)), _) => (left.find("://").map_or(0, |at| at + 3), false),
        (Some((scheme, _)), _)
            if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') =>
        {
            return no("this way of fetching is not safe or not known", "use https://, ssh:// or file://");
        }
        // `git@host:path`, but neither `C:\x` nor a file with a colon in its name.
        (None, Some((host, _))) if host.contains('@') && !host.contains(['/', '\\']) => (0, true),
        _ => return Ok(None),
    };
    if left.starts_with('-') || left.chars().any(|c| c.is_control() || c == ' ') {
        return no("that is no address", "such as https://git.example.org/plugin.git");
    }
    let (rest, rev) = match rev.map(|rev| rev.split_once("//").map_or((rev, None), |(r, f)| (r, Some(f)))) {
        Some((rev, folder)) => (folder, Some(rev)),
        None => (None, None),
    };
    let cut = left.get(start..).and_then(|path| path.find("//")).filter(|_| !scp || start == 0);
    // `file:///x` has its first slash right there.
    let (url, within) = match cut.map(|at| at + start) {
        Some(at) => (left.get(..at).unwrap_or(left), left.get(at + 2..)),
        None => (left, None),
    };
    let folder = within.or(rest).map(|folder| folder.trim_matches('/').to_owned()).filter(|f| !f.is_empty());
    if folder.as_deref().is_some_and(|f| f.split('/').any(|part| ["", ".", ".."].contains(&part))) {
        return no(
            "the part after `//` is no folder",
            "such as https://git.example.org/plugins.git//warcraft3",
        );
    }
    let rev = rev.filter(|rev| !rev.is_empty());
    // What git could take for an option, a range or a rule for refs.
    let fine = |rev: &str| {
        !rev.starts_with(['-', '+'])
            && !rev.contains("..")
            && rev.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/+".contains(&b))
    };
    if rev.is_some_and(|rev| !fine(rev)) {
        return no("the part after `#` is no branch, tag or commit", "such as #v1.2.0");
    }
    Ok(Some(Source::Git { url: url.to_owned(), rev: rev.map(str::to_owned), folder }))
}

fn address(url: &str, folder: Option<&str>, commit: &str) -> String {
    let folder = folder.map_or(String::new(), |folder| format!("//{folder}"));
    format!("{url}{folder}#{commit}")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    #[serde(default)]
    plugin: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// A git address, or a folder beside the index.
    source: String,
    hash: String,
    #[serde(default)]
    about: String,
}

/// An index that was read, and where things beside it are.
enum Beside {
    Folder(PathBuf),
    Repository { url: String, rev: String, tree: Tree },
}

fn by_name(id: &str, indexes: &[String]) -> Result<Fetched, Trouble> {
    if indexes.is_empty() {
        let what = format!("there is no folder or file `{id}`, and no index to look it up in");
        let hint = "name an index with --index WHERE or the setting plugin_index; or a folder, an archive or a git address";
        return Err(Trouble::new("no_index", what, hint));
    }
    let mut known = Vec::new();
    for place in indexes {
        let (name, text, beside) = open(place)?;
        let index: Index = toml::from_str(&text).map_err(|e| {
            let what = format!("{name}: {}", e.to_string().trim_end());
            Trouble::new(
                "bad_index",
                what,
                "tell whoever keeps the index; docs/plugins/installing.md shows the format",
            )
        })?;
        if let Some(entry) = index.plugin.get(id) {
            return fetch_entry(id, entry, &name, &beside);
        }
        known.extend(index.plugin.into_keys());
    }
    let near = crate::rules::nearest::nearest(id, known.iter().map(String::as_str));
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    let what = format!("no plugin is called `{id}` in {}{near}", indexes.join(", "));
    Err(Trouble::new("no_such_plugin", what, "name another, or a folder, an archive or a git address"))
}

fn open(place: &str) -> Result<(String, String, Beside), Trouble> {
    if let Some(Source::Git { url, rev, folder }) = repository(place)? {
        let got = git::fetch(&url, rev.as_deref(), folder.as_deref())?;
        let name = format!("{INDEX} of {place}");
        let text = got.tree.text(INDEX).and_then(Result::ok).map(str::to_owned);
        let text = text.ok_or_else(|| no_index(place, &format!("it has no {INDEX}")))?;
        let url = folder.map_or_else(|| url.clone(), |folder| format!("{url}//{folder}"));
        return Ok((name, text, Beside::Repository { url, rev: got.commit, tree: got.tree }));
    }
    let path = Path::new(place);
    let file = if path.is_dir() { path.join(INDEX) } else { path.to_path_buf() };
    let mut text = String::new();
    let read = File::open(&file).and_then(|f| f.take(INDEX_BYTES).read_to_string(&mut text));
    read.map_err(|e| no_index(place, &e.to_string()))?;
    let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok((file.display().to_string(), text, Beside::Folder(folder)))
}

fn no_index(place: &str, why: &str) -> Trouble {
    let what = format!("the index {} cannot be read: {why}", place.escape_debug());
    Trouble::new(
        "bad_index",
        what,
        "an index is a folder or a git repository with a file index.toml; see --index and plugin_index",
    )
}

fn fetch_entry(id: &str, entry: &Entry, index: &str, beside: &Beside) -> Result<Fetched, Trouble> {
    let relative = |source: &str| {
        let folder = source.trim_start_matches("./").trim_end_matches('/');
        let fine =
            !folder.split('/').any(|part| part.is_empty() || part.starts_with('.')) && !folder.contains('\\');
        let wrong = || {
            let what = format!(
                "{index}: the source `{}` of `{id}` is neither a git address nor a folder beside the index",
                source.escape_debug()
            );
            Trouble::new("bad_index", what, "tell whoever keeps the index")
        };
        if fine { Ok(folder.to_owned()) } else { Err(wrong()) }
    };
    let mut got = match (repository(&entry.source)?, beside) {
        (Some(git), _) => git.fetch(&[])?,
        (None, Beside::Folder(dir)) => Source::Folder(dir.join(relative(&entry.source)?)).fetch(&[])?,
        (None, Beside::Repository { url, rev, tree }) => {
            let folder = relative(&entry.source)?;
            let tree = tree.clone().below(&folder).ok_or_else(|| {
                let what = format!("{index}: there is no folder `{folder}` for `{id}`");
                Trouble::new("bad_index", what, "tell whoever keeps the index")
            })?;
            Fetched { tree, from: format!("{url}//{folder}#{rev}"), about: None }
        }
    };
    let is = got.tree.hash();
    if is != entry.hash {
        let what = format!(
            "`{id}` of {} is not what {index} says: its hash is {is}, not {}",
            got.from,
            entry.hash.escape_debug()
        );
        return Err(Trouble::new(
            "not_as_indexed",
            what,
            "it was changed after it was listed: ask whoever keeps the index, or add it from its address if you trust it",
        ));
    }
    got.about = Some(entry.about.clone()).filter(|about| !about.is_empty());
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(url: &str, rev: Option<&str>, folder: Option<&str>) -> Source {
        Source::Git { url: url.into(), rev: rev.map(Into::into), folder: folder.map(Into::into) }
    }

    #[test]
    fn git_addresses_are_told_from_files_and_names() {
        for (typed, source) in [
            ("https://h/p.git", git("https://h/p.git", None, None)),
            ("https://h/p.git#v1.0", git("https://h/p.git", Some("v1.0"), None)),
            ("https://h/p.git//a/b#v1.0", git("https://h/p.git", Some("v1.0"), Some("a/b"))),
            ("https://h/p.git#feature/x//a", git("https://h/p.git", Some("feature/x"), Some("a"))),
            ("git+ssh://git@h:22/p.git//a/", git("ssh://git@h:22/p.git", None, Some("a"))),
            ("git@h:x/p.git//a#0123abc", git("git@h:x/p.git", Some("0123abc"), Some("a"))),
            ("file:///srv/p.git//a", git("file:///srv/p.git", None, Some("a"))),
            ("warcraft3", Source::Name("warcraft3".into())),
        ] {
            assert_eq!(Source::parse(typed).unwrap(), source, "{typed}");
        }
    }

    #[test]
    fn what_could_make_git_do_something_else_is_refused() {
        for typed in [
            "ext::sh -c x",
            "ext://x",
            "http://h/p.git",
            "https://h/p.git#--upload-pack=x",
            "https://h/p.git#a..b",
            "https://h/p.git#a:refs/heads/b",
            "https://h/p.git//../x",
            "https://h/p git",
            "-x@h:y",
            "nothing/here",
            "C:\\nothing",
        ] {
            let told = Source::parse(typed).unwrap_err();
            assert!(!told.hint.is_empty(), "{typed}: {told:?}");
        }
    }
}
