//! The tunnel device: made, addressed, read, written, and what happens when it may not be made or is taken away.

use super::*;

#[test]
fn the_device_has_what_it_was_given_and_all_goes_with_it() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let before = (ip("-j addr"), ip("-j route"), ip("-j -6 route"), ip("rule"));
        let port = LanPort::open(options(dir.path()), &config()).unwrap();
        assert_eq!(port.name(), "lanrage0");
        let addr = ip("-d addr show lanrage0");
        for part in [
            "inet 10.83.7.1/24 brd 10.83.7.255",
            "inet6 fd83:1:2:3::1/64",
            "mtu 1400",
            "qlen 1000",
            ",UP",
            "tun type tun",
        ] {
            assert!(addr.contains(part), "{part} in {addr}");
        }
        assert!(!addr.contains("tentative") && !addr.contains("fe80::"), "{addr}");
        assert!(dir.path().join("leftovers.json").exists());
        port.close();
        assert_eq!(before, (ip("-j addr"), ip("-j route"), ip("-j -6 route"), ip("rule")));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    });
}

#[test]
fn the_address_can_change_while_running() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        let other = LanConfig {
            v4: Ipv4Addr::new(10, 83, 7, 9),
            v6: "fd83:1:2:3::9".parse().unwrap(),
            mtu: 1280,
            ..config()
        };
        port.reconfigure(&other).unwrap();
        let addr = ip("addr show lanrage0");
        for part in ["inet 10.83.7.9/24 brd 10.83.7.255", "fd83:1:2:3::9/64", "mtu 1280"] {
            assert!(addr.contains(part), "{part} in {addr}");
        }
        assert!(!addr.contains("10.83.7.1/") && !addr.contains("3::1/"), "{addr}");
        assert!(ip("route").contains("10.83.7.0/24"), "the network's route stays");
        ip("link add eth0 type veth peer name far0");
        ip("addr add 10.83.7.77/24 dev eth0");
        let taken = LanConfig { v4: Ipv4Addr::new(10, 83, 7, 77), ..other };
        let error = port.reconfigure(&taken).unwrap_err();
        assert!(matches!(&error, LanError::AddressTaken { card, .. } if card == "eth0"), "{error}");
        assert!(ip("addr show lanrage0").contains("10.83.7.9/24"), "the old address stays");
    });
}

#[test]
fn the_mtu_can_change_while_running_and_nothing_else_does() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        let before = ip("addr show lanrage0");
        assert!(before.contains("mtu 1400"), "{before}");
        port.set_mtu(1280);
        assert_eq!(ip("addr show lanrage0"), before.replace("mtu 1400", "mtu 1280"));
        ip("link del lanrage0");
        port.set_cards(&list_cards("lanrage0"));
        assert!(ip("addr show lanrage0").contains("mtu 1280"), "a device that is made again has it too");
        port.reconfigure(&LanConfig { mtu: 1350, ..config() }).unwrap();
        assert!(ip("addr show lanrage0").contains("mtu 1350"));
        port.close();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    });
}

#[test]
fn a_device_that_is_not_ours_is_left_alone() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        // A persistent TUN nobody uses just now: opening it would succeed, and would take it over.
        ip("tuntap add lanrage0 mode tun");
        ip("addr add 192.0.2.1/24 dev lanrage0");
        let before = ip("-j addr show lanrage0");
        let error = LanPort::open(options(dir.path()), &config()).unwrap_err();
        assert!(error.to_string().contains("--adapter lanrage1"), "{error}");
        assert_eq!(before, ip("-j addr show lanrage0"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no journal stays");

        let mine = LanOptions { adapter: "eth7".into(), ..options(dir.path()) };
        let port = LanPort::open(mine.clone(), &config()).unwrap();
        let other = tempfile::tempdir().unwrap();
        let error =
            LanPort::open(LanOptions { data_dir: other.path().into(), ..mine }, &config()).unwrap_err();
        assert!(error.to_string().contains("another lanrage"), "{error}");
        drop(port);
    });
}

