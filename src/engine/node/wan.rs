//! Datagrams from the network: which peer, open, then a packet of a game or a frame of ours.

use super::relays::RelayIn;
use super::{INITIATIONS, Node};
use crate::engine::counters::{Count, DropReason};
use crate::engine::path::route::Route;
use crate::engine::sink::{Delivery, LanSink, WanSink};
use crate::engine::tunnel::peer::Presence;
use crate::engine::tunnel::session::{LEAST_ROOM, OVERHEAD, Open, Session, receiver_index};
use crate::model::addr::{Endpoint, Via};
use crate::model::limits::SLOT_BYTES;
use crate::model::status::PathKind;
use crate::model::time::{Mono, Now};
use crate::wire::frame::{Class, Frame, FrameKind, HEADER};
use crate::wire::kind::Kind;
use std::net::SocketAddr;

/// The class of a ping that says: nothing is heard from you.
pub(super) const DEAF: Class = Class::Limited;
/// Room that a rewrite may need beyond the packet as it came.
const GROWTH: usize = 128;

impl<S: Session> Node<S> {
    pub(super) fn datagram(
        &mut self,
        from: Endpoint,
        wire: &[u8],
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        self.counters.add(Count::WanIn);
        match Kind::of(wire) {
            Kind::WireGuard => self.sealed(Route::Straight(from), wire, now, wan, lan),
            Kind::Stun | Kind::Channel => {
                self.due.forget();
                match self.relays.handle(from, wire, now.mono) {
                    RelayIn::Data { route, body } => {
                        // Only what a peer sealed: a relay (or who poses as one) brings nothing else in.
                        let inner = wire.get(body).unwrap_or_default();
                        if Kind::of(inner) == Kind::WireGuard {
                            self.sealed(route, inner, now, wan, lan);
                        } else {
                            self.dropped(DropReason::UnknownDatagram);
                        }
                    }
                    RelayIn::Taken => {}
                    RelayIn::NotOurs => self.stun_answer(from, wire, now),
                }
            }
            Kind::Knock => {
                self.due.forget();
                self.knocked(from, wire, now, wan);
            }
            Kind::Unknown => self.dropped(DropReason::UnknownDatagram),
        }
    }

    /// A WireGuard message that came by this way.
    pub(super) fn sealed(
        &mut self,
        from: Route,
        wire: &[u8],
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        let Some(at) = self.whose(wire, now) else { return };
        self.due.touch(at);
        if wire.len() + GROWTH > SLOT_BYTES {
            return self.dropped(DropReason::TooBig);
        }
        // Most datagrams carry a game's packet: open it where it is wanted. Without room there, frames still get through.
        let room_len = (wire.len() + GROWTH).max(LEAST_ROOM);
        let frame = match lan.reserve(room_len) {
            Some(room) => match self.open(at, from, wire, room, now) {
                Open::Plain(len) if Frame::is(room) => self.keep(room, len),
                Open::Plain(len) => {
                    if let Some(len) = self.inward_packet(at, room, len, now) {
                        lan.commit(len, Delivery::Tun);
                    }
                    0
                }
                Open::Refused => return self.dropped(DropReason::Refused),
                other @ (Open::Reply(_) | Open::Nothing) => {
                    self.answer(at, from, wire, other, room, (now, wan))
                }
            },
            None => {
                let mut room = [0; SLOT_BYTES];
                match self.open(at, from, wire, &mut room, now) {
                    Open::Plain(len) if Frame::is(&room) => self.keep(&room, len),
                    Open::Plain(_) => {
                        self.dropped(DropReason::LanFull);
                        0
                    }
                    Open::Refused => return self.dropped(DropReason::Refused),
                    other @ (Open::Reply(_) | Open::Nothing) => {
                        self.answer(at, from, wire, other, &room, (now, wan))
                    }
                }
            }
        };
        self.opened(at, now, wan);
        if frame > 0 {
            self.due.forget();
            self.frame(at, from, frame, now, wan, lan);
        }
    }

    /// Copies a frame out of the sink's room; its length, or 0 when it is too long.
    fn keep(&mut self, room: &[u8], len: usize) -> usize {
        match (self.scratch.get_mut(..len), room.get(..len)) {
            (Some(to), Some(from)) => {
                to.copy_from_slice(from);
                len
            }
            (None, _) | (_, None) => 0,
        }
    }

    /// What is neither packet nor frame; no frame to be read (0).
    fn answer(
        &mut self,
        at: usize,
        from: Route,
        wire: &[u8],
        outcome: Open,
        room: &[u8],
        (now, wan): (Now, &mut impl WanSink),
    ) -> usize {
        match outcome {
            Open::Reply(len) => {
                self.due.forget();
                if let (Some(1), Some(2), Some(peer)) =
                    (wire.first(), room.first(), self.peers.list.get_mut(at))
                {
                    // The other side began anew: it may be another run that knows nothing of us yet.
                    peer.outbound.greeted = false;
                    peer.outbound.compared = false;
                    peer.outbound.replayed = false;
                }
                self.send_to(at, from, room.get(..len).unwrap_or(&[]), now, wan);
            }
            Open::Nothing | Open::Plain(_) | Open::Refused => {}
        }
        0
    }

