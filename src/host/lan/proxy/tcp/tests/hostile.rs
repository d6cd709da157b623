//! Packets that no honest peer sends. Those that are to get past the first check have right checksums.

use super::*;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use tokio::io::AsyncReadExt;

/// What a peer says.
#[derive(Clone, Copy)]
struct Said<'a> {
    control: TcpControl,
    seq: u32,
    ack: Option<u32>,
    data: &'a [u8],
}

const SYN: Said<'static> = Said { control: TcpControl::Syn, seq: 1, ack: None, data: b"" };

/// A segment of a peer.
fn tcp(key: Key, to: Ipv4Addr, said: Said<'_>) -> Vec<u8> {
    let number = |n: u32| TcpSeqNumber(i32::from_ne_bytes(n.to_ne_bytes()));
    let opens = said.control == TcpControl::Syn;
    let repr = TcpRepr {
        src_port: key.peer.port(),
        dst_port: key.port,
        control: said.control,
        seq_number: number(said.seq),
        ack_number: said.ack.map(number),
        window_len: 0xffff,
        window_scale: opens.then_some(7),
        max_seg_size: opens.then_some(1_340),
        sack_permitted: opens,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: said.data,
    };
    let ip = Ipv4Repr {
        src_addr: *key.peer.ip(),
        dst_addr: to,
        next_header: IpProtocol::Tcp,
        payload_len: repr.buffer_len(),
        hop_limit: 64,
    };
    let sums = ChecksumCapabilities::default();
    let mut bytes = vec![0; 20 + repr.buffer_len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &sums);
    let mut segment = TcpPacket::new_unchecked(&mut bytes[20..]);
    repr.emit(&mut segment, &ip.src_addr.into(), &ip.dst_addr.into(), &sums);
    bytes
}

/// Another member of the host's party.
fn peer(host: &Tcp, port: u16) -> Key {
    let [a, b, c, _] = host.us.octets();
    Key { peer: SocketAddrV4::new(Ipv4Addr::new(a, b, c, 9), 5_000), port }
}

/// What comes out: flags, number, acknowledged number.
fn out(host: &mut Tcp) -> Vec<(u8, u32, u32)> {
    let mut room = [0; 2_048];
    let mut all = Vec::new();
    while let Some(len) = host.next(&mut room) {
        let number = |at: usize| u32::from_be_bytes(room[at..at + 4].try_into().unwrap());
        assert!(len >= 40);
        all.push((room[33], number(24), number(28)));
    }
    all
}

