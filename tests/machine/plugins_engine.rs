//! What plugins do to packets, as the engine sees it: the test answers for them. Every packet waits for its own answer only,
//! no answer does more than the manifest allows, and without one the rule's default holds.
//!
//! Size: one table of nodes and plugins for all stories about them.

use crate::support::{Party, udp};
use lanrage::engine::counters::{Count, DropReason};
use lanrage::engine::effect::HostFact;
use lanrage::engine::tunnel::noise::Noise;
use lanrage::model::id::PeerId;
use lanrage::model::script::{
    Ask, Capabilities, Hook, Hooks, PluginFacts, PluginIx, ScriptAnswer, ScriptCall, ScriptFault, ScriptGame,
    ScriptOpen, ScriptPacket, ScriptReply, ScriptSend, Teach, Verdict,
};
use lanrage::model::status::Event;
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::rules::ruleset::Ruleset;
use std::sync::Arc;
use std::time::Duration;

const PROFILE: &str = r#"
id = "tester"
name = "Tester"
plugin = "tester"
processes = ["tester"]
evidence = "documented"
tested_on = ["nothing"]

[play]
tcp = 25565
udp = 27960
join = "tcp"

[[rule]]
kind = "announcement"
port = 4445
match = { text = "world " }
title = { between = ["world ", ";"] }
game_port = { between = ["port=", ";"] }
ask = ASK

[[rule]]
kind = "query"
port = 27960
match = { text = "query" }
pace = { per_second = 1000, burst = 1000 }
ask = { else = "drop", within_ms = 10 }

[[rule]]
kind = "answer"
from_port = 27960
match = { text = "answer" }
ask = "forward"
"#;

fn rules(ask: &str) -> Arc<Ruleset> {
    let profile = check_text("tester.toml", &PROFILE.replace("ASK", ask)).unwrap_or_else(|e| panic!("{e:?}"));
    Arc::new(compile(&[profile]).unwrap())
}

fn facts() -> PluginFacts {
    let hooks =
        [Hook::Announcement, Hook::Query, Hook::Answer].into_iter().fold(Hooks::default(), Hooks::with);
    PluginFacts {
        id: "tester".into(),
        hooks,
        may: Capabilities {
            udp: vec![4445..=4445, 27960..=27963],
            tcp: vec![25_565..=25_600],
            groups: vec!["224.0.2.60".parse().unwrap()],
            rewrite: true,
            send: true,
        },
        calls_per_second: 2000,
        bytes_per_second: 20_000,
    }
}

/// Three nodes; the first announces, all ask their plugin.
struct Table(Party<Noise>);

impl Table {
    fn new(ask: &str, facts: &PluginFacts) -> Self {
        let mut party = Party::scripted(3, &rules(ask), std::slice::from_ref(facts));
        party.run(Duration::from_secs(3));
        let mut table = Self(party);
        for i in 0..3 {
            table.members_heard(i);
        }
        table
    }

    /// What was told about members is taken note of.
    fn members_heard(&mut self, i: usize) -> Vec<Ask> {
        let calls = std::mem::take(&mut self.0.seats[i].asked);
        let (told, rest): (Vec<_>, Vec<_>) = calls
            .into_iter()
            .partition(|c| matches!(c.ask, Ask::PeerJoined(_) | Ask::PeerLeft(_) | Ask::Tick));
        self.0.seats[i].asked = rest;
        for call in &told {
            self.reply(i, call, Ok(ScriptAnswer::default()));
        }
        told.into_iter().map(|c| c.ask).collect()
    }

    fn reply(&mut self, i: usize, call: &ScriptCall, answer: Result<ScriptAnswer, ScriptFault>) {
        let party = &mut self.0;
        let reply = ScriptReply { id: call.id, plugin: call.plugin, answer };
        let seat = &mut party.seats[i];
        seat.node.handle_reply(reply, party.now, &mut party.wire, &mut seat.games);
        party.drain(i);
        party.deliver(i);
    }

    /// The one packet that node `i`'s plugin is asked about.
    fn asked(&mut self, i: usize) -> (ScriptCall, Hook, ScriptPacket) {
        self.members_heard(i);
        let calls = std::mem::take(&mut self.0.seats[i].asked);
        assert_eq!(calls.len(), 1, "{calls:?}");
        let call = calls.into_iter().next().unwrap();
        let Ask::Packet(hook, packet) = call.ask.clone() else { panic!("{call:?}") };
        (call, hook, *packet)
    }

    fn unasked(&mut self, i: usize) -> bool {
        self.members_heard(i);
        self.0.seats[i].asked.is_empty()
    }

