//! Timeouts, caps and paces of a control plane.

use super::pace::Pace;
use crate::model::limits;
use std::time::Duration;

/// Everything a test or an operator may want to be different. Defaults are the contract's.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// Parties held at once.
    pub parties: usize,
    /// Peers in one party.
    pub peers: usize,
    /// Bytes of all parties together: 20,000 parties of four ordinary peers.
    pub bytes: usize,
    /// Bytes of one signal.
    pub signal_bytes: usize,
    /// A peer silent for this long is taken off the list.
    pub gone_after: Duration,
    /// A party without anybody is remembered for this long: the same party every evening.
    pub keep_empty: Duration,
    /// Between two looks for what has expired.
    pub sweep: Duration,
    /// Who does not say hello within this time is hung up on.
    pub hello_within: Duration,
    /// Messages of one connection: a roaming peer republishes a few times a minute, punching sends a few signals a second.
    pub per_connection: Pace,
    /// Changes (hello, record, rotation) of one key, over all its connections.
    pub per_key: Pace,
    /// Connections and hellos of one address. A whole LAN party may sit behind it.
    pub per_address: Pace,
    /// Parties founded from one address.
    pub founding: Pace,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            parties: 20_000,
            peers: limits::PEERS,
            bytes: 128 << 20,
            signal_bytes: 4096,
            gone_after: limits::GONE_AFTER,
            keep_empty: Duration::from_secs(30 * 24 * 3600),
            sweep: limits::SWEEP,
            hello_within: Duration::from_secs(5),
            per_connection: Pace::new(60, Duration::from_millis(100)),
            per_key: Pace::new(30, Duration::from_secs(1)),
            per_address: Pace::new(256, Duration::from_millis(50)),
            founding: Pace::new(64, Duration::from_secs(30)),
        }
    }
}
