//! Deadlines: sessions, paths, who is away, what fell silent. Also what happens when a path comes up.

use super::Node;
use super::rekeying::Rekeying;
use super::wan::DEAF;
use crate::engine::counters::Count;
use crate::engine::effect::Knobs;
use crate::engine::path::action::{Action, Report};
use crate::engine::path::route::Route;
use crate::engine::sink::{LanSink, WanSink};
use crate::engine::tunnel::peer::{Peer, Presence};
use crate::engine::tunnel::session::{LEAST_ROOM, Session, Tick};
use crate::model::status::{Event, Trouble};
use crate::model::time::{Deadline, Mono, Now};
use crate::wire::control::PeerMessage;
use crate::wire::frame::FrameKind;
use std::time::Duration;

/// Between sweeps of the firewall.
const SWEEP: Duration = Duration::from_secs(10);

impl<S: Session> Node<S> {
    pub(super) fn run_timers(&mut self, now: Now, wan: &mut impl WanSink, lan: &mut impl LanSink) {
        if self.todo.stopped {
            return;
        }
        self.todo.greet = None;
        for (link, _) in &mut self.links {
            link.handle_timeout(now.mono);
        }
        // First, because new ways are asked in the same breath.
        self.run_relays(now, wan);
        for at in 0..self.peers.list.len() {
            // A ping may be what the session's timers wait for, and a session that ends is the agent's business.
            self.run_agent(at, now, wan);
            self.tick_session(at, now, wan);
            self.run_agent(at, now, wan);
            self.check_presence(at, now);
        }
        self.run_meeting(now, wan);
        self.run_gossip(now, wan);
        self.run_rekeying(now, wan);
        self.run_games(now, wan, lan);
        self.run_measuring(now, wan);
        // What the peers' path finders asked of relays goes out with it.
        self.answer_relays(now, wan);
        if self.todo.sweep <= now.mono {
            self.todo.sweep = now.mono.next_beat(SWEEP);
            self.lan.firewall.sweep(now.mono);
        }
        if self.todo.ready_by.is_some_and(|by| by <= now.mono) {
            self.say_ready();
        }
    }

    fn tick_session(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let mut room = [0u8; LEAST_ROOM];
        let due = peer.session.deadline().is_some_and(|d| d.at <= now.mono);
        let outcome = if due { peer.session.tick(&mut room, now) } else { Tick::Nothing };
        // Not only a tick ends a session: after a long sleep the first packet finds it dead, and no deadline follows.
        let established = peer.session.established();
        if peer.outbound.up && !established {
            peer.outbound.up = false;
            peer.agent.session(false, now.mono);
        }
        if let Tick::Send(len) = outcome {
            let message = room.get(..len).unwrap_or(&[]);
            match peer.agent.primary().filter(|_| established) {
                Some(to) => {
                    self.send_to(at, to, message, now, wan);
                }
                None => self.send_everywhere(at, message, now, wan),
            }
        }
    }

    fn send_everywhere(&mut self, at: usize, message: &[u8], now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get(at) else { return };
        let all: Vec<Route> = peer.agent.routes().collect();
        for to in all {
            self.send_to(at, to, message, now, wan);
        }
    }

    /// Does what a peer's path finder wants.
    pub(super) fn run_agent(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        while let Some(action) = self.peers.list.get_mut(at).and_then(|p| p.agent.poll(now.mono)) {
            match action {
                Action::Handshake => self.handshake(at, now, wan),
                Action::Ping { route, number, doubt } => {
                    let mut frame = self.own_frame(FrameKind::Ping, number);
                    frame.class = if doubt { DEAF } else { frame.class };
                    self.counters.add(Count::Pings);
                    self.send_frame(at, Some(route), frame, &[], now, wan);
                }
                Action::Resend(since) => self.resend(at, since, now, wan),
                Action::Distress => self.distress(now),
                Action::Changed(report) => self.path_changed(at, report, now),
                Action::Lost => self.path_lost(at, now),
            }
        }
        self.run_punch(at, now, wan);
        self.run_mtu(at, now, wan);
        self.greet(at, now, wan);
    }

    fn handshake(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let mut room = [0u8; LEAST_ROOM];
        if let Some(len) = peer.session.initiate(&mut room, true, now) {
            self.send_everywhere(at, room.get(..len).unwrap_or(&[]), now, wan);
        }
    }

    /// Once a session is up, the peer gets our record; once a path is proven, our running games.
    fn greet(&mut self, at: usize, now: Now, wan: &mut impl WanSink) {
        let Some(peer) = self.peers.list.get(at).filter(|p| p.outbound.up) else { return };
        let (greet, replay) = (!peer.outbound.greeted, !peer.outbound.replayed && peer.agent.is_proven());
        if greet && peer.agent.primary().is_some() {
            let record = PeerMessage::Record(self.own_envelope());
            let sent = self.send_message(at, &record, now, wan);
            if let Some(peer) = self.peers.list.get_mut(at) {
                peer.outbound.greeted = sent;
            }
        }
        if replay {
            self.replay_to(at, now, wan);
        }
        self.compare(at, now);
    }

