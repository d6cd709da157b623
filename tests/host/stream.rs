//! Connections to relays by TCP and TLS, against a scripted other side.

use lanrage::engine::effect::HostFact;
use lanrage::host::stream::Streams;
use lanrage::model::addr::{Card, Net, Via};
use lanrage::model::id::CardId;
use lanrage::model::relay::RelayWay;
use lanrage::server::{ServerOptions, Tls, start};
use lanrage::wire::channel::{self, Split, frame_len};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than anything here takes, even on a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn messages_go_out_framed_and_come_in_whole() {
    let (listener, way) = listen().await;
    let mut streams = Streams::default();
    streams.open(3, &way);
    let mut relay = up(&mut streams, 3, &listener).await;
    put(&mut streams, 3, &stun(1));
    put(&mut streams, 3, &data(5, 2));
    put(&mut streams, 3, &data(8, 3));
    streams.flush();
    let mut wire = vec![0; 20 + 12 + 12];
    relay.read_exact(&mut wire).await.unwrap();
    let padded = [&data(5, 2)[..], &[0; 3]].concat();
    assert_eq!(wire, [stun(1), padded, data(8, 3)].concat());
    // In pieces that end anywhere.
    let answer = [stun(7), [&data(5, 8)[..], &[0; 3]].concat(), data(0, 9), data(400, 10)].concat();
    let (sent, mut got) = (answer.clone(), Vec::new());
    let speak = async {
        for piece in sent.chunks(3) {
            relay.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let hear = async {
        while got.len() < 4 {
            streams.ready().await;
            got.extend(taken(&mut streams));
        }
    };
    timeout(SOON, async { tokio::join!(speak, hear) }).await.unwrap();
    assert_eq!(got, [stun(7), data(5, 8), data(0, 9), data(400, 10)]);
    assert_eq!((streams.counts().sent, streams.counts().received, streams.counts().up), (3, 4, 1));
}

#[tokio::test]
async fn what_ends_a_stream_is_told_once_and_it_can_be_opened_again() {
    let (listener, way) = listen().await;
    let mut streams = Streams::default();
    let scripts: [(&[u8], &str); 3] = [
        (b"", "hung up"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "neither STUN nor ChannelData"),
        (b"\xff\xff\xff\xff", "neither STUN nor ChannelData"),
    ];
    for (script, words) in scripts {
        streams.open(1, &way);
        let mut relay = up(&mut streams, 1, &listener).await;
        relay.write_all(&stun(4)).await.unwrap();
        relay.write_all(script).await.unwrap();
        if script.starts_with(b"HTTP") {
            // The first message decides: what came as HTTP from the start is not waited for.
            streams.open(1, &way);
            relay = up(&mut streams, 1, &listener).await;
            relay.write_all(script).await.unwrap();
        }
        let last = async {
            let mut got = Vec::new();
            loop {
                streams.ready().await;
                got.extend(taken(&mut streams));
                if let Some(fact) = streams.pop_news() {
                    return (fact, got);
                }
            }
        };
        drop(relay);
        let (fact, got) = timeout(SOON, last).await.unwrap();
        let HostFact::StreamDown { stream: 1, why } = fact else { panic!("{fact:?}") };
        assert!(why.contains(words), "{why}");
        assert_eq!(got.len(), usize::from(!script.starts_with(b"HTTP")), "what came before is not lost");
        assert!(streams.is_empty());
        assert!(streams.reserve(1, 10).is_none(), "nothing is written to it any more");
    }
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    streams.open(1, &RelayWay::Tcp { addr: dead });
    assert!(down(&mut streams, 1).await.contains("nothing listens"));
    streams.open(2, &RelayWay::Udp { addr: dead });
    assert!(down(&mut streams, 2).await.contains("UDP"));
    for n in 0..40 {
        streams.open(n, &way);
    }
    assert!(streams.len() <= 32);
    assert!(matches!(streams.pop_news(), Some(HostFact::StreamDown { .. })));
}

#[tokio::test]
async fn nothing_is_heard_of_a_stream_that_was_closed() {
    let (listener, way) = listen().await;
    let mut streams = Streams::default();
    streams.open(1, &way);
    let mut relay = up(&mut streams, 1, &listener).await;
    relay.write_all(&stun(1)).await.unwrap();
    timeout(SOON, streams.ready()).await.unwrap();
    streams.close(1);
    assert!(streams.is_empty() && streams.pop_news().is_none());
    assert!(streams.take(0).is_none());
    assert_eq!(timeout(SOON, relay.read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0, "hung up");
    // Closed while it is being read: what was taken is not put into another stream of that number.
    streams.open(1, &way);
    let mut relay = up(&mut streams, 1, &listener).await;
    relay.write_all(&[stun(1), data(5, 1)].concat()).await.unwrap();
    timeout(SOON, streams.ready()).await.unwrap();
    let old = streams.take(0).unwrap();
    streams.open(1, &way);
    streams.give_back(old);
    let _relay = up(&mut streams, 1, &listener).await;
    assert!(!streams.turn());
}

#[tokio::test]
async fn a_stream_that_takes_nothing_stalls_nobody_and_keeps_the_newest() {
    let (listener, way) = listen().await;
    let mut streams = Streams::default();
    streams.open(1, &way);
    let mut relay = up(&mut streams, 1, &listener).await;
    put(&mut streams, 1, &stun(9));
    let mut slowest = Duration::ZERO;
    for n in 0..20_000u32 {
        let begun = Instant::now();
        put(&mut streams, 1, &numbered(n));
        streams.flush();
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_millis(250), "{slowest:?}");
    assert!(streams.counts().full > 10_000, "{:?}", streams.counts());
    // Then the other side reads again, and gets what is left: whole messages, in order, the newest among them.
    let read = async {
        let (mut bytes, mut numbers, mut piece) = (Vec::new(), Vec::new(), vec![0; 4096]);
        while numbers.last() != Some(&19_999) {
            let n = relay.read(&mut piece).await.unwrap();
            assert!(n > 0);
            bytes.extend_from_slice(&piece[..n]);
            while let Split::Frame(len) = frame_len(&bytes) {
                let frame: Vec<u8> = bytes.drain(..len).collect();
                if let Some((_, at)) = channel::read(&frame, true) {
                    assert_eq!(len, 1000);
                    numbers.push(u32::from_be_bytes(frame[at][..4].try_into().unwrap()));
                }
            }
        }
        numbers
    };
    let serve = async {
        loop {
            streams.ready().await;
            taken(&mut streams);
        }
    };
    let numbers = tokio::select! {
        numbers = timeout(SOON, read) => numbers.unwrap(),
        () = serve => panic!("it goes on"),
    };
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "in order, none twice");
    let newest = numbers.iter().rev().zip((0..20_000).rev()).take_while(|(a, b)| **a == *b).count();
    assert!(newest >= 60, "64 KiB of the newest, but only {newest}");
}

#[tokio::test]
async fn a_stream_ends_when_its_own_address_leaves_this_computer() {
    let (listener, way) = listen().await;
    let mut streams = Streams::default();
    let card = |addr: &str| {
        let nets = vec![Net { addr: addr.parse().unwrap(), prefix: 8 }];
        vec![Card { id: CardId(2), name: "eth0".into(), nets, default_route: true }]
    };
    streams.open(1, &way);
    let _relay = up(&mut streams, 1, &listener).await;
    streams.heed_cards(&card("192.0.2.1"));
    assert!(!streams.turn(), "its address was never on a card, so it cannot have left one");
    streams.heed_cards(&card("127.0.0.1"));
    assert!(!streams.turn());
    streams.heed_cards(&card("192.0.2.1"));
    assert!(down(&mut streams, 1).await.contains("another address"));
}

#[tokio::test]
async fn by_tls_only_to_whom_it_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let options = ServerOptions { listen, tls: Tls::SelfSigned, ..ServerOptions::new(dir.path()) };
    let server = start(options).await.unwrap();
    let (addr, pin) = (server.addresses()[0], server.pin().unwrap().0);
    let way = |name: &str, pin| RelayWay::Tls { addr, name: name.into(), pin };
    let mut streams = Streams::default();
    for good in [way("h.example", Some(pin)), way("", Some(pin)), way("", None)] {
        streams.open(1, &good);
        timeout(SOON, streams.ready()).await.unwrap();
        assert!(matches!(streams.pop_news(), Some(HostFact::StreamUp(1))), "{good:?}");
    }
    streams.open(1, &way("h.example", Some([1; 32])));
    assert!(down(&mut streams, 1).await.contains("another certificate"));
    streams.open(1, &way("h.example", None));
    let why = down(&mut streams, 1).await;
    assert!(why.contains("vouches"), "{why}");
    server.shutdown().await.unwrap();
}

async fn listen() -> (TcpListener, RelayWay) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, RelayWay::Tcp { addr })
}

