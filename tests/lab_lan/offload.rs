//! Several packets in one read or write of the device, against the real kernel; and a device without that.

use super::*;
use lanrage::wire::packet::fix_checksums;
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

const EACH: usize = 1000;
const MANY: usize = 40;

/// Datagrams that can be told apart, in the order in which they were sent.
fn body(n: usize) -> Vec<u8> {
    (0..EACH).map(|at| u8::try_from((n * 7 + at) % 251).unwrap()).collect()
}

fn without(dir: &Path) -> LanOptions {
    LanOptions { offload: false, ..options(dir) }
}

/// All of them in one segmented send.
fn send_segments(socket: &UdpSocket, to: &str) {
    let contents: Vec<u8> = (0..MANY).flat_map(body).collect();
    let transmit = Transmit {
        destination: to.parse().unwrap(),
        ecn: None,
        contents: &contents,
        segment_size: Some(EACH),
        src_ip: None,
    };
    let state = UdpSocketState::new(UdpSockRef::from(socket)).unwrap();
    state.try_send(UdpSockRef::from(socket), &transmit).unwrap();
}

/// All of them for the device, as one input would bring them.
fn inject_many(port: &mut LanPort, from: &str, to: &str) {
    for n in 0..MANY {
        let packet = udp(from, to, &body(n));
        port.reserve(packet.len()).unwrap().copy_from_slice(&packet);
        port.commit(packet.len(), Delivery::Tun);
    }
    port.flush();
}

/// What the device brings until `many` packets of UDP to this port were read.
async fn read_datagrams(port: &mut LanPort, to: u16, many: usize) -> Vec<Vec<u8>> {
    let (mut batch, mut got) = (Batch::default(), Vec::new());
    let end = Instant::now() + Duration::from_secs(5);
    while got.len() < many && Instant::now() < end {
        batch.clear();
        let _ = tokio::time::timeout(SOON, port.readable()).await;
        port.try_read(&mut batch);
        for (_, slot) in batch.iter_mut() {
            let view = PacketView::parse(slot.packet()).unwrap();
            if view.dst_port == to {
                assert!(view.bytes.len() <= 1400);
                got.push(slot.packet().to_vec());
            }
        }
    }
    got
}

#[test]
fn a_segmented_send_is_read_as_single_packets_with_right_checksums() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        for (options, local, peer) in [
            (options(dir.path()), "10.83.7.1:0", "10.83.7.2:5000"),
            (options(dir.path()), "[fd83:1:2:3::1]:0", "[fd83:1:2:3::2]:5000"),
            (without(dir.path()), "10.83.7.1:0", "10.83.7.2:5000"),
        ] {
            let mut port = LanPort::open(options, &config()).unwrap();
            let game = UdpSocket::bind(local).unwrap();
            send_segments(&game, peer);
            let got = read_datagrams(&mut port, 5000, MANY).await;
            assert_eq!(got.len(), MANY);
            for (n, packet) in got.iter().enumerate() {
                assert_eq!(PacketView::parse(packet).unwrap().payload(), body(n), "packet {n}");
                let mut right = packet.clone();
                fix_checksums(&mut right);
                assert_eq!(&right, packet, "the checksums of packet {n}");
            }
            port.close();
        }
    });
}

/// Until the device takes packets to this address: the kernel makes an IPv6 address usable a moment after it was given.
fn wait_for(port: &mut LanPort, game: &UdpSocket, to: &str) {
    let probe = udp("10.83.7.2:4999", "10.83.7.1:27960", b"?");
    let probe = if to.starts_with('[') { udp("[fd83:1:2:3::2]:4999", to, b"?") } else { probe };
    let end = Instant::now() + Duration::from_secs(5);
    while heard(game, Duration::from_millis(20)).is_empty() {
        assert!(Instant::now() < end, "nothing comes to {to}");
        inject(port, &probe, Delivery::Tun);
    }
}

#[test]
fn packets_of_one_flow_are_one_write_and_arrive_one_by_one() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        for (options, merges) in [(options(dir.path()), true), (without(dir.path()), false)] {
            for (from, to, local) in [
                ("10.83.7.2:5000", "10.83.7.1:27960", "0.0.0.0:27960"),
                ("[fd83:1:2:3::2]:5000", "[fd83:1:2:3::1]:27960", "[::]:27960"),
            ] {
                let mut port = LanPort::open(options.clone(), &config()).unwrap();
                let game = UdpSocket::bind(local).unwrap();
                wait_for(&mut port, &game, to);
                let before = port.counters();
                game.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                inject_many(&mut port, from, to);
                let mut room = [0; 2000];
                for n in 0..MANY {
                    let (len, source) = game.recv_from(&mut room).unwrap();
                    assert!(
                        room[..len] == body(n) && source == from.parse().unwrap(),
                        "packet {n} of {from}"
                    );
                }
                let counters = port.counters();
                assert_eq!((counters.tun_out - before.tun_out, counters.refused), (MANY as u64, 0));
                let writes = counters.tun_writes - before.tun_writes;
                assert_eq!(writes, if merges { 1 } else { MANY as u64 }, "{from}");
                port.close();
            }
        }
    });
}

#[test]
fn merged_broadcasts_reach_every_socket_one_by_one() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        for to in ["255.255.255.255:27960", "10.83.7.255:27960"] {
            let games = [(); 2].map(|()| {
                let game = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
                game.set_reuse_address(true).unwrap();
                game.bind(&"0.0.0.0:27960".parse::<SocketAddr>().unwrap().into()).unwrap();
                UdpSocket::from(game)
            });
            let before = port.counters().tun_writes;
            inject_many(&mut port, "10.83.7.2:5000", to);
            assert_eq!(port.counters().tun_writes, before + 1);
            for game in games {
                let got: Vec<Vec<u8>> = heard(&game, SOON).into_iter().map(|(bytes, _)| bytes).collect();
                assert_eq!(got, (0..MANY).map(body).collect::<Vec<_>>(), "{to}");
            }
        }
    });
}

#[test]
fn a_packet_of_a_game_passes_a_transfer_that_was_there_before() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let mut port = LanPort::open(options(dir.path()), &config()).unwrap();
        let transfer = UdpSocket::bind("10.83.7.1:0").unwrap();
        let sends = 10;
        for _ in 0..sends {
            send_segments(&transfer, "10.83.7.2:5000");
        }
        let game = UdpSocket::bind("10.83.7.1:0").unwrap();
        game.send_to(b"I jump", "10.83.7.2:6000").unwrap();
        transfer.send_to(b"the end of the transfer", "10.83.7.2:5000").unwrap();
        let (mut batch, mut order) = (Batch::default(), Vec::new());
        tokio::time::timeout(SOON, port.readable()).await.unwrap();
        while port.try_read(&mut batch) > 0 {
            order.extend(batch.iter_mut().map(|(_, slot)| {
                let view = PacketView::parse(slot.packet()).unwrap();
                (view.dst_port, view.payload().len())
            }));
            batch.clear();
        }
        order.retain(|(to, _)| [5000, 6000].contains(to));
        assert_eq!(order.len(), sends * MANY + 2);
        let game = order.iter().position(|(to, _)| *to == 6000).unwrap();
        assert!(game < 64, "the game's packet came at place {game}");
        assert_eq!(order.last(), Some(&(5000, 23)), "no flow is reordered");
    });
}
