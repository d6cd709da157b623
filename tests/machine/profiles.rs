//! The shipped profiles against packets that their games really send, and against hostile ones.

use lanrage::model::addr::Seat;
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::rules::profile::{Evidence, Profile};
use lanrage::rules::ruleset::{RewriteTo, RuleIx, RuleKind, Ruleset, Side, Transport};
use lanrage::rules::sample::{self, Rewritten, Sample};
use lanrage::rules::shipped;
use lanrage::wire::frame::Class;
use lanrage::wire::packet::{PacketView, fix_checksums, write_udp};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("games")
}

fn files(ending: &str) -> BTreeSet<String> {
    let names = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
}

fn samples(id: &str) -> Vec<Sample> {
    let name = format!("games/{id}.samples");
    let text = std::fs::read_to_string(folder().join(format!("{id}.samples"))).unwrap();
    sample::parse(&name, &text).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// The sender that the `rewritten` lines of the samples are written for.
const SENDER: RewriteTo = RewriteTo {
    seat: Seat(9),
    v4: std::net::Ipv4Addr::new(10, 83, 7, 9),
    v6: std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9),
    port: None,
};

#[test]
fn the_list_of_shipped_files_and_the_folder_are_equal() {
    let listed: BTreeSet<String> = shipped::FILES
        .iter()
        .map(|(name, _)| name.strip_prefix("games/").unwrap().strip_suffix(".toml").unwrap().to_owned())
        .collect();
    assert_eq!(listed, files(".toml"), "rules::shipped::FILES and games/");
    assert_eq!(listed, files(".samples"), "every profile has its samples");
}

