use super::*;
use crate::wire::packet::{PacketView, fix_checksums, has_right_checksums, put, write_udp};
use proptest::prelude::*;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const URG: u8 = 0x20;

fn tcp(v4: bool, port: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let options = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7];
    let (ip, rest) = (if v4 { 20 } else { 40 }, 32 + payload.len());
    let mut p = vec![0; ip + rest];
    if v4 {
        put(&mut p, 0, &[0x45, 0]);
        put(&mut p, 2, &u16::try_from(ip + rest).unwrap().to_be_bytes());
        put(&mut p, 6, &[0x40, 0, 64, 6, 10, 77, 0, 1, 10, 77, 0, 2]);
    } else {
        put(&mut p, 0, &[0x60]);
        put(&mut p, 4, &u16::try_from(rest).unwrap().to_be_bytes());
        put(&mut p, 6, &[6, 64, 0xfd]);
        put(&mut p, 23, &[1, 0xfd]);
        put(&mut p, 39, &[2]);
    }
    put(&mut p, ip, &port.to_be_bytes());
    put(&mut p, ip + 2, &25565u16.to_be_bytes());
    put(&mut p, ip + 4, &sequence.to_be_bytes());
    put(&mut p, ip + 8, &[0, 0, 0, 5, 0x80, flags, 1, 0]);
    put(&mut p, ip + 20, &options);
    put(&mut p, ip + 32, payload);
    assert!(fix_checksums(&mut p));
    p
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut room = vec![0; 2048];
    let (from, to) = (([10, 77, 0, 1], port).into(), ([10, 77, 0, 2], 27960).into());
    let len = write_udp(&mut room, from, to, 64, payload).unwrap();
    room.truncate(len);
    room
}

/// What the device is asked to write for these packets.
fn merged(udp: bool, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut merge, mut writes) = (Merge::new(udp), Vec::new());
    for packet in packets {
        let mut framed = [&[0xee; VNET][..], packet].concat();
        merge.push(&mut framed, &mut |w| writes.push(w.to_vec()));
    }
    merge.flush(&mut |w| writes.push(w.to_vec()));
    assert!(merge.is_empty());
    writes
}

/// What another end of the same device would read.
fn cut(write: &[u8]) -> Vec<Vec<u8>> {
    let (header, packet) = write.split_first_chunk().unwrap();
    let mut packet = packet.to_vec();
    let Some(mut split) = Split::begin(*header, &mut packet).unwrap() else { return vec![packet] };
    let mut room = [0; 2048];
    std::iter::from_fn(|| split.next(&packet, &mut room).map(|len| room[..len].to_vec())).collect()
}

fn flow_of(packet: &[u8]) -> (u8, u16) {
    let view = PacketView::parse(packet).unwrap();
    (view.proto, view.src_port)
}

fn body(n: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| n.wrapping_add(u8::try_from(at % 251).unwrap())).collect()
}

#[test]
fn neighbours_of_a_connection_are_one_write_and_come_apart_again() {
    for v4 in [true, false] {
        let sizes = [1300, 1300, 1300, 1300, 700];
        let mut sequence = u32::MAX - 2000;
        let packets: Vec<Vec<u8>> = (0u8..)
            .zip(sizes)
            .map(|(n, len)| {
                let flags = if len == 700 { ACK | PSH } else { ACK };
                let packet = tcp(v4, 4000, sequence, flags, &body(n, len));
                sequence = sequence.wrapping_add(u32::try_from(len).unwrap());
                packet
            })
            .collect();
        let writes = merged(true, &packets);
        assert_eq!(writes.len(), 1);
        let header = Header::read(*writes[0].first_chunk().unwrap());
        let (ip, kind) = if v4 { (20, TCP_V4) } else { (40, TCP_V6) };
        let expected =
            Header { flags: NEEDS_CSUM, kind, headers: ip + 32, segment: 1300, sum_from: ip, sum_at: 16 };
        assert_eq!(header, expected);
        let again = cut(&writes[0]);
        for (n, (packet, was)) in again.iter().zip(&packets).enumerate() {
            assert!(has_right_checksums(&PacketView::parse(packet).unwrap()));
            let mut packet = packet.clone();
            if v4 {
                // Each segment has a number of its own; ours had none.
                assert_eq!(u16_at(&packet, 4), Some(u16::try_from(n).unwrap()));
                put(&mut packet, 4, &[0, 0]);
                fix_checksums(&mut packet);
            }
            assert_eq!(&packet, was);
        }
        assert_eq!(again.len(), packets.len());
    }
}

