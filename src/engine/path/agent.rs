//! One peer's path finder: which way to it to use, found out by asking all of them.
//!
//! *Bootstrap.* Without a session, a handshake initiation is sent by every known way at once, relays included; the first
//! that answers carries data from then on. The peer with the lower name tries first, the other a moment later, so that the
//! two rarely cross. Tries come quickly while new ways appear, and thin out to one in 30 s.
//!
//! *Probing.* With a session, every way is pinged inside it: both ends do so as soon as they hear of each other's
//! addresses, which is all that opens most routers. A pong proves its way and gives a round-trip time. Proof only promotes: a
//! better tier, or a clearly better time, takes over. An authentic datagram from anywhere makes that place a way to be asked.
//!
//! *Doubt.* When something was sent and nothing authentic came back for 300 ms, the primary is pinged. A ping without an answer
//! in its usual time makes the agent **unsure**: from then on data goes by a second way too (sealed once, so the peer's
//! replay window drops the copy), what was sent since the last sign of life goes by it again, all other ways are asked,
//! and relays and the router are looked at (`Action::Distress`). Three silent pings demote the primary if another way is
//! proven; without another it is kept for seconds. A live path is never dropped for a hope.
//!
//! Inputs: candidates, ground, authentic datagrams, pongs, sends. Outputs: `poll`. Deadlines: `deadline`.

// Size: one state machine whose inputs all touch the same doubt; its parts that stand alone are in files beside it.

use super::action::{Action, Report, better_words, first_words};
use super::bootstrap::Bootstrap;
use super::pair::{Pair, SPARE_WAIT};
use super::pairs::Pairs;
use super::route::{Ground, Route};
use super::score::{card_of, is_better};
use crate::model::addr::Candidate;
use crate::model::id::CardId;
use crate::model::limits::{KEEPALIVE, KEEPALIVE_MOST};
use crate::model::status::PathKind;
use crate::model::time::{Deadline, Mono};
use std::net::SocketAddr;
use std::time::Duration;

/// After this silence upon a send the primary is asked; twice its round trip and some, if that is longer.
const DOUBT_AFTER: Duration = Duration::from_millis(300);
/// Silent pings in doubt that demote a primary when another way is proven.
const DEMOTE_AFTER: u32 = 3;
/// Silence in doubt that demotes a primary when none is.
const DEMOTE_ALONE_AFTER: Duration = Duration::from_secs(4);
/// Silent pings that demote a primary even while something is heard.
const DEMOTE_ANYWAY: u32 = 5;
/// The longest wait between pings of a primary in doubt.
const DOUBT_WAIT_MOST: Duration = Duration::from_secs(2);
/// Refused initiations count when nothing else was heard for this long, and not more often.
const KNOCK_QUIET: Duration = Duration::from_secs(2);
/// A proof this fresh is worth more than a primary that has been silent for as long.
const FRESH: Duration = Duration::from_secs(2);
/// Beside a round trip, this much before the last sign of life what was sent is sent again.
const IN_THE_AIR: Duration = Duration::from_millis(60);
/// While there is no direct way, one way that rests is asked this often.
const SECOND_CHANCE: Duration = Duration::from_secs(60);
/// Keepalives in a row that the end which asks seldom leaves to the other one: it wants to know its own round trip, too.
const SPARED: u32 = 3;
/// Clocks are in step with the time of day: the end that asks seldom would ask at the same moment as the other one, and never be
/// spared. It is so much behind its beat.
const BEHIND_BEAT: Duration = Duration::from_secs(1);
/// The shortest keepalive that is learned from mappings found dead.
const KEEPALIVE_LEAST: Duration = Duration::from_secs(5);

/// One peer's path finder.
#[derive(Debug)]
pub struct Agent {
    pairs: Pairs,
    primary: Option<Route>,
    since: Mono,
    reported: Option<(Route, PathKind)>,
    why: String,
    keepalive: Duration,
    /// This end asks, and the other one only answers while nothing is in doubt.
    eager: bool,
    spared: u32,
    session: bool,
    knock: Bootstrap,
    heard: Option<Mono>,
    doubt: Doubt,
    numbers: u64,
    second_chance: Option<Mono>,
    pending_resend: Option<Mono>,
    lost: bool,
    news: bool,
}

