//! `lanrage plugin`: the workshop (`new`, `check`, `test`).

use super::failure::Failure;
use crate::ui::cli::plugin_args::PluginCommand;
use std::process::ExitCode;

/// Runs one of them.
///
/// # Errors
/// What went wrong, and what to try.
pub fn run(command: PluginCommand) -> Result<ExitCode, Failure> {
    match command {
        PluginCommand::New(_)
        | PluginCommand::Check { .. }
        | PluginCommand::Test(_)
        | PluginCommand::List { .. }
        | PluginCommand::Add(_)
        | PluginCommand::Remove { .. } => {
            Err(Failure::new("later", "`lanrage plugin` is not in this version", ""))
        }
    }
}
