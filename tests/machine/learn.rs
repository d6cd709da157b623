//! The learner against captures of real games: what it drafts must take every packet for what the shipped profile, written
//! by hand, takes it for. Where the two differ, the difference is named here, and no other is allowed.

use lanrage::model::addr::Seat;
use lanrage::rules::capture::{self, Capture, Captured};
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::rules::learn::{Addressing, Draft, NothingLearned, Proof, Wish, learn, prove};
use lanrage::rules::ruleset::{RewriteTo, RuleKind, Ruleset, Side, Transport};
use lanrage::rules::{sample, shipped};
use lanrage::wire::frame::Class;
use lanrage::wire::packet::{PacketView, write_udp};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

fn bytes_of(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(format!("{name}.pcap"));
    std::fs::read(file).unwrap()
}

fn capture_of(name: &str) -> Capture {
    capture::read(&bytes_of(name)).unwrap()
}

fn wish(name: &str) -> Wish {
    Wish { id: "learned".into(), name: "Learned".into(), file: format!("{name}.pcap"), ..Wish::default() }
}

fn rules_of(draft: &Draft) -> Ruleset {
    let profile = check_text("learned.toml", &draft.profile)
        .unwrap_or_else(|wrong| panic!("{}\n{}", draft.profile, wrong[0].render()));
    compile(&[profile]).unwrap()
}

/// What rules make of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    kind: Option<RuleKind>,
    joined: Option<(Transport, u16)>,
    title: Option<String>,
    after: Option<Vec<u8>>,
}

const SENDER: RewriteTo = RewriteTo {
    seat: Seat(9),
    v4: std::net::Ipv4Addr::new(10, 83, 7, 9),
    v6: std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9),
    port: None,
};

fn verdict(rules: &Ruleset, view: &PacketView<'_>, class: Class) -> Verdict {
    let Some(rule) = rules.classify(view, class, Side::FromPeer) else {
        return Verdict { kind: None, joined: None, title: None, after: None };
    };
    let mut room = [view.bytes, &[0; 64]].concat();
    let len = rules.rewrite(rule, &mut room, view.bytes.len(), &SENDER);
    let told = rules.describe(rule, view);
    Verdict {
        kind: rules.facts(rule).map(|facts| facts.kind),
        joined: told.as_ref().map(|told| (told.transport, told.port)),
        title: told.map(|told| told.title),
        after: len.map(|len| room[..len].to_vec()),
    }
}

/// The captures, the shipped profile, how many packets of the capture are discovery, and how many of these belong to a
/// search: a join of Teeworlds begins with three packets that are answers bit for bit.
const GAMES: [(&str, &str, usize, usize); 8] = [
    ("doom", "doom", 4, 4),
    ("openttd", "openttd", 4, 4),
    ("openarena", "openarena", 38, 38),
    ("nexuiz", "nexuiz", 26, 26),
    ("minecraft_java", "minecraft-java", 3, 3),
    ("minecraft_bedrock", "minecraft-bedrock", 8, 8),
    ("teeworlds", "teeworlds", 30, 27),
    ("freeciv", "freeciv", 4, 4),
];

#[test]
fn what_is_learned_equals_what_was_written_by_hand_on_every_packet() {
    for (name, id, discovery, searching) in GAMES {
        let capture = capture_of(name);
        let draft = learn(std::slice::from_ref(&capture), &wish(name)).unwrap();
        let (own, shipped) = (rules_of(&draft), compile(&[shipped::find(id).unwrap()]).unwrap());
        let addressing = Addressing::of(&capture);
        let mut found = 0;
        for one in &capture.packets {
            let view = PacketView::parse(&one.packet).unwrap();
            let class = addressing.class(view.dst);
            let (ours, theirs) = (verdict(&own, &view, class), verdict(&shipped, &view, class));
            assert_eq!(ours, theirs, "{name} packet {}\n{}", one.number, draft.profile);
            found += usize::from(ours.kind.is_some());
        }
        assert_eq!(found, discovery, "{name}");
        assert_eq!((draft.proof.right, draft.proof.wrong, draft.proof.mistaken), (searching, 0, 0), "{name}");
        for join in joins(&capture) {
            let by_hand = shipped.plays_on(join.0, join.1).is_some();
            let known = [(Transport::Tcp, 25599)].contains(&join);
            assert!(own.plays_on(join.0, join.1).is_some() && (by_hand || known), "{name} {join:?}");
        }
    }
}

