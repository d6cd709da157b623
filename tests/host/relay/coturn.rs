//! coturn's own clients against our relay.

use super::{Place, SECRET, credentials, tag};
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Longer than any of these runs take, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Whether a program is here; if not, whether that is allowed.
fn is_here(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        let must = std::env::var("LANRAGE_LAB").is_ok_and(|v| v == "must");
        assert!(!must, "{program} is missing: apt-get install coturn");
        eprintln!("skipped: {program} is not here (apt-get install coturn)");
    }
    found
}

async fn run(program: &str, arguments: &[&str]) -> String {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = timeout(SOON, child.wait_with_output()).await.expect("it ends in time").unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A peer that sends back what it gets.
fn echo() -> (u16, impl Drop) {
    struct Stop(std::sync::Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let stop = Stop(std::sync::Arc::default());
    let stopped = std::sync::Arc::clone(&stop.0);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            if let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..n], from);
            }
        }
    });
    (port, stop)
}

/// What `turnutils_uclient` says it sent and got back.
fn messages(said: &str) -> Option<(u64, u64)> {
    let line = said.lines().rev().find(|l| l.contains("tot_send_msgs=") && l.contains("tot_recv_msgs="))?;
    let after = |key: &str| {
        let rest = &line[line.find(key)? + key.len()..];
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some((after("tot_send_msgs=")?, after("tot_recv_msgs=")?))
}

async fn uclient(place: &Place, extra: &[&str]) -> String {
    let (echo_port, _stop) = echo();
    let port = place.at().port().to_string();
    let echo_port = echo_port.to_string();
    let mut arguments =
        vec!["-e", "127.0.0.1", "-r", &echo_port, "-p", &port, "-n", "40", "-m", "2", "-l", "200", "-c"];
    arguments.extend_from_slice(extra);
    arguments.push("127.0.0.1");
    run("turnutils_uclient", &arguments).await
}

fn all_came_back(said: &str) {
    let (sent, received) = messages(said).unwrap_or_else(|| panic!("{said}"));
    assert!(sent >= 80 && received == sent, "{sent} sent, {received} back\n{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn coturns_client_relays_by_udp_with_channels_and_with_indications() {
    if !is_here("turnutils_uclient") {
        return;
    }
    let place = Place::new(&["127.0.0.1:0"]).await;
    let (user, password) = credentials(1, 1, Duration::from_secs(3600));
    all_came_back(&uclient(&place, &["-u", &user, "-w", &password]).await);
    all_came_back(&uclient(&place, &["-u", &tag(1, 2), "-W", SECRET]).await);
    all_came_back(&uclient(&place, &["-s", "-u", &user, "-w", &password]).await);
    assert!(place.number("relay_to_peers_total").await >= 240);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coturns_client_relays_by_tcp() {
    if !is_here("turnutils_uclient") {
        return;
    }
    let place = Place::new(&["127.0.0.1:0"]).await;
    let (user, password) = credentials(1, 1, Duration::from_secs(3600));
    all_came_back(&uclient(&place, &["-t", "-u", &user, "-w", &password]).await);
    all_came_back(&uclient(&place, &["-t", "-s", "-u", &user, "-w", &password]).await);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coturns_client_relays_by_tls() {
    if !is_here("turnutils_uclient") {
        return;
    }
    let place = Place::new(&["127.0.0.1:0"]).await;
    let (user, password) = credentials(1, 1, Duration::from_secs(3600));
    all_came_back(&uclient(&place, &["-t", "-S", "-u", &user, "-w", &password]).await);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coturns_client_reaches_itself_through_two_allocations() {
    if !is_here("turnutils_uclient") {
        return;
    }
    // `-y`: both ends are clients of the relay, and it never needs a peer's socket.
    let place = Place::new(&["127.0.0.1:0"]).await;
    let (user, password) = credentials(1, 1, Duration::from_secs(3600));
    let said = uclient(&place, &["-y", "-u", &user, "-w", &password]).await;
    all_came_back(&said);
    assert!(place.number("relay_inside_total").await >= 80, "{said}");
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coturns_client_is_refused_with_a_wrong_password_or_an_expired_name() {
    if !is_here("turnutils_uclient") {
        return;
    }
    let place = Place::new(&["127.0.0.1:0"]).await;
    let (user, password) = credentials(1, 1, Duration::from_secs(3600));
    let (expired, its_password) = credentials(1, 1, Duration::ZERO);
    for (user, password) in [(&user, "guess".to_owned()), (&expired, its_password), (&tag(1, 1), password)] {
        let said = uclient(&place, &["-u", user, "-w", &password]).await;
        assert!(messages(&said).is_none_or(|(_, received)| received == 0), "{said}");
    }
    assert_eq!(place.number("relay_allocated_total").await, 0);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coturns_detector_finds_no_nat_on_loopback() {
    if !is_here("turnutils_natdiscovery") {
        return;
    }
    let place = Place::new(&["127.0.0.1:0", "127.0.0.2:0"]).await;
    let port = place.at().port().to_string();
    let said =
        run("turnutils_natdiscovery", &["-m", "-f", "-L", "127.0.0.1", "-p", &port, "127.0.0.1"]).await;
    assert!(
        said.contains("NAT with Endpoint Independent Mapping") || said.contains("No NAT detected"),
        "{said}"
    );
    assert!(said.contains("Endpoint Independent Filtering"), "{said}");
    let said = run("turnutils_stunclient", &["-p", &port, "-L", "127.0.0.1", "127.0.0.1"]).await;
    assert!(said.contains("UDP reflexive addr: 127.0.0.1:"), "{said}");
    place.stop().await;
}
