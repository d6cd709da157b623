//! A player's unicast packets while somebody floods the ports that a plugin looks at: 100,000 discovery packets a second.
//!
//! One node, driven as the data loop drives it, with the real virtual machine on a thread of its own. Packets come at given
//! moments, whether or not the node is done with the last one; what is measured is from that moment until the packet lies in
//! the game's room, so waiting behind the flood counts. Four rounds are compared: no flood, the same flood with rules whose
//! plugin is not there, a plugin at work, and one that keeps its core busy. What the flood brings is sealed beforehand.
//!
//! No criterion: its clock is for things that are done again and again, not for things that arrive.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a bench that is wrong about its own world should stop"
)]
#![allow(clippy::print_stdout, reason = "this is how a bench says what it found")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[path = "../tests/support/party.rs"]
mod support;

use lanrage::buf::batch::{Batch, Datagrams, Source};
use lanrage::engine::counters::Count;
use lanrage::engine::effect::{Effect, HostFact};
use lanrage::engine::tunnel::noise::Noise;
use lanrage::host::clock::HostClock;
use lanrage::host::scripts::{Keeper, Plugin};
use lanrage::model::addr::Via;
use lanrage::model::dice::Seed;
use lanrage::model::id::CardId;
use lanrage::model::script::ScriptReply;
use lanrage::model::time::Now;
use lanrage::plugin::code::Code;
use lanrage::plugin::manifest::check_manifest;
use lanrage::plugin::vm::Vm;
use lanrage::rules::check::check_text;
use lanrage::rules::compile::compile;
use lanrage::rules::ruleset::Ruleset;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Party, Wire, udp};
use tokio::sync::mpsc;

/// The flood, unless the first argument names another one.
const PER_SECOND: u64 = 100_000;
/// How long one round lasts.
const ROUND: Duration = Duration::from_millis(1000);
/// Between two packets of the player's game.
const RHYTHM: Duration = Duration::from_micros(500);
/// Rounds of each kind, unless the second argument says how many; they take turns.
const ROUNDS: usize = 7;
/// Rules of the plugin's game: each has its own pace, so that together they let nearly the whole flood come to the question.
const RULES: u16 = 60;

const MANIFEST: &str = r#"
id = "flooded"
name = "Flooded"
version = "1.0.0"
api = 1
about = "A bench"
licence = "MIT"
games = ["flooded"]
[may]
udp = "20000-20059"
rewrite = true
[limits]
calls_per_second = 20000
"#;

/// Looks and patches, as most plugins do.
const PATCHES: &str = "local plugin = {}\nfunction plugin.on_announcement(b, n, info)\n\
    if packet.u16be(b, 4) ~= 0x1204 then return nil end\npacket.set_u16be(b, 6, 7)\nreturn n\nend\nreturn plugin";
/// Wants to keep a core busy.
const HOSTILE: &str = "local plugin = {}\nfunction plugin.on_announcement(b, n, info)\n\
    local x = 0\nfor i = 1, 20000 do x += i end\nreturn nil\nend\nreturn plugin";

fn rules() -> Arc<Ruleset> {
    let mut text = String::from(
        "id = \"flooded\"\nname = \"Flooded\"\nplugin = \"flooded\"\nprocesses = [\"x\"]\nevidence = \"documented\"\n\
         [play]\nudp = 27960\n",
    );
    for n in 0..RULES {
        let _ = write!(
            text,
            "[[rule]]\nkind = \"announcement\"\nport = {}\npace = {{ per_second = 1000, burst = 1000 }}\nlists = false\n\
             ask = \"forward\"\n",
            20_000 + n
        );
    }
    let profile = check_text("flooded.toml", &text).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    Arc::new(compile(&[profile]).unwrap())
}

/// What reaches node 1: from the player (node 0), and from the attacker (node 2).
struct Arrivals {
    unicast: Vec<Vec<u8>>,
    flood: Vec<Vec<u8>>,
}

