//! Coming back and leaving: killed and restarted, stopped by Ctrl-C, ended with the game it wrapped; nothing stays behind.

use std::time::{Duration, Instant};

use crate::support::game::{Announcer, Listener};
use crate::support::net::{Carries, Host, Net};
use crate::support::node::{self, Node, lanrage, text};
use crate::support::process::Process;
use crate::support::traces::{Traces, assert_nothing_left, files, look};
use crate::support::{ready, say, seconds, within};

/// Shorter times than a player would want, so that nobody waits for minutes.
const QUICK: &str = "[timing]\nheartbeat = 1\naway_after = 4\nkeepalive = 1\n";

fn hosts() -> (Net, Vec<Host>, Vec<Traces>, String) {
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let before = hosts.iter().map(look).collect();
    let control = format!("file:{}", net.shared().display());
    (net, hosts, before, control)
}

#[test]
fn after_kill_9_the_host_comes_back_with_its_address_and_nothing_stays_behind() {
    if !ready(&["nft", "ss", "tc"]) {
        return;
    }
    let (net, hosts, before, control) = hosts();
    let config = net.shared().join("quick.toml");
    std::fs::write(&config, QUICK).expect("a file");
    let config = config.display().to_string();
    let common = ["--game", "minecraft", "--control", &control, "--config", &config];
    let a = Node::run(&hosts[0], &common);
    let listener = Listener::java(&hosts[1]);
    let announcer = Announcer::minecraft(&hosts[0], "World", 25565, Duration::from_millis(1500));
    let mut b = Node::run(&hosts[1], &[&common[..], &["--join", &a.invite()]].concat());
    b.path_to(&a, seconds(20));
    b.game_of(&a, seconds(5));
    let (address, peer) = (a.address(), a.peer());

    let died = Instant::now();
    a.kill();
    b.event("game_lost", seconds(20), |e| text(e, "peer") == peer);
    let away = || b.status().pointer("/peers/0/state").and_then(serde_json::Value::as_str) == Some("away");
    assert!(within(seconds(20), || away().then_some(())).is_some(), "{}", b.status());
    let noticed = died.elapsed();
    let silent = listener.heard().len();
    std::thread::sleep(seconds(3));
    assert_eq!(listener.heard().len(), silent, "a dead host's world is not announced any more");

    let again = Instant::now();
    let a = Node::run(&hosts[0], &common);
    assert_eq!(a.address(), address, "the same address as before");
    assert_eq!(a.peer(), peer);
    b.event_after(again, "path", seconds(20), |e| text(e, "peer") == peer);
    let heard = within(seconds(20), || listener.heard().get(silent).cloned());
    assert_eq!(heard.expect("the world is back in B's list").from.ip(), address);
    b.event_after(again, "game_found", seconds(10), |e| text(e, "peer") == peer);
    let returned = again.elapsed();
    b.stop();
    a.stop();
    drop((announcer, listener));
    for (host, before) in hosts.iter().zip(&before) {
        assert_nothing_left(before, host);
    }
    say(&format!(
        "away {noticed:?} after the kill, back {returned:?} after the restart, same address, nothing left"
    ));
}

#[test]
fn a_killed_node_that_never_returns_leaves_nothing_that_the_next_start_does_not_remove() {
    if !ready(&["nft", "ss", "tc"]) {
        return;
    }
    let (_net, hosts, before, control) = hosts();
    let host = &hosts[0];
    Node::run(host, &["--game", "minecraft", "--control", &control]).kill();
    // the next start is another game in another party: it removes what the dead one left, then its own
    Node::run(host, &["--game", "doom", "--control", &control, "--adapter", "other0"]).stop();
    assert_nothing_left(&before[0], host);
}

#[test]
fn ctrl_c_says_goodbye_and_leaves_nothing() {
    if !ready(&["nft", "ss", "tc"]) {
        return;
    }
    let (_net, hosts, before, control) = hosts();
    let a = Node::run(&hosts[0], &["--game", "minecraft", "--control", &control]);
    let join = ["--game", "minecraft", "--control", &control, "--join", &a.invite()];
    let mut b = Node::run(&hosts[1], &join);
    b.path_to(&a, seconds(20));
    let peer = a.peer();
    let start = Instant::now();
    a.stop();
    let left = b.event("peer_left", seconds(5), |e| text(e, "peer") == peer);
    say(&format!("B saw A leave {:?} after Ctrl-C", left.at.saturating_duration_since(start)));
    b.stop();
    for (host, before) in hosts.iter().zip(&before) {
        assert_nothing_left(before, host);
    }
    // a second evening adds no file to what the first one kept
    let kept = files(&hosts[0].folder.join("data"));
    Node::run(&hosts[0], &["--game", "minecraft", "--control", &control]).stop();
    assert_eq!(files(&hosts[0].folder.join("data")), kept);
}

