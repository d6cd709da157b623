//! Plugins on threads of their own: the keeper with its watchdog, and the data loop with the real virtual machine.

use crate::peers::{Peer, Table, announcement, until};
use lanrage::buf::batch::Source;
use lanrage::host::clock::HostClock;
use lanrage::host::scripts::{Brain, HARD, Keeper, Plugin, PluginNews, QUEUE};
use lanrage::model::dice::Seed;
use lanrage::model::id::{CardId, PluginId};
use lanrage::model::script::{
    Ask, CallId, PluginFacts, PluginIx, ScriptAnswer, ScriptCall, ScriptFault, ScriptReply,
};
use lanrage::model::status::Event;
use lanrage::plugin::code::Code;
use lanrage::plugin::manifest::check_manifest;
use lanrage::plugin::vm::Vm;
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::wire::packet::PacketView;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const MANIFEST: &str = r#"
id = "tester"
name = "Tester"
version = "1.0.0"
api = 1
about = "A test"
licence = "MIT"
games = ["minecraft-java"]
[may]
udp = 4445
rewrite = true
"#;

const PROFILE: &str = r#"
id = "minecraft-java"
name = "Minecraft"
plugin = "tester"
processes = ["java"]
evidence = "documented"

[play]
tcp = 25565

[[rule]]
kind = "announcement"
port = 4445
to = "group:224.0.2.60"
match = { text = "[MOTD]" }
title = { between = ["[MOTD]", "[/MOTD]"] }
game_port = { between = ["[AD]", "[/AD]"] }
life = 8
ask = { else = "forward", within_ms = 50 }
"#;

fn facts() -> PluginFacts {
    let manifest = check_manifest("plugin.toml", MANIFEST).unwrap();
    PluginFacts {
        id: manifest.id,
        hooks: Default::default(),
        may: manifest.may,
        calls_per_second: 1000,
        bytes_per_second: 0,
    }
}

/// A plugin of Rust: what it does is the test's business.
struct Fake<F>(F);

impl<F: FnMut(&ScriptCall) -> Result<ScriptAnswer, ScriptFault>> Brain for Fake<F> {
    fn ask(&mut self, call: &ScriptCall) -> Result<ScriptAnswer, ScriptFault> {
        (self.0)(call)
    }

    fn memory(&self) -> usize {
        4711
    }
}

struct Room {
    keeper: Keeper,
    replies: mpsc::Receiver<ScriptReply>,
}

impl Room {
    fn new() -> Self {
        let (sender, replies) = mpsc::channel(256);
        Self { keeper: Keeper::new(HostClock::new(), sender).unwrap(), replies }
    }

