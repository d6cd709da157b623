//! A peer's packet on its way in: index, open, source check, firewall, into the game's room. 64, 200 and 1,400 bytes.
//!
//! WireGuard refuses a datagram it has seen, so each is sealed afresh outside the measured time.

#![allow(clippy::indexing_slicing, reason = "a bench that is wrong about its own world should stop")]

#[path = "../tests/support/party.rs"]
mod support;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lanrage::buf::batch::{Batch, Datagrams, Source};
use lanrage::engine::tunnel::noise::Noise;
use lanrage::model::addr::Via;
use std::time::Duration;
use support::{Party, Wire, udp};

fn packet_in(c: &mut Criterion) {
    let mut party = Party::<Noise>::new(2, &["openarena"]);
    party.run(Duration::from_secs(3));
    let (from, to) = (format!("{}:27960", party.address(0)), format!("{}:27960", party.address(1)));
    let (now, socket) = (party.now, party.seats[0].socket);
    let (sender, receiver) = party.seats.split_at_mut(1);
    let (sender, receiver) = (&mut sender[0], &mut receiver[0]);
    let mut group = c.benchmark_group("packet_in");
    for size in [64usize, 200, 1400] {
        let packet = udp(&from, &to, &vec![7; size - 28]);
        let (mut batch, mut wire, mut back) = (Batch::default(), Wire::default(), Wire::default());
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{size} bytes"), |b| {
            b.iter_batched(
                || {
                    batch.clear();
                    wire.used = 0;
                    assert!(batch.next(Source::Tun).is_some_and(|s| s.fill(&packet)));
                    sender.node.handle_lan(&mut batch, now, &mut wire, &mut sender.games);
                    wire.sent[0].1.clone()
                },
                |mut bytes| {
                    receiver.games.used = 0;
                    let stride = bytes.len();
                    let datagrams = Datagrams { via: Via::Main, from: socket, bytes: &mut bytes, stride };
                    receiver.node.handle_wan(datagrams, now, &mut back, &mut receiver.games);
                    assert_eq!(receiver.games.used, 1);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, packet_in);
criterion_main!(benches);
