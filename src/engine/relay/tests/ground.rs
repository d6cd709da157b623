//! A relay with a clock, a shell that opens ports, ears on all sides, and clients with credentials.

use super::super::*;
use crate::wire::credential::Bearer;
use crate::wire::stun::{Builder, Class, Key, Message, Method, Transaction};

pub(super) const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(11, 0, 0, 9)), 4000);
const UNIX: u64 = 1_800_000_000;

/// A client: where it is, whose it is, until when (seconds from the start) its credentials are good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) address: SocketAddr,
    pub(super) party: u8,
    pub(super) peer: u8,
    pub(super) expires: u64,
    pub(super) stream: Option<StreamId>,
}

const fn who(party: u8, peer: u8) -> Who {
    let ip = IpAddr::V4(std::net::Ipv4Addr::new(12, 0, party, peer));
    Who { address: SocketAddr::new(ip, 5000), party, peer, expires: 43_200, stream: None }
}

pub(super) const ANA: Who = who(1, 1);
pub(super) const BOB: Who = who(1, 2);
/// Of another party.
pub(super) const EVE: Who = who(2, 3);

impl Who {
    pub(super) fn at_port(&self, port: u16) -> Self {
        Self { address: SocketAddr::new(self.address.ip(), port), ..*self }
    }

    pub(super) fn bearer(&self) -> Bearer {
        Bearer { party: PartyId([self.party; 10]), peer: PeerId([self.peer; 10]) }
    }
}

/// An answer, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// 0: success.
    pub(super) code: u16,
    pub(super) realm: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) relayed: Option<SocketAddr>,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) origin: Option<SocketAddr>,
    pub(super) other: Option<SocketAddr>,
    pub(super) lifetime: Option<u64>,
    pub(super) unknown: Vec<u16>,
    pub(super) signed: bool,
    pub(super) length: usize,
    pub(super) from: Option<SocketAddr>,
    pub(super) to: Option<SocketAddr>,
}

/// What left the relay.
#[derive(Debug, Default)]
pub(super) struct Ears {
    pub(super) clients: Vec<(Client, Vec<u8>)>,
    pub(super) peers: Vec<(PortId, SocketAddr, Vec<u8>)>,
}

impl RelaySink for Ears {
    fn to_client(&mut self, client: &Client, bytes: &[u8]) {
        self.clients.push((*client, bytes.to_vec()));
    }

    fn to_peer(&mut self, port: PortId, peer: SocketAddr, bytes: &[u8]) {
        self.peers.push((port, peer, bytes.to_vec()));
    }
}

pub(super) struct Ground {
    pub(super) relay: Relay,
    pub(super) now: Now,
    pub(super) ears: Ears,
    pub(super) server: SocketAddr,
    pub(super) public: IpAddr,
    pub(super) opened: Vec<RelayEffect>,
    pub(super) closed: usize,
    pub(super) refuse_ports: bool,
    pub(super) secret: RelaySecret,
    last: Vec<u8>,
    transactions: u64,
}

pub(super) fn config() -> Config {
    let own = vec![IpAddr::from([13, 0, 0, 1]), IpAddr::from([10, 1, 1, 1])];
    Config { own, ..Config::new(RelaySecret::new(b"north")) }
}

impl Ground {
    pub(super) fn new(config: Config) -> Self {
        let now = Now { mono: Mono(Duration::from_secs(50)), unix: Duration::from_secs(UNIX) };
        Self {
            secret: config.secret.clone(),
            relay: Relay::new(config, Seed::from_u64(1), now),
            now,
            ears: Ears::default(),
            server: "13.0.0.1:3478".parse().unwrap(),
            public: IpAddr::from([13, 0, 0, 1]),
            opened: Vec::new(),
            closed: 0,
            refuse_ports: false,
            last: Vec::new(),
            transactions: 0,
        }
    }

    pub(super) fn client(&self, who: &Who) -> Client {
        Client { addr: who.address, server: self.server, stream: who.stream }
    }

    /// Gives the relay a client's bytes as a shell does: with headroom.
    pub(super) fn hear(&mut self, who: &Who, bytes: &[u8]) {
        let mut buffer = vec![0xee; HEADROOM];
        buffer.extend_from_slice(bytes);
        let (client, end) = (self.client(who), buffer.len());
        self.relay.handle_client(&client, &mut buffer, HEADROOM..end, self.now, &mut self.ears);
        self.drain();
    }

