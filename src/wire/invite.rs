//! The invite: a text that lets a peer into a party, and that names the group in which it was mistyped.
//!
//! `groups` turns bytes into groups of five characters and back and finds the mistakes; this file says what the bytes
//! mean (`docs/invite.md` has the table). Whoever holds an invite can join, so it has no `Display`: it is shown only where
//! somebody asked for it (`to_text`, `to_link`, `to_qr`). Reading trusts nothing: every length is capped, every text checked.

mod groups;
mod mistake;

use crate::model::addr::Subnet;
use crate::model::id::{PartyId, PeerId};
use crate::model::key::PartySecret;
use crate::model::pin::{self, Pin};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

pub use mistake::InviteError;

/// The control planes that one invite can name; a party rarely has two.
pub const HINTS: usize = 4;
/// Bytes of one control plane's text: a folder's path or a URL that people would still pass on.
pub const HINT_BYTES: usize = 160;
/// Bytes of all of them, so that the groups can be counted in seven bits.
const HINTS_BYTES: usize = 250;
/// Addresses of members that one invite can name; each costs whoever joins a question.
pub const DIRECT: usize = 6;
/// What a link begins with.
pub const LINK: &str = "lanrage://join/";

/// Where to find a party's control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlHint {
    /// A `lanrage server`, as a URL, with the pin of its certificate behind it when it has one (`#sha256=…`).
    Server(String),
    /// A shared folder.
    Folder(String),
    /// Members' own tunnels: knock at these addresses.
    Direct(Vec<SocketAddr>),
}

/// What an invite carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// The owner's short name, a fingerprint of its identity key.
    pub owner: PeerId,
    /// The owner's slot.
    pub slot: u8,
    /// The epoch of the secret.
    pub epoch: u32,
    /// The party's secret.
    pub secret: PartySecret,
    /// The party's network.
    pub subnet: Subnet,
    /// Where to find the control plane.
    pub control: Vec<ControlHint>,
}

impl Invite {
    /// The party.
    #[must_use]
    pub fn party(&self) -> PartyId {
        PartyId::of(self.owner, self.slot)
    }

    /// The text in groups: `k3v9w-7kq2m-…`, lower case. Control planes that do not fit are left out: see `left_out`.
    #[must_use]
    pub fn to_text(&self) -> String {
        groups::write(&self.to_bytes())
    }

    /// The same as a link.
    #[must_use]
    pub fn to_link(&self) -> String {
        format!("{LINK}{}", self.to_text())
    }

    /// The same for a QR code: upper case and without dashes, so that the code stays small (alphanumeric mode).
    #[must_use]
    pub fn to_qr(&self) -> String {
        self.to_link().replace('-', "").to_ascii_uppercase()
    }

    /// The control planes that are too long for an invite: whoever joins must be told them in another way.
    #[must_use]
    pub fn left_out(&self) -> Vec<&ControlHint> {
        let kept = self.fitting();
        self.control.iter().filter(|h| !kept.contains(h)).collect()
    }

    /// From now on the invite leads to these addresses of members, and to no others.
    pub fn set_direct(&mut self, addresses: Vec<SocketAddr>) {
        self.control.retain(|hint| !matches!(hint, ControlHint::Direct(_)));
        // First: it is the last that may be left out.
        self.control.insert(0, ControlHint::Direct(addresses));
    }

