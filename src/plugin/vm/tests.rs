#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects; all else fails it")]
use super::*;
use crate::model::id::{PeerId, ProfileId};
use crate::model::script::{CallId, PluginIx, ScriptOpen, Teach};
use crate::plugin::api::table::{GLOBALS, HOOKS, LUAU};
use crate::plugin::manifest::check_manifest;
use std::collections::BTreeMap;

const MANIFEST: &str = r#"
id = "test"
name = "Test"
version = "1.0.0"
api = 1
about = "A test"
licence = "MIT"
games = ["test"]
[may]
udp = "6112-6119"
tcp = 6112
groups = ["224.0.2.60"]
rewrite = true
send = true
"#;

fn code(main: &str) -> Code {
    files(&[("main.luau", main)])
}

fn files(files: &[(&str, &str)]) -> Code {
    let files: BTreeMap<String, String> = files.iter().map(|(n, t)| ((*n).into(), (*t).into())).collect();
    Code { manifest: check_manifest("plugin.toml", MANIFEST).unwrap(), files }
}

fn load_code(code: &Code) -> Result<Vm, ScriptFault> {
    Vm::load(code, Seed::from_u64(1), Arc::default())
}

/// A plugin with this body of `on_answer(packet, n, info)`.
fn answering(body: &str) -> Vm {
    let main =
        format!("local plugin = {{}}\nfunction plugin.on_answer(b, n, info)\n{body}\nend\nreturn plugin");
    load_code(&code(&main)).unwrap()
}

fn peer(n: u8) -> ScriptPeer {
    ScriptPeer { id: PeerId([n; 10]), name: format!("P{n}"), address: [10, 77, 1, n].into() }
}

fn call(ask: Ask) -> ScriptCall {
    ScriptCall { id: CallId(1), plugin: PluginIx(0), at: Duration::from_millis(1_500), ask }
}

fn packet(payload: &[u8]) -> ScriptPacket {
    ScriptPacket {
        game: ProfileId::from("test"),
        peer: Some(PeerId([1; 10])),
        from: "10.77.1.1:6112".parse().unwrap(),
        to: "255.255.255.255:6113".parse().unwrap(),
        me: [10, 77, 1, 9].into(),
        payload: payload.to_vec(),
    }
}

fn ask(vm: &mut Vm, hook: Hook, payload: &[u8]) -> Result<ScriptAnswer, ScriptFault> {
    vm.ask(&call(Ask::Packet(hook, Box::new(packet(payload)))))
}

fn answer(vm: &mut Vm, payload: &[u8]) -> ScriptAnswer {
    ask(vm, Hook::Answer, payload).unwrap()
}

