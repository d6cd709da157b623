//! STUN and TURN messages (RFC 8489, RFC 8656, and the tests of RFC 5780): read where they lie, written by `build`.
//!
//! The reader is our own and borrows: it neither allocates nor copies, because a relay reads one of these per datagram
//! from anybody. The crate `stun-rs` would allocate for each attribute, run a grammar over every nonce and compare
//! signatures in variable time. It writes our control messages and derives long-term keys (`build`), and in the tests
//! it is the independent reader that ours is compared with.
//!
//! What is checked when a message is parsed: the header, the cookie, that the length says exactly what arrived, that the
//! attributes fill it exactly, the form of MESSAGE-INTEGRITY, and FINGERPRINT where there is one. Nothing behind
//! MESSAGE-INTEGRITY is seen (RFC 8489, section 14.5). Values are checked by the method that reads them.

mod build;

#[cfg(test)]
pub(crate) use build::sign_by_hand;
pub use build::{Builder, Key, Unwritable, indication_prefix};

use hmac::{Hmac, Mac};
use sha1::Sha1;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

/// Length of the header.
pub const HEADER: usize = 20;
/// The magic cookie (RFC 8489, section 5).
pub const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The SOFTWARE of requests that prove nothing yet: with it the shortest is as long as the longest answer (92 bytes: a Binding's over
/// IPv6 with RESPONSE-ORIGIN and OTHER-ADDRESS), so a server that rations what it sends to strangers owes us an answer always.
pub const PADDED: &str = "lanrage; padded, so that a forged sender gets no more than was sent for it";
const _: () = assert!(HEADER + ATTRIBUTE + PADDED.len() >= 92);
/// Length of an attribute's type and length.
const ATTRIBUTE: usize = 4;
/// Attributes of one message that are looked at; more are refused. A request to permit many peers is the longest.
const ATTRIBUTES: usize = 128;
/// Longest text of a nonce, realm, user name, software or reason in bytes (RFC 8489, section 14).
const TEXT: usize = 763;
/// Length of a MESSAGE-INTEGRITY value: HMAC-SHA1.
const INTEGRITY: usize = 20;

/// Attribute types (RFC 8489, section 18.3; RFC 8656, section 18; RFC 5780, section 9.1).
mod kind {
    pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(super) const CHANGE_REQUEST: u16 = 0x0003;
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(super) const LIFETIME: u16 = 0x000d;
    pub(super) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(super) const DATA: u16 = 0x0013;
    pub(super) const REALM: u16 = 0x0014;
    pub(super) const NONCE: u16 = 0x0015;
    pub(super) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(super) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub(super) const EVEN_PORT: u16 = 0x0018;
    pub(super) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(super) const DONT_FRAGMENT: u16 = 0x001a;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const RESERVATION_TOKEN: u16 = 0x0022;
    pub(super) const PADDING: u16 = 0x0026;
    pub(super) const RESPONSE_PORT: u16 = 0x0027;
    pub(super) const SOFTWARE: u16 = 0x8022;
    pub(super) const ALTERNATE_SERVER: u16 = 0x8023;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const RESPONSE_ORIGIN: u16 = 0x802b;
    pub(super) const OTHER_ADDRESS: u16 = 0x802c;

    /// Comprehension-required types that somebody here can read.
    pub(super) const KNOWN: &[u16] = &[
        MAPPED_ADDRESS,
        CHANGE_REQUEST,
        USERNAME,
        MESSAGE_INTEGRITY,
        ERROR_CODE,
        UNKNOWN_ATTRIBUTES,
        CHANNEL_NUMBER,
        LIFETIME,
        XOR_PEER_ADDRESS,
        DATA,
        REALM,
        NONCE,
        XOR_RELAYED_ADDRESS,
        REQUESTED_ADDRESS_FAMILY,
        EVEN_PORT,
        REQUESTED_TRANSPORT,
        DONT_FRAGMENT,
        XOR_MAPPED_ADDRESS,
        RESERVATION_TOKEN,
        PADDING,
        RESPONSE_PORT,
    ];
}

/// The number by which an answer finds its question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction(pub [u8; 12]);

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Which address do you see? (RFC 8489)
    Binding,
    /// Give me a relayed address.
    Allocate,
    /// Keep it, or let it go.
    Refresh,
    /// To a peer.
    Send,
    /// From a peer.
    Data,
    /// These peers may send to me.
    CreatePermission,
    /// A short name for a peer.
    ChannelBind,
}

