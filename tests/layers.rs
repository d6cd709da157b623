//! Who may import whom, which outside crates a layer may name, what the pure layers may never touch, and how long a
//! file may be. One package has no walls of its own; this test is the wall (`docs/architecture.md` explains it).
//!
//! The table below is the rule. To change it, change the architecture page in the same commit.
#![cfg(unix)]
#![allow(clippy::indexing_slicing, reason = "a test may panic: that is how it fails")]

#[path = "layers/source.rs"]
mod source;

use source::{Source, rust_files};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A layer, what it may import of this package, and the outside crates it may name outside its tests.
struct Layer {
    name: &'static str,
    may_import: &'static [&'static str],
    crates: &'static [&'static str],
}

const fn layer(
    name: &'static str,
    may_import: &'static [&'static str],
    crates: &'static [&'static str],
) -> Layer {
    Layer { name, may_import, crates }
}

const ANY: &[&str] = &["*"];

#[rustfmt::skip]
const TABLE: &[Layer] = &[
    layer("model", &[], &["serde", "serde_json", "thiserror", "zeroize", "rand_chacha", "x25519_dalek",
        "ed25519_dalek", "sha2", "hkdf", "chacha20poly1305", "postcard"]),
    layer("buf", &["model"], &[]),
    layer("wire", &["model", "buf"], &["pnet_packet", "serde", "serde_json", "postcard", "sha2", "thiserror",
        "stun_rs", "hmac", "sha1", "zeroize"]),
    layer("rules", &["model", "wire"], &["serde", "serde_json", "toml", "annotate_snippets", "thiserror"]),
    layer("engine", &["model", "buf", "wire", "rules"], &["tracing", "serde", "postcard",
        "sha2", "thiserror", "boringtun"]),
    layer("plugin", &["model", "wire", "rules"], &["mlua", "toml", "tracing", "thiserror"]),
    layer("host", &["model", "buf", "wire", "rules", "engine", "plugin"], &["anyhow", "directories", "flate2", "fs4", "futures_util", "getrandom", "libc", "mdns_sd",
        "pnet_datalink", "pnet_packet", "quinn_udp", "redb", "rtnetlink", "rustix", "rustls", "rustls_native_certs", "serde", "serde_json",
        "sha2", "smoltcp", "socket2", "tar", "thiserror", "tokio", "tokio_rustls", "tokio_tungstenite", "tokio_util", "toml", "tracing", "tun_rs", "zip"]),
    layer("server", &["model", "buf", "wire", "rules", "engine", "host"], &["anyhow", "axum", "dashmap",
        "futures_util", "hyper", "hyper_util", "mio", "pnet_datalink", "quinn_udp", "rcgen", "redb", "rustls", "serde",
        "serde_json", "sha2", "socket2", "thiserror", "tokio", "tokio_rustls", "tokio_util", "tracing"]),
    layer("sim", &["model", "buf", "wire", "rules", "engine", "plugin"], &["postcard", "serde", "serde_json", "sha2", "thiserror", "tracing"]),
    layer("ui", &["model"], &["clap", "clap_complete", "clap_mangen", "ratatui", "qrcode", "serde", "serde_json",
        "thiserror", "anyhow"]),
    layer("app", &["model", "buf", "wire", "rules", "engine", "plugin", "host", "server", "ui"], ANY),
    layer("main", &["app", "ui", "sim"], &[]),
    layer("lib", ANY, &[]),
];

/// Layers that decide. They take the time, dice and packets as arguments.
const PURE: &[&str] = &["model", "buf", "wire", "rules", "engine", "plugin"];

/// Crates that only these files of the pure layers may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("boringtun", &["src/engine/tunnel/noise.rs"]),
    ("rand_chacha", &["src/model/dice.rs"]),
    ("pnet_packet", &["src/wire/packet.rs"]),
    ("stun_rs", &["src/wire/stun/build.rs", "src/wire/stun/tests.rs"]),
    ("annotate_snippets", &["src/rules/diagnostic.rs", "src/rules/diagnostics.rs", "src/rules/check.rs"]),
    (
        "mlua",
        &[
            "src/plugin/vm.rs",
            "src/plugin/budget.rs",
            "src/plugin/fault.rs",
            "src/plugin/api/mod.rs",
            "src/plugin/api/host.rs",
            "src/plugin/api/info.rs",
            "src/plugin/api/answer.rs",
            "src/plugin/lint/mod.rs",
            "src/plugin/testing/script.rs",
            "src/plugin/testing/spec.rs",
        ],
    ),
];