    fn announce(&mut self, text: &str) {
        self.0.say(0, Some(2), &udp("198.51.1.1:51000", "255.255.255.255:4445", text.as_bytes()));
    }

    fn query(&mut self, i: usize, text: &str) {
        let source = format!("198.51.{}.1:50{}", i + 1, 100 + i);
        self.0.say(i, Some(2), &udp(&source, "255.255.255.255:27960", text.as_bytes()));
    }

    /// Payloads that node `i`'s games got.
    fn heard(&mut self, i: usize) -> Vec<String> {
        self.0.heard(i).into_iter().map(|(_, _, p, _)| String::from_utf8(p).unwrap()).collect()
    }

    fn count(&self, i: usize, what: Count) -> u64 {
        self.0.seats[i].node.counters().count(what)
    }

    fn dropped(&self, i: usize, why: DropReason) -> u64 {
        self.0.seats[i].node.counters().dropped(why)
    }

    fn peer(&self, i: usize) -> PeerId {
        let status = self.0.seats[i].node.status(self.0.now);
        status.peer
    }

    fn warnings(&self, i: usize, code: &str) -> Vec<String> {
        let mut told = Vec::new();
        for event in &self.0.seats[i].events {
            if let Event::Warning(trouble) = event
                && trouble.code == code
            {
                told.push(trouble.message.clone());
            }
        }
        told
    }

    fn run_ms(&mut self, ms: u64) {
        self.0.run(Duration::from_millis(ms));
    }
}

fn verdict(verdict: Verdict) -> ScriptAnswer {
    ScriptAnswer { verdict, ..ScriptAnswer::default() }
}

fn replace(text: &str) -> ScriptAnswer {
    verdict(Verdict::Replace(text.as_bytes().to_vec()))
}

const A: &str = "world one;port=25570;";

#[test]
fn a_packet_waits_on_the_receiving_side_and_goes_on_with_the_plugins_bytes() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    assert!(t.unasked(0), "the sender's plugin is not asked by default");
    let (call, hook, packet) = t.asked(1);
    assert_eq!((hook, packet.payload.as_slice()), (Hook::Announcement, A.as_bytes()));
    assert_eq!(packet.peer, Some(t.peer(0)));
    assert_eq!(packet.from, (t.0.address(0), 51_000).into());
    assert_eq!((packet.me, packet.game.to_string()), (t.0.address(1), "tester".to_owned()));
    assert_eq!(t.heard(1), [""; 0]);
    let longer = format!("world two;port=25570;{}", "x".repeat(700));
    t.reply(1, &call, Ok(replace(&longer)));
    assert_eq!(
        t.heard(1),
        [longer],
        "with lengths and checksums right, or the test's parser would refuse it"
    );
    assert_eq!(t.count(1, Count::PluginReplaced), 1);
}

#[test]
fn dropped_is_dropped_and_no_game_is_listed_for_it() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (call, ..) = t.asked(1);
    t.reply(1, &call, Ok(verdict(Verdict::Drop)));
    assert_eq!((t.heard(1), t.dropped(1, DropReason::PluginDrop)), (vec![], 1));
    assert!(t.0.seats[1].node.status(t.0.now).games.is_empty());
    t.run_ms(100);
    assert_eq!(t.heard(1), [""; 0]);
}

#[test]
fn without_an_answer_the_rules_default_holds_at_the_deadline_and_a_late_answer_still_teaches() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (call, ..) = t.asked(1);
    t.run_ms(4);
    assert_eq!(t.heard(1), [""; 0]);
    t.run_ms(1);
    assert_eq!(t.heard(1), [A], "five milliseconds are the default");
    assert_eq!((t.count(1, Count::PluginLate), t.count(1, Count::PluginDefaults)), (1, 1));
    let teach = Some(Teach { life: Duration::from_secs(60), same_bytes: true });
    t.reply(1, &call, Ok(ScriptAnswer { teach, ..replace("world late;port=1;") }));
    assert_eq!(t.heard(1), [""; 0], "the packet itself is long gone");
    t.run_ms(1000);
    t.announce(A);
    assert!(t.unasked(1));
    assert_eq!(t.heard(1), ["world late;port=1;"]);
    assert_eq!(t.count(1, Count::PluginTaught), 1);

    t.query(2, "query 1");
    t.asked(0);
    t.run_ms(10);
    assert_eq!((t.heard(0).len(), t.dropped(0, DropReason::PluginDefault)), (0, 1), "else = \"drop\"");
}

