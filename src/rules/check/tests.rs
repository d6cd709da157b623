//! Broken profiles and what people are told: the exact words, because they are what the documentation promises.

use super::*;
use crate::rules::profile::{GamePort, PlainPort, To};
use crate::rules::ruleset::{Pace, RuleKind};
use std::time::Duration;

const HEAD: &str = "id = \"x\"\nname = \"X\"\nevidence = \"unverified\"\n";

fn told(text: &str) -> Vec<String> {
    match check_text("x.toml", text) {
        Ok(_) => Vec::new(),
        Err(wrong) => wrong.iter().map(ToString::to_string).collect(),
    }
}

/// A profile that is right but for one rule; the rule starts at line 6.
fn rule(lines: &str) -> String {
    format!("{HEAD}[play]\nudp = 5000\n[[rule]]\n{lines}")
}

#[test]
fn a_short_profile_gets_sensible_defaults() {
    let profile = check_text("x.toml", &rule("kind = \"answer\"\nfrom_port = 5000\n")).unwrap();
    let [rule] = &profile.rules[..] else { panic!() };
    assert_eq!((rule.kind, rule.side, &rule.to[..]), (RuleKind::Answer, None, &[To::Unicast][..]));
    assert_eq!(rule.pace, Pace { per_second: 50, burst: 100 });
    assert_eq!((rule.life, rule.deliver), (Duration::from_secs(60), None));
    assert_eq!(rule.lists.as_ref().unwrap().port, GamePort::Plain(PlainPort::Source));
    assert_eq!(profile.play.join, Transport::Udp);
    assert_eq!(rule.place.to_string(), "x.toml:6:1");
}

#[test]
fn unknown_keys_are_told_with_the_nearest_known_one() {
    for (text, wrong) in [
        (
            format!("{HEAD}proces = \"a\"\n[play]\nudp = 5000\n"),
            "x.toml:4:1: unknown key `proces` in the profile; did you mean `processes`?",
        ),
        (
            format!("{HEAD}[play]\nudp = 5000\nports = 5\n"),
            "x.toml:6:1: unknown key `ports` in [play]; known here: `tcp`, `udp`, `join`, `dynamic`, `peers`",
        ),
        (
            rule("kind = \"query\"\nprot = 5000\nport = 5000\n"),
            "x.toml:8:1: unknown key `prot` in [[rule]]; did you mean `port`?",
        ),
        (
            rule("kind = \"query\"\nport = 5000\nmatch = { txt = \"a\", text = \"b\" }\n"),
            "x.toml:9:11: unknown key `txt` in match; did you mean `text`?",
        ),
        (
            rule("kind = \"query\"\nport = 5000\npace = { persecond = 1 }\n"),
            "x.toml:9:10: unknown key `persecond` in pace; did you mean `per_second`?",
        ),
        (
            rule("kind = \"answer\"\nfrom_port = 5000\ntitle = { offset = 1 }\n"),
            "x.toml:9:11: unknown key `offset` in title; known here: `colour`, `u8`, `u16`, `u32`, `at`, `skip`, `string`, `between`, `key`, `field`, `separator`",
        ),
        (
            rule(
                "kind = \"answer\"\nfrom_port = 5000\n[[rule.rewrite]]\nas = \"host\"\nbetwen = [\"a\", \"b\"]\n",
            ),
            "x.toml:11:1: unknown key `betwen` in [[rule.rewrite]]; did you mean `between`?",
        ),
    ] {
        assert_eq!(told(&text), [wrong]);
    }
}

