//! Where the engine writes packets: room for one at a time, given by whoever drives it. Reserve, write, commit;
//! reserving again without a commit gives the room back.

use crate::model::addr::Endpoint;

/// Towards the network.
pub trait WanSink {
    /// Room for one datagram of at most `len` bytes to `to`; `None` when the queue is full (back-pressure, counted).
    fn reserve(&mut self, to: Endpoint, len: usize) -> Option<&mut [u8]>;
    /// The first `len` bytes of the room are a datagram to be sent.
    fn commit(&mut self, len: usize);
    /// As `commit`, for a datagram that measures the way: it is sent alone and must not be cut into fragments on the
    /// way (IPv4: DF). One that is too large for the first link is dropped, as it would be by a later one.
    fn commit_whole(&mut self, len: usize) {
        self.commit(len);
    }
}

/// How a packet gets to the games on this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Written to the tunnel device: unicast and broadcast reach every socket bound to "any".
    Tun,
    /// To the members of a multicast group: games join on their default card, not on ours.
    Group,
}

/// Towards the games.
pub trait LanSink {
    /// Room for one IP packet of at most `len` bytes; `None` when the queue is full (counted).
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]>;
    /// The first `len` bytes of the room are an IP packet with right checksums.
    fn commit(&mut self, len: usize, how: Delivery);
}
