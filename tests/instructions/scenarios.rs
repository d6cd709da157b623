//! What is counted. The room for packets is made beforehand and its fillings lie outside, so that only lanrage is counted.

use super::callgrind::counted;
use super::party::{Party, udp};
use super::relay::{self, Stage};
use super::segments::{self, SEGMENTS};
use lanrage::buf::batch::{Batch, Datagrams, Source};
use lanrage::engine::counters::DropReason;
use lanrage::engine::effect::HostFact;
use lanrage::engine::lan::guard::{EchoGuard, SeqWindow, TwinGuard};
use lanrage::engine::relay::tally::Tallied;
use lanrage::engine::relay::{HEADROOM, PortId};
use lanrage::engine::sink::{Delivery, LanSink, WanSink};
use lanrage::engine::tunnel::noise::Noise;
use lanrage::model::addr::{Card, Endpoint, Net, Via};
use lanrage::model::id::CardId;
use lanrage::model::limits::{ECHOES, PEERS, TWINS};
use lanrage::model::time::Mono;
use lanrage::rules::compile::compile;
use lanrage::rules::ruleset::Side;
use lanrage::rules::shipped;
use lanrage::wire::frame::Class;
use lanrage::wire::offload::{Merge, Split};
use lanrage::wire::packet::PacketView;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// A world that is announced every second or two.
const WORLD: &[u8] = b"[MOTD]world[/MOTD][AD]25599[/AD]";
/// Node 0's cards.
const FIRST: CardId = CardId(2);
const SECOND: CardId = CardId(3);
/// Packets of a scenario without an end: enough that one odd one does not show, and fewer than any pace allows.
const REPEATS: usize = 4;

/// Everything, in order.
pub(crate) fn run() {
    unicast(World::new(1, "openarena"));
    announcements(World::new(3, "minecraft"));
    fan_out(World::star(31, "minecraft"));
    for peers in [1, 31, PEERS] {
        one_by_one(World::star(peers, "openarena"));
    }
    classify();
    guards();
    passed_on();
    offload();
}

/// Room for what a node sends, either way.
struct Rooms {
    rooms: Vec<([u8; 2048], usize)>,
    used: usize,
}

impl Rooms {
    fn new(most: usize) -> Self {
        Self { rooms: vec![([0; 2048], 0); most], used: 0 }
    }

    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.rooms.get_mut(self.used)?.0.get_mut(..len)
    }

    fn taken(&mut self, len: usize) {
        self.rooms[self.used].1 = len;
        self.used += 1;
    }
}

impl WanSink for Rooms {
    fn reserve(&mut self, _: Endpoint, len: usize) -> Option<&mut [u8]> {
        self.room(len)
    }
    fn commit(&mut self, len: usize) {
        self.taken(len);
    }
}

impl LanSink for Rooms {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.room(len)
    }
    fn commit(&mut self, len: usize, _: Delivery) {
        self.taken(len);
    }
}

/// A party in which everybody plays one game; node 0 has a second card. And room for what is counted in it.
struct World {
    party: Party<Noise>,
    peers: usize,
    batch: Batch,
    wan: Rooms,
    lan: Rooms,
}

impl World {
    /// A node and so many peers who have known each other for a while.
    fn new(peers: usize, game: &str) -> Self {
        let mut world = Self::unconnected(peers, game);
        world.party.run(Duration::from_secs(3));
        world
    }

    /// The peers have just met node 0, and nobody else: much less to wait for.
    fn star(peers: usize, game: &str) -> Self {
        let mut world = Self::unconnected(peers, game);
        world.party.star = true;
        world.party.wake();
        world.party.wake();
        world
    }

    fn unconnected(peers: usize, game: &str) -> Self {
        let rules = Arc::new(compile(&[shipped::find(game).unwrap()]).unwrap());
        let mut party = Party::scripted(peers + 1, &rules, &[]);
        let cards = [(FIRST, "198.51.1.1"), (SECOND, "198.51.100.1")].map(|(id, addr)| Card {
            id,
            name: format!("eth{}", id.0),
            nets: vec![Net { addr: addr.parse().unwrap(), prefix: 24 }],
            default_route: id == FIRST,
        });
        party.seats[0].node.handle_fact(HostFact::Cards(cards.to_vec()), party.now);
        let most = REPEATS * peers;
        Self { party, peers, batch: Batch::default(), wan: Rooms::new(most), lan: Rooms::new(most) }
    }

