//! From bytes to a world and its story.
//!
//! Decoding is positional: each byte means the same wherever the rest ends, and bytes that are not there count as zero. So
//! every byte string is a story, cutting one gives a smaller story, and a seed, a fuzzer and a file in `tests/seeds/`
//! all feed the same decoder. All zeros is the plainest world: two computers, each at home, one server, fair weather.
//!
//! ```text
//!  0 .. 15   the world: mood, computers, homes, control planes, weather, knobs, owner, chaos
//! 16 .. 63   six computers of eight bytes each, whether they exist or not
//! 64 .. 183  up to thirty steps of four bytes: what, how long after the last, who, how
//! 184 ..     only in worlds with NATs: how many relays (0: none of all this, every home is open), how many steps count,
//!            and eight networks of four bytes each
//! ```

use super::control::Plane;
use super::fault::Step;
use super::game::{ARENA, How, Program, Title};
use super::link::Weather;
use super::net::{Net, Router, SimCard};
use super::pc::{Disk, Pc};
use super::plan::{self, Site};
use super::server::Server;
use super::world::{PartyFacts, World};
use crate::engine::effect::{Knobs, Memory};
use crate::engine::lobby::Knobs as LobbyKnobs;
use crate::model::addr::Subnet;
use crate::model::dice::Seed;
use crate::model::key::PartySecret;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Computers at most.
const PCS: usize = 6;
/// Where the computers' bytes begin, and how many each has.
const PC_BYTES: (usize, usize) = (16, 8);
/// Where the steps begin, how many bytes each has, and how many there are at most.
const STEP_BYTES: (usize, usize, usize) = (64, 4, 30);
/// Where the NATs begin: relays, steps, then each network's bytes.
const NAT_BYTES: (usize, usize) = (184, 4);
/// Networks that somebody may be carried to.
const GUEST_NETWORKS: usize = 2;

/// What kind of story it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Nothing goes wrong. Everything that is said must be heard, and nobody may complain.
    Calm,
    /// Packets are lost, doubled and overtake each other.
    Lossy,
    /// That, and everything else.
    Rough,
}

/// A decoded story.
#[derive(Debug)]
pub struct Scenario {
    bytes: Vec<u8>,
    /// Its mood.
    pub mood: Mood,
    /// Its computers.
    pub pcs: usize,
    /// Whether one more member lies.
    pub liar: bool,
    /// What stands between each network and the internet, where that is not nothing; and how many relays there are.
    pub nats: Option<(Vec<Site>, u8)>,
    /// Its steps, each with the wait before it.
    pub steps: Vec<(Duration, Step)>,
}

impl Scenario {
    /// The bytes that a seed stands for.
    #[must_use]
    pub fn bytes_of(seed: u64) -> Vec<u8> {
        let mut dice = Seed::from_u64(seed).dice("scenario");
        let steps = dice.range(0, STEP_BYTES.2 as u32) as usize;
        let len = STEP_BYTES.0 + steps * STEP_BYTES.1;
        std::iter::repeat_with(|| dice.below(256) as u8).take(len).collect()
    }

