//! `test.luau`: a script of its own, beside the plugin and not inside it. It sees a table `test`; what it asks of the
//! plugin goes to a real virtual machine on a `Bench`.
//!
//! Each case gets a freshly loaded plugin and an empty party, and runs twice: the same questions must get the same
//! answers.

use super::bench::{Bench, Stopwatch, fault_text, shown_packet};
use super::journey::kind_hook;
use super::spec::{self, Spec};
use super::{Case, Failure, shown};
use crate::model::script::{Ask, Hook, ScriptAnswer, ScriptFault, ScriptGame, ScriptSend, Verdict};
use crate::plugin::code::Code;
use crate::rules::sample::Sample;
use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, LuaOptions, LuaString, StdLib, Table, Value, VmState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What the file is called in messages of Lua.
const FILE: &str = "test.luau";
/// Ticks of one case, beyond those of the plugin's own calls: a tenth of a second.
const TICKS: u32 = 5_000_000;
/// Memory of the test's own state.
const MEMORY: usize = 64 << 20;
/// The longest that one `test.tick` may let pass: a day.
const LONGEST: f64 = 86_400.0;

/// A plugin's `test.luau` with all that its cases may ask for.
#[derive(Debug)]
pub(super) struct Script<'s> {
    /// The file's name as people are told it.
    pub(super) shown_as: &'s str,
    /// The file.
    pub(super) text: &'s str,
    /// The plugin.
    pub(super) code: &'s Arc<Code>,
    /// What `sample = "name"` finds.
    pub(super) samples: &'s [Sample],
    /// How long calls take.
    pub(super) watch: Stopwatch,
    /// Whether calls are written down.
    pub(super) trace: bool,
}

/// What belongs to the state: the bench of the case that runs, and what its packets are made of.
struct Stage {
    bench: Option<Bench>,
    samples: Vec<Sample>,
    printed: Vec<String>,
}

impl Script<'_> {
    /// Runs all cases; hands each to `done`, with the bench that it ran on.
    pub(super) fn run(&self, done: &mut dyn FnMut(Case, Option<Bench>)) {
        let ticks = Arc::new(AtomicU32::new(TICKS));
        let loaded = self.load(&ticks);
        let (lua, cases) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let failure = self.failure(&error.to_string());
                return done(Case { what: self.shown_as.to_owned(), failures: vec![failure] }, None);
            }
        };
        for case in cases {
            let Ok(name) = case.raw_get::<LuaString>("name") else { continue };
            let Ok(body) = case.raw_get::<Function>("body") else { continue };
            let what = format!("{}: {}", self.shown_as, name.to_string_lossy());
            let (first, failure) = self.once(&lua, &body, &ticks);
            let mut failures: Vec<Failure> = failure.into_iter().collect();
            // A case that failed has said enough; one that did not must come to the same a second time.
            if failures.is_empty() {
                let (second, again) = self.once(&lua, &body, &ticks);
                failures.extend(again);
                failures.extend(self.differs(first.as_ref(), second.as_ref()));
            }
            done(Case { what, failures }, first);
        }
    }

    fn load(&self, ticks: &Arc<AtomicU32>) -> mlua::Result<(Lua, Vec<Table>)> {
        let libs = StdLib::COROUTINE
            | StdLib::TABLE
            | StdLib::STRING
            | StdLib::UTF8
            | StdLib::BIT
            | StdLib::MATH
            | StdLib::BUFFER;
        let lua = Lua::new_with(libs, LuaOptions::new())?;
        let left = Arc::clone(ticks);
        lua.set_interrupt(move |_| {
            let now = left.load(Ordering::Relaxed);
            if now == 0 {
                return Err(mlua::Error::runtime("the test takes too long; does a loop in it never end?"));
            }
            left.store(now - 1, Ordering::Relaxed);
            Ok(VmState::Continue)
        });
        lua.set_app_data(Stage { bench: None, samples: self.samples.to_vec(), printed: Vec::new() });
        let prelude = lua.load(include_str!("prelude.luau")).set_name("=test");
        let cases: Table = prelude.call(host(&lua)?)?;
        lua.sandbox(true)?;
        lua.set_memory_limit(MEMORY)?;
        lua.load(self.text).set_name(format!("={FILE}")).set_mode(ChunkMode::Text).exec()?;
        let list = cases.sequence_values::<Table>().collect::<mlua::Result<_>>()?;
        Ok((lua, list))
    }

    fn once(&self, lua: &Lua, body: &Function, ticks: &AtomicU32) -> (Option<Bench>, Option<Failure>) {
        let bench = match Bench::new(self.code, self.watch, self.trace) {
            Ok(bench) => bench,
            Err(fault) => return (None, Some(Failure::new(self.shown_as, fault_text(&fault)))),
        };
        if let Some(mut stage) = lua.app_data_mut::<Stage>() {
            stage.bench = Some(bench);
            stage.printed.clear();
        }
        ticks.store(TICKS, Ordering::Relaxed);
        let ended = body.call::<()>(());
        let (bench, printed) = lua
            .app_data_mut::<Stage>()
            .map_or((None, Vec::new()), |mut stage| (stage.bench.take(), std::mem::take(&mut stage.printed)));
        let failure = ended.err().map(|error| {
            let mut failure = self.failure(&error.to_string());
            failure.message.extend(printed.iter().map(|line| format!("\nprinted: {line}")));
            failure
        });
        (bench, failure)
    }

    fn differs(&self, first: Option<&Bench>, second: Option<&Bench>) -> Option<Failure> {
        let (first, second) = (first?, second?);
        let same = first.exchanges == second.exchanges;
        let at = first.exchanges.iter().zip(&second.exchanges).position(|(a, b)| a != b);
        let number = at.unwrap_or_else(|| first.exchanges.len().min(second.exchanges.len())) + 1;
        let message = format!(
            "run twice, the plugin gave two answers (question {number} of the case); \
             what it answers may depend on its packets, the clock and lanrage.random() only"
        );
        (!same).then(|| Failure::new(self.shown_as, message))
    }

    /// An error of Lua: `test.luau:12: what`, with what else Lua says left out.
    fn failure(&self, error: &str) -> Failure {
        let text = error.split("\nstack traceback:").next().unwrap_or_default();
        let text = text.trim_start_matches("runtime error: ").trim_start_matches("syntax error: ");
        let placed = text.strip_prefix(FILE).and_then(|rest| rest.strip_prefix(':'));
        let Some((line, message)) = placed.and_then(|rest| rest.split_once(": ")) else {
            return Failure::new(self.shown_as, text);
        };
        Failure::new(format!("{}:{line}", self.shown_as), message)
    }
}

