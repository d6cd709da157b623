//! What people and scripts are shown: events while it happens, a status when asked. The JSON names are a contract.

use super::id::{PartyId, PeerId, PluginId, ProfileId};
use super::nat::NatFacts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How packets reach a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// The same physical LAN.
    Lan,
    /// Straight over the internet.
    Direct,
    /// Through a TURN server.
    Relay,
}

impl std::fmt::Display for PathKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
            Self::Relay => "relay",
        })
    }
}

/// How games' packets get in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A TUN device carries every IP packet.
    Lan,
    /// Local ports stand in for remote games.
    Proxy,
}

/// How a game of the list is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinedBy {
    /// A connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// One line of `run --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The party can be joined.
    Ready {
        /// The party's name.
        party: PartyId,
        /// The invite as text.
        invite: String,
        /// This node.
        peer: PeerId,
        /// This player.
        name: String,
        /// This node's virtual address.
        address: IpAddr,
        /// `lan` or `proxy`.
        mode: Mode,
        /// The control planes in use, as given on the command line.
        control: String,
    },
    /// How games' packets get in and out of this node, once that is decided.
    Mode {
        /// `lan` or `proxy`.
        mode: Mode,
        /// Why this one.
        why: String,
        /// What would make it the other, where that is worth knowing; else empty.
        hint: String,
    },
    /// What is known about this computer's router.
    Nat {
        /// The short word: `open`, `full-cone` … `unknown`.
        r#type: String,
        /// RFC 5780 mapping behaviour.
        mapping: String,
        /// RFC 5780 filtering behaviour.
        filtering: String,
        /// The public address, if known.
        public: Option<SocketAddr>,
        /// `upnp`, `nat-pmp`, `pcp` or `none`.
        port_mapping: String,
    },
    /// Somebody is in the party.
    PeerJoined {
        /// Who.
        peer: PeerId,
        /// What people call it.
        name: String,
        /// Its virtual address.
        address: IpAddr,
    },
    /// A peer became reachable, or the way to it changed.
    Path {
        /// Who.
        peer: PeerId,
        /// How.
        kind: PathKind,
        /// Where the packets go.
        remote: SocketAddr,
        /// Round trip in milliseconds.
        rtt_ms: f64,
        /// Why this path.
        why: String,
    },
    /// A peer's game can be joined.
    GameFound {
        /// The profile.
        game: ProfileId,
        /// Whose it is.
        peer: PeerId,
        /// What the game calls itself.
        title: String,
        /// Where to join it in the party.
        address: SocketAddr,
        /// How it is joined.
        by: JoinedBy,
        /// The local stand-in, in proxy mode.
        local: Option<SocketAddr>,
        /// Where other computers of the player's own networks join it, where games are shared with them.
        shared: Vec<SocketAddr>,
        /// Its map or scenario; empty when it does not say.
        map: String,
        /// Its version; empty when it does not say.
        version: String,
        /// Who plays.
        players: Option<u32>,
        /// How many can.
        max_players: Option<u32>,
        /// Round trip to its player in milliseconds, when one was measured.
        rtt_ms: Option<f64>,
        /// It was told before and is another now: what it calls itself, its map, its version or its players.
        changed: bool,
    },
    /// It cannot any more.
    GameLost {
        /// The profile.
        game: ProfileId,
        /// Whose it was.
        peer: PeerId,
        /// What it called itself.
        title: String,
        /// Why it is gone.
        why: String,
    },
    /// A peer is gone.
    PeerLeft {
        /// Who.
        peer: PeerId,
        /// Why.
        why: String,
    },
    /// A plugin that the games' profiles ask, at the start and when something about it changed.
    Plugin(PluginStatus),
    /// `run --dev`: what was edited is in use now.
    Reloaded {
        /// What, in a sentence.
        what: String,
        /// What the new code makes of the last packets: one line each, before and after.
        replayed: Vec<String>,
    },
    /// Something a player should know; it goes on.
    Warning(Trouble),
    /// Something that stops the program or a part of it.
    Error(Trouble),
}

/// What happened, where, and what to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// A stable word for scripts, such as `control_unreachable`.
    pub code: String,
    /// What happened and where, in a sentence.
    pub message: String,
    /// What to try.
    pub hint: String,
}

impl Trouble {
    /// A trouble.
    pub fn new(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: hint.into() }
    }
}

