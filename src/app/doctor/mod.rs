//! `lanrage doctor`: looks at this computer, its router, the servers and, with a party running, at each pair. It asks everything
//! at once and tells what came back within six seconds; it changes nothing that is not given back.
//!
//! `targets` says what is looked at; `host::checkup` looks; `pc`, `router`, `servers`, `party` and `plugins` say what that means. What a running
//! node knows of its own tunnel comes before what is asked here.

mod party;
mod pc;
mod plugins;
mod router;
mod servers;
mod targets;

use super::config;
use super::config::layers::Variables;
use super::failure::Failure;
use super::ipc::{Answer, Client, Request};
use crate::host::checkup::stun::{self, Asked};
use crate::host::checkup::{firewall, rights};
use crate::host::{cards, entropy, lease, store, threads};
use crate::model::addr::Subnet;
use crate::model::checkup::{Checkup, Finding, Mark, Section};
use crate::model::dice::Seed;
use crate::model::status::NatStatus;
use crate::ui::cli::args::{DoctorArgs, GlobalArgs};
use party::Running;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use targets::Targets;
use tokio::time::timeout;

/// For the running node to answer.
const NODE: Duration = Duration::from_millis(1500);
/// For a server to answer by TCP.
const VISIT: Duration = Duration::from_millis(2000);
/// For servers to answer by UDP: the prober's four copies take one and a half seconds.
const STUN: Duration = Duration::from_millis(2200);
/// For the router to open a port: it says nothing within three seconds where there is none.
const LEASE: Duration = Duration::from_millis(4000);
/// Name lookups that hang are not waited for.
const SHUTDOWN: Duration = Duration::from_millis(50);

/// Looks.
///
/// # Errors
/// When the settings cannot be read, or something that was named makes no sense.
pub fn doctor(global: &GlobalArgs, args: &DoctorArgs, variables: &Variables) -> Result<Checkup, Failure> {
    let begun = Instant::now();
    let layers = config::for_doctor(global, args, variables)?;
    layers.warnings.iter().for_each(|w| tracing::warn!("{w}"));
    let data_dir = config::data_dir(global, &layers)?;
    let adapter = config::adapter_name(&layers)?;
    let runtime = threads::slow_runtime()?;
    let looked = runtime.block_on(async {
        let (running, mut said) = running(&data_dir).await;
        let (last, port) = store::glance(&data_dir);
        let controls = running.as_ref().map(Running::controls);
        let targets = Targets::choose(&layers, &args.relay, controls.as_deref(), &last)?;
        let mapping = layers.maybe_switch("port_mapping")?.unwrap_or(true);
        let look = Look { running, targets, adapter, port, mapping, seed: entropy::seed()? };
        let mut checkup = look.all().await;
        said.append(&mut checkup.findings);
        checkup.findings = said;
        Ok::<_, Failure>(checkup)
    });
    runtime.shutdown_timeout(SHUTDOWN);
    let mut checkup = looked?;
    checkup.findings.sort_by_key(|f| f.section);
    checkup.ok = checkup.count(Mark::Problem) == 0;
    checkup.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(checkup)
}

/// What the node of this folder says, if one runs; and what is to be said about it.
async fn running(data_dir: &Path) -> (Option<Running>, Vec<Finding>) {
    let dir: PathBuf = data_dir.to_path_buf();
    let ask = tokio::task::spawn_blocking(move || {
        let status = Client::new(&dir).ask(Request::Status)?;
        // An older node does not know this question, and has no plugins.
        let said = Client::new(&dir).ask(Request::Check);
        Ok::<_, Failure>((
            status,
            if let Ok(Answer::Check { plugins }) = said { plugins } else { Vec::new() },
        ))
    });
    let silent = |why: &str| {
        let finding = Finding::new(Section::Party, Mark::Problem, "node_silent", why.to_owned())
            .with_try("stop it with Ctrl-C and start it again");
        (None, vec![finding])
    };
    match timeout(NODE, ask).await {
        Ok(Ok(Ok((Answer::Status { status }, said)))) => match Running::read(&status) {
            Some(running) => (Some(running), plugins::findings(&said)),
            None => silent("the running node is of another version and is not understood"),
        },
        // No node runs, which is no fault.
        Ok(Ok(Err(failure))) if failure.trouble.code == "no_node" => (None, Vec::new()),
        Ok(Ok(Err(failure))) if failure.trouble.code == "not_allowed" => {
            let finding =
                Finding::new(Section::Party, Mark::Note, "node_of_another", failure.trouble.message)
                    .with_try("sudo lanrage doctor: then the way to each player is told too");
            (None, vec![finding])
        }
        Ok(Ok(Err(failure))) => silent(&failure.trouble.message),
        Ok(Ok(Ok(_)) | Err(_)) | Err(_) => silent("the running node does not answer"),
    }
}

