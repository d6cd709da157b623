//! What a caller speaks, told by the first byte: HTTP, TURN, or TLS with either of them inside, all on one port, so that 443
//! alone is enough where a network lets nothing else out.
//!
//! | first byte | what |
//! |---|---|
//! | 0x16 | a TLS handshake (RFC 8446, section 5.1); outside only, and only where there is a certificate |
//! | 0x00–0x03 | STUN and TURN (RFC 7983). ChannelData (0x40–0x4f, which are letters too) cannot be the first on a connection: nothing is allocated on it yet |
//! | a letter | HTTP |
//!
//! Everybody else is hung up on, as is who has not said what they want in time. The deadline is one for all of it, so
//! that a slow handshake buys no second one.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A caller has said what it wants by then, its TLS handshake included.
const WITHIN: Duration = Duration::from_secs(5);
/// What a TLS client is told where there is no certificate: fatal, handshake failure (RFC 8446, section 6).
const NO_TLS: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who attends to TURN connections: gets the connection, the caller's address and the own one; ends when the connection is
/// over.
pub(super) type TurnDoor = Arc<
    dyn Fn(Box<dyn Stream>, SocketAddr, SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync,
>;

/// What a caller wants.
pub(super) enum Caller {
    Http(Box<dyn Stream>),
    Turn(Box<dyn Stream>),
}

/// Finds out what a caller wants; an error says why it is hung up on.
pub(super) async fn meet(stream: TcpStream, tls: Option<&TlsAcceptor>) -> Result<Caller, String> {
    timeout(WITHIN, sniff(stream, tls)).await.unwrap_or_else(|_| Err("said nothing in time".to_owned()))
}

async fn sniff(mut stream: TcpStream, tls: Option<&TlsAcceptor>) -> Result<Caller, String> {
    let mut first = [0; 1];
    let broke = |e: std::io::Error| format!("broke before it said anything: {e}");
    if stream.peek(&mut first).await.map_err(broke)? == 0 {
        return Err("hung up without a word".to_owned());
    }
    match (Tongue::of(first), tls) {
        (Some(Tongue::Http), _) => Ok(Caller::Http(Box::new(stream))),
        (Some(Tongue::Turn), _) => Ok(Caller::Turn(Box::new(stream))),
        (Some(Tongue::Tls), Some(tls)) => {
            let mut inside = tls.accept(stream).await.map_err(|e| format!("TLS: {e}"))?;
            inside.read_exact(&mut first).await.map_err(broke)?;
            let inside = Box::new(Begun { first: Some(first), rest: inside });
            match Tongue::of(first) {
                Some(Tongue::Http) => Ok(Caller::Http(inside)),
                Some(Tongue::Turn) => Ok(Caller::Turn(inside)),
                Some(Tongue::Tls) | None => Err("speaks nothing known, inside TLS".to_owned()),
            }
        }
        (Some(Tongue::Tls), None) => {
            let _ = stream.write_all(&NO_TLS).await;
            Err("wants TLS, and there is no certificate".to_owned())
        }
        (None, _) => Err("speaks nothing known".to_owned()),
    }
}

/// A protocol.
enum Tongue {
    Http,
    Turn,
    Tls,
}

impl Tongue {
    const fn of(first: [u8; 1]) -> Option<Self> {
        match first {
            [0..=3] => Some(Self::Turn),
            [0x16] => Some(Self::Tls),
            [b'A'..=b'Z' | b'a'..=b'z'] => Some(Self::Http),
            _ => None,
        }
    }
}

/// A stream whose first byte was read already.
struct Begun<S> {
    first: Option<[u8; 1]>,
    rest: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if room.remaining() > 0
            && let Some(first) = self.first.take()
        {
            room.put_slice(&first);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.rest).poll_read(cx, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tls::{Line, Trust, wrap};
    use crate::server::{Tls, tls};
    use tokio::net::TcpListener;

    /// What a caller is taken for, and what is then read of it.
    async fn heard(said: &'static [u8], by_tls: bool) -> Result<(&'static str, Vec<u8>), String> {
        let dir = tempfile::tempdir().unwrap();
        let identity = tls::load(&Tls::SelfSigned, dir.path()).unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let call = async {
            let stream = TcpStream::connect(at).await.unwrap();
            let trust = Trust::Pinned(identity.pin);
            let mut line =
                if by_tls { wrap(stream, trust, "h", "h", &[]).await.unwrap() } else { Line::Plain(stream) };
            line.write_all(said).await.unwrap();
            line.shutdown().await.unwrap();
            line
        };
        let listen = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (what, mut stream) = match meet(stream, Some(&identity.acceptor)).await? {
                Caller::Http(stream) => ("http", stream),
                Caller::Turn(stream) => ("turn", stream),
            };
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            Ok((what, bytes))
        };
        let (_line, heard) = tokio::join!(call, listen);
        heard
    }

    #[tokio::test]
    async fn the_first_byte_decides_and_is_not_lost() {
        for by_tls in [false, true] {
            for (said, what) in [
                (&b"GET / HTTP/1.1\r\n"[..], "http"),
                (b"OPTIONS *", "http"),
                (b"\x00\x01\x00\x00\x21\x12\xa4\x42", "turn"),
                (b"\x00", "turn"),
            ] {
                assert_eq!(heard(said, by_tls).await, Ok((what, said.to_vec())), "TLS: {by_tls}");
            }
            for said in [&b"\x05\x01\x00"[..], b"\x80abc", b" GET"] {
                assert!(heard(said, by_tls).await.is_err(), "{said:?}");
            }
        }
        assert!(heard(b"\x16\x03\x01\x00\x01\x01", true).await.is_err(), "TLS in TLS");
    }
}
