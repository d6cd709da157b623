//! Runs a node: chooses the party, starts the data thread and everything slow around it, and hands out the ends that
//! the command line and a running node's socket use.
//!
//! `party` decides which party is opened and with which network; `tasks` are the slow tasks, `relays` those that resolve named relays; `handle` is what comes out.
//! Everything that can fail for reasons that people can change fails here, before anything was made, with words that
//! say what to try. The device itself is made by the data thread; when that fails, `NodeHandle::stopped` says so.

mod handle;
mod party;
mod relays;
mod tasks;

pub use handle::{NodeHandle, Running};

use crate::app::config::relays::RelayWish;
use crate::app::config::{ModeWish, RunConfig};
use crate::app::plugins::crew::{self, Crew, CrewDoor, Ends};
use crate::engine::direct::DirectSetup;
use crate::engine::effect::{LinkSetup, Setup};
use crate::host::checkup::rights;
use crate::host::clock::{self, HostClock};
use crate::host::control::beacon::Beacon;
use crate::host::control::{self, CarrierSetup, ControlChoice, ToCarrier};
use crate::host::drive::{self, Chooser, Device, Outside, Parts, Playable, Proxy};
use crate::host::lan::proxy::ProxyOptions;
use crate::host::lan::{LanOptions, clean_leftovers};
use crate::host::lease::{self, LeaseSetup};
use crate::host::store::Store;
use crate::host::udp::Bound;
use crate::host::{cards, entropy, threads, udp};
use crate::model::addr::Card;
use crate::model::dice::{Dice, Seed};
use crate::model::id::{LinkId, PartyId, PeerId};
use crate::model::key::{NodeKeys, PartyKeys};
use crate::model::status::{Event, Mode, NatStatus, Status, Trouble};
use crate::rules::profile::Profile;
use crate::rules::ruleset::Ruleset;
use crate::rules::shipped;
use crate::wire::credential::Bearer;
use handle::End;
use party::{Opened, Wish};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tasks::Keeper;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Open files of a node: extra sockets for several peers behind hard NATs, and everything else.
const FILES: u16 = 4096;
/// The last write to a slow disk may take this long before the program ends without it.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// And its beacon's goodbye this long.
const LAST_GOODBYE: Duration = Duration::from_secs(1);

/// Starts a node and everything around it; returns as soon as it runs.
///
/// # Errors
/// Everything about the wishes, the files and the ports that people can change.
pub fn start(config: RunConfig) -> Result<Running, Trouble> {
    threads::allow_files(FILES);
    let slow = threads::slow_runtime()?;
    let runtime = slow.handle().clone();
    let _inside = runtime.enter();
    let seed = entropy::seed()?;
    let mut ground = Ground::prepare(&config, &seed)?;
    let opened = ground.open_party(&config, &seed)?;
    let (controls, direct) = split_direct(parse_controls(&opened.kept.control)?, opened.owned);
    // The host's line is the party's anyway; guests are asked first.
    let direct = DirectSetup { friend_relay: config.friend_relay.unwrap_or(opened.owned), ..direct };
    let bound = ground.bind(&config)?;
    let shine = (config.beacon && direct.on).then(|| bound.port()).flatten();
    let memory = ground.store.memory(opened.kept.id())?;
    ground.warnings.extend(ground.store.take_warnings());

    let invite = opened.invite();
    let setup = Setup {
        secret: ground.secret.clone(),
        name: config.name.clone(),
        party: opened.setup(),
        links: controls.iter().map(|c| LinkSetup { control: c.to_string() }).collect(),
        rules: Arc::clone(&ground.rules),
        memory,
        invite: invite.to_text(),
        open: config.open,
        direct,
        relays: Vec::new(),
        plugins: Arc::default(),
        knobs: config.knobs.clone(),
    };
    let (mut doors, out) = drive::doors(first_status(&setup, ground.me), invite.to_text());
    doors.links = carriers(controls, setup.party.id, ground.me, &out.control);
    let (clock, plugin_seed) = (HostClock::in_step(), seed.fork("plugins"));
    let lan = lan_side(&config, &ground.chosen);
    let crew = ground.crew(&config, (clock, plugin_seed), &out)?;
    let parts = Parts {
        setup,
        seed: seed.fork("node"),
        clock,
        bound,
        lan,
        cards: std::mem::take(&mut ground.cards),
        invite,
        doors,
    };
    ground
        .finish(
            &opened,
            config.relays,
            (config.adapter, config.port_mapping, shine, seed.dice("beacon")),
            (parts, crew),
            out,
        )
        .map(|(handle, events, mut end)| {
            end.slow = Some(slow);
            Running { handle, events, end }
        })
}

