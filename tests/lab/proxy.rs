//! Proxy mode: lanrage without a single capability and without `/dev/net/tun`. One story in all four combinations of modes,
//! and real games.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::real_games::{SCREEN, Start, freeciv, plays_by};
use crate::support::game::{Announcer, Listener, greet_on, is_greeted, node_script, not_exactly_once};
use crate::support::net::{Carries, Host, Net};
use crate::support::node::{Node, bare, text};
use crate::support::process::Process;
use crate::support::{ready, say, seconds, within};

const WORLD: &str = "LANRIG";
const PORT: u16 = 25599;
const EVERY: Duration = Duration::from_millis(500);

/// How a player runs lanrage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// With all rights.
    Lan,
    /// With none.
    Proxy,
}

impl By {
    pub(crate) const fn start(self) -> Start {
        match self {
            Self::Lan => Node::run,
            Self::Proxy => Node::run_bare,
        }
    }

    /// How games on a computer in this mode see a player with this address.
    pub(crate) fn sees(self, address: Ipv4Addr) -> Ipv4Addr {
        let [_, b, c, z] = address.octets();
        match self {
            Self::Lan => address,
            Self::Proxy => Ipv4Addr::new(127, if b == 0 { 1 } else { b }, c, z),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Proxy => "proxy",
        }
    }
}

/// A hosts, B joins.
fn pair(a: By, b: By, game: &str) -> (Net, Vec<Host>, Node, Node) {
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", game, "--control", &control];
    let mut of_a = a.start()(&hosts[0], &common);
    let mut of_b = b.start()(&hosts[1], &[&common[..], &["--join", &of_a.invite()]].concat());
    assert_eq!([of_a.mode(), of_b.mode()], [a, b].map(|by| by.word().to_owned()), "`auto` chooses");
    of_b.path_to(&of_a, seconds(20));
    of_a.path_to(&of_b, seconds(20));
    (net, hosts, of_a, of_b)
}

#[test]
fn one_story_with_a_device_at_both_ends() {
    story(By::Lan, By::Lan);
}

#[test]
fn one_story_with_a_device_at_the_host_and_none_at_the_guest() {
    story(By::Lan, By::Proxy);
}

#[test]
fn one_story_with_no_device_at_the_host_and_one_at_the_guest() {
    story(By::Proxy, By::Lan);
}

#[test]
fn one_story_without_any_device() {
    story(By::Proxy, By::Proxy);
}

/// A world on A is in B's list, under its title, once for each announcement; it is joined from there and downloaded; A's
/// server sees B at an address of its own; when the world closes it leaves the list.
fn story(a: By, b: By) {
    if !ready(&["node"]) {
        return;
    }
    let (_net, hosts, of_a, mut of_b) = pair(a, b, "minecraft");
    let mut world = open_world(&hosts[0]);
    let listener = Listener::java(&hosts[1]);
    let first = listener.wait(WORLD, seconds(8));
    let found = of_b.game_of(&of_a, seconds(5)).value;
    assert_eq!((text(&found, "title"), text(&found, "by")), (WORLD, "tcp"), "{found}");
    assert_eq!(text(&found, "address"), format!("{}:{PORT}", of_a.address()));
    let here = within(seconds(5), || local(&of_b.status()));
    match b {
        By::Lan => {
            assert_eq!((first.from.ip(), here), (of_a.address().into(), None));
            assert!(first.text.contains("[AD]25599[/AD]"), "{first:?}");
        }
        By::Proxy => {
            let here = here.expect("the list says where the game is joined on this computer");
            let at: SocketAddr = here.parse().expect("an address");
            assert!(first.text.contains(&format!("[AD]{}[/AD]", at.port())), "{first:?} and {here}");
            assert_eq!(
                first.from.ip(),
                at.ip(),
                "the list joins where the announcement came from: {first:?}"
            );
            assert_eq!(at.ip(), By::Proxy.sees(of_a.address()));
        }
    }

    let mut bot = node_script(&hosts[1], "mc-client.js", &["chat", WORLD]);
    let seen = bot.wait_for("FOUND", seconds(20));
    bot.wait_for("CHUNKS 9", seconds(60));
    bot.wait_for("CHATTED", seconds(60));
    let chat = world.wait_for("CHAT rig", seconds(5)).text;
    let expected = a.sees(of_b.address());
    assert!(chat.contains(&format!("{expected} hello from afar")), "the server saw {expected} in: {chat}");

    let announcer = Announcer::minecraft(&hosts[0], "Counted", 25_570, EVERY);
    listener.wait("Counted", seconds(5));
    let start = Instant::now();
    std::thread::sleep(seconds(10));
    let numbers = announcer.numbers(start, Instant::now() - seconds(1));
    assert!(numbers.len() >= 15, "{numbers:?}");
    let wrong = not_exactly_once("Counted", &numbers, &listener.heard());
    assert_eq!(wrong, [], "(number, times) other than once");

    drop(world);
    of_b.event("game_lost", seconds(30), |e| text(e, "title") == WORLD);
    say(&format!(
        "{}/{}: {} and joined; the server saw {expected}; {} announcements each heard once",
        a.word(),
        b.word(),
        seen.text,
        numbers.len()
    ));
    of_b.stop();
    of_a.stop();
}

