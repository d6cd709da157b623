//! The LAN side of the real world: the tunnel device that carries the party's network, the capture of what this
//! computer's games send on other cards, and the injection of what peers sent so that the games' sockets receive it.
//!
//! | file | what |
//! |---|---|
//! | `port` | [`LanPort`]: what the driver holds; puts the others together |
//! | `tun` | the device: made, addressed, read, written |
//! | `capture`, `filter` | broadcasts and multicasts leaving by physical cards |
//! | `inject`, `members` | groups: handed to the card where the game joined them |
//! | `steer` | routes for broadcasts where there is no default route |
//! | `netlink` | requests to the kernel |
//! | `journal`, `marker` | what was made, so that it can be removed after a crash |
//! | `proxy` | the LAN side without rights and without a device: peers have stand-ins on the loopback |
//!
//! `docs/lan.md` explains why each of these is needed and what the kernel does with them. The device is
//! Linux only so far: elsewhere `LanPort::open` says so.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(in crate::host) mod capture;
#[cfg(target_os = "linux")]
pub(in crate::host) mod filter;
#[cfg(target_os = "linux")]
mod inject;
#[cfg(target_os = "linux")]
mod journal;
#[cfg(target_os = "linux")]
pub(in crate::host) mod marker;
#[cfg(target_os = "linux")]
mod members;
#[cfg(target_os = "linux")]
pub(in crate::host) mod netlink;
#[cfg(target_os = "linux")]
mod port;
pub mod proxy;
#[cfg(target_os = "linux")]
mod steer;
#[cfg(target_os = "linux")]
mod tun;

#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", expect(dead_code, unreachable_pub, reason = "built here only to be tested"))]
mod absent;

#[cfg(not(target_os = "linux"))]
pub use absent::{LanPort, clean_leftovers};
#[cfg(target_os = "linux")]
pub use journal::clean_leftovers;
#[cfg(target_os = "linux")]
pub use port::LanPort;

/// How the LAN side is set up.
#[derive(Debug, Clone)]
pub struct LanOptions {
    /// The tunnel device's name. A setting, because some games only look at `eth*` and `wlan*`.
    pub adapter: String,
    /// The cards to capture on; `None` is every card that is up.
    pub cards: Option<Vec<String>>,
    /// Where the journal of what was made is kept.
    pub data_dir: PathBuf,
    /// Whether the device may take several packets of a flow at once, where the system can.
    pub offload: bool,
}

/// The tunnel device's usual name.
pub const DEFAULT_ADAPTER: &str = "lanrage0";

impl LanOptions {
    /// The usual settings.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self { adapter: DEFAULT_ADAPTER.to_owned(), cards: None, data_dir, offload: true }
    }
}

/// What the LAN side has done, in numbers that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LanCounters {
    /// Packets read from the tunnel device.
    pub tun_in: u64,
    /// Packets for the tunnel device.
    pub tun_out: u64,
    /// Writes to it; one may carry several packets.
    pub tun_writes: u64,
    /// Packets captured on cards.
    pub captured: u64,
    /// Packets handed to a group on a card.
    pub group_out: u64,
    /// Packets for a group that no card had joined, written to the tunnel device instead.
    pub group_to_tun: u64,
    /// Packets that were longer than a slot.
    pub too_long: u64,
    /// Packets that the system refused to take.
    pub refused: u64,
}

#[cfg(target_os = "linux")]
impl LanCounters {
    /// How a write to the device went.
    fn note(&mut self, written: &io::Result<()>) {
        match written {
            Ok(()) => self.tun_writes += 1,
            Err(error) => {
                self.refused += 1;
                tracing::trace!(%error, "the system did not take a packet");
            }
        }
    }
}

/// Why the LAN side could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LanError {
    /// No such thing on this system yet.
    #[error(
        "lan mode (a tunnel device) is not available on this system yet: only on Linux. Try `--mode proxy`, which \
         needs no device"
    )]
    NotOnThisSystem,
    /// The system has no TUN devices.
    #[error(
        "/dev/net/tun is missing, so no tunnel device can be made. Try `sudo modprobe tun`; in a container, start \
         it with `--device /dev/net/tun --cap-add NET_ADMIN --cap-add NET_RAW`. `--mode proxy` needs no device"
    )]
    NoTun,
    /// The process may not do this.
    #[error(
        "lanrage may not make a network device: no permission to {doing} ({source}). Run lanrage with sudo, or give it these rights once: `sudo setcap \
         cap_net_admin,cap_net_raw+ep $(which lanrage)`. `--mode proxy` needs none, and most games work with it"
    )]
    NoRights {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The adapter's name cannot be a device's name.
    #[error(
        "`{name}` cannot be the adapter's name: a device's name has 1 to 15 letters, digits and . _ - only. Try \
         `--adapter {DEFAULT_ADAPTER}`"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// There is already a device of this name.
    #[error(
        "there is already a network device `{name}`: {whose}, and it was left alone. Try another name for the new one: \
         `--adapter {other}`"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it seems to be.
        whose: &'static str,
        /// A name that is free.
        other: String,
    },
    /// Another device has our address.
    #[error(
        "the party's address {address} is already in use by this computer's device `{card}`. Leave the network that \
         it belongs to, or make the party with another one (`--subnet A.B.C.0/24`)"
    )]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The device that has it.
        card: String,
    },
    /// Anything else that the system refused.
    #[error("cannot {doing} for the adapter `{adapter}`: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// For which adapter.
        adapter: String,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(target_os = "linux")]
impl LanError {
    /// The error for a refused request: missing rights are told apart from the rest.
    fn refused(doing: &'static str, adapter: &str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::NoRights { doing, source }
        } else {
            Self::System { doing, adapter: adapter.to_owned(), source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_try() {
        let e = LanError::NoRights {
            doing: "make a tunnel device",
            source: io::ErrorKind::PermissionDenied.into(),
        };
        let text = e.to_string();
        for word in ["make a tunnel device", "sudo setcap cap_net_admin,cap_net_raw+ep", "`--mode proxy`"] {
            assert!(text.contains(word), "{word} in: {text}");
        }
        let e = LanError::NameTaken { name: "eth0".into(), whose: "not lanrage's", other: "lanrage1".into() };
        assert!(e.to_string().contains("--adapter lanrage1"), "{e}");
    }
}
