//! The program's log: on standard error, and above the live view where both share a terminal.

use crate::ui::cli::screen::Screen;
use std::io::{self, IsTerminal, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts the log. `LANRAGE_LOG` (such as `lanrage=debug`) decides, else how often `-v` was typed.
pub fn start(verbose: u8, filter: Option<&str>, screen: Screen) {
    let usual = match verbose {
        // WireGuard's crate warns of every unanswered handshake; what that means for a player is said as an event.
        0 => "warn,boringtun=off",
        1 => "warn,lanrage=info,boringtun=off",
        2 => "info,lanrage=debug",
        _ => "debug,lanrage=trace",
    };
    let chosen = filter.and_then(|f| EnvFilter::try_new(f).ok()).unwrap_or_else(|| EnvFilter::new(usual));
    let colour = io::stderr().is_terminal() && wants_colour();
    let log = tracing_subscriber::fmt().with_env_filter(chosen).with_ansi(colour).with_target(verbose > 1);
    // A second start in one process (tests) keeps the first log.
    let _ = log.with_writer(ToScreen(screen)).try_init();
    if filter.is_some_and(|f| EnvFilter::try_new(f).is_err()) {
        tracing::warn!("LANRAGE_LOG cannot be understood; write a level, or pairs such as lanrage=debug");
    }
}

/// <https://no-color.org>: any value but the empty one says no.
#[must_use]
pub fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

struct ToScreen(Screen);

impl<'a> MakeWriter<'a> for ToScreen {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line { screen: self.0.clone(), text: Vec::new() }
    }
}

/// One entry, printed as a whole so that lines of several threads do not mix.
struct Line {
    screen: Screen,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.screen.log(&String::from_utf8_lossy(&self.text));
        }
    }
}
