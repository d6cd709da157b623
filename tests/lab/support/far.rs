//! Two computers far apart: a line between them that takes its time and loses packets. The kernels that tests run on need
//! not have netem for it: a device on either side, and threads that carry packets from one to the other.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};

use super::net::Host;

const MTU: u16 = 1_500;

/// The line; gone when dropped.
#[derive(Debug)]
pub(crate) struct Far {
    stop: Arc<AtomicBool>,
}

impl Drop for Far {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// From now on packets between these two take so long each way, and so many of a thousand do not arrive. They have no IPv6.
pub(crate) fn far_apart(a: &Host, b: &Host, delay: Duration, lost_per_mille: u32) -> Far {
    let stop = Arc::new(AtomicBool::new(false));
    let [to_a, to_b] = [(a, b, 1), (b, a, 2)].map(|(here, there, seat)| {
        let device = here.inside(move || {
            let device = DeviceBuilder::new()
                .name("far0")
                .mtu(MTU)
                .ipv4(Ipv4Addr::new(10, 77, 7, seat), 24, None)
                .build_sync();
            Arc::new(device.expect("a device"))
        });
        here.run(&["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
        // As most computers, whatever this one is set to: a loss is too much traffic. Not every kernel gives CUBIC to a
        // namespace.
        let control = "sysctl -qw net.ipv4.tcp_congestion_control=";
        here.run(&["sh", "-c", &format!("{control}cubic 2>/dev/null || {control}reno")]);
        let (to, from) = (format!("{}/32", there.v4), here.v4.to_string());
        here.run(&["ip", "route", "add", &to, "dev", "far0", "src", &from]);
        device
    });
    for (from, to) in [(&to_a, &to_b), (&to_b, &to_a)] {
        let under_way = Arc::new((Mutex::new(VecDeque::new()), Condvar::new()));
        let (from, to, queue, stopped) =
            (Arc::clone(from), Arc::clone(to), Arc::clone(&under_way), Arc::clone(&stop));
        std::thread::spawn(move || listen(&from, &queue, delay, lost_per_mille, &stopped));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || deliver(&to, &under_way, &stopped));
    }
    Far { stop }
}

type Queue = (Mutex<VecDeque<(Instant, Vec<u8>)>>, Condvar);

fn listen(from: &SyncDevice, queue: &Queue, delay: Duration, lost_per_mille: u32, stop: &AtomicBool) {
    let (mut bytes, mut dice) = (vec![0; usize::from(MTU)], 0x9e37_79b9_u32);
    while !stop.load(Ordering::Relaxed) {
        // Devices of a namespace that is gone are gone too.
        let Ok(len) = from.recv(&mut bytes) else { return };
        dice ^= dice << 13;
        dice ^= dice >> 17;
        dice ^= dice << 5;
        if dice % 1_000 >= lost_per_mille {
            queue.0.lock().expect("no panic").push_back((Instant::now() + delay, bytes[..len].to_vec()));
            queue.1.notify_one();
        }
    }
}

fn deliver(to: &SyncDevice, queue: &Queue, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut under_way = queue.0.lock().expect("no panic");
        let Some((due, _)) = under_way.front() else {
            drop(queue.1.wait_timeout(under_way, Duration::from_millis(100)).expect("no panic"));
            continue;
        };
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            drop(under_way);
            std::thread::sleep(left);
            continue;
        }
        let packet = under_way.pop_front();
        drop(under_way);
        packet.into_iter().for_each(|(_, packet)| _ = to.send(&packet));
    }
}

/// A receive buffer larger than what the system gives to everybody; for the ends that measure.
#[expect(unsafe_code, reason = "socket2 has no SO_RCVBUFFORCE")]
pub(crate) fn force_receive_buffer(socket: RawFd, bytes: libc::c_int) {
    let size = libc::socklen_t::try_from(size_of_val(&bytes)).expect("four");
    // SAFETY: the value lives for the call, and its size is the one given.
    let done = unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const bytes).cast(), size)
    };
    assert_eq!(done, 0, "SO_RCVBUFFORCE: {}", std::io::Error::last_os_error());
}
