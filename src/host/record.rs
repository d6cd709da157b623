//! Hearing everything that could be a game's search or join, on all cards, in both directions: for `lanrage games record`.
//!
//! The kernel lets through whole UDP packets and TCP segments that ask for a connection; which of them are the game's is
//! decided elsewhere. Sockets are read in turn and never waited for. Linux only so far.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod process;

#[cfg(target_os = "linux")]
pub use linux::Listener;
#[cfg(not(target_os = "linux"))]
pub use nowhere::Listener;

use std::collections::BTreeSet;
use std::io;

/// Why nothing can be heard.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The process may not.
    #[error("no right to listen on network cards ({0})")]
    NoRights(io::Error),
    /// It is not there, or down.
    #[error("there is no network card `{0}`, or it is down")]
    NoCard(String),
    /// Not built for it.
    #[error("recording is only there on Linux so far")]
    NotOnThisSystem,
    /// Something else.
    #[error("the network cards cannot be listened on: {0}")]
    System(io::Error),
}

/// A game's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// All processes of this name.
    Named(String),
    /// These processes and what they start.
    Pids(Vec<u32>),
}

impl Program {
    /// The ports of its sockets; `None` when it does not run.
    #[must_use]
    pub fn ports(&self) -> Option<BTreeSet<u16>> {
        #[cfg(target_os = "linux")]
        return process::ports(self);
        #[cfg(not(target_os = "linux"))]
        None
    }
}

/// What this computer and its user are called, for a recording that is to be shown around.
#[must_use]
pub fn names_of_this_pc() -> Vec<String> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut names: Vec<String> = ["USER", "SUDO_USER", "LOGNAME", "USERNAME", "COMPUTERNAME"]
        .iter()
        .filter_map(|n| variable(n))
        .collect();
    #[cfg(target_os = "linux")]
    names.extend(std::fs::read_to_string("/proc/sys/kernel/hostname"));
    names = names.iter().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty() && n != "root").collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use super::ListenError;
    use std::convert::Infallible;

    /// A listener that does not exist.
    #[derive(Debug)]
    pub struct Listener(Infallible);

    impl Listener {
        /// Says that there is none.
        ///
        /// # Errors
        /// Always `NotOnThisSystem`.
        pub fn open(cards: &[String]) -> Result<Self, ListenError> {
            let _ = cards;
            Err(ListenError::NotOnThisSystem)
        }

        /// No card.
        #[must_use]
        pub fn cards(&self) -> &[String] {
            match self.0 {}
        }

        /// No packet.
        pub fn hear(&mut self) -> Option<&[u8]> {
            match self.0 {}
        }
    }
}
