//! The main story: a Minecraft world opened on A shows in B's list, once per announcement, and can be joined.

use std::time::{Duration, SystemTime};

use crate::support::game::{Heard, Listener, node_script};
use crate::support::net::{Carries, Net};
use crate::support::node::{Node, server, text};
use crate::support::process::Process;
use crate::support::{ready, say, seconds};

const WORLD: &str = "LANRIG";
const PORT: u16 = 25599;

/// How long announcements are counted.
const COUNTED: Duration = seconds(60);

#[test]
fn a_world_on_a_is_listed_and_joined_on_b_through_a_server() {
    if !ready(&["node"]) {
        return;
    }
    let (_net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"], &["s"]]);
    let (_server, control) = server(&hosts[2]);
    world_crosses(&hosts, &control);
}

#[test]
fn a_world_on_a_is_listed_and_joined_on_b_through_a_shared_folder() {
    if !ready(&["node"]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    world_crosses(&hosts, &format!("file:{}", net.shared().display()));
}

#[test]
fn a_world_crosses_with_nothing_but_the_game_and_the_invite() {
    if !ready(&["node"]) {
        return;
    }
    // Nobody names a control plane: the party meets at its host, and the invite says where that is.
    let (_net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let a = Node::run(&hosts[0], &["--game", "minecraft"]);
    let _world = open_world(&a);
    let listener = Listener::java(&hosts[1]);
    let mut b = Node::run(&hosts[1], &["--game", "minecraft", "--join", &a.invite()]);
    b.path_to(&a, seconds(20));
    assert_eq!(listener.wait(WORLD, seconds(5)).from.ip(), a.address());
    join_and_chat(&a, &b);
}

#[test]
fn a_world_crosses_where_only_ipv6_does() {
    if !ready(&["node"]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::OnlyIpv6, &[&["a"], &["b"]]);
    let control = format!("file:{}", net.shared().display());
    let a = Node::run(&hosts[0], &["--game", "minecraft", "--control", &control]);
    let _world = open_world(&a);
    let listener = Listener::java(&hosts[1]);
    let mut b = Node::run(&hosts[1], &["--game", "minecraft", "--control", &control, "--join", &a.invite()]);
    let path = b.path_to(&a, seconds(20));
    assert!(text(&path.value, "remote").starts_with("[fd66:1::1]:"), "{}", path.value);
    assert_eq!(listener.wait(WORLD, seconds(5)).from.ip(), a.address());
    join_and_chat(&a, &b);
}

fn world_crosses(hosts: &[crate::support::net::Host], control: &str) {
    let a = Node::run(&hosts[0], &["--game", "minecraft", "--control", control, "--name", "Ana"]);
    let world = open_world(&a);
    let listener = Listener::java(&hosts[1]);
    let mut b = Node::run(&hosts[1], &["--game", "minecraft", "--control", control, "--join", &a.invite()]);

    let path = b.path_to(&a, seconds(20));
    let first = listener.wait(WORLD, seconds(5));
    let late = first.at.saturating_duration_since(path.at);
    assert!(late <= seconds(2), "the first announcement came {late:?} after the path");
    assert_eq!(first.from.ip(), a.address(), "the source is A's virtual address");
    let found = b.game_of(&a, seconds(5));
    assert_eq!(text(&found.value, "game"), "minecraft-java");
    assert_eq!(text(&found.value, "title"), WORLD);
    assert_eq!(text(&found.value, "address"), format!("{}:{PORT}", a.address()));

    let start = SystemTime::now();
    join_and_chat(&a, &b);
    let counted = count(&world, &listener, start);
    let pid = std::process::id();
    say(&format!(
        "{pid}: first entry {late:?} after the path; {counted} announcements in {COUNTED:?}, each heard once"
    ));
    b.stop();
    a.stop();
}

/// A real server that announces itself as the game does.
fn open_world(a: &Node) -> Process {
    let mut world = node_script(&a.host, "mc-host.js", &[WORLD, &PORT.to_string()]);
    world.wait_for("ANNOUNCING", seconds(40));
    world
}

/// A bot that does what the player does: reads the list, takes address and port from it, joins, says something.
#[track_caller]
fn join_and_chat(a: &Node, b: &Node) {
    let mut bot = node_script(&b.host, "mc-client.js", &["chat", WORLD]);
    let found = bot.wait_for("FOUND", seconds(20));
    assert_eq!(found.text, format!("FOUND {} {PORT}", a.address()));
    bot.wait_for("CHATTED", seconds(60));
}

/// Waits until the counted time is over, then matches what was heard with what was sent, one by one.
#[track_caller]
fn count(world: &Process, listener: &Listener, start: SystemTime) -> usize {
    let end = start + COUNTED;
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    std::thread::sleep(left + seconds(1));
    let sent: Vec<SystemTime> = world
        .lines()
        .iter()
        .filter_map(|line| line.text.strip_prefix("SENT "))
        .map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms.trim().parse().expect("milliseconds")))
        .filter(|at| *at >= start && *at <= end)
        .collect();
    assert!(sent.len() >= 38, "the world announced itself only {} times in {COUNTED:?}", sent.len());
    let heard = listener.heard_of(WORLD);
    for at in &sent {
        let copies: Vec<&Heard> = heard.iter().filter(|h| follows(*at, h.wall)).collect();
        assert_eq!(copies.len(), 1, "copies of the announcement sent at {at:?}: {copies:?}");
    }
    let strays = heard.iter().filter(|h| h.wall >= start && h.wall <= end);
    let strays: Vec<&Heard> = strays.filter(|h| !sent.iter().any(|at| follows(*at, h.wall))).collect();
    // one sent just before the counted time may arrive within it
    assert!(strays.len() <= 1, "heard without having been sent: {strays:?}");
    sent.len()
}

/// Whether something heard then can be what was sent at this moment: announcements are 1.5 s apart.
fn follows(sent: SystemTime, heard: SystemTime) -> bool {
    heard
        .duration_since(sent)
        .map_or_else(|early| early.duration() < Duration::from_millis(100), |d| d < seconds(1))
}
