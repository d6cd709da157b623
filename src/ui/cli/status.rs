//! `lanrage status` as a tidy table, for 80 columns.
//!
//! The answer of a running node may come from another version of the program, so it is read forgivingly: what is missing is left
//! out, what is unknown is passed over.

use super::screen::{cell, fit, fold, width};
use super::words::{
    MAP_CHARS, VERSION_CHARS, addresses, clean, dotted, game_name, lasting, round_trip, seats,
};
use crate::model::id::ProfileId;
use crate::model::limits;
use crate::model::status::Status;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What is shown of a status.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct View {
    party: String,
    peer: String,
    name: String,
    address: String,
    mode: String,
    nat: Nat,
    playing: Vec<String>,
    control: Vec<Link>,
    peers: Vec<Peer>,
    games: Vec<Game>,
    relays: Vec<Relay>,
    plugins: Vec<Plugin>,
    warnings: Vec<Reason>,
    counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Relay {
    address: String,
    by: String,
    relayed: Option<String>,
    rtt_ms: Option<f64>,
    why: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Plugin {
    id: String,
    version: String,
    origin: String,
    state: String,
    why: Option<String>,
    games: Vec<String>,
}

/// Why something is no better, and what to try.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Reason {
    message: String,
    hint: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Nat {
    r#type: String,
    public: Option<String>,
    port_mapping: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Link {
    control: String,
    state: String,
    why: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Peer {
    peer: String,
    name: String,
    address: String,
    state: String,
    playing: Vec<String>,
    path: Option<Path>,
    advice: Vec<Reason>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Path {
    kind: String,
    remote: String,
    rtt_ms: f64,
    loss: f64,
    why: String,
    since: f64,
    mtu: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Game {
    game: ProfileId,
    #[serde(default)]
    peer: String,
    #[serde(default)]
    title: String,
    address: SocketAddr,
    #[serde(default)]
    local: Option<SocketAddr>,
    #[serde(default)]
    shared: Vec<SocketAddr>,
    #[serde(default)]
    map: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    players: Option<u32>,
    #[serde(default)]
    max_players: Option<u32>,
    #[serde(default)]
    rtt_ms: Option<f64>,
    #[serde(default)]
    since: Option<f64>,
}

impl View {
    /// Reads the object that `status --json` prints.
    ///
    /// # Errors
    /// When it is no such object.
    pub fn read(status: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(status)
    }

    /// The same of a node in this process.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        serde_json::to_value(status).and_then(|v| Self::read(&v)).unwrap_or_default()
    }

    /// Everything, for `lanrage status`.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = self.head();
        section(
            &mut out,
            "Peers",
            self.peer_lines(true),
            "nobody else is here yet: `lanrage invite` prints the invite again",
        );
        if !self.warnings.is_empty() {
            section(&mut out, "Worth knowing", self.warnings.iter().flat_map(Reason::lines).collect(), "");
        }
        section(&mut out, "Games found", self.game_lines(true), "none yet");
        if !self.plugins.is_empty() {
            section(&mut out, "Plugins", self.plugin_lines(), "");
        }
        let (drops, counts): (Vec<_>, Vec<_>) =
            self.counters.iter().partition(|(name, _)| name.starts_with("drop."));
        section(&mut out, "Packets", counter_lines(&counts), "none yet");
        section(&mut out, "Not let through", counter_lines(&drops), "nothing was dropped");
        out.join("\n") + "\n"
    }

    /// Who is here and what can be joined, for the live view.
    #[must_use]
    pub fn short(&self) -> Vec<String> {
        let mut out = vec![String::new()];
        out.extend(
            self.control.iter().filter(|l| l.state != "online").map(|l| format!("  {}", link_line(l))),
        );
        out.extend(self.peer_lines(false));
        if self.peers.is_empty() {
            out.push("  nobody else is here yet".to_owned());
        }
        out.extend(self.game_lines(false));
        out
    }

    fn head(&self) -> Vec<String> {
        let name = clean(&self.name, limits::NAME_CHARS);
        let mut out = vec![
            format!("Party     {}", self.party),
            format!("You       {name}, {} (mode {}), id {}", self.address, self.mode, self.peer),
        ];
        if !self.playing.is_empty() {
            out.push(format!("Playing   {}", clean(&self.playing.join(", "), 200)));
        }
        if !matches!(self.nat.r#type.as_str(), "" | "unknown") {
            let seen = self.nat.public.as_deref().map_or(String::new(), |p| format!(", seen as {p}"));
            out.push(format!("Router    {}{seen}, port mapping: {}", self.nat.r#type, self.nat.port_mapping));
        }
        let links = self.control.iter().map(link_line);
        out.extend(titled("Control", links));
        // One that is not there beside one that is needs no line.
        let up = self.relays.iter().any(|r| r.relayed.is_some());
        let relays = self.relays.iter().filter(|r| !up || r.relayed.is_some()).map(relay_line);
        out.extend(titled("Relay", relays));
        out
    }

    fn peer_lines(&self, whole: bool) -> Vec<String> {
        let mut out = Vec::new();
        if whole && !self.peers.is_empty() {
            out.push(row(["NAME", "ADDRESS", "PATH", "ROUND TRIP", "LOSS", "AT"]));
        }
        for peer in &self.peers {
            let name = self.name_of(&peer.peer);
            let Some(path) = &peer.path else {
                out.push(row([&name, &peer.address, &clean(&peer.state, 12), "", "", ""]));
                out.extend(Self::advice_lines(peer, whole));
                continue;
            };
            let kind = if peer.state == "away" { "away" } else { path.kind.as_str() };
            let loss = format!("{:.0} %", (path.loss * 100.0).clamp(0.0, 100.0));
            let trip = round_trip(path.rtt_ms);
            out.push(row([&name, &peer.address, &clean(kind, 10), &trip, &loss, &clean(&path.remote, 60)]));
            if whole {
                let playing = clean(&peer.playing.join(", "), 100);
                let playing = if playing.is_empty() { String::new() } else { format!("; plays {playing}") };
                let mtu = path.mtu.filter(|m| *m < limits::MTU);
                let mtu = mtu.map_or(String::new(), |m| format!("; {m} bytes at a time"));
                // Reasons for not being better say more than the path's own.
                let why = clean(&path.why, 200);
                let why = if peer.advice.is_empty() { format!("why: {why}; ") } else { String::new() };
                let (since, id) = (lasting(path.since), clean(&peer.peer, 20));
                out.extend(indented(&format!("{why}for {since}{playing}{mtu}; id {id}"), 4));
            }
            out.extend(Self::advice_lines(peer, whole));
        }
        out
    }

    /// Why the path is no better, and what to try.
    fn advice_lines(peer: &Peer, whole: bool) -> Vec<String> {
        let shown = if whole { peer.advice.len() } else { 0 };
        peer.advice.iter().take(shown).flat_map(Reason::lines).collect()
    }

    fn game_lines(&self, whole: bool) -> Vec<String> {
        let mut out = Vec::new();
        for game in &self.games {
            let name = game_name(&self.name_of(&game.peer), &game.game, &game.title);
            let local = game.local.map_or(String::new(), |l| format!(" (here: {l})"));
            out.push(format!("  {} {}{local}", cell(&name, 48), game.address));
            if !game.shared.is_empty() {
                out.push(format!("    from your network: {}", addresses(&game.shared)));
            }
            let players = seats(game.players, game.max_players);
            let trip = game.rtt_ms.map(round_trip).unwrap_or_default();
            let since =
                game.since.filter(|_| whole).map(|s| format!("for {}", lasting(s))).unwrap_or_default();
            let (map, version) = (clean(&game.map, MAP_CHARS), clean(&game.version, VERSION_CHARS));
            let facts = dotted(&[&map, &version, &players, &trip, &since]);
            if let Some(facts) = facts.strip_prefix(" · ") {
                out.extend(indented(facts, 4));
            }
        }
        out
    }

    fn plugin_lines(&self) -> Vec<String> {
        let line = |plugin: &Plugin| {
            let id = cell(&clean(&plugin.id, 64), 20);
            let version = cell(&clean(&plugin.version, 40), 10);
            let games = clean(&plugin.games.join(", "), 60);
            let first = format!("  {id} {version} {} {games}", cell(&clean(&plugin.state, 20), 9));
            let why = plugin.why.as_deref().map_or_else(String::new, |why| fold(&clean(why, 400), 74));
            let mut lines = vec![fit(first.trim_end(), 80)];
            lines.extend(
                why.lines().filter(|l| !l.trim().is_empty()).map(|l| format!("    {}", l.trim_start())),
            );
            lines
        };
        self.plugins.iter().flat_map(line).collect()
    }

    /// A name; with the beginning of the id where two peers have the same.
    fn name_of(&self, id: &str) -> String {
        let short: String = clean(id, 20).chars().take(6).collect();
        let Some(peer) = self.peers.iter().find(|p| p.peer == id) else { return short };
        let name = clean(&peer.name, limits::NAME_CHARS);
        match self.peers.iter().filter(|p| p.name == peer.name).count() {
            _ if name.trim().is_empty() => short,
            0 | 1 => name,
            _ => format!("{name} ({short})"),
        }
    }
}

/// Plain words for a counter, if there are any.
#[must_use]
pub fn counter_words(name: &str) -> Option<&'static str> {
    super::words::counter(name)
}

impl Reason {
    fn lines(&self) -> Vec<String> {
        let mut out = indented(&clean(&self.message, 300), 4);
        if !self.hint.is_empty() {
            out.extend(indented(&format!("try: {}", clean(&self.hint, 300)), 6));
        }
        out
    }
}

/// The table's width.
const COLUMNS: usize = 80;

/// A text on as many lines as it needs.
fn indented(text: &str, margin: usize) -> Vec<String> {
    let indent = " ".repeat(margin);
    // Folding indents by two, so that much less fits on a line.
    let folded = fold(text, COLUMNS - margin);
    folded.lines().map(|line| format!("{indent}{}", line.trim_start())).collect()
}

fn titled(title: &str, lines: impl Iterator<Item = String>) -> Vec<String> {
    lines.enumerate().map(|(n, line)| format!("{:<10}{line}", if n == 0 { title } else { "" })).collect()
}

fn relay_line(relay: &Relay) -> String {
    let name = format!("{} by {}", clean(&relay.address, 60), clean(&relay.by, 5));
    match (&relay.relayed, relay.rtt_ms, &relay.why) {
        (Some(_), Some(rtt), _) => format!("{name}, {}", round_trip(rtt)),
        (Some(_), None, _) => name,
        (None, _, Some(why)) => format!("{name} cannot be used: {}", clean(why, 200)),
        (None, _, None) => format!("{name} does not answer yet"),
    }
}

fn link_line(link: &Link) -> String {
    let why = link.why.as_deref().map_or(String::new(), |w| format!(": {}", clean(w, 200)));
    format!("{} is {}{why}", clean(&link.control, 200), clean(&link.state, 20))
}

/// Two spaces, then columns of fixed width; the last one may be as long as it likes.
fn row(cells: [&str; 6]) -> String {
    let widths = [16, 15, 10, 10, 5];
    let mut out = String::from("  ");
    for (text, columns) in cells.iter().zip(widths) {
        out.push_str(&cell(text, columns));
        out.push(' ');
    }
    let [.., last] = cells;
    (out + last).trim_end().to_owned()
}

/// Counters that happened. Those without words are for developers and stay in the JSON; a reason to drop is always told.
fn counter_lines(counters: &[(&String, &u64)]) -> Vec<String> {
    let line = |(name, n): &(&String, &u64)| {
        let words = counter_words(name).or_else(|| name.strip_prefix("drop."))?;
        (**n > 0).then(|| format!("  {n:>9}  {}", clean(words, 100)))
    };
    counters.iter().filter_map(line).collect()
}

fn section(out: &mut Vec<String>, title: &str, lines: Vec<String>, none: &str) {
    out.push(String::new());
    out.push(title.to_owned());
    if lines.is_empty() {
        out.push(format!("  {none}"));
    }
    debug_assert!(lines.iter().all(|l| width(l) < 400), "every text of others is cut");
    out.extend(lines);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "party": "1111222233334444", "peer": "aaaabbbbccccdddd", "name": "Ana", "address": "10.83.7.1",
            "mode": "lan", "nat": {"type": "unknown"}, "playing": ["minecraft-java"],
            "control": [{"control": "server:http://h:8667", "state": "offline", "why": "connection refused"}],
            "peers": [
                {"peer": "bbbbbbbbbbbbbbbb", "name": "Bob", "address": "10.83.7.2", "state": "here",
                 "playing": ["minecraft-java"],
                 "path": {"kind": "direct", "remote": "203.0.113.5:41641", "rtt_ms": 23.4, "loss": 0.05, "why": "first answer", "since": 720.2, "mtu": 1280},
                 "advice": [{"code": "lossy", "message": "5 of 100 test packets to Bob get lost", "hint": "use a cable"}]},
                {"peer": "cccccccccccccccc", "name": "Bob", "address": "10.83.7.3", "state": "connecting", "path": null}
            ],
            "games": [{"game": "minecraft-java", "peer": "bbbbbbbbbbbbbbbb", "title": "LANRIG",
                       "address": "10.83.7.2:25599", "local": null, "shared": ["192.168.1.5:25599"], "map": "Overworld", "version": "1.21",
                       "players": 3, "max_players": 8, "rtt_ms": 23.6, "since": 130.2},
                      {"game": "openarena", "peer": "cccccccccccccccc", "address": "10.83.7.3:27960"}],
            "relays": [{"address": "192.0.2.9:3478", "by": "udp", "relayed": null, "rtt_ms": null, "why": "refused"},
                       {"address": "192.0.2.8:3478", "by": "tls", "relayed": "192.0.2.8:5", "rtt_ms": 31.0, "why": null}],
            "plugins": [{"id": "warcraft3", "version": "1.0.0", "origin": "shipped", "state": "asleep",
                         "why": "plugin `warcraft3`: on_answer took too long", "games": ["warcraft3"], "may": []}],
            "warnings": [{"code": "x", "message": "your router is slow", "hint": "kick it"}],
            "counters": {"wan_in": 12, "wan_out": 0, "drop.port_closed_in": 3},
            "something": "from a later version"
        })
    }

    #[test]
    fn the_table_tells_peers_games_and_drops_in_words() {
        let table = View::read(&status()).unwrap().table();
        for part in [
            "You       Ana, 10.83.7.1 (mode lan)",
            "server:http://h:8667 is offline: connection refused",
            "Bob (bbbbbb)     10.83.7.2       direct     23 ms      5 %   203.0.113.5:41641",
            "    for 12 min; plays minecraft-java; 1280 bytes at a time; id bbbb",
            "    5 of 100 test packets to Bob get lost\n      try: use a cable",
            "Relay     192.0.2.8:3478 by tls, 31 ms\n",
            "Worth knowing\n    your router is slow\n      try: kick it",
            "Bob (cccccc)     10.83.7.3       connecting",
            "Plugins\n  warcraft3            1.0.0      asleep    warcraft3\n    plugin `warcraft3`: on_answer took too long\n",
            "Bob (bbbbbb)'s world «LANRIG»",
            "10.83.7.2:25599\n    from your network: 192.168.1.5:25599\n    Overworld · 1.21 · 3/8 players · 24 ms · for 2 min\n",
            "Bob (cccccc)'s openarena game                    10.83.7.3:27960\n\n",
            "3  attempts of others to reach a port that no game uses",
        ] {
            assert!(table.contains(part), "{part:?} in\n{table}");
        }
        assert!(!table.contains("datagrams sent"), "zeros are left out");
        assert!(table.lines().all(|l| width(l) <= 80), "{table}");
    }

    #[test]
    fn a_path_as_good_as_it_gets_says_why_it_is_the_one() {
        let mut status = status();
        status["peers"][0]["advice"] = json!([]);
        let table = View::read(&status).unwrap().table();
        assert!(table.contains("    why: first answer; for 12 min; plays minecraft-java; "), "{table}");
    }

    #[test]
    fn an_empty_or_strange_status_is_shown_all_the_same() {
        assert!(View::read(&json!({})).unwrap().table().contains("nobody else is here yet"));
        assert!(View::read(&json!([1, 2])).is_err());
        let hostile = json!({"peers": [{"name": "\u{1b}[2J\n", "peer": "\n\n", "state": "x".repeat(9999)}]});
        let table = View::read(&hostile).unwrap().table();
        assert!(!table.contains('\u{1b}') && table.lines().all(|l| width(l) <= 80), "{table}");
    }
}
