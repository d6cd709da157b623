//! Visits a server's page about itself (`/v1/info`): one GET, read with a cap. Shows that TCP, and TLS where it was asked for,
//! get there, and what the server's clock says.

use crate::host::clock;
use crate::host::control::ServerAddress;
use crate::host::dial::dial;
use crate::host::tls::{self, Line, Trust};
use serde::Deserialize;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// The page is a few hundred bytes.
const PAGE_BYTES: u64 = 16 * 1024;
/// Relays that are believed.
const RELAYS: usize = 16;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Where it was reached.
    pub at: SocketAddr,
    /// How long the TCP connection took.
    pub took: Duration,
    /// Its version.
    pub version: String,
    /// Its clock before (or, negative, behind) this computer's, in seconds; half the round trip is taken off.
    pub ahead: Option<i64>,
    /// Where it answers STUN and TURN by UDP, with the address put in where it only said "here".
    pub relays: Vec<SocketAddr>,
}

/// Why there was no visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoVisit {
    /// In words.
    pub why: String,
    /// The name has no address: no other port will change that.
    pub unknown_name: bool,
}

impl NoVisit {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), unknown_name: false }
    }
}

#[derive(Deserialize)]
struct Info {
    service: String,
    #[serde(default)]
    version: String,
    time: Option<u64>,
    #[serde(default)]
    relays: Vec<String>,
}

/// Visits the server at this port, by TLS with this trust or without.
///
/// # Errors
/// Why nothing came of it, in words.
pub async fn visit(
    address: &ServerAddress,
    port: u16,
    trust: Option<Trust>,
    patience: Duration,
) -> Result<Visit, NoVisit> {
    let visit = go(address, port, trust, patience);
    timeout(patience, visit).await.unwrap_or_else(|_| Err(NoVisit::new("no answer")))
}

async fn go(
    address: &ServerAddress,
    port: u16,
    trust: Option<Trust>,
    patience: Duration,
) -> Result<Visit, NoVisit> {
    let name = address.authority_at(port);
    let addresses = look_up(&address.host, port).await?;
    let begun = Instant::now();
    let stream = dial(&addresses, patience).await.map_err(|e| NoVisit::new(words(&e)))?;
    let took = begun.elapsed();
    let at = stream.peer_addr().map_err(|e| NoVisit::new(words(&e)))?;
    let mut line = match trust {
        None => Line::Plain(stream),
        Some(trust) => tls::wrap(stream, trust, &address.host, &name, &[b"http/1.1"])
            .await
            .map_err(|no| NoVisit::new(no.why))?,
    };
    let request = format!(
        "GET {}/v1/info HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nUser-Agent: lanrage-doctor\r\n\r\n",
        address.base
    );
    let mut page = Vec::new();
    let talk = async {
        line.write_all(request.as_bytes()).await?;
        line.flush().await?;
        let asked = clock::unix();
        (&mut line).take(PAGE_BYTES).read_to_end(&mut page).await?;
        Ok::<_, io::Error>(asked)
    };
    let asked = match talk.await {
        Ok(asked) => asked,
        // A server that hangs up without the last words of TLS has said everything all the same.
        Err(_) if !page.is_empty() => clock::unix(),
        Err(e) => return Err(NoVisit::new(words(&e))),
    };
    let info = read(&page).ok_or_else(|| NoVisit::new("what answers is not a lanrage server"))?;
    let half = clock::unix().saturating_sub(asked) / 2;
    let local = i64::try_from((asked + half).as_secs()).ok();
    let ahead = info.time.and_then(|t| i64::try_from(t).ok()).zip(local).map(|(theirs, ours)| theirs - ours);
    let relays = info.relays.iter().take(RELAYS).filter_map(|r| fill(r, at)).collect();
    Ok(Visit { at, took, version: info.version.chars().take(32).collect(), ahead, relays })
}

