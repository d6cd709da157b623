//! NAT-PMP (RFC 6886): the few bytes of its requests and answers. Pure; whatever the router sends is hostile.

use std::net::Ipv4Addr;
use std::time::Duration;

/// The router's port; clients hear announcements on the one before.
pub(super) const PORT: u16 = 5351;
/// Where routers say that they forgot everything.
pub(super) const NEWS_PORT: u16 = 5350;
/// All hosts of the network; everybody is a member.
pub(super) const NEWS_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// "Map a UDP port".
const MAP_UDP: u8 = 1;
const ANSWER: u8 = 128;

/// What a router says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its outside address.
    Address { ip: Ipv4Addr, epoch: u32 },
    /// A port is forwarded, or, with a lifetime of zero, not any more.
    Mapped { inside: u16, outside: u16, lifetime: Duration, epoch: u32 },
    /// It will not; the code of section 3.5.
    Refused { code: u16 },
}

/// Asks for the outside address.
pub(super) const fn ask_address() -> [u8; 2] {
    [0, 0]
}

/// Asks for a UDP port; `seconds` of zero with an `outside` of zero gives it back (section 3.4).
pub(super) const fn ask_map(inside: u16, outside: u16, seconds: u32) -> [u8; 12] {
    let ([a, b], [c, d]) = (inside.to_be_bytes(), outside.to_be_bytes());
    let [e, f, g, h] = seconds.to_be_bytes();
    [0, MAP_UDP, 0, 0, a, b, c, d, e, f, g, h]
}

/// Reads an answer to one of the two.
pub(super) fn read(bytes: &[u8]) -> Option<Answer> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let [0, op, c0, c1, e0, e1, e2, e3] = *head else { return None };
    let (code, epoch) = (u16::from_be_bytes([c0, c1]), u32::from_be_bytes([e0, e1, e2, e3]));
    let op = op.checked_sub(ANSWER).filter(|op| *op <= MAP_UDP)?;
    if code != 0 {
        return Some(Answer::Refused { code });
    }
    if op == MAP_UDP {
        let [a, b, c, d, s0, s1, s2, s3] = *rest.first_chunk()?;
        return Some(Answer::Mapped {
            inside: u16::from_be_bytes([a, b]),
            outside: u16::from_be_bytes([c, d]),
            lifetime: Duration::from_secs(u32::from_be_bytes([s0, s1, s2, s3]).into()),
            epoch,
        });
    }
    Some(Answer::Address { ip: Ipv4Addr::from(*rest.first_chunk::<4>()?), epoch })
}

/// What a refusal means (section 3.5).
pub(super) const fn meaning(code: u16) -> &'static str {
    match code {
        1 => "another version",
        2 => "it is switched off on the router",
        3 => "the router has no internet address",
        4 => "the router has no port left",
        5 => "not offered",
        _ => "no reason given",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_and_answers_are_those_of_the_rfc() {
        assert_eq!(ask_map(0x1234, 0x5678, 7200), [0, 1, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x1c, 0x20]);
        let mapped = [0, 129, 0, 0, 0, 0, 1, 0, 0x12, 0x34, 0x9c, 0x40, 0, 0, 0x1c, 0x20];
        let lifetime = Duration::from_secs(7200);
        assert_eq!(
            read(&mapped),
            Some(Answer::Mapped { inside: 0x1234, outside: 40000, lifetime, epoch: 256 })
        );
        let ip = Ipv4Addr::new(203, 0, 113, 9);
        assert_eq!(read(&[0, 128, 0, 0, 0, 0, 0, 5, 203, 0, 113, 9]), Some(Answer::Address { ip, epoch: 5 }));
        assert_eq!(read(&[0, 129, 0, 2, 0, 0, 0, 5]), Some(Answer::Refused { code: 2 }));
        assert_eq!(read(&mapped[..15]), None, "cut short");
        assert_eq!(read(&[2, 129, 0, 0, 0, 0, 0, 5, 203, 0, 113, 9]), None, "another version");
        assert_eq!(read(&[0, 1, 0, 0, 0, 0, 0, 5, 203, 0, 113, 9]), None, "a request");
        assert_eq!(read(&[0, 130, 0, 0, 0, 0, 0, 5, 203, 0, 113, 9]), None, "about TCP");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(Answer::Refused { code }) = read(&bytes) {
                prop_assert!(!meaning(code).is_empty());
            }
        }
    }
}
