//! The control planes of the simulated world: a server, which is the real lobby, and a shared folder, which is the real
//! party behind a model of its carrier (whoever looks into the folder finds out what others changed since).
//!
//! Either can go away and come back. A server that was restarted has what it stored and nothing else.

use crate::engine::lobby::party::{Denied, Party, Verified};
use crate::engine::lobby::{ConnId, Knobs, Lobby, LobbyEffect};
use crate::model::dice::Seed;
use crate::model::id::{PartyId, PeerId};
use crate::model::key::PeerKey;
use crate::model::record::Envelope;
use crate::model::time::{Mono, Now};
use crate::wire::control::{Down, Hello, Nonce, Refusal, Up};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// A connection: which computer, and the connection's own number.
pub type Caller = (usize, u64);

/// A message for a caller.
pub type Outgoing = (Caller, Down);

/// What the folder's carrier makes up, because a folder asks nothing.
const NONCE: [u8; 32] = [0; 32];
/// A folder is looked at this often.
const LOOK: Duration = Duration::from_millis(1000);

/// One control plane.
#[derive(Debug)]
pub struct Plane {
    /// What the nodes call it.
    pub name: String,
    /// How long a message and the answer to it take, each.
    pub delay: Duration,
    /// Whether it can be reached at all.
    pub up: bool,
    kind: Kind,
    knobs: Knobs,
    seed: Seed,
}

#[expect(clippy::large_enum_variant, reason = "a world has one or two of these")]
#[derive(Debug)]
enum Kind {
    Server(Server),
    Folder(Folder),
}

#[derive(Debug)]
struct Server {
    lobby: Box<Lobby>,
    callers: BTreeMap<ConnId, usize>,
    stored: BTreeMap<PartyId, Party>,
    restarts: u64,
}

#[derive(Debug, Default)]
struct Folder {
    party: Option<(PartyId, Party)>,
    callers: BTreeMap<Caller, View>,
    looks: u32,
}

/// What one caller was told of the folder.
#[derive(Debug, Default)]
struct View {
    who: Option<PeerKey>,
    epoch: u32,
    records: BTreeMap<PeerId, (u32, u64)>,
}

impl Plane {
    /// A server, as far away as this.
    #[must_use]
    pub fn server(name: &str, delay: Duration, knobs: Knobs, seed: Seed) -> Self {
        let lobby = Box::new(Lobby::new(knobs.clone(), seed.fork("lobby 0"), Now::default()));
        let server = Server { lobby, callers: BTreeMap::new(), stored: BTreeMap::new(), restarts: 0 };
        Self { name: name.to_owned(), delay, up: true, kind: Kind::Server(server), knobs, seed }
    }

    /// A shared folder.
    #[must_use]
    pub fn folder(name: &str, delay: Duration, knobs: Knobs, seed: Seed) -> Self {
        Self { name: name.to_owned(), delay, up: true, kind: Kind::Folder(Folder::default()), knobs, seed }
    }

    /// Whether it is a server; a folder has no relays to offer.
    #[must_use]
    pub const fn is_server(&self) -> bool {
        matches!(self.kind, Kind::Server(_))
    }

    /// Somebody connects.
    pub fn connect(&mut self, caller: Caller, now: Now) -> Vec<Outgoing> {
        match &mut self.kind {
            Kind::Server(server) => {
                let address = Ipv4Addr::new(198, 51, 100, u8::try_from(caller.0).expect("few computers"));
                server.callers.insert(ConnId(caller.1), caller.0);
                server.lobby.handle_open(ConnId(caller.1), IpAddr::V4(address), &self.name, now);
                server.drain()
            }
            Kind::Folder(folder) => {
                folder.callers.insert(caller, View::default());
                vec![(caller, Down::Opened { nonce: Nonce(NONCE), audience: self.name.clone() })]
            }
        }
    }

    /// Somebody hung up, or its computer died.
    pub fn hang_up(&mut self, caller: Caller) {
        match &mut self.kind {
            Kind::Server(server) => {
                server.callers.remove(&ConnId(caller.1));
                server.lobby.handle_close(ConnId(caller.1));
            }
            Kind::Folder(folder) => drop(folder.callers.remove(&caller)),
        }
    }

    /// Somebody says something.
    pub fn handle(&mut self, caller: Caller, message: Up, now: Now) -> Vec<Outgoing> {
        match &mut self.kind {
            Kind::Server(server) => {
                server.lobby.handle(ConnId(caller.1), message, now);
                server.drain()
            }
            Kind::Folder(folder) => folder.handle(caller, message, (&self.knobs, &self.name), now),
        }
    }

