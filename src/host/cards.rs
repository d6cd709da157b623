//! This computer's network cards, and the news that something about them changed.
//!
//! "Card" is every device by which games and peers may be reached: wired, wireless, bridges, other VPNs. Not the
//! loopback, not parts of a bridge or bond (their addresses are on the bridge), not lanrage's own TUN devices. The card
//! of the default route is the one that games use for broadcasts when they do not choose.
//!
//! Linux asks and listens by rtnetlink and tells within 50 ms; elsewhere the list holds the one card that the default
//! route uses (found by asking for the source address of a connection that is never made), and changes are looked for
//! every second.
//!
//! `ways` says by which router the internet is reached: a computer that was moved to another network may have the very
//! same address there.

use crate::model::addr::Card;
use std::net::IpAddr;

#[cfg(target_os = "linux")]
pub use linux::{CardWatch, list, ways};
#[cfg(not(target_os = "linux"))]
pub use polled::{CardWatch, list, ways};

/// The default ways out of this computer, as far as it has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ways {
    /// For IPv4.
    pub v4: Option<Way>,
    /// For IPv6.
    pub v6: Option<Way>,
}

/// A default way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The card's number, where the system tells.
    pub card: u32,
    /// The router; `None` when the card itself leads out (a VPN, a modem), or when the system does not tell.
    pub router: Option<IpAddr>,
    /// The address that this computer sends from.
    pub source: Option<IpAddr>,
}

impl Ways {
    /// Whether the internet is reached by other cards or routers now. The own address may differ: that is on the cards.
    #[must_use]
    pub fn lead_elsewhere(&self, now: &Self) -> bool {
        let hop = |way: Option<Way>| way.map(|w| (w.card, w.router));
        hop(self.v4) != hop(now.v4) || hop(self.v6) != hop(now.v6)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::VecDeque;
    use std::future::pending;
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Duration;

    use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::time::Instant;

    use super::{Card, Ways};
    use crate::host::lan::marker;
    use crate::host::lan::netlink::{Link, Netlink};
    use crate::host::watch::register;
    use crate::model::addr::Net;
    use crate::model::id::CardId;

    /// Addresses from the documentation ranges (RFC 5737, RFC 3849): no network routes them specially, so the way to
    /// them is the default route, with policy rules and split defaults (0.0.0.0/1 and 128.0.0.0/1) taken into account.
    const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    /// A cable or a Wi-Fi roam brings a dozen messages within some tens of milliseconds: one look at them all.
    const SETTLE: Duration = Duration::from_millis(50);
    /// Looks that follow each other without a pause: link down, link up, address, route.
    const BURST: u32 = 4;
    /// When it goes on and on (a routing daemon, a flapping cable), a look in this time.
    const PACE: Duration = Duration::from_millis(500);
    /// Bits of `nl_groups` (linux/rtnetlink.h).
    const LINK: u32 = 0x1;
    const IPV4_ADDRESS: u32 = 0x10;
    const IPV4_ROUTE: u32 = 0x40;
    const IPV6_ADDRESS: u32 = 0x100;
    const IPV6_ROUTE: u32 = 0x400;

    /// The cards that are up. Empty (and a warning) when the kernel cannot be asked.
    #[must_use]
    pub fn list(own_adapter: &str) -> Vec<Card> {
        read(own_adapter).unwrap_or_else(|error| {
            tracing::warn!(%error, "the network cards could not be listed");
            Vec::new()
        })
    }

    /// By which cards and routers the internet is reached.
    #[must_use]
    pub fn ways() -> Ways {
        Netlink::open().map(|mut n| Ways { v4: n.way_to(FAR_V4), v6: n.way_to(FAR_V6) }).unwrap_or_default()
    }

    fn read(own_adapter: &str) -> io::Result<Vec<Card>> {
        let mut netlink = Netlink::open()?;
        let links = netlink.links()?;
        let addresses = netlink.addresses()?;
        let default = netlink.way_to(FAR_V4).or_else(|| netlink.way_to(FAR_V6)).map(|way| way.card);
        let is_card = |l: &&Link| {
            l.running
                && !l.loopback
                && !l.enslaved
                && l.name != own_adapter
                && !(l.tun && marker::is_ours(&l.alias))
        };
        let nets =
            |index| -> Vec<Net> { addresses.iter().filter(|a| a.index == index).map(|a| a.net).collect() };
        Ok(links
            .iter()
            .filter(is_card)
            .map(|l| Card {
                id: CardId(l.index),
                name: l.name.clone(),
                nets: nets(l.index),
                default_route: default == Some(l.index),
            })
            .collect())
    }

    /// News about cards, addresses and routes.
    pub struct CardWatch {
        socket: Socket,
        ready: AsyncFd<OwnedFd>,
        settled: Option<Instant>,
        /// When each of the last looks was taken: no more than `BURST` within `BURST` times `PACE`.
        looks: VecDeque<Instant>,
    }

    impl std::fmt::Debug for CardWatch {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("CardWatch").field("settled", &self.settled).finish_non_exhaustive()
        }
    }

