//! How long the matcher takes: one game, all shipped games, and three hundred rules, for packets that match and for the
//! common case of packets that are no game's discovery. The aim is below 50 ns with 300 rules.
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

/// Sixty games of five rules, all on the same port, told apart by their bytes: the worst that profiles can do.
fn crowded() -> Ruleset {
    let games: Vec<_> = (0..60)
        .map(|game| {
            let rules: String = (0..5)
                .map(|rule| {
                    format!("[[rule]]\nkind = \"query\"\nport = 4445\nmatch = {{ hex = \"{game:02x} {rule:02x}\" }}\n")
                })
                .collect();
            let text = format!("id = \"g{game}\"\nname = \"G\"\nevidence = \"unverified\"\n{rules}");
            check_text("bench", &text).expect("a good profile")
        })
        .collect();
    compile(&games).expect("no ties")
}

/// Sixty games of five rules, each on its own port: what many profiles really look like.
fn spread() -> Ruleset {
    let games: Vec<_> = (0..60)
        .map(|game| {
            let rules: String = (0..5)
                .map(|rule| {
                    format!(
                        "[[rule]]\nkind = \"query\"\nport = {}\nmatch = {{ hex = \"01 02\" }}\n",
                        4000 + game * 10 + rule
                    )
                })
                .collect();
            let text = format!("id = \"g{game}\"\nname = \"G\"\nevidence = \"unverified\"\n{rules}");
            check_text("bench", &text).expect("a good profile")
        })
        .collect();
    compile(&games).expect("no ties")
}

fn classify(c: &mut Criterion) {
    let announcement = b"[MOTD]A world[/MOTD][AD]51234[/AD]";
    let world = packet("192.168.1.20:50000", "224.0.2.60:4445", announcement);
    let other = packet("192.168.1.20:50000", "192.168.1.30:40000", &[7; 200]);
    let last = packet("192.168.1.20:50000", "255.255.255.255:4445", &[59, 4, 0]);
    let own = packet("192.168.1.20:50000", "255.255.255.255:4594", &[1, 2, 0]);
    let one = compile(&[shipped::find("minecraft").expect("shipped")]).expect("no ties");
    let all = compile(&shipped::all()).expect("no ties");
    let (crowded, spread) = (crowded(), spread());
    for (name, rules, packet, class, found) in [
        ("one game, its announcement", &one, &world, Class::Multicast, true),
        ("all games, an announcement", &all, &world, Class::Multicast, true),
        ("all games, no discovery", &all, &other, Class::Unicast, false),
        ("300 rules on their own ports, a match", &spread, &own, Class::Limited, true),
        ("300 rules on their own ports, no discovery", &spread, &other, Class::Unicast, false),
        ("300 rules on one port, the last matches", &crowded, &last, Class::Limited, true),
    ] {
        let view = PacketView::parse(packet).expect("a packet");
        assert_eq!(rules.classify(&view, class, Side::FromGame).is_some(), found, "{name}");
        c.bench_function(&format!("classify: {name}"), |b| {
            b.iter(|| rules.classify(black_box(&view), black_box(class), Side::FromGame));
        });
    }
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
