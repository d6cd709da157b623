//! Plugins on disk, as players meet them: adding from folders, archives, repositories and indexes, agreeing, being tampered with,
//! and two at once. The real program, real files, the real git.

use crate::program::{program, run};
use flate2::Compression;
use flate2::write::GzEncoder;
use lanrage::app::plugins::found::{Origin, Plugins, of_tree};
use lanrage::host::plugins::tree::{BYTES, Tree};
use lanrage::plugin::shipped::PLUGINS;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const MANIFEST: &str = r#"id = "tester"
name = "Tester"
version = "1.0.0"
api = 1
about = "for tests"
authors = ["Ana"]
licence = "MIT"
games = ["minecraft-java"]
[may]
udp = "6112-6119"
tcp = 6112
rewrite = true
send = true
"#;
const MAIN: &str =
    "local plugin = {}\nfunction plugin.on_answer(packet, n, info) return true end\nreturn plugin\n";
const PROFILE: &str = r#"id = "test-game"
name = "Test Game"
evidence = "unverified"
plugin = "tester"
[play]
tcp = 7777
[[rule]]
kind = "answer"
port = 6112
to = "broadcast"
"#;

struct Told {
    code: i32,
    out: String,
    err: String,
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A folder with a good plugin.
    fn plugin(&self, name: &str) -> PathBuf {
        self.write(&format!("{name}/plugin.toml"), MANIFEST);
        self.write(&format!("{name}/main.luau"), MAIN);
        self.path(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.args(args).env("LANRAGE_DATA_DIR", self.path("data")).env("HOME", self.0.path());
        command
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("NO_COLOR", "1")
            .env("LANRAGE_PORT_MAPPING", "no");
        std::fs::create_dir_all(self.path("tmp")).unwrap();
        command.env("TMPDIR", self.path("tmp")).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn lanrage(&self, args: &[&str]) -> Told {
        let output = run(&mut self.command(args));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Told { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn add(&self, source: &Path) -> Told {
        self.lanrage(&["plugin", "add", "--yes", source.to_str().unwrap()])
    }

    /// The plugin `tester` as `plugin list --json` has it.
    fn listed(&self) -> Option<Value> {
        let told = self.lanrage(&["plugin", "list", "--json"]);
        assert_eq!(told.code, 0, "{}", told.err);
        let all: Value = serde_json::from_str(&told.out).unwrap();
        all.as_array().unwrap().iter().find(|p| p["id"] == "tester").cloned()
    }

    fn state(&self) -> String {
        self.listed().map_or_else(|| "none".to_owned(), |p| p["state"].as_str().unwrap().to_owned())
    }

    fn git(&self, dir: &Path, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args([
            "-c",
            "user.name=Ana",
            "-c",
            "user.email=ana@example.org",
            "-c",
            "init.defaultBranch=main",
        ]);
        let said = git.args(args).current_dir(dir).env("HOME", self.0.path()).output().unwrap();
        assert!(said.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }
}

/// Refused, with these words, and nothing was written.
fn refused(place: &Place, told: &Told, words: &str) {
    assert_eq!(told.code, 1, "{words}: {} {}", told.out, told.err);
    assert!(told.err.contains(words), "{words:?} in {}", told.err);
    assert!(told.err.contains("\n  try: "), "{}", told.err);
    assert_eq!(place.state(), "none", "{words}");
    assert!(!place.path("data/plugins.lock").exists(), "{words}");
}

#[test]
fn the_list_of_shipped_plugins_and_the_folder_are_equal_and_all_of_them_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
    let on_disk: BTreeSet<String> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("plugin.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let listed: BTreeSet<String> = PLUGINS.iter().map(|p| p.id.to_owned()).collect();
    assert_eq!(listed, on_disk, "plugin::shipped::PLUGINS and plugins/");
    for shipped in PLUGINS {
        let dir = folder.join(shipped.id);
        let whole = Tree::of_folder(&dir).unwrap();
        let wanted: BTreeSet<&str> = whole
            .files()
            .keys()
            .map(String::as_str)
            .filter(|name| {
                *name == "plugin.toml"
                    || *name == "profile.toml"
                    || lanrage::app::plugins::found::is_source(name)
            })
            .collect();
        assert_eq!(
            shipped.files.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(),
            wanted,
            "{}",
            shipped.id
        );
        let tree = Tree::of(shipped.files.iter().map(|(n, t)| (*n, t.as_bytes()))).unwrap();
        let (id, found) = of_tree(shipped.id, &tree, Origin::Shipped, None);
        assert_eq!(id.unwrap().0, shipped.id);
        lanrage::app::plugins::trial(found.code.unwrap()).unwrap();
    }
}

#[test]
fn a_plugin_is_added_listed_replaced_and_removed() {
    let place = Place::new();
    let none = place.lanrage(&["plugin", "list"]);
    assert_eq!((none.code, none.err.as_str()), (0, ""));
    assert!(!place.path("data").exists(), "looking makes no data folder");
    let source = place.plugin("source");
    let told = place.add(&source);
    assert_eq!(told.code, 0, "{}", told.err);
    for part in [
        "Tester (tester) 1.0.0",
        "by Ana, MIT",
        "While minecraft-java runs, this plugin",
        "- may see and change the game's LAN search on UDP 6112-6119",
        "- may let the party in on TCP 6112 of this PC for a while",
        "- may send packets of its own to UDP 6112-6119",
        "sha256:",
    ] {
        assert!(told.err.contains(part), "{part:?} in\n{}", told.err);
    }
    let listed = place.listed().unwrap();
    assert_eq!((listed["state"].as_str(), listed["origin"].as_str()), (Some("ok"), Some("added")));
    assert_eq!(listed["version"], "1.0.0");
    assert_eq!(listed["games"][0], "minecraft-java");
    assert_eq!(listed["may"]["udp"][0], "6112-6119");
    assert_eq!(listed["source"], source.to_str().unwrap());
    assert!(place.lanrage(&["plugin", "list"]).out.contains("for minecraft-java"));
    let again = place.add(&source);
    assert!(again.code == 0 && again.out.contains("exactly this one"), "{}{}", again.out, again.err);
    place.write("source/plugin.toml", MANIFEST.replace("1.0.0", "1.1.0").replace("6112-6119", "6112-6120"));
    let newer = place.add(&source);
    let (_, new) = newer.err.split_once("NEW in this version").unwrap();
    assert!(newer.err.contains("replaces version 1.0.0") && new.contains("UDP 6120"), "{}", newer.err);
    assert_eq!(place.listed().unwrap()["version"], "1.1.0");
    let removed = place.lanrage(&["plugin", "remove", "tester"]);
    assert_eq!((removed.code, place.state().as_str()), (0, "none"), "{}", removed.err);
    let gone = place.lanrage(&["plugin", "remove", "tester"]);
    assert!(gone.code == 1 && gone.err.contains("no plugin is called `tester`"), "{}", gone.err);
}

#[test]
fn nobody_agrees_by_accident() {
    let place = Place::new();
    let source = place.plugin("source");
    let told = place.lanrage(&["plugin", "add", source.to_str().unwrap()]);
    assert_eq!(told.code, 2, "{}", told.err);
    assert!(told.err.contains("may see and change") && told.err.contains("--yes"), "{}", told.err);
    assert_eq!(place.state(), "none");
    // What is put there by hand was agreed to by nobody.
    place.plugin("data/plugins/tester");
    assert_eq!(place.state(), "not agreed");
    let dir = place.path("data/plugins/tester");
    assert_eq!(place.add(&dir).code, 0);
    assert_eq!(place.state(), "ok");
}

#[test]
fn a_tampered_plugin_does_not_load_and_says_which_file() {
    let place = Place::new();
    let source = place.plugin("source");
    assert_eq!(place.add(&source).code, 0);
    let installed = |name: &str| place.path("data/plugins/tester").join(name);
    let (good, lock) = (
        std::fs::read(installed("main.luau")).unwrap(),
        std::fs::read_to_string(place.path("data/plugins.lock")).unwrap(),
    );
    let tampered = |words: &str| {
        let listed = place.listed().unwrap();
        assert_eq!(listed["state"], "tampered", "{words}: {listed}");
        assert!(listed["why"].as_str().unwrap().contains(words), "{words}: {listed}");
        let found = Plugins::find(&place.path("data"), None);
        let code = found.all[&"tester".into()].code.as_ref().unwrap_err();
        assert!(code.hint.contains("lanrage plugin add"), "{code:?}");
    };
    std::fs::write(installed("main.luau"), "return {}").unwrap();
    tampered("main.luau changed");
    std::fs::remove_file(installed("main.luau")).unwrap();
    tampered("main.luau missing");
    std::fs::write(installed("main.luau"), &good).unwrap();
    assert_eq!(place.state(), "ok");
    std::fs::write(installed("more.luau"), "return {}").unwrap();
    tampered("more.luau new");
    std::fs::remove_file(installed("more.luau")).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", installed("linked.luau")).unwrap();
        tampered("is a link");
        std::fs::remove_file(installed("linked.luau")).unwrap();
    }
    std::fs::remove_dir_all(place.path("data/plugins/tester")).unwrap();
    assert_eq!(place.state(), "tampered");
    assert_eq!(place.add(&source).code, 0);
    assert_eq!(place.state(), "ok");
    // Less was agreed to than it wants: somebody changed the lock, or it came from elsewhere.
    std::fs::write(place.path("data/plugins.lock"), lock.replace("send = true", "send = false")).unwrap();
    let listed = place.listed().unwrap();
    assert_eq!(listed["state"], "not agreed", "{listed}");
    assert!(listed["why"].as_str().unwrap().contains("wants more than was agreed to"), "{listed}");
    assert_eq!(place.add(&source).code, 0);
    assert_eq!(place.state(), "ok");
    // A lock that makes no sense: nothing loads, nothing is overwritten, the place is told.
    std::fs::write(place.path("data/plugins.lock"), "version = 1\nnonsense").unwrap();
    let told = place.add(&source);
    assert!(told.code == 1 && told.err.contains("plugins.lock:2:"), "{}", told.err);
    assert_eq!(std::fs::read_to_string(place.path("data/plugins.lock")).unwrap(), "version = 1\nnonsense");
    let list = place.lanrage(&["plugin", "list"]);
    assert!(list.err.contains("plugins.lock:2:") && !list.out.contains("tester"), "{}{}", list.out, list.err);
}

#[test]
fn what_cannot_run_is_not_added() {
    for (manifest, main, words) in [
        (MANIFEST.replace("api = 1", "api = 99"), MAIN, "plugin.toml:4:"),
        (MANIFEST.replace("rewrite", "rewirte"), MAIN, "rewirte"),
        (MANIFEST.into(), "return 1 +", "main.luau:1"),
        (MANIFEST.into(), "while true do end", "tester"),
        (MANIFEST.into(), "return {} \u{1b}[2J", "tester"),
        (MANIFEST.into(), "return {}\0 -- what a reader sees and nobody runs", "main.luau has a zero byte"),
        (MANIFEST.into(), "error('no')", "main.luau:1"),
    ] {
        let place = Place::new();
        place.write("source/plugin.toml", &manifest);
        place.write("source/main.luau", main);
        let told = place.add(&place.path("source"));
        refused(&place, &told, words);
        assert!(!told.err.contains('\u{1b}'), "{}", told.err);
    }
    let place = Place::new();
    place.write("source/plugin.toml", MANIFEST);
    refused(&place, &place.add(&place.path("source")), "no main.luau");
    place.write("empty/readme.txt", "x");
    refused(&place, &place.add(&place.path("empty")), "no plugin.toml");
    refused(&place, &place.add(&place.path("nowhere")), "to add");
    let wrong = place.lanrage(&["plugin", "add", "ext::sh -c x", "--yes"]);
    refused(&place, &wrong, "there is no `ext::sh -c x` to add");
}

#[test]
fn a_profile_comes_with_its_plugin_and_goes_with_it() {
    let place = Place::new();
    let source = place.plugin("source");
    place.write("source/plugin.toml", MANIFEST.replace("minecraft-java", "test-game"));
    place.write("source/profile.toml", PROFILE);
    let told = place.add(&source);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(
        told.err.contains("- adds the game test-game, which opens TCP 7777 to the party while it runs"),
        "{}",
        told.err
    );
    let shown = place.lanrage(&["games", "show", "test-game"]);
    assert!(shown.code == 0 && shown.out.contains("plugin = \"tester\""), "{}", shown.err);
    std::fs::write(place.path("data/plugins/tester/profile.toml"), PROFILE.replace("7777", "22")).unwrap();
    let shown = place.lanrage(&["games", "show", "test-game"]);
    assert_eq!(shown.code, 1, "a tampered plugin opens no port: {}", shown.out);
    // A profile of somebody else's game has no business in it.
    let place = Place::new();
    let source = place.plugin("source");
    place.write("source/profile.toml", PROFILE);
    refused(&place, &place.add(&source), "`test-game` is for no game of the plugin");
}

fn tar_gz(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        // Written as bytes: the crate refuses to write such names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if kind.is_symlink() || kind.is_hard_link() {
            header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        }
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn archives_are_taken_with_and_without_a_folder_around_everything() {
    let file = tar::EntryType::Regular;
    let good = [("plugin.toml", file, MANIFEST.as_bytes()), ("main.luau", file, MAIN.as_bytes())];
    let around = [
        ("tester-1.0/", tar::EntryType::Directory, &b""[..]),
        ("tester-1.0/plugin.toml", file, MANIFEST.as_bytes()),
        ("tester-1.0/main.luau", file, MAIN.as_bytes()),
    ];
    let zip = [("t/plugin.toml", MANIFEST.as_bytes()), ("t/main.luau", MAIN.as_bytes())];
    let mut hashes = BTreeSet::new();
    for (name, bytes) in [("a.tar.gz", tar_gz(&good)), ("b.tgz", tar_gz(&around)), ("c.zip", zipped(&zip))] {
        let place = Place::new();
        let told = place.add(&place.write(name, bytes));
        assert_eq!(told.code, 0, "{name}: {}", told.err);
        hashes.insert(place.listed().unwrap()["hash"].to_string());
    }
    assert_eq!(hashes.len(), 1, "the same files are the same plugin, whatever they came in");
}

#[test]
fn hostile_archives_are_refused_and_write_nothing() {
    use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    let big = vec![0u8; BYTES + 1];
    let many: Vec<String> = (0..201).map(|n| format!("f{n}.txt")).collect();
    let swarm: Vec<String> = (0..900).map(|n| format!(".hidden/{n}")).collect();
    let with = |name, kind, bytes| {
        tar_gz(&[
            ("plugin.toml", Regular, MANIFEST.as_bytes()),
            ("main.luau", Regular, MAIN.as_bytes()),
            (name, kind, bytes),
        ])
    };
    let listed =
        |names: &[String]| tar_gz(&names.iter().map(|n| (n.as_str(), Regular, &b""[..])).collect::<Vec<_>>());
    let mut cut = with("x", Regular, b"x");
    cut.truncate(cut.len() / 2);
    for (archive, words) in [
        (with("/tmp/lanrage-escaped", Regular, b"x"), "absolute path"),
        (with("../escaped", Regular, b"x"), "leads out"),
        (with("a/../../escaped", Regular, b"x"), "leads out"),
        (with("C:\\escaped", Regular, b"x"), "absolute path"),
        (with("x", Symlink, b""), "is a link"),
        (with("x", Link, b""), "is a link"),
        (with("x", Fifo, b""), "is a link or a device"),
        (with("x", Char, b""), "is a link or a device"),
        (with("x", Block, b""), "is a link or a device"),
        (with("../escaped/", Directory, b""), "leads out"),
        (with("MAIN.luau", Regular, b"x"), "the same file"),
        (with("main.luau/x", Regular, b"x"), "the same file"),
        (with("main.luau", Regular, b"x"), "the same file"),
        (with("aux.txt", Regular, b"x"), "device on Windows"),
        (with("a/b/c/d/e/f/g.txt", Regular, b"x"), "too deep"),
        (with("big", Regular, &big), "4 MiB"),
        (listed(&many), "more than 200 files"),
        (listed(&swarm), "more than 200 files"),
        (zipped(&[("../escaped", b"x")]), "leads out"),
        (zipped(&[("/escaped", b"x")]), "absolute path"),
        (zipped(&[("Main.luau", b"x"), ("main.luau", b"y")]), "the same file"),
        (zipped(&[("bomb", &big)]), "4 MiB"),
        (cut, "cannot be read"),
        (b"PK\x03\x04nonsense".to_vec(), "cannot be read"),
        (b"\x1f\x8bnonsense".to_vec(), "cannot be read"),
        (b"nonsense".to_vec(), "neither .tar.gz nor .zip"),
        (Vec::new(), "neither .tar.gz nor .zip"),
    ] {
        let place = Place::new();
        let file = place.write("in/hostile.archive", archive);
        refused(&place, &place.add(&file), words);
        assert!(!place.path("escaped").exists() && !place.path("in/escaped").exists());
    }
    assert!(!Path::new("/tmp/lanrage-escaped").exists());
}

#[test]
fn a_stream_of_zeros_ends_at_the_cap() {
    // 64 MiB of zeros behind a good head: a few kilobytes of gzip.
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    let mut header = tar::Header::new_gnu();
    header.set_path(".hidden").unwrap();
    header.set_size(64 << 20);
    header.set_cksum();
    gz.write_all(header.as_bytes()).unwrap();
    (0..64).for_each(|_| gz.write_all(&vec![0; 1 << 20]).unwrap());
    let place = Place::new();
    let file = place.write("bomb.tar.gz", gz.finish().unwrap());
    assert!(std::fs::metadata(&file).unwrap().len() < 1 << 20);
    refused(&place, &place.add(&file), "larger than any plugin");
}

#[test]
fn repositories_are_read_at_a_commit_and_never_run_anything() {
    let place = Place::new();
    let repo = place.path("repo");
    place.plugin("repo/plugins/tester");
    place.git(&repo, &["init", "--quiet"]);
    place.git(&repo, &["add", "."]);
    place.git(&repo, &["commit", "--quiet", "-m", "one"]);
    place.git(&repo, &["tag", "v1"]);
    let one = place.git(&repo, &["rev-parse", "HEAD"]);
    place.write("repo/plugins/tester/plugin.toml", MANIFEST.replace("1.0.0", "2.0.0"));
    // A filter that a checkout would run.
    place.write("repo/.gitattributes", "* filter=evil\n");
    place.git(&repo, &["config", "filter.evil.smudge", "touch /tmp/lanrage-smudged; cat"]);
    place.git(&repo, &["add", "."]);
    place.git(&repo, &["commit", "--quiet", "-m", "two"]);
    let url = format!("file://{}", repo.display());
    let add = |rest: &str| place.lanrage(&["plugin", "add", "--yes", &format!("{url}{rest}")]);
    for (rest, version) in [
        ("//plugins/tester#v1", "1.0.0"),
        ("//plugins/tester", "2.0.0"),
        (&*format!("//plugins/tester#{one}"), "1.0.0"),
        ("#main//plugins/tester", "2.0.0"),
        (&*format!("//plugins/tester#{}", &one[..10]), "1.0.0"),
    ] {
        let told = add(rest);
        assert_eq!(told.code, 0, "{rest}: {}", told.err);
        let listed = place.listed().unwrap();
        assert_eq!(listed["version"], version, "{rest}");
        let source = listed["source"].as_str().unwrap();
        assert_eq!(source.split_once('#').unwrap().1.len(), 40, "pinned to a commit: {source}");
    }
    assert!(!Path::new("/tmp/lanrage-smudged").exists());
    for (rest, words) in
        [("//plugins/other", "no folder `plugins/other`"), ("#v9", "failed"), ("", "no plugin.toml")]
    {
        let told = add(rest);
        assert!(told.code == 1 && told.err.contains(words), "{rest}: {}", told.err);
    }
    assert_eq!(std::fs::read_dir(place.path("tmp")).unwrap().count(), 0, "no repository is left behind");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/passwd", repo.join("plugins/tester/linked")).unwrap();
        place.git(&repo, &["add", "."]);
        place.git(&repo, &["commit", "--quiet", "-m", "three"]);
        let told = add("//plugins/tester");
        assert!(told.code == 1 && told.err.contains("`linked` is a link"), "{}", told.err);
    }
    // Without git: what to do is told.
    let mut command = place.command(&["plugin", "add", "--yes", &format!("{url}//plugins/tester")]);
    let told = command.env("PATH", place.path("nowhere")).output().unwrap();
    let err = String::from_utf8(told.stderr).unwrap();
    assert!(
        told.status.code() == Some(1)
            && err.contains("`git` is not on this computer")
            && err.contains("install git"),
        "{err}"
    );
}

#[test]
fn an_index_names_what_it_means_by_hash() {
    let place = Place::new();
    let source = place.plugin("index/tester");
    let hash = Tree::of_folder(&source).unwrap().hash();
    let index = |hash: &str| {
        format!("[plugin.tester]\nsource = \"./tester\"\nhash = \"{hash}\"\nabout = \"as listed\"\n")
    };
    place.write("index/index.toml", index(&hash));
    let told = place.lanrage(&["plugin", "add", "--yes", "tester"]);
    refused(&place, &told, "no index");
    let dir = place.path("index");
    let dir = dir.to_str().unwrap();
    let told = place.lanrage(&["plugin", "add", "--yes", "--index", dir, "testre"]);
    refused(&place, &told, "did you mean `tester`?");
    place.write("config/lanrage/config.toml", format!("plugin_index = [\"{dir}\"]\n"));
    let told = place.lanrage(&["plugin", "add", "--yes", "tester"]);
    assert!(told.code == 0 && told.err.contains("as listed"), "{}", told.err);
    assert_eq!(place.state(), "ok");
    // In a repository, with the folders beside it.
    let fresh = Place::new();
    fresh.plugin("repo/tester");
    fresh.write("repo/index.toml", index(&hash));
    fresh.git(&fresh.path("repo"), &["init", "--quiet"]);
    fresh.git(&fresh.path("repo"), &["add", "."]);
    fresh.git(&fresh.path("repo"), &["commit", "--quiet", "-m", "index"]);
    let url = format!("file://{}", fresh.path("repo").display());
    let told = fresh.lanrage(&["plugin", "add", "--yes", "--index", &url, "tester"]);
    assert_eq!(told.code, 0, "{}", told.err);
    // Changed after it was listed, or leading elsewhere, or nonsense.
    for (text, words) in [
        (index("sha256:00"), "is not what"),
        (index(&hash).replace("./tester", "../elsewhere"), "neither a git address nor a folder"),
        (index(&hash).replace("./tester", "/etc"), "neither a git address nor a folder"),
        ("[plugin.tester]\nsuorce = 1".into(), "index.toml"),
    ] {
        let place = Place::new();
        place.plugin("index/tester");
        place.write("index/index.toml", text);
        let dir = place.path("index");
        let told = place.lanrage(&["plugin", "add", "--yes", "--index", dir.to_str().unwrap(), "tester"]);
        refused(&place, &told, words);
    }
}

#[test]
fn two_at_once_lose_nothing() {
    let place = Place::new();
    let names: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    for name in &names {
        place.write(&format!("{name}/plugin.toml"), MANIFEST.replace("\"tester\"", &format!("\"{name}\"")));
        place.write(&format!("{name}/main.luau"), MAIN);
    }
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            place
                .command(&["plugin", "add", "--yes", &format!("./{name}")])
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let told = place.lanrage(&["plugin", "list", "--json"]);
    let all: Value = serde_json::from_str(&told.out).unwrap();
    let ok = all.as_array().unwrap().iter().filter(|p| p["origin"] == "added" && p["state"] == "ok").count();
    assert_eq!(ok, names.len(), "{all}");
}
