//! The slow tasks around a node: keeping what it remembers and watching the cards.

use crate::host::cards::{self, CardWatch};
use crate::host::control::beacon::Beacon;
use crate::host::drive::ToKeep;
use crate::host::store::{KeptSecret, Parties, Store};
use crate::model::addr::Card;
use crate::model::id::PartyId;
use crate::model::key::{PartyKeys, PartySecret};
use crate::model::status::{Event, Trouble};
use crate::{engine::effect::HostFact, engine::effect::Memory};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// Between two writes: a party that gathers brings a record a second, and each write waits for the disk.
const WRITE_PACE: Duration = Duration::from_millis(250);
/// Writes what the node wants kept, newest first, until the node is gone and everything is written.
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) parties: Parties,
    pub(super) party: PartyId,
    pub(super) owned: bool,
    pub(super) events: mpsc::Sender<Event>,
}

impl Keeper {
    pub(super) async fn run(mut self, mut keep: watch::Receiver<ToKeep>) {
        let (mut memory, mut epoch) = (None::<Arc<Memory>>, None::<u32>);
        let mut failed = false;
        // An error says that the node is gone, but not before its last word was seen.
        while keep.changed().await.is_ok() {
            let ToKeep { memory: new_memory, rekeyed } = keep.borrow_and_update().clone();
            let new_memory =
                new_memory.filter(|new| memory.as_ref().is_none_or(|old| !Arc::ptr_eq(old, new)));
            let rekeyed = rekeyed.filter(|(new, _)| epoch != Some(*new));
            memory = new_memory.clone().or(memory);
            epoch = rekeyed.as_ref().map(|(new, _)| *new).or(epoch);
            let work = move || {
                let kept = self.keep(new_memory.as_deref(), rekeyed);
                (self, kept)
            };
            let Ok((this, kept)) = tokio::task::spawn_blocking(work).await else { return };
            self = this;
            match kept {
                Ok(()) => failed = false,
                Err(trouble) if !std::mem::replace(&mut failed, true) => {
                    let _ = self.events.try_send(Event::Warning(trouble));
                }
                Err(_) => {}
            }
            for warning in self.store.take_warnings() {
                let _ = self.events.try_send(Event::Warning(warning));
            }
            tokio::time::sleep(WRITE_PACE).await;
        }
    }

    fn keep(&mut self, memory: Option<&Memory>, rekeyed: Option<(u32, PartySecret)>) -> Result<(), Trouble> {
        // The secret first: without it the peers that are remembered cannot be read.
        if let Some((epoch, secret)) = rekeyed {
            let id = self.party.to_string();
            let kept = if self.owned { self.parties.own.as_mut() } else { self.parties.joined.get_mut(&id) };
            if let Some(kept) = kept {
                (kept.epoch, kept.secret) = (epoch, KeptSecret(secret));
            }
            self.store.keep_parties(&self.parties)?;
        }
        memory.map_or(Ok(()), |memory| self.store.keep_memory(self.party, memory))
    }
}

/// Keeps the beacon on the right cards and with the party's present secret until the node is gone.
pub(super) async fn shine(
    mut beacon: Beacon,
    party: PartyId,
    mut cards: watch::Receiver<Vec<Card>>,
    mut keep: watch::Receiver<ToKeep>,
) {
    let mut epoch = None;
    loop {
        tokio::select! {
            Ok(()) = cards.changed() => beacon.follow(&cards.borrow_and_update()),
            kept = keep.changed() => {
                let rekeyed = keep.borrow_and_update().rekeyed.clone();
                if let Some((new, secret)) = rekeyed.filter(|(new, _)| epoch != Some(*new)) {
                    epoch = Some(new);
                    beacon.rekeyed(PartyKeys::new(party, new, &secret));
                }
                if kept.is_err() {
                    break;
                }
            }
        }
    }
    // Its goodbye waits for the beacon's own thread.
    let _ = tokio::task::spawn_blocking(move || drop(beacon)).await;
}

/// Tells the node about its cards whenever something about them changes, and wakes `moved` when the way to the internet
/// is another one. The same addresses behind another router are as good as a sleep: nothing that was proven holds.
pub(super) async fn watch_cards(
    adapter: String,
    facts: mpsc::Sender<HostFact>,
    events: mpsc::Sender<Event>,
    (moved, seen): (Arc<Notify>, watch::Sender<Vec<Card>>),
) {
    let mut watch = match CardWatch::new() {
        Ok(watch) => watch,
        Err(e) => {
            let what = format!("changes of this computer's network cards are not noticed: {e}");
            let hint = "start lanrage again after a cable or a Wi-Fi network changed";
            let _ = events.try_send(Event::Warning(Trouble::new("cards_unwatched", what, hint)));
            return;
        }
    };
    let (mut last, mut last_ways) = (None::<Vec<Card>>, cards::ways());
    loop {
        watch.changed().await;
        let adapter = adapter.clone();
        let look = move || (cards::list(&adapter), cards::ways());
        let Ok((cards, ways)) = tokio::task::spawn_blocking(look).await else { return };
        let before = std::mem::replace(&mut last_ways, ways);
        if before != ways {
            moved.notify_one();
        }
        let same = last.replace(cards.clone()).is_some_and(|last| last == cards);
        seen.send_if_modified(|seen| std::mem::replace(seen, cards.clone()) != cards);
        // Even when they are the same: somebody may have deleted the adapter or a route of ours.
        if facts.send(HostFact::Cards(cards)).await.is_err() {
            return;
        }
        if same && before.lead_elsewhere(&ways) && facts.send(HostFact::Woke).await.is_err() {
            return;
        }
    }
}