/// What is there before the node is.
struct Ground {
    store: Store,
    parties: crate::host::store::Parties,
    secret: crate::model::key::NodeSecret,
    me: PeerId,
    cards: Vec<Card>,
    chosen: Vec<Profile>,
    rules: Arc<Ruleset>,
    warnings: Vec<Trouble>,
}

impl Ground {
    fn prepare(config: &RunConfig, seed: &Seed) -> Result<Self, Trouble> {
        let mut warnings = Vec::new();
        let (chosen, rules) = rules(config)?;
        if config.mode == ModeWish::Proxy {
            let games: Vec<Playable> = chosen.iter().map(playable).collect();
            drive::nothing_by_proxy(&games).map_or(Ok(()), Err)?;
        }
        let mut store = Store::open(&config.data_dir)?;
        let secret = store.node_secret(|| seed.dice("node secret").bytes())?;
        let parties = store.parties()?;
        if may_make_devices(config.mode) {
            let leftovers = clean_leftovers(&config.data_dir);
            warnings.extend(leftovers.into_iter().map(|what| Trouble::new("leftovers", what, "")));
        }
        let cards = cards::list(&config.adapter);
        warnings.extend(unknown_cards(config, &cards));
        let me = NodeKeys::new(&secret).id();
        Ok(Self { store, parties, secret, me, cards, chosen, rules: Arc::new(rules), warnings })
    }

    fn open_party(&mut self, config: &RunConfig, seed: &Seed) -> Result<Opened, Trouble> {
        let wish = Wish {
            me: self.me,
            join: config.join.as_ref(),
            fresh: config.fresh,
            subnet: config.subnet,
            control: config.control.iter().map(control_text).collect(),
            cards: &self.cards,
            unix: clock::unix().as_secs(),
        };
        let mut opened = party::open(&mut self.parties, wish, &mut seed.dice("party"))?;
        self.store.keep_parties(&self.parties)?;
        self.warnings.append(&mut opened.warnings);
        let left_out = opened.invite().left_out().len();
        if left_out > 0 {
            let what = format!("{left_out} control planes do not fit into the invite");
            let hint = "tell the others which --control to use, or use shorter names";
            self.warnings.push(Trouble::new("invite_too_small", what, hint));
        }
        Ok(opened)
    }

    fn bind(&mut self, config: &RunConfig) -> Result<Bound, Trouble> {
        let last = self.store.last_port()?;
        let bound = udp::bind(&config.listen, last)?;
        if let (true, Some(port)) = (config.listen.is_empty(), bound.port().filter(|p| Some(*p) != last)) {
            self.store.keep_port(port)?;
        }
        Ok(bound)
    }

    /// Starts the plugins that the games ask. They answer from the first packet on.
    fn crew(
        &mut self,
        config: &RunConfig,
        (clock, seed): (HostClock, Seed),
        out: &Outside,
    ) -> Result<CrewDoor, Trouble> {
        let ends = Ends {
            news: out.plugins.clone(),
            facts: out.facts.clone(),
            events: out.event_door.clone(),
            replies: out.replies.clone(),
            board: out.board.clone(),
        };
        let chosen = std::mem::take(&mut self.chosen);
        Crew::start(config, (chosen, &self.rules), (clock, seed), ends)?.spawn()
    }

