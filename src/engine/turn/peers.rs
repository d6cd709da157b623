//! Whom a relay lets send to us: permissions and channels, asked for, held and renewed.
//!
//! A permission is per IP address and lives five minutes, a channel per address and port and lives ten (RFC 8656,
//! sections 9 and 12). A channel's number belongs to its peer for as long as the allocation lives: a server refuses to
//! bind either to another.

use crate::model::time::{Deadline, Mono};
use crate::wire::channel::CHANNELS;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Permissions are renewed after this; they live 300 s.
const RENEW_GRANT: Duration = Duration::from_secs(220);
/// Those that are due so soon are renewed in the same request.
const TOGETHER: Duration = Duration::from_secs(60);
/// Channels are bound anew after this; they live 600 s.
const RENEW_BIND: Duration = Duration::from_secs(480);
/// What a server refused is asked again after this.
const REFUSED: Duration = Duration::from_secs(60);
/// Ports of one IP address that get channels because data came from them.
const PORTS_OF_ONE: usize = 4;
/// Addresses in one request.
const IN_ONE: usize = 16;

/// How far a wish has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// To be asked for.
    Wanted,
    /// To be asked for in a request of its own: a request for several was refused.
    Alone,
    /// Under way.
    Asked,
    /// Granted then.
    Done(Mono),
    /// Refused; not before then again.
    Refused(Mono),
}

#[derive(Debug)]
struct Peer {
    used: Mono,
    grant: Step,
    /// The permission is alive, whatever its renewal does.
    granted: bool,
    number: Option<u16>,
    bind: Step,
    bound: bool,
}

/// The peers of one allocation.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<SocketAddr, Peer>,
    /// Every number that was ever asked for on this allocation.
    numbers: BTreeMap<u16, SocketAddr>,
    next: u16,
}

impl Peers {
    /// Peers at a time; the one that was not used for longest makes room.
    pub(super) const MOST: usize = 128;

    pub(super) const fn new() -> Self {
        Self { peers: BTreeMap::new(), numbers: BTreeMap::new(), next: *CHANNELS.start() }
    }

    /// A peer is wanted.
    pub(super) fn add(&mut self, addr: SocketAddr, now: Mono) {
        if let Some(peer) = self.peers.get_mut(&addr) {
            peer.used = now;
            return;
        }
        if self.peers.len() >= Self::MOST
            && let Some(oldest) = self.peers.iter().min_by_key(|(_, p)| p.used).map(|(a, _)| *a)
        {
            self.peers.remove(&oldest);
        }
        // The permission of a neighbour with the same IP address serves.
        let neighbour = self.peers.iter().find(|(a, _)| a.ip() == addr.ip());
        let (grant, granted) = neighbour.map_or((Step::Wanted, false), |(_, p)| (p.grant, p.granted));
        let number = self.numbers.iter().find(|(_, a)| **a == addr).map(|(n, _)| *n);
        let peer = Peer { used: now, grant, granted, number, bind: Step::Wanted, bound: false };
        self.peers.insert(addr, peer);
    }

    /// A peer is not wanted any more; the server forgets it by itself.
    pub(super) fn remove(&mut self, addr: SocketAddr) {
        self.peers.remove(&addr);
    }

    /// A new allocation knows nobody. Numbers go on, so that nothing late is taken for another peer's.
    pub(super) fn reset(&mut self) {
        self.numbers.clear();
        for peer in self.peers.values_mut() {
            (peer.grant, peer.granted) = (Step::Wanted, false);
            (peer.bind, peer.bound, peer.number) = (Step::Wanted, false, None);
        }
    }

    /// The channel that is bound to a peer.
    pub(super) fn channel_of(&self, addr: &SocketAddr) -> Option<u16> {
        self.peers.get(addr).filter(|p| p.bound).and_then(|p| p.number)
    }

    /// Whether the server lets this peer's data through, or will by the time ours arrives.
    pub(super) fn is_permitted(&self, addr: &SocketAddr) -> bool {
        // A permission is for all ports of an address: a peer behind a symmetric NAT comes from one that nobody asked for.
        self.at_ip(addr.ip()).any(|p| p.granted || p.grant == Step::Asked)
    }

