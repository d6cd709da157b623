//! TCP and TLS connections to relays, for computers that UDP does not get out of.
//!
//! They live on the data thread and are served in place, like the UDP sockets: the loop polls each of them once a turn, and
//! what the engine writes is given to the system at the end of the same input. No task, no channel and no copy lies
//! between, so a packet by TLS leaves as soon as one by UDP. What that costs the data thread is the handshake (below a
//! millisecond; this computer's authorities are read elsewhere) and the cipher, which takes less than the tunnel's own.
//!
//! Nothing here waits: a connection that takes nothing fills its queue (`queue` says what is dropped then), and one that
//! brings what is no message is closed with a reason. Linux is asked to keep at most 16 KiB unsent, so that what waits
//! waits where the oldest can still be dropped.
//!
//! A connection whose own address left this computer is over at once: the system would go on trying for a quarter of an
//! hour. So is (on Linux) one on which sent bytes were not acknowledged for five seconds.
//!
//! Whose certificate is good: the pin where there is one, else one for the way's name; a way without a name takes any
//! (`host::control::relays` says when). A relay sees nothing but sealed packets of the tunnel in any case.

mod inbound;
mod queue;

use super::dial::dial;
use super::tls::{self, Line, Trust};
use crate::buf::batch::Datagrams;
use crate::engine::effect::HostFact;
use crate::model::addr::{Card, Via};
use crate::model::pin::Pin as CertificatePin;
use crate::model::relay::RelayWay;
use inbound::{Got, Inbound};
use queue::Queue;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the TCP connection, and for TLS on it.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes that the other side's system has not confirmed for so long: it is not there any more.
#[cfg(target_os = "linux")]
const UNCONFIRMED: Duration = Duration::from_secs(5);
/// Connections at a time; the engine uses a handful.
const STREAMS: usize = 32;
/// What the system may hold unsent, and TLS encrypted but not yet written. What is there cannot be dropped any more.
const UNSENT: u16 = 16 * 1024;

/// What happened to messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Streams that are up now.
    pub up: u64,
    /// Messages taken in to be written.
    pub sent: u64,
    /// Messages dropped because a stream did not take them fast enough, or was not there.
    pub full: u64,
    /// Messages read.
    pub received: u64,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Line, String>>>>;

enum State {
    Connecting(Connecting),
    Up(Box<Line>),
    /// Over; told when everything that came before is taken.
    Ended(String),
}

struct Stream {
    number: u8,
    to: SocketAddr,
    state: State,
    queue: Queue,
    /// Away while its messages are taken.
    inbound: Option<Inbound>,
    /// TLS holds encrypted bytes that the system did not take.
    unflushed: bool,
}

/// All connections to relays.
#[derive(Default)]
pub struct Streams {
    all: Vec<Stream>,
    news: VecDeque<HostFact>,
    reserved: Option<usize>,
    /// Addresses of this computer, as last heard.
    own: Vec<IpAddr>,
    counts: StreamCounts,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("open", &self.all.len()).field("counts", &self.counts()).finish()
    }
}

/// Messages that were taken out to be read; to be given back.
#[derive(Debug)]
pub struct Taken {
    number: u8,
    from: SocketAddr,
    inbound: Inbound,
}

impl Taken {
    /// The messages, one by one.
    pub fn messages(&mut self) -> impl Iterator<Item = Datagrams<'_>> {
        self.inbound.messages(Via::Stream(self.number), self.from)
    }
}

impl Streams {
    /// Performs `Effect::OpenStream`. To be called on the data thread's runtime.
    pub fn open(&mut self, number: u8, way: &RelayWay) {
        self.close(number);
        let down = |why: &str| HostFact::StreamDown { stream: number, why: why.to_owned() };
        if self.all.len() >= STREAMS {
            self.news.push_back(down("there are too many connections to relays already"));
            return;
        }
        let to = way.addr();
        let connecting: Connecting = match way.clone() {
            RelayWay::Udp { .. } => {
                self.news.push_back(down("a relay by UDP needs no connection"));
                return;
            }
            RelayWay::Tcp { addr } => Box::pin(async move { connect(addr).await.map(Line::Plain) }),
            RelayWay::Tls { addr, name, pin } => Box::pin(encrypted(addr, name, pin.map(CertificatePin))),
        };
        let state = State::Connecting(connecting);
        let (queue, inbound) = (Queue::default(), Some(Inbound::default()));
        self.all.push(Stream { number, to, state, queue, inbound, unflushed: false });
    }

