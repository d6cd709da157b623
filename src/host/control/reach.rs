//! How a server is reached: where it was asked for, and, when nothing answers there, by TLS on 443.
//!
//! Many networks let nothing out but the web. So when the address that was asked for has no connection after a quarter of a
//! second, or fails, the same host is tried on 443 as well, and whichever first turns out to be a lanrage server wins; a
//! proxy that accepts everything and answers nothing wins nothing. The hello is bound to the name that was really dialled.
//!
//! For an `https://` address both ways want the certificate that was asked for. For an `http://` address any certificate
//! will do on 443: nobody asked who answers, and plain HTTP would not have told either.
//!
//! From `Open` to the challenge there is nothing but TCP, TLS and WebSocket round trips (1 + 1 + 1); the server's
//! challenge comes with its answer to the WebSocket request.

use super::choice::ServerAddress;
use super::relays::Reached;
use super::server::{ServerTuning, read, tidy};
use crate::host::dial::dial;
use crate::host::tls::{self, Line, Trust};
use crate::wire::control::{Down, PROTOCOL_HEADER, VERSION};
use futures_util::StreamExt;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http::StatusCode};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A welcome with 64 records of the largest kind takes half of this.
const MESSAGE_BYTES: usize = 1 << 20;
/// How long the address that was asked for has for a TCP connection before 443 is tried as well.
const CONNECT_HEAD_START: Duration = Duration::from_millis(120);
/// And for its first message, once it has one: what swallows everything is no server.
const ANSWER_HEAD_START: Duration = Duration::from_secs(1);
/// How long 443 may still take when something else than a lanrage server answers where one was asked for.
const SECOND_CHANCE: Duration = Duration::from_secs(3);

pub(super) type Socket = WebSocketStream<Line>;

/// A server that answered.
pub(super) struct Connected {
    pub(super) socket: Socket,
    /// Its challenge.
    pub(super) opened: Down,
    pub(super) reached: Reached,
}

/// Why there is no connection.
pub(super) struct Failure {
    pub(super) why: String,
    pub(super) kind: Kind,
}

/// What a failure is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Trying again may help.
    Passing,
    /// Something else answers here.
    Stranger,
    /// A lanrage server answered, and no other way to it will change its mind.
    Lasting,
}

impl Failure {
    const fn passing(why: String) -> Self {
        Self { why, kind: Kind::Passing }
    }

    const fn stranger(why: String) -> Self {
        Self { why, kind: Kind::Stranger }
    }

    const fn lasting(why: String) -> Self {
        Self { why, kind: Kind::Lasting }
    }
}

/// One way to a server.
struct Route<'a> {
    address: &'a ServerAddress,
    tls: Option<Trust>,
    port: u16,
    /// The host and port as dialled.
    name: String,
    /// Not where it was asked for.
    round: bool,
}

impl<'a> Route<'a> {
    fn asked(address: &'a ServerAddress) -> Self {
        let asked = address.pin.map_or(Trust::Roots, Trust::Pinned);
        let tls = address.tls.then_some(asked);
        Self { address, tls, port: address.port, name: address.authority(), round: false }
    }

    /// By TLS on 443, unless that is what was asked for.
    fn fallback(address: &'a ServerAddress, port: u16) -> Option<Self> {
        let tls = Self::asked(address).tls.unwrap_or(Trust::Anyone);
        (address.port != port || !address.tls).then(|| Self {
            address,
            tls: Some(tls),
            port,
            name: address.authority_at(port),
            round: true,
        })
    }
}

/// Reaches a server once, by whichever way answers first. `at_once`: 443 was the way last time.
pub(super) async fn reach(
    address: &ServerAddress,
    tuning: &ServerTuning,
    at_once: bool,
) -> Result<Connected, Failure> {
    let connects = AtomicBool::new(false);
    let asked = Route::asked(address);
    let mut asked = pin!(attempt(&asked, tuning, &connects));
    let Some(other) = tuning.fallback_port.and_then(|port| Route::fallback(address, port)) else {
        return asked.await;
    };
    let unwatched = AtomicBool::new(false);
    let mut other = pin!(attempt(&other, tuning, &unwatched));
    let head_start = async {
        if !at_once {
            sleep(CONNECT_HEAD_START).await;
            if connects.load(Ordering::Relaxed) {
                sleep(ANSWER_HEAD_START).await;
            }
        }
    };
    tokio::select! {
        biased;
        first = asked.as_mut() => return second_chance(first, other).await,
        () = head_start => {}
    }
    tokio::select! {
        first = asked.as_mut() => second_chance(first, other).await,
        first = other.as_mut() => match first {
            Ok(connected) => Ok(connected),
            // What went wrong where nobody asked for a server interests nobody, unless a server said it.
            Err(said) => match asked.await {
                Err(_) if said.kind == Kind::Lasting => Err(said),
                outcome => outcome,
            },
        },
    }
}

/// The other way, when the one that was asked for failed; its words are the ones that are told.
async fn second_chance(
    first: Result<Connected, Failure>,
    other: impl Future<Output = Result<Connected, Failure>>,
) -> Result<Connected, Failure> {
    let failure = match first {
        Ok(connected) => return Ok(connected),
        Err(failure) => failure,
    };
    let other = match failure.kind {
        Kind::Lasting => return Err(failure),
        Kind::Stranger => timeout(SECOND_CHANCE, other).await.ok(),
        Kind::Passing => Some(other.await),
    };
    match other {
        Some(Ok(connected)) => Ok(connected),
        // It is a lanrage server after all, and this is what it says.
        Some(Err(said)) if said.kind == Kind::Lasting => Err(said),
        Some(Err(_)) | None => Err(failure),
    }
}

