//! Plugins: packets that wait for their answers, what their answers do, and what they are told.

use super::Node;
use super::inward::From;
use crate::engine::counters::{Count, DropReason};
use crate::engine::effect::Effect;
use crate::engine::lan::games::Sighting;
use crate::engine::script::{
    Answered, By, Decision, Held, Judged, LONGEST_OPEN, Member, Out, Parcel, Question, Reading, Refusal,
    Subject, Whose, is_limited, tidy,
};
use crate::engine::sink::{Delivery, LanSink, WanSink};
use crate::engine::tunnel::peer::Presence;
use crate::engine::tunnel::session::Session;
use crate::model::id::{PeerId, PluginId};
use crate::model::limits;
use crate::model::script::{PluginFacts, PluginIx, ScriptGame, ScriptOpen, ScriptReply, ScriptSend, Verdict};
use crate::model::status::Event;
use crate::model::time::Now;
use crate::rules::ports::LOWEST;
use crate::rules::ruleset::{Described, RuleFacts, RuleIx, RuleKind, Ruleset, Side, Transport};
use crate::wire::frame::{Class, Frame, FrameKind};
use crate::wire::packet::{PacketView, resize_udp, write_udp};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Characters of a title, a map or a version that a plugin read.
const TITLE_CHARS: usize = 80;

impl<S: Session> Node<S> {
    pub(super) fn plugins_changed(&mut self, plugins: &[Option<PluginFacts>], now: Now) {
        self.scripts.set_plugins(plugins, &mut self.counters, now.mono);
    }

    pub(super) fn rules_changed(&mut self, rules: &Ruleset, now: Now) {
        let ids: &[PluginId] = rules.plugins();
        for _ in 0..self.scripts.set_rules(ids, now.mono) {
            self.dropped(DropReason::PluginDefault);
        }
    }

    // ---- packets ---------------------------------------------------------------------------------------------

    /// What is to be done with a packet of a game that passed everything else.
    pub(super) fn judge(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        view: &PacketView<'_>,
        held: Held,
        now: Now,
    ) -> Judged {
        let asks = facts.ask.is_some_and(|ask| ask.side.is_none_or(|side| side == held.side()));
        if !asks {
            return Judged::Now(Decision::FORWARD);
        }
        let rules = Arc::clone(&self.lan.rules);
        let Some(game) = rules.profiles().get(usize::from(facts.profile.0)) else {
            return Judged::Now(Decision::FORWARD);
        };
        let question = Question { rule, facts, game, view, held, me: self.addresses().0 };
        self.scripts.judge(question, &mut self.counters, now.mono)
    }

    /// Does to a packet of `len` bytes in `room` what was decided; its new length.
    pub(super) fn obey(
        &mut self,
        decision: &Decision,
        room: &mut [u8],
        len: usize,
    ) -> Result<usize, DropReason> {
        let payload = match (&decision.verdict, decision.by) {
            (Verdict::Forward, _) => return Ok(len),
            (Verdict::Drop, By::Plugin) => return Err(DropReason::PluginDrop),
            (Verdict::Drop, By::Default) => return Err(DropReason::PluginDefault),
            (Verdict::Replace(payload), _) => payload,
        };
        let view = room.get(..len).and_then(|packet| PacketView::parse(packet).ok());
        let start = view.ok_or(DropReason::Malformed)?.payload_offset();
        let end = start + payload.len();
        if end > usize::from(limits::MTU) {
            return Err(DropReason::TooBig);
        }
        room.get_mut(start..end).ok_or(DropReason::TooBig)?.copy_from_slice(payload);
        let packet = room.get_mut(..end).ok_or(DropReason::TooBig)?;
        if !resize_udp(packet) {
            return Err(DropReason::Malformed);
        }
        self.counters.add(Count::PluginReplaced);
        Ok(end)
    }

    /// The same for a packet that may grow.
    pub(super) fn obey_in(&mut self, decision: &Decision, packet: &mut Vec<u8>) -> Result<(), DropReason> {
        let len = packet.len();
        if let Verdict::Replace(payload) = &decision.verdict {
            packet.resize(len + payload.len(), 0);
        }
        let len = self.obey(decision, packet, len)?;
        packet.truncate(len);
        Ok(())
    }

