//! What the path finder does, second by second.

use super::*;
use crate::model::addr::{CandidateKind, Card, Net};
use crate::model::id::CardId;

const KEEPALIVE: Duration = Duration::from_secs(15);

fn at(ms: u64) -> Mono {
    Mono(Duration::from_millis(ms))
}

fn candidates(list: &[&str]) -> Vec<Candidate> {
    list.iter().map(|a| Candidate { addr: a.parse().unwrap(), kind: CandidateKind::Host }).collect()
}

fn route(addr: &str) -> Route {
    Route::main(addr.parse().unwrap())
}

fn ground(cards: &[Card]) -> Ground<'_> {
    Ground { cards, ..Ground::default() }
}

fn cards() -> Vec<Card> {
    let net = Net { addr: "192.168.1.5".parse().unwrap(), prefix: 24 };
    vec![Card { id: CardId(2), name: "eth0".into(), nets: vec![net], default_route: true }]
}

fn drain(agent: &mut Agent, now: Mono) -> Vec<Action> {
    std::iter::from_fn(|| agent.poll(now)).collect()
}

/// An agent with a session and both addresses known.
fn ready(list: &[&str]) -> Agent {
    let mut a = Agent::new(true, KEEPALIVE, 100, at(0));
    a.set_candidates(&candidates(list), ground(&cards()), at(0));
    assert_eq!(drain(&mut a, at(0)), [Action::Handshake]);
    a.heard(route(list[0]), ground(&cards()), at(10));
    a.session(true, at(10));
    a
}

fn answer(agent: &mut Agent, to: &str, actions: &[Action], now: Mono) {
    for action in actions {
        if let Action::Ping { route: by, number, .. } = action
            && *by == route(to)
        {
            agent.heard(*by, ground(&cards()), now);
            agent.pong(*number, now);
        }
    }
}

#[test]
fn the_polite_end_waits_before_it_tries() {
    let mut a = Agent::new(false, KEEPALIVE, 0, at(0));
    a.set_candidates(&candidates(&["203.0.113.1:1"]), ground(&cards()), at(0));
    assert_eq!(drain(&mut a, at(0)), []);
    assert_eq!(a.deadline().unwrap().at, at(700));
    assert_eq!(drain(&mut a, at(700)), [Action::Handshake]);
}

#[test]
fn the_first_answer_carries_data_and_is_reported_with_its_time_once_proven() {
    let mut a = ready(&["203.0.113.1:1", "203.0.113.2:1"]);
    assert_eq!(a.primary(), Some(route("203.0.113.1:1")));
    let pings = drain(&mut a, at(10));
    assert_eq!(pings.len(), 2);
    answer(&mut a, "203.0.113.1:1", &pings, at(30));
    let reports = drain(&mut a, at(30));
    assert!(
        matches!(&reports[..], [Action::Changed(r)] if r.rtt == Duration::from_millis(20) && r.kind == PathKind::Direct)
    );
    assert!(drain(&mut a, at(31)).is_empty());
}

#[test]
fn the_same_network_takes_over_from_a_detour() {
    let mut a = ready(&["203.0.113.1:1", "192.168.1.9:1"]);
    let pings = drain(&mut a, at(10));
    answer(&mut a, "203.0.113.1:1", &pings, at(12));
    answer(&mut a, "192.168.1.9:1", &pings, at(60));
    let last = drain(&mut a, at(60)).pop().unwrap();
    assert!(matches!(last, Action::Changed(r) if r.kind == PathKind::Lan && r.why.contains("same network")));
}

#[test]
fn a_silent_primary_gives_way_to_the_other_and_neither_is_dropped_for_a_hope() {
    let mut a = ready(&["203.0.113.1:1", "203.0.113.2:1"]);
    let pings = drain(&mut a, at(10));
    answer(&mut a, "203.0.113.1:1", &pings, at(20));
    answer(&mut a, "203.0.113.2:1", &pings, at(25));
    drain(&mut a, at(25));
    a.sent(at(1000));
    let mut now = 1000;
    while a.primary() == Some(route("203.0.113.1:1")) && now < 20_000 {
        now += 50;
        let actions = drain(&mut a, at(now));
        answer_quietly(&mut a, "203.0.113.2:1", &actions, at(now + 5));
    }
    assert_eq!(a.primary(), Some(route("203.0.113.2:1")));
    assert!(now < 7000, "took until {now} ms");
}

