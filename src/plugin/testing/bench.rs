//! A plugin on the bench: the real virtual machine, a clock that stands still until somebody moves it, and a small party.
//!
//! Everything that is asked goes through `ask`, which counts, measures and remembers, so that `--trace`, the figures at
//! the end and the proof that a plugin is deterministic are one list.

use super::shown;
use crate::model::dice::Seed;
use crate::model::id::{PeerId, ProfileId};
use crate::model::script::{
    Ask, CallId, Hook, PluginFacts, PluginIx, ScriptAnswer, ScriptCall, ScriptFault, ScriptPacket,
    ScriptPeer, ScriptSend, Verdict,
};
use crate::plugin::code::Code;
use crate::plugin::vm::Vm;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Reads a clock that nothing depends on: how long a call took is told, never decided by.
pub type Stopwatch = fn() -> Duration;

/// This node's virtual address on the bench.
pub const ME: Ipv4Addr = Ipv4Addr::new(10, 83, 7, 1);
/// The first to join; the `rewritten` lines of samples are written for this sender.
pub const FIRST: u8 = 9;
/// The most that a test may let join: the party's own limit.
const PEERS: usize = 32;

/// What was asked of a hook, and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// Calls.
    pub calls: u64,
    /// Calls without an answer.
    pub faults: u64,
    /// Ticks of all calls.
    pub ticks: u64,
    /// Ticks of the worst call.
    pub worst: u32,
    /// What the worst call was about.
    pub worst_what: String,
    /// Wall time of all calls, with the copies into and out of the sandbox.
    pub took: Duration,
    /// The largest that the plugin's state was after a call, in bytes.
    pub memory: usize,
}

impl Cost {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.faults += other.faults;
        self.ticks += other.ticks;
        self.took += other.took;
        self.memory = self.memory.max(other.memory);
        if other.worst > self.worst {
            (self.worst, self.worst_what) = (other.worst, other.worst_what.clone());
        }
    }
}

/// A question and its answer, for comparing two runs.
pub type Exchange = (Ask, Result<ScriptAnswer, ScriptFault>);

/// A plugin with everything that it needs.
#[derive(Debug)]
pub struct Bench {
    code: Arc<Code>,
    watch: Stopwatch,
    vm: Vm,
    facts: PluginFacts,
    now: Duration,
    calls: u64,
    peers: BTreeMap<String, ScriptPeer>,
    /// Sent since somebody looked.
    pub sends: Vec<ScriptSend>,
    /// Logged since somebody looked.
    pub log: Vec<String>,
    /// Everything so far.
    pub exchanges: Vec<Exchange>,
    /// Per hook.
    pub costs: BTreeMap<Hook, Cost>,
    /// One entry a call, when asked for.
    pub trace: Option<Vec<String>>,
    /// Whether some packet was changed.
    pub rewrites: bool,
    asleep: bool,
}

impl Bench {
    /// Loads the plugin. The clock begins at 1,000 s: a plugin that takes 0 for "never" is not told lies.
    ///
    /// # Errors
    /// Why it does not load.
    pub fn new(code: &Arc<Code>, watch: Stopwatch, trace: bool) -> Result<Self, ScriptFault> {
        let vm = load(code)?;
        Ok(Self {
            code: Arc::clone(code),
            watch,
            facts: vm.facts(),
            vm,
            now: Duration::from_secs(1_000),
            calls: 0,
            peers: BTreeMap::new(),
            sends: Vec::new(),
            log: Vec::new(),
            exchanges: Vec::new(),
            costs: BTreeMap::new(),
            trace: trace.then(Vec::new),
            rewrites: false,
            asleep: false,
        })
    }

    /// What the plugin is and has.
    #[must_use]
    pub const fn facts(&self) -> &PluginFacts {
        &self.facts
    }

    /// The profile that asks, when a test does not say which.
    #[must_use]
    pub fn game(&self) -> ProfileId {
        self.code.manifest.games.first().cloned().unwrap_or_else(|| ProfileId(self.facts.id.0.clone()))
    }

