//! The tunnel's sockets on real links: datagrams that must not be cut, and links that carry less than others. In network
//! namespaces of the test's own. Needs root; without it each test says so and returns, or panics when
//! `LANRAGE_LAB=must`.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world use it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics says where")]

#[path = "lab_support/netns.rs"]
mod netns;

use lanrage::engine::sink::WanSink;
use lanrage::host::udp::{SendBatches, Sockets, bind};
use lanrage::model::addr::{Endpoint, Via};
use netns::{Elsewhere, ip};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

/// 1,428 bytes of UDP payload are 1,456 of IPv4 and 1,476 of IPv6: too long for a link of 1,400, not for one of 1,500.
const LONG: usize = 1428;
const NARROW: usize = 1300;

fn lab<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    if !netns::possible() {
        return;
    }
    netns::inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body());
    });
}

/// This computer, a router, and a link of 1,400 bytes to the far end, which writes down the length of all it hears.
struct Line {
    _router: Elsewhere,
    far: Elsewhere,
    sends: SendBatches<Rc<Sockets>>,
    sockets: Rc<Sockets>,
}

impl Line {
    fn new() -> Self {
        let (router, far) = (Elsewhere::new(), Elsewhere::new());
        // Nobody asks for two seconds whether somebody else has an address.
        let trust = || {
            for scope in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0").unwrap();
            }
        };
        trust();
        router.run(trust);
        far.run(trust);
        router.cable("eth0", "lan0");
        let namespace = far.path();
        router.run(move || {
            ip("link add wan0 mtu 1400 type veth peer name far0 mtu 1400");
            ip(&format!("link set far0 netns {namespace}"));
            for (card, v4, v6) in
                [("lan0", "192.168.7.1/24", "fd00:7::1/64"), ("wan0", "192.168.8.1/24", "fd00:8::1/64")]
            {
                ip(&format!("addr add {v4} dev {card}"));
                ip(&format!("addr add {v6} dev {card} nodad"));
                ip(&format!("link set {card} up"));
            }
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        far.run(|| Self::own("far0", 8, 2));
        Self::own("eth0", 7, 2);
        let sockets = Sockets::open(bind(&[], None).unwrap()).unwrap();
        Self { _router: router, far, sends: SendBatches::new(sockets.clone()), sockets }
    }

    fn own(card: &str, net: u8, host: u8) {
        ip(&format!("addr add 192.168.{net}.{host}/24 dev {card}"));
        ip(&format!("addr add fd00:{net}::{host}/64 dev {card} nodad"));
        ip(&format!("link set {card} up"));
        ip(&format!("route add default via 192.168.{net}.1"));
        ip(&format!("-6 route add default via fd00:{net}::1"));
    }

    fn listen(&self, at: &str) -> (UdpSocket, SocketAddr) {
        let at: SocketAddr = at.parse().unwrap();
        let socket = self.far.run(move || UdpSocket::bind(at).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        (socket.try_clone().unwrap(), socket.local_addr().unwrap())
    }

    fn put(&mut self, to: Endpoint, len: usize, whole: bool) {
        self.sends.reserve(to, len).unwrap().fill(7);
        if whole {
            self.sends.commit_whole(len)
        } else {
            self.sends.commit(len)
        }
        self.sends.flush();
    }
}

/// The lengths of what comes, until nothing does for a while.
fn heard(socket: &UdpSocket) -> Vec<usize> {
    let mut room = [0; 2000];
    std::iter::from_fn(|| socket.recv(&mut room).ok()).collect()
}

#[test]
fn a_whole_datagram_is_not_cut_on_the_way_and_any_other_is() {
    lab(|| async {
        let mut line = Line::new();
        for at in ["192.168.8.2:4000", "[fd00:8::2]:4000"] {
            let (far, to) = line.listen(at);
            line.sockets.open_extra(0, 1, to.is_ipv6());
            for via in [Via::Main, Via::Extra(0)] {
                let to = Endpoint { via, to };
                line.put(to, NARROW, true);
                assert_eq!(heard(&far), [NARROW], "{to:?}: what fits arrives");
                // The first tells this computer's kernel that the way is narrow; the second is sent all the same.
                line.put(to, LONG, true);
                line.put(to, LONG, true);
                assert_eq!(heard(&far), [0; 0], "{to:?}: what does not fit does not");
                line.put(to, LONG, false);
                line.put(to, LONG, false);
                assert_eq!(heard(&far), [LONG, LONG], "{to:?}: cut, it fits");
                line.put(to, NARROW, true);
                assert_eq!(heard(&far), [NARROW], "{to:?}");
            }
            line.sockets.close_extra(0, 1, None);
        }
        let counts = line.sends.counts();
        assert_eq!((counts.failed, counts.too_big), (0, 0), "the first link carried them all: {counts:?}");
        assert!(line.sends.pop_failed().is_none());
    });
}

#[test]
fn a_whole_datagram_beyond_the_own_link_is_dropped_and_counted() {
    lab(|| async {
        let mut line = Line::new();
        ip("link set eth0 mtu 1400");
        for at in ["192.168.8.2:4000", "[fd00:8::2]:4000"] {
            let (far, to) = line.listen(at);
            let to = Endpoint::main(to);
            let before = line.sends.counts().too_big;
            line.put(to, LONG, true);
            assert_eq!(line.sends.counts().too_big - before, 1);
            line.put(to, LONG, false);
            line.put(to, NARROW, true);
            assert_eq!(heard(&far), [LONG, NARROW], "{to:?}");
        }
        assert_eq!(line.sends.counts().failed, 0);
        assert!(line.sends.pop_failed().is_none(), "too long is no failure of the way");
    });
}

#[test]
fn the_sockets_outlive_a_move_to_another_network() {
    lab(|| async {
        let mut line = Line::new();
        let (far, to) = line.listen("192.168.8.2:4000");
        let to = Endpoint::main(to);
        line.put(to, 100, false);
        assert_eq!(heard(&far), [100]);
        ip("link set eth0 down");
        line.put(to, 100, false);
        assert_eq!(line.sends.pop_failed(), Some(to.to), "no network: the way is out of reach");
        ip("addr flush dev eth0");
        ip("addr add 192.168.7.77/24 dev eth0");
        ip("link set eth0 up");
        ip("route add default via 192.168.7.1");
        line.put(to, 101, false);
        let (mut room, mut from) = ([0; 2000], None);
        if let Ok((_, sender)) = far.recv_from(&mut room) {
            from = Some(sender.ip());
        }
        assert_eq!(from, Some("192.168.7.77".parse().unwrap()), "by the new address");
    });
}