#[test]
fn wrong_values_are_told_with_file_line_and_column() {
    for (lines, wrong) in [
        (
            "kind = \"anouncement\"\nport = 5000\n",
            "x.toml:7:8: `anouncement` is no `kind`; did you mean `announcement`?",
        ),
        (
            "kind = \"shout\"\nport = 5000\n",
            "x.toml:7:8: `shout` is no `kind`; use one of `announcement`, `query`, `answer`, `closing`",
        ),
        ("port = 5000\n", "x.toml:6:1: missing key `kind` in [[rule]]"),
        (
            "kind = \"query\"\n",
            "x.toml:6:1: missing key `port` in [[rule]]; `port` is the destination port; lanrage listens on the cards for exactly these ports",
        ),
        (
            "kind = \"answer\"\n",
            "x.toml:6:1: missing key `from_port` in [[rule]]; `from_port` is the port that the server answers from",
        ),
        (
            "kind = \"query\"\nport = true\n",
            "x.toml:8:8: `port` must be a port such as 27960 or a range such as \"27960-27963\", not true or false",
        ),
        ("kind = \"query\"\nport = [5000, 70000]\n", "x.toml:8:15: `port` must be 1 to 65535, not 70000"),
        (
            "kind = \"query\"\nport = \"6000-5000\"\n",
            "x.toml:8:8: `port` must be a port such as 27960 or a range such as \"27960-27963\", not `6000-5000`",
        ),
        ("kind = \"query\"\nport = []\n", "x.toml:8:8: `port` needs 1 to 32 ports or ranges"),
        (
            "kind = \"query\"\nport = 5000\nto = [\"limited\", \"group:10.0.0.1\"]\n",
            "x.toml:9:18: `10.0.0.1` is no multicast group; groups are 224.0.0.0 to 239.255.255.255 and ff00::/8, such as `group:224.0.2.60`",
        ),
        (
            "kind = \"query\"\nport = 5000\nto = \"brodcast\"\n",
            "x.toml:9:6: `brodcast` is no `to`; did you mean `broadcast`?",
        ),
        (
            "kind = \"query\"\nport = 5000\nmatch = { hex = \"0g\" }\n",
            "x.toml:9:17: `hex` is not hexadecimal: character 2 is neither a hexadecimal digit nor part of `??`",
        ),
        (
            "kind = \"query\"\nport = 5000\nmatch = { at = 1 }\n",
            "x.toml:9:9: `match` needs either `text` or `hex`; for example { hex = \"ff ff\" }",
        ),
        (
            "kind = \"query\"\nport = 5000\nmatch = { hex = \"01 02\", mask = \"ff\" }\n",
            "x.toml:9:33: `mask` must have as many bytes as what it masks, without `??`",
        ),
        (
            "kind = \"query\"\nport = 5000\nlength = 3\nmatch = { at = 2, hex = \"01 02\" }\n",
            "x.toml:10:9: can never match: it needs 4 bytes, and `length` allows 3",
        ),
        (
            "kind = \"query\"\nport = 5000\npace = { burst = 0 }\n",
            "x.toml:9:18: `burst` must be 1 to 1000, not 0",
        ),
    ] {
        assert_eq!(told(&rule(lines)), [wrong]);
    }
}

