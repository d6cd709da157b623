//! Clients that come by TCP or TLS: one task each, which cuts the stream into messages and puts them together again. Between it
//! and the relay's thread are two bounded queues: a client that sends too fast waits, one that reads too slowly loses packets, as
//! it would on any full line.

use super::{RelayHandle, ToRelay};
use crate::engine::relay::{Client, HEADROOM};
use crate::wire::channel::{self, Split};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// Frames that wait for a slow client: some hundred milliseconds of a game.
const OUTLET: usize = 256;
/// The first message has to be here by then.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// Permissions and allocations need a sign of life every five to ten minutes; who gives none has gone.
const IDLE: Duration = Duration::from_secs(900);
/// What the other side has to take within this time.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of one read.
const READ: usize = 16 * 1024;
/// Bytes of one write at most, so that many small frames share one.
const WRITE: usize = 32 * 1024;

/// The way to a client's task.
#[derive(Debug)]
pub(super) struct Outlet(mpsc::Sender<Vec<u8>>);

impl Outlet {
    /// Hands over a frame, padded as streams want it; false when the client is too slow.
    pub(super) fn post(&self, bytes: &[u8]) -> bool {
        let mut frame = Vec::with_capacity(bytes.len() + 3);
        frame.extend_from_slice(bytes);
        frame.resize(bytes.len() + channel::padding(bytes.len()), 0);
        self.0.try_send(frame).is_ok()
    }
}

/// Serves one connection until it ends.
pub(super) async fn attend(
    relay: RelayHandle,
    mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    local: SocketAddr,
) {
    let id = relay.next_stream();
    let client = Client { addr: canonical(peer), server: canonical(local), stream: Some(id) };
    let (outlet, mut frames) = mpsc::channel(OUTLET);
    if !relay.tell(ToRelay::Open { client, outlet: Outlet(outlet) }).await {
        return;
    }
    let mut heard: Vec<u8> = Vec::with_capacity(READ);
    let mut until = Instant::now() + FIRST_WITHIN;
    loop {
        tokio::select! {
            read = stream.read_buf(&mut heard) => match read {
                Ok(1..) => {
                    match split(&relay, id, &mut heard).await {
                        Some(0) => {}
                        Some(_) => until = Instant::now() + IDLE,
                        None => break,
                    }
                }
                Ok(0) | Err(_) => break,
            },
            frame = frames.recv() => {
                let Some(mut bytes) = frame else { break };
                while bytes.len() < WRITE && let Ok(more) = frames.try_recv() {
                    bytes.extend_from_slice(&more);
                }
                let written = timeout(WRITE_WITHIN, async {
                    stream.write_all(&bytes).await?;
                    stream.flush().await
                });
                if !matches!(written.await, Ok(Ok(()))) {
                    break;
                }
            },
            () = sleep_until(until) => break,
        }
    }
    relay.tell(ToRelay::Close(id)).await;
    let _ = timeout(WRITE_WITHIN, stream.shutdown()).await;
}

/// Hands over all whole messages; how many, or `None` when the stream is of no more use.
async fn split(
    relay: &RelayHandle,
    id: crate::engine::relay::StreamId,
    heard: &mut Vec<u8>,
) -> Option<usize> {
    let (mut at, mut many) = (0, 0);
    loop {
        match channel::frame_len(heard.get(at..).unwrap_or_default()) {
            Split::Frame(length) => {
                let mut bytes = vec![0; HEADROOM];
                bytes.extend_from_slice(heard.get(at..at + length)?);
                if !relay.tell(ToRelay::Frame(id, bytes)).await {
                    return None;
                }
                at += length;
                many += 1;
            }
            Split::Need(length) => {
                heard.drain(..at);
                heard.reserve(length.saturating_sub(heard.len()).max(READ / 4));
                return Some(many);
            }
            Split::Broken => return None,
        }
    }
}

/// A connection of a socket for both families shows IPv4 clients as IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