#[test]
fn what_the_kernel_left_to_us_is_counted() {
    for mut packet in [udp(9, b"who is there?"), tcp(true, 9, 1, SYN, b""), tcp(false, 9, 1, ACK, b"odd")] {
        let was = packet.clone();
        let view = PacketView::parse(&packet).unwrap();
        let (from, at, proto) = (view.transport_offset(), if view.proto == 17 { 6 } else { 16 }, view.proto);
        let v4 = view.src.is_ipv4();
        let rest = packet.len() - from;
        let sum = crate::wire::packet::pseudo_sum(&packet, v4, proto, rest);
        put(&mut packet, from + at, &sum.to_be_bytes());
        let short = |n: usize| u16::try_from(n).unwrap();
        let header =
            Header { flags: NEEDS_CSUM, sum_from: short(from), sum_at: short(at), ..Header::default() };
        assert!(Split::begin(header.write(), &mut packet).unwrap().is_none());
        assert_eq!(packet, was);
    }
}

#[test]
fn what_must_not_be_merged_is_not() {
    let a = tcp(true, 1, 100, ACK, &[1; 50]);
    let follows = |packet: Vec<u8>| merged(true, &[a.clone(), packet]).len() == 1;
    assert!(follows(tcp(true, 1, 150, ACK, &[2; 50])));
    assert!(follows(tcp(true, 1, 150, ACK, &[2; 49])));
    assert!(!follows(tcp(true, 1, 150, ACK, &[2; 51])), "longer than the one before");
    assert!(!follows(tcp(true, 1, 151, ACK, &[2; 50])), "a gap");
    assert!(!follows(tcp(true, 2, 150, ACK, &[2; 50])), "another connection");
    for flags in [ACK | FIN, ACK | RST, ACK | SYN, ACK | URG, ACK | CWR, ACK | 0x40] {
        assert!(!follows(tcp(true, 1, 150, flags, &[2; 50])), "{flags:#x}");
    }
    let changed = |at: usize, value: u8| {
        let mut packet = tcp(true, 1, 150, ACK, &[2; 50]);
        packet[at] = value;
        fix_checksums(&mut packet);
        packet
    };
    for (at, what) in
        [(1, "service"), (6, "may be cut"), (8, "TTL"), (31, "acknowledgement"), (34, "window"), (50, "time")]
    {
        assert!(!follows(changed(at, 0x11)), "{what}");
    }
    let mut wrong = tcp(true, 1, 150, ACK, &[2; 50]);
    wrong[60] ^= 1;
    assert_eq!(merged(true, &[a.clone(), wrong.clone()])[1][VNET..], wrong, "a broken packet stays as it is");
    let after_wrong = merged(true, &[wrong.clone(), tcp(true, 1, 200, ACK, &[3; 50])]);
    assert_eq!(after_wrong.len(), 2);
    let mut unsummed = udp(3, &[1; 80]);
    put(&mut unsummed, 26, &[0, 0]);
    assert_eq!(merged(true, &[unsummed.clone(), unsummed]).len(), 2, "UDP without a checksum");
    assert_eq!(merged(false, &[udp(3, &[1; 80]), udp(3, &[2; 80])]).len(), 2, "a system without merged UDP");
    assert_eq!(merged(true, &[udp(3, &[1; 80]), udp(3, &[2; 80])]).len(), 1);
}

