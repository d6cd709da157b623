//! One list of stories for everything behind the `Session` seam, so that the session of the simulator and the one that
//! ships stay two of a kind. Stories that need hours to pass run where the clock is an argument.

use lanrage::engine::tunnel::noise::Noise;
use lanrage::engine::tunnel::plain::Plain;
use lanrage::engine::tunnel::session::{Open, Session, SessionSetup, Tick, receiver_index};
use lanrage::model::dice::Seed;
use lanrage::model::id::PartyId;
use lanrage::model::key::{NodeKeys, NodeSecret, PartyKeys, PartySecret};
use lanrage::model::time::{Mono, Now};
use lanrage::wire::packet::write_udp;
use std::net::SocketAddr;
use std::time::Duration;

const FROM: &str = "192.0.2.1:5";

fn keys(n: u8) -> NodeKeys {
    NodeKeys::new(&NodeSecret([n; 32]))
}

fn at(millis: u64) -> Now {
    let t = Duration::from_millis(millis);
    Now { mono: Mono(t), unix: Duration::from_secs(1_800_000_000) + t }
}

fn packet(text: &str) -> Vec<u8> {
    let mut room = [0; 1500];
    let n = write_udp(
        &mut room,
        "10.1.2.3:4".parse().unwrap(),
        "10.1.2.4:5".parse().unwrap(),
        64,
        text.as_bytes(),
    );
    room[..n.unwrap()].to_vec()
}

/// One end: whose it is, and what it last wanted.
struct End<S> {
    session: S,
    room: Vec<u8>,
}

impl<S: Session> End<S> {
    fn new(me: u8, peer: u8, secret: u8, seed: u64, now: Now) -> Self {
        let party = PartyKeys::new(PartyId([7; 10]), 0, &PartySecret([secret; 16]));
        let setup = SessionSetup {
            keys: keys(me),
            peer: keys(peer).tunnel_key(),
            psk: party.psk(&keys(me).key(), &keys(peer).key()),
            index: 0x00ab_0000 + u32::from(me),
            seed: Seed::from_u64(seed),
        };
        Self { session: S::new(setup, now), room: vec![0; 2048] }
    }

    fn initiate(&mut self, now: Now) -> Option<Vec<u8>> {
        let n = self.session.initiate(&mut self.room, false, now)?;
        Some(self.room[..n].to_vec())
    }

    fn seal(&mut self, plain: &[u8], now: Now) -> Option<Vec<u8>> {
        let n = self.session.seal(plain, &mut self.room, now)?;
        Some(self.room[..n].to_vec())
    }

    /// Opens; the bytes are a reply or a packet.
    fn open(&mut self, wire: &[u8], now: Now) -> (Open, Vec<u8>) {
        let open = self.session.open(wire, &mut self.room, FROM.parse::<SocketAddr>().unwrap(), now);
        let n = match open {
            Open::Plain(n) | Open::Reply(n) => n,
            Open::Nothing | Open::Refused => 0,
        };
        (open, self.room[..n].to_vec())
    }

    fn tick(&mut self, now: Now) -> (Tick, Vec<u8>) {
        let tick = self.session.tick(&mut self.room, now);
        let n = if let Tick::Send(n) = tick { n } else { 0 };
        (tick, self.room[..n].to_vec())
    }
}

fn handshake<S: Session>(a: &mut End<S>, b: &mut End<S>, now: Now) {
    let hello = a.initiate(now).expect("nothing is in flight");
    let (open, answer) = b.open(&hello, now);
    assert_eq!(open, Open::Reply(92));
    let (open, first) = a.open(&answer, now);
    assert_eq!(open, Open::Reply(32), "the initiator confirms with an empty message");
    assert_eq!(b.open(&first, now).0, Open::Nothing);
    assert!(a.session.established() && b.session.established());
}

fn pair<S: Session>(now: Now) -> (End<S>, End<S>) {
    (End::new(1, 2, 9, 1, now), End::new(2, 1, 9, 2, now))
}

fn carries<S: Session>(from: &mut End<S>, to: &mut End<S>, text: &str, now: Now) {
    let plain = packet(text);
    let wire = from.seal(&plain, now).expect("a session");
    assert_eq!(wire.len(), plain.len() + 32);
    assert_eq!(to.open(&wire, now), (Open::Plain(plain.len()), plain));
}

fn packets_go_both_ways_after_one_round_trip<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = pair::<S>(now);
    assert!(a.seal(&packet("early"), now).is_none());
    handshake(&mut a, &mut b, now);
    carries(&mut a, &mut b, "there", now);
    carries(&mut b, &mut a, "and back", now);
}

