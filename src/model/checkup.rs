//! What `lanrage doctor` found, for people and scripts. The JSON names and the codes are a contract (`docs/doctor.md`).

use super::status::{NatStatus, Trouble};
use serde::Serialize;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Worth knowing; playing works.
    Note,
    /// Something does not work, or will not.
    Problem,
}

/// What something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// This computer.
    Pc,
    /// The router between it and the internet.
    Router,
    /// Servers and relays.
    Servers,
    /// The running party.
    Party,
    /// The way to each of the others.
    Peers,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub section: Section,
    /// How good it is.
    pub mark: Mark,
    /// A stable word for scripts.
    pub code: String,
    /// What was found, with the evidence, in a sentence.
    pub found: String,
    /// What to try; empty when there is nothing to be done.
    pub r#try: String,
    /// The peer, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Why it is no better, the most important reason first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Trouble>,
}

impl Finding {
    /// Something with nothing to be done about it.
    pub fn new(section: Section, mark: Mark, code: &str, found: impl Into<String>) -> Self {
        Self {
            section,
            mark,
            code: code.to_owned(),
            found: found.into(),
            r#try: String::new(),
            peer: None,
            advice: Vec::new(),
        }
    }

    /// The same with something to try.
    #[must_use]
    pub fn with_try(mut self, what: impl Into<String>) -> Self {
        self.r#try = what.into();
        self
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// Nothing is a problem.
    pub ok: bool,
    /// The program's version.
    pub version: String,
    /// The running party, if there is one.
    pub party: Option<String>,
    /// How long looking took.
    pub took_ms: u64,
    /// What is known about the router; the fields of `status`.
    pub nat: NatStatus,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Checkup {
    /// How many findings have this mark.
    #[must_use]
    pub fn count(&self, mark: Mark) -> usize {
        self.findings.iter().filter(|f| f.mark == mark).count()
    }
}
