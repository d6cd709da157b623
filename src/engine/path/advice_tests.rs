//! The reasons, as a table: what is known, and what is told.

use super::*;
use crate::model::nat::{Filtering, PortRule};

fn nat(mapping: Mapping, filtering: Filtering, public: &str) -> NatFacts {
    NatFacts {
        mapping,
        filtering,
        ports: PortRule::Random,
        udp: Some(true),
        public: Some(public.parse().unwrap()),
        ..NatFacts::default()
    }
}

fn symmetric(public: &str) -> NatFacts {
    nat(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent, public)
}

fn restricted(public: &str) -> NatFacts {
    nat(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent, public)
}

fn blocked() -> NatFacts {
    NatFacts { udp: Some(false), ..NatFacts::default() }
}

fn at(list: &[(&str, CandidateKind)]) -> Vec<Candidate> {
    list.iter().map(|(addr, kind)| Candidate { addr: addr.parse().unwrap(), kind: *kind }).collect()
}

/// A pair to start from: a path by relay for a minute, everything tried.
struct Story {
    mine: NatFacts,
    theirs: NatFacts,
    my_addresses: Vec<Candidate>,
    their_addresses: Vec<Candidate>,
    router: Router,
    relays: Relays<'static>,
    search: Search,
}

impl Story {
    fn new(mine: NatFacts, theirs: NatFacts) -> Self {
        Self {
            mine,
            theirs,
            my_addresses: at(&[("192.168.1.5:4000", CandidateKind::Host)]),
            their_addresses: at(&[("192.168.7.5:4000", CandidateKind::Host)]),
            router: Router { refuses: true, second: false },
            relays: Relays { known: 1, up: 1, why: None },
            search: Search {
                path: Some(PathKind::Relay),
                by_friend: false,
                age: Duration::from_secs(60),
                addresses: 2,
                asking: false,
                attempts: 0,
                punching: false,
                probes: 0,
                loss: 0,
            },
        }
    }

    fn told(&self) -> Vec<Trouble> {
        advise(&Pair {
            name: "Bob",
            mine: End { nat: &self.mine, candidates: &self.my_addresses },
            theirs: End { nat: &self.theirs, candidates: &self.their_addresses },
            router: self.router,
            relays: self.relays,
            search: self.search,
        })
    }

    fn codes(&self) -> Vec<String> {
        self.told().into_iter().map(|t| t.code).collect()
    }
}

const A: &str = "203.0.113.1:4000";
const B: &str = "203.0.113.2:4000";

#[test]
fn a_direct_path_needs_no_advice_unless_it_loses_packets() {
    for path in [PathKind::Lan, PathKind::Direct] {
        let mut story = Story::new(symmetric(A), symmetric(B));
        story.search.path = Some(path);
        assert_eq!(story.told(), []);
        story.search.loss = 73;
        assert_eq!(story.codes(), ["lossy"]);
        assert!(story.told()[0].message.starts_with("7 of 100 test packets to Bob"), "{:?}", story.told());
    }
}

#[test]
fn two_routers_with_a_port_for_every_destination_are_named_with_the_cure() {
    let mut story = Story::new(symmetric(A), symmetric(B));
    let told = story.told();
    assert_eq!(told[0].code, "both_symmetric");
    assert_eq!(told[0].message, "Bob's router uses another port for every destination, and so does yours");
    assert!(
        told[0].hint.contains("UPnP") && told[0].hint.contains("either") && told[0].hint.contains("IPv6")
    );
    story.router.second = true;
    assert_eq!(story.codes(), ["both_symmetric", "second_router"]);
    assert!(story.told()[0].hint.starts_with("switch on UPnP or NAT-PMP in Bob's router"));
}

#[test]
fn a_network_without_udp_is_the_first_reason_whichever_end_has_it() {
    assert_eq!(Story::new(blocked(), symmetric(B)).codes(), ["udp_blocked_here"]);
    assert_eq!(Story::new(symmetric(A), blocked()).codes(), ["udp_blocked_there"]);
    assert_eq!(Story::new(blocked(), blocked()).codes(), ["udp_blocked_here"]);
}

#[test]
fn guessing_ports_is_told_while_it_lasts_and_when_it_gave_up() {
    let mut story = Story::new(symmetric(A), restricted(B));
    (story.search.attempts, story.search.punching) = (2, true);
    let told = story.told();
    assert_eq!((told.len(), told[0].code.as_str()), (1, "punching"));
    assert!(told[0].message.contains("your router") && told[0].message.contains("attempt 2 of 3"));
    (story.search.attempts, story.search.punching, story.search.probes) = (3, false, 768);
    let told = story.told();
    assert_eq!(told[0].code, "punch_failed");
    assert!(told[0].message.contains("3 attempts with 768 probes"), "{told:?}");
    assert!(told[0].hint.contains("in your router"));

    // The other end opens the sockets: this end counts no attempts of its own, and goes by the time.
    let mut story = Story::new(restricted(A), symmetric(B));
    story.search.age = Duration::from_secs(5);
    assert_eq!(story.codes(), ["punching"]);
    story.search.age = Duration::from_secs(60);
    let told = story.told();
    assert_eq!(told[0].code, "punch_failed");
    assert!(told[0].message.starts_with("Bob's router") && told[0].hint.contains("in Bob's router"));
}

