//! The prober behind made-up routers, with made-up servers.

use super::*;
use crate::model::dice::Seed;
use crate::model::nat::{Filtering, Mapping, PortRule};
use proptest::prelude::*;
use std::collections::BTreeMap;

const MS: Duration = Duration::from_millis(1);
const LOCAL: &str = "192.168.1.5:51820";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// How a made-up router behaves.
#[derive(Debug, Clone, Copy)]
struct Rules {
    mapping: Mapping,
    filtering: Filtering,
    /// The step to the next outside port; 0: anywhere.
    step: u16,
    hairpin: bool,
}

/// A router, servers behind it, and the prober before it; 15 ms each way.
struct World {
    probe: Probe,
    rules: Rules,
    outside: IpAddr,
    next_port: u16,
    /// Key of the mapping to outside port.
    mappings: BTreeMap<(IpAddr, u16), u16>,
    sent_to: Vec<SocketAddr>,
    /// Servers: address, and the other address that they have.
    servers: Vec<(SocketAddr, Option<SocketAddr>)>,
    blocked: bool,
    /// A server's firewall: what it sends from there, and what is sent there, gets lost.
    walled: Option<SocketAddr>,
    lose: usize,
    now: Mono,
    coming: Vec<(Mono, SocketAddr, Vec<u8>)>,
    sent: usize,
}

const CONE: Rules = Rules {
    mapping: Mapping::EndpointIndependent,
    filtering: Filtering::AddressAndPortDependent,
    step: 0,
    hairpin: false,
};
const SYMMETRIC: Rules = Rules { mapping: Mapping::AddressAndPortDependent, step: 1, ..CONE };

impl World {
    fn new(rules: Rules, servers: &[(&str, Option<&str>)]) -> Self {
        let servers: Vec<_> = servers.iter().map(|(a, o)| (at(a), o.map(at))).collect();
        let mut probe = Probe::new(Seed::from_u64(3).dice("probe"), Mono::ZERO);
        probe.set_locals(&[at(LOCAL).ip()]);
        probe.set_local_port(at(LOCAL).port());
        let listed: Vec<SocketAddr> = servers.iter().map(|s| s.0).collect();
        probe.set_servers(&listed, Mono::ZERO);
        Self {
            probe,
            rules,
            outside: "198.51.100.7".parse().unwrap(),
            next_port: 40_000,
            mappings: BTreeMap::new(),
            sent_to: Vec::new(),
            servers,
            blocked: false,
            walled: None,
            lose: 0,
            now: Mono::ZERO,
            coming: Vec::new(),
            sent: 0,
        }
    }

    /// The outside address towards a destination.
    fn map(&mut self, to: SocketAddr) -> SocketAddr {
        let zero = IpAddr::from([0, 0, 0, 0]);
        let key = match self.rules.mapping {
            Mapping::None => return at(LOCAL),
            Mapping::EndpointIndependent => (zero, 0),
            Mapping::AddressDependent => (to.ip(), 0),
            Mapping::AddressAndPortDependent | Mapping::Dependent | Mapping::Unknown => (to.ip(), to.port()),
        };
        let step = if self.rules.step == 0 { 7_919 } else { self.rules.step };
        let next = &mut self.next_port;
        let port = *self.mappings.entry(key).or_insert_with(|| {
            *next = next.wrapping_add(step) | 1_024;
            *next
        });
        SocketAddr::new(self.outside, port)
    }

