//! A computer that slept: the first thing that happens after it wakes may be a packet of a game, not a deadline.
//!
//! boringtun notices the end of a session in whatever call comes first and asks for no deadline after that. Its clock is
//! the system's, so `Drowsy` plays that part here, on top of the simulator's session.

use crate::support::{Party, udp};
use lanrage::engine::tunnel::plain::Plain;
use lanrage::engine::tunnel::session::{LEAST_ROOM, Open, Session, SessionSetup, Tick};
use lanrage::model::key::{NodeKeys, TunnelKey};
use lanrage::model::time::{Deadline, Mono, Now};
use std::net::SocketAddr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Drowsy {
    plain: Plain,
    ticked: Mono,
    dead: bool,
}

impl Drowsy {
    fn refresh(&mut self, now: Now) {
        if now.mono.since(self.ticked) > SECOND {
            self.tick(&mut [0; LEAST_ROOM], now);
        }
    }
}

impl Session for Drowsy {
    fn new(setup: SessionSetup, now: Now) -> Self {
        Self { plain: Plain::new(setup, now), ticked: now.mono, dead: false }
    }
    fn initiator(keys: &NodeKeys, wire: &[u8]) -> Option<TunnelKey> {
        Plain::initiator(keys, wire)
    }
    fn initiate(&mut self, room: &mut [u8], force: bool, now: Now) -> Option<usize> {
        self.refresh(now);
        self.dead = false;
        self.plain.initiate(room, force, now)
    }
    fn seal(&mut self, plain: &[u8], room: &mut [u8], now: Now) -> Option<usize> {
        self.refresh(now);
        self.plain.seal(plain, room, now)
    }
    fn open(&mut self, wire: &[u8], room: &mut [u8], from: SocketAddr, now: Now) -> Open {
        self.refresh(now);
        let outcome = self.plain.open(wire, room, from, now);
        self.dead &= !self.established();
        outcome
    }
    fn tick(&mut self, room: &mut [u8], now: Now) -> Tick {
        self.ticked = now.mono;
        let was = self.established();
        let outcome = self.plain.tick(room, now);
        self.dead |= was && !self.established();
        outcome
    }
    fn deadline(&self) -> Option<Deadline> {
        self.plain.deadline().filter(|_| !self.dead)
    }
    fn established(&self) -> bool {
        self.plain.established()
    }
}

#[test]
fn two_computers_that_slept_for_four_minutes_find_each_other_at_once() {
    let mut party = Party::<Drowsy>::new(2, &["openttd"]);
    party.run(SECOND * 10);
    party.now = party.now.plus(SECOND * 240);
    for i in 0..2 {
        let (mine, theirs) = (party.address(i), party.address(1 - i));
        party.say(i, None, &udp(&format!("{mine}:3979"), &format!("{theirs}:3979"), &[9; 9]));
    }
    party.run(SECOND * 40);
    party.heard(1);
    let (a, b) = (party.address(0), party.address(1));
    party.say(0, None, &udp(&format!("{a}:3979"), &format!("{b}:3979"), &[7; 7]));
    assert!(party.heard(1).iter().any(|(_, _, payload, _)| payload == &[7; 7]));
}
