//! One control plane as this node sees it: sign in, publish, beat, and come back with patience when it goes away.
//!
//! The same machine for a shared folder and a server; it cannot tell. Inputs: `handle`, `handle_timeout`, `publish`.
//! Outputs: `poll`. A party does not need its control planes to keep running, so nothing here is ever fatal by itself.

use crate::model::dice::Dice;
use crate::model::id::PartyId;
use crate::model::key::{NodeKeys, PartyKeys};
use crate::model::record::{Envelope, Rotation};
use crate::model::time::{Deadline, Mono};
use crate::wire::control::{Down, Founding, Hello, Nonce, Refusal, Up, VERSION};
use std::collections::VecDeque;
use std::time::Duration;

/// How long an answer to a hello is waited for.
const HELLO_PATIENCE: Duration = Duration::from_secs(15);
/// How long a carrier may take to connect: three attempts of ten seconds with waits between.
const OPEN_PATIENCE: Duration = Duration::from_secs(60);

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Waiting for the carrier or for the welcome.
    Connecting,
    /// Signed in.
    Online,
    /// Waiting before the next try.
    Offline {
        /// What happened, for people.
        why: String,
    },
}

/// What a link wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkAction {
    /// Connect.
    Open,
    /// Hang up.
    Close,
    /// Send.
    Send(Up),
    /// It is online now: publish.
    Online,
    /// It went away, or could not be reached, for the first time since it was online.
    Trouble {
        /// A stable word.
        code: &'static str,
        /// What happened, for people.
        why: String,
    },
}

/// Waits and beats of a link.
#[derive(Debug, Clone, Copy)]
pub struct LinkTimes {
    /// Between beats.
    pub heartbeat: Duration,
    /// The first wait after a failure.
    pub backoff_first: Duration,
    /// The longest wait.
    pub backoff_most: Duration,
}

/// One control plane.
#[derive(Debug)]
pub struct Link {
    state: LinkState,
    times: LinkTimes,
    failures: u32,
    due: Option<Mono>,
    complained: bool,
    actions: VecDeque<LinkAction>,
    dice: Dice,
}

/// Who signs in, and to what.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// This node.
    pub keys: &'a NodeKeys,
    /// The party in its present epoch.
    pub party: &'a PartyKeys,
    /// The owner's slot, when this node owns the party.
    pub owned_slot: Option<u8>,
}

impl Link {
    /// A link that opens at once.
    #[must_use]
    pub fn new(times: LinkTimes, dice: Dice) -> Self {
        Self {
            state: LinkState::Connecting,
            times,
            failures: 0,
            due: None,
            complained: false,
            actions: VecDeque::from([LinkAction::Open]),
            dice,
        }
    }

    /// How it is.
    #[must_use]
    pub const fn state(&self) -> &LinkState {
        &self.state
    }

