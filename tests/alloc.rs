//! Nothing is allocated per forwarded packet, either way, once the node is warm. Counted, not believed.
#![expect(unsafe_code, reason = "a counting allocator is an unsafe trait")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that is wrong about its own world should stop"
)]

#[path = "support/party.rs"]
mod support;

use lanrage::buf::batch::{Batch, Datagrams, Source};
use lanrage::engine::tunnel::noise::Noise;
use lanrage::engine::turn::{Turn, TurnIn, TurnSetup};
use lanrage::model::addr::{Endpoint, Via};
use lanrage::model::dice::Seed;
use lanrage::model::id::CardId;
use lanrage::model::script::{Capabilities, Hook, Hooks, PluginFacts};
use lanrage::model::time::Mono;
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::wire::channel;
use lanrage::wire::stun::{Builder, Class, Message, Method, Transaction, indication_prefix};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::{Party, Wire, udp};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged; only a counter is touched besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(f: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    f();
    COUNT.with(Cell::get) - before
}

/// Sends one packet from node 0's games and delivers what comes out to node 1; true if its games got something.
fn forward(
    party: &mut Party<Noise>,
    batch: &mut Batch,
    wires: &mut (Wire, Wire),
    source: Source,
    packet: &[u8],
) -> bool {
    batch.clear();
    assert!(batch.next(source).unwrap().fill(packet));
    wires.0.used = 0;
    wires.1.used = 0;
    let (a, b) = party.seats.split_at_mut(1);
    let (a, b) = (&mut a[0], &mut b[0]);
    a.node.handle_lan(batch, party.now, &mut wires.0, &mut a.games);
    while a.node.poll_effect().is_some() {}
    b.games.used = 0;
    for (_, bytes) in wires.0.sent[..wires.0.used].iter_mut() {
        let stride = bytes.len();
        let datagrams = Datagrams { via: Via::Main, from: a.socket, bytes, stride };
        b.node.handle_wan(datagrams, party.now, &mut wires.1, &mut b.games);
    }
    while b.node.poll_effect().is_some() {}
    b.games.used > 0
}

#[test]
fn counting_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 10]))), 1);
}

#[test]
fn a_warm_node_forwards_unicast_packets_without_allocating() {
    let mut party = Party::<Noise>::new(2, &["openarena"]);
    party.run(Duration::from_secs(3));
    let packet =
        udp(&format!("{}:27960", party.address(0)), &format!("{}:27960", party.address(1)), &[7; 200]);
    let (mut batch, mut wires) = (Batch::default(), (Wire::default(), Wire::default()));
    let mut pass = |party: &mut Party<Noise>| {
        (0..200).filter(|_| forward(party, &mut batch, &mut wires, Source::Tun, &packet)).count()
    };
    assert_eq!(pass(&mut party), 200, "warm up");
    let mut arrived = 0;
    assert_eq!(allocations(|| arrived = pass(&mut party)), 0);
    assert_eq!(arrived, 200);
}

/// A game whose every discovery packet is a plugin's business, beside an ordinary one.
const ASKING: &str = r#"
id = "asking"
name = "Asking"
plugin = "asking"
processes = ["asking"]
evidence = "documented"

[play]
udp = 27960

[[rule]]
kind = "query"
port = "27960-27970"
to = ["broadcast", "unicast"]
match = { text = "query" }
ask = "forward"
"#;

#[test]
fn a_warm_node_whose_rules_ask_a_plugin_forwards_unicast_packets_without_allocating() {
    let profile = check_text("asking.toml", ASKING).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let rules = Arc::new(compile(&[profile]).unwrap());
    let plugin = PluginFacts {
        id: "asking".into(),
        hooks: Hooks::default().with(Hook::Query),
        may: Capabilities { udp: vec![27_960..=27_970], ..Capabilities::default() },
        calls_per_second: 1,
        bytes_per_second: 0,
    };
    let mut party = Party::<Noise>::scripted(2, &rules, &[plugin]);
    party.run(Duration::from_secs(3));
    let (from, to) = (format!("{}:27960", party.address(0)), format!("{}:27960", party.address(1)));
    // What no rule names, and what one names whose plugin has used up its pace.
    for payload in [&[7; 200][..], b"query, once more"] {
        let packet = udp(&from, &to, payload);
        let (mut batch, mut wires) = (Batch::default(), (Wire::default(), Wire::default()));
        let mut pass = |party: &mut Party<Noise>| {
            (0..200).filter(|_| forward(party, &mut batch, &mut wires, Source::Tun, &packet)).count()
        };
        pass(&mut party);
        party.run(Duration::from_millis(500));
        let mut arrived = 0;
        assert_eq!(allocations(|| arrived = pass(&mut party)), 0);
        assert_eq!(arrived, 200);
    }
}

