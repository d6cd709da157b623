//! Random programs, random answers, random manifests and random packets. Nothing may panic, run on, or give an answer
//! that a plugin has no right to.
//!
//! In a normal run this takes seconds. `LANRAGE_FUZZ_SECONDS=60 cargo test --release --test machine plugins_fuzz` gives each
//! test a minute; `PROPTEST_RNG_SEED` repeats a run.

use crate::corpus::{Hostile, MANIFEST, source};
use lanrage::model::script::{Capabilities, Hook, ScriptAnswer, ScriptFault, Verdict};
use lanrage::plugin::manifest::check_manifest;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::time::{Duration, Instant};

/// Runs a property for a while: a number of cases in CI, a time when it is asked for.
fn fuzz<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seconds: Option<u64> = std::env::var("LANRAGE_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = match seconds {
        Some(_) => TestRunner::new(config.clone()),
        // The same cases in every run, so that a failure in CI is a failure at home.
        None => TestRunner::new_with_rng(config.clone(), TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32])),
    };
    let start = Instant::now();
    let mut rounds = 0u64;
    loop {
        runner.run(strategy, &property).unwrap();
        rounds += 1;
        match seconds {
            Some(seconds) if start.elapsed() < Duration::from_secs(seconds) => {
                runner = TestRunner::new(config.clone());
            }
            Some(_) | None => break,
        }
    }
    println!("{} cases", rounds * u64::from(cases));
}

/// Whatever comes back, a plugin has said nothing that it may not say.
fn lawful(answer: &Result<ScriptAnswer, ScriptFault>, may: &Capabilities) -> Result<(), TestCaseError> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(ScriptFault::Failed(text) | ScriptFault::PutToSleep(text)) => {
            prop_assert!(text.starts_with("plugin `hostile`"), "{text}");
            prop_assert!(!text.chars().any(char::is_control) && text.chars().count() <= 450, "{text}");
            return Ok(());
        }
        Err(_) => return Ok(()),
    };
    if let Verdict::Replace(bytes) = &answer.verdict {
        prop_assert!(may.rewrite && bytes.len() <= 65_535);
    }
    prop_assert!(answer.sends.len() <= 16 && (may.send || answer.sends.is_empty()));
    for send in &answer.sends {
        prop_assert!(
            send.payload.len() <= 1_372 && (may.has_udp(send.from_port) || may.has_udp(send.to_port))
        );
    }
    prop_assert!(answer.open.len() <= 8);
    for open in &answer.open {
        let own = if open.tcp { may.has_tcp(open.port) } else { may.has_udp(open.port) };
        prop_assert!(own);
        prop_assert!(open.life <= Duration::from_secs(300));
    }
    prop_assert!(answer.teach.is_none_or(|teach| teach.life <= Duration::from_secs(300)));
    prop_assert!(answer.to.as_ref().is_none_or(|to| to.len() <= 64));
    prop_assert!(answer.log.len() <= 16);
    Ok(())
}