    pub(super) fn hear_peer(&mut self, port: PortId, from: SocketAddr, bytes: &[u8]) {
        let mut buffer = vec![0xee; HEADROOM];
        buffer.extend_from_slice(bytes);
        let end = buffer.len();
        self.relay.handle_peer(port, from, &mut buffer, HEADROOM..end, self.now, &mut self.ears);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(effect) = self.relay.poll_effect() {
            match effect {
                RelayEffect::OpenPort { port, family, .. } => {
                    let number = 50_000 + u16::try_from(port.0).unwrap();
                    let ip = if family == Family::V4 { self.public } else { "2a0f:9::1".parse().unwrap() };
                    let relayed = (!self.refuse_ports).then_some(SocketAddr::new(ip, number));
                    self.opened.push(effect);
                    self.relay.handle_opened(port, relayed, &mut self.ears);
                }
                RelayEffect::ClosePort(_) => self.closed += 1,
            }
        }
    }

    pub(super) fn open_ports(&self) -> usize {
        self.opened.len() - self.closed
    }

    /// Lets time pass, waking the relay whenever it wants to be woken.
    pub(super) fn pass(&mut self, secs: u64) {
        let end = self.now.plus(Duration::from_secs(secs));
        while let Some(deadline) = self.relay.deadline().filter(|d| d.at <= end.mono) {
            self.now = self.now.plus(deadline.at.since(self.now.mono));
            self.relay.handle_timeout(self.now);
            self.drain();
            assert!(self.relay.deadline().is_none_or(|d| d != deadline), "a busy loop: {deadline:?}");
        }
        self.now = end;
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.relay.numbers().iter().find(|(n, _)| *n == name).map(|(_, v)| *v).unwrap()
    }

    fn transaction(&mut self) -> Transaction {
        self.transactions += 1;
        let [a, b, c, d, e, f, g, h] = self.transactions.to_be_bytes();
        Transaction([9, 9, 9, 9, a, b, c, d, e, f, g, h])
    }

