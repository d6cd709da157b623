//! Writing STUN: control messages by `stun-rs`, the frame of an indication by hand.
//!
//! `Builder` collects attributes and writes them when it is done; it allocates, as control messages may. Signing and the
//! fingerprint are ours, because `stun-rs` keeps its keys where nobody wipes them. `indication_prefix` writes what comes
//! before the data of a Send or Data indication, so that a relay's bytes are never copied.

use super::{
    ATTRIBUTE, COOKIE, Class, HEADER, INTEGRITY, Method, Transaction, fingerprint, integrity, kind, xor,
};
use hmac::Mac;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use stun_rs::attributes::discovery::{
    ChangeRequest, ChangeRequestFlags, OtherAddress, Padding, ResponseOrigin, ResponsePort,
};
use stun_rs::attributes::stun::{
    AlternateServer, ErrorCode, MappedAddress, Nonce, Realm, Software, UnknownAttributes, UserName,
    XorMappedAddress,
};
use stun_rs::attributes::turn::{
    ChannelNumber, Data, DontFragment, EvenPort, LifeTime, RequestedAddressFamily, RequestedTrasport,
    ReservationToken, XorPeerAddress, XorRelayedAddress,
};
use stun_rs::{
    AddressFamily, Algorithm, AlgorithmId, HMACKey, MessageClass, MessageEncoder, MessageMethod,
    StunAttribute, StunMessageBuilder, TransactionId, methods, protocols,
};
use zeroize::Zeroizing;

/// The long-term key of a user: MD5 of `user:realm:password` (RFC 8489, section 9.2.2). Wiped when dropped.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 16]>);

