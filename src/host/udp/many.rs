//! One system call for a datagram to each of several peers: what a game says to everybody leaves this computer in one.

#[cfg(target_os = "linux")]
use std::io;
use std::net::SocketAddr;

/// Datagrams of one call.
pub(super) const MOST: usize = 64;

/// A datagram and its destination.
pub type Parcel<'a> = (SocketAddr, &'a [u8]);

/// Sends the first ones, in order; how many, at least one. An error is about the first.
#[cfg(target_os = "linux")]
pub(super) fn send_each(socket: std::os::fd::BorrowedFd<'_>, parcels: &[Parcel<'_>]) -> io::Result<usize> {
    use socket2::SockAddr;
    use std::os::fd::AsRawFd;

    let many = parcels.len().min(MOST);
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let parcel = |n: usize| parcels.get(n).copied().unwrap_or((nowhere, &[]));
    let addresses: [SockAddr; MOST] = std::array::from_fn(|n| SockAddr::from(parcel(n).0));
    let mut pieces: [libc::iovec; MOST] = std::array::from_fn(|n| {
        let bytes = parcel(n).1;
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
    });
    // SAFETY: null pointers and zeros are a message without anything.
    #[expect(unsafe_code, reason = "a C structure with private padding has no other constructor")]
    let nothing: libc::mmsghdr = unsafe { std::mem::zeroed() };
    let mut messages = [nothing; MOST];
    for ((message, address), piece) in messages.iter_mut().zip(&addresses).zip(&mut pieces).take(many) {
        message.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_namelen = address.len();
        message.msg_hdr.msg_iov = piece;
        message.msg_hdr.msg_iovlen = 1;
    }
    let count = libc::c_uint::try_from(many).unwrap_or_default();
    loop {
        // SAFETY: the first `many` messages name addresses and bytes that live until the call is over; the system reads
        // both and writes only the messages' lengths.
        #[expect(unsafe_code, reason = "no safe call of it here")]
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
