//! Hostile plugins, each with what must come of it in its first line. Whatever they try, a call comes back soon after
//! the stop flag is up, the process lives, the message names the plugin and the line, and after a mere error the same
//! state still answers.
//!
//! First lines read `-- HOOK OUTCOME: MESSAGE`. The hook is the one that is asked (`load`: the first run). Outcomes:
//! `fails` (an error, the state lives on), `sleeps` (put to sleep), `stops` (put to sleep, by the budget or the flag;
//! the message is the place), `works`, or two of them with `or` where the computer's speed or Luau decides.

use crate::corpus::{Hostile, Outcome, corpus, source};
use lanrage::model::script::{Ask, Hook, ScriptFault};
use std::time::Duration;

#[test]
fn every_hostile_plugin_is_stopped_and_named() {
    let all = corpus();
    assert!(all.len() >= 60, "the corpus was not found: {}", all.len());
    let mut complaints = Vec::new();
    for plugin in &all {
        if let Err(what) = plugin.judge() {
            complaints.push(format!("{}: {what}", plugin.name));
        }
    }
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), all.len(), complaints.join("\n"));
}

/// Sources that are too large to keep as files.
#[test]
fn monstrous_sources_are_refused() {
    let nested = |open: &str, close: &str, n: usize| format!("return {}1{}", open.repeat(n), close.repeat(n));
    let blocks = format!("{}{}", "do ".repeat(30_000), "end ".repeat(30_000));
    for (name, text, said) in [
        ("too long", format!("-- {}", "x".repeat(300_000)), "has at most 262144"),
        ("brackets", nested("(", ")", 100_000), "main.luau:1: "),
        ("tables", nested("{", "}", 100_000), "main.luau:1: "),
        ("calls", format!("return {}", "f(".repeat(120_000)), "main.luau:1: "),
        ("blocks", blocks, "main.luau:1: "),
        ("types", format!("local x: {} = 1", "{".repeat(100_000)), "main.luau:1: "),
        ("functions", "return function() ".repeat(12_000), "main.luau:1: "),
        ("unary", format!("return {}1", "- ".repeat(120_000)), "main.luau:1: "),
        ("strings", format!("return {}", "`{".repeat(100_000)), "main.luau:1: "),
        ("locals", format!("local {}x", "a,".repeat(100_000)), "main.luau: returned nil"),
        ("no text", "\u{1}\u{2}\u{0}\u{5}bytecode".to_owned(), "attempt to load a binary chunk"),
    ] {
        let plugin = Hostile::made(name, &text);
        let (loaded, took) = plugin.load();
        match loaded {
            Err(ScriptFault::Failed(text)) => {
                assert!(text.starts_with("plugin `hostile`: ") && text.contains(said), "{name}: {text}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
    }
    let quarter: String =
        (0..9_000).map(|i| format!("local function f{i}() end\n_ = f{i}\ndo end\n")).take(150).collect();
    assert!(Hostile::made("many", &format!("{quarter}return {{}}")).load().0.is_ok());
}

#[test]
fn plugins_of_several_files_go_round_in_no_circle() {
    for (files, said) in [
        (
            vec![("a", "return require('./b')"), ("b", "return require('./a')")],
            "b.luau:1: require(\"./a\") goes round",
        ),
        (vec![("a", "while true do end")], "a.luau:1: it "),
        (vec![("a", "error('no')")], "a.luau:1: no"),
        (vec![("a", "x y")], "a.luau:1: "),
        (vec![("a", "return setmetatable({}, { __index = error })")], ""),
    ] {
        let plugin = Hostile::of_files("return require('./a') and {}", &files);
        match plugin.load().0 {
            Err(ScriptFault::Failed(text) | ScriptFault::PutToSleep(text)) => {
                assert!(text.contains(said) && !said.is_empty(), "{text}");
            }
            Ok(_) => assert!(said.is_empty(), "{files:?} was loaded"),
            Err(other) => panic!("{files:?}: {other:?}"),
        }
    }
    for name in ["../x.luau", "x/../y.luau", "/etc/x.luau", "x.txt", "x y.luau"] {
        let mut plugin = Hostile::made("names", "return {}");
        plugin.code.files.insert(name.into(), String::new());
        let Err(ScriptFault::Failed(text)) = plugin.load().0 else { panic!("{name} was loaded") };
        assert!(text.contains("is no name for a source file"), "{text}");
    }
}

/// A thousand errors cost no memory, in the state or outside it.
#[test]
fn errors_leave_nothing_behind() {
    let body = "for i = 1, 200 do pcall(lanrage.send, { to_port = 1, from_port = 1, payload = 'x' }) pcall(error, {}) pcall(packet.u8, b, -1) end";
    let plugin = Hostile::made("errors", &source("on_answer", "b, n, info", body));
    let mut vm = plugin.load().0.unwrap();
    let ask = |vm: &mut _| plugin.ask_one(vm, "on_answer").0.unwrap();
    (0..20).for_each(|_| drop(ask(&mut vm)));
    let before = vm.memory();
    (0..200).for_each(|_| drop(ask(&mut vm)));
    assert!(vm.memory() < before + (1 << 20), "{before} became {}", vm.memory());
}

/// A stopped plugin says so once and then sleeps, whatever it is asked.
#[test]
fn what_sleeps_stays_asleep() {
    let plugin = Hostile::made("sleeper", &source("on_tick", "", "while true do end"));
    let mut vm = plugin.load().0.unwrap();
    assert!(matches!(plugin.ask_one(&mut vm, "on_tick").0, Err(ScriptFault::PutToSleep(_))));
    for hook in Hook::ALL {
        assert_eq!(plugin.ask_one(&mut vm, hook.name()).0, Err(ScriptFault::Asleep));
    }
    assert_eq!(plugin.ask_raw(&mut vm, Ask::Check).0, Err(ScriptFault::Asleep));
}

#[test]
fn first_lines_are_read_as_they_are_written() {
    let h = Hostile::read("x", "-- on_tick fails or works: main.luau:4: no\nreturn {}", None);
    assert_eq!(
        (h.hook.as_str(), h.outcomes.as_slice(), h.said.as_str()),
        ("on_tick", &[Outcome::Fails, Outcome::Works][..], "main.luau:4: no")
    );
}
