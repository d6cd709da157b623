//! The command's side: one question, and a bounded wait for the answer.

use super::door::{self, Kind, Wire};
use super::{ANSWER_BYTES, Answer, EFFECT, MEASUREMENT, PATIENCE, Request, Sealed};
use crate::app::failure::Failure;
use crate::model::status::Trouble;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// A question to the running node of a data folder.
#[derive(Debug)]
pub struct Client<'a> {
    data_dir: &'a Path,
    kind: Kind,
}

impl<'a> Client<'a> {
    /// The node of this folder.
    #[must_use]
    pub const fn new(data_dir: &'a Path) -> Self {
        Self { data_dir, kind: Kind::usual() }
    }

    #[cfg(test)]
    pub(super) const fn with(kind: Kind, data_dir: &'a Path) -> Self {
        Self { data_dir, kind }
    }

    /// Asks. After `Leave` it returns when the node has ended.
    ///
    /// # Errors
    /// When no node runs, when it does not answer in time, or when it says no.
    pub fn ask(&self, request: Request) -> Result<Answer, Failure> {
        let leaving = request == Request::Leave;
        let wait = if matches!(request, Request::Bench { .. }) { MEASUREMENT + PATIENCE } else { EFFECT };
        let (mut stream, token) = door::knock(self.kind, self.data_dir, wait)?;
        let answer = exchange(&mut *stream, &Sealed { token, request }).map_err(|e| silent(&e))?;
        if let Answer::Trouble { code, message, hint } = answer {
            return Err(Trouble { code, message, hint }.into());
        }
        if leaving {
            // The node holds the line until it has ended; a timeout here means that it still says its goodbyes.
            stream.read_to_end(&mut Vec::new()).map_err(|_| slow())?;
        }
        Ok(answer)
    }
}

fn exchange(stream: &mut dyn Wire, sealed: &Sealed) -> io::Result<Answer> {
    let mut request = serde_json::to_vec(sealed)?;
    request.push(b'\n');
    stream.write_all(&request)?;
    stream.flush()?;
    let mut line = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

fn silent(error: &io::Error) -> Failure {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    let kind = error.kind();
    let what = if matches!(kind, WouldBlock | TimedOut) {
        "the running node does not answer".to_owned()
    } else if matches!(kind, UnexpectedEof | BrokenPipe | ConnectionReset) {
        "the running node closed the line without an answer".to_owned()
    } else {
        format!("the running node answers nonsense: {error}")
    };
    Failure::new("no_answer", what, "try again; if it stays so, stop the node with Ctrl-C and start it again")
}

fn slow() -> Failure {
    Failure::new(
        "no_answer",
        "the node was told to leave, but it has not ended yet",
        "wait a little, or stop it with Ctrl-C",
    )
}
