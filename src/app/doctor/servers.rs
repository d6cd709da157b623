//! Looks at servers and relays from here: by TCP, by TLS on 443, by UDP. All at once, each with a limit.

use super::pc;
use super::targets::Targets;
use crate::app::config::relays::{RelayBy, RelayPlace};
use crate::host::checkup::page::{self, Visit};
use crate::host::checkup::stun::Asked;
use crate::host::control::ServerAddress;
use crate::host::control::choice::HTTPS_PORT;
use crate::host::tls::Trust;
use crate::model::checkup::{Finding, Mark, Section};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    name: String,
    /// Where it was asked for.
    asked: Result<Visit, String>,
    /// By TLS on 443, unless it was asked for there.
    https: Option<Result<Visit, String>>,
}

/// One relay that was named.
#[derive(Debug)]
pub(super) struct NamedRelay {
    name: String,
    tls: bool,
    addresses: Vec<SocketAddr>,
    tcp: Result<Duration, String>,
}

/// What was found out by TCP.
#[derive(Debug, Default)]
pub(super) struct Seen {
    servers: Vec<Server>,
    relays: Vec<NamedRelay>,
}

/// Visits all of them.
pub(super) async fn visit(targets: &Targets, patience: Duration) -> Seen {
    let servers = targets.servers.iter().map(|s| visit_one(s, patience));
    let relays = targets.relays.iter().map(|r| knock_one(r, patience));
    let (servers, relays) =
        tokio::join!(futures_util::future::join_all(servers), futures_util::future::join_all(relays));
    Seen { servers, relays }
}

async fn visit_one(address: &ServerAddress, patience: Duration) -> Server {
    let asked_trust = address.tls.then(|| address.pin.map_or(Trust::Roots, Trust::Pinned));
    let other = !(address.tls && address.port == HTTPS_PORT);
    let trust = asked_trust.unwrap_or(Trust::Anyone);
    let https = async {
        if other { Some(page::visit(address, HTTPS_PORT, Some(trust), patience).await) } else { None }
    };
    let (asked, https) = tokio::join!(page::visit(address, address.port, asked_trust, patience), https);
    let words = |no: page::NoVisit| no.why;
    Server { name: address.authority(), asked: asked.map_err(words), https: https.map(|h| h.map_err(words)) }
}

async fn knock_one(relay: &RelayPlace, patience: Duration) -> NamedRelay {
    let looked = tokio::time::timeout(patience, page::look_up(&relay.host, relay.port)).await;
    let found =
        looked.map_or_else(|_| Err("the name was not found in time".to_owned()), |f| f.map_err(|no| no.why));
    let (addresses, tcp) = match found {
        Ok(addresses) => {
            let tcp = page::knock(&addresses, patience).await;
            (addresses, tcp)
        }
        Err(why) => (Vec::new(), Err(why)),
    };
    NamedRelay {
        name: format!("{}:{}", relay.host, relay.port),
        tls: relay.by == RelayBy::Tls,
        addresses,
        tcp,
    }
}

impl Seen {
    /// Where STUN may be asked.
    pub(super) fn stun(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self.servers.iter().flat_map(Server::relays).collect();
        let named = self.relays.iter().filter(|r| !r.tls).flat_map(|r| r.addresses.iter().copied().take(2));
        all.extend(named);
        let mut seen = Vec::new();
        all.retain(|a| {
            !seen.contains(a) && {
                seen.push(*a);
                true
            }
        });
        all
    }

    /// Whether anything was reached by TCP.
    pub(super) fn tcp(&self) -> bool {
        self.servers.iter().any(|s| s.visit().is_some()) || self.relays.iter().any(|r| r.tcp.is_ok())
    }

    /// The findings; `blocked`: no UDP gets anywhere, which is told elsewhere.
    pub(super) fn findings(&self, udp: &Asked, folders: &[std::path::PathBuf]) -> Vec<Finding> {
        let any = udp.servers.iter().any(|(_, took)| took.is_some());
        let mut out: Vec<Finding> = self.servers.iter().map(|s| s.finding(udp, any)).collect();
        out.extend(self.relays.iter().map(|r| r.finding(udp, any)));
        out.extend(folders.iter().map(|f| folder(f)));
        let clock = self.servers.iter().find_map(|s| Some((s.name.as_str(), s.visit()?.ahead?)));
        out.extend(clock.map(|(name, ahead)| pc::clock(name, ahead)));
        out
    }
}

