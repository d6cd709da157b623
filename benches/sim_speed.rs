//! How fast simulated evenings pass: a plain party of three, and a mix of seeds of all moods.

use criterion::{Criterion, criterion_group, criterion_main};
use lanrage::sim::{run_bytes, run_seed};
use std::hint::black_box;

/// Three computers at three homes, two steps; the rest of the bytes is zero.
fn plain_party() -> Vec<u8> {
    let mut bytes = vec![0; 72];
    if let Some(byte) = bytes.get_mut(1) {
        *byte = 1;
    }
    bytes
}

fn stories(c: &mut Criterion) {
    let mut group = c.benchmark_group("sim_speed");
    group.sample_size(20);
    let bytes = plain_party();
    let lasted = run_bytes(&bytes, false).lasted.as_secs();
    group.bench_function(format!("plain_party_of_three_{lasted}_s"), |b| {
        b.iter(|| black_box(run_bytes(&bytes, false)).hash);
    });
    group.bench_function("twenty_seeds", |b| {
        b.iter(|| (0..20).map(|seed| run_seed(black_box(seed)).hash).fold(0, |all, hash| all ^ hash));
    });
    group.finish();
}

criterion_group!(benches, stories);
criterion_main!(benches);
