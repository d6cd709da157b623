//! What an announcement or an answer says of its game: texts that are safe to show, numbers, and the port to join.

use super::locate::{Find, Locate};
use super::ports::LOWEST;
use super::profile::{Form, GamePort, Listing, NumberAt, Opens, PlainPort, TextAt};
use super::ruleset::{Described, Transport};
use crate::wire::packet::PacketView;

/// Characters of a title; the longest that a game's own list shows.
const TEXT_CHARS: usize = 80;

/// Reads what a packet says; `None` when it names no port that may be opened.
pub(super) fn describe(listing: &Listing, join: Transport, view: &PacketView<'_>) -> Option<Described> {
    let port = game_port(&listing.port, view)?;
    let payload = view.payload();
    let text = |at: &Option<TextAt>| at.as_ref().and_then(|at| read_text(at, payload)).unwrap_or_default();
    let number = |at: &Option<NumberAt>| at.as_ref().and_then(|at| read_number(&at.place, at.form, payload));
    Some(Described {
        title: text(&listing.title),
        map: text(&listing.map),
        version: text(&listing.version),
        players: number(&listing.players),
        most_players: number(&listing.most_players),
        transport: join,
        port,
    })
}

/// The port of its sender that a packet wants open.
pub(super) fn opens(opens: &Opens, view: &PacketView<'_>) -> Option<(Transport, u16)> {
    game_port(&opens.port, view).map(|port| (opens.transport, port))
}

fn game_port(port: &GamePort, view: &PacketView<'_>) -> Option<u16> {
    let plain = |plain: PlainPort| match plain {
        PlainPort::Fixed(port) => port,
        PlainPort::Source => view.src_port,
    };
    let port = match port {
        GamePort::Plain(it) => plain(*it),
        GamePort::Plugin => return None,
        GamePort::Read { place, form, or } => {
            let read = read_number(place, *form, view.payload()).and_then(|port| u16::try_from(port).ok());
            read.filter(|port| *port >= LOWEST).or_else(|| or.map(plain))?
        }
    };
    (port >= LOWEST).then_some(port)
}

fn read_number(place: &Locate, form: Form, payload: &[u8]) -> Option<u32> {
    fn bytes<const N: usize>(place: &Locate, payload: &[u8]) -> Option<[u8; N]> {
        payload.get(place.start(payload)?..)?.first_chunk::<N>().copied()
    }
    match form {
        Form::Byte => bytes::<1>(place, payload).map(|[byte]| byte.into()),
        Form::Big => bytes(place, payload).map(u16::from_be_bytes).map(u32::from),
        Form::Little => bytes(place, payload).map(u16::from_le_bytes).map(u32::from),
        Form::Big32 => bytes(place, payload).map(u32::from_be_bytes),
        Form::Little32 => bytes(place, payload).map(u32::from_le_bytes),
        Form::Text => {
            let text = decoded(place, payload)?;
            text.rsplit(':').next()?.trim().parse().ok()
        }
    }
}

/// The text at a place.
fn decoded(place: &Locate, payload: &[u8]) -> Option<String> {
    let raw = payload.get(place.find(payload)?)?;
    if place.find == Find::Wide {
        let wide = raw.chunks_exact(2).filter_map(|two| two.first_chunk().copied()).map(u16::from_le_bytes);
        return Some(char::decode_utf16(wide).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect());
    }
    Some(String::from_utf8_lossy(raw).into_owned())
}

/// A text without colours, without anything that could play tricks on a terminal, and not too long.
fn read_text(at: &TextAt, payload: &[u8]) -> Option<String> {
    if at.form != Form::Text {
        return read_number(&at.place, at.form, payload).map(|number| number.to_string());
    }
    let raw = decoded(&at.place, payload)?;
    let mut chars = raw.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        if Some(c) == at.colour {
            chars.next();
        } else if !c.is_control() && !turns_text_around(c) {
            out.push(c);
        }
    }
    let out: String = out.trim().chars().take(TEXT_CHARS).collect();
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
        let listing =
            Listing { title: Some(TextAt { place, form: Form::Text, colour: Some('^') }), ..listing(port) };
        let packet = packet(payload);
        describe(&listing, Transport::Udp, &PacketView::parse(&packet).unwrap()).map(|d| (d.title, d.port))
    }

    fn listing(port: GamePort) -> Listing {
        Listing { title: None, map: None, version: None, players: None, most_players: None, port }
    }

    fn read(at: u16, form: Form, or: Option<PlainPort>) -> GamePort {
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
        assert_eq!(title(&[b'x'; 300]).len(), TEXT_CHARS);
    }

    #[test]
    fn ports_are_read_in_every_form_and_never_below_the_systems() {
        use Form::{Big, Little, Text};
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

    #[test]
    fn map_version_and_players_are_read_in_every_form() {
        let at = |at: u16| Locate { at, skip: Box::default(), find: Find::Nul };
        let text = |n: u16, form| Some(TextAt { place: at(n), form, colour: None });
        let number = |n: u16, form| Some(NumberAt { place: at(n), form });
        let port = GamePort::Plain(PlainPort::Source);
        let read = |listing: Listing| {
            let packet = packet(b"\x01\x02\x03\x04de_dust\x0012 \x00");
            describe(&listing, Transport::Udp, &PacketView::parse(&packet).unwrap()).unwrap()
        };
        let told = read(Listing {
            map: text(4, Form::Text),
            version: text(0, Form::Little),
            players: number(12, Form::Text),
            most_players: number(3, Form::Byte),
            ..listing(port.clone())
        });
        assert_eq!((told.map.as_str(), told.version.as_str()), ("de_dust", "513"));
        assert_eq!((told.players, told.most_players), (Some(12), Some(4)));
        let told = read(Listing {
            players: number(0, Form::Big32),
            most_players: number(0, Form::Little32),
            ..listing(port.clone())
        });
        assert_eq!((told.players, told.most_players), (Some(0x0102_0304), Some(0x0403_0201)));
        let told = read(Listing {
            players: number(4, Form::Text),
            most_players: number(15, Form::Big),
            ..listing(port)
        });
        assert_eq!((told.players, told.most_players), (None, None), "no digits, and beyond the end");
    }

    #[test]
    fn wide_text_is_read_as_windows_wrote_it() {
        let place = Locate { at: 0, skip: Box::default(), find: Find::Wide };
        let title = Some(TextAt { place, form: Form::Text, colour: None });
        let packet = packet(b"P\0\xe4\0\x3d\xd8!\0\0\0x");
        let listing = Listing { title, ..listing(GamePort::Plain(PlainPort::Source)) };
        let told = describe(&listing, Transport::Tcp, &PacketView::parse(&packet).unwrap()).unwrap();
        assert_eq!(told.title, "Pä\u{fffd}!");
    }
}