    /// Sends on its way whatever is decided.
    pub(super) fn release(&mut self, now: Now, wan: &mut impl WanSink, lan: &mut impl LanSink) {
        while let Some((parcel, decision)) = self.scripts.poll_release() {
            self.due.forget();
            if let Err(why) = self.release_one(parcel, &decision, now, wan, lan) {
                self.dropped(why);
            }
        }
    }

    fn release_one(
        &mut self,
        parcel: Parcel,
        decision: &Decision,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) -> Result<(), DropReason> {
        let Parcel { held, rule, mut packet } = parcel;
        let rules = Arc::clone(&self.lan.rules);
        let facts = rules.facts(rule).ok_or(DropReason::NotAGame)?;
        let len = packet.len();
        match held {
            Held::Frame { peer, seat, class } => {
                let from = self.still_from(peer, seat, rule)?;
                packet.resize(limits::SLOT_BYTES, 0);
                self.finish_frame(from, (class, decision), &mut packet, len, now, lan)
            }
            Held::Packet { peer, seat } => {
                let from = self.still_from(peer, seat, rule)?;
                packet.resize(limits::SLOT_BYTES, 0);
                let Some(len) = self.finish_packet(from, facts, &mut packet, len, decision, now) else {
                    return Ok(());
                };
                let packet = packet.get(..len).ok_or(DropReason::Malformed)?;
                let room = lan.reserve(len).and_then(|room| room.get_mut(..len));
                room.ok_or(DropReason::LanFull)?.copy_from_slice(packet);
                lan.commit(len, Delivery::Tun);
                Ok(())
            }
            Held::Discovery { class, card } => {
                self.finish_discovery(rule, (class, card), packet, decision, now, wan);
                Ok(())
            }
            Held::Unicast { peer } => {
                let at = self.peers.at(peer).ok_or(DropReason::NoSuchPeer)?;
                if decision.verdict != Verdict::Drop
                    && let Ok(view) = PacketView::parse(&packet)
                {
                    self.note_own_unicast(rule, facts, &view, now);
                }
                self.finish_unicast(at, &mut packet, decision, now, wan);
                Ok(())
            }
        }
    }

    /// The sender of a packet that waited, if it still is who it was.
    fn still_from(
        &self,
        peer: PeerId,
        seat: crate::model::addr::Seat,
        rule: RuleIx,
    ) -> Result<From, DropReason> {
        let peer_now = self.peers.get(peer).ok_or(DropReason::NoSuchPeer)?;
        if peer_now.seat == Some(seat) {
            Ok(From { peer, seat, rule })
        } else {
            Err(DropReason::ForgedSource)
        }
    }

    // ---- answers ---------------------------------------------------------------------------------------------

    pub(super) fn replied(
        &mut self,
        reply: ScriptReply,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        if self.todo.stopped {
            return;
        }
        let answered = self.scripts.handle_reply(reply, &mut self.counters, now.mono);
        if let Some(Answered { plugin, subject, opens, sends }) = answered {
            for open in &opens {
                self.open_port(plugin, open, now);
            }
            if let Subject::Reading(reading, game) = subject {
                self.was_read(plugin, *reading, game, now);
            }
            // The packet itself first: what the plugin sends is an answer to it.
            self.release(now, wan, lan);
            for send in &sends {
                self.send_of_plugin(plugin, send, now, wan, lan);
            }
        }
        self.release(now, wan, lan);
    }

    /// Deadlines of questions.
    pub(super) fn run_scripts(&mut self, now: Now, wan: &mut impl WanSink, lan: &mut impl LanSink) {
        if self.todo.stopped {
            return;
        }
        for reading in self.scripts.handle_timeout(&mut self.counters, now.mono) {
            self.listed_as_profile_says(&reading, now);
        }
        self.release(now, wan, lan);
    }

    fn open_port(&mut self, plugin: PluginIx, open: &ScriptOpen, now: Now) {
        let transport = if open.tcp { Transport::Tcp } else { Transport::Udp };
        let life = open.life.min(LONGEST_OPEN);
        match open.peer {
            None => self.lan.firewall.announced_here(transport, open.port, life, now.mono),
            Some(peer) => {
                let seat = self.peers.get(peer).and_then(|p| p.seat);
                let Some(seat) = seat else {
                    return self.scripts.refuse(plugin, Refusal::Never, &mut self.counters);
                };
                self.lan.firewall.announced_there(seat, transport, open.port, life, now.mono);
            }
        }
        self.counters.add(Count::PluginOpens);
    }