/// A question, its answer, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Yes.
    Success,
    /// No; `Message::error` says why.
    Error,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// No header with two zero bits and the cookie.
    #[error("not a STUN message")]
    NotStun,
    /// The header's length is not what arrived, or no multiple of four.
    #[error("a STUN message of the wrong length")]
    Length,
    /// A method that nobody here knows.
    #[error("a STUN method nobody here knows")]
    Method,
    /// An attribute is longer than what is left of the message, or there are too many.
    #[error("a malformed STUN attribute")]
    Attribute,
    /// FINGERPRINT is wrong, or not the last attribute.
    #[error("a wrong STUN fingerprint")]
    Fingerprint,
}

/// A parsed message, borrowed from the datagram.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    method: Method,
    class: Class,
    transaction: Transaction,
    /// The attributes that count: up to MESSAGE-INTEGRITY or FINGERPRINT.
    end: usize,
    signed: Option<[u8; INTEGRITY]>,
}

/// Types of attributes that a message requires to be understood and nobody here understands (for a 420 answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unknown {
    types: [u16; Self::MOST],
    len: usize,
}

impl Unknown {
    /// So many are named; an answer needs no more.
    const MOST: usize = 8;

    /// The types.
    #[must_use]
    pub fn types(&self) -> &[u16] {
        self.types.get(..self.len).unwrap_or_default()
    }

