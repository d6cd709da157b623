//! Puts invented addresses and names in the place of a person's own, so that a recording can be shown around.
//!
//! Everything keeps its length, so that lengths and offsets in the packets stay true and a profile learned from the
//! recording is the same. One address becomes the same other address everywhere: in headers, as text, and as four bytes
//! in either order. What is compressed or encrypted inside a payload cannot be seen and is not changed.

use super::pick::Timed;
use crate::wire::packet::{PacketView, fix_checksums, readdress};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redacted {
    /// How many addresses were replaced.
    pub addresses: usize,
    /// How often a name was replaced in a payload.
    pub names: usize,
    /// What could not be.
    pub left: Vec<String>,
}

/// Changes packets in place. `names` are the computer's and the person's.
pub fn redact(packets: &mut [Timed], names: &[String]) -> Redacted {
    let mut done = Redacted::default();
    let map = Map::of(packets, &mut done.left);
    done.addresses = map.v4.len() + map.v6.len();
    let long_enough = |name: &&String| (SHORTEST_NAME..=64).contains(&name.len());
    for name in names.iter().filter(|name| !long_enough(name) && !name.is_empty()) {
        done.left.push(format!("the name \"{name}\": too short to be told from other bytes"));
    }
    let names: Vec<&String> = names.iter().filter(long_enough).collect();
    for (_, packet) in packets {
        let Ok(view) = PacketView::parse(packet) else { continue };
        let (from, to, start) = (view.source(), view.destination(), view.payload_offset());
        let (len, whole) = (view.bytes.len(), view.bytes.len() <= packet.len());
        if !whole {
            continue;
        }
        if let Some(payload) = packet.get_mut(start..len) {
            map.payload(payload);
            done.names += names.iter().map(|name| rename(payload, name)).sum::<usize>();
        }
        let other = |at: SocketAddr| map.address(at.ip()).map(|ip| SocketAddr::new(ip, at.port()));
        readdress(packet, other(from), other(to), None);
        fix_checksums(packet);
    }
    done.left.push(
        "what is compressed, encrypted or spelled otherwise inside packets: look before you share".to_owned(),
    );
    done
}

/// Which address becomes which.
struct Map {
    v4: BTreeMap<Ipv4Addr, Ipv4Addr>,
    v6: BTreeMap<Ipv6Addr, Ipv6Addr>,
}