#[test]
fn what_was_taught_needs_no_question_until_it_runs_out() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (call, ..) = t.asked(1);
    let teach = Some(Teach { life: Duration::from_secs(3), same_bytes: false });
    t.reply(1, &call, Ok(ScriptAnswer { teach, ..ScriptAnswer::default() }));
    t.run_ms(1000);
    t.announce("world other;port=25571;");
    assert!(t.unasked(1));
    assert_eq!(t.heard(1), [A, "world other;port=25571;"]);
    t.run_ms(2500);
    t.announce(A);
    t.asked(1);
}

#[test]
fn a_replacement_cannot_be_taught_for_other_bytes() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (call, ..) = t.asked(1);
    let teach = Some(Teach { life: Duration::from_secs(3), same_bytes: false });
    t.reply(1, &call, Ok(ScriptAnswer { teach, ..replace("world x;port=25565;") }));
    assert_eq!(t.heard(1), ["world x;port=25565;"]);
    t.run_ms(1000);
    t.announce("world other;port=25571;");
    t.asked(1);
    assert_eq!(t.count(1, Count::PluginRefused), 1);
}

#[test]
fn packets_of_a_flow_keep_their_order_and_others_wait_for_nobody() {
    let mut t = Table::new("\"forward\"", &facts());
    for n in 1..=2 {
        t.query(1, &format!("query {n}"));
    }
    t.query(2, "query other");
    t.members_heard(0);
    let calls = std::mem::take(&mut t.0.seats[0].asked);
    assert_eq!(calls.len(), 3);
    t.reply(0, &calls[1], Ok(ScriptAnswer::default()));
    assert_eq!(t.heard(0), [""; 0], "the second of a flow waits for the first");
    t.reply(0, &calls[2], Ok(ScriptAnswer::default()));
    assert_eq!(t.heard(0), ["query other"]);
    let (from, to) = (format!("{}:4000", t.0.address(1)), format!("{}:27960", t.0.address(0)));
    t.0.say(1, None, &udp(&from, &to, b"playing"));
    assert_eq!(t.heard(0), ["playing"], "a game's own packets wait for no plugin");
    t.reply(0, &calls[0], Ok(ScriptAnswer::default()));
    assert_eq!(t.heard(0), ["query 1", "query 2"]);
}

#[test]
fn what_needs_no_question_does_not_overtake_what_waits() {
    let mut slow = facts();
    slow.calls_per_second = 1;
    let mut t = Table::new("\"forward\"", &slow);
    t.announce(A);
    let (call, ..) = t.asked(1);
    t.announce("world b;port=25570;");
    assert!(t.unasked(1), "no token is left");
    assert_eq!(t.heard(1), [""; 0]);
    t.reply(1, &call, Ok(ScriptAnswer::default()));
    assert_eq!(t.heard(1), [A, "world b;port=25570;"]);
    assert_eq!(t.count(1, Count::PluginBusy), 1);
}

#[test]
fn on_the_games_side_only_named_peers_get_it_and_only_who_would_have_got_it() {
    let mut t = Table::new("{ else = \"forward\", side = \"game\" }", &facts());
    t.announce(A);
    let (call, _, packet) = t.asked(0);
    assert_eq!((packet.peer, packet.from), (None, (t.0.address(0), 51_000).into()));
    let to = Some(vec![t.peer(2), PeerId([9; 10])]);
    t.reply(0, &call, Ok(ScriptAnswer { to, ..ScriptAnswer::default() }));
    assert!(t.unasked(1) && t.unasked(2));
    assert_eq!((t.heard(1), t.heard(2)), (vec![], vec![A.to_owned()]));
}

#[test]
fn a_change_on_the_games_side_opens_no_port_that_the_game_did_not_name() {
    let mut t = Table::new("{ else = \"forward\", side = \"game\" }", &facts());
    t.announce(A);
    let (call, ..) = t.asked(0);
    t.reply(0, &call, Ok(replace("world one;port=5555;")));
    assert_eq!(t.heard(1), ["world one;port=5555;"]);
    assert!(!syn(&mut t, 1, 0, 5555), "what the plugin said");
    assert_eq!(t.dropped(0, DropReason::PortClosedIn), 1, "the other side believed it");
}

/// Whether a TCP connection from one to another begins.
fn syn(t: &mut Table, from: usize, to: usize, port: u16) -> bool {
    let (a, b) = (format!("{}:40000", t.0.address(from)), format!("{}:{port}", t.0.address(to)));
    let mut packet = udp(&a, &b, &[0; 12]);
    packet[9] = 6;
    packet[20 + 4..20 + 8].copy_from_slice(&[0, 0, 0, 1]);
    packet[20 + 12] = 0x50;
    packet[20 + 13] = 0x02;
    lanrage::wire::packet::fix_checksums(&mut packet);
    t.0.heard(to);
    t.0.say(from, None, &packet);
    !t.0.heard(to).is_empty()
}

