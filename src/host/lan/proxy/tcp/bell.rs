//! Who has something to do: every local socket has a bell of its own, so that a wake-up costs what it brings and not
//! what is open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Who rings: a place in a table, and which of the things that were there in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// A connection.
    Line(usize, u32),
    /// A listener.
    Door(usize, u32),
}

/// Those that rang.
#[derive(Debug, Default)]
pub(super) struct Rung {
    // Bells may be rung from any thread; in practice it is the data thread's own reactor, so nobody waits here.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tokens: Vec<Token>,
    waits: Option<Waker>,
}

impl Rung {
    /// Ready when somebody rang since the last `take`.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.tokens.is_empty() {
            return Poll::Ready(());
        }
        if !inner.waits.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            inner.waits = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Everyone who rang, each once. `empty` is left behind to be filled.
    pub(super) fn take(&self, empty: Vec<Token>) -> Vec<Token> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut inner.tokens, empty)
    }

    fn add(&self, token: Token) {
        let waits = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.tokens.push(token);
            inner.waits.take()
        };
        if let Some(waits) = waits {
            waits.wake();
        }
    }
}

/// The bell of one socket.
#[derive(Debug)]
pub(super) struct Bell {
    token: Token,
    rung: AtomicBool,
    at: Arc<Rung>,
}

impl Bell {
    pub(super) fn new(token: Token, at: &Arc<Rung>) -> Arc<Self> {
        Arc::new(Self { token, rung: AtomicBool::new(false), at: Arc::clone(at) })
    }

    /// Puts its owner on the list, once.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.at.add(self.token);
        }
    }

    /// Its owner is being served: from now on a ring counts again.
    pub(super) fn heard(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_on_the_list_once_and_wakes_who_waits() {
        let rung = Arc::new(Rung::default());
        let (a, b) = (Bell::new(Token::Line(0, 1), &rung), Bell::new(Token::Door(0, 1), &rung));
        let waiter = Bell::new(Token::Line(9, 9), &Arc::new(Rung::default()));
        let waker = Waker::from(Arc::clone(&waiter));
        let mut cx = Context::from_waker(&waker);
        assert!(rung.poll(&mut cx).is_pending());
        a.ring();
        a.ring();
        b.ring();
        assert!(waiter.rung.load(Ordering::Acquire));
        assert!(rung.poll(&mut cx).is_ready());
        assert_eq!(rung.take(Vec::new()), [Token::Line(0, 1), Token::Door(0, 1)]);
        a.ring();
        assert!(rung.poll(&mut cx).is_pending(), "not served yet, so it need not ring again");
        a.heard();
        a.ring();
        assert_eq!(rung.take(Vec::new()), [Token::Line(0, 1)]);
    }
}
