//! The client against a scripted server.

use super::script::{Script, Seen};
use super::*;
use crate::model::dice::Seed;
use crate::wire::stun::{Builder, Key};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// A client and a server with a way between them that takes 15 ms.
struct Pair {
    turn: Turn,
    server: Script,
    now: Mono,
    /// Answers under way.
    answers: Vec<(Mono, Vec<u8>)>,
    /// So many datagrams from the client get lost.
    lose: usize,
}

impl Pair {
    fn new() -> Self {
        Self::over(Via::Main, false)
    }

    fn over(via: Via, v6: bool) -> Self {
        let setup = TurnSetup {
            endpoint: Endpoint { via, to: "192.0.2.1:3478".parse().unwrap() },
            username: "1:me".to_owned(),
            password: "secret".to_owned(),
            v6,
        };
        let turn = Turn::new(setup, Seed::from_u64(1).dice("turn"), Mono::ZERO);
        Self { turn, server: Script::new(), now: Mono::ZERO, answers: Vec::new(), lose: 0 }
    }

    /// Everything the client wants to say reaches the server; the answers come 30 ms later.
    fn flush(&mut self) {
        let mut room = [0u8; 1024];
        while self.turn.has_transmit() {
            let len = self.turn.poll_transmit(&mut room).expect("what has_transmit promised");
            if self.lose > 0 {
                self.lose -= 1;
            } else if let Some(answer) = self.server.answer(&room[..len]) {
                self.answers.push((self.now + 30 * MS, answer));
            }
        }
        assert_eq!(self.turn.poll_transmit(&mut room), None);
    }

    /// Runs for so long; the events on the way.
    fn run(&mut self, time: Duration) -> Vec<TurnEvent> {
        let (until, mut events) = (self.now + time, Vec::new());
        for _ in 0..10_000 {
            self.flush();
            events.extend(std::iter::from_fn(|| self.turn.poll_event()));
            let answer = self.answers.iter().map(|(at, _)| *at).min();
            let next = [answer, self.turn.deadline().map(|d| d.at)].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= until) else {
                self.now = until;
                return events;
            };
            self.now = self.now.max(next);
            match self.answers.iter().position(|(at, _)| *at <= self.now) {
                Some(at) => {
                    let (_, answer) = self.answers.remove(at);
                    let became = self.turn.handle(&answer, self.now);
                    assert!(matches!(became, TurnIn::Taken | TurnIn::NotMine), "late ones find nobody");
                }
                None => self.turn.handle_timeout(self.now),
            }
        }
        panic!("it never comes to rest");
    }

    fn up() -> Self {
        let mut pair = Self::new();
        assert!(matches!(pair.run(S)[..], [TurnEvent::Allocated { .. }]));
        pair.server.seen.clear();
        pair
    }

    fn seen(&self, method: Method) -> Vec<&Seen> {
        self.server.seen.iter().filter(|s| s.method == method).collect()
    }

    fn wrap(&mut self, peer: SocketAddr, body: &[u8]) -> Option<Vec<u8>> {
        let prefix = self.turn.prefix(&peer)?;
        let mut room = vec![0xee; prefix + body.len() + 3];
        room[prefix..prefix + body.len()].copy_from_slice(body);
        let len = self.turn.wrap(&mut room, &peer, body.len(), self.now)?;
        room.truncate(len);
        Some(room)
    }
}

fn peer(n: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, n], 1_000 + u16::from(n)))
}

fn failed(events: &[TurnEvent]) -> Option<TurnFailure> {
    events.iter().find_map(|e| match e {
        TurnEvent::Failed { why } => Some(*why),
        TurnEvent::Allocated { .. } | TurnEvent::Mapped(_) | TurnEvent::Lost { .. } => None,
    })
}

