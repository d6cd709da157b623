//! Parties in worlds with NATs.

use super::{Net, Router, Seed, Weather, World, world_of};
use lanrage::sim::plan::{self, Site};
use lanrage::sim::server::Server;
use std::time::Duration;

/// A party in these networks: the n-th computer is in `sites[homes[n]]`. Fifteen milliseconds from each home to the internet,
/// as in the lab. Nobody has started yet.
pub(crate) fn nat_party(sites: &[Site], homes: &[usize], relays: u8) -> World {
    nat_party_with(sites, homes, relays, true)
}

/// The same with no server of any kind: who starts follows the invite of `world.party.guide`.
pub(crate) fn nat_serverless(sites: &[Site], homes: &[usize]) -> World {
    let mut world = nat_party_with(sites, homes, 0, false);
    world.party.guide = Some(0);
    world
}

fn nat_party_with(sites: &[Site], homes: &[usize], relays: u8, server: bool) -> World {
    let seed = Seed::from_u64(homes.iter().fold(9, |acc, h| acc * 31 + *h as u64));
    let lan = Weather { delay: Duration::from_micros(400), ..Weather::default() };
    let wan =
        Weather { delay: Duration::from_millis(30), jitter: Duration::from_millis(2), ..Weather::default() };
    let mut net = Net::new(vec![Router::None; sites.len()], lan, wan, seed.fork("net"));
    plan::lay(&mut net, sites, seed.fork("boxes"));
    let cards = homes.iter().enumerate().map(|(n, home)| plan::card(sites, *home, 10 + n));
    let mut world = world_of(net, cards.collect(), seed, server);
    (0..relays).for_each(|n| world.add_server(Server::new(n, seed)));
    world
}