#[test]
fn a_system_without_ipv6_gets_the_ipv4_address() {
    lab(|| async {
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let _port = LanPort::open(options(dir.path()), &config()).unwrap();
        let addr = ip("addr show lanrage0");
        assert!(addr.contains("10.83.7.1/24") && !addr.contains("inet6"), "{addr}");
    });
}

#[test]
fn broadcasts_and_unicast_from_peers_reach_the_games_sockets() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        // As strict as a distribution may be: our device must still take packets.
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        let game = UdpSocket::bind("0.0.0.0:27960").unwrap();
        for to in ["255.255.255.255:27960", "10.83.7.255:27960", "10.83.7.1:27960"] {
            inject(&mut port, &udp("10.83.7.2:27961", to, to.as_bytes()), Delivery::Tun);
            let got = heard(&game, SOON);
            assert_eq!(got, [(to.as_bytes().to_vec(), "10.83.7.2:27961".parse().unwrap())]);
        }
        let game = UdpSocket::bind("[::]:8303").unwrap();
        inject(&mut port, &udp("[fd83:1:2:3::2]:5", "[fd83:1:2:3::1]:8303", b"six"), Delivery::Tun);
        assert_eq!(heard(&game, SOON), [(b"six".to_vec(), "[fd83:1:2:3::2]:5".parse().unwrap())]);
        assert_eq!(port.counters().tun_out, 4);
    });
}

#[test]
fn what_games_send_to_the_party_is_read() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        let game = UdpSocket::bind("0.0.0.0:4000").unwrap();
        game.set_broadcast(true).unwrap();
        game.send_to(b"one", "10.83.7.2:5").unwrap();
        game.send_to(b"all", "10.83.7.255:6").unwrap();
        let six = UdpSocket::bind("[::]:4001").unwrap();
        six.send_to(b"six", "[fd83:1:2:3::2]:7").unwrap();
        let got = read_udp(&mut port, 3).await;
        assert!(got.iter().all(|(s, ..)| *s == Source::Tun));
        let texts = got.iter().map(|(.., from, to, p)| format!("{from} {to} {}", String::from_utf8_lossy(p)));
        let texts: Vec<String> = texts.collect();
        assert_eq!(
            sorted(texts.iter().map(String::as_str).collect()),
            [
                "10.83.7.1:4000 10.83.7.255:6 all",
                "10.83.7.1:4000 10.83.7.2:5 one",
                "[fd83:1:2:3::1]:4001 [fd83:1:2:3::2]:7 six"
            ]
        );
    });
}

#[test]
fn a_full_batch_leaves_the_rest_for_the_next_read() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        let game = UdpSocket::bind("0.0.0.0:4000").unwrap();
        for n in 0..150u8 {
            game.send_to(&[n], "10.83.7.2:5").unwrap();
        }
        let got = read_udp(&mut port, 150).await;
        let numbers: Vec<u8> = got.iter().map(|(.., p)| p[0]).collect();
        assert_eq!(numbers, (0..150).collect::<Vec<_>>(), "in order, none lost");
        let mut batch = Batch::default();
        for n in 0..70u8 {
            game.send_to(&[n], "10.83.7.2:5").unwrap();
        }
        port.readable().await;
        assert_eq!(port.try_read(&mut batch), 64);
        assert_eq!(port.try_read(&mut batch), 0, "a full batch takes nothing");
        batch.clear();
        port.readable().await;
        assert_eq!(port.try_read(&mut batch), 6);
    });
}

#[test]
fn a_device_that_somebody_deletes_is_made_again() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        ip("link del lanrage0");
        let mut batch = Batch::default();
        assert_eq!(port.try_read(&mut batch), 0);
        let quiet = tokio::time::timeout(SOON, port.readable()).await;
        assert!(quiet.is_err(), "a device that is gone is not readable for ever");
        inject(&mut port, &udp("10.83.7.2:1", "10.83.7.1:2", b"lost"), Delivery::Tun);
        assert_eq!(port.counters().refused, 1);
        port.set_cards(&list_cards("lanrage0"));
        let game = UdpSocket::bind("0.0.0.0:4000").unwrap();
        inject(&mut port, &udp("10.83.7.2:1", "10.83.7.1:4000", b"back"), Delivery::Tun);
        assert_eq!(heard(&game, SOON).len(), 1);
    });
}

