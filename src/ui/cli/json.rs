//! `run --json`: one object a line, written and flushed at once, so that whoever reads a pipe sees each event when it happens.

use crate::model::status::Event;
use std::io::{self, Write};

/// Writes one event.
///
/// # Errors
/// When nobody reads any more.
pub fn write(event: &Event, out: &mut dyn Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::Trouble;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut out = Vec::new();
        let trouble = Trouble::new("code", "two\nlines \u{1b}[31m", "hint");
        write(&Event::Warning(trouble), &mut out).unwrap();
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(out.last(), Some(&b'\n'));
        assert!(!out.contains(&0x1b), "control characters are escaped");
    }
}