/// The connections that clients opened, all of which go to the game in these captures.
fn joins(capture: &Capture) -> Vec<(Transport, u16)> {
    let port = |c: &Captured| PacketView::parse(&c.packet).unwrap().dst_port;
    capture.openings.iter().map(|c| (Transport::Tcp, port(c))).collect()
}

#[test]
fn the_samples_of_a_draft_hold_and_would_notice_a_change() {
    for (name, ..) in GAMES {
        let draft = learn(&[capture_of(name)], &wish(name)).unwrap();
        let samples =
            sample::parse("learned.samples", &draft.samples).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(prove(&rules_of(&draft), &samples), Vec::<String>::new(), "{name}");
        assert!(samples.iter().any(|s| s.expect.is_some()), "{name}");
        let port = draft.profile.lines().find(|l| l.starts_with("port = ")).unwrap();
        let other = Draft { profile: draft.profile.replacen(port, "port = 1", 1), ..draft };
        assert!(!prove(&rules_of(&other), &samples).is_empty(), "{name}");
    }
}

#[test]
fn every_line_of_a_draft_that_is_not_plain_has_its_reason() {
    let draft = learn(&[capture_of("minecraft_java")], &wish("minecraft_java")).unwrap();
    for (reason, line) in [
        ("# seen: a server says it to many, unasked", "kind = \"announcement\""),
        ("# seen: said every 1.5 s", "rhythm = 1.5\nlife = 8"),
        ("# seen: the port that was joined, as text", "game_port = { between = [\"[AD]\", \"[/AD]\"] }"),
    ] {
        assert!(draft.profile.contains(&format!("{reason}\n{line}\n")), "{}", draft.profile);
    }
    assert!(draft.guesses.iter().any(|g| g.starts_with("only one server was heard")), "{:?}", draft.guesses);
    assert!(draft.left_out.iter().any(|l| l == "66: no UDP, or not whole"), "{:?}", draft.left_out);
}

/// A made game: two servers announce themselves, a client joins one of them at the port that its announcement names.
fn made(host: bool) -> Capture {
    let mut capture = Capture::default();
    let mut add = |ms: u64, from: &str, to: &str, payload: &[u8]| {
        let mut room = vec![0; 2000];
        let n = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 64, payload).unwrap();
        room.truncate(n);
        let number = capture.packets.len() + 1;
        capture.packets.push(Captured { number, at: Duration::from_millis(ms), sent: None, packet: room });
    };
    for (server, port, title) in [(1u8, 7001u16, "Alpha base"), (2, 7002, "Bravo")] {
        for n in 0..5u64 {
            let mut payload = b"GAME\x07".to_vec();
            payload.extend(u32::try_from(0x0102_0300 + n).unwrap().to_be_bytes());
            payload.extend(if host { [192, 168, 7, server] } else { [server, 7, 168, 192] });
            payload.extend(port.to_le_bytes());
            payload.extend(title.as_bytes());
            payload.push(0);
            let from = format!("192.168.7.{server}:5000");
            add(n * 1000 + u64::from(server), &from, "192.168.7.255:5001", &payload);
        }
        add(6000, "192.168.7.9:40000", &format!("192.168.7.{server}:{port}"), b"\x01join");
        add(6001, &format!("192.168.7.{server}:{port}"), "192.168.7.9:40000", b"\x02welcome");
        add(
            6500 + u64::from(server),
            &format!("192.168.7.{server}:5000"),
            "192.168.7.255:5001",
            b"GAME\x08bye",
        );
    }
    capture.packets.sort_by_key(|c| c.at);
    capture
}

