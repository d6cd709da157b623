//! From an error of the runtime to one line for people: which plugin, which file and line, what happened.
#![allow(clippy::wildcard_enum_match_arm, reason = "another crate's list of errors, which grows")]

use super::api::safe;
use super::budget::{Budget, Ended};
use super::code::module_name;
use crate::model::id::PluginId;
use std::borrow::Cow;

/// Characters of a message: a hostile script can raise an error of megabytes.
const CHARS: usize = 400;

/// An error, and whether the state can be used on.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) text: String,
    /// The state is not to be used again.
    pub(super) fatal: bool,
}

impl Fault {
    /// Something that the plugin did, in words.
    pub(super) fn said(id: &PluginId, place: &str, what: &str) -> Self {
        Self { text: line(id, place, what), fatal: false }
    }

    /// A call that was ended.
    pub(super) fn ended(id: &PluginId, place: &str, ended: Ended) -> Self {
        Self { text: line(id, place, &ended.to_string()), fatal: true }
    }

    /// An error of the runtime.
    pub(super) fn of(id: &PluginId, error: &mlua::Error, budget: &Budget) -> Self {
        if let Some(ended) = budget.ended() {
            return Self::ended(id, budget.place(), ended);
        }
        if is_memory(error) {
            return Self { text: line(id, "", "it used more memory than it may"), fatal: true };
        }
        let whole = match root(error) {
            mlua::Error::RuntimeError(text) | mlua::Error::SyntaxError { message: text, .. } => text.clone(),
            other => other.to_string(),
        };
        let (message, traceback) = match whole.find("\nstack traceback:") {
            Some(at) => (whole.get(..at).unwrap_or_default(), whole.get(at..).unwrap_or_default()),
            None => (whole.as_str(), ""),
        };
        let (place, what) = split_place(message);
        let known =
            place.is_some_and(|place| module_name(place.split(':').next().unwrap_or_default()).is_some());
        let place = if known { place.map(str::to_owned) } else { first_place(traceback) };
        Self { text: line(id, &place.unwrap_or_default(), &without_address(what)), fatal: false }
    }
}

/// An error that is an object is shown with its place in memory, which differs from run to run and helps nobody.
fn without_address(what: &str) -> Cow<'_, str> {
    // Windows writes sixteen digits and no `0x`.
    let hex = |address: &str| {
        let digits = address
            .strip_prefix("0x")
            .or_else(|| Some(address).filter(|a| a.len() == 16))
            .unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())
    };
    match what.split_once(": ") {
        Some((kind, address)) if hex(address) && kind.len() < 20 => {
            Cow::Owned(format!("the error is a {kind}; raise text: error(\"what went wrong\")"))
        }
        _ => Cow::Borrowed(what),
    }
}

fn line(id: &PluginId, place: &str, what: &str) -> String {
    let between = if place.is_empty() { "" } else { ": " };
    safe(&format!("plugin `{id}`: {place}{between}{what}"), CHARS)
}

/// The error inside errors that only say where it passed.
fn root(error: &mlua::Error) -> &mlua::Error {
    let mut error = error;
    for _ in 0..16 {
        match error {
            mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => {
                error = cause
            }
            _ => break,
        }
    }
    error
}

fn is_memory(error: &mlua::Error) -> bool {
    match root(error) {
        mlua::Error::MemoryError(_) => true,
        // A memory error that went through the script's own hands is only its text.
        mlua::Error::RuntimeError(text) => text.starts_with("not enough memory"),
        _ => false,
    }
}

/// `file:line: message` in its two parts.
fn split_place(message: &str) -> (Option<&str>, &str) {
    let Some((file, rest)) = message.split_once(':') else { return (None, message) };
    let Some((number, what)) = rest.split_once(": ") else { return (None, message) };
    let is_place = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !file.contains(' ');
    if !is_place {
        return (None, message);
    }
    (message.get(..file.len() + 1 + number.len()), what)
}

/// The innermost line of the plugin's own files in a traceback.
fn first_place(traceback: &str) -> Option<String> {
    traceback.lines().take(64).find_map(|entry| {
        let mut parts = entry.trim().split(':');
        let (file, number) = (parts.next()?, parts.next()?);
        let own =
            module_name(file).is_some() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        own.then(|| format!("{file}:{number}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_as_errors_are_told_without_an_address() {
        assert!(without_address("table: 0x000055d0").starts_with("the error is a table"));
        assert!(without_address("table: 0000000000512ae0").starts_with("the error is a table"));
        assert_eq!(without_address("port: 0x1g"), "port: 0x1g");
        assert_eq!(without_address("port: 6112"), "port: 6112");
        assert_eq!(without_address("plain"), "plain");
    }

    #[test]
    fn messages_and_tracebacks_give_their_place() {
        assert_eq!(split_place("main.luau:12: it broke: badly"), (Some("main.luau:12"), "it broke: badly"));
        assert_eq!(split_place("no place: here"), (None, "no place: here"));
        let traceback =
            "\nstack traceback:\n\t[C]: in function 'error'\n\tlanrage:7: in x\n\tlib/a.luau:3: in y";
        assert_eq!(first_place(traceback).as_deref(), Some("lib/a.luau:3"));
    }
}