    /// Whether everything was understood.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<'a> Message<'a> {
    /// Reads one message, which must fill `bytes` exactly.
    ///
    /// # Errors
    /// See `StunError`: nothing of such a message is to be believed or answered.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StunError> {
        let header = bytes.first_chunk::<HEADER>().ok_or(StunError::NotStun)?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, id @ ..] = *header;
        if t0 & 0xc0 != 0 || [c0, c1, c2, c3] != COOKIE {
            return Err(StunError::NotStun);
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if !length.is_multiple_of(4) || HEADER + length != bytes.len() {
            return Err(StunError::Length);
        }
        let kind = u16::from_be_bytes([t0, t1]);
        let (method, class) = (method_of(kind).ok_or(StunError::Method)?, class_of(kind));
        let (end, signed) = walk(bytes)?;
        Ok(Self { bytes, method, class, transaction: Transaction(id), end, signed })
    }

    /// What it is about.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Question, answer or neither.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The question's number.
    #[must_use]
    pub const fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// The sender's address as the server saw it: XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS.
    #[must_use]
    pub fn mapped(&self) -> Option<SocketAddr> {
        match self.find(kind::XOR_MAPPED_ADDRESS) {
            Some(value) => self.xor_address(value),
            None => self.find(kind::MAPPED_ADDRESS).and_then(address),
        }
    }

    /// XOR-RELAYED-ADDRESS.
    #[must_use]
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.find(kind::XOR_RELAYED_ADDRESS).and_then(|v| self.xor_address(v))
    }

    /// Every XOR-PEER-ADDRESS; `None` for one that is malformed.
    pub fn peers(&self) -> impl Iterator<Item = Option<SocketAddr>> + 'a {
        let message = *self;
        self.attributes()
            .filter(|a| a.kind == kind::XOR_PEER_ADDRESS)
            .map(move |a| message.xor_address(message.value(&a)))
    }

    /// The first XOR-PEER-ADDRESS.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.find(kind::XOR_PEER_ADDRESS).and_then(|v| self.xor_address(v))
    }

    /// DATA.
    #[must_use]
    pub fn data(&self) -> Option<&'a [u8]> {
        self.find(kind::DATA)
    }

    /// Where DATA lies in the whole message, to open it in place.
    #[must_use]
    pub fn data_range(&self) -> Option<Range<usize>> {
        self.attributes().find(|a| a.kind == kind::DATA).map(|a| a.value)
    }

    /// CHANNEL-NUMBER.
    #[must_use]
    pub fn channel(&self) -> Option<u16> {
        self.find(kind::CHANNEL_NUMBER).and_then(first_u16)
    }

    /// LIFETIME.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        let value = <[u8; 4]>::try_from(self.find(kind::LIFETIME)?).ok()?;
        Some(Duration::from_secs(u32::from_be_bytes(value).into()))
    }

    /// ERROR-CODE: the number (300 to 699) and the server's words.
    #[must_use]
    pub fn error(&self) -> Option<(u16, &'a str)> {
        let ([_, _, class, number], words) = self.find(kind::ERROR_CODE)?.split_first_chunk::<4>()?;
        let class = class & 7;
        if !(3..=6).contains(&class) || *number > 99 || words.len() > TEXT {
            return None;
        }
        Some((u16::from(class) * 100 + u16::from(*number), std::str::from_utf8(words).unwrap_or_default()))
    }

    /// USERNAME.
    #[must_use]
    pub fn username(&self) -> Option<&'a str> {
        self.text(kind::USERNAME)
    }

    /// REALM.
    #[must_use]
    pub fn realm(&self) -> Option<&'a str> {
        self.text(kind::REALM)
    }

    /// NONCE.
    #[must_use]
    pub fn nonce(&self) -> Option<&'a str> {
        self.text(kind::NONCE)
    }

    /// SOFTWARE.
    #[must_use]
    pub fn software(&self) -> Option<&'a str> {
        self.text(kind::SOFTWARE)
    }

    /// REQUESTED-TRANSPORT, an IP protocol number.
    #[must_use]
    pub fn requested_transport(&self) -> Option<u8> {
        self.find(kind::REQUESTED_TRANSPORT).filter(|v| v.len() == 4).and_then(|v| v.first().copied())
    }

    /// REQUESTED-ADDRESS-FAMILY: 1 for IPv4, 2 for IPv6; anything else is the server's to refuse (440).
    #[must_use]
    pub fn requested_family(&self) -> Option<u8> {
        self.find(kind::REQUESTED_ADDRESS_FAMILY).filter(|v| v.len() == 4).and_then(|v| v.first().copied())
    }

    /// EVEN-PORT: whether the next port is to be reserved too.
    #[must_use]
    pub fn even_port(&self) -> Option<bool> {
        self.find(kind::EVEN_PORT).and_then(|v| v.first()).map(|bits| bits & 0x80 != 0)
    }

    /// RESERVATION-TOKEN.
    #[must_use]
    pub fn reservation_token(&self) -> Option<[u8; 8]> {
        self.find(kind::RESERVATION_TOKEN)?.try_into().ok()
    }

    /// Whether DONT-FRAGMENT is there.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.find(kind::DONT_FRAGMENT).is_some()
    }

    /// ALTERNATE-SERVER (of a 300 answer).
    #[must_use]
    pub fn alternate_server(&self) -> Option<SocketAddr> {
        self.find(kind::ALTERNATE_SERVER).and_then(address)
    }

    /// OTHER-ADDRESS (RFC 5780): the server's other address and other port.
    #[must_use]
    pub fn other_address(&self) -> Option<SocketAddr> {
        self.find(kind::OTHER_ADDRESS).and_then(address)
    }

    /// RESPONSE-ORIGIN (RFC 5780): where the answer was sent from.
    #[must_use]
    pub fn response_origin(&self) -> Option<SocketAddr> {
        self.find(kind::RESPONSE_ORIGIN).and_then(address)
    }

    /// CHANGE-REQUEST (RFC 5780): answer from your other address, from your other port.
    #[must_use]
    pub fn change_request(&self) -> Option<(bool, bool)> {
        let value = <[u8; 4]>::try_from(self.find(kind::CHANGE_REQUEST)?).ok()?;
        let flags = u32::from_be_bytes(value);
        Some((flags & 4 != 0, flags & 2 != 0))
    }

    /// RESPONSE-PORT (RFC 5780).
    #[must_use]
    pub fn response_port(&self) -> Option<u16> {
        self.find(kind::RESPONSE_PORT).and_then(first_u16)
    }

    /// Length of PADDING (RFC 5780).
    #[must_use]
    pub fn padding(&self) -> Option<usize> {
        self.find(kind::PADDING).map(<[u8]>::len)
    }

    /// Comprehension-required attributes that nobody here knows, the first eight of them.
    #[must_use]
    pub fn unknown_required(&self) -> Unknown {
        let mut unknown = Unknown::default();
        for a in self.attributes().filter(|a| a.kind < 0x8000 && !kind::KNOWN.contains(&a.kind)) {
            if let Some(slot) = unknown.types.get_mut(unknown.len) {
                *slot = a.kind;
                unknown.len += 1;
            }
        }
        unknown
    }

    /// Whether MESSAGE-INTEGRITY is there.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.signed.is_some()
    }

    /// Whether MESSAGE-INTEGRITY is there and was made with this key. Takes the same time for every wrong one.
    #[must_use]
    pub fn verify(&self, key: &Key) -> bool {
        self.verify_raw(key.bytes())
    }

    fn verify_raw(&self, key: &[u8]) -> bool {
        let Some(signature) = self.signed else { return false };
        let Some(signed) = self.bytes.get(..self.end) else { return false };
        integrity(key, signed).is_some_and(|mac| mac.verify_slice(&signature).is_ok())
    }

    fn attributes(&self) -> Attributes<'a> {
        Attributes { bytes: self.bytes.get(..self.end).unwrap_or_default(), at: HEADER }
    }

    fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find(|a| a.kind == kind).map(|a| self.value(&a))
    }

    fn value(&self, attribute: &Attribute) -> &'a [u8] {
        self.bytes.get(attribute.value.clone()).unwrap_or_default()
    }

    fn text(&self, kind: u16) -> Option<&'a str> {
        self.find(kind).filter(|v| v.len() <= TEXT).and_then(|v| std::str::from_utf8(v).ok())
    }

    fn xor_address(&self, value: &[u8]) -> Option<SocketAddr> {
        address(value).map(|plain| xor(plain, self.transaction))
    }
}

