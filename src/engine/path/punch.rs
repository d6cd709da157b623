//! Opening a way through a pair of NATs of which one (or both, if both count) uses another outside port for everybody.
//!
//! *Random ports.* The end behind such a NAT opens 256 sockets and sends one probe from each to the other end's outside
//! address: 256 of about 64,500 ports now lead back to it from there. The other end probes random ports of that router from
//! its own socket, a thousand a second. Of M probes one hits with 1-(1-256/64512)^M: half of all times within 175, 98 % within
//! 1,024, 99.97 % within 2,048.
//!
//! *Counted ports.* Where a router takes the next port for each new mapping, that end asks a server from a fresh socket what
//! its port is now, and says what comes next. Where both count, both send to all that the other said, in the same order,
//! so that the n-th mapping of one belongs to the n-th of the other.
//!
//! Both ends act on one message inside the tunnel, which a relay carries by then. A probe is a sealed ping, so what arrives
//! proves itself and becomes a way to be asked like any other. Three attempts, each of at most 2,048 probes; then one after
//! three minutes, six, twelve … half an hour, and anew when a network changes. Pairs without hope are never tried. Inputs: the two ends' facts, messages, answers of servers; outputs: `poll`.

use super::plan::{Strategy, may_be_enough, plan};
use crate::model::addr::Via;
use crate::model::dice::Dice;
use crate::model::nat::{NatFacts, PortRule};
use crate::model::time::{Deadline, Mono};
use crate::wire::control::PunchSignal as Signal;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Sockets that are opened against a random allocator.
pub const MANY: u16 = 256;
/// Random probes of one attempt.
const GUESSES: u32 = 2048;
/// Ports that a counting end foretells.
const FORETOLD: u16 = 20;
/// Most ports of one message.
pub const PORTS: usize = 64;
/// Plain pings get this long, from the moment both ends' addresses are known.
const PLAIN_FIRST: Duration = Duration::from_millis(400);
/// And this long where they should do.
const PLAIN_ENOUGH: Duration = Duration::from_millis(1500);
/// A way that broke is not punched anew sooner than this after it worked.
const AFTER_SUCCESS: Duration = Duration::from_secs(1);
/// Probes leave in small groups: 1,000 a second for guesses, all sockets within 50 ms.
const TICK: Duration = Duration::from_millis(5);
const GUESSES_A_TICK: u32 = 5;
const SOCKETS_A_TICK: u16 = 32;
/// How long an attempt may take before it counts as failed.
const PATIENCE: Duration = Duration::from_millis(3000);
/// Sockets that were just asked for are there after this.
const OPENED: Duration = Duration::from_millis(15);
/// A question to a server is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(150);
/// How long the answer of a server is waited for before the attempt counts as failed.
const ASK_PATIENCE: Duration = Duration::from_millis(600);
/// Attempts in quick succession.
const ATTEMPTS: u32 = 3;
/// Further attempts, in case the weather was bad: the first wait, which doubles, and the longest.
const LATER: Duration = Duration::from_secs(180);
const LATEST: Duration = Duration::from_secs(1800);
/// Waits before the second and third attempt.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(20)];
/// Calls of the other end that are heeded: so many in a row, then one in this time. A call is a hundred bytes long, and makes
/// this node send two thousand probes to whatever address it names.
const CALLS: u32 = 8;
const CALL_EVERY: Duration = Duration::from_secs(30);
/// When foretold ports are probed again, in milliseconds.
const REPEATS: [u64; 4] = [0, 60, 160, 400];
/// Guessed ports: above the well-known ones.
const PORT_FIRST: u32 = 1024;
const PORT_COUNT: u32 = 65_536 - PORT_FIRST;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PunchAction {
    /// Open so many sockets (`begin` gave them their numbers).
    Open(u16),
    /// Close them all, but the one in use.
    Close,
    /// Ask a server, from the first of the sockets, which port it has outside.
    Ask,
    /// Say this to the peer, inside the tunnel.
    Tell(Signal),
    /// Send a ping by this socket to this address.
    Probe(Via, SocketAddr),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// Waiting for a server's answer.
    Asking { since: Mono, again: Mono, answer_to: Option<Vec<u16>> },
    /// Our ports are told; what is owed goes out, and then there is waiting.
    Waiting { until: Mono },
}