    /// Looks for what is due; to be called at `deadline`.
    pub fn tick(&mut self, now: Now) -> Vec<Outgoing> {
        match &mut self.kind {
            Kind::Server(server) => {
                server.lobby.handle_timeout(now);
                server.drain()
            }
            Kind::Folder(folder) if self.up => folder.look(&self.knobs, now),
            Kind::Folder(_) => Vec::new(),
        }
    }

    /// When to call `tick`.
    #[must_use]
    pub fn deadline(&self, now: Mono) -> Mono {
        match &self.kind {
            Kind::Server(server) => server.lobby.deadline().map_or(now + LOOK, |d| d.at.max(now)),
            Kind::Folder(_) => now + LOOK,
        }
    }

    /// It goes away, and everybody notices.
    pub fn go_down(&mut self) -> Vec<Outgoing> {
        self.up = false;
        let callers: Vec<Caller> = match &mut self.kind {
            Kind::Server(server) => {
                std::mem::take(&mut server.callers).into_iter().map(|(conn, pc)| (pc, conn.0)).collect()
            }
            Kind::Folder(folder) => std::mem::take(&mut folder.callers).into_keys().collect(),
        };
        callers.into_iter().map(|c| (c, Down::Closed { why: "connection reset".to_owned() })).collect()
    }

    /// It is back: a server with what it stored, a folder as it was.
    pub fn come_back(&mut self, now: Now) {
        if std::mem::replace(&mut self.up, true) {
            return;
        }
        if let Kind::Server(server) = &mut self.kind {
            server.restarts += 1;
            let seed = self.seed.fork(&format!("lobby {}", server.restarts));
            *server.lobby = Lobby::new(self.knobs.clone(), seed, now);
            for (id, party) in server.stored.clone() {
                server.lobby.restore(id, party, now);
            }
        }
    }

    /// All records to all who are signed in, once more: what a careless or spiteful control plane might do.
    #[must_use]
    pub fn repeat(&self) -> Vec<Outgoing> {
        let (callers, records): (Vec<Caller>, Vec<Envelope>) = match &self.kind {
            Kind::Server(server) => {
                let callers = server.callers.iter().map(|(conn, pc)| (*pc, conn.0)).collect();
                (callers, server.stored.values().flat_map(Party::records).collect())
            }
            Kind::Folder(folder) => {
                let callers = folder.callers.keys().copied().collect();
                (callers, folder.party.iter().flat_map(|(_, p)| p.records()).collect())
            }
        };
        let record = |envelope: &Envelope| Down::Record { envelope: envelope.clone() };
        callers.iter().flat_map(|c| records.iter().map(|e| (*c, record(e)))).collect()
    }
}

impl Server {
    fn drain(&mut self) -> Vec<Outgoing> {
        let mut out = Vec::new();
        while let Some(effect) = self.lobby.poll_effect() {
            match effect {
                LobbyEffect::Send { to, down } => {
                    let pcs = to.iter().filter_map(|conn| Some((*self.callers.get(conn)?, conn.0)));
                    out.extend(pcs.map(|caller| (caller, down.clone())));
                }
                LobbyEffect::Close { conn, why } => {
                    if let Some(pc) = self.callers.remove(&conn) {
                        out.push(((pc, conn.0), Down::Closed { why: why.to_owned() }));
                    }
                }
                LobbyEffect::Store(id) => {
                    if let Some(party) = self.lobby.party(id) {
                        self.stored.insert(id, party.clone());
                    }
                }
                LobbyEffect::Forget(id) => drop(self.stored.remove(&id)),
            }
        }
        out
    }
}

impl Folder {
    fn handle(
        &mut self,
        caller: Caller,
        message: Up,
        (knobs, name): (&Knobs, &str),
        now: Now,
    ) -> Vec<Outgoing> {
        let Some(view) = self.callers.get(&caller) else { return Vec::new() };
        let result = match (view.who, message) {
            (_, Up::Hello(hello)) => return self.enter(caller, &hello, (knobs, name), now),
            (None, _) => Err(Denied::new(Refusal::BadMessage, "the first message has to be a hello")),
            (Some(who), message) => self.change(&who, message, now),
        };
        let mut out = result.err().map_or_else(Vec::new, |denied| refusal(caller, denied));
        out.extend(self.follow(caller));
        out
    }

