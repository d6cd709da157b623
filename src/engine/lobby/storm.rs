//! Anything in any order: after each step the lobby's books have to balance.

use super::table::{HERE, Player, World};
use super::*;
use crate::model::dice::Dice;

const STEPS: u32 = 6000;

#[test]
fn no_order_of_messages_upsets_the_books() {
    let knobs = Knobs { parties: 3, peers: 3, ..Knobs::default() };
    let mut world = World::with(knobs);
    let mut dice = Seed::from_u64(5).dice("storm");
    let players: Vec<Player> = (1..=4).flat_map(|o| (0..4).map(move |n| player(o, n))).collect();
    let mut open: Vec<(ConnId, [u8; 32], Player)> = Vec::new();
    let mut most = 0;
    for _ in 0..STEPS {
        step(&mut world, &mut dice, &players, &mut open);
        balance(&world.lobby);
        most = most.max(world.lobby.online.len());
    }
    let numbers: BTreeMap<_, _> = world.lobby.numbers().into_iter().collect();
    for happened in [
        "admitted_total",
        "founded_total",
        "published_total",
        "rotated_total",
        "signals_total",
        "expired_total",
        "flooded_total",
        "refused_party_full_total",
        "refused_old_epoch_total",
        "refused_not_a_member_total",
        "refused_bad_signature_total",
        "refused_too_fast_total",
    ] {
        assert!(numbers[happened] > 0, "{happened} never happened: the storm is too mild: {numbers:?}");
    }
    assert!(most >= 4, "{most}");
}

fn player(owner: u8, n: u8) -> Player {
    let player = Player::of_party(owner * 10 + n, owner * 10);
    if n == 0 { Player { slot: Some(0), ..player } } else { player }
}

fn step(world: &mut World, dice: &mut Dice, players: &[Player], open: &mut Vec<(ConnId, [u8; 32], Player)>) {
    let pick = |dice: &mut Dice, n: usize| dice.below(u32::try_from(n).unwrap()) as usize;
    open.retain(|(conn, _, _)| !world.is_closed(*conn));
    if open.is_empty() || dice.chance(150) {
        let conn = world.open();
        if let Some(Down::Opened { nonce, .. }) = world.heard[&conn].first() {
            let who = players[pick(dice, players.len())].at(u32::from(dice.chance(300)));
            open.push((conn, nonce.0, who));
        }
        return;
    }
    let at = pick(dice, open.len());
    let (conn, nonce, who) = open[at].clone();
    let other = &players[pick(dice, players.len())];
    match dice.below(24) {
        0..=9 => {
            let audience = if dice.chance(50) { "elsewhere" } else { HERE };
            world.up(conn, Up::Hello(who.hello(&nonce, audience)));
        }
        10..=14 => world.publish(conn, &who, dice.u64() % 50),
        15 => world.publish(conn, other, 3),
        16 => world.up(conn, Up::Beat),
        17 => world.up(conn, Up::Signal { to: other.keys.id(), sealed: Blob(vec![1; 40]) }),
        18 if dice.chance(200) => world.up(conn, Up::Leave),
        19 if who.slot.is_some() => {
            let rotation = who.rotate(who.epoch + dice.below(2), &[other]);
            world.up(conn, Up::Rotate { rotation });
        }
        20 if dice.chance(100) => (0..120).for_each(|_| world.up(conn, Up::Beat)),
        21 => world.pass(u64::from(dice.below(20))),
        22 if dice.chance(40) => world.pass(u64::from(dice.below(900))),
        23 => {
            world.lobby.handle_close(conn);
            open.swap_remove(at);
        }
        _ if dice.chance(60) => world.lobby.handle_garbage(conn),
        _ => {}
    }
    world.drain();
}

fn balance(lobby: &Lobby) {
    assert_eq!(lobby.bytes, lobby.parties.values().map(|held| held.party.bytes()).sum::<usize>());
    assert!(lobby.parties.len() <= lobby.knobs.parties);
    for ((party, peer), conn) in &lobby.online {
        let member = lobby.conns[conn].member.unwrap();
        assert_eq!((member.party, member.peer), (*party, *peer));
        assert!(lobby.parties[party].party.peers().contains_key(peer), "online and not listed");
        assert!(!lobby.strangers.contains_key(conn));
    }
    for (conn, state) in &lobby.conns {
        if let Some(member) = state.member {
            assert_eq!(lobby.online.get(&(member.party, member.peer)), Some(conn), "a member without a seat");
        }
    }
    assert!(lobby.strangers.keys().all(|conn| lobby.conns.contains_key(conn)));
    assert!(lobby.parties.values().all(|held| held.party.peers().len() <= 2 * lobby.knobs.peers));
}
