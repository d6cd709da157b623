//! A running lanrage, as its player and a script see it: events on standard output, `status`, Ctrl-C.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::net::Host;
use super::process::Process;
use super::{seconds, within};

/// The program under test: what was built with the tests, or, for figures, another build.
pub(crate) fn program() -> String {
    std::env::var("LANRAGE_LAB_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_lanrage").to_owned())
}

/// How long anything that needs no network may take, on a busy machine.
const PATIENCE: Duration = seconds(20);

/// An event and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) data: PathBuf,
    process: Process,
    ready: Value,
}

impl Node {
    /// `lanrage run` with `--json` and a data folder on this host; returns once it is ready.
    #[track_caller]
    pub(crate) fn run(host: &Host, args: &[&str]) -> Self {
        Self::run_after(host, args, &[])
    }

    /// The same, with a command to wrap.
    #[track_caller]
    pub(crate) fn run_after(host: &Host, args: &[&str], wrapped: &[&str]) -> Self {
        let data = host.folder.join("data");
        Self::begin(host, lanrage(host, &data, "run"), args, wrapped)
    }

    /// The same without a single right and without tunnel devices: proxy mode, if nothing else is asked for.
    #[track_caller]
    pub(crate) fn run_bare(host: &Host, args: &[&str]) -> Self {
        Self::begin(host, bare(host, &host.folder.join("data"), "run"), args, &[])
    }

    /// The same as a user of no rank (65534), with every system call written down that asks for something; the file has
    /// them, one a line.
    #[track_caller]
    pub(crate) fn run_watched(host: &Host, args: &[&str]) -> (Self, PathBuf) {
        let calls = host.folder.join("calls");
        let command = watched(host, &host.folder.join("data"), &calls);
        (Self::begin(host, command, args, &[]), calls)
    }

    #[track_caller]
    fn begin(host: &Host, mut command: Command, args: &[&str], wrapped: &[&str]) -> Self {
        let data = host.folder.join("data");
        command.args(args).arg("--json");
        if !wrapped.is_empty() {
            command.arg("--").args(wrapped);
        }
        let mut node = Self {
            host: host.clone(),
            data,
            process: Process::start(&host.name, &mut command),
            ready: Value::Null,
        };
        node.ready = node.event("ready", PATIENCE, |_| true).value;
        node
    }

    pub(crate) fn invite(&self) -> String {
        text(&self.ready, "invite").to_owned()
    }

    pub(crate) fn peer(&self) -> String {
        text(&self.ready, "peer").to_owned()
    }

    /// `lan` or `proxy`.
    pub(crate) fn mode(&self) -> String {
        text(&self.ready, "mode").to_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What the kernel says of the process.
    pub(crate) fn process_status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs")
    }

    /// Its virtual address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        text(&self.ready, "address").parse().expect("an address")
    }

    /// All events of this kind so far.
    #[track_caller]
    pub(crate) fn events(&self, kind: &str) -> Vec<Event> {
        let mut found = Vec::new();
        for line in self.process.lines().into_iter().filter(|l| !l.error && !l.text.is_empty()) {
            let value: Value = serde_json::from_str(&line.text)
                .unwrap_or_else(|e| panic!("not a JSON event on standard output: {:?}: {e}", line.text));
            if value.get("event").and_then(Value::as_str) == Some(kind) {
                found.push(Event { at: line.at, value });
            }
        }
        found
    }

    /// Waits for an event of this kind that fits; one that has come already will do.
    #[track_caller]
    pub(crate) fn event(&mut self, kind: &str, time: Duration, fits: impl Fn(&Value) -> bool) -> Event {
        self.event_where(kind, time, |event| fits(&event.value))
    }

    /// Waits for an event of this kind that fits and came later than this moment.
    #[track_caller]
    pub(crate) fn event_after(
        &mut self,
        moment: Instant,
        kind: &str,
        time: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Event {
        self.event_where(kind, time, |event| event.at > moment && fits(&event.value))
    }

    #[track_caller]
    fn event_where(&mut self, kind: &str, time: Duration, fits: impl Fn(&Event) -> bool) -> Event {
        let found = within(time, || {
            let found = self.events(kind).into_iter().find(|e| fits(e));
            found.map(Some).or_else(|| self.process.has_ended().then_some(None))
        });
        match found.flatten() {
            Some(event) => event,
            None => panic!(
                "{}: no such {kind:?} event within {time:?}{}",
                self.host.name,
                self.process.last_words()
            ),
        }
    }

    /// Waits until this peer can be reached.
    #[track_caller]
    pub(crate) fn path_to(&mut self, other: &Self, time: Duration) -> Event {
        let peer = other.peer();
        self.event("path", time, |e| text(e, "peer") == peer)
    }

    /// Waits until a game of this peer is known.
    #[track_caller]
    pub(crate) fn game_of(&mut self, other: &Self, time: Duration) -> Event {
        let peer = other.peer();
        self.event("game_found", time, |e| text(e, "peer") == peer)
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let out = lanrage(&self.host, &self.data, "status").arg("--json").output().expect("lanrage runs");
        assert!(out.status.success(), "status: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("status is one JSON object")
    }

    /// A counter of `status`; one that is not there counts as zero only if the others are there.
    #[track_caller]
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let status = self.status();
        let counters = status.get("counters").and_then(Value::as_object).expect("counters in the status");
        assert!(!counters.is_empty(), "no counters in the status");
        counters.get(name).map_or(0, |n| n.as_u64().expect("a number"))
    }

    /// Ctrl-C: it must leave cleanly and quickly.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.interrupt();
        let end = self.process.wait_end(seconds(10));
        assert_eq!(
            end.code(),
            Some(0),
            "{} did not leave cleanly{}",
            self.host.name,
            self.process.last_words()
        );
    }

    pub(crate) fn interrupt(&self) {
        self.process.signal("-INT");
    }

    /// The power goes.
    pub(crate) fn kill(mut self) {
        self.process.signal("-KILL");
        self.process.wait_end(seconds(5));
    }

    /// Waits until it ends by itself; its exit code.
    #[track_caller]
    pub(crate) fn wait_end(&mut self, time: Duration) -> Option<i32> {
        self.process.wait_end(time).code()
    }

    pub(crate) fn last_words(&self) -> String {
        self.process.last_words()
    }
}

