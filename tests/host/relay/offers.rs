//! From the welcome of a party to packets through the relay: offers, their ways, and what the pages say.

use super::client::Turn;
use super::{Place, bearer, unix};
use crate::players::{Line, Player};
use lanrage::host::control::{ControlChoice, Tuning};
use lanrage::model::relay::{RelayOffer, RelayWay};
use lanrage::server::relay::RelayOptions;
use lanrage::server::{ServerOptions, Tls, start};
use lanrage::wire::control::Down;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn offers(line: &mut Line) -> Vec<RelayOffer> {
    line.until(|down| match down {
        Down::Relays { offers } => Some(offers.clone()),
        _ => None,
    })
    .await
}

async fn join(place: &Place, player: &Player) -> Line {
    let choice: ControlChoice = format!("server:http://{}", place.server.addresses()[0]).parse().unwrap();
    Line::join(player, &choice, &Tuning::default()).await
}

fn udp(offer: &RelayOffer) -> SocketAddr {
    let ways = offer.ways.iter();
    ways.filter(|w| matches!(w, RelayWay::Udp { .. })).map(RelayWay::addr).next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_reach_each_other_with_what_the_welcome_offered() {
    // Nothing private is allowed here: each peer is the other's relayed address.
    let place = Place::with(&["127.0.0.1:0"], |_| {}).await;
    let (ana, bob) = (Player::owner(1), Player::friend(2, 1));
    let (mut a, mut b) = (join(&place, &ana).await, join(&place, &bob).await);
    let (for_ana, for_bob) = (offers(&mut a).await.remove(0), offers(&mut b).await.remove(0));
    assert_eq!((for_ana.realm.as_str(), udp(&for_ana)), ("lanrage", place.at()));
    assert!(for_ana.expires.unwrap() > unix() + 11 * 3600 && for_ana.username != for_bob.username);
    let tcp = RelayWay::Tcp { addr: place.server.addresses()[0] };
    assert!(for_ana.ways.contains(&tcp), "{:?}", for_ana.ways);

    let mut at_ana = Turn::new(udp(&for_ana), &(for_ana.username, for_ana.password)).await;
    let mut at_bob = Turn::new(udp(&for_bob), &(for_bob.username, for_bob.password)).await;
    let (to_ana, to_bob) = (at_ana.allocate().await, at_bob.allocate().await);
    let (to_ana, to_bob) = (to_ana.relayed.unwrap(), to_bob.relayed.unwrap());
    assert_eq!((at_ana.bind(0x4000, to_bob).await, at_bob.bind(0x4abc, to_ana).await), (0, 0));
    at_ana.send(0x4000, b"hello").await;
    assert_eq!(at_bob.hear().await, Some((0x4abc, b"hello".to_vec())));
    at_bob.send(0x4abc, b"and back").await;
    assert_eq!(at_ana.hear().await, Some((0x4000, b"and back".to_vec())));
    assert_eq!(place.number("relay_inside_total").await, 2);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_name_the_relay_and_nobody_in_it() {
    let place = Place::new(&["127.0.0.1:0"]).await;
    let mut turn =
        Turn::new(place.at(), &super::credentials(7, 8, std::time::Duration::from_secs(600))).await;
    turn.allocate().await;
    let http = place.server.addresses()[0];
    let info = get(http, "/v1/info").await;
    assert!(info.contains(&format!("\"relays\":[\"{}\"", place.at())), "{info}");
    let metrics = get(http, "/metrics").await;
    assert!(metrics.contains("lanrage_relay_allocations 1\n"), "{metrics}");
    assert!(
        metrics.contains("# TYPE lanrage_relay_allocated_total counter\nlanrage_relay_allocated_total 1\n")
    );
    for private in [bearer(7, 8).party.to_string(), bearer(7, 8).peer.to_string(), place.at().to_string()] {
        assert!(!metrics.contains(&private));
    }
    // The relay's own port speaks HTTP too, as every TCP port of the server does.
    assert!(get(place.at(), "/healthz").await.ends_with("ok\n"));
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_addresses_and_tls_stand_in_the_offer() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(dir.path());
    options.listen = vec!["0.0.0.0:0".parse().unwrap()];
    options.tls = Tls::SelfSigned;
    options.relay = Some(RelayOptions {
        listen: vec!["0.0.0.0:0".parse().unwrap()],
        public: vec!["203.0.113.5".parse().unwrap()],
        ..RelayOptions::default()
    });
    let server = start(options).await.unwrap();
    let port = server.addresses()[0].port();
    let relay_port = server.relay().unwrap().addresses()[0].port();
    let choice: ControlChoice = format!("server:http://127.0.0.1:{port}").parse().unwrap();
    let mut line = Line::join(&Player::owner(1), &choice, &Tuning::default()).await;
    let offer = offers(&mut line).await.remove(0);
    let public = |port| SocketAddr::from(([203, 0, 113, 5], port));
    let pin = server.pin().map(|pin| pin.0);
    let expected = [
        RelayWay::Udp { addr: public(relay_port) },
        RelayWay::Udp { addr: public(relay_port + 1) },
        RelayWay::Tcp { addr: public(relay_port) },
        RelayWay::Tcp { addr: public(port) },
        RelayWay::Tls { addr: public(relay_port), name: String::new(), pin },
        RelayWay::Tls { addr: public(port), name: String::new(), pin },
    ];
    for way in expected {
        assert!(offer.ways.contains(&way), "{way:?} is not in {:?}", offer.ways);
    }
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_relay_offers_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(dir.path());
    options.listen = vec!["127.0.0.1:0".parse().unwrap()];
    let server = start(options).await.unwrap();
    assert!(server.relay().is_none());
    let info = get(server.addresses()[0], "/v1/info").await;
    assert!(info.contains("\"relays\":[]"), "{info}");
    server.shutdown().await.unwrap();
}

async fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
