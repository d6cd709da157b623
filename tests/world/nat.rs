//! Stories about networks that stand in the way: NATs of every kind, firewalls, carriers, blocked UDP, relays that die.

use crate::support::nat::*;
use crate::support::*;
use lanrage::model::nat::PortMapping;
use lanrage::model::status::PathKind;
use lanrage::sim::fault::Step;
use lanrage::sim::nat::{Kind, V6};
use lanrage::sim::permits::{By, Permit};
use lanrage::sim::plan::{self, Site};
use lanrage::sim::world::World;
use lanrage::sim::{run_nat_seed, run_seed};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Runs until something holds; how long it took, if it came to be.
fn until(world: &mut World, most: Duration, holds: impl Fn(&World) -> bool) -> Option<Duration> {
    let begin = world.now;
    while !holds(world) {
        if world.now.since(begin) >= most {
            return None;
        }
        world.run_for(MS * 50);
    }
    Some(world.now.since(begin))
}

fn both(world: &World, holds: impl Fn(usize, usize) -> bool) -> bool {
    let _ = world;
    holds(0, 1) && holds(1, 0)
}

fn connected(world: &World) -> bool {
    both(world, |a, b| world.path_of(a, b).is_some())
}

fn kinds(world: &World) -> [Option<PathKind>; 2] {
    [(0, 1), (1, 0)].map(|(a, b)| world.path_of(a, b).map(|p| p.kind))
}

/// Two computers start at the same moment: the first path, and the best one, in time. Says what went wrong, if anything.
fn meets(sites: &[Site], homes: &[usize]) -> Result<(Duration, Duration), String> {
    let mut world = nat_party(sites, homes, 1);
    for pc in 0..2 {
        world.apply(Step::Start(pc));
    }
    let permit = world.permit(0, 1);
    let Some(first) = until(&mut world, seconds(20), connected) else {
        return Err(format!("{permit:?}: no path"));
    };
    // Signing in takes a quarter of a second here, a relay's answers as long again.
    if first > seconds(2) {
        return Err(format!("{permit:?}: first path after {first:?}"));
    }
    let limit = world.best_in(0, 1);
    let best = until(&mut world, limit, |w| both(w, |a, b| w.is_best(a, b)));
    let Some(best) = best else {
        return Err(format!("{permit:?}: {:?} after {limit:?}", kinds(&world)));
    };
    world.run_for(seconds(20));
    if !both(&world, |a, b| world.is_best(a, b)) {
        return Err(format!("{permit:?}: fell back to {:?}", kinds(&world)));
    }
    let (broken, _) = world.oracle.verdict();
    match broken.first() {
        None => Ok((first, best)),
        Some(v) => Err(format!("{permit:?}: {}", v.what)),
    }
}

