//! The data loop: one thread that owns one `Node`, the tunnel's sockets and the LAN side, and keeps the contract of the
//! engine: one input, send what it wrote, take every effect out, next input.
//!
//! A turn serves every source in a fixed order (timeouts, network, LAN, plugins' answers, control planes, facts, commands), each until it
//! is empty or its share of the turn is used up, so that no flood starves another source. When everything is empty
//! the thread sleeps until something happens or the node's deadline comes. There is no queue between capture and wire.
//!
//! It sleeps by itself where it can, and in its runtime where something needs that (`Driver::wait`): a connection to a relay, the
//! sockets of proxy mode, a block of extra sockets.
//!
//! The loop ends with `Effect::Stop`, with `Inside::abort`, or with trouble of the LAN side. A panic ends the thread and
//! is reported as trouble; dropping the LAN side on the way removes the device.

mod alarm;
mod bell;
mod breath;
mod choose;
mod doors;
mod lan;
mod rig;
mod sends;
mod slot;
mod wan;

pub use choose::{Chooser, Chosen, Playable, Wish, nothing_by_proxy};
pub use doors::{DEPTH, EVENTS, Inside, Outcome, Outside, ToKeep, doors};
pub use lan::{Device, LanMaker, LanPortLike, Proxy};

use super::clock::HostClock;
use super::threads;
use super::udp::{Arrival, Bound, Receiver, Sockets};
#[cfg(target_os = "linux")]
use super::watch::Poller;
use crate::buf::batch::Batch;
use crate::engine::effect::{HostFact, Setup};
use crate::model::addr::Card;
use crate::model::dice::Seed;
use crate::model::id::LinkId;
use crate::model::status::Trouble;
use crate::wire::control::Down;
use crate::wire::invite::Invite;
use alarm::Alarm;
use bell::{Bell, Kind};
use rig::Rig;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::task::Context;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::unconstrained;
use tokio_util::sync::CancellationToken;

/// Datagrams in one turn, about, and
const WAN_SHARE: usize = 256;
/// while more than that waits: the rest does not run away, and what is waited for may come by the other side.
const WAN_SHARE_BEHIND: usize = 64;
/// Messages of each slow door in one turn.
const MESSAGES: usize = 32;
/// Answers of plugins in one turn: as many as packets may wait for one.
const ANSWERS: usize = crate::model::limits::QUESTIONS;
/// The longest sleep; also the slowest rhythm in which counters reach whoever does not ask for them. Elsewhere than on Linux
/// the timer stands still while a laptop sleeps and the node's deadlines do not: then this bounds how late they are noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(if cfg!(target_os = "linux") { 15 } else { 1 });
/// How long carriers may take to say goodbye to their control planes after the node has stopped.
const FAREWELL: Duration = Duration::from_secs(2);

/// Everything a driver is made of.
#[derive(Debug)]
pub struct Parts<M> {
    /// What the node is born with.
    pub setup: Setup,
    /// The node's dice.
    pub seed: Seed,
    /// The clock.
    pub clock: HostClock,
    /// The tunnel's sockets.
    pub bound: Bound,
    /// Makes the LAN side.
    pub lan: M,
    /// The physical cards at the start.
    pub cards: Vec<Card>,
    /// The invite, whose secret the node may change.
    pub invite: Invite,
    /// The channels.
    pub doors: Inside,
}

/// Starts the data thread. The receiver hears what stopped it: `None` after a `Leave`.
///
/// # Errors
/// `no_thread`.
pub fn spawn<M>(parts: Parts<M>) -> Result<oneshot::Receiver<Option<Trouble>>, Trouble>
where
    M: LanMaker + Send + 'static,
{
    let (stopped, hear) = oneshot::channel();
    threads::named("data", move || {
        let run = AssertUnwindSafe(|| threads::data_runtime()?.block_on(drive(parts)));
        let trouble = match catch_unwind(run) {
            Ok(outcome) => outcome.err(),
            Err(panic) => Some(Trouble::new(
                "internal",
                format!("the data thread broke: {}", threads::panic_text(&*panic)),
                "this is a mistake in lanrage; please report it with the text above; starting again helps",
            )),
        };
        let _ = stopped.send(trouble);
    })?;
    Ok(hear)
}

/// Runs a node until it stops, then gives the carriers a moment to say goodbye. To be called inside a current-thread
/// runtime.
///
/// # Errors
/// What stopped it, when that was not a `Leave`.
pub async fn drive<M: LanMaker>(parts: Parts<M>) -> Result<(), Trouble> {
    let cards = parts.cards.clone();
    let mut driver = Driver::new(parts)?;
    driver.rig.start(driver.sockets.local_addrs(), cards);
    // The runtime would take its channels to be empty after a number of messages that were read without going back to it.
    unconstrained(driver.run()).await;
    let Driver { rig, .. } = driver;
    let (outcome, mut control, abort) = rig.finish();
    // The LAN side is gone. What is left is the carriers' goodbyes; the last of them closes the channel.
    let closed = async { while control.recv().await.is_some() {} };
    tokio::select! {
        () = closed => {}
        () = abort.cancelled() => {}
        () = tokio::time::sleep(FAREWELL) => {}
    }
    outcome
}

struct Driver<M: LanMaker> {
    sockets: Rc<Sockets>,
    receiver: Receiver,
    batch: Batch,
    rig: Rig<M>,
    bell: Bell,
    /// The node's next deadline.
    alarm: Alarm,
    #[cfg(target_os = "linux")]
    poller: Poller,
}

