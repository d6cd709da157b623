//! Each kind does what the lab measured of it (RFC 4787 and 5780 terms), and each box forgets, refuses and counts as told.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects; all else fails it")]

use super::*;
use crate::model::dice::Seed;
use crate::model::time::Mono;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(11, 0, 2, 2);
const HOST: &str = "192.168.1.10:40000";

fn at(s: u64) -> Mono {
    Mono(Duration::from_secs(s))
}

fn a(s: &str) -> SocketAddr {
    s.parse().unwrap()
}

fn a_box(spec: Spec) -> NatBox {
    NatBox::new(spec, Outer::Internet, PUBLIC, Seed::from_u64(3).dice("nat"))
}

/// The four public endpoints of the lab: two addresses, two ports each.
fn endpoints() -> [SocketAddr; 4] {
    [a("9.9.9.1:3478"), a("9.9.9.1:3479"), a("9.9.9.2:3478"), a("9.9.9.2:3479")]
}

/// The way out through the boxes of a kind: home first. `None` for a kind without boxes.
fn chain(kind: Kind) -> Vec<NatBox> {
    [kind.home(), kind.carrier()].into_iter().flatten().map(a_box).collect()
}

fn out(chain: &mut [NatBox], from: SocketAddr, to: SocketAddr, now: Mono) -> Option<SocketAddr> {
    chain.iter_mut().try_fold(from, |from, b| b.outbound(from, to, now))
}

fn back(chain: &mut [NatBox], to: SocketAddr, from: SocketAddr, now: Mono) -> Option<SocketAddr> {
    chain.iter_mut().rev().try_fold(to, |to, b| b.inbound(to, from, now))
}

/// RFC 5780: which of "same", "same for an address", "all different" the outside ports of one socket are.
fn mapping(ports: &[u16]) -> &'static str {
    match ports {
        [p, q, r, s] if p == q && q == r && r == s => "EI",
        [p, q, r, s] if p == q && r == s => "AD",
        _ => "APD",
    }
}

/// RFC 5780: who else gets in at the mapping towards the first endpoint.
fn filtering(chain: &mut [NatBox], outside: SocketAddr) -> &'static str {
    let mut enters = |from: &str| back(chain, outside, a(from), at(1)).is_some();
    assert!(enters("9.9.9.1:3478"), "who was asked may answer");
    match (enters("9.9.9.9:1"), enters("9.9.9.1:5")) {
        (true, true) => "EI",
        (false, true) => "AD",
        (false, false) => "APD",
        (true, false) => "nonsense",
    }
}

#[test]
fn every_kind_shows_the_mapping_the_filter_and_the_ports_of_the_lab() {
    let table = [
        (Kind::Open, "EI", "EI"),
        (Kind::FirewalledOpen, "EI", "APD"),
        (Kind::FullCone, "EI", "EI"),
        (Kind::RestrictedCone, "EI", "AD"),
        (Kind::PortRestricted, "EI", "APD"),
        (Kind::Preserving, "EI", "APD"),
        (Kind::Symmetric, "APD", "APD"),
        (Kind::SymmetricSequential, "APD", "APD"),
        (Kind::Cgnat, "EI", "APD"),
        (Kind::CgnatSymmetric, "APD", "APD"),
    ];
    for (kind, maps, filters) in table {
        let mut chain = chain(kind);
        let seen = endpoints().map(|to| out(&mut chain, a(HOST), to, at(0)).unwrap());
        let ports = seen.map(|s| s.port());
        assert_eq!(mapping(&ports), maps, "{kind:?}: {ports:?}");
        match kind {
            Kind::Open | Kind::FirewalledOpen => assert_eq!(seen, [a(HOST); 4]),
            Kind::Preserving => assert_eq!(ports, [40_000; 4]),
            Kind::SymmetricSequential => assert_eq!(ports, [20_000, 20_001, 20_002, 20_003]),
            _ => assert!(!ports.contains(&40_000), "{kind:?}: {ports:?}"),
        }
        assert_eq!(filtering(&mut chain, seen[0]), filters, "{kind:?}");
    }
    assert_eq!(out(&mut chain(Kind::UdpBlocked), a(HOST), endpoints()[0], at(0)), None);
    assert_eq!(Kind::ALL.len(), table.len() + 1);
}

