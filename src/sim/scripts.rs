//! Plugins in the simulated world: the real virtual machine, asked in virtual time, and what goes wrong with it.
//!
//! An answer takes as long as `Manners` says, in the order of the questions. A story may make plugins late, silent, failing,
//! crashing, and lying: a liar asks for everything that its manifest does not allow, past the virtual machine's own checks.

use super::world::{Event, World};
use crate::engine::effect::HostFact;
use crate::model::dice::{Dice, Seed};
use crate::model::id::PluginId;
use crate::model::script::{
    Ask, PluginFacts, PluginIx, ScriptAnswer, ScriptCall, ScriptFault, ScriptOpen, ScriptReply, ScriptSend,
    Teach,
};
use crate::model::time::Mono;
use crate::plugin::code::Code;
use crate::plugin::manifest::check_manifest;
use crate::plugin::vm::Vm;
use crate::rules::compile::compile;
use crate::rules::profile::{Ask as AskRule, Profile};
use crate::rules::ruleset::{RuleKind, Ruleset, Side};
use crate::rules::shipped;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Questions that may wait for one plugin, as in the real host.
const QUEUE: usize = 64;

/// How plugins behave. Chances are in thousandths.
#[derive(Debug, Clone)]
pub struct Manners {
    /// An answer takes at least this long.
    pub latency: Duration,
    /// And up to this much longer.
    pub jitter: Duration,
    /// So many answers take `late_by` longer.
    pub late: u32,
    /// See `late`.
    pub late_by: Duration,
    /// So many are never given.
    pub silent: u32,
    /// So many questions fail.
    pub fails: u32,
    /// So many kill the plugin.
    pub crashes: u32,
    /// So many answers ask for what the plugin may not do.
    pub lies: u32,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(50),
            jitter: Duration::from_micros(100),
            late: 0,
            late_by: Duration::from_millis(40),
            silent: 0,
            fails: 0,
            crashes: 0,
            lies: 0,
        }
    }
}

/// What a plugin of a running node is doing.
#[derive(Debug)]
struct Stage {
    vm: Option<Vm>,
    /// When its last answer is there, and how many are under way.
    busy: Mono,
    queued: usize,
}

/// The plugins of a running node, in the order of its rules.
#[derive(Debug, Default)]
pub struct Stages(BTreeMap<PluginIx, Stage>);

impl Stages {
    /// Loads all plugins that these rules name.
    ///
    /// # Panics
    /// When a plugin of a story does not load: the story is wrong.
    #[must_use]
    pub fn load(rules: &Ruleset, codes: &[Code], seed: Seed) -> (Self, Arc<[Option<PluginFacts>]>) {
        let mut stages = BTreeMap::new();
        let load = |(id, ix): (&PluginId, u16)| {
            let code = codes.iter().find(|code| code.manifest.id == *id)?;
            let vm = Vm::load(code, seed.fork(&format!("plugin {id}")), Arc::default())
                .unwrap_or_else(|fault| panic!("the plugin {id} of this story: {fault:?}"));
            let facts = vm.facts();
            stages.insert(PluginIx(ix), Stage { vm: Some(vm), busy: Mono::ZERO, queued: 0 });
            Some(facts)
        };
        let facts = rules.plugins().iter().zip(0..).map(load).collect();
        (Self(stages), facts)
    }
}

