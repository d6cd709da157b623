//! The LAN side as the data loop sees it: something that reads and injects packets of games, made when the engine
//! first says which address it shall have.

use crate::buf::batch::Batch;
use crate::engine::effect::LanConfig;
use crate::engine::sink::{Delivery, LanSink};
use crate::model::addr::Card;
use crate::model::status::Trouble;
use crate::rules::ruleset::Ruleset;

/// An open LAN side.
pub trait LanPortLike: LanSink {
    /// Waits until `try_read` may bring something. Losing the race against another event must lose no packet.
    fn readable(&mut self) -> impl Future<Output = ()>;
    /// Reads into the free slots of the batch without waiting; how many were filled.
    fn try_read(&mut self, batch: &mut Batch) -> usize;
    /// Sends everything committed so far.
    fn flush(&mut self);
    /// Takes another address.
    ///
    /// # Errors
    /// When the system refuses; the node cannot go on then.
    fn reconfigure(&mut self, config: &LanConfig) -> Result<(), Trouble>;
    /// The games' rules changed: other ports and groups are to be captured.
    fn set_rules(&mut self, rules: &Ruleset);
    /// The physical cards changed.
    fn set_cards(&mut self, cards: &[Card]);
    /// Numbers of its own for `status`.
    fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        std::iter::empty()
    }
}

/// Makes the LAN side.
pub trait LanMaker {
    /// What it makes.
    type Port: LanPortLike;
    /// Opens it. Called on the data thread, inside its runtime.
    ///
    /// # Errors
    /// When there are no rights or no device.
    fn open(&mut self, config: &LanConfig) -> Result<Self::Port, Trouble>;
}

/// A LAN side that may not be open yet: until then there is no room in it.
#[derive(Debug)]
pub(super) struct Slot<P>(pub(super) Option<P>);

impl<P: LanPortLike> Slot<P> {
    pub(super) async fn readable(&mut self) {
        match &mut self.0 {
            Some(port) => port.readable().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn flush(&mut self) {
        if let Some(port) = &mut self.0 {
            port.flush();
        }
    }
}

impl<P: LanPortLike> LanSink for Slot<P> {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.as_mut()?.reserve(len)
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        if let Some(port) = &mut self.0 {
            port.commit(len, how);
        }
    }
}
