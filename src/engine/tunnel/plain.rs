//! `Plain`: a session with WireGuard's messages, lengths, indices and timers, but a fast keyed tag instead of
//! encryption. It exists for the simulator only (feature `sim`) and must never ship.
//!
//! It follows boringtun where the two could be told apart: a ring of eight sessions, a responder that may not send
//! before the initiator's first data message, two handshakes in flight at most, a second handshake message refused
//! unless its stamp is newer, ten handshakes a second before a cookie is asked for, all sessions forgotten when a
//! handshake stays unanswered for 90 s. What differs: its dice and its clock are arguments, so a run repeats.
//!
//! Authenticity is modelled, not provided: tags are keyed by the Diffie-Hellman secret of the two static keys and by
//! the pre-shared key, so a stranger cannot make them by accident, and whoever does not have the party's secret gets no
//! session. As in Noise IK with psk2, a wrong pre-shared key shows only when the initiator reads the answer.

// Size: a third of it is tests; messages, keys and timers of one protocol are read together or not at all.
use super::session::{Open, Session, SessionSetup, Tick};
use crate::model::dice::Dice;
use crate::model::key::{NodeKeys, TunnelKey};
use crate::model::time::{Deadline, Mono, Now};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const REKEY_AFTER: Duration = Duration::from_secs(120);
const REJECT_AFTER: Duration = Duration::from_secs(180);
const ATTEMPT: Duration = Duration::from_secs(90);
const RETRY: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(10);
const COOKIE_LIFE: Duration = Duration::from_secs(120);
/// Handshake messages in one second before a cookie is asked for.
const HANDSHAKES_A_SECOND: u32 = 10;

const INITIATION: usize = 148;
const RESPONSE: usize = 92;
const COOKIE: usize = 64;
/// Header and tag of a data message.
const OVERHEAD: usize = 32;
/// Sessions remembered; the low bits of an index say where.
const RING: usize = 8;

/// See the module's description.
#[derive(Debug)]
pub struct Plain {
    who: Who,
    dice: Dice,
    next_index: u32,
    hand: Handshake,
    ring: [Option<Keys>; RING],
    current: Option<u32>,
    times: Times,
    load: Load,
    cookie: Option<([u8; 16], Mono)>,
    last_mac1: [u8; 16],
}

/// The two ends and what they share.
#[derive(Debug)]
struct Who {
    mine: TunnelKey,
    peer: TunnelKey,
    pair: Key,
    psk: [u8; 32],
}

#[derive(Debug, Default)]
struct Handshake {
    sent: Option<Sent>,
    previous: Option<Sent>,
    /// When the first of a row of unanswered initiations was sent.
    started: Mono,
    expired: bool,
    stamp_out: u64,
    stamp_in: u64,
    /// Wall clock at birth: stamps follow the monotonic clock from there, as boringtun's do.
    born: Now,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    index: u32,
    nonce: [u8; 32],
    at: Mono,
}

#[derive(Debug)]
struct Keys {
    local: u32,
    remote: u32,
    send: Key,
    receive: Key,
    counter: u64,
    window: Window,
    since: Mono,
}

#[derive(Debug, Default)]
struct Times {
    established: Option<Mono>,
    initiator: bool,
    received: Mono,
    sent: Mono,
    data_received: Option<Mono>,
    data_sent: Option<Mono>,
    want_keepalive: bool,
    want_handshake: bool,
}

/// How many handshake messages came lately.
#[derive(Debug)]
struct Load {
    since: Mono,
    count: u32,
    secret: Key,
}

impl Session for Plain {
    fn initiator(keys: &NodeKeys, wire: &[u8]) -> Option<TunnelKey> {
        if wire.len() != INITIATION || !wire.starts_with(&[1, 0, 0, 0]) {
            return None;
        }
        let expected = mac1_key(&keys.tunnel_key()).tag(&[part(wire, 0, 116)]);
        (part(wire, 116, 132) == expected).then_some(())?;
        Some(TunnelKey(part(wire, 40, 72).try_into().ok()?))
    }

