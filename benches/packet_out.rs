//! A game's packet on its way out: parse, firewall, seal. One peer; 64, 200 and 1,400 bytes.

#![allow(clippy::indexing_slicing, reason = "a bench that is wrong about its own world should stop")]

#[path = "../tests/support/party.rs"]
mod support;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lanrage::buf::batch::{Batch, Source};
use lanrage::engine::tunnel::noise::Noise;
use std::time::Duration;
use support::{Party, Wire, udp};

fn packet_out(c: &mut Criterion) {
    let mut party = Party::<Noise>::new(2, &["openarena"]);
    party.run(Duration::from_secs(3));
    let (from, to) = (format!("{}:27960", party.address(0)), format!("{}:27960", party.address(1)));
    let mut group = c.benchmark_group("packet_out");
    for size in [64usize, 200, 1400] {
        let packet = udp(&from, &to, &vec![7; size - 28]);
        let (mut batch, mut wire) = (Batch::default(), Wire::default());
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{size} bytes"), |b| {
            b.iter_batched(
                || (),
                |()| {
                    batch.clear();
                    wire.used = 0;
                    assert!(batch.next(Source::Tun).is_some_and(|s| s.fill(&packet)));
                    let seat = &mut party.seats[0];
                    seat.node.handle_lan(&mut batch, party.now, &mut wire, &mut seat.games);
                    assert_eq!(wire.used, 1);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, packet_out);
criterion_main!(benches);
