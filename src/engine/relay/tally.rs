//! What happened in a relay, as plain numbers. No names, no addresses: these go to a public metrics page.

macro_rules! tallied {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A thing that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Tallied { $($(#[$doc])* $variant,)* }
        const NAMES: &[&str] = &[$($name,)*];
    };
}

tallied! {
    /// Packets from clients, forwarded to peers.
    ToPeers => "relay_to_peers_total",
    /// Payload bytes of these.
    ToPeersBytes => "relay_to_peers_bytes_total",
    /// Packets from peers, forwarded to clients.
    ToClients => "relay_to_clients_total",
    /// Payload bytes of these.
    ToClientsBytes => "relay_to_clients_bytes_total",
    /// Of both: between two clients of this relay, without a socket.
    Inside => "relay_inside_total",
    /// Allocations made.
    Allocated => "relay_allocated_total",
    /// Allocations that ended by themselves.
    Expired => "relay_expired_total",
    /// Ports that the system did not give.
    NoPort => "relay_no_port_total",
    /// Bindings answered.
    Bindings => "relay_bindings_total",
    /// Requests answered with 401 or 438.
    Challenged => "relay_challenged_total",
    /// Proved requests that were refused.
    Refused => "relay_refused_total",
    /// Requests refused for a quota (486, 508).
    OverQuota => "relay_over_quota_total",
    /// Peers' addresses refused (403).
    Forbidden => "relay_forbidden_total",
    /// Packets that are none of this protocol.
    Garbage => "relay_dropped_garbage_total",
    /// Answers to unproved senders that would have amplified.
    Rationed => "relay_dropped_rationed_total",
    /// From a client without an allocation.
    NoAllocation => "relay_dropped_no_allocation_total",
    /// On a channel that is not bound, or whose permission is over.
    NoChannel => "relay_dropped_no_channel_total",
    /// To or from a peer without permission.
    NoPermission => "relay_dropped_no_permission_total",
    /// Between two parties, or to the server itself.
    Foreign => "relay_dropped_foreign_total",
    /// Above the bytes a second of a party or an address.
    OverRate => "relay_dropped_over_rate_total",
}

/// The numbers.
#[derive(Debug, Clone, Default)]
pub struct Tally([u64; NAMES.len()]);

impl Tally {
    /// One more.
    pub fn add(&mut self, what: Tallied) {
        self.add_many(what, 1);
    }

    /// Some more.
    pub fn add_many(&mut self, what: Tallied, many: usize) {
        if let Some(n) = self.0.get_mut(what as usize) {
            *n += many as u64;
        }
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self, what: Tallied) -> u64 {
        self.0.get(what as usize).copied().unwrap_or_default()
    }

    /// Numbers by name.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().copied().zip(self.0)
    }
}
