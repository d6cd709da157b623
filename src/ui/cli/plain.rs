//! `run` without a terminal: a plain line for each event.

use super::words::{Explained, Names, sentence};
use crate::model::status::{Event, Status};
use std::io::{self, Write};

/// Remembers names, writes lines.
#[derive(Debug, Default)]
pub struct Plain {
    names: Names,
    explained: Explained,
}

impl Plain {
    /// Writes the line of an event, if it has one.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn write(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        self.names.note(event);
        if let Some(line) = sentence(event, &self.names) {
            writeln!(out, "{line}")?;
            out.flush()?;
        }
        Ok(())
    }

    /// Writes what a status has to tell that no event told: why somebody stays on a relay.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn status(&mut self, status: &Status, out: &mut dyn Write) -> io::Result<()> {
        for line in self.explained.news(status) {
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}
