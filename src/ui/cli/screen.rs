//! The terminal that a live view and the log share: lines that stay scroll up, and below them stands a block that is redrawn.
//!
//! No alternate screen and no raw mode: what was said stays in the terminal's history, keys and Ctrl-C work as ever. Every
//! line of the block is cut to the terminal's width, because a wrapped line would make the count wrong that erasing needs.

use ratatui::crossterm::cursor::{MoveToColumn, MoveUp};
use ratatui::crossterm::queue;
use ratatui::crossterm::style::Print;
use ratatui::crossterm::terminal::{Clear, ClearType};
use ratatui::text::Span;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What a terminal of unknown size is taken for.
const USUAL: (u16, u16) = (80, 24);

/// Shared by cloning.
#[derive(Debug, Clone, Default)]
pub struct Screen(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Whether the block is being shown.
    live: bool,
    block: Vec<String>,
    /// Lines of the block that are on the terminal now.
    drawn: u16,
}

impl Screen {
    /// Columns and lines.
    #[must_use]
    pub fn size() -> (u16, u16) {
        match ratatui::crossterm::terminal::size() {
            Ok((columns @ 20.., lines @ 3..)) => (columns, lines),
            Ok(_) | Err(_) => USUAL,
        }
    }

    /// From now on the block is shown.
    pub fn open(&self) {
        self.with(|state, _| {
            state.live = true;
            Ok(())
        });
    }

    /// Takes the block away; later lines are plain again.
    pub fn close(&self) {
        self.with(|state, out| {
            state.erase(out)?;
            state.live = false;
            state.block.clear();
            Ok(())
        });
    }

    /// Prints text that stays, above the block.
    pub fn print(&self, text: &str) {
        self.with(|state, out| {
            state.erase(out)?;
            queue!(out, Print(text.trim_end_matches('\n').replace('\n', "\r\n")), Print("\r\n"))?;
            state.draw(out)
        });
    }

    /// Prints a sentence, folded at the terminal's width.
    pub fn say(&self, sentence: &str) {
        let (columns, _) = Self::size();
        self.print(&fold(sentence, usize::from(columns) - 1));
    }

    /// Replaces the block.
    pub fn show(&self, block: Vec<String>) {
        self.with(|state, out| {
            if state.live && block != state.block {
                state.erase(out)?;
                state.block = block;
                state.draw(out)?;
            }
            Ok(())
        });
    }

    /// Prints a line of the log: above the block when both share a terminal, else to standard error.
    pub fn log(&self, line: &str) {
        if self.is_live() && io::stderr().is_terminal() {
            self.print(line);
        } else {
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    fn is_live(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).live
    }

    /// A terminal that went away is no reason to stop a party: errors are let go.
    fn with(&self, act: impl FnOnce(&mut State, &mut io::StdoutLock<'_>) -> io::Result<()>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = io::stdout().lock();
        let _ = act(&mut state, &mut out).and_then(|()| out.flush());
    }
}

impl State {
    fn erase(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.drawn > 0 {
            queue!(out, MoveToColumn(0), MoveUp(self.drawn), Clear(ClearType::FromCursorDown))?;
            self.drawn = 0;
        }
        Ok(())
    }

    fn draw(&mut self, out: &mut impl Write) -> io::Result<()> {
        if !self.live {
            return Ok(());
        }
        let (columns, lines) = Screen::size();
        for line in self.block.iter().take(usize::from(lines) - 1) {
            queue!(out, Print(fit(line, usize::from(columns) - 1)), Print("\r\n"))?;
            self.drawn += 1;
        }
        Ok(())
    }
}

/// Columns that a text takes; some characters take two.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// A text cut to a number of columns.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if width(&out) >= columns {
            out.pop();
            break;
        }
    }
    out + "…"
}

/// A sentence on as many lines as it needs; all but the first are indented. Words longer than a line stay whole.
pub(super) fn fold(text: &str, columns: usize) -> String {
    let (mut out, mut used, mut empty) = (String::new(), 0, true);
    for word in text.split(' ') {
        let long = width(word);
        if !empty && used + 1 + long > columns {
            out.push_str("\n  ");
            used = 2;
        } else if !empty {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        (used, empty) = (used + long, false);
    }
    out
}

/// A text cut or filled up to a number of columns.
pub(super) fn cell(text: &str, columns: usize) -> String {
    let mut out = fit(text, columns);
    out.extend(std::iter::repeat_n(' ', columns - width(&out)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_their_columns_whatever_they_are_written_in() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fold("one two three four", 9), "one two\n  three\n  four");
        assert_eq!(fold("short", 9), "short");
        assert_eq!(fold("a averyverylongword b", 9), "a\n  averyverylongword\n  b");
        for text in ["", "abc", "世界の友達", "a世b界c", "ääääääääää"] {
            for columns in 1..9 {
                assert_eq!(width(&cell(text, columns)), columns, "{text} in {columns}");
            }
        }
    }
}
