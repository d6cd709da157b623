//! Picks one game's search, and the start of its joins, out of everything that a network card hears.
//!
//! What is known at first are the game's ports (named by the person, or read from its process). From them follows the
//! rest: the ports that it asks, the sockets that wait for answers, the computers that answered or announced something, and
//! the connections to these. A packet that nothing explains yet is kept a moment: the process's sockets are looked at many
//! times a second, and a socket may have sent before it was seen.

use super::traffic::{class_of, is_chatter};
use crate::wire::frame::Class;
use crate::wire::packet::{PacketView, proto};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A packet with its time.
pub type Timed = (Duration, Vec<u8>);

/// The state of a recording.
#[derive(Debug, Default)]
pub struct Picker {
    /// Of the game on this computer.
    ports: BTreeSet<u16>,
    /// Where searches and announcements go.
    asked: BTreeSet<u16>,
    /// That wait for answers.
    asking: BTreeSet<SocketAddr>,
    /// That answered or announced.
    servers: BTreeSet<IpAddr>,
    /// How much of each conversation was taken.
    flows: BTreeMap<(SocketAddr, SocketAddr), u32>,
    waiting: VecDeque<Timed>,
    picked: Vec<Timed>,
    bytes: usize,
}

impl Picker {
    /// More of the game's ports; what waited for this is picked now.
    pub fn know(&mut self, ports: impl IntoIterator<Item = u16>) {
        let before = self.ports.len();
        self.ports.extend(ports.into_iter().filter(|port| !is_chatter(*port)).take(MOST_PORTS));
        if self.ports.len() > before {
            self.look_again();
        }
    }

    /// A packet that was heard.
    pub fn offer(&mut self, at: Duration, packet: &[u8]) {
        let Ok(view) = PacketView::parse(packet) else { return };
        let udp = view.proto == proto::UDP && !view.fragment;
        if !(udp || view.opens_tcp()) || is_chatter(view.src_port) || is_chatter(view.dst_port) {
            return;
        }
        if self.wants(&view) {
            if self.pick(at, &view) {
                self.look_again();
            }
            return;
        }
        self.waiting.push_back((at, view.bytes.to_vec()));
        let old = |(then, _): &Timed| at.saturating_sub(*then) > WAITS;
        while self.waiting.len() > MOST_WAITING || self.waiting.front().is_some_and(old) {
            self.waiting.pop_front();
        }
    }

    /// What was picked so far, in the order of time.
    #[must_use]
    pub fn finish(mut self) -> Vec<Timed> {
        self.picked.sort_by_key(|(at, _)| *at);
        self.picked
    }

    /// How many packets were picked.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.picked.len()
    }

    /// Whether nothing was picked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.picked.is_empty()
    }

    /// Whether a recording is as large as it may become.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.bytes >= MOST_BYTES || self.picked.len() >= MOST_PACKETS
    }

    fn wants(&self, view: &PacketView<'_>) -> bool {
        let (from, to) = (view.source(), view.destination());
        let ours = |port: u16| self.ports.contains(&port) || self.asked.contains(&port);
        let join = class(view) == Class::Unicast
            && (self.servers.contains(&view.dst) || self.flows.contains_key(&(to, from)));
        ours(view.src_port) || ours(view.dst_port) || self.asking.contains(&to) || join
    }

    /// Takes a packet; whether something new is known.
    fn pick(&mut self, at: Duration, view: &PacketView<'_>) -> bool {
        let key = (view.source(), view.destination());
        let known = (self.asked.len(), self.asking.len(), self.servers.len(), self.flows.len());
        let to_many = class(view) != Class::Unicast;
        if to_many {
            if self.asked.len() < MOST_PORTS {
                self.asked.insert(view.dst_port);
            }
            if self.asking.len() < MOST_FLOWS {
                self.asking.insert(view.source());
            }
            // Whoever speaks to many on the game's ports may be joined.
            if self.servers.len() < MOST_FLOWS {
                self.servers.insert(view.src);
            }
        } else {
            if self.asking.contains(&view.destination()) && self.servers.len() < MOST_FLOWS {
                self.servers.insert(view.src);
            }
            if self.flows.len() >= MOST_FLOWS && !self.flows.contains_key(&key) {
                return false;
            }
            let taken = self.flows.entry(key).or_default();
            *taken += 1;
            if *taken > OF_A_FLOW {
                return false;
            }
        }
        if !self.is_full() {
            self.bytes += view.bytes.len();
            self.picked.push((at, view.bytes.to_vec()));
        }
        known != (self.asked.len(), self.asking.len(), self.servers.len(), self.flows.len())
    }

    fn look_again(&mut self) {
        for _ in 0..MOST_ROUNDS {
            let (mut news, waiting) = (false, std::mem::take(&mut self.waiting));
            for (at, packet) in waiting {
                match PacketView::parse(&packet) {
                    Ok(view) if self.wants(&view) => news |= self.pick(at, &view),
                    Ok(_) => self.waiting.push_back((at, packet)),
                    Err(_) => {}
                }
            }
            if !news {
                return;
            }
        }
    }
}

