//! What plugins are told beside packets: who is in the party, and that a second has passed.

use super::slot::{Slot, TICK};
use super::{Out, Scripts};
use crate::engine::counters::{Count, Counters};
use crate::model::id::{PeerId, PluginId};
use crate::model::script::{Ask, PluginIx, ScriptFault, ScriptPeer};
use crate::model::status::Trouble;
use crate::model::time::{Deadline, Mono};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Errands of one plugin that are under way at once: half of its queue, so that packets still find room.
const AT_ONCE: usize = 32;
/// An errand without an answer is taken for done after this.
const PATIENCE: Duration = Duration::from_secs(2);
/// A plugin that was too busy to hear of somebody is told again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// Somebody whom plugins hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What people call them.
    pub name: String,
    /// Their virtual address.
    pub address: Ipv4Addr,
}

/// What an errand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Joined(PeerId),
    Left(PeerId, Ipv4Addr),
    Tick,
}

/// An errand that is under way.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) plugin: PluginIx,
    what: What,
    until: Mono,
}

impl Scripts {
    /// Whether members are to be told anew (then call `tell_members`).
    #[must_use]
    pub fn wants_members(&self, now: Mono) -> bool {
        self.retry.is_some_and(|at| at <= now)
    }

    /// Somebody joined, left, or has another address.
    pub fn members_changed(&mut self) {
        if !self.slots.is_empty() {
            self.retry = Some(Mono::ZERO);
        }
    }

    /// Tells every plugin who came and who left since it was told last.
    pub fn tell_members(&mut self, members: &BTreeMap<PeerId, Member>, counters: &mut Counters, now: Mono) {
        self.retry = None;
        for (at, ix) in (0..self.slots.len()).zip(0u16..) {
            let plugin = PluginIx(ix);
            let Some(slot) = self.slots.get(at).filter(|slot| slot.facts.is_some()) else { continue };
            let left = slot.members.iter().filter(|(id, _)| !members.contains_key(id));
            let left = left.map(|(id, address)| (What::Left(*id, *address), Ask::PeerLeft(*id)));
            let joined = members.iter().filter(|(id, m)| slot.members.get(id) != Some(&m.address));
            let joined = joined.map(|(id, m)| {
                let peer = ScriptPeer { id: *id, name: m.name.clone(), address: m.address };
                (What::Joined(*id), Ask::PeerJoined(peer))
            });
            let room = AT_ONCE.saturating_sub(self.errands.values().filter(|e| e.plugin == plugin).count());
            let mut all: Vec<_> = left.chain(joined).take(room + 1).collect();
            if all.len() > room {
                all.truncate(room);
                self.retry = Some(now + AGAIN);
            }
            for (what, ask) in all {
                if let (What::Joined(id), Some(member), Some(slot)) =
                    (what, member_of(what, members), self.slots.get_mut(at))
                {
                    slot.members.insert(id, member.address);
                } else if let (What::Left(id, _), Some(slot)) = (what, self.slots.get_mut(at)) {
                    slot.members.remove(&id);
                }
                self.send(plugin, what, ask, counters, now);
            }
        }
    }

    fn send(&mut self, plugin: PluginIx, what: What, ask: Ask, counters: &mut Counters, now: Mono) {
        let id = self.call(plugin, ask, counters, now);
        self.errands.insert(id, Errand { plugin, what, until: now + PATIENCE });
    }

    /// Ticks that are due, and errands that nobody answered.
    pub(super) fn run_errands(&mut self, counters: &mut Counters, now: Mono) {
        self.errands.retain(|_, errand| errand.until > now);
        self.taught.sweep(now);
        for (at, ix) in (0..self.slots.len()).zip(0u16..) {
            let plugin = PluginIx(ix);
            let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.tick().is_some_and(|at| at <= now))
            else {
                continue;
            };
            slot.tick_at = now + TICK;
            // A plugin that has not done with the last one gets no second one.
            if !self.errands.values().any(|e| e.plugin == plugin && e.what == What::Tick) {
                self.send(plugin, What::Tick, Ask::Tick, counters, now);
            }
        }
    }

    pub(super) fn errand_deadline(&self) -> Option<Deadline> {
        let tick = self.slots.iter().filter_map(Slot::tick).min().map(|at| Deadline::new(at, "plugin tick"));
        let errand = self.errands.values().map(|e| e.until).min();
        let errand = errand.map(|at| Deadline::new(at, "plugin errand"));
        let retry = self.retry.map(|at| Deadline::new(at, "plugin members"));
        Deadline::earlier(Deadline::earlier(tick, errand), retry)
    }

    /// An errand came to nothing: who was not heard of is told again later.
    pub(super) fn errand_failed(&mut self, errand: &Errand, fault: &ScriptFault, now: Mono) {
        let lost = matches!(fault, ScriptFault::Busy | ScriptFault::Late);
        let Some(slot) = self.slot_mut(errand.plugin).filter(|_| lost) else { return };
        match errand.what {
            What::Joined(id) => {
                slot.members.remove(&id);
            }
            What::Left(id, address) => {
                slot.members.insert(id, address);
            }
            What::Tick => return,
        }
        self.retry = Some(now + AGAIN);
    }

    /// A fault of a plugin, of any question: counted, told, and in the end it sleeps.
    pub(super) fn fault(
        &mut self,
        plugin: PluginIx,
        fault: &ScriptFault,
        counters: &mut Counters,
        now: Mono,
    ) {
        let failed = match fault {
            ScriptFault::Busy => return counters.add(Count::PluginBusy),
            ScriptFault::Late => return counters.add(Count::PluginLate),
            ScriptFault::Asleep => {
                return self.sleep(plugin, "it was put to sleep earlier", counters);
            }
            ScriptFault::PutToSleep(why) => {
                counters.add(Count::PluginFaults);
                return self.sleep(plugin, why, counters);
            }
            ScriptFault::Failed(text) => text,
        };
        counters.add(Count::PluginFaults);
        let Some(slot) = self.slot_mut(plugin).filter(|slot| slot.facts.is_some()) else { return };
        let id = slot.id.clone();
        if slot.tell_failure(now) {
            self.out.push_back(Out::Tell(Trouble::new(
                "plugin_failed",
                format!("the plugin `{id}` failed: {}", short(failed, &id)),
                format!("the packet went its usual way; `lanrage plugin test {id}` shows more"),
            )));
        }
    }

    /// It is asked nothing more, until it is started again.
    fn sleep(&mut self, plugin: PluginIx, why: &str, counters: &mut Counters) {
        let Some(slot) = self.slot_mut(plugin).filter(|slot| slot.facts.is_some()) else { return };
        slot.facts = None;
        slot.members.clear();
        let id = slot.id.clone();
        self.let_go(plugin, counters);
        self.out.push_back(Out::Tell(Trouble::new(
            "plugin_asleep",
            format!("the plugin `{id}` was put to sleep: {}", short(why, &id)),
            "its game goes on without it, as the profile says; starting lanrage again wakes it, an update may cure it",
        )));
    }
}

fn member_of(what: What, members: &BTreeMap<PeerId, Member>) -> Option<&Member> {
    match what {
        What::Joined(id) => members.get(&id),
        What::Left(..) | What::Tick => None,
    }
}

/// What a plugin says of itself goes to people's terminals: one line, nothing that plays tricks, not too long. Most messages
/// name the plugin, which is named already.
fn short(text: &str, id: &PluginId) -> String {
    let text = text.strip_prefix(&format!("plugin `{id}`: ")).unwrap_or(text);
    super::answer::tidy(text, 300)
}
