//! Puts the parts together: configuration, running a node, serving, talking to a running node.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this side of the seam does I/O")]

pub mod bridge;

/// Runs the program.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
