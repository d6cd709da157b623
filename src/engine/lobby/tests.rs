//! The lobby against players that are honest, late, greedy or hostile.
#![allow(clippy::wildcard_enum_match_arm, reason = "tests look for one message among many")]

use super::table::{HERE, Player, World};
use super::*;
use crate::model::key::PartySecret;
use crate::model::limits;
use crate::model::relay::{RelayOffer, RelayWay};
use crate::wire::control::VERSION;

#[test]
fn the_owner_founds_and_a_friend_sees_the_owner_and_is_seen() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let a = world.join(&ana);
    world.publish(a, &ana, 1);
    let b = world.join(&bob);
    assert!(matches!(world.last(b), Down::Welcome { epoch: 0, rotation: None, peers } if peers.len() == 1));
    world.publish(b, &bob, 7);
    let envelope = bob.envelope(7);
    assert_eq!(*world.last(a), Down::Record { envelope });
    assert_ne!(*world.last(b), *world.last(a), "nobody is told their own news");
}

#[test]
fn strangers_learn_nothing() {
    let mut world = World::new();
    let ana = Player::owner(1);
    let a = world.join(&ana);
    world.publish(a, &ana, 1);
    let outsider = Player { secret: PartySecret([99; 16]), ..Player::friend(3) };
    assert_eq!(world.knock(&outsider), Err(Refusal::NotAMember));
    let thief = Player { slot: Some(0), secret: PartySecret([99; 16]), ..Player::friend(3) };
    assert_eq!(world.knock(&thief), Err(Refusal::BadMessage), "not the owner of that name");
    assert_eq!(World::new().knock(&thief), Err(Refusal::BadMessage), "nor where it is unknown");
    assert_eq!(World::new().knock(&Player::friend(2)), Err(Refusal::UnknownParty));
    let quiet = world.open();
    world.up(quiet, Up::Beat);
    assert_eq!(world.refused(quiet), Some(Refusal::BadMessage));
    assert!(world.is_closed(quiet));
}

#[test]
fn a_hello_counts_once_here_and_now() {
    let mut world = World::new();
    let ana = Player::owner(1);
    world.join(&ana);
    let bob = Player::friend(2);
    let (conn, nonce) = world.challenge();
    let heard = bob.hello(&nonce, HERE);
    world.up(conn, Up::Hello(heard.clone()));
    assert!(matches!(world.last(conn), Down::Welcome { .. }));
    let (again, _) = world.challenge();
    world.up(again, Up::Hello(heard));
    assert_eq!(world.refused(again), Some(Refusal::BadSignature), "replayed");
    let (stolen, nonce) = world.challenge();
    world.up(stolen, Up::Hello(bob.hello(&nonce, "evil.example:8667")));
    assert_eq!(world.refused(stolen), Some(Refusal::BadSignature), "made for another server");
    let (late, nonce) = world.challenge();
    world.up(late, Up::Hello(Hello { version: VERSION + 1, ..bob.hello(&nonce, HERE) }));
    assert_eq!(world.refused(late), Some(Refusal::Version));
    let (borrowed, nonce) = world.challenge();
    let hello = Hello { key: Player::friend(3).keys.key(), ..bob.hello(&nonce, HERE) };
    world.up(borrowed, Up::Hello(hello));
    assert_eq!(world.refused(borrowed), Some(Refusal::BadSignature), "another's key");
}

#[test]
fn a_record_is_its_own_peers_and_newer() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let (a, b) = (world.join(&ana), world.join(&bob));
    world.publish(b, &bob, 5);
    world.heard.clear();
    world.publish(b, &bob, 5);
    assert_eq!(world.refused(b), None, "a repeat is harmless");
    world.publish(b, &bob, 4);
    assert_eq!(world.refused(b), Some(Refusal::BadMessage));
    world.up(b, Up::Publish { envelope: ana.envelope(9) });
    assert_eq!(world.refused(b), Some(Refusal::BadMessage));
    let forged = Envelope { seq: 6, ..bob.envelope(5) };
    world.up(b, Up::Publish { envelope: forged });
    assert_eq!(world.refused(b), Some(Refusal::BadSignature));
    let large = Envelope { sealed: Blob(vec![0; limits::RECORD_BYTES + 1]), ..bob.envelope(6) };
    world.up(b, Up::Publish { envelope: large });
    assert_eq!(world.refused(b), Some(Refusal::BadMessage));
    assert!(world.heard.get(&a).is_none_or(Vec::is_empty), "none of it reached others");
    assert!(!world.is_closed(b));
}

