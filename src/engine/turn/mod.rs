//! TURN (RFC 8656), the client's side: one allocation on one server, reached one way.
//!
//! It allocates at once, learns realm and nonce from the refusal it gets first, allocates again with its signature, and
//! keeps what it got: refreshes, permissions, channels, and a sign of life every 15 s of silence that keeps the router's
//! mapping and notices a new one. Whom it may hear is asked for with `permit`, before or after there is an allocation.
//! What the server says counts only if it is signed, except for what cannot be: 401 and 438. When the allocation is gone
//! (our outside address changed, or the relay restarted) it allocates anew by itself; when the server is silent or says
//! no it stops and says why, and its owner decides when to `restart`.
//!
//! It does not choose among servers, resolve names, open streams, or carry anything but opaque bytes.
//!
//! Inputs: `handle` (bytes from `endpoint`), `permit`, `forget`, `check`, `set_credentials`, `restart`, `close`,
//! `handle_timeout`. Outputs: `poll_transmit` (for `endpoint`), `poll_event`, and `wrap` around data. Deadlines:
//! copies of requests, refreshes, permissions, channels, the sign of life.

mod answer;
mod ask;
mod failure;
mod peers;
mod session;

pub use failure::TurnFailure;

use crate::model::addr::{Endpoint, Via};
use crate::model::dice::Dice;
use crate::model::time::{Deadline, Mono};
use crate::wire::channel;
use crate::wire::stun::{Class, Message, Method, Transaction, indication_prefix};
use ask::{Ask, Asks, Patience, What};
use peers::Peers;
use session::{Account, Session};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// How long an allocation is asked for.
const LIFETIME: Duration = Duration::from_secs(600);
/// A silent server is given up after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// A server in doubt is given up after this.
const QUICK: Duration = Duration::from_millis(1_500);
/// The first copy of a request is sent after this while the round-trip time is unknown.
const FIRST_WAIT: Duration = Duration::from_millis(150);
/// Never sooner than this.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// Nothing sent for so long: a sign of life, before any router forgets (most do after 30 s, few after 20 s).
const QUIET: Duration = Duration::from_secs(15);
/// Nothing heard for so long while we send: is the server there?
const DEAF: Duration = Duration::from_secs(30);
/// Requests under way at a time.
const ASKS: usize = 24;
/// Events that wait to be taken; they are, after each input.
const EVENTS: usize = 16;
/// So many allocations in a row that did not live for `FLAP`, and the server is left alone.
const FLAPS: u8 = 4;
/// An allocation that lived so long was a good one.
const FLAP: Duration = Duration::from_secs(10);

/// What a `Turn` starts with.
#[derive(Clone)]
pub struct TurnSetup {
    /// The server, and the way to it. Over `Via::Stream` nothing is sent twice.
    pub endpoint: Endpoint,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Whether an IPv6 address is wanted.
    pub v6: bool,
}

impl std::fmt::Debug for TurnSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnSetup")
            .field("endpoint", &self.endpoint)
            .field("v6", &self.v6)
            .finish_non_exhaustive()
    }
}

/// What became of incoming bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnIn {
    /// Data from a peer, which lies there in the bytes.
    Data {
        /// Who sent it to our relayed address.
        peer: SocketAddr,
        /// Where it lies.
        body: Range<usize>,
    },
    /// It was for this machine.
    Taken,
    /// It was not; somebody else may want it.
    NotMine,
}

/// What the machine tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnEvent {
    /// There is a relayed address.
    Allocated {
        /// Peers send to it.
        relayed: SocketAddr,
        /// Our outside address, as the server sees it.
        mapped: SocketAddr,
        /// Round-trip time to the server; zero when it could not be told.
        rtt: Duration,
        /// For how long, if it were not refreshed.
        lifetime: Duration,
    },
    /// Our outside address, as the server sees it, is another than before.
    Mapped(SocketAddr),
    /// The relayed address is no more. Another `Allocated`, or `Failed`, follows.
    Lost {
        /// The address.
        relayed: SocketAddr,
        /// Why.
        why: TurnFailure,
    },
    /// The machine stopped; `restart` starts it again.
    Failed {
        /// Why.
        why: TurnFailure,
    },
}

