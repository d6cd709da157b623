//! A member who lies: it has the party's secret and a place of its own, and sends through honest handshakes whatever
//! could harm the others: packets from other people's addresses, to doors, to nobody; frames that contradict
//! themselves; records and re-keyings that are not its to make; floods.
//!
//! It has no node. What it says is numbered like everything else, and marked as what nobody may hear.

use super::game::{ARENA, DOORS, GROUP, Saying, What, tcp, udp};
use super::oracle::Emission;
use super::world::{Event, World};
use crate::engine::tunnel::plain::Plain;
use crate::engine::tunnel::session::{Open, Session, SessionSetup, receiver_index};
use crate::model::addr::{Candidate, CandidateKind, Endpoint, Seat};
use crate::model::dice::{Dice, Seed};
use crate::model::key::{NodeKeys, PartyKeys, PartySecret, TunnelKey};
use crate::model::nat::NatFacts;
use crate::model::record::{Envelope, PeerRecord, Rotation};
use crate::model::time::Now;
use crate::wire::control::{Down, GameList, GameOffer, Hello, PeerMessage, Up, VERSION};
use crate::wire::frame::{Class, Frame, FrameKind, HEADER};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Between two lies.
const RHYTHM: Duration = Duration::from_millis(137);
/// Packets of a flood.
const FLOOD: u32 = 60;

/// See the module's description.
#[derive(Debug)]
pub struct Rogue {
    keys: NodeKeys,
    party: PartyKeys,
    seat: Seat,
    victims: Vec<Victim>,
    dice: Dice,
    number: u64,
    /// Lies that were sent from an address that is not its own.
    pub forged: u64,
}

#[derive(Debug)]
struct Victim {
    pc: usize,
    key: TunnelKey,
    index: u32,
    session: Plain,
}

impl World {
    /// A computer becomes a liar: signs in, publishes its record, and calls everybody.
    pub fn turn(&mut self, pc: usize) {
        let now = self.honest_now();
        let seed = self.seed.fork(&format!("rogue {pc}"));
        let keys = NodeKeys::new(&self.pcs[pc].secret);
        let party = PartyKeys::new(self.party.id, self.pcs[pc].disk.epoch, &self.pcs[pc].disk.party);
        let seat = Seat(250);
        let victims = (0..self.pcs.len())
            .filter(|other| *other != pc)
            .map(|other| {
                Victim::new(other, &keys, &NodeKeys::new(&self.pcs[other].secret), &party, seed, now)
            })
            .collect();
        let rogue = Rogue { keys, party, seat, victims, dice: seed.dice("lies"), number: 0, forged: 0 };
        let record =
            rogue.record(SocketAddr::new(self.pcs[pc].default_card().addr(), self.pcs[pc].port), now);
        self.pcs[pc].out = true;
        self.pcs[pc].addresses.push((self.now, self.party.subnet.v4(seat)));
        self.chaos.hostile += 1;
        self.sign_in(pc, &rogue, &record, now);
        self.pcs[pc].rogue = Some(Box::new(rogue));
        self.after(Duration::from_secs(2), Event::Lie(pc));
    }

    fn sign_in(&mut self, pc: usize, rogue: &Rogue, record: &Envelope, now: Now) {
        let caller = (pc, u64::MAX);
        let greeting = self.planes[0].connect(caller, now);
        let Some((_, Down::Opened { nonce, audience })) = greeting.into_iter().next() else { return };
        let (party, key, epoch) = (rogue.party.party(), rogue.keys.key(), rogue.party.epoch());
        let proof = Hello::proof(&nonce.0, &audience, party, &key, epoch, None);
        let (signature, member) = (rogue.keys.sign(&proof), rogue.party.sign_as_member(&proof));
        let hello = Hello { version: VERSION, party, key, signature, member, epoch, found: None };
        for message in [Up::Hello(hello), Up::Publish { envelope: record.clone() }] {
            let out = self.planes[0].handle(caller, message, now);
            let others = out.into_iter().filter(|(c, _)| *c != caller).collect();
            self.spread(0, others);
        }
    }

