//! One peer's path finder: which of its addresses to use, found out by asking all of them.
//!
//! *Bootstrap.* Without a session, a handshake initiation is sent to every known address at once; the first that answers
//! carries data from then on. The peer with the lower name tries first, the other a moment later, so that
//! the two rarely cross. Tries come every second at first and thin out to one in 30 s.
//!
//! *Probing.* With a session, every address is pinged inside it. A pong proves its address and gives a round-trip time.
//! Proof only promotes: a better tier, or a clearly better time, takes over.
//!
//! *Doubt.* When something was sent and nothing authentic came back for three seconds, the primary and all others are
//! pinged quickly. Three silent pings demote it; the best proven other takes over, or the bootstrap starts again while
//! the session is kept. A live path is never dropped for a hope.
//!
//! Inputs: candidates, cards, authentic datagrams, pongs, sends. Outputs: `poll`. Deadlines: `deadline`.

use super::pair::{DOUBT_WAIT, Pair, spare_wait};
use super::score::{card_of, is_better, kind_of};
use crate::model::addr::{Candidate, Card};
use crate::model::id::CardId;
use crate::model::limits::CANDIDATES;
use crate::model::status::PathKind;
use crate::model::time::{Deadline, Mono};
use std::net::SocketAddr;
use std::time::Duration;

/// After this silence upon a send, the primary is in doubt.
const DOUBT_AFTER: Duration = Duration::from_secs(3);
/// Silent pings in doubt that demote a primary.
const DEMOTE_AFTER: u32 = 3;
/// Silent pings that demote a primary even while something is heard.
const DEMOTE_ANYWAY: u32 = 5;
/// How long the peer with the higher name waits before it tries a handshake itself.
const POLITE_WAIT: Duration = Duration::from_millis(700);
/// From this many tries on they come twice a minute.
const PATIENT: u32 = 31;
/// Addresses of one peer under test: those of its record, and as many that were only heard from.
const PAIRS: usize = CANDIDATES * 2;
/// Refused initiations count when nothing else was heard for this long, and not more often.
const KNOCK_QUIET: Duration = Duration::from_secs(2);
/// A proof this fresh is worth more than a primary that has been silent for as long.
const FRESH: Duration = Duration::from_secs(2);

/// What the agent wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send a handshake initiation to all of `addresses`.
    Handshake,
    /// Send a ping with this number to this address.
    Ping(SocketAddr, u64),
    /// The primary path is new or changed, and proven.
    Changed(Report),
    /// No path is left.
    Lost,
}

/// A path, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its tier.
    pub kind: PathKind,
    /// Where.
    pub remote: SocketAddr,
    /// Round-trip time.
    pub rtt: Duration,
    /// Share of lost pings in thousandths.
    pub loss: u32,
    /// Why this one.
    pub why: String,
}

