//! A node with everything it acts on: where its packets go, who performs its effects, what people are shown.

use super::breath::Breath;
use super::doors::{Events, Inside};
use super::lan::{LanMaker, LanPortLike};
use super::sends::Sends;
use super::slot::Slot;
use super::wan::Wan;
use super::{Finished, Parts, first_facts};
use crate::buf::batch::{Batch, Datagrams};
use crate::engine::effect::{Effect, HostFact, LanConfig};
use crate::engine::node::Node;
use crate::host::clock::{HostClock, SleepWatch};
use crate::host::control::ToCarrier;
use crate::host::scripts::{Plugin, PluginNews};
use crate::host::stream::Streams;
use crate::host::udp::Sockets;
use crate::model::addr::Card;
use crate::model::command::Command;
use crate::model::id::{LinkId, PluginId};
use crate::model::key::PartySecret;
use crate::model::limits::SEGMENTS;
use crate::model::script::{ScriptCall, ScriptFault, ScriptReply};
use crate::model::status::{Event, Trouble};
use crate::model::time::{Mono, Now};
use crate::rules::ruleset::Ruleset;
use crate::wire::control::Down;
use crate::wire::invite::Invite;
use crate::wire::packet::proto;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Between two statuses when something changed: 4 a second.
const STATUS_PACE: Duration = Duration::from_millis(250);
/// Between two statuses when nothing but numbers changed. Whoever wants them at once asks.
const COUNTERS_PACE: Duration = Duration::from_secs(5);
/// Whoever woke up after less than this was not asleep.
const NOT_ASLEEP: Duration = Duration::from_secs(1);
/// Inputs that one input may cause on this side (unreachable addresses, full carriers) before the rest is forgotten.
const FOLLOW_UPS: usize = 64;

/// One input that is no packet.
#[derive(Debug)]
pub(super) enum Input {
    Control(LinkId, Down),
    Fact(HostFact),
    Command(Command),
    Reply(ScriptReply),
    Plugin(PluginNews),
    /// Somebody wants to see the status as it is now.
    Look,
    /// Stop without goodbyes.
    Abort,
}

impl From<(LinkId, Down)> for Input {
    fn from((link, message): (LinkId, Down)) -> Self {
        Self::Control(link, message)
    }
}

pub(super) struct Rig<M: LanMaker> {
    node: Node,
    clock: HostClock,
    now: Now,
    /// `now` was read a moment ago, and nothing was done since.
    fresh: bool,
    /// The node's deadline, if nothing happened since it was asked.
    due: Option<Option<Mono>>,
    sends: Sends,
    wan: Wan,
    sleep: SleepWatch,
    lan: Slot<M::Port>,
    maker: M,
    cards: Vec<Card>,
    rules: Arc<Ruleset>,
    plugins: BTreeMap<PluginId, Plugin>,
    doors: Inside,
    events: Events,
    invite: Invite,
    show: Show,
    overruns: u64,
    breath: Breath,
    taken: Taken,
    follow_ups: VecDeque<Input>,
    end: End,
}

/// Datagrams that were handed to the node and not settled yet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    all: usize,
    unflushed: usize,
    /// Some that were opened early were delivered or passed on only now.
    released: bool,
}

#[derive(Debug)]
struct Show {
    changed: bool,
    last: Option<Mono>,
}

#[derive(Debug)]
enum End {
    /// Not yet.
    Runs,
    /// Saying goodbye because of this.
    Failing(Trouble),
    /// Now.
    Stopped(Option<Trouble>),
}

impl<M: LanMaker> Rig<M> {
    pub(super) fn new(parts: Parts<M>, sockets: Rc<Sockets>) -> Self {
        let now = parts.clock.now();
        let rules = parts.setup.rules.clone();
        parts.doors.invite.send_replace(parts.invite.to_text());
        Self {
            node: Node::new(parts.setup, parts.seed, now),
            clock: parts.clock,
            now,
            fresh: false,
            due: None,
            sends: Sends::new(Rc::clone(&sockets)),
            wan: Wan::new(sockets),
            sleep: SleepWatch::new(),
            lan: Slot::new(),
            maker: parts.lan,
            cards: parts.cards,
            rules,
            plugins: BTreeMap::new(),
            events: Events::new(parts.doors.events.clone()),
            doors: parts.doors,
            invite: parts.invite,
            show: Show { changed: true, last: None },
            overruns: 0,
            breath: Breath::new(now.mono),
            taken: Taken::default(),
            follow_ups: VecDeque::new(),
            end: End::Runs,
        }
    }

