//! Game to party: classify, guard, pace, fan out; and unicast packets to the one peer they are for.

use super::Node;
use crate::buf::slot::Slot;
use crate::engine::counters::{Count, DropReason};
use crate::engine::lan::firewall::Way;
use crate::engine::lan::games::OwnGame;
use crate::engine::lan::pace::Bucket;
use crate::engine::script::{Decision, Held, Judged};
use crate::engine::sink::{LanSink, WanSink};
use crate::engine::tunnel::peer::Presence;
use crate::engine::tunnel::session::Session;
use crate::model::addr::Seat;
use crate::model::id::CardId;
use crate::model::limits;
use crate::model::script::Verdict;
use crate::model::time::Now;
use crate::rules::ruleset::{ProfileIx, RuleFacts, RuleIx, RuleKind, Side};
use crate::wire::frame::{Class, Frame, FrameKind, HEADER};
use crate::wire::packet::{PacketView, clamp_mss, proto, readdress};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

impl<S: Session> Node<S> {
    /// A packet that this computer routed into the tunnel device.
    pub(super) fn outward_tun(
        &mut self,
        slot: &mut Slot,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        let _ = lan;
        self.counters.add(Count::TunIn);
        let Ok(view) = PacketView::parse(slot.packet()) else { return self.dropped(DropReason::Malformed) };
        let seat = match view.dst {
            IpAddr::V4(a) => self.party.subnet.seat_of(a),
            IpAddr::V6(a) => self.party.subnet.seat_of_v6(self.party.id, a),
        };
        if let Some(seat) = seat {
            return self.outward_unicast(slot, seat, now, wan);
        }
        match self.class_on_tun(view.dst) {
            Some(class) => self.outward_discovery(slot, class, None, now, wan),
            None => self.dropped(DropReason::NoSuchPeer),
        }
    }

    /// A broadcast or multicast that left by a physical card.
    pub(super) fn outward_card(&mut self, card: CardId, slot: &mut Slot, now: Now, wan: &mut impl WanSink) {
        self.counters.add(Count::Captured);
        let Ok(view) = PacketView::parse(slot.packet()) else { return self.dropped(DropReason::Malformed) };
        match self.class_on_card(view.dst, card) {
            Some(class) => self.outward_discovery(slot, class, Some(card), now, wan),
            None => self.dropped(DropReason::NotAGame),
        }
    }