/// Values, fitting and not.
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "nil", "true", "false", "n", "b", "info", "info.peer", "info.from_port", "-1", "0", "1", "2048",
    "2049", "0/0", "math.huge", "-math.huge", "2^53", "1.5", "{}", "''", "'[AD]'", "'x'", "print",
    "lanrage", "packet", "lanrage.peers()", "coroutine.create(print)", "buffer.create(64)",
    "string.rep('x', 3000)", "setmetatable({}, { __index = function(_, k) return k end })",
    "setmetatable({}, { __tostring = function() return 5 end })",
];
/// What can be called.
#[rustfmt::skip]
const FUNCTIONS: &[&str] = &[
    "packet.u8", "packet.u16be", "packet.u16le", "packet.u32be", "packet.set_u16be", "packet.set_u32le",
    "packet.ipv4", "packet.set_ipv4", "packet.ipv6", "packet.set_ipv6", "packet.text",
    "packet.set_text", "packet.cstring", "packet.find", "packet.between", "packet.splice",
    "packet.equals", "packet.hex", "lanrage.send", "lanrage.log", "lanrage.random", "lanrage.me",
    "require", "tostring", "string.format", "string.find", "string.gsub", "string.rep", "table.concat",
    "table.sort", "table.move", "table.unpack", "buffer.copy", "buffer.fill", "buffer.writestring",
    "buffer.readstring", "pcall", "xpcall", "error", "coroutine.wrap", "select", "setmetatable",
    "math.random", "utf8.char", "bit32.lshift", "string.split",
];
/// Keys of the tables that the host reads.
#[rustfmt::skip]
const KEYS: &[&str] = &[
    "to", "teach", "same", "open", "port", "tcp", "seconds", "peer", "to_port", "from_port", "payload",
    "n", "as_peer", "group", "title", "players", "over",
];
/// Operators.
#[rustfmt::skip]
const OPERATORS: &[&str] = &[
    "+", "..", "==", "<", "and", "or", "//", "^",
];

/// An expression of the API, of Luau's libraries, or a value that fits nowhere.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(VALUES).prop_map(str::to_owned),
        any::<i32>().prop_map(|n| n.to_string()),
        "[ -~]{0,12}".prop_map(|s| format!("{s:?}").replace("\\'", "'")),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let call = prop::sample::select(FUNCTIONS);
        let keys = prop::sample::select(KEYS);
        prop_oneof![
            (call, prop::collection::vec(inner.clone(), 0..5))
                .prop_map(|(f, args)| format!("{f}({})", args.join(", "))),
            prop::collection::vec((keys, inner.clone()), 0..5).prop_map(|fields| {
                let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k} = {v}")).collect();
                format!("{{ {} }}", fields.join(", "))
            }),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("{{ {} }}", list.join(", "))),
            (inner.clone(), prop::sample::select(OPERATORS), inner.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            inner.prop_map(|value| format!("(function() return {value} end)()")),
        ]
    })
}

/// A few statements that end in an answer.
fn program() -> impl Strategy<Value = String> {
    let statement = prop_oneof![
        expression().prop_map(|e| format!("local _ = {e}")),
        expression().prop_map(|e| format!("local _ = select('#', pcall(function() return {e} end))")),
        (expression(), expression()).prop_map(|(c, e)| format!("if {c} then keep = {e} end")),
        (1..50u32, expression()).prop_map(|(n, e)| format!("for i = 1, {n} do local _ = {e} end")),
        expression().prop_map(|e| format!("while {e} do local _ = 1 end")),
    ];
    (prop::collection::vec(statement, 0..4), prop::option::of(expression()), prop::option::of(expression()))
        .prop_map(|(body, first, second)| {
            let answer = match (first, second) {
                (None, _) => String::new(),
                (Some(first), None) => format!("return {first}"),
                (Some(first), Some(second)) => format!("return {first}, {second}"),
            };
            format!("{}\n{answer}", body.join("\n"))
        })
}

#[test]
fn random_programs_stay_inside() {
    let hooks =
        prop::sample::select(vec![Hook::Answer, Hook::Describe, Hook::Tick, Hook::Check, Hook::PeerJoined]);
    fuzz(60, &(hooks, program()), |(hook, body)| {
        let plugin = Hostile::made("fuzz", &source(hook.name(), "b, n, info", &body));
        let may = plugin.code.manifest.may.clone();
        let (loaded, _) = plugin.load();
        let Ok(mut vm) = loaded else {
            return lawful(&loaded.map(|_| ScriptAnswer::default()), &may);
        };
        let _ = plugin.ask_one(&mut vm, Hook::PeerJoined.name());
        for _ in 0..3 {
            let (answer, _) = plugin.ask_one(&mut vm, hook.name());
            lawful(&answer, &may)?;
        }
        Ok(())
    });
}

