//! The relay's machine: TURN (RFC 8656) and STUN (RFC 8489) with behaviour discovery (RFC 5780). Pure; `server::relay` drives
//! it with sockets.
//!
//! * `request`: proofs, and what each request does; `discovery`: Binding
//! * `forward`: what is done with each packet of the traffic
//! * `allocation`: permissions and channels; `quota`: shares of parties and addresses
//! * `nonce`, `ration`: how strangers are answered without memory and without amplifying
//!
//! In: `handle_client`, `handle_peer`, `handle_opened`, `handle_closed`, `handle_timeout`. Packets leave through a `RelaySink`
//! during these; then `poll_effect` until `None`, then `deadline`.
//!
//! **Never an open relay.** Before a request is proved it costs no memory. Who may allocate is said by credentials that name
//! a party and a peer (`wire::credential`); both have quotas, and so has the client's address. Peers' addresses inside
//! somebody's network are refused, and so is the server itself, except its own relayed addresses: two clients of one relay
//! reach each other without a socket between them, when they are of one party.

mod allocation;
mod discovery;
mod forward;
mod nonce;
mod quota;
mod ration;
mod reply;
mod request;
pub mod tally;
#[cfg(test)]
mod tests;

pub use quota::Rate;

use crate::model::dice::Seed;
use crate::model::id::{PartyId, PeerId};
use crate::model::reach::is_public;
use crate::model::time::{Deadline, Mono, Now};
use crate::wire::credential::{Bearer, RelaySecret};
use allocation::{Allocation, Stage};
use nonce::Mint;
use quota::{ShareId, Shares, nanos};
use ration::Rations;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tally::{Tallied, Tally};

/// The realm of all credentials here. Short: it travels in answers to strangers.
pub const REALM: &str = "lanrage";
/// Bytes in front of a datagram that `handle_client` and `handle_peer` may write to: the header of ChannelData.
pub const HEADROOM: usize = 4;
/// Between two looks at shares that nobody uses.
const SWEEP: Duration = Duration::from_secs(30);

/// How a client reaches this relay: the 5-tuple of RFC 8656.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// The client's address.
    pub addr: SocketAddr,
    /// The address of ours that it sends to.
    pub server: SocketAddr,
    /// The TCP or TLS connection; `None`: UDP.
    pub stream: Option<StreamId>,
}

/// A client's connection; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// The port of an allocation. Used again after `ClosePort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId(pub u32);

/// Of which kind an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Where packets go. Never waits; what does not fit is dropped and counted by whoever implements it.
pub trait RelaySink {
    /// To a client, from the address of ours that it knows.
    fn to_client(&mut self, client: &Client, bytes: &[u8]);
    /// To a peer, out of an allocation's port.
    fn to_peer(&mut self, port: PortId, peer: SocketAddr, bytes: &[u8]);
}

/// What the relay wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayEffect {
    /// Open a UDP port, then call `handle_opened`.
    OpenPort {
        /// Its name.
        port: PortId,
        /// Of which family.
        family: Family,
        /// The address of ours that the client used; the port is best opened there when it is of this family.
        near: IpAddr,
        /// The port's number has to be even (for RTP).
        even: bool,
        /// Datagrams of it must not be cut on their way.
        whole: bool,
    },
    /// Close it.
    ClosePort(PortId),
}

/// What an operator or a test may want to be different.
#[derive(Debug, Clone)]
pub struct Config {
    /// Makes and checks credentials.
    pub secret: RelaySecret,
    /// Addresses of the server, private and public ones: never peers, except those of its own allocations.
    pub own: Vec<IpAddr>,
    /// Families of which ports can be opened.
    pub families: Vec<Family>,
    /// For RFC 5780: pairs of addresses (of one family each) that answer on both of `discovery_ports`.
    pub discovery: Vec<[IpAddr; 2]>,
    /// The two ports of every address that serves STUN over UDP.
    pub discovery_ports: Option<[u16; 2]>,
    /// For tests: peers may be anywhere, even here.
    pub allow_private_peers: bool,
    /// Quotas.
    pub limits: Limits,
}

impl Config {
    /// The defaults with this secret.
    #[must_use]
    pub fn new(secret: RelaySecret) -> Self {
        Self {
            secret,
            own: Vec::new(),
            families: vec![Family::V4, Family::V6],
            discovery: Vec::new(),
            discovery_ports: None,
            allow_private_peers: false,
            limits: Limits::default(),
        }
    }
}

