//! One measurement, from the side that wants to know.
//!
//! It asks the peer, measures lone packets, then how much of large ones is carried there, a game's packets beside three quarters
//! of that, how much is carried back, and the same of small ones: what matters most comes first, because the whole is over
//! in time, with what there is by then.
//!
//! Inputs: `handle` (what the peer says), `handle_timeout`. Outputs: `poll` (packets), `outcome`. Deadlines: `deadline`.

use super::climb::{Climb, Found, Quest, Way};
use super::echoes::Echoes;
use super::flow::Flow;
use super::ladder::Steps;
use crate::model::id::PeerId;
use crate::model::measure::{Beside, Carried, Limit, Measured, Trip};
use crate::model::time::{Deadline, Mono};
use crate::wire::frame::HEADER;
use crate::wire::measure::{HEAD, NOTE, Note, Refusal, VERSION, What};
use std::time::Duration;

/// Lone packets: how long, and how many a second.
const ALONE: (u16, u32) = (100, 100);
/// A game's packets: as a fast shooter sends them.
const GAME: (u16, u32) = (200, 128);
/// Rates of small packets that are tried: first, most, least.
const SMALL: [u32; 3] = [1_000, 250_000, 100];
/// The same of large ones, in kbit/s.
const BULK: [u32; 3] = [2_000, 1_000_000, 125];
/// Of what is to come back no more than this is tried, in kbit/s: it costs the peer as much as this node.
const BULK_BACK: u32 = 500_000;
/// The question is asked again after these.
const PATIENCE: [Duration; 4] = [ms(200), ms(400), ms(600), ms(800)];
/// A peer that says nothing for so long is gone.
const SILENCE: Duration = ms(3_000);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// How thoroughly.
#[derive(Debug, Clone, Copy)]
struct Plan {
    alone: usize,
    beside: usize,
    /// How long a rate is held.
    long: Duration,
    growth: u32,
    fine: u8,
    twice: bool,
    /// No new rate is tried so long after the first one, there and back.
    there: Duration,
    back: Duration,
    /// Everything is over by then.
    all: Duration,
}

const WHOLE: Plan = Plan {
    alone: 200,
    beside: 256,
    long: ms(150),
    growth: 2,
    fine: 2,
    twice: true,
    there: ms(3_500),
    back: ms(1_400),
    all: ms(14_000),
};

const QUICK: Plan = Plan {
    alone: 50,
    beside: 50,
    long: ms(60),
    growth: 4,
    fine: 1,
    twice: false,
    there: ms(800),
    back: ms(400),
    all: ms(4_000),
};

/// Why a measurement came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The peer never answered.
    Silent,
    /// It does not answer any more.
    Broke,
    /// It said no.
    Refused(Refusal),
}

/// A packet to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// What it says.
    pub note: Note,
    /// Bytes of the frame's body.
    pub len: usize,
}

/// See the module's description.
#[derive(Debug)]
pub struct Run {
    peer: PeerId,
    ticket: u64,
    id: u32,
    plan: Plan,
    /// Length of large packets.
    large: u16,
    began: Mono,
    heard: Mono,
    steps: u16,
    stage: Stage,
    results: Results,
}

#[derive(Debug)]
enum Stage {
    Asking {
        tries: usize,
        at: Mono,
    },
    Alone(Echoes),
    Climbing(Box<Climb>, Size),
    Beside(Echoes, Flow),
    /// The peer is to be told that it is over.
    Parting(Result<(), Failure>),
    Over(Result<(), Failure>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Bulk,
    Small,
}

#[derive(Debug, Default)]
struct Results {
    alone: Option<Trip>,
    usual: Duration,
    allowed: f64,
    beside: Option<Beside>,
    bulk: [Option<Found>; 2],
    small: [Option<Found>; 2],
}

impl Run {
    /// A measurement of the way to this peer, on which packets of `large` bytes go in one piece. `id` is random.
    #[must_use]
    pub fn new(peer: PeerId, (ticket, id): (u64, u32), quick: bool, large: u16, now: Mono) -> Self {
        let plan = if quick { QUICK } else { WHOLE };
        let stage = Stage::Asking { tries: 0, at: now };
        let results = Results::default();
        Self { peer, ticket, id, plan, large, began: now, heard: now, steps: 0, stage, results }
    }

    /// Whose way is measured.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Names the outcome.
    #[must_use]
    pub const fn ticket(&self) -> u64 {
        self.ticket
    }

