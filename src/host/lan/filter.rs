//! The kernel-side filter of a capture: a classic BPF program made from the ports that the games' profiles name.
//!
//! It lets through only what this computer itself sends (not what it receives, and not our own injections, which the
//! kernel loops back as received), only whole IPv4 and IPv6 UDP packets to everybody or to a group, and only to those
//! ports. So capture costs nothing while games play: their unicast traffic never reaches us.
//!
//! The capture sockets are of the "cooked" kind: byte 0 is the IP header, whatever the link. Frames with a VLAN tag are
//! left out, because the VLAN's own card shows the same packet. Instructions: linux/filter.h, linux/bpf_common.h.

use std::ops::RangeInclusive;

use socket2::SockFilter;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
/// Loads four times the low nibble of a byte into X: the length of an IPv4 header.
const LOAD_X_HEADER: u16 = 0xb1;
/// Loads a half word at X plus an offset.
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_BYTE_AT_X: u16 = 0x50;
const AND: u16 = 0x54;
const GO: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets that stand for facts about the packet: SKF_AD_OFF (-0x1000) and SKF_LL_OFF (-0x200000) as unsigned.
const PROTOCOL: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = PROTOCOL + 4;
const HAS_VLAN_TAG: u32 = PROTOCOL + 48;
const LINK_HEADER: u32 = 0xffe0_0000;

const HARDWARE: u32 = PROTOCOL + 28;
const PACKET_OUTGOING: u32 = 4;
/// ARPHRD_LOOPBACK.
const LOOPBACK: u32 = 772;
const ETHERTYPE_V4: u32 = 0x0800;
const ETHERTYPE_V6: u32 = 0x86dd;
const UDP: u32 = 17;
const TCP: u32 = 6;
/// More ranges than this would near the kernel's limit for a socket's filter (`optmem_max`, 20 KiB on old kernels);
/// then every port is let through, and the engine sorts them out.
const MOST_RANGES: usize = 256;

/// The program for these ports. `ethernet`: whether frames have an Ethernet header, whose group bit knows subnet-directed
/// broadcasts too; without it the IP destination must tell.
pub(super) fn program(ports: &[RangeInclusive<u16>], ethernet: bool) -> Vec<SockFilter> {
    let mut p = Program::default();
    p.load(LOAD_WORD, PACKET_TYPE).must(IF_EQUAL, PACKET_OUTGOING);
    p.load(LOAD_WORD, HAS_VLAN_TAG).must(IF_EQUAL, 0);
    if ethernet {
        p.load(LOAD_BYTE, LINK_HEADER).must(IF_ANY_BIT, 1);
    }
    let (v4, v6) = (version_4(ethernet), version_6(ethernet));
    p.load(LOAD_WORD, PROTOCOL);
    // Version 4 ends by going past version 6, to the ports.
    p.push(IF_EQUAL, 1, 0, ETHERTYPE_V4).push(GO, 0, 0, v4.size() + 1);
    p.append(v4).push(GO, 0, 0, v6.size());
    p.append(v6);
    for range in merged(ports) {
        p.push(IF_AT_LEAST, 0, 2, u32::from(*range.start()));
        p.push(IF_GREATER, 1, 0, u32::from(*range.end()));
        p.push(RETURN, 0, 0, u32::MAX);
    }
    p.push(RETURN, 0, 0, 0);
    p.0
}

