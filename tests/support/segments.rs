//! Segments of one TCP connection, as the tunnel device of Linux reads and writes them: for tests and benches.
#![allow(dead_code, unreachable_pub, reason = "every test takes what it needs")]

use lanrage::wire::offload::{LARGEST, Merge, VNET};
use lanrage::wire::packet::fix_checksums;

/// Payload of each segment: a packet of 1,280 bytes, which any path takes.
pub const SEGMENT: usize = 1280 - HEADERS;
/// IPv4, and TCP with its times.
pub const HEADERS: usize = 52;
/// How many of them are one packet of 64 KiB.
pub const SEGMENTS: usize = (LARGEST - HEADERS) / SEGMENT;

/// The `n`th segment, behind the room for the device's header.
pub fn framed(n: usize) -> Vec<u8> {
    let mut framed = vec![7; VNET + HEADERS + SEGMENT];
    let sequence = u32::try_from(n * SEGMENT).expect("a few segments");
    let packet = framed.get_mut(VNET..).expect("the header's room");
    let mut put = |at: usize, bytes: &[u8]| {
        packet.get_mut(at..at + bytes.len()).expect("in the headers").copy_from_slice(bytes);
    };
    put(0, &[0x45, 0]);
    put(2, &u16::try_from(HEADERS + SEGMENT).expect("short").to_be_bytes());
    put(4, &[0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2]);
    put(20, &4000u16.to_be_bytes());
    put(22, &25565u16.to_be_bytes());
    put(24, &sequence.to_be_bytes());
    put(28, &[0, 0, 0, 5, 0x80, 0x10, 1, 0, 0, 0, 0, 0]);
    put(40, &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7]);
    assert!(fix_checksums(packet));
    framed
}

/// 64 KiB of the connection as one read of the device: its header, then the packet.
pub fn read() -> ([u8; VNET], Vec<u8>) {
    let (mut merge, mut writes) = (Merge::new(true), Vec::new());
    for n in 0..SEGMENTS {
        merge.push(&mut framed(n), &mut |write| writes.push(write.to_vec()));
    }
    merge.flush(&mut |write| writes.push(write.to_vec()));
    assert_eq!(writes.len(), 1);
    let write = writes.pop().expect("one");
    let (header, packet) = write.split_first_chunk().expect("a header");
    (*header, packet.to_vec())
}
