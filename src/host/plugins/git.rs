//! Plugins in git repositories, through the `git` program of this computer: it knows the player's keys and proxies.
//!
//! Nothing is ever checked out. The wanted commit is fetched, without its history, into a bare repository in a temporary folder that
//! has no hooks and no templates; the files are then read from its objects. So no hook, filter, submodule or link of the repository
//! does anything, and what is read is what the commit holds. Only https, ssh and file are spoken. The fetch ends after two minutes or
//! at 256 MiB, whatever comes first.

use super::tree::{BYTES, ENTRIES, Refused, Tree};
use crate::model::status::Trouble;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// For one call of git.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of the temporary folder.
const LARGEST: u64 = 256 << 20;
const LOOK: Duration = Duration::from_millis(50);
/// A look at the folder's size, in looks at the program.
const SIZE_EVERY: u32 = 10;
/// Of what git says of a failure.
const SAID: usize = 600;

/// What stands in a repository at a commit.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) tree: Tree,
    /// Forty hexadecimal digits.
    pub(super) commit: String,
}

/// Fetches a revision and reads a folder of it.
pub(super) fn fetch(url: &str, rev: Option<&str>, folder: Option<&str>) -> Result<Fetched, Trouble> {
    let repository = Repository::new(url)?;
    let commit = repository.fetch(rev)?;
    let tree = repository.read(&commit, folder)?;
    Ok(Fetched { tree, commit })
}

/// A bare repository of its own, gone when it is dropped.
struct Repository<'a> {
    url: &'a str,
    dir: PathBuf,
}

/// Makes folders that nobody else may look into.
#[cfg(unix)]
fn private() -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// The user's own temporary folder is the user's alone.
#[cfg(not(unix))]
fn private() -> fs::DirBuilder {
    fs::DirBuilder::new()
}

impl Drop for Repository<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl<'a> Repository<'a> {
    fn new(url: &'a str) -> Result<Self, Trouble> {
        let base = std::env::temp_dir();
        let builder = private();
        let numbers = 0..1000u32;
        let paths = numbers.map(|n| base.join(format!("lanrage-git-{}-{n}", std::process::id())));
        // Making a folder that is there already fails, so nobody else's is ever used.
        let dir = { paths }.find(|path| builder.create(path).is_ok()).ok_or_else(|| {
            let what = format!("no folder can be made in {}", base.display());
            Trouble::new("git_failed", what, "make room there, or name another folder in TMPDIR")
        })?;
        let repository = Self { url, dir };
        repository.done(repository.git(&["init", "--quiet", "--bare", "--template=", "."], None)?, "init")?;
        Ok(repository)
    }

    /// The commit that was meant, now here.
    fn fetch(&self, rev: Option<&str>) -> Result<String, Trouble> {
        let wanted = rev.unwrap_or("HEAD");
        let common = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
        let args = |rest: &[&'a str]| -> Vec<String> {
            common.iter().chain(rest).map(|arg| (*arg).to_owned()).collect()
        };
        let mut shallow = args(&["--depth=1", "--", self.url]);
        shallow.push(wanted.to_owned());
        let first = self.git(&shallow, None)?;
        if first.status.success() {
            return self.commit("FETCH_HEAD", wanted);
        }
        // Servers may refuse to give a commit by its number, and none gives one by the beginning of its number.
        if wanted.len() < 7 || !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(self.failed(&first, "fetch"));
        }
        let all = args(&["--", self.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]);
        self.done(self.git(&all, None)?, "fetch")?;
        self.commit(wanted, wanted)
    }

    fn commit(&self, name: &str, wanted: &str) -> Result<String, Trouble> {
        let asked = format!("{name}^{{commit}}");
        let said = self.git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &asked], None)?;
        let commit = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if said.status.success() && commit.len() >= 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(commit);
        }
        let what = format!("{} has no branch, tag or commit `{}`", self.url, wanted.escape_debug());
        Err(Trouble::new(
            "git_failed",
            what,
            "name another after `#`, or none: then it is the newest of the main branch",
        ))
    }

    fn read(&self, commit: &str, folder: Option<&str>) -> Result<Tree, Trouble> {
        let at = folder.map_or_else(|| commit.to_owned(), |folder| format!("{commit}:{folder}"));
        let list = self.git(&["ls-tree", "-r", "-z", "-l", "--full-tree", &at], None)?;
        if !list.status.success() {
            let what = format!("{} has no folder `{}`", self.url, folder.unwrap_or_default().escape_debug());
            return Err(Trouble::new(
                "git_failed",
                what,
                "the part after `//` is the plugin's folder in the repository",
            ));
        }
        let files = listed(&list.stdout).map_err(|why| super::refused(self.url, &why))?;
        let wish: String = files.iter().map(|(id, _)| format!("{id}\n")).collect();
        let contents = self.done(self.git(&["cat-file", "--batch"], Some(wish.as_bytes()))?, "cat-file")?;
        unpacked(&files, &contents.stdout).map_err(|why| super::refused(self.url, &why))
    }

    fn git(&self, args: &[impl AsRef<std::ffi::OsStr>], input: Option<&[u8]>) -> Result<Output, Trouble> {
        let mut command = Command::new("git");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"] {
            command.env_remove(name);
        }
        for setting in
            ["core.hooksPath=/dev/null", "submodule.recurse=false", "core.fsmonitor=false", "gc.auto=0"]
        {
            command.args(["-c", setting]);
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", "https:ssh:file");
        command.env("LC_ALL", "C").current_dir(&self.dir).args(args);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| not_there(&e))?;
        run(child, input, &self.dir).map_err(|why| {
            let what = format!("git was stopped at {}: {why}", self.url);
            Trouble::new("git_failed", what, "try again; or download an archive of it and add that")
        })
    }

    fn done(&self, output: Output, what: &str) -> Result<Output, Trouble> {
        if output.status.success() { Ok(output) } else { Err(self.failed(&output, what)) }
    }

    fn failed(&self, output: &Output, what: &str) -> Trouble {
        let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(SAID).collect();
        let what = format!("git {what} of {} failed: {said}", self.url);
        Trouble::new(
            "git_failed",
            what,
            "check the address and what comes after `#`; `git ls-remote ADDRESS` shows what is there",
        )
    }
}

