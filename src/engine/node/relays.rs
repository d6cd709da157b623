//! This node's allocations on relays: one client (`engine::turn`) per way to a relay that is worth having, chosen from what
//! control planes offer and the player named.
//!
//! UDP first; where it does not answer within a quarter of a second, TCP and TLS are tried beside it, and the first that comes up
//! stays until UDP works. With several relays the two with the shortest round trip are kept, so that a second is ready when one
//! dies; which of them carries a peer's packets is decided by that peer's pings, which measure both ends together.

// Size: opening, choosing and closing lines is one state machine; half of the rest is the node's face of it.

use super::Node;
use crate::engine::effect::Effect;
use crate::engine::path::route::{RelaySlot, Route};
use crate::engine::sink::WanSink;
use crate::engine::tunnel::session::Session;
use crate::engine::turn::{Turn, TurnEvent, TurnIn, TurnSetup};
use crate::model::addr::{Candidate, CandidateKind, Endpoint, Via};
use crate::model::dice::{Dice, Seed};
use crate::model::relay::{RelayOffer, RelayWay};
use crate::model::time::{Deadline, Mono, Now};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

/// UDP gets this long before the same relay is tried by TCP and TLS too.
const UDP_FIRST: Duration = Duration::from_millis(250);
/// Relays that are used at once (the rest of the offers waits for one of these to fail).
const RELAYS: usize = 4;
/// Of those that are up, this many are kept.
const KEPT: usize = 2;
/// A relay that did not serve for this long makes room for another.
const STALE: Duration = Duration::from_secs(30);
/// Waits after failures, doubling.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Ways of one relay.
const WAYS: usize = 32;
/// The longest message of ours to a relay.
const MESSAGE: usize = 1024;

/// What a datagram that may come from a relay was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RelayIn {
    /// It carries something of a peer.
    Data {
        /// Which way it came.
        route: Route,
        /// Where in the datagram.
        body: Range<usize>,
    },
    /// The relay's own word.
    Taken,
    /// Not from a relay of ours, or not for it.
    NotOurs,
}

/// How an allocation, or the attempt at one, is: for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelayState {
    /// Which allocation.
    pub slot: RelaySlot,
    /// The way to the relay.
    pub way: RelayWay,
    /// Our address on it, while it is up.
    pub relayed: Option<SocketAddr>,
    /// Round trip to it.
    pub rtt: Option<Duration>,
    /// Why it is not up.
    pub why: Option<String>,
}

/// One way to one relay.
#[derive(Debug)]
struct Line {
    slot: RelaySlot,
    way: RelayWay,
    turn: Turn,
    /// The stream, and whether it is connected.
    stream: Option<(u8, bool)>,
    relayed: Option<SocketAddr>,
    rtt: Duration,
    retry: Option<Mono>,
    failures: u32,
    why: Option<String>,
}

/// One relay, and when it was first tried.
#[derive(Debug)]
struct Server {
    offer: RelayOffer,
    since: Mono,
    /// TCP and TLS are tried too.
    wide: bool,
    /// Nearer ones serve.
    aside: bool,
    /// The player named it.
    named: bool,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Relays {
    servers: Vec<Server>,
    lines: Vec<Line>,
    next_slot: u8,
    seed: Seed,
    dice: Dice,
    peers: Vec<SocketAddr>,
    effects: VecDeque<Effect>,
    /// Last words to relays that are not needed any more.
    parting: Vec<(Endpoint, Vec<u8>)>,
    /// The set of allocations changed.
    changed: bool,
    /// There are other offers.
    news: bool,
    /// Clients may have something to say.
    talks: bool,
    waiting: Vec<RelayOffer>,
}

impl Relays {
    pub(super) fn new(own: Vec<RelayOffer>, seed: &Seed) -> Self {
        Self {
            servers: Vec::new(),
            lines: Vec::new(),
            next_slot: 0,
            seed: seed.fork("relays"),
            dice: seed.dice("relay waits"),
            peers: Vec::new(),
            effects: VecDeque::new(),
            parting: Vec::new(),
            changed: false,
            news: false,
            talks: false,
            waiting: own,
        }
    }

