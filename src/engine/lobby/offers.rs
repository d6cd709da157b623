//! Credentials for the relay beside a control plane: made for one peer of one party, for half a day, and renewed when half of
//! that is over. Whoever is removed from a party keeps what it has until it expires; nothing is stored that could be struck
//! off. Half a day is an evening: a player who loses the server meanwhile keeps its relay.

use crate::model::relay::{RelayOffer, RelayWay};
use crate::model::time::Now;
use crate::wire::credential::{Bearer, RelaySecret};
use std::time::Duration;

/// How long credentials are good.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The relay, and what makes credentials for it.
#[derive(Debug, Clone)]
pub struct Offers {
    secret: RelaySecret,
    realm: String,
    ways: Vec<RelayWay>,
    lifetime: Duration,
}

impl Offers {
    /// Offers of the relay that has this secret and these ways to it.
    #[must_use]
    pub fn new(secret: RelaySecret, realm: impl Into<String>, ways: Vec<RelayWay>) -> Self {
        Self { secret, realm: realm.into(), ways, lifetime: LIFETIME }
    }

    /// With credentials that are good for so long.
    #[must_use]
    pub fn lasting(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// What this peer is offered now.
    #[must_use]
    pub fn made_for(&self, bearer: Bearer, now: Now) -> Vec<RelayOffer> {
        if self.ways.is_empty() {
            return Vec::new();
        }
        let expires = now.unix.saturating_add(self.lifetime).as_secs();
        let (username, password) = self.secret.mint(bearer, expires);
        let (ways, realm) = (self.ways.clone(), self.realm.clone());
        vec![RelayOffer { ways, username, password, realm, expires: Some(expires) }]
    }

    /// After how long it is offered anew.
    #[must_use]
    pub fn renewed_after(&self) -> Duration {
        (self.lifetime / 2).max(Duration::from_secs(1))
    }
}
