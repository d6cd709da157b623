//! Several guests of one Minecraft world at once, in proxy mode: the server tells them apart, and they play on.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::proxy::{By, open_world};
use crate::support::game::node_script;
use crate::support::net::{Carries, Host, Net};
use crate::support::node::Node;
use crate::support::process::{Line, Process};
use crate::support::{ready, say, seconds, within};

const WORLD: &str = "LANRIG";

/// A in proxy mode is host to B in proxy mode and C in this one.
fn three(game: &str, c: By) -> (Net, Vec<Host>, [Node; 3]) {
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"], &["c"]]);
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", game, "--control", &control];
    let a = Node::run_bare(&hosts[0], &common);
    let invite = a.invite();
    let join = [&common[..], &["--join", &invite]].concat();
    let mut b = Node::run_bare(&hosts[1], &join);
    let mut c = c.start()(&hosts[2], &join);
    b.path_to(&a, seconds(20));
    c.path_to(&a, seconds(20));
    (net, hosts, [a, b, c])
}

/// The server's own words name both guests, each at its own address.
fn seen_apart(world: &Process, [_, b, c]: &[Node; 3], line: impl Fn(Ipv4Addr) -> String) {
    for guest in [b, c] {
        let expected = line(By::Proxy.sees(guest.address()));
        let said = |l: &Line| l.text.contains(&expected);
        let seen = within(seconds(5), || world.lines().iter().any(said).then_some(()));
        assert!(seen.is_some(), "no {expected:?}{}", world.last_words());
    }
    assert_ne!(b.address(), c.address());
}

/// Guests of different kinds, all at once.
#[test]
fn a_java_server_without_a_device_tells_its_guests_apart_by_address() {
    if !ready(&["node"]) {
        return;
    }
    let (_net, hosts, nodes) = three("minecraft", By::Lan);
    let world = open_world(&hosts[0]);
    let mut bots = [&hosts[1], &hosts[2]].map(|host| node_script(host, "mc-client.js", &["chat", WORLD]));
    for bot in &mut bots {
        bot.wait_for("CHATTED", seconds(60));
    }
    seen_apart(&world, &nodes, |at| format!("{at} hello"));
    nodes.into_iter().rev().for_each(Node::stop);
}

/// What a Bedrock server says of whoever joins from there.
fn joined_from(at: Ipv4Addr) -> String {
    format!("JOIN {at}/")
}

fn open_bedrock_world(host: &Host) -> Process {
    let mut world = node_script(host, "bedrock-host.js", &[WORLD]);
    world.wait_for("LISTENING", seconds(40));
    world
}

#[test]
fn a_bedrock_server_without_a_device_tells_its_guests_apart_by_address() {
    if !ready(&["node"]) {
        return;
    }
    let (_net, hosts, nodes) = three("minecraft-bedrock", By::Lan);
    let world = open_bedrock_world(&hosts[0]);
    let mut bots =
        [&hosts[1], &hosts[2]].map(|host| node_script(host, "bedrock-client.js", &["join", WORLD]));
    for bot in &mut bots {
        bot.wait_for("JOINED", seconds(60));
    }
    seen_apart(&world, &nodes, joined_from);
    nodes.into_iter().rev().for_each(Node::stop);
}

/// How long is played, in seconds: `LANRAGE_SOAK`, or ten minutes.
fn soak() -> u64 {
    std::env::var("LANRAGE_SOAK").map_or(600, |n| n.parse().expect("LANRAGE_SOAK is a number of seconds"))
}

/// The guests who walk, as the world knows them.
const WALKERS: [&str; 2] = ["rigB", "rigC"];

/// Two guests walk about in a world of A's, all three in proxy mode; what they say at the end. A bot ends when its connection
/// does, and then it never says that. `look` is the last look, before anybody leaves.
fn walk(
    game: &str,
    script: &str,
    open: impl FnOnce(&Host) -> Process,
    look: impl FnOnce(&Process, &[Node; 3]),
) -> [String; 2] {
    let time = soak();
    let (_net, hosts, nodes) = three(game, By::Proxy);
    let world = open(&hosts[0]);
    let memory = || nodes.each_ref().map(resident);
    let start = |host, name| node_script(host, script, &["walk", WORLD, &time.to_string(), name]);
    let mut bots = [start(&hosts[1], WALKERS[0]), start(&hosts[2], WALKERS[1])];
    for bot in &mut bots {
        bot.wait_for("WALKING", seconds(90));
    }
    let before = memory();
    std::thread::sleep(Duration::from_secs(time.saturating_sub(10)));
    look(&world, &nodes);
    let after = memory();
    let said = bots.each_mut().map(|bot| bot.wait_for("WALKED", seconds(30)).text);
    for (line, name) in said.iter().zip(WALKERS) {
        assert!(number(line, 3) >= time * 10, "{line}");
        let places = moves(&world, name);
        // It is told where it is every five seconds, and may stand in the same corner now and then.
        assert!(places >= time / 10, "the server saw {name} at {places} places");
        say(&format!("{name}: {line}; the server saw it move {places} times in {time} s"));
    }
    say(&format!("resident memory of A, B, C: {before:?} before, {after:?} after"));
    nodes.into_iter().rev().for_each(Node::stop);
    said
}

/// None of these counters counted anything, with anybody.
fn nothing_counted(nodes: &[Node; 3], counters: &[&str]) {
    for node in nodes {
        for counter in counters {
            assert_eq!(node.counter(counter), 0, "{counter} at {}: {}", node.host.name, node.status());
        }
    }
}

#[test]
#[ignore = "ten minutes of play: run it by name, docs/lab.md says how"]
fn two_guests_walk_for_ten_minutes_without_any_device() {
    if !ready(&["node"]) {
        return;
    }
    let lost =
        ["reset", "timed_out", "lost", "too_many", "starved"].map(|why| format!("drop.proxy_tcp_{why}"));
    walk("minecraft", "mc-client.js", open_world, |_, nodes| {
        nothing_counted(nodes, &lost.each_ref().map(String::as_str));
        assert_eq!(nodes.each_ref().map(|node| node.counter("proxy.tcp_open")), [2, 1, 1]);
    });
}

/// Over UDP, where nothing is reset: what shows is a step that does not come, or has no answer.
#[test]
#[ignore = "ten minutes of play: run it by name, docs/lab.md says how"]
fn two_guests_walk_in_bedrock_for_ten_minutes_without_any_device() {
    if !ready(&["node"]) {
        return;
    }
    let said = walk("minecraft-bedrock", "bedrock-client.js", open_bedrock_world, |world, nodes| {
        seen_apart(world, nodes, joined_from);
        nothing_counted(nodes, &["drop.no_path", "drop.proxy_refused", "drop.proxy_no_stand_in"]);
    });
    for line in said {
        let steps = number(&line, 3);
        assert_eq!(
            [number(&line, 5), number(&line, 7)],
            [steps, steps],
            "all came and were answered: {line}"
        );
    }
}

/// The number that is this word of a line.
fn number(line: &str, word: usize) -> u64 {
    line.split(' ').nth(word).and_then(|n| n.parse().ok()).expect("a number")
}

/// How often the server saw this player elsewhere than before.
fn moves(world: &Process, name: &str) -> u64 {
    let mark = format!("AT {name} ");
    let mut places: Vec<String> =
        world.lines().into_iter().map(|l| l.text).filter(|t| t.starts_with(&mark)).collect();
    places.dedup();
    u64::try_from(places.len().saturating_sub(1)).expect("few")
}

fn resident(node: &Node) -> String {
    let kernel = node.process_status();
    let line = kernel.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.expect("a process has memory").trim().to_owned()
}