    fn lets_in(&self, from: SocketAddr) -> bool {
        match self.rules.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self.sent_to.iter().any(|s| s.ip() == from.ip()),
            Filtering::AddressAndPortDependent | Filtering::Unknown => self.sent_to.contains(&from),
        }
    }

    /// A server whose address, or whose other port or address, this is: its primary and other address.
    fn server_at(&self, to: SocketAddr) -> Option<(SocketAddr, Option<SocketAddr>)> {
        self.servers.iter().copied().find(|(a, other)| {
            let has_ip = to.ip() == a.ip() || other.is_some_and(|o| to.ip() == o.ip());
            let has_port = to.port() == a.port() || other.is_some_and(|o| to.port() == o.port());
            has_ip && has_port
        })
    }

    fn carry(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.sent += 1;
        if self.blocked {
            return;
        }
        let mapped = self.map(to);
        self.sent_to.push(to);
        if self.lose > 0 {
            self.lose -= 1;
            return;
        }
        if to == mapped {
            if self.rules.hairpin {
                self.coming.push((self.now + MS, mapped, bytes.to_vec()));
            }
            return;
        }
        let Some((primary, other)) = self.server_at(to) else { return };
        let m = Message::parse(bytes).unwrap();
        let mut from = to;
        if let (Some((ip, port)), Some(o)) = (m.change_request(), other) {
            let flip = |at: SocketAddr| if at.ip() == primary.ip() { o.ip() } else { primary.ip() };
            let flip_port =
                |at: SocketAddr| if at.port() == primary.port() { o.port() } else { primary.port() };
            from = SocketAddr::new(
                if ip { flip(to) } else { to.ip() },
                if port { flip_port(to) } else { to.port() },
            );
        }
        let mut room = [0u8; 256];
        let b = Builder::new(&mut room, Method::Binding, Class::Success, m.transaction()).mapped(mapped);
        let b = if let Some(o) = other { b.other_address(o) } else { b };
        let len = b.finish().unwrap();
        if self.lets_in(from) && self.walled != Some(from) && self.walled != Some(to) {
            self.coming.push((self.now + 30 * MS, from, room[..len].to_vec()));
        }
    }

    fn run(&mut self, time: Duration) -> Vec<ProbeEvent> {
        let (until, mut events) = (self.now + time, Vec::new());
        let mut room = [0u8; 256];
        for _ in 0..20_000 {
            while let Some((to, len)) = self.probe.poll_transmit(&mut room) {
                self.carry(to, &room[..len]);
            }
            events.extend(std::iter::from_fn(|| self.probe.poll_event()));
            let coming = self.coming.iter().map(|c| c.0).min();
            let next = [coming, self.probe.deadline().map(|d| d.at)].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= until) else {
                self.now = until;
                return events;
            };
            self.now = self.now.max(next);
            match self.coming.iter().position(|c| c.0 <= self.now) {
                Some(n) => {
                    let (_, from, bytes) = self.coming.remove(n);
                    self.probe.handle(from, &bytes, self.now);
                }
                None => self.probe.handle_timeout(self.now),
            }
        }
        panic!("it never comes to rest");
    }

    fn facts(&self) -> NatFacts {
        *self.probe.facts(false)
    }
}

const TWO_BY_TWO: &[(&str, Option<&str>)] = &[("192.0.2.1:3478", Some("192.0.2.2:3479"))];

#[test]
fn the_first_answer_is_a_reflexive_candidate() {
    let mut world = World::new(CONE, TWO_BY_TWO);
    let events = world.run(31 * MS);
    let public = world.map(at("192.0.2.1:3478"));
    assert!(events.contains(&ProbeEvent::Reflexive { public }), "{events:?}");
    assert_eq!((world.facts().udp, world.facts().public), (Some(true), Some(public)));
}

#[test]
fn one_server_with_two_addresses_and_ports_tells_every_kind_of_router_in_half_a_second() {
    use Filtering as F;
    use Mapping as M;
    for mapping in [M::EndpointIndependent, M::AddressDependent, M::AddressAndPortDependent] {
        for filtering in [F::EndpointIndependent, F::AddressDependent, F::AddressAndPortDependent] {
            let mut world = World::new(Rules { mapping, filtering, step: 0, hairpin: false }, TWO_BY_TWO);
            world.run(500 * MS);
            let facts = world.facts();
            assert_eq!((facts.mapping, facts.filtering), (mapping, filtering));
            assert!(world.sent <= 20, "{} datagrams", world.sent);
        }
    }
}

#[test]
fn without_a_router_there_may_still_be_a_firewall() {
    let mut world = World::new(Rules { mapping: Mapping::None, ..CONE }, TWO_BY_TWO);
    world.run(500 * MS);
    assert_eq!(world.facts().mapping, Mapping::None);
    assert_eq!((world.facts().word(), world.facts().ports), ("port-restricted", PortRule::Preserved));
    let open = Rules { mapping: Mapping::None, filtering: Filtering::EndpointIndependent, ..CONE };
    let mut world = World::new(open, TWO_BY_TWO);
    world.run(500 * MS);
    assert_eq!(world.facts().word(), "open");
}

