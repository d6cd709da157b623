//! The LAN side in the loop: not open yet, or open; and whether what comes for it comes out of turn.

use super::lan::LanPortLike;
use crate::buf::aside::Aside;
use crate::engine::sink::{Delivery, LanSink};
use crate::model::status::{JoinedBy, Mode};
use crate::wire::packet::proto;
use std::net::SocketAddr;

/// A LAN side that may not be open yet: until then there is no room in it.
#[derive(Debug)]
pub(super) struct Slot<P> {
    pub(super) port: Option<P>,
    /// Packets of connections that were opened before their turn: TCP would take the ones in front of them for lost.
    aside: Aside<()>,
}

impl<P: LanPortLike> Slot<P> {
    pub(super) fn new() -> Self {
        Self { port: None, aside: Aside::default() }
    }

    pub(super) async fn readable(&mut self) {
        match &mut self.port {
            Some(port) => port.readable().await,
            None => std::future::pending().await,
        }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn needs_runtime(&self) -> bool {
        self.port.as_ref().is_some_and(LanPortLike::needs_runtime)
    }

    pub(super) fn flush(&mut self) {
        if let Some(port) = &mut self.port {
            port.flush();
        }
    }

    /// Before anything is open nobody knows; then it is what `auto` would like best.
    pub(super) fn mode(&self) -> Mode {
        self.port.as_ref().map_or(Mode::Lan, LanPortLike::mode)
    }

    /// Keeps a game of the list reachable; where on this computer, if that is another address than its own, and where for
    /// others of its networks.
    pub(super) fn keep_game(
        &mut self,
        at: SocketAddr,
        by: JoinedBy,
    ) -> (Option<SocketAddr>, Vec<SocketAddr>) {
        let (Some(port), SocketAddr::V4(at)) = (&mut self.port, at) else { return (None, Vec::new()) };
        let tcp = by == JoinedBy::Tcp;
        port.keep_game(at, tcp);
        (port.local(at, tcp), port.shared(at, tcp))
    }

    /// What comes from now on comes out of turn, at this place, or in turn again.
    pub(super) const fn set_aside(&mut self, place: Option<u8>) {
        self.aside.set(place);
    }

    /// The turn of this place has come. True when something waited for it: the port is to be flushed.
    pub(super) fn release(&mut self, place: u8) -> bool {
        let Self { port, aside } = self;
        let mut waited = false;
        while let Some(((), slot)) = aside.pop(place) {
            port.iter_mut().for_each(|port| deliver(port, slot.packet(), Delivery::Tun));
            aside.give_back(slot);
            waited = true;
        }
        waited
    }
}

fn deliver(port: &mut impl LanPortLike, packet: &[u8], how: Delivery) {
    if let Some(room) = port.reserve(packet.len()).and_then(|room| room.get_mut(..packet.len())) {
        room.copy_from_slice(packet);
        port.commit(packet.len(), how);
    }
}

impl<P: LanPortLike> LanSink for Slot<P> {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let port = self.port.as_mut()?;
        if self.aside.is_early() {
            return self.aside.reserve(len);
        }
        port.reserve(len)
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        let Self { port: Some(port), aside } = self else { return };
        if !aside.is_early() {
            return port.commit(len, how);
        }
        let ordered = how == Delivery::Tun && proto::of(aside.written(len)) == Some(proto::TCP);
        if !(ordered && aside.keep(())) {
            deliver(port, aside.written(len), how);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::batch::Batch;
    use crate::engine::effect::LanConfig;
    use crate::model::addr::Card;
    use crate::model::status::Trouble;
    use crate::rules::ruleset::Ruleset;

    /// A LAN side that remembers what it was given: the payloads' first bytes.
    #[derive(Debug, Default)]
    struct Heard(Vec<u8>, Vec<u8>);

    impl LanSink for Heard {
        fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
            self.1.resize(len, 0);
            Some(&mut self.1)
        }
        fn commit(&mut self, len: usize, _: Delivery) {
            self.0.push(self.1[len - 1]);
        }
    }

    impl LanPortLike for Heard {
        async fn readable(&mut self) {}
        fn needs_runtime(&self) -> bool {
            true
        }
        fn try_read(&mut self, _: &mut Batch) -> usize {
            0
        }
        fn flush(&mut self) {}
        fn reconfigure(&mut self, _: &LanConfig) -> Result<(), Trouble> {
            Ok(())
        }
        fn set_rules(&mut self, _: &Ruleset) {}
        fn set_mtu(&mut self, _: u16) {}
        fn set_cards(&mut self, _: &[Card]) {}
    }

    fn packet(tcp: bool, mark: u8) -> [u8; 21] {
        let mut packet = [0; 21];
        (packet[0], packet[9], packet[20]) = (0x45, if tcp { proto::TCP } else { proto::UDP }, mark);
        packet
    }

    #[test]
    fn what_comes_early_is_delivered_early_but_connections_keep_their_order() {
        let mut slot = Slot::<Heard>::new();
        slot.port = Some(Heard::default());
        let give = |slot: &mut Slot<Heard>, tcp, mark| {
            slot.reserve(21).unwrap().copy_from_slice(&packet(tcp, mark));
            slot.commit(21, Delivery::Tun);
        };
        for (place, tcp) in [(4, true), (6, false), (7, true)] {
            slot.set_aside(Some(place));
            give(&mut slot, tcp, place);
        }
        slot.set_aside(None);
        give(&mut slot, true, 1);
        assert!(slot.release(4));
        give(&mut slot, true, 5);
        assert!(!slot.release(6), "it waited for nothing");
        assert!(slot.release(7) && !slot.release(7), "once");
        assert_eq!(slot.port.as_ref().unwrap().0, [6, 1, 4, 5, 7]);
    }
}
