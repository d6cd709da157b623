//! Reading a socket: up to 32 buffers a call, each of which may hold up to 64 datagrams that the system merged (GRO).
//! The buffers are one piece of memory, made once; pages that no traffic ever needed stay unmapped.

use super::Socket;
use crate::buf::batch::Datagrams;
use crate::model::addr::Via;
use crate::model::limits::{DATAGRAMS, GRO_BYTES};
use quinn_udp::{RecvMeta, UdpSockRef};
use std::io::{self, IoSliceMut};

/// A datagram buffer where the system does not merge: above any datagram of ours, and a larger one is no loss.
const PLAIN_BYTES: usize = 2048;
/// Buffers of a read when the system merges: 8 × 64 datagrams are enough for one turn, and take half a millisecond.
const MERGED_BUFFERS: usize = 8;
/// Errors that say something about an earlier send, not about this read (Windows reports them here).
const STALE_ERRORS: usize = 16;

/// Buffers of one read, used again and again.
pub struct Receiver {
    memory: Box<[u8]>,
    each: usize,
    metas: [RecvMeta; DATAGRAMS],
    got: usize,
    via: Via,
    /// The last read brought datagrams that the system had merged.
    merged: bool,
    errors: u64,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({} buffers of {} bytes)", DATAGRAMS, self.each)
    }
}

impl Receiver {
    /// Buffers that fit every one of these sockets.
    #[must_use]
    pub fn new<'a>(sockets: impl IntoIterator<Item = &'a Socket>) -> Self {
        let merges = sockets.into_iter().any(|s| s.state.gro_segments() > 1);
        let each = if merges { GRO_BYTES } else { PLAIN_BYTES };
        let memory = vec![0; each * DATAGRAMS].into_boxed_slice();
        Self {
            memory,
            each,
            metas: [RecvMeta::default(); DATAGRAMS],
            got: 0,
            via: Via::Main,
            merged: false,
            errors: 0,
        }
    }

    /// One read. True when there may be more.
    pub fn read(&mut self, socket: &Socket) -> bool {
        (self.got, self.via) = (0, socket.via);
        let Self { memory, each, metas, got, merged, errors, .. } = self;
        let many = if *merged { MERGED_BUFFERS } else { DATAGRAMS };
        let outcome = socket.io.try_read(|| {
            for _ in 0..STALE_ERRORS {
                let mut rest = memory.chunks_exact_mut(*each);
                let mut buffers: [IoSliceMut<'_>; DATAGRAMS] =
                    std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
                match socket.state.recv(
                    UdpSockRef::from(&socket.io),
                    buffers.get_mut(..many).unwrap_or_default(),
                    metas,
                ) {
                    Ok(n) => {
                        *got = n;
                        *merged = metas.iter().take(n).any(|meta| meta.stride < meta.len);
                        return if saw_the_end(n, many) {
                            Err(io::ErrorKind::WouldBlock.into())
                        } else {
                            Ok(())
                        };
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                    Err(_) => *errors += 1,
                }
            }
            // Nothing but errors: wait for the next wake-up rather than spin on them.
            Err(io::ErrorKind::WouldBlock.into())
        });
        outcome.is_ok()
    }

    /// What the last read brought. The datagrams lie end to end and are never split up or copied.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagrams<'_>> {
        let via = self.via;
        let read = self.metas.iter().take(self.got).zip(self.memory.chunks_exact_mut(self.each));
        read.filter_map(move |(meta, buffer)| {
            let bytes = buffer.get_mut(..meta.len).filter(|b| !b.is_empty())?;
            let stride = if meta.stride == 0 { meta.len } else { meta.stride };
            Some(Datagrams { via, from: meta.addr, bytes, stride })
        })
    }

    /// Reads that ended in an error.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        self.errors
    }
}

/// Linux reads a batch until the queue is empty, so a batch that is not full has seen the end. Telling the runtime so
/// saves the call that would only say "nothing there"; anything that arrives later raises a new edge. Other systems
/// read one buffer a call and learn nothing from that.
const fn saw_the_end(n: usize, many: usize) -> bool {
    cfg!(target_os = "linux") && n < many
}
