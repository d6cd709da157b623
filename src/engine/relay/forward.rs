//! Traffic: what is done with each packet of it. Nothing is allocated, and a packet is not copied before the sink.
//!
//! A packet from a client on a channel: one look for the client's allocation, one for the channel. A packet from a peer: the
//! allocation is named by its port, one look for the channel; its header is written in front of the payload, over bytes that
//! nobody needs any more (`HEADROOM`, or the packet before in the same buffer).
//!
//! Peers that are clients of this relay themselves get their packet here, without a socket: that is the usual case when two
//! players can reach each other by no other way.

use super::allocation::Stage;
use super::quota::nanos;
use super::tally::Tallied;
use super::{Client, HEADROOM, PortId, Relay, RelaySink, reply};
use crate::model::time::Now;
use crate::wire::channel;
use crate::wire::stun::{Class, Message, Method};
use std::net::SocketAddr;
use std::ops::Range;

/// First bytes of ChannelData (`channel::READABLE`) and of STUN (RFC 7983).
const CHANNELS: std::ops::RangeInclusive<u8> = 0x40..=0x7f;
const STUN: std::ops::RangeInclusive<u8> = 0..=3;

impl Relay {
    /// A datagram, or one message of a stream, from a client: `packet` of `buffer`. The `HEADROOM` bytes before it and the packet
    /// itself are written over.
    pub fn handle_client(
        &mut self,
        client: &Client,
        buffer: &mut [u8],
        packet: Range<usize>,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        let Some(bytes) = buffer.get(packet.clone()) else { return };
        match bytes.first() {
            Some(first) if CHANNELS.contains(first) => {
                let Some((number, data)) = channel::read(bytes, client.stream.is_some()) else {
                    return self.tally.add(Tallied::Garbage);
                };
                let data = packet.start + data.start..packet.start + data.end;
                self.channel_data(client, number, buffer, data, now, out);
            }
            Some(first) if STUN.contains(first) => {
                let Ok(message) = Message::parse(bytes) else { return self.tally.add(Tallied::Garbage) };
                if (message.class(), message.method()) == (Class::Indication, Method::Send) {
                    let (peer, data) = (message.peer(), message.data_range());
                    let understood = message.unknown_required().is_empty();
                    let (Some(peer), Some(data), true) = (peer, data, understood) else {
                        return self.tally.add(Tallied::Garbage);
                    };
                    let data = packet.start + data.start..packet.start + data.end;
                    self.send_indication(client, peer, buffer, data, now, out);
                } else {
                    self.request(client, &message, bytes.len(), now, out);
                }
            }
            Some(_) | None => self.tally.add(Tallied::Garbage),
        }
    }

    /// A datagram from a peer on an allocation's port: `packet` of `buffer`. The `HEADROOM` bytes before it are written over.
    pub fn handle_peer(
        &mut self,
        port: PortId,
        from: SocketAddr,
        buffer: &mut [u8],
        packet: Range<usize>,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        // A port that was just closed may still have had something to say.
        let Some(held) = self.get(port).map(|a| a.held) else { return };
        // Clients of this relay come by `send`; what claims one of our addresses and came by a socket is none of them.
        if self.is_own(from.ip()) && !self.config.allow_private_peers {
            return self.tally.add(Tallied::Foreign);
        }
        if self.pays(held, packet.len(), now) {
            self.deliver(port, from, buffer, packet, now, out);
        }
    }

    fn channel_data(
        &mut self,
        client: &Client,
        number: u16,
        buffer: &mut [u8],
        data: Range<usize>,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        let Some(port) = self.of_client(client, now.mono) else {
            return self.tally.add(Tallied::NoAllocation);
        };
        let peer = self.get(port).and_then(|a| a.channels.peer(number, now.mono));
        let Some(peer) = peer else { return self.tally.add(Tallied::NoChannel) };
        self.send(port, peer, buffer, data, now, out);
    }

    fn send_indication(
        &mut self,
        client: &Client,
        peer: SocketAddr,
        buffer: &mut [u8],
        data: Range<usize>,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        let Some(port) = self.of_client(client, now.mono) else {
            return self.tally.add(Tallied::NoAllocation);
        };
        let permitted = self.get(port).is_some_and(|a| a.permissions.until(peer.ip(), now.mono).is_some());
        if permitted {
            self.send(port, peer, buffer, data, now, out);
        } else {
            self.tally.add(Tallied::NoPermission);
        }
    }

    /// To a peer that may be sent to.
    fn send(
        &mut self,
        port: PortId,
        peer: SocketAddr,
        buffer: &mut [u8],
        data: Range<usize>,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        let Some(allocation) = self.get(port) else { return };
        let (held, bearer) = (allocation.held, allocation.bearer);
        let Stage::Open(relayed) = allocation.stage else { return };
        if !self.pays(held, data.len(), now) {
            return;
        }
        self.tally.add(Tallied::ToPeers);
        self.tally.add_many(Tallied::ToPeersBytes, data.len());
        if self.is_own(peer.ip()) {
            let other = self.by_relayed.get(&peer).copied();
            let inside =
                other.filter(|other| self.get(*other).is_some_and(|o| o.bearer.party == bearer.party));
            if let Some(inside) = inside {
                self.tally.add(Tallied::Inside);
                return self.deliver(inside, relayed, buffer, data, now, out);
            }
            if other.is_some() || !self.config.allow_private_peers {
                return self.tally.add(Tallied::Foreign);
            }
        }
        if let Some(payload) = buffer.get(data) {
            out.to_peer(port, peer, payload);
        }
    }

    /// To the client of an allocation, if it permits the sender.
    fn deliver(
        &mut self,
        port: PortId,
        from: SocketAddr,
        buffer: &mut [u8],
        data: Range<usize>,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        let Some(allocation) = self.get(port).filter(|a| a.expires > now.mono) else {
            return self.tally.add(Tallied::NoAllocation);
        };
        let client = allocation.client;
        let length = data.len();
        if let Some(number) = allocation.channels.number(from, now.mono) {
            let whole = data.start.checked_sub(HEADROOM).and_then(|start| buffer.get_mut(start..data.end));
            let Some(framed) = whole else { return debug_assert!(false, "no headroom before a packet") };
            if channel::write_header(framed, number, length) {
                out.to_client(&client, framed);
            }
        } else if allocation.permissions.until(from.ip(), now.mono).is_some() {
            let Some(payload) = buffer.get(data) else { return };
            reply::data_indication(&mut self.scratch, from, payload);
            out.to_client(&client, &self.scratch);
        } else {
            return self.tally.add(Tallied::NoPermission);
        }
        self.tally.add(Tallied::ToClients);
        self.tally.add_many(Tallied::ToClientsBytes, length);
    }

    fn pays(&mut self, held: super::Held, bytes: usize, now: Now) -> bool {
        let at = nanos(now.mono);
        let pays = self.parties.take(held.party, bytes, self.config.limits.party_rate, at)
            && self.origins.take(held.origin, bytes, self.config.limits.address_rate, at);
        if !pays {
            self.tally.add(Tallied::OverRate);
        }
        pays
    }
}
