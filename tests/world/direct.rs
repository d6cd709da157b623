//! Parties without any control plane, told by hand: the invite names the host's addresses, and the rest follows.

use crate::support::nat::*;
use crate::support::*;
use lanrage::engine::counters::{Count, DropReason};
use lanrage::model::nat::PortMapping;
use lanrage::model::status::{Event, PathKind};
use lanrage::sim::fault::Step;
use lanrage::sim::nat::Kind;
use lanrage::sim::plan::Site;
use lanrage::sim::world::World;
use std::time::Duration;

fn count(world: &World, pc: usize, what: Count) -> u64 {
    world.pcs[pc].run.as_ref().unwrap().node.counters().count(what)
}

fn dropped(world: &World, pc: usize, why: DropReason) -> u64 {
    world.pcs[pc].run.as_ref().unwrap().node.counters().dropped(why)
}

fn all_joined(world: &World, who: &[usize]) {
    for a in who {
        for b in who.iter().filter(|b| *b != a) {
            let seen = sees(world, *a, *b);
            assert!(seen.as_ref().is_some_and(|p| p.path.is_some()), "pc{a} and pc{b}: {seen:?}");
        }
    }
}

#[test]
fn guests_who_know_only_the_hosts_address_reach_each_other() {
    let mut world = serverless(&[0, 1, 2]);
    world.apply(Step::Start(0));
    world.run_for(seconds(2));
    assert_eq!(world.pcs[0].invite, [(address(0, 10), 41_000).into()]);
    let before = world.now.0;
    world.apply(Step::Start(1));
    world.apply(Step::Start(2));
    world.run_for(seconds(1));
    all_joined(&world, &[0, 1, 2]);
    let first = told(&world, 1, before).iter().any(|e| matches!(e, Event::Ready { .. }));
    assert!(first, "ready as soon as somebody answered");
    open_world(&mut world, 1);
    must_end_well(&mut world);
}

#[test]
fn the_party_goes_on_without_its_host_and_a_newcomer_joins_through_a_guest() {
    let mut world = serverless(&[0, 1, 2, 3]);
    for pc in 0..3 {
        world.apply(Step::Start(pc));
        world.run_for(seconds(2));
    }
    all_joined(&world, &[0, 1, 2]);
    world.apply(Step::Leave(0));
    world.run_for(seconds(5));
    all_joined(&world, &[1, 2]);
    assert!(world.pcs[2].invite.contains(&(address(2, 12), 41_000).into()), "{:?}", world.pcs[2].invite);
    // Any member's invite does; here the one of the last who came.
    world.party.guide = Some(2);
    world.apply(Step::Start(3));
    world.run_for(seconds(1));
    all_joined(&world, &[1, 2, 3]);
    must_hold(&world);
}

#[test]
fn a_guest_waits_for_a_host_that_is_late() {
    let mut world = serverless(&[0, 1]);
    world.pcs[0].invite = vec![(address(0, 10), 41_000).into()];
    world.apply(Step::Start(1));
    world.run_for(seconds(60));
    let asked = count(&world, 1, Count::KnocksSent);
    assert!((8..=16).contains(&asked), "{asked} questions in a minute");
    let status = world.pcs[1].run.as_ref().unwrap().node.status(world.pcs[1].now(world.now));
    assert_eq!(
        (status.control[0].control.as_str(), status.control[0].state.as_str()),
        ("direct", "connecting")
    );
    assert!(status.control[0].why.as_ref().unwrap().contains("198.18.0.10:41000"));
    world.apply(Step::Start(0));
    world.run_for(seconds(11));
    all_joined(&world, &[0, 1]);
    must_hold(&world);
}

#[test]
fn guests_hear_of_each_others_changes_though_half_of_all_packets_are_lost() {
    let mut world = serverless(&[0, 1, 2, 3]);
    world.chaos.fair = false;
    world.net.wan.loss = 500;
    for pc in 0..4 {
        world.apply(Step::Start(pc));
        world.run_for(seconds(2));
    }
    world.run_for(seconds(90));
    world.net.wan.loss = 0;
    world.run_for(seconds(40));
    all_joined(&world, &[0, 1, 2, 3]);
}

