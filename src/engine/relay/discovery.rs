//! Binding: "what is my address, seen from there" (RFC 8489), and "answer from elsewhere" (RFC 5780), by which a client learns
//! what its NAT does.
//!
//! The answer of a plain Binding is longer than its request by nature: 32 bytes for 20. So every answer to a datagram is paid
//! for (`ration`): the full one (with RESPONSE-ORIGIN and OTHER-ADDRESS) when there is something left for the sender's network, else
//! the short one, else none. Requests that are padded to the answer's length are always answered in full.
//!
//! RESPONSE-PORT goes to another port of the sender's own address only; whoever forges that could have forged the port too.

use super::tally::Tallied;
use super::{Client, Relay, RelaySink, reply};
use crate::model::time::Now;
use crate::wire::stun::Message;
use std::net::{IpAddr, SocketAddr};

/// RFC 8489, section 14.9: Bad Request.
const BAD_REQUEST: u16 = 400;
/// The attributes' numbers (RFC 5780, section 7).
const CHANGE_REQUEST: u16 = 0x0003;
const RESPONSE_PORT: u16 = 0x0027;

impl Relay {
    pub(super) fn binding(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        length: usize,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        let unknown = message.unknown_required();
        if !unknown.is_empty() {
            reply::unknown(&mut self.scratch, message, unknown.types());
            return self.answer_stranger(client, client, length, now, out);
        }
        let (change, port) = (message.change_request(), message.response_port());
        let (from, to) = match self.way_back(client, change.unwrap_or_default(), port) {
            Ok(way) => way,
            Err(attribute) => {
                reply::unknown(&mut self.scratch, message, &[attribute]);
                return self.answer_stranger(client, client, length, now, out);
            }
        };
        if message.padding().is_some() && port.is_some() {
            // RFC 5780, section 7.6: together they would be an amplifier.
            reply::stranger_error(&mut self.scratch, message, BAD_REQUEST);
            return self.answer_stranger(client, client, length, now, out);
        }
        self.tally.add(Tallied::Bindings);
        let back = Client { addr: to, server: from, stream: client.stream };
        let other = self.elsewhere(client.server, true, true);
        let padding = message.padding().map(|_| length);
        // Of interest only where there is another one.
        let origin = other.map(|_| from);
        reply::binding(&mut self.scratch, message, client.addr, origin, other, padding);
        let full = self.scratch.len();
        if client.stream.is_none() && !self.rations.allows(client.addr.ip(), length, full, now.mono) {
            // Without the additions only where they were not asked for.
            if change.is_some() {
                return self.tally.add(Tallied::Rationed);
            }
            reply::binding(&mut self.scratch, message, client.addr, None, None, None);
            return self.answer_stranger(client, &back, length, now, out);
        }
        out.to_client(&back, &self.scratch);
    }

    /// What stands in `scratch`, to whoever is unproved and asked with `length` bytes.
    pub(super) fn answer_stranger(
        &mut self,
        asked: &Client,
        back: &Client,
        length: usize,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        let proved = asked.stream.is_some();
        if proved || self.rations.allows(asked.addr.ip(), length, self.scratch.len(), now.mono) {
            out.to_client(back, &self.scratch);
        } else {
            self.tally.add(Tallied::Rationed);
        }
    }

    /// From where and to where the answer goes, or the attribute that cannot be honoured here.
    fn way_back(
        &self,
        client: &Client,
        (ip, port): (bool, bool),
        response_port: Option<u16>,
    ) -> Result<(SocketAddr, SocketAddr), u16> {
        let datagram = client.stream.is_none();
        let from = if ip || port {
            self.elsewhere(client.server, ip, port).filter(|_| datagram).ok_or(CHANGE_REQUEST)?
        } else {
            client.server
        };
        let to = match response_port {
            Some(port) if datagram && port != 0 => SocketAddr::new(client.addr.ip(), port),
            Some(_) => return Err(RESPONSE_PORT),
            None => client.addr,
        };
        Ok((from, to))
    }

    /// Another address of this server, where it has two of that family.
    fn elsewhere(&self, server: SocketAddr, other_ip: bool, other_port: bool) -> Option<SocketAddr> {
        let ports = self.config.discovery_ports?;
        let pair = self.config.discovery.iter().find(|pair| pair.contains(&server.ip()))?;
        let [a, b]: [IpAddr; 2] = *pair;
        let ip = if other_ip == (a == server.ip()) { b } else { a };
        let [first, second] = ports;
        let port = if other_port == (first == server.port()) { second } else { first };
        Some(SocketAddr::new(ip, port))
    }
}
