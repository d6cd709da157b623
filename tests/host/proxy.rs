//! Proxy mode without the tunnel: two or three LAN sides on one computer, back to back, with real sockets as games. What one
//! side reads is handed to the side whose virtual address it names. Loopback only; every test has a network of its own, so
//! that they run side by side.

mod support;

use lanrage::buf::batch::Source;
use lanrage::host::lan::proxy::ProxyOptions;
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::rules::ruleset::Ruleset;
use lanrage::wire::packet::{PacketView, write_udp};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};
use support::{Game, Party};

#[test]
fn ports_and_players_survive_both_ways() {
    let mut party = Party::new(1, 3);
    let server = Game::at("127.0.0.1:0");
    let guests = [Game::at("127.0.0.1:0"), Game::at("127.0.0.1:0")];
    // Each guest hears from the server first, as it would answer a search.
    for (guest, n) in guests.iter().zip([2, 3]) {
        party.packet(1, server.port(), (n, guest.port()), b"answer");
        let (said, from) = guest.hears(&mut party);
        assert_eq!((said.as_slice(), from.ip()), (&b"answer"[..], party.stand_in(1, 0).ip()));
        // Both guests' stand-ins of the server are on one computer here; the second has to take another port.
        assert!(n == 3 || from.port() == server.port());
        guest.says(&format!("join {n}"), from);
    }
    let mut players: Vec<_> = (0..2).map(|_| server.hears(&mut party)).collect();
    players.sort();
    assert_eq!(players[0], (b"join 2".to_vec(), party.stand_in(2, guests[0].port())));
    assert_eq!(players[1], (b"join 3".to_vec(), party.stand_in(3, guests[1].port())));
    // The server tells them apart by address, and so do its answers.
    for (_, player) in &players {
        server.says(&format!("welcome {}", player.ip().octets()[3]), *player);
    }
    for (guest, n) in guests.iter().zip([2, 3]) {
        let (said, from) = guest.hears(&mut party);
        assert_eq!((said, from.ip()), (format!("welcome {n}").into_bytes(), party.stand_in(1, 0).ip()));
    }
}

