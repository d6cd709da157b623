//! The beacon: members of one party in one house find each other with no server at all, by DNS-SD (RFC 6762, RFC 6763).
//!
//! Announced is a service `_lanrage._udp` with a random name, the port of the tunnel's socket, and a tag that only
//! members can tell from noise: it is made with a key from the party's secret over a salt of its own. Neither the party nor the
//! player is named, and the name is new at every start. What is found is only a place to knock at (`engine::knock`); a
//! recorded beacon leads nowhere.
//!
//! It speaks and listens on the physical cards alone, never on lanrage's own device, and follows them as they come and
//! go. Addresses count only when they lie in a network of one of the cards: a beacon is about this house. Dropping it says
//! goodbye, so that neighbours forget it at once.

use crate::engine::effect::HostFact;
use crate::host::threads;
use crate::model::addr::Card;
use crate::model::dice::Dice;
use crate::model::id::CardId;
use crate::model::key::PartyKeys;
use crate::model::status::Trouble;
use crate::model::text::{decode, encode};
use mdns_sd::{IfKind, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// The kind of service.
const SERVICE: &str = "_lanrage._udp.local.";
/// Cards that come and go are told to the library; only an address that changes on a card it looks for itself, this often, in
/// seconds. Its own five wake an idle computer for nothing.
const ADDRESSES_EVERY: u32 = 30;
/// What is found is told again this often, because a knock may fail while a network is down.
const AGAIN: Duration = Duration::from_secs(60);
/// Services remembered: far more players than a house has, and a bound for whoever makes them up.
const SERVICES: usize = 128;
/// Addresses of one service that count.
const OF_A_SERVICE: usize = 8;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(300);

/// What the beacon and the thread that listens share.
#[derive(Debug)]
struct Shared {
    keys: PartyKeys,
    cards: Vec<Card>,
    /// Our own service's full name.
    own: String,
}

/// A beacon while it shines.
#[derive(Debug)]
pub struct Beacon {
    daemon: Daemon,
    port: u16,
    shared: Arc<Mutex<Shared>>,
    on: BTreeSet<CardId>,
    dice: Dice,
}

struct Daemon(ServiceDaemon);

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Daemon(..)")
    }
}

impl Beacon {
    /// Announces this node's tunnel port on these cards and looks for others; what is found goes to `facts`.
    ///
    /// # Errors
    /// `no_beacon`, with what the system refused; the party can do without.
    pub fn start(
        keys: PartyKeys,
        port: u16,
        cards: &[Card],
        dice: Dice,
        facts: mpsc::Sender<HostFact>,
    ) -> Result<Self, Trouble> {
        let daemon = ServiceDaemon::new().map_err(|e| refused(&e))?;
        daemon.disable_interface(IfKind::All).map_err(|e| refused(&e))?;
        daemon.set_ip_check_interval(ADDRESSES_EVERY).map_err(|e| refused(&e))?;
        let shared = Arc::new(Mutex::new(Shared { keys, cards: Vec::new(), own: String::new() }));
        let mut beacon = Self { daemon: Daemon(daemon), port, shared, on: BTreeSet::new(), dice };
        beacon.follow(cards);
        beacon.announce().map_err(|e| refused(&e))?;
        let found = beacon.daemon.0.browse(SERVICE).map_err(|e| refused(&e))?;
        let shared = Arc::clone(&beacon.shared);
        threads::named("beacon", move || listen(&found, &shared, &facts))?;
        Ok(beacon)
    }

    /// These are the cards now.
    pub fn follow(&mut self, cards: &[Card]) {
        let now: BTreeSet<CardId> = cards.iter().map(|card| card.id).collect();
        let both = |id: &CardId| [IfKind::IndexV4(id.0), IfKind::IndexV6(id.0)];
        let came: Vec<IfKind> = now.difference(&self.on).flat_map(both).collect();
        let went: Vec<IfKind> = self.on.difference(&now).flat_map(both).collect();
        // A queue that is full is tried again at the next change.
        let told = (came.is_empty() || self.daemon.0.enable_interface(came).is_ok())
            && (went.is_empty() || self.daemon.0.disable_interface(went).is_ok());
        if told {
            self.on = now;
        }
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).cards = cards.to_vec();
    }

    /// The party was re-keyed: another tag, under another name.
    pub fn rekeyed(&mut self, keys: PartyKeys) {
        let old = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.keys = keys;
            shared.own.clone()
        };
        // The answer to this is of no interest: the old name ends by itself.
        drop(self.daemon.0.unregister(&old));
        if let Err(error) = self.announce() {
            tracing::debug!(%error, "the beacon has no new name");
        }
    }

    fn announce(&mut self) -> Result<(), mdns_sd::Error> {
        let name = encode(&self.dice.bytes::<10>());
        let salt = self.dice.bytes::<10>();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = encode(&shared.keys.beacon_tag(&salt));
        let salt = encode(&salt);
        let text = [("v", "1"), ("s", salt.as_str()), ("t", tag.as_str())];
        let mut info = ServiceInfo::new(SERVICE, &name, &format!("{name}.local."), "", self.port, &text[..])?
            .enable_addr_auto();
        // A name of 80 random bits is nobody else's: announce without asking first.
        info.set_requires_probe(false);
        shared.own = info.get_fullname().to_owned();
        self.daemon.0.register(info)
    }
}