    /// Whether it is signed in.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.state == LinkState::Online
    }

    /// The control plane says something. Records, goodbyes and rotations are the caller's business; this machine only
    /// looks after the connection.
    pub fn handle(&mut self, message: &Down, who: Identity<'_>, now: Mono) {
        match message {
            Down::Opened { nonce, audience } => self.hello(nonce, audience, who, now),
            Down::Welcome { .. } => {
                self.state = LinkState::Online;
                self.failures = 0;
                self.complained = false;
                self.due = Some(now + self.times.heartbeat);
                self.actions.push_back(LinkAction::Online);
            }
            // After a refusal the carrier reports the closing too; one failure is enough.
            Down::Closed { .. } if matches!(self.state, LinkState::Offline { .. }) => {}
            Down::Closed { why } => self.failed("control_unreachable", why.clone(), now),
            Down::Refused { code, message } => {
                let word = match code {
                    Refusal::Version => "control_version",
                    Refusal::UnknownParty => "party_unknown",
                    Refusal::BadSignature => "control_refused",
                    Refusal::OldEpoch => "invite_outdated",
                    Refusal::NotAMember => "not_a_member",
                    Refusal::PartyFull => "party_full",
                    Refusal::TooFast => "control_too_fast",
                    Refusal::BadMessage => "control_protocol",
                };
                self.actions.push_back(LinkAction::Close);
                self.failed(word, message.clone(), now);
            }
            Down::Record { .. }
            | Down::Gone { .. }
            | Down::Rotated { .. }
            | Down::Relays { .. }
            | Down::Signal { .. }
            | Down::Notice { .. } => {}
        }
    }

    fn hello(&mut self, nonce: &Nonce, audience: &str, who: Identity<'_>, now: Mono) {
        let (key, party): (_, PartyId) = (who.keys.key(), who.party.party());
        let found = who.owned_slot.map(|slot| Founding { slot, member: who.party.member_key() });
        let proof = Hello::proof(&nonce.0, audience, party, &key, who.party.epoch(), found.as_ref());
        let hello = Hello {
            version: VERSION,
            party,
            key,
            signature: who.keys.sign(&proof),
            member: who.party.sign_as_member(&proof),
            epoch: who.party.epoch(),
            found,
        };
        self.state = LinkState::Connecting;
        self.due = Some(now + HELLO_PATIENCE);
        self.actions.push_back(LinkAction::Send(Up::Hello(hello)));
    }

    fn failed(&mut self, code: &'static str, why: String, now: Mono) {
        let wait = self.times.backoff_first * (1 << self.failures.min(16));
        self.failures += 1;
        self.due = Some(now + self.dice.jitter(wait.min(self.times.backoff_most), 25));
        self.state = LinkState::Offline { why: why.clone() };
        if !self.complained {
            self.complained = true;
            self.actions.push_back(LinkAction::Trouble { code, why });
        }
    }

    /// The epoch changed, or something else makes a new hello necessary: sign in again at once.
    pub fn reopen(&mut self, now: Mono) {
        self.actions.push_back(LinkAction::Close);
        self.state = LinkState::Connecting;
        self.due = Some(now + HELLO_PATIENCE);
        self.actions.push_back(LinkAction::Open);
    }

    /// Sends this node's newest record, if signed in.
    pub fn publish(&mut self, envelope: &Envelope) {
        if self.is_online() {
            self.actions.push_back(LinkAction::Send(Up::Publish { envelope: envelope.clone() }));
        }
    }

    /// Sends a rotation, if signed in.
    pub fn rotate(&mut self, rotation: &Rotation) {
        if self.is_online() {
            self.actions.push_back(LinkAction::Send(Up::Rotate { rotation: rotation.clone() }));
        }
    }

    /// Says goodbye, if signed in.
    pub fn leave(&mut self) {
        if self.is_online() {
            self.actions.push_back(LinkAction::Send(Up::Leave));
        }
    }

    /// The deadline has come.
    pub fn handle_timeout(&mut self, now: Mono) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        match self.state {
            LinkState::Online => {
                self.due = Some(now + self.times.heartbeat);
                self.actions.push_back(LinkAction::Send(Up::Beat));
            }
            LinkState::Offline { .. } => {
                self.state = LinkState::Connecting;
                self.due = Some(now + OPEN_PATIENCE);
                self.actions.push_back(LinkAction::Open);
            }
            LinkState::Connecting => {
                self.actions.push_back(LinkAction::Close);
                self.failed(
                    "control_unreachable",
                    "it took the connection but did not answer".to_owned(),
                    now,
                );
            }
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<LinkAction> {
        self.actions.pop_front()
    }

    /// When `handle_timeout` wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let why = match self.state {
            LinkState::Online => "beat",
            LinkState::Offline { .. } => "reconnect",
            LinkState::Connecting => "hello",
        };
        self.due.map(|at| Deadline::new(at, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dice::Seed;
    use crate::model::key::{NodeSecret, PartySecret};

    fn times() -> LinkTimes {
        LinkTimes {
            heartbeat: Duration::from_secs(30),
            backoff_first: Duration::from_secs(1),
            backoff_most: Duration::from_secs(30),
        }
    }

    fn link() -> Link {
        Link::new(times(), Seed::from_u64(1).dice("link"))
    }

    fn drain(link: &mut Link) -> Vec<LinkAction> {
        std::iter::from_fn(|| link.poll()).collect()
    }

    fn with_identity<T>(f: impl FnOnce(Identity<'_>) -> T) -> T {
        let keys = NodeKeys::new(&NodeSecret([1; 32]));
        let party = PartyKeys::new(PartyId::of(keys.id(), 0), 0, &PartySecret([1; 16]));
        f(Identity { keys: &keys, party: &party, owned_slot: Some(0) })
    }

    #[test]
    fn signing_in_proves_both_keys() {
        with_identity(|who| {
            let mut l = link();
            assert_eq!(drain(&mut l), [LinkAction::Open]);
            l.handle(&Down::Opened { nonce: Nonce([7; 32]), audience: "here".into() }, who, Mono::ZERO);
            let actions = drain(&mut l);
            let [LinkAction::Send(Up::Hello(hello))] = &actions[..] else { panic!("{actions:?}") };
            let proof = Hello::proof(&[7; 32], "here", hello.party, &hello.key, 0, hello.found.as_ref());
            assert!(hello.key.verifies(&proof, &hello.signature));
            assert!(who.party.member_key().verifies(&proof, &hello.member));
        });
    }

    #[test]
    fn failures_are_told_once_and_retried_with_growing_patience() {
        with_identity(|who| {
            let mut l = link();
            drain(&mut l);
            let mut now = Mono::ZERO;
            let mut waits = Vec::new();
            for round in 0..8 {
                l.handle(&Down::Closed { why: "refused".into() }, who, now);
                let said = drain(&mut l).len();
                assert_eq!(said, usize::from(round == 0), "told once");
                let due = l.deadline().unwrap().at;
                waits.push(due.since(now).as_secs_f64());
                now = due;
                l.handle_timeout(now);
                assert_eq!(drain(&mut l), [LinkAction::Open]);
            }
            assert!(waits[0] < 1.3 && waits[3] > 5.0 && waits[7] <= 37.5, "{waits:?}");
        });
    }

    #[test]
    fn it_beats_while_online_and_gives_up_on_a_silent_server() {
        with_identity(|who| {
            let mut l = link();
            drain(&mut l);
            l.handle(&Down::Opened { nonce: Nonce([7; 32]), audience: String::new() }, who, Mono::ZERO);
            drain(&mut l);
            l.handle_timeout(Mono(HELLO_PATIENCE));
            assert!(matches!(&drain(&mut l)[..], [LinkAction::Close, LinkAction::Trouble { .. }]));
            let now = l.deadline().unwrap().at;
            l.handle_timeout(now);
            drain(&mut l);
            l.handle(&Down::Welcome { epoch: 0, rotation: None, peers: vec![] }, who, now);
            assert_eq!(drain(&mut l), [LinkAction::Online]);
            l.handle_timeout(now + Duration::from_secs(30));
            assert_eq!(drain(&mut l), [LinkAction::Send(Up::Beat)]);
        });
    }
}
