//! Broken packets for every hook: samples with bytes changed, cut, repeated, and packets of dice. A hook may say what it
//! likes to them, but it may not fail: a fault in a party puts the plugin to sleep.
//!
//! The first fault of each place in the code is made as small as it gets and becomes a sample, which stays red until the
//! plugin is mended.

use super::bench::{Bench, Cost, Stopwatch, fault_text, shown_packet};
use super::journey::{SENDER, Traveller, kind_hook};
use super::{Folder, shown};
use crate::model::dice::{Dice, Seed};
use crate::model::script::{Ask, Hook, ScriptFault, ScriptPeer};
use crate::rules::ruleset::{RuleKind, Ruleset, Side};
use crate::wire::frame::Class;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Faults that are told; whoever has more has enough to do.
const FAULTS: usize = 16;
/// Tries that making one fault smaller may take.
const SMALLER: usize = 2_000;
/// Calls between which nothing is remembered.
const FORGET: u64 = 64;
/// The longest packet of dice.
const LONGEST: u32 = 1_400;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fuzzed {
    /// What calls cost, per hook.
    pub costs: BTreeMap<Hook, Cost>,
    /// What was found.
    pub found: Vec<Found>,
}

/// A packet at which the plugin fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which hook.
    pub hook: Hook,
    /// What was said.
    pub message: String,
    /// The smallest packet that was found to do it.
    pub payload: Vec<u8>,
    /// It as a block of a samples file.
    pub block: String,
}

/// A packet and which hook it is for.
#[derive(Debug, Clone)]
struct Throw {
    hook: Hook,
    class: Class,
    from: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
}

pub(super) fn run(
    folder: &Folder,
    watch: Stopwatch,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Fuzzed, ScriptFault> {
    let mut bench = Bench::new(&folder.code, watch, false)?;
    bench.join(SENDER).transpose()?;
    let seeds = seeds(folder, &bench);
    let mut dice = Seed::from_u64(7).dice("fuzz");
    let mut fuzzed = Fuzzed::default();
    let mut rounds = 0_u64;
    while !seeds.is_empty() && go_on() && fuzzed.found.len() < FAULTS {
        rounds += 1;
        let Some(seed) = pick(&mut dice, &seeds) else { break };
        let throw = Throw { payload: broken(&mut dice, &seed.payload), ..seed.clone() };
        if kind(&folder.rules, &throw).is_some()
            && let Some(message) = fault(&mut bench, &throw)
        {
            bench.reload()?;
            let known = |found: &Found| place(&found.message) == place(&message);
            if !fuzzed.found.iter().any(known) {
                let throw = smaller(&folder.rules, &mut bench, throw, &message)?;
                fuzzed.found.push(found(&folder.rules, &throw, message));
            }
        }
        if dice.chance(20) {
            bench.skip(Duration::from_millis(u64::from(dice.below(3_000))));
            if bench.ask(Ask::Tick, "tick").is_err() {
                bench.reload()?;
            }
        }
        if rounds.is_multiple_of(FORGET) {
            bench.forget();
        }
    }
    fuzzed.costs = std::mem::take(&mut bench.costs);
    Ok(fuzzed)
}

/// Each hook with each sample that it is shown in a party.
fn seeds(folder: &Folder, bench: &Bench) -> Vec<Throw> {
    let mut out = Vec::new();
    for sample in folder.all_samples() {
        for hook in [Hook::Announcement, Hook::Query, Hook::Answer, Hook::Describe] {
            let (class, from, to) = (sample.class, sample.from, sample.to);
            let throw = Throw { hook, class, from, to, payload: sample.payload.clone() };
            if bench.facts().hooks.has(hook) && kind(&folder.rules, &throw).is_some() {
                out.push(throw);
            }
        }
    }
    out
}

/// What the rules see in a packet that they would show to its hook; `None` when they would not: then a fault is none.
fn kind(rules: &Ruleset, throw: &Throw) -> Option<RuleKind> {
    let packet = traveller(throw);
    let shown = |side| {
        let facts = rules.facts(super::journey::rule(rules, &packet, side)?)?;
        let asked = facts.ask.is_some_and(|ask| ask.side.is_none_or(|only| only == side));
        let is = if throw.hook == Hook::Describe {
            facts.lists
        } else {
            asked && kind_hook(facts.kind) == Some(throw.hook)
        };
        is.then_some(facts.kind)
    };
    shown(Side::FromPeer).or_else(|| shown(Side::FromGame))
}

fn traveller(throw: &Throw) -> Traveller<'_> {
    let (class, from, to) = (throw.class, throw.from, throw.to);
    Traveller { name: "a broken packet", class, from, to, ttl: 64, payload: &throw.payload }
}

