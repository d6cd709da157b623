//! Sets of ports: ranges, and a table from a port to the rules that name it.

use std::ops::RangeInclusive;

/// Some ports in a row.
pub type PortRange = RangeInclusive<u16>;

/// The lowest port that a profile or a packet may open to the party. Below are the system's services (SSH, file
/// shares, mail), and no LAN game needs them.
pub const LOWEST: u16 = 1024;

/// From a port to the values registered for it, in the order of registration. Built once, read without allocation.
#[derive(Debug, Clone, Default)]
pub struct PortMap {
    /// Where each stretch of ports with the same values starts; ascending.
    starts: Vec<u16>,
    /// The values of each stretch.
    values: Vec<Box<[u16]>>,
}

impl PortMap {
    /// Builds the table.
    #[must_use]
    pub fn new(items: &[(PortRange, u16)]) -> Self {
        let mut starts: Vec<u16> =
            items.iter().flat_map(|(r, _)| [Some(*r.start()), r.end().checked_add(1)]).flatten().collect();
        starts.sort_unstable();
        starts.dedup();
        let values = starts
            .iter()
            .map(|start| {
                let mut here: Vec<u16> =
                    items.iter().filter(|(r, _)| r.contains(start)).map(|(_, value)| *value).collect();
                here.dedup();
                here.into()
            })
            .collect();
        Self { starts, values }
    }

    /// All ports that have values, with them.
    pub fn stretches(&self) -> impl Iterator<Item = (PortRange, &[u16])> {
        let ends = self.starts.iter().skip(1).map(|next| next.saturating_sub(1)).chain([u16::MAX]);
        let all = self.starts.iter().zip(ends).zip(&self.values);
        all.filter(|(_, values)| !values.is_empty()).map(|((start, end), values)| (*start..=end, &**values))
    }

    /// The values of a port.
    #[must_use]
    pub fn at(&self, port: u16) -> &[u16] {
        let after = self.starts.partition_point(|start| *start <= port);
        after.checked_sub(1).and_then(|i| self.values.get(i)).map_or(&[], |v| v)
    }
}

/// The same ports with neighbouring and overlapping ranges made one, ascending.
#[must_use]
pub fn merge(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable_by_key(|r| *r.start());
    let mut out: Vec<PortRange> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            Some(_) | None => out.push(range),
        }
    }
    out
}

/// Whether two sets have a port in common; an empty set stands for "any port".
#[must_use]
pub fn meet(a: &[PortRange], b: &[PortRange]) -> bool {
    a.is_empty()
        || b.is_empty()
        || a.iter().any(|x| b.iter().any(|y| x.start() <= y.end() && y.start() <= x.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn touching_ranges_become_one() {
        assert_eq!(merge(vec![5..=6, 1..=2, 3..=3, 9..=10, 9..=9]), vec![1..=3, 5..=6, 9..=10]);
        assert_eq!(merge(vec![65535..=65535, 1..=65534]), vec![1..=65535]);
    }

    #[test]
    fn an_empty_set_is_any_port() {
        assert!(meet(&[], &[1..=1]));
        assert!(meet(&[1..=5], &[5..=9]));
        assert!(!meet(&[1..=4], &[5..=9]));
    }

    proptest! {
        #[test]
        fn the_table_says_what_the_ranges_say(
            raw in proptest::collection::vec((any::<u16>(), any::<u16>()), 0..12), asked in any::<u16>(),
        ) {
            let items: Vec<(PortRange, u16)> =
                raw.iter().zip(0u16..).map(|((a, b), i)| (*a.min(b)..=*a.max(b), i)).collect();
            let map = PortMap::new(&items);
            for port in raw.iter().flat_map(|(a, b)| [*a, *b, a.wrapping_add(1), b.wrapping_sub(1)]).chain([asked, 0, 65535]) {
                let plain: Vec<u16> = items.iter().filter(|(r, _)| r.contains(&port)).map(|(_, v)| *v).collect();
                prop_assert_eq!(map.at(port), &plain[..]);
                let stretch: Vec<u16> =
                    map.stretches().filter(|(r, _)| r.contains(&port)).flat_map(|(_, v)| v.to_vec()).collect();
                prop_assert_eq!(stretch, plain);
            }
        }
    }
}
