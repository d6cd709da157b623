//! STAND-IN until the bridge is merged: the ends of a running node, as the command line uses them.

use crate::app::config::RunConfig;
use crate::model::command::Command;
use crate::model::status::{Event, Status, Trouble};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The ends that can be shared.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    /// Requests.
    pub commands: mpsc::Sender<Command>,
    /// How things are.
    pub status: watch::Receiver<Arc<Status>>,
    /// The invite as text.
    pub invite: watch::Receiver<String>,
}

/// A running node.
#[derive(Debug)]
pub struct Running {
    /// The shared ends.
    pub handle: NodeHandle,
    /// What happens; ends with the node.
    pub events: mpsc::Receiver<Event>,
}

impl Running {
    /// Stops at once.
    pub fn abort(&self) {}

    /// Waits for the end.
    ///
    /// # Errors
    /// What stopped it.
    pub fn wait(self) -> Result<(), Trouble> {
        Ok(())
    }
}

/// Starts a node.
///
/// # Errors
/// Always: this is a stand-in.
pub fn start(_: RunConfig) -> Result<Running, Trouble> {
    Err(Trouble::new("stand_in", "the bridge is not merged yet", ""))
}
