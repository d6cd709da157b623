//! One connection to a shared folder: what a server would be told is written into `discovery.json`, what a server would
//! push is found by comparing the file with what was seen before. Plain blocking calls; `super::run` makes tasks of
//! them.
//!
//! A member that finds itself or its party missing (somebody deleted the file, or wrote an old one back) puts back what
//! it knows: everything in there carries the signature of whom it speaks for.

use super::document::{AUDIENCE, Document, NONCE, Shelf};
use super::lock::Locking;
use super::store::{Changed, Folder, FolderError, Look, Notice};
use crate::engine::lobby::Knobs;
use crate::engine::lobby::party::Denied;
use crate::model::id::{PartyId, PeerId};
use crate::model::key::Signature;
use crate::model::record::{Envelope, Rotation};
use crate::model::time::Now;
use crate::wire::control::{Down, Hello, Nonce, Refusal, Up};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Damaged at so many looks in a row: not somebody copying a file in, but a torn file.
const DAMAGED_LOOKS: u32 = 3;

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose {
    /// The party.
    pub(crate) party: PartyId,
    /// This node.
    pub(crate) me: PeerId,
}

/// How often a folder is looked at and written to.
#[derive(Debug, Clone)]
pub struct FolderTuning {
    /// Caps and timeouts of the parties.
    pub lobby: Knobs,
    /// A sign of life is written at most this often, to spare the disk.
    pub stamp_every: Duration,
    /// Between two looks at the file's time and size (network shares report no changes).
    pub look_every: Duration,
    /// The file is read this often even when it looks the same: some file systems count time in steps of two seconds.
    pub read_every: Duration,
    /// A folder that takes longer than this for one step is treated as gone.
    pub patience: Duration,
    /// The kind of lock to try first.
    pub locking: Locking,
}

impl Default for FolderTuning {
    fn default() -> Self {
        Self {
            lobby: Knobs::default(),
            stamp_every: Duration::from_secs(25),
            look_every: Duration::from_millis(300),
            read_every: Duration::from_secs(3),
            patience: Duration::from_secs(20),
            locking: Locking::System,
        }
    }
}

/// What a step brought.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// For the node.
    pub(super) downs: Vec<Down>,
    /// The connection is over, and why.
    pub(super) end: Option<String>,
}

impl Outcome {
    fn say(&mut self, notices: Vec<Notice>) {
        let down = |(code, message): Notice| Down::Notice { code: code.to_owned(), message };
        self.downs.extend(notices.into_iter().map(down));
    }

    fn refuse(&mut self, denied: Denied) {
        if let Some(rotation) = denied.rotation {
            self.downs.push(Down::Rotated { rotation: *rotation });
        }
        self.downs.push(Down::Refused { code: denied.code, message: denied.message.to_owned() });
    }

    fn then(&mut self, later: Self) {
        self.downs.extend(later.downs);
        self.end = later.end.or_else(|| self.end.take());
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    folder: Folder,
    whose: Whose,
    tuning: FolderTuning,
    hello: Option<Hello>,
    envelope: Option<Envelope>,
    view: View,
    /// The party as it was last seen, to be put back when it is lost.
    kept: Option<Shelf>,
    looked: Option<Look>,
    read_at: Instant,
    stamped: Instant,
    damaged: u32,
}

/// What the node was told so far.
#[derive(Debug, Default)]
struct View {
    epoch: u32,
    rotation: Option<Rotation>,
    peers: BTreeMap<PeerId, Seen>,
    mail: u64,
}

/// What is known of another peer's entry.
#[derive(Debug)]
struct Seen {
    /// The hello that was checked, not to be checked again.
    proof: Signature,
    record: Option<(u32, u64)>,
    stamp: u64,
    silent_since: Instant,
}

impl Session {
    /// Opens the folder: checks that it can be written to, and makes the challenge.
    pub(super) fn open(
        dir: &Path,
        whose: Whose,
        tuning: FolderTuning,
    ) -> Result<(Self, Outcome), FolderError> {
        let mut folder = Folder::open(dir, tuning.locking)?;
        let changed = folder.update(|document, now| document.sweep(&tuning.lobby, now))?;
        let mut outcome = Outcome::default();
        outcome.say(changed.notices);
        outcome.downs.push(Down::Opened { nonce: Nonce(NONCE), audience: AUDIENCE.to_owned() });
        let now = Instant::now();
        let session = Self {
            folder,
            whose,
            tuning,
            hello: None,
            envelope: None,
            view: View::default(),
            kept: None,
            looked: None,
            read_at: now,
            stamped: now,
            damaged: 0,
        };
        Ok((session, outcome))
    }

