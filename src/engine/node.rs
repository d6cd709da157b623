//! The node: composes all machines of one peer. What host and sim drive.
//!
//! This file holds the state and the doors. Behind them: `wan` (datagrams in), `inward` and `outward` (packets of games),
//! `listing` (the party's list of games), `scripts` (questions to plugins), `party` (records and seats), `planes` (control
//! planes), `measuring` (the way to a peer), `members` (messages, goodbyes, re-keying), `timers`
//! (deadlines, paths, who is away) and `report` (status). Every door
//! ends in `settle`, which turns what the sub-machines want into effects, so that one input is followed by one drain.

mod due;
mod friends;
mod inward;
mod listing;
mod measuring;
mod meeting;
mod members;
mod mtu;
mod nat;
mod outward;
mod party;
mod planes;
mod punching;
mod rekeying;
mod relays;
mod report;
mod roster;
mod scripts;
mod timers;
mod wan;

use super::counters::{Counters, DropReason};
use super::effect::{Effect, HostFact, Knobs, LanConfig, Memory, Setup};
use super::friend::Forwarder;
use super::gossip::Gossip;
use super::lan::firewall::Firewall;
use super::lan::games::Games;
use super::lan::guard::{EchoGuard, Hasher, TwinGuard};
use super::lan::listing::Listing;
use super::lan::pace::Bucket;
use super::lan::repeat::Repeats;
use super::link::{Link, LinkTimes};
use super::path::route::{Ground, RelaySlot};
use super::roster::Roster;
use super::script::Scripts;
use super::sink::{LanSink, WanSink};
use super::tunnel::noise::Noise;
use super::tunnel::peer::Peer;
use super::tunnel::session::Session;
use crate::buf::aside::Aside;
use crate::buf::batch::{Batch, Datagrams, Source};
use crate::model::addr::{Card, Endpoint, Seat, Subnet};
use crate::model::command::Command;
use crate::model::dice::{Dice, Seed};
use crate::model::id::{LinkId, PartyId, PeerId};
use crate::model::key::{NodeKeys, PartyKeys};
use crate::model::limits;
use crate::model::record::Envelope;
use crate::model::record::Rotation;
use crate::model::script::ScriptReply;
use crate::model::status::{Event, Status};
use crate::model::time::{Mono, Now};
use crate::rules::ruleset::{Pace, RuleIx, Ruleset};
use crate::wire::control::Down;
use crate::wire::frame::Frame;
use due::Due;
use measuring::Measuring;
use meeting::Meeting;
use nat::Nat;
use rekeying::Rekeying;
use relays::Relays;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Handshake initiations that are looked at per second: each costs a key exchange, whoever sent it.
const INITIATIONS: Pace = Pace { per_second: 200, burst: 200 };
/// `ready` waits this long for the first word of a control plane, so that the address in it is settled.
const READY_PATIENCE: Duration = Duration::from_secs(3);

/// And without any, for the first word of its router, so that the invite names what the router opened.
const LEASE_PATIENCE: Duration = Duration::from_millis(1200);

/// This node: who it is and what it says about itself.
#[derive(Debug)]
struct Me {
    keys: NodeKeys,
    id: PeerId,
    name: String,
    seat: Seat,
    seat_since: u64,
    /// The claim to the seat is new and was told nobody.
    unseen: bool,
    seq: u64,
    /// The newest record, sealed with that number.
    envelope: Option<Envelope>,
    incarnation: u64,
    /// Random per start; marks our discovery frames.
    run: u32,
    /// The number of the last discovery frame.
    frames: u64,
}

/// The party: its keys, its network, its people.
#[derive(Debug)]
struct Party {
    id: PartyId,
    keys: PartyKeys,
    owned_slot: Option<u8>,
    subnet: Subnet,
    roster: Roster,
    invite: String,
    /// The rotation that led to this epoch, if this node made it.
    rotation: Option<Rotation>,
}

/// What the world reported.
#[derive(Debug, Default)]
struct World {
    cards: Vec<Card>,
    sockets: Vec<SocketAddr>,
    /// Allocations on relays that are up, and the relays' addresses.
    relays: Vec<RelaySlot>,
    relay_ips: Vec<IpAddr>,
    /// Members that pass packets on.
    friends: Vec<Seat>,
}

