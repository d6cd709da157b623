//! The TCP of proxy mode: our virtual address lives in smoltcp, and every connection of the tunnel is joined to one of
//! this computer's loopback.
//!
//! | file | what |
//! |---|---|
//! | `tcp` | [`Tcp`]: the tables, the limits, what comes and goes |
//! | `tcp/serve` | who is served when, and what becomes of a connection |
//! | `tcp/segment` | a packet, as far as the tables need it |
//! | `tcp/stack` | smoltcp, one connection at a time |
//! | `tcp/line` | one connection: carrying, half-close, resets, its end |
//! | `tcp/door` | listeners and connections on this computer |
//! | `tcp/table` | places with generations |
//! | `tcp/bell` | who has something to do |
//! | `tcp/grave` | what is left of a connection that is over |
//!
//! Towards our game: a SYN of a peer makes a local connection from the address that stands for the peer, and only when
//! that stands is the SYN given to smoltcp; so "refused" and "too slow" mean on the other side what they mean here.
//! Towards a peer's game: a listener stands for it, and a connection to it becomes one from us to the peer.
//!
//! Everything is bounded: connections in all and for each peer, those not yet open, listeners, answers, and the memory
//! of one connection, which shrinks with their number (`window`). Nothing here fails: what goes wrong is counted.

mod bell;
mod door;
mod grave;
mod line;
mod segment;
mod serve;
mod stack;
mod table;
#[cfg(test)]
mod tests;

use super::local::Locals;
use super::share::Own;
use crate::model::addr::stand_in;
use crate::rules::ruleset::Transport;
use bell::{Bell, Rung, Token};
use door::Door;
use grave::{Answer, Graves};
use line::{Line, Open, Phase};
use segment::{Key, Segment, flag};
use stack::{Pipe, Stack};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use table::Table;
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep};

/// Connections at once.
const LINES: usize = 1_024;
/// Connections that one peer may have towards us, so that it cannot take the place of all others,
const OF_ONE_PEER: u32 = 640;
/// and those of them that are not open yet. More than these wait for their next SYN: nothing is refused for haste.
const HALF_OPEN: u32 = 256;
/// Listeners at once: a party of 30 with 8 games each.
const DOORS: usize = 256;
/// For a connection to stand on both sides.
const CONNECT: Duration = Duration::from_secs(10);
/// Packets of one connection before the others have their turn.
const BURST: usize = 16;
/// After the system had no descriptor for a connection that waits.
const BREATH: Duration = Duration::from_millis(100);
/// Own ports towards peers: what Linux uses too.
const PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// What happened, in numbers that only grow, except `open`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// Connections in the table now, opening ones among them.
    pub open: u64,
    /// Connections of peers to games here that came to stand.
    pub inward: u64,
    /// Connections of programs here to peers' games that came to stand.
    pub outward: u64,
    /// Connections that a game here, or a peer, refused.
    pub refused: u64,
    /// Connections that did not stand within ten seconds.
    pub timed_out: u64,
    /// Connections that ended by a reset or by silence.
    pub reset: u64,
    /// Connections that were not begun because there were too many.
    pub too_many: u64,
    /// SYNs that were not heard because too many connections of the same peer were opening.
    pub busy: u64,
    /// Packets that were none, or claimed what nobody offered.
    pub broken: u64,
    /// Packets that found no room on their way out.
    pub lost: u64,
    /// Times the system gave no local connection.
    pub starved: u64,
    /// Connections from beyond the networks that games are shared with.
    pub strangers: u64,
}

/// How many connections a peer has towards us.
#[derive(Debug, Default)]
struct Load {
    all: u32,
    half: u32,
}

