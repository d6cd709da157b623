#![allow(missing_docs, missing_debug_implementations, dead_code, unused, clippy::all)]
use crate::model::addr::Endpoint;
use crate::model::dice::Dice;
use crate::model::nat::NatFacts;
use crate::model::time::*;
use std::net::*;
use std::ops::Range;
use std::time::Duration;
pub struct TurnSetup {
    pub endpoint: Endpoint,
    pub username: String,
    pub password: String,
    pub realm: String,
    pub v6: bool,
    pub stream: bool,
}
#[derive(Debug)]
pub struct Turn(Endpoint);
pub enum TurnIn {
    Data { peer: SocketAddr, body: Range<usize> },
    Taken,
    NotMine,
}
pub enum TurnEvent {
    Allocated { relayed: SocketAddr, mapped: SocketAddr, rtt: Duration },
    Mapped(SocketAddr),
    Failed { why: String },
    Lost { why: String },
}
impl Turn {
    pub fn new(s: TurnSetup, d: Dice, now: Mono) -> Self {
        Self(s.endpoint)
    }
    pub fn endpoint(&self) -> Endpoint {
        self.0
    }
    pub fn handle(&mut self, b: &[u8], now: Mono) -> TurnIn {
        TurnIn::NotMine
    }
    pub fn has_transmit(&self) -> bool {
        false
    }
    pub fn poll_transmit(&mut self, r: &mut [u8]) -> Option<usize> {
        None
    }
    pub fn poll_event(&mut self) -> Option<TurnEvent> {
        None
    }
    pub fn permit(&mut self, p: SocketAddr, now: Mono) {}
    pub fn prefix(&self, p: &SocketAddr) -> Option<usize> {
        None
    }
    pub fn wrap(&mut self, r: &mut [u8], p: &SocketAddr, len: usize, now: Mono) -> Option<usize> {
        None
    }
    pub fn check(&mut self, now: Mono) {}
    pub fn restart(&mut self, now: Mono) {}
    pub fn close(&mut self) {}
    pub fn set_credentials(&mut self, u: &str, p: &str) {}
    pub fn deadline(&self) -> Option<Deadline> {
        None
    }
    pub fn handle_timeout(&mut self, now: Mono) {}
}
#[derive(Debug)]
pub struct Probe(NatFacts);
pub enum ProbeEvent {
    Reflexive { public: SocketAddr },
    Facts,
    Moved { public: SocketAddr },
}
impl Probe {
    pub fn new(d: Dice, now: Mono) -> Self {
        Self(NatFacts::default())
    }
    pub fn set_servers(&mut self, s: &[SocketAddr], now: Mono) {}
    pub fn set_locals(&mut self, s: &[IpAddr]) {}
    pub fn handle(&mut self, f: SocketAddr, b: &[u8], now: Mono) -> bool {
        false
    }
    pub fn poll_transmit(&mut self, r: &mut [u8]) -> Option<(SocketAddr, usize)> {
        None
    }
    pub fn poll_event(&mut self) -> Option<ProbeEvent> {
        None
    }
    pub fn facts(&self, v6: bool) -> &NatFacts {
        &self.0
    }
    pub fn recheck(&mut self, now: Mono) {}
    pub fn deadline(&self) -> Option<Deadline> {
        None
    }
    pub fn handle_timeout(&mut self, now: Mono) {}
}
