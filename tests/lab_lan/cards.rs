//! The list of cards, the news about them, and cards that come and go while capturing.

use super::*;

#[test]
fn cards_are_listed_with_their_networks_and_the_default_route() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let _port = LanPort::open(options(dir.path()), &config()).unwrap();
        for line in [
            "link add eth0 type veth peer name far0",
            "link add eth1 type veth peer name far1",
            "link add down0 type veth peer name far2",
            "link add br0 type bridge",
            "link set far1 master br0",
            "addr add 192.168.5.2/24 dev eth0",
            "addr add 192.168.6.2/24 dev eth1",
        ] {
            ip(line);
        }
        for card in ["eth0", "far0", "eth1", "far1", "br0"] {
            ip(&format!("link set {card} up"));
        }
        ip("route add default via 192.168.6.1 dev eth1");
        // The kernel tells a bridge that it has a carrier by a work queue, within a second.
        let end = Instant::now() + Duration::from_secs(3);
        while list_cards("other-name").len() < 4 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let all = list_cards("other-name");
        let names = sorted(all.iter().map(|c| c.name.as_str()).collect());
        assert_eq!(
            names,
            ["br0", "eth0", "eth1", "far0"],
            "no lo, nothing down, no bridge port, no TUN of lanrage"
        );
        let default: Vec<_> = all.iter().filter(|c| c.default_route).map(|c| c.name.as_str()).collect();
        assert_eq!(default, ["eth1"]);
        let eth0 = all.iter().find(|c| c.name == "eth0").unwrap();
        assert!(eth0.nets.iter().any(|n| n.addr.to_string() == "192.168.5.2" && n.prefix == 24));
        ip("route del default");
        assert!(list_cards("other-name").iter().all(|c| !c.default_route));
        // As a VPN does that takes over the default route without replacing it.
        ip("route add 0.0.0.0/1 dev eth0");
        ip("route add 128.0.0.0/1 dev eth0");
        assert!(list_cards("x").iter().any(|c| c.default_route && c.name == "eth0"));
    });
}

#[test]
fn changes_of_cards_are_reported_once_they_settle() {
    lab(|| async {
        let mut watch = lanrage::host::cards::CardWatch::new().unwrap();
        let quiet = tokio::time::timeout(SOON, watch.changed()).await;
        assert!(quiet.is_err(), "nothing changed yet");
        ip("link add eth0 type veth peer name far0");
        // Dropped half way through, as a select! does.
        let half = tokio::time::timeout(Duration::from_millis(20), watch.changed()).await;
        assert!(half.is_err(), "not before it settles");
        tokio::time::timeout(Duration::from_secs(2), watch.changed()).await.expect("the change is reported");
        for line in ["addr add 192.168.5.2/24 dev eth0", "link set eth0 up", "link set far0 up"] {
            ip(line);
            tokio::time::timeout(Duration::from_secs(2), watch.changed()).await.expect(line);
        }
        // IPv6 goes on for two seconds by itself (its address is being checked).
        while tokio::time::timeout(Duration::from_secs(3), watch.changed()).await.is_ok() {}
        ip("route add default via 192.168.5.1");
        tokio::time::timeout(Duration::from_secs(2), watch.changed()).await.expect("a route is a change");
    });
}

#[test]
fn a_change_is_told_at_once_and_a_flood_of_them_in_paces() {
    lab(|| async {
        let mut watch = lanrage::host::cards::CardWatch::new().unwrap();
        ip("link add eth0 type veth peer name far0");
        ip("link set far0 up");
        // No address that is made up and checked for two seconds: only what this test does is to be seen.
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap();
        while tokio::time::timeout(Duration::from_secs(1), watch.changed()).await.is_ok() {}
        tokio::time::sleep(Duration::from_secs(2)).await;
        // As a computer is carried to another network: each step is told in time.
        for line in
            ["link set eth0 up", "addr add 192.168.5.2/24 dev eth0", "route add default via 192.168.5.1"]
        {
            ip(line);
            let start = Instant::now();
            tokio::time::timeout(Duration::from_secs(2), watch.changed()).await.expect(line);
            assert!(start.elapsed() < Duration::from_millis(120), "{line}: {:?}", start.elapsed());
        }
        let (start, mut told) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(3) {
            ip("route replace 10.9.9.0/24 via 192.168.5.7");
            ip("route del 10.9.9.0/24");
            if tokio::time::timeout(Duration::from_millis(10), watch.changed()).await.is_ok() {
                told += 1;
            }
        }
        assert!((4..=11).contains(&told), "{told} looks in 3 s");
    });
}

