//! `lanrage bench` between two computers: the figures make sense in both modes, and who cannot be measured is told why.

use std::net::SocketAddr;
use std::process::Output;

use serde_json::Value;

use crate::proxy::By;
use crate::support::net::{Carries, Host, Net};
use crate::support::node::{Node, lanrage, text};
use crate::support::{ready, say, seconds};

fn bench(host: &Host, node: &Node, args: &[&str]) -> Output {
    lanrage(host, &node.data, "bench").args(args).output().expect("lanrage runs")
}

fn object(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number {path} in {value}"))
}

/// A hosts, B joins; neither is asked what it runs by.
fn measured(by: By) {
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"]]);
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", "minecraft", "--control", &control];
    let mut a = by.start()(&hosts[0], &[&common[..], &["--name", "Ana"]].concat());
    let invite = a.invite();
    let join = ["--name", "Bert", "--join", &invite];
    let mut b = by.start()(&hosts[1], &[&common[..], &join].concat());
    let alone = bench(&hosts[0], &a, &["Cleo"]);
    assert_eq!(alone.status.code(), Some(1), "nobody is called so, or nobody is there yet");
    a.path_to(&b, seconds(20));
    b.path_to(&a, seconds(20));

    let found = object(&bench(&hosts[0], &a, &["bert", "--json"]));
    assert_eq!((text(&found, "name"), text(&found, "peer")), ("Bert", b.peer().as_str()));
    let remote: SocketAddr = text(&found["path"], "remote").parse().expect("an address");
    let family = if remote.is_ipv4() { "ipv4" } else { "ipv6" };
    assert_eq!((text(&found["path"], "kind"), text(&found["path"], "family")), ("direct", family));
    assert!(number(&found, "/took_ms") <= 15_000.0 && number(&found, "/cpu_ms") > 0.0, "{found}");
    let [min, p50, p99] = ["min", "p50", "p99"].map(|name| number(&found, &format!("/alone/rtt_ms/{name}")));
    assert!(0.0 < min && min <= p50 && p50 <= p99 && p50 < 20.0, "{found}");
    assert!(number(&found, "/alone/loss") < 0.05 && number(&found, "/beside/rtt_ms/p50") > 0.0, "{found}");
    for way in ["there", "back"] {
        assert!(number(&found, &format!("/bulk/{way}/mbit")) > 8.0, "{found}");
        assert!(number(&found, &format!("/small/{way}/per_second")) > 1_000.0, "{found}");
    }

    // From the other end, without a name, in words.
    let quick = bench(&hosts[1], &b, &["--quick"]);
    assert!(quick.status.success(), "{}", String::from_utf8_lossy(&quick.stderr));
    let table = String::from_utf8_lossy(&quick.stdout).into_owned();
    assert!(table.starts_with("Ana is reached directly, at "), "{table}");
    for part in ["ROUND TRIP", "alone", "beside", "packets of 200 bytes", "packets of 1200 bytes", "Mbit/s"] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    say(&format!("{found}\n{table}"));
    b.stop();
    a.stop();
}

#[test]
fn a_measurement_tells_what_the_way_is_like_in_lan_mode() {
    if ready(&[]) {
        measured(By::Lan);
    }
}

#[test]
fn a_measurement_tells_what_the_way_is_like_in_proxy_mode() {
    if ready(&[]) {
        measured(By::Proxy);
    }
}

#[test]
fn who_cannot_be_measured_is_told_why() {
    if !ready(&[]) {
        return;
    }
    let (net, hosts) = Net::new(Carries::Both, &[&["a"], &["b"], &["c"]]);
    let control = format!("file:{}", net.shared().display());
    let common = ["--game", "minecraft", "--control", &control];
    let mut a = Node::run(&hosts[0], &common);
    let said = |output: &Output| {
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let alone = said(&bench(&hosts[0], &a, &[]));
    assert!(alone.contains("nobody else is in the party") && alone.contains("lanrage invite"), "{alone}");

    let invite = a.invite();
    let join = [&common[..], &["--join", &invite]].concat();
    let mut b = Node::run(&hosts[1], &[&join[..], &["--name", "Bert"]].concat());
    let mut c = Node::run(&hosts[2], &[&join[..], &["--name", "Cleo"]].concat());
    for other in [&b, &c] {
        a.path_to(other, seconds(20));
    }
    c.path_to(&b, seconds(20));
    b.path_to(&c, seconds(20));
    let which = said(&bench(&hosts[0], &a, &["--json"]));
    assert!(which.contains("2 others") && which.contains("Bert (") && which.contains("Cleo ("), "{which}");
    let nobody = said(&bench(&hosts[0], &a, &["Dora"]));
    assert!(nobody.contains("nobody in the party is called `Dora`"), "{nobody}");

    let mut first = lanrage(&hosts[0], &a.data, "bench");
    let first = first.args(["Bert", "--quick", "--json"]).stdout(std::process::Stdio::piped()).spawn();
    let first = first.expect("lanrage runs");
    std::thread::sleep(seconds(1));
    let busy = said(&bench(&hosts[2], &c, &["Bert"]));
    assert!(busy.contains("Bert is in another measurement") && busy.contains("try:"), "{busy}");
    assert!(object(&first.wait_with_output().expect("our own child"))["bulk"].is_object());

    b.kill();
    let gone = said(&bench(&hosts[0], &a, &["Bert"]));
    assert!(gone.contains("Bert does not answer") || gone.contains("no way to Bert"), "{gone}");
    c.stop();
    a.stop();
}