/// All TCP of proxy mode.
pub(super) struct Tcp {
    us: Ipv4Addr,
    stack: Stack,
    lines: Table<Line>,
    by_key: HashMap<Key, usize>, // lookup only
    graves: Graves,
    doors: Table<Door>,
    locals: Locals,
    loads: BTreeMap<Ipv4Addr, Load>,
    /// Ports of games that want to be told who connects (PROXY protocol).
    told: Arc<[u16]>,
    rung: Arc<Rung>,
    /// Emptied and used again.
    spare: Vec<Token>,
    due: BTreeSet<(Instant, Token)>,
    /// Connections that may have packets.
    queue: VecDeque<usize>,
    burst: usize,
    alarm: Option<Pin<Box<Sleep>>>,
    next_port: u16,
    /// For a connection to stand on both sides.
    patience: Duration,
    counts: TcpCounters,
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("us", &self.us).field("counts", &self.counters()).finish_non_exhaustive()
    }
}

impl Tcp {
    /// Ours is `us`; nothing is open. To be made and used inside a tokio runtime.
    pub(super) fn new(us: Ipv4Addr, mtu: u16) -> Self {
        let start = u16::try_from(std::process::id() % 8_192).unwrap_or_default();
        Self {
            us,
            stack: Stack::new(us, mtu),
            lines: Table::default(),
            by_key: HashMap::new(),
            graves: Graves::default(),
            doors: Table::default(),
            locals: Locals::by(Transport::Tcp),
            loads: BTreeMap::new(),
            told: Arc::default(),
            rung: Arc::default(),
            spare: Vec::new(),
            due: BTreeSet::new(),
            queue: VecDeque::new(),
            burst: 0,
            alarm: None,
            next_port: PORTS.start() + start,
            patience: CONNECT,
            counts: TcpCounters::default(),
        }
    }

    /// Another address: everything that was open is reset, every listener goes.
    pub(super) fn reconfigure(&mut self, us: Ipv4Addr, mtu: u16) {
        for index in self.lines.indices() {
            if let Some(line) = self.remove(index)
                && let Phase::Open(open) = line.phase
            {
                door::reset(open.local);
            }
        }
        let counts = TcpCounters { lost: self.counters().lost, ..self.counts };
        let told = Arc::clone(&self.told);
        *self = Self { counts, told, ..Self::new(us, mtu) };
    }

    /// Games at these ports are told who connects, by a header of the PROXY protocol before anything else.
    pub(super) fn tell(&mut self, ports: &[u16]) {
        self.told = ports.into();
    }

    /// What a game is told of a connection, if it wants that.
    fn header(&self, key: Key) -> Option<[u8; door::HEADER]> {
        self.told.contains(&key.port).then(|| door::header(key.peer, SocketAddrV4::new(self.us, key.port)))
    }