#[test]
fn another_router_is_noticed_though_the_address_stays() {
    lab(|| async {
        use lanrage::host::cards::ways;
        assert_eq!(ways(), lanrage::host::cards::Ways::default());
        for line in
            ["link add eth0 type veth peer name far0", "link set eth0 up", "addr add 192.168.5.2/24 dev eth0"]
        {
            ip(line);
        }
        ip("route add default via 192.168.5.1");
        let (cards, before) = (list_cards("x"), ways());
        let way = before.v4.expect("a default route");
        assert_eq!(
            (way.router, way.source),
            (Some("192.168.5.1".parse().unwrap()), Some("192.168.5.2".parse().unwrap()))
        );
        let mut watch = lanrage::host::cards::CardWatch::new().unwrap();
        ip("route replace default via 192.168.5.254");
        tokio::time::timeout(Duration::from_secs(2), watch.changed()).await.expect("it is told");
        let now = ways();
        assert_eq!(now.v4.unwrap().router, Some("192.168.5.254".parse().unwrap()));
        assert!(before.lead_elsewhere(&now) && !now.lead_elsewhere(&ways()));
        let addresses = |cards: &[Card]| {
            cards.iter().flat_map(|c| c.nets.clone()).filter(|n| n.addr.is_ipv4()).collect::<Vec<_>>()
        };
        assert_eq!(addresses(&cards), addresses(&list_cards("x")), "the list of cards does not tell");
        ip("route del default");
        ip("route add default dev eth0");
        assert_eq!(ways().v4.unwrap().router, None, "a way out without a router");
    });
}

#[test]
fn cards_may_come_and_go_while_running() {
    lab(|| async {
        let far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        let chosen = LanOptions { cards: Some(vec!["eth1".into(), "usb0".into()]), ..options(dir.path()) };
        let mut port = LanPort::open(chosen, &config()).unwrap();
        port.listen_for(&[4445..=4445], &[]);
        port.set_cards(&list_cards("lanrage0"));
        let say = |name: &str, text: &str| {
            let game = Socket::from(UdpSocket::bind("0.0.0.0:0").unwrap());
            game.bind_device(Some(name.as_bytes())).unwrap();
            let game = UdpSocket::from(game);
            game.set_broadcast(true).unwrap();
            game.send_to(text.as_bytes(), "255.255.255.255:4445").unwrap();
        };
        say("eth0", "not chosen");
        say("eth1", "one");
        assert_eq!(read_udp(&mut port, 2).await.iter().map(|g| g.3.as_slice()).collect::<Vec<_>>(), [b"one"]);

        ip("link set eth1 down");
        ip("link set eth1 up");
        say("eth1", "two");
        assert_eq!(read_udp(&mut port, 1).await[0].3, b"two", "down and up without news does no harm");

        ip("link del eth1");
        let quiet = tokio::time::timeout(SOON, port.readable()).await;
        assert!(quiet.is_err(), "a card that is gone is not readable for ever");
        port.set_cards(&list_cards("lanrage0"));
        far.cable("usb0", "far9");
        far.run(|| ip("link set far9 up"));
        ip("addr add 192.168.9.2/24 dev usb0");
        ip("link set usb0 up");
        let end = Instant::now() + Duration::from_secs(3);
        while list_cards("lanrage0").iter().all(|c| c.name != "usb0") && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        port.set_cards(&list_cards("lanrage0"));
        say("usb0", "three");
        assert_eq!(read_udp(&mut port, 1).await[0].3, b"three");
    });
}
