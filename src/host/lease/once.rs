//! Asks the router by all three protocols once and gives back what it gave: for `lanrage doctor`.

use super::{Site, Why, ask, give_back};
use crate::host::cards;
use crate::model::nat::PortMapping;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// All of them, in the order in which they are told.
const ALL: [PortMapping; 3] = [PortMapping::Upnp, PortMapping::NatPmp, PortMapping::Pcp];
/// How long giving a port back may take.
const FAREWELL: Duration = Duration::from_millis(300);

/// What asking by one protocol came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// By which.
    pub by: PortMapping,
    /// In words, those of `HostFact::LeaseReport`.
    pub said: String,
    /// The address of the internet that was forwarded for a moment.
    pub external: Option<SocketAddr>,
}

/// Asks for a port that leads to `local`, with the node's own `nonce` or any. Empty where there is no router to ask.
pub async fn once(local: SocketAddr, nonce: [u8; 12], patience: Duration) -> Vec<Answer> {
    let look = move || Site::find(&cards::ways(), local, nonce);
    let Some(site) = tokio::task::spawn_blocking(look).await.ok().flatten() else { return Vec::new() };
    let mut asking = JoinSet::new();
    for by in ALL {
        let site = site.clone();
        asking.spawn(async move {
            let asked = timeout(patience, ask(by, &site, None)).await.unwrap_or(Err(Why::NoAnswer));
            let Ok(grant) = asked else {
                let said = asked.map_or_else(|why| why.to_string(), |grant| grant.words());
                return Answer { by, said, external: None };
            };
            let _ = timeout(FAREWELL, give_back(&site, &grant)).await;
            Answer { by, said: grant.words(), external: grant.is_good().then_some(grant.external) }
        });
    }
    let mut answers: Vec<Answer> = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer);
    }
    answers.sort_by_key(|a| ALL.iter().position(|by| *by == a.by));
    answers
}
