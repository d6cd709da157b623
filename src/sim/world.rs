//! The world: one heap of events in virtual time, many computers, one thread.
//!
//! One step: take the earliest event (ties by number, so the order never hangs on a map), move the clock there, hand it
//! to one computer, drain that computer's node, schedule what came out. What happens inside a step is in `drive` (nodes),
//! `wires` (what travels), `lan` (operating systems and games) and `fault` (what goes wrong).

use super::control::{Caller, Plane};
use super::fault::Step;
use super::game::Saying;
use super::net::Net;
use super::oracle::{Oracle, Place};
use super::pc::{EPOCH, Pc};
use super::route::Flight;
use super::scripts::Manners;
use super::server::Server;
use super::sinks::{SimLan, SimWan};
use super::trace::Trace;
use crate::buf::batch::{Batch, Source};
use crate::engine::effect::Knobs;
use crate::model::addr::Subnet;
use crate::model::dice::{Dice, Seed};
use crate::model::id::{LinkId, PartyId, PeerId};
use crate::model::key::{NodeKeys, NodeSecret};
use crate::model::script::ScriptReply;
use crate::model::time::{Mono, Now};
use crate::wire::control::{Down, Up};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
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
    /// It is the turn of datagrams that the run with this number read early.
    Turns {
        /// Who read them.
        pc: usize,
        /// Which run.
        start: u64,
    },
    /// A datagram arrives at the routers of its destination, or at a server.
    Flight {
        /// Where it comes from and goes to.
        flight: Flight,
        /// What it holds.
        bytes: Vec<u8>,
    },
    /// A node's stream is open.
    StreamUp {
        /// Whose.
        pc: usize,
        /// Its number there.
        stream: u8,
        /// Its own number.
        number: u64,
        /// The address that was connected to.
        to: SocketAddr,
    },
    /// A node learns that a stream is gone.
    StreamDown {
        /// Whose.
        pc: usize,
        /// Its number there.
        stream: u8,
        /// Its own number.
        number: u64,
    },
    /// A message of a stream reaches a server.
    StreamData {
        /// Which.
        server: usize,
        /// The stream.
        number: u64,
        /// What it holds.
        bytes: Vec<u8>,
    },
    /// A message of a stream reaches a node.
    StreamHeard {
        /// Whose.
        pc: usize,
        /// Its number there.
        stream: u8,
        /// Its own number.
        number: u64,
        /// What it holds.
        bytes: Vec<u8>,
    },
    /// A server learns that a stream is gone.
    StreamEnd {
        /// Which.
        server: usize,
        /// The stream.
        number: u64,
    },
    /// A server looks for what is due.
    Server(usize),
    /// A router answers a host that asked for a port.
    Lease {
        /// The host.
        pc: usize,
        /// Which run of its node.
        start: u64,
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
    /// A control plane offers the relays again.
    Offer(Caller, LinkId),
    /// A message of a control plane reaches a node.
    Down(Caller, LinkId, Box<Down>),
    /// A node hung up, after what it had said before.
    HangUp(Caller, LinkId),
    /// A control plane looks for what is due.
    Plane(usize),
    /// A plugin's answer reaches its node.
    Reply {
        /// Where.
        pc: usize,
        /// Which run of it.
        start: u64,
        /// The answer.
        reply: Box<ScriptReply>,
    },
    /// A member lies.
    Lie(usize),
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
    /// Where parties meet without a control plane: whose invite those who start follow.
    pub guide: Option<usize>,
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
    /// The weather was bad for a while: what needs luck may have had none.
    pub rough: bool,
    /// The capture brings our own injection again.
    pub echo: u32,
    /// A bit is flipped on the way.
    pub tamper: u32,
    /// Timers are late by up to this.
    pub slack: Duration,
    /// Equal datagrams that arrive together are handed over as one buffer.
    pub gro: bool,
    /// Small datagrams are read before their turn, which comes a moment later.
    pub early: bool,
    /// Computers whose sinks are full.
    pub full: Vec<usize>,
    /// How plugins behave.
    pub plugins: Manners,
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
    /// The relays.
    pub servers: Vec<Server>,
    /// How long credentials for them are good.
    pub relay_life: Duration,
    /// The party.
    pub party: PartyFacts,
    /// What must happen.
    pub oracle: Oracle,
    /// What happened.
    pub trace: Trace,
    /// What goes wrong.
    pub chaos: Chaos,
    pub(super) dice: Dice,
    pub(super) script_dice: Dice,
    pub(super) seed: Seed,
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
    pub(super) callers: u64,
    pub(super) sinks: Option<Box<(SimWan, SimLan)>>,
    pub(super) batch: Option<Box<Batch>>,
}

/// How long relay credentials are good, if nobody says otherwise.
const RELAY_LIFE: Duration = Duration::from_secs(12 * 3600);
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
            servers: Vec::new(),
            relay_life: RELAY_LIFE,
            party,
            oracle: Oracle::default(),
            trace: Trace::new(keep),
            chaos: Chaos::default(),
            dice: seed.dice("world"),
            script_dice: seed.dice("plugins"),
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

    /// Takes the next event, if it happens now and fits.
    pub(super) fn take_next(&mut self, fits: impl FnOnce(&Event) -> bool) -> Option<Event> {
        let next = self.heap.peek().filter(|Reverse(e)| e.0 == self.now && fits(&e.2));
        next.is_some().then(|| self.heap.pop()).flatten().map(|Reverse(e)| e.2)
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Wake { pc, start } => self.wake(pc, start),
            Event::Datagram { pc, to, from, bytes } => self.datagram(pc, to, from, bytes),
            Event::Turns { pc, start } if self.pcs[pc].starts == start => self.turns(pc),
            Event::Turns { .. } => {}
            Event::Flight { flight, bytes } => self.land(&flight, bytes),
            Event::StreamUp { pc, stream, number, to } => self.stream_up(pc, stream, number, to),
            Event::StreamDown { pc, stream, number } => self.stream_down(pc, stream, number),
            Event::StreamData { server, number, bytes } => self.stream_data(server, number, &bytes),
            Event::StreamHeard { pc, stream, number, bytes } => self.stream_heard(pc, stream, number, bytes),
            Event::StreamEnd { server, number } => self.stream_end(server, number),
            Event::Server(number) => self.server_ticks(number),
            Event::Lease { pc, start } => self.lease(pc, start),
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
            Event::Offer(caller, link) => self.offer(caller, link),
            Event::Down(caller, link, message) => self.down(caller, link, *message),
            Event::Plane(plane) => {
                let now = self.honest_now();
                let out = self.planes[plane].tick(now);
                self.spread(plane, out);
                let at = self.planes[plane].deadline(self.now).max(self.now + PLANE_STEP);
                self.at(at, Event::Plane(plane));
            }
            Event::HangUp(caller, link) => self.planes[usize::from(link.0)].hang_up(caller),
            Event::Reply { pc, start, reply } => self.reply(pc, start, *reply),
            Event::Lie(pc) => self.lie(pc),
            Event::Step(step) => self.apply(step),
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
