//! Packets both ways: on channels, in indications, through sockets and inside.

use super::ground::{ANA, BOB, EVE, Ground, PEER, Who, config};
use super::*;
use crate::wire::channel;
use crate::wire::stun::{Message, Transaction, indication_prefix};

fn framed(number: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    assert!(channel::write_header(&mut bytes, number, data.len()));
    bytes.extend_from_slice(data);
    bytes
}

fn indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    let head = indication_prefix(&mut bytes, Method::Send, Transaction([1; 12]), peer, data.len()).unwrap();
    bytes.truncate(head);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn channel_data_goes_to_the_peer_and_the_answer_comes_back_on_the_channel() {
    let mut g = Ground::new(config());
    g.allocate(&ANA).unwrap();
    assert_eq!(g.bind(&ANA, 0x4001, PEER).code, 0);
    g.hear(&ANA, &framed(0x4001, b"hello"));
    let port = g.port(&ANA);
    assert_eq!(g.ears.peers, [(port, PEER, b"hello".to_vec())]);
    g.ears.clients.clear();
    g.hear_peer(port, PEER, b"answer");
    assert_eq!(g.ears.clients, [(g.client(&ANA), framed(0x4001, b"answer"))]);
    assert_eq!(g.number("relay_to_peers_bytes_total") + g.number("relay_to_clients_bytes_total"), 11);
}

#[test]
fn indications_carry_data_where_there_is_no_channel() {
    let mut g = Ground::new(config());
    g.allocate(&ANA).unwrap();
    assert_eq!(g.permit(&ANA, PEER).code, 0);
    g.hear(&ANA, &indication(PEER, b"hello"));
    assert_eq!(g.ears.peers.last().unwrap().2, b"hello");
    g.ears.clients.clear();
    let from = SocketAddr::new(PEER.ip(), 999);
    g.hear_peer(g.port(&ANA), from, b"from another port");
    let (_, bytes) = g.ears.clients.last().unwrap();
    let message = Message::parse(bytes).unwrap();
    assert_eq!(
        (message.method(), message.peer(), message.data()),
        (Method::Data, Some(from), Some(&b"from another port"[..]))
    );
}

#[test]
fn nothing_passes_without_permission_or_after_it() {
    let mut g = Ground::new(config());
    g.allocate(&ANA).unwrap();
    let port = g.port(&ANA);
    g.hear(&ANA, &framed(0x4001, b"x"));
    g.hear(&ANA, &indication(PEER, b"x"));
    g.ears.clients.clear();
    g.hear_peer(port, PEER, b"x");
    assert_eq!(
        (g.number("relay_dropped_no_channel_total"), g.number("relay_dropped_no_permission_total")),
        (1, 2)
    );
    g.bind(&ANA, 0x4001, PEER);
    g.pass(301);
    g.ears.clients.clear();
    g.hear(&ANA, &framed(0x4001, b"x"));
    g.hear_peer(port, PEER, b"x");
    assert!(g.ears.peers.is_empty() && g.ears.clients.is_empty(), "a channel without permission");
    g.permit(&ANA, PEER);
    g.hear(&ANA, &framed(0x4001, b"x"));
    assert_eq!(g.ears.peers.len(), 1);
    g.hear(&Who { address: "12.0.1.1:5001".parse().unwrap(), ..ANA }, &framed(0x4001, b"x"));
    assert_eq!(g.number("relay_dropped_no_allocation_total"), 1);
}

#[test]
fn two_clients_of_one_party_meet_inside_without_a_socket() {
    let mut g = Ground::new(config());
    let (a, b) = (g.allocate(&ANA).unwrap(), g.allocate(&BOB).unwrap());
    assert_eq!((g.bind(&ANA, 0x4001, b).code, g.bind(&BOB, 0x4444, a).code), (0, 0));
    g.ears.clients.clear();
    g.hear(&ANA, &framed(0x4001, b"hello"));
    assert_eq!(g.ears.clients, [(g.client(&BOB), framed(0x4444, b"hello"))]);
    g.hear(&BOB, &indication(a, b"by indication"));
    assert_eq!(g.ears.clients.last(), Some(&(g.client(&ANA), framed(0x4001, b"by indication"))));
    assert!(g.ears.peers.is_empty());
    assert_eq!(g.number("relay_inside_total"), 2);
}

#[test]
fn inside_too_the_receiver_must_permit_the_sender() {
    let mut g = Ground::new(config());
    let b = g.allocate(&BOB).unwrap();
    g.allocate(&ANA).unwrap();
    g.bind(&ANA, 0x4001, b);
    g.ears.clients.clear();
    g.hear(&ANA, &framed(0x4001, b"hello"));
    assert!(g.ears.clients.is_empty());
    assert_eq!(g.number("relay_dropped_no_permission_total"), 1);
}

#[test]
fn between_two_parties_nothing_passes() {
    let mut g = Ground::new(config());
    let (a, e) = (g.allocate(&ANA).unwrap(), g.allocate(&EVE).unwrap());
    assert_eq!(g.bind(&EVE, 0x4001, a).code, 403);
    assert_eq!(
        (g.permit(&EVE, a).code, g.permit(&ANA, e).code),
        (0, 0),
        "permissions name addresses, not ports"
    );
    g.ears.clients.clear();
    g.hear(&EVE, &indication(a, b"let me in"));
    assert!(g.ears.clients.is_empty() && g.ears.peers.is_empty());
    assert_eq!(g.number("relay_dropped_foreign_total"), 1);
}