    /// The first effects, then the first facts.
    pub(super) fn start(&mut self, sockets: Vec<SocketAddr>, cards: Vec<Card>) {
        self.settle();
        first_facts(sockets, cards).into_iter().for_each(|fact| self.take(Input::Fact(fact)));
    }

    pub(super) const fn runs(&self) -> bool {
        matches!(self.end, End::Runs)
    }

    pub(super) const fn count_overrun(&mut self) {
        self.overruns += 1;
    }

    /// Until when the thread may sleep.
    pub(super) fn due_by(&mut self, longest: Duration) -> Mono {
        let pace = if self.show.changed { STATUS_PACE } else { longest };
        let latest = self.now.mono + pace.min(longest);
        self.due().map_or(latest, |at| at.min(latest))
    }

    /// Whether so many packets come that each is not to wake the thread by itself.
    pub(super) fn is_breathing(&mut self) -> bool {
        let pauses = self.breath.is_due(self.now.mono);
        if pauses && let Some(port) = &mut self.lan.port {
            port.expect_many();
        }
        pauses
    }

    /// Whether there is something to wait for that only the runtime knows.
    #[cfg(target_os = "linux")]
    pub(super) fn needs_runtime(&self) -> bool {
        self.lan.needs_runtime() || !self.sends.streams.is_empty()
    }

    /// What the thread waits on.
    pub(super) const fn waitable(&mut self) -> (&mut Slot<M::Port>, &mut Streams) {
        (&mut self.lan, &mut self.sends.streams)
    }

    /// True when the next deadline has come already.
    pub(super) fn serve_timeout(&mut self) -> bool {
        if !self.fresh {
            self.tick();
        }
        let now = self.now;
        if self.due().is_none_or(|at| at > now.mono) {
            return false;
        }
        self.node.handle_timeout(now, &mut self.sends, &mut self.lan);
        self.settle();
        self.due().is_some_and(|at| at <= now.mono) && self.runs()
    }

    /// Asked once after each input.
    fn due(&mut self) -> Option<Mono> {
        let Self { node, due, .. } = self;
        *due.get_or_insert_with(|| node.deadline().map(|d| d.at))
    }

    /// Datagrams from the network, before `took`; how many there were.
    pub(super) fn take_datagrams(&mut self, datagrams: Datagrams<'_>) -> usize {
        if self.taken.all == 0 {
            self.tick();
        }
        let many = datagrams.bytes.len().div_ceil(datagrams.stride.max(1));
        self.taken.all += many;
        self.taken.unflushed += many;
        self.node.handle_wan(datagrams, self.now, &mut self.sends, &mut self.lan);
        if self.taken.unflushed >= SEGMENTS {
            self.lan.flush();
            self.taken.unflushed = 0;
        }
        self.drain();
        many
    }

    /// Datagrams that are opened before what came before them; `release` tells that their turn has come, if they have a place.
    pub(super) fn take_early(&mut self, place: Option<u8>, datagrams: Datagrams<'_>) {
        self.set_aside(place);
        self.take_datagrams(datagrams);
        self.set_aside(None);
    }

    const fn set_aside(&mut self, place: Option<u8>) {
        self.lan.set_aside(place);
        self.node.set_aside(place);
    }

    /// What was opened early at this place may have waited for its turn.
    pub(super) fn release(&mut self, place: u8) {
        if self.taken.all == 0 {
            self.tick();
        }
        let passed = self.node.handle_turn(place, self.now, &mut self.sends);
        self.taken.released |= self.lan.release(place) | passed;
    }

    /// Enough datagrams were taken for now.
    pub(super) fn took(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        // Nothing else may come for long, and the device puts packets of a connection together until it is flushed.
        if taken.all > 0 || taken.released {
            self.settle();
        }
    }

