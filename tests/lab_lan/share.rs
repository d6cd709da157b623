//! `--share-lan`: what the computers of the player's own networks see and reach of the party's games, and what they do not.
//! By a user without any right.

use super::proxy::{become_nobody, count, hand_over, rules, taken};
use super::*;
use lanrage::host::lan::proxy::{ProxyOptions, ProxyPort};
use std::net::TcpStream;

const PEER: &str = "10.83.7.2:61000";

fn open_shared() -> ProxyPort {
    let cards = list_cards("lanrage0");
    become_nobody();
    let options = ProxyOptions { share_lan: true, ..ProxyOptions::default() };
    let mut port = ProxyPort::open(options, &config()).unwrap();
    port.set_rules(&rules());
    port.set_cards(&cards);
    port
}

/// A neighbour's socket at this address.
fn neighbour(far: &Elsewhere, at: &'static str) -> UdpSocket {
    far.run(move || {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_broadcast(true).unwrap();
        socket
    })
}

/// Listens to Minecraft's group on this card of the far side.
fn on_group(far: &Elsewhere, name: &'static str) -> UdpSocket {
    far.run(move || {
        let line = ip(&format!("-o link show {name}"));
        let index = line.split(':').next().unwrap().trim().parse().unwrap();
        member(MINECRAFT, 4445, index, false)
    })
}

#[test]
fn an_announcement_names_this_computers_own_address_in_each_network() {
    lab(|| async {
        let far = two_cards();
        let lists = ["far0", "far1"].map(|card| on_group(&far, card));
        let mut port = open_shared();
        let java = java_like(MINECRAFT, 4445);
        tokio::time::sleep(Duration::from_millis(260)).await;
        hand_over(&mut port, PEER, "224.0.2.60:4445", b"[AD]10.83.7.2:25565[/AD]");
        for (list, own) in lists.iter().zip(["192.168.5.2", "192.168.6.2"]) {
            let said = format!("[AD]{own}:25565[/AD]").into_bytes();
            assert_eq!(heard(list, SOON), [(said, format!("{own}:61000").parse().unwrap())]);
        }
        // The own game has it once, from the stand-in, as ever.
        let got = heard(&java, SOON);
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!(got[0].1, "127.83.7.2:61000".parse().unwrap());
        let of = "10.83.7.2:25565".parse().unwrap();
        let shared: Vec<String> = port.shared(of, false).iter().map(ToString::to_string).collect();
        assert_eq!(shared, ["192.168.5.2:25565", "192.168.6.2:25565"]);
        assert!(taken(&mut port, 1).await.is_empty(), "what was said to neighbours is not heard again");
    });
}

#[test]
fn a_neighbour_joins_and_is_answered_by_the_port_that_he_joined() {
    lab(|| async {
        let far = two_cards();
        let mut port = open_shared();
        hand_over(&mut port, PEER, "224.0.2.60:4445", b"[AD]25565[/AD]");
        let (one, two) = (neighbour(&far, "192.168.5.1:5555"), neighbour(&far, "192.168.6.1:5555"));
        one.send_to(b"join", "192.168.5.2:25565").unwrap();
        two.send_to(b"join", "192.168.6.2:25565").unwrap();
        let joined = taken(&mut port, 2).await;
        assert_eq!(joined.len(), 2, "{:?}", port.counters());
        let us =
            |from: &str| from.strip_prefix("10.83.7.1:").expect("our own address").parse::<u16>().unwrap();
        assert!(joined.iter().all(|j| j.2 == "10.83.7.2:25565" && us(&j.1) >= 61_000), "{joined:?}");
        assert_ne!(joined[0].1, joined[1].1, "the server tells them apart");
        for (_, from, _, _) in &joined {
            hand_over(&mut port, "10.83.7.2:25565", from, format!("welcome {from}").as_bytes());
        }
        let answers = [&one, &two].map(|socket| heard(socket, SOON));
        for (answer, own) in answers.iter().zip(["192.168.5.2", "192.168.6.2"]) {
            assert_eq!(answer.len(), 1, "{answers:?}");
            assert_eq!(answer[0].1, format!("{own}:25565").parse().unwrap());
        }
        assert_ne!(answers[0][0].0, answers[1][0].0, "each has his own");
    });
}