fn seal(party: &mut Party<Noise>, from: usize, source: Source, packet: &[u8], now: Now) -> Option<Vec<u8>> {
    let (mut batch, mut wire) = (Batch::default(), Wire::default());
    assert!(batch.next(source).is_some_and(|s| s.fill(packet)));
    let seat = &mut party.seats[from];
    seat.node.handle_lan(&mut batch, now, &mut wire, &mut seat.games);
    while seat.node.poll_effect().is_some() {}
    let to = party.seats[1].socket;
    let at = wire.sent[..wire.used].iter().position(|(address, bytes)| *address == to && bytes.len() > 60)?;
    Some(wire.sent.swap_remove(at).1)
}

fn arrivals(party: &mut Party<Noise>, per_second: u64) -> Arrivals {
    let now = party.now;
    let (from, to) = (format!("{}:27960", party.address(0)), format!("{}:27960", party.address(1)));
    let packet = udp(&from, &to, &[7; 120]);
    let count = ROUND.as_micros() / RHYTHM.as_micros();
    let unicast = (0..count).filter_map(|_| seal(party, 0, Source::Tun, &packet, now)).collect();
    let mut flood = Vec::new();
    let mut later = now;
    let wanted = usize::try_from(per_second).unwrap() * ROUND.as_millis() as usize / 1000;
    while flood.len() < wanted {
        // The attacker's own pace is not what is measured: its clock runs faster.
        later = later.plus(Duration::from_micros(17));
        let port = 20_000 + u16::try_from(flood.len() % usize::from(RULES)).unwrap();
        let text = [&[0, 1, 2, 3, 0x12, 4, 0, 0][..], &(flood.len() as u64).to_be_bytes(), &[9; 84]].concat();
        let packet = udp("198.51.3.1:40000", &format!("255.255.255.255:{port}"), &text);
        flood.extend(seal(party, 2, Source::Card(CardId(2)), &packet, later));
    }
    Arrivals { unicast, flood }
}

/// One node as the data loop has it.
struct Loop {
    party: Party<Noise>,
    plugin: Option<Plugin>,
    replies: mpsc::Receiver<ScriptReply>,
    back: Wire,
    origin: Instant,
    base: Now,
}

impl Loop {
    fn now(&self) -> Now {
        self.base.plus(self.origin.elapsed())
    }

    fn take(&mut self, from: usize, bytes: &mut [u8]) {
        let now = self.now();
        let socket = self.party.seats[from].socket;
        let seat = &mut self.party.seats[1];
        seat.games.used = 0;
        let stride = bytes.len();
        let datagrams = Datagrams { via: Via::Main, from: socket, bytes, stride };
        seat.node.handle_wan(datagrams, now, &mut self.back, &mut seat.games);
        self.drain();
    }

    fn drain(&mut self) {
        self.back.used = 0;
        let seat = &mut self.party.seats[1];
        while let Some(effect) = seat.node.poll_effect() {
            let Effect::Ask(call) = effect else { continue };
            let (id, ix) = (call.id, call.plugin);
            if let Some(Err(fault)) = self.plugin.as_ref().map(|plugin| plugin.ask(*call)) {
                let reply = ScriptReply { id, plugin: ix, answer: Err(fault) };
                let now = self.base.plus(self.origin.elapsed());
                seat.node.handle_reply(reply, now, &mut self.back, &mut seat.games);
            }
        }
    }

    /// What the loop does between packets: deadlines and answers.
    fn turn(&mut self) {
        let now = self.now();
        let seat = &mut self.party.seats[1];
        if seat.node.deadline().is_some_and(|d| d.at <= now.mono) {
            seat.node.handle_timeout(now, &mut self.back, &mut seat.games);
            self.drain();
        }
        for _ in 0..64 {
            let Ok(reply) = self.replies.try_recv() else { break };
            let (now, seat) = (self.now(), &mut self.party.seats[1]);
            seat.node.handle_reply(reply, now, &mut self.back, &mut seat.games);
            self.drain();
        }
        self.party.seats[1].games.used = 0;
    }

