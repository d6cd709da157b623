//! A relay's machine with clients that have allocations and channels, and no network: for tests and benches.
#![allow(dead_code, unreachable_pub, reason = "every test takes what it needs")]

use lanrage::engine::relay::{Client, Config, HEADROOM, PortId, REALM, Rate, Relay, RelayEffect, RelaySink};
use lanrage::model::dice::Seed;
use lanrage::model::id::{PartyId, PeerId};
use lanrage::model::time::{Mono, Now};
use lanrage::wire::channel;
use lanrage::wire::credential::{Bearer, RelaySecret};
use lanrage::wire::stun::{Builder, Class, Key, Message, Method, Transaction};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes that are passed on.
pub const PAYLOAD: usize = 200;
/// The channel of every client to its peer; the next one leads from client 0 to client 1.
pub const CHANNEL: u16 = 0x4000;

/// Keeps the last answer, and looks at the rest.
#[derive(Debug, Default)]
pub struct Sink(Vec<u8>, bool);

impl RelaySink for Sink {
    fn to_client(&mut self, client: &Client, bytes: &[u8]) {
        if self.1 {
            self.0 = bytes.to_vec();
        }
        black_box((client, bytes));
    }

    fn to_peer(&mut self, port: PortId, peer: SocketAddr, bytes: &[u8]) {
        black_box((port, peer, bytes));
    }
}

/// The relay and what its clients were given.
#[derive(Debug)]
pub struct Stage {
    pub relay: Relay,
    pub now: Now,
    relayed: Vec<SocketAddr>,
}

/// One client.
pub fn client(n: u32) -> Client {
    let [_, b, c, d] = n.to_be_bytes();
    Client {
        addr: SocketAddr::from(([12, b, c, d], 5000)),
        server: "13.0.0.1:3478".parse().expect("an address"),
        stream: None,
    }
}

impl Stage {
    /// So many clients, each with a channel to its peer, without any pace.
    pub fn new(allocations: u32) -> Self {
        let now = Now { mono: Mono(Duration::from_secs(9)), unix: Duration::from_secs(1_800_000_000) };
        let mut config = Config::new(RelaySecret::new(b"north"));
        config.own = vec!["13.0.0.1".parse().expect("an address")];
        (config.limits.party_rate, config.limits.address_rate) = (Rate::UNLIMITED, Rate::UNLIMITED);
        let secret = config.secret.clone();
        let mut stage = Self { relay: Relay::new(config, Seed::from_u64(1), now), now, relayed: Vec::new() };
        for n in 0..allocations {
            let bearer = Bearer {
                party: PartyId([(n / 250).to_be_bytes()[3]; 10]),
                peer: PeerId([n.to_be_bytes()[3]; 10]),
            };
            let credentials = secret.mint(bearer, 1_800_009_000);
            stage.ask(n, &credentials, Method::Allocate, |b| b.requested_transport_udp());
            stage.ask(n, &credentials, Method::ChannelBind, |b| b.channel(CHANNEL).peer(peer(n)));
        }
        // The first two are of one party and bind each other as well.
        for (n, other) in [(0, 1), (1, 0)] {
            let bearer = Bearer { party: PartyId([0; 10]), peer: PeerId([n; 10]) };
            if let Some(to) = stage.relayed.get(other).copied() {
                let credentials = secret.mint(bearer, 1_800_009_000);
                stage.ask(n.into(), &credentials, Method::ChannelBind, |b| b.channel(CHANNEL + 1).peer(to));
            }
        }
        stage
    }

    fn ask(
        &mut self,
        n: u32,
        (user, password): &(String, String),
        method: Method,
        fill: impl for<'b> FnOnce(Builder<'b>) -> Builder<'b>,
    ) {
        let mut sink = Sink(Vec::new(), true);
        let mut room = [0; 512];
        let first = Builder::new(&mut room, Method::Allocate, Class::Request, Transaction([1; 12]));
        let length = first.requested_transport_udp().software(&"x".repeat(60)).finish().expect("it fits");
        self.hear(n, room.get(..length).expect("as long as written"), &mut sink);
        let nonce =
            Message::parse(&sink.0).ok().and_then(|m| m.nonce().map(str::to_owned)).expect("a challenge");
        let key = Key::long_term(user, REALM, password);
        let builder = fill(Builder::new(&mut room, method, Class::Request, Transaction([2; 12])));
        let length = builder.username(user).realm(REALM).nonce(&nonce).sign(&key).finish().expect("it fits");
        self.hear(n, room.get(..length).expect("as long as written"), &mut sink);
        let message = Message::parse(&sink.0).expect("an answer");
        assert_eq!(message.error(), None, "{method:?}");
    }

    fn hear(&mut self, n: u32, bytes: &[u8], sink: &mut Sink) {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(bytes);
        let end = buffer.len();
        self.relay.handle_client(&client(n), &mut buffer, HEADROOM..end, self.now, sink);
        while let Some(effect) = self.relay.poll_effect() {
            if let RelayEffect::OpenPort { port, .. } = effect {
                let relayed =
                    SocketAddr::from(([13, 0, 0, 1], 50_000 + u16::try_from(port.0).expect("few ports")));
                self.relayed.push(relayed);
                self.relay.handle_opened(port, Some(relayed), sink);
            }
        }
    }
}

/// The peer of a client.
pub fn peer(n: u32) -> SocketAddr {
    let [_, b, c, d] = n.to_be_bytes();
    SocketAddr::from(([11, b, c, d], 4000))
}

/// `PAYLOAD` bytes on a channel, behind the room that the relay wants.
pub fn framed(number: u16) -> Vec<u8> {
    let mut buffer = vec![7; HEADROOM + channel::HEADER + PAYLOAD];
    assert!(channel::write_header(buffer.get_mut(HEADROOM..).expect("long enough"), number, PAYLOAD));
    buffer
}
