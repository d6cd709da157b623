//! Puts the parts together: configuration, running a node, serving, talking to a running node.
//!
//! * `config`: flags, variables and the config file become a `RunConfig` that cannot be wrong
//! * `bridge`: a node with everything around it; `run`: one in the foreground; `serve`: a control server
//! * `ipc`: `status`, `invite`, `leave`, `kick` and `bench` talk to the node that runs with the same data folder
//! * `doctor`: looks at this computer, the servers and each pair
//! * `games`: the profiles; `plugin`: making plugins, `plugins`: having them
//! * `output`: standard output, for `run`
//! * `failure`: what a command says when it did not work, and its exit code; `log`: standard error
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this side of the seam does I/O")]

pub mod bridge;
pub mod config;
pub mod doctor;
pub mod failure;
pub mod games;
pub mod ipc;
pub mod log;
pub mod plugin;
pub mod plugins;
pub mod run;
pub mod serve;
pub mod signals;

mod output;

use crate::model::status::Event;
use crate::rules::shipped::Catalog;
use crate::ui::cli::args::{self, BenchArgs, Command, DoctorArgs, GamesCommand, GlobalArgs, LowArgs};
use crate::ui::cli::bench as measured;
use crate::ui::cli::doctor as examined;
use crate::ui::cli::invite::{self, Room};
use crate::ui::cli::plugin_args::PluginCommand;
use crate::ui::cli::screen::Screen;
use crate::ui::cli::status::View;
use crate::ui::cli::{json, pages};
use config::layers::{Layers, Variables};
use config::{RunConfig, ServeConfig};
use failure::Failure;
use ipc::{Answer, Client, Request};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

/// Runs the program: arguments in, exit code out.
#[must_use]
pub fn main() -> ExitCode {
    let low = match args::parse(std::env::args_os()) {
        Ok(low) => low,
        Err(told) => {
            // Help and version go to standard output and are no failure; clap knows.
            let _ = told.print();
            return ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(2));
        }
    };
    let (variables, screen) = (variables(), Screen::default());
    log::start(low.global.verbose, variables.get("LANRAGE_LOG").map(String::as_str), screen.clone());
    let as_events = wants_events(&low.command, &variables);
    match dispatch(low, &variables, screen) {
        Ok(code) => code,
        Err(failure) => {
            let _ = io::stderr().write_all(failure.text().as_bytes());
            if as_events {
                let mut line = Vec::new();
                let _ = json::write(&Event::Error(failure.trouble.clone()), &mut line);
                output::last_word(line);
            }
            ExitCode::from(failure.exit)
        }
    }
}

