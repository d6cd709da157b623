//! `lanrage plugin list|add|remove`, and which plugins a running node has.
//!
//! `found` says which there are and which may be loaded; `crew` runs those that a node's games ask, each of them in a `brain`. Adding fetches into memory, checks all of it there, shows what the
//! plugin may do, asks, and only then writes.

mod brain;
pub mod crew;
pub mod found;

use super::config::layers::{Layers, Variables};
use super::config::{self};
use super::failure::Failure;
use super::ipc::{Answer, Client, Request};
use crate::host::plugins::folder::PluginFolder;
use crate::host::plugins::pins::{May, Pin, beyond};
use crate::host::plugins::source::{Fetched, Source};
use crate::host::{entropy, threads};
use crate::model::id::PluginId;
use crate::model::script::{Capabilities, ScriptFault};
use crate::model::status::Trouble;
use crate::plugin::code::Code;
use crate::plugin::manifest::Manifest;
use crate::plugin::vm::Vm;
use crate::rules::check::check_text;
use crate::ui::cli::args::GlobalArgs;
use crate::ui::cli::plugin_args::AddPluginArgs;
use crate::ui::cli::plugins::{Listed, Proposal, table};
use crate::ui::cli::screen::Screen;
use found::{Found, Origin, Plugins};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// A plugin's first run may take this long.
const FIRST_RUN: Duration = Duration::from_secs(1);
/// And its end, once it was told to stop, this long.
const STOPPING: Duration = Duration::from_secs(2);
/// Bytes of an answer to a question.
const ANSWER: u64 = 100;

/// The setting that names indexes.
const INDEX: &str = "plugin_index";

struct Here {
    layers: Layers,
    data_dir: PathBuf,
}

impl Here {
    fn new(global: &GlobalArgs, variables: &Variables) -> Result<Self, Failure> {
        let layers = config::common(global, variables)?;
        layers.warnings.iter().for_each(|w| tracing::warn!("{w}"));
        let data_dir = config::data_dir(global, &layers)?;
        Ok(Self { layers, data_dir })
    }
}

/// `plugin list`: the text to print.
///
/// # Errors
/// When the settings cannot be read.
pub fn list(global: &GlobalArgs, variables: &Variables, as_json: bool) -> Result<String, Failure> {
    let here = Here::new(global, variables)?;
    let plugins = Plugins::find(&here.data_dir, None);
    for trouble in plugins.told.iter().filter(|t| t.code != "plugin_replaced") {
        tracing::warn!("{}; {}", trouble.message, trouble.hint);
    }
    let running = running(&here.data_dir);
    let listed: Vec<(Listed, &Found)> =
        plugins.all.iter().map(|(id, found)| (listed(id, found, running.get(&id.0)), found)).collect();
    if !as_json {
        return Ok(table(&listed.into_iter().map(|(listed, _)| listed).collect::<Vec<_>>()));
    }
    let one = |(l, found): &(Listed, &Found)| {
        let pin = found.pin.as_ref();
        json!({
            "id": l.id, "version": l.version, "origin": l.origin, "state": l.state,
            "why": Some(&l.why).filter(|w| !w.is_empty()), "games": l.games, "may": May::of(&l.may),
            "source": pin.map(|p| &p.source), "hash": pin.map(|p| &p.hash),
        })
    };
    Ok(format!("{}\n", Value::Array(listed.iter().map(one).collect())))
}

/// What a running node says of its plugins: state and reason, by id. No node is no news.
fn running(data_dir: &std::path::Path) -> BTreeMap<String, (String, String)> {
    let Ok(Answer::Status { status }) = Client::new(data_dir).ask(Request::Status) else {
        return BTreeMap::new();
    };
    let text = |v: &Value, name: &str| v.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let plugins = status.get("plugins").and_then(Value::as_array).cloned().unwrap_or_default();
    plugins.iter().map(|p| (text(p, "id"), (text(p, "state"), text(p, "why")))).collect()
}

