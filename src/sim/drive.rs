//! The way into a node and out of it, and the rules that every node keeps at every step: it is drained after each input,
//! it leaves no more effects than the cap, it never wants to be woken twice for one reason at one moment.

use super::control::Plane;
use super::pc::{Run, SimNode};
use super::scripts::Stages;
use super::sinks::{SimLan, SimWan};
use super::streams::Openings;
use super::world::{Event, World};
use crate::engine::counters::Count;
use crate::engine::direct::DirectSetup;
use crate::engine::effect::{Effect, HostFact, LinkSetup, PartySetup, Setup};
use crate::model::id::PeerId;
use crate::model::limits;
use crate::model::status::Event as Told;
use crate::model::time::{Mono, Now};
use crate::wire::control::Up;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Wakes of one node at one moment before it counts as a busy loop.
const WAKES: u32 = 64;

impl World {
    /// Starts a computer's node: with what it remembers, and fresh dice.
    pub fn start(&mut self, pc: usize) {
        let rules = self.pcs[pc].played();
        // A folder has no relays to offer: the players name them.
        let relays = if self.planes.iter().any(Plane::is_server) { Vec::new() } else { self.offers(pc) };
        let links = self.planes.iter().map(|p| LinkSetup { control: p.name.clone() }).collect();
        // Some clocks count from the program's start, some from the system's.
        let age = Duration::from_millis(u64::from(self.dice.below(900_000)));
        let direct = self.direct(pc);
        let computer = &mut self.pcs[pc];
        if computer.run.is_some() || computer.out || computer.asleep || computer.rogue.is_some() {
            return;
        }
        computer.starts += 1;
        computer.born.push(self.now);
        let seed = self.seed.fork(&format!("node {pc} start {}", computer.starts));
        let (stages, plugins) = Stages::load(&rules, &computer.plugins, seed);
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
            direct,
            relays,
            plugins,
            knobs: self.party.knobs.clone(),
        };
        let mut now = computer.now(self.now);
        now.mono = Mono(age);
        let (start, cards) = (computer.starts, computer.cards.iter().map(|c| c.card.clone()).collect());
        let mut sockets = vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), computer.port)];
        if computer.cards.iter().any(|c| c.card.nets.iter().any(|n| n.addr.is_ipv6())) {
            sockets.push(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), computer.port));
        }
        computer.run = Some(Run {
            node: SimNode::new(setup, seed, now),
            started: self.now,
            age,
            wake: None,
            woken: ("", Mono::ZERO, 0),
            lan: None,
            links: BTreeMap::new(),
            open: Openings::default(),
            paths: BTreeMap::new(),
            events: Vec::new(),
            stages,
            effects: Vec::new(),
            early: Vec::new(),
            measured: Vec::new(),
        });
        self.trace.note(self.now, Some(pc), "start", &start.to_be_bytes(), || format!("run {start}"));
        self.oracle.unsettle(pc, self.now);
        self.drive(pc, |_, _, _, _| {});
        self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::Sockets(sockets), now));
        self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::Cards(cards), now));
        self.ask_lease(pc);
    }

    /// Whose invite this computer follows, where parties meet without a control plane.
    fn direct(&self, pc: usize) -> DirectSetup {
        let friend_relay = pc == self.party.owner;
        let Some(guide) = self.party.guide else {
            return DirectSetup { friend_relay, ..DirectSetup::default() };
        };
        let addresses = if pc == self.party.owner { Vec::new() } else { self.pcs[guide].invite.clone() };
        DirectSetup { on: true, addresses, friend_relay }
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
        let mut again = 0;
        if let Some(run) = &mut self.pcs[pc].run {
            let before = run.node.counters().count(Count::Repeated);
            input(&mut run.node, now, &mut sinks.0, &mut sinks.1);
            again = run.node.counters().count(Count::Repeated) - before;
            let effects = std::iter::from_fn(|| run.node.poll_effect());
            run.effects.extend(effects.take(limits::EFFECTS + 1));
            if run.effects.len() > limits::EFFECTS {
                self.oracle.violate(self.now, format!("pc{pc}: one input left more effects than the cap"));
            }
        }
        for (to, bytes) in std::mem::take(&mut sinks.0.out) {
            self.send(pc, to, bytes);
        }
        let injected = std::mem::take(&mut sinks.1.out);
        if again > injected.len() as u64 {
            self.oracle.violate(self.now, format!("pc{pc} says more again than it says"));
        }
        // Only a timer makes a node say something again, and that comes first; behind it may be what a plugin was asked about too
        // long ago.
        for (at, (how, packet)) in (0..).zip(injected) {
            self.inject(pc, how, packet, at < again);
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
        let (deadline, asked) = (run.node.deadline(), run.node.deadline_of_all());
        if deadline != asked {
            self.oracle
                .violate(now, format!("pc{pc} remembers {deadline:?} as its deadline, which is {asked:?}"));
        }
        let Some(deadline) = asked else { return };
        let at = (run.started + deadline.at.since(Mono(run.age))).max(now);
        if run.wake.is_none_or(|planned| at + slack < planned) {
            run.wake = Some(at + slack);
            let start = self.pcs[pc].starts;
            self.at(at + slack, Event::Wake { pc, start });
        }
    }

    pub(super) fn wake(&mut self, pc: usize, start: u64) {
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
        let overdue = self.pcs[pc].run.as_ref().and_then(|r| r.node.overdue_question(self.pcs[pc].now(now)));
        if let Some(late) = overdue {
            self.oracle.violate(now, format!("pc{pc}: a packet waits {late:?} longer than its rule allows"));
        }
        let again = self.pcs[pc].run.as_mut().and_then(|r| r.node.deadline());
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
            Effect::Invite(addresses) => self.pcs[pc].invite = addresses,
            Effect::OpenSockets { first, count, v6 } => self.open_sockets(pc, first, count, v6),
            Effect::CloseSockets { first, count, keep } => self.close_sockets(pc, first, count, keep),
            Effect::OpenStream { stream, way } => self.open_stream(pc, stream, &way),
            Effect::CloseStream(stream) => self.close_stream(pc, stream),
            Effect::RefreshLease => self.ask_lease(pc),
            Effect::Measured { ticket, outcome } => {
                if let Some(run) = &mut self.pcs[pc].run {
                    run.measured.push((ticket, *outcome));
                }
            }
            Effect::Ask(call) => self.ask_plugin(pc, &call),
            Effect::SetMtu(mtu) => {
                if let Some(lan) = self.pcs[pc].run.as_mut().and_then(|r| r.lan.as_mut()) {
                    lan.mtu = mtu;
                }
            }
            Effect::Stop { trouble } => {
                let text = || trouble.as_ref().map_or_else(String::new, |t| t.message.clone());
                self.trace.note(now, Some(pc), "stop", &[], text);
                // Whom the owner did not know when it re-keyed the party has no copy of the new secret; whom it removed hears that from
                // the others before a server does that is down.
                let removed = self.pcs[pc].out;
                let left_out =
                    removed || self.party.grants.as_ref().is_some_and(|g| !g.contains(&self.pcs[pc].id));
                match trouble {
                    Some(trouble) if trouble.code == "removed" && left_out => self.pcs[pc].out = true,
                    Some(trouble) => {
                        self.oracle
                            .violate(now, format!("pc{pc} stopped for no reason: {}", trouble.message));
                    }
                    None => {}
                }
                self.pcs[pc].left = Some(now);
                self.unplug_node(pc);
            }
        }
    }

    /// The node's process is gone: so are its tunnel device and its connections.
    pub(super) fn unplug_node(&mut self, pc: usize) {
        self.oracle.unsettle(pc, self.now);
        self.break_streams(pc, Duration::ZERO);
        let Some(run) = self.pcs[pc].run.take() else { return };
        for (link, number) in run.links {
            // What it said before it stopped still arrives.
            let wait = self.planes[usize::from(link.0)].delay;
            self.after(wait, Event::HangUp((pc, number), link));
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
            // Plugins of such a story never mend their ways.
            Told::Warning(trouble) if trouble.code.starts_with("plugin_") && self.chaos.plugins.fails > 0 => {
            }
            // Its goodbye and our handshake may have crossed.
            Told::Warning(trouble) if trouble.code == "path_lost" && self.somebody_left() => {}
            Told::Warning(_) | Told::Error(_) if self.chaos.fair => {
                self.oracle.violate(self.now, format!("pc{pc} complains on a fine day: {text}"));
            }
            Told::Ready { .. }
            | Told::Mode { .. }
            | Told::Nat { .. }
            | Told::PeerJoined { .. }
            | Told::GameFound { .. }
            | Told::GameLost { .. }
            | Told::Plugin(_)
            | Told::Reloaded { .. }
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

    fn somebody_left(&self) -> bool {
        self.pcs.iter().any(|pc| pc.left.is_some_and(|at| self.now.since(at) < Duration::from_secs(10)))
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
}
