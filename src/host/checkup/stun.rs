//! Asks servers how they see this computer, from sockets of its own, and lets the node's own prober (`engine::nat`) draw the
//! conclusions. Ends when nothing is left to be asked, or when the time is up.

use crate::engine::nat::Probe;
use crate::host::clock::HostClock;
use crate::model::dice::Dice;
use crate::model::nat::NatFacts;
use crate::model::time::Mono;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

/// The longest STUN message of ours.
const REQUEST: usize = 256;
/// The longest answer that is read.
const ANSWER: usize = 1500;
/// Datagrams that are looked at, whoever sends them.
const DATAGRAMS: usize = 4096;

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The facts about IPv4.
    pub v4: NatFacts,
    /// And about IPv6.
    pub v6: NatFacts,
    /// Which destination saw us where.
    pub seen: Vec<(SocketAddr, SocketAddr)>,
    /// How long each server took to answer; `None`: it did not.
    pub servers: Vec<(SocketAddr, Option<Duration>)>,
    /// The port from which was asked.
    pub port: u16,
}

/// Asks for at most `patience`. `port` is preferred where it is free, so that the answers are about the tunnel's own.
///
/// # Errors
/// When there is no UDP socket to be had.
pub async fn ask(
    servers: &[SocketAddr],
    locals: &[IpAddr],
    port: Option<u16>,
    dice: Dice,
    patience: Duration,
) -> io::Result<Asked> {
    let sockets = Sockets::bind(port).await?;
    let clock = HostClock::new();
    let now = || clock.now().mono;
    let mut probe = Probe::new(dice, now());
    probe.set_locals(locals);
    probe.set_local_port(sockets.port);
    probe.set_servers(servers, now());
    let mut times = Times::default();
    let end = now() + patience;
    let mut room = [0; ANSWER];
    for _ in 0..DATAGRAMS {
        send(&mut probe, &sockets, &mut times, now()).await;
        while probe.poll_event().is_some() {}
        let Some(next) = probe.deadline().map(|d| d.at).filter(|at| *at <= end) else { break };
        let wait = next.since(now());
        tokio::select! {
            got = sockets.receive(&mut room) => if let Ok((from, len)) = got {
                let bytes = room.get(..len).unwrap_or_default();
                if probe.handle(from, bytes, now()) {
                    times.answered(from, now());
                }
            },
            () = sleep(wait) => probe.handle_timeout(now()),
        }
    }
    let seen = [false, true].into_iter().flat_map(|v6| probe.seen(v6)).collect();
    let servers = servers.iter().map(|s| (*s, times.of(*s))).collect();
    Ok(Asked { v4: *probe.facts(false), v6: *probe.facts(true), seen, servers, port: sockets.port })
}

async fn send(probe: &mut Probe, sockets: &Sockets, times: &mut Times, now: Mono) {
    let mut room = [0; REQUEST];
    while let Some((to, len)) = probe.poll_transmit(&mut room) {
        times.sent.entry(to).or_insert(now);
        if let Some(socket) = sockets.towards(to) {
            // What cannot be sent is not answered, which is what it comes to.
            let send = socket.send_to(room.get(..len).unwrap_or_default(), to);
            let _ = timeout(Duration::from_millis(50), send).await;
        }
    }
}

#[derive(Debug, Default)]
struct Times {
    sent: BTreeMap<SocketAddr, Mono>,
    took: BTreeMap<SocketAddr, Duration>,
}

impl Times {
    fn answered(&mut self, from: SocketAddr, now: Mono) {
        if let Some(sent) = self.sent.get(&from) {
            self.took.entry(from).or_insert_with(|| now.since(*sent));
        }
    }

    fn of(&self, server: SocketAddr) -> Option<Duration> {
        self.took.get(&server).copied()
    }
}

struct Sockets {
    v4: UdpSocket,
    v6: Option<UdpSocket>,
    port: u16,
}

impl Sockets {
    async fn bind(wanted: Option<u16>) -> io::Result<Self> {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let v4 = match UdpSocket::bind(any(wanted.unwrap_or(0))).await {
            Ok(socket) => socket,
            // The tunnel of a running node has it.
            Err(_) => UdpSocket::bind(any(0)).await?,
        };
        let port = v4.local_addr()?.port();
        Ok(Self { v4, v6: Self::v6(port).ok(), port })
    }

    fn v6(port: u16) -> io::Result<UdpSocket> {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None)?;
        socket.set_only_v6(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        UdpSocket::from_std(socket.into())
    }

    fn towards(&self, to: SocketAddr) -> Option<&UdpSocket> {
        if to.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() }
    }

    async fn receive(&self, room: &mut [u8; ANSWER]) -> io::Result<(SocketAddr, usize)> {
        let mut other = [0; ANSWER];
        let got = match &self.v6 {
            None => self.v4.recv_from(room).await?,
            Some(v6) => tokio::select! {
                got = self.v4.recv_from(room) => got?,
                got = v6.recv_from(&mut other) => {
                    let got = got?;
                    room.copy_from_slice(&other);
                    got
                }
            },
        };
        Ok((got.1, got.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dice::Seed;
    use crate::wire::stun::{Builder, Class, Message, Method};
    use std::time::Instant;

    fn dice() -> Dice {
        Seed::from_u64(5).dice("checkup")
    }

    /// Answers plainly until it is dropped.
    async fn server() -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let serve = async move {
            let mut room = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut room).await {
                let Ok(asked) = Message::parse(&room[..len]) else { continue };
                let mut answer = [0; 256];
                let b = Builder::new(&mut answer, Method::Binding, Class::Success, asked.transaction());
                let len = b.mapped(from).finish().unwrap();
                let _ = socket.send_to(&answer[..len], from).await;
            }
        };
        (at, tokio::spawn(serve))
    }

    #[tokio::test]
    async fn servers_that_answer_are_told_from_those_that_do_not() {
        let (first, _a) = server().await;
        let (second, _b) = server().await;
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let silent = silent.local_addr().unwrap();
        let locals = [IpAddr::from([127, 0, 0, 1])];
        let asked =
            ask(&[first, second, silent], &locals, None, dice(), Duration::from_secs(3)).await.unwrap();
        assert!(asked.servers[0].1.is_some() && asked.servers[1].1.is_some());
        assert_eq!(asked.servers[2], (silent, None));
        assert_eq!(asked.v4.udp, Some(true));
        assert_eq!(asked.v4.public.map(|p| p.port()), Some(asked.port));
        assert_eq!(asked.v4.mapping, crate::model::nat::Mapping::None, "the own address came back");
        assert!(asked.seen.iter().filter(|(_, at)| at.port() == asked.port).count() >= 2);
    }

    #[tokio::test]
    async fn silence_ends_in_time_and_is_told() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (begun, at) = (Instant::now(), silent.local_addr().unwrap());
        let asked = ask(&[at], &[], None, dice(), Duration::from_secs(2)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
        assert_eq!(asked.v4.udp, Some(false));
        let begun = Instant::now();
        let asked = ask(&[], &[], None, dice(), Duration::from_secs(2)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(500), "nothing to ask, nothing to wait for");
        assert_eq!((asked.v4, asked.seen), (NatFacts::default(), vec![]));
    }
}
