//! Descriptors that are read when something is there, and two ways to wait for that.
//!
//! *In the runtime*: [`Watch::poll_readable`]. The runtime's reactor says once that something came, so whoever reads must read until nothing
//! is left.
//!
//! *Without it*: [`Poller::wait`], one `epoll_wait` on a set of the thread's own that names what can be read, again and again
//! while it can. A packet that wakes the thread then costs a quarter less, most of it the runtime's way from the event to whoever waits
//! for it; and a lone packet leaves before anybody has asked whether another one is behind it.
//!
//! A watch is in both sets from the beginning, and one of the two is used at a time: [`Poller::take_over`] says which. Nothing is lost
//! when it changes, because either set says again what it knows once it is asked again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[cfg(target_os = "linux")]
mod poller;
#[cfg(target_os = "linux")]
pub(super) use poller::Poller;

/// Lets the runtime of the calling thread say when there is something to read from a non-blocking descriptor.
pub(super) fn register(own: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open and names the same open file until it is dropped, which `AsyncFd` does itself.
    #[expect(unsafe_code, reason = "AsyncFd cannot know that an OwnedFd keeps its promise")]
    let registered = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) };
    registered.map_err(|e| e.into_parts().1)
}

/// A descriptor of the data thread.
#[derive(Debug)]
pub(super) struct Watch {
    #[cfg(target_os = "linux")]
    place: Option<poller::Place>,
    runtime: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches a non-blocking descriptor. To be made inside a tokio runtime.
    pub(super) fn new(own: OwnedFd) -> io::Result<Self> {
        let runtime = register(own)?;
        Ok(Self {
            #[cfg(target_os = "linux")]
            place: poller::place_for(runtime.get_ref())?,
            runtime,
        })
    }

    /// Watches what is behind `fd` by a descriptor of its own: reading stays with whoever owns `fd`.
    #[cfg(target_os = "linux")]
    pub(super) fn beside(fd: impl AsFd) -> io::Result<Self> {
        Self::new(fd.as_fd().try_clone_to_owned()?)
    }

    /// Whether there may be something to read; else the task of `cx` is woken when there is. For waiting in the runtime.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.runtime.poll_read_ready(cx).map(drop)
    }

    /// Reads, if there may be something. `WouldBlock` waits for the next news.
    pub(super) fn try_read<T>(&self, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(target_os = "linux")]
        if let Some(place) = self.place.as_ref().filter(|place| place.is_alone()) {
            if !place.is_ready() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let outcome = read();
            if outcome.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
                place.clear();
            }
            return outcome;
        }
        self.runtime.try_io(Interest::READABLE, |_| read())
    }

    /// Leaves what may still be there for the next wait, which says so at once if something is. False in the runtime, which would not.
    #[cfg(target_os = "linux")]
    pub(super) fn leave_rest(&self) -> bool {
        let place = self.place.as_ref().filter(|place| place.is_alone());
        place.inspect(|place| place.clear()).is_some()
    }
}

#[cfg(target_os = "linux")]
impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            place.leave(self.runtime.get_ref());
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.runtime.get_ref().as_fd()
    }
}
