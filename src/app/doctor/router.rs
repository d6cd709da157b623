//! What is told about the router: pure, from facts and their proof.

use crate::host::lease::Answer;
use crate::model::checkup::{Finding, Mark, Section};
use crate::model::nat::NatFacts;
use crate::model::status::{NatStatus, PortMappingStatus, SeenStatus};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// How UDP went, beside what the router is like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reach {
    /// Servers that were asked by UDP.
    pub(super) asked: usize,
    /// One of them, or the control server beside it, was reached by TCP.
    pub(super) tcp: bool,
    /// This computer has an address of the IPv6 internet.
    pub(super) ipv6: bool,
}

/// The findings.
pub(super) fn findings(nat: &NatStatus, reach: Reach) -> Vec<Finding> {
    let mut out = vec![udp(nat, reach)];
    if nat.udp == Some(true) {
        out.extend(mapping(nat));
    }
    out.extend(port_mapping(nat));
    out.push(ipv6(nat, reach));
    let helps = ["port_closed", "no_ipv6"];
    if out.iter().filter(|f| f.mark == Mark::Note && helps.contains(&f.code.as_str())).count() == helps.len()
    {
        // The same advice three times is read by nobody.
        let hard = out.iter_mut().filter(|f| f.code == "router_symmetric");
        hard.for_each(|f| f.r#try = "either of the next two would help".to_owned());
    }
    out
}

fn finding(mark: Mark, code: &str, found: impl Into<String>) -> Finding {
    Finding::new(Section::Router, mark, code, found)
}

const OTHER_NETWORK: &str =
    "allow outgoing UDP in the firewall, or use another network (such as your phone's)";
const UPNP: &str =
    "switch on UPnP or NAT-PMP in the router's settings: then everybody can reach you directly";

fn udp(nat: &NatStatus, reach: Reach) -> Finding {
    let servers = many(reach.asked, "server");
    match nat.udp {
        Some(true) => finding(Mark::Ok, "udp_open", "UDP gets out, and answers come back"),
        Some(false) if reach.tcp => finding(
            Mark::Problem,
            "udp_blocked",
            format!("this network lets no UDP through: TCP gets out, but none of {servers} answered by UDP"),
        )
        .with_try(format!("{OTHER_NETWORK}; until then everything goes by a relay, with TCP or TLS")),
        Some(false) => finding(
            Mark::Note,
            "udp_unknown",
            format!("whether UDP gets out is not known: {servers} asked, and none answered by UDP or TCP"),
        )
        .with_try("check this PC's internet connection, and the address of the server"),
        None => finding(
            Mark::Note,
            "udp_unknown",
            "nobody could be asked what this network lets through: no server is known",
        )
        .with_try("name one: lanrage doctor --control server:http://HOST:8667, or --relay turn:HOST:3478"),
    }
}

fn mapping(nat: &NatStatus) -> Option<Finding> {
    let proof = proof(&nat.seen);
    let filter = match nat.filtering.as_str() {
        "endpoint-independent" => "; it lets everybody in",
        "address-dependent" | "address-and-port-dependent" => {
            "; it lets in whom this PC spoke to first, as is usual"
        }
        _ => "",
    };
    let public = nat.public.map_or(String::new(), |p| p.to_string());
    match nat.mapping.as_str() {
        "none" => Some(finding(
            Mark::Ok,
            "no_router",
            format!("no router is in between: {public} is this PC's own address{filter}"),
        )),
        "endpoint-independent" => Some(finding(
            Mark::Ok,
            "router_easy",
            format!("the router shows one outside address to everybody: {proof}{filter}"),
        )),
        "address-dependent" | "address-and-port-dependent" | "dependent" => {
            let how = if nat.ports == "sequential" { ", counting up" } else { "" };
            let found = format!("the router uses another outside port for every destination{how}: {proof}");
            Some(match nat.mapped {
                Some(_) => finding(
                    Mark::Ok,
                    "router_symmetric",
                    format!("{found}; the port that it opens makes up for that"),
                ),
                None => finding(
                    Mark::Note,
                    "router_symmetric",
                    format!("{found}. Two such routers cannot be connected directly"),
                )
                .with_try(
                    "switch on UPnP or NAT-PMP in the router's settings, or IPv6 here and at your friends'",
                ),
            })
        }
        _ => {
            let found =
                format!("what the router does with ports is not known: {proof}, which is too little to tell");
            Some(
                finding(Mark::Note, "router_unknown", found)
                    .with_try("name a second server with --control or --relay"),
            )
        }
    }
}

/// Who saw what, shortly.
fn proof(seen: &[SeenStatus]) -> String {
    let v4: Vec<&SeenStatus> = seen.iter().filter(|s| s.server.is_ipv4()).collect();
    let addresses: BTreeSet<SocketAddr> = v4.iter().map(|s| s.address).collect();
    match (addresses.len(), v4.first(), v4.iter().find(|s| Some(s.address) != v4.first().map(|f| f.address)))
    {
        (0, ..) | (_, None, _) => "no server said what it sees".to_owned(),
        (1, Some(first), _) => {
            let count = v4.len();
            let times = if count == 1 { "once".to_owned() } else { format!("from {count} places") };
            format!("{} was seen {times}", first.address)
        }
        (_, Some(first), Some(other)) => {
            format!("{} sees {}, {} sees {}", first.server, first.address, other.server, other.address)
        }
        (_, Some(first), None) => format!("{} sees {}", first.server, first.address),
    }
}

fn port_mapping(nat: &NatStatus) -> Option<Finding> {
    if let Some(mapped) = nat.mapped {
        let by = word(&nat.port_mapping);
        return Some(finding(
            Mark::Ok,
            "port_open",
            format!("the router opens a port on request ({by}): {mapped} leads to this PC"),
        ));
    }
    if nat.asked.is_empty() || nat.mapping == "none" {
        return None;
    }
    let said: Vec<String> = nat.asked.iter().map(|a| format!("{}: {}", word(&a.by), a.said)).collect();
    let said = said.join("; ");
    if said.contains(crate::engine::path::advice::SECOND) {
        let found =
            format!("the router stands behind another one, so a port that it opens leads nowhere ({said})");
        return Some(finding(Mark::Note, "second_router", found).with_try(
            "if the other router is yours too, open the port there or make it a plain bridge; if it is your provider's, ask for a public address or IPv6",
        ));
    }
    let silent =
        |a: &PortMappingStatus| ["no answer", "the router does not speak it"].contains(&a.said.as_str());
    let said = if nat.asked.iter().all(silent) {
        "neither UPnP nor NAT-PMP nor PCP is answered".to_owned()
    } else {
        said
    };
    let found = format!("the router opens no port on request ({said})");
    Some(finding(Mark::Note, "port_closed", found).with_try(UPNP))
}

fn ipv6(nat: &NatStatus, reach: Reach) -> Finding {
    let hard = nat.udp == Some(true) && nat.mapped.is_none() && nat.r#type == "symmetric";
    match (nat.public_v6, reach.ipv6) {
        (Some(seen), _) => finding(Mark::Ok, "ipv6", format!("IPv6 works: this PC is seen as {seen}")),
        (None, true) => finding(
            Mark::Ok,
            "ipv6_untried",
            "this PC has an IPv6 address of the internet; no server could try it",
        ),
        (None, false) if hard => finding(
            Mark::Note,
            "no_ipv6",
            "there is no IPv6, which would make direct ways possible in spite of the router",
        )
        .with_try("switch on IPv6 in the router, or ask your provider for it; your friends need it too"),
        (None, false) => finding(Mark::Ok, "no_ipv6", "there is no IPv6"),
    }
}

/// As people know it.
fn word(by: &str) -> &str {
    match by {
        "upnp" => "UPnP",
        "nat-pmp" => "NAT-PMP",
        "pcp" => "PCP",
        other => other,
    }
}

pub(super) fn many(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The status that a running node would show of what was found out here.
pub(super) fn status(
    v4: &NatFacts,
    v6: &NatFacts,
    seen: &[(SocketAddr, SocketAddr)],
    asked: &[Answer],
) -> NatStatus {
    let good = asked.iter().find_map(|a| a.external.map(|external| (a.by, external)));
    let said = |a: &Answer| PortMappingStatus { by: a.by.word().to_owned(), said: a.said.clone() };
    NatStatus {
        port_mapping: good.map_or("none", |(by, _)| by.word()).to_owned(),
        mapped: good.map(|(_, external)| external),
        asked: asked.iter().map(said).collect(),
        seen: seen
            .iter()
            .map(|(server, address)| SeenStatus { server: *server, address: *address })
            .collect(),
        ..NatStatus::of(v4, v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::nat::{Filtering, Mapping, PortMapping, PortRule};

    fn facts(mapping: Mapping) -> NatFacts {
        NatFacts {
            mapping,
            filtering: Filtering::AddressAndPortDependent,
            ports: PortRule::Random,
            udp: Some(true),
            public: Some("203.0.113.5:41234".parse().unwrap()),
            ..NatFacts::default()
        }
    }

    const SAME: &[(&str, &str)] =
        &[("192.0.2.1:3478", "203.0.113.5:41234"), ("192.0.2.2:3478", "203.0.113.5:41234")];
    const DIFFERENT: &[(&str, &str)] =
        &[("192.0.2.1:3478", "203.0.113.5:41234"), ("192.0.2.2:3478", "203.0.113.5:52311")];

    fn answers(said: [&str; 3]) -> Vec<Answer> {
        let by = [PortMapping::Upnp, PortMapping::NatPmp, PortMapping::Pcp];
        let external = |said: &str| said.strip_prefix("forwards ").map(|a| a.parse().unwrap());
        by.into_iter().zip(said).map(|(by, s)| Answer { by, said: s.into(), external: external(s) }).collect()
    }

    const SILENT: [&str; 3] = ["no answer", "no answer", "no answer"];

    fn found(v4: NatFacts, seen: &[(&str, &str)], said: [&str; 3]) -> Vec<Finding> {
        let seen: Vec<_> = seen.iter().map(|(s, a)| (s.parse().unwrap(), a.parse().unwrap())).collect();
        let status = status(&v4, &NatFacts::default(), &seen, &answers(said));
        findings(&status, Reach { asked: 2, tcp: true, ipv6: false })
    }

    fn codes(list: &[Finding]) -> Vec<(&str, Mark)> {
        list.iter().map(|f| (f.code.as_str(), f.mark)).collect()
    }

    #[test]
    fn facts_are_told_with_their_proof() {
        let easy = found(facts(Mapping::EndpointIndependent), SAME, SILENT);
        assert!(easy[1].found.contains("203.0.113.5:41234 was seen from 2 places"), "{easy:?}");
        assert_eq!(
            codes(&easy),
            [
                ("udp_open", Mark::Ok),
                ("router_easy", Mark::Ok),
                ("port_closed", Mark::Note),
                ("no_ipv6", Mark::Ok)
            ]
        );
        let hard = found(facts(Mapping::AddressAndPortDependent), DIFFERENT, SILENT);
        assert!(hard[1].found.contains("192.0.2.2:3478 sees 203.0.113.5:52311"), "{hard:?}");
        assert_eq!(
            codes(&hard)[1..],
            [("router_symmetric", Mark::Note), ("port_closed", Mark::Note), ("no_ipv6", Mark::Note)]
        );
    }

    #[test]
    fn a_port_that_the_router_opens_makes_up_for_a_hard_router() {
        let said = ["forwards 203.0.113.5:4000", "no answer", "no answer"];
        let open = found(facts(Mapping::AddressAndPortDependent), DIFFERENT, said);
        assert!(open.iter().all(|f| f.mark == Mark::Ok), "{open:?}");
        assert!(open[2].found.contains("(UPnP): 203.0.113.5:4000 leads to this PC"), "{open:?}");
        let second = "behind a second router (100.64.0.9 is not an address of the internet)";
        let behind = found(facts(Mapping::EndpointIndependent), SAME, ["no answer", second, "no answer"]);
        assert_eq!(codes(&behind)[2], ("second_router", Mark::Note));
        assert!(behind[2].found.contains("100.64.0.9"));
    }

    #[test]
    fn blocked_udp_is_a_problem_only_when_something_else_gets_out() {
        let blocked = NatFacts { udp: Some(false), ..NatFacts::default() };
        let told = found(blocked, &[], SILENT);
        assert_eq!(codes(&told)[0], ("udp_blocked", Mark::Problem));
        let status = status(&blocked, &NatFacts::default(), &[], &[]);
        let told = findings(&status, Reach { asked: 2, tcp: false, ipv6: false });
        assert_eq!(codes(&told)[0], ("udp_unknown", Mark::Note));
        let told = findings(&NatStatus::default(), Reach::default());
        assert_eq!(codes(&told)[0], ("udp_unknown", Mark::Note));
        assert!(told[0].found.contains("no server is known"));
    }
}
