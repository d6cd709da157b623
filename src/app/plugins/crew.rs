//! The plugins of a running node: started before it, watched while it runs, and with `run --dev` replaced while it runs.
//!
//! Everything slow about plugins happens on one thread, `plugins`: loading, looking for changes, asking `check` for `doctor`. A
//! reload builds everything new beside the old: profiles, rules, virtual machines. Only when all of it is good does the node hear of
//! it; else the old stays as it is, and the reason is told.

use super::brain::{Checked, OWN_CALLS, Past, SharedPast, Watched};
use super::found::{Found, Plugins, gather, is_for};
use crate::app::config::{self, Dev, RunConfig};
use crate::engine::effect::HostFact;
use crate::host::clock::HostClock;
use crate::host::plugins::folder::PluginFolder;
use crate::host::plugins::watch::{LOOK, Watch};
use crate::host::scripts::{Asker, Keeper, Plugin, PluginNews, PluginWatch, seed_for};
use crate::host::threads;
use crate::model::dice::Seed;
use crate::model::id::{PluginId, ProfileId};
use crate::model::script::{Ask, CallId, PluginIx, ScriptCall, ScriptFault, ScriptReply};
use crate::model::status::{Event, PluginStatus, Trouble};
use crate::plugin::code::Code;
use crate::plugin::vm::Vm;
use crate::rules::compile::compile;
use crate::rules::profile::Profile;
use crate::rules::ruleset::Ruleset;
use crate::rules::shipped::Catalog;
use crate::ui::cli::plugins::capabilities;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Without `--dev`, how often it is looked whether a restart would bring something new.
const IDLE: Duration = Duration::from_secs(5);
/// For all answers to `check` together.
const CHECK: Duration = Duration::from_millis(500);

/// What a plugin says of this computer, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CheckSaid {
    /// Which.
    pub id: String,
    /// Its state, by the words of `status`.
    pub state: String,
    /// Why it is not asked.
    pub why: Option<String>,
    /// What its `check` said; `None` is nothing.
    pub said: Option<String>,
}

/// How others reach the thread. Without one, nobody answers.
#[derive(Debug, Clone, Default)]
pub struct CrewDoor(Option<Sender<Wish>>);

#[derive(Debug)]
enum Wish {
    Check(tokio::sync::oneshot::Sender<Vec<CheckSaid>>),
    Stop,
}

impl CrewDoor {
    /// Asks every plugin's `check`.
    pub async fn check(&self) -> Vec<CheckSaid> {
        let (tell, hear) = tokio::sync::oneshot::channel();
        let sent = self.0.as_ref().is_some_and(|door| door.send(Wish::Check(tell)).is_ok());
        if sent { hear.await.unwrap_or_default() } else { Vec::new() }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.0.as_ref().map(|door| door.send(Wish::Stop));
    }
}

/// Where the crew tells what it did.
#[derive(Debug)]
pub struct Ends {
    /// Plugins that came or went.
    pub news: mpsc::Sender<PluginNews>,
    /// New rules.
    pub facts: mpsc::Sender<HostFact>,
    /// For people.
    pub events: mpsc::Sender<Event>,
    /// For the plugins' answers.
    pub replies: mpsc::Sender<ScriptReply>,
    /// For `status`.
    pub board: watch::Sender<Vec<PluginStatus>>,
}

/// The profiles of the named games.
///
/// # Errors
/// `unknown_game` or `games_clash`.
pub fn choose(catalog: &Catalog, games: &[String]) -> Result<(Vec<Profile>, Ruleset), Trouble> {
    let mut chosen: Vec<Profile> = Vec::new();
    for game in games {
        let profile = catalog.find(game).map_err(|e| {
            Trouble::new("unknown_game", e.to_string(), "`lanrage games list` shows all games")
        })?;
        if chosen.iter().all(|have| have.id != profile.id) {
            chosen.push(profile.clone());
        }
    }
    let rules = compile(&chosen).map_err(|wrong| {
        let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        Trouble::new("games_clash", texts.join("; "), "run these games one after the other")
    })?;
    Ok((chosen, rules))
}

/// A plugin that the rules ask, and what there is of it.
struct Need {
    status: PluginStatus,
    code: Result<Arc<Code>, Trouble>,
}

fn needs(rules: &Ruleset, chosen: &[Profile], plugins: &Plugins) -> Vec<Need> {
    rules.plugins().iter().map(|id| need(id, chosen, plugins.all.get(id))).collect()
}