/// The functions that the prelude is given.
fn host(lua: &Lua) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    host.raw_set(
        "packet",
        lua.create_function(|lua, (what, describe): (Table, bool)| {
            match on_stage(lua, |stage| packet(stage, &what, describe)) {
                Ok(Made::Answer(answer)) => Ok((Value::Table(answer.table(lua)?), None)),
                Ok(Made::Game(game)) => Ok((game_value(lua, game)?, None)),
                Err(problem) => Ok((Value::Nil, Some(problem))),
            }
        })?,
    )?;
    host.raw_set(
        "join",
        lua.create_function(|lua, name: LuaString| {
            Ok(match on_stage(lua, |stage| join(stage, &name.to_string_lossy())) {
                Ok(id) => (Some(id), None),
                Err(problem) => (None, Some(problem)),
            })
        })?,
    )?;
    host.raw_set(
        "leave",
        lua.create_function(|lua, name: LuaString| {
            Ok(on_stage(lua, |stage| leave(stage, &name.to_string_lossy())).err())
        })?,
    )?;
    host.raw_set(
        "tick",
        lua.create_function(|lua, seconds: f64| Ok(on_stage(lua, |stage| tick(stage, seconds)).err()))?,
    )?;
    host.raw_set(
        "check",
        lua.create_function(|lua, ()| {
            Ok(match on_stage(lua, |stage| faultless(bench(stage)?.ask(Ask::Check, "check"))) {
                Ok(answer) => (answer.check, None),
                Err(problem) => (None, Some(problem)),
            })
        })?,
    )?;
    host.raw_set(
        "sends",
        lua.create_function(|lua, ()| {
            let sends = on_stage(lua, |stage| Ok(sends(stage))).unwrap_or_default();
            let tables = sends.into_iter().map(|send| send.table(lua));
            lua.create_sequence_from(tables.collect::<mlua::Result<Vec<_>>>()?)
        })?,
    )?;
    host.raw_set(
        "log",
        lua.create_function(|lua, ()| {
            on_stage(lua, |stage| Ok(std::mem::take(&mut bench(stage)?.log)))
                .map_or_else(|_| lua.create_table(), |lines| lua.create_sequence_from(lines))
        })?,
    )?;
    host.raw_set(
        "now",
        lua.create_function(|lua, ()| Ok(on_stage(lua, |stage| Ok(bench(stage)?.now().as_secs_f64())).ok()))?,
    )?;
    host.raw_set(
        "print",
        lua.create_function(|lua, values: mlua::Variadic<Value>| {
            let words: Vec<String> = values.iter().map(|v| v.to_string().unwrap_or_default()).collect();
            let _ = on_stage(lua, |stage| {
                stage.printed.truncate(PRINTED - 1);
                stage.printed.push(words.join(" "));
                Ok(())
            });
            Ok(())
        })?,
    )?;
    host.raw_set(
        "difference",
        lua.create_function(|_, (wanted, got): (LuaString, LuaString)| {
            Ok(shown::difference("wanted", &wanted.as_bytes(), "got", &got.as_bytes()))
        })?,
    )?;
    Ok(host)
}

