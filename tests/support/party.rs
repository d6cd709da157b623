//! A few nodes on a perfect network in memory: for tests and benches that look at one thing and want no world around it.
#![allow(dead_code, unreachable_pub, reason = "every test takes what it needs")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that is wrong about its own world should stop"
)]

use lanrage::buf::batch::{Batch, Datagrams, Source};
use lanrage::engine::effect::{Effect, HostFact, Knobs, LinkSetup, Memory, PartySetup, Setup};
use lanrage::engine::node::Node;
use lanrage::engine::sink::{Delivery, LanSink, WanSink};
use lanrage::engine::tunnel::session::Session;
use lanrage::model::addr::{Card, Endpoint, Net, Subnet, Via};
use lanrage::model::dice::Seed;
use lanrage::model::id::{CardId, LinkId, PartyId};
use lanrage::model::key::{NodeKeys, NodeSecret, PartySecret};
use lanrage::model::record::Envelope;
use lanrage::model::script::{PluginFacts, ScriptCall};
use lanrage::model::status::Event;
use lanrage::model::time::{Mono, Now};
use lanrage::rules::compile::compile;
use lanrage::rules::ruleset::Ruleset;
use lanrage::rules::shipped;
use lanrage::wire::control::{Down, Nonce, Up};
use lanrage::wire::packet::{PacketView, write_udp};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where a node's datagrams end up: kept in slots that are used again, so that counting allocations is fair.
#[derive(Debug, Default)]
pub struct Wire {
    pub sent: Vec<(SocketAddr, Vec<u8>)>,
    pub used: usize,
}

impl WanSink for Wire {
    fn reserve(&mut self, to: Endpoint, len: usize) -> Option<&mut [u8]> {
        if self.used == self.sent.len() {
            self.sent.push((to.to, Vec::with_capacity(2048)));
        }
        let (at, bytes) = &mut self.sent[self.used];
        *at = to.to;
        bytes.resize(len, 0);
        Some(bytes)
    }
    fn commit(&mut self, len: usize) {
        self.sent[self.used].1.truncate(len);
        self.used += 1;
    }
}

/// What a node handed to its games.
#[derive(Debug, Default)]
pub struct Games {
    pub got: Vec<(Delivery, Vec<u8>)>,
    pub used: usize,
}

impl LanSink for Games {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.used == self.got.len() {
            self.got.push((Delivery::Tun, Vec::with_capacity(2048)));
        }
        let bytes = &mut self.got[self.used].1;
        bytes.resize(len, 0);
        Some(bytes)
    }
    fn commit(&mut self, len: usize, how: Delivery) {
        self.got[self.used].0 = how;
        self.got[self.used].1.truncate(len);
        self.used += 1;
    }
}

/// One node and its surroundings.
#[derive(Debug)]
pub struct Seat<S> {
    pub node: Node<S>,
    pub socket: SocketAddr,
    pub games: Games,
    pub events: Vec<Event>,
    /// Questions to plugins, for the test to answer.
    pub asked: Vec<ScriptCall>,
    pub memory: Memory,
    pub stopped: bool,
}

/// A party on a perfect network with one perfect control plane.
#[derive(Debug)]
pub struct Party<S> {
    pub seats: Vec<Seat<S>>,
    pub now: Now,
    pub wire: Wire,
    pub board: BTreeMap<[u8; 32], Envelope>,
    /// The control plane tells node 0 about all and the others about node 0 only: much less to do where only its
    /// packets are looked at.
    pub star: bool,
    pub batch: Batch,
}

/// When a node wants to be woken; what it remembers of that must be true.
fn deadline<S: Session>(node: &mut Node<S>) -> Option<Mono> {
    assert_eq!(node.deadline(), node.deadline_of_all());
    Some(node.deadline()?.at)
}

pub const SUBNET: Subnet = Subnet([10, 83, 7]);

pub fn secret(n: usize) -> NodeSecret {
    NodeSecret([n as u8 + 1; 32])
}

