//! What `run` hands out: the ends that the command line, the live view and the node's socket use.

use crate::model::command::Command;
use crate::model::status::{Event, Status, Trouble};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running node. Dropping it stops the node at once, without goodbyes; `Command::Leave` is the polite way.
#[derive(Debug)]
pub struct NodeHandle {
    /// What people ask for.
    pub commands: mpsc::Sender<Command>,
    /// What happens. When nobody reads, events are lost and a warning says how many; the node never waits.
    pub events: mpsc::Receiver<Event>,
    /// How things are; at most four times a second, and at least once.
    pub status: watch::Receiver<Arc<Status>>,
    /// The invite as text; changes when the party is re-keyed.
    pub invite: watch::Receiver<String>,
    /// Fires when everything is stopped and kept: `None` after an orderly end, else what went wrong.
    pub stopped: oneshot::Receiver<Option<Trouble>>,
    guard: DropGuard,
}

impl NodeHandle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        out: Shown,
        stopped: oneshot::Receiver<Option<Trouble>>,
        abort: CancellationToken,
    ) -> Self {
        let Shown { events, status, invite } = out;
        Self { commands, events, status, invite, stopped, guard: abort.drop_guard() }
    }

    /// Stops the node at once, without goodbyes; the device is removed.
    pub fn abort(self) {
        drop(self.guard);
    }
}

/// The ends that show something.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) status: watch::Receiver<Arc<Status>>,
    pub(super) invite: watch::Receiver<String>,
}
