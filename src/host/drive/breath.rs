//! Fewer wake-ups where this computer sends many packets, as network cards do it (adaptive interrupt moderation).
//!
//! Waking up is what a small packet costs most. A node that wakes for each of ten thousand packets a second takes the time from
//! the game beside it, and nobody feels a quarter of a millisecond at that rate. So above it the thread leaves what arrives
//! alone for a moment before it looks again. Below it, where games are, every packet is served the moment it comes.
//!
//! Two ends that answer each other as fast as they can are many packets too, but each waits for the one before: a pause
//! would only slow them down. That shows: nothing gathers meanwhile, and then no pause is made for a while.
//!
//! Only datagrams count, not TCP, which waits for its acknowledgements and would only become slower; and only what comes from this
//! computer. What gathered here leaves in one call and reaches the other end together, so a
//! second pause there would cost time and save nothing.

use crate::model::time::Mono;
use std::time::Duration;

/// What arrives is left alone for so long. The system adds about 50 us.
pub(super) const PAUSE: Duration = Duration::from_micros(250);
/// Packets in a second from which on pauses are made,
const MANY: u64 = 5_000;
/// and below which they end.
const FEW: u64 = 3_000;
/// How long packets are counted: long enough to tell a rate from a burst, short beside what is felt.
const WINDOW: Duration = Duration::from_millis(8);
/// So many pauses are judged together.
const TRIAL: u32 = 8;
/// Packets that so many pauses gather at least when they are worth it: 1.75 each.
const WORTH: u64 = 14;
/// When so many gathered no more than that, it is told at once: each packet waits for the answer to the one before, so that every other
/// pause gathers nothing.
const EMPTY: (u32, u64) = (4, 2);
/// How long none are made after they gathered too little: twice as long each time, until they are worth it once.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));
/// After so long without a packet, what comes next is something else, and is judged anew.
const LULL: Duration = Duration::from_millis(100);
/// More than these in so many pauses come so fast that they gather by themselves; in one alone they may be what a program that
/// was kept from sending makes up for,
const FLOOD: (u32, u64) = (4, 48);
/// but not when there are as many as these.
const TORRENT: u64 = 40;
/// How long none are made in a flood. Short, because what follows a flood may be worth pauses, and long enough that those
/// which find out cost a flood nothing.
const FLOOD_REST: Duration = Duration::from_millis(50);

/// What is known of the rate, and of what pauses bring.
#[derive(Debug)]
pub(super) struct Breath {
    since: Mono,
    packets: u64,
    many: bool,
    /// For how long nothing has come.
    quiet: Duration,
    /// The thread has just paused.
    paused: bool,
    pauses: u32,
    /// In this pause, and in those before it that are judged with it.
    came: u64,
    gathered: u64,
    rests_until: Mono,
    /// How long the next rest is after pauses that were not worth it.
    rest: Duration,
}

impl Breath {
    pub(super) const fn new(now: Mono) -> Self {
        Self {
            since: now,
            packets: 0,
            many: false,
            quiet: Duration::ZERO,
            paused: false,
            pauses: 0,
            came: 0,
            gathered: 0,
            rests_until: now,
            rest: REST.0,
        }
    }

    /// So many datagrams came from this computer.
    pub(super) const fn note(&mut self, packets: usize) {
        self.packets += packets as u64;
        if self.paused {
            self.came += packets as u64;
        }
    }

    /// Whether the thread is to pause now that everything is served.
    pub(super) fn is_due(&mut self, now: Mono) -> bool {
        if std::mem::take(&mut self.paused) {
            self.judge(now);
        }
        let lasted = now.since(self.since);
        if lasted >= WINDOW {
            let most = if self.many { FEW } else { MANY };
            self.many = u128::from(self.packets) * 1_000_000 >= u128::from(most) * lasted.as_micros();
            // What woke the thread after a long time is the first of something.
            let silent = self.packets == 0 || lasted >= LULL;
            self.quiet = if silent { self.quiet + lasted } else { Duration::ZERO };
            if self.quiet >= LULL {
                (self.rests_until, self.rest) = (now, REST.0);
            }
            (self.since, self.packets) = (now, 0);
        }
        self.paused = self.many && now >= self.rests_until;
        self.paused
    }

    /// What the pause brought that is over.
    fn judge(&mut self, now: Mono) {
        let came = std::mem::take(&mut self.came);
        (self.pauses, self.gathered) = (self.pauses + 1, self.gathered + came);
        let rest = match self.pauses {
            _ if came > TORRENT => Some(FLOOD_REST),
            pauses if pauses == FLOOD.0 && self.gathered > FLOOD.1 => Some(FLOOD_REST),
            pauses if pauses == EMPTY.0 && self.gathered <= EMPTY.1 => Some(self.tired()),
            TRIAL if self.gathered < WORTH => Some(self.tired()),
            TRIAL => {
                self.rest = REST.0;
                None
            }
            _ => return,
        };
        self.rests_until = rest.map_or(self.rests_until, |rest| now + rest);
        (self.pauses, self.gathered) = (0, 0);
    }

