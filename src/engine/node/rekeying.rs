//! After a re-keying: peers that may have missed it are told again, in the session that they still have, until they come
//! in the new one. A rotation of a large party takes several datagrams, and none of them is sure to arrive; without a
//! control plane nobody else brings it.

use super::Node;
use crate::engine::path::route::Route;
use crate::engine::sink::WanSink;
use crate::engine::tunnel::session::{LEAST_ROOM, OVERHEAD, Session};
use crate::model::id::PeerId;
use crate::model::limits::{PEERS, SLOT_BYTES};
use crate::model::record::Rotation;
use crate::model::time::{Deadline, Mono, Now};
use crate::wire::control::PeerMessage;
use std::time::Duration;

/// The owner repeats this soon, and then after twice the time …
const FIRST: Duration = Duration::from_millis(300);
/// … the others later, for whom the owner did not reach …
const OTHERS: Duration = Duration::from_secs(2);
/// … and everybody this often: the last time after a minute or two. An old session lives for three.
const TRIES: u32 = 8;

/// Who was told of the newest rotation and has not shown that it knows.
#[derive(Debug)]
pub(super) struct Rekeying<S> {
    rotation: Rotation,
    late: Vec<Late<S>>,
    next: Mono,
    wait: Duration,
    tries: u32,
}

/// One of them, with its session of before.
#[derive(Debug)]
pub(super) struct Late<S> {
    pub(super) id: PeerId,
    pub(super) session: S,
    pub(super) route: Route,
}

impl<S> Rekeying<S> {
    pub(super) fn new(rotation: Rotation, mut late: Vec<Late<S>>, owner: bool, now: Mono) -> Option<Self> {
        late.truncate(PEERS);
        let wait = if owner { FIRST } else { OTHERS };
        (!late.is_empty()).then_some(Self { rotation, late, next: now + wait, wait, tries: 0 })
    }

    pub(super) const fn deadline(&self) -> Deadline {
        Deadline::new(self.next, "rekeying")
    }
}

impl<S: Session> Node<S> {
    /// Tells the late ones again.
    pub(super) fn run_rekeying(&mut self, now: Now, wan: &mut impl WanSink) {
        let Some(mut rekeying) = self.rekeying.take_if(|r| r.next <= now.mono) else { return };
        rekeying.tries += 1;
        rekeying.wait *= 2;
        rekeying.next = now.mono + rekeying.wait;
        let knows = |id: PeerId| self.peers.list.iter().any(|p| p.id == id && p.outbound.up);
        rekeying.late.retain(|late| !knows(late.id));
        let frames = self.frames_of(&PeerMessage::Rotation(rekeying.rotation.clone()));
        for late in &mut rekeying.late {
            for frame in &frames {
                let mut room = [0u8; SLOT_BYTES];
                if frame.len() + OVERHEAD.max(LEAST_ROOM) > SLOT_BYTES {
                    continue;
                }
                if let Some(len) = late.session.seal(frame, &mut room, now) {
                    self.send_raw(late.route, room.get(..len).unwrap_or_default(), now, wan);
                }
            }
        }
        if rekeying.tries < TRIES && !rekeying.late.is_empty() {
            self.rekeying = Some(rekeying);
        }
    }
}