#[test]
fn the_server_itself_and_its_network_are_no_peers() {
    let mut g = Ground::new(config());
    g.allocate(&ANA).unwrap();
    for private in [
        "127.0.0.1:22",
        "10.0.0.7:80",
        "192.168.1.1:80",
        "169.254.169.254:80",
        "224.0.0.251:5353",
        "0.0.0.0:1",
    ] {
        let private = private.parse().unwrap();
        assert_eq!(
            (g.permit(&ANA, private).code, g.bind(&ANA, 0x4001, private).code),
            (403, 403),
            "{private}"
        );
    }
    let own = "13.0.0.1:22".parse().unwrap();
    assert_eq!((g.permit(&ANA, own).code, g.bind(&ANA, 0x4001, own).code), (0, 403));
    g.hear(&ANA, &indication(own, b"x"));
    assert!(g.ears.peers.is_empty());
    assert_eq!(g.number("relay_dropped_foreign_total"), 1);
    assert_eq!(g.number("relay_forbidden_total"), 13);
}

#[test]
fn what_claims_the_servers_address_and_comes_by_a_socket_is_no_client() {
    let mut g = Ground::new(config());
    let (_, b) = (g.allocate(&ANA).unwrap(), g.allocate(&BOB).unwrap());
    g.bind(&ANA, 0x4001, b);
    g.ears.clients.clear();
    g.hear_peer(g.port(&ANA), b, b"bob's address, but not bob");
    assert!(g.ears.clients.is_empty());
    assert_eq!(g.number("relay_dropped_foreign_total"), 1);
}

#[test]
fn private_peers_are_allowed_where_a_test_says_so() {
    let mut g = Ground::new(Config { allow_private_peers: true, ..config() });
    g.allocate(&ANA).unwrap();
    let private = "127.0.0.1:4000".parse().unwrap();
    assert_eq!(g.bind(&ANA, 0x4001, private).code, 0);
    g.hear(&ANA, &framed(0x4001, b"x"));
    assert_eq!(g.ears.peers.len(), 1);
}

#[test]
fn channels_and_permissions_of_one_allocation_are_counted() {
    let limits = Limits { channels: 3, permissions: 4, ..Limits::default() };
    let mut g = Ground::new(Config { limits, ..config() });
    g.allocate(&ANA).unwrap();
    let peer = |n: u8| SocketAddr::from(([11, 0, 0, n], 1));
    let codes: Vec<u16> = (1..=4).map(|n| g.bind(&ANA, 0x4000 + u16::from(n), peer(n)).code).collect();
    assert_eq!(codes, [0, 0, 0, 508]);
    assert_eq!((g.permit(&ANA, peer(7)).code, g.permit(&ANA, peer(8)).code), (0, 508));
    assert_eq!(g.permit(&ANA, peer(1)).code, 0, "known ones can be renewed");
    assert_eq!(g.bind(&ANA, 0x4001, peer(2)).code, 400, "a number stands for one peer");
    assert_eq!(g.bind(&ANA, 0x8000, peer(2)).code, 400, "no channel's number");
}

#[test]
fn bytes_a_second_are_shared_by_a_party() {
    let rate = Rate::new(10_000, Duration::from_secs(1));
    let limits = Limits { party_rate: rate, address_rate: Rate::UNLIMITED, ..Limits::default() };
    let mut g = Ground::new(Config { limits, ..config() });
    for who in [&ANA, &BOB, &EVE] {
        g.allocate(who).unwrap();
        g.bind(who, 0x4001, PEER);
    }
    for _ in 0..100 {
        g.hear(&ANA, &framed(0x4001, &[7; 500]));
        g.hear(&BOB, &framed(0x4001, &[7; 500]));
    }
    assert_eq!(g.ears.peers.len(), 20, "a second's worth at once, of both together");
    g.hear_peer(g.port(&BOB), PEER, &[7; 500]);
    assert_eq!(g.number("relay_dropped_over_rate_total"), 181, "what comes back counts too");
    g.hear(&EVE, &framed(0x4001, &[7; 500]));
    assert_eq!(g.ears.peers.len(), 21, "another party has its own");
    g.pass(1);
    g.hear(&ANA, &framed(0x4001, &[7; 500]));
    assert_eq!(g.ears.peers.len(), 22);
}

#[test]
fn datagrams_that_lie_end_to_end_are_framed_one_after_the_other() {
    let mut g = Ground::new(config());
    g.allocate(&ANA).unwrap();
    g.bind(&ANA, 0x4001, PEER);
    g.ears.clients.clear();
    let mut buffer = b"____firstsecond".to_vec();
    let port = g.port(&ANA);
    g.relay.handle_peer(port, PEER, &mut buffer, 4..9, g.now, &mut g.ears);
    g.relay.handle_peer(port, PEER, &mut buffer, 9..15, g.now, &mut g.ears);
    let heard: Vec<_> = g.ears.clients.iter().map(|(_, b)| b.clone()).collect();
    assert_eq!(heard, [framed(0x4001, b"first"), framed(0x4001, b"second")]);
}
