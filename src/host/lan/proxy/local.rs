//! At which address of this computer a game listens on a port, and whether any does.
//!
//! Linux lists its sockets for everybody (`/proc/net/udp`, `udp6`, `tcp`, `tcp6`). Elsewhere a game is believed to listen on every address.
//! Where a game was seen to send from is remembered in any case: its answer may come before the list is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::is_stand_in;
use crate::rules::ruleset::Transport;

/// How long the list is believed. Reading it costs a fraction of a millisecond.
const BELIEVED: Duration = Duration::from_secs(1);
/// How long it is believed where it says that nobody listens: a game that has just started waits at most this long.
const DOUBTED: Duration = Duration::from_millis(50);
/// Ports remembered between two looks.
const MOST: usize = 4096;
/// How the kernel writes that a TCP socket listens.
const LISTENS: &str = "0A";

/// Who listens where.
#[derive(Debug, Default)]
pub(super) struct Locals {
    transport: Transport,
    homes: BTreeMap<u16, Ipv4Addr>,
    /// Ports that somebody has on every address.
    everywhere: BTreeSet<u16>,
    read_at: Option<Instant>,
}

impl Locals {
    /// Who listens by this.
    pub(super) fn by(transport: Transport) -> Self {
        Self { transport, ..Self::default() }
    }

    /// The address at which the game with this port is reached; `None` where there is none.
    pub(super) fn home(&mut self, port: u16, now: Instant) -> Option<Ipv4Addr> {
        self.refresh(now, |known| known.homes.contains_key(&port));
        let unknown = (!cfg!(target_os = "linux")).then_some(Ipv4Addr::LOCALHOST);
        self.homes.get(&port).copied().or(unknown)
    }

    /// Whether a game has this port on every address, so that broadcasts reach it. Where the system does not tell none has.
    pub(super) fn is_everywhere(&mut self, port: u16, now: Instant) -> bool {
        self.refresh(now, |known| known.everywhere.contains(&port));
        self.everywhere.contains(&port)
    }

    fn refresh(&mut self, now: Instant, knows: impl Fn(&Self) -> bool) {
        let age = self.read_at.map_or(Duration::MAX, |at| now.duration_since(at));
        if age >= BELIEVED || (age >= DOUBTED && !knows(self)) {
            self.read(now);
        }
    }

    /// A game sent from here.
    pub(super) fn note(&mut self, at: SocketAddrV4) {
        if self.homes.len() < MOST || self.homes.contains_key(&at.port()) {
            self.homes.insert(at.port(), *at.ip());
        }
    }

    fn read(&mut self, now: Instant) {
        self.read_at = Some(now);
        if !cfg!(target_os = "linux") {
            if self.homes.len() >= MOST {
                self.homes.clear();
            }
            return;
        }
        let (four, six) = match self.transport {
            Transport::Udp => (list("udp"), list("udp6")),
            Transport::Tcp => (list("tcp"), list("tcp6")),
        };
        let [four, six] = [&four, &six].map(|list| entries(list, self.transport));
        self.everywhere = four.clone().chain(six.clone()).filter_map(everywhere).collect();
        self.homes = homes(four);
        // A socket of both families has its place in the second list; one at an address of its own wins over it.
        for (port, home) in homes(six) {
            self.homes.entry(port).or_insert(home);
        }
    }
}

/// Whether a socket of this computer is bound to exactly this address. Where the system does not tell it is.
pub(super) fn is_bound(at: SocketAddrV4) -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    entries(&list("udp"), Transport::Udp).any(|entry| entry == (*at.ip(), at.port()))
}

/// Where all UDP sockets of this computer are bound. Nowhere, where the system does not tell.
pub(super) fn udp_sockets() -> BTreeSet<SocketAddrV4> {
    let entries = |name| entries(&list(name), Transport::Udp).collect::<Vec<_>>();
    entries("udp").into_iter().chain(entries("udp6")).map(|(ip, port)| SocketAddrV4::new(ip, port)).collect()
}

/// A list of the kernel's.
fn list(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
}