/// One peer's path finder.
#[derive(Debug)]
pub struct Agent {
    pairs: Vec<Pair>,
    primary: Option<SocketAddr>,
    reported: Option<(SocketAddr, PathKind)>,
    why: String,
    eager: bool,
    keepalive: Duration,
    session: bool,
    next_try: Option<Mono>,
    tries: u32,
    heard: Option<Mono>,
    doubt: Doubt,
    numbers: u64,
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
            pairs: Vec::new(),
            primary: None,
            reported: None,
            why: String::new(),
            eager,
            keepalive,
            session: false,
            next_try: Some(if eager { now } else { now + POLITE_WAIT }),
            tries: 0,
            heard: None,
            doubt: Doubt::default(),
            numbers,
            lost: false,
            news: true,
        }
    }

    /// The peer's record names these addresses (already filtered). Others that it named before are forgotten unless in use.
    pub fn set_candidates(&mut self, candidates: &[Candidate], cards: &[Card], now: Mono) {
        for pair in &mut self.pairs {
            pair.named = candidates.iter().any(|c| c.addr == pair.remote);
        }
        let mut news = false;
        for c in candidates.iter().take(CANDIDATES) {
            if self.pairs.iter().all(|p| p.remote != c.addr) {
                self.pairs.push(Pair::new(c.addr, kind_of(c.addr.ip(), cards), true, now));
                news = true;
            }
        }
        let primary = self.primary;
        self.pairs.retain(|p| p.named || Some(p.remote) == primary || p.proven.is_some());
        if self.pairs.iter().any(|p| !p.named && Some(p.remote) == primary) && !candidates.is_empty() {
            self.suspect(now);
        }
        self.make_room(PAIRS);
        if news && !self.session {
            self.tries = 0;
            self.next_try = Some(self.next_try.map_or(now, |t| t.min(now + POLITE_WAIT)));
        }
    }

    /// This computer's cards changed, or the peer's network did: every proof is in doubt.
    pub fn network_changed(&mut self, cards: &[Card], now: Mono) {
        for pair in &mut self.pairs {
            let kind = kind_of(pair.remote.ip(), cards);
            if kind != pair.kind && Some(pair.remote) == self.primary {
                self.why = "this computer's network changed".to_owned();
            }
            pair.kind = kind;
            pair.doubt(now);
        }
        if self.primary.is_some() && self.doubt.unheard_since.is_none() {
            self.doubt.unheard_since = Some(now - DOUBT_AFTER);
        }
        if !self.session {
            self.tries = 0;
            self.next_try = Some(now);
        }
    }

    /// The session came up (or went).
    pub fn session(&mut self, established: bool, now: Mono) {
        self.news = true;
        if established && !self.session {
            self.tries = 0;
            self.next_try = None;
            for pair in &mut self.pairs {
                pair.doubt(now);
            }
        }
        if !established && self.session {
            self.next_try = Some(now);
        }
        self.session = established;
    }

    /// The peer is gone: what was proven counts no more, and a path that comes up is told about anew. If it `left` it is
    /// left alone until `call`; else it is tried now and then.
    pub fn rest(&mut self, left: bool, now: Mono) {
        (self.primary, self.reported, self.heard, self.doubt.unheard_since) = (None, None, None, None);
        (self.session, self.lost, self.news) = (false, false, true);
        self.tries = if left { 0 } else { PATIENT };
        // At once: it may be this computer that was asleep, and the peer is still there.
        self.next_try = (!left).then_some(now);
        self.doubt.moved = false;
        self.pairs.retain(|p| p.named);
        for pair in &mut self.pairs {
            pair.proven = None;
            pair.doubt(now);
        }
    }

    /// The peer says that it is there: try at once.
    pub fn call(&mut self, now: Mono) {
        if !self.session {
            let wish = if self.eager { now } else { now + POLITE_WAIT };
            self.tries = 0;
            self.next_try = Some(self.next_try.map_or(wish, |t| t.min(wish)));
        }
    }

    /// Whether the peer is reached on the network of this card: then it hears our broadcasts there by itself. Two
    /// computers may share two networks, so every address that works counts; of the primary, the first authentic datagram
    /// is enough to know, because waiting for a pong would send the next announcement twice.
    #[must_use]
    pub fn is_native(&self, card: CardId, cards: &[Card]) -> bool {
        let works =
            |p: &&Pair| Some(p.remote) == self.primary || p.proven.is_some() && p.silent < DEMOTE_AFTER;
        let lan = self.pairs.iter().filter(|p| p.kind == PathKind::Lan);
        lan.filter(works).any(|p| card_of(p.remote.ip(), cards) == Some(card))
    }

    /// An authentic datagram came from this address.
    pub fn heard(&mut self, from: SocketAddr, cards: &[Card], now: Mono) {
        self.heard = Some(now);
        self.doubt.unheard_since = None;
        if self.primary == Some(from) {
            self.doubt.moved = false;
        }
        if self.primary == Some(from) {
            return;
        }
        self.news = true;
        if self.pairs.iter().all(|p| p.remote != from) {
            self.make_room(PAIRS - 1);
            self.pairs.push(Pair::new(from, kind_of(from.ip(), cards), false, now));
            self.suspect(now);
        }
        if self.primary.is_none() {
            self.primary = Some(from);
            self.why = "the first address that answered".to_owned();
        }
    }

    /// Something that the peer made came from this address, but maybe not now: worth a try, and proof of nothing.
    pub fn found(&mut self, from: SocketAddr, cards: &[Card], now: Mono) {
        if self.pairs.iter().all(|p| p.remote != from) {
            self.news = true;
            self.make_room(PAIRS - 1);
            self.pairs.push(Pair::new(from, kind_of(from.ip(), cards), false, now));
        }
    }

    /// The peer speaks from another address, or names its present one no more: ask there quickly instead of at the next
    /// keepalive, so that a laptop that was carried elsewhere is followed within seconds.
    pub fn suspect(&mut self, now: Mono) {
        let primary = self.primary;
        if let Some(pair) = self.pairs.iter_mut().find(|p| Some(p.remote) == primary) {
            self.doubt.moved = true;
            pair.next = pair.next.min(now);
        }
    }

    /// Keeps the list bounded, whatever the peer's router (or the peer) makes up: the addresses that were never proven
    /// leave first, then those whose proof is oldest. What the record names, and the primary, stay.
    fn make_room(&mut self, most: usize) {
        while self.pairs.len() > most {
            let primary = self.primary;
            let others = self.pairs.iter().enumerate().filter(|(_, p)| !p.named && Some(p.remote) != primary);
            let Some((worst, _)) = others.min_by_key(|(_, p)| p.proven) else { return };
            self.pairs.remove(worst);
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

    /// A data packet is being sent to the peer.
    pub fn sent(&mut self, now: Mono) {
        if self.doubt.unheard_since.is_none() {
            self.doubt.unheard_since = Some(now);
        }
    }

    /// Something waits for a session: try now, if no try is under way.
    pub fn wanted(&mut self, now: Mono) {
        if !self.session && (self.tries == 0 || self.next_try.is_none()) {
            self.next_try = Some(now);
        }
    }

    /// An authentic pong with this number.
    pub fn pong(&mut self, number: u64, now: Mono) {
        self.news = true;
        let (primary, keepalive) = (self.primary, self.keepalive);
        let wait = |p: &Pair| if Some(p.remote) == primary { keepalive } else { spare_wait() };
        let Some(pair) = self.pairs.iter_mut().find_map(|p| {
            let wait = wait(p);
            p.ponged(number, now, wait).then_some(p)
        }) else {
            return;
        };
        let (new, new_remote) = ((pair.kind, pair.rtt), pair.remote);
        let old = self.pairs.iter().find(|p| Some(p.remote) == primary);
        let take = match old {
            None => Some(first_words(new.0)),
            Some(old) if old.remote == new_remote => None,
            Some(old) => match old.proven {
                None => Some(first_words(new.0)),
                Some(_) if is_better(new, (old.kind, old.rtt)) => Some(better_words(new.0, old)),
                Some(proven) if old.silent >= 2 && now.since(proven) > FRESH => {
                    Some(format!("{} fell silent and this one answered", old.remote))
                }
                Some(_) => None,
            },
        };
        if let Some(why) = take {
            self.primary = Some(new_remote);
            self.doubt.moved = false;
            self.why = why;
            if let Some(p) = self.pairs.iter_mut().find(|p| p.remote == new_remote) {
                p.next = now + keepalive;
            }
        } else if Some(new_remote) == self.primary && self.reported.is_none() && new.0 == PathKind::Lan {
            self.why = first_words(new.0);
        }
        self.lost = false;
    }

    /// Whether something happened since the last `poll` that it should look at before its deadline.
    #[must_use]
    pub const fn has_news(&self) -> bool {
        self.news
    }

    /// Whether the primary path is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.pairs.iter().any(|p| Some(p.remote) == self.primary && p.proven.is_some())
    }

    /// The addresses for a handshake: the primary alone is not enough when there is no session.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.pairs.iter().map(|p| p.remote)
    }

    /// Where data goes.
    #[must_use]
    pub const fn primary(&self) -> Option<SocketAddr> {
        self.primary
    }

    /// When something authentic last came from the peer.
    #[must_use]
    pub const fn last_heard(&self) -> Option<Mono> {
        self.heard
    }

    /// The primary path, for people; `None` until it is proven.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let pair = self.pairs.iter().find(|p| Some(p.remote) == self.primary && p.proven.is_some())?;
        Some(Report {
            kind: pair.kind,
            remote: pair.remote,
            rtt: pair.rtt,
            loss: pair.loss,
            why: self.why.clone(),
        })
    }

    fn in_doubt(&self, now: Mono) -> bool {
        self.doubt.moved || self.doubt.unheard_since.is_some_and(|since| now.since(since) >= DOUBT_AFTER)
    }

    /// The next thing to do at this time; call until `None`.
    pub fn poll(&mut self, now: Mono) -> Option<Action> {
        self.news = false;
        let primary = self.pairs.iter().find(|p| Some(p.remote) == self.primary).map(|p| (p.remote, p.kind));
        if self.reported != primary
            && let Some(report) = self.report()
        {
            self.reported = primary;
            return Some(Action::Changed(report));
        }
        if std::mem::take(&mut self.doubt.answer_knock) {
            return Some(Action::Handshake);
        }
        if !self.session {
            return self.poll_bootstrap(now);
        }
        self.demote(now);
        if self.primary.is_none() && self.heard.is_some() && !self.lost {
            self.lost = true;
            self.reported = None;
            return Some(Action::Lost);
        }
        let doubt = self.in_doubt(now);
        if doubt && self.primary.is_none() && self.next_try.is_none_or(|t| t <= now) {
            // The session may be dead at the other end (a restart): offer a new one beside the pings.
            self.next_try = Some(now + Duration::from_secs(5));
            return Some(Action::Handshake);
        }
        let primary = self.primary;
        let due = |p: &Pair| p.next <= now || (doubt && Some(p.remote) == primary && !p.waits());
        let pair = self.pairs.iter_mut().find(|p| due(p))?;
        let is_primary = Some(pair.remote) == primary;
        self.numbers += 1;
        let wait = (is_primary && doubt).then_some(DOUBT_WAIT);
        pair.pinged(self.numbers, now, wait);
        Some(Action::Ping(pair.remote, self.numbers))
    }

    fn poll_bootstrap(&mut self, now: Mono) -> Option<Action> {
        if self.pairs.is_empty() || self.next_try.is_none_or(|t| t > now) {
            return None;
        }
        self.tries += 1;
        let wait = match self.tries {
            0..=10 => 1,
            11..=20 => 3,
            21..=30 => 10,
            _ => 30,
        };
        self.next_try = Some(now + Duration::from_secs(wait));
        Some(Action::Handshake)
    }

    fn demote(&mut self, now: Mono) {
        let Some(old) = self.pairs.iter().find(|p| Some(p.remote) == self.primary) else { return };
        // Data may still come in by another way, so enough silent pings count without doubt too.
        if old.silent < DEMOTE_AFTER || !(self.in_doubt(now) || old.silent >= DEMOTE_ANYWAY) {
            return;
        }
        let gone = old.remote;
        let best = self
            .pairs
            .iter()
            .filter(|p| p.remote != gone && p.silent == 0)
            .filter(|p| p.proven.is_some_and(|at| now.since(at) <= spare_wait() * 2))
            .min_by_key(|p| (p.kind, p.rtt));
        let next = best.map(|p| p.remote);
        self.primary = next;
        self.doubt.moved = false;
        self.why = format!("{gone} fell silent");
        for pair in &mut self.pairs {
            if pair.remote == gone {
                pair.proven = None;
            } else if Some(pair.remote) != next {
                pair.next = pair.next.min(now);
            }
        }
        if next.is_none() {
            self.next_try = Some(now);
            for pair in &mut self.pairs {
                pair.doubt(now);
            }
        }
    }

    /// When `poll` has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        if !self.session {
            return self.next_try.filter(|_| !self.pairs.is_empty()).map(|at| Deadline::new(at, "handshake"));
        }
        let ping = self.pairs.iter().map(|p| p.next).min().map(|at| Deadline::new(at, "ping"));
        let primary_waits = self.pairs.iter().any(|p| Some(p.remote) == self.primary && p.waits());
        let doubt = self
            .doubt
            .unheard_since
            .filter(|_| !primary_waits && self.primary.is_some())
            .map(|since| Deadline::new(since + DOUBT_AFTER, "doubt"));
        Deadline::earlier(ping, doubt)
    }
}

fn first_words(kind: PathKind) -> String {
    match kind {
        PathKind::Lan => "you are on the same network",
        PathKind::Direct => "the first address that answered",
        PathKind::Relay => "no direct address has answered yet",
    }
    .to_owned()
}

fn better_words(kind: PathKind, old: &Pair) -> String {
    if kind == old.kind {
        return format!("it is faster than {}", old.remote);
    }
    match kind {
        PathKind::Lan => "you are on the same network".to_owned(),
        PathKind::Direct | PathKind::Relay => "a direct address answered".to_owned(),
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