    fn fake<F>(&self, make: impl FnOnce(Arc<AtomicBool>) -> F + Send + 'static) -> Plugin
    where
        F: FnMut(&ScriptCall) -> Result<ScriptAnswer, ScriptFault> + 'static,
    {
        self.keeper.start(&"tester".into(), |stop| Ok((facts(), Fake(make(stop))))).unwrap()
    }

    fn reply(&mut self) -> ScriptReply {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match self.replies.try_recv() {
                Ok(reply) => return reply,
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_micros(200)),
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }
}

fn tick(n: u64) -> ScriptCall {
    ScriptCall { id: CallId(n), plugin: PluginIx(3), at: Duration::from_secs(n), ask: Ask::Tick }
}

fn spin(stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
}

#[test]
fn a_question_comes_back_answered_with_its_number() {
    let mut room = Room::new();
    let plugin = room.fake(|_| |_: &ScriptCall| Ok(ScriptAnswer::default()));
    for n in 0..100 {
        plugin.ask(tick(n)).unwrap();
        let reply = room.reply();
        assert_eq!(
            (reply.id, reply.plugin, reply.answer),
            (CallId(n), PluginIx(3), Ok(ScriptAnswer::default()))
        );
    }
    let stats = plugin.watch().stats();
    assert_eq!((stats.calls, stats.faults, stats.memory, stats.asleep), (100, 0, 4711, None));
}

#[test]
fn a_call_that_does_not_end_is_stopped_and_its_plugin_is_gone() {
    let mut room = Room::new();
    let plugin = room.fake(|stop| {
        move |call: &ScriptCall| {
            if call.id == CallId(7) {
                spin(&stop);
            }
            Ok(ScriptAnswer::default())
        }
    });
    plugin.ask(tick(1)).unwrap();
    room.reply();
    // The watchdog has gone to sleep by now.
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    plugin.ask(tick(7)).unwrap();
    let Err(ScriptFault::PutToSleep(why)) = room.reply().answer else { panic!("put to sleep") };
    let took = begun.elapsed();
    assert!(why.contains("longer than 10ms"), "{why}");
    assert!(took >= HARD && took < Duration::from_millis(200), "{took:?}: usually 12 ms, more under load");
    until(Duration::from_secs(2), || plugin.ask(tick(8)) == Err(ScriptFault::Asleep));
    assert!(!plugin.is_awake());
    let stats = plugin.watch().stats();
    assert_eq!((stats.calls, stats.faults, stats.slow), (2, 1, 1));
    assert!(stats.worst >= HARD && stats.asleep.is_some(), "{stats:?}");
}

#[test]
fn a_full_queue_is_busy_at_once() {
    let mut room = Room::new();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let plugin = room.fake(move |_| {
        move |_: &ScriptCall| {
            let _ = wait.recv_timeout(Duration::from_millis(9));
            Ok(ScriptAnswer::default())
        }
    });
    let begun = Instant::now();
    let refused = (0..QUEUE as u64 * 3).filter(|n| plugin.ask(tick(*n)) == Err(ScriptFault::Busy)).count();
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(refused >= QUEUE, "{refused}");
    assert_eq!(plugin.watch().stats().busy, refused as u64);
    drop(go);
    room.reply();
}

#[test]
fn a_plugin_that_breaks_takes_nothing_with_it() {
    let mut room = Room::new();
    let plugin = room.fake(|_| |_: &ScriptCall| -> Result<ScriptAnswer, ScriptFault> { panic!("boom") });
    plugin.ask(tick(1)).unwrap();
    let Err(ScriptFault::PutToSleep(why)) = room.reply().answer else { panic!("put to sleep") };
    assert!(why.contains("boom"), "{why}");
    let other = room.fake(|_| |_: &ScriptCall| Ok(ScriptAnswer::default()));
    other.ask(tick(2)).unwrap();
    assert!(room.reply().answer.is_ok());
}

#[test]
fn loading_that_does_not_end_is_stopped_after_a_second() {
    let room = Room::new();
    let begun = Instant::now();
    let started = room.keeper.start(&"tester".into(), |stop| {
        spin(&stop);
        Ok((facts(), Fake(|_: &ScriptCall| Ok(ScriptAnswer::default()))))
    });
    let Err(ScriptFault::PutToSleep(why)) = started else { panic!("{started:?}") };
    assert!(why.contains("to load"), "{why}");
    assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn dropping_a_plugin_ends_its_thread() {
    let room = Room::new();
    let alive = Arc::new(());
    let weak = Arc::downgrade(&alive);
    let plugin = room.fake(move |_| {
        move |_: &ScriptCall| {
            let _ = &alive;
            Ok(ScriptAnswer::default())
        }
    });
    drop(plugin);
    until(Duration::from_secs(2), || weak.upgrade().is_none());
}

fn code(main: &str) -> Code {
    Code {
        manifest: check_manifest("plugin.toml", MANIFEST).unwrap(),
        files: [("main.luau".to_owned(), main.to_owned())].into(),
    }
}

/// Starts a plugin in the real virtual machine.
fn real(keeper: &Keeper, main: &str) -> Plugin {
    let code = code(main);
    let id = PluginId::from("tester");
    let load = move |stop| {
        let vm = Vm::load(&code, Seed::from_u64(1), stop)?;
        Ok((vm.facts(), vm))
    };
    keeper.start(&id, load).unwrap()
}

fn table() -> Table {
    let mut table = Table::new();
    table.rules = Arc::new(compile(&[check_text("minecraft.toml", PROFILE).unwrap()]).unwrap());
    table
}

fn joined(a: &mut Peer, b: &mut Peer) {
    b.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    a.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
}

fn announced(a: &Peer, b: &Peer) -> Vec<String> {
    a.game_sends(Source::Card(CardId(7)), &announcement("192.168.5.2:61000", 25_565));
    let heard = b.heard_for(Duration::from_millis(400));
    let payload = |packet: &[u8]| PacketView::parse(packet).unwrap().payload().to_vec();
    heard.iter().map(|(_, packet)| String::from_utf8(payload(packet)).unwrap()).collect()
}

#[test]
fn a_real_plugin_changes_what_a_real_node_delivers_is_reloaded_and_put_to_sleep() {
    let table = table();
    let (mut a, mut b) = (table.host("alice"), table.guest("bob"));
    let keeper = Keeper::new(HostClock::new(), b.out.replies.clone()).unwrap();
    joined(&mut a, &mut b);
    let plain = announced(&a, &b);
    assert_eq!(plain.len(), 1, "without its plugin the packet goes on");

    let upper = "local plugin = {}\nfunction plugin.on_announcement(b, n, info)\n\
        buffer.writestring(b, 6, \"PLUG\")\nreturn n\nend\nreturn plugin";
    let plugin = real(&keeper, upper);
    let watch = plugin.watch();
    b.out.plugins.blocking_send(PluginNews::Loaded(plugin)).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    let heard = announced(&a, &b);
    assert!(heard.len() == 1 && heard[0].starts_with("[MOTD]PLUG"), "{heard:?}");
    assert!(watch.stats().calls >= 2, "{:?}: the peer and the packet", watch.stats());

    let loops = "local plugin = {}\nfunction plugin.on_announcement(b, n, info)\nwhile true do end\nend\nreturn plugin";
    let plugin = real(&keeper, loops);
    b.out.plugins.blocking_send(PluginNews::Loaded(plugin)).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(announced(&a, &b), plain, "the rule's default");
    let asleep = |e: &Event| matches!(e, Event::Warning(t) if t.code == "plugin_asleep");
    let Some(Event::Warning(trouble)) = b.wait(asleep) else { panic!("it is told") };
    assert!(trouble.message.contains("`tester`"), "{trouble:?}");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(announced(&a, &b), plain);

    let plugin = real(&keeper, upper);
    b.out.plugins.blocking_send(PluginNews::Loaded(plugin)).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(announced(&a, &b)[0].starts_with("[MOTD]PLUG"));
    b.out.plugins.blocking_send(PluginNews::Gone("tester".into())).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(announced(&a, &b), plain);
    assert!(a.leave().is_none() && b.leave().is_none());
}