#[test]
fn two_round_trips_bring_a_relayed_address() {
    let mut pair = Pair::new();
    let events = pair.run(60 * MS);
    let TurnEvent::Allocated { relayed, mapped, rtt, lifetime } = events[0] else { panic!("{events:?}") };
    assert_eq!((relayed, mapped), (pair.server.relayed, pair.server.client));
    assert_eq!((rtt, lifetime), (30 * MS, Duration::from_secs(600)));
    assert_eq!(pair.turn.state(), TurnState::Up);
    assert_eq!(pair.seen(Method::Allocate).iter().map(|s| s.signed).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn permissions_asked_before_there_is_an_allocation_are_sent_at_once_in_one_request() {
    let mut pair = Pair::new();
    for n in 1..=3 {
        assert!(pair.turn.permit(peer(n), pair.now));
        pair.turn.permit(peer(n), pair.now);
    }
    assert!(!pair.turn.permit("[2001:db8::1]:5".parse().unwrap(), pair.now), "another family");
    assert_eq!(pair.turn.prefix(&peer(1)), None);
    pair.run(60 * MS);
    let asked = pair.seen(Method::CreatePermission);
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].peers.iter().map(SocketAddr::ip).collect::<Vec<_>>(),
        [1, 2, 3].map(|n| peer(n).ip())
    );
    assert_eq!(pair.seen(Method::ChannelBind).len(), 3);
    assert_eq!(pair.turn.prefix(&peer(1)), Some(36), "under way: what is sent now arrives after it");
    pair.run(30 * MS);
    assert_eq!(pair.turn.prefix(&peer(1)), Some(4));
    let mut numbers: Vec<u16> = pair.server.channels.iter().map(|c| c.0).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 3);
}

#[test]
fn data_goes_out_in_an_indication_and_then_by_channel() {
    let mut pair = Pair::up();
    pair.turn.permit(peer(1), pair.now);
    assert_eq!(pair.wrap(peer(1), b"x"), None, "not asked yet");
    pair.flush();
    let early = pair.wrap(peer(1), b"hello").unwrap();
    let m = Message::parse(&early).unwrap();
    assert_eq!((m.method(), m.peer(), m.data()), (Method::Send, Some(peer(1)), Some(&b"hello"[..])));
    assert_eq!(early[early.len() - 3..], [0; 3], "padding says nothing of the buffer's past");
    pair.run(S);
    let late = pair.wrap(peer(1), b"hello").unwrap();
    assert_eq!(channel::read(&late, false), Some((pair.server.channels[0].0, 4..9)));
    assert_eq!(late.len(), 9);
    assert_eq!(pair.wrap(peer(2), b"hello"), None, "nobody asked for this one");
}

#[test]
fn data_comes_in_both_ways_and_only_from_peers_that_were_asked_for() {
    let mut pair = Pair::up();
    pair.turn.permit(peer(1), pair.now);
    pair.run(S);
    let mut bytes = [0u8; 64];
    assert!(channel::write_header(&mut bytes, pair.server.channels[0].0, 60));
    assert_eq!(pair.turn.handle(&bytes, pair.now), TurnIn::Data { peer: peer(1), body: 4..64 });
    assert!(channel::write_header(&mut bytes, 0x4fff, 60));
    assert_eq!(pair.turn.handle(&bytes, pair.now), TurnIn::Taken, "a channel of nobody");
    let mut indication = |from: SocketAddr| {
        let mut room = vec![0u8; 40];
        let len = indication_prefix(&mut room, Method::Data, Transaction([1; 12]), from, 4).unwrap();
        let came = pair.turn.handle(&room, pair.now);
        (came, len)
    };
    let other_port = SocketAddr::new(peer(1).ip(), 9);
    assert_eq!(indication(other_port), (TurnIn::Data { peer: other_port, body: 36..40 }, 36));
    assert_eq!(indication(peer(7)).0, TurnIn::Taken);
    assert_eq!(pair.turn.handle(&[1, 0, 0, 0, 5, 5], pair.now), TurnIn::NotMine, "WireGuard");
}

#[test]
fn lost_requests_are_sent_again_soon() {
    let mut pair = Pair::new();
    pair.lose = 2;
    let events = pair.run(600 * MS);
    assert!(matches!(events[..], [TurnEvent::Allocated { .. }]), "{events:?}");
    assert!(pair.now.0 <= 600 * MS);
}