fn local(status: &serde_json::Value) -> Option<String> {
    let games = status.get("games")?.as_array()?;
    games.iter().find_map(|game| Some(game.get("local")?.as_str()?.to_owned()))
}

pub(crate) fn open_world(host: &Host) -> Process {
    let mut world = node_script(host, "mc-host.js", &[WORLD, &PORT.to_string()]);
    world.wait_for("ANNOUNCING", seconds(40));
    world
}

#[test]
fn without_rights_the_reason_is_told_and_nothing_is_asked_for() {
    if !ready(&[]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"]]);
    let control = format!("file:{}", net.shared().display());
    let mut a =
        Node::run_bare(&hosts[0], &["--game", "minecraft", "--game", "directplay", "--control", &control]);
    let kernel = a.process_status();
    for none in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(kernel.contains(&format!("{none}:\t0000000000000000\n")), "{kernel}");
    }
    let mode = a.event("mode", seconds(5), |_| true).value;
    assert_eq!(text(&mode, "mode"), "proxy");
    assert!(!text(&mode, "why").is_empty() && !text(&mode, "hint").is_empty(), "{mode}");
    let told = a.event("warning", seconds(5), |e| text(e, "code") == "not_by_proxy").value;
    assert!(text(&told, "message").contains("Players tell each other"), "{told}");
    let other = a.events("warning").iter().filter(|e| text(&e.value, "code") != "not_by_proxy").count();
    assert_eq!(other, 0, "no other warning: {:?}", a.events("warning"));
    assert!(!a.data.join("leftovers.json").exists(), "nothing was made, so nothing is written down");
    let mut doctor = bare(&hosts[0], &a.data, "doctor");
    let found = doctor.arg("--json").output().expect("lanrage runs");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("\"proxy_up\"") && found.contains("setcap"), "{found}");
    a.stop();
}

/// A party of two who are nobody on their computers: they meet, a world is found and joined, and nothing was asked of either
/// system that needs a right. By `--mode proxy`: `auto` finds out by asking whether it may make a device.
#[test]
fn nobody_plays_and_asks_for_nothing_that_needs_a_right() {
    if !ready(&["strace", "setpriv"]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    std::fs::set_permissions(net.shared(), Permissions::from_mode(0o777)).expect("our own folder");
    let control = format!("file:{}", net.shared().display());
    let common = ["--mode", "proxy", "--game", "minecraft", "--game", "doom", "--control", &control];
    let (a, calls_of_a) = Node::run_watched(&hosts[0], &common);
    let (mut b, calls_of_b) = Node::run_watched(&hosts[1], &[&common[..], &["--join", &a.invite()]].concat());
    b.path_to(&a, seconds(20));
    for node in [&a, &b] {
        let kernel = node.process_status();
        let none = "\t0000000000000000\n";
        let caps = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| format!("{name}:{none}"));
        let wanted = caps.into_iter().chain(["NoNewPrivs:\t1\n", "Uid:\t65534\t"].map(str::to_owned));
        wanted.for_each(|line| assert!(kernel.contains(&line), "{line} in {kernel}"));
    }
    greet_on(&hosts[0], PORT);
    let listener = Listener::java(&hosts[1]);
    let _world = Announcer::minecraft(&hosts[0], WORLD, PORT, EVERY);
    let seen = listener.wait(WORLD, seconds(10));
    b.game_of(&a, seconds(5));
    let here = within(seconds(5), || local(&b.status())).expect("where the game is joined");
    let here: SocketAddr = here.parse().expect("an address");
    assert!(is_greeted(&hosts[1], here.ip(), here.port(), seconds(5)), "joined at {here}");
    let here = (seen.from.ip(), here.port());
    assert!(is_greeted(&hosts[1], here.0, here.1, seconds(5)), "joined as the list says, at {here:?}");
    b.stop();
    a.stop();
    for calls in [calls_of_a, calls_of_b] {
        let calls = std::fs::read_to_string(calls).expect("what was asked");
        let (_, calls) = calls.rsplit_once("execve(").expect("the program was started");
        assert!(calls.contains("SOCK_DGRAM") && calls.contains("RTM_GET"), "the instrument: {calls}");
        let refused: Vec<&str> = calls.lines().filter(|call| needs_a_right(call)).collect();
        assert!(refused.is_empty(), "{refused:#?}");
        say(&format!("{} calls, none of which needs a right", calls.lines().count()));
    }
}