async fn attempt(
    route: &Route<'_>,
    tuning: &ServerTuning,
    connects: &AtomicBool,
) -> Result<Connected, Failure> {
    let name = &route.name;
    let until = Instant::now() + tuning.answer_within;
    let slow = |_| Failure::passing(format!("the server {name} does not answer in time"));
    let addresses = timeout_at(until, look_up(route)).await.map_err(slow)??;
    let stream =
        timeout_at(until, connect(route, &addresses, tuning.connect_within)).await.map_err(slow)??;
    connects.store(true, Ordering::Relaxed);
    let line = timeout_at(until, encrypt(route, stream)).await.map_err(slow)??;
    let mut reached =
        Reached { at: None, addresses, host: route.address.host.clone(), tls: None, round: route.round };
    reached.at = line.tcp().peer_addr().ok();
    reached.tls = line.seen();
    let mut socket = timeout_at(until, shake_hands(line, route)).await.map_err(slow)??;
    let opened = timeout_at(until, challenge(&mut socket, name)).await.map_err(slow)??;
    Ok(Connected { socket, opened, reached })
}

async fn look_up(route: &Route<'_>) -> Result<Vec<SocketAddr>, Failure> {
    let host = route.address.host.as_str();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, route.port)]);
    }
    let found = lookup_host((host, route.port)).await.map_err(|e| {
        Failure::passing(format!(
            "the name {host} was not found (is it spelled right, is this PC online?): {e}"
        ))
    })?;
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(Failure::passing(format!("the name {host} has no address")));
    }
    Ok(found)
}

async fn connect(
    route: &Route<'_>,
    addresses: &[SocketAddr],
    within: Duration,
) -> Result<TcpStream, Failure> {
    dial(addresses, within).await.map_err(|e| Failure::passing(not_connected(&route.name, route.port, &e)))
}

fn not_connected(name: &str, port: u16, error: &std::io::Error) -> String {
    let kind = error.kind();
    if kind == ErrorKind::ConnectionRefused {
        format!("nothing listens at {name}; is the server running, and is the port right?")
    } else if kind == ErrorKind::TimedOut {
        format!(
            "the server {name} does not answer; is the address right, and does a firewall let port {port} through?"
        )
    } else if matches!(kind, ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) {
        format!("there is no way to {name}; is this PC online?")
    } else {
        format!("the connection to {name} failed: {error}")
    }
}

async fn encrypt(route: &Route<'_>, stream: TcpStream) -> Result<Line, Failure> {
    let Some(trust) = route.tls else { return Ok(Line::Plain(stream)) };
    tls::wrap(stream, trust, &route.address.host, &route.name, &[b"http/1.1"])
        .await
        .map_err(|no| if no.passing { Failure::passing(no.why) } else { Failure::stranger(no.why) })
}

async fn shake_hands(stream: Line, route: &Route<'_>) -> Result<Socket, Failure> {
    let name = &route.name;
    let stranger =
        || Failure::stranger(format!("what answers at {name} is not a lanrage server; is the port right?"));
    let request = format!("ws://{name}{}/v1/party", route.address.base)
        .into_client_request()
        .map_err(|_| stranger())?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES))
        .read_buffer_size(8 * 1024);
    let (socket, response) = match client_async_with_config(request, stream, Some(config)).await {
        Ok(shaken) => shaken,
        Err(Error::Http(response)) => {
            let status = response.status();
            return Err(if status == StatusCode::MISDIRECTED_REQUEST {
                Failure::lasting(format!(
                    "the server at {name} does not want to be called so; ask for its right name"
                ))
            } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                Failure::passing(format!("the server {name} is in trouble ({status})"))
            } else {
                stranger()
            });
        }
        Err(Error::Io(e)) if e.kind() != ErrorKind::InvalidData => {
            return Err(Failure::passing(format!("the connection to {name} broke: {e}")));
        }
        Err(_) => return Err(stranger()),
    };
    let protocol = response.headers().get(PROTOCOL_HEADER).and_then(|v| v.to_str().ok());
    match protocol.and_then(|v| v.parse::<u16>().ok()) {
        Some(VERSION) => Ok(socket),
        Some(other) => Err(Failure::lasting(format!(
            "the server {name} speaks version {other} of the protocol, this program version {VERSION}; update the {} one",
            if other < VERSION { "server's" } else { "player's" }
        ))),
        None => Err(stranger()),
    }
}

/// The first message: a challenge, bound to the name by which this side knows the server.
async fn challenge(socket: &mut Socket, name: &str) -> Result<Down, Failure> {
    loop {
        match read(socket.next().await, name).map_err(Failure::passing)? {
            None => {}
            Some(Down::Opened { nonce, audience }) if audience == name => {
                return Ok(Down::Opened { nonce, audience });
            }
            Some(Down::Opened { audience, .. }) => {
                return Err(Failure::lasting(format!(
                    "the server {name} believes to be called {}; a proxy in front of it has to pass on the Host header",
                    tidy(&audience)
                )));
            }
            Some(Down::Refused { message, .. }) => {
                return Err(Failure::passing(format!("{name}: {message}")));
            }
            Some(_) => return Err(Failure::lasting(format!("the server {name} begins without a challenge"))),
        }
    }
}