#[test]
fn a_kick_removes_those_without_a_grant_for_good() {
    let mut world = World::new();
    let (ana, bob, eve) = (Player::owner(1), Player::friend(2), Player::friend(3));
    let (a, b, e) = (world.join(&ana), world.join(&bob), world.join(&eve));
    world.publish(b, &bob, 1);
    world.publish(e, &eve, 1);
    let rotation = ana.rotate(1, &[&bob]);
    world.up(e, Up::Rotate { rotation: Rotation { epoch: 2, ..rotation.clone() } });
    assert_eq!(world.refused(e), Some(Refusal::BadSignature), "made by somebody else");
    world.up(a, Up::Rotate { rotation: rotation.clone() });
    assert!(world.is_closed(e) && !world.is_closed(b));
    assert_eq!(*world.last(e), Down::Rotated { rotation: rotation.clone() }, "told before it is closed");
    assert_eq!(*world.last(b), Down::Gone { peer: eve.keys.id(), left: true });
    assert_eq!(world.knock(&eve), Err(Refusal::OldEpoch));
    assert_eq!(world.knock(&Player { epoch: 1, ..Player::friend(3) }), Err(Refusal::NotAMember));
    world.publish(b, &bob, 2);
    assert_eq!(world.refused(b), Some(Refusal::OldEpoch), "a record sealed with the old key helps nobody");
    let bob = bob.at(1);
    world.publish(b, &bob, 3);
    let b2 = world.join(&bob);
    assert!(world.is_closed(b), "the newest connection of a peer wins");
    assert!(
        matches!(world.last(b2), Down::Welcome { epoch: 1, rotation: Some(r), peers } if *r == rotation && peers.len() == 1)
    );
}

#[test]
fn who_was_away_during_a_kick_gets_the_rotation_and_strangers_do_not() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let a = world.join(&ana);
    let rotation = ana.rotate(1, &[&bob]);
    world.up(a, Up::Rotate { rotation: rotation.clone() });
    let (conn, nonce) = world.challenge();
    world.up(conn, Up::Hello(bob.hello(&nonce, HERE)));
    assert_eq!(world.heard[&conn][1], Down::Rotated { rotation }, "before the refusal");
    assert_eq!(world.refused(conn), Some(Refusal::OldEpoch));
    let stranger = Player { secret: PartySecret([99; 16]), ..Player::friend(4) };
    assert_eq!(world.knock(&stranger), Err(Refusal::NotAMember));
    assert_eq!(world.knock(&bob.at(2)), Err(Refusal::UnknownParty), "of a future not heard of here");
}

#[test]
fn an_owner_may_bring_a_newer_epoch_and_everybody_knocks_again() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let (_, b) = (world.join(&ana), world.join(&bob));
    let a = world.join(&ana.at(3));
    assert!(world.is_closed(b));
    assert!(matches!(world.last(a), Down::Welcome { epoch: 3, rotation: None, .. }));
    world.up(a, Up::Rotate { rotation: ana.rotate(3, &[&bob]) });
    world.join(&bob.at(3));
    assert_eq!(world.knock(&ana.at(2)), Err(Refusal::OldEpoch), "no way back, not even for the owner");
}

#[test]
fn the_silent_stay_listed_for_five_minutes_and_the_party_for_a_month() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let (a, b) = (world.join(&ana), world.join(&bob));
    world.publish(b, &bob, 1);
    world.lobby.handle_close(b);
    for _ in 0..9 {
        world.pass(30);
        world.up(a, Up::Beat);
    }
    assert!(!world.heard[&a].iter().any(|d| matches!(d, Down::Gone { .. })), "4.5 minutes");
    world.pass(90);
    world.up(a, Up::Beat);
    assert_eq!(*world.last(a), Down::Gone { peer: bob.keys.id(), left: false });
    world.pass(400);
    assert!(world.is_closed(a), "silent, though connected");
    world.pass(29 * 24 * 3600);
    assert!(world.lobby.party(ana.party()).is_some());
    world.join(&bob);
    world.pass(31 * 24 * 3600);
    assert!(world.lobby.party(ana.party()).is_none());
    assert_eq!(world.forgotten, vec![ana.party()]);
}

#[test]
fn a_goodbye_is_told_at_once() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let (a, b) = (world.join(&ana), world.join(&bob));
    world.up(b, Up::Leave);
    assert_eq!(*world.last(a), Down::Gone { peer: bob.keys.id(), left: true });
    assert!(world.is_closed(b));
}

