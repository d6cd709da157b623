//! Datagrams from the network: which peer, open, then a packet of a game or a frame of ours.

use super::{INITIATIONS, Node};
use crate::engine::counters::{Count, DropReason};
use crate::engine::sink::{Delivery, LanSink, WanSink};
use crate::engine::tunnel::peer::Presence;
use crate::engine::tunnel::session::{LEAST_ROOM, OVERHEAD, Open, Session, receiver_index};
use crate::model::addr::Endpoint;
use crate::model::limits::SLOT_BYTES;
use crate::model::time::Now;
use crate::wire::frame::{Class, Frame, FrameKind, HEADER};
use crate::wire::kind::Kind;
use std::net::SocketAddr;

/// Room that a rewrite may need beyond the packet as it came.
const GROWTH: usize = 128;

impl<S: Session> Node<S> {
    pub(super) fn datagram(
        &mut self,
        from: SocketAddr,
        wire: &[u8],
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        self.counters.add(Count::WanIn);
        match Kind::of(wire) {
            Kind::WireGuard => {}
            Kind::Knock => return self.knocked(from, wire, now, wan),
            Kind::Stun | Kind::Channel | Kind::Unknown => return self.dropped(DropReason::UnknownDatagram),
        }
        let Some(at) = self.whose(wire, now) else { return };
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
                other @ (Open::Reply(_) | Open::Nothing) => self.answer(at, from, wire, other, room, wan),
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
                        self.answer(at, from, wire, other, &room, wan)
                    }
                }
            }
        };
        self.opened(at, now, wan);
        if frame > 0 {
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
        from: SocketAddr,
        wire: &[u8],
        outcome: Open,
        room: &[u8],
        wan: &mut impl WanSink,
    ) -> usize {
        match outcome {
            Open::Reply(len) => {
                if let (Some(1), Some(2), Some(peer)) =
                    (wire.first(), room.first(), self.peers.list.get_mut(at))
                {
                    // The other side began anew: it may be another run that knows nothing of us yet.
                    peer.outbound.greeted = false;
                    peer.outbound.compared = false;
                    peer.outbound.replayed = false;
                }
                self.send_raw(from, room.get(..len).unwrap_or(&[]), wan);
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

    fn open(&mut self, at: usize, from: SocketAddr, wire: &[u8], room: &mut [u8], now: Now) -> Open {
        let Some(peer) = self.peers.list.get_mut(at) else { return Open::Refused };
        let outcome = peer.session.open(wire, room, from, now);
        // Cookies, asked for or given, prove no more than that somebody knows a public key: a recording does.
        let cookie =
            wire.first() == Some(&3) || matches!(outcome, Open::Reply(_)) && room.first() == Some(&3);
        if outcome != Open::Refused && !cookie {
            peer.agent.heard(from, &self.world.cards, now.mono);
        } else if wire.first() == Some(&1) {
            peer.agent.knocked(now.mono);
        }
        outcome
    }

    pub(super) fn send_raw(&mut self, to: SocketAddr, message: &[u8], wan: &mut impl WanSink) {
        let Some(room) =
            wan.reserve(Endpoint::main(to), message.len()).and_then(|r| r.get_mut(..message.len()))
        else {
            return self.dropped(DropReason::WanFull);
        };
        room.copy_from_slice(message);
        wan.commit(message.len());
        self.counters.add(Count::WanOut);
    }

    /// After an authentic datagram: is the session new, is the peer back?
    pub(super) fn opened(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let established = peer.session.established();
        if established && !peer.outbound.up {
            peer.outbound.up = true;
            peer.agent.session(true, now.mono);
            self.counters.add(Count::Handshakes);
            self.flush_waiting(at, now, wan);
        }
        let Some(peer) = self.peers.list.get(at) else { return };
        let (news, here) = (peer.agent.has_news(), peer.presence == Presence::Here);
        let greet = peer.outbound.up && !(peer.outbound.greeted && peer.outbound.replayed);
        if established && !here {
            self.peer_is_here(at, now);
        }
        if news || greet {
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

    /// Seals `plain` for a peer, to its primary address or a given one. False when there is no session, path or room.
    pub(super) fn seal_to(
        &mut self,
        at: usize,
        to: Option<SocketAddr>,
        plain: &[u8],
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        let Some(peer) = self.peers.list.get_mut(at) else { return false };
        let Some(to) = to.or_else(|| peer.agent.primary()) else { return false };
        let Some(room) = wan.reserve(Endpoint::main(to), (plain.len() + OVERHEAD).max(LEAST_ROOM)) else {
            self.dropped(DropReason::WanFull);
            return false;
        };
        let Some(len) = peer.session.seal(plain, room, now) else { return false };
        wan.commit(len);
        peer.agent.sent(now.mono);
        self.counters.add(Count::WanOut);
        true
    }

    /// Seals a frame with a body for a peer.
    pub(super) fn send_frame(
        &mut self,
        at: usize,
        to: Option<SocketAddr>,
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
        self.seal_to(at, to, room.get(..total).unwrap_or(&[]), now, wan)
    }

    pub(super) const fn own_frame(&self, kind: FrameKind, number: u64) -> Frame {
        Frame { kind, origin: self.me.seat.0, hops: 0, class: Class::Unicast, number, run: self.me.run }
    }

    /// A frame lies in `scratch`.
    fn frame(
        &mut self,
        at: usize,
        from: SocketAddr,
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
                let pong = self.own_frame(FrameKind::Pong, frame.number);
                let seen = postcard::to_allocvec(&from).unwrap_or_default();
                self.send_frame(at, Some(from), pong, &seen, now, wan);
            }
            FrameKind::Pong => {
                if let Some(peer) = self.peers.list.get_mut(at) {
                    peer.agent.pong(frame.number, now.mono);
                }
                self.run_agent(at, now, wan);
            }
            FrameKind::Message | FrameKind::Part => self.message_frame(at, len, now),
            FrameKind::Forward => self.dropped(DropReason::BadFrame),
            FrameKind::Lan => self.inward_frame(at, frame, HEADER + body.len(), now, lan),
        }
    }
}