impl Key {
    /// The key, with realm and password prepared as RFC 8489 wants (OpaqueString of RFC 8265). A text that this refuses
    /// (empty, or with control characters) gives a key of zeros, which no server has.
    #[must_use]
    pub fn long_term(user: &str, realm: &str, password: &str) -> Self {
        let md5 = Algorithm::from(AlgorithmId::MD5);
        let derived = HMACKey::new_long_term(user, realm, password, md5);
        let bytes = derived.ok().and_then(|key| <[u8; 16]>::try_from(key.as_bytes()).ok());
        Self(Zeroizing::new(bytes.unwrap_or_default()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A message could not be written: the room is too small, or a text is not one that STUN carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a STUN message that cannot be written")]
pub struct Unwritable;

/// A message under way: attributes in the order they are added, then the signature, then the fingerprint.
#[derive(Debug)]
pub struct Builder<'a> {
    room: &'a mut [u8],
    inner: StunMessageBuilder,
    key: Option<Key>,
    fingerprint: bool,
    broken: bool,
}

impl<'a> Builder<'a> {
    /// A message that will be written into `room`.
    pub fn new(room: &'a mut [u8], method: Method, class: Class, transaction: Transaction) -> Self {
        let inner = StunMessageBuilder::new(method_word(method), class_word(class))
            .with_transaction_id(TransactionId::from(transaction.0));
        Self { room, inner, key: None, fingerprint: false, broken: false }
    }

    /// XOR-MAPPED-ADDRESS.
    #[must_use]
    pub fn mapped(self, addr: SocketAddr) -> Self {
        self.with(XorMappedAddress::from(addr))
    }

    /// MAPPED-ADDRESS, for clients of RFC 3489 and 5780 that look for it.
    #[must_use]
    pub fn plain_mapped(self, addr: SocketAddr) -> Self {
        self.with(MappedAddress::from(addr))
    }

    /// XOR-RELAYED-ADDRESS.
    #[must_use]
    pub fn relayed(self, addr: SocketAddr) -> Self {
        self.with(XorRelayedAddress::from(addr))
    }

    /// XOR-PEER-ADDRESS; may be added more than once.
    #[must_use]
    pub fn peer(self, addr: SocketAddr) -> Self {
        self.with(XorPeerAddress::from(addr))
    }

    /// DATA, copied; see `indication_prefix`.
    #[must_use]
    pub fn data(self, bytes: &[u8]) -> Self {
        self.with(Data::new(bytes))
    }

    /// CHANNEL-NUMBER.
    #[must_use]
    pub fn channel(self, channel: u16) -> Self {
        self.with(ChannelNumber::new(channel))
    }

    /// LIFETIME, in whole seconds.
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        self.with(LifeTime::new(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)))
    }

    /// ERROR-CODE: 300 to 699.
    #[must_use]
    pub fn error(self, code: u16, reason: &str) -> Self {
        let error = stun_rs::ErrorCode::new(code, reason);
        self.with_checked(error.map(ErrorCode::from))
    }

    /// UNKNOWN-ATTRIBUTES (of a 420 answer).
    #[must_use]
    pub fn unknown(self, types: &[u16]) -> Self {
        self.with(UnknownAttributes::from(types))
    }

    /// USERNAME.
    #[must_use]
    pub fn username(self, name: &str) -> Self {
        self.with_checked(UserName::new(name))
    }

    /// REALM.
    #[must_use]
    pub fn realm(self, realm: &str) -> Self {
        self.with_checked(Realm::new(realm))
    }

    /// NONCE.
    #[must_use]
    pub fn nonce(self, nonce: &str) -> Self {
        self.with_checked(Nonce::new(nonce))
    }

    /// SOFTWARE.
    #[must_use]
    pub fn software(self, name: &str) -> Self {
        self.with_checked(Software::new(name))
    }

    /// REQUESTED-TRANSPORT: UDP, the only one there is here.
    #[must_use]
    pub fn requested_transport_udp(self) -> Self {
        self.with(RequestedTrasport::new(protocols::UDP))
    }

    /// REQUESTED-ADDRESS-FAMILY.
    #[must_use]
    pub fn requested_family(self, v6: bool) -> Self {
        let family = if v6 { AddressFamily::IPv6 } else { AddressFamily::IPv4 };
        self.with(RequestedAddressFamily::new(family))
    }

    /// EVEN-PORT, with the next port reserved or not.
    #[must_use]
    pub fn even_port(self, reserve: bool) -> Self {
        self.with(EvenPort::new(reserve))
    }

    /// RESERVATION-TOKEN.
    #[must_use]
    pub fn reservation_token(self, token: [u8; 8]) -> Self {
        self.with(ReservationToken::from(token))
    }

    /// DONT-FRAGMENT.
    #[must_use]
    pub fn dont_fragment(self) -> Self {
        self.with(DontFragment::default())
    }

    /// ALTERNATE-SERVER.
    #[must_use]
    pub fn alternate_server(self, addr: SocketAddr) -> Self {
        self.with(AlternateServer::from(addr))
    }

    /// OTHER-ADDRESS (RFC 5780).
    #[must_use]
    pub fn other_address(self, addr: SocketAddr) -> Self {
        self.with(OtherAddress::from(addr))
    }

    /// RESPONSE-ORIGIN (RFC 5780).
    #[must_use]
    pub fn response_origin(self, addr: SocketAddr) -> Self {
        self.with(ResponseOrigin::from(addr))
    }

    /// CHANGE-REQUEST (RFC 5780): answer from another address, from another port.
    #[must_use]
    pub fn change_request(self, ip: bool, port: bool) -> Self {
        let flags = match (ip, port) {
            (false, false) => None,
            (true, false) => Some(ChangeRequestFlags::ChangeIp.into()),
            (false, true) => Some(ChangeRequestFlags::ChangePort.into()),
            (true, true) => Some(ChangeRequestFlags::ChangeIp | ChangeRequestFlags::ChangePort),
        };
        self.with(ChangeRequest::new(flags))
    }

    /// RESPONSE-PORT (RFC 5780).
    #[must_use]
    pub fn response_port(self, port: u16) -> Self {
        // The crate writes two bytes and pads; RFC 5780 wants a value of two bytes and two of padding. The same.
        self.with(ResponsePort::new(port))
    }

    /// PADDING (RFC 5780) of so many bytes.
    #[must_use]
    pub fn padding(self, len: usize) -> Self {
        self.with_checked(Padding::new("\0".repeat(len)))
    }

    /// Signs the message with MESSAGE-INTEGRITY.
    #[must_use]
    pub fn sign(mut self, key: &Key) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Ends the message with FINGERPRINT.
    #[must_use]
    pub const fn fingerprint(mut self) -> Self {
        self.fingerprint = true;
        self
    }

    /// Writes it; how many bytes it took.
    ///
    /// # Errors
    /// When the room is too small or a text cannot be carried. Nothing of the room is then to be sent.
    pub fn finish(self) -> Result<usize, Unwritable> {
        let Self { room, inner, key, fingerprint: print, broken } = self;
        if broken {
            return Err(Unwritable);
        }
        // So much that lengths stay within sixteen bits whatever is added.
        let most = room.len().min(usize::from(u16::MAX) - 64);
        let own = room.get_mut(..most).ok_or(Unwritable)?;
        let mut len = MessageEncoder::default().encode(own, &inner.build()).map_err(|_| Unwritable)?;
        if let Some(key) = key {
            let mac = integrity(key.bytes(), room.get(..len).ok_or(Unwritable)?).ok_or(Unwritable)?;
            let signature: [u8; INTEGRITY] = mac.finalize().into_bytes().into();
            len = append(room, len, kind::MESSAGE_INTEGRITY, &signature)?;
        }
        if print {
            // The length counts the fingerprint itself already.
            let end = append(room, len, kind::FINGERPRINT, &[0; 4])?;
            let crc = fingerprint(room.get(..len).ok_or(Unwritable)?);
            len = append(room, len, kind::FINGERPRINT, &crc.to_be_bytes())?;
            debug_assert_eq!(len, end);
        }
        Ok(len)
    }

    fn with(mut self, attribute: impl Into<StunAttribute>) -> Self {
        self.inner = self.inner.with_attribute(attribute);
        self
    }

    fn with_checked(mut self, attribute: Result<impl Into<StunAttribute>, stun_rs::StunError>) -> Self {
        match attribute {
            Ok(attribute) => self.with(attribute),
            Err(_) => {
                self.broken = true;
                self
            }
        }
    }
}

/// Signs a message that was written by hand, for tests of attributes that the builder does not know.
#[cfg(test)]
pub(crate) fn sign_by_hand(message: &mut Vec<u8>, key: &Key) {
    let mac = integrity(key.bytes(), message).unwrap();
    let signature: [u8; INTEGRITY] = mac.finalize().into_bytes().into();
    let at = message.len();
    message.resize(at + ATTRIBUTE + INTEGRITY, 0);
    append(message, at, kind::MESSAGE_INTEGRITY, &signature).unwrap();
}

/// Writes an attribute (a multiple of four long) at `at`, and the message's new length; where it ends.
fn append(room: &mut [u8], at: usize, kind: u16, value: &[u8]) -> Result<usize, Unwritable> {
    let end = at + ATTRIBUTE + value.len();
    let length = u16::try_from(end - HEADER).map_err(|_| Unwritable)?;
    let own = room.get_mut(at..end).ok_or(Unwritable)?;
    let (head, body) = own.split_first_chunk_mut::<ATTRIBUTE>().ok_or(Unwritable)?;
    let ([k0, k1], [l0, l1]) =
        (kind.to_be_bytes(), u16::try_from(value.len()).map_err(|_| Unwritable)?.to_be_bytes());
    *head = [k0, k1, l0, l1];
    body.copy_from_slice(value);
    room.get_mut(2..4).ok_or(Unwritable)?.copy_from_slice(&length.to_be_bytes());
    Ok(end)
}

/// Writes what comes before the data of a Send or Data indication, and tells how long that is: 36 bytes for an IPv4
/// peer, 48 for an IPv6 one. The data follows, then zero to three bytes (`channel::padding(body)`) that should be zero.
/// `None` when `room` is too small or the body too long. Allocates nothing.
#[must_use]
pub fn indication_prefix(
    room: &mut [u8],
    method: Method,
    transaction: Transaction,
    peer: SocketAddr,
    body: usize,
) -> Option<usize> {
    let addr = match peer {
        SocketAddr::V4(_) => 8,
        SocketAddr::V6(_) => 20,
    };
    let len = HEADER + ATTRIBUTE + addr + ATTRIBUTE;
    let total = u16::try_from(len - HEADER + body.checked_next_multiple_of(4)?).ok()?;
    let (header, attributes) = room.get_mut(..len)?.split_first_chunk_mut::<HEADER>()?;
    // The methods here are below sixteen, where the type is the method and the class's bits.
    header.get_mut(..2)?.copy_from_slice(&(method_word(method).as_u16() | 0x10).to_be_bytes());
    header.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
    header.get_mut(4..8)?.copy_from_slice(&COOKIE);
    header.get_mut(8..)?.copy_from_slice(&transaction.0);
    let (head, rest) = attributes.split_first_chunk_mut::<ATTRIBUTE>()?;
    let [k0, k1] = kind::XOR_PEER_ADDRESS.to_be_bytes();
    *head = [k0, k1, 0, u8::try_from(addr).ok()?];
    let hidden = xor(peer, transaction);
    let [p0, p1] = hidden.port().to_be_bytes();
    let (value, head) = rest.split_at_mut_checked(addr)?;
    let (start, ip) = value.split_first_chunk_mut::<4>()?;
    match hidden.ip() {
        IpAddr::V4(v4) => {
            *start = [0, 1, p0, p1];
            ip.copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            *start = [0, 2, p0, p1];
            ip.copy_from_slice(&v6.octets());
        }
    }
    let ([k0, k1], [l0, l1]) = (kind::DATA.to_be_bytes(), u16::try_from(body).ok()?.to_be_bytes());
    head.copy_from_slice(&[k0, k1, l0, l1]);
    Some(len)
}

const fn method_word(method: Method) -> MessageMethod {
    match method {
        Method::Binding => methods::BINDING,
        Method::Allocate => methods::ALLOCATE,
        Method::Refresh => methods::REFRESH,
        Method::Send => methods::SEND,
        Method::Data => methods::DATA,
        Method::CreatePermission => methods::CREATE_PERMMISSION,
        Method::ChannelBind => methods::CHANNEL_BIND,
    }
}

const fn class_word(class: Class) -> MessageClass {
    match class {
        Class::Request => MessageClass::Request,
        Class::Indication => MessageClass::Indication,
        Class::Success => MessageClass::SuccessResponse,
        Class::Error => MessageClass::ErrorResponse,
    }
}