#[test]
fn a_mapping_per_address_is_the_same_for_all_ports_of_it() {
    use Dependence::{Address, AddressAndPort};
    let mut b = [a_box(Spec::nat(Address, AddressAndPort, Ports::Random))];
    let ports = endpoints().map(|to| out(&mut b, a(HOST), to, at(0)).unwrap().port());
    assert_eq!(mapping(&ports), "AD");
}

#[test]
fn two_sockets_that_want_one_port_get_two() {
    let mut b = chain(Kind::Preserving);
    let to = endpoints()[0];
    let [one, two] =
        ["192.168.1.10:40000", "192.168.1.11:40000"].map(|h| out(&mut b, a(h), to, at(0)).unwrap());
    assert_eq!(one.port(), 40_000);
    assert_ne!(two.port(), 40_000);
    assert_eq!(back(&mut b, two, to, at(1)), Some(a("192.168.1.11:40000")));
    assert_eq!(back(&mut b, one, to, at(1)), Some(a("192.168.1.10:40000")));
}

#[test]
fn silence_ends_a_mapping_and_only_some_boxes_count_what_comes_in() {
    for inbound_refreshes in [false, true] {
        let spec = Spec { inbound_refreshes, ..Kind::PortRestricted.home().unwrap() };
        let mut b = [a_box(spec)];
        let to = endpoints()[0];
        let outside = out(&mut b, a(HOST), to, at(0)).unwrap();
        for s in [60, 119] {
            assert_eq!(back(&mut b, outside, to, at(s)), Some(a(HOST)));
        }
        assert_eq!(back(&mut b, outside, to, at(130)).is_some(), inbound_refreshes);
        assert_eq!(out(&mut b, a(HOST), to, at(131)) == Some(outside), inbound_refreshes);
        // What goes out keeps it in both.
        let again = out(&mut b, a(HOST), to, at(240)).unwrap();
        assert_eq!(back(&mut b, again, to, at(359)), Some(a(HOST)));
    }
}

#[test]
fn each_flow_through_one_mapping_has_its_own_permission() {
    let mut b = chain(Kind::PortRestricted);
    let [one, two, ..] = endpoints();
    let outside = out(&mut b, a(HOST), one, at(0)).unwrap();
    out(&mut b, a(HOST), two, at(100));
    assert_eq!(back(&mut b, outside, one, at(121)), None, "silent for too long");
    assert_eq!(back(&mut b, outside, two, at(121)), Some(a(HOST)));
    assert_eq!(out(&mut b, a(HOST), one, at(150)), Some(outside), "the mapping lived on by the other flow");
}

#[test]
fn a_full_table_forgets_the_flow_that_was_used_longest_ago() {
    let mut b = [a_box(Spec { size: 100, ..Kind::Symmetric.home().unwrap() })];
    let peer = endpoints()[0];
    let outside = out(&mut b, a(HOST), peer, at(0)).unwrap();
    let probe = |n: u16| SocketAddr::new(IpAddr::from([9, 9, 9, 9]), 1000 + n);
    for n in 0..99 {
        out(&mut b, a(HOST), probe(n), at(1));
    }
    assert_eq!(back(&mut b, outside, peer, at(2)), Some(a(HOST)));
    out(&mut b, a(HOST), probe(99), at(3));
    assert_eq!(back(&mut b, outside, peer, at(3)), None, "a flood of probes costs the old flow");
    assert_eq!(b[0].flows(), 100);
}

#[test]
fn a_counting_box_counts_by_its_step_and_skips_what_is_taken() {
    use Dependence::AddressAndPort;
    let mut b = [a_box(Spec::nat(AddressAndPort, AddressAndPort, Ports::Sequential(4)))];
    let ports = endpoints().map(|to| out(&mut b, a(HOST), to, at(0)).unwrap().port());
    assert_eq!(ports, [20_000, 20_004, 20_008, 20_012]);
    let mut b = a_box(Spec { speaks: Some(PortMapping::Pcp), ..Kind::SymmetricSequential.home().unwrap() });
    assert_eq!(b.lease(a("192.168.1.10:20001")), Some(a("11.0.2.2:20001")));
    let ports = endpoints().map(|to| b.outbound(a(HOST), to, at(0)).unwrap().port());
    assert_eq!(ports, [20_000, 20_002, 20_003, 20_004]);
}

