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
    /// The room that was given last is a stream's.
    by_stream: bool,
}

impl Sends {
    pub(super) fn new(sockets: Rc<Sockets>) -> Self {
        Self { udp: SendBatches::new(sockets), streams: Streams::default(), by_stream: false }
    }

    /// Sends everything that waits.
    pub(super) fn flush(&mut self) {
        self.udp.flush();
        self.streams.flush();
    }
}

impl WanSink for Sends {
    fn reserve(&mut self, to: Endpoint, len: usize) -> Option<&mut [u8]> {
        self.by_stream = matches!(to.via, Via::Stream(_));
        match to.via {
            Via::Stream(number) => self.streams.reserve(number, len),
            Via::Main | Via::Extra(_) => self.udp.reserve(to, len),
        }
    }

    fn commit(&mut self, len: usize) {
        if self.by_stream { self.streams.commit(len) } else { self.udp.commit(len) }
    }

    fn commit_whole(&mut self, len: usize) {
        // A stream has no fragments.
        if self.by_stream { self.streams.commit(len) } else { self.udp.commit_whole(len) }
    }
}
