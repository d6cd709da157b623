//! Peers for tests: everything real but the LAN side, which is made of channels.

use lanrage::buf::batch::{Batch, Source};
use lanrage::engine::direct::DirectSetup;
use lanrage::engine::effect::{Knobs, LanConfig, LinkSetup, Memory, PartySetup, Setup};
use lanrage::engine::sink::{Delivery, LanSink};
use lanrage::host::clock::HostClock;
use lanrage::host::control::{self, CarrierSetup, ControlChoice};
use lanrage::host::drive::{self, LanMaker, LanPortLike, Outside, Parts};
use lanrage::host::{entropy, threads, udp};
use lanrage::model::addr::{Card, Net, Subnet};
use lanrage::model::command::Command;
use lanrage::model::id::{CardId, LinkId};
use lanrage::model::key::{NodeKeys, NodeSecret, PartySecret};
use lanrage::model::relay::RelayOffer;
use lanrage::model::status::{Event, Mode, NatStatus, Status, Trouble};
use lanrage::rules::ruleset::Ruleset;
use lanrage::rules::{compile, shipped};
use lanrage::wire::invite::{ControlHint, Invite};
use lanrage::wire::packet::write_udp;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(10);

/// How the LAN side misbehaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Open,
    Panic,
}

type Sent = (Source, Vec<u8>);
type Heard = (Delivery, Vec<u8>);

/// What the fake LAN side shows to the test.
#[derive(Clone)]
struct Shown {
    config: Arc<Mutex<Option<LanConfig>>>,
    _alive: Arc<()>,
    heard: std_mpsc::Sender<Heard>,
}

struct FakeMaker {
    fault: Fault,
    sent: Option<mpsc::Receiver<Sent>>,
    shown: Shown,
}

struct FakeLan {
    fault: Fault,
    sent: mpsc::Receiver<Sent>,
    waiting: VecDeque<Sent>,
    room: Vec<u8>,
    shown: Shown,
}

impl LanMaker for FakeMaker {
    type Port = FakeLan;

    fn open(&mut self, config: &LanConfig) -> Result<FakeLan, Trouble> {
        if self.fault == Fault::Open {
            return Err(Trouble::new("no_tun_rights", "no", "none"));
        }
        *self.shown.config.lock().unwrap() = Some(*config);
        Ok(FakeLan {
            fault: self.fault,
            sent: self.sent.take().expect("opened once"),
            waiting: VecDeque::new(),
            room: Vec::new(),
            shown: self.shown.clone(),
        })
    }
}

impl LanSink for FakeLan {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.room.resize(len, 0);
        Some(&mut self.room)
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        let _ = self.shown.heard.send((how, self.room[..len].to_vec()));
    }
}

impl LanPortLike for FakeLan {
    async fn readable(&mut self) {
        if self.waiting.is_empty() {
            match self.sent.recv().await {
                Some(packet) => self.waiting.push_back(packet),
                None => std::future::pending().await,
            }
        }
    }

    fn needs_runtime(&self) -> bool {
        true
    }

    fn try_read(&mut self, batch: &mut Batch) -> usize {
        while let Ok(packet) = self.sent.try_recv() {
            self.waiting.push_back(packet);
        }
        assert!(self.fault != Fault::Panic || self.waiting.is_empty(), "the fake LAN side breaks");
        let before = batch.len();
        while let Some((source, packet)) = self.waiting.pop_front() {
            assert!(batch.next(source).expect("tests send few packets").fill(&packet));
        }
        batch.len() - before
    }

    fn flush(&mut self) {}

    fn reconfigure(&mut self, config: &LanConfig) -> Result<(), Trouble> {
        *self.shown.config.lock().unwrap() = Some(*config);
        Ok(())
    }

    fn set_rules(&mut self, _: &Ruleset) {}

    fn set_mtu(&mut self, _: u16) {}

    fn set_cards(&mut self, cards: &[Card]) {
        assert!(!cards.is_empty());
    }
}

/// A party and its shared folder.
pub(crate) struct Table {
    folder: tempfile::TempDir,
    host: NodeSecret,
    slow: Runtime,
    /// What everybody's player named with `--relay`.
    pub(crate) relays: Vec<RelayOffer>,
    /// What everybody plays.
    pub(crate) rules: Arc<Ruleset>,
}

