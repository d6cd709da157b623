//! What strangers, thieves and floods get.

use super::ground::{ANA, BOB, EVE, Ground, PEER, Who, config, sign};
use super::*;
use crate::wire::stun::{Builder, Class, PADDED, Transaction};
use proptest::prelude::*;

#[test]
fn expired_forged_and_foreign_credentials_open_nothing() {
    let mut g = Ground::new(config());
    let allocate = |g: &mut Ground, user: &str, password: &str| {
        g.ask_as(&ANA, Method::Allocate, (user, password), |b| b.requested_transport_udp()).code
    };
    let (user, password) = g.secret.mint(ANA.bearer(), 1_800_000_000 + 5);
    g.pass(5);
    assert_eq!(allocate(&mut g, &user, &password), 401, "expired");
    let (user, password) = g.secret.mint(ANA.bearer(), 1_800_009_000);
    let longer = user.replace("1800009000", "1900009000");
    assert_eq!(allocate(&mut g, &longer, &password), 401, "the expiry is part of what the password signs");
    let (other, _) = g.secret.mint(BOB.bearer(), 1_800_009_000);
    assert_eq!(allocate(&mut g, &other, &password), 401, "another's name");
    assert_eq!(allocate(&mut g, &user, "guess"), 401);
    let elsewhere = RelaySecret::new(b"south").mint(ANA.bearer(), 1_800_009_000);
    assert_eq!(allocate(&mut g, &elsewhere.0, &elsewhere.1), 401, "another server's");
    let web = "1800009000:web-user";
    let minted = g.secret.password(web);
    assert_eq!(allocate(&mut g, web, &minted), 401, "made with the secret, but for no party");
    assert_eq!(g.number("relay_allocations"), 0);
    assert_eq!(allocate(&mut g, &user, &password), 0, "the good ones do");
}

#[test]
fn a_nonce_of_another_address_or_another_hour_is_stale() {
    let mut g = Ground::new(config());
    let challenged = g.ask(&BOB, Method::Allocate, |b| b.requested_transport_udp());
    let stolen = challenged.nonce.unwrap();
    let (user, password) = g.secret.mint(ANA.bearer(), 1_800_009_000);
    let with = |g: &mut Ground, nonce: &str| {
        let mut room = [0; 512];
        let builder = Builder::new(&mut room, Method::Allocate, Class::Request, Transaction([5; 12]));
        let length =
            builder.requested_transport_udp().username(&user).realm(REALM).nonce(nonce).finish().unwrap();
        let mut bytes = room[..length].to_vec();
        sign(&mut bytes, &user, &password);
        g.exchange(&ANA, &bytes).unwrap()
    };
    let heard = with(&mut g, &stolen);
    assert_eq!(heard.code, 438);
    let own = heard.nonce.unwrap();
    g.pass(700);
    assert_eq!(with(&mut g, &own).code, 438);
    assert_eq!(with(&mut g, "000000000000").code, 438);
    assert_eq!(g.number("relay_allocations"), 0);
}