/// Why the present path may not work any more.
#[derive(Debug, Default)]
struct Doubt {
    /// Something was sent then, and nothing authentic came since.
    unheard_since: Option<Mono>,
    /// The peer seems to have moved away from its primary address.
    moved: bool,
    /// The peer says that it hears nothing.
    deaf: bool,
    /// Since when data goes by two ways.
    unsure: Option<Mono>,
    /// What was said about being unsure: resent, distress called.
    told: bool,
    /// An initiation in its name was last refused then …
    knocked: Option<Mono>,
    /// … and we still have to make our own.
    answer_knock: bool,
}

impl Agent {
    /// A path finder that knows no address yet. `eager` is true at one of the two ends; `numbers` is random, so that
    /// pongs of an earlier run fit nothing.
    #[must_use]
    pub fn new(eager: bool, keepalive: Duration, numbers: u64, now: Mono) -> Self {
        Self {
            pairs: Pairs::default(),
            primary: None,
            since: now,
            reported: None,
            why: String::new(),
            keepalive,
            eager,
            spared: 0,
            session: false,
            knock: Bootstrap::new(eager, now),
            heard: None,
            doubt: Doubt::default(),
            numbers,
            second_chance: None,
            pending_resend: None,
            lost: false,
            news: true,
        }
    }

    /// The peer's record names these addresses (already filtered). Ways that followed from others are forgotten unless proven
    /// or in use.
    pub fn set_candidates(&mut self, candidates: &[Candidate], ground: Ground<'_>, now: Mono) {
        let news = self.pairs.set_candidates(candidates, ground, self.primary, now);
        if self.pairs.get(self.primary).is_some_and(|p| !p.named) && !candidates.is_empty() {
            self.suspect(now);
        }
        self.new_ways(news, now);
    }

    /// This node's relays or friends changed; cards are `network_changed`.
    pub fn set_ground(&mut self, ground: Ground<'_>, now: Mono) {
        let news = self.pairs.set_ground(ground, self.primary, now);
        if self.primary.is_some() && self.pairs.get(self.primary).is_none() {
            self.fall_back(now, "its relay is gone");
        }
        self.new_ways(news, now);
    }

    fn new_ways(&mut self, news: bool, now: Mono) {
        if !news {
            return;
        }
        self.news = true;
        if !self.session {
            self.knock.new_ways(now);
        }
    }

    /// This computer's cards changed, it slept, or the peer's network did: every proof is in doubt.
    pub fn network_changed(&mut self, ground: Ground<'_>, now: Mono) {
        let old = self.pairs.get(self.primary).map(|p| p.kind);
        self.pairs.set_ground(ground, self.primary, now);
        let primary = self.pairs.get(self.primary);
        if primary.is_some_and(|p| Some(p.kind) != old) {
            self.why = "this computer's network changed".to_owned();
        }
        for pair in self.pairs.iter_mut() {
            pair.doubt(now);
        }
        if self.primary.is_some() {
            self.doubt.moved = true;
        }
        if !self.session {
            self.knock.at_once(now);
        }
    }

    /// The session came up (or went).
    pub fn session(&mut self, established: bool, now: Mono) {
        self.news = true;
        if established && !self.session {
            self.knock.end();
            for pair in self.pairs.iter_mut() {
                pair.doubt(now);
            }
        }
        if !established && self.session {
            self.knock.retry(now);
        }
        self.session = established;
    }

    /// The peer is gone: what was proven counts no more, and a path that comes up is told about anew. If it `left` it is
    /// left alone until `call`; else it is tried now and then.
    pub fn rest(&mut self, left: bool, now: Mono) {
        (self.primary, self.reported, self.heard) = (None, None, None);
        self.doubt = Doubt::default();
        (self.session, self.lost, self.news) = (false, false, true);
        self.knock.rest(left, now);
        self.pairs.forget_unnamed();
        for pair in self.pairs.iter_mut() {
            (pair.proven, pair.heard) = (None, None);
            pair.doubt(now);
        }
    }

    /// The peer says that it is there: try at once.
    pub fn call(&mut self, now: Mono) {
        if !self.session {
            self.knock.call(now);
        }
    }

    /// Whether the peer is reached on the network of this card: then it hears our broadcasts there by itself. Two
    /// computers may share two networks, so every address that works counts; of the primary, the first authentic datagram
    /// is enough to know, because waiting for a pong would send the next announcement twice.
    #[must_use]
    pub fn is_native(&self, card: CardId, ground: Ground<'_>) -> bool {
        let works =
            |p: &&Pair| Some(p.route) == self.primary || p.proven.is_some() && p.silent < DEMOTE_AFTER;
        let lan = self.pairs.iter().filter(|p| p.kind == PathKind::Lan);
        let on_card = |p: &Pair| p.route.remote().and_then(|to| card_of(to.ip(), ground.cards)) == Some(card);
        lan.filter(works).any(on_card)
    }