    /// Goes on with the connections to relays and takes what they brought; true when there may be more.
    pub(super) fn serve_streams(&mut self) -> bool {
        if self.sends.streams.is_empty() {
            return false;
        }
        self.sends.streams.turn();
        for _ in 0..FOLLOW_UPS {
            let Some(fact) = self.sends.streams.pop_news() else { break };
            self.take(Input::Fact(fact));
        }
        let mut more = false;
        for at in 0..self.sends.streams.len() {
            let Some(mut taken) = self.sends.streams.take(at) else { continue };
            for message in taken.messages() {
                self.take_datagrams(message);
            }
            self.took();
            self.sends.streams.give_back(taken);
            more = true;
        }
        more
    }

    /// One read of the LAN side; false when there was nothing.
    pub(super) fn read_lan(&mut self, batch: &mut Batch) -> bool {
        let read = self.lan.port.as_mut().map_or(0, |port| port.try_read(batch));
        if read == 0 {
            return false;
        }
        self.breath
            .note(batch.iter_mut().filter(|(_, slot)| proto::of(slot.packet()) == Some(proto::UDP)).count());
        let now = self.tick();
        self.node.handle_lan(batch, now, &mut self.sends, &mut self.lan);
        self.settle();
        true
    }

    /// Takes up to `most` inputs from a door; true when that was not all.
    pub(super) fn take_all(&mut self, most: usize, next: impl Fn(&mut Inside) -> Option<Input>) -> bool {
        for _ in 0..most {
            if !self.runs() {
                return false;
            }
            let Some(input) = next(&mut self.doors) else { return false };
            self.take(input);
        }
        true
    }

    /// After the thread slept: whether the whole computer slept.
    pub(super) fn wake(&mut self) {
        let before = self.now.mono;
        (self.now, self.fresh) = (self.clock.now(), true);
        // Where the clock counts sleep, a computer that slept shows it.
        if cfg!(target_os = "linux") && self.now.mono.since(before) < NOT_ASLEEP {
            return;
        }
        if self.sleep.woke() {
            tracing::info!("this computer slept, or its clock jumped");
            self.take(Input::Fact(HostFact::Woke));
        }
    }

    /// One input, then everything out.
    pub(super) fn take(&mut self, input: Input) {
        self.tick();
        self.give(input);
        self.settle();
    }

    fn tick(&mut self) -> Now {
        if !std::mem::take(&mut self.fresh) {
            self.now = self.clock.now();
        }
        self.now
    }

    fn give(&mut self, input: Input) {
        // News that people may see in the status though no event tells them.
        self.show.changed |= matches!(input, Input::Fact(_) | Input::Plugin(_) | Input::Command(_));
        match input {
            Input::Control(link, message) => self.node.handle_control(link, message, self.now),
            Input::Fact(fact) => {
                self.heed(&fact);
                let rules = matches!(fact, HostFact::Rules(_));
                self.node.handle_fact(fact, self.now);
                if rules {
                    self.name_plugins();
                }
            }
            Input::Reply(reply) => {
                self.node.handle_reply(reply, self.now, &mut self.sends, &mut self.lan);
            }
            Input::Plugin(news) => self.plugin_news(news),
            Input::Command(command) => self.node.handle_command(command, self.now, &mut self.sends),
            Input::Look => self.show(true),
            Input::Abort => self.end = End::Stopped(None),
        }
    }

    fn plugin_news(&mut self, news: PluginNews) {
        match news {
            PluginNews::Loaded(plugin) => {
                let id = plugin.facts.id.clone();
                if self.plugins.remove(&id).is_some() {
                    // The engine is to see that this is another one, which knows nobody yet.
                    self.name_plugins();
                }
                self.plugins.insert(id, plugin);
                self.name_plugins();
            }
            PluginNews::Gone(id) => {
                self.plugins.remove(&id);
                self.name_plugins();
            }
        }
    }

    /// Tells the node which plugins are there.
    fn name_plugins(&mut self) {
        let facts = |id: &PluginId| self.plugins.get(id).filter(|p| p.is_awake()).map(|p| p.facts.clone());
        let facts = self.rules.plugins().iter().map(facts).collect();
        self.node.handle_fact(HostFact::Plugins(facts), self.now);
    }