#[test]
fn a_server_of_one_address_and_two_ports_tells_what_it_can() {
    let one: &[(&str, Option<&str>)] = &[("192.0.2.1:3478", Some("192.0.2.1:3479"))];
    let mut world = World::new(CONE, one);
    world.run(500 * MS);
    assert_eq!(world.facts().word(), "port-restricted");
    let mut world = World::new(Rules { filtering: Filtering::EndpointIndependent, ..CONE }, one);
    world.run(500 * MS);
    assert_eq!(world.facts().filtering, Filtering::AddressDependent, "so much is sure");
    let mut world = World::new(SYMMETRIC, one);
    world.run(500 * MS);
    assert_eq!(world.facts().mapping, Mapping::AddressAndPortDependent);
}

#[test]
fn plain_servers_tell_the_mapping_between_them_and_nothing_of_the_filter() {
    let two: &[(&str, Option<&str>)] = &[("192.0.2.1:3478", None), ("192.0.2.9:3478", None)];
    let mut world = World::new(CONE, two);
    world.run(35 * MS);
    assert_eq!(world.facts().mapping, Mapping::EndpointIndependent, "after one round trip");
    world.run(2_000 * MS);
    assert_eq!(world.facts().filtering, Filtering::Unknown);
    let mut world = World::new(SYMMETRIC, two);
    world.run(35 * MS);
    assert_eq!(world.facts().mapping, Mapping::Dependent);
    let mut world = World::new(CONE, &two[..1]);
    world.run(2_000 * MS);
    assert_eq!(world.facts().mapping, Mapping::Unknown, "one plain server cannot tell");
}

#[test]
fn a_server_listed_with_both_its_addresses_does_not_spoil_the_filtering_test() {
    let both: &[(&str, Option<&str>)] =
        &[("192.0.2.1:3478", Some("192.0.2.2:3479")), ("192.0.2.2:3478", Some("192.0.2.1:3479"))];
    for filtering in [Filtering::AddressDependent, Filtering::AddressAndPortDependent] {
        let mut world = World::new(Rules { filtering, ..CONE }, both);
        world.run(600 * MS);
        assert_eq!(world.facts().filtering, filtering);
    }
    let mut world = World::new(Rules { filtering: Filtering::EndpointIndependent, ..CONE }, both);
    world.run(600 * MS);
    assert_eq!(
        world.facts().filtering,
        Filtering::AddressDependent,
        "a claim that is sure, though not the best"
    );
}

#[test]
fn a_server_behind_a_firewall_of_its_own_is_not_taken_for_a_strict_router() {
    let open = Rules { filtering: Filtering::EndpointIndependent, ..CONE };
    let one: &[(&str, Option<&str>)] = &[("192.0.2.1:3478", Some("192.0.2.1:3479"))];
    for servers in [one, TWO_BY_TWO] {
        let mut world = World::new(open, servers);
        world.walled = servers[0].1.map(at);
        world.run(5_000 * MS);
        let filtering = world.facts().filtering;
        assert!(matches!(filtering, Filtering::Unknown | Filtering::AddressDependent), "{filtering:?}");
    }
}

#[test]
fn a_router_that_counts_is_predicted() {
    for step in [1u16, 2, 5] {
        let mut world = World::new(Rules { step, ..SYMMETRIC }, TWO_BY_TWO);
        world.run(500 * MS);
        assert!(matches!(world.facts().ports, PortRule::Sequential(_)), "{:?}", world.facts());
        let predicted = world.probe.predict(false, 8);
        let next = world.map(at("203.0.113.77:1"));
        assert!(predicted.contains(&next.port()), "{next} in {predicted:?}");
    }
    let mut world = World::new(Rules { step: 0, ..SYMMETRIC }, TWO_BY_TWO);
    world.run(500 * MS);
    assert_eq!((world.facts().ports, world.probe.predict(false, 8)), (PortRule::Random, vec![]));
}

#[test]
fn hairpin_is_seen_or_known_to_be_missing() {
    for hairpin in [true, false] {
        let mut world = World::new(Rules { hairpin, ..CONE }, TWO_BY_TWO);
        world.run(2_000 * MS);
        assert_eq!(world.facts().hairpin, Some(hairpin));
    }
    let mut world = World::new(SYMMETRIC, TWO_BY_TWO);
    world.run(2_000 * MS);
    assert_eq!(world.facts().hairpin, None);
}