#[test]
fn where_routers_are_no_reason_the_others_are_told_apart() {
    let mut story = Story::new(restricted(A), restricted(B));
    story.search.age = Duration::from_secs(2);
    assert_eq!(story.codes(), ["searching"]);
    story.search.age = Duration::from_secs(60);
    assert_eq!(story.codes(), ["firewall"]);
    story.their_addresses.extend(at(&[("203.0.113.2:9", CandidateKind::Mapped)]));
    assert_eq!(story.codes(), ["mapping_silent"]);
    assert!(story.told()[0].message.starts_with("Bob's router says"));

    let mut story = Story::new(restricted(A), restricted("203.0.113.1:4001"));
    assert_eq!(story.codes(), ["no_hairpin"], "one carrier");
    story.their_addresses = at(&[("192.168.1.9:4000", CandidateKind::Host)]);
    assert_eq!(story.codes(), ["same_house"]);

    let story = Story::new(NatFacts::default(), restricted(B));
    assert_eq!(story.codes(), ["router_unknown"]);
    let mut story = Story::new(restricted(A), restricted(B));
    story.search.addresses = 0;
    assert_eq!(story.codes(), ["no_address"]);
}

#[test]
fn ipv6_is_offered_to_the_end_that_lacks_it() {
    let v6 = |addr| at(&[(addr, CandidateKind::Host)]);
    let mut story = Story::new(symmetric(A), symmetric(B));
    story.their_addresses = v6("[2001:db8::5]:4000");
    assert_eq!(story.codes(), ["both_symmetric", "no_ipv6_here"]);
    story.my_addresses = v6("[2001:db8:7::5]:4000");
    assert_eq!(story.codes(), ["both_symmetric", "ipv6_silent"]);
    story.their_addresses = v6("[fe80::5]:4000");
    assert_eq!(story.codes(), ["both_symmetric", "no_ipv6_there"]);
    story.my_addresses = v6("[fd00::5]:4000");
    assert_eq!(story.codes(), ["both_symmetric"], "neither has an address of the internet");
}

#[test]
fn without_any_path_relays_are_a_reason_too() {
    let mut story = Story::new(restricted(A), restricted(B));
    story.search.path = None;
    story.relays = Relays::default();
    assert_eq!(story.codes(), ["no_answer", "no_relay", "firewall"]);
    story.relays = Relays { known: 2, up: 0, why: Some("no answer") };
    let told = story.told();
    assert_eq!(told[1].code, "relay_down");
    assert!(told[1].message.ends_with(": no answer"));
    story.relays = Relays { known: 2, up: 2, why: None };
    assert_eq!(story.codes(), ["no_answer", "firewall"]);
}

#[test]
fn nothing_is_told_without_something_to_try_and_never_too_much() {
    let all = [NatFacts::default(), blocked(), symmetric(A), restricted(B), restricted(A)];
    for (mine, theirs) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
        for path in [None, Some(PathKind::Relay)] {
            for (second, by_friend, age) in [(true, true, 1), (false, false, 100)] {
                let mut story = Story::new(mine, theirs);
                story.router.second = second;
                (story.search.path, story.search.by_friend) = (path, by_friend);
                (story.search.age, story.search.loss) = (Duration::from_secs(age), 500);
                let told = story.told();
                assert!((1..=MOST).contains(&told.len()), "{told:?}");
                assert!(told.iter().all(|t| !t.hint.is_empty() && !t.message.is_empty()), "{told:?}");
                let codes = story.codes();
                assert!(codes.iter().enumerate().all(|(n, c)| !codes[..n].contains(c)), "{codes:?}");
            }
        }
    }
}

#[test]
fn every_code_is_in_the_manual() {
    let page = include_str!("../../../docs/doctor.md");
    let source = include_str!("advice.rs");
    let codes: Vec<&str> =
        source.split("Trouble::new(").skip(1).filter_map(|rest| rest.split('"').nth(1)).collect();
    assert!(codes.len() >= 15, "{codes:?}");
    for code in codes {
        assert!(page.contains(&format!("`{code}`")), "{code} is missing in docs/doctor.md");
    }
}

#[test]
fn what_stands_in_everybodys_way_is_told_once() {
    let addresses = at(&[("192.168.1.5:4000", CandidateKind::Host)]);
    let codes = |nat: &NatFacts, addresses: &[Candidate], router, relays| -> Vec<String> {
        warn(End { nat, candidates: addresses }, router, relays).into_iter().map(|t| t.code).collect()
    };
    let up = Relays { known: 1, up: 1, why: None };
    assert_eq!(codes(&restricted(A), &addresses, Router::default(), up), [""; 0]);
    assert_eq!(codes(&symmetric(A), &addresses, Router::default(), up), ["router_symmetric"]);
    assert_eq!(codes(&blocked(), &addresses, Router::default(), up), ["udp_blocked_here"]);
    let second = Router { refuses: true, second: true };
    assert_eq!(codes(&restricted(A), &addresses, second, Relays::default()), ["second_router", "no_relay"]);
    let mapped = at(&[(A, CandidateKind::Mapped)]);
    assert_eq!(codes(&symmetric(A), &mapped, Router::default(), Relays::default()), [""; 0]);
    let down = Relays { known: 1, up: 0, why: Some("refused") };
    assert_eq!(codes(&restricted(A), &addresses, Router::default(), down), ["relay_down"]);
}

#[test]
fn the_routers_words_are_understood() {
    use PortMapping::{NatPmp, Pcp, Upnp};
    let of = |said: [&str; 3]| {
        Router::of(&[(Upnp, said[0].into()), (NatPmp, said[1].into()), (Pcp, said[2].into())])
    };
    assert_eq!(of(["no answer", "no answer", "no answer"]), Router { refuses: true, second: false });
    assert_eq!(of(["forwards 203.0.113.5:4", "no answer", "no answer"]), Router::default());
    let second = "behind a second router (100.64.0.9 is not an address of the internet)";
    assert_eq!(of(["no answer", second, "no answer"]), Router { refuses: true, second: true });
    assert_eq!(Router::of(&[(Upnp, "no answer".into())]), Router::default(), "not all have spoken");
}
