//! The program as a player has it, whatever this computer's `LANRAGE_*` variables say.

use std::process::{Command, Output};

/// Windows' "internal error". Wine says it when the new process died in Wine's own loader, before its first instruction.
const DIED_UNBORN: i32 = 1359;

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanrage"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LANRAGE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it to its end. Where it could not even begin, and that is Wine's doing, it is started again; whatever the program
/// itself does counts the first time.
pub(crate) fn run(command: &mut Command) -> Output {
    for _ in 0..3 {
        match command.output() {
            Err(e) if cfg!(windows) && e.raw_os_error() == Some(DIED_UNBORN) => {}
            ended => return ended.expect("the program runs"),
        }
    }
    panic!("the program could not be started three times in a row");
}