/// A datagram that says whose it is and what must be in it.
fn numbered(player: u8, n: u32) -> Vec<u8> {
    let len = 5 + usize::try_from(n * 397 % 1300).unwrap();
    let mut said = vec![player];
    said.extend(n.to_be_bytes());
    let mut state = n.wrapping_mul(2_654_435_761).wrapping_add(u32::from(player));
    said.resize_with(len, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    said
}

#[test]
fn two_players_talking_at_once_are_heard_word_for_word_and_never_for_each_other() {
    const WORDS: u32 = 4000;
    let mut party = Party::new(16, 3);
    let server = Game::at("127.0.0.1:0");
    let guests = [Game::at("127.0.0.1:0"), Game::at("127.0.0.1:0")];
    let doors = [2, 3].map(|n| {
        let guest = &guests[usize::from(n) - 2];
        party.packet(1, server.port(), (n, guest.port()), b"answer");
        guest.hears(&mut party).1
    });
    let (mut heard, mut echoed) = ([0; 2], [0; 2]);
    for n in 0..WORDS {
        for (player, (guest, door)) in guests.iter().zip(doors).enumerate() {
            guest.socket.send_to(&numbered(u8::try_from(player).unwrap(), n), door).unwrap();
        }
        // In bursts, so that many are on the way together.
        if n % 16 == 15 {
            party.run_for(Duration::from_millis(2));
        }
        while let Some((said, from)) = server.look() {
            let player = said[0];
            let n = u32::from_be_bytes(said[1..5].try_into().unwrap());
            assert_eq!(said, numbered(player, n));
            let guest = &guests[usize::from(player)];
            assert_eq!(from, party.stand_in(player + 2, guest.port()), "who said it");
            heard[usize::from(player)] += 1;
            server.socket.send_to(&said, from).unwrap();
        }
        for (player, guest) in guests.iter().enumerate() {
            while let Some((said, from)) = guest.look() {
                let n = u32::from_be_bytes(said[1..5].try_into().unwrap());
                assert_eq!(said, numbered(u8::try_from(player).unwrap(), n), "the own word comes back");
                assert_eq!(from, doors[player]);
                echoed[player] += 1;
            }
        }
    }
    // A socket's queue may overflow on a busy computer: datagrams may be lost, but few.
    assert!(heard.iter().chain(&echoed).all(|n| *n > WORDS / 2), "{heard:?} {echoed:?}");
}

#[test]
fn what_is_read_is_a_whole_packet_from_our_virtual_address() {
    let mut party = Party::new(2, 2);
    let game = Game::at("127.0.0.1:0");
    party.packet(2, 4000, (1, game.port()), b"x");
    let (_, from) = game.hears(&mut party);
    game.says("back", from);
    let packet = party.read(1);
    let view = PacketView::parse(&packet).unwrap();
    assert_eq!(view.source(), party.virtual_at(1, game.port()).into());
    assert_eq!(view.destination(), party.virtual_at(2, 4000).into());
    assert_eq!(view.payload(), b"back");
    let mut fixed = packet.clone();
    assert!(lanrage::wire::packet::fix_checksums(&mut fixed) && fixed == packet, "checksums");
}

#[test]
fn a_game_that_holds_the_port_on_every_address_is_met_by_another() {
    let mut party = Party::new(3, 2);
    // The local game and the peer's have the same port, as when both sides run the same program.
    let game = Game::at("0.0.0.0:0");
    party.packet(2, game.port(), (1, game.port()), b"hello");
    let (_, from) = game.hears(&mut party);
    assert_eq!(*from.ip(), *party.stand_in(2, 0).ip());
    assert_ne!(from.port(), game.port());
    game.says("hi", from);
    let packet = party.read(1);
    let view = PacketView::parse(&packet).unwrap();
    assert_eq!(view.destination(), party.virtual_at(2, game.port()).into(), "the peer's real port");
    assert_eq!(party.count(1, "proxy.moved_ports"), 1);
}

#[test]
fn a_game_at_an_address_of_its_own_is_found_there() {
    let mut party = Party::new(4, 2);
    let game = Game::at("127.0.1.1:0");
    party.packet(2, 4000, (1, game.port()), b"hello");
    let (said, from) = game.hears(&mut party);
    assert_eq!(said, b"hello");
    game.says("hi", from);
    assert_eq!(PacketView::parse(&party.read(1)).unwrap().src_port, game.port());
}

#[test]
fn broadcasts_reach_every_game_that_listens_on_every_address() {
    let mut party = Party::new(5, 2);
    let first = Game::shared("0.0.0.0:0");
    let second = Game::shared(&format!("0.0.0.0:{}", first.port()));
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 83, 5, 255)] {
        party.packet_to(2, 5555, (to, first.port()), b"search");
        for game in [&first, &second] {
            let (said, from) = game.hears(&mut party);
            assert_eq!((said.as_slice(), from), (&b"search"[..], party.stand_in(2, 5555)));
        }
    }
    second.says("here", party.stand_in(2, 5555));
    let packet = party.read(1);
    let view = PacketView::parse(&packet).unwrap();
    assert_eq!(view.destination(), party.virtual_at(2, 5555).into());
    assert_eq!(party.count(1, "proxy.broadcast_out"), 2);
}

#[test]
fn a_datagram_longer_than_the_tunnel_takes_is_counted_and_the_next_one_passes() {
    let mut party = Party::new(6, 2);
    let game = Game::at("127.0.0.1:0");
    party.packet(2, 4000, (1, game.port()), b"x");
    let (_, from) = game.hears(&mut party);
    for len in [1373, 2500, 60_000] {
        game.socket.send_to(&vec![7; len], from).unwrap();
    }
    game.socket.send_to(&[8; 1372], from).unwrap();
    let packet = party.read(1);
    assert_eq!((packet.len(), packet[28]), (1400, 8));
    assert_eq!(party.count(1, "drop.proxy_too_long"), 3);
}