/// What goes wrong in `on_answer` with this body.
#[track_caller]
fn fault(body: &str) -> String {
    match ask(&mut answering(body), Hook::Answer, b"0123456789") {
        Err(ScriptFault::Failed(text)) => text,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn verdicts_are_nothing_true_false_and_a_number() {
    for (body, want) in [
        ("", Verdict::Forward),
        ("return true", Verdict::Forward),
        ("return false", Verdict::Drop),
        ("return 3", Verdict::Replace(b"abc".to_vec())),
        ("buffer.writeu8(b, 0, 65) return n", Verdict::Replace(b"Abcd".to_vec())),
        ("return packet.splice(b, n, 1, 3, 'XYZ')", Verdict::Replace(b"aXYZd".to_vec())),
    ] {
        assert_eq!(answer(&mut answering(body), b"abcd").verdict, want, "{body}");
    }
}

#[test]
fn hooks_that_are_not_there_change_nothing() {
    let mut vm = answering("return false");
    assert_eq!(ask(&mut vm, Hook::Query, b"x").unwrap(), ScriptAnswer::default());
    assert_eq!(vm.ask(&call(Ask::Tick)).unwrap(), ScriptAnswer::default());
    assert!(vm.facts().hooks.has(Hook::Answer) && !vm.facts().hooks.has(Hook::Query));
}

#[test]
fn the_second_value_says_to_whom_and_for_how_long() {
    let mut vm = answering(
        "return true, { to = { info.peer }, teach = 2.5, same = false, open = { { tcp = true, port = 6112, seconds = 9 } } }",
    );
    vm.ask(&call(Ask::PeerJoined(peer(1)))).unwrap();
    let said = answer(&mut vm, b"x");
    assert_eq!(said.to, Some(vec![PeerId([1; 10])]));
    assert_eq!(said.teach, Some(Teach { life: Duration::from_millis(2_500), same_bytes: false }));
    let open = ScriptOpen { peer: None, tcp: true, port: 6112, life: Duration::from_secs(9) };
    assert_eq!(said.open, [open]);
}

#[test]
fn info_tells_about_the_packet() {
    let mut vm = answering(
        "lanrage.log(info.peer, info.from, info.from_port, info.to, info.to_port, info.me, info.game, info.now)",
    );
    let id = PeerId([1; 10]);
    assert_eq!(
        answer(&mut vm, b"x").log,
        [format!("{id} 10.77.1.1 6112 255.255.255.255 6113 10.77.1.9 test 1.5")]
    );
}

#[test]
fn the_party_is_known_to_the_plugin() {
    let main = "local p = {}
        function p.on_peer_joined(peer) print('joined', peer.name, peer.address) end
        function p.on_peer_left(peer) print('left', peer.name) end
        function p.on_tick() print(#lanrage.peers(), lanrage.me(), lanrage.api, lanrage.now()) end
        return p";
    let mut vm = load_code(&code(main)).unwrap();
    assert_eq!(vm.ask(&call(Ask::PeerJoined(peer(1)))).unwrap().log, ["joined P1 10.77.1.1"]);
    vm.ask(&call(Ask::PeerJoined(peer(2)))).unwrap();
    assert_eq!(vm.ask(&call(Ask::PeerLeft(PeerId([1; 10])))).unwrap().log, ["left P1"]);
    assert_eq!(vm.ask(&call(Ask::PeerLeft(PeerId([1; 10])))).unwrap().log, Vec::<String>::new());
    assert_eq!(vm.ask(&call(Ask::Tick)).unwrap().log, ["1 nil 1 1.5"]);
}

#[test]
fn sends_are_checked_and_collected() {
    let mut vm = answering(
        "lanrage.send { from_port = 6112, to_port = 6113, payload = b, n = 2, as_peer = info.peer }",
    );
    vm.ask(&call(Ask::PeerJoined(peer(1)))).unwrap();
    let sends = answer(&mut vm, b"xyz").sends;
    assert_eq!(sends.len(), 1);
    assert_eq!(
        (sends[0].payload.as_slice(), sends[0].to_port, sends[0].as_peer),
        (&b"xy"[..], 6113, Some(PeerId([1; 10])))
    );
    assert!(
        fault("lanrage.send { from_port = 6112, to_port = 80, payload = 'x' }")
            .contains("main.luau:3: lanrage.send: `to_port` is 80")
    );
}

#[test]
fn describe_and_check_have_answers_of_their_own() {
    let main = "return { describe = function(b, n) return { title = packet.cstring(b, 1, n), players = 2, most_players = 8, port = 6112, tcp = true } end,
        check = function() return 'set the LAN name' end }";
    let mut vm = load_code(&code(main)).unwrap();
    let game = ask(&mut vm, Hook::Describe, b"\x01World\0").unwrap().describes.unwrap();
    assert_eq!(
        (game.title.as_str(), game.players, game.port, game.tcp),
        ("World", Some(2), Some(6112), Some(true))
    );
    assert_eq!(vm.ask(&call(Ask::Check)).unwrap().check.as_deref(), Some("set the LAN name"));
}

#[test]
fn a_failure_names_plugin_file_and_line_and_the_state_goes_on() {
    let mut vm = answering("if n > 3 then error('too long') end return false");
    let said = ask(&mut vm, Hook::Answer, b"long packet").unwrap_err();
    assert_eq!(said, ScriptFault::Failed("plugin `test`: main.luau:3: too long".into()));
    assert_eq!(answer(&mut vm, b"ok").verdict, Verdict::Drop);
}

#[test]
fn an_error_inside_a_helper_is_told_at_the_callers_line() {
    assert_eq!(fault("packet.u16be(b, 5000)"), "plugin `test`: main.luau:3: buffer access out of bounds");
    let said = fault("packet.set_u8(b, 0, 300)");
    assert_eq!(said, "plugin `test`: main.luau:3: 300 is no whole number from 0 to 255");
}

#[test]
fn three_errors_within_ten_seconds_put_a_plugin_to_sleep() {
    let mut vm = answering("error('no')");
    let mut at = |seconds| {
        let mut call = call(Ask::Packet(Hook::Answer, Box::new(packet(b"x"))));
        call.at = Duration::from_secs(seconds);
        vm.ask(&call).unwrap_err()
    };
    assert!(matches!(at(0), ScriptFault::Failed(_)));
    assert!(matches!(at(5), ScriptFault::Failed(_)));
    assert!(matches!(at(11), ScriptFault::Failed(_)), "the first is forgotten");
    assert!(matches!(at(12), ScriptFault::PutToSleep(_)));
    assert_eq!(at(13), ScriptFault::Asleep);
}

#[test]
fn the_stop_flag_and_the_budget_end_a_call_for_good() {
    let stop = Arc::new(AtomicBool::new(false));
    let main =
        "return { on_tick = function() while true do pcall(function() while true do end end) end end }";
    let mut vm = Vm::load(&code(main), Seed::from_u64(1), Arc::clone(&stop)).unwrap();
    let Err(ScriptFault::PutToSleep(text)) = vm.ask(&call(Ask::Tick)) else { panic!("not stopped") };
    assert_eq!(text, "plugin `test`: main.luau:1: it used up its budget of steps");
    assert_eq!(vm.ask(&call(Ask::Tick)), Err(ScriptFault::Asleep));
    let mut vm = Vm::load(&code(main), Seed::from_u64(1), Arc::clone(&stop)).unwrap();
    stop.store(true, Relaxed);
    let Err(ScriptFault::PutToSleep(text)) = vm.ask(&call(Ask::Tick)) else { panic!("not stopped") };
    assert_eq!(text, "plugin `test`: main.luau:1: it took too long and was stopped");
}

#[test]
fn memory_beyond_the_manifest_puts_a_plugin_to_sleep() {
    for body in [
        "local t = {} for i = 1, 1e6 do t[i] = tostring(i) .. string.rep('x', 100) end",
        "buffer.create(1e9)",
        "local s = 'x' while true do s = s .. s end",
        "keep = {} for i = 1, 2e3 do pcall(function() table.insert(keep, buffer.create(1e4)) end) end",
    ] {
        let said = ask(&mut answering(body), Hook::Answer, b"x");
        assert!(
            matches!(&said, Err(ScriptFault::PutToSleep(text)) if text.contains("memory")),
            "{body}: {said:?}"
        );
    }
}

#[test]
fn the_buffer_shows_nothing_of_earlier_packets() {
    let mut vm =
        answering("local byte = buffer.readu8(b, 5) packet.set_text(b, 0, 'longer text') return byte == 0");
    assert_eq!(answer(&mut vm, b"a long packet").verdict, Verdict::Drop);
    assert_eq!(answer(&mut vm, b"ab").verdict, Verdict::Forward);
    let mut vm = answering(
        "if buffer.readu8(b, 5) ~= 0 then return false end return packet.splice(b, n, 0, n, 'longer')",
    );
    assert_eq!(answer(&mut vm, b"ab").verdict, Verdict::Replace(b"longer".to_vec()));
    assert_eq!(answer(&mut vm, b"ab").verdict, Verdict::Replace(b"longer".to_vec()));
}

#[test]
fn a_packet_longer_than_the_buffer_is_shown_whole() {
    let mut vm = answering("buffer.writeu8(b, n - 1, 7) return n");
    let Verdict::Replace(bytes) = answer(&mut vm, &[1; 65_507]).verdict else { panic!("not changed") };
    assert_eq!((bytes.len(), bytes[65_506]), (65_507, 7));
    assert_eq!(answer(&mut vm, b"ab").verdict, Verdict::Replace(b"a\x07".to_vec()), "and the next as ever");
}

#[test]
fn require_serves_the_plugins_own_files_once() {
    let main = "local a, b = require('./lib/a'), require('lib/a') assert(a == b) return { on_tick = function() print(a.n) end }";
    let mut vm = load_code(&files(&[("main.luau", main), ("lib/a.luau", "return { n = 5 }")])).unwrap();
    assert_eq!(vm.ask(&call(Ask::Tick)).unwrap().log, ["5"]);
}

/// What a plugin says to a fixed evening, as text.
fn evening(seed: u64) -> String {
    let main = "local t = { one = 1, two = 2, three = 3, [10] = 4, [true] = 5 }
        local p = {}
        function p.on_answer(b, n, info)
            for k, v in pairs(t) do print(k, v) end
            print(math.random(), lanrage.random(1, 1000), tostring({}), `{print}`, string.format('%s', t))
            t[packet.text(b, 0, n)] = n
            return math.random(0, n), { teach = math.random(1, 9) }
        end
        function p.on_tick() print(lanrage.random(5), #lanrage.peers()) end
        return p";
    let mut vm = Vm::load(&code(main), Seed::from_u64(seed), Arc::default()).unwrap();
    let mut said = String::new();
    for i in 0..50u8 {
        let asked = match i % 5 {
            0 => Ask::PeerJoined(peer(i)),
            1 => Ask::Tick,
            _ => Ask::Packet(Hook::Answer, Box::new(packet(&[b'a' + i % 20; 7]))),
        };
        said.push_str(&format!("{:?} {}\n", vm.ask(&call(asked)), vm.ticks()));
    }
    said
}

#[test]
fn the_same_seed_and_calls_give_the_same_answers() {
    let first = evening(3);
    assert_eq!(first, evening(3));
    assert_ne!(first, evening(4));
    assert!(!first.contains("0x"), "an address of memory is not the same twice:\n{first}");
}

/// What a plugin finds: the names of all globals, and of what is inside `lanrage` and `packet`.
fn found() -> (Vec<String>, Vec<String>) {
    let vm = answering("");
    let globals: Table = vm.lua.load("return _G").eval().unwrap();
    let names = |table: &Table| -> Vec<String> {
        let mut names: Vec<String> = table.pairs::<String, Value>().map(|pair| pair.unwrap().0).collect();
        names.sort();
        names
    };
    let inside = ["lanrage", "packet"].into_iter().flat_map(|table| {
        let inside: Table = globals.raw_get(table).unwrap();
        names(&inside).into_iter().map(move |name| format!("{table}.{name}"))
    });
    (names(&globals), inside.collect())
}

#[test]
fn what_is_registered_is_what_the_table_says() {
    let (_, found) = found();
    let mut told: Vec<&str> =
        GLOBALS.iter().map(|entry| entry.name).filter(|name| name.contains('.')).collect();
    told.sort_unstable();
    assert_eq!(found, told);
    let hooks: Vec<&str> = HOOKS.iter().map(|entry| entry.name.trim_start_matches("plugin.")).collect();
    assert!(Hook::ALL.iter().all(|hook| hooks.contains(&hook.name())) && hooks.len() == Hook::ALL.len());
    let vm = answering("");
    for (name, ..) in LUAU {
        let there: bool = vm.lua.load(format!("return {name} ~= nil")).eval().unwrap();
        assert!(there, "{name} is told to editors and is not there");
    }
}

#[test]
fn plugins_find_these_globals_and_no_others() {
    let (found, _) = found();
    let known = "_G assert bit32 buffer coroutine error getmetatable ipairs lanrage math next packet pairs pcall print \
                 rawequal rawget rawlen rawset require select setmetatable string table tonumber tostring type typeof \
                 unpack utf8 xpcall";
    assert_eq!(found.join(" "), known);
}