#[test]
fn a_packet_that_ends_a_burst_waits_for_nothing() {
    let (mut merge, mut writes) = (Merge::new(true), 0);
    let mut push = |packet: Vec<u8>| {
        let mut framed = [&[0; VNET][..], &packet].concat();
        merge.push(&mut framed, &mut |_| writes += 1);
        writes
    };
    assert_eq!(push(tcp(true, 1, 0, ACK | PSH, b"a word")), 1, "alone and pushed");
    assert_eq!(push(tcp(true, 1, 6, ACK, &[])), 2, "an acknowledgement");
    assert_eq!(push(tcp(true, 1, 6, ACK, &[1; 90])), 2);
    assert_eq!(push(tcp(true, 1, 96, ACK, &[1; 90])), 2);
    assert_eq!(push(tcp(true, 1, 186, ACK, &[1; 20])), 3, "the short one is the last");
    assert_eq!(push(tcp(true, 1, 206, ACK, &[1; 90])), 3);
    assert_eq!(push(tcp(true, 1, 296, ACK | FIN, &[])), 5, "and an end does not overtake");
}

#[test]
fn reads_that_contradict_themselves_are_refused() {
    let packet = tcp(true, 1, 0, ACK, &[1; 500]);
    let good = Header { kind: TCP_V4, segment: 100, ..Header::default() };
    let begin = |header: Header, packet: &[u8]| Split::begin(header.write(), &mut packet.to_vec());
    assert!(begin(good, &packet).unwrap().is_some());
    assert!(begin(Header { kind: TCP_V4 | ECN, ..good }, &packet).unwrap().is_some());
    for kind in [TCP_V6, UDP, 2, 3, 77] {
        assert!(begin(Header { kind, ..good }, &packet).is_err(), "{kind}");
    }
    assert!(begin(Header { segment: 0, ..good }, &packet).is_err());
    assert!(begin(good, &tcp(true, 1, 0, ACK, &[])).is_err());
    assert!(begin(good, &packet[..30]).is_err());
    assert!(begin(Header { flags: NEEDS_CSUM, sum_from: 600, ..Header::default() }, &packet).is_err());
    let header = Header { flags: NEEDS_CSUM, sum_from: 20, sum_at: u16::MAX, ..Header::default() };
    assert!(begin(header, &packet).is_err());
}

proptest! {
    #[test]
    fn whatever_is_merged_comes_apart_as_the_same_packets_in_order(
        steps in prop::collection::vec((0u8..6, 0usize..4, any::<bool>()), 1..200),
    ) {
        let mut sequences = [0u32; 3];
        let mut packets = Vec::new();
        for (n, (kind, size, pushed)) in steps.into_iter().enumerate() {
            let len = [0, 60, 60, 1300][size];
            let body = body(u8::try_from(n % 256).unwrap(), len);
            let flags = if pushed && size == 3 { ACK | PSH } else { ACK };
            packets.push(match kind {
                0..=2 => {
                    let at = &mut sequences[usize::from(kind)];
                    let sequence = *at;
                    *at = at.wrapping_add(u32::try_from(len).unwrap());
                    tcp(kind != 1, 100 + u16::from(kind), sequence, flags, &body)
                }
                kind => udp(200 + u16::from(kind), &body),
            });
        }
        let mut writes = Vec::new();
        for write in merged(true, &packets) {
            prop_assert!(write.len() <= VNET + LARGEST);
            writes.extend(cut(&write));
        }
        prop_assert_eq!(writes.len(), packets.len());
        for flow in packets.iter().map(|p| flow_of(p)) {
            let of = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                let all = all.iter().filter(|p| flow_of(p) == flow);
                all.map(|p| PacketView::parse(p).unwrap().payload().to_vec()).collect()
            };
            prop_assert_eq!(of(&writes), of(&packets));
        }
        for packet in &writes {
            prop_assert!(has_right_checksums(&PacketView::parse(packet).unwrap()));
        }
    }

    #[test]
    fn no_read_breaks_anything(header in any::<[u8; VNET]>(), packet in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut packet = packet;
        if let Ok(Some(mut split)) = Split::begin(header, &mut packet) {
            let mut room = [0; 2048];
            while split.next(&packet, &mut room).is_some() {}
        }
        let mut framed = [&header[..], &packet].concat();
        let mut merge = Merge::new(true);
        merge.push(&mut framed, &mut |_| {});
        merge.flush(&mut |_| {});
    }
}