#[test]
fn what_a_peer_may_not_send_is_counted() {
    let mut party = Party::new(7, 2);
    let game = Game::at("127.0.0.1:0");
    let mut room = [0; 200];
    let mut commit = |party: &mut Party, from: &str, to: &str| {
        let len = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 9, b"x").unwrap();
        party.commit(1, &room[..len]);
    };
    let here = format!("10.83.7.1:{}", game.port());
    commit(&mut party, "10.83.8.2:5", &here);
    commit(&mut party, "10.83.7.1:5", &here);
    commit(&mut party, "10.83.7.255:5", &here);
    commit(&mut party, "10.83.7.2:0", &here);
    assert_eq!(party.count(1, "drop.proxy_malformed"), 4);
    commit(&mut party, "10.83.7.2:5", "10.83.7.1:1");
    assert_eq!(party.count(1, "drop.proxy_nobody"), 1, "nobody listens there");
    commit(&mut party, "[fd00::1]:5", "[fd00::2]:6");
    party.commit(1, &[]);
    party.commit(1, &[0x45; 19]);
    let mut fragment = [0; 60];
    let len =
        write_udp(&mut fragment, "10.83.7.2:5".parse().unwrap(), here.parse().unwrap(), 9, b"x").unwrap();
    fragment[6] = 0x20;
    party.commit(1, &fragment[..len]);
    assert_eq!(party.count(1, "drop.proxy_not_carried"), 2);
    assert_eq!(party.count(1, "drop.proxy_malformed"), 6);
    game.hears_nothing(&mut party);
}

#[test]
fn one_peer_does_not_use_up_the_stand_ins_of_all() {
    let mut party = Party::new(8, 3);
    let game = Game::at("127.0.0.1:0");
    for port in 20_000..20_400 {
        party.packet(2, port, (1, game.port()), b"flood");
    }
    let (stands, refused) = (party.count(1, "proxy.stand_ins"), party.count(1, "drop.proxy_no_stand_in"));
    assert!(stands <= 128 && stands + refused == 400, "{stands} open, {refused} refused");
    party.packet(3, 20_000, (1, game.port()), b"friend");
    while game.hears(&mut party).0 != b"friend" {}
}

/// A game that announces itself to 239.83.9.1, with the address where it is joined between < and >.
fn rules(port: u16) -> Ruleset {
    let text = format!(
        r#"
        id = "g"
        name = "G"
        evidence = "unverified"
        [play]
        dynamic = true
        join = "udp"
        [[rule]]
        kind = "announcement"
        port = {port}
        to = "group:239.83.9.1"
        match = {{ text = "HERE" }}
        game_port = {{ between = [":", ">"] }}
        [[rule.rewrite]]
        between = ["<", ">"]
        as = "host:port"
        [[rule]]
        kind = "closing"
        port = {port}
        to = "group:239.83.9.1"
        match = {{ text = "OVER" }}
        game_port = {{ between = [":", ">"] }}
        "#
    );
    compile(&[check_text("g.toml", &text).unwrap()]).unwrap()
}

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 83, 9, 1);

#[test]
fn an_announced_game_is_joined_at_the_stand_in_that_its_announcement_names() {
    let mut party = Party::new(9, 2);
    let port = 21_009;
    party.set_rules(&rules(port));
    let list = Game::shared(&format!("0.0.0.0:{port}"));
    list.joins(GROUP);
    party.packet_to(2, 4000, (GROUP, port), b"HERE <10.83.9.2:21109>");
    let (said, from) = list.hears(&mut party);
    assert_eq!(said, b"HERE <127.83.9.2:21109>", "{}", String::from_utf8_lossy(&said));
    assert_eq!(from, party.stand_in(2, 4000));
    let game = Game::at("127.0.0.1:0");
    game.says("join", party.stand_in(2, 21_109));
    let packet = party.read(1);
    let view = PacketView::parse(&packet).unwrap();
    assert_eq!((view.destination(), view.payload()), (party.virtual_at(2, 21_109).into(), &b"join"[..]));
    let of = party.virtual_at(2, 21_109);
    assert_eq!(party.ports[0].local(of, false), Some(party.stand_in(2, 21_109).into()));
    list.hears_nothing(&mut party);
}

