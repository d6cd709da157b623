//! The NAT lab, in short: one quick run of what `scripts/natlab` measures at length, with limits that a busy machine keeps but
//! a cell without a path does not.
//!
//! Needs root, `/dev/net/tun` and what `scripts/lab-setup` installs; otherwise each story says why it is skipped
//! (`LANRAGE_LAB=must` makes that a failure). `docs/natlab.md` has the map and the figures.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the lab is the outside world: processes and threads; and it may panic"
)]

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

const TOOLS: &[&str] = &["ip", "nft", "conntrack", "ping", "python3", "turnserver", "miniupnpd"];

#[test]
fn the_instruments_tell_direct_from_relayed() {
    python("selftest.py", &["instruments"]);
}

#[test]
fn two_open_computers_are_direct() {
    story("open");
}

#[test]
fn two_computers_of_one_house_keep_to_its_lan() {
    story("same-lan");
}

#[test]
fn two_port_restricted_routers_are_punched() {
    story("punch");
}

#[test]
fn a_symmetric_router_is_punched_against_a_port_restricted_one() {
    story("many-ports");
}

#[test]
fn two_symmetric_routers_meet_by_the_relay() {
    story("relay");
}

#[test]
fn two_symmetric_routers_are_direct_when_one_of_them_maps_a_port() {
    story("mapping");
}

#[test]
fn where_udp_is_blocked_port_443_does() {
    story("udp-blocked");
}

#[test]
fn a_router_that_forgets_its_mappings_is_a_short_silence() {
    story("flush");
}

#[test]
fn a_second_relay_takes_over_when_the_first_dies() {
    story("relay-dies");
}

#[test]
fn doctor_names_why_two_symmetric_routers_are_apart_and_what_helps() {
    python("doctor.py", &["symmetric"]);
}

#[test]
fn doctor_says_that_the_port_is_open_where_it_is() {
    python("doctor.py", &["upnp"]);
}

#[test]
fn doctor_says_that_a_network_lets_no_udp_through() {
    python("doctor.py", &["udp-blocked"]);
}

#[track_caller]
fn story(name: &str) {
    python("measure.py", &["story", name]);
}

/// Runs a program of `tests/natlab`, which ends with 0 if all held; what it said is shown if not.
#[track_caller]
fn python(program: &str, args: &[&str]) {
    if !ready() {
        return;
    }
    let _lane = lane();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/natlab");
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("natlab");
    let out = Command::new("timeout")
        .args(["150", "python3", "-B"])
        .arg(folder.join(program))
        .args(args)
        .env("LANRAGE_BIN", env!("CARGO_BIN_EXE_lanrage"))
        .env("LOGS", &logs)
        .output()
        .expect("timeout(1) is there");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{program} {args:?}: {}\n{said}{}\nlogs: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr),
        logs.display()
    );
    say(said.lines().last().unwrap_or_default());
}

/// Two labs at a time: more would measure the processor.
fn lane() -> MutexGuard<'static, ()> {
    static LANES: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
    let [first, second] = &LANES;
    // a story that failed does not fail the next one
    first.try_lock().unwrap_or_else(|_| second.lock().unwrap_or_else(PoisonError::into_inner))
}

fn ready() -> bool {
    let missing: Vec<&str> = TOOLS.iter().copied().filter(|tool| find(tool).is_none()).collect();
    let why = if std::fs::metadata("/proc/self").map_or(1, |m| m.uid()) != 0 {
        "network namespaces need root".to_owned()
    } else if !Path::new("/dev/net/tun").exists() {
        "there is no /dev/net/tun".to_owned()
    } else if !missing.is_empty() {
        format!("not installed: {} (scripts/lab-setup installs it)", missing.join(", "))
    } else {
        return true;
    };
    assert!(std::env::var("LANRAGE_LAB").as_deref() != Ok("must"), "the NAT lab cannot run here: {why}");
    say(&format!("skipped: {why}"));
    false
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

/// Shows even when the test passes: `cargo test` hides what `println!` writes.
fn say(text: &str) {
    let name = std::thread::current().name().unwrap_or("lab_nat").to_owned();
    let _ = std::io::stderr().write_all(format!("    {name}: {text}\n").as_bytes());
}
