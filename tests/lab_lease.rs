//! Port mappings against a real router: miniupnpd (UPnP, NAT-PMP and PCP at once) in network namespaces of the test's own,
//! and routers that answer nonsense. Needs root, nftables and miniupnpd; without them each test says so and returns, or
//! panics when `LANRAGE_LAB=must`.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world use it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics says where")]

#[path = "lab_support/netns.rs"]
mod netns;

use lanrage::engine::effect::{HostFact, Lease};
use lanrage::host::lease::{LeaseSetup, spawn};
use lanrage::model::nat::PortMapping;
use netns::{Elsewhere, ip};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PORT: u16 = 41_641;

/// Runs `body` in a namespace and a runtime, where miniupnpd can run.
fn lab<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    if !netns::possible() {
        return;
    }
    for program in ["miniupnpd", "nft"] {
        if Command::new(program).arg("--version").output().is_err() {
            assert!(
                std::env::var("LANRAGE_LAB").as_deref() != Ok("must"),
                "the lab must run, but {program} is missing"
            );
            let _ = writeln!(
                std::io::stderr(),
                "NOT RUN: the program `{program}` is missing (scripts/lab-setup)"
            );
            return;
        }
    }
    netns::inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body());
    });
}

/// This computer's router, with the internet behind it.
struct Router {
    place: Elsewhere,
    internet: Elsewhere,
    files: tempfile::TempDir,
    speaker: Option<Child>,
}

