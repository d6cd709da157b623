//! Default deny both ways: only the ports of the running games, and answers to what went out.
//!
//! A port is open when a profile names it, or when a game's own announcement carried it (for the announcement's life). A
//! flow that was allowed once stays allowed both ways while it is used. A query that went out lets UDP answers to its
//! source port in for a while, from any port of any peer: some games answer from a new one, and some by a new TCP
//! connection to ports that the profile names. Where a profile says that members talk to each other (`peers`), a port of
//! this computer that plays with one of them is open to all.

use crate::model::addr::Seat;
use crate::model::limits::FLOWS;
use crate::model::time::Mono;
use crate::rules::ports::PortRange;
use crate::rules::ruleset::{Ruleset, Transport};
use crate::wire::packet::{PacketView, proto};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Idle UDP flows are forgotten after this.
const UDP_LIFE: Duration = Duration::from_secs(120);
/// Idle TCP connections are forgotten after this.
const TCP_LIFE: Duration = Duration::from_secs(1800);

/// Ports that one peer may have leased at once, of each kind: no peer may use up what is there for all.
const LEASES_OF_ONE: usize = 256;
/// Flows that one peer may have begun at once; beyond, its new ones are dropped until old ones run out.
const FLOWS_OF_ONE: usize = 1024;

/// All leases of this kind.
const CONNECTS_IN: RangeInclusive<Lease> = Lease::ConnectIn(0, 0)..=Lease::ConnectIn(u16::MAX, u16::MAX);

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a peer to this computer.
    In,
    /// From this computer to a peer.
    Out,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    /// First, so that one peer's flows lie together.
    seat: Seat,
    transport: Transport,
    local: u16,
    remote: u16,
}

/// Who may open a port for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lease {
    /// A game on this computer announced that it plays there.
    Mine(Transport, u16),
    /// A game of that peer announced that it plays there.
    Theirs(Seat, Transport, u16),
    /// A query left this computer from this UDP port: answers may come from anyone.
    AnswersIn(u16),
    /// A query came from this UDP port of that peer: answers may go there.
    AnswersOut(Seat, u16),
    /// A query left this computer: answers may come by new connections to these TCP ports, first and last.
    ConnectIn(u16, u16),
    /// A query came from that peer: answers may go by new connections to these TCP ports of it.
    ConnectOut(Seat, u16, u16),
    /// A game whose members talk to each other plays at this port of this computer: kept while it has flows.
    Peers(Transport, u16),
}

/// The firewall of one node.
#[derive(Debug)]
pub struct Firewall {
    open: bool,
    flows: BTreeMap<Flow, Mono>,
    leases: BTreeMap<Lease, Mono>,
}

impl Firewall {
    /// A firewall; `open` lets everything through.
    #[must_use]
    pub const fn new(open: bool) -> Self {
        Self { open, flows: BTreeMap::new(), leases: BTreeMap::new() }
    }

    fn lease(&mut self, lease: Lease, life: Duration, now: Mono) {
        if !self.leases.contains_key(&lease) && self.leases_like(lease) >= LEASES_OF_ONE {
            return;
        }
        if self.leases.len() >= FLOWS && !self.leases.contains_key(&lease) {
            self.sweep(now);
            if self.leases.len() >= FLOWS {
                return;
            }
        }
        let until = self.leases.entry(lease).or_insert(now);
        *until = (*until).max(now + life);
    }

    /// How many leases of this kind a peer has already; the first few are enough to know.
    fn leases_like(&self, lease: Lease) -> usize {
        let range = match lease {
            Lease::Theirs(seat, ..) => {
                Lease::Theirs(seat, Transport::Tcp, 0)..=Lease::Theirs(seat, Transport::Udp, u16::MAX)
            }
            Lease::AnswersOut(seat, _) => Lease::AnswersOut(seat, 0)..=Lease::AnswersOut(seat, u16::MAX),
            Lease::ConnectOut(seat, ..) => Self::connects_out(seat),
            Lease::Mine(..) | Lease::AnswersIn(_) | Lease::ConnectIn(..) | Lease::Peers(..) => return 0,
        };
        self.leases.range(range).take(LEASES_OF_ONE).count()
    }

    /// A game on this computer announced a port of its own.
    pub fn announced_here(&mut self, transport: Transport, port: u16, life: Duration, now: Mono) {
        self.lease(Lease::Mine(transport, port), life, now);
    }

