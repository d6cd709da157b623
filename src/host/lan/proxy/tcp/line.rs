//! One connection: a local socket on one side, an end in the tunnel on the other, and bytes carried between the two
//! buffers without a third. Nothing is read that the other side has no room for, so a reader that does not read stops
//! the writer, and what is held is never more than the two windows.

use super::bell::Bell;
use super::segment::Key;
use super::stack::Pipe;
use smoltcp::socket::tcp::{RecvError, State};
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(super) type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// One connection of the table.
pub(super) struct Line {
    pub(super) key: Key,
    /// A peer's connection to our game, not ours to a peer's.
    pub(super) inward: bool,
    pub(super) phase: Phase,
    pub(super) bell: Arc<Bell>,
    pub(super) waker: Waker,
    pub(super) generation: u32,
    /// When it is to be looked at if nobody rings.
    pub(super) due: Option<Instant>,
    /// It is on the list of those that may have packets.
    pub(super) queued: bool,
    /// Until it stands on both sides: when that must be.
    pub(super) half_open: Option<Instant>,
}

pub(super) enum Phase {
    /// The peer's SYN waits for the local connection.
    Dialing {
        dialing: Dialing,
        /// Where our game is sought.
        at: Ipv4Addr,
        syn: Box<[u8]>,
    },
    Open(Box<Open>),
}

/// Both ends are there, though perhaps not yet connected in the tunnel.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) local: TcpStream,
    pub(super) pipe: Pipe,
    /// The local program has said everything.
    heard_end: bool,
    /// The local program was told that the peer has said everything.
    told_end: bool,
}

/// How a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// Both sides said goodbye.
    Over,
    /// The peer or the silence ended it: the local end is to be reset.
    PeerBroke,
    /// The local program ended it: the peer is to be told.
    LocalBroke,
}

impl Open {
    pub(super) fn new(local: TcpStream, pipe: Pipe) -> Self {
        let _ = local.set_nodelay(true);
        Self { local, pipe, heard_end: false, told_end: false }
    }

    /// Whether it stands in the tunnel too.
    pub(super) fn stands(&self) -> bool {
        !matches!(
            self.pipe.tcp().state(),
            State::Closed | State::Listen | State::SynSent | State::SynReceived
        )
    }

    /// Carries what can be carried. Whoever has to be waited for wakes `cx`.
    pub(super) fn carry(&mut self, cx: &mut Context<'_>) -> Fate {
        match self.inward(cx).and_then(|()| self.outward(cx)) {
            Ok(()) => self.fate(),
            Err(_) => Fate::LocalBroke,
        }
    }

    /// From the tunnel to the local program.
    fn inward(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Self { local, pipe, told_end, .. } = self;
        while pipe.tcp().can_recv() && pipe.tcp().may_recv() {
            match local.poll_write_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            let wrote = pipe.tcp_mut().recv(|bytes| match local.try_write(bytes) {
                Ok(n) => (n, Ok(())),
                Err(e) => (0, Err(e)),
            });
            match wrote {
                Ok(Err(e)) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        if !*told_end && pipe.tcp_mut().recv(|_| (0, ())) == Err(RecvError::Finished) {
            // Immediate for a socket: there is nothing of ours to be flushed before.
            let _ = Pin::new(local).poll_shutdown(cx);
            *told_end = true;
        }
        Ok(())
    }

    /// From the local program to the tunnel.
    fn outward(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Self { local, pipe, heard_end, .. } = self;
        while !*heard_end && pipe.tcp().can_send() {
            match local.poll_read_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            let read = pipe.tcp_mut().send(|room| match local.try_read(room) {
                Ok(n) => (n, Ok(n)),
                Err(e) => (0, Err(e)),
            });
            match read {
                Ok(Ok(0)) => {
                    *heard_end = true;
                    pipe.tcp_mut().close();
                }
                Ok(Err(e)) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// What is to become of it as it is.
    pub(super) fn fate(&self) -> Fate {
        let delivered = !self.pipe.tcp().can_recv();
        let parted = self.heard_end && self.told_end;
        match self.pipe.tcp().state() {
            // Everything was said and confirmed, though the local program may not have read it all.
            State::Closed if self.heard_end && !delivered => Fate::Lives,
            State::Closed if parted => Fate::Over,
            // A listener again: the peer took its SYN back.
            State::Closed | State::Listen => Fate::PeerBroke,
            State::TimeWait if parted && delivered && self.pipe.last.is_some() => Fate::Over,
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => Fate::Lives,
        }
    }
}
