//! The tunnel's sockets on loopback: what goes in at one end comes out at the other, whole, in order, and without
//! allocating.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the side that does I/O")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic: that is how it fails")]

use lanrage::engine::sink::WanSink;
use lanrage::host::udp::{Arrival, Bound, Receiver, SendBatches, Sockets, bind};
use lanrage::model::addr::{Endpoint, Via};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "a global allocator that counts and passes everything on to the system's")]
// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct End {
    sockets: Rc<Sockets>,
    sends: SendBatches<Rc<Sockets>>,
    receiver: Receiver,
    addr: SocketAddr,
}

fn bound(ip: &str) -> Bound {
    bind(&[SocketAddr::new(ip.parse().unwrap(), 0)], None).unwrap()
}

impl End {
    fn of(bound: Bound) -> Self {
        let sockets = Sockets::open(bound).unwrap();
        Self {
            sends: SendBatches::new(sockets.clone()),
            receiver: Receiver::new(sockets.iter()),
            addr: sockets.local_addrs()[0],
            sockets,
        }
    }

    fn on(ip: &str) -> Self {
        Self::of(bound(ip))
    }

    fn put(&mut self, to: SocketAddr, datagram: &[u8]) {
        let room = self.sends.reserve(Endpoint::main(to), datagram.len()).expect("there is room");
        room.copy_from_slice(datagram);
        self.sends.commit(datagram.len());
    }

    fn put_by(&mut self, number: u16, to: SocketAddr, datagram: &[u8]) {
        let by = Endpoint { via: Via::Extra(number), to };
        self.sends.reserve(by, datagram.len()).expect("there is room").copy_from_slice(datagram);
        self.sends.commit(datagram.len());
    }

    /// Reads the extra sockets until `n` datagrams are there or nothing comes for a second, as the data loop does.
    async fn hear_extra(&mut self, n: usize, mut each: impl FnMut(Via, SocketAddr, &[u8])) -> usize {
        let mut heard = 0;
        while heard < n {
            if tokio::time::timeout(Duration::from_secs(1), self.sockets.readable()).await.is_err() {
                break;
            }
            while let Some(socket) = self.sockets.next_ready() {
                let again = self.receiver.read(&socket);
                heard += taken(&mut self.receiver, |via, from, d| each(via, from, d));
                self.sockets.served(&socket, again);
            }
        }
        heard
    }

    /// Reads until `n` datagrams are there or nothing comes for a second; calls back with each.
    async fn hear(&mut self, n: usize, mut each: impl FnMut(SocketAddr, &[u8])) -> usize {
        let mut heard = 0;
        while heard < n {
            if tokio::time::timeout(Duration::from_secs(1), self.sockets.readable()).await.is_err() {
                break;
            }
            for socket in self.sockets.iter() {
                loop {
                    let more = self.receiver.read(socket);
                    heard += taken(&mut self.receiver, |_, from, d| each(from, d));
                    if !more {
                        break;
                    }
                }
            }
        }
        heard
    }
}

#[tokio::test]
async fn a_flood_at_one_address_does_not_keep_out_what_comes_by_another() {
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
    let mut here = End::of(bind(&[at("127.0.0.1"), at("127.0.0.2")], None).unwrap());
    let [flooded, quiet] = here.sockets.local_addrs()[..] else { panic!("two were bound") };
    let there = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut heard = 0;
    for turn in 0..60 {
        // More than a turn takes, always.
        (0..600).for_each(|_| drop(there.send_to(&[1; 40], flooded)));
        there.send_to(&[2; 40], quiet).unwrap();
        // As the data loop does when there is more than its share: the runtime looks at all sockets.
        tokio::task::yield_now().await;
        tokio::time::timeout(Duration::from_secs(1), here.sockets.readable()).await.unwrap();
        here.sockets.read(&mut here.receiver);
        let mut left = 256;
        while left > 0
            && let Some(Arrival::Datagrams(read)) = here.receiver.next_arrival()
        {
            left -= 1;
            heard += read.iter().filter(|d| d.first() == Some(&2)).count();
        }
        assert!(turn < 10 || heard >= turn / 4, "{heard} of {turn} were heard");
    }
}

/// Everything that waits, in order; how many datagrams it was.
fn taken(receiver: &mut Receiver, mut each: impl FnMut(Via, SocketAddr, &[u8])) -> usize {
    let mut many = 0;
    while let Some(Arrival::Datagrams(read)) = receiver.next_arrival() {
        read.iter().for_each(|d| each(read.via, read.from, d));
        many += read.iter().count();
    }
    many
}