impl<S: Session> Party<S> {
    /// `n` nodes that all play these games; each has a card `eth0` of its own network.
    pub fn new(n: usize, games: &[&str]) -> Self {
        let now = Now { mono: Mono::ZERO, unix: Duration::from_secs(1_800_000_000) };
        let mut party = Self {
            seats: Vec::new(),
            now,
            wire: Wire::default(),
            board: BTreeMap::new(),
            star: false,
            batch: Batch::default(),
        };
        for i in 0..n {
            let seat = party.make(i, games, Memory::default(), 0);
            party.seats.push(seat);
        }
        party
    }

    /// `n` nodes with these rules, whose plugins are played by the test.
    pub fn scripted(n: usize, rules: &Arc<Ruleset>, plugins: &[PluginFacts]) -> Self {
        let mut party = Self::new(0, &[]);
        let plugins: Arc<[_]> = plugins.iter().cloned().map(Some).collect();
        for i in 0..n {
            let seat = party.make_with(i, (rules.clone(), plugins.clone()), Memory::default(), 0);
            party.seats.push(seat);
        }
        party
    }

    pub fn make(&self, i: usize, games: &[&str], memory: Memory, restart: u64) -> Seat<S> {
        let profiles: Vec<_> = games.iter().map(|g| shipped::find(g).unwrap()).collect();
        self.make_with(i, (Arc::new(compile(&profiles).unwrap()), Arc::default()), memory, restart)
    }

    fn make_with(
        &self,
        i: usize,
        (rules, plugins): (Arc<Ruleset>, Arc<[Option<PluginFacts>]>),
        memory: Memory,
        restart: u64,
    ) -> Seat<S> {
        let owner = NodeKeys::new(&secret(0)).id();
        let setup = Setup {
            secret: secret(i),
            name: format!("player{i}"),
            party: PartySetup {
                id: PartyId::of(owner, 0),
                owned_slot: (i == 0).then_some(0),
                epoch: 0,
                secret: PartySecret([7; 16]),
                subnet: SUBNET,
            },
            links: vec![LinkSetup { control: "memory".into() }],
            rules,
            memory,
            invite: "invite".into(),
            open: false,
            direct: Default::default(),
            relays: Vec::new(),
            plugins,
            knobs: Knobs::default(),
        };
        let octet = i as u8 + 1;
        let socket: SocketAddr = format!("198.51.{octet}.1:4000").parse().unwrap();
        let mut node = Node::new(setup, Seed::from_u64(i as u64 + 1000 * restart), self.now);
        let net = Net { addr: socket.ip(), prefix: 24 };
        let card = Card { id: CardId(2), name: "eth0".into(), nets: vec![net], default_route: true };
        node.handle_fact(HostFact::Cards(vec![card]), self.now);
        node.handle_fact(HostFact::Sockets(vec!["0.0.0.0:4000".parse().unwrap()]), self.now);
        Seat {
            node,
            socket,
            games: Games::default(),
            events: vec![],
            asked: vec![],
            memory: Memory::default(),
            stopped: false,
        }
    }

    /// Takes all effects, playing the control plane.
    pub fn drain(&mut self, i: usize) {
        while let Some(effect) = self.seats[i].node.poll_effect() {
            match effect {
                Effect::Event(event) => self.seats[i].events.push(event),
                Effect::Remember(memory) => self.seats[i].memory = memory,
                Effect::Ask(call) => self.seats[i].asked.push(*call),
                Effect::Stop { .. } => self.seats[i].stopped = true,
                Effect::OpenLink(link) => {
                    let opened = Down::Opened { nonce: Nonce([1; 32]), audience: "memory".into() };
                    self.seats[i].node.handle_control(link, opened, self.now);
                }
                Effect::Control(link, up) => self.board(i, link, up),
                Effect::CloseLink(_)
                | Effect::ConfigureLan(_)
                | Effect::Rekeyed { .. }
                | Effect::Invite(_)
                | Effect::OpenSockets { .. }
                | Effect::CloseSockets { .. }
                | Effect::OpenStream { .. }
                | Effect::CloseStream(_)
                | Effect::RefreshLease
                | Effect::Measured { .. }
                | Effect::SetMtu(_) => {}
            }
        }
    }

