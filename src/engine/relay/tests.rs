//! The relay against clients that are honest, foreign, late, greedy or forged. `ground` is what they play on.

mod abuse;
mod discovery;
mod ground;
mod traffic;

use super::*;
use crate::wire::stun::Method;
use ground::{ANA, BOB, EVE, Ground, PEER, Who, config};

#[test]
fn an_allocation_is_challenged_proved_opened_and_told() {
    let mut g = Ground::new(config());
    let first = g.ask(&ANA, Method::Allocate, |b| b.requested_transport_udp());
    assert_eq!((first.code, first.realm.as_deref()), (401, Some(REALM)));
    assert!(first.nonce.is_some() && !first.signed);
    let relayed = g.allocate(&ANA).unwrap();
    assert_eq!(relayed.ip(), g.public);
    assert_eq!(g.number("relay_allocations"), 1);
    let again = g.ask_signed(&ANA, Method::Allocate, |b| b.requested_transport_udp());
    assert_eq!(again.code, 437, "another allocation on the same 5-tuple");
}

#[test]
fn a_repeated_request_gets_the_same_answer_and_one_allocation() {
    let mut g = Ground::new(config());
    let relayed = g.allocate(&ANA).unwrap();
    let repeated = g.repeat(&ANA);
    assert_eq!((repeated.code, repeated.relayed), (0, Some(relayed)));
    assert_eq!(g.number("relay_allocations"), 1);
}

#[test]
fn a_lifetime_is_what_was_asked_within_bounds_and_ends() {
    let mut g = Ground::new(config());
    for (asked, got) in [(None, 600), (Some(1), 600), (Some(1200), 1200), (Some(90_000), 3600)] {
        g.allocate(&ANA).unwrap();
        let answer = g.refresh(&ANA, asked);
        assert_eq!((answer.code, answer.lifetime), (0, Some(got)));
        assert_eq!(g.refresh(&ANA, Some(0)).lifetime, Some(0));
        assert_eq!(g.refresh(&ANA, None).code, 437, "it is gone");
    }
    g.allocate(&ANA).unwrap();
    g.pass(601);
    assert_eq!((g.number("relay_allocations"), g.number("relay_expired_total")), (0, 1));
    assert_eq!(g.open_ports(), 0, "and its port is closed");
}

#[test]
fn no_allocation_outlives_its_credentials_and_renewed_ones_keep_it() {
    let mut g = Ground::new(config());
    let short = Who { expires: 700, ..ANA };
    g.allocate(&short).unwrap();
    assert_eq!(g.refresh(&short, Some(3600)).lifetime, Some(700));
    g.pass(300);
    assert_eq!(g.refresh(&short, Some(3600)).lifetime, Some(400));
    let renewed = Who { expires: 40_000, ..ANA };
    assert_eq!(g.refresh(&renewed, Some(3600)).lifetime, Some(3600), "the same peer with newer credentials");
    g.pass(401);
    assert_eq!(g.refresh(&short, None).code, 401, "the old ones have expired");
    assert_eq!(g.number("relay_allocations"), 1);
}

#[test]
fn only_who_allocated_may_change_an_allocation() {
    let mut g = Ground::new(config());
    g.allocate(&ANA).unwrap();
    let thief = Who { address: ANA.address, ..BOB };
    assert_eq!(g.refresh(&thief, Some(0)).code, 441);
    assert_eq!(g.permit(&thief, PEER).code, 441);
    assert_eq!(g.bind(&thief, 0x4000, PEER).code, 441);
}

#[test]
fn requests_that_make_no_sense_are_refused_by_their_numbers() {
    let mut g = Ground::new(config());
    assert_eq!(g.ask_signed(&ANA, Method::Allocate, |b| b).code, 400, "no transport");
    assert_eq!(g.allocate_over(&ANA, 6).code, 442, "TCP towards peers");
    assert_eq!(g.ask_signed(&ANA, Method::Refresh, |b| b).code, 437);
    assert_eq!(g.ask_signed(&ANA, Method::CreatePermission, |b| b.peer(PEER)).code, 437);
    let token =
        g.ask_signed(&ANA, Method::Allocate, |b| b.requested_transport_udp().reservation_token([1; 8]));
    assert_eq!(token.code, 508);
    let both = g.ask_signed(&ANA, Method::Allocate, |b| {
        b.requested_transport_udp().reservation_token([1; 8]).even_port(false)
    });
    assert_eq!(both.code, 400);
    g.allocate(&ANA).unwrap();
    assert_eq!(g.ask_signed(&ANA, Method::CreatePermission, |b| b).code, 400);
    assert_eq!(g.ask_signed(&ANA, Method::ChannelBind, |b| b.peer(PEER)).code, 400);
    assert_eq!(g.ask_signed(&ANA, Method::ChannelBind, |b| b.channel(0x4000)).code, 400);
    let v6 = "[2a0f:1::1]:1".parse().unwrap();
    assert_eq!(g.permit(&ANA, v6).code, 443);
    assert_eq!(g.bind(&ANA, 0x4000, v6).code, 443);
    let refresh = g.ask_signed(&ANA, Method::Refresh, |b| b.requested_family(true));
    assert_eq!(refresh.code, 443);
}