impl Map {
    fn of(packets: &[Timed], left: &mut Vec<String>) -> Self {
        let mut v4: BTreeSet<Ipv4Addr> = BTreeSet::new();
        let mut v6: BTreeSet<Ipv6Addr> = BTreeSet::new();
        for (_, packet) in packets {
            let Ok(view) = PacketView::parse(packet) else { continue };
            for ip in [view.src, view.dst] {
                match ip {
                    IpAddr::V4(ip) if !(ip.is_broadcast() || ip.is_multicast()) => v4.extend([ip]),
                    IpAddr::V6(ip) if !ip.is_multicast() => v6.extend([ip]),
                    IpAddr::V4(_) | IpAddr::V6(_) => {}
                }
            }
            v4.extend(texts(view.payload()));
        }
        let mut it = Self { v4: BTreeMap::new(), v6: BTreeMap::new() };
        let mut nets: BTreeMap<[u8; 3], [u8; 3]> = BTreeMap::new();
        for ip in v4.into_iter().take(MOST_ADDRESSES).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()) {
            let [a, b, c, d] = ip.octets();
            let net = nets.get(&[a, b, c]).copied().or_else(|| other_net([a, b, c], &nets));
            let host = net.and_then(|[x, y, z]| {
                let taken = |n: u8| it.v4.values().any(|have| *have == Ipv4Addr::new(x, y, z, n));
                // The network's own broadcast address stays one.
                let free = if d == 255 {
                    Some(d)
                } else {
                    same_digits(d).filter(|n| *n < 255 && *n != d).find(|n| !taken(*n))
                };
                free.map(|n| Ipv4Addr::new(x, y, z, n))
            });
            match (net, host) {
                (Some(net), Some(host)) => {
                    nets.insert([a, b, c], net);
                    it.v4.insert(ip, host);
                }
                _ => left.push(format!("the address {ip}: too many of its kind")),
            }
        }
        for (n, ip) in (1u16..).zip(v6.into_iter().take(MOST_ADDRESSES)) {
            let head = if ip.is_unicast_link_local() { 0xfe80 } else { 0xfd00 };
            it.v6.insert(ip, Ipv6Addr::new(head, 0, 0, 0, 0, 0, 0x77, n));
        }
        if !it.v6.is_empty() {
            left.push("IPv6 addresses as text inside packets".to_owned());
        }
        it
    }

    fn address(&self, ip: IpAddr) -> Option<IpAddr> {
        match ip {
            IpAddr::V4(ip) => self.v4.get(&ip).copied().map(IpAddr::V4),
            IpAddr::V6(ip) => self.v6.get(&ip).copied().map(IpAddr::V6),
        }
    }

    /// All places are found before any is changed: the new address of one may be the old one of another.
    fn payload(&self, payload: &mut [u8]) {
        let mut changes: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut find = |old: &[u8], new: &[u8], is_text: bool| {
            let at = payload.windows(old.len()).enumerate().filter(|(_, w)| *w == old).map(|(i, _)| i);
            let digit = |i: Option<usize>| i.and_then(|i| payload.get(i)).is_some_and(u8::is_ascii_digit);
            let alone = |i: &usize| !is_text || !digit(i.checked_sub(1)) && !digit(Some(i + old.len()));
            changes.extend(at.filter(alone).map(|i| (i, new.to_vec())));
        };
        for (old, new) in &self.v4 {
            find(old.to_string().as_bytes(), new.to_string().as_bytes(), true);
            let (mut back, mut new_back) = (old.octets(), new.octets());
            find(&back, &new_back, false);
            back.reverse();
            new_back.reverse();
            find(&back, &new_back, false);
        }
        for (old, new) in &self.v6 {
            find(&old.octets(), &new.octets(), false);
        }
        for (at, new) in changes {
            if let Some(room) = payload.get_mut(at..at + new.len()) {
                room.copy_from_slice(&new);
            }
        }
    }
}

/// IPv4 addresses as text.
fn texts(payload: &[u8]) -> Vec<Ipv4Addr> {
    let pieces = payload.split(|c| !(c.is_ascii_digit() || *c == b'.'));
    let address = |p: &[u8]| std::str::from_utf8(p).ok()?.parse::<Ipv4Addr>().ok();
    let usual = |ip: &Ipv4Addr| !(ip.is_broadcast() || ip.is_multicast() || ip.octets()[0] == 0);
    pieces
        .filter(|p| (7..=15).contains(&p.len()))
        .filter_map(address)
        .filter(usual)
        .take(MOST_ADDRESSES)
        .collect()
}

/// Another network whose numbers have as many digits; private ones stay private.
fn other_net(net: [u8; 3], known: &BTreeMap<[u8; 3], [u8; 3]>) -> Option<[u8; 3]> {
    let [a, b, c] = net;
    let (keep_a, keep_b) = match (a, b) {
        (10, _) => (true, false),
        (192, 168) | (172, 16..=31) | (169, 254) => (true, true),
        _ => (false, false),
    };
    let firsts: Vec<u8> = if keep_a {
        vec![a]
    } else {
        same_digits(a).filter(|n| !matches!(n, 0 | 10 | 127 | 172 | 192 | 224..)).take(3).collect()
    };
    let seconds: Vec<u8> = if keep_b { vec![b] } else { same_digits(b).take(4).collect() };
    let all = firsts.into_iter().flat_map(|x| seconds.clone().into_iter().map(move |y| (x, y)));
    all.flat_map(|(x, y)| same_digits(c).filter(move |z| *z != c).map(move |z| [x, y, z]))
        .find(|new| !known.values().any(|have| have == new))
}

