//! Stories told by hand: what a player would see on a good evening and on a bad one.

use crate::support::*;
use lanrage::engine::counters::{Count, DropReason};
use lanrage::model::addr::Seat;
use lanrage::model::status::{Event, PathKind};
use lanrage::sim::fault::Step;
use lanrage::sim::game::{How, Program};
use lanrage::sim::net::SimCard;
use lanrage::sim::oracle::Place;
use lanrage::sim::world::World;
use std::time::Duration;

fn count(world: &World, pc: usize, what: Count) -> u64 {
    world.pcs[pc].run.as_ref().unwrap().node.counters().count(what)
}

fn dropped(world: &World, pc: usize, why: DropReason) -> u64 {
    world.pcs[pc].run.as_ref().unwrap().node.counters().dropped(why)
}

/// How often a list heard anything.
fn heard(world: &World, list: Place) -> usize {
    world.oracle.heard_by(list)
}

#[test]
fn a_world_opened_on_one_pc_is_in_the_list_of_another_and_can_be_joined() {
    let mut world = party(&[0, 1]);
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(60));
    assert_eq!(heard(&world, (1, LIST)), 40, "one copy for each announcement in sixty seconds");
    let found: Vec<_> = told(&world, 1, seconds(0))
        .into_iter()
        .filter_map(|e| if let Event::GameFound { address, .. } = e { Some(*address) } else { None })
        .collect();
    assert_eq!(found[0], (world.pcs[0].virtual_address().unwrap(), 25_565).into());
    world.apply(Step::Join(1, (0, WORLD)));
    must_end_well(&mut world);
}

#[test]
fn of_three_peers_two_share_a_lan_and_every_announcement_arrives_once_everywhere() {
    let mut world = party(&[0, 0, 1]);
    start(&mut world);
    for pc in 0..3 {
        open_world(&mut world, pc);
    }
    world.run_for(seconds(30));
    let kind = |a, b| sees(&world, a, b).and_then(|p| p.path).map(|p| p.kind);
    assert_eq!((kind(0, 1), kind(0, 2)), (Some(PathKind::Lan), Some(PathKind::Direct)));
    assert!(
        dropped(&world, 0, DropReason::HeardNatively) >= 20,
        "what the neighbour hears by wire is not sent"
    );
    must_end_well(&mut world);
}

#[test]
fn a_game_that_sends_by_every_card_is_announced_once() {
    let mut world = party(&[0, 1]);
    // The private network of a virtual machine, with the same addresses on both computers.
    for pc in 0..2 {
        let private = SimCard::new(1, "192.168.56.1".parse().unwrap(), 24, 6 + pc);
        world.pcs[pc].cards.push(private);
        let cards = world.pcs[pc].cards.clone();
        world.net.plug(pc, &cards);
        let Program::Announcer { how, .. } = &mut world.pcs[pc].programs[WORLD].0 else { panic!() };
        *how = How::Every;
    }
    start(&mut world);
    open_world(&mut world, 0);
    open_world(&mut world, 1);
    world.run_for(seconds(15));
    assert!(dropped(&world, 0, DropReason::Twin) >= 20, "two twins of every announcement");
    must_end_well(&mut world);
}

#[test]
fn a_node_that_hears_its_own_injections_does_not_pass_them_on() {
    let mut world = party(&[0, 1, 2]);
    world.chaos.echo = 1000;
    start(&mut world);
    for pc in 0..3 {
        open_world(&mut world, pc);
    }
    world.run_for(seconds(15));
    assert!(dropped(&world, 0, DropReason::EchoOfOwn) >= 18);
    must_end_well(&mut world);
}

#[test]
fn a_killed_node_comes_back_with_its_address_and_its_world_is_in_the_list_again() {
    let mut world = party(&[0, 1]);
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(10));
    let address = world.pcs[0].virtual_address();
    meanwhile(&mut world, &[Step::Kill(0)]);
    world.run_for(seconds(100));
    assert_eq!(sees(&world, 1, 0).unwrap().state, "away");
    let lost = told(&world, 1, seconds(10)).iter().any(|e| matches!(e, Event::GameLost { .. }));
    assert!(lost, "a world without a sign of life leaves the list");
    let back = world.now.0;
    world.apply(Step::Start(0));
    world.run_for(seconds(5));
    assert_eq!(world.pcs[0].virtual_address(), address);
    let found = told(&world, 1, back).iter().any(|e| matches!(e, Event::GameFound { .. }));
    assert!(found, "{:?}", told(&world, 1, back));
    must_end_well(&mut world);
}

