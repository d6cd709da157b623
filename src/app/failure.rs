//! How a command fails: what people and scripts are told, and the exit code.

use crate::model::status::Trouble;
use std::fmt::Write;

/// A command that did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// 1 failed, 2 wrong usage.
    pub exit: u8,
    /// What happened, where, what to try.
    pub trouble: Trouble,
}

impl Failure {
    /// Something did not work.
    pub fn new(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Trouble::new(code, message, hint).into()
    }

    /// The command line is wrong.
    pub fn usage(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: 2, trouble: Trouble::new(code, message, hint) }
    }

    /// For standard error.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("error: {}\n", harmless(self.trouble.message.trim_end()));
        if !self.trouble.hint.is_empty() {
            let _ = writeln!(out, "  try: {}", harmless(&self.trouble.hint));
        }
        out
    }
}

/// Messages quote files, folders and names that others wrote: what would steer the terminal is shown instead of done.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self { exit: 1, trouble }
    }
}

/// The last resort, for errors that carry no hint of their own.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // Some contexts repeat their cause; people should read it once.
        let mut message = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !message.contains(&cause) {
                message = format!("{message}: {cause}");
            }
        }
        Self::new("failed", message, "")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new("io", error.to_string(), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_texts_of_others_cannot_steer_the_terminal() {
        let failure = Failure::new("bad", "line 1:\n\u{1b}[2J\u{9b}31m\r\tü", "here: \u{7}Bob");
        assert_eq!(failure.text(), "error: line 1:\n\\u{1b}[2J\\u{9b}31m\\r\tü\n  try: here: \\u{7}Bob\n");
    }
}