#[test]
fn a_neighbours_search_is_carried_and_its_answer_comes_back_and_nothing_else_of_his_is() {
    lab(|| async {
        let far = two_cards();
        let mut port = open_shared();
        // Ports of broadcasts are listened to from the start: nobody counts the searches of neighbours.
        port.try_read(&mut Batch::default());
        assert!(count(&port, |c| c.hearing) >= 3, "{:?}", port.counters());
        let game = neighbour(&far, "192.168.5.1:0");
        game.set_multicast_loop_v4(false).unwrap();
        for to in ["192.168.5.255:5000", "224.0.2.60:4445", "224.0.2.61:4446"] {
            game.send_to(b"[AD]search", to).unwrap();
        }
        game.send_to(b"search", "192.168.5.255:5000").unwrap();
        let carried = taken(&mut port, 2).await;
        assert_eq!(carried.len(), 1, "the search alone: {carried:?}");
        let (source, from, to, said) = &carried[0];
        assert_eq!(
            (*source, to.as_str(), said.as_slice()),
            (Source::Card(card("eth0")), "192.168.5.255:5000", &b"search"[..])
        );
        hand_over(&mut port, "10.83.7.2:5000", from, b"here");
        assert_eq!(heard(&game, SOON), [(b"here".to_vec(), "192.168.5.2:5000".parse().unwrap())]);
        // Joined where the answer came from.
        game.send_to(b"join", "192.168.5.2:5000").unwrap();
        let joined = taken(&mut port, 1).await;
        assert_eq!((&joined[0].1, joined[0].2.as_str()), (from, "10.83.7.2:5000"), "by the same port");
    });
}

#[test]
fn what_is_open_to_neighbours_is_no_game_of_this_computer() {
    lab(|| async {
        let _far = two_cards();
        let mut port = open_shared();
        hand_over(&mut port, PEER, "224.0.2.60:4445", b"[AD]25565[/AD]");
        hand_over(&mut port, "10.83.7.3:61000", "10.83.7.1:25565", b"hello");
        assert!(taken(&mut port, 1).await.is_empty(), "one peer does not meet another here");
        assert_eq!((count(&port, |c| c.udp_out), count(&port, |c| c.strangers)), (0, 0));
    });
}

#[test]
fn peers_searches_stay_on_this_computer() {
    lab(|| async {
        let far = two_cards();
        let wire = Wire::tap(&far);
        let mut port = open_shared();
        let server = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        server.set_reuse_address(true).unwrap();
        server.bind(&"0.0.0.0:5000".parse::<SocketAddr>().unwrap().into()).unwrap();
        for to in ["255.255.255.255:5000", "10.83.7.255:5000"] {
            hand_over(&mut port, PEER, to, b"search");
        }
        assert_eq!(heard(&UdpSocket::from(server), SOON).len(), 2);
        assert_eq!(wire.count(b"search"), 0);
    });
}

#[test]
fn who_is_in_no_network_of_ours_reaches_nothing() {
    lab(|| async {
        let far = two_cards();
        far.run(|| ip("addr add 203.0.113.9/32 dev far0"));
        let mut port = open_shared();
        hand_over(&mut port, PEER, "224.0.2.60:4445", b"[AD]25565[/AD]");
        let stranger = neighbour(&far, "203.0.113.9:5555");
        stranger.send_to(b"join", "192.168.5.2:25565").unwrap();
        assert!(taken(&mut port, 1).await.is_empty());
        assert_eq!(count(&port, |c| c.strangers), 1);
    });
}

#[test]
fn a_network_of_public_addresses_is_not_shared_with() {
    lab(|| async {
        let _far = two_cards();
        ip("addr flush dev eth0");
        ip("addr add 203.0.113.2/24 brd + dev eth0");
        let mut port = open_shared();
        hand_over(&mut port, PEER, "224.0.2.60:4445", b"[AD]25565[/AD]");
        let of = "10.83.7.2:25565".parse().unwrap();
        assert_eq!(port.shared(of, false), ["192.168.6.2:25565".parse().unwrap()]);
    });
}

#[test]
fn a_network_that_is_left_takes_its_ports_along() {
    lab(|| async {
        let far = two_cards();
        let mut port = open_shared();
        port.keep_game("10.83.7.2:7000".parse().unwrap(), true);
        hand_over(&mut port, PEER, "224.0.2.60:4445", b"[AD]25565[/AD]");
        let connects = |at: &'static str| {
            far.run(move || TcpStream::connect_timeout(&at.parse().unwrap(), Duration::from_secs(2)).is_ok())
        };
        assert!(connects("192.168.5.2:7000") && connects("192.168.6.2:7000"));
        let one: Vec<Card> = list_cards("lanrage0").into_iter().filter(|card| card.name == "eth1").collect();
        port.set_cards(&one);
        // Another test's program may hold a copy of the socket until it has begun.
        let end = Instant::now() + Duration::from_secs(2);
        while connects("192.168.5.2:7000") {
            assert!(Instant::now() < end, "still open");
        }
        assert!(connects("192.168.6.2:7000"));
        let of = "10.83.7.2:25565".parse().unwrap();
        assert_eq!(port.shared(of, false), ["192.168.6.2:25565".parse().unwrap()]);
    });
}
