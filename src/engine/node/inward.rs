//! Party to game: check, guard, rewrite, inject. The receiver decides: its own rules must accept what a peer sends.

use super::Node;
use crate::engine::counters::{Count, DropReason};
use crate::engine::lan::firewall::Way;
use crate::engine::lan::pace::Bucket;
use crate::engine::script::{Decision, Held, Judged};
use crate::engine::sink::{Delivery, LanSink};
use crate::engine::tunnel::session::Session;
use crate::model::addr::Seat;
use crate::model::id::PeerId;
use crate::model::time::Now;
use crate::rules::ruleset::{ProfileIx, RewriteTo, RuleFacts, RuleIx, Side};
use crate::wire::frame::{Class, Frame, HEADER};
use crate::wire::packet::{PacketView, clamp_mss, proto, readdress};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How much longer than an announcement's life its port stays open: a client that saw it last moment can still join.
pub(super) const JOIN_GRACE: Duration = Duration::from_secs(60);

/// Whose packet it is, and what matched it.
#[derive(Debug, Clone, Copy)]
pub(super) struct From {
    pub(super) peer: PeerId,
    pub(super) seat: Seat,
    pub(super) rule: RuleIx,
}

impl<S: Session> Node<S> {
    /// A plain IP packet of a peer lies in `room`. Its length after checks and rewrites, if it is to be delivered.
    pub(super) fn inward_packet(
        &mut self,
        at: usize,
        room: &mut [u8],
        len: usize,
        now: Now,
    ) -> Option<usize> {
        let seat = self.peers.list.get(at).and_then(|p| p.seat);
        let Some(Ok(view)) = room.get(..len).map(PacketView::parse) else {
            return self.refuse(DropReason::Malformed);
        };
        let Some(seat) = seat.filter(|seat| self.is_of_seat(view.src, *seat)) else {
            return self.refuse(DropReason::ForgedSource);
        };
        let (v4, v6) = self.addresses();
        if view.dst != IpAddr::V4(v4) && view.dst != IpAddr::V6(v6) {
            return self.refuse(DropReason::NotForUs);
        }
        let rules = std::sync::Arc::clone(&self.lan.rules);
        if !self.lan.firewall.admit(Way::In, &view, seat, &rules, now.mono) {
            return self.refuse(DropReason::PortClosedIn);
        }
        if view.proto == proto::TCP {
            self.counters.add(Count::LanOut);
            let whole = view.bytes.len();
            clamp_mss(room.get_mut(..whole)?, self.mtu_of(at));
            return Some(whole);
        }
        let whole = view.bytes.len();
        let rule = (view.proto == proto::UDP && !view.fragment)
            .then(|| rules.classify(&view, Class::Unicast, Side::FromPeer))
            .flatten();
        let Some((rule, facts)) = rule.and_then(|rule| Some((rule, rules.facts(rule)?))) else {
            self.counters.add(Count::LanOut);
            return Some(whole);
        };
        self.due.forget();
        let from = From { peer: self.peers.list.get(at)?.id, seat, rule };
        let held = Held::Packet { peer: from.peer, seat };
        let decision = match self.judge(rule, facts, &view, held, now) {
            Judged::Held => return None,
            Judged::Now(decision) => decision,
        };
        self.finish_packet(from, facts, room, whole, &decision, now)
    }

    /// A peer's packet for a game is decided. Its length in `room`, if it is to be delivered.
    pub(super) fn finish_packet(
        &mut self,
        from: From,
        facts: &RuleFacts,
        room: &mut [u8],
        len: usize,
        decision: &Decision,
        now: Now,
    ) -> Option<usize> {
        let len = match self.obey(decision, room, len) {
            Ok(len) => len,
            Err(why) => return self.refuse(why),
        };
        let view = PacketView::parse(room.get(..len)?).ok()?;
        self.note_game(from, facts, &view, now);
        let Some(len) = self.rewrite(from.rule, facts, room, len, from.seat) else {
            return self.refuse(DropReason::RewriteFailed);
        };
        self.counters.add(Count::LanOut);
        Some(len)
    }

    fn refuse<T>(&mut self, why: DropReason) -> Option<T> {
        self.dropped(why);
        None
    }

    fn is_of_seat(&self, address: IpAddr, seat: Seat) -> bool {
        match address {
            IpAddr::V4(a) => self.party.subnet.v4(seat) == a,
            IpAddr::V6(a) => self.party.subnet.v6(self.party.id, seat) == a,
        }
    }

    fn rewrite(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        room: &mut [u8],
        len: usize,
        seat: Seat,
    ) -> Option<usize> {
        if !facts.rewrites {
            return Some(len);
        }
        let to = RewriteTo {
            seat,
            v4: self.party.subnet.v4(seat),
            v6: self.party.subnet.v6(self.party.id, seat),
            port: None,
        };
        let rules = std::sync::Arc::clone(&self.lan.rules);
        let len = rules.rewrite(rule, room, len, &to)?;
        self.counters.add(Count::Rewritten);
        Some(len)
    }

    /// A discovery frame of a peer lies in `scratch`.
    pub(super) fn inward_frame(
        &mut self,
        at: usize,
        frame: Frame,
        len: usize,
        now: Now,
        lan: &mut impl LanSink,
    ) {
        if let Err(why) = self.try_inward_frame(at, frame, len, now, lan) {
            self.dropped(why);
        }
    }

