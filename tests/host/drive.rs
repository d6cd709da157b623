//! The data loop with a real node, real sockets on loopback, the file control plane and a LAN side made of channels.

use crate::peers::{Fault, Peer, Table, announcement, until};
use lanrage::buf::batch::Source;
use lanrage::engine::effect::HostFact;
use lanrage::engine::sink::Delivery;
use lanrage::host::drive::Outside;
use lanrage::model::command::Command;
use lanrage::model::id::CardId;
use lanrage::model::relay::{RelayOffer, RelayWay};
use lanrage::model::status::Event;
use lanrage::wire::invite::Invite;
use lanrage::wire::packet::PacketView;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

#[test]
fn an_announcement_at_one_end_comes_out_at_the_other_exactly_once_with_the_right_source() {
    let table = Table::new();
    let (mut a, mut b) = (table.host("alice"), table.guest("bob"));
    let (at_a, _) = (a.config(), b.config());
    assert!(b.wait(|e| matches!(e, Event::Path { .. })).is_some(), "{:#?}", b.status());
    assert!(a.wait(|e| matches!(e, Event::Path { .. })).is_some());
    // As the game sends it: from the card's address, every 1.5 s; here every 0.2 s, the fifth one different.
    for n in 0..5u16 {
        let port = if n < 4 { 25565 } else { 25599 };
        a.game_sends(Source::Card(CardId(7)), &announcement("192.168.5.2:61000", port));
        std::thread::sleep(Duration::from_millis(200));
    }
    let heard = b.heard_for(Duration::from_millis(600));
    let announced: Vec<_> = heard.iter().filter(|(how, _)| *how == Delivery::Group).collect();
    assert_eq!(announced.len(), 5, "each exactly once: {:#?}", b.status().counters);
    for (_, packet) in &announced {
        let view = PacketView::parse(packet).unwrap();
        assert_eq!(view.source(), SocketAddr::new(at_a.v4.into(), 61000), "virtual address, original port");
        assert_eq!(view.destination(), "224.0.2.60:4445".parse().unwrap());
    }
    let Some(Event::GameFound { address, .. }) = b.wait(|e| matches!(e, Event::GameFound { .. })) else {
        panic!("the game is found");
    };
    assert_eq!(address, SocketAddr::new(at_a.v4.into(), 25565));
    assert!(a.leave().is_none() && b.leave().is_none());
}

#[test]
fn an_announcement_heard_on_two_cards_comes_out_once() {
    let table = Table::new();
    let (mut a, mut b) = (table.host("alice"), table.guest("bob"));
    b.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    a.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    let packet = announcement("192.168.5.2:61000", 25565);
    a.game_sends(Source::Card(CardId(7)), &packet);
    a.game_sends(Source::Card(CardId(8)), &packet);
    let heard = b.heard_for(Duration::from_secs(1));
    assert_eq!(heard.len(), 1, "{:#?}", a.status().counters);
}

#[test]
fn who_leaves_is_said_to_have_left_and_the_loop_ends() {
    let table = Table::new();
    let (mut a, mut b) = (table.host("alice"), table.guest("bob"));
    b.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    let began = Instant::now();
    assert!(a.leave().is_none());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(a.port_is_gone(), "the LAN side was dropped");
    assert!(b.wait(|e| matches!(e, Event::PeerLeft { .. })).is_some());
}

#[test]
fn without_a_control_plane_guests_meet_by_the_hosts_invite_and_go_on_without_him() {
    let table = Table::new();
    let began = Instant::now();
    let mut a = Peer::direct(&table, "alice", None);
    let Some(Event::Ready { invite, control, .. }) = a.wait(|e| matches!(e, Event::Ready { .. })) else {
        panic!("ready");
    };
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(control, "direct");
    let of_a = Invite::parse(&invite).unwrap();
    let mut b = Peer::direct(&table, "bob", Some(&of_a));
    let mut c = Peer::direct(&table, "carol", Some(&of_a));
    for peer in [&mut b, &mut c] {
        for _ in 0..2 {
            peer.wait(|e| matches!(e, Event::Path { .. })).expect("guests reach the host and each other");
        }
    }
    let began = Instant::now();
    assert!(a.leave().is_none());
    b.wait(|e| matches!(e, Event::PeerLeft { .. })).expect("the host left");
    assert!(began.elapsed() < Duration::from_secs(3));
    // Whoever is left can invite others.
    until(Duration::from_secs(3), || Invite::parse(&c.out.invite.borrow()).unwrap() != of_a);
    let of_c = Invite::parse(&c.out.invite.borrow().clone()).unwrap();
    let mut d = Peer::direct(&table, "dave", Some(&of_c));
    for _ in 0..2 {
        d.wait(|e| matches!(e, Event::Path { .. })).expect("the newcomer reaches both");
    }
    assert!(d.leave().is_none() && c.leave().is_none() && b.leave().is_none());
}

