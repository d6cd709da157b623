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
use crate::model::status::PathKind;
use crate::model::time::Now;
use crate::wire::control::{PeerMessage, PunchSignal};
use crate::wire::frame::FrameKind;
use std::net::SocketAddr;

/// Blocks of extra sockets: as many hard pairs are opened at a time, so that a home router's table is not flooded.
pub(super) const BLOCKS: usize = 4;

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

    fn take_block(&mut self, id: crate::model::id::PeerId) -> Option<u16> {
        let held = self.blocks.iter().position(|b| *b == Some(id));
        let block = held.or_else(|| self.blocks.iter().position(Option::is_none))?;
        if let Some(slot) = self.blocks.get_mut(block) {
            *slot = Some(id);
        }
        Some(first_of(block))
    }

    /// The other end says that it is ready.
    pub(super) fn punch_signal(&mut self, at: usize, signal: PunchSignal, now: Now) {
        let mine = *self.nat.v4();
        let wanted_since = self.punch_facts(at).and_then(|f| f.wanted_since);
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        if peer.agent.kind().is_some_and(|kind| kind != PathKind::Relay) || !is_public(signal.public) {
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
            let request = unsigned_request(self.dice.bytes());
            self.send_raw(Route::Straight(Endpoint { via: Via::Extra(first), to }), &request, now, wan);
        }
    }

    /// A server's answer on an extra socket. True when it was waited for.
    pub(super) fn outside_answer(&mut self, from: Endpoint, outside: SocketAddr, now: Now) -> bool {
        let Via::Extra(number) = from.via else { return false };
        if self.nat.servers().all(|s| s != from.to) {
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

/// Whether an address that a peer names may be probed: never one of somebody's own network.
const fn is_public(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(a) => {
            !(a.is_private()
                || a.is_loopback()
                || a.is_link_local()
                || a.is_multicast()
                || a.is_broadcast()
                || a.is_unspecified())
        }
        std::net::IpAddr::V6(a) => !(a.is_loopback() || a.is_multicast() || a.is_unspecified()),
    }
}
