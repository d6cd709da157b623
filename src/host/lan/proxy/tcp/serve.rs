//! Who is served when: bells, deadlines, and how a connection goes on from step to step to its end.

use super::bell::Token;
use super::line::{Fate, Open, Phase};
use super::segment::Segment;
use super::stack::Pipe;
use super::{BREATH, Tcp, door, stand_in, window};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Connections taken from one listener before the others have their turn.
const ACCEPTS: usize = 32;

impl Tcp {
    pub(super) fn serve_all(&mut self) {
        let now = Instant::now();
        while let Some((at, token)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, token));
            match token {
                Token::Line(index, _) => self.ripe(index, now),
                Token::Door(index, _) => {
                    self.doors.get(index).iter().for_each(|door| door.bell.ring());
                }
            }
        }
        let spare = std::mem::take(&mut self.spare);
        let mut rung = self.rung.take(spare);
        for token in rung.drain(..) {
            match token {
                Token::Line(index, generation) => {
                    if self.lines.get(index).is_some_and(|l| l.generation == generation) {
                        self.serve(index, now);
                    }
                }
                Token::Door(index, generation) => {
                    if self.doors.get(index).is_some_and(|d| d.generation == generation) {
                        self.answer_door(index, now);
                    }
                }
            }
        }
        self.spare = rung;
    }

    /// A connection or more at a listener.
    fn answer_door(&mut self, index: usize, now: Instant) {
        if let Some(door) = self.doors.get(index) {
            door.bell.heard();
        }
        for _ in 0..ACCEPTS {
            let Some(door) = self.doors.get(index) else { return };
            match door.listener.poll_accept(&mut Context::from_waker(&door.waker)) {
                Poll::Pending => return,
                Poll::Ready(Ok((stream, from))) if !door.is_for(from) => {
                    self.counts.strangers += 1;
                    door::reset(stream);
                }
                Poll::Ready(Ok((stream, _))) => {
                    let to = door.to;
                    self.call(stream, to, now);
                }
                // Taken back before it was taken, or no descriptor is left.
                Poll::Ready(Err(_)) => {
                    self.counts.starved += 1;
                    self.due.insert((now + BREATH, Token::Door(index, door.generation)));
                    return;
                }
            }
        }
        self.doors.get(index).iter().for_each(|door| door.bell.ring());
    }

    /// A connection's time has come: it has packets, or it took too long to open.
    fn ripe(&mut self, index: usize, now: Instant) {
        let Some(line) = self.lines.get_mut(index) else { return };
        line.due = None;
        if line.half_open.is_some_and(|until| until <= now) {
            self.counts.timed_out += 1;
            self.give_up(index, now);
            return;
        }
        self.enqueue(index);
    }

    fn enqueue(&mut self, index: usize) {
        if let Some(line) = self.lines.get_mut(index)
            && !std::mem::replace(&mut line.queued, true)
        {
            self.queue.push_back(index);
        }
    }

    /// A connection has sent what it could: when is it to be looked at again?
    pub(super) fn rest(&mut self, index: usize, now: Instant) {
        let Self { lines, stack, due, .. } = self;
        let Some(line) = lines.get_mut(index) else { return };
        line.queued = false;
        let next = match &line.phase {
            Phase::Open(open) => {
                // Sending, too, may bring it to its end: by silence, or with the last acknowledgement.
                if open.fate() != Fate::Lives {
                    line.bell.ring();
                }
                stack.due(&open.pipe, now)
            }
            Phase::Dialing { .. } => None,
        };
        let next = [next, line.half_open].into_iter().flatten().min();
        if next != line.due {
            let token = Token::Line(index, line.generation);
            line.due.iter().for_each(|old| _ = due.remove(&(*old, token)));
            next.iter().for_each(|new| _ = due.insert((*new, token)));
            line.due = next;
        }
    }

    /// A connection rang: goes on with it.
    fn serve(&mut self, index: usize, now: Instant) {
        let Some(line) = self.lines.get_mut(index) else { return };
        line.bell.heard();
        let mut cx = Context::from_waker(&line.waker);
        match &mut line.phase {
            Phase::Dialing { dialing, .. } => match dialing.as_mut().poll(&mut cx) {
                Poll::Pending => self.enqueue(index),
                Poll::Ready(Ok(stream)) => self.connected(index, stream, now),
                Poll::Ready(Err(e)) => self.not_connected(index, &e, now),
            },
            Phase::Open(open) => {
                let fate = open.carry(&mut cx);
                if line.half_open.is_some() && open.stands() {
                    line.half_open = None;
                    let (peer, inward) = (*line.key.peer.ip(), line.inward);
                    self.stands(peer, inward);
                }
                self.decide(index, fate, now);
            }
        }
    }

    fn stands(&mut self, peer: Ipv4Addr, inward: bool) {
        if inward {
            self.counts.inward += 1;
            if let Some(load) = self.loads.get_mut(&peer) {
                load.half = load.half.saturating_sub(1);
            }
        } else {
            self.counts.outward += 1;
        }
    }

    fn decide(&mut self, index: usize, fate: Fate, now: Instant) {
        if fate == Fate::Lives {
            self.enqueue(index);
            return;
        }
        let Some(line) = self.remove(index) else { return };
        let Phase::Open(mut open) = line.phase else { return };
        match fate {
            Fate::Lives => {}
            Fate::Over => {
                if let Some(last) = open.pipe.last.take() {
                    self.graves.bury(line.key, last, now);
                }
            }
            Fate::PeerBroke => {
                if line.half_open.is_some() {
                    self.counts.refused += 1;
                } else {
                    self.counts.reset += 1;
                }
                self.stack.last_words(&mut open.pipe, now);
                door::reset(open.local);
            }
            Fate::LocalBroke => {
                self.counts.reset += 1;
                open.pipe.tcp_mut().abort();
                self.stack.last_words(&mut open.pipe, now);
            }
        }
    }

    /// Ends a connection that did not come to stand, on whichever side is there.
    fn give_up(&mut self, index: usize, now: Instant) {
        let Some(line) = self.remove(index) else { return };
        match line.phase {
            Phase::Dialing { syn, .. } => self.refuse(&syn, now),
            Phase::Open(mut open) => {
                open.pipe.tcp_mut().abort();
                self.stack.last_words(&mut open.pipe, now);
                door::reset(open.local);
            }
        }
    }

    /// The local connection stands: now the peer's SYN is heard.
    fn connected(&mut self, index: usize, stream: TcpStream, now: Instant) {
        let mut pipe = Pipe::new(window(self.lines.len()));
        let Self { us, lines, stack, .. } = self;
        let Some(line) = lines.get_mut(index) else { return };
        let Phase::Dialing { syn, .. } = &line.phase else { return };
        if stack.listen(&mut pipe, *us, line.key)
            && let Some(segment) = Segment::parse(syn)
        {
            stack.hear(&mut pipe, &segment, now);
        }
        let mut open = Box::new(Open::new(stream, pipe));
        // Registers it with the reactor, and finds out whether the SYN was one.
        let fate = open.carry(&mut Context::from_waker(&line.waker));
        line.phase = Phase::Open(open);
        self.decide(index, fate, now);
    }

    fn not_connected(&mut self, index: usize, error: &io::Error, now: Instant) {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            if self.seek(index, now) {
                return;
            }
            self.counts.refused += 1;
        } else {
            self.counts.starved += 1;
        }
        self.give_up(index, now);
    }

    /// Nobody is where games usually listen: goes on where the system says that one does, if that is another address.
    fn seek(&mut self, index: usize, now: Instant) -> bool {
        let header = self.lines.get(index).and_then(|line| self.header(line.key));
        let Self { lines, locals, doors, .. } = self;
        let Some(line) = lines.get_mut(index) else { return false };
        let Phase::Dialing { dialing, at, .. } = &mut line.phase else { return false };
        let home = locals.home(line.key.port, now.into_std()).filter(|home| home != at);
        // What is open to neighbours is no game of this computer.
        let is_ours =
            |home: &Ipv4Addr| doors.iter().any(|d| d.bound == SocketAddrV4::new(*home, line.key.port));
        let home = home.filter(|home| !is_ours(home));
        let Some(home) = home.filter(|_| *at == Ipv4Addr::LOCALHOST) else { return false };
        let game = SocketAddrV4::new(home, line.key.port);
        (*at, *dialing) = (home, Box::pin(door::dial(stand_in(*line.key.peer.ip()), game, header)));
        line.bell.ring();
        true
    }

    fn refuse(&mut self, syn: &[u8], now: Instant) {
        if let Some(segment) = Segment::parse(syn) {
            self.stack.refuse(&segment, now);
        }
    }
}
