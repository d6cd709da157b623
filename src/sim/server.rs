//! A relay on the internet: the real machine of `engine::relay` at two addresses, with what a system gives it: ports,
//! streams, and an end when its process is killed.
//!
//! It answers STUN on two addresses and two ports (RFC 5780), TURN over UDP there, and over streams on TCP 3478 and
//! 443. After a restart it remembers nothing and mints with the same secret.

use super::route::Flight;
use super::world::{Event, World};
use crate::engine::relay::{
    Client, Config, Family, HEADROOM, PortId, REALM, Relay, RelayEffect, RelaySink, StreamId,
};
use crate::model::dice::Seed;
use crate::model::id::{PartyId, PeerId};
use crate::model::relay::{RelayOffer, RelayWay};
use crate::model::time::Now;
use crate::wire::credential::{Bearer, RelaySecret};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The ports of STUN and TURN, over UDP and TCP.
pub const PORTS: [u16; 2] = [3478, 3479];
/// The port of TURN over TLS.
pub const TLS_PORT: u16 = 443;
/// The first port of an allocation.
const FIRST_PORT: u16 = 49_152;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(500);

/// The end of a stream: which computer, and its number there.
type End = (usize, u8);

/// See the module's description.
#[derive(Debug)]
pub struct Server {
    /// Its addresses: two of IPv4, and one of IPv6.
    pub addresses: [IpAddr; 3],
    /// Whether it can be reached.
    pub up: bool,
    /// What it is to offer: over UDP, too?
    pub udp: bool,
    secret: RelaySecret,
    seed: Seed,
    restarts: u64,
    relay: Box<Relay>,
    ports: BTreeMap<SocketAddr, PortId>,
    opened: BTreeMap<PortId, SocketAddr>,
    next: u16,
    streams: BTreeMap<u64, (End, Client)>,
}

/// What leaves a server.
#[derive(Debug)]
enum Out {
    Udp { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Stream { number: u64, bytes: Vec<u8> },
}

/// Collects what the machine sends.
struct Sink<'a> {
    opened: &'a BTreeMap<PortId, SocketAddr>,
    out: Vec<Out>,
}

impl RelaySink for Sink<'_> {
    fn to_client(&mut self, client: &Client, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.out.push(match client.stream {
            Some(StreamId(number)) => Out::Stream { number, bytes },
            None => Out::Udp { from: client.server, to: client.addr, bytes },
        });
    }

    fn to_peer(&mut self, port: PortId, peer: SocketAddr, bytes: &[u8]) {
        if let Some(from) = self.opened.get(&port) {
            self.out.push(Out::Udp { from: *from, to: peer, bytes: bytes.to_vec() });
        }
    }
}

impl Server {
    /// The `number`-th server of a world.
    #[must_use]
    pub fn new(number: u8, seed: Seed) -> Self {
        let v4 = |n: u8| IpAddr::from([11, 0, 200 + number, n]);
        let v6 = Ipv6Addr::new(0x2a0f, 0x200 + u16::from(number), 0, 0, 0, 0, 0, 1);
        let addresses = [v4(1), v4(2), v6.into()];
        let seed = seed.fork(&format!("server {number}"));
        let secret = RelaySecret::new(&seed.fork("secret").0);
        Self {
            relay: Box::new(machine(&addresses, &secret, seed.fork("run 0"), Now::default())),
            addresses,
            up: true,
            udp: true,
            secret,
            seed,
            restarts: 0,
            ports: BTreeMap::new(),
            opened: BTreeMap::new(),
            next: FIRST_PORT,
            streams: BTreeMap::new(),
        }
    }

