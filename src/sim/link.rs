//! One direction of one wire: delay, jitter, loss (single and in bursts), duplicates, reordering.
//!
//! Packets stay in order unless the weather says otherwise: jitter alone stretches the gaps and never swaps them.

use crate::model::dice::Dice;
use crate::model::time::Mono;
use std::time::Duration;

/// How a wire behaves. Chances are in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Every packet takes this long …
    pub delay: Duration,
    /// … and up to this much longer.
    pub jitter: Duration,
    /// A packet is lost.
    pub loss: u32,
    /// A row of losses begins, of up to `BURST`.
    pub burst: u32,
    /// A packet arrives twice.
    pub duplicate: u32,
    /// A packet is held back and overtaken by later ones.
    pub reorder: u32,
}

/// The longest row of losses.
const BURST: Duration = Duration::from_millis(1500);
/// How long an overtaken packet is held back at most.
const HELD_MILLIS: u32 = 120;

impl Weather {
    /// The same wire on a fine day: its delay and its jitter only.
    #[must_use]
    pub const fn fine(self) -> Self {
        Self { delay: self.delay, jitter: self.jitter, loss: 0, burst: 0, duplicate: 0, reorder: 0 }
    }
}

/// How fast a home's line sends to the internet: what comes faster waits, and what would wait too long is dropped.
#[derive(Debug, Clone, Copy)]
pub struct Uplink {
    kbit: u32,
    queue: Duration,
    free: Mono,
}

impl Uplink {
    /// A line of so many kbit/s, before which packets wait for as long as this.
    #[must_use]
    pub const fn new(kbit: u32, queue: Duration) -> Self {
        Self { kbit, queue, free: Mono::ZERO }
    }

    /// When a packet of so many bytes that comes now has left; `None`: never.
    pub fn send(&mut self, bytes: usize, now: Mono) -> Option<Mono> {
        let start = self.free.max(now);
        if start.since(now) > self.queue {
            return None;
        }
        let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
        self.free =
            start + Duration::from_nanos(bits.saturating_mul(1_000_000) / u64::from(self.kbit.max(1)));
        Some(self.free)
    }
}

/// One direction of a wire.
#[derive(Debug)]
pub struct Link {
    dice: Dice,
    dead_until: Mono,
    last: Mono,
}

impl Link {
    /// A wire with its own dice.
    #[must_use]
    pub const fn new(dice: Dice) -> Self {
        Self { dice, dead_until: Mono::ZERO, last: Mono::ZERO }
    }

    /// When a packet sent now arrives: never, once or twice.
    pub fn carry(&mut self, now: Mono, weather: &Weather) -> [Option<Mono>; 2] {
        if weather.burst > 0 && self.dice.chance(weather.burst) {
            let millis = self.dice.range(50, u32::try_from(BURST.as_millis()).unwrap_or(u32::MAX));
            self.dead_until = now + Duration::from_millis(u64::from(millis));
        }
        if now < self.dead_until || weather.loss > 0 && self.dice.chance(weather.loss) {
            return [None, None];
        }
        let first = self.arrival(now, weather);
        let twice = weather.duplicate > 0 && self.dice.chance(weather.duplicate);
        [Some(first), twice.then(|| self.arrival(now, weather))]
    }

    fn arrival(&mut self, now: Mono, weather: &Weather) -> Mono {
        let micros = u32::try_from(weather.jitter.as_micros()).unwrap_or(u32::MAX);
        let extra = if micros == 0 { 0 } else { self.dice.below(micros) };
        let at = now + weather.delay + Duration::from_micros(u64::from(extra));
        if weather.reorder > 0 && self.dice.chance(weather.reorder) {
            return at + Duration::from_millis(u64::from(self.dice.range(1, HELD_MILLIS)));
        }
        self.last = self.last.max(at);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dice::Seed;

    fn run(weather: Weather) -> Vec<[Option<Mono>; 2]> {
        let mut link = Link::new(Seed::from_u64(1).dice("link"));
        (0..1000).map(|i| link.carry(Mono(Duration::from_millis(i * 5)), &weather)).collect()
    }

    #[test]
    fn a_fine_wire_keeps_everything_in_order() {
        let fine = Weather {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(50),
            loss: 500,
            burst: 100,
            duplicate: 100,
            reorder: 100,
        }
        .fine();
        let arrivals = run(fine);
        assert!(arrivals.iter().all(|a| a[0].is_some() && a[1].is_none()));
        assert!(arrivals.windows(2).all(|w| w[0][0] <= w[1][0]));
    }

    #[test]
    fn a_line_sends_at_its_rate_and_drops_what_would_wait_too_long() {
        let mut line = Uplink::new(8_000, Duration::from_millis(10));
        let sent: Vec<_> = (0..100).filter_map(|_| line.send(1000, Mono::ZERO)).collect();
        assert_eq!(
            (sent.len(), sent[0], sent[10]),
            (11, Mono(Duration::from_millis(1)), Mono(Duration::from_millis(11)))
        );
        let later = Mono(Duration::from_millis(50));
        assert_eq!(line.send(500, later), Some(later + Duration::from_micros(500)));
    }

    #[test]
    fn every_misfortune_happens_about_as_often_as_asked() {
        let lossy = run(Weather { loss: 200, duplicate: 100, ..Weather::default() });
        let lost = lossy.iter().filter(|a| a[0].is_none()).count();
        let twice = lossy.iter().filter(|a| a[1].is_some()).count();
        assert!((150..250).contains(&lost) && (50..120).contains(&twice), "{lost} lost, {twice} twice");
        let swapped = run(Weather { reorder: 100, ..Weather::default() });
        assert!(swapped.windows(2).filter(|w| w[0][0] > w[1][0]).count() > 50);
        let bursty = run(Weather { burst: 5, ..Weather::default() });
        let rows = bursty.windows(2).filter(|w| w[0][0].is_some() && w[1][0].is_none()).count();
        let lost = bursty.iter().filter(|a| a[0].is_none()).count();
        assert!(rows > 0 && lost > rows * 10, "{rows} rows, {lost} lost");
    }
}
