//! The prober: asks STUN servers, from the tunnel's own socket, how they see us, and lets facts about the router grow.
//!
//! *First* every server is asked plainly; the first answer is a reflexive candidate. *Then* one server that can do it is
//! asked to answer from its other port and its other address (RFC 5780, section 4.4): this must be over before anything
//! is sent there, because what we send to opens the router. *Then* its other ports and addresses are asked plainly
//! (section 4.3), which shows whether mappings depend on the destination and how the router counts. *Last* we send to
//! our own outside address, to see whether the router turns that round (hairpin). With 30 ms of round trip all of this
//! takes a third of a second. After that one plain question every 25 s keeps the mapping alive and notices a new one.
//!
//! It never blocks anything: facts that nobody could find out stay unknown. Answers are not signed; a transaction number
//! of 96 bits is what an attacker has to guess who cannot read them, and an answer must come from where the question went.
//!
//! Inputs: `set_servers`, `set_locals`, `set_local_port`, `handle`, `recheck`, `handle_timeout`. Outputs:
//! `poll_transmit`, `poll_event`, `facts`, `predict`. Deadlines: copies of questions, ends of tests, the next question.

mod round;
mod view;

use super::judge::{self, Contact, Seen, Trial};
use crate::model::dice::Dice;
use crate::model::nat::NatFacts;
use crate::model::time::{Deadline, Mono};
use crate::wire::stun::{Builder, Class, Message, Method, PADDED, Transaction};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Servers that are asked; the first of each family count most.
const SERVERS: usize = 8;
/// Copies of a plain question go out after these waits; the last is how long the last copy gets. 1.5 s in all.
const WAITS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// Copies of a test follow one another like this: so many that a lost one does not decide.
const TEST_GAP: Duration = Duration::from_millis(50);
/// Copies of a test.
const TEST_COPIES: usize = 3;
/// The question to ourselves gets so much longer; a test of a server ends with all of that server's tests.
const TEST_REST: Duration = Duration::from_secs(1);
/// A test's answers get so much longer than one and a half round trips.
const TEST_GRACE: Duration = Duration::from_millis(100);
/// The outside address is looked at so often.
const BEAT: Duration = Duration::from_secs(25);
/// A silent server is asked again after this, doubling …
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// … up to this.
const RETRY_MOST: Duration = Duration::from_secs(40);
/// Events that wait to be taken.
const EVENTS: usize = 16;
/// Destinations whose view is kept, per family.
const SEEN: usize = 24;
/// Questions under way; more than all servers and tests can make.
const ASKS: usize = 64;

/// What the prober tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeEvent {
    /// A server sees us at this address.
    Reflexive {
        /// The outside address of the tunnel's socket.
        public: SocketAddr,
    },
    /// The outside address changed.
    Moved {
        /// The new one.
        public: SocketAddr,
    },
    /// `facts` say more, or something else, than before.
    Facts,
}

/// What was asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// How do you see me?
    Plain,
    /// Answer from there.
    From(SocketAddr),
    /// The question to ourselves.
    Hairpin,
}

#[derive(Debug)]
struct Ask {
    what: What,
    to: SocketAddr,
    id: Transaction,
    copies: usize,
    /// When the first copy left, and as which question of all.
    sent: Option<(Mono, u32)>,
    next: Mono,
    due: bool,
    /// No more copies: the answer may come until `next`.
    last: bool,
}

/// Where a server is in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Asked plainly.
    Asking,
    /// Filtering tests are under way; they end then.
    Testing(Mono),
    /// All that it can tell is asked for.
    Done,
    /// It did not answer; again then, and after this wait the next time.
    Silent(Mono, Duration),
}

#[derive(Debug)]
struct Server {
    addr: SocketAddr,
    phase: Phase,
    other: Option<SocketAddr>,
    rtt: Duration,
}

/// What is known and kept about one address family.
#[derive(Debug, Default)]
struct Family {
    facts: NatFacts,
    seen: Vec<Seen>,
    /// What silent destinations last said: no evidence, but when they are back it shows whether we moved.
    past: Vec<Seen>,
    trials: Vec<Trial>,
    /// From there nothing came. It counts once something that is asked there plainly is answered: else it is only the
    /// server, or the network, that is silent.
    missing: Vec<(SocketAddr, Contact)>,
    /// Where we sent anything to since the router's mapping was made, and when last.
    contacted: BTreeMap<SocketAddr, Mono>,
    /// When a question left whose answer showed the present mapping last.
    confirmed: Mono,
    /// The destination whose view is `facts.public`.
    anchor: Option<SocketAddr>,
    beat: Option<Mono>,
    /// The cards changed since the last answer.
    shaken: bool,
    /// A server that runs the filtering tests, or ran them.
    tester: Option<SocketAddr>,
}

/// The prober of one tunnel socket pair (IPv4 and IPv6).
#[derive(Debug)]
pub struct Probe {
    servers: Vec<Server>,
    families: [Family; 2],
    locals: Vec<IpAddr>,
    local_port: Option<u16>,
    asks: Vec<Ask>,
    events: VecDeque<ProbeEvent>,
    order: u32,
    dice: Dice,
    now: Mono,
}