#[test]
fn a_silent_server_is_given_up_after_five_seconds_and_tried_again_on_demand() {
    let mut pair = Pair::new();
    pair.server.silent = true;
    assert_eq!(pair.run(4_900 * MS), []);
    assert_eq!(pair.run(200 * MS), [TurnEvent::Failed { why: TurnFailure::Silent }]);
    assert_eq!((pair.turn.state(), pair.turn.deadline()), (TurnState::Down, None));
    assert!(pair.server.seen.len() <= 8, "{} copies", pair.server.seen.len());
    pair.server.silent = false;
    pair.turn.restart(pair.now);
    assert!(matches!(pair.run(S)[..], [TurnEvent::Allocated { .. }]));
}

#[test]
fn nothing_is_sent_twice_over_a_stream() {
    let mut pair = Pair::over(Via::Stream(3), false);
    pair.server.silent = true;
    assert_eq!(failed(&pair.run(6 * S)), Some(TurnFailure::Silent));
    assert_eq!(pair.server.seen.len(), 1);
}

#[test]
fn an_evening_keeps_everything_alive_before_it_expires() {
    let mut pair = Pair::up();
    for n in 1..=20 {
        pair.turn.permit(peer(n), pair.now);
    }
    pair.run(S);
    pair.server.seen.clear();
    let hour = Duration::from_secs(3_600);
    assert_eq!(pair.run(hour), []);
    let refreshes = pair.seen(Method::Refresh).len();
    assert!((6..=13).contains(&refreshes), "{refreshes} refreshes");
    let grants = pair.seen(Method::CreatePermission).len();
    assert!((12 * 2..=17 * 2).contains(&grants), "{grants} permissions in requests of 16 and 4");
    let binds = pair.seen(Method::ChannelBind).len();
    assert!((20 * 6..=20 * 8).contains(&binds), "{binds} channels");
    let signs = pair.seen(Method::Binding).len();
    assert!((200..=245).contains(&signs), "{signs} signs of life");
    assert_eq!(pair.turn.prefix(&peer(20)), Some(4));
}

#[test]
fn a_stale_nonce_costs_one_round_trip_and_nothing_else() {
    let mut pair = Pair::up();
    pair.server.nonce = "n2".to_owned();
    pair.turn.permit(peer(1), pair.now);
    assert_eq!(pair.run(60 * MS), []);
    assert_eq!(pair.turn.prefix(&peer(1)), Some(4));
}

#[test]
fn a_server_with_a_new_nonce_each_time_is_given_up() {
    let mut pair = Pair::up();
    pair.turn.check(pair.now);
    let (mut room, mut round) = ([0u8; 1024], 0);
    while let Some(len) = pair.turn.poll_transmit(&mut room) {
        round += 1;
        pair.server.nonce = format!("again{round}");
        if let Some(answer) = pair.server.answer(&room[..len]) {
            pair.turn.handle(&answer, pair.now);
        }
        assert!(round < 20);
    }
    assert_eq!(pair.turn.state(), TurnState::Down);
    assert!(pair.seen(Method::Refresh).len() <= 6);
}

#[test]
fn refusals_have_their_words() {
    for (code, why) in [
        (403, TurnFailure::Forbidden),
        (440, TurnFailure::Family),
        (442, TurnFailure::Transport),
        (486, TurnFailure::Quota),
        (508, TurnFailure::Full),
        (500, TurnFailure::Refused(500)),
    ] {
        let mut pair = Pair::new();
        pair.server.refuse.push((Method::Allocate, code));
        assert_eq!(pair.run(S), [TurnEvent::Failed { why }]);
        assert!(!why.to_string().is_empty());
    }
    let mut pair = Pair::new();
    pair.server.users[0].1 = "another".to_owned();
    assert_eq!(pair.run(S), [TurnEvent::Failed { why: TurnFailure::Credentials }]);
}

