//! The relay's thread: waits for sockets and messages, gives what it reads to the machine, and does what the machine wants.
//!
//! Ready sockets take turns, one read each, until all are empty: a flood on one port does not starve the others, and nothing is
//! read more often than it was woken for. The clock is read once a turn.

use super::outbox::Outbox;
use super::sockets::{Addresses, Udp, open_port};
use super::{Numbers, Shared, ToRelay};
use crate::engine::relay::{Client, HEADROOM, PortId, Relay, RelayEffect, StreamId};
use crate::host::clock::HostClock;
use crate::model::dice::Dice;
use crate::model::limits::GRO_BYTES;
use crate::model::time::Now;
use mio::{Events, Interest, Poll, Token};
use quinn_udp::RecvMeta;
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// Buffers of one read of a socket that all clients share; the system gives so many at most.
const MANY: usize = 32;
/// And of an allocation's port, which one or a few peers send to.
const FEW: usize = 8;
/// Events of one wait.
const EVENTS: usize = 1024;
/// Messages of streams taken at once.
const MESSAGES: usize = 256;
/// The token of the waker; listeners come after it, then ports.
pub(super) const WAKER: Token = Token(0);
/// Errors of one read that say something about an earlier send (Windows).
const STALE_ERRORS: usize = 16;

/// Everything that the thread owns.
pub(super) struct Worker {
    pub(super) poll: Poll,
    pub(super) relay: Relay,
    pub(super) clock: HostClock,
    pub(super) outbox: Outbox,
    pub(super) addresses: Addresses,
    pub(super) dice: Dice,
    pub(super) inbox: mpsc::Receiver<ToRelay>,
    pub(super) shared: Arc<Shared>,
    pub(super) clients: BTreeMap<StreamId, Client>,
}

/// What one turn may read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Inbox,
    Listener(usize),
    Port(PortId),
}

/// Memory of one read, used again and again. Pages that no traffic ever needed stay unmapped.
struct Buffers {
    memory: Box<[u8]>,
    metas: [RecvMeta; MANY],
}

/// Each buffer with its headroom.
const EACH: usize = HEADROOM + GRO_BYTES;