fn only_one_handshake_is_in_flight_unless_forced<S: Session>() {
    let now = at(0);
    let (mut a, _) = pair::<S>(now);
    assert!(a.initiate(now).is_some());
    assert!(a.initiate(now).is_none());
    assert_eq!(a.session.initiate(&mut a.room, true, now), Some(148));
    assert!(a.session.initiate(&mut [0; 147], true, now).is_none(), "no room");
}

fn the_initiator_is_recognised_by_the_right_node_only<S: Session>() {
    let now = at(0);
    let (mut a, _) = pair::<S>(now);
    let mut hello = a.initiate(now).unwrap();
    assert_eq!(S::initiator(&keys(2), &hello), Some(keys(1).tunnel_key()));
    assert_eq!(S::initiator(&keys(3), &hello), None);
    assert_eq!(receiver_index(&hello), None);
    hello[20] ^= 1;
    assert_eq!(S::initiator(&keys(2), &hello), None, "damaged");
    assert_eq!(S::initiator(&keys(2), &hello[..100]), None);
}

fn indices_on_the_wire_hold_the_number_given_at_birth<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = pair::<S>(now);
    let hello = a.initiate(now).unwrap();
    let (_, answer) = b.open(&hello, now);
    assert_eq!(receiver_index(&answer).unwrap(), 0x00ab_0001);
    let (_, first) = a.open(&answer, now);
    assert_eq!(receiver_index(&first).unwrap(), 0x00ab_0002);
    b.open(&first, now);
    let back = b.seal(&packet("x"), now).unwrap();
    assert_eq!(receiver_index(&back).unwrap(), 0x00ab_0001);
}

fn another_party_secret_gives_no_session<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = (End::<S>::new(1, 2, 9, 1, now), End::<S>::new(2, 1, 8, 2, now));
    let hello = a.initiate(now).unwrap();
    let (_, answer) = b.open(&hello, now);
    assert_eq!(a.open(&answer, now).0, Open::Refused);
    assert!(!a.session.established() && !b.session.established());
}

fn a_stranger_gets_no_answer<S: Session>() {
    let now = at(0);
    let (_, mut b) = pair::<S>(now);
    let mut stranger = End::<S>::new(3, 2, 9, 3, now);
    let hello = stranger.initiate(now).unwrap();
    assert_eq!(b.open(&hello, now).0, Open::Refused);
}

fn nothing_is_opened_twice<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = pair::<S>(now);
    let hello = a.initiate(now).unwrap();
    let (_, answer) = b.open(&hello, now);
    let (_, first) = a.open(&answer, now);
    b.open(&first, now);
    assert_eq!(b.open(&hello, now).0, Open::Refused, "a replayed initiation");
    assert_eq!(a.open(&answer, now).0, Open::Refused, "a replayed response");
    assert_eq!(b.open(&first, now).0, Open::Refused, "a replayed keepalive");
    let wire = a.seal(&packet("once"), now).unwrap();
    assert!(matches!(b.open(&wire, now).0, Open::Plain(_)));
    assert_eq!(b.open(&wire, now).0, Open::Refused, "a replayed packet");
    carries(&mut a, &mut b, "and it goes on", now);
}

fn order_does_not_matter_within_the_window<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = pair::<S>(now);
    handshake(&mut a, &mut b, now);
    let wires: Vec<_> = (0..3000).map(|i| a.seal(&packet(&i.to_string()), now).unwrap()).collect();
    let opens = |b: &mut End<S>, i: usize| matches!(b.open(&wires[i], now).0, Open::Plain(_));
    assert!(opens(&mut b, 500));
    assert!(opens(&mut b, 0), "late by 500");
    assert!(opens(&mut b, 1400));
    assert!(opens(&mut b, 499), "late by 901");
    assert!(!opens(&mut b, 0) && !opens(&mut b, 500), "seen");
    assert!(opens(&mut b, 2999));
    assert!(!opens(&mut b, 1500), "too old to be told from a replay");
    assert!(opens(&mut b, 2500));
    assert!(!opens(&mut b, 2500));
}

fn damage_anywhere_is_refused<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = pair::<S>(now);
    handshake(&mut a, &mut b, now);
    let wire = a.seal(&packet("precious"), now).unwrap();
    for i in 0..wire.len() {
        let mut bad = wire.clone();
        bad[i] ^= 0x40;
        assert_eq!(b.open(&bad, now).0, Open::Refused, "byte {i}");
    }
    for n in 0..wire.len() {
        assert_eq!(b.open(&wire[..n], now).0, Open::Refused, "cut to {n}");
    }
    assert!(matches!(b.open(&wire, now).0, Open::Plain(_)));
}

