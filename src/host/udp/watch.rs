//! A UDP socket that is watched for something to read, and for nothing else.
//!
//! Tokio's own socket is watched for room to write as well. The kernel reports that each time a datagram has left, so a
//! node that forwards single packets would be woken twice for each. Nobody waits for room here: a full queue drops.

use std::io;
use std::task::{Context, Poll};

#[cfg(unix)]
type Inner = crate::host::watch::Watch;
#[cfg(not(unix))]
type Inner = tokio::net::UdpSocket;

/// The socket.
#[derive(Debug)]
pub(super) struct Watched(Inner);

impl Watched {
    /// Watches a non-blocking socket. To be made inside a tokio runtime.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        #[cfg(unix)]
        let inner = Inner::new(socket.into())?;
        #[cfg(not(unix))]
        let inner = Inner::from_std(socket)?;
        Ok(Self(inner))
    }

    /// Whether there may be something to read (or an error to be fetched); else the task of `cx` is woken when there is.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        #[cfg(unix)]
        let ready = self.0.poll_readable(cx);
        #[cfg(not(unix))]
        let ready = self.0.poll_recv_ready(cx).map(drop);
        ready
    }

    /// Reads, if there may be something. `WouldBlock` waits for the next news.
    pub(super) fn try_read<T>(&self, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(unix)]
        let outcome = self.0.try_read(read);
        #[cfg(not(unix))]
        let outcome = self.0.try_io(tokio::io::Interest::READABLE, read);
        outcome
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Watched {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for Watched {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.0.as_socket()
    }
}