    /// A game of a peer announced a port of its own.
    pub fn announced_there(
        &mut self,
        seat: Seat,
        transport: Transport,
        port: u16,
        life: Duration,
        now: Mono,
    ) {
        self.lease(Lease::Theirs(seat, transport, port), life, now);
    }

    /// A query left from this UDP port.
    pub fn asked(&mut self, local: u16, life: Duration, now: Mono) {
        self.lease(Lease::AnswersIn(local), life, now);
    }

    /// A query came from this UDP port of a peer.
    pub fn was_asked(&mut self, seat: Seat, remote: u16, life: Duration, now: Mono) {
        self.lease(Lease::AnswersOut(seat, remote), life, now);
    }

    /// A query left whose answers come by new connections to these TCP ports of this computer.
    pub fn may_connect_here(&mut self, tcp: &[PortRange], life: Duration, now: Mono) {
        for range in tcp {
            self.lease(Lease::ConnectIn(*range.start(), *range.end()), life, now);
        }
    }

    /// A query came whose answers go by new connections to these TCP ports of the peer.
    pub fn may_connect_there(&mut self, seat: Seat, tcp: &[PortRange], life: Duration, now: Mono) {
        for range in tcp {
            self.lease(Lease::ConnectOut(seat, *range.start(), *range.end()), life, now);
        }
    }

    fn leased(&self, lease: Lease, now: Mono) -> bool {
        self.leases.get(&lease).is_some_and(|until| *until > now)
    }

    const fn connects_out(seat: Seat) -> RangeInclusive<Lease> {
        Lease::ConnectOut(seat, 0, 0)..=Lease::ConnectOut(seat, u16::MAX, u16::MAX)
    }

    /// Our own rules name these ranges, so there are few.
    fn connects(&self, range: RangeInclusive<Lease>, port: u16, now: Mono) -> bool {
        self.leases.range(range).any(|(lease, until)| {
            let (Lease::ConnectIn(first, last) | Lease::ConnectOut(_, first, last)) = *lease else {
                return false;
            };
            *until > now && (first..=last).contains(&port)
        })
    }

    /// Whether a unicast packet may pass between this computer and the peer at `seat`; notes the flow if so.
    pub fn admit(&mut self, way: Way, view: &PacketView<'_>, seat: Seat, rules: &Ruleset, now: Mono) -> bool {
        let transport = match view.proto {
            proto::TCP => Transport::Tcp,
            proto::UDP => Transport::Udp,
            proto::ICMP => return self.open || is_icmp_error(view, &[3, 11, 12]),
            proto::ICMPV6 => return self.open || is_icmp_error(view, &[1, 2, 3, 4]),
            _ => return self.open,
        };
        if view.fragment {
            // A fragment has no ports to judge by; games keep below the MTU, and the tunnel's says so.
            return self.open;
        }
        let (local, remote) = match way {
            Way::In => (view.dst_port, view.src_port),
            Way::Out => (view.src_port, view.dst_port),
        };
        let flow = Flow { transport, local, seat, remote };
        let life = if transport == Transport::Tcp { TCP_LIFE } else { UDP_LIFE };
        if let Some(until) = self.flows.get_mut(&flow)
            && *until > now
        {
            *until = now + life;
            return true;
        }
        if !(self.open || self.may_begin(way, flow, rules, now)) || way == Way::In && self.is_greedy(seat) {
            return false;
        }
        self.note(flow, life, now);
        let port = match way {
            Way::In => local,
            Way::Out => remote,
        };
        if rules.plays_on(transport, port).is_some_and(|profile| rules.peers_talk(profile)) {
            self.lease(Lease::Peers(transport, local), life, now);
        }
        true
    }

    /// A peer that begins ever new flows would push out those of others, each at the cost of a walk through all.
    fn is_greedy(&self, seat: Seat) -> bool {
        let first = Flow { seat, transport: Transport::Tcp, local: 0, remote: 0 };
        let last = Flow { seat, transport: Transport::Udp, local: u16::MAX, remote: u16::MAX };
        self.flows.range(first..=last).take(FLOWS_OF_ONE).count() >= FLOWS_OF_ONE
    }

