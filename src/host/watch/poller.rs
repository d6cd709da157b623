//! The set of descriptors that a thread waits on without its runtime.

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Wake, Waker};

/// Descriptors named by one call; the next call names others.
const EVENTS: usize = 16;
/// The number of the descriptor by which other threads wake this one.
const NUDGE: u64 = u64::MAX;

thread_local! {
    /// What watches of this thread are put into.
    static CURRENT: RefCell<Weak<Set>> = const { RefCell::new(Weak::new()) };
}

#[derive(Debug)]
struct Set {
    epoll: OwnedFd,
    /// Whether this set is asked, and not the runtime's.
    alone: Cell<bool>,
    /// It could not be asked once, and is not again.
    broken: Cell<bool>,
    /// By their numbers: whether each can be read.
    marks: RefCell<Vec<Option<Rc<Cell<bool>>>>>,
}

impl Set {
    fn new(epoll: OwnedFd) -> Self {
        Self { epoll, alone: Cell::new(false), broken: Cell::new(false), marks: RefCell::default() }
    }
}

/// Waits for the watches that are made on this thread while it lives.
#[derive(Debug)]
pub(in crate::host) struct Poller {
    set: Rc<Set>,
    nudge: Arc<Nudge>,
    waker: Waker,
}

/// Wakes the thread from another one.
#[derive(Debug)]
struct Nudge(OwnedFd);

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Full means that nobody looked yet at an earlier one.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Poller {
    /// An empty set; watches made on this thread from now on are put into it. Nobody asks it before `take_over`.
    pub(in crate::host) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let nudge = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        add(&epoll, nudge.as_fd(), NUDGE)?;
        let set = Rc::new(Set::new(epoll));
        CURRENT.set(Rc::downgrade(&set));
        let nudge = Arc::new(Nudge(nudge));
        Ok(Self { set, waker: Waker::from(Arc::clone(&nudge)), nudge })
    }

    /// From now on this set is asked, or the runtime's again. False when it is the runtime's: always, once asking this one failed.
    pub(in crate::host) fn take_over(&self, alone: bool) -> bool {
        self.set.alone.set(alone && !self.set.broken.get());
        self.set.alone.get()
    }

    /// Ends a `wait` of this thread, or the next one.
    pub(in crate::host) const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Waits until one of the watches can be read or somebody woke this thread, and marks those that can.
    pub(in crate::host) fn wait(&self) {
        self.ask(None);
    }

    /// Marks the watches that can be read now.
    pub(in crate::host) fn look(&self) {
        self.ask(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    }

    fn ask(&self, patience: Option<&Timespec>) {
        let nothing =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(NUDGE) };
        let mut events = [nothing; EVENTS];
        let many = match epoll::wait(&self.set.epoll, &mut events, patience) {
            Ok(many) => many,
            Err(Errno::INTR) => return,
            Err(error) => {
                // Only a set that is none any more fails: the runtime's is still there.
                tracing::warn!(%error, "waiting for packets failed; going on by the runtime");
                self.set.broken.set(true);
                self.take_over(false);
                return;
            }
        };
        let marks = self.set.marks.borrow();
        for event in events.iter().take(many) {
            let number = event.data.u64();
            if number == NUDGE {
                let _ = rustix::io::read(&self.nudge.0, &mut [0; 8]);
            }
            let mark = usize::try_from(number).ok().and_then(|at| marks.get(at)?.as_ref());
            mark.into_iter().for_each(|mark| mark.set(true));
        }
    }
}

fn add(epoll: &OwnedFd, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?)
}

/// A watch's place in the thread's set.
#[derive(Debug)]
pub(super) struct Place {
    set: Rc<Set>,
    number: usize,
    mark: Rc<Cell<bool>>,
}

/// Puts a descriptor into the set of this thread, if it has one.
pub(super) fn place_for(fd: &OwnedFd) -> io::Result<Option<Place>> {
    let Some(set) = CURRENT.with_borrow(Weak::upgrade) else { return Ok(None) };
    let mark = Rc::new(Cell::new(false));
    let number = {
        let mut marks = set.marks.borrow_mut();
        let free = marks.iter().position(Option::is_none);
        let number = free.unwrap_or(marks.len());
        add(&set.epoll, fd.as_fd(), u64::try_from(number).unwrap_or(NUDGE))?;
        match marks.get_mut(number) {
            Some(free) => *free = Some(Rc::clone(&mark)),
            None => marks.push(Some(Rc::clone(&mark))),
        }
        number
    };
    Ok(Some(Place { set, number, mark }))
}

impl Place {
    /// Whether this set is asked, and not the runtime's.
    pub(super) fn is_alone(&self) -> bool {
        self.set.alone.get()
    }

    /// Whether there may be something to read.
    pub(super) fn is_ready(&self) -> bool {
        self.mark.get()
    }

