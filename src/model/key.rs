//! Keys: a node's own, a party's, and what is made of them. No secret shows in `Debug`, all are wiped on drop.
//!
//! A node has one 32-byte secret. From it comes an Ed25519 signing key (its identity); the X25519 tunnel key (WireGuard's
//! static key) is the same key in Montgomery form, so that an identity proves whose tunnel key it is. A party has a 128-bit secret per epoch; from it come the sealing key of peer records, the
//! base of the tunnels' pre-shared keys, and a membership signing key whose public half is all that a control server
//! ever sees. Derivation is HKDF-SHA256 (RFC 5869), signatures Ed25519 (RFC 8032), sealing XChaCha20-Poly1305.

use super::id::{PartyId, PeerId};
use super::text::byte_text;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A peer's identity: its Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub [u8; 32]);
byte_text!(PeerKey, 32);

/// A peer's WireGuard static public key (X25519).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelKey(pub [u8; 32]);
byte_text!(TunnelKey, 32);

/// The public half of a party's membership key; proves nothing but "knows the party's secret of this epoch".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey(pub [u8; 32]);
byte_text!(MemberKey, 32);

/// An Ed25519 signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);
byte_text!(Signature, 64);

/// A WireGuard pre-shared key.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Psk(pub [u8; 32]);

impl std::fmt::Debug for Psk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Psk(..)")
    }
}

fn derive<const N: usize>(salt: &[u8], secret: &[u8], label: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand_multi_info(label, &mut out)
        .expect("N is far below HKDF's limit of 255 hashes");
    out
}

fn verify(key: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else {
        return false;
    };
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
}

impl PeerKey {
    /// Whether this peer signed these bytes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        verify(&self.0, message, signature)
    }

    /// The peer's short name.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::of(self)
    }

    /// The tunnel key that belongs to this identity: the same point on the other form of the curve. `None` for bytes that
    /// are no point.
    #[must_use]
    pub fn tunnel_key(&self) -> Option<TunnelKey> {
        let key = VerifyingKey::from_bytes(&self.0).ok()?;
        Some(TunnelKey(key.to_montgomery().to_bytes()))
    }
}

impl MemberKey {
    /// Whether somebody who knows the party's secret signed these bytes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        verify(&self.0, message, signature)
    }
}

/// A node's secret: everything it can prove comes from here.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct NodeSecret(pub [u8; 32]);

impl std::fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeSecret(..)")
    }
}

/// A node's keys, made once from its secret.
#[derive(Clone)]
pub struct NodeKeys {
    sign: SigningKey,
    tunnel: x25519_dalek::StaticSecret,
}

impl std::fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKeys({})", self.id())
    }
}

impl NodeKeys {
    /// The keys of this secret.
    #[must_use]
    pub fn new(secret: &NodeSecret) -> Self {
        const SALT: &[u8] = b"lanrage node v1";
        let sign = SigningKey::from_bytes(&derive(SALT, &secret.0, &[b"sign"]));
        // One scalar for both, so that nobody can claim another's tunnel key as its own.
        let tunnel = sign.to_scalar_bytes().into();
        Self { sign, tunnel }
    }

    /// The identity.
    #[must_use]
    pub fn key(&self) -> PeerKey {
        PeerKey(self.sign.verifying_key().to_bytes())
    }

    /// The short name.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.key().id()
    }

    /// The WireGuard public key.
    #[must_use]
    pub fn tunnel_key(&self) -> TunnelKey {
        TunnelKey(x25519_dalek::PublicKey::from(&self.tunnel).to_bytes())
    }

    /// The WireGuard private key, for the session code only.
    #[must_use]
    pub fn tunnel_secret(&self) -> &x25519_dalek::StaticSecret {
        &self.tunnel
    }

    /// Signs as this peer.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.sign.sign(message).to_bytes())
    }

    fn pair_key(&self, other: &TunnelKey, label: &[u8]) -> [u8; 32] {
        let shared = self.tunnel.diffie_hellman(&other.0.into());
        derive(b"lanrage pair v1", shared.as_bytes(), &[label])
    }

    /// Seals bytes for one other peer (X25519, then XChaCha20-Poly1305). Used to hand out a new party secret.
    #[must_use]
    pub fn seal_for(&self, other: &TunnelKey, nonce: [u8; 24], plain: &[u8]) -> Vec<u8> {
        seal(&self.pair_key(other, b"grant"), nonce, b"", plain)
    }

    /// Opens what `other` sealed for this node.
    #[must_use]
    pub fn open_from(&self, other: &TunnelKey, sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.pair_key(other, b"grant"), b"", sealed)
    }
}