    /// Its offer to a member: all ways, with credentials that are good until this Unix second.
    #[must_use]
    pub fn offer(&self, party: PartyId, peer: PeerId, expires: u64) -> RelayOffer {
        let addr = SocketAddr::new(self.addresses[0], PORTS[0]);
        let tls = SocketAddr::new(self.addresses[0], TLS_PORT);
        let name = addr.ip().to_string();
        let ways = [
            self.udp.then_some(RelayWay::Udp { addr }),
            Some(RelayWay::Tcp { addr }),
            Some(RelayWay::Tls { addr: tls, name, pin: None }),
        ];
        let (username, password) = self.secret.mint(Bearer { party, peer }, expires);
        let ways = ways.into_iter().flatten().collect();
        RelayOffer { ways, username, password, realm: REALM.to_owned(), expires: Some(expires) }
    }

    /// Whether a TCP connection to this address of it is answered.
    #[must_use]
    pub fn listens(&self, to: SocketAddr) -> bool {
        self.up && [PORTS[0], TLS_PORT].contains(&to.port())
    }

    /// How many allocations it holds.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.opened.len()
    }

    /// A stream came up.
    pub(super) fn connected(&mut self, number: u64, end: End, from: SocketAddr, to: SocketAddr) {
        let client = Client { addr: from, server: to, stream: Some(StreamId(number)) };
        self.streams.insert(number, (end, client));
    }

    fn hear(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8], now: Now) -> Vec<Out> {
        let (mut buffer, packet) = roomy(bytes);
        let mut sink = Sink { opened: &self.opened, out: Vec::new() };
        if let Some(port) = self.ports.get(&to) {
            self.relay.handle_peer(*port, from, &mut buffer, packet, now, &mut sink);
        } else if PORTS.contains(&to.port()) && self.udp {
            let client = Client { addr: from, server: to, stream: None };
            self.relay.handle_client(&client, &mut buffer, packet, now, &mut sink);
        }
        let out = sink.out;
        self.settle(out)
    }

    fn hear_stream(&mut self, number: u64, bytes: &[u8], now: Now) -> Vec<Out> {
        let Some((_, client)) = self.streams.get(&number) else { return Vec::new() };
        let (mut buffer, packet) = roomy(bytes);
        let mut sink = Sink { opened: &self.opened, out: Vec::new() };
        self.relay.handle_client(client, &mut buffer, packet, now, &mut sink);
        let out = sink.out;
        self.settle(out)
    }

    fn hang_up(&mut self, number: u64) -> Vec<Out> {
        if self.streams.remove(&number).is_some() {
            self.relay.handle_closed(StreamId(number));
        }
        self.settle(Vec::new())
    }

    fn tick(&mut self, now: Now) -> Vec<Out> {
        if self.relay.deadline().is_some_and(|d| d.at <= now.mono) {
            self.relay.handle_timeout(now);
        }
        self.settle(Vec::new())
    }

    /// Does what the machine wants done.
    fn settle(&mut self, mut out: Vec<Out>) -> Vec<Out> {
        while let Some(effect) = self.relay.poll_effect() {
            match effect {
                RelayEffect::OpenPort { port, family, even, .. } => {
                    let ip = self.addresses[if family == Family::V4 { 0 } else { 2 }];
                    let taken = |n: u16| self.ports.contains_key(&SocketAddr::new(ip, n));
                    let mut number = self.next;
                    while taken(number) || (even && !number.is_multiple_of(2)) {
                        number = number.wrapping_add(1).max(FIRST_PORT);
                    }
                    self.next = number.wrapping_add(1).max(FIRST_PORT);
                    let relayed = SocketAddr::new(ip, number);
                    self.ports.insert(relayed, port);
                    self.opened.insert(port, relayed);
                    let mut sink = Sink { opened: &self.opened, out: Vec::new() };
                    self.relay.handle_opened(port, Some(relayed), &mut sink);
                    out.append(&mut sink.out);
                }
                RelayEffect::ClosePort(port) => {
                    if let Some(relayed) = self.opened.remove(&port) {
                        self.ports.remove(&relayed);
                    }
                }
            }
        }
        out
    }

    /// Its process is killed; the streams that it had.
    fn go_down(&mut self) -> Vec<(End, u64)> {
        self.up = false;
        self.ports.clear();
        self.opened.clear();
        std::mem::take(&mut self.streams).into_iter().map(|(number, (end, _))| (end, number)).collect()
    }

    fn come_back(&mut self, now: Now) {
        if !std::mem::replace(&mut self.up, true) {
            self.restarts += 1;
            let seed = self.seed.fork(&format!("run {}", self.restarts));
            *self.relay = machine(&self.addresses, &self.secret, seed, now);
        }
    }
}

