//! Standard output behind a thread of its own. Whoever reads what `run` prints may stop reading without closing the pipe, and a
//! write then waits for ever: the thread may do that, but Ctrl-C, deadlines and the wrapped game have to be heard meanwhile.
//!
//! Lines wait in a bounded queue; while it is full its owner takes no further events, so that the node counts what is lost.

use crate::host::threads;
use crate::model::status::Trouble;
use std::future::pending;
use std::io::{self, Write};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Lines that may wait for their reader.
const LINES: usize = 256;
/// At the end, for a reader who is merely slow.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Standard output.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` after `finish`.
    lines: Option<mpsc::Sender<Vec<u8>>>,
    /// Why nothing can be written any more; closed when everything is written.
    ended: Option<oneshot::Receiver<io::Error>>,
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// `no_thread`.
    pub(super) fn start() -> Result<Self, Trouble> {
        Self::to(io::stdout())
    }

    fn to(mut out: impl Write + Send + 'static) -> Result<Self, Trouble> {
        let (lines, mut queue) = mpsc::channel::<Vec<u8>>(LINES);
        let (tell, ended) = oneshot::channel();
        threads::named("output", move || {
            while let Some(line) = queue.blocking_recv() {
                if let Err(error) = out.write_all(&line).and_then(|()| out.flush()) {
                    let _ = tell.send(error);
                    return;
                }
            }
        })?;
        Ok(Self { lines: Some(lines), ended: Some(ended) })
    }

    /// Whether a line would find room.
    pub(super) fn has_room(&self) -> bool {
        self.lines.as_ref().is_none_or(|lines| lines.capacity() > 0 || lines.is_closed())
    }

    /// Queues a line. One that finds no room is lost: ask `has_room` first.
    pub(super) fn write(&self, line: Vec<u8>) {
        let _ = self.lines.as_ref().map(|lines| lines.try_send(line));
    }

    /// Waits for news: an error when writing failed (told once), `None` when there is room in a queue that the caller found
    /// full.
    pub(super) async fn news(&mut self, full: bool) -> Option<io::Error> {
        let Self { lines, ended } = self;
        let room = async {
            match lines {
                Some(lines) if full => drop(lines.reserve().await),
                Some(_) | None => pending().await,
            }
        };
        let broken = async {
            match ended.as_mut() {
                Some(ended) => ended.await.ok(),
                None => pending().await,
            }
        };
        tokio::select! {
            () = room => None,
            told = broken => {
                *ended = None;
                told
            }
        }
    }

    /// Gives the last lines a moment; the error that they met, if it was not told before.
    pub(super) async fn finish(&mut self) -> Option<io::Error> {
        self.lines = None;
        timeout(LAST_LINES, self.ended.take()?).await.ok()?.ok()
    }
}

/// Writes a last line to standard output, but does not wait for a reader who does not read.
pub(super) fn last_word(line: Vec<u8>) {
    let (tell, told) = std::sync::mpsc::channel();
    let write = move || {
        let mut out = io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
        let _ = tell.send(());
    };
    if threads::named("last-word", write).is_ok() {
        let _ = told.recv_timeout(LAST_LINES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Takes a byte for each word it is given, then nothing.
    struct Stuck(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.1.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_stops_reading_holds_nobody_up_and_one_who_goes_is_told() {
        threads::data_runtime().unwrap().block_on(async {
            let ((word, words), (sent, got)) = (channel(), channel());
            let mut output = Output::to(Stuck(words, sent)).unwrap();
            // One more than the queue holds is in the thread's hands.
            for n in 0..=LINES {
                if !output.has_room() {
                    let news = timeout(Duration::from_secs(5), output.news(true)).await;
                    assert!(news.expect("the thread takes the first line").is_none());
                }
                output.write(n.to_string().into_bytes());
            }
            assert!(!output.has_room());
            let nothing = timeout(Duration::from_millis(50), output.news(true)).await;
            assert!(nothing.is_err(), "stuck is not broken");
            word.send(()).unwrap();
            let news = timeout(Duration::from_secs(5), output.news(true)).await;
            assert!(news.expect("room again").is_none());
            assert_eq!(got.recv().unwrap(), b"0");
            drop(word);
            let error =
                timeout(Duration::from_secs(5), output.news(false)).await.expect("told").expect("why");
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert!(output.has_room() && output.finish().await.is_none(), "nothing waits for a closed pipe");
        });
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        threads::data_runtime().unwrap().block_on(async {
            let ((word, words), (sent, got)) = (channel(), channel());
            let mut output = Output::to(Stuck(words, sent)).unwrap();
            (0..3).for_each(|n| output.write(vec![n]));
            (0..3).for_each(|_| word.send(()).unwrap());
            assert!(output.finish().await.is_none());
            assert_eq!(got.try_iter().collect::<Vec<_>>(), [[0], [1], [2]]);
        });
    }
}
