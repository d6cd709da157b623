//! The LAN side without any rights: every peer's virtual address has a stand-in on this computer's loopback, and packets
//! are translated between the two (`model::addr::stand_in`). The engine sees the same IP packets as with a tunnel device.
//!
//! | file | what |
//! |---|---|
//! | `stands`, `bells` | UDP sockets that stand for peers' ports |
//! | `local` | where on this computer a game listens |
//! | `search` | whether a game of this computer searches |
//! | `deliver` | what peers sent, handed to local games |
//! | `found` | peers' games that can be joined, with their lives |
//! | `guard` | sockets that the network cannot reach |
//! | `groups` | multicasts, and who joined what |
//! | `hear` | what local games say to everybody |
//! | `room` | letting go of ports for a game that starts |
//! | `tcp` | connections |
//! | `share` | the same for other computers of the own network, where that is asked for |
//! | `counters` | what was done, in numbers |
//!
//! Nothing here is privileged, and nothing of it can be reached from the physical network unless that is asked for (`share`):
//! everything else that others could send to is at an address of 127/8.

mod bells;
mod counters;
mod deliver;
mod found;
mod groups;
mod guard;
mod hear;
mod local;
mod room;
mod search;
mod share;
mod stands;
mod tcp;

pub use counters::ProxyCounters;
pub use tcp::TcpCounters;

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::buf::batch::{Batch, Source};
use crate::buf::slot::Slot;
use crate::engine::effect::LanConfig;
use crate::engine::sink::{Delivery, LanSink};
use crate::model::addr::{Card, stand_in};
use crate::model::limits::BATCH_SLOTS;
use crate::model::status::Trouble;
use crate::rules::ruleset::{Ruleset, Transport};
use found::Found;
use groups::Groups;
use hear::{Around, Hearing};
use local::Locals;
use room::Room;
use search::Searching;
use share::Share;
use stands::{Reading, Stands, Us};
use tcp::Tcp;
use tokio::time::Sleep;

/// How often games that start, and what is idle or over, are looked for.
const TICK: Duration = Duration::from_millis(250);
/// How often it is looked whether a game that runs searches: a search by several packets should not be over by then. Where
/// none runs, it is looked with every tick.
const BEAT: Duration = Duration::from_millis(50);
/// How often where nothing can start or search, but something stands that may be over,
const SWEEP: Duration = Duration::from_secs(1);
/// and where nothing stands.
const REST: Duration = Duration::from_secs(2);
/// The most that broadcasts may fill of a batch, so that a storm of them cannot keep the games' packets out.
const HEARD_SHARE: usize = BATCH_SLOTS / 4;
/// The most that datagrams may fill of it, for the same reason.
const UDP_SHARE: usize = BATCH_SLOTS * 3 / 4;
/// How often ports that somebody else held alone are tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How proxy mode is set up.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// The cards on which local games are listened to; `None` is every card that is up.
    pub cards: Option<Vec<String>>,
    /// Names of the programs of the games that run, as their profiles name them.
    pub processes: Vec<String>,
    /// TCP ports of games here that want to be told who connects (PROXY protocol, version 2).
    pub proxy_protocol: Vec<u16>,
    /// Other computers of the own networks see and join the games that were found.
    pub share_lan: bool,
}

/// The LAN side.
#[derive(Debug)]
pub struct ProxyPort {
    options: ProxyOptions,
    config: LanConfig,
    rules: Ruleset,
    /// Those that were chosen.
    cards: Vec<Card>,
    stands: Stands,
    locals: Locals,
    groups: Groups,
    hearing: Hearing,
    found: Found,
    tcp: Tcp,
    share: Share,
    room: Slot,
    /// For copies that go to neighbours.
    spare: Slot,
    rhythm: Rhythm,
    /// As of the last read or flush: a packet between the two needs no clock of its own.
    now: Instant,
    /// Broadcasts that we sent.
    broadcasts: u64,
    counters: ProxyCounters,
}

/// What is done now and then.
#[derive(Debug)]
struct Rhythm {
    clock: Pin<Box<Sleep>>,
    due: Instant,
    ticked: Instant,
    tried: Instant,
    room: Room,
    searching: Searching,
}

