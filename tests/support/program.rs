//! The program as a player has it, whatever this computer's `LANRAGE_*` variables say.

use std::process::Command;

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanrage"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LANRAGE_") {
            command.env_remove(name);
        }
    }
    command
}