/// A lanrage command on this host.
pub(crate) fn lanrage(host: &Host, data: &Path, command: &str) -> Command {
    let mut lanrage = host.command(program());
    lanrage.args([command, "--data-dir"]).arg(data);
    lanrage
}

/// The same for a user who may do nothing at all, on a system that has no tunnel devices.
pub(crate) fn bare(host: &Host, data: &Path, command: &str) -> Command {
    // `ip netns exec` has a mount namespace of its own, so nothing else misses the device.
    let strip = "mount -t tmpfs none /dev/net && exec setpriv --bounding-set=-all --inh-caps=-all \
                 --ambient-caps=-all --no-new-privs \"$@\"";
    let mut lanrage = host.command("/bin/sh");
    lanrage.args(["-c", strip, "bare", &program(), command, "--data-dir"]).arg(data);
    lanrage
}

/// `run` for a user who is nobody, under the eyes of strace, which says what was asked of the system.
fn watched(host: &Host, data: &Path, calls: &Path) -> Command {
    // Where everybody may read it.
    let lanrage = host.folder.join("lanrage");
    let placed = std::fs::hard_link(program(), &lanrage);
    placed.or_else(|_| std::fs::copy(program(), &lanrage).map(drop)).expect("a copy");
    let asks = "trace=execve,capset,setns,unshare,mount,umount2,bpf,socket,setsockopt,sendto,sendmsg";
    let strip = "mount -t tmpfs none /dev/net && chown -R 65534:65534 \"$HOME/..\" && calls=$1 && asks=$2 && shift 2 && \
                 exec strace -D -f -qq -s 64 -o \"$calls\" -e \"$asks\" setpriv --reuid 65534 --regid 65534 --clear-groups \
                 --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs \"$@\"";
    let mut command = host.command("/bin/sh");
    command
        .args(["-c", strip, "watched"])
        .arg(calls)
        .arg(asks)
        .arg(lanrage)
        .args(["run", "--data-dir"])
        .arg(data);
    command
}

/// A control server on this host; returns it and the `--control` argument that names it.
#[track_caller]
pub(crate) fn server(host: &Host) -> (Process, String) {
    let mut command = lanrage(host, &host.folder.join("data"), "server");
    let mut process =
        Process::start(&host.name, command.args(["--listen", "0.0.0.0:8667", "--listen", "[::]:8668"]));
    let there = SocketAddr::new(IpAddr::V4(host.v4), 8667);
    let up = within(PATIENCE, || {
        assert!(!process.has_ended(), "the server ended{}", process.last_words());
        let connects = move || std::net::TcpStream::connect_timeout(&there, seconds(1)).is_ok();
        host.inside(connects).then_some(())
    });
    assert!(up.is_some(), "the server never listened{}", process.last_words());
    (process, format!("server:http://{there}"))
}

#[track_caller]
pub(crate) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {field:?} in {value}"))
}
