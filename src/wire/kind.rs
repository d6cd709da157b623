//! What a datagram on the tunnel's socket is, by its first bytes (in the manner of RFC 7983).

/// The kinds that share the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A WireGuard message: type 1 to 4 and three zero bytes.
    WireGuard,
    /// STUN (RFC 8489): two zero bits and the magic cookie.
    Stun,
    /// TURN ChannelData (RFC 8656, section 12.4): 0x40 to 0x4f.
    Channel,
    /// A knock (`wire::knock`): 0xb5 and three letters, in the range that RFC 7983 leaves to RTP, which never comes here.
    Knock,
    /// Anything else: dropped and counted.
    Unknown,
}

impl Kind {
    /// Looks at the first bytes only.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Self {
        match datagram {
            [1..=4, 0, 0, 0, ..] => Self::WireGuard,
            [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..] if datagram.len() >= 20 => Self::Stun,
            [0x40..=0x4f, _, _, _, ..] => Self::Channel,
            [0xb5, b'l', b'r', b'k', ..] => Self::Knock,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_do_not_overlap() {
        assert_eq!(Kind::of(&[1, 0, 0, 0, 9]), Kind::WireGuard);
        assert_eq!(Kind::of(&[4, 0, 0, 0]), Kind::WireGuard);
        assert_eq!(Kind::of(&[4, 0, 0, 1]), Kind::Unknown);
        let mut stun = [0u8; 20];
        stun[1] = 1;
        stun[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(Kind::of(&stun), Kind::Stun);
        assert_eq!(Kind::of(&stun[..19]), Kind::Unknown);
        assert_eq!(Kind::of(&[0x40, 0, 0, 0]), Kind::Channel);
        assert_eq!(Kind::of(b"\xb5lrk"), Kind::Knock);
        assert_eq!(Kind::of(b"\xb5lrx"), Kind::Unknown);
        assert_eq!(Kind::of(&[]), Kind::Unknown);
    }
}
