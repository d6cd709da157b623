//! What crosses between the engine and plugins, as plain data: questions, answers, and what a plugin may do at all.
//!
//! The engine asks (`ScriptCall`), a plugin's virtual machine answers (`ScriptReply`), and neither knows the other. The
//! engine holds every answer against the plugin's `Capabilities` again: what a plugin says is as hostile as a packet.

use super::id::{PeerId, PluginId, ProfileId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The newest version of the plugin API. A manifest names the one it was written for; this and the one before are served.
pub const API: u16 = 1;
/// The oldest version that is served.
pub const API_OLDEST: u16 = 1;

/// A plugin among those that the running rules ask, in the order of `Ruleset::plugins`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginIx(pub u16);

/// A question, told apart from all others of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A function that a plugin may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// `on_announcement(packet)`: a server says it is there.
    Announcement,
    /// `on_query(packet)`: a client asks.
    Query,
    /// `on_answer(packet)`: a server answers.
    Answer,
    /// `on_peer_joined(peer)`: somebody is reachable now.
    PeerJoined,
    /// `on_peer_left(peer)`: somebody is gone.
    PeerLeft,
    /// `on_tick()`: once a second while the game runs.
    Tick,
    /// `describe(packet)`: what an announcement or an answer says of its game, for the party's list.
    Describe,
    /// `check()`: what `lanrage doctor` should say about this game on this computer.
    Check,
}

impl Hook {
    /// All of them, in the order of the manual.
    pub const ALL: [Self; 8] = [
        Self::Announcement,
        Self::Query,
        Self::Answer,
        Self::PeerJoined,
        Self::PeerLeft,
        Self::Tick,
        Self::Describe,
        Self::Check,
    ];

    /// Its name in Lua.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Announcement => "on_announcement",
            Self::Query => "on_query",
            Self::Answer => "on_answer",
            Self::PeerJoined => "on_peer_joined",
            Self::PeerLeft => "on_peer_left",
            Self::Tick => "on_tick",
            Self::Describe => "describe",
            Self::Check => "check",
        }
    }
}

/// Which hooks a plugin has: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hooks(u8);

impl Hooks {
    /// With this hook too.
    #[must_use]
    pub const fn with(self, hook: Hook) -> Self {
        Self(self.0 | 1 << hook as u8)
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, hook: Hook) -> bool {
        self.0 & 1 << hook as u8 != 0
    }
}

/// What a plugin may see and do. Shown to the player before the first run, enforced by the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// UDP ports whose packets it may be shown (source or destination), send to, and open for the party.
    pub udp: Vec<RangeInclusive<u16>>,
    /// TCP ports that it may open for the party (a game that answers by a new connection).
    pub tcp: Vec<RangeInclusive<u16>>,
    /// Multicast groups that it may send to.
    pub groups: Vec<IpAddr>,
    /// It may change packets.
    pub rewrite: bool,
    /// It may send packets of its own.
    pub send: bool,
}

impl Capabilities {
    /// Whether a UDP port is among its own.
    #[must_use]
    pub fn has_udp(&self, port: u16) -> bool {
        self.udp.iter().any(|range| range.contains(&port))
    }

    /// Whether a TCP port is among its own.
    #[must_use]
    pub fn has_tcp(&self, port: u16) -> bool {
        self.tcp.iter().any(|range| range.contains(&port))
    }
}

/// What the engine knows of a loaded plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFacts {
    /// Its id.
    pub id: PluginId,
    /// What it has.
    pub hooks: Hooks,
    /// What it may do.
    pub may: Capabilities,
    /// Calls per second; what is beyond gets the rule's default.
    pub calls_per_second: u32,
    /// Bytes per second that it may send of its own.
    pub bytes_per_second: u32,
}

/// A question to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptCall {
    /// Which question.
    pub id: CallId,
    /// Whom.
    pub plugin: PluginIx,
    /// The node's clock: what `lanrage.now()` says, in seconds since some moment.
    pub at: Duration,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `on_announcement`, `on_query`, `on_answer` or `describe`, about this packet.
    Packet(Hook, Box<ScriptPacket>),
    /// Somebody is reachable. Plugins keep the list of the party even without the hook.
    PeerJoined(ScriptPeer),
    /// Somebody is gone.
    PeerLeft(PeerId),
    /// A second has passed.
    Tick,
    /// `lanrage doctor` asks.
    Check,
}