#[test]
fn a_port_that_a_plugin_opens_lets_a_connection_in_and_only_for_a_while() {
    let mut t = Table::new("\"forward\"", &facts());
    assert!(!syn(&mut t, 1, 0, 25_580));
    let open = |peer, port, life| ScriptOpen { peer, tcp: true, port, life: Duration::from_secs(life) };
    // The host's plugin opens it to the party, the client's plugin towards the host.
    t.query(1, "query 1");
    let (call, ..) = t.asked(0);
    t.reply(0, &call, Ok(ScriptAnswer { open: vec![open(None, 25_580, 20)], ..ScriptAnswer::default() }));
    t.announce(A);
    let (call, ..) = t.asked(1);
    let there = open(Some(t.peer(0)), 25_580, 20);
    t.reply(1, &call, Ok(ScriptAnswer { open: vec![there], ..ScriptAnswer::default() }));
    assert!(syn(&mut t, 1, 0, 25_580));
    assert!(!syn(&mut t, 1, 0, 25_581));
    assert_eq!((t.count(0, Count::PluginOpens), t.count(1, Count::PluginOpens)), (1, 1));
    t.run_ms(21_000);
    assert!(!syn(&mut t, 2, 0, 25_580), "the lease is over");
}

#[test]
fn what_the_manifest_does_not_allow_is_refused_and_told_once() {
    let mut poor = facts();
    poor.may = Capabilities { udp: vec![4445..=4445], ..Capabilities::default() };
    let mut t = Table::new("\"forward\"", &poor);
    let peer = t.peer(0);
    for n in 0..3 {
        t.announce(A);
        let (call, ..) = t.asked(1);
        let send = ScriptSend {
            as_peer: Some(peer),
            to: None,
            group: None,
            from_port: 4445,
            to_port: 4445,
            payload: b"world forged;port=1;".to_vec(),
        };
        let open = ScriptOpen { peer: None, tcp: true, port: 25_580, life: Duration::from_secs(60) };
        let answer = ScriptAnswer { sends: vec![send], open: vec![open], ..replace("world bad;port=5000;") };
        t.reply(1, &call, Ok(answer));
        assert_eq!(t.heard(1), [A], "round {n}: the rule's default");
        t.run_ms(1000);
    }
    assert_eq!(t.count(1, Count::PluginRefused), 9);
    assert_eq!((t.count(1, Count::PluginSends), t.count(1, Count::PluginOpens)), (0, 0));
    let told = t.warnings(1, "plugin_refused");
    assert_eq!(told.len(), 3, "{told:?}");
    for key in ["may.rewrite", "may.send", "may.tcp"] {
        assert_eq!(told.iter().filter(|m| m.contains(key) && m.contains("`tester`")).count(), 1, "{told:?}");
    }
    // Packets whose ports are not among its own are not even shown to it.
    t.query(0, "query 1");
    assert!(t.unasked(1));
    assert_eq!(t.heard(1), [""; 0], "else = \"drop\"");
    assert_eq!(t.warnings(1, "plugin_refused").len(), 4);
}

#[test]
fn an_answer_that_is_too_long_or_opens_a_systems_port_is_refused() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (call, ..) = t.asked(1);
    t.reply(1, &call, Ok(verdict(Verdict::Replace(vec![b'x'; 1373]))));
    assert_eq!((t.heard(1), t.count(1, Count::PluginRefused)), (vec![A.to_owned()], 1));
    let mut greedy = facts();
    greedy.may.tcp = vec![0..=65_535];
    let mut t = Table::new("\"forward\"", &greedy);
    t.announce(A);
    let (call, ..) = t.asked(1);
    let open = ScriptOpen { peer: None, tcp: true, port: 22, life: Duration::from_secs(60) };
    t.reply(1, &call, Ok(ScriptAnswer { open: vec![open], ..ScriptAnswer::default() }));
    assert_eq!(t.count(1, Count::PluginOpens), 0);
    assert!(!syn(&mut t, 0, 1, 22));
}

fn send(to: Option<Vec<PeerId>>, from_port: u16, to_port: u16, text: &str) -> ScriptSend {
    let payload = text.as_bytes().to_vec();
    ScriptSend { as_peer: None, to, group: None, from_port, to_port, payload }
}

