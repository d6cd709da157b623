//! `lanrage run` in the foreground: shows what happens, listens to Ctrl-C, starts and watches the wrapped game, and keeps the local
//! door open for the other commands, until the node has ended.

use super::bridge::{self, NodeHandle, Running};
use super::config::RunConfig;
use super::failure::Failure;
use super::ipc;
use super::output::Output;
use super::signals::Signals;
use super::{games, log};
use crate::host::threads;
use crate::model::command::Command;
use crate::model::status::{Event, Trouble};
use crate::rules::shipped::Catalog;
use crate::ui::cli::invite::InviteForms;
use crate::ui::cli::json;
use crate::ui::cli::live::Live;
use crate::ui::cli::plain::Plain;
use crate::ui::cli::screen::Screen;
use crate::wire::invite::Invite;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};

/// For goodbyes and for taking the device away; then the node is stopped without them.
const GOODBYE: Duration = Duration::from_secs(5);
/// A wait that never ends.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs a node until it ends.
///
/// # Errors
/// What stopped it, when that was not its player.
pub fn run(config: RunConfig, screen: Screen) -> Result<(), Failure> {
    let catalog = Catalog::new(config.profiles.iter().cloned());
    for game in &config.games {
        games::find(&catalog, game)?;
    }
    let face = Face::choose(&config, screen);
    let (command, data_dir) = (config.command.clone(), config.data_dir.clone());
    let running = bridge::start(config)?;
    // Held until the node has ended: that is what `lanrage leave` waits for.
    let _door = ipc::Server::start(&data_dir, running.handle.clone())?;
    let runtime = threads::data_runtime()?;
    let wrapped = command.first().map_or_else(String::new, |program| program.to_string_lossy().into_owned());
    let output = Output::start()?;
    let mut show = Show { face, output, command, game: None, wrapped, leaving: None, failed: None };
    for diagnostic in &catalog.wrong {
        show.event(&Event::Warning(Trouble::new(
            "bad_profile",
            diagnostic.to_string(),
            "correct or remove this file",
        )));
    }
    runtime.block_on(show.follow(running))?;
    show.failed.map_or(Ok(()), Err)
}

/// How events are shown.
enum Face {
    Json,
    Plain(Plain),
    Live(Live),
}

impl Face {
    /// A wrapped game may write to the terminal, so the live view leaves it alone then.
    fn choose(config: &RunConfig, screen: Screen) -> Self {
        if config.json {
            Self::Json
        } else if config.command.is_empty() && io::stdout().is_terminal() {
            Self::Live(Live::open(screen, forms, log::wants_colour()))
        } else {
            Self::Plain(Plain::default())
        }
    }
}

/// All forms of an invite.
#[must_use]
pub fn forms(text: &str) -> Option<InviteForms> {
    let invite = Invite::parse(text).ok()?;
    Some(InviteForms { text: invite.to_text(), link: invite.to_link(), qr: invite.to_qr() })
}

struct Show {
    face: Face,
    output: Output,
    command: Vec<OsString>,
    game: Option<Child>,
    /// The game's program, for messages.
    wrapped: String,
    /// When the node is stopped without goodbyes.
    leaving: Option<Instant>,
    failed: Option<Failure>,
}

impl Show {
    async fn follow(&mut self, mut running: Running) -> Result<(), Failure> {
        let mut node = running.handle.clone();
        let mut signals = Signals::new()?;
        loop {
            let deadline = self.leaving.unwrap_or_else(|| Instant::now() + NEVER);
            let room = self.output.has_room();
            tokio::select! {
                news = self.output.news(!room) => {
                    if let Some(error) = news {
                        self.output_broke(&error, &node);
                    }
                }
                // Who leaves does not wait for a reader who does not read.
                event = running.events.recv(), if room || self.leaving.is_some() => match event {
                    Some(event) => self.happened(&event, &node),
                    None => break,
                },
                // Who shows no status is not woken for each.
                Ok(()) = node.status.changed(), if !matches!(self.face, Face::Json) => self.status(&node),
                Ok(()) = node.invite.changed() => self.new_invite(&node),
                () = signals.next() => {
                    if self.leaving.is_some() {
                        running.abort();
                    } else {
                        self.note("leaving the party (once more to stop at once)");
                        self.leave(&node);
                    }
                }
                ended = wait(&mut self.game) => {
                    self.game = None;
                    self.game_ended(ended, &node);
                }
                () = sleep_until(deadline) => {
                    tracing::warn!("goodbyes took too long; stopping without them");
                    running.abort();
                    self.leaving = Some(Instant::now() + NEVER);
                }
            }
        }
        if let Some(error) = self.output.finish().await {
            self.output_broke(&error, &node);
        }
        running.wait()?;
        self.note("left the party");
        Ok(())
    }

    fn happened(&mut self, event: &Event, node: &NodeHandle) {
        self.event(event);
        if matches!(event, Event::Ready { .. }) && !self.command.is_empty() && self.game.is_none() {
            let command = std::mem::take(&mut self.command);
            if let Err(failure) = self.start_game(&command) {
                self.failed = Some(failure);
                self.leave(node);
            }
        }
    }

