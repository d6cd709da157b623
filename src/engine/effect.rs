//! What a node wants from the world, and what the world reports.

use super::direct::DirectSetup;
use crate::model::addr::{Card, Seat, Subnet};
use crate::model::id::{LinkId, PartyId};
use crate::model::key::{NodeSecret, PartySecret};
use crate::model::measure::Measured;
use crate::model::nat::PortMapping;
use crate::model::record::{Envelope, Rotation};
use crate::model::relay::{RelayOffer, RelayWay};
use crate::model::script::{PluginFacts, ScriptCall};
use crate::model::status::{Event, Trouble};
use crate::rules::ruleset::Ruleset;
use crate::wire::control::Up;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::model::limits;

/// What a node is born with.
#[derive(Debug)]
pub struct Setup {
    /// This node's secret.
    pub secret: NodeSecret,
    /// What people call this player.
    pub name: String,
    /// The party.
    pub party: PartySetup,
    /// The control planes; `LinkId(n)` is the n-th.
    pub links: Vec<LinkSetup>,
    /// The compiled profiles of the games being played.
    pub rules: Arc<Ruleset>,
    /// The plugins that the rules ask, in the order of `Ruleset::plugins`; `None` is not there.
    pub plugins: Arc<[Option<PluginFacts>]>,
    /// What is remembered from the last evening.
    pub memory: Memory,
    /// The invite as text, for the `ready` event.
    pub invite: String,
    /// Let every port in, not only the games'.
    pub open: bool,
    /// Meeting without a control plane.
    pub direct: DirectSetup,
    /// Relays that are known from the start; later ones come by `HostFact::Relays`, those of control planes come by `Down::Relays`.
    pub relays: Vec<RelayOffer>,
    /// Every timeout, window and cap that a test may want to be extreme.
    pub knobs: Knobs,
}

/// Which party, and how it is opened.
#[derive(Debug, Clone)]
pub struct PartySetup {
    /// The party's name.
    pub id: PartyId,
    /// The owner's slot when this node owns the party.
    pub owned_slot: Option<u8>,
    /// The epoch of the secret.
    pub epoch: u32,
    /// The secret.
    pub secret: PartySecret,
    /// The party's network.
    pub subnet: Subnet,
}

/// A control plane.
#[derive(Debug, Clone)]
pub struct LinkSetup {
    /// As given on the command line, such as `server:http://…`.
    pub control: String,
}

/// What a node wants kept until the next start. Lives in `control_state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// This node's seat and since when (Unix seconds).
    pub seat: Option<(Seat, u64)>,
    /// The newest sequence number used for its own record.
    pub seq: u64,
    /// The newest record of every other peer.
    pub peers: Vec<Envelope>,
    /// The owner's newest rotation, for control planes that were away when it was made.
    #[serde(default)]
    pub rotation: Option<Rotation>,
}

/// Timeouts and windows. Defaults are the contract's; the simulator draws extreme ones.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// Between beats to the control planes.
    pub heartbeat: Duration,
    /// Silent for this long: away.
    pub away_after: Duration,
    /// Silent for this long: gone.
    pub gone_after: Duration,
    /// The longest silence on a live path, as far as it depends on this end; the one of two that asks seldom adds up to a quarter.
    pub keepalive: Duration,
    /// The first wait after a failed connection to a control plane; doubles up to `backoff_most`, with jitter.
    pub backoff_first: Duration,
    /// The longest such wait.
    pub backoff_most: Duration,
    /// How long the same announcement from another card counts as a twin.
    pub twin_window: Duration,
    /// How long an injection is remembered to recognise its echo.
    pub echo_window: Duration,
}

impl Knobs {
    /// The longest silence on a live path: short enough that a peer is asked three times before it counts as away. Between two
    /// computers of one network, where paths keep 25 s from 15 on, it is once at least, and then in quick succession.
    #[must_use]
    pub fn beat(&self) -> Duration {
        self.keepalive.min(self.away_after / 3)
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            heartbeat: limits::HEARTBEAT,
            away_after: limits::AWAY_AFTER,
            gone_after: limits::GONE_AFTER,
            keepalive: limits::KEEPALIVE,
            backoff_first: Duration::from_secs(1),
            backoff_most: Duration::from_secs(30),
            twin_window: Duration::from_millis(40),
            echo_window: Duration::from_secs(2),
        }
    }
}

