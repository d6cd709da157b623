//! The shared folder, with real files, real carriers and, where it matters, real processes.

use crate::players::{Line, Player, SOON};
use lanrage::engine::lobby::Knobs;
use lanrage::host::control::file::document::{AUDIENCE, Document, NONCE};
use lanrage::host::control::file::lock::Locking;
use lanrage::host::control::file::store::Folder;
use lanrage::host::control::{ControlChoice, FolderTuning, ToCarrier, Tuning};
use lanrage::model::text::Blob;
use lanrage::wire::control::{Down, Nonce, Refusal, Up};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn two_players_meet_in_a_folder_and_part() {
    let (dir, choice) = folder();
    let (ana, bob) = (Player::owner(1), Player::friend(2, 1));
    let mut a = Line::join(&ana, &choice, &quick()).await;
    a.publish(1).await;
    let mut b = Line::new(&bob, &choice, &quick());
    // Bob may look before Ana's record is written; either way he gets it.
    let peers = b.enter().await;
    if peers.is_empty() {
        b.record_of(&ana, 1).await;
    } else {
        assert_eq!(peers, vec![ana.envelope(1)]);
    }
    b.publish(7).await;
    a.record_of(&bob, 7).await;
    b.publish(8).await;
    a.record_of(&bob, 8).await;
    let sealed = Blob(vec![1, 2, 3]);
    b.send(Up::Signal { to: ana.id(), sealed: sealed.clone() }).await;
    let signal = a.until(|d| matches!(d, Down::Signal { .. }).then(|| d.clone())).await;
    assert_eq!(signal, Down::Signal { from: bob.id(), sealed });
    b.send(Up::Leave).await;
    assert_eq!(b.closed().await, "said goodbye");
    assert_eq!(a.gone().await, (bob.id(), true));
    let rest = a.everything_for(Duration::from_millis(500)).await;
    assert!(rest.is_empty(), "nothing twice: {rest:?}");
    assert_eq!(names(dir.path()), ["discovery.json", "discovery.lock"], "and nothing is left lying about");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_refuses_what_a_server_refuses() {
    let (_dir, choice) = folder();
    let knock = async |player: &Player| {
        let mut line = Line::new(player, &choice, &quick());
        let Down::Refused { code, .. } = line.knock().await else { panic!("let in") };
        line.closed().await;
        code
    };
    let ana = Player::owner(1);
    assert_eq!(knock(&Player::friend(2, 1)).await, Refusal::UnknownParty);
    let mut a = Line::join(&ana, &choice, &quick()).await;
    let wrong = Player { secret: ana.at(9).secret, ..Player::friend(2, 1) };
    assert_eq!(knock(&wrong).await, Refusal::NotAMember);
    assert_eq!(knock(&Player { slot: Some(0), ..wrong }).await, Refusal::BadMessage);
    a.publish(5).await;
    a.publish(4).await;
    assert_eq!(a.refused().await, Refusal::BadMessage);
    a.send(Up::Publish { envelope: Player::friend(2, 1).envelope(9) }).await;
    assert_eq!(a.refused().await, Refusal::BadMessage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kicked_player_is_told_and_stays_out_of_the_folder() {
    let (_dir, choice) = folder();
    let (ana, bob, eve) = (Player::owner(1), Player::friend(2, 1), Player::friend(3, 1));
    let mut a = Line::join(&ana, &choice, &quick()).await;
    let mut b = Line::join(&bob, &choice, &quick()).await;
    let mut e = Line::join(&eve, &choice, &quick()).await;
    let rotation = ana.rotate(1, &[&bob]);
    a.send(Up::Rotate { rotation: rotation.clone() }).await;
    for line in [&mut b, &mut e] {
        let seen = line.until(|d| matches!(d, Down::Rotated { .. }).then(|| d.clone())).await;
        assert_eq!(seen, Down::Rotated { rotation: rotation.clone() });
    }
    assert!(e.closed().await.contains("removed"));
    let Down::Refused { code, .. } = e.knock().await else { panic!("let in again") };
    assert_eq!(code, Refusal::OldEpoch);
    // Who stays goes on with the new secret on the same connection.
    let bob = bob.at(1);
    b.send(Up::Publish { envelope: bob.envelope(1) }).await;
    a.record_of(&bob, 1).await;
    let mut late = Line::new(&bob.clone(), &choice, &quick());
    late.player = Player { epoch: 1, ..bob.clone() };
    assert_eq!(late.enter().await, vec![bob.envelope(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_silent_are_gone_after_their_time_and_not_before() {
    let (_dir, choice) = folder();
    let mut tuning = quick();
    tuning.folder.lobby = Knobs { gone_after: Duration::from_secs(4), ..Knobs::default() };
    tuning.folder.stamp_every = Duration::from_millis(500);
    let (ana, bob, eve) = (Player::owner(1), Player::friend(2, 1), Player::friend(3, 1));
    let mut a = Line::join(&ana, &choice, &tuning).await;
    let b = Line::join(&bob, &choice, &tuning).await;
    let e = Line::join(&eve, &choice, &tuning).await;
    b.publish(1).await;
    a.record_of(&bob, 1).await;
    // Eve's program is killed: no goodbye. Bob goes on beating.
    drop(e);
    let begun = std::time::Instant::now();
    let beats = tokio::spawn({
        let senders = [a.tx.clone(), b.tx.clone()];
        async move {
            loop {
                for tx in &senders {
                    tx.send(ToCarrier::Send(Up::Beat)).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    assert_eq!(a.gone().await, (eve.id(), false));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(9), "{took:?}");
    let rest = a.everything_for(Duration::from_secs(2)).await;
    assert!(!rest.iter().any(|d| matches!(d, Down::Gone { .. })), "Bob is alive: {rest:?}");
    beats.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_file_is_kept_aside_and_the_party_goes_on() {
    let (dir, choice) = folder();
    let (ana, bob) = (Player::owner(1), Player::friend(2, 1));
    let mut a = Line::join(&ana, &choice, &quick()).await;
    let mut b = Line::join(&bob, &choice, &quick()).await;
    a.publish(1).await;
    b.publish(1).await;
    a.record_of(&bob, 1).await;
    b.record_of(&ana, 1).await;
    let path = dir.path().join("discovery.json");
    let whole = std::fs::read(&path).unwrap();
    let torn = &whole[..whole.len() / 2];
    std::fs::write(&path, torn).unwrap();
    let kept =
        wait_for(|| names(dir.path()).into_iter().find(|n| n.starts_with("discovery.json.broken-"))).await;
    assert_eq!(std::fs::read(dir.path().join(&kept)).unwrap(), torn, "every byte of it");
    let notice = tokio::select! {
        n = a.until(notice) => n,
        n = b.until(notice) => n,
    };
    assert!(notice.0 == "discovery_broken" && notice.1.contains(&kept), "{notice:?}");
    wait_for(|| (peers(dir.path(), &ana) == 2).then_some(())).await;
    b.publish(2).await;
    a.record_of(&bob, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_comes_back_even_without_the_owner() {
    let (dir, choice) = folder();
    let (ana, bob, eve) = (Player::owner(1), Player::friend(2, 1), Player::friend(3, 1));
    let a = Line::join(&ana, &choice, &quick()).await;
    let mut b = Line::join(&bob, &choice, &quick()).await;
    a.publish(1).await;
    b.record_of(&ana, 1).await;
    drop(a);
    let path = dir.path().join("discovery.json");
    std::fs::remove_file(&path).unwrap();
    wait_for(|| path.exists().then_some(())).await;
    // What Bob knew of the party is good enough for a third to join.
    let mut e = Line::new(&eve, &choice, &quick());
    assert_eq!(e.enter().await, vec![ana.envelope(1)]);
    let rest = b.everything_for(Duration::from_millis(700)).await;
    assert!(!rest.iter().any(|d| matches!(d, Down::Closed { .. } | Down::Gone { .. })), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_written_back_does_not_bring_a_kicked_player_back() {
    let (dir, choice) = folder();
    let (ana, eve) = (Player::owner(1), Player::friend(3, 1));
    let mut a = Line::join(&ana, &choice, &quick()).await;
    let e = Line::join(&eve, &choice, &quick()).await;
    let path = dir.path().join("discovery.json");
    let before = std::fs::read(&path).unwrap();
    drop(e);
    a.send(Up::Rotate { rotation: ana.rotate(1, &[]) }).await;
    a.until(|d| matches!(d, Down::Rotated { .. }).then_some(())).await;
    std::fs::write(&path, before).unwrap();
    wait_for(|| {
        let party = read(dir.path()).party(ana.party())?.party.clone();
        (party.epoch() == 1 && !party.peers().contains_key(&eve.id())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_outsider_writes_into_the_file_is_not_believed() {
    let (dir, choice) = folder();
    let (ana, bob) = (Player::owner(1), Player::friend(2, 1));
    let mut a = Line::join(&ana, &choice, &quick()).await;
    // The outsider has another secret, so its hello proves nothing; everything else is right.
    let outsider = Player { secret: ana.at(5).secret, ..Player::friend(9, 1) };
    let mut own = Document::default();
    let fake_owner = Player { slot: Some(0), ..Player::owner(9) };
    let knobs = Knobs::default();
    let hello = fake_owner.hello(&Nonce(NONCE), AUDIENCE);
    let now = lanrage::model::time::Now { unix: Duration::from_secs(1_900_000_000), ..Default::default() };
    own.knock(&hello, &knobs, now).unwrap();
    let entry = serde_json::json!({
        "key": outsider.keys.key(), "envelope": outsider.envelope(1), "seen": 1_900_000_000u64 + 3600 * 24 * 365,
    });
    let hello = outsider.hello(&Nonce(NONCE), AUDIENCE);
    edit(dir.path(), |json| {
        let party = &mut json["parties"][ana.party().to_string()];
        party["party"]["peers"][outsider.id().to_string()] = entry.clone();
        party["hellos"][outsider.id().to_string()] = serde_json::to_value(&hello).unwrap();
    });
    let b = Line::join(&bob, &choice, &quick()).await;
    b.publish(1).await;
    let seen = a.everything_for(Duration::from_secs(2)).await;
    let records: Vec<_> = seen
        .iter()
        .filter_map(|d| match d {
            Down::Record { envelope } => Some(envelope.key),
            _ => None,
        })
        .collect();
    assert_eq!(records, vec![bob.keys.key()]);
    // A party whose owner did not sign it is no party: Ana's carrier puts the real one back.
    edit(dir.path(), |json| {
        let real = ana.party().to_string();
        json["parties"][real] = serde_json::to_value(own.parties.values().next().unwrap()).unwrap();
    });
    wait_for(|| (peers(dir.path(), &ana) == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_the_folder_is_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let ana = Player::owner(1);
    let why = async |path: PathBuf| {
        let mut line = Line::new(&ana, &ControlChoice::Folder(path), &quick());
        line.tx.send(ToCarrier::Open).await.unwrap();
        line.closed().await
    };
    assert!(why(dir.path().join("missing")).await.contains("does not exist"));
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(why(file).await.contains("is not a folder"));
    let newer = dir.path().join("newer");
    std::fs::create_dir(&newer).unwrap();
    let text = r#"{"version":99,"parties":"who knows"}"#;
    std::fs::write(newer.join("discovery.json"), text).unwrap();
    assert!(why(newer.clone()).await.contains("newer lanrage"));
    assert_eq!(std::fs::read_to_string(newer.join("discovery.json")).unwrap(), text, "left alone");
    let blocked = dir.path().join("blocked");
    std::fs::create_dir_all(blocked.join("discovery.json")).unwrap();
    assert!(why(blocked).await.contains("failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_vanishes_ends_the_connection_and_may_come_back() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("share");
    std::fs::create_dir(&dir).unwrap();
    let ana = Player::owner(1);
    let mut a = Line::join(&ana, &ControlChoice::Folder(dir.clone()), &quick()).await;
    std::fs::rename(&dir, outer.path().join("elsewhere")).unwrap();
    assert!(a.closed().await.contains("does not exist"));
    std::fs::rename(outer.path().join("elsewhere"), &dir).unwrap();
    a.enter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_writing_at_once_lose_nothing() {
    eight_processes(Locking::System).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_lose_nothing_without_system_locks_either() {
    eight_processes(Locking::ByCreation).await;
}

const WRITES: u64 = 50;

async fn eight_processes(locking: Locking) {
    let (dir, choice) = folder();
    let mut tuning = quick();
    tuning.folder.locking = locking;
    let ana = Player::owner(1);
    let mut a = Line::join(&ana, &choice, &tuning).await;
    let begun = std::time::Instant::now();
    let writers: Vec<Child> = (2..10).map(|n| writer(dir.path(), n, locking, WRITES)).collect();
    for mut child in writers {
        let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
        assert!(status.success());
    }
    let document = read(dir.path());
    let party = &document.party(ana.party()).unwrap().party;
    for n in 2..10 {
        let peer = &party.peers()[&Player::friend(n, 1).id()];
        assert_eq!(peer.envelope.as_ref().unwrap().seq, WRITES);
    }
    // Ana's hello, and of each writer a hello and fifty records: one lost update would be one too few.
    assert_eq!(document.revision, 1 + 8 * (1 + WRITES));
    println!("{locking:?}: {} writes of 8 processes in {:?}", document.revision, begun.elapsed());
    let seen = a.enter().await;
    assert!((2..10).all(|n| seen.contains(&Player::friend(n, 1).envelope(WRITES))));
}

/// Not a test by itself: the body of a writer's process.
#[tokio::test(flavor = "multi_thread")]
async fn writer_process() {
    let Ok(order) = std::env::var("LANRAGE_TEST_WRITER") else {
        return;
    };
    let (n, rest) = order.split_once(' ').unwrap();
    let (way, rest) = rest.split_once(' ').unwrap();
    let (writes, dir) = rest.split_once(' ').unwrap();
    let mut tuning = quick();
    tuning.folder.locking = if way == "system" { Locking::System } else { Locking::ByCreation };
    let me = Player::friend(n.parse().unwrap(), 1);
    let mut line = Line::join(&me, &ControlChoice::Folder(dir.into()), &tuning).await;
    for seq in 1..=writes.parse().unwrap() {
        line.publish(seq).await;
    }
    // Messages are carried in order: when this one is refused (without touching the file), all fifty are written.
    line.send(Up::Hello(Player::friend(99, 98).hello(&Nonce(NONCE), AUDIENCE))).await;
    assert_eq!(line.refused().await, Refusal::BadMessage);
}

fn writer(dir: &Path, n: u8, locking: Locking, writes: u64) -> Child {
    let way = if locking == Locking::System { "system" } else { "creation" };
    Command::new(std::env::current_exe().unwrap())
        .args(["control::writer_process", "--exact", "--quiet"])
        .stdout(Stdio::null())
        .env("LANRAGE_TEST_WRITER", format!("{n} {way} {writes} {}", dir.display()))
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_killed_in_the_middle_leaves_a_good_file_and_no_lock() {
    let (dir, choice) = folder();
    let ana = Player::owner(1);
    let seq_of = |player: &Player| {
        let document = read(dir.path());
        document.party(ana.party())?.party.peers().get(&player.id())?.envelope.as_ref().map(|e| e.seq)
    };
    let a = Line::join(&ana, &choice, &quick()).await;
    let mut orphans = 0;
    for round in 1..=8 {
        let victim = Player::friend(10 + round, 1);
        let mut child = writer(dir.path(), 10 + round, Locking::System, u64::MAX);
        wait_for(|| seq_of(&victim).filter(|seq| *seq > 5)).await;
        tokio::time::sleep(Duration::from_micros(700 * u64::from(round))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let written = seq_of(&victim).unwrap();
        let begun = std::time::Instant::now();
        a.publish(round.into()).await;
        wait_for(|| seq_of(&ana).filter(|seq| *seq == u64::from(round))).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "the lock ended with its holder");
        assert_eq!(seq_of(&victim), Some(written), "what it wrote is there");
        orphans = names(dir.path()).iter().filter(|n| n.ends_with(".tmp")).count();
    }
    println!("{orphans} temporary files of killed writers");
    assert!(!names(dir.path()).iter().any(|n| n.contains("broken")));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn temporary_files_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let (dir, choice) = folder();
    let file = |name: &str, age: u64| {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    file("discovery.json.1-2-3.tmp", 120);
    file("discovery.json.4-5-6.tmp", 5);
    file("holiday.tmp", 120);
    Line::join(&Player::owner(1), &choice, &quick()).await;
    assert_eq!(
        names(dir.path()),
        ["discovery.json", "discovery.json.4-5-6.tmp", "discovery.lock", "holiday.tmp"]
    );
}

#[cfg(unix)]
#[test]
fn files_in_the_folder_can_be_used_by_whoever_may_use_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    for (folder, file) in [(0o777, 0o666), (0o770, 0o660), (0o700, 0o600)] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(folder)).unwrap();
        let mut store = Folder::open(dir.path(), Locking::System).unwrap();
        store.update(|d, _| d.revision += 1000).unwrap();
        let _ = store.update(|d, _| d.version = 1).unwrap();
        for name in ["discovery.lock", "discovery.json"] {
            if let Ok(meta) = std::fs::metadata(dir.path().join(name)) {
                assert_eq!(meta.permissions().mode() & 0o777, file, "{name} in {folder:o}");
            }
        }
    }
}

fn folder() -> (TempDir, ControlChoice) {
    let dir = tempfile::tempdir().unwrap();
    let choice = ControlChoice::Folder(dir.path().to_owned());
    (dir, choice)
}

fn quick() -> Tuning {
    let folder = FolderTuning { look_every: Duration::from_millis(40), ..FolderTuning::default() };
    Tuning { folder, ..Tuning::default() }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(dir: &Path) -> Document {
    Folder::open(dir, Locking::System).unwrap().read().unwrap()
}

fn peers(dir: &Path, player: &Player) -> usize {
    let Ok(document) = Folder::open(dir, Locking::System).unwrap().read() else {
        return 0;
    };
    document
        .party(player.party())
        .map_or(0, |s| s.party.peers().keys().filter(|peer| s.believes(player.party(), **peer)).count())
}

/// Changes the file as an outsider would, without a lock.
fn edit(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = dir.join("discovery.json");
    let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, serde_json::to_vec(&json).unwrap()).unwrap();
}

fn notice(down: &Down) -> Option<(String, String)> {
    match down {
        Down::Notice { code, message } => Some((code.clone(), message.clone())),
        _ => None,
    }
}

async fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < end, "it did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