    impl CardWatch {
        /// Starts to listen. Must be called inside a tokio runtime.
        ///
        /// # Errors
        /// When the kernel gives no such socket.
        pub fn new() -> io::Result<Self> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            let groups = LINK | IPV4_ADDRESS | IPV4_ROUTE | IPV6_ADDRESS | IPV6_ROUTE;
            socket.bind(&SocketAddr::new(0, groups))?;
            socket.set_non_blocking(true)?;
            let ready = register(socket.as_fd().try_clone_to_owned()?)?;
            Ok(Self { socket, ready, settled: None, looks: VecDeque::new() })
        }

        /// Returns 50 ms after the first word that something changed; when changes go on, twice a second. May be dropped
        /// and called again: no news is lost.
        pub async fn changed(&mut self) {
            if self.settled.is_none() {
                self.first_word().await;
                let soon = Instant::now() + SETTLE;
                let paced = self.looks.front().filter(|_| self.looks.len() >= BURST as usize);
                self.settled = Some(paced.map_or(soon, |oldest| soon.max(*oldest + PACE * BURST)));
            }
            if let Some(at) = self.settled {
                tokio::time::sleep_until(at).await;
            }
            self.drain();
            self.settled = None;
            if self.looks.len() >= BURST as usize {
                self.looks.pop_front();
            }
            self.looks.push_back(Instant::now());
        }

        async fn first_word(&mut self) {
            loop {
                // An error of the reactor is for ever: better no news than a loop that spins.
                let Ok(mut ready) = self.ready.readable().await else { return pending().await };
                match ready.try_io(|_| self.socket.recv(&mut Vec::with_capacity(64), 0)) {
                    // ENOBUFS says that news were lost, which is news.
                    Ok(_) => return,
                    Err(_would_block) => {}
                }
            }
        }

        fn drain(&mut self) {
            let mut scrap = Vec::with_capacity(64);
            // Bounded, so that a flood of route changes cannot hold the caller here.
            for _ in 0..4096 {
                scrap.clear();
                match self.ready.try_io(Interest::READABLE, |_| self.socket.recv(&mut scrap, 0)) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
}

#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", expect(dead_code, unreachable_pub, reason = "built here only to be tested"))]
mod polled {
    use std::io;
    use std::net::{IpAddr, UdpSocket};
    use std::time::Duration;

    use super::{Card, Way, Ways};
    use crate::model::addr::Net;
    use crate::model::id::CardId;

    /// How often the addresses are looked at: two sockets that send nothing.
    const EVERY: Duration = Duration::from_secs(1);

    /// The card of the default route, with the addresses it would send from. Its true network is not known here, so the
    /// prefix is the whole address: it claims nothing about its neighbours.
    #[must_use]
    pub fn list(own_adapter: &str) -> Vec<Card> {
        let _ = own_adapter;
        let nets: Vec<Net> = [("0.0.0.0:0", "198.51.100.1:9"), ("[::]:0", "[2001:db8::1]:9")]
            .iter()
            .filter_map(|(from, to)| source_for(from, to))
            .map(|addr| Net { addr, prefix: if addr.is_ipv4() { 32 } else { 128 } })
            .collect();
        if nets.is_empty() {
            return Vec::new();
        }
        vec![Card { id: CardId(1), name: "default".to_owned(), nets, default_route: true }]
    }

    /// By which addresses the internet is reached; the routers are not known here.
    #[must_use]
    pub fn ways() -> Ways {
        let way = |from, to| source_for(from, to).map(|a| Way { card: 1, router: None, source: Some(a) });
        Ways { v4: way("0.0.0.0:0", "198.51.100.1:9"), v6: way("[::]:0", "[2001:db8::1]:9") }
    }

    /// Connecting a UDP socket sends nothing; it only fixes the source address.
    fn source_for(from: &str, to: &str) -> Option<IpAddr> {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|a| a.ip()).filter(|a| !a.is_unspecified() && !a.is_loopback())
    }

    /// News about cards, by looking every second.
    #[derive(Debug)]
    pub struct CardWatch {
        seen: Vec<Card>,
    }

    impl CardWatch {
        /// Starts to look.
        ///
        /// # Errors
        /// None here; other systems have some.
        pub fn new() -> io::Result<Self> {
            Ok(Self { seen: list("") })
        }

        /// Returns when the list of cards differs from the last one seen.
        pub async fn changed(&mut self) {
            loop {
                tokio::time::sleep(EVERY).await;
                let now = list("");
                if now != self.seen {
                    self.seen = now;
                    return;
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_default_card_has_real_addresses_or_is_not_there() {
            for card in list("lanrage0") {
                assert!(card.default_route && !card.nets.is_empty());
                assert!(card.nets.iter().all(|n| !n.addr.is_unspecified() && !n.addr.is_loopback()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_loopback_nor_the_own_adapter_is_a_card() {
        let all = list("lanrage0");
        assert!(all.iter().all(|c| c.name != "lo" && c.name != "lanrage0"));
        assert!(all.iter().filter(|c| c.default_route).count() <= 1);
        if let Some(first) = all.first().filter(|_| cfg!(target_os = "linux")) {
            assert!(
                list(&first.name).iter().all(|c| c.id != first.id),
                "the own adapter is left out by its name"
            );
        }
    }
}