#[test]
fn quiet_evenings_cost_little() {
    let mut world = serverless(&[0, 1, 2, 3]);
    start(&mut world);
    world.run_for(seconds(10));
    let before: u64 = (0..4).map(|pc| count(&world, pc, Count::RecordsPassed)).sum();
    let sent: u64 = (0..4).map(|pc| count(&world, pc, Count::WanOut)).sum();
    world.run_for(seconds(300));
    let after: u64 = (0..4).map(|pc| count(&world, pc, Count::RecordsPassed)).sum();
    let all: u64 = (0..4).map(|pc| count(&world, pc, Count::WanOut)).sum();
    assert_eq!(after, before, "all agree and tell each other nothing");
    // Of twelve directions each: a ping and a pong in 15 s, sometimes a handshake, a sum in 30 s, and probes of the path.
    assert!(all - sent <= 1700, "{} datagrams in five minutes", all - sent);
    assert_eq!(dropped(&world, 0, DropReason::Flood), 0);
    must_end_well(&mut world);
}

#[test]
fn a_flood_of_knocks_costs_a_member_little_and_others_nothing() {
    let mut world = serverless(&[0, 1]);
    start(&mut world);
    world.run_for(seconds(5));
    let answered = count(&world, 0, Count::KnocksAnswered);
    let sent = count(&world, 0, Count::WanOut);
    let to = (address(0, 10), 41_000).into();
    for n in 0..20_000u32 {
        let from = ([198, 18, 5, (n % 200) as u8], 4000 + (n % 7) as u16).into();
        let mut bytes = vec![n as u8; 1200];
        bytes[..8].copy_from_slice(&[0xb5, b'l', b'r', b'k', 1, 1, 0, 0]);
        world.after(
            Duration::from_micros(u64::from(n) * 50),
            lanrage::sim::world::Event::Datagram { pc: 0, to, from, bytes },
        );
    }
    world.run_for(seconds(1));
    assert_eq!(count(&world, 0, Count::KnocksAnswered), answered);
    assert!(dropped(&world, 0, DropReason::KnockFlood) >= 18_000, "few are even opened");
    assert!(count(&world, 0, Count::WanOut) - sent < 10);
    must_end_well(&mut world);
}

#[test]
fn a_removal_reaches_those_who_stay_though_half_of_all_packets_are_lost() {
    let mut world = serverless(&[0, 1, 2, 3]);
    start(&mut world);
    world.chaos.fair = false;
    world.net.wan.loss = 500;
    world.party.grants = Some((0..3).map(|pc| world.pcs[pc].id).collect());
    world.apply(Step::Kick(3));
    world.run_for(seconds(40));
    for pc in 0..3 {
        assert_eq!(world.pcs[pc].disk.epoch, 1, "pc{pc}");
    }
    world.net.wan.loss = 0;
    world.run_for(seconds(60));
    all_joined(&world, &[0, 1, 2]);
    assert!(sees(&world, 0, 3).is_none() && world.pcs[3].disk.epoch == 0);
    must_hold(&world);
}

#[test]
fn a_removal_reaches_a_large_party_by_tunnels_alone() {
    let homes: Vec<usize> = (0..32).map(|n| n % 8).collect();
    let mut world = serverless(&homes);
    for pc in 0..32 {
        world.apply(Step::Start(pc));
        world.run_for(Duration::from_millis(if pc == 0 { 2000 } else { 200 }));
    }
    world.run_for(seconds(10));
    let others: Vec<usize> = (0..32).filter(|pc| *pc != 7).collect();
    all_joined(&world, &others);
    assert_eq!(dropped(&world, 0, DropReason::Flood), 0);
    world.chaos.fair = false;
    world.party.grants = Some(others.iter().map(|pc| world.pcs[*pc].id).collect());
    world.apply(Step::Kick(7));
    world.run_for(seconds(5));
    for pc in &others {
        assert_eq!(world.pcs[*pc].disk.epoch, 1, "pc{pc}");
    }
    world.run_for(seconds(10));
    all_joined(&world, &others);
}

#[test]
fn two_guests_that_nothing_connects_play_through_the_host_until_a_way_opens() {
    through_the_host(false);
}

#[test]
fn what_the_host_passes_on_waits_for_its_turn_and_is_sent_then() {
    through_the_host(true);
}