/// The homes among these sockets. Stand-ins are none, of whichever party.
fn homes(sockets: impl Iterator<Item = (Ipv4Addr, u16)>) -> BTreeMap<u16, Ipv4Addr> {
    let mut homes = BTreeMap::new();
    for (address, port) in sockets {
        let takes = !address.is_broadcast() && !address.is_multicast() && !is_stand_in(address);
        if !takes {
            continue;
        }
        let home = if address.is_unspecified() { Ipv4Addr::LOCALHOST } else { address };
        // Where several listen, the usual loopback address is the one that players would name.
        let first = homes.entry(port).or_insert(home);
        if home == Ipv4Addr::LOCALHOST {
            *first = home;
        }
    }
    homes
}

fn everywhere((address, port): (Ipv4Addr, u16)) -> Option<u16> {
    address.is_unspecified().then_some(port)
}

/// The addresses to which the sockets of a list are bound; of TCP those that listen.
fn entries(list: &str, transport: Transport) -> impl Iterator<Item = (Ipv4Addr, u16)> + Clone {
    list.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        let takes = transport == Transport::Udp || words.nth(1)? == LISTENS;
        takes.then_some((v4(address)?, u16::from_str_radix(port, 16).ok()?))
    })
}

/// An address as the kernel prints it: words of eight digits, each as its memory has it. Of IPv6 only what stands for
/// IPv4.
fn v4(text: &str) -> Option<Ipv4Addr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok();
    let address = |word: u32| Ipv4Addr::from(word.to_ne_bytes());
    match text.len() {
        8 => word(0).map(address),
        32 => match (word(0)?, word(8)?, word(16)?.to_ne_bytes(), word(24)?) {
            (0, 0, [0, 0, 0, 0], 0) => Some(Ipv4Addr::UNSPECIFIED),
            (0, 0, [0, 0, 0xff, 0xff], last) => Some(address(last)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(address: Ipv4Addr, port: u16) -> String {
        in_state("07", address, port)
    }

    fn in_state(state: &str, address: Ipv4Addr, port: u16) -> String {
        let word = u32::from_ne_bytes(address.octets());
        format!(
            "  12: {word:08X}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0\n"
        )
    }

    #[test]
    fn the_kernels_list_says_at_which_address_a_game_listens() {
        let mut list = "  sl  local_address rem_address   st\n".to_owned();
        for (address, port) in [
            ("0.0.0.0", 19132),
            ("127.0.0.1", 5000),
            ("192.168.1.5", 6000),
            ("192.168.1.5", 7000),
            ("0.0.0.0", 7000),
            ("127.83.7.9", 8000),
            ("255.255.255.255", 8001),
            ("224.0.2.60", 8002),
        ] {
            list += &line(address.parse().unwrap(), port);
        }
        list += "garbage\n 1: zz:1 x\n";
        let homes = homes(entries(&list, Transport::Udp));
        let local = Ipv4Addr::LOCALHOST;
        let card: Ipv4Addr = "192.168.1.5".parse().unwrap();
        assert_eq!(
            homes.into_iter().collect::<Vec<_>>(),
            [(5000, local), (6000, card), (7000, local), (19132, local)]
        );
        assert_eq!(entries("", Transport::Udp).count(), 0);
        assert_eq!(entries(&list, Transport::Udp).filter_map(everywhere).collect::<Vec<_>>(), [19132, 7000]);
    }

    #[test]
    fn of_tcp_only_what_listens_counts() {
        let card: Ipv4Addr = "192.168.1.5".parse().unwrap();
        let list = [in_state("0A", card, 25565), in_state("01", card, 40000)].concat();
        let list = format!("  sl  local_address rem_address   st\n{list}  13: short\n");
        assert_eq!(entries(&list, Transport::Tcp).collect::<Vec<_>>(), [(card, 25565)]);
    }

    #[test]
    fn sockets_of_both_families_count() {
        let any = "0".repeat(32);
        let mapped = format!(
            "{:08X}{:08X}{:08X}{:08X}",
            0,
            0,
            u32::from_ne_bytes([0, 0, 255, 255]),
            u32::from_ne_bytes([127, 0, 0, 1])
        );
        let six = format!("{:08X}{:08X}{:08X}{:08X}", u32::from_ne_bytes([0xfe, 0x80, 0, 0]), 0, 0, 1);
        assert_eq!(v4(&any), Some(Ipv4Addr::UNSPECIFIED));
        assert_eq!(v4(&mapped), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(v4(&six), None);
        assert_eq!(v4("x"), None);
        assert_eq!(v4("ÄÄÄÄ"), None);
    }
}