fn need(id: &PluginId, chosen: &[Profile], found: Option<&Found>) -> Need {
    let asks = chosen.iter().filter(|p| p.plugin.as_ref() == Some(id)).map(|p| p.id.clone());
    let games: Vec<ProfileId> = asks.collect();
    let names: Vec<&str> = games.iter().map(|g| g.0.as_str()).collect();
    let goes_on = format!("{} runs without it, as far as its profile alone goes", names.join(" and "));
    let mut status = PluginStatus {
        id: id.clone(),
        version: found.map_or_else(String::new, |f| f.version.clone()),
        origin: found.map_or("none", |f| f.origin.word()).to_owned(),
        state: "ok".to_owned(),
        why: None,
        games: games.clone(),
        may: found.and_then(|f| f.manifest.as_ref()).map_or_else(Vec::new, |m| capabilities(&m.may)),
    };
    let not_for = games.iter().find(|game| found.is_some_and(|f| f.manifest.is_some() && !is_for(f, game)));
    let code = match (found, not_for) {
        (None, _) => {
            status.state = "missing".to_owned();
            let what = format!("the plugin `{id}` is not there: {goes_on}");
            Err(Trouble::new("plugin_missing", what, format!("lanrage plugin add {id}")))
        }
        (Some(found), None) => {
            found.code.clone().map_err(|t| Trouble { message: format!("{}; {goes_on}", t.message), ..t })
        }
        (Some(_), Some(game)) => {
            let what =
                format!("the profile `{game}` asks the plugin `{id}`, which is not for this game: {goes_on}");
            Err(Trouble::new(
                "plugin_not_for",
                what,
                "name the right plugin in the profile, or the game in `games` of plugin.toml",
            ))
        }
    };
    if let Err(trouble) = &code {
        if status.state == "ok" {
            status.state = "refused".to_owned();
        }
        status.why = Some(trouble.message.clone());
    }
    Need { status, code }
}

struct Member {
    code: Arc<Code>,
    watch: PluginWatch,
    asker: Asker,
    past: Option<SharedPast>,
}

/// See the module's description.
pub struct Crew {
    games: Vec<String>,
    data_dir: PathBuf,
    dev: Option<Dev>,
    clock: HostClock,
    seed: Seed,
    keeper: Keeper,
    ends: Ends,
    members: BTreeMap<PluginId, Member>,
    /// In the order of the rules.
    statuses: Vec<PluginStatus>,
    chosen: Vec<Profile>,
    checks: (Sender<Checked>, Receiver<Checked>),
    calls: u64,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("statuses", &self.statuses).finish_non_exhaustive()
    }
}

impl Crew {
    /// Starts the plugins that the rules ask. What cannot be started is told, and the game runs without it.
    ///
    /// # Errors
    /// `no_thread`.
    pub fn start(
        config: &RunConfig,
        (chosen, rules): (Vec<Profile>, &Ruleset),
        (clock, seed): (HostClock, Seed),
        ends: Ends,
    ) -> Result<Self, Trouble> {
        let mut crew = Self {
            games: config.games.clone(),
            data_dir: config.data_dir.clone(),
            dev: config.dev.clone(),
            clock,
            seed,
            keeper: Keeper::new(clock, ends.replies.clone())?,
            ends,
            members: BTreeMap::new(),
            statuses: Vec::new(),
            chosen: Vec::new(),
            checks: channel(),
            calls: OWN_CALLS,
        };
        let needs = needs(rules, &chosen, &config.plugins);
        for trouble in config.plugins.told.iter().filter(|t| matters(t, &needs)) {
            crew.tell(Event::Warning(trouble.clone()));
        }
        for need in needs {
            crew.hire(need);
        }
        crew.chosen = chosen;
        crew.show();
        Ok(crew)
    }

    fn tell(&self, event: Event) {
        let _ = self.ends.events.try_send(event);
    }

    /// Starts one of those that the node begins with.
    fn hire(&mut self, need: Need) {
        let Need { mut status, code } = need;
        let started = code.and_then(|code| {
            let (plugin, member, _) =
                self.load(&code, None).map_err(|fault| unloadable(&status.id, &fault))?;
            Ok((plugin, member))
        });
        match started {
            Ok((plugin, member)) => {
                self.members.insert(status.id.clone(), member);
                let _ = self.ends.news.try_send(PluginNews::Loaded(plugin));
                self.tell(Event::Plugin(status.clone()));
            }
            Err(trouble) => {
                if status.state == "ok" {
                    status.state = "refused".to_owned();
                }
                status.why.get_or_insert_with(|| trouble.message.clone());
                self.tell(Event::Warning(trouble));
            }
        }
        self.statuses.push(status);
    }