fn class(view: &PacketView<'_>) -> Class {
    class_of(view.dst, &BTreeSet::new())
}

/// Sockets of a process are looked at much more often than this.
const WAITS: Duration = Duration::from_secs(3);
const MOST_WAITING: usize = 2048;
/// A game with more ports than this is no game.
const MOST_PORTS: usize = 4096;
const MOST_FLOWS: usize = 4096;
/// Packets of a conversation, each way: the start of a join, not the game.
const OF_A_FLOW: u32 = 24;
/// Each round explains the packets that the one before made explainable: search, answer, join.
const MOST_ROUNDS: usize = 8;
/// A recording; an hour of an announcer has a tenth of this.
const MOST_BYTES: usize = 32 << 20;
const MOST_PACKETS: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::write_udp;

    fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
        let mut room = vec![0; 200];
        let n = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 64, payload).unwrap();
        room.truncate(n);
        room
    }

    fn payloads(picker: Picker) -> Vec<String> {
        let text =
            |(_, p): &Timed| String::from_utf8_lossy(PacketView::parse(p).unwrap().payload()).into_owned();
        picker.finish().iter().map(text).collect()
    }

    fn evening(picker: &mut Picker) {
        let all = [
            udp("10.0.0.2:40000", "255.255.255.255:7000", b"who"),
            udp("10.0.0.1:7000", "10.0.0.2:40000", b"me"),
            udp("10.0.0.2:41000", "10.0.0.1:7100", b"join"),
            udp("10.0.0.1:7100", "10.0.0.2:41000", b"welcome"),
            udp("10.0.0.2:42000", "10.0.0.7:53", b"a name"),
            udp("10.0.0.2:43000", "10.0.0.8:9000", b"a call"),
            udp("10.0.0.9:5353", "224.0.0.251:5353", b"a printer"),
        ];
        for (ms, packet) in (0..).zip(&all) {
            picker.offer(Duration::from_millis(ms), packet);
        }
    }

    #[test]
    fn a_named_port_brings_question_answer_and_join_and_nothing_else() {
        let mut picker = Picker::default();
        picker.know([7000]);
        evening(&mut picker);
        assert_eq!(payloads(picker), ["who", "me", "join", "welcome"]);
    }

    #[test]
    fn a_socket_that_is_seen_after_it_sent_is_not_too_late() {
        let mut picker = Picker::default();
        evening(&mut picker);
        assert!(picker.is_empty());
        picker.know([40_000]);
        assert_eq!(payloads(picker), ["who", "me", "join", "welcome"]);
    }

    #[test]
    fn of_a_conversation_only_the_start_is_kept_and_strangers_cost_bounded_memory() {
        let mut picker = Picker::default();
        picker.know([7000, 53]);
        for n in 0..10_000u32 {
            picker.offer(Duration::from_millis(n.into()), &udp("10.0.0.2:40000", "10.0.0.1:7000", b"move"));
            let stranger = format!("10.1.{}.{}:9", n >> 8 & 255, n & 127);
            picker.offer(Duration::from_millis(n.into()), &udp(&stranger, "10.0.0.2:10", b"x"));
        }
        assert!(picker.waiting.len() <= MOST_WAITING);
        assert_eq!(picker.finish().len(), usize::try_from(OF_A_FLOW).unwrap());
    }
}
