//! Measuring the way to a peer: what is found is what the world is like, and nobody else suffers.

use crate::support::*;
use lanrage::engine::counters::{Count, DropReason};
use lanrage::model::command::Command;
use lanrage::model::measure::{Limit, Measured};
use lanrage::model::status::Trouble;
use lanrage::sim::fault::Step;
use lanrage::sim::link::Uplink;
use lanrage::sim::world::World;
use std::time::Duration;

fn measure(world: &mut World, from: usize, to: usize, quick: bool, ticket: u64) {
    let peer = world.pcs[to].id;
    world.command(from, Command::Measure { peer, quick, ticket });
}

fn outcome(world: &World, pc: usize, ticket: u64) -> Result<Measured, Trouble> {
    let measured = &world.pcs[pc].run.as_ref().unwrap().measured;
    let mut fits = measured.iter().filter(|(of, _)| *of == ticket);
    let (_, outcome) = fits.next().expect("it is over by now");
    assert!(fits.next().is_none(), "one answer");
    outcome.clone()
}

fn code(world: &World, pc: usize, ticket: u64) -> String {
    outcome(world, pc, ticket).unwrap_err().code
}

fn counted(world: &World, pc: usize, what: Count) -> u64 {
    world.pcs[pc].run.as_ref().unwrap().node.counters().count(what)
}

/// A party in which these homes send so many kbit/s to the internet, and keep what waits for a tenth of a second.
fn party_on_lines(homes: &[usize], lines: &[(usize, u32)]) -> World {
    let mut world = party(homes);
    for (home, kbit) in lines {
        world.net.uplinks.insert(*home, Uplink::new(*kbit, Duration::from_millis(100)));
    }
    start(&mut world);
    world.run_for(seconds(5));
    world
}

#[test]
fn what_is_measured_is_what_the_line_is_like() {
    let mut world = party_on_lines(&[0, 1], &[(0, 20_000), (1, 5_000)]);
    measure(&mut world, 0, 1, false, 1);
    world.run_for(seconds(14));
    let found = outcome(&world, 0, 1).unwrap();
    // 30 ms each way and up to 8 more, which add up only upwards because a wire keeps the order.
    let rtt = found.alone.rtt_ms.unwrap();
    assert!(rtt.min >= 60.0 && (62.0..=74.0).contains(&rtt.p50) && rtt.p99 <= 77.0, "{found:#?}");
    assert_eq!((found.alone.loss, found.alone.packets), (0.0, 200));
    let beside = found.beside.clone().unwrap();
    assert_eq!((beside.trip.loss, beside.trip.packets), (0.0, 256));
    let rtt = beside.trip.rtt_ms.unwrap();
    assert!(rtt.p99 <= 90.0, "three quarters of a line leave room: {rtt:?}");
    // A packet is 60 bytes longer on the line; jitter makes a step look faster by a twentieth.
    for (carried, share) in [(found.bulk, 1200.0 / 1260.0), (found.small, 200.0 / 260.0)] {
        for (way, line) in [(carried.there, 20.0), (carried.back, 5.0)] {
            let way = way.unwrap();
            let most = line * share;
            assert!(way.mbit <= most * 1.05 && way.mbit >= most * 0.7, "{} of {most}: {way:?}", way.mbit);
            assert!(matches!(way.limit, Limit::Delay | Limit::Loss) && way.loss < 0.01, "{way:?}");
            assert_eq!((way.duplicates, way.reordered), (0, 0));
        }
    }
    assert_eq!(counted(&world, 0, Count::PathChanges), 1);
    must_end_well(&mut world);
}

#[test]
fn a_line_that_loses_packets_is_told_from_one_that_is_full() {
    let mut world = party_on_lines(&[0, 1], &[(0, 20_000), (1, 20_000)]);
    world.chaos.fair = false;
    world.net.wan.loss = 30;
    measure(&mut world, 0, 1, false, 1);
    world.run_for(seconds(14));
    let found = outcome(&world, 0, 1).unwrap();
    assert!((0.02..=0.11).contains(&found.alone.loss), "3 % each way: {}", found.alone.loss);
    let there = found.bulk.there.unwrap();
    assert!((0.01..=0.06).contains(&there.loss) && there.mbit > 12.0, "{there:?}");
}

