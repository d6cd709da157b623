//! The carrier of a `lanrage server`: one WebSocket, one task. `reach` finds the way to it, `relays` completes what it
//! offers.
//!
//! `Open` tries a few times with growing, jittered pauses, but only what may pass by itself (refused, timed out, name
//! not found, a proxy in trouble); a wrong address, certificate or version is said at once. Pings find a dead connection.
//! Everything from the server is hostile until parsed: sizes are capped, texts are tidied, messages that only a carrier
//! may make are dropped, and the audience that a hello is bound to is what *this* side dialled, never what it is told.

use super::choice::{HTTPS_PORT, ServerAddress};
use super::reach::{Connected, Kind, Socket, reach};
use super::relays::Reached;
use super::{Out, ToCarrier};
use crate::model::dice::{Dice, Seed};
use crate::model::limits;
use crate::wire::control::{Down, Up};
use futures_util::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

/// A frame that the server does not take within this time ends the connection.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// How long a goodbye may take.
const LINGER: Duration = Duration::from_secs(2);
/// Characters of a server's text that people are shown.
const TEXT_CHARS: usize = 300;

/// How patient a carrier is with a server.
#[derive(Debug, Clone)]
pub struct ServerTuning {
    /// For one TCP connection.
    pub connect_within: Duration,
    /// For one attempt, from the name to the first message.
    pub answer_within: Duration,
    /// Attempts of one `Open`.
    pub attempts: u32,
    /// The pause after the first failure; doubles, with jitter.
    pub pause: Duration,
    /// Between pings.
    pub ping_every: Duration,
    /// A connection on which nothing arrived for this long is dead.
    pub dead_after: Duration,
    /// Where a server is looked for, by TLS, when its own port does not answer; `None`: nowhere.
    pub fallback_port: Option<u16>,
}

impl Default for ServerTuning {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(5),
            answer_within: Duration::from_secs(10),
            attempts: limits::HTTP_ATTEMPTS,
            pause: Duration::from_secs(1),
            ping_every: Duration::from_secs(25),
            dead_after: Duration::from_secs(60),
            fallback_port: Some(HTTPS_PORT),
        }
    }
}

/// What comes after a connection.
enum Next {
    Idle,
    Open,
    Stop,
}

/// Runs until nobody asks any more.
pub(crate) async fn run(url: String, tuning: ServerTuning, mut rx: mpsc::Receiver<ToCarrier>, out: Out) {
    let mut seed = [0; 32];
    // Without random numbers the pauses are merely the same every time.
    let _ = getrandom::fill(&mut seed);
    let mut line = Line { tuning, dice: Seed(seed).dice("carrier"), out, fell_back: false };
    let mut next = Next::Idle;
    loop {
        next = match next {
            Next::Stop => return,
            Next::Idle => match rx.recv().await {
                Some(ToCarrier::Open) => Next::Open,
                Some(ToCarrier::Close | ToCarrier::Send(_)) => Next::Idle,
                None => Next::Stop,
            },
            Next::Open => match url.parse::<ServerAddress>() {
                Ok(address) => line.open(&address, &mut rx).await,
                Err(error) => line.closed(error.to_string()).await,
            },
        };
    }
}

struct Line {
    tuning: ServerTuning,
    dice: Dice,
    out: Out,
    /// The last connection was made on the other port.
    fell_back: bool,
}

impl Line {
    async fn open(&mut self, address: &ServerAddress, rx: &mut mpsc::Receiver<ToCarrier>) -> Next {
        let connected = {
            let connecting = self.connect(address);
            tokio::pin!(connecting);
            loop {
                tokio::select! {
                    connected = &mut connecting => break connected,
                    message = rx.recv() => match message {
                        Some(ToCarrier::Open | ToCarrier::Send(_)) => {}
                        Some(ToCarrier::Close) => return Next::Idle,
                        None => return Next::Stop,
                    },
                }
            }
        };
        match connected {
            Ok(Connected { socket, opened, reached }) => {
                self.fell_back = reached.round;
                if !self.out.send(opened).await {
                    return Next::Stop;
                }
                self.converse(socket, address, &reached, rx).await
            }
            Err(why) => self.closed(why).await,
        }
    }