    /// Loads code on a thread of its own, and asks it about the packets of the past first.
    fn load(
        &self,
        code: &Arc<Code>,
        past: Option<Past>,
    ) -> Result<(Plugin, Member, Vec<String>), ScriptFault> {
        let id = code.manifest.id.clone();
        let seed = seed_for(&self.seed, &id);
        let shared = self.dev.as_ref().map(|_| SharedPast::default());
        let (tell, lines) = channel();
        let make = {
            let (code, shared, checks) = (Arc::clone(code), shared.clone(), self.checks.0.clone());
            move |stop: Arc<std::sync::atomic::AtomicBool>| {
                if let Some(past) = past {
                    let (lines, now) = past.replay(&code, seed, Arc::clone(&stop))?;
                    let _ = tell.send(lines);
                    // So that a second edit a moment later has something to compare with, too.
                    if let Some(shared) = &shared {
                        *shared.lock().unwrap_or_else(PoisonError::into_inner) = now;
                    }
                }
                let vm = Vm::load(&code, seed, stop)?;
                Ok((vm.facts(), Watched::new(vm, checks, shared)))
            }
        };
        let plugin = self.keeper.start(&id, make)?;
        let member =
            Member { code: Arc::clone(code), watch: plugin.watch(), asker: plugin.asker(), past: shared };
        Ok((plugin, member, lines.try_recv().unwrap_or_default()))
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// `no_thread`.
    pub fn spawn(mut self) -> Result<CrewDoor, Trouble> {
        let (door, wishes) = channel();
        threads::named("plugins", move || self.run(&wishes))?;
        Ok(CrewDoor(Some(door)))
    }

    fn run(&mut self, wishes: &Receiver<Wish>) {
        let pace = if self.dev.is_some() { LOOK } else { IDLE };
        let mut watch = Watch::new(self.folders());
        let mut next = Instant::now() + pace;
        loop {
            match wishes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Wish::Check(tell)) => drop(tell.send(self.check())),
                Ok(Wish::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + pace;
                    self.show();
                    if watch.changed() {
                        self.changed();
                    }
                }
            }
        }
    }

    /// Folders with profiles and plugins.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders =
            vec![self.data_dir.join("games"), PluginFolder::of(&self.data_dir).dir().to_path_buf()];
        if let Some(dev) = &self.dev {
            folders.extend(dev.plugin_dirs.iter().cloned());
            let named = dev.layers.raw("profiles").map(|raw| raw.values.clone()).unwrap_or_default();
            folders.extend(named.into_iter().map(PathBuf::from));
        }
        folders
    }

    fn changed(&mut self) {
        let Some(dev) = self.dev.clone() else {
            let what = "profiles or plugins of the data folder were changed; this party goes on with those it began with";
            let hint = "start lanrage again to use the new ones (`run --dev` takes them over at once)";
            return self.tell(Event::Warning(Trouble::new("restart_needed", what, hint)));
        };
        if let Err(trouble) = self.reload(&dev) {
            let what = format!("not reloaded, everything stays as it was: {}", trouble.message);
            self.tell(Event::Warning(Trouble::new("reload_broken", what, trouble.hint)));
        }
    }

    fn reload(&mut self, dev: &Dev) -> Result<(), Trouble> {
        let own = || config::profiles(&dev.layers, &self.data_dir);
        let (profiles, plugins) =
            gather(&self.data_dir, own, Some(&dev.plugin_dirs)).map_err(|failure| failure.trouble)?;
        let catalog = Catalog::new(profiles);
        if let Some(wrong) = catalog.wrong.first() {
            return Err(Trouble::new("bad_profile", wrong.to_string(), "correct this file"));
        }
        if let Some(trouble) = plugins.told.iter().find(|t| t.code != "plugin_replaced") {
            return Err(trouble.clone());
        }
        let (chosen, rules) = choose(&catalog, &self.games)?;
        let (mut hired, mut replayed, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let needs = needs(&rules, &chosen, &plugins);
        let mut statuses = Vec::new();
        for Need { mut status, code } in needs {
            let id = status.id.clone();
            match code {
                Ok(code)
                    if self
                        .members
                        .get(&id)
                        .is_some_and(|m| m.code == code && m.watch.stats().asleep.is_none()) => {}
                Ok(code) => {
                    let past = self.members.get(&id).and_then(|m| m.past.as_ref());
                    let past = past.map(|p| p.lock().unwrap_or_else(PoisonError::into_inner).clone());
                    let count = past.as_ref().map_or(0, Past::len);
                    let (plugin, member, lines) = self.load(&code, past).map_err(|f| Trouble {
                        hint: "correct it and save it: it is loaded again then".to_owned(),
                        ..unloadable(&id, &f)
                    })?;
                    names.push(format!("plugin {id} {} ({count} packets replayed)", code.manifest.version));
                    replayed.extend(lines);
                    hired.push((id, plugin, member));
                }
                // What never worked may go on not working, but nothing that works is given up.
                Err(trouble) if self.members.contains_key(&id) && trouble.code != "plugin_missing" => {
                    return Err(trouble);
                }
                Err(trouble) => {
                    status.why = Some(trouble.message.clone());
                    self.tell(Event::Warning(trouble));
                }
            }
            statuses.push(status);
        }
        if chosen != self.chosen {
            names.extend(
                chosen.iter().filter(|p| !self.chosen.contains(p)).map(|p| format!("profile {}", p.id)),
            );
            let _ = self.ends.facts.blocking_send(HostFact::Rules(Arc::new(rules)));
            self.chosen = chosen;
        }
        let gone: Vec<PluginId> = self
            .members
            .keys()
            .filter(|id| statuses.iter().all(|s| s.id != **id || s.why.is_some()))
            .cloned()
            .collect();
        for id in gone {
            self.members.remove(&id);
            let _ = self.ends.news.blocking_send(PluginNews::Gone(id));
        }
        for (id, plugin, member) in hired {
            self.members.insert(id, member);
            let _ = self.ends.news.blocking_send(PluginNews::Loaded(plugin));
        }
        self.statuses = statuses;
        self.show();
        if !names.is_empty() {
            self.tell(Event::Reloaded { what: names.join(", "), replayed });
        }
        Ok(())
    }

    /// Writes how they are onto the board.
    fn show(&self) {
        let now: Vec<PluginStatus> = self.statuses.iter().map(|status| self.now(status)).collect();
        self.ends.board.send_if_modified(|board| {
            let changed = *board != now;
            *board = now;
            changed
        });
    }

    fn now(&self, status: &PluginStatus) -> PluginStatus {
        let asleep = self.members.get(&status.id).and_then(|member| member.watch.stats().asleep);
        match asleep {
            Some(why) => PluginStatus { state: "asleep".to_owned(), why: Some(why), ..status.clone() },
            None => status.clone(),
        }
    }

    fn check(&mut self) -> Vec<CheckSaid> {
        let at = self.clock.now().mono.0;
        let mut asked = BTreeMap::new();
        for (id, member) in &self.members {
            self.calls += 1;
            let call = ScriptCall { id: CallId(self.calls), plugin: self.index(id), at, ask: Ask::Check };
            if member.asker.ask(call).is_ok() {
                asked.insert(CallId(self.calls), id.clone());
            }
        }
        let (until, mut said) = (Instant::now() + CHECK, BTreeMap::new());
        while said.len() < asked.len()
            && let Ok((call, answer)) =
                self.checks.1.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            // Answers to an earlier question may still come.
            if let Some(id) = asked.get(&call) {
                said.insert(id.clone(), answer);
            }
        }
        self.show();
        let one = |status: &PluginStatus| {
            let now = self.now(status);
            let (said, fault) = match said.remove(&status.id) {
                Some(Ok(said)) => (said, None),
                Some(Err(fault)) => (None, Some(unloadable(&status.id, &fault).message)),
                None => (None, None),
            };
            CheckSaid { id: now.id.0, state: now.state, why: now.why.or(fault), said }
        };
        self.statuses.iter().map(one).collect()
    }

    fn index(&self, id: &PluginId) -> PluginIx {
        let at = self.statuses.iter().position(|status| status.id == *id);
        PluginIx(at.and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX))
    }
}

/// Whether something about all plugins is news for who runs these.
fn matters(trouble: &Trouble, needs: &[Need]) -> bool {
    trouble.code != "plugin_replaced"
        || needs.iter().any(|need| trouble.message.contains(&format!("`{}`", need.status.id)))
}

fn unloadable(id: &PluginId, fault: &ScriptFault) -> Trouble {
    let why = match fault {
        ScriptFault::Failed(why) | ScriptFault::PutToSleep(why) => why.clone(),
        ScriptFault::Busy => "it has too much to do".to_owned(),
        ScriptFault::Late => "it takes too long".to_owned(),
        ScriptFault::Asleep => "it sleeps".to_owned(),
    };
    let what = if why.contains(&id.0) { why } else { format!("the plugin `{id}`: {why}") };
    Trouble::new("plugin_failed", what, "`lanrage plugin test` in its folder shows more; tell its author")
}