fn listed(id: &PluginId, found: &Found, running: Option<&(String, String)>) -> Listed {
    let manifest = found.manifest.as_ref();
    let (state, why, hint) = match (&found.code, running) {
        (Err(trouble), _) => {
            let state = trouble.code.strip_prefix("plugin_").unwrap_or(&trouble.code);
            (state.replace('_', " "), trouble.message.clone(), trouble.hint.clone())
        }
        (Ok(_), Some((state, why))) if state == "asleep" => {
            (state.clone(), why.clone(), "it is loaded again with the next `lanrage run`".to_owned())
        }
        (Ok(_), _) => ("ok".to_owned(), String::new(), String::new()),
    };
    Listed {
        id: id.0.clone(),
        version: found.version.clone(),
        origin: found.origin.word(),
        state,
        why,
        hint,
        games: manifest.map(|m| m.games.clone()).unwrap_or_default(),
        may: manifest.map(|m| m.may.clone()).unwrap_or_default(),
    }
}

/// `plugin remove`: what was done.
///
/// # Errors
/// When there is none, or it cannot be removed.
pub fn remove(global: &GlobalArgs, variables: &Variables, id: &str) -> Result<String, Failure> {
    let here = Here::new(global, variables)?;
    let plugin = PluginId(id.to_owned());
    if PluginFolder::of(&here.data_dir).remove(&plugin)? {
        let shipped = Plugins::default().all.contains_key(&plugin);
        let rest = if shipped { "; the one that comes with lanrage is used again" } else { "" };
        return Ok(format!("the plugin `{id}` is removed{rest}\n"));
    }
    let plugins = Plugins::find(&here.data_dir, None);
    if plugins.all.contains_key(&plugin) {
        let what = format!("the plugin `{id}` comes with lanrage and cannot be removed");
        let hint = "a profile of your own for this game, without `plugin`, does without it";
        return Err(Failure::new("plugin_shipped", what, hint));
    }
    let near = crate::rules::nearest::nearest(id, plugins.all.keys().map(|id| id.0.as_str()));
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    let what = format!("no plugin is called `{}`{near}", id.escape_debug());
    Err(Failure::new("no_such_plugin", what, "`lanrage plugin list` shows all"))
}

/// `plugin add`: what was done.
///
/// # Errors
/// When it is no plugin, nobody agreed, or it cannot be written. Then nothing was changed.
pub fn add(global: &GlobalArgs, variables: &Variables, args: &AddPluginArgs) -> Result<String, Failure> {
    let here = Here::new(global, variables)?;
    let indexes = match &args.index {
        Some(index) => vec![index.clone()],
        None => here
            .layers
            .each(INDEX, "name folders or git addresses", |text| Ok::<_, String>(text.to_owned()))?,
    };
    let mut fetched = Source::parse(&args.source)?.fetch(&indexes)?;
    // One folder around everything is the habit of archives, and of nobody else.
    fetched.tree = fetched.tree.without_top();
    let (id, found) = found::of_tree(&fetched.from, &fetched.tree, Origin::Added, None);
    let code = found.code.clone()?;
    let (Some(id), Some(manifest)) = (id, found.manifest.clone()) else {
        return Err(Failure::new("plugin_broken", format!("{} is no plugin", fetched.from), ""));
    };
    trial(Arc::clone(&code)).map_err(|why| {
        let hint = "tell its author; `lanrage plugin test` in its folder shows more";
        Failure::new("plugin_broken", format!("the plugin `{id}` cannot be loaded: {why}"), hint)
    })?;
    let before = Plugins::find(&here.data_dir, None).all.remove(&id).filter(|f| f.origin == Origin::Added);
    let proposal = proposal(&fetched, &manifest, &found, before.as_ref());
    if let Some(before) = &before
        && before.code.is_ok()
        && before.pin.as_ref().is_some_and(|pin| pin.hash == proposal.hash)
    {
        return Ok(format!("the plugin `{id}` {} is there already, exactly this one\n", manifest.version));
    }
    agree(&proposal, args.yes)?;
    let pin = Pin::of(&fetched.tree, &manifest.version, &fetched.from, &manifest.may);
    PluginFolder::of(&here.data_dir).put(&id, &fetched.tree, pin)?;
    let games: Vec<&str> = manifest.games.iter().map(|g| g.0.as_str()).collect();
    Ok(format!(
        "the plugin `{id}` {} is added; it is used from the next `lanrage run --game {}` on\n",
        manifest.version,
        games.join("|")
    ))
}

