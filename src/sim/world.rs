//! The world: one heap of events in virtual time, many computers, one thread.
//!
//! One step: take the earliest event (ties by number, so the order never hangs on a map), move the clock there, hand it
//! to one computer, drain that computer's node, schedule what came out. Here are the heap, the clock, the way into a node
//! and out of it, and the rules that every node keeps at every step: it is drained after each input, it never wants to
//! be woken twice for one reason at one moment. What an operating system does is in `lan`, what goes wrong in `fault`.

use super::control::{Caller, Plane};
use super::fault::Step;
use super::game::Saying;
use super::net::Net;
use super::oracle::{Oracle, Place};
use super::pc::{EPOCH, Pc, Run, SimNode};
use super::sinks::{SimLan, SimWan};
use super::trace::Trace;
use crate::buf::batch::{Batch, Datagrams, Source};
use crate::engine::effect::{Effect, HostFact, Knobs, LinkSetup, PartySetup, Setup};
use crate::model::addr::Subnet;
use crate::model::dice::{Dice, Seed};
use crate::model::id::{LinkId, PartyId, PeerId};
use crate::model::key::{NodeKeys, NodeSecret};
use crate::model::limits;
use crate::model::status::Event as Told;
use crate::model::time::{Mono, Now};
use crate::wire::control::{Down, Up};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Something that happens at a moment.
#[derive(Debug)]
pub enum Event {
    /// A node's deadline, for the run with this number.
    Wake {
        /// Whose.
        pc: usize,
        /// Which run.
        start: u64,
    },
    /// A datagram arrives.
    Datagram {
        /// Where.
        pc: usize,
        /// At this address.
        to: SocketAddr,
        /// From this one, as seen there.
        from: SocketAddr,
        /// What it holds.
        bytes: Vec<u8>,
    },
    /// A packet of a game arrives by a wire.
    Frame {
        /// Where.
        pc: usize,
        /// Over this segment.
        segment: usize,
        /// The IP packet.
        packet: Vec<u8>,
    },
    /// The capture of a card brings a packet that the node itself injected.
    Echo {
        /// Where.
        pc: usize,
        /// The IP packet.
        packet: Vec<u8>,
    },
    /// A program does what it does regularly.
    Program(Place),
    /// A program answers.
    Answer {
        /// Which program.
        place: Place,
        /// To whom.
        to: SocketAddr,
        /// What.
        saying: Saying,
    },
    /// A node's connection reaches a control plane.
    Connect(Caller, LinkId),
    /// A message reaches a control plane.
    Up(Caller, LinkId, Box<Up>),
    /// A message of a control plane reaches a node.
    Down(Caller, LinkId, Box<Down>),
    /// A node hung up, after what it had said before.
    HangUp(Caller, LinkId),
    /// A control plane looks for what is due.
    Plane(usize),
    /// The story goes on.
    Step(Step),
}