/// A pong that proves its pair without clearing the doubt about the primary (as if it came late).
fn answer_quietly(agent: &mut Agent, to: &str, actions: &[Action], now: Mono) {
    for action in actions {
        if let Action::Ping { route: by, number, .. } = action
            && *by == route(to)
        {
            agent.pong(*number, now);
        }
    }
}

#[test]
fn a_peer_with_ever_new_addresses_does_not_fill_the_memory() {
    let mut a = ready(&["203.0.113.1:1"]);
    for port in 1..500u16 {
        let from = format!("198.51.100.7:{port}");
        a.heard(route(&from), ground(&cards()), at(10 + u64::from(port)));
        let pings = drain(&mut a, at(10 + u64::from(port)));
        answer(&mut a, &from, &pings, at(11 + u64::from(port)));
    }
    assert!(a.pairs().count() <= crate::model::limits::CANDIDATES * 3, "{} addresses", a.pairs().count());
    assert!(a.pairs().any(|p| Some(p.route) == a.primary), "the primary stays");
    for n in 0..50u16 {
        let list: Vec<String> = (0..24).map(|p| format!("198.18.{n}.1:{}", p + 1)).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        a.set_candidates(&candidates(&list), ground(&cards()), at(1000));
        let pings = drain(&mut a, at(1000));
        list.iter().for_each(|from| answer(&mut a, from, &pings, at(1001)));
    }
    assert!(a.pairs().count() <= crate::model::limits::CANDIDATES * 3, "{} addresses", a.pairs().count());
}

#[test]
fn a_path_that_becomes_another_kind_is_said_again() {
    let mut a = ready(&["192.168.1.9:1"]);
    let pings = drain(&mut a, at(10));
    answer(&mut a, "192.168.1.9:1", &pings, at(12));
    assert!(matches!(&drain(&mut a, at(12))[..], [Action::Changed(r)] if r.kind == PathKind::Lan));
    a.network_changed(ground(&[]), at(500));
    let again = drain(&mut a, at(500));
    assert!(matches!(&again[0], Action::Changed(r) if r.kind == PathKind::Direct), "{again:?}");
}

#[test]
fn losing_every_path_is_said_once_and_recovers() {
    let mut a = ready(&["203.0.113.1:1"]);
    let pings = drain(&mut a, at(10));
    answer(&mut a, "203.0.113.1:1", &pings, at(20));
    drain(&mut a, at(20));
    a.sent(at(1000));
    let mut lost = 0;
    for ms in (1000..30_000).step_by(50) {
        lost += drain(&mut a, at(ms)).iter().filter(|x| **x == Action::Lost).count();
    }
    assert_eq!(lost, 1);
    a.heard(route("203.0.113.1:1"), ground(&cards()), at(30_000));
    a.network_changed(ground(&cards()), at(30_000));
    let pings = drain(&mut a, at(30_000));
    answer(&mut a, "203.0.113.1:1", &pings, at(30_010));
    assert!(drain(&mut a, at(30_010)).iter().any(|x| matches!(x, Action::Changed(_))));
}

#[test]
fn an_idle_path_is_pinged_at_the_keepalive_and_no_more() {
    let mut a = ready(&["203.0.113.1:1"]);
    let mut pings = 0;
    for ms in (10..60_010).step_by(10) {
        let actions = drain(&mut a, at(ms));
        pings += actions.iter().filter(|x| matches!(x, Action::Ping { .. })).count();
        answer(&mut a, "203.0.113.1:1", &actions, at(ms + 5));
    }
    assert!((4..=5).contains(&pings), "{pings}");
}

