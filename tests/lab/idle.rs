//! What a party costs while nobody plays: hardly a wake-up, whatever the computer does otherwise.

use crate::support::net::{Carries, Net};
use crate::support::node::Node;
use crate::support::{ready, say, seconds};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::sleep;

/// So long it is looked at.
const WATCHED: u64 = 25;
/// Wake-ups of all threads in a second that are allowed. With two peers it is less than one in quiet; an alarm that rings and is not
/// heeded, or one for each peer at its own time, is tens and thousands.
const MOST: f64 = 4.0;

/// How often each thread of this name went to sleep so far, and milliseconds of processor that all took.
fn threads(id: u32) -> (BTreeMap<String, u64>, u64) {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("it runs");
    let paths: Vec<PathBuf> = tasks.flatten().map(|task| task.path()).collect();
    let (mut slept, mut busy) = (BTreeMap::new(), 0);
    for path in paths {
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        let status = read("status");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
        *slept.entry(field("Name:").to_owned()).or_default() +=
            field("voluntary_ctxt_switches:").parse::<u64>().unwrap_or(0);
        let nanoseconds =
            read("schedstat").split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        busy += nanoseconds / 1_000_000;
    }
    (slept, busy)
}

#[test]
fn a_party_that_nobody_plays_in_sleeps() {
    if !ready(&[]) {
        return;
    }
    let (_net, hosts) = Net::new(Carries::Both, &[&["a", "b", "c"]]);
    let common = ["--game", "minecraft", "--control", "direct"];
    let mut a = Node::run(&hosts[0], &common);
    let invite = a.invite();
    let join = [&common[..], &["--join", &invite]].concat();
    let mut b = Node::run(&hosts[1], &join);
    let c = Node::run(&hosts[2], &join);
    a.path_to(&b, seconds(20));
    a.path_to(&c, seconds(20));
    b.path_to(&c, seconds(20));
    // Everybody has said everything.
    sleep(seconds(12));
    let before = [&a, &b, &c].map(|node| threads(node.id()));
    sleep(seconds(WATCHED));
    for (node, (slept, busy)) in [&a, &b, &c].into_iter().zip(before) {
        let (now, busy_now) = threads(node.id());
        let per_second = |n: u64| n as f64 / WATCHED as f64;
        let each: BTreeMap<&str, f64> = now
            .iter()
            .map(|(name, n)| (name.as_str(), per_second(n - slept.get(name).copied().unwrap_or(0))))
            .collect();
        let all: f64 = each.values().sum();
        let busy = per_second(busy_now - busy);
        say(&format!("{all:.2} wake-ups and {busy:.2} ms of processor a second: {each:?}"));
        assert!(all <= MOST && busy <= 10.0, "{all} wake-ups and {busy} ms a second: {each:?}");
    }
    for node in [c, b, a] {
        node.stop();
    }
}
