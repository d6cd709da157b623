//! What games send on physical cards.

use super::*;

#[test]
fn what_games_send_to_everybody_on_any_card_is_captured_and_nothing_else() {
    lab(|| async {
        let far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        // Many ranges, so that the filter's jumps are long.
        let mut ports: Vec<_> = (0..200u16).map(|n| 10_000 + n * 10..=10_004 + n * 10).collect();
        ports.push(4445..=4445);
        let mut port = open_with_cards(dir.path(), &ports);
        let game = UdpSocket::bind("0.0.0.0:4000").unwrap();
        game.set_broadcast(true).unwrap();
        let other = Socket::from(UdpSocket::bind("0.0.0.0:4001").unwrap());
        other.bind_device(Some(b"eth1")).unwrap();
        let other = UdpSocket::from(other);
        other.set_broadcast(true).unwrap();
        let six = UdpSocket::bind("[::]:4002").unwrap();

        // These are not to be seen: unicast, ports of no game, what others send, and what we inject.
        game.send_to(b"no", "192.168.5.1:4445").unwrap();
        for to in
            ["255.255.255.255:9999", "255.255.255.255:10005", "255.255.255.255:12000", "192.168.5.255:4446"]
        {
            game.send_to(b"no", to).unwrap();
        }
        far.run(|| {
            let theirs = UdpSocket::bind("192.168.5.1:4003").unwrap();
            theirs.set_broadcast(true).unwrap();
            theirs.send_to(b"no", "192.168.5.255:4445").unwrap();
        });
        let listener = java_like(MINECRAFT, 4445);
        inject(&mut port, &udp("10.83.7.2:9", "224.0.2.60:4445", b"no"), Delivery::Group);
        assert_eq!(heard(&listener, SOON).len(), 1);
        drop(listener);

        // These are.
        game.send_to(b"limited", "255.255.255.255:4445").unwrap();
        game.send_to(b"directed", "192.168.5.255:10000").unwrap();
        game.send_to(b"other card's", "192.168.6.255:10004").unwrap();
        game.send_to(b"group", "224.0.2.60:11994").unwrap();
        other.send_to(b"bound to a card", "255.255.255.255:11990").unwrap();
        let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
        let scoped = std::net::SocketAddrV6::new(all_nodes, 4445, 0, card("eth0").0);
        six.send_to(b"six", scoped).unwrap();
        six.send_to(b"wide six", (OPENARENA.parse::<Ipv6Addr>().unwrap(), 4445)).unwrap();

        let got = read_udp(&mut port, 8).await;
        let name = |s: &Source| match s {
            Source::Tun => "tun",
            Source::Card(id) if *id == card("eth0") => "eth0",
            Source::Card(id) if *id == card("eth1") => "eth1",
            Source::Card(_) => "?",
        };
        let mut texts: Vec<String> = got
            .iter()
            .map(|(s, from, to, p)| format!("{} {from} {to} {}", name(s), String::from_utf8_lossy(p)))
            .collect();
        texts.sort();
        // The link-local source differs from run to run.
        let fe80 = texts.iter().position(|t| t.ends_with("]:4002 [ff02::1]:4445 six")).expect("six");
        assert!(texts.remove(fe80).starts_with("eth0 [f"));
        assert_eq!(
            texts,
            [
                "eth0 192.168.5.2:4000 192.168.5.255:10000 directed",
                "eth0 192.168.5.2:4000 224.0.2.60:11994 group",
                "eth0 192.168.5.2:4000 255.255.255.255:4445 limited",
                "eth0 [fd05::2]:4002 [ff04::696f:7175:616b:6533]:4445 wide six",
                "eth1 192.168.6.2:4000 192.168.6.255:10004 other card's",
                "eth1 192.168.6.2:4001 255.255.255.255:11990 bound to a card",
            ]
        );
        assert_eq!(port.counters().captured, 7);
    });
}

#[test]
fn rules_can_change_while_capturing() {
    lab(|| async {
        let _far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        let mut port = open_with_cards(dir.path(), &[]);
        let game = UdpSocket::bind("0.0.0.0:4000").unwrap();
        game.set_broadcast(true).unwrap();
        game.send_to(b"before", "255.255.255.255:4445").unwrap();
        assert!(read_udp(&mut port, 1).await.is_empty(), "no game, no capture");
        port.listen_for(&[4445..=4445], &[]);
        game.send_to(b"after", "255.255.255.255:4445").unwrap();
        assert_eq!(read_udp(&mut port, 1).await[0].3, b"after");
        port.listen_for(&[1..=1], &[]);
        game.send_to(b"gone", "255.255.255.255:4445").unwrap();
        assert!(read_udp(&mut port, 1).await.is_empty());
    });
}

#[test]
fn a_card_without_ethernet_frames_is_captured_too() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        // Stands for some other VPN's device.
        let vpn_dir = tempfile::tempdir().unwrap();
        let vpn = LanConfig { v4: Ipv4Addr::new(10, 9, 9, 1), v6: "fd09::1".parse().unwrap(), ..config() };
        let _vpn =
            LanPort::open(LanOptions { adapter: "vpn0".into(), ..options(vpn_dir.path()) }, &vpn).unwrap();
        let id = ip("-o link show vpn0").split(':').next().unwrap().trim().parse().unwrap();
        let card = Card { id: CardId(id), name: "vpn0".into(), nets: Vec::new(), default_route: false };
        port.set_cards(&[card]);
        port.listen_for(&[4445..=4445], &[]);
        let game = Socket::from(UdpSocket::bind("0.0.0.0:4000").unwrap());
        game.bind_device(Some(b"vpn0")).unwrap();
        let game = UdpSocket::from(game);
        game.set_broadcast(true).unwrap();
        game.send_to(b"no", "10.9.9.2:4445").unwrap();
        game.send_to(b"no", "255.255.255.255:4446").unwrap();
        game.send_to(b"a", "255.255.255.255:4445").unwrap();
        game.send_to(b"b", "224.0.2.60:4445").unwrap();
        let six = UdpSocket::bind("[::]:4001").unwrap();
        six.send_to(b"no", "[fd09::2]:4445").unwrap();
        six.send_to(b"c", std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 4445, 0, id)).unwrap();
        let got = read_udp(&mut port, 4).await;
        assert_eq!(got.iter().map(|g| g.3.as_slice()).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert!(got.iter().all(|g| g.0 == Source::Card(CardId(id))));
    });
}