    fn change(&mut self, who: &PeerKey, message: Up, now: Now) -> Result<(), Denied> {
        let Some((id, party)) = &mut self.party else { return Ok(()) };
        match message {
            Up::Publish { envelope } => party.publish(*id, who, &envelope, now).map(drop),
            Up::Rotate { rotation } => party.rotate(*id, &rotation, now).map(drop),
            Up::Leave => {
                party.leave(who.id());
                Ok(())
            }
            Up::Beat => {
                party.beat(who.id(), now);
                Ok(())
            }
            // Nothing signals through a folder yet; a hello never comes here.
            Up::Signal { .. } | Up::Hello(_) => Ok(()),
        }
    }

    fn enter(
        &mut self,
        caller: Caller,
        hello: &Hello,
        (knobs, name): (&Knobs, &str),
        now: Now,
    ) -> Vec<Outgoing> {
        let knock = |party: &mut Option<(PartyId, Party)>| -> Result<(), Denied> {
            let verified = Verified::check(hello, &NONCE, name)?;
            match party {
                Some((id, party)) if *id == hello.party => party.admit(&verified, knobs, now).map(drop),
                _ => {
                    *party = Some((hello.party, Party::found(&verified, now)?));
                    Ok(())
                }
            }
        };
        if let Err(denied) = knock(&mut self.party) {
            self.callers.remove(&caller);
            let closed = Down::Closed { why: format!("not let in: {}", denied.message) };
            return refusal(caller, denied).into_iter().chain([(caller, closed)]).collect();
        }
        let (Some(view), Some((_, party))) = (self.callers.get_mut(&caller), &self.party) else {
            return Vec::new();
        };
        *view = View { who: Some(hello.key), epoch: party.epoch(), records: known(party) };
        let (epoch, rotation, peers) = (party.epoch(), party.rotation().cloned(), party.records());
        vec![(caller, Down::Welcome { epoch, rotation, peers })]
    }

    /// What changed in the folder since this caller was last told.
    fn follow(&mut self, caller: Caller) -> Vec<Outgoing> {
        let Some((_, party)) = &self.party else { return Vec::new() };
        let Some(view) = self.callers.get_mut(&caller) else { return Vec::new() };
        let Some(who) = view.who.map(|key| key.id()) else { return Vec::new() };
        let mut out = Vec::new();
        if party.epoch() != view.epoch {
            view.epoch = party.epoch();
            let stays = party.peers().contains_key(&who);
            match party.rotation() {
                Some(rotation) => out.push(Down::Rotated { rotation: rotation.clone() }),
                None => out.push(Down::Closed { why: "the owner made the party anew".to_owned() }),
            }
            if !stays {
                out.push(Down::Closed { why: "the owner removed this player from the party".to_owned() });
            }
        }
        let records = known(party);
        let news = party.records().into_iter().filter(|e| e.key.id() != who);
        let news = news.filter(|e| view.records.get(&e.key.id()) != Some(&(e.epoch, e.seq)));
        out.extend(news.map(|envelope| Down::Record { envelope }));
        let gone = view.records.keys().filter(|peer| **peer != who && !party.peers().contains_key(peer));
        out.extend(gone.map(|peer| Down::Gone { peer: *peer, left: true }));
        view.records = records;
        if out.iter().any(|down| matches!(down, Down::Closed { .. })) {
            self.callers.remove(&caller);
        }
        out.into_iter().map(|down| (caller, down)).collect()
    }

    fn look(&mut self, knobs: &Knobs, now: Now) -> Vec<Outgoing> {
        self.looks += 1;
        if let (true, Some((_, party))) = (self.looks.is_multiple_of(60), &mut self.party) {
            party.expire(knobs, now);
        }
        let callers: Vec<Caller> = self.callers.keys().copied().collect();
        callers.into_iter().flat_map(|caller| self.follow(caller)).collect()
    }
}

fn known(party: &Party) -> BTreeMap<PeerId, (u32, u64)> {
    party.records().iter().map(|e| (e.key.id(), (e.epoch, e.seq))).collect()
}

fn refusal(caller: Caller, denied: Denied) -> Vec<Outgoing> {
    let rotated = denied.rotation.map(|rotation| (caller, Down::Rotated { rotation: *rotation }));
    let refused = Down::Refused { code: denied.code, message: denied.message.to_owned() };
    rotated.into_iter().chain([(caller, refused)]).collect()
}