/// The program of a recording: whole UDP packets and TCP segments that ask for a connection, in both directions. Of what
/// the loopback shows twice (leaving and coming in) only the second.
pub(in crate::host) fn recording() -> Vec<SockFilter> {
    let mut p = Program::default();
    p.load(LOAD_WORD, HAS_VLAN_TAG).must(IF_EQUAL, 0);
    p.load(LOAD_WORD, HARDWARE);
    p.push(IF_EQUAL, 0, 3, LOOPBACK).load(LOAD_WORD, PACKET_TYPE).must_not(IF_EQUAL, PACKET_OUTGOING);
    let mut v4 = Program::default();
    v4.load(LOAD_HALF, 6).must_not(IF_ANY_BIT, 0x3fff);
    v4.load(LOAD_BYTE, 9).push(IF_EQUAL, 0, 1, UDP).push(RETURN, 0, 0, u32::MAX).must(IF_EQUAL, TCP);
    v4.load(LOAD_X_HEADER, 0).load(LOAD_BYTE_AT_X, 13);
    let mut v6 = Program::default();
    v6.must(IF_EQUAL, ETHERTYPE_V6);
    v6.load(LOAD_BYTE, 6).push(IF_EQUAL, 0, 1, UDP).push(RETURN, 0, 0, u32::MAX).must(IF_EQUAL, TCP);
    v6.load(LOAD_BYTE, 53);
    p.load(LOAD_WORD, PROTOCOL);
    p.push(IF_EQUAL, 1, 0, ETHERTYPE_V4).push(GO, 0, 0, v4.size() + 1);
    p.append(v4).push(GO, 0, 0, v6.size());
    p.append(v6);
    // SYN without ACK.
    p.push(AND, 0, 0, 0x12).must(IF_EQUAL, 0x02).push(RETURN, 0, 0, u32::MAX);
    p.0
}

/// Leaves the UDP destination port in A.
fn version_4(ethernet: bool) -> Program {
    let mut p = Program::default();
    p.load(LOAD_BYTE, 9).must(IF_EQUAL, UDP);
    // Fragments: the first has the ports but not the whole packet, the others have no ports.
    p.load(LOAD_HALF, 6).must_not(IF_ANY_BIT, 0x3fff);
    if !ethernet {
        p.load(LOAD_WORD, 16);
        p.push(IF_EQUAL, 3, 0, u32::MAX).push(AND, 0, 0, 0xf000_0000).must(IF_EQUAL, 0xe000_0000);
    }
    p.load(LOAD_X_HEADER, 0).load(LOAD_HALF_AT_X, 2);
    p
}

/// The same; packets with extension headers are not looked into.
fn version_6(ethernet: bool) -> Program {
    let mut p = Program::default();
    p.must(IF_EQUAL, ETHERTYPE_V6);
    p.load(LOAD_BYTE, 6).must(IF_EQUAL, UDP);
    if !ethernet {
        p.load(LOAD_BYTE, 24).must(IF_EQUAL, 0xff);
    }
    p.load(LOAD_HALF, 42);
    p
}

#[derive(Default)]
struct Program(Vec<SockFilter>);

impl Program {
    fn push(&mut self, code: u16, if_true: u8, if_false: u8, k: u32) -> &mut Self {
        self.0.push(SockFilter::new(code, if_true, if_false, k));
        self
    }

    fn load(&mut self, code: u16, k: u32) -> &mut Self {
        self.push(code, 0, 0, k)
    }

    /// Drops the packet unless the test holds.
    fn must(&mut self, test: u16, k: u32) -> &mut Self {
        self.push(test, 1, 0, k).push(RETURN, 0, 0, 0)
    }

    /// Drops the packet when the test holds.
    fn must_not(&mut self, test: u16, k: u32) -> &mut Self {
        self.push(test, 0, 1, k).push(RETURN, 0, 0, 0)
    }

    fn append(&mut self, other: Self) -> &mut Self {
        self.0.extend(other.0);
        self
    }

    fn size(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

/// Ascending ranges that neither touch nor overlap.
fn merged(ports: &[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let mut sorted: Vec<_> = ports.iter().filter(|r| !r.is_empty()).cloned().collect();
    sorted.sort_by_key(|r| *r.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    if merged.len() > MOST_RANGES { vec![0..=u16::MAX] } else { merged }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_merged() {
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range must do no harm")]
        let ports = [9..=9, 1..=3, 4..=5, 2..=2, 7..=6, 65535..=65535, 60000..=65535];
        assert_eq!(merged(&ports), [1..=5, 9..=9, 60000..=65535]);
        let many: Vec<_> = (0..300u16).map(|n| n * 2..=n * 2).collect();
        assert_eq!(merged(&many), [0..=65535], "too many: every port");
    }
}