impl ProxyPort {
    /// Begins to stand in. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Where the system has no loopback addresses to spare.
    pub fn open(options: ProxyOptions, config: &LanConfig) -> Result<Self, Trouble> {
        let own = SocketAddrV4::new(stand_in(config.v4), 0);
        std::net::UdpSocket::bind(own).map_err(|e| {
            let what = format!("proxy mode needs an address such as {} on this computer: {e}", own.ip());
            Trouble::new("no_stand_ins", what, "`--mode lan` needs no such addresses, but more rights")
        })?;
        let now = Instant::now();
        let mut tcp = Tcp::new(config.v4, config.mtu);
        tcp.tell(&options.proxy_protocol);
        Ok(Self {
            config: *config,
            rules: Ruleset::default(),
            cards: Vec::new(),
            stands: Stands::default(),
            locals: Locals::default(),
            groups: Groups::default(),
            hearing: Hearing::default(),
            found: Found::default(),
            tcp,
            share: Share::new(options.share_lan),
            room: Slot::default(),
            spare: Slot::default(),
            rhythm: Rhythm {
                clock: Box::pin(tokio::time::sleep_until(now.into())),
                due: now,
                ticked: now,
                tried: now,
                room: Room::new(&options.processes),
                searching: Searching::default(),
            },
            now,
            broadcasts: 0,
            counters: ProxyCounters::default(),
            options,
        })
    }

    /// Takes another address: what stood for peers of the old network is closed.
    pub fn reconfigure(&mut self, config: &LanConfig) {
        if config.subnet != self.config.subnet || config.v4 != self.config.v4 {
            self.stands.clear();
            self.share.clear();
            self.found.clear();
            self.locals = Locals::default();
            self.tcp.reconfigure(config.v4, config.mtu);
        }
        self.config = *config;
        self.tcp.set_mtu(config.mtu);
    }

    /// The games' rules.
    pub fn set_rules(&mut self, rules: &Ruleset) {
        self.rules = rules.clone();
        self.listen();
    }

