//! Hard pairs without a network: what is sent when, and how much.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects; all else fails it")]

use super::*;
use crate::model::dice::Seed;
use crate::model::nat::{Filtering, Mapping};
use std::collections::BTreeSet;

fn at(ms: u64) -> Mono {
    Mono(Duration::from_millis(ms))
}

fn facts(mapping: Mapping, ports: PortRule, public: &str) -> NatFacts {
    NatFacts {
        mapping,
        filtering: Filtering::AddressAndPortDependent,
        ports,
        udp: Some(true),
        public: Some(public.parse().unwrap()),
        ..NatFacts::default()
    }
}

fn cone() -> NatFacts {
    facts(Mapping::EndpointIndependent, PortRule::Random, "11.0.2.2:30000")
}

fn random() -> NatFacts {
    facts(Mapping::AddressAndPortDependent, PortRule::Random, "11.0.3.2:1111")
}

fn counting(public: &str) -> NatFacts {
    facts(Mapping::AddressAndPortDependent, PortRule::Sequential(1), public)
}

fn punch(eager: bool) -> Punch {
    Punch::new(eager, Seed::from_u64(7).dice("punch"))
}

/// Everything it wants until `end`, with the moment of each.
fn run(p: &mut Punch, from: u64, end: u64) -> Vec<(u64, PunchAction)> {
    let mut all = Vec::new();
    for ms in from..end {
        while let Some(action) = p.poll(at(ms)) {
            all.push((ms, action));
        }
    }
    all
}

fn wanted<'a>(mine: &'a NatFacts, theirs: &'a NatFacts) -> Facts<'a> {
    Facts { mine, theirs, wanted_since: Some(at(0)) }
}

#[test]
fn the_random_end_opens_many_sockets_and_calls_the_other_after_plain_pings_had_their_time() {
    let (mine, theirs) = (random(), cone());
    let mut p = punch(true);
    assert!(!p.consider(wanted(&mine, &theirs), at(0)));
    assert_eq!(p.deadline().unwrap().at, at(400));
    assert!(p.consider(wanted(&mine, &theirs), at(400)));
    p.begin(256, wanted(&mine, &theirs), at(400));
    let all = run(&mut p, 400, 500);
    assert_eq!(all[0].1, PunchAction::Open(256));
    assert!(
        matches!(&all[1].1, PunchAction::Tell(s) if s.ports.is_empty() && s.public == mine.public.unwrap().ip())
    );
    let sockets: BTreeSet<Via> = all
        .iter()
        .filter_map(|(_, a)| match a {
            PunchAction::Probe(via, to) if Some(*to) == theirs.public => Some(*via),
            _ => None,
        })
        .collect();
    assert_eq!(sockets, (256..512).map(Via::Extra).collect());
    assert!(all.last().unwrap().0 <= 465, "all sockets within 50 ms of their opening");
}