impl World {
    /// For questions that friends have no part in.
    fn ground(&self) -> Ground<'_> {
        self.ground_for(false)
    }

    /// As one peer's path finder is to see it: with or without the members that pass packets on.
    fn ground_for(&self, lent: bool) -> Ground<'_> {
        Ground {
            cards: &self.cards,
            relays: &self.relays,
            relay_ips: &self.relay_ips,
            friends: if lent { &self.friends } else { &[] },
        }
    }
}

/// The LAN side's machines.
#[derive(Debug)]
struct Lan {
    rules: Arc<Ruleset>,
    /// For telling payloads apart.
    hash: Hasher,
    echo: EchoGuard,
    twin: TwinGuard,
    firewall: Firewall,
    games: Games,
    /// What the party is told of this computer's games.
    listing: Listing,
    repeats: Repeats,
    buckets: BTreeMap<RuleIx, Bucket>,
    /// The device's MTU.
    mtu: u16,
}

/// The other peers and how to find them fast.
#[derive(Debug)]
struct Peers<S> {
    list: Vec<Peer<S>>,
    by_index: BTreeMap<u32, usize>,
    by_seat: [Option<u8>; 256],
}

impl<S> Peers<S> {
    /// Where the peer is in the list.
    fn at(&self, id: PeerId) -> Option<usize> {
        self.list.iter().position(|p| p.id == id)
    }

    fn get(&self, id: PeerId) -> Option<&Peer<S>> {
        self.list.iter().find(|p| p.id == id)
    }

    fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer<S>> {
        self.list.iter_mut().find(|p| p.id == id)
    }
}

/// What waits to be done at the end of an input or at the next chance.
#[derive(Debug)]
struct Todo {
    /// This node's record changed: publish it.
    publish: bool,
    /// What is to be remembered changed.
    remember: bool,
    /// Peers that are up wait for our newest record since then.
    greet: Option<Mono>,
    /// `ready` was not said yet; say it by then.
    ready_by: Option<Mono>,
    /// The router said which port it forwards, or that it forwards none.
    router_spoke: bool,
    /// Events that come after `ready`.
    held: Vec<Event>,
    /// When the firewall is swept next.
    sweep: Mono,
    /// Everybody was told goodbye.
    stopped: bool,
}

/// One peer of a party.
#[derive(Debug)]
pub struct Node<S = Noise> {
    me: Me,
    party: Party,
    world: World,
    lan: Lan,
    peers: Peers<S>,
    links: Vec<(Link, String)>,
    relays: Relays,
    nat: Nat,
    /// Which peers have a block of extra sockets.
    blocks: [Option<PeerId>; punching::BLOCKS],
    /// Questions to servers from extra sockets.
    asked: VecDeque<punching::Asked>,
    knobs: Knobs,
    seed: Seed,
    dice: Dice,
    initiations: Bucket,
    meeting: Meeting,
    gossip: Gossip,
    forwarder: Forwarder,
    /// What is to be passed on, and was read before its turn.
    aside: Aside<(Seat, Frame)>,
    rekeying: Option<Rekeying<S>>,
    measuring: Measuring,
    scripts: Scripts,
    todo: Todo,
    due: Due,
    effects: VecDeque<Effect>,
    counters: Counters,
    /// One opened datagram; the packets of games go straight to the sink instead.
    scratch: Box<[u8; limits::SLOT_BYTES]>,
}