    fn new(setup: SessionSetup, now: Now) -> Self {
        let shared = setup.keys.tunnel_secret().diffie_hellman(&setup.peer.0.into());
        let mut dice = setup.seed.dice("plain session");
        let load = Load { since: now.mono, count: 0, secret: Key(dice.u64(), dice.u64()) };
        Self {
            who: Who {
                mine: setup.keys.tunnel_key(),
                peer: setup.peer,
                pair: Key::of(&[b"pair", shared.as_bytes()]),
                psk: setup.psk.0,
            },
            dice,
            next_index: setup.index << 8,
            hand: Handshake { born: now, ..Handshake::default() },
            ring: [const { None }; RING],
            current: None,
            times: Times { received: now.mono, sent: now.mono, ..Times::default() },
            load,
            cookie: None,
            last_mac1: [0; 16],
        }
    }

    fn initiate(&mut self, room: &mut [u8], force: bool, now: Now) -> Option<usize> {
        if self.hand.sent.is_some() && !force {
            return None;
        }
        let message = room.get_mut(..INITIATION)?;
        if self.hand.expired {
            self.hand.expired = false;
            self.times.want_handshake = false;
            self.times.want_keepalive = false;
        }
        if self.hand.sent.is_none() {
            self.hand.started = now.mono;
        }
        let index = self.take_index();
        let nonce: [u8; 32] = self.dice.bytes();
        let elapsed = now.mono.since(self.hand.born.mono);
        let clock = u64::try_from((self.hand.born.unix + elapsed).as_nanos()).unwrap_or(u64::MAX);
        self.hand.stamp_out = clock.max(self.hand.stamp_out + 1);
        message.fill(0);
        put(message, 0, &[1, 0, 0, 0]);
        put(message, 4, &index.to_le_bytes());
        put(message, 8, &nonce);
        put(message, 40, &self.who.mine.0);
        put(message, 88, &self.hand.stamp_out.to_be_bytes());
        let tag = self.who.pair.tag(&[part(message, 0, 100)]);
        put(message, 100, &tag);
        self.hand.previous = self.hand.sent.replace(Sent { index, nonce, at: now.mono });
        self.sign(message, now);
        self.times.note_sent(now.mono);
        Some(INITIATION)
    }

    fn seal(&mut self, plain: &[u8], room: &mut [u8], now: Now) -> Option<usize> {
        let keys = slot(&mut self.ring, self.current?)?;
        let message = room.get_mut(..plain.len() + OVERHEAD)?;
        let body = 16 + plain.len();
        put(message, 0, &[4, 0, 0, 0]);
        put(message, 4, &keys.remote.to_le_bytes());
        put(message, 8, &keys.counter.to_le_bytes());
        put(message, 16, plain);
        let tag = keys.send.tag(&[part(message, 0, body)]);
        put(message, body, &tag);
        keys.counter += 1;
        self.times.note_sent(now.mono);
        if !plain.is_empty() {
            self.times.data_sent = Some(now.mono);
        }
        Some(message.len())
    }

    fn open(&mut self, wire: &[u8], room: &mut [u8], from: SocketAddr, now: Now) -> Open {
        let answer = match (wire, wire.len()) {
            ([1, 0, 0, 0, ..], INITIATION) => self.open_initiation(wire, room, from, now),
            ([2, 0, 0, 0, ..], RESPONSE) => self.open_response(wire, room, from, now),
            ([3, 0, 0, 0, ..], COOKIE) => self.open_cookie(wire, now),
            ([4, 0, 0, 0, ..], OVERHEAD..) => self.open_data(wire, room, now),
            _ => None,
        };
        answer.unwrap_or(Open::Refused)
    }