    /// A connection and the server's challenge, after a few attempts.
    async fn connect(&mut self, address: &ServerAddress) -> Result<Connected, String> {
        let mut pause = self.tuning.pause;
        let mut attempt = 1;
        loop {
            let failure = match reach(address, &self.tuning, self.fell_back).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => failure,
            };
            if failure.kind != Kind::Passing || attempt >= self.tuning.attempts {
                return Err(failure.why);
            }
            tracing::debug!(attempt, "server: {}", failure.why);
            sleep(self.dice.jitter(pause, 30)).await;
            pause *= 2;
            attempt += 1;
        }
    }

    async fn converse(
        &self,
        mut socket: Socket,
        address: &ServerAddress,
        reached: &Reached,
        rx: &mut mpsc::Receiver<ToCarrier>,
    ) -> Next {
        let name = address.authority();
        let mut heard = Instant::now();
        let every = self.tuning.ping_every;
        let mut ping = interval_at(heard + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let sending = tokio::select! {
                message = rx.recv() => match message {
                    Some(ToCarrier::Send(up)) => to_text(&up),
                    Some(ToCarrier::Close) => return hang_up(socket, Next::Idle).await,
                    Some(ToCarrier::Open) => return hang_up(socket, Next::Open).await,
                    None => return hang_up(socket, Next::Stop).await,
                },
                _ = ping.tick() => Some(Message::Ping(Vec::new().into())),
                message = socket.next() => {
                    heard = Instant::now();
                    match read(message, &name) {
                        // A second challenge could ask for a hello that is good at another server.
                        Ok(None | Some(Down::Opened { .. })) => None,
                        Ok(Some(down)) => {
                            let down = complete(down, reached, address);
                            if !self.out.send(down).await {
                                return Next::Stop;
                            }
                            None
                        }
                        Err(why) => return self.closed(why).await,
                    }
                }
                () = sleep_until(heard + self.tuning.dead_after) => {
                    return self.closed(format!("the server {name} does not answer any more")).await;
                }
            };
            if let Some(message) = sending
                && !matches!(timeout(SEND_WITHIN, socket.send(message)).await, Ok(Ok(())))
            {
                // The server may have said why before it hung up.
                let why =
                    last_words(&mut socket, &self.out, &name, |down| complete(down, reached, address)).await;
                return self.closed(why).await;
            }
        }
    }

    async fn closed(&self, why: String) -> Next {
        if self.out.closed(why).await { Next::Idle } else { Next::Stop }
    }
}

/// A message with what only this side knows.
fn complete(down: Down, reached: &Reached, address: &ServerAddress) -> Down {
    match down {
        Down::Relays { offers } => Down::Relays { offers: reached.fill(address, offers) },
        other @ (Down::Opened { .. }
        | Down::Closed { .. }
        | Down::Notice { .. }
        | Down::Refused { .. }
        | Down::Welcome { .. }
        | Down::Record { .. }
        | Down::Gone { .. }
        | Down::Rotated { .. }
        | Down::Signal { .. }) => other,
    }
}

/// What a frame means; `None` for what can be ignored, an error when the connection is over.
pub(super) fn read(message: Option<Result<Message, Error>>, name: &str) -> Result<Option<Down>, String> {
    let text = match message {
        None => return Err(format!("the connection to {name} was lost")),
        Some(Err(Error::Capacity(_))) => {
            return Err(format!("the server {name} sent more than any honest message holds"));
        }
        Some(Err(error)) => return Err(format!("the connection to {name} was lost: {error}")),
        Some(Ok(Message::Close(frame))) => {
            let why = frame.map(|f| tidy(f.reason.as_str())).filter(|why| !why.is_empty());
            return Err(match why {
                Some(why) => format!("the server {name} hung up: {why}"),
                None => format!("the server {name} hung up"),
            });
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(None),
        Some(Ok(Message::Binary(_))) => return Err(format!("the server {name} sent what is no message")),
        Some(Ok(Message::Text(text))) => text,
    };
    match serde_json::from_str::<Down>(text.as_str()) {
        Ok(Down::Closed { .. } | Down::Notice { .. }) => Ok(None),
        Ok(Down::Refused { code, message }) => Ok(Some(Down::Refused { code, message: tidy(&message) })),
        Ok(Down::Welcome { epoch, rotation, mut peers }) => {
            peers.truncate(limits::PEERS);
            Ok(Some(Down::Welcome { epoch, rotation, peers }))
        }
        Ok(
            down @ (Down::Opened { .. }
            | Down::Record { .. }
            | Down::Gone { .. }
            | Down::Rotated { .. }
            | Down::Relays { .. }
            | Down::Signal { .. }),
        ) => Ok(Some(down)),
        // A newer server may know more messages.
        Err(_)
            if serde_json::from_str::<serde_json::Value>(text.as_str())
                .is_ok_and(|v| v.get("down").is_some()) =>
        {
            tracing::debug!("the server sent a message that this version does not know");
            Ok(None)
        }
        Err(_) => Err(format!("the server {name} sent what is no message")),
    }
}

fn to_text(up: &Up) -> Option<Message> {
    match serde_json::to_string(up) {
        Ok(text) => Some(Message::text(text)),
        Err(error) => {
            tracing::error!(%error, "a message could not be written");
            None
        }
    }
}

/// Text of a stranger, fit to be shown.
pub(super) fn tidy(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS).collect()
}

/// What arrived before the connection broke.
async fn last_words(socket: &mut Socket, out: &Out, name: &str, complete: impl Fn(Down) -> Down) -> String {
    let listen = async {
        loop {
            match read(socket.next().await, name) {
                Ok(Some(down)) => {
                    out.send(complete(down)).await;
                }
                Ok(None) => {}
                Err(why) => return why,
            }
        }
    };
    timeout(LINGER, listen).await.unwrap_or_else(|_| format!("the connection to {name} was lost"))
}

/// Says goodbye and waits a little for the answer, so that what was sent before arrives.
async fn hang_up(mut socket: Socket, next: Next) -> Next {
    let goodbye = async {
        if socket.close(None).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = timeout(LINGER, goodbye).await;
    next
}