    /// A datagram for a liar: it keeps its sessions and answers pings like anybody.
    pub(super) fn rogue_hears(&mut self, pc: usize, from: SocketAddr, wire: &[u8]) {
        let now = self.honest_now();
        let Some(rogue) = &mut self.pcs[pc].rogue else { return };
        let (seat, mut room) = (rogue.seat, [0u8; 2048]);
        let victim = match wire.first() {
            Some(1) => {
                let key = Plain::initiator(&rogue.keys, wire);
                rogue.victims.iter_mut().find(|v| Some(v.key) == key)
            }
            _ => rogue.victims.iter_mut().find(|v| receiver_index(wire) == Some(v.index)),
        };
        let Some(victim) = victim else { return };
        let answer = match victim.session.open(wire, &mut room, from, now) {
            Open::Reply(len) => Some(room[..len].to_vec()),
            Open::Plain(len) => match Frame::read(&room[..len]) {
                Some((ping, _)) if ping.kind == FrameKind::Ping => {
                    let pong = Frame { kind: FrameKind::Pong, origin: seat.0, ..ping };
                    victim.sealed(pong, b"", now)
                }
                _ => None,
            },
            Open::Nothing | Open::Refused => None,
        };
        if let Some(answer) = answer {
            self.send(pc, Endpoint::main(from), answer);
        }
    }

    /// The next lie, to everybody in turn.
    pub(super) fn lie(&mut self, pc: usize) {
        self.after(RHYTHM, Event::Lie(pc));
        let Some(mut rogue) = self.pcs[pc].rogue.take() else { return };
        rogue.number += 1;
        let count = rogue.victims.len() as u64;
        let at = (rogue.number % count) as usize;
        let (now, other) = (self.honest_now(), rogue.victims[at].pc);
        let to = SocketAddr::new(self.pcs[other].default_card().addr(), self.pcs[other].port);
        let mut out = Vec::new();
        if rogue.victims[at].session.established() {
            let kind = rogue.dice.below(12);
            for plain in self.lies(&mut rogue, kind, pc, other) {
                out.extend(rogue.victims[at].seal(&plain, now));
            }
        } else {
            let mut room = [0u8; 148];
            let victim = &mut rogue.victims[at];
            out.extend(victim.session.initiate(&mut room, true, now).map(|len| room[..len].to_vec()));
        }
        self.pcs[pc].rogue = Some(rogue);
        for wire in out {
            self.send(pc, Endpoint::main(to), wire);
        }
    }