    /// A question to a plugin's thread. What cannot be asked is answered at once.
    fn ask(&mut self, call: ScriptCall) {
        let (id, ix) = (call.id, call.plugin);
        let plugin = self.rules.plugins().get(usize::from(ix.0)).and_then(|id| self.plugins.get(id));
        let asked = plugin.map_or(Err(ScriptFault::Asleep), |plugin| plugin.ask(call));
        if let Err(fault) = asked {
            self.follow_ups.push_back(Input::Reply(ScriptReply { id, plugin: ix, answer: Err(fault) }));
        }
    }

    /// What facts mean to the LAN side.
    fn heed(&mut self, fact: &HostFact) {
        match fact {
            HostFact::Cards(cards) => {
                self.cards.clone_from(cards);
                if let Some(port) = &mut self.lan.port {
                    port.set_cards(cards);
                }
                self.sends.streams.heed_cards(&self.cards);
                for trouble in self.wan.heed_cards(&self.cards) {
                    self.events.tell(Event::Warning(trouble));
                }
            }
            HostFact::Rules(rules) => {
                self.rules = rules.clone();
                if let Some(port) = &mut self.lan.port {
                    port.set_rules(rules);
                }
            }
            HostFact::Sockets(_)
            | HostFact::Plugins(_)
            | HostFact::Unreachable(_)
            | HostFact::Beacon(_)
            | HostFact::StreamUp(_)
            | HostFact::StreamDown { .. }
            | HostFact::Relays(_)
            | HostFact::Leased(_)
            | HostFact::LeaseReport(_)
            | HostFact::Woke => {}
        }
    }

    /// Sends, performs, and feeds back what that caused, until nothing is left.
    fn settle(&mut self) {
        (self.due, self.fresh) = (None, false);
        for _ in 0..FOLLOW_UPS {
            self.sends.flush();
            self.lan.flush();
            while let Some(to) = self.sends.udp.pop_failed() {
                self.follow_ups.push_back(Input::Fact(HostFact::Unreachable(to)));
            }
            self.drain();
            let Some(input) = self.follow_ups.pop_front() else { return };
            self.give(input);
        }
        self.sends.flush();
        self.drain();
        self.follow_ups.clear();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.node.poll_effect() {
            self.perform(effect);
        }
        // The goodbyes that a failure caused are out now, whether or not the node asked to be stopped.
        if self.follow_ups.is_empty()
            && let End::Failing(trouble) = &self.end
        {
            self.end = End::Stopped(Some(trouble.clone()));
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::OpenLink(link) => self.tell_link(link, ToCarrier::Open),
            Effect::CloseLink(link) => self.tell_link(link, ToCarrier::Close),
            Effect::Control(link, message) => self.tell_link(link, ToCarrier::Send(message)),
            Effect::ConfigureLan(config) => self.configure(&config),
            Effect::Event(event) => self.tell_people(event),
            Effect::Remember(memory) => {
                self.doors.keep.send_modify(|keep| keep.memory = Some(Arc::new(memory)));
            }
            Effect::Rekeyed { epoch, secret } => self.rekeyed(epoch, secret),
            Effect::Invite(addresses) => self.name_addresses(addresses),
            Effect::OpenSockets { first, count, v6 } => {
                if let Some(trouble) = self.wan.open(first, count, v6) {
                    self.events.tell(Event::Warning(trouble));
                }
            }
            Effect::CloseSockets { first, count, keep } => self.wan.close(first, count, keep),
            Effect::OpenStream { stream, way } => self.sends.streams.open(stream, &way),
            Effect::CloseStream(stream) => self.sends.streams.close(stream),
            Effect::RefreshLease => self.doors.lease.notify_one(),
            Effect::SetMtu(mtu) => {
                if let Some(port) = &mut self.lan.port {
                    port.set_mtu(mtu);
                }
            }
            Effect::Measured { ticket, outcome } => {
                // Whoever asked may have gone.
                let _ = self.doors.measured.send((ticket, Arc::from(outcome)));
            }
            Effect::Ask(call) => self.ask(*call),
            Effect::Stop { trouble } => self.stop(trouble),
        }
    }

