//! The party's list of games, told by hand: who sees what, since when, and until when.

use crate::support::*;
use lanrage::engine::counters::{Count, DropReason};
use lanrage::model::status::{Event, GameStatus};
use lanrage::sim::fault::Step;
use lanrage::sim::world::World;
use std::time::Duration;

/// The OpenArena server of the first computer.
const SERVER: usize = 2;
const RHYTHM: Duration = Duration::from_millis(1500);

fn count(world: &World, pc: usize, what: Count) -> u64 {
    world.pcs[pc].run.as_ref().unwrap().node.counters().count(what)
}

fn dropped(world: &World, pc: usize, why: DropReason) -> u64 {
    world.pcs[pc].run.as_ref().unwrap().node.counters().dropped(why)
}

/// The list on a computer, of one game.
fn list(world: &World, pc: usize, game: &str) -> Vec<GameStatus> {
    let run = world.pcs[pc].run.as_ref().unwrap();
    let status = run.node.status(world.pcs[pc].now(world.now));
    status.games.into_iter().filter(|g| g.game.0 == game).collect()
}

fn has(world: &World, pc: usize, game: &str) -> bool {
    !list(world, pc, game).is_empty()
}

/// Runs until something is so, for at most so long; how long it took.
fn until(world: &mut World, most: Duration, so: impl Fn(&World) -> bool) -> Option<Duration> {
    let start = world.now;
    while !so(world) {
        if world.now.since(start) >= most {
            return None;
        }
        world.run_for(Duration::from_millis(10));
    }
    Some(world.now.since(start))
}

/// All between the homes is lost with this chance in a thousand from now on, and nothing is promised.
fn lossy(world: &mut World, loss: u32) {
    world.chaos.fair = false;
    world.chaos.rough = true;
    world.net.wan.loss = loss;
}

/// The moments at which a list in a game's menu heard anything, its node's own repeats included.
fn heard_at(world: &World, pc: usize, since: Duration) -> Vec<Duration> {
    let mut all: Vec<_> = world.oracle.copies_since((pc, LIST), since).map(|c| c.at.0).collect();
    all.sort();
    all
}

#[test]
fn an_entry_tells_what_the_game_says_of_itself_and_how_far_away_it_is() {
    let mut world = party(&[0, 1]);
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(10));
    let games = list(&world, 1, "minecraft-java");
    assert_eq!(games.len(), 1);
    assert!(games[0].title.starts_with("World "), "{games:?}");
    assert_eq!(games[0].address, (world.pcs[0].virtual_address().unwrap(), 25_565).into());
    assert!((60.0..120.0).contains(&games[0].rtt_ms.unwrap()), "{games:?}");
    assert!((9.0..10.1).contains(&games[0].since), "{games:?}");
    let found: Vec<_> = told(&world, 1, seconds(0))
        .into_iter()
        .filter_map(|e| if let Event::GameFound { changed, .. } = e { Some(*changed) } else { None })
        .collect();
    assert!(!found[0] && found[1..].iter().all(|changed| *changed) && found.len() > 3, "{found:?}");
    assert_eq!(count(&world, 1, Count::Repeated), 0, "nothing was late");
    must_end_well(&mut world);
}

#[test]
fn a_client_hears_an_announcement_every_rhythm_though_every_third_packet_is_lost() {
    for homes in [[0, 1, 2], [1, 4, 5], [2, 6, 7], [3, 5, 1]] {
        let mut world = party(&homes);
        start(&mut world);
        open_world(&mut world, 0);
        world.run_for(seconds(10));
        lossy(&mut world, 300);
        let since = world.now.0;
        world.run_for(seconds(120));
        for pc in [1, 2] {
            let heard = heard_at(&world, pc, since);
            let longest = heard.windows(2).map(|w| w[1] - w[0]).max().unwrap();
            assert!(longest <= RHYTHM * 3 / 2 + Duration::from_millis(10), "{homes:?} pc{pc}: {longest:?}");
            let again = world.oracle.heard_again_by((pc, LIST));
            assert!((8..60).contains(&again), "{homes:?} pc{pc}: {again} of {}", heard.len());
            let lost = told(&world, pc, since).iter().filter(|e| matches!(e, Event::GameLost { .. })).count();
            assert_eq!(lost, 0, "{homes:?} pc{pc}: it never left the list");
        }
        must_hold(&world);
    }
}