    /// What is said inside the tunnel: packets and frames.
    fn lies(&mut self, rogue: &mut Rogue, kind: u32, pc: usize, other: usize) -> Vec<Vec<u8>> {
        let subnet = self.party.subnet;
        let me = subnet.v4(rogue.seat);
        let Some(you) = self.pcs[other].virtual_address() else { return Vec::new() };
        let bystander = self.pcs.iter().enumerate().find(|(n, p)| *n != pc && *n != other && p.run.is_some());
        let third = bystander.and_then(|(_, p)| p.virtual_address()).unwrap_or(you);
        let strange = [third, you, Ipv4Addr::new(8, 8, 8, 8), subnet.broadcast(), Ipv4Addr::LOCALHOST];
        let false_source = strange[rogue.dice.below(5) as usize];
        let addr = |ip: Ipv4Addr, port: u16| SocketAddr::new(IpAddr::V4(ip), port);
        let query = self.forbid(pc, What::Query);
        let announcement = self.forbid(pc, What::Announcement);
        let knock = self.forbid(pc, What::Knock);
        let lan = |origin: u8, class, number| Frame {
            kind: FrameKind::Lan,
            origin,
            hops: 0,
            class,
            number,
            run: 77,
        };
        let framed = |frame: Frame, packet: &[u8]| {
            let mut bytes = vec![0; HEADER];
            frame.write(&mut bytes, packet.len());
            [&bytes[..], packet].concat()
        };
        let announced = udp(addr(me, 40_065), GROUP, 1, &announcement.payload(25_565));
        rogue.forged += u64::from(kind < 4);
        match kind {
            0 => vec![udp(addr(false_source, ARENA), addr(you, ARENA), 64, &query.payload(0))],
            1 => vec![tcp(
                addr(false_source, 50_000),
                addr(you, 25_565),
                self.forbid(pc, What::Syn).mark,
                false,
            )],
            2 => {
                let forged = udp(addr(false_source, 40_065), GROUP, 1, &announcement.payload(25_565));
                vec![framed(lan(rogue.seat.0, Class::Multicast, rogue.number), &forged)]
            }
            3 => vec![framed(lan(third.octets()[3], Class::Multicast, rogue.number), &announced)],
            4 => DOORS
                .iter()
                .map(|door| udp(addr(me, 50_000), addr(you, *door), 64, &knock.payload(0)))
                .collect(),
            5 => {
                let mark = self.forbid(pc, What::Syn).mark;
                DOORS.iter().map(|door| tcp(addr(me, 50_000), addr(you, *door), mark, false)).collect()
            }
            6 => [third, subnet.broadcast(), Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 2, 60)]
                .into_iter()
                .filter(|to| *to != you)
                .map(|to| udp(addr(me, ARENA), addr(to, 4445), 64, &announcement.payload(1)))
                .collect(),
            7 => {
                let hops = Frame { hops: 3, ..lan(rogue.seat.0, Class::Multicast, rogue.number) };
                vec![framed(hops, &announced)]
            }
            8 => (0..4).map(|_| rogue.nonsense()).collect(),
            9 => rogue.false_messages(),
            10 => {
                // One announcement, said again under new numbers and old ones: the window and the pace stop it.
                let honest = self.allow(pc, What::Announcement, FLOOD);
                let packet = udp(addr(me, 40_065), GROUP, 1, &honest.payload(25_565));
                let first = rogue.number << 16;
                (0..FLOOD)
                    .map(|i| framed(lan(rogue.seat.0, Class::Multicast, first + u64::from(i / 2)), &packet))
                    .collect()
            }
            _ => {
                let mut cut = udp(addr(me, ARENA), addr(you, ARENA), 64, &query.payload(0));
                cut[6] = 0x20;
                crate::wire::packet::fix_checksums(&mut cut);
                vec![cut]
            }
        }
    }

    fn forbid(&mut self, pc: usize, what: What) -> Saying {
        let saying = Saying { what, mark: self.oracle.mark() };
        self.rogue_says(pc, saying, true);
        saying
    }

    /// Something that may be heard, up to this many times.
    fn allow(&mut self, pc: usize, what: What, times: u32) -> Saying {
        let saying = Saying { what, mark: self.oracle.mark() };
        (0..times).for_each(|_| self.rogue_says(pc, saying, false));
        saying
    }

    fn rogue_says(&mut self, pc: usize, saying: Saying, forbidden: bool) {
        self.oracle.said(Emission {
            at: self.now,
            by: (pc, usize::MAX),
            what: saying.what,
            mark: saying.mark,
            port: 40_065,
            to: None,
            due: Vec::new(),
            forbidden,
        });
    }
}

impl Victim {
    fn new(pc: usize, mine: &NodeKeys, theirs: &NodeKeys, party: &PartyKeys, seed: Seed, now: Now) -> Self {
        let (key, index) = (theirs.tunnel_key(), 0x0066_0000 + pc as u32);
        let psk = party.psk(&mine.key(), &theirs.key());
        let setup = SessionSetup {
            keys: mine.clone(),
            peer: key,
            psk,
            index,
            seed: seed.fork(&format!("session {pc}")),
        };
        Self { pc, key, index, session: Plain::new(setup, now) }
    }

    fn seal(&mut self, plain: &[u8], now: Now) -> Option<Vec<u8>> {
        let mut room = vec![0; plain.len() + 160];
        let len = self.session.seal(plain, &mut room, now)?;
        room.truncate(len);
        Some(room)
    }

