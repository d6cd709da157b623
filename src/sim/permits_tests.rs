//! The whole table, written down by hand: a change of any cell has to be meant.

use super::super::nat::Kind;
use super::*;
use crate::model::nat::PortMapping;

fn side(kind: Kind) -> Side {
    let boxes: Vec<Spec> = [kind.home(), kind.carrier()].into_iter().flatten().collect();
    Side::behind(&boxes)
}

fn with(kind: Kind, change: impl Fn(&mut Spec)) -> Side {
    let mut boxes: Vec<Spec> = [kind.home(), kind.carrier()].into_iter().flatten().collect();
    boxes.iter_mut().for_each(change);
    Side::behind(&boxes)
}

/// P plain, B birthday, S prediction of a counting box, - none. Rows and columns in the order of `Kind::ALL`.
const TABLE: [&str; 11] = [
    // op fw fc rc pr ke sy ss cg cs ub
    "P P P P P P P P P P -", // open
    "P P P P P P B S P B -", // firewalled-open
    "P P P P P P P P P P -", // full-cone
    "P P P P P P P P P P -", // restricted-cone
    "P P P P P P B S P B -", // port-restricted
    "P P P P P P B S P B -", // preserving
    "P B P P B B - - B - -", // symmetric
    "P S P P S S - S S - -", // symmetric-sequential
    "P P P P P P B S P B -", // cgnat
    "P B P P B B - - B - -", // cgnat-symmetric
    "- - - - - - - - - - -", // udp-blocked
];

#[test]
fn every_pair_of_the_kinds_is_as_the_table_says() {
    for (row, a) in TABLE.iter().zip(Kind::ALL) {
        for (cell, b) in row.split(' ').zip(Kind::ALL) {
            let expected = match cell {
                "P" => Permit::Direct(By::Plain),
                "B" => Permit::Direct(By::Birthday),
                "S" => Permit::Direct(By::Predict),
                _ => Permit::None,
            };
            assert_eq!(permits(&side(a), &side(b), Between::Internet), expected, "{a:?} {b:?}");
        }
        assert_eq!(row.split(' ').count(), Kind::ALL.len());
    }
}

/// Everything that a side can be.
fn all_sides() -> Vec<Side> {
    use Dependence::{Address, AddressAndPort, Independent};
    let each = [Independent, Address, AddressAndPort];
    let mut all = Vec::new();
    for maps in each {
        for filters in each {
            for ports in [Ports::Preserve, Ports::Sequential(2), Ports::Random] {
                for bits in 0..8u8 {
                    let [udp, leases, v6] = [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0];
                    all.push(Side { maps, filters, ports, udp, leases, v6 });
                }
            }
        }
    }
    all
}

#[test]
fn the_verdict_is_the_same_from_both_ends_and_less_in_the_way_never_makes_it_worse() {
    let betweens =
        [Between::Internet, Between::SameBox { hairpin: true }, Between::SameBox { hairpin: false }];
    for a in all_sides() {
        for b in all_sides() {
            for between in betweens {
                let verdict = permits(&a, &b, between);
                assert_eq!(verdict, permits(&b, &a, between), "{a:?} {b:?}");
                let freer = [
                    Side { maps: Dependence::Independent, ..a },
                    Side { filters: Dependence::Independent, ..a },
                    Side { udp: true, ..a },
                    Side { leases: true, ..a },
                    Side { v6: true, ..a },
                ];
                let better = freer.iter().all(|free| permits(free, &b, between) <= verdict);
                assert!(better, "{a:?} {b:?} {between:?}");
            }
        }
    }
}

#[test]
fn a_router_that_opens_ports_or_ipv6_joins_what_nothing_else_does() {
    let symmetric = side(Kind::Symmetric);
    let speaks = with(Kind::Symmetric, |s| s.speaks = Some(PortMapping::Upnp));
    assert_eq!(permits(&symmetric, &speaks, Between::Internet), Permit::Direct(By::PortMapping));
    let double = with(Kind::CgnatSymmetric, |s| s.speaks = Some(PortMapping::Upnp));
    assert_eq!(permits(&symmetric, &double, Between::Internet), Permit::None, "double NAT refuses");
    let six = with(Kind::Symmetric, |s| s.v6 = V6::Firewall);
    assert_eq!(permits(&six, &six, Between::Internet), Permit::Direct(By::Ipv6));
    assert_eq!(permits(&six, &symmetric, Between::Internet), Permit::None, "one end is not enough");
    let blocked = Side { udp: false, ..six };
    assert_eq!(permits(&blocked, &six, Between::Internet), Permit::None);
    assert_eq!(
        permits(&side(Kind::PortRestricted), &speaks, Between::Internet),
        Permit::Direct(By::PortMapping)
    );
}

#[test]
fn behind_one_carrier_the_hairpin_decides() {
    let subscriber = side(Kind::Cgnat);
    let verdict = |side: &Side, hairpin| permits(side, side, Between::SameBox { hairpin });
    assert_eq!(verdict(&subscriber, true), Permit::Direct(By::Hairpin));
    assert_eq!(verdict(&subscriber, false), Permit::None);
    assert_eq!(verdict(&side(Kind::CgnatSymmetric), true), Permit::None);
    assert_eq!(permits(&subscriber, &subscriber, Between::SameLan), Permit::Direct(By::Lan));
    let six = with(Kind::Cgnat, |s| s.v6 = V6::Open);
    assert_eq!(verdict(&six, false), Permit::Direct(By::Ipv6));
}

#[test]
fn the_outermost_box_that_chooses_ports_is_the_one_that_is_seen() {
    use Dependence::{AddressAndPort, Independent};
    let counting = Spec::nat(AddressAndPort, AddressAndPort, Ports::Sequential(1));
    let keeping = Spec::nat(Independent, AddressAndPort, Ports::Preserve);
    let dice = Spec::nat(Independent, AddressAndPort, Ports::Random);
    let ports = |boxes: &[Spec]| Side::behind(boxes).ports;
    assert_eq!(ports(&[counting, keeping]), Ports::Sequential(1));
    assert_eq!(ports(&[counting, dice]), Ports::Random);
    assert_eq!(ports(&[dice, counting]), Ports::Sequential(1));
    assert_eq!(Side::behind(&[counting, keeping]).maps, AddressAndPort);
    assert_eq!(Side::behind(&[Spec::firewall()]).filters, AddressAndPort);
}
