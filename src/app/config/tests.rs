//! What is typed, set and written becomes what is meant, or an error with its origin.

use super::*;
use crate::model::id::PeerId;
use crate::model::key::PartySecret;
use crate::ui::cli::args::{Command, parse};
use std::path::Path;
use std::sync::LazyLock;

static EMPTY: LazyLock<tempfile::NamedTempFile> = LazyLock::new(|| tempfile::NamedTempFile::new().unwrap());

fn folder(path: &str) -> ControlChoice {
    ControlChoice::Folder(std::path::absolute(path).unwrap())
}

fn run_args(line: &str) -> (GlobalArgs, RunArgs) {
    let typed = format!("lanrage run --data-dir /nowhere {line}");
    let mut low = parse(typed.split_whitespace().map(OsString::from)).unwrap();
    // The config file of whoever runs the tests must not matter.
    low.global.config = Some(EMPTY.path().to_path_buf());
    let Command::Run(run) = low.command else { panic!("run") };
    (low.global, run)
}

fn checked(line: &str, variables: &[(&str, &str)]) -> Result<RunConfig, Failure> {
    let (global, run) = run_args(line);
    let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    RunConfig::check(&global, &run, &for_run(&global, &run, &variables)?)
}

fn invite(control: Vec<ControlHint>) -> String {
    let (owner, secret) = (PeerId([1; 10]), PartySecret([2; 16]));
    Invite { owner, slot: 0, epoch: 0, secret, subnet: Subnet([10, 1, 2]), control }.to_text()
}

fn wrong(line: &str) -> (u8, String) {
    let failure = checked(line, &[]).unwrap_err();
    (failure.exit, failure.text())
}