    /// Carries a message.
    pub(super) fn handle(&mut self, up: Up) -> Result<Outcome, FolderError> {
        let party = self.whose.party;
        let me = self.whose.me;
        match up {
            Up::Hello(hello) => self.enter(hello),
            Up::Publish { .. } | Up::Beat | Up::Leave | Up::Rotate { .. } | Up::Signal { .. }
                if self.hello.is_none() =>
            {
                let mut outcome = Outcome::default();
                outcome.refuse(Denied::new(Refusal::BadMessage, "the first message has to be a hello"));
                outcome.end = Some("the connection began without a hello".to_owned());
                Ok(outcome)
            }
            Up::Publish { envelope } => {
                let key = envelope.key;
                if key.id() == me {
                    self.envelope = Some(envelope.clone());
                }
                self.change(move |shelf, now| shelf.party.publish(party, &key, &envelope, now).map(drop))
            }
            Up::Beat if self.stamped.elapsed() < self.tuning.stamp_every => Ok(Outcome::default()),
            // Every change is a sign of life.
            Up::Beat => self.change(|_, _| Ok(())),
            Up::Rotate { rotation } => {
                self.change(move |shelf, now| shelf.party.rotate(party, &rotation, now).map(drop))
            }
            Up::Signal { to, sealed } => self.change(move |shelf, now| shelf.post(me, to, sealed, now)),
            Up::Leave => {
                let knobs = self.tuning.lobby.clone();
                let changed = self.folder.update(|document, now| {
                    if let Some(shelf) = document.party_mut(party) {
                        shelf.party.leave(me);
                    }
                    document.sweep(&knobs, now);
                })?;
                let mut outcome = Outcome { downs: Vec::new(), end: Some("said goodbye".to_owned()) };
                outcome.say(changed.notices);
                Ok(outcome)
            }
        }
    }

    /// Looks whether others changed the file.
    pub(super) fn look(&mut self) -> Result<Outcome, FolderError> {
        if self.hello.is_none() {
            return Ok(Outcome::default());
        }
        let look = self.folder.look()?;
        if look == self.looked && self.read_at.elapsed() < self.tuning.read_every && self.damaged == 0 {
            return Ok(Outcome::default());
        }
        match self.folder.read() {
            Ok(document) => {
                self.damaged = 0;
                self.looked = look;
                self.read_at = Instant::now();
                self.follow(&document)
            }
            Err(FolderError::Damaged(_)) if self.damaged < DAMAGED_LOOKS => {
                self.damaged += 1;
                Ok(Outcome::default())
            }
            Err(FolderError::Damaged(_)) => {
                let changed = self.folder.update(|_, _| ())?;
                self.finish(changed)
            }
            Err(error) => Err(error),
        }
    }

    fn enter(&mut self, hello: Hello) -> Result<Outcome, FolderError> {
        let mut outcome = Outcome::default();
        if hello.party != self.whose.party || hello.key.id() != self.whose.me {
            outcome.refuse(Denied::new(Refusal::BadMessage, "the hello is of another party or peer"));
            outcome.end = Some("the hello was of another party or peer".to_owned());
            return Ok(outcome);
        }
        let knobs = &self.tuning.lobby;
        let Changed { value, document, notices } = self.folder.update(|document, now| {
            document.sweep(knobs, now);
            document.knock(&hello, knobs, now).map(|()| now)
        })?;
        outcome.say(notices);
        match (value, document.party(self.whose.party)) {
            (Ok(now), Some(shelf)) => {
                self.hello = Some(hello);
                self.stamped = Instant::now();
                outcome.downs.push(self.welcome(shelf, now));
            }
            (Ok(_), None) => outcome.end = Some("the party vanished from the folder".to_owned()),
            (Err(denied), _) => {
                outcome.end = Some(format!("not let in: {}", denied.message));
                outcome.refuse(denied);
            }
        }
        Ok(outcome)
    }

