//! Connecting to the first of several addresses that answers (RFC 8305, "happy eyeballs"): one family after the other in
//! turn, the next address after a quarter of a second or as soon as the one before failed, and the first connection wins.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long an address has the field for itself (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses that are tried; a name with more is a mistake or a trap.
const ADDRESSES: usize = 16;

/// A connection, without Nagle's delay, to one of the addresses. Each has `within` to answer.
///
/// # Errors
/// What the last of them said; `AddrNotAvailable` when there was none.
pub async fn dial(addresses: &[SocketAddr], within: Duration) -> io::Result<TcpStream> {
    let mut waiting = in_turn(addresses).into_iter();
    let mut tries = FuturesUnordered::new();
    let mut said = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(next) = waiting.next() {
            tries.push(async move { timeout(within, TcpStream::connect(next)).await });
        }
        tokio::select! {
            biased;
            tried = tries.next() => match tried {
                Some(Ok(Ok(stream))) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Ok(Err(error))) => said = error,
                Some(Err(_)) => said = io::ErrorKind::TimedOut.into(),
                None => return Err(said),
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

/// The system's order of preference, but the families take turns.
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut a, mut b): (Vec<SocketAddr>, Vec<_>) =
        addresses.iter().copied().partition(|at| at.is_ipv6() == first_is_v6);
    a.reverse();
    b.reverse();
    let mut out: Vec<SocketAddr> = Vec::new();
    while out.len() < ADDRESSES && !(a.is_empty() && b.is_empty()) {
        let next = [a.pop(), b.pop()].into_iter().flatten();
        out.extend(next);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_in_the_order_given() {
        let all: Vec<_> = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(at).into();
        assert_eq!(in_turn(&all), ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(at));
        assert_eq!(in_turn(&[]), []);
    }

    #[tokio::test]
    async fn a_dead_address_delays_the_next_one_by_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let begun = std::time::Instant::now();
        let live = listener.local_addr().unwrap();
        let stream = dial(&[dead, dead, live], Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live);
        assert!(begun.elapsed() < STAGGER, "{:?}", begun.elapsed());
        let refused = dial(&[dead], Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let none = dial(&[], Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
