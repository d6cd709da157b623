//! Nothing stays on the machine, however the process ends.

use super::*;

/// All that a machine says of its network, in words that are the same when nothing has changed.
fn state_of_network() -> Vec<String> {
    let mut all: Vec<String> = [
        "-j addr",
        "-j route show table all",
        "-j -6 route show table all",
        "rule",
        "-6 rule",
        "-j link",
        "maddr",
    ]
    .iter()
    .map(|words| ip(words))
    .collect();
    for family in ["ipv4", "ipv6"] {
        let folder = format!("/proc/sys/net/{family}/conf");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        all.push(names.join(" "));
    }
    all
}

/// Not a test: what the next one kills. It holds all that a port can hold, and runs a game that outlives it.
#[test]
#[ignore = "the victim of killed_in_the_middle_of_everything_nothing_stays"]
fn victim() {
    let dir = std::env::var(DIR).expect("started by the test that kills it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut port = open_with_cards(Path::new(&dir), &[4445..=4445]);
        let _game = member(MINECRAFT, 4445, card("eth0").0, false);
        inject(&mut port, &udp("10.83.7.2:5", "224.0.2.60:4445", b"x"), Delivery::Group);
        assert_eq!(port.counters().group_out, 1);
        #[expect(clippy::zombie_processes, reason = "it must outlive us")]
        let _child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
        std::fs::write(Path::new(&dir).join("up"), "").unwrap();
        std::future::pending::<()>().await;
    });
}

#[test]
fn killed_in_the_middle_of_everything_nothing_stays() {
    lab(|| async {
        let _far = two_cards();
        ip("route del default");
        let dir = tempfile::tempdir().unwrap();
        let before = state_of_network();
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "leftovers::victim"])
            .env(DIR, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while !dir.path().join("up").exists() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(files_in(dir.path()), ["leftovers.json", "up"]);
        assert_ne!(before, state_of_network());
        let words = lanrage::host::lan::clean_leftovers(dir.path());
        assert!(words[0].contains("still running"), "{words:?}");

        victim.kill().unwrap();
        victim.wait().unwrap();
        // Devices go by the kernel's own work, some milliseconds after the process.
        let end = Instant::now() + Duration::from_secs(3);
        while state_of_network() != before && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(before, state_of_network());
        let words = lanrage::host::lan::clean_leftovers(dir.path());
        assert_eq!(words.len(), 1, "{words:?}");
        assert_eq!(files_in(dir.path()), ["up"]);
        LanPort::open(options(dir.path()), &config()).unwrap().close();
        assert_eq!(files_in(dir.path()), ["up"]);
        assert_eq!(before, state_of_network());
    });
}

#[test]
fn a_device_that_did_outlive_its_process_is_removed_and_others_are_not() {
    lab(|| async {
        let dir = tempfile::tempdir().unwrap();
        let journal = r#"{"version":1,"adapter":"lanrage0","process":{"pid":4194304,"started":7}}"#;
        for (alias, stays) in [("lanrage 4194304 7", false), ("lanrage 4194304 8", true), ("vpn", true)] {
            std::fs::write(dir.path().join("leftovers.json"), journal).unwrap();
            ip("tuntap add lanrage0 mode tun");
            let done = std::process::Command::new("ip")
                .args(["link", "set", "lanrage0", "alias", alias])
                .status()
                .unwrap();
            assert!(done.success());
            let words = lanrage::host::lan::clean_leftovers(dir.path());
            assert_eq!(ip("link").contains("lanrage0"), stays, "{alias}: {words:?}");
            assert_eq!(words.iter().any(|w| w.contains("removed the adapter")), !stays, "{words:?}");
            assert!(files_in(dir.path()).is_empty());
            if stays {
                ip("link del lanrage0");
            }
        }
    });
}