#[test]
fn what_comes_twice_or_late_is_counted_and_changes_nothing() {
    let mut world = party_on_lines(&[0, 1], &[(0, 20_000), (1, 20_000)]);
    world.chaos.fair = false;
    world.net.wan.reorder = 20;
    world.net.wan.duplicate = 20;
    measure(&mut world, 0, 1, true, 1);
    world.run_for(seconds(5));
    let found = outcome(&world, 0, 1).unwrap();
    assert!(found.alone.loss == 0.0 && found.alone.reordered > 0, "{:?}", found.alone);
    assert_eq!(found.alone.duplicates, 0, "the tunnel lets nothing through twice");
}

#[test]
fn a_quick_measurement_is_over_in_four_seconds() {
    let mut world = party_on_lines(&[0, 1], &[(0, 10_000), (1, 10_000)]);
    measure(&mut world, 1, 0, true, 7);
    world.run_for(Duration::from_millis(4100));
    let found = outcome(&world, 1, 7).unwrap();
    let there = found.bulk.there.unwrap();
    assert!((5.0..=9.6).contains(&there.mbit), "{there:?}");
    assert!(found.beside.is_some() && found.small.back.is_some(), "{found:#?}");
}

#[test]
fn whoever_comes_second_is_refused_until_the_first_is_done() {
    let mut world = party_on_lines(&[0, 1, 2], &[(0, 10_000), (1, 10_000), (2, 10_000)]);
    measure(&mut world, 0, 1, true, 1);
    world.run_for(seconds(1));
    // The one that is measured, the one that measures, and the same one once more.
    measure(&mut world, 2, 1, true, 2);
    world.run_for(seconds(1));
    measure(&mut world, 2, 0, true, 3);
    measure(&mut world, 0, 2, true, 4);
    measure(&mut world, 1, 2, true, 5);
    world.run_for(Duration::from_millis(500));
    let codes = [(2, 2), (2, 3), (0, 4), (1, 5)].map(|(pc, ticket)| code(&world, pc, ticket));
    assert_eq!(codes, ["peer_busy", "peer_busy", "bench_busy", "bench_busy"]);
    world.run_for(seconds(3));
    assert!(outcome(&world, 0, 1).is_ok());
    measure(&mut world, 2, 1, true, 6);
    world.run_for(seconds(5));
    assert!(outcome(&world, 2, 6).is_ok());
    must_end_well(&mut world);
}

#[test]
fn who_does_not_answer_or_stops_answering_is_named() {
    let mut world = party_on_lines(&[0, 1, 2], &[(0, 10_000)]);
    meanwhile(&mut world, &[Step::Cut(0, 1)]);
    measure(&mut world, 0, 1, false, 1);
    world.run_for(seconds(4));
    let silent = outcome(&world, 0, 1).unwrap_err();
    assert_eq!(silent.code, "peer_silent");
    assert!(
        silent.message.starts_with("pc1 does not answer: it runs an older lanrage"),
        "{}",
        silent.message
    );
    world.run_for(seconds(20));
    measure(&mut world, 0, 1, false, 2);
    assert_eq!(code(&world, 0, 2), "peer_away");
    measure(&mut world, 0, 2, false, 3);
    world.run_for(seconds(3));
    world.apply(Step::Kill(2));
    world.run_for(seconds(5));
    assert_eq!(code(&world, 0, 3), "bench_broke");
    let stranger = lanrage::model::id::PeerId([9; 10]);
    world.command(0, Command::Measure { peer: stranger, quick: true, ticket: 4 });
    assert_eq!(code(&world, 0, 4), "no_such_peer");
}

#[test]
fn a_measurement_leaves_nothing_behind() {
    let mut world = party_on_lines(&[0, 1], &[(0, 10_000), (1, 10_000)]);
    let quiet = |world: &mut World| {
        let before = [0, 1].map(|pc| counted(world, pc, Count::WanOut));
        world.run_for(seconds(60));
        [0, 1].map(|pc| counted(world, pc, Count::WanOut)).iter().sum::<u64>() - before.iter().sum::<u64>()
    };
    let before = quiet(&mut world);
    measure(&mut world, 0, 1, true, 1);
    world.run_for(seconds(5));
    assert!(counted(&world, 1, Count::Measured) > 300 && counted(&world, 0, Count::Measured) == 0);
    let after = quiet(&mut world);
    assert!(after <= before + 10, "{before} datagrams in a quiet minute before, {after} after");
    for pc in [0, 1] {
        let refused = world.pcs[pc].run.as_ref().unwrap().node.counters().dropped(DropReason::MeasureRefused);
        assert!(refused <= 2, "{refused} packets of it came too late");
    }
}