    /// A control plane offers these, or the player named them.
    /// What the player named stays as the player named it.
    pub(super) fn offered(&mut self, offers: Vec<RelayOffer>, named: bool, now: Mono) {
        // Those it does not name any more work until they fail; there is nothing to be gained from dropping them.
        for mut offer in offers.into_iter().take(RELAYS) {
            offer.ways.truncate(WAYS);
            let same = |s: &&mut Server| s.offer.ways.first() == offer.ways.first();
            if let Some(known) = self.servers.iter_mut().find(same) {
                if known.named && !named {
                    continue;
                }
                known.named = named;
                for line in self.lines.iter_mut().filter(|l| known.offer.ways.contains(&l.way)) {
                    line.turn.set_credentials(&offer.username, &offer.password);
                }
                known.offer = offer;
            } else if self.servers.len() < RELAYS || self.drop_stale(now) {
                // A way that is no UDP in front says that UDP is not to be counted on here.
                let wide = !matches!(offer.ways.first(), Some(RelayWay::Udp { .. }));
                self.servers.push(Server { offer, since: now, wide, aside: false, named });
            }
        }
        self.news = true;
        self.open_lines(now);
    }

    /// Makes room for another relay: the first that has been tried for long in vain is given up. A server that moved would else
    /// be kept out by where it was.
    fn drop_stale(&mut self, now: Mono) -> bool {
        let stale = |s: &Server| now.since(s.since) >= STALE && !s.aside && !is_served(s, &self.lines);
        let Some(at) = self.servers.iter().position(stale) else { return false };
        let ways = self.servers.remove(at).offer.ways;
        let lines = self.lines.iter().filter(|l| ways.contains(&l.way));
        let slots: Vec<RelaySlot> = lines.map(|l| l.slot).collect();
        slots.into_iter().for_each(|slot| self.close(slot));
        true
    }

    /// Opens what is to be tried now: of each relay that does not serve yet its first UDP way, and all others when that one is
    /// slow. A relay that was put aside because nearer ones serve stays so while they do.
    fn open_lines(&mut self, now: Mono) {
        let serving = self.servers.iter().filter(|s| is_served(s, &self.lines)).count();
        let mut wanted: Vec<(RelayWay, RelayOffer)> = Vec::new();
        for server in &mut self.servers {
            if is_served(server, &self.lines) || (server.aside && serving >= KEPT) {
                continue;
            }
            server.aside = false;
            let ways = worth_trying(&server.offer.ways, server.wide);
            wanted.extend(ways.into_iter().map(|w| (w.clone(), server.offer.clone())));
        }
        for (way, offer) in wanted {
            if self.lines.iter().all(|l| l.way != way) {
                self.open(way, &offer, now);
            }
        }
    }

    /// A number that no line has: they come round again after 256 openings, and a line may be older than that.
    fn free_slot(&mut self) -> RelaySlot {
        while self.line(RelaySlot(self.next_slot)).is_some() {
            self.next_slot = self.next_slot.wrapping_add(1);
        }
        let slot = RelaySlot(self.next_slot);
        self.next_slot = self.next_slot.wrapping_add(1);
        slot
    }

    fn open(&mut self, way: RelayWay, offer: &RelayOffer, now: Mono) {
        let slot = self.free_slot();
        let stream = match way {
            RelayWay::Udp { .. } => None,
            RelayWay::Tcp { .. } | RelayWay::Tls { .. } => Some((slot.0, false)),
        };
        let via = stream.map_or(Via::Main, |(n, _)| Via::Stream(n));
        let setup = TurnSetup {
            endpoint: Endpoint { via, to: way.addr() },
            username: offer.username.clone(),
            password: offer.password.clone(),
            v6: false,
        };
        let mut turn = Turn::new(setup, self.seed.dice(&format!("turn {}", slot.0)), now);
        for peer in &self.peers {
            turn.permit(*peer, now);
        }
        if stream.is_some() {
            self.effects.push_back(Effect::OpenStream { stream: slot.0, way: way.clone() });
        }
        self.talks = true;
        self.lines.push(Line {
            slot,
            way,
            turn,
            stream,
            relayed: None,
            rtt: Duration::ZERO,
            retry: None,
            failures: 0,
            why: None,
        });
    }

    /// Peers with these addresses may send to us through our relays: their relays' addresses and their routers'.
    pub(super) fn permit(&mut self, candidates: &[Candidate], now: Mono) {
        for candidate in candidates.iter().filter(|c| worth_permitting(c)) {
            if !self.peers.contains(&candidate.addr) {
                if self.peers.len() >= PERMITTED {
                    self.peers.remove(0);
                }
                self.peers.push(candidate.addr);
            }
            for line in &mut self.lines {
                line.turn.permit(candidate.addr, now);
            }
            self.talks = true;
        }
    }

