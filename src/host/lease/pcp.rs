//! PCP (RFC 6887): the MAP request for a UDP port and its answer. Pure; whatever the router sends is hostile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// What makes a mapping ours: only who knows it may renew it or give it back (section 11.1).
pub(super) type Nonce = [u8; 12];

/// Header (24) and MAP data (36).
pub(super) const REQUEST: usize = 60;
const VERSION: u8 = 2;
const MAP: u8 = 1;
const ANNOUNCE: u8 = 0;
const UDP: u8 = 17;
const ANSWER: u8 = 0x80;

/// What a router says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A port is forwarded, or, with a lifetime of zero, not any more.
    Mapped { nonce: Nonce, inside: u16, outside: SocketAddr, lifetime: Duration, epoch: u32 },
    /// It will not; the code of section 7.4.
    Refused { nonce: Nonce, code: u8 },
    /// It speaks NAT-PMP or something else.
    OtherVersion,
}

/// Asks for a UDP port of this computer, from `client`, whose address the packet must come from.
pub(super) fn ask_map(
    client: Ipv4Addr,
    nonce: &Nonce,
    inside: u16,
    outside: u16,
    seconds: u32,
) -> [u8; REQUEST] {
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend([VERSION, MAP, 0, 0]);
    bytes.extend(seconds.to_be_bytes());
    bytes.extend(client.to_ipv6_mapped().octets());
    bytes.extend(nonce);
    bytes.extend([UDP, 0, 0, 0]);
    bytes.extend(inside.to_be_bytes());
    bytes.extend(outside.to_be_bytes());
    // No wish for an outside address, but one of IPv4 (section 11.1: the all-zeros one of the family).
    bytes.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    bytes.try_into().expect("4 + 4 + 16 + 12 + 4 + 2 + 2 + 16 = 60")
}

/// Reads an answer to that.
pub(super) fn read(bytes: &[u8]) -> Option<Answer> {
    let (head, rest) = bytes.split_first_chunk::<24>()?;
    let [version, op, _, code, l0, l1, l2, l3, e0, e1, e2, e3, ..] = *head;
    if op & ANSWER == 0 {
        return None;
    }
    if version != VERSION {
        return Some(Answer::OtherVersion);
    }
    if op != ANSWER | MAP {
        return None;
    }
    let (nonce, rest) = rest.split_first_chunk::<12>()?;
    if code != 0 {
        return Some(Answer::Refused { nonce: *nonce, code });
    }
    let ([UDP, _, _, _, i0, i1, o0, o1], rest) = rest.split_first_chunk::<8>()? else { return None };
    let ip = match Ipv6Addr::from(*rest.first_chunk::<16>()?) {
        v6 if v6.to_ipv4_mapped().is_none() => IpAddr::V6(v6),
        v6 => v6.to_canonical(),
    };
    Some(Answer::Mapped {
        nonce: *nonce,
        inside: u16::from_be_bytes([*i0, *i1]),
        outside: SocketAddr::new(ip, u16::from_be_bytes([*o0, *o1])),
        lifetime: Duration::from_secs(u32::from_be_bytes([l0, l1, l2, l3]).into()),
        epoch: u32::from_be_bytes([e0, e1, e2, e3]),
    })
}

/// What a short answer of eight bytes is: NAT-PMP's "another version" (RFC 6887, appendix A).
pub(super) const fn is_other_version(bytes: &[u8]) -> bool {
    matches!(bytes, [0, op, 0, 1, ..] if *op & ANSWER != 0)
}

/// The epoch of an unasked announcement that the router restarted (section 14.1.3).
pub(super) fn read_announcement(bytes: &[u8]) -> Option<u32> {
    let [VERSION, op, _, 0, _, _, _, _, e0, e1, e2, e3, ..] = *bytes.first_chunk::<24>()? else {
        return None;
    };
    (op == ANSWER | ANNOUNCE).then_some(u32::from_be_bytes([e0, e1, e2, e3]))
}

/// What a refusal means (section 7.4).
pub(super) const fn meaning(code: u8) -> &'static str {
    match code {
        1 => "another version",
        2 => "it is switched off on the router, or another program has the port",
        4 | 5 | 9 => "not offered",
        7 => "the router has no internet address",
        8 | 10 => "the router has no port or no internet address to give",
        11 => "the outside port is taken",
        12 => "another router stands between",
        _ => "no reason given",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: Nonce = [7; 12];

    fn answer(code: u8) -> Vec<u8> {
        let mut bytes = vec![2, 0x81, 0, code];
        bytes.extend(120u32.to_be_bytes());
        bytes.extend(99u32.to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend(NONCE);
        bytes.extend([17, 0, 0, 0, 0x12, 0x34, 0x9c, 0x40]);
        bytes.extend(Ipv4Addr::new(203, 0, 113, 9).to_ipv6_mapped().octets());
        bytes
    }

    #[test]
    fn requests_and_answers_are_those_of_the_rfc() {
        let request = ask_map(Ipv4Addr::new(192, 168, 1, 5), &NONCE, 0x1234, 0x5678, 7200);
        assert_eq!(request[..8], [2, 1, 0, 0, 0, 0, 0x1c, 0x20]);
        assert_eq!(request[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 5]);
        assert_eq!(request[24..36], NONCE);
        assert_eq!(request[36..44], [17, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]);
        assert_eq!(request[44..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        let lifetime = Duration::from_secs(120);
        let outside = "203.0.113.9:40000".parse().unwrap();
        let mapped = Answer::Mapped { nonce: NONCE, inside: 0x1234, outside, lifetime, epoch: 99 };
        assert_eq!(read(&answer(0)), Some(mapped));
        assert_eq!(read(&answer(2)), Some(Answer::Refused { nonce: NONCE, code: 2 }));
        assert_eq!(read(&answer(0)[..59]), None, "cut short");
        assert_eq!(read(&request), None, "a request is no answer");
        let mut other = answer(0);
        other[0] = 1;
        assert_eq!(read(&other), Some(Answer::OtherVersion));
        assert!(is_other_version(&[0, 129, 0, 1, 0, 0, 0, 9]) && !is_other_version(&answer(1)));
    }

    #[test]
    fn announcements_are_told_from_answers() {
        let mut bytes = answer(0);
        assert_eq!(read_announcement(&bytes), None);
        bytes[1] = 0x80;
        assert_eq!(read_announcement(&bytes[..24]), Some(99));
        assert_eq!(read(&bytes), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), shaped: bool) {
            let mut bytes = bytes;
            if let (true, [first, second, ..]) = (shaped, bytes.as_mut_slice()) {
                (*first, *second) = (2, 0x81);
            }
            if let Some(Answer::Refused { code, .. }) = read(&bytes) {
                prop_assert!(!meaning(code).is_empty());
            }
            let _ = (read_announcement(&bytes), is_other_version(&bytes));
        }
    }
}
