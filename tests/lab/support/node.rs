//! A running lanrage, as its player and a script see it: events on standard output, `status`, Ctrl-C.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::net::Host;
use super::process::Process;
use super::{seconds, within};

/// The program under test.
pub(crate) const LANRAGE: &str = env!("CARGO_BIN_EXE_lanrage");

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
        let mut command = lanrage(host, &data, "run");
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
    let mut lanrage = host.command(LANRAGE);
    lanrage.args([command, "--data-dir"]).arg(data);
    lanrage
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
