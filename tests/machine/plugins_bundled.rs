//! The bundled plugins, each in the real virtual machine: their own tests, their samples through rules and plugin, broken
//! packets for every hook, and whether they ask for no more than they need.

use lanrage::model::id::ProfileId;
use lanrage::model::script::Hook;
use lanrage::plugin::code::Code;
use lanrage::plugin::manifest::check_manifest;
use lanrage::plugin::testing::{Folder, Options, TextFile};
use lanrage::rules::compile::compile;
use lanrage::rules::profile::{Profile, Rule};
use lanrage::rules::ruleset::RuleKind;
use lanrage::rules::shipped;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What comes with the program.
const BUNDLED: [&str; 6] =
    ["directplay", "freeciv", "minecraft-bedrock", "minecraft-java", "source-engine", "warcraft3"];

/// Ticks of the worst call, of the 100,000 that one may use. Warcraft III unpacks text byte by byte.
const WORST_TICKS: u32 = 8_000;
/// Ticks of a usual call.
const USUAL_TICKS: u64 = 500;
/// Broken packets for each plugin; `lanrage plugin test --fuzz` throws them for as long as one likes.
const BROKEN: u32 = 1_500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn folder(id: &str) -> Folder {
    let dir = root().join(id);
    let manifest = check_manifest(&format!("plugins/{id}/plugin.toml"), &text(&dir.join("plugin.toml")))
        .unwrap_or_else(|wrong| {
            panic!("{}", wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
    let files: BTreeMap<String, String> = names(&dir)
        .into_iter()
        .filter(|name| name.ends_with(".luau") && name != "test.luau")
        .map(|name| (name.clone(), text(&dir.join(name))))
        .collect();
    let profiles: Vec<Profile> = manifest
        .games
        .iter()
        .map(|game| shipped::find(&game.0).unwrap_or_else(|e| panic!("{id}: {e}")))
        .collect();
    let file = |name: &str| TextFile { name: format!("plugins/{id}/{name}"), text: text(&dir.join(name)) };
    let samples = names(&dir.join("samples")).iter().map(|name| file(&format!("samples/{name}"))).collect();
    Folder {
        code: Arc::new(Code { manifest, files }),
        rules: compile(&profiles).unwrap(),
        profiles,
        test: Some(file("test.luau")),
        samples,
        captures: Vec::new(),
    }
}

/// Nothing here depends on how long calls take.
fn no_watch() -> Duration {
    Duration::ZERO
}

#[test]
fn the_folder_holds_the_bundled_plugins_and_each_has_all_its_parts() {
    let mut found = names(&root());
    found.retain(|name| name != "README.md");
    assert_eq!(found, BUNDLED);
    for id in BUNDLED {
        let folder = folder(id);
        assert_eq!(folder.code.manifest.id.0, id, "the id is the folder's name");
        assert!(folder.code.files["main.luau"].starts_with("--!strict\n"), "{id}/main.luau is strict");
        assert!(folder.test.as_ref().unwrap().text.starts_with("--!strict\n"), "{id}/test.luau is strict");
        assert!(folder.all_samples().len() >= 3, "{id} has samples");
        assert_eq!(folder.code.manifest.games, [ProfileId(id.to_owned())]);
        let asks = folder.profiles[0].plugin.as_ref().map(|plugin| plugin.0.as_str());
        assert_eq!(asks, Some(id), "the profile asks the plugin of its name");
    }
}

#[test]
fn every_shipped_profile_that_names_a_plugin_names_a_bundled_one() {
    for profile in shipped::all() {
        if let Some(plugin) = &profile.plugin {
            assert!(BUNDLED.contains(&plugin.0.as_str()), "{} asks {plugin}", profile.id);
        }
    }
}

#[test]
fn their_own_tests_and_samples_are_green_and_their_hooks_are_cheap() {
    let mut red = Vec::new();
    for id in BUNDLED {
        let report = folder(id).test(Options { update: false, watch: no_watch, trace: false });
        for case in report.cases.iter().filter(|case| !case.failures.is_empty()) {
            let told: Vec<String> =
                case.failures.iter().map(|f| format!("{}: {}", f.place, f.message)).collect();
            red.push(format!("{}\n  {}", case.what, told.join("\n  ")));
        }
        assert!(report.cases.len() >= 8, "{id} has tests");
        for (hook, cost) in &report.costs {
            let worst = &cost.worst_what;
            assert!(cost.worst <= WORST_TICKS, "{id} {}: {} ticks for {worst}", hook.name(), cost.worst);
            assert!(
                cost.ticks <= cost.calls * USUAL_TICKS,
                "{id} {}: {} ticks",
                hook.name(),
                cost.ticks / cost.calls
            );
        }
    }
    assert!(red.is_empty(), "{}", red.join("\n"));
}

#[test]
fn broken_packets_put_none_to_sleep() {
    for id in BUNDLED {
        let mut left = BROKEN;
        let fuzzed = folder(id).fuzz(no_watch, &mut || {
            left = left.saturating_sub(1);
            left > 0
        });
        let fuzzed = fuzzed.unwrap_or_else(|fault| panic!("{id}: {fault:?}"));
        let found: Vec<String> = fuzzed.found.iter().map(|f| format!("{}\n{}", f.message, f.block)).collect();
        assert!(found.is_empty(), "{id}: {}", found.join("\n"));
        let calls: u64 = fuzzed.costs.values().map(|cost| cost.calls).sum();
        assert!(calls > u64::from(BROKEN / 8), "{id}: only {calls} broken packets reached a hook");
    }
}

fn within(range: &RangeInclusive<u16>, own: &[RangeInclusive<u16>]) -> bool {
    range.clone().all(|port| own.iter().any(|have| have.contains(&port)))
}

/// UDP ports that a rule is about.
fn udp_of(rule: &Rule) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
    rule.ports.iter().chain(&rule.from_ports).cloned()
}

#[test]
fn none_may_do_more_than_its_profile_needs() {
    for id in BUNDLED {
        let folder = folder(id);
        let (may, profile) = (&folder.code.manifest.may, &folder.profiles[0]);
        let udp: Vec<_> = profile.rules.iter().flat_map(udp_of).chain(profile.play.udp.clone()).collect();
        let back = profile.rules.iter().flat_map(|rule| rule.answers_tcp.clone());
        let tcp: Vec<_> = profile.play.tcp.iter().cloned().chain(back).collect();
        for range in &may.udp {
            assert!(within(range, &udp), "{id} wants UDP {range:?}, and its profile has {udp:?}");
        }
        for range in &may.tcp {
            assert!(within(range, &tcp), "{id} wants TCP {range:?}, and its profile has {tcp:?}");
        }
        assert!(may.groups.is_empty(), "{id} sends to no group");
        let code = &folder.code.files["main.luau"];
        let changes = code.contains("packet.set_") || code.contains("packet.splice(");
        assert_eq!(may.rewrite, changes, "{id}: `rewrite` exactly when it changes packets");
        assert_eq!(may.send, code.contains("lanrage.send("), "{id}: `send` exactly when it sends");
    }
}

const fn hook_of(kind: RuleKind) -> Hook {
    match kind {
        RuleKind::Announcement | RuleKind::Closing => Hook::Announcement,
        RuleKind::Query => Hook::Query,
        RuleKind::Answer => Hook::Answer,
    }
}

#[test]
fn a_rule_is_asked_about_only_if_the_plugin_has_its_hook() {
    for id in BUNDLED {
        let folder = folder(id);
        let stop = Arc::default();
        let vm = lanrage::plugin::vm::Vm::load(&folder.code, lanrage::model::dice::Seed::from_u64(1), stop)
            .unwrap();
        let hooks = vm.facts().hooks;
        for rule in folder.profiles[0].rules.iter().filter(|rule| rule.ask.is_some()) {
            let hook = hook_of(rule.kind);
            assert!(hooks.has(hook), "{}: {id} has no {}", rule.place, hook.name());
        }
        for hook in [Hook::Announcement, Hook::Query, Hook::Answer] {
            let asked =
                folder.profiles[0].rules.iter().any(|rule| rule.ask.is_some() && hook_of(rule.kind) == hook);
            assert_eq!(hooks.has(hook), asked, "{id}: nobody asks its {}", hook.name());
        }
    }
}
