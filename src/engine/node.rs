//! The node: composes all machines of one peer. What host and sim drive.

use super::counters::Counters;
use super::effect::{Effect, HostFact, Setup};
use super::sink::{LanSink, WanSink};
use crate::buf::batch::{Batch, Datagrams};
use crate::model::command::Command;
use crate::model::dice::Seed;
use crate::model::id::LinkId;
use crate::model::status::Status;
use crate::model::time::{Deadline, Now};
use crate::wire::control::Down;

/// One peer of a party.
#[derive(Debug)]
pub struct Node {
    counters: Counters,
}

impl Node {
    /// A new node. Its first effects (open the links, configure the LAN) are ready to be polled.
    #[must_use]
    pub fn new(setup: Setup, seed: Seed, now: Now) -> Self {
        let _ = (setup, seed, now);
        Self { counters: Counters::default() }
    }

    /// Packets of games on this computer.
    pub fn handle_lan(
        &mut self,
        batch: &mut Batch,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        let _ = (batch, now, wan, lan);
    }

    /// Datagrams from the network.
    pub fn handle_wan(
        &mut self,
        datagrams: Datagrams<'_>,
        now: Now,
        wan: &mut impl WanSink,
        lan: &mut impl LanSink,
    ) {
        let _ = (datagrams, now, wan, lan);
    }

    /// The deadline has come.
    pub fn handle_timeout(&mut self, now: Now, wan: &mut impl WanSink, lan: &mut impl LanSink) {
        let _ = (now, wan, lan);
    }

    /// A control plane says something.
    pub fn handle_control(&mut self, link: LinkId, message: Down, now: Now) {
        let _ = (link, message, now);
    }

    /// The world reports something.
    pub fn handle_fact(&mut self, fact: HostFact, now: Now) {
        let _ = (fact, now);
    }

    /// Somebody asks for something. Goodbyes go out at once.
    pub fn handle_command(&mut self, command: Command, now: Now, wan: &mut impl WanSink) {
        let _ = (command, now, wan);
    }

    /// The next thing the node wants; take all of them after each input.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        None
    }

    /// When to call `handle_timeout`, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        None
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What people are shown.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let _ = now;
        unimplemented!("the node is being built")
    }
}