/// What `lanrage status` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The party's name.
    pub party: PartyId,
    /// This node.
    pub peer: PeerId,
    /// What people call this node.
    pub name: String,
    /// This node's virtual address.
    pub address: Ipv4Addr,
    /// `lan` or `proxy`.
    pub mode: Mode,
    /// What is known about the router; the fields of the `nat` event.
    pub nat: NatStatus,
    /// The games this node runs a profile for.
    pub playing: Vec<ProfileId>,
    /// The control planes and how they are.
    pub control: Vec<LinkStatus>,
    /// The others.
    pub peers: Vec<PeerStatus>,
    /// Games of the others.
    pub games: Vec<GameStatus>,
    /// Relays, one for each way to one.
    pub relays: Vec<RelayStatus>,
    /// Plugins that the games' profiles ask.
    pub plugins: Vec<PluginStatus>,
    /// What stands in the way of everybody at this end, and what to try.
    pub warnings: Vec<Trouble>,
    /// Numbers by name; drops by reason start with `drop.`.
    pub counters: BTreeMap<&'static str, u64>,
}

/// What is known about this computer's router. The first five fields are those of the `nat` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NatStatus {
    /// The short word.
    pub r#type: String,
    /// RFC 5780 mapping behaviour.
    pub mapping: String,
    /// RFC 5780 filtering behaviour.
    pub filtering: String,
    /// The public address, if known.
    pub public: Option<SocketAddr>,
    /// `upnp`, `nat-pmp`, `pcp` or `none`.
    pub port_mapping: String,
    /// The same by IPv6.
    pub public_v6: Option<SocketAddr>,
    /// How outside ports are chosen: `preserved`, `sequential`, `random`, `unknown`.
    pub ports: String,
    /// Whether any UDP came back from outside.
    pub udp: Option<bool>,
    /// Whether two computers behind the router reach each other by its outside address.
    pub hairpin: Option<bool>,
    /// A mapping is known to live in silence for so many seconds.
    pub lifetime: Option<u64>,
    /// The outside address that the router forwards on request.
    pub mapped: Option<SocketAddr>,
    /// What asking the router for a port came to, by protocol.
    pub asked: Vec<PortMappingStatus>,
    /// The proof: which server sees this computer's tunnel where.
    pub seen: Vec<SeenStatus>,
}

impl NatStatus {
    /// What facts about IPv4 and IPv6 tell; nothing of port mappings and proof.
    #[must_use]
    pub fn of(v4: &NatFacts, v6: &NatFacts) -> Self {
        Self {
            r#type: v4.word().to_owned(),
            mapping: v4.mapping.word().to_owned(),
            filtering: v4.filtering.word().to_owned(),
            public: v4.public.or(v6.public),
            public_v6: v6.public,
            ports: v4.ports.word().to_owned(),
            udp: if v6.udp == Some(true) { v6.udp } else { v4.udp.or(v6.udp) },
            hairpin: v4.hairpin,
            lifetime: v4.lifetime.map(|t| t.as_secs()),
            ..Self::default()
        }
    }
}

/// What asking the router by one protocol came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMappingStatus {
    /// `upnp`, `nat-pmp` or `pcp`.
    pub by: String,
    /// In words, such as `no answer`.
    pub said: String,
}

/// How a server sees this computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenStatus {
    /// The server.
    pub server: SocketAddr,
    /// The address that it saw.
    pub address: SocketAddr,
}

impl Default for NatStatus {
    fn default() -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            r#type: unknown(),
            mapping: unknown(),
            filtering: unknown(),
            public: None,
            port_mapping: "none".into(),
            public_v6: None,
            ports: unknown(),
            udp: None,
            hairpin: None,
            lifetime: None,
            mapped: None,
            asked: Vec::new(),
            seen: Vec::new(),
        }
    }
}

/// One way to a relay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RelayStatus {
    /// Its address.
    pub address: SocketAddr,
    /// `udp`, `tcp` or `tls`.
    pub by: String,
    /// This node's address there, while there is one.
    pub relayed: Option<SocketAddr>,
    /// Round trip to it in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Why there is none.
    pub why: Option<String>,
}

/// A control plane and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// As given on the command line, such as `file:/srv/party`.
    pub control: String,
    /// `online`, `connecting` or `offline`.
    pub state: String,
    /// Why it is not online, if it is not.
    pub why: Option<String>,
}

