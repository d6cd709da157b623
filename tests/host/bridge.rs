//! A whole node as `lanrage run` starts it: what it refuses and says, and, in network namespaces of the test's own, that
//! two of them find each other and that nothing is left behind. The latter needs root; without it the test says so and
//! returns, or panics when `LANRAGE_LAB=must`.
#![cfg(target_os = "linux")]

use crate::netns::{self, ip};
use lanrage::app::bridge::{self, Running};
use lanrage::app::config::relays::{RelayAccess, RelayWish};
use lanrage::app::config::{ModeWish, RunConfig};
use lanrage::engine::effect::Knobs;
use lanrage::host::control::ControlChoice;
use lanrage::model::command::Command;
use lanrage::model::status::{Event, Mode, Trouble};
use lanrage::wire::credential::RelaySecret;
use lanrage::wire::invite::{ControlHint, Invite};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(10);

fn config(data: &Path, shared: &Path) -> RunConfig {
    RunConfig {
        games: vec!["minecraft".into()],
        join: None,
        name: "tester".into(),
        mode: ModeWish::Lan,
        control: vec![ControlChoice::Folder(shared.to_path_buf())],
        listen: Vec::new(),
        cards: None,
        proxy_protocol: Vec::new(),
        share_lan: false,
        subnet: None,
        adapter: "lanrage0".into(),
        beacon: true,
        port_mapping: true,
        relays: Vec::new(),
        friend_relay: None,
        open: false,
        json: true,
        command: Vec::new(),
        data_dir: data.to_path_buf(),
        knobs: Knobs::default(),
        profiles: Vec::new(),
        fresh: false,
        plugins: lanrage::app::plugins::found::Plugins::default(),
        dev: None,
    }
}