    /// Performs `Effect::CloseStream`: nothing more is heard of it.
    pub fn close(&mut self, number: u8) {
        self.reserved = None;
        let gone = self.all.iter().position(|s| s.number == number).map(|at| self.all.swap_remove(at));
        if let Some(gone) = gone {
            self.counts.keep(&gone);
        }
        self.news.retain(|fact| {
            !matches!(fact, HostFact::StreamUp(n) | HostFact::StreamDown { stream: n, .. } if *n == number)
        });
    }

    /// This computer has these addresses now. Only one that was known to be there can be gone: not every network device is
    /// a card.
    pub fn heed_cards(&mut self, cards: &[Card]) {
        let now: Vec<IpAddr> = cards.iter().flat_map(|c| &c.nets).map(|n| n.addr).collect();
        let before = std::mem::replace(&mut self.own, now);
        for stream in &mut self.all {
            let State::Up(line) = &stream.state else { continue };
            let local = line.tcp().local_addr().map(|a| a.ip());
            if local.is_ok_and(|ip| before.contains(&ip) && !self.own.contains(&ip)) {
                stream.state = State::Ended("this computer has another address now".to_owned());
            }
        }
    }

    /// Whether there is nothing to be served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.news.is_empty()
    }

    /// What has happened since the last call.
    pub fn pop_news(&mut self) -> Option<HostFact> {
        self.news.pop_front()
    }

    /// Goes on with everything that can go on; true when there is news or a message to be taken.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut something = false;
        for stream in &mut self.all {
            self.news.extend(stream.go_on(cx));
            something |= stream.has_message();
        }
        let (news, counts) = (&mut self.news, &mut self.counts);
        self.all.retain(|stream| {
            let Some(why) = stream.ended() else { return true };
            news.push_back(HostFact::StreamDown { stream: stream.number, why: why.clone() });
            counts.keep(stream);
            false
        });
        something || !self.news.is_empty()
    }

    /// The same without anybody to be woken: for a turn of the loop.
    pub fn turn(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Waits until `poll` has something.
    pub async fn ready(&mut self) {
        std::future::poll_fn(|cx| if self.poll(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Takes out what the `at`-th stream brought; `None` when there is no whole message, or no such stream.
    pub fn take(&mut self, at: usize) -> Option<Taken> {
        let stream = self.all.get_mut(at)?;
        let inbound = stream.inbound.take_if(|i| i.has_message() == Ok(true))?;
        Some(Taken { number: stream.number, from: stream.to, inbound })
    }

    /// How many streams there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Gives back what was taken out. The stream may be gone by now.
    pub fn give_back(&mut self, taken: Taken) {
        let mut all = self.all.iter_mut();
        let Some(stream) = all.find(|s| s.number == taken.number && s.inbound.is_none()) else { return };
        stream.inbound = Some(taken.inbound);
    }

    /// Room for one message on a stream; `None` when it is not up or the message is too long.
    pub fn reserve(&mut self, number: u8, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        let up = |s: &Stream| s.number == number && matches!(s.state, State::Up(_));
        let Some(at) = self.all.iter().position(up) else {
            self.counts.full += 1;
            return None;
        };
        self.reserved = Some(at);
        self.all.get_mut(at)?.queue.reserve(len)
    }

    /// The first `len` bytes of the room are a message.
    pub fn commit(&mut self, len: usize) {
        let stream = self.reserved.take().and_then(|at| self.all.get_mut(at));
        if let Some(stream) = stream {
            stream.queue.commit(len);
        }
    }

    /// Gives the system what waits. Called at the end of each input.
    pub fn flush(&mut self) {
        self.reserved = None;
        let mut cx = Context::from_waker(Waker::noop());
        for stream in &mut self.all {
            stream.write(&mut cx);
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> StreamCounts {
        let mut counts = self.counts;
        for stream in &self.all {
            counts.add(stream);
        }
        counts
    }
}

impl StreamCounts {
    fn add(&mut self, stream: &Stream) {
        let (dropped, taken) = stream.queue.counts();
        self.up += u64::from(matches!(stream.state, State::Up(_)));
        self.full += dropped;
        self.sent += taken;
        self.received += stream.inbound.as_ref().map_or(0, |i| i.received);
    }

    /// A stream's numbers outlive it.
    fn keep(&mut self, stream: &Stream) {
        let up = self.up;
        self.add(stream);
        self.up = up;
    }
}

impl Stream {
    /// Connects, writes and reads as far as it goes.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Option<HostFact> {
        let up = match &mut self.state {
            State::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(line)) => {
                    self.state = State::Up(Box::new(line));
                    Some(HostFact::StreamUp(self.number))
                }
                Poll::Ready(Err(why)) => {
                    self.state = State::Ended(why);
                    None
                }
            },
            State::Up(_) | State::Ended(_) => None,
        };
        self.write(cx);
        self.read(cx);
        up
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        let State::Up(line) = &mut self.state else { return };
        let written = loop {
            let next = self.queue.next();
            if next.is_empty() {
                break Ok(());
            }
            match Pin::new(&mut **line).poll_write(cx, next) {
                Poll::Pending => break Ok(()),
                Poll::Ready(Ok(0)) => break Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.queue.wrote(n);
                    self.unflushed = true;
                }
                Poll::Ready(Err(e)) => break Err(e),
            }
        };
        let flushed = written.and_then(|()| {
            if self.unflushed
                && let Poll::Ready(flushed) = Pin::new(&mut **line).poll_flush(cx)
            {
                self.unflushed = false;
                return flushed;
            }
            Ok(())
        });
        if let Err(e) = flushed {
            self.state = State::Ended(broke(&e));
        }
    }

    /// Reads until there is a message, or nothing more to be read.
    fn read(&mut self, cx: &mut Context<'_>) {
        let (State::Up(line), Some(inbound)) = (&mut self.state, &mut self.inbound) else { return };
        let why = loop {
            match inbound.has_message() {
                Ok(true) => return,
                Ok(false) => {}
                Err(()) => break "the relay sent what is neither STUN nor ChannelData".to_owned(),
            }
            match inbound.poll_read(cx, Pin::new(&mut **line)) {
                Poll::Pending => return,
                Poll::Ready(Ok(Got::Bytes)) => {}
                Poll::Ready(Ok(Got::End)) => break "the relay hung up".to_owned(),
                Poll::Ready(Err(e)) => break broke(&e),
            }
        };
        self.state = State::Ended(why);
    }

    fn has_message(&self) -> bool {
        self.inbound.as_ref().is_some_and(|i| i.has_message() == Ok(true))
    }

    /// Why it is over, once everything that it brought is taken.
    fn ended(&self) -> Option<&String> {
        match &self.state {
            State::Ended(why) if !self.has_message() => Some(why),
            State::Ended(_) | State::Connecting(_) | State::Up(_) => None,
        }
    }
}

fn broke(error: &io::Error) -> String {
    // TLS without a goodbye: what a crashed relay, or one behind an impatient middlebox, looks like.
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "the relay hung up".to_owned();
    }
    format!("the connection to the relay broke: {error}")
}