impl<S: Session> Node<S> {
    /// A new node. Its first effects (open the links, configure the LAN) are ready to be polled.
    #[must_use]
    pub fn new(setup: Setup, seed: Seed, now: Now) -> Self {
        let keys = NodeKeys::new(&setup.secret);
        let id = keys.id();
        let mut dice = seed.dice("node");
        let links = Self::links(&setup, &seed);
        let knobs = setup.knobs;
        // With nothing but its own addresses a host waits only for what its router says of them.
        let alone = setup.links.is_empty() && setup.direct.addresses.is_empty();
        let patience = if alone { LEASE_PATIENCE } else { READY_PATIENCE };
        let hash = Hasher::new(dice.u64());
        let scripts = Scripts::new(setup.rules.plugins(), hash, now.mono);
        let mut node = Self {
            me: Me {
                id,
                name: crate::model::record::tidy_name(&setup.name),
                seat: Seat(1),
                seat_since: now.unix.as_secs(),
                unseen: setup.memory.seat.is_none(),
                seq: setup.memory.seq,
                envelope: None,
                incarnation: now.unix_ms(),
                run: dice.u32(),
                frames: 0,
                keys,
            },
            party: Party {
                id: setup.party.id,
                keys: PartyKeys::new(setup.party.id, setup.party.epoch, &setup.party.secret),
                owned_slot: setup.party.owned_slot,
                subnet: setup.party.subnet,
                roster: Roster::new(id),
                invite: setup.invite,
                rotation: setup.memory.rotation.clone().filter(|r| r.epoch == setup.party.epoch),
            },
            world: World::default(),
            lan: Lan {
                rules: setup.rules,
                hash,
                echo: EchoGuard::new(dice.u64(), knobs.echo_window),
                twin: TwinGuard::new(dice.u64(), knobs.twin_window),
                firewall: Firewall::new(setup.open),
                games: Games::default(),
                listing: Listing::default(),
                repeats: Repeats::default(),
                buckets: BTreeMap::new(),
                mtu: limits::MTU,
            },
            peers: Peers { list: Vec::new(), by_index: BTreeMap::new(), by_seat: [None; 256] },
            links,
            relays: Relays::new(setup.relays, &seed),
            nat: Nat::new(&seed, now),
            blocks: [None; punching::BLOCKS],
            asked: VecDeque::new(),
            knobs,
            seed,
            dice,
            initiations: Bucket::new(INITIATIONS, now.mono),
            forwarder: Forwarder::new(setup.direct.friend_relay, now.mono),
            aside: Aside::default(),
            meeting: Meeting::new(setup.direct, seed.dice("meeting"), now.mono),
            gossip: Gossip::new(seed.dice("gossip"), now.mono),
            rekeying: None,
            measuring: Measuring::new(now.mono),
            scripts,
            todo: Todo {
                publish: true,
                remember: true,
                greet: None,
                ready_by: Some(now.mono + patience),
                router_spoke: false,
                held: Vec::new(),
                sweep: now.mono,
                stopped: false,
            },
            due: Due::new(),
            effects: VecDeque::new(),
            counters: Counters::default(),
            scratch: Box::new([0; limits::SLOT_BYTES]),
        };
        node.remember_peers(&setup.memory, now);
        node.choose_seat(setup.memory.seat, now);
        node.configure_lan();
        node.plugins_changed(&setup.plugins, now);
        node.settle(now);
        node
    }

    fn links(setup: &Setup, seed: &Seed) -> Vec<(Link, String)> {
        let times = LinkTimes {
            heartbeat: setup.knobs.heartbeat,
            backoff_first: setup.knobs.backoff_first,
            backoff_most: setup.knobs.backoff_most,
        };
        let link = |(n, l): (usize, &super::effect::LinkSetup)| {
            (Link::new(times, seed.dice(&format!("link {n}"))), l.control.clone())
        };
        setup.links.iter().enumerate().map(link).collect()
    }

    fn remember_peers(&mut self, memory: &Memory, now: Now) {
        for envelope in memory.peers.iter().take(limits::PEERS) {
            // A record of an older epoch, or a damaged one, is simply not remembered.
            if let Ok((id, _)) = self.party.roster.learn(envelope.clone(), &self.party.keys) {
                self.meet(id, now);
            }
        }
    }

    /// Packets of games on this computer.
    pub fn handle_lan(
        &mut self,
        batch: &mut Batch,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        for (source, slot) in batch.iter_mut() {
            match source {
                Source::Tun => self.outward_tun(slot, now, wan, lan),
                Source::Card(card) => self.outward_card(card, slot, now, wan),
            }
        }
        self.release(now, wan, lan);
        self.settle(now);
    }