fn pick<'t>(dice: &mut Dice, seeds: &'t [Throw]) -> Option<&'t Throw> {
    let count = u32::try_from(seeds.len()).ok()?;
    seeds.get(usize::try_from(dice.below(count)).ok()?)
}

/// A payload that is no longer what it was.
fn broken(dice: &mut Dice, payload: &[u8]) -> Vec<u8> {
    let mut out = payload.to_vec();
    for _ in 0..=dice.below(4) {
        let at = below(dice, out.len());
        match dice.below(8) {
            0 => out.truncate(at),
            1 => out.extend(std::iter::repeat_n(odd(dice), below(dice, 64))),
            2 => drop(out.drain(..at)),
            3 => {
                let piece = out.get(at..).unwrap_or_default().to_vec();
                out.extend(piece);
            }
            4 => out = random(dice),
            5 => {
                let from = below(dice, out.len());
                drop(out.drain(from.min(at)..from.max(at)));
            }
            6 => out.insert(at, odd(dice)),
            _ => {
                if let Some(byte) = out.get_mut(at) {
                    *byte = odd(dice);
                }
            }
        }
        out.truncate(usize::try_from(LONGEST).unwrap_or(usize::MAX));
    }
    out
}

fn below(dice: &mut Dice, n: usize) -> usize {
    let n = u32::try_from(n).unwrap_or(u32::MAX).max(1);
    usize::try_from(dice.below(n)).unwrap_or(0)
}

fn random(dice: &mut Dice) -> Vec<u8> {
    (0..dice.below(LONGEST)).map(|_| odd(dice)).collect()
}

/// A byte; those that formats stumble over come more often.
fn odd(dice: &mut Dice) -> u8 {
    const ODD: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'\\', b'[', b' '];
    let [any, which] = dice.bytes();
    if dice.chance(500) { any } else { ODD.get(usize::from(which % 8)).copied().unwrap_or(any) }
}

fn fault(bench: &mut Bench, throw: &Throw) -> Option<String> {
    let game = bench.game();
    let peer: Option<ScriptPeer> = bench.peer(SENDER).cloned();
    let packet = shown_packet(&game, peer.as_ref(), throw.from.port(), throw.to, throw.payload.clone());
    // Errors far apart are errors one by one; three in ten seconds would be told as something else.
    bench.skip(Duration::from_secs(11));
    bench.packet(throw.hook, packet, "a broken packet").err().map(|fault| fault_text(&fault))
}

/// `plugin `x`: main.luau:12: what` says where; the same place with other numbers in it is the same fault.
fn place(message: &str) -> &str {
    message.split(": ").nth(1).unwrap_or(message)
}

/// Cuts as long as the same place fails and the rules still show the packet.
fn smaller(
    rules: &Ruleset,
    bench: &mut Bench,
    mut throw: Throw,
    message: &str,
) -> Result<Throw, ScriptFault> {
    let mut tries = 0;
    let mut piece = throw.payload.len();
    while piece > 0 {
        let mut at = 0;
        while at < throw.payload.len() && tries < SMALLER {
            tries += 1;
            let mut tried = throw.clone();
            drop(tried.payload.drain(at..(at + piece).min(throw.payload.len())));
            let told = if kind(rules, &tried).is_some() { fault(bench, &tried) } else { None };
            if told.is_some() {
                bench.reload()?;
            }
            if told.is_some_and(|told| place(&told) == place(message)) {
                throw = tried;
            } else {
                at += piece;
            }
        }
        bench.forget();
        piece /= 2;
    }
    Ok(throw)
}

fn found(rules: &Ruleset, throw: &Throw, message: String) -> Found {
    let class = match throw.class {
        Class::Limited => "limited",
        Class::Directed => "directed",
        Class::Multicast => "multicast",
        Class::Unicast => "unicast",
    };
    let mut block = format!("\n# {message}\n[a broken packet for {}]\n", throw.hook.name());
    for (key, value) in [
        ("origin", "made".to_owned()),
        ("class", class.to_owned()),
        ("from", throw.from.to_string()),
        ("to", throw.to.to_string()),
        ("ttl", "64".to_owned()),
        ("hex", shown::hex(&throw.payload)),
        ("expect", super::outcome::kind_word(kind(rules, throw)).to_owned()),
    ] {
        for line in super::blocks::entry(key, &value) {
            let _ = writeln!(block, "{line}");
        }
    }
    Found { hook: throw.hook, message, payload: throw.payload.clone(), block }
}
