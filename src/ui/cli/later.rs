//! What later versions will understand. It is not listed in any help text; whoever types it is told that it is not a slip of the
//! finger but a thing to come, and what to do until then.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A word that will mean something, what to say of it, and what to do until then.
const LATER: &[(&str, &str, &str)] = &[
    ("--dev", "`lanrage run --dev`", "`lanrage plugin test` runs a plugin without a party"),
    ("ui", "`lanrage ui`", "`lanrage status` shows the same on the terminal"),
    (
        "record",
        "`lanrage games record`",
        "write a profile by hand: `lanrage games show` prints one to start from",
    ),
    (
        "learn",
        "`lanrage games learn`",
        "write a profile by hand: `lanrage games show` prints one to start from",
    ),
];

/// Better words for an error about something that is still to come; any other error unchanged.
pub(super) fn explain(error: clap::Error) -> clap::Error {
    // Each of the two kinds of error names its word; the contexts exclude each other.
    let named = error.get(ContextKind::InvalidSubcommand).or_else(|| error.get(ContextKind::InvalidArg));
    let unknown = matches!(error.kind(), ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument);
    let Some(ContextValue::String(word)) = named.filter(|_| unknown) else { return error };
    let word = word.split('=').next().unwrap_or_default();
    let Some((_, what, instead)) = LATER.iter().find(|(name, _, _)| *name == word) else { return error };
    super::args::LowArgs::command().error(
        ErrorKind::UnknownArgument,
        format!("{what} is not in this version of lanrage\n\n  tip: {instead}"),
    )
}
