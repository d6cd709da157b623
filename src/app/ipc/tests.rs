//! The local door, from both sides, of both kinds.

use super::door::Kind;
use super::*;
use crate::app::bridge::NodeHandle;
use crate::model::command::Command;
use crate::model::status::{Mode, NatStatus, PeerStatus};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, watch};

fn peer(first: u8, name: &str) -> PeerStatus {
    PeerStatus {
        peer: PeerId([first; 10]),
        name: name.into(),
        address: [10, 1, 2, first].into(),
        state: "here".into(),
        playing: Vec::new(),
        path: None,
        nat: "unknown".into(),
        ways: Vec::new(),
        advice: Vec::new(),
    }
}

fn status(owner: bool) -> Status {
    let me = PeerId([1; 10]);
    Status {
        party: PartyId::of(if owner { me } else { PeerId([9; 10]) }, 200),
        peer: me,
        name: "Ana".into(),
        address: [10, 1, 2, 1].into(),
        mode: Mode::Lan,
        nat: NatStatus::default(),
        playing: vec!["doom".into()],
        control: Vec::new(),
        peers: vec![peer(0x10, "Bob"), peer(0x11, "Eve"), peer(0x12, "Eve")],
        games: Vec::new(),
        relays: Vec::new(),
        warnings: Vec::new(),
        plugins: Vec::new(),
        counters: BTreeMap::new(),
    }
}

struct Node {
    handle: NodeHandle,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Arc<Status>>,
    _invite: watch::Sender<String>,
}

fn node(owner: bool) -> Node {
    let (commands_in, commands) = mpsc::channel(4);
    let (status, status_out) = watch::channel(Arc::new(status(owner)));
    let (invite, invite_out) = watch::channel("4hedq-mqgxd".to_owned());
    let crew = crate::app::plugins::crew::CrewDoor::default();
    let look = Arc::default();
    let measured = broadcast::Sender::new(4);
    let handle =
        NodeHandle { commands: commands_in, status: status_out, look, invite: invite_out, measured, crew };
    Node { handle, commands, status, _invite: invite }
}

fn kinds() -> Vec<Kind> {
    vec![
        #[cfg(unix)]
        Kind::Unix,
        Kind::Tcp,
    ]
}

#[test]
fn questions_are_answered_through_both_kinds_of_door() {
    for kind in kinds() {
        let (dir, node) = (tempfile::tempdir().unwrap(), node(true));
        let server = Server::start_with(kind, dir.path(), node.handle.clone()).unwrap();
        let client = Client::with(kind, dir.path());
        let Answer::Status { status } = client.ask(Request::Status).unwrap() else { panic!("a status") };
        assert_eq!(status["name"], "Ana");
        assert_eq!(client.ask(Request::Invite).unwrap(), Answer::Invite { invite: "4hedq-mqgxd".into() });
        assert_eq!(client.ask(Request::Check).unwrap(), Answer::Check { plugins: Vec::new() });
        drop(server);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        let failure = client.ask(Request::Status).unwrap_err();
        assert_eq!((failure.exit, failure.trouble.code.as_str()), (1, "no_node"));
    }
}

#[test]
fn leave_returns_when_the_node_has_ended() {
    let (dir, mut node) = (tempfile::tempdir().unwrap(), node(true));
    let server = Server::start(dir.path(), node.handle.clone()).unwrap();
    let ended = std::thread::spawn(move || {
        assert_eq!(node.commands.blocking_recv(), Some(Command::Leave));
        std::thread::sleep(Duration::from_millis(200));
        drop(server);
    });
    let answer = Client::new(dir.path()).ask(Request::Leave).unwrap();
    assert_eq!(answer, Answer::Done { text: "left the party".into() });
    assert!(Client::new(dir.path()).ask(Request::Status).is_err(), "the node is gone by now");
    ended.join().unwrap();
}

#[test]
fn kick_waits_until_the_peer_is_gone() {
    let (dir, mut node) = (tempfile::tempdir().unwrap(), node(true));
    let _server = Server::start(dir.path(), node.handle.clone()).unwrap();
    let engine = std::thread::spawn(move || {
        assert_eq!(node.commands.blocking_recv(), Some(Command::Kick(PeerId([0x10; 10]))));
        node.status.send_modify(|s| Arc::make_mut(s).peers.retain(|p| p.name != "Bob"));
        node
    });
    let answer = Client::new(dir.path()).ask(Request::Kick { peer: " bob".into() }).unwrap();
    let Answer::Done { text } = answer else { panic!("done") };
    assert!(text.starts_with("Bob is removed"), "{text}");
    engine.join().unwrap();
}