#[test]
fn everything_typed_arrives() {
    let config = checked(
        "--game minecraft --game doom --name Ana --mode lan --control file:/srv/p --listen 0.0.0.0:5 --cards a,b \
         --subnet 10.9.8.0/24 --adapter eth9 --open --json --new -- game --full",
        &[("LANRAGE_HEARTBEAT", "0.5")],
    )
    .unwrap();
    assert_eq!(config.games, ["minecraft", "doom"]);
    assert_eq!((config.name.as_str(), config.mode, config.adapter.as_str()), ("Ana", ModeWish::Lan, "eth9"));
    assert_eq!(config.control, [folder("/srv/p")]);
    assert_eq!(config.listen, ["0.0.0.0:5".parse().unwrap()]);
    assert_eq!(config.cards, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(config.subnet, Some(Subnet([10, 9, 8])));
    assert!(config.open && config.json && config.fresh && config.join.is_none());
    assert_eq!(config.command, ["game", "--full"]);
    assert_eq!(config.knobs.heartbeat, Duration::from_millis(500));
    assert_eq!(config.data_dir, Path::new("/nowhere"));
}

#[test]
fn sharing_with_the_own_network_chooses_proxy_mode_and_refuses_the_other() {
    let of = |line: &str| checked(line, &[]).map(|config| (config.mode, config.share_lan));
    assert_eq!(of("--game doom --share-lan").unwrap(), (ModeWish::Proxy, true));
    assert_eq!(of("--game doom --share-lan --mode proxy").unwrap(), (ModeWish::Proxy, true));
    assert_eq!(of("--game doom").unwrap(), (ModeWish::Auto, false));
    let (exit, text) = wrong("--game doom --share-lan --mode lan");
    assert!(exit == 2 && text.contains("proxy mode only") && text.contains("--share-lan"), "{exit} {text}");
}

#[test]
fn relays_need_credentials_and_a_secret_needs_a_relay() {
    use relays::{RelayAccess, RelayBy};
    let line = "--game a --relay turn:h:1 --relay turns:ana:x@[2001:db8::1]:443";
    let config = checked(line, &[("LANRAGE_RELAY_SECRET", "north")]).unwrap();
    let [shared, own] = config.relays.as_slice() else { panic!("{:?}", config.relays) };
    assert_eq!((shared.place.host.as_str(), shared.place.port, shared.place.by), ("h", 1, RelayBy::UdpOrTcp));
    assert!(matches!(shared.access, RelayAccess::Secret(_)), "{shared:?}");
    assert!(matches!(&own.access, RelayAccess::Account(a) if a.user == "ana" && a.password == "x"));
    let variable = checked("--game a", &[("LANRAGE_RELAY", "turn:b:c@h, turn:b:c@i")]).unwrap();
    assert_eq!(variable.relays.len(), 2);
    for (line, part) in [
        (line, "--relay: h opens to nobody without credentials"),
        ("--game a --relay h:3478", "--relay: `h:3478` names no relay"),
        ("--game a --relay-secret x", "--relay-secret: a secret of no relay"),
        ("--game a --relay turn:ana:hush@h:x", "--relay: `h:x`: the port is none"),
        (
            "--game a --relay-secret x --relay turn:a --relay turn:b --relay turn:c --relay turn:d --relay turn:e",
            "--relay: 5 relays are more than the 4",
        ),
    ] {
        let (exit, text) = wrong(line);
        assert!(
            exit == 2 && text.contains(part) && text.contains("try: ") && !text.contains("hush"),
            "{text}"
        );
    }
}

#[test]
fn little_typed_means_the_defaults() {
    let config = checked("--game minecraft --control file:/srv/p", &[]).unwrap();
    assert_eq!((config.mode, config.adapter.as_str(), config.cards), (ModeWish::Auto, "lanrage0", None));
    assert!(!config.name.is_empty() && config.listen.is_empty() && config.subnet.is_none());
    assert!(!config.open && !config.json && !config.fresh && config.command.is_empty());
}

#[test]
fn a_new_party_needs_a_game_and_nothing_else() {
    assert!(checked("--game minecraft", &[]).unwrap().control.is_empty(), "it meets at its host");
    assert_eq!(wrong("--control file:/srv/p").0, 2, "no game");
}

#[test]
fn an_invite_brings_its_control_planes_unless_others_are_asked_for() {
    let text = invite(vec![ControlHint::Server("http://1.2.3.4:8667".into())]);
    let joined = checked(&format!("--game a --join {text}"), &[]).unwrap();
    assert_eq!(joined.control, [ControlChoice::Server("http://1.2.3.4:8667".into())]);
    let other = checked(&format!("--game a --control file:/x --join {text}"), &[]).unwrap();
    assert_eq!(other.control, [folder("/x")]);
    let auto = checked(&format!("--game a --control auto --join {text}"), &[]).unwrap();
    assert_eq!(auto.control, joined.control);
    let both = checked(&format!("--game a --control auto --control file:/x --join {text}"), &[]).unwrap();
    assert_eq!(both.control, [folder("/x"), ControlChoice::Direct(vec![])]);
    let addresses = vec!["203.0.113.5:4000".parse().unwrap(), "[2001:db8::1]:4000".parse().unwrap()];
    let direct = invite(vec![ControlHint::Direct(addresses.clone())]);
    let direct = checked(&format!("--game a --join {direct}"), &[]).unwrap();
    assert_eq!(direct.control, [ControlChoice::Direct(addresses)]);

    let (exit, words) = wrong(&format!("--game a --join {}", invite(Vec::new())));
    assert_eq!(exit, 2);
    assert!(words.contains("the invite does not say"), "{words}");
}

#[test]
fn a_config_file_does_not_override_an_invite() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "control = \"server:http://mine:8667\"\nsubnet = \"10.7.7.0/24\"\n").unwrap();
    let (mut global, mut run) = run_args("--game a");
    global.config = Some(file);
    let check =
        |run: &RunArgs| RunConfig::check(&global, run, &for_run(&global, run, &Variables::new()).unwrap());
    let own = check(&run).unwrap();
    assert_eq!(own.control, [ControlChoice::Server("http://mine:8667".into())]);
    assert_eq!(own.subnet, Some(Subnet([10, 7, 7])));
    run.join = Some(invite(vec![ControlHint::Folder("/theirs".into())]));
    let joined = check(&run).unwrap();
    assert_eq!(joined.control, [ControlChoice::Folder("/theirs".into())]);
    assert_eq!(joined.subnet, None);
    run.join = Some(invite(Vec::new()));
    assert_eq!(check(&run).unwrap().control, own.control);
}