    /// Reads an invite as people paste, type or scan it.
    ///
    /// # Errors
    /// Says which group is wrong and how.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        Self::from_bytes(&groups::read(text)?).ok_or(InviteError::Meaning)
    }

    fn fitting(&self) -> Vec<&ControlHint> {
        let (mut kept, mut used) = (Vec::new(), 0);
        for hint in &self.control {
            let size = hint_bytes(hint).map_or(usize::MAX, |b| b.len());
            if kept.len() < HINTS && size <= HINTS_BYTES - used {
                used += size;
                kept.push(hint);
            }
        }
        kept
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.secret.0.to_vec();
        out.extend_from_slice(&self.owner.0);
        out.push(self.slot);
        let mut epoch = self.epoch;
        while epoch >= 0x80 {
            out.push((epoch & 0x7f) as u8 | 0x80);
            epoch >>= 7;
        }
        out.push((epoch & 0x7f) as u8);
        out.extend_from_slice(&self.subnet.0);
        self.fitting().into_iter().filter_map(hint_bytes).for_each(|b| out.extend_from_slice(&b));
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let secret = PartySecret(reader.array()?);
        let owner = PeerId(reader.array()?);
        let slot = reader.byte()?;
        let epoch = reader.varint()?;
        let [a, b, c] = reader.array()?;
        // The same rules as for a typed subnet: no multicast, no loopback.
        let subnet = format!("{a}.{b}.{c}.0/24").parse().ok()?;
        let mut control = Vec::new();
        while let Some(kind) = reader.byte().filter(|kind| *kind != END) {
            join(&mut control, reader.hint(kind)?);
            if control.len() > HINTS {
                return None;
            }
        }
        Some(Self { owner, slot, epoch, secret, subnet, control })
    }
}

/// The two lists of addresses are one hint.
fn join(control: &mut Vec<ControlHint>, hint: Option<ControlHint>) {
    let mut known = control.iter_mut();
    match (hint, known.find(|h| matches!(h, ControlHint::Direct(_)))) {
        (Some(ControlHint::Direct(more)), Some(ControlHint::Direct(have))) => have.extend(more),
        (hint, _) => control.extend(hint),
    }
}

// Kinds of hints. None is counted: the padding behind the last one reads as `END`. From `TEXTS` on, a length byte follows, so that an older program can step over newer kinds.
const END: u8 = 0;
const HTTP_V4: u8 = 1;
const HTTPS_V4: u8 = 2;
const DIRECT_V4: u8 = 3;
const DIRECT_V6: u8 = 4;
const TEXTS: u8 = 16;
const FOLDER: u8 = 16;
const HTTP: u8 = 17;
const HTTPS: u8 = 18;
const URL: u8 = 19;
const PINNED_V4: u8 = 20;
const PINNED: u8 = 21;
/// Address, port and pin.
const PINNED_V4_BYTES: u8 = 4 + 2 + 32;

/// A hint as bytes; `None` when it is too long or nothing that may stand in an invite.
fn hint_bytes(hint: &ControlHint) -> Option<Vec<u8>> {
    let (kind, text) = match hint {
        ControlHint::Folder(path) => (FOLDER, path.as_str()),
        ControlHint::Server(url) => split_scheme(url),
        ControlHint::Direct(addresses) => return Some(direct_bytes(addresses)),
    };
    if let Some(short) = pinned_server(kind, text).or_else(|| short_server(kind, text)) {
        return Some(short);
    }
    if !is_plain(text) {
        return None;
    }
    let mut out = vec![kind, u8::try_from(text.len()).ok()?];
    out.extend_from_slice(text.as_bytes());
    Some(out)
}

/// Up to `DIRECT` addresses: those of IPv4, then those of IPv6. The first list is there even when it is empty, as the word
/// that the party meets in this way.
fn direct_bytes(addresses: &[SocketAddr]) -> Vec<u8> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for addr in addresses.iter().take(DIRECT) {
        let (list, ip) = match addr {
            SocketAddr::V4(a) => (&mut v4, a.ip().octets().to_vec()),
            SocketAddr::V6(a) => (&mut v6, a.ip().octets().to_vec()),
        };
        list.push([&ip[..], &addr.port().to_be_bytes()].concat());
    }
    let list = |kind: u8, list: Vec<Vec<u8>>| {
        [&[kind, u8::try_from(list.len()).unwrap_or(0)][..], &list.concat()].concat()
    };
    let mut out = list(DIRECT_V4, v4);
    if !v6.is_empty() {
        out.extend(list(DIRECT_V6, v6));
    }
    out
}

fn split_scheme(url: &str) -> (u8, &str) {
    let http = url.strip_prefix("http://").map(|rest| (HTTP, rest));
    let https = url.strip_prefix("https://").map(|rest| (HTTPS, rest));
    http.or(https).unwrap_or((URL, url))
}

