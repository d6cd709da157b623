//! Control planes: what they say, what is said to them, and when people are told that the party is ready.

use super::Node;
use crate::engine::effect::{Effect, Memory};
use crate::engine::link::{Identity, LinkAction};
use crate::engine::tunnel::session::Session;
use crate::model::id::{LinkId, PeerId};
use crate::model::limits;
use crate::model::status::{Event, Mode, Trouble};
use crate::model::time::Now;
use crate::wire::control::Down;
use std::net::IpAddr;

impl<S: Session> Node<S> {
    pub(super) fn control(&mut self, link: LinkId, message: Down, now: Now) {
        let who =
            Identity { keys: &self.me.keys, party: &self.party.keys, owned_slot: self.party.owned_slot };
        let Some((machine, _)) = self.links.get_mut(usize::from(link.0)) else { return };
        machine.handle(&message, who, now.mono);
        match message {
            Down::Welcome { rotation, peers, .. } => {
                if let Some(rotation) = rotation {
                    self.rotated(&rotation, now);
                }
                for envelope in peers.into_iter().take(limits::PEERS * 2) {
                    self.learn(envelope, true, now);
                }
                self.check_seat(now);
            }
            Down::Record { envelope } => {
                self.learn(envelope, true, now);
                self.check_seat(now);
            }
            Down::Relays { offers } => self.relays_offered(offers, false, now),
            Down::Gone { peer, left } => self.said_gone(peer, left, now),
            Down::Rotated { rotation } => self.rotated(&rotation, now),
            Down::Notice { code, message } => {
                let hint = "lanrage went on by itself; look at the folder if it happens again";
                self.event(Event::Warning(Trouble::new(&code, message, hint)));
            }
            Down::Opened { .. } | Down::Closed { .. } | Down::Refused { .. } | Down::Signal { .. } => {}
        }
    }

    /// A control plane says that a peer left. The tunnel knows better while it is alive.
    fn said_gone(&mut self, id: PeerId, left: bool, now: Now) {
        let Some(at) = self.peers.at(id) else { return };
        let Some(peer) = self.peers.list.get_mut(at).filter(|_| left) else { return };
        let heard = peer.agent.last_heard();
        if heard.is_some_and(|heard| now.mono.since(heard) < self.knobs.keepalive * 2) {
            // It said nothing to us, maybe because the tunnel was not up yet. Ask it; without an answer it is true.
            peer.farewell = Some(now.mono);
            peer.agent.suspect(now.mono);
        } else {
            self.peer_is_gone(at, "left the party", true, now);
        }
    }

    /// Turns what the links want into effects.
    pub(super) fn drain_links(&mut self, now: Now) {
        for at in 0..self.links.len() {
            while let Some(action) = self.links.get_mut(at).and_then(|(link, _)| link.poll()) {
                self.link_action(at, action, now);
            }
        }
    }

    fn link_action(&mut self, at: usize, action: LinkAction, now: Now) {
        let id = LinkId(u8::try_from(at).unwrap_or(u8::MAX));
        match action {
            LinkAction::Open => self.effects.push_back(Effect::OpenLink(id)),
            LinkAction::Close => self.effects.push_back(Effect::CloseLink(id)),
            LinkAction::Send(up) => self.effects.push_back(Effect::Control(id, up)),
            LinkAction::Online => {
                let envelope = self.own_envelope();
                if let Some((link, _)) = self.links.get_mut(at) {
                    // A control plane that was away when the party was re-keyed has no secrets for those who stay.
                    if let Some(rotation) = &self.party.rotation {
                        link.rotate(rotation);
                    }
                    link.publish(&envelope);
                }
                self.say_ready();
            }
            LinkAction::Trouble { code, why } => {
                self.say_ready();
                self.link_trouble(at, code, &why, now);
            }
        }
    }

    fn link_trouble(&mut self, at: usize, code: &str, why: &str, now: Now) {
        let _ = now;
        let control = self.links.get(at).map(|(_, c)| c.clone()).unwrap_or_default();
        let others = self.links.iter().enumerate().any(|(n, (link, _))| n != at && link.is_online());
        let goes_on = if others {
            "the other control planes still work"
        } else if self.meeting.is_on() {
            "the party goes on, and new players still find it by an invite from any player who is there"
        } else {
            "the party goes on with the players already known; new ones cannot find it until this works again"
        };
        let hint = match code {
            "not_a_member" => "ask the host for the invite again: this one is for another party",
            "invite_outdated" => "ask the host for a new invite",
            "party_unknown" => "ask the host to start lanrage first; it is tried again by itself",
            "control_version" => "both sides need the same version of lanrage",
            "party_full" => "somebody has to leave first",
            _ => {
                "check the address and that the server or folder can be reached; it is tried again by itself"
            }
        };
        let message = format!("{control}: {why}; {goes_on}");
        self.event(Event::Warning(Trouble::new(code, message, hint)));
    }

    pub(super) fn say_ready(&mut self) {
        if self.todo.ready_by.take().is_none() {
            return;
        }
        let (v4, _) = self.addresses();
        let direct = self.meeting.is_on().then_some("direct");
        let control: Vec<&str> = self.links.iter().map(|(_, c)| c.as_str()).chain(direct).collect();
        let control = control.join(" ");
        let event = Event::Ready {
            party: self.party.id,
            invite: self.party.invite.clone(),
            peer: self.me.id,
            name: self.me.name.clone(),
            address: IpAddr::V4(v4),
            mode: Mode::Lan,
            control,
        };
        self.event(event);
        for held in std::mem::take(&mut self.todo.held) {
            self.event(held);
        }
    }

    /// The end of every input.
    pub(super) fn settle(&mut self, now: Now) {
        if self.todo.stopped {
            self.drain_links(now);
            return;
        }
        if self.todo.publish {
            self.publish(now);
        }
        self.tell_plugins(now);
        self.update_meeting(now);
        if std::mem::take(&mut self.todo.router_spoke) && self.links.is_empty() && !self.meeting.is_guest() {
            self.say_ready();
        }
        self.drain_links(now);
        if self.todo.remember {
            self.todo.remember = false;
            let peers = self.party.roster.iter().map(|(_, m)| m.envelope.clone()).collect();
            let seat = Some((self.me.seat, self.me.seat_since));
            self.effects.push_back(Effect::Remember(Memory {
                seat,
                seq: self.me.seq,
                peers,
                rotation: self.party.rotation.clone(),
            }));
        }
    }
}