fn machine(addresses: &[IpAddr; 3], secret: &RelaySecret, seed: Seed, now: Now) -> Relay {
    let mut config = Config::new(secret.clone());
    config.own = addresses.to_vec();
    config.discovery = vec![[addresses[0], addresses[1]]];
    config.discovery_ports = Some(PORTS);
    Relay::new(config, seed, now)
}

/// A packet with the room in front of it that the machine asks for.
fn roomy(bytes: &[u8]) -> (Vec<u8>, std::ops::Range<usize>) {
    let buffer = [&[0; HEADROOM][..], bytes].concat();
    let packet = HEADROOM..buffer.len();
    (buffer, packet)
}

impl World {
    /// Puts a server on the internet.
    pub fn add_server(&mut self, server: Server) {
        let number = self.servers.len();
        for address in server.addresses {
            self.net.servers.insert(address, number);
        }
        self.servers.push(server);
        self.after(TICK, Event::Server(number));
    }

    /// What the servers offer to a computer's node.
    #[must_use]
    pub fn offers(&self, pc: usize) -> Vec<RelayOffer> {
        let expires = self.honest_now().unix.as_secs() + self.relay_life.as_secs();
        self.servers.iter().map(|s| s.offer(self.party.id, self.pcs[pc].id, expires)).collect()
    }

    pub(super) fn server_hears(&mut self, number: usize, flight: &Flight, bytes: &[u8]) {
        if self.servers[number].up {
            let now = self.honest_now();
            let out = self.servers[number].hear(flight.from, flight.to, bytes, now);
            self.server_says(number, out);
        }
    }

    pub(super) fn stream_data(&mut self, number: usize, stream: u64, bytes: &[u8]) {
        if self.servers[number].up {
            let now = self.honest_now();
            let out = self.servers[number].hear_stream(stream, bytes, now);
            self.server_says(number, out);
        }
    }

    pub(super) fn stream_end(&mut self, number: usize, stream: u64) {
        let out = self.servers[number].hang_up(stream);
        self.server_says(number, out);
    }

    pub(super) fn server_ticks(&mut self, number: usize) {
        if self.servers[number].up {
            let now = self.honest_now();
            let out = self.servers[number].tick(now);
            self.server_says(number, out);
        }
        self.after(TICK, Event::Server(number));
    }

    fn server_says(&mut self, number: usize, out: Vec<Out>) {
        for message in out {
            match message {
                Out::Udp { from, to, bytes } => {
                    if let Some(flight) = self.net.serve(number, from, to) {
                        self.fly(&flight, bytes);
                    }
                }
                Out::Stream { number: stream, bytes } => {
                    let end = self.servers[number].streams.get(&stream).map(|s| s.0);
                    if let Some(end) = end {
                        self.answer_stream(end, stream, bytes);
                    }
                }
            }
        }
    }

    /// A server's process is killed: its streams are reset, everything else is silence.
    pub(super) fn server_down(&mut self, number: usize) {
        let Some(server) = self.servers.get_mut(number) else { return };
        for ((pc, stream), number) in server.go_down() {
            let wait = self.net.wan.delay;
            self.after(wait, Event::StreamDown { pc, stream, number });
        }
    }

    pub(super) fn server_up(&mut self, number: usize) {
        let now = self.honest_now();
        if let Some(server) = self.servers.get_mut(number) {
            server.come_back(now);
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