    /// A datagram that looks like STUN or ChannelData.
    pub(super) fn handle(&mut self, from: Endpoint, bytes: &[u8], now: Mono) -> RelayIn {
        for line in self.lines.iter_mut().filter(|l| l.turn.endpoint() == from) {
            match line.turn.handle(bytes, now) {
                TurnIn::Data { peer, body } => {
                    // A port that has no channel yet may want one now.
                    self.talks |= bytes.first().is_some_and(|b| b & 0xc0 == 0) && line.turn.has_transmit();
                    return RelayIn::Data { route: Route::Relayed { relay: line.slot, to: peer }, body };
                }
                TurnIn::Taken => {
                    self.talks = true;
                    self.drain(now);
                    return RelayIn::Taken;
                }
                TurnIn::NotMine => {}
            }
        }
        RelayIn::NotOurs
    }

    /// A connection to a relay is up.
    pub(super) fn stream_up(&mut self, stream: u8, now: Mono) {
        for line in &mut self.lines {
            if let Some((number, up)) = &mut line.stream
                && *number == stream
            {
                *up = true;
                line.turn.restart(now);
                self.talks = true;
            }
        }
    }

    /// A connection to a relay is gone.
    pub(super) fn stream_down(&mut self, stream: u8, why: String, now: Mono) {
        let dice = &mut self.dice;
        for line in self.lines.iter_mut().filter(|l| l.stream.is_some_and(|(n, _)| n == stream)) {
            line.stream = Some((stream, false));
            self.changed |= line.relayed.take().is_some();
            line.fail(why.clone(), dice, now);
        }
    }

    /// Takes what the clients say, and acts on it.
    fn drain(&mut self, now: Mono) {
        let (dice, effects) = (&mut self.dice, &mut self.effects);
        for line in &mut self.lines {
            while let Some(event) = line.turn.poll_event() {
                match event {
                    TurnEvent::Allocated { relayed, rtt, .. } => {
                        self.changed |= line.relayed.replace(relayed) != Some(relayed);
                        (line.rtt, line.failures, line.why, line.retry) = (rtt, 0, None, None);
                    }
                    TurnEvent::Mapped(_) => {}
                    TurnEvent::Lost { why, .. } => {
                        self.changed |= line.relayed.take().is_some();
                        line.why = Some(why.to_string());
                    }
                    TurnEvent::Failed { why } => {
                        self.changed |= line.relayed.take().is_some();
                        // A connection whose other end is out of reach looks open for a quarter of an hour: the next try gets
                        // a new one.
                        if let Some((stream, up @ true)) = &mut line.stream {
                            *up = false;
                            effects.push_back(Effect::CloseStream(*stream));
                        }
                        line.fail(why.to_string(), dice, now);
                    }
                }
            }
        }
        self.close_surplus(now);
    }

