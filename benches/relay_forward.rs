//! What the relay's machine itself costs a packet: ChannelData to a peer, a peer's datagram to ChannelData, and between two
//! clients of the same relay; with one allocation and with four thousand.

#[path = "../tests/support/relay.rs"]
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lanrage::engine::relay::tally::Tallied;
use lanrage::engine::relay::{HEADROOM, PortId};
use lanrage::wire::channel;
use support::{CHANNEL, PAYLOAD, Sink, Stage, client, framed, peer};

fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("relay_forward");
    group.throughput(Throughput::Elements(1));
    for allocations in [2, 4000] {
        let mut stage = Stage::new(allocations);
        let (now, mut sink) = (stage.now, Sink::default());
        let mut buffer = framed(CHANNEL);
        let end = buffer.len();
        let mut n = 0;
        group.bench_function(BenchmarkId::new("client_to_peer", allocations), |b| {
            b.iter(|| {
                n = (n + 7) % allocations;
                stage.relay.handle_client(&client(n), &mut buffer, HEADROOM..end, now, &mut sink);
            });
        });
        let mut buffer = vec![7; HEADROOM + PAYLOAD];
        group.bench_function(BenchmarkId::new("peer_to_client", allocations), |b| {
            b.iter(|| {
                n = (n + 7) % allocations;
                stage.relay.handle_peer(
                    PortId(n),
                    peer(n),
                    &mut buffer,
                    HEADROOM..HEADROOM + PAYLOAD,
                    now,
                    &mut sink,
                );
            });
        });
        let original = framed(CHANNEL + 1);
        let mut buffer = original.clone();
        group.bench_function(BenchmarkId::new("client_to_client", allocations), |b| {
            b.iter(|| {
                // Only the header was written over.
                let header = HEADROOM + channel::HEADER;
                buffer
                    .get_mut(..header)
                    .expect("long enough")
                    .copy_from_slice(original.get(..header).expect("long enough"));
                stage.relay.handle_client(&client(0), &mut buffer, HEADROOM..end, now, &mut sink);
            });
        });
        let through =
            [Tallied::ToPeers, Tallied::ToClients, Tallied::Inside].map(|what| stage.relay.count(what));
        assert!(through.iter().all(|n| *n > 1000), "nothing was dropped: {through:?}");
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
