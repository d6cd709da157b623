//! WireGuard through boringtun. The only file that names that crate.
//!
//! boringtun reads the clock and the system's dice itself and has no "when should I call you next", so this file
//! keeps it on a grid while a handshake is under way (250 ms), calls it when a keepalive is due and otherwise seldom while a session
//! stands, and not at all without one. Its own queue of unsent
//! packets is never used: packets wait in the engine's bounded ring. Its internal clock only moves in
//! `update_timers`, so that is called before anything that stamps a time after a silence.

use super::session::{LEAST_ROOM, Open, Session, SessionSetup, Tick};
use crate::model::key::{NodeKeys, TunnelKey};
use crate::model::time::{Deadline, Mono, Now};
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, Tunn, TunnResult};
use std::net::SocketAddr;
use std::time::Duration;

/// The grid on which all sessions tick together while a handshake is under way, and how old boringtun's clock may be.
const GRID: Duration = Duration::from_millis(250);

/// The grid for sessions that stand. Every packet moves boringtun's clock, and the path finder sends some at least every 25
/// seconds, which is when new keys are asked for; so nothing but the end of a session waits for this. An idle computer is not to be
/// woken more often.
const CALM_GRID: Duration = Duration::from_secs(10);

/// How long after something was received an empty message says so, when nothing else was sent (the protocol paper, section 6.5).
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The end of a session's counters (the protocol paper, section 6.1). boringtun does not look, and counts past the end.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// The counter of a data message; a shorter message is nobody's.
fn counter(wire: &[u8]) -> u64 {
    wire.get(8..).and_then(|rest| rest.first_chunk()).map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

/// A WireGuard session.
pub struct Noise {
    tunn: Box<Tunn>,
    established: bool,
    in_flight: bool,
    ticked: Mono,
    late: Option<Vec<u8>>,
    /// When something was last sent, by boringtun's clock. What confirms a handshake does not count there.
    spoke: Mono,
    /// Data came since: without an answer of ours within `KEEPALIVE` an empty message is due. To boringtun what comes in the same
    /// moment of its clock does not come after: it would be called again and again for a message that it never sends.
    owes: bool,
}

impl std::fmt::Debug for Noise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Noise(established: {}, in flight: {})", self.established, self.in_flight)
    }
}

impl Noise {
    /// Something was sent that boringtun counts as sent.
    fn said(&mut self) {
        (self.spoke, self.owes) = (self.ticked, false);
    }

    /// Moves boringtun's clock after a silence. What the timers then want to send waits for the next `tick`.
    fn refresh(&mut self, now: Now) {
        if now.mono.since(self.ticked) < GRID {
            return;
        }
        let mut room = [0u8; LEAST_ROOM];
        if let Tick::Send(len) = self.run_timers(&mut room, now) {
            self.late = room.get(..len).map(<[u8]>::to_vec);
        }
    }

    fn run_timers(&mut self, room: &mut [u8], now: Now) -> Tick {
        self.ticked = now.mono;
        let outcome = match self.tunn.update_timers(room) {
            TunnResult::WriteToNetwork(packet) => {
                self.in_flight |= packet.first() == Some(&1);
                self.said();
                Tick::Send(packet.len())
            }
            TunnResult::Err(_) => {
                self.in_flight = false;
                Tick::Expired
            }
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
                Tick::Nothing
            }
        };
        self.established = self.tunn.time_since_last_handshake().is_some();
        outcome
    }
}

impl Session for Noise {
    fn new(setup: SessionSetup, now: Now) -> Self {
        let tunn = Tunn::new(
            setup.keys.tunnel_secret().clone(),
            setup.peer.0.into(),
            Some(setup.psk.0),
            None,
            setup.index,
            None,
        );
        Self {
            tunn: Box::new(tunn),
            established: false,
            in_flight: false,
            ticked: now.mono,
            late: None,
            spoke: now.mono,
            owes: false,
        }
    }

    fn initiator(keys: &NodeKeys, wire: &[u8]) -> Option<TunnelKey> {
        let Ok(Packet::HandshakeInit(init)) = Tunn::parse_incoming_packet(wire) else { return None };
        let public = keys.tunnel_key().0.into();
        let half = parse_handshake_anon(keys.tunnel_secret(), &public, &init).ok()?;
        Some(TunnelKey(half.peer_static_public))
    }

    fn initiate(&mut self, room: &mut [u8], force: bool, now: Now) -> Option<usize> {
        self.refresh(now);
        match self.tunn.format_handshake_initiation(room, force) {
            TunnResult::WriteToNetwork(packet) => {
                self.in_flight = true;
                self.said();
                Some(packet.len())
            }
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        }
    }

    fn seal(&mut self, plain: &[u8], room: &mut [u8], now: Now) -> Option<usize> {
        self.refresh(now);
        if !self.established {
            return None;
        }
        match self.tunn.encapsulate(plain, room) {
            TunnResult::WriteToNetwork(packet) => {
                self.said();
                Some(packet.len())
            }
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        }
    }

    fn open(&mut self, wire: &[u8], room: &mut [u8], from: SocketAddr, now: Now) -> Open {
        // To boringtun an empty datagram means "anything queued?"; to us it is nobody's message.
        if wire.is_empty() {
            return Open::Refused;
        }
        if wire.first() == Some(&4) && counter(wire) >= REJECT_AFTER_MESSAGES {
            return Open::Refused;
        }
        self.refresh(now);
        let mut answered = false;
        let outcome = match self.tunn.decapsulate(Some(from.ip()), wire, room) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                self.owes = self.ticked > self.spoke;
                Open::Plain(packet.len())
            }
            TunnResult::WriteToNetwork(packet) => {
                answered = packet.first() == Some(&2);
                if answered {
                    self.said();
                }
                Open::Reply(packet.len())
            }
            TunnResult::Done => Open::Nothing,
            TunnResult::Err(_) => Open::Refused,
        };
        if outcome != Open::Refused {
            // Whoever is answered forgets what it began itself: of two handshakes that cross, one is enough.
            if wire.first() == Some(&2) || answered {
                self.in_flight = false;
            }
            if !self.established || wire.first() != Some(&4) {
                self.established = self.tunn.time_since_last_handshake().is_some();
            }
        }
        outcome
    }

    fn tick(&mut self, room: &mut [u8], now: Now) -> Tick {
        if let Some(late) = self.late.take()
            && let Some(to) = room.get_mut(..late.len())
        {
            to.copy_from_slice(&late);
            return Tick::Send(late.len());
        }
        self.run_timers(room, now)
    }

    fn deadline(&self) -> Option<Deadline> {
        if self.late.is_some() {
            return Some(Deadline::new(self.ticked, "session late"));
        }
        if !self.established && !self.in_flight {
            return None;
        }
        let calm = self.established && !self.in_flight;
        let beat = self.ticked.next_beat(if calm { CALM_GRID } else { GRID });
        // boringtun compares with its own clock, which may be a bit behind.
        let keepalive = (self.spoke + KEEPALIVE).max(self.ticked) + GRID;
        let due = if calm && self.owes { beat.min(keepalive) } else { beat };
        Some(Deadline::new(due, "session"))
    }

    fn established(&self) -> bool {
        self.established
    }
}
