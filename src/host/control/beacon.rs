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
//!
//! Everybody answers all the time, but looks for others only in the first minutes and when a card or network came: whoever is new
//! finds those who are there. DNS-SD asks for everything again before it expires, every two minutes for each service, and everybody wakes up
//! for every question and answer; an idle party is spared that.

use crate::engine::effect::HostFact;
use crate::host::threads;
use crate::model::addr::{Card, Net};
use crate::model::dice::Dice;
use crate::model::id::CardId;
use crate::model::key::PartyKeys;
use crate::model::status::Trouble;
use crate::model::text::{decode, encode};
use mdns_sd::{IfKind, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
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

/// How long others are looked for at the start and when a card came: the library asks seven times meanwhile.
const LOOK: Duration = Duration::from_secs(120);
/// How long it is not looked then,
const REST: Duration = Duration::from_secs(300);
/// before it is looked again for a moment, should all that was said have been lost.
const GLANCE: Duration = Duration::from_secs(10);
/// How long it is waited where the library takes no command or gave up an answer, because too much came at once.
const BREATH: Duration = Duration::from_secs(1);

/// What the beacon and the thread that listens share.
#[derive(Debug)]
struct Shared {
    keys: PartyKeys,
    cards: Vec<Card>,
    /// Our own service's full name.
    own: String,
    looks: Looks,
    ended: bool,
}

/// When others are looked for.
#[derive(Debug)]
struct Looks {
    until: Instant,
    next: Instant,
}

impl Looks {
    fn new(now: Instant) -> Self {
        Self { until: now + LOOK, next: now + LOOK + REST }
    }

    /// Something changed: at once.
    fn now(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// For how long it is looked from now on; `None` when it is not.
    fn left(&mut self, now: Instant) -> Option<Duration> {
        if now >= self.next {
            *self = Self { until: now + GLANCE, next: now + GLANCE + REST };
        }
        self.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// How long until it is looked again.
    fn rest(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }
}

/// Shared, and a bell for the thread when it rests.
#[derive(Debug)]
struct Common(Mutex<Shared>, Condvar);

impl Common {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long it is looked from now on; `None` when it is not.
    fn left(&self) -> Option<Duration> {
        let mut shared = self.lock();
        if shared.ended { None } else { shared.looks.left(Instant::now()) }
    }

    /// Sleeps until it is to be looked, at most so long; false when the beacon is put out.
    fn rest(&self, most: Duration) -> bool {
        let shared = self.lock();
        let rest = shared.looks.rest(Instant::now()).min(most);
        let idle = |shared: &mut Shared| !shared.ended && shared.looks.left(Instant::now()).is_none();
        let (shared, _) =
            self.1.wait_timeout_while(shared, rest, idle).unwrap_or_else(PoisonError::into_inner);
        !shared.ended
    }
}

/// A beacon while it shines.
#[derive(Debug)]
pub struct Beacon {
    daemon: Daemon,
    port: u16,
    shared: Arc<Common>,
    on: BTreeSet<CardId>,
    /// Where this computer was when it was last looked.
    nets: BTreeSet<Ipv4Addr>,
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
        let looks = Looks::new(Instant::now());
        let shared = Shared { keys, cards: Vec::new(), own: String::new(), looks, ended: false };
        let shared = Arc::new(Common(Mutex::new(shared), Condvar::new()));
        let mut beacon =
            Self { daemon: Daemon(daemon), port, shared, on: BTreeSet::new(), nets: BTreeSet::new(), dice };
        beacon.follow(cards);
        beacon.announce().map_err(|e| refused(&e))?;
        let found = beacon.daemon.0.browse(SERVICE).map_err(|e| refused(&e))?;
        let (shared, daemon) = (Arc::clone(&beacon.shared), beacon.daemon.0.clone());
        threads::named("beacon", move || listen(&daemon, found, &shared, &facts))?;
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
        // Not those of IPv6, some of which change every day in the same house.
        let v4 = |net: &Net| if let IpAddr::V4(at) = net.addr { Some(at) } else { None };
        let nets = cards.iter().flat_map(|card| &card.nets).filter_map(v4).collect();
        let mut shared = self.shared.lock();
        if told && (self.on != now || self.nets != nets) {
            (self.on, self.nets) = (now, nets);
            shared.looks.now(Instant::now());
        }
        shared.cards = cards.to_vec();
        drop(shared);
        self.shared.1.notify_one();
    }

    /// The party was re-keyed: another tag, under another name.
    pub fn rekeyed(&mut self, keys: PartyKeys) {
        let old = {
            let mut shared = self.shared.lock();
            shared.keys = keys;
            shared.looks.now(Instant::now());
            shared.own.clone()
        };
        self.shared.1.notify_one();
        // The answer to this is of no interest: the old name ends by itself.
        drop(self.daemon.0.unregister(&old));
        if let Err(error) = self.announce() {
            tracing::debug!(%error, "the beacon has no new name");
        }
    }

    fn announce(&mut self) -> Result<(), mdns_sd::Error> {
        let name = encode(&self.dice.bytes::<10>());
        let salt = self.dice.bytes::<10>();
        let mut shared = self.shared.lock();
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
        let own = {
            let mut shared = self.shared.lock();
            shared.ended = true;
            shared.own.clone()
        };
        self.shared.1.notify_one();
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

/// Until the beacon is put out: hands on where members are.
fn listen(
    daemon: &ServiceDaemon,
    first: Receiver<ServiceEvent>,
    shared: &Common,
    facts: &mpsc::Sender<HostFact>,
) {
    let mut first = Some(first);
    let tell = |news: Vec<SocketAddr>| news.is_empty() || facts.blocking_send(HostFact::Beacon(news)).is_ok();
    loop {
        let mut places = BTreeMap::new();
        match first.take().map_or_else(|| daemon.browse(SERVICE), Ok) {
            Ok(found) => {
                if !look(&found, &mut places, shared, &tell) {
                    return;
                }
                drop(daemon.stop_browse(SERVICE));
            }
            Err(mdns_sd::Error::DaemonShutdown) => return,
            Err(_) => std::thread::sleep(BREATH),
        }
        loop {
            if !shared.rest(AGAIN) {
                return;
            }
            if shared.left().is_some() {
                break;
            }
            if !tell(places.values().flatten().copied().collect()) {
                return;
            }
        }
    }
}

/// Looks for as long as it is to be looked; false when nobody wants to know any more.
fn look(
    found: &Receiver<ServiceEvent>,
    places: &mut BTreeMap<String, Vec<SocketAddr>>,
    shared: &Common,
    tell: &impl Fn(Vec<SocketAddr>) -> bool,
) -> bool {
    while let Some(left) = shared.left() {
        let news = match found.recv_timeout(left.min(AGAIN)) {
            Ok(ServiceEvent::ServiceResolved(service)) => {
                let at = members(&service, &shared.lock());
                places.remove(&service.fullname);
                if at.is_empty() || places.len() >= SERVICES {
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
            Err(mdns_sd::RecvTimeoutError::Disconnected) => {
                std::thread::sleep(BREATH);
                break;
            }
            Ok(_) => continue,
        };
        if !tell(news) {
            return false;
        }
    }
    true
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
        Shared {
            keys: keys(1),
            cards: vec![card],
            own: "own".into(),
            looks: Looks::new(Instant::now()),
            ended: false,
        }
    }

    #[test]
    fn others_are_looked_for_at_the_start_when_something_changed_and_now_and_then() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let left = |looks: &mut Looks, s| looks.left(at(s)).map(|left| left.as_secs());
        let mut looks = Looks::new(start);
        assert_eq!((left(&mut looks, 0), left(&mut looks, 119)), (Some(120), Some(1)));
        assert_eq!((left(&mut looks, 120), looks.rest(at(120)).as_secs()), (None, 300));
        assert_eq!((left(&mut looks, 419), left(&mut looks, 420)), (None, Some(10)));
        assert_eq!((left(&mut looks, 430), looks.rest(at(430)).as_secs()), (None, 300));
        looks.now(at(500));
        assert_eq!((left(&mut looks, 500), left(&mut looks, 620)), (Some(120), None));
    }

    #[test]
    fn who_rests_is_woken_by_a_change_and_by_the_end() {
        let over = || Looks { until: Instant::now(), next: Instant::now() + REST };
        let shared = Shared { looks: over(), ..shared() };
        let common = Arc::new(Common(Mutex::new(shared), Condvar::new()));
        let begun = Instant::now();
        assert!(common.rest(Duration::from_millis(30)) && common.left().is_none());
        for ended in [false, true] {
            let other = Arc::clone(&common);
            let waker = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                let mut shared = other.lock();
                if ended {
                    shared.ended = true
                } else {
                    shared.looks.now(Instant::now())
                }
                drop(shared);
                other.1.notify_one();
            });
            assert_eq!(common.rest(REST), !ended);
            waker.join().unwrap();
            assert_eq!(common.left().is_some(), !ended);
            common.lock().looks = over();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it did not sleep through");
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