    /// Node 0's games send a packet `REPEATS` times at once, counted if it has a name; how many datagrams it became.
    fn out(&mut self, name: Option<&str>, source: Source, packet: &[u8], each: usize) -> usize {
        let Self { party, batch, wan, lan, .. } = self;
        batch.clear();
        (wan.used, lan.used) = (0, 0);
        for _ in 0..REPEATS {
            assert!(batch.next(source).unwrap().fill(packet));
        }
        let node = &mut party.seats[0].node;
        let mut work = || node.handle_lan(batch, party.now, wan, lan);
        match name {
            Some(name) => counted(name, REPEATS * each, &mut work),
            None => work(),
        }
        while node.poll_effect().is_some() {}
        wan.used
    }

    /// Node 1 gets all at once what node 0 has just sent to it; how many packets its games got.
    fn arrives(&mut self, name: &str) -> usize {
        let Self { party, peers, wan, lan, .. } = self;
        let sent = wan.rooms[..wan.used].iter().step_by(*peers);
        let mut bytes = sent.map(|(room, len)| &room[..*len]).collect::<Vec<_>>().concat();
        let stride = bytes.len() / REPEATS;
        (wan.used, lan.used) = (0, 0);
        let (from, node) = (party.seats[0].socket, &mut party.seats[1].node);
        let mut came = Some(Datagrams { via: Via::Main, from, bytes: &mut bytes, stride });
        counted(name, REPEATS, &mut || node.handle_wan(came.take().unwrap(), party.now, wan, lan));
        while node.poll_effect().is_some() {}
        lan.used
    }

    /// A game of node 0 announces its world by this card.
    fn announce(&mut self, name: Option<&str>, card: CardId, each: usize) -> usize {
        let packet = udp("198.51.1.1:51000", "224.0.2.60:4445", WORLD);
        self.out(name, Source::Card(card), &packet, each)
    }
}

/// A game's packets between two players: parse, firewall, seal; open, source check, firewall.
fn unicast(mut world: World) {
    let [from, to] = [0, 1].map(|n| format!("{}:27960", world.party.address(n)));
    for size in [64, 200, 1400] {
        let packet = udp(&from, &to, &vec![7; size - 28]);
        // The first of their kind are noted by the firewalls.
        assert_eq!(world.out(None, Source::Tun, &packet, 1), REPEATS);
        assert_eq!(world.out(Some(&format!("out, {size} bytes")), Source::Tun, &packet, 1), REPEATS);
        assert_eq!(world.arrives(&format!("in, {size} bytes")), REPEATS);
    }
}

/// Packets that come one at a time, each with the question when to wake up next: as much in a large party as in a small one.
fn one_by_one(mut world: World) {
    let peers = world.peers;
    let [from, to] = [0, 1].map(|n| format!("{}:27960", world.party.address(n)));
    let packet = udp(&from, &to, &[7; 172]);
    world.out(None, Source::Tun, &packet, 1);
    let World { party, batch, wan, lan, .. } = &mut world;
    let node = &mut party.seats[0].node;
    (wan.used, lan.used) = (0, 0);
    black_box(node.deadline());
    counted(&format!("out, one by one, {peers} peers"), REPEATS, &mut || {
        for _ in 0..REPEATS {
            batch.clear();
            batch.next(Source::Tun).unwrap().fill(&packet);
            node.handle_lan(batch, party.now, wan, lan);
            black_box(node.deadline());
        }
    });
    assert_eq!((wan.used, node.deadline()), (REPEATS, node.deadline_of_all()));
}

/// A game's broadcast to a few: out, in, and seen again on another card.
fn announcements(mut world: World) {
    world = fan_out(world);
    assert_eq!(world.arrives("broadcast in"), REPEATS);
    assert_eq!(world.announce(Some("broadcast seen on another card too"), SECOND, 1), 0);
    let twins = world.party.seats[0].node.counters().dropped(DropReason::Twin);
    assert_eq!(twins, REPEATS as u64);
}

