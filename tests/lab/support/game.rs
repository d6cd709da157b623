//! What games do on a LAN. All sockets are made inside the host's namespace.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use socket2::{Domain, Protocol, Socket, Type};

use super::net::Host;
use super::process::Process;
use super::{find, seconds, within};

/// Where Minecraft announces an opened world.
pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 2, 60);
pub(crate) const GROUP_PORT: u16 = 4445;

/// An announcement that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) wall: SystemTime,
    pub(crate) from: SocketAddr,
    pub(crate) text: String,
}

/// A game's search screen: it keeps what it hears until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
}

impl Listener {
    /// As Minecraft: bound to the port on any address, joined to the group on the default interface, deaf to groups that
    /// other programs joined (`IP_MULTICAST_ALL` off, as Java does).
    pub(crate) fn java(host: &Host) -> Self {
        let socket = host.inside(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
            socket.set_reuse_address(true).expect("reuse");
            socket.set_multicast_all_v4(false).expect("deaf to the groups of others");
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, GROUP_PORT));
            socket.bind(&any.into()).expect("the port is free");
            socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED).expect("a default interface");
            UdpSocket::from(socket)
        });
        let (heard, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let listener = Self { heard: Arc::clone(&heard), stop: Arc::clone(&stop) };
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        std::thread::spawn(move || {
            let mut bytes = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
                let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
                let one = Heard { at: Instant::now(), wall: SystemTime::now(), from, text };
                heard.lock().expect("no panic").push(one);
            }
        });
        listener
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no panic").clone()
    }

    /// Announcements whose text holds this.
    pub(crate) fn heard_of(&self, text: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|h| h.text.contains(text)).collect()
    }

    #[track_caller]
    pub(crate) fn wait(&self, text: &str, time: Duration) -> Heard {
        let found = within(time, || self.heard_of(text).into_iter().next());
        found.unwrap_or_else(|| {
            panic!("nothing with {text:?} heard within {time:?}; heard: {:?}", self.heard())
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A world that announces itself, each time with a number behind the text that the game reads. `sent` tells how many.
#[derive(Debug)]
pub(crate) struct Announcer {
    sent: Arc<Mutex<Vec<(u64, Instant)>>>,
    stop: Arc<AtomicBool>,
}

impl Announcer {
    pub(crate) fn minecraft(host: &Host, title: &str, port: u16, every: Duration) -> Self {
        let (sent, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let announcer = Self { sent: Arc::clone(&sent), stop: Arc::clone(&stop) };
        let title = title.to_owned();
        host.thread(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
            socket.set_multicast_ttl_v4(1).expect("as Java sends");
            for number in 1.. {
                let text = format!("[MOTD]{title}[/MOTD][AD]{port}[/AD]#{number}#");
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                sent.lock().expect("no panic").push((number, Instant::now()));
                socket
                    .send_to(text.as_bytes(), (GROUP, GROUP_PORT))
                    .expect("the default route leads somewhere");
                std::thread::sleep(every);
            }
        });
        announcer
    }

    /// Numbers sent between two moments.
    pub(crate) fn numbers(&self, from: Instant, to: Instant) -> Vec<u64> {
        let sent = self.sent.lock().expect("no panic");
        sent.iter().filter(|(_, at)| *at >= from && *at <= to).map(|(number, _)| *number).collect()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// How often each of these numbers was heard, for the numbers heard otherwise than exactly once.
pub(crate) fn not_exactly_once(title: &str, numbers: &[u64], heard: &[Heard]) -> Vec<(u64, usize)> {
    let count = |number: u64| {
        let mark = format!("#{number}#");
        heard.iter().filter(|h| h.text.contains(title) && h.text.ends_with(&mark)).count()
    };
    numbers.iter().map(|n| (*n, count(*n))).filter(|(_, times)| *times != 1).collect()
}

/// A TCP server that greets everyone.
pub(crate) fn greet_on(host: &Host, port: u16) {
    let listener =
        host.inside(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("the port is free"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.write_all(b"welcome");
        }
    });
}

/// Whether a TCP server greets from there within this time.
pub(crate) fn is_greeted(host: &Host, address: impl Into<IpAddr>, port: u16, time: Duration) -> bool {
    let there = SocketAddr::new(address.into(), port);
    host.inside(move || {
        let Ok(mut stream) = TcpStream::connect_timeout(&there, time) else { return false };
        stream.set_read_timeout(Some(time)).expect("a timeout");
        let mut greeting = [0; 7];
        stream.read_exact(&mut greeting).is_ok() && &greeting == b"welcome"
    })
}

/// Where the lab's games and helpers are.
fn rig(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/games")).join(file)
}

/// Where scripts/lab-setup puts the npm packages.
pub(crate) fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("LANRAGE_LAB_CACHE")
        .or_else(|| {
            Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("lanrage-lab"))
        })
        .expect("a home folder")
}

/// A script of the lab, run by node.
pub(crate) fn node_script(host: &Host, name: &str, args: &[&str]) -> Process {
    let packages = cache().join("node_modules");
    assert!(packages.is_dir(), "no npm packages in {} (scripts/lab-setup installs them)", packages.display());
    let mut command = host.command(find("node").expect("node is installed"));
    command.arg(rig("node").join(name)).args(args).env("NODE_PATH", packages);
    Process::start(&format!("{}/{name}", host.name), &mut command)
}

/// A real game driven by the rig: `host`, `find` or `join`.
pub(crate) fn real_game(host: &Host, verb: &str, game: &str, environment: &[(&str, &str)]) -> Process {
    let mut command: Command = host.command("/usr/bin/python3");
    command.arg("-B").arg(rig("rig.py")).args([verb, game, "--timeout", "75"]);
    command.env("LANRAGE_LAB_CACHE", cache()).envs(environment.iter().copied());
    Process::start(&format!("{}/{game}", host.name), &mut command)
}

/// Sends IPv4 packets with this inner source, past whatever address the host has.
pub(crate) fn send_forged(host: &Host, from: Ipv4Addr, to: SocketAddr, times: u16) {
    let IpAddr::V4(target) = to.ip() else { panic!("IPv4 only") };
    let packets: Vec<Vec<u8>> = (0..times).map(|n| forged_udp(from, target, to.port(), n)).collect();
    host.inside(move || {
        let raw =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).expect("root");
        for packet in &packets {
            raw.send_to(packet, &SocketAddr::from((target, 0)).into()).expect("a route");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

fn forged_udp(from: Ipv4Addr, to: Ipv4Addr, port: u16, number: u16) -> Vec<u8> {
    let payload = format!("forged {number:05}");
    let udp_len = u16::try_from(8 + payload.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_len).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]); // the kernel writes the header's checksum
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(40_000_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(udp_len.to_be_bytes());
    packet.extend([0, 0]); // no UDP checksum: allowed in IPv4
    packet.extend(payload.as_bytes());
    packet
}

/// What arrives on a UDP port of this host during this time, from anyone.
pub(crate) fn received_on(
    host: &Host,
    port: u16,
    time: Duration,
) -> std::thread::JoinHandle<Vec<(SocketAddr, String)>> {
    let (bound, is_bound) = std::sync::mpsc::channel();
    let receiving = host.thread(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        bound.send(()).expect("the test waits");
        let (end, mut received, mut bytes) = (Instant::now() + time, Vec::new(), [0; 2048]);
        while Instant::now() < end {
            if let Ok((len, from)) = socket.recv_from(&mut bytes) {
                received.push((from, String::from_utf8_lossy(&bytes[..len]).into_owned()));
            }
        }
        received
    });
    is_bound.recv_timeout(seconds(5)).expect("the socket is bound");
    receiving
}
