//! What an evening brings: servers that die and come back, computers that change their address, friends that must go.

use std::time::Duration;

use serde_json::Value;

use crate::support::game::{Announcer, Listener};
use crate::support::net::{Carries, Net};
use crate::support::node::{Node, lanrage, server, text};
use crate::support::{ready, say, seconds, within};

const EVERY: Duration = Duration::from_millis(1500);

#[test]
fn a_party_outlives_its_server_and_its_host() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"], &["c"], &["s"]]);
    let (first_server, control) = server(&hosts[3]);
    let common = ["--game", "minecraft", "--control", &control];
    let a = Node::run(&hosts[0], &common);
    let invite = a.invite();
    let join = [&common[..], &["--join", &invite]].concat();
    let mut b = Node::run(&hosts[1], &join);
    b.path_to(&a, seconds(20));
    drop(first_server);

    let listener = Listener::java(&hosts[1]);
    let of_a = Announcer::minecraft(&hosts[0], "WorldOfA", 25565, EVERY);
    assert_eq!(
        listener.wait("WorldOfA", seconds(10)).from.ip(),
        a.address(),
        "without the server all goes on"
    );
    let told =
        |node: &Node| node.events("warning").iter().any(|e| text(&e.value, "message").contains("8667"));
    assert!(
        within(seconds(20), || told(&b).then_some(())).is_some(),
        "and B says that it is away{}",
        b.last_words()
    );

    let (_second_server, again) = server(&hosts[3]);
    assert_eq!(again, control);
    let mut c = Node::run(&hosts[2], &join);
    c.path_to(&a, seconds(60));
    c.path_to(&b, seconds(60));
    drop(of_a);
    a.stop();
    let on_c = Listener::java(&hosts[2]);
    let _of_b = Announcer::minecraft(&hosts[1], "WorldOfB", 25565, EVERY);
    assert_eq!(
        on_c.wait("WorldOfB", seconds(10)).from.ip(),
        b.address(),
        "without its host the party goes on"
    );
    c.stop();
    b.stop();
}

#[test]
fn a_new_address_on_the_card_costs_seconds_and_no_restart() {
    if !ready(&[]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let control = format!("file:{}", net.shared().display());
    let mut a = Node::run(&hosts[0], &["--game", "minecraft", "--control", &control]);
    let mut b = Node::run(&hosts[1], &["--game", "minecraft", "--control", &control, "--join", &a.invite()]);
    b.path_to(&a, seconds(20));
    a.path_to(&b, seconds(20));
    let listener = Listener::java(&hosts[1]);
    let _world = Announcer::minecraft(&hosts[0], "World", 25565, Duration::from_millis(250));
    listener.wait("World", seconds(5));

    // as when a laptop wakes in another network: the old address is gone, a new one is there
    let change = |words: &str| hosts[1].run(&words.split(' ').collect::<Vec<_>>());
    change("ip -6 addr del fd66:2::1/64 dev eth0");
    change("ip addr del 10.66.2.1/24 dev eth0");
    change("ip addr add 10.66.2.99/24 brd + dev eth0");
    change("ip route replace default via 10.66.2.254");
    let moved = std::time::Instant::now();
    a.event_after(moved, "path", seconds(40), |e| text(e, "remote").starts_with("10.66.2.99:"));
    let heard = || listener.heard().into_iter().find(|h| h.at > moved);
    let first = within(seconds(40), heard).expect("announcements arrive again");
    say(&format!("heard again {:?} after the address changed", first.at - moved));
    assert_eq!(first.from.ip(), a.address());
    b.stop();
    a.stop();
}

#[test]
fn who_is_kicked_is_out_and_cannot_come_back_with_the_old_invite() {
    if !ready(&[]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"], &["c"]]);
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", "minecraft", "--control", &control];
    let mut a = Node::run(&hosts[0], &common);
    let old_invite = a.invite();
    let join = [&common[..], &["--join", &old_invite]].concat();
    let mut b = Node::run(&hosts[1], &[&join[..], &["--name", "Bert"]].concat());
    let mut c = Node::run(&hosts[2], &[&join[..], &["--name", "Cleo"]].concat());
    for other in [&b, &c] {
        a.path_to(other, seconds(20));
    }
    b.path_to(&c, seconds(20));
    c.path_to(&b, seconds(20));

    let kicked = lanrage(&hosts[0], &a.data, "kick").arg("Bert").output().expect("lanrage runs");
    assert!(kicked.status.success(), "{}", String::from_utf8_lossy(&kicked.stderr));
    let who = b.peer();
    for node in [&mut a, &mut c] {
        node.event("peer_left", seconds(20), |e| text(e, "peer") == who);
    }
    let [on_b, on_c] = [&hosts[1], &hosts[2]].map(Listener::java);
    let _world = Announcer::minecraft(&hosts[0], "World", 25565, EVERY);
    on_c.wait("World", seconds(10));
    std::thread::sleep(seconds(3));
    assert_eq!(on_b.heard().len(), 0, "who was kicked hears nothing");

    let fresh = lanrage(&hosts[0], &a.data, "invite").arg("--json").output().expect("lanrage runs");
    let fresh: Value = serde_json::from_slice(&fresh.stdout).expect("an object");
    assert_ne!(text(&fresh, "invite"), old_invite, "there is a new invite");
    drop(b);
    let mut command = lanrage(&hosts[1], &hosts[1].folder.join("data"), "run");
    command.args(&join).arg("--json");
    let mut again = crate::support::process::Process::start("b again", &mut command);
    std::thread::sleep(seconds(6));
    let seen = a.status();
    assert!(!seen.to_string().contains(&who), "the old invite leads nowhere: {seen}");
    assert_eq!(on_b.heard().len(), 0);
    if !again.has_ended() {
        again.signal("-INT");
        again.wait_end(seconds(10));
    }
    c.stop();
    a.stop();
}

#[test]
fn leave_from_another_terminal_ends_the_node() {
    if !ready(&[]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"]]);
    let control = format!("file:{}", net.shared().display());
    let mut a = Node::run(&hosts[0], &["--game", "minecraft", "--control", &control]);
    let left = lanrage(&hosts[0], &a.data, "leave").output().expect("lanrage runs");
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    assert_eq!(a.wait_end(seconds(10)), Some(0));
    let nobody = lanrage(&hosts[0], &a.data, "status").output().expect("lanrage runs");
    assert_eq!(nobody.status.code(), Some(1), "then there is nothing to show, and it says so");
    assert!(!nobody.stderr.is_empty());
}