fn must_meet(pairs: impl IntoIterator<Item = (String, Vec<Site>, Vec<usize>)>) {
    let mut wrong = Vec::new();
    for (name, sites, homes) in pairs {
        match meets(&sites, &homes) {
            Ok((first, best)) => println!("{name:<46} first {first:>8.2?}  best {best:>8.2?} later"),
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every ordered pair in which the first is one of these.
fn every_pair_with(firsts: &[Kind]) {
    let pair = |a: Kind, b: Kind| {
        (format!("{} / {}", a.word(), b.word()), vec![Site::new(a), Site::new(b)], vec![0, 1])
    };
    must_meet(firsts.iter().flat_map(|a| Kind::ALL.map(|b| pair(*a, b))));
}

#[test]
fn open_ones_and_cones_reach_everybody_that_their_networks_permit() {
    every_pair_with(&[Kind::Open, Kind::FirewalledOpen, Kind::FullCone, Kind::RestrictedCone]);
}

#[test]
fn port_restricted_ones_reach_everybody_that_their_networks_permit() {
    every_pair_with(&[Kind::PortRestricted, Kind::Preserving, Kind::Cgnat]);
}

#[test]
fn symmetric_ones_reach_everybody_that_their_networks_permit() {
    every_pair_with(&[Kind::Symmetric, Kind::CgnatSymmetric]);
}

#[test]
fn counting_ones_reach_everybody_that_their_networks_permit() {
    every_pair_with(&[Kind::SymmetricSequential]);
}

#[test]
fn whoever_has_no_udp_reaches_everybody_by_a_relay() {
    every_pair_with(&[Kind::UdpBlocked]);
}

#[test]
fn a_router_that_opens_ports_makes_the_impossible_pair_direct() {
    for by in [PortMapping::Pcp, PortMapping::NatPmp, PortMapping::Upnp] {
        let speaks = Site { speaks: Some(by), ..Site::new(Kind::Symmetric) };
        let pairs = [Kind::Symmetric, Kind::CgnatSymmetric, Kind::SymmetricSequential, Kind::PortRestricted]
            .map(|kind| {
                (format!("symmetric with {} / {}", by.word(), kind.word()), vec![speaks, Site::new(kind)])
            });
        must_meet(pairs.map(|(name, sites)| (name, sites, vec![0, 1])));
    }
}

#[test]
fn ipv6_behind_firewalls_makes_the_impossible_pair_direct() {
    let six = |v6| Site { v6, ..Site::new(Kind::Symmetric) };
    must_meet([
        ("both firewalled".into(), vec![six(V6::Firewall), six(V6::Firewall)], vec![0, 1]),
        ("one firewalled".into(), vec![six(V6::Firewall), six(V6::Open)], vec![0, 1]),
    ]);
}

#[test]
fn neighbours_meet_on_their_lan_or_by_their_carriers_hairpin() {
    let carried = |kind, hairpin| {
        let first = Site { hairpin, ..Site::new(kind) };
        vec![first, Site { shared: true, ..first }]
    };
    must_meet([
        ("one home".into(), vec![Site::new(Kind::PortRestricted)], vec![0, 0]),
        ("one home without udp".into(), vec![Site::new(Kind::UdpBlocked)], vec![0, 0]),
        ("one home behind a carrier".into(), vec![Site::new(Kind::CgnatSymmetric)], vec![0, 0]),
        ("one carrier that hairpins".into(), carried(Kind::Cgnat, true), vec![0, 1]),
        ("one carrier that does not".into(), carried(Kind::Cgnat, false), vec![0, 1]),
        ("one symmetric carrier that hairpins".into(), carried(Kind::CgnatSymmetric, true), vec![0, 1]),
    ]);
}

#[test]
fn routers_that_forget_soon_or_remember_little_or_take_small_packets_do_not_stand_in_the_way() {
    let restricted = Site::new(Kind::PortRestricted);
    let symmetric = Site::new(Kind::Symmetric);
    let pairs = [
        ("forgets after 35 s", Site { life: 35, ..restricted }, restricted),
        ("kept by inbound packets too", Site { inbound_refreshes: true, ..restricted }, symmetric),
        ("remembers 300 flows", Site { size: 300, ..symmetric }, Site { size: 300, ..restricted }),
        ("takes 1400 bytes", Site { mtu: 1400, ..restricted }, restricted),
    ];
    must_meet(pairs.map(|(name, a, b)| (name.to_owned(), vec![a, b], vec![0, 1])));
}

/// A pair that is as it should be, in the middle of an evening with games.
fn evening(sites: &[Site], homes: &[usize], relays: u8) -> World {
    let mut world = nat_party(sites, homes, relays);
    start(&mut world);
    let limit = world.best_in(0, 1) + seconds(2);
    let met = until(&mut world, limit, |w| both(w, |a, b| w.is_best(a, b)));
    assert!(met.is_some(), "{:?} is {:?}", world.permit(0, 1), kinds(&world));
    open_world(&mut world, 0);
    world.run_for(seconds(10));
    must_hold(&world);
    world
}

/// How long the tunnel carried nothing from the first computer to the second, after something happened.
fn outage(world: &mut World, steps: &[Step], most: Duration) -> Duration {
    meanwhile(world, steps);
    let begin = world.now;
    let Some(back) = until(world, most, |w| {
        w.oracle.copies_since((1, LIST), begin.0 + MS * 100).next().is_some()
            && both(w, |a, b| w.path_of(a, b).is_some())
    }) else {
        panic!("nothing came through for {most:?} after {steps:?}: {:?}", kinds(world));
    };
    back
}

/// Back at its best in time, and everything holds to the end.
fn must_recover(mut world: World, steps: &[Step], silence: Duration) {
    let back = outage(&mut world, steps, seconds(60));
    println!("{steps:?}: back after {back:?}");
    // Announcements come every 1.5 seconds: that much of the silence is the game's own.
    assert!(back <= silence + MS * 1550, "{steps:?}: {back:?} of silence");
    let limit = world.best_in(0, 1) + seconds(5);
    let best = until(&mut world, limit, |w| both(w, |a, b| w.is_best(a, b)));
    assert!(best.is_some(), "{steps:?}: {:?}, permitted is {:?}", kinds(&world), world.permit(0, 1));
    // Connections to control planes take their time to notice.
    world.run_for(seconds(5));
    must_end_well(&mut world);
}

fn restricted() -> [Site; 3] {
    [Site::new(Kind::PortRestricted); 3]
}

#[test]
fn a_router_that_forgets_its_mappings_costs_a_second() {
    let world = evening(&restricted(), &[0, 1], 1);
    must_recover(world, &[Step::Flush(1)], seconds(1));
}

#[test]
fn a_router_that_restarts_with_another_address_costs_three_seconds() {
    for kind in [Kind::PortRestricted, Kind::FullCone, Kind::Symmetric] {
        let world = evening(&[Site::new(Kind::PortRestricted), Site::new(kind)], &[0, 1], 1);
        // One second of it the router is away.
        must_recover(world, &[Step::Reboot(1, Some(plan::another_address(1, 9)))], seconds(3));
    }
}

#[test]
fn a_computer_that_gets_another_address_or_moves_is_back_in_three_seconds() {
    let sites = restricted();
    for card in [plan::card(&sites, 1, 77), plan::card(&sites, 2, 50)] {
        let world = evening(&sites, &[0, 1], 1);
        must_recover(world, &[Step::Roam(1, card)], seconds(3));
    }
}

#[test]
fn a_computer_that_moves_into_a_blocked_network_is_back_by_a_stream() {
    let sites =
        [Site::new(Kind::PortRestricted), Site::new(Kind::PortRestricted), Site::new(Kind::UdpBlocked)];
    let world = evening(&sites, &[0, 1], 1);
    assert_eq!(world.permit(0, 1), Permit::Direct(By::Plain));
    must_recover(world, &[Step::Roam(1, plan::card(&sites, 2, 50))], seconds(5));
}

#[test]
fn a_computer_that_slept_is_back_in_three_seconds() {
    for asleep in [20, 200] {
        let mut world = evening(&restricted(), &[0, 1], 1);
        meanwhile(&mut world, &[Step::Sleep(1)]);
        world.run_for(seconds(asleep));
        must_recover(world, &[Step::Rise(1)], seconds(3));
    }
}

#[test]
fn when_the_relay_in_use_dies_the_second_takes_over_in_two_seconds() {
    let mut world = evening(&[Site::new(Kind::Symmetric); 2], &[0, 1], 2);
    assert_eq!(kinds(&world), [Some(PathKind::Relay); 2]);
    let used = world.path_of(0, 1).unwrap().remote;
    let dead = world.servers.iter().position(|s| s.addresses.contains(&used.ip())).unwrap();
    let back = outage(&mut world, &[Step::ServerDown(dead)], seconds(60));
    assert!(back <= seconds(2) + MS * 1550, "{back:?}");
    world.run_for(seconds(20));
    meanwhile(&mut world, &[Step::ServerUp(dead)]);
    world.run_for(seconds(60));
    must_end_well(&mut world);
}

#[test]
fn when_the_only_relay_dies_and_returns_it_is_used_again() {
    let mut world = evening(&[Site::new(Kind::Symmetric); 2], &[0, 1], 1);
    meanwhile(&mut world, &[Step::ServerDown(0)]);
    world.run_for(seconds(30));
    meanwhile(&mut world, &[Step::ServerUp(0)]);
    let back = until(&mut world, seconds(30), |w| both(w, |a, b| w.is_best(a, b)));
    assert!(back.is_some(), "{:?}", kinds(&world));
    world.run_for(seconds(30));
    must_end_well(&mut world);
}

#[test]
fn direct_paths_outlive_every_server() {
    let mut world = evening(&restricted(), &[0, 1], 2);
    meanwhile(&mut world, &[Step::PlaneDown(0), Step::ServerDown(0), Step::ServerDown(1)]);
    let before = world.oracle.heard_by((1, LIST));
    world.run_for(seconds(600));
    let heard = world.oracle.heard_by((1, LIST)) - before;
    assert!(heard >= 399, "{heard} of 400 announcements in ten minutes without any server");
    assert_eq!(kinds(&world), [Some(PathKind::Direct); 2]);
    meanwhile(&mut world, &[Step::PlaneUp(0), Step::ServerUp(0), Step::ServerUp(1)]);
    world.run_for(seconds(60));
    must_end_well(&mut world);
}

#[test]
fn credentials_that_run_out_are_renewed_before_they_do() {
    let mut world = nat_party(&[Site::new(Kind::Symmetric); 2], &[0, 1], 1);
    world.relay_life = seconds(600);
    start(&mut world);
    open_world(&mut world, 0);
    let before = world.oracle.heard_by((1, LIST));
    world.run_for(seconds(1800));
    let heard = world.oracle.heard_by((1, LIST)) - before;
    assert!(heard >= 1195, "{heard} of 1200 announcements");
    must_end_well(&mut world);
}

/// Packets that the computers send straight to one another in this time.
fn straight(world: &mut World, time: Duration) -> u64 {
    let sum = |world: &World| world.pcs.iter().map(|pc| pc.sent.straight.packets).sum::<u64>();
    let before = sum(world);
    world.run_for(time);
    sum(world) - before
}

#[test]
fn a_pair_that_cannot_be_punched_costs_almost_nothing_after_the_attempt() {
    for (a, b) in [
        (Kind::Symmetric, Kind::Symmetric),
        (Kind::Symmetric, Kind::CgnatSymmetric),
        (Kind::SymmetricSequential, Kind::Symmetric),
        (Kind::UdpBlocked, Kind::PortRestricted),
    ] {
        for sites in [[a, b], [b, a]] {
            let mut world = nat_party(&sites.map(Site::new), &[0, 1], 1);
            start(&mut world);
            world.run_for(seconds(180));
            let later = straight(&mut world, seconds(600));
            let name = sites.map(Kind::word);
            println!("{name:?}: {later} packets in ten minutes");
            assert!(later <= 20, "{name:?}: {later} packets of probing in ten minutes");
        }
    }
}

#[test]
fn the_traffic_of_an_attempt_is_bounded() {
    for (a, b, most) in [
        (Kind::PortRestricted, Kind::PortRestricted, 100),
        (Kind::SymmetricSequential, Kind::PortRestricted, 400),
        (Kind::Symmetric, Kind::PortRestricted, 6000),
        (Kind::PortRestricted, Kind::Symmetric, 6000),
        (Kind::Symmetric, Kind::Symmetric, 400),
    ] {
        let mut world = nat_party(&[a, b].map(Site::new), &[0, 1], 1);
        start(&mut world);
        let packets = straight(&mut world, seconds(60));
        println!("{} / {}: {packets} packets in the first minute", a.word(), b.word());
        assert!(packets <= most, "{} / {}: {packets} packets", a.word(), b.word());
    }
}

#[test]
fn the_first_seeds_with_nats_hold() {
    let mut owed = 0;
    for seed in 0..12 {
        let outcome = run_nat_seed(seed);
        let list: Vec<&String> = outcome.violations.iter().map(|v| &v.what).collect();
        assert!(outcome.holds(), "seed {seed}, see `lanrage sim --nat --seed {seed} --trace`: {list:#?}");
        owed += outcome.owed;
    }
    assert!(owed > 500, "only {owed} packets were owed to anybody: these seeds prove nothing");
}

#[test]
fn the_same_seed_with_nats_gives_the_same_story_twice() {
    for seed in [1, 2] {
        let (first, second) = (run_nat_seed(seed), run_nat_seed(seed));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
    }
    assert_ne!(run_nat_seed(1).hash, run_seed(1).hash);
}

#[test]
fn a_punch_through_a_small_table_does_not_cost_a_neighbour_its_path() {
    // Computer 2 sits beside the one behind the symmetric router whose table is small.
    let small = Site { size: 500, ..Site::new(Kind::Symmetric) };
    let mut world =
        nat_party(&[Site::new(Kind::PortRestricted), small, Site::new(Kind::FullCone)], &[2, 1, 0], 1);
    start(&mut world);
    world.run_for(seconds(90));
    for (a, b) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)] {
        assert!(world.is_best(a, b), "pc{a} to pc{b}: {:?}", world.path_of(a, b));
    }
    must_end_well(&mut world);
}

#[test]
fn datagrams_larger_than_a_link_takes_are_lost_and_the_party_lives_with_it() {
    let narrow = Site { mtu: 1340, ..Site::new(Kind::PortRestricted) };
    let mut world = evening(&[narrow, Site::new(Kind::PortRestricted)], &[0, 1], 1);
    must_end_well(&mut world);
}