fn not_there(error: &io::Error) -> Trouble {
    if error.kind() == io::ErrorKind::NotFound {
        let what = "the program `git` is not on this computer, and the plugin is in a git repository";
        return Trouble::new(
            "no_git",
            what,
            "install git, or download an archive (.zip or .tar.gz) of it and add that",
        );
    }
    Trouble::new("no_git", format!("git cannot be started: {error}"), "check that `git --version` works")
}

/// Waits for a program with an eye on the clock and on the folder.
fn run(mut child: Child, input: Option<&[u8]>, dir: &Path) -> Result<Output, String> {
    let (out, err, stdin) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
    std::thread::scope(|scope| {
        // Contents are capped by what was listed; what is beyond is not read, and the program waits until it is stopped.
        let read = |from: Option<Box<dyn Read + Send>>| {
            let mut bytes = Vec::new();
            let _ = from.map(|f| f.take(4 * BYTES as u64).read_to_end(&mut bytes));
            bytes
        };
        let out = scope.spawn(move || read(out.map(|o| Box::new(o) as _)));
        let err = scope.spawn(move || read(err.map(|o| Box::new(o) as _)));
        scope.spawn(move || stdin.zip(input).map(|(mut pipe, bytes)| pipe.write_all(bytes)));
        let ended = watched(&mut child, dir);
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let joined = |bytes: std::thread::ScopedJoinHandle<'_, Vec<u8>>| bytes.join().unwrap_or_default();
        let (stdout, stderr) = (joined(out), joined(err));
        ended.map(|status| Output { status, stdout, stderr })
    })
}

fn watched(child: &mut Child, dir: &Path) -> Result<std::process::ExitStatus, String> {
    let begun = Instant::now();
    for n in 1u32.. {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if begun.elapsed() > PATIENCE => return Err("it took more than two minutes".to_owned()),
            Ok(None) if n.is_multiple_of(SIZE_EVERY) && size(dir) > LARGEST => {
                return Err(format!("the repository has more than {} MiB", LARGEST >> 20));
            }
            Ok(None) => std::thread::sleep(LOOK.min(Duration::from_millis(u64::from(n)))),
            Err(e) => return Err(e.to_string()),
        }
    }
    Err("it took too long".to_owned())
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| {
        entry.metadata().map_or(0, |m| if m.is_dir() { size(&entry.path()) } else { m.len() })
    };
    entries.map(of).sum()
}

/// `MODE SP TYPE SP OBJECT SP+ SIZE TAB NAME NUL`, of every file: object and name.
fn listed(list: &[u8]) -> Result<Vec<(&str, &str)>, Refused> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for line in list.split(|b| *b == 0).filter(|line| !line.is_empty()) {
        let strange = || Refused::Unreadable("git says something strange of its files".to_owned());
        let line = std::str::from_utf8(line).map_err(|_| strange())?;
        let (about, name) = line.split_once('\t').ok_or_else(strange)?;
        let [mode, _, id, size] = about.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(strange());
        };
        if name.split('/').any(|part| part.starts_with('.')) {
            continue;
        }
        if !mode.starts_with("100") {
            return Err(Refused::name(name, "is a link or another repository; a plugin has only files"));
        }
        bytes += size.parse::<usize>().map_err(|_| strange())?;
        files.push((id, name));
        if bytes > BYTES {
            return Err(Refused::TooLarge);
        }
        if files.len() > ENTRIES {
            return Err(Refused::TooMany);
        }
    }
    Ok(files)
}

/// `OBJECT SP TYPE SP SIZE LF CONTENT LF` for each of them.
fn unpacked(files: &[(&str, &str)], mut all: &[u8]) -> Result<Tree, Refused> {
    let mut tree = Tree::default();
    for (id, name) in files {
        let strange = || Refused::Unreadable(format!("git does not give `{}`", name.escape_debug()));
        let end = all.iter().position(|b| *b == b'\n').ok_or_else(strange)?;
        let (head, rest) = all.split_at(end);
        let head = String::from_utf8_lossy(head).into_owned();
        let size = head.strip_prefix(id).and_then(|h| h.strip_prefix(" blob ")).and_then(|s| s.parse().ok());
        let size: usize = size.ok_or_else(strange)?;
        let content = rest.get(1..=size).ok_or_else(strange)?;
        all = rest.get(size + 2..).ok_or_else(strange)?;
        tree.add(name, content)?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_submodules_and_large_files_are_refused_before_anything_is_read() {
        let line = |mode: &str, size: &str, name: &str| {
            format!("{mode} blob {} {size:>7}\t{name}\0", "a".repeat(40))
        };
        let told = |text: &str| listed(text.as_bytes()).map(|f| f.len()).map_err(|e| e.to_string());
        assert_eq!(told(&(line("100644", "5", "main.luau") + &line("100644", "9", ".github/x"))), Ok(1));
        assert!(told(&line("120000", "5", "x")).unwrap_err().contains("is a link"));
        assert!(told(&line("160000", "-", "x")).unwrap_err().contains("another repository"));
        assert!(told(&line("100644", "5000000", "x")).unwrap_err().contains("4 MiB"));
        assert!(told("nonsense\0").is_err());
    }
}