#[test]
fn a_game_whose_port_is_taken_here_is_announced_at_another() {
    let mut party = Party::new(10, 2);
    let port = 21_010;
    party.set_rules(&rules(port));
    let list = Game::shared(&format!("0.0.0.0:{port}"));
    list.joins(GROUP);
    let own = Game::at("0.0.0.0:0");
    let theirs = party.virtual_at(2, own.port());
    party.packet_to(2, 4000, (GROUP, port), format!("HERE <{theirs}>").as_bytes());
    let (said, _) = list.hears(&mut party);
    let said = String::from_utf8(said).unwrap();
    let named: SocketAddrV4 = said.trim_start_matches("HERE <").trim_end_matches('>').parse().unwrap();
    assert_eq!(named.ip(), party.stand_in(2, 0).ip());
    assert_ne!(named.port(), own.port());
    own.says("join", named);
    assert_eq!(PacketView::parse(&party.read(1)).unwrap().destination(), theirs.into());
}

#[test]
fn what_local_games_say_to_a_group_is_heard_and_what_was_handed_over_is_not() {
    let mut party = Party::new(11, 2);
    let port = 21_011;
    party.set_rules(&rules(port));
    let list = Game::shared(&format!("0.0.0.0:{port}"));
    list.joins(GROUP);
    party.packet_to(2, 4000, (GROUP, port), b"HERE <10.83.11.2:21109>");
    list.hears(&mut party);
    let game = Game::at("127.0.0.1:0");
    game.speaks_by_loopback();
    game.says("HERE <7000>", SocketAddrV4::new(GROUP, port));
    let began = Instant::now();
    let heard = loop {
        let mut taken = party.read_all(1);
        if let Some(first) = taken.pop() {
            assert!(taken.is_empty(), "the game's own, and nothing of the peer's: {taken:?}");
            break first;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", party.ports[0].counters());
    };
    let view = PacketView::parse(&heard.1).unwrap();
    assert_eq!(heard.0, Source::Tun);
    assert_eq!(
        view.source(),
        party.virtual_at(1, game.port()).into(),
        "from our address, at the game's port"
    );
    assert_eq!(view.destination(), SocketAddrV4::new(GROUP, port).into());
    assert_eq!(view.payload(), b"HERE <7000>");
    assert!(party.count(1, "proxy.hearing") > 0 && party.count(1, "drop.proxy_not_ours") == 0);
}

#[test]
fn a_peers_multicast_that_no_game_joined_goes_nowhere() {
    let mut party = Party::new(12, 2);
    let port = 21_012;
    // A group of its own: others of these tests join theirs.
    let list = Game::shared(&format!("0.0.0.0:{port}"));
    party.packet_to(2, 4000, (Ipv4Addr::new(239, 83, 12, 1), port), b"HERE <1.2.3.4:21109>");
    assert_eq!(party.count(1, "drop.proxy_nobody"), 1);
    assert_eq!(party.count(1, "proxy.stand_ins"), 0);
    list.hears_nothing(&mut party);
}

/// A program of this name, and the folder that it goes with.
fn program(name: &str) -> (tempfile::TempDir, std::process::Command) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::copy("/bin/sleep", &path).unwrap();
    let mut command = std::process::Command::new(path);
    command.arg("60");
    (dir, command)
}

/// Makes room for a program of this name.
fn watching(name: &str) -> ProxyOptions {
    ProxyOptions { processes: vec![name.into()], ..ProxyOptions::default() }
}

#[test]
fn a_game_that_starts_finds_its_port_free_and_when_it_ends_we_listen_again() {
    let (_dir, mut program) = program("lanrage-game-13");
    let mut party = Party::with(13, 1, &watching("Lanrage-Game-13"));
    let port = 21_013;
    party.set_rules(&rules(port));
    party.run_for(Duration::from_millis(600));
    assert!(UdpSocket::bind(("0.0.0.0", port)).is_err(), "we hold it");
    let mut process = program.spawn().unwrap();
    let began = Instant::now();
    let game = loop {
        party.run_for(Duration::from_millis(50));
        match UdpSocket::bind(("0.0.0.0", port)) {
            Ok(game) => break game,
            Err(_) => assert!(began.elapsed() < Duration::from_secs(5), "{:?}", party.ports[0].counters()),
        }
    };
    assert_eq!(party.count(1, "proxy.made_room"), 1);
    party.run_for(Duration::from_secs(6));
    assert_eq!(
        (party.count(1, "proxy.hearing"), party.count(1, "proxy.deaf")),
        (0, 1),
        "the game has it alone"
    );
    drop(game);
    process.kill().unwrap();
    process.wait().unwrap();
    let began = Instant::now();
    while party.count(1, "proxy.hearing") == 0 {
        party.run_for(Duration::from_millis(100));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", party.ports[0].counters());
    }
}