#[test]
fn only_the_host_can_kick() {
    let (dir, node) = (tempfile::tempdir().unwrap(), node(false));
    let _server = Server::start(dir.path(), node.handle).unwrap();
    let failure = Client::new(dir.path()).ask(Request::Kick { peer: "Bob".into() }).unwrap_err();
    assert_eq!(failure.trouble.code, "not_owner");
}

#[test]
fn bench_hears_its_own_outcome_and_says_whom_it_cannot_measure() {
    let (dir, mut node) = (tempfile::tempdir().unwrap(), node(false));
    let _server = Server::start(dir.path(), node.handle.clone()).unwrap();
    let ask = |peer: Option<&str>| {
        let request = Request::Bench { peer: peer.map(str::to_owned), quick: true };
        Client::new(dir.path()).ask(request).unwrap_err().trouble.code
    };
    assert_eq!(ask(None), "which_peer");
    assert_eq!(ask(Some("Zoe")), "no_such_peer");
    let engine = std::thread::spawn(move || {
        let Some(Command::Measure { peer, quick: true, ticket }) = node.commands.blocking_recv() else {
            panic!("a measurement")
        };
        assert_eq!(peer, PeerId([0x10; 10]));
        for (ticket, code) in [(ticket + 1, "of_another"), (ticket, "peer_busy")] {
            node.handle.measured.send((ticket, Arc::new(Err(Trouble::new(code, "", ""))))).unwrap();
        }
        node
    });
    assert_eq!(ask(Some("bob")), "peer_busy");
    let node = engine.join().unwrap();
    node.status.send_modify(|s| Arc::make_mut(s).peers.clear());
    assert_eq!(ask(None), "alone");
}

#[test]
fn a_peer_is_meant_by_name_id_or_the_beginning_of_its_id() {
    let status = status(true);
    let found = |text: &str| find_peer(&status, text).map(|(id, _)| id.0[0]).map_err(|t| t.code);
    assert_eq!(found("bOB"), Ok(0x10));
    assert_eq!(found(&PeerId([0x11; 10]).to_string().to_uppercase()), Ok(0x11));
    assert_eq!(found(&PeerId([0x12; 10]).to_string()[..4]), Ok(0x12));
    assert_eq!(found("bo"), Ok(0x10));
    assert_eq!(found("eve"), Err("which_peer".into()));
    assert_eq!(found("2"), Err("which_peer".into()));
    assert_eq!(found("nobody"), Err("no_such_peer".into()));
    assert_eq!(found(""), Err("no_such_peer".into()));
}

#[test]
fn strangers_and_nonsense_get_nothing() {
    let (dir, mut node) = (tempfile::tempdir().unwrap(), node(true));
    let _server = Server::start_with(Kind::Tcp, dir.path(), node.handle.clone()).unwrap();
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("node.port")).unwrap()).unwrap();
    let port = u16::try_from(file["port"].as_u64().unwrap()).unwrap();
    let say = |text: &[u8]| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        stream.write_all(text).unwrap();
        let mut answer = String::new();
        // A line that was cut off is answered by closing, on some systems with a reset.
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert_eq!(say(b"{\"do\":\"leave\"}\n"), "", "no token");
    assert_eq!(say(b"{\"do\":\"leave\",\"token\":\"wrong\"}\n"), "");
    assert!(say(b"GET /status HTTP/1.1\r\n\r\n").contains("bad_request"));
    assert!(!say(&[b'x'; 5000]).contains("status"));
    assert_eq!(node.commands.try_recv().ok(), None, "nothing reached the node");
}

#[cfg(unix)]
#[test]
fn the_socket_is_closed_to_other_users_and_may_lie_deep() {
    use std::os::unix::fs::PermissionsExt;
    let (root, node) = (tempfile::tempdir().unwrap(), node(true));
    let dir = root.path().join("deep".repeat(30)).join("deeper".repeat(20));
    std::fs::create_dir_all(&dir).unwrap();
    if !cfg!(target_os = "linux") {
        return;
    }
    let server = Server::start(&dir, node.handle.clone()).unwrap();
    let mode = std::fs::metadata(dir.join("node.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(Client::new(&dir).ask(Request::Invite).is_ok());
    drop(server);
    // What a killed node leaves behind is replaced.
    std::fs::write(dir.join("node.sock"), "left over").unwrap();
    let _server = Server::start(&dir, node.handle).unwrap();
    assert!(Client::new(&dir).ask(Request::Invite).is_ok());
}