fn refused(change: impl FnOnce(&mut RunConfig)) -> Trouble {
    let (data, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(data.path(), shared.path());
    change(&mut config);
    bridge::start(config).map(|_| ()).unwrap_err()
}

#[test]
fn wishes_that_cannot_be_granted_are_refused_before_anything_is_made() {
    let code = |change: fn(&mut RunConfig)| refused(change).code;
    assert_eq!(code(|c| c.listen = vec!["192.0.2.9:0".parse().unwrap()]), "listen_address");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let trouble = refused(|c| c.listen = vec![at]);
    assert!(trouble.code == "port_in_use" && trouble.message.contains(&at.to_string()), "{trouble:?}");
    let trouble = refused(|c| c.games = vec!["minecarft".into()]);
    assert!(
        trouble.code == "unknown_game" && trouble.message.contains("did you mean `minecraft`"),
        "{trouble:?}"
    );
}

struct Node(Running);

impl Node {
    fn start(config: RunConfig) -> Self {
        Self(bridge::start(config).unwrap())
    }

    fn wait(&mut self, like: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while Instant::now() < end {
            match self.0.events.try_recv() {
                Ok(event) if like(&event) => return event,
                Ok(event) => seen.push(event),
                Err(mpsc::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(5)),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
        panic!("no such event among {seen:#?}")
    }

    fn ready(&mut self) -> (String, std::net::IpAddr) {
        let event = self.wait(|e| matches!(e, Event::Ready { .. }));
        let Event::Ready { invite, address, .. } = event else { panic!("{event:?} is not like `ready`") };
        (invite, address)
    }

    /// Waits for an allocation there.
    fn is_on_relay(&self, at: SocketAddr) {
        let end = Instant::now() + PATIENCE;
        loop {
            let relays = self.0.handle.status.borrow().relays.clone();
            if relays.iter().any(|r| r.address == at && r.relayed.is_some()) {
                return;
            }
            assert!(Instant::now() < end, "no relay at {at} among {relays:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn leave(self) -> Result<(), Trouble> {
        self.0.handle.commands.blocking_send(Command::Leave).unwrap();
        self.0.wait()
    }
}

/// The names of all devices, and all routes; not whether a cable has a carrier, which comes and goes with its other end.
fn devices() -> Vec<String> {
    let links = ip("-br link");
    let name = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    links.lines().map(name).chain(ip("route").lines().map(|r| r.replace(" linkdown", ""))).collect()
}

fn has_device() -> bool {
    devices().iter().any(|d| d.starts_with("lanrage"))
}

#[test]
fn two_nodes_meet_and_the_second_evening_is_like_the_first() {
    if !netns::possible() {
        return;
    }
    let dirs: [tempfile::TempDir; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (data_a, data_b, shared) =
        (dirs[0].path().to_owned(), dirs[1].path().to_owned(), dirs[2].path().to_owned());
    let (tell, told) = std::sync::mpsc::channel::<Invite>();
    let (done_in, done) = std::sync::mpsc::channel::<()>();
    let shared_b = shared.clone();
    // One namespace each; both ends of the cable are made in the first and one is moved.
    netns::inside(move || {
        let other = netns::Elsewhere::new();
        other.cable("vethA", "vethB");
        ip("addr add 192.0.2.1/24 dev vethA");
        ip("link set vethA up");
        let b = std::thread::spawn(move || {
            other.run(move || {
                ip("addr add 192.0.2.2/24 dev vethB");
                ip("link set vethB up");
                let mut config = config(&data_b, &shared_b);
                config.control.clear();
                config.join = Some(told.recv().unwrap());
                let mut b = Node::start(config);
                let (_, address) = b.ready();
                b.wait(|e| matches!(e, Event::Path { .. }));
                // Through both devices: a packet to a port that no game uses is dropped there, not here.
                let socket = UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
                assert!(socket.local_addr().unwrap().ip() == address, "the device carries the address");
                done.recv().unwrap();
                assert_eq!(b.leave(), Ok(()));
                assert!(!has_device(), "{:?}", devices());
            });
            other
        });
        let before = devices();
        let mut a = Node::start(config(&data_a, &shared));
        let (invite, address) = a.ready();
        assert!(has_device(), "{:?}", devices());
        tell.send(Invite::parse(&invite).unwrap()).unwrap();
        a.wait(|e| matches!(e, Event::Path { .. }));
        done_in.send(()).unwrap();
        a.wait(|e| matches!(e, Event::PeerLeft { .. }));
        // A second node on the same data directory is refused while the first one runs.
        let twice = bridge::start(config(&data_a, &shared)).map(|_| ()).unwrap_err();
        assert_eq!(twice.code, "data_dir_in_use");
        assert_eq!(a.leave(), Ok(()));
        // The cable lives as long as the other namespace.
        let _other = b.join().unwrap();
        assert_eq!(devices(), before, "nothing is left");
        // The second evening: no flags, the same invite and address.
        let mut again = config(&data_a, &shared);
        again.control.clear();
        let mut a = Node::start(again);
        assert_eq!(a.ready(), (invite, address));
        // Dropping it is rude, but leaves nothing either.
        drop(a);
        assert!(!has_device(), "{:?}", devices());
    });
}

/// Two nodes that meet in a folder and are told of a `lanrage server` that they do not meet at.
#[test]
fn named_relays_are_used_beside_a_folder_that_has_none() {
    const SECRET: &str = "north-of-the-north";
    if !netns::possible() {
        return;
    }
    netns::inside(|| {
        let dirs: [tempfile::TempDir; 4] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let other = netns::Elsewhere::new();
        other.cable("vethA", "vethB");
        ip("link set lo up");
        ip("addr add 192.0.2.1/24 dev vethA");
        ip("link set vethA up");
        let serve =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut options = lanrage::server::ServerOptions::new(dirs[3].path());
        options.listen = vec!["127.0.0.1:0".parse().unwrap()];
        options.relay = Some(lanrage::server::relay::RelayOptions {
            listen: vec!["127.0.0.1:0".parse().unwrap(), "192.0.2.1:0".parse().unwrap()],
            secret: Some(SECRET.to_owned()),
            allow_private_peers: true,
            ..Default::default()
        });
        let server = serve.block_on(lanrage::server::start(options)).unwrap();
        let addresses = server.relay().unwrap().addresses().to_vec();
        let at = |ip: &str| *addresses.iter().find(|a| a.ip().to_string() == ip).unwrap();
        let (local, far) = (at("127.0.0.1"), at("192.0.2.1"));
        let with_relay = |n: usize, host: &str, at: SocketAddr| {
            let mut config = config(dirs[n].path(), dirs[2].path());
            let place = format!("turn:{host}:{}", at.port()).parse().unwrap();
            let access = RelayAccess::Secret(RelaySecret::new(SECRET.as_bytes()));
            config.relays = vec![RelayWish { place, access }];
            config
        };
        // By a name that the hosts file knows, and by an address.
        let mut a = Node::start(with_relay(0, "localhost", local));
        let mut joining = with_relay(1, "192.0.2.1", far);
        joining.join = Some(Invite::parse(&a.ready().0).unwrap());
        other.run(move || {
            ip("addr add 192.0.2.2/24 dev vethB");
            ip("link set vethB up");
            let mut b = Node::start(joining);
            b.ready();
            b.wait(|e| matches!(e, Event::Path { .. }));
            b.is_on_relay(far);
            assert_eq!(b.leave(), Ok(()));
        });
        a.is_on_relay(local);
        assert_eq!(a.leave(), Ok(()));
        serve.block_on(server.shutdown()).unwrap();
    });
}

/// Answers NAT-PMP in the namespace it is started in, and tells the port and the lifetime of each request.
fn port_mapper(at: &str) -> std::sync::mpsc::Receiver<(u16, u32)> {
    let socket = UdpSocket::bind((at, 5351)).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut room = [0; 100];
        while let Ok((len, from)) = socket.recv_from(&mut room) {
            let mut answer = vec![0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 5];
            if let [0, 1, _, _, a, b, _, _, lifetime @ ..] = &room[..len] {
                let seconds = u32::from_be_bytes(lifetime.try_into().unwrap());
                let _ = tell.send((u16::from_be_bytes([*a, *b]), seconds));
                answer = vec![0, 129, 0, 0, 0, 0, 0, 9, *a, *b, *a, *b, 0, 0, 0x0e, 0x10];
            } else if len != 2 {
                continue;
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    told
}

#[test]
fn a_node_has_its_port_opened_and_gives_it_back() {
    if !netns::possible() {
        return;
    }
    netns::inside(|| {
        let router = netns::Elsewhere::new();
        router.cable("eth0", "lan0");
        let requests = router.run(|| {
            ip("addr add 192.168.7.1/24 dev lan0");
            ip("link set lan0 up");
            port_mapper("192.168.7.1")
        });
        ip("addr add 192.168.7.2/24 dev eth0");
        ip("link set eth0 up");
        ip("route add default via 192.168.7.1");
        let (data, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut node = Node::start(config(data.path(), shared.path()));
        let (port, lifetime) = requests.recv_timeout(PATIENCE).expect("a request at the start");
        assert_eq!(lifetime, 3600);
        node.ready();
        node.wait(|e| matches!(e, Event::Nat { port_mapping, .. } if port_mapping == "nat-pmp"));
        // Cards and addresses that come up with the device make it ask again.
        while requests.recv_timeout(Duration::from_secs(2)).is_ok() {}
        // Moved to another network with the very same address: asked again there.
        let start = Instant::now();
        ip("route replace default via 192.168.7.1 src 192.168.7.2 metric 5");
        ip("addr add 192.168.7.3/24 dev eth0");
        ip("route del default");
        ip("route replace default via 192.168.7.1 src 192.168.7.3");
        assert_eq!(requests.recv_timeout(PATIENCE).map(|r| r.1), Ok(3600));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(node.leave(), Ok(()));
        let last = std::iter::from_fn(|| requests.recv_timeout(Duration::from_millis(200)).ok()).last();
        assert_eq!(last, Some((port, 0)), "given back");
    });
}

#[test]
fn a_node_without_rights_says_how_to_get_them() {
    if !netns::possible() {
        return;
    }
    netns::inside(|| {
        give_up_rights();
        let (data, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trouble = bridge::start(config(data.path(), shared.path())).unwrap().wait().unwrap_err();
        assert_eq!(trouble.code, "no_tun_rights");
        assert!(trouble.hint.contains("setcap"), "{trouble:?}");
    });
}

#[test]
fn without_rights_auto_is_proxy_mode_and_says_why() {
    if !netns::possible() {
        return;
    }
    netns::inside(|| {
        ip("link set lo up");
        give_up_rights();
        let (data, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut auto = config(data.path(), shared.path());
        auto.mode = ModeWish::Auto;
        let mut node = Node::start(auto);
        let Event::Mode { mode, why, hint } = node.wait(|e| matches!(e, Event::Mode { .. })) else {
            panic!("another event")
        };
        assert!(mode == Mode::Proxy && why.contains("may not") && hint.contains("setcap"), "{why}; {hint}");
        let ready = node.wait(|e| matches!(e, Event::Ready { .. }));
        assert!(matches!(ready, Event::Ready { mode: Mode::Proxy, .. }), "{ready:?}");
        assert_eq!(node.0.handle.status.borrow().mode, Mode::Proxy);
        assert!(!data.path().join("leftovers.json").exists() && !has_device(), "nothing was made");
        assert_eq!(node.leave(), Ok(()));
    });
}

#[test]
fn a_game_that_proxy_mode_cannot_carry_is_refused_with_its_profiles_reason() {
    if !netns::possible() {
        return;
    }
    netns::inside(|| {
        ip("link set lo up");
        let (data, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut proxy = config(data.path(), shared.path());
        (proxy.mode, proxy.games) = (ModeWish::Proxy, vec!["directplay".into()]);
        let trouble = bridge::start(proxy).expect_err("refused before anything is begun");
        assert_eq!(trouble.code, "not_by_proxy");
        assert!(trouble.message.contains("Players tell each other"), "{trouble:?}");
        assert!(trouble.hint.contains("without --mode proxy"), "{trouble:?}");
        let begun = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
        assert_eq!((begun(data.path()), begun(shared.path())), (0, 0), "nothing was begun");
    });
}

/// Takes CAP_NET_ADMIN from the calling thread and all that it will start.
fn give_up_rights() {
    const CAP_NET_ADMIN: libc::c_ulong = 12;
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = [VERSION_3, 0];
    let mut sets = [0u32; 6];
    #[expect(unsafe_code, reason = "std has no capabilities")]
    // SAFETY: both pointers are to live arrays of the size that version 3 of the interface reads and writes.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()), 0);
        sets[0] &= !(1 << CAP_NET_ADMIN);
        sets[1] &= !(1 << CAP_NET_ADMIN);
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()), 0);
    }
}

/// Two nodes in two houses' worth of cables: the guest has an invite that names nobody's address.
fn in_one_house(beacon: bool) -> (Duration, Vec<Event>) {
    netns::inside(move || {
        let dirs: [tempfile::TempDir; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let direct = |dir: &Path, shared: &Path| {
            let mut config = config(dir, shared);
            config.control = vec![ControlChoice::Direct(Vec::new())];
            config.beacon = beacon;
            config
        };
        let other = netns::Elsewhere::new();
        for (n, (here, there)) in [("vethA", "vethB"), ("vethC", "vethD")].into_iter().enumerate() {
            other.cable(here, there);
            ip(&format!("addr add 192.0.{n}.1/24 dev {here}"));
            ip(&format!("link set {here} up"));
            other.run(move || {
                ip(&format!("addr add 192.0.{n}.2/24 dev {there}"));
                ip(&format!("link set {there} up"));
            });
        }
        let mut a = Node::start(direct(dirs[0].path(), dirs[2].path()));
        let mut invite = Invite::parse(&a.ready().0).unwrap();
        assert!(!addresses(&invite).is_empty(), "the invite itself names the cards");
        invite.set_direct(Vec::new());
        let mut config = direct(dirs[1].path(), dirs[2].path());
        config.control.clear();
        config.join = Some(invite);
        let (took, events) = other.run(move || {
            let began = Instant::now();
            let mut b = Node::start(config);
            let mut events = Vec::new();
            while began.elapsed() < Duration::from_secs(6) {
                match b.0.events.try_recv() {
                    Ok(event) => events.push(event),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
                if events.iter().any(|e| matches!(e, Event::Path { .. })) {
                    break;
                }
            }
            let took = began.elapsed();
            assert_eq!(b.leave(), Ok(()));
            (took, events)
        });
        if beacon {
            a.wait(|e| matches!(e, Event::PeerLeft { .. }));
        }
        assert_eq!(a.leave(), Ok(()));
        (took, events)
    })
}

fn addresses(invite: &Invite) -> Vec<SocketAddr> {
    let of = |hint: &ControlHint| match hint {
        ControlHint::Direct(list) => list.clone(),
        ControlHint::Server(_) | ControlHint::Folder(_) => Vec::new(),
    };
    invite.control.iter().flat_map(of).collect()
}

#[test]
fn two_players_in_one_house_find_each_other_by_their_beacons_and_by_nothing_else() {
    if !netns::possible() {
        return;
    }
    let (took, events) = in_one_house(true);
    assert!(events.iter().any(|e| matches!(e, Event::Path { .. })), "{events:#?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let (_, events) = in_one_house(false);
    assert!(!events.iter().any(|e| matches!(e, Event::PeerJoined { .. })), "{events:#?}");
}
