//! How large a packet may be on the way to one peer: found by pings of known sizes that must not be fragmented.
//!
//! One ping as large as any packet of ours is asked first; if it is answered, nothing else is. If not (twice), pings of all
//! smaller sizes go out at once, twice, and the largest that is answered counts. Nothing is ever concluded from ICMP, which
//! many routers drop; a way that answers none counts as one of 1,280 bytes, and larger packets go in fragments there. The search
//! begins anew when the way changes, and every ten minutes.

use super::route::Route;
use crate::model::addr::Endpoint;
use crate::model::limits::{MTU, MTU_FLOOR};
use crate::model::time::{Deadline, Mono};
use std::time::Duration;

/// Bytes of the tunnel around an inner packet: WireGuard 32, UDP 8, and a frame's header for discovery 20.
const AROUND: u16 = 60;
/// TURN ChannelData, on top.
const CHANNEL: u16 = 4;
/// Whole IP packets that are tried, beside the largest of ours; what lines in use carry: PPPoE 1,492, LTE 1,420 to 1,460,
/// tunnels 1,400 and less.
const SIZES: [u16; 7] = [1492, 1472, 1452, 1420, 1400, 1360, 1320];
/// How long an answer is waited for.
const WAIT: Duration = Duration::from_millis(700);
/// The size is looked at again after this.
const AGAIN: Duration = Duration::from_secs(600);
/// Marks the numbers of these pings; the size is in the low bits.
pub const MARK: u64 = 1 << 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The largest is out, for the n-th time.
    Largest(u8),
    /// All smaller ones are out, for the n-th time.
    All(u8),
    /// Found.
    Rest,
}

/// The search on the way to one peer.
#[derive(Debug)]
pub struct PathMtu {
    route: Option<Route>,
    stage: Stage,
    due: Option<Mono>,
    /// The largest whole IP packet that came through on this way.
    answered: u16,
    /// What is in force until the search ends.
    found: Option<u16>,
    out: Vec<u16>,
}

impl Default for PathMtu {
    fn default() -> Self {
        Self { route: None, stage: Stage::Rest, due: None, answered: 0, found: None, out: Vec::new() }
    }
}

/// Bytes of IP and UDP, and of a relay's header, on this way.
const fn headers(route: Route) -> u16 {
    match route {
        Route::Straight(Endpoint { to, .. }) => {
            if to.is_ipv6() {
                48
            } else {
                28
            }
        }
        Route::Relayed { .. } => 28 + CHANNEL,
        Route::Friend(_) => 28 + AROUND,
    }
}

/// The largest whole IP packet that this program sends on this way.
const fn largest(route: Route) -> u16 {
    MTU + AROUND - 8 + headers(route)
}

impl PathMtu {
    /// The way to the peer is this now (proven), or there is none.
    pub fn set_route(&mut self, route: Option<Route>, now: Mono) {
        if self.route != route {
            self.route = route;
            self.found = None;
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Mono) {
        self.answered = 0;
        self.out.clear();
        let Some(route) = self.route else {
            (self.stage, self.due) = (Stage::Rest, None);
            return;
        };
        self.out.push(largest(route));
        (self.stage, self.due) = (Stage::Largest(1), Some(now + WAIT));
    }

    /// The largest inner packet that reaches the peer in one piece, in bytes; `None` while nothing is known against the
    /// largest of all.
    #[must_use]
    pub fn inner(&self) -> Option<u16> {
        let (route, whole) = (self.route?, self.found?);
        Some((whole.saturating_sub(headers(route) + AROUND - 8)).min(MTU))
    }

    /// A ping with this number was answered. True when the result changed.
    pub fn ponged(&mut self, number: u64, now: Mono) -> bool {
        let Ok(size) = u16::try_from(number & 0xffff) else { return false };
        let Some(route) = self.route.filter(|_| number & MARK != 0) else { return false };
        if size > largest(route) {
            return false;
        }
        self.answered = self.answered.max(size);
        size == largest(route) && self.finish(now)
    }

    fn finish(&mut self, now: Mono) -> bool {
        let found = if self.answered == 0 { MTU_FLOOR } else { self.answered };
        (self.stage, self.due) = (Stage::Rest, Some(now + AGAIN));
        self.out.clear();
        self.found.replace(found) != Some(found)
    }

    /// The timers. True when the result changed.
    pub fn handle_timeout(&mut self, now: Mono) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let Some(route) = self.route else { return false };
        self.due = Some(now + WAIT);
        match self.stage {
            Stage::Largest(1) => {
                self.stage = Stage::Largest(2);
                self.out.push(largest(route));
            }
            Stage::Largest(_) => {
                self.stage = Stage::All(1);
                self.ask_all(route);
            }
            Stage::All(1) => {
                self.stage = Stage::All(2);
                self.ask_all(route);
            }
            Stage::All(_) => return self.finish(now),
            Stage::Rest => self.begin(now),
        }
        false
    }

