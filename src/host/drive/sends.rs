//! Which way a datagram leaves: by the tunnel's UDP sockets, or by a connection to a relay; and whether one that is passed on for others
//! was read out of turn and waits for it, because only the receiver sees what it belongs to.

use super::aside::Aside;
use crate::engine::sink::WanSink;
use crate::host::stream::Streams;
use crate::host::udp::{SendBatches, Sockets};
use crate::model::addr::{Endpoint, Via};
use std::rc::Rc;

/// Everything that the engine writes towards the network.
#[derive(Debug)]
pub(super) struct Sends {
    pub(super) udp: SendBatches<Rc<Sockets>>,
    pub(super) streams: Streams,
    /// Messages that are passed on, and came before their turn.
    aside: Aside<Endpoint>,
    /// What comes now is one of those, if it comes before its turn.
    passing: bool,
    /// Where the room that was given last leads.
    room: Room,
}

#[derive(Debug, Clone, Copy)]
enum Room {
    Udp,
    Stream,
    Aside(Endpoint),
}

impl Sends {
    pub(super) fn new(sockets: Rc<Sockets>) -> Self {
        Self {
            udp: SendBatches::new(sockets),
            streams: Streams::default(),
            aside: Aside::default(),
            passing: false,
            room: Room::Udp,
        }
    }

    /// Sends everything that waits.
    pub(super) fn flush(&mut self) {
        self.udp.flush();
        self.streams.flush();
    }

    /// What the node sends from now on comes of what was read out of turn, at this place, or in turn again.
    pub(super) const fn set_aside(&mut self, place: Option<u8>) {
        self.aside.set(place);
    }

    /// The turn of this place has come. True when something waited for it: it is to be flushed.
    pub(super) fn release(&mut self, place: u8) -> bool {
        let Self { udp, streams, aside, .. } = self;
        aside.release(place, |to, message| put(udp, streams, to, message))
    }

    /// What was sent and what was not.
    pub(super) fn counters(&self) -> [(&'static str, u64); 9] {
        let (udp, streams) = (self.udp.counts(), self.streams.counts());
        [
            ("wan.calls", udp.calls),
            ("wan.sent", udp.sent),
            ("stream.up", streams.up),
            ("stream.sent", streams.sent),
            ("stream.received", streams.received),
            ("drop.stream_queue_full", streams.full),
            ("drop.wan_queue_full", udp.full),
            ("drop.wan_too_big", udp.too_big),
            ("drop.wan_failed", udp.failed),
        ]
    }

    fn straight(&mut self, to: Endpoint, len: usize) -> Option<&mut [u8]> {
        if let Via::Stream(number) = to.via {
            self.room = Room::Stream;
            return self.streams.reserve(number, len);
        }
        self.room = Room::Udp;
        self.udp.reserve(to, len)
    }
}

/// A message that lies somewhere else.
fn put(udp: &mut SendBatches<Rc<Sockets>>, streams: &mut Streams, to: Endpoint, message: &[u8]) {
    let len = message.len();
    let copy = |room: Option<&mut [u8]>| {
        room.and_then(|room| room.get_mut(..len)).map(|room| room.copy_from_slice(message)).is_some()
    };
    if let Via::Stream(number) = to.via {
        if copy(streams.reserve(number, len)) {
            streams.commit(len);
        }
    } else if copy(udp.reserve(to, len)) {
        udp.commit(len);
    } else {
        udp.lost();
    }
}

impl WanSink for Sends {
    fn reserve(&mut self, to: Endpoint, len: usize) -> Option<&mut [u8]> {
        if self.passing && self.aside.is_early() {
            self.room = Room::Aside(to);
            return self.aside.reserve(len);
        }
        self.straight(to, len)
    }

    fn commit(&mut self, len: usize) {
        match self.room {
            Room::Udp => self.udp.commit(len),
            Room::Stream => self.streams.commit(len),
            Room::Aside(to) => {
                let Self { udp, streams, aside, .. } = self;
                aside.written(len);
                if !aside.keep(to) {
                    put(udp, streams, to, aside.written(len));
                }
            }
        }
    }

    fn commit_whole(&mut self, len: usize) {
        match self.room {
            Room::Udp => self.udp.commit_whole(len),
            // A stream has no fragments, and what measures a way is never passed on.
            Room::Stream | Room::Aside(_) => self.commit(len),
        }
    }

    fn passing_on(&mut self, passing: bool) {
        self.passing = passing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn give(sends: &mut Sends, to: Endpoint, mark: u8) {
        sends.reserve(to, 40).unwrap()[..20].fill(mark);
        sends.commit(20);
    }

    #[tokio::test]
    async fn what_is_passed_on_leaves_in_the_order_in_which_it_came() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        there.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let to = Endpoint::main(there.local_addr().unwrap());
        let bound = crate::host::udp::bind(&["127.0.0.1:0".parse().unwrap()], None).unwrap();
        let mut sends = Sends::new(Sockets::open(bound).unwrap());
        for (place, passed) in [(4, true), (6, false), (7, true)] {
            sends.set_aside(Some(place));
            sends.passing_on(passed);
            give(&mut sends, to, place);
            sends.passing_on(false);
        }
        sends.set_aside(None);
        sends.passing_on(true);
        give(&mut sends, to, 1);
        sends.passing_on(false);
        assert!(sends.release(4));
        assert!(!sends.release(6), "what it says itself left early");
        give(&mut sends, to, 5);
        assert!(sends.release(7) && !sends.release(7), "once");
        sends.flush();
        let mut came = Vec::new();
        for _ in 0..5 {
            let mut room = [0; 100];
            assert_eq!(there.recv(&mut room).unwrap(), 20);
            came.push(room[19]);
        }
        assert_eq!(came, [6, 1, 4, 5, 7]);
    }
}
