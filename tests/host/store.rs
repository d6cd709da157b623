//! The data directory between processes: one node at a time, whoever it is, and free again however that one ended.

use lanrage::host::store::Store;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Names the directory that the second process is to hold.
const HOLD: &str = "LANRAGE_TEST_HOLD";

/// Not a test of its own: what the second process does.
#[test]
fn holder() {
    let Some(dir) = std::env::var_os(HOLD).map(PathBuf::from) else { return };
    let _store = Store::open(&dir).unwrap();
    println!("\nheld");
    // Until the test kills this process, or is gone itself and closes the pipe.
    let _ = std::io::stdin().lines().next();
}

fn second_process(dir: &std::path::Path) -> Child {
    let me = std::env::current_exe().unwrap();
    let mut child = Command::new(me)
        .args(["--exact", "store::holder", "--nocapture"])
        .env(HOLD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "held"), "the second process has the directory");
    child
}

#[test]
fn a_directory_held_by_another_process_is_refused_and_names_it_until_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = second_process(dir.path());
    let trouble = Store::open(dir.path()).unwrap_err();
    assert_eq!(trouble.code, "data_dir_in_use");
    assert!(trouble.message.contains(&format!("process {}", other.id())), "{}", trouble.message);
    assert!(trouble.hint.contains("--data-dir"));
    // As by `kill -9`: nothing is tidied up, and yet the directory is free.
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(Store::open(dir.path()).is_ok());
}