impl Worker {
    /// Works until told to stop.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        let listeners = self.outbox.listeners.len();
        for (at, socket) in self.outbox.listeners.iter_mut().enumerate() {
            self.poll.registry().register(&mut socket.io, Token(1 + at), Interest::READABLE)?;
        }
        let mut buffers =
            Buffers { memory: vec![0; EACH * MANY].into_boxed_slice(), metas: [RecvMeta::default(); MANY] };
        let mut events = Events::with_capacity(EVENTS);
        let mut ready: VecDeque<Ready> = VecDeque::new();
        loop {
            let now = self.clock.now();
            let wait = self.relay.deadline().map(|d| d.at.since(now.mono));
            let wait = if ready.is_empty() { wait } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, wait) {
                Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e.into()),
                Ok(()) | Err(_) => {}
            }
            let left = ready.len();
            for event in &events {
                let one = match event.token() {
                    WAKER => Ready::Inbox,
                    Token(at) if at <= listeners => Ready::Listener(at - 1),
                    Token(at) => Ready::Port(PortId(u32::try_from(at - 1 - listeners).unwrap_or(u32::MAX))),
                };
                // A wait names each only once; what is left of the last turn may be named again.
                if !ready.iter().take(left).any(|known| *known == one) {
                    ready.push_back(one);
                }
            }
            let now = self.clock.now();
            for _ in 0..ready.len() {
                let Some(one) = ready.pop_front() else { break };
                let more = match one {
                    Ready::Inbox => match self.read_inbox(now) {
                        Some(more) => more,
                        None => return Ok(()),
                    },
                    Ready::Listener(at) => self.read_listener(at, &mut buffers, now),
                    Ready::Port(port) => self.read_port(port, &mut buffers, now),
                };
                self.drain();
                self.outbox.flush();
                if more {
                    ready.push_back(one);
                }
            }
            if self.relay.deadline().is_some_and(|d| d.at <= now.mono) {
                self.relay.handle_timeout(now);
                self.drain();
                self.outbox.flush();
            }
        }
    }

    fn read_listener(&mut self, at: usize, buffers: &mut Buffers, now: Now) -> bool {
        let Some(socket) = self.outbox.listeners.get(at) else { return false };
        let local = socket.local;
        let (got, more) = receive(socket, MANY, buffers);
        for (meta, buffer) in buffers.read(got) {
            let ip = meta.dst_ip.filter(|_| local.ip().is_unspecified()).unwrap_or_else(|| local.ip());
            let client = Client { addr: meta.addr, server: SocketAddr::new(ip, local.port()), stream: None };
            for packet in packets(meta) {
                self.relay.handle_client(&client, buffer, packet, now, &mut self.outbox);
            }
        }
        more
    }

    fn read_port(&mut self, port: PortId, buffers: &mut Buffers, now: Now) -> bool {
        // It may have been closed since the event.
        let socket = self.outbox.ports.get(port.0 as usize).and_then(Option::as_ref);
        let Some(socket) = socket else { return false };
        let (got, more) = receive(socket, FEW, buffers);
        for (meta, buffer) in buffers.read(got) {
            for packet in packets(meta) {
                self.relay.handle_peer(port, meta.addr, buffer, packet, now, &mut self.outbox);
            }
        }
        more
    }

    /// Whether there may be more; `None`: stop.
    fn read_inbox(&mut self, now: Now) -> Option<bool> {
        // Before reading: what is sent from now on wakes anew.
        self.shared.woken.store(false, Ordering::SeqCst);
        for _ in 0..MESSAGES {
            match self.inbox.try_recv() {
                Ok(ToRelay::Open { client, outlet }) => {
                    if let Some(stream) = client.stream {
                        self.clients.insert(stream, client);
                        self.outbox.streams.insert(stream, outlet);
                    }
                }
                Ok(ToRelay::Frame(stream, mut bytes)) => {
                    let Some(client) = self.clients.get(&stream) else { continue };
                    let end = bytes.len();
                    self.relay.handle_client(client, &mut bytes, HEADROOM..end, now, &mut self.outbox);
                    self.drain();
                }
                Ok(ToRelay::Close(stream)) => {
                    self.clients.remove(&stream);
                    self.outbox.streams.remove(&stream);
                    self.relay.handle_closed(stream);
                }
                Ok(ToRelay::Ask(answer)) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(self.numbers());
                }
                Ok(ToRelay::Stop) | Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => return Some(false),
            }
        }
        Some(true)
    }

    fn drain(&mut self) {
        while let Some(effect) = self.relay.poll_effect() {
            match effect {
                RelayEffect::OpenPort { port, family, near, even, whole } => {
                    let opened = match self.addresses.place(family, near) {
                        Some((local, public)) => {
                            self.open(port, local, even, whole).map(|number| SocketAddr::new(public, number))
                        }
                        None => None,
                    };
                    self.relay.handle_opened(port, opened, &mut self.outbox);
                }
                RelayEffect::ClosePort(port) => {
                    // What it was to send goes first.
                    self.outbox.flush();
                    let socket = self.outbox.ports.get_mut(port.0 as usize).and_then(Option::take);
                    if let Some(mut socket) = socket {
                        let _ = self.poll.registry().deregister(&mut socket.io);
                    }
                }
            }
        }
    }

    fn open(&mut self, port: PortId, local: std::net::IpAddr, even: bool, whole: bool) -> Option<u16> {
        let opened = open_port(local, even, whole, &mut self.dice).and_then(|mut socket| {
            let token = Token(1 + self.outbox.listeners.len() + port.0 as usize);
            self.poll.registry().register(&mut socket.io, token, Interest::READABLE)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                let number = socket.local.port();
                let at = port.0 as usize;
                if self.outbox.ports.len() <= at {
                    self.outbox.ports.resize_with(at + 1, || None);
                }
                *self.outbox.ports.get_mut(at)? = Some(socket);
                Some(number)
            }
            Err(error) => {
                tracing::warn!("an allocation got no port: {error:#}");
                None
            }
        }
    }

    fn numbers(&self) -> Numbers {
        let mut numbers = self.relay.numbers();
        let counts = self.outbox.counts();
        numbers.extend([
            ("relay_streams", self.clients.len() as u64),
            ("relay_send_calls_total", counts.calls),
            ("relay_sent_total", counts.sent),
            ("relay_dropped_full_total", counts.full),
            ("relay_dropped_failed_total", counts.failed),
            ("relay_dropped_slow_total", counts.slow),
        ]);
        numbers
    }
}

impl Buffers {
    /// What the last read brought: of whom, and the whole buffer with its headroom.
    fn read(&mut self, got: usize) -> impl Iterator<Item = (&RecvMeta, &mut [u8])> {
        self.metas.iter().take(got).zip(self.memory.chunks_exact_mut(EACH))
    }
}

/// Where the datagrams of one buffer lie. The system may have merged several of one sender (GRO).
fn packets(meta: &RecvMeta) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let (length, stride) = (meta.len, meta.stride.max(1));
    let many = length.div_ceil(stride).max(1);
    (0..many).map(move |at| HEADROOM + at * stride..HEADROOM + length.min((at + 1) * stride))
}

/// One read: how many buffers it filled, and whether there may be more.
fn receive(socket: &Udp, most: usize, buffers: &mut Buffers) -> (usize, bool) {
    for _ in 0..STALE_ERRORS {
        let mut rest =
            buffers.memory.chunks_exact_mut(EACH).map(|b| b.get_mut(HEADROOM..).unwrap_or_default());
        let mut slices: [IoSliceMut<'_>; MANY] =
            std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
        let slices = slices.get_mut(..most).unwrap_or_default();
        match socket.receive(slices, &mut buffers.metas) {
            // Linux reads a batch until the queue is empty, so one that is not full has seen the end, and whatever comes
            // later is a new event. Other systems read one buffer a call and learn nothing from that.
            Ok(got) => return (got, !cfg!(target_os = "linux") || got >= most),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return (0, false),
            Err(_) => {}
        }
    }
    (0, false)
}