#[test]
fn a_warm_node_forwards_announcements_without_allocating() {
    let mut party = Party::<Noise>::new(2, &["minecraft"]);
    party.run(Duration::from_secs(3));
    let packet = udp("198.51.1.1:51000", "224.0.2.60:4445", b"[MOTD]world[/MOTD][AD]25599[/AD]");
    let (mut batch, mut wires) = (Batch::default(), (Wire::default(), Wire::default()));
    let mut pass = |party: &mut Party<Noise>| {
        let mut arrived = 0;
        for _ in 0..50 {
            party.now = party.now.plus(Duration::from_millis(250));
            arrived += usize::from(forward(party, &mut batch, &mut wires, Source::Card(CardId(2)), &packet));
        }
        arrived
    };
    // Long enough that every ring has been filled once.
    for _ in 0..30 {
        pass(&mut party);
    }
    let mut arrived = 0;
    let count = allocations(|| arrived = pass(&mut party));
    assert!(arrived >= 45, "{arrived}: pace may hold back a few");
    assert_eq!(count, 0);
}

/// A client of a relay that says yes to everything, with a permission for the peer, and a channel when there are some.
fn relayed(peer: SocketAddr, channels: bool) -> Turn {
    let endpoint = Endpoint::main("192.0.2.1:3478".parse().unwrap());
    let setup = TurnSetup { endpoint, username: "u".into(), password: "p".into(), v6: false };
    let mut turn = Turn::new(setup, Seed::from_u64(1).dice("turn"), Mono::ZERO);
    turn.permit(peer, Mono::ZERO);
    let mut room = [0u8; 1024];
    while let Some(len) = turn.poll_transmit(&mut room) {
        let m = Message::parse(&room[..len]).unwrap();
        let (method, id) = (m.method(), m.transaction());
        let class = if method == Method::ChannelBind && !channels { Class::Error } else { Class::Success };
        let b = Builder::new(&mut room, method, class, id);
        let b = match (method, class) {
            (Method::Allocate, _) => b.relayed(peer).mapped(peer).lifetime(Duration::from_secs(600)),
            (_, Class::Error) => b.error(508, "none"),
            _ => b,
        };
        let len = b.finish().unwrap();
        assert_eq!(turn.handle(&room[..len], Mono::ZERO), TurnIn::Taken);
    }
    turn
}

#[test]
fn data_passes_a_relays_client_without_allocating() {
    let peer: SocketAddr = "203.0.113.9:4000".parse().unwrap();
    for channels in [true, false] {
        let mut turn = relayed(peer, channels);
        let prefix = turn.prefix(&peer).unwrap();
        assert_eq!(prefix, if channels { channel::HEADER } else { 36 });
        let (mut out, mut came) = (vec![7u8; prefix + 1203], vec![7u8; prefix + 1200]);
        if channels {
            assert_eq!(turn.wrap(&mut out, &peer, 1200, Mono::ZERO), Some(prefix + 1200));
            came.copy_from_slice(&out[..prefix + 1200]);
        } else {
            let id = Transaction([1; 12]);
            assert_eq!(indication_prefix(&mut came, Method::Data, id, peer, 1200), Some(prefix));
        }
        let count = allocations(|| {
            for _ in 0..100 {
                assert!(turn.wrap(&mut out, &peer, 1200, Mono::ZERO).is_some());
                assert!(matches!(turn.handle(&came, Mono::ZERO), TurnIn::Data { .. }));
            }
        });
        assert_eq!(count, 0, "channels: {channels}");
    }
}