const RULES: &str = "
table inet nat {
  chain post { type nat hook postrouting priority srcnat; oifname \"wan\" masquerade random; }
}
table inet upnp {
  chain forward { }
  chain pre { type nat hook prerouting priority -101; }
  chain post { type nat hook postrouting priority 99; }
}";

impl Router {
    /// A router of 192.168.7.1 with this outside address; this computer is 192.168.7.2.
    fn new(outside: &str) -> Self {
        let (place, internet) = (Elsewhere::new(), Elsewhere::new());
        place.cable("eth0", "lan");
        let outside = outside.to_owned();
        let namespace = internet.path();
        place.run(move || {
            ip("link add wan type veth peer name net0");
            ip(&format!("link set net0 netns {namespace}"));
            ip("addr add 192.168.7.1/24 dev lan");
            ip(&format!("addr add {outside}/16 dev wan"));
            ip("link set lan up");
            ip("link set wan up");
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            nft(RULES);
        });
        // Whatever network the outside is of.
        internet.run(|| {
            for address in ["11.0.0.99/16", "100.64.0.99/16"] {
                ip(&format!("addr add {address} dev net0"));
            }
            ip("link set net0 up");
        });
        ip("addr add 192.168.7.2/24 dev eth0");
        ip("link set eth0 up");
        ip("route add default via 192.168.7.1");
        Self { place, internet, files: tempfile::tempdir().unwrap(), speaker: None }
    }

    /// Starts miniupnpd.
    fn speak(&mut self, upnp: &str, natpmp: &str) {
        let conf = self.files.path().join("miniupnpd.conf");
        let text = format!(
            "ext_ifname=wan\nlistening_ip=lan\nhttp_port=0\nenable_natpmp={natpmp}\nenable_upnp={upnp}\nsecure_mode=yes\n\
             system_uptime=no\nnotify_interval=30\nuuid=00000000-0000-0000-0000-000000000001\nmin_lifetime=120\n\
             upnp_table_name=upnp\nupnp_nat_table_name=upnp\nupnp_forward_chain=forward\nupnp_nat_chain=pre\n\
             upnp_nat_postrouting_chain=post\nallow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        );
        std::fs::write(&conf, text).unwrap();
        let pid = self.files.path().join("pid");
        self.speaker = Some(self.place.run(move || {
            Command::new("miniupnpd")
                .args(["-d", "-f"])
                .arg(conf)
                .arg("-P")
                .arg(pid)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        }));
        if natpmp == "no" {
            std::thread::sleep(Duration::from_millis(500));
            return;
        }
        // It answers once it has read its rules.
        let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
        probe.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        probe.connect("192.168.7.1:5351").unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while probe.send(&[0, 0]).and_then(|_| probe.recv(&mut [0; 20])).is_err() {
            assert!(Instant::now() < end, "miniupnpd does not start");
        }
    }

    fn silence(&mut self) {
        if let Some(mut speaker) = self.speaker.take() {
            let _ = speaker.kill();
            let _ = speaker.wait();
        }
    }

    /// Whether the port is closed again; the last word may still be on its way.
    fn closes(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(1);
        while self.rules().contains("41641") && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        !self.rules().contains("41641")
    }

    fn rules(&self) -> String {
        self.place.run(|| {
            let out = Command::new("nft").args(["list", "table", "inet", "upnp"]).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        })
    }

    /// Whether somebody on the internet reaches the tunnel's socket by this address.
    fn is_open(&self, socket: &UdpSocket, to: SocketAddr) -> bool {
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        // More than once: miniupnpd takes a rule away and makes it again when another protocol asks for the same port.
        (0..4).any(|_| {
            self.internet.run(move || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"knock", to).unwrap());
            socket.recv(&mut [0; 100]).is_ok()
        })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.silence();
    }
}

fn nft(rules: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The task under test, and what it told the node.
struct Asker {
    facts: mpsc::Receiver<HostFact>,
    again: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    report: Vec<(PortMapping, String)>,
}

impl Asker {
    fn start() -> Self {
        let (send, facts) = mpsc::channel(64);
        let (again, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let local = SocketAddr::from(([0, 0, 0, 0], PORT));
        let setup =
            LeaseSetup { local, nonce: [9; 12], again: again.clone(), facts: send, stop: stop.clone() };
        Self { facts, again, stop, task: spawn(setup), report: Vec::new() }
    }

    /// The next word about the port, within this time.
    async fn lease(&mut self, patience: Duration) -> Option<Option<Lease>> {
        let next = async {
            loop {
                let fact = self.facts.recv().await.expect("the task lives");
                if let HostFact::Leased(lease) = fact {
                    return lease;
                }
                let HostFact::LeaseReport(report) = fact else { panic!("{fact:?}") };
                self.report = report;
            }
        };
        tokio::time::timeout(patience, next).await.ok()
    }

    /// Waits until every protocol came to something; nothing must happen to the port meanwhile.
    async fn all(&mut self) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(6);
        while self.report.len() < 3 && Instant::now() < end {
            let lease = self.lease(Duration::from_millis(50)).await;
            assert!(lease.is_none(), "{lease:?}");
        }
        self.report.iter().map(|(by, words)| format!("{}: {words}", by.word())).collect()
    }

    async fn stop(self) -> Duration {
        let start = Instant::now();
        self.stop.cancel();
        self.task.await.unwrap();
        start.elapsed()
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_router_opens_the_port_at_once_by_all_three_and_gets_it_back() {
    lab(|| async {
        let mut router = Router::new("11.0.1.1");
        router.speak("yes", "yes");
        let tunnel = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        assert!(!router.is_open(&tunnel, addr("11.0.1.1:41641")), "closed before");
        let start = Instant::now();
        let mut asker = Asker::start();
        let lease = asker.lease(Duration::from_secs(2)).await.flatten().expect("a port");
        let took = start.elapsed();
        assert!(took < Duration::from_millis(500), "{took:?}");
        assert_eq!(lease.external, addr("11.0.1.1:41641"));
        assert!(router.is_open(&tunnel, lease.external));
        assert_eq!(
            asker.all().await,
            [
                "upnp: forwards 11.0.1.1:41641",
                "nat-pmp: forwards 11.0.1.1:41641",
                "pcp: forwards 11.0.1.1:41641"
            ]
        );
        assert!(router.rules().contains("41641"), "{}", router.rules());
        // Asked again, nothing new comes of it.
        asker.again.notify_one();
        assert!(asker.lease(Duration::from_secs(2)).await.is_none());
        let took = asker.stop().await;
        // 300 ms by itself; twice that is a busy computer.
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(router.closes(), "{}", router.rules());
        assert!(!router.is_open(&tunnel, addr("11.0.1.1:41641")), "closed after");
    });
}

#[test]
fn each_protocol_does_it_alone() {
    lab(|| async {
        let mut router = Router::new("11.0.1.1");
        router.speak("yes", "no");
        let tunnel = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        let mut asker = Asker::start();
        let lease = asker.lease(Duration::from_secs(2)).await.flatten().expect("a port by UPnP");
        assert_eq!((lease.by, lease.external), (PortMapping::Upnp, addr("11.0.1.1:41641")));
        assert!(router.is_open(&tunnel, lease.external));
        let words = asker.all().await;
        assert!(words[1..].iter().all(|w| !w.contains("forwards")), "{words:?}");
        asker.stop().await;
        assert!(router.closes(), "{}", router.rules());
        router.silence();
        router.speak("no", "yes");
        let mut asker = Asker::start();
        let lease = asker.lease(Duration::from_secs(2)).await.flatten().expect("a port by NAT-PMP or PCP");
        assert!(lease.by != PortMapping::Upnp && router.is_open(&tunnel, lease.external));
        assert!(asker.all().await[0].contains("no answer"));
        asker.stop().await;
        assert!(router.closes(), "{}", router.rules());
    });
}

#[test]
fn behind_a_second_router_the_port_is_reported_and_not_used() {
    lab(|| async {
        // miniupnpd refuses then.
        let mut router = Router::new("100.64.3.4");
        router.speak("yes", "yes");
        let mut asker = Asker::start();
        let words = asker.all().await;
        assert_eq!(words.len(), 3);
        assert!(words.iter().all(|w| !w.contains("forwards")), "{words:?}");
        asker.stop().await;
        // Most routers of people's homes do not care.
        router.silence();
        router.place.run(|| {
            let socket = UdpSocket::bind("192.168.7.1:5351").unwrap();
            std::thread::spawn(move || {
                let mut room = [0; 100];
                while let Ok((len, from)) = socket.recv_from(&mut room) {
                    let answer: &[u8] = match &room[..len] {
                        [0, 0] => &[0, 128, 0, 0, 0, 0, 0, 9, 100, 64, 3, 4],
                        [0, 1, ..] => &[0, 129, 0, 0, 0, 0, 0, 9, 162, 169, 156, 64, 0, 0, 14, 16],
                        _ => &[0, 129, 0, 1, 0, 0, 0, 9],
                    };
                    let _ = socket.send_to(answer, from);
                }
            });
        });
        let mut asker = Asker::start();
        let words = asker.all().await;
        assert!(words[1].contains("behind a second router (100.64.3.4"), "{words:?}");
        assert!(words[2].contains("does not speak it"), "a router of NAT-PMP alone: {words:?}");
        asker.stop().await;
    });
}

#[test]
fn a_router_that_restarts_with_another_address_is_noticed_by_its_own_word() {
    lab(|| async {
        let mut router = Router::new("11.0.1.1");
        router.speak("yes", "yes");
        let mut asker = Asker::start();
        let lease = asker.lease(Duration::from_secs(2)).await.flatten().expect("a port");
        assert_eq!(lease.external, addr("11.0.1.1:41641"));
        asker.all().await;
        // The clock of the router must be further than the slack of the rule.
        tokio::time::sleep(Duration::from_secs(4)).await;
        router.silence();
        router.place.run(|| {
            ip("addr del 11.0.1.1/16 dev wan");
            ip("addr add 11.0.1.2/16 dev wan");
            nft("flush table inet upnp");
        });
        router.speak("yes", "yes");
        let lease = asker.lease(Duration::from_secs(6)).await.flatten().expect("the new one");
        assert_eq!(lease.external, addr("11.0.1.2:41641"));
        let tunnel = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        assert!(router.is_open(&tunnel, lease.external), "{}", router.rules());
        // And asked for, when the engine finds that nothing arrives any more.
        router.silence();
        router.place.run(|| {
            ip("addr del 11.0.1.2/16 dev wan");
            ip("addr add 11.0.1.3/16 dev wan");
            nft("flush table inet upnp");
        });
        asker.again.notify_one();
        let mut news = asker.lease(Duration::from_secs(10)).await;
        if news.flatten().is_some_and(|lease| lease.external == addr("11.0.1.2:41641")) {
            // The same port by another protocol, whose answer was under way.
            news = asker.lease(Duration::from_secs(10)).await;
        }
        assert_eq!(news, Some(None), "nobody answers: the port is gone");
        router.speak("yes", "yes");
        asker.again.notify_one();
        let lease = asker.lease(Duration::from_secs(3)).await.flatten().expect("the third one");
        assert_eq!(lease.external, addr("11.0.1.3:41641"));
        asker.stop().await;
    });
}

#[test]
fn without_a_router_nothing_is_asked_until_there_is_one() {
    lab(|| async {
        let mut asker = Asker::start();
        assert!(asker.all().await.iter().all(|w| w.contains("no router to ask")));
        let mut router = Router::new("11.0.1.1");
        router.speak("yes", "yes");
        asker.again.notify_one();
        let lease = asker.lease(Duration::from_secs(3)).await.flatten().expect("a port");
        assert_eq!(lease.external, addr("11.0.1.1:41641"));
        asker.all().await;
        ip("route del default");
        asker.again.notify_one();
        assert_eq!(asker.lease(Duration::from_secs(3)).await, Some(None), "moved away");
        asker.stop().await;
    });
}

#[test]
fn a_router_that_answers_nonsense_without_end_is_given_up() {
    lab(|| async {
        let router = Router::new("11.0.1.1");
        router.place.run(|| {
            // Every question brings a flood of answers with almost the right words.
            for (port, answer) in [(5351, vec![0u8, 129, 0, 0, 0, 0, 0, 1, 0, 0]), (5351, vec![2; 1100])] {
                let Ok(socket) = UdpSocket::bind(("192.168.7.1", port)) else { continue };
                std::thread::spawn(move || {
                    let mut room = [0; 2000];
                    while let Ok((_, from)) = socket.recv_from(&mut room) {
                        (0..100).for_each(|_| drop(socket.send_to(&answer, from)));
                    }
                });
            }
            let pages = TcpListener::bind("192.168.7.1:0").unwrap();
            let port = pages.local_addr().unwrap().port();
            std::thread::spawn(move || {
                for client in pages.incoming() {
                    let Ok(mut client) = client else { return };
                    let _ = client.read(&mut [0; 1000]);
                    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                    while client.write_all(&[b'<'; 10_000]).is_ok() {}
                }
            });
            let search = UdpSocket::bind(("192.168.7.1", 1900)).unwrap();
            std::thread::spawn(move || {
                let st = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
                let good = format!(
                    "HTTP/1.1 200 OK\r\nST: {st}\r\nLOCATION: http://192.168.7.1:{port}/d.xml\r\n\r\n"
                );
                let evil = format!(
                    "HTTP/1.1 200 OK\r\nST: {st}\r\nLOCATION: http://192.168.7.2:{port}/d.xml\r\n\r\n"
                );
                let mut room = [0; 2000];
                while let Ok((_, from)) = search.recv_from(&mut room) {
                    (0..50).for_each(|_| drop(search.send_to(evil.as_bytes(), from)));
                    let _ = search.send_to(good.as_bytes(), from);
                }
            });
        });
        let mut asker = Asker::start();
        let words = asker.all().await;
        assert_eq!(words.len(), 3, "{words:?}");
        assert!(words.iter().all(|w| !w.contains("forwards")), "{words:?}");
        assert!(words[0].contains("failed"), "{words:?}");
        assert!(words[1].contains("nonsense"), "{words:?}");
        assert!(asker.stop().await < Duration::from_millis(400));
    });
}
