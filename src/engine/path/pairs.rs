//! The ways to one peer that are under test: those that follow from its record and from what this computer has, and those
//! it was heard by. Bounded, whatever the peer (or its router) makes up.

use super::pair::Pair;
use super::route::{Ground, Route};
use crate::model::addr::{Candidate, CandidateKind};
use crate::model::limits::CANDIDATES;
use crate::model::status::PathKind;
use crate::model::time::Mono;
use std::time::Duration;

/// Ways to one peer: its addresses twice over (named and heard from), and those by two relays.
const PAIRS: usize = CANDIDATES * 3;
/// New addresses that are asked at once: two whole records; then one in a while.
const AT_ONCE: u32 = 48;
const ONE_MORE_EVERY: Duration = Duration::from_secs(2);
/// Other addresses of the peer make this node ask the old ones again, but not more often than this.
const ANEW_EVERY: Duration = Duration::from_millis(500);
/// Of its addresses on relays, this many are tried through each of ours.
const RELAYED: usize = 4;

/// Proven ways beside the primary that are kept alive: the next best, a relay, and another.
const SPARES: usize = 3;

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    list: Vec<Pair>,
    candidates: Vec<Candidate>,
    /// Whose turn it is to be asked again after resting.
    turn: usize,
    /// When what had not worked was asked anew last because the peer named other addresses.
    asked_anew: Option<Mono>,
    /// When the allowance of new addresses is full again.
    asked_until: Mono,
}

impl Pairs {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pair> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pair> {
        self.list.iter_mut()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn get(&self, route: Option<Route>) -> Option<&Pair> {
        self.list.iter().find(|p| Some(p.route) == route)
    }

    pub(super) fn get_mut(&mut self, route: Option<Route>) -> Option<&mut Pair> {
        self.list.iter_mut().find(|p| Some(p.route) == route)
    }

    /// The peer's record names these. True when there are new ways.
    pub(super) fn set_candidates(
        &mut self,
        candidates: &[Candidate],
        ground: Ground<'_>,
        primary: Option<Route>,
        now: Mono,
    ) -> bool {
        let fresh = candidates.iter().any(|c| !self.candidates.contains(c));
        self.candidates = candidates.iter().take(CANDIDATES).copied().collect();
        let news = self.set_ground(ground, primary, now);
        if fresh && self.asked_anew.is_none_or(|at| now.since(at) >= ANEW_EVERY) {
            // Something changed at the other end: what did not work before may work now.
            self.asked_anew = Some(now);
            self.list
                .iter_mut()
                .filter(|p| p.proven.is_none() && p.asked_before())
                .for_each(|p| p.doubt(now));
        }
        news || fresh
    }

    /// What this computer has changed. True when there are new ways.
    pub(super) fn set_ground(&mut self, ground: Ground<'_>, primary: Option<Route>, now: Mono) -> bool {
        let wanted = self.wanted(ground);
        let live = |p: &Pair| match p.route {
            Route::Relayed { relay, .. } => ground.relays.contains(&relay),
            Route::Friend(seat) => ground.friends.contains(&seat),
            Route::Straight(_) => true,
        };
        for pair in &mut self.list {
            pair.named = wanted.contains(&pair.route);
            pair.kind = pair.route.kind(&self.candidates, ground);
        }
        self.list.retain(|p| live(p) && (p.named || Some(p.route) == primary || p.proven.is_some()));
        let mut news = false;
        for route in wanted {
            if self.get(Some(route)).is_none() {
                let mut pair = Pair::new(route, route.kind(&self.candidates, ground), true, now);
                if !self.may_ask(now) {
                    pair.rest();
                }
                self.list.push(pair);
                news = true;
            }
        }
        self.make_room(PAIRS, primary);
        news
    }

    /// Whether one more address that the peer names is asked at once: whoever names hundreds makes this node ping hundreds of
    /// strangers.
    fn may_ask(&mut self, now: Mono) -> bool {
        let full = self.asked_until.max(now) + ONE_MORE_EVERY;
        let may = full.since(now) <= ONE_MORE_EVERY * AT_ONCE;
        if may {
            self.asked_until = full;
        }
        may
    }

    fn wanted(&self, ground: Ground<'_>) -> Vec<Route> {
        let mut routes: Vec<Route> = self.candidates.iter().map(|c| Route::main(c.addr)).collect();
        let on_relays = self.candidates.iter().filter(|c| c.kind == CandidateKind::Relay).take(RELAYED);
        for candidate in on_relays {
            let through =
                |relay: &super::route::RelaySlot| Route::Relayed { relay: *relay, to: candidate.addr };
            routes.extend(ground.relays.iter().map(through));
        }
        routes.extend(ground.friends.iter().map(|seat| Route::Friend(*seat)));
        routes
    }

    /// A way that does not follow from the record and is not known yet.
    pub(super) fn add(
        &mut self,
        route: Route,
        ground: Ground<'_>,
        primary: Option<Route>,
        now: Mono,
    ) -> &mut Pair {
        self.make_room(PAIRS - 1, primary);
        self.list.push_mut(Pair::new(route, route.kind(&self.candidates, ground), false, now))
    }

    pub(super) fn forget_unnamed(&mut self) {
        self.list.retain(|p| p.named);
    }

    /// One of those that rest is asked again, each in its turn.
    pub(super) fn wake_one(&mut self, now: Mono) {
        let resting = self.list.iter_mut().filter(|p| p.failed());
        let count = resting.count().max(1);
        self.turn = (self.turn + 1) % count;
        let mut resting = self.list.iter_mut().filter(|p| p.failed());
        if let Some(pair) = resting.nth(self.turn) {
            pair.next = now;
        }
    }

    /// Proven ways beyond those that are worth being kept alive are not pinged any more.
    pub(super) fn rest_surplus(&mut self, primary: Option<Route>) {
        let mut spares: Vec<(PathKind, Duration, Route)> = self
            .list
            .iter()
            .filter(|p| p.proven.is_some() && p.silent == 0 && !p.waits() && Some(p.route) != primary)
            .map(|p| (p.kind, p.rtt, p.route))
            .collect();
        spares.sort_unstable();
        // One of them must be a relay, if there is any: direct ways tend to die together.
        if let Some(at) = spares.iter().position(|s| s.0 == PathKind::Relay).filter(|at| *at >= SPARES) {
            spares.swap(SPARES - 1, at);
        }
        for (_, _, route) in spares.into_iter().skip(SPARES) {
            self.get_mut(Some(route)).into_iter().for_each(Pair::rest);
        }
    }

    /// Keeps the list bounded: the ways that were never proven leave first, then those whose proof is oldest. What the record
    /// names, and the primary, stay.
    fn make_room(&mut self, most: usize, primary: Option<Route>) {
        while self.list.len() > most {
            let others = self.list.iter().enumerate().filter(|(_, p)| !p.named && Some(p.route) != primary);
            let worst = others.min_by_key(|(_, p)| p.proven).map(|(at, _)| at);
            // More named than fit (two records' worth of relays): the last ones go untried.
            let Some(worst) = worst.or_else(|| self.list.iter().rposition(|p| Some(p.route) != primary))
            else {
                return;
            };
            self.list.remove(worst);
        }
    }
}
