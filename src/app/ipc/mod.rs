//! How `status`, `invite`, `leave`, `kick` and `bench` talk to the running node of the same data folder.
//!
//! One JSON line there, one JSON line back, on a door that only the same user can open: a Unix socket in the data folder, or,
//! where there are none (Windows), loopback TCP with a token of this run in a file of the data folder. Every line is capped and
//! every wait is bounded. What comes in is a request or nothing; nothing here starts programs or reads files by name.

mod bench;
mod client;
mod door;
mod server;

pub use client::Client;
pub use server::Server;

use crate::app::plugins::crew::CheckSaid;
use crate::model::id::{PartyId, PeerId};
use crate::model::status::{PeerStatus, Status, Trouble};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest request.
const REQUEST_BYTES: u64 = 4 * 1024;
/// The longest answer: a status with 64 peers and all their games is far below.
const ANSWER_BYTES: u64 = 4 * 1024 * 1024;
/// For one line in either direction.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a goodbye or a kick to take effect.
const EFFECT: Duration = Duration::from_secs(10);
/// For a measurement: it is over after fourteen seconds and a little.
const MEASUREMENT: Duration = Duration::from_secs(16);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// How things are.
    Status,
    /// The invite.
    Invite,
    /// What the plugins say of this computer.
    Check,
    /// Say goodbye and stop.
    Leave,
    /// Remove a peer.
    Kick {
        /// Its name, its id or the beginning of its id.
        peer: String,
    },
    /// Measure the way to a peer.
    Bench {
        /// The same; without it the only other one is meant.
        peer: Option<String>,
        /// In a quarter of the time.
        quick: bool,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How things are.
    Status {
        /// As `status --json` prints it.
        status: serde_json::Value,
    },
    /// What the plugins say.
    Check {
        /// One for each plugin of the running games.
        plugins: Vec<CheckSaid>,
    },
    /// The invite as text.
    Invite {
        /// Groups with dashes.
        invite: String,
    },
    /// How good the way is.
    Bench {
        /// As `bench --json` prints it.
        bench: serde_json::Value,
    },
    /// It was done.
    Done {
        /// In words.
        text: String,
    },
    /// It was not.
    Trouble {
        /// A stable word.
        code: String,
        /// What happened.
        message: String,
        /// What to try.
        hint: String,
    },
}

impl From<Trouble> for Answer {
    fn from(t: Trouble) -> Self {
        Self::Trouble { code: t.code, message: t.message, hint: t.hint }
    }
}

/// A request on its way, with the proof of who asks where the door needs one.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(flatten)]
    request: Request,
}

/// The peer that somebody means: by its name, else by its id or the beginning of it, else by the beginning of its name.
fn find_peer(status: &Status, meant: &str) -> Result<(PeerId, String), Trouble> {
    let meant = meant.trim();
    let lower = meant.to_lowercase();
    let name = |p: &PeerStatus| p.name.to_lowercase() == lower;
    let id = |p: &PeerStatus| !lower.is_empty() && p.peer.to_string().starts_with(&lower);
    let start = |p: &PeerStatus| !lower.is_empty() && p.name.to_lowercase().starts_with(&lower);
    let ways: [&dyn Fn(&PeerStatus) -> bool; 3] = [&name, &id, &start];
    let all =
        |fits: &dyn Fn(&PeerStatus) -> bool| -> Vec<_> { status.peers.iter().filter(|p| fits(p)).collect() };
    let found = ways.into_iter().map(all).find(|found| !found.is_empty()).unwrap_or_default();
    match found.as_slice() {
        [one] => Ok((one.peer, one.name.clone())),
        [] => {
            let here: Vec<_> = status.peers.iter().map(|p| format!("{} ({})", p.name, p.peer)).collect();
            let here = if here.is_empty() { "nobody else is".to_owned() } else { here.join(", ") };
            let what = format!("nobody in the party is called `{}`", meant.escape_debug());
            Err(Trouble::new("no_such_peer", what, format!("a name or the beginning of an id; here: {here}")))
        }
        many => {
            let ids: Vec<_> = many.iter().map(|p| p.peer.to_string()).collect();
            let what = format!("`{}` can mean {} peers", meant.escape_debug(), many.len());
            Err(Trouble::new("which_peer", what, format!("one of these ids: {}", ids.join(", "))))
        }
    }
}

/// Whether this node made the party: the party's name is a hash of its owner's.
fn owns_party(status: &Status) -> bool {
    (0..=u8::MAX).any(|slot| PartyId::of(status.peer, slot) == status.party)
}

#[cfg(test)]
mod tests;
