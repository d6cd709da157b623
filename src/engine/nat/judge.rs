//! Conclusions about a router from what servers saw, each in the words of RFC 5780 and RFC 4787. Pure functions.

use crate::model::nat::{Filtering, Mapping, PortRule};
use crate::model::time::Mono;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What was seen further apart in time is not compared: the router may have forgotten us in between.
const TOGETHER: Duration = Duration::from_secs(5);
/// Ports further apart than this are not neighbours in a router's counting. Two random ports are nearer with a chance
/// of one in a thousand.
const NEAR: i32 = 32;
/// The lowest port that routers give away.
const LOWEST: u16 = 1024;

/// One destination, and the outside address that it saw our socket at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) to: SocketAddr,
    pub(super) mapped: SocketAddr,
    /// When the destination was first sent to, in the order of all; routers count in this order.
    pub(super) order: u32,
    /// When the question left that it answered last.
    pub(super) when: Mono,
}

/// What we had sent to before somebody else was asked to send to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contact {
    /// Nothing to that IP address.
    Never,
    /// Something to that IP address, nothing to that port.
    OtherPort,
    /// Exactly there.
    Exact,
}

/// One filtering test that has ended: whether what came from there got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) contact: Contact,
    pub(super) came: bool,
}

/// What was seen at about the same time as the last.
pub(super) fn together(seen: &[Seen]) -> Vec<Seen> {
    let last = seen.iter().map(|s| s.when).max().unwrap_or_default();
    seen.iter().copied().filter(|s| last.since(s.when) <= TOGETHER).collect()
}

/// RFC 5780, section 4.3. With only one IP address to ask, "independent of the port" is taken for independent; a router
/// that tells destinations apart by address alone is rare, and the next server at another address shows it.
pub(super) fn mapping(seen: &[Seen], locals: &[IpAddr]) -> Mapping {
    if seen.iter().any(|s| locals.contains(&s.mapped.ip())) {
        return Mapping::None;
    }
    let pairs = || seen.iter().enumerate().flat_map(|(n, a)| seen.iter().skip(n + 1).map(move |b| (a, b)));
    let same_ip = |(a, b): &(&Seen, &Seen)| a.to.ip() == b.to.ip();
    let differs = |(a, b): &(&Seen, &Seen)| a.mapped != b.mapped;
    if pairs().next().is_none() {
        Mapping::Unknown
    } else if !pairs().any(|p| differs(&p)) {
        Mapping::EndpointIndependent
    } else if pairs().any(|p| same_ip(&p) && differs(&p)) {
        Mapping::AddressAndPortDependent
    } else if pairs().any(|p| same_ip(&p)) {
        Mapping::AddressDependent
    } else {
        Mapping::Dependent
    }
}

/// RFC 5780, section 4.4, by what had been sent to before rather than by the test's name.
pub(super) fn filtering(trials: &[Trial]) -> Filtering {
    let any = |contact, came| trials.contains(&Trial { contact, came });
    if any(Contact::Never, true) {
        Filtering::EndpointIndependent
    } else if any(Contact::OtherPort, false) {
        Filtering::AddressAndPortDependent
    } else if any(Contact::OtherPort, true) {
        // With a server of one address it could be better still; this much is sure.
        Filtering::AddressDependent
    } else {
        Filtering::Unknown
    }
}

/// RFC 4787, section 4.2: the rule by which outside ports follow one another, or the inside port.
pub(super) fn ports(seen: &[Seen], local: Option<u16>) -> PortRule {
    if local.is_some_and(|port| !seen.is_empty() && seen.iter().all(|s| s.mapped.port() == port)) {
        return PortRule::Preserved;
    }
    let ports = in_order(seen);
    let steps: Vec<i32> = ports.windows(2).filter_map(|w| Some(step(*w.first()?, *w.last()?))).collect();
    let Some(smallest) = steps.iter().copied().min_by_key(|s| s.abs()) else { return PortRule::Unknown };
    let regular = steps.iter().all(|s| s.abs() <= NEAR && s.signum() == smallest.signum());
    match i16::try_from(smallest) {
        Ok(step) if regular => PortRule::Sequential(step),
        Ok(_) | Err(_) => PortRule::Random,
    }
}

/// The outside ports that a router which counts like this gives next, the likeliest first.
pub(super) fn predict(seen: &[Seen], rule: PortRule, most: usize) -> Vec<u16> {
    let (PortRule::Sequential(step), Some(mut last)) = (rule, in_order(seen).last().copied()) else {
        return Vec::new();
    };
    let mut next = Vec::with_capacity(most);
    while next.len() < most {
        last = last.wrapping_add_signed(step);
        if last < LOWEST {
            last = if step > 0 { LOWEST } else { u16::MAX };
        }
        next.push(last);
    }
    next
}

/// The outside ports in the order in which they were made; one that several destinations share counts once.
fn in_order(seen: &[Seen]) -> Vec<u16> {
    let mut by_order: Vec<&Seen> = seen.iter().collect();
    by_order.sort_by_key(|s| s.order);
    let mut ports: Vec<u16> = Vec::with_capacity(seen.len());
    for s in by_order {
        if !ports.contains(&s.mapped.port()) {
            ports.push(s.mapped.port());
        }
    }
    ports
}

