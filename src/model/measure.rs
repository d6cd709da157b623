//! What a measurement of the way to a peer found (`lanrage bench`). The JSON names are a contract (`docs/commands.md`).

use super::id::PeerId;
use super::status::PathKind;
use serde::Serialize;
use std::net::SocketAddr;

/// What the engine measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Lone packets, one after the other.
    pub alone: Trip,
    /// A game's packets beside a bulk flow.
    pub beside: Option<Beside>,
    /// Small packets, as games send them.
    pub small: Carried,
    /// Large packets, as downloads send them.
    pub bulk: Carried,
    /// A rate counts as carried while no larger share than this is lost: one hundredth more than of lone packets.
    pub allowed_loss: f64,
}

/// Packets that were sent back one by one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trip {
    /// How many were sent.
    pub packets: u32,
    /// How long each is, as a packet of a game.
    pub bytes: u16,
    /// How many a second.
    pub per_second: u32,
    /// Round trip; `None` when none came back.
    pub rtt_ms: Option<Rtt>,
    /// Share that did not come back, 0 to 1.
    pub loss: f64,
    /// Came back twice.
    pub duplicates: u32,
    /// Came back after a later one.
    pub reordered: u32,
}

/// Round-trip times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rtt {
    /// The shortest.
    pub min: f64,
    /// Half of all are no longer.
    pub p50: f64,
    /// 99 of 100 are no longer.
    pub p99: f64,
}

/// A game's packets beside a bulk flow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beside {
    /// How much the flow sent there, in Mbit/s.
    pub flow_mbit: f64,
    /// What became of the game's packets.
    #[serde(flatten)]
    pub trip: Trip,
}

/// How much of one size the way carries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Carried {
    /// How long each packet is.
    pub bytes: u16,
    /// Towards the peer; `None` when no rate was carried, or time ran out.
    pub there: Option<Rate>,
    /// From the peer.
    pub back: Option<Rate>,
}

/// The highest rate that was carried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// Packets that arrived in a second.
    pub per_second: f64,
    /// The same in Mbit/s.
    pub mbit: f64,
    /// Share that was lost at this rate, 0 to 1.
    pub loss: f64,
    /// Arrived twice.
    pub duplicates: u32,
    /// Arrived after a later one.
    pub reordered: u32,
    /// Why it was not measured higher.
    pub limit: Limit,
}

/// Why no higher rate was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Above it too much is lost.
    Loss,
    /// Above it packets wait longer and longer.
    Delay,
    /// This computer cannot send faster.
    Sender,
    /// The highest rate that is tried, which for the way back is what the way there carries.
    Most,
    /// There was no more time.
    Time,
}

impl Limit {
    /// Whether the way may carry more.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Sender | Self::Most | Self::Time)
    }
}

/// What `lanrage bench --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bench {
    /// Who is at the other end.
    pub peer: PeerId,
    /// What people call it.
    pub name: String,
    /// The shorter measurement.
    pub quick: bool,
    /// How long it took.
    pub took_ms: u64,
    /// Processor time of the running node meanwhile, where the system tells.
    pub cpu_ms: Option<u64>,
    /// The way that was measured.
    pub path: BenchPath,
    /// What was found.
    #[serde(flatten)]
    pub measured: Measured,
}

/// The way that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchPath {
    /// How.
    pub kind: PathKind,
    /// Where the packets go.
    pub remote: SocketAddr,
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// What is in between: a relay such as `udp 203.0.113.9:3478`, or a player's address.
    pub through: Option<String>,
    /// The largest packet of a game that goes in one piece, in bytes, as far as known.
    pub mtu: Option<u16>,
    /// Why this path.
    pub why: String,
    /// It was another one when the measurement began.
    pub changed: bool,
}