impl World {
    /// A node asks a plugin.
    pub(super) fn ask_plugin(&mut self, pc: usize, call: &ScriptCall) {
        let (now, start) = (self.now, self.pcs[pc].starts);
        let manners = self.chaos.plugins.clone();
        let dice = &mut self.script_dice;
        let Some(run) = &mut self.pcs[pc].run else { return };
        let stage = run.stages.0.get_mut(&call.plugin);
        let Some(stage) = stage else { return self.reply_at(pc, start, now, call, Err(ScriptFault::Asleep)) };
        if stage.queued >= QUEUE {
            return self.reply_at(pc, start, now, call, Err(ScriptFault::Busy));
        }
        let answer = answer(stage, call, &manners, dice);
        let jitter = u32::try_from(manners.jitter.as_micros()).unwrap_or(u32::MAX).max(1);
        let mut takes = manners.latency + Duration::from_micros(u64::from(dice.below(jitter)));
        if dice.chance(manners.late) {
            takes += manners.late_by;
        }
        if dice.chance(manners.silent) {
            return;
        }
        stage.queued += 1;
        stage.busy = stage.busy.max(now) + takes;
        let at = stage.busy;
        self.reply_at(pc, start, at, call, answer);
    }

    fn reply_at(
        &mut self,
        pc: usize,
        start: u64,
        at: Mono,
        call: &ScriptCall,
        answer: Result<ScriptAnswer, ScriptFault>,
    ) {
        let text = format!("{call:?} {answer:?}");
        self.trace.note(self.now, Some(pc), "ask", text.as_bytes(), || text.clone());
        let reply = Box::new(ScriptReply { id: call.id, plugin: call.plugin, answer });
        self.at(at, Event::Reply { pc, start, reply });
    }

    /// A plugin's answer comes back.
    pub(super) fn reply(&mut self, pc: usize, start: u64, reply: ScriptReply) {
        let computer = &mut self.pcs[pc];
        let (same, asleep) = (computer.starts == start, computer.asleep);
        let Some(run) = computer.run.as_mut().filter(|_| same) else { return };
        if let Some(stage) = run.stages.0.get_mut(&reply.plugin) {
            stage.queued = stage.queued.saturating_sub(1);
        }
        if !asleep {
            self.drive(pc, |node, now, wan, lan| node.handle_reply(reply, now, wan, lan));
        }
    }

    /// A player starts a computer's plugins again: they know nothing of what was before.
    pub fn reload_plugins(&mut self, pc: usize) {
        let seed = self.seed.fork(&format!("plugins {pc} {:?}", self.now));
        let rules = self.pcs[pc].played();
        let (stages, facts) = Stages::load(&rules, &self.pcs[pc].plugins, seed);
        if let Some(run) = &mut self.pcs[pc].run {
            run.stages = stages;
            let none = facts.iter().map(|_| None).collect();
            self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::Plugins(none), now));
            self.drive(pc, |node, now, _, _| node.handle_fact(HostFact::Plugins(facts), now));
        }
    }
}

fn answer(
    stage: &mut Stage,
    call: &ScriptCall,
    manners: &Manners,
    dice: &mut Dice,
) -> Result<ScriptAnswer, ScriptFault> {
    let [crashes, fails, lies] = [manners.crashes, manners.fails, manners.lies].map(|c| dice.chance(c));
    let vm = stage.vm.as_mut().ok_or(ScriptFault::Asleep)?;
    let answer = if crashes {
        Err(ScriptFault::PutToSleep("the story says so".to_owned()))
    } else if fails {
        Err(ScriptFault::Failed("the story says so".to_owned()))
    } else if lies {
        vm.ask(call).map(|answer| lie(answer, call))
    } else {
        vm.ask(call)
    };
    if matches!(answer, Err(ScriptFault::PutToSleep(_) | ScriptFault::Asleep)) {
        stage.vm = None;
    }
    answer
}

/// The answer of a plugin that wants everything: doors open for ever, packets to them, lessons without end.
fn lie(answer: ScriptAnswer, call: &ScriptCall) -> ScriptAnswer {
    let port = |tcp, port| ScriptOpen { peer: None, tcp, port, life: Duration::MAX };
    let peer = match &call.ask {
        Ask::Packet(_, packet) => packet.peer,
        Ask::PeerJoined(peer) => Some(peer.id),
        Ask::PeerLeft(peer) => Some(*peer),
        Ask::Tick | Ask::Check => None,
    };
    let send = |to_port| ScriptSend {
        as_peer: peer,
        to: None,
        group: None,
        from_port: to_port,
        to_port,
        payload: b"forged".to_vec(),
    };
    let doors = super::game::DOORS;
    ScriptAnswer {
        open: doors.iter().flat_map(|door| [port(true, *door), port(false, *door)]).collect(),
        sends: doors.iter().map(|door| send(*door)).collect(),
        teach: answer.teach.map(|teach| Teach { life: Duration::MAX / 4, ..teach }),
        ..answer
    }
}

