//! The LAN side against the real kernel: real TUN devices, cards and sockets in network namespaces of the test's own.
//! Needs root; without it each test says so and returns, or panics when `LANRAGE_LAB=must`.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world use it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics says where")]
#![allow(clippy::print_stdout, reason = "a test that cannot run says why")]

#[path = "lab_lan/capture.rs"]
mod capture;
#[path = "lab_lan/cards.rs"]
mod cards;
#[path = "lab_lan/device.rs"]
mod device;
#[path = "lab_lan/groups.rs"]
mod groups;
#[path = "lab_lan/leftovers.rs"]
mod leftovers;
#[path = "lab_support/netns.rs"]
mod netns;
#[path = "lab_lan/offload.rs"]
mod offload;
#[path = "lab_lan/proxy.rs"]
mod proxy;
#[path = "lab_lan/share.rs"]
mod share;

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use lanrage::buf::batch::{Batch, Source};
use lanrage::engine::effect::LanConfig;
use lanrage::engine::sink::{Delivery, LanSink};
use lanrage::host::cards::list as list_cards;
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
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
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
    while list_cards("lanrage0").len() < 2 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    far
}

fn card(name: &str) -> CardId {
    list_cards("lanrage0").iter().find(|c| c.name == name).expect("the card is there").id
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
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
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
    port.set_cards(&list_cards("lanrage0"));
    port
}

fn files_in(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

const DIR: &str = "LANRAGE_LAB_DIR";
