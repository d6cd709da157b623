//! A real server on loopback with real carriers, and with clients that are broken, slow or hostile.

mod strangers;

use crate::players::{ADDRESS, Line, NAME, Player, SOON};
use futures_util::{SinkExt, StreamExt};
use lanrage::host::control::{ControlChoice, ServerTuning, ToCarrier, Tuning};
use lanrage::model::record::Rotation;
use lanrage::model::text;
use lanrage::server::{ServerHandle, ServerOptions, Tls, start};
use lanrage::wire::control::{Down, Refusal, Up};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strangers::{Log, canned, dial, fake, get, get_as, greet, number, shake, shows, tap, with_protocol};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::Request;

#[tokio::test(flavor = "multi_thread")]
async fn players_meet_at_a_server_and_hear_of_each_other_at_once() {
    let (_dir, server, choice) = serve().await;
    let (ana, bob) = (Player::owner(1), Player::friend(2, 1));
    let mut a = Line::join(&ana, &choice, &quick()).await;
    a.publish(1).await;
    let mut b = Line::new(&bob, &choice, &quick());
    match b.enter().await.as_slice() {
        [] => b.record_of(&ana, 1).await,
        peers => assert_eq!(peers, [ana.envelope(1)]),
    }
    let begun = Instant::now();
    b.publish(7).await;
    a.record_of(&bob, 7).await;
    println!("a record took {:?}", begun.elapsed());
    b.send(Up::Leave).await;
    assert_eq!(a.gone().await, (bob.id(), true));
    assert!(b.closed().await.contains("said goodbye"));
    // What was sent before a hang-up arrives: here a goodbye.
    let mut c = Line::join(&bob, &choice, &quick()).await;
    c.send(Up::Leave).await;
    c.tx.send(ToCarrier::Close).await.unwrap();
    assert_eq!(a.gone().await, (bob.id(), true));
    // Whether the server or this side hung up first is a matter of luck.
    c.everything_for(Duration::from_millis(500)).await;
    c.enter().await;
    server.shutdown().await.unwrap();
    assert!(a.closed().await.contains("the server is stopping"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_every_party_with_its_epoch_and_records() {
    let (dir, server, choice) = serve().await;
    let (ana, bob, eve) = (Player::owner(1), Player::friend(2, 1), Player::friend(3, 1));
    let mut a = Line::join(&ana, &choice, &quick()).await;
    let mut b = Line::join(&bob, &choice, &quick()).await;
    let mut e = Line::join(&eve, &choice, &quick()).await;
    let rotation = ana.rotate(1, &[&bob]);
    a.send(Up::Rotate { rotation: rotation.clone() }).await;
    b.until(|d| matches!(d, Down::Rotated { .. }).then_some(())).await;
    let bob = bob.at(1);
    b.send(Up::Publish { envelope: bob.envelope(4) }).await;
    a.record_of(&bob, 4).await;
    assert!(e.closed().await.contains("removed"));
    server.shutdown().await.unwrap();

    let server = start(options(dir.path())).await.unwrap();
    assert!(server.warnings().is_empty());
    let choice = choice_of(&server);
    // Nobody but a friend is there, and the kicked player tries first.
    let mut e = Line::new(&eve, &choice, &quick());
    assert!(matches!(e.knock().await, Down::Refused { code: Refusal::OldEpoch, .. }));
    let carol = Player::friend(4, 1).at(1);
    let mut c = Line::new(&carol, &choice, &quick());
    assert_eq!(c.enter().await, vec![bob.envelope(4)]);
    server.shutdown().await.unwrap();
}

#[test]
fn a_killed_server_is_noticed_and_forgets_nothing_that_it_stored() {
    let dir = tempfile::tempdir().unwrap();
    let life = tokio::runtime::Runtime::new().unwrap();
    let server = life.block_on(start(options(dir.path()))).unwrap();
    let choice = choice_of(&server);
    let here = tokio::runtime::Runtime::new().unwrap();
    here.block_on(async {
        let (ana, bob) = (Player::owner(1), Player::friend(2, 1));
        let mut a = Line::join(&ana, &choice, &quick()).await;
        a.publish(3).await;
        Line::join(&bob, &choice, &quick()).await;
        sleep(Duration::from_millis(1200)).await;
        life.shutdown_background();
        let begun = Instant::now();
        let why = a.closed().await;
        assert!(why.contains("lost") || why.contains("hung up"), "{why}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        drop(server);
        let server = wait_for(async || start(options(dir.path())).await.ok()).await;
        assert!(server.warnings().is_empty(), "{:?}", server.warnings());
        let mut b = Line::new(&bob, &choice_of(&server), &quick());
        assert_eq!(b.enter().await, vec![ana.envelope(3)]);
        server.shutdown().await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_of_every_kind_hurts_only_its_sender() {
    let (_dir, server, choice) = serve().await;
    let at = server.addresses()[0];
    let ana = Player::owner(1);
    let mut a = Line::join(&ana, &choice, &quick()).await;
    let large = "x".repeat(100_000);
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let frames = [
        Message::binary(vec![0, 159, 146, 150]),
        Message::text("hello?"),
        Message::text("{}"),
        Message::text(r#"{"up":"sudo"}"#),
        Message::text(r#"{"up":"beat"}"#),
        Message::text(r#"{"up":"hello","version":1}"#),
        Message::text(large),
        Message::text(deep),
    ];
    for frame in frames {
        let mut socket = dial(at).await;
        socket.next().await.unwrap().unwrap();
        let shown: String = format!("{frame:?}").chars().take(60).collect();
        let _ = socket.send(frame).await;
        let end = async { while let Some(Ok(_)) = socket.next().await {} };
        timeout(SOON, end).await.unwrap_or_else(|_| panic!("still connected after {shown}"));
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("hung up on");
    }
    let metrics = get(at, "/metrics").await;
    assert!(number(&metrics, "refused_bad_message_total") >= 6, "{metrics}");
    assert_eq!(number(&metrics, "members_online"), 1, "{metrics}");
    a.publish(1).await;
    let mut b = Line::join(&Player::friend(2, 1), &choice, &quick()).await;
    b.publish(1).await;
    a.record_of(&b.player, 1).await;
    // The host's own record may still be under way; anything else would be a stranger's doing.
    let strange = |down: &Down| !matches!(down, Down::Record { envelope } if envelope.key.id() == ana.id());
    let heard = b.everything_for(Duration::from_millis(100)).await;
    assert!(!heard.iter().any(strange), "{heard:?}");
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_dropped_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ServerOptions { outbox: 64, ..options(dir.path()) };
    let fast = lanrage::engine::lobby::pace::Pace::new(100_000, Duration::from_micros(1));
    options.lobby.per_key = fast;
    options.lobby.per_connection = fast;
    let server = start(options).await.unwrap();
    let at = server.addresses()[0];
    let choice = choice_of(&server);
    let (ana, bob, eve) = (Player::owner(1), Player::friend(2, 1), Player::friend(3, 1));
    let mut a = Line::join(&ana, &choice, &quick()).await;
    let mut b = Line::join(&bob, &choice, &quick()).await;
    // Eve says hello and then never reads again, with small buffers so that it shows soon.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut e = shake(socket.connect(at).await.unwrap(), at).await;
    greet(&mut e, &eve, at).await;
    let mut seq = 0;
    let begun = Instant::now();
    while number(&get(at, "/metrics").await, "dropped_slow_total") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "never dropped");
        for _ in 0..40 {
            seq += 1;
            a.publish(seq).await;
        }
        b.record_of(&ana, seq).await;
    }
    println!("dropped after {seq} records, {:?}", begun.elapsed());
    b.publish(1).await;
    a.record_of(&bob, 1).await;
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_players_arrive_at_once_and_all_hear_of_all() {
    let (_dir, server, choice) = serve().await;
    let owner = Player::owner(1);
    let _a = Line::join(&owner, &choice, &quick()).await;
    let begun = Instant::now();
    let tasks: Vec<_> = (2..52)
        .map(|n| {
            let choice = choice.clone();
            tokio::spawn(async move {
                let mut line = Line::new(&Player::friend(n, 1), &choice, &quick());
                let mut seen: std::collections::BTreeSet<_> =
                    line.enter().await.into_iter().map(|e| e.key).collect();
                line.publish(1).await;
                seen.insert(line.player.keys.key());
                while seen.len() < 50 {
                    if let Down::Record { envelope } = line.next().await {
                        seen.insert(envelope.key);
                    }
                }
                line
            })
        })
        .collect();
    let mut lines = Vec::new();
    for task in tasks {
        lines.push(timeout(SOON, task).await.unwrap().unwrap());
    }
    println!("50 players in {:?}", begun.elapsed());
    let metrics = get(server.addresses()[0], "/metrics").await;
    assert_eq!(number(&metrics, "members_online"), 51);
    assert_eq!(number(&metrics, "dropped_slow_total"), 0);
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_sees_neither_addresses_nor_names_nor_secrets() {
    let (dir, server, _) = serve().await;
    let log: Log = Arc::default();
    let tap = tap(server.addresses()[0], Arc::clone(&log)).await;
    let choice: ControlChoice = format!("server:http://{tap}").parse().unwrap();
    let (ana, bob) = (Player::owner(1), Player::friend(2, 1));
    let a = Line::join(&ana, &choice, &quick()).await;
    let mut b = Line::join(&bob, &choice, &quick()).await;
    a.publish(1).await;
    b.record_of(&ana, 1).await;
    let rotation: Rotation = ana.rotate(1, &[&bob]);
    a.send(Up::Rotate { rotation }).await;
    b.until(|d| matches!(d, Down::Rotated { .. }).then_some(())).await;
    a.send(Up::Leave).await;
    b.gone().await;
    server.shutdown().await.unwrap();
    let frames = log.lock().unwrap().clone();
    let file = std::fs::read(dir.path().join("lobby.redb")).unwrap();
    assert!(frames.len() > 8, "hellos, welcomes, a record, a rotation: {}", frames.len());
    let heard: Vec<u8> = frames.into_iter().flatten().collect();
    for (what, bytes) in [("frames", &heard), ("database", &file)] {
        assert!(shows(bytes, &ana.keys.key().0), "{what}: public keys are there, so the search works");
        for private in
            [&ana.secret.0[..], &ana.at(1).secret.0, NAME.as_bytes(), &[198, 51, 100, 7], b"198.51.100.7"]
        {
            assert!(!shows(bytes, private), "{what}: {private:?}");
        }
    }
    assert!(
        shows(&postcard::to_allocvec(&ana.record()).unwrap(), &[198, 51, 100, 7]),
        "{ADDRESS} is in the record"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_its_name_is_not_fooled_by_one_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        start(ServerOptions { names: vec!["localhost".into()], ..options(dir.path()) }).await.unwrap();
    let at = server.addresses()[0];
    let real: ControlChoice = format!("server:http://LOCALHOST:{}", at.port()).parse().unwrap();
    Line::join(&Player::owner(1), &real, &quick()).await;
    let tap = tap(at, Log::default()).await;
    let mut fooled =
        Line::new(&Player::friend(2, 1), &format!("server:http://{tap}").parse().unwrap(), &quick());
    fooled.tx.send(ToCarrier::Open).await.unwrap();
    fooled.closed().await;
    let metrics = get_as(at, "/metrics", "localhost").await;
    assert_eq!(number(&metrics, "admitted_total"), 1, "{metrics}");
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_what_this_is_and_nothing_about_players() {
    let (_dir, server, choice) = serve().await;
    let at = server.addresses()[0];
    let ana = Player::owner(1);
    let _a = Line::join(&ana, &choice, &quick()).await;
    let home = get(at, "/").await;
    assert!(home.starts_with("HTTP/1.1 200") && home.contains("lanrage server"));
    let info = get(at, "/v1/info").await;
    let json: serde_json::Value = serde_json::from_str(info.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((json["service"].as_str(), json["protocol"].as_u64()), (Some("lanrage"), Some(1)));
    assert!(json["time"].as_u64().unwrap() > 1_700_000_000 && json["limits"]["peers"] == 64);
    assert!(get(at, "/healthz").await.ends_with("ok\n"));
    let metrics = get(at, "/metrics").await;
    assert_eq!((number(&metrics, "parties"), number(&metrics, "peers")), (1, 1));
    for private in [ana.party().to_string(), ana.id().to_string(), "127.0.0.1".into()] {
        assert!(!metrics.contains(&private));
    }
    assert!(get(at, "/nothing").await.starts_with("HTTP/1.1 404"));
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_silent_are_hung_up_on_and_pings_are_enough_not_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ServerOptions { idle: Duration::from_millis(600), ..options(dir.path()) };
    options.lobby.hello_within = Duration::from_millis(300);
    let server = start(options).await.unwrap();
    let at = server.addresses()[0];
    let mut tuning = quick();
    tuning.server.ping_every = Duration::from_millis(150);
    let mut a = Line::join(&Player::owner(1), &choice_of(&server), &tuning).await;
    let mut mute = dial(at).await;
    let begun = Instant::now();
    while let Some(Ok(_)) = timeout(SOON, mute.next()).await.unwrap() {}
    assert!(begun.elapsed() < Duration::from_secs(3), "no hello in time");
    let mut asleep = dial(at).await;
    greet(&mut asleep, &Player::friend(2, 1), at).await;
    sleep(Duration::from_secs(2)).await;
    // Its system still answers, but nothing was sent.
    assert_eq!(number(&get(at, "/metrics").await, "members_online"), 1);
    assert!(a.everything_for(Duration::from_millis(50)).await.is_empty());
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_gets_so_many_connections() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(ServerOptions { connections_per_address: 3, ..options(dir.path()) }).await.unwrap();
    let at = server.addresses()[0];
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(dial(at).await);
    }
    let mut fourth = TcpStream::connect(at).await.unwrap();
    let _ = fourth.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, fourth.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty(), "hung up on without a word");
    inside.pop();
    wait_for(async || {
        let mut stream = TcpStream::connect(at).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.ends_with("ok\n").then_some(())
    })
    .await;
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_server_from_starting_is_said_in_words() {
    let (dir, server, _) = serve().await;
    let taken = ServerOptions { listen: vec![server.addresses()[0]], ..options(dir.path()) };
    let error = format!("{:#}", start(taken).await.unwrap_err());
    assert!(error.contains("another program") && error.contains("--listen"), "{error}");
    let error = format!("{:#}", start(options(dir.path())).await.unwrap_err());
    assert!(error.contains("in use by another lanrage server"), "{error}");
    let tls = Tls::Files { cert: "c.pem".into(), key: "k.pem".into() };
    let error = start(ServerOptions { tls, ..options(dir.path()) }).await.unwrap_err().to_string();
    assert!(error.contains("c.pem") && error.contains("--tls-cert"), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = format!("{:#}", start(options(&file)).await.unwrap_err());
    assert!(error.contains("data folder"), "{error}");
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_database_is_kept_aside_and_the_server_starts() {
    let (dir, server, choice) = serve().await;
    let ana = Player::owner(1);
    Line::join(&ana, &choice, &quick()).await;
    server.shutdown().await.unwrap();
    let path = dir.path().join("lobby.redb");
    let good = std::fs::read(&path).unwrap();
    let mut scrambled = good.clone();
    for (i, byte) in scrambled.iter_mut().enumerate() {
        *byte = u8::try_from(i % 251).unwrap();
    }
    let torn = good[..good.len() / 3].to_vec();
    for broken in [b"not a database".to_vec(), scrambled, torn] {
        for old in std::fs::read_dir(dir.path()).unwrap() {
            std::fs::remove_file(old.unwrap().path()).unwrap();
        }
        std::fs::write(&path, &broken).unwrap();
        let server = start(options(dir.path())).await.unwrap();
        assert!(server.warnings()[0].contains("damaged"), "{:?}", server.warnings());
        let aside = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        let aside = aside.into_iter().find(|p| p.to_string_lossy().contains("broken-")).unwrap();
        assert_eq!(std::fs::read(aside).unwrap().len(), broken.len());
        Line::join(&ana, &choice_of(&server), &quick()).await;
        server.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_there_is_no_connection_is_said_in_words() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let why = async |at: String| {
        let mut tuning = quick();
        tuning.server.pause = Duration::from_millis(10);
        tuning.server.answer_within = Duration::from_millis(700);
        let mut line = Line::new(&Player::owner(1), &ControlChoice::Server(format!("http://{at}")), &tuning);
        line.tx.send(ToCarrier::Open).await.unwrap();
        line.closed().await
    };
    assert!(why(free.to_string()).await.contains("nothing listens"));
    // A label of more than 63 characters is refused before anybody is asked.
    assert!(why(format!("{}.example", "x".repeat(70))).await.contains("was not found"));
    assert!(why(canned("SSH-2.0-x\r\n").await).await.contains("not a lanrage server"));
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    assert!(why(canned(page).await).await.contains("not a lanrage server"));
    let trouble = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    assert!(why(canned(trouble).await).await.contains("in trouble (503"));
    assert!(why(canned("").await).await.contains("in time"));
    assert!(why(fake(None, "").await).await.contains("not a lanrage server"));
    assert!(why(fake(Some("2"), "").await).await.contains("update the player's one"));
    let nonce = text::encode(&[7; 32]);
    let other = format!(r#"{{"down":"opened","nonce":"{nonce}","audience":"bank.example:443"}}"#);
    assert!(why(fake(Some("1"), &other).await).await.contains("Host header"));
    assert!(why(fake(Some("1"), "nonsense").await).await.contains("no message"));
    assert!(why("[::1".into()).await.contains("not an address"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_pass_is_tried_again() {
    let count = async |answer: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let mut tuning = quick();
        tuning.server.pause = Duration::from_millis(20);
        let mut line = Line::new(&Player::owner(1), &ControlChoice::Server(format!("http://{at}")), &tuning);
        line.tx.send(ToCarrier::Open).await.unwrap();
        let counted = tokio::spawn(async move {
            let mut n = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                n += 1;
                COUNT.store(n, std::sync::atomic::Ordering::Relaxed);
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        line.closed().await;
        counted.abort();
        COUNT.load(std::sync::atomic::Ordering::Relaxed)
    };
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    assert_eq!(count("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await, 3);
    assert_eq!(count("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_hdr_async(stream, |_: &Request, r| with_protocol(r, "1")).await.unwrap();
        let opened = format!(r#"{{"down":"opened","nonce":"{}","audience":"{at}"}}"#, text::encode(&[7; 32]));
        socket.send(Message::text(opened)).await.unwrap();
        // Never reads again, so no pong either; the second challenge must not reach the node.
        let bad = format!(
            r#"{{"down":"opened","nonce":"{}","audience":"bank.example:443"}}"#,
            text::encode(&[8; 32])
        );
        socket.send(Message::text(bad)).await.unwrap();
        let made_up = r#"{"down":"closed","why":"pay here"}"#;
        socket.send(Message::text(made_up)).await.unwrap();
        sleep(SOON).await;
    });
    let mut tuning = quick();
    tuning.server.ping_every = Duration::from_millis(100);
    tuning.server.dead_after = Duration::from_millis(500);
    let mut line = Line::new(&Player::owner(1), &ControlChoice::Server(format!("http://{at}")), &tuning);
    line.tx.send(ToCarrier::Open).await.unwrap();
    assert!(matches!(line.next().await, Down::Opened { audience, .. } if audience == at.to_string()));
    let Down::Closed { why } = line.next().await else { panic!("something else first") };
    assert!(why.contains("does not answer any more"), "{why}");
}

fn options(dir: &Path) -> ServerOptions {
    ServerOptions { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..ServerOptions::new(dir) }
}

async fn serve() -> (TempDir, ServerHandle, ControlChoice) {
    let dir = tempfile::tempdir().unwrap();
    let server = start(options(dir.path())).await.unwrap();
    let choice = choice_of(&server);
    (dir, server, choice)
}

fn choice_of(server: &ServerHandle) -> ControlChoice {
    format!("server:http://{}", server.addresses()[0]).parse().unwrap()
}

fn quick() -> Tuning {
    Tuning {
        // Whatever this computer runs on 443 is none of these tests' business; tests/host/tls.rs has that.
        server: ServerTuning {
            pause: Duration::from_millis(50),
            fallback_port: None,
            ..ServerTuning::default()
        },
        ..Tuning::default()
    }
}

async fn wait_for<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "it did not happen");
        sleep(Duration::from_millis(50)).await;
    }
}
