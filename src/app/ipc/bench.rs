//! `bench` at the node: whose way is meant, the engine's measurement, and what the status knows of the way beside it.

use super::server::command;
use super::{Answer, MEASUREMENT, find_peer};
use crate::app::bridge::NodeHandle;
use crate::host::clock;
use crate::host::drive::Outcome;
use crate::model::command::Command;
use crate::model::id::PeerId;
use crate::model::measure::{Bench, BenchPath, Measured};
use crate::model::status::{PathStatus, Status, Trouble};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout};

/// Measures the way to a peer, and waits until that is done.
pub(super) async fn bench(node: &NodeHandle, meant: Option<&str>, quick: bool) -> Result<Answer, Trouble> {
    static TICKETS: AtomicU64 = AtomicU64::new(1);
    let before = node.fresh_status().await;
    let (peer, name) = whom(&before, meant)?;
    let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
    let mut outcomes = node.measured.subscribe();
    let (began, cpu) = (Instant::now(), clock::cpu());
    command(node, Command::Measure { peer, quick, ticket }).await?;
    let measured = timeout(MEASUREMENT, outcome(&mut outcomes, ticket)).await.ok().flatten();
    let (took, cpu) =
        (began.elapsed(), cpu.zip(clock::cpu()).map(|(before, now)| now.saturating_sub(before)));
    let Some(measured) = measured else {
        let what = "the running node ended, or does not say what it measured";
        return Err(Trouble::new("no_answer", what, "see whether it still runs: `lanrage status`"));
    };
    let measured = Measured::clone(measured.as_ref().as_ref().map_err(Trouble::clone)?);
    let after = node.fresh_status().await;
    let Some(path) = path(&before, &after, peer) else {
        let what = format!("the way to {name} broke when it was measured");
        return Err(Trouble::new("bench_broke", what, "see `lanrage status`, and try again when it is back"));
    };
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let bench = Bench { peer, name, quick, took_ms: ms(took), cpu_ms: cpu.map(ms), path, measured };
    let bench = serde_json::to_value(bench);
    bench
        .map(|bench| Answer::Bench { bench })
        .map_err(|e| Trouble::new("internal", e.to_string(), "report this: it is a mistake in lanrage"))
}

/// The outcome with this ticket; `None` when the node is gone.
async fn outcome(
    outcomes: &mut broadcast::Receiver<Outcome>,
    ticket: u64,
) -> Option<Arc<Result<Measured, Trouble>>> {
    loop {
        match outcomes.recv().await {
            Ok((of, outcome)) if of == ticket => return Some(outcome),
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

/// The peer that is meant: the one that is named, else the only other one.
fn whom(status: &Status, meant: Option<&str>) -> Result<(PeerId, String), Trouble> {
    match (meant, status.peers.as_slice()) {
        (_, []) => Err(Trouble::new(
            "alone",
            "nobody else is in the party",
            "`lanrage invite` prints the invite for your friends",
        )),
        (Some(meant), _) => find_peer(status, meant),
        (None, [one]) => Ok((one.peer, one.name.clone())),
        (None, many) => {
            let names: Vec<_> = many.iter().map(|p| format!("{} ({})", p.name, p.peer)).collect();
            let what = format!("{} others are in the party", many.len());
            let hint = format!("name one, or the beginning of an id; here: {}", names.join(", "));
            Err(Trouble::new("which_peer", what, hint))
        }
    }
}

/// The way as it is now, and whether it was another one before.
fn path(before: &Status, after: &Status, peer: PeerId) -> Option<BenchPath> {
    let of = |status: &Status| status.peers.iter().find(|p| p.peer == peer).cloned();
    let (before, after) = (of(before), of(after)?);
    let path = after.path?;
    let through = after.ways.into_iter().find(|way| way.state == "in use").and_then(|way| way.through);
    let same = |old: &PathStatus| (old.kind, old.remote) == (path.kind, path.remote);
    Some(BenchPath {
        kind: path.kind,
        remote: path.remote,
        family: if path.remote.is_ipv4() { "ipv4" } else { "ipv6" },
        through,
        mtu: path.mtu,
        changed: !before.and_then(|p| p.path).is_some_and(|old| same(&old)),
        why: path.why,
    })
}
