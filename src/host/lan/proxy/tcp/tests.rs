//! Two of them joined back to back, with real programs on loopback at both ends.

mod bulk;
mod ends;
mod hostile;
mod measure;

use super::*;
use crate::model::dice::{Dice, Seed};
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::net::TcpListener;

const MTU: u16 = 1_380;

/// The wire between them.
struct Net {
    dice: Dice,
    lost_per_mille: u32,
    late_per_mille: u32,
    /// Packets that others overtake: to the host or not, after how many rounds.
    late: Vec<(bool, Vec<u8>, u32)>,
    carried: u64,
    cut: bool,
    /// How long every packet takes.
    delay: Option<Duration>,
    under_way: VecDeque<(Instant, bool, Vec<u8>)>,
}

impl Net {
    fn new() -> Self {
        let dice = Seed::from_u64(1).dice("net");
        Self {
            dice,
            lost_per_mille: 0,
            late_per_mille: 0,
            late: Vec::new(),
            carried: 0,
            cut: false,
            delay: None,
            under_way: VecDeque::new(),
        }
    }
}

/// A host, where the game runs, and a guest.
struct Pair {
    host: Tcp,
    guest: Tcp,
    net: Net,
}

/// Addresses that no other test uses at the same time.
fn subnet() -> [u8; 3] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [hi, lo] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = u8::try_from(std::process::id() % 100).unwrap() * 2 + 20;
    [10, process + (hi & 1), lo]
}

fn at(subnet: [u8; 3], seat: u8) -> Ipv4Addr {
    let [a, b, c] = subnet;
    Ipv4Addr::new(a, b, c, seat)
}

impl Pair {
    fn new() -> Self {
        let net = subnet();
        Self { host: Tcp::new(at(net, 2), MTU), guest: Tcp::new(at(net, 3), MTU), net: Net::new() }
    }

    /// A listener of the guest for the host's game at this port.
    fn door(&mut self, port: u16) -> SocketAddrV4 {
        let to = SocketAddrV4::new(self.host.us, port);
        self.guest.open(to).unwrap()
    }

    /// Everything there is to carry, once.
    fn carry(&mut self) -> bool {
        let mut room = [0; 2_048];
        let mut moved = false;
        for to_host in [true, false] {
            for _ in 0..64 {
                let from = if to_host { &mut self.guest } else { &mut self.host };
                let Some(len) = from.next(&mut room) else { break };
                moved = true;
                self.deliver(to_host, &room[..len]);
            }
        }
        let mut due = Vec::new();
        self.net.late.retain_mut(|(to_host, packet, rounds)| {
            *rounds -= 1;
            if *rounds == 0 {
                due.push((*to_host, std::mem::take(packet)));
            }
            *rounds > 0
        });
        while self.net.under_way.front().is_some_and(|(at, ..)| *at <= Instant::now()) {
            let arrived = self.net.under_way.pop_front();
            due.extend(arrived.map(|(_, to_host, packet)| (to_host, packet)));
        }
        for (to_host, packet) in due {
            moved = true;
            self.hand(to_host, &packet);
        }
        moved || !self.net.late.is_empty() || !self.net.under_way.is_empty()
    }

    fn deliver(&mut self, to_host: bool, packet: &[u8]) {
        assert!(packet.len() <= usize::from(MTU), "a packet that does not fit the tunnel");
        let net = &mut self.net;
        if net.cut || net.dice.chance(net.lost_per_mille) {
            return;
        }
        if net.dice.chance(net.late_per_mille) {
            let rounds = net.dice.range(1, 3);
            net.late.push((to_host, packet.to_vec(), rounds));
            return;
        }
        if let Some(delay) = net.delay {
            net.under_way.push_back((Instant::now() + delay, to_host, packet.to_vec()));
            return;
        }
        self.hand(to_host, packet);
    }

    fn hand(&mut self, to_host: bool, packet: &[u8]) {
        self.net.carried += 1;
        let to = if to_host { &mut self.host } else { &mut self.guest };
        to.take(packet);
    }

    /// Runs both until this is done.
    async fn during<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            let mut busy = true;
            for _ in 0..32 {
                self.host.turn();
                self.guest.turn();
                busy = self.carry();
                if !busy {
                    break;
                }
            }
            let ready = self.host.poll_ready(cx).is_ready() | self.guest.poll_ready(cx).is_ready();
            if busy || ready {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Runs both for a while.
    async fn pass(&mut self, time: Duration) {
        self.during(tokio::time::sleep(time)).await;
    }

    /// Runs both until neither has a connection left.
    async fn settle(&mut self) {
        for _ in 0..500 {
            if self.host.lines.len() + self.guest.lines.len() == 0 {
                return;
            }
            self.pass(Duration::from_millis(10)).await;
        }
        panic!("connections are left: {:?} {:?}", self.host, self.guest);
    }

    /// A connection from a program of the guest to the host's game: both ends.
    async fn connected(&mut self) -> (TcpStream, TcpStream) {
        let game = game();
        let door = self.door(port(&game));
        let both = async { tokio::try_join!(TcpStream::connect(door), game.accept()) };
        let (program, (game, _)) = self.during(both).await.unwrap();
        // The system accepts before the peer has.
        let opening = |tcp: &Tcp| tcp.lines.iter().any(|line| line.half_open.is_some());
        while opening(&self.host) || opening(&self.guest) {
            self.pass(Duration::from_millis(1)).await;
        }
        (program, game)
    }
}

/// A game whose queue takes all who come at once: one of 128, as tokio makes it, resets some of three hundred on a fast computer.
fn game() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket.listen(1_024).unwrap()
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// Bytes that show where one is missing.
fn pattern(len: usize, salt: u32) -> Vec<u8> {
    let mut x = 0x9e37_79b9_u32 ^ salt;
    let byte = |_| {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x.to_be_bytes()[0]
    };
    (0..len).map(byte).collect()
}