    fn may_begin(&self, way: Way, flow: Flow, rules: &Ruleset, now: Mono) -> bool {
        let Flow { transport, local, seat, remote } = flow;
        let udp = transport == Transport::Udp;
        match way {
            Way::In => {
                rules.plays_on(transport, local).is_some()
                    || self.leased(Lease::Mine(transport, local), now)
                    || (udp && self.leased(Lease::AnswersIn(local), now))
                    || (!udp && self.connects(CONNECTS_IN, local, now))
                    || self.leased(Lease::Peers(transport, local), now)
            }
            Way::Out => {
                rules.plays_on(transport, remote).is_some()
                    || self.leased(Lease::Theirs(seat, transport, remote), now)
                    || (udp && self.leased(Lease::AnswersOut(seat, remote), now))
                    || (!udp && self.connects(Self::connects_out(seat), remote, now))
                    || self.leased(Lease::Peers(transport, local), now)
            }
        }
    }

    fn note(&mut self, flow: Flow, life: Duration, now: Mono) {
        if self.flows.len() >= FLOWS {
            self.sweep(now);
        }
        if self.flows.len() >= FLOWS {
            // Full of live flows: the one that was used longest ago leaves.
            if let Some(oldest) = self.flows.iter().min_by_key(|(_, until)| **until).map(|(f, _)| *f) {
                self.flows.remove(&oldest);
            }
        }
        self.flows.insert(flow, now + life);
    }

    /// Forgets what has run out; call now and then.
    pub fn sweep(&mut self, now: Mono) {
        self.flows.retain(|_, until| *until > now);
        self.leases.retain(|lease, until| {
            if let Lease::Peers(transport, local) = *lease {
                // A game keeps its port for as long as anybody plays with it there.
                let at = |flow: &&Flow| flow.transport == transport && flow.local == local;
                let used = self.flows.iter().filter(|(flow, _)| at(flow)).map(|(_, until)| *until).max();
                *until = used.map_or(*until, |used| used.max(*until));
            }
            *until > now
        });
    }

    /// Forgets everything about a peer (it is gone, or its seat changed hands).
    pub fn forget(&mut self, seat: Seat) {
        self.flows.retain(|flow, _| flow.seat != seat);
        self.leases.retain(|lease, _| match lease {
            Lease::Theirs(s, ..) | Lease::AnswersOut(s, _) | Lease::ConnectOut(s, ..) => *s != seat,
            Lease::Mine(..) | Lease::AnswersIn(_) | Lease::ConnectIn(..) | Lease::Peers(..) => true,
        });
    }
}