/// Whether a system call, as strace writes it, is one that only somebody with rights would make.
fn needs_a_right(call: &str) -> bool {
    let has = |words: &[&str]| words.iter().any(|word| call.contains(word));
    let raw = has(&["socket("]) && (has(&["AF_PACKET"]) || has(&["SOCK_RAW"]) && !has(&["AF_NETLINK"]));
    let changes_network = has(&["nlmsg_type=RTM_NEW", "nlmsg_type=RTM_DEL", "nlmsg_type=RTM_SET"]);
    let forced = has(&["SO_MARK", "SO_RCVBUFFORCE", "SO_SNDBUFFORCE", "IP_TRANSPARENT"]);
    // A TCP port at a card's address is shut by a filter where the kernel lets everybody have one.
    let refused = has(&["EPERM", "EACCES"]) && !has(&["SO_ATTACH_FILTER", "SO_LOCK_FILTER"]);
    raw || changes_network
        || forced
        || refused
        || has(&["capset(", "setns(", "unshare(", "mount(", "umount2(", "bpf("])
}

#[test]
fn a_game_that_cannot_be_played_so_is_refused_with_its_reason() {
    if !ready(&[]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"]]);
    let control = format!("file:{}", net.shared().display());
    for (game, reason) in [
        ("directplay", "tell each other their addresses"),
        ("flatout2", "port 23757"),
        ("warcraft3", "port 6112, which the game keeps to itself"),
    ] {
        let data = hosts[0].folder.join(game);
        let mut command = bare(&hosts[0], &data, "run");
        let args = ["--mode", "proxy", "--game", game, "--control", &control, "--json"];
        let out = command.args(args).output().expect("lanrage runs");
        assert_eq!(out.status.code(), Some(1));
        assert!(
            !data.exists() && !net.shared().join("discovery.json").exists(),
            "something was begun before"
        );
        let events = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(!events.contains("\"ready\"") && !events.contains("\"mode\""), "{events}");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains(reason) && said.contains("without --mode proxy"), "{said}");
    }
}

const BOTH: [Start; 2] = [Node::run_bare, Node::run_bare];

#[test]
fn doom_without_any_device() {
    plays_by(BOTH, ("doom", "doom"), &["chocolate-doom", "chocolate-server"], &[]);
}

#[test]
fn openttd_without_any_device() {
    plays_by(BOTH, ("openttd", "openttd"), &[&["openttd"], SCREEN].concat(), &[]);
}

#[test]
fn openarena_without_any_device() {
    let programs = [&["openarena", "openarena-server"], SCREEN].concat();
    plays_by(BOTH, ("openarena", "openarena"), &programs, &[]);
}

#[test]
fn teeworlds_without_any_device() {
    let programs = [&["teeworlds", "teeworlds-server"], SCREEN].concat();
    plays_by(BOTH, ("teeworlds", "teeworlds"), &programs, &[]);
}

#[test]
fn nexuiz_without_any_device() {
    plays_by(BOTH, ("nexuiz", "nexuiz"), &[&["nexuiz", "nexuiz-server"], SCREEN].concat(), &[]);
}

#[test]
fn minecraft_java_without_any_device() {
    plays_by(BOTH, ("minecraft_java", "minecraft-java"), &["node"], &[]);
}

#[test]
fn minecraft_bedrock_without_any_device() {
    plays_by(BOTH, ("minecraft_bedrock", "minecraft-bedrock"), &["node"], &[]);
}

#[test]
fn minecraft_bedrock_with_a_device_at_the_host_only() {
    let starts: [Start; 2] = [Node::run, Node::run_bare];
    plays_by(starts, ("minecraft_bedrock", "minecraft-bedrock"), &["node"], &[]);
}

#[test]
fn minecraft_bedrock_with_a_device_at_the_guest_only() {
    let starts: [Start; 2] = [Node::run_bare, Node::run];
    plays_by(starts, ("minecraft_bedrock", "minecraft-bedrock"), &["node"], &[]);
}

#[test]
fn freeciv_without_any_device() {
    plays_by(BOTH, ("freeciv", "freeciv"), &freeciv(), &[("RIG_ADDR", "anas-computer")]);
}