fn what_is_no_packet_is_refused<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = pair::<S>(now);
    handshake(&mut a, &mut b, now);
    for plain in [&b"text"[..], &[0x45, 0, 1, 0], &[0xff; 60]] {
        let wire = a.seal(plain, now).unwrap();
        assert_eq!(b.open(&wire, now).0, Open::Refused);
    }
    let mut padded = packet("padded");
    let n = padded.len();
    padded.extend_from_slice(&[0; 9]);
    let wire = a.seal(&padded, now).unwrap();
    assert_eq!(b.open(&wire, now).0, Open::Plain(n), "cut to the length its header names");
}

fn both_may_start_at_once<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = pair::<S>(now);
    let (from_a, from_b) = (a.initiate(now).unwrap(), b.initiate(now).unwrap());
    let (_, answer_of_b) = b.open(&from_a, now);
    let (_, answer_of_a) = a.open(&from_b, now);
    let (open_a, confirm_a) = a.open(&answer_of_b, now);
    let (open_b, confirm_b) = b.open(&answer_of_a, now);
    assert_eq!((open_a, open_b), (Open::Reply(32), Open::Reply(32)));
    assert_eq!(b.open(&confirm_a, now).0, Open::Nothing);
    assert_eq!(a.open(&confirm_b, now).0, Open::Nothing);
    carries(&mut a, &mut b, "there", now);
    carries(&mut b, &mut a, "back", now);
}

fn a_restarted_peer_comes_back<S: Session>() {
    let (mut a, mut b) = pair::<S>(at(0));
    handshake(&mut a, &mut b, at(0));
    let mut again = End::<S>::new(1, 2, 9, 77, at(5000));
    let lost = b.seal(&packet("for the one before"), at(5000)).unwrap();
    assert_eq!(again.open(&lost, at(5000)).0, Open::Refused);
    handshake(&mut again, &mut b, at(5000));
    carries(&mut again, &mut b, "there", at(5000));
    carries(&mut b, &mut again, "back", at(5000));
}

fn a_flood_of_handshakes_must_show_a_cookie<S: Session>() {
    let now = at(0);
    let (mut a, mut b) = pair::<S>(now);
    let mut cookie = None;
    for i in 0..12u64 {
        let n = a.session.initiate(&mut a.room, true, at(i)).unwrap();
        let hello = a.room[..n].to_vec();
        if let (Open::Reply(64), reply) = b.open(&hello, at(i)) {
            cookie = Some(reply);
            break;
        }
    }
    let cookie = cookie.expect("ten a second are enough");
    assert_eq!(a.open(&cookie, at(20)).0, Open::Nothing);
    let n = a.session.initiate(&mut a.room, true, at(20)).unwrap();
    let hello = a.room[..n].to_vec();
    assert_eq!(b.open(&hello, at(20)).0, Open::Reply(92), "the cookie proves the address");
}