/// Datagrams of changing sizes, numbered.
fn story() -> Vec<Vec<u8>> {
    let sizes: Vec<usize> = [1200; 60]
        .into_iter()
        .chain([500])
        .chain([90; 40])
        .chain([1452; 10])
        .chain([33, 34, 35, 36])
        .collect();
    let numbered = (0u8..).zip(sizes);
    numbered.map(|(n, size)| [&u32::from(n).to_be_bytes()[..], &vec![n; size]].concat()).collect()
}

async fn tell(from: &mut End, to: &mut End) -> Vec<Vec<u8>> {
    let story = story();
    story.iter().for_each(|d| from.put(to.addr, d));
    from.sends.flush();
    let (mut heard, sender) = (Vec::new(), from.addr);
    to.hear(story.len(), |from, d| {
        assert_eq!(from, sender);
        heard.push(d.to_vec());
    })
    .await;
    heard
}

#[tokio::test]
async fn segmented_sends_arrive_whole_and_in_order() {
    for ip in ["127.0.0.1", "::1"] {
        let (mut a, mut b) = (End::on(ip), End::on(ip));
        assert_eq!(tell(&mut a, &mut b).await, story(), "{ip}");
        let counts = a.sends.counts();
        assert_eq!((counts.sent, counts.full, counts.failed), (story().len() as u64, 0, 0));
        if cfg!(target_os = "linux") {
            // 60 of 1200 and a shorter one are more than 64 KiB: two. 40 of 90. 10 of 1452 and a shorter one. Then each
            // is longer than the one before: three.
            assert_eq!(counts.calls, 7, "{ip}: equal datagrams shared a call");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_system_that_refuses_segments_gets_the_same_bytes_one_by_one() {
    use std::os::fd::AsRawFd;
    let bound = bound("127.0.0.1");
    for socket in bound.sockets() {
        // Linux refuses segmented sends (EINVAL) on sockets without checksums: a refusal by the real kernel.
        let yes: libc::c_int = 1;
        #[expect(unsafe_code, reason = "no crate in use has a setter for SO_NO_CHECK")]
        // SAFETY: the descriptor is open, the pointer and size are those of one live c_int.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const yes).cast(),
                4,
            )
        };
        assert_eq!(done, 0);
    }
    let (mut a, mut b) = (End::of(bound), End::on("127.0.0.1"));
    assert_eq!(tell(&mut a, &mut b).await, story());
    let counts = a.sends.counts();
    assert_eq!((counts.calls, counts.sent, counts.failed), (story().len() as u64, story().len() as u64, 0));
    assert_eq!(tell(&mut a, &mut b).await, story(), "and later inputs are not disturbed either");
}

#[tokio::test]
async fn a_destination_without_a_way_is_reported_and_others_go_on() {
    let (mut a, mut b) = (End::on("127.0.0.1"), End::on("127.0.0.1"));
    // No IPv6 socket here, and from a socket bound to loopback there is no way out.
    let nowhere = ["[2001:db8::1]:9".parse().unwrap(), "192.0.2.1:9".parse().unwrap()];
    nowhere.iter().for_each(|to| a.put(*to, b"lost"));
    a.put(b.addr, b"found");
    a.sends.flush();
    let mut failed: Vec<_> = std::iter::from_fn(|| a.sends.pop_failed()).collect();
    failed.sort_unstable();
    assert!(failed.contains(&nowhere[0]), "{failed:?}");
    assert!(!failed.contains(&b.addr));
    assert_eq!(b.hear(1, |_, d| assert_eq!(d, b"found")).await, 1);
}

/// What is said to everybody: both families, one of them with somebody whom no way leads to, and nothing is allocated.
#[tokio::test]
async fn a_datagram_for_each_of_several_leaves_in_one_call_of_each_family() {
    for ip in ["127.0.0.1", "::1"] {
        let mut a = End::on(ip);
        let mut peers: Vec<End> = (0..5).map(|_| End::on(ip)).collect();
        let nowhere: SocketAddr = "192.0.2.1:9".parse().unwrap();
        for round in 0..3u8 {
            let (calls, before) = (a.sends.counts().calls, ALLOCATIONS.with(Cell::get));
            for (n, peer) in (0u8..).zip(&peers) {
                a.put(peer.addr, &vec![n; 60 + usize::from(n)]);
                if n == 2 {
                    a.put(nowhere, b"lost");
                }
            }
            a.sends.flush();
            let allocated = ALLOCATIONS.with(Cell::get) - before;
            // The test's own five, and nothing of ours.
            assert!(round == 0 || allocated == 5, "{allocated}");
            let calls = a.sends.counts().calls - calls;
            let expected = if !cfg!(target_os = "linux") {
                5
            } else if ip == "::1" {
                1
            } else {
                2
            };
            assert_eq!(calls, expected, "{ip}");
            for (n, peer) in (0u8..).zip(&mut peers) {
                let heard = peer.hear(1, |from, d| {
                    assert_eq!((from, d), (a.addr, &vec![n; 60 + usize::from(n)][..]));
                });
                assert_eq!(heard.await, 1);
            }
            assert_eq!(a.sends.counts().failed, u64::from(round) + 1);
            while a.sends.pop_failed().is_some() {}
        }
    }
}

#[tokio::test]
async fn a_flood_beyond_the_buffers_is_lost_by_the_system_and_the_rest_stays_whole() {
    let (mut a, mut b) = (End::on("127.0.0.1"), End::on("127.0.0.1"));
    // 12,000 × 1,400 bytes is far more than the receive buffer; nothing may come out cut or swapped.
    for n in 0..12_000u32 {
        let mut datagram = [0; 1400];
        datagram[..4].copy_from_slice(&n.to_be_bytes());
        if let Some(room) = a.sends.reserve(Endpoint::main(b.addr), datagram.len()) {
            room.copy_from_slice(&datagram);
            a.sends.commit(datagram.len());
        }
    }
    a.sends.flush();
    let (mut last, mut heard) = (None, 0);
    b.hear(12_000, |_, d| {
        assert_eq!(d.len(), 1400);
        let n = u32::from_be_bytes(d[..4].try_into().unwrap());
        assert!(last < Some(n), "in order");
        last = Some(n);
        heard += 1;
    })
    .await;
    assert!(heard > 64, "{heard}");
}

#[tokio::test]
async fn sending_and_receiving_do_not_allocate_once_warm() {
    let (mut a, mut b) = (End::on("127.0.0.1"), End::on("127.0.0.1"));
    let datagrams = story();
    for round in 0..4 {
        let before = ALLOCATIONS.with(Cell::get);
        datagrams.iter().for_each(|d| a.put(b.addr, d));
        a.sends.flush();
        let after_send = ALLOCATIONS.with(Cell::get);
        // Waiting belongs to the runtime, reading to us.
        tokio::time::timeout(Duration::from_secs(1), b.sockets.readable()).await.unwrap();
        let before_read = ALLOCATIONS.with(Cell::get);
        let socket = b.sockets.iter().next().unwrap();
        let mut heard = 0;
        while b.receiver.read(socket) {
            heard += taken(&mut b.receiver, |_, _, _| ());
        }
        heard += taken(&mut b.receiver, |_, _, _| ());
        let after = ALLOCATIONS.with(Cell::get);
        assert_eq!(heard, datagrams.len());
        if round > 0 {
            assert_eq!((after_send - before, after - before_read), (0, 0), "round {round}");
        }
    }
}

#[tokio::test]
async fn hundreds_of_extra_sockets_open_at_once_and_each_hears_and_speaks_for_itself() {
    for ip in ["127.0.0.1", "::1"] {
        let (mut a, mut b) = (End::on(ip), End::on(ip));
        let v6 = a.addr.is_ipv6();
        let start = Instant::now();
        let (open, why) = a.sockets.open_extra(100, 256, v6);
        let took = start.elapsed();
        assert!(open == 256 && why.is_none(), "{open} {why:?}");
        assert!(took < Duration::from_millis(250), "{took:?}");
        // Out by each of them: as many sources as sockets.
        (0..256u16).for_each(|n| a.put_by(100 + n, b.addr, &n.to_be_bytes()));
        a.sends.flush();
        let mut sources = vec![None; 256];
        let heard = b
            .hear(256, |from, d| {
                sources[usize::from(u16::from_be_bytes(d.try_into().unwrap()))] = Some(from);
            })
            .await;
        assert_eq!(heard, 256);
        let different: std::collections::BTreeSet<_> = sources.iter().flatten().collect();
        assert_eq!(different.len(), 256);
        // Back to every third, twice: after a socket was read, it is listened to again.
        for round in 0..2u8 {
            let third: Vec<usize> = (0..256).step_by(3).collect();
            third.iter().for_each(|n| b.put(sources[*n].unwrap(), &[round, u8::try_from(*n).unwrap()]));
            b.sends.flush();
            let mut ways = Vec::new();
            a.hear_extra(third.len(), |via, from, d| {
                assert_eq!((from, d[0]), (b.addr, round));
                assert_eq!(via, Via::Extra(100 + u16::from(d[1])));
                ways.push(usize::from(d[1]));
            })
            .await;
            ways.sort_unstable();
            assert_eq!(ways, third);
        }
        assert!(a.sockets.next_ready().is_none(), "nothing is left");
    }
}

#[tokio::test]
async fn closed_extra_sockets_are_silent_and_the_kept_one_goes_on() {
    let (mut a, mut b) = (End::on("127.0.0.1"), End::on("127.0.0.1"));
    a.sockets.open_extra(0, 10, false);
    a.sockets.open_extra(10, 10, false);
    assert_eq!(a.sockets.extra_len(), 20);
    (0..20).for_each(|n| a.put_by(n, b.addr, &[u8::try_from(n).unwrap()]));
    a.sends.flush();
    let mut sources = vec![None; 20];
    b.hear(20, |from, d| sources[usize::from(d[0])] = Some(from)).await;
    // Something waits at each when they are closed.
    sources.iter().for_each(|to| b.put(to.unwrap(), b"hello"));
    b.sends.flush();
    tokio::time::sleep(Duration::from_millis(20)).await;
    a.sockets.close_extra(0, 10, Some(4));
    a.sockets.close_extra(15, u16::MAX, None);
    assert_eq!(a.sockets.extra_len(), 6);
    let mut ways = Vec::new();
    a.hear_extra(6, |via, _, _| ways.push(via)).await;
    ways.sort_unstable();
    assert_eq!(ways, [4, 10, 11, 12, 13, 14].map(Via::Extra));
    a.put_by(5, b.addr, b"by nobody");
    a.put_by(4, b.addr, b"by the kept one");
    a.sends.flush();
    assert!(a.sends.pop_failed().is_none(), "a closed socket says nothing about the destination");
    assert_eq!(a.sends.counts().failed, 1);
    assert_eq!(b.hear(1, |_, d| assert_eq!(d, b"by the kept one")).await, 1);
    a.sockets.close_extra(0, u16::MAX, None);
    assert_eq!(a.sockets.extra_len(), 0);
}

#[tokio::test]
async fn too_many_extra_sockets_are_fewer_and_a_family_without_a_socket_has_none() {
    let a = End::on("127.0.0.1");
    let (open, why) = a.sockets.open_extra(0, 2000, false);
    assert!((1..=1024).contains(&open) && why.is_some(), "{open} {why:?}");
    assert_eq!(a.sockets.extra_len(), usize::from(open));
    let (open, why) = a.sockets.open_extra(5000, 8, true);
    assert!(open == 0 && why.is_some());
    assert_eq!(a.sockets.open_extra(0, 8, false).0, 8, "those that are open already count as wanted");
    let (open, why) = a.sockets.open_extra(u16::MAX - 1, 8, false);
    assert!(open < 8 && why.is_some(), "numbers end where they end: {open}");
}

#[tokio::test]
async fn extra_sockets_send_and_receive_without_allocating_once_warm() {
    let (mut a, mut b) = (End::on("127.0.0.1"), End::on("127.0.0.1"));
    a.sockets.open_extra(0, 256, false);
    (0..256).for_each(|n| a.put_by(n, b.addr, &[0; 40]));
    a.sends.flush();
    let mut sources = Vec::new();
    b.hear(256, |from, _| sources.push(from)).await;
    for round in 0..4 {
        (0..40).for_each(|n| sources.iter().take(16).for_each(|to| b.put(*to, &[n; 200])));
        b.sends.flush();
        let (mut heard, mut read) = (0, 0);
        while heard < 640 {
            tokio::time::timeout(Duration::from_secs(1), a.sockets.readable()).await.unwrap();
            let before = ALLOCATIONS.with(Cell::get);
            while let Some(socket) = a.sockets.next_ready() {
                let again = a.receiver.read(&socket);
                heard += taken(&mut a.receiver, |_, _, _| ());
                a.sockets.served(&socket, again);
            }
            (0..256).for_each(|n| a.put_by(n, b.addr, &[0; 40]));
            a.sends.flush();
            read += ALLOCATIONS.with(Cell::get) - before;
        }
        if round > 0 {
            assert_eq!(read, 0, "round {round}");
        }
        b.hear(100_000, |_, _| ()).await;
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_disturbs_nobody_else() {
    let (mut a, mut b) = (End::on("127.0.0.1"), End::on("127.0.0.1"));
    let closed = End::on("127.0.0.1").addr;
    // On loopback the ICMP error is back before the next send.
    for n in 0..20u8 {
        a.put(closed, b"nobody");
        a.sends.flush();
        a.put(b.addr, &[n]);
        a.sends.flush();
    }
    assert_eq!(a.sends.counts().failed, 0);
    assert!(a.sends.pop_failed().is_none());
    let mut heard = Vec::new();
    b.hear(20, |_, d| heard.push(d[0])).await;
    assert_eq!(heard, (0..20).collect::<Vec<_>>());
    b.put(a.addr, b"back");
    b.sends.flush();
    assert_eq!(a.hear(1, |_, d| assert_eq!(d, b"back")).await, 1);
}
