//! Sockets that only this computer can reach.
//!
//! All of them are at loopback addresses, which shut the network out; being tied to the loopback device does so once more.
//! Nothing is at a card's address, where no user without rights could hide it: Linux looks for a socket as if what this
//! computer sends to its own card came in by the card, so a socket there cannot be tied to the loopback device, and it takes
//! a filter from such a user on UDP sockets alone.

use socket2::Socket;

/// Shuts the network out. To be called before the socket is bound. Where the system cannot, the address alone has to do.
pub(super) fn only_this_computer(socket: &Socket) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.bind_device(Some(b"lo")) {
        tracing::debug!(%error, "a socket could not be tied to the loopback device");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}