#[test]
fn no_answer_to_a_stranger_amplifies_beyond_its_ration() {
    let mut g = Ground::new(config());
    // Every unauthenticated request, as short as it can be, and how many times as long the first answer is.
    let mut measured = Vec::new();
    let mut room = [0; 512];
    let mut shortest = |method, name, fill: fn(Builder<'_>) -> Builder<'_>| {
        let length =
            fill(Builder::new(&mut room, method, Class::Request, Transaction([7; 12]))).finish().unwrap();
        (name, room[..length].to_vec())
    };
    let cases = [
        shortest(Method::Binding, "Binding", |b| b),
        shortest(Method::Allocate, "Allocate without proof", |b| b.requested_transport_udp()),
        shortest(Method::Refresh, "Refresh without proof", |b| b),
        shortest(Method::Binding, "Binding that changes the address", |b| b.change_request(true, true)),
    ];
    for (name, request) in cases {
        let heard = g.exchange(&ANA, &request).unwrap();
        measured.push((name, heard.length * 100 / request.len()));
        g.pass(600);
    }
    let expected = [
        ("Binding", 160),
        ("Allocate without proof", 200),
        ("Refresh without proof", 280),
        ("Binding that changes the address", 128),
    ];
    assert_eq!(measured, expected, "hundredths");
    // Ten thousand of each within a second from one network: what is sent more than received is the ration, once.
    for request in [vec![], g.shortest_allocate()] {
        g.pass(600);
        let binding = {
            let mut room = [0; 64];
            let n = Builder::new(&mut room, Method::Binding, Class::Request, Transaction([7; 12]))
                .finish()
                .unwrap();
            room[..n].to_vec()
        };
        let request = if request.is_empty() { binding } else { request };
        g.ears.clients.clear();
        let mut excess = 0;
        for n in 0..10_000_u16 {
            g.ears.clients.clear();
            let who = Who { address: SocketAddr::from(([99, 1, 2, n.to_be_bytes()[1]], n)), ..ANA };
            g.hear(&who, &request);
            excess +=
                g.ears.clients.iter().map(|(_, b)| b.len().saturating_sub(request.len())).sum::<usize>();
        }
        assert!((1..=ration::BURST_BYTES as usize).contains(&excess), "{excess}");
    }
}

#[test]
fn a_padded_request_is_always_answered_in_full_and_never_with_more() {
    // The longest answers there are: of a server with two IPv6 addresses.
    let pair: [IpAddr; 2] = ["2a0f:9::1".parse().unwrap(), "2a0f:9::2".parse().unwrap()];
    let mut g =
        Ground::new(Config { discovery: vec![pair], discovery_ports: Some([3478, 3479]), ..config() });
    g.server = "[2a0f:9::1]:3478".parse().unwrap();
    let who = Who { address: "[2a0f:7::1]:5000".parse().unwrap(), ..EVE };
    for _ in 0..1000 {
        for method in [Method::Binding, Method::Allocate] {
            let mut room = [0; 256];
            let builder = Builder::new(&mut room, method, Class::Request, Transaction([7; 12]));
            let length = builder.software(PADDED).finish().unwrap();
            let heard = g.exchange(&who, &room[..length]).expect("an answer");
            assert!(heard.length <= length, "{} for {length}", heard.length);
            assert!(method == Method::Allocate || heard.other.is_some());
        }
    }
}

#[test]
fn a_flood_from_a_hundred_thousand_addresses_leaves_nothing_behind() {
    let mut g = Ground::new(config());
    g.allocate(&ANA).unwrap();
    g.bind(&ANA, 0x4001, PEER);
    let (user, _) = g.secret.mint(EVE.bearer(), 1_800_009_000);
    let (allocate, mut forged) = (g.shortest_allocate(), Vec::new());
    {
        let mut room = [0; 512];
        let builder = Builder::new(&mut room, Method::Allocate, Class::Request, Transaction([6; 12]));
        let length = builder
            .requested_transport_udp()
            .username(&user)
            .realm(REALM)
            .nonce("0123456789ab")
            .finish()
            .unwrap();
        forged.extend_from_slice(&room[..length]);
        sign(&mut forged, &user, "guess");
    }
    let channel_data = [0x40, 0x01, 0, 4, 1, 2, 3, 4];
    let before = g.relay.sizes();
    for n in 0..100_000_u32 {
        let ip = std::net::Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761));
        let who = Who { address: SocketAddr::new(ip.into(), 1 + u16::try_from(n % 60_000).unwrap()), ..EVE };
        g.hear(&who, &allocate);
        g.hear(&who, &channel_data);
        if n % 10 == 0 {
            g.hear(&who, &forged);
            g.hear(&who, b"\0\x01garbage");
        }
        g.ears.clients.clear();
    }
    assert_eq!(g.relay.sizes(), before);
    assert_eq!(g.number("relay_allocations"), 1);
    assert_eq!(g.number("relay_dropped_no_allocation_total"), 100_000);
    g.ears.peers.clear();
    g.hear(&ANA, &channel_data);
    assert_eq!(g.ears.peers.len(), 1, "and who was there before is served");
}

impl Ground {
    fn shortest_allocate(&mut self) -> Vec<u8> {
        let mut room = [0; 64];
        let builder = Builder::new(&mut room, Method::Allocate, Class::Request, Transaction([7; 12]));
        let length = builder.requested_transport_udp().finish().unwrap();
        room[..length].to_vec()
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_give_anything_away(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        stun in any::<bool>(),
        from_peer in any::<bool>(),
    ) {
        let mut g = Ground::new(config());
        g.allocate(&ANA).unwrap();
        g.ears.clients.clear();
        let mut bytes = bytes;
        if stun && bytes.len() >= 20 {
            let length = u16::try_from(bytes.len() - 20).unwrap().to_be_bytes();
            bytes[0] &= 0x01;
            bytes[2..4].copy_from_slice(&length);
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        }
        if from_peer {
            g.hear_peer(g.port(&ANA), PEER, &bytes);
        } else {
            g.hear(&EVE, &bytes);
        }
        prop_assert!(g.ears.peers.is_empty());
        prop_assert!(g.number("relay_allocations") == 1);
    }
}
