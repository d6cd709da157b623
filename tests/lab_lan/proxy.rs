//! Proxy mode on a computer with cards, by a user without any right: what it hears, what it hands over, and that the
//! physical network neither sees nor reaches anything of it.

use super::*;
use lanrage::host::lan::proxy::{ProxyOptions, ProxyPort};
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::rules::ruleset::Ruleset;

/// Drops every capability of the calling thread, for good, by becoming nobody.
pub(crate) fn become_nobody() {
    const NOBODY: libc::c_long = 65_534;
    // SAFETY: a plain system call without pointers; as a bare call it concerns only the calling thread.
    #[expect(unsafe_code, reason = "std cannot change a thread's user")]
    let done = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let effective = status.lines().find(|line| line.starts_with("CapEff:")).unwrap();
    assert!(effective.ends_with("0000000000000000"), "{effective}");
}

/// A game that searches by broadcasts to 5000, and one that announces itself to a group and names its port.
pub(crate) fn rules() -> Ruleset {
    let search = check_text(
        "search.toml",
        r#"
        id = "search"
        name = "Search"
        evidence = "unverified"
        [play]
        udp = 5000
        [[rule]]
        kind = "query"
        port = 5000
        to = "broadcast"
        match = { text = "search" }
        "#,
    );
    let announce = check_text(
        "announce.toml",
        r#"
        id = "announce"
        name = "Announce"
        evidence = "unverified"
        [play]
        dynamic = true
        join = "udp"
        [[rule]]
        kind = "announcement"
        port = 4445
        to = "group:224.0.2.60"
        match = { text = "[AD]" }
        game_port = { between = ["[AD]", "[/AD]"] }
        [[rule.rewrite]]
        between = ["[AD]", "[/AD]"]
        as = "host:port"
        "#,
    );
    let plain = check_text(
        "plain.toml",
        r#"
        id = "plain"
        name = "Plain"
        evidence = "unverified"
        [play]
        udp = 5100
        [[rule]]
        kind = "announcement"
        port = 4446
        to = "group:224.0.2.61"
        "#,
    );
    compile(&[search.unwrap(), announce.unwrap(), plain.unwrap()]).unwrap()
}

fn open() -> ProxyPort {
    let cards = list_cards("lanrage0");
    become_nobody();
    let mut port = ProxyPort::open(ProxyOptions::default(), &config()).unwrap();
    port.set_rules(&rules());
    port.set_cards(&cards);
    port
}

pub(crate) fn hand_over(port: &mut ProxyPort, from: &str, to: &str, payload: &[u8]) {
    let packet = udp(from, to, payload);
    port.reserve(packet.len()).expect("room").copy_from_slice(&packet);
    let many = packet[16] & 0xf0 == 0xe0;
    port.commit(packet.len(), if many { Delivery::Group } else { Delivery::Tun });
    port.flush();
}

/// The packets that come by the port until `enough` are there or a second has passed.
pub(crate) async fn taken(port: &mut ProxyPort, enough: usize) -> Vec<(Source, String, String, Vec<u8>)> {
    let end = Instant::now() + Duration::from_secs(1);
    let mut all = Vec::new();
    let mut batch = Batch::default();
    while all.len() < enough && Instant::now() < end {
        let _ = tokio::time::timeout(SOON, port.readable()).await;
        port.try_read(&mut batch);
        for (source, slot) in batch.iter_mut() {
            let view = PacketView::parse(slot.packet()).unwrap();
            all.push((
                source,
                view.source().to_string(),
                view.destination().to_string(),
                view.payload().to_vec(),
            ));
        }
        batch.clear();
    }
    all
}

pub(crate) fn count(port: &ProxyPort, of: impl Fn(&lanrage::host::lan::proxy::ProxyCounters) -> u64) -> u64 {
    of(&port.counters())
}

/// The ports of broadcasts are listened to once a program has broadcast, whatever and where.
async fn somebody_searches(port: &mut ProxyPort) {
    // What was before the first look does not count.
    port.try_read(&mut Batch::default());
    let hearing = count(port, |c| c.hearing);
    let program = UdpSocket::bind("0.0.0.0:0").unwrap();
    program.set_broadcast(true).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while count(port, |c| c.hearing) == hearing {
        assert!(Instant::now() < end, "{:?}", port.counters());
        program.send_to(b"search", "255.255.255.255:9").unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        port.try_read(&mut Batch::default());
    }
}