/// What leaves bit by bit.
#[derive(Debug, Default)]
struct Salvo {
    /// From these sockets, one probe each (number of the next, how many are left).
    sockets: Option<(u16, u16, SocketAddr)>,
    /// Random ports still to be guessed.
    guesses: Option<(IpAddr, u32)>,
    /// Ports to be probed at these moments.
    timed: VecDeque<(Mono, Via, SocketAddr)>,
    next: Option<Mono>,
}

/// Opening one hard pair.
#[derive(Debug)]
pub struct Punch {
    state: State,
    salvo: Salvo,
    /// The first socket's number while sockets are open.
    first: Option<u16>,
    attempts: u32,
    next: Option<Mono>,
    /// The next attempt comes no sooner.
    not_before: Mono,
    out: VecDeque<PunchAction>,
    dice: Dice,
    /// Walks all ports once in a scattered order: step and start.
    walk: (u32, u32),
    eager: bool,
    probes: u64,
    /// When all `CALLS` are open again.
    calls_full: Mono,
}

/// What both ends know when `poll` looks.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// This end's router.
    pub mine: &'a NatFacts,
    /// The other end's.
    pub theirs: &'a NatFacts,
    /// Whether there is a session but no direct way, and since when both ends' addresses are known.
    pub wanted_since: Option<Mono>,
}

impl Punch {
    /// Nothing under way. `eager` is true at one of the two ends.
    #[must_use]
    pub fn new(eager: bool, mut dice: Dice) -> Self {
        // Odd and divisible by neither 3 nor 7: coprime to 64,512 = 2^10 · 3^2 · 7, so the walk meets every port.
        let step = std::iter::repeat_with(|| dice.below(PORT_COUNT) | 1).find(|n| n % 3 != 0 && n % 7 != 0);
        let walk = (step.unwrap_or(1), dice.below(PORT_COUNT));
        Self {
            state: State::Idle,
            salvo: Salvo::default(),
            first: None,
            attempts: 0,
            next: None,
            not_before: Mono::ZERO,
            out: VecDeque::new(),
            dice,
            walk,
            eager,
            probes: 0,
            calls_full: Mono::ZERO,
        }
    }

    /// Probes sent so far.
    #[must_use]
    pub const fn probes(&self) -> u64 {
        self.probes
    }

    /// Attempts so far, and whether one is under way.
    #[must_use]
    pub fn attempts(&self) -> (u32, bool) {
        let guessing = self.salvo.guesses.is_some() || !self.salvo.timed.is_empty();
        (self.attempts, guessing || !matches!(self.state, State::Idle))
    }

    /// The number of the first socket, while there are any.
    #[must_use]
    pub const fn first(&self) -> Option<u16> {
        self.first
    }

    /// A network changed: all attempts are open again.
    pub fn renew(&mut self) {
        self.attempts = 0;
        (self.next, self.not_before) = (None, Mono::ZERO);
    }

    /// There is a direct way, or no session any more: nothing more is sent. The caller closes the sockets (but the one in use)
    /// when `first` says that there are some.
    pub fn stop(&mut self) {
        self.salvo = Salvo::default();
        self.state = State::Idle;
        self.out.clear();
        if self.first.take().is_some() {
            self.out.push_back(PunchAction::Close);
        }
        self.next = None;
    }

    /// Looks at what is known: whether an attempt is due for which sockets are needed now. The caller gives a block by `begin`,
    /// or lets it wait by `postpone`.
    #[must_use]
    pub fn consider(&mut self, facts: Facts<'_>, now: Mono) -> bool {
        let leads = match plan(facts.mine, facts.theirs) {
            Strategy::OpenMany | Strategy::Count => true,
            Strategy::CountBoth => self.eager,
            Strategy::Plain | Strategy::Guess | Strategy::FollowCount | Strategy::Hopeless => false,
        };
        let idle = matches!(self.state, State::Idle) && self.first.is_none();
        let Some(since) = facts.wanted_since.filter(|_| leads && idle) else {
            self.next = None;
            return false;
        };
        let plain = if may_be_enough(facts.mine, facts.theirs) { PLAIN_ENOUGH } else { PLAIN_FIRST };
        *self.next.get_or_insert_with(|| self.not_before.max(since + plain)) <= now
    }