    fn ask_all(&mut self, route: Route) {
        let (most, least) = (largest(route), self.answered);
        self.out.extend(SIZES.into_iter().chain([MTU_FLOOR]).filter(|s| *s < most && *s > least));
    }

    /// The next ping: its number, and how many bytes of padding its frame carries.
    pub fn poll(&mut self) -> Option<(Route, u64, usize)> {
        let (route, size) = (self.route?, self.out.pop()?);
        // What is not padding: the frame's header, and what is around it.
        let padding = size.checked_sub(headers(route) + AROUND - 8)?;
        Some((route, MARK | u64::from(size), usize::from(padding)))
    }

    /// When to be woken.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        if !self.out.is_empty() {
            return Some(Deadline::new(Mono::ZERO, "mtu"));
        }
        self.due.map(|at| Deadline::new(at, "mtu"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that carries whole IP packets of so many bytes; each probe is lost with these chances (per mille).
    fn search(to: &str, line: u16, lost_every: usize) -> (Option<u16>, usize) {
        let route = Route::main(to.parse().unwrap());
        let mut mtu = PathMtu::default();
        mtu.set_route(Some(route), Mono::ZERO);
        let (mut sent, mut bytes) = (0, 0);
        for ms in 0..10_000 {
            let now = Mono(Duration::from_millis(ms));
            mtu.handle_timeout(now);
            while let Some((_, number, padding)) = mtu.poll() {
                let whole = padding + 20 + 32 + usize::from(headers(route));
                assert_eq!(whole, usize::try_from(number & 0xffff).unwrap(), "the number tells the size");
                sent += 1;
                bytes += whole;
                if whole <= usize::from(line) && (lost_every == 0 || sent % lost_every != 0) {
                    mtu.ponged(number, now);
                }
            }
        }
        (mtu.inner(), bytes)
    }

    #[test]
    fn a_common_line_costs_one_probe() {
        assert_eq!(search("198.51.100.1:5", 1500, 0), (Some(MTU), 1480));
        assert_eq!(search("[2001:db8::1]:5", 1500, 0), (Some(MTU), 1500));
    }

    #[test]
    fn a_narrow_line_is_found_out_and_the_floor_is_kept() {
        assert_eq!(search("198.51.100.1:5", 1492, 0).0, Some(MTU));
        assert_eq!(search("198.51.100.1:5", 1400, 0).0, Some(1400 - 80));
        assert_eq!(search("198.51.100.1:5", 1300, 0).0, Some(1280 - 80));
        assert_eq!(search("198.51.100.1:5", 600, 0).0, Some(1280 - 80), "below the floor fragments must do");
        assert_eq!(search("[2001:db8::1]:5", 1400, 0).0, Some(1400 - 100));
    }

    #[test]
    fn a_lost_probe_is_asked_again() {
        assert_eq!(search("198.51.100.1:5", 1500, 2).0, Some(MTU));
        assert_eq!(search("198.51.100.1:5", 1420, 3).0, Some(1420 - 80));
    }

    #[test]
    fn answers_that_nobody_asked_for_change_nothing() {
        let mut mtu = PathMtu::default();
        assert!(!mtu.ponged(MARK | 1500, Mono::ZERO));
        mtu.set_route(Some(Route::main("198.51.100.1:5".parse().unwrap())), Mono::ZERO);
        assert!(!mtu.ponged(1480, Mono::ZERO) && !mtu.ponged(MARK | 9000, Mono::ZERO));
        assert_eq!(mtu.inner(), None);
    }
}
