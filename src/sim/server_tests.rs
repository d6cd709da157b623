//! The relay as the simulated world drives it: by datagrams and by streams, with the credentials that members get.

use super::*;
use crate::model::time::Mono;
use crate::wire::stun::{Builder, Class, Key, Message, Method, Transaction};

fn now() -> Now {
    Now { mono: Mono(Duration::from_secs(5)), unix: Duration::from_secs(1_800_000_005) }
}

fn a(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn server() -> Server {
    Server::new(0, Seed::from_u64(1))
}

fn built(method: Method, class: Class, with: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Vec<u8> {
    let mut room = [0; 600];
    let message = Builder::new(&mut room, method, class, Transaction([7; 12]));
    let len = with(message).finish().unwrap();
    room[..len].to_vec()
}

/// The one answer, and from which address it leaves.
fn only(out: Vec<Out>) -> (Option<(SocketAddr, SocketAddr)>, Vec<u8>) {
    let mut out = out.into_iter();
    let first = out.next().expect("an answer");
    assert!(out.next().is_none(), "one answer");
    match first {
        Out::Udp { from, to, bytes } => (Some((from, to)), bytes),
        Out::Stream { bytes, .. } => (None, bytes),
    }
}

/// How a client reaches the server.
#[derive(Clone, Copy)]
enum By {
    Udp(SocketAddr),
    Stream(u64),
}

fn say(server: &mut Server, by: By, bytes: &[u8]) -> Vec<Out> {
    let to = SocketAddr::new(server.addresses[0], PORTS[0]);
    match by {
        By::Udp(from) => server.hear(from, to, bytes, now()),
        By::Stream(number) => server.hear_stream(number, bytes, now()),
    }
}

/// Allocates with these credentials: the relayed address, or the error.
fn allocate(server: &mut Server, by: By, offer: &RelayOffer) -> Result<SocketAddr, u16> {
    let ask = built(Method::Allocate, Class::Request, |m| m.requested_transport_udp());
    let (_, challenge) = only(say(server, by, &ask));
    let challenge = Message::parse(&challenge).unwrap();
    assert_eq!(challenge.error().map(|e| e.0), Some(401));
    let (realm, nonce) = (challenge.realm().unwrap(), challenge.nonce().unwrap());
    let key = Key::long_term(&offer.username, realm, &offer.password);
    let ask = built(Method::Allocate, Class::Request, |m| {
        m.requested_transport_udp().username(&offer.username).realm(realm).nonce(nonce).sign(&key)
    });
    let (_, answer) = only(say(server, by, &ask));
    let answer = Message::parse(&answer).unwrap();
    answer.relayed().ok_or_else(|| answer.error().unwrap().0)
}

fn offer(server: &Server, peer: u8, expires: u64) -> RelayOffer {
    server.offer(PartyId([1; 10]), PeerId([peer; 10]), expires)
}

#[test]
fn it_tells_where_one_comes_from_and_answers_from_its_other_address() {
    let mut s = server();
    let me = a("11.0.1.2:31000");
    let ask = built(Method::Binding, Class::Request, |m| m);
    let (way, answer) = only(say(&mut s, By::Udp(me), &ask));
    assert_eq!(Message::parse(&answer).unwrap().mapped(), Some(me));
    assert_eq!(way.unwrap().0, SocketAddr::new(s.addresses[0], 3478));
    let other = Message::parse(&answer).unwrap().other_address().unwrap();
    assert_eq!(other, SocketAddr::new(s.addresses[1], 3479));
    let ask = built(Method::Binding, Class::Request, |m| m.change_request(true, true));
    let (way, _) = only(say(&mut s, By::Udp(me), &ask));
    assert_eq!(way, Some((other, me)));
}

#[test]
fn members_allocate_by_datagrams_and_streams_and_nobody_else_does() {
    let mut s = server();
    let good = offer(&s, 1, now().unix.as_secs() + 60);
    let udp = By::Udp(a("11.0.1.2:31000"));
    let relayed = allocate(&mut s, udp, &good).unwrap();
    assert_eq!(relayed.ip(), s.addresses[0]);
    s.connected(9, (0, 3), a("11.0.4.2:500"), SocketAddr::new(s.addresses[0], TLS_PORT));
    let second = offer(&s, 2, now().unix.as_secs() + 60);
    let other = allocate(&mut s, By::Stream(9), &second).unwrap();
    assert_ne!(relayed, other);
    assert_eq!(s.allocations(), 2);
    let late = offer(&s, 3, now().unix.as_secs() - 1);
    assert_eq!(allocate(&mut s, By::Udp(a("11.0.3.2:1")), &late), Err(401));
    s.hang_up(9);
    assert_eq!(s.allocations(), 1, "what a stream had is gone with it");
}

#[test]
fn a_restart_forgets_allocations_and_streams() {
    let mut s = server();
    let good = offer(&s, 1, now().unix.as_secs() + 60);
    s.connected(9, (4, 3), a("11.0.4.2:500"), SocketAddr::new(s.addresses[0], TLS_PORT));
    allocate(&mut s, By::Stream(9), &good).unwrap();
    assert!(s.listens(SocketAddr::new(s.addresses[0], TLS_PORT)));
    assert_eq!(s.go_down(), [((4, 3), 9)]);
    assert!(!s.listens(SocketAddr::new(s.addresses[0], TLS_PORT)));
    s.come_back(now());
    assert_eq!(s.allocations(), 0);
    assert!(s.hear_stream(9, &[0; 20], now()).is_empty());
    allocate(&mut s, By::Udp(a("11.0.1.2:31000")), &good).unwrap();
}
