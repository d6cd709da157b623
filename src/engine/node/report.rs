//! What people are shown when they ask.

use super::Node;
use crate::engine::link::LinkState;
use crate::engine::tunnel::session::Session;
use crate::model::status::{GameStatus, LinkStatus, Mode, NatStatus, PathStatus, PeerStatus, Status};
use crate::model::time::Now;
use std::net::{IpAddr, SocketAddr};

impl<S: Session> Node<S> {
    pub(super) fn report(&self, now: Now) -> Status {
        let _ = now;
        Status {
            party: self.party.id,
            peer: self.me.id,
            name: self.me.name.clone(),
            address: self.addresses().0,
            mode: Mode::Lan,
            nat: NatStatus::default(),
            playing: self.lan.rules.profiles().to_vec(),
            control: self
                .links
                .iter()
                .map(|(link, control)| link_status(link.state(), control))
                .chain(self.direct_status())
                .collect(),
            peers: self.peer_statuses(),
            games: self.game_statuses(),
            counters: self.counters.by_name(),
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let shown = self.peers.list.iter().filter(|p| p.is_shown());
        shown
            .filter_map(|peer| {
                let member = self.party.roster.get(peer.id)?;
                let path = peer.agent.report().map(|r| PathStatus {
                    kind: r.kind,
                    remote: r.remote(),
                    rtt_ms: r.rtt.as_secs_f64() * 1000.0,
                    loss: f64::from(r.loss) / 1000.0,
                    why: r.why,
                });
                Some(PeerStatus {
                    peer: peer.id,
                    name: member.record.name.clone(),
                    address: self.party.subnet.v4(member.record.seat),
                    state: peer.presence.word().to_owned(),
                    playing: member.record.games.clone(),
                    path,
                })
            })
            .collect()
    }

    fn game_statuses(&self) -> Vec<GameStatus> {
        let all = self.lan.games.all_heard();
        all.filter_map(|((peer, profile, _, port), game)| {
            let seat = self.party.roster.get(*peer)?.record.seat;
            Some(GameStatus {
                game: self.profile_id(*profile)?,
                peer: *peer,
                title: game.title.clone(),
                address: SocketAddr::new(IpAddr::V4(self.party.subnet.v4(seat)), *port),
                local: None,
            })
        })
        .collect()
    }
}

fn link_status(state: &LinkState, control: &str) -> LinkStatus {
    let (word, why) = match state {
        LinkState::Connecting => ("connecting", None),
        LinkState::Online => ("online", None),
        LinkState::Offline { why } => ("offline", Some(why.clone())),
    };
    LinkStatus { control: control.to_owned(), state: word.to_owned(), why }
}