/// Lines that a case may print.
const PRINTED: usize = 100;

fn on_stage<T>(lua: &Lua, act: impl FnOnce(&mut Stage) -> Result<T, String>) -> Result<T, String> {
    match lua.try_app_data_mut::<Stage>() {
        Ok(Some(mut stage)) => act(&mut stage),
        Ok(None) | Err(_) => Err("the test's stage is not there".into()),
    }
}

fn bench(stage: &mut Stage) -> Result<&mut Bench, String> {
    stage.bench.as_mut().ok_or_else(|| "this belongs inside a test.case".to_owned())
}

fn faultless(answer: Result<ScriptAnswer, ScriptFault>) -> Result<ScriptAnswer, String> {
    answer.map_err(|fault| fault_text(&fault))
}

fn join(stage: &mut Stage, name: &str) -> Result<String, String> {
    let bench = bench(stage)?;
    let joined = bench.join(name);
    faultless(joined.ok_or_else(|| format!("{name} is in the party already, or the party is full"))?)?;
    bench.peer(name).map(|peer| peer.id.to_string()).ok_or_else(|| "nobody joined".to_owned())
}

fn leave(stage: &mut Stage, name: &str) -> Result<(), String> {
    let bench = bench(stage)?;
    let left = bench.leave(name);
    faultless(left.ok_or_else(|| format!("nobody called {name} is in the party"))?).map(drop)
}

fn tick(stage: &mut Stage, seconds: f64) -> Result<(), String> {
    let length = Some(seconds).filter(|s| (0.0..=LONGEST).contains(s)).map(Duration::from_secs_f64);
    let length = length.ok_or_else(|| format!("test.tick takes 0 to {LONGEST} seconds, not {seconds}"))?;
    bench(stage)?.pass(length).map_err(|fault| fault_text(&fault))
}

/// What `test.packet` or `test.describe` made.
enum Made {
    Answer(Box<Answered>),
    Game(Option<ScriptGame>),
}

fn packet(stage: &mut Stage, what: &Table, describe: bool) -> Result<Made, String> {
    let spec = Spec::read(what, &stage.samples)?;
    let bench = bench(stage)?;
    let hook = if describe { Some(Hook::Describe) } else { spec.kind.and_then(kind_hook) };
    let hook = hook.ok_or("which hook is it for? add kind = \"announcement\", \"query\" or \"answer\"")?;
    let peer = match &spec.from_peer {
        None => None,
        Some(name) => Some(bench.peer(name).cloned().ok_or_else(|| spec::nobody(name, bench))?),
    };
    if !bench.facts().hooks.has(hook) {
        return Err(format!("the plugin has no {}", hook.name()));
    }
    let udp = bench.facts().may.udp.first().map_or(spec::ANY_PORT, |range| *range.start());
    let to = spec.to.unwrap_or_else(|| spec.usual_destination(peer.is_some(), udp));
    let from_port = spec.from_port.unwrap_or(udp);
    let game = bench.game();
    let packet = shown_packet(&game, peer.as_ref(), from_port, to, spec.payload.clone());
    let before = bench.log.len();
    let answer = faultless(bench.packet(hook, packet, &spec.name))?;
    if describe {
        return Ok(Made::Game(answer.describes));
    }
    let log = bench.log.get(before..).unwrap_or_default().to_vec();
    Ok(Made::Answer(Box::new(Answered::new(bench, spec.payload, answer, log))))
}

