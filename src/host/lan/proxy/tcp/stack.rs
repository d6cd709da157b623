//! smoltcp, driven one connection at a time.
//!
//! An interface of smoltcp looks through all its sockets for every packet and at every poll. So each connection is a
//! socket set of its own here, found by its addresses in our own table, and what is polled is one connection that has
//! something to do. The device is made for one call: it holds the packet that came in, or the room for one to go out.

use super::segment::{Key, Segment, flag, flags_of};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration as SmolDuration, Instant as SmolInstant};
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Cidr};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::Instant;

/// smoltcp's clock runs faster than ours by this much. It waits a whole second before it sends a lost packet again, and
/// nobody can tell it otherwise; by its clock that is 200 ms of ours, which is what Linux waits at least.
const HASTE: u32 = 5;
/// A silent connection is asked for a sign of life so often,
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// and given up after so long. A laptop lid that is closed for a minute or a change of the path costs no game.
const SILENCE: Duration = Duration::from_secs(300);
/// An acknowledgement may wait so long for something to travel with.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// Packets that answer what came in and are not fetched yet. What does not fit is lost, as on any wire.
const REPLIES: usize = 1_024;
/// The least that IPv4 lets a link carry is 68; below this no header with options would leave room for data.
const LEAST_MTU: usize = 296;
/// smoltcp says "now" for what it then does not do (its checks differ in a few places); asked again so much later.
const PATIENCE: Duration = Duration::from_millis(10);

/// The interface that all connections share.
pub(super) struct Stack {
    iface: Interface,
    mtu: usize,
    origin: Instant,
    replies: VecDeque<Box<[u8]>>,
    scratch: Vec<u8>,
    /// Answers that found no room.
    pub(super) lost: u64,
}

/// One connection's end in the tunnel.
pub(super) struct Pipe {
    set: SocketSet<'static>,
    handle: SocketHandle,
    /// What the first byte of the other side's stream has as its number.
    base: Option<u32>,
    /// The last window told was a scaled one.
    settled: bool,
    /// The packet that confirmed the other side's end.
    pub(super) last: Option<Box<[u8]>>,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe").field("state", &self.tcp().state()).finish_non_exhaustive()
    }
}

impl Pipe {
    /// An end that holds at most `window` bytes in each direction. The memory is asked for zeroed, so that the system
    /// gives the pages only when they are written.
    pub(super) fn new(window: usize) -> Self {
        let buffer = || SocketBuffer::new(vec![0; window]);
        let mut socket = Socket::new(buffer(), buffer());
        // The local program has decided already what is worth a packet.
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(Some(hasty(KEEP_ALIVE)));
        socket.set_timeout(Some(hasty(SILENCE)));
        socket.set_ack_delay(Some(hasty(ACK_DELAY)));
        let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = set.add(socket);
        Self { set, handle, base: None, settled: false, last: None }
    }

    pub(super) fn tcp(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    pub(super) fn tcp_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Whether this segment claims room that nobody offered. While the last window told is the one of a SYN, which is
    /// never scaled, smoltcp believes that it was, and would take in bytes that its buffer has no place for.
    fn oversteps(&self, segment: &Segment<'_>) -> bool {
        let offered = self.tcp().recv_capacity().min(usize::from(u16::MAX));
        let len = u32::try_from(segment.data).unwrap_or(u32::MAX);
        !self.settled
            && len > 0
            && self.base.is_some_and(|base| {
                let end = segment.seq.wrapping_add(len).wrapping_sub(base);
                usize::try_from(end).is_ok_and(|end| end > offered)
            })
    }

    /// All is said and confirmed on both sides. Polled any further, smoltcp would after ten seconds throw away what the
    /// local program has not read yet.
    fn rests(&self) -> bool {
        self.tcp().state() == State::TimeWait && self.last.is_some()
    }

    fn note(&mut self, packet: &[u8]) {
        let flags = flags_of(packet);
        if flags & flag::SYN != 0 {
            self.settled = false;
        } else if flags & (flag::RST | flag::ACK) == flag::ACK {
            self.settled = true;
        }
        if self.tcp().state() == State::TimeWait {
            self.last = Some(packet.into());
        }
    }
}

impl Stack {
    pub(super) fn new(us: Ipv4Addr, mtu: u16) -> Self {
        let mtu = usize::from(mtu).max(LEAST_MTU);
        let origin = Instant::now();
        Self {
            iface: interface(us, mtu),
            mtu,
            origin,
            replies: VecDeque::new(),
            scratch: vec![0; mtu],
            lost: 0,
        }
    }