/// What the node wants from the world.
#[derive(Debug)]
pub enum Effect {
    /// Connect this control plane. Its carrier answers with `Down::Opened` or `Down::Closed`.
    OpenLink(LinkId),
    /// Hang up.
    CloseLink(LinkId),
    /// Send this to that control plane.
    Control(LinkId, Up),
    /// Give the tunnel device this address, or change it.
    ConfigureLan(LanConfig),
    /// Tell people.
    Event(Event),
    /// Keep this until the next start.
    Remember(Memory),
    /// The party's secret changed: keep it, and show the new invite.
    Rekeyed {
        /// The new epoch.
        epoch: u32,
        /// The new secret.
        secret: PartySecret,
    },
    /// An invite through this node names these addresses from now on.
    Invite(Vec<SocketAddr>),
    /// Open this many UDP sockets on free ports for a peer behind a hard NAT: `Via::Extra(first)` and the numbers after it.
    /// Sends to a socket that is not there (yet, or any more) are dropped.
    OpenSockets {
        /// The number of the first.
        first: u16,
        /// How many.
        count: u16,
        /// IPv6 ones.
        v6: bool,
    },
    /// Close these, except those of `keep`.
    CloseSockets {
        /// The number of the first.
        first: u16,
        /// How many.
        count: u16,
        /// The one that is in use.
        keep: Option<u16>,
    },
    /// Connect `Via::Stream(number)` to a relay; the answer is `HostFact::Stream`.
    OpenStream {
        /// Its number.
        stream: u8,
        /// Where, and how (`Tcp` or `Tls`).
        way: RelayWay,
    },
    /// Hang up; no answer.
    CloseStream(u8),
    /// Ask the router about its mapping protocols again now (it was restarted, or the network changed).
    RefreshLease,
    /// The largest IP packet that is to enter the tunnel device changed (path MTU).
    SetMtu(u16),
    /// Ask a plugin; the answer comes by `Node::handle_reply`, or too late, or never.
    Ask(Box<ScriptCall>),
    /// A measurement is over, or was not possible (`Command::Measure`).
    Measured {
        /// As in the command.
        ticket: u64,
        /// What was found.
        outcome: Box<Result<Measured, Trouble>>,
    },
    /// Goodbyes are sent; stop now.
    Stop {
        /// `None` after `Command::Leave`, else what stopped it (such as having been removed).
        trouble: Option<Trouble>,
    },
}

/// What the tunnel device should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanConfig {
    /// The node's virtual address.
    pub v4: Ipv4Addr,
    /// The party's network.
    pub subnet: Subnet,
    /// The node's virtual IPv6 address, in a /64.
    pub v6: Ipv6Addr,
    /// In bytes.
    pub mtu: u16,
}

/// What the world reports.
#[derive(Debug)]
pub enum HostFact {
    /// The physical cards and their addresses; sent at the start and at every change.
    Cards(Vec<Card>),
    /// The local addresses of the tunnel's sockets (an unspecified address stands for every card).
    Sockets(Vec<SocketAddr>),
    /// New rules (a profile was edited).
    Rules(Arc<Ruleset>),
    /// The plugins that are there now, in the order of `Ruleset::plugins`. One that was put to sleep and is `Some` here was
    /// started again; one that was loaded anew is `None` once in between.
    Plugins(Arc<[Option<PluginFacts>]>),
    /// A send to this address failed for good (unreachable network or host).
    Unreachable(SocketAddr),
    /// A connection to a relay came up.
    StreamUp(u8),
    /// A connection to a relay is gone, or could not be made; never sent after `CloseStream`.
    StreamDown {
        /// Its number.
        stream: u8,
        /// What happened, for people.
        why: String,
    },
    /// Members on this network, found by their beacons: addresses of their tunnels' sockets.
    Beacon(Vec<SocketAddr>),
    /// Relays that the player named, now that their names are resolved; again with every renewal of their credentials.
    Relays(Vec<RelayOffer>),
    /// The router forwards this outside address to the tunnel's socket, or (`None`) does not any more.
    Leased(Option<Lease>),
    /// What asking the router for a port came to, for people: one word per protocol, such as `refused`.
    LeaseReport(Vec<(PortMapping, String)>),
    /// This computer slept, or its clocks jumped: everything that was proven is in doubt.
    Woke,
}

/// A port that the router forwards to the tunnel's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The outside address.
    pub external: SocketAddr,
    /// By which protocol.
    pub by: PortMapping,
}
