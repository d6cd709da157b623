//! One plugin's virtual machine: loaded once, asked many times, dropped at the first sign that it cannot be trusted.
//!
//! In: `Code` and a seed, then one `ScriptCall` after the other. Out: one `ScriptAnswer` or `ScriptFault` each. What a
//! plugin answers depends on its code, the seed and the calls so far, and on nothing else.
//!
//! A state that was stopped, ran out of memory or made three errors within ten seconds of call time says `PutToSleep`,
//! and only `Asleep` from then on: the host drops it.

use super::api::answer::{Extras, Said, check, length};
use super::api::info::Infos;
use super::api::{self, Desk, Slate};
use super::budget::{Budget, Ended, TICKS};
use super::code::{Code, module_name};
use super::fault::Fault;
use crate::model::dice::Seed;
use crate::model::script::{
    Ask, Hook, Hooks, PluginFacts, ScriptAnswer, ScriptCall, ScriptFault, ScriptPacket, ScriptPeer, Verdict,
};
use crate::rules::nearest::nearest;
use mlua::chunk::{ChunkMode, Compiler};
use mlua::{Buffer, Function, Lua, LuaOptions, StdLib, Table, Value};
use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Bytes of the buffer that packets are shown in: a slot of the engine, which no packet of the tunnel outgrows.
pub const PACKET_BYTES: usize = 2_048;
/// So many errors within `ERRORS_WITHIN` put a plugin to sleep.
const ERRORS: usize = 3;
/// Counted in the calls' own time.
const ERRORS_WITHIN: Duration = Duration::from_secs(10);
/// Hooks that there are.
const HOOKS: usize = Hook::ALL.len();

/// A loaded plugin.
pub struct Vm {
    facts: PluginFacts,
    hooks: [Option<Entry>; HOOKS],
    lua: Lua,
    budget: Arc<Budget>,
    buffer: Buffer,
    /// Reads the same buffer: made once, because a handle more costs as much as a packet.
    reader: Box<dyn Reader>,
    infos: Infos,
    slate: Arc<Slate>,
    /// The buffer may hold bytes of earlier packets up to here.
    used: usize,
    ticks: u32,
    /// Memory that calls for a collection.
    high_water: usize,
    /// When the last errors were.
    errors: Vec<Duration>,
    asleep: bool,
}

/// A reader of a buffer.
trait Reader: Read + Seek + Send {}
impl<T: Read + Seek + Send> Reader for T {}

/// A hook and where it begins.
struct Entry {
    function: Function,
    place: String,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("facts", &self.facts).field("asleep", &self.asleep).finish_non_exhaustive()
    }
}

impl Vm {
    /// Compiles a plugin and runs its first file. The host raises `stop` when this, or a later call, takes too long, and
    /// clears it only for a new `Vm`.
    ///
    /// # Errors
    /// Why there is no plugin: it does not compile, does not return its table, or had to be stopped.
    pub fn load(code: &Code, seed: Seed, stop: Arc<AtomicBool>) -> Result<Self, ScriptFault> {
        let id = &code.manifest.id;
        let main = code.check().map_err(|e| ScriptFault::Failed(format!("plugin `{id}`: {e}")))?;
        let guarded = catch_unwind(AssertUnwindSafe(|| load(code, main, &seed, stop)));
        match guarded {
            Ok(Ok(vm)) => Ok(vm),
            Ok(Err(fault)) if fault.fatal => Err(ScriptFault::PutToSleep(fault.text)),
            Ok(Err(fault)) => Err(ScriptFault::Failed(fault.text)),
            Err(_) => Err(ScriptFault::PutToSleep(format!("plugin `{id}`: the runtime failed inside"))),
        }
    }

    /// What the engine needs to know of it.
    #[must_use]
    pub fn facts(&self) -> PluginFacts {
        self.facts.clone()
    }

    /// Bytes that its state holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// Ticks of the last call.
    #[must_use]
    pub const fn ticks(&self) -> u32 {
        self.ticks
    }

    /// What the last call logged, when it gave no answer to carry it.
    pub fn take_log(&mut self) -> Vec<String> {
        Desk::write(&self.lua, |desk| std::mem::take(&mut desk.log))
    }