    fn tick(&mut self, room: &mut [u8], now: Now) -> Tick {
        for keys in &mut self.ring {
            if keys.as_ref().is_some_and(|k| now.mono.since(k.since) > REJECT_AFTER) {
                *keys = None;
            }
        }
        if self.hand.expired {
            return Tick::Nothing;
        }
        if self.cookie.is_some_and(|(_, at)| now.mono.since(at) >= COOKIE_LIFE) {
            self.cookie = None;
        }
        let old = self.times.established.is_some_and(|at| now.mono.since(at) >= REJECT_AFTER * 3);
        let unanswered = self.hand.sent.is_some() && now.mono.since(self.hand.started) >= ATTEMPT;
        if old || unanswered {
            self.give_up();
            return Tick::Expired;
        }
        let wish = self.wishes().into_iter().flatten().filter(|w| w.0 <= now.mono).map(|w| w.1).min();
        let done = match wish {
            Some(Wish::Handshake) => {
                self.times.want_handshake = false;
                self.initiate(room, true, now)
            }
            Some(Wish::Keepalive) => {
                self.times.want_keepalive = false;
                self.seal(&[], room, now).or_else(|| self.initiate(room, false, now))
            }
            None => None,
        };
        done.map_or(Tick::Nothing, Tick::Send)
    }

    fn deadline(&self) -> Option<Deadline> {
        let mut first = None;
        let mut want = |at: Mono, why| first = Deadline::earlier(first, Some(Deadline::new(at, why)));
        for keys in self.ring.iter().flatten() {
            // Strictly more than REJECT_AFTER ends a session, so one nanosecond later.
            want(keys.since + REJECT_AFTER + Duration::from_nanos(1), "session end");
        }
        if self.hand.expired {
            return first;
        }
        if let Some((_, at)) = self.cookie {
            want(at + COOKIE_LIFE, "cookie end");
        }
        if let Some(at) = self.times.established {
            want(at + REJECT_AFTER * 3, "session long dead");
        }
        if self.hand.sent.is_some() {
            want(self.hand.started + ATTEMPT, "handshake given up");
        }
        for (at, wish) in self.wishes().into_iter().flatten() {
            want(at, if wish == Wish::Handshake { "handshake" } else { "session keepalive" });
        }
        first
    }

    fn established(&self) -> bool {
        self.current.is_some_and(|c| {
            self.ring.get(c as usize % RING).is_some_and(|k| k.as_ref().is_some_and(|k| k.local == c))
        })
    }
}

impl Plain {
    fn receiver_index(wire: &[u8]) -> Option<u32> {
        let at = match (wire, wire.len()) {
            ([2, 0, 0, 0, ..], RESPONSE) => 8,
            ([3, 0, 0, 0, ..], COOKIE) | ([4, 0, 0, 0, ..], OVERHEAD..) => 4,
            _ => return None,
        };
        Some(u32::from_le_bytes(part(wire, at, at + 4).try_into().ok()?))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Handshake,
    Keepalive,
}

impl Plain {
    fn take_index(&mut self) -> u32 {
        self.next_index = (self.next_index & !0xff) | (self.next_index + 1) & 0xff;
        self.next_index
    }

    /// Everything a timer may want, each with its moment; only wishes that the next `tick` fulfils and so ends.
    fn wishes(&self) -> [Option<(Mono, Wish)>; 4] {
        let t = &self.times;
        if let Some(sent) = self.hand.sent {
            return [Some((sent.at + RETRY, Wish::Handshake)), None, None, None];
        }
        let since = t.established.filter(|_| t.initiator);
        let on_send = since
            .filter(|at| t.data_sent.is_some_and(|d| d > *at))
            .map(|at| (at + REKEY_AFTER, Wish::Handshake));
        let on_receive = since
            .filter(|at| t.data_received.is_some_and(|d| d > *at))
            .map(|at| (at + (REJECT_AFTER - KEEPALIVE - RETRY), Wish::Handshake));
        let silence = (t.want_handshake && t.data_sent.is_some_and(|d| d > t.received))
            .then_some((t.received + KEEPALIVE + RETRY, Wish::Handshake));
        let keepalive = (t.want_keepalive && t.data_received.is_some_and(|d| d > t.sent))
            .then_some((t.sent + KEEPALIVE, Wish::Keepalive));
        [on_send, on_receive, silence, keepalive]
    }