#[test]
fn a_plugins_own_packet_goes_to_the_party_as_the_games_and_is_asked_about_nowhere_here() {
    let mut t = Table::new("\"forward\"", &facts());
    t.query(1, "query 1");
    t.asked(2);
    let (call, ..) = t.asked(0);
    let sends = vec![send(None, 4445, 4445, "world mine;port=25565;"), send(None, 4445, 4445, "nonsense")];
    t.reply(0, &call, Ok(ScriptAnswer { sends, ..ScriptAnswer::default() }));
    assert!(t.unasked(0));
    assert_eq!(t.heard(0), ["query 1"]);
    assert_eq!((t.count(0, Count::PluginSends), t.dropped(0, DropReason::NotAGame)), (1, 1));
    for i in [1, 2] {
        let (call, _, packet) = t.asked(i);
        assert_eq!(packet.from, (t.0.address(0), 4445).into());
        t.reply(i, &call, Ok(ScriptAnswer::default()));
        assert_eq!(t.heard(i), ["world mine;port=25565;"]);
    }
    assert!(!syn(&mut t, 1, 0, 25_566), "an announcement that only the plugin made opens nothing");
}

#[test]
fn a_plugin_answers_one_peer_as_its_game_would() {
    let mut t = Table::new("\"forward\"", &facts());
    t.query(1, "query 1");
    let (call, _, packet) = t.asked(0);
    let sends = vec![send(Some(vec![t.peer(1)]), 27_960, packet.from.port(), "answer of the plugin")];
    t.reply(0, &call, Ok(ScriptAnswer { sends, ..verdict(Verdict::Drop) }));
    assert_eq!(t.heard(0), [""; 0]);
    let (call, hook, packet) = t.asked(1);
    assert_eq!((hook, packet.from), (Hook::Answer, (t.0.address(0), 27_960).into()));
    t.reply(1, &call, Ok(ScriptAnswer::default()));
    assert_eq!(t.heard(1), ["answer of the plugin"]);
    assert_eq!(t.asked(2).1, Hook::Query, "the third heard the question only");
}

#[test]
fn a_plugin_speaks_to_the_own_game_as_a_peer_but_only_to_ports_that_are_its_own_or_asked() {
    let mut t = Table::new("{ else = \"forward\", side = \"game\" }", &facts());
    t.announce(A);
    let (call, ..) = t.asked(0);
    let as_peer = Some(t.peer(1));
    let to_game = |to_port| ScriptSend { as_peer, ..send(None, 27_960, to_port, "answer for you") };
    t.reply(
        0,
        &call,
        Ok(ScriptAnswer { sends: vec![to_game(27_961), to_game(9999)], ..ScriptAnswer::default() }),
    );
    let got = t.0.heard(0);
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0].0, (t.0.address(1), 27_960).into());
    assert_eq!(got[0].1, (t.0.address(0), 27_961).into());
    assert_eq!(t.warnings(0, "plugin_refused").len(), 1);
    // The game asked from there, so an answer is expected.
    t.0.say(0, Some(2), &udp("198.51.1.1:9999", "255.255.255.255:27960", b"query 2"));
    t.run_ms(1000);
    t.announce(A);
    let (call, ..) = t.asked(0);
    t.reply(0, &call, Ok(ScriptAnswer { sends: vec![to_game(9999)], ..ScriptAnswer::default() }));
    assert_eq!(t.heard(0), ["answer for you"]);
    // Its echo on a card is known.
    let echo = udp(&format!("{}:27960", t.0.address(1)), "255.255.255.255:27960", b"query 9");
    let before = t.count(0, Count::DiscoverySent);
    t.0.say(0, Some(2), &echo);
    assert_eq!(t.count(0, Count::DiscoverySent), before);
}

#[test]
fn a_flood_of_a_plugins_own_packets_is_held_to_its_pace() {
    let mut t = Table::new("\"forward\"", &facts());
    let mut sent = 0;
    for _ in 0..100 {
        t.query(1, "query 1");
        let (call, ..) = t.asked(0);
        let text = format!("world {};port=25565;", "x".repeat(900));
        let sends = (0..100).map(|_| send(Some(vec![t.peer(2)]), 4445, 4445, &text)).collect();
        t.reply(0, &call, Ok(ScriptAnswer { sends, ..ScriptAnswer::default() }));
        sent = t.count(0, Count::PluginSends);
        t.run_ms(10);
    }
    assert!((20..=45).contains(&sent), "{sent}: 20,000 bytes a second and one burst of as much");
    assert!(t.count(0, Count::PluginPace) > 9000);
}