/// The relay's end, once the stream is up.
async fn up(streams: &mut Streams, number: u8, listener: &TcpListener) -> TcpStream {
    let accepted = async { listener.accept().await.unwrap().0 };
    let ((), relay) = timeout(SOON, async { tokio::join!(streams.ready(), accepted) }).await.unwrap();
    let news = streams.pop_news();
    assert!(matches!(news, Some(HostFact::StreamUp(n)) if n == number), "{news:?}");
    relay
}

async fn down(streams: &mut Streams, number: u8) -> String {
    timeout(SOON, streams.ready()).await.unwrap();
    match streams.pop_news() {
        Some(HostFact::StreamDown { stream, why }) if stream == number => why,
        news => panic!("{news:?}"),
    }
}

fn taken(streams: &mut Streams) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for at in 0..streams.len() {
        let Some(mut taken) = streams.take(at) else { continue };
        all.extend(taken.messages().map(|d| {
            assert!(matches!(d.via, Via::Stream(_)) && d.stride == d.bytes.len());
            d.bytes.to_vec()
        }));
        streams.give_back(taken);
    }
    all
}

fn put(streams: &mut Streams, number: u8, message: &[u8]) {
    streams.reserve(number, message.len() + 60).expect("it is up")[..message.len()].copy_from_slice(message);
    streams.commit(message.len());
}

/// A binding request without attributes.
fn stun(n: u8) -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[n; 12]].concat()
}

fn data(len: usize, n: u8) -> Vec<u8> {
    let mut message = vec![n; 4 + len];
    assert!(channel::write_header(&mut message, 0x4000, len));
    message
}

fn numbered(n: u32) -> Vec<u8> {
    let mut message = data(996, 0);
    message[4..8].copy_from_slice(&n.to_be_bytes());
    message
}