    /// Nothing is left, or it is left for the next wait.
    pub(super) fn clear(&self) {
        self.mark.set(false);
    }

    /// Takes the descriptor out of the set. To be called before it is closed: its twins would keep it there.
    pub(super) fn leave(&self, fd: &OwnedFd) {
        if let Err(error) = epoll::delete(&self.set.epoll, fd) {
            tracing::debug!(%error, "a descriptor could not be taken out of the set");
        }
        if let Some(place) = self.set.marks.borrow_mut().get_mut(self.number) {
            *place = None;
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.take_over(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::watch::Watch;
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    fn pair() -> (UdpSocket, Watch) {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.set_nonblocking(true).unwrap();
        there.connect(here.local_addr().unwrap()).unwrap();
        (there, Watch::new(here.into()).unwrap())
    }

    fn read(watch: &Watch) -> Option<u8> {
        let mut room = [0; 8];
        let read = watch.try_read(|| Ok(rustix::io::read(watch, &mut room)?));
        read.ok().map(|_| room[0])
    }

    #[tokio::test]
    async fn what_came_is_named_until_it_is_read() {
        let poller = Poller::new().unwrap();
        let (there, watch) = pair();
        poller.take_over(true);
        poller.look();
        assert_eq!(read(&watch), None);
        there.send(&[1]).unwrap();
        there.send(&[2]).unwrap();
        assert_eq!(read(&watch), None, "nobody looked");
        poller.wait();
        assert_eq!(read(&watch), Some(1));
        assert!(watch.leave_rest());
        assert_eq!(read(&watch), None, "left for the next wait");
        poller.wait();
        assert_eq!((read(&watch), read(&watch)), (Some(2), None));
    }

    #[tokio::test]
    async fn changing_hands_loses_nothing() {
        let poller = Poller::new().unwrap();
        let (there, watch) = pair();
        let wait = || std::future::poll_fn(|cx| watch.poll_readable(cx));
        for n in 0..20u8 {
            poller.take_over(true);
            there.send(&[n]).unwrap();
            poller.wait();
            if n % 2 == 0 {
                assert_eq!(read(&watch), Some(n));
            } else {
                watch.leave_rest();
            }
            poller.take_over(false);
            assert!(!watch.leave_rest(), "the runtime would not say it again");
            if n % 3 == 0 {
                there.send(&[100 + n]).unwrap();
            }
            let mut left = Vec::new();
            if n % 2 == 1 || n % 3 == 0 {
                while left.is_empty() {
                    wait().await;
                    left.extend(std::iter::from_fn(|| read(&watch)));
                }
            }
            let expected = [(n % 2 == 1).then_some(n), (n % 3 == 0).then_some(100 + n)];
            assert_eq!(left, expected.into_iter().flatten().collect::<Vec<u8>>(), "{n}");
        }
    }

    #[tokio::test]
    async fn another_thread_ends_the_wait_once() {
        let poller = Poller::new().unwrap();
        let waker = poller.waker().clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            waker.wake_by_ref();
            waker.wake();
        });
        let begun = Instant::now();
        poller.wait();
        assert!(begun.elapsed() >= Duration::from_millis(25));
        thread.join().unwrap();
        poller.look();
        let nobody = epoll::wait(
            &poller.set.epoll,
            &mut [epoll::Event { flags: epoll::EventFlags::IN, data: epoll::EventData::new_u64(0) }; 1],
            Some(&Timespec { tv_sec: 0, tv_nsec: 0 }),
        );
        assert_eq!(nobody, Ok(0), "it was heard");
    }

    #[tokio::test]
    async fn a_set_that_fails_once_is_not_asked_again() {
        // What cannot be waited on in place of a set.
        let mut poller = Poller::new().unwrap();
        let epoll = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        poller.set = Rc::new(Set::new(epoll));
        assert!(poller.take_over(true));
        poller.wait();
        assert!(!poller.take_over(true), "the runtime is asked for good");
        let whole = Poller::new().unwrap();
        whole.look();
        assert!(whole.take_over(true) && !whole.take_over(false) && whole.take_over(true));
    }

    #[tokio::test]
    async fn a_closed_descriptor_leaves_its_place_to_another() {
        let poller = Poller::new().unwrap();
        let (there, first) = pair();
        let twin = first.as_fd().try_clone_to_owned().unwrap();
        let number = first.place.as_ref().unwrap().number;
        drop(first);
        there.send(&[1]).unwrap();
        let (_there, second) = pair();
        assert_eq!(second.place.as_ref().unwrap().number, number);
        poller.take_over(true);
        poller.look();
        assert_eq!(read(&second), None, "the twin of the closed one is not in the set any more");
        drop((twin, poller));
        assert!(!second.place.as_ref().unwrap().is_alone(), "without a poller the runtime is asked");
    }
}
