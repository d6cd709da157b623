//! What `start` hands out: the ends that the command line, the live view and the node's local door use.

use crate::app::plugins::crew::CrewDoor;
use crate::host::drive::Outcome;
use crate::model::command::Command;
use crate::model::status::{Event, Status, Trouble};
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long a fresh status is waited for. A node that never sleeps shows one that often by itself.
const LOOK: Duration = Duration::from_millis(250);
/// How long dropping a running node waits for the device to be removed.
const REMOVAL: Duration = Duration::from_secs(2);

/// The ends that can be shared.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    /// What people ask for.
    pub commands: mpsc::Sender<Command>,
    /// How things are; at most four times a second, and at least once.
    pub status: watch::Receiver<Arc<Status>>,
    /// Asks for the status at once.
    pub look: Arc<Notify>,
    /// The invite as text; changes when the party is re-keyed.
    pub invite: watch::Receiver<String>,
    /// Outcomes of measurements.
    pub measured: broadcast::Sender<Outcome>,
    /// Asks plugins what they say of this computer.
    pub crew: CrewDoor,
}

impl NodeHandle {
    /// The status as it is now: what an event has told is in it. A node that is too busy to look up shows its last one.
    pub async fn fresh_status(&self) -> Arc<Status> {
        let mut status = self.status.clone();
        status.mark_unchanged();
        self.look.notify_one();
        let _ = tokio::time::timeout(LOOK, status.changed()).await;
        status.borrow().clone()
    }
}

/// A running node. Dropping it stops it at once, without goodbyes; `Command::Leave` is the polite way.
#[derive(Debug)]
pub struct Running {
    /// The shared ends.
    pub handle: NodeHandle,
    /// What happens; ends with the node. When nobody reads, events are lost and a warning says how many: the node never
    /// waits.
    pub events: mpsc::Receiver<Event>,
    pub(super) end: End,
}

/// How a node is stopped and how its end is heard.
#[derive(Debug)]
pub(super) struct End {
    pub(super) abort: CancellationToken,
    /// Of the standard library: it may be waited on inside any runtime and outside of all.
    pub(super) ended: std_mpsc::Receiver<Option<Trouble>>,
    pub(super) slow: Option<Runtime>,
}

impl Running {
    /// Stops the node at once, without goodbyes; the device is removed.
    pub fn abort(&self) {
        self.end.abort.cancel();
    }

    /// Waits until everything is stopped, removed and kept.
    ///
    /// # Errors
    /// What stopped it, when that was not a `Leave` or an `abort`.
    pub fn wait(self) -> Result<(), Trouble> {
        match self.end.ended.recv() {
            Ok(trouble) => trouble.map_or(Ok(()), Err),
            Err(_) => {
                let what = "the node ended without a word";
                Err(Trouble::new("internal", what, "please report it; starting again helps"))
            }
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.abort.cancel();
        // After `wait` the other end is gone and this returns at once.
        let _ = self.ended.recv_timeout(REMOVAL);
        if let Some(slow) = self.slow.take() {
            // Not the waiting way: this may run inside another runtime.
            slow.shutdown_background();
        }
    }
}
