//! Members that pass packets on for others: asked for it, doing it, and handing up what came that way.

use super::Node;
use super::party::GREET_AFTER;
use crate::engine::counters::{Count, DropReason};
use crate::engine::friend::Verdict;
use crate::engine::path::route::Route;
use crate::engine::sink::{LanSink, WanSink};
use crate::engine::tunnel::peer::Presence;
use crate::engine::tunnel::session::Session;
use crate::model::addr::Seat;
use crate::model::limits::SLOT_BYTES;
use crate::model::status::PathKind;
use crate::model::time::Now;
use crate::wire::frame::{Class, Frame, FrameKind};
use crate::wire::kind::Kind;

/// Members that are asked to pass on for one pair: the second in case the first leaves.
const FRIENDS: usize = 2;

impl<S: Session> Node<S> {
    /// Who passes packets on, and for which peers that is wanted: those that no direct way leads to.
    pub(super) fn update_friends(&mut self, now: Now) {
        let direct = |kind: Option<PathKind>| matches!(kind, Some(PathKind::Lan | PathKind::Direct));
        let mut friends: Vec<(bool, u64, Seat)> = Vec::new();
        for peer in self.peers.list.iter().filter(|p| p.outbound.up && direct(p.agent.kind())) {
            let Some(member) = self.party.roster.get(peer.id).filter(|m| m.record.friend) else { continue };
            friends.extend(peer.seat.map(|seat| (!peer.owner, member.record.seat_since, seat)));
        }
        // The host first, then who has been here longest.
        friends.sort_unstable();
        let friends: Vec<Seat> = friends.into_iter().map(|(_, _, seat)| seat).take(FRIENDS).collect();
        let changed = friends != self.world.friends;
        self.world.friends = friends;
        for peer in &mut self.peers.list {
            let is_friend = peer.seat.is_some_and(|seat| self.world.friends.contains(&seat));
            let wanted = peer.presence != Presence::Dormant
                && !self.world.friends.is_empty()
                && !is_friend
                && !direct(peer.agent.kind());
            if peer.lent != wanted || changed && wanted {
                peer.lent = wanted;
                // The node was woken for this moment's pings already; those of the new ways come a little later.
                let soon = now.mono + GREET_AFTER;
                peer.agent.set_ground(self.world.ground_for(wanted), soon);
                self.todo.greet = Some(soon);
            }
        }
    }

    /// Sends a sealed message for one peer inside the tunnel to a member that passes it on.
    pub(super) fn send_by_friend(
        &mut self,
        at: usize,
        friend: Seat,
        message: &[u8],
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        let to = self.peers.list.get(at).and_then(|p| p.seat);
        let friend = self.peer_at(friend);
        let (Some(to), Some(friend)) = (to, friend) else {
            self.dropped(DropReason::NoPath);
            return false;
        };
        let frame = Frame { hops: 1, ..self.own_frame(FrameKind::Forward, u64::from(to.0)) };
        self.send_straight(friend, frame, message, now, wan)
    }

    /// Sends a frame by a peer's primary way, if no other member is in between: nothing is passed on twice.
    fn send_straight(
        &mut self,
        at: usize,
        frame: Frame,
        body: &[u8],
        now: Now,
        wan: &mut impl WanSink,
    ) -> bool {
        let way = self.peers.list.get(at).filter(|p| p.outbound.up).and_then(|p| p.agent.primary());
        match way {
            Some(way @ (Route::Straight(_) | Route::Relayed { .. })) => {
                self.send_frame(at, Some(way), frame, body, now, wan)
            }
            Some(Route::Friend(_)) | None => {
                self.dropped(DropReason::NoPath);
                false
            }
        }
    }

    /// A datagram to be passed on, or one that was, lies as a frame in the first bytes of `scratch`.
    pub(super) fn forward_frame(
        &mut self,
        at: usize,
        from: Route,
        len: usize,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        let mut room = [0u8; SLOT_BYTES];
        let Some((frame, body)) = self.scratch.get(..len).and_then(Frame::read) else { return };
        let Some(message) = room.get_mut(..body.len()) else { return };
        message.copy_from_slice(body);
        let message = &*message;
        let Some(sender) = self.peers.list.get(at).and_then(|p| p.seat) else {
            return self.dropped(DropReason::ForwardRefused);
        };
        if matches!(from, Route::Friend(_)) {
            return self.dropped(DropReason::HopLimit);
        }
        if Kind::of(message) != Kind::WireGuard {
            return self.dropped(DropReason::ForwardRefused);
        }
        match frame.hops {
            // For this node: what only the peer that sealed it could have made.
            0 => self.sealed(Route::Friend(sender), message, now, wan, lan),
            1 if frame.origin == sender.0 => self.forward(sender, frame, message, now, wan),
            _ => self.dropped(DropReason::HopLimit),
        }
    }

    fn forward(&mut self, from: Seat, frame: Frame, message: &[u8], now: Now, wan: &mut impl WanSink) {
        let to = u8::try_from(frame.number).ok().map(Seat);
        let there = to.and_then(|seat| Some((seat, self.peer_at(seat)?)));
        let Some((to, at)) = there else { return self.dropped(DropReason::NoSuchPeer) };
        match self.forwarder.admit(from, to, message.len(), now.mono) {
            Verdict::Pass => {
                let frame = Frame { hops: 0, class: Class::Unicast, run: self.me.run, ..frame };
                // The two see no other order than that in which it leaves here; sealed in its turn, it is in the window of this
                // node's own session with the receiver, whatever else was said there meanwhile.
                if !self.aside.put((to, frame), message) {
                    self.pass_on(at, frame, message, now, wan);
                }
            }
            Verdict::Refused => self.dropped(DropReason::ForwardRefused),
            Verdict::Pace => self.dropped(DropReason::ForwardPace),
        }
    }

    fn pass_on(&mut self, at: usize, frame: Frame, message: &[u8], now: Now, wan: &mut impl WanSink) {
        if self.send_straight(at, frame, message, now, wan) {
            self.counters.add(Count::Forwarded);
        }
    }

    /// What `handle_wan` is given from now on was read before its turn, at this place, or in turn again. Nothing but messages
    /// that are passed on for two other members waits for it.
    pub const fn set_aside(&mut self, place: Option<u8>) {
        self.aside.set(place);
    }

    /// The turn of this place has come. True when something waited for it.
    pub fn handle_turn(&mut self, place: u8, now: Now, wan: &mut impl WanSink) -> bool {
        let mut waited = false;
        while let Some(((to, frame), slot)) = self.aside.pop(place) {
            match self.peer_at(to) {
                Some(at) => self.pass_on(at, frame, slot.packet(), now, wan),
                None => self.dropped(DropReason::NoSuchPeer),
            }
            self.aside.give_back(slot);
            waited = true;
        }
        if waited {
            self.settle(now);
        }
        waited
    }
}
