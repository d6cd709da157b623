//! Socket options that neither `socket2` nor `quinn-udp` sets, or sets differently from what a tunnel needs.

use socket2::Socket;

/// Wanted buffers: 10 Gbit/s for 3 ms, or a burst of 2,800 full packets while a game holds the core.
pub(super) const BUFFER_BYTES: usize = 4 << 20;

/// What a socket gets that at first only waits for the answer to a probe: a few dozen datagrams. There are hundreds of
/// these, and what strangers send fills them all.
const SMALL_BYTES: usize = 32 << 10;

/// Asks for small buffers.
pub(super) fn shrink_buffers(socket: &Socket) {
    let _ = socket.set_recv_buffer_size(SMALL_BYTES);
    let _ = socket.set_send_buffer_size(SMALL_BYTES);
}

/// Asks for large buffers. What the system grants is what it grants; a small buffer only loses bursts.
pub fn enlarge_buffers(socket: &Socket) {
    let granted = |got: std::io::Result<usize>| got.is_ok_and(|n| n >= BUFFER_BYTES);
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    if !granted(socket.recv_buffer_size()) || !granted(socket.send_buffer_size()) {
        force_buffers(socket);
    }
    tracing::debug!(
        receive = socket.recv_buffer_size().unwrap_or(0),
        send = socket.send_buffer_size().unwrap_or(0),
        "socket buffers"
    );
}

/// For one datagram that is to arrive in one piece or not at all, whatever was learned about the way before: DF on
/// IPv4, no cutting by the own kernel. `permit_fragments` ends it.
pub fn forbid_fragments(socket: &Socket, v4: bool) {
    #[cfg(target_os = "linux")]
    linux::forbid_fragments(socket, v4);
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, v4);
}

/// Lets routers cut our IPv4 datagrams and the own kernel our IPv6 ones. `quinn-udp` forbids both because QUIC probes
/// the path's MTU. A tunnel that forbids it loses every full packet on lines of less than 1,480 bytes without a word
/// (WireGuard permits fragments for the same reason).
pub fn permit_fragments(socket: &Socket, v4: bool) {
    #[cfg(target_os = "linux")]
    linux::permit_fragments(socket, v4);
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, v4);
}

#[cfg(target_os = "linux")]
fn force_buffers(socket: &Socket) {
    // Needs CAP_NET_ADMIN, which whoever makes a TUN device has; for others the system's limit stays.
    let bytes = libc::c_int::try_from(BUFFER_BYTES).unwrap_or(libc::c_int::MAX);
    linux::set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes);
    linux::set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes);
}

#[cfg(not(target_os = "linux"))]
fn force_buffers(_: &Socket) {}

#[cfg(target_os = "linux")]
mod linux {
    use socket2::Socket;
    use std::os::fd::AsRawFd;

    /// `IP_PMTUDISC_DONT` and `IPV6_PMTUDISC_WANT` of `<linux/in.h>` and `<linux/in6.h>`.
    const V4_DONT: libc::c_int = 0;
    const V6_WANT: libc::c_int = 1;

    pub(super) fn forbid_fragments(socket: &Socket, v4: bool) {
        if v4 {
            set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE);
        } else {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE);
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1);
        }
    }

    pub(super) fn permit_fragments(socket: &Socket, v4: bool) {
        if v4 {
            set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, V4_DONT);
        } else {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, V6_WANT);
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0);
        }
    }

    #[expect(unsafe_code, reason = "socket2 has no setter for these options")]
    pub(super) fn set(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
        const SIZE: libc::socklen_t = 4;
        const _: () = assert!(size_of::<libc::c_int>() == 4);
        // SAFETY: the descriptor is open for the call, the pointer and the size are those of one live c_int.
        let done =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), SIZE) };
        if done != 0 {
            let error = std::io::Error::last_os_error();
            tracing::debug!(level, name, value, %error, "socket option refused");
        }
    }
}