    fn give_up(&mut self) {
        self.ring = [const { None }; RING];
        self.current = None;
        self.hand.sent = None;
        self.hand.previous = None;
        self.hand.expired = true;
        self.times.established = None;
        self.times.want_handshake = false;
        self.times.want_keepalive = false;
    }

    /// Appends both MACs to a handshake message.
    fn sign(&mut self, message: &mut [u8], now: Now) {
        let at = message.len() - 32;
        self.last_mac1 = mac1_key(&self.who.peer).tag(&[part(message, 0, at)]);
        put(message, at, &self.last_mac1);
        let cookie = self.cookie.filter(|(_, since)| now.mono.since(*since) < COOKIE_LIFE);
        let mac2 = cookie.map_or([0; 16], |(c, _)| Key::of(&[&c]).tag(&[part(message, 0, at + 16)]));
        put(message, at + 16, &mac2);
    }

    /// Checks the MACs of a handshake message; under load a cookie must prove the address.
    fn admit(
        &mut self,
        wire: &[u8],
        room: &mut [u8],
        from: SocketAddr,
        now: Now,
    ) -> Result<(), Option<Open>> {
        let at = wire.len() - 32;
        let mac1 = part(wire, at, at + 16);
        if mac1_key(&self.who.mine).tag(&[part(wire, 0, at)]) != mac1 {
            return Err(None);
        }
        if now.mono.since(self.load.since) >= Duration::from_secs(1) {
            self.load.since = now.mono;
            self.load.count = 0;
        }
        self.load.count += 1;
        if self.load.count <= HANDSHAKES_A_SECOND {
            return Ok(());
        }
        let epoch = (now.mono.0.as_secs() / COOKIE_LIFE.as_secs()).to_be_bytes();
        let cookie = match from.ip() {
            IpAddr::V4(a) => self.load.secret.tag(&[&a.octets(), &epoch]),
            IpAddr::V6(a) => self.load.secret.tag(&[&a.octets(), &epoch]),
        };
        if Key::of(&[&cookie]).tag(&[part(wire, 0, at + 16)]) == part(wire, at + 16, at + 32) {
            return Ok(());
        }
        let Some(reply) = room.get_mut(..COOKIE) else {
            return Err(None);
        };
        reply.fill(0);
        put(reply, 0, &[3, 0, 0, 0]);
        put(reply, 4, part(wire, 4, 8));
        put(reply, 32, &cookie);
        let tag = mac1_key(&self.who.mine).tag(&[mac1, &cookie]);
        put(reply, 48, &tag);
        Err(Some(Open::Reply(COOKIE)))
    }

    fn open_initiation(&mut self, wire: &[u8], room: &mut [u8], from: SocketAddr, now: Now) -> Option<Open> {
        if let Err(answer) = self.admit(wire, room, from, now) {
            return answer;
        }
        let genuine = part(wire, 40, 72) == self.who.peer.0
            && part(wire, 100, 116) == self.who.pair.tag(&[part(wire, 0, 100)]);
        let stamp = u64::from_be_bytes(part(wire, 88, 96).try_into().ok()?);
        if !genuine || stamp <= self.hand.stamp_in {
            return None;
        }
        let message = room.get_mut(..RESPONSE)?;
        self.hand.stamp_in = stamp;
        // Our own initiation stays answerable, but is not repeated any more: the peer's came through.
        self.hand.previous = self.hand.sent.take();
        let remote = u32::from_le_bytes(part(wire, 4, 8).try_into().ok()?);
        let (local, nonce): (u32, [u8; 32]) = (self.take_index(), self.dice.bytes());
        message.fill(0);
        put(message, 0, &[2, 0, 0, 0]);
        put(message, 4, &local.to_le_bytes());
        put(message, 8, &remote.to_le_bytes());
        put(message, 12, &nonce);
        let chain = self.chain(part(wire, 8, 40), &nonce);
        let tag = chain.tag(&[part(message, 0, 44)]);
        put(message, 44, &tag);
        self.sign(message, now);
        let (to_responder, to_initiator) = chain.pair();
        self.store(Keys::new(local, remote, to_initiator, to_responder, now.mono), false, now);
        self.times.note_received(now.mono);
        self.times.note_sent(now.mono);
        Some(Open::Reply(RESPONSE))
    }

