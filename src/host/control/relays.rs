//! Relay offers of a server, as the node gets them: the server lists its own relay without its address, because only who
//! reached it knows one that works; here it is put in. Everything else in an offer is a stranger's: counted and capped.
//!
//! An offer with such a way, or with the address that answered, is the server's own relay. When the server was reached by
//! TLS, the same port is a way to that relay too, whether the server listed it or not, and stands before other streams; when
//! that was the way round by 443, because nothing else got out, it stands before all others: UDP is not to be counted on.
//!
//! Which certificate a TLS way wants: the pin that the server named, else the one that the player gave or that this
//! carrier has just seen. Without any: one for the name that was dialled, of an authority this computer trusts; but where
//! an IP address was dialled by `http://`, any (an empty name), because nobody asked for more and no authority vouches for
//! bare addresses. A relay carries nothing but sealed packets of the tunnel, whoever it is.

use super::choice::ServerAddress;
use crate::model::pin::Pin;
use crate::model::relay::{RelayOffer, RelayWay};
use std::net::{IpAddr, SocketAddr};

/// Relays of one server.
const OFFERS: usize = 8;
/// Ways to one relay.
const WAYS: usize = 16;
/// Bytes of a user name or password (RFC 8489, sections 14.3 and 14.4: 509).
const TEXT_BYTES: usize = 509;
/// Bytes of a host name.
const NAME_BYTES: usize = 253;

/// Where a server was reached.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    /// The address that answered.
    pub(super) at: Option<SocketAddr>,
    /// All addresses of the name.
    pub(super) addresses: Vec<SocketAddr>,
    /// The name or IP address that was dialled.
    pub(super) host: String,
    /// The certificate it showed, when it was reached by TLS.
    pub(super) tls: Option<Pin>,
    /// By the way round, as nothing answered where it was asked for.
    pub(super) round: bool,
}

impl Reached {
    /// The offers with everything put in that only this side knows, and without what is too much.
    pub(super) fn fill(&self, address: &ServerAddress, mut offers: Vec<RelayOffer>) -> Vec<RelayOffer> {
        offers.truncate(OFFERS);
        let fits = |text: &str, most: usize| text.len() <= most && !text.chars().any(char::is_control);
        offers.retain(|o| [&o.username, &o.password, &o.realm].iter().all(|t| fits(t, TEXT_BYTES)));
        for offer in &mut offers {
            let own = offer.ways.iter().any(|way| self.is_own(way.addr().ip()));
            let ways = std::mem::take(&mut offer.ways).into_iter().take(WAYS);
            let named = |way: &RelayWay| match way {
                RelayWay::Tls { name, .. } => fits(name, NAME_BYTES),
                RelayWay::Udp { .. } | RelayWay::Tcp { .. } => true,
            };
            let mut ways: Vec<_> = ways.filter(named).filter_map(|way| self.fill_way(address, way)).collect();
            if own {
                self.add_the_way_here(address, &mut ways);
            }
            let mut known: Vec<RelayWay> = Vec::new();
            ways.retain(|way| {
                !known.contains(way) && {
                    known.push(way.clone());
                    true
                }
            });
            offer.ways = ways;
        }
        offers.retain(|o| !o.ways.is_empty());
        offers
    }

