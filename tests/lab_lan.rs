//! The LAN side against the real kernel: real TUN devices, cards and sockets in network namespaces of the test's own.
//! Needs root; without it each test says so and returns, or panics when `LANRAGE_LAB=must`.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world use it")]

#[path = "lab_support/netns.rs"]
mod netns;

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use lanrage::buf::batch::{Batch, Source};
use lanrage::engine::effect::LanConfig;
use lanrage::engine::sink::{Delivery, LanSink};
use lanrage::host::cards;
use lanrage::host::lan::{LanError, LanOptions, LanPort};
use lanrage::model::addr::{Card, Subnet};
use lanrage::model::id::CardId;
use lanrage::wire::packet::PacketView;
use netns::{Elsewhere, ip};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

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

/// A namespace at the other end of a cable to `eth0`, which has the default route there, and of one to `eth1`.
fn two_cards() -> Elsewhere {
    let far = Elsewhere::new();
    far.cable("eth0", "far0");
    far.cable("eth1", "far1");
    for line in [
        "addr add 192.168.5.2/24 brd + dev eth0",
        "addr add 192.168.6.2/24 brd + dev eth1",
        // Addresses without the two seconds of checking.
        "addr add fd05::2/64 dev eth0 nodad",
        "addr add fd06::2/64 dev eth1 nodad",
        "link set eth0 up",
        "link set eth1 up",
    ] {
        ip(line);
    }
    far.run(|| {
        for line in [
            "addr add 192.168.5.1/24 brd + dev far0",
            "addr add 192.168.6.1/24 brd + dev far1",
            "link set far0 up",
            "link set far1 up",
        ] {
            ip(line);
        }
    });
    ip("route add default via 192.168.5.1 dev eth0");
    ip("route add default via fd05::1 dev eth0");
    // Up is what a card is when its carrier has been noticed, which takes a work queue of the kernel.
    let end = Instant::now() + Duration::from_secs(3);
    while cards::list("lanrage0").len() < 2 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    far
}

fn card(name: &str) -> CardId {
    cards::list("lanrage0").iter().find(|c| c.name == name).expect("the card is there").id
}

/// Everything that crosses the cables, as seen at the far end.
struct Wire(Socket);

impl Wire {
    fn tap(far: &Elsewhere) -> Self {
        // ETH_P_ALL in network order.
        let every = Protocol::from(i32::from(3u16.to_be()));
        let socket = far.run(move || Socket::new(Domain::PACKET, Type::RAW, Some(every)).unwrap());
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket)
    }

    /// How many frames with this text came by, up to a quiet moment.
    fn count(&self, text: &[u8]) -> usize {
        let mut room = [0; 4096];
        let mut count = 0;
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            match (&self.0).read(&mut room) {
                Ok(len) => count += usize::from(room[..len].windows(text.len()).any(|w| w == text)),
                Err(_) => break,
            }
        }
        count
    }
}

/// Listens as Java's MulticastSocket does: joined on the default card, and deaf to groups that come in elsewhere.
fn java_like(group: &str, port: u16) -> UdpSocket {
    member(group, port, 0, false)
}

/// Joined on a card (0: the default one); `all`: takes groups that other sockets joined, too.
fn member(group: &str, port: u16, card: u32, all: bool) -> UdpSocket {
    let socket;
    match group.parse().unwrap() {
        IpAddr::V4(group) => {
            socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_multicast_all_v4(all).unwrap();
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(card)).unwrap();
        }
        IpAddr::V6(group) => {
            socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_only_v6(true).unwrap();
            socket.set_multicast_all_v6(all).unwrap();
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()).unwrap();
            socket.join_multicast_v6(&group, card).unwrap();
        }
    }
    socket.into()
}

const MINECRAFT: &str = "224.0.2.60";
const OPENARENA: &str = "ff04::696f:7175:616b:6533";

fn open_with_cards(dir: &Path, ports: &[std::ops::RangeInclusive<u16>]) -> LanPort {
    let mut port = LanPort::open(options(dir), &config()).unwrap();
    let groups: Vec<IpAddr> = [MINECRAFT, OPENARENA].iter().map(|g| g.parse().unwrap()).collect();
    port.listen_for(ports, &groups);
    port.set_cards(&cards::list("lanrage0"));
    port
}

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