#[test]
fn addresses_ports_titles_and_last_words_of_an_announcer_are_found() {
    for (host, form) in [(true, "ipv4"), (false, "ipv4-le")] {
        let draft = learn(&[made(host)], &wish("made")).unwrap();
        for line in [
            "kind = \"announcement\"\nport = 5001\n",
            "{ text = \"GAME\" },\n  { at = 4, hex = \"07\" }",
            "rhythm = 1.0\nlife = 5\n",
            "title = { at = 15 }",
            "game_port = { at = 13, u16 = \"le\" }",
            &format!("at = 9\nas = \"{form}\""),
            "kind = \"closing\"",
        ] {
            assert!(draft.profile.contains(line), "{line}\n{}", draft.profile);
        }
        assert_eq!((draft.proof.wrong, draft.proof.mistaken), (0, 0), "{:?}\n{}", draft.proof, draft.profile);
    }
}

#[test]
fn a_title_that_the_person_names_is_looked_for_instead_of_guessed() {
    let asked = Wish { title: Some("Creative".into()), ..wish("minecraft_bedrock") };
    let draft = learn(&[capture_of("minecraft_bedrock")], &asked).unwrap();
    assert!(
        draft.profile.contains("# seen: here it says \"Creative\"\ntitle = { at = 35, field = 8 }"),
        "{}",
        draft.profile
    );
}

#[test]
fn a_sum_behind_the_text_hides_neither_title_nor_address() {
    let asked = Wish { title: Some("Ann's castle".into()), ..wish("castle-rush") };
    let draft = learn(&[capture_of("castle-rush")], &asked).unwrap();
    for line in [
        "title = { field = 1, separator = \"|\" }",
        "game_port = { field = 2, separator = \"|\" }",
        "[[rule.rewrite]]\n# seen: the sender's own address as text\nfield = 2\nseparator = \"|\"\nas = \"host:port\"",
    ] {
        assert!(draft.profile.contains(line), "{line}\n{}", draft.profile);
    }
    assert_eq!((draft.proof.wrong, draft.proof.mistaken), (0, 0), "{:?}\n{}", draft.proof, draft.profile);
}

#[test]
fn a_capture_without_a_search_says_what_it_holds() {
    let mut capture = capture_of("doom");
    capture.packets.retain(|c| PacketView::parse(&c.packet).unwrap().dst.to_string() != "255.255.255.255");
    let told = learn(&[capture], &wish("doom")).unwrap_err();
    assert!(
        matches!(told, NothingLearned::NoDiscovery(_)) && told.to_string().contains("26 frames"),
        "{told}"
    );
}

#[test]
fn only_the_ports_that_were_asked_for_are_looked_at() {
    let mixed = [capture_of("doom"), capture_of("minecraft_bedrock")];
    let draft = learn(&mixed, &Wish { ports: vec![2342], ..wish("doom") }).unwrap();
    assert!(!draft.profile.contains("19132") && draft.profile.contains("2342"), "{}", draft.profile);
    assert!(draft.left_out.iter().any(|l| l.contains("other ports")), "{:?}", draft.left_out);
}

/// Whatever a capture holds, a draft is a profile, its samples can be read, and both fit together.
fn must_hold(capture: Capture) {
    match learn(&[capture], &wish("hostile")) {
        Ok(draft) => {
            let samples = sample::parse("learned.samples", &draft.samples).unwrap();
            let _ = prove(&rules_of(&draft), &samples);
            let Proof { right, wrong, .. } = draft.proof;
            assert!(right + wrong > 0 && draft.profile.len() < 64 << 10);
        }
        Err(NothingLearned::NoDiscovery(_)) => {}
        Err(NothingLearned::Broken(why)) => panic!("{why}"),
    }
}

fn hostile_packet() -> impl Strategy<Value = (u64, u8, u8, u16, u16, Vec<u8>)> {
    let port = || prop_oneof![Just(2342u16), Just(5000), Just(5001), Just(40_000), any::<u16>()];
    let byte = prop_oneof![
        Just(0u8),
        Just(b'\\'),
        Just(b'['),
        Just(b']'),
        Just(b'/'),
        Just(b'A'),
        Just(b';'),
        Just(b'='),
        Just(b'"'),
        Just(b'\n'),
        any::<u8>()
    ];
    (0u64..20_000, 0u8..4, 0u8..6, port(), port(), prop::collection::vec(byte, 0..80))
}

