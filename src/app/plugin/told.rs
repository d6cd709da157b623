//! How the workshop tells what is wrong.

use crate::app::failure::Failure;
use crate::rules::diagnostic::Diagnostic;
use std::fmt::Write;

/// One line a mistake, then each with its line of the file.
#[must_use]
pub(super) fn all(wrong: &[Diagnostic]) -> String {
    let mut out = String::new();
    for one in wrong {
        let _ = writeln!(out, "{one}");
    }
    for one in wrong {
        let _ = write!(out, "\n{}\n", one.render());
    }
    out
}

/// `1 mistake`, `2 mistakes`.
#[must_use]
pub(super) fn counted(n: impl TryInto<u64>, one: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// That a plugin cannot be run, and why.
#[must_use]
pub(super) fn wrong_folder(wrong: &[Diagnostic]) -> Failure {
    let what = format!("{}\n{}", counted(wrong.len(), "mistake"), all(wrong));
    Failure::new("bad_plugin", what, "correct it; docs/plugins/ tells what belongs where")
}