/// Where the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnState {
    /// Asking for an allocation.
    Asking,
    /// There is one.
    Up,
    /// Giving it back.
    Closing,
    /// Failed, or closed.
    Down,
}

/// An allocation that lives.
#[derive(Debug)]
struct Up {
    relayed: SocketAddr,
    since: Mono,
    refresh: Mono,
    expires: Mono,
}

#[derive(Debug)]
enum Stage {
    Asking,
    Up(Up),
    Closing,
    Down,
}

/// One allocation on one server.
#[derive(Debug)]
pub struct Turn {
    endpoint: Endpoint,
    v6: bool,
    account: Account,
    session: Option<Session>,
    dice: Dice,
    now: Mono,
    stage: Stage,
    asks: Asks,
    peers: Peers,
    events: VecDeque<TurnEvent>,
    mapped: Option<SocketAddr>,
    rtt: Option<Duration>,
    sent: Mono,
    heard: Mono,
    tries: Tries,
}

/// What is tried once, or a few times, before giving up.
#[derive(Debug, Default)]
struct Tries {
    alternate: bool,
    evict: bool,
    flaps: u8,
}

impl Turn {
    /// A machine whose first request waits in `poll_transmit`.
    #[must_use]
    pub fn new(setup: TurnSetup, dice: Dice, now: Mono) -> Self {
        let mut turn = Self {
            endpoint: setup.endpoint,
            v6: setup.v6,
            account: Account { username: setup.username, password: setup.password },
            session: None,
            dice,
            now,
            stage: Stage::Down,
            asks: Asks::default(),
            peers: Peers::new(),
            events: VecDeque::new(),
            mapped: None,
            rtt: None,
            sent: now,
            heard: now,
            tries: Tries::default(),
        };
        turn.restart(now);
        turn
    }

    /// The server and the way to it; the address changes when the server sends us to another.
    #[must_use]
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Where the machine is.
    #[must_use]
    pub const fn state(&self) -> TurnState {
        match self.stage {
            Stage::Asking => TurnState::Asking,
            Stage::Up(_) => TurnState::Up,
            Stage::Closing => TurnState::Closing,
            Stage::Down => TurnState::Down,
        }
    }

    /// The relayed address.
    #[must_use]
    pub const fn relayed(&self) -> Option<SocketAddr> {
        match &self.stage {
            Stage::Up(up) => Some(up.relayed),
            Stage::Asking | Stage::Closing | Stage::Down => None,
        }
    }

    /// Our outside address as the server last saw it.
    #[must_use]
    pub const fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// Round-trip time to the server.
    #[must_use]
    pub const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Starts from the beginning: after `Failed`, or when the stream was opened anew. Peers stay wanted.
    pub fn restart(&mut self, now: Mono) {
        self.now = now;
        self.lose(TurnFailure::Restarted);
        self.tries = Tries::default();
        if self.is_stream() || self.session.as_ref().is_some_and(|s| s.account != self.account) {
            self.session = None;
        }
        self.allocate();
    }

    /// Credentials for the next allocation. A living one keeps those it was made with, because a server refuses others
    /// (441); when it refuses these too, the fresh ones are used for a new allocation.
    pub fn set_credentials(&mut self, username: &str, password: &str) {
        let account = Account { username: username.to_owned(), password: password.to_owned() };
        if account != self.account {
            self.account = account;
            if matches!(self.stage, Stage::Asking) {
                self.session = None;
                self.asks.clear();
                self.allocate();
            }
        }
    }

    /// Bytes from `endpoint`.
    pub fn handle(&mut self, bytes: &[u8], now: Mono) -> TurnIn {
        self.now = now;
        if bytes.first().is_some_and(|b| b & 0xc0 == 0x40) {
            let read = channel::read(bytes, self.is_stream());
            let peer = read.as_ref().and_then(|(number, _)| self.peers.by_channel(*number));
            return match (read, peer) {
                (Some((_, body)), Some(peer)) => self.data(peer, body),
                (Some(_), None) => TurnIn::Taken,
                (None, _) => TurnIn::NotMine,
            };
        }
        let Ok(message) = Message::parse(bytes) else { return TurnIn::NotMine };
        match (message.method(), message.class()) {
            (Method::Data, Class::Indication) => match (message.peer(), message.data_range()) {
                (Some(peer), Some(body)) if self.peers.knows(peer.ip()) => {
                    self.peers.met(peer, now);
                    self.data(peer, body)
                }
                _ => TurnIn::Taken,
            },
            (_, Class::Success | Class::Error) => self.answer(&message),
            (_, Class::Request | Class::Indication) => TurnIn::NotMine,
        }
    }

