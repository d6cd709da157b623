//! What a relay answers, written into one buffer that is used again and again.
//!
//! Answers to strangers carry no reason phrase, no SOFTWARE and no FINGERPRINT: each byte of them may go to somebody who never
//! asked. Answers to proved clients say what is wrong.

use super::REALM;
use super::nonce::Nonce;
use crate::wire::channel;
use crate::wire::stun::{Builder, Class, Key, Message, Method, Transaction, indication_prefix};
use std::net::SocketAddr;
use std::time::Duration;

/// Above the longest answer; a Data indication's head fits too.
const ROOM: usize = 1024;
/// An IPv6 peer's Data indication before its data.
const INDICATION_HEAD: usize = 48;
/// PADDING that would leave room for nothing else is not worth sending (RFC 5780, section 7.6).
const PADDING_MOST: usize = 1400;
const UNKNOWN_ATTRIBUTE: u16 = 420;

/// What a success carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) relayed: Option<SocketAddr>,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) lifetime: Option<Duration>,
}

/// 401 or 438, with realm and nonce.
pub(super) fn challenge(scratch: &mut Vec<u8>, asked: &Message<'_>, code: u16, nonce: &Nonce) {
    let nonce = std::str::from_utf8(nonce).unwrap_or_default();
    write(scratch, asked.method(), Class::Error, asked.transaction(), |b| {
        b.error(code, "").realm(REALM).nonce(nonce)
    });
}

/// An error for a stranger.
pub(super) fn stranger_error(scratch: &mut Vec<u8>, asked: &Message<'_>, code: u16) {
    write(scratch, asked.method(), Class::Error, asked.transaction(), |b| b.error(code, ""));
}

/// 420 for a stranger.
pub(super) fn unknown(scratch: &mut Vec<u8>, asked: &Message<'_>, types: &[u16]) {
    write(scratch, asked.method(), Class::Error, asked.transaction(), |b| {
        b.error(UNKNOWN_ATTRIBUTE, "").unknown(types)
    });
}

/// 420 for a proved client.
pub(super) fn unknown_signed(scratch: &mut Vec<u8>, asked: &Message<'_>, types: &[u16], key: &Key) {
    write(scratch, asked.method(), Class::Error, asked.transaction(), |b| {
        b.error(UNKNOWN_ATTRIBUTE, "Unknown Attribute").unknown(types).sign(key)
    });
}

/// A refusal for a proved client.
pub(super) fn error(
    scratch: &mut Vec<u8>,
    method: Method,
    transaction: Transaction,
    (code, reason): (u16, &str),
    key: &Key,
) {
    write(scratch, method, Class::Error, transaction, |b| b.error(code, reason).sign(key));
}

/// A success for a proved client.
pub(super) fn success(
    scratch: &mut Vec<u8>,
    method: Method,
    transaction: Transaction,
    answer: &Answer,
    key: &Key,
) {
    write(scratch, method, Class::Success, transaction, |mut b| {
        if let Some(relayed) = answer.relayed {
            b = b.relayed(relayed);
        }
        if let Some(lifetime) = answer.lifetime {
            b = b.lifetime(lifetime);
        }
        if let Some(mapped) = answer.mapped {
            b = b.mapped(mapped);
        }
        b.sign(key)
    });
}

/// What a Binding is answered; the additions of RFC 5780 where they are given.
pub(super) fn binding(
    scratch: &mut Vec<u8>,
    asked: &Message<'_>,
    mapped: SocketAddr,
    origin: Option<SocketAddr>,
    other: Option<SocketAddr>,
    padding: Option<usize>,
) {
    write(scratch, Method::Binding, Class::Success, asked.transaction(), |mut b| {
        b = b.mapped(mapped);
        if let Some(origin) = origin {
            b = b.response_origin(origin);
        }
        if let Some(other) = other {
            b = b.other_address(other);
        }
        b
    });
    // RFC 5780 asks for as much padding as makes the answer one that is cut on its way; never more than was sent.
    if let Some(request) = padding {
        let left = request.min(PADDING_MOST).saturating_sub(scratch.len() + 4) & !3;
        let start = scratch.len();
        scratch.extend_from_slice(&[0x00, 0x26]);
        scratch.extend_from_slice(&u16::try_from(left).unwrap_or_default().to_be_bytes());
        scratch.resize(start + 4 + left, 0);
        let length = u16::try_from(scratch.len() - 20).unwrap_or_default().to_be_bytes();
        scratch.iter_mut().skip(2).zip(length).for_each(|(to, from)| *to = from);
    }
}

/// A peer's bytes for a client that bound no channel. The transaction is nobody's question, so any will do; that of an
/// indication may be guessed by whoever likes, it proves nothing.
pub(super) fn data_indication(scratch: &mut Vec<u8>, peer: SocketAddr, payload: &[u8]) {
    scratch.clear();
    scratch.resize(INDICATION_HEAD, 0);
    let none = Transaction([0; 12]);
    let head = indication_prefix(scratch, Method::Data, none, peer, payload.len()).unwrap_or_default();
    scratch.truncate(head);
    scratch.extend_from_slice(payload);
    scratch.resize(scratch.len() + channel::padding(payload.len()), 0);
}

fn write(
    scratch: &mut Vec<u8>,
    method: Method,
    class: Class,
    transaction: Transaction,
    fill: impl FnOnce(Builder<'_>) -> Builder<'_>,
) {
    scratch.clear();
    scratch.resize(ROOM, 0);
    let written = fill(Builder::new(scratch, method, class, transaction)).finish();
    debug_assert!(written.is_ok(), "every answer fits and every text in it is ours");
    scratch.truncate(written.unwrap_or_default());
}