/// What a server says of itself, in one of the forms that games use.
fn said(form: usize, magic: &[u8], texts: &[String], tail: &[u8]) -> Vec<u8> {
    let joined = |separator: &str| texts.join(separator).into_bytes();
    let body = match form {
        0 => joined("|"),
        1 => joined(";"),
        2 => joined("\0"),
        3 => texts.iter().enumerate().map(|(n, t)| format!("\\key{n}\\{t}")).collect::<String>().into_bytes(),
        4 => texts.iter().enumerate().map(|(n, t)| format!("key{n}={t};")).collect::<String>().into_bytes(),
        5 => texts
            .iter()
            .enumerate()
            .map(|(n, t)| format!("[K{n}]{t}[/K{n}]"))
            .collect::<String>()
            .into_bytes(),
        _ => texts.iter().flat_map(|t| [&[u8::try_from(t.len()).unwrap()], t.as_bytes()].concat()).collect(),
    };
    [magic, &body, tail].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_server_may_say_where_it_is_in_any_form(
        form in 0usize..7,
        magic in prop::collection::vec(any::<u8>(), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..3),
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        title in "[A-Za-z' ]{3,12}",
    ) {
        let mut capture = Capture::default();
        let mut add = |ms: u64, from: &str, to: &str, payload: &[u8]| {
            let mut room = vec![0; 600];
            let n = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 64, payload).unwrap();
            room.truncate(n);
            let number = capture.packets.len() + 1;
            capture.packets.push(Captured { number, at: Duration::from_millis(ms), sent: None, packet: room });
        };
        for n in 0..4u64 {
            let texts = [title.clone(), "192.168.7.1".to_owned(), format!("192.168.7.1:{}", 7000), format!("{n}/8")];
            let texts: Vec<String> = order.iter().map(|at| texts[*at].clone()).collect();
            add(n * 1000, "192.168.7.1:5000", "255.255.255.255:5001", &said(form, &magic, &texts, &tail));
        }
        add(5000, "192.168.7.9:40000", "192.168.7.1:7000", b"\x01join");
        add(5001, "192.168.7.1:7000", "192.168.7.9:40000", b"\x02welcome");
        must_hold(capture);
    }

    #[test]
    fn hostile_traffic_makes_at_worst_a_poor_draft(packets in prop::collection::vec(hostile_packet(), 1..40)) {
        let mut capture = Capture::default();
        for (i, (at, from, to, sport, dport, payload)) in packets.into_iter().enumerate() {
            let to = match to {
                4 => "255.255.255.255".to_owned(),
                5 => "239.1.2.3".to_owned(),
                n => format!("192.168.7.{n}"),
            };
            let mut room = vec![0; 400];
            let from = format!("192.168.7.{from}:{}", sport.max(1));
            let n = write_udp(&mut room, from.parse().unwrap(), format!("{to}:{}", dport.max(1)).parse().unwrap(), 9, &payload).unwrap();
            room.truncate(n);
            capture.packets.push(Captured { number: i + 1, at: Duration::from_millis(at), sent: None, packet: room });
        }
        must_hold(capture);
    }

    #[test]
    fn broken_files_do_no_harm(
        which in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = bytes_of(GAMES[which].0);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file.truncate(cut.index(file.len()) + 1);
        if let Ok(capture) = capture::read(&file) {
            must_hold(capture);
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
fn a_flood_costs_bounded_time_and_memory() {
    let mut capture = Capture::default();
    let mut kinds = BTreeMap::new();
    for n in 0..60_000u32 {
        let payload = n.to_be_bytes().repeat(20);
        let from = format!("10.0.{}.{}:{}", n >> 8 & 63, n & 127, 1024 + n % 1000);
        let to = if n % 2 == 0 {
            "255.255.255.255:9000".to_owned()
        } else {
            format!("10.0.1.{}:{}", n % 90 + 128, 2000 + n % 7919)
        };
        let mut room = vec![0; 200];
        let len = write_udp(&mut room, from.parse().unwrap(), to.parse().unwrap(), 9, &payload).unwrap();
        room.truncate(len);
        *kinds.entry(n % 2).or_insert(0) += 1;
        capture.packets.push(Captured {
            number: 1,
            at: Duration::from_millis(n.into()),
            sent: None,
            packet: room,
        });
    }
    let started = std::time::Instant::now();
    must_hold(capture);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?} {kinds:?}", started.elapsed());
}