    /// The largest packet that the tunnel takes.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.config.mtu = mtu;
        self.tcp.set_mtu(mtu);
    }

    /// The cards as they are now.
    pub fn set_cards(&mut self, cards: &[Card]) {
        let chosen =
            |card: &&Card| self.options.cards.as_ref().is_none_or(|names| names.contains(&card.name));
        self.cards = cards.iter().filter(chosen).cloned().collect();
        for at in self.share.set_cards(&self.cards) {
            self.tcp.close_at(at);
        }
        self.listen();
    }

    /// Listens to the local games as rules and cards say now.
    fn listen(&mut self) {
        self.hearing.want(&self.rules, &self.cards);
        if !self.rhythm.room.is_letting_go(self.now) {
            self.hearing.open(self.listens_to_broadcasts());
        }
        // There may be more reason to look now.
        self.rhythm.due = self.now;
        self.rhythm.clock.as_mut().reset(self.now.into());
    }

    /// The party's list has this game: it can be joined here for some seconds from now.
    pub fn keep_game(&mut self, of: SocketAddrV4, tcp: bool) {
        self.keep(of, if tcp { Transport::Tcp } else { Transport::Udp });
    }

    /// Where the local game reaches a peer's address and port, if it does.
    #[must_use]
    pub fn local(&self, of: SocketAddrV4, tcp: bool) -> Option<SocketAddr> {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let door = self.found.local(of, transport);
        let stand = || if tcp { None } else { self.stands.local(of) };
        door.or_else(stand).map(SocketAddr::V4)
    }

    /// Waits until there is something to read. May be dropped and called again.
    pub async fn readable(&mut self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Each must be polled, so that each remembers whom to wake.
        let ready = [
            self.stands.poll(cx).is_ready(),
            self.share.poll(cx).is_ready(),
            self.hearing.poll(cx).is_ready(),
            self.tcp.poll_ready(cx).is_ready(),
            self.rhythm.clock.as_mut().poll(cx).is_ready(),
        ];
        if ready.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads what there is until nothing is left or the batch is full; returns how many packets it added.
    pub fn try_read(&mut self, batch: &mut Batch) -> usize {
        self.now = Instant::now();
        self.tick();
        let before = batch.len();
        let Self { stands, hearing, locals, counters, config, now, share, rules, rhythm, .. } = self;
        let us = Us { v4: config.v4, mtu: config.mtu };
        let room = &mut rhythm.room;
        let mut reading = Reading { batch, most: HEARD_SHARE, counters, now: *now };
        hearing.read(us, &mut reading, Around { share, rules, locals, room });
        reading.most = UDP_SHARE;
        stands.read(us, &mut reading, |at| locals.note(at));
        share.read(us, &mut reading, locals);
        self.read_tcp(batch);
        batch.len() - before
    }

    fn read_tcp(&mut self, batch: &mut Batch) {
        self.tcp.turn();
        while let Some(slot) = batch.next(Source::Tun) {
            match self.tcp.next(slot.room()) {
                Some(len) => slot.set_len(len),
                None => {
                    batch.give_back();
                    return;
                }
            }
        }
    }

    /// Somebody here searches, or there is something to find.
    fn listens_to_broadcasts(&self) -> bool {
        // Nobody counts the searches of neighbours for us.
        self.rhythm.searching.lasts(self.now) || !self.found.is_empty() || self.share.is_on()
    }

    /// What is done now and then, as often as there is a reason to.
    fn tick(&mut self) {
        let now = self.now;
        if now < self.rhythm.due {
            return;
        }
        if self.hearing.wants_broadcasts() {
            let searches = self.rhythm.searching.look(self.broadcasts, now);
            // Not for somebody else's search while a game starts that has its ports still to take: what is let go is
            // opened afterwards, for as long as the search lasts.
            let room = &mut self.rhythm.room;
            if searches && (!room.is_letting_go(now) || room.heed_search(now)) {
                self.hearing.open(true);
            }
        }
        if now.duration_since(self.rhythm.ticked) >= TICK {
            self.look_around();
        }
        self.rhythm.due = now + self.pause();
        self.rhythm.clock.as_mut().reset(self.rhythm.due.into());
    }

    /// Until the next look.
    fn pause(&self) -> Duration {
        let searches = self.hearing.wants_broadcasts();
        if searches && self.rhythm.room.runs() {
            return BEAT;
        }
        if searches || self.rhythm.room.watches() {
            return TICK;
        }
        let stands = self.stands.len() > 0 || !self.found.is_empty() || self.share.is_on();
        if stands { SWEEP } else { REST }
    }

    fn look_around(&mut self) {
        let now = self.now;
        self.rhythm.ticked = now;
        if self.rhythm.room.look(now) {
            self.let_go();
        }
        let mut again = self.rhythm.room.is_over(now);
        if now.duration_since(self.rhythm.tried) >= AGAIN {
            self.rhythm.tried = now;
            again |= self.hearing.len().1 > 0;
        }
        let broadcasts = self.listens_to_broadcasts();
        if !broadcasts {
            self.hearing.leave_broadcasts();
        }
        if self.rhythm.room.are_groups_over(now) {
            self.hearing.open(false);
        }
        if again && !self.rhythm.room.is_letting_go(now) {
            self.hearing.open(broadcasts);
        }
        let expired = self.found.expired(now);
        self.close_doors(&expired);
        let found = &self.found;
        self.stands.sweep(|of| found.holds(of, Transport::Udp), now);
        self.share.sweep(|of| found.holds(of, Transport::Udp), now);
    }

    /// A game starts that may want its ports for itself alone.
    fn let_go(&mut self) {
        tracing::debug!("a game starts; its ports are let go for a moment");
        self.counters.made_room += 1;
        self.hearing.let_go();
        let rules = &self.rules;
        let fixed = |port| is_fixed(rules, port);
        self.stands.release(fixed, self.now);
        self.share.release(fixed);
        let doors = self.found.release(fixed);
        self.close_doors(&doors);
    }

    /// Whether this port is being let go: nothing of ours may take it now.
    fn is_letting_go(&self, port: u16) -> bool {
        self.rhythm.room.is_letting_go(self.now) && is_fixed(&self.rules, port)
    }

    /// Packets are sent when they are committed; connections move on here.
    pub fn flush(&mut self) {
        self.now = Instant::now();
        self.tcp.turn();
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> ProxyCounters {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (hearing, deaf) = self.hearing.len();
        ProxyCounters {
            stands: number(self.stands.len()),
            hearing: number(hearing),
            deaf: number(deaf),
            shared: number(self.share.len()),
            tcp: self.tcp.counters(),
            ..self.counters
        }
    }
}

impl LanSink for ProxyPort {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let fits = self.room.room().get_mut(..len);
        if fits.is_none() {
            self.counters.too_long += 1;
        }
        fits
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        let _ = how;
        self.room.set_len(len);
        self.deliver();
    }
}

/// Whether the profiles name this port for the games of this computer.
fn is_fixed(rules: &Ruleset, port: u16) -> bool {
    rules.capture_ports().iter().any(|ports| ports.contains(&port))
        || [Transport::Tcp, Transport::Udp].iter().any(|by| rules.plays_on(*by, port).is_some())
}

/// Whether this address stands for a peer, of this party or of another one on this computer. Games are at 127.0.0.1, or at
/// 127.0.1.1, which some systems give to the computer's own name; `stand_in` leaves these alone.
const fn is_stand_in(address: std::net::Ipv4Addr) -> bool {
    address.is_loopback() && address.octets()[1] != 0
}

/// Whether a port is not to be had, though another one may be: it is in use, or only an administrator may take it.
fn is_not_to_be_had(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::AddrInUse | std::io::ErrorKind::PermissionDenied)
}

/// An IPv4 address, if it is one.
const fn v4(address: IpAddr) -> Option<std::net::Ipv4Addr> {
    match address {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    }
}