    /// Of one relay's ways one is enough: UDP before streams, then the fastest. Of many relays only the nearest are kept.
    fn close_surplus(&mut self, now: Mono) {
        let mut close: Vec<RelaySlot> = Vec::new();
        let mut best: Vec<(Duration, usize)> = Vec::new();
        for (at, server) in self.servers.iter_mut().enumerate() {
            let of_it = || self.lines.iter().filter(|l| server.offer.ways.contains(&l.way));
            let up = of_it().filter(|l| l.relayed.is_some());
            let Some(keep) = up.min_by_key(|l| (l.stream.is_some(), l.rtt)) else { continue };
            best.push((keep.rtt, at));
            // While only a stream works, UDP is still asked now and then: it is better by far.
            let udp_stays = |l: &&Line| keep.stream.is_none() || l.stream.is_some() || l.relayed.is_some();
            close.extend(of_it().filter(|l| l.slot != keep.slot).filter(udp_stays).map(|l| l.slot));
            (server.wide, server.since) = (false, now);
        }
        best.sort_unstable();
        for (_, at) in best.into_iter().skip(KEPT) {
            let Some(server) = self.servers.get_mut(at) else { continue };
            server.aside = true;
            let ways = &server.offer.ways;
            close.extend(self.lines.iter().filter(|l| ways.contains(&l.way)).map(|l| l.slot));
        }
        for slot in close {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: RelaySlot) {
        let Some(at) = self.lines.iter().position(|l| l.slot == slot) else { return };
        let mut line = self.lines.remove(at);
        self.changed |= line.relayed.is_some();
        if let Some((stream, _)) = line.stream {
            self.effects.push_back(Effect::CloseStream(stream));
            return;
        }
        line.turn.close();
        let mut room = [0; MESSAGE];
        while let Some(len) = line.turn.poll_transmit(&mut room) {
            self.parting.push((line.turn.endpoint(), room.get(..len).unwrap_or_default().to_vec()));
        }
    }

    /// Doubt: every relay says at once whether it still knows us, and from where.
    pub(super) fn check(&mut self, now: Mono) {
        for line in self.lines.iter_mut().filter(|l| l.relayed.is_some()) {
            line.turn.check(now);
        }
        self.talks = true;
    }

    /// The network changed: what does not answer quickly is made anew.
    pub(super) fn shaken(&mut self, now: Mono) {
        for line in &mut self.lines {
            if line.relayed.is_some() {
                line.turn.check(now);
            } else if line.retry.is_some() {
                line.retry = Some(now);
            }
        }
        for server in &mut self.servers {
            server.since = now;
        }
        self.talks = true;
    }

    /// The timers; then `poll_transmit` and `poll_effect`.
    pub(super) fn handle_timeout(&mut self, now: Mono) {
        let own = std::mem::take(&mut self.waiting);
        if !own.is_empty() {
            self.offered(own, true, now);
        }
        for line in &mut self.lines {
            line.turn.handle_timeout(now);
            if line.retry.is_some_and(|at| at <= now) {
                line.retry = None;
                match &mut line.stream {
                    // Also one that counts as up: a silent connection is most likely a dead one, and asking on it again would
                    // be asking nobody until the system gives it up.
                    Some((stream, up)) => {
                        *up = false;
                        let way = line.way.clone();
                        self.effects.push_back(Effect::OpenStream { stream: *stream, way });
                    }
                    None => line.turn.restart(now),
                }
            }
        }
        self.drain(now);
        let lines = &self.lines;
        for server in self.servers.iter_mut().filter(|s| !s.wide && s.since + UDP_FIRST <= now) {
            server.wide = !server.aside && !is_served(server, lines);
            server.since = now;
        }
        self.open_lines(now);
    }

    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether our addresses on relays changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Lines that wait for UDP to prove itself, retries, and the clients' own deadlines.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        if !self.waiting.is_empty() || !self.effects.is_empty() || self.changed || self.talks {
            return Some(Deadline::new(Mono::ZERO, "relays"));
        }
        let wide = self
            .servers
            .iter()
            .filter(|s| !s.wide && self.has_streams(s) && !s.aside && !is_served(s, &self.lines));
        let first = wide.map(|s| Deadline::new(s.since + UDP_FIRST, "relay by TCP")).min();
        self.lines.iter().fold(first, |first, line| {
            let live = !matches!(line.stream, Some((_, false)));
            let turn = line.turn.deadline().filter(|_| live);
            let retry = line.retry.map(|at| Deadline::new(at, "relay again"));
            Deadline::earlier(first, Deadline::earlier(turn, retry))
        })
    }

    fn has_streams(&self, server: &Server) -> bool {
        server.offer.ways.iter().any(|w| !matches!(w, RelayWay::Udp { .. }))
    }

    /// What the clients want to say to their relays.
    fn transmit(&mut self, wan: &mut impl WanSink) {
        self.talks = false;
        let mut room = [0; MESSAGE];
        for (to, bytes) in std::mem::take(&mut self.parting) {
            put(to, &bytes, wan);
        }
        for line in &mut self.lines {
            if matches!(line.stream, Some((_, false))) {
                continue;
            }
            // A full queue loses the message, and the client says it again.
            while let Some(len) = line.turn.poll_transmit(&mut room) {
                put(line.turn.endpoint(), room.get(..len).unwrap_or_default(), wan);
            }
        }
    }

    fn line(&self, slot: RelaySlot) -> Option<&Line> {
        self.lines.iter().find(|l| l.slot == slot)
    }