    fn data(&mut self, peer: SocketAddr, body: Range<usize>) -> TurnIn {
        self.heard = self.now;
        if matches!(self.stage, Stage::Up(_)) { TurnIn::Data { peer, body } } else { TurnIn::Taken }
    }

    /// This peer shall be able to send to us, and be sent to cheaply. At most 128 at a time: the one that was not used
    /// for longest makes room. False for an address of the other family, which this relay cannot reach.
    pub fn permit(&mut self, peer: SocketAddr, now: Mono) -> bool {
        self.now = now;
        let fits = peer.is_ipv6() == self.v6;
        if fits {
            self.peers.add(peer, now);
        }
        fits
    }

    /// This peer need not. The server forgets it within minutes.
    pub fn forget(&mut self, peer: SocketAddr) {
        self.peers.remove(peer);
        self.asks.forget_bind(peer);
    }

    /// How many bytes come before data for this peer now; `None` while it cannot be sent to.
    #[must_use]
    pub fn prefix(&self, peer: &SocketAddr) -> Option<usize> {
        if !matches!(self.stage, Stage::Up(_)) || !self.peers.is_permitted(peer) {
            return None;
        }
        Some(match (self.peers.channel_of(peer), peer) {
            (Some(_), _) => channel::HEADER,
            (None, SocketAddr::V4(_)) => 36,
            (None, SocketAddr::V6(_)) => 48,
        })
    }

    /// Puts data for this peer, which lies in `room` behind `prefix` bytes and is `body` long, into its envelope:
    /// ChannelData, or a Send indication while no channel is bound. How long the whole is, at most three bytes of
    /// padding included; `None` when the peer cannot be sent to or the room is too small.
    pub fn wrap(&mut self, room: &mut [u8], peer: &SocketAddr, body: usize, now: Mono) -> Option<usize> {
        let prefix = self.prefix(peer)?;
        let end = prefix.checked_add(body)?;
        let total = if let Some(number) = self.peers.channel_of(peer) {
            (end <= room.len() && channel::write_header(room, number, body)).then_some(end)?
        } else {
            let id = Transaction(self.dice.bytes());
            let total = end + channel::padding(body);
            room.get_mut(end..total)?.fill(0);
            indication_prefix(room, Method::Send, id, *peer, body)?;
            total
        };
        self.peers.touch(peer, now);
        self.sent = now;
        Some(total)
    }

    /// Somebody doubts that the relay still works: ask at once whether the allocation is there and our outside address
    /// the same, and give up soon. Asking again while the question is under way changes nothing.
    pub fn check(&mut self, now: Mono) {
        self.now = now;
        if !matches!(self.stage, Stage::Up(_)) || self.asks.has_quick(Method::Refresh) {
            return;
        }
        self.asks.forget(Method::Refresh);
        self.asks.forget(Method::Binding);
        self.ask_with(What::Refresh, true, 0);
        self.ask_with(What::Binding, true, 0);
    }

    /// Gives the allocation back, as far as one message or two can do that.
    pub fn close(&mut self) {
        self.asks.clear();
        if matches!(self.stage, Stage::Up(_)) {
            self.stage = Stage::Closing;
            self.ask_with(What::Close, true, 0);
        } else {
            self.stage = Stage::Down;
        }
    }

