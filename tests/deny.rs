//! Enforces `deny.toml` (licences, bans, duplicates, sources) on what `cargo tree` says is really built, so that the
//! rules hold on machines without cargo-deny too. Advisories are cargo-deny's alone: they need the network.
#![cfg(unix)]
#![allow(clippy::indexing_slicing, reason = "a test may panic: that is how it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// One package of the build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    license: String,
}

/// What `deny.toml` says.
struct Rules {
    targets: Vec<String>,
    licenses: BTreeSet<String>,
    exceptions: BTreeMap<String, BTreeSet<String>>,
    banned: BTreeSet<String>,
    /// Name and beginning of the version.
    duplicates: Vec<(String, String)>,
    registries: BTreeSet<String>,
}

#[test]
fn everything_that_is_built_is_allowed_in() {
    let rules = Rules::parse(&read("deny.toml"));
    let built = built(&rules.targets);
    assert!(built.len() > 100, "cargo tree named only {} packages", built.len());
    let mut complaints = license_complaints(&rules, &built);
    complaints.extend(ban_complaints(&rules, &built));
    complaints.extend(source_complaints(&rules, &read("Cargo.lock")));
    complaints.extend(stale_complaints(&rules, &read("Cargo.lock")));
    complaints.extend(wildcard_complaints(&read("Cargo.toml")));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn each_kind_of_offence_is_seen() {
    let rules = Rules::parse(&read("deny.toml"));
    let package = |name: &str, version: &str, license: &str| Package {
        name: name.into(),
        version: version.into(),
        license: license.into(),
    };
    let licence = |text: &str| license_complaints(&rules, &[package("x", "1.0.0", text)]).len();
    assert_eq!(licence("MIT"), 0);
    assert_eq!(licence("GPL-3.0-only"), 1);
    assert_eq!(licence("GPL-2.0 OR MIT"), 0);
    assert_eq!(licence("MIT AND GPL-2.0"), 1);
    assert_eq!(licence("(MIT OR Apache-2.0) AND Unicode-3.0"), 0);
    assert_eq!(licence("Unlicense/MIT"), 0);
    assert_eq!(licence("Apache-2.0 WITH LLVM-exception"), 0);
    assert_eq!(licence("MPL-2.0"), 1);
    assert_eq!(licence(""), 1);
    assert_eq!(license_complaints(&rules, &[package("option-ext", "0.2.0", "MPL-2.0")]).len(), 0);

    // all excused duplicates present, so that only the offence in question is counted
    let mut honest: Vec<Package> = Vec::new();
    for (name, version) in &rules.duplicates {
        honest.push(package(name, &format!("{version}.9"), "MIT"));
        honest.push(package(name, "99.0.0", "MIT"));
    }
    let bans = |extra: &[Package]| ban_complaints(&rules, &[&honest[..], extra].concat()).len();
    assert_eq!(bans(&[]), 0);
    assert_eq!(bans(&[package("openssl-sys", "0.9.1", "MIT")]), 1);
    assert_eq!(bans(&[package("tokio", "1.0.0", "MIT"), package("tokio", "2.0.0", "MIT")]), 1);
    let one = "[[package]]\nname = \"syn\"\nversion = \"2.0.0\"\n";
    assert_eq!(stale_complaints(&rules, one).len(), rules.duplicates.len());
    let two = format!("{one}[[package]]\nname = \"syn\"\nversion = \"3.0.0\"\n");
    assert_eq!(stale_complaints(&rules, &two).len(), rules.duplicates.len() - 1);

    let lock =
        |source: &str| format!("[[package]]\nname = \"x\"\nversion = \"1.0.0\"\nsource = \"{source}\"\n");
    assert_eq!(
        source_complaints(&rules, &lock("registry+https://github.com/rust-lang/crates.io-index")).len(),
        0
    );
    assert_eq!(source_complaints(&rules, &lock("git+https://example.org/x#1")).len(), 1);
    assert_eq!(source_complaints(&rules, &lock("registry+https://example.org/index")).len(), 1);
    assert_eq!(wildcard_complaints("[dependencies]\nx = \"*\"\ny = { version = \"1\" }").len(), 1);
}

fn license_complaints(rules: &Rules, built: &[Package]) -> Vec<String> {
    let allowed = |package: &Package, id: &str| {
        rules.licenses.contains(id) || rules.exceptions.get(&package.name).is_some_and(|own| own.contains(id))
    };
    let refused = built.iter().filter(|p| !License::holds(&p.license, &|id| allowed(p, id)));
    refused.map(|p| format!("{} {}: licence {:?} is not allowed in", p.name, p.version, p.license)).collect()
}

fn ban_complaints(rules: &Rules, built: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in built {
        if rules.banned.contains(&package.name) {
            complaints.push(format!("{} {} is banned", package.name, package.version));
        }
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    for (name, found) in versions.iter().filter(|(_, found)| found.len() > 1) {
        let excused = |version: &str| rules.duplicates.iter().any(|(n, v)| n == name && begins(version, v));
        let counted: Vec<_> = found.iter().filter(|v| !excused(v)).collect();
        if counted.len() > 1 {
            complaints.push(format!("{name} is built in versions {counted:?}"));
        }
    }
    complaints
}

/// Excuses for what is no duplicate any more, by the lock file.
fn stale_complaints(rules: &Rules, lock: &str) -> Vec<String> {
    let lock: toml::Table = lock.parse().expect("Cargo.lock is TOML");
    let packages = lock.get("package").and_then(toml::Value::as_array).expect("packages in Cargo.lock");
    let versions = |name: &str| -> Vec<&str> {
        let own = packages.iter().filter(|p| p.get("name").and_then(toml::Value::as_str) == Some(name));
        own.filter_map(|p| p.get("version").and_then(toml::Value::as_str)).collect()
    };
    let stale = rules.duplicates.iter().filter(|(name, start)| {
        let found = versions(name);
        found.len() < 2 || !found.iter().any(|v| begins(v, start))
    });
    stale
        .map(|(name, start)| format!("deny.toml excuses {name}@{start}, which is no duplicate any more"))
        .collect()
}

fn begins(version: &str, start: &str) -> bool {
    version == start || version.starts_with(&format!("{start}."))
}

fn source_complaints(rules: &Rules, lock: &str) -> Vec<String> {
    let lock: toml::Table = lock.parse().expect("Cargo.lock is TOML");
    let packages = lock.get("package").and_then(toml::Value::as_array).expect("packages in Cargo.lock");
    let source = |p: &toml::Value| p.get("source").and_then(toml::Value::as_str).map(str::to_owned);
    let unknown = |s: &String| !s.strip_prefix("registry+").is_some_and(|r| rules.registries.contains(r));
    packages.iter().filter_map(source).filter(unknown).map(|s| format!("unknown source {s}")).collect()
}

fn wildcard_complaints(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("Cargo.toml is TOML");
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = sections.iter().filter_map(|s| manifest.get(*s)).filter_map(toml::Value::as_table);
    let wild = |value: &toml::Value| {
        value
            .as_str()
            .or_else(|| value.get("version").and_then(toml::Value::as_str))
            .is_none_or(|v| v.contains('*'))
    };
    tables.flatten().filter(|(_, v)| wild(v)).map(|(name, _)| format!("{name}: name a version")).collect()
}

impl Rules {
    fn parse(text: &str) -> Self {
        let all: toml::Table = text.parse().expect("deny.toml is TOML");
        let list = |section: &str, key: &str| -> Vec<toml::Value> {
            let value = all.get(section).and_then(|s| s.get(key)).and_then(toml::Value::as_array);
            value.unwrap_or_else(|| panic!("deny.toml: [{section}] {key}")).clone()
        };
        let text = |value: &toml::Value| value.as_str().expect("a text").to_owned();
        let texts = |values: Vec<toml::Value>| values.iter().map(text).collect::<BTreeSet<_>>();
        let krate = |value: &toml::Value| text(&value["crate"]);
        let licences = |value: &toml::Value| texts(value["allow"].as_array().expect("a list").clone());
        let duplicate = |value: &toml::Value| {
            assert!(value.get("reason").is_some(), "each duplicate has its reason");
            let (name, version) = krate(value)
                .split_once('@')
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .expect("name@version");
            (name, version)
        };
        Self {
            targets: list("graph", "targets").iter().map(text).collect(),
            licenses: texts(list("licenses", "allow")),
            exceptions: list("licenses", "exceptions").iter().map(|e| (krate(e), licences(e))).collect(),
            banned: list("bans", "deny").iter().map(krate).collect(),
            duplicates: list("bans", "skip").iter().map(duplicate).collect(),
            registries: texts(list("sources", "allow-registry")),
        }
    }
}

/// An SPDX expression, read from left to right: `OR` binds weakest, `/` is the old way to write it.
struct License<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> License<'a> {
    fn holds(text: &'a str, allowed: &dyn Fn(&str) -> bool) -> bool {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut reader = License { words: spaced.split_whitespace().collect(), at: 0 };
        let verdict = reader.any(allowed);
        verdict && reader.at == reader.words.len()
    }

    fn any(&mut self, allowed: &dyn Fn(&str) -> bool) -> bool {
        let mut verdict = self.all(allowed);
        while self.take("OR") {
            verdict |= self.all(allowed);
        }
        verdict
    }

    fn all(&mut self, allowed: &dyn Fn(&str) -> bool) -> bool {
        let mut verdict = self.one(allowed);
        while self.take("AND") {
            verdict &= self.one(allowed);
        }
        verdict
    }

    fn one(&mut self, allowed: &dyn Fn(&str) -> bool) -> bool {
        if self.take("(") {
            let verdict = self.any(allowed);
            return self.take(")") && verdict;
        }
        let Some(&id) = self.words.get(self.at) else { return false };
        self.at += 1;
        if self.take("WITH") {
            let exception = self.words.get(self.at).copied().unwrap_or_default();
            self.at += 1;
            return allowed(&format!("{id} WITH {exception}"));
        }
        allowed(id)
    }

    fn take(&mut self, word: &str) -> bool {
        let here = self.words.get(self.at) == Some(&word);
        self.at += usize::from(here);
        here
    }
}

/// Everything that goes into the program, its tests and its benches, on any of our targets.
fn built(targets: &[String]) -> Vec<Package> {
    let mut found = BTreeSet::new();
    for target in targets {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--features", "sim", "--edges", "normal,build,dev"])
            .args(["--prefix", "none", "--format", "{p}|{l}", "--target", target])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
        for line in String::from_utf8_lossy(&tree.stdout).lines().filter(|l| !l.is_empty()) {
            let (package, license) = line.split_once('|').expect("package and licence");
            let mut words = package.split(' ');
            let mut next = || words.next().expect("name and version").trim_start_matches('v').to_owned();
            // `(*)` marks what was printed before
            let license = license.trim_end_matches("(*)").trim().to_owned();
            found.insert(Package { name: next(), version: next(), license });
        }
    }
    found.into_iter().collect()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file)
}
