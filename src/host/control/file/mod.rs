//! The carrier of a shared folder: `discovery.json` holds the parties and their peers' sealed records.
//!
//! * `document`: what stands in the file, and what of it is believed
//! * `lock`: one writer at a time, also where the file system has no locks
//! * `store`: read, change, rename; damaged files are kept aside
//! * `session`: one connection, as blocking steps
//!
//! Here the steps become a task. A step that takes too long (a network share that hangs) ends the connection with a
//! message; its thread is waited for before the next connection, so that a dead share never collects threads.

pub mod document;
pub mod lock;
pub mod session;
pub mod store;

use super::{Out, ToCarrier};
use session::{FolderTuning, Outcome, Session, Whose};
use std::path::PathBuf;
use store::FolderError;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Which folder, for whom.
#[derive(Debug)]
pub(crate) struct Where {
    pub(crate) dir: PathBuf,
    pub(crate) whose: Whose,
    pub(crate) tuning: FolderTuning,
}

type Step = Result<(Session, Outcome), FolderError>;

/// Runs until nobody asks any more.
pub(crate) async fn run(place: Where, mut rx: mpsc::Receiver<ToCarrier>, out: Out) {
    let mut carrier = Carrier { place, out, session: None, running: None };
    let mut look = interval(carrier.place.tuning.look_every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let goes_on = tokio::select! {
            message = rx.recv() => match message {
                Some(ToCarrier::Open) => carrier.open().await,
                Some(ToCarrier::Close) => {
                    carrier.session = None;
                    true
                }
                Some(ToCarrier::Send(up)) => carrier.step(move |session| session.handle(up)).await,
                None => return,
            },
            _ = look.tick(), if carrier.session.is_some() => carrier.step(Session::look).await,
        };
        if !goes_on {
            return;
        }
    }
}

struct Carrier {
    place: Where,
    out: Out,
    session: Option<Session>,
    /// A step whose time ran out and that has not come back.
    running: Option<JoinHandle<Step>>,
}

impl Carrier {
    /// Opens a connection; false when nobody reads the news any more.
    async fn open(&mut self) -> bool {
        self.session = None;
        if let Some(running) = self.running.take_if(|r| !r.is_finished()) {
            self.running = Some(running);
            return self.out.closed(self.hangs()).await;
        }
        let (dir, whose, tuning) = (self.place.dir.clone(), self.place.whose, self.place.tuning.clone());
        self.wait(spawn_blocking(move || Session::open(&dir, whose, tuning))).await
    }

    /// Makes one step of the connection; nothing when there is none.
    async fn step(
        &mut self,
        step: impl FnOnce(&mut Session) -> Result<Outcome, FolderError> + Send + 'static,
    ) -> bool {
        let Some(mut session) = self.session.take() else {
            return true;
        };
        self.wait(spawn_blocking(move || step(&mut session).map(|outcome| (session, outcome)))).await
    }

    async fn wait(&mut self, mut running: JoinHandle<Step>) -> bool {
        let (session, outcome) = match timeout(self.place.tuning.patience, &mut running).await {
            Ok(Ok(Ok(step))) => step,
            Ok(Ok(Err(error))) => return self.out.closed(error.to_string()).await,
            Ok(Err(_)) => {
                return self.out.closed("the folder's carrier failed; please report this".into()).await;
            }
            Err(_) => {
                self.running = Some(running);
                return self.out.closed(self.hangs()).await;
            }
        };
        for down in outcome.downs {
            if !self.out.send(down).await {
                return false;
            }
        }
        match outcome.end {
            Some(why) => self.out.closed(why).await,
            None => {
                self.session = Some(session);
                true
            }
        }
    }

    fn hangs(&self) -> String {
        format!("the folder {} does not answer; is the network share still there?", self.place.dir.display())
    }
}
