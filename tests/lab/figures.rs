//! Figures of proxy mode, by hand: `scripts/bench-proxy` (docs/performance.md has the last ones). The same work over lan
//! mode at both ends, proxy mode at both ends, and EasyTier without a device where it is installed, in turns.
//!
//! | variable | what |
//! |---|---|
//! | `LANRAGE_LAB_PROGRAM` | the program to measure, a release build; otherwise the one under test |
//! | `FIGURES_ROUNDS` | how often everything is done (3) |
//! | `FIGURES_PARTS` | some of `near far lossy memory`, all without it |
//! | `FIGURES_EASYTIER` | a Python that has the module `easytier_pyo3` |

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::far::{Far, far_apart};
use crate::support::net::{Carries, Host, Net};
use crate::support::node::{Node, text};
use crate::support::process::Process;
use crate::support::{ready, say, seconds, within};

const TCP: u16 = 25_700;
const UDP: u16 = 25_701;
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 83, 9, 7), 25_702);
const CHUNK: usize = 64 * 1024;
/// Small packets, as games send.
const SMALL: usize = 100;
const PER_SECOND: u64 = 20_000;

/// What carries the bytes between the two computers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Lan,
    Proxy,
    EasyTier,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Lan => "lan/lan",
            Self::Proxy => "proxy/proxy",
            Self::EasyTier => "EasyTier, no device",
        }
    }
}

/// Figures by what they are and what carried the bytes.
#[derive(Debug, Default)]
struct Figures(BTreeMap<(usize, String), BTreeMap<By, Vec<f64>>>);

impl Figures {
    fn note(&mut self, what: &str, by: By, figure: f64) {
        let known = self.0.keys().find(|(_, name)| name == what).map(|(at, _)| *at);
        let key = (known.unwrap_or(self.0.len()), what.to_owned());
        self.0.entry(key).or_default().entry(by).or_default().push(figure);
        say(&format!("{what}, {}: {}", by.word(), short(figure)));
    }

    /// A table: medians, with the least and the most.
    fn show(&self) {
        let mut table =
            "\n| | lan/lan | proxy/proxy | of lan | EasyTier, no device |\n|---|---|---|---|---|\n"
                .to_owned();
        for ((_, what), by) in &self.0 {
            let cell = |one| by.get(&one).map_or_else(|| "–".to_owned(), |all| spread(all));
            let of_lan = by.get(&By::Lan).zip(by.get(&By::Proxy)).map(|(l, p)| median(p) / median(l));
            let of_lan = of_lan
                .filter(|r| r.is_finite())
                .map_or_else(|| "–".to_owned(), |r| format!("{:.0} %", r * 100.0));
            let [lan, proxy, rival] = [By::Lan, By::Proxy, By::EasyTier].map(cell);
            table += &format!("| {what} | {lan} | {proxy} | {of_lan} | {rival} |\n");
        }
        say(&table);
    }
}

fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn spread(all: &[f64]) -> String {
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}–{})", short(median(all)), short(least), short(most))
}

