//! Hard pairs as the node sees them: when one is due, which sockets it gets, and what its machine wants done.

use super::Node;
use super::nat::unsigned_request;
use crate::engine::counters::Count;
use crate::engine::effect::Effect;
use crate::engine::path::punch::{Facts, MANY, PunchAction};
use crate::engine::path::route::Route;
use crate::engine::sink::WanSink;
use crate::engine::tunnel::session::Session;
use crate::model::addr::{Endpoint, Via};
use crate::model::id::PeerId;
use crate::model::limits;
use crate::model::reach::is_public;
use crate::model::status::PathKind;
use crate::model::time::Now;
use crate::wire::control::{PeerMessage, PunchSignal};
use crate::wire::frame::FrameKind;
use crate::wire::stun::{Class, Message};
use std::net::SocketAddr;

/// Hard pairs that are opened at a time, so that a home router's table is not flooded.
const AT_ONCE: usize = 3;
/// Blocks of extra sockets. Of those of an opened pair one socket stays, and its numbers with it.
pub(super) const BLOCKS: usize = limits::PEERS + AT_ONCE;

/// Questions to servers whose answers still count.
const ASKED: usize = 16;

/// A question to a server: from which extra socket, to whom, and its transaction.
pub(super) type Asked = (u16, SocketAddr, [u8; 12]);

fn first_of(block: usize) -> u16 {
    u16::try_from(block).map_or(u16::MAX, |block| block.saturating_mul(MANY))
}

