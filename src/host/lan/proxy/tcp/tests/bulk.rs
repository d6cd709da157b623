//! Much at once: in both directions, over bad wires, against readers that do not read, and hundreds of connections.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends this, then is silent; gives what came in.
async fn exchange(stream: TcpStream, send: Vec<u8>) -> Vec<u8> {
    let (mut read, mut write) = stream.into_split();
    let writing = tokio::spawn(async move {
        write.write_all(&send).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    read.read_to_end(&mut got).await.unwrap();
    writing.await.unwrap();
    got
}

async fn both_ways(pair: &mut Pair, down: usize, up: usize) {
    let (program, game) = pair.connected().await;
    let (to_guest, to_host) = (pattern(down, 1), pattern(up, 2));
    let theirs = tokio::spawn(exchange(game, to_guest.clone()));
    let ours = tokio::spawn(exchange(program, to_host.clone()));
    let both = async { (ours.await.unwrap(), theirs.await.unwrap()) };
    let (at_guest, at_host) = pair.during(both).await;
    assert!(at_guest == to_guest, "{} of {down} bytes came down, or others", at_guest.len());
    assert!(at_host == to_host, "{} of {up} bytes came up, or others", at_host.len());
    pair.settle().await;
}

#[tokio::test]
async fn a_world_is_carried_both_ways_at_once() {
    let mut pair = Pair::new();
    both_ways(&mut pair, 8 << 20, 4 << 20).await;
    let (host, guest) = (pair.host.counters(), pair.guest.counters());
    assert_eq!((host.inward, host.reset, host.broken, host.lost), (1, 0, 0, 0));
    assert_eq!((guest.outward, guest.reset, guest.broken, guest.lost), (1, 0, 0, 0));
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_a_wire_that_loses_and_reorders() {
    let mut pair = Pair::new();
    (pair.net.lost_per_mille, pair.net.late_per_mille) = (10, 20);
    both_ways(&mut pair, 700_000, 300_000).await;
}

#[tokio::test]
async fn the_packet_size_may_change_on_the_way() {
    let mut pair = Pair::new();
    let (mut program, mut game) = pair.connected().await;
    for mtu in [1_380, 700, 1_200, 0] {
        pair.host.set_mtu(mtu);
        let sent = pattern(200_000, mtu.into());
        let mut got = vec![0; sent.len()];
        let both = async { tokio::try_join!(game.write_all(&sent), program.read_exact(&mut got)) };
        pair.during(both).await.unwrap();
        assert!(got == sent);
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_writer_and_nothing_is_lost() {
    let mut pair = Pair::new();
    let (mut program, mut game) = pair.connected().await;
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let writer = tokio::spawn(async move {
        for n in 0..2_048 {
            game.write_all(&pattern(16 * 1_024, n)).await.unwrap();
            counted.fetch_add(16 * 1_024, Ordering::Relaxed);
        }
    });
    // Until it does not grow any more, however busy the computer is.
    let (mut stalled, mut carried) = (usize::MAX, 0);
    while stalled != sent.load(Ordering::Relaxed) {
        (stalled, carried) = (sent.load(Ordering::Relaxed), pair.net.carried);
        pair.pass(Duration::from_millis(700)).await;
    }
    // What the system's own buffers take is its business (4 and 6 MB at most, twice); ours take two windows.
    assert!((1..24 << 20).contains(&stalled), "{stalled} bytes were taken in for nobody");
    assert!(pair.net.carried - carried < 20, "packets for nothing: {}", pair.net.carried - carried);
    let reading = async {
        let mut got = vec![0; 16 * 1_024];
        for n in 0..2_048 {
            program.read_exact(&mut got).await.unwrap();
            assert!(got == pattern(16 * 1_024, n), "block {n}");
        }
    };
    pair.during(reading).await;
    writer.await.unwrap();
}

/// Serves every connection that comes with what it says.
fn echo(game: TcpListener) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = game.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
}

/// All of these came to their end, and none of them failed.
async fn every(all: Vec<tokio::task::JoinHandle<()>>) {
    for one in all {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn three_hundred_short_connections_at_once_are_all_served() {
    let mut pair = Pair::new();
    let game = game();
    let door = pair.door(port(&game));
    echo(game);
    let all: Vec<_> = (0..300)
        .map(|n| {
            tokio::spawn(async move {
                let sent = pattern(3_000, n);
                let stream = TcpStream::connect(door).await.unwrap();
                assert!(exchange(stream, sent.clone()).await == sent, "{n}");
            })
        })
        .collect();
    pair.during(every(all)).await;
    pair.settle().await;
    let (host, guest) = (pair.host.counters(), pair.guest.counters());
    assert_eq!((host.inward, guest.outward, host.open, guest.open), (300, 300, 0, 0));
    assert_eq!((host.too_many, guest.too_many, host.reset, guest.reset), (0, 0, 0, 0));
    assert!(pair.host.loads.is_empty() && pair.host.by_key.is_empty() && pair.host.due.is_empty());
}

/// Where the queue of the listener is too short for those who come while the loop is busy elsewhere, Linux lets programs
/// believe that they are connected, and resets them.
#[tokio::test]
async fn three_hundred_that_came_while_nobody_looked_are_all_served() {
    let mut pair = Pair::new();
    let game = game();
    let door = pair.door(port(&game));
    echo(game);
    let patience = Duration::from_secs(5);
    let connect = |_| std::net::TcpStream::connect_timeout(&door.into(), patience).unwrap();
    let waiting: Vec<_> = (0..300).map(connect).collect();
    let all = waiting.into_iter().zip(0..).map(|(stream, n)| {
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        tokio::spawn(
            async move { assert!(exchange(stream, pattern(3_000, n)).await == pattern(3_000, n), "{n}") },
        )
    });
    let all: Vec<_> = all.collect();
    pair.during(every(all)).await;
    pair.settle().await;
    let (host, guest) = (pair.host.counters(), pair.guest.counters());
    assert_eq!((host.inward, guest.outward, host.reset, guest.reset), (300, 300, 0, 0));
}

#[tokio::test]
async fn there_are_never_more_connections_than_allowed() {
    let mut pair = Pair::new();
    let game = game();
    let door = pair.door(port(&game));
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = game.accept().await {
            held.push(stream);
        }
    });
    let mut programs = Vec::new();
    // What one peer may have here is below what there may be in all.
    for _ in 0..8 {
        for _ in 0..100 {
            // One that is too many may be reset before the program sees that it was connected.
            programs.push(pair.during(TcpStream::connect(door)).await);
        }
        pair.pass(Duration::from_millis(50)).await;
    }
    while pair.guest.counters().refused < 160 {
        pair.pass(Duration::from_millis(50)).await;
    }
    assert_eq!(pair.host.counters().open, u64::from(OF_ONE_PEER));
    assert_eq!((pair.host.counters().too_many, pair.guest.counters().refused), (160, 160));
    // And all of the guest's places.
    pair.guest.patience = Duration::from_secs(60);
    pair.net.cut = true;
    while programs.len() < 1_300 {
        programs.push(pair.during(TcpStream::connect(door)).await);
    }
    while pair.guest.counters().too_many < 1_300 - 160 - 1_024 {
        pair.pass(Duration::from_millis(50)).await;
    }
    let guest = pair.guest.counters();
    assert_eq!((guest.open, guest.too_many), (1_024, 1_300 - 160 - 1_024));
    held.abort();
}

#[tokio::test]
async fn a_lost_packet_that_no_other_follows_is_sent_again_before_a_player_gives_up() {
    let mut pair = Pair::new();
    let (mut program, mut game) = pair.connected().await;
    pair.during(async { tokio::try_join!(program.write_all(b"a"), game.read_u8()) }).await.unwrap();
    pair.net.cut = true;
    program.write_all(b"b").await.unwrap();
    let begun = Instant::now();
    pair.pass(Duration::from_millis(100)).await;
    pair.net.cut = false;
    assert_eq!(pair.during(game.read_u8()).await.unwrap(), b'b');
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(900), "as slow as smoltcp by itself: {took:?}");
}