#[test]
fn blocked_udp_is_known_after_a_second_and_a_half_and_its_return_is_noticed() {
    let mut world = World::new(CONE, TWO_BY_TWO);
    world.blocked = true;
    world.run(1_400 * MS);
    assert_eq!(world.facts().udp, None);
    world.run(150 * MS);
    assert_eq!((world.facts().udp, world.facts().word()), (Some(false), "udp-blocked"));
    assert_eq!(world.sent, 4);
    world.blocked = false;
    world.run(6_000 * MS);
    assert_eq!((world.facts().udp, world.facts().word()), (Some(true), "port-restricted"));
}

#[test]
fn a_dead_server_is_not_taken_for_blocked_udp() {
    let mut world = World::new(CONE, TWO_BY_TWO);
    world.run(1_000 * MS);
    world.blocked = true;
    world.probe.recheck(world.now);
    world.run(2_000 * MS);
    assert_eq!(world.facts().udp, Some(true));
    // in another network the same silence means something
    world.probe.set_locals(&[at("10.0.0.1:1").ip()]);
    world.probe.recheck(world.now);
    world.run(2_000 * MS);
    assert_eq!(world.facts(), NatFacts { udp: Some(false), ..NatFacts::default() });
}

#[test]
fn a_mapping_that_the_router_forgot_is_noticed_on_demand_and_after_25_seconds() {
    for ask in [true, false] {
        let mut world = World::new(CONE, TWO_BY_TWO);
        world.run(2_000 * MS);
        let before = world.facts();
        world.mappings.clear();
        world.sent_to.clear();
        if ask {
            world.probe.recheck(world.now);
        }
        let events = world.run(if ask { 40 } else { 26_000 } * MS);
        let public = world.map(at("192.0.2.1:3478"));
        assert_ne!(before.public, Some(public));
        assert!(events.contains(&ProbeEvent::Moved { public }), "{events:?}");
        world.run(1_000 * MS);
        assert_eq!(world.facts(), NatFacts { public: Some(public), ..before }, "it is the same router");
    }
}

#[test]
fn another_router_is_found_out_about_anew() {
    let mut world = World::new(Rules { hairpin: true, ..CONE }, TWO_BY_TWO);
    world.run(2_000 * MS);
    world.rules = Rules { filtering: Filtering::EndpointIndependent, ..SYMMETRIC };
    world.outside = "203.0.113.200".parse().unwrap();
    world.mappings.clear();
    world.sent_to.clear();
    world.probe.recheck(world.now);
    world.run(1_000 * MS);
    let facts = world.facts();
    assert_eq!(
        (facts.mapping, facts.filtering),
        (Mapping::AddressAndPortDependent, Filtering::EndpointIndependent)
    );
    assert_eq!((facts.ports, facts.hairpin), (PortRule::Sequential(1), None));
}

#[test]
fn lost_datagrams_delay_and_do_not_mislead() {
    for lose in 1..=3 {
        let mut world = World::new(Rules { filtering: Filtering::EndpointIndependent, ..CONE }, TWO_BY_TWO);
        world.lose = lose;
        world.run(1_500 * MS);
        assert_eq!(world.facts().word(), "full-cone", "{lose} lost");
    }
}

#[test]
fn a_quiet_hour_costs_one_question_every_25_seconds() {
    let mut world = World::new(CONE, TWO_BY_TWO);
    world.run(5_000 * MS);
    world.sent = 0;
    world.run(Duration::from_secs(3_600));
    assert!((140..=150).contains(&world.sent), "{}", world.sent);
}

#[test]
fn servers_that_are_not_listed_any_more_are_left_alone() {
    let two: &[(&str, Option<&str>)] = &[("192.0.2.1:3478", None), ("192.0.2.9:3478", None)];
    let mut world = World::new(CONE, two);
    world.run(1_000 * MS);
    world.probe.set_servers(&[at("192.0.2.9:3478")], world.now);
    world.sent_to.clear();
    world.run(Duration::from_secs(60));
    assert!(world.sent_to.iter().all(|to| *to == at("192.0.2.9:3478")), "{:?}", world.sent_to);
    assert!(!world.sent_to.is_empty());
    assert!(world.facts().public.is_some());
}