    fn welcome(&mut self, shelf: &Shelf, now: Now) -> Down {
        let party = &shelf.party;
        self.kept = Some(shelf.clone());
        self.view = View {
            epoch: party.epoch(),
            rotation: party.rotation().cloned(),
            peers: BTreeMap::new(),
            mail: shelf.mail.iter().map(|m| m.number).max().unwrap_or(0),
        };
        let mut peers: Vec<Envelope> = self.news(shelf);
        for seen in self.view.peers.values_mut() {
            let age = Duration::from_secs(now.unix.as_secs().saturating_sub(seen.stamp));
            seen.silent_since = seen.silent_since.checked_sub(age).unwrap_or(seen.silent_since);
        }
        let own = party.peers().get(&self.whose.me).and_then(|p| p.envelope.clone());
        peers.extend(own.filter(|e| e.epoch == party.epoch()));
        Down::Welcome { epoch: party.epoch(), rotation: party.rotation().cloned(), peers }
    }

    /// Changes the party, and tells what else is new in the file.
    fn change(
        &mut self,
        change: impl FnOnce(&mut Shelf, Now) -> Result<(), Denied>,
    ) -> Result<Outcome, FolderError> {
        let knobs = &self.tuning.lobby;
        let Whose { party, me } = self.whose;
        let Changed { value, document, notices } = self.folder.update(|document, now| {
            document.sweep(knobs, now);
            // Without the party there is nothing to change; `follow` mends that first.
            document.party_mut(party).map_or(Ok(()), |shelf| {
                shelf.party.beat(me, now);
                change(shelf, now)
            })
        })?;
        self.stamped = Instant::now();
        let mut outcome = Outcome::default();
        if let Err(denied) = value {
            outcome.refuse(denied);
        }
        outcome.then(self.finish(Changed { value: (), document, notices })?);
        Ok(outcome)
    }

    fn finish(&mut self, changed: Changed<()>) -> Result<Outcome, FolderError> {
        self.damaged = 0;
        let mut outcome = Outcome::default();
        outcome.say(changed.notices);
        outcome.then(self.follow(&changed.document)?);
        Ok(outcome)
    }

    /// Tells the node what changed since it was last told, and mends what is missing of this node's own.
    fn follow(&mut self, document: &Document) -> Result<Outcome, FolderError> {
        let shelf = document.party(self.whose.party);
        let Some(shelf) = shelf.filter(|shelf| shelf.party.epoch() >= self.view.epoch) else {
            return self.mend();
        };
        self.kept = Some(shelf.clone());
        let mut outcome = Outcome::default();
        let party = &shelf.party;
        if party.epoch() != self.view.epoch || party.rotation() != self.view.rotation.as_ref() {
            self.view.epoch = party.epoch();
            self.view.rotation = party.rotation().cloned();
            let Some(rotation) = self.view.rotation.clone() else {
                outcome.end = Some("the owner made the party anew".to_owned());
                return Ok(outcome);
            };
            let stays = rotation.owner.id() == self.whose.me
                || rotation.grants.iter().any(|g| g.peer == self.whose.me);
            outcome.downs.push(Down::Rotated { rotation });
            if !stays {
                outcome.end = Some("the owner removed this player from the party".to_owned());
                return Ok(outcome);
            }
        }
        outcome.downs.extend(self.news(shelf).into_iter().map(|envelope| Down::Record { envelope }));
        outcome.downs.extend(self.departed(shelf));
        outcome.downs.extend(self.mail(shelf));
        if self.is_missing(shelf) {
            outcome.then(self.mend()?);
        }
        Ok(outcome)
    }