    fn class_on_tun(&self, dst: IpAddr) -> Option<Class> {
        match dst {
            IpAddr::V4(a) if a == self.party.subnet.broadcast() => Some(Class::Directed),
            IpAddr::V4(Ipv4Addr::BROADCAST) => Some(Class::Limited),
            dst if dst.is_multicast() => Some(Class::Multicast),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    fn class_on_card(&self, dst: IpAddr, card: CardId) -> Option<Class> {
        let directed = |a: Ipv4Addr| {
            let card = self.world.cards.iter().find(|c| c.id == card);
            card.is_some_and(|c| c.nets.iter().any(|net| net.broadcast() == Some(a)))
        };
        match dst {
            IpAddr::V4(Ipv4Addr::BROADCAST) => Some(Class::Limited),
            dst if dst.is_multicast() => Some(Class::Multicast),
            IpAddr::V4(a) if directed(a) => Some(Class::Directed),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    fn is_mine(&self, address: IpAddr) -> bool {
        let (v4, v6) = self.addresses();
        address == IpAddr::V4(v4) || address == IpAddr::V6(v6)
    }

    fn is_of_party(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.party.subnet.contains(a),
            IpAddr::V6(a) => self.party.subnet.seat_of_v6(self.party.id, a).is_some(),
        }
    }

    fn outward_unicast(&mut self, slot: &mut Slot, seat: Seat, now: Now, wan: &mut impl WanSink) {
        let Ok(view) = PacketView::parse(slot.packet()) else { return self.dropped(DropReason::Malformed) };
        let Some(at) = self.peer_at(seat) else { return self.dropped(DropReason::NoSuchPeer) };
        if !self.is_mine(view.src) {
            return self.dropped(DropReason::ForgedSource);
        }
        let rules = Arc::clone(&self.lan.rules);
        if !self.lan.firewall.admit(Way::Out, &view, seat, &rules, now.mono) {
            return self.dropped(DropReason::PortClosedOut);
        }
        if view.bytes.len() > usize::from(limits::MTU) {
            return self.dropped(DropReason::TooBig);
        }
        let len = view.bytes.len();
        let mut decision = Decision::FORWARD;
        if view.proto == proto::UDP && !view.fragment {
            if let Some(rule) = rules.classify(&view, Class::Unicast, Side::FromGame)
                && let Some(facts) = rules.facts(rule)
                && let Some(peer) = self.peers.list.get(at).map(|p| p.id)
            {
                self.due.forget();
                match self.judge(rule, facts, &view, Held::Unicast { peer }, now) {
                    Judged::Held => return,
                    Judged::Now(decided) => decision = decided,
                }
                if decision.verdict != Verdict::Drop {
                    self.note_own_unicast(rule, facts, &view, now);
                }
            }
        } else if view.proto == proto::TCP {
            clamp_mss(slot.packet_mut(), self.mtu_of(at));
        }
        slot.set_len(len);
        if decision.is_plain() {
            return self.send_or_wait(at, slot.packet(), now, wan);
        }
        let mut packet = slot.packet().to_vec();
        self.finish_unicast(at, &mut packet, &decision, now, wan);
    }

    /// What the own game says to one peer.
    pub(super) fn note_own_unicast(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        view: &PacketView<'_>,
        now: Now,
    ) {
        match facts.kind {
            RuleKind::Query => self.note_own_query(facts, view, now),
            RuleKind::Announcement | RuleKind::Answer => {
                self.note_own_game(rule, facts, view, now);
            }
            RuleKind::Closing => self.note_own_closing(rule, facts, view, now),
        }
    }

    /// The own game's packet to a peer is decided.
    pub(super) fn finish_unicast(
        &mut self,
        at: usize,
        packet: &mut Vec<u8>,
        decision: &Decision,
        now: Now,
        wan: &mut impl WanSink,
    ) {
        let Some(peer) = self.peers.list.get(at).map(|p| p.id) else { return };
        if !decision.is_for(peer) {
            return self.dropped(DropReason::PluginDrop);
        }
        match self.obey_in(decision, packet) {
            Ok(()) => self.send_or_wait(at, packet, now, wan),
            Err(why) => self.dropped(why),
        }
    }

    pub(super) fn send_or_wait(&mut self, at: usize, packet: &[u8], now: Now, wan: &mut impl WanSink) {
        self.due.touch(at);
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        if peer.session.established() && peer.agent.primary().is_some() {
            self.seal_to(at, None, packet, now, wan);
            return;
        }
        peer.agent.wanted(now.mono);
        if peer.wait(packet) {
            self.dropped(DropReason::NoPath);
        }
    }

    fn outward_discovery(
        &mut self,
        slot: &mut Slot,
        class: Class,
        card: Option<CardId>,
        now: Now,
        wan: &mut impl WanSink,
    ) {
        self.due.forget();
        let Ok(view) = PacketView::parse(slot.packet()) else { return self.dropped(DropReason::Malformed) };
        let rules = Arc::clone(&self.lan.rules);
        let rule = match self.admit_discovery(&view, class, card, &rules, now) {
            Ok(rule) => rule,
            Err(why) => return self.dropped(why),
        };
        let Some(facts) = rules.facts(rule) else { return self.dropped(DropReason::NotAGame) };
        let (v4, v6) = self.addresses();
        let source = if view.src.is_ipv4() { IpAddr::V4(v4) } else { IpAddr::V6(v6) };
        let source = SocketAddr::new(source, view.src_port);
        // The receiver has other networks: what is "directed" here is said in its own terms there.
        let limited = SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), view.dst_port);
        let destination = (class == Class::Directed).then_some(limited);
        let len = view.bytes.len();
        slot.set_len(len);
        if !readdress(slot.packet_mut(), Some(source), destination, Some(1)) {
            return self.dropped(DropReason::Malformed);
        }
        let Ok(view) = PacketView::parse(slot.packet()) else { return self.dropped(DropReason::Malformed) };
        let decision = match self.judge(rule, facts, &view, Held::Discovery { class, card }, now) {
            Judged::Held => return,
            Judged::Now(decision) => decision,
        };
        if !decision.is_plain() {
            let packet = slot.packet().to_vec();
            return self.finish_discovery(rule, (class, card), packet, &decision, now, wan);
        }
        self.me.frames += 1;
        let number = self.me.frames;
        self.note_outward(rule, facts, (class, card, number), &view, now);
        let frame = Frame { class, ..self.own_frame(FrameKind::Lan, number) };
        let Some(header) = slot.prepend(HEADER) else { return self.dropped(DropReason::TooBig) };
        if !frame.write(header, len) {
            return self.dropped(DropReason::TooBig);
        }
        for at in 0..self.peers.list.len() {
            self.fan_out(at, facts.profile, card, slot.packet(), now, wan);
        }
    }

    /// The own game's discovery packet is decided, and not simply to go on. What the game said is what counts for the
    /// firewall, whatever a plugin makes of it for the others: a port that only the plugin named is none of the game's.
    pub(super) fn finish_discovery(
        &mut self,
        rule: RuleIx,
        (class, card): (Class, Option<CardId>),
        mut packet: Vec<u8>,
        decision: &Decision,
        now: Now,
        wan: &mut impl WanSink,
    ) {
        let rules = Arc::clone(&self.lan.rules);
        let Some(facts) = rules.facts(rule) else { return self.dropped(DropReason::NotAGame) };
        self.me.frames += 1;
        let number = self.me.frames;
        let said = (class, card, number);
        // What is not for everybody, or not as the game said it, is not handed to those who come later as it is.
        let plain = decision.is_plain();
        if decision.verdict != Verdict::Drop {
            let Ok(view) = PacketView::parse(&packet) else { return self.dropped(DropReason::Malformed) };
            match facts.kind {
                RuleKind::Announcement if !plain => {
                    self.note_own_game(rule, facts, &view, now);
                }
                RuleKind::Announcement | RuleKind::Answer | RuleKind::Query | RuleKind::Closing => {
                    self.note_outward(rule, facts, said, &view, now);
                }
            }
        }
        if let Err(why) = self.obey_in(decision, &mut packet) {
            return self.dropped(why);
        }
        if let (RuleKind::Announcement, Verdict::Replace(_), None) =
            (facts.kind, &decision.verdict, &decision.to)
        {
            self.remember_changed(rule, facts, said, &packet, now);
        }
        let frame = Frame { class, ..self.own_frame(FrameKind::Lan, number) };
        let mut bytes = vec![0; HEADER + packet.len()];
        let Some((_, body)) = bytes.split_at_mut_checked(HEADER) else { return };
        body.copy_from_slice(&packet);
        if !frame.write(&mut bytes, packet.len()) {
            return self.dropped(DropReason::TooBig);
        }
        for at in 0..self.peers.list.len() {
            if self.peers.list.get(at).is_some_and(|p| decision.is_for(p.id)) {
                self.fan_out(at, facts.profile, card, &bytes, now, wan);
            }
        }
    }

    /// An announcement that a plugin changed is handed on as it was sent; its game is joined where the game itself said.
    fn remember_changed(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        said: (Class, Option<CardId>, u64),
        packet: &[u8],
        now: Now,
    ) {
        let Ok(view) = PacketView::parse(packet) else { return };
        let own = OwnGame::new(said, packet.to_vec(), facts.profile, None);
        self.lan.games.announced(rule, view.src_port, own);
        self.lan.games.own_holds(rule, view.src_port, facts.life, now.mono);
    }

    fn admit_discovery(
        &mut self,
        view: &PacketView<'_>,
        class: Class,
        card: Option<CardId>,
        rules: &crate::rules::ruleset::Ruleset,
        now: Now,
    ) -> Result<RuleIx, DropReason> {
        if view.proto != proto::UDP || view.fragment {
            return Err(DropReason::NotAGame);
        }
        let rule = rules.classify(view, class, Side::FromGame).ok_or(DropReason::NotAGame)?;
        let facts = rules.facts(rule).ok_or(DropReason::NotAGame)?;
        if self.lan.echo.is_echo(view, now.mono) || (self.is_of_party(view.src) && !self.is_mine(view.src)) {
            return Err(DropReason::EchoOfOwn);
        }
        if self.lan.twin.is_twin(view, class, card, now.mono) {
            return Err(DropReason::Twin);
        }
        if view.bytes.len() > usize::from(limits::MTU) {
            return Err(DropReason::TooBig);
        }
        let bucket = self.lan.buckets.entry(rule).or_insert_with(|| Bucket::new(facts.pace, now.mono));
        if bucket.take(facts.pace, now.mono) { Ok(rule) } else { Err(DropReason::Pace) }
    }

    fn note_outward(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        said: (Class, Option<CardId>, u64),
        view: &PacketView<'_>,
        now: Now,
    ) {
        match facts.kind {
            RuleKind::Query => self.note_own_query(facts, view, now),
            RuleKind::Closing => self.note_own_closing(rule, facts, view, now),
            RuleKind::Answer => {
                self.note_own_game(rule, facts, view, now);
            }
            RuleKind::Announcement => self.note_own_announcement(rule, facts, said, view, now),
        }
    }

    /// A question of this computer's game: answers may come, by UDP and as the rule says by new connections.
    fn note_own_query(&mut self, facts: &RuleFacts, view: &PacketView<'_>, now: Now) {
        self.lan.firewall.asked(view.src_port, facts.answers_within, now.mono);
        self.lan.firewall.may_connect_here(&facts.answers_tcp, facts.answers_within, now.mono);
    }

    pub(super) fn fan_out(
        &mut self,
        at: usize,
        profile: ProfileIx,
        card: Option<CardId>,
        frame: &[u8],
        now: Now,
        wan: &mut impl WanSink,
    ) {
        let Some(peer) = self.peers.list.get(at) else { return };
        if peer.presence == Presence::Dormant || !self.plays(at, profile) {
            return;
        }
        if self.hears(at, card) {
            return self.dropped(DropReason::HeardNatively);
        }
        if self.seal_to(at, None, frame, now, wan) {
            self.counters.add(Count::DiscoverySent);
        }
    }

    /// Whether a peer hears by itself what leaves by this card.
    fn hears(&self, at: usize, card: Option<CardId>) -> bool {
        let agent = self.peers.list.get(at).map(|p| &p.agent);
        agent.zip(card).is_some_and(|(agent, card)| agent.is_native(card, self.world.ground()))
    }

    pub(super) fn plays(&self, at: usize, profile: ProfileIx) -> bool {
        let Some(id) = self.lan.rules.profiles().get(usize::from(profile.0)) else { return false };
        let record = self.peers.list.get(at).and_then(|p| self.party.roster.get(p.id));
        record.is_some_and(|m| m.record.games.contains(id))
    }

    /// A peer's path came up: it sees the games that run here at once, not at their next announcement.
    pub(super) fn replay_to(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        peer.outbound.replayed = true;
        peer.outbound.games.renew();
        let own: Vec<OwnGame> = self
            .lan
            .games
            .own(now.mono)
            .filter(|g| self.plays(at, g.profile) && !self.hears(at, g.card))
            .cloned()
            .collect();
        for game in &own {
            // The old number: whoever had this very announcement already will know it.
            let frame = Frame { class: game.class, ..self.own_frame(FrameKind::Lan, game.number) };
            if self.send_frame(at, None, frame, &game.packet, now, wan) {
                self.counters.add(Count::Replayed);
            }
        }
    }
}