    fn at_ip(&self, ip: IpAddr) -> impl Iterator<Item = &Peer> {
        let all = self.peers.range(SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX));
        all.map(|(_, peer)| peer)
    }

    /// Data came from a port of a permitted address. It is worth a channel of its own, but no address gets all of them.
    pub(super) fn met(&mut self, addr: SocketAddr, now: Mono) {
        if self.peers.contains_key(&addr) || self.at_ip(addr.ip()).count() < PORTS_OF_ONE {
            self.add(addr, now);
        }
    }

    /// Something is sent to this peer.
    pub(super) fn touch(&mut self, addr: &SocketAddr, now: Mono) {
        if let Some(peer) = self.peers.get_mut(addr) {
            peer.used = now;
        }
    }

    /// Whose channel this is.
    pub(super) fn by_channel(&self, number: u16) -> Option<SocketAddr> {
        self.numbers.get(&number).copied().filter(|a| self.peers.contains_key(a))
    }

    /// Whether we asked for somebody at this IP address.
    pub(super) fn knows(&self, ip: IpAddr) -> bool {
        let first = SocketAddr::new(ip, 0);
        self.peers.range(first..).next().is_some_and(|(a, _)| a.ip() == ip)
    }

    /// Whether there is something to ask for.
    pub(super) fn has_wishes(&self) -> bool {
        self.peers.values().any(|p| matches!(p.grant, Step::Wanted | Step::Alone) || p.bind == Step::Wanted)
    }

    /// The next IP addresses to ask permission for, all in one request.
    pub(super) fn take_grants(&mut self) -> Option<Vec<IpAddr>> {
        let mut ips: Vec<IpAddr> = Vec::new();
        for (addr, _) in self.peers.iter().filter(|(_, p)| p.grant == Step::Wanted) {
            if !ips.contains(&addr.ip()) && ips.len() < IN_ONE {
                ips.push(addr.ip());
            }
        }
        if ips.is_empty() {
            ips.extend(self.peers.iter().find(|(_, p)| p.grant == Step::Alone).map(|(a, _)| a.ip()));
        }
        self.step_grants(&ips, Step::Asked);
        (!ips.is_empty()).then_some(ips)
    }

    /// The next channel to ask for.
    pub(super) fn take_bind(&mut self) -> Option<(SocketAddr, u16)> {
        let addr = self.peers.iter().find(|(_, p)| p.bind == Step::Wanted).map(|(a, _)| *a)?;
        let known = self.peers.get(&addr).and_then(|p| p.number);
        let number = known.or_else(|| self.free_number());
        let peer = self.peers.get_mut(&addr)?;
        peer.number = number;
        peer.bind = if number.is_some() { Step::Asked } else { Step::Refused(Mono(Duration::MAX)) };
        self.numbers.insert(number?, addr);
        number.map(|n| (addr, n))
    }

    fn free_number(&mut self) -> Option<u16> {
        for _ in CHANNELS {
            let number = self.next;
            self.next = if number < *CHANNELS.end() { number + 1 } else { *CHANNELS.start() };
            if !self.numbers.contains_key(&number) {
                return Some(number);
            }
        }
        None
    }

    /// The server gave permission for these.
    pub(super) fn granted(&mut self, ips: &[IpAddr], now: Mono) {
        for (_, peer) in self.peers.iter_mut().filter(|(a, _)| ips.contains(&a.ip())) {
            (peer.grant, peer.granted) = (Step::Done(now), true);
        }
    }

    /// The server did not. Several are asked for again one by one, because one of them may have been the reason.
    pub(super) fn not_granted(&mut self, ips: &[IpAddr], now: Mono) {
        let step = if ips.len() > 1 { Step::Alone } else { Step::Refused(now + REFUSED) };
        self.step_grants(ips, step);
        if ips.len() == 1 {
            for (_, peer) in self.peers.iter_mut().filter(|(a, _)| ips.contains(&a.ip())) {
                peer.granted = false;
            }
        }
    }

    fn step_grants(&mut self, ips: &[IpAddr], step: Step) {
        for (_, peer) in self.peers.iter_mut().filter(|(a, _)| ips.contains(&a.ip())) {
            peer.grant = step;
        }
    }

    /// The server bound a channel, which permits its IP address too.
    pub(super) fn bound(&mut self, addr: SocketAddr, now: Mono) {
        self.granted(&[addr.ip()], now);
        if let Some(peer) = self.peers.get_mut(&addr) {
            (peer.bind, peer.bound) = (Step::Done(now), true);
        }
    }

    /// The server did not.
    pub(super) fn not_bound(&mut self, addr: SocketAddr, now: Mono) {
        if let Some(peer) = self.peers.get_mut(&addr) {
            (peer.bind, peer.bound) = (Step::Refused(now + REFUSED), false);
        }
    }

    /// What is to be renewed, or tried again, by now.
    pub(super) fn renew(&mut self, now: Mono) {
        let due = |step: Step, after: Duration, early: Duration| match step {
            Step::Done(since) => since + after <= now + early,
            Step::Refused(until) => until <= now,
            Step::Wanted | Step::Alone | Step::Asked => false,
        };
        let any = self.peers.values().any(|p| due(p.grant, RENEW_GRANT, Duration::ZERO));
        for peer in self.peers.values_mut() {
            if any && due(peer.grant, RENEW_GRANT, TOGETHER) {
                peer.grant = Step::Wanted;
            }
            if due(peer.bind, RENEW_BIND, Duration::ZERO) {
                peer.bind = Step::Wanted;
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let when = |step: Step, after: Duration| match step {
            Step::Done(since) => Some(since + after),
            Step::Refused(until) if until.0 != Duration::MAX => Some(until),
            Step::Refused(_) | Step::Wanted | Step::Alone | Step::Asked => None,
        };
        let each = self.peers.values().flat_map(|p| [when(p.grant, RENEW_GRANT), when(p.bind, RENEW_BIND)]);
        each.flatten().min().map(|at| Deadline::new(at, "relay permission"))
    }
}