/// Numbers with as many digits, from a memorable one on.
fn same_digits(n: u8) -> impl Iterator<Item = u8> {
    let (from, to) = match n {
        0..=9 => (1, 9),
        10..=99 => (10, 99),
        100..=255 => (100, 255),
    };
    from..=to
}

/// Replaces a name, however it is spelled, as ASCII and as UTF-16.
fn rename(payload: &mut [u8], name: &str) -> usize {
    let other: Vec<u8> = STRANGER.bytes().cycle().take(name.len()).collect();
    let wide = |bytes: &[u8]| bytes.iter().flat_map(|b| [*b, 0]).collect::<Vec<u8>>();
    let mut times = 0;
    for (old, new) in [(name.as_bytes().to_vec(), other.clone()), (wide(name.as_bytes()), wide(&other))] {
        let mut at = 0;
        while at + old.len() <= payload.len() {
            match payload.get_mut(at..at + old.len()) {
                Some(there) if there.eq_ignore_ascii_case(&old) => {
                    there.copy_from_slice(&new);
                    times += 1;
                    at += old.len();
                }
                _ => at += 1,
            }
        }
    }
    times
}

/// What people are called instead.
const STRANGER: &str = "somebody-else-";
/// A shorter name is part of other words.
const SHORTEST_NAME: usize = 3;
const MOST_ADDRESSES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::write_udp;
    use std::time::Duration;

    fn udp(from: &str, to: &str, payload: &[u8]) -> Timed {
        let mut room = vec![0; 300];
        let n = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 64, payload).unwrap();
        room.truncate(n);
        (Duration::ZERO, room)
    }

    #[test]
    fn addresses_and_names_are_others_everywhere_and_lengths_stay() {
        let payload = b"at 192.168.178.23:7000 \xc0\xa8\xb2\x17 \x17\xb2\xa8\xc0 of ANA-pc, A\0n\0a\0-\0P\0C\0 not 1192.168.178.23";
        let mut packets = [
            udp("192.168.178.23:7000", "192.168.178.255:7001", payload),
            udp("192.168.178.24:9", "192.168.178.23:7000", b"x"),
        ];
        let done = redact(&mut packets, &["ana-PC".to_owned(), "al".to_owned()]);
        let views: Vec<PacketView<'_>> = packets.iter().map(|(_, p)| PacketView::parse(p).unwrap()).collect();
        let (own, friend) = (views[0].src, views[1].src);
        assert_eq!(views[1].dst, own);
        assert!(own != friend && own.to_string().len() == 14 && own.to_string() != "192.168.178.23");
        assert!(views[0].dst.to_string().ends_with(".255"));
        let IpAddr::V4(v4) = own else { panic!() };
        let o = v4.octets();
        let mut wanted = format!("at {own}:7000 ").into_bytes();
        wanted.extend([o[0], o[1], o[2], o[3], b' ', o[3], o[2], o[1], o[0]]);
        wanted.extend(b" of somebo, s\0o\0m\0e\0b\0o\0 not 1192.168.178.23");
        assert_eq!(String::from_utf8_lossy(views[0].payload()), String::from_utf8_lossy(&wanted));
        assert_eq!((done.names, views[0].payload().len()), (2, payload.len()));
        assert!(done.left.iter().any(|l| l.contains("\"al\"")), "{done:?}");
        let mut copy = packets[0].1.clone();
        assert!(fix_checksums(&mut copy) && copy == packets[0].1);
    }

    #[test]
    fn an_address_that_becomes_anothers_is_not_changed_twice() {
        let mut packets =
            [udp("10.1.1.2:9", "10.1.1.1:9", b"10.1.1.2 10.1.1.1"), udp("10.1.1.1:9", "10.1.1.2:9", b"x")];
        redact(&mut packets, &[]);
        let view = PacketView::parse(&packets[0].1).unwrap();
        assert_eq!(view.payload(), format!("{} {}", view.src, view.dst).as_bytes());
        assert_ne!(view.src, view.dst);
    }
}
