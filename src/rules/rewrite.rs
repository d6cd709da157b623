//! Puts the sender's virtual address where a game wrote an address of its own into the payload.
//!
//! Happens in place, in the packet's buffer, without allocation. All or nothing: when one address cannot be found the
//! packet is not to be sent, because a wrong address leads players to a stranger's computer or to their own.

use super::locate::Find;
use super::profile::{AddressForm, Rewrite};
use super::ruleset::RewriteTo;
use crate::wire::packet::{PacketView, proto, resize_udp};
use std::fmt::Write as _;
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
                let text = Text::of(to, v4, bracket)?;
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
    fn of(to: &RewriteTo, v4: bool, bracket: bool) -> Option<Self> {
        let mut text = Self { room: [0; 48], len: 0 };
        let written = match (v4, bracket) {
            (true, _) => write!(text, "{}", to.v4),
            (false, false) => write!(text, "{}", to.v6),
            (false, true) => write!(text, "[{}]", to.v6),
        };
        // Never too long: 48 bytes hold the longest IPv6 address (39 bytes) with its brackets.
        written.is_ok().then_some(text)
    }

    fn bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or(&[])
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        let end = self.len + piece.len();
        self.room.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(piece.as_bytes());
        self.len = end;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::addr::Seat;
    use crate::rules::locate::{Locate, Step};
    use crate::wire::packet::{fix_checksums, write_udp};

    fn sender() -> RewriteTo {
        RewriteTo { seat: Seat(9), v4: "10.83.7.9".parse().unwrap(), v6: "fd00::9".parse().unwrap() }
    }

    fn at(at: u16, find: Find, form: AddressForm) -> Rewrite {
        Rewrite { place: Locate { at, skip: Box::default(), find }, form }
    }

    fn between(form: AddressForm) -> Rewrite {
        at(0, Find::Between(b"<"[..].into(), b">"[..].into()), form)
    }

    /// The payload after rewriting, in `spare` bytes more room than the packet needs; checks the packet around it.
    fn applied(rewrites: &[Rewrite], v6: bool, payload: &[u8], spare: usize) -> Option<Vec<u8>> {
        let (from, to) = if v6 { ("[fe80::1]:5", "[ff02::1]:6") } else { ("10.0.0.1:5", "224.0.2.60:6") };
        let mut room = vec![0; 2000];
        let len = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 1, payload).unwrap();
        room.truncate(len + spare);
        let new = apply(rewrites, &mut room, len, &sender())?;
        let view = PacketView::parse(&room[..new]).unwrap();
        assert_eq!((view.bytes.len(), view.source()), (new, from.parse().unwrap()));
        let mut fixed = room[..new].to_vec();
        assert!(fix_checksums(&mut fixed) && fixed == room[..new], "checksums");
        Some(view.payload().to_vec())
    }

    #[test]
    fn addresses_as_text_are_replaced_in_every_form() {
        use AddressForm::{Host, HostPort};
        for (form, from, to) in [
            (Host, "<vm>", "<10.83.7.9>"),
            (Host, "<>", "<10.83.7.9>"),
            (Host, "<2001:db8::1:5:6>", "<10.83.7.9>"),
            (HostPort, "<25565>", "<25565>"),
            (HostPort, "<192.168.100.200:25565>", "<10.83.7.9:25565>"),
            (HostPort, "<[fe80::1]:25565>", "<10.83.7.9:25565>"),
            (HostPort, "<:25565>", "<10.83.7.9:25565>"),
            (HostPort, "<localhost>", "<10.83.7.9>"),
            (HostPort, "<host:name>", "<10.83.7.9>"),
        ] {
            assert_eq!(
                applied(&[between(form)], false, from.as_bytes(), 20).unwrap(),
                to.as_bytes(),
                "{from}"
            );
        }
    }

    #[test]
    fn ipv6_packets_get_the_ipv6_address_with_brackets_before_a_port() {
        assert_eq!(applied(&[between(AddressForm::Host)], true, b"<x>", 20).unwrap(), b"<fd00::9>");
        assert_eq!(applied(&[between(AddressForm::HostPort)], true, b"<x:5>", 20).unwrap(), b"<[fd00::9]:5>");
    }

    #[test]
    fn binary_addresses_are_replaced_in_both_orders() {
        let both = [at(1, Find::Nul, AddressForm::Ipv4), at(5, Find::Nul, AddressForm::Ipv4Little)];
        assert_eq!(applied(&both, false, b"xAAAABBBBy", 0).unwrap(), b"x\x0a\x53\x07\x09\x09\x07\x53\x0ay");
        assert_eq!(applied(&both, false, b"xAAAABBB", 9), None, "cut short");
    }

    #[test]
    fn several_rewrites_see_what_the_ones_before_did() {
        let second = Rewrite {
            place: Locate { at: 0, skip: [Step::Nul].into(), find: Find::Nul },
            form: AddressForm::Host,
        };
        let both = [at(0, Find::Nul, AddressForm::Host), second];
        assert_eq!(applied(&both, false, b"a\0b\0end", 40).unwrap(), b"10.83.7.9\x0010.83.7.9\0end");
    }

    #[test]
    fn a_counted_text_gets_its_new_length() {
        let rewrite = [at(1, Find::Counted, AddressForm::Host)];
        assert_eq!(applied(&rewrite, false, b"x\x02vmrest", 20).unwrap(), b"x\x0910.83.7.9rest");
        assert_eq!(applied(&rewrite, false, b"x\x82\x00vmrest", 20), None, "a length of two bytes");
    }

    #[test]
    fn what_does_not_fit_or_is_not_there_is_refused() {
        let grows = [between(AddressForm::Host)];
        assert_eq!(applied(&grows, false, b"<x>", 7), None);
        assert_eq!(applied(&grows, false, b"<x>", 8).unwrap(), b"<10.83.7.9>", "exactly fits");
        assert_eq!(applied(&grows, false, b"x", 50), None);
        assert_eq!(apply(&grows, &mut [0; 40], 40, &sender()), None, "no packet");
        assert_eq!(apply(&grows, &mut [0; 40], 50, &sender()), None, "longer than the room");
    }
}