#[test]
fn a_leased_port_lets_everybody_in_and_answers_from_itself() {
    let mut b = a_box(Spec { speaks: Some(PortMapping::Upnp), ..Kind::Symmetric.home().unwrap() });
    let leased = b.lease(a(HOST)).unwrap();
    assert_eq!(b.lease(a(HOST)), Some(leased), "asked again, the same");
    let peer = a("9.9.9.7:777");
    assert_eq!(b.inbound(leased, peer, at(0)), Some(a(HOST)));
    assert_eq!(b.outbound(a(HOST), peer, at(1)), Some(leased));
    assert_ne!(
        b.outbound(a(HOST), a("9.9.9.7:778"), at(1)),
        Some(leased),
        "its own flows go the ordinary way"
    );
    b.flush();
    assert_eq!(b.inbound(leased, peer, at(2)), Some(a(HOST)), "a lease outlives the mappings");
    b.reboot(None, at(2));
    assert_eq!(b.inbound(leased, peer, at(3)), None);
}

#[test]
fn a_router_behind_a_carrier_and_one_that_speaks_nothing_refuse_to_lease() {
    let spec = Spec { speaks: Some(PortMapping::NatPmp), ..Kind::PortRestricted.home().unwrap() };
    let mut double = NatBox::new(spec, Outer::Behind(0), PUBLIC, Seed::from_u64(1).dice("nat"));
    assert_eq!(double.lease(a(HOST)), None);
    assert_eq!(a_box(Kind::PortRestricted.home().unwrap()).lease(a(HOST)), None);
    assert_eq!(a_box(Spec { translates: false, ..spec }).lease(a(HOST)), None);
}

#[test]
fn a_reboot_forgets_everything_and_may_bring_another_address() {
    let mut b = chain(Kind::FullCone);
    let to = endpoints()[0];
    let old = out(&mut b, a(HOST), to, at(0)).unwrap();
    b[0].flush();
    assert_eq!(back(&mut b, old, to, at(0)), None);
    let flushed = out(&mut b, a(HOST), to, at(0)).unwrap();
    assert_eq!(flushed.ip(), old.ip());
    assert_ne!(flushed.port(), old.port());
    b[0].reboot(Some(Ipv4Addr::new(11, 0, 2, 3)), at(1));
    assert_eq!(out(&mut b, a(HOST), to, at(0)), None, "it is away");
    let new = out(&mut b, a(HOST), to, at(1)).unwrap();
    assert_eq!(new.ip(), IpAddr::from([11, 0, 2, 3]));
    assert_eq!(
        back(&mut b, SocketAddr::new(old.ip(), new.port()), to, at(1)),
        None,
        "the old address is nobody's"
    );
}

#[test]
fn a_firewall_changes_no_address_and_keeps_strangers_of_both_families_out() {
    let mut b = a_box(Spec { v6: V6::Firewall, ..Spec::firewall() });
    for (inside, peer, stranger) in
        [("11.0.2.10:5", "9.9.9.1:1", "9.9.9.1:2"), ("[2a0f::10]:5", "[2a0f::9]:1", "[2a0f::9]:2")]
    {
        let (inside, peer, stranger) = (a(inside), a(peer), a(stranger));
        assert_eq!(b.inbound(inside, peer, at(0)), None);
        assert_eq!(b.outbound(inside, peer, at(0)), Some(inside));
        assert_eq!(b.inbound(inside, peer, at(1)), Some(inside));
        assert_eq!(b.inbound(inside, stranger, at(1)), None);
    }
    let mut without = a_box(Kind::PortRestricted.home().unwrap());
    assert_eq!(without.outbound(a("[2a0f::10]:5"), a("[2a0f::9]:1"), at(0)), None);
}

#[test]
fn ten_thousand_probes_of_one_socket_stay_within_the_table() {
    let mut b = chain(Kind::CgnatSymmetric);
    for n in 0..10_000u32 {
        let to = SocketAddr::new(IpAddr::from([9, 9, 9, 9]), 1024 + n as u16);
        out(&mut b, a(HOST), to, at(u64::from(n / 1000))).unwrap();
    }
    assert!(b.iter().all(|b| b.flows() <= 4096));
}