/// Parts of `host` that `server` may use: those that know nothing of a node.
const HOST_FOR_SERVER: &[&str] = &["clock", "entropy", "threads", "tls", "udp", "store"];

/// Words that have no business in a pure layer, tests excepted.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("UdpSocket", "sockets live in host/"),
    ("TcpStream", "sockets live in host/"),
    ("TcpListener", "sockets live in host/"),
    ("UnixStream", "sockets live in host/"),
    ("SystemTime", "time is an argument (model::time::Now)"),
    ("Instant", "time is an argument (model::time::Mono)"),
    ("Mutex", "a machine has one owner"),
    ("RwLock", "a machine has one owner"),
    ("thread_local", "a machine has one owner"),
    (
        "HashMap",
        "its order differs run to run; if it is never iterated, say so on the line: `// lookup only`",
    ),
    (
        "HashSet",
        "its order differs run to run; if it is never iterated, say so on the line: `// lookup only`",
    ),
];

/// Modules of the standard library that a pure layer may not name, tests excepted.
const IMPURE_STD: &[&str] = &["thread", "fs", "env", "process", "os"];

const ASK_WHY_LINES: usize = 600;
const REFUSE_LINES: usize = 1_000;
const FUNCTION_LINES: usize = 100;

#[test]
fn every_file_keeps_to_its_layer() {
    let complaints: Vec<String> =
        sources(&["src"]).iter().flat_map(|s| layer_complaints(s, &dependencies())).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn no_file_or_function_grows_without_a_reason() {
    let all = sources(&["src", "tests", "benches"]);
    assert!(all.len() > 20, "the sources were not found");
    let complaints: Vec<String> = all.iter().flat_map(size_complaints).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_table_names_the_layers_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_table: BTreeSet<&str> = TABLE.iter().map(|l| l.name).collect();
    let on_disk: BTreeSet<String> = std::fs::read_dir(root.join("src"))
        .expect("src")
        .map(|entry| {
            entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(".rs").to_owned()
        })
        .collect();
    assert_eq!(in_table, on_disk.iter().map(String::as_str).collect());
}

#[test]
fn the_table_names_only_crates_that_the_package_has() {
    let known = dependencies();
    let unknown: Vec<_> =
        TABLE.iter().flat_map(|l| l.crates).filter(|c| **c != "*" && !known.contains(**c)).collect();
    assert!(unknown.is_empty(), "in the table but not in Cargo.toml: {unknown:?}");
}

fn layer_complaints(source: &Source, dependencies: &BTreeSet<String>) -> Vec<String> {
    let name = source.file.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
    let Some(layer) = TABLE.iter().find(|l| l.name == name) else {
        return vec![format!("{}: no layer of this name is in the table of tests/layers.rs", source.file)];
    };
    let mut complaints = import_complaints(source, layer, dependencies);
    if PURE.contains(&layer.name) {
        complaints.extend(purity_complaints(source));
    }
    complaints
}

fn import_complaints(source: &Source, layer: &Layer, dependencies: &BTreeSet<String>) -> Vec<String> {
    let modules: BTreeSet<&str> = TABLE.iter().map(|l| l.name).collect();
    let mut complaints = Vec::new();
    for path in source.paths() {
        let Some(first) = path.segments.first().map(String::as_str) else { continue };
        let at = format!("{}:{}", source.file, path.line);
        if path.ours && modules.contains(first) {
            if first != layer.name && layer.may_import != ANY && !layer.may_import.contains(&first) {
                complaints.push(format!("{at}: `{}` may not import `{first}`", layer.name));
            }
            complaints.extend(apart(source, &path.segments).map(|why| format!("{at}: {why}")));
        }
        if path.ours || path.in_test || !dependencies.contains(first) {
            continue;
        }
        if layer.crates != ANY && !layer.crates.contains(&first) {
            complaints.push(format!("{at}: `{}` may not name the crate `{first}`", layer.name));
        }
        let only = ONLY_IN.iter().find(|(krate, _)| *krate == first && PURE.contains(&layer.name));
        if let Some((_, files)) = only.filter(|(_, files)| !files.contains(&source.file.as_str())) {
            complaints.push(format!("{at}: only {} may name the crate `{first}`", files.join(", ")));
        }
    }
    complaints
}

/// Machines that talk in `wire` types and never import one another.
fn apart(source: &Source, target: &[String]) -> Option<String> {
    let target: Vec<&str> = target.iter().map(String::as_str).collect();
    let in_lobby = source.file.starts_with("src/engine/lobby");
    match target.as_slice() {
        ["engine", "lobby", ..] if source.file.starts_with("src/engine/") && !in_lobby => (source.file
            != "src/engine/mod.rs")
            .then(|| "a node's machines do not import `engine::lobby`".into()),
        ["engine", part, ..] if in_lobby && !["lobby", "counters"].contains(part) => {
            Some(format!("`engine::lobby` does not import `engine::{part}`"))
        }
        ["host", part, ..] if source.file.starts_with("src/server/") && !HOST_FOR_SERVER.contains(part) => {
            Some(format!("`server` may use only {} of `host`", HOST_FOR_SERVER.join(", ")))
        }
        _ => None,
    }
}

fn purity_complaints(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (word, why) in IMPURE_WORDS {
        for (line, in_test) in source.word(word) {
            let excused = why.contains("lookup only")
                && source.text.lines().nth(line - 1).is_some_and(|text| text.contains("// lookup only"));
            if !in_test && !excused {
                complaints.push(format!("{}:{line}: `{word}`: {why}", source.file));
            }
        }
    }
    for path in source.paths().iter().filter(|p| !p.in_test && !p.ours) {
        if let [first, second, ..] = path.segments.as_slice()
            && first == "std"
            && IMPURE_STD.contains(&second.as_str())
        {
            complaints.push(format!("{}:{}: `std::{second}` belongs to host/", source.file, path.line));
        }
    }
    complaints
}

/// A long file or function says why, as `// Size: …` (or `//! Size: …`) in its first forty lines or right above it.
fn size_complaints(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let excused = |from: usize, to: usize| {
        let note =
            |l: &&str| l.trim_start().trim_start_matches(['/', '!']).trim_start().starts_with("Size: ");
        lines.get(from..to.min(lines.len())).unwrap_or_default().iter().any(note)
    };
    let mut complaints = Vec::new();
    if lines.len() > REFUSE_LINES {
        complaints.push(format!(
            "{}: {} lines; {REFUSE_LINES} is the limit, split it",
            source.file,
            lines.len()
        ));
    } else if lines.len() > ASK_WHY_LINES && !excused(0, 40) {
        complaints.push(format!("{}: {} lines; say why at the top: `// Size: …`", source.file, lines.len()));
    }
    for (first, length) in source.functions() {
        if length > FUNCTION_LINES && !excused(first.saturating_sub(8), first) {
            complaints.push(format!("{}:{first}: a function of {length} lines; split it", source.file));
        }
    }
    complaints
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    folders
        .iter()
        .flat_map(|folder| rust_files(&root.join(folder)))
        .map(|path| Source::read(root, &path))
        .collect()
}

/// The package's dependencies, as code names them.
fn dependencies() -> BTreeSet<String> {
    fn collect(table: &toml::Table, names: &mut BTreeSet<String>) {
        if let Some(own) = table.get("dependencies").and_then(toml::Value::as_table) {
            names.extend(own.keys().map(|name| name.replace('-', "_")));
        }
        for target in
            table.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values)
        {
            target.as_table().into_iter().for_each(|t| collect(t, names));
        }
    }
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("Cargo.toml");
    let mut names = BTreeSet::new();
    collect(&text.parse().expect("a TOML file"), &mut names);
    assert!(names.contains("boringtun") && names.contains("tun_rs"), "dependencies were not read: {names:?}");
    names
}