/// A plugin for stories from seeds: it looks at everything, changes titles, teaches now and then, reads the list.
const EVERYWHERE: &str = r#"
local plugin = {}
local seen = 0
function plugin.on_announcement(b, n, info)
    seen += 1
    if seen % 3 == 0 then
        return true, { teach = 5, same = true }
    end
    local at = packet.find(b, n, "[/MOTD]")
    return packet.splice(b, n, at, at, "!")
end
function plugin.on_query(b, n, info)
    return nil, { teach = 2, same = false }
end
function plugin.on_answer(b, n, info)
    return true
end
function plugin.describe(b, n, info)
    local from, to = packet.between(b, n, "[MOTD]", "[/MOTD]")
    return if from then { title = packet.text(b, from, to - from) } else nil
end
function plugin.on_tick()
    lanrage.log("a second more, " .. #lanrage.peers() .. " others")
end
return plugin
"#;

const MANIFEST: &str = r#"
id = "everywhere"
name = "Everywhere"
version = "1.0.0"
api = 1
about = "Looks at everything"
licence = "MIT"
games = ["minecraft-java", "openarena"]
[may]
udp = [4445, "27960-27963"]
rewrite = true
"#;

/// A plugin made of its manifest and its only file.
///
/// # Panics
/// When the manifest is wrong: the story is.
#[must_use]
pub fn code(manifest: &str, main: &str) -> Code {
    let manifest = check_manifest("plugin.toml", manifest).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    Code { manifest, files: [("main.luau".to_owned(), main.to_owned())].into() }
}

/// The shipped profiles of the simulator's games, asking this plugin on this side (`None` is both).
///
/// # Panics
/// When they do not compile.
#[must_use]
pub fn asking(plugin: &str, side: Option<Side>, change: impl Fn(&mut Profile)) -> Arc<Ruleset> {
    let profile = |title: super::game::Title| {
        let mut profile = shipped::find(title.profile()).expect("the simulator's games are shipped");
        profile.plugin = Some(plugin.into());
        for rule in &mut profile.rules {
            rule.ask = Some(AskRule { else_drop: false, side, within: Duration::from_millis(5) });
        }
        change(&mut profile);
        profile
    };
    let profiles = [super::game::Title::Minecraft, super::game::Title::OpenArena].map(profile);
    Arc::new(compile(&profiles).expect("shipped profiles compile"))
}

/// Gives every honest computer of a story a plugin that looks at everything. With bad manners it is late, fails, lies and
/// crashes; `fair` is a plugin at its best.
pub fn give_everywhere(world: &mut World, fair: bool) {
    let both = |profile: &mut Profile| {
        for rule in &mut profile.rules {
            if let (RuleKind::Announcement, Some(ask)) = (rule.kind, &mut rule.ask) {
                ask.side = None;
            }
        }
    };
    let rules = asking("everywhere", Some(Side::FromPeer), both);
    for pc in &mut world.pcs {
        // Who does not play both has rules without plugins.
        if pc.titles.len() == 2 {
            pc.rules = Some(Arc::clone(&rules));
            pc.plugins = vec![code(MANIFEST, EVERYWHERE)];
        }
    }
    if !fair {
        let manners =
            Manners { late: 200, silent: 20, fails: 10, crashes: 2, lies: 100, ..Manners::default() };
        world.chaos.plugins = manners;
    }
}
