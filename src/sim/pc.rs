//! A simulated computer: its cards, its clock, what is installed and kept on its disk, and the node while it runs.

use super::game::{Program, Title};
use super::net::SimCard;
use super::rogue::Rogue;
use super::scripts::Stages;
use super::streams::Openings;
use crate::engine::effect::{Effect, LanConfig, Memory};
use crate::engine::node::Node;
use crate::engine::tunnel::plain::Plain;
use crate::model::id::{LinkId, PeerId};
use crate::model::key::{NodeKeys, NodeSecret, PartySecret};
use crate::model::measure::Measured;
use crate::model::status::{Event, Trouble};
use crate::model::time::{Mono, Now};
use crate::plugin::code::Code;
use crate::rules::ruleset::Ruleset;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The node as the simulator runs it.
pub type SimNode = Node<Plain>;

/// When the simulated world begins, by an honest wall clock (seconds since 1970).
pub const EPOCH: u64 = 1_800_000_000;

/// A simulated computer.
#[derive(Debug)]
pub struct Pc {
    /// The player.
    pub name: String,
    /// On its disk.
    pub secret: NodeSecret,
    /// Its name in the party.
    pub id: PeerId,
    /// Its cards; the first has the default route.
    pub cards: Vec<SimCard>,
    /// The UDP port of the tunnel.
    pub port: u16,
    /// The profiles that its node runs.
    pub titles: Vec<Title>,
    /// The rules of its node, if they are not those of `titles`.
    pub rules: Option<Arc<Ruleset>>,
    /// Its plugins.
    pub plugins: Vec<Code>,
    /// Its programs, and whether each runs.
    pub programs: Vec<(Program, bool)>,
    /// What the node asked to be kept.
    pub disk: Disk,
    /// The addresses that its invite names.
    pub invite: Vec<SocketAddr>,
    /// The node, while it runs.
    pub run: Option<Run>,
    /// It lies instead of running a node.
    pub rogue: Option<Box<Rogue>>,
    /// How often it was started.
    pub starts: u64,
    /// When its node was started, each time.
    pub born: Vec<Mono>,
    /// Milliseconds by which its wall clock is off.
    pub skew: i64,
    /// The lid is closed.
    pub asleep: bool,
    /// Removed from the party, or gone for good.
    pub out: bool,
    /// When its node stopped of itself last.
    pub left: Option<Mono>,
    /// What its nodes sent.
    pub sent: Sent,
    /// Every virtual address it ever had, and since when.
    pub addresses: Vec<(Mono, Ipv4Addr)>,
}

/// Datagrams and messages that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// To addresses of other computers.
    pub straight: Tally,
    /// To servers, by datagrams or streams.
    pub servers: Tally,
}

/// How many, and how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub packets: u64,
    /// Their length together.
    pub bytes: u64,
}

/// What survives a restart.
#[derive(Debug, Clone)]
pub struct Disk {
    /// As the node wants it kept.
    pub memory: Memory,
    /// The party's epoch.
    pub epoch: u32,
    /// The party's secret.
    pub party: PartySecret,
}

/// A running node.
#[derive(Debug)]
pub struct Run {
    /// The node.
    pub node: SimNode,
    /// When it was started, in world time.
    pub started: Mono,
    /// What its own clock said then.
    pub age: Duration,
    /// The moment it is to be woken next, in world time.
    pub wake: Option<Mono>,
    /// The reason it was woken for last, when, and how often at that moment.
    pub woken: (&'static str, Mono, u32),
    /// What the tunnel device is.
    pub lan: Option<LanConfig>,
    /// Its connections to control planes: the number of the present one, and whether it is open.
    pub links: BTreeMap<LinkId, u64>,
    /// Sockets, streams and the lease.
    pub open: Openings,
    /// To whom it has a path, and since when.
    pub paths: BTreeMap<PeerId, Mono>,
    /// What it told people.
    pub events: Vec<(Mono, Event)>,
    /// Its plugins.
    pub stages: Stages,
    /// What it measured, by ticket.
    pub measured: Vec<(u64, Result<Measured, Trouble>)>,
    /// Effects not looked at yet.
    pub effects: Vec<Effect>,
    /// The places of datagrams that were read before their turn.
    pub early: Vec<u8>,
}

impl Pc {
    /// A computer that is switched on, with nothing running yet.
    #[must_use]
    pub fn new(number: usize, secret: NodeSecret, cards: Vec<SimCard>, disk: Disk) -> Self {
        Self {
            name: format!("pc{number}"),
            id: NodeKeys::new(&secret).id(),
            secret,
            cards,
            port: 41_000,
            titles: Vec::new(),
            rules: None,
            plugins: Vec::new(),
            programs: Vec::new(),
            disk,
            invite: Vec::new(),
            run: None,
            rogue: None,
            starts: 0,
            born: Vec::new(),
            skew: 0,
            asleep: false,
            out: false,
            left: None,
            sent: Sent::default(),
            addresses: Vec::new(),
        }
    }

    /// Both clocks of this computer at a moment of the world.
    #[must_use]
    pub fn now(&self, world: Mono) -> Now {
        let mono = self.run.as_ref().map_or(world, |r| Mono(r.age) + world.since(r.started));
        let honest = Duration::from_secs(EPOCH) + world.0;
        let skew = Duration::from_millis(self.skew.unsigned_abs());
        let unix = if self.skew < 0 { honest.saturating_sub(skew) } else { honest + skew };
        Now { mono, unix }
    }

    /// Whether its node runs and can do something.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.run.is_some() && !self.asleep
    }

    /// The card with the default route.
    #[must_use]
    pub fn default_card(&self) -> &SimCard {
        &self.cards[0]
    }

    /// Its address in the party, while the tunnel device exists.
    #[must_use]
    pub fn virtual_address(&self) -> Option<Ipv4Addr> {
        self.run.as_ref()?.lan.map(|l| l.v4)
    }

    /// Whether it had this virtual address within the last `window`.
    #[must_use]
    pub fn had_address(&self, address: IpAddr, window: Duration, now: Mono) -> bool {
        let ends = self.addresses.iter().skip(1).map(|a| Some(a.0)).chain([None]);
        let mut lives = self.addresses.iter().zip(ends);
        lives.any(|((_, a), end)| IpAddr::V4(*a) == address && end.is_none_or(|e| now.since(e) < window))
    }

    /// The rules that its node runs.
    #[must_use]
    pub fn played(&self) -> Arc<Ruleset> {
        self.rules.clone().unwrap_or_else(|| super::rules_for(&self.titles))
    }

    /// Whether its node runs the profile of this game.
    #[must_use]
    pub fn plays(&self, title: Title) -> bool {
        self.titles.contains(&title)
    }
}