    /// An authentic datagram came by this way.
    pub fn heard(&mut self, route: Route, ground: Ground<'_>, now: Mono) {
        self.heard = Some(now);
        self.doubt.unheard_since = None;
        let primary = self.primary == Some(route);
        if let Some(pair) = self.pairs.get_mut(Some(route)) {
            pair.heard = Some(now);
            // Taken because something came by it; people hear of it once it answers. It is asked now, not when its turn comes.
            if primary && (self.lost || pair.proven.is_none()) && !pair.rests() {
                self.news |= pair.nudge(now);
            }
        }
        if primary {
            if !self.doubt.deaf {
                (self.doubt.moved, self.doubt.unsure, self.doubt.told) = (false, None, false);
            }
            return;
        }
        let tier = self.pairs.get(self.primary).map(|p| p.kind);
        if self.pairs.get(Some(route)).is_none() {
            self.news = true;
            self.pairs.add(route, ground, self.primary, now).heard = Some(now);
            if route.kind(&[], ground) != PathKind::Relay {
                self.suspect(now);
            }
        } else if let Some(pair) = self.pairs.get_mut(Some(route)) {
            // It did not work when we asked; it does now, at least towards us. A proven one that rests is only not needed: were
            // it asked, its question would make the other end ask, for ever.
            if pair.failed() {
                pair.doubt(now);
                self.news = true;
            } else if pair.rests() {
                // Nothing to find out.
            } else if pair.proven.is_none() || pair.silent > 0 || Some(pair.kind) < tier {
                self.news |= pair.nudge(now);
            }
        }
        if self.primary.is_none() {
            self.news = true;
            self.take(route, "the first way that answered".to_owned(), now);
        }
    }

    /// Something that the peer made came from this address, but maybe not now: worth a try, and proof of nothing.
    pub fn found(&mut self, from: SocketAddr, ground: Ground<'_>, now: Mono) {
        let route = Route::main(from);
        if self.pairs.get(Some(route)).is_none() {
            self.news = true;
            self.pairs.add(route, ground, self.primary, now);
        }
    }

    /// The peer speaks from another address, or names its present one no more: ask there quickly instead of at the next
    /// keepalive, so that a laptop that was carried elsewhere is followed within seconds.
    pub fn suspect(&mut self, now: Mono) {
        if let Some(pair) = self.pairs.get_mut(self.primary) {
            self.doubt.moved = true;
            pair.next = pair.next.min(now);
        }
    }

    /// The peer hears nothing of what is sent to it.
    pub fn peer_is_deaf(&mut self, now: Mono) {
        if !self.doubt.deaf && self.primary.is_some() {
            self.doubt.deaf = true;
            self.doubt.unheard_since = self.doubt.unheard_since.or(Some(now - FRESH));
            self.suspect(now);
            self.become_unsure(now);
        }
    }

    /// An initiation in the peer's name was refused. Either somebody sends an old one again, or the peer's clock was set
    /// back and its own handshakes look old to us until it catches up: then ours must do.
    pub fn knocked(&mut self, now: Mono) {
        let quiet = self.heard.is_none_or(|heard| now.since(heard) >= KNOCK_QUIET);
        let lately = self.doubt.knocked.is_some_and(|at| now.since(at) < KNOCK_QUIET);
        if quiet && !lately {
            self.doubt.knocked = Some(now);
            self.doubt.answer_knock = true;
        }
    }

    /// Data is being sent to the peer by the primary.
    pub const fn sent(&mut self, now: Mono) {
        if self.doubt.unheard_since.is_none() {
            self.doubt.unheard_since = Some(now);
        }
    }

    /// Something waits for a session: try now, if no try is under way.
    pub fn wanted(&mut self, now: Mono) {
        if !self.session {
            self.knock.wanted(now);
        }
    }

