//! The LAN side as the driver holds it: one object that is readable, reads batches, and takes packets for the games.
//!
//! Everything that can fail while running is counted and logged, never returned: a card that vanishes, a device that
//! somebody deletes or a full queue must not stop the data loop. Packets are written when they are committed, or at the
//! next `flush` where the device takes several at once and more of the same flow may come.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::task::{Context, Poll};

use super::capture::{Capture, Captured};
use super::inject::Injector;
use super::journal::Journal;
use super::marker::Process;
use super::members::Memberships;
use super::netlink::Netlink;
use super::steer::Steer;
use super::tun::{HEAD, Read, Tun};
use super::{LanCounters, LanError, LanOptions, filter};
use crate::buf::batch::{Batch, Source};
use crate::buf::slot::Slot;
use crate::engine::effect::LanConfig;
use crate::engine::sink::{Delivery, LanSink};
use crate::model::addr::Card;
use crate::model::limits::BATCH_SLOTS;
use crate::rules::ruleset::Ruleset;

/// The most that captures may fill of a batch, so that a storm of broadcasts cannot keep the device's packets out.
const CAPTURES_SHARE: usize = BATCH_SLOTS / 2;

/// The LAN side.
pub struct LanPort {
    options: LanOptions,
    config: LanConfig,
    owner: Process,
    journal: Journal,
    kernel: Kernel,
    captures: Vec<Capture>,
    injector: Injector,
    cards: Vec<Card>,
    wanted: Wanted,
    room: Slot,
    counters: LanCounters,
}

/// The device and what hangs on it.
#[derive(Default)]
struct Device {
    /// `None` after somebody deleted it, until it is made again.
    tun: Option<Tun>,
    steer: Steer,
    /// Our memberships on the device, for sockets that take any group that comes in.
    groups: Memberships,
}

/// The device, and whom to ask about it.
struct Kernel {
    /// Whether offloads are tried.
    offload: bool,
    netlink: Netlink,
    device: Device,
}

/// What the games' profiles want to be listened to.
#[derive(Debug, Default)]
struct Wanted {
    ports: Vec<RangeInclusive<u16>>,
    groups: Vec<IpAddr>,
}

