//! The party's list of games: what peers' packets and computers say of their games, and what is said of our own.
//!
//! A game comes into the list by an announcement or answer that passes through (`note_game`), or because the peer's node
//! names it (`games_told`): most games are silent until somebody asks. It leaves when it says so, when its node does not name
//! it any more, when it falls silent, and with its player. Nobody can speak for another's games: everything is kept under the
//! peer whose session brought it.

use super::Node;
use super::inward::{From, JOIN_GRACE};
use super::report::{milliseconds, seconds};
use crate::engine::counters::{Count, DropReason};
use crate::engine::lan::games::{GAMES_OF_ONE, HeardGame, HeardKey, News, OwnGame};
use crate::engine::lan::info::GameInfo;
use crate::engine::lan::listing::{OwnKey, Pulse};
use crate::engine::lan::pace::Bucket;
use crate::engine::lan::repeat::{Beat, RepeatKey, Subject};
use crate::engine::sink::{Delivery, LanSink, WanSink};
use crate::engine::tunnel::peer::Presence;
use crate::engine::tunnel::session::Session;
use crate::model::addr::Seat;
use crate::model::id::{CardId, PeerId, ProfileId};
use crate::model::limits::SLOT_BYTES;
use crate::model::status::{Event, GameStatus, JoinedBy, PathKind};
use crate::model::time::{Deadline, Mono, Now};
use crate::rules::ports::LOWEST;
use crate::rules::ruleset::{Described, Pace, ProfileIx, RuleFacts, RuleIx, RuleKind, Ruleset, Transport};
use crate::wire::control::{GameList, GameOffer, PeerMessage};
use crate::wire::frame::Class;
use crate::wire::packet::PacketView;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one list: what `parts` can carry, and some to spare.
const LIST_BYTES: usize = 12_000;
/// Games do not announce themselves oftener than this, whatever a profile says.
const LEAST_RHYTHM: Duration = Duration::from_millis(200);
/// New games of one peer.
const NEW_GAMES: Pace = Pace { per_second: 2, burst: 40 };
/// Why a game left the list at once.
const CLOSED: &str = "the game was closed";

impl<S: Session> Node<S> {
    // ---- games of peers --------------------------------------------------------------------------------------

    /// A discovery packet of a peer: remember its game and let this computer join it. What it announces, if it announces.
    pub(super) fn note_game(
        &mut self,
        from: From,
        facts: &RuleFacts,
        view: &PacketView<'_>,
        now: Now,
    ) -> Option<Subject> {
        let From { peer, seat, rule } = from;
        let rules = Arc::clone(&self.lan.rules);
        match facts.kind {
            RuleKind::Query => {
                let life = facts.answers_within;
                self.lan.firewall.was_asked(seat, view.src_port, life, now.mono);
                self.lan.firewall.may_connect_there(seat, &facts.answers_tcp, life, now.mono);
                return None;
            }
            RuleKind::Closing => {
                let at = rules.describe(rule, view).map(|game| (game.transport, game.port));
                self.game_closed(peer, facts.profile, at);
                return None;
            }
            RuleKind::Announcement | RuleKind::Answer => {}
        }
        if facts.opens
            && let Some((transport, port)) = rules.opens(rule, view)
        {
            self.lan.firewall.announced_there(seat, transport, port, JOIN_GRACE, now.mono);
        }
        if !facts.lists {
            self.lan.games.profile_lives(peer, facts.profile, facts.life, now.mono);
            return Some((peer, facts.profile, None));
        }
        let (sighting, words) = ((peer, rule, view.src_port), self.lan.hash.bytes(view.payload()).finish());
        let again = self.lan.games.heard_again(sighting, words, facts.life, now.mono);
        let key = if let Some((key, news)) = again {
            self.may_join(seat, key, facts.life, now);
            self.say_found(key, news, now.mono);
            key
        } else {
            let game = rules.describe(rule, view);
            if let Some(Described { transport, port, .. }) = game {
                self.may_join(seat, (peer, facts.profile, transport, port), facts.life, now);
            }
            if self.scripts.reads(facts) && self.read_game(from, facts, view, (sighting, words), &game, now) {
                // The list waits for what the plugin reads in it, and new words must not wait for old ones that are said again.
                return self.any_game_of(peer, facts.profile);
            }
            let key = self.list_game(peer, facts, game?, now)?;
            self.lan.games.sighted(sighting, words, key);
            key
        };
        self.lan.games.get(&key).map(|_| (peer, facts.profile, Some((key.2, key.3))))
    }

