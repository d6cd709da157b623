//! The relay on real sockets, proved with the clients of another maker: coturn's `turnutils_*` (Debian package `coturn`).
//! Where they are missing a test says so and passes, unless `LANRAGE_LAB=must`.

mod abuse;
mod client;
mod coturn;
mod offers;

use lanrage::model::id::{PartyId, PeerId};
use lanrage::server::relay::{RelayHandle, RelayOptions};
use lanrage::server::{ServerHandle, ServerOptions, Tls, start};
use lanrage::wire::credential::Bearer;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECRET: &str = "north-of-the-north";

/// A running server with a relay on loopback.
struct Place {
    server: ServerHandle,
    _dir: tempfile::TempDir,
}

impl Place {
    /// At these addresses, with peers anywhere: a relay on loopback has no others.
    async fn new(relays: &[&str]) -> Self {
        Self::with(relays, |options| options.allow_private_peers = true).await
    }

    async fn with(relays: &[&str], change: impl FnOnce(&mut RelayOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(dir.path());
        options.listen = vec!["127.0.0.1:0".parse().unwrap()];
        options.tls = Tls::SelfSigned;
        let listen = relays.iter().map(|r| r.parse().unwrap()).collect();
        let mut relay = RelayOptions { listen, secret: Some(SECRET.to_owned()), ..RelayOptions::default() };
        change(&mut relay);
        options.relay = Some(relay);
        Self { server: start(options).await.unwrap(), _dir: dir }
    }

    fn relay(&self) -> &RelayHandle {
        self.server.relay().unwrap()
    }

    /// The first address, with the lower port.
    fn at(&self) -> SocketAddr {
        self.relay().addresses()[0]
    }

    async fn number(&self, name: &str) -> u64 {
        let numbers = self.relay().numbers().await.expect("the relay answers");
        numbers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v).unwrap_or_else(|| panic!("{name}"))
    }

    async fn stop(self) {
        self.server.shutdown().await.unwrap();
    }
}

fn bearer(party: u8, peer: u8) -> Bearer {
    Bearer { party: PartyId([party; 10]), peer: PeerId([peer; 10]) }
}

/// The part of a user name after its time: coturn's client puts the time before it.
fn tag(party: u8, peer: u8) -> String {
    lanrage::wire::credential::RelaySecret::new(SECRET.as_bytes()).tag(bearer(party, peer))
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// User name and password that are good for this long.
fn credentials(party: u8, peer: u8, lifetime: Duration) -> (String, String) {
    let secret = lanrage::wire::credential::RelaySecret::new(SECRET.as_bytes());
    secret.mint(bearer(party, peer), unix() + lifetime.as_secs())
}
