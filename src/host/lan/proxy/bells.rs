//! Which of many sockets have something to read, without asking each: the runtime rings a socket's bell, and the bell
//! writes the socket's number on a list. Only what is on the list is read, so a socket that hears nothing costs a turn of
//! the data loop nothing. A bell rings once; whoever reads the socket to its end hangs it up again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::net::UdpSocket;

/// The bells of a set of sockets.
#[derive(Debug, Clone, Default)]
pub(super) struct Bells(Arc<News>);

#[derive(Debug, Default)]
struct News(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    rung: VecDeque<u32>,
    waiter: Option<Waker>,
}

struct Bell {
    number: u32,
    news: Arc<News>,
}

impl News {
    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, number: u32) {
        let waiter = {
            let mut list = self.lock();
            list.rung.push_back(number);
            list.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.news.ring(self.number);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.news.ring(self.number);
    }
}

impl Bells {
    /// A bell that writes this number.
    pub(super) fn bell(&self, number: u32) -> Waker {
        Waker::from(Arc::new(Bell { number, news: Arc::clone(&self.0) }))
    }

    /// Hangs the bell of a socket up; it rings at once when there is something to read already.
    pub(super) fn hang(&self, number: u32, socket: &UdpSocket, bell: &Waker) {
        if socket.poll_recv_ready(&mut Context::from_waker(bell)).is_ready() {
            self.ring(number);
        }
    }

    /// As if the bell of this number had rung.
    pub(super) fn ring(&self, number: u32) {
        self.0.ring(number);
    }

    /// How many have rung and were not taken yet.
    pub(super) fn rung(&self) -> usize {
        self.0.lock().rung.len()
    }

    /// The next number on the list. Its socket may be closed by now.
    pub(super) fn take(&self) -> Option<u32> {
        self.0.lock().rung.pop_front()
    }

    /// Ready when a bell has rung; else the task of `cx` is woken when one does.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut list = self.0.lock();
        if !list.rung.is_empty() {
            return Poll::Ready(());
        }
        if !list.waiter.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            list.waiter = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_that_rings_is_on_the_list_once_and_wakes_who_waits() {
        let bells = Bells::default();
        let heard = Bells::default();
        let waiter = heard.bell(7);
        assert!(bells.poll(&Context::from_waker(&waiter)).is_pending());
        bells.bell(3).wake_by_ref();
        assert_eq!(heard.take(), Some(7), "the waiter was woken");
        assert!(bells.poll(&Context::from_waker(&waiter)).is_ready());
        assert_eq!((bells.rung(), bells.take(), bells.take()), (1, Some(3), None));
    }
}
