//! The three guards: each asked about a packet it has not seen while its memory is full.

#![allow(clippy::indexing_slicing, reason = "a bench that is wrong about its own world should stop")]

use criterion::{Criterion, criterion_group, criterion_main};
use lanrage::engine::lan::guard::{EchoGuard, SeqWindow, TwinGuard};
use lanrage::model::id::CardId;
use lanrage::model::limits::{ECHOES, TWINS};
use lanrage::model::time::Mono;
use lanrage::wire::frame::Class;
use lanrage::wire::packet::{PacketView, write_udp};
use std::hint::black_box;
use std::time::Duration;

fn packet(n: usize) -> Vec<u8> {
    let mut room = vec![0; 600];
    let payload = format!("[MOTD]world {n}[/MOTD][AD]25599[/AD]");
    let (src, dst) = ("10.1.2.3:5000".parse(), "224.0.2.60:4445".parse());
    let (Ok(src), Ok(dst)) = (src, dst) else { return room };
    let len = write_udp(&mut room, src, dst, 1, payload.as_bytes()).unwrap_or(0);
    room.truncate(len);
    room
}

fn dedup(c: &mut Criterion) {
    let packets: Vec<Vec<u8>> = (0..=ECHOES).map(packet).collect();
    let views: Vec<_> = packets.iter().filter_map(|p| PacketView::parse(p).ok()).collect();
    let now = Mono(Duration::from_secs(1));

    let mut echo = EchoGuard::new(1, Duration::from_secs(2));
    views.iter().take(ECHOES).for_each(|v| echo.injected(v, now));
    c.bench_function("dedup/echo, full", |b| b.iter(|| echo.is_echo(black_box(&views[ECHOES]), now)));

    let mut twin = TwinGuard::new(1, Duration::from_millis(40));
    for v in views.iter().take(TWINS) {
        twin.is_twin(v, Class::Multicast, Some(CardId(1)), now);
    }
    c.bench_function("dedup/twin, full", |b| {
        b.iter(|| twin.is_twin(black_box(&views[ECHOES]), Class::Multicast, Some(CardId(1)), now));
    });

    let (mut window, mut number) = (SeqWindow::default(), 0u64);
    c.bench_function("dedup/sequence", |b| {
        b.iter(|| {
            number += 1;
            window.accept(1, black_box(number))
        });
    });
}

criterion_group!(benches, dedup);
criterion_main!(benches);