    fn whose(&mut self, wire: &[u8], now: Now) -> Option<usize> {
        if wire.first() != Some(&1) {
            let found = receiver_index(wire).and_then(|index| self.peers.by_index.get(&index).copied());
            if found.is_none() {
                self.dropped(DropReason::UnknownDatagram);
            }
            return found;
        }
        if !self.initiations.take(INITIATIONS, now.mono) {
            self.dropped(DropReason::Flood);
            return None;
        }
        let key = S::initiator(&self.me.keys, wire);
        let found = key.and_then(|key| self.peers.list.iter().position(|p| p.tunnel == key));
        if found.is_none() {
            self.dropped(DropReason::Refused);
        }
        found
    }

    fn open(&mut self, at: usize, from: Route, wire: &[u8], room: &mut [u8], now: Now) -> Open {
        let Some(peer) = self.peers.list.get_mut(at) else { return Open::Refused };
        let outcome = peer.session.open(wire, room, source(from), now);
        // Cookies, asked for or given, prove no more than that somebody knows a public key: a recording does.
        let cookie =
            wire.first() == Some(&3) || matches!(outcome, Open::Reply(_)) && room.first() == Some(&3);
        // The other end may ask by a member in between for a while after both have found a direct way: answered, but no way
        // that is worth keeping, or both would ask each other for ever.
        let aside = matches!(from, Route::Friend(_))
            && !peer.lent
            && matches!(peer.agent.kind(), Some(PathKind::Lan | PathKind::Direct));
        if outcome != Open::Refused && !cookie && !aside {
            peer.agent.heard(from, self.world.ground(), now.mono);
        } else if wire.first() == Some(&1) {
            peer.agent.knocked(now.mono);
        }
        outcome
    }

    /// Sends a sealed message to a peer by a way, which may lead through another member.
    pub(super) fn send_to(
        &mut self,
        at: usize,
        to: Route,
        message: &[u8],
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        match to {
            Route::Friend(friend) => self.send_by_friend(at, friend, message, now, wan),
            Route::Straight(_) | Route::Relayed { .. } => self.send_raw(to, message, now, wan),
        }
    }

    /// Sends a message by a way that leads through no member.
    pub(super) fn send_raw(&mut self, to: Route, message: &[u8], now: Now, wan: &mut impl WanSink) -> bool {
        let Some((prefix, room)) = self.relays.reserve(to, message.len(), wan) else {
            // No way there now (a relay without its permission yet), or no room.
            self.dropped(DropReason::WanFull);
            return false;
        };
        let Some(body) = room.get_mut(prefix..prefix + message.len()) else { return false };
        body.copy_from_slice(message);
        let total = self.relays.wrap(to, room, message.len(), now.mono);
        wan.commit(total);
        if prefix > 0 {
            self.due.touch_others();
        }
        self.counters.add(Count::WanOut);
        true
    }

    /// After an authentic datagram: is the session new, is the peer back?
    pub(super) fn opened(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let established = peer.session.established();
        if established && !peer.outbound.up {
            self.due.forget();
            peer.outbound.up = true;
            peer.agent.session(true, now.mono);
            self.counters.add(Count::Handshakes);
            self.flush_waiting(at, now, wan);
        }
        let Some(peer) = self.peers.list.get(at) else { return };
        let (news, here) = (peer.agent.has_news(), peer.presence == Presence::Here);
        let greet = peer.outbound.up && !(peer.outbound.greeted && peer.outbound.replayed);
        if established && !here {
            self.due.forget();
            self.peer_is_here(at, now);
        }
        if news || greet {
            self.due.forget();
            self.run_agent(at, now, wan);
        }
    }

    fn flush_waiting(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let waiting = std::mem::take(&mut peer.outbound.waiting);
        for packet in &waiting {
            self.seal_to(at, None, packet, now, wan);
        }
    }

    /// Seals `plain` for a peer, by its primary way or a given one. False when there is no session, path or room.
    pub(super) fn seal_to(
        &mut self,
        at: usize,
        by: Option<Route>,
        plain: &[u8],
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        self.due.touch(at);
        let Some(peer) = self.peers.list.get_mut(at) else { return false };
        let Some(to) = by.or_else(|| peer.agent.primary()) else { return false };
        let second = if by.is_none() { peer.agent.second() } else { None };
        if second.is_some() || matches!(to, Route::Friend(_)) {
            return self.seal_to_two(at, (to, second), by.is_none(), plain, now, wan);
        }
        let Some((prefix, room)) = self.relays.reserve(to, (plain.len() + OVERHEAD).max(LEAST_ROOM), wan)
        else {
            self.dropped(DropReason::WanFull);
            return false;
        };
        let Some(body) = room.get_mut(prefix..) else { return false };
        let Some(len) = peer.session.seal(plain, body, now) else { return false };
        if by.is_none() {
            peer.agent.sent(now.mono);
            if peer.agent.kind() != Some(PathKind::Lan) {
                peer.outbound.sent.push(body.get(..len).unwrap_or_default(), now.mono);
            }
        }
        let total = self.relays.wrap(to, room, len, now.mono);
        wan.commit(total);
        if prefix > 0 {
            self.due.touch_others();
        }
        self.counters.add(Count::WanOut);
        true
    }