#[test]
fn unicast_answers_wait_like_everything_else_that_asks() {
    let mut t = Table::new("\"forward\"", &facts());
    t.query(1, "query 1");
    let (call, ..) = t.asked(0);
    t.reply(0, &call, Ok(ScriptAnswer::default()));
    assert_eq!(t.heard(0), ["query 1"]);
    let (from, to) = (format!("{}:27960", t.0.address(0)), format!("{}:50101", t.0.address(1)));
    t.0.say(0, None, &udp(&from, &to, b"answer 1"));
    assert_eq!(t.heard(1), [""; 0]);
    let (call, hook, _) = t.asked(1);
    assert_eq!(hook, Hook::Answer);
    t.reply(1, &call, Ok(replace("answer 1, changed")));
    assert_eq!(t.heard(1), ["answer 1, changed"]);
}

#[test]
fn asleep_is_told_once_with_its_reason_and_nothing_waits_any_more() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (call, ..) = t.asked(1);
    t.query(0, "query 1");
    let (second, ..) = t.asked(1);
    t.reply(1, &call, Err(ScriptFault::PutToSleep("main.luau:3: it\nloops \u{202e}".into())));
    t.reply(1, &second, Err(ScriptFault::Asleep));
    assert_eq!(t.heard(1), [A]);
    let told = t.warnings(1, "plugin_asleep");
    assert_eq!(told, ["the plugin `tester` was put to sleep: main.luau:3: it loops"]);
    t.run_ms(1000);
    t.announce(A);
    assert!(t.unasked(1));
    assert_eq!(t.heard(1), [A], "at once");
    // Started again by the player.
    let facts: Arc<[_]> = vec![Some(facts())].into();
    let now = t.0.now;
    t.0.seats[1].node.handle_fact(HostFact::Plugins(facts), now);
    t.0.drain(1);
    let told = t.members_heard(1);
    assert_eq!(
        told.iter().filter(|a| matches!(a, Ask::PeerJoined(_))).count(),
        2,
        "it hears of everybody anew"
    );
    t.run_ms(1000);
    t.announce(A);
    t.asked(1);
}

#[test]
fn a_failure_costs_only_its_own_packet_and_is_told() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (call, ..) = t.asked(1);
    t.reply(1, &call, Err(ScriptFault::Failed("plugin `tester`: main.luau:7: attempt to index nil".into())));
    assert_eq!(t.heard(1), [A]);
    assert_eq!(t.warnings(1, "plugin_failed").len(), 1);
    t.run_ms(1000);
    t.announce(A);
    t.asked(1);
}

#[test]
fn answers_that_nobody_asked_for_do_nothing() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (mut call, ..) = t.asked(1);
    let open = ScriptOpen { peer: None, tcp: true, port: 25_580, life: Duration::from_secs(60) };
    let greedy = ScriptAnswer { open: vec![open], ..replace("world no;port=1;") };
    call.plugin = PluginIx(7);
    t.reply(1, &call, Ok(greedy.clone()));
    call.plugin = PluginIx(0);
    call.id.0 += 1000;
    t.reply(1, &call, Ok(greedy.clone()));
    assert_eq!((t.heard(1), t.count(1, Count::PluginOpens)), (vec![], 0));
    call.id.0 -= 1000;
    t.reply(1, &call, Ok(ScriptAnswer::default()));
    t.reply(1, &call, Ok(greedy));
    assert_eq!((t.heard(1), t.count(1, Count::PluginOpens)), (vec![A.to_owned()], 0), "one answer each");
}

#[test]
fn one_peer_does_not_fill_the_waiting_room() {
    let mut t = Table::new("\"forward\"", &facts());
    for n in 0..200 {
        t.query(1, &format!("query {n}"));
    }
    t.query(2, "query other");
    t.members_heard(0);
    let asked = std::mem::take(&mut t.0.seats[0].asked);
    let of = |address: std::net::IpAddr| {
        let from = |c: &&ScriptCall| matches!(&c.ask, Ask::Packet(_, p) if p.from.ip() == address);
        asked.iter().filter(from).count()
    };
    assert_eq!((of(t.0.address(1).into()), of(t.0.address(2).into())), (16, 1));
    t.run_ms(10);
    assert!(t.0.seats[0].node.deadline().is_some());
}

