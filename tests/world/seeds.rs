//! Many small parties from seeds: whatever goes wrong, every rule of `docs/sim.md` holds.

use lanrage::sim::cli::read_hex;
use lanrage::sim::run::Outcome;
use lanrage::sim::{run_bytes, run_seed};
use std::ops::Range;
use std::process::Command;

fn must_hold(name: &str, outcome: &Outcome) {
    let list: Vec<String> =
        outcome.violations.iter().map(|v| format!("{:.3} s: {}", v.at.0.as_secs_f64(), v.what)).collect();
    assert!(outcome.holds(), "{name} ({:?}): {} and {} more", outcome.mood, list.join("\n"), outcome.more);
}

fn seeds(range: Range<u64>) {
    let mut owed = 0;
    for seed in range {
        let outcome = run_seed(seed);
        must_hold(&format!("seed {seed}, see `lanrage sim --seed {seed} --trace`"), &outcome);
        owed += outcome.owed;
    }
    assert!(owed > 500, "only {owed} packets were owed to anybody: these seeds prove nothing");
}

#[test]
fn the_first_fifteen_seeds_hold() {
    seeds(0..15);
}

#[test]
fn the_next_fifteen_seeds_hold() {
    seeds(15..30);
}

#[test]
fn fifteen_more_seeds_hold() {
    seeds(30..45);
}

#[test]
fn the_last_fifteen_seeds_hold() {
    seeds(45..60);
}

/// Stories in `tests/seeds/` broke a rule once. Each file is a story's bytes in hexadecimal.
#[test]
fn stories_that_broke_a_rule_once_hold_now() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seeds");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "hex") {
            continue;
        }
        let bytes = read_hex(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(bytes.len() >= 16, "{} is no story", path.display());
        must_hold(&path.display().to_string(), &run_bytes(&bytes, false));
        count += 1;
    }
    assert!(count >= 5, "{count} stories in {folder}");
}

#[test]
fn the_plainest_world_is_the_one_of_no_bytes_at_all() {
    let outcome = run_bytes(&[], true);
    must_hold("no bytes", &outcome);
    assert_eq!(outcome.pcs, 2);
    assert!(outcome.owed > 20 && outcome.lines.len() > 100, "{outcome:?}");
}

#[test]
fn the_same_bytes_give_the_same_story_twice() {
    for seed in [1, 7, 42] {
        let (first, second) = (run_seed(seed), run_seed(seed));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert_ne!(first.hash, run_seed(seed + 1).hash);
    }
}

const ASKED: &str = "LANRAGE_TEST_HASH_OF_SEED";

#[test]
fn the_same_bytes_give_the_same_story_in_another_process() {
    if std::env::var_os(ASKED).is_some() {
        return;
    }
    let me = std::env::current_exe().unwrap();
    let out = Command::new(me)
        .args(["seeds::prints_the_hash_of_a_seed_when_asked", "--exact", "--nocapture"])
        .env(ASKED, "7")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let expected = format!("hash {:016x}", run_seed(7).hash);
    assert!(text.contains(&expected), "expected {expected} in: {text}");
}

#[test]
fn prints_the_hash_of_a_seed_when_asked() {
    if let Ok(seed) = std::env::var(ASKED) {
        println!("hash {:016x}", run_seed(seed.parse().unwrap()).hash);
    }
}

/// Logs are assertions: a run in which nothing goes wrong says nothing that somebody should look at.
#[test]
fn nothing_is_logged_at_warn_or_error_when_nothing_goes_wrong() {
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!("the subscriber hears");
        must_hold("no bytes", &run_bytes(&[], false));
    });
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
}