fn through_the_host(early: bool) {
    let mut world = serverless(&[0, 1, 2]);
    (world.chaos.fair, world.chaos.early) = (false, early);
    world.apply(Step::Cut(1, 2));
    for pc in 0..3 {
        world.apply(Step::Start(pc));
        world.run_for(seconds(2));
    }
    let kind = |world: &World, a, b| sees(world, a, b).and_then(|p| p.path).map(|p| p.kind);
    assert_eq!((kind(&world, 1, 2), kind(&world, 2, 1)), (Some(PathKind::Relay), Some(PathKind::Relay)));
    assert_eq!(kind(&world, 1, 0), Some(PathKind::Direct));
    assert!(count(&world, 0, Count::Forwarded) > 0);
    open_world(&mut world, 1);
    world.run_for(seconds(30));
    let heard = world.oracle.heard_by((2, LIST));
    assert!((19..=21).contains(&heard), "{heard} announcements in thirty seconds, through the host");
    world.apply(Step::Mend(1, 2));
    world.run_for(seconds(60));
    assert_eq!((kind(&world, 1, 2), kind(&world, 2, 1)), (Some(PathKind::Direct), Some(PathKind::Direct)));
    let forwarded = count(&world, 0, Count::Forwarded);
    world.run_for(seconds(120));
    assert!(count(&world, 0, Count::Forwarded) - forwarded <= 4, "nobody asks the host any more");
    // And back: the path that was found breaks.
    world.apply(Step::Cut(1, 2));
    world.run_for(seconds(12));
    assert_eq!((kind(&world, 1, 2), kind(&world, 2, 1)), (Some(PathKind::Relay), Some(PathKind::Relay)));
    must_hold(&world);
}

#[test]
fn a_host_that_goes_takes_the_way_through_it_along_and_says_so() {
    let mut world = serverless(&[0, 1, 2]);
    world.chaos.fair = false;
    world.apply(Step::Cut(1, 2));
    for pc in 0..3 {
        world.apply(Step::Start(pc));
        world.run_for(seconds(2));
    }
    world.apply(Step::Leave(0));
    world.run_for(seconds(10));
    let lost =
        told(&world, 1, seconds(4)).iter().any(|e| matches!(e, Event::Warning(t) if t.code == "path_lost"));
    assert!(lost && sees(&world, 1, 2).unwrap().path.is_none());
    world.apply(Step::Mend(1, 2));
    world.run_for(seconds(35));
    all_joined(&world, &[1, 2]);
}

#[test]
fn when_the_server_is_away_newcomers_come_directly_and_everybody_is_told_so() {
    let mut world = party(&[0, 1, 2]);
    world.party.guide = Some(0);
    world.apply(Step::Start(0));
    world.apply(Step::Start(1));
    world.run_for(seconds(3));
    all_joined(&world, &[0, 1]);
    let before = world.now.0;
    meanwhile(&mut world, &[Step::PlaneDown(0)]);
    world.run_for(seconds(5));
    let says = |pc| {
        told(&world, pc, before).iter().any(|e| match e {
            Event::Warning(t) => {
                t.code == "control_unreachable" && t.message.contains("invite from any player")
            }
            _ => false,
        })
    };
    assert!(says(0) && says(1));
    world.apply(Step::Start(2));
    world.run_for(seconds(4));
    all_joined(&world, &[0, 1, 2]);
    // And the server, back again, changes nothing.
    world.apply(Step::PlaneUp(0));
    world.run_for(seconds(60));
    all_joined(&world, &[0, 1, 2]);
    must_hold(&world);
}

#[test]
fn who_was_carried_to_another_network_is_found_again_through_the_others() {
    let mut world = serverless(&[0, 1, 2]);
    start(&mut world);
    world.run_for(seconds(2));
    all_joined(&world, &[0, 1, 2]);
    // Guest 1 moves and its new record reaches the host alone at first: nothing passes between the guests.
    meanwhile(&mut world, &[Step::Cut(1, 2), Step::Roam(1, card(5, 77))]);
    world.run_for(seconds(20));
    world.apply(Step::Mend(1, 2));
    world.run_for(seconds(75));
    all_joined(&world, &[0, 1, 2]);
    let path = sees(&world, 2, 1).and_then(|p| p.path).unwrap();
    assert_eq!((path.kind, path.remote.ip()), (PathKind::Direct, address(5, 77)));
    must_hold(&world);
}

