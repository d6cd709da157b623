//! A game that lanrage has no profile for: somebody records it on a LAN, learns a profile from the recording, gives it to
//! a friend, and the game's own client lists and joins the server through the party.
//!
//! Frozen Bubble: its client asks 255.255.255.255:1511 from a port that the system drew, the server answers with the TCP port
//! in a sentence, and a client that finds nobody plays with itself.

use std::path::Path;

use crate::support::game::real_game;
use crate::support::net::{Carries, Host, Net};
use crate::support::node::{Node, lanrage};
use crate::support::process::Process;
use crate::support::{ready, say, seconds};

const PROGRAMS: &[&str] = &["frozen-bubble", "Xvfb", "xdotool", "import", "tesseract"];

#[test]
fn frozen_bubble_is_recorded_learned_and_played_through_the_party() {
    if !ready(PROGRAMS) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a", "c"], &["b"]]);
    let [a, c, b] = &hosts[..] else { panic!("three hosts") };
    let mut server = real_game(a, "host", "frozen_bubble", &[]);
    server.wait_for("READY", seconds(60));

    let draft = learned(c);
    for host in [a, b] {
        let folder = host.folder.join("data/games");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::copy(&draft, folder.join("frozen-bubble.toml")).expect("copied");
    }
    let control = format!("file:{}", net.shared().display());
    let host = Node::run(a, &["--game", "frozen-bubble", "--control", &control]);
    let mut friend =
        Node::run(b, &["--game", "frozen-bubble", "--control", &control, "--join", &host.invite()]);
    friend.path_to(&host, seconds(20));
    let mut client = real_game(b, "join", "frozen_bubble", &[]);
    let line = ended(&mut client);
    assert!(line.starts_with("OK join"), "{line}\nA: {}\nB: {}", host.status(), friend.status());
    assert!(line.contains(&host.address().to_string()), "joined by the virtual address: {line}");
    say(&line);
    friend.stop();
    host.stop();
}

/// Records the client on the server's own LAN, and learns; the profile's file.
fn learned(host: &Host) -> std::path::PathBuf {
    let (data, file) = (host.folder.join("data"), host.folder.join("frozen-bubble.pcap"));
    let mut recorder = lanrage(host, &data, "games");
    recorder.args(["record", "--game-process", "frozen-bubble", "--out"]).arg(&file);
    let mut recorder = Process::start("record", &mut recorder);
    recorder.wait_for("listening on", seconds(20));
    let mut client = real_game(host, "join", "frozen_bubble", &[]);
    let line = ended(&mut client);
    assert!(line.starts_with("OK join"), "on the LAN itself: {line}");
    recorder.signal("-INT");
    recorder.wait_end(seconds(20));
    let heard = recorder.last_words();
    assert!(heard.contains("255.255.255.255:1511"), "{heard}");

    let mut learner = lanrage(host, &data, "games");
    learner.args(["learn", "--name", "Frozen Bubble", "--out"]).arg(&host.folder).arg(&file);
    let done = learner.output().expect("lanrage runs");
    let told = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && told.contains("check: the profile is fine"), "{told}");
    let draft = host.folder.join("frozen-bubble.toml");
    say(&std::fs::read_to_string(&draft).expect("a draft"));
    holds(host, &data, &draft);
    draft
}

/// The draft takes the recording for what it was.
fn holds(host: &Host, data: &Path, draft: &Path) {
    let mut replay = lanrage(host, data, "games");
    replay.arg("replay").arg(host.folder.join("frozen-bubble.pcap")).arg("--game").arg(draft);
    let done = replay.output().expect("lanrage runs");
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(told.contains("frozen-bubble query") && told.contains("joined at tcp 1511"), "{told}");
}

fn ended(client: &mut Process) -> String {
    client.wait("result", seconds(160), |line| {
        ["OK ", "FAIL ", "MISSING ", "NOVERB "]
            .iter()
            .any(|w| line.text.starts_with(w))
            .then(|| line.text.clone())
    })
}