    fn stop(&mut self, trouble: Option<Trouble>) {
        let trouble = match &self.end {
            End::Runs => trouble,
            End::Failing(first) => Some(first.clone()),
            End::Stopped(_) => return,
        };
        self.end = End::Stopped(trouble);
    }

    /// A carrier that takes nothing any more is the same as a connection that broke.
    fn tell_link(&mut self, link: LinkId, word: ToCarrier) {
        let told = self.doors.links.get(usize::from(link.0)).is_some_and(|door| door.try_send(word).is_ok());
        if !told {
            let why = "the connection's own task does not keep up or has ended".to_owned();
            self.follow_ups.push_back(Input::Control(link, Down::Closed { why }));
        }
    }

    fn configure(&mut self, config: &LanConfig) {
        let done = match &mut self.lan.port {
            Some(port) => port.reconfigure(config),
            None => self.maker.open(config).map(|mut port| {
                port.set_rules(&self.rules);
                port.set_cards(&self.cards);
                self.lan.port = Some(port);
            }),
        };
        for event in self.maker.take_news() {
            self.events.tell(event);
        }
        if let Err(trouble) = done
            && self.runs()
        {
            self.end = End::Failing(trouble);
            self.follow_ups.push_back(Input::Command(Command::Leave));
        }
        self.show.changed = true;
    }

    fn tell_people(&mut self, mut event: Event) {
        // After a re-keying the engine's invite is stale: it knows the secret but not where the control planes are.
        if let Event::Ready { invite, mode, .. } = &mut event {
            *invite = self.invite.to_text();
            *mode = self.lan.mode();
            self.doors.ready.send_replace(true);
        }
        if let Event::GameFound { address, by, local, shared, .. } = &mut event {
            (*local, *shared) = self.lan.keep_game(*address, *by);
        }
        self.events.tell(event);
        self.show.changed = true;
    }

    /// An invite through this node leads to these addresses now.
    fn name_addresses(&mut self, addresses: Vec<SocketAddr>) {
        self.invite.set_direct(addresses);
        self.doors.invite.send_replace(self.invite.to_text());
    }

    fn rekeyed(&mut self, epoch: u32, secret: PartySecret) {
        self.invite.epoch = epoch;
        self.invite.secret = secret.clone();
        self.doors.invite.send_replace(self.invite.to_text());
        self.doors.keep.send_modify(|keep| keep.rekeyed = Some((epoch, secret)));
        self.show.changed = true;
    }

    /// Shows how things are, when it is time.
    pub(super) fn show(&mut self, at_once: bool) {
        let pace = if self.show.changed { STATUS_PACE } else { COUNTERS_PACE };
        if !at_once && self.show.last.is_some_and(|last| self.now.mono.since(last) < pace) {
            return;
        }
        self.show = Show { changed: false, last: Some(self.now.mono) };
        let mut status = self.node.status(self.now);
        let own = [("drop.events", self.events.lost()), ("loop.overruns", self.overruns)];
        let own = self.sends.counters().into_iter().chain(own);
        let numbers =
            own.filter(|(name, n)| *n > 0 || ["wan.", "loop."].iter().any(|own| name.starts_with(own)));
        status.counters.extend(numbers);
        status.mode = self.lan.mode();
        for game in &mut status.games {
            (game.local, game.shared) = self.lan.keep_game(game.address, game.by);
        }
        if let Some(port) = &self.lan.port {
            status.counters.extend(port.counters());
        }
        status.plugins.clone_from(&self.doors.board.borrow());
        self.doors.status.send_replace(Arc::new(status));
    }

    /// Closes the LAN side and lets go of the carriers.
    pub(super) fn finish(mut self) -> Finished {
        self.show(true);
        self.lan.port = None;
        let trouble = match self.end {
            End::Runs => None,
            End::Failing(trouble) => Some(trouble),
            End::Stopped(trouble) => trouble,
        };
        (trouble.map_or(Ok(()), Err), self.doors.control, self.doors.abort)
    }
}