    /// They were not worth it: the length of this rest.
    fn tired(&mut self) -> Duration {
        let longer = (self.rest * 2).min(REST.1);
        std::mem::replace(&mut self.rest, longer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that is woken for each packet of an even stream, unless it pauses; how many pauses it made.
    fn stream(breath: &mut Breath, now: &mut Mono, per_second: u32, lasting: Duration) -> usize {
        let (end, gap) = (*now + lasting, Duration::from_secs(1) / per_second);
        let (mut next, mut pauses) = (*now + gap, 0);
        while *now < end {
            *now = (*now).max(next);
            let mut came = 0;
            while next <= *now {
                came += 1;
                next = next + gap;
            }
            breath.note(came);
            if breath.is_due(*now) {
                pauses += 1;
                *now = *now + PAUSE;
            }
        }
        pauses
    }

    #[test]
    fn games_are_never_kept_waiting_and_floods_are() {
        let mut now = Mono::default();
        let mut breath = Breath::new(now);
        let second = Duration::from_secs(1);
        for rate in [60, 1_000, 4_900] {
            assert_eq!(stream(&mut breath, &mut now, rate, second), 0, "{rate}");
        }
        for rate in [10_000, 25_000] {
            let pauses = stream(&mut breath, &mut now, rate, second);
            assert!((3_000..=5_000).contains(&pauses), "{rate}: {pauses}");
        }
        // They come together by themselves.
        let pauses = stream(&mut breath, &mut now, 100_000, second);
        assert!(pauses <= 80, "{pauses}");
        let pauses = stream(&mut breath, &mut now, 200_000, second);
        assert!(pauses <= 20, "{pauses}");
        // What comes after a flood is not kept from what it would save.
        let pauses = stream(&mut breath, &mut now, 10_000, second / 10);
        assert!(pauses >= 150, "{pauses}");
        stream(&mut breath, &mut now, 1_000, Duration::from_millis(50));
        assert_eq!(stream(&mut breath, &mut now, 1_000, second), 0);
    }

    #[test]
    fn what_was_held_up_for_a_moment_is_no_flood() {
        let mut now = Mono::default();
        let mut breath = Breath::new(now);
        let second = Duration::from_secs(1);
        let even = stream(&mut breath, &mut now, 10_000, second);
        let mut pauses = 0;
        for _ in 0..50 {
            pauses += stream(&mut breath, &mut now, 10_000, second / 50);
            // Two milliseconds without a packet, and then all of them at once.
            now = now + Duration::from_millis(2);
            breath.note(20);
            pauses += usize::from(breath.is_due(now));
        }
        assert!(pauses * 10 >= even * 9, "{pauses} instead of {even}");
    }

    #[test]
    fn after_silence_a_single_packet_is_served_at_once() {
        let mut now = Mono::default();
        let mut breath = Breath::new(now);
        assert!(stream(&mut breath, &mut now, 20_000, Duration::from_millis(100)) > 100);
        breath.note(1);
        assert!(!breath.is_due(now + Duration::from_secs(2)));
    }

    /// A program that waits for each answer; how many packets it sent, and pauses.
    fn ping_pong(breath: &mut Breath, now: &mut Mono, lasting: Duration) -> (usize, u32) {
        let (end, mut turns, mut pauses) = (*now + lasting, 0, 0);
        while *now < end {
            // A packet of the program leaves, then the other end's answer is handed over.
            for packets in [1, 0] {
                *now = *now + Duration::from_micros(30);
                breath.note(packets);
                turns += packets;
                if breath.is_due(*now) {
                    pauses += 1;
                    *now = *now + PAUSE;
                }
            }
        }
        (turns, pauses)
    }

    #[test]
    fn who_waits_for_each_answer_is_not_slowed_down() {
        let mut now = Mono::default();
        let mut breath = Breath::new(now);
        let (turns, pauses) = ping_pong(&mut breath, &mut now, Duration::from_secs(10));
        assert!(turns > 100_000 && pauses <= 5 * EMPTY.0, "{pauses} of {turns}");
    }

    #[test]
    fn after_a_lull_pauses_are_judged_anew() {
        // Whether the thread woke up meanwhile or not.
        for turns in [20, 1] {
            let mut now = Mono::default();
            let mut breath = Breath::new(now);
            ping_pong(&mut breath, &mut now, Duration::from_secs(5));
            assert_eq!(stream(&mut breath, &mut now, 10_000, Duration::from_millis(50)), 0, "it rests");
            for _ in 0..turns {
                now = now + WINDOW * 20 / turns;
                breath.note(usize::from(turns == 1));
                assert!(!breath.is_due(now));
            }
            let pauses = stream(&mut breath, &mut now, 10_000, Duration::from_millis(100));
            assert!(pauses >= 200, "{pauses}");
        }
    }
}