    /// Sealed once, sent by one way or two: the peer's replay window drops the copy.
    fn seal_to_two(
        &mut self,
        at: usize,
        (to, second): (Route, Option<Route>),
        data: bool,
        plain: &[u8],
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        let mut room = [0u8; SLOT_BYTES];
        let Some(peer) = self.peers.list.get_mut(at) else { return false };
        if plain.len() + OVERHEAD > SLOT_BYTES {
            return false;
        }
        let Some(len) = peer.session.seal(plain, &mut room, now) else { return false };
        let sealed = room.get(..len).unwrap_or_default();
        if data {
            peer.agent.sent(now.mono);
            peer.outbound.sent.push(sealed, now.mono);
        }
        let first = self.send_to(at, to, sealed, now, wan);
        let also = second.is_some_and(|second| self.send_to(at, second, sealed, now, wan));
        if also {
            self.counters.add(Count::Doubled);
        }
        first || also
    }

    /// What was sent since then goes by the second way too: the first may have swallowed it.
    pub(super) fn resend(&mut self, at: usize, since: Mono, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let Some(second) = peer.agent.second() else { return };
        let ring = std::mem::take(&mut peer.outbound.sent);
        for sealed in ring.since(since) {
            if self.send_to(at, second, sealed, now, wan) {
                self.counters.add(Count::Resent);
            }
        }
        if let Some(peer) = self.peers.list.get_mut(at) {
            peer.outbound.sent = ring;
        }
    }

    /// Seals a frame with a body for a peer.
    pub(super) fn send_frame(
        &mut self,
        at: usize,
        by: Option<Route>,
        frame: Frame,
        body: &[u8],
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        let mut room = [0u8; SLOT_BYTES];
        let total = HEADER + body.len();
        let (true, Some(tail)) = (frame.write(&mut room, body.len()), room.get_mut(HEADER..total)) else {
            self.dropped(DropReason::TooBig);
            return false;
        };
        tail.copy_from_slice(body);
        self.seal_to(at, by, room.get(..total).unwrap_or(&[]), now, wan)
    }

    pub(super) const fn own_frame(&self, kind: FrameKind, number: u64) -> Frame {
        Frame { kind, origin: self.me.seat.0, hops: 0, class: Class::Unicast, number, run: self.me.run }
    }

    /// A frame lies in `scratch`.
    fn frame(
        &mut self,
        at: usize,
        from: Route,
        len: usize,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        let Some((frame, body)) = self.scratch.get(..len).and_then(Frame::read) else {
            return self.dropped(DropReason::BadFrame);
        };
        match frame.kind {
            FrameKind::Ping => {
                if frame.class == DEAF
                    && let Some(peer) = self.peers.list.get_mut(at)
                {
                    peer.agent.peer_is_deaf(now.mono);
                }
                let pong = self.own_frame(FrameKind::Pong, frame.number);
                let seen = from.remote().and_then(|r| postcard::to_allocvec(&r).ok()).unwrap_or_default();
                self.send_frame(at, Some(from), pong, &seen, now, wan);
                if let Some(peer) = self.peers.list.get_mut(at) {
                    peer.agent.answered(from, now.mono);
                }
                if frame.class == DEAF {
                    self.run_agent(at, now, wan);
                }
            }
            FrameKind::Pong => {
                let answers =
                    self.peers.list.get_mut(at).is_some_and(|p| p.agent.pong(frame.number, now.mono));
                let seen = postcard::from_bytes::<SocketAddr>(body).ok();
                self.mtu_pong(at, frame.number, now);
                // Each new address is published: no oftener than we ask.
                if let (true, Some(seen), Route::Straight(Endpoint { via: Via::Main, to })) =
                    (answers, seen, from)
                {
                    self.seen_from_outside(at, seen, to);
                }
                self.run_agent(at, now, wan);
            }
            FrameKind::Message | FrameKind::Part => self.message_frame(at, len, now),
            FrameKind::Forward => self.forward_frame(at, from, len, now, wan, lan),
            FrameKind::Measure => self.measure_frame(at, len, now, wan),
            FrameKind::Lan => self.inward_frame(at, frame, HEADER + body.len(), now, lan),
        }
    }
}

/// What a session's rate limiter tells senders apart by; ways without an address share one.
fn source(route: Route) -> SocketAddr {
    route.remote().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
}