#[test]
fn a_wrapped_game_starts_after_the_bridge_and_ends_it() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts, before, control) = hosts();
    let proof = hosts[0].folder.join("proof");
    let script = format!("ip -4 -br addr > {}; sleep 2", proof.display());
    let mut a =
        Node::run_after(&hosts[0], &["--game", "minecraft", "--control", &control], &["sh", "-c", &script]);
    assert_eq!(a.wait_end(seconds(20)), Some(0), "{}", a.last_words());
    let seen = std::fs::read_to_string(&proof).expect("the game ran");
    assert!(seen.contains(&a.address().to_string()), "the game found the virtual address in place: {seen}");
    assert_nothing_left(&before[0], &hosts[0]);
}

#[test]
fn without_the_right_to_make_a_device_it_says_so_and_how_to_get_it() {
    if !ready(&["setpriv"]) {
        return;
    }
    let (_net, hosts, before, control) = hosts();
    let out = as_nobody(&hosts[0], &readable_copy(&hosts[0]), &control).output().expect("setpriv runs");
    let words = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(1), "{words}");
    for said in ["no permission", "sudo", "setcap cap_net_admin"] {
        assert!(words.contains(said), "it says {said:?}: {words}");
    }
    assert_nothing_left(&before[0], &hosts[0]);
}

#[test]
fn what_it_says_helps_with_that_capability_an_ordinary_user_can_run_it() {
    if !ready(&["setpriv", "setcap"]) {
        return;
    }
    let (_net, hosts, before, control) = hosts();
    let program = readable_copy(&hosts[0]);
    hosts[0].run(&["setcap", "cap_net_admin,cap_net_raw+ep", &program]);
    let mut node = Process::start("nobody", &mut as_nobody(&hosts[0], &program, &control));
    node.wait_for("\"event\":\"ready\"", seconds(20));
    assert!(hosts[0].run(&["ip", "-br", "link"]).contains("lanrage0"), "the device is there");
    node.signal("-INT");
    assert_eq!(node.wait_end(seconds(10)).code(), Some(0), "{}", node.last_words());
    assert_nothing_left(&before[0], &hosts[0]);
}

/// The program where everybody can read it: a home folder may be closed to others.
fn readable_copy(host: &Host) -> String {
    let program = host.folder.join("lanrage");
    std::fs::copy(node::program(), &program).expect("a copy");
    program.display().to_string()
}

/// `lanrage run` as an ordinary user, who may open `/dev/net/tun` as udev lets everybody.
fn as_nobody(host: &Host, program: &str, control: &str) -> std::process::Command {
    let folder = host.folder.display();
    let script = format!(
        "mknod {folder}/tun c 10 200; chmod 666 {folder}/tun; mount --bind {folder}/tun /dev/net/tun; \
         mkdir -p {folder}/nobodys; chown nobody {folder}/nobodys; \
         exec setpriv --reuid=65534 --regid=65534 --clear-groups env HOME={folder}/nobodys TMPDIR={folder}/nobodys \
         {program} run --game minecraft --mode lan --json --control '{control}' --data-dir {folder}/nobodys/data"
    );
    // `ip netns exec` gives the script mounts of its own
    let mut command = host.command("sh");
    command.args(["-ec", &script]);
    command
}

#[test]
fn a_mistyped_invite_is_refused_with_the_place_of_the_mistake() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts, _, control) = hosts();
    let a = Node::run(&hosts[0], &["--game", "minecraft", "--control", &control]);
    let invite = a.invite();
    let (at, letter) =
        invite.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).nth(7).expect("long enough");
    let other = if letter.eq_ignore_ascii_case(&'q') { 'r' } else { 'q' };
    let mistyped = format!("{}{other}{}", &invite[..at], &invite[at + 1..]);
    let mut command = lanrage(&hosts[1], &hosts[1].folder.join("data"), "run");
    let out =
        command.args(["--game", "minecraft", "--json", "--join", &mistyped]).output().expect("lanrage runs");
    let words = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(matches!(out.status.code(), Some(1 | 2)), "{words}");
    assert!(words.contains("group"), "it names the group: {words}");
}