fn short(figure: f64) -> String {
    match figure.abs() {
        f if f >= 100.0 => format!("{figure:.0}"),
        f if f >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Two computers and a game on the first, as the second reaches it.
struct Ground {
    hosts: Vec<Host>,
    tcp: SocketAddr,
    udp: SocketAddr,
    game: Arc<Game>,
    /// What carries, at A and at B.
    carriers: [u32; 2],
    control: String,
    nodes: Vec<Node>,
    _rivals: Vec<Process>,
    _far: Option<Far>,
    _net: Net,
}

/// What arrived at the game on A.
#[derive(Debug, Default)]
struct Game {
    bytes: AtomicU64,
    packets: AtomicU64,
}

impl Ground {
    fn new(by: By, between: Option<(Duration, u32)>) -> Self {
        let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"], &["c"]]);
        let far = between.map(|(delay, per_mille)| far_apart(&hosts[0], &hosts[1], delay, per_mille));
        let game = Game::start(&hosts[0]);
        let control = format!("file:{}", net.shared().display());
        let mut ground = Self {
            hosts,
            tcp: (Ipv4Addr::LOCALHOST, TCP).into(),
            udp: (Ipv4Addr::LOCALHOST, UDP).into(),
            game,
            carriers: [0; 2],
            control,
            nodes: Vec::new(),
            _rivals: Vec::new(),
            _far: far,
            _net: net,
        };
        match by {
            By::Lan | By::Proxy => ground.party(by),
            By::EasyTier => ground.rivals(),
        }
        ground.settle();
        ground
    }

    fn node(&self, by: By, host: usize, join: Option<&str>) -> Node {
        let host = &self.hosts[host];
        let folder = host.folder.join("data/games");
        std::fs::create_dir_all(&folder).expect("a folder");
        for (id, join) in [("figures-tcp", "tcp"), ("figures-udp", "udp")] {
            std::fs::write(folder.join(format!("{id}.toml")), profile(id, join)).expect("written");
        }
        let mut args = vec!["--game", "figures-tcp", "--game", "figures-udp", "--control", &self.control];
        args.extend(join.iter().flat_map(|invite| ["--join", invite]));
        if by == By::Lan { Node::run(host, &args) } else { Node::run_bare(host, &args) }
    }

    fn party(&mut self, by: By) {
        let a = self.node(by, 0, None);
        let mut b = self.node(by, 1, Some(&a.invite()));
        b.path_to(&a, seconds(20));
        self.carriers = [a.id(), b.id()];
        [self.tcp, self.udp] = reached(by, &a, &b);
        self.nodes = vec![a, b];
    }

    fn rivals(&mut self) {
        let [a, b, ..] = &self.hosts[..] else { panic!("hosts") };
        let at = a.v4;
        let config = |n: u8, more: &str| {
            format!(
                r#"{{"network_identity": {{"network_name": "lab", "network_secret": "secret"}}, "hostname": "h{n}",
                "ipv4": "10.144.0.{n}/24", "listeners": ["udp://0.0.0.0:11010"], "stun_servers": [],
                "flags": {{"no_tun": true, "bind_device": false}} {more}}}"#
            )
        };
        let ports = [("tcp", TCP), ("udp", UDP)].map(|(proto, port)| {
            format!(
                r#"{{"proto": "{proto}", "bind_addr": "127.0.0.1:{port}", "dst_addr": "10.144.0.1:{port}"}}"#
            )
        });
        let joins =
            format!(r#", "peer": [{{"uri": "udp://{at}:11010"}}], "port_forward": [{}]"#, ports.join(","));
        let python = std::env::var("FIGURES_EASYTIER").expect("asked before");
        let code = "import sys, json, time, easytier_pyo3 as e\nn = e.Node(json.loads(sys.argv[1]))\nn.start()\n\
                    print('UP', e.version(), flush=True)\ntime.sleep(1e6)";
        let mut rivals = [(a, config(1, "")), (b, config(2, &joins))].map(|(host, config)| {
            let mut command = host.command(&python);
            command.args(["-c", code, &config]);
            Process::start("EasyTier", &mut command)
        });
        rivals.iter_mut().for_each(|rival| _ = rival.wait_for("UP", seconds(30)));
        self.carriers = [rivals[0].id(), rivals[1].id()];
        self._rivals = rivals.into();
    }

    /// Until the game answers.
    fn settle(&self) {
        let (tcp, udp) = (self.tcp, self.udp);
        let answers = within(seconds(40), || {
            let answers =
                self.hosts[1].inside(move || tcp_echo(tcp, 1).is_ok() && udp_echo(udp, 3).0.len() == 3);
            answers.then_some(())
        });
        assert!(answers.is_some(), "the game does not answer at {tcp}, {udp}");
    }

    fn cpu(&self) -> [f64; 2] {
        self.carriers.map(cpu)
    }
}

/// Where B's programs reach A's game.
fn reached(by: By, a: &Node, b: &Node) -> [SocketAddr; 2] {
    let find = |port: u16| {
        let here = format!("{}:{port}", a.address());
        let status = b.status();
        let game =
            status.get("games")?.as_array()?.iter().find(|game| text(game, "address") == here)?.clone();
        let at = if by == By::Lan { text(&game, "address") } else { game.get("local")?.as_str()? };
        at.parse().ok()
    };
    [TCP, UDP].map(|port| within(seconds(20), || find(port)).expect("the game is in the list"))
}

fn profile(id: &str, join: &str) -> String {
    format!(
        r#"
id = "{id}"
name = "Figures by {join}"
evidence = "unverified"
[play]
dynamic = true
join = "{join}"
[proxy]
works = true
[[rule]]
kind = "announcement"
port = {}
to = "group:{}"
match = {{ text = "{join}" }}
game_port = {{ between = ["<", ">"] }}
life = 30
"#,
        GROUP.port(),
        GROUP.ip()
    )
}

impl Game {
    /// A game on this host that announces itself. What a connection is for is its first byte: `P` everything comes back;
    /// `D` it is sent all that it takes; `U` what it sends is counted; `I`, `J` it gets one byte, or a chunk, and stays.
    fn start(host: &Host) -> Arc<Self> {
        let game = Arc::new(Self::default());
        let counts = Arc::clone(&game);
        host.thread(move || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, TCP)).expect("free");
            let mut stay = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(seconds(5))).expect("a timeout");
                let (mut what, counts) = ([0], Arc::clone(&counts));
                if stream.read_exact(&mut what).is_err() {
                    continue;
                }
                if matches!(what[0], b'I' | b'J') {
                    let _ = stream.write_all(&vec![7; if what[0] == b'I' { 1 } else { CHUNK }]);
                    stream.set_nonblocking(true).expect("a socket");
                    stay.retain(|known: &TcpStream| !matches!(known.peek(&mut [0]), Ok(0)));
                    stay.push(stream);
                } else {
                    std::thread::spawn(move || counts.serve(what[0], stream));
                }
            }
        });
        let counts = Arc::clone(&game);
        host.thread(move || {
            let socket = roomy((Ipv4Addr::UNSPECIFIED, UDP).into());
            let mut bytes = [0; 2048];
            loop {
                let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
                counts.packets.fetch_add(1, Ordering::Relaxed);
                if bytes[0] == b'P' {
                    let _ = socket.send_to(&bytes[..len], from);
                }
            }
        });
        host.thread(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
            // As long as the network is there.
            while ["tcp", "udp"]
                .iter()
                .zip([TCP, UDP])
                .all(|(by, port)| socket.send_to(format!("{by}<{port}>").as_bytes(), GROUP).is_ok())
            {
                std::thread::sleep(seconds(1));
            }
        });
        game
    }

    fn serve(&self, what: u8, mut stream: TcpStream) {
        stream.set_nodelay(true).expect("a socket");
        let mut bytes = vec![7; CHUNK];
        if what == b'D' {
            while stream.write_all(&bytes).is_ok() {}
            return;
        }
        stream.set_read_timeout(Some(seconds(60))).expect("a timeout");
        while let Ok(len @ 1..) = stream.read(&mut bytes) {
            self.bytes.fetch_add(len as u64, Ordering::Relaxed);
            if what == b'P' && stream.write_all(&bytes[..len]).is_err() {
                return;
            }
        }
    }
}

