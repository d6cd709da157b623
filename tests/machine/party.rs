//! The bridge end to end in memory, with WireGuard's real handshakes and ciphers: what a player would see.

use crate::support::{Party, secret, udp};
use lanrage::engine::counters::DropReason;
use lanrage::engine::effect::Effect;
use lanrage::engine::sink::Delivery;
use lanrage::engine::tunnel::noise::Noise;
use lanrage::model::command::Command;
use lanrage::model::id::LinkId;
use lanrage::model::key::NodeKeys;
use lanrage::model::status::{Event, PathKind};
use lanrage::wire::control::{Down, Up};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const GROUP: &str = "224.0.2.60:4445";

fn announcement(i: usize, n: u32) -> Vec<u8> {
    let text = format!("[MOTD]world {n}[/MOTD][AD]25599[/AD]");
    udp(&format!("198.51.{}.1:51000", i + 1), GROUP, text.as_bytes())
}

fn ready(n: usize, game: &str) -> Party<Noise> {
    let mut party = Party::new(n, &[game]);
    party.run(SECOND * 3);
    party
}

#[test]
fn two_nodes_find_each_other_and_say_so() {
    let party = ready(2, "minecraft");
    for seat in &party.seats {
        assert!(matches!(seat.events[0], Event::Ready { .. }), "{:?}", seat.events);
        assert!(seat.events.iter().any(|e| matches!(e, Event::PeerJoined { .. })));
        let paths =
            seat.events.iter().filter(|e| matches!(e, Event::Path { kind: PathKind::Direct, .. })).count();
        assert_eq!(paths, 1, "{:?}", seat.events);
        assert_eq!(seat.events.len(), 3, "{:?}", seat.events);
    }
}

#[test]
fn a_world_opened_on_one_side_is_announced_on_the_other_from_the_virtual_address() {
    let mut party = ready(2, "minecraft");
    party.say(0, Some(2), &announcement(0, 1));
    let heard = party.heard(1);
    let source = format!("{}:51000", party.address(0)).parse().unwrap();
    let payload = b"[MOTD]world 1[/MOTD][AD]25599[/AD]".to_vec();
    assert_eq!(heard, [(source, GROUP.parse().unwrap(), payload, Delivery::Group)]);
    assert!(party.heard(0).is_empty(), "nothing comes back to its origin");
    let found = party.seats[1].events.iter().filter(|e| matches!(e, Event::GameFound { .. })).count();
    assert_eq!(found, 1);
}

#[test]
fn the_same_announcement_from_two_cards_arrives_once_and_its_repeat_arrives_again() {
    let mut party = ready(2, "minecraft");
    for _ in 0..3 {
        party.say(0, Some(2), &announcement(0, 1));
        party.say(0, Some(3), &announcement(0, 1));
        party.run(SECOND + SECOND / 2);
    }
    assert_eq!(party.heard(1).len(), 3);
    assert_eq!(party.seats[0].node.counters().dropped(DropReason::Twin), 3);
}

#[test]
fn a_late_joiner_sees_the_running_world_at_once_and_only_once() {
    let mut party = Party::<Noise>::new(2, &["minecraft"]);
    party.run(SECOND * 3);
    party.say(0, Some(2), &announcement(0, 1));
    let late = party.make(2, &["minecraft"], Default::default(), 0);
    party.seats.push(late);
    party.heard(1);
    party.run(SECOND);
    assert_eq!(party.heard(2).len(), 1);
    assert_eq!(party.heard(1).len(), 0);
}

#[test]
fn only_the_game_is_reachable() {
    let mut party = ready(2, "minecraft");
    let (a, b) = (party.address(0), party.address(1));
    let tcp = |src: String, dst: String, port: u16| {
        let mut p = udp(&format!("{src}:40000"), &format!("{dst}:{port}"), &[0; 12]);
        p[9] = 6;
        p[32] = 0x50;
        p[33] = 2;
        lanrage::wire::packet::fix_checksums(&mut p);
        p
    };
    for port in [22, 8080] {
        party.say(1, None, &tcp(b.to_string(), a.to_string(), port));
    }
    assert_eq!(party.heard(0).len(), 0);
    assert_eq!(party.seats[1].node.counters().dropped(DropReason::PortClosedOut), 2);
    party.say(1, None, &tcp(b.to_string(), a.to_string(), 25565));
    assert_eq!(party.heard(0).len(), 1, "the profile's port is open");
    party.say(1, None, &tcp(b.to_string(), a.to_string(), 25599));
    assert_eq!(party.heard(0).len(), 0, "a port that nobody announced is closed");
    party.say(0, Some(2), &announcement(0, 1));
    party.say(1, None, &tcp(b.to_string(), a.to_string(), 25599));
    assert_eq!(party.heard(0).len(), 1, "the announced port is open");
    party.say(1, None, &tcp("10.83.7.99".to_string(), a.to_string(), 25565));
    assert_eq!(party.seats[1].node.counters().dropped(DropReason::ForgedSource), 1);
}