/// Quotas. They bound memory: an allocation is at most about 12 KiB with everything in it, so 8,192 are below 100 MiB.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Allocations altogether; each is a socket.
    pub allocations: usize,
    /// Allocations of one party: 64 peers with two families, and as many again that are left over from a roaming peer.
    pub per_party: usize,
    /// Allocations of one peer: those of a PC that changed its network several times within ten minutes.
    pub per_peer: usize,
    /// Allocations from one address (an IPv6 /64): a LAN party behind one router.
    pub per_address: usize,
    /// Permissions of one allocation.
    pub permissions: usize,
    /// Channels of one allocation.
    pub channels: usize,
    /// Bytes a second of one party, both directions together.
    pub party_rate: Rate,
    /// Bytes a second of one address.
    pub address_rate: Rate,
    /// The longest lifetime of an allocation without a refresh.
    pub lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // 100 Mbit/s: a party of ten at 1 Mbit/s each ten times over, and a world download does not stall the game.
        let rate = Rate::new(12_500_000, Duration::from_millis(500));
        Self {
            allocations: 8192,
            per_party: 256,
            per_peer: 16,
            per_address: 256,
            permissions: 128,
            channels: 128,
            party_rate: rate,
            address_rate: rate,
            lifetime: Duration::from_secs(3600),
        }
    }
}

/// Where a client comes from, as coarse as it is cheap to change: an IPv4 address, an IPv6 /64.
type Origin = u64;

/// The relay.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    mint: Mint,
    rations: Rations,
    allocations: Vec<Option<Box<Allocation>>>,
    free: Vec<PortId>,
    by_client: BTreeMap<Client, PortId>,
    by_relayed: BTreeMap<SocketAddr, PortId>,
    by_expiry: BTreeSet<(Mono, PortId)>,
    parties: Shares<PartyId>,
    members: Shares<(PartyId, PeerId)>,
    origins: Shares<Origin>,
    sweep_at: Mono,
    effects: VecDeque<RelayEffect>,
    scratch: Vec<u8>,
    tally: Tally,
}

/// The shares that an allocation is counted in.
#[derive(Debug, Clone, Copy)]
struct Held {
    party: ShareId,
    member: ShareId,
    origin: ShareId,
}

impl Relay {
    /// A relay without allocations.
    #[must_use]
    pub fn new(config: Config, seed: Seed, now: Now) -> Self {
        // Shares outlive allocations by the half second of a bucket; twice the allocations is never reached in earnest.
        let most = config.limits.allocations.saturating_mul(2).max(16);
        Self {
            mint: Mint::new(seed.dice("relay nonces").bytes()),
            rations: Rations::new(seed.dice("relay rations").bytes()),
            allocations: Vec::new(),
            free: Vec::new(),
            by_client: BTreeMap::new(),
            by_relayed: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            parties: Shares::new(most),
            members: Shares::new(most),
            origins: Shares::new(most),
            sweep_at: now.mono + SWEEP,
            effects: VecDeque::new(),
            scratch: Vec::with_capacity(2048),
            tally: Tally::default(),
            config,
        }
    }

    /// The system opened a port: peers reach it at `relayed` (as seen from outside). `None`: it could not.
    pub fn handle_opened(&mut self, port: PortId, relayed: Option<SocketAddr>, out: &mut impl RelaySink) {
        let Some(allocation) = self.get_mut(port) else { return };
        let Some(relayed) = relayed else {
            self.tally.add(Tallied::NoPort);
            self.answer_unopened(port, out);
            self.remove(port);
            return;
        };
        let opened = Stage::Open(relayed);
        let Stage::Opening(waiting) = std::mem::replace(&mut allocation.stage, opened) else { return };
        if self.by_relayed.insert(relayed, port).is_some() {
            tracing::error!("the system gave one port twice");
        }
        if !self.is_own(relayed.ip()) {
            self.config.own.push(relayed.ip());
        }
        self.tally.add(Tallied::Allocated);
        self.answer_opened(port, relayed, &waiting, out);
    }

    /// A client's connection is gone, and with it whatever was allocated through it.
    pub fn handle_closed(&mut self, stream: StreamId) {
        // A connection has one allocation; connections end seldom enough for a look at all.
        let of_stream: Vec<PortId> =
            self.by_client.iter().filter(|(c, _)| c.stream == Some(stream)).map(|(_, port)| *port).collect();
        for port in of_stream {
            self.close(port);
        }
    }

