//! Which addresses are of the internet, and not such that only somebody inside a network of his own could reach (RFC 8656,
//! section 21.3.2 and RFC 6890). A relay that forwards to `127.0.0.1` or to `10.0.0.0/8` is a door into whatever trusts
//! these, and so is a peer that probes whatever address it is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is of the internet. IPv6 addresses that carry an IPv4 one are judged by that.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(a: Ipv4Addr) -> bool {
    let [first, second, third, _] = a.octets();
    let refused = a.is_private()
        || a.is_loopback()
        || a.is_link_local()
        || first == 0
        // Multicast, the former class E, broadcast.
        || first >= 224
        // Carrier-grade NAT (RFC 6598), protocol assignments, benchmarks (RFC 2544), documentation (RFC 5737).
        || (first == 100 && second & 0xc0 == 64)
        || (first == 192 && second == 0 && (third == 0 || third == 2))
        || (first == 198 && second & 0xfe == 18)
        || (first == 198 && second == 51 && third == 100)
        || (first == 203 && second == 0 && third == 113);
    !refused
}

fn is_public_v6(a: Ipv6Addr) -> bool {
    let s = a.segments();
    let [first, second, third, ..] = s;
    let embedded =
        |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    let [.., high, low] = s;
    match first {
        // NAT64 (RFC 6052): the translator would send to the embedded address. The local-use prefix of RFC 8215 never.
        0x0064 => s.starts_with(&[0x64, 0xff9b, 0, 0, 0, 0]) && embedded(high, low),
        // 6to4 (RFC 3056).
        0x2002 => embedded(second, third),
        // Teredo, ORCHID and other protocol assignments (2001::/23), documentation.
        0x2001 => second >= 0x200 && second != 0xdb8,
        // Documentation (RFC 9637).
        0x3fff => second & 0xf000 != 0,
        // Global unicast is 2000::/3: loopback, mapped, unique local, link-local and multicast lie outside.
        _ => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &str, wanted: bool) {
        for text in texts.split_whitespace() {
            assert_eq!(is_public(text.parse().unwrap()), wanted, "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_peers() {
        all(
            "1.1.1.1 11.0.2.2 100.63.0.1 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 198.20.0.1 223.255.255.1",
            true,
        );
        all(
            "2a00:1450::1 2606:4700::1 2001:4860:4860::8888 2a0f:1:2::10 64:ff9b::101:101 2002:101:101::1",
            true,
        );
    }

    #[test]
    fn addresses_of_somebodys_inside_are_not() {
        all(
            "0.0.0.0 0.1.2.3 10.1.1.1 100.64.0.1 100.127.0.1 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 172.31.0.1",
            false,
        );
        all(
            "192.0.0.8 192.0.2.1 192.168.1.1 198.18.0.1 198.19.0.1 198.51.100.1 203.0.113.1 224.0.0.251 240.0.0.1 255.255.255.255",
            false,
        );
        all(
            ":: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::7f00:1 fe80::1 fc00::1 fd12::1 ff02::fb 100::1 2001::1 2001:db8::1 3fff::1",
            false,
        );
        all(
            "64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::101:101 2002:7f00:1::1 2002:c0a8:101::1 4000::1",
            false,
        );
    }
}
