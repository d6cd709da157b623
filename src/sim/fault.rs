//! The steps of a story: what players do, and what goes wrong around them.
//!
//! Every step is possible at any time; one that makes no sense just now (waking a computer that is awake) does nothing.
//! What goes wrong for a while brings its own end along.

use super::game::{DOORS, Program, What};
use super::net::SimCard;
use super::oracle::Place;
use super::scripts::Manners;
use super::world::{Event, World};
use crate::buf::batch::Datagrams;
use crate::engine::effect::HostFact;
use crate::model::addr::Via;
use crate::model::command::Command;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// One step. Numbers of computers must be those of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A player starts lanrage.
    Start(usize),
    /// It dies without a word.
    Kill(usize),
    /// It is stopped with a goodbye.
    Leave(usize),
    /// The owner removes somebody, for good.
    Kick(usize),
    /// A game program starts.
    On(Place),
    /// A game program stops.
    Off(Place),
    /// An OpenArena client looks for servers.
    Ask(Place),
    /// A player joins an open world.
    Join(usize, Place),
    /// Somebody tries the doors of another computer.
    Knock(usize, usize),
    /// The lid is closed.
    Sleep(usize),
    /// The lid is opened.
    Rise(usize),
    /// The computer is carried to another network and gets another address.
    Roam(usize, SimCard),
    /// Nothing passes between two, or between one and the rest.
    Cut(usize, usize),
    /// It passes again.
    Mend(usize, usize),
    /// A control plane goes away.
    PlaneDown(usize),
    /// It comes back.
    PlaneUp(usize),
    /// A control plane sends all its records again, newest or not.
    PlaneRepeats(usize),
    /// The wall clock is set (milliseconds off).
    Clock(usize, i64),
    /// The node has no room for what it wants to send.
    Full(usize),
    /// It has room again.
    Free(usize),
    /// Strangers send this many datagrams of nonsense.
    Garbage(usize, u32),
    /// Somebody on the wire sends this many old datagrams again.
    Replay(u32),
    /// The system reports its cards again, unchanged.
    Cards(usize),
    /// A router forgets its mappings.
    Flush(usize),
    /// A router is switched off and on, and may have another address afterwards.
    Reboot(usize, Option<Ipv4Addr>),
    /// A relay's process is killed.
    ServerDown(usize),
    /// It is started again.
    ServerUp(usize),
    /// A member begins to lie.
    Turn(usize),
    /// All that goes wrong ends.
    Heal,
}

/// How long a TCP connection takes to notice that its computer moved.
const NOTICED: Duration = Duration::from_millis(1500);
/// How long a router is away that is switched off and on.
const REBOOT: Duration = Duration::from_secs(1);

impl World {
    /// Schedules a step.
    pub fn later(&mut self, wait: Duration, step: Step) {
        self.after(wait, Event::Step(step));
    }

    /// Does a step now.
    pub fn apply(&mut self, step: Step) {
        let text = format!("{step:?}");
        self.trace.note(self.now, None, "step", text.as_bytes(), || text.clone());
        match step {
            Step::Start(pc) => self.start(pc),
            Step::Kill(pc) => self.unplug_node(pc),
            Step::Leave(pc) => self.command(pc, Command::Leave),
            Step::Kick(pc) => self.kick(pc),
            Step::On(place) => self.switch(place, true),
            Step::Off(place) => self.switch(place, false),
            Step::Ask(place) => self.ask(place),
            Step::Join(from, place) => self.join(from, place),
            Step::Knock(from, to) => {
                for port in DOORS {
                    self.knock(from, to, port, What::Syn);
                    self.knock(from, to, port, What::Knock);
                }
            }
            Step::Sleep(pc) => {
                self.oracle.unsettle(pc, self.now);
                self.pcs[pc].asleep = true;
            }
            Step::Rise(pc) => self.rise(pc),
            Step::Roam(pc, card) => self.roam(pc, card),
            Step::Cut(a, b) => {
                self.oracle.unsettle(a, self.now);
                self.net.cut(a, b);
                if a == b {
                    self.cut_links(a, NOTICED);
                    self.break_streams(a, NOTICED);
                }
            }
            Step::Mend(a, b) => self.net.mend(a, b),
            Step::PlaneDown(plane) => {
                let out = self.planes[plane].go_down();
                self.spread(plane, out);
            }
            Step::PlaneUp(plane) => {
                let now = self.honest_now();
                self.planes[plane].come_back(now);
            }
            Step::PlaneRepeats(plane) => {
                let all = self.planes[plane].repeat();
                self.spread(plane, all);
            }
            Step::Clock(pc, skew) => self.pcs[pc].skew = skew,
            Step::Full(pc) => {
                self.oracle.unsettle(pc, self.now);
                self.chaos.full.push(pc);
            }
            Step::Free(pc) => self.chaos.full.retain(|p| *p != pc),
            Step::Garbage(pc, count) => (0..count).for_each(|_| self.garbage(pc)),
            Step::Replay(count) => (0..count).for_each(|_| self.replay()),
            Step::Cards(pc) => self.report_cards(pc),
            Step::Flush(number) => {
                if let Some(b) = self.net.boxes.get_mut(number) {
                    b.flush();
                    self.behind_broke(number);
                }
            }
            Step::Reboot(number, public) => {
                let back = self.now + REBOOT;
                if let Some(b) = self.net.boxes.get_mut(number) {
                    b.reboot(public, back);
                    self.behind_broke(number);
                }
            }
            Step::ServerDown(number) => self.server_down(number),
            Step::ServerUp(number) => self.server_up(number),
            Step::Turn(pc) => self.turn(pc),
            Step::Heal => self.heal(),
        }
    }