#[test]
fn forged_answers_are_ignored() {
    let mut pair = Pair::new();
    pair.server.forged = true;
    assert_eq!(failed(&pair.run(10 * S)), Some(TurnFailure::Silent), "they count as none");
    let mut pair = Pair::up();
    pair.server.forged = true;
    pair.server.refuse.push((Method::Refresh, 437));
    pair.turn.check(pair.now);
    assert_eq!(pair.run(100 * MS), []);
    assert_eq!(pair.turn.relayed(), Some(pair.server.relayed), "a forged 437 takes nothing away");
}

#[test]
fn a_new_outside_address_is_noticed_on_doubt_and_a_new_allocation_made_at_once() {
    let mut pair = Pair::up();
    pair.turn.permit(peer(1), pair.now);
    pair.run(S);
    let old = pair.server.relayed;
    pair.server.client = "198.51.100.7:41000".parse().unwrap();
    pair.server.relayed = "203.0.113.5:50001".parse().unwrap();
    pair.turn.check(pair.now);
    let events = pair.run(150 * MS);
    assert!(events.contains(&TurnEvent::Lost { relayed: old, why: TurnFailure::Gone }), "{events:?}");
    assert!(events.contains(&TurnEvent::Mapped(pair.server.client)), "{events:?}");
    assert_eq!(pair.turn.relayed(), Some(pair.server.relayed));
    assert_eq!(pair.turn.prefix(&peer(1)), Some(4), "the peer is permitted anew");
}

#[test]
fn a_new_outside_address_is_noticed_by_the_sign_of_life_too() {
    let mut pair = Pair::up();
    pair.server.client = "198.51.100.8:41000".parse().unwrap();
    let events = pair.run(16 * S);
    assert!(events.contains(&TurnEvent::Mapped(pair.server.client)), "{events:?}");
    assert_eq!(pair.turn.state(), TurnState::Up);
}

#[test]
fn a_restarted_server_is_noticed_on_doubt() {
    let mut pair = Pair::up();
    pair.server.allocation = None;
    pair.server.nonce = "reborn".to_owned();
    pair.turn.check(pair.now);
    let events = pair.run(200 * MS);
    assert!(matches!(events[..], [TurnEvent::Lost { .. }, TurnEvent::Allocated { .. }]), "{events:?}");
}

#[test]
fn a_dead_server_in_doubt_is_given_up_within_two_seconds() {
    let mut pair = Pair::up();
    pair.server.silent = true;
    pair.turn.check(pair.now);
    pair.run(100 * MS);
    pair.turn.check(pair.now);
    let events = pair.run(1_500 * MS);
    let relayed = pair.server.relayed;
    let why = TurnFailure::Silent;
    assert_eq!(events, [TurnEvent::Lost { relayed, why }, TurnEvent::Failed { why }]);
    assert!((3..=6).contains(&pair.seen(Method::Refresh).len()));
}

#[test]
fn an_allocation_of_an_earlier_run_is_given_back_first() {
    let mut pair = Pair::new();
    pair.server.allocation = Some((pair.server.client, "1:me".to_owned()));
    assert!(matches!(pair.run(S)[..], [TurnEvent::Allocated { .. }]));
    let mut pair = Pair::new();
    pair.server.allocation = Some((pair.server.client, "2:other".to_owned()));
    assert_eq!(
        pair.run(S),
        [TurnEvent::Failed { why: TurnFailure::Mismatch }],
        "somebody else's is not ours"
    );
}

#[test]
fn another_server_is_followed_once() {
    let other = "192.0.2.99:3478".parse().unwrap();
    let mut pair = Pair::new();
    pair.server.alternate = Some(other);
    pair.flush();
    let (at, answer) = pair.answers.remove(0);
    pair.turn.handle(&answer, at);
    assert_eq!(pair.turn.endpoint(), Endpoint::main(other));
    let third = "192.0.2.100:3478".parse().unwrap();
    pair.server.alternate = Some(third);
    assert_eq!(failed(&pair.run(S)), Some(TurnFailure::Alternate(third)), "not twice");
    for bad in ["[2001:db8::1]:3478", "224.0.0.1:3478", "192.0.2.1:3478"] {
        let bad = bad.parse().unwrap();
        let mut pair = Pair::new();
        pair.server.alternate = Some(bad);
        assert_eq!(failed(&pair.run(S)), Some(TurnFailure::Alternate(bad)));
    }
    let mut pair = Pair::over(Via::Stream(1), false);
    pair.server.alternate = Some(other);
    assert_eq!(failed(&pair.run(S)), Some(TurnFailure::Alternate(other)), "only the owner opens streams");
}

