//! From a packet to the few rules that could want it, however many there are: a table by port, then a tree of byte compares.
//!
//! A port leads to a tree. A branch looks at one byte (of the payload, or one that stands for the length, the source port
//! or the group) and goes on with the rules that admit its value; a leaf names the rules that are then tried whole, in
//! their order. A rule that does not care about a byte goes into every branch, so branches are chosen where rules differ
//! most, and the whole is bounded: beyond `MOST_NODES` leaves stay as long as they are. Made once by `compile`; nothing
//! here allocates when a packet comes.
//!
//! A list of many patterns (`text = [… 300 prefixes …]`) is one entry for each of them, so that the tree tells them apart
//! like rules.

use super::pattern::Clause;
use super::ports::{PortMap, PortRange};
use super::ruleset::{Side, Test};
use crate::wire::frame::Class;
use crate::wire::packet::PacketView;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The rules of all ports.
#[derive(Debug, Clone, Default)]
pub(super) struct Forest {
    nodes: Vec<Node>,
    entries: Vec<Entry>,
    /// Entries that were looked at while it grew.
    work: usize,
}

/// Which tree belongs to a port: two steps, so that a few ports need few pages.
#[derive(Debug, Clone)]
pub(super) struct Roots {
    /// The page of each port's high byte.
    pages: Box<[u16; 256]>,
    /// The node of each port's low byte, plus one; 0 is none.
    nodes: Vec<[u16; 256]>,
}

#[derive(Debug, Clone)]
enum Node {
    /// These entries are tried.
    Leaf { first: u32, last: u32 },
    /// One byte decides.
    Branch { probe: Probe, missing: u16, children: Box<[u16; 256]> },
}

/// A rule, or one pattern of a long list in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    rule: u16,
    /// Which pattern of the rule's first clause; `WHOLE` is all of them.
    only: u16,
}

const WHOLE: u16 = u16::MAX;

/// A byte that a branch looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Of the payload; it may be too short.
    Payload(u8),
    /// The payload's length, or 255 when it is longer.
    Length,
    /// The source port's high byte.
    SourceHigh,
    /// The source port's low byte.
    SourceLow,
    /// The last byte of the destination address.
    Target,
}

impl Default for Roots {
    fn default() -> Self {
        Self { pages: Box::new([0; 256]), nodes: vec![[0; 256]] }
    }
}

impl Roots {
    fn new(nodes_of_ports: &[u16]) -> Self {
        let mut roots = Self::default();
        for (page, ports) in roots.pages.iter_mut().zip(nodes_of_ports.chunks_exact(256)) {
            let known = roots.nodes.iter().position(|have| have == ports);
            let at = known.unwrap_or(roots.nodes.len());
            if known.is_none() {
                roots.nodes.extend(ports.first_chunk());
            }
            *page = u16::try_from(at).unwrap_or(0);
        }
        roots
    }

    fn at(&self, port: u16) -> Option<u16> {
        let [high, low] = port.to_be_bytes();
        let page = self.nodes.get(usize::from(*self.pages.get(usize::from(high))?))?;
        page.get(usize::from(low))?.checked_sub(1)
    }
}

impl Forest {
    /// Grows the trees of these ports; a value is the number of a test.
    pub(super) fn grow(&mut self, items: &[(PortRange, u16)], tests: &[Test]) -> Roots {
        let map = PortMap::new(items);
        let mut nodes = vec![0; 1 << 16];
        let mut grown: BTreeMap<&[u16], u16> = BTreeMap::new();
        for (ports, rules) in map.stretches() {
            let node = match grown.get(rules) {
                Some(known) => *known,
                None => {
                    let mut entries: Vec<Entry> =
                        rules.iter().flat_map(|rule| entries_of(*rule, tests)).collect();
                    entries.sort_unstable();
                    let node = self.plant(entries, tests, MOST_DEPTH);
                    grown.insert(rules, node);
                    node
                }
            };
            let slots = nodes.get_mut(usize::from(*ports.start())..=usize::from(*ports.end()));
            slots.into_iter().flatten().for_each(|slot| *slot = node + 1);
        }
        Roots::new(&nodes)
    }

