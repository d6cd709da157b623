//! The node's next deadline as something to wait for.
//!
//! On Linux a timer of the kernel's on the clock that counts sleep (`CLOCK_BOOTTIME`), which is the clock of all deadlines: what
//! fell due while a laptop slept rings the moment it wakes up. It is exact, and rings once; the runtime's own timer is for
//! the milliseconds, wakes the thread several times on the way to a far deadline, and once more each time it is set.

#[cfg(target_os = "linux")]
pub(super) use linux::Alarm;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Alarm;

#[cfg(target_os = "linux")]
mod linux {
    use crate::host::clock::HostClock;
    use crate::host::watch::Watch;
    use crate::model::time::Mono;
    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
    use std::io;
    use std::task::{Context, Poll, ready};

    /// An alarm that rings once each time it is set.
    #[derive(Debug)]
    pub(in super::super) struct Alarm {
        timer: Watch,
        clock: HostClock,
        /// It has not rung since.
        set: Option<Mono>,
    }

    impl Alarm {
        /// To be made inside a tokio runtime.
        pub(in super::super) fn new(clock: HostClock) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = Watch::new(rustix::time::timerfd_create(TimerfdClockId::Boottime, flags)?)?;
            Ok(Self { timer, clock, set: None })
        }

        /// It is to ring then. One that comes early does no harm; setting it for each packet would.
        pub(in super::super) fn set(&mut self, due: Mono) {
            if self.set.is_some_and(|set| set <= due) {
                return;
            }
            let at = self.clock.since_boot(due);
            // Zero would switch it off.
            let at = at.max(std::time::Duration::from_nanos(1));
            let value = Timespec {
                tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(at.subsec_nanos()),
            };
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval: never, it_value: value };
            match rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once) {
                Ok(_) => self.set = Some(due),
                Err(error) => tracing::debug!(%error, "the alarm could not be set"),
            }
        }

        /// Ready when it rings. For waiting in the runtime; the ring of an earlier setting does no harm.
        pub(in super::super) fn poll_rings(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            ready!(self.timer.poll_readable(cx));
            self.hear();
            Poll::Ready(())
        }

        /// If it rang, it is silent again.
        pub(in super::super) fn hear(&mut self) {
            let Self { timer, set, .. } = self;
            while timer.try_read(|| Ok(rustix::io::read(&*timer, &mut [0; 8])?)).is_ok() {
                *set = None;
            }
        }
    }
}

#[cfg_attr(target_os = "linux", expect(dead_code, reason = "compiled here so that it cannot rot"))]
mod other {
    use crate::host::clock::HostClock;
    use crate::model::time::Mono;
    use std::future::Future;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use tokio::time::{Instant, Sleep};

    /// An alarm that rings once each time it is set.
    #[derive(Debug)]
    pub(in super::super) struct Alarm {
        sleep: Pin<Box<Sleep>>,
        clock: HostClock,
        set: Option<Mono>,
    }

    impl Alarm {
        /// To be made inside a tokio runtime.
        #[expect(clippy::unnecessary_wraps, reason = "as on the system where it can fail")]
        pub(in super::super) fn new(clock: HostClock) -> io::Result<Self> {
            Ok(Self { sleep: Box::pin(tokio::time::sleep_until(Instant::now())), clock, set: None })
        }

        /// It is to ring then.
        pub(in super::super) fn set(&mut self, due: Mono) {
            if self.set.is_none_or(|set| due < set) {
                let wait = due.since(self.clock.now().mono);
                self.sleep.as_mut().reset(Instant::now() + wait);
                self.set = Some(due);
            }
        }

        /// Ready when it rings.
        pub(in super::super) fn poll_rings(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            ready!(self.sleep.as_mut().poll(cx));
            self.set = None;
            Poll::Ready(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock::HostClock;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test]
    async fn it_rings_when_it_is_due_and_once() {
        let clock = HostClock::new();
        let mut alarm = Alarm::new(clock).unwrap();
        let start = clock.now().mono;
        for n in 1..=3u32 {
            let due = start + Duration::from_millis(20) * n;
            // The later one does not undo the earlier one.
            alarm.set(due);
            alarm.set(due + Duration::from_secs(9));
            poll_fn(|cx| alarm.poll_rings(cx)).await;
            let late = clock.now().mono.since(due);
            assert!(clock.now().mono >= due && late < Duration::from_secs(1), "{late:?}");
        }
        alarm.set(clock.now().mono + Duration::from_secs(9));
        let rings = poll_fn(|cx| alarm.poll_rings(cx));
        assert!(tokio::time::timeout(Duration::from_millis(50), rings).await.is_err(), "only once");
        // What is over already rings at once.
        alarm.set(start);
        poll_fn(|cx| alarm.poll_rings(cx)).await;
    }
}
