//! What peers sent, handed to the neighbours: what is said to everybody goes to everybody of each network, what is said to a
//! neighbour goes to him. Addresses in it are replaced by this computer's own.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::Own;
use super::guests::Guest;
use crate::host::lan::proxy::ProxyPort;
use crate::host::lan::proxy::deliver::Mail;
use crate::host::lan::proxy::found::Door;
use crate::rules::ruleset::{RewriteTo, RuleFacts, RuleIx, RuleKind, Transport};
use crate::wire::frame::Class;
use crate::wire::packet::PacketView;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Handed {
    /// This computer's own games are to have it too.
    Also,
    /// Nobody else is to have it.
    Wholly,
}

impl ProxyPort {
    /// A datagram of a peer to one port of ours: to the neighbour for whom it stands.
    pub(in super::super) fn hand_to_guest(
        &mut self,
        guest: Guest,
        mail: &Mail,
        packet: &[u8],
        matched: Option<&(RuleIx, RuleFacts)>,
    ) {
        let Some(own) = self.share.net_of(*guest.at.ip()).filter(|own| own.at == guest.own) else {
            self.counters.nobody += 1;
            return;
        };
        let door = match matched {
            Some((rule, facts)) => {
                PacketView::parse(packet).ok().and_then(|view| self.note(*rule, facts, mail, &view))
            }
            None => None,
        };
        self.send_rewritten(own, mail, guest.at, packet, matched, door.map(|(door, _)| door));
    }

    /// What a peer's game says to everybody: to everybody of each network that is shared with.
    pub(in super::super) fn hand_to_neighbours(
        &mut self,
        mail: &Mail,
        packet: &[u8],
        matched: &(RuleIx, RuleFacts),
    ) -> Handed {
        let (rule, facts) = matched;
        let class = self.class_of(*mail.to.ip());
        // Peers' searches are for the games of this computer alone.
        if facts.kind == RuleKind::Query || class == Class::Unicast {
            return Handed::Also;
        }
        let Ok(view) = PacketView::parse(packet) else { return Handed::Also };
        let door = self.note(*rule, facts, mail, &view).map(|(door, _)| door);
        let to = if class == Class::Multicast { *mail.to.ip() } else { Ipv4Addr::BROADCAST };
        let to = SocketAddrV4::new(to, mail.to.port());
        for own in self.share.nets().to_vec() {
            let sent = self.send_rewritten(own, mail, to, packet, Some(matched), door);
            self.broadcasts += u64::from(sent && class != Class::Multicast);
        }
        // A broadcast on a card reaches the games of this computer as well, who need it only once.
        if class == Class::Multicast { Handed::Also } else { Handed::Wholly }
    }

    fn send_rewritten(
        &mut self,
        own: Own,
        mail: &Mail,
        to: SocketAddrV4,
        packet: &[u8],
        matched: Option<&(RuleIx, RuleFacts)>,
        door: Option<Door>,
    ) -> bool {
        // Behind the packet is space for addresses that are longer.
        let mut room = std::mem::take(&mut self.spare);
        let sent = if room.fill(packet) {
            let len = self.rewritten_for(own, mail, room.room(), packet.len(), matched, door);
            let view = len.and_then(|len| PacketView::parse(room.room().get(..len)?).ok());
            let sent = view.map(|view| self.share.send(own, mail.from, to, view.payload(), self.now));
            self.count_shared(sent)
        } else {
            false
        };
        self.spare = room;
        sent
    }

    fn count_shared(&mut self, sent: Option<std::io::Result<()>>) -> bool {
        match sent {
            Some(Ok(())) => {
                self.counters.shared_out += 1;
                return true;
            }
            Some(Err(error)) => {
                self.counters.refused += 1;
                tracing::trace!(%error, "the system did not take a packet for a neighbour");
            }
            None => self.counters.rewrite += 1,
        }
        false
    }

    /// Puts our own address where the payload names the peer's.
    fn rewritten_for(
        &self,
        own: Own,
        mail: &Mail,
        room: &mut [u8],
        len: usize,
        matched: Option<&(RuleIx, RuleFacts)>,
        door: Option<Door>,
    ) -> Option<usize> {
        let Some((rule, _)) = matched.filter(|(_, facts)| facts.rewrites || facts.rewrites_port) else {
            return Some(len);
        };
        let port = door.and_then(|door| self.shared_at(own, door)).map(|at| at.port());
        let to = RewriteTo { seat: mail.seat, v4: own.at, v6: own.at.to_ipv6_mapped(), port };
        self.rules.rewrite(*rule, room, len, &to)
    }

    /// Where neighbours of this network join a peer's game, if they do.
    fn shared_at(&self, own: Own, door: Door) -> Option<SocketAddrV4> {
        match door.transport {
            Transport::Udp => self.share.local(own, door.of),
            Transport::Tcp => self.tcp.bound(door.of, own.at),
        }
    }

    /// Opens to the neighbours what was opened here.
    pub(in super::super) fn share_door(&mut self, door: Door) {
        if self.is_letting_go(door.of.port()) {
            return;
        }
        for own in self.share.nets().to_vec() {
            let opened = match door.transport {
                Transport::Udp => self.share.open(own, door.of, self.now),
                Transport::Tcp => self.tcp.open_to(door.of, own),
            };
            if let Err(error) = opened {
                self.counters.no_stand += 1;
                tracing::debug!(%error, at = %own.at, "a peer's game is not shared");
            }
        }
    }

    /// Where neighbours join a peer's game: an address for each network.
    #[must_use]
    pub fn shared(&self, of: SocketAddrV4, tcp: bool) -> Vec<SocketAddrV4> {
        let door = Door { of, transport: if tcp { Transport::Tcp } else { Transport::Udp } };
        self.share.nets().iter().filter_map(|own| self.shared_at(*own, door)).collect()
    }
}