#[test]
fn the_other_end_guesses_a_thousand_ports_a_second_no_port_twice_and_stops() {
    let (mine, theirs) = (cone(), random());
    let mut p = punch(false);
    assert!(!p.consider(wanted(&mine, &theirs), at(5000)), "it waits to be called");
    let signal = Signal { public: "11.0.3.2".parse().unwrap(), ports: vec![], answer: false };
    assert!(!p.signalled(&signal, wanted(&mine, &theirs), at(0)));
    let all = run(&mut p, 0, 60_000);
    let ports: Vec<u16> = all
        .iter()
        .map(|(_, a)| match a {
            PunchAction::Probe(Via::Main, to) => to.port(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ports.len(), 2048);
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 2048);
    assert!(ports.iter().all(|p| *p >= 1024));
    let within = all.iter().filter(|(ms, _)| *ms < 1000).count();
    assert!((950..=1005).contains(&within), "{within} in the first second");
    assert!(p.deadline().is_none(), "nothing more to do");
}

#[test]
fn guesses_hit_one_of_256_ports_as_often_as_the_arithmetic_says() {
    let mut missed = 0;
    for seed in 0..400u64 {
        let mut dice = Seed::from_u64(seed).dice("nat");
        let open: BTreeSet<u16> =
            std::iter::repeat_with(|| u16::try_from(dice.range(1024, 65_535)).unwrap()).take(256).collect();
        let mut p = Punch::new(false, Seed::from_u64(seed).dice("punch"));
        missed += u32::from(!(0..1024).any(|_| open.contains(&p.next_port())));
    }
    assert!(missed <= 20, "{missed} of 400 missed with 1,024 guesses; 2 % is right");
}

#[test]
fn a_counting_router_is_asked_and_its_next_ports_are_told() {
    let (mine, theirs) = (counting("11.0.3.2:20005"), cone());
    let mut p = punch(true);
    assert!(p.consider(wanted(&mine, &theirs), at(500)) || p.consider(wanted(&mine, &theirs), at(900)));
    p.begin(0, wanted(&mine, &theirs), at(900));
    assert_eq!(
        run(&mut p, 900, 940).into_iter().map(|a| a.1).collect::<Vec<_>>(),
        [PunchAction::Open(2), PunchAction::Ask]
    );
    p.answered("11.0.3.2:20010".parse().unwrap(), wanted(&mine, &theirs), at(940));
    let all = run(&mut p, 940, 2000);
    let PunchAction::Tell(signal) = &all[0].1 else { panic!("{all:?}") };
    assert_eq!(signal.ports, (20_011..=20_030).collect::<Vec<u16>>());
    assert!(all[1..].iter().all(|(_, a)| *a == PunchAction::Probe(Via::Extra(0), theirs.public.unwrap())));

    let (mine, theirs) = (cone(), counting("11.0.3.2:20005"));
    let mut other = punch(false);
    assert!(!other.signalled(signal, wanted(&mine, &theirs), at(0)));
    let first: Vec<_> = run(&mut other, 0, 10);
    assert_eq!(first.len(), 20);
    assert!(run(&mut other, 10, 60_000).len() <= 60);
}

#[test]
fn two_counting_routers_meet_port_by_port() {
    let (a, b) = (counting("11.0.2.2:20000"), counting("11.0.3.2:21000"));
    let (mut one, mut two) = (punch(true), punch(false));
    assert!(!one.consider(wanted(&a, &b), at(0)) && one.consider(wanted(&a, &b), at(400)));
    assert!(!two.consider(wanted(&b, &a), at(9000)), "the other end leads");
    one.begin(0, wanted(&a, &b), at(400));
    run(&mut one, 400, 420);
    one.answered("11.0.2.2:20007".parse().unwrap(), wanted(&a, &b), at(440));
    let Some(PunchAction::Tell(call)) = one.poll(at(440)) else { panic!("a call") };
    assert!(two.signalled(&call, wanted(&b, &a), at(500)), "it needs sockets");
    two.begin_answer(0, call, at(500));
    run(&mut two, 500, 520);
    two.answered("11.0.3.2:21009".parse().unwrap(), wanted(&b, &a), at(540));
    let actions = run(&mut two, 540, 541);
    let targets = |list: &[(u64, PunchAction)]| -> Vec<u16> {
        list.iter()
            .filter_map(|(_, a)| match a {
                PunchAction::Probe(Via::Extra(0), to) => Some(to.port()),
                _ => None,
            })
            .collect()
    };
    assert_eq!(targets(&actions), (20_008..=20_027).collect::<Vec<u16>>());
    let answer =
        actions.iter().find_map(|(_, a)| if let PunchAction::Tell(s) = a { Some(s.clone()) } else { None });
    let answer = answer.unwrap();
    assert!(answer.answer);
    assert!(!one.signalled(&answer, wanted(&a, &b), at(600)));
    assert_eq!(targets(&run(&mut one, 600, 601)), (21_010..=21_029).collect::<Vec<u16>>());
}

#[test]
fn what_does_not_open_is_tried_three_times_and_then_ever_more_rarely() {
    let (mine, theirs) = (random(), cone());
    let mut p = punch(true);
    let mut opened = Vec::new();
    for ms in (0..3_600_000).step_by(5) {
        let facts = wanted(&mine, &theirs);
        if p.consider(facts, at(ms)) {
            p.begin(0, facts, at(ms));
            opened.push(ms / 1000);
        }
        while p.poll(at(ms)).is_some() {}
    }
    assert!(opened[2] < 40, "{opened:?}");
    assert!((6..=8).contains(&opened.len()), "in an hour: {opened:?}");
    assert!(opened.windows(2).skip(3).all(|w| w[1] - w[0] > 200), "{opened:?}");
    p.renew();
    assert!(p.consider(wanted(&mine, &theirs), at(3_600_000)), "another network, another chance");
}

#[test]
fn a_pair_without_hope_costs_nothing() {
    let mut p = punch(true);
    assert!((0..600_000).step_by(100).all(|ms| !p.consider(wanted(&random(), &random()), at(ms))));
    assert_eq!((p.probes(), p.deadline()), (0, None));
}

#[test]
fn success_ends_everything_and_closes_the_sockets() {
    let (mine, theirs) = (random(), cone());
    let mut p = punch(true);
    assert!(!p.consider(wanted(&mine, &theirs), at(0)) && p.consider(wanted(&mine, &theirs), at(400)));
    p.begin(0, wanted(&mine, &theirs), at(400));
    run(&mut p, 400, 405);
    p.stop();
    assert_eq!(run(&mut p, 405, 5000), [(405, PunchAction::Close)]);
}

#[test]
fn a_peer_that_calls_without_end_makes_nobody_flood_a_third() {
    let (mine, theirs) = (cone(), counting("11.0.3.2:20005"));
    for ports in [vec![], (2000..2064).collect::<Vec<u16>>()] {
        let mut p = punch(false);
        let mut probes = 0;
        for second in 0..600u64 {
            for n in 0..10u64 {
                let now = at(second * 1000 + n * 100);
                let signal = Signal {
                    public: format!("11.9.9.{}", n + 1).parse().unwrap(),
                    ports: ports.clone(),
                    answer: false,
                };
                assert!(!p.signalled(&signal, wanted(&mine, &theirs), now));
                for ms in 0..100 {
                    while let Some(action) = p.poll(now + Duration::from_millis(ms)) {
                        probes += u64::from(matches!(action, PunchAction::Probe(..)));
                    }
                }
                assert!(p.salvo.timed.len() <= PORTS * REPEATS.len());
            }
        }
        assert!(probes <= 28 * 2048, "{probes} probes in ten minutes for 6,000 calls");
    }
}