    /// Another packet size; connections go on with it. smoltcp learns it only when an interface is made.
    pub(super) fn set_mtu(&mut self, us: Ipv4Addr, mtu: u16) {
        self.mtu = usize::from(mtu).max(LEAST_MTU);
        self.iface = interface(us, self.mtu);
        self.scratch = vec![0; self.mtu];
    }

    /// Waits for the SYN of this connection.
    pub(super) fn listen(&self, pipe: &mut Pipe, us: Ipv4Addr, key: Key) -> bool {
        pipe.tcp_mut().listen((us, key.port)).is_ok()
    }

    /// Begins this connection.
    pub(super) fn connect(&mut self, pipe: &mut Pipe, us: Ipv4Addr, key: Key) -> bool {
        let to = (*key.peer.ip(), key.peer.port());
        pipe.set.get_mut::<Socket<'_>>(pipe.handle).connect(self.iface.context(), to, (us, key.port)).is_ok()
    }

    /// A segment of this connection. False when it was not even shown to it.
    pub(super) fn hear(&mut self, pipe: &mut Pipe, segment: &Segment<'_>, now: Instant) -> bool {
        if segment.has(flag::SYN) && matches!(pipe.tcp().state(), State::Listen | State::SynSent) {
            pipe.base = Some(segment.seq.wrapping_add(1));
        }
        if pipe.oversteps(segment) {
            return false;
        }
        let now_there = self.at(now);
        if let Some(reply) = self.ingress(&mut pipe.set, segment.bytes, now_there) {
            pipe.note(&reply);
            self.reply(reply);
        }
        // An acknowledgement that is due leaves with every second segment, not once a batch: the other side's
        // congestion window grows by acknowledgements.
        if segment.data > 0 && self.replies.len() < REPLIES && self.wants(pipe, now) {
            let mut scratch = std::mem::take(&mut self.scratch);
            if let Some(len) = self.emit(pipe, &mut scratch, now) {
                self.replies.extend(scratch.get(..len).map(Box::from));
            }
            self.scratch = scratch;
        }
        true
    }

    /// What no connection takes: answered with a reset, as by any system that has nothing there.
    pub(super) fn refuse(&mut self, segment: &Segment<'_>, now: Instant) {
        let now = self.at(now);
        let mut nobody = SocketSet::new(Vec::new());
        if let Some(reply) = self.ingress(&mut nobody, segment.bytes, now) {
            self.reply(reply);
        }
    }

    /// Puts a packet to those that go out next.
    pub(super) fn reply(&mut self, packet: Box<[u8]>) {
        if self.replies.len() < REPLIES {
            self.replies.push_back(packet);
        } else {
            self.lost += 1;
        }
    }

    pub(super) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// The next answer to what came in.
    pub(super) fn next_reply(&mut self, room: &mut [u8]) -> Option<usize> {
        while let Some(packet) = self.replies.pop_front() {
            if let Some(place) = room.get_mut(..packet.len()) {
                place.copy_from_slice(&packet);
                return Some(packet.len());
            }
            self.lost += 1;
        }
        None
    }

    /// The next packet of this connection, if it has one to send now.
    pub(super) fn emit(&mut self, pipe: &mut Pipe, room: &mut [u8], now: Instant) -> Option<usize> {
        if pipe.rests() {
            return None;
        }
        let now = self.at(now);
        let mut wrote = 0;
        let mut wire = Wire { mtu: self.mtu, heard: None, room, wrote: &mut wrote };
        self.iface.poll_egress(now, &mut wire, &mut pipe.set);
        let packet = room.get(..wrote).filter(|p| !p.is_empty())?;
        pipe.note(packet);
        Some(wrote)
    }