impl Probe {
    /// A prober that knows no server.
    #[must_use]
    pub fn new(dice: Dice, now: Mono) -> Self {
        Self {
            servers: Vec::new(),
            families: Default::default(),
            locals: Vec::new(),
            local_port: None,
            asks: Vec::new(),
            events: VecDeque::new(),
            order: 0,
            dice,
            now,
        }
    }

    /// The servers that answer STUN over UDP, in order of preference; the first eight count. Known ones go on.
    pub fn set_servers(&mut self, servers: &[SocketAddr], now: Mono) {
        self.now = now;
        let mut wanted: Vec<SocketAddr> = Vec::new();
        for addr in servers {
            if !wanted.contains(addr) && wanted.len() < SERVERS {
                wanted.push(*addr);
            }
        }
        let gone: Vec<SocketAddr> =
            self.servers.iter().map(|s| s.addr).filter(|a| !wanted.contains(a)).collect();
        self.asks.retain(|a| !gone.contains(&a.to));
        gone.into_iter().for_each(|addr| self.retire(addr));
        let mut old = std::mem::take(&mut self.servers);
        for addr in wanted {
            let known = old.iter().position(|s| s.addr == addr);
            let is_new = known.is_none();
            let new = || Server { addr, phase: Phase::Asking, other: None, rtt: Duration::ZERO };
            self.servers.push(known.map_or_else(new, |at| old.remove(at)));
            if is_new {
                self.ask(What::Plain, addr);
            }
        }
    }

    /// This computer's addresses, to tell "no router in between". Call `recheck` when they changed.
    pub fn set_locals(&mut self, locals: &[IpAddr]) {
        if self.locals != locals {
            self.locals = locals.to_vec();
            for family in &mut self.families {
                family.shaken = true;
            }
        }
    }

    /// The port that the tunnel's socket is bound to, to tell whether routers keep it.
    pub const fn set_local_port(&mut self, port: u16) {
        self.local_port = Some(port);
    }

    /// What is known.
    #[must_use]
    pub const fn facts(&self, v6: bool) -> &NatFacts {
        let [v4, six] = &self.families;
        if v6 { &six.facts } else { &v4.facts }
    }