/// An answer in the words of tests: peers by name, bytes as text.
struct Answered {
    verdict: &'static str,
    bytes: Option<Vec<u8>>,
    to: Option<Vec<String>>,
    teach: Option<(f64, bool)>,
    open: Vec<(bool, u16, f64, Option<String>)>,
    log: Vec<String>,
}

impl Answered {
    fn new(bench: &Bench, payload: Vec<u8>, answer: ScriptAnswer, log: Vec<String>) -> Self {
        let (verdict, bytes) = match answer.verdict {
            Verdict::Forward => ("forward", Some(payload)),
            Verdict::Drop => ("drop", None),
            Verdict::Replace(bytes) => ("replace", Some(bytes)),
        };
        let name = |id: &crate::model::id::PeerId| bench.name_of(*id);
        let open = answer
            .open
            .iter()
            .map(|open| (open.tcp, open.port, open.life.as_secs_f64(), open.peer.as_ref().map(name)));
        Self {
            verdict,
            bytes,
            to: answer.to.map(|ids| ids.iter().map(name).collect()),
            teach: answer.teach.map(|teach| (teach.life.as_secs_f64(), teach.same_bytes)),
            open: open.collect(),
            log,
        }
    }

    fn table(self, lua: &Lua) -> mlua::Result<Table> {
        let table = lua.create_table()?;
        table.raw_set("verdict", self.verdict)?;
        if let Some(bytes) = &self.bytes {
            let text = lua.create_string(bytes)?;
            table.raw_set("text", &text)?;
            table.raw_set("bytes", lua.create_buffer(bytes)?)?;
            table.raw_set("hex", shown::hex(bytes))?;
        }
        table.raw_set("to", self.to)?;
        if let Some((seconds, same)) = self.teach {
            table.raw_set("teach", seconds)?;
            table.raw_set("same", same)?;
        }
        let open = self.open.into_iter().map(|(tcp, port, seconds, peer)| {
            let one = lua.create_table()?;
            one.raw_set("tcp", tcp)?;
            one.raw_set("port", port)?;
            one.raw_set("seconds", seconds)?;
            one.raw_set("peer", peer)?;
            Ok(one)
        });
        table.raw_set("open", lua.create_sequence_from(open.collect::<mlua::Result<Vec<_>>>()?)?)?;
        table.raw_set("log", lua.create_sequence_from(self.log)?)?;
        Ok(table)
    }
}

/// A packet of the plugin's own in the words of tests.
struct Sent {
    as_peer: Option<String>,
    to: Option<Vec<String>>,
    send: ScriptSend,
}

fn sends(stage: &mut Stage) -> Vec<Sent> {
    let Ok(bench) = bench(stage) else { return Vec::new() };
    let all = std::mem::take(&mut bench.sends);
    let named = all.into_iter().map(|send| Sent {
        as_peer: send.as_peer.map(|id| bench.name_of(id)),
        to: send.to.as_ref().map(|ids| ids.iter().map(|id| bench.name_of(*id)).collect()),
        send,
    });
    named.collect()
}

impl Sent {
    fn table(self, lua: &Lua) -> mlua::Result<Table> {
        let table = lua.create_table()?;
        table.raw_set("as_peer", self.as_peer)?;
        table.raw_set("to", self.to)?;
        table.raw_set("group", self.send.group.map(|group| group.to_string()))?;
        table.raw_set("from_port", self.send.from_port)?;
        table.raw_set("to_port", self.send.to_port)?;
        table.raw_set("text", lua.create_string(&self.send.payload)?)?;
        table.raw_set("hex", shown::hex(&self.send.payload))?;
        Ok(table)
    }
}

fn game_value(lua: &Lua, game: Option<ScriptGame>) -> mlua::Result<Value> {
    let Some(game) = game else { return Ok(Value::Nil) };
    let table = lua.create_table()?;
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    table.raw_set("title", said(game.title))?;
    table.raw_set("map", said(game.map))?;
    table.raw_set("version", said(game.version))?;
    table.raw_set("players", game.players)?;
    table.raw_set("most_players", game.most_players)?;
    table.raw_set("port", game.port)?;
    table.raw_set("tcp", game.tcp)?;
    table.raw_set("over", game.over.then_some(true))?;
    Ok(Value::Table(table))
}
