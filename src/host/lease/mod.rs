//! A port on the router that leads to the tunnel's socket: asked for by UPnP, NAT-PMP and PCP at once, as soon as lanrage
//! starts, and never waited for.
//!
//! A *round* asks all three. The first good answer is told to the engine at once (`HostFact::Leased`); it is renewed at
//! half of its life, and when that fails, when the router says that it restarted, when this computer moved or when the
//! engine asks (`Effect::RefreshLease`), the next round begins. What each protocol came to is told in words
//! (`HostFact::LeaseReport`). At the end every port is given back.
//!
//! An outside address that is not the internet's own (another router stands before it) is reported and not used:
//! nobody could reach it. Only IPv4: behind IPv6 there is nothing to map, and routers that pass IPv6 in on request (PCP)
//! want the request to come from the address itself, which few of them answer.
//!
//! Everything that the router says is hostile: `natpmp`, `pcp` and `upnp` read it with caps on every length.

mod ask;
mod epoch;
mod keeper;
mod natpmp;
mod once;
mod pcp;
mod upnp;

pub use keeper::{LeaseSetup, spawn};
pub use once::{Answer, once};

use crate::host::cards::Ways;
use crate::model::nat::PortMapping;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Seconds that are asked for: long enough that renewing is nothing, short enough that what a crash leaves behind is gone
/// before the next evening.
const LIFETIME: u32 = 3600;

/// The router, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Site {
    router: Ipv4Addr,
    /// This computer's address towards it.
    source: Ipv4Addr,
    /// The tunnel's port.
    port: u16,
    nonce: pcp::Nonce,
}

impl Site {
    /// `None` where no router is known, or where another address than the one towards it was chosen with `--listen`.
    fn find(ways: &Ways, local: SocketAddr, nonce: pcp::Nonce) -> Option<Self> {
        let way = ways.v4?;
        let (Some(IpAddr::V4(router)), Some(IpAddr::V4(source)), IpAddr::V4(own)) =
            (way.router, way.source, local.ip())
        else {
            return None;
        };
        (own.is_unspecified() || own == source).then_some(Self { router, source, port: local.port(), nonce })
    }
}

/// A port that a router forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    by: PortMapping,
    external: SocketAddr,
    lifetime: Duration,
    /// The router's clock, where the protocol has it.
    epoch: Option<u32>,
    hold: Hold,
}

/// What is needed to give a port back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hold {
    NatPmp,
    Pcp,
    Upnp(upnp::Mapping),
}

impl Grant {
    /// Whether the whole internet could use it.
    fn is_good(&self) -> bool {
        matches!(self.external.ip(), IpAddr::V4(ip) if is_public(ip)) && self.external.port() != 0
    }

    /// For people.
    fn words(&self) -> String {
        if self.is_good() {
            format!("forwards {}", self.external)
        } else if self.external.ip().is_unspecified() {
            "the router has no internet address".to_owned()
        } else {
            Why::SecondRouter(self.external.ip()).to_string()
        }
    }
}

/// Asks by one protocol; `known` is what it came to the last time.
async fn ask(by: PortMapping, site: &Site, known: Option<&Grant>) -> Result<Grant, Why> {
    let wanted = known.map_or(site.port, |grant| grant.external.port());
    match by {
        PortMapping::Upnp => {
            let known = known.and_then(|grant| match &grant.hold {
                Hold::Upnp(mapping) => Some(mapping),
                Hold::NatPmp | Hold::Pcp => None,
            });
            upnp::ask(site, site.port, known).await
        }
        PortMapping::NatPmp => ask::natpmp(site, wanted).await,
        PortMapping::Pcp => ask::pcp(site, wanted).await,
    }
}

async fn give_back(site: &Site, grant: &Grant) -> Result<(), Why> {
    match &grant.hold {
        Hold::Upnp(mapping) => upnp::give_back(mapping).await,
        Hold::NatPmp | Hold::Pcp => ask::give_back(site, &grant.hold).await,
    }
}

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("no answer")]
    NoAnswer,
    #[error("the router does not speak it")]
    NotSpoken,
    #[error("refused: {0}")]
    Refused(String),
    #[error("behind a second router ({0} is not an address of the internet)")]
    SecondRouter(IpAddr),
    #[error("the router answers nonsense")]
    Nonsense,
    #[error("failed: {0}")]
    Failed(#[source] io::Error),
}

/// Whether an address is one of the internet (IANA's special-purpose registry: not private, not a carrier's, not of this
/// link, and so on). Documentation networks count as public: labs and tests are built of them.
fn is_public(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let carrier = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (18..20).contains(&b);
    let special = a == 0 || a >= 224 || (a, b) == (192, 0) && ip.octets()[2] == 0;
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || carrier || benchmark || special)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cards::Way;

    #[test]
    fn addresses_of_a_second_router_are_told_from_those_of_the_internet() {
        for public in ["8.8.8.8", "11.0.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "203.0.113.5"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for not in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "127.0.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "192.0.0.8",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_public(not.parse().unwrap()), "{not}");
        }
        let grant = |external: &str| Grant {
            by: PortMapping::NatPmp,
            external: external.parse().unwrap(),
            lifetime: Duration::from_secs(1),
            epoch: None,
            hold: Hold::NatPmp,
        };
        assert_eq!(grant("203.0.113.5:4000").words(), "forwards 203.0.113.5:4000");
        assert!(grant("100.64.0.9:4000").words().starts_with("behind a second router (100.64.0.9"));
        assert!(!grant("203.0.113.5:0").is_good() && !grant("[2001:db8::1]:5").is_good());
    }

    #[test]
    fn a_site_needs_a_router_and_the_socket_to_be_reachable_there() {
        let way = |router: Option<&str>, source: &str| Ways {
            v4: Some(Way {
                card: 2,
                router: router.map(|r| r.parse().unwrap()),
                source: Some(source.parse().unwrap()),
            }),
            v6: None,
        };
        let find = |ways: &Ways, local: &str| Site::find(ways, local.parse().unwrap(), [0; 12]);
        let home = way(Some("192.168.1.1"), "192.168.1.5");
        let site = find(&home, "0.0.0.0:4000").unwrap();
        assert_eq!(
            (site.router.to_string(), site.source.to_string(), site.port),
            ("192.168.1.1".into(), "192.168.1.5".into(), 4000)
        );
        assert!(find(&home, "192.168.1.5:4000").is_some());
        assert!(find(&home, "127.0.0.1:4000").is_none());
        assert!(find(&home, "[::]:4000").is_none());
        assert!(find(&way(None, "10.0.0.2"), "0.0.0.0:4000").is_none(), "a VPN is no router");
        assert!(find(&Ways::default(), "0.0.0.0:4000").is_none());
    }
}