    /// The peer says something.
    pub fn handle(&mut self, note: Note, now: Mono) {
        if note.id != self.id {
            return;
        }
        self.heard = now;
        let this_step = note.step == self.steps && note.what == What::Back;
        match (&mut self.stage, note.what) {
            (Stage::Asking { .. }, What::Yes) => {
                self.steps = 1;
                self.stage = Stage::Alone(Echoes::new(ALONE.0, ALONE.1, self.plan.alone, now));
            }
            (Stage::Asking { .. }, What::No(why)) => self.stage = Stage::Over(Err(Failure::Refused(why))),
            (Stage::Alone(row) | Stage::Beside(row, _), _) if this_step => row.back(note.number, now),
            (Stage::Climbing(climb, _), _) => climb.handle(note, now),
            (
                Stage::Asking { .. }
                | Stage::Alone(_)
                | Stage::Beside(..)
                | Stage::Parting(_)
                | Stage::Over(_),
                _,
            ) => {}
        }
    }

    /// What is over gives way to what comes next; `poll` has the packets.
    pub fn handle_timeout(&mut self, now: Mono) {
        let asking = matches!(self.stage, Stage::Asking { .. });
        let over = matches!(self.stage, Stage::Parting(_) | Stage::Over(_));
        if !asking && !over && now.since(self.heard) >= SILENCE {
            return self.part(Err(Failure::Broke));
        }
        if !over && now.since(self.began) >= self.plan.all {
            return self.out_of_time();
        }
        match &mut self.stage {
            Stage::Asking { tries, at } if *tries >= PATIENCE.len() && *at <= now => {
                self.stage = Stage::Over(Err(Failure::Silent));
            }
            Stage::Alone(row) if row.ends().is_some_and(|at| at <= now) => {
                let (trip, usual) = (row.trip(), row.usual());
                self.alone_ends(trip, usual, now);
            }
            Stage::Climbing(climb, size) => {
                let size = *size;
                if let Some(found) = climb.turn(&mut self.steps, now) {
                    self.climb_ends(size, found, now);
                }
            }
            Stage::Beside(row, flow) if row.ends().is_some_and(|at| at <= now) => {
                self.results.beside = Some(beside(row, flow, self.large));
                self.climb(Size::Bulk, Way::Back, now);
            }
            Stage::Asking { .. }
            | Stage::Alone(_)
            | Stage::Beside(..)
            | Stage::Parting(_)
            | Stage::Over(_) => {}
        }
    }

    fn alone_ends(&mut self, trip: Trip, usual: Option<Duration>, now: Mono) {
        let Some(usual) = usual else { return self.part(Err(Failure::Broke)) };
        self.results.usual = usual;
        // On a way that loses some of everything no rate would ever be carried.
        self.results.allowed = 0.01 + trip.loss.min(0.5);
        self.results.alone = Some(trip);
        self.climb(Size::Bulk, Way::There, now);
    }

    fn climb_ends(&mut self, size: Size, found: Found, now: Mono) {
        let [there, back] = match size {
            Size::Bulk => &mut self.results.bulk,
            Size::Small => &mut self.results.small,
        };
        let first = there.is_none();
        *(if first { there } else { back }) = Some(found);
        match (size, first) {
            (Size::Bulk, true) => self.beside(found, now),
            (Size::Bulk, false) => self.climb(Size::Small, Way::There, now),
            (Size::Small, true) => self.climb(Size::Small, Way::Back, now),
            (Size::Small, false) => self.part(Ok(())),
        }
    }

    fn climb(&mut self, size: Size, way: Way, now: Mono) {
        let (bytes, [first, most, least], most_back, there) = match size {
            Size::Bulk => {
                (self.large, BULK.map(|r| self.large_ones(r)), self.large_ones(BULK_BACK), self.results.bulk)
            }
            Size::Small => (GAME.0, SMALL, SMALL[1], self.results.small),
        };
        let (first, most, long) = match way {
            Way::There => (first, most, self.plan.there),
            // More than arrives there cannot come back.
            Way::Back => {
                let there = there[0].and_then(|found| found.pace).unwrap_or(least).min(most_back);
                (there / 4, there, self.plan.back)
            }
        };
        let Plan { growth, fine, twice, long: held, .. } = self.plan;
        let steps = Steps { first, most, least, growth, fine, twice, until: now + long };
        let Results { usual, allowed, .. } = self.results;
        self.steps += 1;
        let quest = Quest { way, bytes, steps, long: held, usual, allowed };
        self.stage = Stage::Climbing(Box::new(Climb::new(quest, self.steps, now)), size);
    }