    fn send_of_plugin(
        &mut self,
        plugin: PluginIx,
        send: &ScriptSend,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        let awaited = self.lan.firewall.is_awaited(send.to_port, now.mono);
        if !self.scripts.admit_send(plugin, send, awaited, &mut self.counters, now.mono) {
            return;
        }
        let sent = match send.as_peer {
            Some(peer) => self.send_to_game(peer, send, now, lan),
            None => self.send_to_party(plugin, send, now, wan),
        };
        match sent {
            Ok(()) => self.counters.add(Count::PluginSends),
            Err(why) => self.dropped(why),
        }
    }

    /// To the game on this computer, as if that peer had sent it. Injected like everything else, so that its echo is known.
    fn send_to_game(
        &mut self,
        peer: PeerId,
        send: &ScriptSend,
        now: Now,
        lan: &mut impl LanSink,
    ) -> Result<(), DropReason> {
        let peer = self.peers.list.iter().find(|p| p.id == peer && p.is_shown());
        let seat = peer.and_then(|p| p.seat).ok_or(DropReason::NoSuchPeer)?;
        let v6 = send.group.is_some_and(|group| group.is_ipv6());
        let (own4, own6) = self.addresses();
        let (source, own) = if v6 {
            (IpAddr::V6(self.party.subnet.v6(self.party.id, seat)), IpAddr::V6(own6))
        } else {
            (IpAddr::V4(self.party.subnet.v4(seat)), IpAddr::V4(own4))
        };
        let (class, to) = match send.group {
            None => (Class::Unicast, own),
            Some(group) if group.is_multicast() => (Class::Multicast, group),
            Some(group) => (Class::Limited, group),
        };
        let (from, to) = (SocketAddr::new(source, send.from_port), SocketAddr::new(to, send.to_port));
        let mut packet = [0; limits::SLOT_BYTES];
        let len = write_udp(&mut packet, from, to, 1, &send.payload).ok_or(DropReason::TooBig)?;
        let packet = packet.get_mut(..len).ok_or(DropReason::TooBig)?;
        self.inject(packet, class, None, now, lan).map(|_| ())
    }

