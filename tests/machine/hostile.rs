//! What a member with bad intent, or a stranger with a recording, can do to a node: nothing but waste its own effort.

use crate::support::{Party, SUBNET, secret, udp};
use lanrage::buf::batch::Datagrams;
use lanrage::engine::counters::DropReason;
use lanrage::engine::tunnel::noise::Noise;
use lanrage::engine::tunnel::session::{Open, Session, SessionSetup};
use lanrage::model::addr::{Seat, Via};
use lanrage::model::dice::Seed;
use lanrage::model::id::{LinkId, PartyId};
use lanrage::model::key::{NodeKeys, PartyKeys, PartySecret, TunnelKey};
use lanrage::model::nat::NatFacts;
use lanrage::model::record::{Envelope, PeerRecord};
use lanrage::model::status::Event;
use lanrage::wire::control::Down;
use lanrage::wire::frame::{Class, Frame, FrameKind, HEADER};
use lanrage::wire::knock::{Knock, QUESTION, What};
use lanrage::wire::measure::{NOTE, Note, VERSION, What as Word};
use std::net::SocketAddr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const SEAT: Seat = Seat(200);
/// Who the hostile member is; no honest node of these stories has this number.
const NUMBER: usize = 40;

fn epoch_keys() -> PartyKeys {
    PartyKeys::new(PartyId::of(NodeKeys::new(&secret(0)).id(), 0), 0, &PartySecret([7; 16]))
}

/// A member of the party that speaks for itself: its record is true in form, its session real.
struct Hostile {
    session: Noise,
    address: SocketAddr,
}

impl Hostile {
    fn record(keys: &NodeKeys, tunnel: TunnelKey) -> Envelope {
        let record = PeerRecord {
            name: "mallory".into(),
            tunnel,
            seat: SEAT,
            seat_since: 1,
            candidates: vec![],
            nat: NatFacts::default(),
            games: vec!["openttd".into()],
            incarnation: 1,
            friend: false,
        };
        Envelope::seal(&record, keys, &epoch_keys(), 1_900_000_000_000, [3; 24])
    }

    /// Tells node 0 its record; no session yet.
    fn known_to(party: &mut Party<Noise>) -> Self {
        let keys = NodeKeys::new(&secret(NUMBER));
        let victim = NodeKeys::new(&secret(0));
        let envelope = Self::record(&keys, keys.tunnel_key());
        party.seats[0].node.handle_control(LinkId(0), Down::Record { envelope }, party.now);
        party.drain(0);
        let setup = SessionSetup {
            psk: epoch_keys().psk(&keys.key(), &victim.key()),
            keys,
            peer: victim.tunnel_key(),
            index: 77,
            seed: Seed::from_u64(5),
        };
        let session = Noise::new(setup, party.now);
        Self { session, address: "203.0.113.66:6".parse().unwrap() }
    }

    fn initiation(&mut self, party: &Party<Noise>) -> Vec<u8> {
        let mut room = [0; 148];
        let len = self.session.initiate(&mut room, true, party.now).unwrap();
        room[..len].to_vec()
    }

    /// Sends bytes to node 0 from an address; what node 0 sent back there.
    fn throw(party: &mut Party<Noise>, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        let stride = bytes.len();
        let datagrams = Datagrams { via: Via::Main, from, bytes: &mut bytes, stride };
        let seat = &mut party.seats[0];
        seat.node.handle_wan(datagrams, party.now, &mut party.wire, &mut seat.games);
        party.drain(0);
        let wire = std::mem::take(&mut party.wire);
        wire.sent[..wire.used].iter().filter(|(to, _)| *to == from).map(|(_, b)| b.clone()).collect()
    }

    /// A session with node 0.
    fn join(&mut self, party: &mut Party<Noise>) {
        let hello = self.initiation(party);
        let answers = Self::throw(party, self.address, &hello);
        let mut room = [0; 2048];
        let Open::Reply(len) = self.session.open(&answers[0], &mut room, self.address, party.now) else {
            panic!("no answer to a member's initiation");
        };
        Self::throw(party, self.address, &room[..len]);
        party.heard(0);
    }