    /// Starts the threads and tasks.
    fn finish(
        self,
        opened: &Opened,
        relays: Vec<RelayWish>,
        (adapter, mapping, shine, dice): (String, bool, Option<u16>, Dice),
        (parts, crew): (Parts<LanSide>, CrewDoor),
        out: Outside,
    ) -> Result<(NodeHandle, mpsc::Receiver<Event>, End), Trouble> {
        for warning in self.warnings {
            let _ = out.event_door.try_send(Event::Warning(warning));
        }
        let Outside {
            control,
            facts,
            commands,
            events,
            event_door,
            status,
            look,
            invite,
            measured,
            keep,
            lease,
            abort,
            ..
        } = out;
        // Only the carriers hold this end now: when it closes, they have said their goodbyes.
        drop(control);
        let local = parts.bound.v4();
        let (seen, cards) = watch::channel(parts.cards.clone());
        let data = drive::spawn(parts)?;
        let beacon = shine.and_then(|port| {
            let setup = opened.setup();
            let keys = PartyKeys::new(setup.id, setup.epoch, &setup.secret);
            let started = Beacon::start(keys, port, &cards.borrow(), dice, facts.clone());
            started.map_err(|trouble| drop(event_door.try_send(Event::Warning(trouble)))).ok()
        });
        let beacon = beacon.map(|b| tokio::spawn(tasks::shine(b, opened.kept.id(), cards, keep.clone())));
        let keeper = Keeper {
            store: self.store,
            parties: self.parties,
            party: opened.kept.id(),
            owned: opened.owned,
            events: event_door.clone(),
        };
        let kept = tokio::spawn(keeper.run(keep));
        let stop = CancellationToken::new();
        let leasing = local.filter(|_| mapping).map(|local| {
            // The same on every evening, so that a port that a crash left behind is still ours (PCP).
            let nonce = Seed(self.secret.0).dice("port mapping").bytes();
            let (again, facts, stop) = (Arc::clone(&lease), facts.clone(), stop.clone());
            lease::spawn(LeaseSetup { local, nonce, again, facts, stop })
        });
        let bearer = Bearer { party: opened.kept.id(), peer: self.me };
        let mut naming = relays::spawn(relays, bearer, &facts, &event_door);
        let watch = tasks::watch_cards(adapter, facts, event_door, (lease, seen));
        let cards = tokio::spawn(watch);
        let (tell, ended) = std_mpsc::channel();
        let hands = crew.clone();
        tokio::spawn(async move {
            let trouble = data.await.unwrap_or_else(|_| Some(lost()));
            hands.stop();
            cards.abort();
            naming.abort_all();
            stop.cancel();
            if let Some(leasing) = leasing {
                let _ = leasing.await;
            }
            let _ = tokio::time::timeout(LAST_WRITE, kept).await;
            if let Some(beacon) = beacon {
                let _ = tokio::time::timeout(LAST_GOODBYE, beacon).await;
            }
            let _ = tell.send(trouble);
        });
        Ok((
            NodeHandle { commands, status, look, invite, measured, crew },
            events,
            End { abort, ended, slow: None },
        ))
    }
}

/// What may become the LAN side.
type LanSide = Chooser<Device, Proxy>;

fn lan_side(config: &RunConfig, chosen: &[Profile]) -> LanSide {
    let device = Device(LanOptions {
        adapter: config.adapter.clone(),
        cards: config.cards.clone(),
        ..LanOptions::new(config.data_dir.clone())
    });
    let wish = match config.mode {
        ModeWish::Auto => drive::Wish::Auto,
        ModeWish::Lan => drive::Wish::Lan,
        ModeWish::Proxy => drive::Wish::Proxy,
    };
    let processes = chosen.iter().flat_map(|profile| profile.processes.iter().cloned()).collect();
    let proxy_protocol = config.proxy_protocol.clone();
    let cards = config.cards.clone();
    let proxy = Proxy(ProxyOptions { cards, processes, proxy_protocol, share_lan: config.share_lan });
    Chooser::new(wish, device, proxy, chosen.iter().map(playable).collect())
}