    /// Asks. A hook that the plugin does not have changes nothing.
    ///
    /// # Errors
    /// Why there is no answer. After `PutToSleep` there will be none.
    pub fn ask(&mut self, call: &ScriptCall) -> Result<ScriptAnswer, ScriptFault> {
        if self.asleep {
            return Err(ScriptFault::Asleep);
        }
        let me = match &call.ask {
            Ask::Packet(_, packet) => Some(packet.me),
            Ask::PeerJoined(_) | Ask::PeerLeft(_) | Ask::Tick | Ask::Check => None,
        };
        self.slate.begin(call.at, me);
        if self.slate.touched.swap(false, Relaxed) {
            Desk::write(&self.lua, Desk::clear);
        }
        self.budget.start(TICKS);
        // Filled where it lies: an answer is large, and most of it stays empty.
        let mut answer = ScriptAnswer::default();
        let ran = catch_unwind(AssertUnwindSafe(|| self.run(call, &mut answer)));
        self.ticks = TICKS - self.budget.left();
        let id = &self.facts.id;
        let fault = match (ran, self.budget.ended()) {
            (Err(_), _) => Fault { text: format!("plugin `{id}`: the runtime failed inside"), fatal: true },
            (Ok(_), Some(ended)) => self.ended(call, ended),
            (Ok(Err(fault)), None) => fault,
            (Ok(Ok(())), None) => match self.too_fat() {
                Some(fault) => fault,
                None => {
                    if self.slate.touched.load(Relaxed) {
                        Desk::write(&self.lua, |desk| {
                            answer.log = std::mem::take(&mut desk.log);
                            answer.sends = std::mem::take(&mut desk.sends);
                        });
                    }
                    return Ok(answer);
                }
            },
        };
        Err(self.note(fault, call.at))
    }

    fn run(&mut self, call: &ScriptCall, answer: &mut ScriptAnswer) -> Result<(), Fault> {
        match &call.ask {
            Ask::Packet(hook, packet) => self.packet(*hook, packet, answer),
            Ask::PeerJoined(peer) => {
                Desk::write(&self.lua, |desk| desk.peers.insert(peer.id, peer.clone()));
                self.about_peer(Hook::PeerJoined, peer)
            }
            Ask::PeerLeft(peer) => {
                let known = Desk::write(&self.lua, |desk| desk.peers.remove(peer));
                known.map_or(Ok(()), |peer| self.about_peer(Hook::PeerLeft, &peer))
            }
            Ask::Tick => self.plain(Hook::Tick).map(drop),
            Ask::Check => {
                let said = self.plain(Hook::Check)?;
                answer.check = check(&said).map_err(|problem| self.wrong(Hook::Check, &problem))?;
                Ok(())
            }
        }
    }

    fn packet(&mut self, hook: Hook, packet: &ScriptPacket, answer: &mut ScriptAnswer) -> Result<(), Fault> {
        if self.entry(hook).is_none() {
            return Ok(());
        }
        let n = packet.payload.len();
        // Longer packets do not exist in the tunnel; should one come, it gets a buffer of its own and is shown whole.
        let own = if n > PACKET_BYTES {
            Some(self.lua.create_buffer(&packet.payload).map_err(|e| self.error(&e))?)
        } else {
            self.show(&packet.payload);
            None
        };
        let info = match self.infos.of(&self.lua, packet) {
            Ok(info) => info,
            Err(e) => return Err(Fault::of(&self.facts.id, &e, &self.budget)),
        };
        let buffer = own.as_ref().unwrap_or(&self.buffer);
        let Some(entry) = slot(&self.hooks, hook) else { return Ok(()) };
        let called = entry.function.call::<(Said, Extras)>((buffer, n, info));
        let (first, Extras(second)) = called.map_err(|e| self.error(&e))?;
        if hook == Hook::Describe {
            let game = self.judge(|desk| desk.game(&first.into_value()));
            answer.describes = game.map_err(|problem| self.wrong(hook, &problem))?;
            return Ok(());
        }
        answer.verdict = match first {
            Said::Nothing | Said::Truth(true) => Verdict::Forward,
            Said::Truth(false) => Verdict::Drop,
            changed @ (Said::Whole(_) | Said::Other(_)) => {
                let room = n.max(PACKET_BYTES);
                let length = length(&self.facts.may, &changed.into_value(), room);
                let length = length.map_err(|problem| self.wrong(hook, &problem))?;
                Verdict::Replace(self.taken(own, length))
            }
        };
        match second {
            None => Ok(()),
            Some(second) => {
                self.judge(|desk| desk.extras(&second, answer)).map_err(|problem| self.wrong(hook, &problem))
            }
        }
    }

    /// Puts a packet into the buffer, with zeros where an earlier packet was longer.
    fn show(&mut self, payload: &[u8]) {
        const ZEROS: [u8; PACKET_BYTES] = [0; PACKET_BYTES];
        self.buffer.write_bytes(0, payload);
        let rest = ZEROS.get(payload.len()..self.used).unwrap_or_default();
        if !rest.is_empty() {
            self.buffer.write_bytes(payload.len(), rest);
        }
        self.used = payload.len();
    }