impl<M: LanMaker> Driver<M> {
    fn new(mut parts: Parts<M>) -> Result<Self, Trouble> {
        // Before anything that is waited for.
        #[cfg(target_os = "linux")]
        let poller = Poller::new().map_err(|e| {
            let what = format!("the system gives nothing to wait for packets with: {e}");
            Trouble::new("no_socket", what, "raise the limit of open files (`ulimit -n`)")
        })?;
        let bound = std::mem::take(&mut parts.bound);
        let sockets = Sockets::open(bound).map_err(|e| {
            let what = format!("the runtime cannot watch the UDP socket: {e}");
            Trouble::new("no_socket", what, "raise the limit of open files (`ulimit -n`)")
        })?;
        let alarm = Alarm::new(parts.clock).map_err(|e| {
            let what = format!("the system gives no timer: {e}");
            Trouble::new("no_timer", what, "raise the limit of open files (`ulimit -n`)")
        })?;
        let bell = Bell::new(parts.doors.abort.clone(), Arc::clone(&parts.doors.look));
        Ok(Self {
            bell,
            alarm,
            #[cfg(target_os = "linux")]
            poller,
            receiver: Receiver::new(sockets.iter()),
            batch: Batch::default(),
            rig: Rig::new(parts, sockets.clone()),
            sockets,
        })
    }

    async fn run(&mut self) {
        while self.rig.runs() {
            if self.turn() {
                self.rig.count_overrun();
                self.look().await;
            } else if self.rig.runs() {
                if self.rig.is_breathing() {
                    std::thread::sleep(breath::PAUSE);
                }
                self.wait().await;
                self.rig.wake();
            }
        }
    }

    /// Serves every source once. True when one of them had more than its share.
    fn turn(&mut self) -> bool {
        let mut more = self.rig.serve_timeout();
        more |= self.serve_wan();
        more |= self.rig.serve_streams();
        more |= self.serve_lan();
        more |= self.serve_doors();
        self.rig.show(false);
        more
    }

    fn serve_wan(&mut self) -> bool {
        let Self { sockets, receiver, rig, .. } = self;
        let more = sockets.read(receiver);
        let share = if receiver.is_behind() { WAN_SHARE_BEHIND } else { WAN_SHARE };
        while let Some((place, datagrams)) = receiver.next_early() {
            rig.take_early(place, datagrams);
        }
        rig.took();
        let mut left = share;
        while left > 0 && rig.runs() {
            match receiver.next_arrival() {
                Some(Arrival::Datagrams(datagrams)) => {
                    left = left.saturating_sub(rig.take_datagrams(datagrams))
                }
                Some(Arrival::Early(place)) => rig.release(place),
                None => break,
            }
        }
        rig.took();
        more || !receiver.is_empty()
    }

    fn serve_lan(&mut self) -> bool {
        let Self { batch, rig, .. } = self;
        batch.clear();
        rig.read_lan(batch) && rig.runs() && batch.is_full()
    }

    fn serve_doors(&mut self) -> bool {
        let Self { bell, rig, .. } = self;
        if !bell.rang() {
            return false;
        }
        // Under a load that never lets the thread sleep, this is where an abort is seen.
        bell.own_doors().into_iter().flatten().for_each(|input| rig.take(input));
        let mut more = false;
        for kind in Kind::ALL {
            more |= rig.take_all(kind.share(), |doors| bell.next(kind, doors));
        }
        if more {
            bell.ring_again();
        }
        more
    }

    /// Learns what has come meanwhile; the next turn finds it.
    async fn look(&mut self) {
        #[cfg(target_os = "linux")]
        if self.is_alone() {
            return self.poller.look();
        }
        // Lets the runtime look at sockets and timers.
        tokio::task::yield_now().await;
    }

    /// Sleeps until something happens.
    async fn wait(&mut self) {
        self.alarm.set(self.rig.due_by(LONGEST_SLEEP));
        #[cfg(target_os = "linux")]
        if self.is_alone() {
            return self.wait_alone();
        }
        let Self { sockets, rig, bell, alarm, .. } = self;
        let (lan, streams) = rig.waitable();
        tokio::select! {
            biased;
            () = sockets.readable() => {}
            () = lan.readable() => {}
            () = streams.ready() => {}
            () = poll_fn(|cx| bell.poll_rung(cx)) => {}
            () = poll_fn(|cx| alarm.poll_rings(cx)) => {}
        }
    }

    /// Whether the thread can wait for everything without its runtime; the sources are told.
    #[cfg(target_os = "linux")]
    fn is_alone(&self) -> bool {
        self.poller.take_over(!self.rig.needs_runtime() && self.sockets.extra_len() == 0)
    }

    #[cfg(target_os = "linux")]
    fn wait_alone(&mut self) {
        let Self { bell, alarm, poller, .. } = self;
        // Whoever rings after this wakes the poller.
        if bell.poll_rung(&Context::from_waker(poller.waker())).is_ready() {
            return poller.look();
        }
        poller.wait();
        alarm.hear();
    }
}

/// What stopped the node, the channel on which carriers were heard, and who may cut the waiting for them short.
type Finished = (Result<(), Trouble>, mpsc::Receiver<(LinkId, Down)>, CancellationToken);

/// The local addresses and the cards, as the node hears them first.
fn first_facts(sockets: Vec<std::net::SocketAddr>, cards: Vec<Card>) -> [HostFact; 2] {
    [HostFact::Sockets(sockets), HostFact::Cards(cards)]
}