async fn until<T>(host: &mut Tcp, mut done: impl FnMut(&mut Tcp) -> Option<T>) -> T {
    for _ in 0..2_000 {
        host.turn();
        if let Some(done) = done(host) {
            return done;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen: {host:?}");
}

async fn empty(host: &mut Tcp) {
    until(host, |host| {
        out(host);
        (host.lines.len() == 0).then_some(())
    })
    .await;
}

/// A connection of a hand-made peer to a game: its key, the peer's next number, ours.
async fn opened(host: &mut Tcp, game: &TcpListener, seq: u32) -> (Key, u32, u32) {
    let key = peer(host, port(game));
    host.take(&tcp(key, host.us, Said { seq, ..SYN }));
    let theirs = until(host, |host| out(host).iter().find(|p| p.0 == 0x12).map(|p| p.1)).await;
    let (next, ack) = (seq.wrapping_add(1), theirs.wrapping_add(1));
    let said = Said { control: TcpControl::None, seq: next, ack: Some(ack), data: b"" };
    host.take(&tcp(key, host.us, said));
    (key, next, ack)
}

#[tokio::test]
async fn bytes_for_which_no_window_was_offered_are_not_taken() {
    const STEP: u32 = 1_000;
    let mut host = Tcp::new(at(subnet(), 2), MTU);
    let game = game();
    for seq in [1, u32::MAX - 100] {
        let (key, next, ack) = opened(&mut host, &game, seq).await;
        let (stream, _) = game.accept().await.unwrap();
        let (before, us) = (host.counters().broken, host.us);
        let send = |offset: u32| {
            let data = vec![u8::try_from(offset % 251).unwrap(); 1_000];
            let seq = next.wrapping_add(offset);
            tcp(key, us, Said { control: TcpControl::None, seq, ack: Some(ack), data: &data })
        };
        // Beyond the first, unscaled window; beyond the buffer; far beyond.
        for offset in [65_000, 262_144, 300_000, 500_000] {
            host.take(&send(offset));
        }
        assert_eq!(host.counters().broken - before, 4);
        // What was offered is taken, in order or not, and more and more of it.
        let all: Vec<u32> = (0..600).map(|n| n * STEP).collect();
        for pair in all.chunks(2) {
            pair.iter().rev().for_each(|offset| host.take(&send(*offset)));
            host.turn();
            let mut some = [0; 4_096];
            while stream.try_read(&mut some).is_ok_and(|n| n > 0) {}
            out(&mut host);
        }
        assert_eq!(host.counters().broken - before, 4);
        let end = next.wrapping_add(600 * STEP);
        host.take(&tcp(key, us, Said { control: TcpControl::Rst, seq: end, ack: None, data: b"" }));
        empty(&mut host).await;
    }
}

#[tokio::test]
async fn a_buffer_is_never_filled_beyond_its_end() {
    let mut host = Tcp::new(at(subnet(), 2), MTU);
    let game = game();
    let (key, next, ack) = opened(&mut host, &game, 1).await;
    let us = host.us;
    let mut send = |offset: u32, len: usize| {
        let (seq, data) = (next.wrapping_add(offset), vec![1; len]);
        host.take(&tcp(key, us, Said { control: TcpControl::None, seq, ack: Some(ack), data: &data }));
    };
    // Right behind the buffer; then, while nobody reads, everything up to there.
    send(256 * 1_024, 1_000);
    (0..256).for_each(|n| send(n * 1_024, 1_024));
    let held = host.lines.iter().map(|line| match &line.phase {
        Phase::Open(open) => open.pipe.tcp().recv_queue(),
        Phase::Dialing { .. } => 0,
    });
    assert_eq!(held.collect::<Vec<_>>(), [256 * 1_024]);
    assert_eq!(host.counters().broken, 1);
}

#[tokio::test]
async fn a_flood_of_syns_is_bounded_and_harms_nobody_else() {
    let net = subnet();
    let mut host = Tcp::new(at(net, 2), MTU);
    host.patience = Duration::from_secs(2);
    let game = game();
    let port = port(&game);
    let accepting = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = game.accept().await {
            held.push(stream);
        }
    });
    for from in 1..=20_000 {
        let key = Key { peer: SocketAddrV4::new(at(net, 66), from), port };
        host.take(&tcp(key, host.us, SYN));
    }
    assert_eq!((host.lines.len(), host.counters().busy), (256, 20_000 - 256));
    assert!(host.by_key.len() == 256 && host.due.len() <= 256 && host.loads.len() == 1);
    host.turn();
    out(&mut host);
    // Another peer's connection stands all the same.
    let key = peer(&host, port);
    host.take(&tcp(key, host.us, Said { seq: 7, ..SYN }));
    let heard = |host: &mut Tcp| out(host).iter().find(|p| (p.0, p.2) == (0x12, 8)).map(|_| ());
    until(&mut host, heard).await;
    // And the flood is over when its time is.
    empty(&mut host).await;
    assert!(host.loads.is_empty() && host.by_key.is_empty() && host.due.is_empty());
    assert_eq!(host.counters().timed_out, 257);
    accepting.abort();
}