#[test]
fn ways_that_are_not_needed_do_not_wake_each_other() {
    let list: Vec<String> = (1..=8).map(|n| format!("203.0.113.{n}:1")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let mut a = ready(&list);
    let mut pings = 0;
    for ms in (10..60_010).step_by(10) {
        // The other end asks by each way whenever this end did.
        for action in drain(&mut a, at(ms)) {
            if let Action::Ping { route, number, .. } = action {
                pings += 1;
                a.heard(route, ground(&cards()), at(ms + 2));
                a.pong(number, at(ms + 2));
                a.heard(route, ground(&cards()), at(ms + 3));
            }
        }
    }
    assert!(pings <= 40, "{pings} pings in a minute of peace");
}

#[test]
fn a_peer_that_names_ever_new_addresses_makes_no_flood() {
    let mut a = ready(&["203.0.113.1:1"]);
    let mut pings = 0;
    for n in 0..100u64 {
        let list: Vec<String> = (0..24).map(|p| format!("198.18.{n}.{}:9", p + 1)).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        a.set_candidates(&candidates(&list), ground(&cards()), at(1000 + n * 100));
        for ms in 0..10 {
            let actions = drain(&mut a, at(1000 + n * 100 + ms * 10));
            pings += actions.iter().filter(|x| matches!(x, Action::Ping { .. })).count();
        }
    }
    assert!(pings <= 300, "{pings} pings for 2,400 addresses in ten seconds");
}

#[test]
fn a_way_that_was_given_up_is_asked_when_it_is_heard_again() {
    let mut a = ready(&["203.0.113.1:1", "203.0.113.2:1"]);
    let pings = drain(&mut a, at(10));
    answer(&mut a, "203.0.113.1:1", &pings, at(20));
    answer(&mut a, "203.0.113.2:1", &pings, at(30));
    a.sent(at(1000));
    for ms in (1000..40_000).step_by(20) {
        let actions = drain(&mut a, at(ms));
        answer(&mut a, "203.0.113.2:1", &actions, at(ms + 5));
    }
    assert_eq!(a.primary(), Some(route("203.0.113.2:1")));
    assert!(a.pairs().any(|p| p.route == route("203.0.113.1:1") && p.failed()), "it is left alone");
    a.heard(route("203.0.113.1:1"), ground(&cards()), at(40_000));
    let asked = |x: &Action| matches!(x, Action::Ping { route: by, .. } if *by == route("203.0.113.1:1"));
    assert!(drain(&mut a, at(40_000)).iter().any(asked));
}

/// Pings of one end in ten minutes, when the other end asks every keepalive, so many seconds after a beat, and all is well.
fn pings_when_asked(eager: bool, after_beat: u64) -> usize {
    const TO: &str = "203.0.113.1:1";
    let mut a = ready(&[TO]);
    a.eager = eager;
    let pings = drain(&mut a, at(10));
    answer(&mut a, TO, &pings, at(30));
    let mut count = 0;
    for second in 1..=600 {
        let now = at(second * 1000);
        let pings = drain(&mut a, now);
        count += pings.iter().filter(|action| matches!(action, Action::Ping { .. })).count();
        if second % 15 == after_beat {
            let now = now + Duration::from_millis(10);
            a.heard(route(TO), ground(&cards()), now);
            a.answered(route(TO), now);
        }
        answer(&mut a, TO, &pings, now + Duration::from_millis(20));
    }
    count
}

#[test]
fn while_one_end_asks_the_other_asks_seldom() {
    // Also when both clocks are in step, and the question comes at the moment of its own.
    for after_beat in [0, 7, 14] {
        let pings = [true, false].map(|eager| pings_when_asked(eager, after_beat));
        assert!((38..=42).contains(&pings[0]) && (8..=22).contains(&pings[1]), "{after_beat} s: {pings:?}");
    }
}

#[test]
fn ways_are_asked_on_one_beat_and_never_later_than_their_wait() {
    let wait = Duration::from_secs(15);
    for ms in [0, 1, 14_999, 15_000, 15_001, 44_000] {
        let (now, next) = (at(ms), (at(ms) + wait).on_beat(wait));
        assert!(next > now && next <= now + wait && next.0.as_secs() % 15 == 0, "{now:?} {next:?}");
    }
}