    /// Datagrams from the network.
    pub fn handle_wan(
        &mut self,
        datagrams: Datagrams<'_>,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        let from = Endpoint { via: datagrams.via, to: datagrams.from };
        for wire in datagrams.iter() {
            self.datagram(from, wire, now, wan, lan);
        }
        self.answer_relays(now, wan);
        self.release(now, wan, lan);
        self.settle(now);
    }

    /// The deadline has come.
    pub fn handle_timeout(&mut self, now: Now, wan: &mut impl WanSink, lan: &mut impl LanSink) {
        self.due.forget();
        self.run_timers(now, wan, lan);
        self.run_scripts(now, wan, lan);
        self.settle(now);
    }

    /// A plugin answers a question, or somebody says for it why it does not.
    pub fn handle_reply(
        &mut self,
        reply: ScriptReply,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        self.due.forget();
        self.replied(reply, now, wan, lan);
        self.settle(now);
    }

    /// A control plane says something.
    pub fn handle_control(&mut self, link: LinkId, message: Down, now: Now) {
        self.due.forget();
        self.control(link, message, now);
        self.settle(now);
    }

    /// The world reports something.
    pub fn handle_fact(&mut self, fact: HostFact, now: Now) {
        self.due.forget();
        match fact {
            HostFact::Cards(cards) => self.cards_changed(cards, now),
            HostFact::Sockets(sockets) => {
                self.nat.set_local_port(&sockets);
                self.todo.publish |= self.world.sockets != sockets;
                self.world.sockets = sockets;
            }
            HostFact::Rules(rules) => {
                self.rules_changed(&rules, now);
                self.games_move(&rules, now);
                self.lan.rules = rules;
                self.lan.buckets.clear();
                self.peers.list.iter_mut().for_each(|p| p.inbound.buckets.clear());
                self.todo.publish = true;
            }
            HostFact::Plugins(plugins) => self.plugins_changed(&plugins, now),
            HostFact::Unreachable(_) => {}
            HostFact::StreamUp(stream) => self.relays.stream_up(stream, now.mono),
            HostFact::StreamDown { stream, why } => self.relays.stream_down(stream, why, now.mono),
            HostFact::Relays(offers) => self.relays_offered(offers, true, now),
            HostFact::Leased(lease) => {
                self.todo.publish |= self.nat.set_lease(lease);
                // The invite is as good as it gets.
                self.todo.router_spoke = true;
                self.say_nat();
            }
            HostFact::LeaseReport(report) => {
                self.nat.set_lease_report(report);
                self.todo.router_spoke = true;
            }
            HostFact::Beacon(addresses) => self.beacons(&addresses, now.mono),
            HostFact::Woke => self.world_shook(now),
        }
        self.settle(now);
    }

    /// Somebody asks for something. Goodbyes go out at once.
    pub fn handle_command(&mut self, command: Command, now: Now, wan: &mut impl WanSink) {
        self.due.forget();
        match command {
            Command::Kick(peer) => self.kick(peer, now, wan),
            Command::Measure { peer, quick, ticket } => self.measure((peer, quick, ticket), now, wan),
            Command::Leave => self.leave(now, wan),
        }
        self.settle(now);
    }

    /// The next thing the node wants; take all of them after each input.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What people are shown.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        self.report(now)
    }

    /// This node's virtual addresses.
    #[must_use]
    pub fn addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        (self.party.subnet.v4(self.me.seat), self.party.subnet.v6(self.party.id, self.me.seat))
    }

    fn configure_lan(&mut self) {
        let (v4, v6) = self.addresses();
        let config = LanConfig { v4, subnet: self.party.subnet, v6, mtu: self.lan.mtu };
        self.effects.push_back(Effect::ConfigureLan(config));
    }

    fn event(&mut self, event: Event) {
        if self.todo.ready_by.is_some() && !matches!(event, Event::Error(_)) {
            // `ready` comes first, and waits until the address in it is settled.
            self.todo.held.push(event);
        } else if self.effects.len() < limits::EFFECTS {
            self.effects.push_back(Effect::Event(event));
        }
    }

    fn dropped(&mut self, why: DropReason) {
        self.counters.drop(why);
    }

    fn peer_at(&self, seat: Seat) -> Option<usize> {
        self.peers.by_seat.get(usize::from(seat.0)).copied().flatten().map(usize::from)
    }
}
