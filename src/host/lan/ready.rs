//! One small bridge between sockets that tokio does not know and its reactor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// When there is something to read from the socket behind `fd`, through a descriptor of its own: the reading stays with whoever owns `fd`. The
/// socket must be non-blocking. Must be called inside a tokio runtime.
pub(in crate::host) fn readiness(fd: impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let own = fd.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` stays open and names the same open file until it is dropped, which `AsyncFd` does itself.
    #[expect(unsafe_code, reason = "AsyncFd cannot know that an OwnedFd keeps its promise")]
    let registered = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) };
    registered.map_err(|e| e.into_parts().1)
}