#[derive(Debug)]
struct Entry(Mono, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The party that everybody is in.
#[derive(Debug, Clone)]
pub struct PartyFacts {
    /// Its name.
    pub id: PartyId,
    /// Whose it is.
    pub owner: usize,
    /// Its network.
    pub subnet: Subnet,
    /// Who was to stay when it was re-keyed last, beside the owner.
    pub grants: Option<Vec<PeerId>>,
    /// The nodes' settings.
    pub knobs: Knobs,
}

/// How the world plays with its nodes. Chances are in thousandths.
#[derive(Debug, Default)]
pub struct Chaos {
    /// Nothing goes wrong: every packet that can arrive must, and nobody complains.
    pub fair: bool,
    /// The capture brings our own injection again.
    pub echo: u32,
    /// A bit is flipped on the way.
    pub tamper: u32,
    /// Timers are late by up to this.
    pub slack: Duration,
    /// Equal datagrams that arrive together are handed over as one buffer.
    pub gro: bool,
    /// Computers whose sinks are full.
    pub full: Vec<usize>,
    /// How many members lie.
    pub hostile: u32,
    /// Datagrams seen on the wire, to be sent again by somebody who should not.
    pub seen: VecDeque<(usize, SocketAddr, SocketAddr, Vec<u8>)>,
}

/// See the module's description.
#[derive(Debug)]
pub struct World {
    /// The present moment.
    pub now: Mono,
    /// The computers.
    pub pcs: Vec<Pc>,
    /// What is between them.
    pub net: Net,
    /// The control planes.
    pub planes: Vec<Plane>,
    /// The party.
    pub party: PartyFacts,
    /// What must happen.
    pub oracle: Oracle,
    /// What happened.
    pub trace: Trace,
    /// What goes wrong.
    pub chaos: Chaos,
    pub(super) dice: Dice,
    seed: Seed,
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
    callers: u64,
    sinks: Option<Box<(SimWan, SimLan)>>,
    batch: Option<Box<Batch>>,
}

/// Wakes of one node at one moment before it counts as a busy loop.
const WAKES: u32 = 64;
/// A control plane's clock has no finer steps.
const PLANE_STEP: Duration = Duration::from_millis(50);

impl World {
    /// A world in which nothing runs yet.
    #[must_use]
    pub fn new(
        net: Net,
        pcs: Vec<Pc>,
        planes: Vec<Plane>,
        party: PartyFacts,
        seed: Seed,
        keep: bool,
    ) -> Self {
        let mut world = Self {
            now: Mono::ZERO,
            pcs,
            net,
            planes,
            party,
            oracle: Oracle::default(),
            trace: Trace::new(keep),
            chaos: Chaos::default(),
            dice: seed.dice("world"),
            seed,
            heap: BinaryHeap::new(),
            number: 0,
            callers: 0,
            sinks: Some(Box::default()),
            batch: Some(Box::default()),
        };
        for (number, pc) in world.pcs.iter().enumerate() {
            world.net.plug(number, &pc.cards);
        }
        for plane in 0..world.planes.len() {
            world.after(PLANE_STEP, Event::Plane(plane));
        }
        world
    }

    /// Schedules something.
    pub fn at(&mut self, at: Mono, event: Event) {
        self.number += 1;
        self.heap.push(Reverse(Entry(at.max(self.now), self.number, event)));
    }

    /// Schedules something a while from now.
    pub fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Both clocks of a computer that has the time right.
    #[must_use]
    pub fn honest_now(&self) -> Now {
        Now { mono: self.now, unix: Duration::from_secs(EPOCH) + self.now.0 }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.heap.peek().is_some_and(|Reverse(e)| e.0 <= end) {
            let Some(Reverse(Entry(at, _, event))) = self.heap.pop() else { break };
            self.now = at;
            self.step(event);
        }
        self.now = end;
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Wake { pc, start } => self.wake(pc, start),
            Event::Datagram { pc, to, from, bytes } => self.datagram(pc, to, from, bytes),
            Event::Frame { pc, segment, packet } => self.frame(pc, segment, &packet),
            Event::Echo { pc, packet } => {
                let card = self.pcs[pc].default_card().card.id;
                self.trace.note(self.now, Some(pc), "echo", &packet, String::new);
                self.capture(pc, &[(Source::Card(card), packet)]);
            }
            Event::Program(place) => self.act(place),
            Event::Answer { place, to, saying } => self.answer(place, to, saying),
            Event::Connect(caller, link) => self.connect(caller, link),
            Event::Up(caller, link, message) => self.up(caller, link, *message),
            Event::Down(caller, link, message) => self.down(caller, link, *message),
            Event::Plane(plane) => {
                let now = self.honest_now();
                let out = self.planes[plane].tick(now);
                self.spread(plane, out);
                let at = self.planes[plane].deadline(self.now).max(self.now + PLANE_STEP);
                self.at(at, Event::Plane(plane));
            }
            Event::HangUp(caller, link) => self.planes[usize::from(link.0)].hang_up(caller),
            Event::Step(step) => self.apply(step),
        }
    }

    /// Starts a computer's node: with what it remembers, and fresh dice.
    pub fn start(&mut self, pc: usize) {
        let rules = super::rules_for(&self.pcs[pc].titles);
        let links = self.planes.iter().map(|p| LinkSetup { control: p.name.clone() }).collect();
        let origin = self.now - Duration::from_millis(u64::from(self.dice.below(900_000)));
        let computer = &mut self.pcs[pc];
        if computer.run.is_some() || computer.out || computer.asleep {
            return;
        }
        computer.starts += 1;
        computer.born.push(self.now);
        let setup = Setup {
            secret: computer.secret.clone(),
            name: computer.name.clone(),
            party: PartySetup {
                id: self.party.id,
                owned_slot: (pc == self.party.owner).then_some(0),
                epoch: computer.disk.epoch,
                secret: computer.disk.party.clone(),
                subnet: self.party.subnet,
            },
            links,
            rules,
            memory: computer.disk.memory.clone(),
            invite: String::new(),
            open: false,
            knobs: self.party.knobs.clone(),
        };
        let seed = self.seed.fork(&format!("node {pc} start {}", computer.starts));
        let mut now = computer.now(self.now);
        now.mono = Mono(self.now.since(origin));
        let (start, cards) = (computer.starts, computer.cards.iter().map(|c| c.card.clone()).collect());
        let socket = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), computer.port);
        computer.run = Some(Run {
            node: SimNode::new(setup, seed, now),
            origin,
            wake: None,
            woken: ("", Mono::ZERO, 0),
            lan: None,
            links: BTreeMap::new(),
            paths: BTreeMap::new(),
            events: Vec::new(),
            effects: Vec::new(),
        });
        self.trace.note(self.now, Some(pc), "start", &start.to_be_bytes(), || format!("run {start}"));
        self.oracle.unsettle(pc, self.now);
        self.drive(pc, |_, _, _, _| {});
        self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::Sockets(vec![socket]), now));
        self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::Cards(cards), now));
    }

    /// One input to a node, then everything out of it.
    pub(super) fn drive(
        &mut self,
        pc: usize,
        input: impl FnOnce(&mut SimNode, Now, &mut SimWan, &mut SimLan),
    ) {
        let mut sinks = self.sinks.take().unwrap_or_default();
        let full = self.chaos.full.contains(&pc);
        sinks.0.set_full(full);
        sinks.1.set_full(full);
        let now = self.pcs[pc].now(self.now);
        if let Some(run) = &mut self.pcs[pc].run {
            input(&mut run.node, now, &mut sinks.0, &mut sinks.1);
            let effects = std::iter::from_fn(|| run.node.poll_effect());
            run.effects.extend(effects.take(limits::EFFECTS + 1));
            if run.effects.len() > limits::EFFECTS {
                self.oracle.violate(self.now, format!("pc{pc}: one input left more effects than the cap"));
            }
        }
        for (to, bytes) in std::mem::take(&mut sinks.0.out) {
            self.send(pc, to, bytes);
        }
        for (how, packet) in std::mem::take(&mut sinks.1.out) {
            self.inject(pc, how, packet);
        }
        self.sinks = Some(sinks);
        let effects = self.pcs[pc].run.as_mut().map(|run| std::mem::take(&mut run.effects));
        for effect in effects.into_iter().flatten() {
            self.effect(pc, effect);
        }
        self.plan_wake(pc);
    }

    /// Sees to it that the node is woken at its deadline.
    fn plan_wake(&mut self, pc: usize) {
        let now = self.now;
        let slack = u32::try_from(self.chaos.slack.as_micros()).unwrap_or(u32::MAX);
        let slack = Duration::from_micros(if slack == 0 { 0 } else { u64::from(self.dice.below(slack)) });
        let Some(run) = &mut self.pcs[pc].run else { return };
        let Some(deadline) = run.node.deadline() else { return };
        let at = (run.origin + deadline.at.0).max(now);
        if run.wake.is_none_or(|planned| at + slack < planned) {
            run.wake = Some(at + slack);
            let start = self.pcs[pc].starts;
            self.at(at + slack, Event::Wake { pc, start });
        }
    }

    fn wake(&mut self, pc: usize, start: u64) {
        let (now, asleep) = (self.now, self.pcs[pc].asleep);
        let node_now = self.pcs[pc].now(now).mono;
        let computer = &mut self.pcs[pc];
        let Some(run) = computer.run.as_mut().filter(|r| r.wake == Some(now) && computer.starts == start)
        else {
            return;
        };
        run.wake = None;
        if asleep {
            return;
        }
        let Some(due) = run.node.deadline().filter(|d| d.at <= node_now) else {
            self.plan_wake(pc);
            return;
        };
        let same = (run.woken.0, run.woken.1) == (due.why, now);
        run.woken = (due.why, now, if same { run.woken.2 + 1 } else { 0 });
        let times = run.woken.2;
        self.trace.note(now, Some(pc), "wake", due.why.as_bytes(), || due.why.to_owned());
        self.drive(pc, |node, now, wan, lan| node.handle_timeout(now, wan, lan));
        let again = self.pcs[pc].run.as_ref().and_then(|r| r.node.deadline());
        if again.is_some_and(|d| d.why == due.why && d.at <= node_now) || times > WAKES {
            self.oracle
                .violate(now, format!("pc{pc} is busy: woken for `{}`, it wants it again at once", due.why));
            if let Some(run) = &mut self.pcs[pc].run {
                // Go on a little later, or the world would stand still here.
                run.wake = Some(now + Duration::from_millis(10));
                self.after(Duration::from_millis(10), Event::Wake { pc, start });
            }
        }
    }

    fn effect(&mut self, pc: usize, effect: Effect) {
        let now = self.now;
        match effect {
            Effect::OpenLink(link) => self.open_link(pc, link),
            Effect::CloseLink(link) => {
                let number = self.pcs[pc].run.as_mut().and_then(|r| r.links.remove(&link));
                if let (Some(number), Some(plane)) = (number, self.planes.get(usize::from(link.0))) {
                    let wait = plane.delay;
                    self.after(wait, Event::HangUp((pc, number), link));
                }
            }
            Effect::Control(link, up) => {
                if let Up::Rotate { rotation } = &up {
                    self.party.grants = Some(rotation.grants.iter().map(|g| g.peer).collect());
                }
                let number = self.pcs[pc].run.as_ref().and_then(|r| r.links.get(&link).copied());
                if let (Some(number), Some(plane)) = (number, self.planes.get(usize::from(link.0))) {
                    let wait = plane.delay;
                    self.after(wait, Event::Up((pc, number), link, Box::new(up)));
                }
            }
            Effect::ConfigureLan(lan) => {
                let text = || format!("address {}", lan.v4);
                self.trace.note(now, Some(pc), "lan", &lan.v4.octets(), text);
                let computer = &mut self.pcs[pc];
                if computer.addresses.last().map(|a| a.1) != Some(lan.v4) {
                    computer.addresses.push((now, lan.v4));
                    self.oracle.unsettle(pc, now);
                }
                if let Some(run) = &mut self.pcs[pc].run {
                    run.lan = Some(lan);
                }
            }
            Effect::Event(event) => self.told(pc, event),
            Effect::Remember(memory) => self.pcs[pc].disk.memory = memory,
            Effect::Rekeyed { epoch, secret } => {
                self.trace.note(now, Some(pc), "rekeyed", &epoch.to_be_bytes(), || format!("epoch {epoch}"));
                self.pcs[pc].disk.epoch = epoch;
                self.pcs[pc].disk.party = secret;
            }
            Effect::Stop { trouble } => {
                let text = || trouble.as_ref().map_or_else(String::new, |t| t.message.clone());
                self.trace.note(now, Some(pc), "stop", &[], text);
                // Whom the owner did not know when it re-keyed the party has no copy of the new secret.
                let left_out = self.party.grants.as_ref().is_some_and(|g| !g.contains(&self.pcs[pc].id));
                match trouble {
                    Some(trouble) if trouble.code == "removed" && left_out => self.pcs[pc].out = true,
                    Some(trouble) => {
                        self.oracle.violate(now, format!("pc{pc} stopped for no reason: {}", trouble.message));
                    }
                    None => {}
                }
                self.unplug_node(pc);
            }
        }
    }

    /// The node's process is gone: so are its tunnel device and its connections.
    pub(super) fn unplug_node(&mut self, pc: usize) {
        self.oracle.unsettle(pc, self.now);
        let Some(run) = self.pcs[pc].run.take() else { return };
        for (link, number) in run.links {
            if let Some(plane) = self.planes.get_mut(usize::from(link.0)) {
                plane.hang_up((pc, number));
            }
        }
    }

    fn told(&mut self, pc: usize, event: Told) {
        let text = format!("{event:?}");
        self.trace.note(self.now, Some(pc), "event", text.as_bytes(), || text.clone());
        match &event {
            Told::Path { peer, .. } => self.path(pc, *peer),
            Told::PeerLeft { peer, .. } => {
                if let Some(run) = &mut self.pcs[pc].run {
                    run.paths.remove(peer);
                }
            }
            Told::Warning(trouble) if trouble.code == "address_changed" && self.was_shared(pc) => {}
            Told::Warning(_) | Told::Error(_) if self.chaos.fair => {
                self.oracle.violate(self.now, format!("pc{pc} complains on a fine day: {text}"));
            }
            Told::Ready { .. }
            | Told::Nat { .. }
            | Told::PeerJoined { .. }
            | Told::GameFound { .. }
            | Told::GameLost { .. }
            | Told::Warning(_)
            | Told::Error(_) => {}
        }
        if let Some(run) = &mut self.pcs[pc].run {
            run.events.push((self.now, event));
        }
    }

    /// A node has a path now; when both ends have one, running games are owed to the other side.
    fn path(&mut self, pc: usize, peer: PeerId) {
        let Some(run) = &mut self.pcs[pc].run else { return };
        let known = run.paths.insert(peer, self.now).is_some();
        let Some(other) = self.pcs.iter().position(|p| p.id == peer).filter(|_| !known) else { return };
        if self.chaos.fair && self.joined(pc, other) {
            self.promise(pc, other);
            self.promise(other, pc);
        }
    }

    /// Whether any address this computer ever had was another's too.
    fn was_shared(&self, pc: usize) -> bool {
        let mine = &self.pcs[pc].addresses;
        let others = self.pcs.iter().enumerate().filter(|(other, _)| *other != pc);
        others.flat_map(|(_, other)| &other.addresses).any(|(_, a)| mine.iter().any(|(_, m)| m == a))
    }

    /// Whether both nodes say that they have a path to each other.
    #[must_use]
    pub fn joined(&self, a: usize, b: usize) -> bool {
        let sees = |x: usize, y: usize| {
            let run = self.pcs[x].run.as_ref().filter(|_| self.pcs[x].is_live());
            run.is_some_and(|r| r.paths.contains_key(&self.pcs[y].id))
        };
        sees(a, b) && sees(b, a)
    }

    /// Puts a datagram on the wire.
    fn send(&mut self, pc: usize, to: SocketAddr, mut bytes: Vec<u8>) {
        let (cards, port) = (&self.pcs[pc].cards, self.pcs[pc].port);
        if matches!(to.ip(), std::net::IpAddr::V4(a) if self.party.subnet.contains(a)) {
            self.oracle.violate(self.now, format!("pc{pc} sends the tunnel into the tunnel: to {to}"));
            return;
        }
        let route = self.net.route(pc, cards, port, to.ip());
        let text = || format!("{} bytes to {to}, {route:?}", bytes.len());
        self.trace.note(self.now, Some(pc), "send", &bytes, text);
        let Some(route) = route else { return };
        if self.chaos.tamper > 0 && self.dice.chance(self.chaos.tamper) {
            let at = self.dice.below(u32::try_from(bytes.len()).unwrap_or(1)) as usize;
            bytes[at] ^= 1 << self.dice.below(8);
        }
        if self.chaos.seen.len() >= 64 {
            self.chaos.seen.pop_front();
        }
        self.chaos.seen.push_back((route.pc, to, route.from, bytes.clone()));
        for at in self.net.carry(route.out, route.into, self.now).into_iter().flatten() {
            self.at(at, Event::Datagram { pc: route.pc, to, from: route.from, bytes: bytes.clone() });
        }
    }

    /// A datagram arrives; with GRO, equal ones that arrive with it come along in one buffer.
    fn datagram(&mut self, pc: usize, to: SocketAddr, from: SocketAddr, mut bytes: Vec<u8>) {
        let stride = bytes.len().max(1);
        while let (true, Some(Reverse(Entry(at, _, next)))) = (self.chaos.gro, self.heap.peek()) {
            let fits = matches!(next, Event::Datagram { pc: p, to: t, from: f, bytes: b }
                if (*p, *t, *f) == (pc, to, from) && b.len() <= stride && bytes.len() % stride == 0);
            if *at != self.now || !fits || bytes.len() + stride > limits::GRO_BYTES {
                break;
            }
            if let Some(Reverse(Entry(_, _, Event::Datagram { bytes: more, .. }))) = self.heap.pop() {
                bytes.extend_from_slice(&more);
            }
        }
        let computer = &self.pcs[pc];
        let here = computer.is_live() && computer.port == to.port();
        if !here || self.net.is_offline(pc) || computer.cards.iter().all(|c| c.addr() != to.ip()) {
            return;
        }
        self.trace
            .note(self.now, Some(pc), "datagram", &bytes, || format!("{} bytes from {from}", bytes.len()));
        self.drive(pc, |node, now, wan, lan| {
            node.handle_wan(Datagrams { from, bytes: &mut bytes, stride }, now, wan, lan);
        });
    }

    /// Hands captured packets to a node, if it runs.
    pub(super) fn capture(&mut self, pc: usize, packets: &[(Source, Vec<u8>)]) {
        if !self.pcs[pc].is_live() || packets.is_empty() {
            return;
        }
        let mut batch = self.batch.take().unwrap_or_default();
        batch.clear();
        for (source, packet) in packets {
            let slot = batch.next(*source).expect("a batch holds more than a game says at once");
            assert!(slot.fill(packet), "games' packets fit a slot");
        }
        self.drive(pc, |node, now, wan, lan| node.handle_lan(&mut batch, now, wan, lan));
        self.batch = Some(batch);
    }

    fn open_link(&mut self, pc: usize, link: LinkId) {
        self.callers += 1;
        let caller = (pc, self.callers);
        if let Some(run) = &mut self.pcs[pc].run {
            run.links.insert(link, self.callers);
        }
        let Some(plane) = self.planes.get(usize::from(link.0)) else { return };
        self.after(plane.delay, Event::Connect(caller, link));
    }

    fn connect(&mut self, caller: Caller, link: LinkId) {
        let now = self.honest_now();
        let plane = &mut self.planes[usize::from(link.0)];
        let answer = if plane.up && !self.net.is_offline(caller.0) {
            plane.connect(caller, now)
        } else {
            vec![(caller, Down::Closed { why: "connection refused".to_owned() })]
        };
        self.spread(usize::from(link.0), answer);
    }

    fn up(&mut self, caller: Caller, link: LinkId, message: Up) {
        let index = usize::from(link.0);
        let text = format!("{message:?}");
        self.trace.note(self.now, Some(caller.0), "up", text.as_bytes(), || text.chars().take(120).collect());
        if self.planes[index].up && !self.net.is_offline(caller.0) {
            let now = self.honest_now();
            let out = self.planes[index].handle(caller, message, now);
            self.spread(index, out);
        }
    }

    /// Sends what a control plane has to say on its way.
    pub(super) fn spread(&mut self, plane: usize, out: Vec<(Caller, Down)>) {
        let link = LinkId(u8::try_from(plane).expect("a handful of control planes"));
        for (caller, message) in out {
            let wait = self.planes[plane].delay;
            self.after(wait, Event::Down(caller, link, Box::new(message)));
        }
    }

    fn down(&mut self, caller: Caller, link: LinkId, message: Down) {
        let (pc, number) = caller;
        // Who sleeps hears nothing; it learns that the connection is gone when it wakes.
        let computer = &mut self.pcs[pc];
        let run = computer.run.as_mut().filter(|_| !computer.asleep);
        let Some(run) = run.filter(|r| r.links.get(&link) == Some(&number)) else { return };
        if matches!(message, Down::Closed { .. }) {
            run.links.remove(&link);
        }
        let text = format!("{message:?}");
        self.trace.note(self.now, Some(pc), "down", text.as_bytes(), || text.chars().take(120).collect());
        self.drive(pc, |node, now, _, _| node.handle_control(link, message, now));
    }

    /// Tells a node that a connection of it is gone.
    pub(super) fn cut_links(&mut self, pc: usize, wait: Duration) {
        let links = self.pcs[pc].run.as_ref().map(|r| r.links.clone());
        for (link, number) in links.into_iter().flatten() {
            self.planes[usize::from(link.0)].hang_up((pc, number));
            let closed = Down::Closed { why: "connection lost".to_owned() };
            self.after(wait, Event::Down((pc, number), link, Box::new(closed)));
        }
    }

    /// A secret from the world's seed.
    #[must_use]
    pub fn secret(seed: Seed, number: usize) -> NodeSecret {
        NodeSecret(seed.fork(&format!("secret {number}")).0)
    }

    /// The party of which this computer's node is the owner.
    #[must_use]
    pub fn party_of(secret: &NodeSecret) -> PartyId {
        PartyId::of(NodeKeys::new(secret).id(), 0)
    }
}
