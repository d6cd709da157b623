//! Strangers, thieves and floods against the real sockets. What the machine does with each packet is tested beside it; here it
//! is shown that the shell adds nothing to be abused.

use super::client::Turn;
use super::{Place, credentials};
use lanrage::engine::relay::{Limits, Rate};
use lanrage::wire::stun::{Builder, Class, Method, Transaction};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn credentials_end_with_their_time_and_take_the_allocation_along() {
    let place = Place::new(&["127.0.0.1:0"]).await;
    let mut turn = Turn::new(place.at(), &credentials(1, 1, Duration::from_secs(3))).await;
    assert_eq!(turn.allocate().await.code, 0);
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(turn.refresh(600).await, 401, "expired");
    assert_eq!(place.number("relay_allocations").await, 0, "no allocation outlives its credentials");
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_party_a_missing_permission_and_the_servers_inside_stay_shut() {
    let place = Place::with(&["127.0.0.1:0"], |_| {}).await;
    let mut ana = Turn::new(place.at(), &credentials(1, 1, HOUR)).await;
    let mut bob = Turn::new(place.at(), &credentials(1, 2, HOUR)).await;
    let mut eve = Turn::new(place.at(), &credentials(2, 3, HOUR)).await;
    let to_ana = ana.allocate().await.relayed.unwrap();
    let to_bob = bob.allocate().await.relayed.unwrap();
    let to_eve = eve.allocate().await.relayed.unwrap();
    assert_eq!(eve.bind(0x4000, to_ana).await, 403, "another party's");
    assert_eq!(ana.bind(0x4000, to_bob).await, 0);
    ana.send(0x4000, b"bob has not permitted ana").await;
    ana.send(0x4001, b"nor has ana bound this").await;
    bob.hears_nothing().await;
    // From outside, without the relay's client: a socket on the same computer, to the port of ana's allocation.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"let me in", to_ana).unwrap();
    ana.hears_nothing().await;
    for inside in ["127.0.0.1:22", "10.0.0.1:80", "192.168.1.1:53", "169.254.169.254:80"] {
        let inside = inside.parse().unwrap();
        assert_eq!(ana.bind(0x4005, inside).await, 403, "{inside}");
    }
    assert_eq!(ana.permit("10.0.0.1:1".parse().unwrap()).await, 403);
    assert_eq!(ana.bind(0x4005, place.at()).await, 403, "the relay itself");
    assert_ne!(to_eve, to_ana);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_hold_on_real_sockets_and_what_is_given_back_is_closed() {
    let limits = Limits {
        per_peer: 2,
        party_rate: Rate::new(100_000, Duration::from_millis(100)),
        ..Limits::default()
    };
    let place = Place::with(&["127.0.0.1:0"], |options| {
        options.allow_private_peers = true;
        options.limits = limits;
    })
    .await;
    let mine = credentials(1, 1, HOUR);
    let (mut first, mut second) = (Turn::new(place.at(), &mine).await, Turn::new(place.at(), &mine).await);
    let mut third = Turn::new(place.at(), &mine).await;
    let relayed = first.allocate().await.relayed.unwrap();
    assert_eq!((second.allocate().await.code, third.allocate().await.code), (0, 486));
    assert_eq!(first.refresh(0).await, 0);
    assert_eq!(third.allocate().await.code, 0);
    // Another program can have the port now.
    assert!(UdpSocket::bind(relayed).is_ok());

    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_nonblocking(true).unwrap();
    assert_eq!(second.bind(0x4000, sink.local_addr().unwrap()).await, 0);
    for _ in 0..100 {
        second.send(0x4000, &[7; 1000]).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut buffer = [0; 2048];
    let through = std::iter::from_fn(|| sink.recv(&mut buffer).ok()).count();
    assert!((5..60).contains(&through), "{through} of 100 kB at 100 kB/s with a burst of 10 kB");
    assert!(place.number("relay_dropped_over_rate_total").await > 0);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_a_hundred_thousand_addresses_is_answered_with_little_and_changes_nothing() {
    let place = Place::new(&["127.0.0.1:0"]).await;
    let mut ana = Turn::new(place.at(), &credentials(1, 1, HOUR)).await;
    let mut bob = Turn::new(place.at(), &credentials(1, 2, HOUR)).await;
    let (to_ana, to_bob) = (ana.allocate().await.relayed.unwrap(), bob.allocate().await.relayed.unwrap());
    assert_eq!((ana.bind(0x4000, to_bob).await, bob.bind(0x4000, to_ana).await), (0, 0));
    let flood = tokio::task::spawn_blocking({
        let at = place.at();
        move || Flood::new(at).run(100_000)
    });
    let memory = resident();
    // An honest client meanwhile.
    let mut heard = 0;
    let begun = Instant::now();
    while !flood.is_finished() && begun.elapsed() < Duration::from_secs(60) {
        ana.send(0x4000, b"still here").await;
        heard += u32::from(bob.hear().await.is_some());
    }
    let sent = flood.await.unwrap();
    assert!(heard > 0, "traffic goes on");
    let after = resident();
    println!(
        "{sent} forged datagrams in {:?}; resident {memory} -> {after} KiB; {heard} honest packets",
        begun.elapsed()
    );
    let (allocations, parties) =
        (place.number("relay_allocations").await, place.number("relay_parties").await);
    assert_eq!((allocations, parties), (2, 1), "nothing was made");
    assert!(after < memory + 16 * 1024, "{memory} -> {after} KiB");
    assert!(place.number("relay_challenged_total").await + place.number("relay_bindings_total").await > 0);
    place.stop().await;
}

/// Datagrams whose senders are all over 127.0.0.0/8, which this computer owns whole.
struct Flood {
    socket: UdpSocket,
    state: quinn_udp::UdpSocketState,
    at: SocketAddr,
    kinds: Vec<Vec<u8>>,
}

impl Flood {
    fn new(at: SocketAddr) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let state = quinn_udp::UdpSocketState::new((&socket).into()).unwrap();
        let mut room = [0; 256];
        let mut write = |method, fill: fn(Builder<'_>) -> Builder<'_>| {
            let length =
                fill(Builder::new(&mut room, method, Class::Request, Transaction([6; 12]))).finish().unwrap();
            room[..length].to_vec()
        };
        let kinds = vec![
            write(Method::Binding, |b| b),
            write(Method::Allocate, |b| b.requested_transport_udp()),
            write(Method::Allocate, |b| {
                let key = lanrage::wire::stun::Key::long_term("u", "lanrage", "p");
                b.requested_transport_udp()
                    .username("9999999999:x")
                    .realm("lanrage")
                    .nonce("0123456789ab")
                    .sign(&key)
            }),
            vec![0x40, 0x00, 0, 4, 1, 2, 3, 4],
            b"\0\x01not stun at all".to_vec(),
        ];
        Self { socket, state, at, kinds }
    }

    fn run(self, many: u32) -> u32 {
        let mut sent = 0;
        for n in 0..many {
            let [_, b, c, d] = n.wrapping_mul(2_654_435_761).to_be_bytes();
            let from = Ipv4Addr::new(127, b.max(1), c, d.clamp(1, 254));
            let contents = &self.kinds[n as usize % self.kinds.len()];
            let transmit = quinn_udp::Transmit {
                destination: self.at,
                ecn: None,
                contents,
                segment_size: None,
                src_ip: Some(IpAddr::V4(from)),
            };
            sent += u32::from(self.state.try_send((&self.socket).into(), &transmit).is_ok());
        }
        sent
    }
}

/// KiB of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}