#[test]
fn a_query_finds_the_server_and_its_answer_comes_back() {
    let mut party = ready(2, "openttd");
    let (a, b) = (party.address(0), party.address(1));
    party.say(1, Some(2), &udp("198.51.2.1:40001", "198.51.2.255:3979", &[3, 0, 0]));
    let heard = party.heard(0);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].0, format!("{b}:40001").parse().unwrap());
    assert_eq!(heard[0].1, "10.83.7.255:3979".parse().unwrap(), "directed broadcast in the receiver's terms");
    party.say(0, None, &udp(&format!("{a}:3979"), &format!("{b}:40001"), &[3, 0, 1]));
    let answer = party.heard(1);
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].0, format!("{a}:3979").parse().unwrap());
}

#[test]
fn a_restarted_peer_keeps_its_address_and_its_world_comes_back() {
    let mut party = ready(2, "minecraft");
    let before = party.address(0);
    party.say(0, Some(2), &announcement(0, 1));
    assert_eq!(party.heard(1).len(), 1);
    let memory = party.seats[0].memory.clone();
    party.run(SECOND * 20);
    assert_eq!(party.heard(1).len(), 4, "what does not come is said again until the game counts as closed");
    party.seats[0] = party.make(0, &["minecraft"], memory, 1);
    party.run(SECOND * 3);
    assert_eq!(party.address(0), before);
    party.say(0, Some(2), &announcement(0, 1));
    assert_eq!(party.heard(1).len(), 1);
}

#[test]
fn a_removed_peer_is_out_and_the_others_go_on() {
    let mut party = ready(3, "minecraft");
    let kicked = NodeKeys::new(&secret(2)).id();
    let mut wire = std::mem::take(&mut party.wire);
    party.seats[0].node.handle_command(Command::Kick(kicked), party.now, &mut wire);
    party.wire = wire;
    party.drain(0);
    party.deliver(0);
    party.run(SECOND * 5);
    assert!(party.seats[2].stopped, "the removed peer is told");
    assert!(!party.seats[1].stopped);
    party.say(0, Some(2), &announcement(0, 9));
    assert_eq!(party.heard(1).len(), 1);
    assert_eq!(party.heard(2).len(), 0);
}

#[test]
fn a_silent_peer_is_away_then_gone_and_its_games_with_it() {
    let mut party = ready(2, "minecraft");
    party.say(0, Some(2), &announcement(0, 1));
    party.seats[0].socket = "203.0.113.9:1".parse().unwrap();
    let gone = party.seats.remove(0);
    drop(gone);
    party.run(SECOND * 320);
    let words: Vec<&str> = party.seats[0]
        .events
        .iter()
        .map(|e| match e {
            Event::GameFound { .. } => "found",
            Event::GameLost { .. } => "lost",
            Event::PeerLeft { .. } => "left",
            Event::Warning(t) if t.code == "peer_away" => "away",
            Event::Warning(t) if t.code == "path_lost" => "no path",
            _ => "",
        })
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(words, ["found", "lost", "no path", "away", "left"]);
}

#[test]
fn an_owner_that_died_in_the_middle_of_a_removal_is_let_back_into_its_own_party() {
    let mut party = ready(2, "minecraft");
    let kicked = NodeKeys::new(&secret(1)).id();
    let before = party.seats[0].memory.clone();
    let mut wire = std::mem::take(&mut party.wire);
    party.seats[0].node.handle_command(Command::Kick(kicked), party.now, &mut wire);
    let mut rotation = None;
    while let Some(effect) = party.seats[0].node.poll_effect() {
        if let Effect::Control(_, Up::Rotate { rotation: made }) = effect {
            rotation = Some(made);
        }
    }
    // The new secret was never kept: the next start knows the old one, and hears of the new from a control plane.
    party.seats[0] = party.make(0, &["minecraft"], before, 1);
    let rotation = rotation.expect("the control plane was told");
    party.seats[0].node.handle_control(LinkId(0), Down::Rotated { rotation }, party.now);
    let effects: Vec<Effect> = std::iter::from_fn(|| party.seats[0].node.poll_effect()).collect();
    assert!(effects.iter().any(|e| matches!(e, Effect::Rekeyed { epoch: 1, .. })));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Stop { .. })), "{effects:?}");
}