#[test]
fn who_leaves_is_gone_at_once_and_welcome_again() {
    let mut world = party(&[0, 1, 2]);
    start(&mut world);
    let left = world.now.0;
    world.apply(Step::Leave(2));
    world.run_for(seconds(30));
    assert!(told(&world, 1, left).iter().any(|e| matches!(e, Event::PeerLeft { .. })));
    assert!(sees(&world, 1, 2).is_none(), "{:?}", sees(&world, 1, 2));
    assert!(
        !told(&world, 1, left).iter().any(|e| matches!(e, Event::Warning(_) | Event::Path { .. })),
        "a goodbye is no trouble: {:?}",
        told(&world, 1, left)
    );
    let back = world.now.0;
    world.apply(Step::Start(2));
    world.run_for(seconds(5));
    let events = told(&world, 1, back);
    assert!(matches!(events[..], [Event::PeerJoined { .. }, Event::Path { .. }]), "{events:?}");
    open_world(&mut world, 2);
    must_end_well(&mut world);
}

#[test]
fn a_laptop_carried_to_another_network_is_reached_there_within_seconds() {
    let mut world = party(&[0, 1, 0]);
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(5));
    meanwhile(&mut world, &[Step::Roam(0, card(3, 77))]);
    world.run_for(seconds(3));
    for other in [1, 2] {
        let path = sees(&world, other, 0).and_then(|p| p.path).expect("a path");
        assert_eq!(path.remote.ip(), address(3, 77), "pc{other}");
    }
    // It shared a LAN with the third; now its announcements have to come by tunnel.
    must_end_well(&mut world);
}

#[test]
fn who_joins_late_sees_a_running_game_at_once_and_not_at_its_next_announcement() {
    let mut world = party(&[0, 1]);
    let Program::Announcer { period, .. } = &mut world.pcs[0].programs[WORLD].0 else { panic!() };
    *period = seconds(7);
    world.apply(Step::Start(0));
    world.run_for(seconds(5));
    open_world(&mut world, 0);
    world.run_for(seconds(1));
    world.apply(Step::Start(1));
    world.run_for(seconds(3));
    assert_eq!(heard(&world, (1, LIST)), 1, "handed over when the path came up");
    assert_eq!(count(&world, 0, Count::Replayed), 1);
    must_end_well(&mut world);
}

#[test]
fn a_removed_player_hears_nothing_more_and_the_others_go_on() {
    let mut world = party(&[0, 1, 2, 3]);
    start(&mut world);
    open_world(&mut world, 1);
    world.run_for(seconds(5));
    // One of those who stay is away when it happens.
    meanwhile(&mut world, &[Step::Kill(3), Step::Kick(2)]);
    world.run_for(seconds(5));
    assert!(world.pcs[2].run.is_none(), "it was told");
    assert_eq!(world.pcs[1].disk.epoch, 1);
    let before = heard(&world, (2, LIST));
    world.apply(Step::Start(3));
    world.run_for(seconds(20));
    assert_eq!(world.pcs[3].disk.epoch, 1, "who was away finds the new secret when it comes back");
    assert_eq!(heard(&world, (2, LIST)), before);
    must_end_well(&mut world);
}

#[test]
fn two_who_claim_one_seat_agree_with_everybody_who_keeps_it() {
    let mut world = party(&[0, 1, 2]);
    for (pc, since) in [(1, 1000), (2, 900)] {
        world.pcs[pc].disk.memory.seat = Some((Seat(99), since));
    }
    start(&mut world);
    world.run_for(seconds(5));
    let seats: Vec<u8> = (0..3).map(|pc| world.pcs[pc].virtual_address().unwrap().octets()[3]).collect();
    assert_eq!(seats[2], 99, "the older claim keeps it");
    assert_ne!(seats[1], 99);
    assert_eq!(sees(&world, 0, 1).unwrap().address.octets()[3], seats[1]);
    open_world(&mut world, 1);
    open_world(&mut world, 2);
    must_end_well(&mut world);
}

