//! The node's side: a thread of its own with a small runtime, so that a stuck command never touches packets.

use super::bench::bench;
use super::door::{Door, Kind, Stream};
use super::{
    ANSWER_BYTES, Answer, EFFECT, MEASUREMENT, PATIENCE, REQUEST_BYTES, Request, Sealed, find_peer,
    owns_party,
};
use crate::app::bridge::NodeHandle;
use crate::host::threads;
use crate::model::command::Command;
use crate::model::id::PeerId;
use crate::model::status::Trouble;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Commands that are served at once; more are turned away.
const AT_ONCE: usize = 16;

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the door of the data folder.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn start(data_dir: &Path, node: NodeHandle) -> Result<Self, Trouble> {
        Self::start_with(Kind::usual(), data_dir, node)
    }

    pub(super) fn start_with(kind: Kind, data_dir: &Path, node: NodeHandle) -> Result<Self, Trouble> {
        let runtime = threads::data_runtime()?;
        let door = {
            let _inside = runtime.enter();
            Door::open(kind, data_dir)?
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let work = move || runtime.block_on(serve(door, node, stopped));
        let thread = Some(threads::named("local-api", work)?);
        Ok(Self { stop, thread })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(door: Door, node: NodeHandle, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            stream = door.accept() => stream,
        };
        while tasks.try_join_next().is_some() {}
        match stream {
            Ok(stream) => {
                let Ok(place) = room.clone().try_acquire_owned() else { continue };
                let (token, node, stop) = (door.token.clone(), node.clone(), stop.clone());
                tasks.spawn(async move {
                    let _place = place;
                    let _ =
                        timeout(PATIENCE * 2 + MEASUREMENT.max(EFFECT), converse(stream, token, node, stop))
                            .await;
                });
            }
            // Out of file descriptors, most likely: give the others time to finish.
            Err(error) => {
                tracing::warn!(%error, "a local command could not connect");
                tokio::time::sleep(PATIENCE / 10).await;
            }
        }
    }
}

/// One request, one answer. After a goodbye the line is held until the node has ended, which is how `leave` knows.
async fn converse(
    mut stream: Box<dyn Stream>,
    token: Option<String>,
    node: NodeHandle,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let mut line = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(REQUEST_BYTES));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let leaving;
    let answer = match serde_json::from_slice::<Sealed>(&line) {
        Ok(sealed) if sealed.token == token => {
            leaving = sealed.request == Request::Leave;
            answer(sealed.request, &node).await
        }
        Ok(_) => return Ok(()),
        Err(_) => {
            leaving = false;
            let what = "the running node does not understand this request";
            Trouble::new("bad_request", what, "use the same version of lanrage for both").into()
        }
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    debug_assert!(bytes.len() as u64 <= ANSWER_BYTES, "statuses are bounded");
    timeout(PATIENCE, stream.write_all(&bytes)).await??;
    if leaving {
        let _ = timeout(EFFECT, stop.cancelled()).await;
    }
    stream.shutdown().await
}

async fn answer(request: Request, node: &NodeHandle) -> Answer {
    match request {
        Request::Status => match serde_json::to_value(&*node.fresh_status().await) {
            Ok(status) => Answer::Status { status },
            Err(e) => {
                Trouble::new("bad_status", e.to_string(), "report this: it is a mistake in lanrage").into()
            }
        },
        Request::Invite => Answer::Invite { invite: node.invite.borrow().clone() },
        Request::Check => Answer::Check { plugins: node.crew.check().await },
        Request::Leave => match command(node, Command::Leave).await {
            Ok(()) => Answer::Done { text: "left the party".to_owned() },
            Err(trouble) => trouble.into(),
        },
        Request::Kick { peer } => kick(node, &peer).await.unwrap_or_else(Answer::from),
        Request::Bench { peer, quick } => {
            bench(node, peer.as_deref(), quick).await.unwrap_or_else(Answer::from)
        }
    }
}

async fn kick(node: &NodeHandle, meant: &str) -> Result<Answer, Trouble> {
    let status = node.fresh_status().await;
    let (peer, name) = find_peer(&status, meant)?;
    if !owns_party(&status) {
        let what = "only the party's host can remove somebody, and this node is not it";
        return Err(Trouble::new("not_owner", what, "ask the host, or leave and make a party of your own"));
    }
    command(node, Command::Kick(peer)).await?;
    let gone = timeout(PATIENCE, gone(node, peer)).await.is_ok();
    let text = if gone {
        format!("{name} is removed; the party has a new key and a new invite (`lanrage invite`)")
    } else {
        format!("{name} is being removed; `lanrage status` shows when it is gone")
    };
    Ok(Answer::Done { text })
}

async fn gone(node: &NodeHandle, peer: PeerId) {
    let mut status = node.status.clone();
    let _ = status.wait_for(|s| s.peers.iter().all(|p| p.peer != peer)).await;
}

pub(super) async fn command(node: &NodeHandle, command: Command) -> Result<(), Trouble> {
    let sent = timeout(PATIENCE, node.commands.send(command)).await;
    sent.ok().and_then(Result::ok).ok_or_else(|| {
        Trouble::new("node_busy", "the running node does not take requests any more", "stop it with Ctrl-C")
    })
}