    fn event(&mut self, event: &Event) {
        let mut line = Vec::new();
        // Writing into memory does not fail.
        let _ = match &mut self.face {
            Face::Json => json::write(event, &mut line),
            Face::Plain(plain) => plain.write(event, &mut line),
            Face::Live(live) => {
                live.event(event);
                Ok(())
            }
        };
        if !line.is_empty() {
            self.output.write(line);
        }
    }

    /// A closed pipe is how its reader says that it has seen enough; a full disk is not.
    fn output_broke(&mut self, error: &io::Error, node: &NodeHandle) {
        if error.kind() != io::ErrorKind::BrokenPipe && self.failed.is_none() {
            let what = format!("what happens cannot be written to standard output: {error}");
            let hint = "check where the output goes (is the disk full?); the party was left";
            self.failed = Some(Failure::new("output", what, hint));
        }
        self.leave(node);
    }

    fn status(&mut self, node: &NodeHandle) {
        let mut lines = Vec::new();
        match &mut self.face {
            Face::Live(live) => live.status(&node.status.borrow()),
            // Writing into memory does not fail.
            Face::Plain(plain) => drop(plain.status(&node.status.borrow(), &mut lines)),
            Face::Json => {}
        }
        if !lines.is_empty() {
            self.output.write(lines);
        }
    }

    fn new_invite(&mut self, node: &NodeHandle) {
        if let Face::Live(live) = &mut self.face {
            live.new_invite(&node.invite.borrow());
        }
    }

    fn note(&self, text: &str) {
        match &self.face {
            Face::Live(live) => live.note(text),
            Face::Json | Face::Plain(_) => tracing::info!("{text}"),
        }
    }

    fn leave(&mut self, node: &NodeHandle) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now() + GOODBYE);
            // A full queue means a node that does not listen: the deadline deals with it.
            let _ = node.commands.try_send(Command::Leave);
        }
    }

    fn start_game(&mut self, command: &[OsString]) -> Result<(), Failure> {
        let Some((program, arguments)) = command.split_first() else { return Ok(()) };
        let mut start = tokio::process::Command::new(program);
        start.args(arguments);
        #[cfg(unix)]
        as_player(&mut start, |name| std::env::var(name).ok());
        if matches!(self.face, Face::Json) {
            // Standard output belongs to the events.
            start.stdout(stderr()?);
        }
        let child = start.spawn().map_err(|e| {
            let what = format!("the game `{}` cannot be started: {e}", program.to_string_lossy());
            Failure::new("no_command", what, "check the command after `--`")
        })?;
        self.game = Some(child);
        Ok(())
    }

    fn game_ended(&mut self, ended: io::Result<ExitStatus>, node: &NodeHandle) {
        match ended {
            Ok(status) if status.success() => self.note("the game has ended"),
            // Who leaves takes the game along: Ctrl-C reaches both.
            Ok(_) if self.leaving.is_some() => self.note("the game has ended"),
            Ok(status) => {
                let what = format!("the game `{}` has ended with {status}", self.wrapped);
                let hint = "start it without lanrage to see whether it fails there too; the party was left";
                self.failed = Some(Failure::new("game_failed", what, hint));
            }
            Err(error) => tracing::warn!("the game cannot be watched: {error}"),
        }
        self.leave(node);
    }
}

/// This process' standard error, for a child's output.
fn stderr() -> io::Result<Stdio> {
    #[cfg(unix)]
    let copy = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned()?;
    #[cfg(windows)]
    let copy = std::os::windows::io::AsHandle::as_handle(&io::stderr()).try_clone_to_owned()?;
    Ok(copy.into())
}

async fn wait(game: &mut Option<Child>) -> io::Result<ExitStatus> {
    match game {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

/// Whoever starts lanrage with `sudo` means lanrage, not the game: the game runs as the player. `variable` reads the
/// environment, where sudo says who that is; only root can change to somebody else, so for all others this does nothing.
#[cfg(unix)]
fn as_player(game: &mut tokio::process::Command, variable: impl Fn(&str) -> Option<String>) -> bool {
    let id = |name| variable(name).and_then(|text| text.parse::<u32>().ok()).filter(|id| *id != 0);
    let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) else { return false };
    // The owner of a process's entry is its effective user.
    if !std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
        return false;
    }
    game.uid(user).gid(group);
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::as_player;

    #[test]
    fn with_sudo_the_game_is_the_players_and_not_roots() {
        let mut id = tokio::process::Command::new("id");
        id.arg("-u");
        let sudo = |name: &str| Some(if name == "SUDO_UID" { "1234" } else { "1235" }.to_owned());
        let root = as_player(&mut id, sudo);
        let out = id.into_std().output().unwrap();
        let user = String::from_utf8(out.stdout).unwrap();
        assert_eq!(user.trim() == "1234", root, "only root can become somebody else: {user}");
        assert!(!as_player(&mut tokio::process::Command::new("id"), |_| None));
        assert!(!as_player(&mut tokio::process::Command::new("id"), |_| Some("0".to_owned())));
    }
}