#[test]
fn a_newcomer_with_a_slow_clock_takes_nobodys_seat() {
    let mut world = party(&[0, 1, 2]);
    start(&mut world);
    let seat = world.pcs[1].disk.memory.seat.unwrap();
    world.apply(Step::Leave(2));
    world.run_for(seconds(2));
    // A new computer whose own first wish would be that seat cannot be made to order; one that remembers a wish can.
    world.pcs[2].disk.memory.seat = Some((seat.0, seat.1 + 1));
    world.pcs[2].skew = -86_400_000;
    world.apply(Step::Start(2));
    world.run_for(seconds(5));
    assert_eq!(world.pcs[1].disk.memory.seat, Some(seat));
    must_end_well(&mut world);
}

#[test]
fn a_party_goes_on_when_its_control_plane_goes_away() {
    let mut world = party(&[0, 1, 2]);
    world.apply(Step::Start(0));
    world.apply(Step::Start(1));
    world.run_for(seconds(5));
    open_world(&mut world, 0);
    meanwhile(&mut world, &[Step::PlaneDown(0)]);
    world.run_for(seconds(20));
    world.apply(Step::Start(2));
    let before = heard(&world, (1, LIST));
    world.run_for(seconds(300));
    assert!(heard(&world, (1, LIST)) >= before + 195, "two who know each other need nobody");
    assert!(sees(&world, 2, 0).is_none(), "a newcomer cannot find them");
    let complaints = told(&world, 0, seconds(0)).iter().filter(|e| matches!(e, Event::Warning(_))).count();
    assert_eq!(complaints, 1, "and it is said once");
    world.apply(Step::PlaneUp(0));
    world.run_for(seconds(45));
    must_end_well(&mut world);
}

#[test]
fn who_was_there_last_evening_is_found_without_any_control_plane() {
    let mut world = party(&[0, 1]);
    start(&mut world);
    meanwhile(&mut world, &[Step::PlaneDown(0), Step::Kill(0), Step::Kill(1)]);
    world.run_for(seconds(3600));
    world.apply(Step::Start(1));
    world.apply(Step::Start(0));
    world.run_for(seconds(10));
    assert!(world.joined(0, 1), "{:?} {:?}", sees(&world, 0, 1), sees(&world, 1, 0));
    world.apply(Step::PlaneUp(0));
    world.run_for(seconds(45));
    open_world(&mut world, 0);
    must_end_well(&mut world);
}

#[test]
fn a_lost_memory_and_a_slow_clock_do_not_lock_a_player_out() {
    let mut world = party(&[0, 1]);
    start(&mut world);
    meanwhile(&mut world, &[Step::Kill(1)]);
    world.pcs[1].disk.memory = Default::default();
    world.pcs[1].skew = -86_400_000;
    world.run_for(seconds(10));
    world.apply(Step::Start(1));
    world.run_for(seconds(60));
    must_end_well(&mut world);
}

#[test]
fn a_clock_that_was_set_back_locks_nobody_out() {
    for (pc, other) in [(0, 1), (1, 0)] {
        let mut world = party(&[0, 1]);
        start(&mut world);
        meanwhile(&mut world, &[Step::Kill(pc)]);
        world.pcs[pc].skew = -86_400_000;
        world.run_for(seconds(20));
        world.apply(Step::Start(pc));
        world.run_for(seconds(4));
        // Its handshakes carry the time and look like old ones sent again: the other side has to make one.
        assert!(sees(&world, pc, other).is_some_and(|p| p.path.is_some()), "pc{pc}");
        open_world(&mut world, pc);
        must_end_well(&mut world);
    }
}

#[test]
fn a_closed_lid_costs_nothing_but_the_time_it_was_closed() {
    let mut world = party(&[0, 1]);
    start(&mut world);
    open_world(&mut world, 0);
    meanwhile(&mut world, &[Step::Sleep(1)]);
    world.run_for(seconds(600));
    world.apply(Step::Rise(1));
    world.run_for(seconds(20));
    must_end_well(&mut world);
}

#[test]
fn a_cut_cable_between_two_is_noticed_and_mended() {
    let mut world = party(&[0, 1, 2]);
    start(&mut world);
    open_world(&mut world, 0);
    meanwhile(&mut world, &[Step::Cut(0, 1)]);
    world.run_for(seconds(400));
    assert!(sees(&world, 1, 2).is_some_and(|p| p.path.is_some()), "the third is not concerned");
    world.apply(Step::Mend(0, 1));
    world.run_for(seconds(60));
    must_end_well(&mut world);
}