    /// What this connection has to say, at once and by way of the replies: for one that is about to go.
    pub(super) fn last_words(&mut self, pipe: &mut Pipe, now: Instant) {
        let mut scratch = std::mem::take(&mut self.scratch);
        if let Some(len) = self.emit(pipe, &mut scratch, now) {
            let packet = scratch.get(..len).map(Box::from);
            packet.into_iter().for_each(|p| self.reply(p));
        }
        self.scratch = scratch;
    }

    /// Whether this connection has a packet to send now.
    pub(super) fn wants(&mut self, pipe: &Pipe, now: Instant) -> bool {
        let at = self.at(now);
        !pipe.rests() && self.iface.poll_at(at, &pipe.set).is_some_and(|due| due <= at)
    }

    /// When this connection has something to do, if nothing comes in before. Not before a little later than now: what is
    /// to be done now has been done.
    pub(super) fn due(&mut self, pipe: &Pipe, now: Instant) -> Option<Instant> {
        if pipe.rests() {
            return None;
        }
        let at = self.at(now);
        let due = self.iface.poll_at(at, &pipe.set)?;
        let micros = u64::try_from(due.total_micros().saturating_sub(at.total_micros())).unwrap_or_default();
        Some(if micros == 0 { now + PATIENCE } else { now + Duration::from_micros(micros) / HASTE })
    }

    fn ingress(
        &mut self,
        set: &mut SocketSet<'static>,
        packet: &[u8],
        now: SmolInstant,
    ) -> Option<Box<[u8]>> {
        // What is said in direct answer is a header with options, no payload.
        let (mut room, mut wrote) = ([0; 128], 0);
        let mut wire = Wire { mtu: self.mtu, heard: Some(packet), room: &mut room, wrote: &mut wrote };
        self.iface.poll_ingress_single(now, &mut wire, set);
        room.get(..wrote).filter(|p| !p.is_empty()).map(Box::from)
    }

    fn at(&self, now: Instant) -> SmolInstant {
        // smoltcp takes the zero for "never" in places.
        let micros = now.saturating_duration_since(self.origin).as_micros() * u128::from(HASTE) + 1;
        SmolInstant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// A time of ours by smoltcp's clock.
fn hasty(time: Duration) -> SmolDuration {
    SmolDuration::from(time * HASTE)
}

fn interface(us: Ipv4Addr, mtu: usize) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    // Sequence numbers nobody can guess from outside; std has its keys from the system.
    config.random_seed = RandomState::new().build_hasher().finish();
    let (mut room, mut wrote) = ([0; 0], 0);
    let mut wire = Wire { mtu, heard: None, room: &mut room, wrote: &mut wrote };
    let mut iface = Interface::new(config, &mut wire, SmolInstant::from_micros(1));
    // An address that is none leaves the interface without one: nothing is taken then.
    if !(us.is_unspecified() || us.is_multicast() || us.is_broadcast()) {
        iface.update_ip_addrs(|all| {
            let _ = all.push(IpCidr::Ipv4(Ipv4Cidr::new(us, 24)));
        });
    }
    iface
}

/// The device of one call.
struct Wire<'w> {
    mtu: usize,
    heard: Option<&'w [u8]>,
    room: &'w mut [u8],
    wrote: &'w mut usize,
}

struct Heard<'w>(&'w [u8]);

struct Room<'w> {
    room: &'w mut [u8],
    wrote: &'w mut usize,
}

impl Device for Wire<'_> {
    type RxToken<'a>
        = Heard<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: SmolInstant) -> Option<(Heard<'_>, Room<'_>)> {
        let heard = Heard(self.heard.take()?);
        Some((heard, Room { room: self.room, wrote: self.wrote }))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Room<'_>> {
        Some(Room { room: self.room, wrote: self.wrote })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl RxToken for Heard<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        match self.room.get_mut(..len) {
            Some(room) => {
                *self.wrote = len;
                f(room)
            }
            // Lost, as on a wire that is too small for it.
            None => f(&mut vec![0; len]),
        }
    }
}
