//! What a pair of NATs needs beyond both ends pinging each other: one pure table, from the terms of RFC 4787.
//!
//! Plain pings from both ends open every pair in which both outside addresses are known beforehand, or in which one end lets
//! strangers in. What is left is an end whose outside port nobody knows, facing an end that lets only exact ports in. Whether
//! an end does is not asked here: a router that remembers what an earlier run of this program sent looks more open than it is,
//! so `may_be_enough` only says how long plain pings are given before the rest begins.

use crate::model::nat::{Filtering, Mapping, NatFacts, PortRule};

/// What to do for a pair of NATs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Both ping all addresses; nothing else helps or is needed.
    Plain,
    /// This end opens many sockets, each of which takes a random outside port; the other guesses ports.
    OpenMany,
    /// The other end opens many sockets; this end guesses ports.
    Guess,
    /// This end's router counts: find out where it is, tell the other end what comes next.
    Count,
    /// The other end's router counts: ping what it says.
    FollowCount,
    /// Both routers count.
    CountBoth,
    /// Both ends' ports are unknown: order of 100,000 probes, not worth it. A port mapping, IPv6 or the relay.
    Hopeless,
}

/// How hard it is to know this end's outside port beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not known what it is.
    Unknown,
    /// One outside address for all.
    Known,
    /// The next port follows from the last.
    Counting,
    /// Any port.
    Random,
    /// No UDP at all.
    Shut,
}

const fn end(facts: &NatFacts) -> End {
    if matches!(facts.udp, Some(false)) {
        return End::Shut;
    }
    match facts.mapping {
        Mapping::Unknown => End::Unknown,
        Mapping::None | Mapping::EndpointIndependent => End::Known,
        Mapping::AddressDependent | Mapping::AddressAndPortDependent | Mapping::Dependent => {
            match facts.ports {
                PortRule::Sequential(_) => End::Counting,
                PortRule::Preserved | PortRule::Random | PortRule::Unknown => End::Random,
            }
        }
    }
}

/// What this end does.
#[must_use]
pub const fn plan(mine: &NatFacts, theirs: &NatFacts) -> Strategy {
    match (end(mine), end(theirs)) {
        (End::Shut, _)
        | (_, End::Shut)
        | (End::Random | End::Counting, End::Random)
        | (End::Random, End::Counting) => Strategy::Hopeless,
        (End::Unknown, _) | (_, End::Unknown) | (End::Known, End::Known) => Strategy::Plain,
        (End::Random, End::Known) => Strategy::OpenMany,
        (End::Known, End::Random) => Strategy::Guess,
        (End::Counting, End::Known) => Strategy::Count,
        (End::Known, End::Counting) => Strategy::FollowCount,
        (End::Counting, End::Counting) => Strategy::CountBoth,
    }
}

/// Whether plain pings should do although one end's ports are not known: the other says that it lets strangers in.
#[must_use]
pub const fn may_be_enough(mine: &NatFacts, theirs: &NatFacts) -> bool {
    const fn lax(facts: &NatFacts) -> bool {
        matches!(facts.filtering, Filtering::EndpointIndependent | Filtering::AddressDependent)
    }
    lax(mine) || lax(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mapping: Mapping, filtering: Filtering, ports: PortRule) -> NatFacts {
        NatFacts { mapping, filtering, ports, udp: Some(true), ..NatFacts::default() }
    }

    /// The kinds that players have, by the names of the contract.
    fn kinds() -> [(&'static str, NatFacts); 8] {
        use Filtering::{
            AddressAndPortDependent as Apdf, AddressDependent as Adf, EndpointIndependent as Eif,
        };
        use Mapping::{AddressAndPortDependent as Apdm, EndpointIndependent as Eim, None as No};
        [
            ("open", facts(No, Eif, PortRule::Preserved)),
            ("firewalled", facts(No, Apdf, PortRule::Preserved)),
            ("full", facts(Eim, Eif, PortRule::Random)),
            ("restricted", facts(Eim, Adf, PortRule::Random)),
            ("port", facts(Eim, Apdf, PortRule::Random)),
            ("symmetric", facts(Apdm, Apdf, PortRule::Random)),
            ("sequential", facts(Apdm, Apdf, PortRule::Sequential(1))),
            ("blocked", NatFacts { udp: Some(false), ..NatFacts::default() }),
        ]
    }

    #[test]
    fn the_whole_table() {
        let rows = [
            ("open", ".....gf"),
            ("firewalled", ".....gf"),
            ("full", ".....gf"),
            ("restricted", ".....gf"),
            ("port", ".....gf"),
            ("symmetric", "oooooxx"),
            ("sequential", "cccccxb"),
        ];
        for (name, row) in rows {
            let mine = kinds().iter().find(|k| k.0 == name).unwrap().1;
            for ((other, theirs), letter) in kinds().iter().zip(row.chars()).take(7) {
                let expected = match letter {
                    'o' => Strategy::OpenMany,
                    'g' => Strategy::Guess,
                    'c' => Strategy::Count,
                    'f' => Strategy::FollowCount,
                    'b' => Strategy::CountBoth,
                    'x' => Strategy::Hopeless,
                    _ => Strategy::Plain,
                };
                assert_eq!(plan(&mine, theirs), expected, "{name} to {other}");
            }
            assert_eq!(plan(&mine, &kinds()[7].1), Strategy::Hopeless, "{name} to blocked");
        }
    }

    #[test]
    fn the_two_ends_play_matching_parts() {
        for (_, a) in kinds() {
            for (_, b) in kinds() {
                let parts = (plan(&a, &b), plan(&b, &a));
                let fits = matches!(
                    parts,
                    (Strategy::Plain, Strategy::Plain)
                        | (Strategy::OpenMany, Strategy::Guess)
                        | (Strategy::Guess, Strategy::OpenMany)
                        | (Strategy::Count, Strategy::FollowCount)
                        | (Strategy::FollowCount, Strategy::Count)
                        | (Strategy::CountBoth, Strategy::CountBoth)
                        | (Strategy::Hopeless, Strategy::Hopeless)
                );
                assert!(fits, "{parts:?}");
            }
        }
    }

    #[test]
    fn what_is_not_known_is_tried_plainly() {
        let unknown = NatFacts::default();
        for (_, other) in &kinds()[..7] {
            let expected = Strategy::Plain;
            assert!(
                matches!(plan(&unknown, other), s if s == expected)
                    || end(other) == End::Random
                    || end(other) == End::Counting
            );
        }
    }
}