    /// Whether this is the server itself.
    fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_unspecified() || self.at.iter().chain(&self.addresses).any(|at| at.ip() == ip)
    }

    /// `None` for an address of no use.
    fn fill_way(&self, address: &ServerAddress, mut way: RelayWay) -> Option<RelayWay> {
        let own = self.is_own(way.addr().ip());
        if way.addr().port() == 0 {
            return None;
        }
        match &mut way {
            RelayWay::Udp { addr } | RelayWay::Tcp { addr } => self.fill_addr(addr)?,
            RelayWay::Tls { addr, name, pin } => {
                self.fill_addr(addr)?;
                if own && name.is_empty() {
                    *name = self.host.clone();
                }
                if own && pin.is_none() {
                    *pin = self.pin(address, addr.port()).map(|p| p.0);
                }
                if own && pin.is_none() && !address.tls && name.parse::<IpAddr>().is_ok() {
                    name.clear();
                }
            }
        }
        Some(way)
    }

    /// An address of the same family where there is one: a socket for IPv4 does not answer on IPv6.
    fn fill_addr(&self, addr: &mut SocketAddr) -> Option<()> {
        if addr.ip().is_unspecified() {
            let reached = || self.at.iter().chain(&self.addresses);
            let same = reached().find(|a| a.is_ipv4() == addr.is_ipv4());
            addr.set_ip(same.or_else(|| reached().next())?.ip());
        }
        Some(())
    }

    /// The player's own pin holds for the port that it was given with; what was seen, for the port where it was seen.
    fn pin(&self, address: &ServerAddress, port: u16) -> Option<Pin> {
        let seen = self.tls.filter(|_| self.at.is_some_and(|at| at.port() == port));
        address.pin.or_else(|| seen.filter(|_| !address.tls))
    }

    fn add_the_way_here(&self, address: &ServerAddress, ways: &mut Vec<RelayWay>) {
        let (Some(at), Some(_)) = (self.at, self.tls) else { return };
        let here = ways.iter().position(|w| matches!(w, RelayWay::Tls { addr, .. } if *addr == at));
        let way = match here {
            Some(place) => ways.remove(place),
            None => {
                let pin = self.pin(address, at.port()).map(|p| p.0);
                RelayWay::Tls { addr: at, name: self.host.clone(), pin }
            }
        };
        let first_stream = ways.iter().position(|w| !matches!(w, RelayWay::Udp { .. }));
        ways.insert(if self.round { 0 } else { first_stream.unwrap_or(ways.len()) }, way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn offer(ways: Vec<RelayWay>) -> RelayOffer {
        RelayOffer { ways, username: "u".into(), password: "p".into(), realm: "r".into(), expires: None }
    }

    fn reached(host: &str, at_text: &str, tls: Option<Pin>) -> Reached {
        Reached {
            at: Some(at(at_text)),
            addresses: vec![at("[2001:db8::1]:8667"), at("203.0.113.9:8667")],
            host: host.into(),
            tls,
            round: false,
        }
    }

    fn fill(reached: &Reached, url: &str, ways: Vec<RelayWay>) -> Vec<RelayWay> {
        let mut filled = reached.fill(&url.parse().unwrap(), vec![offer(ways)]);
        filled.pop().map_or(Vec::new(), |o| o.ways)
    }

    fn tls(addr: &str, name: &str, pin: Option<u8>) -> RelayWay {
        RelayWay::Tls { addr: at(addr), name: name.into(), pin: pin.map(|n| [n; 32]) }
    }

    #[test]
    fn a_servers_own_relay_gets_the_address_that_answered_and_of_the_right_family() {
        let reached = reached("h.example", "203.0.113.9:8667", None);
        let ways = vec![
            RelayWay::Udp { addr: at("0.0.0.0:3478") },
            RelayWay::Udp { addr: at("[::]:3478") },
            RelayWay::Tcp { addr: at("198.51.100.1:80") },
            RelayWay::Udp { addr: at("0.0.0.0:3478") },
            RelayWay::Udp { addr: at("0.0.0.0:0") },
            tls("0.0.0.0:443", "", Some(3)),
        ];
        let filled = fill(&reached, "http://h.example", ways);
        let expected = vec![
            RelayWay::Udp { addr: at("203.0.113.9:3478") },
            RelayWay::Udp { addr: at("[2001:db8::1]:3478") },
            RelayWay::Tcp { addr: at("198.51.100.1:80") },
            tls("203.0.113.9:443", "h.example", Some(3)),
        ];
        assert_eq!(filled, expected, "each once, and none without a port");
    }

    #[test]
    fn a_server_reached_on_443_relays_there_whether_it_said_so_or_not() {
        let seen = reached("203.0.113.9", "203.0.113.9:443", Some(Pin([7; 32])));
        let udp = RelayWay::Udp { addr: at("0.0.0.0:8667") };
        let tcp = RelayWay::Tcp { addr: at("0.0.0.0:8667") };
        let (udp_there, tcp_there) =
            (RelayWay::Udp { addr: at("203.0.113.9:8667") }, RelayWay::Tcp { addr: at("203.0.113.9:8667") });
        let here = tls("203.0.113.9:443", "203.0.113.9", Some(7));
        let filled = fill(&seen, "http://203.0.113.9", vec![udp.clone(), tcp.clone()]);
        assert_eq!(filled, [udp_there.clone(), here.clone(), tcp_there.clone()]);
        let listed = fill(&seen, "http://203.0.113.9", vec![udp, tcp, tls("0.0.0.0:443", "", Some(7))]);
        assert_eq!(
            listed,
            [udp_there.clone(), here.clone(), tcp_there.clone()],
            "named by the server: once all the same"
        );
        let round = Reached { round: true, ..seen.clone() };
        let filled = fill(&round, "http://203.0.113.9", vec![udp_there.clone(), tcp_there.clone()]);
        assert_eq!(filled, [here, udp_there, tcp_there], "before all others when nothing else got out");
        let foreign = vec![RelayWay::Udp { addr: at("198.51.100.1:3478") }];
        assert_eq!(fill(&seen, "http://203.0.113.9", foreign.clone()), foreign, "not somebody else's relay");
    }

    #[test]
    fn which_certificate_is_wanted_follows_what_was_asked_for() {
        let plain = |host: &str| reached(host, "203.0.113.9:8667", None);
        let way = || vec![tls("0.0.0.0:443", "", None)];
        let got = fill(&plain("203.0.113.9"), "http://203.0.113.9", way());
        assert_eq!(got, [tls("203.0.113.9:443", "", None)], "any, for a bare address by http");
        let got = fill(&plain("h.example"), "http://h.example", way());
        assert_eq!(got, [tls("203.0.113.9:443", "h.example", None)], "an authority's, for a name");
        let pinned = format!("https://203.0.113.9#sha256={}", Pin([5; 32]));
        let got = fill(&reached("203.0.113.9", "203.0.113.9:443", Some(Pin([5; 32]))), &pinned, way());
        assert_eq!(got, [tls("203.0.113.9:443", "203.0.113.9", Some(5))]);
        let roots = reached("h.example", "203.0.113.9:443", Some(Pin([5; 32])));
        let got = fill(&roots, "https://h.example", way());
        assert_eq!(got, [tls("203.0.113.9:443", "h.example", None)], "checked again, not pinned to today's");
    }

    #[test]
    fn more_than_any_honest_server_offers_is_cut() {
        let reached = reached("h", "203.0.113.9:8667", None);
        let ways = |n: u16| (1..=n).map(|p| RelayWay::Udp { addr: at(&format!("192.0.2.1:{p}")) }).collect();
        let long = RelayOffer { password: "x".repeat(TEXT_BYTES + 1), ..offer(ways(1)) };
        let mut offers = vec![long, offer(Vec::new())];
        offers.extend((0..100).map(|_| offer(ways(100))));
        let filled = reached.fill(&"http://h".parse().unwrap(), offers);
        assert!(filled.len() <= OFFERS && filled.iter().all(|o| o.ways.len() <= WAYS));
        assert!(!filled.is_empty());
    }
}
