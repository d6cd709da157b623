//! Time-limited credentials of a relay: the shared-secret scheme that coturn calls `use-auth-secret`, with a tag that says
//! for whom they are.
//!
//! ```text
//! username = <Unix second of expiry> ":" <tag>
//! password = base64(HMAC-SHA1(secret, username))
//! tag      = base32(party, 10 bytes | peer, 10 bytes | seal, 8 bytes)
//! seal     = the first 8 bytes of HMAC-SHA256(secret, "lanrage relay tag v1" | party | peer)
//! ```
//!
//! Whoever knows the secret makes them, a relay with the same secret checks them, and nothing is stored. The password alone
//! proves that the holder of the secret made the pair; the seal is for secrets that are shared with other programs (a web page
//! that mints credentials for coturn, say): a user name of their making names no party, and so it cannot claim one's share.

use crate::model::id::{PartyId, PeerId};
use crate::model::text;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroize;

/// The longest secret; RFC 2104 gains nothing above a block.
const SECRET_BYTES: usize = 256;
const SEAL_BYTES: usize = 8;
const TAG_BYTES: usize = 10 + 10 + SEAL_BYTES;
const TAG_DOMAIN: &[u8] = b"lanrage relay tag v1";

/// The secret that a relay and whoever mints its credentials share.
#[derive(Clone)]
pub struct RelaySecret(Vec<u8>);

impl Drop for RelaySecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for RelaySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RelaySecret(..)")
    }
}

/// Whom credentials are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearer {
    /// Of which party.
    pub party: PartyId,
    /// Which peer.
    pub peer: PeerId,
}

/// A user name that this secret's holder may have made; only the password proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// For whom.
    pub bearer: Bearer,
    /// Until when, in Unix seconds.
    pub expires: u64,
}

/// Why a user name opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not of this form.
    #[error("not a user name of this relay")]
    Form,
    /// The seal does not fit.
    #[error("the user name was not made with this relay's secret")]
    Seal,
    /// Its time is over.
    #[error("the credentials have expired")]
    Expired,
}

impl RelaySecret {
    /// A secret from its bytes; longer ones are cut.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.iter().copied().take(SECRET_BYTES).collect())
    }

    /// User name and password for this bearer until this Unix second.
    #[must_use]
    pub fn mint(&self, bearer: Bearer, expires: u64) -> (String, String) {
        let username = format!("{expires}:{}", self.tag(bearer));
        let password = self.password(&username);
        (username, password)
    }

    /// The part of the user name that says for whom it is.
    #[must_use]
    pub fn tag(&self, bearer: Bearer) -> String {
        let mut bytes = Vec::with_capacity(TAG_BYTES);
        bytes.extend_from_slice(&bearer.party.0);
        bytes.extend_from_slice(&bearer.peer.0);
        bytes.extend_from_slice(&self.seal(bearer));
        text::encode(&bytes)
    }

    /// Reads a user name: for whom it claims to be, when it is of this secret's making and still valid at `unix` seconds.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn read(&self, username: &str, unix: u64) -> Result<Claim, CredentialError> {
        let (expires, tag) = username.split_once(':').ok_or(CredentialError::Form)?;
        // `parse` would take a sign, and one text per credential is enough.
        if expires.is_empty() || expires.len() > 20 || !expires.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CredentialError::Form);
        }
        let expires: u64 = expires.parse().map_err(|_| CredentialError::Form)?;
        if tag.len() != TAG_CHARS {
            return Err(CredentialError::Form);
        }
        let bytes = text::decode(tag).map_err(|_| CredentialError::Form)?;
        let (party, rest) = bytes.split_first_chunk::<10>().ok_or(CredentialError::Form)?;
        let (peer, seal) = rest.split_first_chunk::<10>().ok_or(CredentialError::Form)?;
        let bearer = Bearer { party: PartyId(*party), peer: PeerId(*peer) };
        if !equal(&self.seal(bearer), seal) {
            return Err(CredentialError::Seal);
        }
        if expires <= unix {
            return Err(CredentialError::Expired);
        }
        Ok(Claim { bearer, expires })
    }

    /// The password of a user name.
    #[must_use]
    pub fn password(&self, username: &str) -> String {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(username.as_bytes());
        base64(&mac.finalize().into_bytes())
    }

    fn seal(&self, bearer: Bearer) -> [u8; SEAL_BYTES] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(TAG_DOMAIN);
        mac.update(&bearer.party.0);
        mac.update(&bearer.peer.0);
        let mut seal = [0; SEAL_BYTES];
        seal.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        seal
    }
}

const TAG_CHARS: usize = (TAG_BYTES * 8).div_ceil(5);

/// Whether two texts of bytes are the same, in a time that depends on their length only.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0, |acc, b| (acc << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let six = (group >> (18 - 6 * at)) & 63;
            let letter = ALPHABET.get(six as usize).copied().map_or('=', char::from);
            out.push(if at > chunk.len() { '=' } else { letter });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn secret() -> RelaySecret {
        RelaySecret::new(b"north")
    }

    fn bearer() -> Bearer {
        Bearer { party: PartyId([1; 10]), peer: PeerId([2; 10]) }
    }

    #[test]
    fn the_password_is_that_of_coturns_scheme() {
        // printf '1800000000:lab' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(secret().password("1800000000:lab"), "3XsUPhw6y2WtnC1+NMhnChAFoYY=");
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("\u{7f}", "fw=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded, "RFC 4648, section 10");
        }
    }

    #[test]
    fn what_was_minted_is_read_until_it_expires() {
        let (username, password) = secret().mint(bearer(), NOW + 10);
        assert_eq!(secret().password(&username), password);
        assert_eq!(secret().read(&username, NOW + 9), Ok(Claim { bearer: bearer(), expires: NOW + 10 }));
        assert_eq!(secret().read(&username, NOW + 10), Err(CredentialError::Expired));
    }

    #[test]
    fn another_party_peer_or_secret_does_not_fit_the_seal() {
        let tag = secret().tag(bearer());
        let other = RelaySecret::new(b"south");
        assert_eq!(other.read(&format!("{}:{tag}", NOW + 1), NOW), Err(CredentialError::Seal));
        assert_ne!(other.password("1:x"), secret().password("1:x"));
        for at in 0..tag.len() {
            let mut letters: Vec<char> = tag.chars().collect();
            letters[at] = if letters[at] == '0' { 'g' } else { '0' };
            let forged: String = letters.into_iter().collect();
            assert!(secret().read(&format!("{}:{forged}", NOW + 1), NOW).is_err(), "{forged}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        let tag = secret().tag(bearer());
        for name in [
            "".into(),
            ":".into(),
            tag.clone(),
            format!(":{tag}"),
            format!("+9:{tag}"),
            format!("9:{tag}0"),
            "9:x".into(),
        ] {
            assert_eq!(secret().read(&name, 1), Err(CredentialError::Form), "{name}");
        }
        assert_eq!(secret().read(&format!("99999999999999999999:{tag}"), 1), Err(CredentialError::Form));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_opens(name in ".{0,80}") {
            prop_assert!(secret().read(&name, 0).is_err());
        }
    }
}