#[test]
fn one_forbidden_peer_does_not_cost_the_others_their_permission() {
    let mut pair = Pair::up();
    pair.server.forbidden.push(peer(2).ip());
    for n in 1..=4 {
        pair.turn.permit(peer(n), pair.now);
    }
    pair.run(S);
    assert_eq!([1, 2, 3, 4].map(|n| pair.turn.prefix(&peer(n)).is_some()), [true, false, true, true]);
    pair.server.seen.clear();
    pair.run(30 * S);
    assert!(pair.seen(Method::CreatePermission).is_empty(), "the server is not asked again and again");
}

#[test]
fn without_channels_indications_do() {
    let mut pair = Pair::up();
    pair.server.refuse.push((Method::ChannelBind, 508));
    pair.turn.permit(peer(1), pair.now);
    pair.run(S);
    assert_eq!(pair.turn.prefix(&peer(1)), Some(36));
    assert_eq!(pair.turn.state(), TurnState::Up);
}

#[test]
fn peers_are_bounded_and_a_number_stays_its_peers() {
    let mut pair = Pair::up();
    let many = |n: u16| {
        let [high, low] = n.to_be_bytes();
        SocketAddr::from(([10, 1, high, low], 7))
    };
    for n in 0..400 {
        pair.turn.permit(many(n), pair.now);
        pair.run(MS);
    }
    pair.run(S);
    assert_eq!((0..400).filter(|n| pair.turn.prefix(&many(*n)).is_some()).count(), Peers::MOST);
    assert!(pair.turn.prefix(&many(399)).is_some() && pair.turn.prefix(&many(0)).is_none());
    // back again: the server still holds the number for it and would refuse another (the script does)
    pair.turn.permit(many(0), pair.now);
    pair.run(S);
    assert_eq!(pair.turn.prefix(&many(0)), Some(4));
    pair.turn.forget(many(0));
    assert_eq!(pair.turn.prefix(&many(0)), None);
}

#[test]
fn fresh_credentials_are_used_when_the_old_ones_are_refused() {
    let mut pair = Pair::up();
    pair.server.users.push(("2:me".to_owned(), "newer".to_owned()));
    pair.turn.set_credentials("2:me", "newer");
    pair.turn.check(pair.now);
    assert_eq!(pair.run(S), [], "the living allocation keeps its own");
    pair.server.users.remove(0);
    pair.server.allocation = None;
    pair.turn.check(pair.now);
    let events = pair.run(S);
    assert!(matches!(events[..], [TurnEvent::Lost { .. }, TurnEvent::Allocated { .. }]), "{events:?}");
    assert_eq!(pair.server.allocation.as_ref().unwrap().1, "2:me");
}

#[test]
fn after_a_long_sleep_the_allocation_is_known_to_be_gone() {
    let mut pair = Pair::up();
    pair.server.allocation = None;
    pair.now = pair.now + Duration::from_secs(7_200);
    pair.turn.handle_timeout(pair.now);
    let events = pair.run(S);
    assert!(matches!(events[..], [TurnEvent::Lost { .. }, TurnEvent::Allocated { .. }]), "{events:?}");
}

#[test]
fn a_server_that_forgets_at_once_every_time_is_left_alone() {
    let mut pair = Pair::up();
    let mut events = Vec::new();
    for _ in 0..10 {
        pair.server.allocation = None;
        pair.turn.check(pair.now);
        events.extend(pair.run(200 * MS));
    }
    assert_eq!(failed(&events), Some(TurnFailure::Gone));
    assert!(pair.seen(Method::Allocate).len() <= 10);
}

