//! The party's list of games with a game that says when it is over: Warcraft III, in memory, with WireGuard's real ciphers.

use crate::support::{Party, udp};
use lanrage::buf::batch::Source;
use lanrage::engine::counters::Count;
use lanrage::engine::effect::HostFact;
use lanrage::engine::tunnel::noise::Noise;
use lanrage::model::id::CardId;
use lanrage::model::status::{Event, GameStatus};
use lanrage::rules::compile::compile;
use lanrage::rules::shipped;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const EVERYBODY: &str = "255.255.255.255:6112";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

/// A host's answer: 1 of 12 play "Local Game (Uther)" at port 6112.
fn answer() -> Vec<u8> {
    hex("f7305600505833571a00000001000000040302014c6f63616c2047616d6520285574686572290000010349070101a10171499bb3cb
         4d6171732f4569010101000c00000009000000010000000b0000002a000000e017")
}

fn from_card(i: usize, payload: &[u8]) -> Vec<u8> {
    udp(&format!("198.51.{}.1:6112", i + 1), EVERYBODY, payload)
}

/// Node 0 hosts; node 1 asked, so that the host answered.
fn hosted(n: usize) -> Party<Noise> {
    let mut party = Party::new(n, &["warcraft3"]);
    party.run(SECOND * 3);
    party.say(1, Some(2), &from_card(1, &hex("f72f1000505833571a00000000000000")));
    let (a, b) = (party.address(0), party.address(1));
    party.say(0, None, &udp(&format!("{a}:6112"), &format!("{b}:6112"), &answer()));
    party.run(SECOND);
    party
}

fn list(party: &Party<Noise>, i: usize) -> Vec<GameStatus> {
    party.seats[i].node.status(party.now).games
}

fn lost(party: &Party<Noise>, i: usize) -> Vec<&str> {
    let events = party.seats[i].events.iter();
    events
        .filter_map(|e| if let Event::GameLost { why, .. } = e { Some(why.as_str()) } else { None })
        .collect()
}

#[test]
fn all_that_an_answer_says_is_in_the_list_of_everybody_also_of_who_never_asked() {
    let mut party = hosted(3);
    for i in [1, 2] {
        let games = list(&party, i);
        assert_eq!(games.len(), 1, "node {i}");
        let game = &games[0];
        assert_eq!((game.title.as_str(), game.version.as_str()), ("Local Game (Uther)", "26"));
        assert_eq!((game.players, game.max_players), (Some(1), Some(12)));
        assert_eq!(game.address, (party.address(0), 6112).into());
        assert!(game.rtt_ms.is_some());
    }
    let late = party.make(3, &["warcraft3"], Default::default(), 0);
    party.seats.push(late);
    party.run(SECOND * 2);
    assert_eq!(list(&party, 3).len(), 1, "and of who comes late");
    assert!(party.heard(3).is_empty(), "no packet is made for it");
}

#[test]
fn a_game_that_says_it_is_over_leaves_all_lists_at_once_and_is_not_said_again() {
    let mut party = hosted(3);
    let still_there = hex("f732100001000000020000000c000000");
    party.say(0, Some(2), &from_card(0, &still_there));
    party.run(SECOND * 20);
    assert!(party.seats[1].node.counters().count(Count::Repeated) > 0, "its announcement was late");
    party.say(0, Some(2), &from_card(0, &still_there));
    let over = hex("f733080001000000");
    (1..3).for_each(|i| drop(party.heard(i)));
    party.say(0, Some(2), &from_card(0, &over));
    for i in [1, 2] {
        assert!(list(&party, i).is_empty());
        assert_eq!(lost(&party, i), ["the game was closed"]);
        let heard = party.heard(i);
        assert!(heard.len() == 1 && heard[0].2 == over, "the game itself hears it too");
    }
    party.run(SECOND * 30);
    assert!(party.heard(1).is_empty() && party.heard(2).is_empty());
    let late = party.make(3, &["warcraft3"], Default::default(), 0);
    party.seats.push(late);
    party.run(SECOND * 2);
    assert!(party.heard(3).is_empty() && list(&party, 3).is_empty(), "nobody is handed what is over");
}

#[test]
fn a_game_leaves_the_list_though_the_word_that_it_is_over_was_lost() {
    let mut party = hosted(2);
    let over = from_card(0, &hex("f733080001000000"));
    party.batch.clear();
    assert!(party.batch.next(Source::Card(CardId(2))).unwrap().fill(&over));
    let seat = &mut party.seats[0];
    seat.node.handle_lan(&mut party.batch, party.now, &mut party.wire, &mut seat.games);
    assert!(party.wire.used > 0, "it was sent");
    party.wire.used = 0;
    assert_eq!(list(&party, 1).len(), 1);
    party.run(SECOND);
    assert!(list(&party, 1).is_empty());
    assert_eq!(lost(&party, 1), ["the game was closed"]);
}

#[test]
fn profiles_that_are_read_anew_keep_their_games_and_those_that_go_lose_them() {
    let mut party = hosted(2);
    let rules = |games: &[&str]| {
        let profiles: Vec<_> = games.iter().map(|g| shipped::find(g).unwrap()).collect();
        HostFact::Rules(Arc::new(compile(&profiles).unwrap()))
    };
    for i in 0..2 {
        party.seats[i].node.handle_fact(rules(&["minecraft-java", "warcraft3"]), party.now);
    }
    party.run(SECOND * 3);
    assert_eq!(list(&party, 1)[0].game.0, "warcraft3");
    assert!(lost(&party, 1).is_empty());
    party.seats[1].node.handle_fact(rules(&["minecraft-java"]), party.now);
    party.run(SECOND);
    assert!(list(&party, 1).is_empty());
    assert_eq!(lost(&party, 1), ["its profile is not used any more"]);
}
