//! TURN by TCP and TLS, whole: the engine's client, the host's streams, and a relay: ours, found by the control plane, and
//! coturn's.
#![cfg(unix)]

use crate::players::{Line, Player, SOON};
use lanrage::engine::effect::HostFact;
use lanrage::engine::turn::{Turn, TurnEvent, TurnIn, TurnSetup};
use lanrage::host::clock::HostClock;
use lanrage::host::control::{ControlChoice, ServerTuning, ToCarrier, Tuning};
use lanrage::host::stream::Streams;
use lanrage::model::addr::{Endpoint, Via};
use lanrage::model::dice::Seed;
use lanrage::model::relay::{RelayOffer, RelayWay};
use lanrage::server::relay::RelayOptions;
use lanrage::server::{ServerOptions, Tls, start};
use lanrage::wire::control::{Down, Up};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn our_relay_is_found_and_used_by_tls_when_the_servers_port_is_shut() {
    let dir = tempfile::tempdir().unwrap();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let relay =
        RelayOptions { listen: vec![free_pair()], allow_private_peers: true, ..RelayOptions::default() };
    let options = ServerOptions { listen: vec![local], relay: Some(relay), ..ServerOptions::new(dir.path()) };
    let server = start(ServerOptions { tls: Tls::SelfSigned, ..options }).await.unwrap();
    let at = server.addresses()[0];
    // The port that players were told does not answer; 443 (here: another) does.
    let dead = std::net::TcpListener::bind(local).unwrap().local_addr().unwrap();
    let choice: ControlChoice = format!("server:http://{dead}").parse().unwrap();
    let server_tuning = ServerTuning { fallback_port: Some(at.port()), ..ServerTuning::default() };
    let tuning = Tuning { server: server_tuning, ..Tuning::default() };
    let mut offers = Vec::new();
    for n in 1..=2 {
        offers.push(offer(&Player::friend(n, 1), &choice, &tuning).await);
    }
    let first = offers[0].ways.first().cloned();
    let pin = server.pin().map(|p| p.0);
    assert_eq!(first, Some(RelayWay::Tls { addr: at, name: "127.0.0.1".into(), pin }), "before all others");
    let by_tcp = RelayWay::Tcp { addr: at };
    assert!(offers[0].ways.contains(&by_tcp), "{:?}", offers[0].ways);
    for (way, other) in [(first.clone().unwrap(), first.unwrap()), (by_tcp.clone(), by_tcp)] {
        let mut a = Client::new(1, &offers[0], &way);
        let mut b = Client::new(2, &offers[1], &other);
        timeout(SOON, exchange(&mut a, &mut b)).await.expect("in time");
    }
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn coturn_is_used_by_tcp_and_tls() {
    let must = std::env::var("LANRAGE_LAB").is_ok_and(|v| v == "must");
    let dir = tempfile::tempdir().unwrap();
    let Some((_coturn, tcp, tls)) = coturn(dir.path()) else {
        assert!(!must, "turnserver and openssl are needed (Debian packages coturn, openssl)");
        println!("skipped: there is no turnserver or openssl here (Debian packages coturn, openssl)");
        return;
    };
    let offer = RelayOffer {
        ways: Vec::new(),
        username: "ana".into(),
        password: "secret".into(),
        realm: "lan.example".into(),
        expires: None,
    };
    let certificate = std::fs::read(dir.path().join("cert.der")).unwrap();
    let pin = Some(<[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(certificate)));
    for way in [RelayWay::Tcp { addr: tcp }, RelayWay::Tls { addr: tls, name: "h".into(), pin }] {
        timeout(SOON, listening(way.addr())).await.expect("coturn starts");
        let mut a = Client::new(1, &offer, &way);
        let mut b = Client::new(2, &offer, &way);
        timeout(SOON, exchange(&mut a, &mut b)).await.expect("in time");
    }
}

/// What the server offers to a player.
async fn offer(player: &Player, choice: &ControlChoice, tuning: &Tuning) -> RelayOffer {
    let player = if player.id() == Player::owner(1).id() { Player::owner(1) } else { player.clone() };
    let mut line = Line::new(&player, choice, tuning);
    line.tx.send(ToCarrier::Open).await.unwrap();
    loop {
        match line.next().await {
            Down::Opened { nonce, audience } => {
                let hello = player.hello(&nonce, &audience);
                line.send(Up::Hello(hello)).await;
            }
            Down::Relays { mut offers } => return offers.remove(0),
            Down::Closed { why } => panic!("{why}"),
            _ => {}
        }
    }
}

/// Both get an address, let each other in, and send each other packets of several sizes.
async fn exchange(a: &mut Client, b: &mut Client) {
    a.run_until(|c| c.relayed.is_some()).await;
    b.run_until(|c| c.relayed.is_some()).await;
    let (of_a, of_b) = (a.relayed.unwrap(), b.relayed.unwrap());
    a.turn.permit(of_b, a.clock.now().mono);
    b.turn.permit(of_a, b.clock.now().mono);
    a.run_until(|c| c.turn.prefix(&of_b).is_some()).await;
    b.run_until(|c| c.turn.prefix(&of_a).is_some()).await;
    // First by indications, then by the channel once it is bound.
    for size in [1usize, 3, 100, 1200, 1201] {
        a.send(of_b, &vec![7; size]);
        let both = async {
            tokio::select! {
                () = a.run_until(|_| false) => {}
                () = b.run_until(|c| c.got.len() == 1) => {}
            }
        };
        both.await;
        let (from, body) = b.got.pop().unwrap();
        assert_eq!((from, body), (of_a, vec![7; size]));
        b.send(of_a, &body_of(size));
        let both = async {
            tokio::select! {
                () = b.run_until(|_| false) => {}
                () = a.run_until(|c| c.got.len() == 1) => {}
            }
        };
        both.await;
        assert_eq!(a.got.pop().unwrap(), (of_b, body_of(size)));
    }
    assert_eq!(a.turn.prefix(&of_b), Some(4), "by channel by now");
}

fn body_of(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// A TURN client on one stream.
struct Client {
    turn: Turn,
    streams: Streams,
    clock: HostClock,
    endpoint: Endpoint,
    relayed: Option<SocketAddr>,
    got: Vec<(SocketAddr, Vec<u8>)>,
}

impl Client {
    fn new(number: u8, offer: &RelayOffer, way: &RelayWay) -> Self {
        let endpoint = Endpoint { via: Via::Stream(number), to: way.addr() };
        let setup = TurnSetup {
            endpoint,
            username: offer.username.clone(),
            password: offer.password.clone(),
            v6: false,
        };
        let clock = HostClock::new();
        let turn = Turn::new(setup, Seed::from_u64(number.into()).dice("turn"), clock.now().mono);
        let mut streams = Streams::default();
        streams.open(number, way);
        Self { turn, streams, clock, endpoint, relayed: None, got: Vec::new() }
    }

    fn number(&self) -> u8 {
        let Via::Stream(number) = self.endpoint.via else { panic!("by stream") };
        number
    }

    fn send(&mut self, to: SocketAddr, body: &[u8]) {
        let (number, now) = (self.number(), self.clock.now().mono);
        let prefix = self.turn.prefix(&to).expect("permitted");
        let room = self.streams.reserve(number, prefix + body.len() + 8).unwrap();
        room[prefix..prefix + body.len()].copy_from_slice(body);
        let len = self.turn.wrap(room, &to, body.len(), now).unwrap();
        self.streams.commit(len);
        self.streams.flush();
    }

    async fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        self.transmit();
        let now = self.clock.now().mono;
        let nap = self.turn.deadline().map_or(Duration::from_secs(1), |d| d.at.since(now));
        let _ = timeout(nap.max(Duration::from_millis(1)), self.streams.ready()).await;
        let now = self.clock.now().mono;
        while let Some(fact) = self.streams.pop_news() {
            match fact {
                HostFact::StreamUp(_) => self.turn.restart(now),
                other => panic!("{other:?}"),
            }
        }
        if let Some(mut taken) = self.streams.take(0) {
            for message in taken.messages() {
                if let TurnIn::Data { peer, body } = self.turn.handle(message.bytes, now) {
                    self.got.push((peer, message.bytes[body].to_vec()));
                }
            }
            self.streams.give_back(taken);
        }
        self.turn.handle_timeout(now);
        while let Some(event) = self.turn.poll_event() {
            match event {
                TurnEvent::Allocated { relayed, .. } => self.relayed = Some(relayed),
                TurnEvent::Lost { why, .. } => panic!("{why}"),
                _ => {}
            }
        }
        self.transmit();
    }

    fn transmit(&mut self) {
        let number = self.number();
        let mut room = [0; 1024];
        while let Some(len) = self.turn.poll_transmit(&mut room) {
            if let Some(out) = self.streams.reserve(number, len) {
                out.copy_from_slice(&room[..len]);
                self.streams.commit(len);
            }
        }
        self.streams.flush();
    }
}

/// A port that is free together with the one above it, for UDP.
fn free_pair() -> SocketAddr {
    for _ in 0..100 {
        let first = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = first.local_addr().unwrap();
        let above = at.port().checked_add(1);
        if above.is_some_and(|p| std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, p)).is_ok()) {
            return at;
        }
    }
    panic!("no two ports beside each other are free");
}

struct Coturn(Child);

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A coturn on loopback, its TCP and its TLS address; `None` when it or openssl is not installed.
fn coturn(dir: &Path) -> Option<(Coturn, SocketAddr, SocketAddr)> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=h", "-days", "30", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir)
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|s| s.success()) {
        return None;
    }
    let der = ["x509", "-in", "cert.pem", "-outform", "der", "-out", "cert.der"];
    assert!(Command::new("openssl").args(der).current_dir(dir).status().unwrap().success());
    let free = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (tcp, tls) = (free(), free());
    let child = Command::new("turnserver")
        .args(["-n", "--no-cli", "--no-dtls", "--allow-loopback-peers", "--lt-cred-mech", "--no-stdout-log"])
        .args(["-L", "127.0.0.1", "-E", "127.0.0.1", "-r", "lan.example", "-u", "ana:secret"])
        .args(["-p", &tcp.port().to_string(), "--tls-listening-port", &tls.port().to_string()])
        .args(["--cert", "cert.pem", "--pkey", "key.pem", "--pidfile", "pid", "--userdb", "db", "-l", "log"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.ok().map(|child| (Coturn(child), tcp, tls))
}

async fn listening(at: SocketAddr) {
    while tokio::net::TcpStream::connect(at).await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
}
