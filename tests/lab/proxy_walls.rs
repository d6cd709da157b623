//! Who reaches what of a computer in proxy mode: from its own physical network nothing new, from the party only the game.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::support::game::{Announcer, Listener, greet_on, node_script};
use crate::support::net::{Carries, Host, Net};
use crate::support::node::Node;
use crate::support::{ready, say, seconds, within};

/// TCP ports that answer, seen from this host. A closed one refuses at once.
fn open_tcp(from: &Host, to: Ipv4Addr) -> BTreeSet<u16> {
    from.inside(move || {
        let answers = |port: &u16| {
            let there = SocketAddr::from((to, *port));
            match TcpStream::connect_timeout(&there, seconds(2)) {
                Ok(_) => true,
                // No answer at all is not what a computer without a firewall does with a closed port.
                Err(error) => error.kind() != ErrorKind::ConnectionRefused,
            }
        };
        (1..=u16::MAX).filter(answers).collect()
    })
}

/// UDP ports that do not say that nobody is there.
fn open_udp(from: &Host, to: Ipv4Addr) -> BTreeSet<u16> {
    from.inside(move || {
        let silent = |port: &u16| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(40))).expect("a timeout");
            socket.connect((to, *port)).expect("a route");
            let _ = socket.send(b"?");
            let mut bytes = [0; 64];
            !matches!(socket.recv(&mut bytes), Err(e) if e.kind() == ErrorKind::ConnectionRefused)
        };
        // Asked twice: an answer may be late on a busy computer, never too early.
        (1..=u16::MAX).filter(silent).collect::<Vec<_>>().into_iter().filter(silent).collect()
    })
}

type Ports = (BTreeSet<u16>, BTreeSet<u16>);

fn scan(from: &Host, to: Ipv4Addr) -> Ports {
    (open_tcp(from, to), open_udp(from, to))
}

#[test]
fn a_port_scan_from_the_own_network_shows_nothing_new() {
    if !ready(&["node"]) {
        return;
    }
    // B is in proxy mode, with a neighbour that scans.
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b", "n"]]);
    let [a_host, b_host, neighbour] = &hosts[..] else { unreachable!() };
    // Refusals are usually told once a second only.
    b_host.run(&["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]);
    b_host.run(&["sysctl", "-qw", "net.ipv4.icmp_msgs_per_sec=100000"]);
    b_host.run(&["sysctl", "-qw", "net.ipv4.icmp_msgs_burst=10000"]);
    greet_on(b_host, 8080);
    let before = scan(neighbour, b_host.v4);
    assert_eq!(before.0, [8080].into(), "the instrument");

    let control = format!("file:{}", net.shared().display());
    let common = ["--game", "minecraft", "--game", "doom", "--game", "freeciv", "--control", &control];
    let a = Node::run_bare(a_host, &common);
    let listen = ["--listen", "0.0.0.0:41641", "--join", &a.invite()];
    let mut b = Node::run_bare(b_host, &[&common[..], &listen].concat());
    b.path_to(&a, seconds(20));
    let listener = Listener::java(b_host);
    let mut world = node_script(a_host, "mc-host.js", &["LANRIG", "25599"]);
    world.wait_for("ANNOUNCING", seconds(40));
    listener.wait("LANRIG", seconds(10));
    let mut bot = node_script(b_host, "mc-client.js", &["chat", "LANRIG"]);
    bot.wait_for("CHATTED", seconds(60));
    let during = scan(neighbour, b_host.v4);
    assert_eq!(during.0, before.0, "TCP");
    let new: Vec<u16> = during.1.difference(&before.1).copied().collect();
    // The listener stands for the game itself, which is bound to every card.
    assert_eq!(new, [4445, 41641], "UDP: nothing but the game and the tunnel");

    // What neighbours send is not carried into the party.
    let on_a = Listener::java(a_host);
    let _stranger = Announcer::minecraft(neighbour, "Stranger", 25565, Duration::from_millis(300));
    listener.wait("Stranger", seconds(5));
    std::thread::sleep(seconds(2));
    assert_eq!(on_a.heard_of("Stranger").len(), 0, "the physical network is not bridged");
    say(&format!("65535 TCP and UDP ports: {before:?} before, {during:?} during"));
    b.stop();
    a.stop();
}

/// Which of these TCP ports connect within a while, asked all at once.
fn connects(from: &Host, to: Ipv4Addr, ports: Vec<u16>) -> BTreeSet<u16> {
    from.inside(move || {
        let ask = |port: u16| {
            let there = SocketAddr::from((to, port));
            let try_it = move || TcpStream::connect_timeout(&there, seconds(3)).is_ok().then_some(port);
            std::thread::spawn(try_it)
        };
        let asking: Vec<_> = ports.into_iter().map(ask).collect();
        asking.into_iter().filter_map(|one| one.join().expect("no panic")).collect()
    })
}

#[test]
fn from_the_party_only_the_game_is_reached() {
    if !ready(&["node"]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let [a_host, b_host] = &hosts[..] else { unreachable!() };
    let control = format!("file:{}", net.shared().display());
    // A lets everything out, so that it is B's own wall that is tried.
    let mut a = Node::run(a_host, &["--game", "minecraft", "--control", &control, "--open"]);
    let mut b =
        Node::run_bare(b_host, &["--game", "minecraft", "--control", &control, "--join", &a.invite()]);
    b.path_to(&a, seconds(20));
    a.path_to(&b, seconds(20));
    for port in [22, 8080, 25566] {
        greet_on(b_host, port);
    }
    // What listens on the loopback alone believes to be among friends.
    let _private: Vec<TcpListener> = b_host.inside(|| {
        let on = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free");
        [631, 3306, 5432, 6379, 11434, 25_567].map(on).into()
    });
    let mut world = node_script(b_host, "mc-host.js", &["LANRIG", "25599"]);
    world.wait_for("ANNOUNCING", seconds(40));
    a.game_of(&b, seconds(10));
    let mut ports: Vec<u16> = (1..=600).collect();
    ports.extend([631, 3306, 5432, 6379, 8080, 11434, 25_565, 25_566, 25_567, 25_598, 25_599, 25_600]);
    let open = connects(a_host, b.address(), ports);
    assert_eq!(open, [25_599].into(), "the game alone");
    let dropped = b.counter("drop.port_closed_in");
    assert!(dropped >= 600, "B counted {dropped} packets to closed ports");
    b.stop();
    a.stop();
}

/// Lifetimes: what stands for a game is there while the game is.
#[test]
fn what_stands_for_a_game_goes_with_it() {
    if !ready(&["node"]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", "minecraft", "--control", &control];
    let a = Node::run_bare(&hosts[0], &common);
    let mut b = Node::run_bare(&hosts[1], &[&common[..], &["--join", &a.invite()]].concat());
    b.path_to(&a, seconds(20));
    let listening = || hosts[1].run(&["ss", "-Htln"]).lines().count();
    let before = listening();
    let world = Announcer::minecraft(&hosts[0], "Short", 25_570, Duration::from_millis(500));
    b.game_of(&a, seconds(10));
    let there = within(seconds(5), || (listening() > before).then_some(()));
    assert!(there.is_some(), "a listener for the game: {}", hosts[1].run(&["ss", "-tlnp"]));
    drop(world);
    // The announcement's life, and a minute for who saw it last moment.
    let gone = within(seconds(90), || (listening() == before).then_some(()));
    assert!(gone.is_some(), "it went with the game: {}", hosts[1].run(&["ss", "-tlnp"]));
    b.stop();
    a.stop();
}
