//! What people can ask a running node for.

use super::id::PeerId;

/// A request to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Remove a peer and re-key the party. Only the party's owner can.
    Kick(PeerId),
    /// Measure the way to a peer; the answer is `Effect::Measured` with this ticket.
    Measure {
        /// To whom.
        peer: PeerId,
        /// In a quarter of the time.
        quick: bool,
        /// Names the answer.
        ticket: u64,
    },
    /// Say goodbye to everyone, then stop.
    Leave,
}
