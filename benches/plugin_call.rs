//! One plugin call of each kind, with every limit on. Goals: 0.3 µs for a look-and-patch in the buffer, 1 µs for a
//! rewrite of `[AD]port[/AD]` in a text of 100 bytes. What loading costs is printed at the end.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench that is wrong about its plugin should stop"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use lanrage::model::dice::Seed;
use lanrage::model::id::{PeerId, ProfileId};
use lanrage::model::script::{
    Ask, CallId, Hook, PluginIx, ScriptAnswer, ScriptCall, ScriptFault, ScriptPacket, ScriptPeer, Verdict,
};
use lanrage::plugin::code::Code;
use lanrage::plugin::manifest::check_manifest;
use lanrage::plugin::vm::Vm;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MANIFEST: &str = r#"
id = "bench"
name = "Bench"
version = "1.0.0"
api = 1
about = "Measured"
licence = "MIT"
games = ["test"]
[may]
udp = "6112-6119"
tcp = 6112
rewrite = true
send = true
"#;

fn code(main: &str) -> Code {
    let manifest = check_manifest("plugin.toml", MANIFEST).expect("a good manifest");
    Code { manifest, files: BTreeMap::from([("main.luau".to_owned(), main.to_owned())]) }
}

fn load(main: &str) -> Vm {
    Vm::load(&code(main), Seed::from_u64(1), Arc::default()).expect("a good plugin")
}

/// A plugin with one hook.
fn plugin(hook: &str, args: &str, body: &str) -> Vm {
    load(&format!("local plugin = {{}}\nfunction plugin.{hook}({args})\n{body}\nend\nreturn plugin"))
}

fn call(at: u64, ask: Ask) -> ScriptCall {
    ScriptCall { id: CallId(1), plugin: PluginIx(0), at: Duration::from_secs(at), ask }
}

fn about(hook: Hook, payload: &[u8]) -> ScriptCall {
    let packet = ScriptPacket {
        game: ProfileId::from("test"),
        peer: Some(PeerId([1; 10])),
        from: "10.77.1.1:6112".parse().expect("an address"),
        to: "255.255.255.255:6113".parse().expect("an address"),
        me: [10, 77, 1, 9].into(),
        payload: payload.to_vec(),
    };
    call(1, Ask::Packet(hook, Box::new(packet)))
}

fn peer() -> ScriptPeer {
    ScriptPeer { id: PeerId([1; 10]), name: "Ann".into(), address: [10, 77, 1, 1].into() }
}

const LOOK_AND_PATCH: &str = "
    if packet.u16be(b, 0) ~= 0xf730 or buffer.readu8(b, 4) ~= 7 then return false end
    packet.set_u16be(b, 8, 6113)
    return n";

const PLAIN_BUFFER: &str = "
    if buffer.readu16(b, 0) ~= 0x30f7 or buffer.readu8(b, 4) ~= 7 then return false end
    buffer.writeu16(b, 8, 0xe117)
    return n";

const AD: &str = "
    local from, to = packet.between(b, n, '[AD]', '[/AD]')
    if from == nil then return false end
    return packet.splice(b, n, from, to, '25565')";

fn packets(c: &mut Criterion) {
    let mut binary = [0u8; 100];
    for (at, byte) in [(0, 0xf7), (1, 0x30), (4, 7)] {
        binary[at] = byte;
    }
    let text = format!("[MOTD]{:-<73}[/MOTD][AD]51234[/AD]", "A world of somebody who likes long titles");
    assert_eq!(text.len(), 100);
    for (name, body, payload, changed) in [
        ("nothing", "", &binary[..], false),
        ("look only", "if packet.u16be(b, 0) ~= 0xf730 then return false end", &binary, false),
        ("look and patch, helpers", LOOK_AND_PATCH, &binary, true),
        ("look and patch, buffer", PLAIN_BUFFER, &binary, true),
        ("rewrite [AD]", AD, text.as_bytes(), true),
        (
            "info, four fields",
            "return info.from_port == 6112 and info.peer ~= nil and info.from ~= info.me",
            &binary,
            false,
        ),
        ("teach", "return true, { teach = 5 }", &binary, false),
    ] {
        let mut vm = plugin("on_answer", "b, n, info", body);
        let call = about(Hook::Answer, payload);
        let answer = vm.ask(&call).expect("an answer");
        assert_eq!(matches!(answer.verdict, Verdict::Replace(_)), changed, "{name}: {answer:?}");
        c.bench_function(&format!("plugin: {name}"), |b| b.iter(|| vm.ask(black_box(&call))));
    }
}

fn others(c: &mut Criterion) {
    let mut vm =
        plugin("describe", "b, n", "return { title = packet.cstring(b, 2, n), players = 2, port = 6112 }");
    let ask = about(Hook::Describe, b"\x01\x02My game\x00rest");
    assert!(vm.ask(&ask).expect("an answer").describes.is_some());
    c.bench_function("plugin: describe", |b| b.iter(|| vm.ask(black_box(&ask))));
    let mut vm = plugin("on_tick", "", "");
    c.bench_function("plugin: on_tick", |b| b.iter(|| vm.ask(black_box(&call(1, Ask::Tick)))));
    let mut vm = plugin("on_peer_joined", "peer", "last = peer.name");
    c.bench_function("plugin: on_peer_joined", |b| {
        b.iter(|| vm.ask(&call(1, Ask::PeerJoined(black_box(peer())))));
    });
    let mut vm =
        plugin("on_answer", "b, n", "lanrage.send { to_port = 6112, from_port = 6112, payload = b, n = n }");
    let ask = about(Hook::Answer, &[7; 100]);
    assert_eq!(vm.ask(&ask).expect("an answer").sends.len(), 1);
    c.bench_function("plugin: send", |b| b.iter(|| vm.ask(black_box(&ask))));
    let mut vm = plugin("check", "", "error('no')");
    let mut at = 0;
    // Far enough apart that the plugin is not put to sleep.
    let mut fail = || -> Result<ScriptAnswer, ScriptFault> {
        at += 60;
        vm.ask(&call(at, Ask::Check))
    };
    assert!(matches!(fail(), Err(ScriptFault::Failed(_))));
    c.bench_function("plugin: an error", |b| b.iter(&mut fail));
}

fn loading(c: &mut Criterion) {
    let source = code(&format!(
        "local plugin = {{}}\nfunction plugin.on_answer(b, n, info)\n{AD}\nend\nreturn plugin"
    ));
    let one = || Vm::load(&source, Seed::from_u64(1), Arc::default()).expect("a good plugin");
    c.bench_function("plugin: load", |b| b.iter(one));
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4
    };
    let (before, start) = (resident(), Instant::now());
    let all: Vec<Vm> = (0..100).map(|_| one()).collect();
    let took = start.elapsed();
    let each = all.iter().map(Vm::memory).sum::<usize>() / all.len() / 1024;
    println!(
        "100 plugins: loaded in {took:?}; {each} KiB each by Luau's count, {} KiB resident",
        (resident() - before) / 100
    );
}

criterion_group!(benches, packets, others, loading);
criterion_main!(benches);
