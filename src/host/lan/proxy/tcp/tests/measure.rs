//! Numbers, by hand: `cargo test --lib proxy::tcp::tests::measure -- --ignored --nocapture --test-threads 1`.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

#[tokio::test]
#[ignore = "a measurement"]
async fn throughput_and_round_trip_of_one_connection() {
    const BLOCKS: u32 = 4_096;
    let mut pair = Pair::new();
    let (mut program, mut game) = pair.connected().await;
    let begun = Instant::now();
    let writing = async {
        for _ in 0..BLOCKS {
            game.write_all(&[7; 64 * 1_024]).await.unwrap();
        }
    };
    let reading = async {
        let mut some = vec![0; 64 * 1_024];
        for _ in 0..BLOCKS {
            program.read_exact(&mut some).await.unwrap();
        }
    };
    pair.during(async { tokio::join!(writing, reading) }).await;
    let rate = f64::from(BLOCKS / 16) / begun.elapsed().as_secs_f64();
    println!("one connection through two of them: {rate:.0} MiB/s, {} packets", pair.net.carried);
    let begun = Instant::now();
    let echo = async {
        for _ in 0..2_000 {
            program.write_u8(1).await.unwrap();
            game.read_u8().await.unwrap();
            game.write_u8(2).await.unwrap();
            program.read_u8().await.unwrap();
        }
    };
    pair.during(echo).await;
    println!("a round trip of one byte: {:?}", begun.elapsed() / 2_000);
}

#[tokio::test]
#[ignore = "a measurement"]
async fn throughput_of_one_connection_over_a_far_path() {
    const BLOCKS: u32 = 400;
    for (delay, lost) in [(20, 0), (20, 1), (20, 5)] {
        let mut pair = Pair::new();
        let (mut program, mut game) = pair.connected().await;
        (pair.net.delay, pair.net.lost_per_mille) = (Some(Duration::from_millis(delay)), lost);
        let begun = Instant::now();
        let writing = async {
            for _ in 0..BLOCKS {
                game.write_all(&[7; 64 * 1_024]).await.unwrap();
            }
        };
        let mut first = None;
        let reading = async {
            let mut some = vec![0; 64 * 1_024];
            for n in 0..BLOCKS {
                program.read_exact(&mut some).await.unwrap();
                if n == 16 {
                    first = Some(begun.elapsed());
                }
            }
        };
        let work = async { tokio::join!(writing, reading) };
        let done = pair.during(tokio::time::timeout(Duration::from_secs(20), work)).await.is_ok();
        let took = begun.elapsed().as_secs_f64();
        println!(
            "{} ms and {lost} per mille lost: done {done} in {took:.1} s, the first MiB in {first:?}",
            delay * 2
        );
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "a measurement"]
async fn memory_of_open_connections() {
    let mut pair = Pair::new();
    let mut all = Vec::new();
    let before = resident();
    for _ in 0..100 {
        all.push(pair.connected().await);
    }
    println!("100 idle connections: {} KiB for both ends together", resident() - before);
    for (program, game) in &mut all {
        let sent = pattern(600_000, 1);
        let mut got = vec![0; sent.len()];
        let story =
            async { tokio::try_join!(game.write_all(&sent), program.read_exact(&mut got)).map(|_| ()) };
        pair.during(story).await.unwrap();
    }
    println!("after 600 kB each to the guest: {} KiB", resident() - before);
    while all.len() < 600 {
        all.push(pair.connected().await);
        let to = pair.guest.doors.iter().next().unwrap().to;
        pair.guest.close(to);
    }
    println!("500 idle ones more: {} KiB", resident() - before);
}
