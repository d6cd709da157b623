//! `--share-lan`: a computer without lanrage, in the house of a player who has it, lists the games of the party and joins
//! them. The player's lanrage is in proxy mode, without a right.
//!
//! Games that search for a few seconds and no longer (Doom, OpenTTD, Teeworlds) cannot be tried so here: the lab's computers see
//! one another's processes, and a game that starts has its ports for five seconds.

use crate::real_games::{SCREEN, freeciv, plays_next_door};
use crate::support::game::{Announcer, greet_on};
use crate::support::net::{Carries, Net};
use crate::support::node::Node;
use crate::support::{ready, seconds, within};
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn a_neighbour_plays_minecraft_java() {
    plays_next_door(("minecraft_java", "minecraft-java"), &["node"], &[]);
}

#[test]
fn a_neighbour_plays_minecraft_bedrock() {
    plays_next_door(("minecraft_bedrock", "minecraft-bedrock"), &["node"], &[]);
}

#[test]
fn a_neighbour_plays_openarena() {
    plays_next_door(("openarena", "openarena"), &[&["openarena", "openarena-server"], SCREEN].concat(), &[]);
}

/// Its answer is an announcement to a group, and carries an address that has to be replaced.
#[test]
fn a_neighbour_plays_freeciv() {
    plays_next_door(("freeciv", "freeciv"), &freeciv(), &[("RIG_ADDR", "anas-computer")]);
}

/// `status` says where neighbours join; that port is open to them, and no other; it goes with the game.
#[test]
fn neighbours_reach_the_game_and_nothing_else() {
    if !ready(&[]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b", "n"]]);
    let [a_host, b_host, n_host] = &hosts[..] else { unreachable!() };
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", "minecraft-java", "--control", &control];
    let a = Node::run_bare(a_host, &common);
    let mut b = Node::run_bare(b_host, &[&common[..], &["--share-lan", "--join", &a.invite()]].concat());
    assert_eq!(b.mode(), "proxy");
    b.path_to(&a, seconds(20));
    greet_on(a_host, 25_570);
    greet_on(a_host, 8_080);
    let world = Announcer::minecraft(a_host, "Next door", 25_570, Duration::from_millis(500));
    b.game_of(&a, seconds(10));
    let shared = within(seconds(5), || {
        let status = b.status();
        let at = status.pointer("/games/0/shared/0")?.as_str()?.to_owned();
        Some(at)
    });
    let at = format!("{}:25570", b_host.v4);
    assert_eq!(shared.as_deref(), Some(at.as_str()), "{}", b.status());
    let open = || {
        let to = b_host.v4;
        n_host.inside(move || {
            let connects =
                |port: &u16| TcpStream::connect_timeout(&(to, *port).into(), Duration::from_secs(3)).is_ok();
            (1..=u16::MAX).filter(connects).collect::<BTreeSet<u16>>()
        })
    };
    // The announced port and the one at which the game listens as a rule, as on this computer itself.
    assert_eq!(open(), [25_565, 25_570].into(), "TCP");
    drop(world);
    // The announcement's life, and a minute for who saw it last moment.
    assert!(within(seconds(90), || open().is_empty().then_some(())).is_some(), "it went with the game");
    b.stop();
    a.stop();
}