    /// To the party, as if our game had sent it: only what a rule of this plugin's games would let our game send.
    fn send_to_party(
        &mut self,
        plugin: PluginIx,
        send: &ScriptSend,
        now: Now,
        wan: &mut impl WanSink,
    ) -> Result<(), DropReason> {
        let (own4, own6) = self.addresses();
        let limited = is_limited(send.group);
        let group = send.group.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::BROADCAST));
        let own = if group.is_ipv4() { IpAddr::V4(own4) } else { IpAddr::V6(own6) };
        let (from, to) = (SocketAddr::new(own, send.from_port), SocketAddr::new(group, send.to_port));
        let mut room = [0; limits::SLOT_BYTES];
        let len = write_udp(&mut room, from, to, 1, &send.payload).ok_or(DropReason::TooBig)?;
        let packet = room.get_mut(..len).ok_or(DropReason::TooBig)?;
        let rules = Arc::clone(&self.lan.rules);
        let found = {
            let view = PacketView::parse(packet).map_err(|_| DropReason::Malformed)?;
            let classes: &[Class] = if limited {
                &[Class::Limited, Class::Directed, Class::Unicast]
            } else {
                &[Class::Multicast]
            };
            let rule = |class: &Class| {
                let rule = rules.classify(&view, *class, Side::FromGame)?;
                Some((rules.facts(rule).filter(|facts| facts.plugin == Some(plugin))?, *class))
            };
            classes.iter().find_map(rule).ok_or(DropReason::NotAGame)?
        };
        let (facts, class) = found;
        if facts.kind == RuleKind::Query && self.scripts.may_use(plugin, send.from_port) {
            self.lan.firewall.asked(send.from_port, facts.answers_within, now.mono);
        }
        let named = |id: PeerId| send.to.as_ref().is_none_or(|to| to.contains(&id));
        if class == Class::Unicast {
            return self.send_to_each(packet, send, now, wan);
        }
        self.me.frames += 1;
        let frame = Frame { class, ..self.own_frame(FrameKind::Lan, self.me.frames) };
        for at in 0..self.peers.list.len() {
            let Some(peer) = self.peers.list.get(at) else { continue };
            if peer.presence != Presence::Dormant && named(peer.id) && self.plays(at, facts.profile) {
                self.send_frame(at, None, frame, packet, now, wan);
            }
        }
        Ok(())
    }

    /// To named peers, each by itself: what a game says to one. Their firewalls let it in if their games asked.
    fn send_to_each(
        &mut self,
        packet: &mut [u8],
        send: &ScriptSend,
        now: Now,
        wan: &mut impl WanSink,
    ) -> Result<(), DropReason> {
        for id in send.to.as_ref().ok_or(DropReason::NotAGame)?.iter().take(limits::PEERS) {
            let at = self.peers.list.iter().position(|p| p.id == *id && p.is_shown());
            let Some((at, seat)) = at.and_then(|at| Some((at, self.peers.list.get(at)?.seat?))) else {
                continue;
            };
            let to = SocketAddr::new(IpAddr::V4(self.party.subnet.v4(seat)), send.to_port);
            if crate::wire::packet::readdress(packet, None, Some(to), Some(64)) {
                self.send_or_wait(at, packet, now, wan);
            }
        }
        Ok(())
    }

    // ---- the list --------------------------------------------------------------------------------------------

    /// A peer's packet in new words: true when its plugin reads it.
    pub(super) fn read_game(
        &mut self,
        from: From,
        facts: &RuleFacts,
        view: &PacketView<'_>,
        (sighting, words): (Sighting, u64),
        profile: &Option<Described>,
        now: Now,
    ) -> bool {
        let From { peer, seat, rule, .. } = from;
        let held = Held::Packet { peer, seat };
        let whose = Whose::Peer { sighting, words };
        let reading = Reading { whose, rule, profile: profile.clone() };
        self.read(facts, view, held, reading, now)
    }

    /// A packet of the own game: its port may be one that only a plugin can read. True when the list follows the plugin.
    pub(super) fn read_own(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        view: &PacketView<'_>,
        profile: &Option<Described>,
        now: Now,
    ) -> bool {
        match self.scripts.own_words(rule, view) {
            Some(Some(at)) => {
                self.own_game_lives(facts, at, None, now);
                true
            }
            Some(None) => false,
            None => {
                let whose = Whose::Own(rule, view.src_port);
                let held = Held::Discovery { class: Class::Limited, card: None };
                let reading = Reading { whose, rule, profile: profile.clone() };
                let asked = self.read(facts, view, held, reading, now);
                if !asked {
                    self.scripts.note_own(rule, view.src_port, None);
                }
                asked
            }
        }
    }

    fn read(
        &mut self,
        facts: &RuleFacts,
        view: &PacketView<'_>,
        held: Held,
        reading: Reading,
        now: Now,
    ) -> bool {
        let rules = Arc::clone(&self.lan.rules);
        let Some(game) = rules.profiles().get(usize::from(facts.profile.0)) else { return false };
        let question = Question { rule: reading.rule, facts, game, view, held, me: self.addresses().0 };
        self.scripts.read(question, reading, &mut self.counters, now.mono)
    }

    /// A plugin read a packet: `None` is that it could not.
    fn was_read(&mut self, plugin: PluginIx, reading: Reading, game: Option<Option<ScriptGame>>, now: Now) {
        let rules = Arc::clone(&self.lan.rules);
        let Some(facts) = rules.facts(reading.rule) else { return };
        let Some(game) = game else { return self.listed_as_profile_says(&reading, now) };
        let told = game.as_ref().and_then(|game| self.described(plugin, &reading, game));
        let over = game.is_some_and(|game| game.over);
        match reading.whose {
            Whose::Own(rule, from_port) => {
                let profile = reading.profile.as_ref().map(|game| (game.transport, game.port));
                let game = told.or(reading.profile);
                let port = game.as_ref().map(|game| (game.transport, game.port)).filter(|_| !over);
                if let Some(game) = game {
                    self.own_game_read(facts, game, profile, over, now);
                }
                self.scripts.note_own(rule, from_port, Some(port));
            }
            Whose::Peer { sighting, words } => {
                let Some(game) = told.or(reading.profile) else {
                    self.lan.repeats.settle(sighting, None);
                    return self.scripts.note_silent(sighting, words);
                };
                let (peer, ..) = sighting;
                self.lan.repeats.settle(sighting, Some((game.transport, game.port)));
                if over {
                    self.game_closed(peer, facts.profile, Some((game.transport, game.port)));
                    return self.scripts.note_silent(sighting, words);
                }
                if let Some(key) = self.list_game(peer, facts, game, now) {
                    self.lan.games.sighted(sighting, words, key);
                }
            }
        }
    }

    /// The plugin's words as the list knows them. Ports must be the plugin's own, or what the profile reads too.
    fn described(&mut self, plugin: PluginIx, reading: &Reading, game: &ScriptGame) -> Option<Described> {
        let rules = Arc::clone(&self.lan.rules);
        let profile = reading.profile.as_ref();
        let transport = match game.tcp {
            Some(true) => Transport::Tcp,
            Some(false) => Transport::Udp,
            None => profile.map(|game| game.transport).or_else(|| rules.joined_by(reading.rule))?,
        };
        let port = game.port.or_else(|| profile.map(|game| game.port))?;
        let known = profile.is_some_and(|game| (game.transport, game.port) == (transport, port));
        let may = self.scripts.may_name(plugin, transport, port) && port >= LOWEST;
        if !known && !may {
            use crate::engine::script::Right;
            let right = if transport == Transport::Tcp { Right::Tcp } else { Right::Udp };
            self.scripts.refuse(plugin, Refusal::Lacks(right), &mut self.counters);
            return None;
        }
        let text = |own: &str, of_profile: fn(&Described) -> &String| {
            let own = tidy(own, TITLE_CHARS);
            if own.is_empty() { profile.map(of_profile).cloned().unwrap_or_default() } else { own }
        };
        Some(Described {
            title: text(&game.title, |game| &game.title),
            map: text(&game.map, |game| &game.map),
            version: text(&game.version, |game| &game.version),
            players: game.players.or_else(|| profile?.players),
            most_players: game.most_players.or_else(|| profile?.most_players),
            transport,
            port,
        })
    }

    /// The plugin had nothing to say in time: the list shows what the profile reads, and it is asked again next time.
    fn listed_as_profile_says(&mut self, reading: &Reading, now: Now) {
        let rules = Arc::clone(&self.lan.rules);
        let Some(facts) = rules.facts(reading.rule) else { return };
        match (reading.whose, &reading.profile) {
            (Whose::Own(rule, from_port), profile) => {
                if let Some(game) = profile {
                    let at = Some((game.transport, game.port));
                    self.own_game_read(facts, game.clone(), at, false, now);
                }
                self.scripts.note_own(rule, from_port, None);
            }
            (Whose::Peer { sighting, .. }, Some(game)) => {
                self.lan.repeats.settle(sighting, Some((game.transport, game.port)));
                self.list_game(sighting.0, facts, game.clone(), now);
            }
            (Whose::Peer { .. }, None) => {}
        }
    }

    // ---- what they are told ----------------------------------------------------------------------------------

    /// Tells plugins who came and who left, then hands out what they are asked.
    pub(super) fn tell_plugins(&mut self, now: Now) {
        if self.scripts.wants_members(now.mono) {
            let here = self.peers.list.iter().filter(|p| p.presence >= Presence::Here);
            let member = |p: &crate::engine::tunnel::peer::Peer<S>| {
                let member = Member { name: self.name_of(p.id), address: self.party.subnet.v4(p.seat?) };
                Some((p.id, member))
            };
            let members = here.filter_map(member).collect();
            self.scripts.tell_members(&members, &mut self.counters, now.mono);
        }
        while let Some(out) = self.scripts.poll() {
            match out {
                Out::Ask(call) => self.effects.push_back(Effect::Ask(call)),
                Out::Tell(trouble) => self.event(Event::Warning(trouble)),
            }
        }
    }

    /// How much later than its rule allows the packet is that waits longest; for the simulator's oracle.
    #[must_use]
    pub fn overdue_question(&self, now: Now) -> Option<std::time::Duration> {
        self.scripts.overdue(now.mono)
    }
}
