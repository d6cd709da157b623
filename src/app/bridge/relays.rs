//! Relays that the player named become offers for the engine: names are resolved and credentials made here, beside the start
//! and never in its way.
//!
//! One task for each relay. An IP address is offered at once; a name as soon as it is found, which is tried again with growing
//! waits and told once when it fails. Credentials made from a secret hold twelve hours and are renewed after six by the wall
//! clock, because this computer may sleep in between; names are looked up again at the same time.

use crate::app::config::relays::{RelayAccess, RelayBy, RelayWish};
use crate::engine::effect::HostFact;
use crate::host::checkup::page::look_up;
use crate::host::clock;
use crate::model::relay::{RelayOffer, RelayWay};
use crate::model::status::{Event, Trouble};
use crate::wire::credential::Bearer;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Credentials hold this long.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// One look-up of a name.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Waits after failed look-ups, doubling.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Between two looks at the wall clock.
const TICK: Duration = Duration::from_secs(30);
/// Addresses of each family that are used of a name.
const ADDRESSES: usize = 2;

/// Starts a task for each; they end with the node.
pub(super) fn spawn(
    wishes: Vec<RelayWish>,
    bearer: Bearer,
    facts: &mpsc::Sender<HostFact>,
    events: &mpsc::Sender<Event>,
) -> JoinSet<()> {
    wishes.into_iter().map(|wish| serve(wish, bearer, facts.clone(), events.clone())).collect()
}

async fn serve(wish: RelayWish, bearer: Bearer, facts: mpsc::Sender<HostFact>, events: mpsc::Sender<Event>) {
    let mut told = false;
    loop {
        let addresses = resolve(&wish, &mut told, &events).await;
        let made = clock::unix();
        let offer = offer(&wish, &addresses, bearer, (made + LIFETIME).as_secs());
        if facts.send(HostFact::Relays(vec![offer])).await.is_err() {
            return;
        }
        // Also at once when the clock was set back: what it made before may not be taken to be valid.
        while (made..made + LIFETIME / 2).contains(&clock::unix()) {
            sleep(TICK).await;
        }
    }
}

/// Its addresses, however long that takes.
async fn resolve(wish: &RelayWish, told: &mut bool, events: &mpsc::Sender<Event>) -> Vec<SocketAddr> {
    let mut wait = RETRY_FIRST;
    loop {
        let why = match timeout(LOOK_UP, look_up(&wish.place.host, wish.place.port)).await {
            Ok(Ok(addresses)) => return addresses,
            Ok(Err(no)) => no.why,
            Err(_) => format!("no answer about the name {}", wish.place.host),
        };
        if !std::mem::replace(told, true) {
            let what = format!("a relay cannot be used yet: {why}");
            let hint =
                "check its name (--relay) and this computer's DNS; it is looked up again until it is found";
            let _ = events.try_send(Event::Warning(Trouble::new("relay_name", what, hint)));
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_MOST);
    }
}

/// The ways in order of preference. Addresses are sorted: the engine knows a relay by its first way, and name servers shuffle.
fn offer(wish: &RelayWish, addresses: &[SocketAddr], bearer: Bearer, expires: u64) -> RelayOffer {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let family = |v4: bool| sorted.iter().copied().filter(move |a| a.is_ipv4() == v4).take(ADDRESSES);
    let addresses: Vec<SocketAddr> = family(true).chain(family(false)).collect();
    let udp = || addresses.iter().map(|addr| RelayWay::Udp { addr: *addr });
    let tcp = || addresses.iter().map(|addr| RelayWay::Tcp { addr: *addr });
    let tls = |addr: &SocketAddr| RelayWay::Tls { addr: *addr, name: wish.place.host.clone(), pin: None };
    let ways = match wish.place.by {
        RelayBy::UdpOrTcp => udp().chain(tcp()).collect(),
        RelayBy::Udp => udp().collect(),
        RelayBy::Tcp => tcp().collect(),
        RelayBy::Tls => addresses.iter().map(tls).collect(),
    };
    let (username, password, expires) = match &wish.access {
        RelayAccess::Account(account) => (account.user.clone(), account.password.clone(), None),
        RelayAccess::Secret(secret) => {
            let (username, password) = secret.mint(bearer, expires);
            (username, password, Some(expires))
        }
    };
    RelayOffer { ways, username, password, realm: String::new(), expires }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{PartyId, PeerId};
    use crate::wire::credential::RelaySecret;

    const BEARER: Bearer = Bearer { party: PartyId([1; 10]), peer: PeerId([2; 10]) };

    fn wish(text: &str) -> RelayWish {
        let access = RelayAccess::Secret(RelaySecret::new(b"north"));
        RelayWish { place: text.parse().unwrap(), access }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_relay_is_offered_by_udp_before_tcp_and_the_same_however_the_name_server_shuffles() {
        let found = ["[2001:db8::1]:7", "10.0.0.2:7", "10.0.0.3:7", "10.0.0.1:7", "10.0.0.1:7"].map(at);
        let udp = ["10.0.0.1:7", "10.0.0.2:7", "[2001:db8::1]:7"].map(|a| RelayWay::Udp { addr: at(a) });
        let tcp = udp.clone().map(|w| RelayWay::Tcp { addr: w.addr() });
        let mut shuffled = found;
        shuffled.reverse();
        for addresses in [found, shuffled] {
            let offer = offer(&wish("turn:h:7"), &addresses, BEARER, 99);
            assert_eq!(offer.ways, [udp.clone(), tcp.clone()].concat());
        }
        let tls = RelayWay::Tls { addr: at("10.0.0.1:7"), name: "h".into(), pin: None };
        assert_eq!(offer(&wish("turns:h:7"), &found[3..], BEARER, 99).ways, [tls]);
    }

    #[test]
    fn a_secret_makes_credentials_that_the_relay_reads_and_an_account_stays_as_it_is() {
        let secret = RelaySecret::new(b"north");
        let made = offer(&wish("turn:h"), &[at("10.0.0.1:7")], BEARER, 99);
        assert_eq!(secret.read(&made.username, 98).map(|c| c.bearer), Ok(BEARER));
        assert_eq!((secret.password(&made.username), made.expires), (made.password, Some(99)));
        let place = wish("turn:ana:x@h").place;
        let access = RelayAccess::Account(place.account.clone().unwrap());
        let plain = offer(&RelayWish { place, access }, &[at("10.0.0.1:7")], BEARER, 99);
        assert_eq!((plain.username.as_str(), plain.password.as_str(), plain.expires), ("ana", "x", None));
    }

    #[tokio::test]
    async fn a_name_that_is_not_found_is_told_once() {
        let (facts, mut offers) = mpsc::channel(4);
        let (door, mut events) = mpsc::channel(4);
        // Too long for a label (RFC 1035, section 2.3.4): nobody has to be asked.
        let name = "x".repeat(64);
        let wishes = vec![wish(&format!("turn:{name}")), wish("turn:127.0.0.1:7")];
        let mut tasks = spawn(wishes, BEARER, &facts, &door);
        let HostFact::Relays(first) = offers.recv().await.unwrap() else { panic!("no offers") };
        assert_eq!(first[0].ways[0].addr(), at("127.0.0.1:7"));
        let Event::Warning(trouble) = events.recv().await.unwrap() else { panic!("no warning") };
        assert_eq!(trouble.code, "relay_name");
        assert!(trouble.message.contains(&name), "{trouble:?}");
        // The second look-up comes after a second.
        sleep(RETRY_FIRST + Duration::from_millis(500)).await;
        assert!(events.try_recv().is_err(), "once");
        tasks.abort_all();
    }
}