struct Look {
    running: Option<Running>,
    targets: Targets,
    adapter: String,
    port: Option<u16>,
    /// The router may be asked for a port.
    mapping: bool,
    seed: Seed,
}

impl Look {
    async fn all(self) -> Checkup {
        let adapter = self.adapter.clone();
        let looking = tokio::task::spawn_blocking(move || (cards::list(&adapter), rights::rights()));
        let (cards, rights) = looking.await.unwrap_or_default();
        let locals: Vec<IpAddr> = cards.iter().flat_map(|c| &c.nets).map(|n| n.addr).collect();
        let ((seen, udp), asked, firewall) = tokio::join!(
            self.servers(&locals),
            self.router(),
            firewall::look(&self.adapter, self.port.unwrap_or(0)),
        );
        let nat = self.nat(&udp, &asked);
        let ipv6 =
            locals.iter().any(|ip| matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xe000 == 0x2000));
        let reached = self.running.as_ref().is_some_and(Running::has_relay);
        let reach = router::Reach { asked: udp.servers.len(), tcp: seen.tcp() || reached, ipv6 };
        let default = cards.iter().find(|c| c.default_route).map_or("", |c| c.name.as_str());
        let pc = pc::Pc {
            runs: self.running.as_ref().map(Running::mode),
            rights,
            cards: &cards,
            default: rights::card(default),
            subnet: self.subnet(),
            firewall,
            adapter: &self.adapter,
            port: self.port,
        };
        let mut findings = pc.findings();
        findings.extend(router::findings(&nat, reach));
        findings.extend(seen.findings(&udp, &self.targets.folders));
        findings.extend(self.running.iter().flat_map(Running::findings));
        Checkup {
            ok: true,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            party: self.running.as_ref().map(|r| r.party.clone()),
            took_ms: 0,
            nat,
            findings,
        }
    }

    /// What a running node knows comes first; before it found out anything, what was seen here.
    fn nat(&self, udp: &Asked, asked: &[lease::Answer]) -> NatStatus {
        let seen = router::status(&udp.v4, &udp.v6, &udp.seen, asked);
        match &self.running {
            None => seen,
            Some(Running { nat, .. }) if nat.udp.is_some() => nat.clone(),
            Some(Running { nat, .. }) => NatStatus {
                port_mapping: nat.port_mapping.clone(),
                mapped: nat.mapped,
                asked: nat.asked.clone(),
                ..seen
            },
        }
    }

    fn subnet(&self) -> Option<Subnet> {
        let running = self.running.as_ref().and_then(|r| r.address).map(|a: Ipv4Addr| {
            let [a, b, c, _] = a.octets();
            Subnet([a, b, c])
        });
        running.or(self.targets.subnet)
    }

    async fn servers(&self, locals: &[IpAddr]) -> (servers::Seen, Asked) {
        let seen = if self.targets.is_empty() {
            servers::Seen::default()
        } else {
            servers::visit(&self.targets, VISIT).await
        };
        let servers = seen.stun();
        let dice = self.seed.dice("doctor");
        // Not from the tunnel's port: what a router remembers of it would tell of the last evening.
        let asked = stun::ask(&servers, locals, None, dice, STUN).await.unwrap_or_default();
        (seen, asked)
    }

    /// A running node has asked its router already; and whoever does not want it asked has said so.
    async fn router(&self) -> Vec<lease::Answer> {
        if self.running.is_some() || !self.mapping {
            return Vec::new();
        }
        let mut dice = self.seed.dice("doctor's port");
        // Any port of no use to others: it is given back before anybody could.
        let port = u16::try_from(50_000 + dice.below(15_000)).unwrap_or(50_000);
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        timeout(LEASE, lease::once(local, dice.bytes(), LEASE)).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    /// The source without its tests.
    fn code_of(source: &'static str) -> &'static str {
        source.split("#[cfg(test)]").next().unwrap_or_default()
    }

    #[test]
    fn every_code_is_in_the_manual() {
        let page = include_str!("../../../docs/doctor.md");
        let sources = [
            code_of(include_str!("mod.rs")),
            code_of(include_str!("pc.rs")),
            code_of(include_str!("router.rs")),
            code_of(include_str!("servers.rs")),
            code_of(include_str!("party.rs")),
            code_of(include_str!("plugins.rs")),
        ];
        let mut count = 0;
        for rest in sources.iter().flat_map(|s| s.split("Mark::").skip(1)) {
            // `Mark::Ok, "code"`, on one line or two.
            let after = rest.split_once(',').map_or("", |(_, after)| after.trim_start());
            let Some(code) = after.strip_prefix('"').and_then(|a| a.split('"').next()) else { continue };
            count += 1;
            assert!(page.contains(&format!("`{code}`")), "{code} is missing in docs/doctor.md");
        }
        assert!(count > 40, "only {count} codes were found in the sources");
    }
}