/// Whether a device of an earlier run could be taken away by this one.
fn may_make_devices(mode: ModeWish) -> bool {
    match mode {
        ModeWish::Lan => true,
        ModeWish::Auto => rights::rights().is_none_or(|rights| rights.admin),
        ModeWish::Proxy => false,
    }
}

/// What the profile says of proxy mode; one that says nothing is tried.
fn playable(profile: &Profile) -> Playable {
    let not_by_proxy = profile.proxy.as_ref().filter(|p| !p.works).map(|p| p.why.clone().unwrap_or_default());
    Playable { name: profile.name.clone(), not_by_proxy }
}

fn lost() -> Trouble {
    Trouble::new("internal", "the data thread ended without a word", "please report it; starting again helps")
}

/// Profiles that cannot be read are told to people by whoever asked for them; here they are simply not there.
fn rules(config: &RunConfig) -> Result<(Vec<Profile>, Ruleset), Trouble> {
    crew::choose(&shipped::Catalog::new(config.profiles.iter().cloned()), &config.games)
}

fn unknown_cards(config: &RunConfig, cards: &[Card]) -> Vec<Trouble> {
    let names: Vec<&str> = cards.iter().map(|c| c.name.as_str()).collect();
    let wished = config.cards.iter().flatten();
    wished
        .filter(|wish| !names.contains(&wish.as_str()))
        .map(|wish| {
            let what = format!("no card called `{wish}` is up; those that are: {}", names.join(", "));
            Trouble::new(
                "no_such_card",
                what,
                "correct --cards; when the card comes up later, it is used then",
            )
        })
        .collect()
}

/// The folder as a whole path: the invite must mean the same wherever it is read on this computer.
fn control_text(choice: &ControlChoice) -> String {
    match choice {
        ControlChoice::Folder(dir) => {
            let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            ControlChoice::Folder(whole).to_string()
        }
        ControlChoice::Server(_) | ControlChoice::Direct(_) => choice.to_string(),
    }
}

fn parse_controls(texts: &[String]) -> Result<Vec<ControlChoice>, Trouble> {
    let parse = |text: &String| {
        text.parse::<ControlChoice>().map_err(|e| {
            Trouble::new("bad_control", e.to_string(), "name another with --control file:DIR or server:URL")
        })
    };
    texts.iter().take(usize::from(u8::MAX)).map(parse).collect()
}

/// What carriers are needed for, and what the engine does by itself. The owner is whom the others ask.
fn split_direct(choices: Vec<ControlChoice>, owned: bool) -> (Vec<ControlChoice>, DirectSetup) {
    let (mut carried, mut direct) = (Vec::new(), DirectSetup::default());
    for choice in choices {
        match choice {
            ControlChoice::Direct(addresses) => {
                direct.on = true;
                direct.addresses.extend(addresses.into_iter().filter(|_| !owned));
            }
            ControlChoice::Folder(_) | ControlChoice::Server(_) => carried.push(choice),
        }
    }
    (carried, direct)
}

fn carriers(
    choices: Vec<ControlChoice>,
    party: PartyId,
    me: PeerId,
    out: &mpsc::Sender<(LinkId, crate::wire::control::Down)>,
) -> Vec<mpsc::Sender<ToCarrier>> {
    let spawn =
        |(n, choice)| control::spawn(CarrierSetup { link: LinkId(n), choice, party, me }, out.clone());
    (0..).zip(choices).map(spawn).collect()
}

/// What is shown until the node has something to show.
fn first_status(setup: &Setup, me: PeerId) -> Status {
    Status {
        party: setup.party.id,
        peer: me,
        name: setup.name.clone(),
        address: setup.party.subnet.network(),
        mode: Mode::Lan,
        nat: NatStatus::default(),
        playing: setup.rules.profiles().to_vec(),
        control: Vec::new(),
        peers: Vec::new(),
        games: Vec::new(),
        relays: Vec::new(),
        warnings: Vec::new(),
        plugins: Vec::new(),
        counters: BTreeMap::new(),
    }
}
