//! The task that keeps a port open: rounds, when the next one is due, and giving everything back.

use super::epoch::Epoch;
use super::{Grant, Site, Why, ask, give_back};
use crate::engine::effect::{HostFact, Lease};
use crate::host::cards;
use crate::model::nat::PortMapping;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// All of them; the order in which they are told.
const ALL: [PortMapping; 3] = [PortMapping::Upnp, PortMapping::NatPmp, PortMapping::Pcp];
/// Between the starts of two rounds, however often somebody asks.
const PAUSE: Duration = Duration::from_secs(1);
/// After a round that brought nothing although there had been a port: the router restarts. Doubles up to `RARELY`.
const RETRY: Duration = Duration::from_secs(1);
/// Between rounds where there never was a port: a few packets, in case somebody switches it on.
const RARELY: Duration = Duration::from_secs(300);
/// The shortest and the longest time until ports are renewed.
const RENEW: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(1800)];
/// How long routers' announcements are not heeded after one that was: anybody on the LAN can send them.
const DEAF: Duration = Duration::from_secs(10);
/// How long giving everything back may take.
const FAREWELL: Duration = Duration::from_millis(300);

type Answer = (PortMapping, Result<Grant, Why>);

/// What the task is made of.
#[derive(Debug)]
pub struct LeaseSetup {
    /// Where the tunnel's IPv4 socket is bound.
    pub local: SocketAddr,
    /// What makes mappings ours across restarts (PCP); secret, always the same for this node.
    pub nonce: [u8; 12],
    /// "Ask again": the engine wants it, or the way to the internet changed.
    pub again: Arc<Notify>,
    /// To the node.
    pub facts: mpsc::Sender<HostFact>,
    /// Give everything back and end.
    pub stop: CancellationToken,
}

/// Starts the task. It ends within 300 ms after `stop`.
#[must_use]
pub fn spawn(setup: LeaseSetup) -> JoinHandle<()> {
    tokio::spawn(async move {
        let stop = setup.stop.clone();
        let mut keeper = Keeper::new(setup);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = keeper.run() => {}
        }
        let _ = timeout(FAREWELL, keeper.give_all_back()).await;
    })
}

/// One protocol.
struct Try {
    by: PortMapping,
    /// When it was asked last, or will be.
    asked: Instant,
    /// It has answered in this round; what it came to before stands until then.
    fresh: bool,
    /// Somebody doubted everything while its answer was under way: it is to be asked once more.
    doubted: bool,
    outcome: Option<Result<Grant, Why>>,
}

impl Try {
    fn grant(&self) -> Option<&Grant> {
        self.outcome.as_ref()?.as_ref().ok()
    }

    /// What it offers in this round.
    fn lease(&self) -> Option<Lease> {
        let grant = self.grant().filter(|grant| self.fresh && grant.is_good())?;
        Some(Lease { external: grant.external, by: grant.by })
    }

    fn begin(&mut self, when: Instant, site: &Site, asking: &mut JoinSet<Answer>) {
        (self.asked, self.fresh, self.doubted) = (when, false, false);
        let (by, site, known) = (self.by, site.clone(), self.grant().cloned());
        asking.spawn(async move {
            sleep_until(when).await;
            (by, ask(by, &site, known.as_ref()).await)
        });
    }

    fn begin_again(&mut self, site: &Site, asking: &mut JoinSet<Answer>) {
        self.begin(Instant::now().max(self.asked + PAUSE), site, asking);
    }

    /// For people.
    fn words(&self) -> Option<(PortMapping, String)> {
        let words = match self.outcome.as_ref()? {
            Ok(grant) => grant.words(),
            Err(why) => why.to_string(),
        };
        Some((self.by, words))
    }
}

struct Keeper {
    setup: LeaseSetup,
    news: Option<UdpSocket>,
    site: Option<Site>,
    tries: [Try; 3],
    /// What the engine knows.
    told: Option<Lease>,
    epoch: Option<Epoch>,
    /// This router gave us a port before.
    had: bool,
    started: Instant,
    deaf_until: Instant,
}

impl Keeper {
    fn new(setup: LeaseSetup) -> Self {
        let started = Instant::now();
        Self {
            setup,
            news: ask::news_socket(),
            site: None,
            tries: ALL.map(|by| Try { by, asked: started, fresh: false, doubted: false, outcome: None }),
            told: None,
            epoch: None,
            had: false,
            started,
            deaf_until: started,
        }
    }

    /// Until the node is gone.
    async fn run(&mut self) {
        let mut retry = RETRY;
        while !self.setup.facts.is_closed() {
            let began = Instant::now();
            self.round().await;
            let due = if self.told.is_some() {
                retry = RETRY;
                began + self.half_life()
            } else if self.had {
                let due = Instant::now() + retry;
                retry = (retry * 2).min(RARELY);
                due
            } else {
                Instant::now() + RARELY
            };
            self.wait(due).await;
            sleep_until(began + PAUSE).await;
        }
    }

    fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.tries.iter().filter_map(Try::grant)
    }

    fn half_life(&self) -> Duration {
        let shortest = self.grants().filter(|g| g.is_good()).map(|g| g.lifetime).min();
        shortest.map_or(RARELY, |life| (life / 2).clamp(RENEW[0], RENEW[1]))
    }

    /// Until the next round.
    async fn wait(&mut self, due: Instant) {
        let restarted = async {
            let Some(site) = &self.site else { return std::future::pending().await };
            sleep_until(self.deaf_until).await;
            loop {
                let value = ask::news(self.news.as_ref(), site).await;
                let epoch = Epoch::new(value, self.started.elapsed());
                if self.epoch.is_none_or(|before| before.ended_before(&epoch)) {
                    return;
                }
            }
        };
        tokio::select! {
            () = sleep_until(due) => {}
            () = self.setup.again.notified() => {}
            () = restarted => {
                tracing::info!("the router says that it restarted");
                self.deaf_until = Instant::now() + DEAF;
            }
        }
    }
}

impl Keeper {
    /// Asks all three at once and uses the first good answer.
    async fn round(&mut self) {
        loop {
            let site = self.look().await;
            let Some(site) = site else {
                let none = ALL.map(|by| (by, "there is no router to ask".to_owned())).to_vec();
                let _ = self.setup.facts.send(HostFact::LeaseReport(none)).await;
                return;
            };
            if self.ask_all(&site).await {
                return;
            }
        }
    }

    /// Where we are now. What was granted by another router is worth nothing here.
    async fn look(&mut self) -> Option<Site> {
        let (local, nonce) = (self.setup.local, self.setup.nonce);
        let look = move || Site::find(&cards::ways(), local, nonce);
        let site = tokio::task::spawn_blocking(look).await.ok().flatten();
        if site != self.site {
            self.tries.iter_mut().for_each(|t| t.outcome = None);
            (self.epoch, self.had) = (None, false);
            self.site.clone_from(&site);
            self.tell_lease(None).await;
        }
        site
    }

    /// One round at this router. False when this computer was moved meanwhile.
    async fn ask_all(&mut self, site: &Site) -> bool {
        let mut asking = JoinSet::new();
        self.tries.iter_mut().for_each(|t| t.begin(Instant::now(), site, &mut asking));
        loop {
            let answer = tokio::select! {
                answer = asking.join_next() => answer,
                () = self.setup.again.notified() => {
                    if self.look().await.as_ref() != Some(site) {
                        return false;
                    }
                    // The answers so far, and those under way, may be from before whatever made them ask.
                    for tried in &mut self.tries {
                        if tried.fresh {
                            tried.begin_again(site, &mut asking);
                        } else {
                            tried.doubted = true;
                        }
                    }
                    continue;
                }
            };
            let Some(answer) = answer else { break };
            // A task that panicked is a mistake of ours; the others go on.
            let Ok((by, outcome)) = answer else { continue };
            tracing::debug!(by = by.word(), ?outcome, "the router was asked for a port");
            let doubted = self.tries.iter().any(|t| t.by == by && t.doubted);
            // A port is told even then: most doubts are about other things than the router.
            if !doubted || outcome.is_ok() {
                self.take(by, outcome).await;
                self.choose(false).await;
            }
            if let Some(tried) = self.tries.iter_mut().find(|t| t.by == by && doubted) {
                tried.begin_again(site, &mut asking);
            }
        }
        self.choose(true).await;
        true
    }

    async fn take(&mut self, by: PortMapping, outcome: Result<Grant, Why>) {
        if let Ok(Some(value)) = outcome.as_ref().map(|grant| grant.epoch) {
            let epoch = Epoch::new(value, self.started.elapsed());
            if self.epoch.replace(epoch).is_some_and(|before| before.ended_before(&epoch)) {
                tracing::info!("the router restarted since it was last asked");
            }
        }
        if let Some(tried) = self.tries.iter_mut().find(|t| t.by == by) {
            (tried.outcome, tried.fresh) = (Some(outcome), true);
        }
        let report = self.tries.iter().filter_map(Try::words).collect();
        let _ = self.setup.facts.send(HostFact::LeaseReport(report)).await;
    }

    /// Tells the engine which port to use: the one it knows as long as that may still hold, else the first good one of
    /// this round, which is at its `end` or not.
    async fn choose(&mut self, end: bool) {
        let first = self.tries.iter().find_map(Try::lease);
        let known = self.told.and_then(|told| self.tries.iter().find(|t| t.by == told.by));
        let chosen = match (self.told, known) {
            (Some(_), Some(known)) if known.fresh => known.lease().or(first),
            // The other may take seconds to say nothing. Another outside address says enough; else it is no news.
            (Some(told), _) if !end => first.filter(|l| l.external.ip() != told.external.ip()).or(self.told),
            _ => first,
        };
        // With answers outstanding, none so far is no reason to give up what was told.
        if chosen.is_some() || end {
            self.tell_lease(chosen).await;
        }
    }

    async fn tell_lease(&mut self, lease: Option<Lease>) {
        if self.told != lease {
            self.told = lease;
            self.had |= lease.is_some();
            let _ = self.setup.facts.send(HostFact::Leased(lease)).await;
        }
    }

    async fn give_all_back(&mut self) {
        let Some(site) = self.site.clone() else { return };
        let mut giving = JoinSet::new();
        for grant in self.grants().cloned() {
            let site = site.clone();
            giving.spawn(async move {
                if let Err(why) = give_back(&site, &grant).await {
                    tracing::debug!(by = grant.by.word(), %why, "a port was not given back");
                }
            });
        }
        while giving.join_next().await.is_some() {}
    }
}