/// From one port to the next, the short way round.
fn step(from: u16, to: u16) -> i32 {
    i32::from(to.wrapping_sub(from).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(list: &[(&str, &str)]) -> Vec<Seen> {
        let one = |(n, (to, mapped)): (usize, &(&str, &str))| Seen {
            to: to.parse().unwrap(),
            mapped: mapped.parse().unwrap(),
            order: u32::try_from(n).unwrap(),
            when: Mono::ZERO,
        };
        list.iter().enumerate().map(one).collect()
    }

    #[test]
    fn mappings_are_told_apart_by_the_destinations_that_differ() {
        let m = |list: &[(&str, &str)]| mapping(&seen(list), &["10.0.0.2".parse().unwrap()]);
        assert_eq!(m(&[]), Mapping::Unknown);
        assert_eq!(m(&[("1.1.1.1:1", "9.9.9.9:5")]), Mapping::Unknown, "one destination tells nothing");
        assert_eq!(m(&[("1.1.1.1:1", "10.0.0.2:5")]), Mapping::None);
        assert_eq!(
            m(&[("1.1.1.1:1", "9.9.9.9:5"), ("2.2.2.2:1", "9.9.9.9:5")]),
            Mapping::EndpointIndependent
        );
        assert_eq!(
            m(&[("1.1.1.1:1", "9.9.9.9:5"), ("1.1.1.1:2", "9.9.9.9:5")]),
            Mapping::EndpointIndependent
        );
        assert_eq!(m(&[("1.1.1.1:1", "9.9.9.9:5"), ("2.2.2.2:1", "9.9.9.9:6")]), Mapping::Dependent);
        assert_eq!(
            m(&[("1.1.1.1:1", "9.9.9.9:5"), ("1.1.1.1:2", "9.9.9.9:6")]),
            Mapping::AddressAndPortDependent
        );
        assert_eq!(
            m(&[("1.1.1.1:1", "9.9.9.9:5"), ("1.1.1.1:2", "9.9.9.9:5"), ("2.2.2.2:1", "9.9.9.9:6")]),
            Mapping::AddressDependent
        );
        assert_eq!(
            m(&[("1.1.1.1:1", "9.9.9.9:5"), ("2.2.2.2:1", "9.9.9.8:5")]),
            Mapping::Dependent,
            "a carrier with several addresses"
        );
    }

    #[test]
    fn filtering_follows_from_what_had_been_sent_to() {
        let t = |contact, came| Trial { contact, came };
        let (never, port, exact) = (Contact::Never, Contact::OtherPort, Contact::Exact);
        assert_eq!(filtering(&[]), Filtering::Unknown);
        assert_eq!(filtering(&[t(never, true), t(port, true)]), Filtering::EndpointIndependent);
        assert_eq!(filtering(&[t(never, false), t(port, true)]), Filtering::AddressDependent);
        assert_eq!(filtering(&[t(never, false), t(port, false)]), Filtering::AddressAndPortDependent);
        assert_eq!(filtering(&[t(port, true)]), Filtering::AddressDependent);
        assert_eq!(filtering(&[t(never, false)]), Filtering::Unknown);
        assert_eq!(filtering(&[t(exact, true)]), Filtering::Unknown, "it says nothing");
    }

    #[test]
    fn port_rules_are_read_from_the_order_of_asking() {
        let rule = |ports: &[u16]| {
            let list: Vec<Seen> = ports
                .iter()
                .zip(0u32..)
                .map(|(port, order)| Seen {
                    to: SocketAddr::from(([1, 1, 1, 1], u16::try_from(order).unwrap() + 1)),
                    mapped: SocketAddr::from(([9, 9, 9, 9], *port)),
                    order,
                    when: Mono::ZERO,
                })
                .collect();
            let rule = ports_of(&list);
            (rule, predict(&list, rule, 3))
        };
        fn ports_of(list: &[Seen]) -> PortRule {
            ports(list, Some(51_820))
        }
        assert_eq!(rule(&[51_820, 51_820]).0, PortRule::Preserved);
        assert_eq!(rule(&[4_000]).0, PortRule::Unknown);
        assert_eq!(rule(&[4_000, 4_001, 4_002]), (PortRule::Sequential(1), vec![4_003, 4_004, 4_005]));
        assert_eq!(
            rule(&[4_000, 4_002, 4_008]),
            (PortRule::Sequential(2), vec![4_010, 4_012, 4_014]),
            "somebody else took some in between"
        );
        assert_eq!(rule(&[4_000, 3_999]), (PortRule::Sequential(-1), vec![3_998, 3_997, 3_996]));
        assert_eq!(rule(&[65_534, 65_535]), (PortRule::Sequential(1), vec![1_024, 1_025, 1_026]));
        assert_eq!(rule(&[1_025, 1_024]), (PortRule::Sequential(-1), vec![65_535, 65_534, 65_533]));
        assert_eq!(rule(&[4_000, 9_000, 50_000]), (PortRule::Random, vec![]));
        assert_eq!(rule(&[4_000, 4_001, 3_999]).0, PortRule::Random, "it goes both ways");
    }
}