#[test]
fn closing_gives_the_allocation_back() {
    let mut pair = Pair::up();
    pair.turn.close();
    assert_eq!(pair.run(S), []);
    assert_eq!((pair.server.allocation.as_ref(), pair.turn.state()), (None, TurnState::Down));
    assert_eq!(pair.seen(Method::Refresh)[0].lifetime, Some(Duration::ZERO));
    let mut pair = Pair::up();
    pair.server.silent = true;
    pair.turn.close();
    assert_eq!(pair.run(6 * S), []);
    assert_eq!(pair.turn.state(), TurnState::Down);
}

#[test]
fn an_ipv6_address_is_asked_for_by_family() {
    let mut pair = Pair::over(Via::Main, true);
    pair.server.relayed = "[2001:db8::5]:50000".parse().unwrap();
    assert!(matches!(pair.run(S)[..], [TurnEvent::Allocated { .. }]));
    assert!(pair.turn.permit("[2001:db8::9]:5".parse().unwrap(), pair.now));
    assert!(!pair.turn.permit(peer(1), pair.now));
    let mut pair = Pair::over(Via::Main, true);
    assert_eq!(failed(&pair.run(S)), Some(TurnFailure::Malformed), "an IPv4 address was not asked for");
}

#[test]
fn an_answer_without_an_address_is_malformed() {
    let mut pair = Pair::new();
    pair.run(40 * MS);
    let mut room = [0u8; 1024];
    // the signed request is under way; a signed answer that says nothing
    let id = pair.turn.asks.any_id();
    let key = Key::long_term("1:me", "lanrage", "secret");
    let len = Builder::new(&mut room, Method::Allocate, Class::Success, id).sign(&key).finish().unwrap();
    assert_eq!(pair.turn.handle(&room[..len], pair.now), TurnIn::Taken);
    assert_eq!(pair.turn.poll_event(), Some(TurnEvent::Failed { why: TurnFailure::Malformed }));
}

proptest! {
    #[test]
    fn hostile_bytes_change_nothing(datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..20)) {
        let mut pair = Pair::up();
        pair.turn.permit(peer(1), pair.now);
        pair.run(S);
        for mut bytes in datagrams {
            pair.turn.handle(&bytes, pair.now);
            // and as something that looks like STUN
            if bytes.len() >= 20 {
                bytes[0] &= 0x01;
                bytes[1] = 0x01 | bytes[1] & 0x1f;
                let length = u16::try_from((bytes.len() - 20) & !3).unwrap();
                bytes.truncate(20 + usize::from(length));
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
                pair.turn.handle(&bytes, pair.now);
            }
        }
        prop_assert_eq!(pair.turn.poll_event(), None);
        prop_assert_eq!(pair.turn.state(), TurnState::Up);
        prop_assert_eq!(pair.turn.prefix(&peer(1)), Some(4));
    }

    #[test]
    fn whatever_is_asked_in_whatever_order_it_comes_to_rest(steps in proptest::collection::vec((0u8..9, 0u16..3_000), 0..40)) {
        let mut pair = Pair::new();
        for (step, ms) in steps {
            match step {
                0 => pair.turn.check(pair.now),
                1 => { pair.turn.permit(peer(u8::try_from(ms % 200).unwrap()), pair.now); }
                2 => pair.turn.forget(peer(u8::try_from(ms % 200).unwrap())),
                3 => pair.server.silent = ms % 3 == 0,
                4 => pair.turn.restart(pair.now),
                5 => pair.server.nonce = format!("n{ms}"),
                6 => pair.server.client.set_port(40_000 + ms % 4),
                7 => pair.server.allocation = None,
                _ => pair.turn.close(),
            }
            pair.run(Duration::from_millis(ms.into()));
        }
        pair.server.silent = false;
        pair.turn.restart(pair.now);
        pair.run(Duration::from_secs(5));
        prop_assert_eq!(pair.turn.state(), TurnState::Up);
    }
}
