//! Multicast from peers: who gets it, how often, from whom, and that nothing reaches the wire.

use super::*;

#[test]
fn members_of_a_group_get_one_copy_as_if_from_the_lan_and_nothing_leaks() {
    lab(|| async {
        let far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        for scope in ["all", "eth0", "eth1"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter"), "1").unwrap();
        }
        let mut port = open_with_cards(dir.path(), &[4445..=4445]);
        let wire = Wire::tap(&far);
        let (eth0, eth1) = (card("eth0").0, card("eth1").0);
        for (group, from) in [
            (MINECRAFT, "10.83.7.2:51000"),
            ("225.1.1.1", "10.83.7.2:51000"),
            ("ff02::1", "[fd83:1:2:3::2]:51000"),
            (OPENARENA, "[fd83:1:2:3::2]:51000"),
            ("ff05::42", "[fd83:1:2:3::2]:51000"),
        ] {
            let to = if group.contains(':') { format!("[{group}]:4445") } else { format!("{group}:4445") };
            let java = java_like(group, 4445);
            let both = member(group, 4445, eth0, false);
            if group.contains(':') {
                Socket::from(both.try_clone().unwrap())
                    .join_multicast_v6(&group.parse().unwrap(), eth1)
                    .unwrap();
            } else {
                let there = InterfaceIndexOrAddress::Index(eth1);
                Socket::from(both.try_clone().unwrap())
                    .join_multicast_v4_n(&group.parse().unwrap(), &there)
                    .unwrap();
            }
            // What the kernel knows of memberships is read again after a quarter of a second at most.
            tokio::time::sleep(Duration::from_millis(260)).await;
            for n in 0..3 {
                let text = format!("announcement {n}");
                inject(&mut port, &udp(from, &to, text.as_bytes()), Delivery::Group);
                let expected = [(text.into_bytes(), from.parse::<SocketAddr>().unwrap())];
                assert_eq!(heard(&java, SOON), expected, "{group}: the default card's member");
                assert_eq!(heard(&both, SOON), expected, "{group}: a member on two cards");
            }
            assert_eq!(wire.count(b"announcement"), 0, "{group}: nothing on the wire");
            let game = UdpSocket::bind(if group.contains(':') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            game.send_to(b"a game's own", (group.parse::<IpAddr>().unwrap(), 4445)).unwrap();
            assert_eq!(wire.count(b"a game's own"), 1, "{group}: the tap would have seen it");
        }
        assert_eq!(port.counters().group_out, 15);
        assert_eq!((port.counters().refused, port.counters().group_to_tun), (0, 0));
        let captured = read_udp(&mut port, 5).await;
        let texts: Vec<_> = captured.iter().map(|c| c.3.as_slice()).collect();
        assert_eq!(texts, [b"a game's own"; 5], "what we inject is not captured");
    });
}

#[test]
fn a_group_joined_on_another_card_only_is_served_there() {
    lab(|| async {
        let far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        let mut port = open_with_cards(dir.path(), &[]);
        let wire = Wire::tap(&far);
        for (group, from, to) in [
            (MINECRAFT, "10.83.7.2:5", "224.0.2.60:4445"),
            (OPENARENA, "[fd83:1:2:3::2]:5", "[ff04::696f:7175:616b:6533]:4445"),
        ] {
            let game = member(group, 4445, card("eth1").0, false);
            tokio::time::sleep(Duration::from_millis(260)).await;
            inject(&mut port, &udp(from, to, b"hello"), Delivery::Group);
            assert_eq!(heard(&game, SOON), [(b"hello".to_vec(), from.parse().unwrap())]);
        }
        assert_eq!(wire.count(b"hello"), 0);
    });
}

#[test]
fn a_dual_stack_socket_as_java_makes_it_gets_ipv4_groups() {
    lab(|| async {
        let far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        let mut port = open_with_cards(dir.path(), &[]);
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.bind(&"[::]:4445".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.set_multicast_all_v4(false).unwrap();
        socket.join_multicast_v4(&MINECRAFT.parse().unwrap(), &Ipv4Addr::UNSPECIFIED).unwrap();
        let wire = Wire::tap(&far);
        inject(&mut port, &udp("10.83.7.2:5", "224.0.2.60:4445", b"[AD]"), Delivery::Group);
        let from = "[::ffff:10.83.7.2]:5".parse().unwrap();
        assert_eq!(heard(&socket.into(), SOON), [(b"[AD]".to_vec(), from)]);
        assert_eq!(wire.count(b"[AD]"), 0);
    });
}

#[test]
fn a_game_that_leaves_its_group_makes_nothing_leak_and_no_membership_stays() {
    lab(|| async {
        let far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        let mut port = open_with_cards(dir.path(), &[]);
        let wire = Wire::tap(&far);
        for (group, from, to) in [
            (MINECRAFT, "10.83.7.2:5", "224.0.2.60:4445"),
            (OPENARENA, "[fd83:1:2:3::2]:5", "[ff04::696f:7175:616b:6533]:4445"),
        ] {
            let members = || ip("maddr show dev eth0").matches(group).count();
            let tun_members = || ip("maddr show dev lanrage0").matches(group).count();
            assert_eq!(tun_members(), 1, "what rules name is joined on the device");
            let game = java_like(group, 4445);
            tokio::time::sleep(Duration::from_millis(260)).await;
            inject(&mut port, &udp(from, to, b"leak 1"), Delivery::Group);
            assert_eq!(heard(&game, Duration::from_millis(20)).len(), 1);
            drop(game);
            // Within the quarter second in which the membership is still believed in, and a while after.
            let before = port.counters();
            inject(&mut port, &udp(from, to, b"leak 2"), Delivery::Group);
            assert_eq!(port.counters().group_out, before.group_out + 1, "it is still believed in");
            assert_eq!(members(), 1, "we hold it ourselves, so the kernel does not send it out");
            tokio::time::sleep(Duration::from_millis(260)).await;
            inject(&mut port, &udp(from, to, b"leak 3"), Delivery::Group);
            assert_eq!(port.counters().group_to_tun, before.group_to_tun + 1);
            assert_eq!(members(), 0, "given up");
        }
        assert_eq!(wire.count(b"leak"), 0, "nothing on the wire");
        assert_eq!(port.counters().refused, 0);
    });
}

#[test]
fn a_socket_that_joined_nothing_hears_groups_by_the_device() {
    lab(|| async {
        let _far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        let mut port = open_with_cards(dir.path(), &[]);
        let game = UdpSocket::bind("0.0.0.0:4445").unwrap();
        inject(&mut port, &udp("10.83.7.2:5", "224.0.2.60:4445", b"four"), Delivery::Group);
        assert_eq!(heard(&game, SOON), [(b"four".to_vec(), "10.83.7.2:5".parse().unwrap())]);
        let game = UdpSocket::bind("[::]:27960").unwrap();
        inject(
            &mut port,
            &udp("[fd83:1:2:3::2]:5", &format!("[{OPENARENA}]:27960"), b"six"),
            Delivery::Group,
        );
        assert_eq!(heard(&game, SOON), [(b"six".to_vec(), "[fd83:1:2:3::2]:5".parse().unwrap())]);
        // A member that chose our device, as games do that list the cards.
        let tun = ip("-o link show lanrage0").split(':').next().unwrap().trim().parse().unwrap();
        let game = member("225.1.1.1", 4555, tun, false);
        inject(&mut port, &udp("10.83.7.2:5", "225.1.1.1:4555", b"chosen"), Delivery::Group);
        assert_eq!(heard(&game, SOON).len(), 1);
        assert_eq!(port.counters().group_to_tun, 3);
    });
}
