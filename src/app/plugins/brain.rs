//! A plugin's virtual machine as its thread asks it, and what is remembered of it there: answers to `check` for whoever asked, and
//! with `run --dev` the last packets, to ask a newer version of the plugin about them.

use crate::host::scripts::Brain;
use crate::model::dice::Seed;
use crate::model::id::PeerId;
use crate::model::script::{
    Ask, CallId, Hook, ScriptAnswer, ScriptCall, ScriptFault, ScriptPacket, ScriptPeer, Verdict,
};
use crate::plugin::code::Code;
use crate::plugin::vm::Vm;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Packets that are remembered.
pub(super) const PACKETS: usize = 64;
/// Calls that the node did not make: it never counts this far.
pub(super) const OWN_CALLS: u64 = 1 << 63;

/// What a plugin said to `check`, or why it said nothing.
pub(super) type Checked = (CallId, Result<Option<String>, ScriptFault>);

/// What was asked lately, and who is in the party.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    packets: VecDeque<(ScriptCall, Outcome)>,
    peers: BTreeMap<PeerId, ScriptPeer>,
}

/// What became of a packet, for comparing and for people.
type Outcome = Result<ScriptAnswer, ScriptFault>;

/// Shared between a plugin's thread and whoever loads its next version.
pub(super) type SharedPast = Arc<Mutex<Past>>;

/// See the module's description.
pub(super) struct Watched {
    vm: Vm,
    checks: mpsc::Sender<Checked>,
    /// Only with `run --dev`.
    past: Option<SharedPast>,
}

impl Watched {
    pub(super) const fn new(vm: Vm, checks: mpsc::Sender<Checked>, past: Option<SharedPast>) -> Self {
        Self { vm, checks, past }
    }
}

impl Brain for Watched {
    fn ask(&mut self, call: &ScriptCall) -> Result<ScriptAnswer, ScriptFault> {
        let answer = self.vm.ask(call);
        if matches!(call.ask, Ask::Check) && call.id.0 >= OWN_CALLS {
            let said = answer.as_ref().map(|answer| answer.check.clone()).map_err(Clone::clone);
            let _ = self.checks.send((call.id, said));
        }
        if let Some(past) = &self.past {
            past.lock().unwrap_or_else(PoisonError::into_inner).note(call, &answer);
        }
        answer
    }

    fn memory(&self) -> usize {
        self.vm.memory()
    }

    fn take_log(&mut self) -> Vec<String> {
        self.vm.take_log()
    }
}

impl Past {
    fn note(&mut self, call: &ScriptCall, answer: &Outcome) {
        match &call.ask {
            Ask::Packet(..) => {
                if self.packets.len() >= PACKETS {
                    self.packets.pop_front();
                }
                self.packets.push_back((call.clone(), answer.clone()));
            }
            Ask::PeerJoined(peer) => drop(self.peers.insert(peer.id, peer.clone())),
            Ask::PeerLeft(peer) => drop(self.peers.remove(peer)),
            Ask::Tick | Ask::Check => {}
        }
    }

    /// How many packets are remembered.
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Asks a machine of its own, which is thrown away, about the last packets: a line for each, before and after; and the same
    /// past with the new answers.
    ///
    /// # Errors
    /// When the new code does not load, or one of them puts it to sleep.
    pub(super) fn replay(
        &self,
        code: &Code,
        seed: Seed,
        stop: Arc<AtomicBool>,
    ) -> Result<(Vec<String>, Self), ScriptFault> {
        let mut vm = Vm::load(code, seed, stop)?;
        let mut now = Self { packets: VecDeque::new(), peers: self.peers.clone() };
        let at = self.packets.front().map_or(Duration::ZERO, |(call, _)| call.at);
        for (n, peer) in (0..).zip(self.peers.values()) {
            let ask = Ask::PeerJoined(peer.clone());
            let Some((first, _)) = self.packets.front() else { break };
            let joined = vm.ask(&ScriptCall { id: CallId(OWN_CALLS + n), plugin: first.plugin, at, ask });
            if let Err(fault @ ScriptFault::PutToSleep(_)) = joined {
                return Err(fault);
            }
        }
        let mut lines = Vec::new();
        for (call, before) in &self.packets {
            let Ask::Packet(hook, packet) = &call.ask else { continue };
            let after = vm.ask(call);
            if let Err(fault @ ScriptFault::PutToSleep(_)) = after {
                return Err(fault);
            }
            lines.push(line(*hook, packet, before, &after));
            now.note(call, &after);
        }
        Ok((lines, now))
    }
}

fn line(hook: Hook, packet: &ScriptPacket, before: &Outcome, after: &Outcome) -> String {
    let (from, to, bytes) = (packet.from, packet.to, packet.payload.len());
    let head = format!("{} {from} → {to}, {bytes} bytes: ", hook.name());
    let (was, is) = (told(packet, before), told(packet, after));
    if before == after { format!("{head}{is}, as before") } else { format!("{head}{was} → {is}") }
}

/// What a plugin made of a packet, in a few words.
fn told(packet: &ScriptPacket, outcome: &Outcome) -> String {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(ScriptFault::Failed(why) | ScriptFault::PutToSleep(why)) => return format!("failed ({why})"),
        Err(ScriptFault::Busy) => return "was busy".to_owned(),
        Err(ScriptFault::Late) => return "too late".to_owned(),
        Err(ScriptFault::Asleep) => return "asleep".to_owned(),
    };
    let mut out = match &answer.verdict {
        Verdict::Forward => "forward".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Replace(new) => changed(&packet.payload, new),
    };
    if let Some(game) = &answer.describes {
        out = format!("«{}»", game.title);
    }
    if let Some(to) = &answer.to {
        out += &format!(" to {} of the party", to.len());
    }
    if let Some(teach) = &answer.teach {
        out += &format!(", taught for {} s", teach.life.as_secs_f64());
    }
    if !answer.open.is_empty() {
        out += &format!(", opens {}", answer.open.len());
    }
    if !answer.sends.is_empty() {
        out += &format!(", sends {}", answer.sends.len());
    }
    out
}

/// Where two payloads part, with a few bytes of the new one.
fn changed(old: &[u8], new: &[u8]) -> String {
    let Some(at) = (0..old.len().max(new.len())).find(|at| old.get(*at) != new.get(*at)) else {
        return "forward (the same bytes)".to_owned();
    };
    let some: Vec<String> = new.iter().skip(at).take(8).map(|b| format!("{b:02x}")).collect();
    format!("change to {} bytes, from byte {at} on: {}", new.len(), some.join(" "))
}