    fn sealed(&mut self, frame: Frame, body: &[u8], now: Now) -> Option<Vec<u8>> {
        let mut bytes = vec![0; HEADER];
        frame.write(&mut bytes, body.len());
        bytes.extend_from_slice(body);
        self.seal(&bytes, now)
    }
}

impl Rogue {
    fn record(&self, at: SocketAddr, now: Now) -> Envelope {
        let record = PeerRecord {
            name: "a friend".into(),
            tunnel: self.keys.tunnel_key(),
            seat: self.seat,
            seat_since: now.unix.as_secs(),
            candidates: vec![Candidate { addr: at, kind: CandidateKind::Host }],
            nat: NatFacts::default(),
            games: vec!["minecraft-java".into(), "openarena".into()],
            incarnation: 1,
            friend: false,
        };
        Envelope::seal(&record, &self.keys, &self.party, now.unix_ms(), [7; 24])
    }

    /// Bytes that look like a frame, or like a packet, or like nothing, and name a length that lies.
    fn nonsense(&mut self) -> Vec<u8> {
        let len = self.dice.range(20, 120);
        let mut bytes: Vec<u8> = (0..len).map(|_| self.dice.below(256) as u8).collect();
        bytes[0] = [0x40, 0x45, 0x60, 0x4f][self.dice.below(4) as usize];
        let named = if self.dice.chance(700) { len } else { self.dice.below(200) };
        bytes[2..4].copy_from_slice(&(named as u16).to_be_bytes());
        bytes
    }

    /// A list of games: ever other ones, far too many, some at doors, with titles that are none. Or none at all, as if that
    /// closed the games of others.
    fn false_list(&mut self) -> PeerMessage {
        let count = if self.dice.chance(500) { 40 } else { 0 };
        let run = self.dice.below(2);
        let offer = |dice: &mut Dice| GameOffer {
            game: if dice.chance(900) { "minecraft-java" } else { "no-such-game" }.into(),
            tcp: dice.chance(500),
            port: if dice.chance(300) { DOORS[0] } else { 25_560 + dice.below(2000) as u16 },
            title: format!("\u{1b}[2J{}", "free coins ".repeat(12)),
            map: "\u{202e}map".to_owned(),
            version: String::new(),
            players: Some(dice.u32()),
            most_players: Some(dice.u32()),
        };
        let games = (0..count).map(|_| offer(&mut self.dice)).collect();
        PeerMessage::Games(GameList { run, number: self.number, games })
    }

    /// Words that are not its to say: a re-keying of the party, a record of somebody else, a record that cannot be read;
    /// and lists of games.
    fn false_messages(&mut self) -> Vec<Vec<u8>> {
        let secret = PartySecret(self.dice.bytes());
        let stay: Vec<_> = Vec::new();
        let rotation = Rotation::seal(&self.keys, 0, self.party.epoch() + 1, &secret, &stay, || [1; 24]);
        let stranger = NodeKeys::new(&crate::model::key::NodeSecret(self.dice.bytes()));
        let mut borrowed = self.record(SocketAddr::from(([8, 8, 8, 8], 53)), Now::default());
        borrowed.key = stranger.key();
        let mut torn = self.record(SocketAddr::from(([8, 8, 8, 8], 53)), Now::default());
        torn.sealed.0.truncate(30);
        let messages = [
            PeerMessage::Rotation(rotation),
            PeerMessage::Record(borrowed),
            PeerMessage::Record(torn),
            self.false_list(),
            PeerMessage::GamesSeen(u64::MAX),
        ];
        let frame = Frame {
            kind: FrameKind::Message,
            origin: self.seat.0,
            hops: 0,
            class: Class::Unicast,
            number: 0,
            run: 77,
        };
        let bytes = |message: &PeerMessage| {
            let body = postcard::to_allocvec(message).expect("messages serialise");
            let mut bytes = vec![0; HEADER];
            frame.write(&mut bytes, body.len());
            [bytes, body].concat()
        };
        messages.iter().map(bytes).collect()
    }
}