    /// What speaks for a game of this profile, whichever it is; nothing speaks for none.
    fn any_game_of(&mut self, peer: PeerId, profile: ProfileIx) -> Option<Subject> {
        if self.lan.games.of(peer).any(|(key, _)| key.1 == profile) {
            return Some((peer, profile, None));
        }
        self.lan.repeats.forget(|kept| (kept.0, kept.1) == (peer, profile));
        None
    }

    /// A peer's game is in the list from now on, or still, and can be joined.
    pub(super) fn list_game(
        &mut self,
        peer: PeerId,
        facts: &RuleFacts,
        game: Described,
        now: Now,
    ) -> Option<HeardKey> {
        let at = self.peers.at(peer)?;
        let seat = self.peers.list.get(at)?.seat?;
        let key = (peer, facts.profile, game.transport, game.port);
        if !self.has_room(at, &key, now) {
            return None;
        }
        let news = self.lan.games.heard(key, info_of(game), facts.life, now.mono);
        self.may_join(seat, key, facts.life, now);
        self.say_found(key, news, now.mono);
        Some(key)
    }

    /// A peer's game says that it is over: the one at this port, or all of its profile.
    pub(super) fn game_closed(&mut self, peer: PeerId, profile: ProfileIx, at: Option<(Transport, u16)>) {
        let closed = self.lan.games.closed(peer, profile, at);
        self.lan.repeats.forget(|kept| {
            (kept.0, kept.1) == (peer, profile) && (at.is_none() || kept.2.is_none() || kept.2 == at)
        });
        self.say_all_lost(closed, CLOSED);
    }

    /// A peer whose games come and go faster than anybody opens them is not listened to.
    fn has_room(&mut self, at: usize, key: &HeardKey, now: Now) -> bool {
        if self.lan.games.get(key).is_some() {
            return true;
        }
        let bucket = self.peers.list.get_mut(at).map(|p| &mut p.inbound.new_games);
        let taken = bucket.is_some_and(|b| {
            b.get_or_insert_with(|| Bucket::new(NEW_GAMES, now.mono)).take(NEW_GAMES, now.mono)
        });
        if !taken {
            self.dropped(DropReason::Pace);
        }
        taken
    }

    fn may_join(&mut self, seat: Seat, (_, _, transport, port): HeardKey, life: Duration, now: Now) {
        self.lan.firewall.announced_there(seat, transport, port, life + JOIN_GRACE, now.mono);
    }

