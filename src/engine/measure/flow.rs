//! So many packets at a steady rate. They leave in small batches, because no clock wakes a node for each of them.

use crate::model::time::Mono;
use std::time::Duration;

/// Between two batches: what a timer of the runtime can tell apart.
const PAUSE: Duration = Duration::from_millis(1);
/// Packets of one batch: a fraction of a millisecond's work, for which a game's packets may have to wait.
const BATCH: u32 = 256;

/// Numbered packets on their way out.
#[derive(Debug)]
pub(super) struct Flow {
    per_second: u32,
    many: u32,
    pub(super) start: Mono,
    pub(super) sent: u32,
    pub(super) last: Mono,
    /// When the present batch began, and how many it has.
    batch: (Mono, u32),
}

impl Flow {
    /// At this rate from now on, for so long; at least one packet.
    pub(super) fn new(per_second: u32, long: Duration, most: u32, now: Mono) -> Self {
        let per_second = per_second.max(1);
        let many = u128::from(per_second) * long.as_micros() / 1_000_000;
        let many = u32::try_from(many).unwrap_or(u32::MAX).clamp(1, most);
        Self { per_second, many, start: now, sent: 0, last: now, batch: (now, 0) }
    }

    fn after(&self, packets: u32) -> Duration {
        Duration::from_nanos(u64::from(packets) * 1_000_000_000 / u64::from(self.per_second))
    }

    /// When the next packet should leave; `None` when all have left.
    pub(super) fn due(&self) -> Option<Mono> {
        (self.sent < self.many).then(|| self.start + self.after(self.sent))
    }

    /// When to be woken for it.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let pause = if self.batch.1 > 0 { PAUSE } else { Duration::ZERO };
        self.due().map(|due| due.max(self.batch.0 + pause))
    }

    /// The number of the next packet, if it may leave now.
    pub(super) fn poll(&mut self, now: Mono) -> Option<u32> {
        if now != self.batch.0 {
            if self.deadline().is_none_or(|at| at > now) {
                return None;
            }
            self.batch = (now, 0);
        }
        if self.batch.1 >= BATCH || self.due().is_none_or(|due| due > now) {
            return None;
        }
        let number = self.sent;
        (self.sent, self.last) = (number + 1, now);
        self.batch.1 += 1;
        Some(number)
    }

    /// Between two packets.
    pub(super) fn gap(&self) -> Duration {
        self.after(1)
    }

    /// How long it really took.
    pub(super) fn span(&self) -> Duration {
        self.last.since(self.start) + self.gap()
    }

    /// This computer could not send as fast as it should have.
    pub(super) fn is_late(&self) -> bool {
        self.span() > self.after(self.many) * 13 / 10 + 2 * PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drives a flow with a clock that comes so much too late; when it ended, and the largest batch.
    fn drive(mut flow: Flow, late: Duration) -> (Flow, u32) {
        let (mut now, mut largest) = (Mono::ZERO, 0);
        loop {
            let mut batch = 0;
            while flow.poll(now).is_some() {
                batch += 1;
            }
            largest = largest.max(batch);
            let Some(at) = flow.deadline() else { return (flow, largest) };
            assert!(at > now, "never woken at once for what is not due");
            now = at + late;
        }
    }

    #[test]
    fn the_rate_is_kept_whether_the_timer_is_exact_or_not() {
        for (rate, late) in [(3, 0), (500, 0), (500, 900), (100_000, 0), (100_000, 700)] {
            let flow = Flow::new(rate, Duration::from_millis(400), 100_000, Mono::ZERO);
            let (flow, largest) = drive(flow, Duration::from_micros(late));
            assert_eq!(flow.sent, (rate * 2 / 5).max(1), "{rate}");
            assert!(!flow.is_late() && largest <= BATCH, "{rate}: {:?}", flow.span());
        }
    }

    #[test]
    fn a_rate_beyond_the_batches_is_noticed() {
        let (flow, largest) =
            drive(Flow::new(2_000_000, Duration::from_millis(50), 100_000, Mono::ZERO), Duration::ZERO);
        assert!(flow.is_late() && largest == BATCH && flow.sent == 100_000);
        assert_eq!(Flow::new(1_000_000, Duration::from_secs(9), 77, Mono::ZERO).many, 77);
    }
}
