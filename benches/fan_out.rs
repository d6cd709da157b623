//! A game's announcement to 1, 8 and 32 peers: classify, guards, pace, one sealing per peer.

#![allow(clippy::indexing_slicing, reason = "a bench that is wrong about its own world should stop")]

#[path = "../tests/support/party.rs"]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lanrage::buf::batch::{Batch, Source};
use lanrage::engine::tunnel::noise::Noise;
use lanrage::model::id::CardId;
use std::time::Duration;
use support::{Party, Wire, udp};

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for peers in [1usize, 8, 32] {
        let mut party = Party::<Noise>::new(peers + 1, &["minecraft"]);
        party.run(Duration::from_secs(5));
        let packet = udp("198.51.1.1:51000", "224.0.2.60:4445", b"[MOTD]world[/MOTD][AD]25599[/AD]");
        let (mut batch, mut wire) = (Batch::default(), Wire::default());
        group.throughput(Throughput::Elements(peers as u64));
        group.bench_function(format!("{peers} peers"), |b| {
            b.iter(|| {
                // A second apart, so that the pace lets every one through and no key ages meanwhile.
                party.now.mono = party.now.mono + Duration::from_secs(1);
                batch.clear();
                wire.used = 0;
                assert!(batch.next(Source::Card(CardId(2))).is_some_and(|s| s.fill(&packet)));
                let seat = &mut party.seats[0];
                seat.node.handle_lan(&mut batch, party.now, &mut wire, &mut seat.games);
                while seat.node.poll_effect().is_some() {}
                assert_eq!(wire.used, peers);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