    /// The bytes of a seed's story in a world with NATs.
    #[must_use]
    pub fn nat_bytes_of(seed: u64) -> Vec<u8> {
        let mut dice = Seed::from_u64(seed).dice("scenario with nats");
        let len = NAT_BYTES.0 + 2 + (PCS + GUEST_NETWORKS) * NAT_BYTES.1;
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| dice.below(256) as u8).take(len).collect();
        bytes[NAT_BYTES.0] |= 1;
        bytes
    }

    /// Reads a story.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut story = Self {
            bytes: bytes.to_vec(),
            mood: Mood::Calm,
            pcs: 2,
            liar: false,
            nats: None,
            steps: Vec::new(),
        };
        story.mood = match story.byte(0) % 8 {
            0..=2 => Mood::Calm,
            3 | 4 => Mood::Lossy,
            _ => Mood::Rough,
        };
        story.pcs = 2 + usize::from(story.byte(1)) % (PCS - 1);
        story.nats = story.networks();
        // What a liar does is about sessions; how it gets through NATs is not.
        story.liar = story.mood == Mood::Rough && story.byte(13) & 6 == 6 && story.nats.is_none();
        let (start, len, most) = STEP_BYTES;
        let most =
            if story.nats.is_some() { usize::from(story.byte(NAT_BYTES.0 + 1)) % (most + 1) } else { most };
        let count = (bytes.len().saturating_sub(start) / len).min(most);
        story.steps = (0..count).map(|i| story.step(start + i * len)).collect();
        story
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn networks(&self) -> Option<(Vec<Site>, u8)> {
        let (start, len) = NAT_BYTES;
        let relays = self.byte(start);
        let site = |n: usize| Site::decode([0, 1, 2, 3].map(|i| self.byte(start + 2 + n * len + i)));
        let sites = (0..self.pcs + GUEST_NETWORKS).map(site).collect();
        (relays > 0).then_some((sites, 1 + (relays >> 1 & 1)))
    }

    fn of_pc(&self, pc: usize, at: usize) -> u8 {
        self.byte(PC_BYTES.0 + pc * PC_BYTES.1 + at)
    }

    /// Which home a computer is in.
    fn home(&self, pc: usize) -> usize {
        match (self.byte(2) % 5, pc) {
            (0, _) | (1, 2..) => pc,
            (1, _) | (4, _) => 0,
            (_, _) => pc % 2,
        }
    }

    fn titles(&self, pc: usize) -> Vec<Title> {
        match self.of_pc(pc, 2) % 8 {
            6 => vec![Title::Minecraft],
            7 => vec![Title::OpenArena],
            _ => vec![Title::Minecraft, Title::OpenArena],
        }
    }

    /// The programs of a computer, in an order that is the same for all: announcer, listener, server, client, doors,
    /// second announcer. `marks` are the words of announcers that always say the same.
    fn programs(&self, pc: usize, marks: [u64; 2]) -> Vec<(Program, bool)> {
        let (on, style) = (!self.of_pc(pc, 3), self.of_pc(pc, 4));
        let announcer = |port: u16, style: u8, mark| Program::Announcer {
            port,
            from: 40_000 + port % 100,
            period: Duration::from_millis([1500, 1500, 1500, 5000][usize::from(style % 4)]),
            // With a second cable into a neighbour's home, a game that sends by every card is heard there by wire, and
            // the node cannot know that when it sees the copy on the first card: see docs/sim.md.
            how: if style & 4 == 0 || self.of_pc(pc, 1) % 8 == 6 { How::Default } else { How::Every },
            always: (style & 8 != 0).then_some(mark),
        };
        let client = if on & 8 == 0 { ARENA } else { ARENA + 100 };
        vec![
            (announcer(25_565, style, marks[0]), on & 1 != 0),
            (Program::Listener, on & 2 != 0),
            (Program::Server, on & 8 != 0),
            (Program::Client { from: client }, true),
            (Program::Doors, true),
            (announcer(49_321, style >> 4, marks[1]), on & 16 == 0),
        ]
    }

    fn cards(&self, pc: usize, private: usize) -> Vec<SimCard> {
        let home = self.home(pc);
        let mut cards = vec![self.card(home, 10 + pc)];
        match self.of_pc(pc, 1) % 8 {
            // The private network of a virtual machine: everybody's looks the same and leads nowhere.
            5 => cards.push(SimCard::new(1, IpAddr::V4(Ipv4Addr::new(192, 168, 56, 1)), 24, private)),
            // A second cable into somebody's home.
            6 if self.nats.is_none() => {
                let other = self.home((pc + 1) % self.pcs);
                if other != home {
                    cards.push(SimCard::new(1, address(other, 50 + pc), 24, other));
                }
            }
            _ => {}
        }
        cards
    }

    fn card(&self, segment: usize, number: usize) -> SimCard {
        match &self.nats {
            Some((sites, _)) => plan::card(sites, segment, number),
            None => SimCard::new(0, address(segment, number), 24, segment),
        }
    }

    fn weather(&self) -> (Weather, Weather) {
        let percent = |at: usize, most: u32| u32::from(self.byte(at)) * most / 255;
        let ms = |n: u32| Duration::from_millis(u64::from(n));
        let wan = Weather {
            delay: ms(3 + percent(4, 150)),
            jitter: ms(percent(5, 60)),
            loss: percent(6, 250),
            burst: percent(7, 20),
            duplicate: percent(8, 100),
            reorder: percent(9, 200),
        };
        let lan = Weather { delay: Duration::from_micros(300), jitter: Duration::from_micros(900), ..wan };
        // A cable at home loses little.
        let lan = Weather { loss: wan.loss / 10, burst: 0, duplicate: wan.duplicate / 10, reorder: 0, ..lan };
        if self.mood == Mood::Calm { (lan.fine(), wan.fine()) } else { (lan, wan) }
    }

    fn knobs(&self) -> Knobs {
        let style = u64::from(self.byte(10));
        let seconds = Duration::from_secs;
        let plain = Knobs::default();
        if style < 128 {
            return plain;
        }
        Knobs {
            heartbeat: seconds(5 + style % 26),
            keepalive: seconds(4 + style / 2 % 22),
            backoff_first: Duration::from_millis(200 + style % 8 * 300),
            backoff_most: seconds(5 + style / 4 % 26),
            ..plain
        }
    }

    fn planes(&self, seed: Seed) -> Vec<Plane> {
        let ms = Duration::from_millis;
        let server = Plane::server("server:http://sim", ms(25), LobbyKnobs::default(), seed);
        let folder = || Plane::folder("file:/sim", ms(5), LobbyKnobs::default(), seed);
        match self.byte(3) % 4 {
            0 | 1 => vec![server],
            2 => vec![folder()],
            _ => vec![server, folder()],
        }
    }

    /// The world in which the story happens, before anything runs. `seed` is for what the bytes do not say.
    #[must_use]
    pub fn world(&self, seed: Seed, keep: bool) -> World {
        let (lan, wan) = self.weather();
        let homes = self.pcs + GUEST_NETWORKS;
        let private = |pc| homes + pc;
        let routers = (0..homes + self.pcs).map(|s| if s < homes { Router::Open } else { Router::None });
        let mut net = Net::new(routers.collect(), lan, wan, seed.fork("net"));
        if let Some((sites, _)) = &self.nats {
            plan::lay(&mut net, sites, seed.fork("boxes"));
        }
        let owner = usize::from(self.byte(11)) % self.pcs;
        let secret = World::secret(seed, owner);
        let disk =
            Disk { memory: Memory::default(), epoch: 0, party: PartySecret(seed.dice("party").bytes()) };
        let honest = (0..self.pcs).map(|pc| {
            let mut computer =
                Pc::new(pc, World::secret(seed, pc), self.cards(pc, private(pc)), disk.clone());
            computer.titles = self.titles(pc);
            computer.port = 41_000 + u16::from(self.of_pc(pc, 6) % 3);
            computer.skew = i64::from(self.of_pc(pc, 5).cast_signed()) * 420_000;
            computer
        });
        // The liar sits in a guest network, behind all who may be carried there.
        let guest = self.pcs;
        let card = SimCard::new(0, address(guest, 250), 24, guest);
        let liar = self.liar.then(|| Pc::new(guest, World::secret(seed, guest), vec![card], disk.clone()));
        let pcs = honest.chain(liar);
        let party = PartyFacts {
            id: World::party_of(&secret),
            owner,
            subnet: Subnet([10, 83, 7]),
            guide: None,
            grants: None,
            knobs: self.knobs(),
        };
        let mut world = World::new(net, pcs.collect(), self.planes(seed), party, seed, keep);
        if let Some((_, relays)) = &self.nats {
            (0..*relays).for_each(|n| world.add_server(Server::new(n, seed)));
            world.note_network();
        }
        for pc in 0..self.pcs {
            let marks = [world.oracle.mark(), world.oracle.mark()];
            world.pcs[pc].programs = self.programs(pc, marks);
        }
        world.chaos.fair = self.mood == Mood::Calm;
        world.chaos.rough = self.mood != Mood::Calm;
        world.chaos.echo = u32::from(self.byte(12)) * 4;
        world.chaos.gro = self.byte(13) & 1 != 0;
        world.chaos.early = self.byte(13) & 8 != 0;
        world.chaos.slack = Duration::from_micros(u64::from(self.byte(14)) * 60);
        world.chaos.tamper = if self.mood == Mood::Rough { u32::from(self.byte(15)) / 8 } else { 0 };
        world
    }

    /// When each computer's player starts: the owner first, so that the party is known when the others come.
    #[must_use]
    pub fn start_of(&self, pc: usize, owner: usize) -> Duration {
        let wish = Duration::from_millis(u64::from(self.of_pc(pc, 0)) * 100);
        if pc == owner { Duration::ZERO } else { Duration::from_secs(3) + wish }
    }

    fn step(&self, at: usize) -> (Duration, Step) {
        let [what, wait, who, how] = [0, 1, 2, 3].map(|i| self.byte(at + i));
        let millis = if wait < 200 { u64::from(wait) * 30 } else { u64::from(wait - 199) * 500 };
        let pc = usize::from(who) % self.pcs;
        let other = (pc + 1 + usize::from(how) % (self.pcs - 1)) % self.pcs;
        let kinds = match (self.mood, &self.nats) {
            (Mood::Calm | Mood::Lossy, _) => 10,
            (Mood::Rough, None) => 24,
            (Mood::Rough, Some(_)) => 32,
        };
        let number = usize::from(how >> 1);
        let place = (pc, usize::from(how) % 6);
        let step = match what % kinds {
            0 | 1 => Step::Ask((pc, 3)),
            2 => Step::Join(pc, (other, if how & 1 == 0 { 0 } else { 5 })),
            3 => Step::Knock(pc, other),
            4 => Step::On(place),
            5 => Step::Off(place),
            6 => Step::Leave(pc),
            7 | 8 => Step::Start(pc),
            9 => Step::Cards(pc),
            10 => Step::Kill(pc),
            11 => Step::Sleep(pc),
            12 => Step::Rise(pc),
            13 | 14 => Step::Roam(pc, self.elsewhere(pc, how)),
            15 => Step::Cut(pc, if how & 128 == 0 { pc } else { other }),
            16 => Step::Mend(pc, if how & 128 == 0 { pc } else { other }),
            17 if how & 1 == 0 => Step::PlaneDown(0),
            17 => Step::PlaneUp(0),
            18 => Step::PlaneRepeats(0),
            19 => Step::Clock(pc, i64::from(how.cast_signed()) * 420_000),
            20 if how & 1 == 0 => Step::Full(pc),
            20 => Step::Free(pc),
            21 => Step::Garbage(pc, u32::from(how)),
            22 => Step::Replay(u32::from(how)),
            23 if who >= 230 => Step::Kick(pc),
            23 => Step::Start(pc),
            24 | 25 => Step::Flush(number % 10),
            26 | 27 => {
                let box_number = number % 10;
                let new = how & 1 != 0;
                Step::Reboot(box_number, new.then(|| plan::another_address(box_number, how)))
            }
            28 | 29 => Step::ServerDown(number % 2),
            _ => Step::ServerUp(number % 2),
        };
        (Duration::from_millis(millis), step)
    }

    /// Another network, or another address in this one.
    fn elsewhere(&self, pc: usize, how: u8) -> SimCard {
        let place = usize::from(how) % (GUEST_NETWORKS + 2);
        let segment = if place < GUEST_NETWORKS { self.pcs + place } else { self.home(pc) };
        let number = if place == GUEST_NETWORKS { 10 + pc } else { 60 + pc * 20 + usize::from(how) / 13 };
        self.card(segment, number)
    }
}

