//! A TURN client of a few lines, made of our own codec: it can also do what no honest client does.

use lanrage::wire::channel;
use lanrage::wire::stun::{Builder, Class, Key, Message, Method, Transaction};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Longer than an answer takes, even on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// Long enough to be sure that there is none.
const NEVER: Duration = Duration::from_millis(300);

pub(crate) struct Turn {
    pub(crate) socket: UdpSocket,
    server: SocketAddr,
    user: String,
    key: Key,
    nonce: String,
    count: u32,
}

/// An answer: 0 for success, else its code; and the relayed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) relayed: Option<SocketAddr>,
}

impl Turn {
    pub(crate) async fn new(server: SocketAddr, (user, password): &(String, String)) -> Self {
        let socket = UdpSocket::bind((IpAddr::from([127, 0, 0, 1]), 0)).await.unwrap();
        let key = Key::long_term(user, "lanrage", password);
        let mut turn = Self { socket, server, user: user.clone(), key, nonce: String::new(), count: 0 };
        // Padded, as ours does, so that the relay owes an answer.
        let challenge = turn
            .exchange(Method::Allocate, false, |b| b.requested_transport_udp().software(&"x".repeat(40)))
            .await;
        let message = Message::parse(&challenge).unwrap();
        assert_eq!((message.error().map(|e| e.0), message.realm()), (Some(401), Some("lanrage")));
        turn.nonce = message.nonce().unwrap().to_owned();
        turn
    }

    pub(crate) async fn allocate(&mut self) -> Answer {
        self.ask(Method::Allocate, |b| b.requested_transport_udp()).await
    }

    pub(crate) async fn bind(&mut self, channel: u16, peer: SocketAddr) -> u16 {
        self.ask(Method::ChannelBind, |b| b.channel(channel).peer(peer)).await.code
    }

    pub(crate) async fn permit(&mut self, peer: SocketAddr) -> u16 {
        self.ask(Method::CreatePermission, |b| b.peer(peer)).await.code
    }

    pub(crate) async fn refresh(&mut self, secs: u64) -> u16 {
        self.ask(Method::Refresh, |b| b.lifetime(Duration::from_secs(secs))).await.code
    }

    pub(crate) async fn ask(
        &mut self,
        method: Method,
        fill: impl for<'b> Fn(Builder<'b>) -> Builder<'b>,
    ) -> Answer {
        let bytes = self.exchange(method, true, fill).await;
        let message = Message::parse(&bytes).unwrap();
        Answer { code: message.error().map_or(0, |(code, _)| code), relayed: message.relayed() }
    }

    pub(crate) async fn send(&self, channel: u16, data: &[u8]) {
        let mut bytes = vec![0; channel::HEADER];
        assert!(channel::write_header(&mut bytes, channel, data.len()));
        bytes.extend_from_slice(data);
        self.socket.send_to(&bytes, self.server).await.unwrap();
    }

    /// The next ChannelData.
    pub(crate) async fn hear(&self) -> Option<(u16, Vec<u8>)> {
        let mut buffer = [0; 2048];
        let (n, _) = timeout(NEVER * 10, self.socket.recv_from(&mut buffer)).await.ok()?.unwrap();
        let (number, range) = channel::read(&buffer[..n], false)?;
        Some((number, buffer[range].to_vec()))
    }

    pub(crate) async fn hears_nothing(&self) {
        let mut buffer = [0; 2048];
        let heard = timeout(NEVER, self.socket.recv_from(&mut buffer)).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    async fn exchange(
        &mut self,
        method: Method,
        signed: bool,
        fill: impl for<'b> Fn(Builder<'b>) -> Builder<'b>,
    ) -> Vec<u8> {
        self.count += 1;
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.count.to_be_bytes());
        let mut room = [0; 1024];
        let mut builder = fill(Builder::new(&mut room, method, Class::Request, Transaction(id)));
        if signed {
            builder = builder.username(&self.user).realm("lanrage").nonce(&self.nonce).sign(&self.key);
        }
        let length = builder.finish().unwrap();
        let mut buffer = [0; 2048];
        for _ in 0..20 {
            self.socket.send_to(&room[..length], self.server).await.unwrap();
            let Ok(heard) = timeout(SOON / 20, self.socket.recv_from(&mut buffer)).await else { continue };
            let answer = &buffer[..heard.unwrap().0];
            if Message::parse(answer).is_ok_and(|m| m.transaction() == Transaction(id)) {
                return answer.to_vec();
            }
        }
        panic!("no answer to {method:?}");
    }
}
