//! `lanrage plugin new`, `check` and `test` as a player runs them: the built program, real folders, its words.

use crate::program::{program, run};
use lanrage::host::clock::HostClock;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

struct Told {
    code: i32,
    out: String,
    err: String,
}

/// A folder in which somebody works.
struct Workshop(TempDir);

impl Workshop {
    /// With a plugin `game`, fresh from `new`.
    fn new(options: &[&str]) -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        let told = workshop.run(&[&["new", "game"], options].concat());
        assert_eq!(told.code, 0, "{}", told.err);
        workshop
    }

    fn run(&self, args: &[&str]) -> Told {
        let output = run(program().arg("plugin").args(args).current_dir(self.0.path()));
        Told {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        name.split('/').fold(self.0.path().join("game"), |path, part| path.join(part))
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.file(name), text).unwrap();
    }

    /// Replaces a piece that must be there.
    fn change(&self, name: &str, from: &str, to: &str) {
        let text = self.text(name);
        assert!(text.contains(from), "{from} in {name}:\n{text}");
        self.write(name, text.replace(from, to));
    }
}

#[test]
fn a_new_plugin_is_green_at_once_and_in_less_than_a_minute() {
    let clock = HostClock::new();
    for options in [
        &[][..],
        &["--kind", "query", "--udp", "6112-6119,6200", "--game", "Old \"Shooter\""],
        &["--udp", "4445", "--kind", "announcement"],
    ] {
        let workshop = Workshop::new(options);
        let test = workshop.run(&["test", "game"]);
        assert_eq!(test.code, 0, "{}{}", test.out, test.err);
        assert!(test.out.contains("5 green, 0 red"), "{}", test.out);
        let check = workshop.run(&["check", "game"]);
        assert_eq!((check.code, check.out.as_str()), (0, "game 0.1.0 is fine\n"), "{}", check.err);
    }
    let took = clock.now().mono.0;
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn new_tells_what_to_do_next_and_changes_nothing_that_is_there() {
    let workshop = Workshop::new(&[]);
    let before = workshop.text("main.luau");
    let again = workshop.run(&["new", "game"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("is there already; nothing was changed"), "{}", again.err);
    assert_eq!(workshop.text("main.luau"), before);
    let other = workshop.run(&["new", "other", "--dir", "deep/er"]);
    assert_eq!(other.code, 0, "{}", other.err);
    assert!(other.out.contains("next:\n  lanrage plugin test "), "{}", other.out);
    assert!(workshop.0.path().join("deep").join("er").join("other").join("main.luau").is_file());
}

#[test]
fn what_cannot_be_a_plugin_is_refused_in_words() {
    let workshop = Workshop::new(&[]);
    for (args, told) in [
        (&["new", "My Game"][..], "such as `my-game`"),
        (&["new", "con"], "use another word"),
        (&["new", "../up"], "cannot be the id of a plugin"),
        (&["new", "x", "--udp", "80"], "`80` is no port of a game"),
        (&["new", "x", "--udp", "6119-6112"], "`6119-6112` is no port of a game"),
        (&["new", "x", "--game", "a\nb"], "is no name for a game"),
        (&["new", "x", "--kind", "anouncement"], "invalid value 'anouncement'"),
        (&["test", "nowhere"], "there is no plugin.toml in nowhere"),
        (&["check", "game/samples"], "there is no plugin.toml in"),
    ] {
        let refused = workshop.run(args);
        assert_ne!(refused.code, 0, "{args:?}");
        assert!(refused.err.contains(told), "{args:?}: {}", refused.err);
    }
    assert!(!workshop.0.path().join("x").exists(), "nothing was made");
}

#[test]
fn check_tells_every_mistake_with_its_place() {
    for (file, from, to, told) in [
        (
            "plugin.toml",
            "rewrite = true",
            "rewrit = true",
            "game/plugin.toml:13:1: unknown key `rewrit` in [may]; did you mean `rewrite`?",
        ),
        ("plugin.toml", "api = 1", "api = 9", "game/plugin.toml:5:7: the plugin is written for API 9"),
        (
            "plugin.toml",
            "games = [\"game\"]",
            "games = [\"doomm\"]",
            "there is no profile `doomm`; did you mean `doom`?",
        ),
        (
            "plugin.toml",
            "udp = 27999",
            "udp = 28000",
            "game/profile.toml:10:1: the rule asks the plugin about port 27999",
        ),
        ("plugin.toml", "rewrite = true", "rewrite = false", "game/main.luau:"),
        (
            "profile.toml",
            "kind = \"announcement\"",
            "kind = \"anouncement\"",
            "is no `kind`; did you mean `announcement`?",
        ),
        ("profile.toml", "plugin = \"game\"", "plugin = \"gane\"", "the profile does not ask this plugin"),
        (
            "profile.toml",
            "text = \"GAME\"",
            "text = \"GAMX\"",
            "game/samples/first.samples:5:1: [open game]: no rule of the profile knows this packet",
        ),
        (
            "main.luau",
            "plugin.on_announcement",
            "plugin.on_anouncement",
            "game/main.luau:13:17: there is no hook `on_anouncement`; did you mean `on_announcement`?",
        ),
        (
            "main.luau",
            "packet.set_ipv4(b, ADDRESS, info.from)",
            "packet.set_ipv4(b, ADDRESS)",
            "game/main.luau:18:9: `packet.set_ipv4` takes 3 arguments, not 2",
        ),
        (
            "main.luau",
            "packet.set_ipv4",
            "packet.set_ip",
            "game/main.luau:18:9: there is no `packet.set_ip`; did you mean",
        ),
        (
            "main.luau",
            "info.from)",
            "info.from) lanrage.send({})",
            "the plugin may not send; add `send = true` to [may] in plugin.toml",
        ),
        ("main.luau", "return n\n", "retrun n\n", "game/main.luau:19:"),
        ("main.luau", "return n\n", "return n + nil\n", "game/main.luau:19:2: attempt to perform arithmetic"),
        (
            "samples/first.samples",
            "ttl: 64",
            "til: 64",
            "game/samples/first.samples:5:1: missing key `ttl` in [open game]",
        ),
    ] {
        let workshop = Workshop::new(&[]);
        workshop.change(file, from, to);
        let check = workshop.run(&["check", "game"]);
        assert_eq!(check.code, 1, "{to}: {}{}", check.out, check.err);
        assert!(check.out.contains(told), "{to}\nwanted {told}\ngot\n{}{}", check.out, check.err);
        assert!(!check.out.contains('\\'), "paths have `/` everywhere: {}", check.out);
    }
}

#[test]
fn check_tells_all_at_once_and_what_is_worth_a_thought() {
    let workshop = Workshop::new(&[]);
    workshop.change("main.luau", "return n\n", "packet.u9(b)\n\tlanrage.lgo(n)\n\tcounter = 1\n\treturn n\n");
    let check = workshop.run(&["check", "game"]);
    for told in
        ["2 mistakes", "there is no `packet.u9`", "did you mean `lanrage.log`?", "`counter` becomes a global"]
    {
        assert!(check.out.contains(told), "{told} in\n{}", check.out);
    }
    let workshop = Workshop::new(&[]);
    workshop.change("plugin.toml", "# send = true", "send = true  ");
    workshop.change("main.luau", "packet.set_ipv4(b, ADDRESS, info.from)", "for i = 1, 20000 do end");
    workshop.change("main.luau", "\treturn n\n", "\treturn nil\n");
    workshop.change(
        "samples/first.samples",
        "rewritten: 47414d45 03 08 0a530709 4f75722067616d6500 4f6c64204d696c6c00",
        "",
    );
    workshop.write("test.luau", "");
    let check = workshop.run(&["check", "game"]);
    assert_eq!(check.code, 0, "notes are no mistakes: {}", check.out);
    for told in [
        "the plugin may send and never calls lanrage.send",
        "the plugin may change packets and changed none of the samples",
        "of 100000 ticks for open game",
    ] {
        assert!(check.out.contains(told), "{told} in\n{}", check.out);
    }
}

#[test]
fn a_red_sample_shows_where_the_bytes_differ() {
    let workshop = Workshop::new(&[]);
    workshop.change("samples/first.samples", "0a530709", "0a530708");
    workshop.change("samples/first.samples", "title: Our game", "title: Their game");
    let test = workshop.run(&["test", "game"]);
    assert_eq!(test.code, 1, "{}", test.out);
    for told in [
        "FAIL  game/samples/first.samples: [open game]",
        "game/samples/first.samples:5:1: expected the title \"Their game\", got \"Our game\"",
        "wanted  0000  47 41 4d 45 03 08 0a 53 07 08",
        "got     0000  47 41 4d 45 03 08 0a 53 07 09",
        "4 green, 1 red",
    ] {
        assert!(test.out.contains(told), "{told} in\n{}", test.out);
    }
}

#[test]
fn update_writes_what_came_out_and_keeps_what_people_wrote() {
    let workshop = Workshop::new(&[]);
    let before = workshop.text("samples/first.samples");
    workshop.change("samples/first.samples", "0a530709", "01020304");
    workshop.change("samples/first.samples", "title: Our game", "title: Their game");
    let red = workshop.run(&["test", "game"]);
    assert_eq!(red.code, 1);
    let update = workshop.run(&["test", "game", "--update"]);
    assert_eq!(update.code, 0, "{}", update.out);
    assert!(update.out.contains("wrote game/samples/first.samples"), "{}", update.out);
    let after = workshop.text("samples/first.samples");
    let plain = |text: &str| text.replace([' ', '\n'], "");
    assert_eq!(plain(&after), plain(&before));
    assert!(after.contains("# \"GAME\", 3 of 8 players"), "comments stay: {after}");
    assert_eq!(workshop.run(&["test", "game"]).code, 0);
    // A second time there is nothing to write.
    assert!(!workshop.run(&["test", "game", "--update"]).out.contains("wrote"));
}

#[test]
fn a_capture_is_a_test_too() {
    let workshop = Workshop::new(&[]);
    let packet = |payload: &[u8]| {
        let mut room = vec![0; 28 + payload.len()];
        let (from, to) = ("192.168.1.20:27999".parse().unwrap(), "255.255.255.255:27999".parse().unwrap());
        lanrage::wire::packet::write_udp(&mut room, from, to, 64, payload).unwrap();
        room
    };
    let (game, other) = (packet(b"GAME\x01\x04\xc0\xa8\x01\x14One\0Two\0"), packet(b"HELLO"));
    let at = Duration::from_secs(1_700_000_000);
    let file = lanrage::rules::capture::write([(at, &other[..]), (at, &game[..])]);
    workshop.write("samples/lan.pcap", file);
    let first = workshop.run(&["test", "game"]);
    assert_eq!(first.code, 1);
    assert!(first.out.contains("nothing says what is expected of it"), "{}", first.out);
    assert_eq!(workshop.run(&["test", "game", "--update"]).code, 0);
    let expected = workshop.text("samples/lan.expected");
    assert!(
        expected.contains("[2]\nexpect: announcement\ntitle: One\nmap: Two\nplayers: 1/4\n"),
        "{expected}"
    );
    let green = workshop.run(&["test", "game"]);
    assert_eq!(green.code, 0, "{}", green.out);
    assert!(green.out.contains("samples/lan.pcap (2 packets, 1 known)"), "{}", green.out);
    workshop.change("samples/lan.expected", "title: One", "title: Oone");
    let red = workshop.run(&["test", "game"]);
    assert!(red.out.contains("packet 2: expected `title: Oone`"), "{}", red.out);
    workshop.write("samples/lan.pcap", "this is no capture");
    assert!(workshop.run(&["test", "game"]).out.contains("not a capture (pcap or pcapng)"));
}

#[test]
fn a_red_case_names_its_line_and_the_plugin_its_own() {
    let workshop = Workshop::new(&[]);
    workshop.write(
        "test.luau",
        "test.case(\"wrong\", function()\n\ttest.join(\"Ann\")\n\ttest.equal(1, 2, \"numbers\")\nend)\n\
         test.case(\"fails as it should\", function()\n\ttest.fails(function() test.packet({ kind = \"query\", text = \"x\" }) end, \"has no on_query\")\nend)\n\
         test.case(\"a slip\", function()\n\ttest.packet({ kind = \"announcement\", txt = \"x\" })\nend)\n\
         test.case(\"a stranger\", function()\n\ttest.packet({ kind = \"announcement\", text = \"x\", from_peer = \"Bob\" })\nend)\n\
         test.case(\"no end\", function()\n\twhile true do end\nend)\n",
    );
    let test = workshop.run(&["test", "game"]);
    for told in [
        "game/test.luau:3: numbers: wanted 2, got 1",
        "ok    game/test.luau: fails as it should",
        "game/test.luau:9: a packet has no `txt`; did you mean `text`?",
        "game/test.luau:12: nobody called Bob is in the party; let them join first: test.join(\"Bob\")",
        "the test takes too long",
        "3 green, 4 red",
    ] {
        assert!(test.out.contains(told), "{told} in\n{}", test.out);
    }
    workshop.change("main.luau", "\treturn n\n", "\treturn n + nil\n");
    workshop.write("test.luau", "test.case(\"x\", function()\n\ttest.join(\"Ann\")\n\ttest.packet({ sample = \"open game\", from_peer = \"Ann\" })\nend)");
    let test = workshop.run(&["test", "game"]);
    assert!(
        test.out.contains("game/test.luau:3: plugin `game`: main.luau:19: attempt to perform arithmetic"),
        "{}",
        test.out
    );
}

#[test]
fn clock_ticks_sends_and_memory_of_a_plugin_are_tested() {
    let workshop = Workshop::new(&[]);
    workshop.change("plugin.toml", "# send = true", "send = true  ");
    workshop.change(
        "main.luau",
        "return plugin",
        "local waits = 0\nfunction plugin.on_tick()\n\twaits += 1\n\tif waits == 3 then\n\t\tlanrage.log(\"asking\", lanrage.now())\n\
         \t\tlanrage.send({ to_port = 27999, from_port = 27999, payload = \"WHO?\" })\n\tend\nend\n\
         function plugin.check()\n\treturn `{#lanrage.peers()} here`\nend\nreturn plugin",
    );
    workshop.write(
        "test.luau",
        "test.case(\"asks after three seconds\", function()\n\ttest.tick(2.5)\n\ttest.equal(test.sends(), {})\n\ttest.tick()\n\
         \tlocal sends = test.sends()\n\ttest.equal(#sends, 1)\n\ttest.equal(sends[1].text, \"WHO?\")\n\ttest.equal(sends[1].to_port, 27999)\n\
         \ttest.equal(test.log(), { \"asking 1003\" })\n\ttest.equal(test.now(), 1003.5)\nend)\n\
         test.case(\"starts anew\", function()\n\ttest.tick(2)\n\ttest.equal(test.sends(), {})\n\ttest.join(\"Ann\")\n\ttest.join(\"Bob\")\n\
         \ttest.equal(test.check(), \"2 here\")\n\ttest.leave(\"Ann\")\n\ttest.equal(test.check(), \"1 here\")\nend)\n",
    );
    let test = workshop.run(&["test", "game"]);
    assert_eq!(test.code, 0, "{}", test.out);
}

#[test]
fn trace_shows_every_call() {
    let workshop = Workshop::new(&[]);
    workshop.change("main.luau", "\treturn n\n", "\tlanrage.log(\"seen\", n)\n\treturn n\n");
    let test = workshop.run(&["test", "game", "--trace"]);
    for told in [
        "== game/samples/first.samples: [a neighbour on the same port]",
        "on_announcement, 28 bytes of Ann, 10.83.7.9:27999 to 255.255.255.255:27999: replace, 28 bytes (",
        "before  0000  47 41 4d 45 03 08 c0 a8 01 14",
        "after   0000  47 41 4d 45 03 08 0a 53 07 09",
        "log: seen 28",
        "ticks, ",
    ] {
        assert!(test.out.contains(told), "{told} in\n{}", test.out);
    }
}

#[test]
fn fuzzing_finds_a_fault_makes_it_small_and_keeps_it() {
    let workshop = Workshop::new(&[]);
    let fine = workshop.run(&["test", "game", "--fuzz", "1"]);
    assert_eq!(fine.code, 0, "{}", fine.out);
    assert!(fine.out.contains("no packet made it fail"), "{}", fine.out);
    // The mistake that everybody makes: a byte is read that a shorter packet does not have.
    workshop.change(
        "main.luau",
        "if n < TITLE + 2 then\n\t\treturn false -- too short to be one",
        "if string.byte(buffer.readstring(b, 0, n), 20) + 1 == 0 then\n\t\treturn false",
    );
    let found = workshop.run(&["test", "game", "--fuzz", "3"]);
    assert_eq!(found.code, 1, "{}", found.out);
    assert!(
        found.out.contains("FAIL  on_announcement with 4 bytes: plugin `game`: main.luau:14: "),
        "{}",
        found.out
    );
    assert!(workshop.text("samples/broken.samples").contains("hex: 47414d45\n"));
    let red = workshop.run(&["test", "game"]);
    assert!(
        red.out.contains("FAIL  game/samples/broken.samples: [a broken packet for on_announcement]"),
        "{}",
        red.out
    );
}

#[test]
fn a_plugin_that_answers_by_chance_is_told() {
    // Addresses of memory are the one thing that could differ; the sandbox hides them, so the same questions get the
    // same answers, with dice too.
    let workshop = Workshop::new(&[]);
    workshop.change(
        "main.luau",
        "\treturn n\n",
        "\tpacket.set_u8(b, 4, lanrage.random(0, 255))\n\treturn n\n",
    );
    workshop.write("test.luau", "test.case(\"dice\", function()\n\ttest.join(\"Ann\")\n\tfor i = 1, 5 do test.packet({ sample = \"open game\", from_peer = \"Ann\" }) end\nend)");
    let test = workshop.run(&["test", "game"]);
    assert!(test.out.contains("ok    game/test.luau: dice"), "{}", test.out);
}

#[test]
fn the_folder_is_the_current_one_unless_named() {
    let workshop = Workshop::new(&[]);
    let output = run(program().args(["plugin", "test"]).current_dir(workshop.0.path().join("game")));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && out.contains("ok    samples/first.samples: [open game]"), "{out}");
    assert!(Path::new(&workshop.file("main.luau")).is_file());
}
