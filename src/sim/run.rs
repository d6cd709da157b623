//! A story from beginning to end, and the verdict.
//!
//! Whatever went wrong, it ends: everything is mended, the nodes get time to find each other again, and then comes a
//! quiet stretch in which every packet counts. At the very end all honest nodes must agree about who is where.

use super::fault::Step;
use super::game::Program;
use super::oracle::Violation;
use super::scenario::{Mood, Scenario};
use super::trace::hash;
use super::ways;
use super::world::World;
use crate::engine::counters::DropReason;
use crate::model::dice::Seed;
use crate::model::status::Status;
use std::collections::BTreeMap;
use std::time::Duration;

/// The nodes have found each other by then, after everything was mended.
const SETTLE: Duration = Duration::from_secs(150);
/// In a world where nothing goes wrong.
const SETTLE_CALM: Duration = Duration::from_secs(12);
/// In such a world with NATs: the hardest pairs take their time, and are held to it.
const SETTLE_NATS: Duration = Duration::from_secs(45);
/// The quiet stretch.
const QUIET: Duration = Duration::from_secs(12);
/// The last packets arrive.
const LAST: Duration = Duration::from_secs(3);
/// A running game is in the list of whoever comes late by then (the contract says 2 s; a router's round trip on top).
const LATE: Duration = Duration::from_millis(2300);

/// What came of a story.
#[derive(Debug)]
pub struct Outcome {
    /// Its mood.
    pub mood: Mood,
    /// How many computers there were.
    pub pcs: usize,
    /// How many steps it had.
    pub steps: usize,
    /// Rules that were broken, the first of them.
    pub violations: Vec<Violation>,
    /// How many more there were.
    pub more: usize,
    /// The trace's hash.
    pub hash: u64,
    /// Events in the trace.
    pub events: u64,
    /// Copies that were owed, each exactly once.
    pub owed: usize,
    /// Copies that arrived.
    pub copies: usize,
    /// How much time passed in the world.
    pub lasted: Duration,
    /// The trace, if it was kept.
    pub lines: Vec<String>,
}

