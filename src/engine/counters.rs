//! Plain numbers. The host reads them once a second; nothing here is shared or atomic.

use std::collections::BTreeMap;

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The name that `status` shows.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

counted! {
    /// What went through.
    Count {
        /// IP packets from the tunnel device.
        TunIn => "tun_in",
        /// IP packets to the tunnel device or a card.
        LanOut => "lan_out",
        /// Datagrams received.
        WanIn => "wan_in",
        /// Datagrams sent.
        WanOut => "wan_out",
        /// Game broadcasts seen on cards.
        Captured => "captured",
        /// Discovery frames sent, one per peer.
        DiscoverySent => "discovery_sent",
        /// Discovery frames received and injected.
        DiscoveryInjected => "discovery_injected",
        /// Remembered announcements handed to peers that came late.
        Replayed => "replayed",
        /// Announcements that were lost on the way, said again to the games here at their own rhythm.
        Repeated => "repeated",
        /// Payloads rewritten.
        Rewritten => "rewritten",
        /// WireGuard handshakes completed.
        Handshakes => "handshakes",
        /// Pings sent.
        Pings => "pings",
        /// Probes of ports sent to open ways through hard NATs.
        Probes => "probes",
        /// Packets that went by two ways because one was in doubt.
        Doubled => "doubled",
        /// Packets sent once more by another way.
        Resent => "resent",
        /// Times the primary path of a peer changed.
        PathChanges => "path_changes",
        /// Questions asked without a control plane.
        KnocksSent => "knocks_sent",
        /// Questions of members answered.
        KnocksAnswered => "knocks_answered",
        /// Records of others passed on inside tunnels.
        RecordsPassed => "records_passed",
        /// Datagrams passed on for two others.
        Forwarded => "forwarded",
        /// Packets of measurements answered for others.
        Measured => "measured",
        /// Questions to plugins, of every kind.
        PluginCalls => "plugin_calls",
        /// Answers of plugins that came in time.
        PluginAnswers => "plugin_answers",
        /// Packets that a plugin changed.
        PluginReplaced => "plugin_replaced",
        /// Packets that needed no question, because an earlier answer still holds.
        PluginTaught => "plugin_taught",
        /// Packets without an answer (too late, too many, asleep, failed): the rule's default applied.
        PluginDefaults => "plugin_defaults",
        /// Answers that were waited for in vain.
        PluginLate => "plugin_late",
        /// Questions not asked because of the plugin's pace, or because too many packets wait.
        PluginBusy => "plugin_busy",
        /// Faults of plugins.
        PluginFaults => "plugin_faults",
        /// Packets that plugins sent.
        PluginSends => "plugin_sends",
        /// Ports that plugins opened.
        PluginOpens => "plugin_opens",
        /// What plugins asked for and may not do.
        PluginRefused => "plugin_refused",
        /// Packets that plugins wanted to send beyond their pace.
        PluginPace => "plugin_pace",
    }
}

counted! {
    /// Why a packet went nowhere.
    DropReason {
        /// Not an IP packet, or one that contradicts itself.
        Malformed => "drop.malformed",
        /// Larger than the tunnel carries.
        TooBig => "drop.too_big",
        /// No rule of a running profile names it.
        NotAGame => "drop.not_a_game",
        /// Our own injection, heard again.
        EchoOfOwn => "drop.echo_of_own",
        /// The same announcement from another card.
        Twin => "drop.twin",
        /// Came already by another path.
        Duplicate => "drop.duplicate",
        /// More than the rule's pace allows.
        Pace => "drop.pace",
        /// The firewall: a port that the running game does not use, inward.
        PortClosedIn => "drop.port_closed_in",
        /// The firewall: a port that no game of the party uses, outward.
        PortClosedOut => "drop.port_closed_out",
        /// An inner source address that is not the sender's.
        ForgedSource => "drop.forged_source",
        /// A destination that is not this node.
        NotForUs => "drop.not_for_us",
        /// A virtual address that nobody has.
        NoSuchPeer => "drop.no_such_peer",
        /// The peer is known but no path leads to it yet, and its waiting room is full.
        NoPath => "drop.no_path",
        /// A datagram that is no message we know.
        UnknownDatagram => "drop.unknown_datagram",
        /// WireGuard refused it: wrong key, replayed, damaged.
        Refused => "drop.refused",
        /// A frame inside the tunnel that cannot be read.
        BadFrame => "drop.bad_frame",
        /// A frame that was passed on more often than allowed.
        HopLimit => "drop.hop_limit",
        /// No room towards the network.
        WanFull => "drop.wan_full",
        /// No room towards the games.
        LanFull => "drop.lan_full",
        /// The peer hears it on the physical LAN already.
        HeardNatively => "drop.heard_natively",
        /// A rewrite rule met a payload that is not what it should be.
        RewriteFailed => "drop.rewrite_failed",
        /// A plugin said so.
        PluginDrop => "drop.plugin",
        /// Its plugin gave no answer, and the rule says that it is dropped then.
        PluginDefault => "drop.plugin_no_answer",
        /// A record or message of a peer that was not believed.
        BadRecord => "drop.bad_record",
        /// More handshakes than one second allows.
        Flood => "drop.flood",
        /// A datagram for another member that this node does not pass on.
        ForwardRefused => "drop.forward_refused",
        /// More of them than the pace allows.
        ForwardPace => "drop.forward_pace",
        /// A packet of a measurement that this node did not agree to, or no longer.
        MeasureRefused => "drop.measure_refused",
        /// A knock of a stranger, or damaged.
        BadKnock => "drop.bad_knock",
        /// More knocks than one second allows.
        KnockFlood => "drop.knock_flood",
    }
}

/// All counters of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    counts: [u64; Count::ALL.len()],
    drops: [u64; DropReason::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self { counts: [0; Count::ALL.len()], drops: [0; DropReason::ALL.len()] }
    }
}

impl Counters {
    /// One more.
    pub fn add(&mut self, what: Count) {
        self.add_n(what, 1);
    }

    /// `n` more.
    pub fn add_n(&mut self, what: Count, n: u64) {
        if let Some(c) = self.counts.get_mut(what as usize) {
            *c += n;
        }
    }

    /// One more packet dropped.
    pub fn drop(&mut self, why: DropReason) {
        if let Some(c) = self.drops.get_mut(why as usize) {
            *c += 1;
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self, what: Count) -> u64 {
        self.counts.get(what as usize).copied().unwrap_or(0)
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, why: DropReason) -> u64 {
        self.drops.get(why as usize).copied().unwrap_or(0)
    }

    /// Numbers by name: all counts, and the drops that happened.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        let counts = Count::ALL.iter().map(|c| (c.name(), self.count(*c)));
        let drops = DropReason::ALL.iter().map(|d| (d.name(), self.dropped(*d))).filter(|(_, n)| *n > 0);
        counts.chain(drops).collect()
    }
}
