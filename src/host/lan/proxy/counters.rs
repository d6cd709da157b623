//! What proxy mode has done, in numbers.

use super::tcp::TcpCounters;

/// Numbers that only grow, except those of what is open now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProxyCounters {
    /// Datagrams that local games sent to peers.
    pub udp_in: u64,
    /// Datagrams of peers handed to local games.
    pub udp_out: u64,
    /// Broadcasts and multicasts of local games that were heard.
    pub heard: u64,
    /// Broadcasts of peers handed to local games.
    pub broadcast_out: u64,
    /// Multicasts of peers handed to local games.
    pub group_out: u64,
    /// Of these, as broadcasts.
    pub group_by_broadcast: u64,
    /// Stand-ins that had to take another port than their peer's.
    pub moved: u64,
    /// Times that a game's ports were let go because the game started.
    pub made_room: u64,
    /// Datagrams longer than the tunnel takes: they are not cut into fragments, which no firewall of the party lets in.
    pub too_long: u64,
    /// Packets for a port where no game of this computer listens.
    pub nobody: u64,
    /// Packets that are neither IPv4 UDP nor TCP, or fragments.
    pub not_carried: u64,
    /// Packets that contradict themselves or the party's addresses.
    pub malformed: u64,
    /// Broadcasts of other computers: the physical network is not bridged.
    pub not_ours: u64,
    /// Datagrams of neighbours for peers, where games are shared with the own network.
    pub shared_in: u64,
    /// Datagrams of peers handed to neighbours.
    pub shared_out: u64,
    /// Datagrams and connections from beyond the networks that are shared with.
    pub strangers: u64,
    /// Sockets that stand for peers in those networks now.
    pub shared: u64,
    /// Packets that came back from what was handed to local games, or from another peer's stand-in.
    pub foreign: u64,
    /// Stand-ins that were not made, because there are too many or because the system refused.
    pub no_stand: u64,
    /// Packets that had to come from a port that is taken, or just let go for a game that starts.
    pub port_taken: u64,
    /// Payloads whose addresses could not be replaced.
    pub rewrite: u64,
    /// Packets that the system refused to take.
    pub refused: u64,
    /// Stand-ins for UDP that are open now.
    pub stands: u64,
    /// Sockets that hear the local games now.
    pub hearing: u64,
    /// Sockets that are missing for that: mostly because a program holds their port alone.
    pub deaf: u64,
    /// TCP.
    pub tcp: TcpCounters,
}

impl ProxyCounters {
    /// Their names in `status`.
    pub(in crate::host) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let numbers = [
            ("proxy.udp_in", self.udp_in),
            ("proxy.udp_out", self.udp_out),
            ("proxy.heard", self.heard),
            ("proxy.broadcast_out", self.broadcast_out),
            ("proxy.group_out", self.group_out),
            ("proxy.group_by_broadcast", self.group_by_broadcast),
            ("proxy.moved_ports", self.moved),
            ("proxy.made_room", self.made_room),
            ("proxy.shared", self.shared),
            ("proxy.shared_in", self.shared_in),
            ("proxy.shared_out", self.shared_out),
            ("proxy.stand_ins", self.stands),
            ("proxy.hearing", self.hearing),
            ("proxy.deaf", self.deaf),
            ("drop.proxy_too_long", self.too_long),
            ("drop.proxy_nobody", self.nobody),
            ("drop.proxy_not_carried", self.not_carried),
            ("drop.proxy_malformed", self.malformed),
            ("drop.proxy_not_ours", self.not_ours),
            ("drop.proxy_strangers", self.strangers + self.tcp.strangers),
            ("drop.proxy_foreign", self.foreign),
            ("drop.proxy_no_stand_in", self.no_stand),
            ("drop.proxy_port_taken", self.port_taken),
            ("drop.proxy_rewrite", self.rewrite),
            ("drop.proxy_refused", self.refused),
            ("proxy.tcp_open", self.tcp.open),
            ("proxy.tcp_in", self.tcp.inward),
            ("proxy.tcp_out", self.tcp.outward),
            ("drop.proxy_tcp_refused", self.tcp.refused),
            ("drop.proxy_tcp_timed_out", self.tcp.timed_out),
            ("drop.proxy_tcp_reset", self.tcp.reset),
            ("drop.proxy_tcp_too_many", self.tcp.too_many),
            ("drop.proxy_tcp_busy", self.tcp.busy),
            ("drop.proxy_tcp_broken", self.tcp.broken),
            ("drop.proxy_tcp_lost", self.tcp.lost),
            ("drop.proxy_tcp_starved", self.tcp.starved),
        ];
        numbers.into_iter().filter(|(name, n)| *n > 0 || !name.starts_with("drop."))
    }
}