fn dispatch(low: LowArgs, variables: &Variables, screen: Screen) -> Result<ExitCode, Failure> {
    let global = low.global;
    let done = match low.command {
        Command::Doctor(args) => return examine(&global, &args, variables),
        Command::Run(run) => {
            let layers = warned(config::for_run(&global, &run, variables)?);
            run::run(RunConfig::check(&global, &run, &layers)?, screen)
        }
        Command::Server(server) => {
            let layers = warned(config::for_server(&global, &server, variables)?);
            serve::serve(ServeConfig::check(&global, &layers)?)
        }
        Command::Status { json } => status(&global, variables, json),
        Command::Invite { json } => show_invite(&global, variables, json),
        Command::Leave => done(ask(&global, variables, Request::Leave)?),
        Command::Kick { peer } => done(ask(&global, variables, Request::Kick { peer })?),
        Command::Bench(args) => bench(&global, variables, args),
        Command::Games { command } => show_games(&global, variables, command),
        Command::Plugin { command: PluginCommand::List { json } } => {
            print(plugins::list(&global, variables, json)?.as_bytes())
        }
        Command::Plugin { command: PluginCommand::Add(args) } => {
            print(plugins::add(&global, variables, &args)?.as_bytes())
        }
        Command::Plugin { command: PluginCommand::Remove { id } } => {
            print(plugins::remove(&global, variables, &id)?.as_bytes())
        }
        Command::Plugin { command } => return plugin::run(command),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            pages::completions(shell, &mut text);
            print(&text)
        }
        Command::Man { command, dir } => man(command.as_deref(), dir.as_deref()),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// What was found is the answer, also where something is a problem; only the exit code tells.
fn examine(global: &GlobalArgs, args: &DoctorArgs, variables: &Variables) -> Result<ExitCode, Failure> {
    if !args.json && io::stdout().is_terminal() {
        print(b"looking at this PC, its router and the servers \xe2\x80\xa6\n")?;
    }
    let checkup = doctor::doctor(global, args, variables)?;
    if args.json {
        let text =
            serde_json::to_string(&checkup).map_err(|e| Failure::new("internal", e.to_string(), ""))?;
        print(format!("{text}\n").as_bytes())?;
    } else {
        let columns = if io::stdout().is_terminal() { usize::from(Screen::size().0) } else { 100 };
        let colour = io::stdout().is_terminal() && log::wants_colour();
        print(examined::text(&checkup, columns, colour).as_bytes())?;
    }
    Ok(if checkup.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn status(global: &GlobalArgs, variables: &Variables, json: bool) -> Result<(), Failure> {
    let Answer::Status { status } = ask(global, variables, Request::Status)? else { return Err(strange()) };
    if json {
        return print(format!("{status}\n").as_bytes());
    }
    print(View::read(&status).map_err(|_| strange())?.table().as_bytes())
}

fn bench(global: &GlobalArgs, variables: &Variables, args: BenchArgs) -> Result<(), Failure> {
    if !args.json && io::stdout().is_terminal() {
        let long = if args.quick { "three seconds" } else { "a dozen seconds" };
        print(format!("measuring for about {long} …\n").as_bytes())?;
    }
    let request = Request::Bench { peer: args.peer, quick: args.quick };
    let Answer::Bench { bench } = ask(global, variables, request)? else { return Err(strange()) };
    if args.json {
        return print(format!("{bench}\n").as_bytes());
    }
    print(measured::View::read(&bench).map_err(|_| strange())?.table().as_bytes())
}

fn show_invite(global: &GlobalArgs, variables: &Variables, json: bool) -> Result<(), Failure> {
    let Answer::Invite { invite } = ask(global, variables, Request::Invite)? else { return Err(strange()) };
    let forms = run::forms(&invite).ok_or_else(strange)?;
    if json {
        let object = serde_json::json!({"invite": forms.text, "link": forms.link, "qr": forms.qr});
        return print(format!("{object}\n").as_bytes());
    }
    if !io::stdout().is_terminal() {
        return print(invite::plain(&forms).as_bytes());
    }
    // Who asks for the invite gets the code, whatever scrolls away above it.
    let (columns, _) = Screen::size();
    let room = Room { columns: columns.into(), lines: usize::MAX, colour: log::wants_colour() };
    print(invite::pretty(&forms, room).as_bytes())
}

fn show_games(global: &GlobalArgs, variables: &Variables, command: GamesCommand) -> Result<(), Failure> {
    let catalog = || -> Result<Catalog, Failure> {
        let layers = warned(config::common(global, variables)?);
        let data_dir = config::data_dir(global, &layers)?;
        let (own, _) = plugins::found::gather(&data_dir, || config::profiles(&layers, &data_dir), None)?;
        let catalog = Catalog::new(own);
        catalog.wrong.iter().for_each(|wrong| tracing::warn!("{wrong}"));
        Ok(catalog)
    };
    let text = match command {
        GamesCommand::List { json: true } => games::list_json(&catalog()?),
        GamesCommand::List { json: false } => games::list(&catalog()?),
        GamesCommand::Show { id } => games::show(&catalog()?, &id)?,
        GamesCommand::Check { file } => games::check(&catalog()?, &file)?,
        GamesCommand::Schema => crate::rules::schema::text(),
        GamesCommand::Learn(args) => games::learn::learn(&args)?,
        GamesCommand::Record(args) => games::record::record(&args)?,
        GamesCommand::Replay(args) => games::replay::replay(&args, &catalog()?)?,
    };
    print(text.as_bytes())
}

fn man(command: Option<&str>, dir: Option<&Path>) -> Result<(), Failure> {
    if let Some(dir) = dir {
        let failed = |e: io::Error| {
            let what = format!("the manual pages cannot be written to {}: {e}", dir.display());
            Failure::new("man_unwritable", what, "name a folder that you may write to")
        };
        let files = pages::man_files(dir).map_err(failed)?;
        let names: String = files.iter().map(|f| format!("{}\n", f.display())).collect();
        return print(names.as_bytes());
    }
    let mut text = Vec::new();
    if pages::man(command, &mut text)? {
        return print(&text);
    }
    let what = format!("lanrage has no command `{}`", command.unwrap_or_default().escape_debug());
    Err(Failure::usage("no_command", what, "`lanrage help` lists all commands"))
}

fn ask(global: &GlobalArgs, variables: &Variables, request: Request) -> Result<Answer, Failure> {
    let layers = warned(config::common(global, variables)?);
    Client::new(&config::data_dir(global, &layers)?).ask(request)
}

fn done(answer: Answer) -> Result<(), Failure> {
    match answer {
        Answer::Done { text } => print(format!("{text}\n").as_bytes()),
        Answer::Status { .. }
        | Answer::Invite { .. }
        | Answer::Check { .. }
        | Answer::Bench { .. }
        | Answer::Trouble { .. } => Err(strange()),
    }
}

fn strange() -> Failure {
    let what = "the running node gave an answer that this lanrage does not understand";
    Failure::new("other_version", what, "use the same version of lanrage for both")
}

/// A closed pipe (`lanrage games list | head`) is no failure.
fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn warned(layers: Layers) -> Layers {
    layers.warnings.iter().for_each(|w| tracing::warn!("{w}"));
    layers
}

/// Whether failures are told on standard output too.
fn wants_events(command: &Command, variables: &Variables) -> bool {
    let by_variable =
        variables.get("LANRAGE_JSON").is_some_and(|v| matches!(v.trim(), "1" | "true" | "yes" | "on"));
    matches!(command, Command::Run(run) if run.json || by_variable)
}

/// All `LANRAGE_*` variables that are text.
fn variables() -> Variables {
    let ours = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    ours.filter(|(name, _)| name.starts_with("LANRAGE_")).collect()
}
