//! Carriers: what takes a node's messages to a control plane and brings the answers back.
//!
//! A carrier decides nothing about the party: `engine::link` says when to open, what to prove and when to try again;
//! the carrier opens, carries and says in plain words what went wrong. One task per control plane; what arrives goes
//! into one bounded channel that the driver reads.
//!
//! The life of a connection, the same for both kinds: `Open` → `Down::Opened` (sign this) → `Up::Hello` →
//! `Down::Welcome` → … → `Down::Closed`. A refused hello is followed by `Closed`. After `Close` nothing more comes (but
//! a `Closed` may be on its way already), what was sent before it is still delivered, and an `Open` starts anew.
//! Dropping the sender is a `Close`.

pub mod beacon;
pub mod choice;
pub mod file;
pub mod server;

mod reach;
mod relays;

pub use choice::{ControlChoice, ServerAddress};
pub use file::session::FolderTuning;
pub use server::ServerTuning;

use crate::model::id::{LinkId, PartyId, PeerId};
use crate::wire::control::{Down, Up};
use tokio::sync::mpsc;

/// Messages that wait for a carrier: a hello, a record, a beat and some signals; a full queue is a stuck carrier.
const QUEUE: usize = 64;

/// What a carrier needs to know.
#[derive(Debug, Clone)]
pub struct CarrierSetup {
    /// What the node calls this control plane.
    pub link: LinkId,
    /// Where it is.
    pub choice: ControlChoice,
    /// The party, for what the carrier keeps of its own accord.
    pub party: PartyId,
    /// This node.
    pub me: PeerId,
}

/// What a carrier is asked to do.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly every message is the large one, and the queue is short")]
pub enum ToCarrier {
    /// Connect; while connected: hang up and connect anew.
    Open,
    /// Hang up, after what was sent so far is delivered.
    Close,
    /// Carry this; ignored while there is no connection.
    Send(Up),
}

/// How carriers behave; the defaults are right outside of tests.
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    /// Of shared folders.
    pub folder: FolderTuning,
    /// Of servers.
    pub server: ServerTuning,
}

/// Starts a carrier on the current tokio runtime. It ends when the sender is dropped or nobody reads `out` any more.
#[must_use]
pub fn spawn(setup: CarrierSetup, out: mpsc::Sender<(LinkId, Down)>) -> mpsc::Sender<ToCarrier> {
    spawn_tuned(setup, Tuning::default(), out)
}

/// The same, with other timeouts and caps.
#[must_use]
pub fn spawn_tuned(
    setup: CarrierSetup,
    tuning: Tuning,
    out: mpsc::Sender<(LinkId, Down)>,
) -> mpsc::Sender<ToCarrier> {
    let (tx, rx) = mpsc::channel(QUEUE);
    let CarrierSetup { link, choice, party, me } = setup;
    let out = Out { link, out };
    match choice {
        ControlChoice::Folder(dir) => {
            let whose = file::session::Whose { party, me };
            tokio::spawn(file::run(file::Where { dir, whose, tuning: tuning.folder }, rx, out));
        }
        ControlChoice::Server(url) => {
            tokio::spawn(server::run(url, tuning.server, rx, out));
        }
        // The engine knocks by itself; there is nothing to carry.
        ControlChoice::Direct(_) => drop(rx),
    }
    tx
}

/// Where a carrier's news go.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    link: LinkId,
    out: mpsc::Sender<(LinkId, Down)>,
}

impl Out {
    /// Hands on a message; false when nobody reads any more.
    pub(crate) async fn send(&self, down: Down) -> bool {
        self.out.send((self.link, down)).await.is_ok()
    }

    /// The connection is gone, and why.
    pub(crate) async fn closed(&self, why: String) -> bool {
        self.send(Down::Closed { why }).await
    }
}