    /// Room for a message of at most `len` bytes by this way: the message goes behind the prefix. `None` when a relay has no
    /// permission for that address yet, or the queue is full.
    pub(super) fn reserve<'w>(
        &self,
        route: Route,
        len: usize,
        wan: &'w mut impl WanSink,
    ) -> Option<(usize, &'w mut [u8])> {
        match route {
            Route::Straight(endpoint) => wan.reserve(endpoint, len).map(|room| (0, room)),
            Route::Relayed { relay, to } => {
                let turn = &self.line(relay).filter(|l| l.relayed.is_some())?.turn;
                let prefix = turn.prefix(&to)?;
                // Behind the message: padding of an indication.
                wan.reserve(turn.endpoint(), prefix + len + 3).map(|room| (prefix, room))
            }
            Route::Friend(_) => None,
        }
    }

    /// Writes what belongs before (and behind) a message of `len` bytes in such a room; the whole length.
    pub(super) fn wrap(&mut self, route: Route, room: &mut [u8], len: usize, now: Mono) -> usize {
        let Route::Relayed { relay, to } = route else { return len };
        let line = self.lines.iter_mut().find(|l| l.slot == relay);
        line.and_then(|l| l.turn.wrap(room, &to, len, now)).unwrap_or(0)
    }

    /// Our allocations that are up.
    pub(super) fn slots(&self) -> Vec<RelaySlot> {
        self.lines.iter().filter(|l| l.relayed.is_some()).map(|l| l.slot).collect()
    }

    /// The addresses of relays, ours and (by their addresses on them) others'.
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        let mut ips: Vec<IpAddr> = self.lines.iter().map(|l| l.way.addr().ip()).collect();
        ips.extend(self.lines.iter().filter_map(|l| l.relayed).map(|a| a.ip()));
        ips.sort_unstable();
        ips.dedup();
        ips
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let up = self.lines.iter().filter_map(|l| l.relayed);
        up.map(|addr| Candidate { addr, kind: CandidateKind::Relay }).collect()
    }

    /// Addresses that answer STUN over UDP: one of each server. It names its others itself, and the prober must not have
    /// spoken to those before it asks who gets in from there.
    pub(super) fn stun_servers(&self) -> Vec<SocketAddr> {
        let udp = |w: &RelayWay| matches!(w, RelayWay::Udp { .. }).then(|| w.addr());
        self.servers.iter().filter_map(|s| s.offer.ways.iter().find_map(udp)).collect()
    }

    /// How all of them are, for people.
    pub(super) fn states(&self) -> Vec<RelayState> {
        let state = |l: &Line| RelayState {
            slot: l.slot,
            way: l.way.clone(),
            relayed: l.relayed,
            rtt: l.relayed.map(|_| l.rtt),
            why: l.why.clone(),
        };
        self.lines.iter().map(state).collect()
    }
}

/// Of a relay's ways (it may name dozens: addresses times ports) the first by UDP, and with `wide` a second at another
/// address, two by TLS and one by TCP.
fn worth_trying(ways: &[RelayWay], wide: bool) -> Vec<&RelayWay> {
    let udp = |w: &&RelayWay| matches!(w, RelayWay::Udp { .. });
    let tls = |w: &&RelayWay| matches!(w, RelayWay::Tls { .. });
    let tcp = |w: &&RelayWay| matches!(w, RelayWay::Tcp { .. });
    let first = ways.iter().find(udp);
    if !wide {
        return first.into_iter().collect();
    }
    let other = |w: &&RelayWay| first.is_none_or(|f| f.addr().ip() != w.addr().ip());
    let second = ways.iter().filter(udp).find(other);
    let streams = ways.iter().filter(tls).take(2).chain(ways.iter().filter(tcp).take(1));
    first.into_iter().chain(second).chain(streams).collect()
}

fn is_served(server: &Server, lines: &[Line]) -> bool {
    lines.iter().any(|l| l.relayed.is_some() && server.offer.ways.contains(&l.way))
}

fn put(to: Endpoint, bytes: &[u8], wan: &mut impl WanSink) {
    if let Some(room) = wan.reserve(to, bytes.len()).and_then(|r| r.get_mut(..bytes.len())) {
        room.copy_from_slice(bytes);
        wan.commit(bytes.len());
    }
}

/// Addresses of peers for which permissions are held.
const PERMITTED: usize = 128;

/// Private addresses mean nothing to a relay on the internet.
const fn worth_permitting(candidate: &Candidate) -> bool {
    match candidate.addr.ip() {
        IpAddr::V4(a) => !(a.is_private() || a.is_loopback() || a.is_link_local()),
        IpAddr::V6(_) => false,
    }
}

impl Line {
    fn fail(&mut self, why: String, dice: &mut Dice, now: Mono) {
        let wait = (RETRY_FIRST * (1 << self.failures.min(6))).min(RETRY_MOST);
        self.failures += 1;
        self.why = Some(why);
        self.retry = Some(now + dice.jitter(wait, 25));
    }
}

