//! How long the matcher takes: one game, all shipped games, and 10, 100 and 1,000 rules on their own ports or all on one, for
//! packets that match and for the common case of packets that are no game's discovery. The aim is flat, and below 50 ns.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::indexing_slicing, reason = "a bench may panic")]

use criterion::{Criterion, criterion_group, criterion_main};
use lanrage::model::addr::Seat;
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::rules::ruleset::{RewriteTo, Ruleset, Side};
use lanrage::rules::shipped;
use lanrage::wire::frame::Class;
use lanrage::wire::packet::{PacketView, write_udp};
use std::hint::black_box;

fn packet(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let mut room = vec![0; 1500];
    let (from, to) = (from.parse().expect("an address"), to.parse().expect("an address"));
    let len = write_udp(&mut room, from, to, 1, payload).expect("fits");
    room.truncate(len);
    room
}

/// So many rules, in games of fifty; rule `n` has this port and this pattern.
fn rules(count: usize, port: impl Fn(usize) -> usize, hex: impl Fn(usize) -> String) -> Ruleset {
    let numbers: Vec<usize> = (0..count).collect();
    let games: Vec<_> = numbers
        .chunks(50)
        .enumerate()
        .map(|(game, numbers)| {
            let rules: String = numbers
                .iter()
                .map(|n| {
                    format!(
                        "[[rule]]\nkind = \"query\"\nport = {}\nmatch = {{ hex = \"{}\" }}\n",
                        port(*n),
                        hex(*n)
                    )
                })
                .collect();
            let text = format!("id = \"g{game}\"\nname = \"G\"\nevidence = \"unverified\"\n{rules}");
            check_text("bench", &text).expect("a good profile")
        })
        .collect();
    compile(&games).expect("no ties")
}

/// Bytes that tell rule `n` from all others, behind a common start, as many games of one engine have it.
fn own_bytes(n: usize) -> String {
    format!("ff ff ff ff {:02x} {:02x}", n / 256, n % 256)
}

fn classify(c: &mut Criterion) {
    let announcement = b"[MOTD]A world[/MOTD][AD]51234[/AD]";
    let world = packet("192.168.1.20:50000", "224.0.2.60:4445", announcement);
    let other = packet("192.168.1.20:50000", "192.168.1.30:40000", &[7; 200]);
    let one = compile(&[shipped::find("minecraft").expect("shipped")]).expect("no ties");
    let all = compile(&shipped::all()).expect("no ties");
    run(c, "one game, its announcement", &one, (&world, Class::Multicast), true);
    run(c, "all games, an announcement", &all, (&world, Class::Multicast), true);
    run(c, "all games, no discovery", &all, (&other, Class::Unicast), false);
    for count in [10, 100, 1000] {
        let last = count - 1;
        let payload = [
            255,
            255,
            255,
            255,
            u8::try_from(last / 256).unwrap_or(0),
            u8::try_from(last % 256).unwrap_or(0),
            0,
        ];
        let near = [255, 255, 255, 255, 200, 200, 0];
        let to = |port: usize| format!("255.255.255.255:{port}");
        let spread = rules(count, |n| 4000 + 3 * n, own_bytes);
        let own = packet("192.168.1.20:50000", &to(4000 + 3 * last), &payload);
        run(c, &format!("{count} rules, a port each, a match"), &spread, (&own, Class::Limited), true);
        run(
            c,
            &format!("{count} rules, a port each, no discovery"),
            &spread,
            (&other, Class::Unicast),
            false,
        );
        let crowded = rules(count, |_| 4445, own_bytes);
        let (own, miss) = (
            packet("192.168.1.20:50000", &to(4445), &payload),
            packet("192.168.1.20:50000", &to(4445), &near),
        );
        run(c, &format!("{count} rules, one port, the last matches"), &crowded, (&own, Class::Limited), true);
        run(c, &format!("{count} rules, one port, none matches"), &crowded, (&miss, Class::Limited), false);
    }
    let mixed = rules(1000, |n| if n < 200 { 4445 } else { 5000 + n }, own_bytes);
    let own = packet("192.168.1.20:50000", "255.255.255.255:4445", &[255, 255, 255, 255, 0, 199, 0]);
    run(c, "1000 rules, 200 on one port, the last of these matches", &mixed, (&own, Class::Limited), true);
}

fn run(c: &mut Criterion, name: &str, rules: &Ruleset, (packet, class): (&[u8], Class), found: bool) {
    let view = PacketView::parse(packet).expect("a packet");
    assert_eq!(rules.classify(&view, class, Side::FromGame).is_some(), found, "{name}");
    c.bench_function(&format!("classify: {name}"), |b| {
        b.iter(|| rules.classify(black_box(&view), black_box(class), Side::FromGame));
    });
}

fn matched(c: &mut Criterion) {
    let rules = compile(&[shipped::find("freeciv").expect("shipped")]).expect("no ties");
    let answer = packet(
        "10.77.1.1:56439",
        "225.1.1.1:4556",
        b"\x02vm\x005556\x003.0.6\x00Pregame\x006\x000\x00Game\x00",
    );
    let view = PacketView::parse(&answer).expect("a packet");
    let rule = rules.classify(&view, Class::Multicast, Side::FromPeer).expect("matches");
    c.bench_function("describe: freeciv", |b| b.iter(|| rules.describe(rule, black_box(&view))));
    let to = RewriteTo { seat: Seat(9), v4: [10, 83, 7, 9].into(), v6: [0; 16].into(), port: None };
    let mut room = vec![0; 1500];
    c.bench_function("rewrite: freeciv", |b| {
        b.iter(|| {
            room[..answer.len()].copy_from_slice(&answer);
            rules.rewrite(rule, black_box(&mut room), answer.len(), &to)
        });
    });
}

criterion_group!(benches, classify, matched);
criterion_main!(benches);
