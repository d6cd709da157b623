//! Why there is no better path to a peer, and what would change that: one pure decision, for people.
//!
//! Inputs are facts that others found out: what both ends know of their routers, which addresses both have, what became of
//! asking the own router for a port, how the relays are, how the search for a direct way went. The output is a short list of
//! reasons, the one that matters first, each with a stable code, a sentence and what to try (`docs/doctor.md` lists them).
//! A path that is as good as it gets has none. Nothing here is a guess: what is not known is not told.

use super::plan::{Strategy, plan};
use crate::model::addr::{Candidate, CandidateKind};
use crate::model::nat::{Mapping, NatFacts, PortMapping};
use crate::model::status::{PathKind, Trouble};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Reasons that are told of one peer: more are read by nobody.
const MOST: usize = 3;
/// Lost pings, in thousandths, from which on a path is called lossy.
const LOSSY: u32 = 50;
/// So long a search for a direct way takes at most where plain pings can find it.
const PLAIN_TAKES: Duration = Duration::from_secs(10);
/// And where ports have to be guessed: three attempts with pauses of half a second and twenty seconds.
const PUNCH_TAKES: Duration = Duration::from_secs(40);

/// One end of a pair.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// What its router is like.
    pub nat: &'a NatFacts,
    /// Where it says that it can be reached.
    pub candidates: &'a [Candidate],
}

/// What asking this end's router for a port came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Router {
    /// All protocols were asked, and none brought a port.
    pub refuses: bool,
    /// The address at its other side when that is none of the internet: another router stands before it.
    pub second: bool,
}

/// This node's relays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Relays<'a> {
    /// Ways to relays that are known.
    pub known: usize,
    /// Of them up.
    pub up: usize,
    /// Why one of the others is not.
    pub why: Option<&'a str>,
}

/// How the search for a way to the peer went.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The path in use.
    pub path: Option<PathKind>,
    /// It leads through another player.
    pub by_friend: bool,
    /// Since the path is in use, or since the peer is looked for.
    pub age: Duration,
    /// Addresses of the peer that are no relay's.
    pub addresses: usize,
    /// One of them is still being asked.
    pub asking: bool,
    /// Attempts at guessing ports, and whether one is under way.
    pub attempts: u32,
    /// See `attempts`.
    pub punching: bool,
    /// Probes that were sent for it.
    pub probes: u64,
    /// Lost pings of the path in thousandths.
    pub loss: u32,
}

/// A pair of peers.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// What people call the other one.
    pub name: &'a str,
    /// This end.
    pub mine: End<'a>,
    /// The other.
    pub theirs: End<'a>,
    /// This end's router.
    pub router: Router,
    /// This end's relays.
    pub relays: Relays<'a>,
    /// What was tried.
    pub search: Search,
}

impl Router {
    /// Reads what the host reports, one text for each protocol.
    #[must_use]
    pub fn of(report: &[(PortMapping, String)]) -> Self {
        let granted = report.iter().any(|(_, said)| said.starts_with(FORWARDS));
        Self {
            refuses: report.len() >= 3 && !granted,
            second: !granted && report.iter().any(|(_, said)| said.starts_with(SECOND)),
        }
    }
}

/// How the words of `host::lease` for a port begin …
pub const FORWARDS: &str = "forwards ";
/// … and those for an outside address that is none of the internet.
pub const SECOND: &str = "behind a second router";

/// Why the path to a peer is no better; empty when it is as good as it gets.
#[must_use]
pub fn advise(pair: &Pair<'_>) -> Vec<Trouble> {
    let mut out = Vec::new();
    match pair.search.path {
        Some(PathKind::Lan | PathKind::Direct) => {}
        Some(PathKind::Relay) => {
            why_not_direct(pair, &mut out);
            if pair.search.by_friend && pair.relays.up == 0 {
                out.push(no_relay(pair.relays));
            }
        }
        None => {
            out.push(no_answer(pair));
            if pair.relays.up == 0 {
                out.push(no_relay(pair.relays));
            }
            why_not_direct(pair, &mut out);
        }
    }
    if pair.search.loss >= LOSSY && pair.search.path.is_some() {
        let share = (pair.search.loss + 5) / 10;
        out.push(Trouble::new(
            "lossy",
            format!("{share} of 100 test packets to {} get lost", pair.name),
            "use a cable instead of Wi-Fi, and stop downloads and streams at both ends",
        ));
    }
    out.truncate(MOST);
    out
}

/// What stands in the way of everybody at this end.
#[must_use]
pub fn warn(mine: End<'_>, router: Router, relays: Relays<'_>) -> Vec<Trouble> {
    let mut out = Vec::new();
    let mapped = has_mapping(mine);
    let behind = !matches!(mine.nat.mapping, Mapping::None | Mapping::Unknown);
    if mine.nat.udp == Some(false) {
        out.push(udp_blocked_here());
    } else if mine.nat.is_independent() == Some(false) && !mapped {
        out.push(Trouble::new(
            "router_symmetric",
            "your router uses another port for every destination and opens none on request",
            if router.second { IPV6 } else { "switch on UPnP or NAT-PMP in your router's settings" },
        ));
    }
    if router.second && !mapped {
        out.push(second_router());
    }
    if relays.up == 0 && (relays.known > 0 || behind && !mapped) {
        out.push(no_relay(relays));
    }
    out
}