/// The game is a client: what answers its search is joined at once, by the very port that was let go for it.
#[test]
fn a_game_that_starts_and_searches_in_a_group_joins_what_answers() {
    let (_dir, mut program) = program("lanrage-game-15");
    let mut party = Party::with(15, 2, &watching("lanrage-game-15"));
    let port = 21_015;
    party.set_rules(&rules(port));
    party.run_for(Duration::from_millis(600));
    let mut process = program.spawn().unwrap();
    let began = Instant::now();
    while party.count(1, "proxy.made_room") == 0 {
        party.run_for(Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", party.ports[0].counters());
    }
    let let_go = Instant::now();
    let list = Game::shared(&format!("0.0.0.0:{port}"));
    list.joins(GROUP);
    let game = Game::at("127.0.0.1:0");
    game.speaks_by_loopback();
    let at = party.virtual_at(2, port);
    // Groups are heard again after a second.
    while party.read_all(1).is_empty() {
        game.says("SEEK", SocketAddrV4::new(GROUP, port));
        assert!(let_go.elapsed() < Duration::from_secs(3), "{:?}", party.ports[0].counters());
    }
    party.packet_to(2, 4000, (GROUP, port), format!("HERE <{at}>").as_bytes());
    assert_eq!(party.ports[0].local(at, false), Some(party.stand_in(2, port).into()));
    assert!(let_go.elapsed() < Duration::from_secs(4), "before it would have been opened in any case");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn hostile_packets_break_nothing_and_open_little() {
    let mut party = Party::new(14, 2);
    let port = 21_014;
    party.set_rules(&rules(port));
    let list = Game::shared(&format!("0.0.0.0:{port}"));
    list.joins(GROUP);
    let mut dice = 1u64;
    let mut draw = move |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    let mut byte = |below: u64| u8::try_from(draw(below)).unwrap();
    for round in 0..4000 {
        let mut packet = vec![0; 300];
        let texts = ["HERE <", "OVER <", "HERE <10.83.14.2:", "x", ""];
        let mut text = texts[usize::from(byte(5))].as_bytes().to_vec();
        text.extend((0..byte(20)).map(|_| b"0123456789>:.x"[usize::from(byte(14))]));
        let from = format!("10.83.{}.{}:{}", 14 - byte(2), byte(4), 1 + u16::from(byte(255)));
        let to = ["239.83.9.1:21014", "255.255.255.255:21014", "10.83.14.1:21014", "10.83.14.255:21014"];
        let to = to[usize::from(byte(4))];
        let len = write_udp(&mut packet, from.parse().unwrap(), to.parse().unwrap(), 9, &text).unwrap();
        if round % 2 == 0 {
            // Broken: a bit of it, or cut short.
            let at = usize::from(byte(u64::try_from(len).unwrap().min(255)));
            // Not whom it is for: other tests' games are on this loopback, too.
            let at = if (16..24).contains(&at) { 0 } else { at };
            packet[at] ^= 1 << byte(8);
        }
        let cut = if round % 5 == 0 { usize::from(byte(100)).min(len) } else { len };
        party.commit(1, &packet[..cut]);
    }
    let stands = party.count(1, "proxy.stand_ins");
    assert!((1..=512).contains(&stands), "{stands}");
    assert!(party.count(1, "drop.proxy_malformed") > 100 && party.count(1, "drop.proxy_rewrite") > 0);
    // Another peer is still served.
    while list.look().is_some() {}
    party.packet_to(5, 4000, (GROUP, port), b"HERE <10.83.14.5:21114>");
    while list.hears(&mut party).0 != b"HERE <127.83.14.5:21114>" {}
}