#[test]
fn a_client_that_starts_while_announcements_are_lost_sees_the_game_within_a_rhythm() {
    let mut world = party(&[0, 1]);
    world.pcs[1].programs[LIST].1 = false;
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(6));
    lossy(&mut world, 1000);
    world.run_for(seconds(4));
    world.apply(Step::On((1, LIST)));
    let since = world.now.0;
    world.run_for(RHYTHM);
    assert_eq!(heard_at(&world, 1, since).len(), 1);
    assert_eq!(world.oracle.heard_again_by((1, LIST)), 1);
    // With nothing coming at all it ends.
    world.run_for(seconds(20));
    let after = world.oracle.heard_again_by((1, LIST));
    world.run_for(seconds(20));
    assert_eq!(world.oracle.heard_again_by((1, LIST)), after);
    must_hold(&world);
}

#[test]
fn a_game_that_falls_silent_leaves_all_lists_together_long_before_its_life_ends() {
    for (homes, loss) in [([0, 1, 2], 0), ([0, 1, 2], 300), ([1, 4, 5], 300), ([2, 6, 7], 300)] {
        let mut world = party(&homes);
        start(&mut world);
        open_world(&mut world, 0);
        world.run_for(seconds(10));
        if loss > 0 {
            lossy(&mut world, loss);
        }
        world.apply(Step::Off((0, WORLD)));
        // Its own node needs three rhythms to be sure; then it is a matter of one way.
        let silence = RHYTHM * 3;
        let gone = |w: &World| !has(w, 1, "minecraft-java") && !has(w, 2, "minecraft-java");
        let took = until(&mut world, seconds(8), gone).expect("gone");
        assert!(took <= silence + seconds(1), "{homes:?}: {took:?}");
        let since = world.now.0;
        for pc in [1, 2] {
            let why = told(&world, pc, seconds(0)).into_iter().rev().find_map(|e| match e {
                Event::GameLost { why, .. } => Some(why.clone()),
                _ => None,
            });
            assert_eq!(why.as_deref(), Some("the game was closed"));
        }
        world.run_for(seconds(10));
        for pc in [1, 2] {
            assert!(heard_at(&world, pc, since).is_empty(), "what was withdrawn is not said again");
            assert!(!has(&world, pc, "minecraft-java"));
        }
        must_hold(&world);
    }
}

#[test]
fn who_comes_late_sees_a_game_that_only_answers_without_asking() {
    for (homes, loss) in [([0, 1, 2], 0), ([0, 1, 2], 200), ([1, 4, 5], 200), ([2, 6, 7], 200)] {
        let mut world = party(&homes);
        world.apply(Step::Start(0));
        world.apply(Step::Start(1));
        world.run_for(seconds(4));
        world.apply(Step::Ask((1, CLIENT)));
        world.run_for(seconds(20));
        assert!(has(&world, 1, "openarena"), "who asked has it");
        if loss > 0 {
            lossy(&mut world, loss);
        }
        world.apply(Step::Start(2));
        let pc0 = world.pcs[0].id;
        let joined =
            until(&mut world, seconds(20), |w| w.pcs[2].run.as_ref().unwrap().paths.contains_key(&pc0));
        joined.expect("a path");
        let took = until(&mut world, seconds(3), |w| has(w, 2, "openarena")).expect("in the list");
        assert!(took <= seconds(2), "{homes:?}: {took:?}");
        let games = list(&world, 2, "openarena");
        assert_eq!((games.len(), games[0].title.as_str()), (1, "Sim"));
        assert_eq!(games[0].address, (world.pcs[0].virtual_address().unwrap(), 27_960).into());
        assert_eq!(world.oracle.heard_by((2, CLIENT)), 0, "no packet is made for it");
        must_hold(&world);
    }
}

