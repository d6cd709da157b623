//! Nobody runs a server and there is no shared folder: an invite is all that passes between the players.

use serde_json::Value;

use crate::support::game::{Announcer, Listener};
use crate::support::net::{Carries, Net};
use crate::support::node::{Node, lanrage, text};
use crate::support::{ready, say, seconds};
use std::time::{Duration, Instant};

const GAME: [&str; 2] = ["--game", "minecraft"];

#[test]
fn with_nothing_but_an_invite_guests_reach_each_other_and_the_party_outlives_its_host() {
    if !ready(&[]) {
        return;
    }
    for carries in [Carries::Both, Carries::OnlyIpv6] {
        let (_net, hosts) = Net::new(carries, &[&["a"], &["b"], &["c"], &["d"]]);
        if carries == Carries::OnlyIpv6 {
            // The invite would name IPv4 at home first, which leads nowhere here.
            let gone = |h: &crate::support::net::Host| h.run(&["ip", "-4", "addr", "flush", "dev", "eth0"]);
            hosts.iter().for_each(|h| drop(gone(h)));
        }
        let mut a = Node::run(&hosts[0], &GAME);
        let invite = a.invite();
        let began = Instant::now();
        let mut b = Node::run(&hosts[1], &[&GAME[..], &["--join", &invite]].concat());
        let mut c = Node::run(&hosts[2], &[&GAME[..], &["--join", &invite]].concat());
        a.path_to(&b, seconds(10));
        a.path_to(&c, seconds(10));
        b.path_to(&c, seconds(10));
        let last = c.path_to(&b, seconds(10));
        say(&format!(
            "{carries:?}: everybody reaches everybody {:?} after the guests started",
            last.at - began
        ));
        let on_c = Listener::java(&hosts[2]);
        let of_b = Announcer::minecraft(&hosts[1], "WorldOfB", 25565, Duration::from_millis(1500));
        assert_eq!(on_c.wait("WorldOfB", seconds(10)).from.ip(), b.address());

        a.stop();
        let fresh = lanrage(&hosts[1], &b.data, "invite").arg("--json").output().expect("lanrage runs");
        let fresh: Value = serde_json::from_slice(&fresh.stdout).expect("an object");
        let began = Instant::now();
        let mut d = Node::run(&hosts[3], &[&GAME[..], &["--join", text(&fresh, "invite")]].concat());
        d.path_to(&b, seconds(10));
        let last = d.path_to(&c, seconds(10));
        say(&format!("{carries:?}: through a guest's invite {:?} after the start", last.at - began));
        let on_d = Listener::java(&hosts[3]);
        assert_eq!(on_d.wait("WorldOfB", seconds(10)).from.ip(), b.address());
        drop(of_b);
        for node in [d, c, b] {
            node.stop();
        }
    }
}