    /// The first rule of the port's tree that fits.
    pub(super) fn find(
        &self,
        roots: &Roots,
        port: u16,
        tests: &[Test],
        asked: (&PacketView<'_>, Class, Side),
    ) -> Option<u16> {
        let mut at = roots.at(port)?;
        let (view, class, side) = asked;
        let payload = view.payload();
        loop {
            match self.nodes.get(usize::from(at))? {
                Node::Branch { probe, missing, children } => {
                    at = match probe.byte(view, payload) {
                        Some(byte) => *children.get(usize::from(byte))?,
                        None => *missing,
                    };
                }
                Node::Leaf { first, last } => {
                    let entries = self.entries.get(*first as usize..*last as usize)?;
                    let fits = |entry: &&Entry| {
                        let test = tests.get(usize::from(entry.rule));
                        test.is_some_and(|test| {
                            test.fits(view, class, side, payload) && entry.has(test, payload)
                        })
                    };
                    return entries.iter().find(fits).map(|entry| entry.rule);
                }
            }
        }
    }

    fn plant(&mut self, entries: Vec<Entry>, tests: &[Test], depth: u8) -> u16 {
        let grows =
            entries.len() > LEAF && depth > 0 && self.nodes.len() < MOST_NODES && self.work < MOST_WORK;
        self.work += entries.len();
        let split = grows.then(|| best(&entries, tests)).flatten();
        let Some(probe) = split else {
            return self.leaf(entries);
        };
        let sets: Vec<Option<Bytes>> = entries.iter().map(|entry| entry.admits(probe, tests)).collect();
        let those = |admit: &dyn Fn(&Bytes) -> bool| -> Vec<Entry> {
            let all = entries.iter().zip(&sets);
            all.filter(|(_, set)| set.as_ref().is_none_or(admit)).map(|(entry, _)| *entry).collect()
        };
        let careless = those(&|_| false);
        let missing = self.plant(careless.clone(), tests, depth - 1);
        let mut grown = BTreeMap::from([(careless, missing)]);
        let mut children = Box::new([missing; 256]);
        for byte in 0..=u8::MAX {
            let here = those(&|set| set.has(byte));
            let node = match grown.get(&here) {
                Some(known) => *known,
                None => {
                    let node = self.plant(here.clone(), tests, depth - 1);
                    grown.insert(here, node);
                    node
                }
            };
            if let Some(child) = children.get_mut(usize::from(byte)) {
                *child = node;
            }
        }
        self.push(Node::Branch { probe, missing, children })
    }

    fn leaf(&mut self, entries: Vec<Entry>) -> u16 {
        let at = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let first = at(self.entries.len());
        self.entries.extend(entries);
        self.push(Node::Leaf { first, last: at(self.entries.len()) })
    }

    /// `MOST_NODES` keeps their numbers in 16 bits.
    fn push(&mut self, node: Node) -> u16 {
        self.nodes.push(node);
        u16::try_from(self.nodes.len() - 1).unwrap_or(u16::MAX)
    }
}

/// A rule as entries: one, or one for each pattern of a long list.
fn entries_of(rule: u16, tests: &[Test]) -> Vec<Entry> {
    let patterns =
        tests.get(usize::from(rule)).and_then(|test| test.clauses.first()).map_or(0, |c| c.any.len());
    match u16::try_from(patterns) {
        Ok(patterns) if usize::from(patterns) > FEW => {
            (0..patterns).map(|only| Entry { rule, only }).collect()
        }
        Ok(_) | Err(_) => vec![Entry { rule, only: WHOLE }],
    }
}

/// Puts a long list first, where the tree looks for it.
pub(super) fn longest_first(mut clauses: Vec<Clause>) -> Box<[Clause]> {
    let longest = (0..clauses.len()).max_by_key(|at| clauses.get(*at).map_or(0, |clause| clause.any.len()));
    if let Some(at) = longest.filter(|at| clauses.get(*at).is_some_and(|clause| clause.any.len() > FEW)) {
        clauses.swap(0, at);
    }
    clauses.into()
}

/// The byte that leaves the fewest entries together, if one leaves fewer than there are.
fn best(entries: &[Entry], tests: &[Test]) -> Option<Probe> {
    let mut found: Option<((usize, usize), Probe)> = None;
    let others = [Probe::Length, Probe::SourceLow, Probe::SourceHigh, Probe::Target];
    for probe in (0..LOOKED_AT).map(Probe::Payload).chain(others) {
        let (mut any, mut counts) = (0, [0usize; 256]);
        for entry in entries {
            match entry.admits(probe, tests) {
                None => any += 1,
                Some(set) => set.count(&mut counts),
            }
        }
        let (most, all) = (counts.iter().max().copied().unwrap_or(0), counts.iter().sum::<usize>());
        let cost = (any + most, any + all);
        if any + most < entries.len() && found.is_none_or(|(least, _)| cost < least) {
            found = Some((cost, probe));
        }
    }
    found.map(|(_, probe)| probe)
}

impl Probe {
    fn byte(self, view: &PacketView<'_>, payload: &[u8]) -> Option<u8> {
        match self {
            Self::Payload(at) => payload.get(usize::from(at)).copied(),
            Self::Length => Some(saturated(payload.len())),
            Self::SourceHigh => Some(view.src_port.to_be_bytes()[0]),
            Self::SourceLow => Some(view.src_port.to_be_bytes()[1]),
            Self::Target => Some(last_byte(view.dst)),
        }
    }
}

fn saturated(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

const fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

impl Entry {
    fn has(self, test: &Test, payload: &[u8]) -> bool {
        if self.only == WHOLE {
            return test.clauses.iter().all(|clause| clause.fits(payload));
        }
        let Some((first, rest)) = test.clauses.split_first() else { return false };
        first.fits_only(usize::from(self.only), payload) && rest.iter().all(|clause| clause.fits(payload))
    }

    /// The values of a byte with which a packet could still fit; `None` when it does not matter.
    fn admits(self, probe: Probe, tests: &[Test]) -> Option<Bytes> {
        let test = tests.get(usize::from(self.rule))?;
        match probe {
            Probe::Payload(at) => {
                let clauses = test.clauses.iter().enumerate();
                let sets = clauses.filter_map(|(i, clause)| {
                    let only = (i == 0 && self.only != WHOLE).then(|| usize::from(self.only));
                    admitted(clause, only, usize::from(at))
                });
                sets.reduce(Bytes::both)
            }
            Probe::Length => {
                let (low, high) =
                    (saturated((*test.length.start()).into()), saturated((*test.length.end()).into()));
                (low > 0 || high < u8::MAX).then(|| Bytes::of(low..=high))
            }
            Probe::SourceHigh => {
                let high = |port: &u16| port.to_be_bytes()[0];
                let ranges =
                    test.from_ports.iter().map(|range| Bytes::of(high(range.start())..=high(range.end())));
                ranges.reduce(Bytes::either)
            }
            Probe::SourceLow => {
                let low = |port: &u16| port.to_be_bytes()[1];
                let one_page = |range: &&PortRange| range.start() >> 8 == range.end() >> 8;
                let ranges = test.from_ports.iter();
                let all = ranges.clone().filter(one_page).count() == ranges.len();
                let sets = ranges.map(|range| Bytes::of(low(range.start())..=low(range.end())));
                if all { sets.reduce(Bytes::either) } else { None }
            }
            Probe::Target => {
                let only_groups = !(test.unicast || test.limited || test.directed);
                let sets =
                    test.groups.iter().map(|group| last_byte(*group)).map(|byte| Bytes::of(byte..=byte));
                if only_groups { sets.reduce(Bytes::either) } else { None }
            }
        }
    }
}

/// What a clause, or one pattern of it, admits at an offset of the payload.
fn admitted(clause: &Clause, only: Option<usize>, at: usize) -> Option<Bytes> {
    let inside = at.checked_sub(usize::from(clause.at))?;
    let patterns = match only {
        Some(only) => clause.any.get(only..=only)?,
        None => &clause.any,
    };
    let mut out = Bytes::default();
    for pattern in patterns {
        let (want, bits) = pattern.wants(inside);
        if bits == 0 {
            return None;
        }
        if bits == u8::MAX {
            out.add(want);
        } else {
            (0..=u8::MAX).filter(|byte| byte & bits == want).for_each(|byte| out.add(byte));
        }
    }
    Some(out)
}

/// A set of values of a byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bytes([u64; 4]);

impl Bytes {
    fn of(range: std::ops::RangeInclusive<u8>) -> Self {
        let mut out = Self::default();
        range.for_each(|byte| out.add(byte));
        out
    }

    fn add(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 6)).is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }

    /// Counts each of its values once more.
    fn count(&self, counts: &mut [usize; 256]) {
        for (word, counts) in self.0.iter().zip(counts.chunks_exact_mut(64)) {
            let mut left = *word;
            while let Some(count) = counts.get_mut(left.trailing_zeros() as usize) {
                *count += 1;
                left &= left - 1;
            }
        }
    }

    fn both(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0.get(i).zip(other.0.get(i)).map_or(0, |(a, b)| a & b)))
    }

    fn either(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0.get(i).zip(other.0.get(i)).map_or(0, |(a, b)| a | b)))
    }
}

/// Rules that are tried one after the other: as quick as one more branch.
const LEAF: usize = 2;
/// Patterns of a list that are tried one after the other.
const FEW: usize = 4;
/// Bytes of a payload that branches may look at; games say who they are at the start.
const LOOKED_AT: u8 = 64;
/// A thousand rules need four.
const MOST_DEPTH: u8 = 12;
/// No more branches are made then: 1,000 rules on one port need about 600 nodes.
const MOST_NODES: usize = 16_384;
/// No more branches are made then: bounds the time that a hostile profile can cost at the start.
const MOST_WORK: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::pattern::Pattern;
    use crate::wire::packet::write_udp;
    use proptest::prelude::*;

    /// What the tree must find: the first rule in order, each tried whole.
    fn one_by_one(
        items: &[(PortRange, u16)],
        tests: &[Test],
        view: &PacketView<'_>,
        class: Class,
    ) -> Option<u16> {
        let payload = view.payload();
        let fits = |rule: u16| {
            let test = &tests[usize::from(rule)];
            test.fits(view, class, Side::FromGame, payload) && test.clauses.iter().all(|c| c.fits(payload))
        };
        let named = items.iter().filter(|(range, _)| range.contains(&view.dst_port)).map(|(_, rule)| *rule);
        named.filter(|rule| fits(*rule)).min()
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let byte = prop_oneof![4 => 0u8..3, 1 => any::<u8>()];
        let mask = prop_oneof![4 => Just(0xffu8), 1 => Just(0), 1 => any::<u8>()];
        proptest::collection::vec((byte, mask), 1..4).prop_map(|pairs| {
            let (bytes, mask): (Vec<u8>, Vec<u8>) = pairs.into_iter().unzip();
            Pattern::exact(&bytes).masked(&mask)
        })
    }

    fn any_test() -> impl Strategy<Value = Test> {
        let any_of = prop_oneof![5 => 1usize..3, 1 => 5usize..9];
        let patterns = any_of.prop_flat_map(|n| proptest::collection::vec(any_pattern(), n));
        let clauses = proptest::collection::vec((0u16..4, patterns), 0..3);
        let group = prop_oneof![Just("239.0.0.1"), Just("239.1.0.1"), Just("239.0.0.2"), Just("ff02::2")];
        let groups = proptest::collection::vec(group, 0..3);
        let from = prop_oneof![3 => Just(None), 1 => (0u16..600, 0u16..600).prop_map(Some)];
        (clauses, groups, from, 0u16..5, 3u16..300, any::<[bool; 3]>()).prop_map(
            |(clauses, groups, from, shortest, longest, [unicast, limited, directed])| Test {
                side: None,
                unicast,
                limited,
                directed,
                groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
                length: shortest..=longest,
                from_ports: from.map(|(a, b)| a.min(b)..=a.max(b)).into_iter().collect(),
                clauses: longest_first(
                    clauses.into_iter().map(|(at, any)| Clause { at, any: any.into() }).collect(),
                ),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_tree_finds_what_trying_one_by_one_finds(
            tests in proptest::collection::vec((any_test(), 0u16..3), 0..24),
            packets in proptest::collection::vec(
                (proptest::collection::vec(prop_oneof![4 => 0u8..3, 1 => any::<u8>()], 0..9), 0u16..600, 0u16..3, 0usize..6),
                12,
            ),
        ) {
            let items: Vec<(PortRange, u16)> =
                tests.iter().zip(0u16..).map(|((_, wide), ix)| (ix % 3..=ix % 3 + wide, ix)).collect();
            let tests: Vec<Test> = tests.into_iter().map(|(test, _)| test).collect();
            let mut forest = Forest::default();
            let roots = forest.grow(&items, &tests);
            for (payload, from, port, to) in packets {
                let (to, class) = [
                    ("10.0.0.9", Class::Unicast), ("255.255.255.255", Class::Limited), ("10.0.0.255", Class::Directed),
                    ("239.0.0.1", Class::Multicast), ("239.1.0.1", Class::Multicast), ("239.0.0.2", Class::Multicast),
                ][to];
                let mut room = [0; 100];
                let (from, to) = (format!("10.0.0.1:{from}"), format!("{to}:{port}"));
                let len = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 1, &payload).unwrap();
                let view = PacketView::parse(&room[..len]).unwrap();
                let got = forest.find(&roots, view.dst_port, &tests, (&view, class, Side::FromGame));
                prop_assert_eq!(got, one_by_one(&items, &tests, &view, class));
            }
        }
    }

    fn rule(bytes: &[u8]) -> Test {
        Test {
            side: None,
            unicast: true,
            limited: true,
            directed: true,
            groups: Box::default(),
            length: 1..=65_507,
            from_ports: Box::default(),
            clauses: Box::new([Clause { at: 0, any: Box::new([Pattern::exact(bytes)]) }]),
        }
    }

    #[test]
    fn a_thousand_rules_on_one_port_are_a_few_branches_and_short_leaves() {
        let tests: Vec<Test> = (0..1000u16).map(|n| rule(format!("GAME{n:04}").as_bytes())).collect();
        let items: Vec<(PortRange, u16)> = (0..1000).map(|ix| (5000..=5000, ix)).collect();
        let mut forest = Forest::default();
        forest.grow(&items, &tests);
        let longest = forest.nodes.iter().filter_map(|node| match node {
            Node::Leaf { first, last } => Some(last - first),
            Node::Branch { .. } => None,
        });
        assert!(longest.max() <= Some(2));
        assert!(forest.nodes.len() < 3000, "{} nodes", forest.nodes.len());
    }

    #[test]
    fn rules_that_nothing_tells_apart_stay_in_one_leaf_and_the_first_wins() {
        let tests: Vec<Test> = (0..100).map(|_| rule(b"same")).collect();
        let items: Vec<(PortRange, u16)> = (0..100).rev().map(|ix| (5000..=5000, ix)).collect();
        let mut room = [0; 100];
        let (from, to) = ("10.0.0.1:9".parse().unwrap(), "10.0.0.2:5000".parse().unwrap());
        let len = write_udp(&mut room, from, to, 1, b"same").unwrap();
        let view = PacketView::parse(&room[..len]).unwrap();
        let mut forest = Forest::default();
        let roots = forest.grow(&items, &tests);
        let asked = (&view, Class::Unicast, Side::FromGame);
        assert_eq!(forest.find(&roots, 5000, &tests, asked), Some(0));
        assert_eq!(forest.find(&roots, 5001, &tests, asked), None);
    }
}
