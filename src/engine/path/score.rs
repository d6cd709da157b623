//! Which of two working addresses is better. Tier first, then round-trip time with some patience.

use crate::model::addr::{Card, Net};
use crate::model::id::CardId;
use crate::model::status::PathKind;
use std::net::IpAddr;
use std::time::Duration;

/// A path must be this much faster than the one in use to replace it in the same tier: three quarters of its time …
const FASTER_PER_CENT: u32 = 75;
/// … and by at least this much, so that jitter on a fast path never makes packets change their way.
const FASTER_BY: Duration = Duration::from_millis(3);

/// The card on whose network an address lies, if any: then it is reached without a router.
#[must_use]
pub fn card_of(address: IpAddr, cards: &[Card]) -> Option<CardId> {
    let reaches = |net: &Net| net.contains(address);
    cards.iter().find(|card| card.nets.iter().any(reaches)).map(|card| card.id)
}

/// The tier of an address.
#[must_use]
pub fn kind_of(address: IpAddr, cards: &[Card]) -> PathKind {
    if address.is_loopback() || card_of(address, cards).is_some() { PathKind::Lan } else { PathKind::Direct }
}

/// Whether `new` should replace `old`, both proven to work.
#[must_use]
pub fn is_better(new: (PathKind, Duration), old: (PathKind, Duration)) -> bool {
    if new.0 != old.0 {
        return new.0 < old.0;
    }
    new.1 + FASTER_BY <= old.1 && new.1 <= old.1 * FASTER_PER_CENT / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_nearer_tier_wins_whatever_the_time() {
        assert!(is_better((PathKind::Lan, MS * 90), (PathKind::Direct, MS)));
        assert!(!is_better((PathKind::Direct, MS), (PathKind::Lan, MS * 90)));
        assert!(is_better((PathKind::Direct, MS * 90), (PathKind::Relay, MS)));
    }

    #[test]
    fn jitter_does_not_change_the_path() {
        assert!(!is_better((PathKind::Direct, MS * 18), (PathKind::Direct, MS * 20)));
        assert!(!is_better((PathKind::Direct, MS), (PathKind::Direct, MS * 2)));
        assert!(is_better((PathKind::Direct, MS * 10), (PathKind::Direct, MS * 20)));
    }
}