#[test]
fn full_queues_lose_packets_and_nothing_else() {
    let mut world = party(&[0, 1]);
    start(&mut world);
    open_world(&mut world, 0);
    open_world(&mut world, 1);
    meanwhile(&mut world, &[Step::Full(1)]);
    world.run_for(seconds(30));
    assert!(dropped(&world, 1, DropReason::WanFull) > 0 && dropped(&world, 1, DropReason::LanFull) > 0);
    world.apply(Step::Free(1));
    world.run_for(seconds(40));
    must_end_well(&mut world);
}

#[test]
fn a_member_who_lies_reaches_nobody_and_is_counted() {
    let mut world = party(&[0, 1, 2]);
    start(&mut world);
    open_world(&mut world, 0);
    meanwhile(&mut world, &[Step::Kill(2)]);
    world.apply(Step::Turn(2));
    world.run_for(seconds(120));
    for pc in [0, 1] {
        for why in [
            DropReason::ForgedSource,
            DropReason::PortClosedIn,
            DropReason::NotForUs,
            DropReason::HopLimit,
            DropReason::BadFrame,
            DropReason::BadRecord,
            DropReason::Pace,
            DropReason::Duplicate,
        ] {
            assert!(dropped(&world, pc, why) > 0, "pc{pc} counts no {}", why.name());
        }
        assert_eq!(world.pcs[pc].disk.epoch, 0, "nobody but the owner re-keys the party");
    }
    must_end_well(&mut world);
}

#[test]
fn only_the_doors_of_the_game_are_open() {
    let mut world = party(&[0, 1]);
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(4));
    world.apply(Step::Knock(1, 0));
    world.apply(Step::Join(1, (0, WORLD)));
    world.apply(Step::Ask((1, CLIENT)));
    world.run_for(seconds(1));
    assert_eq!(heard(&world, (0, WORLD)), 1, "the game's own port, named by its announcement");
    assert_eq!(heard(&world, (0, 4)), 0, "and nothing else");
    // The one who knocks is stopped at home already.
    assert_eq!(dropped(&world, 1, DropReason::PortClosedOut), 4);
    must_end_well(&mut world);
}

#[test]
fn a_slow_hand_over_and_merged_datagrams_change_nothing() {
    let mut world = party(&[0, 1]);
    world.chaos.gro = true;
    world.chaos.slack = Duration::from_millis(15);
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(20));
    must_end_well(&mut world);
}

#[test]
fn a_player_who_wants_to_know_soon_who_is_away_is_not_told_so_of_who_is_silent() {
    // In one network, where keepalives are rare, and far from each other.
    let mut world = party(&[0, 0, 1]);
    world.party.knobs.heartbeat = seconds(5);
    world.party.knobs.away_after = seconds(12);
    start(&mut world);
    let quiet = world.now.0;
    world.run_for(seconds(300));
    for pc in 0..3 {
        let away = |e: &&Event| matches!(e, Event::Warning(trouble) if trouble.code == "peer_away");
        assert!(!told(&world, pc, quiet).iter().any(away), "pc{pc}: {:?}", told(&world, pc, quiet));
    }
    // And it is told of who really is.
    meanwhile(&mut world, &[Step::Kill(0)]);
    world.run_for(seconds(14));
    assert_eq!(sees(&world, 1, 0).unwrap().state, "away");
    assert_eq!(sees(&world, 2, 0).unwrap().state, "away");
    world.apply(Step::Start(0));
    world.run_for(seconds(15));
    must_end_well(&mut world);
}

#[test]
fn whoever_restarts_is_seen_again_by_both_at_once() {
    for (homes, which) in [([0, 0], 0), ([0, 0], 1), ([0, 1], 0), ([0, 1], 1)] {
        for down in [200, 1_000, 4_000, 8_000, 10_000, 12_000, 14_000, 16_000, 20_000, 30_000, 60_000] {
            let mut world = party(&homes);
            start(&mut world);
            world.run_for(seconds(30));
            world.apply(Step::Kill(which));
            world.run_for(Duration::from_millis(down));
            world.apply(Step::Start(which));
            // Long enough that what was left of the old run is gone.
            world.run_for(Duration::from_millis(800));
            for a in 0..2 {
                let path = sees(&world, a, 1 - a).and_then(|p| p.path);
                assert!(
                    path.is_some(),
                    "{homes:?}: pc{which} was away for {down} ms, and pc{a} sees no path"
                );
            }
        }
    }
}