/// An attribute's type and where its value lies.
struct Attribute {
    kind: u16,
    value: Range<usize>,
}

/// Attribute after attribute; ends at the first that does not fit.
struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Attributes<'_> {
    type Item = Attribute;

    fn next(&mut self) -> Option<Attribute> {
        let &[k0, k1, l0, l1] = self.bytes.get(self.at..)?.first_chunk::<ATTRIBUTE>()?;
        let start = self.at + ATTRIBUTE;
        let end = start + usize::from(u16::from_be_bytes([l0, l1]));
        let next = end.next_multiple_of(4);
        if next > self.bytes.len() {
            return None;
        }
        self.at = next;
        Some(Attribute { kind: u16::from_be_bytes([k0, k1]), value: start..end })
    }
}

/// Checks that the attributes fill the message, and finds where those that count end, and the signature.
fn walk(bytes: &[u8]) -> Result<(usize, Option<[u8; INTEGRITY]>), StunError> {
    let mut all = Attributes { bytes, at: HEADER };
    let (mut end, mut signed, mut count) = (None, None, 0);
    loop {
        let at = all.at;
        let Some(attribute) = all.next() else { break };
        count += 1;
        let value = bytes.get(attribute.value).unwrap_or_default();
        match attribute.kind {
            kind::MESSAGE_INTEGRITY if end.is_none() => {
                end = Some(at);
                signed = Some(value.try_into().map_err(|_| StunError::Attribute)?);
            }
            kind::FINGERPRINT => {
                if all.at != bytes.len() || !is_fingerprint(bytes.get(..at).unwrap_or_default(), value) {
                    return Err(StunError::Fingerprint);
                }
                end = end.or(Some(at));
            }
            _ => {}
        }
    }
    if all.at != bytes.len() || count > ATTRIBUTES {
        return Err(StunError::Attribute);
    }
    Ok((end.unwrap_or(bytes.len()), signed))
}

