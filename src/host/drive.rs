//! The data loop: one thread that owns one `Node`, the tunnel's sockets and the LAN side, and keeps the contract of the
//! engine: one input, send what it wrote, take every effect out, next input.
//!
//! A turn serves every source in a fixed order (timeouts, network, LAN, plugins' answers, control planes, facts, commands), each until it
//! is empty or its share of the turn is used up, so that no flood starves another source. When everything is empty
//! the thread sleeps until something happens or the node's deadline comes. There is no queue between capture and wire.
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
mod wan;

pub use choose::{Chooser, Chosen, Playable, Wish, nothing_by_proxy};
pub use doors::{DEPTH, EVENTS, Inside, Outcome, Outside, ToKeep, doors};
pub use lan::{Device, LanMaker, LanPortLike, Proxy};

use super::clock::HostClock;
use super::threads;
use super::udp::{Bound, Receiver, Socket, Sockets};
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
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Datagrams of one socket in one turn, about: half a millisecond, for which a packet of the own game may wait.
const WAN_SHARE: usize = 256;
/// Extra sockets read in one turn, each as often as a main one.
const EXTRAS: usize = 32;
/// Reads of the LAN side in one turn: 4 × 64 packets.
const LAN_READS: usize = 4;
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
    while driver.rig.runs() {
        if driver.turn() {
            driver.rig.count_overrun();
            // Lets the runtime look at sockets and timers; the next turn finds what is there.
            tokio::task::yield_now().await;
        } else if driver.rig.runs() {
            if driver.rig.is_breathing() {
                std::thread::sleep(breath::PAUSE);
            }
            driver.wait().await;
            driver.rig.wake();
        }
    }
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
}

impl<M: LanMaker> Driver<M> {
    fn new(mut parts: Parts<M>) -> Result<Self, Trouble> {
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
            receiver: Receiver::new(sockets.iter()),
            batch: Batch::default(),
            rig: Rig::new(parts, sockets.clone()),
            sockets,
        })
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
        let mut read = |socket: &Socket| {
            let mut left = WAN_SHARE;
            loop {
                let again = receiver.read(socket);
                left = left.saturating_sub(rig.take_datagrams(receiver.datagrams()));
                if !again || !rig.runs() || left == 0 {
                    return again;
                }
            }
        };
        let mut more = false;
        for socket in sockets.iter() {
            more |= read(socket);
        }
        for _ in 0..EXTRAS {
            let Some(socket) = sockets.next_ready() else { return more };
            let again = read(&socket);
            sockets.served(&socket, again);
            more |= again;
        }
        more
    }

    fn serve_lan(&mut self) -> bool {
        let Self { batch, rig, .. } = self;
        (0..LAN_READS).all(|_| {
            batch.clear();
            rig.read_lan(batch) && rig.runs()
        })
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

    async fn wait(&mut self) {
        let Self { sockets, rig, bell, alarm, .. } = self;
        alarm.set(rig.due_by(LONGEST_SLEEP));
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
}

/// What stopped the node, the channel on which carriers were heard, and who may cut the waiting for them short.
type Finished = (Result<(), Trouble>, mpsc::Receiver<(LinkId, Down)>, CancellationToken);

/// The local addresses and the cards, as the node hears them first.
fn first_facts(sockets: Vec<std::net::SocketAddr>, cards: Vec<Card>) -> [HostFact; 2] {
    [HostFact::Sockets(sockets), HostFact::Cards(cards)]
}