impl Outcome {
    /// Whether no rule was broken.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Tells the story of some bytes: nothing else goes in, so the same bytes are the same story.
#[must_use]
pub fn tell(bytes: &[u8], keep: bool) -> Outcome {
    tell_with(bytes, keep, |_| {})
}

/// The same in a world that was changed before anything runs.
#[must_use]
pub fn tell_with(bytes: &[u8], keep: bool, change: impl FnOnce(&mut World)) -> Outcome {
    let story = Scenario::decode(bytes);
    let mut world = story.world(Seed::from_u64(hash(0, bytes)), keep);
    change(&mut world);
    let owner = world.party.owner;
    for pc in 0..story.pcs {
        world.later(story.start_of(pc, owner), Step::Start(pc));
        for program in 0..world.pcs[pc].programs.len() {
            let (announcer, on) = &world.pcs[pc].programs[program];
            if *on && matches!(announcer, Program::Announcer { .. }) {
                let wait = Duration::from_millis(100 + 170 * pc as u64 + 610 * program as u64);
                world.after(wait, super::world::Event::Program((pc, program)));
            }
        }
    }
    if story.liar {
        world.later(Duration::from_secs(7), Step::Turn(story.pcs));
    }
    world.run_for(Duration::from_secs(8));
    for (wait, step) in &story.steps {
        world.run_for(*wait);
        world.apply(step.clone());
    }
    world.run_for(Duration::from_secs(2));
    world.apply(Step::Heal);
    world.run_for(match (story.mood, &story.nats) {
        (Mood::Calm, None) => SETTLE_CALM,
        (Mood::Calm, Some(_)) => SETTLE_NATS,
        (Mood::Lossy | Mood::Rough, _) => SETTLE,
    });
    end(&mut world);
    let (violations, more) = world.oracle.verdict();
    Outcome {
        mood: story.mood,
        pcs: story.pcs,
        steps: story.steps.len(),
        violations: violations.to_vec(),
        more,
        hash: world.trace.hash(),
        events: world.trace.events(),
        owed: world.oracle.owed(),
        copies: world.oracle.copies(),
        lasted: world.now.0,
        lines: world.trace.into_lines(),
    }
}

/// The quiet stretch and the last questions. Everything must have been mended and had its time.
pub fn end(world: &mut World) {
    must_be_joined(world);
    ways::must_be_best(world);
    world.chaos.fair = true;
    let pcs = world.pcs.len();
    for pc in 0..pcs {
        let wait = Duration::from_millis(5000 + 400 * pc as u64);
        let other = (pc + 1) % pcs;
        for program in 0..world.pcs[pc].programs.len() {
            if matches!(world.pcs[pc].programs[program].0, Program::Client { .. }) {
                world.later(wait, Step::Ask((pc, program)));
            }
        }
        if world.pcs[pc].rogue.is_none() {
            world.later(wait, Step::Join(pc, (other, 0)));
            world.later(wait, Step::Knock(pc, other));
        }
    }
    world.run_for(QUIET);
    for pc in 0..pcs {
        for program in 0..world.pcs[pc].programs.len() {
            world.pcs[pc].programs[program].1 &=
                !matches!(world.pcs[pc].programs[program].0, Program::Announcer { .. });
        }
    }
    world.run_for(LAST);
    ways::must_be_best(world);
    must_agree(world);
    must_keep_counts(world);
    world.oracle.settle(LATE);
}

pub(super) fn live(world: &World) -> Vec<usize> {
    (0..world.pcs.len()).filter(|pc| world.pcs[*pc].is_live() && !world.pcs[*pc].out).collect()
}

fn must_be_joined(world: &mut World) {
    let now = world.now;
    for pc in 0..world.pcs.len() {
        let (out, runs) = (world.pcs[pc].out, world.pcs[pc].run.is_some());
        if out == runs {
            let text = if out { "was removed and still runs" } else { "does not run" };
            world.oracle.violate(now, format!("pc{pc} {text}"));
        }
    }
    let live = live(world);
    for &a in &live {
        for &b in live.iter().filter(|b| **b != a) {
            let status = status(world, a);
            let id = world.pcs[b].id;
            let peer = status.peers.iter().find(|p| p.peer == id);
            let here = peer.is_some_and(|p| p.state == "here" && p.path.is_some());
            if !here || !world.joined(a, b) {
                let known = peer.map(|p| (p.state.as_str(), &p.path));
                let text = format!("pc{a} has no path to pc{b} in time: {known:?}");
                world.oracle.violate(now, text);
            }
        }
    }
}

pub(super) fn status(world: &World, pc: usize) -> Status {
    let run = world.pcs[pc].run.as_ref().expect("only asked of live ones");
    run.node.status(world.pcs[pc].now(world.now))
}

/// Honest nodes agree about who is here and whose address is whose.
fn must_agree(world: &mut World) {
    let now = world.now;
    let live = live(world);
    let all: BTreeMap<usize, Status> = live.iter().map(|pc| (*pc, status(world, *pc))).collect();
    let mut wrong = Vec::new();
    for (a, status) in &all {
        if world.pcs[*a].virtual_address() != Some(status.address) {
            wrong.push(format!("pc{a} says it is {} and its device is another", status.address));
        }
        if world.pcs[*a].disk.memory.seat.map(|s| s.0.0) != Some(status.address.octets()[3]) {
            wrong.push(format!("pc{a} is {} and remembers another seat", status.address));
        }
        if let Some(link) = status.control.iter().find(|c| c.state != "online") {
            wrong.push(format!("pc{a} is not signed in: {link:?}"));
        }
        let liar = |id| world.pcs.iter().any(|pc| pc.rogue.is_some() && pc.id == id);
        let here = status.peers.iter().filter(|p| p.state != "gone" && !liar(p.peer)).count();
        if here != all.len() - 1 {
            let seen: Vec<_> = status.peers.iter().map(|p| (&p.name, &p.state)).collect();
            wrong.push(format!("pc{a} sees {here} others of {}: {seen:?}", all.len() - 1));
        }
        for (b, other) in all.iter().filter(|(b, _)| *b != a) {
            let seen = status.peers.iter().find(|p| p.peer == other.peer);
            if seen.is_some_and(|p| p.address != other.address || p.name != other.name) {
                wrong.push(format!(
                    "pc{a} believes pc{b} is {:?}, it is {}",
                    seen.map(|p| p.address),
                    other.address
                ));
            }
            if other.address == status.address {
                wrong.push(format!("pc{a} and pc{b} both are {}", other.address));
            }
        }
    }
    for text in wrong {
        world.oracle.violate(now, text);
    }
}

/// Honest nodes never make what another has to refuse as a lie.
fn must_keep_counts(world: &mut World) {
    // Who changes its address has packets of the old one under way.
    let moved = world.pcs.iter().any(|pc| pc.addresses.len() > 1);
    let lies = [DropReason::ForgedSource, DropReason::BadFrame, DropReason::HopLimit, DropReason::Malformed];
    for pc in live(world) {
        let Some(run) = &world.pcs[pc].run else { continue };
        let counters = run.node.counters();
        let found = lies.iter().find(|l| counters.dropped(**l) > 0 && world.chaos.hostile == 0 && !moved);
        let text = found.map(|l| format!("pc{pc} counts {} of honest peers", l.name()));
        let bytes = format!("{:?}", counters.by_name());
        world.trace.note(world.now, Some(pc), "counters", bytes.as_bytes(), || bytes.clone());
        if let Some(text) = text {
            world.oracle.violate(world.now, text);
        }
    }
}