#[test]
fn a_family_without_ports_is_refused() {
    let mut g = Ground::new(Config { families: vec![Family::V4], ..config() });
    let v6 = g.ask_signed(&ANA, Method::Allocate, |b| b.requested_transport_udp().requested_family(true));
    assert_eq!(v6.code, 440);
    let mut g = Ground::new(config());
    let v6 = g.ask_signed(&ANA, Method::Allocate, |b| b.requested_transport_udp().requested_family(true));
    assert!(v6.relayed.unwrap().is_ipv6());
}

#[test]
fn an_even_port_is_asked_of_the_shell_and_its_neighbour_is_not_kept() {
    let mut g = Ground::new(config());
    let even = g
        .ask_signed(&ANA, Method::Allocate, |b| b.requested_transport_udp().even_port(false).dont_fragment());
    assert_eq!(even.code, 0);
    assert!(matches!(g.opened.last(), Some(RelayEffect::OpenPort { even: true, whole: true, .. })));
    let pair = g.ask_signed(&BOB, Method::Allocate, |b| b.requested_transport_udp().even_port(true));
    assert_eq!(pair.code, 508);
}

#[test]
fn an_attribute_that_must_be_understood_and_is_not_is_named() {
    let mut g = Ground::new(config());
    let answer = g.ask_signed_with_unknown(&ANA, 0x7777);
    assert_eq!((answer.code, answer.unknown), (420, vec![0x7777]));
}

#[test]
fn a_port_that_the_system_refuses_is_told_and_leaves_nothing() {
    let mut g = Ground::new(config());
    g.refuse_ports = true;
    assert_eq!(g.allocate(&ANA), Err(508));
    assert_eq!(g.number("relay_allocations"), 0);
    g.refuse_ports = false;
    assert!(g.allocate(&ANA).is_ok());
}

#[test]
fn a_lost_stream_takes_its_allocation_with_it() {
    let mut g = Ground::new(config());
    let streamed = Who { stream: Some(StreamId(4)), ..ANA };
    g.allocate(&streamed).unwrap();
    g.allocate(&BOB).unwrap();
    g.relay.handle_closed(StreamId(4));
    g.drain();
    assert_eq!((g.number("relay_allocations"), g.open_ports()), (1, 1));
}

#[test]
fn quotas_hold_for_a_peer_a_party_an_address_and_all() {
    let limits = |change: fn(&mut Limits)| {
        let mut limits =
            Limits { allocations: 6, per_party: 5, per_peer: 3, per_address: 4, ..Limits::default() };
        change(&mut limits);
        Ground::new(Config { limits, ..config() })
    };
    let allocate = |g: &mut Ground, who: &Who, ports: std::ops::Range<u16>| -> Vec<u16> {
        ports.filter_map(|port| g.allocate(&who.at_port(port)).err()).collect()
    };
    let mut g = limits(|_| {});
    assert_eq!(allocate(&mut g, &ANA, 1..6), [486, 486], "three of one peer");
    assert_eq!(allocate(&mut g, &BOB, 1..6), [486, 486, 486], "five of one party");
    assert_eq!(allocate(&mut g, &EVE, 1..6), [508, 508, 508, 508], "six in all");
    let mut g = limits(|l| l.per_peer = 10);
    assert_eq!(allocate(&mut g, &ANA, 1..6), [486], "four from one address");
    assert_eq!(g.refresh(&ANA.at_port(1), Some(0)).code, 0);
    assert_eq!(allocate(&mut g, &ANA, 7..8), [0; 0], "what was given back can be had again");
}
