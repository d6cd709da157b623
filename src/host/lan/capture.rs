//! Capture on one card: the broadcasts and multicasts that this computer's games send by it.
//!
//! The socket is ours (AF_PACKET, cooked, no protocol yet: nothing comes in before the filter is set); pnet_datalink
//! binds it to the card and reads it. Its reader polls before every read; with a time limit of zero that is a read that
//! never waits, so the data loop can drive it by the descriptor's readiness. Two system calls per packet are no matter:
//! the filter lets only discovery through.

use std::io;
use std::os::fd::IntoRawFd;
use std::task::{Context, Poll};
use std::time::Duration;

use pnet_datalink::{Channel, ChannelType, Config, DataLinkReceiver, NetworkInterface};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::buf::slot::Slot;
use crate::host::watch::Watch;
use crate::model::addr::Card;
use crate::model::id::CardId;

/// Every protocol: packets that leave are shown only to sockets that ask for all (ETH_P_ALL).
const EVERY_PROTOCOL: u16 = 3;
/// Longer than a slot, so that a packet that does not fit is seen as such rather than cut.
const READ_BYTES: usize = 4096;

/// An open capture.
pub(super) struct Capture {
    card: CardId,
    ethernet: bool,
    socket: Socket,
    watch: Watch,
    frames: Box<dyn DataLinkReceiver>,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Captured {
    /// A packet is in the slot.
    Packet,
    /// A packet did not fit and is gone.
    TooLong,
    /// Nothing is there.
    Nothing,
}

/// Reads IP packets without a link header from a packet socket that has its filter already.
pub(in crate::host) fn frames_of(
    socket: Socket,
    card: &NetworkInterface,
    read_bytes: usize,
) -> io::Result<Box<dyn DataLinkReceiver>> {
    let config = Config {
        socket_fd: Some(socket.into_raw_fd()),
        channel_type: ChannelType::Layer3(EVERY_PROTOCOL),
        promiscuous: false,
        read_timeout: Some(Duration::ZERO),
        read_buffer_size: read_bytes,
        write_buffer_size: 0,
        ..Config::default()
    };
    // pnet closes its descriptor when this fails.
    match pnet_datalink::channel(card, config)? {
        Channel::Ethernet(_, frames) => Ok(frames),
        _ => Err(io::Error::other("pnet_datalink opened a channel of an unknown kind")),
    }
}

impl Capture {
    /// Opens a capture with a filter.
    pub(super) fn open(card: &Card, ethernet: bool, filter: &[SockFilter]) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.attach_filter(filter)?;
        let watch = Watch::beside(&socket)?;
        let interface = NetworkInterface {
            name: card.name.clone(),
            description: String::new(),
            index: card.id.0,
            mac: None,
            ips: Vec::new(),
            flags: 0,
        };
        let frames = frames_of(socket.try_clone()?, &interface, READ_BYTES)?;
        Ok(Self { card: card.id, ethernet, socket, watch, frames })
    }

    /// On which card.
    pub(super) const fn card(&self) -> CardId {
        self.card
    }

    /// Whether its frames have an Ethernet header.
    pub(super) const fn ethernet(&self) -> bool {
        self.ethernet
    }

    /// Replaces the filter, without a moment of none.
    pub(super) fn set_filter(&self, filter: &[SockFilter]) -> io::Result<()> {
        self.socket.attach_filter(filter)
    }

    /// Whether there may be something to read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_readable(cx)
    }

    /// Reads one packet into the slot. Errors (the card went down) are forgotten: news of cards come by `set_cards`.
    pub(super) fn read(&mut self, slot: &mut Slot) -> Captured {
        let Self { watch, frames, socket, .. } = self;
        let read = watch.try_read(|| match frames.next() {
            Ok(packet) => Ok(slot.fill(packet)),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(io::ErrorKind::WouldBlock.into()),
            Err(e) => Err(e),
        });
        match read {
            Ok(true) => Captured::Packet,
            Ok(false) => Captured::TooLong,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    // Takes the error off the socket, or it would be readable for ever.
                    let pending = socket.take_error();
                    tracing::debug!(%error, ?pending, card = self.card.0, "a capture failed");
                }
                Captured::Nothing
            }
        }
    }
}