/// A peer and the way to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerStatus {
    /// Who.
    pub peer: PeerId,
    /// What people call it.
    pub name: String,
    /// Its virtual address.
    pub address: Ipv4Addr,
    /// `here`, `connecting`, `away`.
    pub state: String,
    /// The profiles it runs.
    pub playing: Vec<ProfileId>,
    /// The way to it, if there is one.
    pub path: Option<PathStatus>,
    /// What its router is like, by the short word of the `nat` event.
    pub nat: String,
    /// All ways to it that are known, the best first; of very many the last are left out.
    pub ways: Vec<WayStatus>,
    /// Why there is no better path and what would change that, the most important first; empty when it is as good as
    /// it gets.
    pub advice: Vec<Trouble>,
}

/// One way to a peer under test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WayStatus {
    /// Its tier.
    pub kind: PathKind,
    /// The address at the other end; `None` where another player passes packets on.
    pub remote: Option<SocketAddr>,
    /// What is in between: a relay such as `udp 203.0.113.9:3478`, or a player's address.
    pub through: Option<String>,
    /// How the address was learned: `card`, `router`, `port mapping`, `relay`, `reckoned`, or `heard` from the peer
    /// itself.
    pub source: String,
    /// `in use`, `works`, `asked`, `silent`.
    pub state: String,
    /// Round trip in milliseconds, when it was ever measured.
    pub rtt_ms: Option<f64>,
    /// Share of lost pings, 0 to 1.
    pub loss: f64,
    /// Seconds since a ping was answered.
    pub proven: Option<f64>,
    /// Seconds since anything came this way.
    pub heard: Option<f64>,
}

/// The way to a peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathStatus {
    /// How.
    pub kind: PathKind,
    /// Where the packets go.
    pub remote: SocketAddr,
    /// Round trip in milliseconds.
    pub rtt_ms: f64,
    /// Share of lost pings, 0 to 1.
    pub loss: f64,
    /// Why this path.
    pub why: String,
    /// In use for so many seconds.
    pub since: f64,
    /// The largest packet of a game that goes in one piece, in bytes, as far as known.
    pub mtu: Option<u16>,
}

/// A plugin that the games' profiles ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginStatus {
    /// Its id.
    pub id: PluginId,
    /// Its version; empty when it is not there.
    pub version: String,
    /// `shipped`, `added`, `development`, or `none` when it is not there.
    pub origin: String,
    /// `ok`, `asleep`, `missing`, `refused`.
    pub state: String,
    /// Why it is not asked, if it is not.
    pub why: Option<String>,
    /// The games that ask it.
    pub games: Vec<ProfileId>,
    /// What it may do, in plain words.
    pub may: Vec<String>,
}

/// A game of a peer; the fields of the `game_found` event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GameStatus {
    /// The profile.
    pub game: ProfileId,
    /// Whose it is.
    pub peer: PeerId,
    /// What the game calls itself.
    pub title: String,
    /// Where to join it in the party.
    pub address: SocketAddr,
    /// How it is joined.
    pub by: JoinedBy,
    /// The local stand-in, in proxy mode.
    pub local: Option<SocketAddr>,
    /// Where other computers of the player's own networks join it, where games are shared with them.
    pub shared: Vec<SocketAddr>,
    /// Its map or scenario; empty when it does not say.
    pub map: String,
    /// Its version; empty when it does not say.
    pub version: String,
    /// Who plays.
    pub players: Option<u32>,
    /// How many can.
    pub max_players: Option<u32>,
    /// Round trip to its player in milliseconds, when one was measured.
    pub rtt_ms: Option<f64>,
    /// In the list for so many seconds.
    pub since: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_exactly_the_names_of_the_contract() {
        let id = PeerId([1; 10]);
        let json = serde_json::to_value(Event::Path {
            peer: id,
            kind: PathKind::Direct,
            remote: "192.0.2.1:5".parse().unwrap(),
            rtt_ms: 1.5,
            why: "first answer".into(),
        })
        .unwrap();
        assert_eq!(json["event"], "path");
        assert_eq!(json["kind"], "direct");
        assert_eq!(json["remote"], "192.0.2.1:5");
        let json = serde_json::to_value(Event::Warning(Trouble::new("c", "m", "h"))).unwrap();
        assert_eq!(json, serde_json::json!({"event": "warning", "code": "c", "message": "m", "hint": "h"}));
        let json = serde_json::to_value(Event::GameLost {
            game: "doom".into(),
            peer: id,
            title: "t".into(),
            why: "w".into(),
        })
        .unwrap();
        assert_eq!(json["event"], "game_lost");
    }
}