/// Half the bytes of a pin's digits, and an address as short as without one.
fn pinned_server(kind: u8, text: &str) -> Option<Vec<u8>> {
    let (rest, Some(pin)) = pin::split(text).ok().filter(|_| kind == HTTPS)? else { return None };
    if let Some(addr) = usual(rest) {
        let port = addr.port().to_be_bytes();
        return Some([&[PINNED_V4, PINNED_V4_BYTES][..], &addr.ip().octets(), &port, &pin.0].concat());
    }
    let len = u8::try_from(rest.len() + pin.0.len()).ok().filter(|_| is_plain(rest))?;
    Some([&[PINNED, len][..], &pin.0, rest.as_bytes()].concat())
}

/// An address and port, written the one usual way.
fn usual(text: &str) -> Option<SocketAddrV4> {
    text.parse().ok().filter(|a: &SocketAddrV4| a.to_string() == text)
}

/// Seven bytes for what most invites carry: a server named by IPv4 address and port, written the one usual way.
fn short_server(kind: u8, text: &str) -> Option<Vec<u8>> {
    let kind = match kind {
        HTTP => HTTP_V4,
        HTTPS => HTTPS_V4,
        _ => return None,
    };
    let addr = usual(text)?;
    Some([&[kind][..], &addr.ip().octets(), &addr.port().to_be_bytes()].concat())
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= HINT_BYTES && !text.chars().any(char::is_control)
}

/// Takes bytes from the front; `None` when there are too few.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[b]| b)
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn addresses(&mut self, v6: bool) -> Option<Vec<SocketAddr>> {
        let count = usize::from(self.byte()?);
        if count > DIRECT {
            return None;
        }
        let mut list = Vec::new();
        for _ in 0..count {
            let ip = if v6 {
                Ipv6Addr::from(self.array::<16>()?).into()
            } else {
                Ipv4Addr::from(self.array::<4>()?).into()
            };
            list.push(SocketAddr::new(ip, u16::from_be_bytes(self.array()?)));
        }
        Some(list)
    }

    /// A hint; `Some(None)` for a kind that a later program writes.
    fn hint(&mut self, kind: u8) -> Option<Option<ControlHint>> {
        if matches!(kind, DIRECT_V4 | DIRECT_V6) {
            return self.addresses(kind == DIRECT_V6).map(|list| Some(ControlHint::Direct(list)));
        }
        if kind < TEXTS {
            let scheme = match kind {
                HTTP_V4 => "http",
                HTTPS_V4 => "https",
                _ => return None,
            };
            let ip = Ipv4Addr::from(self.array::<4>()?);
            let port = u16::from_be_bytes(self.array()?);
            return Some(Some(ControlHint::Server(format!("{scheme}://{ip}:{port}"))));
        }
        let len = usize::from(self.byte()?);
        let bytes = self.slice(len)?;
        if matches!(kind, PINNED_V4 | PINNED) {
            return pinned(kind, bytes).map(|url| Some(ControlHint::Server(url)));
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Some(None);
        };
        if !is_plain(text) {
            return if kind <= URL { None } else { Some(None) };
        }
        Some(match kind {
            FOLDER => Some(ControlHint::Folder(text.to_owned())),
            HTTP => Some(ControlHint::Server(format!("http://{text}"))),
            HTTPS => Some(ControlHint::Server(format!("https://{text}"))),
            URL => Some(ControlHint::Server(text.to_owned())),
            _ => None,
        })
    }
}

/// The URL of a pinned server.
fn pinned(kind: u8, bytes: &[u8]) -> Option<String> {
    let mut reader = Reader(bytes);
    let (host, pin) = if kind == PINNED_V4 {
        let ip = Ipv4Addr::from(reader.array::<4>()?);
        let port = u16::from_be_bytes(reader.array()?);
        (format!("{ip}:{port}"), Pin(reader.array()?))
    } else {
        let pin = Pin(reader.array()?);
        let host = std::str::from_utf8(std::mem::take(&mut reader.0)).ok()?;
        (is_plain(host).then(|| host.to_owned())?, pin)
    };
    // Bytes behind a whole hint: a damaged one, or a later kind that should have had a number of its own.
    reader.0.is_empty().then(|| format!("https://{host}{}{pin}", pin::MARK))
}