async fn connect(addr: SocketAddr) -> Result<TcpStream, String> {
    let stream = dial(&[addr], WITHIN).await.map_err(|e| {
        let kind = e.kind();
        if kind == io::ErrorKind::ConnectionRefused {
            format!("nothing listens at {addr}")
        } else if kind == io::ErrorKind::TimedOut {
            format!("{addr} does not answer")
        } else {
            format!("no connection to {addr}: {e}")
        }
    })?;
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(&stream);
        let set = socket.set_tcp_notsent_lowat(UNSENT.into());
        if let Err(error) = set.and_then(|()| socket.set_tcp_user_timeout(Some(UNCONFIRMED))) {
            tracing::debug!(%error, "the system keeps its own patience with connections");
        }
    }
    Ok(stream)
}

async fn encrypted(addr: SocketAddr, name: String, pin: Option<CertificatePin>) -> Result<Line, String> {
    let stream = connect(addr).await?;
    let trust = match pin {
        Some(pin) => Trust::Pinned(pin),
        None if name.is_empty() => Trust::Anyone,
        None => Trust::Roots,
    };
    let host = if name.is_empty() { addr.ip().to_string() } else { name };
    // No ALPN: relays that know it are rare, and one that insists on HTTP is none.
    let wrapped = timeout(WITHIN, tls::wrap(stream, trust, &host, &addr.to_string(), &[])).await;
    let mut line = wrapped.map_err(|_| format!("{addr} does not answer in time"))?.map_err(|no| no.why)?;
    if let Line::Tls(stream) = &mut line {
        stream.get_mut().1.set_buffer_limit(Some(UNSENT.into()));
    }
    Ok(line)
}