    /// An unsigned request.
    pub(super) fn ask(
        &mut self,
        who: &Who,
        method: Method,
        fill: impl for<'b> FnOnce(Builder<'b>) -> Builder<'b>,
    ) -> Heard {
        let mut room = [0; 2048];
        let transaction = self.transaction();
        let length = fill(Builder::new(&mut room, method, Class::Request, transaction)).finish().unwrap();
        self.exchange(who, &room[..length]).unwrap_or_default()
    }

    /// A request with proofs; gets a nonce first.
    pub(super) fn ask_signed(
        &mut self,
        who: &Who,
        method: Method,
        fill: impl for<'b> FnOnce(Builder<'b>) -> Builder<'b>,
    ) -> Heard {
        let (username, password) = self.secret.mint(who.bearer(), UNIX + who.expires);
        self.ask_as(who, method, (&username, &password), fill)
    }

    pub(super) fn ask_as(
        &mut self,
        who: &Who,
        method: Method,
        (username, password): (&str, &str),
        fill: impl for<'b> FnOnce(Builder<'b>) -> Builder<'b>,
    ) -> Heard {
        let nonce =
            self.ask(who, Method::Allocate, |b| b.requested_transport_udp().software(&"x".repeat(60))).nonce;
        let nonce = nonce.expect("a padded request is always challenged");
        let key = Key::long_term(username, REALM, password);
        let mut room = [0; 2048];
        let transaction = self.transaction();
        let length = fill(Builder::new(&mut room, method, Class::Request, transaction))
            .username(username)
            .realm(REALM)
            .nonce(&nonce)
            .sign(&key)
            .finish()
            .unwrap();
        self.last = room[..length].to_vec();
        let bytes = self.last.clone();
        let heard = self.exchange(who, &bytes).unwrap_or_default();
        let verified = self.ears.clients.last().is_some_and(|(_, b)| Message::parse(b).unwrap().verify(&key));
        assert_eq!(heard.signed, verified, "whoever proved itself gets signed answers");
        heard
    }

    /// The last signed request once more.
    pub(super) fn repeat(&mut self, who: &Who) -> Heard {
        let bytes = self.last.clone();
        self.exchange(who, &bytes).unwrap()
    }

    pub(super) fn exchange(&mut self, who: &Who, bytes: &[u8]) -> Option<Heard> {
        self.ears.clients.clear();
        self.hear(who, bytes);
        let (client, answer) = self.ears.clients.last()?;
        let message = Message::parse(answer).expect("an answer");
        let asked = Message::parse(bytes).expect("a request");
        assert_eq!((message.transaction(), message.method()), (asked.transaction(), asked.method()));
        let text = |t: Option<&str>| t.map(str::to_owned);
        Some(Heard {
            code: message.error().map_or(0, |(code, _)| code),
            realm: text(message.realm()),
            nonce: text(message.nonce()),
            relayed: message.relayed(),
            mapped: message.mapped(),
            origin: message.response_origin(),
            other: message.other_address(),
            lifetime: message.lifetime().map(|l| l.as_secs()),
            unknown: unknown_attributes(answer),
            signed: message.is_signed(),
            length: answer.len(),
            from: Some(client.server),
            to: Some(client.addr),
        })
    }

    pub(super) fn allocate(&mut self, who: &Who) -> Result<SocketAddr, u16> {
        let heard = self.ask_signed(who, Method::Allocate, |b| b.requested_transport_udp());
        heard.relayed.ok_or(heard.code)
    }

    /// With another transport than UDP, which the builder cannot write.
    pub(super) fn allocate_over(&mut self, who: &Who, transport: u8) -> Heard {
        self.ask_signed_raw(who, Method::Allocate, &[0x00, 0x19, 0, 4, transport, 0, 0, 0])
    }

    pub(super) fn ask_signed_with_unknown(&mut self, who: &Who, kind: u16) -> Heard {
        let [a, b] = kind.to_be_bytes();
        self.ask_signed_raw(who, Method::Allocate, &[a, b, 0, 4, 1, 2, 3, 4])
    }

    /// A signed request with an attribute of these bytes in front.
    fn ask_signed_raw(&mut self, who: &Who, method: Method, attribute: &[u8]) -> Heard {
        let nonce = self
            .ask(who, Method::Allocate, |b| b.requested_transport_udp().software(&"x".repeat(60)))
            .nonce
            .unwrap();
        let (username, password) = self.secret.mint(who.bearer(), UNIX + who.expires);
        let key = Key::long_term(&username, REALM, &password);
        let mut room = [0; 2048];
        let transaction = self.transaction();
        // SOFTWARE of the attribute's length holds its place; it is written over before the signature is made anew.
        let length = Builder::new(&mut room, method, Class::Request, transaction)
            .username(&username)
            .realm(REALM)
            .nonce(&nonce)
            .finish()
            .unwrap();
        let mut bytes = room[..length].to_vec();
        bytes.extend_from_slice(attribute);
        sign(&mut bytes, &username, &password);
        assert!(Message::parse(&bytes).unwrap().verify(&key));
        self.exchange(who, &bytes).unwrap()
    }

    pub(super) fn refresh(&mut self, who: &Who, lifetime: Option<u64>) -> Heard {
        self.ask_signed(who, Method::Refresh, |b| match lifetime {
            Some(secs) => b.lifetime(Duration::from_secs(secs)),
            None => b,
        })
    }

    pub(super) fn permit(&mut self, who: &Who, peer: SocketAddr) -> Heard {
        self.ask_signed(who, Method::CreatePermission, |b| b.peer(peer))
    }

    pub(super) fn bind(&mut self, who: &Who, channel: u16, peer: SocketAddr) -> Heard {
        self.ask_signed(who, Method::ChannelBind, |b| b.channel(channel).peer(peer))
    }

    pub(super) fn port(&self, who: &Who) -> PortId {
        *self.relay.by_client.get(&self.client(who)).unwrap()
    }
}

/// Appends MESSAGE-INTEGRITY, for messages that the builder cannot write.
pub(super) fn sign(bytes: &mut Vec<u8>, username: &str, password: &str) {
    crate::wire::stun::sign_by_hand(bytes, &Key::long_term(username, REALM, password));
}

fn unknown_attributes(message: &[u8]) -> Vec<u16> {
    let mut at = 20;
    while let Some(&[k0, k1, l0, l1]) = message.get(at..).and_then(|b| b.first_chunk::<4>()) {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if u16::from_be_bytes([k0, k1]) == 0x000a {
            let value = &message[at + 4..at + 4 + length];
            return value.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
        }
        at += 4 + length.next_multiple_of(4);
    }
    Vec::new()
}
