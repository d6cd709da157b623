//! Plain HTTP. Nothing here names a party, a player or an address.

use super::ServerOptions;
use super::gate::Ticket;
use super::hall::Hall;
use super::relay::RelayHandle;
use super::socket;
use crate::model::limits;
use crate::wire::control::{PROTOCOL_HEADER, VERSION};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_util::task::task_tracker::TaskTrackerToken;

const HOME: &str = include_str!("home.html");

/// Who asks, and their place inside.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) address: IpAddr,
    /// Kept as long as the connection, so that it is counted and waited for.
    _ticket: Arc<Ticket>,
    _token: TaskTrackerToken,
}

impl Visitor {
    pub(super) fn new(address: IpAddr, ticket: Ticket, token: TaskTrackerToken) -> Self {
        Self { address, _ticket: Arc::new(ticket), _token: token }
    }
}

/// What the pages need.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    hall: Arc<Hall>,
    relay: Option<RelayHandle>,
    names: Arc<[String]>,
}

impl Desk {
    pub(super) fn new(hall: Arc<Hall>, relay: Option<RelayHandle>, options: &ServerOptions) -> Self {
        Self { hall, relay, names: options.names.iter().map(|n| n.to_ascii_lowercase()).collect() }
    }

    /// What the visitor calls this server, if that is one of its names.
    fn audience(&self, headers: &HeaderMap) -> Result<String, Refused> {
        let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
        if host.is_empty() || host.len() > 255 {
            return Err((StatusCode::BAD_REQUEST, "the request names no host\n"));
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some(_) | None => host.as_str(),
        };
        let known = |ours: &String| *ours == host || ours == name;
        if !self.names.is_empty() && !self.names.iter().any(known) {
            return Err((StatusCode::MISDIRECTED_REQUEST, "this server is not called that\n"));
        }
        Ok(host)
    }
}

type Refused = (StatusCode, &'static str);

pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/", get(|| async { Html(HOME) }))
        .route("/v1/info", get(about))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/party", get(party))
        .with_state(desk)
}

async fn about(State(desk): State<Desk>) -> Json<serde_json::Value> {
    Json(info(desk.relay.as_ref()))
}

/// What a client wants to know before it connects. `relays` are the addresses of STUN and TURN by UDP; credentials are for
/// members, who get them when they are welcomed. An unspecified address is the one at which this page was reached.
fn info(relay: Option<&RelayHandle>) -> serde_json::Value {
    let relays: Vec<String> =
        relay.iter().flat_map(|relay| relay.ways()).map(|way| way.addr().to_string()).collect();
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    serde_json::json!({
        "service": "lanrage",
        "protocol": VERSION,
        "version": env!("CARGO_PKG_VERSION"),
        "time": time,
        "limits": {
            "peers": limits::PEERS,
            "record_bytes": limits::RECORD_BYTES,
            "message_bytes": socket::MESSAGE_BYTES,
            "heartbeat_secs": limits::HEARTBEAT.as_secs(),
            "gone_after_secs": limits::GONE_AFTER.as_secs(),
        },
        "relays": relays,
    })
}

async fn health(State(desk): State<Desk>) -> Response {
    match desk.hall.numbers().await {
        Some(_) => "ok\n".into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the lobby does not answer\n").into_response(),
    }
}

async fn metrics(State(desk): State<Desk>) -> Response {
    let Some(numbers) = desk.hall.numbers().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the lobby does not answer\n").into_response();
    };
    let mut numbers = numbers;
    if let Some(relay) = &desk.relay {
        numbers.extend(relay.numbers().await.unwrap_or_default());
    }
    let mut text = String::new();
    for (name, value) in numbers {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(text, "# TYPE lanrage_{name} {kind}\nlanrage_{name} {value}");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn party(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let mut response = match desk.audience(&headers) {
        Ok(audience) => upgrade
            .max_message_size(socket::MESSAGE_BYTES)
            .max_frame_size(socket::MESSAGE_BYTES)
            .read_buffer_size(socket::READ_BYTES)
            .on_upgrade(move |socket| socket::attend(socket, visitor, audience, desk.hall)),
        Err(refused) => refused.into_response(),
    };
    response.headers_mut().insert(PROTOCOL_HEADER, HeaderValue::from(VERSION));
    response
}