/// A game's broadcast out: classify, guards, pace, and one copy sealed for each peer.
fn fan_out(mut world: World) -> World {
    let peers = world.peers;
    assert_eq!(world.announce(None, FIRST, peers), REPEATS * peers);
    let name = format!("broadcast to {peers} peers, each copy");
    assert_eq!(world.announce(Some(&name), FIRST, peers), REPEATS * peers);
    world
}

/// All shipped games' rules are asked what a packet is.
fn classify() {
    let rules = compile(&shipped::all()).unwrap();
    let world = udp("192.168.1.20:50000", "224.0.2.60:4445", WORLD);
    let other = udp("192.168.1.20:50000", "192.168.1.30:40000", &[7; 200]);
    for (name, packet, class, found) in [
        ("classify, an announcement", world, Class::Multicast, true),
        ("classify, no discovery", other, Class::Unicast, false),
    ] {
        let view = PacketView::parse(&packet).unwrap();
        let mut rule = None;
        counted(name, 1, &mut || rule = rules.classify(black_box(&view), class, Side::FromGame));
        assert_eq!(rule.is_some(), found, "{name}");
    }
}

/// The three guards are asked about a packet they have not seen while their memory is full.
fn guards() {
    let packet = |n: usize| udp("10.1.2.3:5000", "224.0.2.60:4445", format!("{n:04}").as_bytes());
    let packets: Vec<Vec<u8>> = (0..=ECHOES).map(packet).collect();
    let views: Vec<_> = packets.iter().map(|p| PacketView::parse(p).unwrap()).collect();
    let (fresh, now) = (&views[ECHOES], Mono(Duration::from_secs(1)));
    let card = Some(CardId(1));

    let mut echo = EchoGuard::new(1, Duration::from_secs(2));
    views[..ECHOES].iter().for_each(|v| echo.injected(v, now));
    counted("guard, echo, full", 1, &mut || assert!(!echo.is_echo(fresh, now)));

    let mut twin = TwinGuard::new(1, Duration::from_millis(40));
    assert!(views[..TWINS].iter().all(|v| !twin.is_twin(v, Class::Multicast, card, now)));
    counted("guard, twin, full", 1, &mut || assert!(!twin.is_twin(fresh, Class::Multicast, card, now)));

    let mut window = SeqWindow::default();
    assert!(window.accept(1, 1));
    counted("guard, sequence", 1, &mut || assert!(window.accept(1, black_box(2))));
}

/// 200 bytes through the relay, each way and between two of its clients.
fn passed_on() {
    let mut stage = Stage::new(2);
    let (client, now, mut sink) = (relay::client(0), stage.now, relay::Sink::default());
    for (name, channel) in
        [("relay, client to peer", relay::CHANNEL), ("relay, client to client", relay::CHANNEL + 1)]
    {
        let mut buffer = relay::framed(channel);
        let range = HEADROOM..buffer.len();
        counted(name, 1, &mut || {
            stage.relay.handle_client(&client, &mut buffer, range.clone(), now, &mut sink);
        });
    }
    let (peer, mut buffer) = (relay::peer(0), vec![7; HEADROOM + relay::PAYLOAD]);
    let range = HEADROOM..buffer.len();
    counted("relay, peer to client", 1, &mut || {
        stage.relay.handle_peer(PortId(0), peer, &mut buffer, range.clone(), now, &mut sink);
    });
    for what in [Tallied::ToPeers, Tallied::Inside, Tallied::ToClients] {
        assert!(stage.relay.count(what) > 0, "{what:?}");
    }
}

/// 64 KiB of a TCP connection, cut after one read and merged into one write.
fn offload() {
    let (header, mut packet) = segments::read();
    let (mut room, mut frames) = ([0; 2048], 0);
    counted("offload, split, each frame", SEGMENTS, &mut || {
        let mut split = Split::begin(header, &mut packet).unwrap().unwrap();
        while split.next(&packet, &mut room).is_some() {
            frames += 1;
        }
    });
    assert_eq!(frames, SEGMENTS);

    let mut packets: Vec<Vec<u8>> = (0..SEGMENTS).map(segments::framed).collect();
    let (mut merge, mut writes) = (Merge::new(true), 0);
    counted("offload, merge, each packet", SEGMENTS, &mut || {
        for packet in &mut packets {
            merge.push(packet, &mut |_| writes += 1);
        }
        merge.flush(&mut |_| writes += 1);
    });
    assert_eq!(writes, 1);
}
