//! Whom a server and a carrier meet beside each other: bare sockets, fakes, and somebody in between who listens.

use crate::players::{Player, SOON};
use futures_util::{SinkExt, StreamExt};
use lanrage::model::text;
use lanrage::wire::control::{Down, Up};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

pub(crate) type Socket = WebSocketStream<TcpStream>;

pub(crate) async fn dial(at: SocketAddr) -> Socket {
    shake(TcpStream::connect(at).await.unwrap(), at).await
}

pub(crate) async fn shake(stream: TcpStream, at: SocketAddr) -> Socket {
    client_async(format!("ws://{at}/v1/party"), stream).await.unwrap().0
}

/// Says hello without a carrier.
pub(crate) async fn greet(socket: &mut Socket, player: &Player, at: SocketAddr) {
    let first = socket.next().await.unwrap().unwrap();
    let Down::Opened { nonce, .. } = serde_json::from_str(first.to_text().unwrap()).unwrap() else {
        panic!("no challenge");
    };
    let hello = Up::Hello(player.hello(&nonce, &at.to_string()));
    socket.send(Message::text(serde_json::to_string(&hello).unwrap())).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap();
    assert!(welcome.to_text().unwrap().contains("welcome"));
}

pub(crate) async fn get(at: SocketAddr, path: &str) -> String {
    get_as(at, path, "lan.example").await
}

pub(crate) async fn get_as(at: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

pub(crate) fn number(metrics: &str, name: &str) -> u64 {
    let line =
        metrics.lines().find_map(|l| l.strip_prefix("lanrage_")?.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

/// Something that answers every connection with these bytes.
pub(crate) async fn canned(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 2048];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                sleep(SOON).await;
            });
        }
    });
    at
}

/// A WebSocket server with this protocol header that sends this text.
pub(crate) async fn fake(protocol: Option<&'static str>, text: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let text = text.to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = |_: &Request, r| match protocol {
                Some(protocol) => with_protocol(r, protocol),
                None => Ok(r),
            };
            if let Ok(mut socket) = accept_hdr_async(stream, answer).await {
                let _ = socket.send(Message::text(text.clone())).await;
            }
        }
    });
    at
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
pub(crate) fn with_protocol(
    mut response: Response,
    protocol: &'static str,
) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("lanrage-protocol", protocol.parse().unwrap());
    Ok(response)
}

/// What went through a tap: each frame's text, and its base 32 strings as bytes.
pub(crate) type Log = Arc<Mutex<Vec<Vec<u8>>>>;

/// Somebody in between who passes everything on, under their own name.
pub(crate) async fn tap(server: SocketAddr, log: Log) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let inward = accept_hdr_async(stream, |_: &Request, r| with_protocol(r, "1")).await.unwrap();
                let mut request = format!("ws://{server}/v1/party").into_client_request().unwrap();
                request.headers_mut().insert("host", at.to_string().parse().unwrap());
                let stream = TcpStream::connect(server).await.unwrap();
                let Ok((outward, _)) = client_async(request, stream).await else {
                    return;
                };
                let (mut in_tx, mut in_rx) = inward.split();
                let (mut out_tx, mut out_rx) = outward.split();
                let note = |message: &Message| {
                    log.lock().unwrap().push(message.clone().into_data().to_vec());
                };
                loop {
                    tokio::select! {
                        Some(Ok(message)) = in_rx.next() => {
                            note(&message);
                            if out_tx.send(message).await.is_err() { return; }
                        }
                        Some(Ok(message)) = out_rx.next() => {
                            note(&message);
                            if in_tx.send(message).await.is_err() { return; }
                        }
                        else => return,
                    }
                }
            });
        }
    });
    at
}

/// Whether these bytes are in there, as they are or inside a quoted base 32 text.
pub(crate) fn shows(haystack: &[u8], needle: &[u8]) -> bool {
    let within = |bytes: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
    within(haystack)
        || haystack
            .split(|b| *b == b'"')
            .filter_map(|piece| text::decode(std::str::from_utf8(piece).ok()?).ok())
            .any(|bytes| within(&bytes))
}
