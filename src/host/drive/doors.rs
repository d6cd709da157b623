//! The channels between the data thread and everyone else. All bounded; the data thread never waits on one.

use crate::engine::effect::{HostFact, Memory};
use crate::host::control::ToCarrier;
use crate::host::scripts::{PluginNews, REPLIES};
use crate::model::command::Command;
use crate::model::id::LinkId;
use crate::model::key::PartySecret;
use crate::model::measure::Measured;
use crate::model::script::ScriptReply;
use crate::model::status::{Event, PluginStatus, Status, Trouble};
use crate::wire::control::Down;
use std::sync::Arc;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Messages that may wait for the data thread, per door.
pub const DEPTH: usize = 256;
/// Events that may wait for people: a party of 64 with a game each, joined at once, and some to spare.
pub const EVENTS: usize = 512;
/// Outcomes of measurements that may wait: as many as local commands are served at once.
const OUTCOMES: usize = 16;

/// The outcome of the measurement with this ticket.
pub type Outcome = (u64, Arc<Result<Measured, Trouble>>);

/// What is to be kept on disk; the newest wins.
#[derive(Debug, Clone, Default)]
pub struct ToKeep {
    /// What the engine remembers.
    pub memory: Option<Arc<Memory>>,
    /// The party's newest epoch and secret.
    pub rekeyed: Option<(u32, PartySecret)>,
}

/// The data thread's ends.
#[derive(Debug)]
pub struct Inside {
    /// To the carriers; `LinkId(n)` is the n-th.
    pub links: Vec<mpsc::Sender<ToCarrier>>,
    /// From the carriers.
    pub control: mpsc::Receiver<(LinkId, Down)>,
    /// From whoever watches cards and profiles.
    pub facts: mpsc::Receiver<HostFact>,
    /// Plugins that were loaded or taken away.
    pub plugins: mpsc::Receiver<PluginNews>,
    /// What plugins answer.
    pub replies: mpsc::Receiver<ScriptReply>,
    /// How plugins are, for the status.
    pub board: watch::Receiver<Vec<PluginStatus>>,
    /// From people.
    pub commands: mpsc::Receiver<Command>,
    /// To people.
    pub events: mpsc::Sender<Event>,
    /// To people who look.
    pub status: watch::Sender<Arc<Status>>,
    /// Somebody wants the status as it is now.
    pub look: Arc<Notify>,
    /// The invite as text.
    pub invite: watch::Sender<String>,
    /// To whoever wanted something measured.
    pub measured: broadcast::Sender<Outcome>,
    /// To the store.
    pub keep: watch::Sender<ToKeep>,
    /// Becomes true when the party can be joined.
    pub ready: watch::Sender<bool>,
    /// The router is to be asked for a port again.
    pub lease: Arc<Notify>,
    /// Stop at once, without goodbyes.
    pub abort: CancellationToken,
}

/// Everyone else's ends.
#[derive(Debug)]
pub struct Outside {
    /// For the carriers.
    pub control: mpsc::Sender<(LinkId, Down)>,
    /// For whoever watches cards and profiles.
    pub facts: mpsc::Sender<HostFact>,
    /// For whoever loads plugins.
    pub plugins: mpsc::Sender<PluginNews>,
    /// For the plugins' threads.
    pub replies: mpsc::Sender<ScriptReply>,
    /// For whoever knows how plugins are.
    pub board: watch::Sender<Vec<PluginStatus>>,
    /// For people.
    pub commands: mpsc::Sender<Command>,
    /// What happens.
    pub events: mpsc::Receiver<Event>,
    /// For warnings from outside the data thread.
    pub event_door: mpsc::Sender<Event>,
    /// How things are.
    pub status: watch::Receiver<Arc<Status>>,
    /// Asks for the status as it is now.
    pub look: Arc<Notify>,
    /// The invite as text.
    pub invite: watch::Receiver<String>,
    /// For whoever wants something measured.
    pub measured: broadcast::Sender<Outcome>,
    /// For the store.
    pub keep: watch::Receiver<ToKeep>,
    /// True when the party can be joined.
    pub ready: watch::Receiver<bool>,
    /// The router is to be asked for a port again.
    pub lease: Arc<Notify>,
    /// Stops the data thread at once.
    pub abort: CancellationToken,
}

/// Makes all channels. The links are filled in when the carriers exist.
#[must_use]
pub fn doors(first: Status, invite: String) -> (Inside, Outside) {
    let (control_in, control) = mpsc::channel(DEPTH);
    let (facts_in, facts) = mpsc::channel(DEPTH);
    let (plugins_in, plugins) = mpsc::channel(DEPTH);
    let (replies_in, replies) = mpsc::channel(REPLIES);
    let (board_in, board) = watch::channel(Vec::new());
    let (commands_in, commands) = mpsc::channel(DEPTH);
    let (events, events_out) = mpsc::channel(EVENTS);
    let (status, status_out) = watch::channel(Arc::new(first));
    let (invite, invite_out) = watch::channel(invite);
    let measured = broadcast::Sender::new(OUTCOMES);
    let (keep, keep_out) = watch::channel(ToKeep::default());
    let (ready, ready_out) = watch::channel(false);
    let [look, lease] = [(); 2].map(|()| Arc::new(Notify::new()));
    let abort = CancellationToken::new();
    let outside = Outside {
        control: control_in,
        facts: facts_in,
        plugins: plugins_in,
        replies: replies_in,
        board: board_in,
        commands: commands_in,
        events: events_out,
        event_door: events.clone(),
        status: status_out,
        look: Arc::clone(&look),
        invite: invite_out,
        measured: measured.clone(),
        keep: keep_out,
        ready: ready_out,
        lease: Arc::clone(&lease),
        abort: abort.clone(),
    };
    let inside = Inside {
        links: Vec::new(),
        control,
        facts,
        plugins,
        replies,
        board,
        commands,
        events,
        status,
        look,
        invite,
        measured,
        keep,
        ready,
        lease,
        abort,
    };
    (inside, outside)
}

/// Events on their way out: bounded, never waiting, and honest about what was lost.
#[derive(Debug)]
pub(super) struct Events {
    door: mpsc::Sender<Event>,
    lost: u64,
}

impl Events {
    pub(super) const fn new(door: mpsc::Sender<Event>) -> Self {
        Self { door, lost: 0 }
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.lost > 0 && self.door.capacity() > 1 {
            let lost = std::mem::take(&mut self.lost);
            let what = format!("{lost} events were lost because nobody read them fast enough");
            let _ = self.door.try_send(Event::Warning(Trouble::new(
                "events_lost",
                what,
                "read the output of `run --json` without pause; `lanrage status` shows how things are",
            )));
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.door.try_send(event) {
            self.lost += 1;
        }
    }

    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(n: usize) -> Event {
        Event::Warning(Trouble::new("test", n.to_string(), ""))
    }

    #[test]
    fn lost_events_are_counted_and_told_when_there_is_room_again() {
        let (door, mut out) = mpsc::channel(4);
        let mut events = Events::new(door);
        (0..10).for_each(|n| events.tell(warning(n)));
        assert_eq!(events.lost(), 6);
        while out.try_recv().is_ok() {}
        events.tell(warning(99));
        let Event::Warning(first) = out.try_recv().unwrap() else { panic!("a warning") };
        assert_eq!((first.code.as_str(), &first.message[..8]), ("events_lost", "6 events"));
        assert_eq!(out.try_recv().unwrap(), warning(99));
        assert_eq!(events.lost(), 0);
    }
}