#[test]
fn cards_may_come_and_go_while_running() {
    lab(|| async {
        let far = two_cards();
        let dir = tempfile::tempdir().unwrap();
        let chosen = LanOptions { cards: Some(vec!["eth1".into(), "usb0".into()]), ..options(dir.path()) };
        let mut port = LanPort::open(chosen, &config()).unwrap();
        port.listen_for(&[4445..=4445], &[]);
        port.set_cards(&cards::list("lanrage0"));
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
        port.set_cards(&cards::list("lanrage0"));
        far.cable("usb0", "far9");
        far.run(|| ip("link set far9 up"));
        ip("addr add 192.168.9.2/24 dev usb0");
        ip("link set usb0 up");
        let end = Instant::now() + Duration::from_secs(3);
        while cards::list("lanrage0").iter().all(|c| c.name != "usb0") && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        port.set_cards(&cards::list("lanrage0"));
        say("usb0", "three");
        assert_eq!(read_udp(&mut port, 1).await[0].3, b"three");
    });
}

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
        port.set_cards(&cards::list("lanrage0"));
        assert_eq!((routes("255.255.255.255"), routes("224.0.0.0/4")), (0, 0), "given back");
        assert!(ip("route").contains("10.83.7.0/24 dev lanrage0"));
        ip("route del default");
        port.set_cards(&cards::list("lanrage0"));
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

/// All that a machine says of its network, in words that are the same when nothing has changed.
fn state_of_network() -> Vec<String> {
    let mut all: Vec<String> = [
        "-j addr",
        "-j route show table all",
        "-j -6 route show table all",
        "rule",
        "-6 rule",
        "-j link",
        "maddr",
    ]
    .iter()
    .map(|words| ip(words))
    .collect();
    for family in ["ipv4", "ipv6"] {
        let folder = format!("/proc/sys/net/{family}/conf");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        all.push(names.join(" "));
    }
    all
}

fn files_in(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

const DIR: &str = "LANRAGE_LAB_DIR";

/// Not a test: what the next one kills. It holds all that a port can hold, and runs a game that outlives it.
#[test]
#[ignore = "the victim of killed_in_the_middle_of_everything_nothing_stays"]
fn victim() {
    let dir = std::env::var(DIR).expect("started by the test that kills it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut port = open_with_cards(Path::new(&dir), &[4445..=4445]);
        let _game = member(MINECRAFT, 4445, card("eth0").0, false);
        inject(&mut port, &udp("10.83.7.2:5", "224.0.2.60:4445", b"x"), Delivery::Group);
        assert_eq!(port.counters().group_out, 1);
        let _child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
        std::fs::write(Path::new(&dir).join("up"), "").unwrap();
        std::future::pending::<()>().await;
    });
}

#[test]
fn killed_in_the_middle_of_everything_nothing_stays() {
    lab(|| async {
        let _far = two_cards();
        ip("route del default");
        let dir = tempfile::tempdir().unwrap();
        let before = state_of_network();
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "victim"])
            .env(DIR, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while !dir.path().join("up").exists() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(files_in(dir.path()), ["leftovers.json", "up"]);
        assert_ne!(before, state_of_network());
        let words = lanrage::host::lan::clean_leftovers(dir.path());
        assert!(words[0].contains("still running"), "{words:?}");

        victim.kill().unwrap();
        victim.wait().unwrap();
        // Devices go by the kernel's own work, some milliseconds after the process.
        let end = Instant::now() + Duration::from_secs(3);
        while state_of_network() != before && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(before, state_of_network());
        let words = lanrage::host::lan::clean_leftovers(dir.path());
        assert_eq!(words.len(), 1, "{words:?}");
        assert_eq!(files_in(dir.path()), ["up"]);
        LanPort::open(options(dir.path()), &config()).unwrap().close();
        assert_eq!(files_in(dir.path()), ["up"]);
        assert_eq!(before, state_of_network());
    });
}

#[test]
fn a_device_that_did_outlive_its_process_is_removed_and_others_are_not() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let journal = r#"{"version":1,"adapter":"lanrage0","process":{"pid":4194304,"started":7}}"#;
        for (alias, stays) in [("lanrage 4194304 7", false), ("lanrage 4194304 8", true), ("vpn", true)] {
            std::fs::write(dir.path().join("leftovers.json"), journal).unwrap();
            ip("tuntap add lanrage0 mode tun");
            let done = std::process::Command::new("ip")
                .args(["link", "set", "lanrage0", "alias", alias])
                .status()
                .unwrap();
            assert!(done.success());
            let words = lanrage::host::lan::clean_leftovers(dir.path());
            assert_eq!(ip("link").contains("lanrage0"), stays, "{alias}: {words:?}");
            assert_eq!(words.iter().any(|w| w.contains("removed the adapter")), !stays, "{words:?}");
            assert!(files_in(dir.path()).is_empty());
            if stays {
                ip("link del lanrage0");
            }
        }
    });
}
