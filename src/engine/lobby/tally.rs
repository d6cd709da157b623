//! What happened in a lobby, as plain numbers. No names, no addresses: these go to a public metrics page.

use crate::wire::control::Refusal;

macro_rules! tallied {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A thing that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Tallied { $($(#[$doc])* $variant,)* }
        const NAMES: &[&str] = &[$($name,)*];
    };
}

tallied! {
    /// Connections.
    Opened => "opened_total",
    /// Hellos accepted.
    Admitted => "admitted_total",
    /// Parties made.
    Founded => "founded_total",
    /// Records taken.
    Published => "published_total",
    /// Parties re-keyed.
    Rotated => "rotated_total",
    /// Signals passed on.
    Signal => "signals_total",
    /// Signals for somebody who is not connected.
    SignalLost => "signals_lost_total",
    /// Peers taken off the list for silence.
    Expired => "expired_total",
    /// Messages over the pace.
    Flooded => "flooded_total",
    /// Refusals by reason.
    RefusedVersion => "refused_version_total",
    /// The party is not known.
    RefusedUnknownParty => "refused_unknown_party_total",
    /// A signature does not fit.
    RefusedBadSignature => "refused_bad_signature_total",
    /// A key of an earlier epoch.
    RefusedOldEpoch => "refused_old_epoch_total",
    /// Another secret.
    RefusedNotAMember => "refused_not_a_member_total",
    /// No seat left.
    RefusedPartyFull => "refused_party_full_total",
    /// Over a pace or a cap.
    RefusedTooFast => "refused_too_fast_total",
    /// Makes no sense here.
    RefusedBadMessage => "refused_bad_message_total",
}

/// The numbers.
#[derive(Debug, Clone, Default)]
pub struct Tally([u64; NAMES.len()]);

impl Tally {
    /// One more.
    pub fn add(&mut self, what: Tallied) {
        if let Some(n) = self.0.get_mut(what as usize) {
            *n += 1;
        }
    }

    /// One more refusal.
    pub fn refused(&mut self, code: Refusal) {
        self.add(match code {
            Refusal::Version => Tallied::RefusedVersion,
            Refusal::UnknownParty => Tallied::RefusedUnknownParty,
            Refusal::BadSignature => Tallied::RefusedBadSignature,
            Refusal::OldEpoch => Tallied::RefusedOldEpoch,
            Refusal::NotAMember => Tallied::RefusedNotAMember,
            Refusal::PartyFull => Tallied::RefusedPartyFull,
            Refusal::TooFast => Tallied::RefusedTooFast,
            Refusal::BadMessage => Tallied::RefusedBadMessage,
        });
    }

    /// Numbers by name.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().copied().zip(self.0)
    }
}
