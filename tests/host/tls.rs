//! TLS on one port with everything else: pins, what is said when a certificate is not good enough, the way round by another
//! port, and callers of every kind.

use crate::players::{Line, Player, SOON};
use lanrage::host::control::{ControlChoice, ServerTuning, ToCarrier, Tuning};
use lanrage::host::tls::{self, Trust};
use lanrage::model::pin::Pin;
use lanrage::server::{ServerHandle, ServerOptions, Tls, start};
use lanrage::wire::control::{Down, Up};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn players_meet_by_https_with_the_servers_pin() {
    let (dir, server) = serve(Tls::SelfSigned).await;
    let choice = https(&server, server.pin().unwrap());
    let (ana, bob) = (Player::owner(1), Player::friend(2, 1));
    let mut a = Line::join(&ana, &choice, &tuning(None)).await;
    let b = Line::join(&bob, &choice, &tuning(None)).await;
    b.publish(7).await;
    a.record_of(&bob, 7).await;
    // On the same port without encryption, for whoever asks for that.
    let plain = format!("server:http://{}", server.addresses()[0]).parse().unwrap();
    let c = Line::join(&Player::friend(3, 1), &plain, &tuning(None)).await;
    c.publish(1).await;
    a.record_of(&c.player, 1).await;
    let pin = server.pin();
    server.shutdown().await.unwrap();
    assert!(a.closed().await.contains("the server is stopping"));
    let again = start(options(dir.path(), Tls::SelfSigned)).await.unwrap();
    assert_eq!(again.pin(), pin, "a restart changes no fingerprint");
    again.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_good_enough_is_refused_at_once_and_in_words_that_help() {
    let (_dir, server) = serve(Tls::SelfSigned).await;
    let at = server.addresses()[0];
    let why = async |choice: ControlChoice| {
        let begun = Instant::now();
        let mut line = Line::new(&Player::owner(1), &choice, &tuning(None));
        line.tx.send(ToCarrier::Open).await.unwrap();
        let why = line.closed().await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        why
    };
    let other = why(https(&server, Pin([9; 32]))).await;
    assert!(other.contains("another certificate") && other.contains("fingerprint"), "{other}");
    let unknown = why(format!("server:https://{at}").parse().unwrap()).await;
    assert!(unknown.contains("#sha256="), "{unknown}");
    server.shutdown().await.unwrap();

    let (_dir, plain) = serve(Tls::None).await;
    let none = why(https(&plain, Pin([9; 32]))).await;
    assert!(none.contains("does not speak TLS") && none.contains("http://"), "{none}");
    plain.shutdown().await.unwrap();
}

/// A port at which nobody listens, and that nobody else is given while the socket lives.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_port_nothing_gets_to_is_found_by_tls_on_the_other() {
    let (_dir, server) = serve(Tls::SelfSigned).await;
    let at = server.addresses()[0];
    let full = Full::new();
    let (_kept, refused) = refusing();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shut_out = [
        ("refused", refused, Duration::ZERO),
        ("no answer to a SYN", full.at, Duration::from_millis(120)),
        ("connects and says nothing", mute.local_addr().unwrap(), Duration::from_millis(1120)),
    ];
    for (n, (what, dead, head_start)) in shut_out.into_iter().enumerate() {
        let player = Player::owner(u8::try_from(n + 1).unwrap());
        let choice = format!("server:http://{dead}").parse().unwrap();
        let mut line = Line::new(&player, &choice, &tuning(Some(at.port())));
        let begun = Instant::now();
        line.tx.send(ToCarrier::Open).await.unwrap();
        let Down::Opened { nonce, audience } = line.next().await else { panic!("{what}: not opened") };
        assert_eq!(audience, at.to_string(), "the hello is bound to what was really dialled");
        line.send(Up::Hello(player.hello(&nonce, &audience))).await;
        assert!(matches!(line.next().await, Down::Welcome { .. }));
        let took = begun.elapsed();
        assert!(took >= head_start && took < head_start + Duration::from_secs(2), "{what}: {took:?}");
        // The next time there is nothing to wait for.
        line.tx.send(ToCarrier::Open).await.unwrap();
        let begun = Instant::now();
        assert!(matches!(line.next().await, Down::Opened { .. }));
        assert!(begun.elapsed() < Duration::from_millis(1000), "{what}: {:?}", begun.elapsed());
    }
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_round_wants_the_certificate_that_an_https_address_asked_for() {
    let (_dir, server) = serve(Tls::SelfSigned).await;
    let fallback = tuning(Some(server.addresses()[0].port()));
    let (_kept, dead) = refusing();
    let by = |pin: Pin| format!("server:https://{dead}#sha256={pin}").parse().unwrap();
    Line::join(&Player::owner(1), &by(server.pin().unwrap()), &fallback).await;
    let mut line = Line::new(&Player::owner(2), &by(Pin([1; 32])), &fallback);
    line.tx.send(ToCarrier::Open).await.unwrap();
    let why = line.closed().await;
    assert!(why.contains("nothing listens"), "what went wrong where it was asked for: {why}");
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_on_the_other_port_but_is_no_lanrage_server_changes_no_words() {
    // A web server with TLS of its own: the pages of a server that lacks the way in.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let (_kept, dead) = refusing();
    let choice = format!("server:http://{dead}").parse().unwrap();
    let mut line = Line::new(&Player::owner(1), &choice, &tuning(Some(port)));
    line.tx.send(ToCarrier::Open).await.unwrap();
    let why = line.closed().await;
    assert!(why.contains("nothing listens at") && why.contains(&dead.to_string()), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_tells_its_callers_apart() {
    let (_dir, server) = serve(Tls::SelfSigned).await;
    let at = server.addresses()[0];
    let request: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let garbage: [&[u8]; 4] = [b"\x05\x01\x00", b"\xff", b"SSH-2.0-x\r\n\r\n", b"\x16GET / HTTP/1.1"];
    assert!(ask(dial(at).await, request).await.ends_with("ok\n"));
    assert!(ask(encrypted(at).await, request).await.ends_with("ok\n"));
    for bytes in garbage {
        let begun = Instant::now();
        ask(dial(at).await, bytes).await;
        ask(encrypted(at).await, bytes).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "hung up on at once: {bytes:?}");
    }
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_says_it_slowly_is_hung_up_on() {
    let (_dir, server) = serve(Tls::SelfSigned).await;
    let at = server.addresses()[0];
    let begun = Instant::now();
    let silent = async { ask(dial(at).await, b"").await };
    let silent_inside = async { ask(encrypted(at).await, b"").await };
    let half_a_hello = async { ask(dial(at).await, b"\x16\x03\x01\x02\x00\x01\x00\x01").await };
    let drip = async {
        let mut stream = dial(at).await;
        for byte in b"GET / HTTP/1.1\r\nX-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz".iter().cycle() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let all = async { tokio::join!(silent, silent_inside, half_a_hello, drip) };
    timeout(Duration::from_secs(15), all).await.expect("nobody stays");
    assert!(begun.elapsed() >= Duration::from_secs(4), "and everybody gets their five seconds");
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_that_the_program_prints_for_players_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_lanrage"))
        .args(["server", "--tls-self-signed", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let printed = timeout(SOON, async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            if let Some((_, control)) = line.split_once("--control ") {
                return control.to_owned();
            }
        }
    });
    let printed = printed.await.unwrap();
    assert!(
        printed.starts_with("server:https://THIS-COMPUTER:") && printed.contains("#sha256="),
        "{printed}"
    );
    let choice: ControlChoice = printed.replace("THIS-COMPUTER", "127.0.0.1").parse().unwrap();
    Line::join(&Player::owner(1), &choice, &tuning(None)).await;
}

async fn serve(tls: Tls) -> (TempDir, ServerHandle) {
    let dir = tempfile::tempdir().unwrap();
    let server = start(options(dir.path(), tls)).await.unwrap();
    (dir, server)
}

fn options(dir: &Path, tls: Tls) -> ServerOptions {
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    ServerOptions { listen, tls, ..ServerOptions::new(dir) }
}

fn https(server: &ServerHandle, pin: Pin) -> ControlChoice {
    format!("server:https://{}#sha256={pin}", server.addresses()[0]).parse().unwrap()
}

fn tuning(fallback_port: Option<u16>) -> Tuning {
    let server = ServerTuning { pause: Duration::from_millis(50), fallback_port, ..ServerTuning::default() };
    Tuning { server, ..Tuning::default() }
}

async fn dial(at: SocketAddr) -> tls::Line {
    tls::Line::Plain(TcpStream::connect(at).await.unwrap())
}

async fn encrypted(at: SocketAddr) -> tls::Line {
    let stream = TcpStream::connect(at).await.unwrap();
    tls::wrap(stream, Trust::Anyone, "127.0.0.1", "the server", &[]).await.unwrap()
}

/// Sends this and reads until the other side hangs up.
async fn ask(mut stream: tls::Line, what: &[u8]) -> String {
    let _ = stream.write_all(what).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("hung up on");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A port where SYNs are not answered: its queue of connections is full.
struct Full {
    at: SocketAddr,
    _listener: socket2::Socket,
    _queue: Vec<std::net::TcpStream>,
}

impl Full {
    fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let at = listener.local_addr().unwrap().as_socket().unwrap();
        let knock = || std::net::TcpStream::connect_timeout(&at, Duration::from_millis(300)).ok();
        let queue: Vec<_> = (0..8).map_while(|_| knock()).collect();
        assert!(queue.len() < 8, "the queue is full by now");
        Self { at, _listener: listener, _queue: queue }
    }
}
