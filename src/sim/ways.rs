//! What paths must be: where two networks permit a direct path, packets take one; where they do not, a relay. Kept apart from
//! how the engine finds them: the verdict is that of `permits`, which knows only what the boxes are.
//!
//! Checked at the end of a story, when everybody had time, and by tests after events of their own. Worlds without routers
//! and servers have nothing to check here.

use super::permits::{By, Permit, permits};
use super::run::{live, status};
use super::world::World;
use crate::model::status::{PathKind, PathStatus};
use std::time::Duration;

/// A relay carries packets this soon after both nodes know each other.
pub const RELAY_IN: Duration = Duration::from_secs(2);
/// A direct path that needs no luck is there this soon after the first path.
pub const DIRECT_IN: Duration = Duration::from_secs(10);
/// One that needs luck.
pub const BIRTHDAY_IN: Duration = Duration::from_secs(30);

impl World {
    /// Whether the networks of two computers permit a direct path now.
    #[must_use]
    pub fn permit(&self, a: usize, b: usize) -> Permit {
        let [a, b] = [a, b].map(|pc| &self.pcs[pc].cards);
        permits(&self.net.side(a), &self.net.side(b), self.net.between(a, b))
    }

    /// The path that a node shows for a peer.
    #[must_use]
    pub fn path_of(&self, a: usize, b: usize) -> Option<PathStatus> {
        self.pcs[a].run.as_ref()?;
        let id = self.pcs[b].id;
        status(self, a).peers.into_iter().find(|p| p.peer == id && p.state == "here")?.path
    }

    /// Whether a node's path to a peer is of the best kind that can be had.
    #[must_use]
    pub fn is_best(&self, a: usize, b: usize) -> bool {
        let kind = self.path_of(a, b).map(|p| p.kind);
        match self.permit(a, b) {
            Permit::Direct(By::Lan) => kind == Some(PathKind::Lan),
            // It needs luck, and its few attempts may have fallen into bad weather.
            Permit::Direct(By::Birthday) if self.chaos.rough => kind.is_some(),
            // A carrier's neighbour may look near.
            Permit::Direct(_) => matches!(kind, Some(PathKind::Direct | PathKind::Lan)),
            Permit::None => kind == Some(PathKind::Relay),
        }
    }

    /// How long a pair may take to its best path, after both have one.
    #[must_use]
    pub fn best_in(&self, a: usize, b: usize) -> Duration {
        match self.permit(a, b) {
            Permit::Direct(By::Birthday) => BIRTHDAY_IN,
            Permit::Direct(_) => DIRECT_IN,
            Permit::None => RELAY_IN,
        }
    }

    /// Writes down what the network is, at the beginning of a story.
    pub fn note_network(&mut self) {
        for (number, line) in self.net.boxes.iter().map(ToString::to_string).enumerate() {
            self.trace.note(self.now, None, "box", line.as_bytes(), || format!("{number}: {line}"));
        }
        for pc in 0..self.pcs.len() {
            let card = self.pcs[pc].default_card();
            let row: Vec<usize> = self.net.row(card.segment).collect();
            let nets = &card.card.nets;
            let text = format!("{nets:?} in network {} behind boxes {row:?}", card.segment);
            self.trace.note(self.now, Some(pc), "home", text.as_bytes(), || text.clone());
        }
        for a in 0..self.pcs.len() {
            for b in 0..a {
                let text = format!("pc{b} and pc{a}: {:?}", self.permit(a, b));
                self.trace.note(self.now, None, "permit", text.as_bytes(), || text.clone());
            }
        }
    }
}

/// Every live pair of a world with NATs must have its best path by now.
pub fn must_be_best(world: &mut World) {
    if world.servers.is_empty() {
        return;
    }
    let (now, live) = (world.now, live(world));
    for &a in &live {
        for &b in live.iter().filter(|b| **b != a) {
            if !world.is_best(a, b) {
                let shown = world.path_of(a, b).map(|p| (p.kind, p.remote, p.why));
                let text =
                    format!("pc{a} to pc{b}: permitted is {:?}, its path is {shown:?}", world.permit(a, b));
                world.oracle.violate(now, text);
            }
        }
    }
}