/// XChaCha20-Poly1305 with the 24-byte nonce in front.
fn seal(key: &[u8; 32], nonce: [u8; 24], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = nonce.to_vec();
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad })
        .expect("a record is far below the cipher's length limit");
    out.extend_from_slice(&sealed);
    out
}

fn open(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(24)?;
    XChaCha20Poly1305::new(key.into()).decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad }).ok()
}

/// A party's secret of one epoch: 128 bits, carried by invites, never shown to a server.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PartySecret(pub [u8; 16]);

impl std::fmt::Debug for PartySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PartySecret(..)")
    }
}

/// What a party's secret opens in one epoch.
#[derive(Clone)]
pub struct PartyKeys {
    party: PartyId,
    epoch: u32,
    record: [u8; 32],
    psk: [u8; 32],
    knock: [u8; 32],
    beacon: [u8; 32],
    member: SigningKey,
}

impl std::fmt::Debug for PartyKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartyKeys({}, epoch {})", self.party, self.epoch)
    }
}

impl Drop for PartyKeys {
    fn drop(&mut self) {
        self.record.zeroize();
        self.psk.zeroize();
        self.knock.zeroize();
        self.beacon.zeroize();
    }
}

impl PartyKeys {
    /// The keys of this party in this epoch.
    #[must_use]
    pub fn new(party: PartyId, epoch: u32, secret: &PartySecret) -> Self {
        const SALT: &[u8] = b"lanrage party keys v1";
        let epoch_bytes = epoch.to_be_bytes();
        let label = |what: &'static [u8]| [what, &party.0, &epoch_bytes].concat();
        Self {
            party,
            epoch,
            record: derive(SALT, &secret.0, &[&label(b"record")]),
            psk: derive(SALT, &secret.0, &[&label(b"psk")]),
            knock: derive(SALT, &secret.0, &[&label(b"knock")]),
            beacon: derive(SALT, &secret.0, &[&label(b"beacon")]),
            member: SigningKey::from_bytes(&derive(SALT, &secret.0, &[&label(b"member")])),
        }
    }

    /// The party.
    #[must_use]
    pub const fn party(&self) -> PartyId {
        self.party
    }

    /// How often the party was re-keyed.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The public half of the membership key.
    #[must_use]
    pub fn member_key(&self) -> MemberKey {
        MemberKey(self.member.verifying_key().to_bytes())
    }

    /// Signs as "somebody who knows the secret".
    #[must_use]
    pub fn sign_as_member(&self, message: &[u8]) -> Signature {
        Signature(self.member.sign(message).to_bytes())
    }

    /// The pre-shared key of the tunnel between two members; the same from both sides.
    #[must_use]
    pub fn psk(&self, a: &PeerKey, b: &PeerKey) -> Psk {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        Psk(derive(b"lanrage psk v1", &self.psk, &[&low.0, &high.0]))
    }

    /// Seals a peer's record, bound to the party, the epoch and the peer.
    #[must_use]
    pub fn seal_record(&self, of: &PeerKey, nonce: [u8; 24], plain: &[u8]) -> Vec<u8> {
        seal(&self.record, nonce, &self.record_aad(of), plain)
    }

