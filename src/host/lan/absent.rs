//! The LAN side on systems that have none yet: it cannot be opened, and the compiler knows that nothing else happens.

use std::convert::Infallible;
use std::path::Path;

use super::{LanCounters, LanError, LanOptions};
use crate::buf::batch::Batch;
use crate::engine::effect::LanConfig;
use crate::engine::sink::{Delivery, LanSink};
use crate::model::addr::Card;
use crate::rules::ruleset::Ruleset;

/// Nothing is ever made here, so nothing is left over.
#[must_use]
pub fn clean_leftovers(data_dir: &Path) -> Vec<String> {
    let _ = data_dir;
    Vec::new()
}

/// A LAN side that does not exist.
#[derive(Debug)]
pub struct LanPort(Infallible);

impl LanPort {
    /// Says that there is none.
    ///
    /// # Errors
    /// Always `NotOnThisSystem`.
    pub fn open(options: LanOptions, config: &LanConfig) -> Result<Self, LanError> {
        let _ = (options, config);
        Err(LanError::NotOnThisSystem)
    }

    /// Changes the device's addresses.
    ///
    /// # Errors
    /// Never.
    pub fn reconfigure(&mut self, config: &LanConfig) -> Result<(), LanError> {
        let _ = config;
        match self.0 {}
    }

    /// What to capture, and which groups to listen to.
    pub fn set_rules(&mut self, rules: &Ruleset) {
        let _ = rules;
        match self.0 {}
    }

    /// Changes the device's MTU.
    pub fn set_mtu(&mut self, mtu: u16) {
        let _ = mtu;
        match self.0 {}
    }

    /// The cards as they are now.
    pub fn set_cards(&mut self, cards: &[Card]) {
        let _ = cards;
        match self.0 {}
    }

    /// Waits until there is something to read.
    #[expect(clippy::unused_async, reason = "the same signature as where there is something to wait for")]
    pub async fn readable(&mut self) {
        match self.0 {}
    }

    /// There is nothing to expect.
    pub fn expect_many(&mut self) {
        match self.0 {}
    }

    /// Reads what there is.
    pub fn try_read(&mut self, batch: &mut Batch) -> usize {
        let _ = batch;
        match self.0 {}
    }

    /// Writes what was committed.
    pub fn flush(&mut self) {
        match self.0 {}
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> LanCounters {
        match self.0 {}
    }

    /// Removes everything.
    pub fn close(self) {
        match self.0 {}
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.0 {}
    }
}

impl LanSink for LanPort {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let _ = len;
        match self.0 {}
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        let _ = (len, how);
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_lan_side_opening_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let config = LanConfig {
            v4: "10.83.7.1".parse().unwrap(),
            subnet: "10.83.7.0/24".parse().unwrap(),
            v6: "fd83::1".parse().unwrap(),
            mtu: 1400,
        };
        let error = LanPort::open(LanOptions::new(dir.path().to_owned()), &config).unwrap_err();
        assert!(matches!(error, LanError::NotOnThisSystem), "{error}");
        assert!(clean_leftovers(dir.path()).is_empty());
    }
}
