//! One WebSocket, one task: frames in, to the lobby; the outbox, out. Whoever is too slow is dropped, not waited for.

use super::hall::{Hall, Post, ToLobby};
use super::pages::Visitor;
use crate::wire::control::Up;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes of one message: a rotation for 64 peers takes 10 KiB, a record 7 KiB.
pub(super) const MESSAGE_BYTES: usize = 32 * 1024;
/// Most messages are small, and there are many connections.
pub(super) const READ_BYTES: usize = 4 * 1024;
/// A frame that the other side does not take within this time ends the connection.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// How long the other side may take to read a goodbye.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a reason in a close frame (RFC 6455, section 5.5: 125 with the two of the code).
const REASON_BYTES: usize = 123;

pub(super) async fn attend(mut socket: WebSocket, visitor: Visitor, audience: String, hall: Arc<Hall>) {
    let (conn, mut outbox) = hall.enter();
    hall.tell(ToLobby::Open { conn, address: visitor.address, audience }).await;
    let mut heard = Instant::now();
    let goodbye = loop {
        tokio::select! {
            post = outbox.recv() => match post {
                Some(Post::Text(text)) => {
                    if !send(&mut socket, Message::Text(text)).await {
                        break None;
                    }
                }
                Some(Post::Close(why)) => break Some((close_code::POLICY, why)),
                // The lobby found the outbox full.
                None => break Some((close_code::AGAIN, "too slow")),
            },
            message = socket.recv() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => hall.tell(read(conn, text.as_str())).await,
                    Some(Ok(Message::Binary(_))) => hall.tell(ToLobby::Garbage(conn)).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) | None => break None,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a WebSocket broke");
                        break Some((close_code::SIZE, "not a message of this protocol, or too large"));
                    }
                }
            },
            () = sleep_until(heard + hall.idle()) => break Some((close_code::AWAY, "silent for too long")),
        }
    };
    hall.leave(conn);
    hall.tell(ToLobby::Close(conn)).await;
    if let Some((code, why)) = goodbye {
        let reason: String = why.chars().take(REASON_BYTES).collect();
        send(&mut socket, Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        // Closing while frames are still arriving resets the connection, and the other side would never read why.
        let _ = timeout(LINGER, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
    }
}

fn read(conn: crate::engine::lobby::ConnId, text: &str) -> ToLobby {
    match serde_json::from_str::<Up>(text) {
        Ok(up) => ToLobby::Up(conn, Box::new(up)),
        Err(_) => ToLobby::Garbage(conn),
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(SEND_WITHIN, socket.send(message)).await, Ok(Ok(())))
}