impl Table {
    pub(crate) fn new() -> Self {
        let host = NodeSecret(entropy::seed().unwrap().0);
        Self {
            folder: tempfile::tempdir().unwrap(),
            host,
            slow: threads::slow_runtime().unwrap(),
            relays: Vec::new(),
            rules: Arc::new(compile::compile(&[shipped::find("minecraft").unwrap()]).unwrap()),
        }
    }

    pub(crate) fn host(&self, name: &str) -> Peer {
        self.host_with(name, Fault::None)
    }

    pub(crate) fn host_with(&self, name: &str, fault: Fault) -> Peer {
        Peer::start(self, name, true, fault, Memory::default())
    }

    pub(crate) fn guest(&self, name: &str) -> Peer {
        Peer::start(self, name, false, Fault::None, Memory::default())
    }

    pub(crate) fn invite_text(&self) -> String {
        self.invite().to_text()
    }

    /// Two physical cards, as far as the node is told.
    pub(crate) fn cards(&self) -> Vec<Card> {
        let card = |id, name: &str, addr: &str| Card {
            id: CardId(id),
            name: name.into(),
            nets: vec![Net { addr: addr.parse().unwrap(), prefix: 24 }],
            default_route: id == 7,
        };
        vec![card(7, "eth0", "192.168.5.2"), card(8, "wlan0", "192.168.6.2")]
    }

    fn invite(&self) -> Invite {
        Invite {
            owner: NodeKeys::new(&self.host).id(),
            slot: 4,
            epoch: 0,
            secret: PartySecret([5; 16]),
            subnet: Subnet([10, 99, 98]),
            control: vec![ControlHint::Folder(self.folder.path().to_str().unwrap().into())],
        }
    }
}

/// A running peer.
pub(crate) struct Peer {
    pub(crate) out: Outside,
    sent: mpsc::Sender<Sent>,
    heard: std_mpsc::Receiver<Heard>,
    config: Arc<Mutex<Option<LanConfig>>>,
    alive: std::sync::Weak<()>,
    stopped: oneshot::Receiver<Option<Trouble>>,
}

impl Peer {
    pub(crate) fn start(table: &Table, name: &str, owner: bool, fault: Fault, memory: Memory) -> Self {
        Self::begin(table, name, owner, (fault, memory), None)
    }

    /// Without a control plane: the host of a party, or who follows this invite.
    pub(crate) fn direct(table: &Table, name: &str, invite: Option<&Invite>) -> Self {
        let of = |hint: &ControlHint| match hint {
            ControlHint::Direct(addresses) => addresses.clone(),
            ControlHint::Folder(_) | ControlHint::Server(_) => Vec::new(),
        };
        let addresses = invite.iter().flat_map(|i| &i.control).flat_map(of).collect();
        let direct = DirectSetup { on: true, addresses, friend_relay: false };
        Self::begin(table, name, invite.is_none(), (Fault::None, Memory::default()), Some(direct))
    }

    fn begin(
        table: &Table,
        name: &str,
        owner: bool,
        (fault, memory): (Fault, Memory),
        direct: Option<DirectSetup>,
    ) -> Self {
        let secret = if owner { table.host.clone() } else { NodeSecret(entropy::seed().unwrap().0) };
        let mut invite = table.invite();
        let me = NodeKeys::new(&secret).id();
        let choice = ControlChoice::Folder(table.folder.path().to_path_buf());
        let mut links = vec![LinkSetup { control: choice.to_string() }];
        if direct.is_some() {
            links.clear();
            invite.control.clear();
        }
        let carried = direct.is_none();
        let setup = Setup {
            secret,
            name: name.into(),
            party: PartySetup {
                id: invite.party(),
                owned_slot: owner.then_some(invite.slot),
                epoch: invite.epoch,
                secret: invite.secret.clone(),
                subnet: invite.subnet,
            },
            links,
            rules: Arc::clone(&table.rules),
            memory,
            invite: invite.to_text(),
            open: false,
            direct: direct.unwrap_or_default(),
            relays: table.relays.clone(),
            plugins: Arc::default(),
            knobs: Knobs::default(),
        };
        let (mut doors, mut out) = drive::doors(first_status(&setup, me), invite.to_text());
        let party = invite.party();
        if carried {
            let _inside = table.slow.enter();
            let setup = CarrierSetup { link: LinkId(0), choice, party, me };
            doors.links.push(control::spawn(setup, out.control.clone()));
        }
        // Only carriers hold the way in, so that the loop sees when they are done.
        out.control = mpsc::channel(1).0;
        let (sent, sent_out) = mpsc::channel(256);
        let (heard_in, heard) = std_mpsc::channel();
        let (config, alive) = (Arc::default(), Arc::new(()));
        let weak = Arc::downgrade(&alive);
        let shown = Shown { config: Arc::clone(&config), _alive: alive, heard: heard_in };
        let parts = Parts {
            setup,
            seed: entropy::seed().unwrap(),
            clock: HostClock::new(),
            bound: udp::bind(&["127.0.0.1:0".parse().unwrap()], None).unwrap(),
            lan: FakeMaker { fault, sent: Some(sent_out), shown },
            cards: table.cards(),
            invite,
            doors,
        };
        let stopped = drive::spawn(parts).unwrap();
        Self { out, sent, heard, config, alive: weak, stopped }
    }