    /// Opens a peer's record; `None` when it was not sealed with this epoch's secret for this peer.
    #[must_use]
    pub fn open_record(&self, of: &PeerKey, sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.record, &self.record_aad(of), sealed)
    }

    /// Seals a knock (`wire::knock`); `head` is what stands before it in clear.
    #[must_use]
    pub fn seal_knock(&self, head: &[u8], nonce: [u8; 24], plain: &[u8]) -> Vec<u8> {
        seal(&self.knock, nonce, head, plain)
    }

    /// Opens a knock; `None` when whoever made it does not know this epoch's secret.
    #[must_use]
    pub fn open_knock(&self, head: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.knock, head, sealed)
    }

    /// By this a beacon is recognised by members and told from nothing by anybody else: it depends on `salt`, which is
    /// fresh for every start of a program.
    #[must_use]
    pub fn beacon_tag(&self, salt: &[u8]) -> [u8; 10] {
        derive(b"lanrage beacon v1", &self.beacon, &[salt])
    }

    fn record_aad(&self, of: &PeerKey) -> Vec<u8> {
        [&self.party.0[..], &self.epoch.to_be_bytes(), &of.0].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeKeys {
        NodeKeys::new(&NodeSecret([n; 32]))
    }

    fn party(secret: u8, epoch: u32) -> PartyKeys {
        PartyKeys::new(PartyId::of(node(1).id(), 0), epoch, &PartySecret([secret; 16]))
    }

    #[test]
    fn a_tunnel_key_follows_from_the_identity() {
        assert_eq!(node(1).key().tunnel_key(), Some(node(1).tunnel_key()));
        assert_ne!(node(1).key().tunnel_key(), Some(node(2).tunnel_key()));
    }

    #[test]
    fn only_the_signer_verifies() {
        let sig = node(1).sign(b"hello");
        assert!(node(1).key().verifies(b"hello", &sig));
        assert!(!node(2).key().verifies(b"hello", &sig));
        assert!(!node(1).key().verifies(b"hellp", &sig));
    }

    #[test]
    fn a_record_opens_only_for_its_party_epoch_and_peer() {
        let key = node(2).key();
        let sealed = party(5, 0).seal_record(&key, [3; 24], b"where I am");
        assert_eq!(party(5, 0).open_record(&key, &sealed).as_deref(), Some(&b"where I am"[..]));
        assert!(party(6, 0).open_record(&key, &sealed).is_none());
        assert!(party(5, 1).open_record(&key, &sealed).is_none());
        assert!(party(5, 0).open_record(&node(3).key(), &sealed).is_none());
        assert!(party(5, 0).open_record(&key, &sealed[..20]).is_none());
    }

    #[test]
    fn both_ends_of_a_tunnel_get_the_same_preshared_key() {
        let (a, b, c) = (node(1).key(), node(2).key(), node(3).key());
        assert_eq!(party(5, 0).psk(&a, &b), party(5, 0).psk(&b, &a));
        assert_ne!(party(5, 0).psk(&a, &b), party(5, 0).psk(&a, &c));
        assert_ne!(party(5, 0).psk(&a, &b), party(5, 1).psk(&a, &b));
    }

    #[test]
    fn a_knock_and_a_beacon_are_for_those_who_know_the_secret() {
        let sealed = party(5, 0).seal_knock(b"head", [3; 24], b"it is me");
        assert_eq!(party(5, 0).open_knock(b"head", &sealed).as_deref(), Some(&b"it is me"[..]));
        assert!(party(5, 0).open_knock(b"other", &sealed).is_none());
        assert!(party(6, 0).open_knock(b"head", &sealed).is_none());
        assert!(party(5, 1).open_knock(b"head", &sealed).is_none());
        assert_eq!(party(5, 0).beacon_tag(b"salt"), party(5, 0).beacon_tag(b"salt"));
        assert_ne!(party(5, 0).beacon_tag(b"salt"), party(5, 0).beacon_tag(b"salz"));
        assert_ne!(party(5, 0).beacon_tag(b"salt"), party(6, 0).beacon_tag(b"salt"));
    }

    #[test]
    fn a_grant_opens_only_between_the_two() {
        let sealed = node(1).seal_for(&node(2).tunnel_key(), [9; 24], b"new secret");
        assert_eq!(node(2).open_from(&node(1).tunnel_key(), &sealed).as_deref(), Some(&b"new secret"[..]));
        assert!(node(3).open_from(&node(1).tunnel_key(), &sealed).is_none());
    }

    #[test]
    fn secrets_do_not_show() {
        let text = format!("{:?} {:?} {:?}", NodeSecret([7; 32]), PartySecret([7; 16]), Psk([7; 32]));
        assert_eq!(text, "NodeSecret(..) PartySecret(..) Psk(..)");
    }
}