    /// The peer asked by this way and was answered: that keeps the way open from both ends, so one of the two need not ask as
    /// well while all is well.
    pub fn answered(&mut self, route: Route, now: Mono) {
        let calm = self.doubt.unsure.is_none() && !self.doubt.moved && !self.doubt.deaf;
        if self.eager || self.primary != Some(route) || !calm || self.spared >= SPARED {
            return;
        }
        let keepalive = self.keepalive_of(self.kind());
        // In step with it, a moment behind the beat of its next question; else well behind that.
        let late = now + keepalive + keepalive / 4;
        let beat = late.on_beat(keepalive) + self.behind_beat(keepalive);
        let next = if beat > now + keepalive { beat } else { late };
        let well = |p: &&mut Pair| p.proven.is_some() && p.silent == 0 && !p.waits() && p.next > now;
        if let Some(pair) = self.pairs.get_mut(Some(route)).filter(well) {
            self.spared += u32::from(pair.next < next);
            pair.next = pair.next.max(next);
        }
    }

    /// An authentic pong with this number; true when it answers a ping that waits for one.
    pub fn pong(&mut self, number: u64, now: Mono) -> bool {
        self.news = true;
        let (primary, keepalive) = (self.primary, self.keepalive_of(self.kind()));
        let behind = self.behind_beat(keepalive);
        let Some((route, kind, rtt)) = self.pairs.iter_mut().find_map(|p| {
            let (wait, behind) =
                if Some(p.route) == primary { (keepalive, behind) } else { (SPARE_WAIT, Duration::ZERO) };
            let answers = p.ponged(number, now, wait);
            answers.then(|| {
                p.next = p.next + behind;
                (p.route, p.kind, p.rtt)
            })
        }) else {
            return false;
        };
        self.lost = false;
        if Some(route) == primary {
            self.spared = 0;
            (self.doubt.moved, self.doubt.deaf, self.doubt.told) = (false, false, false);
            (self.doubt.unsure, self.doubt.unheard_since) = (None, None);
            if self.reported.is_none() && kind == PathKind::Lan {
                self.why = first_words(kind);
            }
            return true;
        }
        let take = match self.pairs.get(primary) {
            None => Some(first_words(kind)),
            Some(old) => match old.proven {
                None => Some(first_words(kind)),
                Some(_) if is_better((kind, rtt), (old.kind, old.rtt)) => Some(better_words(kind, old)),
                Some(proven) if old.silent >= 2 && now.since(proven) > FRESH => {
                    Some(format!("{} fell silent and this one answered", old.route))
                }
                Some(_) => None,
            },
        };
        if let Some(why) = take {
            self.take(route, why, now);
        }
        self.pairs.rest_surplus(self.primary);
        true
    }

    /// The longest silence on a primary of this tier. Between two computers of one network no router forgets anything; whoever
    /// wants it shorter than usual gets that there too.
    fn keepalive_of(&self, kind: Option<PathKind>) -> Duration {
        let lan = kind == Some(PathKind::Lan) && self.keepalive >= KEEPALIVE;
        if lan { KEEPALIVE_MOST } else { self.keepalive }
    }

    /// How long after a beat this end asks.
    fn behind_beat(&self, keepalive: Duration) -> Duration {
        if self.eager { Duration::ZERO } else { BEHIND_BEAT.min(keepalive / 8) }
    }

    /// Makes a way the primary.
    fn take(&mut self, route: Route, why: String, now: Mono) {
        self.primary = Some(route);
        self.since = now;
        self.doubt = Doubt { knocked: self.doubt.knocked, ..Doubt::default() };
        self.why = why;
        let keepalive = self.keepalive_of(self.kind());
        if let Some(pair) = self.pairs.get_mut(Some(route)).filter(|p| p.proven.is_some()) {
            pair.next = now + keepalive;
        }
        if self.pairs.get(Some(route)).is_some_and(|p| p.kind == PathKind::Relay) {
            // Something works again: so may what was given up while nothing did.
            for pair in self.pairs.iter_mut().filter(|p| p.rests() && p.kind != PathKind::Relay) {
                pair.doubt(now);
            }
        }
    }

    /// Whether something happened since the last `poll` that it should look at before its deadline.
    #[must_use]
    pub const fn has_news(&self) -> bool {
        self.news
    }