    /// Another packet size; what is open goes on with it.
    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.stack.set_mtu(self.us, mtu);
    }

    /// A listener at a peer's stand-in that leads to the peer's game, at the game's own port where it is free. The same call
    /// again changes nothing.
    ///
    /// # Errors
    /// When the system has no port there, or there are too many listeners.
    pub(super) fn open(&mut self, to: SocketAddrV4) -> io::Result<SocketAddrV4> {
        self.open_at(to, None)
    }

    /// The same at our address in a network of ours, for its computers.
    ///
    /// # Errors
    /// As for `open`.
    pub(super) fn open_to(&mut self, to: SocketAddrV4, own: Own) -> io::Result<SocketAddrV4> {
        self.open_at(to, Some(own))
    }

    fn open_at(&mut self, to: SocketAddrV4, own: Option<Own>) -> io::Result<SocketAddrV4> {
        let at = own.map_or_else(|| stand_in(*to.ip()), |own| own.at);
        if let Some(bound) = self.bound(to, at) {
            return Ok(bound);
        }
        if self.doors.len() >= DOORS {
            return Err(io::Error::other("there are too many listeners already"));
        }
        let (listener, bound) = door::listen(SocketAddrV4::new(at, to.port()), own.is_none())?;
        let (index, generation) = self.doors.vacancy();
        let bell = Bell::new(Token::Door(index, generation), &self.rung);
        let waker = Waker::from(Arc::clone(&bell));
        // The first look registers it with the reactor.
        bell.ring();
        self.doors.put(index, Door { to, own, bound, listener, bell, waker, generation });
        Ok(bound)
    }

    /// Where the listener at this address is that leads to `to`, if there is one.
    pub(super) fn bound(&self, to: SocketAddrV4, at: Ipv4Addr) -> Option<SocketAddrV4> {
        self.doors.iter().find(|door| door.to == to && *door.bound.ip() == at).map(|door| door.bound)
    }

    /// The listeners that lead to `to` go. Connections live on.
    pub(super) fn close(&mut self, to: SocketAddrV4) {
        self.close_where(|door| door.to == to);
    }

    /// Those at this address go, because it is no longer ours.
    pub(super) fn close_at(&mut self, at: Ipv4Addr) {
        self.close_where(|door| *door.bound.ip() == at);
    }

    fn close_where(&mut self, closes: impl Fn(&Door) -> bool) {
        for index in self.doors.indices() {
            if self.doors.get(index).is_some_and(&closes) {
                self.doors.remove(index);
            }
        }
    }

    /// An IPv4/TCP packet of the tunnel that the engine has allowed.
    pub(super) fn take(&mut self, packet: &[u8]) {
        let Some(segment) = Segment::parse(packet).filter(|s| s.to == self.us) else {
            self.counts.broken += 1;
            return;
        };
        let now = Instant::now();
        match self.by_key.get(&segment.key) {
            Some(index) => self.hear(*index, &segment, now),
            None => self.knock(&segment, now),
        }
    }

    /// Does what is due.
    pub(super) fn turn(&mut self) {
        // Without a budget: tokio would otherwise answer "later" after a hundred sockets, and a loop that never sleeps
        // would never be given a new one.
        let work = poll_fn(|_| {
            self.serve_all();
            Poll::Ready(())
        });
        let _ = Pin::new(&mut unconstrained(work)).poll(&mut Context::from_waker(Waker::noop()));
    }

    /// The next IP packet for the tunnel: its length, written into `room`.
    pub(super) fn next(&mut self, room: &mut [u8]) -> Option<usize> {
        if let Some(len) = self.stack.next_reply(room) {
            return Some(len);
        }
        let now = Instant::now();
        while let Some(index) = self.queue.front().copied() {
            let Self { lines, stack, .. } = self;
            let line = lines.get_mut(index);
            let wrote = line.and_then(|line| match &mut line.phase {
                Phase::Open(open) => stack.emit(&mut open.pipe, room, now),
                Phase::Dialing { .. } => None,
            });
            if wrote.is_some() {
                self.burst += 1;
                if self.burst >= BURST {
                    self.burst = 0;
                    self.queue.rotate_left(1);
                }
                return wrote;
            }
            self.burst = 0;
            self.queue.pop_front();
            self.rest(index, now);
        }
        None
    }

    /// Ready when `turn` or `next` has something to do.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stack.has_replies() || !self.queue.is_empty() {
            return Poll::Ready(());
        }
        let rung = self.rung.poll(cx);
        let Some((due, _)) = self.due.first().copied() else { return rung };
        if rung.is_ready() {
            return rung;
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(cx)
    }

    /// What happened so far.
    pub(super) fn counters(&self) -> TcpCounters {
        let open = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        TcpCounters { open, lost: self.counts.lost + self.stack.lost, ..self.counts }
    }

    /// A segment of a connection that is there.
    fn hear(&mut self, index: usize, segment: &Segment<'_>, now: Instant) {
        let Self { lines, stack, counts, .. } = self;
        let Some(line) = lines.get_mut(index) else { return };
        match &mut line.phase {
            Phase::Open(open) => {
                if !stack.hear(&mut open.pipe, segment, now) {
                    counts.broken += 1;
                }
                // Carried at the end of the batch, by `turn`.
                line.bell.ring();
            }
            Phase::Dialing { .. } if segment.has(flag::RST) => {
                self.remove(index);
            }
            // The same SYN again.
            Phase::Dialing { .. } => {}
        }
    }

    /// A segment of no connection.
    fn knock(&mut self, segment: &Segment<'_>, now: Instant) {
        match self.graves.answer(segment, now) {
            Answer::Again(last) => self.stack.reply(last.into()),
            Answer::Nothing => {}
            Answer::Unknown if segment.opens() => self.welcome(segment, now),
            Answer::Unknown => self.stack.refuse(segment, now),
        }
    }

    /// A peer wants a connection to our game: first the local one.
    fn welcome(&mut self, segment: &Segment<'_>, now: Instant) {
        let peer = *segment.key.peer.ip();
        let load = self.loads.get(&peer).map_or((0, 0), |l| (l.all, l.half));
        if load.1 >= HALF_OPEN {
            self.counts.busy += 1;
            return;
        }
        if self.lines.len() >= LINES || load.0 >= OF_ONE_PEER {
            self.counts.too_many += 1;
            self.stack.refuse(segment, now);
            return;
        }
        // Where most games listen: at every address, or at this one.
        let at = Ipv4Addr::LOCALHOST;
        let game = SocketAddrV4::new(at, segment.key.port);
        let dialing = Box::pin(door::dial(stand_in(peer), game, self.header(segment.key)));
        // Data in a SYN may be left out: it is sent again.
        self.add(segment.key, Phase::Dialing { dialing, at, syn: segment.bytes.into() }, now);
    }

    /// A local program wants a connection to a peer's game.
    fn call(&mut self, stream: TcpStream, to: SocketAddrV4, now: Instant) {
        let key = if self.lines.len() < LINES { self.free_port(to) } else { None };
        let Some(key) = key else {
            self.counts.too_many += 1;
            door::reset(stream);
            return;
        };
        let mut pipe = Pipe::new(window(self.lines.len()));
        if !self.stack.connect(&mut pipe, self.us, key) {
            self.counts.refused += 1;
            door::reset(stream);
            return;
        }
        self.add(key, Phase::Open(Box::new(Open::new(stream, pipe))), now);
    }

    /// A port of ours that has no connection to there, and had none a moment ago.
    fn free_port(&mut self, to: SocketAddrV4) -> Option<Key> {
        for _ in PORTS {
            let key = Key { peer: to, port: self.next_port };
            self.next_port = if self.next_port >= *PORTS.end() { *PORTS.start() } else { self.next_port + 1 };
            if !self.by_key.contains_key(&key) && !self.graves.holds(&key) {
                return Some(key);
            }
        }
        None
    }

    fn add(&mut self, key: Key, phase: Phase, now: Instant) {
        let (index, generation) = self.lines.vacancy();
        let bell = Bell::new(Token::Line(index, generation), &self.rung);
        let waker = Waker::from(Arc::clone(&bell));
        if matches!(phase, Phase::Dialing { .. }) {
            let load = self.loads.entry(*key.peer.ip()).or_default();
            load.all += 1;
            load.half += 1;
        }
        let inward = matches!(phase, Phase::Dialing { .. });
        let half_open = Some(now + self.patience);
        bell.ring();
        let line = Line { key, inward, phase, bell, waker, generation, due: None, queued: false, half_open };
        self.lines.put(index, line);
        self.by_key.insert(key, index);
    }

    fn remove(&mut self, index: usize) -> Option<Line> {
        let line = self.lines.remove(index)?;
        self.by_key.remove(&line.key);
        if let Some(due) = line.due {
            self.due.remove(&(due, Token::Line(index, line.generation)));
        }
        if line.inward {
            let peer = *line.key.peer.ip();
            if let Some(load) = self.loads.get_mut(&peer) {
                load.all = load.all.saturating_sub(1);
                load.half = load.half.saturating_sub(u32::from(line.half_open.is_some()));
                if load.all == 0 {
                    self.loads.remove(&peer);
                }
            }
        }
        Some(line)
    }
}

/// What a connection may hold in each direction, by how many there are. A handful can be as fast as a far path allows
/// (256 KiB are 50 Mbit/s at 40 ms); a hundred hold 17 MiB at the very worst, and the 1,024 that there may be 74 MiB.
const fn window(lines: usize) -> usize {
    match lines {
        0..16 => 256 * 1024,
        16..64 => 64 * 1024,
        _ => 32 * 1024,
    }
}