impl std::fmt::Debug for LanPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LanPort")
            .field("options", &self.options)
            .field("config", &self.config)
            .field("wanted", &self.wanted)
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
        let netlink = Netlink::open().map_err(|e| refused("talk to the kernel about networks", e))?;
        let injector = Injector::open().map_err(|e| refused("open a raw socket", e))?;
        let mut kernel = Kernel { offload: options.offload, netlink, device: Device::default() };
        let journal = Journal::begin(&options.data_dir, &options.adapter, owner);
        kernel.make(&options.adapter, owner, config).inspect_err(|_| journal.end())?;
        Ok(Self {
            config: *config,
            owner,
            journal,
            kernel,
            captures: Vec::new(),
            injector,
            cards: Vec::new(),
            wanted: Wanted::default(),
            room: Slot::default(),
            counters: LanCounters::default(),
            options,
        })
    }

    /// Changes the device's addresses and MTU.
    ///
    /// # Errors
    /// When the system refuses, for example because another device has the address.
    pub fn reconfigure(&mut self, config: &LanConfig) -> Result<(), LanError> {
        let Kernel { netlink, device, .. } = &mut self.kernel;
        match &mut device.tun {
            Some(tun) => {
                let done = tun.readdress(config, netlink);
                device.steer.adapt_anew(netlink, tun.index());
                done?;
            }
            None => self.kernel.make(&self.options.adapter, self.owner, config)?,
        }
        self.config = *config;
        Ok(())
    }

    /// Changes the device's MTU while it is in use: nothing else about it changes. A device that is made again has the
    /// new one.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.config.mtu = mtu;
        let Some(tun) = &mut self.kernel.device.tun else { return };
        if let Err(error) = tun.resize(mtu) {
            tracing::warn!(%error, "the adapter keeps its MTU: packets that do not fit are lost");
        }
    }

    /// What to capture, and which groups to listen to.
    pub fn set_rules(&mut self, rules: &Ruleset) {
        self.listen_for(rules.capture_ports(), rules.groups());
    }

    /// Captures UDP packets to these ports, and takes these groups on the device. What `set_rules` does with the rules.
    pub fn listen_for(&mut self, ports: &[RangeInclusive<u16>], groups: &[IpAddr]) {
        self.wanted = Wanted { ports: ports.to_vec(), groups: groups.to_vec() };
        for capture in &self.captures {
            let filter = filter::program(&self.wanted.ports, capture.ethernet());
            if let Err(error) = capture.set_filter(&filter) {
                tracing::warn!(%error, card = capture.card().0, "a capture's filter could not be set");
            }
        }
        self.kernel.take(&self.wanted.groups);
    }

    /// The cards as they are now: opens and closes captures, gives routes back or makes them, and makes the device
    /// again if somebody deleted it. Call it whenever they changed.
    pub fn set_cards(&mut self, cards: &[Card]) {
        self.heal();
        self.warn_of_missing(cards);
        self.cards = cards.to_vec();
        self.injector.keep_only(cards);
        if let Kernel { netlink, device: Device { tun: Some(tun), steer, .. }, .. } = &mut self.kernel {
            steer.adapt(netlink, tun.index());
        }
        let chosen = |card: &Card| self.options.cards.as_ref().is_none_or(|names| names.contains(&card.name));
        let wanted: Vec<&Card> = cards.iter().filter(|c| chosen(c)).collect();
        self.captures.retain(|open| wanted.iter().any(|c| c.id == open.card()));
        let links = self.kernel.netlink.links().unwrap_or_default();
        let ethernet: BTreeMap<u32, bool> = links.iter().map(|l| (l.index, l.ethernet)).collect();
        for card in wanted {
            if self.captures.iter().any(|open| open.card() == card.id) {
                continue;
            }
            // A card that is not in the list has gone again; the next news will say so.
            let Some(&ethernet) = ethernet.get(&card.id.0) else { continue };
            match Capture::open(card, ethernet, &filter::program(&self.wanted.ports, ethernet)) {
                Ok(capture) => self.captures.push(capture),
                Err(error) => tracing::warn!(%error, card = card.name, "cannot listen to games on this card"),
            }
        }
    }

    fn warn_of_missing(&self, cards: &[Card]) {
        let is_there = |list: &[Card], name: &String| list.iter().any(|c| c.name == *name);
        for name in self.options.cards.iter().flatten() {
            let news = self.cards.is_empty() || is_there(&self.cards, name);
            if news && !is_there(cards, name) {
                let there: Vec<&str> = cards.iter().map(|c| c.name.as_str()).collect();
                tracing::warn!(card = name, ?there, "the chosen card is not there or not up; waiting for it");
            }
        }
    }

    /// Waits until there is something to read. May be dropped and called again.
    pub async fn readable(&mut self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Each must be polled, so that each remembers whom to wake.
        let device = self.kernel.device.tun.as_ref().is_some_and(|tun| tun.poll_readable(cx).is_ready());
        let ready = self.captures.iter().fold(device, |any, c| c.poll_readable(cx).is_ready() || any);
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Nobody looked for a while: more than one packet may have come.
    pub fn expect_many(&mut self) {
        if let Some(tun) = &mut self.kernel.device.tun {
            tun.expect_many();
        }
    }

    /// Reads what there is until nothing is left or the batch is full; returns how many packets it added.
    pub fn try_read(&mut self, batch: &mut Batch) -> usize {
        let before = batch.len();
        self.read_captures(batch);
        self.read_tun(batch);
        batch.len() - before
    }

    fn read_captures(&mut self, batch: &mut Batch) {
        for capture in &mut self.captures {
            while batch.len() < CAPTURES_SHARE {
                let Some(slot) = batch.next(Source::Card(capture.card())) else { return };
                let captured = capture.read(slot);
                if captured != Captured::Packet {
                    batch.give_back();
                }
                match captured {
                    Captured::Packet => self.counters.captured += 1,
                    Captured::TooLong => self.counters.too_long += 1,
                    Captured::Nothing => break,
                }
            }
        }
    }

    /// First what the device has, then what waits of it: a packet of a game passes a transfer, but never more than half of
    /// a batch does.
    fn read_tun(&mut self, batch: &mut Batch) {
        let Self { kernel, counters, .. } = self;
        let Some(tun) = &mut kernel.device.tun else { return };
        let free = BATCH_SLOTS.saturating_sub(batch.len());
        let mut passing = if tun.is_behind() { free / 2 } else { free };
        let before = counters.tun_in;
        while passing > 0 {
            let Some(slot) = batch.next(Source::Tun) else { return };
            match tun.read(slot.room()) {
                Ok(Read::Packet(len)) => {
                    slot.set_len(len);
                    counters.tun_in += 1;
                    passing -= 1;
                    if tun.leaves_rest() {
                        break;
                    }
                }
                Ok(Read::Later) => {
                    batch.give_back();
                    passing = passing.min(free / 2);
                }
                Ok(Read::Full) => {
                    batch.give_back();
                    break;
                }
                Err(error) => {
                    batch.give_back();
                    if !is_passing(&error) {
                        return self.lose_tun();
                    }
                    break;
                }
            }
        }
        while let Some(slot) = batch.next(Source::Tun) {
            let Some(len) = tun.next(slot.room()) else {
                batch.give_back();
                break;
            };
            slot.set_len(len);
            counters.tun_in += 1;
        }
        tun.note(usize::try_from(counters.tun_in - before).unwrap_or(usize::MAX));
    }

    /// Writes what was committed and still waits.
    pub fn flush(&mut self) {
        let Self { kernel, counters, .. } = self;
        if let Some(tun) = &mut kernel.device.tun {
            tun.flush(|written| counters.note(&written));
        }
    }

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

    fn write_group(&mut self) {
        match self.injector.deliver(self.room.packet_mut(), &self.cards) {
            Ok(true) => self.counters.group_out += 1,
            Ok(false) => {
                self.counters.group_to_tun += 1;
                self.write_tun();
            }
            Err(error) => self.counters.note(&Err(error)),
        }
    }

    fn write_tun(&mut self) {
        let Self { kernel, counters, room, .. } = self;
        match (&mut kernel.device.tun, room.prepend(HEAD).is_some()) {
            (Some(tun), true) => {
                counters.tun_out += 1;
                tun.write(room.packet_mut(), |written| counters.note(&written));
            }
            (None, _) | (_, false) => counters.note(&Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Somebody deleted the device: stop looking at it, or the loop would spin. `set_cards` makes it again.
    fn lose_tun(&mut self) {
        tracing::warn!(adapter = self.options.adapter, "the adapter is gone: somebody deleted it");
        self.kernel.device = Device::default();
    }

    fn heal(&mut self) {
        match &self.kernel.device.tun {
            Some(tun) if tun.is_there() => return,
            Some(_) => self.lose_tun(),
            None => {}
        }
        match self.kernel.make(&self.options.adapter, self.owner, &self.config) {
            Ok(()) => {
                tracing::warn!(adapter = self.options.adapter, "the adapter was made again");
                self.kernel.take(&self.wanted.groups);
            }
            Err(error) => tracing::warn!(%error, "the adapter could not be made again"),
        }
    }
}

impl Kernel {
    fn make(&mut self, name: &str, owner: Process, config: &LanConfig) -> Result<(), LanError> {
        let tun = Tun::make(name, owner, config, &mut self.netlink, self.offload)?;
        self.device.steer.adapt_anew(&mut self.netlink, tun.index());
        self.device.tun = Some(tun);
        Ok(())
    }

    fn take(&mut self, groups: &[IpAddr]) {
        if let Some(tun) = &self.device.tun {
            let possible = |g: &&IpAddr| g.is_ipv4() || tun.has_v6();
            let groups: Vec<IpAddr> = groups.iter().filter(possible).copied().collect();
            self.device.groups.become_exactly(&groups, tun.index());
        }
    }
}

impl Drop for LanPort {
    fn drop(&mut self) {
        // The device first: its end must not outlive the journal's entry.
        self.kernel.device = Device::default();
        self.journal.end();
    }
}

impl LanSink for LanPort {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let fits = self.room.room().get_mut(..len);
        if fits.is_none() {
            self.counters.too_long += 1;
        }
        fits
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        self.room.set_len(len);
        match how {
            Delivery::Tun => self.write_tun(),
            Delivery::Group => self.write_group(),
        }
    }
}

/// Errors after which the next read may succeed.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