    /// Records that are new or newer, of peers that belong here.
    fn news(&mut self, shelf: &Shelf) -> Vec<Envelope> {
        let mut news = Vec::new();
        for (id, peer) in shelf.party.peers() {
            let Some(proof) = shelf.proof_of(*id).filter(|_| *id != self.whose.me) else {
                continue;
            };
            let known = self.view.peers.get(id);
            if known.is_none_or(|k| k.proof != proof) && !shelf.believes(self.whose.party, *id) {
                continue;
            }
            let seen = self.view.peers.entry(*id).or_insert_with(|| Seen {
                proof,
                record: None,
                stamp: 0,
                silent_since: Instant::now(),
            });
            seen.proof = proof;
            if seen.stamp != peer.seen {
                seen.stamp = peer.seen;
                seen.silent_since = Instant::now();
            }
            let Some(envelope) = peer.envelope.as_ref().filter(|e| e.epoch == shelf.party.epoch()) else {
                continue;
            };
            let version = (envelope.epoch, envelope.seq);
            let newer = seen.record.is_none_or(|known| version > known);
            if newer && envelope.key == peer.key && envelope.check(self.whose.party).is_ok() {
                seen.record = Some(version);
                news.push(envelope.clone());
            }
        }
        news
    }

    /// Peers that are no longer in the file. Nobody writes "left" there: whoever vanishes before its time said goodbye.
    fn departed(&mut self, shelf: &Shelf) -> Vec<Down> {
        let now = shelf.party.peers();
        let gone: Vec<PeerId> = self.view.peers.keys().copied().filter(|id| !now.contains_key(id)).collect();
        let patience = self.tuning.lobby.gone_after.mul_f32(0.9);
        gone.into_iter()
            .filter_map(|peer| {
                let seen = self.view.peers.remove(&peer)?;
                Some(Down::Gone { peer, left: seen.silent_since.elapsed() < patience })
            })
            .collect()
    }

    fn mail(&mut self, shelf: &Shelf) -> Vec<Down> {
        let mut signals = Vec::new();
        let seen = self.view.mail;
        for mail in shelf.mail.iter().filter(|m| m.number > seen) {
            self.view.mail = self.view.mail.max(mail.number);
            if mail.to == self.whose.me {
                signals.push(Down::Signal { from: mail.from, sealed: mail.sealed.clone() });
            }
        }
        signals
    }

    fn is_missing(&self, shelf: &Shelf) -> bool {
        let Some(entry) = shelf.party.peers().get(&self.whose.me) else {
            return true;
        };
        let mine = self.envelope.as_ref().filter(|e| e.epoch == shelf.party.epoch());
        mine.is_some_and(|mine| entry.envelope.as_ref().is_none_or(|there| there.seq < mine.seq))
    }

    /// Writes this node in again.
    fn mend(&mut self) -> Result<Outcome, FolderError> {
        let Some(hello) = self.hello.clone() else {
            return Ok(Outcome::default());
        };
        let knobs = &self.tuning.lobby;
        let party = self.whose.party;
        let me = self.whose.me;
        let envelope = self.envelope.clone();
        let Changed { value, notices, .. } = self.folder.update(|document, now| {
            if let Some(kept) = &self.kept {
                document.put_back(party, kept);
            }
            document.sweep(knobs, now);
            let listed = document.party(party).is_some_and(|shelf| shelf.believes(party, me));
            if !listed {
                document.knock(&hello, knobs, now)?;
            }
            match (document.party_mut(party), envelope) {
                (Some(shelf), Some(envelope)) => {
                    shelf.party.beat(me, now);
                    let current = envelope.epoch == shelf.party.epoch();
                    if current {
                        shelf.party.publish(party, &hello.key, &envelope, now).map(drop)
                    } else {
                        Ok(())
                    }
                }
                (None, _) | (Some(_), None) => Ok(()),
            }
        })?;
        let mut outcome = Outcome::default();
        outcome.say(notices);
        if let Err(denied) = value {
            outcome.end = Some(format!("no longer in the party: {}", denied.message));
            outcome.refuse(denied);
        }
        Ok(outcome)
    }
}
