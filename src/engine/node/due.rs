//! When the node wants to be woken next, remembered.
//!
//! Asking every machine costs as much as there are peers, and it is asked after each packet, which moves the deadlines of one
//! peer at most. So the answers are kept: one for each peer, the earliest of these, and one for everything else together. Whatever
//! only seals or opens a packet says for which peer (`touch`); everything else that happens makes all of it stale. The simulator
//! compares each answer with asking everybody, so its stories show what forgot to say so.

use super::Node;
use super::timers::peer_deadline;
use crate::engine::tunnel::session::Session;
use crate::model::time::Deadline;

/// What is known of the next deadlines.
#[derive(Debug)]
pub(super) struct Due {
    /// Nothing is known.
    stale: bool,
    /// The peers whose deadline may have moved, a bit for each place in the list.
    touched: u64,
    /// The earliest of the peers'.
    first: Option<Deadline>,
    /// The earliest of all that belong to no peer.
    others: Option<Deadline>,
    /// That one may have moved.
    others_stale: bool,
}

impl Due {
    pub(super) const fn new() -> Self {
        Self { stale: true, touched: 0, first: None, others: None, others_stale: false }
    }

    /// More happened than packets going by.
    pub(super) const fn forget(&mut self) {
        self.stale = true;
    }

    /// A peer's deadline moved. True when the earliest is to be looked for: it was this one, or is another one just as well.
    fn moved(&mut self, old: Option<Deadline>, new: Option<Deadline>) -> bool {
        let at = |due: Option<Deadline>| due.map(|due| due.at);
        let (first, new_at) = (at(self.first), at(new));
        if new_at.is_some() && (first.is_none() || new_at < first) {
            self.first = new;
            return false;
        }
        first.is_some() && (at(old) == first || new_at == first)
    }

    /// A packet went by a relay, to which it is a sign of life.
    pub(super) const fn touch_others(&mut self) {
        self.others_stale = true;
    }

    /// A packet went to or came from this peer.
    pub(super) const fn touch(&mut self, at: usize) {
        if at < u64::BITS as usize {
            self.touched |= 1 << at;
        } else {
            self.stale = true;
        }
    }
}

impl<S: Session> Node<S> {
    /// When to call `handle_timeout`, and why.
    #[must_use]
    pub fn deadline(&mut self) -> Option<Deadline> {
        if self.todo.stopped {
            return None;
        }
        let mut first_stale = self.due.stale;
        if self.due.stale {
            for peer in &mut self.peers.list {
                peer.due = peer_deadline(peer, &self.knobs);
            }
            self.due = Due { stale: false, others_stale: true, ..Due::new() };
        }
        if self.due.others_stale {
            self.due.others = self.other_deadlines();
            self.due.others_stale = false;
        }
        while self.due.touched != 0 {
            let at = self.due.touched.trailing_zeros();
            self.due.touched &= self.due.touched - 1;
            let Some(peer) = self.peers.list.get_mut(at as usize) else { continue };
            let due = peer_deadline(peer, &self.knobs);
            let old = std::mem::replace(&mut peer.due, due);
            if due != old {
                first_stale |= self.due.moved(old, due);
            }
        }
        if first_stale {
            self.due.first = self.peers.list.iter().map(|p| p.due).fold(None, Deadline::earlier);
        }
        Deadline::earlier(self.due.others, self.due.first)
    }

    /// What `deadline` must say, found by asking everybody; for the simulator's oracle.
    #[must_use]
    pub fn deadline_of_all(&self) -> Option<Deadline> {
        if self.todo.stopped {
            return None;
        }
        let peers = self.peers.list.iter().map(|peer| peer_deadline(peer, &self.knobs));
        peers.fold(self.other_deadlines(), Deadline::earlier)
    }
}
