//! What people can ask a running node for.

use super::id::PeerId;

/// A request to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Remove a peer and re-key the party. Only the party's owner can.
    Kick(PeerId),
    /// Say goodbye to everyone, then stop.
    Leave,
}