    fn sealed(&mut self, party: &Party<Noise>, plain: &[u8]) -> Vec<u8> {
        let mut room = [0; 2048];
        let len = self.session.seal(plain, &mut room, party.now).unwrap();
        room[..len].to_vec()
    }

    fn lan_frame(&mut self, party: &mut Party<Noise>, class: Class, number: u64, packet: &[u8]) {
        let mut plain = vec![0; HEADER + packet.len()];
        let frame = Frame { kind: FrameKind::Lan, origin: SEAT.0, hops: 0, class, number, run: 9 };
        assert!(frame.write(&mut plain, packet.len()));
        plain[HEADER..].copy_from_slice(packet);
        let wire = self.sealed(party, &plain);
        Self::throw(party, self.address, &wire);
    }

    fn packet(party: &Party<Noise>, from_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
        udp(&format!("{}:{from_port}", SUBNET.v4(SEAT)), &format!("{}:{port}", party.address(0)), payload)
    }
}

fn ready(game: &str) -> Party<Noise> {
    let mut party = Party::new(1, &[game]);
    party.run(SECOND * 4);
    party
}

#[test]
fn a_frame_is_no_way_round_the_firewall() {
    let mut party = ready("openttd");
    let mut mallory = Hostile::known_to(&mut party);
    mallory.join(&mut party);
    // An answer by its port and its words, to a port that nobody asked from.
    let packet = Hostile::packet(&party, 3979, 22, &[3, 0, 1]);
    let plain = mallory.sealed(&party, &packet);
    Hostile::throw(&mut party, mallory.address, &plain);
    assert_eq!(party.heard(0), [], "as a packet");
    mallory.lan_frame(&mut party, Class::Unicast, 1, &packet);
    assert_eq!(party.heard(0), [], "as a frame");
}

#[test]
fn what_was_refused_is_no_sign_of_life() {
    let mut party = ready("openttd");
    let mut mallory = Hostile::known_to(&mut party);
    mallory.join(&mut party);
    let old = mallory.sealed(&party, &[]);
    Hostile::throw(&mut party, mallory.address, &old);
    party.run(SECOND * 100);
    let state = |party: &Party<Noise>| party.seats[0].node.status(party.now).peers[0].state.clone();
    assert_eq!(state(&party), "away");
    Hostile::throw(&mut party, mallory.address, &old);
    assert_eq!(party.seats[0].node.counters().dropped(DropReason::Refused), 1, "it is a repeat");
    assert_eq!(state(&party), "away");
}

#[test]
fn a_recorded_initiation_is_no_sign_of_life() {
    let mut party = ready("openttd");
    let mut mallory = Hostile::known_to(&mut party);
    let hello = mallory.initiation(&party);
    for _ in 0..40 {
        Hostile::throw(&mut party, mallory.address, &hello);
    }
    // The first was new. The others ran into the limit of handshakes: their senders are asked for a cookie, no more.
    party.run(SECOND * 200);
    for port in 1..40 {
        let stranger = SocketAddr::new("198.18.0.9".parse().unwrap(), port);
        Hostile::throw(&mut party, stranger, &hello);
    }
    party.wire = Default::default();
    party.run(SECOND * 31);
    let wire = &party.wire;
    let strangers = wire.sent[..wire.used].iter().filter(|(to, _)| to.ip().to_string() == "198.18.0.9");
    assert_eq!(strangers.count(), 0, "nobody is called at an address that a recording came from");
    party.run(SECOND * 80);
    assert!(party.seats[0].node.status(party.now).peers.is_empty(), "gone after five minutes of silence");
}

#[test]
fn nobody_takes_another_peers_tunnel_key() {
    let mut party = Party::<Noise>::new(2, &["openttd"]);
    let keys = NodeKeys::new(&secret(NUMBER));
    let envelope = Hostile::record(&keys, NodeKeys::new(&secret(1)).tunnel_key());
    party.seats[0].node.handle_control(LinkId(0), Down::Record { envelope }, party.now);
    assert_eq!(party.seats[0].node.counters().dropped(DropReason::BadRecord), 1);
    party.run(SECOND * 3);
    assert_eq!(party.seats[0].node.status(party.now).peers.len(), 1);
}