/// The addresses of a name.
pub async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, NoVisit> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let unknown = |why| NoVisit { why, unknown_name: true };
    let found: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(|e| unknown(format!("the name {host} was not found ({e})")))?
        .collect();
    if found.is_empty() { Err(unknown(format!("the name {host} has no address"))) } else { Ok(found) }
}

/// Whether a TCP connection is made there, and how long it takes.
///
/// # Errors
/// Why not, in words.
pub async fn knock(addresses: &[SocketAddr], patience: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    match timeout(patience, dial(addresses, patience)).await {
        Ok(Ok(_)) => Ok(begun.elapsed()),
        Ok(Err(e)) => Err(words(&e)),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// The object in a page; a proxy may have cut the page into chunks around it.
fn read(page: &[u8]) -> Option<Info> {
    let text = std::str::from_utf8(page).ok()?;
    let status = text.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let body = text.split_once("\r\n\r\n")?.1;
    let object = body.get(body.find('{')?..=body.rfind('}')?)?;
    let info: Info = serde_json::from_str(object).ok()?;
    (status == "200" && info.service == "lanrage").then_some(info)
}

/// An address as the server lists it; one without an IP address is where the server was reached.
fn fill(listed: &str, at: SocketAddr) -> Option<SocketAddr> {
    let mut relay: SocketAddr = listed.parse().ok()?;
    if relay.ip().is_unspecified() {
        if relay.is_ipv4() != at.is_ipv4() {
            return None;
        }
        relay.set_ip(at.ip());
    }
    (relay.port() != 0).then_some(relay)
}

fn words(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == ErrorKind::ConnectionRefused {
        "nothing listens there".to_owned()
    } else if kind == ErrorKind::TimedOut {
        "no answer".to_owned()
    } else if matches!(kind, ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) {
        "there is no way there".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(3);

    /// Says the same to everybody.
    async fn says(text: String) -> ServerAddress {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        format!("http://{at}").parse().unwrap()
    }

    #[tokio::test]
    async fn a_server_says_where_its_relay_is_and_what_time_it_has() {
        let time = clock::unix().as_secs() + 120;
        let body = format!(
            "{{\"service\":\"lanrage\",\"version\":\"1.2\",\"time\":{time},\
             \"relays\":[\"0.0.0.0:3478\",\"[::]:3478\",\"nonsense\",\"198.51.100.7:0\",\"198.51.100.7:9\"]}}"
        );
        let server = says(format!("HTTP/1.1 200 OK\r\n\r\n5a\r\n{body}\r\n0\r\n\r\n")).await;
        let visit = visit(&server, server.port, None, PATIENCE).await.unwrap();
        assert_eq!(visit.version, "1.2");
        assert!((118..=121).contains(&visit.ahead.unwrap()), "{visit:?}");
        let expected: Vec<SocketAddr> =
            ["127.0.0.1:3478", "198.51.100.7:9"].map(|a| a.parse().unwrap()).into();
        assert_eq!(visit.relays, expected);
    }

    #[tokio::test]
    async fn strangers_and_silence_are_told_apart() {
        for page in [
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "HTTP/1.1 404 Not Found\r\n\r\n{\"service\":\"lanrage\"}",
            "HTTP/1.1 200 OK\r\n\r\n{\"service\":\"nginx\"}",
            "HTTP/1.1 200 OK\r\n\r\n}{",
            "SSH-2.0-OpenSSH\r\n",
        ] {
            let server = says(page.to_owned()).await;
            let no = visit(&server, server.port, None, PATIENCE).await.unwrap_err();
            assert!(no.why.contains("not a lanrage server"), "{page:?}: {no:?}");
        }
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server: ServerAddress = format!("http://{dead}").parse().unwrap();
        let no = visit(&server, dead.port(), None, PATIENCE).await.unwrap_err();
        assert_eq!(no.why, "nothing listens there");
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = silent.local_addr().unwrap();
        let server: ServerAddress = format!("http://{at}").parse().unwrap();
        let begun = Instant::now();
        let no = visit(&server, at.port(), None, Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(no.why, "no answer");
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