    /// A peer's node names its games.
    pub(super) fn games_told(&mut self, at: usize, list: GameList, now: Now) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        // Who has no address yet is asked to say it again by not being answered.
        let (id, Some(seat)) = (peer.id, peer.seat) else { return };
        peer.outbound.games.owes = Some(list.number);
        if peer.inbound.games.is_some_and(|(run, number)| run == list.run && number >= list.number) {
            return;
        }
        peer.inbound.games = Some((list.run, list.number));
        let rules = Arc::clone(&self.lan.rules);
        let mut named = BTreeSet::new();
        for offer in list.games.into_iter().take(GAMES_OF_ONE) {
            let Some((profile, life)) = listed_profile(&rules, &offer.game) else { continue };
            if offer.port < LOWEST {
                self.dropped(DropReason::BadRecord);
                continue;
            }
            let transport = if offer.tcp { Transport::Tcp } else { Transport::Udp };
            let key = (id, profile, transport, offer.port);
            named.insert(key);
            if !self.has_room(at, &key, now) {
                continue;
            }
            self.may_join(seat, key, life, now);
            let news = self.lan.games.listed(key, GameInfo::offered(offer), life, now.mono);
            self.say_found(key, news, now.mono);
        }
        let closed = self.lan.games.unlisted(id, &named);
        self.say_all_lost(closed, CLOSED);
    }

    fn say_found(&mut self, key: HeardKey, news: News, now: Mono) {
        if news == News::Old {
            return;
        }
        let Some(GameStatus {
            game,
            peer,
            title,
            address,
            by,
            local,
            shared,
            map,
            version,
            players,
            max_players,
            rtt_ms,
            ..
        }) = self.lan.games.get(&key).and_then(|known| self.game_status(&key, known, now))
        else {
            return;
        };
        let changed = news == News::Changed;
        self.event(Event::GameFound {
            game,
            peer,
            title,
            address,
            by,
            local,
            shared,
            map,
            version,
            players,
            max_players,
            rtt_ms,
            changed,
        });
    }

    /// All games of a peer leave the list with it.
    pub(super) fn games_of_gone(&mut self, at: usize, why: &str) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        // When it is back, its list is read again.
        peer.inbound.games = None;
        let id = peer.id;
        let gone = self.lan.games.of_gone(id);
        self.say_all_lost(gone, why);
    }

    fn say_all_lost(&mut self, lost: Vec<(HeardKey, HeardGame)>, why: &str) {
        for (key, game) in lost {
            let (peer, profile, transport, port) = key;
            // What speaks for all games of the profile is silent with the last of them.
            let last = self.lan.games.of(peer).all(|(other, _)| other.1 != profile);
            self.lan.repeats.forget(|kept| {
                (kept.0, kept.1) == (peer, profile) && kept.2.map_or(last, |at| at == (transport, port))
            });
            if let Some(id) = self.profile_id(profile) {
                let title = game.info.title;
                self.event(Event::GameLost { game: id, peer, title, why: why.to_owned() });
            }
        }
    }

    /// The list as people see it.
    pub(super) fn game_statuses(&self, now: Mono) -> Vec<GameStatus> {
        self.lan.games.all_heard().filter_map(|(key, game)| self.game_status(key, game, now)).collect()
    }

    fn game_status(&self, key: &HeardKey, game: &HeardGame, now: Mono) -> Option<GameStatus> {
        let (peer, profile, transport, port) = *key;
        let seat = self.party.roster.get(peer)?.record.seat;
        let info = &game.info;
        Some(GameStatus {
            game: self.profile_id(profile)?,
            peer,
            title: info.title.clone(),
            address: SocketAddr::new(IpAddr::V4(self.party.subnet.v4(seat)), port),
            by: match transport {
                Transport::Tcp => JoinedBy::Tcp,
                Transport::Udp => JoinedBy::Udp,
            },
            // The host knows these.
            local: None,
            shared: Vec::new(),
            map: info.map.clone(),
            version: info.version.clone(),
            players: info.players,
            max_players: info.most_players,
            rtt_ms: self.round_trip_to(peer),
            since: seconds(now.since(game.since)),
        })
    }

    fn round_trip_to(&self, peer: PeerId) -> Option<f64> {
        let peer = self.peers.get(peer)?;
        peer.agent.report().map(|report| milliseconds(report.rtt))
    }

    // ---- games here ------------------------------------------------------------------------------------------

    /// A game on this computer answered or announced: let the party in, and tell it.
    pub(super) fn note_own_game(&mut self, rule: RuleIx, facts: &RuleFacts, view: &PacketView<'_>, now: Now) {
        let rules = Arc::clone(&self.lan.rules);
        self.open_own(rule, facts, view, now);
        let game = rules.describe(rule, view);
        if let (Some(game), false) = (&game, self.plugin_reads_own(rule, facts, view, &game, now)) {
            let at = (game.transport, game.port);
            self.own_game_lives(facts, at, Some(info_of(game.clone())), now);
        }
    }

    /// Whether the list follows what a plugin reads in this packet. What the game itself names is open all the same.
    fn plugin_reads_own(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        view: &PacketView<'_>,
        game: &Option<Described>,
        now: Now,
    ) -> bool {
        if !self.scripts.reads(facts) {
            return false;
        }
        if let Some(Described { transport, port, .. }) = *game {
            self.may_join_here((transport, port), facts.life, now);
        }
        self.read_own(rule, facts, view, game, now)
    }

    /// The party may join there for so long, and a little longer.
    fn may_join_here(&mut self, (transport, port): (Transport, u16), life: Duration, now: Now) {
        self.lan.firewall.announced_here(transport, port, life + JOIN_GRACE, now.mono);
    }

    /// It says that it is over.
    pub(super) fn note_own_closing(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        view: &PacketView<'_>,
        now: Now,
    ) {
        let at = self.lan.rules.describe(rule, view).map(|game| (game.transport, game.port));
        self.own_game_closed(facts, at, now);
    }

    fn own_game_closed(&mut self, facts: &RuleFacts, at: Option<(Transport, u16)>, now: Now) {
        self.lan.games.own_closed(facts.profile, at);
        self.lan.listing.closes(facts.profile, at, now.mono);
    }

    /// Its plugin read what it says of itself; `profile` is where the profile takes it to be.
    pub(super) fn own_game_read(
        &mut self,
        facts: &RuleFacts,
        game: Described,
        profile: Option<(Transport, u16)>,
        over: bool,
        now: Now,
    ) {
        let at = (game.transport, game.port);
        if over {
            self.own_game_closed(facts, Some(at), now);
            return;
        }
        if let Some(other) = profile.filter(|other| *other != at) {
            // One game in one place: the plugin knows better.
            self.lan.listing.closes(facts.profile, Some(other), now.mono);
        }
        self.own_game_lives(facts, at, Some(info_of(game)), now);
    }

    /// Some packets name a port for something else than joining.
    fn open_own(&mut self, rule: RuleIx, facts: &RuleFacts, view: &PacketView<'_>, now: Now) {
        if facts.opens
            && let Some((transport, port)) = self.lan.rules.opens(rule, view)
        {
            self.may_join_here((transport, port), Duration::ZERO, now);
        }
    }

    /// How long this sign of life holds.
    pub(super) fn own_game_lives(
        &mut self,
        facts: &RuleFacts,
        (transport, port): (Transport, u16),
        info: Option<GameInfo>,
        now: Now,
    ) -> Duration {
        self.may_join_here((transport, port), facts.life, now);
        self.lan.listing.lives((facts.profile, transport, port), info, pulse_of(facts), now.mono)
    }

    /// The same words need no second reading: most announcements repeat the last one.
    pub(super) fn note_own_announcement(
        &mut self,
        rule: RuleIx,
        facts: &RuleFacts,
        (class, card, number): (Class, Option<CardId>, u64),
        view: &PacketView<'_>,
        now: Now,
    ) {
        self.open_own(rule, facts, view, now);
        let this = (view.src_port, view.bytes, card, number);
        let again = self.lan.games.announced_again(rule, this, now.mono).map(|known| known.joined_at);
        let (at, info) = match again {
            Some(joined_at) => {
                if let Some((transport, port)) = joined_at {
                    self.may_join_here((transport, port), facts.life, now);
                }
                (self.scripts.own_port(rule, view.src_port).or(joined_at), None)
            }
            None => {
                let rules = Arc::clone(&self.lan.rules);
                let game = rules.describe(rule, view);
                let read = self.plugin_reads_own(rule, facts, view, &game, now);
                let joined_at = game.as_ref().map(|game| (game.transport, game.port));
                let own = OwnGame::new((class, card, number), view.bytes.to_vec(), facts.profile, joined_at);
                self.lan.games.announced(rule, view.src_port, own);
                (joined_at.filter(|_| !read), game.map(info_of))
            }
        };
        if !facts.lists {
            self.lan.listing.profile_lives(facts.profile, pulse_of(facts), now.mono);
        }
        let holds = at.map_or(facts.life, |at| self.own_game_lives(facts, at, info, now));
        self.lan.games.own_holds(rule, view.src_port, holds, now.mono);
    }

    /// What a peer is told: the games whose profiles it plays too.
    fn offers_for(&self, at: usize) -> Vec<GameOffer> {
        let mut bytes = 0;
        let games = self.lan.listing.games().filter(|((profile, ..), _)| self.plays(at, *profile));
        let offers = games.filter_map(|(key, mine)| self.offer(*key, &mine.info));
        let fits = |offer: &GameOffer| {
            bytes += postcard::to_allocvec(offer).map_or(LIST_BYTES, |b| b.len());
            bytes <= LIST_BYTES
        };
        offers.take_while(fits).collect()
    }

    fn offer(&self, (profile, transport, port): OwnKey, info: &GameInfo) -> Option<GameOffer> {
        let GameInfo { title, map, version, players, most_players } = info.clone();
        Some(GameOffer {
            game: self.profile_id(profile)?,
            tcp: transport == Transport::Tcp,
            port,
            title,
            map,
            version,
            players,
            most_players,
        })
    }

    // ---- when time passes ------------------------------------------------------------------------------------

    /// Who fell silent leaves the list; what is to be told is told, and what is late is said again.
    pub(super) fn run_games(&mut self, now: Now, wan: &mut impl WanSink, lan: &mut impl LanSink) {
        let silent = self.lan.games.expired(now.mono);
        self.say_all_lost(silent, "no sign of life from it any more");
        self.lan.listing.turn(now.mono);
        for at in 0..self.peers.list.len() {
            self.tell_games(at, now, wan);
        }
        self.repeat_late(now, lan);
    }

    fn can_be_told(&self, at: usize) -> bool {
        let peer = self.peers.list.get(at);
        peer.is_some_and(|p| p.presence != Presence::Dormant && p.outbound.up && p.agent.primary().is_some())
    }

    fn tell_games(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        if !self.can_be_told(at) {
            return;
        }
        let number = self.lan.listing.number();
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let due = peer.outbound.games.due(number).is_some_and(|due| due <= now.mono);
        if let Some(seen) = peer.outbound.games.owes.take() {
            self.send_message(at, &PeerMessage::GamesSeen(seen), now, wan);
        }
        if !due {
            return;
        }
        let games = self.offers_for(at);
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let told = &mut peer.outbound.games;
        told.sent(number, now.mono);
        if games.is_empty() && !told.ever {
            return told.arrived(number);
        }
        told.ever = true;
        let list = GameList { run: self.me.run, number, games };
        self.send_message(at, &PeerMessage::Games(list), now, wan);
    }

    /// An announcement was handed to the games here: if the next one is late, it is said again.
    pub(super) fn keep_announcement(
        &mut self,
        (game, rule, facts): (Subject, RuleIx, &RuleFacts),
        ((from, to), class): ((u16, u16), Class),
        packet: (&[u8], Delivery),
        now: Now,
    ) {
        if let (RuleKind::Announcement, Some(rhythm)) = (facts.kind, facts.rhythm) {
            let key: RepeatKey = (game.0, rule, from, to, class);
            let beat = Beat { rhythm: rhythm.max(LEAST_RHYTHM), life: facts.life };
            self.lan.repeats.came(key, game, packet, beat, now.mono);
        }
    }

    fn repeat_late(&mut self, now: Now, lan: &mut impl LanSink) {
        let mut room = [0u8; SLOT_BYTES];
        while let Some((key, kept)) = self.lan.repeats.poll(now.mono) {
            let (peer, rule) = (key.0, key.1);
            let (how, len) = (kept.how, kept.packet.len());
            let Some(packet) = room.get_mut(..len) else { continue };
            packet.copy_from_slice(&kept.packet);
            if let Err(why) = self.say_again(peer, rule, packet, how, now, lan) {
                self.dropped(why);
            }
        }
    }

    fn say_again(
        &mut self,
        peer: PeerId,
        rule: RuleIx,
        packet: &[u8],
        how: Delivery,
        now: Now,
        lan: &mut impl LanSink,
    ) -> Result<(), DropReason> {
        let pace = self.lan.rules.facts(rule).ok_or(DropReason::NotAGame)?.pace;
        let peer = self.peers.get_mut(peer).ok_or(DropReason::NoSuchPeer)?;
        if peer.agent.kind() == Some(PathKind::Lan) {
            // It came to this network: the game is heard by wire, from another address.
            return Err(DropReason::HeardNatively);
        }
        let bucket = peer.inbound.buckets.entry(rule).or_insert_with(|| Bucket::new(pace, now.mono));
        if !bucket.take(pace, now.mono) {
            return Err(DropReason::Pace);
        }
        let view = PacketView::parse(packet).map_err(|_| DropReason::Malformed)?;
        let room = lan.reserve(packet.len()).and_then(|room| room.get_mut(..packet.len()));
        room.ok_or(DropReason::LanFull)?.copy_from_slice(packet);
        lan.commit(packet.len(), how);
        self.lan.echo.injected(&view, now.mono);
        self.counters.add(Count::Repeated);
        Ok(())
    }

    pub(super) fn games_deadline(&self) -> Option<Deadline> {
        let lan = &self.lan;
        let mut first = Deadline::earlier(lan.games.deadline(), lan.listing.deadline());
        first = Deadline::earlier(first, lan.repeats.deadline());
        for (at, peer) in self.peers.list.iter().enumerate() {
            let games = &peer.outbound.games;
            let due = games.owes.map(|_| Mono::ZERO).or_else(|| games.due(lan.listing.number()));
            let due = due.filter(|_| self.can_be_told(at)).map(|at| Deadline::new(at, "games to tell"));
            first = Deadline::earlier(first, due);
        }
        first
    }

    /// New rules: what stays keeps its place in the list, the rest leaves it.
    pub(super) fn games_move(&mut self, rules: &Ruleset, now: Now) {
        let before = Arc::clone(&self.lan.rules);
        let moved = |profile: ProfileIx| {
            let id = before.profiles().get(usize::from(profile.0))?;
            profile_of(rules, id)
        };
        self.lan.repeats.forget(|_| true);
        let gone = self.lan.games.renumber(moved);
        self.say_all_lost(gone, "its profile is not used any more");
        self.lan.listing.renumber(moved, now.mono);
        self.peers.list.iter_mut().for_each(|p| p.inbound.games = None);
    }
}

fn profile_of(rules: &Ruleset, id: &ProfileId) -> Option<ProfileIx> {
    let at = rules.profiles().iter().position(|known| known == id)?;
    u16::try_from(at).ok().map(ProfileIx)
}

/// A profile that we know and whose rules stand for games, and how long its games live.
fn listed_profile(rules: &Ruleset, id: &ProfileId) -> Option<(ProfileIx, Duration)> {
    let profile = profile_of(rules, id)?;
    let all = (0..=u16::MAX).map_while(|rule| rules.facts(RuleIx(rule)));
    let life = all.filter(|facts| facts.profile == profile && facts.lists).map(|facts| facts.life).max()?;
    Some((profile, life))
}

fn info_of(game: Described) -> GameInfo {
    let Described { title, map, version, players, most_players, transport: _, port: _ } = game;
    GameInfo { title, map, version, players, most_players }.tidy()
}

/// Answers come when somebody asks: they have no rhythm.
fn pulse_of(facts: &RuleFacts) -> Pulse {
    Pulse { life: facts.life, rhythm: facts.rhythm.filter(|_| facts.kind == RuleKind::Announcement) }
}
