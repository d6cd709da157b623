//! Which way a datagram leaves: by the tunnel's UDP sockets, or by a connection to a relay.

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
    /// The room that was given last leads to a stream.
    stream: bool,
}

impl Sends {
    pub(super) fn new(sockets: Rc<Sockets>) -> Self {
        Self { udp: SendBatches::new(sockets), streams: Streams::default(), stream: false }
    }

    /// Sends everything that waits.
    pub(super) fn flush(&mut self) {
        self.udp.flush();
        self.streams.flush();
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
}

impl WanSink for Sends {
    fn reserve(&mut self, to: Endpoint, len: usize) -> Option<&mut [u8]> {
        if let Via::Stream(number) = to.via {
            self.stream = true;
            return self.streams.reserve(number, len);
        }
        self.stream = false;
        self.udp.reserve(to, len)
    }

    fn commit(&mut self, len: usize) {
        if self.stream { self.streams.commit(len) } else { self.udp.commit(len) }
    }

    fn commit_whole(&mut self, len: usize) {
        // A stream has no fragments.
        if self.stream { self.streams.commit(len) } else { self.udp.commit_whole(len) }
    }
}