fn proposal(fetched: &Fetched, manifest: &Manifest, found: &Found, before: Option<&Found>) -> Proposal {
    let profile = found.profile.as_ref().and_then(|(name, text)| check_text(name, text).ok());
    let replaces =
        |id: &crate::model::id::ProfileId| crate::rules::shipped::all().iter().any(|p| p.id == *id);
    let profile = profile.map_or(String::new(), |profile| {
        let verb = if replaces(&profile.id) { "replaces the profile of" } else { "adds the game" };
        let play: Vec<String> = [("TCP", &profile.play.tcp), ("UDP", &profile.play.udp)]
            .iter()
            .filter(|(_, ports)| !ports.is_empty())
            .map(|(name, ports)| {
                format!(
                    "{name} {}",
                    ports.iter().map(crate::host::plugins::pins::range_text).collect::<Vec<_>>().join(", ")
                )
            })
            .collect();
        let opens = if play.is_empty() {
            String::new()
        } else {
            format!(", which opens {} to the party while it runs", play.join(" and "))
        };
        format!("{verb} {}{opens}", profile.id)
    });
    Proposal {
        name: manifest.name.clone(),
        id: manifest.id.0.clone(),
        version: manifest.version.clone(),
        about: fetched.about.clone().unwrap_or_else(|| manifest.about.clone()),
        authors: manifest.authors.clone(),
        licence: manifest.licence.clone(),
        from: fetched.from.clone(),
        hash: fetched.tree.hash(),
        games: manifest.games.clone(),
        may: manifest.may.clone(),
        profile,
        before: before.map(|before| {
            let agreed = before.pin.as_ref().map_or_else(Capabilities::default, |pin| pin.may.read());
            (before.version.clone(), beyond(&agreed, &manifest.may))
        }),
    }
}

/// Shows it and asks. Nobody agrees by accident: only `y` and `yes` are a yes, and without a terminal only `--yes`.
fn agree(proposal: &Proposal, yes: bool) -> Result<(), Failure> {
    let mut err = io::stderr().lock();
    let columns = if err.is_terminal() { usize::from(Screen::size().0) } else { 100 };
    let _ = err.write_all(proposal.text(columns).as_bytes());
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !err.is_terminal() {
        let what = format!("nobody can be asked whether `{}` may do this: there is no terminal", proposal.id);
        return Err(Failure::usage("no_consent", what, "read the above, then add --yes"));
    }
    let _ = err.write_all(b"Add it? [y/N] ");
    let _ = err.flush();
    let mut answer = String::new();
    let _ = io::Read::take(io::stdin().lock(), ANSWER).read_line(&mut answer);
    if is_yes(&answer) {
        return Ok(());
    }
    Err(Failure::new("no_consent", format!("`{}` was not added; nothing was changed", proposal.id), ""))
}

/// Loads a plugin once, to see whether it can be.
///
/// # Errors
/// Why not, with file and line.
pub fn trial(code: Arc<Code>) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, hear) = mpsc::channel();
    let stopped = Arc::clone(&stop);
    let seed = entropy::seed().map_err(|t| t.message)?;
    let load = move || {
        let loaded = Vm::load(&code, seed, stopped).map(drop);
        let _ = tell.send(loaded);
    };
    threads::named("plugin-trial", load).map_err(|t: Trouble| t.message)?;
    let loaded = hear.recv_timeout(FIRST_RUN).or_else(|_| {
        stop.store(true, Ordering::Relaxed);
        hear.recv_timeout(STOPPING)
    });
    match loaded {
        Ok(Ok(())) => Ok(()),
        Ok(Err(ScriptFault::Failed(why) | ScriptFault::PutToSleep(why))) => Err(why),
        Ok(Err(ScriptFault::Busy | ScriptFault::Late | ScriptFault::Asleep)) | Err(_) => {
            Err("its first run takes longer than a second".to_owned())
        }
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, yes) in [
            ("y\n", true),
            (" YES \n", true),
            ("", false),
            ("\n", false),
            ("n\n", false),
            ("yep\n", false),
            ("ye", false),
        ] {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}