#[test]
fn everybody_sees_a_server_that_one_has_asked_and_loses_it_when_it_answers_nobody_any_more() {
    let mut world = party(&[0, 1, 2]);
    start(&mut world);
    world.apply(Step::Ask((1, CLIENT)));
    world.run_for(seconds(1));
    assert!(has(&world, 1, "openarena") && has(&world, 2, "openarena"));
    // Somebody keeps asking, so it stays for the third, who never asked.
    for _ in 0..10 {
        world.run_for(seconds(12));
        world.apply(Step::Ask((1, CLIENT)));
    }
    assert!(has(&world, 2, "openarena"));
    assert_eq!(world.oracle.heard_by((2, CLIENT)), 0);
    world.apply(Step::Off((0, SERVER)));
    let gone = |w: &World| !has(w, 1, "openarena") && !has(w, 2, "openarena");
    let took = until(&mut world, seconds(70), gone);
    assert!(took.is_some(), "{:?}", list(&world, 2, "openarena"));
    must_end_well(&mut world);
}

#[test]
fn a_neighbour_on_the_same_lan_is_in_the_list_too_and_nothing_is_said_twice_for_it() {
    let mut world = party(&[0, 0]);
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(30));
    assert!(has(&world, 1, "minecraft-java"));
    assert_eq!(count(&world, 1, Count::Repeated), 0);
    must_end_well(&mut world);
}

#[test]
fn who_plays_something_else_is_told_nothing() {
    let mut world = party(&[0, 1, 2]);
    world.pcs[1].titles = vec![lanrage::sim::game::Title::OpenArena];
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(5));
    assert!(!has(&world, 1, "minecraft-java") && has(&world, 2, "minecraft-java"));
    must_end_well(&mut world);
}

#[test]
fn a_liar_can_neither_withdraw_nor_name_the_games_of_others_and_fills_nobodys_list() {
    let mut world = party(&[0, 1, 2]);
    start(&mut world);
    open_world(&mut world, 0);
    world.run_for(seconds(5));
    meanwhile(&mut world, &[Step::Kill(2)]);
    world.apply(Step::Turn(2));
    let since = world.now.0;
    world.run_for(seconds(120));
    let honest = world.pcs[0].id;
    let liar = world.pcs[2].id;
    let games = list(&world, 1, "minecraft-java");
    assert_eq!(games.iter().filter(|g| g.peer == honest).count(), 1, "{games:?}");
    assert!(games.iter().filter(|g| g.peer == liar).count() <= 32, "{}", games.len());
    assert!(games.iter().any(|g| g.peer == liar), "it can name its own: the lies arrive");
    let address = |g: &GameStatus| g.address.ip();
    let own = world.pcs[0].virtual_address().unwrap();
    assert!(games.iter().all(|g| (g.peer == honest) == (address(g) == own)), "{games:?}");
    assert!(games.iter().all(|g| g.title.chars().count() <= 80 && !g.title.contains('\u{1b}')));
    let lost = |e: &&&Event| matches!(e, Event::GameLost { peer, .. } if *peer == honest);
    assert_eq!(told(&world, 1, since).iter().filter(lost).count(), 0, "the honest game stays");
    assert!(games.iter().all(|g| g.address.port() >= 1024), "{games:?}");
    assert!(dropped(&world, 1, DropReason::BadRecord) > 0 && dropped(&world, 1, DropReason::Pace) > 0);
    let events = told(&world, 1, since).len();
    assert!(events < 2500, "{events} events in two minutes");
    must_end_well(&mut world);
}