fn address(segment: usize, number: usize) -> IpAddr {
    let byte = |n: usize| u8::try_from(n).expect("few segments and few computers");
    IpAddr::V4(Ipv4Addr::new(198, 18, byte(segment), byte(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_story_and_cutting_them_keeps_its_beginning() {
        let bytes = Scenario::bytes_of(7);
        let whole = Scenario::decode(&bytes);
        for cut in 0..bytes.len() {
            let story = Scenario::decode(&bytes[..cut]);
            if cut >= STEP_BYTES.0 {
                assert_eq!(story.steps, whole.steps[..story.steps.len()]);
            }
            let world = story.world(Seed::from_u64(1), false);
            assert!(world.pcs.len() <= PCS && story.steps.len() <= STEP_BYTES.2);
        }
        assert_eq!(Scenario::decode(&[]).mood, Mood::Calm);
    }

    #[test]
    #[expect(clippy::wildcard_enum_match_arm, reason = "only steps that name computers matter")]
    fn every_step_names_computers_that_exist() {
        for seed in 0..200 {
            let story = Scenario::decode(&Scenario::bytes_of(seed));
            for (_, step) in &story.steps {
                let pcs: Vec<usize> = match step {
                    Step::Join(a, b) => vec![*a, b.0],
                    Step::Knock(a, b) | Step::Cut(a, b) | Step::Mend(a, b) => vec![*a, *b],
                    Step::On(p) | Step::Off(p) | Step::Ask(p) => vec![p.0],
                    Step::Start(a) | Step::Kill(a) | Step::Roam(a, _) | Step::Kick(a) => vec![*a],
                    _ => vec![],
                };
                assert!(pcs.iter().all(|p| *p < story.pcs), "{step:?}");
            }
        }
    }
}