impl<S: Session> Node<S> {
    /// A control plane offers relays, or the player named them.
    pub(super) fn relays_offered(&mut self, offers: Vec<RelayOffer>, named: bool, now: Now) {
        self.relays.offered(offers, named, now.mono);
        self.relays_settle(now);
    }

    /// Timers and messages of the relays' clients and of the router's prober.
    pub(super) fn run_relays(&mut self, now: Now, wan: &mut impl WanSink) {
        self.relays.handle_timeout(now.mono);
        self.nat.handle_timeout(now.mono);
        self.relays_settle(now);
        self.relays.transmit(wan);
        self.nat.transmit(wan);
    }

    /// After datagrams: what relays said may want an answer at once.
    pub(super) fn answer_relays(&mut self, now: Now, wan: &mut impl WanSink) {
        if self.relays.talks || self.relays.changed {
            self.due.forget();
            self.relays_settle(now);
            self.relays.transmit(wan);
        }
        self.nat.transmit(wan);
    }

    /// What follows from news about relays and the router.
    pub(super) fn relays_settle(&mut self, now: Now) {
        if std::mem::take(&mut self.relays.news) {
            self.nat.set_servers(&self.relays.stun_servers(), now.mono);
        }
        while let Some(effect) = self.relays.poll_effect() {
            self.effects.push_back(effect);
        }
        if self.relays.take_changed() {
            self.world.relays = self.relays.slots();
            self.world.relay_ips = self.relays.ips();
            for peer in &mut self.peers.list {
                peer.agent.set_ground(self.world.ground_for(peer.lent), now.mono);
            }
            self.todo.publish = true;
        }
        self.nat_settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(n: u8) -> RelayOffer {
        let addr = SocketAddr::from(([11, 0, 0, n], 443));
        RelayOffer {
            ways: vec![RelayWay::Tcp { addr }],
            username: "u".into(),
            password: "p".into(),
            realm: "r".into(),
            expires: None,
        }
    }

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn numbers_of_lines_come_round_without_meeting_an_old_line() {
        let mut relays = Relays::new(vec![offer(1)], &Seed::from_u64(1));
        relays.handle_timeout(at(0));
        let old = relays.lines.first().unwrap().slot;
        for n in 0..600u32 {
            let way = RelayWay::Tcp { addr: SocketAddr::from(([11, 1, 0, 1], 443)) };
            relays.open(way, &offer(2), at(u64::from(n)));
            let slot = relays.lines.last().unwrap().slot;
            assert_ne!(slot, old);
            relays.close(slot);
        }
        assert_eq!(relays.lines.len(), 1);
    }

    #[test]
    fn relays_that_never_answer_do_not_keep_others_out() {
        let mut relays = Relays::new((1..=4).map(offer).collect(), &Seed::from_u64(1));
        relays.handle_timeout(at(0));
        relays.offered(vec![offer(5)], false, at(1));
        assert!(relays.servers.iter().all(|s| s.offer != offer(5)), "they had no time yet");
        relays.offered(vec![offer(5)], false, at(60));
        assert!(relays.servers.iter().any(|s| s.offer == offer(5)));
        assert_eq!((relays.servers.len(), relays.lines.len()), (RELAYS, RELAYS));
    }

    #[test]
    fn a_relay_that_fell_silent_on_an_open_connection_gets_a_new_one() {
        let mut relays = Relays::new(vec![offer(1)], &Seed::from_u64(1));
        relays.handle_timeout(at(0));
        let number = relays.lines.first().unwrap().slot.0;
        relays.stream_up(number, at(0));
        while relays.poll_effect().is_some() {}
        let mut said = Vec::new();
        let mut room = [0; MESSAGE];
        for ms in (0..60_000).step_by(10) {
            let now = Mono(Duration::from_millis(ms));
            relays.handle_timeout(now);
            for line in &mut relays.lines {
                while line.turn.poll_transmit(&mut room).is_some() {}
            }
            said.extend(std::iter::from_fn(|| relays.poll_effect()));
        }
        assert!(matches!(said.first(), Some(Effect::CloseStream(n)) if *n == number), "{said:?}");
        assert!(
            matches!(said.get(1), Some(Effect::OpenStream { stream, .. }) if *stream == number),
            "{said:?}"
        );
    }
}
