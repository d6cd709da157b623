//! The LAN side as the driver holds it: one object that is readable, reads batches, and takes packets for the games.
//!
//! Everything that can fail while running is counted and logged, never returned: a card that vanishes, a device that
//! somebody deletes or a full queue must not stop the data loop. Packets are written when they are committed: the
//! device takes one packet per call anyway, and a packet that waits for `flush` would only be later.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use super::journal::Journal;
use super::marker::Process;
use super::netlink::Netlink;
use super::tun::Tun;
use super::{LanCounters, LanError, LanOptions};
use crate::buf::batch::{Batch, Source};
use crate::buf::slot::Slot;
use crate::engine::effect::LanConfig;
use crate::engine::sink::{Delivery, LanSink};
use crate::model::addr::Card;
use crate::rules::ruleset::Ruleset;

/// The LAN side.
pub struct LanPort {
    options: LanOptions,
    config: LanConfig,
    owner: Process,
    journal: Journal,
    netlink: Netlink,
    /// `None` after somebody deleted the device, until it is made again.
    tun: Option<Tun>,
    room: Slot,
    counters: LanCounters,
}

impl std::fmt::Debug for LanPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LanPort")
            .field("options", &self.options)
            .field("config", &self.config)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl LanPort {
    /// Makes the tunnel device and gives it its addresses. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses; the error says what to try. Nothing is left behind then.
    pub fn open(options: LanOptions, config: &LanConfig) -> Result<Self, LanError> {
        let refused = |doing, source| LanError::refused(doing, &options.adapter, source);
        let owner = Process::this().map_err(|e| refused("learn about this process", e))?;
        let mut netlink = Netlink::open().map_err(|e| refused("talk to the kernel about networks", e))?;
        let journal = Journal::begin(&options.data_dir, &options.adapter, owner);
        let tun = Tun::make(&options.adapter, owner, config, &mut netlink).inspect_err(|_| journal.end())?;
        Ok(Self {
            config: *config,
            owner,
            journal,
            netlink,
            tun: Some(tun),
            room: Slot::default(),
            counters: LanCounters::default(),
            options,
        })
    }

    /// Changes the device's addresses and MTU.
    ///
    /// # Errors
    /// When the system refuses; the old addresses stay then.
    pub fn reconfigure(&mut self, config: &LanConfig) -> Result<(), LanError> {
        match &mut self.tun {
            Some(tun) => tun.readdress(config, &mut self.netlink)?,
            None => self.tun = Some(Tun::make(&self.options.adapter, self.owner, config, &mut self.netlink)?),
        }
        self.config = *config;
        Ok(())
    }

    /// What to capture, and which groups to listen to.
    pub fn set_rules(&mut self, rules: &Ruleset) {
        let _ = rules;
    }

    /// The cards as they are now.
    pub fn set_cards(&mut self, cards: &[Card]) {
        let _ = cards;
        self.heal();
    }

    /// Waits until there is something to read. May be dropped and called again.
    pub async fn readable(&mut self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.tun {
            Some(tun) => tun.poll_readable(cx),
            None => Poll::Pending,
        }
    }

    /// Reads what there is until nothing is left or the batch is full; returns how many packets it added.
    pub fn try_read(&mut self, batch: &mut Batch) -> usize {
        let before = batch.len();
        self.read_tun(batch);
        batch.len() - before
    }

    fn read_tun(&mut self, batch: &mut Batch) {
        let Some(tun) = &self.tun else { return };
        while let Some(slot) = batch.next(Source::Tun) {
            match tun.read(slot.room()) {
                Ok(len) => {
                    slot.set_len(len);
                    self.counters.tun_in += 1;
                }
                Err(error) => {
                    batch.give_back();
                    if !is_passing(&error) {
                        self.lose_tun();
                    }
                    return;
                }
            }
        }
    }

    /// Writes what was committed: nothing waits here, see above.
    pub const fn flush(&mut self) {}

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> LanCounters {
        self.counters
    }

    /// Removes everything. Dropping does the same.
    pub fn close(self) {
        drop(self);
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.adapter
    }

    fn write_tun(&mut self, len: usize) {
        let written = match (&self.tun, self.room.packet().get(..len)) {
            (Some(tun), Some(packet)) => tun.write(packet),
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        match written {
            Ok(()) => self.counters.tun_out += 1,
            Err(error) => {
                self.counters.refused += 1;
                tracing::trace!(%error, "the adapter did not take a packet");
            }
        }
    }

    /// Somebody deleted the device: stop looking at it, or the loop would spin. `set_cards` makes it again.
    fn lose_tun(&mut self) {
        tracing::warn!(adapter = self.options.adapter, "the adapter is gone: somebody deleted it");
        self.tun = None;
    }

    /// Makes the device again when somebody deleted it.
    fn heal(&mut self) {
        if self.tun.as_ref().is_some_and(|tun| !tun.is_there()) {
            self.lose_tun();
        }
        if self.tun.is_some() {
            return;
        }
        match Tun::make(&self.options.adapter, self.owner, &self.config, &mut self.netlink) {
            Ok(tun) => {
                tracing::warn!(adapter = self.options.adapter, "the adapter was made again");
                self.tun = Some(tun);
            }
            Err(error) => tracing::warn!(%error, "the adapter could not be made again"),
        }
    }
}

impl Drop for LanPort {
    fn drop(&mut self) {
        // The device first: its end must not outlive the journal's entry.
        self.tun = None;
        self.journal.end();
    }
}

impl LanSink for LanPort {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let room = self.room.room();
        let fits = room.get_mut(..len);
        if fits.is_none() {
            self.counters.too_long += 1;
        }
        fits
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        self.room.set_len(len);
        match how {
            Delivery::Tun | Delivery::Group => self.write_tun(len),
        }
    }
}

/// Errors after which the next read may succeed.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