impl<S: Session> Node<S> {
    fn punch_facts(&self, at: usize) -> Option<Facts<'_>> {
        let peer = self.peers.list.get(at)?;
        let direct = peer.agent.kind().is_some_and(|kind| kind != PathKind::Relay);
        let ready = peer.outbound.up && !direct && peer.agent.is_proven();
        let since = peer.agent.report().map(|r| r.since).filter(|_| ready);
        Some(Facts { mine: self.nat.v4(), theirs: &peer.nat, wanted_since: since })
    }

    /// Does what a hard pair needs now.
    pub(super) fn run_punch(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        self.consider_punch(at, now);
        while let Some(action) = self.peers.list.get_mut(at).and_then(|p| p.punch.poll(now.mono)) {
            self.punch_action(at, action, now, wan);
        }
    }

    fn consider_punch(&mut self, at: usize, now: Now) {
        let mine = *self.nat.v4();
        let Some(theirs) = self.peers.list.get(at).map(|p| p.nat) else { return };
        let wanted_since = self.punch_facts(at).and_then(|f| f.wanted_since);
        let facts = Facts { mine: &mine, theirs: &theirs, wanted_since };
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let direct = peer.agent.kind().is_some_and(|kind| kind != PathKind::Relay);
        if direct {
            // Also when the other end found the way: what is not in use is closed.
            peer.punch.succeeded(now.mono);
        } else if !peer.outbound.up {
            peer.punch.stop();
        } else if peer.punch.consider(facts, now.mono) {
            let id = peer.id;
            match self.take_block(id) {
                Some(first) => {
                    if let Some(peer) = self.peers.list.get_mut(at) {
                        peer.punch.begin(first, facts, now.mono);
                    }
                }
                None => {
                    if let Some(peer) = self.peers.list.get_mut(at) {
                        peer.punch.postpone(now.mono);
                    }
                }
            }
        }
    }

    fn take_block(&mut self, id: PeerId) -> Option<u16> {
        self.free_blocks();
        let opening = self.peers.list.iter().filter(|p| p.id != id && p.punch.first().is_some()).count();
        if opening >= AT_ONCE {
            return None;
        }
        let held = self.blocks.iter().position(|b| *b == Some(id));
        let block = held.or_else(|| self.blocks.iter().position(Option::is_none))?;
        if let Some(slot) = self.blocks.get_mut(block) {
            *slot = Some(id);
        }
        Some(first_of(block))
    }

    /// Closes what was kept for a way that is not in use any more, and for peers that are forgotten.
    fn free_blocks(&mut self) {
        for (at, block) in self.blocks.iter_mut().enumerate() {
            let Some(id) = *block else { continue };
            let first = first_of(at);
            let in_block = |n: u16| (first..first.saturating_add(MANY)).contains(&n);
            let used = self.peers.list.iter().filter(|p| p.id == id).any(|p| {
                let on_it = matches!(
                    p.agent.primary(),
                    Some(Route::Straight(Endpoint { via: Via::Extra(n), .. })) if in_block(n)
                );
                p.punch.first().is_some() || on_it
            });
            if !used {
                *block = None;
                self.effects.push_back(Effect::CloseSockets { first, count: MANY, keep: None });
            }
        }
    }

    /// The other end says that it is ready.
    pub(super) fn punch_signal(&mut self, at: usize, signal: PunchSignal, now: Now) {
        let mine = *self.nat.v4();
        let wanted_since = self.punch_facts(at).and_then(|f| f.wanted_since);
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        // Only where the peer's own record says that its router is.
        let named = peer.nat.public.is_some_and(|public| public.ip() == signal.public);
        let direct = peer.agent.kind().is_some_and(|kind| kind != PathKind::Relay);
        if direct || !named || !is_public(signal.public) {
            return;
        }
        let theirs = peer.nat;
        let facts = Facts { mine: &mine, theirs: &theirs, wanted_since };
        if peer.punch.signalled(&signal, facts, now.mono) {
            let id = peer.id;
            let first = self.take_block(id);
            if let (Some(first), Some(peer)) = (first, self.peers.list.get_mut(at)) {
                peer.punch.begin_answer(first, signal, now.mono);
            }
        }
        // Its first probes leave at the next deadline, which is now.
    }

    fn punch_action(&mut self, at: usize, action: PunchAction, now: Now, wan: &mut impl WanSink) {
        match action {
            PunchAction::Open(count) => {
                if let Some(first) = self.peers.list.get(at).and_then(|p| p.punch.first()) {
                    self.effects.push_back(Effect::OpenSockets { first, count, v6: false });
                }
            }
            PunchAction::Close => self.close_block(at),
            PunchAction::Ask => self.ask_outside(at, now, wan),
            PunchAction::Tell(signal) => {
                self.send_message(at, &PeerMessage::Punch(signal), now, wan);
            }
            PunchAction::Probe(via, to) => {
                self.counters.add(Count::Probes);
                let frame = self.own_frame(FrameKind::Ping, 0);
                self.send_frame(at, Some(Route::Straight(Endpoint { via, to })), frame, &[], now, wan);
            }
        }
    }

    fn close_block(&mut self, at: usize) {
        let Some(peer) = self.peers.list.get(at) else { return };
        let Some(block) = self.blocks.iter().position(|b| *b == Some(peer.id)) else { return };
        let keep = match peer.agent.primary() {
            Some(Route::Straight(Endpoint { via: Via::Extra(n), .. })) => Some(n),
            Some(_) | None => None,
        };
        let (first, count) = (first_of(block), MANY);
        let keep = keep.filter(|n| (first..first + count).contains(n));
        self.effects.push_back(Effect::CloseSockets { first, count, keep });
        if keep.is_none()
            && let Some(slot) = self.blocks.get_mut(block)
        {
            *slot = None;
        }
    }

    /// Asks servers which outside port a fresh socket has.
    fn ask_outside(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(first) = self.peers.list.get(at).and_then(|p| p.punch.first()) else { return };
        let servers: Vec<SocketAddr> = self.nat.servers().filter(SocketAddr::is_ipv4).take(1).collect();
        for to in servers {
            let id = self.dice.bytes();
            let request = unsigned_request(id);
            if self.asked.len() >= ASKED {
                self.asked.pop_front();
            }
            self.asked.push_back((first, to, id));
            self.send_raw(Route::Straight(Endpoint { via: Via::Extra(first), to }), &request, now, wan);
        }
    }

    /// A server's answer on an extra socket. True when it was waited for: the peer will probe what it says, so it must be the
    /// answer to our question and not one that somebody sends in the server's name.
    pub(super) fn outside_answer(&mut self, from: Endpoint, message: &Message<'_>, now: Now) -> bool {
        let (Via::Extra(number), Some(outside)) = (from.via, message.mapped()) else { return false };
        let id = message.transaction().0;
        if message.class() != Class::Success || !self.asked.contains(&(number, from.to, id)) {
            return false;
        }
        let mine = *self.nat.v4();
        let Some(peer) = self.peers.list.iter_mut().find(|p| p.punch.first() == Some(number)) else {
            return false;
        };
        let theirs = peer.nat;
        peer.punch.answered(outside, Facts { mine: &mine, theirs: &theirs, wanted_since: None }, now.mono);
        true
    }
}