    /// The bench's clock.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// Who is in the party, by name.
    #[must_use]
    pub fn peer(&self, name: &str) -> Option<&ScriptPeer> {
        self.peers.get(name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.peers.keys().map(String::as_str)
    }

    /// A peer's name; its id when it is a stranger.
    #[must_use]
    pub fn name_of(&self, id: PeerId) -> String {
        let known = self.peers.values().find(|peer| peer.id == id);
        known.map_or_else(|| id.to_string(), |peer| peer.name.clone())
    }

    /// Somebody joins; whoever joins first has the address that samples are written for. `None` when the party is full.
    pub fn join(&mut self, name: &str) -> Option<Result<ScriptAnswer, ScriptFault>> {
        if self.peers.len() >= PEERS || self.peers.contains_key(name) {
            return None;
        }
        let taken: Vec<Ipv4Addr> = self.peers.values().map(|peer| peer.address).collect();
        let seat = (FIRST..u8::MAX).find(|seat| !taken.contains(&address(*seat)))?;
        let id = PeerId(Seed::from_u64(seat.into()).dice("peer on the bench").bytes());
        let peer = ScriptPeer { id, name: name.to_owned(), address: address(seat) };
        self.peers.insert(name.to_owned(), peer.clone());
        Some(self.ask(Ask::PeerJoined(peer), name))
    }

    /// Somebody leaves; `None` when nobody of this name is there.
    pub fn leave(&mut self, name: &str) -> Option<Result<ScriptAnswer, ScriptFault>> {
        let peer = self.peers.remove(name)?;
        Some(self.ask(Ask::PeerLeft(peer.id), name))
    }

    /// Time passes; the plugin's tick comes once a second.
    ///
    /// # Errors
    /// The first fault.
    pub fn pass(&mut self, time: Duration) -> Result<(), ScriptFault> {
        let end = self.now.saturating_add(time);
        while let Some(next) = Some(Duration::from_secs(self.now.as_secs() + 1)).filter(|next| *next <= end) {
            self.now = next;
            self.ask(Ask::Tick, "tick")?;
        }
        self.now = end;
        Ok(())
    }

    /// Time passes of which the plugin hears nothing.
    pub fn skip(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
    }

    /// A packet for a hook.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn packet(
        &mut self,
        hook: Hook,
        packet: ScriptPacket,
        what: &str,
    ) -> Result<ScriptAnswer, ScriptFault> {
        self.ask(Ask::Packet(hook, Box::new(packet)), what)
    }

    /// Asks the plugin and keeps book.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn ask(&mut self, ask: Ask, what: &str) -> Result<ScriptAnswer, ScriptFault> {
        let hook = hook_of(&ask);
        if self.asleep {
            return Err(ScriptFault::Asleep);
        }
        self.calls += 1;
        let call = ScriptCall { id: CallId(self.calls), plugin: PluginIx(0), at: self.now, ask };
        let before = (self.watch)();
        let answer = self.vm.ask(&call);
        let took = (self.watch)().saturating_sub(before);
        // A hook that is not there is not asked; only the list of the party is kept.
        if self.facts.hooks.has(hook) {
            self.count(hook, what, took, answer.is_err());
        }
        match &answer {
            Ok(answer) => {
                self.rewrites |= matches!(answer.verdict, Verdict::Replace(_));
                self.sends.extend(answer.sends.iter().cloned());
                self.log.extend(answer.log.iter().cloned());
            }
            Err(_) => self.log.extend(self.vm.take_log()),
        }
        self.asleep = matches!(answer, Err(ScriptFault::PutToSleep(_)));
        if self.facts.hooks.has(hook) {
            let told = self.told(&call.ask, &answer);
            if let Some(trace) = &mut self.trace {
                trace.push(told);
            }
        }
        self.exchanges.push((call.ask, answer.clone()));
        answer
    }

    /// After a fault that the next packet is not to suffer from: the plugin is loaded again and hears who is there.
    ///
    /// # Errors
    /// Why it does not load.
    pub fn reload(&mut self) -> Result<(), ScriptFault> {
        self.vm = load(&self.code)?;
        self.asleep = false;
        let peers: Vec<ScriptPeer> = self.peers.values().cloned().collect();
        for peer in peers {
            let _ = self.ask(Ask::PeerJoined(peer), "again");
        }
        Ok(())
    }

    /// Nothing is remembered from here on back: for runs of millions of calls.
    pub fn forget(&mut self) {
        self.exchanges.clear();
        self.sends.clear();
        self.log.clear();
    }

    fn count(&mut self, hook: Hook, what: &str, took: Duration, fault: bool) {
        let one = Cost {
            calls: 1,
            faults: u64::from(fault),
            ticks: self.vm.ticks().into(),
            worst: self.vm.ticks(),
            worst_what: what.to_owned(),
            took,
            memory: self.vm.memory(),
        };
        self.costs.entry(hook).or_default().add(&one);
    }

    /// A call as `--trace` shows it.
    fn told(&self, ask: &Ask, answer: &Result<ScriptAnswer, ScriptFault>) -> String {
        if self.trace.is_none() {
            return String::new();
        }
        let mut out = hook_of(ask).name().to_owned();
        if let Ask::Packet(_, packet) = ask {
            let who = packet.peer.map_or_else(|| "the own game".to_owned(), |id| self.name_of(id));
            let (bytes, from, to) = (packet.payload.len(), packet.from, packet.to);
            let _ = write!(out, ", {bytes} bytes of {who}, {from} to {to}");
        }
        let memory = self.vm.memory().div_ceil(1024);
        let _ = write!(out, ": {} ({} ticks, {memory} KiB)", self.verdict(answer), self.vm.ticks());
        if let Ask::Packet(_, packet) = ask {
            let changed = match answer {
                Ok(ScriptAnswer { verdict: Verdict::Replace(bytes), .. }) if *bytes != packet.payload => {
                    shown::difference("before", &packet.payload, "after", bytes)
                }
                Ok(_) | Err(_) => shown::dump(&packet.payload),
            };
            let _ = write!(out, "\n{}", shown::indented(&changed, 2));
        }
        let lines = answer.as_ref().map_or(&self.log, |answer| &answer.log);
        for line in lines {
            let _ = write!(out, "\n  log: {line}");
        }
        out.trim_end().to_owned()
    }

    fn verdict(&self, answer: &Result<ScriptAnswer, ScriptFault>) -> String {
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => return fault_text(fault),
        };
        let mut out = match &answer.verdict {
            Verdict::Forward => "forward".to_owned(),
            Verdict::Drop => "drop".to_owned(),
            Verdict::Replace(bytes) => format!("replace, {} bytes", bytes.len()),
        };
        if let Some(to) = &answer.to {
            let names: Vec<String> = to.iter().map(|id| self.name_of(*id)).collect();
            let _ = write!(out, ", to {}", names.join(" and "));
        }
        if let Some(teach) = &answer.teach {
            let same = if teach.same_bytes { "the same bytes" } else { "its source" };
            let _ = write!(out, ", the same for {same} for {} s", teach.life.as_secs_f64());
        }
        for open in &answer.open {
            let transport = if open.tcp { "TCP" } else { "UDP" };
            let _ = write!(out, ", opens {transport} {} for {} s", open.port, open.life.as_secs_f64());
        }
        for send in &answer.sends {
            let _ = write!(out, ", sends {} bytes to port {}", send.payload.len(), send.to_port);
        }
        if let Some(game) = &answer.describes {
            let _ = write!(out, ", says {game:?}");
        }
        if let Some(said) = &answer.check {
            let _ = write!(out, ", says: {said}");
        }
        out
    }
}