/// The signature of a message so far: the header counts with the length it has once MESSAGE-INTEGRITY is its last
/// attribute (RFC 8489, section 14.5).
fn integrity(key: &[u8], message: &[u8]) -> Option<Hmac<Sha1>> {
    let (&[t0, t1, _, _], rest) = message.split_first_chunk::<4>()?;
    let [l0, l1] = u16::try_from(message.len() + ATTRIBUTE + INTEGRITY - HEADER).ok()?.to_be_bytes();
    let mut mac = Hmac::<Sha1>::new_from_slice(key).ok()?;
    mac.update(&[t0, t1, l0, l1]);
    mac.update(rest);
    Some(mac)
}

fn is_fingerprint(message: &[u8], value: &[u8]) -> bool {
    value == fingerprint(message).to_be_bytes()
}

/// FINGERPRINT of a message up to there, whose header already has its final length (RFC 8489, section 14.7).
fn fingerprint(message: &[u8]) -> u32 {
    !message.iter().fold(u32::MAX, |crc, byte| {
        let index = usize::from((crc & 0xff) as u8 ^ byte);
        (crc >> 8) ^ CRC.get(index).copied().unwrap_or_default()
    }) ^ 0x5354_554e
}

/// CRC-32 (ITU V.42) of every byte.
#[allow(clippy::indexing_slicing, reason = "a constant: the compiler would refuse an index that is none")]
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0u32;
    while n < 256 {
        let (mut c, mut bit) = (n, 0);
        while bit < 8 {
            c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
            bit += 1;
        }
        table[n as usize] = c;
        n += 1;
    }
    table
};

const fn class_of(kind: u16) -> Class {
    match (kind & 0x100 != 0, kind & 0x10 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    }
}

const fn method_of(kind: u16) -> Option<Method> {
    Some(match kind & 0x3eef {
        1 => Method::Binding,
        3 => Method::Allocate,
        4 => Method::Refresh,
        6 => Method::Send,
        7 => Method::Data,
        8 => Method::CreatePermission,
        9 => Method::ChannelBind,
        _ => return None,
    })
}

/// An address as MAPPED-ADDRESS has it.
fn address(value: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], ip) = value.split_first_chunk::<4>()?;
    let ip = match family {
        1 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        2 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([p0, p1])))
}

/// Hides an address from routers that rewrite what looks like one, and shows it again (RFC 8489, section 14.2).
fn xor(addr: SocketAddr, transaction: Transaction) -> SocketAddr {
    let mask = COOKIE.into_iter().chain(transaction.0);
    let ip = match addr.ip() {
        IpAddr::V4(ip) => {
            let mut b = ip.octets();
            b.iter_mut().zip(mask).for_each(|(b, m)| *b ^= m);
            IpAddr::from(b)
        }
        IpAddr::V6(ip) => {
            let mut b = ip.octets();
            b.iter_mut().zip(mask).for_each(|(b, m)| *b ^= m);
            IpAddr::from(b)
        }
    };
    SocketAddr::new(ip, addr.port() ^ 0x2112)
}

fn first_u16(value: &[u8]) -> Option<u16> {
    value.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}

#[cfg(test)]
mod tests;