    fn path_changed(&mut self, at: usize, report: Report, now: Now) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let id = peer.id;
        self.counters.add(Count::PathChanges);
        self.meeting.stale = true;
        if peer.presence != Presence::Here {
            self.peer_is_here(at, now);
        }
        let why = self.why_this_path(at, &report, now);
        self.event(Event::Path {
            peer: id,
            kind: report.kind,
            remote: report.remote(),
            rtt_ms: report.rtt.as_secs_f64() * 1000.0,
            why,
        });
    }

    fn path_lost(&mut self, at: usize, now: Now) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        if peer.farewell.take().is_some_and(|said| peer.agent.last_heard().is_none_or(|heard| heard <= said))
        {
            return self.peer_is_gone(at, "left the party", true, now);
        }
        peer.outbound.replayed = false;
        self.meeting.stale = true;
        let id = peer.id;
        let name = self.name_of(id);
        self.event(Event::Warning(Trouble::new(
            "path_lost",
            format!("no way to {name} works at the moment"),
            "it is tried again by itself; check both internet connections",
        )));
    }

    pub(super) fn name_of(&self, id: crate::model::id::PeerId) -> String {
        self.party.roster.get(id).map_or_else(|| id.to_string(), |m| m.record.name.clone())
    }

    // ---- who is here -----------------------------------------------------------------------------------------

    pub(super) fn peer_is_here(&mut self, at: usize, now: Now) {
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        self.meeting.stale = true;
        self.scripts.members_changed();
        let was = std::mem::replace(&mut peer.presence, Presence::Here);
        peer.written_off = false;
        peer.since = now.mono;
        let id = peer.id;
        if was == Presence::Dormant {
            self.say_joined(id);
        }
    }

    /// `left`: it said so, and is not called until it is back.
    pub(super) fn peer_is_gone(&mut self, at: usize, why: &str, left: bool, now: Now) {
        let Some((key, tunnel)) = self.peers.list.get(at).map(|p| (p.key, p.tunnel)) else { return };
        // A new session: what is still under way in the old one must not make it look alive again.
        let setup = self.session_setup(&key, tunnel);
        let Some(peer) = self.peers.list.get_mut(at) else { return };
        let shown = peer.is_shown();
        self.meeting.stale = true;
        self.scripts.members_changed();
        peer.presence = Presence::Dormant;
        peer.written_off = true;
        peer.renew(setup, now);
        peer.agent.rest(left, now.mono);
        let id = peer.id;
        self.reindex();
        self.games_of_gone(at, "its player is gone");
        if shown {
            self.event(Event::PeerLeft { peer: id, why: why.to_owned() });
        }
    }

    fn check_presence(&mut self, at: usize, now: Now) {
        let Some(peer) = self.peers.list.get(at).filter(|p| p.is_shown()) else { return };
        let silent = now.mono.since(last_sign(peer));
        if silent >= self.knobs.gone_after {
            let minutes = self.knobs.gone_after.as_secs() / 60;
            return self.peer_is_gone(at, &format!("not heard of for {minutes} min"), false, now);
        }
        if silent < self.knobs.away_after || peer.presence != Presence::Here {
            return;
        }
        let id = peer.id;
        if let Some(peer) = self.peers.list.get_mut(at) {
            peer.presence = Presence::Away;
        }
        self.games_of_gone(at, "its player is away");
        let name = self.name_of(id);
        let seconds = self.knobs.away_after.as_secs();
        self.event(Event::Warning(Trouble::new(
            "peer_away",
            format!("{name} has not been heard of for {seconds} s"),
            "the place is kept; lanrage reconnects by itself when the other PC is back",
        )));
    }

    // ---- deadlines -------------------------------------------------------------------------------------------

    /// The next deadline of everything that belongs to no peer.
    pub(super) fn other_deadlines(&self) -> Option<Deadline> {
        let mut first = self.games_deadline();
        let ready = self.todo.ready_by.map(|by| Deadline::new(by, "ready"));
        first = Deadline::earlier(first, ready);
        first = Deadline::earlier(first, self.todo.greet.map(|at| Deadline::new(at, "greet")));
        first = Deadline::earlier(first, Some(Deadline::new(self.todo.sweep, "sweep")));
        first = Deadline::earlier(first, Some(self.gossip.deadline()));
        first = Deadline::earlier(first, self.meeting.deadline());
        first = Deadline::earlier(first, self.rekeying.as_ref().map(Rekeying::deadline));
        for (link, _) in &self.links {
            first = Deadline::earlier(first, link.deadline());
        }
        first = Deadline::earlier(first, self.relays.deadline());
        first = Deadline::earlier(first, self.scripts.deadline());
        first = Deadline::earlier(first, self.nat.deadline());
        Deadline::earlier(first, self.measuring.deadline())
    }
}

/// When a peer was last heard of, or first known.
fn last_sign<S>(peer: &Peer<S>) -> Mono {
    peer.agent.last_heard().map_or(peer.since, |heard| heard.max(peer.since))
}

pub(super) fn peer_deadline<S: Session>(peer: &Peer<S>, knobs: &Knobs) -> Option<Deadline> {
    let machines = Deadline::earlier(peer.session.deadline(), peer.agent.deadline());
    let presence = match peer.presence {
        Presence::Dormant => None,
        Presence::Here => Some(Deadline::new(last_sign(peer) + knobs.away_after, "away")),
        Presence::Connecting | Presence::Away => {
            Some(Deadline::new(last_sign(peer) + knobs.gone_after, "gone"))
        }
    };
    [peer.punch.deadline(), peer.mtu.deadline(), presence].into_iter().fold(machines, Deadline::earlier)
}
