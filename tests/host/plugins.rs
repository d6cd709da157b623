//! Plugins of a running node: real threads, real virtual machines, real files, the data loop on loopback; and `run --dev`, which
//! replaces them while packets flow.

use crate::peers::{Peer, Table, announcement};
use lanrage::app::config::layers::{Layers, Variables};
use lanrage::app::config::{Dev, ModeWish, RunConfig};
use lanrage::app::plugins::crew::{Crew, CrewDoor, Ends, choose};
use lanrage::app::plugins::found::gather;
use lanrage::buf::batch::Source;
use lanrage::engine::effect::{HostFact, Knobs};
use lanrage::engine::sink::Delivery;
use lanrage::host::clock::HostClock;
use lanrage::host::entropy;
use lanrage::model::id::CardId;
use lanrage::model::status::{Event, Trouble};
use lanrage::rules::shipped::Catalog;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const MANIFEST: &str = r#"id = "tester"
name = "Tester"
version = "1.0.0"
api = 1
about = "for tests"
authors = ["Ana"]
licence = "MIT"
games = ["minecraft-java"]
[may]
udp = 4445
rewrite = true
"#;

/// Minecraft as it ships, but a plugin is asked about what peers announce.
fn profile() -> String {
    let text = include_str!("../../games/minecraft-java.toml");
    let text = text.replace("plugin = \"minecraft-java\"", "plugin = \"tester\"");
    let asked = text.replace("ask = \"forward\"", "ask = { else = \"forward\", within_ms = 50 }");
    assert!(asked.contains("tester") && asked.contains("within_ms"), "{asked}");
    asked
}

/// The same, and no plugin is asked.
fn plain() -> String {
    let text = include_str!("../../games/minecraft-java.toml");
    text.replace("plugin = \"minecraft-java\"", "").replace("ask = \"forward\"", "")
}

fn code(answer: &str) -> String {
    format!(
        "local plugin = {{}}\nlocal seen = 0\n\
         function plugin.on_announcement(packet, n, info)\n  seen += 1\n  return {answer}\nend\n\
         function plugin.check() return 'seen: ' .. seen end\nreturn plugin\n"
    )
}

struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        desk.write("data/games/mine.toml", &profile());
        desk.write("work/plugin.toml", MANIFEST);
        desk.write("work/main.luau", &code("true"));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn config(&self, dev: bool) -> RunConfig {
        let layers = Layers::fold(None, &Variables::new(), []).unwrap();
        let plugin_dirs = vec![self.path("work")];
        let data_dir = self.path("data");
        let own = || lanrage::app::config::profiles(&layers, &data_dir);
        let (profiles, plugins) = gather(&data_dir, own, dev.then_some(plugin_dirs.as_slice())).unwrap();
        RunConfig { profiles, plugins, dev: dev.then_some(Dev { layers, plugin_dirs }), ..config(&data_dir) }
    }
}

fn config(data: &Path) -> RunConfig {
    RunConfig {
        games: vec!["minecraft".into()],
        join: None,
        name: "tester".into(),
        mode: ModeWish::Lan,
        control: Vec::new(),
        listen: Vec::new(),
        cards: None,
        proxy_protocol: Vec::new(),
        share_lan: false,
        subnet: None,
        adapter: "lanrage0".into(),
        beacon: false,
        port_mapping: false,
        relays: Vec::new(),
        friend_relay: None,
        open: false,
        json: true,
        command: Vec::new(),
        data_dir: data.to_path_buf(),
        knobs: Knobs::default(),
        profiles: Vec::new(),
        fresh: false,
        plugins: lanrage::app::plugins::found::Plugins::default(),
        dev: None,
    }
}

/// Gives a running peer the rules and plugins of a desk, as `run` would.
fn staff(peer: &Peer, config: &RunConfig) -> CrewDoor {
    let (chosen, rules) = choose(&Catalog::new(config.profiles.iter().cloned()), &config.games).unwrap();
    let ends = Ends {
        news: peer.out.plugins.clone(),
        facts: peer.out.facts.clone(),
        events: peer.out.event_door.clone(),
        replies: peer.out.replies.clone(),
        board: peer.out.board.clone(),
    };
    let rules = Arc::new(rules);
    peer.out.facts.blocking_send(HostFact::Rules(Arc::clone(&rules))).unwrap();
    let seed = entropy::seed().unwrap();
    Crew::start(config, (chosen, &rules), (HostClock::new(), seed), ends).unwrap().spawn().unwrap()
}

/// How many announcements come out at the other end, of three.
fn heard(a: &Peer, b: &Peer) -> usize {
    drop(b.heard_for(Duration::from_millis(50)));
    for _ in 0..3 {
        a.game_sends(Source::Card(CardId(7)), &announcement("192.168.5.2:61000", 25565));
        std::thread::sleep(Duration::from_millis(150));
    }
    let heard = b.heard_for(Duration::from_millis(500));
    heard.iter().filter(|(how, _)| *how == Delivery::Group).count()
}

fn broken(peer: &mut Peer, words: &str) -> Trouble {
    let like = |e: &Event| matches!(e, Event::Warning(t) if t.code == "reload_broken");
    let Some(Event::Warning(trouble)) = peer.wait(like) else { panic!("{words}: no warning") };
    assert!(trouble.message.contains(words), "{words}: {trouble:?}");
    trouble
}