mod the_test_itself {
    use super::*;

    fn complaints(file: &str, text: &str) -> Vec<String> {
        layer_complaints(&Source::new(file, text), &dependencies())
    }

    #[track_caller]
    fn refuses(file: &str, text: &str) {
        assert_eq!(complaints(file, text).len(), 1, "{file}: {text}\n{:?}", complaints(file, text));
    }

    #[track_caller]
    fn accepts(file: &str, text: &str) {
        assert_eq!(complaints(file, text), Vec::<String>::new(), "{file}: {text}");
    }

    #[test]
    fn sees_imports_of_a_higher_layer_however_they_are_written() {
        refuses("src/model/id.rs", "use crate::wire::packet::PacketView;");
        refuses("src/engine/node.rs", "use crate::{model::id, host::clock};");
        refuses("src/engine/node.rs", "fn f() { crate::host::clock::read() }");
        refuses("src/engine/lan/guard.rs", "use super::super::super::host::clock;");
        refuses("src/engine/lan/guard.rs", "mod inner { use super::super::super::super::sim::World; }");
        refuses("src/engine/mod.rs", "#[cfg(test)]\nmod tests {\n use crate::sim::World;\n}");
        refuses("src/sim/world.rs", "use crate::host::udp;");
        refuses("src/ui/cli.rs", "use crate::engine::node::Node;");
        accepts(
            "src/engine/lan/guard.rs",
            "use super::super::node; use super::pace; use crate::model::id::PeerId;",
        );
        accepts(
            "src/engine/lan/guard.rs",
            "// use crate::host::clock;\nconst S: &str = \"crate::host::clock\";",
        );
        accepts("src/app/mod.rs", "use crate::host::drive; use anyhow::Context;");
    }