impl Drop for Beacon {
    fn drop(&mut self) {
        let own = self.shared.lock().unwrap_or_else(PoisonError::into_inner).own.clone();
        if let Ok(done) = self.daemon.0.unregister(&own) {
            let _ = done.recv_timeout(GOODBYE);
        }
        let _ = self.daemon.0.shutdown();
    }
}

fn refused(error: &mdns_sd::Error) -> Trouble {
    Trouble::new(
        "no_beacon",
        format!("players in the same house are not found by themselves: {error}"),
        "the invite still leads to this computer; switch the beacon off with `beacon = false` to hear this no more",
    )
}

/// Until the daemon stops: hands on where members are.
fn listen(found: &Receiver<ServiceEvent>, shared: &Mutex<Shared>, facts: &mpsc::Sender<HostFact>) {
    let mut places: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    loop {
        let news = match found.recv_timeout(AGAIN) {
            Ok(ServiceEvent::ServiceResolved(service)) => {
                let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let at = members(&service, &shared);
                drop(shared);
                if at.is_empty() || places.len() >= SERVICES && !places.contains_key(&service.fullname) {
                    continue;
                }
                places.insert(service.fullname.clone(), at.clone());
                at
            }
            Ok(ServiceEvent::ServiceRemoved(_, name)) => {
                places.remove(&name);
                continue;
            }
            Err(mdns_sd::RecvTimeoutError::Timeout) => places.values().flatten().copied().collect(),
            Err(mdns_sd::RecvTimeoutError::Disconnected) => return,
            Ok(_) => continue,
        };
        if !news.is_empty() && facts.blocking_send(HostFact::Beacon(news)).is_err() {
            return;
        }
    }
}

/// Where a service is, if it is a member's and in this house.
fn members(service: &ResolvedService, shared: &Shared) -> Vec<SocketAddr> {
    let text = |key: &str| service.txt_properties.get_property_val_str(key);
    let bytes = |key: &str| text(key).filter(|t| t.len() <= 64).and_then(|t| decode(t).ok());
    let (Some("1"), Some(salt), Some(tag)) = (text("v"), bytes("s"), bytes("t")) else { return Vec::new() };
    if service.fullname == shared.own || service.port == 0 || tag != shared.keys.beacon_tag(&salt) {
        return Vec::new();
    }
    let near = |at: &SocketAddr| shared.cards.iter().flat_map(|c| &c.nets).any(|net| net.contains(at.ip()));
    let mut at: Vec<SocketAddr> = service
        .addresses
        .iter()
        .map(|a| SocketAddr::new(a.to_ip_addr(), service.port))
        .filter(near)
        .collect();
    // The crate keeps them in a set without an order.
    at.sort();
    at.dedup();
    at.truncate(OF_A_SERVICE);
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::addr::Net;
    use crate::model::id::PartyId;
    use crate::model::key::PartySecret;

    fn keys(secret: u8) -> PartyKeys {
        PartyKeys::new(PartyId([7; 10]), 0, &PartySecret([secret; 16]))
    }

    fn service(salt: &[u8], tag: &str, addresses: &str) -> ResolvedService {
        let salt = encode(salt);
        let text = [("v", "1"), ("s", salt.as_str()), ("t", tag)];
        ServiceInfo::new(SERVICE, "x", "x.local.", addresses, 4000, &text[..]).unwrap().as_resolved_service()
    }

    fn shared() -> Shared {
        let nets = vec![Net { addr: "192.168.7.5".parse().unwrap(), prefix: 24 }];
        let card = Card { id: CardId(2), name: "eth0".into(), nets, default_route: true };
        Shared { keys: keys(1), cards: vec![card], own: "own".into() }
    }

    #[test]
    fn only_a_members_beacon_in_this_house_is_followed() {
        let salt = [9; 10];
        let tag = encode(&keys(1).beacon_tag(&salt));
        let at = members(&service(&salt, &tag, "192.168.7.9,8.8.8.8,fe80::1"), &shared());
        assert_eq!(at, ["192.168.7.9:4000".parse().unwrap()]);
        let other = encode(&keys(2).beacon_tag(&salt));
        for (salt, tag) in [(&salt, other.as_str()), (&[8; 10], &tag), (&salt, ""), (&salt, "not base 32 !")]
        {
            assert!(members(&service(salt, tag, "192.168.7.9"), &shared()).is_empty());
        }
        let own = Shared { own: format!("x.{SERVICE}"), ..shared() };
        assert!(members(&service(&salt, &tag, "192.168.7.9"), &own).is_empty(), "not our own");
    }
}