impl Server {
    fn visit(&self) -> Option<&Visit> {
        self.asked.as_ref().ok().or_else(|| self.https.as_ref()?.as_ref().ok())
    }

    fn relays(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.visit().into_iter().flat_map(|v| v.relays.iter().copied())
    }

    fn finding(&self, udp: &Asked, any_udp: bool) -> Finding {
        let name = &self.name;
        let Some(visit) = self.visit() else {
            let why = self.asked.as_ref().err().map_or("no answer", String::as_str);
            let also = if self.https.is_some() { ", and not by TLS on 443 either" } else { "" };
            return finding(
                Mark::Problem,
                "server_unreachable",
                format!("{name} is not reached: {why}{also}"),
            )
            .with_try("check the address; ask the server's owner whether it runs and its port is open");
        };
        let relays: Vec<SocketAddr> = self.relays().collect();
        let took = relays.iter().find_map(|r| answered(udp, *r));
        let mut ways = vec![format!(
            "{} in {}",
            if self.asked.is_ok() { "TCP" } else { "TLS on 443" },
            milliseconds(visit.took)
        )];
        ways.extend(took.map(|(at, t)| format!("UDP {} in {}", at.port(), milliseconds(t))));
        ways.extend(
            self.https.as_ref().filter(|h| h.is_ok() && self.asked.is_ok()).map(|_| "TLS on 443".to_owned()),
        );
        let ways = ways.join(", ");
        if self.asked.is_err() {
            let found =
                format!("{name} is reached only by {ways}: this network lets nothing but the web out");
            return finding(Mark::Note, "server_by_443", found)
                .with_try("nothing needs to be done, but other networks are faster");
        }
        if relays.is_empty() {
            return finding(
                Mark::Note,
                "server_no_relay",
                format!(
                    "{name} answers ({ways}), but brings no relay for those who cannot be connected directly"
                ),
            )
            .with_try("its owner should not start it with --no-relay; or name a relay with --relay");
        }
        if took.is_none() && any_udp {
            return finding(
                Mark::Problem,
                "server_no_udp",
                format!(
                    "{name} answers ({ways}), but not by UDP {}",
                    relays.first().map_or(0, SocketAddr::port)
                ),
            )
            .with_try("its owner should open that UDP port in the server's firewall");
        }
        finding(Mark::Ok, "server_ok", format!("{name} answers ({ways})"))
    }
}

impl NamedRelay {
    fn finding(&self, udp: &Asked, any_udp: bool) -> Finding {
        let name = &self.name;
        let took = self.addresses.iter().find_map(|r| answered(udp, *r));
        match (took, &self.tcp) {
            (Some((_, took)), _) => finding(
                Mark::Ok,
                "relay_ok",
                format!("the relay {name} answers (UDP in {})", milliseconds(took)),
            ),
            (None, Ok(took)) if self.tls || !any_udp => finding(
                Mark::Ok,
                "relay_by_tcp",
                format!("the relay {name} answers (TCP in {})", milliseconds(*took)),
            ),
            (None, Ok(took)) => finding(
                Mark::Note,
                "relay_no_udp",
                format!("the relay {name} answers by TCP (in {}), but not by UDP", milliseconds(*took)),
            )
            .with_try("its owner should open that UDP port in the relay's firewall"),
            (None, Err(why)) => {
                finding(Mark::Problem, "relay_unreachable", format!("the relay {name} is not reached: {why}"))
                    .with_try("check the address, and whether the relay runs")
            }
        }
    }
}

fn folder(dir: &Path) -> Finding {
    match std::fs::read_dir(dir) {
        Ok(_) => finding(Mark::Ok, "folder_ok", format!("the shared folder {} is there", dir.display())),
        Err(e) => finding(
            Mark::Problem,
            "folder_unreachable",
            format!("the shared folder {} cannot be read: {e}", dir.display()),
        )
        .with_try("mount it, or name another with --control file:DIR"),
    }
}

fn answered(udp: &Asked, relay: SocketAddr) -> Option<(SocketAddr, Duration)> {
    udp.servers.iter().find(|(s, _)| *s == relay).and_then(|(s, took)| Some((*s, (*took)?)))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

fn finding(mark: Mark, code: &str, found: impl Into<String>) -> Finding {
    Finding::new(Section::Servers, mark, code, found)
}