fn reloaded(peer: &mut Peer) -> (String, Vec<String>) {
    match peer.wait(|e| matches!(e, Event::Reloaded { .. } | Event::Warning(_))) {
        Some(Event::Reloaded { what, replayed }) => (what, replayed),
        other => panic!("not reloaded: {other:?}"),
    }
}

#[test]
fn what_is_edited_is_taken_over_when_it_is_good_and_the_old_goes_on_when_it_is_not() {
    let (table, desk) = (Table::new(), Desk::new());
    let (mut a, mut b) = (table.host("alice"), table.guest("bob"));
    b.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    a.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    let crew = staff(&b, &desk.config(true));
    let Some(Event::Plugin(plugin)) = b.wait(|e| matches!(e, Event::Plugin(_))) else { panic!("told") };
    assert_eq!((plugin.origin.as_str(), plugin.state.as_str()), ("development", "ok"));
    assert!(plugin.may[0].contains("UDP 4445"), "{plugin:?}");
    assert_eq!(heard(&a, &b), 3, "the plugin lets them through: {:#?}", b.status().counters);

    // Broken code: told with its line, and nothing changes.
    desk.write("work/main.luau", "local plugin = {}\nreturn plugin +");
    broken(&mut b, "main.luau:2");
    assert_eq!(heard(&a, &b), 3);
    // So is code that hangs at its first line, and a manifest that asks for nonsense.
    desk.write("work/main.luau", "while true do end");
    broken(&mut b, "tester");
    desk.write("work/main.luau", &code("true"));
    desk.write("work/plugin.toml", &MANIFEST.replace("api = 1", "api = 7"));
    broken(&mut b, "plugin.toml:4:");
    desk.write("work/plugin.toml", MANIFEST);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(heard(&a, &b), 3);

    // Good code: the last packets are shown, before and after, and the next ones get the new answer.
    desk.write("work/main.luau", &code("false"));
    let (what, replayed) = reloaded(&mut b);
    assert!(what.contains("plugin tester 1.0.0") && what.contains("packets replayed"), "{what}");
    assert!(replayed.len() >= 9, "{replayed:?}");
    for line in &replayed {
        assert!(line.starts_with("on_announcement 10.99.98."), "{line}");
        assert!(line.ends_with(": forward → drop"), "{line}");
    }
    assert_eq!(heard(&a, &b), 0, "{:#?}", b.status().counters);

    // A broken profile keeps the rules; a good one without the question lets everything through again.
    desk.write("data/games/mine.toml", &profile().replace("\nkind =", "\nkidn ="));
    broken(&mut b, "mine.toml:");
    assert_eq!(heard(&a, &b), 0);
    desk.write("data/games/mine.toml", &plain());
    let (what, _) = reloaded(&mut b);
    assert!(what.contains("profile minecraft-java"), "{what}");
    assert_eq!(heard(&a, &b), 3);
    assert!(b.status().plugins.is_empty());
    crew.stop();
    assert!(a.leave().is_none() && b.leave().is_none());
}

#[test]
fn check_asks_the_plugin_that_runs_and_status_shows_it() {
    let (table, desk) = (Table::new(), Desk::new());
    let (mut a, mut b) = (table.host("alice"), table.guest("bob"));
    b.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    a.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    let crew = staff(&b, &desk.config(true));
    assert_eq!(heard(&a, &b), 3);
    let runtime = lanrage::host::threads::data_runtime().unwrap();
    let said = runtime.block_on(crew.check());
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].id.as_str(), said[0].state.as_str()), ("tester", "ok"));
    assert_eq!(said[0].said.as_deref(), Some("seen: 3"), "its own state, not that of another machine");
    let status = b.status();
    assert_eq!((status.plugins.len(), status.plugins[0].state.as_str()), (1, "ok"));
    assert_eq!(serde_json::to_value(&status).unwrap()["plugins"][0]["id"], "tester");
    crew.stop();
}

#[test]
fn a_missing_or_changed_plugin_is_told_and_its_game_runs_without_it() {
    for (place, code, state) in
        [("work", "plugin_missing", "missing"), ("data/plugins/tester", "plugin_not_agreed", "refused")]
    {
        let (table, desk) = (Table::new(), Desk::new());
        std::fs::create_dir_all(desk.path("data/plugins")).unwrap();
        if place != "work" {
            std::fs::rename(desk.path("work"), desk.path(place)).unwrap();
        }
        let (mut a, mut b) = (table.host("alice"), table.guest("bob"));
        b.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
        a.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
        let crew = staff(&b, &desk.config(false));
        let Some(Event::Warning(told)) = b.wait(|e| matches!(e, Event::Warning(_))) else { panic!("told") };
        assert_eq!(told.code, code);
        assert!(told.hint.contains("lanrage plugin add"), "{told:?}");
        assert_eq!(heard(&a, &b), 3, "{:#?}", b.status().counters);
        assert_eq!(b.status().plugins[0].state, state);
        // Without --dev a change is told, not taken over.
        desk.write("data/games/mine.toml", "nonsense");
        let like = |e: &Event| matches!(e, Event::Warning(t) if t.code == "restart_needed");
        assert!(b.wait(like).is_some());
        assert_eq!(heard(&a, &b), 3);
        crew.stop();
    }
}
