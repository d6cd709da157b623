//! How connections begin and end: half-close, resets, refusals, silence, addresses.

use super::*;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn what_is_said_after_one_side_has_ended_still_arrives() {
    let mut pair = Pair::new();
    for game_first in [false, true] {
        let (program, game) = pair.connected().await;
        let (mut first, mut second) = if game_first { (game, program) } else { (program, game) };
        let story = async {
            first.write_all(b"my last word").await.unwrap();
            first.shutdown().await.unwrap();
            let mut heard = Vec::new();
            second.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"my last word");
            tokio::time::sleep(Duration::from_millis(50)).await;
            second.write_all(&pattern(100_000, 3)).await.unwrap();
            drop(second);
            heard.clear();
            first.read_to_end(&mut heard).await.unwrap();
            assert!(heard == pattern(100_000, 3));
        };
        pair.during(story).await;
        pair.settle().await;
    }
    assert_eq!((pair.host.counters().reset, pair.guest.counters().reset), (0, 0));
}

#[tokio::test]
async fn a_game_that_wants_it_is_told_who_connects() {
    let mut pair = Pair::new();
    let game = game();
    let (own, guest, port) = (pair.host.us.octets(), pair.guest.us.octets(), port(&game));
    pair.host.tell(&[port]);
    let door = pair.door(port);
    let mut heard = [0; 33];
    let story = async {
        let (mut program, (mut game, _)) = tokio::try_join!(TcpStream::connect(door), game.accept()).unwrap();
        program.write_all(b"hello").await.unwrap();
        game.read_exact(&mut heard).await.unwrap();
    };
    pair.during(story).await;
    assert_eq!(heard[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!((&heard[16..20], &heard[20..24]), (&guest[..], &own[..]));
    assert_ne!(heard[24..26], [0, 0]);
    assert_eq!((&heard[26..28], &heard[28..]), (&port.to_be_bytes()[..], &b"hello"[..]));
}

#[tokio::test]
async fn a_slow_reader_gets_everything_after_the_end_was_confirmed() {
    let mut pair = Pair::new();
    let (mut program, mut game) = pair.connected().await;
    // More than the reader's system takes at once, so that the rest waits here; the writer closes as soon as it may.
    let writer = tokio::spawn(async move {
        game.write_all(&pattern(12 << 20, 4)).await.unwrap();
        drop(game);
    });
    program.shutdown().await.unwrap();
    pair.pass(Duration::from_millis(300)).await;
    let reading = async {
        let (mut all, mut some) = (Vec::new(), vec![0; 256 * 1_024]);
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            match program.read(&mut some).await.unwrap() {
                0 => return all,
                n => all.extend_from_slice(&some[..n]),
            }
        }
    };
    assert!(pair.during(reading).await == pattern(12 << 20, 4));
    writer.await.unwrap();
    pair.settle().await;
}

#[tokio::test]
async fn a_reset_is_passed_on_in_both_directions() {
    let mut pair = Pair::new();
    for game_resets in [true, false] {
        let (program, game) = pair.connected().await;
        let (breaks, mut stays) = if game_resets { (game, program) } else { (program, game) };
        breaks.set_zero_linger().unwrap();
        drop(breaks);
        let mut byte = [0];
        let heard = pair.during(stays.read(&mut byte)).await.unwrap_err();
        assert_eq!(heard.kind(), io::ErrorKind::ConnectionReset);
        pair.settle().await;
    }
    assert_eq!((pair.host.counters().reset, pair.guest.counters().reset), (2, 2));
}

#[tokio::test]
async fn a_port_where_nothing_listens_resets_the_local_connection() {
    let mut pair = Pair::new();
    // Taken, so that nobody else takes it, but not listening.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let door = pair.door(held.local_addr().unwrap().port());
    let mut program = TcpStream::connect(door).await.unwrap();
    let mut byte = [0];
    let heard = pair.during(program.read(&mut byte)).await.unwrap_err();
    assert_eq!(heard.kind(), io::ErrorKind::ConnectionReset);
    pair.settle().await;
    // On a busy computer the guest asks a second time before it hears the answer, and is refused again.
    assert!(pair.host.counters().refused >= 1, "{:?}", pair.host.counters());
    assert_eq!(pair.guest.counters().refused, 1);
}

#[tokio::test]
async fn a_connection_that_does_not_come_to_stand_is_given_up() {
    let mut pair = Pair::new();
    pair.guest.patience = Duration::from_millis(300);
    pair.net.cut = true;
    let game = game();
    let door = pair.door(port(&game));
    let mut program = TcpStream::connect(door).await.unwrap();
    let mut byte = [0];
    let begun = Instant::now();
    let heard = pair.during(program.read(&mut byte)).await.unwrap_err();
    assert_eq!(heard.kind(), io::ErrorKind::ConnectionReset);
    assert!(begun.elapsed() >= Duration::from_millis(290));
    pair.settle().await;
    assert_eq!(pair.guest.counters().timed_out, 1);
}

#[tokio::test]
async fn every_peer_comes_from_an_address_of_its_own_and_the_game_can_tell() {
    let net = subnet();
    let mut host = Tcp::new(at(net, 2), MTU);
    let game = game();
    for seat in [3, 4, 250] {
        let mut pair = Pair { host, guest: Tcp::new(at(net, seat), MTU), net: Net::new() };
        let door = pair.door(port(&game));
        let both = async { tokio::try_join!(TcpStream::connect(door), game.accept()) };
        let (program, (served, from)) = pair.during(both).await.unwrap();
        let SocketAddr::V4(from) = from else { panic!("{from}") };
        assert_eq!(*from.ip(), stand_in(at(net, seat)));
        drop((program, served));
        pair.settle().await;
        host = pair.host;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_game_that_listens_elsewhere_is_found_there() {
    let mut pair = Pair::new();
    let elsewhere = Ipv4Addr::new(127, 0, 0, 77);
    let game = TcpListener::bind((elsewhere, 0)).await.unwrap();
    let port = port(&game);
    let door = pair.door(port);
    let both = async { tokio::try_join!(TcpStream::connect(door), game.accept()) };
    let (mut program, (mut served, from)) = pair.during(both).await.unwrap();
    assert_eq!(from.ip(), stand_in(pair.guest.us));
    let said = async { tokio::try_join!(program.write_all(b"x"), served.read_u8()) };
    assert_eq!(pair.during(said).await.unwrap().1, b'x');
    assert_eq!((pair.host.counters().inward, pair.host.counters().refused), (1, 0));
    drop(game);
    // For as long as the system's list is believed.
    pair.pass(Duration::from_millis(1_100)).await;
    let mut program = TcpStream::connect(door).await.unwrap();
    let heard = pair.during(program.read(&mut [0])).await.unwrap_err();
    assert_eq!(heard.kind(), io::ErrorKind::ConnectionReset, "it is there no more");
    assert!(pair.host.counters().refused >= 1);
}

#[tokio::test]
async fn listeners_open_once_take_another_port_where_theirs_is_taken_and_close_alone() {
    let mut pair = Pair::new();
    let stand = stand_in(pair.host.us);
    let taken = TcpListener::bind((stand, 0)).await.unwrap();
    let to = SocketAddrV4::new(pair.host.us, port(&taken));
    let first = pair.guest.open(to).unwrap();
    assert!(first.port() != to.port() && *first.ip() == stand);
    assert_eq!(pair.guest.open(to).unwrap(), first);
    let (mut program, mut served) = pair.connected().await;
    let doors: Vec<_> = pair.guest.doors.iter().map(|d| d.to).collect();
    assert_eq!(doors.len(), 2);
    doors.into_iter().for_each(|to| pair.guest.close(to));
    assert!(TcpStream::connect(first).await.is_err(), "the listener is gone");
    let still = async { tokio::try_join!(program.write_all(b"x"), served.read_u8()) };
    assert_eq!(pair.during(still).await.unwrap().1, b'x');
    for n in 0..DOORS {
        let to = SocketAddrV4::new(pair.host.us, u16::try_from(20_000 + n).unwrap());
        pair.guest.open(to).unwrap();
    }
    assert!(pair.guest.open(to).is_err(), "bounded");
}

#[tokio::test]
async fn another_address_resets_everything() {
    let mut pair = Pair::new();
    let (mut program, _game) = pair.connected().await;
    let us = at(subnet(), 9);
    pair.guest.reconfigure(us, MTU);
    let heard = pair.during(program.read(&mut [0])).await.unwrap_err();
    assert_eq!(heard.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((pair.guest.lines.len(), pair.guest.doors.len(), pair.guest.us), (0, 0, us));
    assert_eq!(pair.guest.counters().outward, 1, "numbers only grow");
}

#[tokio::test]
async fn nobody_is_woken_while_nothing_happens() {
    let mut pair = Pair::new();
    let mut all = Vec::new();
    for _ in 0..50 {
        all.push(pair.connected().await);
    }
    pair.pass(Duration::from_millis(500)).await;
    let mut woken = 0;
    let mut idle = std::pin::pin!(tokio::time::sleep(Duration::from_millis(300)));
    poll_fn(|cx| {
        woken += 1;
        let ready = pair.host.poll_ready(cx).is_ready() | pair.guest.poll_ready(cx).is_ready();
        assert!(!ready, "something is due");
        idle.as_mut().poll(cx)
    })
    .await;
    assert!(woken < 5, "woken {woken} times");
    // One of them moves, and only that one is served.
    let (program, _game) = &mut all[7];
    program.write_all(b"x").await.unwrap();
    poll_fn(|cx| pair.guest.poll_ready(cx)).await;
    pair.guest.turn();
    assert_eq!(pair.guest.queue.len(), 1);
}
