//! What an announcement or an answer says of its game: a title that is safe to show, and the port to join.

use super::locate::Locate;
use super::ports::LOWEST;
use super::profile::{GamePort, Listing, PlainPort, PortForm, Title};
use super::ruleset::{Described, Transport};
use crate::wire::packet::PacketView;

/// Characters of a title; the longest that a game's own list shows.
const TITLE_CHARS: usize = 80;

/// Reads what a packet says; `None` when it names no port that may be opened.
pub(super) fn describe(listing: &Listing, join: Transport, view: &PacketView<'_>) -> Option<Described> {
    let port = game_port(&listing.port, view)?;
    let title =
        listing.title.as_ref().and_then(|title| read_title(title, view.payload())).unwrap_or_default();
    Some(Described { title, transport: join, port })
}

fn game_port(port: &GamePort, view: &PacketView<'_>) -> Option<u16> {
    let plain = |plain: PlainPort| match plain {
        PlainPort::Fixed(port) => port,
        PlainPort::Source => view.src_port,
    };
    let port = match port {
        GamePort::Plain(it) => plain(*it),
        GamePort::Read { place, form, or } => {
            let read = read_port(place, *form, view.payload()).filter(|port| *port >= LOWEST);
            read.or_else(|| or.map(plain))?
        }
    };
    (port >= LOWEST).then_some(port)
}

fn read_port(place: &Locate, form: PortForm, payload: &[u8]) -> Option<u16> {
    let two = || payload.get(place.start(payload)?..)?.first_chunk::<2>().copied();
    match form {
        PortForm::Big => two().map(u16::from_be_bytes),
        PortForm::Little => two().map(u16::from_le_bytes),
        PortForm::Text => {
            let text = std::str::from_utf8(payload.get(place.find(payload)?)?).ok()?;
            text.rsplit(':').next()?.trim().parse().ok()
        }
    }
}

/// The title without colours, without anything that could play tricks on a terminal, and not too long.
fn read_title(title: &Title, payload: &[u8]) -> Option<String> {
    let raw = String::from_utf8_lossy(payload.get(title.place.find(payload)?)?);
    let mut chars = raw.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        if Some(c) == title.colour {
            chars.next();
        } else if !c.is_control() && !turns_text_around(c) {
            out.push(c);
        }
    }
    let out: String = out.trim().chars().take(TITLE_CHARS).collect();
    // Freeciv says `-` for "no title"; a title without a single letter says no more.
    let says_something = out.chars().any(|c| !c.is_ascii_punctuation() && c != ' ');
    Some(if says_something { out } else { String::new() })
}

/// Marks of writing direction and invisible characters, with which a title can pretend to be another.
const fn turns_text_around(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::locate::Find;
    use crate::wire::packet::write_udp;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut room = vec![0; 2000];
        let from = "10.0.0.1:27961".parse().unwrap();
        let n = write_udp(&mut room, from, "10.0.0.2:5".parse().unwrap(), 7, payload).unwrap();
        room.truncate(n);
        room
    }

    fn told(port: GamePort, payload: &[u8]) -> Option<(String, u16)> {
        let place = Locate { at: 0, skip: Box::default(), find: Find::Nul };
        let listing = Listing { title: Some(Title { place, colour: Some('^') }), port };
        let packet = packet(payload);
        describe(&listing, Transport::Udp, &PacketView::parse(&packet).unwrap()).map(|d| (d.title, d.port))
    }

    fn read(at: u16, form: PortForm, or: Option<PlainPort>) -> GamePort {
        GamePort::Read { place: Locate { at, skip: Box::default(), find: Find::Nul }, form, or }
    }

    #[test]
    fn titles_lose_colours_and_tricks() {
        let title = |bytes: &[u8]| told(GamePort::Plain(PlainPort::Fixed(2000)), bytes).unwrap().0;
        assert_eq!(title(b"^1Red ^7Arena^"), "Red Arena");
        assert_eq!(title("\x1b[2J\u{202e}evil\u{200b}\n".as_bytes()), "[2Jevil");
        assert_eq!(title(b" - "), "");
        assert_eq!(title("★".as_bytes()), "★");
        assert_eq!(title(b"bad \xff utf"), "bad \u{fffd} utf");
        assert_eq!(title(&[b'x'; 300]).len(), TITLE_CHARS);
    }

    #[test]
    fn ports_are_read_in_every_form_and_never_below_the_systems() {
        use PortForm::{Big, Little, Text};
        let port = |port: GamePort, bytes: &[u8]| told(port, bytes).map(|t| t.1);
        let source = Some(PlainPort::Source);
        for (place, bytes, want) in [
            (read(0, Text, None), &b"5556\0"[..], Some(5556)),
            (read(0, Text, None), b"10.1.1.1:5556", Some(5556)),
            (read(0, Text, None), b"no", None),
            (read(0, Text, None), b"70000", None),
            (read(0, Text, None), b"22", None),
            (read(0, Text, source), b"0", Some(27961)),
            (read(1, Big, None), b"\0\x15\xb4", Some(5556)),
            (read(1, Little, None), b"\0\xb4\x15", Some(5556)),
            (read(1, Little, None), b"\0\xb4", None),
            (read(1, Little, source), b"\0\xb4", Some(27961)),
            (GamePort::Plain(PlainPort::Source), b"", Some(27961)),
        ] {
            assert_eq!(port(place.clone(), bytes), want, "{place:?} {bytes:?}");
        }
    }
}
