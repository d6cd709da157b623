//! 64 KiB of one TCP connection, read from the device and cut into packets; and the same packets merged into one write.

#[path = "../tests/support/segments.rs"]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lanrage::wire::offload::{Merge, Split};
use std::hint::black_box;
use support::{SEGMENTS, framed, read};

fn offload(c: &mut Criterion) {
    let mut group = c.benchmark_group("offload");
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    let (header, mut packet) = read();
    let mut room = [0; 2048];
    group.bench_function("split", |b| {
        b.iter(|| {
            let mut split = Split::begin(header, &mut packet).expect("right").expect("many");
            let mut frames = 0;
            while let Some(len) = split.next(&packet, &mut room) {
                black_box(room.get(..len));
                frames += 1;
            }
            assert_eq!(frames, SEGMENTS);
        });
    });
    let mut packets: Vec<Vec<u8>> = (0..SEGMENTS).map(framed).collect();
    let mut merge = Merge::new(true);
    group.bench_function("merge", |b| {
        b.iter(|| {
            let mut writes = 0;
            let mut write = |bytes: &[u8]| {
                black_box(bytes);
                writes += 1;
            };
            for packet in &mut packets {
                merge.push(packet, &mut write);
            }
            merge.flush(&mut write);
            assert_eq!(writes, 1);
        });
    });
    group.finish();
}

criterion_group!(benches, offload);
criterion_main!(benches);
