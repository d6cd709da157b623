//! The LAN side against the real kernel: real TUN devices, cards and sockets in network namespaces of the test's own.
//! Needs root; without it each test says so and returns, or panics when `LANRAGE_LAB=must`.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world use it")]

#[path = "lab_support/netns.rs"]
mod netns;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use lanrage::buf::batch::{Batch, Source};
use lanrage::engine::effect::LanConfig;
use lanrage::engine::sink::{Delivery, LanSink};
use lanrage::host::cards;
use lanrage::host::lan::{LanError, LanOptions, LanPort};
use lanrage::model::addr::Subnet;
use lanrage::wire::packet::PacketView;
use netns::ip;

const SUBNET: Subnet = Subnet([10, 83, 7]);

fn config() -> LanConfig {
    LanConfig {
        v4: Ipv4Addr::new(10, 83, 7, 1),
        subnet: SUBNET,
        v6: "fd83:1:2:3::1".parse().unwrap(),
        mtu: 1400,
    }
}

fn options(dir: &Path) -> LanOptions {
    LanOptions::new(dir.to_owned())
}

/// Runs `body` in a namespace and a runtime such as the driver has.
fn lab<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    if !netns::possible() {
        return;
    }
    netns::inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body());
    });
}

/// A UDP packet with right checksums.
fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut pseudo = Vec::new();
    let mut packet = match (from.ip(), to.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            pseudo.extend(s.octets().iter().chain(&d.octets()));
            let mut h = vec![0x45, 0];
            h.extend((20 + length).to_be_bytes());
            h.extend([0, 0, 0, 0, 64, 17, 0, 0]);
            h.extend(s.octets().iter().chain(&d.octets()));
            let sum = checksum(&h).to_be_bytes();
            h[10..12].copy_from_slice(&sum);
            h
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            pseudo.extend(s.octets().iter().chain(&d.octets()));
            let mut h = vec![0x60, 0, 0, 0];
            h.extend(length.to_be_bytes());
            h.extend([17, 64]);
            h.extend(s.octets().iter().chain(&d.octets()));
            h
        }
        _ => panic!("one family"),
    };
    let mut datagram = Vec::new();
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    pseudo.extend([0, 17]);
    pseudo.extend(length.to_be_bytes());
    pseudo.extend(&datagram);
    let sum = checksum(&pseudo).to_be_bytes();
    datagram[6..8].copy_from_slice(&sum);
    packet.extend(datagram);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn inject(port: &mut LanPort, packet: &[u8], how: Delivery) {
    port.reserve(packet.len()).expect("room").copy_from_slice(packet);
    port.commit(packet.len(), how);
    port.flush();
}

/// All that a socket gets within `patience` after the last packet.
fn heard(socket: &UdpSocket, patience: Duration) -> Vec<(Vec<u8>, SocketAddr)> {
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut all = Vec::new();
    let mut room = [0; 2048];
    loop {
        match socket.recv_from(&mut room) {
            Ok((len, from)) => all.push((room[..len].to_vec(), from)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return all,
            Err(e) => panic!("{e}"),
        }
    }
}

const SOON: Duration = Duration::from_millis(200);

/// The UDP packets that come by the port until `enough` are there or a second has passed.
async fn read_udp(port: &mut LanPort, enough: usize) -> Vec<(Source, SocketAddr, SocketAddr, Vec<u8>)> {
    let end = Instant::now() + Duration::from_secs(1);
    let mut all = Vec::new();
    let mut batch = Batch::default();
    while all.len() < enough && Instant::now() < end {
        let _ = tokio::time::timeout(SOON, port.readable()).await;
        port.try_read(&mut batch);
        for (source, slot) in batch.iter_mut() {
            let Ok(view) = PacketView::parse(slot.packet()) else { continue };
            if view.proto == 17 {
                let (from, to) = ((view.src, view.src_port).into(), (view.dst, view.dst_port).into());
                all.push((source, from, to, view.payload().to_vec()));
            }
        }
        batch.clear();
    }
    all
}

fn sorted(mut v: Vec<&str>) -> Vec<&str> {
    v.sort_unstable();
    v
}

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
        port.set_cards(&cards::list("lanrage0"));
        let game = UdpSocket::bind("0.0.0.0:4000").unwrap();
        inject(&mut port, &udp("10.83.7.2:1", "10.83.7.1:4000", b"back"), Delivery::Tun);
        assert_eq!(heard(&game, SOON).len(), 1);
    });
}

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
        while cards::list("other-name").len() < 4 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let all = cards::list("other-name");
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
        assert!(cards::list("other-name").iter().all(|c| !c.default_route));
        // As a VPN does that takes over the default route without replacing it.
        ip("route add 0.0.0.0/1 dev eth0");
        ip("route add 128.0.0.0/1 dev eth0");
        assert!(cards::list("x").iter().any(|c| c.default_route && c.name == "eth0"));
    });
}

#[test]
fn changes_of_cards_are_reported_once_they_settle() {
    lab(|| async {
        let mut watch = cards::CardWatch::new().unwrap();
        let quiet = tokio::time::timeout(SOON, watch.changed()).await;
        assert!(quiet.is_err(), "nothing changed yet");
        ip("link add eth0 type veth peer name far0");
        // Dropped half way through, as a select! does.
        let half = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
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
