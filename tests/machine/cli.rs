//! The program as people and scripts meet it: the real binary, its texts and its exit codes.

use crate::program::{program, run};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

struct Told {
    code: i32,
    out: String,
    err: String,
}

/// A place of its own for each test: no config file, no data, no variables of whoever runs the tests.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.args(args).env("LANRAGE_DATA_DIR", self.path("data")).env("HOME", self.0.path());
        command.env("XDG_CONFIG_HOME", self.path("config")).env("NO_COLOR", "1");
        // No test speaks to a router outside its own walls.
        command.env("LANRAGE_PORT_MAPPING", "no");
        command
    }

    fn lanrage(&self, args: &[&str]) -> Told {
        told(run(&mut self.command(args)))
    }
}

fn told(output: Output) -> Told {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Told { code: output.status.code().expect("a code"), out: text(output.stdout), err: text(output.stderr) }
}

fn lanrage(args: &[&str]) -> Told {
    Place::new().lanrage(args)
}

const INVITE: &str =
    "4hedq-mqgxd-35cn8-q20rs-ksehe-jq68k-3fde5-gg40d-r40ma-30e2n-09zwv-0002e-jk0wr-0wp0k-3h0wn-gxp0g-z4kec";

#[test]
fn help_names_every_command_and_nothing_that_does_not_exist() {
    let help = lanrage(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for word in [
        "run",
        "server",
        "status",
        "invite",
        "leave",
        "kick",
        "doctor",
        "bench",
        "games",
        "plugin",
        "--data-dir",
        "--config",
        "-v",
    ] {
        assert!(help.out.contains(word), "{word} in\n{}", help.out);
    }
    for word in [" ui", "completions", "record", "learn"] {
        assert!(!help.out.contains(word), "{word} in\n{}", help.out);
    }
    let run = lanrage(&["run", "--help"]);
    for option in [
        "--game",
        "--join",
        "--name",
        "--mode",
        "--control",
        "--listen",
        "--cards",
        "--subnet",
        "--adapter",
        "--open",
        "--json",
        "--new",
        "--relay",
        "--relay-secret",
        "COMMAND",
    ] {
        assert!(run.out.contains(option), "{option} in\n{}", run.out);
    }
    let version = lanrage(&["--version"]);
    assert_eq!((version.code, version.out.trim()), (0, concat!("lanrage ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for args in [
        &["stauts"][..],
        &["run", "--gmae", "minecraft"],
        &["run", "--game", "minecraft", "--mode", "sideways"],
        &["run", "--game", "minecraft", "--control", "nonsense"],
        &["run", "--game", "minecraft", "--control", "file:/x", "--subnet", "10.0.0.0/8"],
        &["run", "--control", "file:/x"],
        &["run", "--game", "minecraft", "--relay", "h:3478", "--relay-secret", "x"],
        &["run", "--game", "minecraft", "--relay", "turn:h:3478"],
        &["run", "--game", "minecraft", "--relay-secret", "x"],
        &["kick"],
        &["bench", "Ana", "Bob"],
        &["plugin"],
        &["plugin", "add"],
        &["plugin", "remove"],
        &["run", "--game", "minecraft", "--plugin-dir", "."],
        &["run", "--game", "minecraft", "--dev", "--plugin-dir", "/nowhere"],
        &["games"],
        &["man", "nothing"],
        &[],
    ] {
        let told = lanrage(args);
        assert_eq!(told.code, 2, "{args:?}: {}", told.err);
        assert!(!told.err.is_empty() && told.out.is_empty(), "{args:?}");
    }
    assert!(lanrage(&["stauts"]).err.contains("'status'"));
}

#[test]
fn what_comes_later_says_so() {
    let told = lanrage(&["ui"]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("is not in this version of lanrage"), "{}", told.err);
}

/// The findings of a `doctor --json`, by code.
fn findings(told: &Told) -> std::collections::BTreeMap<String, serde_json::Value> {
    let said: serde_json::Value = serde_json::from_str(&told.out).expect("one JSON object");
    for name in ["ok", "version", "party", "took_ms", "nat", "findings"] {
        assert!(said.get(name).is_some(), "{name} in {said}");
    }
    assert_eq!(said["ok"].as_bool(), Some(told.code == 0), "{said}");
    let list = said["findings"].as_array().expect("a list").clone();
    let problems = list.iter().filter(|f| f["mark"] == "problem").count();
    assert_eq!(problems == 0, told.code == 0, "{said}");
    for finding in &list {
        for name in ["section", "mark", "code", "found", "try"] {
            assert!(finding[name].is_string(), "{name} in {finding}");
        }
        if finding["mark"] != "ok" && finding["code"] != "relay_not_up" {
            assert_ne!(finding["try"], "", "nothing is worse than fine without something to try: {finding}");
        }
    }
    list.into_iter().map(|f| (f["code"].as_str().expect("a code").to_owned(), f)).collect()
}

#[test]
fn doctor_ends_in_time_when_nothing_answers_and_leaves_nothing_behind() {
    let place = Place::new();
    // Takes connections and says nothing; of UDP there is nobody.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf = deaf.local_addr().expect("an address");
    let begun = std::time::Instant::now();
    let server = format!("server:http://{deaf}");
    let told = place.lanrage(&["doctor", "--json", "--control", &server, "--relay", "turn:127.0.0.1:9"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
    let found = findings(&told);
    assert_eq!(told.code, 1, "{found:?}");
    assert_eq!(found["server_unreachable"]["mark"], "problem");
    assert!(found["server_unreachable"]["found"].as_str().expect("text").contains("no answer"), "{found:?}");
    assert_eq!(found["relay_unreachable"]["mark"], "problem");
    assert!(!place.path("data").exists(), "looking makes no data folder");
}

#[test]
fn doctor_without_a_server_says_what_it_could_not_ask_and_how_to() {
    let place = Place::new();
    let told = place.lanrage(&["doctor", "--json"]);
    let found = findings(&told);
    assert!(found["udp_unknown"]["try"].as_str().expect("text").contains("--control server:"), "{found:?}");
    let text = place.lanrage(&["doctor"]);
    assert_eq!((text.code, text.err.as_str()), (told.code, ""));
    assert!(text.out.starts_with("This PC\n") && text.out.contains("Your router\n"), "{}", text.out);
    assert!(text.out.contains("No party runs here"), "{}", text.out);
    for (args, part) in [
        (&["doctor", "--relay", "nonsense"][..], "names no relay"),
        (&["doctor", "--control", "nonsense"][..], "names no control plane"),
    ] {
        let told = place.lanrage(args);
        assert_eq!(told.code, 2, "{args:?}");
        assert!(told.err.contains(part), "{}", told.err);
    }
}

#[test]
fn doctor_finds_a_server_by_tcp_and_udp() {
    let place = Place::new();
    let mut server = place
        .command(&["server", "--listen", "127.0.0.1:0", "--relay", "127.0.0.1:0", "--data-dir"])
        .arg(place.path("server"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut line = String::new();
    let out = server.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("a line");
    let address =
        line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
    let told = place.lanrage(&["doctor", "--json", "--control", &format!("server:http://{address}")]);
    server.kill().expect("it ran");
    server.wait().expect("it ended");
    let found = findings(&told);
    let ok = found["server_ok"]["found"].as_str().expect("text");
    assert!(ok.contains("TCP") && ok.contains("UDP"), "{found:?}");
    assert_eq!(found["udp_open"]["mark"], "ok");
    assert_eq!(found["clock"]["mark"], "ok");
}

#[test]
fn a_mistyped_invite_names_its_group() {
    let mistyped = INVITE.replace("q20rs", "q20rt");
    let told = lanrage(&["run", "--game", "minecraft", "--join", &mistyped]);
    assert_eq!(told.code, 1);
    assert!(
        told.err.contains("group 4, `q20rt`, is mistyped") && told.err.contains("  try: "),
        "{}",
        told.err
    );
    let cut = &INVITE[..53];
    let told = lanrage(&["run", "--game", "minecraft", "--join", cut]);
    assert!(told.err.contains("the invite stops after group 9 of 17"), "{}", told.err);
}

#[test]
fn with_json_a_failure_is_an_event_too() {
    let told = lanrage(&["run", "--game", "minecraft", "--json", "--join", "hello"]);
    assert_eq!(told.code, 1);
    let event: serde_json::Value = serde_json::from_str(told.out.trim()).expect("one object");
    assert_eq!((event["event"].as_str(), event["code"].as_str()), (Some("error"), Some("bad_invite")));
    assert!(event["message"].is_string() && event["hint"].is_string());
    assert!(told.err.starts_with("error: "), "{}", told.err);
}

#[test]
fn an_unknown_game_suggests_the_nearest() {
    let told = lanrage(&["run", "--game", "mincraft", "--control", "file:/nowhere"]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("did you mean `minecraft`?"), "{}", told.err);
    let told = lanrage(&["games", "show", "openarna"]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("did you mean `openarena`?"), "{}", told.err);
}

#[test]
fn without_a_running_node_the_others_say_what_to_try() {
    for args in
        [&["status"][..], &["status", "--json"], &["invite"], &["leave"], &["kick", "Bob"], &["bench"]]
    {
        let told = lanrage(args);
        assert_eq!((told.code, told.out.as_str()), (1, ""), "{args:?}");
        assert!(told.err.contains("no node is running with the data folder"), "{}", told.err);
        assert!(told.err.contains("try: start one with `lanrage run --game GAME`"), "{}", told.err);
    }
}

#[test]
fn a_broken_config_file_is_told_with_its_position() {
    let place = Place::new();
    let config = place.write("config.toml", "name = \"Ana\"\n\n[timing]\nheartbaet = 3\n");
    let told = place.lanrage(&["status", "--config", &config]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("config.toml:4:1: unknown setting `heartbaet`"), "{}", told.err);
    assert!(told.err.contains("did you mean `heartbeat`?"), "{}", told.err);

    let broken = place.write("config.toml", "name = \"Ana\nmode = 1\n");
    let told = place.lanrage(&["status", "--config", &broken]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("config.toml:1:12: "), "{}", told.err);

    let told = place.lanrage(&["status", "--config", "/nowhere/c.toml"]);
    assert!(told.code == 1 && told.err.contains("/nowhere/c.toml"), "{}", told.err);
}

#[test]
#[cfg(target_os = "linux")]
fn the_usual_config_file_and_variables_are_read() {
    let place = Place::new();
    place.write("config/lanrage/config.toml", "subnet = \"10.0.0.0/8\"\n");
    let told = place.lanrage(&["run", "--game", "minecraft", "--control", "file:/nowhere"]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("lanrage/config.toml:1:10: `10.0.0.0/8` is not a network"), "{}", told.err);

    let mut command = place.command(&["run", "--game", "minecraft", "--control", "file:/nowhere"]);
    command.env("LANRAGE_SUBNET", "x").env("LANRAGE_SUBNTE", "y");
    let told = told_of(&mut command);
    assert!(told.err.contains("LANRAGE_SUBNET: `x` is not a network"), "{}", told.err);
    assert!(told.err.contains("did you mean LANRAGE_SUBNET?"), "{}", told.err);
}

#[cfg(target_os = "linux")]
fn told_of(command: &mut Command) -> Told {
    told(run(command))
}

#[test]
fn games_can_be_listed_shown_and_checked() {
    let place = Place::new();
    let list = place.lanrage(&["games", "list"]);
    assert_eq!((list.code, list.err.as_str()), (0, ""));
    assert!(list.out.contains("minecraft-java"), "{}", list.out);
    let json: serde_json::Value =
        serde_json::from_str(&place.lanrage(&["games", "list", "--json"]).out).expect("JSON");
    assert!(json.as_array().expect("a list").iter().any(|g| g["game"] == "minecraft-java"));

    let shown = place.lanrage(&["games", "show", "minecraft"]);
    assert_eq!(shown.code, 0);
    let good = place.write("mine.toml", &shown.out);
    let checked = place.lanrage(&["games", "check", &good]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(checked.out.contains("is fine: minecraft-java"), "{}", checked.out);

    let bad = place.write("mine.toml", &shown.out.replace("\nname =", "\nnmae ="));
    let checked = place.lanrage(&["games", "check", &bad]);
    assert_eq!(checked.code, 1);
    let line = shown.out.lines().position(|l| l.starts_with("name =")).expect("a name") + 1;
    assert!(checked.err.contains(&format!("mine.toml:{line}:1: ")), "{}", checked.err);
    assert!(checked.err.contains("`name`"), "{}", checked.err);
}

#[test]
fn plugins_can_be_listed_and_what_is_not_there_cannot_be_removed() {
    let place = Place::new();
    let json = place.lanrage(&["plugin", "list", "--json"]);
    assert_eq!((json.code, json.err.as_str()), (0, ""));
    let all: serde_json::Value = serde_json::from_str(&json.out).expect("one JSON array");
    for plugin in all.as_array().expect("an array") {
        for name in ["id", "version", "origin", "state", "why", "games", "may", "source", "hash"] {
            assert!(plugin.get(name).is_some(), "{name} in {plugin}");
        }
        assert_eq!((plugin["origin"].as_str(), plugin["state"].as_str()), (Some("shipped"), Some("ok")));
    }
    assert_eq!(place.lanrage(&["plugin", "list"]).code, 0);
    assert!(!place.path("data").exists(), "looking makes no data folder");
    for (args, part) in [
        (&["plugin", "remove", "nothing"][..], "no plugin is called `nothing`"),
        (&["plugin", "remove", "../games"], "no plugin is called `../games`"),
        (&["plugin", "add", "./nothing"], "there is no `./nothing` to add"),
        (&["plugin", "add", "nothing"], "no index"),
        (&["plugin", "add", "http://h/p.git"], "not safe or not known"),
    ] {
        let told = place.lanrage(args);
        assert_eq!((told.code, told.out.as_str()), (1, ""), "{args:?}");
        assert!(told.err.contains(part) && told.err.contains("  try: "), "{args:?}: {}", told.err);
    }
}

#[test]
fn own_profiles_join_the_list_and_a_broken_one_only_warns() {
    let place = Place::new();
    let shown = place.lanrage(&["games", "show", "teeworlds"]).out;
    place.write("data/games/my.toml", &shown.replace("id = \"teeworlds\"", "id = \"my-own-game\""));
    place.write("data/games/zz.toml", "id = \n");
    let list = place.lanrage(&["games", "list"]);
    assert_eq!(list.code, 0, "{}", list.err);
    assert!(list.out.contains("my-own-game"), "{}\n{}", list.out, list.err);
    assert!(list.err.contains("zz.toml:1:"), "{}", list.err);
}

#[test]
fn completions_and_manual_pages_are_produced() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let told = lanrage(&["completions", shell]);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{shell}");
        assert!(told.out.contains("lanrage") && told.out.contains("data-dir"), "{shell}");
        for hidden in ["Print completions", "Print the manual", "lanrage,completions", "lanrage__completions"]
        {
            assert!(!told.out.contains(hidden), "{shell} lists a hidden command");
        }
    }
    let page = lanrage(&["man"]);
    assert!(page.code == 0 && page.out.contains(".TH lanrage 1"), "{}", page.out);
    let page = lanrage(&["man", "run"]);
    assert!(
        page.code == 0 && page.out.contains("lanrage\\-run") && page.out.contains("\\-\\-adapter"),
        "{}",
        page.out
    );

    let place = Place::new();
    let dir = place.path("man1");
    let told = place.lanrage(&["man", "--dir", &dir.display().to_string()]);
    assert_eq!(told.code, 0, "{}", told.err);
    for name in ["lanrage.1", "lanrage-run.1", "lanrage-kick.1", "lanrage-bench.1", "lanrage-games-check.1"] {
        assert!(Path::new(&dir).join(name).is_file(), "{name} in\n{}", told.out);
    }
}

#[test]
fn every_counter_of_the_engine_has_plain_words() {
    use lanrage::engine::counters::{Count, DropReason};
    let names = Count::ALL.iter().map(|c| c.name()).chain(DropReason::ALL.iter().map(|d| d.name()));
    let silent: Vec<_> = names.filter(|n| lanrage::ui::cli::status::counter_words(n).is_none()).collect();
    assert!(silent.is_empty(), "no words in ui::cli::words for {silent:?}");
}
