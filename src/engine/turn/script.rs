//! A TURN server for the machine tests: small, strict about what RFC 8656 asks of a client, and as unkind as it is told.

use crate::wire::stun::{Builder, Class, Key, Message, Method};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a client sent, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) class: Class,
    pub(super) signed: bool,
    pub(super) lifetime: Option<Duration>,
    pub(super) peers: Vec<SocketAddr>,
    pub(super) channel: Option<u16>,
}

/// One server and the one client it knows.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) users: Vec<(String, String)>,
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) relayed: SocketAddr,
    /// Where the client's datagrams come from: its router's address.
    pub(super) client: SocketAddr,
    pub(super) lifetime: Duration,
    /// Who allocated from which address.
    pub(super) allocation: Option<(SocketAddr, String)>,
    pub(super) channels: Vec<(u16, SocketAddr)>,
    pub(super) permitted: Vec<IpAddr>,
    /// An error for requests of this method that would succeed.
    pub(super) refuse: Vec<(Method, u16)>,
    /// Addresses that nobody may permit (403).
    pub(super) forbidden: Vec<IpAddr>,
    pub(super) alternate: Option<SocketAddr>,
    pub(super) silent: bool,
    /// Answers are signed with another key.
    pub(super) forged: bool,
    pub(super) seen: Vec<Seen>,
}

impl Script {
    pub(super) fn new() -> Self {
        Self {
            users: vec![("1:me".to_owned(), "secret".to_owned())],
            realm: "lanrage".to_owned(),
            nonce: "n1".to_owned(),
            relayed: "203.0.113.5:50000".parse().unwrap(),
            client: "198.51.100.7:40000".parse().unwrap(),
            lifetime: Duration::from_secs(600),
            allocation: None,
            channels: Vec::new(),
            permitted: Vec::new(),
            refuse: Vec::new(),
            forbidden: Vec::new(),
            alternate: None,
            silent: false,
            forged: false,
            seen: Vec::new(),
        }
    }

    /// The answer to a datagram.
    pub(super) fn answer(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let m = Message::parse(bytes).expect("clients send proper messages");
        self.seen.push(Seen {
            method: m.method(),
            class: m.class(),
            signed: m.is_signed(),
            lifetime: m.lifetime(),
            peers: m.peers().flatten().collect(),
            channel: m.channel(),
        });
        if self.silent || m.class() != Class::Request {
            return None;
        }
        let verdict = self.verdict(&m);
        let key = if self.forged { None } else { self.key_of(&m) };
        let key = key.unwrap_or_else(|| Key::long_term("nobody", &self.realm, "nothing"));
        let signed = m.is_signed();
        let mut room = [0u8; 1024];
        let class = if verdict.is_ok() { Class::Success } else { Class::Error };
        let b = Builder::new(&mut room, m.method(), class, m.transaction());
        let b = match verdict {
            Ok(()) => match m.method() {
                Method::Binding => b.mapped(self.client),
                Method::Allocate => b.relayed(self.relayed).mapped(self.client).lifetime(self.lifetime),
                Method::Refresh => b.lifetime(m.lifetime().unwrap_or(self.lifetime).min(self.lifetime)),
                Method::Send | Method::Data | Method::CreatePermission | Method::ChannelBind => b,
            },
            Err(code @ (401 | 438)) => b.error(code, "").realm(&self.realm).nonce(&self.nonce),
            Err(300) => b.error(300, "Try Alternate").alternate_server(self.alternate.unwrap()),
            Err(code) => b.error(code, "No"),
        };
        let bare = matches!(verdict, Err(401 | 438)) || !signed || m.method() == Method::Binding;
        let len = if bare { b.finish() } else { b.sign(&key).finish() }.unwrap();
        Some(room[..len].to_vec())
    }

    fn key_of(&self, m: &Message<'_>) -> Option<Key> {
        let (user, password) = self.users.iter().find(|(u, _)| Some(u.as_str()) == m.username())?;
        Some(Key::long_term(user, &self.realm, password))
    }

    fn verdict(&mut self, m: &Message<'_>) -> Result<(), u16> {
        if m.method() == Method::Binding {
            return Ok(());
        }
        if self.alternate.is_some() && m.method() == Method::Allocate {
            return Err(300);
        }
        if !m.is_signed() {
            return Err(401);
        }
        if m.nonce() != Some(&self.nonce) {
            return Err(438);
        }
        if !self.key_of(m).is_some_and(|key| m.verify(&key)) {
            return Err(401);
        }
        if let Some((_, code)) = self.refuse.iter().find(|(method, _)| *method == m.method()) {
            return Err(*code);
        }
        let user = m.username().unwrap().to_owned();
        if m.method() == Method::Allocate {
            assert_eq!(m.requested_transport(), Some(17));
            if self.allocation.as_ref().is_some_and(|(from, _)| *from == self.client) {
                return Err(437);
            }
            self.allocation = Some((self.client, user));
            self.channels.clear();
            self.permitted.clear();
            return Ok(());
        }
        match &self.allocation {
            Some((from, owner)) if *from == self.client => {
                if *owner != user {
                    return Err(441);
                }
            }
            _ => return Err(437),
        }
        self.act(m)
    }

    fn act(&mut self, m: &Message<'_>) -> Result<(), u16> {
        let peers: Vec<SocketAddr> = m.peers().map(|p| p.expect("a well-formed peer")).collect();
        if peers.iter().any(|p| self.forbidden.contains(&p.ip())) {
            return Err(403);
        }
        match m.method() {
            Method::Refresh if m.lifetime() == Some(Duration::ZERO) => self.allocation = None,
            Method::CreatePermission => {
                assert!(!peers.is_empty());
                self.permitted.extend(peers.iter().map(SocketAddr::ip));
            }
            Method::ChannelBind => {
                let pair = (m.channel().expect("a channel"), peers[0]);
                let clash = |(number, peer): &(u16, SocketAddr)| (*number == pair.0) != (*peer == pair.1);
                if self.channels.iter().any(clash) {
                    return Err(400);
                }
                self.channels.push(pair);
                self.permitted.push(pair.1.ip());
            }
            Method::Binding | Method::Allocate | Method::Refresh | Method::Send | Method::Data => {}
        }
        Ok(())
    }
}
