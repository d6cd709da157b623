//! A running program whose lines are kept with the time they came. Killed when dropped; its last words are shown when the
//! test fails.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::within;

const LAST_WORDS: usize = 40;

/// A line of output.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
    /// On standard error rather than standard output.
    pub(crate) error: bool,
}

#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Process {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {command:?}: {e}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        read(child.stdout.take().expect("piped"), false, &lines);
        read(child.stderr.take().expect("piped"), true, &lines);
        Self { name: name.into(), child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().expect("readers do not panic").clone()
    }

    /// The first line, of old and new ones, that `pick` makes something of.
    #[track_caller]
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        time: Duration,
        mut pick: impl FnMut(&Line) -> Option<T>,
    ) -> T {
        let found = within(time, || {
            let found = self.lines().iter().find_map(&mut pick);
            found.map(Some).or_else(|| self.has_ended().then_some(None))
        });
        match found.flatten().or_else(|| self.lines().iter().find_map(&mut pick)) {
            Some(found) => found,
            None => panic!("{}: no {what} within {time:?}{}", self.name, self.last_words()),
        }
    }

    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str, time: Duration) -> Line {
        self.wait(text, time, |line| line.text.contains(text).then(|| line.clone()))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success(), "{}: no process {pid} to send {signal} to", self.name);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    #[track_caller]
    pub(crate) fn wait_end(&mut self, time: Duration) -> ExitStatus {
        let end = within(time, || self.child.try_wait().expect("our own child"));
        // what it wrote last is still on its way through the pipe
        std::thread::sleep(Duration::from_millis(50));
        end.unwrap_or_else(|| panic!("{} did not end within {time:?}{}", self.name, self.last_words()))
    }

    pub(crate) fn last_words(&self) -> String {
        let lines = self.lines();
        let from = lines.len().saturating_sub(LAST_WORDS);
        let tail = lines.iter().skip(from).map(|l| format!("\n    {} | {}", self.name, l.text));
        tail.collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            super::say(&format!("what {} said last:{}", self.name, self.last_words()));
        }
    }
}

fn read(pipe: impl Read + Send + 'static, error: bool, lines: &Arc<Mutex<Vec<Line>>>) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for text in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&text).into_owned();
            let line = Line { at: Instant::now(), text, error };
            lines.lock().expect("no reader panics").push(line);
        }
    });
}
