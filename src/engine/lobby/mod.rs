//! The other side of a control plane: parties, who is in them, who may know what.
pub mod party;

use crate::model::limits;
use std::time::Duration;

/// Timeouts and caps of a control plane. Defaults are the contract's.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// Peers in one party.
    pub peers: usize,
    /// A peer silent for this long is taken off the list.
    pub gone_after: Duration,
    /// A party without anybody is remembered for this long: the same party every evening.
    pub keep_empty: Duration,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            peers: limits::PEERS,
            gone_after: limits::GONE_AFTER,
            keep_empty: Duration::from_secs(30 * 24 * 3600),
        }
    }
}