    /// Whether `poll_transmit` has something, to spare the room when it has not.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        let wanted = matches!(self.stage, Stage::Up(_)) && self.asks.len() < ASKS && self.peers.has_wishes();
        wanted || self.asks.has_due()
    }

    /// The next bytes for `endpoint`; 1,024 are room enough unless the server's nonce and realm are very long.
    pub fn poll_transmit(&mut self, room: &mut [u8]) -> Option<usize> {
        self.plan();
        let len = self.asks.poll(room, self.now)?;
        self.sent = self.now;
        Some(len)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TurnEvent> {
        self.events.pop_front()
    }

    /// When to be woken. What waits in `poll_transmit` is not counted.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let mut first = self.asks.deadline();
        if let Stage::Up(up) = &self.stage {
            if !self.asks.has(Method::Refresh) {
                first = Deadline::earlier(first, Some(Deadline::new(up.refresh, "relay refresh")));
            }
            if !self.asks.has(Method::Binding) {
                first = Deadline::earlier(first, Some(Deadline::new(self.beat_at(), "relay sign of life")));
            }
            first = Deadline::earlier(first, self.peers.deadline());
        }
        first
    }

    /// The clock moved on.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.now = now;
        while let Some(ask) = self.asks.tick(now) {
            self.unanswered(&ask);
        }
        let Stage::Up(up) = &self.stage else { return };
        if up.expires <= now {
            // Asleep for longer than the server waits: it has forgotten us.
            return self.reallocate(TurnFailure::Gone);
        }
        if up.refresh <= now && !self.asks.has(Method::Refresh) {
            self.ask(What::Refresh);
        }
        self.peers.renew(now);
        if self.beat_at() <= now && !self.asks.has(Method::Binding) {
            self.ask(What::Binding);
        }
    }

    fn beat_at(&self) -> Mono {
        (self.sent + QUIET).min(self.heard + DEAF)
    }

    const fn is_stream(&self) -> bool {
        matches!(self.endpoint.via, Via::Stream(_))
    }

    /// Permissions and channels that are wanted become requests, as many as may be under way.
    fn plan(&mut self) {
        while matches!(self.stage, Stage::Up(_)) && self.asks.len() < ASKS {
            if let Some(ips) = self.peers.take_grants() {
                self.ask(What::Permit(ips));
            } else if let Some((peer, number)) = self.peers.take_bind() {
                self.ask(What::Bind(peer, number));
            } else {
                break;
            }
        }
    }

    fn allocate(&mut self) {
        self.stage = Stage::Asking;
        self.ask(What::Allocate);
    }

    fn ask(&mut self, what: What) {
        self.ask_with(what, false, 0);
    }

    fn ask_with(&mut self, what: What, quick: bool, turns: u8) {
        let id = Transaction(self.dice.bytes());
        let signed = self.session.is_some() && what.method() != Method::Binding;
        let Ok(bytes) = session::request(&what, id, self.session.as_ref(), self.v6) else {
            // The server's own texts, or our user name, are none that STUN carries.
            return self.fail(TurnFailure::Malformed);
        };
        let mut ask = Ask::new(what, id, bytes, self.patience(quick), self.now);
        (ask.signed, ask.quick, ask.turns) = (signed, quick, turns);
        self.asks.push(ask);
    }

    fn patience(&self, quick: bool) -> Patience {
        let wait = self.rtt.map_or(FIRST_WAIT, |rtt| (rtt * 3 / 2).clamp(LEAST_WAIT, Duration::from_secs(1)));
        let total = if quick { QUICK.max(self.rtt.unwrap_or_default() * 6) } else { PATIENCE };
        Patience { again: (!self.is_stream()).then_some(wait), total: total.min(PATIENCE) }
    }

    /// The allocation, if there is one, is no more.
    fn lose(&mut self, why: TurnFailure) {
        if let Stage::Up(up) = &self.stage {
            let relayed = up.relayed;
            self.tell(TurnEvent::Lost { relayed, why });
        }
        self.stage = Stage::Down;
        self.asks.clear();
        self.peers.reset();
    }

    fn fail(&mut self, why: TurnFailure) {
        let closing = matches!(self.stage, Stage::Closing);
        self.lose(why);
        if !closing {
            self.tell(TurnEvent::Failed { why });
        }
    }

    /// The allocation is gone but the server is there.
    fn reallocate(&mut self, why: TurnFailure) {
        if let Stage::Up(up) = &self.stage {
            let flap = self.now.since(up.since) < FLAP;
            self.tries.flaps = if flap { self.tries.flaps + 1 } else { 0 };
        }
        if self.tries.flaps >= FLAPS {
            return self.fail(why);
        }
        self.lose(why);
        if self.session.as_ref().is_some_and(|s| s.account != self.account) {
            self.session = None;
        }
        self.allocate();
    }

    fn tell(&mut self, event: TurnEvent) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