#[test]
fn answers_from_elsewhere_or_to_no_question_are_not_believed() {
    let mut world = World::new(CONE, TWO_BY_TWO);
    let mut room = [0u8; 256];
    let (_, len) = world.probe.poll_transmit(&mut room).unwrap();
    let id = Message::parse(&room[..len]).unwrap().transaction();
    let mut answer = |id, from: &str| {
        let mut room = [0u8; 256];
        let b = Builder::new(&mut room, Method::Binding, Class::Success, id).mapped(at("6.6.6.6:6"));
        let len = b.finish().unwrap();
        world.probe.handle(at(from), &room[..len], Mono(10 * MS));
        *world.probe.facts(false)
    };
    assert_eq!(answer(id, "192.0.2.66:3478"), NatFacts::default());
    assert_eq!(answer(Transaction([1; 12]), "192.0.2.1:3478"), NatFacts::default());
    assert!(answer(id, "192.0.2.1:3478").public.is_some());
}

#[test]
fn families_are_apart() {
    let mut world = World::new(CONE, TWO_BY_TWO);
    world.probe.set_servers(&[at("192.0.2.1:3478"), at("[2001:db8::1]:3478")], world.now);
    world.run(2_000 * MS);
    assert_eq!(world.probe.facts(true).udp, Some(false), "no server of the world answers there");
    assert_eq!(world.probe.facts(false).udp, Some(true));
}

/// A prober after all that may befall it, and a quiet minute.
fn shaken(symmetric: bool, steps: &[(u8, u64)]) -> World {
    let mut world = World::new(if symmetric { SYMMETRIC } else { CONE }, TWO_BY_TWO);
    for (step, ms) in steps.iter().copied() {
        match step {
            0 => world.probe.recheck(world.now),
            1 => world.blocked = ms % 2 == 0,
            2 => {
                world.mappings.clear();
                world.sent_to.clear();
            }
            3 => world.lose = 2,
            4 => world
                .probe
                .set_locals(&[at(LOCAL).ip(), IpAddr::from([10, 0, 0, if ms % 2 == 0 { 1 } else { 2 }])]),
            5 => world.probe.set_servers(&[], world.now),
            _ => world.probe.set_servers(&[at("192.0.2.1:3478")], world.now),
        }
        world.run(Duration::from_millis(ms));
    }
    world.blocked = false;
    world.probe.set_servers(&[at("192.0.2.1:3478")], world.now);
    world.probe.recheck(world.now);
    world.run(Duration::from_secs(60));
    world
}

#[test]
fn what_was_lost_of_a_server_that_is_known_already_is_asked_for_again() {
    let steps = [
        (4, 2024),
        (1, 403),
        (2, 1865),
        (1, 2699),
        (1, 1024),
        (0, 2074),
        (0, 780),
        (5, 406),
        (0, 2082),
        (0, 1418),
        (0, 734),
        (0, 2501),
        (0, 636),
        (0, 262),
        (2, 1961),
        (0, 743),
        (3, 1050),
        (6, 2943),
        (1, 447),
    ];
    assert_eq!(shaken(true, &steps).facts().mapping, SYMMETRIC.mapping);
}

proptest! {
    #[test]
    fn hostile_datagrams_change_nothing(datagrams in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..20)) {
        let mut world = World::new(CONE, TWO_BY_TWO);
        world.run(2_000 * MS);
        let before = world.facts();
        for (port, mut bytes) in datagrams {
            world.probe.handle(SocketAddr::from(([192, 0, 2, 1], port)), &bytes, world.now);
            bytes.splice(..0, [1, 1, 0, u8::try_from(bytes.len() & !3).unwrap(), 0x21, 0x12, 0xa4, 0x42]);
            bytes.extend([0; 12]);
            bytes.truncate(20 + usize::from(bytes[3]));
            world.probe.handle(at("192.0.2.1:3478"), &bytes, world.now);
        }
        prop_assert_eq!(world.facts(), before);
        prop_assert!(world.probe.asks.len() <= ASKS);
    }

    #[test]
    fn whatever_happens_it_finds_the_truth_again(steps in proptest::collection::vec((0u8..8, 0u64..3_000), 0..25), symmetric in any::<bool>()) {
        let mut world = shaken(symmetric, &steps);
        let facts = world.facts();
        prop_assert!([Filtering::Unknown, world.rules.filtering].contains(&facts.filtering), "{:?}", facts.filtering);
        prop_assert_eq!(facts.mapping, world.rules.mapping);
        prop_assert_eq!(facts.public, Some(world.map(at("192.0.2.1:3478"))));
        prop_assert_eq!(facts.udp, Some(true));
    }
}