    /// What the LAN side was told to be.
    pub(crate) fn config(&self) -> LanConfig {
        until(PATIENCE, || self.config.lock().unwrap().is_some());
        self.config.lock().unwrap().expect("the LAN side is configured")
    }

    /// A game (or this computer) sends a packet.
    pub(crate) fn game_sends(&self, source: Source, packet: &[u8]) {
        self.sent.blocking_send((source, packet.to_vec())).unwrap();
    }

    /// What games were given within this time.
    pub(crate) fn heard_for(&self, time: Duration) -> Vec<Heard> {
        let end = Instant::now() + time;
        let next = || self.heard.recv_timeout(end.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).collect()
    }

    /// The first event like this, from those not looked at yet.
    pub(crate) fn wait(&mut self, like: impl Fn(&Event) -> bool) -> Option<Event> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match self.out.events.try_recv() {
                Ok(event) if like(&event) => return Some(event),
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(5)),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
            }
        }
        None
    }

    pub(crate) fn status(&self) -> Status {
        // At most a second old; old enough to have seen what the test just saw.
        std::thread::sleep(Duration::from_millis(1100));
        (**self.out.status.borrow()).clone()
    }

    pub(crate) fn leave(&mut self) -> Option<Trouble> {
        self.out.commands.blocking_send(Command::Leave).unwrap();
        self.stopped()
    }

    /// What stopped it.
    pub(crate) fn stopped(&mut self) -> Option<Trouble> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.stopped.try_recv() {
                Ok(trouble) => return trouble,
                Err(oneshot::error::TryRecvError::Empty) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(e) => panic!("the data thread did not say why it stopped: {e}"),
            }
        }
    }

    pub(crate) fn port_is_gone(&self) -> bool {
        self.alive.upgrade().is_none()
    }
}

fn first_status(setup: &Setup, me: lanrage::model::id::PeerId) -> Status {
    Status {
        party: setup.party.id,
        peer: me,
        name: setup.name.clone(),
        address: setup.party.subnet.network(),
        mode: Mode::Lan,
        nat: NatStatus::default(),
        playing: Vec::new(),
        control: Vec::new(),
        peers: Vec::new(),
        games: Vec::new(),
        relays: Vec::new(),
        warnings: Vec::new(),
        plugins: Vec::new(),
        counters: std::collections::BTreeMap::new(),
    }
}

/// Minecraft's "Open to LAN" announcement as it leaves a card.
pub(crate) fn announcement(from: &str, port: u16) -> Vec<u8> {
    let text = format!("[MOTD]A world[/MOTD][AD]{port}[/AD]");
    let mut packet = vec![0; 1500];
    let from: SocketAddr = from.parse().unwrap();
    let to: SocketAddr = "224.0.2.60:4445".parse().unwrap();
    let len = write_udp(&mut packet, from, to, 1, text.as_bytes()).unwrap();
    packet.truncate(len);
    packet
}

/// Waits until something is so.
pub(crate) fn until(patience: Duration, so: impl Fn() -> bool) {
    let end = Instant::now() + patience;
    while !so() {
        assert!(Instant::now() < end, "not within {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