#[test]
fn a_relay_by_tcp_is_connected_asked_and_connected_again_when_it_hangs_up() {
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut table = Table::new();
    table.relays = vec![RelayOffer {
        ways: vec![RelayWay::Tcp { addr: relay.local_addr().unwrap() }],
        username: "u".into(),
        password: "p".into(),
        realm: String::new(),
        expires: None,
    }];
    let began = Instant::now();
    let mut a = table.host("alice");
    let connected = || {
        let (mut stream, _) = relay.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut header = [0; 20];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header[..2], [0, 3], "an Allocate request (RFC 8656)");
        stream
    };
    let first = connected();
    assert!(began.elapsed() < Duration::from_secs(1), "asked as soon as it is up: {:?}", began.elapsed());
    let counters = a.status().counters;
    assert_eq!(counters.get("stream.up"), Some(&1), "{counters:#?}");
    drop(first);
    let began = Instant::now();
    let _second = connected();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(a.leave().is_none());
}

#[test]
fn trouble_of_the_lan_side_ends_the_loop_with_that_trouble() {
    let table = Table::new();
    let mut a = table.host_with("alice", Fault::Open);
    assert_eq!(a.stopped().expect("it failed").code, "no_tun_rights");
}

#[test]
fn a_panic_in_the_data_thread_is_an_error_and_the_lan_side_is_dropped() {
    let table = Table::new();
    let mut a = table.host_with("alice", Fault::Panic);
    a.config();
    a.game_sends(Source::Tun, b"anything");
    let trouble = a.stopped().expect("it failed");
    assert_eq!(trouble.code, "internal");
    assert!(trouble.message.contains("the fake LAN side breaks"), "{}", trouble.message);
    assert!(a.port_is_gone());
}

#[test]
fn an_abort_ends_at_once_and_drops_the_lan_side() {
    let table = Table::new();
    let mut a = table.host("alice");
    a.config();
    let began = Instant::now();
    a.out.abort.cancel();
    assert!(a.stopped().is_none());
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(a.port_is_gone());
}

#[test]
fn an_abort_is_seen_under_a_load_that_never_pauses() {
    let table = Table::new();
    let mut a = table.host("alice");
    a.config();
    let (facts, cards) = (a.out.facts.clone(), table.cards());
    // More facts than one turn takes, always: the loop has no reason to sleep.
    let flood: Vec<_> = (0..2)
        .map(|_| {
            let (facts, cards) = (facts.clone(), cards.clone());
            std::thread::spawn(move || while facts.blocking_send(HostFact::Cards(cards.clone())).is_ok() {})
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    a.out.abort.cancel();
    assert!(a.stopped().is_none());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    flood.into_iter().for_each(|f| f.join().unwrap());
}

#[test]
fn what_is_to_be_kept_comes_out_and_the_status_is_paced() {
    let table = Table::new();
    let mut a = table.host("alice");
    a.wait(|e| matches!(e, Event::Ready { .. })).expect("ready");
    let Outside { keep, ready, invite, .. } = &a.out;
    assert!(keep.borrow().memory.as_ref().is_some_and(|m| m.seat.is_some()));
    assert!(*ready.borrow());
    assert_eq!(*invite.borrow(), table.invite_text());
    let mut seen = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        // Every fact is a change that people could be shown.
        a.out.facts.blocking_send(HostFact::Cards(table.cards())).unwrap();
        if a.out.status.has_changed().unwrap() {
            a.out.status.borrow_and_update();
            seen += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!((1..=9).contains(&seen), "{seen} statuses in 2 s");
}

#[test]
fn a_flood_of_facts_does_not_starve_packets() {
    let table = Table::new();
    let (mut a, mut b) = (table.host("alice"), table.guest("bob"));
    b.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    a.wait(|e| matches!(e, Event::Path { .. })).expect("a path");
    let facts = a.out.facts.clone();
    let (cards, stop) = (table.cards(), Instant::now() + Duration::from_secs(2));
    let flood = std::thread::spawn(move || {
        while Instant::now() < stop && facts.blocking_send(HostFact::Cards(cards.clone())).is_ok() {}
    });
    for n in 0..5 {
        a.game_sends(Source::Card(CardId(7)), &announcement("192.168.5.2:61000", 25000 + n));
        std::thread::sleep(Duration::from_millis(100));
    }
    let heard = b.heard_for(Duration::from_millis(500));
    assert_eq!(heard.len(), 5, "{:#?}", a.status().counters);
    flood.join().unwrap();
}

#[test]
fn a_second_evening_has_the_same_address() {
    let table = Table::new();
    let mut a = table.host("alice");
    let first = a.config();
    a.wait(|e| matches!(e, Event::Ready { .. })).expect("ready");
    let memory = a.out.keep.borrow().memory.clone().expect("something to remember");
    a.leave();
    let mut again = Peer::start(&table, "alice", true, Fault::None, (*memory).clone());
    assert_eq!(again.config(), first);
    until(Duration::from_secs(5), || again.status().control.iter().all(|c| c.state == "online"));
    again.out.commands.blocking_send(Command::Leave).unwrap();
    assert!(again.stopped().is_none());
}
