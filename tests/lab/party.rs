//! Three players, two of them in one house: everything arrives everywhere exactly once, however many ways there are.

use std::time::{Duration, Instant};

use crate::support::game::{Announcer, Heard, Listener, not_exactly_once};
use crate::support::net::{Carries, Net};
use crate::support::node::Node;
use crate::support::{ready, say, seconds};

const COUNTED: Duration = seconds(30);

#[test]
fn with_two_of_three_on_one_lan_every_announcement_arrives_exactly_once() {
    if !ready(&[]) {
        return;
    }
    // d lives with b and c but is not of the party
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b", "c", "d"]]);
    let [a_host, b_host, c_host, d_host] = &hosts[..] else { unreachable!() };
    let control = format!("file:{}", net.shared().display());
    let mut a = Node::run(a_host, &["--game", "minecraft", "--control", &control]);
    let join = ["--game", "minecraft", "--control", &control, "--join", &a.invite()];
    let mut b = Node::run(b_host, &join);
    let mut c = Node::run(c_host, &join);
    for other in [&b, &c] {
        a.path_to(other, seconds(20));
    }
    for other in [&a, &c] {
        b.path_to(other, seconds(20));
    }
    for other in [&a, &b] {
        c.path_to(other, seconds(20));
    }

    let [on_a, on_b, on_c, on_d] = [a_host, b_host, c_host, d_host].map(Listener::java);
    let of_a = Announcer::minecraft(a_host, "WorldOfA", 25565, Duration::from_millis(1500));
    let of_b = Announcer::minecraft(b_host, "WorldOfB", 25565, Duration::from_millis(1500));
    on_b.wait("WorldOfA", seconds(5));
    on_c.wait("WorldOfA", seconds(5));
    on_a.wait("WorldOfB", seconds(5));
    on_c.wait("WorldOfB", seconds(5));
    let start = Instant::now();
    std::thread::sleep(COUNTED + seconds(1));
    let from_a = of_a.numbers(start, start + COUNTED);
    let from_b = of_b.numbers(start, start + COUNTED);
    assert!(from_a.len() >= 18 && from_b.len() >= 18, "{} and {}", from_a.len(), from_b.len());

    for (whose, title, numbers, listener) in [
        ("A's on B", "WorldOfA", &from_a, &on_b),
        ("A's on C", "WorldOfA", &from_a, &on_c),
        ("A's on A itself", "WorldOfA", &from_a, &on_a),
        ("B's on A", "WorldOfB", &from_b, &on_a),
        ("B's on C, its neighbour", "WorldOfB", &from_b, &on_c),
        ("B's on B itself", "WorldOfB", &from_b, &on_b),
        ("B's on D, a neighbour outside the party", "WorldOfB", &from_b, &on_d),
    ] {
        let wrong = not_exactly_once(title, numbers, &listener.heard());
        assert_eq!(wrong, [], "{whose}: (number, times) other than once");
    }
    assert_eq!(on_d.heard_of("WorldOfA").len(), 0, "nothing of the party leaks onto the LAN");
    let source =
        |heard: &[Heard]| heard.iter().map(|h| h.from.ip()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(source(&on_b.heard_of("WorldOfA")), [a.address().into()].into());
    assert_eq!(source(&on_c.heard_of("WorldOfA")), [a.address().into()].into());
    assert_eq!(source(&on_a.heard_of("WorldOfB")), [b.address().into()].into());
    say(&format!(
        "{} announcements of A and {} of B, each heard once by everyone",
        from_a.len(),
        from_b.len()
    ));
    for node in [c, b, a] {
        node.stop();
    }
}
