//! What came in by one stream and is not taken yet, cut into messages (RFC 8656, section 12.5; RFC 8489, section 6.2.2).

use crate::buf::batch::Datagrams;
use crate::model::addr::Via;
use crate::wire::channel::{self, Split};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// Room: the longest message (65,555 bytes), and as much again so that most reads move nothing.
const ROOM: usize = 2 * 65_556;
/// A read brings at most this many bytes, so that one stream does not have a turn of the loop for itself.
const READ: usize = 32 * 1024;

/// The buffer of one stream.
#[derive(Debug)]
pub(super) struct Inbound {
    memory: Box<[u8]>,
    from: usize,
    to: usize,
    /// Messages so far.
    pub(super) received: u64,
}

impl Default for Inbound {
    fn default() -> Self {
        Self { memory: vec![0; ROOM].into_boxed_slice(), from: 0, to: 0, received: 0 }
    }
}

/// What one read did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes,
    End,
}

impl Inbound {
    /// One read.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        source: std::pin::Pin<&mut impl AsyncRead>,
    ) -> Poll<io::Result<Got>> {
        if ROOM - self.to < READ {
            self.memory.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        let end = ROOM.min(self.to + READ);
        let mut room = ReadBuf::new(self.memory.get_mut(self.to..end).unwrap_or_default());
        std::task::ready!(source.poll_read(cx, &mut room))?;
        let got = room.filled().len();
        self.to += got;
        Poll::Ready(Ok(if got == 0 { Got::End } else { Got::Bytes }))
    }

    /// Whether a whole message is here; an error when what is here is none. The first message is STUN, as nothing is
    /// allocated before; so an answer in HTTP, whose letters could be a channel's number, is not waited for.
    pub(super) fn has_message(&self) -> Result<bool, ()> {
        if self.received == 0
            && self.memory.get(self.from..self.to).and_then(<[u8]>::first).is_some_and(|b| *b > 3)
        {
            return Err(());
        }
        match channel::frame_len(self.memory.get(self.from..self.to).unwrap_or_default()) {
            Split::Frame(_) => Ok(true),
            // A message that fits no buffer does not exist: its length has 16 bits.
            Split::Need(_) => Ok(false),
            Split::Broken => Err(()),
        }
    }

    /// All whole messages, each without its padding. They are gone from the buffer afterwards.
    pub(super) fn messages(&mut self, via: Via, from: SocketAddr) -> impl Iterator<Item = Datagrams<'_>> {
        let Self { memory, from: start, to, received } = self;
        let (begin, end) = (*start, *to);
        let mut whole = begin;
        while let Split::Frame(len) = channel::frame_len(memory.get(whole..end).unwrap_or_default()) {
            whole += len;
            *received += 1;
        }
        *start = whole;
        if *start == end {
            (*start, *to) = (0, 0);
        }
        let mut rest = memory.get_mut(begin..whole).unwrap_or_default();
        std::iter::from_fn(move || {
            let Split::Frame(len) = channel::frame_len(rest) else { return None };
            let (frame, later) = std::mem::take(&mut rest).split_at_mut_checked(len)?;
            rest = later;
            let len = channel::read(frame, true).map_or(frame.len(), |(_, data)| data.end);
            let bytes = frame.get_mut(..len)?;
            Some(Datagrams { via, from, stride: bytes.len(), bytes })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::pin::Pin;
    use std::task::Waker;

    const RELAY: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 443);

    fn read(inbound: &mut Inbound, mut source: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok(Got::Bytes)) = inbound.poll_read(&mut cx, Pin::new(&mut source)) {
            all.extend(inbound.messages(Via::Stream(3), RELAY).map(|d| {
                assert_eq!((d.via, d.from, d.stride), (Via::Stream(3), RELAY, d.bytes.len()));
                d.bytes.to_vec()
            }));
        }
        all
    }

    fn message(len: usize, n: u8) -> Vec<u8> {
        let mut message = vec![n; 4 + len];
        assert!(channel::write_header(&mut message, 0x4abc, len));
        message
    }

    /// A binding indication.
    const STUN: [u8; 20] = [0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn messages_come_whole_and_without_padding_however_they_are_cut(
            sizes in prop::collection::vec(prop_oneof![0usize..40, 900..1500usize, 60_000..65_536usize], 1..12),
            cuts in prop::collection::vec(1usize..70_000, 1..20),
        ) {
            let mut expected: Vec<Vec<u8>> = sizes.iter().zip(1u8..).map(|(len, n)| message(*len, n)).collect();
            expected.insert(0, STUN.to_vec());
            let mut stream: Vec<u8> = Vec::new();
            for m in &expected {
                stream.extend_from_slice(m);
                stream.resize(stream.len().next_multiple_of(4), 0);
            }
            let mut inbound = Inbound::default();
            let (mut got, mut rest) = (Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                got.extend(read(&mut inbound, now));
                rest = later;
            }
            prop_assert_eq!(got, expected);
            prop_assert_eq!(inbound.has_message(), Ok(false));
        }

        #[test]
        fn hostile_bytes_are_noticed_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 1..4000)) {
            let mut inbound = Inbound::default();
            read(&mut inbound, &bytes);
            let _ = inbound.has_message();
        }
    }

    #[test]
    fn what_is_no_message_is_told() {
        let mut inbound = Inbound::default();
        assert!(read(&mut inbound, b"HTTP/1.1 400 Bad Request\r\n").is_empty());
        assert_eq!(inbound.has_message(), Err(()));
    }
}