#[test]
fn without_a_default_route_games_can_broadcast_through_the_device_until_there_is_one() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let game = UdpSocket::bind("0.0.0.0:4000").unwrap();
        game.set_broadcast(true).unwrap();
        assert!(game.send_to(b"x", "255.255.255.255:4445").is_err(), "the trouble that the routes cure");
        assert!(game.send_to(b"x", "224.0.2.60:4445").is_err());

        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        let routes = |which: &str| ip("route show dev lanrage0").matches(which).count();
        assert_eq!((routes("255.255.255.255"), routes("224.0.0.0/4")), (1, 1));
        game.send_to(b"limited", "255.255.255.255:4445").unwrap();
        game.send_to(b"group", "224.0.2.60:4445").unwrap();
        assert_eq!(read_udp(&mut port, 2).await.len(), 2);
        // And a game that joins now is heard, because it joins here.
        let listener = java_like(MINECRAFT, 4445);
        inject(&mut port, &udp("10.83.7.2:5", "224.0.2.60:4445", b"four"), Delivery::Group);
        assert_eq!(heard(&listener, SOON).len(), 1);

        let other = LanConfig { v4: Ipv4Addr::new(10, 83, 7, 9), ..config() };
        port.reconfigure(&other).unwrap();
        assert_eq!((routes("255.255.255.255"), routes("224.0.0.0/4")), (1, 1), "a new address keeps them");

        let _far = two_cards();
        port.set_cards(&list_cards("lanrage0"));
        assert_eq!((routes("255.255.255.255"), routes("224.0.0.0/4")), (0, 0), "given back");
        assert!(ip("route").contains("10.83.7.0/24 dev lanrage0"));
        ip("route del default");
        port.set_cards(&list_cards("lanrage0"));
        assert_eq!((routes("255.255.255.255"), routes("224.0.0.0/4")), (1, 1));
        // Somebody else's route for broadcasts is respected.
        ip("route del 255.255.255.255 dev lanrage0");
        ip("route add 255.255.255.255 dev eth1");
        port.close();
        let port = LanPort::open(options(dir.path()), &config()).unwrap();
        assert_eq!((routes("255.255.255.255"), routes("224.0.0.0/4")), (0, 1));
        drop(port);
    });
}

/// Not a test: tries to open the port and writes down how it went.
#[test]
#[ignore = "started with fewer rights by without_rights_the_error_says_how_to_get_them"]
fn opener() {
    let dir = std::env::var(DIR).expect("started by the test that takes the rights away");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = runtime.block_on(async {
        match LanPort::open(options(Path::new(&dir)), &config()) {
            Ok(port) => format!("opened {}", port.name()),
            Err(error) => error.to_string(),
        }
    });
    std::fs::write(Path::new(&dir).join("said"), said).unwrap();
}

#[test]
fn without_rights_the_error_says_how_to_get_them() {
    lab(|| async {
        for (taken, doing) in [("-net_admin", "make a tunnel device"), ("-net_raw", "open a raw socket")] {
            let dir = tempfile::tempdir().unwrap();
            let done = std::process::Command::new("setpriv")
                .arg(format!("--bounding-set={taken}"))
                .arg(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "device::opener"])
                .env(DIR, dir.path())
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            assert!(done.success());
            let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
            assert!(said.contains(&format!("no permission to {doing}")), "{said}");
            assert!(said.contains("sudo setcap cap_net_admin,cap_net_raw+ep"), "{said}");
            assert_eq!(files_in(dir.path()), ["said"], "no journal stays");
        }
        assert!(!ip("link").contains("lanrage0"));
    });
}