#[test]
fn random_answers_are_judged_without_a_panic() {
    let hooks = prop::sample::select(vec![Hook::Answer, Hook::Describe]);
    fuzz(100, &(hooks, expression(), expression()), |(hook, first, second)| {
        let body = format!("return {first}, {second}");
        let plugin = Hostile::made("fuzz", &source(hook.name(), "b, n, info", &body));
        if let Ok(mut vm) = plugin.load().0 {
            lawful(&plugin.ask_one(&mut vm, hook.name()).0, &plugin.code.manifest.may)?;
        }
        Ok(())
    });
}

/// The same source, seed and calls give the same answers, whatever the source.
#[test]
fn random_programs_are_deterministic() {
    fuzz(40, &program(), |body| {
        let plugin = Hostile::made("fuzz", &source("on_answer", "b, n, info", &body));
        let run = || {
            plugin.load().0.map(|mut vm| {
                let mut said = Vec::new();
                for _ in 0..2 {
                    said.push(plugin.ask_one(&mut vm, "on_answer").0);
                }
                (said, vm.ticks())
            })
        };
        let (one, two) = (run().map_err(|e| format!("{e:?}")), run().map_err(|e| format!("{e:?}")));
        prop_assert_eq!(one, two);
        Ok(())
    });
}

/// Text that is nearly Lua, or not at all.
#[test]
fn random_sources_are_refused_or_loaded() {
    let words = prop::sample::select(vec![
        "function", "end", "local", "return", "(", ")", "{", "}", "[", "]", "=", "==", ",", ";", ":", "::",
        "..", "...", "if", "then", "else", "for", "in", "do", "while", "repeat", "until", "type", "export",
        "continue", "x", "y", "1", "0x", "1e", "'", "\"", "`", "[[", "]]", "--", "--[[", "\n", "+=", "->",
        "|", "&", "?", "<", ">", "@native", "\\", "\u{0}", "\u{ff}", "é", "not", "and", "nil", "true",
    ]);
    let text = prop_oneof![
        prop::collection::vec(words, 0..60).prop_map(|words| words.join(" ")),
        prop::collection::vec(any::<char>(), 0..80).prop_map(|chars| chars.into_iter().collect()),
    ];
    fuzz(200, &text, |text| {
        let plugin = Hostile::made("fuzz", &text);
        lawful(&plugin.load().0.map(|_| ScriptAnswer::default()), &plugin.code.manifest.may)
    });
}

/// Good manifests with a few letters changed, cut or doubled.
#[test]
fn random_manifests_are_refused_with_a_place_or_mean_something_lawful() {
    let edits = prop::collection::vec((0..MANIFEST.len(), 0..4u8, any::<char>()), 0..6);
    fuzz(500, &edits, |edits| {
        let mut chars: Vec<char> = MANIFEST.chars().collect();
        for (at, how, c) in edits {
            if chars.is_empty() {
                break;
            }
            let at = at.min(chars.len() - 1);
            match how {
                0 => chars[at] = c,
                1 => chars.insert(at, c),
                2 => drop(chars.remove(at)),
                _ => chars.truncate(at.max(1)),
            }
        }
        let text: String = chars.into_iter().collect();
        match check_manifest("plugin.toml", &text) {
            Ok(manifest) => {
                let ports = manifest.may.udp.iter().chain(&manifest.may.tcp);
                prop_assert!(ports.clone().all(|range| *range.start() >= 1_024));
                prop_assert!((8..=32).contains(&manifest.memory_mib));
                prop_assert!(manifest.may.groups.iter().all(std::net::IpAddr::is_multicast));
            }
            Err(found) => {
                prop_assert!(!found.is_empty());
                for diagnostic in found {
                    prop_assert!(diagnostic.to_string().starts_with("plugin.toml:"), "{diagnostic}");
                    prop_assert!(!diagnostic.render().is_empty());
                }
            }
        }
        Ok(())
    });
}