    /// Whoever is behind a router loses its TCP connections, and may lose what is under way.
    fn behind_broke(&mut self, number: usize) {
        for pc in 0..self.pcs.len() {
            if self.net.row(self.pcs[pc].default_card().segment).any(|n| n == number) {
                self.oracle.unsettle(pc, self.now);
                self.cut_links(pc, NOTICED);
                self.break_streams(pc, NOTICED);
            }
        }
    }

    /// Somebody asks a node for something.
    pub fn command(&mut self, pc: usize, command: Command) {
        if self.pcs[pc].is_live() {
            self.drive(pc, |node, now, wan, _| node.handle_command(command, now, wan));
        }
    }

    fn kick(&mut self, pc: usize) {
        let owner = self.party.owner;
        if pc == owner || !self.pcs[owner].is_live() || self.pcs[owner].disk.epoch > 200 {
            return;
        }
        let id = self.pcs[pc].id;
        let now = self.pcs[owner].now(self.now);
        let known = self.pcs[owner]
            .run
            .as_ref()
            .is_some_and(|r| r.node.status(now).peers.iter().any(|p| p.peer == id));
        if known {
            self.pcs[pc].out = true;
            self.oracle.unsettle_all(self.now);
            self.command(owner, Command::Kick(id));
        }
    }

    fn switch(&mut self, place: Place, on: bool) {
        let Some((program, state)) = self.pcs[place.0].programs.get_mut(place.1) else { return };
        if *state == on {
            return;
        }
        *state = on;
        let announces = matches!(program, Program::Announcer { .. });
        self.oracle.unsettle(place.0, self.now);
        if on && announces {
            self.after(Duration::ZERO, Event::Program(place));
        }
    }

    fn rise(&mut self, pc: usize) {
        if !std::mem::take(&mut self.pcs[pc].asleep) {
            return;
        }
        self.oracle.unsettle(pc, self.now);
        let start = self.pcs[pc].starts;
        if let Some(run) = &mut self.pcs[pc].run {
            run.wake = Some(self.now);
            self.after(Duration::ZERO, Event::Wake { pc, start });
        }
        if self.pcs[pc].is_live() {
            self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::Woke, now));
        }
        self.report_cards(pc);
        self.cut_links(pc, NOTICED);
        self.break_streams(pc, NOTICED);
    }

    fn roam(&mut self, pc: usize, card: SimCard) {
        self.oracle.unsettle(pc, self.now);
        self.pcs[pc].cards[0] = card;
        self.net.plug(pc, &self.pcs[pc].cards);
        self.cut_links(pc, NOTICED);
        self.break_streams(pc, NOTICED);
        self.report_cards(pc);
        self.ask_lease(pc);
    }

    fn report_cards(&mut self, pc: usize) {
        if self.pcs[pc].is_live() {
            let cards = self.pcs[pc].cards.iter().map(|c| c.card.clone()).collect();
            self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::Cards(cards), now));
        }
    }

    fn garbage(&mut self, pc: usize) {
        if !self.pcs[pc].is_live() {
            return;
        }
        let len = self.dice.range(0, 200) as usize;
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| self.dice.below(256) as u8).take(len).collect();
        // Half of it pretends to be WireGuard, and some of that has the right length.
        if self.dice.chance(500) {
            let kind = self.dice.range(1, 4);
            bytes.resize([148, 92, 64, 80][kind as usize - 1], 0);
            bytes[..4].copy_from_slice(&kind.to_le_bytes());
        }
        let from = SocketAddr::from(([203, 0, 113, self.dice.range(1, 254) as u8], 4000));
        let stride = bytes.len().max(1);
        self.drive(pc, |node, now, wan, lan| {
            node.handle_wan(Datagrams { via: Via::Main, from, bytes: &mut bytes, stride }, now, wan, lan);
        });
    }

    fn replay(&mut self) {
        let count = u32::try_from(self.chaos.seen.len()).unwrap_or(0);
        if count == 0 {
            return;
        }
        let (pc, to, from, bytes) = self.chaos.seen[self.dice.below(count) as usize].clone();
        let from = if self.dice.chance(500) { from } else { SocketAddr::from(([203, 0, 113, 7], 4000)) };
        let wait = Duration::from_millis(u64::from(self.dice.below(500)));
        self.after(wait, Event::Datagram { pc, to, from, bytes });
    }

    /// Everything that can be mended is mended.
    fn heal(&mut self) {
        self.net.heal();
        self.chaos.full.clear();
        self.chaos.tamper = 0;
        self.chaos.plugins = Manners::default();
        let now = self.honest_now();
        for plane in &mut self.planes {
            plane.come_back(now);
        }
        (0..self.servers.len()).for_each(|server| self.server_up(server));
        for pc in 0..self.pcs.len() {
            self.rise(pc);
            self.start(pc);
        }
    }
}
