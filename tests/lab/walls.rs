//! Only the game, and only from whom it says it is: closed ports stay closed, forged sources are dropped and counted.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::game::{Listener, greet_on, is_greeted, node_script, received_on, send_forged};
use crate::support::net::{Carries, Host, Net};
use crate::support::node::{Node, text};
use crate::support::{ready, say, seconds, within};

/// A and B with a path; each with options of its own.
fn pair(of_a: &[&str], of_b: &[&str]) -> (Net, Vec<Host>, Node, Node) {
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", "minecraft", "--control", &control];
    let mut a = Node::run(&hosts[0], &[&common[..], of_a].concat());
    let mut b = Node::run(&hosts[1], &[&common[..], &["--join", &a.invite()], of_b].concat());
    b.path_to(&a, seconds(20));
    a.path_to(&b, seconds(20));
    (net, hosts, a, b)
}

#[test]
fn a_peer_reaches_the_games_port_and_no_other() {
    if !ready(&["node"]) {
        return;
    }
    // A lets everything out, so that it is B's own wall that is tried
    let (_net, hosts, mut a, b) = pair(&["--open"], &[]);
    let (a_host, b_host) = (&hosts[0], &hosts[1]);
    for port in [22, 8080, 25565, 25566] {
        greet_on(b_host, port);
    }
    assert!(
        is_greeted(a_host, b_host.v4, 22, seconds(3)),
        "the instrument: port 22 answers beside the tunnel"
    );
    assert!(is_greeted(a_host, b.address(), 25565, seconds(5)), "the game's own port is open");
    for port in [22, 8080, 25566] {
        assert!(
            !is_greeted(a_host, b.address(), port, seconds(3)),
            "port {port} is closed through the tunnel"
        );
    }
    let dropped = b.counter("drop.port_closed_in");
    assert!(dropped >= 3, "B counted {dropped} packets to closed ports");

    // what the running world announces opens, and nothing else does
    let mut world = node_script(b_host, "mc-host.js", &["LANRIG", "25599"]);
    world.wait_for("ANNOUNCING", seconds(40));
    a.game_of(&b, seconds(10));
    let joins = move |host: &Host, to: Ipv4Addr, port| {
        let there = SocketAddr::from((to, port));
        host.inside(move || std::net::TcpStream::connect_timeout(&there, seconds(3)).is_ok())
    };
    assert!(joins(a_host, b.address(), 25599), "the port that the announcement carries is open");
    assert!(!joins(a_host, b.address(), 8080));
    say(&format!("22 and 8080 closed, 25565 and the announced 25599 open; {dropped} packets counted"));
}

#[test]
fn a_peer_that_is_not_open_lets_out_only_the_game() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts, a, b) = pair(&[], &[]);
    greet_on(&hosts[1], 8080);
    assert!(!is_greeted(&hosts[0], b.address(), 8080, seconds(2)));
    assert!(a.counter("drop.port_closed_out") + b.counter("drop.port_closed_in") > 0, "counted somewhere");
}

#[test]
fn a_forged_inner_source_is_dropped_and_counted() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts, a, b) = pair(&["--open"], &["--open"]);
    let (a_host, b_host) = (&hosts[0], &hosts[1]);
    let to = SocketAddr::from((b.address(), 25565));
    let stranger = Ipv4Addr::from(u32::from(a.address()) ^ 0x80);
    assert_ne!(stranger, b.address());

    let receiving = received_on(b_host, 25565, seconds(4));
    send_forged(a_host, a.address(), to, 10);
    send_forged(a_host, stranger, to, 10);
    send_forged(a_host, a_host.v4, to, 10);
    send_forged(a_host, Ipv4Addr::new(192, 0, 2, 9), to, 10);
    let received = receiving.join().expect("no panic");
    let sources: std::collections::BTreeSet<_> = received.iter().map(|(from, _)| from.ip()).collect();
    assert_eq!(sources, [a.address().into()].into(), "only the honest source passes: {received:?}");
    assert_eq!(received.len(), 10, "the instrument: honest packets of the same make pass");
    // A's own wall refuses them first; that B's does too is shown with lying peers in the simulator (src/sim/run.rs)
    let counted = || [&a, &b].map(|node| node.counter("drop.forged_source"));
    let all = within(seconds(3), || (counted().iter().sum::<u64>() >= 30).then_some(()));
    assert!(all.is_some(), "30 forged packets, counted on A and B: {:?}", counted());
    say(&format!("30 forged packets: none arrived, counted on A and B: {:?}", counted()));
}

#[test]
fn strangers_who_hear_the_lan_learn_nothing_of_the_party() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts, mut a, b) = pair(&[], &[]);
    let path = a.path_to(&b, seconds(1));
    let listener = Listener::java(&hosts[1]);
    // garbage at the tunnel's own door: dropped, counted, and the tunnel lives
    let door: SocketAddr = text(&path.value, "remote").parse().expect("an address");
    hosts[0].inside(move || {
        // Whichever family won the race to be the first address that answered.
        let any = if door.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = std::net::UdpSocket::bind(any).expect("a socket");
        for n in 0..500_u32 {
            let mut junk = n.to_le_bytes().repeat(1 + n as usize % 300);
            junk.truncate(1200);
            socket.send_to(&junk, door).expect("a route");
        }
    });
    let noticed = || b.counter("drop.unknown_datagram") + b.counter("drop.refused") + b.counter("drop.flood");
    assert!(within(seconds(3), || (noticed() >= 100).then_some(())).is_some(), "{} counted", noticed());
    let _announcer = crate::support::game::Announcer::minecraft(&hosts[0], "Still", 25565, seconds(1));
    assert_eq!(listener.wait("Still", seconds(5)).from.ip(), a.address());
}
