//! Relays: which TURN servers this node may use, and with what credentials (RFC 8656; the time-limited shared-secret
//! scheme that coturn calls `use-auth-secret`).

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// How bytes travel between this computer and a relay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum RelayWay {
    /// UDP, from the tunnel's own socket. Serves STUN too.
    Udp {
        /// The relay's address.
        addr: SocketAddr,
    },
    /// TCP.
    Tcp {
        /// The relay's address.
        addr: SocketAddr,
    },
    /// TLS over TCP.
    Tls {
        /// The relay's address.
        addr: SocketAddr,
        /// The name its certificate is for.
        name: String,
        /// SHA-256 of its certificate (DER), when it made it itself.
        pin: Option<[u8; 32]>,
    },
}

impl RelayWay {
    /// The relay's address this way.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        match self {
            Self::Udp { addr } | Self::Tcp { addr } | Self::Tls { addr, .. } => *addr,
        }
    }
}

/// One relay server with the ways to it, in order of preference, and credentials for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayOffer {
    /// The ways to it.
    pub ways: Vec<RelayWay>,
    /// TURN user name: `<unix expiry>:<who>` for time-limited ones.
    pub username: String,
    /// TURN password.
    pub password: String,
    /// TURN realm; empty: learned from the server's first answer.
    pub realm: String,
    /// When the credentials stop working (Unix seconds); `None`: never.
    pub expires: Option<u64>,
}

impl std::fmt::Debug for RelayOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayOffer")
            .field("ways", &self.ways)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