/// A member of the party as plugins see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptPeer {
    /// Who.
    pub id: PeerId,
    /// What people call them.
    pub name: String,
    /// Their virtual address.
    pub address: Ipv4Addr,
}

/// A discovery packet as plugins see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptPacket {
    /// Whose profile's rule matched.
    pub game: ProfileId,
    /// The peer that sent it; `None` is the game on this computer.
    pub peer: Option<PeerId>,
    /// Source, in the party's terms: the sender's virtual address and the game's own port.
    pub from: SocketAddr,
    /// Destination as the packet has it.
    pub to: SocketAddr,
    /// This node's virtual address.
    pub me: Ipv4Addr,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// What a plugin makes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptReply {
    /// Which question.
    pub id: CallId,
    /// Who answers.
    pub plugin: PluginIx,
    /// The answer, or why there is none: then the rule's default applies.
    pub answer: Result<ScriptAnswer, ScriptFault>,
}

/// A plugin's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScriptAnswer {
    /// What is to be done with the packet.
    pub verdict: Verdict,
    /// Only these peers get it, of those that would (packets of the own game only); `None` is all.
    pub to: Option<Vec<PeerId>>,
    /// Packets like this one need no question for a while.
    pub teach: Option<Teach>,
    /// Ports that are open to the party for a while.
    pub open: Vec<ScriptOpen>,
    /// Packets of its own.
    pub sends: Vec<ScriptSend>,
    /// What the packet says of its game (`describe`); `None` is nothing.
    pub describes: Option<ScriptGame>,
    /// What `check` has to say.
    pub check: Option<String>,
    /// What it logged, one line each.
    pub log: Vec<String>,
}

/// What is to be done with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verdict {
    /// It goes on as it is (with the rewrites that the profile's rule asks for).
    #[default]
    Forward,
    /// It goes nowhere.
    Drop,
    /// It goes on with this payload; the profile's rewrites come after it.
    Replace(Vec<u8>),
}

/// For how long the same verdict holds without a question, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Teach {
    /// How long.
    pub life: Duration,
    /// For packets with exactly these bytes only (any verdict); else for all that the same rule gets from the same source
    /// (only forward and drop).
    pub same_bytes: bool,
}

/// A port that a plugin asks to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptOpen {
    /// Whose: this computer's for the party (`None`), or that peer's for this computer.
    pub peer: Option<PeerId>,
    /// TCP, else UDP.
    pub tcp: bool,
    /// Which.
    pub port: u16,
    /// How long.
    pub life: Duration,
}

/// A packet that a plugin asks to send. Its source is always the truth: a plugin names only ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptSend {
    /// To the game on this computer, as if that peer had sent it; `None` is to the party, as if our game had.
    pub as_peer: Option<PeerId>,
    /// To the party: only to these peers; `None` is all.
    pub to: Option<Vec<PeerId>>,
    /// The group or broadcast address; `None` is 255.255.255.255 (to the party) or this computer (to the game).
    pub group: Option<IpAddr>,
    /// Source port.
    pub from_port: u16,
    /// Destination port.
    pub to_port: u16,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// What an announcement or answer says of its game.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScriptGame {
    /// What the game calls itself.
    pub title: String,
    /// The map or scenario.
    pub map: String,
    /// The game's version.
    pub version: String,
    /// Who plays.
    pub players: Option<u32>,
    /// How many can.
    pub most_players: Option<u32>,
    /// Joined by TCP (`Some(true)`), UDP, or as the profile says.
    pub tcp: Option<bool>,
    /// The port to join; `None` is what the profile says.
    pub port: Option<u16>,
    /// The game is over: take it from the lists.
    pub over: bool,
}

/// Why a plugin gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptFault {
    /// Too many questions wait for it.
    Busy,
    /// It took too long and the question was given up (the plugin may be asleep now).
    Late,
    /// It sleeps since an earlier fault.
    Asleep,
    /// It failed; the message names the plugin, the line and what went wrong.
    Failed(String),
    /// It failed and was put to sleep, for this reason.
    PutToSleep(String),
}