fn is_icmp_error(view: &PacketView<'_>, types: &[u8]) -> bool {
    view.payload().first().is_some_and(|t| types.contains(t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::check_text;
    use crate::rules::compile::compile;
    use crate::wire::packet::write_udp;

    fn at(s: u64) -> Mono {
        Mono(Duration::from_secs(s))
    }

    fn admits(f: &mut Firewall, seat: u8, from: u16, to: u16, now: Mono) -> bool {
        let mut room = [0; 100];
        let source = format!("10.1.2.{seat}:{from}").parse().unwrap();
        let n = write_udp(&mut room, source, format!("10.1.2.4:{to}").parse().unwrap(), 64, b"x").unwrap();
        f.admit(Way::In, &PacketView::parse(&room[..n]).unwrap(), Seat(seat), &Ruleset::default(), now)
    }

    #[test]
    fn one_peer_does_not_push_out_the_flows_of_others() {
        let mut f = Firewall::new(false);
        f.announced_here(Transport::Udp, 4000, Duration::from_secs(60), at(0));
        assert!(admits(&mut f, 3, 5, 4000, at(0)));
        assert!((1..5000).map(|port| admits(&mut f, 9, port, 4000, at(1))).any(|passed| !passed));
        assert!(f.flows.len() <= FLOWS_OF_ONE + 1, "{} flows", f.flows.len());
        // Its lease is over, so only the flow lets it in.
        assert!(admits(&mut f, 3, 5, 4000, at(100)));
        assert!(!admits(&mut f, 3, 6, 4000, at(100)));
    }

    #[test]
    fn one_peer_does_not_use_up_the_ports_of_all() {
        let mut f = Firewall::new(false);
        let life = Duration::from_secs(60);
        for port in 1..u16::MAX {
            f.announced_there(Seat(9), Transport::Udp, port, life, at(0));
            f.was_asked(Seat(9), port, life, at(0));
        }
        f.announced_here(Transport::Udp, 4000, life, at(1));
        assert!(admits(&mut f, 3, 5, 4000, at(2)));
    }

    fn packet(tcp: bool, from: &str, to: &str) -> Vec<u8> {
        let mut room = vec![0; 100];
        let n = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 64, &[0; 20]).unwrap();
        room.truncate(n);
        if tcp {
            room[9] = proto::TCP;
            room[20 + 12] = 5 << 4; // its header has five words
        }
        room
    }

    fn passes(f: &mut Firewall, way: Way, seat: u8, tcp: bool, ports: (u16, u16), rules: &Ruleset) -> bool {
        let packet = packet(tcp, &format!("10.1.2.3:{}", ports.0), &format!("10.1.2.4:{}", ports.1));
        f.admit(way, &PacketView::parse(&packet).unwrap(), Seat(seat), rules, at(1))
    }

    #[test]
    fn answers_by_a_new_connection_come_only_to_the_named_ports_and_only_for_a_while() {
        let rules = Ruleset::default();
        let mut f = Firewall::new(false);
        f.may_connect_here(&[2300..=2400], Duration::from_secs(10), at(0));
        assert!(passes(&mut f, Way::In, 3, true, (50_000, 2300), &rules));
        assert!(!passes(&mut f, Way::In, 3, false, (50_000, 2301), &rules), "not over UDP");
        assert!(!passes(&mut f, Way::In, 3, true, (50_000, 2401), &rules));
        assert!(!passes(&mut f, Way::Out, 3, true, (50_000, 2300), &rules), "not the other way");
        let late = packet(true, "10.1.2.3:7", "10.1.2.4:2310");
        assert!(!f.admit(Way::In, &PacketView::parse(&late).unwrap(), Seat(3), &rules, at(10)));

        f.may_connect_there(Seat(5), &[2300..=2400], Duration::from_secs(10), at(0));
        assert!(passes(&mut f, Way::Out, 5, true, (40_000, 2350), &rules));
        assert!(!passes(&mut f, Way::Out, 6, true, (40_000, 2350), &rules), "who did not ask");
        f.forget(Seat(5));
        assert!(!passes(&mut f, Way::Out, 5, true, (40_001, 2350), &rules));
    }

    #[test]
    fn members_of_one_game_talk_to_each_other_at_the_port_that_plays() {
        let compiled = |peers: bool| {
            let text = format!(
                "id = \"x\"\nname = \"X\"\nevidence = \"unverified\"\n[play]\nudp = 6112\npeers = {peers}\n"
            );
            compile(&[check_text("x.toml", &text).unwrap()]).unwrap()
        };
        for peers in [true, false] {
            let rules = compiled(peers);
            let mut f = Firewall::new(false);
            assert!(!passes(&mut f, Way::In, 7, false, (45_000, 40_000), &rules), "nothing plays there yet");
            assert!(passes(&mut f, Way::Out, 3, false, (40_000, 6112), &rules), "joins the game of seat 3");
            assert_eq!(passes(&mut f, Way::In, 7, false, (45_000, 40_000), &rules), peers);
            assert_eq!(passes(&mut f, Way::Out, 8, false, (40_000, 46_000), &rules), peers);
            assert!(!passes(&mut f, Way::In, 7, false, (45_000, 40_001), &rules), "another port");
            // While anybody plays there, the port stays open to those who come later.
            for minute in 1..10u64 {
                let now = at(60 * minute);
                assert!(f.admit_again(3, 40_000, 6112, &rules, now));
                f.sweep(now);
            }
            let late = packet(false, "10.1.2.3:47000", "10.1.2.4:40000");
            let late = PacketView::parse(&late).unwrap();
            assert_eq!(f.admit(Way::In, &late, Seat(9), &rules, at(550)), peers);
            f.sweep(at(10_000));
            assert!(!f.admit(Way::In, &late, Seat(9), &rules, at(10_000)), "the game is over");
        }
    }

    impl Firewall {
        fn admit_again(&mut self, seat: u8, from: u16, to: u16, rules: &Ruleset, now: Mono) -> bool {
            let packet = packet(false, &format!("10.1.2.4:{from}"), &format!("10.1.2.3:{to}"));
            self.admit(Way::Out, &PacketView::parse(&packet).unwrap(), Seat(seat), rules, now)
        }
    }
}