    #[test]
    fn sees_outside_crates_where_they_do_not_belong() {
        refuses("src/engine/node.rs", "use tokio::sync::mpsc;");
        refuses("src/engine/node.rs", "async fn f() { tokio::task::yield_now().await }");
        refuses("src/rules/file.rs", "use {serde::Deserialize, axum::Router};");
        refuses("src/wire/frame.rs", "use toml as writing;");
        refuses("src/engine/tunnel/peer.rs", "use boringtun::noise::Tunn;");
        accepts("src/engine/tunnel/noise.rs", "use boringtun::noise::Tunn;");
        accepts("src/engine/node.rs", "#[cfg(test)]\nmod tests { use serde_json::json; }");
    }

    #[test]
    fn sees_clocks_sockets_threads_and_unordered_maps_in_pure_layers() {
        refuses("src/engine/node.rs", "fn f() { let t = std::time::Instant::now(); }");
        refuses("src/model/time.rs", "use std::time::{Duration, SystemTime};");
        refuses("src/wire/packet.rs", "use std::net::UdpSocket;");
        refuses("src/engine/node.rs", "fn f() { std::thread::sleep(d) }");
        refuses("src/rules/file.rs", "use std::{fmt, fs};");
        refuses("src/engine/roster.rs", "use std::collections::HashMap;");
        accepts("src/engine/roster.rs", "use std::collections::HashMap; // lookup only");
        accepts("src/rules/file.rs", "#[cfg(test)]\nmod tests { use std::fs; }");
        accepts("src/host/clock.rs", "fn f() { let t = std::time::Instant::now(); }");
    }

    #[test]
    fn keeps_machines_apart() {
        refuses("src/engine/lobby/mod.rs", "use crate::engine::roster::Roster;");
        refuses("src/engine/link.rs", "use super::lobby::Lobby;");
        refuses("src/server/http.rs", "use crate::host::drive::Driver;");
        accepts("src/server/http.rs", "use crate::host::clock::HostClock; use crate::engine::lobby::Lobby;");
    }

    #[test]
    fn sees_long_files_and_functions() {
        let lines = |n: usize| "// x\n".repeat(n);
        let sizes = |text: &str| size_complaints(&Source::new("src/engine/node.rs", text)).len();
        assert_eq!(sizes(&lines(600)), 0);
        assert_eq!(sizes(&lines(601)), 1);
        assert_eq!(sizes(&format!("//! Size: one table\n{}", lines(700))), 0);
        assert_eq!(sizes(&format!("//! Size: one table\n{}", lines(1_000))), 1);
        let function = |note: &str, n: usize| format!("{note}\nfn f() {{\n{}}}\n", "g();\n".repeat(n));
        assert_eq!(sizes(&function("", 98)), 0);
        assert_eq!(sizes(&function("", 99)), 1);
        assert_eq!(sizes(&function("// Size: a flat match", 99)), 0);
    }

    #[test]
    fn reads_literals_lifetimes_and_groups() {
        let text = "fn f<'a>(x: &'a str) { let c = '\"'; let d = '\\''; let r = r#\"crate::host\"#; } use crate::sim::W;";
        refuses("src/engine/node.rs", text);
        let source =
            Source::new("src/wire/x.rs", "use crate::model::{id::{PeerId, PartyId}, key as k, time::*};");
        let found: Vec<String> = source.paths().iter().map(|p| p.segments.join("::")).collect();
        assert_eq!(found, ["model::id::PeerId", "model::id::PartyId", "model::key", "model::time"]);
    }

    #[test]
    fn an_unknown_layer_is_refused() {
        refuses("src/helpers/mod.rs", "");
        let known: BTreeMap<&str, usize> = TABLE.iter().map(|l| (l.name, l.crates.len())).collect();
        assert!(!known.contains_key("helpers"));
    }
}