/// A host that strangers reach, and two guests behind routers of their own; no server anywhere. How the guests reach each
/// other at first, and how in the end.
fn behind_routers(kinds: [Kind; 3]) -> [(PathKind, PathKind); 2] {
    let mut world = nat_serverless(&kinds.map(Site::new), &[0, 1, 2]);
    world.chaos.fair = false;
    for pc in 0..3 {
        world.apply(Step::Start(pc));
        world.run_for(seconds(2));
    }
    let kind = |world: &World, a, b| sees(world, a, b).and_then(|p| p.path).map(|p| p.kind).unwrap();
    assert_eq!((kind(&world, 0, 1), kind(&world, 0, 2)), (PathKind::Direct, PathKind::Direct), "{kinds:?}");
    let first = (kind(&world, 1, 2), kind(&world, 2, 1));
    world.run_for(seconds(20));
    let last = (kind(&world, 1, 2), kind(&world, 2, 1));
    must_hold(&world);
    [first, last]
}

#[test]
fn guests_behind_routers_learn_their_own_addresses_from_the_host_and_punch_to_each_other() {
    let direct = (PathKind::Direct, PathKind::Direct);
    for guest in [Kind::FullCone, Kind::RestrictedCone, Kind::PortRestricted] {
        for other in [Kind::FullCone, Kind::PortRestricted] {
            assert_eq!(behind_routers([Kind::Open, guest, other])[1], direct, "{guest:?} with {other:?}");
        }
    }
}

#[test]
fn guests_that_cannot_punch_play_through_the_host_at_once() {
    let relay = (PathKind::Relay, PathKind::Relay);
    assert_eq!(behind_routers([Kind::Open, Kind::Symmetric, Kind::Symmetric]), [relay; 2]);
}

#[test]
fn who_was_asleep_when_somebody_was_removed_catches_up_by_knocking() {
    let mut world = serverless(&[0, 1, 2, 3]);
    start(&mut world);
    meanwhile(&mut world, &[Step::Sleep(2)]);
    world.run_for(seconds(2));
    // No control plane tells the simulator who is to stay.
    world.party.grants = Some((0..3).map(|pc| world.pcs[pc].id).collect());
    world.apply(Step::Kick(3));
    world.run_for(seconds(1));
    assert!(world.pcs[3].run.is_none(), "who is removed is told so");
    // All its old sessions, and everybody's patience, end meanwhile.
    world.run_for(seconds(400));
    assert_eq!((world.pcs[1].disk.epoch, world.pcs[2].disk.epoch), (1, 0));
    world.apply(Step::Rise(2));
    world.run_for(seconds(30));
    assert_eq!(world.pcs[2].disk.epoch, 1);
    world.run_for(seconds(5));
    all_joined(&world, &[0, 1, 2]);
    must_hold(&world);
}

#[test]
fn a_host_behind_a_router_that_opens_a_port_is_found_there() {
    let router = Site { speaks: Some(PortMapping::Pcp), ..Site::new(Kind::Symmetric) };
    let mut world = nat_serverless(&[router, Site::new(Kind::PortRestricted)], &[0, 1]);
    world.apply(Step::Start(0));
    world.run_for(seconds(2));
    let run = world.pcs[0].run.as_ref().unwrap();
    let ready = run.events.iter().find(|(_, e)| matches!(e, Event::Ready { .. })).unwrap().0;
    assert!(
        ready.since(run.started) < Duration::from_millis(1200),
        "as soon as the router said so: {ready:?}"
    );
    let private = |a: &std::net::SocketAddr| match a.ip() {
        std::net::IpAddr::V4(a) => a.is_private(),
        std::net::IpAddr::V6(_) => false,
    };
    let invite = &world.pcs[0].invite;
    assert!(!private(&invite[0]) && private(invite.last().unwrap()), "the opened port first: {invite:?}");
    world.apply(Step::Start(1));
    world.run_for(seconds(2));
    all_joined(&world, &[0, 1]);
    let kinds = [(0, 1), (1, 0)].map(|(a, b)| sees(&world, a, b).and_then(|p| p.path).map(|p| p.kind));
    assert_eq!(kinds, [Some(PathKind::Direct); 2]);
    must_hold(&world);
}
