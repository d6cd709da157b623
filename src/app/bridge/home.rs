//! The host's own meeting place: without any `--control`, the party's control server runs inside the host's lanrage.
//!
//! Then the invite names this computer, and whoever reaches it can join: players of the same network, and others where
//! this computer has a public address or its router forwards the port. Nothing of it is kept with the party: on another
//! evening with a `--control`, that one is used.

use crate::model::addr::Card;
use crate::model::status::Trouble;
use crate::server::{self, PORT, ServerHandle, ServerOptions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use tokio::runtime::Handle;

/// Addresses of this computer that an invite names at most: each costs every guest a try.
const NAMED: usize = 2;

/// A running meeting place.
#[derive(Debug)]
pub(super) struct Home {
    server: ServerHandle,
    port: u16,
}

impl Home {
    /// Starts it, at the usual port or at any free one.
    ///
    /// # Errors
    /// `no_meeting_place`, with what hinders it.
    pub(super) fn start(data_dir: &Path, runtime: &Handle) -> Result<Self, Trouble> {
        let at = |port| {
            let mut options = ServerOptions::new(data_dir.join("meeting-place"));
            options.listen = vec![
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            ];
            options
        };
        let only_v4 = |port| {
            let mut options = at(port);
            options.listen.truncate(1);
            options
        };
        let mut last = None;
        for options in [at(PORT), only_v4(PORT), only_v4(0)] {
            match runtime.block_on(server::start(options)) {
                Ok(server) => {
                    let port = server.addresses().first().map_or(PORT, SocketAddr::port);
                    return Ok(Self { server, port });
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(String::new, |e| format!("{e:#}"));
        Err(Trouble::new(
            "no_meeting_place",
            format!("this computer cannot be the party's meeting place: {why}"),
            "name another with --control server:URL or --control file:DIR",
        ))
    }

    /// How this computer itself gets there.
    pub(super) fn own(&self) -> String {
        format!("server:http://127.0.0.1:{}", self.port)
    }

    /// How others get there: the addresses of the cards, that of the default route first.
    pub(super) fn for_others(&self, cards: &[Card]) -> Vec<String> {
        let mut cards: Vec<&Card> = cards.iter().collect();
        cards.sort_by_key(|card| !card.default_route);
        let all = || cards.iter().flat_map(|card| &card.nets).map(|net| net.addr);
        let v4 = all().filter(IpAddr::is_ipv4).take(NAMED);
        let v6 = all().filter(|a| matches!(a, IpAddr::V6(a) if is_global(*a)));
        let reaches_v6 = self.server.addresses().len() > 1;
        v4.chain(v6.filter(|_| reaches_v6))
            .take(NAMED)
            .map(|addr| format!("server:http://{}", SocketAddr::new(addr, self.port)))
            .collect()
    }

    /// What players should know about it.
    pub(super) fn notice(&self, named: &[String]) -> Trouble {
        let urls: Vec<&str> = named.iter().filter_map(|n| n.strip_prefix("server:")).collect();
        let place = if urls.is_empty() { format!("port {}", self.port) } else { urls.join(" or ") };
        Trouble::new(
            "own_meeting_place",
            format!("your party meets at this computer ({place}): your friends must be able to reach it"),
            "the same network does; else forward the port on your router, or use --control server:URL",
        )
    }

    /// Stores and stops.
    pub(super) async fn close(self) {
        if let Err(error) = self.server.shutdown().await {
            tracing::warn!("the meeting place could not be stored: {error:#}");
        }
    }
}

/// A global unicast address (RFC 4291, 2000::/3): the only ones worth naming to strangers' networks.
const fn is_global(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xe000 == 0x2000
}
