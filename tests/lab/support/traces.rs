//! Everything a program can leave behind on a host: devices, addresses, routes, rules, groups, settings of the kernel,
//! packet filters, processes and files.

use std::collections::BTreeMap;

use super::net::Host;
use super::within;
use std::time::Duration;

/// What is there, by where it was looked for.
pub(crate) type Traces = BTreeMap<String, String>;

const LOOK: &[&str] = &[
    "ip -d -o link show",
    "ip -o addr show",
    "ip -4 -o route show table all",
    "ip -6 -o route show table all",
    "ip -4 rule show",
    "ip -6 rule show",
    "ip maddr show",
    "ip -o neigh show nud permanent",
    "nft list ruleset",
    "tc qdisc show",
    "sysctl -a -r ^net[.]ipv[46][.](conf|neigh|ip_forward|icmp)",
    "ss -Htuln",
];

pub(crate) fn look(host: &Host) -> Traces {
    let mut traces: Traces = LOOK
        .iter()
        .map(|line| ((*line).to_owned(), tidy(&host.run(&line.split(' ').collect::<Vec<_>>()))))
        .collect();
    traces.insert("processes".into(), processes(host));
    for folder in ["tmp", "run"] {
        traces.insert(format!("files in {folder}"), files(&host.folder.join(folder)).join("\n"));
    }
    traces
}

/// What differs, or nothing once both are the same; asked again for a while, since a kernel needs its time too.
#[track_caller]
pub(crate) fn assert_nothing_left(before: &Traces, host: &Host) {
    let mut differences = Vec::new();
    let clean = within(Duration::from_secs(3), || {
        let after = look(host);
        differences = before.iter().flat_map(|(what, was)| changes(what, was, &after[what])).collect();
        differences.is_empty().then_some(())
    });
    assert!(clean.is_some(), "left behind on {}:\n{}", host.name, differences.join("\n"));
}

fn changes(what: &str, before: &str, after: &str) -> Vec<String> {
    let mark = |sign: char, text: &str, other: &str| -> Vec<String> {
        let odd = text.lines().filter(|line| !other.lines().any(|l| l == *line));
        odd.map(|line| format!("  {what}: {sign} {line}")).collect()
    };
    [mark('-', before, after), mark('+', after, before)].concat()
}

/// The files below a folder, in order, with their sizes left out: contents may change, traces may not appear.
pub(crate) fn files(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push(path.display().to_string());
    }
    found.sort();
    found
}

fn processes(host: &Host) -> String {
    let pids = host.run(&["ip", "netns", "pids", &host.namespace]);
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut names: Vec<String> =
        pids.split_whitespace().map(name).filter(|n| n.starts_with("lanrage")).collect();
    names.sort();
    names.concat()
}

/// Leaves out what changes by itself.
fn tidy(text: &str) -> String {
    text.lines().filter(|line| !line.contains("base_reachable_time")).collect::<Vec<_>>().join("\n")
}