    /// There is a direct way. Should it break, all attempts are open again.
    pub fn succeeded(&mut self, now: Mono) {
        self.stop();
        (self.attempts, self.not_before) = (0, now + AFTER_SUCCESS);
    }

    /// No sockets to spare: later.
    pub fn postpone(&mut self, now: Mono) {
        self.not_before = now + Duration::from_secs(2);
        self.next = None;
    }

    /// The sockets with these numbers are this machine's now. An attempt begins.
    pub fn begin(&mut self, first: u16, facts: Facts<'_>, now: Mono) {
        self.first = Some(first);
        self.attempts += 1;
        self.next = None;
        match (plan(facts.mine, facts.theirs), facts.theirs.public, facts.mine.public) {
            (Strategy::OpenMany, Some(target), Some(mine)) => {
                self.out.push_back(PunchAction::Open(MANY));
                self.out.push_back(PunchAction::Tell(Signal {
                    public: mine.ip(),
                    ports: Vec::new(),
                    answer: false,
                }));
                self.salvo.sockets = Some((first, MANY, target));
                self.salvo.next = Some(now + OPENED);
                self.state = State::Waiting { until: now + PATIENCE };
            }
            (Strategy::Count | Strategy::CountBoth, ..) => self.ask(None, now),
            _ => self.fail(now),
        }
    }

    fn ask(&mut self, answer_to: Option<Vec<u16>>, now: Mono) {
        self.out.push_back(PunchAction::Open(2));
        self.state = State::Asking { since: now, again: now + OPENED, answer_to };
    }

    /// A server says what the first socket's outside address is.
    pub fn answered(&mut self, outside: SocketAddr, facts: Facts<'_>, now: Mono) {
        let State::Asking { answer_to, .. } = std::mem::take(&mut self.state) else { return };
        let (Some(first), Some(target)) = (self.first, facts.theirs.public) else { return self.fail(now) };
        let step = match facts.mine.ports {
            PortRule::Sequential(step) if step != 0 => step,
            PortRule::Sequential(_) | PortRule::Unknown | PortRule::Preserved | PortRule::Random => 1,
        };
        let ports = (1..=FORETOLD).filter_map(|n| {
            let ahead = i32::from(step) * i32::from(n);
            u16::try_from(i32::from(outside.port()) + ahead).ok().filter(|p| *p > 0)
        });
        let (ports, answer) = (ports.collect(), answer_to.is_some());
        match answer_to {
            // In the order in which the other end will use them.
            Some(theirs) => self.fire(Via::Extra(first), target.ip(), &theirs, now),
            None if plan(facts.mine, facts.theirs) == Strategy::Count => {
                // The mapping that the other end is to hit; made at once, before anything else takes the next port.
                for ms in REPEATS {
                    self.salvo.timed.push_back((now + Duration::from_millis(ms), Via::Extra(first), target));
                }
            }
            None => {}
        }
        self.out.push_back(PunchAction::Tell(Signal { public: outside.ip(), ports, answer }));
        self.state = State::Waiting { until: now + PATIENCE };
    }

    /// The other end is ready. True when sockets are needed first: then `begin_answer` follows.
    #[must_use]
    pub fn signalled(&mut self, signal: &Signal, facts: Facts<'_>, now: Mono) -> bool {
        if !self.heeds(now) {
            return false;
        }
        match plan(facts.mine, facts.theirs) {
            Strategy::Hopeless | Strategy::OpenMany | Strategy::Count => false,
            Strategy::CountBoth if signal.answer => {
                if let Some(first) = self.first {
                    self.fire(Via::Extra(first), signal.public, &signal.ports, now);
                }
                false
            }
            Strategy::CountBoth => self.first.is_none(),
            // Our own facts may be late; the other end knows better what it needs.
            Strategy::Guess | Strategy::FollowCount | Strategy::Plain if signal.ports.is_empty() => {
                self.salvo.guesses = Some((signal.public, GUESSES));
                self.salvo.next = Some(now);
                false
            }
            Strategy::Guess | Strategy::FollowCount | Strategy::Plain => {
                self.fire(Via::Main, signal.public, &signal.ports, now);
                false
            }
        }
    }

    fn heeds(&mut self, now: Mono) -> bool {
        let full = self.calls_full.max(now) + CALL_EVERY;
        let heeds = full.since(now) <= CALL_EVERY * CALLS;
        if heeds {
            self.calls_full = full;
        }
        heeds
    }

