//! Nonces without memory: each names the minute it was made in and proves, with a keyed hash over that and the client's
//! address, that it was made here for whoever sends it (RFC 8489, section 9.2.4: a server may check nonces however it likes).
//! A flood of requests without credentials therefore leaves nothing behind.
//!
//! Twelve characters: short, because the answer that carries it goes to addresses nobody has proved.

use super::Client;
use crate::model::text::{char_of, value_of};
use crate::model::time::Mono;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::Duration;

/// A nonce works for this long: as long as an allocation lives without a refresh.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);
/// Characters: four for the time (20 bits of minutes are two years, then they begin anew), eight (40 bits) for the proof.
pub(super) const CHARS: usize = 12;
const TIME_CHARS: usize = 4;
const TIME_MASK: u64 = (1 << (5 * TIME_CHARS)) - 1;
const UNIT: Duration = Duration::from_secs(60);

/// A nonce as text.
pub(super) type Nonce = [u8; CHARS];

/// The key that makes them; fresh at each start, so that a restart ends all nonces (clients then get 438 and a new one).
#[derive(Clone)]
pub(super) struct Mint([u8; 32]);

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mint(..)")
    }
}

impl Mint {
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// A nonce for this client.
    pub(super) fn make(&self, client: &Client, now: Mono) -> Nonce {
        self.of(client, unit(now))
    }

    /// Whether this nonce was made here, for this client, and not too long ago.
    pub(super) fn accepts(&self, nonce: &str, client: &Client, now: Mono) -> bool {
        if nonce.len() != CHARS {
            return false;
        }
        let mut made = 0;
        for c in nonce.chars().take(TIME_CHARS) {
            let Some(value) = value_of(c) else { return false };
            made = made << 5 | u64::from(value);
        }
        let age = unit(now).wrapping_sub(made) & TIME_MASK;
        let right = self.of(client, made);
        // In a time that does not depend on where the first difference is.
        let differ = right.iter().zip(nonce.bytes()).fold(0, |d, (a, b)| d | (a ^ b));
        differ == 0 && age <= LIFETIME.as_secs() / UNIT.as_secs()
    }

    fn of(&self, client: &Client, unit: u64) -> Nonce {
        let unit = unit & TIME_MASK;
        let mut hash = Sha256::new().chain_update(self.0).chain_update(unit.to_be_bytes());
        for end in [client.addr, client.server] {
            match end.ip() {
                IpAddr::V4(v4) => hash.update(v4.to_ipv6_mapped().octets()),
                IpAddr::V6(v6) => hash.update(v6.octets()),
            }
            hash.update(end.port().to_be_bytes());
        }
        hash.update([u8::from(client.stream.is_some())]);
        let proof = hash.finalize();
        let mut nonce = [b'0'; CHARS];
        for (at, to) in nonce.iter_mut().enumerate() {
            let value = match at.checked_sub(TIME_CHARS) {
                None => (unit >> (5 * (TIME_CHARS - 1 - at)) & 31).to_be_bytes()[7],
                Some(at) => proof.get(at).copied().unwrap_or_default(),
            };
            *to = u8::try_from(char_of(value & 31)).unwrap_or(b'0');
        }
        nonce
    }
}

fn unit(now: Mono) -> u64 {
    now.0.as_secs() / UNIT.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(addr: &str) -> Client {
        Client { addr: addr.parse().unwrap(), server: "192.0.2.1:3478".parse().unwrap(), stream: None }
    }

    fn text(nonce: Nonce) -> String {
        String::from_utf8(nonce.to_vec()).unwrap()
    }

    #[test]
    fn a_nonce_is_for_one_client_and_some_minutes() {
        let mint = Mint::new([7; 32]);
        let (ana, bob) = (client("198.51.100.1:5000"), client("198.51.100.1:5001"));
        let start = Mono(Duration::from_secs(90));
        let nonce = text(mint.make(&ana, start));
        assert!(mint.accepts(&nonce, &ana, start + Duration::from_secs(590)));
        assert!(!mint.accepts(&nonce, &ana, start + LIFETIME + UNIT));
        assert!(!mint.accepts(&nonce, &bob, start), "another port");
        let moved = Client { server: "192.0.2.2:3478".parse().unwrap(), ..ana };
        assert!(!mint.accepts(&nonce, &moved, start), "another address of the server");
        assert!(!Mint::new([8; 32]).accepts(&nonce, &ana, start), "another server");
    }

    #[test]
    fn time_that_went_round_or_lies_ahead_is_no_nonce() {
        let mint = Mint::new([7; 32]);
        let ana = client("[2001:db8::1]:5000");
        let late = Mono(UNIT * 100);
        let ahead = text(mint.make(&ana, late + UNIT * 2));
        assert!(!mint.accepts(&ahead, &ana, late));
        for bad in ["", "0", "0123456789ab", "ÄÄÄÄÄÄ", "uuuuuuuuuuuu"] {
            assert!(!mint.accepts(bad, &ana, late), "{bad}");
        }
    }

    #[test]
    fn every_changed_letter_spoils_it() {
        let mint = Mint::new([7; 32]);
        let ana = client("198.51.100.1:5000");
        let nonce = mint.make(&ana, Mono::ZERO);
        for at in 0..CHARS {
            let mut forged = nonce;
            forged[at] = if forged[at] == b'x' { b'y' } else { b'x' };
            assert!(!mint.accepts(&text(forged), &ana, Mono::ZERO));
        }
    }
}