    /// Everything at its moment; how long each of the player's packets took.
    fn run(&mut self, mut arrivals: Arrivals, per_second: u64) -> Vec<Duration> {
        let step = Duration::from_nanos(1_000_000_000 / per_second.max(1));
        let mut took = Vec::with_capacity(arrivals.unicast.len());
        let (mut next, mut flood) = (0u32, 0u32);
        self.origin = Instant::now();
        while (next as usize) < arrivals.unicast.len() {
            let (game, other) = (RHYTHM * next, step * flood);
            let is_flood = other < game && (flood as usize) < arrivals.flood.len();
            let due = if is_flood { other } else { game };
            self.turn();
            while self.origin.elapsed() < due {
                std::hint::spin_loop();
            }
            if is_flood {
                self.take(2, &mut arrivals.flood[flood as usize]);
                flood += 1;
            } else {
                self.take(0, &mut arrivals.unicast[next as usize]);
                took.push(self.origin.elapsed().saturating_sub(due));
                next += 1;
            }
        }
        took
    }
}

fn round(kind: &str, per_second: u64) -> (Vec<Duration>, u64) {
    let rules = rules();
    let manifest = check_manifest("plugin.toml", MANIFEST).unwrap();
    let main = if kind == "hostile plugin" { HOSTILE } else { PATCHES };
    let code = Code { manifest, files: [("main.luau".to_owned(), main.to_owned())].into() };
    let (sender, replies) = mpsc::channel(256);
    let keeper = Keeper::new(HostClock::new(), sender).unwrap();
    let mut party = Party::<Noise>::scripted(3, &rules, &[]);
    party.run(Duration::from_secs(3));
    let arrivals = arrivals(&mut party, if kind == "no flood" { 0 } else { per_second });
    let asks = kind.ends_with("plugin");
    let plugin = asks.then(|| {
        let load = move |stop| Vm::load(&code, Seed::from_u64(1), stop).map(|vm| (vm.facts(), vm));
        keeper.start(&"flooded".into(), load).unwrap_or_else(|wrong| panic!("{wrong:?}"))
    });
    let facts = plugin.as_ref().map(|plugin| plugin.facts.clone());
    let now = party.now;
    party.seats[1].node.handle_fact(HostFact::Plugins([facts].into()), now);
    let mut it = Loop { base: now, party, plugin, replies, back: Wire::default(), origin: Instant::now() };
    it.drain();
    let took = it.run(arrivals, per_second);
    let calls = it.party.seats[1].node.counters().count(Count::PluginCalls);
    (took, calls)
}

fn main() {
    // `cargo bench` hands on `--bench`.
    let mut numbers = std::env::args().filter_map(|word| word.parse::<u64>().ok());
    let per_second = numbers.next().unwrap_or(PER_SECOND);
    let rounds = numbers.next().map_or(ROUNDS, |n| usize::try_from(n).unwrap().max(1));
    let kinds = ["no flood", "no questions", "a plugin", "hostile plugin"];
    let mut all: Vec<(Vec<Duration>, Vec<Duration>, u64)> = vec![Default::default(); kinds.len()];
    for _ in 0..rounds {
        for (kind, (p50, p99, calls)) in kinds.iter().zip(&mut all) {
            let (mut took, asked) = round(kind, per_second);
            took.sort_unstable();
            p50.push(took[took.len() / 2]);
            p99.push(took[took.len() * 99 / 100]);
            *calls += asked;
        }
    }
    println!(
        "unicast, from arrival to the game's room; {per_second} a second, medians of {rounds} rounds (least of all)"
    );
    for (kind, (mut p50, mut p99, calls)) in kinds.iter().zip(all) {
        p50.sort_unstable();
        p99.sort_unstable();
        let middle = rounds / 2;
        let calls = calls / rounds as u64;
        println!(
            "{kind:<16} p50 {:>9.1?} ({:>9.1?})   p99 {:>9.1?} ({:>9.1?})   {calls} questions a round",
            p50[middle], p50[0], p99[middle], p99[0]
        );
    }
}