#[test]
fn signals_reach_one_member_and_no_other_party() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let (a, b) = (world.join(&ana), world.join(&bob));
    let neighbour = Player { slot: Some(0), ..Player::of_party(8, 8) };
    let n = world.join(&neighbour);
    world.heard.clear();
    let sealed = Blob(vec![7; 100]);
    world.up(a, Up::Signal { to: bob.keys.id(), sealed: sealed.clone() });
    assert_eq!(*world.last(b), Down::Signal { from: ana.keys.id(), sealed: sealed.clone() });
    world.up(a, Up::Signal { to: neighbour.keys.id(), sealed });
    assert!(world.heard.get(&n).is_none_or(Vec::is_empty));
    world.up(a, Up::Signal { to: bob.keys.id(), sealed: Blob(vec![0; 5000]) });
    assert_eq!(world.refused(a), Some(Refusal::BadMessage));
}

#[test]
fn a_party_has_so_many_seats() {
    let knobs = Knobs { peers: 3, ..Knobs::default() };
    let mut world = World::with(knobs);
    world.join(&Player::owner(1));
    world.join(&Player::friend(2));
    world.join(&Player::friend(3));
    assert_eq!(world.knock(&Player::friend(4)), Err(Refusal::PartyFull));
    world.join(&Player::friend(2));
    world.pass(600);
    world.join(&Player::friend(4));
}

#[test]
fn a_full_server_forgets_the_oldest_empty_party_and_no_other() {
    let knobs = Knobs { parties: 2, ..Knobs::default() };
    let mut world = World::with(knobs);
    let hosts: Vec<Player> = (1..=4).map(|n| Player { slot: Some(0), ..Player::of_party(n, n) }).collect();
    for host in &hosts[..2] {
        let conn = world.join(host);
        world.up(conn, Up::Leave);
        world.pass(10);
    }
    world.join(&hosts[2]);
    assert_eq!(world.forgotten, vec![hosts[0].party()]);
    world.join(&hosts[1]);
    assert_eq!(world.knock(&hosts[3]), Err(Refusal::TooFast), "two parties with people in them");
}

#[test]
fn a_flood_is_told_once_and_then_hung_up_on() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let (a, b) = (world.join(&ana), world.join(&bob));
    world.heard.clear();
    for _ in 0..60 + STRIKES {
        world.up(a, Up::Beat);
    }
    let told = world.heard[&a].iter().filter(|d| matches!(d, Down::Refused { code: Refusal::TooFast, .. }));
    assert_eq!(told.count(), 1);
    assert!(world.is_closed(a) && !world.is_closed(b));
}

#[test]
fn one_address_cannot_take_all_the_servers_time() {
    let knobs = Knobs { per_address: pace::Pace::new(5, Duration::from_secs(1)), ..Knobs::default() };
    let mut world = World::with(knobs);
    for _ in 0..5 {
        let conn = world.open();
        assert!(!world.is_closed(conn));
    }
    let sixth = world.open();
    assert_eq!(world.refused(sixth), Some(Refusal::TooFast));
    assert!(world.is_closed(sixth));
    world.address = "10.0.0.2".parse().unwrap();
    let elsewhere = world.open();
    assert!(!world.is_closed(elsewhere));
}

#[test]
fn one_key_cannot_publish_without_end_by_reconnecting() {
    let mut world = World::new();
    let ana = Player::owner(1);
    let mut refused = 0;
    for seq in 1..=40 {
        match world.knock(&ana) {
            Ok(conn) => world.publish(conn, &ana, seq),
            Err(code) => {
                assert_eq!(code, Refusal::TooFast);
                refused += 1;
            }
        }
    }
    assert!(refused >= 20, "{refused}");
}

#[test]
fn who_says_nothing_is_hung_up_on_after_five_seconds() {
    let mut world = World::new();
    let conn = world.open();
    assert_eq!(world.lobby.deadline(), Some(Deadline::new(world.now.mono + Duration::from_secs(5), "hello")));
    world.pass(4);
    assert!(!world.is_closed(conn));
    world.pass(1);
    assert!(world.is_closed(conn));
    assert_eq!(world.lobby.deadline().unwrap().why, "sweep");
}