#[test]
fn every_shipped_profile_is_good_and_named_as_its_file() {
    let mut names = BTreeSet::new();
    for (file, text) in shipped::FILES {
        let profile = check_text(file, text).unwrap_or_else(|wrong| {
            panic!("{}", wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
        assert_eq!(format!("games/{}.toml", profile.id), *file);
        for name in profile.aliases.iter().chain([&profile.id.0]) {
            assert!(names.insert(name.clone()), "`{name}` is the name of two profiles");
        }
    }
    assert_eq!(shipped::all().len(), shipped::FILES.len());
}

#[test]
fn every_sample_is_what_its_file_says_alone_and_among_all_games() {
    let all = compile(&shipped::all()).unwrap();
    for profile in shipped::all() {
        let alone = compile(std::slice::from_ref(&profile)).unwrap();
        for sample in samples(&profile.id.0) {
            for rules in [&alone, &all] {
                check_sample(rules, &profile, &sample);
            }
        }
    }
}

fn check_sample(rules: &Ruleset, profile: &Profile, sample: &Sample) {
    let (packet, place) = (sample.packet().unwrap(), format!("{} [{}]", sample.place, sample.name));
    let view = PacketView::parse(&packet).unwrap();
    for side in [Side::FromGame, Side::FromPeer] {
        let rule = rules.classify(&view, sample.class, side);
        let expected = sample.expect.filter(|_| sample.side.is_none_or(|only| only == side));
        let facts = rule.map(|rule| rules.facts(rule).unwrap());
        assert_eq!(facts.map(|facts| facts.kind), expected, "{place} {side:?}");
        let (Some(rule), Some(facts)) = (rule, facts) else { continue };
        if profile.family.is_none() {
            assert_eq!(rules.profiles()[usize::from(facts.profile.0)], profile.id, "{place}");
        }
        let told = rules.describe(rule, &view);
        assert_eq!(told.as_ref().map(|d| (d.transport, d.port)), sample.join, "{place}");
        let told = told.unwrap_or_default();
        assert_eq!((told.title, told.map), (sample.title.clone(), sample.map.clone()), "{place}");
        assert_eq!(told.version, sample.version, "{place}");
        assert_eq!((told.players, told.most_players), sample.players, "{place}");
        check_rewrite(rules, rule, &packet, sample, &place);
    }
}

fn check_rewrite(rules: &Ruleset, rule: RuleIx, packet: &[u8], sample: &Sample, place: &str) {
    let mut room = [packet, &[0xee; 64]].concat();
    let len = rules.rewrite(rule, &mut room, packet.len(), &SENDER);
    let wanted = match &sample.rewritten {
        Rewritten::Refused => {
            assert_eq!(len, None, "{place}");
            return;
        }
        Rewritten::Same => &sample.payload,
        Rewritten::To(payload) => payload,
    };
    let packet = &room[..len.unwrap_or_else(|| panic!("{place}: refused"))];
    let view = PacketView::parse(packet).unwrap();
    assert_eq!(view.payload(), &wanted[..], "{place}");
    assert_eq!(
        (view.source(), view.destination(), view.ttl),
        (sample.from, sample.to, sample.ttl),
        "{place}"
    );
    assert_eq!(view.bytes.len(), packet.len(), "{place}: the header's length is the packet's");
    let mut fixed = packet.to_vec();
    assert!(fix_checksums(&mut fixed) && fixed == packet, "{place}: checksums");
}

#[test]
fn every_rule_has_a_sample_and_captured_profiles_have_captured_ones() {
    for profile in shipped::all() {
        let rules = compile(std::slice::from_ref(&profile)).unwrap();
        let (mut seen, mut captured) = (BTreeSet::new(), BTreeSet::new());
        for sample in samples(&profile.id.0) {
            let packet = sample.packet().unwrap();
            let view = PacketView::parse(&packet).unwrap();
            let found =
                [Side::FromGame, Side::FromPeer].map(|side| rules.classify(&view, sample.class, side));
            for rule in found.into_iter().flatten() {
                seen.insert(rule.0);
                captured.extend(sample.captured.then(|| rules.facts(rule).unwrap().kind));
            }
        }
        let kinds: BTreeSet<RuleKind> = profile.rules.iter().map(|rule| rule.kind).collect();
        assert_eq!(seen.len(), profile.rules.len(), "{}: rules without a sample", profile.id);
        if profile.evidence == Evidence::Captured {
            assert_eq!(captured, kinds, "{}: kinds of rules without a captured sample", profile.id);
            assert!(!profile.tested_on.is_empty(), "{}: captured from what?", profile.id);
        } else {
            assert!(captured.is_empty(), "{}: has captures, so say so", profile.id);
        }
    }
}

/// What the games' own LAN searches and joins were seen to use.
#[test]
fn the_ports_to_join_the_real_games_are_open() {
    use Transport::{Tcp, Udp};
    for (game, transport, port) in [
        ("minecraft", Tcp, 25565),
        ("bedrock", Udp, 19132),
        ("terraria", Tcp, 7777),
        ("openttd", Tcp, 3979),
        ("openttd", Udp, 3979),
        ("openarena", Udp, 27960),
        ("quake3", Udp, 27960),
        ("teeworlds", Udp, 8303),
        ("freeciv", Tcp, 5556),
        ("nexuiz", Udp, 26000),
        ("xonotic", Udp, 26000),
        ("doom", Udp, 2342),
        ("source", Udp, 27015),
    ] {
        let rules = compile(&[shipped::find(game).unwrap()]).unwrap();
        assert!(rules.plays_on(transport, port).is_some(), "{game} {port}");
        for (transport, port) in [(Tcp, 22), (Tcp, 8080), (Udp, 53), (Tcp, 445), (Tcp, 3389)] {
            assert!(rules.plays_on(transport, port).is_none(), "{game} {port}");
        }
    }
}

#[test]
fn a_search_of_sixteen_packets_passes_the_pace_of_its_rule() {
    for game in ["openarena", "teeworlds"] {
        let profile = shipped::find(game).unwrap();
        let queries = profile.rules.iter().filter(|rule| rule.kind == RuleKind::Query);
        assert!(queries.clone().count() > 0 && queries.clone().all(|rule| rule.pace.burst >= 16), "{game}");
    }
}

#[test]
fn games_are_found_by_id_and_alias_and_mistyped_ones_are_told() {
    for (asked, id) in
        [("minecraft", "minecraft-java"), ("Minecraft-Java", "minecraft-java"), (" doom ", "doom")]
    {
        assert_eq!(shipped::find(asked).unwrap().id.0, id);
    }
    for (asked, told) in [
        ("minecaft", "no profile is called `minecaft`; did you mean `minecraft`?"),
        ("opentdd", "no profile is called `opentdd`; did you mean `openttd`?"),
        ("solitaire", "no profile is called `solitaire`; `lanrage games list` shows all"),
    ] {
        assert_eq!(shipped::find(asked).unwrap_err().to_string(), told);
    }
}

#[test]
fn own_profiles_replace_shipped_ones_and_broken_ones_do_not() {
    let own = |text: &str| shipped::Catalog::new([("mine/doom.toml".to_owned(), text.to_owned())]);
    let good = own("id = \"doom\"\nname = \"My Doom\"\nevidence = \"unverified\"\n[play]\nudp = 5029\n");
    assert_eq!(good.find("doom").unwrap().name, "My Doom");
    assert_eq!((good.profiles.len(), good.wrong.len()), (shipped::FILES.len(), 0));
    let broken = own("id = \"doom\"\nname = 5\nevidence = \"unverified\"\n");
    assert_eq!(broken.find("doom").unwrap().name, shipped::find("doom").unwrap().name);
    assert_eq!(broken.wrong[0].to_string(), "mine/doom.toml:2:8: `name` must be text, not a whole number");
    let new = own("id = \"new\"\nname = \"New\"\nevidence = \"unverified\"\n[play]\nudp = 5029\n");
    assert_eq!(new.profiles.len(), shipped::FILES.len() + 1);
}

#[test]
fn a_profile_of_ones_own_that_overlaps_a_shipped_one_is_told_with_both_positions() {
    let text = "id = \"openttd\"\nname = \"Mine\"\nevidence = \"unverified\"\n[play]\nudp = 2342\n\
                [[rule]]\nkind = \"query\"\nport = 2342\n";
    let catalog = shipped::Catalog::new([("mine/openttd.toml".to_owned(), text.to_owned())]);
    let games = ["doom", "openttd"].map(|id| catalog.find(id).unwrap().clone());
    let wrong = compile(&games).unwrap_err();
    let told = wrong[0].to_string();
    assert!(
        told.starts_with("mine/openttd.toml:6:1: `doom` and `openttd` could want the same packet"),
        "{told}"
    );
    assert!(told.contains("(the rule of `doom`: games/doom.toml:"), "{told}");
}

static ALL: LazyLock<(Ruleset, Vec<Sample>)> = LazyLock::new(|| {
    let profiles = shipped::all();
    let samples = profiles.iter().flat_map(|p| samples(&p.id.0)).filter(|s| s.expect.is_some()).collect();
    (compile(&profiles).unwrap(), samples)
});

/// Asks everything about a packet; the answers must hold together.
fn ask_everything(packet: &[u8]) {
    let rules = &ALL.0;
    let Ok(view) = PacketView::parse(packet) else { return };
    for class in [Class::Unicast, Class::Limited, Class::Directed, Class::Multicast] {
        for side in [Side::FromGame, Side::FromPeer] {
            let Some(rule) = rules.classify(&view, class, side) else { continue };
            if let Some(told) = rules.describe(rule, &view) {
                assert!(told.port >= 1024 && told.title.chars().count() <= 80);
                assert!(!told.title.chars().any(char::is_control));
            }
            for spare in [0, 3, 64] {
                let mut room = [packet, &vec![0; spare]].concat();
                if let Some(len) = rules.rewrite(rule, &mut room, packet.len(), &SENDER) {
                    let again = PacketView::parse(&room[..len]).unwrap();
                    assert_eq!((again.source(), again.destination()), (view.source(), view.destination()));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn real_packets_with_broken_bytes_do_no_harm(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        end in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let sample = which.get(&ALL.1);
        let mut payload = sample.payload.clone();
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        payload.truncate(cut.index(payload.len() * 2) + 1);
        payload.extend(end);
        ask_everything(&Sample { payload, ..sample.clone() }.packet().unwrap());
    }

    #[test]
    fn bytes_of_any_kind_to_known_ports_do_no_harm(
        which in any::<prop::sample::Index>(),
        payload in prop::collection::vec(prop_oneof![Just(0u8), Just(b'\\'), Just(b';'), any::<u8>()], 0..300),
    ) {
        let sample = which.get(&ALL.1);
        let mut room = vec![0; 400];
        let len = write_udp(&mut room, sample.from, sample.to, 1, &payload).unwrap();
        ask_everything(&room[..len]);
    }

    #[test]
    fn keys_with_values_of_any_kind_are_refused_or_read(
        lines in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..12),
        header in any::<prop::sample::Index>(),
    ) {
        const HEADERS: [&str; 4] = ["", "[play]\n", "[proxy]\n", "[[rule]]\nkind = \"query\"\nport = 5000\n"];
        const VALUES: [&str; 16] = [
            "true", "0", "-1", "70000", "1.5", "nan", "\"\"", "\"any\"", "\"1-65535\"", "[]", "[[1], {}]", "{}",
            "{ at = 65507, u32 = \"le\" }", "{ key = \"a\", separator = \"\\u0000\" }", "1979-05-27", "\"be\"",
        ];
        let keys: Vec<&str> = lanrage::rules::schema::TABLES
            .iter()
            .flat_map(|(_, keys)| keys.iter().flat_map(|keys| keys.iter()))
            .map(|key| key.name)
            .collect();
        let mut text = "id = \"x\"\nname = \"X\"\nevidence = \"unverified\"\n".to_owned();
        let header: &&str = header.get(&HEADERS[..]);
        text.push_str(header);
        for (key, value) in &lines {
            text.push_str(&format!("{} = {}\n", key.get(&keys), value.get(&VALUES[..])));
        }
        match check_text("x.toml", &text) {
            Ok(profile) => prop_assert!(compile(&[profile]).is_ok()),
            Err(wrong) => prop_assert!(wrong.iter().all(|w| !w.render().is_empty()) && !wrong.is_empty()),
        }
    }

    #[test]
    fn profiles_with_broken_bytes_are_refused_or_read(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..6),
    ) {
        let (name, text) = which.get(shipped::FILES);
        let mut chars: Vec<char> = text.chars().collect();
        for (at, c) in changes {
            let at = at.index(chars.len());
            chars[at] = c;
        }
        match check_text(name, &chars.into_iter().collect::<String>()) {
            Ok(profile) => prop_assert!(compile(&[profile]).is_ok()),
            Err(wrong) => {
                prop_assert!(!wrong.is_empty(), "refused without a word");
                for one in wrong {
                    prop_assert!(one.to_string().starts_with(name));
                    prop_assert!(!one.render().is_empty());
                }
            }
        }
    }
}
