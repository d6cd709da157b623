//! `lanrage plugin`: the workshop. `new` makes a plugin that works, `check` says all that is wrong with one, `test` runs it.
//!
//! The files are read and written here; what is tried with them is `plugin::testing` and `plugin::lint`, which are pure.

mod check;
mod folder;
mod new;
mod test;
mod told;

use super::failure::Failure;
use super::print;
use crate::ui::cli::plugin_args::PluginCommand;
use std::process::ExitCode;

/// Runs one of them.
///
/// # Errors
/// What went wrong, and what to try.
pub fn run(command: PluginCommand) -> Result<ExitCode, Failure> {
    let (text, good) = match command {
        PluginCommand::New(args) => (new::run(&args)?, true),
        PluginCommand::Check { dir } => check::run(&dir)?,
        PluginCommand::Test(args) => test::run(&args)?,
        PluginCommand::List { .. } | PluginCommand::Add(_) | PluginCommand::Remove { .. } => {
            return Err(Failure::new("later", "this part of `lanrage plugin` is not in this version", ""));
        }
    };
    print(text.as_bytes())?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