#[test]
fn a_party_full_of_people_long_gone_takes_a_new_one() {
    let mut party = ready("openttd");
    let meet = |party: &mut Party<Noise>, n: usize| {
        let keys = NodeKeys::new(&secret(n));
        let envelope = Hostile::record(&keys, keys.tunnel_key());
        party.seats[0].node.handle_control(LinkId(0), Down::Record { envelope }, party.now);
        party.drain(0);
    };
    (100..163).for_each(|n| meet(&mut party, n));
    assert_eq!(party.seats[0].node.status(party.now).peers.len(), 63);
    meet(&mut party, 200);
    assert_eq!(party.seats[0].node.status(party.now).peers.len(), 63, "full is full");
    party.run(SECOND * 310);
    assert_eq!(party.seats[0].node.status(party.now).peers.len(), 0);
    meet(&mut party, 200);
    assert_eq!(party.seats[0].node.status(party.now).peers.len(), 1);
    assert!(party.seats[0].memory.peers.len() < 64);
}

/// A knock as the hostile member would make it, or anybody would record it.
fn question(token: u8) -> Vec<u8> {
    let keys = NodeKeys::new(&secret(NUMBER));
    let envelope = Hostile::record(&keys, keys.tunnel_key());
    Knock { what: What::Question, token: [token; 8], envelope }.seal(&epoch_keys(), [token; 24]).unwrap()
}

#[test]
fn a_recorded_knock_gets_one_answer_no_longer_than_itself_and_shows_nobody() {
    let mut party = ready("openttd");
    let from: SocketAddr = "203.0.113.66:6".parse().unwrap();
    let before = party.seats[0].events.len();
    let answers = Hostile::throw(&mut party, from, &question(1));
    let [answer] = &answers[..] else { panic!("{} answers", answers.len()) };
    assert!(answer.len() <= QUESTION);
    let answer = Knock::open(answer, &epoch_keys()).unwrap();
    assert_eq!((answer.what, answer.token), (What::Answer, [1; 8]));
    assert_eq!(answer.envelope.key, NodeKeys::new(&secret(0)).key());
    // The same and others at once: too many for one address.
    assert!(Hostile::throw(&mut party, from, &question(1)).is_empty());
    assert!(Hostile::throw(&mut party, from, &question(2)).is_empty());
    assert_eq!(party.seats[0].node.counters().dropped(DropReason::KnockFlood), 2);
    let mut to_source = 0;
    for _ in 0..20 {
        party.run(SECOND / 2);
        to_source += party.wire.sent[..party.wire.used].iter().filter(|(to, _)| *to == from).count();
    }
    assert_eq!(to_source, 0, "nothing is sent to where a knock says that it comes from");
    let shown = &party.seats[0].events[before..];
    assert!(!shown.iter().any(|e| matches!(e, Event::PeerJoined { .. })), "{shown:?}");
    assert!(party.seats[0].node.status(party.now).peers.is_empty());
}

#[test]
fn answers_that_nobody_asked_for_and_strangers_knocks_are_nothing() {
    let mut party = ready("openttd");
    let from: SocketAddr = "203.0.113.66:6".parse().unwrap();
    let keys = NodeKeys::new(&secret(NUMBER));
    let envelope = Hostile::record(&keys, keys.tunnel_key());
    let answer = Knock { what: What::Answer, token: [9; 8], envelope: envelope.clone() };
    assert!(Hostile::throw(&mut party, from, &answer.seal(&epoch_keys(), [1; 24]).unwrap()).is_empty());
    let stranger = PartyKeys::new(epoch_keys().party(), 0, &PartySecret([8; 16]));
    let knock = Knock { what: What::Question, token: [9; 8], envelope: envelope.clone() };
    assert!(Hostile::throw(&mut party, from, &knock.seal(&stranger, [1; 24]).unwrap()).is_empty());
    // A member passes on another's record with a number of its own: the signature does not fit.
    let forged = Knock { envelope: Envelope { seq: envelope.seq + 1, ..envelope }, ..knock };
    assert!(Hostile::throw(&mut party, from, &forged.seal(&epoch_keys(), [1; 24]).unwrap()).is_empty());
    assert_eq!(party.seats[0].node.counters().dropped(DropReason::BadKnock), 3);
    assert!(party.seats[0].node.status(party.now).peers.is_empty());
}