    fn try_inward_frame(
        &mut self,
        at: usize,
        frame: Frame,
        len: usize,
        now: Now,
        lan: &mut impl LanSink,
    ) -> Result<(), DropReason> {
        let peer = self.peers.list.get_mut(at).ok_or(DropReason::NoSuchPeer)?;
        let id = peer.id;
        let seat = peer.seat.filter(|s| s.0 == frame.origin).ok_or(DropReason::ForgedSource)?;
        if frame.hops != 0 {
            return Err(DropReason::HopLimit);
        }
        if frame.class == Class::Unicast {
            // Nobody sends these: what is for one peer goes as a packet, past the firewall.
            return Err(DropReason::BadFrame);
        }
        let mut scratch = *self.scratch;
        let packet = scratch.get_mut(HEADER..len).ok_or(DropReason::BadFrame)?;
        let view = PacketView::parse(packet).map_err(|_| DropReason::Malformed)?;
        let rules = std::sync::Arc::clone(&self.lan.rules);
        let rule = rules.classify(&view, frame.class, Side::FromPeer).ok_or(DropReason::NotAGame)?;
        let facts = rules.facts(rule).ok_or(DropReason::NotAGame)?;
        if !peer.inbound.window.accept(frame.run, frame.number) {
            return Err(DropReason::Duplicate);
        }
        let bucket = peer.inbound.buckets.entry(rule).or_insert_with(|| Bucket::new(facts.pace, now.mono));
        if !bucket.take(facts.pace, now.mono) {
            return Err(DropReason::Pace);
        }
        if !self.is_of_seat(view.src, seat) {
            return Err(DropReason::ForgedSource);
        }
        let held = Held::Frame { peer: id, seat, class: frame.class };
        let whole = view.bytes.len();
        let decision = match self.judge(rule, facts, &view, held, now) {
            Judged::Held => return Ok(()),
            Judged::Now(decision) => decision,
        };
        let room = scratch.get_mut(HEADER..).ok_or(DropReason::BadFrame)?;
        let from = From { peer: id, seat, rule };
        self.finish_frame(from, (frame.class, &decision), room, whole, now, lan)
    }

    /// A peer's discovery packet is decided.
    pub(super) fn finish_frame(
        &mut self,
        from: From,
        (class, decision): (Class, &Decision),
        room: &mut [u8],
        len: usize,
        now: Now,
        lan: &mut impl LanSink,
    ) -> Result<(), DropReason> {
        let rules = std::sync::Arc::clone(&self.lan.rules);
        let facts = rules.facts(from.rule).ok_or(DropReason::NotAGame)?;
        let len = self.obey(decision, room, len)?;
        let packet = room.get_mut(..len).ok_or(DropReason::BadFrame)?;
        let view = PacketView::parse(packet).map_err(|_| DropReason::Malformed)?;
        let ports = (view.src_port, view.dst_port);
        let game = self.note_game(from, facts, &view, now);
        let deliver = facts.deliver.unwrap_or(class);
        let len = self.rewrite(from.rule, facts, room, len, from.seat).ok_or(DropReason::RewriteFailed)?;
        let packet = room.get_mut(..len).ok_or(DropReason::BadFrame)?;
        let group = rules.group_of(from.rule).filter(|_| deliver == Class::Multicast);
        let how = self.inject(packet, deliver, group, now, lan)?;
        if let Some(game) = game {
            self.keep_announcement((game, from.rule, facts), (ports, class), (packet, how), now);
        }
        Ok(())
    }

    /// Addresses a discovery packet in this computer's own terms and hands it over.
    pub(super) fn inject(
        &mut self,
        packet: &mut [u8],
        class: Class,
        group: Option<IpAddr>,
        now: Now,
        lan: &mut impl LanSink,
    ) -> Result<Delivery, DropReason> {
        let view = PacketView::parse(packet).map_err(|_| DropReason::Malformed)?;
        let port = view.dst_port;
        let (v4, v6) = self.addresses();
        let group = Some(view.dst)
            .filter(IpAddr::is_multicast)
            .or(group)
            .filter(|g| g.is_ipv4() == view.src.is_ipv4());
        let (to, how) = match (class, view.src, group) {
            (Class::Multicast, _, Some(group)) => (group, Delivery::Group),
            (Class::Directed, IpAddr::V4(_), _) => (IpAddr::V4(self.party.subnet.broadcast()), Delivery::Tun),
            (Class::Limited | Class::Multicast, IpAddr::V4(_), _) => {
                (IpAddr::V4(Ipv4Addr::BROADCAST), Delivery::Tun)
            }
            (Class::Unicast, IpAddr::V4(_), _) => (IpAddr::V4(v4), Delivery::Tun),
            (Class::Directed | Class::Limited | Class::Multicast | Class::Unicast, IpAddr::V6(_), _) => {
                (IpAddr::V6(v6), Delivery::Tun)
            }
        };
        if !readdress(packet, None, Some(SocketAddr::new(to, port)), Some(1)) {
            return Err(DropReason::Malformed);
        }
        let view = PacketView::parse(packet).map_err(|_| DropReason::Malformed)?;
        let room = lan.reserve(view.bytes.len()).and_then(|r| r.get_mut(..view.bytes.len()));
        room.ok_or(DropReason::LanFull)?.copy_from_slice(view.bytes);
        lan.commit(view.bytes.len(), how);
        self.lan.echo.injected(&view, now.mono);
        self.counters.add(Count::DiscoveryInjected);
        Ok(how)
    }

    /// The id of a compiled profile.
    pub(super) fn profile_id(&self, profile: ProfileIx) -> Option<crate::model::id::ProfileId> {
        self.lan.rules.profiles().get(usize::from(profile.0)).cloned()
    }
}