#[test]
fn nobody_hears_the_own_games_broadcasts_and_those_of_no_neighbour() {
    lab(|| async {
        let far = two_cards();
        let (eth0, eth1) = (Source::Card(card("eth0")), Source::Card(card("eth1")));
        let mut port = open();
        let game = UdpSocket::bind("0.0.0.0:0").unwrap();
        game.set_broadcast(true).unwrap();
        let g = game.local_addr().unwrap().port();
        somebody_searches(&mut port).await;
        for to in ["255.255.255.255:5000", "192.168.6.255:5000", "224.0.2.60:4445"] {
            game.send_to(b"search", to).unwrap();
        }
        far.run(|| {
            let neighbour = UdpSocket::bind("192.168.5.1:0").unwrap();
            neighbour.set_broadcast(true).unwrap();
            neighbour.set_multicast_loop_v4(false).unwrap();
            for to in ["192.168.5.255:5000", "192.168.5.2:5000"] {
                neighbour.send_to(b"search", to).unwrap();
            }
        });
        let mut heard = taken(&mut port, 3).await;
        heard.sort_by_key(|packet| packet.2.clone());
        let us = format!("10.83.7.1:{g}");
        let packet = |source, to: &str| (source, us.clone(), to.to_owned(), b"search".to_vec());
        assert_eq!(
            heard,
            [
                packet(eth1, "192.168.6.255:5000"),
                packet(eth0, "224.0.2.60:4445"),
                packet(eth0, "255.255.255.255:5000")
            ]
        );
        assert!(taken(&mut port, 1).await.is_empty());
        assert_eq!(
            count(&port, |c| c.not_ours),
            1,
            "the neighbour's broadcast; its unicast has no socket of ours"
        );
    });
}

#[test]
fn a_server_is_asked_by_the_stand_in_and_nothing_of_it_is_on_the_wire() {
    lab(|| async {
        let far = two_cards();
        let wire = Wire::tap(&far);
        let mut port = open();
        let server = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        server.set_reuse_address(true).unwrap();
        server.bind(&"0.0.0.0:5000".parse::<SocketAddr>().unwrap().into()).unwrap();
        let server = UdpSocket::from(server);
        for to in ["255.255.255.255:5000", "10.83.7.255:5000", "10.83.7.1:5000"] {
            hand_over(&mut port, "10.83.7.2:61000", to, b"search");
        }
        let asked = heard(&server, SOON);
        let stand_in: SocketAddr = "127.83.7.2:61000".parse().unwrap();
        assert_eq!(asked, vec![(b"search".to_vec(), stand_in); 3]);
        // The server answers from the address that it is bound to, also when that is a card's.
        server.send_to(b"here", stand_in).unwrap();
        let answers = taken(&mut port, 1).await;
        let answer = (Source::Tun, "10.83.7.1:5000".into(), "10.83.7.2:61000".into(), b"here".to_vec());
        assert_eq!(answers, [answer], "and what was handed over is not heard again");
        assert_eq!(wire.count(b"search"), 0);
    });
}

#[test]
fn a_game_at_a_cards_address_is_found_there_and_answers_from_there() {
    lab(|| async {
        let _far = two_cards();
        let mut port = open();
        let game = UdpSocket::bind("192.168.5.2:0").unwrap();
        let g = game.local_addr().unwrap().port();
        hand_over(&mut port, "10.83.7.2:61000", &format!("10.83.7.1:{g}"), b"hello");
        let stand_in: SocketAddr = "127.83.7.2:61000".parse().unwrap();
        assert_eq!(heard(&game, SOON), [(b"hello".to_vec(), stand_in)]);
        game.send_to(b"hi", stand_in).unwrap();
        assert_eq!(taken(&mut port, 1).await[0].1, format!("10.83.7.1:{g}"));
    });
}