#[test]
fn plugins_hear_who_comes_and_goes_and_that_time_passes() {
    let mut ticking = facts();
    ticking.hooks = ticking.hooks.with(Hook::Tick);
    let mut party = Party::<Noise>::scripted(2, &rules("\"forward\""), &[ticking]);
    party.run(Duration::from_secs(5));
    let mut t = Table(party);
    let told = t.members_heard(0);
    let Some(Ask::PeerJoined(peer)) = told.iter().find(|a| matches!(a, Ask::PeerJoined(_))) else {
        panic!("{told:?}")
    };
    assert_eq!((peer.id, peer.name.as_str(), peer.address), (t.peer(1), "player1", t.0.address(1)));
    assert_eq!(told.iter().filter(|a| matches!(a, Ask::PeerJoined(_))).count(), 1);
    assert!(told.iter().filter(|a| **a == Ask::Tick).count() >= 1);
    for _ in 0..5 {
        t.run_ms(1000);
        assert_eq!(t.members_heard(0), [Ask::Tick]);
    }
    // A tick that is not answered is not followed by a second one.
    t.run_ms(1500);
    assert_eq!(t.0.seats[0].asked.len(), 1);
    t.members_heard(0);
    let now = t.0.now;
    let party = &mut t.0;
    let seat = &mut party.seats[1];
    seat.node.handle_command(lanrage::model::command::Command::Leave, now, &mut party.wire);
    party.drain(1);
    party.deliver(1);
    let told = t.members_heard(0);
    assert!(told.contains(&Ask::PeerLeft(t.peer(1))), "{told:?}");
}

#[test]
fn who_could_not_be_told_of_somebody_is_told_again() {
    let mut party = Party::<Noise>::scripted(2, &rules("\"forward\""), &[facts()]);
    while party.seats[0].asked.is_empty() {
        party.run(Duration::from_millis(50));
        assert!(party.now.mono.0 < Duration::from_secs(9));
    }
    let mut t = Table(party);
    let calls = std::mem::take(&mut t.0.seats[0].asked);
    assert_eq!(calls.len(), 1);
    t.reply(0, &calls[0], Err(ScriptFault::Busy));
    t.run_ms(400);
    assert!(t.0.seats[0].asked.is_empty());
    t.run_ms(200);
    assert_eq!(t.members_heard(0).len(), 1);
    t.run_ms(5000);
    assert!(t.0.seats[0].asked.is_empty());
}

fn describing() -> PluginFacts {
    let mut facts = facts();
    facts.hooks = Hooks::default().with(Hook::Describe);
    facts
}

#[test]
fn a_plugin_reads_each_wording_once_and_the_list_shows_what_it_says() {
    let mut t = Table::new("\"forward\"", &describing());
    t.announce(A);
    let (call, hook, _) = t.asked(1);
    assert_eq!(hook, Hook::Describe);
    assert_eq!(
        t.heard(1),
        [A],
        "the packet itself does not wait for that, and without the hook nobody is asked"
    );
    let game =
        ScriptGame { title: "Siege\u{7} of  Rome".into(), port: Some(25_590), ..ScriptGame::default() };
    t.reply(1, &call, Ok(ScriptAnswer { describes: Some(game), ..ScriptAnswer::default() }));
    let list = t.0.seats[1].node.status(t.0.now).games;
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!((list[0].title.as_str(), list[0].address.port()), ("Siege  of  Rome", 25_590));
    t.run_ms(1000);
    t.announce(A);
    assert!(t.unasked(1), "the same words");
    t.run_ms(1000);
    t.announce("world two;port=25571;");
    let (call, ..) = t.asked(1);
    t.reply(1, &call, Err(ScriptFault::Late));
    let list = t.0.seats[1].node.status(t.0.now).games;
    assert!(list.iter().any(|g| g.title == "two" && g.address.port() == 25_571), "{list:?}");
}

#[test]
fn a_port_that_a_plugin_reads_in_the_own_games_words_is_open_to_the_party() {
    let mut t = Table::new("\"forward\"", &describing());
    t.announce(A);
    let (call, ..) = t.asked(0);
    let game = ScriptGame { port: Some(25_599), ..ScriptGame::default() };
    t.reply(0, &call, Ok(ScriptAnswer { describes: Some(game.clone()), ..ScriptAnswer::default() }));
    let (call, ..) = t.asked(1);
    t.reply(1, &call, Ok(ScriptAnswer { describes: Some(game), ..ScriptAnswer::default() }));
    assert!(syn(&mut t, 1, 0, 25_599));
    let game = ScriptGame { port: Some(4000), ..ScriptGame::default() };
    t.run_ms(1000);
    t.announce("world two;port=25571;");
    let (call, ..) = t.asked(0);
    t.reply(0, &call, Ok(ScriptAnswer { describes: Some(game), ..ScriptAnswer::default() }));
    assert!(!syn(&mut t, 1, 0, 4000), "not among its ports");
    assert_eq!(t.warnings(0, "plugin_refused").len(), 1);
}

