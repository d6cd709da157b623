//! A UDP socket that the runtime watches for something to read, and for nothing else.
//!
//! Tokio's own socket is watched for room to write as well. The kernel reports that each time a datagram has left, so a
//! node that forwards single packets would be woken twice for each. Nobody waits for room here: a full queue drops.

use std::io;
use std::task::{Context, Poll};
use tokio::io::Interest;

#[cfg(unix)]
type Inner = tokio::io::unix::AsyncFd<std::net::UdpSocket>;
#[cfg(not(unix))]
type Inner = tokio::net::UdpSocket;

/// The socket.
#[derive(Debug)]
pub(super) struct Watched(Inner);

impl Watched {
    /// Hands a non-blocking socket to the runtime of the calling thread.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        #[cfg(unix)]
        // SAFETY: a `UdpSocket` stays open and names the same open file until it is dropped, which `AsyncFd` does itself.
        #[expect(unsafe_code, reason = "AsyncFd cannot know that a UdpSocket keeps its promise")]
        let inner = unsafe { Inner::register_with_interest(socket, Interest::READABLE) }?;
        #[cfg(not(unix))]
        let inner = Inner::from_std(socket)?;
        Ok(Self(inner))
    }

    /// Whether there may be something to read (or an error to be fetched); else the task of `cx` is woken when there is.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        #[cfg(unix)]
        let ready = self.0.poll_read_ready(cx).map(drop);
        #[cfg(not(unix))]
        let ready = self.0.poll_recv_ready(cx).map(drop);
        ready
    }

    /// Reads, if there may be something. `WouldBlock` waits for the next news.
    pub(super) fn try_read<T>(&self, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(unix)]
        let outcome = self.0.try_io(Interest::READABLE, |_| read());
        #[cfg(not(unix))]
        let outcome = self.0.try_io(Interest::READABLE, read);
        outcome
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Watched {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for Watched {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.0.as_socket()
    }
}
