//! What a path finder wants done, and what it says of a path.

use super::pair::Pair;
use super::route::Route;
use crate::model::status::PathKind;
use crate::model::time::Mono;
use std::net::SocketAddr;
use std::time::Duration;

/// What the agent wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send a handshake initiation by all `routes`.
    Handshake,
    /// Send a ping by this way.
    Ping {
        /// Which way.
        route: Route,
        /// Its number.
        number: u64,
        /// Nothing is heard from the peer: it should doubt its own sending too.
        doubt: bool,
    },
    /// The primary path is new or changed, and proven.
    Changed(Report),
    /// Send what was sent since this moment once more by `second`.
    Resend(Mono),
    /// The way may have broken at this end: look at the router's mapping and at the relays.
    Distress,
    /// No path is left.
    Lost,
}

/// A path, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its tier.
    pub kind: PathKind,
    /// Which way.
    pub route: Route,
    /// Round-trip time.
    pub rtt: Duration,
    /// Share of lost pings in thousandths.
    pub loss: u32,
    /// Since when it is the path.
    pub since: Mono,
    /// Why this one.
    pub why: String,
}

impl Report {
    /// The address at the other end; unspecified where another member passes packets on.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.route.remote().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }
}

/// Why a way became the first.
pub(super) fn first_words(kind: PathKind) -> String {
    match kind {
        PathKind::Lan => "you are on the same network",
        PathKind::Direct => "the first direct address that answered",
        PathKind::Relay => "no direct address has answered yet",
    }
    .to_owned()
}

/// Why a way replaced another.
pub(super) fn better_words(kind: PathKind, old: &Pair) -> String {
    if kind == old.kind {
        return format!("it is faster than {}", old.route);
    }
    match kind {
        PathKind::Lan => "you are on the same network".to_owned(),
        PathKind::Direct | PathKind::Relay => "a direct address answered".to_owned(),
    }
}