#[test]
fn a_restart_keeps_parties_members_and_epochs() {
    let mut world = World::new();
    let (ana, bob, eve) = (Player::owner(1), Player::friend(2), Player::friend(3));
    let (a, b, _) = (world.join(&ana), world.join(&bob), world.join(&eve));
    world.up(a, Up::Rotate { rotation: ana.rotate(1, &[&bob]) });
    let bob = bob.at(1);
    world.publish(b, &bob, 4);
    let json = serde_json::to_string(world.lobby.party(ana.party()).unwrap()).unwrap();
    let mut after = World::new();
    let party: Party = serde_json::from_str(&json).unwrap();
    after.lobby.restore(ana.party(), party, after.now);
    assert_eq!(after.knock(&eve), Err(Refusal::OldEpoch));
    let carol = Player { epoch: 1, ..Player::friend(4) }.at(1);
    let c = after.join(&carol);
    assert!(
        matches!(after.last(c), Down::Welcome { epoch: 1, rotation: Some(_), peers } if peers.len() == 1)
    );
}

#[test]
fn what_is_stored_and_sent_on_shows_no_address_no_name_and_no_secret() {
    let mut world = World::new();
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let (a, b) = (world.join(&ana), world.join(&bob));
    world.publish(a, &ana, 1);
    world.publish(b, &bob, 1);
    world.up(a, Up::Rotate { rotation: ana.rotate(1, &[&bob]) });
    let stored = postcard::to_allocvec(world.lobby.party(ana.party()).unwrap()).unwrap();
    let sent: Vec<u8> = world.heard.values().flatten().flat_map(bytes_of).collect();
    let shows = |bytes: &[u8], plain: &[u8]| bytes.windows(plain.len()).any(|w| w == plain);
    let plain = postcard::to_allocvec(&ana.record()).unwrap();
    for private in [&b"Player"[..], &[198, 51, 100, 7], &ana.secret.0, &ana.at(1).secret.0] {
        assert!(!shows(&stored, private) && !shows(&sent, private), "{private:?}");
        assert!(private.len() == 16 || shows(&plain, private), "the check itself can fail");
    }
    assert!(shows(&stored, &ana.keys.key().0) && shows(&sent, &ana.keys.key().0), "public keys do show");
}

fn bytes_of(down: &Down) -> Vec<u8> {
    match down {
        Down::Welcome { peers, .. } => postcard::to_allocvec(peers).unwrap(),
        Down::Record { envelope } => postcard::to_allocvec(envelope).unwrap(),
        Down::Rotated { rotation } => postcard::to_allocvec(rotation).unwrap(),
        _ => Vec::new(),
    }
}

#[test]
fn members_are_offered_the_relay_with_credentials_of_their_own_and_strangers_are_not() {
    use crate::wire::credential::{Bearer, RelaySecret};
    let secret = RelaySecret::new(b"north");
    let way = RelayWay::Udp { addr: "192.0.2.1:3478".parse().unwrap() };
    let mut world = World::new();
    world.lobby.offer(Offers::new(secret.clone(), "lanrage", vec![way.clone()]));
    let offered = |world: &World, conn: ConnId| -> Vec<RelayOffer> {
        let heard = world.heard[&conn].iter().rev();
        heard
            .filter_map(|down| match down {
                Down::Relays { offers } => Some(offers.clone()),
                _ => None,
            })
            .next()
            .unwrap_or_default()
    };
    let (ana, bob) = (Player::owner(1), Player::friend(2));
    let (a, b) = (world.join(&ana), world.join(&bob));
    let (of_ana, of_bob) = (offered(&world, a).remove(0), offered(&world, b).remove(0));
    assert_eq!((&of_ana.ways, of_ana.realm.as_str()), (&vec![way], "lanrage"));
    assert_ne!(of_ana.username, of_bob.username);
    let claim = secret.read(&of_bob.username, world.now.unix.as_secs()).unwrap();
    assert_eq!(claim.bearer, Bearer { party: bob.party(), peer: bob.keys.id() });
    assert_eq!((secret.password(&of_bob.username), Some(claim.expires)), (of_bob.password, of_bob.expires));
    assert_eq!(claim.expires, world.now.unix.as_secs() + 12 * 3600);
    let stranger = world.open();
    assert!(offered(&world, stranger).is_empty());

    world.up(b, Up::Leave);
    for _ in 0..6 * 60 + 1 {
        world.up(a, Up::Beat);
        world.pass(60);
    }
    let renewed = offered(&world, a).remove(0);
    assert_eq!(renewed.expires, of_ana.expires.map(|e| e + 6 * 3600), "at half time");
    assert!(world.is_closed(b), "who left is offered nothing more");
}