    /// The first bytes of the packet's buffer, which is its own or that of all. Reading cannot fail: `n` was held against
    /// the buffer's length.
    fn taken(&mut self, own: Option<Buffer>, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        if let Some(own) = own {
            let _ = own.cursor().read_exact(&mut bytes);
        } else {
            self.used = self.used.max(n);
            let _ = self.reader.rewind().and_then(|()| self.reader.read_exact(&mut bytes));
        }
        bytes
    }

    fn about_peer(&self, hook: Hook, peer: &ScriptPeer) -> Result<(), Fault> {
        if let Some(entry) = self.entry(hook) {
            let table = api::peer_table(&self.lua, peer).map_err(|e| self.error(&e))?;
            entry.function.call::<()>(table).map_err(|e| self.error(&e))?;
        }
        Ok(())
    }

    fn plain(&self, hook: Hook) -> Result<Value, Fault> {
        let Some(entry) = self.entry(hook) else { return Ok(Value::Nil) };
        entry.function.call(()).map_err(|e| self.error(&e))
    }

    fn entry(&self, hook: Hook) -> Option<&Entry> {
        self.hooks.get(hook as usize)?.as_ref()
    }

    fn judge<T>(&self, look: impl FnOnce(&Desk) -> Result<T, String>) -> Result<T, String> {
        let looked = Desk::read(&self.lua, |desk| Some(look(desk)));
        looked.unwrap_or_else(|| Err("could not be judged".into()))
    }

    /// The call was ended; when it came back without a tick between, its hook is all that is known of the place.
    fn ended(&self, call: &ScriptCall, ended: Ended) -> Fault {
        let hook = match &call.ask {
            Ask::Packet(hook, _) => *hook,
            Ask::PeerJoined(_) => Hook::PeerJoined,
            Ask::PeerLeft(_) => Hook::PeerLeft,
            Ask::Tick => Hook::Tick,
            Ask::Check => Hook::Check,
        };
        let place = self.entry(hook).map_or("", |entry| &entry.place);
        Fault::ended(
            &self.facts.id,
            if self.budget.place().is_empty() { place } else { self.budget.place() },
            ended,
        )
    }

    fn error(&self, error: &mlua::Error) -> Fault {
        Fault::of(&self.facts.id, error, &self.budget)
    }

    /// A hook returned something that it may not.
    fn wrong(&self, hook: Hook, problem: &str) -> Fault {
        let place = self.entry(hook).map_or("", |entry| &entry.place);
        let between = if problem.starts_with('`') { ": " } else { " " };
        Fault::said(&self.facts.id, place, &format!("{}{between}{problem}", hook.name()))
    }

    /// A script can catch the error of a full memory and live on at the limit. It is tidied up, and if that does not
    /// help, it sleeps.
    fn too_fat(&self) -> Option<Fault> {
        if self.lua.used_memory() <= self.high_water {
            return None;
        }
        let collected = self.lua.gc_collect();
        let fat = collected.is_err() || self.lua.used_memory() > self.high_water;
        let text = format!("plugin `{}`: it keeps more memory than it may", self.facts.id);
        fat.then_some(Fault { text, fatal: true })
    }

    fn note(&mut self, fault: Fault, at: Duration) -> ScriptFault {
        if fault.fatal {
            self.asleep = true;
            return ScriptFault::PutToSleep(fault.text);
        }
        self.errors.retain(|earlier| at.saturating_sub(*earlier) < ERRORS_WITHIN);
        self.errors.push(at);
        if self.errors.len() < ERRORS {
            return ScriptFault::Failed(fault.text);
        }
        self.asleep = true;
        ScriptFault::PutToSleep(format!("{} (error {ERRORS} within 10 seconds)", fault.text))
    }
}