#[tokio::test]
async fn a_peer_that_takes_its_syn_back_leaves_nothing() {
    let mut host = Tcp::new(at(subnet(), 2), MTU);
    let game = game();
    let key = peer(&host, port(&game));
    for stands_here in [false, true] {
        host.take(&tcp(key, host.us, SYN));
        if stands_here {
            until(&mut host, |host| out(host).iter().find(|p| p.0 == 0x12).map(|_| ())).await;
        }
        host.take(&tcp(key, host.us, Said { control: TcpControl::Rst, seq: 2, ..SYN }));
        empty(&mut host).await;
        assert!(host.loads.is_empty());
    }
    let (mut stream, _) = game.accept().await.unwrap();
    assert!(stream.read(&mut [0]).await.is_err(), "the game is told");
}

#[tokio::test]
async fn a_segment_of_no_connection_is_answered_with_a_reset_and_a_reset_with_nothing() {
    let mut host = Tcp::new(at(subnet(), 2), MTU);
    let key = peer(&host, 80);
    let said = Said { control: TcpControl::None, seq: 1, ack: Some(77), data: b"x" };
    host.take(&tcp(key, host.us, said));
    assert_eq!(out(&mut host), [(0x04, 77, 0)]);
    host.take(&tcp(key, host.us, Said { control: TcpControl::Rst, ..said }));
    host.take(&tcp(key, at(subnet(), 7), said));
    let mut wrong = tcp(key, host.us, said);
    wrong[36] ^= 1;
    host.take(&wrong);
    assert_eq!((out(&mut host), host.lines.len()), (vec![], 0));
    for seq in 0..5_000 {
        host.take(&tcp(key, host.us, Said { seq, ..said }));
    }
    assert_eq!(out(&mut host).len(), 1_024, "answers are bounded");
    assert_eq!(host.counters().lost, 5_000 - 1_024);
}

fn control() -> impl Strategy<Value = TcpControl> {
    prop_oneof![
        4 => Just(TcpControl::None),
        2 => Just(TcpControl::Psh),
        1 => Just(TcpControl::Syn),
        1 => Just(TcpControl::Fin),
        1 => Just(TcpControl::Rst),
    ]
}

/// Near a number that matters, or anywhere.
fn offset() -> impl Strategy<Value = u32> {
    let near = |at: u32| (0..5u32).prop_map(move |d| at.wrapping_add(d).wrapping_sub(2));
    prop_oneof![near(0), near(1_000), near(65_535), near(262_144), near(524_280), 0..600_000u32, any::<u32>()]
}

fn run(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(story);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_order_of_segments_makes_it_panic_or_grow(
        story in prop::collection::vec((control(), offset(), prop::option::of(offset()), 0..1_340usize), 1..120),
        turns in any::<u64>(),
    ) {
        run(async {
            let mut host = Tcp::new(at(subnet(), 2), MTU);
            let game = game();
            let (key, next, ours) = opened(&mut host, &game, 1).await;
            let data = pattern(1_340, 0);
            for (n, (control, seq, ack, len)) in story.into_iter().enumerate() {
                let ack = ack.map(|a| ours.wrapping_add(a));
                let said = Said { control, seq: next.wrapping_add(seq), ack, data: &data[..len] };
                host.take(&tcp(key, host.us, said));
                if turns >> (n % 64) & 1 == 1 {
                    host.turn();
                    out(&mut host);
                }
            }
            host.turn();
            out(&mut host);
            assert!(host.lines.len() <= 1 && host.queue.len() <= 2);
        });
    }

    #[test]
    fn no_bytes_make_it_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..40)) {
        run(async {
            let mut host = Tcp::new(at(subnet(), 2), MTU);
            let key = peer(&host, 9);
            for packet in packets {
                host.take(&packet);
                let said = Said { control: TcpControl::Psh, seq: 1, ack: Some(1), data: &packet };
                let mut like = tcp(key, host.us, said);
                let place = usize::from(packet.first().copied().unwrap_or_default()) % like.len();
                like[place] ^= packet.last().copied().unwrap_or_default();
                host.take(&like);
            }
            host.turn();
            out(&mut host);
        });
    }
}