/// What to try where no router can be told to open a port.
const IPV6: &str =
    "switch on IPv6 at both ends, or ask your internet provider for a public address of your own";

fn why_not_direct(pair: &Pair<'_>, out: &mut Vec<Trouble>) {
    let (mine, theirs) = (pair.mine, pair.theirs);
    if mine.nat.udp == Some(false) {
        return out.push(udp_blocked_here());
    }
    if theirs.nat.udp == Some(false) {
        return out.push(Trouble::new(
            "udp_blocked_there",
            format!("{}'s network lets no UDP through, so everything goes by a relay", pair.name),
            format!("{} should allow outgoing UDP in the firewall there, or use another network", pair.name),
        ));
    }
    if pair.search.addresses == 0 {
        return out.push(Trouble::new(
            "no_address",
            format!("{} has not said yet where it can be reached", pair.name),
            "wait a moment; if it stays so, it is offline",
        ));
    }
    match plan(mine.nat, theirs.nat) {
        Strategy::Hopeless => out.push(both_symmetric(pair)),
        Strategy::OpenMany | Strategy::Count => guessing(pair, "your", out),
        Strategy::Guess | Strategy::FollowCount => guessing(pair, &format!("{}'s", pair.name), out),
        Strategy::CountBoth => guessing(pair, "either", out),
        Strategy::Plain => plain(pair, out),
    }
    if out.last().is_some_and(|reason| is_under_way(&reason.code)) {
        return;
    }
    if pair.router.second && !has_mapping(mine) && !has_mapping(theirs) {
        out.push(second_router());
    }
    out.extend(ipv6(pair));
}

/// Whether a reason is only that something is being tried; it may be another in a moment.
#[must_use]
pub fn is_under_way(code: &str) -> bool {
    matches!(code, "searching" | "punching" | "no_address")
}

fn both_symmetric(pair: &Pair<'_>) -> Trouble {
    let (name, second) = (pair.name, pair.router.second);
    Trouble::new(
        "both_symmetric",
        format!("{name}'s router uses another port for every destination, and so does yours"),
        if second {
            format!(
                "switch on UPnP or NAT-PMP in {name}'s router (yours stands behind another one), or use IPv6 at both ends"
            )
        } else {
            "switch on UPnP or NAT-PMP in either router (one is enough), or use IPv6 at both ends".to_owned()
        },
    )
}

/// One router (`whose`) gives out ports that have to be guessed.
fn guessing(pair: &Pair<'_>, whose: &str, out: &mut Vec<Trouble>) {
    let search = &pair.search;
    let under_way = search.punching || search.asking || search.age < PUNCH_TAKES && search.attempts < 3;
    let router = if whose == "either" { "both routers use" } else { "router uses" };
    let whose_router = if whose == "either" { String::new() } else { format!("{whose} ") };
    if under_way {
        let which =
            if search.attempts == 0 { String::new() } else { format!(" (attempt {} of 3)", search.attempts) };
        return out.push(Trouble::new(
            "punching",
            format!("{whose_router}{router} another port for every destination; a way through is being opened{which}"),
            "wait a moment: it takes some seconds, seldom more",
        ));
    }
    let tried = if search.attempts > 0 {
        format!("; {} attempts with {} probes did not find it", search.attempts, search.probes)
    } else {
        "; guessing it did not work".to_owned()
    };
    out.push(Trouble::new(
        "punch_failed",
        format!("{whose_router}{router} another port for every destination{tried}"),
        if whose == "your" && pair.router.second {
            IPV6.to_owned()
        } else {
            format!("switch on UPnP or NAT-PMP in {whose} router, or use IPv6 at both ends")
        },
    ));
}

/// Nothing about the routers stands in the way, and yet there is no direct way.
fn plain(pair: &Pair<'_>, out: &mut Vec<Trouble>) {
    let (search, name) = (&pair.search, pair.name);
    if search.asking || search.age < PLAIN_TAKES {
        return out.push(Trouble::new(
            "searching",
            format!("{name}'s addresses are being tried"),
            "wait a moment: a direct way is usually found within a second",
        ));
    }
    let public = |end: End<'_>| end.nat.public.map(|p| p.ip());
    if public(pair.mine).is_some() && public(pair.mine) == public(pair.theirs) {
        return out.push(same_router(pair));
    }
    if has_mapping(pair.mine) || has_mapping(pair.theirs) {
        let whose = if has_mapping(pair.theirs) { format!("{name}'s") } else { "your".to_owned() };
        return out.push(Trouble::new(
            "mapping_silent",
            format!("{whose} router says that it forwards a port, but nothing comes through"),
            format!("restart {whose} router; allow lanrage's UDP port in the firewall of the PC behind it"),
        ));
    }
    if pair.mine.nat.mapping == Mapping::Unknown || pair.theirs.nat.mapping == Mapping::Unknown {
        let whose = if pair.mine.nat.mapping == Mapping::Unknown { "your" } else { "the other" };
        return out.push(Trouble::new(
            "router_unknown",
            format!("no address of {name} answers, and nobody could find out what {whose} router is like"),
            "use a server that both ends reach: --control server:http://HOST:8667",
        ));
    }
    out.push(Trouble::new(
        "firewall",
        format!(
            "both routers would let a direct way through, but none of {name}'s {} addresses answers",
            search.addresses
        ),
        "allow lanrage's UDP port in the firewall of both PCs (`lanrage doctor` there says more)",
    ));
}