fn load(code: &Code) -> Result<Vm, ScriptFault> {
    Vm::load(code, Seed::from_u64(1), Arc::new(AtomicBool::new(false)))
}

fn address(seat: u8) -> Ipv4Addr {
    let [a, b, c, _] = ME.octets();
    Ipv4Addr::new(a, b, c, seat)
}

/// The hook that a question goes to.
#[must_use]
pub const fn hook_of(ask: &Ask) -> Hook {
    match ask {
        Ask::Packet(hook, _) => *hook,
        Ask::PeerJoined(_) => Hook::PeerJoined,
        Ask::PeerLeft(_) => Hook::PeerLeft,
        Ask::Tick => Hook::Tick,
        Ask::Check => Hook::Check,
    }
}

/// A fault in words.
#[must_use]
pub fn fault_text(fault: &ScriptFault) -> String {
    match fault {
        ScriptFault::Busy => "too many questions waited".into(),
        ScriptFault::Late => "it took too long".into(),
        ScriptFault::Asleep => "the plugin sleeps since an earlier fault".into(),
        ScriptFault::Failed(text) => text.clone(),
        ScriptFault::PutToSleep(text) => format!("{text}; the plugin sleeps from here on"),
    }
}

/// A packet as the engine shows it: from a peer (with the peer's virtual address as its source), or from the own game.
#[must_use]
pub fn shown_packet(
    game: &ProfileId,
    peer: Option<&ScriptPeer>,
    from_port: u16,
    to: SocketAddr,
    payload: Vec<u8>,
) -> ScriptPacket {
    let v4 = peer.map_or(ME, |peer| peer.address);
    let from = if to.is_ipv4() { IpAddr::V4(v4) } else { IpAddr::V6(v6(v4)) };
    ScriptPacket {
        game: game.clone(),
        peer: peer.map(|peer| peer.id),
        from: SocketAddr::new(from, from_port),
        to,
        me: ME,
        payload,
    }
}

/// The virtual IPv6 address that goes with a virtual IPv4 address of the bench.
#[must_use]
pub fn v6(v4: Ipv4Addr) -> Ipv6Addr {
    let [.., seat] = v4.octets();
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, seat.into())
}