/// A UDP socket that loses nothing because of us.
fn roomy(at: SocketAddr) -> UdpSocket {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.bind(&at.into()).expect("free");
    let bytes: libc::c_int = 8 << 20;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    crate::support::far::force_receive_buffer(fd, bytes);
    UdpSocket::from(socket)
}

fn connect(to: SocketAddr, what: u8) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, seconds(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(seconds(15)))?;
    stream.write_all(&[what])?;
    Ok(stream)
}

/// Round trips of small packets over one connection, in microseconds.
fn tcp_echo(to: SocketAddr, times: usize) -> std::io::Result<Vec<f64>> {
    let mut stream = connect(to, b'P')?;
    let mut bytes = [7; SMALL];
    let mut trips = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        trips.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(trips)
}

/// The same by datagrams; and how many did not come back.
fn udp_echo(to: SocketAddr, times: usize) -> (Vec<f64>, usize) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.connect(to).expect("a way");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let (mut trips, mut bytes) = (Vec::new(), [0; 2048]);
    for _ in 0..times {
        let begun = Instant::now();
        let came = socket.send(&[b'P'; SMALL]).is_ok() && socket.recv(&mut bytes).is_ok();
        if came {
            trips.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    let lost = times - trips.len();
    (trips, lost)
}

fn percentile(trips: &[f64], of: usize) -> f64 {
    let mut trips = trips.to_vec();
    trips.sort_by(f64::total_cmp);
    trips[(trips.len() - 1) * of / 100]
}

/// Megabits a second of one connection for so long, after its first second.
fn bulk(ground: &Ground, down: bool, time: Duration) -> f64 {
    let (tcp, begin) = (ground.tcp, seconds(1));
    if down {
        return ground.hosts[1].inside(move || {
            let mut stream = connect(tcp, b'D').expect("the game is there");
            let (mut bytes, mut got, start) = (vec![0; 4 * CHUNK], 0, Instant::now());
            let mut counted = None;
            while start.elapsed() < begin + time {
                got += stream.read(&mut bytes).expect("it goes on");
                if counted.is_none() && start.elapsed() >= begin {
                    counted = Some((got, Instant::now()));
                }
            }
            let (before, since) = counted.expect("a second passed");
            (got - before) as f64 * 8e-6 / since.elapsed().as_secs_f64()
        });
    }
    let sending = ground.hosts[1].thread(move || {
        let (mut stream, start) = (connect(tcp, b'U').expect("the game is there"), Instant::now());
        let bytes = vec![7; CHUNK];
        while start.elapsed() < begin + time {
            stream.write_all(&bytes).expect("it goes on");
        }
    });
    std::thread::sleep(begin);
    let (before, since) = (ground.game.bytes.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(time - Duration::from_millis(100));
    let got = ground.game.bytes.load(Ordering::Relaxed) - before;
    let rate = got as f64 * 8e-6 / since.elapsed().as_secs_f64();
    sending.join().expect("it sent");
    rate
}

/// Seconds of processor that a process has used.
fn cpu(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    (fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number")) / 100.0
}

/// A line of the kernel's status of a process, in MiB.
fn mib(process: u32, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|l| l.starts_with(line)).expect("the line").split_whitespace().nth(1);
    line.expect("a number").parse::<f64>().expect("a number") / 1024.0
}

/// How often its threads have gone to sleep.
fn naps(process: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let one = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches")).map(str::to_owned);
        line.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    tasks.filter_map(Result::ok).map(one).sum()
}

fn near(by: By, figures: &mut Figures) {
    let ground = Ground::new(by, None);
    for (what, down) in [("TCP to the guest", true), ("TCP to the host", false)] {
        let before = ground.cpu();
        let rate = bulk(&ground, down, seconds(5));
        let used: f64 = ground.cpu().iter().zip(before).map(|(after, before)| after - before).sum();
        figures.note(&format!("{what}, Mbit/s"), by, rate);
        figures.note(&format!("{what}, CPU s of both ends"), by, used);
    }
    let (tcp, udp) = (ground.tcp, ground.udp);
    let trips = ground.hosts[1].inside(move || tcp_echo(tcp, 5_000)).expect("the game answers");
    figures.note("TCP round trip p50, µs", by, percentile(&trips, 50));
    figures.note("TCP round trip p99, µs", by, percentile(&trips, 99));
    let (trips, lost) = ground.hosts[1].inside(move || udp_echo(udp, 5_000));
    figures.note("UDP round trip p50, µs", by, percentile(&trips, 50));
    figures.note("UDP round trip p99, µs", by, percentile(&trips, 99));
    figures.note("UDP round trips lost of 5,000", by, lost as f64);
    many_packets(&ground, by, figures);
}

/// 20,000 packets a second for five seconds, in handfuls every half millisecond.
fn many_packets(ground: &Ground, by: By, figures: &mut Figures) {
    const HANDFUL: u64 = PER_SECOND / 2_000;
    let (udp, before, cpus) = (ground.udp, ground.game.packets.load(Ordering::Relaxed), ground.cpu());
    let sent = ground.hosts[1].inside(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        socket.connect(udp).expect("a way");
        let (start, mut sent) = (Instant::now(), 0);
        while sent < PER_SECOND * 5 {
            let due = u64::try_from(start.elapsed().as_micros()).expect("soon") * PER_SECOND / 1_000_000;
            if sent + HANDFUL <= due {
                sent += (0..HANDFUL).filter(|_| socket.send(&[b'C'; SMALL]).is_ok()).count() as u64;
            } else {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        sent
    });
    std::thread::sleep(seconds(1));
    let got = ground.game.packets.load(Ordering::Relaxed) - before;
    let cpus: Vec<f64> =
        ground.cpu().iter().zip(cpus).map(|(after, before)| (after - before) / 5.0).collect();
    figures.note("20,000 packets/s: lost, of 100,000", by, sent as f64 - got as f64);
    figures.note("20,000 packets/s: cores of the sender", by, cpus[1]);
    figures.note("20,000 packets/s: cores of the receiver", by, cpus[0]);
}

fn far(by: By, per_mille: u32, figures: &mut Figures) {
    let ground = Ground::new(by, Some((Duration::from_millis(15), per_mille)));
    let lost =
        if per_mille > 0 { format!(", {:.1} % lost", f64::from(per_mille) / 10.0) } else { String::new() };
    for (what, down) in [("to the guest", true), ("to the host", false)] {
        figures.note(&format!("TCP {what}, 30 ms away{lost}, Mbit/s"), by, bulk(&ground, down, seconds(10)));
    }
    let tcp = ground.tcp;
    let trips = ground.hosts[1].inside(move || tcp_echo(tcp, 150)).expect("the game answers");
    figures.note(&format!("TCP round trip p50, 30 ms away{lost}, µs"), by, percentile(&trips, 50));
    figures.note(&format!("TCP round trip p99, 30 ms away{lost}, µs"), by, percentile(&trips, 99));
}

/// Opens so many connections from this host, each of which has got this much.
fn open(host: &Host, to: SocketAddr, what: u8, many: usize) -> Vec<TcpStream> {
    host.inside(move || {
        let mut got = vec![0; if what == b'I' { 1 } else { CHUNK }];
        let one = |_| {
            let mut stream = connect(to, what).expect("one more connection");
            stream.read_exact(&mut got).expect("the game answers");
            stream
        };
        (0..many).map(one).collect()
    })
}

fn memory(by: By, figures: &mut Figures) {
    let mut ground = Ground::new(by, None);
    std::thread::sleep(seconds(2));
    let (before, cpus) = (ground.carriers.map(naps), ground.cpu());
    std::thread::sleep(seconds(10));
    let slept = ground.carriers.map(naps);
    let used: f64 = ground.cpu().iter().zip(cpus).map(|(after, before)| after - before).sum();
    figures.note("idle: naps a second of the guest, a game listed", by, (slept[1] - before[1]) / 10.0);
    figures.note("idle: CPU of both, ‰ of a core", by, used * 100.0 / 2.0);
    let note = |figures: &mut Figures, what: &str, ground: &Ground| {
        let [host, guest] = ground.carriers.map(|process| mib(process, "VmRSS"));
        figures.note(&format!("memory of the host, {what}, MiB"), by, host);
        figures.note(&format!("memory of the guest, {what}, MiB"), by, guest);
    };
    note(figures, "idle", &ground);
    let mut all = open(&ground.hosts[1], ground.tcp, b'I', 100);
    note(figures, "100 connections", &ground);
    all.extend(open(&ground.hosts[1], ground.tcp, b'J', 100));
    drop(all.drain(..100));
    note(figures, "100 that carried 64 KiB", &ground);
    if by == By::EasyTier {
        all.extend(open(&ground.hosts[1], ground.tcp, b'I', 900));
        note(figures, "1,000 connections of one guest", &ground);
        return;
    }
    let mut third = ground.node(by, 2, Some(&ground.nodes[0].invite()));
    third.path_to(&ground.nodes[0], seconds(20));
    let [tcp, _] = reached(by, &ground.nodes[0], &third);
    all.extend(open(&ground.hosts[1], ground.tcp, b'I', 400));
    all.extend(open(&ground.hosts[2], tcp, b'I', 500));
    note(figures, "1,000 connections (500 of each of two guests)", &ground);
    let (before, cpus) = (ground.carriers.map(naps), ground.cpu());
    std::thread::sleep(seconds(10));
    figures.note(
        "1,000 open and silent: naps a second of the host",
        by,
        (ground.carriers.map(naps)[0] - before[0]) / 10.0,
    );
    figures.note(
        "1,000 open and silent: CPU of the host, ‰ of a core",
        by,
        (ground.cpu()[0] - cpus[0]) * 100.0,
    );
    let trips = ground.hosts[1].inside({
        let tcp = ground.tcp;
        move || tcp_echo(tcp, 2_000)
    });
    figures.note("1,000 open: TCP round trip p50, µs", by, percentile(&trips.expect("it answers"), 50));
    let [host, guest] = ground.carriers.map(|process| mib(process, "VmHWM"));
    figures.note("peak of the host, MiB", by, host);
    figures.note("peak of the guest, MiB", by, guest);
    ground.nodes.push(third);
}

#[test]
#[ignore = "figures, by hand: scripts/bench-proxy"]
fn proxy_figures() {
    if !ready(&[]) {
        return;
    }
    let rounds = std::env::var("FIGURES_ROUNDS").map_or(3, |n| n.parse().expect("a number of rounds"));
    let parts = std::env::var("FIGURES_PARTS").unwrap_or_else(|_| "near far lossy memory".to_owned());
    let kinds: &[By] = if std::env::var_os("FIGURES_EASYTIER").is_some() {
        &[By::Lan, By::Proxy, By::EasyTier]
    } else {
        say("without EasyTier: FIGURES_EASYTIER names no Python that has it");
        &[By::Lan, By::Proxy]
    };
    let mut figures = Figures::default();
    for part in parts.split_whitespace() {
        for round in 0..rounds {
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            say(&format!("{part}, round {} of {rounds}, load {load}", round + 1));
            for by in kinds {
                match part {
                    "near" => near(*by, &mut figures),
                    "far" => far(*by, 0, &mut figures),
                    "lossy" => far(*by, 10, &mut figures),
                    "memory" => memory(*by, &mut figures),
                    other => panic!("no such part: {other}"),
                }
            }
        }
    }
    figures.show();
}
