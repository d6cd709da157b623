//! Small worlds for stories told by hand.

pub(crate) mod nat;

use lanrage::engine::effect::{Knobs, Memory};
use lanrage::engine::lobby::Knobs as LobbyKnobs;
use lanrage::model::addr::Subnet;
use lanrage::model::dice::Seed;
use lanrage::model::key::PartySecret;
use lanrage::model::status::{Event, PeerStatus};
use lanrage::sim::control::Plane;
use lanrage::sim::fault::Step;
use lanrage::sim::game::{ARENA, How, Program, Title};
use lanrage::sim::link::Weather;
use lanrage::sim::net::{Net, Router, SimCard};
use lanrage::sim::pc::{Disk, Pc};
use lanrage::sim::run;
use lanrage::sim::world::{PartyFacts, World};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The programs of every computer, in this order.
pub(crate) const WORLD: usize = 0;
pub(crate) const LIST: usize = 1;
pub(crate) const CLIENT: usize = 3;

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn address(home: usize, number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 18, home as u8, number))
}

pub(crate) fn card(home: usize, number: u8) -> SimCard {
    SimCard::new(0, address(home, number), 24, home)
}

/// A party at these homes: the n-th computer lives in home `homes[n]`; eight homes exist. Nobody has started yet.
pub(crate) fn party(homes: &[usize]) -> World {
    party_with(homes, true)
}

/// The same without any control plane: who starts follows the invite of `world.party.guide`.
pub(crate) fn serverless(homes: &[usize]) -> World {
    let mut world = party_with(homes, false);
    world.party.guide = Some(0);
    world
}

fn party_with(homes: &[usize], server: bool) -> World {
    let seed = Seed::from_u64(homes.iter().fold(7u64, |acc, h| acc.wrapping_mul(31) + *h as u64));
    let lan = Weather { delay: Duration::from_micros(400), ..Weather::default() };
    let wan =
        Weather { delay: Duration::from_millis(30), jitter: Duration::from_millis(8), ..Weather::default() };
    let net = Net::new(vec![Router::Open; 8], lan, wan, seed.fork("net"));
    let cards = homes.iter().enumerate().map(|(n, home)| card(*home, 10 + n as u8));
    world_of(net, cards.collect(), seed, server)
}

/// Computers with these cards, each with the programs of all; the first has made the party.
fn world_of(net: Net, cards: Vec<SimCard>, seed: Seed, server: bool) -> World {
    let disk = Disk { memory: Memory::default(), epoch: 0, party: PartySecret([5; 16]) };
    let pcs = cards.into_iter().enumerate().map(|(n, card)| {
        let mut pc = Pc::new(n, World::secret(seed, n), vec![card], disk.clone());
        pc.titles = vec![Title::Minecraft, Title::OpenArena];
        pc.programs = programs(n);
        pc
    });
    let facts = PartyFacts {
        id: World::party_of(&World::secret(seed, 0)),
        owner: 0,
        subnet: Subnet([10, 83, 7]),
        guide: None,
        grants: None,
        knobs: Knobs::default(),
    };
    let plane = Plane::server("server:http://sim", Duration::from_millis(20), LobbyKnobs::default(), seed);
    let planes = if server { vec![plane] } else { Vec::new() };
    let mut world = World::new(net, pcs.collect(), planes, facts, seed, false);
    world.chaos.fair = true;
    world
}

/// A world that is closed at first, its list, a server, a client.
fn programs(n: usize) -> Vec<(Program, bool)> {
    let world = Program::Announcer {
        port: 25_565 + n as u16,
        from: 40_000 + n as u16,
        period: Duration::from_millis(1500),
        how: How::Default,
        always: None,
    };
    let client = Program::Client { from: ARENA + 100 };
    vec![
        (world, false),
        (Program::Listener, true),
        (Program::Server, n == 0),
        (client, true),
        (Program::Doors, true),
    ]
}

/// Starts everybody, the owner first, and lets them find each other.
pub(crate) fn start(world: &mut World) {
    for pc in 0..world.pcs.len() {
        world.apply(Step::Start(pc));
        world.run_for(seconds(1));
    }
    world.run_for(seconds(3));
}

/// A player opens a world to the LAN.
pub(crate) fn open_world(world: &mut World, pc: usize) {
    world.apply(Step::On((pc, WORLD)));
}

/// Something that is allowed to be lost or complained about happens.
pub(crate) fn meanwhile(world: &mut World, steps: &[Step]) {
    world.chaos.fair = false;
    for step in steps {
        world.apply(step.clone());
    }
}

/// The quiet stretch in which every packet counts, and the questions at the end; everything held.
pub(crate) fn must_end_well(world: &mut World) {
    run::end(world);
    must_hold(world);
}

pub(crate) fn must_hold(world: &World) {
    let (violations, more) = world.oracle.verdict();
    let list: Vec<String> =
        violations.iter().map(|v| format!("{:.3} s: {}", v.at.0.as_secs_f64(), v.what)).collect();
    assert!(list.is_empty(), "{} and {more} more", list.join("\n"));
}

/// What a computer's node says about another.
pub(crate) fn sees(world: &World, a: usize, b: usize) -> Option<PeerStatus> {
    let run = world.pcs[a].run.as_ref()?;
    let status = run.node.status(world.pcs[a].now(world.now));
    status.peers.into_iter().find(|p| p.peer == world.pcs[b].id)
}

/// Since a moment of the world, what a node told its player.
pub(crate) fn told(world: &World, pc: usize, since: Duration) -> Vec<&Event> {
    let run = world.pcs[pc].run.as_ref().expect("it runs");
    run.events.iter().filter(|(at, _)| at.0 >= since).map(|(_, event)| event).collect()
}
