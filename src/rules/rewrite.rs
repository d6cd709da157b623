//! Puts the sender's virtual address where a game wrote an address of its own into the payload, and its port where that is
//! another one here (`RewriteTo::port`).
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
        if rewrite.form.is_port() && to.port.is_none() {
            continue;
        }
        let payload = room.get(start..end)?;
        if let Some(count) = rewrite.form.bytes() {
            let at = start + rewrite.place.start(payload)?;
            let new = binary(rewrite.form, to)?;
            room.get_mut(..end)?.get_mut(at..at.checked_add(count)?)?.copy_from_slice(new.get(..count)?);
        } else {
            let piece = rewrite.place.find(payload)?;
            let Some((old, text)) = text(payload.get(piece.clone())?, rewrite.form, to, v4)? else {
                continue;
            };
            let old = start + piece.start + old.start..start + piece.start + old.end;
            let grown = splice(room, old, end, text.bytes())?;
            if rewrite.place.find == Find::Counted {
                let piece_len = piece.len() + grown - end;
                recount(room, start + piece.start, piece.len(), piece_len)?;
            }
            end = grown;
        }
        changed = true;
    }
    if !changed {
        return Some(len);
    }
    resize_udp(room.get_mut(..end)?).then_some(end)
}

/// What is written at a place of a fixed number of bytes.
fn binary(form: AddressForm, to: &RewriteTo) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    let mut write = |bytes: &[u8]| out.get_mut(..bytes.len()).map(|room| room.copy_from_slice(bytes));
    match form {
        AddressForm::Ipv4 => write(&to.v4.octets()),
        AddressForm::Ipv4Little => write(&to.v4.to_bits().to_le_bytes()),
        AddressForm::Ipv6 => write(&to.v6.octets()),
        AddressForm::PortBig => write(&to.port?.to_be_bytes()),
        AddressForm::PortLittle => write(&to.port?.to_le_bytes()),
        AddressForm::Host | AddressForm::HostPort | AddressForm::Port => None,
    }?;
    Some(out)
}

/// Which part of a text is replaced, and by what; `Some(None)` when it may stay, `None` when it is not what it should be.
fn text(text: &[u8], form: AddressForm, to: &RewriteTo, v4: bool) -> Option<Option<(Range<usize>, Text)>> {
    let is_port = |digits: &[u8]| (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let whole = 0..text.len();
    let new = match form {
        AddressForm::Port if !is_port(text) => return None,
        AddressForm::HostPort | AddressForm::Port if is_port(text) => {
            let Some(port) = to.port else { return Some(None) };
            (whole, Text::of(format_args!("{port}"))?)
        }
        AddressForm::HostPort => match text.iter().rposition(|b| *b == b':') {
            Some(colon) if text.get(colon + 1..).is_some_and(is_port) => match (to.port, v4) {
                (None, true) => (0..colon, Text::of(format_args!("{}", to.v4))?),
                (None, false) => (0..colon, Text::of(format_args!("[{}]", to.v6))?),
                (Some(port), true) => (whole, Text::of(format_args!("{}:{port}", to.v4))?),
                (Some(port), false) => (whole, Text::of(format_args!("[{}]:{port}", to.v6))?),
            },
            Some(_) | None => (whole, Text::address(to, v4)?),
        },
        AddressForm::Host => (whole, Text::address(to, v4)?),
        AddressForm::Ipv4
        | AddressForm::Ipv4Little
        | AddressForm::Ipv6
        | AddressForm::Port
        | AddressForm::PortBig
        | AddressForm::PortLittle => return None,
    };
    Some(Some(new))
}

/// An address or a port as text, on the stack.
struct Text {
    room: [u8; 48],
    len: usize,
}

impl Text {
    /// Never too long: 48 bytes hold the longest IPv6 address (39 bytes) with its brackets and a port.
    fn of(words: std::fmt::Arguments<'_>) -> Option<Self> {
        let mut text = Self { room: [0; 48], len: 0 };
        text.write_fmt(words).is_ok().then_some(text)
    }

    fn address(to: &RewriteTo, v4: bool) -> Option<Self> {
        if v4 { Self::of(format_args!("{}", to.v4)) } else { Self::of(format_args!("{}", to.v6)) }
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
        RewriteTo {
            seat: Seat(9),
            v4: "10.83.7.9".parse().unwrap(),
            v6: "fd00::9".parse().unwrap(),
            port: None,
        }
    }

    fn at(at: u16, find: Find, form: AddressForm) -> Rewrite {
        Rewrite { place: Locate { at, skip: Box::default(), find }, form }
    }

    fn between(form: AddressForm) -> Rewrite {
        at(0, Find::Between(b"<"[..].into(), b">"[..].into()), form)
    }

    /// The payload after rewriting, in `spare` bytes more room than the packet needs; checks the packet around it.
    fn applied(rewrites: &[Rewrite], v6: bool, payload: &[u8], spare: usize) -> Option<Vec<u8>> {
        applied_for(sender(), rewrites, v6, payload, spare)
    }

    fn applied_for(
        sender: RewriteTo,
        rewrites: &[Rewrite],
        v6: bool,
        payload: &[u8],
        spare: usize,
    ) -> Option<Vec<u8>> {
        let (from, to) = if v6 { ("[fe80::1]:5", "[ff02::1]:6") } else { ("10.0.0.1:5", "224.0.2.60:6") };
        let mut room = vec![0; 2000];
        let len = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 1, payload).unwrap();
        room.truncate(len + spare);
        let new = apply(rewrites, &mut room, len, &sender)?;
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
    fn a_port_is_replaced_only_where_the_sender_is_reached_at_another() {
        use AddressForm::{HostPort, Port, PortBig, PortLittle};
        let moved = RewriteTo { port: Some(40_000), ..sender() };
        for (form, v6, from, stays, goes) in [
            (Port, false, "<25565>", "<25565>", Some("<40000>")),
            (Port, false, "<world>", "<world>", None),
            (HostPort, false, "<25565>", "<25565>", Some("<40000>")),
            (HostPort, false, "<1.2.3.4:25565>", "<10.83.7.9:25565>", Some("<10.83.7.9:40000>")),
            (HostPort, true, "<x:1>", "<[fd00::9]:1>", Some("<[fd00::9]:40000>")),
            (HostPort, false, "<vm>", "<10.83.7.9>", Some("<10.83.7.9>")),
        ] {
            let rules = [between(form)];
            assert_eq!(applied(&rules, v6, from.as_bytes(), 20).as_deref(), Some(stays.as_bytes()), "{from}");
            let got = applied_for(moved, &rules, v6, from.as_bytes(), 20);
            assert_eq!(got.as_deref(), goes.map(str::as_bytes), "{from}");
        }
        let both = [at(1, Find::Nul, PortBig), at(3, Find::Nul, PortLittle)];
        assert_eq!(applied(&both, false, b"x", 0).unwrap(), b"x", "nothing to do, nothing to miss");
        assert_eq!(applied_for(moved, &both, false, b"x1234", 0).unwrap(), b"x\x9c\x40\x40\x9c");
        assert_eq!(applied_for(moved, &both, false, b"x123", 0), None);
    }

    #[test]
    fn binary_ipv6_addresses_are_replaced_whole() {
        let rule = [at(1, Find::Nul, AddressForm::Ipv6)];
        let mut want = b"x".to_vec();
        want.extend(sender().v6.octets());
        assert_eq!(applied(&rule, true, b"x0123456789abcdef", 0).unwrap(), want);
        assert_eq!(applied(&rule, true, b"x0123456789abcde", 9), None, "cut short");
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
