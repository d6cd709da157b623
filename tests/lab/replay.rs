//! A capture played into a party: what was recorded once is announced again on a card, and the others' games hear it.

use std::path::Path;

use crate::support::game::Listener;
use crate::support::net::{Carries, Net};
use crate::support::node::{Node, lanrage};
use crate::support::{ready, say, seconds};

#[test]
fn a_recorded_world_is_heard_in_the_party_from_the_one_who_replays_it() {
    if !ready(&[]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let control = format!("file:{}", net.shared().display());
    let a = Node::run(&hosts[0], &["--game", "minecraft-java", "--control", &control]);
    let mut b =
        Node::run(&hosts[1], &["--game", "minecraft-java", "--control", &control, "--join", &a.invite()]);
    b.path_to(&a, seconds(20));
    let listener = Listener::java(&hosts[1]);

    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/minecraft_java.pcap");
    let mut replay = lanrage(&hosts[0], &hosts[0].folder.join("data"), "games");
    replay.arg("replay").arg(capture).args(["--to-card", "eth0", "--times", "2"]);
    let done = replay.output().expect("lanrage runs");
    let told = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(told.contains("sent 6 packets of 10.77.1.1 by eth0"), "{told}");

    let first = listener.wait("LANRIG", seconds(10));
    assert_eq!(first.from.ip(), a.address(), "from the virtual address");
    std::thread::sleep(seconds(1));
    let heard = listener.heard_of("LANRIG");
    let gaps: Vec<_> = heard.windows(2).map(|two| two[1].at - two[0].at).collect();
    // After the last one the receiving node says it again by itself, half a rhythm late, until the game's life is over.
    let own = gaps.iter().position(|gap| gap.as_millis() > 2_100).unwrap_or(gaps.len());
    assert_eq!(own, 5, "each once: {gaps:?}");
    let gap = gaps[0];
    assert!((1000..2100).contains(&gap.as_millis()), "at the rhythm of the capture: {gap:?}");
    say(&format!("6 announcements, {gap:?} apart"));
    b.stop();
    a.stop();
}