    /// The deadline has come.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((_, port)) = self.by_expiry.first().copied().filter(|(at, _)| *at <= now.mono) {
            self.tally.add(Tallied::Expired);
            self.close(port);
        }
        if self.sweep_at <= now.mono {
            self.sweep_at = now.mono + SWEEP;
            let nanos = nanos(now.mono);
            self.parties.sweep(nanos);
            self.members.sweep(nanos);
            self.origins.sweep(nanos);
        }
    }

    /// When to call `handle_timeout`.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let expiry = self.by_expiry.first().map(|(at, _)| Deadline::new(*at, "allocation"));
        Deadline::earlier(expiry, Some(Deadline::new(self.sweep_at, "sweep")))
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<RelayEffect> {
        self.effects.pop_front()
    }

    /// What happened and what there is, by name.
    #[must_use]
    pub fn numbers(&self) -> Vec<(&'static str, u64)> {
        let mut numbers = vec![
            ("relay_allocations", self.by_client.len() as u64),
            ("relay_parties", self.parties.len() as u64),
        ];
        numbers.extend(self.tally.by_name());
        numbers
    }

    /// How often something happened.
    #[must_use]
    pub fn count(&self, what: Tallied) -> u64 {
        self.tally.get(what)
    }

    /// How large each table is: allocations and their slots, shares, effects. For tests of what a flood leaves behind.
    #[must_use]
    pub fn sizes(&self) -> [usize; 8] {
        [
            self.by_client.len(),
            self.by_relayed.len(),
            self.by_expiry.len(),
            self.allocations.capacity() + self.free.capacity(),
            self.parties.len(),
            self.members.len() + self.origins.len(),
            self.effects.capacity(),
            self.scratch.capacity(),
        ]
    }

    fn get(&self, port: PortId) -> Option<&Allocation> {
        self.allocations.get(port.0 as usize)?.as_deref()
    }

    fn get_mut(&mut self, port: PortId) -> Option<&mut Allocation> {
        self.allocations.get_mut(port.0 as usize)?.as_deref_mut()
    }

    /// The allocation of a client, unless its time is over and the timer was late.
    fn of_client(&self, client: &Client, now: Mono) -> Option<PortId> {
        let port = *self.by_client.get(client)?;
        self.get(port).filter(|a| a.expires > now).map(|_| port)
    }

    /// Whether an address is the server's.
    fn is_own(&self, address: IpAddr) -> bool {
        self.config.own.contains(&address)
    }

    /// Whether permissions may name this address at all. Own addresses may: behind which of their ports there is a peer is
    /// looked at packet by packet, and to all others nothing goes.
    fn may_be_peer(&self, address: IpAddr) -> bool {
        self.config.allow_private_peers || self.is_own(address) || is_public(address)
    }

    fn insert(&mut self, allocation: Allocation) -> Option<PortId> {
        let port = match self.free.pop() {
            Some(port) => port,
            None => {
                let port = PortId(u32::try_from(self.allocations.len()).ok()?);
                self.allocations.push(None);
                port
            }
        };
        self.by_client.insert(allocation.client, port);
        self.by_expiry.insert((allocation.expires, port));
        *self.allocations.get_mut(port.0 as usize)? = Some(Box::new(allocation));
        Some(port)
    }

    fn prolong(&mut self, port: PortId, expires: Mono) {
        let Some(allocation) = self.get_mut(port) else { return };
        let before = std::mem::replace(&mut allocation.expires, expires);
        self.by_expiry.remove(&(before, port));
        self.by_expiry.insert((expires, port));
    }

    /// Ends an allocation and closes its port.
    fn close(&mut self, port: PortId) {
        if self.remove(port) {
            self.effects.push_back(RelayEffect::ClosePort(port));
        }
    }

    fn remove(&mut self, port: PortId) -> bool {
        let Some(gone) = self.allocations.get_mut(port.0 as usize).and_then(Option::take) else {
            return false;
        };
        self.by_client.remove(&gone.client);
        self.by_expiry.remove(&(gone.expires, port));
        if let Stage::Open(relayed) = gone.stage {
            self.by_relayed.remove(&relayed);
        }
        self.parties.leave(gone.held.party);
        self.members.leave(gone.held.member);
        self.origins.leave(gone.held.origin);
        self.free.push(port);
        true
    }

    /// Counts one more allocation in all shares, or in none.
    fn hold(&mut self, bearer: Bearer, address: IpAddr) -> Option<Held> {
        let party = self.parties.join(bearer.party)?;
        let Some(member) = self.members.join((bearer.party, bearer.peer)) else {
            self.parties.leave(party);
            return None;
        };
        let Some(origin) = self.origins.join(origin(address)) else {
            self.parties.leave(party);
            self.members.leave(member);
            return None;
        };
        Some(Held { party, member, origin })
    }
}

const fn origin(address: IpAddr) -> Origin {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_bits() as u64,
        // Global IPv6 addresses begin with bits that no IPv4 address reaches here.
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 | 1 << 63,
    }
}