/// Both ends are seen from outside by one address.
fn same_router(pair: &Pair<'_>) -> Trouble {
    let name = pair.name;
    let home = |end: End<'_>| -> Vec<[u8; 3]> {
        let hosts = end.candidates.iter().filter(|c| c.kind == CandidateKind::Host);
        hosts
            .filter_map(|c| {
                if let IpAddr::V4(a) = c.addr.ip() {
                    let [x, y, z, _] = a.octets();
                    Some([x, y, z])
                } else {
                    None
                }
            })
            .collect()
    };
    let theirs = home(pair.theirs);
    if home(pair.mine).iter().any(|net| theirs.contains(net)) {
        return Trouble::new(
            "same_house",
            format!("{name} is in the same network, but the two PCs are kept apart"),
            "leave the guest Wi-Fi (it isolates computers), or allow lanrage in the firewall of both PCs",
        );
    }
    Trouble::new(
        "no_hairpin",
        format!(
            "you and {name} are behind one router, probably your provider's, which does not connect its own customers"
        ),
        "switch on IPv6 at both ends, or ask the provider for a public address",
    )
}

fn ipv6(pair: &Pair<'_>) -> Option<Trouble> {
    let name = pair.name;
    match (has_ipv6(pair.mine), has_ipv6(pair.theirs)) {
        (true, true) => Some(Trouble::new(
            "ipv6_silent",
            format!("you and {name} both have IPv6, but it does not get through"),
            "allow incoming UDP by IPv6 in the firewall of one of the routers",
        )),
        (true, false) => Some(Trouble::new(
            "no_ipv6_there",
            format!("you have IPv6, and {name} has none"),
            format!("switch on IPv6 in {name}'s router: with it at both ends a direct way is likely"),
        )),
        (false, true) => Some(Trouble::new(
            "no_ipv6_here",
            format!("{name} has IPv6, and this PC has none"),
            "switch on IPv6 in your router: with it at both ends a direct way is likely",
        )),
        (false, false) => None,
    }
}

fn no_answer(pair: &Pair<'_>) -> Trouble {
    let (name, seconds) = (pair.name, pair.search.age.as_secs());
    Trouble::new(
        "no_answer",
        format!("{name} has not answered for {seconds} s by any way ({} addresses)", pair.search.addresses),
        format!("check that {name}'s PC is online and lanrage runs there"),
    )
}

fn no_relay(relays: Relays<'_>) -> Trouble {
    if relays.known == 0 {
        return Trouble::new(
            "no_relay",
            "no relay is known: whoever cannot be reached directly cannot be reached at all",
            "use a server that brings one (--control server:http://HOST:8667), or name one (--relay turn:HOST:3478)",
        );
    }
    let why = relays.why.map_or(String::new(), |why| format!(": {why}"));
    Trouble::new(
        "relay_down",
        format!("none of the known relays can be used{why}"),
        "check with `lanrage doctor` whether the server is reached; its owner can see more",
    )
}

fn udp_blocked_here() -> Trouble {
    Trouble::new(
        "udp_blocked_here",
        "this network lets no UDP through, so everything goes by a relay",
        "allow outgoing UDP in the firewall, or use another network (such as your phone's)",
    )
}

fn second_router() -> Trouble {
    Trouble::new(
        "second_router",
        "your router stands behind another one, so a port that it opens leads nowhere",
        "open the port in the other router too if it is yours; if it is your provider's: IPv6, or a public address",
    )
}

fn has_mapping(end: End<'_>) -> bool {
    end.candidates.iter().any(|c| c.kind == CandidateKind::Mapped)
}

/// Whether an end has an address of the IPv6 internet.
fn has_ipv6(end: End<'_>) -> bool {
    let own = |c: &&Candidate| matches!(c.kind, CandidateKind::Host | CandidateKind::Reflexive);
    end.candidates.iter().filter(own).any(|c| is_global_v6(c.addr))
}

const fn is_global_v6(addr: SocketAddr) -> bool {
    // 2000::/3 is all that was ever given out (RFC 4291, section 2.4).
    matches!(addr.ip(), IpAddr::V6(ip) if ip.octets()[0] >> 5 == 1)
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
