//! Path MTU as the node sees it: probes on the way in use, and what follows from what they find: how large segments of TCP
//! may be between the two, and what the tunnel device lets in at all.

use super::Node;
use crate::engine::effect::Effect;
use crate::engine::path::mtu::MARK;
use crate::engine::path::route::Route;
use crate::engine::sink::WanSink;
use crate::engine::tunnel::session::{LEAST_ROOM, OVERHEAD, Session};
use crate::model::limits::{MTU, MTU_FLOOR, SLOT_BYTES};
use crate::model::time::Now;
use crate::wire::frame::{FrameKind, HEADER};

impl<S: Session> Node<S> {
    /// Looks after the size of packets to one peer.
    pub(super) fn run_mtu(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let way = peer.agent.report().map(|r| r.route).filter(|_| peer.outbound.up);
        peer.mtu.set_route(way, now.mono);
        let changed = peer.mtu.handle_timeout(now.mono);
        while let Some((route, number, padding)) = self.peers.list.get_mut(at).and_then(|p| p.mtu.poll()) {
            self.send_whole(at, route, number, padding, now, wan);
        }
        if changed {
            self.mtu_changed();
        }
    }

    /// A pong whose number may be one of these.
    pub(super) fn mtu_pong(&mut self, at: usize, number: u64, now: Now) {
        if number & MARK != 0 && self.peers.list.get_mut(at).is_some_and(|p| p.mtu.ponged(number, now.mono)) {
            self.mtu_changed();
        }
    }

    /// The largest packet for one peer, in bytes.
    pub(super) fn mtu_of(&self, at: usize) -> u16 {
        self.peers.list.get(at).and_then(|p| p.mtu.inner()).unwrap_or(MTU)
    }

    /// The device takes what every way carries in one piece, but never less than IPv6 demands.
    fn mtu_changed(&mut self) {
        let up = self.peers.list.iter().filter(|p| p.outbound.up);
        let least = up.filter_map(|p| p.mtu.inner()).min().unwrap_or(MTU).max(MTU_FLOOR);
        if least != self.lan.mtu {
            self.lan.mtu = least;
            self.effects.push_back(Effect::SetMtu(least));
        }
    }

    /// A ping of a certain size that must arrive in one piece.
    fn send_whole(
        &mut self,
        at: usize,
        route: Route,
        number: u64,
        padding: usize,
        now: Now,
        wan: &mut impl WanSink,
    ) {
        let mut plain = [0u8; SLOT_BYTES];
        let frame = self.own_frame(FrameKind::Ping, number);
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let (true, Some(plain)) = (frame.write(&mut plain, padding), plain.get(..HEADER + padding)) else {
            return;
        };
        let need = (plain.len() + OVERHEAD).max(LEAST_ROOM);
        let Some((prefix, room)) = self.relays.reserve(route, need, wan) else { return };
        let Some(len) = room.get_mut(prefix..).and_then(|body| peer.session.seal(plain, body, now)) else {
            return;
        };
        let total = self.relays.wrap(route, room, len, now.mono);
        wan.commit_whole(total);
        if prefix > 0 {
            self.due.touch_others();
        }
    }
}