#[test]
fn a_node_that_passes_nothing_on_passes_nothing_on() {
    let mut party = Party::<Noise>::new(2, &["openttd"]);
    party.run(SECOND * 3);
    let mut mallory = Hostile::known_to(&mut party);
    mallory.join(&mut party);
    let to = u64::from(party.address(1).octets()[3]);
    let inner = [4u8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut send = |party: &mut Party<Noise>, origin: u8, hops: u8, number: u64, inner: &[u8]| {
        let frame = Frame { kind: FrameKind::Forward, origin, hops, class: Class::Unicast, number, run: 9 };
        let mut plain = vec![0; HEADER + inner.len()];
        assert!(frame.write(&mut plain, inner.len()));
        plain[HEADER..].copy_from_slice(inner);
        let wire = mallory.sealed(party, &plain);
        Hostile::throw(party, mallory.address, &wire);
        let drops = party.seats[0].node.counters();
        [DropReason::ForwardRefused, DropReason::HopLimit, DropReason::NoSuchPeer].map(|d| drops.dropped(d))
    };
    assert_eq!(send(&mut party, SEAT.0, 1, to, &inner), [1, 0, 0], "it does not want to");
    assert_eq!(send(&mut party, SEAT.0, 2, to, &inner), [1, 1, 0], "more than once");
    assert_eq!(send(&mut party, 7, 1, to, &inner), [1, 2, 0], "in another's name");
    assert_eq!(send(&mut party, SEAT.0, 1, 99, &inner), [1, 2, 1], "to nobody");
    assert_eq!(send(&mut party, SEAT.0, 1, u64::MAX, &inner), [1, 2, 2], "to no seat at all");
    assert_eq!(send(&mut party, SEAT.0, 1, to, b"GET / HTTP/1.1"), [2, 2, 2], "what is no tunnel's");
    // What claims to be passed on to us, and is nobody's: refused like any stranger's datagram.
    let before = party.seats[0].node.counters().dropped(DropReason::UnknownDatagram);
    send(&mut party, SEAT.0, 0, to, &inner);
    assert_eq!(party.seats[0].node.counters().dropped(DropReason::UnknownDatagram), before + 1);
}

#[test]
fn a_measurement_answers_one_for_one_and_only_whom_it_agreed_to() {
    let mut party = ready("openttd");
    let mut hostile = Hostile::known_to(&mut party);
    hostile.join(&mut party);
    let mut say = |party: &mut Party<Noise>, what: Word, id: u32, len: usize| {
        let mut plain = vec![0; HEADER + len];
        let frame = Frame {
            kind: FrameKind::Measure,
            origin: SEAT.0,
            hops: 0,
            class: Class::Unicast,
            number: 0,
            run: 9,
        };
        assert!(frame.write(&mut plain, len));
        Note { id, step: 1, number: 0, what }.write(&mut plain[HEADER..]);
        let wire = hostile.sealed(party, &plain);
        let answers = Hostile::throw(party, hostile.address, &wire);
        assert!(answers.iter().all(|a| a.len() <= wire.len()) && answers.len() <= 1, "{what:?}");
        answers.len()
    };
    for what in [Word::Echo, Word::Load, Word::Bounce, Word::Count, Word::Done, Word::Yes, Word::Back] {
        for len in [0, 5, NOTE, 1_380] {
            assert_eq!(
                say(&mut party, what, 7, len),
                0,
                "{what:?} of {len} bytes, and nothing was agreed to"
            );
        }
    }
    assert_eq!(say(&mut party, Word::Ask(VERSION), 7, NOTE), 1);
    assert_eq!(say(&mut party, Word::Ask(VERSION), 7, NOTE - 1), 0, "a question is as long as its answer");
    assert_eq!(say(&mut party, Word::Echo, 8, 100), 0, "another measurement");
    let answered: usize = (0..20_000).map(|_| say(&mut party, Word::Bounce, 7, 1_380)).sum();
    assert!((4_600..=5_000).contains(&answered), "{answered} of a flood in no time at all");
    let asked: usize = (0..1_000).map(|id| say(&mut party, Word::Ask(VERSION), id, NOTE)).sum();
    assert!(asked <= 16, "{asked} questions answered");
    assert!(party.seats[0].node.counters().dropped(DropReason::MeasureRefused) > 15_000);
}