#[test]
fn values_in_the_wrong_place_are_told_with_file_line_and_column() {
    for (lines, wrong) in [
        (
            "kind = \"query\"\nport = 5000\nlife = 5\n",
            "x.toml:9:8: `life` belongs to announcements and answers",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\nanswers_within = 5\n",
            "x.toml:9:18: `answers_within` belongs to queries",
        ),
        (
            "kind = \"query\"\nport = 5000\ndeliver = \"multicast\"\n",
            "x.toml:9:11: `deliver = \"multicast\"` needs exactly one group; name it in `to`, such as `group:224.0.2.60`",
        ),
        (
            "kind = \"query\"\nport = 5000\ntitle = { at = 1 }\n",
            "x.toml:9:9: `title` is of no use here: a query does not describe a game",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\nlists = false\ngame_port = 5000\n",
            "x.toml:10:13: `game_port` is of no use here: `lists` is false",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\ntitle = { key = \"a\", field = 1 }\n",
            "x.toml:9:9: only one of `string`, `between`, `key` and `field` can say where it ends",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\ntitle = { between = \"a\" }\n",
            "x.toml:9:21: `between` needs two markers, such as [\"[AD]\", \"[/AD]\"]",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\ntitle = { at = 1, separator = \",\" }\n",
            "x.toml:9:31: `separator` belongs to `field` and `key`",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\ntitle = { skip = [\"nul\", \"nil\"] }\n",
            "x.toml:9:26: `nil` is no `skip`; did you mean `nul`?",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\ngame_port = 80\n",
            "x.toml:9:13: `game_port` must be 1024 to 65535, not 80",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\ngame_port = \"sauce\"\n",
            "x.toml:9:13: `game_port` must be a port, \"source\" or a table, not `sauce`",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\ngame_port = { u16 = \"be\", field = 1 }\n",
            "x.toml:9:13: `u16` is at `at`, behind `skip`; it needs no way to find an end",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\n[[rule.rewrite]]\nas = \"hots\"\n",
            "x.toml:10:6: `hots` is no `as`; did you mean `host`?",
        ),
        (
            "kind = \"answer\"\nfrom_port = 5000\n[[rule.rewrite]]\nat = 1\n",
            "x.toml:9:1: missing key `as` in [[rule.rewrite]]",
        ),
    ] {
        assert_eq!(told(&rule(lines)), [wrong]);
    }
}

#[test]
fn mistakes_in_what_is_read_and_opened_are_told_with_file_line_and_column() {
    let answer = |more: &str| rule(&format!("kind = \"answer\"\nfrom_port = 5000\n{more}\n"));
    let query = |more: &str| rule(&format!("kind = \"query\"\nport = 5000\n{more}\n"));
    let announcement = |more: &str| rule(&format!("kind = \"announcement\"\nport = 5000\n{more}\n"));
    for (text, wrong) in [
        (answer("rhythm = 2"), "x.toml:9:10: `rhythm` belongs to announcements"),
        (announcement("rhythm = \"2\""), "x.toml:9:10: `rhythm` must be a number of seconds, not text"),
        (announcement("rhythm = 0.01"), "x.toml:9:10: `rhythm` must be 0.1 to 600 seconds, not 0.01"),
        (announcement("rhythm = nan"), "x.toml:9:10: `rhythm` must be 0.1 to 600 seconds, not NaN"),
        (answer("answers_tcp = 2300"), "x.toml:9:15: `answers_tcp` belongs to queries"),
        (
            query("answers_tcp = [2300, 22]"),
            "x.toml:9:15: `answers_tcp` opens port 22, one of the system's own; ports below 1024 are never opened to a party",
        ),
        (
            query("answers_tcp = \"1024-9000\""),
            "x.toml:9:15: `answers_tcp` opens 7977 ports; at most 512 are allowed",
        ),
        (
            query("keep_source_port = 5"),
            "x.toml:9:20: `keep_source_port` must be true or false, not a whole number",
        ),
        (
            query("opens = \"source\""),
            "x.toml:6:1: `opens` belongs to answers; an announcement has `game_port`",
        ),
        (
            answer("opens = \"sauce\""),
            "x.toml:9:9: `opens` must be a port, \"source\" or a table, not `sauce`",
        ),
        (
            answer("opens = { transprt = \"tcp\" }"),
            "x.toml:9:11: unknown key `transprt` in opens; did you mean `transport`?",
        ),
        (answer("opens = { u8 = true, at = 4 }"), "x.toml:9:9: a port has two bytes; use `u16` or `u32`"),
        (
            answer("map = { at = 1, u8 = true, u16 = \"be\" }"),
            "x.toml:9:34: only one of `u8`, `u16` and `u32` can say how it is written",
        ),
        (
            answer("players = { u8 = true, field = 1 }"),
            "x.toml:9:11: `u8` is at `at`, behind `skip`; it needs no way to find an end",
        ),
        (
            answer("max_players = { u32 = \"be\", key = \"a\" }"),
            "x.toml:9:15: `u32` is at `at`, behind `skip`; it needs no way to find an end",
        ),
        (answer("max_players = { u16 = \"bee\" }"), "x.toml:9:23: `bee` is no `u16`; did you mean `be`?"),
        (answer("players = 3"), "x.toml:9:11: `players` must be a table, not a whole number"),
        (
            query("version = { at = 1 }"),
            "x.toml:9:11: `version` is of no use here: a query does not describe a game",
        ),
        (answer("lists = false\nmap = { at = 1 }"), "x.toml:10:7: `map` is of no use here: `lists` is false"),
        (
            rule("kind = \"closing\"\nport = 5000\nlists = true\ntitle = { at = 1 }\nlife = 3\n"),
            "x.toml:9:9: `lists` is of no use here: the game is over | \
             x.toml:10:9: `title` is of no use here: the game is over | \
             x.toml:11:8: `life` belongs to announcements and answers",
        ),
        (
            answer("[[rule.rewrite]]\nas = \"port-be\"\nstring = \"counted\""),
            "x.toml:9:1: two bytes are at `at`, behind `skip`; they need no way to find an end",
        ),
        (
            answer("[[rule.rewrite]]\nas = \"ipv6\"\nfield = 1"),
            "x.toml:9:1: sixteen bytes are at `at`, behind `skip`; they need no way to find an end",
        ),
        (
            answer("[[rule.rewrite]]\nas = \"host\"\nstring = \"wide\""),
            "x.toml:9:1: `string = \"wide\"` cannot be rewritten; a plugin can",
        ),
        (
            rule("kind = \"answer\"\nfrom_port = \"any\"\nmatch = { hex = \"01 ?? 02 03\" }\n"),
            "x.toml:8:13: `from_port = \"any\"` needs a `match` of at least 4 bytes; without a port only its bytes tell such a packet from the game's own traffic",
        ),
        (
            query("ask = \"forward\""),
            "x.toml:9:7: `ask` needs a plugin to ask; name it with `plugin = \"…\"` at the top of the profile",
        ),
    ] {
        assert_eq!(told(&text).join(" | "), wrong);
    }
}

#[test]
fn mistakes_about_ports_and_proxies_are_told_with_file_line_and_column() {
    let listing = "[[rule]]\nkind = \"announcement\"\nport = 5000\n";
    for (text, wrong) in [
        (
            format!("{HEAD}[play]\nudp = 5000\ndynamic = true\n"),
            "x.toml:6:11: `dynamic` means that no port is fixed, and `[play]` names some; remove one of them; ports that packets name are open beside the fixed ones anyway",
        ),
        (
            format!("{HEAD}[play]\njoin = \"tcp\"\ndynamic = true\n"),
            "x.toml:4:1: `dynamic` ports are learned from announcements and answers, and no rule reads one; give a rule a `game_port` that is a place or \"source\", or name the ports",
        ),
        (
            format!("{HEAD}[play]\njoin = \"tcp\"\ndynamic = true\n{listing}"),
            "x.toml:7:1: missing key `game_port` in [[rule]]; with `dynamic`, the packet must say where the port to join is",
        ),
        (
            format!("{HEAD}[play]\ndynamic = true\n{listing}game_port = \"source\"\n"),
            "x.toml:4:1: no play ports say how a game in the list is joined; add `join = \"tcp\"` or `join = \"udp\"` to `[play]`",
        ),
        (
            format!("{HEAD}[play]\nudp = 5000\npeers = \"yes\"\n"),
            "x.toml:6:9: `peers` must be true or false, not text",
        ),
        (format!("{HEAD}[play]\nudp = 5000\n[proxy]\n"), "x.toml:6:1: missing key `works` in [proxy]"),
        (
            format!("{HEAD}[play]\nudp = 5000\n[proxy]\nworks = false\n"),
            "x.toml:6:1: missing key `why` in [proxy]; say what keeps the game from being played through a proxy",
        ),
        (
            format!("{HEAD}[play]\nudp = 5000\n[proxy]\nwork = true\nworks = true\n"),
            "x.toml:7:1: unknown key `work` in [proxy]; did you mean `works`?",
        ),
    ] {
        assert_eq!(told(&text), [wrong]);
    }
}

#[test]
fn what_is_right_about_the_rarer_keys_is_read() {
    let text = format!(
        "{HEAD}[play]\njoin = \"tcp\"\ndynamic = true\npeers = true\n[proxy]\nworks = false\nwhy = \"x\"\n\
         [[rule]]\nkind = \"query\"\nport = 47624\nanswers_tcp = \"2300-2400\"\nkeep_source_port = true\n\
         [[rule]]\nkind = \"announcement\"\nport = 5000\nrhythm = 1.5\ngame_port = {{ at = 1, u32 = \"le\" }}\n\
         [[rule]]\nkind = \"closing\"\nport = 5000\nmatch = {{ hex = \"01\" }}\n\
         [[rule]]\nkind = \"answer\"\nfrom_port = \"any\"\nmatch = {{ text = \"abcd\" }}\nlists = false\n\
         opens = {{ at = 4, u16 = \"be\", transport = \"tcp\" }}\n"
    );
    let profile = check_text("x.toml", &text).unwrap();
    assert!(profile.play.dynamic && profile.play.peers);
    assert_eq!(profile.proxy.map(|p| (p.works, p.why)), Some((false, Some("x".to_owned()))));
    let [query, announcement, closing, answer] = &profile.rules[..] else { panic!() };
    assert_eq!((&query.answers_tcp[..], query.keep_source_port), (&[2300..=2400][..], true));
    assert_eq!(announcement.rhythm, Some(Duration::from_millis(1500)));
    assert_eq!((closing.kind, &closing.lists), (RuleKind::Closing, &None));
    assert_eq!(&answer.from_ports[..], &[1..=u16::MAX]);
    assert_eq!(answer.opens.as_ref().unwrap().transport, Transport::Tcp);
}

#[test]
fn a_plugin_can_say_where_a_game_is_joined_so_its_profile_need_not() {
    let rule = "[[rule]]\nkind = \"announcement\"\nport = 5000\nask = \"forward\"\n";
    let profile = check_text("x.toml", &format!("{HEAD}plugin = \"x\"\n{rule}")).unwrap();
    assert_eq!(profile.rules[0].lists.as_ref().unwrap().port, GamePort::Plugin);
    assert!(!told(&format!("{HEAD}{}", rule.replace("ask = \"forward\"\n", ""))).is_empty());
}

#[test]
fn profiles_that_are_wrong_as_a_whole_are_told_where() {
    let announcement = "[[rule]]\nkind = \"announcement\"\nport = 5000\n";
    for (text, wrong) in [
        (HEAD.to_owned(), "x.toml:1:1: the profile opens nothing; give it `[play]` ports or a `[[rule]]`"),
        (
            HEAD.replace("\"x\"", "\"X Y\""),
            "x.toml:1:6: `X Y` is no `id`; use up to 40 of the characters a-z, 0-9 and `-`",
        ),
        (
            format!("{HEAD}[play]\ntcp = [25565, 22]\n"),
            "x.toml:5:7: `tcp` opens port 22, one of the system's own; ports below 1024 are never opened to a party",
        ),
        (
            format!("{HEAD}[play]\nudp = \"1024-65535\"\n"),
            "x.toml:5:7: `udp` opens 64512 ports; at most 512 are allowed",
        ),
        (
            format!("{HEAD}[play]\nudp = 5000\ntcp = 5000\n{announcement}"),
            "x.toml:4:1: both TCP and UDP ports do not say how a game in the list is joined; add `join = \"tcp\"` or `join = \"udp\"` to `[play]`",
        ),
        (
            format!("{HEAD}{announcement}"),
            "x.toml:4:1: missing key `game_port` in [[rule]]; say where the port to join is, or name it in `[play]`",
        ),
        (
            format!("{HEAD}{announcement}game_port = 5000\n"),
            "x.toml:1:1: no play ports say how a game in the list is joined; add `join = \"tcp\"` or `join = \"udp\"` to `[play]`",
        ),
        (format!("{HEAD}play = 5\n"), "x.toml:4:8: `play` must be a table, not a whole number"),
        (format!("{HEAD}rule = [1]\n"), "x.toml:4:9: `rule` must be a table, not a whole number"),
        ("id = \n".to_owned(), "x.toml:1:6: not TOML: string values must be quoted, expected literal string"),
        (format!("{HEAD}id = \"y\"\n"), "x.toml:4:1: not TOML: duplicate key"),
        (" ".repeat(70_000), "x.toml:1:1: the file has 70000 bytes; a profile has at most 65536"),
    ] {
        assert_eq!(told(&text), [wrong]);
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let wrong = told("name = 5\nnmae = \"x\"\n[[rule]]\nkind = \"query\"\nprot = 1\n");
    assert_eq!(
        wrong,
        [
            "x.toml:1:1: missing key `id` in the profile",
            "x.toml:1:1: missing key `evidence` in the profile",
            "x.toml:1:8: `name` must be text, not a whole number",
            "x.toml:2:1: unknown key `nmae` in the profile; did you mean `name`?",
            "x.toml:3:1: missing key `port` in [[rule]]; `port` is the destination port; lanrage listens on the cards for exactly these ports",
            "x.toml:5:1: unknown key `prot` in [[rule]]; did you mean `port`?",
        ]
    );
}

#[test]
fn hostile_words_are_shown_short_and_harmless() {
    let text = format!("{HEAD}\"\\u001b[2J{}\" = 1\n[play]\nudp = 5000\n", "x".repeat(100));
    let [one] = &told(&text)[..] else { panic!() };
    assert!(one.starts_with("x.toml:4:1: unknown key `\\u{1b}[2Jxxx") && one.len() < 250, "{one}");
}

#[test]
fn files_written_on_windows_are_read() {
    let text = format!("\u{feff}{}", rule("kind = \"query\"\nport = 5000\n").replace('\n', "\r\n"));
    assert_eq!(told(&text), [""; 0]);
    let text = text.replace("port = 5000\r\n", "prot = 5000\r\nport = 5000\r\n");
    assert_eq!(told(&text), ["x.toml:8:1: unknown key `prot` in [[rule]]; did you mean `port`?"]);
}

#[test]
fn files_that_nest_without_end_are_refused_and_do_no_harm() {
    for (open, close) in
        [("a = ".to_owned() + &"[".repeat(60_000), ""), ("[".to_owned() + &"a.".repeat(30_000), "a]\n")]
    {
        assert!(!told(&format!("{open}{close}")).is_empty());
    }
    assert!(!told(&format!("a = {}1{}", "{a=".repeat(15_000), "}".repeat(15_000))).is_empty());
}