    /// The proof: which destination saw us where.
    pub fn seen(&self, v6: bool) -> impl Iterator<Item = (SocketAddr, SocketAddr)> + '_ {
        self.family(v6).seen.iter().map(|s| (s.to, s.mapped))
    }

    /// The outside ports that a router which counts gives next, the likeliest first; empty for all others.
    #[must_use]
    pub fn predict(&self, v6: bool, most: usize) -> Vec<u16> {
        let family = self.family(v6);
        judge::predict(&family.seen, family.facts.ports, most)
    }

    /// Somebody saw a mapping outlive this silence: the longest such is `facts.lifetime`. The prober itself does not look
    /// for the end of a mapping's life: it would have to be silent, and its owner is not.
    pub fn survived(&mut self, v6: bool, silence: Duration) {
        let facts = &mut self.family_mut(v6).facts;
        facts.lifetime = Some(facts.lifetime.map_or(silence, |old| old.max(silence)));
    }

    /// Somebody doubts that our outside address is still the same, or the network changed: ask every server at once.
    pub fn recheck(&mut self, now: Mono) {
        self.now = now;
        for at in 0..self.servers.len() {
            let Some(server) = self.servers.get_mut(at) else { return };
            let addr = server.addr;
            if !self.asks.iter().any(|a| a.to == addr && a.what == What::Plain) {
                if matches!(server.phase, Phase::Silent(..)) {
                    server.phase = Phase::Asking;
                }
                self.ask(What::Plain, addr);
            }
        }
    }

    /// A STUN datagram on the tunnel's own socket; whether it was ours.
    pub fn handle(&mut self, from: SocketAddr, bytes: &[u8], now: Mono) -> bool {
        self.now = now;
        let Ok(message) = Message::parse(bytes) else { return false };
        if message.method() != Method::Binding {
            return false;
        }
        let Some(at) = self.asks.iter().position(|a| a.id == message.transaction() && a.sent.is_some())
        else {
            return false;
        };
        let Some((what, to)) = self.asks.get(at).map(|a| (a.what, a.to)) else { return false };
        let is_request = message.class() == Class::Request;
        match what {
            What::Plain if !is_request && from == to => {
                let ask = self.asks.remove(at);
                self.plain(&ask, &message);
            }
            What::From(there) if !is_request && (from == there || from == to) => {
                self.asks.remove(at);
                // From where we asked: the server does not do it, and its silence would mean nothing.
                let came = from == there && message.class() == Class::Success;
                self.tested(to, there, came.then_some(true));
            }
            What::Hairpin if is_request => {
                self.asks.remove(at);
                self.change(to.is_ipv6(), |f| f.facts.hairpin = Some(true));
            }
            What::Plain | What::From(_) | What::Hairpin => {}
        }
        true
    }

    /// The next datagram: where to, and how long.
    pub fn poll_transmit(&mut self, room: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let ask = self.asks.iter_mut().find(|a| a.due)?;
        ask.due = false;
        ask.copies += 1;
        let (to, what, first) = (ask.to, ask.what, ask.sent.is_none());
        ask.sent = ask.sent.or(Some((self.now, self.order)));
        let b = Builder::new(room, Method::Binding, Class::Request, ask.id);
        let b = match ask.what {
            What::Plain | What::Hairpin => b,
            What::From(there) => b.change_request(there.ip() != to.ip(), there.port() != to.port()),
        };
        let len = b.software(PADDED).finish().ok()?;
        self.order = self.order.wrapping_add(u32::from(first));
        if what != What::Hairpin {
            let now = self.now;
            self.family_mut(to.is_ipv6()).contacted.insert(to, now);
        }
        Some((to, len))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ProbeEvent> {
        self.events.pop_front()
    }

    /// When to be woken.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let asks = self.asks.iter().map(|a| a.next);
        let phases = self.servers.iter().filter_map(|s| match s.phase {
            Phase::Testing(at) | Phase::Silent(at, _) => Some(at),
            Phase::Asking | Phase::Done => None,
        });
        let beats = self.families.iter().filter_map(|f| f.beat);
        let at = asks.chain(phases).chain(beats).min()?;
        Some(Deadline::new(at, "router's facts"))
    }

    /// The clock moved on.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.now = now;
        for ask in self.asks.iter_mut().filter(|a| a.next <= now && !a.last) {
            let (wait, rest) = match ask.what {
                What::Plain => (WAITS.get(ask.copies).copied(), Duration::ZERO),
                What::From(_) | What::Hairpin => ((ask.copies < TEST_COPIES).then_some(TEST_GAP), TEST_REST),
            };
            (ask.due, ask.last) = (wait.is_some(), wait.is_none());
            ask.next = now + wait.unwrap_or(rest);
        }
        while let Some(at) = self.asks.iter().position(|a| a.last && a.next <= now) {
            let ask = self.asks.remove(at);
            self.unanswered(&ask);
        }
        for at in 0..self.servers.len() {
            match self.servers.get(at).map(|s| (s.addr, s.phase)) {
                Some((addr, Phase::Testing(until))) if until <= now => self.end_tests(addr),
                Some((addr, Phase::Silent(retry, wait))) if retry <= now => {
                    self.set_phase(addr, Phase::Silent(now + wait, (wait * 2).min(RETRY_MOST)));
                    self.ask(What::Plain, addr);
                }
                _ => {}
            }
        }
        for v6 in [false, true] {
            self.beat(v6);
        }
    }

    /// A look at the outside address. A mapping per destination is looked at as a whole, because a router that was
    /// restarted between two answers looks just like one.
    fn beat(&mut self, v6: bool) {
        let now = self.now;
        let family = self.family_mut(v6);
        if family.beat.is_some_and(|at| at <= now) {
            family.beat = Some(now + BEAT);
            let differs = family.facts.is_independent() == Some(false);
            let all = family.seen.iter().map(|s| s.to).filter(|_| differs);
            let mut ask: Vec<SocketAddr> = family.anchor.into_iter().chain(all).collect();
            if ask.is_empty() {
                ask.extend(self.servers.iter().map(|s| s.addr).find(|a| a.is_ipv6() == v6));
            }
            ask.into_iter().for_each(|to| self.ask(What::Plain, to));
        }
    }

    fn ask(&mut self, what: What, to: SocketAddr) {
        let twice = self.asks.iter().any(|a| a.what == what && a.to == to);
        if twice || self.asks.len() >= ASKS {
            return;
        }
        let wait = if what == What::Plain { WAITS.first().copied().unwrap_or(TEST_GAP) } else { TEST_GAP };
        let id = Transaction(self.dice.bytes());
        self.asks.push(Ask {
            what,
            to,
            id,
            copies: 0,
            sent: None,
            next: self.now + wait,
            due: true,
            last: false,
        });
    }

    fn change(&mut self, v6: bool, change: impl FnOnce(&mut Family)) {
        let family = self.family_mut(v6);
        let before = family.facts;
        change(family);
        if family.facts != before && self.events.back() != Some(&ProbeEvent::Facts) {
            self.tell(ProbeEvent::Facts);
        }
    }

    fn tell(&mut self, event: ProbeEvent) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn set_phase(&mut self, addr: SocketAddr, phase: Phase) {
        if let Some(server) = self.servers.iter_mut().find(|s| s.addr == addr) {
            server.phase = phase;
        }
    }

    const fn family(&self, v6: bool) -> &Family {
        let [v4, six] = &self.families;
        if v6 { six } else { v4 }
    }

    const fn family_mut(&mut self, v6: bool) -> &mut Family {
        let [v4, six] = &mut self.families;
        if v6 { six } else { v4 }
    }
}
#[cfg(test)]
mod tests;