    fn open_response(&mut self, wire: &[u8], room: &mut [u8], from: SocketAddr, now: Now) -> Option<Open> {
        if let Err(answer) = self.admit(wire, room, from, now) {
            return answer;
        }
        let local = u32::from_le_bytes(part(wire, 8, 12).try_into().ok()?);
        let of = |s: &Option<Sent>| s.filter(|s| s.index == local);
        let (sent, is_previous) = match (of(&self.hand.sent), of(&self.hand.previous)) {
            (Some(sent), _) => (sent, false),
            (None, Some(sent)) => (sent, true),
            (None, None) => return None,
        };
        let chain = self.chain(&sent.nonce, part(wire, 12, 44));
        if chain.tag(&[part(wire, 0, 44)]) != part(wire, 44, 60) {
            return None;
        }
        if is_previous {
            self.hand.previous = None;
        } else {
            self.hand.sent = None;
        }
        let remote = u32::from_le_bytes(part(wire, 4, 8).try_into().ok()?);
        let (to_responder, to_initiator) = chain.pair();
        self.store(Keys::new(local, remote, to_responder, to_initiator, now.mono), true, now);
        self.times.note_received(now.mono);
        self.choose(local);
        // The responder may not send before it has heard from us inside the new session.
        self.seal(&[], room, now).map(Open::Reply)
    }

    fn open_cookie(&mut self, wire: &[u8], now: Now) -> Option<Open> {
        let cookie: [u8; 16] = part(wire, 32, 48).try_into().ok()?;
        let tag = mac1_key(&self.who.peer).tag(&[&self.last_mac1, &cookie]);
        if part(wire, 48, 64) != tag {
            return None;
        }
        self.cookie = Some((cookie, now.mono));
        self.times.note_received(now.mono);
        Some(Open::Nothing)
    }

    fn open_data(&mut self, wire: &[u8], room: &mut [u8], now: Now) -> Option<Open> {
        let local = Self::receiver_index(wire)?;
        let keys = slot(&mut self.ring, local)?;
        let body = wire.len() - 16;
        if keys.receive.tag(&[part(wire, 0, body)]) != part(wire, body, wire.len()) {
            return None;
        }
        let counter = u64::from_le_bytes(part(wire, 8, 16).try_into().ok()?);
        if !keys.window.admit(counter) {
            return None;
        }
        self.choose(local);
        self.times.note_received(now.mono);
        let plain = part(wire, 16, body);
        if plain.is_empty() {
            return Some(Open::Nothing);
        }
        let len = ip_len(plain).filter(|n| *n <= plain.len())?;
        room.get_mut(..len)?.copy_from_slice(plain.get(..len)?);
        self.times.data_received = Some(now.mono);
        Some(Open::Plain(len))
    }

    fn chain(&self, initiator: &[u8], responder: &[u8]) -> Key {
        let Key(a, b) = self.who.pair;
        Key::of(&[&a.to_le_bytes(), &b.to_le_bytes(), &self.who.psk, initiator, responder])
    }

    fn store(&mut self, keys: Keys, initiator: bool, now: Now) {
        self.times.established = Some(now.mono);
        self.times.initiator = initiator;
        let at = keys.local as usize % RING;
        if let Some(place) = self.ring.get_mut(at) {
            *place = Some(keys);
        }
    }

    /// Sends in this session from now on, unless the one in use is newer.
    fn choose(&mut self, local: u32) {
        let since = |ring: &mut [Option<Keys>; RING], index| slot(ring, index).map(|k| k.since);
        let in_use = self.current.and_then(|c| since(&mut self.ring, c));
        if in_use.is_none_or(|old| since(&mut self.ring, local).is_some_and(|new| new >= old)) {
            self.current = Some(local);
        }
    }
}

impl Times {
    const fn note_received(&mut self, now: Mono) {
        self.received = now;
        self.want_keepalive = true;
        self.want_handshake = false;
    }

