//! Why a relay does not work, in words for people.

use std::net::SocketAddr;

/// Why an allocation failed or went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TurnFailure {
    /// Nothing came back in time.
    #[error("the relay does not answer")]
    Silent,
    /// 401 upon a signed request: wrong or expired.
    #[error("the relay does not accept the user name and password, or they have expired")]
    Credentials,
    /// 403.
    #[error("the relay refuses this computer")]
    Forbidden,
    /// 486.
    #[error("this user has as many relay addresses as the relay allows")]
    Quota,
    /// 508.
    #[error("the relay is full")]
    Full,
    /// 437 or 441: our address and port belong to an allocation that is not ours.
    #[error("the relay holds an older allocation for this address and port; it goes away within minutes")]
    Mismatch,
    /// The allocation is not there any more: our outside address changed, or the relay was restarted.
    #[error(
        "the relay does not know us any more: this computer's outside address changed, or the relay restarted"
    )]
    Gone,
    /// 440.
    #[error("the relay has no address of the family that was wanted")]
    Family,
    /// 442, or a transport that the relay does not speak.
    #[error("the relay does not relay UDP")]
    Transport,
    /// 300 that may not be followed: a second time, another family, or over a stream that only its owner can reopen.
    #[error("the relay sends its clients to {0}")]
    Alternate(SocketAddr),
    /// Another refusal.
    #[error("the relay answered with error {0}")]
    Refused(u16),
    /// An answer without what it must have.
    #[error("the relay's answers are malformed")]
    Malformed,
    /// The owner started again (a stream that was reopened, say).
    #[error("the connection to the relay was started again")]
    Restarted,
}

impl TurnFailure {
    /// What an error code means when it is the answer to an Allocate or Refresh request.
    pub(super) const fn of_code(code: u16) -> Self {
        match code {
            401 => Self::Credentials,
            403 => Self::Forbidden,
            437 | 441 => Self::Mismatch,
            440 => Self::Family,
            442 => Self::Transport,
            486 => Self::Quota,
            508 => Self::Full,
            other => Self::Refused(other),
        }
    }
}
