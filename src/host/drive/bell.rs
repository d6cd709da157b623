//! One bell for everything that is no packet.
//!
//! A dozen doors that are nearly always shut are not to be looked at for each packet: each gets this bell as its waker,
//! and only when it rang are they looked at, which hangs it up again at each.

use super::doors::Inside;
use super::rig::Input;
use super::{ANSWERS, MESSAGES};
use futures_util::task::AtomicWaker;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

#[derive(Debug)]
struct Rung {
    rung: AtomicBool,
    sleeper: AtomicWaker,
}

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.sleeper.wake();
    }
}

/// The bell, and the doors that have no place where they could be asked again and again.
#[derive(Debug)]
pub(super) struct Bell {
    rung: Arc<Rung>,
    waker: Waker,
    abort: Pin<Box<WaitForCancellationFutureOwned>>,
    aborted: bool,
    look: Arc<Notify>,
    looked: Pin<Box<OwnedNotified>>,
}

impl Bell {
    /// Rung: nothing was looked at yet.
    pub(super) fn new(abort: CancellationToken, look: Arc<Notify>) -> Self {
        let rung = Arc::new(Rung { rung: AtomicBool::new(true), sleeper: AtomicWaker::new() });
        Self {
            waker: Arc::clone(&rung).into(),
            rung,
            abort: Box::pin(abort.cancelled_owned()),
            aborted: false,
            looked: Box::pin(Arc::clone(&look).notified_owned()),
            look,
        }
    }

    /// Waits until it rings.
    pub(super) fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        self.rung.sleeper.register(cx.waker());
        if self.rung.rung.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether it rang since it was asked last.
    pub(super) fn rang(&self) -> bool {
        self.rung.rung.load(Ordering::Acquire) && self.rung.rung.swap(false, Ordering::AcqRel)
    }

    /// A door had more than its share.
    pub(super) fn ring_again(&self) {
        self.rung.rung.store(true, Ordering::Release);
    }

    /// Whether somebody wants the node stopped at once, or its status now.
    pub(super) fn own_doors(&mut self) -> [Option<Input>; 2] {
        let mut cx = Context::from_waker(&self.waker);
        // A future that is done must not be polled again.
        self.aborted = self.aborted || self.abort.as_mut().poll(&mut cx).is_ready();
        let mut looked = false;
        while self.looked.as_mut().poll(&mut cx).is_ready() {
            looked = true;
            self.looked.set(Arc::clone(&self.look).notified_owned());
        }
        [self.aborted.then_some(Input::Abort), looked.then_some(Input::Look)]
    }

    /// What this kind of door has next; the bell is hung up again where it has nothing.
    pub(super) fn next(&self, kind: Kind, doors: &mut Inside) -> Option<Input> {
        let mut cx = Context::from_waker(&self.waker);
        let got = match kind {
            Kind::Replies => doors.replies.poll_recv(&mut cx).map(|m| m.map(Input::Reply)),
            Kind::Control => doors.control.poll_recv(&mut cx).map(|m| m.map(Input::from)),
            Kind::Facts => doors.facts.poll_recv(&mut cx).map(|m| m.map(Input::Fact)),
            Kind::Plugins => doors.plugins.poll_recv(&mut cx).map(|m| m.map(Input::Plugin)),
            Kind::Commands => doors.commands.poll_recv(&mut cx).map(|m| m.map(Input::Command)),
        };
        match got {
            Poll::Ready(input) => input,
            Poll::Pending => None,
        }
    }
}

/// The doors with messages, in the order in which they are served.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Replies,
    Control,
    Facts,
    Plugins,
    Commands,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Replies, Self::Control, Self::Facts, Self::Plugins, Self::Commands];

    /// Messages of it in one turn.
    pub(super) const fn share(self) -> usize {
        match self {
            Self::Replies => ANSWERS,
            Self::Control | Self::Facts | Self::Plugins | Self::Commands => MESSAGES,
        }
    }
}