    /// Large packets in a second that make so many kbit/s.
    fn large_ones(&self, kbit: u32) -> u32 {
        (kbit.saturating_mul(1_000) / 8 / u32::from(self.large.max(1))).max(1)
    }

    fn beside(&mut self, bulk: Found, now: Mono) {
        let (many, (bytes, per_second)) = (self.plan.beside, GAME);
        let rate = bulk.pace.unwrap_or_else(|| self.large_ones(BULK[2])) * 3 / 4;
        let long = Duration::from_secs(u64::try_from(many).unwrap_or(0)) / per_second;
        self.steps += 1;
        let row = Echoes::new(bytes, per_second, many, now);
        self.stage = Stage::Beside(row, Flow::new(rate, long, u32::MAX, now));
    }

    fn out_of_time(&mut self) {
        match &self.stage {
            Stage::Climbing(climb, size) => {
                let found = climb.so_far(Limit::Time);
                let ways = if *size == Size::Bulk { &mut self.results.bulk } else { &mut self.results.small };
                if let Some(empty) = ways.iter_mut().find(|way| way.is_none()) {
                    *empty = Some(found);
                }
            }
            Stage::Beside(row, flow) => self.results.beside = Some(beside(row, flow, self.large)),
            Stage::Asking { .. } | Stage::Alone(_) | Stage::Parting(_) | Stage::Over(_) => {}
        }
        let enough = self.results.alone.is_some();
        self.part(if enough { Ok(()) } else { Err(Failure::Broke) });
    }

    fn part(&mut self, how: Result<(), Failure>) {
        self.stage = Stage::Parting(how);
    }

    /// The next packet.
    pub fn poll(&mut self, now: Mono) -> Option<Packet> {
        let (step, number, what, len) = match &mut self.stage {
            Stage::Asking { tries, at } => {
                let wait = PATIENCE.get(*tries).filter(|_| *at <= now)?;
                (*tries, *at) = (*tries + 1, now + *wait);
                (0, 0, What::Ask(VERSION), None)
            }
            Stage::Alone(row) => (self.steps, row.poll(now)?, What::Echo, Some(ALONE.0)),
            Stage::Climbing(climb, _) => climb.poll(now)?,
            Stage::Beside(row, flow) => {
                // In the order in which they are due, as if the flow were somebody else's.
                let first = flow.due().is_some_and(|flow| row.due().is_none_or(|row| flow <= row));
                match first.then(|| flow.poll(now)).flatten() {
                    Some(number) => (self.steps, number, What::Load, Some(self.large)),
                    None => (self.steps, row.poll(now)?, What::Echo, Some(GAME.0)),
                }
            }
            Stage::Parting(how) => {
                self.stage = Stage::Over(*how);
                (self.steps, 0, What::Done, None)
            }
            Stage::Over(_) => return None,
        };
        let len = len.map_or(NOTE, |whole| usize::from(whole).saturating_sub(HEADER).max(HEAD));
        Some(Packet { note: Note { id: self.id, step, number, what }, len })
    }

    /// When to be woken.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let end = self.began + self.plan.all;
        let at = match &self.stage {
            Stage::Asking { at, .. } => *at,
            Stage::Alone(row) => row.due().or_else(|| row.ends())?,
            Stage::Climbing(climb, _) => climb.deadline(),
            Stage::Beside(row, flow) => {
                let next = row.due().or_else(|| row.ends())?;
                flow.deadline().map_or(next, |flow| flow.min(next))
            }
            Stage::Parting(_) | Stage::Over(_) => self.heard,
        };
        Some(Deadline::new(at.min(end), "measure"))
    }

    /// What came of it, when it is over.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Measured, Failure>> {
        let Stage::Over(how) = &self.stage else { return None };
        let carried = |bytes, [there, back]: [Option<Found>; 2]| Carried {
            bytes,
            there: there.and_then(|found| found.rate),
            back: back.and_then(|found| found.rate),
        };
        let results = &self.results;
        let alone = results.alone.clone().ok_or(Failure::Broke);
        Some(how.and(alone).map(|alone| Measured {
            alone,
            beside: results.beside.clone(),
            small: carried(GAME.0, results.small),
            bulk: carried(self.large, results.bulk),
            allowed_loss: results.allowed,
        }))
    }
}

fn beside(row: &Echoes, flow: &Flow, large: u16) -> Beside {
    let per_second = f64::from(flow.sent) / flow.span().as_secs_f64();
    Beside { flow_mbit: per_second * f64::from(large) * 8.0 / 1e6, trip: row.trip() }
}