#[test]
fn everybody_is_told_of_a_game_where_its_own_plugin_reads_it_and_of_no_other() {
    let mut t = Table::new("\"forward\"", &describing());
    let game =
        ScriptGame { title: "Rome".into(), port: Some(25_599), players: Some(3), ..ScriptGame::default() };
    let answer = || Ok(ScriptAnswer { describes: Some(game.clone()), ..ScriptAnswer::default() });
    t.announce(A);
    let (call, ..) = t.asked(0);
    t.reply(0, &call, answer());
    let (call, ..) = t.asked(1);
    t.reply(1, &call, answer());
    for _ in 0..4 {
        t.run_ms(1000);
        t.announce(A);
    }
    // The third has a plugin that never answers: what the announcer's says is in its list too.
    let ports = |t: &Table, i: usize| -> Vec<u16> {
        t.0.seats[i].node.status(t.0.now).games.iter().map(|g| g.address.port()).collect()
    };
    assert_eq!(ports(&t, 1), [25_599]);
    assert!(ports(&t, 2).contains(&25_599), "{:?}", ports(&t, 2));
    let list = t.0.seats[1].node.status(t.0.now).games;
    assert_eq!((list[0].title.as_str(), list[0].players), ("Rome", Some(3)));
}

#[test]
fn a_port_that_a_plugin_reads_in_an_answer_of_the_own_game_is_open_and_listed() {
    let mut t = Table::new("\"forward\"", &describing());
    let (a, b) = (t.0.address(0), t.0.address(1));
    t.0.say(0, None, &udp(&format!("{a}:27960"), &format!("{b}:27960"), b"answer"));
    let (call, hook, packet) = t.asked(0);
    assert_eq!((hook, packet.payload.as_slice()), (Hook::Describe, &b"answer"[..]));
    let game = ScriptGame { tcp: Some(true), port: Some(25_598), ..ScriptGame::default() };
    t.reply(0, &call, Ok(ScriptAnswer { describes: Some(game), ..ScriptAnswer::default() }));
    t.run_ms(500);
    let list = t.0.seats[2].node.status(t.0.now).games;
    assert_eq!(list.iter().map(|g| g.address.port()).collect::<Vec<_>>(), [25_598], "{list:?}");
    assert!(syn(&mut t, 2, 0, 25_598), "who never asked can join it");
}

#[test]
fn a_game_that_is_over_leaves_the_list_at_once() {
    let mut t = Table::new("\"forward\"", &describing());
    t.announce(A);
    let (call, ..) = t.asked(1);
    t.reply(1, &call, Ok(ScriptAnswer { describes: Some(ScriptGame::default()), ..ScriptAnswer::default() }));
    assert_eq!(t.0.seats[1].node.status(t.0.now).games.len(), 1);
    t.announce("world one;port=25570; closing");
    let (call, ..) = t.asked(1);
    let over = ScriptGame { over: true, ..ScriptGame::default() };
    t.reply(1, &call, Ok(ScriptAnswer { describes: Some(over), ..ScriptAnswer::default() }));
    assert!(t.0.seats[1].node.status(t.0.now).games.is_empty());
    let lost = |e: &&Event| matches!(e, Event::GameLost { .. });
    assert_eq!(t.0.seats[1].events.iter().filter(lost).count(), 1);
}

#[test]
fn a_plugin_that_is_not_there_means_the_default_at_once() {
    let mut party = Party::<Noise>::scripted(2, &rules("\"forward\""), &[]);
    party.run(Duration::from_secs(3));
    let mut t = Table(party);
    t.announce(A);
    assert!(t.unasked(1));
    assert_eq!(t.heard(1), [A]);
    t.query(1, "query 1");
    assert_eq!((t.heard(0).len(), t.dropped(0, DropReason::PluginDefault)), (0, 1));
}

#[test]
fn other_rules_let_go_of_what_waits() {
    let mut t = Table::new("\"forward\"", &facts());
    t.announce(A);
    let (call, ..) = t.asked(1);
    let now = t.0.now;
    t.0.seats[1].node.handle_fact(HostFact::Rules(rules("\"drop\"")), now);
    t.0.drain(1);
    t.reply(1, &call, Ok(ScriptAnswer::default()));
    t.run_ms(100);
    assert_eq!((t.heard(1).len(), t.dropped(1, DropReason::PluginDefault)), (0, 1));
    t.announce(A);
    t.asked(1);
}
