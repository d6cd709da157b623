//! What `lanrage bench` measured, as a small table.
//!
//! The answer may come from another version of the program: what is missing is left out.

use super::screen::{cell, fold};
use super::words::clean;
use crate::model::limits;
use serde::Deserialize;
use serde_json::Value;
use std::net::SocketAddr;

/// What is shown of a measurement.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct View {
    name: String,
    took_ms: u64,
    cpu_ms: Option<u64>,
    path: Path,
    alone: Trip,
    beside: Option<Beside>,
    small: Carried,
    bulk: Carried,
    allowed_loss: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Path {
    kind: String,
    remote: Option<SocketAddr>,
    family: String,
    through: Option<String>,
    mtu: Option<u16>,
    changed: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Trip {
    packets: u32,
    bytes: u16,
    per_second: u32,
    rtt_ms: Option<Rtt>,
    loss: f64,
    duplicates: u32,
    reordered: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Rtt {
    min: f64,
    p50: f64,
    p99: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Beside {
    flow_mbit: f64,
    #[serde(flatten)]
    trip: Trip,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Carried {
    bytes: u16,
    there: Option<Rate>,
    back: Option<Rate>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Rate {
    per_second: f64,
    mbit: f64,
    loss: f64,
    duplicates: u32,
    reordered: u32,
    limit: String,
}

impl View {
    /// Reads the object that `bench --json` prints.
    ///
    /// # Errors
    /// When it is no such object.
    pub fn read(bench: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(bench)
    }

    /// Everything, for 80 columns.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = vec![fold(&self.head(), 80), String::new()];
        out.push(row("ROUND TRIP", ["MIN", "P50", "P99", "LOST"]));
        let told = |name: &str, trip: &Trip| {
            let times = trip.rtt_ms.map_or_else(Default::default, |t| [t.min, t.p50, t.p99].map(time));
            let [min, p50, p99] = &times;
            let many = format!("{} × {} bytes, {}/s", trip.packets, trip.bytes, trip.per_second);
            row(name, [min, p50, p99, &percent(trip.loss)]) + "  " + &many
        };
        out.push(told("alone", &self.alone));
        if let Some(beside) = &self.beside {
            let name = format!("beside {}", mbit(beside.flow_mbit));
            out.push(told(&name, &beside.trip));
        }
        out.push(String::new());
        out.push(row(&format!("LESS THAN {} LOST", percent(self.allowed_loss)), ["THERE", "", "BACK", ""]));
        let packets = |rate: &Rate| format!("{}/s", thousands(rate.per_second));
        let bits = |rate: &Rate| mbit(rate.mbit);
        out.push(carried(&self.small, packets));
        out.push(carried(&self.bulk, bits));
        out.push(String::new());
        out.push(fold(&self.foot(), 80));
        out.join("\n") + "\n"
    }

    fn head(&self) -> String {
        let path = &self.path;
        let how = match path.kind.as_str() {
            "lan" => "over your own network",
            "direct" => "directly",
            "relay" => "through a relay",
            _ => "in some way",
        };
        let name = clean(&self.name, limits::NAME_CHARS);
        let remote = path.remote.map_or_else(String::new, |to| format!(", at {to}"));
        let through = path.through.as_ref().map_or_else(String::new, |t| format!(" ({})", clean(t, 60)));
        let family = if path.family == "ipv6" { "IPv6" } else { "IPv4" };
        let mtu = path.mtu.unwrap_or(limits::MTU);
        format!(
            "{name} is reached {how}{through}{remote}; {family}, packets of up to {mtu} bytes in one piece"
        )
    }

    fn foot(&self) -> String {
        let rates = [&self.small.there, &self.small.back, &self.bulk.there, &self.bulk.back];
        let rates = rates.into_iter().flatten();
        let trips = [Some(&self.alone), self.beside.as_ref().map(|b| &b.trip)].into_iter().flatten();
        let both = rates.map(|r| (r.duplicates, r.reordered));
        let both = both.chain(trips.map(|t| (t.duplicates, t.reordered)));
        let (twice, late) = both.fold((0u64, 0u64), |(a, b), (x, y)| (a + u64::from(x), b + u64::from(y)));
        let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
        let cpu = self
            .cpu_ms
            .map_or_else(String::new, |ms| format!(", of which the node here computed for {}", seconds(ms)));
        let changed = if self.path.changed { "; the path changed meanwhile, so measure again" } else { "" };
        format!(
            "{twice} came twice, {late} came out of order; it took {}{cpu}{changed}",
            seconds(self.took_ms)
        )
    }
}

fn row(name: &str, cells: [&str; 4]) -> String {
    let mut out = format!("  {}", cell(name, 22));
    for text in cells {
        out.push_str(&cell(text, 10));
    }
    out.trim_end().to_owned()
}

fn carried(carried: &Carried, unit: impl Fn(&Rate) -> String) -> String {
    let told = |rate: &Option<Rate>| match rate {
        Some(rate) if matches!(rate.limit.as_str(), "sender" | "most" | "time") => {
            format!("{} or more", unit(rate))
        }
        Some(rate) => unit(rate),
        None => "not measured".to_owned(),
    };
    let name = format!("packets of {} bytes", carried.bytes);
    let line = format!("  {}{}{}", cell(&name, 22), cell(&told(&carried.there), 20), told(&carried.back));
    line.trim_end().to_owned()
}

/// A short time, so that a fast network's can be told apart.
fn time(ms: f64) -> String {
    match ms {
        _ if ms < 1.0 => format!("{ms:.2} ms"),
        _ if ms < 100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

fn mbit(mbit: f64) -> String {
    if mbit < 10.0 { format!("{mbit:.1} Mbit/s") } else { format!("{mbit:.0} Mbit/s") }
}

fn percent(share: f64) -> String {
    let percent = share.clamp(0.0, 1.0) * 100.0;
    let whole = (percent - percent.round()).abs() < 0.05;
    if whole { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// `64,000`: three figures of a number that is no more exact.
fn thousands(number: f64) -> String {
    let mut digits = format!("{:.0}", number.max(0.0));
    let exact = digits.len().min(3);
    let rest = digits.len() - exact;
    digits.truncate(exact);
    digits.push_str(&"0".repeat(rest));
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bench() -> Value {
        let rate = |per_second: f64, mbit: f64, limit: &str| json!({"per_second": per_second, "mbit": mbit, "loss": 0.002, "duplicates": 0, "reordered": 3, "limit": limit});
        json!({
            "peer": "bbbbbbbbbbbbbbbb", "name": "Bob\u{1b}[2J", "quick": false, "took_ms": 12_345, "cpu_ms": 1_870,
            "path": {"kind": "direct", "remote": "203.0.113.5:41641", "rtt_ms": 23.4, "loss": 0.0, "why": "first answer", "since": 720.2,
                     "mtu": null, "family": "ipv4", "through": null, "changed": false},
            "alone": {"packets": 200, "bytes": 100, "per_second": 100, "rtt_ms": {"min": 0.123, "p50": 23.44, "p99": 131.2}, "loss": 0.0,
                      "duplicates": 0, "reordered": 0},
            "beside": {"flow_mbit": 6.04, "packets": 256, "bytes": 200, "per_second": 128, "rtt_ms": {"min": 20.0, "p50": 30.0, "p99": 41.0},
                       "loss": 0.0125, "duplicates": 1, "reordered": 0},
            "small": {"bytes": 200, "there": rate(5_959.4, 9.5, "delay"), "back": rate(123_456.0, 197.5, "most")},
            "bulk": {"bytes": 1200, "there": rate(840.0, 8.06, "loss"), "back": null},
            "allowed_loss": 0.01
        })
    }

    #[test]
    fn the_table_tells_everything_in_eighty_columns() {
        let table = View::read(&bench()).unwrap().table();
        assert_eq!(
            table,
            "Bob[2J is reached directly, at 203.0.113.5:41641; IPv4, packets of up to 1400\n  bytes in one piece\n\n\
             \x20 ROUND TRIP            MIN       P50       P99       LOST\n\
             \x20 alone                 0.12 ms   23.4 ms   131 ms    0 %  200 × 100 bytes, 100/s\n\
             \x20 beside 6.0 Mbit/s     20.0 ms   30.0 ms   41.0 ms   1.2 %  256 × 200 bytes, 128/s\n\n\
             \x20 LESS THAN 1 % LOST    THERE               BACK\n\
             \x20 packets of 200 bytes  5,950/s             123,000/s or more\n\
             \x20 packets of 1200 bytes 8.1 Mbit/s          not measured\n\n\
             1 came twice, 9 came out of order; it took 12.3 s, of which the node here\n  computed for 1.8 s\n"
        );
    }

    #[test]
    fn an_answer_of_another_version_is_read_as_far_as_it_goes() {
        let strange = json!({"name": "Eve", "path": {"kind": "by pigeon"}, "small": {"there": {"limit": "weather"}}, "more": 1});
        let table = View::read(&strange).unwrap().table();
        assert!(table.contains("Eve is reached in some way") && table.contains("not measured"), "{table}");
        assert!(View::read(&json!([1])).is_err());
    }

    #[test]
    fn numbers_are_no_more_exact_than_they_are() {
        assert_eq!(
            ["7", "999", "1,230", "12,300"].map(str::to_owned),
            [7.2, 999.0, 1234.0, 12_345.0].map(thousands)
        );
        assert_eq!(percent(0.0102), "1 %");
        assert_eq!(thousands(-1.0), "0");
    }
}
