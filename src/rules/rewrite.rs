//! Puts the sender's virtual address where a game wrote an address of its own into the payload.
//!
//! Happens in place, in the packet's buffer, without allocation. All or nothing: when one address cannot be found the
//! packet is not to be sent, because a wrong address leads players to a stranger's computer or to their own.

use super::locate::Find;
use super::profile::{AddressForm, Rewrite};
use super::ruleset::RewriteTo;
use crate::wire::packet::{PacketView, proto, resize_udp};
use std::io::Write as _;
use std::ops::Range;

/// Applies all rewrites to the packet of `len` bytes at the start of `room`; the new length, or `None` when the result
/// does not fit or the payload is not what it should be (the packet is spoilt then).
pub(super) fn apply(rewrites: &[Rewrite], room: &mut [u8], len: usize, to: &RewriteTo) -> Option<usize> {
    let view = PacketView::parse(room.get(..len)?).ok()?;
    if view.proto != proto::UDP || view.fragment {
        return None;
    }
    let (start, mut end, v4) = (view.payload_offset(), view.bytes.len(), view.src.is_ipv4());
    let mut changed = false;
    for rewrite in rewrites {
        let payload = room.get(start..end)?;
        match rewrite.form {
            AddressForm::Ipv4 | AddressForm::Ipv4Little => {
                let at = start + rewrite.place.start(payload)?;
                let mut octets = to.v4.octets();
                if rewrite.form == AddressForm::Ipv4Little {
                    octets.reverse();
                }
                room.get_mut(..end)?.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&octets);
            }
            AddressForm::Host | AddressForm::HostPort => {
                let piece = rewrite.place.find(payload)?;
                let Some((host, bracket)) = host_in(payload.get(piece.clone())?, rewrite.form) else {
                    continue;
                };
                let text = Text::of(to, v4, bracket);
                let host = start + piece.start + host.start..start + piece.start + host.end;
                let grown = splice(room, host, end, text.bytes())?;
                if rewrite.place.find == Find::Counted {
                    let piece_len = piece.len() + grown - end;
                    recount(room, start + piece.start, piece.len(), piece_len)?;
                }
                end = grown;
            }
        }
        changed = true;
    }
    if !changed {
        return Some(len);
    }
    resize_udp(room.get_mut(..end)?).then_some(end)
}

/// The part of a text that names a host, and whether an IPv6 address needs brackets there; `None` for a bare port.
fn host_in(text: &[u8], form: AddressForm) -> Option<(Range<usize>, bool)> {
    if form == AddressForm::Host {
        return Some((0..text.len(), false));
    }
    let is_port = |digits: &[u8]| (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if is_port(text) {
        return None;
    }
    match text.iter().rposition(|b| *b == b':') {
        Some(colon) if text.get(colon + 1..).is_some_and(is_port) => Some((0..colon, true)),
        Some(_) | None => Some((0..text.len(), false)),
    }
}

/// An address as text, on the stack.
struct Text {
    room: [u8; 48],
    len: usize,
}

impl Text {
    fn of(to: &RewriteTo, v4: bool, bracket: bool) -> Self {
        let mut room = [0; 48];
        let mut rest = &mut room[..];
        // 48 bytes hold the longest IPv6 address (39 bytes) with its brackets, so writing cannot fail.
        let _ = match (v4, bracket) {
            (true, _) => write!(rest, "{}", to.v4),
            (false, false) => write!(rest, "{}", to.v6),
            (false, true) => write!(rest, "[{}]", to.v6),
        };
        let len = 48 - rest.len();
        Self { room, len }
    }

    fn bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or(&[])
    }
}

/// Replaces `old` by `new` in the first `end` bytes of `room`; the new end.
fn splice(room: &mut [u8], old: Range<usize>, end: usize, new: &[u8]) -> Option<usize> {
    let tail = end.checked_sub(old.end)?;
    let after = old.start + new.len();
    if after + tail > room.len() {
        return None;
    }
    room.copy_within(old.end..end, after);
    room.get_mut(old.start..after)?.copy_from_slice(new);
    Some(after + tail)
}

/// Corrects the length in front of a counted text. Lengths of two bytes are longer than any address.
fn recount(room: &mut [u8], text: usize, old: usize, new: usize) -> Option<()> {
    let count = room.get_mut(text.checked_sub(1)?)?;
    if usize::from(*count) != old || new > 127 {
        return None;
    }
    *count = u8::try_from(new).ok()?;
    Some(())
}