    fn board(&mut self, i: usize, link: LinkId, up: Up) {
        match up {
            Up::Hello(_) => {
                let hub = NodeKeys::new(&secret(0)).key().0;
                let heard = |key: &[u8; 32]| !self.star || i == 0 || *key == hub;
                let peers = self.board.iter().filter(|(key, _)| heard(key)).map(|(_, e)| e.clone()).collect();
                let welcome = Down::Welcome { epoch: 0, rotation: None, peers };
                self.seats[i].node.handle_control(link, welcome, self.now);
            }
            Up::Publish { envelope } => {
                self.board.insert(envelope.key.0, envelope.clone());
                let hears = |other| !self.star || i == 0 || other == 0;
                for other in (0..self.seats.len()).filter(|o| *o != i && hears(*o)).collect::<Vec<_>>() {
                    let record = Down::Record { envelope: envelope.clone() };
                    self.seats[other].node.handle_control(LinkId(0), record, self.now);
                    self.drain(other);
                }
            }
            Up::Rotate { rotation } => {
                for other in (0..self.seats.len()).filter(|o| *o != i) {
                    let rotated = Down::Rotated { rotation: rotation.clone() };
                    self.seats[other].node.handle_control(LinkId(0), rotated, self.now);
                    self.drain(other);
                }
            }
            Up::Beat | Up::Leave | Up::Signal { .. } => {}
        }
    }

    /// Delivers everything on the wire until nothing is.
    pub fn deliver(&mut self, from: usize) {
        let wire = std::mem::take(&mut self.wire);
        for (to, bytes) in &wire.sent[..wire.used] {
            let source = self.seats[from].socket;
            if let Some(i) = self.seats.iter().position(|s| s.socket == *to) {
                let mut bytes = bytes.clone();
                let stride = bytes.len();
                let datagrams = Datagrams { via: Via::Main, from: source, bytes: &mut bytes, stride };
                let seat = &mut self.seats[i];
                seat.node.handle_wan(datagrams, self.now, &mut self.wire, &mut seat.games);
                self.drain(i);
                self.deliver(i);
            }
        }
    }

    /// Lets time pass, every node woken at its deadlines.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        loop {
            for i in 0..self.seats.len() {
                self.drain(i);
            }
            let all = self.seats.iter_mut().enumerate();
            let next = all.filter_map(|(i, seat)| Some((deadline(&mut seat.node)?, i))).min();
            let Some((at, i)) = next.filter(|(at, _)| *at <= end.mono) else { break };
            self.now = self.now.plus(at.since(self.now.mono));
            let seat = &mut self.seats[i];
            seat.node.handle_timeout(self.now, &mut self.wire, &mut seat.games);
            self.drain(i);
            self.deliver(i);
        }
        self.now = end;
    }

    /// Wakes each node once; what they send is delivered. No time passes.
    pub fn wake(&mut self) {
        for i in 0..self.seats.len() {
            self.drain(i);
            let seat = &mut self.seats[i];
            seat.node.handle_timeout(self.now, &mut self.wire, &mut seat.games);
            self.drain(i);
            self.deliver(i);
        }
    }

    /// A game on node `i` sends a packet by its card (`None`: into the tunnel device).
    pub fn say(&mut self, i: usize, card: Option<u32>, packet: &[u8]) {
        self.batch.clear();
        let source = card.map_or(Source::Tun, |c| Source::Card(CardId(c)));
        assert!(self.batch.next(source).unwrap().fill(packet));
        let seat = &mut self.seats[i];
        seat.node.handle_lan(&mut self.batch, self.now, &mut self.wire, &mut seat.games);
        self.drain(i);
        self.deliver(i);
    }

    /// What node `i`'s games got since the last call: source, destination, payload.
    pub fn heard(&mut self, i: usize) -> Vec<(SocketAddr, SocketAddr, Vec<u8>, Delivery)> {
        let games = &mut self.seats[i].games;
        let got = games.got[..games.used].iter().map(|(how, p)| {
            let v = PacketView::parse(p).unwrap();
            (v.source(), v.destination(), v.payload().to_vec(), *how)
        });
        let got = got.collect();
        games.used = 0;
        got
    }

    /// A node's virtual address.
    pub fn address(&self, i: usize) -> std::net::Ipv4Addr {
        self.seats[i].node.addresses().0
    }
}

/// A UDP packet.
pub fn udp(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let mut room = vec![0; 2000];
    let n = write_udp(&mut room, src.parse().unwrap(), dst.parse().unwrap(), 64, payload).unwrap();
    room.truncate(n);
    room
}