macro_rules! stories {
    ($module:ident, $session:ty) => {
        mod $module {
            use super::*;
            stories!(@each $session: packets_go_both_ways_after_one_round_trip,
                only_one_handshake_is_in_flight_unless_forced,
                the_initiator_is_recognised_by_the_right_node_only,
                indices_on_the_wire_hold_the_number_given_at_birth,
                another_party_secret_gives_no_session, a_stranger_gets_no_answer, nothing_is_opened_twice,
                order_does_not_matter_within_the_window, damage_anywhere_is_refused,
                what_is_no_packet_is_refused, both_may_start_at_once, a_restarted_peer_comes_back,
                a_flood_of_handshakes_must_show_a_cookie);
        }
    };
    (@each $session:ty: $($story:ident),*) => { $(#[test] fn $story() { super::$story::<$session>(); })* };
}

stories!(plain, Plain);
stories!(noise, Noise);

/// Runs both ends by their deadlines for `until` milliseconds, carrying everything over a wire that may be cut.
fn live(a: &mut End<Plain>, b: &mut End<Plain>, from: u64, until: u64, cut: bool) -> Vec<(u64, usize)> {
    let mut sent = Vec::new();
    let mut wires: Vec<(bool, Vec<u8>)> = Vec::new();
    let mut clock = at(from);
    loop {
        while let Some((to_b, wire)) = wires.pop() {
            sent.push((clock.mono.0.as_millis() as u64, wire.len()));
            if cut {
                continue;
            }
            if let (Open::Reply(_), reply) = if to_b { b.open(&wire, clock) } else { a.open(&wire, clock) } {
                wires.push((!to_b, reply));
            }
        }
        let next = [a.session.deadline(), b.session.deadline()].into_iter().flatten().min();
        let Some(next) = next.filter(|d| d.at <= Mono(Duration::from_millis(until))) else {
            return sent;
        };
        let mono = next.at.max(clock.mono);
        clock = Now { mono, unix: at(0).unix + mono.0 };
        for (end, to_b) in [(&mut *a, true), (&mut *b, false)] {
            if end.session.deadline().is_some_and(|d| d.at <= mono) {
                if let (Tick::Send(_), wire) = end.tick(clock) {
                    wires.push((to_b, wire));
                }
                let after = end.session.deadline();
                assert!(after.is_none_or(|d| d.at > mono), "woken again at once: {after:?}");
            }
        }
    }
}

#[test]
fn keys_are_changed_by_the_initiator_when_it_sends_after_two_minutes() {
    let (mut a, mut b) = pair::<Plain>(at(0));
    handshake(&mut a, &mut b, at(0));
    carries(&mut a, &mut b, "hello", at(10));
    let sent = live(&mut a, &mut b, 10, 130_000, false);
    assert!(sent.contains(&(10_000, 32)), "a keepalive ten seconds after it last spoke: {sent:?}");
    assert!(sent.contains(&(120_000, 148)), "{sent:?}");
    carries(&mut a, &mut b, "still", at(200_000));
}

#[test]
fn an_idle_session_ends_after_three_minutes_without_a_word() {
    let (mut a, mut b) = pair::<Plain>(at(0));
    handshake(&mut a, &mut b, at(0));
    let sent = live(&mut a, &mut b, 0, 179_000, false);
    assert_eq!(sent, []);
    assert!(a.session.established());
    live(&mut a, &mut b, 0, 181_000, false);
    assert!(!a.session.established() && a.seal(&packet("x"), at(181_000)).is_none());
}

#[test]
fn a_handshake_is_repeated_every_five_seconds_and_given_up_after_ninety() {
    let (mut a, mut b) = pair::<Plain>(at(0));
    a.initiate(at(0)).unwrap();
    let sent = live(&mut a, &mut b, 0, 600_000, true);
    let times: Vec<u64> = sent.iter().map(|s| s.0).collect();
    assert_eq!(times, (1..18).map(|i| i * 5000).collect::<Vec<_>>());
    assert!(a.initiate(at(700_000)).is_some(), "and may be started again");
}

#[test]
fn unanswered_packets_lead_to_a_new_handshake_after_fifteen_seconds() {
    let (mut a, mut b) = pair::<Plain>(at(0));
    handshake(&mut a, &mut b, at(0));
    a.seal(&packet("into the void"), at(1000)).unwrap();
    let sent = live(&mut a, &mut b, 1000, 17_000, true);
    assert_eq!(sent.first(), Some(&(15_000, 148)), "{sent:?}");
}

/// How often a session that nobody uses is called in a minute from then on.
fn calls_in_a_minute(end: &mut End<Noise>, from: u64) -> usize {
    let mut calls = 0;
    while let Some(due) = end.session.deadline().filter(|d| d.at < at(from + 60_000).mono) {
        end.tick(Now { mono: due.at, unix: at(0).unix + due.at.0 });
        calls += 1;
    }
    calls
}

#[test]
fn an_answer_within_the_moment_leaves_nothing_to_be_said() {
    let (mut a, mut b) = pair::<Noise>(at(0));
    handshake(&mut a, &mut b, at(0));
    carries(&mut a, &mut b, "there?", at(1000));
    carries(&mut b, &mut a, "here", at(1001));
    let calls = [&mut a, &mut b].map(|end| calls_in_a_minute(end, 1001));
    assert!(calls.iter().all(|calls| *calls <= 7), "{calls:?}");
}

#[test]
fn the_answer_to_a_handshake_is_something_said_too() {
    let (mut a, mut b) = pair::<Noise>(at(0));
    handshake(&mut a, &mut b, at(0));
    handshake(&mut a, &mut b, at(130_000));
    carries(&mut a, &mut b, "at once", at(130_000));
    let calls = calls_in_a_minute(&mut b, 130_000);
    assert!(calls <= 7, "{calls}");
}

#[test]
fn what_came_and_was_not_answered_is_said_to_have_come_after_ten_seconds() {
    let (mut a, mut b) = pair::<Noise>(at(0));
    handshake(&mut a, &mut b, at(0));
    carries(&mut a, &mut b, "there?", at(1000));
    let due = b.session.deadline().expect("it owes an answer").at;
    assert!((at(10_000).mono..=at(11_500).mono).contains(&due), "{due:?}");
}
