//! Real games, unchanged, each searching the LAN by its own means: its client on B must list the server on A and join it
//! from that list. One test a game, so that the result of the run is the table.

use std::sync::{Condvar, Mutex};

use crate::support::game::real_game;
use crate::support::net::{Carries, Host, Net};
use crate::support::node::Node;
use crate::support::{ready, say, seconds};

/// Programs a windowed game needs.
pub(crate) const SCREEN: &[&str] = &["Xvfb", "xdotool", "import", "tesseract"];

#[test]
fn doom_by_limited_broadcast() {
    plays("doom", "doom", &["chocolate-doom", "chocolate-server"], &[]);
}

#[test]
fn openttd_by_subnet_directed_broadcast() {
    plays("openttd", "openttd", &[&["openttd"], SCREEN].concat(), &[]);
}

#[test]
fn openarena_by_limited_broadcast_from_the_servers_own_port() {
    plays("openarena", "openarena", &[&["openarena", "openarena-server"], SCREEN].concat(), &[]);
}

#[test]
fn teeworlds_by_limited_broadcast_with_a_challenge() {
    plays("teeworlds", "teeworlds", &[&["teeworlds", "teeworlds-server"], SCREEN].concat(), &[]);
}

#[test]
fn nexuiz_by_limited_broadcast() {
    plays("nexuiz", "nexuiz", &[&["nexuiz", "nexuiz-server"], SCREEN].concat(), &[]);
}

#[test]
fn minecraft_java_by_multicast_announcement() {
    plays("minecraft_java", "minecraft-java", &["node"], &[]);
}

#[test]
fn minecraft_bedrock_by_limited_broadcast() {
    plays("minecraft_bedrock", "minecraft-bedrock", &["node"], &[]);
}

/// Freeciv's client connects to what the answer's text says. Here that is an address nobody has: only a rewritten answer
/// leads anywhere.
#[test]
fn freeciv_by_multicast_answer_that_carries_a_wrong_address() {
    plays("freeciv", "freeciv", &freeciv(), &[("RIG_ADDR", "192.0.2.77")]);
}

/// What Freeciv says when left alone: the computer's bare name, which the other computer cannot look up.
#[test]
fn freeciv_by_multicast_answer_that_carries_a_bare_name() {
    plays("freeciv", "freeciv", &freeciv(), &[("RIG_ADDR", "anas-computer")]);
}

pub(crate) fn freeciv() -> Vec<&'static str> {
    [&["freeciv-server", "freeciv-gtk3.22"], SCREEN].concat()
}

/// Both ends with a device.
fn plays(game: &str, profile: &str, programs: &[&str], environment: &[(&str, &str)]) {
    plays_by([Node::run, Node::run], (game, profile), programs, environment);
}

/// How lanrage is started.
pub(crate) type Start = fn(&Host, &[&str]) -> Node;

/// Server on A, search and join on B, nothing between them but two routers' worth of internet and lanrage.
pub(crate) fn plays_by(
    [on_a, on_b]: [Start; 2],
    game: (&str, &str),
    programs: &[&str],
    environment: &[(&str, &str)],
) {
    if !ready(programs) {
        return;
    }
    let _turn = Turn::wait();
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let [a, b] = meet(&net, [(on_a, &hosts[0], &[]), (on_b, &hosts[1], &[])], game.1);
    play([&a, &b], [&hosts[0], &hosts[1]], game.0, environment);
    b.stop();
    a.stop();
}

/// The same for a client on a computer that has no lanrage: B, in the same house, shares what it found. No rights anywhere.
pub(crate) fn plays_next_door(game: (&str, &str), programs: &[&str], environment: &[(&str, &str)]) {
    if !ready(programs) {
        return;
    }
    let _turn = Turn::wait();
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b", "n"]]);
    let starts =
        [(Node::run_bare as Start, &hosts[0], &[][..]), (Node::run_bare, &hosts[1], &["--share-lan"])];
    let [a, b] = meet(&net, starts, game.1);
    play([&a, &b], [&hosts[0], &hosts[2]], game.0, environment);
    assert!(b.counter("proxy.shared_out") > 0, "{}", b.status());
    // The game runs next door: no port of B is in its way, and none is closed to those who join.
    assert_eq!(b.counter("proxy.made_room"), 0, "{}", b.status());
    b.stop();
    a.stop();
}

fn meet(net: &Net, [on_a, on_b]: [(Start, &Host, &[&str]); 2], profile: &str) -> [Node; 2] {
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", profile, "--control", &control];
    let start = |(start, host, more): (Start, &Host, &[&str]), invite: &[&str]| {
        start(host, &[&common[..], more, invite].concat())
    };
    let a = start(on_a, &[]);
    let mut b = start(on_b, &["--join", &a.invite()]);
    b.path_to(&a, seconds(20));
    [a, b]
}

fn play([a, b]: [&Node; 2], [server, client]: [&Host; 2], game: &str, environment: &[(&str, &str)]) {
    let mut server = real_game(server, "host", game, environment);
    server.wait_for("READY", seconds(60));
    let mut client = real_game(client, "join", game, environment);
    let line = client.wait("result", seconds(120), |line| {
        ["OK ", "FAIL ", "MISSING ", "NOVERB "]
            .iter()
            .any(|w| line.text.starts_with(w))
            .then(|| line.text.clone())
    });
    assert!(
        line.starts_with("OK join"),
        "{line}\ncounters of A: {}\ncounters of B: {}",
        a.status(),
        b.status()
    );
    if !environment.is_empty() {
        assert!(a.counter("rewritten") + b.counter("rewritten") > 0, "joined, but nothing was rewritten");
    }
    say(&line);
}

/// Games with software rendering starve one another: only two play at a time.
struct Turn;

const TURNS: usize = 2;
static PLAYING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn wait() -> Self {
        let mut playing = PLAYING.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while *playing >= TURNS {
            playing = PLAYING.1.wait(playing).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *playing += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *PLAYING.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) -= 1;
        PLAYING.1.notify_one();
    }
}
