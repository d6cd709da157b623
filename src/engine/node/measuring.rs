//! Measuring the way to a peer, and being measured: the machines of `engine::measure` at this node's sessions and sinks.

use super::Node;
use crate::engine::counters::{Count, DropReason};
use crate::engine::effect::Effect;
use crate::engine::measure::{Answerer, Failure, Run, Said};
use crate::engine::sink::WanSink;
use crate::engine::tunnel::session::Session;
use crate::model::id::PeerId;
use crate::model::limits::MTU;
use crate::model::measure::Measured;
use crate::model::status::Trouble;
use crate::model::time::{Deadline, Mono, Now};
use crate::wire::frame::{Frame, FrameKind, HEADER};
use crate::wire::measure::{Note, Refusal, What};

/// Large packets of a measurement; shorter where the way takes only shorter ones in one piece.
const LARGE: u16 = 1_200;

/// Both sides.
#[derive(Debug)]
pub(super) struct Measuring {
    run: Option<Box<Run>>,
    answerer: Answerer,
}

impl Measuring {
    pub(super) fn new(now: Mono) -> Self {
        Self { run: None, answerer: Answerer::new(now) }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.run.as_ref().and_then(|run| run.deadline())
    }
}

impl<S: Session> Node<S> {
    /// Somebody wants to know how good the way to a peer is.
    pub(super) fn measure(
        &mut self,
        (peer, quick, ticket): (PeerId, bool, u64),
        now: Now,
        wan: &mut impl WanSink,
    ) {
        let name = self.name_of(peer);
        let found = self.peers.at(peer).filter(|_| self.party.roster.get(peer).is_some());
        let reached = |at: &usize| {
            self.peers.list.get(*at).is_some_and(|p| p.session.established() && p.agent.primary().is_some())
        };
        let refused = match found {
            None => Trouble::new(
                "no_such_peer",
                format!("{name} is not in the party any more"),
                "`lanrage status` lists the players",
            ),
            Some(_) if self.measuring.run.is_some() || self.measuring.answerer.is_busy(now.mono) => {
                Trouble::new(
                    "bench_busy",
                    "this node is in another measurement",
                    "try again in a quarter of a minute",
                )
            }
            Some(at) if reached(&at) => {
                let large = self.mtu_of(at).min(LARGE);
                let run = Run::new(peer, (ticket, self.dice.u32()), quick, large, now.mono);
                self.measuring.run = Some(Box::new(run));
                return self.run_measuring(now, wan);
            }
            Some(_) => Trouble::new(
                "peer_away",
                format!("no way to {name} works at the moment"),
                "`lanrage doctor` says what stands between you",
            ),
        };
        self.measured(ticket, Err(refused));
    }

    /// Goes on with the measurement that is under way.
    pub(super) fn run_measuring(&mut self, now: Now, wan: &mut impl WanSink) {
        // Out of the node while it is polled; most of the time there is none.
        let Some(mut run) = self.measuring.run.take() else { return };
        let Some(at) = self.peers.at(run.peer()) else {
            let what = "the other player left while the way was measured";
            let gone = Trouble::new("peer_away", what, "try again when it is back");
            return self.measured(run.ticket(), Err(gone));
        };
        run.handle_timeout(now.mono);
        while let Some(packet) = run.poll(now.mono) {
            self.send_note(at, packet.note, packet.len, now, wan);
        }
        match run.outcome() {
            Some(outcome) => {
                let name = self.name_of(run.peer());
                self.measured(run.ticket(), outcome.map_err(|failure| trouble(failure, &name)));
            }
            None => self.measuring.run = Some(run),
        }
    }

    fn measured(&mut self, ticket: u64, outcome: Result<Measured, Trouble>) {
        self.effects.push_back(Effect::Measured { ticket, outcome: Box::new(outcome) });
    }

    /// A packet of a measurement lies in `scratch`. What is to come back goes at once.
    pub(super) fn measure_frame(&mut self, at: usize, len: usize, now: Now, wan: &mut impl WanSink) {
        let Some((_, body)) = self.scratch.get(..len).and_then(Frame::read) else { return };
        let (len, note) = (body.len(), Note::read(body));
        let (Some(note), Some(peer)) = (note, self.peers.list.get(at).map(|p| p.id)) else {
            return self.dropped(DropReason::BadFrame);
        };
        let Measuring { run, answerer } = &mut self.measuring;
        match note.what {
            What::Yes | What::No(_) | What::Back | What::Counted(_) => {
                match run.as_mut().filter(|run| run.peer() == peer) {
                    Some(run) => run.handle(note, now.mono),
                    None => self.dropped(DropReason::MeasureRefused),
                }
            }
            What::Ask(_) | What::Echo | What::Load | What::Bounce | What::Count | What::Done => {
                match answerer.handle(peer, note, len, run.is_some(), now.mono) {
                    Said::Answer(answer) => {
                        self.counters.add(Count::Measured);
                        self.send_note(at, answer, len, now, wan);
                    }
                    Said::Nothing => {}
                    Said::Refused => self.dropped(DropReason::MeasureRefused),
                }
            }
        }
    }

    /// Sends a packet of a measurement, with a body of this length, by the way of a game's packets.
    fn send_note(&mut self, at: usize, note: Note, len: usize, now: Now, wan: &mut impl WanSink) {
        let mut body = [0u8; MTU as usize - HEADER];
        let Some(body) = body.get_mut(..len).filter(|body| body.len() == len) else {
            return self.dropped(DropReason::TooBig);
        };
        if note.write(body) {
            let frame = self.own_frame(FrameKind::Measure, 0);
            self.send_frame(at, None, frame, body, now, wan);
        }
    }
}

/// In words for people.
fn trouble(failure: Failure, name: &str) -> Trouble {
    let again = "try again in a quarter of a minute";
    match failure {
        Failure::Silent => Trouble::new(
            "peer_silent",
            format!("{name} does not answer: it runs an older lanrage, or the way to it is broken"),
            "ask for an update on the other PC; `lanrage doctor` says how good the way is",
        ),
        Failure::Broke => Trouble::new(
            "bench_broke",
            format!("{name} stopped answering in the middle of the measurement"),
            "see `lanrage status`, and try again when it is back",
        ),
        Failure::Refused(Refusal::Busy) => {
            Trouble::new("peer_busy", format!("{name} is in another measurement"), again)
        }
        Failure::Refused(Refusal::Later(seconds)) => Trouble::new(
            "peer_tired",
            format!("{name} was measured a lot lately and takes part again in {seconds} s"),
            format!("try again in {seconds} s"),
        ),
        Failure::Refused(Refusal::Version) => Trouble::new(
            "peer_version",
            format!("{name} measures in another way than this lanrage"),
            "use the same version of lanrage on both PCs",
        ),
        Failure::Refused(Refusal::Other) => {
            Trouble::new("peer_refuses", format!("{name} does not want to be measured now"), again)
        }
    }
}
