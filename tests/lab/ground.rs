//! The lab tested by itself, without lanrage: its instruments hear what there is to hear, and nothing crosses a router.

use std::time::{Duration, Instant};

use crate::support::game::{Announcer, Listener, greet_on, is_greeted, not_exactly_once};
use crate::support::net::{Carries, Net};
use crate::support::{ready, seconds};

#[test]
fn on_one_lan_every_announcement_is_heard_exactly_once() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts) = Net::new(Carries::Both, &[&["a", "b"]]);
    let [a, b] = &hosts[..] else { unreachable!() };
    let listener = Listener::java(b);
    let announcer = Announcer::minecraft(a, "World", 25565, Duration::from_millis(200));
    let first = listener.wait("World", seconds(2));
    assert_eq!(first.from.ip(), a.v4);
    let start = Instant::now();
    std::thread::sleep(seconds(3));
    let numbers = announcer.numbers(start, Instant::now() - Duration::from_millis(300));
    assert!(numbers.len() >= 10, "{numbers:?}");
    assert_eq!(not_exactly_once("World", &numbers, &listener.heard()), []);
}

#[test]
fn without_lanrage_no_announcement_crosses_the_router_but_a_connection_does() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let [a, b] = &hosts[..] else { unreachable!() };
    let listener = Listener::java(b);
    let announcer = Announcer::minecraft(a, "World", 25565, Duration::from_millis(200));
    greet_on(a, 25565);
    assert!(is_greeted(b, a.v4, 25565, seconds(3)));
    assert!(is_greeted(b, a.v6, 25565, seconds(3)));
    let start = Instant::now();
    std::thread::sleep(seconds(3));
    assert!(announcer.numbers(start, Instant::now()).len() >= 10);
    assert_eq!(listener.heard().len(), 0);
}

#[test]
fn a_router_that_carries_only_ipv6_carries_no_ipv4() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts) = Net::new(Carries::OnlyIpv6, &[&["a"], &["b"]]);
    let [a, b] = &hosts[..] else { unreachable!() };
    greet_on(a, 25565);
    assert!(is_greeted(b, a.v6, 25565, seconds(3)));
    assert!(!is_greeted(b, a.v4, 25565, seconds(1)));
}
