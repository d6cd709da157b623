//! Packet sockets on the cards, read in turn.

use super::ListenError;
use crate::host::lan::{capture, filter};
use pnet_datalink::{DataLinkReceiver, NetworkInterface};
use socket2::{Domain, Socket, Type};
use std::io;

/// The largest IP packet; the loopback carries such.
const READ_BYTES: usize = 1 << 16;
/// A burst of searches while the file system is slow.
const QUEUE_BYTES: usize = 1 << 20;

/// Open ears on some cards.
pub struct Listener {
    cards: Vec<String>,
    ears: Vec<Box<dyn DataLinkReceiver>>,
    next: usize,
    packet: Vec<u8>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("cards", &self.cards).finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens on these cards; on all that are up when none is named.
    ///
    /// # Errors
    /// When the process may not, or a named card is not there.
    pub fn open(cards: &[String]) -> Result<Self, ListenError> {
        let all: Vec<NetworkInterface> =
            pnet_datalink::interfaces().into_iter().filter(NetworkInterface::is_up).collect();
        if let Some(missing) = cards.iter().find(|name| all.iter().all(|card| card.name != **name)) {
            return Err(ListenError::NoCard(missing.clone()));
        }
        let wanted = all.into_iter().filter(|card| cards.is_empty() || cards.contains(&card.name));
        let mut it = Self { cards: Vec::new(), ears: Vec::new(), next: 0, packet: Vec::new() };
        for card in wanted {
            it.ears.push(ear(&card).map_err(|e| {
                if e.kind() == io::ErrorKind::PermissionDenied {
                    ListenError::NoRights(e)
                } else {
                    ListenError::System(e)
                }
            })?);
            it.cards.push(card.name);
        }
        Ok(it)
    }

    /// On which cards.
    #[must_use]
    pub fn cards(&self) -> &[String] {
        &self.cards
    }

    /// A packet, if one is there. A card that went away says nothing any more.
    pub fn hear(&mut self) -> Option<&[u8]> {
        for _ in 0..self.ears.len() {
            let which = self.next;
            self.next = (which + 1) % self.ears.len();
            if let Some(Ok(packet)) = self.ears.get_mut(which).map(|ear| ear.next()) {
                self.packet.clear();
                self.packet.extend_from_slice(packet);
                return Some(&self.packet);
            }
        }
        None
    }
}

fn ear(card: &NetworkInterface) -> io::Result<Box<dyn DataLinkReceiver>> {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(QUEUE_BYTES)?;
    socket.attach_filter(&filter::recording())?;
    capture::frames_of(socket, card, READ_BYTES)
}