fn load(code: &Code, main: &str, seed: &Seed, stop: Arc<AtomicBool>) -> Result<Vm, Fault> {
    let manifest = &code.manifest;
    let id = &manifest.id;
    let libs = StdLib::COROUTINE
        | StdLib::TABLE
        | StdLib::STRING
        | StdLib::UTF8
        | StdLib::BIT
        | StdLib::MATH
        | StdLib::BUFFER;
    let set_up = |_: mlua::Error| Fault::said(id, "", "the runtime could not be set up");
    let lua = Lua::new_with(libs, LuaOptions::new()).map_err(set_up)?;
    let budget = Budget::install(&lua, stop);
    let inside = |error: mlua::Error| Fault::of(id, &error, &budget);
    lua.set_app_data(Desk::new(manifest.may.clone()));
    let slate = Arc::new(Slate::default());
    let (modules, info) = api::install(&lua, &slate).map_err(inside)?;
    reseed(&lua, seed).map_err(inside)?;
    lua.sandbox(true).map_err(inside)?;
    let buffer = lua.create_buffer_with_capacity(PACKET_BYTES).map_err(inside)?;
    let allowance = usize::from(manifest.memory_mib) << 20;
    let limit = lua.used_memory() + allowance;
    lua.set_memory_limit(limit).map_err(inside)?;

    let first = compile(&lua, code, main, &modules).map_err(inside)?;
    let table = first.call::<Value>(()).map_err(inside)?;
    let Value::Table(table) = table else {
        let what =
            format!("returned {}; it ends with `return plugin`, the table of its hooks", api::told(&table));
        return Err(Fault::said(id, main, &what));
    };
    let hooks = read_hooks(&table).map_err(|problem| Fault::said(id, main, &problem))?;
    if let Some(ended) = budget.ended() {
        return Err(Fault::ended(id, budget.place(), ended));
    }
    let has = |has: Hooks, hook: Hook| if slot(&hooks, hook).is_some() { has.with(hook) } else { has };
    let facts = PluginFacts {
        id: id.clone(),
        hooks: Hook::ALL.into_iter().fold(Hooks::default(), has),
        may: manifest.may.clone(),
        calls_per_second: manifest.calls_per_second,
        bytes_per_second: manifest.bytes_per_second,
    };
    let ticks = super::budget::LOAD_TICKS - budget.left();
    let high_water = limit - allowance / 8;
    Ok(Vm {
        facts,
        hooks,
        lua,
        budget,
        reader: Box::new(buffer.clone().cursor()),
        buffer,
        infos: Infos::new(info),
        slate,
        used: 0,
        ticks,
        high_water,
        errors: Vec::new(),
        asleep: false,
    })
}

/// `math.random` starts from the node's seed, not from the clock.
fn reseed(lua: &Lua, seed: &Seed) -> mlua::Result<()> {
    let math: Table = lua.globals().raw_get("math")?;
    let start: Function = math.raw_get("randomseed")?;
    start.call(seed.dice("plugin random").u32() >> 1)
}

/// Compiles every file before any runs: what does not compile is told now, and `require` costs nothing later.
fn compile(lua: &Lua, code: &Code, main: &str, modules: &Table) -> mlua::Result<Function> {
    let mut first = None;
    for (file, text) in &code.files {
        let compiler = Compiler::new().set_optimization_level(2).set_debug_level(1);
        let chunk = lua
            .load(text.as_str())
            .set_name(format!("={file}"))
            .set_mode(ChunkMode::Text)
            .set_compiler(compiler);
        let function = chunk.into_function()?;
        if file == main {
            first = Some(function);
        } else if let Some(module) = module_name(file) {
            modules.raw_set(module, function)?;
        }
    }
    first.ok_or_else(|| mlua::Error::runtime("there is no first file"))
}

/// The hooks of the table that the first file returned.
fn read_hooks(table: &Table) -> Result<[Option<Entry>; HOOKS], String> {
    let mut hooks = [const { None }; HOOKS];
    for pair in table.pairs::<Value, Value>().take(ENTRIES) {
        let (Value::String(name), value) =
            pair.map_err(|_| "returned a table that cannot be read".to_owned())?
        else {
            continue;
        };
        let name = name.to_string_lossy();
        let Some(hook) = Hook::ALL.into_iter().find(|hook| hook.name() == name) else {
            if name.starts_with("on_") {
                let near = nearest(&name, Hook::ALL.map(Hook::name));
                let help = near.map_or_else(
                    || format!("hooks are {}", Hook::ALL.map(Hook::name).join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(format!("there is no hook `{}`; {help}", api::safe(&name, 40)));
            }
            continue;
        };
        let Value::Function(function) = value else {
            return Err(format!("`{name}` is {}; a hook is a function", api::told(&value)));
        };
        let at = function.info();
        let place = match (at.short_src, at.line_defined) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => String::new(),
        };
        if let Some(slot) = hooks.get_mut(hook as usize) {
            *slot = Some(Entry { function, place });
        }
    }
    Ok(hooks)
}

fn slot(hooks: &[Option<Entry>; HOOKS], hook: Hook) -> Option<&Entry> {
    hooks.get(hook as usize)?.as_ref()
}

/// Entries of the plugin's table that are looked at.
const ENTRIES: usize = 256;

#[cfg(test)]
mod tests;