#[test]
fn each_mistake_names_its_option_and_the_right_exit_code() {
    let long = "x".repeat(33);
    for (line, exit, part) in [
        ("--game a --control nonsense", 2, "--control: "),
        ("--game a --control direct:here", 2, "--control: \"here\" is no address of a player"),
        ("--game a --control file:/x --listen here", 2, "--listen: `here` is no address with a port"),
        ("--game a --control file:/x --subnet 10.0.0.0/16", 2, "--subnet: `10.0.0.0/16` is not a network"),
        ("--game a --control file:/x --adapter a/b", 2, "--adapter: `a/b` is no name"),
        ("--game a --join hello", 1, "the invite (--join): this is not an invite"),
        (&format!("--game a --control file:/x --name {long}"), 2, "--name: "),
    ] {
        let (got, text) = wrong(line);
        assert!(text.contains(part), "{line}: {text}");
        assert_eq!(got, exit, "{line}");
    }
    let text = invite(vec![ControlHint::Folder("/x".into())]);
    let (exit, words) = wrong(&format!("--game a --subnet 10.1.1.0/24 --join {text}"));
    assert!(exit == 2 && words.contains("the invite brings the party's network"), "{words}");
}

#[test]
fn times_that_contradict_each_other_are_refused() {
    let failure = checked("--game a --control file:/x", &[("LANRAGE_AWAY_AFTER", "10")]).unwrap_err();
    assert!(failure.text().contains("away_after must be longer than heartbeat"), "{failure:?}");
    let failure = checked("--game a --control file:/x", &[("LANRAGE_KEEPALIVE", "26")]).unwrap_err();
    assert!(failure.text().contains("LANRAGE_KEEPALIVE: keepalive must be at most 25"), "{failure:?}");
}

#[test]
fn own_profiles_are_read_in_order_and_never_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let games = dir.path().join("games");
    std::fs::create_dir(&games).unwrap();
    for (name, text) in [("b.toml", "2"), ("a.toml", "1"), ("notes.txt", "x")] {
        std::fs::write(games.join(name), text).unwrap();
    }
    let found = profiles(&Layers::default(), dir.path()).unwrap();
    let texts: Vec<_> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["1", "2"]);
    std::fs::write(games.join("c.toml"), vec![b'#'; 300_000]).unwrap();
    assert!(profiles(&Layers::default(), dir.path()).unwrap_err().text().contains("c.toml"));
}

#[cfg(target_os = "linux")]
#[cfg(unix)]
#[test]
fn a_device_that_never_ends_is_refused_and_not_read_to_its_end() {
    let why = read_text(Path::new("/dev/zero"), 4096).unwrap_err();
    assert_eq!(why, "it is larger than 4 KiB");
    assert_eq!(read_text(Path::new("/dev"), 4096).unwrap_err(), "it is a folder");
}

#[test]
fn a_server_gets_both_files_or_its_own_certificate_and_never_half_of_one() {
    let check = |variables: &[(&str, &str)]| {
        let typed = ["lanrage", "server", "--data-dir", "/nowhere"].map(OsString::from);
        let mut low = parse(typed).unwrap();
        low.global.config = Some(EMPTY.path().to_path_buf());
        let Command::Server(server) = low.command else { panic!("server") };
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ServeConfig::check(&low.global, &for_server(&low.global, &server, &variables).unwrap())
    };
    let (cert, key, own) =
        (("LANRAGE_TLS_CERT", "c.pem"), ("LANRAGE_TLS_KEY", "k.pem"), ("LANRAGE_TLS_SELF_SIGNED", "true"));
    assert_eq!(check(&[]).unwrap().tls, Tls::None);
    assert_eq!(check(&[own]).unwrap().tls, Tls::SelfSigned);
    let files = Tls::Files { cert: "c.pem".into(), key: "k.pem".into() };
    assert_eq!(check(&[cert, key]).unwrap().tls, files);
    assert!(check(&[cert]).unwrap_err().text().contains("--tls-key"));
    assert!(check(&[key]).unwrap_err().text().contains("--tls-cert"));
    assert!(check(&[cert, key, own]).unwrap_err().text().contains("not both"));
    // Typed, clap says the same as wrong usage.
    let half = ["lanrage", "server", "--tls-cert", "c.pem"].map(OsString::from);
    assert_eq!(parse(half).unwrap_err().exit_code(), 2);
}