    const fn note_sent(&mut self, now: Mono) {
        self.sent = now;
        self.want_handshake = true;
        self.want_keepalive = false;
    }
}

impl Keys {
    fn new(local: u32, remote: u32, send: Key, receive: Key, since: Mono) -> Self {
        Self { local, remote, send, receive, counter: 0, window: Window::default(), since }
    }
}

fn slot(ring: &mut [Option<Keys>; RING], index: u32) -> Option<&mut Keys> {
    ring.get_mut(index as usize % RING)?.as_mut().filter(|k| k.local == index)
}

/// The length an IP packet or one of our frames names; WireGuard implementations cut to it.
fn ip_len(plain: &[u8]) -> Option<usize> {
    match plain {
        [b, _, hi, lo, ..] if b >> 4 == 4 && plain.len() >= 20 => {
            Some(usize::from(u16::from_be_bytes([*hi, *lo])))
        }
        [b, _, _, _, hi, lo, ..] if b >> 4 == 6 && plain.len() >= 40 => {
            Some(40 + usize::from(u16::from_be_bytes([*hi, *lo])))
        }
        _ => None,
    }
}

fn mac1_key(receiver: &TunnelKey) -> Key {
    Key::of(&[b"mac1", &receiver.0])
}

fn put(message: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = message.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).unwrap_or(&[])
}

/// The last 1,024 counters of a session, as in boringtun.
#[derive(Debug, Default)]
struct Window {
    next: u64,
    seen: [u64; 16],
}

impl Window {
    const BITS: u64 = 1024;

    fn bit(&mut self, n: u64) -> Option<(&mut u64, u64)> {
        let at = usize::try_from(n % Self::BITS / 64).ok()?;
        Some((self.seen.get_mut(at)?, 1 << (n % 64)))
    }

    /// True the first time, for numbers that are not too old.
    fn admit(&mut self, n: u64) -> bool {
        if n.saturating_add(Self::BITS) < self.next || n == u64::MAX {
            return false;
        }
        if n >= self.next {
            for skipped in self.next.max(n.saturating_sub(Self::BITS - 1))..=n {
                if let Some((word, bit)) = self.bit(skipped) {
                    *word &= !bit;
                }
            }
            self.next = n + 1;
        }
        let Some((word, bit)) = self.bit(n) else { return false };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}

/// A key of the simulated tags: two lanes of a multiply-and-fold hash. Fast, well mixed, and no cryptography at all.
#[derive(Debug, Clone, Copy)]
struct Key(u64, u64);

impl Key {
    fn of(parts: &[&[u8]]) -> Self {
        Self(fold(0x9e37_79b9_7f4a_7c15, parts), fold(0xd1b5_4a32_d192_ed03, parts))
    }

    fn tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut tag = [0; 16];
        put(&mut tag, 0, &fold(self.0, parts).to_le_bytes());
        put(&mut tag, 8, &fold(self.1, parts).to_le_bytes());
        tag
    }

    /// Keys for the two directions: initiator to responder, responder to initiator.
    fn pair(&self) -> (Self, Self) {
        let Self(a, b) = *self;
        let of = |way: &[u8]| Self::of(&[&a.to_le_bytes(), &b.to_le_bytes(), way]);
        (of(b"to responder"), of(b"to initiator"))
    }
}

fn fold(key: u64, parts: &[&[u8]]) -> u64 {
    let mix = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        #[expect(clippy::cast_possible_truncation, reason = "folding both halves is the point")]
        let folded = (wide as u64) ^ ((wide >> 64) as u64);
        folded
    };
    let mut state = key ^ 0xa076_1d64_78bd_642f;
    for bytes in parts {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            let word = u64::from_le_bytes(word.try_into().unwrap_or([0; 8]));
            state = mix(state ^ word, 0xe703_7ed1_a0b4_28db ^ key);
        }
        let mut last = [0; 8];
        put(&mut last, 0, words.remainder());
        let tail = u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56);
        state = mix(state ^ tail ^ 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3 ^ key.rotate_left(32));
    }
    mix(state, 0x1d8e_4e27_c47d_124f ^ key)
}