#[test]
fn javas_list_gets_an_announcement_once_from_the_stand_in_and_joins_there() {
    lab(|| async {
        let far = two_cards();
        let wire = Wire::tap(&far);
        let mut port = open();
        let java = java_like(MINECRAFT, 4445);
        let other = member(MINECRAFT, 4445, 0, true);
        // What the kernel knows of memberships is read again after a quarter of a second at most.
        tokio::time::sleep(Duration::from_millis(260)).await;
        for _ in 0..2 {
            hand_over(&mut port, "10.83.7.2:61000", "224.0.2.60:4445", b"[AD]25565[/AD]");
        }
        for list in [&java, &other] {
            let got = heard(list, SOON);
            assert_eq!(got.len(), 2, "each once: {got:?}");
            for (said, from) in got {
                assert_eq!(said, b"[AD]25565[/AD]");
                assert_eq!(from.to_string(), "127.83.7.2:61000");
            }
        }
        assert_eq!(wire.count(b"[AD]"), 0, "nothing leaves");
        let game = UdpSocket::bind("0.0.0.0:0").unwrap();
        game.send_to(b"join", "127.83.7.2:25565").unwrap();
        let joined = taken(&mut port, 1).await;
        assert_eq!(joined.len(), 1);
        assert_eq!((joined[0].2.as_str(), joined[0].3.as_slice()), ("10.83.7.2:25565", &b"join"[..]));
        let of = "10.83.7.2:25565".parse().unwrap();
        assert_eq!(port.local(of, false), Some("127.83.7.2:25565".parse().unwrap()));
        assert_eq!(count(&port, |c| c.group_by_broadcast), 2);
    });
}

#[test]
fn a_group_reaches_who_is_bound_to_the_group_itself() {
    lab(|| async {
        let far = two_cards();
        let wire = Wire::tap(&far);
        let mut port = open();
        let list = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        list.set_reuse_address(true).unwrap();
        list.bind(&"224.0.2.61:4446".parse::<SocketAddr>().unwrap().into()).unwrap();
        list.join_multicast_v4_n(&"224.0.2.61".parse().unwrap(), &InterfaceIndexOrAddress::Index(0)).unwrap();
        let list = UdpSocket::from(list);
        tokio::time::sleep(Duration::from_millis(260)).await;
        hand_over(&mut port, "10.83.7.2:61000", "224.0.2.61:4446", b"plain");
        let stand_in: SocketAddr = "127.83.7.2:61000".parse().unwrap();
        assert_eq!(heard(&list, SOON), [(b"plain".to_vec(), stand_in)]);
        assert_eq!(wire.count(b"plain"), 0);
        assert!(taken(&mut port, 1).await.is_empty(), "what was handed over is not heard again");
        assert_eq!(count(&port, |c| c.group_out) - count(&port, |c| c.group_by_broadcast), 1);
        // Its fixed port can be joined as soon as it was announced.
        let game = UdpSocket::bind("0.0.0.0:0").unwrap();
        game.send_to(b"join", "127.83.7.2:5100").unwrap();
        assert_eq!(taken(&mut port, 1).await[0].2, "10.83.7.2:5100");
    });
}

#[test]
fn a_scan_from_the_network_finds_no_port_of_ours() {
    lab(|| async {
        let far = two_cards();
        let mut port = open();
        let java = java_like(MINECRAFT, 4445);
        let game = UdpSocket::bind("0.0.0.0:6000").unwrap();
        somebody_searches(&mut port).await;
        tokio::time::sleep(Duration::from_millis(260)).await;
        hand_over(&mut port, "10.83.7.2:61000", "224.0.2.60:4445", b"[AD]25565[/AD]");
        hand_over(&mut port, "10.83.7.2:61000", "10.83.7.1:6000", b"x");
        drop((java, game));
        let list = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
        let hex =
            |line: &str| u16::from_str_radix(line.split_once(':')?.1.split(':').nth(1)?.get(..4)?, 16).ok();
        let ports: Vec<u16> = list.lines().skip(1).filter_map(hex).collect();
        assert!(ports.contains(&25565) && ports.contains(&61000) && ports.contains(&5000), "{ports:?}");
        let open = far.run(move || {
            ports
                .into_iter()
                .filter(|port| {
                    let neighbour = UdpSocket::bind("192.168.5.1:0").unwrap();
                    neighbour.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                    neighbour.connect(("192.168.5.2", *port)).unwrap();
                    // The kernel says at most so many times a second that nobody is there.
                    let refused = (0..5).any(|_| {
                        let _ = neighbour.send(b"scan");
                        neighbour.recv(&mut [0; 10]).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
                    });
                    !refused
                })
                .collect::<Vec<_>>()
        });
        assert_eq!(open, [0; 0], "ports that did not say that nobody is there");
    });
}