    /// Sockets for an answer.
    pub fn begin_answer(&mut self, first: u16, signal: Signal, now: Mono) {
        self.first = Some(first);
        self.ask(Some(signal.ports), now);
    }

    fn fire(&mut self, via: Via, to: IpAddr, ports: &[u16], now: Mono) {
        // Of two calls the newer knows better.
        self.salvo.timed.clear();
        for ms in REPEATS {
            let at = now + Duration::from_millis(ms);
            let addresses = ports.iter().take(PORTS).filter(|p| **p > 0).map(|p| SocketAddr::new(to, *p));
            self.salvo.timed.extend(addresses.map(|a| (at, via, a)));
        }
    }

    fn fail(&mut self, now: Mono) {
        let pause = usize::try_from(self.attempts).ok().and_then(|n| PAUSES.get(n.saturating_sub(1)));
        self.salvo = Salvo::default();
        self.state = State::Idle;
        if self.first.take().is_some() {
            self.out.push_back(PunchAction::Close);
        }
        let doublings = self.attempts.saturating_sub(ATTEMPTS).min(8);
        let pause = pause.copied().unwrap_or_else(|| (LATER * (1 << doublings)).min(LATEST));
        self.not_before = now + self.dice.jitter(pause, 20);
        self.next = None;
    }

    /// The next thing to do at this time; call until `None`.
    pub fn poll(&mut self, now: Mono) -> Option<PunchAction> {
        if let Some(action) = self.out.pop_front() {
            return Some(action);
        }
        let late = match self.state {
            State::Idle => false,
            State::Asking { since, .. } => now.since(since) >= ASK_PATIENCE,
            State::Waiting { until } => until <= now,
        };
        if late {
            self.fail(now);
            return self.out.pop_front();
        }
        if let State::Asking { again, .. } = &mut self.state
            && *again <= now
        {
            *again = now + ASK_AGAIN;
            return Some(PunchAction::Ask);
        }
        if self.salvo.next.is_some_and(|at| at <= now) {
            self.tick(now);
        }
        while let Some((_, via, to)) = self.salvo.timed.pop_front_if(|(at, ..)| *at <= now) {
            self.probes += 1;
            self.out.push_back(PunchAction::Probe(via, to));
        }
        self.out.pop_front()
    }

    /// The next small group of what leaves bit by bit.
    fn tick(&mut self, now: Mono) {
        self.salvo.next = Some(now + TICK);
        if let Some((first, left, to)) = self.salvo.sockets {
            let many = left.min(SOCKETS_A_TICK);
            self.probes += u64::from(many);
            self.out.extend((first..first + many).map(|n| PunchAction::Probe(Via::Extra(n), to)));
            self.salvo.sockets = (left > many).then_some((first + many, left - many, to));
        }
        if let Some((ip, left)) = self.salvo.guesses {
            let many = left.min(GUESSES_A_TICK);
            self.probes += u64::from(many);
            for _ in 0..many {
                let port = self.next_port();
                self.out.push_back(PunchAction::Probe(Via::Main, SocketAddr::new(ip, port)));
            }
            self.salvo.guesses = (left > many).then_some((ip, left - many));
        }
        if self.salvo.sockets.is_none() && self.salvo.guesses.is_none() {
            self.salvo.next = None;
        }
    }

    fn next_port(&mut self) -> u16 {
        let (step, at) = self.walk;
        let next = (at + step) % PORT_COUNT;
        self.walk.1 = next;
        u16::try_from(PORT_FIRST + next).unwrap_or(u16::MAX)
    }

    /// When `poll` has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        if !self.out.is_empty() {
            return Some(Deadline::new(Mono::ZERO, "punch"));
        }
        let state = match self.state {
            State::Idle => None,
            State::Asking { since, again, .. } => Some(again.min(since + ASK_PATIENCE)),
            State::Waiting { until } => Some(until),
        };
        let wait = self.next;
        let timed = self.salvo.timed.front().map(|(at, ..)| *at);
        let first = [state, wait, timed, self.salvo.next].into_iter().flatten().min();
        first.map(|at| Deadline::new(at, "punch"))
    }
}

#[cfg(test)]
#[path = "punch_tests.rs"]
mod tests;