    /// Whether the primary path is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.pairs.get(self.primary).is_some_and(|p| p.proven.is_some())
    }

    /// The ways for a handshake: the primary alone is not enough when there is no session.
    pub fn routes(&self) -> impl Iterator<Item = Route> + '_ {
        self.pairs.iter().map(|p| p.route)
    }

    /// Where data goes.
    #[must_use]
    pub const fn primary(&self) -> Option<Route> {
        self.primary
    }

    /// Where data goes too while the primary is in doubt: the way by which the peer was heard last, else the best proven.
    #[must_use]
    pub fn second(&self) -> Option<Route> {
        self.doubt.unsure?;
        let others = self.pairs.iter().filter(|p| Some(p.route) != self.primary);
        let worth =
            others.filter(|p| p.heard.is_some() && (p.silent < DEMOTE_AFTER || p.kind == PathKind::Relay));
        worth.max_by_key(|p| (p.heard, std::cmp::Reverse(p.kind))).map(|p| p.route)
    }

    /// The tier of the primary, if it is proven.
    #[must_use]
    pub fn kind(&self) -> Option<PathKind> {
        self.pairs.get(self.primary).filter(|p| p.proven.is_some()).map(|p| p.kind)
    }

    /// When something authentic last came from the peer.
    #[must_use]
    pub const fn last_heard(&self) -> Option<Mono> {
        self.heard
    }

    /// The primary path, for people; `None` until it is proven.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let pair = self.pairs.get(self.primary).filter(|p| p.proven.is_some())?;
        Some(Report {
            kind: pair.kind,
            route: pair.route,
            rtt: pair.rtt,
            loss: pair.loss,
            since: self.since,
            why: self.why.clone(),
        })
    }

    /// All ways and how they are doing, for `doctor`.
    pub fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter()
    }

    fn doubt_after(&self) -> Duration {
        let rtt = self.pairs.get(self.primary).map_or(Duration::ZERO, |p| p.rtt);
        DOUBT_AFTER.max(rtt * 2 + Duration::from_millis(100)).min(Duration::from_secs(2))
    }

    fn in_doubt(&self, now: Mono) -> bool {
        self.doubt.moved
            || self.doubt.deaf
            || self.pairs.get(self.primary).is_some_and(|p| p.silent >= 1)
            || self.doubt.unheard_since.is_some_and(|since| now.since(since) >= self.doubt_after())
    }

    /// Data goes by two ways from now on, and every other way is asked.
    fn become_unsure(&mut self, now: Mono) {
        if self.doubt.unsure.is_some() {
            return;
        }
        self.doubt.unsure = Some(now);
        self.news = true;
        let primary = self.primary;
        for pair in self.pairs.iter_mut().filter(|p| Some(p.route) != primary) {
            if pair.proven.is_some() || pair.rests() {
                pair.doubt(now);
            }
        }
    }

    /// The next thing to do at this time; call until `None`.
    pub fn poll(&mut self, now: Mono) -> Option<Action> {
        self.news = false;
        let primary = self.pairs.get(self.primary).map(|p| (p.route, p.kind));
        if self.reported != primary
            && let Some(report) = self.report()
        {
            self.reported = primary;
            return Some(Action::Changed(report));
        }
        if std::mem::take(&mut self.doubt.answer_knock) {
            self.knock.sent(now);
            return Some(Action::Handshake);
        }
        if !self.session {
            return (!self.pairs.is_empty() && self.knock.poll(now)).then_some(Action::Handshake);
        }
        self.demote(now);
        if let Some(unsure) = self.doubt.unsure.filter(|_| !self.doubt.told) {
            // First the router and the relays, then what may be lost.
            self.doubt.told = true;
            // What was in the air when the last sign of life was sent may be lost too.
            let rtt = self.pairs.get(self.primary).map_or(Duration::ZERO, |p| p.rtt);
            let since = self.doubt.unheard_since.map_or(unsure - FRESH, |since| since - (rtt + IN_THE_AIR));
            self.news = true;
            self.pending_resend = Some(since);
            return Some(Action::Distress);
        }
        if let Some(since) = self.pending_resend.take() {
            return Some(Action::Resend(since));
        }
        if self.primary.is_none() && self.heard.is_some() && !self.lost {
            self.lost = true;
            self.reported = None;
            return Some(Action::Lost);
        }
        if self.primary.is_none() && self.knock.offer(now) {
            // The session may be dead at the other end (a restart): offer a new one beside the pings.
            return Some(Action::Handshake);
        }
        self.poll_ping(now)
    }

    fn poll_ping(&mut self, now: Mono) -> Option<Action> {
        let doubt = self.in_doubt(now);
        self.give_second_chance(now);
        let primary = self.primary;
        let due = |p: &Pair| p.next <= now || (doubt && Some(p.route) == primary && !p.waits());
        let pair = self.pairs.iter_mut().find(|p| due(p))?;
        let is_primary = Some(pair.route) == primary;
        self.numbers += 1;
        let wait = is_primary.then(|| {
            (pair.patience() * (1 << pair.silent.saturating_sub(DEMOTE_AFTER).min(4))).min(DOUBT_WAIT_MOST)
        });
        pair.pinged(self.numbers, now, wait);
        let (route, unanswered) = (pair.route, pair.silent >= 1);
        if is_primary && doubt && unanswered {
            self.become_unsure(now);
        }
        let silence = self.doubt.unheard_since.is_some_and(|since| now.since(since) >= self.doubt_after());
        let doubt = self.doubt.unsure.is_some() && silence && !self.doubt.deaf;
        Some(Action::Ping { route, number: self.numbers, doubt })
    }

    /// While the best way is a relay, the others are not forgotten for good.
    fn give_second_chance(&mut self, now: Mono) {
        let relayed = self.kind() == Some(PathKind::Relay);
        if !relayed {
            self.second_chance = None;
            return;
        }
        let due = *self.second_chance.get_or_insert(now + SECOND_CHANCE);
        if due <= now {
            self.second_chance = Some(now + SECOND_CHANCE);
            self.pairs.wake_one(now);
        }
    }

    fn demote(&mut self, now: Mono) {
        let Some(old) = self.pairs.get(self.primary) else { return };
        // Data may still come in by another way, so enough silent pings count without doubt too.
        if old.silent < DEMOTE_AFTER || !(self.in_doubt(now) || old.silent >= DEMOTE_ANYWAY) {
            return;
        }
        let (gone, waited) = (old.route, self.doubt.unsure.map_or(Duration::ZERO, |since| now.since(since)));
        let idle = old.proven.max(old.heard).is_some_and(|at| now.since(at) >= self.keepalive);
        if self.best_other(gone, now).is_none() && waited < DEMOTE_ALONE_AFTER {
            return;
        }
        if idle && old.kind == PathKind::Direct {
            // It died in silence: the router forgets sooner than we spoke.
            self.keepalive = (self.keepalive / 2).max(KEEPALIVE_LEAST.min(self.keepalive));
        }
        let words = format!("{gone} fell silent");
        if let Some(pair) = self.pairs.get_mut(Some(gone)) {
            pair.proven = None;
            pair.doubt(now);
        }
        self.fall_back(now, &words);
    }

    fn best_other(&self, gone: Route, now: Mono) -> Option<Route> {
        self.pairs
            .iter()
            .filter(|p| p.route != gone && p.silent == 0)
            .filter(|p| p.proven.is_some_and(|at| now.since(at) <= SPARE_WAIT * 2))
            .min_by_key(|p| (p.kind, p.rtt))
            .map(|p| p.route)
    }

    /// The primary is no more: the best other that is proven, or the search starts over while the session is kept.
    fn fall_back(&mut self, now: Mono, why: &str) {
        let old = self.primary.take();
        let next = old.and_then(|old| self.best_other(old, now));
        match next {
            Some(route) => self.take(route, why.to_owned(), now),
            None => {
                self.why = why.to_owned();
                self.knock.retry(now);
                self.doubt = Doubt { knocked: self.doubt.knocked, ..Doubt::default() };
            }
        }
        for pair in self.pairs.iter_mut().filter(|p| Some(p.route) != next) {
            pair.doubt(now);
        }
        self.news = true;
    }

    /// When `poll` has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        if !self.session {
            return self
                .knock
                .next()
                .filter(|_| !self.pairs.is_empty())
                .map(|at| Deadline::new(at, "handshake"));
        }
        let awake = self.pairs.iter().filter(|p| !p.rests());
        let ping = awake.map(|p| p.next).min().map(|at| Deadline::new(at, "ping"));
        // A primary that was forgotten a moment ago cannot be pinged.
        let pingable = self.pairs.get(self.primary).is_some_and(|p| !p.waits());
        let doubt = self
            .doubt
            .unheard_since
            .filter(|_| pingable)
            .map(|since| Deadline::new(since + self.doubt_after(), "doubt"));
        let chance = self.second_chance.map(|at| Deadline::new(at, "second chance"));
        let retry =
            self.knock.next().filter(|_| self.primary.is_none()).map(|at| Deadline::new(at, "handshake"));
        [doubt, chance, retry].into_iter().fold(ping, Deadline::earlier)
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
